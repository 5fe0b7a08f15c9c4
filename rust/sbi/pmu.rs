// SPDX-License-Identifier: GPL-2.0

//! The performance monitoring extension. Answers to `vcpu_sbi_pmu.c` and to those parts of
//! `vcpu_pmu.c` that are about guest memory.
//!
//! RISC-V Supervisor Binary Interface Specification 3.0, chapter "Performance Monitoring Unit
//! Extension". No lock is held around calls of perf and accesses to guest memory, which may sleep.

use crate::{
    bindings,
    isa::Ext,
    kernel_ext::sched,
    kvm_core::{
        addr::{
            Gpa,
            PAGE_SIZE, //
        },
        guestmem::Place,
        srcu::SlotsRead, //
    },
    sbi::Unfinished,
    sbi_abi::message::{
        pmu::{
            Configure,
            Events,
            Initial,
            Pmu,
            Report, //
            EVENT_INFO_SIZE,
        }, //
        SbiError,
    },
    vcpu::{
        pmu::{
            self,
            counters::{
                Overflows,
                Setup, //
            },
            event::Event,
            layout::{
                Layout,
                Selection, //
            },
            perf_event::{
                self,
                PerfSource, //
            }, //
        },
        token::Loaded, //
    }, //
};

/// The most events that a guest can ask about in one call: more than any type has numbers, but few
/// enough to take milliseconds (differences-from-c S8).
const MAX_EVENTS: usize = 1 << 16;

// A snapshot is half a kilobyte, so the functions that have one, and those that are rarely called,
// have stack frames of their own.

/// Serves `call`. May sleep.
///
/// # Errors
///
/// `Unfinished` with the error that the guest gets, or if the dirty ring has no room.
#[inline(never)]
pub(super) fn handle(vcpu: &mut Loaded<'_>, call: Pmu) -> Result<usize, Unfinished> {
    // Without counters the extension does not exist.
    let layout = pmu::layout().ok_or(SbiError::NotSupported)?;
    let select = |named| layout.select(named).ok_or(SbiError::InvalidParam);
    match call {
        Pmu::Number => Ok(layout.count()),
        Pmu::Info(index) => {
            vcpu.pmu.describe();
            Ok(layout.info(index).ok_or(SbiError::InvalidParam)?)
        }
        Pmu::Configure(wanted) => Ok(configure(vcpu, layout, select(wanted.counters)?, wanted)?),
        Pmu::Start(named, initial) => start(vcpu, select(named)?, initial),
        Pmu::Stop {
            counters,
            events,
            report,
        } => stop(vcpu, select(counters)?, events, report),
        Pmu::Read(index) => Ok(read_firmware(vcpu, index)? as usize),
        // The upper half is 0, because a value fits into one register.
        Pmu::ReadHigh(index) => Ok(read_firmware(vcpu, index).map(|_| 0)?),
        Pmu::SetSnapshot(place) => set_snapshot(vcpu, place),
        Pmu::EventInfo { at, count } => event_info(vcpu, at, count),
    }
}

/// Has a counter count an event (`sbi_pmu_counter_config_matching()`); returns which.
#[inline(never)]
fn configure(
    vcpu: &mut Loaded<'_>,
    layout: Layout,
    among: Selection,
    wanted: Configure,
) -> Result<usize, SbiError> {
    let setup = Setup {
        event: Event::decode(wanted.event, wanted.data).ok_or(SbiError::NotSupported)?,
        choice: wanted.choice,
        value: wanted.value,
        run: wanted.run,
        filter: wanted.filter,
    };
    let overflows = if vcpu.isa.effective().has(Ext::Sscofpmf) {
        Overflows::Told
    } else {
        Overflows::Ignored
    };
    let source = PerfSource::of(vcpu.held(), overflows);
    let mut source = source.map_err(|_| SbiError::Failed)?;
    let firmware = &vcpu.vcpu().shared().firmware;
    let counters = vcpu.pmu.make_counters(layout);
    let counters = counters.map_err(|_| SbiError::Failed)?;
    counters.configure(among, setup, &mut source, firmware)
}

