// SPDX-License-Identifier: GPL-2.0

//! The hart state management extension. Answers to `vcpu_sbi_hsm.c`.

use crate::{
    kvm_core::{
        addr::{
            Gpa,
            HartId, //
        },
        memslot::Slot,
        srcu::SlotsRead, //
    },
    sbi::Outcome,
    sbi_abi::message::{
        Hsm,
        SbiError, //
    },
    vcpu::{
        mp_state::Start,
        token::Loaded, //
    }, //
};

/// Serves a call of the extension.
pub(super) fn handle(vcpu: &mut Loaded<'_>, request: Hsm) -> Outcome {
    Outcome::Done(match request {
        Hsm::Start { hart, pc, opaque } => start(vcpu, hart, Start { pc, opaque }),
        Hsm::Stop => {
            vcpu.vcpu().stop();
            Ok(0)
        }
        Hsm::Status(hart) => match vcpu.vcpu().vm().hart(hart) {
            // A hart that waits for an interrupt counts as suspended, whether it made the call or
            // executed WFI.
            Some(target) => Ok(target.hart_state() as usize),
            None => Err(SbiError::InvalidParam),
        },
        Hsm::SuspendRetentive => return Outcome::WaitForInterrupt,
    })
}

/// Starts `hart` as `start` says.
fn start(vcpu: &Loaded<'_>, hart: HartId, start: Start) -> Result<usize, SbiError> {
    let target = vcpu.vcpu().vm().hart(hart).ok_or(SbiError::InvalidParam)?;
    if target.shared().mp_state.is_stopped() && !can_start_at(vcpu, start.pc) {
        return Err(SbiError::InvalidAddress);
    }
    target
        .start_for(vcpu.vcpu(), start)
        .map_err(|_| SbiError::AlreadyAvailable)?;
    Ok(0)
}

/// Returns whether a hart can begin at guest physical address `pc`: there is memory. It could do
/// nothing without but fail.
pub(super) fn can_start_at(vcpu: &Loaded<'_>, pc: usize) -> bool {
    let slots = SlotsRead::new(vcpu.held());
    // A slot that is being deleted or moved counts as memory: userspace may be replacing it by a
    // larger one, or by parts.
    Slot::find(&slots, Gpa::new(pc as u64).gfn()).is_some()
}
