// SPDX-License-Identifier: GPL-2.0

//! Counting events of a vCPU. Answers to the increments of `vcpu->stat` throughout C.
//!
//! Names and layout of the counters are userspace ABI and live in [`crate::kvm_core::stats`]. No
//! lock: only the vCPU's own thread counts, and a thread that reads or clears the counters
//! meanwhile does not stop it.

use crate::kvm_core::{
    object::Vcpu,
    stats, //
};

pub(crate) use stats::Counter;

impl Vcpu {
    /// Counts one event. In the vCPU's own thread.
    #[inline(always)]
    pub(crate) fn count(&self, counter: Counter) {
        stats::add(self, counter, 1);
    }

    /// Counts `events` at once. In the vCPU's own thread.
    #[inline(always)]
    pub(crate) fn count_many(&self, counter: Counter, events: u64) {
        stats::add(self, counter, events);
    }
}
