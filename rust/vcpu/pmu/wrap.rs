// SPDX-License-Identifier: GPL-2.0

//! When a counter wraps around. Pure.
//!
//! An event of the host is counted from 0; the guest's counter has another value and a width of its
//! own. What perf is told is how many events there are until the guest's counter wraps, and it can
//! be told numbers of 63 bits only. Answers to `kvm_pmu_get_sample_period()` and to the arithmetic
//! in `kvm_riscv_pmu_overflow()`.

use crate::sync::atomic::{
    AtomicBool,
    AtomicU64,
    Ordering, //
};

/// The longest period that perf takes.
const MAX_PERIOD: u64 = i64::MAX as u64;

/// The ones of a counter with one bit more than `width`.
pub(crate) const fn mask(width: u32) -> u64 {
    u64::MAX >> (u64::BITS - 1).saturating_sub(width)
}

/// How many events a counter with these ones has from `value` to its wrap; [`u64::MAX`] for one
/// more than that.
pub(crate) const fn distance(value: u64, mask: u64) -> u64 {
    (mask - (value & mask)).saturating_add(1)
}

/// Where the next wrap of a started counter is. Written by the thread that starts it while it is
/// stopped, and by its own overflows.
pub(crate) struct Wrap {
    /// The ones of the counter.
    mask: u64,
    /// The event by which it wraps; there are no more events than [`u64::MAX`].
    next: AtomicU64,
    /// It did wrap since it was started.
    happened: AtomicBool,
}

/// What [`Wrap::expired`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) struct Expired {
    /// Whether the counter wrapped.
    pub(crate) wrapped: Wrapped,
    /// The period from here on.
    pub(crate) period: u64,
}

/// Whether a counter wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrapped {
    /// Not yet: perf could not be told of so far a time.
    NotYet,
    /// It did, once or more.
    Now,
}

impl Wrap {
    /// Of a counter with these ones, stopped at 0.
    pub(crate) fn new(mask: u64) -> Self {
        Self {
            mask,
            next: AtomicU64::new(distance(0, mask)),
            happened: AtomicBool::new(false),
        }
    }

    /// The counter starts with `value`, no event counted; the first period.
    // Relaxed here and below: enabling the event and its interrupt order all.
    pub(crate) fn start(&self, value: u64) -> u64 {
        let distance = distance(value, self.mask);
        self.next.store(distance, Ordering::Relaxed);
        self.happened.store(false, Ordering::Relaxed);
        distance.min(MAX_PERIOD)
    }

    /// A period is over, and `count` events were counted since the start.
    pub(crate) fn expired(&self, count: u64) -> Expired {
        let next = self.next.load(Ordering::Relaxed);
        let (wrapped, next) = match count.checked_sub(next) {
            Some(beyond) => {
                self.happened.store(true, Ordering::Relaxed);
                // From where the counter is now.
                let next = count.saturating_add(distance(beyond, self.mask));
                self.next.store(next, Ordering::Relaxed);
                (Wrapped::Now, next)
            }
            None => (Wrapped::NotYet, next),
        };
        Expired {
            wrapped,
            period: next.saturating_sub(count).clamp(1, MAX_PERIOD),
        }
    }

    /// Whether the counter has wrapped since it was started.
    pub(crate) fn happened(&self) -> bool {
        self.happened.load(Ordering::Relaxed)
    }
}
