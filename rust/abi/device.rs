// SPDX-License-Identifier: GPL-2.0

//! Doors of interrupt routing: wires and MSIs that come from outside of the guest. Answers to the
//! interrupt half of `vm.c`.

use kernel::{
    error::from_result,
    ffi::c_int,
    prelude::*, //
};

use crate::{
    aia::{
        aplic::LineOwner,
        msi::{
            Delivery,
            Level, //
        },
        route::{
            self,
            Route, //
        }, //
    },
    bindings,
    mem::addr::Gpa,
    vm::Vm, //
};

/// What core KVM is told of an interrupt: how many got it.
fn count(delivery: Delivery) -> Result<c_int> {
    match delivery {
        Delivery::Delivered => Ok(1),
        Delivery::Blocked => Ok(0),
        Delivery::Defer => Err(EAGAIN),
    }
}

fn level(level: c_int) -> Level {
    if level == 0 {
        Level::Low
    } else {
        Level::High
    }
}

/// Who drives a wire, by the number that core KVM gives to sources.
fn owner(source: c_int) -> LineOwner {
    if source == bindings::KVM_IRQFD_RESAMPLE_IRQ_SOURCE_ID as c_int {
        LineOwner::Resample
    } else {
        LineOwner::Userspace
    }
}

/// # Safety
///
/// `entry` is valid, and its union holds what its type says.
unsafe fn route_of(entry: *const bindings::kvm_kernel_irq_routing_entry) -> Route {
    // SAFETY: as the caller promises.
    let kind = unsafe { (*entry).type_ };
    match kind {
        bindings::KVM_IRQ_ROUTING_IRQCHIP => {
            // SAFETY: as the caller promises.
            Route::Wire(unsafe { pin_of(entry) })
        }
        // SAFETY: as the caller promises.
        bindings::KVM_IRQ_ROUTING_MSI => unsafe { msi_of(entry) },
        _ => Route::Other,
    }
}

/// # Safety
///
/// `entry` is valid, and its union holds a pin.
unsafe fn pin_of(entry: *const bindings::kvm_kernel_irq_routing_entry) -> u32 {
    // SAFETY: as the caller promises.
    let entry = unsafe { &*entry };
    // SAFETY: as the caller promises.
    unsafe { entry.__bindgen_anon_1.irqchip.as_ref() }.pin
}

/// # Safety
///
/// `entry` is valid, and its union holds an MSI.
unsafe fn msi_of(entry: *const bindings::kvm_kernel_irq_routing_entry) -> Route {
    // SAFETY: as the caller promises.
    let entry = unsafe { &*entry };
    // SAFETY: as the caller promises.
    let msi = unsafe { entry.__bindgen_anon_1.msi.as_ref() };
    Route::Msi {
        gpa: Gpa::new(u64::from(msi.address_hi) << 32 | u64::from(msi.address_lo)),
        data: msi.data,
    }
}

/// Sends what is signalled where `route` leads, and tells core KVM what became of it.
///
/// # Safety
///
/// The VM is live.
unsafe fn signal(kvm: *mut bindings::kvm, route: Route) -> c_int {
    // SAFETY: as the caller promises.
    let vm = unsafe { Vm::from_raw(kvm) };
    from_result(|| count(route::signal(vm, route)?))
}

door! {
    /// Whether the VM has an in-kernel interrupt controller.
    ///
    /// # Safety
    ///
    /// The VM is live.
    fn kvm_arch_irqchip_in_kernel(kvm: *mut bindings::kvm) -> bool {
        // SAFETY: see above.
        unsafe { Vm::from_raw(kvm) }.aia().in_kernel()
    }
}

door! {
    /// Whether `KVM_SET_GSI_ROUTING` has anything to route to.
    ///
    /// # Safety
    ///
    /// The VM is live.
    fn kvm_arch_can_set_irq_routing(kvm: *mut bindings::kvm) -> bool {
        // SAFETY: see above.
        unsafe { Vm::from_raw(kvm) }.aia().in_kernel()
    }
}

