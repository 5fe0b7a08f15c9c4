// SPDX-License-Identifier: GPL-2.0

//! Performance counters of a vCPU. Answers to `vcpu_pmu.c`.
//!
//! What the counters are and do is pure and stands in [`counters`] and below; perf is behind
//! [`abi::perf`](crate::abi::perf), the calls that a guest makes are [`sbi`](crate::sbi)'s. The
//! state belongs to the holder of `vcpu->mutex`, but for the counts of firmware events, which are
//! [`Shared`](super::Shared). What perf does may sleep, so nobody calls it with a lock held.
//!
//! Nothing of this can be saved: a reset, and a VM that is restored elsewhere, have free counters
//! and no snapshot.

use kernel::prelude::*;

use super::{
    insn::CsrOp,
    Loaded,
    Vcpu, //
};
use crate::{
    abi::perf::PerfEvent,
    aia::imsic::csr::Outcome,
    bindings,
    host,
    mem::addr::Gpa, //
};

pub(crate) mod counters;
pub(crate) mod event;
pub(crate) mod firmware;
#[cfg_attr(not(CONFIG_RISCV_PMU_SBI), allow(dead_code))]
pub(crate) mod layout;
#[cfg_attr(not(CONFIG_RISCV_PMU_SBI), allow(dead_code))]
pub(crate) mod wrap;

pub(crate) use event::FirmwareEvent;

use counters::Counters;
use firmware::FirmwareCounts;
use layout::Layout;

/// The counters that guests of this host have, if they have any.
pub(crate) fn layout() -> Option<Layout> {
    host::get()?.counters
}

/// The counters of one vCPU.
pub(crate) struct Pmu {
    /// None before the first is configured, as most guests never do.
    counters: Option<KBox<Counters<PerfEvent>>>,
    /// The page where snapshots go.
    pub(crate) snapshot: Option<Gpa>,
}

impl Pmu {
    /// As after a reset.
    pub(crate) const fn new() -> Self {
        Self {
            counters: None,
            snapshot: None,
        }
    }

    /// The counters, if any has ever been configured.
    pub(crate) fn counters(&mut self) -> Option<&mut Counters<PerfEvent>> {
        self.counters.as_deref_mut()
    }

    /// The counters, to configure one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`
    pub(crate) fn make_counters(&mut self, layout: Layout) -> Result<&mut Counters<PerfEvent>> {
        let counters = match self.counters.take() {
            Some(counters) => counters,
            None => KBox::init(Counters::new(layout), GFP_KERNEL_ACCOUNT)?,
        };
        Ok(self.counters.insert(counters))
    }

    /// Stops all counters and gives back what they hold. May sleep.
    pub(crate) fn reset(&mut self, firmware: &FirmwareCounts) {
        firmware.want(0);
        *self = Self::new();
    }
}

impl Vcpu {
    /// `event` happened to this hart. Any context.
    #[inline(always)]
    pub(crate) fn note(&self, event: FirmwareEvent) {
        self.shared().firmware.note(event);
    }
}

/// The guest reads a counter (Zicntr, Zihpm). May sleep.
///
/// Without counters there are still `cycle` and `instret`, which never move: guests rely on them
/// (`kvm_riscv_vcpu_pmu_read_hpm()`).
pub(crate) fn csr(vcpu: &mut Loaded<'_>, op: &CsrOp) -> Outcome {
    let csr = u32::from(op.csr.into_raw());
    let value = match layout() {
        None => match csr {
            bindings::CSR_CYCLE | bindings::CSR_INSTRET => Some(0),
            _ => None,
        },
        Some(_) => {
            let index = csr.wrapping_sub(bindings::CSR_CYCLE) as usize;
            let firmware = &vcpu.vcpu.shared().firmware;
            vcpu.owned
                .pmu
                .counters()
                .and_then(|counters| counters.read_hardware(index, firmware))
        }
    };
    value.map_or(Outcome::Illegal, |value| Outcome::Done(value as usize))
}
