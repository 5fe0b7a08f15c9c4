// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! What userspace wants the interrupt controller to be like, before it exists. Answers to
//! `aia_config()` and to the checks of `aia_init()` in `aia_device.c`.
//!
//! A [`AiaParams`] is changed attribute by attribute, each checked by itself. [`AiaParams::plan`]
//! checks what they make together; the controller is then built from the [`AiaLayout`] alone.

use crate::{
    aia::{
        layout::{
            GroupLayout,
            LayoutBits, //
        },
        msi::{
            GuestIndex,
            HartIndex, //
        }, //
    },
    bindings,
    kvm_core::addr::Gpa, //
};

/// How interrupt files are made (`KVM_DEV_RISCV_AIA_MODE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// In software.
    Emulation,
    /// In hardware; a vCPU without a file cannot run.
    HwAccel,
    /// In hardware on a CPU that has a free file, else in software.
    Auto,
}

impl Mode {
    /// Returns userspace's number of the mode.
    pub(crate) const fn raw(self) -> u32 {
        match self {
            Self::Emulation => bindings::KVM_DEV_RISCV_AIA_MODE_EMUL,
            Self::HwAccel => bindings::KVM_DEV_RISCV_AIA_MODE_HWACCEL,
            Self::Auto => bindings::KVM_DEV_RISCV_AIA_MODE_AUTO,
        }
    }

    /// Returns the mode with userspace's number `raw`, if there is one.
    const fn from_raw(raw: u32) -> Option<Self> {
        match raw {
            bindings::KVM_DEV_RISCV_AIA_MODE_EMUL => Some(Self::Emulation),
            bindings::KVM_DEV_RISCV_AIA_MODE_HWACCEL => Some(Self::HwAccel),
            bindings::KVM_DEV_RISCV_AIA_MODE_AUTO => Some(Self::Auto),
            _ => None,
        }
    }
}

/// An attribute of the group `KVM_DEV_RISCV_AIA_GRP_CONFIG`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// The [`Mode`].
    Mode,
    /// The highest identity of a file.
    Ids,
    /// The highest source of the APLIC.
    Sources,
    /// Bits of the group index in an address.
    GroupBits,
    /// The position of the group index in an address.
    GroupShift,
    /// Bits of the hart index.
    HartBits,
    /// Bits of the guest index.
    GuestBits,
}

impl Setting {
    /// Returns the setting that attribute `attr` names.
    pub(crate) fn from_attr(attr: u64) -> Option<Self> {
        match u32::try_from(attr).ok()? {
            bindings::KVM_DEV_RISCV_AIA_CONFIG_MODE => Some(Self::Mode),
            bindings::KVM_DEV_RISCV_AIA_CONFIG_IDS => Some(Self::Ids),
            bindings::KVM_DEV_RISCV_AIA_CONFIG_SRCS => Some(Self::Sources),
            bindings::KVM_DEV_RISCV_AIA_CONFIG_GROUP_BITS => Some(Self::GroupBits),
            bindings::KVM_DEV_RISCV_AIA_CONFIG_GROUP_SHIFT => Some(Self::GroupShift),
            bindings::KVM_DEV_RISCV_AIA_CONFIG_HART_BITS => Some(Self::HartBits),
            bindings::KVM_DEV_RISCV_AIA_CONFIG_GUEST_BITS => Some(Self::GuestBits),
            _ => None,
        }
    }
}

/// What the host allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// One more than the highest identity of a file of the hardware.
    pub(crate) max_ids: u32,
    /// Guest files that each CPU has at least.
    pub(crate) guest_files: u32,
}

/// Why a configuration cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Invalid;

/// The settings that userspace has made so far. C: `KVM_DEV_RISCV_AIA_GRP_CONFIG`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AiaParams {
    /// How interrupt files are made.
    mode: Mode,
    /// The highest identity of a file.
    ids: u32,
    /// The number of APLIC sources; 0 for no APLIC.
    sources: u32,
    /// The index fields in the addresses of files.
    bits: LayoutBits,
    /// The address of the APLIC, once userspace has set it.
    aplic: Option<Gpa>,
}

