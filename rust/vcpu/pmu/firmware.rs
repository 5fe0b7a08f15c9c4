// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! Counts of firmware events of one hart. Answers to `kvm_riscv_vcpu_pmu_incr_fw()`.
//!
//! Any CPU may count an event of any hart (an IPI is received where it is sent), so the counts are
//! atomics. They go up only, and only while a counter wants them; what a counter shows is the
//! difference to what it began with, so that several counters can count one event.
//!
//! No locks. The set of wanted events is changed by the holder of `vcpu->mutex`.

use crate::{
    kernel_ext::atomic::{
        AtomicU32,
        AtomicU64,
        Ordering, //
    },
    vcpu::pmu::event::FirmwareEvent, //
};

/// The counts.
pub(crate) struct FirmwareCounts {
    /// The events that a started counter counts, a bit for each. Most of the time there is none,
    /// which is all that a CPU with an event to count looks at.
    wanted: AtomicU32,
    /// The count of each event, while it is wanted.
    counts: [AtomicU64; FirmwareEvent::COUNT],
}

impl FirmwareCounts {
    /// Returns the events of a hart where no counter counts one.
    pub(crate) fn new() -> Self {
        Self {
            wanted: AtomicU32::new(0),
            counts: core::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Counts `event`, which happened to this hart, if a counter wants it.
    #[inline(always)]
    pub(crate) fn note(&self, event: FirmwareEvent) {
        if self.wanted.load(Ordering::Relaxed) & event.bit() != 0 {
            self.add(event);
        }
    }

    /// Counts all of `events`, which happened to this hart. Which they are is worked out only if a
    /// counter counts anything.
    #[inline(always)]
    pub(crate) fn note_all<const N: usize>(&self, events: impl FnOnce() -> [FirmwareEvent; N]) {
        if self.wanted.load(Ordering::Relaxed) != 0 {
            self.add_all(events);
        }
    }

    /// Counts each of `events` that a counter wants.
    #[cold]
    #[inline(never)]
    fn add_all<const N: usize>(&self, events: impl FnOnce() -> [FirmwareEvent; N]) {
        events().into_iter().for_each(|event| self.note(event));
    }

    /// Adds one to the count of `event`.
    #[cold]
    fn add(&self, event: FirmwareEvent) {
        // Relaxed: the number alone matters.
        if let Some(count) = self.counts.get(event as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns how often `event` happened while it was wanted.
    pub(crate) fn count(&self, event: FirmwareEvent) -> u64 {
        self.counts
            .get(event as usize)
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Makes `events`, a bit for each, those that are counted from now on.
    pub(crate) fn want(&self, events: u32) {
        self.wanted.store(events, Ordering::Relaxed);
    }
}
