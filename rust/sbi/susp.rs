// SPDX-License-Identifier: GPL-2.0

//! The system suspend extension: checked here, done by userspace. Answers to
//! `vcpu_sbi_system.c`.

use crate::{
    sbi::{
        hsm, //
        Outcome,
    },
    sbi_abi::message::{
        system::Suspend, //
        SbiError,
    },
    vcpu::{
        mp_state::Start,
        token::Loaded, //
    }, //
};

/// Has userspace suspend the system if that can be done. The hart itself stays as it is until
/// userspace says that it was done (differences-from-c S5).
pub(super) fn handle(vcpu: &Loaded<'_>, suspend: Suspend) -> Outcome {
    match check(vcpu, suspend) {
        Ok(start) => Outcome::Suspend(start),
        Err(error) => Outcome::Done(Err(error)),
    }
}

/// Checks that all other harts are stopped, and that there is memory to resume in.
fn check(vcpu: &Loaded<'_>, suspend: Suspend) -> Result<Start, SbiError> {
    if !hsm::can_start_at(vcpu, suspend.resume) {
        return Err(SbiError::InvalidAddress);
    }
    // A hart that stops may have started another that was seen to be stopped. That is the guest's
    // own doing and harms it alone; userspace looks again if it cares.
    let own = vcpu.vcpu().idx();
    let others_are_stopped = vcpu
        .vcpu()
        .vm()
        .vcpus()
        .filter(|other| other.idx() != own)
        .all(|other| other.shared().mp_state.is_stopped());
    if !others_are_stopped {
        return Err(SbiError::Denied);
    }
    Ok(Start {
        pc: suspend.resume,
        opaque: suspend.opaque,
    })
}
