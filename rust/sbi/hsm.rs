// SPDX-License-Identifier: GPL-2.0

//! The hart state management extension. Answers to `vcpu_sbi_hsm.c`.

use super::message::{
    Hsm,
    SbiError, //
};
use crate::{
    bindings,
    vcpu::{
        power,
        Loaded, //
    },
};

/// Serves `request`.
pub(super) fn handle(vcpu: &mut Loaded<'_>, request: Hsm) -> Result<usize, SbiError> {
    let vm = vcpu.vcpu.vm();
    match request {
        Hsm::Start { hart, pc, opaque } => {
            let target = vm.hart(hart).ok_or(SbiError::InvalidParam)?;
            target
                .start(power::Start { pc, opaque })
                .map_err(|_| SbiError::AlreadyAvailable)?;
            Ok(0)
        }
        Hsm::Stop => {
            vcpu.vcpu.stop();
            Ok(0)
        }
        Hsm::Status(hart) => {
            let target = vm.hart(hart).ok_or(SbiError::InvalidParam)?;
            Ok(status(target) as usize)
        }
        Hsm::SuspendRetentive => {
            vcpu.wait_for_interrupt();
            Ok(0)
        }
    }
}
