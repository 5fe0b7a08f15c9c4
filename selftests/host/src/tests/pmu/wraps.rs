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

proptest! {
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
