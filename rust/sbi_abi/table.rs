// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! The table of SBI extensions: a row has all properties of an extension; and the extensions that
//! each vCPU has.
//!
//! Answers to the array of extensions in `vcpu_sbi.c` and to `KVM_REG_RISCV_SBI_EXT` there. Pure:
//! no locks; a [`State`] is protected by `vcpu->mutex`.
//!
//! An extension without a row does not exist: its calls are not supported, a probe answers 0, and
//! its register is `-ENOENT`.

use crate::{
    bindings,
    sbi_abi::{
        fwft,
        sta, //
    }, //
};

/// The state of an extension in a new vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// The extension does not exist, and has no register.
    Unavailable,
    /// Userspace must enable the extension, because userspace serves it.
    Disabled,
    /// The extension is enabled unless userspace disables it.
    Enabled,
}

/// The answer to a probe for an enabled extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// KVM answers: the extension is implemented.
    Implemented,
    /// Userspace answers: the row is a whole range of extensions, all of which userspace
    /// implements.
    Userspace,
}

/// One extension, or one range of extensions.
struct Row {
    ext: Extension,
    /// Its number in the user API, `KVM_RISCV_SBI_EXT_*`; without one it cannot be disabled.
    register: Option<u32>,
    initially: Status,
    probe: Probe,
}

