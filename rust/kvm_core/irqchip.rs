// SPDX-License-Identifier: GPL-2.0

//! Core KVM's functions for an interrupt controller, for safe callers: locks of a VM, and the
//! routing table. As in [`core`](crate::kvm_core::calls), the reason why it is sound stands in each.

use kernel::{
    error::to_result,
    prelude::*, //
};

use crate::{
    bindings,
    kernel_ext::nospec,
    kvm_core::object::Vm, //
};

/// Proof that `kvm->lock` is held. The holder of the lock only ever lends it out by reference.
pub(crate) struct VmLock<'v>(&'v Vm);

impl<'v> VmLock<'v> {
    /// Runs `f` with the lock taken.
    pub(crate) fn with<R>(vm: &'v Vm, f: impl FnOnce(&VmLock<'v>) -> R) -> R {
        // SAFETY: By the invariant of `Vm` the VM is live.
        unsafe { bindings::kvm_rs_lock(vm.as_ptr()) };
        let result = f(&VmLock(vm));
        // SAFETY: This thread took `kvm->lock` before it called `f`, and still holds it.
        unsafe { bindings::kvm_rs_unlock(vm.as_ptr()) };
        result
    }

    /// Runs `f` with the lock that the caller of a door holds.
    ///
    /// # Safety
    ///
    /// The calling thread holds `kvm->lock` of `vm` until this returns.
    pub(crate) unsafe fn assume<R>(vm: &Vm, f: impl FnOnce(&VmLock<'_>) -> R) -> R {
        f(&VmLock(vm))
    }

    /// The VM.
    pub(crate) fn vm(&self) -> &'v Vm {
        self.0
    }

    /// Whether a vCPU is being created.
    pub(crate) fn is_creating_vcpu(&self) -> bool {
        // SAFETY: `self` exists, so `kvm->lock` is held. By the invariant of `Vm` the VM is live.
        unsafe { bindings::kvm_is_vcpu_creation_in_progress(self.0.as_ptr()) }
    }
}

/// `kvm->slots_lock`, held.
pub(crate) struct SlotsLock<'v>(&'v Vm);

impl<'v> SlotsLock<'v> {
    /// Takes it.
    pub(crate) fn lock(vm: &'v Vm) -> Self {
        // SAFETY: By the invariant of `Vm` the VM is live. `drop` unlocks what this locks.
        unsafe { bindings::kvm_rs_lock_slots(vm.as_ptr()) };
        Self(vm)
    }
}

impl Drop for SlotsLock<'_> {
    fn drop(&mut self) {
        // SAFETY: `lock` took `kvm->slots_lock`, and only this unlocks it. By the invariant of `Vm`
        // the VM is live.
        unsafe { bindings::kvm_rs_unlock_slots(self.0.as_ptr()) };
    }
}

/// The only irqchip's number.
const IRQCHIP: u32 = 0;

/// Tells the resampling irqfds that drive pin `pin` that the guest is done with it. They call back
/// into us to lower the wire, so the caller holds no lock of the controller.
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

/// `pin`, if core KVM's table has an entry for it, also in speculation.
fn known_pin(pin: u32) -> Option<u32> {
    const PINS: usize = bindings::KVM_IRQCHIP_NUM_PINS as usize;

    let pin = pin as usize;
    (pin < PINS).then(|| nospec::index(pin, PINS) as u32)
}

/// Leads each global number up to `last` to the pin of that number.
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
