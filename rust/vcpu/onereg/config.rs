// SPDX-License-Identifier: GPL-2.0

//! Registers that say what a vCPU is: its configuration, its ISA and SBI extensions. Most are final
//! once it ran.
//!
//! Answers to the config and ISA parts of `vcpu_onereg.c` and to the `SBI_EXT` registers of
//! `vcpu_sbi.c`.

use core::mem::offset_of;

use kernel::prelude::*;

use crate::{
    arch::cpufeature::{
        self,
        MachineIds, //
    },
    bindings,
    isa::{
        self,
        Ext,
        GuestIsa,
        HostIsa,
        IsaError,
        VectorUse, //
    },
    sbi_abi::table,
    vcpu::{
        host::{
            self,
            Host, //
        },
        onereg::table::View,
        token::OwnedVcpu, //
    }, //
};

impl From<IsaError> for Error {
    fn from(error: IsaError) -> Self {
        match error {
            IsaError::NotFound => ENOENT,
            IsaError::Busy => EBUSY,
            IsaError::Invalid => EINVAL,
        }
    }
}

/// Returns the facts of the host, or `ENODEV` before they are known.
fn host() -> Result<&'static Host> {
    host::get().ok_or(ENODEV)
}

members! {
    /// A register of `struct kvm_riscv_config`.
    enum Config of kvm_riscv_config {
        Isa(isa),
        ZicbomBlockSize(zicbom_block_size),
        Mvendorid(mvendorid),
        Marchid(marchid),
        Mimpid(mimpid),
        ZicbozBlockSize(zicboz_block_size),
        SatpMode(satp_mode),
        ZicbopBlockSize(zicbop_block_size),
    }
}

/// Reads a register of the configuration.
///
/// # Errors
///
/// `ENOENT` if there is no such register.
pub(super) fn get(vcpu: &mut View<'_, '_>, number: usize) -> Result<u64> {
    let machine = &vcpu.machine;
    let value = match Config::at(number)? {
        Config::Isa => return Ok(vcpu.isa.get_config()),
        Config::ZicbomBlockSize => block_size(Ext::Zicbom, cpufeature::cbom_block_size)?,
        Config::ZicbozBlockSize => block_size(Ext::Zicboz, cpufeature::cboz_block_size)?,
        Config::ZicbopBlockSize => block_size(Ext::Zicbop, cpufeature::cbop_block_size)?,
        Config::Mvendorid => machine.vendor,
        Config::Marchid => machine.arch,
        Config::Mimpid => machine.imp,
        Config::SatpMode => cpufeature::satp_mode(),
    };
    Ok(value as u64)
}

/// Returns the block size of a host that has the instructions, otherwise 0.
fn block_size(ext: Ext, size: fn() -> usize) -> Result<usize> {
    Ok(if host()?.isa.offered().contains(ext) {
        size()
    } else {
        0
    })
}

/// Writes a register of the configuration.
///
/// What the host's caches and page tables are like cannot be changed, but may be said again; for a
/// block size, 0 means that it does not matter.
///
/// # Errors
///
/// `ENOENT` if there is no such register; `EINVAL` for a value that it cannot have; `EBUSY` if the
/// vCPU has run and the value is another.
pub(super) fn set(vcpu: &mut OwnedVcpu<'_>, number: usize, value: u64) -> Result {
    let word = value as usize;
    match Config::at(number)? {
        Config::Isa => change_isa(vcpu, |isa, host, vector| {
            isa.set_config(host, vector, value)
        }),
        Config::ZicbomBlockSize => one_of(word, &[0, cpufeature::cbom_block_size()]),
        Config::ZicbozBlockSize => one_of(word, &[0, cpufeature::cboz_block_size()]),
        Config::ZicbopBlockSize => one_of(word, &[0, cpufeature::cbop_block_size()]),
        Config::SatpMode => one_of(word, &[cpufeature::satp_mode()]),
        Config::Mvendorid => identify(vcpu, |machine| &mut machine.vendor, word),
        Config::Marchid => identify(vcpu, |machine| &mut machine.arch, word),
        Config::Mimpid => identify(vcpu, |machine| &mut machine.imp, word),
    }
}

