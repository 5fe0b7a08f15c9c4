// SPDX-License-Identifier: GPL-2.0

//! The steal time extension: what a hart was ready to run, and did not, is reported to the guest in
//! memory. Answers to `vcpu_sbi_sta.c`.
//!
//! The host counts it for each thread anyway. Whether there is news is seen when the vCPU is loaded,
//! from a [`Watch`]; it is written before the guest is next entered, by [`record`], where the thread
//! may sleep. A guest that did not ask costs a load and a branch.
//!
//! Memory that is not there is nobody's fault that concerns the host: slots come and go while the
//! guest runs, and their memory is userspace's. What cannot be written now is written later
//! (c-review S7).
//!
//! `preempted` is always 0: the specification lets it be, and to write there the moment that a
//! thread is switched away would take memory that cannot be missing.

use kernel::{
    prelude::*,
    task::Task, //
};

use crate::{
    kernel_ext::{
        atomic::{
            fence, //
            AtomicU64,
            Ordering,
        },
        sched, //
    },
    kvm_core::{
        guestmem::Place,
        object::Vcpu,
        srcu::SlotsRead, //
    },
    sbi::Unfinished,
    sbi_abi::{
        message::{
            system::StealTime, //
            SbiError,
        },
        sta::{
            self,
            Area,
            Misaligned,
            RunDelay, //
            State,
        }, //
    },
    vcpu::{
        request::Request,
        token::{
            Loaded,
            OwnedVcpu, //
        }, //
    }, //
};

/// What the thread of a vCPU has waited, as far as it is reported: compared whenever the vCPU is
/// loaded.
pub(crate) struct Watch(AtomicU64);

/// Nobody wants to know. Nothing has waited so long.
const OFF: u64 = u64::MAX;

/// Nothing is known of the thread.
const UNKNOWN: u64 = u64::MAX - 1;

/// Returns what this thread has waited for a CPU.
fn run_delay() -> RunDelay {
    RunDelay {
        thread: Task::current_raw() as usize,
        nanos: sched::run_delay(),
    }
}

impl Watch {
    /// Of a vCPU without steal time.
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(OFF))
    }

    /// The vCPU is loaded: asks for [`record`] if there is something to be reported. Does not
    /// sleep.
    #[inline(always)]
    pub(crate) fn load(&self, vcpu: &Vcpu) {
        // Relaxed, here and below: nothing else depends on it.
        let reported = self.0.load(Ordering::Relaxed);
        if reported != OFF && reported != sched::run_delay() {
            vcpu.request(Request::StealTime);
        }
    }

    /// From now on, `waited` is reported.
    fn start(&self, waited: RunDelay) {
        self.0.store(waited.nanos, Ordering::Relaxed);
    }

    /// `waited` is reported, unless what was `seen` before has changed: off stays off.
    fn advance(&self, seen: u64, waited: RunDelay) {
        let _ = self
            .0
            .compare_exchange(seen, waited.nanos, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Nothing is reported any more, whatever the [`State`] says: the guest is no more that asked
    /// for it. From any CPU.
    pub(super) fn stop(&self) {
        self.0.store(OFF, Ordering::Relaxed);
    }

    /// Whether nothing is reported.
    fn is_off(&self) -> bool {
        self.0.load(Ordering::Relaxed) == OFF
    }
}

impl OwnedVcpu<'_> {
    /// The low word of the area's address, as [`State::low`].
    pub(crate) fn steal_time(&self) -> u64 {
        if self.vcpu.shared().steal.is_off() {
            State::Off.low()
        } else {
            self.owned.sbi.sta.low()
        }
    }

    /// Sets the low word, as [`State::set_low`]. There need not be memory.
    pub(crate) fn set_steal_time(&mut self, low: u64) -> Result<(), Misaligned> {
        let watch = &self.vcpu.shared().steal;
        if watch.is_off() {
            self.owned.sbi.sta = State::Off;
        }
        self.owned.sbi.sta.set_low(low)?;
        // Changed or not, it is looked at with the next load.
        watch.0.store(UNKNOWN, Ordering::Relaxed);
        Ok(())
    }
}

