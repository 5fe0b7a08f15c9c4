// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! Which counters a guest has, by number. Answers to `kvm_riscv_vcpu_pmu_init()` and
//! `kvm_pmu_validate_counter_mask()`. No locks.
//!
//! First those of hardware, where a counter's number is that of its CSR: cycles, nothing in the
//! place of `time`, instructions, and some that count anything. Then those of firmware, one for
//! each event. Numbers say nothing about which counter of the host is behind them.

use crate::{
    bindings,
    sbi_abi::message::pmu::Counters,
    vcpu::pmu::event::FirmwareEvent, //
};

/// How many CSRs there are for counters.
const MAX_HARDWARE: usize = 32;

/// The place of `time`, which is no counter.
const TIME: usize = (bindings::CSR_TIME - bindings::CSR_CYCLE) as usize;

/// The first counter that is not made for one event.
pub(super) const FIRST_PROGRAMMABLE: usize =
    (bindings::CSR_HPMCOUNTER3 - bindings::CSR_CYCLE) as usize;

/// Counters that there can be.
pub(crate) const MAX_COUNTERS: usize = MAX_HARDWARE + FirmwareEvent::COUNT;

/// Sets of counters are words.
const _: () = assert!(MAX_COUNTERS <= u64::BITS as usize);

/// One less than the bits of the counters of cycles and instructions, and of firmware counters.
const FULL_WIDTH: u32 = u64::BITS - 1;

/// The counters of a guest: the same for all guests of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The number of the first firmware counter.
    hardware: usize,
    /// One less than the bits of a programmable counter.
    width: u32,
}

/// What is behind a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A counter that the guest reads through a CSR, with one bit more than `width`.
    Hardware {
        /// One less than its bits.
        width: u32,
    },
    /// A counter that the guest reads by a call.
    Firmware,
}

impl Layout {
    /// Returns the counters for guests of a host with `counters` in hardware, `time` not among
    /// them, each with one bit more than `width`; [`None`] if that makes no sense.
    pub(crate) fn new(counters: u32, width: u32) -> Option<Self> {
        if counters == 0 || width == 0 || width > FULL_WIDTH {
            return None;
        }
        let with_time = usize::try_from(counters).ok()?.saturating_add(1);
        Some(Self {
            hardware: with_time.min(MAX_HARDWARE),
            width,
        })
    }

    /// Returns one more than the highest number.
    pub(crate) fn count(&self) -> usize {
        self.hardware + FirmwareEvent::COUNT
    }

    /// Returns what the counter with number `index` is, if it exists.
    pub(crate) fn kind(&self, index: usize) -> Option<Kind> {
        match index {
            TIME => None,
            _ if index < FIRST_PROGRAMMABLE && index < self.hardware => {
                Some(Kind::Hardware { width: FULL_WIDTH })
            }
            _ if index < self.hardware => Some(Kind::Hardware { width: self.width }),
            _ if index < self.count() => Some(Kind::Firmware),
            _ => None,
        }
    }

    /// Returns what the guest is told of a counter (`counter_info` of SBI PMU).
    pub(crate) fn info(&self, index: usize) -> Option<usize> {
        let (kind, csr, width) = match self.kind(index)? {
            Kind::Hardware { width } => (
                bindings::sbi_pmu_ctr_type_SBI_PMU_CTR_TYPE_HW,
                bindings::CSR_CYCLE as usize + index,
                width,
            ),
            Kind::Firmware => (
                bindings::sbi_pmu_ctr_type_SBI_PMU_CTR_TYPE_FW,
                0,
                FULL_WIDTH,
            ),
        };
        Some((kind as usize) << (usize::BITS - 1) | (width as usize) << 12 | csr)
    }

    /// Returns the counters that `named` names; [`None`] if it names no counter, or one that does
    /// not exist. The place of `time` may be among them, and counts for nothing.
    pub(crate) fn select(&self, named: Counters) -> Option<Selection> {
        let last = named.mask.checked_ilog2()? as usize;
        let top = named.base.checked_add(last)?;
        // INVARIANT: `mask` is not 0, so there is a counter, and `top`, the highest number, is
        // below `count()`, which is at most `MAX_COUNTERS`.
        (top < self.count()).then_some(Selection(named))
    }
}

/// Some counters.
///
/// # Invariants
///
/// There is at least one counter, and the number of each is below [`MAX_COUNTERS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Selection(Counters);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its number.
    pub(crate) index: usize,
    /// Its place in the mask, hence in a snapshot.
    pub(crate) bit: usize,
}

impl Selection {
    /// Returns each of them, by rising number.
    pub(crate) fn members(self) -> impl Iterator<Item = Member> {
        let Counters { base, mask } = self.0;
        (0..u64::BITS as usize)
            .filter(move |bit| mask >> bit & 1 != 0)
            .map(move |bit| Member {
                // Does not overflow, by the invariant.
                index: base.wrapping_add(bit),
                bit,
            })
    }

    /// Returns the one with the lowest number.
    pub(crate) fn first(self) -> usize {
        self.0
            .base
            .wrapping_add(self.0.mask.trailing_zeros() as usize)
    }
}