door! {
    /// `KVM_IRQ_LINE`: the number is that of an APLIC source.
    ///
    /// # Safety
    ///
    /// The VM is live; `line` is core KVM's own copy.
    fn kvm_vm_ioctl_irq_line(
        kvm: *mut bindings::kvm,
        line: *mut bindings::kvm_irq_level,
        _line_status: bool,
    ) -> c_int {
        // SAFETY: see above.
        let vm = unsafe { Vm::from_raw(kvm) };
        // SAFETY: see above.
        let line = unsafe { &*line };
        // SAFETY: both members of the union are numbers.
        let irq = unsafe { *line.__bindgen_anon_1.irq.as_ref() };
        from_result(|| {
            if !vm.aia().in_kernel() {
                return Err(ENXIO);
            }
            let level = level((line.level != 0).into());
            let _: Delivery = route::set_wire(vm, irq, LineOwner::Userspace, level)?;
            Ok(0)
        })
    }
}

/// The wire that an entry of the routing table leads to changes.
///
/// # Safety
///
/// For core KVM: `entry` is one that [`kvm_set_routing_entry`] made a pin's, and the VM is live.
unsafe extern "C" fn set_pin(
    entry: *mut bindings::kvm_kernel_irq_routing_entry,
    kvm: *mut bindings::kvm,
    source: c_int,
    new: c_int,
    _line_status: bool,
) -> c_int {
    // SAFETY: see above.
    let vm = unsafe { Vm::from_raw(kvm) };
    // SAFETY: see above.
    let pin = unsafe { pin_of(entry) };
    from_result(|| count(route::set_wire(vm, pin, owner(source), level(new))?))
}

door! {
    /// Translates a routing entry of userspace.
    ///
    /// # Safety
    ///
    /// Core KVM passes its new entry, and a copy of the user's.
    fn kvm_set_routing_entry(
        _kvm: *mut bindings::kvm,
        entry: *mut bindings::kvm_kernel_irq_routing_entry,
        user: *const bindings::kvm_irq_routing_entry,
    ) -> c_int {
        // SAFETY: see above.
        let entry = unsafe { &mut *entry };
        // SAFETY: see above.
        let user = unsafe { &*user };
        match user.type_ {
            bindings::KVM_IRQ_ROUTING_IRQCHIP => {
                // SAFETY: the type says what the union holds, and any bits will do.
                let from = unsafe { user.u.irqchip.as_ref() };
                if from.pin >= bindings::KVM_IRQCHIP_NUM_PINS
                    || from.irqchip >= bindings::KVM_NR_IRQCHIPS
                {
                    return EINVAL.to_errno();
                }
                entry.set = Some(set_pin);
                // SAFETY: any bits will do.
                let to = unsafe { entry.__bindgen_anon_1.irqchip.as_mut() };
                to.irqchip = from.irqchip;
                to.pin = from.pin;
            }
            bindings::KVM_IRQ_ROUTING_MSI => {
                // SAFETY: as above.
                let from = unsafe { user.u.msi.as_ref() };
                entry.set = Some(kvm_set_msi);
                // SAFETY: any bits will do.
                let to = unsafe { entry.__bindgen_anon_1.msi.as_mut() };
                to.address_lo = from.address_lo;
                to.address_hi = from.address_hi;
                to.data = from.data;
                to.flags = user.flags;
                // SAFETY: `devid` shares its place with padding: any bits will do.
                to.devid = unsafe { *from.__bindgen_anon_1.devid.as_ref() };
            }
            _ => return EINVAL.to_errno(),
        }
        0
    }
}

door! {
    /// Delivers a message-signalled interrupt, also for `KVM_SIGNAL_MSI` (c-review S14).
    ///
    /// # Safety
    ///
    /// The VM is live; `entry` holds an MSI, whatever its type.
    fn kvm_set_msi(
        entry: *mut bindings::kvm_kernel_irq_routing_entry,
        kvm: *mut bindings::kvm,
        _source: c_int,
        level: c_int,
        _line_status: bool,
    ) -> c_int {
        if level == 0 {
            // Nothing to take back.
            return -1;
        }
        // SAFETY: see above.
        unsafe { signal(kvm, msi_of(entry)) }
    }
}

door! {
    /// An irqfd is signalled, maybe in interrupt context.
    ///
    /// # Safety
    ///
    /// The VM is live; `entry` is a copy of its irqfd's.
    fn kvm_arch_set_irq_inatomic(
        entry: *mut bindings::kvm_kernel_irq_routing_entry,
        kvm: *mut bindings::kvm,
        _source: c_int,
        level: c_int,
        _line_status: bool,
    ) -> c_int {
        if level == 0 {
            return EAGAIN.to_errno();
        }
        // SAFETY: see above.
        unsafe { signal(kvm, route_of(entry)) }
    }
}
