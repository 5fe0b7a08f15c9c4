// SPDX-License-Identifier: GPL-2.0

//! The host's `time` counter. Answers to what `vcpu_timer.c` asks of `asm/timex.h`, `asm/delay.h`
//! and `clocksource/timer-riscv.h`.

use kernel::time::Delta;

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
