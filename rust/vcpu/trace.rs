// SPDX-License-Identifier: GPL-2.0

//! The tracepoints of a vCPU, and the log line of a failed `KVM_RUN`. Answers to `trace.h`.
//!
//! `kernel::declare_trace!` looks for a tracepoint in the bindings of the `kernel` crate, where
//! those of a module are not, so C's inline functions are called.

use kernel::prelude::*;

use crate::{
    arch::switch::{
        SwitchContext,
        Trap, //
    },
    bindings,
    insn::Direction,
    kvm_core::{
        addr::Gpa,
        object::Vcpu, //
    },
    vcpu::irq::{
        Interrupt,
        Line, //
    }, //
};

/// Emits tracepoint `kvm_entry`.
pub(crate) fn trace_entry(pc: usize) {
    // SAFETY: The tracepoint only records its arguments, which are numbers of any value.
    unsafe { bindings::trace_kvm_entry(pc) };
}

/// Emits tracepoint `kvm_exit`. While it is off, not even its arguments are looked at.
#[inline(always)]
pub(crate) fn trace_exit(ctx: &SwitchContext) {
    #[cold]
    #[inline(never)]
    fn trace(trap: &Trap) {
        // SAFETY: The tracepoint only records its arguments, which are numbers of any value.
        unsafe {
            bindings::trace_kvm_exit(trap.sepc, trap.scause, trap.stval, trap.htval, trap.htinst)
        };
    }

    // SAFETY: This only reads the tracepoint's static key.
    if unsafe { bindings::trace_kvm_exit_enabled() } {
        trace(&ctx.trap());
    }
}

/// Emits tracepoint `kvm_vcpu_exit` for a trap that is handled before interrupts are on again.
/// While it is off, not even its arguments are looked at.
#[inline(always)]
pub(crate) fn trace_vcpu_exit_at_once(vcpu: &Vcpu, ctx: &SwitchContext) {
    #[cold]
    #[inline(never)]
    fn trace(vcpu: &Vcpu, ctx: &SwitchContext) {
        trace_vcpu_exit(vcpu, &ctx.trap());
    }

    // SAFETY: This only reads the tracepoint's static key.
    if unsafe { bindings::trace_kvm_vcpu_exit_enabled() } {
        trace(vcpu, ctx);
    }
}

/// Emits tracepoint `kvm_vcpu_exit`.
pub(crate) fn trace_vcpu_exit(vcpu: &Vcpu, trap: &Trap) {
    // SAFETY: The tracepoint only records its arguments, which are numbers of any value.
    unsafe {
        bindings::trace_kvm_vcpu_exit(
            vcpu.hart().get() as usize,
            trap.sepc,
            trap.scause,
            trap.stval,
            trap.htval,
            trap.htinst,
        )
    };
}

/// Emits tracepoint `kvm_mmio_emulate`.
pub(crate) fn trace_mmio(
    vcpu: &Vcpu,
    pc: usize,
    insn: usize,
    gpa: Gpa,
    direction: Direction,
    width: u8,
) {
    // SAFETY: The tracepoint only records its arguments, which are numbers of any value.
    unsafe {
        bindings::trace_kvm_mmio_emulate(
            vcpu.hart().get() as usize,
            pc,
            insn,
            gpa.get() as usize,
            direction == Direction::Store,
            width.into(),
        )
    };
}

/// Says in the log why `KVM_RUN` failed; no more often than the kernel's rate limit allows, since
/// a guest and its VMM can repeat it at will.
pub(crate) fn log_exit_error(vcpu: &Vcpu, trap: &Trap, sstatus: usize, hstatus: usize, err: Error) {
    // SAFETY: The helper only prints its arguments, which are numbers of any value.
    unsafe {
        bindings::kvm_rs_log_exit_error(
            vcpu.hart().get() as usize,
            err.to_errno(),
            trap.sepc,
            trap.scause,
            trap.stval,
            trap.htval,
            trap.htinst,
            sstatus,
            hstatus,
        )
    };
}

/// Emits tracepoint `kvm_vcpu_irq`.
pub(crate) fn trace_irq(vcpu: &Vcpu, interrupt: Interrupt, line: Line) {
    let level = match line {
        Line::High => 1,
        Line::Low => 0,
    };
    // SAFETY: The tracepoint only records its arguments, which are numbers of any value.
    unsafe { bindings::trace_kvm_vcpu_irq(vcpu.hart().get() as usize, interrupt.number(), level) };
}
