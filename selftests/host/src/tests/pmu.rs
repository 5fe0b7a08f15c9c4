// SPDX-License-Identifier: GPL-2.0

//! Performance counters: which there are, and what calls leave in them.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    rc::Rc, //
};

use crate::{
    kvm_core::object::{
        HeldVcpu,
        Vcpu, //
    },
    sbi_abi::message::{
        pmu::{
            Choice,
            Counters as Named,
            Events,
            Filter,
            Run,
            Value, //
        }, //
        SbiError,
    },
    vcpu::pmu::{
        counters::{
            self,
            Counters,
            NotStarted,
            Overflows,
            Report,
            Room,
            Setup,
            Source, //
        },
        event::{
            Event,
            FirmwareEvent,
            HardwareEvent, //
        },
        firmware::FirmwareCounts,
        layout::{
            Kind,
            Layout,
            MAX_COUNTERS, //
        },
        perf_event_absent,
        wrap, //
    }, //
};

mod calls;
mod model;
mod wraps;

const CYCLES: u64 = 1;
const INSTRUCTIONS: u64 = 2;
const CACHE_MISSES: u64 = 4;
const FIRMWARE: u64 = 0xf_0000;
const SET_TIMER: u64 = FIRMWARE | 5;
const IPI_SENT: u64 = FIRMWARE | 6;

/// A host with `time`, cycles, instructions and five more, of 48 bits.
const HARDWARE: usize = 8;
const WIDTH: u32 = 47;

fn layout() -> Layout {
    Layout::new(HARDWARE as u32 - 1, WIDTH).unwrap()
}

fn named(base: usize, mask: u64) -> Named {
    Named { base, mask }
}

/// What the host's counters have counted so far, and how many events there are of them.
#[derive(Default)]
struct Machine {
    counted: BTreeMap<(u32, u64), u64>,
    alive: usize,
    refuse_start: bool,
    refuse_create: bool,
    no_room: bool,
}

type Shared = Rc<RefCell<Machine>>;

struct MockEvent {
    machine: Shared,
    what: (u32, u64),
    since: Option<u64>,
    left_at: Option<u64>,
    wrapped: bool,
    value: u64,
    mask: u64,
}

impl MockEvent {
    fn now(&self) -> u64 {
        *self.machine.borrow().counted.get(&self.what).unwrap_or(&0)
    }
}

impl counters::Event for MockEvent {
    fn start(&mut self, value: u64) -> Result<(), NotStarted> {
        assert_eq!(self.since, None, "started twice");
        if self.machine.borrow().refuse_start {
            return Err(NotStarted);
        }
        self.value = value & self.mask;
        self.wrapped = false;
        self.since = Some(self.now());
        Ok(())
    }

    fn stop(&mut self) -> u64 {
        let count = self.count();
        self.wrapped = count > self.mask - self.value;
        assert!(self.since.take().is_some(), "stopped twice");
        count
    }

    fn count(&self) -> u64 {
        self.now() - self.since.expect("read while it is stopped")
    }

    fn wrapped(&self) -> bool {
        self.wrapped
    }

    fn leave(&mut self) {
        assert_eq!(self.left_at.replace(self.now()), None, "left twice");
    }

    fn enter(&mut self) {
        let left_at = self.left_at.take().expect("entered twice");
        // What came in between is not this counter's.
        self.since = self.since.map(|since| since + (self.now() - left_at));
    }
}

impl Drop for MockEvent {
    fn drop(&mut self) {
        self.machine.borrow_mut().alive -= 1;
    }
}

struct Mock(Shared);

impl Source for Mock {
    type Event = MockEvent;

    fn create(
        &mut self,
        event: HardwareEvent,
        _: Filter,
        width: u32,
        room: Room,
    ) -> Option<MockEvent> {
        let machine = self.0.borrow();
        if machine.refuse_create || room == Room::Needed && machine.no_room {
            return None;
        }
        drop(machine);
        self.0.borrow_mut().alive += 1;
        Some(MockEvent {
            machine: self.0.clone(),
            what: (event.kind, event.config),
            since: None,
            left_at: None,
            wrapped: false,
            value: 0,
            mask: wrap::mask(width),
        })
    }
}

/// A hart and its machine.
struct Hart {
    machine: Shared,
    counters: Counters<MockEvent>,
    firmware: FirmwareCounts,
}

impl Hart {
    fn new() -> Self {
        Self {
            machine: Shared::default(),
            counters: Counters::new(layout()),
            firmware: FirmwareCounts::new(),
        }
    }

