// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! The pending interrupts of a guest, as numbers and one atomic word.
//!
//! # The word
//!
//! Two sets of interrupts, in the positions that `hvip` has for them:
//!
//! - *pending*, the low half: what the guest is to see pending, as far as it is known;
//! - *changed*, the high half: those of which `hvip` may not say so yet, because the host changed
//!   them since.
//!
//! For an interrupt that is not *changed*, *pending* is what was last written to `hvip`, or read
//! from it. So a difference between the two is a change by the guest, which can set and clear its
//! own software interrupt and clear a counter overflow. For an interrupt that is *changed*, the
//! host's value is newer and overwrites a change by the guest: an IPI that arrives while the guest
//! acknowledges the one before stays pending.
//!
//! Both halves change in one atomic step, so that no CPU sees an interrupt that is pending but not
//! yet changed, and [`Word::take_changes`] takes exactly what was there: an interrupt that is set
//! an instant later is *changed* again.

use crate::{
    bindings,
    kernel_ext::atomic::{
        fence, //
        AtomicU64,
        Ordering,
    }, //
};

/// An interrupt of the guest, numbered as in `hvip`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Interrupt {
    /// A software interrupt, from another hart or from the hart itself.
    Software = bindings::IRQ_VS_SOFT,
    /// The timer is due.
    Timer = bindings::IRQ_VS_TIMER,
    /// An external interrupt, from the interrupt controller.
    External = bindings::IRQ_VS_EXT,
    /// A performance counter overflowed.
    CounterOverflow = bindings::IRQ_PMU_OVF,
}

impl Interrupt {
    /// Returns the interrupt's number in `scause` and `hvip`.
    pub(crate) const fn number(self) -> u32 {
        self as u32
    }

    /// Returns the interrupt's bit in `hvip`.
    pub(crate) const fn bit(self) -> u32 {
        1 << self.number()
    }
}

/// All interrupts that there are.
const ALL: u32 = Interrupt::Software.bit()
    | Interrupt::Timer.bit()
    | Interrupt::External.bit()
    | Interrupt::CounterOverflow.bit();

/// The interrupts whose number is one lower in the guest than in `hvip`: VS-level in `hvip`,
/// S-level in the guest.
const SHIFTED: u32 = Interrupt::Software.bit() | Interrupt::Timer.bit() | Interrupt::External.bit();

/// Moves bits from their positions in `sip` and `sie` to those in `hvip`.
pub(crate) const fn from_guest(bits: usize) -> u32 {
    let bits = bits as u32;
    bits << bindings::VSIP_TO_HVIP_SHIFT & SHIFTED | bits & ALL & !SHIFTED
}

/// Moves bits from their positions in `hvip` to those in `sip` and `sie`.
pub(crate) const fn to_guest(bits: u32) -> usize {
    ((bits & SHIFTED) >> bindings::VSIP_TO_HVIP_SHIFT | bits & ALL & !SHIFTED) as usize
}

/// A change by the host that is to be applied to `hvip`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "these changes are forgotten otherwise"]
pub(crate) struct Update {
    /// The interrupts that change.
    mask: u32,
    /// Which of `mask` become pending.
    value: u32,
}

impl Update {
    /// Returns whether `interrupt` is to become pending or not, or [`None`] if it did not change.
    #[inline]
    pub(crate) const fn of(self, interrupt: Interrupt) -> Option<bool> {
        if self.mask & interrupt.bit() != 0 {
            Some(self.value & interrupt.bit() != 0)
        } else {
            None
        }
    }

    /// Returns `hvip`, which the caller has just read, with the changes.
    #[inline(always)]
    pub(crate) const fn apply(self, hvip: usize) -> usize {
        hvip & !(self.mask as usize) | self.value as usize
    }
}

/// The word.
pub(crate) struct Word(AtomicU64);

impl Word {
    /// Returns the bits of a vCPU that has nothing pending.
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Packs the pending bits and the mask of changed ones into the word.
    const fn pack(pending: u32, changed: u32) -> u64 {
        (changed as u64) << u32::BITS | pending as u64
    }

