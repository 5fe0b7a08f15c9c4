// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! The ISA extensions of a guest: those that the host offers, that userspace has chosen, and that
//! the guest gets.
//!
//! Answers to `arch/riscv/kvm/isa.c`, to the ISA parts of `vcpu_onereg.c` (`KVM_REG_RISCV_ISA_EXT`
//! and `config.isa`) and to the part of `vcpu_config.c` that follows from the extensions. Pure:
//! no locks, no allocation, no hardware; the owner of a [`GuestIsa`] serialises access to it
//! (`vcpu->mutex`), a [`HostIsa`] never changes after module init.
//!
//! # Choice and effect
//!
//! There are two sets per vCPU.
//!
//! * The *chosen* set is what ONE_REG reads and writes. Each extension is set and reported by
//!   itself, so userspace may write the registers one by one and in any order, restore what it
//!   read, and meet the results that it knows: QEMU's `-cpu host,d=off` and `get-reg-list`, which
//!   switches everything off and then one extension on, must not trip over an order that the
//!   interface never had. Which registers ONE_REG shows for an extension (FP, vector, Smstateen,
//!   ...) goes by this set, too.
//! * The *effective* set ([`EffectiveIsa`]) is what the guest gets: the chosen set without every
//!   extension that has lost what it needs. With F off, D goes, and V with it, and so do Zfh and
//!   Zvfh, which nothing but sstatus.FS and sstatus.VS takes away. All hardware state derives from
//!   this set, and the first run freezes it. The C module has the chosen set only: there, a guest
//!   without F keeps floating point if D was left on.
//!
//! `table` proves at compile time that nothing stays in effect without what it needs, and that
//! what is dropped beyond the choice is under the control of something that was switched off.
//!
//! # Speculation
//!
//! Register numbers come from userspace. None of them indexes memory here: a set is one integer,
//! looked at by shifting it, so a mispredicted range check reads nothing out of bounds and
//! `array_index_nospec()` has nothing to guard.

mod effective;
mod set;
mod table;

pub(crate) use crate::isa::effective::{
    EffectiveIsa,
    FpUnit, //
};
pub(crate) use crate::isa::set::IsaSet;
pub(crate) use crate::isa::table::{
    Ext, //
    COUNT,
};

use crate::{
    bindings,
    isa::table::{
        Disable,
        Enable,
        ROWS, //
    }, //
};

/// Extensions per word of the multi registers, `KVM_REG_RISCV_ISA_MULTI_{EN,DIS}`.
const MULTI_BITS: u32 = u64::BITS;

/// The number of the last multi register, `KVM_REG_RISCV_ISA_MULTI_REG_LAST`.
const MULTI_LAST: u64 = (ROWS.len() as u64 - 1) / MULTI_BITS as u64;

/// `config.isa` takes the letters below this bit; it is one less than the number of letters, as
/// there is no extension Z.
const CONFIG_ISA_BITS: u32 = bindings::RISCV_ISA_EXT_BASE - 1;

/// Why ONE_REG refuses an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IsaError {
    /// There is no such extension, or the host does not offer it (`ENOENT`).
    NotFound,
    /// The write would change the ISA of a vCPU that has run (`EBUSY`).
    Busy,
    /// The value is not one of this register, or the policy forbids the change (`EINVAL`).
    Invalid,
}

/// Whether the calling process may use vector instructions, `PR_RISCV_V_SET_CONTROL`. A property
/// of the caller, not of the host: ask `riscv_v_vstate_ctrl_user_allowed()` each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VectorUse {
    /// It may, and so may its guests.
    Permitted,
    /// It may not: its guests start without V and cannot be given it.
    Denied,
}

/// Which multi register: those bits of a written word that are set switch extensions on, or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Multi {
    /// `KVM_REG_RISCV_ISA_MULTI_EN`; reads as what the vCPU has.
    Enable,
    /// `KVM_REG_RISCV_ISA_MULTI_DIS`; reads as the complement of the other one.
    Disable,
}