/// Accepts `value` if it is one of `allowed`; `EINVAL` otherwise.
fn one_of(value: usize, allowed: &[usize]) -> Result {
    allowed.contains(&value).then_some(()).ok_or(EINVAL)
}

/// Sets an identity register, which the first run makes final.
fn identify(
    vcpu: &mut OwnedVcpu<'_>,
    field: fn(&mut MachineIds) -> &mut usize,
    value: usize,
) -> Result {
    let is_final = vcpu.ran_atleast_once;
    let id = field(&mut vcpu.machine);
    if *id == value {
        return Ok(());
    }
    if is_final {
        return Err(EBUSY);
    }
    *id = value;
    Ok(())
}

/// Changes the ISA with `change`, and derives the registers from it.
fn change_isa(
    vcpu: &mut OwnedVcpu<'_>,
    change: impl FnOnce(&mut GuestIsa, &HostIsa, VectorUse) -> Result<(), IsaError>,
) -> Result {
    change(&mut vcpu.isa, &host()?.isa, host::vector_use())?;
    vcpu.configure();
    // Before the first run: afterwards there is no change, and the registers are the guest's.
    if !vcpu.ran_atleast_once {
        let (inner, context) = vcpu.split();
        context.csrs.confine(inner.isa.effective());
    }
    Ok(())
}

/// Returns the numbers of the ISA extensions that have a register: those that the host offers,
/// whatever the vCPU has of them.
pub(super) fn isa_numbers(_vcpu: &OwnedVcpu<'_>) -> u128 {
    host::get().map_or(0, |host| {
        let offered = host.isa.offered();
        u128::from(offered.word(0)) | u128::from(offered.word(u64::BITS)) << u64::BITS
    })
}

/// Reads whether the vCPU has an ISA extension.
///
/// # Errors
///
/// `ENOENT` for an extension that is unknown or not offered.
pub(super) fn get_isa(vcpu: &mut View<'_, '_>, number: usize) -> Result<u64> {
    Ok(vcpu.isa.get(&host()?.isa, number as u64)?.into())
}

/// Switches an ISA extension on or off.
///
/// # Errors
///
/// `ENOENT` for an extension that is unknown or not offered; `EBUSY` if it would change a vCPU that
/// has run; `EINVAL` for a value other than 0 and 1, or if the policy forbids it.
pub(super) fn set_isa(vcpu: &mut OwnedVcpu<'_>, number: usize, value: u64) -> Result {
    change_isa(vcpu, |isa, host, vector| {
        isa.set(host, vector, number as u64, value)
    })
}

/// Reads which ISA extensions the vCPU has.
///
/// # Errors
///
/// `ENOENT` if there is no such register.
pub(super) fn get_isa_enabled(vcpu: &mut View<'_, '_>, number: usize) -> Result<u64> {
    let multi = isa::Multi::Enable;
    Ok(vcpu.isa.get_multi(multi, number as u64)?)
}

/// Switches ISA extensions on.
///
/// # Errors
///
/// `ENOENT` if there is no such register or extension; `EBUSY` if it would change a vCPU that has
/// run; `EINVAL` if the policy forbids it. Then nothing changes.
pub(super) fn enable_isa(vcpu: &mut OwnedVcpu<'_>, number: usize, mask: u64) -> Result {
    change_isa(vcpu, |isa, host, vector| {
        isa.set_multi(host, vector, isa::Multi::Enable, number as u64, mask)
    })
}

/// Reads which ISA extensions the vCPU does not have.
///
/// # Errors
///
/// `ENOENT` if there is no such register.
pub(super) fn get_isa_disabled(vcpu: &mut View<'_, '_>, number: usize) -> Result<u64> {
    let multi = isa::Multi::Disable;
    Ok(vcpu.isa.get_multi(multi, number as u64)?)
}

