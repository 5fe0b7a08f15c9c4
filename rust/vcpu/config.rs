// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! The registers that decide what a guest does without an exit. Answers to `vcpu_config.c`.
//!
//! They are no state: they follow from the guest's extensions, the firmware features that it has
//! set, and whether userspace debugs it, and are derived anew when one of these changes.

use crate::{
    bindings,
    sbi_abi::fwft::{
        Platform,
        State, //
    }, //
};

/// Exceptions that every guest takes itself.
const HEDELEG: u64 = 1 << bindings::EXC_INST_MISALIGNED
    | 1 << bindings::EXC_INST_ILLEGAL
    | 1 << bindings::EXC_BREAKPOINT
    | 1 << bindings::EXC_SYSCALL
    | 1 << bindings::EXC_INST_PAGE_FAULT
    | 1 << bindings::EXC_LOAD_PAGE_FAULT
    | 1 << bindings::EXC_STORE_PAGE_FAULT;

/// Whether userspace gets the guest's breakpoints (`KVM_SET_GUEST_DEBUG`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GuestDebug {
    /// Userspace.
    On,
    /// The guest.
    Off,
}

/// The registers of [`config`](self) that SBI calls and ioctls can still change after the vCPU has
/// run. C: `struct kvm_vcpu_config`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HypConfig {
    /// Exceptions that the guest takes itself.
    pub(crate) hedeleg: u64,
    /// Features of the hart that the guest has.
    pub(crate) henvcfg: u64,
}

impl HypConfig {
    /// Returns the configuration of a guest on `platform` whose features are `features`.
    pub(crate) fn of(platform: &Platform, features: &State, debug: GuestDebug) -> Self {
        let effect = features.effect(platform);
        let intercepted = match debug {
            GuestDebug::On => 1 << bindings::EXC_BREAKPOINT,
            GuestDebug::Off => 0,
        };
        Self {
            hedeleg: (HEDELEG | effect.hedeleg) & !intercepted,
            henvcfg: platform.isa.henvcfg() | effect.henvcfg,
        }
    }

    /// Those of a hart before its first reset.
    pub(crate) const NONE: Self = Self {
        hedeleg: HEDELEG,
        henvcfg: 0,
    };
}
