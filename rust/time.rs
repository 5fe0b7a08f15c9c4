// SPDX-License-Identifier: GPL-2.0

//! The host's `time` counter. Answers to what `vcpu_timer.c` asks of `asm/timex.h`, `asm/delay.h`
//! and `clocksource/timer-riscv.h`.

use kernel::{
    prelude::*,
    time::Delta, //
};

use crate::abi::clock;

/// `time` now, in ticks.
#[inline(always)]
pub(crate) fn now() -> u64 {
    clock::ticks()
}

/// Ticks per second, for the host as for its guests.
pub(crate) fn frequency() -> u64 {
    clock::frequency()
}

/// How long `ticks` are; what is longer than a timer can wait, 292 years, is cut to that.
pub(crate) fn duration(ticks: u64) -> Delta {
    let scale = clock::scale();
    let nanos = (u128::from(ticks) * u128::from(scale.mult)).wrapping_shr(scale.shift);
    Delta::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
}

#[kunit_tests(kvm_riscv_time)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_the_counter() {
        let second = duration(frequency()).as_nanos();
        // The kernel's factor is a fraction of 32 bits.
        assert!((second - 1_000_000_000).abs() <= 1000);
        assert_eq!(duration(0).as_nanos(), 0);
        assert_eq!(duration(u64::MAX).as_nanos(), i64::MAX);
    }

    #[test]
    fn time_goes_forward() {
        let before = now();
        assert!(now().wrapping_sub(before) < frequency() * 60);
    }
}
