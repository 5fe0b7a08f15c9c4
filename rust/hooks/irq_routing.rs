// SPDX-License-Identifier: GPL-2.0

//! Hooks of interrupt routing: wires and MSIs that come from outside of the guest. Answers to the
//! interrupt half of `vm.c`.

use kernel::{
    error::from_result,
    ffi::c_int,
    prelude::*, //
};

use crate::{
    aia::{
        aplic::word::LineOwner,
        msi::{
            Delivery,
            Level, //
        },
        route::{
            self,
            Route, //
        }, //
    },
    bindings::{
        self,
        check_prototype, //
    },
    kvm_core::{
        addr::Gpa,
        object::Vm, //
    }, //
};

/// Returns what core KVM is told of an interrupt: how many got it.
fn count(delivery: Delivery) -> Result<c_int> {
    match delivery {
        Delivery::Delivered => Ok(1),
        Delivery::Blocked => Ok(0),
        Delivery::Defer => Err(EAGAIN),
    }
}

/// Returns the level that core KVM means: anything but 0 is high.
fn level(level: c_int) -> Level {
    if level == 0 {
        Level::Low
    } else {
        Level::High
    }
}

/// Returns the owner of a wire, by the number that core KVM gives to the source of an interrupt.
fn owner(source: c_int) -> LineOwner {
    if source == bindings::KVM_IRQFD_RESAMPLE_IRQ_SOURCE_ID as c_int {
        LineOwner::Resample
    } else {
        LineOwner::Userspace
    }
}

/// Returns where an entry of the routing table leads.
///
/// # Safety
///
/// `entry` points to a live entry that is not written during the call, and its union holds what its
/// `type_` says.
unsafe fn route_of(entry: *const bindings::kvm_kernel_irq_routing_entry) -> Route {
    // SAFETY: The caller passes a live entry.
    let kind = unsafe { (*entry).type_ };
    match kind {
        bindings::KVM_IRQ_ROUTING_IRQCHIP => {
            // SAFETY: The caller passes a live entry, and by its type the union holds a pin.
            Route::Wire(unsafe { pin_of(entry) })
        }
        // SAFETY: The caller passes a live entry, and by its type the union holds an MSI.
        bindings::KVM_IRQ_ROUTING_MSI => unsafe { msi_of(entry) },
        _ => Route::Other,
    }
}

/// Returns the APLIC source that an entry leads to.
///
/// # Safety
///
/// `entry` points to a live entry that is not written during the call, and its union holds a pin.
unsafe fn pin_of(entry: *const bindings::kvm_kernel_irq_routing_entry) -> u32 {
    // SAFETY: The caller passes a live entry that is not written during the call.
    let entry = unsafe { &*entry };
    // SAFETY: The caller passes an entry with a pin in its union.
    unsafe { entry.__bindgen_anon_1.irqchip.as_ref() }.pin
}

/// Returns the MSI that an entry makes.
///
/// # Safety
///
/// `entry` points to a live entry that is not written during the call, and its union holds an MSI.
unsafe fn msi_of(entry: *const bindings::kvm_kernel_irq_routing_entry) -> Route {
    // SAFETY: The caller passes a live entry that is not written during the call.
    let entry = unsafe { &*entry };
    // SAFETY: The caller passes an entry with an MSI in its union.
    let msi = unsafe { entry.__bindgen_anon_1.msi.as_ref() };
    Route::Msi {
        gpa: Gpa::new(u64::from(msi.address_hi) << 32 | u64::from(msi.address_lo)),
        data: msi.data,
    }
}

/// Delivers the interrupt to the target of `route`, and returns the outcome as core KVM wants it.
///
/// # Safety
///
/// `kvm` points to a live VM that went through [`Vm::create`].
unsafe fn signal(kvm: *mut bindings::kvm, route: Route) -> c_int {
    // SAFETY: The caller passes a live VM that went through `Vm::create`.
    let vm = unsafe { Vm::from_raw(kvm) };
    from_result(|| count(route::signal(vm, route)?))
}

/// Returns whether the VM has an in-kernel interrupt controller.
///
/// # Safety
///
/// Core KVM passes a live VM.
#[no_mangle]
unsafe extern "C" fn kvm_arch_irqchip_in_kernel(kvm: *mut bindings::kvm) -> bool {
    // SAFETY: Core KVM passes a live VM.
    unsafe { Vm::from_raw(kvm) }.aia().in_kernel()
}
check_prototype!(kvm_arch_irqchip_in_kernel);

/// Returns whether `KVM_SET_GSI_ROUTING` has anything to route to.
///
/// # Safety
///
/// Core KVM passes a live VM.
#[no_mangle]
unsafe extern "C" fn kvm_arch_can_set_irq_routing(kvm: *mut bindings::kvm) -> bool {
    // SAFETY: Core KVM passes a live VM.
    unsafe { Vm::from_raw(kvm) }.aia().in_kernel()
}
check_prototype!(kvm_arch_can_set_irq_routing);

