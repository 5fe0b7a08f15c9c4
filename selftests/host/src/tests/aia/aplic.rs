// SPDX-License-Identifier: GPL-2.0

//! The APLIC: the specification's table of pending bits, what registers keep and ignore, wires with
//! several owners, save and restore; and random sequences against a literal model.

use core::{
    mem::MaybeUninit,
    ops::RangeInclusive, //
};

use crate::aia::{
    aplic::{
        word::LineOwner,
        Domain,
        NoRegister,
        NoSource, //
    },
    msi::{
        Delivery,
        GuestIndex,
        HartIndex,
        Level,
        Msi, //
    }, //
};

mod model;
mod random;
mod table;

use model::Mode;

const DOMAINCFG: u32 = 0;
const SOURCECFG: u32 = 0;
const SETIP: u32 = 0x1c00;
const SETIPNUM: u32 = 0x1cdc;
const IN_CLRIP: u32 = 0x1d00;
const CLRIPNUM: u32 = 0x1ddc;
const SETIE: u32 = 0x1e00;
const SETIENUM: u32 = 0x1edc;
const CLRIE: u32 = 0x1f00;
const CLRIENUM: u32 = 0x1fdc;
const SETIPNUM_LE: u32 = 0x2000;
const SETIPNUM_BE: u32 = 0x2004;
const GENMSI: u32 = 0x3000;
const TARGET: u32 = 0x3000;

const IE: u32 = 0x100;

/// Of the region, in bytes.
const SIZE: u32 = 0x4000;

/// Where registers are, by the specification's table.
const OFFSETS: [RangeInclusive<u32>; 12] = [
    0..=0xffc,
    0x1c00..=0x1c7c,
    0x1cdc..=0x1cdc,
    0x1d00..=0x1d7c,
    0x1ddc..=0x1ddc,
    0x1e00..=0x1e7c,
    0x1edc..=0x1edc,
    0x1f00..=0x1f7c,
    0x1fdc..=0x1fdc,
    0x2000..=0x2000,
    0x2004..=0x2004,
    0x3000..=0x3ffc,
];

/// A domain as it is after reset.
fn domain(sources: u32) -> Box<Domain> {
    // SAFETY: integers, arrays of them and a bool, all of which may be zero; the kernel derives
    // `Zeroable` for it.
    let mut domain = Box::new(unsafe { MaybeUninit::<Domain>::zeroed().assume_init() });
    domain.set_up(sources);
    domain
}

/// All that userspace can save, in rising order.
fn saved(domain: &Domain) -> Vec<(u64, u32)> {
    (0..SIZE.into())
        .step_by(4)
        .filter_map(|offset| Some((offset, domain.save(offset)?)))
        .collect()
}

/// A domain whose MSIs are counted.
struct World {
    domain: Box<Domain>,
    sent: Vec<Msi>,
}

impl World {
    /// With IE set.
    fn new(sources: u32) -> World {
        let mut world = World {
            domain: domain(sources),
            sent: Vec::new(),
        };
        world.write(DOMAINCFG, IE);
        world
    }

    fn write(&mut self, offset: u32, value: u32) {
        let sent = &mut self.sent;
        self.domain.write(offset, value, &mut |msi| {
            sent.push(msi);
            Delivery::Delivered
        });
    }

    fn restore(&mut self, offset: u32, value: u32) {
        let sent = &mut self.sent;
        let result = self.domain.restore(offset.into(), value, &mut |msi| {
            sent.push(msi);
            Delivery::Delivered
        });
        assert_eq!(result, Ok(()), "{offset:#x}");
    }

    fn read(&self, offset: u32) -> u32 {
        self.domain.read(offset)
    }

    fn line(&mut self, number: u32, owner: LineOwner, level: Level) -> Delivery {
        let sent = &mut self.sent;
        let result = self.domain.set_line(number, owner, level, &mut |msi| {
            sent.push(msi);
            Delivery::Delivered
        });
        result.expect("the source exists")
    }

    fn wire(&mut self, number: u32, level: Level) -> Delivery {
        self.line(number, LineOwner::Userspace, level)
    }

    fn pulse(&mut self, number: u32) -> Delivery {
        let sent = &mut self.sent;
        let result = self.domain.pulse(number, &mut |msi| {
            sent.push(msi);
            Delivery::Delivered
        });
        result.expect("the source exists")
    }

