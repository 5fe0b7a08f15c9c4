// SPDX-License-Identifier: GPL-2.0

//! Core KVM's functions for an interrupt controller, for safe callers: resampling irqfds and the
//! routing table. As in [`calls`](crate::kvm_core::calls), the SAFETY comments say why each is
//! sound.

use kernel::{
    error::to_result,
    prelude::*, //
};

use crate::{
    bindings,
    kernel_ext::nospec,
    kvm_core::object::Vm, //
};

/// The only irqchip's number.
const IRQCHIP: u32 = 0;

/// Notifies the resampling irqfds that drive pin `pin` that the guest has handled the interrupt.
/// They call back to lower the wire, so the caller holds no lock of the controller.
pub(crate) fn notify_acked_irq(vm: &Vm, pin: u32) {
    if let Some(pin) = known_pin(pin) {
        // SAFETY: By the invariant of `Vm` the VM is live, and `known_pin` checked that its table
        // has an entry for the pin.
        unsafe { bindings::kvm_notify_acked_irq(vm.as_ptr(), IRQCHIP, pin) };
    }
}

/// Returns whether a resampling irqfd drives pin `pin`. Any context.
pub(crate) fn irq_has_notifier(vm: &Vm, pin: u32) -> bool {
    known_pin(pin).is_some_and(|pin| {
        // SAFETY: By the invariant of `Vm` the VM is live, and `known_pin` checked that its table
        // has an entry for the pin.
        unsafe { bindings::kvm_irq_has_notifier(vm.as_ptr(), IRQCHIP, pin) }
    })
}

/// Returns `pin`, also in speculation, if core KVM's table has an entry for it.
fn known_pin(pin: u32) -> Option<u32> {
    const PINS: usize = bindings::KVM_IRQCHIP_NUM_PINS as usize;

    let pin = pin as usize;
    (pin < PINS).then(|| nospec::index(pin, PINS) as u32)
}

/// Routes each global number up to `last` to the pin of that number.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn set_pin_routing(vm: &Vm, last: u32) -> Result {
    let mut entries = KVec::with_capacity(last as usize + 1, GFP_KERNEL)?;
    for pin in 0..=last {
        let mut entry = bindings::kvm_irq_routing_entry {
            gsi: pin,
            type_: bindings::KVM_IRQ_ROUTING_IRQCHIP,
            ..Default::default()
        };
        // SAFETY: The member `irqchip` is two integers, so any bits are valid.
        let to = unsafe { entry.u.irqchip.as_mut() };
        to.irqchip = IRQCHIP;
        to.pin = pin;
        entries.push(entry, GFP_KERNEL)?;
    }
    // SAFETY: By the invariant of `Vm` the VM is live, and `entries` has `entries.len()`
    // initialised elements.
    to_result(unsafe {
        bindings::kvm_set_irq_routing(vm.as_ptr(), entries.as_ptr(), entries.len() as u32, 0)
    })
}
