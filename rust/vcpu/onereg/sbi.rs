// SPDX-License-Identifier: GPL-2.0

//! The state of SBI extensions (`KVM_REG_RISCV_SBI_STATE`), with a subtype for each extension that
//! has state. Answers to the `get_state_reg` and `set_state_reg` functions of `vcpu_sbi_*.c`.
//!
//! The registers are there while their extension is enabled; see `Presence::Sbi` in
//! [`table`](crate::vcpu::onereg::table).

use core::mem::offset_of;

use kernel::prelude::*;

use crate::{
    bindings,
    sbi_abi::{
        fwft,
        sta::Misaligned, //
    },
    vcpu::{
        onereg::table::View,
        token::OwnedVcpu, //
    }, //
};

/// Returns that a group has all of its registers.
pub(super) fn all(_vcpu: &OwnedVcpu<'_>) -> u128 {
    u128::MAX
}

members! {
    /// A register of `struct kvm_riscv_sbi_sta`: the address of the area, all ones without one.
    /// Physical addresses fit in the low word. The high one is always 0 (differences-from-c S4).
    enum Sta of kvm_riscv_sbi_sta {
        ShmemLo(shmem_lo),
        ShmemHi(shmem_hi),
    }
}

impl From<Misaligned> for Error {
    fn from(_: Misaligned) -> Self {
        EINVAL
    }
}

/// Reads where steal time is reported.
///
/// # Errors
///
/// `ENOENT` if there is no such register.
pub(super) fn get_sta(vcpu: &mut View<'_, '_>, number: usize) -> Result<u64> {
    Ok(match Sta::at(number)? {
        Sta::ShmemLo => vcpu.steal_time(),
        Sta::ShmemHi => 0,
    })
}

/// Sets where steal time is reported.
///
/// # Errors
///
/// `ENOENT` if there is no such register; `EINVAL` for an address that is not aligned, or that does
/// not fit in the low word.
pub(super) fn set_sta(vcpu: &mut OwnedVcpu<'_>, number: usize, value: u64) -> Result {
    match Sta::at(number)? {
        Sta::ShmemLo => Ok(vcpu.set_steal_time(value)?),
        Sta::ShmemHi if value == 0 => Ok(()),
        Sta::ShmemHi => Err(EINVAL),
    }
}

/// Returns the numbers of the registers of the firmware features that the vCPU can have.
pub(super) fn fwft_numbers(vcpu: &OwnedVcpu<'_>) -> u128 {
    fwft::State::registers(&vcpu.platform())
}

/// Reads a register of `struct kvm_riscv_sbi_fwft`.
///
/// # Errors
///
/// `ENOENT` if there is no such register, or the vCPU does not have its feature.
pub(super) fn get_fwft(vcpu: &mut View<'_, '_>, number: usize) -> Result<u64> {
    let platform = vcpu.platform();
    Ok(vcpu.sbi.fwft.get_register(&platform, number)?)
}

/// Writes a register of `struct kvm_riscv_sbi_fwft`, at any time.
///
/// # Errors
///
/// `ENOENT` if there is no such register, or the vCPU does not have its feature; `EINVAL` for a
/// value that it cannot have.
pub(super) fn set_fwft(vcpu: &mut OwnedVcpu<'_>, number: usize, value: u64) -> Result {
    let platform = vcpu.platform();
    let features = &mut vcpu.sbi.fwft;
    features.set_register(&platform, number, value)?;
    vcpu.configure();
    Ok(())
}