    fn mode(&mut self, number: u32, mode: Mode) {
        self.write(SOURCECFG + 4 * number, mode.sm());
    }

    fn is_pending(&self, number: u32) -> bool {
        self.read(SETIP + number / 32 * 4) >> (number % 32) & 1 == 1
    }

    fn input(&self, number: u32) -> bool {
        self.read(IN_CLRIP + number / 32 * 4) >> (number % 32) & 1 == 1
    }

    /// How many MSIs went out since this was last asked.
    fn count(&mut self) -> usize {
        self.sent.drain(..).count()
    }
}

fn msi(hart: u32, id: u32) -> Msi {
    Msi {
        hart: HartIndex::new(hart),
        guest: GuestIndex::new(0),
        id,
    }
}

#[test]
fn an_inactive_source_has_no_state() {
    for mode in Mode::ALL {
        let mut world = World::new(40);
        world.mode(33, mode);
        world.write(TARGET + 4 * 33, 7 << 18 | 5);
        world.write(SETIENUM, 33);
        world.write(DOMAINCFG, 0);
        let _ = world.wire(33, Level::High);
        world.write(SETIPNUM, 33);
        world.mode(33, Mode::Inactive);
        for offset in [SETIP + 4, SETIE + 4, IN_CLRIP + 4, TARGET + 4 * 33] {
            assert_eq!(world.read(offset), 0, "{mode:?}: {offset:#x}");
        }
        world.write(DOMAINCFG, IE);
        world.sent.clear();
        // And gets none.
        world.write(SETIE + 4, u32::MAX);
        world.write(SETIENUM, 33);
        world.write(SETIP + 4, u32::MAX);
        world.write(SETIPNUM, 33);
        world.write(TARGET + 4 * 33, u32::MAX);
        assert_eq!(world.wire(33, Level::Low), Delivery::Blocked);
        assert_eq!(world.wire(33, Level::High), Delivery::Blocked);
        for offset in [SETIP + 4, SETIE + 4, IN_CLRIP + 4, TARGET + 4 * 33] {
            assert_eq!(world.read(offset), 0, "{mode:?}: {offset:#x}");
        }
        assert_eq!(world.count(), 0);
    }
}

#[test]
fn reserved_modes_and_delegation_make_a_source_inactive() {
    for value in [2, 3, 0x400, 0x401, 0x406, 0x7ff, !7 | 2] {
        let mut world = World::new(1);
        world.mode(1, Mode::Level1);
        world.write(SOURCECFG + 4, value);
        assert_eq!(world.read(SOURCECFG + 4), 0, "{value:#x}");
    }
    let mut world = World::new(1);
    world.write(SOURCECFG + 4, !0x400);
    assert_eq!(world.read(SOURCECFG + 4), 7);
}

#[test]
fn a_new_mode_takes_a_level_as_it_is_and_no_edge() {
    for (mode, level, pending) in [
        (Mode::Edge1, Level::High, false),
        (Mode::Edge0, Level::Low, false),
        (Mode::Level1, Level::High, true),
        (Mode::Level1, Level::Low, false),
        (Mode::Level0, Level::Low, true),
        (Mode::Level0, Level::High, false),
    ] {
        let mut world = World::new(1);
        let _ = world.wire(1, level);
        world.mode(1, mode);
        assert_eq!(world.is_pending(1), pending, "{mode:?} {level:?}");
        // Writing it again is nothing new.
        world.write(CLRIPNUM, 1);
        world.mode(1, mode);
        assert!(!world.is_pending(1), "{mode:?} {level:?}");
    }
}

#[test]
fn a_write_to_sourcecfg_keeps_pending_what_can_be() {
    for (mode, pending) in [
        (Mode::Detached, true),
        (Mode::Edge1, true),
        (Mode::Edge0, true),
        // The wire is low.
        (Mode::Level1, false),
        (Mode::Level0, true),
        (Mode::Inactive, false),
    ] {
        let mut world = World::new(1);
        world.mode(1, Mode::Detached);
        world.write(SETIPNUM, 1);
        world.mode(1, mode);
        assert_eq!(world.is_pending(1), pending, "{mode:?}");
    }
}

