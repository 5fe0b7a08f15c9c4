// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! Sets of ISA extensions.

use crate::isa::table::{
    Ext,
    ROWS, //
};

/// A set of extensions: bit n stands for the one with `KVM_RISCV_ISA_EXT_*` number n.
///
/// # Invariants
///
/// Only bits that stand for an extension are ever set in what [`Self::with`] and
/// [`Self::from_id`] make; [`Self::from_word`] keeps whatever userspace wrote.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct IsaSet(u128);

/// Every extension has a bit.
const _: () = assert!(ROWS.len() <= u128::BITS as usize);

impl IsaSet {
    /// No extension.
    pub(crate) const EMPTY: Self = Self(0);

    /// Returns the extension with this number as a set of one; the empty set if there is none.
    #[inline]
    pub(crate) fn from_id(id: u64) -> Self {
        if id < ROWS.len() as u64 {
            Self(1u128.wrapping_shl(id as u32))
        } else {
            Self::EMPTY
        }
    }

    /// Returns a set of the 64 bits of `word`, the first of them being extension number `first`.
    #[inline]
    pub(crate) fn from_word(word: u64, first: u32) -> Self {
        Self(u128::from(word).wrapping_shl(first))
    }

    /// Returns the 64 bits that begin with extension number `first`.
    #[inline]
    pub(crate) fn word(self, first: u32) -> u64 {
        self.0.wrapping_shr(first) as u64
    }

    /// Returns whether `ext` is in the set.
    #[inline]
    pub(crate) const fn contains(self, ext: Ext) -> bool {
        self.0 & Self::EMPTY.with(ext).0 != 0
    }

    /// Returns the set with `ext` added.
    #[inline]
    pub(crate) const fn with(self, ext: Ext) -> Self {
        Self(self.0 | 1u128.wrapping_shl(ext.id()))
    }

    /// Returns what is in `self` but not in `other`.
    #[inline]
    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Returns what is in both sets.
    #[inline]
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns what is in either set.
    #[inline]
    pub(crate) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns whether all of the set is in `other`.
    #[inline]
    pub(crate) const fn is_subset_of(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Returns whether nothing is in the set.
    #[inline]
    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns how many extensions are in the set.
    #[cfg(test)]
    pub(crate) const fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// Returns the numbers of the extensions in the set, in ascending order.
    #[cfg(test)]
    pub(crate) fn ids(self) -> impl Iterator<Item = u32> {
        let mut rest = self.0;

        core::iter::from_fn(move || {
            let id = rest.trailing_zeros();
            if id == u128::BITS {
                return None;
            }
            rest &= rest.wrapping_sub(1);
            Some(id)
        })
    }
}

impl core::fmt::Debug for IsaSet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_set()
            .entries(ROWS.iter().map(|row| row.ext).filter(|&e| self.contains(e)))
            .finish()
    }
}
