// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! The firmware features of a hart: which there are, and how the guest has set them.
//!
//! RISC-V Supervisor Binary Interface Specification 3.0, chapter "Firmware Features Extension".
//! It answers to the tables and the state of `vcpu_sbi_fwft.c`. Pure: no locks; a [`State`] is
//! protected by `vcpu->mutex`.
//!
//! A state holds the settings alone. The bits of hedeleg and henvcfg are derived from all that they
//! depend on, each time that one of these changes (`vcpu/config.rs`), so that no bit stays set when
//! the feature goes with an ISA extension that it needs (differences-from-c S18).

use core::mem::offset_of;

use crate::{
    bindings,
    isa::{
        EffectiveIsa,
        Ext, //
    },
    sbi_abi::{
        message::SbiError,
        table::RegError, //
    }, //
};

/// A feature that KVM can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    /// The guest takes the exceptions of misaligned loads and stores itself.
    MisalignedDelegation,
    /// VS-mode ignores a number of the highest bits of an address.
    PointerMasking,
    /// The hart sets the bits A and D of the guest's page-table entries.
    AdUpdating,
    /// VS-mode has landing pads (Zicfilp).
    LandingPad,
    /// VS-mode has shadow stacks (Zicfiss), and can give them to VU-mode.
    ShadowStack,
}

impl Feature {
    /// Returns the feature with this id, which is 32 bits wide.
    ///
    /// # Errors
    ///
    /// [`SbiError::NotSupported`] for a feature that KVM does not have; [`SbiError::Denied`] for an
    /// id that is reserved, or would be the platform's to define.
    pub(crate) fn of(id: u32) -> Result<Self, SbiError> {
        match ROWS.iter().find(|row| row.id == id) {
            Some(row) => Ok(row.feature),
            None if id == bindings::sbi_fwft_feature_t_SBI_FWFT_DOUBLE_TRAP => {
                Err(SbiError::NotSupported)
            }
            None => Err(SbiError::Denied),
        }
    }
}

/// The properties of the host that features need, beyond its ISA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// The exceptions of misaligned loads and stores reach the host, which can pass them on.
    pub(crate) misaligned_traps: bool,
    /// VS-mode can do without the 7 highest bits of an address.
    pub(crate) pmlen_7: bool,
    /// VS-mode can do without the 16 highest bits of an address.
    pub(crate) pmlen_16: bool,
}

/// The guest and host properties that support for a feature depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Platform {
    /// The extensions that the guest has.
    pub(crate) isa: EffectiveIsa,
    /// The properties of the host.
    pub(crate) host: Host,
}

/// A requirement on the platform.
enum Need {
    /// An extension of the guest.
    Isa(Ext),
    /// [`Host::misaligned_traps`].
    MisalignedTraps,
    /// [`Host::pmlen_7`].
    Pmlen7,
    /// [`Host::pmlen_16`].
    Pmlen16,
}

impl Platform {
    /// Returns whether the platform has all of `needs`.
    fn has_all(&self, needs: &[Need]) -> bool {
        needs.iter().all(|need| match need {
            Need::Isa(ext) => self.isa.has(*ext),
            Need::MisalignedTraps => self.host.misaligned_traps,
            Need::Pmlen7 => self.host.pmlen_7,
            Need::Pmlen16 => self.host.pmlen_16,
        })
    }
}

/// A value that a feature can have.
struct Setting {
    value: u64,
    /// The requirements beyond those of the feature.
    needs: &'static [Need],
    /// Exceptions that the guest then takes itself.
    hedeleg: u64,
    /// The bits that are then set in henvcfg.
    henvcfg: u64,
}

impl Setting {
    /// The value after a reset: nothing is on.
    const OFF: Self = Self {
        value: 0,
        needs: &[],
        hedeleg: 0,
        henvcfg: 0,
    };

    /// Returns the other value of a feature that is either on or off.
    const fn on(hedeleg: u64, henvcfg: u64) -> Self {
        Self {
            value: 1,
            needs: &[],
            hedeleg,
            henvcfg,
        }
    }