#[test]
fn a_level_is_sent_once_until_it_drops_or_software_asks_again() {
    let mut world = World::new(9);
    world.mode(9, Mode::Level1);
    world.write(TARGET + 36, 2 << 18 | 77);
    world.write(SETIENUM, 9);
    assert_eq!(world.wire(9, Level::High), Delivery::Delivered);
    assert_eq!(world.sent, [msi(2, 77)]);
    // differences-from-c S11: says the same thing again.
    assert_eq!(world.wire(9, Level::High), Delivery::Blocked);
    assert_eq!(world.count(), 1);
    // "the interrupt service routine [may] write [...] setipnum [...] just before exiting"
    world.write(SETIPNUM_LE, 9);
    assert_eq!(world.count(), 1);
    let _ = world.wire(9, Level::Low);
    world.write(SETIPNUM_LE, 9);
    assert_eq!(world.count(), 0);
    assert_eq!(world.wire(9, Level::High), Delivery::Delivered);
    assert_eq!(world.count(), 1);
}

#[test]
fn a_masked_level_that_drops_is_forgotten() {
    let mut world = World::new(1);
    world.mode(1, Mode::Level1);
    assert_eq!(world.wire(1, Level::High), Delivery::Delivered);
    assert!(world.is_pending(1));
    let _ = world.wire(1, Level::Low);
    assert!(!world.is_pending(1));
    world.write(SETIENUM, 1);
    assert_eq!(world.count(), 0);
}

#[test]
fn every_edge_of_an_irqfd_counts() {
    // differences-from-c S1: three signals, one MSI.
    for mode in [Mode::Edge1, Mode::Edge0, Mode::Level1] {
        let mut world = World::new(1);
        world.mode(1, mode);
        world.write(SETIENUM, 1);
        for _ in 0..3 {
            assert_eq!(world.pulse(1), Delivery::Delivered);
            assert_eq!(world.count(), 1, "{mode:?}");
        }
        assert_eq!(world.input(1), mode == Mode::Edge0);
    }
}

#[test]
fn a_wire_is_high_while_one_of_its_owners_says_so() {
    let mut world = World::new(1);
    world.mode(1, Mode::Level1);
    let _ = world.line(1, LineOwner::Resample, Level::High);
    assert!(world.input(1) && world.is_pending(1));
    let _ = world.wire(1, Level::High);
    let _ = world.line(1, LineOwner::Resample, Level::Low);
    assert!(world.input(1) && world.is_pending(1));
    let _ = world.wire(1, Level::Low);
    assert!(!world.input(1) && !world.is_pending(1));
}

#[test]
fn the_end_of_handling_a_level_is_told() {
    let mut world = World::new(40);
    for (number, mode) in (35..).zip(Mode::ALL) {
        world.mode(number, mode);
    }
    let levels = |world: &World, offset, swap: fn(u32) -> u32| {
        (0..64)
            .filter(|&number| {
                let told = world.domain.acknowledged_by_write(offset, swap(number));
                told.eq([number])
            })
            .collect::<Vec<_>>()
    };
    // 39: Level1, 40: Level0, whose wires are low.
    assert_eq!(levels(&world, SETIPNUM, |n| n), [40]);
    for number in 35..=40 {
        let _ = world.wire(number, Level::High);
    }
    assert_eq!(levels(&world, SETIPNUM, |n| n), [39]);
    assert_eq!(levels(&world, SETIPNUM_LE, |n| n), [39]);
    assert_eq!(levels(&world, SETIPNUM_BE, u32::swap_bytes), [39]);
    for offset in [SETIP + 8, CLRIPNUM, SETIENUM, DOMAINCFG, GENMSI, 0x1ce0] {
        assert_eq!(levels(&world, offset, |n| n), [], "{offset:#x}");
    }
}