/// Makes [`Extension`] and [`ROWS`] of rows `Name(first id, last id) { fields }`.
macro_rules! extensions {
    ($(
        $(#[$doc:meta])+
        $name:ident($first:expr, $last:expr) {
            $($field:ident: $value:expr,)+
        }
    )+) => {
        /// An extension that KVM knows, or a range of them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum Extension {
            $($(#[$doc])+ $name,)+
        }

        impl Extension {
            /// Returns the extension with this id (`a7`), whether a guest has it or not.
            #[inline]
            pub(crate) fn of(id: usize) -> Option<Self> {
                match INDEX.find(id) {
                    None => Self::of_range(id),
                    found => found,
                }
            }

            /// Returns the extension with this id, if it is one that has more ids than one.
            #[inline(never)]
            const fn of_range(id: usize) -> Option<Self> {
                match id {
                    $(id if ($first as usize) < $last as usize
                        && $first as usize <= id
                        && id <= $last as usize => Some(Self::$name),)+
                    _ => None,
                }
            }
        }

        /// The extensions that have one id.
        static INDEX: Index = Index::new(&[$(($first as usize, $last as usize, Extension::$name),)+]);

        const ROWS: &[Row] = &[$(
            Row {
                ext: Extension::$name,
                $($field: $value,)+
            },
        )+];
    };
}

extensions! {
    /// The calls of SBI v0.1, each with an extension id of its own.
    // The header defines these where the host's own kernel uses them.
    Legacy(crate::sbi_abi::message::legacy::SET_TIMER, crate::sbi_abi::message::legacy::SHUTDOWN) {
        register: Some(bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_V01),
        initially: if cfg!(CONFIG_RISCV_SBI_V01) {
            Status::Enabled
        } else {
            Status::Unavailable
        },
        probe: Probe::Implemented,
    }
    /// Versions and probes; mandatory.
    Base(bindings::sbi_ext_id_SBI_EXT_BASE, bindings::sbi_ext_id_SBI_EXT_BASE) {
        register: None,
        initially: Status::Enabled,
        probe: Probe::Implemented,
    }
    /// The timer.
    Time(bindings::sbi_ext_id_SBI_EXT_TIME, bindings::sbi_ext_id_SBI_EXT_TIME) {
        register: Some(bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_TIME),
        initially: Status::Enabled,
        probe: Probe::Implemented,
    }
    /// Interrupts for other harts, "sPI".
    Ipi(bindings::sbi_ext_id_SBI_EXT_IPI, bindings::sbi_ext_id_SBI_EXT_IPI) {
        register: Some(bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_IPI),
        initially: Status::Enabled,
        probe: Probe::Implemented,
    }
    /// Fences on other harts, "RFNC".
    Rfence(bindings::sbi_ext_id_SBI_EXT_RFENCE, bindings::sbi_ext_id_SBI_EXT_RFENCE) {
        register: Some(bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_RFENCE),
        initially: Status::Enabled,
        probe: Probe::Implemented,
    }
    /// Start, stop and suspend harts.
    Hsm(bindings::sbi_ext_id_SBI_EXT_HSM, bindings::sbi_ext_id_SBI_EXT_HSM) {
        register: Some(bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_HSM),
        initially: Status::Enabled,
        probe: Probe::Implemented,
    }
    /// Reset or shut down the system.
    Srst(bindings::sbi_ext_id_SBI_EXT_SRST, bindings::sbi_ext_id_SBI_EXT_SRST) {
        register: Some(bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_SRST),
        initially: Status::Enabled,
        probe: Probe::Implemented,
    }
    /// The debug console, served by userspace.
    Dbcn(bindings::sbi_ext_id_SBI_EXT_DBCN, bindings::sbi_ext_id_SBI_EXT_DBCN) {
        register: Some(bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_DBCN),
        initially: Status::Disabled,
        probe: Probe::Implemented,
    }
    /// Performance counters.
    Pmu(bindings::sbi_ext_id_SBI_EXT_PMU, bindings::sbi_ext_id_SBI_EXT_PMU) {
        register: Some(bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_PMU),
        initially: Status::Enabled,
        probe: Probe::Implemented,
    }
    /// Features of the hart that the guest can switch.
    Fwft(bindings::sbi_ext_id_SBI_EXT_FWFT, bindings::sbi_ext_id_SBI_EXT_FWFT) {
        register: Some(bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_FWFT),
        initially: Status::Enabled,
        probe: Probe::Implemented,
    }
    /// Steal time: what the hart was ready to run and did not.
    Sta(bindings::sbi_ext_id_SBI_EXT_STA, bindings::sbi_ext_id_SBI_EXT_STA) {
        register: Some(bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_STA),
        initially: Status::Enabled,
        probe: Probe::Implemented,
    }
    /// Suspend the system, which userspace does.
    Susp(bindings::sbi_ext_id_SBI_EXT_SUSP, bindings::sbi_ext_id_SBI_EXT_SUSP) {
        register: Some(bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_SUSP),
        initially: Status::Disabled,
        probe: Probe::Implemented,
    }
    /// Message channels, served by userspace.
    Mpxy(bindings::sbi_ext_id_SBI_EXT_MPXY, bindings::sbi_ext_id_SBI_EXT_MPXY) {
        register: Some(bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_MPXY),
        initially: Status::Disabled,
        probe: Probe::Implemented,
    }
    /// Experiments, served by userspace.
    Experimental(
        bindings::sbi_ext_id_SBI_EXT_EXPERIMENTAL_START,
        bindings::sbi_ext_id_SBI_EXT_EXPERIMENTAL_END
    ) {
        register: Some(bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_EXPERIMENTAL),
        initially: Status::Enabled,
        probe: Probe::Userspace,
    }
    /// The vendor's own, served by userspace.
    Vendor(
        bindings::sbi_ext_id_SBI_EXT_VENDOR_START,
        bindings::sbi_ext_id_SBI_EXT_VENDOR_END
    ) {
        register: Some(bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_VENDOR),
        initially: Status::Enabled,
        probe: Probe::Userspace,
    }
}

/// The number of slots of [`Index`]: large enough that there is a shift for which no two extensions
/// have the same slot.
const SLOTS: usize = 64;

/// Extensions by id, each in the slot that its id says.
struct Index {
    shift: u32,
    /// An id, which is not 0, and its extension.
    slots: [(usize, Option<Extension>); SLOTS],
}

impl Index {
    /// Returns an index of those rows whose first id is the last. Fails to compile if there is
    /// none.
    const fn new(rows: &[(usize, usize, Extension)]) -> Self {
        let mut shift = 1;
        while shift < usize::BITS {
            if let Some(slots) = Self::slots(rows, shift) {
                return Self { shift, slots };
            }
            shift += 1;
        }
        panic!("more slots, please");
    }

    /// Returns the slots, or [`None`] if two extensions have the same.
    const fn slots(
        rows: &[(usize, usize, Extension)],
        shift: u32,
    ) -> Option<[(usize, Option<Extension>); SLOTS]> {
        let mut slots = [(0, None); SLOTS];
        let mut i = 0;
        while i < rows.len() {
            let (id, last, ext) = rows[i];
            if id == last {
                let slot = &mut slots[Self::slot(id, shift)];
                if slot.1.is_some() {
                    return None;
                }
                *slot = (id, Some(ext));
            }
            i += 1;
        }
        Some(slots)
    }

    /// Returns the slot of `id`, below [`SLOTS`] also in speculation with a guest's `id`.
    #[inline(always)]
    const fn slot(id: usize, shift: u32) -> usize {
        (id ^ id >> shift) % SLOTS
    }

    /// Returns the extension with this id, if the index has it.
    #[inline(always)]
    fn find(&self, id: usize) -> Option<Extension> {
        let (there, ext) = self.slots[Self::slot(id, self.shift)];
        // An empty slot answers for id 0, with nothing.
        ext.filter(|_| there == id)
    }
}

impl Extension {
    /// Returns what answers a probe for the extension.
    pub(crate) fn probe(self) -> Probe {
        // Each extension has a row, because the macro makes both.
        ROWS.iter()
            .find(|row| row.ext == self)
            .map_or(Probe::Implemented, |row| row.probe)
    }
}

/// Some of the extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ExtSet(u16);

const _: () = assert!(ROWS.len() <= u16::BITS as usize);

impl ExtSet {
    /// No extension.
    const EMPTY: Self = Self(0);

    /// Returns whether `ext` is in the set.
    #[inline(always)]
    const fn contains(self, ext: Extension) -> bool {
        self.0 & 1 << ext as u8 != 0
    }

    /// Returns the set with `ext` added.
    const fn with(self, ext: Extension) -> Self {
        Self(self.0 | 1 << ext as u8)
    }

    /// Returns the set without `ext`.
    const fn without(self, ext: Extension) -> Self {
        Self(self.0 & !(1 << ext as u8))
    }

    /// Returns the extensions whose row is as `wanted`.
    fn of_rows(wanted: impl Fn(&Row) -> bool) -> Self {
        ROWS.iter()
            .filter(|row| wanted(row))
            .fold(Self::EMPTY, |set, row| set.with(row.ext))
    }
}

/// Why a register access is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RegError {
    /// No such extension (`-ENOENT`).
    NotFound,
    /// Not a value of this register (`-EINVAL`).
    Invalid,
}

/// Which multi register: those bits of a written word that are set switch extensions on, or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Multi {
    /// `KVM_REG_RISCV_SBI_MULTI_EN`; reads as what the vCPU has.
    Enable,
    /// `KVM_REG_RISCV_SBI_MULTI_DIS`; reads as the complement of the other one.
    Disable,
}

