// SPDX-License-Identifier: GPL-2.0

//! The host's `time` counter. Answers to the uses of `asm/timex.h`, `asm/delay.h` and
//! `clocksource/timer-riscv.h` in `vcpu_timer.c`. `kernel::time` has clocks in nanoseconds and no
//! counter.

use kernel::{
    prelude::*,
    time::Delta, //
};

use crate::bindings;

/// Returns `time` now, in ticks.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: This only reads a counter.
    unsafe { bindings::kvm_rs_get_cycles64() }
}

/// Returns the ticks per second, for the host as for its guests.
pub(crate) fn frequency() -> u64 {
    // SAFETY: The kernel writes the variable once, at boot, so no CPU writes it now.
    let ticks = unsafe { bindings::riscv_timebase };
    ticks as u64
}

/// Converts `ticks` to a time; what is longer than a timer can wait, 292 years, is cut to that.
pub(crate) fn duration(ticks: u64) -> Delta {
    let scale = scale();
    let nanos = (u128::from(ticks) * u128::from(scale.mult)).wrapping_shr(scale.shift);
    Delta::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
}

/// Nanoseconds are ticks times `mult`, shifted right by `shift`.
struct Scale {
    mult: u32,
    shift: u32,
}

/// Returns the factor from ticks to nanoseconds.
fn scale() -> Scale {
    let mut scale = Scale { mult: 0, shift: 0 };
    // SAFETY: Both pointers come from mutable references, so they are valid for a write.
    unsafe { bindings::riscv_cs_get_mult_shift(&mut scale.mult, &mut scale.shift) };
    scale
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
