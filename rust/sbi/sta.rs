// SPDX-License-Identifier: GPL-2.0

//! The steal time extension: reports to the guest, in its memory, how long a hart was ready to run
//! and did not. Answers to `vcpu_sbi_sta.c`.
//!
//! The host counts it for each thread anyway. A load of the vCPU compares the count with a
//! [`Watch`](crate::vcpu::steal_time::Watch); [`record`] writes the difference before the guest is
//! next entered, where the thread may sleep. A guest that did not ask costs a load and a branch.
//!
//! Missing memory is no error of the host: userspace adds and removes slots while the guest runs,
//! and their memory is userspace's. An amount that cannot be written now is written later
//! (differences-from-c S7).
//!
//! `preempted` is always 0: the specification allows that, and to write it when the scheduler
//! switches the thread away would require memory that is always mapped.

use kernel::prelude::*;

use crate::{
    kernel_ext::atomic::{
        fence, //
        Ordering,
    },
    kvm_core::{
        guestmem::Place,
        object::HeldVcpu,
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
            State, //
        }, //
    },
    vcpu::{
        steal_time::{
            run_delay, //
            OFF,
        },
        token::Loaded, //
    }, //
};

/// Serves `request`. May sleep.
///
/// # Errors
///
/// `Unfinished` with `SbiError::InvalidAddress` if there is no writable memory, or if the dirty
/// ring has no room.
#[inline(never)]
pub(super) fn handle(vcpu: &mut Loaded<'_>, request: StealTime) -> Result<usize, Unfinished> {
    let watch = &vcpu.vcpu().shared().steal;
    match request {
        StealTime::Report(area) => {
            let waited = run_delay();
            clear(vcpu.held(), area)?;
            vcpu.sbi.sta = State::Reported(area, waited);
            watch.start(waited);
        }
        StealTime::Stop => {
            vcpu.sbi.sta = State::Off;
            watch.stop();
        }
    }
    Ok(0)
}

/// Makes all of `area` zero, if there is memory.
fn clear(vcpu: HeldVcpu<'_>, area: Area) -> Result<(), Unfinished> {
    let slots = SlotsRead::new(vcpu);
    let place = Place::find(&slots, area.gpa(), Area::BYTES);
    let mut place = place.map_err(|none| Unfinished::without(none, SbiError::InvalidAddress))?;
    let written = place.write(&[0; Area::BYTES]);
    written.map_err(|_| SbiError::InvalidAddress.into())
}

/// Serves [`Request::StealTime`](crate::vcpu::request::Request::StealTime): adds the time since the
/// last report. May sleep.
#[inline(never)]
pub(crate) fn record(vcpu: &mut Loaded<'_>) {
    let waited = run_delay();
    let shared = vcpu.vcpu().shared();
    let seen = shared.steal.reported();
    if seen == OFF {
        vcpu.sbi.sta = State::Off;
    }
    let Some(area) = vcpu.sbi.sta.area() else {
        // The reset of the hart, or the ioctl that switched the extension off, has not stopped the
        // watch.
        shared.steal.stop();
        return;
    };
    // Userspace may be saving the memory of a VM that does not run, so leave it alone. The next
    // load requests the report again.
    if shared.mp_state.is_stopped() {
        return;
    }
    let written = match vcpu.sbi.sta {
        State::Off => Some(()),
        State::Restored(_) => begin(vcpu.held(), area),
        State::Reported(_, before) => add(vcpu.held(), area, waited.since(before)),
    };
    // If nothing was written, the next load requests the report again, with the full amount.
    if written.is_some() {
        vcpu.sbi.sta = State::Reported(area, waited);
        shared.steal.advance(seen, waited);
    }
}

/// Goes on with `area` as another host left it. That one may have written that the hart is
/// preempted.
fn begin(vcpu: HeldVcpu<'_>, area: Area) -> Option<()> {
    let slots = SlotsRead::new(vcpu);
    let mut place = Place::find(&slots, area.gpa(), Area::BYTES).ok()?;
    place.write_u64(Area::PREEMPTED, 0).ok()
}

/// Adds `nanos` to the steal time in `area`.
fn add(vcpu: HeldVcpu<'_>, area: Area, nanos: u64) -> Option<()> {
    if nanos == 0 {
        return Some(());
    }
    let slots = SlotsRead::new(vcpu);
    let mut place = Place::find(&slots, area.gpa(), Area::BYTES).ok()?;
    // Read `steal` first, so that a missing page is faulted in before the sequence is odd.
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