    fn configure(&mut self, set: Named, setup: Setup) -> Result<usize, SbiError> {
        let among = layout().select(set).ok_or(SbiError::InvalidParam)?;
        let mut source = Mock(self.machine.clone());
        self.counters
            .configure(among, setup, &mut source, &self.firmware)
    }

    fn start(&mut self, set: Named, initial: Option<u64>) -> Result<(), SbiError> {
        let which = layout().select(set).ok_or(SbiError::InvalidParam)?;
        self.counters.start(which, |_| initial, &self.firmware)
    }

    fn stop(&mut self, set: Named, events: Events) -> (Result<(), SbiError>, Vec<Report>) {
        let mut reports = Vec::new();
        let Some(which) = layout().select(set) else {
            return (Err(SbiError::InvalidParam), reports);
        };
        let result = self
            .counters
            .stop(which, events, &self.firmware, |report| reports.push(report));
        (result, reports)
    }

    fn read(&self, index: usize) -> Option<u64> {
        let firmware = self.counters.read_firmware(index, &self.firmware);
        firmware.or(self.counters.read_hardware(index, &self.firmware))
    }

    /// `times` events of the hardware.
    fn happen(&self, idx: u64, times: u64) {
        match Event::decode(idx, 0) {
            Some(Event::Hardware(event)) => {
                let mut machine = self.machine.borrow_mut();
                *machine
                    .counted
                    .entry((event.kind, event.config))
                    .or_default() += times;
            }
            Some(Event::Firmware(event)) => (0..times).for_each(|_| self.firmware.note(event)),
            None => panic!("{idx:#x} is no event"),
        }
    }
}

fn setup(idx: u64) -> Setup {
    Setup {
        event: Event::decode(idx, 0).unwrap(),
        choice: Choice::Match,
        value: Value::Keep,
        run: Run::Stopped,
        filter: Filter {
            user: false,
            supervisor: false,
        },
    }
}

fn all() -> Named {
    named(0, u64::MAX >> (64 - layout().count()))
}

fn only(index: usize) -> Named {
    named(index, 1)
}

#[test]
fn counters_are_numbered_like_their_csrs() {
    let layout = layout();

    assert_eq!(layout.count(), HARDWARE + FirmwareEvent::COUNT);
    assert_eq!(layout.info(0), Some(63 << 12 | 0xc00));
    assert_eq!(layout.info(1), None);
    assert_eq!(layout.info(2), Some(63 << 12 | 0xc02));
    assert_eq!(layout.info(3), Some((WIDTH as usize) << 12 | 0xc03));
    assert_eq!(
        layout.info(HARDWARE - 1),
        Some((WIDTH as usize) << 12 | 0xc07)
    );
    for index in HARDWARE..layout.count() {
        assert_eq!(layout.info(index), Some(1 << 63 | 63 << 12));
        assert_eq!(layout.kind(index), Some(Kind::Firmware));
    }
    for index in [layout.count(), 63, 64, 1 << 32, usize::MAX] {
        assert_eq!(layout.info(index), None);
    }
}

#[test]
fn as_many_counters_as_there_are_csrs() {
    assert_eq!(Layout::new(0, 63), None);
    assert_eq!(Layout::new(3, 0), None);
    assert_eq!(Layout::new(3, 64), None);
    for many in [31, 32, 100, u32::MAX] {
        let layout = Layout::new(many, 63).unwrap();
        assert_eq!(layout.count(), MAX_COUNTERS);
        assert_eq!(layout.info(31), Some(63 << 12 | 0xc1f));
        assert_eq!(layout.kind(32), Some(Kind::Firmware));
    }
    // Cycles alone.
    let layout = Layout::new(1, 63).unwrap();
    assert_eq!(layout.kind(2), Some(Kind::Firmware));
}

#[test]
fn sets_name_counters_that_exist() {
    let layout = layout();
    let members = |base, mask| {
        layout.select(named(base, mask)).map(|set| {
            set.members()
                .map(|member| (member.index, member.bit))
                .collect::<Vec<_>>()
        })
    };

    assert_eq!(members(0, 0b101), Some(vec![(0, 0), (2, 2)]));
    assert_eq!(members(3, 0b11), Some(vec![(3, 0), (4, 1)]));
    let last = layout.count() - 1;
    assert_eq!(members(last, 1), Some(vec![(last, 0)]));
    for (base, mask) in [
        (0, 0),
        (last, 0),
        (last, 2),
        (layout.count(), 1),
        (0, u64::MAX),
        (usize::MAX, 1),
        (usize::MAX, 2),
        (usize::MAX - 62, 1 << 63),
    ] {
        assert_eq!(members(base, mask), None, "{base} {mask:#x}");
    }
}

