// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! The extensions that a guest has in effect, of those that userspace chose, and the CSR values
//! that follow.

use crate::{
    bindings,
    isa::{
        set::IsaSet,
        table::{
            Ext,
            LOSSES,
            ROWS, //
        }, //
        HostIsa,
    }, //
};

// Constants of C helpers come as whatever integer bindgen makes of them, maybe a signed one.
const ENVCFG_PBMTE: u64 = bindings::ENVCFG_PBMTE as u64;
const ENVCFG_STCE: u64 = bindings::ENVCFG_STCE as u64;
const ENVCFG_CBIE: u64 = bindings::ENVCFG_CBIE as u64;
const ENVCFG_CBCFE: u64 = bindings::ENVCFG_CBCFE as u64;
const ENVCFG_CBZE: u64 = bindings::ENVCFG_CBZE as u64;
const ENVCFG_ADUE: u64 = bindings::ENVCFG_ADUE as u64;
const STATEEN0_ENVCFG: u64 = bindings::SMSTATEEN0_HSENVCFG as u64;
/// All that a guest with AIA needs: the IMSIC, the other CSRs, and the indirect ones.
const STATEEN0_AIA: u64 = bindings::SMSTATEEN0_AIA_IMSIC as u64
    | bindings::SMSTATEEN0_AIA as u64
    | bindings::SMSTATEEN0_AIA_ISEL as u64;
const STATEEN0_SSTATEEN0: u64 = bindings::SMSTATEEN0_SSTATEEN0 as u64;

/// The floating-point registers that the guest has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FpUnit {
    /// None: sstatus.FS is off.
    Off,
    /// The registers of F.
    Single,
    /// The registers of D.
    Double,
}

/// The extensions that a guest has in effect.
///
/// # Invariants
///
/// The set is closed under `requires`: if an extension is in the set, then so is everything that it
/// needs and that can be switched off. (An extension that cannot be switched off but is missing in
/// the host's own list does not count.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EffectiveIsa(IsaSet);

impl EffectiveIsa {
    /// Returns what `chosen` has in effect.
    pub(crate) fn of(chosen: IsaSet) -> Self {
        let mut set = IsaSet::EMPTY;

        for (row, losses) in ROWS.iter().zip(&LOSSES) {
            if chosen.contains(row.ext) && losses.is_subset_of(chosen) {
                set = set.with(row.ext);
            }
        }
        // INVARIANT: `LOSSES` names all extensions that each extension falls with, and `chosen` has
        // those of every extension that is in the set.
        Self(set)
    }

    /// Returns whether the guest has `ext`.
    #[inline]
    pub(crate) const fn has(self, ext: Ext) -> bool {
        self.0.contains(ext)
    }

    /// Returns all extensions that the guest has.
    #[cfg(test)]
    pub(crate) const fn set(self) -> IsaSet {
        self.0
    }

    /// Returns which floating-point registers the guest has; with [`FpUnit::Off`], sstatus.FS is
    /// off for good.
    #[inline]
    pub(crate) const fn fp(self) -> FpUnit {
        if self.has(Ext::D) {
            FpUnit::Double
        } else if self.has(Ext::F) {
            FpUnit::Single
        } else {
            FpUnit::Off
        }
    }

    /// Returns whether the guest has vector registers; if not, sstatus.VS is off for good.
    #[inline]
    pub(crate) const fn has_vector(self) -> bool {
        self.has(Ext::V)
    }

    /// Returns henvcfg as it is before the guest has asked for anything through SBI FWFT.
    pub(crate) fn henvcfg(self) -> u64 {
        let mut value = 0;

        if self.has(Ext::Svpbmt) {
            value |= ENVCFG_PBMTE;
        }
        if self.has(Ext::Sstc) {
            value |= ENVCFG_STCE;
        }
        if self.has(Ext::Zicbom) {
            value |= ENVCFG_CBIE | ENVCFG_CBCFE;
        }
        if self.has(Ext::Zicboz) {
            value |= ENVCFG_CBZE;
        }
        // A guest with both begins without hardware updates and asks for them through FWFT.
        if self.has(Ext::Svadu) && !self.has(Ext::Svade) {
            value |= ENVCFG_ADUE;
        }
        value
    }

    /// Returns hstateen0, or [`None`] on a host that does not have it.
    pub(crate) fn hstateen0(self, host: &HostIsa) -> Option<u64> {
        if !host.smstateen {
            return None;
        }

        let mut value = STATEEN0_ENVCFG;
        if self.has(Ext::Ssaia) {
            value |= STATEEN0_AIA;
        }
        if self.has(Ext::Smstateen) {
            value |= STATEEN0_SSTATEEN0;
        }
        Some(value)
    }
}
