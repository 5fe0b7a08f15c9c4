// SPDX-License-Identifier: GPL-2.0

//! The table of registers: each row describes a group of registers, and get, set and list all use
//! it (differences-from-c M25).
//!
//! Rows stand in the order in which C lists the registers. No locks; a row's functions run with
//! `vcpu->mutex` held.

use core::ops::Deref;

use kernel::prelude::*;

use crate::{
    arch::vector::VectorRegs,
    bindings,
    isa::{
        self,
        Ext, //
    },
    kernel_ext::nospec,
    sbi_abi::table::Extension,
    vcpu::{
        context::CpuContext,
        host,
        onereg::{
            config,
            id::{
                Class,
                Parts, //
            },
            sbi,
            state,
            units, //
        },
        token::OwnedVcpu, //
    }, //
};

/// A vCPU for reading only.
pub(super) struct View<'v, 'o>(&'v mut OwnedVcpu<'o>);

impl<'v, 'o> View<'v, 'o> {
    /// Takes `vcpu`, for as long as it does not change.
    #[inline]
    pub(super) fn new(vcpu: &'v mut OwnedVcpu<'o>) -> Self {
        Self(vcpu)
    }

    /// Returns what loading moves into registers.
    #[inline]
    pub(super) fn context(&mut self) -> &CpuContext {
        self.0.context()
    }

    /// Returns the vector registers.
    pub(super) fn vector(&mut self) -> &VectorRegs {
        self.0.vector()
    }
}

impl<'o> Deref for View<'_, 'o> {
    type Target = OwnedVcpu<'o>;

    #[inline]
    fn deref(&self) -> &OwnedVcpu<'o> {
        self.0
    }
}