#[test]
fn an_event_gets_a_free_counter_of_its_kind() {
    let mut hart = Hart::new();

    assert_eq!(hart.configure(all(), setup(CYCLES)), Ok(0));
    assert_eq!(hart.configure(all(), setup(INSTRUCTIONS)), Ok(2));
    assert_eq!(hart.configure(all(), setup(CACHE_MISSES)), Ok(3));
    // Another counter of cycles is one of those that count anything.
    assert_eq!(hart.configure(all(), setup(CYCLES)), Ok(4));
    assert_eq!(hart.configure(all(), setup(SET_TIMER)), Ok(HARDWARE));
    assert_eq!(hart.configure(all(), setup(SET_TIMER)), Ok(HARDWARE + 1));
    assert_eq!(hart.machine.borrow().alive, 4);
    drop(hart.counters);
    assert_eq!(hart.machine.borrow().alive, 0);
}

#[test]
fn an_events_own_counter_is_taken_only_from_the_set() {
    let refused = Err(SbiError::NotSupported);
    for set in [only(1), only(2), only(HARDWARE), named(1, 0b10)] {
        assert_eq!(Hart::new().configure(set, setup(CYCLES)), refused);
    }
    assert_eq!(
        Hart::new().configure(named(1, 0b1111), setup(CYCLES)),
        Ok(3)
    );
    assert_eq!(
        Hart::new().configure(named(1, 0b10), setup(INSTRUCTIONS)),
        Ok(2)
    );
    assert_eq!(
        Hart::new().configure(named(0, 0b111), setup(CACHE_MISSES)),
        refused
    );
    assert_eq!(
        Hart::new().configure(named(0, 0xff), setup(SET_TIMER)),
        refused
    );
}

#[test]
fn an_events_own_counter_takes_another_event_while_it_is_stopped() {
    let mut hart = Hart::new();

    assert_eq!(hart.configure(only(0), setup(CYCLES)), Ok(0));
    assert_eq!(hart.configure(only(0), setup(CYCLES)), Ok(0));
    assert_eq!(hart.machine.borrow().alive, 1);
    assert_eq!(hart.start(only(0), None), Ok(()));
    assert_eq!(
        hart.configure(only(0), setup(CYCLES)),
        Err(SbiError::NotSupported)
    );
    // Others do not: their event may be wanted later.
    assert_eq!(hart.configure(only(3), setup(CYCLES)), Ok(3));
    assert_eq!(
        hart.configure(only(3), setup(CYCLES)),
        Err(SbiError::NotSupported)
    );
}

/// differences-from-c S2: what C leaked.
#[test]
fn an_event_of_hardware_is_never_on_a_counter_of_firmware() {
    let mut hart = Hart::new();
    let first = |idx| Setup {
        choice: Choice::First,
        ..setup(idx)
    };

    assert_eq!(
        hart.configure(only(HARDWARE), setup(SET_TIMER)),
        Ok(HARDWARE)
    );
    let refused = Err(SbiError::NotSupported);
    assert_eq!(hart.configure(only(HARDWARE), first(CYCLES)), refused);
    assert_eq!(hart.machine.borrow().alive, 0);
    // It still counts what it did.
    assert_eq!(hart.start(only(HARDWARE), None), Ok(()));
    hart.happen(SET_TIMER, 3);
    assert_eq!(hart.read(HARDWARE), Some(3));
    assert_eq!(hart.configure(only(0), setup(CYCLES)), Ok(0));
    assert_eq!(hart.configure(only(0), first(SET_TIMER)), refused);
    assert_eq!(hart.configure(only(0), first(INSTRUCTIONS)), refused);
    assert_eq!(hart.configure(only(1), first(CYCLES)), refused);
    assert_eq!(hart.machine.borrow().alive, 1);
    assert_eq!(
        hart.stop(only(0), Events::Reset).0,
        Err(SbiError::AlreadyStopped)
    );
    assert_eq!(hart.machine.borrow().alive, 0);
    // The first of a set is taken, free or not.
    assert_eq!(hart.configure(named(3, 7), first(CYCLES)), Ok(3));
    assert_eq!(hart.configure(named(3, 7), first(CACHE_MISSES)), Ok(3));
    assert_eq!(hart.machine.borrow().alive, 1);
}