/// Changes the wire of an APLIC source, whose number userspace gives (`KVM_IRQ_LINE`).
///
/// # Safety
///
/// Core KVM passes a live VM, and in `line` its own copy of the user's argument.
#[no_mangle]
unsafe extern "C" fn kvm_vm_ioctl_irq_line(
    kvm: *mut bindings::kvm,
    line: *mut bindings::kvm_irq_level,
    _line_status: bool,
) -> c_int {
    // SAFETY: Core KVM passes a live VM.
    let vm = unsafe { Vm::from_raw(kvm) };
    // SAFETY: `line` is core KVM's own copy: it is initialised, and no other thread writes it.
    let line = unsafe { &*line };
    // SAFETY: Both members of the union are integers of 32 bits, so any bits are valid.
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
check_prototype!(kvm_vm_ioctl_irq_line);

/// Changes the wire that an entry of the routing table leads to.
///
/// # Safety
///
/// Core KVM passes an entry that [`kvm_set_routing_entry`] made a pin's, and a live VM.
unsafe extern "C" fn set_pin(
    entry: *mut bindings::kvm_kernel_irq_routing_entry,
    kvm: *mut bindings::kvm,
    source: c_int,
    new: c_int,
    _line_status: bool,
) -> c_int {
    // SAFETY: Core KVM passes a live VM.
    let vm = unsafe { Vm::from_raw(kvm) };
    // SAFETY: Core KVM passes a live entry, and `kvm_set_routing_entry()` put a pin into its union
    // when it put this function into `set`.
    let pin = unsafe { pin_of(entry) };
    from_result(|| count(route::set_wire(vm, pin, owner(source), level(new))?))
}

/// Translates a routing entry of userspace.
///
/// # Safety
///
/// Core KVM passes its new entry, which no other thread reaches yet, and a kernel copy of the
/// user's.
#[no_mangle]
unsafe extern "C" fn kvm_set_routing_entry(
    _kvm: *mut bindings::kvm,
    entry: *mut bindings::kvm_kernel_irq_routing_entry,
    user: *const bindings::kvm_irq_routing_entry,
) -> c_int {
    // SAFETY: Core KVM passes its new, initialised entry, which no other thread reaches yet.
    let entry = unsafe { &mut *entry };
    // SAFETY: Core KVM passes a kernel copy of the user's entry, which no thread writes.
    let user = unsafe { &*user };
    match user.type_ {
        bindings::KVM_IRQ_ROUTING_IRQCHIP => {
            // SAFETY: By `type_` the union holds a pin, which is two integers, so any bits are
            // valid.
            let from = unsafe { user.u.irqchip.as_ref() };
            if from.pin >= bindings::KVM_IRQCHIP_NUM_PINS
                || from.irqchip >= bindings::KVM_NR_IRQCHIPS
            {
                return EINVAL.to_errno();
            }
            entry.set = Some(set_pin);
            // SAFETY: The member is two integers, so any bits are valid, and `entry` is
            // borrowed mutably.
            let to = unsafe { entry.__bindgen_anon_1.irqchip.as_mut() };
            to.irqchip = from.irqchip;
            to.pin = from.pin;
        }
        bindings::KVM_IRQ_ROUTING_MSI => {
            // SAFETY: By `type_` the union holds an MSI, which is four integers, so any bits
            // are valid.
            let from = unsafe { user.u.msi.as_ref() };
            entry.set = Some(kvm_set_msi);
            // SAFETY: The member is five integers, so any bits are valid, and `entry` is
            // borrowed mutably.
            let to = unsafe { entry.__bindgen_anon_1.msi.as_mut() };
            to.address_lo = from.address_lo;
            to.address_hi = from.address_hi;
            to.data = from.data;
            to.flags = user.flags;
            // SAFETY: `devid` shares its place with `pad`, an integer of the same size, so any
            // bits are valid.
            to.devid = unsafe { *from.__bindgen_anon_1.devid.as_ref() };
        }
        _ => return EINVAL.to_errno(),
    }
    0
}
check_prototype!(kvm_set_routing_entry);

/// Delivers a message-signalled interrupt, also for `KVM_SIGNAL_MSI` (differences-from-c S14).
///
/// # Safety
///
/// Core KVM passes a live VM, and an entry with an MSI in its union, whatever its `type_`.
#[no_mangle]
unsafe extern "C" fn kvm_set_msi(
    entry: *mut bindings::kvm_kernel_irq_routing_entry,
    kvm: *mut bindings::kvm,
    _source: c_int,
    level: c_int,
    _line_status: bool,
) -> c_int {
    if level == 0 {
        // An MSI has no level, so there is nothing to lower.
        return -1;
    }
    // SAFETY: Core KVM passes a live VM, and a live entry with an MSI in its union.
    unsafe { signal(kvm, msi_of(entry)) }
}
check_prototype!(kvm_set_msi);

/// Delivers the interrupt of an irqfd that is signalled, maybe in interrupt context.
///
/// # Safety
///
/// Core KVM passes a live VM, and in `entry` its own copy of the irqfd's routing entry.
#[no_mangle]
unsafe extern "C" fn kvm_arch_set_irq_inatomic(
    entry: *mut bindings::kvm_kernel_irq_routing_entry,
    kvm: *mut bindings::kvm,
    _source: c_int,
    level: c_int,
    _line_status: bool,
) -> c_int {
    if level == 0 {
        return EAGAIN.to_errno();
    }
    // SAFETY: Core KVM passes a live VM, and its own copy of a routing entry, in which the
    // union holds what `type_` says.
    unsafe { signal(kvm, route_of(entry)) }
}
check_prototype!(kvm_arch_set_irq_inatomic);
