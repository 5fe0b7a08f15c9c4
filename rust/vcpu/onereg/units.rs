// SPDX-License-Identifier: GPL-2.0

//! Registers of the floating-point and of the vector unit.
//!
//! Answers to the registers of `vcpu_fp.c` and `vcpu_vector.c`.
//!
//! F and D show the same 32 registers and the same fcsr. A register of F is the lower half of the
//! one of D, whose upper half it leaves alone, so that the registers that were read can be written
//! back in any order. (In C the two overlap in memory instead: f1 of F is the upper half of f0 of
//! D.)

use core::mem::offset_of;

use kernel::prelude::*;

use crate::{
    arch::{
        fp::FpRegs,
        vector::VectorRegs, //
    },
    bindings,
    vcpu::{
        onereg::table::View,
        token::OwnedVcpu, //
    }, //
};

/// The number of fcsr; f0 to f31 come before it.
pub(super) const FCSR: u16 = 32;

const _: () = assert!(
    offset_of!(bindings::__riscv_f_ext_state, fcsr) == FCSR as usize * size_of::<u32>()
        && offset_of!(bindings::__riscv_d_ext_state, fcsr) == FCSR as usize * size_of::<u64>()
);

/// The half of an f register that F has.
const LOW: u64 = u32::MAX as u64;

/// Accrued exceptions and rounding mode: all that fcsr has.
const FCSR_FIELDS: u32 = 0xff;

/// Reads f0 to f31 as F has them, or fcsr.
///
/// # Errors
///
/// Never, unlike other accessors: a number that is no f register's is that of fcsr.
pub(super) fn get_f(vcpu: &mut View<'_, '_>, number: usize) -> Result<u32> {
    let fp = &vcpu.context().fp;
    Ok(match fp.f.get(number) {
        Some(f) => (f & LOW) as u32,
        None => fp.fcsr,
    })
}

/// Writes f0 to f31 as F has them, or fcsr.
///
/// # Errors
///
/// Never, unlike other accessors: a number that is no f register's is that of fcsr.
pub(super) fn set_f(vcpu: &mut OwnedVcpu<'_>, number: usize, value: u32) -> Result {
    let FpRegs { f, fcsr } = &mut vcpu.context().fp;
    match f.get_mut(number) {
        Some(f) => *f = *f & !LOW | u64::from(value),
        None => *fcsr = value & FCSR_FIELDS,
    }
    Ok(())
}

/// Reads f0 to f31 as D has them.
///
/// # Errors
///
/// `ENOENT` if there is no such register.
pub(super) fn get_d(vcpu: &mut View<'_, '_>, number: usize) -> Result<u64> {
    vcpu.context().fp.f.get(number).copied().ok_or(ENOENT)
}

/// Writes f0 to f31 as D has them.
///
/// # Errors
///
/// `ENOENT` if there is no such register.
pub(super) fn set_d(vcpu: &mut OwnedVcpu<'_>, number: usize, value: u64) -> Result {
    let f = vcpu.context().fp.f.get_mut(number).ok_or(ENOENT)?;
    *f = value;
    Ok(())
}

/// Reads fcsr.
///
/// # Errors
///
/// Never, unlike other accessors: there is one register.
pub(super) fn get_fcsr(vcpu: &mut View<'_, '_>, _number: usize) -> Result<u32> {
    Ok(vcpu.context().fp.fcsr)
}

/// Writes fcsr.
///
/// # Errors
///
/// Never, unlike other accessors: there is one register.
pub(super) fn set_fcsr(vcpu: &mut OwnedVcpu<'_>, _number: usize, value: u32) -> Result {
    vcpu.context().fp.fcsr = value & FCSR_FIELDS;
    Ok(())
}

members! {
    /// A register of `struct __riscv_v_ext_state`.
    enum VectorCsr of __riscv_v_ext_state {
        Vstart(vstart),
        Vl(vl),
        Vtype(vtype),
        Vcsr(vcsr),
        Vlenb(vlenb),
        // The pointer is no register: the group ends before it.
        Data(datap),
    }
}

/// How many vector registers there are.
pub(super) const VECTORS: u16 = 32;

/// Reads a control register of the vector unit.
///
/// # Errors
///
/// `ENOENT` if there is no such register.
pub(super) fn get_vcsr(vcpu: &mut View<'_, '_>, number: usize) -> Result<u64> {
    let csrs = &vcpu.vector().csrs;
    let value = match VectorCsr::at(number)? {
        VectorCsr::Vstart => csrs.vstart,
        VectorCsr::Vl => csrs.vl,
        VectorCsr::Vtype => csrs.vtype,
        VectorCsr::Vcsr => csrs.vcsr,
        VectorCsr::Vlenb => csrs.vlenb,
        VectorCsr::Data => return Err(ENOENT),
    };
    Ok(value as u64)
}

/// The fields of vcsr: saturation and rounding mode.
const VCSR_FIELDS: usize = 0b111;

/// `vtype.vill`: the configuration is illegal, and the rest of the register is zero.
const VILL: usize = 1 << (usize::BITS - 1);

/// Returns what vtype makes of `value`: LMUL, SEW, and what happens to the tail and to masked-off
/// elements.
fn legal_vtype(value: usize) -> usize {
    const FIELDS: usize = 0xff;

    if value & !FIELDS == 0 {
        value
    } else {
        VILL
    }
}

/// Writes a control register of the vector unit: what it cannot hold of `value` is dropped. The
/// length of the unit's registers cannot change.
///
/// # Errors
///
/// `ENOENT` if there is no such register; `EINVAL` for another length of the registers.
pub(super) fn set_vcsr(vcpu: &mut OwnedVcpu<'_>, number: usize, value: u64) -> Result {
    let csrs = &mut vcpu.vector().csrs;
    let value = value as usize;
    // The most elements that there can be: bytes of eight registers.
    let elements = csrs.vlenb * 8;
    match VectorCsr::at(number)? {
        VectorCsr::Vstart => csrs.vstart = value & elements.wrapping_sub(1),
        VectorCsr::Vl => csrs.vl = value.min(elements),
        VectorCsr::Vtype => csrs.vtype = legal_vtype(value),
        VectorCsr::Vcsr => csrs.vcsr = value & VCSR_FIELDS,
        VectorCsr::Vlenb if value == csrs.vlenb => {}
        VectorCsr::Vlenb => return Err(EINVAL),
        VectorCsr::Data => return Err(ENOENT),
    }
    Ok(())
}

/// Returns the bytes of vector register `number`, if there is one.
pub(super) fn vector(regs: &mut VectorRegs, number: usize) -> Option<&mut [u8]> {
    let data = regs.data_mut();
    let vlenb = data.len() / usize::from(VECTORS);
    let start = number.checked_mul(vlenb)?;
    data.get_mut(start..)?.get_mut(..vlenb)
}
