// SPDX-License-Identifier: GPL-2.0

//! The hart state management extension. Answers to `vcpu_sbi_hsm.c`.

use crate::{
    kvm_core::{
        addr::Gpa,
        memslot::Slot,
        srcu::SlotsRead, //
    },
    run::exit,
    sbi_abi::message::{
        Hsm,
        SbiError, //
    },
    vcpu::{
        mp_state,
        token::Loaded, //
    }, //
};

/// Serves `request`. Sleeps if it is to suspend the hart.
pub(super) fn handle(vcpu: &mut Loaded<'_>, request: Hsm) -> Result<usize, SbiError> {
    let vm = vcpu.vcpu.vm();
    match request {
        Hsm::Start { hart, pc, opaque } => {
            let target = vm.hart(hart).ok_or(SbiError::InvalidParam)?;
            if target.shared().power.is_stopped() && !can_start_at(vcpu, pc) {
                return Err(SbiError::InvalidAddress);
            }
            target
                .start_for(vcpu.vcpu, mp_state::Start { pc, opaque })
                .map_err(|_| SbiError::AlreadyAvailable)?;
            Ok(0)
        }
        Hsm::Stop => {
            vcpu.vcpu.stop();
            Ok(0)
        }
        Hsm::Status(hart) => {
            let target = vm.hart(hart).ok_or(SbiError::InvalidParam)?;
            // A hart that waits for an interrupt counts as suspended, whether it asked us to or
            // executed WFI.
            Ok(target.hart_state() as usize)
        }
        Hsm::SuspendRetentive => {
            exit::wait_for_interrupt(vcpu);
            Ok(0)
        }
    }
}

/// Whether a hart can begin at guest physical address `pc`: there is memory. It could do nothing
/// without but fail.
pub(super) fn can_start_at(vcpu: &Loaded<'_>, pc: usize) -> bool {
    let slots = SlotsRead::new(vcpu.vcpu);
    // Memory that is about to go is there: userspace may be replacing it by the same, larger or in
    // parts.
    Slot::find(&slots, Gpa::new(pc as u64).gfn()).is_some()
}