/// differences-from-c S6.
#[test]
fn whether_a_counter_is_started_is_the_counters_and_not_the_events() {
    let mut hart = Hart::new();
    let auto = |idx| Setup {
        run: Run::Started,
        choice: Choice::First,
        ..setup(idx)
    };

    assert_eq!(hart.configure(only(0), auto(CYCLES)), Ok(0));
    assert_eq!(hart.start(only(0), None), Err(SbiError::AlreadyStarted));
    hart.happen(CYCLES, 10);
    assert_eq!(hart.stop(only(0), Events::Keep).0, Ok(()));
    hart.happen(CYCLES, 10);
    assert_eq!(hart.read(0), Some(10));
    // A new event is not started because the old one was.
    assert_eq!(hart.configure(only(0), auto(CYCLES)), Ok(0));
    let stopped = Setup {
        choice: Choice::First,
        ..setup(CYCLES)
    };
    assert_eq!(hart.configure(only(0), stopped), Ok(0));
    assert_eq!(hart.start(only(0), Some(7)), Ok(()));
    // A start that is refused changes nothing.
    assert_eq!(
        hart.start(only(0), Some(1000)),
        Err(SbiError::AlreadyStarted)
    );
    assert_eq!(hart.read(0), Some(7));
    // Firmware, the same.
    let c = hart.configure(all(), auto(SET_TIMER)).unwrap_err();
    assert_eq!(c, SbiError::NotSupported, "the first is none of firmware");
    assert_eq!(
        hart.configure(only(HARDWARE), auto(SET_TIMER)),
        Ok(HARDWARE)
    );
    assert_eq!(
        hart.start(only(HARDWARE), Some(5)),
        Err(SbiError::AlreadyStarted)
    );
    hart.happen(SET_TIMER, 2);
    assert_eq!(hart.read(HARDWARE), Some(2));
}

#[test]
fn two_counters_of_one_firmware_event() {
    let mut hart = Hart::new();
    let (a, b) = (HARDWARE, HARDWARE + 1);

    assert_eq!(hart.configure(only(a), setup(SET_TIMER)), Ok(a));
    assert_eq!(hart.configure(only(b), setup(SET_TIMER)), Ok(b));
    hart.happen(SET_TIMER, 5);
    assert_eq!(hart.start(only(a), Some(100)), Ok(()));
    hart.happen(SET_TIMER, 10);
    assert_eq!(hart.start(only(b), Some(u64::MAX)), Ok(()));
    hart.happen(SET_TIMER, 10);
    assert_eq!(hart.stop(only(a), Events::Keep).0, Ok(()));
    hart.happen(SET_TIMER, 10);
    hart.happen(IPI_SENT, 10);
    assert_eq!((hart.read(a), hart.read(b)), (Some(120), Some(19)));
    hart.firmware.want(0);
    hart.happen(SET_TIMER, 10);
    assert_eq!(hart.firmware.count(FirmwareEvent::SetTimer), 30);
}

#[test]
fn a_host_that_refuses() {
    let mut hart = Hart::new();
    let auto = Setup {
        run: Run::Started,
        ..setup(CYCLES)
    };

    hart.machine.borrow_mut().refuse_create = true;
    assert_eq!(hart.configure(only(0), auto), Err(SbiError::NotSupported));
    assert_eq!(hart.read(0), Some(0));
    hart.machine.borrow_mut().refuse_create = false;
    hart.machine.borrow_mut().refuse_start = true;
    assert_eq!(hart.configure(only(0), auto), Err(SbiError::Failed));
    assert_eq!(hart.start(only(0), Some(9)), Err(SbiError::Failed));
    assert_eq!(hart.read(0), Some(0));
    hart.machine.borrow_mut().refuse_create = true;
    hart.machine.borrow_mut().refuse_start = false;
    // The old event stays where there is no new one.
    let first = Setup {
        choice: Choice::First,
        ..setup(CYCLES)
    };
    assert_eq!(hart.configure(only(0), first), Err(SbiError::NotSupported));
    assert_eq!(hart.start(only(0), None), Ok(()));
}

/// found F12: a counter that the host has no counter for is not configured; one that takes the place
/// of another needs none.
#[test]
fn a_host_without_room() {
    let mut hart = Hart::new();
    let first = Setup {
        choice: Choice::First,
        ..setup(CYCLES)
    };

    assert_eq!(hart.configure(only(3), setup(CYCLES)), Ok(3));
    hart.machine.borrow_mut().no_room = true;
    let refused = Err(SbiError::NotSupported);
    assert_eq!(hart.configure(only(4), setup(CYCLES)), refused);
    // It is not counting, so that it has no counter of the host to give away.
    assert_eq!(hart.configure(only(3), first), refused);
    assert_eq!(hart.start(only(3), Some(5)), Ok(()));
    assert_eq!(hart.configure(only(3), first), Ok(3));
    assert_eq!(hart.machine.borrow().alive, 1);
    assert_eq!(hart.read(3), Some(5));
}