/// The extensions that this host and this module offer to guests, computed once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostIsa {
    /// Extensions that exist for ONE_REG: the host has them and the module offers them.
    offered: IsaSet,
    /// Extensions that may be switched on, by a caller that may use vectors.
    enable: IsaSet,
    /// Extensions that may be switched off.
    disable: IsaSet,
    /// The host has hstateen0.
    smstateen: bool,
}

impl HostIsa {
    /// Asks the host for each extension of the table. `has` takes a `RISCV_ISA_EXT_*` id and
    /// answers from the host's ISA bitmap, as `__riscv_isa_extension_available(NULL, id)` does.
    pub(crate) fn probe(mut has: impl FnMut(u32) -> bool) -> Self {
        let mut offered = IsaSet::EMPTY;
        for row in &ROWS {
            if has(row.host) {
                offered = offered.with(row.ext);
            }
        }

        let smstateen = has(bindings::RISCV_ISA_EXT_SMSTATEEN);
        // The condition is that of the kernel's `arch_has_hw_pte_young()`.
        let hw_ad_updates = has(bindings::RISCV_ISA_EXT_SVADU);
        let mut enable = IsaSet::EMPTY;
        let mut disable = IsaSet::EMPTY;
        for row in &ROWS {
            let may_enable = match row.enable {
                // `enable_allowed` checks whether the caller may use vectors.
                Enable::Always | Enable::NeedsVectorUse => true,
                Enable::Never => false,
                Enable::NeedsOffered(ext) => offered.contains(ext),
                Enable::NeedsHwAdUpdates => hw_ad_updates,
            };
            let may_disable = match row.disable {
                Disable::Allowed => true,
                Disable::Never | Disable::Follows(_) => false,
                Disable::NeedsSmstateen => smstateen,
                Disable::NeedsHwAdUpdates => hw_ad_updates,
            };
            if may_enable {
                enable = enable.with(row.ext);
            }
            if may_disable {
                disable = disable.with(row.ext);
            }
        }

        Self {
            offered,
            enable,
            disable,
            smstateen,
        }
    }

    /// Returns the extensions that have an `ISA_EXT` register.
    #[inline]
    pub(crate) fn offered(&self) -> IsaSet {
        self.offered
    }

    /// Returns the extensions that this caller may switch on.
    pub(crate) fn enable_allowed(&self, vector: VectorUse) -> IsaSet {
        match vector {
            VectorUse::Permitted => self.enable,
            VectorUse::Denied => {
                let mut needs_vector = IsaSet::EMPTY;
                for row in &ROWS {
                    if matches!(row.enable, Enable::NeedsVectorUse) {
                        needs_vector = needs_vector.with(row.ext);
                    }
                }
                self.enable.without(needs_vector)
            }
        }
    }

    /// Returns the extensions that may be switched off.
    #[cfg(test)]
    pub(crate) fn disable_allowed(&self) -> IsaSet {
        self.disable
    }

    /// Returns the offered extension with this number, as a set of one.
    fn one(&self, id: u64) -> Result<IsaSet, IsaError> {
        let one = IsaSet::from_id(id).and(self.offered);

        if one.is_empty() {
            return Err(IsaError::NotFound);
        }
        Ok(one)
    }
}

/// The extensions of one vCPU.
///
/// # Invariants
///
/// `chosen` has only extensions that the host offers. Once `frozen` is there, it is what `chosen`
/// has in effect, and neither changes again.
#[derive(Clone, Debug)]
pub(crate) struct GuestIsa {
    /// The set that ONE_REG reads and writes.
    chosen: IsaSet,
    /// The effective set, from the first run on.
    frozen: Option<EffectiveIsa>,
}