    /// Returns the setting of a pointer masking length, with its value of `henvcfg.PMM`.
    const fn pmlen(value: u64, needs: &'static [Need], pmm: usize) -> Self {
        Self {
            value,
            needs,
            hedeleg: 0,
            henvcfg: pmm as u64,
        }
    }
}

/// One feature.
struct Row {
    feature: Feature,
    /// Its id in the SBI.
    id: u32,
    /// The first of its registers in the user API.
    register: usize,
    needs: &'static [Need],
    /// What it can be set to, [`Setting::OFF`] first.
    settings: &'static [Setting],
}

/// Number of the first register of a feature.
macro_rules! register {
    ($feature:ident) => {
        offset_of!(bindings::kvm_riscv_sbi_fwft, $feature) / size_of::<u64>()
    };
}

/// The bits of `hedeleg` for misaligned loads and stores.
const MISALIGNED: u64 = 1 << bindings::EXC_LOAD_MISALIGNED | 1 << bindings::EXC_STORE_MISALIGNED;
/// The exception of landing pads and shadow stacks, software-check.
const SOFTWARE_CHECK: u64 = 1 << bindings::EXC_SOFTWARE_CHECK;

/// All features, in the order of their registers.
const ROWS: &[Row; 5] = &[
    Row {
        feature: Feature::MisalignedDelegation,
        id: bindings::sbi_fwft_feature_t_SBI_FWFT_MISALIGNED_EXC_DELEG,
        register: register!(misaligned_deleg),
        needs: &[Need::MisalignedTraps],
        settings: &[Setting::OFF, Setting::on(MISALIGNED, 0)],
    },
    Row {
        feature: Feature::PointerMasking,
        id: bindings::sbi_fwft_feature_t_SBI_FWFT_POINTER_MASKING_PMLEN,
        register: register!(pointer_masking),
        needs: &[Need::Isa(Ext::Smnpm)],
        settings: &[
            Setting::OFF,
            Setting::pmlen(7, &[Need::Pmlen7], bindings::ENVCFG_PMM_PMLEN_7),
            Setting::pmlen(16, &[Need::Pmlen16], bindings::ENVCFG_PMM_PMLEN_16),
        ],
    },
    Row {
        feature: Feature::AdUpdating,
        id: bindings::sbi_fwft_feature_t_SBI_FWFT_PTE_AD_HW_UPDATING,
        register: register!(pte_ad_hw_updating),
        // The updates are always on in a guest with Svadu and without Svade.
        needs: &[Need::Isa(Ext::Svadu), Need::Isa(Ext::Svade)],
        settings: &[Setting::OFF, Setting::on(0, bindings::ENVCFG_ADUE as u64)],
    },
    Row {
        feature: Feature::LandingPad,
        id: bindings::sbi_fwft_feature_t_SBI_FWFT_LANDING_PAD,
        register: register!(landing_pad),
        needs: &[Need::Isa(Ext::Zicfilp)],
        settings: &[
            Setting::OFF,
            Setting::on(SOFTWARE_CHECK, bindings::ENVCFG_LPE as u64),
        ],
    },
    Row {
        feature: Feature::ShadowStack,
        id: bindings::sbi_fwft_feature_t_SBI_FWFT_SHADOW_STACK,
        register: register!(shadow_stack),
        needs: &[Need::Isa(Ext::Zicfiss)],
        settings: &[
            Setting::OFF,
            Setting::on(SOFTWARE_CHECK, bindings::ENVCFG_SSE as u64),
        ],
    },
];

/// Registers of a feature in the user API.
const PER_FEATURE: usize = size_of::<bindings::kvm_riscv_sbi_fwft_feature>() / size_of::<u64>();

/// The rows stand in the order of the registers, without a gap, and begin with what a reset makes.
const _: () = {
    assert!(
        size_of::<bindings::kvm_riscv_sbi_fwft>() == ROWS.len() * PER_FEATURE * size_of::<u64>()
    );
    let mut i = 0;
    while i < ROWS.len() {
        assert!(ROWS[i].register == i * PER_FEATURE);
        let off = &ROWS[i].settings[0];
        assert!(off.value == 0 && off.hedeleg == 0 && off.henvcfg == 0 && off.needs.is_empty());
        i += 1;
    }
};

