// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! Computes when a counter wraps around.
//!
//! An event of the host is counted from 0; the guest's counter has another value and a width of its
//! own. What perf is told is how many events there are until the guest's counter wraps, and it can
//! be told numbers of 63 bits only. Answers to `kvm_pmu_get_sample_period()` and to the arithmetic
//! in `kvm_riscv_pmu_overflow()`.
//!
//! The host counts a thread, which may run other vCPUs as well. What it counts between one
//! `KVM_RUN` of this vCPU and the next is *foreign*: it is no part of the guest's counter.

use crate::kernel_ext::atomic::{
    AtomicBool,
    AtomicU64,
    Ordering, //
};

/// The longest period that perf takes.
const MAX_PERIOD: u64 = i64::MAX as u64;

/// Returns the ones of a counter with one bit more than `width`.
pub(crate) const fn mask(width: u32) -> u64 {
    u64::MAX >> (u64::BITS - 1).saturating_sub(width)
}

/// Returns how many events a counter with these ones has from `value` to its wrap; [`u64::MAX`] for
/// one more than that.
pub(crate) const fn distance(value: u64, mask: u64) -> u64 {
    (mask - (value & mask)).saturating_add(1)
}

/// Where the next wrap of a started counter is. Written by the vCPU's thread, and by the counter's
/// own overflows, which interrupt that thread.
pub(crate) struct Wrap {
    /// The ones of the counter.
    mask: u64,
    /// The guest's event by which it wraps; there are no more events than [`u64::MAX`].
    next: AtomicU64,
    /// Whether the counter has wrapped since it was started.
    happened: AtomicBool,
    /// How many of the events since the start are foreign, up to the last `KVM_RUN`.
    foreign: AtomicU64,
    /// What was counted when the last `KVM_RUN` ended; [`IN_RUN`] in one.
    left_at: AtomicU64,
    /// Perf was told of a period that has nothing to do with the next wrap.
    parked: AtomicBool,
}

/// The value of `left_at` in `KVM_RUN`; no count is that high.
const IN_RUN: u64 = u64::MAX;

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
    /// Returns the wraps of a counter with these ones, stopped at 0.
    pub(crate) fn new(mask: u64) -> Self {
        Self {
            mask,
            next: AtomicU64::new(distance(0, mask)),
            happened: AtomicBool::new(false),
            foreign: AtomicU64::new(0),
            left_at: AtomicU64::new(IN_RUN),
            parked: AtomicBool::new(false),
        }
    }

    /// Starts the counter with `value`, no event counted, in `KVM_RUN`; returns the first period.
    // Relaxed here and below: enabling the event and its interrupt order all.
    pub(crate) fn start(&self, value: u64) -> u64 {
        let distance = distance(value, self.mask);
        self.next.store(distance, Ordering::Relaxed);
        self.happened.store(false, Ordering::Relaxed);
        self.foreign.store(0, Ordering::Relaxed);
        self.left_at.store(IN_RUN, Ordering::Relaxed);
        self.parked.store(false, Ordering::Relaxed);
        distance.min(MAX_PERIOD)
    }

    /// Returns how many of the `count` events since the start are the guest's.
    pub(crate) fn own(&self, count: u64) -> u64 {
        let until = count.min(self.left_at.load(Ordering::Relaxed));
        until.wrapping_sub(self.foreign.load(Ordering::Relaxed))
    }

    /// Looks whether the counter has wrapped when `count` events were counted since the start: a
    /// period is over, or the vCPU's thread has read the count.
    ///
    /// Outside of `KVM_RUN` it cannot, so the period is as long as can be: the next `KVM_RUN`
    /// begins with the right one.
    pub(crate) fn expired(&self, count: u64) -> Expired {
        let own = self.own(count);
        let next = self.next.load(Ordering::Relaxed);
        let (wrapped, next) = match own.checked_sub(next) {
            Some(beyond) => {
                self.happened.store(true, Ordering::Relaxed);
                // The next wrap is counted from where the counter is now.
                let next = own.saturating_add(distance(beyond, self.mask));
                self.next.store(next, Ordering::Relaxed);
                (Wrapped::Now, next)
            }
            None => (Wrapped::NotYet, next),
        };
        let period = if self.left_at.load(Ordering::Relaxed) == IN_RUN {
            period(own, next)
        } else {
            self.parked.store(true, Ordering::Relaxed);
            MAX_PERIOD
        };
        Expired { wrapped, period }
    }

    /// Notes that a `KVM_RUN` ends with `count` events since the start: what comes from here on is
    /// foreign. No overflow interrupts this.
    pub(crate) fn leave(&self, count: u64) {
        self.left_at.store(count, Ordering::Relaxed);
    }

    /// Notes that a `KVM_RUN` begins with `count` events since the start; returns the period that
    /// perf has to be told, if there is one. No overflow interrupts this.
    pub(crate) fn enter(&self, count: u64) -> Option<u64> {
        let left_at = self.left_at.swap(IN_RUN, Ordering::Relaxed);
        if left_at == IN_RUN {
            return None;
        }
        let foreign = self.foreign.load(Ordering::Relaxed);
        let foreign = foreign.wrapping_add(count.wrapping_sub(left_at));
        self.foreign.store(foreign, Ordering::Relaxed);
        // If foreign events have used up some of the period, it ends early, and is set then.
        let parked = self.parked.swap(false, Ordering::Relaxed);
        parked.then(|| period(self.own(count), self.next.load(Ordering::Relaxed)))
    }

    /// Returns whether the counter has wrapped since it was started, as far as was noticed.
    pub(crate) fn happened(&self) -> bool {
        self.happened.load(Ordering::Relaxed)
    }
}

/// Returns the period from the guest's event `own` to the one by which the counter wraps, or as far
/// as perf can be told.
const fn period(own: u64, next: u64) -> u64 {
    let period = next.saturating_sub(own);
    if period == 0 {
        1
    } else if period > MAX_PERIOD {
        MAX_PERIOD
    } else {
        period
    }
}