/// The getter and setter of registers that hold a `T`. The number counts from the group's first,
/// and is below the group's count even in speculation.
#[derive(Clone, Copy)]
pub(super) struct Accessor<T> {
    /// The getter.
    pub(super) get: fn(&mut View<'_, '_>, usize) -> Result<T>,
    /// The setter. Its caller has marked the vCPU's state as changed.
    pub(super) set: fn(&mut OwnedVcpu<'_>, usize, T) -> Result,
}

/// The width of a group's registers, and their accessors.
#[derive(Clone, Copy)]
pub(super) enum Access {
    /// 32 bits.
    U32(Accessor<u32>),
    /// 64 bits.
    U64(Accessor<u64>),
    /// The bytes of a vector register.
    Vector(fn(&mut VectorRegs, usize) -> Option<&mut [u8]>),
}

impl Access {
    /// Returns the access to registers of 64 bits by `get` and `set`.
    const fn u64(
        get: fn(&mut View<'_, '_>, usize) -> Result<u64>,
        set: fn(&mut OwnedVcpu<'_>, usize, u64) -> Result,
    ) -> Self {
        Self::U64(Accessor { get, set })
    }

    /// Returns the access to registers of 32 bits by `get` and `set`.
    const fn u32(
        get: fn(&mut View<'_, '_>, usize) -> Result<u32>,
        set: fn(&mut OwnedVcpu<'_>, usize, u32) -> Result,
    ) -> Self {
        Self::U32(Accessor { get, set })
    }

    /// Returns log2 of the size in bytes.
    fn size(self) -> u8 {
        match self {
            Self::U32(_) => SIZE_U32,
            Self::U64(_) => SIZE_U64,
            Self::Vector(_) => vector_size(),
        }
    }
}

/// Binary logarithm of the size of a register of 32 bits, in bytes.
pub(super) const SIZE_U32: u8 = 2;

/// Binary logarithm of the size of a register of 64 bits, in bytes.
pub(super) const SIZE_U64: u8 = 3;

/// Returns log2 of the size of a vector register, in bytes: it is a power of two, at most 2^13.
pub(super) fn vector_size() -> u8 {
    host::get()
        .map_or(0, |host| host.vector_size / usize::from(units::VECTORS))
        .trailing_zeros() as u8
}

/// Which registers of a group there are.
#[derive(Clone, Copy)]
enum Presence {
    /// All of them.
    Always,
    /// All of them, if userspace chose this extension for the vCPU.
    Chosen(Ext),
    /// Those whose numbers are in this set. The list uses the set; the accessor itself refuses the
    /// rest.
    Some(fn(&OwnedVcpu<'_>) -> u128),
    /// While the vCPU has this SBI extension, those whose numbers are in this set. The list uses
    /// the set; the accessor itself refuses the rest.
    Sbi(Extension, fn(&OwnedVcpu<'_>) -> u128),
    /// All of them, but the list leaves them out, because other registers have the same contents.
    Unlisted,
}

/// Registers with the same class, presence and accessors.
pub(super) struct Group {
    /// The type and subtype of the registers.
    class: Class,
    /// Number of the first register in the class.
    first: u16,
    /// How many there are.
    count: u16,
    /// Which of the registers there are.
    presence: Presence,
    /// Their accessors.
    pub(super) access: Access,
}

impl Group {
    /// Returns whether the group is there, as far as that is the same for all of it.
    #[inline]
    fn is_there(&self, vcpu: &OwnedVcpu<'_>) -> bool {
        match self.presence {
            Presence::Always | Presence::Some(_) | Presence::Unlisted => true,
            Presence::Chosen(ext) => vcpu.isa.chosen().contains(ext),
            Presence::Sbi(ext, _) => vcpu.sbi.has(ext),
        }
    }

    /// Returns the numbers of those registers that the list has.
    fn listed(&self, vcpu: &OwnedVcpu<'_>) -> u128 {
        match self.presence {
            Presence::Always => self.all(),
            Presence::Chosen(_) if self.is_there(vcpu) => self.all(),
            Presence::Chosen(_) | Presence::Unlisted => 0,
            Presence::Some(numbers) => numbers(vcpu) & self.all(),
            Presence::Sbi(_, numbers) if self.is_there(vcpu) => numbers(vcpu) & self.all(),
            Presence::Sbi(..) => 0,
        }
    }

    /// Returns the numbers of all registers: fewer than a set has room for, see below.
    const fn all(&self) -> u128 {
        (1 << self.count) - 1
    }
}

/// Words of 64 bits in a struct of the user API.
macro_rules! words {
    ($layout:ident) => {
        (size_of::<bindings::$layout>() / size_of::<u64>()) as u16
    };
}

/// Numbers in the classes of extensions.
const ISA_EXTENSIONS: u16 = isa::COUNT as u16;
const SBI_EXTENSIONS: u16 = bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_MAX as u16;

/// Returns how many multi registers it takes for so many extensions.
const fn multi(extensions: u16) -> u16 {
    extensions.div_ceil(u64::BITS as u16)
}

/// `KVM_REG_RISCV_VECTOR_REG(0)`: the vector registers come after the struct of their CSRs, whose
/// last member, a pointer, is no register.
const VECTOR_REGS: u16 = words!(__riscv_v_ext_state);
/// The number of registers in that struct.
const VECTOR_CSRS: u16 = VECTOR_REGS - 1;

/// All registers.
static GROUPS: [Group; 20] = [
    Group {
        class: Class::new(bindings::KVM_REG_RISCV_CONFIG, 0),
        first: 0,
        count: words!(kvm_riscv_config),
        presence: Presence::Always,
        access: Access::u64(config::get, config::set),
    },
    Group {
        class: Class::new(bindings::KVM_REG_RISCV_CORE, 0),
        first: 0,
        count: words!(kvm_riscv_core),
        presence: Presence::Always,
        access: Access::u64(state::get_core, state::set_core),
    },
    Group {
        class: Class::new(
            bindings::KVM_REG_RISCV_CSR,
            bindings::KVM_REG_RISCV_CSR_GENERAL,
        ),
        first: 0,
        count: words!(kvm_riscv_csr),
        presence: Presence::Always,
        access: Access::u64(state::get_csr, state::set_csr),
    },
    Group {
        class: Class::new(bindings::KVM_REG_RISCV_CSR, bindings::KVM_REG_RISCV_CSR_AIA),
        first: 0,
        count: words!(kvm_riscv_aia_csr),
        presence: Presence::Chosen(Ext::Ssaia),
        access: Access::u64(state::get_aia, state::set_aia),
    },
    Group {
        class: Class::new(
            bindings::KVM_REG_RISCV_CSR,
            bindings::KVM_REG_RISCV_CSR_SMSTATEEN,
        ),
        first: 0,
        count: words!(kvm_riscv_smstateen_csr),
        presence: Presence::Chosen(Ext::Smstateen),
        access: Access::u64(state::get_sstateen, state::set_sstateen),
    },
    Group {
        class: Class::new(
            bindings::KVM_REG_RISCV_CSR,
            bindings::KVM_REG_RISCV_CSR_ZICFISS,
        ),
        first: 0,
        count: words!(kvm_riscv_zicfiss_csr),
        presence: Presence::Chosen(Ext::Zicfiss),
        access: Access::u64(state::get_ssp, state::set_ssp),
    },
    Group {
        class: Class::new(bindings::KVM_REG_RISCV_TIMER, 0),
        first: 0,
        count: words!(kvm_riscv_timer),
        presence: Presence::Always,
        access: Access::u64(state::get_timer, state::set_timer),
    },
    Group {
        class: Class::new(bindings::KVM_REG_RISCV_FP_F, 0),
        first: 0,
        count: units::FCSR + 1,
        presence: Presence::Chosen(Ext::F),
        access: Access::u32(units::get_f, units::set_f),
    },
    Group {
        class: Class::new(bindings::KVM_REG_RISCV_FP_D, 0),
        first: 0,
        count: units::FCSR,
        presence: Presence::Chosen(Ext::D),
        access: Access::u64(units::get_d, units::set_d),
    },
    Group {
        class: Class::new(bindings::KVM_REG_RISCV_FP_D, 0),
        first: units::FCSR,
        count: 1,
        presence: Presence::Chosen(Ext::D),
        access: Access::u32(units::get_fcsr, units::set_fcsr),
    },
    Group {
        class: Class::new(bindings::KVM_REG_RISCV_VECTOR, 0),
        first: 0,
        count: VECTOR_CSRS,
        presence: Presence::Chosen(Ext::V),
        access: Access::u64(units::get_vcsr, units::set_vcsr),
    },
    Group {
        class: Class::new(bindings::KVM_REG_RISCV_VECTOR, 0),
        first: VECTOR_REGS,
        count: units::VECTORS,
        presence: Presence::Chosen(Ext::V),
        access: Access::Vector(units::vector),
    },
    Group {
        class: Class::new(
            bindings::KVM_REG_RISCV_ISA_EXT,
            bindings::KVM_REG_RISCV_ISA_SINGLE,
        ),
        first: 0,
        count: ISA_EXTENSIONS,
        presence: Presence::Some(config::isa_numbers),
        access: Access::u64(config::get_isa, config::set_isa),
    },
    Group {
        class: Class::new(
            bindings::KVM_REG_RISCV_ISA_EXT,
            bindings::KVM_REG_RISCV_ISA_MULTI_EN,
        ),
        first: 0,
        count: multi(ISA_EXTENSIONS),
        presence: Presence::Unlisted,
        access: Access::u64(config::get_isa_enabled, config::enable_isa),
    },
    Group {
        class: Class::new(
            bindings::KVM_REG_RISCV_ISA_EXT,
            bindings::KVM_REG_RISCV_ISA_MULTI_DIS,
        ),
        first: 0,
        count: multi(ISA_EXTENSIONS),
        presence: Presence::Unlisted,
        access: Access::u64(config::get_isa_disabled, config::disable_isa),
    },
    Group {
        class: Class::new(
            bindings::KVM_REG_RISCV_SBI_EXT,
            bindings::KVM_REG_RISCV_SBI_SINGLE,
        ),
        first: 0,
        count: SBI_EXTENSIONS,
        presence: Presence::Some(config::sbi_numbers),
        access: Access::u64(config::get_sbi, config::set_sbi),
    },
    Group {
        class: Class::new(
            bindings::KVM_REG_RISCV_SBI_EXT,
            bindings::KVM_REG_RISCV_SBI_MULTI_EN,
        ),
        first: 0,
        count: multi(SBI_EXTENSIONS),
        presence: Presence::Unlisted,
        access: Access::u64(config::get_sbi_enabled, config::enable_sbi),
    },
    Group {
        class: Class::new(
            bindings::KVM_REG_RISCV_SBI_EXT,
            bindings::KVM_REG_RISCV_SBI_MULTI_DIS,
        ),
        first: 0,
        count: multi(SBI_EXTENSIONS),
        presence: Presence::Unlisted,
        access: Access::u64(config::get_sbi_disabled, config::disable_sbi),
    },
    Group {
        class: Class::new(
            bindings::KVM_REG_RISCV_SBI_STATE,
            bindings::KVM_REG_RISCV_SBI_STA,
        ),
        first: 0,
        count: words!(kvm_riscv_sbi_sta),
        presence: Presence::Sbi(Extension::Sta, sbi::all),
        access: Access::u64(sbi::get_sta, sbi::set_sta),
    },
    Group {
        class: Class::new(
            bindings::KVM_REG_RISCV_SBI_STATE,
            bindings::KVM_REG_RISCV_SBI_FWFT,
        ),
        first: 0,
        count: words!(kvm_riscv_sbi_fwft),
        presence: Presence::Sbi(Extension::Fwft, sbi::fwft_numbers),
        access: Access::u64(sbi::get_fwft, sbi::set_fwft),
    },
];

/// A set has room for the numbers of each group.
const _: () = {
    let mut i = 0;
    while i < GROUPS.len() {
        assert!(GROUPS[i].count < u128::BITS as u16);
        i += 1;
    }
};

/// Types are below this.
const KINDS: usize = 16;

/// The groups of each type: they stand together.
static OF_KIND: [&[Group]; KINDS] = {
    let mut of_kind: [&[Group]; KINDS] = [&[]; KINDS];
    let mut i = 0;
    while i < GROUPS.len() {
        let kind = GROUPS[i].class.kind() as usize;
        let (_, from) = GROUPS.split_at(i);
        let mut count = 0;
        while count < from.len() && from[count].class.kind() as usize == kind {
            count += 1;
        }
        assert!(of_kind[kind].is_empty());
        of_kind[kind] = from.split_at(count).0;
        i += count;
    }
    of_kind
};

/// Finds the register that `parts` names, as its group and its number in it.
///
/// # Errors
///
/// `ENOENT` if there is none. The size is for the caller to look at.
#[inline]
pub(super) fn find(vcpu: &OwnedVcpu<'_>, parts: Parts) -> Result<(&'static Group, usize)> {
    for group in OF_KIND[usize::from(parts.class.kind()) % KINDS] {
        let number = parts.index.wrapping_sub(group.first);
        if group.class != parts.class || number >= group.count {
            continue;
        }
        if !group.is_there(vcpu) {
            break;
        }
        return Ok((group, nospec::index(number.into(), group.count.into())));
    }
    Err(refusal(vcpu, parts))
}

/// Returns why there is no such register.
#[cold]
fn refusal(vcpu: &OwnedVcpu<'_>, parts: Parts) -> Error {
    // The state of an SBI extension that the vCPU does not have, or in another size, has always
    // been an invalid id (`EINVAL`), not a missing register.
    let is_known = |group: &Group| {
        group.class == parts.class && group.access.size() == parts.size && group.is_there(vcpu)
    };
    if parts.class.is_of(bindings::KVM_REG_RISCV_SBI_STATE) && !GROUPS.iter().any(is_known) {
        return EINVAL;
    }
    ENOENT
}

/// Returns how many registers the list has.
pub(super) fn count(vcpu: &OwnedVcpu<'_>) -> u64 {
    GROUPS
        .iter()
        .map(|group| u64::from(group.listed(vcpu).count_ones()))
        .sum()
}

/// Calls `f` with the id of each register that the list has.
///
/// # Errors
///
/// Those of `f`, at once.
pub(super) fn for_each_id(vcpu: &OwnedVcpu<'_>, mut f: impl FnMut(u64) -> Result) -> Result {
    for group in &GROUPS {
        let mut parts = Parts {
            class: group.class,
            index: group.first,
            size: group.access.size(),
        };
        let mut numbers = group.listed(vcpu);
        while numbers != 0 {
            if numbers & 1 != 0 {
                f(parts.id())?;
            }
            numbers >>= 1;
            parts.index += 1;
        }
    }
    Ok(())
}
