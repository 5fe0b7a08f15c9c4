// SPDX-License-Identifier: GPL-2.0

//! A vCPU's registers, one at a time: `KVM_GET_ONE_REG`, `KVM_SET_ONE_REG`, `KVM_GET_REG_LIST`.
//!
//! Answers to `vcpu_onereg.c` and to the register parts of `vcpu_fp.c`, `vcpu_vector.c`,
//! `vcpu_timer.c` and `vcpu_sbi.c`. [`id`] decodes an id, [`table`] lists the registers, and
//! [`config`], [`state`], [`units`] and [`sbi`] access them.
//!
//! The vCPU is not loaded and its mutex is held, and no other lock; user memory is read before a
//! register is written, and written after it is read.
//!
//! # Speculation
//!
//! Ids come from userspace. The table is searched, not indexed; the number of a register in its
//! group is below the group's count even where the search was mispredicted.

use core::mem::offset_of;

use kernel::{
    prelude::*,
    transmute::AsBytes,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

use crate::{
    bindings,
    kernel_ext::uaccess::{
        get_user_pair,
        get_user_u32,
        get_user_u64,
        put_user_u32,
        put_user_u64, //
    },
    sbi_abi::table::RegError,
    vcpu::{
        onereg::{
            id::Parts,
            table::{
                vector_size, //
                Access,
                View,
                SIZE_U32,
                SIZE_U64,
            }, //
        },
        token::OwnedVcpu, //
    }, //
};

/// Makes an enum of the 64-bit members of a struct of the user API: register `n` is the member at
/// `8 * n`. Each member must be named.
macro_rules! members {
    ($(#[$doc:meta])* enum $name:ident of $layout:ident {
        $($variant:ident($($member:tt)+),)+
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        #[repr(usize)]
        enum $name {
            $($variant = offset_of!(bindings::$layout, $($member)+) / size_of::<u64>(),)+
        }

        impl $name {
            /// Returns the member that is register `number`; `ENOENT` if there is none.
            #[inline]
            fn at(number: usize) -> Result<Self> {
                match number {
                    $(_ if number == Self::$variant as usize => Ok(Self::$variant),)+
                    _ => Err(ENOENT),
                }
            }
        }

        // No two variants have one value, so this many are all.
        const _: () = assert!(
            [$($name::$variant),+].len() == size_of::<bindings::$layout>() / size_of::<u64>()
        );
    };
}

mod config;
mod id;
mod sbi;
mod state;
mod table;
mod units;

/// How many ids are copied at once.
const PIECE: usize = 32;

/// Byte offset of the list in its own struct.
const LIST: usize = size_of::<bindings::kvm_reg_list>();

const _: () = assert!(offset_of!(bindings::kvm_reg_list, n) == 0);

// `request` reads the two members as one pair.
const _: () = assert!(
    offset_of!(bindings::kvm_one_reg, id) == 0
        && offset_of!(bindings::kvm_one_reg, addr) == size_of::<u64>()
);

/// Reads a `struct kvm_one_reg`: which register, and where its value is or goes.
///
/// # Errors
///
/// `EFAULT`; `ENOENT` for an id that cannot be one.
#[inline]
fn request(user: UserPtr) -> Result<(Parts, UserPtr)> {
    let [id, addr] = get_user_pair(user)?;
    let parts = Parts::of(id).ok_or(ENOENT)?;
    Ok((parts, UserPtr::from_addr(addr as usize)))
}

/// Checks that an id says the size that the register has.
///
/// # Errors
///
/// `EINVAL` if not.
#[inline]
fn check_size(parts: Parts, size: u8) -> Result {
    if parts.size == size {
        Ok(())
    } else {
        Err(EINVAL)
    }
}

/// Reads a register for userspace (`KVM_GET_ONE_REG`).
///
/// # Errors
///
/// `EFAULT`; `ENOENT` if there is no such register; `EINVAL` if it has another size.
#[inline]
pub(crate) fn get(vcpu: &mut OwnedVcpu<'_>, user: UserPtr) -> Result {
    let (parts, addr) = request(user)?;
    let (group, number) = table::find(vcpu, parts)?;
    match group.access {
        Access::U64(access) => {
            check_size(parts, SIZE_U64)?;
            let value = (access.get)(&mut View::new(vcpu), number)?;
            put_user_u64(addr, value)
        }
        Access::U32(access) => {
            check_size(parts, SIZE_U32)?;
            let value = (access.get)(&mut View::new(vcpu), number)?;
            put_user_u32(addr, value)
        }
        Access::Vector(access) => {
            check_size(parts, vector_size())?;
            let bytes = access(vcpu.vector(), number).ok_or(ENOENT)?;
            UserSlice::new(addr, bytes.len())
                .writer()
                .write_slice(bytes)
        }
    }
}

/// Writes a register for userspace (`KVM_SET_ONE_REG`).
///
/// # Errors
///
/// As [`get`]; `EINVAL` for a value that the register cannot have; `EBUSY` if it is final since the
/// vCPU ran.
#[inline(never)]
pub(crate) fn set(vcpu: &mut OwnedVcpu<'_>, user: UserPtr) -> Result {
    let (parts, addr) = request(user)?;
    let (group, number) = table::find(vcpu, parts)?;
    // Mark the state as changed here for all registers, so that no setter can forget it: the CPU
    // where this vCPU ran last must not take the registers that it still holds for current
    // (differences-from-c M2).
    vcpu.context().changed();
    match group.access {
        Access::U64(access) => {
            check_size(parts, SIZE_U64)?;
            (access.set)(vcpu, number, get_user_u64(addr)?)
        }
        Access::U32(access) => {
            check_size(parts, SIZE_U32)?;
            (access.set)(vcpu, number, get_user_u32(addr)?)
        }
        Access::Vector(access) => {
            check_size(parts, vector_size())?;
            let bytes = access(vcpu.vector(), number).ok_or(ENOENT)?;
            UserSlice::new(addr, bytes.len()).reader().read_slice(bytes)
        }
    }
}

/// Tells userspace how many registers there are, and which, if it has room for them
/// (`KVM_GET_REG_LIST`).
///
/// # Errors
///
/// `EFAULT`; `E2BIG` if there is not enough room.
#[inline(never)]
pub(crate) fn list(vcpu: &mut OwnedVcpu<'_>, user: UserPtr) -> Result {
    let room = get_user_u64(user)?;
    let count = table::count(vcpu);
    put_user_u64(user, count)?;
    if room < count {
        return Err(E2BIG);
    }
    // Copy in pieces, because to copy each word by itself costs several times as much.
    let mut piece = [0; PIECE];
    let mut filled = 0;
    let length = count as usize * size_of::<u64>();
    let mut written = UserSlice::new(user.wrapping_byte_add(LIST), length).writer();
    table::for_each_id(vcpu, |id| {
        if let Some(place) = piece.get_mut(filled) {
            *place = id;
            filled += 1;
        }
        if filled == PIECE {
            filled = 0;
            written.write(&piece)?;
        }
        Ok(())
    })?;
    piece
        .get(..filled)
        .map_or(Ok(()), |rest| written.write_slice(AsBytes::as_bytes(rest)))
}

impl From<RegError> for Error {
    fn from(error: RegError) -> Self {
        match error {
            RegError::NotFound => ENOENT,
            RegError::Invalid => EINVAL,
        }
    }
}