    /// Returns the pending bits in `word`.
    const fn pending_in(word: u64) -> u32 {
        word as u32
    }

    /// Returns the mask in `word` of the bits that changed.
    const fn changed_in(word: u64) -> u32 {
        (word >> u32::BITS) as u32
    }

    /// Returns the pending bits, without what the guest has done to them since the last
    /// [`sync`](Self::sync).
    #[inline]
    pub(crate) fn pending(&self) -> u32 {
        Self::pending_in(self.0.load(Ordering::Relaxed))
    }

    /// Makes `interrupt` pending.
    #[inline]
    pub(crate) fn set(&self, interrupt: Interrupt) {
        // Mark it as changed also if it is pending already: the guest may have cleared it in
        // `hvip`. Release: what the interrupt is about is visible to the thread that takes the
        // change.
        self.0.fetch_or(
            Self::pack(interrupt.bit(), interrupt.bit()),
            Ordering::Release,
        );
    }

    /// Makes `interrupt` no longer pending; returns whether it was.
    #[inline]
    pub(crate) fn clear(&self, interrupt: Interrupt) -> bool {
        let bit = interrupt.bit();
        // If it is not pending, it is not pending in `hvip` either, or that change is on its way to
        // `hvip`; unless the guest has set it itself since the last `sync`.
        let by_guest = matches!(interrupt, Interrupt::Software);
        let (Ok(word) | Err(word)) =
            self.0
                .fetch_update(Ordering::Release, Ordering::Relaxed, |word| {
                    (by_guest || Self::pending_in(word) & bit != 0)
                        .then_some(word & !Self::pack(bit, 0) | Self::pack(0, bit))
                });
        Self::pending_in(word) & bit != 0
    }

    /// Clears as [`clear`](Self::clear) does. What other CPUs did before they set the bit is
    /// visible afterwards, so that the caller can look whether there is a reason left to set it
    /// again.
    #[inline]
    pub(crate) fn withdraw(&self, interrupt: Interrupt) -> bool {
        let was_pending = self.clear(interrupt);
        // Pairs with the release in `set`, also if there was nothing to clear.
        fence(Ordering::Acquire);
        was_pending
    }

    /// Returns what changed since the last call, or [`None`] if nothing did. The caller applies it
    /// to the `hvip` of this vCPU before the guest runs again.
    #[inline(always)]
    pub(crate) fn take_changes(&self) -> Option<Update> {
        if Self::changed_in(self.0.load(Ordering::Relaxed)) == 0 {
            return None;
        }
        // Acquire: pairs with the release of the CPU that made the change.
        let word = self.0.fetch_and(Self::pack(u32::MAX, 0), Ordering::Acquire);
        let mask = Self::changed_in(word);
        Some(Update {
            mask,
            value: Self::pending_in(word) & mask,
        })
    }

    /// Takes over changes by the guest from `hvip`, which the caller has read on the CPU that the
    /// vCPU is loaded on.
    #[inline]
    pub(crate) fn sync(&self, hvip: usize) {
        let hvip = hvip as u32;
        // Relaxed: the word publishes no other data.
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                let pending = Self::pending_in(word);
                let by_guest =
                    Interrupt::Software.bit() | Interrupt::CounterOverflow.bit() & pending;
                let news = (pending ^ hvip) & by_guest & !Self::changed_in(word);
                (news != 0).then_some(word ^ Self::pack(news, 0))
            });
    }

    /// Replaces the pending bits as [`replace`](Self::replace) does, but leaves `kept` as it is.
    pub(crate) fn replace_but(&self, kept: Interrupt, pending: u32) {
        // Release: as in `set`, also for the one that is kept.
        let _ = self
            .0
            .fetch_update(Ordering::Release, Ordering::Relaxed, |word| {
                let pending = Self::pending_in(word) & kept.bit() | pending & ALL & !kept.bit();
                Some(Self::pack(pending, ALL))
            });
    }

    /// Replaces all pending bits and marks them as changed, so that `hvip` becomes `pending`.
    pub(crate) fn replace(&self, pending: u32) {
        self.0
            .store(Self::pack(pending & ALL, ALL), Ordering::Release);
    }
}
