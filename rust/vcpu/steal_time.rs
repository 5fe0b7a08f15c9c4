// SPDX-License-Identifier: GPL-2.0

//! What the thread of a vCPU has waited for a CPU, as far as it is reported to the guest, and the
//! registers that say where. Answers to the state in `vcpu_sbi_sta.c`.

use kernel::{
    prelude::*,
    task::Task, //
};

use crate::{
    kernel_ext::{
        atomic::{
            AtomicU64,
            Ordering, //
        },
        sched, //
    },
    kvm_core::object::Vcpu,
    sbi_abi::sta::{
        Misaligned,
        RunDelay,
        State, //
    },
    vcpu::{
        request::Request,
        token::OwnedVcpu, //
    }, //
};

/// What the thread of a vCPU has waited, as far as it is reported: compared whenever the vCPU is
/// loaded.
pub(crate) struct Watch(AtomicU64);

/// The guest did not ask for its steal time. No thread has waited so long.
pub(crate) const OFF: u64 = u64::MAX;

/// It is not known how long the thread has waited, so that the next load compares unequal.
const UNKNOWN: u64 = u64::MAX - 1;

/// Returns what this thread has waited for a CPU.
pub(crate) fn run_delay() -> RunDelay {
    RunDelay {
        thread: Task::current_raw() as usize,
        nanos: sched::run_delay(),
    }
}

impl Watch {
    /// Returns the state of a vCPU without steal time.
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(OFF))
    }

    /// Makes [`Request::StealTime`] if there is something to be reported, when the vCPU is loaded.
    /// Does not sleep.
    #[inline(always)]
    pub(crate) fn load(&self, vcpu: &Vcpu) {
        // Relaxed, here and below: nothing else depends on it.
        let reported = self.0.load(Ordering::Relaxed);
        if reported != OFF && reported != sched::run_delay() {
            vcpu.request(Request::StealTime);
        }
    }

    /// Returns the nanoseconds that are reported, or [`OFF`].
    pub(crate) fn reported(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Starts reporting; the area has `waited` already.
    pub(crate) fn start(&self, waited: RunDelay) {
        self.0.store(waited.nanos, Ordering::Relaxed);
    }

    /// Notes that the area has `waited` now, unless what was `seen` before has changed: off stays
    /// off.
    pub(crate) fn advance(&self, seen: u64, waited: RunDelay) {
        let _ = self
            .0
            .compare_exchange(seen, waited.nanos, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Stops reporting, whatever the [`State`] says: the guest that asked for it is gone. From any
    /// CPU.
    pub(crate) fn stop(&self) {
        self.0.store(OFF, Ordering::Relaxed);
    }

    /// Returns whether nothing is reported.
    pub(crate) fn is_off(&self) -> bool {
        self.0.load(Ordering::Relaxed) == OFF
    }
}

impl OwnedVcpu<'_> {
    /// Returns the low word of the area's address, as [`State::low`].
    pub(crate) fn steal_time(&self) -> u64 {
        if self.vcpu().shared().steal.is_off() {
            State::Off.low()
        } else {
            self.sbi.sta.low()
        }
    }

    /// Sets the low word, as [`State::set_low`]. There need not be memory.
    ///
    /// # Errors
    ///
    /// [`Misaligned`] if no area can be there.
    pub(crate) fn set_steal_time(&mut self, low: u64) -> Result<(), Misaligned> {
        let watch = &self.vcpu().shared().steal;
        if watch.is_off() {
            self.sbi.sta = State::Off;
        }
        self.sbi.sta.set_low(low)?;
        // Changed or not, it is looked at with the next load.
        watch.0.store(UNKNOWN, Ordering::Relaxed);
        Ok(())
    }
}
