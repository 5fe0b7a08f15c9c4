// SPDX-License-Identifier: GPL-2.0

//! When counters wrap.

use proptest::{
    prelude::*,
    sample::select, //
};

use crate::vcpu::pmu::wrap::{
    self,
    Wrap,
    Wrapped, //
};

#[test]
fn wraps() {
    const FULL: u64 = u64::MAX;

    assert_eq!(wrap::mask(63), FULL);
    assert_eq!(wrap::mask(47), FULL >> 16);
    assert_eq!(wrap::mask(200), FULL);
    assert_eq!(wrap::distance(0, FULL), FULL);
    assert_eq!(wrap::distance(FULL, FULL), 1);
    assert_eq!(wrap::distance(FULL - 9, FULL), 10);
    assert_eq!(wrap::distance(0, 0xff), 0x100);
    assert_eq!(wrap::distance(0x1fe, 0xff), 2);

    // Farther away than perf can be told.
    let wrap = Wrap::new(FULL);
    let period = wrap.start(100);
    assert_eq!(period, i64::MAX as u64);
    let expired = wrap.expired(period + 3);
    assert_eq!(expired.wrapped, Wrapped::NotYet);
    assert!(!wrap.happened());
    assert_eq!(period + 3 + expired.period, FULL - 99);
    let expired = wrap.expired(FULL - 99);
    assert_eq!(expired.wrapped, Wrapped::Now);
    assert!(wrap.happened());

    // Some events are counted before it is noticed.
    let wrap = Wrap::new(0xffff_ffff);
    assert_eq!(wrap.start(0xffff_fff0), 0x10);
    let expired = wrap.expired(0x10 + 5);
    assert_eq!(
        (expired.wrapped, expired.period),
        (Wrapped::Now, (1 << 32) - 5)
    );
    let expired = wrap.expired(0x10 + 5 + expired.period - 1);
    assert_eq!((expired.wrapped, expired.period), (Wrapped::NotYet, 1));
    // A start makes it forget.
    assert_eq!(wrap.start(0), 1 << 32);
    assert!(!wrap.happened());
}

/// found F15: the one who stops a counter may be the first to see that it has wrapped.
#[test]
fn a_wrap_is_noticed_without_its_interrupt() {
    let wrap = Wrap::new(u64::MAX);
    assert_eq!(wrap.start(u64::MAX - 49), 50);
    assert_eq!(wrap.expired(49).wrapped, Wrapped::NotYet);
    assert!(!wrap.happened());
    assert_eq!(wrap.expired(60).wrapped, Wrapped::Now);
    assert!(wrap.happened());
    // The interrupt comes nevertheless, and finds nothing new.
    let expired = wrap.expired(61);
    assert_eq!(expired.wrapped, Wrapped::NotYet);
    assert_eq!(expired.period, i64::MAX as u64);
}

/// found F18.
#[test]
fn foreign_events_do_not_make_a_counter_wrap() {
    let wrap = Wrap::new(0xffff_ffff);
    assert_eq!(wrap.start(0xffff_ff00), 0x100);
    assert_eq!(wrap.own(0x40), 0x40);
    assert_eq!(wrap.enter(0x40), None);
    wrap.leave(0x40);
    // Perf's period is over, for another vCPU; the next end is as far away as can be.
    assert_eq!(wrap.own(0x100), 0x40);
    let expired = wrap.expired(0x100);
    assert_eq!(
        (expired.wrapped, expired.period),
        (Wrapped::NotYet, i64::MAX as u64)
    );
    // Back in the guest, 0xc0 of its own are left.
    assert_eq!(wrap.enter(0x1040), Some(0xc0));
    assert_eq!(wrap.own(0x1040), 0x40);
    assert_eq!(wrap.enter(0x1041), None);
    assert_eq!(wrap.expired(0x10ff).wrapped, Wrapped::NotYet);
    assert_eq!(wrap.expired(0x1100).wrapped, Wrapped::Now);
    assert_eq!(wrap.own(0x1100), 0x100);

    // A period that foreign events have only shortened ends early, and goes on.
    assert_eq!(wrap.start(0xffff_ff00), 0x100);
    wrap.leave(0x10);
    assert_eq!(wrap.enter(0x50), None);
    let expired = wrap.expired(0x100);
    assert_eq!((expired.wrapped, expired.period), (Wrapped::NotYet, 0x40));
    assert_eq!(wrap.expired(0x140).wrapped, Wrapped::Now);

    // A start forgets all of it.
    wrap.leave(0x200);
    assert_eq!(wrap.start(0), 1 << 32);
    assert_eq!(wrap.own(7), 7);
}

proptest! {
    /// Whatever else the thread runs in between, a counter counts and wraps by its own events, and
    /// an end of perf's period is never later than its wrap.
    #[test]
    fn wraps_are_those_of_own_events(
        value: u64,
        steps in proptest::collection::vec((0u64..3000, 0u64..3000), 1..30),
    ) {
        // Ten bits, so that there is much to see.
        let mask = wrap::mask(9);
        let wrap = Wrap::new(mask);
        let mut end = wrap.start(value);
        let (mut count, mut own) = (0u64, 0u64);
        let turns = |own: u64| ((value & mask) + own) / (mask + 1);

        // As perf does it: an interrupt at the end of each period.
        let pass = |count: &mut u64, own: Option<&mut u64>, end: &mut u64, events: u64| {
            let mut own = own;
            for _ in 0..events {
                *count += 1;
                let mut expected = Wrapped::NotYet;
                if let Some(own) = own.as_deref_mut() {
                    *own += 1;
                    if turns(*own) > turns(*own - 1) {
                        expected = Wrapped::Now;
                    }
                }
                let found = if *count == *end {
                    let expired = wrap.expired(*count);
                    *end = count.saturating_add(expired.period);
                    expired.wrapped
                } else {
                    Wrapped::NotYet
                };
                assert_eq!(found, expected, "event {count}");
            }
        };
        for (here, elsewhere) in steps {
            pass(&mut count, Some(&mut own), &mut end, here);
            prop_assert_eq!(wrap.own(count), own);
            wrap.leave(count);
            pass(&mut count, None, &mut end, elsewhere);
            prop_assert_eq!(wrap.own(count), own);
            if let Some(period) = wrap.enter(count) {
                end = count.saturating_add(period);
            }
            prop_assert_eq!(wrap.own(count), own);
        }
    }

    /// Whatever the steps, the counter is said to have wrapped when it has.
    #[test]
    fn wraps_are_noticed_when_they_happen(
        width in select(vec![31u32, 47, 62, 63]),
        value: u64,
        late in proptest::collection::vec(0u64..1000, 1..20),
    ) {
        let mask = wrap::mask(width);
        let wrap = Wrap::new(mask);
        let mut period = wrap.start(value);
        let (mut count, mut turns) = (0u64, 0u128);
        for late in late {
            // The last event that there is stands for all that cannot come any more.
            let now = count.saturating_add(period).saturating_add(late);
            if now == u64::MAX {
                break;
            }
            prop_assert!(period > 0 && period <= i64::MAX as u64);
            let total = u128::from(value & mask) + u128::from(now);
            let passed = total / (u128::from(mask) + 1);
            let expired = wrap.expired(now);
            prop_assert_eq!(expired.wrapped == Wrapped::Now, passed > turns);
            (count, turns, period) = (now, passed, expired.period);
        }
    }
}