/// Switches ISA extensions off.
///
/// # Errors
///
/// `ENOENT` if there is no such register; `EBUSY` if it would change a vCPU that has run; `EINVAL`
/// if the policy forbids it. Then nothing changes.
pub(super) fn disable_isa(vcpu: &mut OwnedVcpu<'_>, number: usize, mask: u64) -> Result {
    change_isa(vcpu, |isa, host, vector| {
        isa.set_multi(host, vector, isa::Multi::Disable, number as u64, mask)
    })
}

/// Changes the choice of SBI extensions with `change`, which the first run makes final: from then
/// on, even a write that changes nothing is refused, as it has always been.
fn change_sbi(
    vcpu: &mut OwnedVcpu<'_>,
    change: impl FnOnce(&mut table::State) -> Result,
) -> Result {
    if vcpu.ran_atleast_once {
        return Err(EBUSY);
    }
    change(&mut vcpu.sbi)?;
    // The bits that an extension has set go with it.
    vcpu.configure();
    Ok(())
}

/// Returns the numbers of the SBI extensions that have a register, whether they are enabled or not.
pub(super) fn sbi_numbers(vcpu: &OwnedVcpu<'_>) -> u128 {
    let sbi = &vcpu.sbi;
    (0..bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_MAX)
        .filter(|&number| sbi.get(number.into()).is_ok())
        .fold(0, |numbers, number| numbers | 1 << number)
}

/// Reads whether the vCPU has an SBI extension.
///
/// # Errors
///
/// `ENOENT` if there is no such extension.
pub(super) fn get_sbi(vcpu: &mut View<'_, '_>, number: usize) -> Result<u64> {
    Ok(vcpu.sbi.get(number as u64)?.into())
}

/// Switches an SBI extension on or off.
///
/// # Errors
///
/// `EBUSY` if the vCPU has run; `EINVAL` for a value other than 0 and 1; `ENOENT` if there is no
/// such extension.
pub(super) fn set_sbi(vcpu: &mut OwnedVcpu<'_>, number: usize, value: u64) -> Result {
    change_sbi(vcpu, |sbi| Ok(sbi.set(number as u64, value)?))
}

/// Reads which SBI extensions the vCPU has.
///
/// # Errors
///
/// `ENOENT` if there is no such register.
pub(super) fn get_sbi_enabled(vcpu: &mut View<'_, '_>, number: usize) -> Result<u64> {
    let multi = table::Multi::Enable;
    Ok(vcpu.sbi.get_multi(multi, number as u64)?)
}

/// Switches SBI extensions on.
///
/// # Errors
///
/// `EBUSY` if the vCPU has run; `ENOENT` if there is no such register or extension. Then nothing
/// changes.
pub(super) fn enable_sbi(vcpu: &mut OwnedVcpu<'_>, number: usize, mask: u64) -> Result {
    change_sbi(vcpu, |sbi| {
        Ok(sbi.set_multi(table::Multi::Enable, number as u64, mask)?)
    })
}

/// Reads which SBI extensions the vCPU does not have.
///
/// # Errors
///
/// `ENOENT` if there is no such register.
pub(super) fn get_sbi_disabled(vcpu: &mut View<'_, '_>, number: usize) -> Result<u64> {
    let multi = table::Multi::Disable;
    Ok(vcpu.sbi.get_multi(multi, number as u64)?)
}

/// Switches SBI extensions off.
///
/// # Errors
///
/// `EBUSY` if the vCPU has run; `ENOENT` if there is no such register.
pub(super) fn disable_sbi(vcpu: &mut OwnedVcpu<'_>, number: usize, mask: u64) -> Result {
    change_sbi(vcpu, |sbi| {
        Ok(sbi.set_multi(table::Multi::Disable, number as u64, mask)?)
    })
}
