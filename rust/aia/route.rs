// SPDX-License-Identifier: GPL-2.0

//! Interrupts from outside of the guest: wires by number, MSIs by address, and the routing table of
//! core KVM, which maps global interrupt numbers to either. Answers to the interrupt half of `vm.c`
//! and to the injecting functions of `aia_device.c`.
//!
//! The outcome of an interrupt is a [`Delivery`], which the hooks turn into integers.
//!
//! Locks: the APLIC's, then a file's; all of it in any context.

use kernel::prelude::*;

use crate::{
    aia::{
        aplic::word::LineOwner,
        msi::{
            Delivery,
            Level,
            Msi, //
        }, //
        AiaIrqchip,
    },
    kvm_core::{
        addr::Gpa,
        irqfd as kvm,
        object::Vm, //
    }, //
};

/// Changes the wire of APLIC source `source`, as far as `owner` drives it.
///
/// # Errors
///
/// `EBUSY` before the controller is complete; `ENODEV` if there is no such source.
pub(crate) fn set_wire(vm: &Vm, source: u32, owner: LineOwner, level: Level) -> Result<Delivery> {
    let chip = chip(vm)?;
    let aplic = chip.aplic().ok_or(ENODEV)?;
    let mut sink = |msi: Msi| chip.send(vm, msi);
    let mut domain = aplic.domain().lock();
    domain
        .set_line(source, owner, level, &mut sink)
        .map_err(|_| ENODEV)
}

/// Makes the wire of APLIC source `source` high and low again (differences-from-c S1).
///
/// # Errors
///
/// As [`set_wire`].
pub(crate) fn pulse_wire(vm: &Vm, source: u32) -> Result<Delivery> {
    let chip = chip(vm)?;
    let aplic = chip.aplic().ok_or(ENODEV)?;
    let mut sink = |msi: Msi| chip.send(vm, msi);
    let mut domain = aplic.domain().lock();
    domain.pulse(source, &mut sink).map_err(|_| ENODEV)
}

/// Delivers the MSI of a device that writes `data` to `gpa`.
///
/// # Errors
///
/// `EBUSY` before the controller is complete; `ENODEV` if there is no interrupt file.
pub(crate) fn send(vm: &Vm, gpa: Gpa, data: u32) -> Result<Delivery> {
    chip(vm)?.send_to(vm, gpa, data).ok_or(ENODEV)
}

/// Delivers the interrupt of an irqfd that is signalled, in a context that cannot sleep.
///
/// # Errors
///
/// As [`send`] and [`pulse_wire`]. What needs a context that may sleep is no error, but
/// [`Delivery::Defer`].
pub(crate) fn signal(vm: &Vm, route: Route) -> Result<Delivery> {
    match route {
        Route::Msi { gpa, data } => send(vm, gpa, data),
        // An irqfd that resamples keeps the wire high until the guest acknowledges it; only core
        // KVM's work item handles the acknowledgement.
        Route::Wire(source) if kvm::irq_has_notifier(vm, source) => Ok(Delivery::Defer),
        Route::Wire(source) => pulse_wire(vm, source),
        Route::Other => Ok(Delivery::Defer),
    }
}

/// The target of an entry of the routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// To a source of the APLIC.
    Wire(u32),
    /// To the device at an address.
    Msi {
        /// The address.
        gpa: Gpa,
        /// What to write there.
        data: u32,
    },
    /// To several targets, or to none.
    Other,
}

/// Returns the complete controller; `EBUSY` before it is.
fn chip(vm: &Vm) -> Result<&AiaIrqchip> {
    vm.aia().chip().ok_or(EBUSY)
}
