// SPDX-License-Identifier: GPL-2.0

//! Doors of interrupt routing. There is no in-kernel interrupt controller yet, and they say so.
//! Answers to the routing half of `vm.c`.

use kernel::{
    ffi::c_int,
    prelude::*, //
};

use crate::bindings;

door! {
    /// Whether the VM has an in-kernel interrupt controller.
    ///
    /// # Safety
    ///
    /// None needed.
    fn kvm_arch_irqchip_in_kernel(_kvm: *mut bindings::kvm) -> bool {
        false
    }
}

door! {
    /// Whether `KVM_SET_GSI_ROUTING` has anything to route to.
    ///
    /// # Safety
    ///
    /// None needed.
    fn kvm_arch_can_set_irq_routing(_kvm: *mut bindings::kvm) -> bool {
        false
    }
}

door! {
    /// `KVM_IRQ_LINE`.
    ///
    /// # Safety
    ///
    /// None needed.
    fn kvm_vm_ioctl_irq_line(
        _kvm: *mut bindings::kvm,
        _line: *mut bindings::kvm_irq_level,
        _line_status: bool,
    ) -> c_int {
        ENXIO.to_errno()
    }
}

door! {
    /// Translates a routing entry of userspace.
    ///
    /// # Safety
    ///
    /// None needed.
    fn kvm_set_routing_entry(
        _kvm: *mut bindings::kvm,
        _entry: *mut bindings::kvm_kernel_irq_routing_entry,
        _user: *const bindings::kvm_irq_routing_entry,
    ) -> c_int {
        EINVAL.to_errno()
    }
}

door! {
    /// Delivers a message-signalled interrupt.
    ///
    /// # Safety
    ///
    /// None needed.
    fn kvm_set_msi(
        _entry: *mut bindings::kvm_kernel_irq_routing_entry,
        _kvm: *mut bindings::kvm,
        _source: c_int,
        _level: c_int,
        _line_status: bool,
    ) -> c_int {
        ENODEV.to_errno()
    }
}