/// Serves `request`. May sleep.
#[inline(never)]
pub(super) fn handle(vcpu: &mut Loaded<'_>, request: StealTime) -> Result<usize, Unfinished> {
    let watch = &vcpu.vcpu.shared().steal;
    match request {
        StealTime::Report(area) => {
            let waited = run_delay();
            clear(vcpu.vcpu, area)?;
            vcpu.owned.sbi.sta = State::Reported(area, waited);
            watch.start(waited);
        }
        StealTime::Stop => {
            vcpu.owned.sbi.sta = State::Off;
            watch.stop();
        }
    }
    Ok(0)
}

/// Makes all of `area` zero, if there is memory.
fn clear(vcpu: &Vcpu, area: Area) -> Result<(), Unfinished> {
    let slots = SlotsRead::new(vcpu);
    let place = Place::find(&slots, area.gpa(), Area::BYTES);
    let mut place = place.map_err(|none| Unfinished::without(none, SbiError::InvalidAddress))?;
    let written = place.write(&[0; Area::BYTES]);
    written.map_err(|_| SbiError::InvalidAddress.into())
}

/// Serves [`Request::StealTime`]: reports what has come. May sleep.
#[inline(never)]
pub(crate) fn record(vcpu: &mut Loaded<'_>) {
    let waited = run_delay();
    let shared = vcpu.vcpu.shared();
    let seen = shared.steal.0.load(Ordering::Relaxed);
    if seen == OFF {
        vcpu.owned.sbi.sta = State::Off;
    }
    let Some(area) = vcpu.owned.sbi.sta.area() else {
        // The reset of the hart, or whoever switched the extension off, left the watch to us.
        shared.steal.stop();
        return;
    };
    // The memory of a machine that does not run stays as it is. When the hart is loaded to run,
    // this is asked for again.
    if shared.power.is_stopped() {
        return;
    }
    let written = match vcpu.owned.sbi.sta {
        State::Off => Some(()),
        State::Restored(_) => begin(vcpu.vcpu, area),
        State::Reported(_, before) => add(vcpu.vcpu, area, waited.since(before)),
    };
    // If not, the next load asks again, and nothing is lost.
    if written.is_some() {
        vcpu.owned.sbi.sta = State::Reported(area, waited);
        shared.steal.advance(seen, waited);
    }
}

/// Goes on with `area` as another host left it. That one may have written that the hart is
/// preempted.
fn begin(vcpu: &Vcpu, area: Area) -> Option<()> {
    let slots = SlotsRead::new(vcpu);
    let mut place = Place::find(&slots, area.gpa(), Area::BYTES).ok()?;
    place.write_u64(Area::PREEMPTED, 0).ok()
}

/// Adds `nanos` to the steal time in `area`.
fn add(vcpu: &Vcpu, area: Area, nanos: u64) -> Option<()> {
    if nanos == 0 {
        return Some(());
    }
    let slots = SlotsRead::new(vcpu);
    let mut place = Place::find(&slots, area.gpa(), Area::BYTES).ok()?;
    // Read first: what is not there is brought in before the sequence is odd.
    let steal = place.read_u64(Area::STEAL).ok()?;
    let changing = sta::changing(place.read_u32(Area::SEQUENCE).ok()?);
    place.write_u32(Area::SEQUENCE, changing).ok()?;
    // Other harts of the guest that see the new time see an odd or the new sequence, and those that
    // see the new sequence see the new time.
    fence(Ordering::Release);
    place
        .write_u64(Area::STEAL, steal.wrapping_add(nanos))
        .ok()?;
    fence(Ordering::Release);
    place.write_u32(Area::SEQUENCE, sta::changed(changing)).ok()
}