/// Starts counters (`sbi_pmu_counter_start()`).
#[inline(never)]
fn start(vcpu: &mut Loaded<'_>, which: Selection, initial: Initial) -> Result<usize, Unfinished> {
    let mut snapshot = Snapshot::empty();
    match initial {
        Initial::Snapshot => snapshot.read(vcpu, which)?,
        Initial::Current | Initial::Value(_) => {}
    }
    let initial = |bit| match initial {
        Initial::Current => None,
        Initial::Value(value) => Some(value),
        Initial::Snapshot => snapshot.values.get(bit).copied(),
    };
    let firmware = &vcpu.vcpu().shared().firmware;
    if let Some(counters) = vcpu.pmu.counters() {
        counters.start(which, initial, firmware)?;
    }
    Ok(0)
}

/// Stops counters (`sbi_pmu_counter_stop()`).
#[inline(never)]
fn stop(
    vcpu: &mut Loaded<'_>,
    which: Selection,
    events: Events,
    report: Report,
) -> Result<usize, Unfinished> {
    if report == Report::Snapshot && vcpu.pmu.snapshot.is_none() {
        return Err(SbiError::NoSharedMemory.into());
    }
    let mut snapshot = Snapshot::empty();
    let mut result = Ok(());
    let firmware = &vcpu.vcpu().shared().firmware;
    if let Some(counters) = vcpu.pmu.stop_counters() {
        result = counters.stop(which, events, firmware, |stopped| {
            let bit = 1 << stopped.bit;
            snapshot.present |= bit;
            if stopped.wrapped {
                snapshot.overflows |= bit;
            }
            if let Some(value) = snapshot.values.get_mut(stopped.bit) {
                *value = stopped.value;
            }
        });
    }
    if report == Report::Snapshot {
        snapshot.write(vcpu)?;
    }
    Ok(result.map(|()| 0)?)
}

/// The snapshot of counters in the guest's memory (`struct riscv_pmu_snapshot_data`). Each counter
/// has the position that it has in the mask of the call.
struct Snapshot {
    /// The positions that have a counter.
    present: u64,
    /// Counters that have wrapped.
    overflows: u64,
    values: [u64; u64::BITS as usize],
}

impl Snapshot {
    /// The size of the snapshot's fields, in bytes.
    const SIZE: usize = Self::offset(u64::BITS as usize);

    /// Returns a snapshot without counters.
    const fn empty() -> Self {
        Self {
            present: 0,
            overflows: 0,
            values: [0; u64::BITS as usize],
        }
    }

    /// Returns the offset of the value of place `bit`.
    const fn offset(bit: usize) -> usize {
        core::mem::offset_of!(bindings::riscv_pmu_snapshot_data, ctr_values)
            + bit * size_of::<u64>()
    }

    /// Returns the memory of a snapshot at `gpa`. The dirty ring has room for it, because the call
    /// writes to no other memory.
    fn place<'s>(slots: &'s SlotsRead<'_>, gpa: Gpa) -> Result<Place<'s>, Unfinished> {
        let place = Place::find(slots, gpa, Self::SIZE);
        place.map_err(|none| Unfinished::without(none, SbiError::Failed))
    }

    /// Reads the values for the counters `which`.
    fn read(&mut self, vcpu: &Loaded<'_>, which: Selection) -> Result<(), Unfinished> {
        let gpa = vcpu.pmu.snapshot;
        let gpa = gpa.ok_or(SbiError::NoSharedMemory)?;
        let slots = SlotsRead::new(vcpu.held());
        let place = Self::place(&slots, gpa)?;
        for member in which.members() {
            if let Some(value) = self.values.get_mut(member.bit) {
                let read = place.read_u64(Self::offset(member.bit));
                *value = read.map_err(|_| SbiError::Failed)?;
            }
        }
        Ok(())
    }

    /// Writes the values of the counters that are present, and the overflows.
    fn write(&self, vcpu: &Loaded<'_>) -> Result<(), Unfinished> {
        let gpa = vcpu.pmu.snapshot;
        let gpa = gpa.ok_or(SbiError::NoSharedMemory)?;
        let slots = SlotsRead::new(vcpu.held());
        let mut place = Self::place(&slots, gpa)?;
        let mut put = |offset, value| place.write_u64(offset, value).map_err(|_| SbiError::Failed);
        put(0, self.overflows)?;
        for (bit, &value) in self.values.iter().enumerate() {
            if self.present >> bit & 1 != 0 {
                put(Self::offset(bit), value)?;
            }
        }
        Ok(())
    }
}

