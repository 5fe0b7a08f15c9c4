// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! The G-stage translation mode of a VM: which page-table format `hgatp` selects.
//!
//! Everything that depends on the format (walk depth, guest physical width, memslot limit,
//! `hgatp.MODE`) derives from [`Mode`]. RISC-V Privileged Architecture, "Hypervisor Guest Address
//! Translation and Protection (hgatp) Register". Answers to the page-table levels of `gstage.c`.

use crate::kvm_core::addr::{
    Gfn,
    GfnRange,
    Level,
    PAGE_SHIFT, //
};

/// A G-stage page-table format.
///
/// The discriminant is the encoding of `hgatp.MODE`; formats are ordered by width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Mode {
    /// Three levels, 41-bit guest physical addresses.
    Sv39x4 = 8,
    /// Four levels, 50-bit guest physical addresses.
    Sv48x4 = 9,
    /// Five levels, 59-bit guest physical addresses.
    Sv57x4 = 10,
}

/// The number is not the encoding of a format that we have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnknownMode;

impl Mode {
    /// Every format, narrowest first.
    pub(crate) const ALL: [Mode; 3] = [Mode::Sv39x4, Mode::Sv48x4, Mode::Sv57x4];

    /// Returns the encoding in `hgatp.MODE`.
    #[inline(always)]
    pub(crate) const fn encoding(self) -> u64 {
        self as u64
    }

    /// Returns the number of page-table levels.
    #[cfg(CONFIG_DEBUG_FS)]
    #[inline(always)]
    pub(crate) const fn levels(self) -> u32 {
        self.top() as u32 + 1
    }

    /// Returns the level of the root table's entries.
    #[inline(always)]
    pub(crate) const fn top(self) -> Level {
        match self {
            Mode::Sv39x4 => Level::Giga,
            Mode::Sv48x4 => Level::Tera,
            Mode::Sv57x4 => Level::Peta,
        }
    }

    /// Returns the width of a guest physical address, in bits: the root has four times the usual
    /// entries.
    #[inline(always)]
    pub(crate) const fn gpa_bits(self) -> u32 {
        self.top().shift() + 11
    }

    /// Returns the frames that a guest can address.
    #[inline(always)]
    pub(crate) const fn frames(self) -> GfnRange {
        GfnRange::from_len(Gfn::new(0), 1 << (self.gpa_bits() - PAGE_SHIFT))
    }

    /// Returns the narrowest format that can address `bits` bits, if there is one.
    pub(crate) fn for_gpa_bits(bits: u64) -> Option<Mode> {
        Self::ALL
            .into_iter()
            .find(|mode| bits <= u64::from(mode.gpa_bits()))
    }
}

/// Parses `hgatp.MODE` as userspace passes it: any other value, however large, is refused here,
/// so no shift or table index ever sees it.
impl TryFrom<u64> for Mode {
    type Error = UnknownMode;

    fn try_from(encoding: u64) -> Result<Self, UnknownMode> {
        Self::ALL
            .into_iter()
            .find(|mode| mode.encoding() == encoding)
            .ok_or(UnknownMode)
    }
}