impl Row {
    /// Returns the settings that `platform` has.
    fn settings(&self, platform: &Platform) -> impl Iterator<Item = &'static Setting> {
        let platform = *platform;
        self.settings
            .iter()
            .filter(move |setting| platform.has_all(setting.needs))
    }

    /// Returns whether `platform` supports the feature: it has a setting besides off.
    fn is_supported(&self, platform: &Platform) -> bool {
        platform.has_all(self.needs) && self.settings(platform).nth(1).is_some()
    }
}

/// Whether the guest can still change a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lock {
    /// The guest can change it.
    Open,
    /// The guest cannot change it before the hart is reset.
    Locked,
}

impl Lock {
    /// Decodes the flags of a call, which fill the register.
    fn of_flags(flags: usize) -> Result<Self, SbiError> {
        match flags {
            0 => Ok(Self::Open),
            bindings::SBI_FWFT_SET_FLAG_LOCK => Ok(Self::Locked),
            _ => Err(SbiError::InvalidParam),
        }
    }

    /// Returns the flags that the guest locked the feature with.
    const fn flags(self) -> u64 {
        match self {
            Self::Open => 0,
            Self::Locked => bindings::SBI_FWFT_SET_FLAG_LOCK as u64,
        }
    }
}

/// Whether userspace lets the guest have a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Userspace lets the guest have the feature.
    Granted,
    /// The guest does not have the feature. Its setting has effect nevertheless.
    Withheld,
}

/// The state of one feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Item {
    access: Access,
    lock: Lock,
    /// The value of one of the feature's settings.
    value: u64,
}

/// Which of a feature's registers.
#[derive(Clone, Copy)]
enum Part {
    Enable,
    Flags,
    Value,
}

/// The registers of a feature stand in this order.
const PARTS: [Part; PER_FEATURE] = [Part::Enable, Part::Flags, Part::Value];

const _: () = {
    use bindings::kvm_riscv_sbi_fwft_feature as Layout;

    assert!(
        offset_of!(Layout, enable) == 0
            && offset_of!(Layout, flags) == size_of::<u64>()
            && offset_of!(Layout, value) == 2 * size_of::<u64>()
    );
};

/// The bits that all features in effect set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    /// Exceptions that the guest takes itself, beyond those that every guest does.
    pub(crate) hedeleg: u64,
    /// What is on in henvcfg, beyond what the guest's ISA has on.
    pub(crate) henvcfg: u64,
}

/// The features of one hart.
///
/// A feature that the platform does not support keeps its item here, without effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State([Item; ROWS.len()]);

impl State {
    /// Returns the state of a hart whose features are all off, and the guest's to change.
    pub(crate) const fn new() -> Self {
        Self(
            [Item {
                access: Access::Granted,
                lock: Lock::Open,
                value: Setting::OFF.value,
            }; ROWS.len()],
        )
    }

    /// Resets values and locks with the hart. What userspace withholds stays withheld.
    pub(crate) fn reset(&mut self) {
        for item in &mut self.0 {
            item.lock = Lock::Open;
            item.value = Setting::OFF.value;
        }
    }

    /// Returns the feature that `is` picks, if `platform` supports it.
    fn find(
        &self,
        platform: &Platform,
        is: impl Fn(&Row) -> bool,
    ) -> Option<(&'static Row, &Item)> {
        ROWS.iter()
            .zip(&self.0)
            .find(|&(row, _)| is(row))
            .filter(|(row, _)| row.is_supported(platform))
    }

    /// Returns the same as [`find`](Self::find), to be changed.
    fn find_mut(
        &mut self,
        platform: &Platform,
        is: impl Fn(&Row) -> bool,
    ) -> Option<(&'static Row, &mut Item)> {
        ROWS.iter()
            .zip(&mut self.0)
            .find(|(row, _)| is(row))
            .filter(|(row, _)| row.is_supported(platform))
    }

