// SPDX-License-Identifier: GPL-2.0

//! Performance counters of a vCPU. Answers to `vcpu_pmu.c`.
//!
//! The counters themselves are pure: [`counters`] and below. [`perf_event`] calls perf, and
//! [`sbi`](crate::sbi) handles the guest's calls. The state belongs to the holder of `vcpu->mutex`,
//! but for the counts of firmware events, which are [`VcpuShared`](crate::vcpu::VcpuShared). Calls
//! of perf may sleep, so none is made with a lock held.
//!
//! The state cannot be saved: after a reset, and in a VM that was migrated, all counters are free
//! and there is no snapshot.

use kernel::prelude::*;

use crate::{
    bindings,
    insn::{
        csr::CsrOutcome, //
        CsrOp,
    },
    kvm_core::{
        addr::Gpa,
        object::Vcpu, //
    },
    vcpu::{
        host,
        pmu::{
            counters::Counters,
            firmware::FirmwareCounts,
            layout::Layout,
            perf_event::PerfEvent, //
        },
        token::Loaded, //
    }, //
};

pub(crate) mod counters;
pub(crate) mod event;
pub(crate) mod firmware;
#[cfg_attr(not(CONFIG_RISCV_PMU_SBI), allow(dead_code))]
pub(crate) mod layout;
#[cfg(CONFIG_RISCV_PMU_SBI)]
pub(crate) mod perf_event;
#[cfg(not(CONFIG_RISCV_PMU_SBI))]
#[path = "pmu/perf_event_absent.rs"]
pub(crate) mod perf_event;
#[cfg_attr(not(CONFIG_RISCV_PMU_SBI), allow(dead_code))]
pub(crate) mod wrap;

pub(crate) use crate::vcpu::pmu::event::FirmwareEvent;

/// Returns the counters that guests of this host have, if they have any.
pub(crate) fn layout() -> Option<Layout> {
    host::get()?.counters
}

/// The counters of one vCPU.
pub(crate) struct Pmu {
    /// [`None`] before the first is configured, as most guests never do.
    counters: Option<KBox<Counters<PerfEvent>>>,
    /// The guest has asked what its counters are, and has neither configured nor stopped one since.
    described: bool,
    /// The page where snapshots go.
    pub(crate) snapshot: Option<Gpa>,
}

impl Pmu {
    /// Returns the PMU of a hart after a reset.
    pub(crate) const fn new() -> Self {
        Self {
            counters: None,
            described: false,
            snapshot: None,
        }
    }

    /// Returns the counters, if any has ever been configured.
    pub(crate) fn counters(&mut self) -> Option<&mut Counters<PerfEvent>> {
        self.counters.as_deref_mut()
    }

    /// Notes that the guest has asked what a counter is.
    pub(crate) fn describe(&mut self) {
        self.described = true;
    }

    /// Returns the counters, if any has ever been configured, to stop some.
    pub(crate) fn stop_counters(&mut self) -> Option<&mut Counters<PerfEvent>> {
        self.described = false;
        self.counters()
    }

    /// Counts from here on: a `KVM_RUN` begins.
    #[inline(always)]
    pub(crate) fn enter(&mut self) {
        if let Some(counters) = self.counters() {
            counters.enter();
        }
    }

    /// Stops counting: a `KVM_RUN` ends.
    #[inline(always)]
    pub(crate) fn leave(&mut self) {
        if let Some(counters) = self.counters() {
            counters.leave();
        }
    }

    /// Returns what the guest reads in the counter of hardware with number `index`, if it can.
    ///
    /// `cycle` and `instret` are Zicntr's, so they can be read without any call of the SBI. Only a
    /// guest that was told what they are, and has not used the PMU yet, is refused, as one would be
    /// that reads any other counter without an event: upstream's `sbi_pmu_test` tests that.
    fn read(&mut self, index: usize, firmware: &FirmwareCounts) -> Option<u64> {
        match &self.counters {
            Some(counters) => counters.read_hardware(index, firmware),
            None => (is_zicntr(index) && !self.described).then_some(0),
        }
    }

    /// Returns the counters, made if need be, to configure one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`
    pub(crate) fn make_counters(&mut self, layout: Layout) -> Result<&mut Counters<PerfEvent>> {
        let counters = match self.counters.take() {
            Some(counters) => counters,
            None => KBox::init(Counters::new(layout), GFP_KERNEL_ACCOUNT)?,
        };
        self.described = false;
        Ok(self.counters.insert(counters))
    }

    /// Stops all counters and gives back what they hold. May sleep.
    pub(crate) fn reset(&mut self, firmware: &FirmwareCounts) {
        firmware.want(0);
        *self = Self::new();
    }
}

impl Vcpu {
    /// Counts `event`, which happened to this hart. Any context.
    #[inline(always)]
    pub(crate) fn note(&self, event: FirmwareEvent) {
        self.shared().firmware.note(event);
    }
}

/// Returns whether `index` is the number of `cycle` or `instret`.
fn is_zicntr(index: usize) -> bool {
    const INSTRET: usize = (bindings::CSR_INSTRET - bindings::CSR_CYCLE) as usize;
    matches!(index, 0 | INSTRET)
}

/// Reads a counter for the guest (Zicntr, Zihpm). May sleep.
///
/// Without counters there are still `cycle` and `instret`, which never move: guests rely on them
/// (`kvm_riscv_vcpu_pmu_read_hpm()`).
pub(crate) fn csr(vcpu: &mut Loaded<'_>, op: &CsrOp) -> CsrOutcome {
    let csr = u32::from(op.csr.into_raw());
    let index = csr.wrapping_sub(bindings::CSR_CYCLE) as usize;
    let value = match layout() {
        None => is_zicntr(index).then_some(0),
        Some(_) => {
            let firmware = &vcpu.vcpu().shared().firmware;
            vcpu.pmu.read(index, firmware)
        }
    };
    value.map_or(CsrOutcome::Illegal, |value| {
        CsrOutcome::Done(value as usize)
    })
}
