// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! The id of a register, as the user API composes it.
//!
//! Answers to the `KVM_REG_*` masks of `linux/kvm.h` and `asm/kvm.h`, and to the masking of ids in
//! `vcpu_onereg.c`, which leaves the architecture unchecked (differences-from-c M26).

use kernel::bitfield;

use crate::bindings;

bitfield! {
    /// The id of a register.
    pub(crate) struct RegId(u64) {
        /// The architecture.
        63:56 arch;
        /// Binary logarithm of the size in bytes.
        55:52 size;
        /// Reserved on RISC-V.
        51:32 reserved;
        /// Type and subtype. Types without subtypes have all registers under subtype 0.
        31:16 class;
        /// The number of the register in its class.
        15:0 index;
    }
}

const ARCH: u64 = bindings::KVM_REG_RISCV as u64;

/// The size field counts what `KVM_REG_SIZE_*` count.
const _: () = assert!(RegId::SIZE_SHIFT == bindings::KVM_REG_SIZE_SHIFT);
const _: () = assert!(RegId::ARCH_MASK == bindings::KVM_REG_ARCH_MASK as u64);

/// A type (`KVM_REG_RISCV_CSR`, ...) and a subtype (`KVM_REG_RISCV_CSR_GENERAL`, ...; 0 for types
/// without), where an id has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class(u16);

impl Class {
    /// Returns the class of this type and subtype.
    pub(crate) const fn new(kind: u32, subtype: u32) -> Self {
        Self(((kind | subtype) >> RegId::CLASS_SHIFT) as u16)
    }

    /// Returns the number of the type.
    #[inline]
    pub(crate) const fn kind(self) -> u8 {
        (self.0 >> (bindings::KVM_REG_RISCV_TYPE_SHIFT - RegId::CLASS_SHIFT)) as u8
    }

    /// Returns whether it is of this type, whatever the subtype.
    pub(crate) const fn is_of(self, kind: u32) -> bool {
        (self.0 as u32) << RegId::CLASS_SHIFT & bindings::KVM_REG_RISCV_TYPE_MASK == kind
    }
}

/// The parts of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    /// Type and subtype.
    pub(crate) class: Class,
    /// Number in the class.
    pub(crate) index: u16,
    /// Binary logarithm of the size in bytes.
    pub(crate) size: u8,
}

impl Parts {
    /// Decodes an id; returns [`None`] for another architecture, or if a reserved bit is set.
    #[inline]
    pub(crate) fn of(id: u64) -> Option<Self> {
        const FIXED: u64 = RegId::ARCH_MASK | RegId::RESERVED_MASK;

        if id & FIXED != ARCH {
            return None;
        }
        let id = RegId::from_raw(id);
        Some(Self {
            class: Class(u16::from(id.class())),
            index: u16::from(id.index()),
            size: u8::from(id.size()),
        })
    }

    /// Returns the id as userspace writes it.
    pub(crate) fn id(self) -> u64 {
        ARCH | u64::from(self.size) << RegId::SIZE_SHIFT
            | u64::from(self.class.0) << RegId::CLASS_SHIFT
            | u64::from(self.index)
    }
}
