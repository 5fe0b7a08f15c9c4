// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! Which guest memory may hold instructions that the host's CPUs have not seen yet.
//!
//! A guest that writes instructions executes FENCE.I, or has the SBI do so on its harts, before it
//! executes them. It cannot do so for pages that the host's kernel moves: migration, collapse,
//! swap-in and copy-on-write put the same contents into another frame, and the instruction cache of
//! a CPU may still hold what was executed in that frame before. For a process of the host,
//! `flush_icache_pte()` has all CPUs execute FENCE.I when an executable page is mapped, once for
//! each folio, which it marks with `PG_dcache_clean`. The host maps guest memory as data, so
//! nothing does that for a guest, while every page is executable for it.
//!
//! A fault therefore does the same as `flush_icache_pte()` before it maps a page, and with the same
//! mark, in two cases: the guest fetches an instruction from the page; or the host has taken pages
//! of that region away from the guest before, as it does to move them. A load or store anywhere
//! else finds memory that is new to the guest. Pages of zeros that the host has allocated for the
//! fault are not synchronised either: the guest itself writes the instructions that they will hold.
//!
//! This module is pure: it also compiles on the host (`selftests/host`). C has no counterpart.

use crate::{
    kernel_ext::atomic::{
        AtomicU64,
        Ordering, //
    },
    kvm_core::addr::{
        Gfn,
        GfnRange,
        Level, //
    }, //
};

/// How many words [`MovedRegions`] has.
const WORDS: usize = 16;

/// How many regions [`MovedRegions`] tells apart.
const REGIONS: u64 = WORDS as u64 * u64::BITS as u64;

/// The regions of 2 MiB from which the host has taken pages that the guest had.
///
/// Guest memory of up to 2 GiB has a bit for each region; beyond that, several regions share one.
///
/// `kvm->mmu_lock` orders the accesses: it is held for writing where regions are added, and a fault
/// that must not miss one holds it for reading.
pub(crate) struct MovedRegions([AtomicU64; WORDS]);

impl MovedRegions {
    /// Returns a set without regions.
    pub(crate) fn new() -> Self {
        Self(core::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// Adds the regions of `frames`.
    pub(crate) fn add(&self, frames: GfnRange) {
        if frames.is_empty() {
            return;
        }
        let first = Self::region(frames.start());
        let last = Self::region(Gfn::new(frames.end().get().wrapping_sub(1)));
        let last = last.min(first.saturating_add(REGIONS));
        for region in first..=last {
            let (word, bit) = Self::place(region);
            if let Some(word) = self.0.get(word) {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
    }

    /// Returns whether the region of `gfn` may be one of them.
    #[inline(always)]
    pub(crate) fn contains(&self, gfn: Gfn) -> bool {
        let (word, bit) = Self::place(Self::region(gfn));
        // `place` keeps the index in bounds; the compiler sees it.
        self.0[word].load(Ordering::Relaxed) & bit != 0
    }

    /// Returns the number of the region of 2 MiB that has `gfn`.
    #[inline(always)]
    fn region(gfn: Gfn) -> u64 {
        gfn.get() >> Level::Mega.frame_shift()
    }

    /// Returns the index of the word that has the bit of `region`, and the bit.
    #[inline(always)]
    fn place(region: u64) -> (usize, u64) {
        let bits = u64::from(u64::BITS);
        ((region / bits) as usize % WORDS, 1 << (region % bits))
    }
}

/// How many frames a [`FrameSet`] can hold: those of a leaf table.
const SET_FRAMES: usize = 512;

/// Some frames of a leaf table.
pub(crate) struct FrameSet([u64; SET_FRAMES / u64::BITS as usize]);

impl FrameSet {
    /// The set without frames.
    pub(crate) const EMPTY: FrameSet = FrameSet([0; SET_FRAMES / u64::BITS as usize]);

    /// Returns whether there is no frame in the set.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Adds `gfn`.
    pub(crate) fn add(&mut self, gfn: Gfn) {
        let (word, bit) = Self::place(gfn);
        self.0[word] |= bit;
    }

    /// Returns whether `gfn`, a frame of the same leaf table, is in the set.
    pub(crate) fn contains(&self, gfn: Gfn) -> bool {
        let (word, bit) = Self::place(gfn);
        self.0[word] & bit != 0
    }

    /// Returns the word and the bit of `gfn`.
    #[inline(always)]
    fn place(gfn: Gfn) -> (usize, u64) {
        let index = gfn.get() as usize % SET_FRAMES;
        let bits = u64::BITS as usize;
        (index / bits, 1 << (index % bits))
    }
}