/// All extensions of the user API fit into multi register 0.
const _: () = assert!(bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_MAX <= u64::BITS);

/// The SBI of one vCPU: the extensions that it has, and their state.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// The extensions that exist for the vCPU, so that each has its register.
    existing: ExtSet,
    /// The extensions that the guest has.
    enabled: ExtSet,
    /// The settings of the guest's firmware features.
    pub(crate) fwft: fwft::State,
    /// Where the guest wants to have its steal time reported.
    pub(crate) sta: sta::State,
}

impl State {
    /// Returns what a new vCPU has on a host that can provide the extensions for which `provided`
    /// is true. A reset of the hart leaves it as userspace made it.
    pub(crate) fn new(provided: impl Fn(Extension) -> bool) -> Self {
        let exists = |row: &Row| row.initially != Status::Unavailable && provided(row.ext);
        Self {
            existing: ExtSet::of_rows(exists),
            enabled: ExtSet::of_rows(|row| exists(row) && row.initially == Status::Enabled),
            fwft: fwft::State::new(),
            sta: sta::State::Off,
        }
    }

    /// Resets what the extensions keep, with the hart. Userspace's choice of extensions stays.
    pub(crate) fn reset(&mut self) {
        self.fwft.reset();
        self.sta = sta::State::Off;
    }