/// Reads a counter of firmware (`sbi_pmu_counter_fw_read()`).
fn read_firmware(vcpu: &mut Loaded<'_>, index: usize) -> Result<u64, SbiError> {
    let firmware = &vcpu.vcpu().shared().firmware;
    let counters = vcpu.pmu.counters();
    counters
        .and_then(|counters| counters.read_firmware(index, firmware))
        .ok_or(SbiError::InvalidParam)
}

/// Sets where snapshots go. Nothing is written now: the specification allows that when counters
/// stop only.
fn set_snapshot(vcpu: &mut Loaded<'_>, place: Option<Gpa>) -> Result<usize, Unfinished> {
    if let Some(gpa) = place {
        let slots = SlotsRead::new(vcpu.held());
        let found = Place::find(&slots, gpa, PAGE_SIZE as usize);
        found.map_err(|none| Unfinished::without(none, SbiError::InvalidAddress))?;
    }
    vcpu.pmu.snapshot = place;
    Ok(0)
}

/// Answers for `count` events from `at` on, a page at a time.
///
/// A dirty ring may be full before all are answered. The guest then makes the same call again,
/// which finds the first answers written, and goes on behind them.
#[inline(never)]
fn event_info(vcpu: &mut Loaded<'_>, at: Gpa, count: usize) -> Result<usize, Unfinished> {
    if count > MAX_EVENTS {
        return Err(SbiError::InvalidParam.into());
    }
    let mut gpa = at;
    let mut left = count;
    while left != 0 {
        let in_page = (PAGE_SIZE - gpa.get() % PAGE_SIZE) as usize / EVENT_INFO_SIZE;
        let here = left.min(in_page);
        event_info_in_page(vcpu, gpa, here)?;
        let next = gpa.get().checked_add((here * EVENT_INFO_SIZE) as u64);
        left -= here;
        gpa = match next {
            Some(next) => Gpa::new(next),
            None if left == 0 => break,
            None => return Err(SbiError::InvalidAddress.into()),
        };
        sched::cond_resched();
    }
    Ok(0)
}

/// Answers for events that are all in one page. Answers that are there already are not written: the
/// page may be dirty because of them, but it does not become so again.
fn event_info_in_page(vcpu: &Loaded<'_>, gpa: Gpa, count: usize) -> Result<(), Unfinished> {
    const IDX: usize = core::mem::offset_of!(bindings::riscv_pmu_event_info, event_idx);
    const OUTPUT: usize = core::mem::offset_of!(bindings::riscv_pmu_event_info, output);
    const DATA: usize = core::mem::offset_of!(bindings::riscv_pmu_event_info, event_data);

    let slots = SlotsRead::new(vcpu.held());
    let place = Place::find(&slots, gpa, count * EVENT_INFO_SIZE);
    let mut place = place.map_err(|none| Unfinished::without(none, SbiError::InvalidAddress))?;
    for entry in (0..count).map(|i| i * EVENT_INFO_SIZE) {
        let unreachable = |_| SbiError::InvalidAddress;
        let idx = place.read_u32(entry + IDX).map_err(unreachable)?;
        let data = place.read_u64(entry + DATA).map_err(unreachable)?;
        if idx & !bindings::SBI_PMU_EVENT_IDX_MASK != 0 {
            return Err(SbiError::InvalidParam.into());
        }
        let output = match Event::decode(idx.into(), data) {
            Some(Event::Firmware(_)) => bindings::RISCV_PMU_EVENT_INFO_OUTPUT_MASK,
            Some(Event::Hardware(event)) if perf_event::can_count(event) => {
                bindings::RISCV_PMU_EVENT_INFO_OUTPUT_MASK
            }
            Some(Event::Hardware(_)) | None => 0,
        };
        if place.read_u32(entry + OUTPUT).map_err(unreachable)? != output {
            place
                .write_u32(entry + OUTPUT, output)
                .map_err(unreachable)?;
        }
    }
    Ok(())
}