    /// Sets `feature` for the guest (`sbi_fwft_set()`).
    ///
    /// # Errors
    ///
    /// [`SbiError::NotSupported`] if it is not there for the guest, [`SbiError::InvalidParam`] for
    /// flags or a value that mean nothing, [`SbiError::DeniedLocked`] after the guest locked it,
    /// even to what it is set to. Nothing is changed then.
    pub(crate) fn set(
        &mut self,
        platform: &Platform,
        feature: Feature,
        value: usize,
        flags: usize,
    ) -> Result<(), SbiError> {
        let (row, item) = self
            .find_mut(platform, |row| row.feature == feature)
            .filter(|(_, item)| item.access == Access::Granted)
            .ok_or(SbiError::NotSupported)?;
        let lock = Lock::of_flags(flags)?;
        if item.lock == Lock::Locked {
            return Err(SbiError::DeniedLocked);
        }
        let value = value as u64;
        if !row.settings(platform).any(|setting| setting.value == value) {
            return Err(SbiError::InvalidParam);
        }
        item.value = value;
        item.lock = lock;
        Ok(())
    }

    /// Returns what `feature` is set to (`sbi_fwft_get()`).
    ///
    /// # Errors
    ///
    /// [`SbiError::NotSupported`] if it is not there for the guest.
    pub(crate) fn get(&self, platform: &Platform, feature: Feature) -> Result<usize, SbiError> {
        self.find(platform, |row| row.feature == feature)
            .filter(|(_, item)| item.access == Access::Granted)
            .map(|(_, item)| item.value as usize)
            .ok_or(SbiError::NotSupported)
    }

    /// Returns the numbers of the registers that there are: those of the features that `platform`
    /// supports.
    pub(crate) fn registers(platform: &Platform) -> u128 {
        ROWS.iter()
            .filter(|row| row.is_supported(platform))
            .fold(0, |numbers, row| {
                numbers | ((1 << PER_FEATURE) - 1) << row.register
            })
    }

    /// Reads register `number`.
    ///
    /// # Errors
    ///
    /// [`RegError::NotFound`].
    pub(crate) fn get_register(&self, platform: &Platform, number: usize) -> Result<u64, RegError> {
        let (row, item) = self
            .find(platform, |row| row.part(number).is_some())
            .ok_or(RegError::NotFound)?;
        Ok(match row.part(number).ok_or(RegError::NotFound)? {
            Part::Enable => (item.access == Access::Granted).into(),
            Part::Flags => item.lock.flags(),
            Part::Value => item.value,
        })
    }

    /// Writes register `number`. Userspace is bound neither by a lock nor by what it withholds, so
    /// that it can write what it read in any order. Of flags, only the one that is defined counts.
    ///
    /// # Errors
    ///
    /// [`RegError::NotFound`]; [`RegError::Invalid`] for what the register cannot have.
    pub(crate) fn set_register(
        &mut self,
        platform: &Platform,
        number: usize,
        value: u64,
    ) -> Result<(), RegError> {
        let (row, item) = self
            .find_mut(platform, |row| row.part(number).is_some())
            .ok_or(RegError::NotFound)?;
        match row.part(number).ok_or(RegError::NotFound)? {
            Part::Enable => {
                item.access = match value {
                    0 => Access::Withheld,
                    1 => Access::Granted,
                    _ => return Err(RegError::Invalid),
                }
            }
            Part::Flags if value & Lock::Locked.flags() != 0 => item.lock = Lock::Locked,
            Part::Flags => item.lock = Lock::Open,
            Part::Value => {
                if !row.settings(platform).any(|setting| setting.value == value) {
                    return Err(RegError::Invalid);
                }
                item.value = value;
            }
        }
        Ok(())
    }

    /// Returns what the features that `platform` supports come to.
    pub(crate) fn effect(&self, platform: &Platform) -> Effect {
        ROWS.iter()
            .zip(&self.0)
            .filter(|(row, _)| row.is_supported(platform))
            .flat_map(|(row, item)| {
                row.settings(platform)
                    .filter(|setting| setting.value == item.value)
            })
            .fold(Effect::default(), |effect, setting| Effect {
                hedeleg: effect.hedeleg | setting.hedeleg,
                henvcfg: effect.henvcfg | setting.henvcfg,
            })
    }
}

impl Row {
    /// Returns which of the feature's registers has `number`, if one has.
    fn part(&self, number: usize) -> Option<Part> {
        PARTS.get(number.checked_sub(self.register)?).copied()
    }
}