impl AiaParams {
    /// Returns what there is without any wish of userspace.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            mode: if limits.guest_files > 0 {
                Mode::Auto
            } else {
                Mode::Emulation
            },
            ids: limits.max_ids.saturating_sub(1),
            sources: 0,
            bits: LayoutBits {
                guest: 0,
                hart: 0,
                group: 0,
                group_shift: bindings::KVM_DEV_RISCV_AIA_GROUP_SHIFT_MIN,
            },
            aplic: None,
        }
    }

    /// Returns the value of a setting.
    pub(crate) fn get(&self, setting: Setting) -> u32 {
        match setting {
            Setting::Mode => self.mode.raw(),
            Setting::Ids => self.ids,
            Setting::Sources => self.sources,
            Setting::GroupBits => self.bits.group,
            Setting::GroupShift => self.bits.group_shift,
            Setting::HartBits => self.bits.hart,
            Setting::GuestBits => self.bits.guest,
        }
    }

    /// Changes a setting.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if it cannot have the value, whatever the other settings are.
    pub(crate) fn set(
        &mut self,
        setting: Setting,
        value: u32,
        limits: Limits,
    ) -> Result<(), Invalid> {
        let below = |limit: u32| (value < limit).then_some(value).ok_or(Invalid);
        match setting {
            Setting::Mode => {
                let mode = Mode::from_raw(value).ok_or(Invalid)?;
                if mode != Mode::Emulation && limits.guest_files == 0 {
                    return Err(Invalid);
                }
                self.mode = mode;
            }
            // The number of identities is a multiple of 64, less identity 0.
            Setting::Ids => {
                let least = bindings::KVM_DEV_RISCV_AIA_IDS_MIN;
                if value & least != least {
                    return Err(Invalid);
                }
                self.ids = below(limits.max_ids.min(bindings::KVM_DEV_RISCV_AIA_IDS_MAX))?;
            }
            Setting::Sources => {
                self.sources = below(limits.max_ids.min(bindings::KVM_DEV_RISCV_AIA_SRCS_MAX))?;
            }
            Setting::GroupBits => {
                self.bits.group = below(bindings::KVM_DEV_RISCV_AIA_GROUP_BITS_MAX)?;
            }
            Setting::GroupShift => {
                if value < bindings::KVM_DEV_RISCV_AIA_GROUP_SHIFT_MIN {
                    return Err(Invalid);
                }
                self.bits.group_shift = below(bindings::KVM_DEV_RISCV_AIA_GROUP_SHIFT_MAX)?;
            }
            Setting::HartBits => {
                self.bits.hart = below(bindings::KVM_DEV_RISCV_AIA_HART_BITS_MAX)?;
            }
            Setting::GuestBits => {
                self.bits.guest = below(bindings::KVM_DEV_RISCV_AIA_GUEST_BITS_MAX)?;
            }
        }
        Ok(())
    }

    /// Returns where the APLIC is to be, if userspace has said so.
    pub(crate) fn aplic(&self) -> Option<Gpa> {
        self.aplic
    }

    /// Puts the APLIC at `gpa`.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if it is not aligned.
    pub(crate) fn set_aplic(&mut self, gpa: Gpa) -> Result<(), Invalid> {
        if gpa.get() & (u64::from(bindings::KVM_DEV_RISCV_APLIC_ALIGN) - 1) != 0 {
            return Err(Invalid);
        }
        self.aplic = Some(gpa);
        Ok(())
    }

    /// Checks what the settings make together, for guest physical addresses below `end`.
    ///
    /// # Errors
    ///
    /// [`Invalid`]: more sources than identities; sources without an APLIC or beyond the guest's
    /// addresses; index bits that overlap.
    pub(crate) fn plan(&self, end: u64) -> Result<AiaLayout, Invalid> {
        if self.ids < self.sources {
            return Err(Invalid);
        }
        let aplic = match self.sources {
            0 => None,
            sources => {
                let gpa = self.aplic.ok_or(Invalid)?;
                fits(gpa, bindings::KVM_DEV_RISCV_APLIC_SIZE, end)?;
                Some((gpa, sources))
            }
        };
        Ok(AiaLayout {
            mode: self.mode,
            ids: self.ids,
            aplic,
            layout: GroupLayout::new(self.bits).map_err(|_| Invalid)?,
            end,
            base: None,
        })
    }
}

/// Checks that `size` bytes at `gpa` end at or before `end`.
fn fits(gpa: Gpa, size: u32, end: u64) -> Result<(), Invalid> {
    match gpa.get().checked_add(size.into()) {
        Some(last) if last <= end => Ok(()),
        _ => Err(Invalid),
    }
}

/// A controller that can be built; its interrupt files are added one by one.
#[derive(Clone, Copy)]
pub(crate) struct AiaLayout {
    /// How files are made.
    pub(crate) mode: Mode,
    /// The highest identity of each.
    pub(crate) ids: u32,
    /// Where the APLIC is, and its highest source; [`None`] without sources.
    pub(crate) aplic: Option<(Gpa, u32)>,
    /// How addresses name files.
    pub(crate) layout: GroupLayout,
    /// The end of the guest physical addresses.
    end: u64,
    /// The base address that all files placed so far have in common.
    base: Option<u64>,
}

impl AiaLayout {
    /// Places a file at `gpa`; returns the index of its hart.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if the guest cannot address it, if it is not the supervisor's own page, if it
    /// differs from the others in more than the index bits, or if it is in the APLIC.
    pub(crate) fn place(&mut self, gpa: Gpa) -> Result<HartIndex, Invalid> {
        fits(gpa, bindings::KVM_DEV_RISCV_IMSIC_SIZE, self.end)?;
        let place = self.layout.split(gpa);
        if place.offset != 0 || place.guest != GuestIndex::SUPERVISOR {
            return Err(Invalid);
        }
        if *self.base.get_or_insert(place.base) != place.base {
            return Err(Invalid);
        }
        if let Some((aplic, _)) = self.aplic {
            let offset = gpa.get().wrapping_sub(aplic.get());
            if offset < bindings::KVM_DEV_RISCV_APLIC_SIZE.into() {
                return Err(Invalid);
            }
        }
        Ok(place.hart)
    }

    /// Returns the part of all files' addresses that names no hart; [`None`] without files.
    pub(crate) fn base(&self) -> Option<u64> {
        self.base
    }
}