impl GuestIsa {
    /// Returns the ISA of a new vCPU: all that is offered and may be switched on.
    pub(crate) fn new(host: &HostIsa, vector: VectorUse) -> Self {
        // INVARIANT: The set is a subset of what the host offers, and it is not frozen.
        Self {
            chosen: host.offered.and(host.enable_allowed(vector)),
            frozen: None,
        }
    }

    /// Returns what userspace chose, which decides which registers ONE_REG has.
    #[inline]
    pub(crate) fn chosen(&self) -> IsaSet {
        self.chosen
    }

    /// Returns what the guest gets, or would get if it ran now.
    pub(crate) fn effective(&self) -> EffectiveIsa {
        match self.frozen {
            Some(frozen) => frozen,
            None => EffectiveIsa::of(self.chosen),
        }
    }

    /// Makes the ISA final, on the first run; later calls change nothing.
    pub(crate) fn freeze(&mut self) -> EffectiveIsa {
        let effective = self.effective();

        // INVARIANT: `frozen` is what `chosen` has in effect, and it does not change once it is
        // set.
        self.frozen = Some(effective);
        effective
    }

    /// Reads the `ISA_EXT` register number `id`.
    ///
    /// # Errors
    ///
    /// [`IsaError::NotFound`] for an extension that is unknown or not offered.
    pub(crate) fn get(&self, host: &HostIsa, id: u64) -> Result<bool, IsaError> {
        Ok(host.one(id)?.is_subset_of(self.chosen))
    }

    /// Writes the `ISA_EXT` register number `id`. Looks for errors in the order below; to write
    /// what the register has already succeeds unless the first of them applies.
    ///
    /// # Errors
    ///
    /// [`IsaError::NotFound`] for an extension that is unknown or not offered; [`IsaError::Busy`]
    /// after the first run; [`IsaError::Invalid`] for a value other than 0 and 1, or if the policy
    /// forbids it.
    pub(crate) fn set(
        &mut self,
        host: &HostIsa,
        vector: VectorUse,
        id: u64,
        value: u64,
    ) -> Result<(), IsaError> {
        let one = host.one(id)?;

        match value {
            0 => self.switch_off(host, one),
            1 => self.switch_on(host, vector, one),
            _ if self.frozen.is_some() => Err(IsaError::Busy),
            _ => Err(IsaError::Invalid),
        }
    }

    /// Reads multi register number `word`. Extensions that are unknown or not offered read as
    /// switched off.
    ///
    /// # Errors
    ///
    /// [`IsaError::NotFound`] if there is no such register.
    pub(crate) fn get_multi(&self, multi: Multi, word: u64) -> Result<u64, IsaError> {
        let enabled = self.chosen.word(Self::multi_shift(word)?);

        Ok(match multi {
            Multi::Enable => enabled,
            Multi::Disable => !enabled,
        })
    }

    /// Writes multi register number `word`: all of `mask` or, on an error, nothing.
    ///
    /// To switch off what is not there anyway changes nothing and succeeds, so that what a multi
    /// register reads as can always be written back.
    ///
    /// # Errors
    ///
    /// [`IsaError::NotFound`] if there is no such register, or if an extension to be switched on is
    /// not offered; [`IsaError::Busy`] if a vCPU that has run would change; [`IsaError::Invalid`]
    /// if the policy forbids the change.
    pub(crate) fn set_multi(
        &mut self,
        host: &HostIsa,
        vector: VectorUse,
        multi: Multi,
        word: u64,
        mask: u64,
    ) -> Result<(), IsaError> {
        let set = IsaSet::from_word(mask, Self::multi_shift(word)?);

        match multi {
            Multi::Enable if !set.is_subset_of(host.offered) => Err(IsaError::NotFound),
            Multi::Enable => self.switch_on(host, vector, set),
            Multi::Disable => self.switch_off(host, set),
        }
    }