/// found F9: Zicntr's two counters hold something, with an event or without.
#[test]
fn cycles_and_instructions_can_always_be_read() {
    let mut hart = Hart::new();

    assert_eq!((hart.read(0), hart.read(2)), (Some(0), Some(0)));
    assert_eq!((hart.read(1), hart.read(3)), (None, None));
    for index in [0, 2, 3] {
        let event = if index == 2 { INSTRUCTIONS } else { CYCLES };
        assert_eq!(hart.configure(only(index), setup(event)), Ok(index));
        assert_eq!(hart.start(only(index), Some(100)), Ok(()));
        hart.happen(event, 7);
        assert_eq!(hart.stop(only(index), Events::Reset).0, Ok(()));
        hart.happen(event, 7);
    }
    assert_eq!((hart.read(0), hart.read(2)), (Some(107), Some(107)));
    assert_eq!(hart.read(3), None);
}

/// found F18: what the thread does between one `KVM_RUN` and the next is not the guest's.
#[test]
fn counters_count_in_a_run_alone() {
    let mut hart = Hart::new();

    for index in [0, 3, 4] {
        assert_eq!(hart.configure(only(index), setup(CYCLES)), Ok(index));
    }
    // Nothing counts: nothing to do.
    hart.counters.leave();
    hart.counters.enter();
    assert_eq!(hart.start(named(0, 0b1001), Some(10)), Ok(()));
    hart.happen(CYCLES, 5);
    for _ in 0..3 {
        hart.counters.leave();
        hart.happen(CYCLES, 1000);
        hart.counters.enter();
        hart.happen(CYCLES, 5);
    }
    assert_eq!(hart.stop(only(0), Events::Keep).0, Ok(()));
    hart.counters.leave();
    hart.counters.enter();
    hart.happen(CYCLES, 1);
    let values = [0, 3, 4].map(|index| hart.read(index));
    assert_eq!(values, [Some(30), Some(31), Some(0)]);
}

#[test]
fn counters_have_their_width() {
    let mut hart = Hart::new();

    assert_eq!(hart.configure(only(3), setup(CYCLES)), Ok(3));
    assert_eq!(hart.start(only(3), Some(u64::MAX - 1)), Ok(()));
    assert_eq!(hart.read(3), Some(u64::MAX >> 16 & !1));
    hart.happen(CYCLES, 5);
    assert_eq!(hart.read(3), Some(3));
}

#[test]
fn what_is_told_of_counters_that_stop() {
    let mut hart = Hart::new();
    let wrapped = |reports: Vec<Report>| reports.into_iter().map(|r| r.wrapped).collect::<Vec<_>>();

    assert_eq!(hart.configure(only(3), setup(CYCLES)), Ok(3));
    assert_eq!(
        hart.configure(only(HARDWARE), setup(SET_TIMER)),
        Ok(HARDWARE)
    );
    assert_eq!(hart.start(only(3), Some(17)), Ok(()));
    let (result, reports) = hart.stop(named(2, u64::MAX >> 40), Events::Keep);
    // Both are told of, also the one that was stopped before.
    assert_eq!(result, Err(SbiError::AlreadyStopped));
    let places: Vec<_> = reports.iter().map(|r| (r.bit, r.value)).collect();
    assert_eq!(places, [(1, 17), (HARDWARE - 2, 0)]);
    assert_eq!(wrapped(reports), [false, false]);
    // One without an event is none.
    let (result, reports) = hart.stop(only(4), Events::Reset);
    assert_eq!((result, reports), (Ok(()), vec![]));
    // One that wraps says so, also if it loses its event (found F15).
    for events in [Events::Keep, Events::Reset] {
        assert_eq!(hart.start(only(3), Some(u64::MAX)), Ok(()));
        hart.happen(CYCLES, 5);
        let (result, reports) = hart.stop(only(3), events);
        assert_eq!((result, reports[0].value), (Ok(()), 4));
        assert_eq!(wrapped(reports), [true]);
    }
}

/// The kernel's own driver is not in its configuration.
#[test]
fn without_the_driver_there_are_no_counters() {
    let event = HardwareEvent { kind: 0, config: 0 };
    let filter = Filter {
        user: false,
        supervisor: false,
    };
    assert_eq!(perf_event_absent::layout(), None);
    assert!(!perf_event_absent::can_count(event));
    let source = perf_event_absent::PerfSource::of(HeldVcpu(&Vcpu), Overflows::Told);
    let mut source = source.unwrap();
    assert!(source.create(event, filter, WIDTH, Room::Needed).is_none());
}
