// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! In the place of `perf_event.rs` in a kernel without the driver for the host's performance
//! counters: guests have none.

use kernel::prelude::*;

use crate::{
    kvm_core::object::HeldVcpu,
    sbi_abi::message::pmu::Filter,
    vcpu::pmu::{
        counters::{
            Event,
            NotStarted,
            Overflows,
            Room,
            Source, //
        },
        event::HardwareEvent,
        layout::Layout, //
    }, //
};

/// Returns that there are no counters.
pub(crate) fn layout() -> Option<Layout> {
    None
}

/// Returns that the host has no counter.
pub(crate) fn can_count(_event: HardwareEvent) -> bool {
    false
}

/// A source without events.
pub(crate) struct PerfSource;

impl PerfSource {
    /// Makes events for any vCPU, of which there are none.
    ///
    /// # Errors
    ///
    /// None.
    pub(crate) fn of(_vcpu: HeldVcpu<'_>, _overflows: Overflows) -> Result<Self> {
        Ok(Self)
    }
}

/// Nothing that could overflow.
pub(crate) struct OverflowSink;

impl OverflowSink {
    /// Makes the sink of a vCPU without events.
    pub(crate) fn new() -> Self {
        Self
    }

    /// Does nothing: there is no event.
    pub(crate) fn disconnect(&self) {}
}

impl Source for PerfSource {
    type Event = PerfEvent;

    fn create(&mut self, _: HardwareEvent, _: Filter, _: u32, _: Room) -> Option<PerfEvent> {
        None
    }
}

/// The type without values: no event exists.
pub(crate) enum PerfEvent {}

impl Event for PerfEvent {
    fn start(&mut self, _value: u64) -> Result<(), NotStarted> {
        match *self {}
    }

    fn stop(&mut self) -> u64 {
        match *self {}
    }

    fn count(&self) -> u64 {
        match *self {}
    }

    fn wrapped(&self) -> bool {
        match *self {}
    }

    fn leave(&mut self) {
        match *self {}
    }

    fn enter(&mut self) {
        match *self {}
    }
}
