// SPDX-License-Identifier: GPL-2.0

//! The extensions that replace most of SBI v0.1: IPI and RFENCE; [`timer`](crate::vcpu::timer)
//! serves TIME. Answers to `vcpu_sbi_replace.c`. Nothing here sleeps.

use crate::{
    kvm_core::object::Vcpu,
    mmu::tlb::{
        self,
        GuestFence,
        GvaSpan,
        VcpuMask, //
    },
    sbi::harts::Targets,
    sbi_abi::message::{
        Fence,
        Few,
        Harts,
        SbiError,
        Span, //
    },
    vcpu::{
        irq::Interrupt,
        pmu::FirmwareEvent,
        token::{
            Loaded,
            Pinned, //
        }, //
    }, //
};

/// Sends a software interrupt to `harts`.
///
/// # Errors
///
/// [`SbiError::InvalidParam`] if one of them does not exist; then none gets an interrupt.
pub(super) fn send_ipi(vcpu: &Vcpu, harts: Harts) -> Result<usize, SbiError> {
    let targets = Targets::find(vcpu.vm(), harts)?;
    vcpu.note(FirmwareEvent::IpiSent);
    interrupt(&targets);
    Ok(0)
}

/// Sends a software interrupt where no more than one hart is meant; [`None`] if there may be more:
/// each of a thousand might have to be looked for, and interrupts are off.
#[inline]
pub(super) fn send_ipi_at_once(vcpu: &Vcpu, harts: Harts) -> Option<Result<usize, SbiError>> {
    let Harts::Mask(mask) = harts else {
        return None;
    };
    let target = match mask.few() {
        Few::Nobody => None,
        Few::One(hart) => match vcpu.vm().hart(hart) {
            Some(target) => Some(target),
            None => return Some(Err(SbiError::InvalidParam)),
        },
        Few::Perhaps => return None,
    };
    vcpu.note(FirmwareEvent::IpiSent);
    if let Some(target) = target {
        interrupt_one(target);
    }
    Some(Ok(0))
}

/// Has the caller execute a fence, with interrupts off, if no hart but the caller is meant;
/// [`None`] if more are.
pub(super) fn fence_here(vcpu: &mut Pinned<'_>, harts: Harts, fence: Fence) -> Option<()> {
    match harts {
        Harts::Mask(mask) if mask.is_within(vcpu.vcpu().hart()) => {
            let counts = &vcpu.vcpu().shared().firmware;
            if mask.is_empty() {
                counts.note_all(|| [fence.sent()]);
            } else {
                counts.note_all(|| [fence.sent(), fence.received()]);
                tlb::guest_fence_here(vcpu, fence.into());
            }
            Some(())
        }
        Harts::Mask(_) | Harts::All => None,
    }
}

/// Has `harts` execute a fence before they execute another instruction.
///
/// # Errors
///
/// [`SbiError::InvalidParam`] if one of them does not exist; then none executes the fence.
pub(super) fn fence(vcpu: &mut Loaded<'_>, harts: Harts, fence: Fence) -> Result<usize, SbiError> {
    let targets = Targets::find(vcpu.vcpu().vm(), harts)?;
    vcpu.vcpu().note(fence.sent());
    fence_on(vcpu, &targets, fence);
    Ok(0)
}

/// Sends a software interrupt to `targets`.
pub(super) fn interrupt(targets: &Targets<'_>) {
    targets.for_each(interrupt_one);
}

/// Makes the software interrupt of `target` pending, and counts it there.
fn interrupt_one(target: &Vcpu) {
    target.note(FirmwareEvent::IpiReceived);
    target.inject(Interrupt::Software);
}

/// Has `targets`, which belong to the VM of `vcpu`, execute a fence before they execute another
/// instruction.
pub(super) fn fence_on(vcpu: &mut Loaded<'_>, targets: &Targets<'_>, fence: Fence) {
    let mut to = VcpuMask::none();
    targets.for_each(|vcpu| {
        vcpu.note(fence.received());
        to.add(vcpu);
    });
    tlb::guest_fence(vcpu, to, fence.into());
}

/// The firmware events of a fence. The guest's counters count SFENCE.VMA as such, whatever fence
/// the host executes for it.
impl Fence {
    /// Returns what a hart counts that asks for this.
    pub(super) fn sent(self) -> FirmwareEvent {
        match self {
            Self::Instructions => FirmwareEvent::FenceISent,
            Self::Translations { asid: None, .. } => FirmwareEvent::SfenceVmaSent,
            Self::Translations { asid: Some(_), .. } => FirmwareEvent::SfenceVmaAsidSent,
        }
    }

    /// Returns what a hart counts that is asked for this.
    fn received(self) -> FirmwareEvent {
        match self {
            Self::Instructions => FirmwareEvent::FenceIReceived,
            Self::Translations { asid: None, .. } => FirmwareEvent::SfenceVmaReceived,
            Self::Translations { asid: Some(_), .. } => FirmwareEvent::SfenceVmaAsidReceived,
        }
    }
}

impl From<Fence> for GuestFence {
    fn from(fence: Fence) -> Self {
        match fence {
            Fence::Instructions => Self::Instructions,
            Fence::Translations { asid, span } => Self::Translations {
                asid,
                span: match span {
                    Span::Everything => GvaSpan::Everything,
                    Span::Bytes { start, size } => GvaSpan::Bytes { start, size },
                },
            },
        }
    }
}