    /// Makes the extensions be `enabled` from now on. One that goes leaves nothing behind.
    fn switch(&mut self, enabled: ExtSet) {
        if self.enabled.contains(Extension::Fwft) && !enabled.contains(Extension::Fwft) {
            self.fwft.reset();
        }
        if !enabled.contains(Extension::Sta) {
            self.sta = sta::State::Off;
        }
        self.enabled = enabled;
    }

    /// Returns whether the guest has `ext`.
    pub(crate) fn has(&self, ext: Extension) -> bool {
        self.enabled.contains(ext)
    }

    /// Returns the extension with this id, if the guest has it.
    #[inline]
    pub(crate) fn find(&self, id: usize) -> Option<Extension> {
        Extension::of(id).filter(|&ext| self.enabled.contains(ext))
    }

    /// Reads the register of the extension with number `id` in the user API.
    ///
    /// # Errors
    ///
    /// [`RegError::NotFound`] if there is no such register.
    pub(crate) fn get(&self, id: u64) -> Result<bool, RegError> {
        Ok(self.enabled.contains(self.extension_of_register(id)?))
    }

    /// Writes the register of the extension with number `id` in the user API.
    ///
    /// [`RegError::Invalid`] for a value other than 0 and 1, then [`RegError::NotFound`].
    ///
    /// # Errors
    ///
    /// [`RegError::Invalid`] for a value other than 0 and 1; then [`RegError::NotFound`] if there
    /// is no such register.
    pub(crate) fn set(&mut self, id: u64, value: u64) -> Result<(), RegError> {
        let switched = match value {
            0 => ExtSet::without,
            1 => ExtSet::with,
            _ => return Err(RegError::Invalid),
        };
        self.switch(switched(self.enabled, self.extension_of_register(id)?));
        Ok(())
    }

    /// Reads multi register number `word`. Extensions that do not exist read as switched off.
    ///
    /// # Errors
    ///
    /// [`RegError::NotFound`] if there is no such register.
    pub(crate) fn get_multi(&self, multi: Multi, word: u64) -> Result<u64, RegError> {
        if word != 0 {
            return Err(RegError::NotFound);
        }
        let enabled = self
            .registers()
            .filter(|&(_, ext)| self.enabled.contains(ext))
            .fold(0, |mask, (id, _)| mask | bit(id));

        Ok(match multi {
            Multi::Enable => enabled,
            Multi::Disable => !enabled,
        })
    }

    /// Writes multi register number `word`: all of `mask` or, on an error, nothing.
    ///
    /// [`RegError::NotFound`] to switch on what does not exist. To switch off what is not there
    /// anyway changes nothing and succeeds, so that what a multi register reads as can always be
    /// written back.
    ///
    /// # Errors
    ///
    /// [`RegError::NotFound`] if there is no such register, or to switch on what does not exist.
    pub(crate) fn set_multi(&mut self, multi: Multi, word: u64, mask: u64) -> Result<(), RegError> {
        if word != 0 {
            return Err(RegError::NotFound);
        }
        let known = self.registers().fold(0, |known, (id, _)| known | bit(id));
        let switched = match multi {
            Multi::Enable if mask & !known != 0 => return Err(RegError::NotFound),
            Multi::Enable => ExtSet::with,
            Multi::Disable => ExtSet::without,
        };
        let enabled = self
            .registers()
            .filter(|&(id, _)| mask & bit(id) != 0)
            .fold(self.enabled, |enabled, (_, ext)| switched(enabled, ext));
        self.switch(enabled);
        Ok(())
    }

    /// Returns the extensions that have a register, with their numbers in the user API.
    fn registers(&self) -> impl Iterator<Item = (u32, Extension)> {
        let existing = self.existing;
        ROWS.iter()
            .filter(move |row| existing.contains(row.ext))
            .filter_map(|row| Some((row.register?, row.ext)))
    }

    /// Returns the extension whose register has number `id`. Comparison and not an index: nothing
    /// to mispredict.
    fn extension_of_register(&self, id: u64) -> Result<Extension, RegError> {
        self.registers()
            .find(|&(there, _)| u64::from(there) == id)
            .map(|(_, ext)| ext)
            .ok_or(RegError::NotFound)
    }
}

/// Returns the bit of a register number in a multi register.
fn bit(id: u32) -> u64 {
    1u64.wrapping_shl(id)
}