    /// Reads `config.isa`: a bit per single-letter extension, bit 0 for A.
    pub(crate) fn get_config(&self) -> u64 {
        let mut value = 0;

        for (ext, bit) in LETTERS {
            if self.chosen.contains(ext) {
                value |= bit;
            }
        }
        value
    }

    /// Writes `config.isa`.
    ///
    /// The register is WARL, like misa: a letter that is unknown, not offered or may not be
    /// switched that way stays as it must be, and a read tells. To write what is read succeeds also
    /// after the first run.
    ///
    /// # Errors
    ///
    /// [`IsaError::Invalid`] for bits that are no letter; [`IsaError::Busy`] if a vCPU that has run
    /// would change.
    pub(crate) fn set_config(
        &mut self,
        host: &HostIsa,
        vector: VectorUse,
        value: u64,
    ) -> Result<(), IsaError> {
        if value >> CONFIG_ISA_BITS != 0 {
            return Err(IsaError::Invalid);
        }
        if value == self.get_config() {
            return Ok(());
        }
        if self.frozen.is_some() {
            return Err(IsaError::Busy);
        }

        let enable = host.enable_allowed(vector);
        let mut chosen = self.chosen;
        for (ext, bit) in LETTERS {
            let on = value & bit != 0 && enable.contains(ext) || !host.disable.contains(ext);
            chosen = if on && host.offered.contains(ext) {
                chosen.with(ext)
            } else {
                chosen.without(IsaSet::EMPTY.with(ext))
            };
        }
        // INVARIANT: The ISA is not frozen, and the host offers each extension that is switched on.
        self.chosen = chosen;
        Ok(())
    }

    /// Switches on all of `set`, which is offered, or nothing.
    fn switch_on(
        &mut self,
        host: &HostIsa,
        vector: VectorUse,
        set: IsaSet,
    ) -> Result<(), IsaError> {
        let new = set.without(self.chosen);

        if new.is_empty() {
            return Ok(());
        }
        if self.frozen.is_some() {
            return Err(IsaError::Busy);
        }
        if !new.is_subset_of(host.enable_allowed(vector)) {
            return Err(IsaError::Invalid);
        }
        // INVARIANT: The ISA is not frozen, and the host offers `new`.
        self.chosen = self.chosen.or(new);
        Ok(())
    }

    /// Switches off all of `set` or nothing.
    fn switch_off(&mut self, host: &HostIsa, set: IsaSet) -> Result<(), IsaError> {
        let old = set.and(self.chosen);

        if old.is_empty() {
            return Ok(());
        }
        if self.frozen.is_some() {
            return Err(IsaError::Busy);
        }
        if !old.is_subset_of(host.disable) {
            return Err(IsaError::Invalid);
        }
        // INVARIANT: The ISA is not frozen, and the set only shrinks.
        self.chosen = self.chosen.without(old);
        Ok(())
    }

    /// Returns the first extension of multi register number `word`.
    fn multi_shift(word: u64) -> Result<u32, IsaError> {
        if word > MULTI_LAST {
            return Err(IsaError::NotFound);
        }
        // At most `MULTI_LAST`, so nothing is cut off.
        Ok(word as u32 * MULTI_BITS)
    }
}

/// The single-letter extensions and their bits in `config.isa`.
const LETTERS: [(Ext, u64); letter_count()] = {
    let mut letters = [(Ext::A, 0); letter_count()];
    let mut row = 0;
    let mut letter = 0;
    while row < ROWS.len() {
        if ROWS[row].base < bindings::RISCV_ISA_EXT_BASE {
            letters[letter] = (ROWS[row].ext, 1 << ROWS[row].base);
            letter += 1;
        }
        row += 1;
    }
    letters
};

/// Returns how many extensions have a letter of their own.
const fn letter_count() -> usize {
    let mut row = 0;
    let mut count = 0;
    while row < ROWS.len() {
        if ROWS[row].base < bindings::RISCV_ISA_EXT_BASE {
            count += 1;
        }
        row += 1;
    }
    count
}