/// F11: a register of bits ends the handling of several at once.
#[test]
fn the_end_of_handling_is_told_for_each_bit() {
    let mut world = World::new(40);
    for number in [3, 4, 35, 36, 40] {
        world.mode(number, Mode::Level1);
        let _ = world.wire(number, Level::High);
    }
    world.mode(37, Mode::Edge1);
    let _ = world.wire(37, Level::High);
    let written = |world: &World, offset, value| {
        let told = world.domain.acknowledged_by_write(offset, value);
        told.collect::<Vec<_>>()
    };
    let read = |world: &World, offset| {
        let told = world.domain.acknowledged_by_read(offset);
        told.collect::<Vec<_>>()
    };
    assert_eq!(written(&world, SETIP, u32::MAX), [3, 4]);
    assert_eq!(
        written(&world, SETIP + 4, 1 << 4 | 1 << 5 | 1 << 8),
        [36, 40]
    );
    assert_eq!(written(&world, SETIP + 8, u32::MAX), []);
    assert_eq!(written(&world, IN_CLRIP, u32::MAX), []);
    // All are pending: the guest has not been told, so it is not done with them.
    assert_eq!(read(&world, IN_CLRIP), []);
    world.write(IN_CLRIP, 1 << 3);
    world.write(IN_CLRIP + 4, 1 << 3 | 1 << 5 | 1 << 8);
    assert_eq!(read(&world, IN_CLRIP), [3]);
    assert_eq!(read(&world, IN_CLRIP + 4), [35, 40]);
    assert_eq!(read(&world, IN_CLRIP + 8), []);
    assert_eq!(read(&world, SETIP), []);
}

#[test]
fn domaincfg_has_one_bit_and_stops_everything() {
    let mut world = World::new(64);
    world.write(DOMAINCFG, !IE);
    assert_eq!(world.read(DOMAINCFG), 0x8000_0004);
    for number in [1, 32, 64] {
        world.mode(number, Mode::Detached);
        world.write(TARGET + 4 * number, number);
        world.write(SETIENUM, number);
        world.write(SETIPNUM, number);
    }
    assert_eq!(world.count(), 0);
    world.write(DOMAINCFG, u32::MAX);
    assert_eq!(world.read(DOMAINCFG), 0x8000_0104);
    assert_eq!(world.sent, [msi(0, 1), msi(0, 32), msi(0, 64)]);
}

#[test]
fn genmsi_and_target_keep_their_fields_only() {
    let mut world = World::new(1);
    world.write(DOMAINCFG, 0);
    world.mode(1, Mode::Detached);
    for offset in [GENMSI, TARGET + 4] {
        world.write(offset, u32::MAX);
        assert_eq!(world.read(offset), 0xfffc_07ff, "{offset:#x}");
    }
    // Not stopped by domaincfg.IE.
    assert_eq!(world.sent, [msi(0x3fff, 0x7ff)]);
}

#[test]
fn the_rest_of_the_region_is_read_only_zeros() {
    let mut world = World::new(1023);
    for offset in (0..SIZE).step_by(4) {
        if !OFFSETS.iter().any(|range| range.contains(&offset)) {
            world.write(offset, u32::MAX);
            assert_eq!(world.read(offset), 0, "{offset:#x}");
            assert_eq!(world.domain.save(offset.into()), None, "{offset:#x}");
            let restored = world.domain.restore(offset.into(), 1, &mut |_| panic!());
            assert_eq!(restored, Err(NoRegister), "{offset:#x}");
        }
    }
    for offset in [1, 2, 3, 0x1c01, 0x3002, SIZE, SIZE + 4, u32::MAX - 3] {
        world.write(offset, u32::MAX);
        assert_eq!(world.read(offset), 0, "{offset:#x}");
        assert_eq!(world.domain.save(offset.into()), None, "{offset:#x}");
    }
    assert_eq!(world.domain.save(1 << 32), None);
    assert_eq!(saved(&world.domain), saved(&World::new(1023).domain));
    assert_eq!(world.count(), 0);
}

#[test]
fn registers_by_number_and_clrie_read_zero() {
    let mut world = World::new(1);
    world.mode(1, Mode::Detached);
    for offset in [
        SETIPNUM,
        CLRIPNUM,
        SETIENUM,
        CLRIENUM,
        SETIPNUM_LE,
        SETIPNUM_BE,
        CLRIE,
    ] {
        world.write(offset, 1);
        assert_eq!(world.read(offset), 0, "{offset:#x}");
        assert_eq!(world.domain.save(offset.into()), Some(0), "{offset:#x}");
    }
}

