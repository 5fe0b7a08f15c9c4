// SPDX-License-Identifier: GPL-2.0

//! The extensions that replace most of SBI v0.1: TIME, IPI and RFENCE. Answers to
//! `vcpu_sbi_replace.c`. Nothing here sleeps.

use super::{
    harts::Targets,
    message::{
        Fence,
        Harts,
        SbiError,
        Span, //
    },
    Outcome, //
};
use crate::{
    vcpu::{
        irq::Interrupt,
        Loaded, //
    },
    vm::Vm,
};

/// Has the timer fire when the guest's `time` reaches `deadline`; takes back a timer interrupt
/// that is pending.
pub(super) fn set_timer(vcpu: &mut Loaded<'_>, deadline: u64) -> Outcome {
    vcpu.vcpu.shared().timer.set_deadline(vcpu, deadline);
    Outcome::Done(Ok(0))
}

/// Sends a software interrupt to `harts`.
pub(super) fn send_ipi(vm: &Vm, harts: Harts) -> Result<usize, SbiError> {
    interrupt(&Targets::find(vm, harts)?);
    Ok(0)
}

/// Has `harts` execute a fence before they execute another instruction.
pub(super) fn fence(vm: &Vm, harts: Harts, fence: Fence) -> Result<usize, SbiError> {
    fence_on(&Targets::find(vm, harts)?, fence);
    Ok(0)
}

/// Sends a software interrupt to `targets`.
pub(super) fn interrupt(targets: &Targets<'_>) {
    targets.for_each(|vcpu| vcpu.inject(Interrupt::Software));
}

/// Has `targets` execute a fence before they execute another instruction.
pub(super) fn fence_on(targets: &Targets<'_>, fence: Fence) {
    todo!()
}