#[test]
fn sources_that_do_not_exist_have_nothing() {
    for sources in [1, 31, 32, 63, 1023] {
        let mut world = World::new(sources);
        for number in 1..1024 {
            world.mode(number, Mode::Detached);
            world.write(TARGET + 4 * number, 5);
        }
        let mut found = [0; 3];
        for k in 0..32 {
            world.write(SETIE + 4 * k, u32::MAX);
            found[0] += world.read(SETIE + 4 * k).count_ones();
        }
        for number in 1..1024 {
            found[1] += u32::from(world.read(SOURCECFG + 4 * number) != 0);
            found[2] += u32::from(world.read(TARGET + 4 * number) != 0);
        }
        assert_eq!(found, [sources; 3]);
        for number in [0, sources + 1, 1 << 31, u32::MAX] {
            let line =
                world
                    .domain
                    .set_line(number, LineOwner::Userspace, Level::High, &mut |_| panic!());
            assert_eq!(line, Err(NoSource));
            world.write(SETIPNUM, number);
        }
        assert_eq!(world.count(), 0);
        let last: u64 = (4 * sources).into();
        assert!(world.domain.save(last).is_some() && world.domain.save(last + 4).is_none());
        let words: u64 = (4 * (sources / 32)).into();
        for row in [SETIP, IN_CLRIP, SETIE, CLRIE].map(u64::from) {
            assert!(world.domain.save(row + words).is_some());
            assert!(world.domain.save(row + words + 4).is_none());
        }
    }
}

#[test]
fn restoring_genmsi_sends_nothing() {
    let mut world = World::new(1);
    world.restore(GENMSI, 3 << 18 | 9);
    assert_eq!(world.read(GENMSI), 3 << 18 | 9);
    assert_eq!(world.count(), 0);
}

#[test]
fn inputs_are_restored_without_an_edge_and_their_owners_have_the_next_word() {
    let mut world = World::new(3);
    for (number, mode) in (1..).zip([Mode::Level1, Mode::Level0, Mode::Edge1]) {
        world.restore(SOURCECFG + 4 * number, mode.sm());
        world.restore(TARGET + 4 * number, number);
    }
    world.restore(SETIE, 0b1110);
    world.restore(IN_CLRIP, 0b1010);
    assert_eq!(world.read(IN_CLRIP), 0b1010);
    assert_eq!(world.read(SETIP), 0);
    assert_eq!(world.count(), 0);
    // As it was: no edge.
    assert_eq!(world.wire(1, Level::High), Delivery::Blocked);
    assert_eq!(world.wire(2, Level::High), Delivery::Blocked);
    assert_eq!(world.wire(3, Level::Low), Delivery::Blocked);
    assert_eq!(world.read(IN_CLRIP), 0b0010);
    assert_eq!(world.wire(3, Level::High), Delivery::Delivered);
    // Whoever it was that held the wire when it was saved, a resampler may let go of it.
    world.restore(IN_CLRIP, 0b0010);
    let _ = world.line(2, LineOwner::Resample, Level::Low);
    assert_eq!(world.read(IN_CLRIP), 0b0010);
}

#[test]
fn a_pending_level_waits_for_its_input_to_be_restored() {
    let mut world = World::new(2);
    world.restore(SOURCECFG + 4, Mode::Level1.sm());
    world.restore(SOURCECFG + 8, Mode::Level1.sm());
    world.restore(SETIP, 0b110);
    assert_eq!(world.read(SETIP), 0);
    world.restore(IN_CLRIP, 0b010);
    assert_eq!(world.read(SETIP), 0b010);
    // Not for ever: what the guest or the wire does since is newer.
    world.write(CLRIPNUM, 2);
    world.restore(IN_CLRIP, 0b110);
    assert_eq!(world.read(SETIP), 0b010);
}

#[test]
fn an_msi_that_cannot_be_sent_now_stays_pending() {
    let mut world = World::new(1);
    world.mode(1, Mode::Edge1);
    world.write(SETIENUM, 1);
    let deferred = world.domain.pulse(1, &mut |_| Delivery::Defer);
    assert_eq!(deferred, Ok(Delivery::Defer));
    assert!(world.is_pending(1));
    assert_eq!(world.pulse(1), Delivery::Delivered);
    assert_eq!(world.count(), 1);
    // Who gets nothing must not be tried for ever.
    let blocked = world.domain.pulse(1, &mut |_| Delivery::Blocked);
    assert_eq!(blocked, Ok(Delivery::Blocked));
    assert!(!world.is_pending(1));
}
