// SPDX-License-Identifier: GPL-2.0

//! Hooks of VMs, of `/dev/kvm`, and of the CPUs that come into use for VMs. Answers to `vm.c` and
//! to the hardware enabling of `main.c`.

use kernel::{
    error::from_result,
    ffi::{
        c_int,
        c_long,
        c_uint,
        c_ulong, //
    },
    prelude::*, //
};

use crate::{
    bindings::{
        self,
        check_prototype, //
    },
    hooks::{
        cap::{
            self,
            EnableCap, //
        },
        cpu, //
    },
    kvm_core::object::Vm, //
};

/// Creates the arch part of a VM. No machine types: core KVM passes what `KVM_CREATE_VM` got.
///
/// # Safety
///
/// Core KVM passes a valid VM that it is creating and that no other thread knows yet.
#[no_mangle]
unsafe extern "C" fn kvm_arch_init_vm(kvm: *mut bindings::kvm, _machine: c_ulong) -> c_int {
    from_result(|| {
        // SAFETY: Core KVM passes a valid VM that no other thread knows yet.
        unsafe { Vm::create(kvm) }?;
        Ok(0)
    })
}
check_prototype!(kvm_arch_init_vm);

/// Destroys the vCPUs and the arch part of a VM.
///
/// # Safety
///
/// Core KVM passes a VM that went through [`kvm_arch_init_vm`] and has no users left.
#[no_mangle]
unsafe extern "C" fn kvm_arch_destroy_vm(kvm: *mut bindings::kvm) {
    // SAFETY: Core KVM passes a VM that went through `Vm::create` and is not destroyed yet.
    let vm = unsafe { Vm::from_raw(kvm) };
    vm.aia().retire();
    // SAFETY: Core KVM passes a VM without users, so no thread uses its vCPUs.
    unsafe { bindings::kvm_destroy_vcpus(kvm) };
    // SAFETY: The VM went through `Vm::create` and has no users, and its vCPUs are gone.
    unsafe { Vm::destroy(kvm) };
}
check_prototype!(kvm_arch_destroy_vm);

/// Returns the value of a capability for `KVM_CHECK_EXTENSION` on a VM, or with a null pointer on
/// `/dev/kvm`.
///
/// # Safety
///
/// `kvm` is null or points to a live VM.
#[no_mangle]
unsafe extern "C" fn kvm_vm_ioctl_check_extension(kvm: *mut bindings::kvm, ext: c_long) -> c_int {
    // SAFETY: Core KVM passes a live VM unless `kvm` is null.
    let vm = (!kvm.is_null()).then(|| unsafe { Vm::from_raw(kvm) });
    cap::check(vm, ext)
}
check_prototype!(kvm_vm_ioctl_check_extension);

/// Enables a capability of a VM (`KVM_ENABLE_CAP`).
///
/// # Safety
///
/// `kvm` points to a live VM; `cap` is core KVM's own copy of the user's argument.
#[no_mangle]
unsafe extern "C" fn kvm_vm_ioctl_enable_cap(
    kvm: *mut bindings::kvm,
    cap: *mut bindings::kvm_enable_cap,
) -> c_int {
    // SAFETY: Core KVM passes a VM that is live for the call.
    let vm = unsafe { Vm::from_raw(kvm) };
    // SAFETY: `cap` is core KVM's own copy: it is initialised, and no other thread writes it.
    let cap = unsafe { &*cap };
    from_result(|| {
        vm.enable(EnableCap::try_from(cap)?)?;
        Ok(0)
    })
}
check_prototype!(kvm_vm_ioctl_enable_cap);

/// Refuses all VM ioctls: there are none of our own.
///
/// # Safety
///
/// The function has no requirements, because it uses none of its arguments.
#[no_mangle]
unsafe extern "C" fn kvm_arch_vm_ioctl(
    _file: *mut bindings::file,
    _ioctl: c_uint,
    _arg: c_ulong,
) -> c_int {
    EINVAL.to_errno()
}
check_prototype!(kvm_arch_vm_ioctl);

/// Refuses all ioctls on `/dev/kvm`: there are none of our own.
///
/// # Safety
///
/// The function has no requirements, because it uses none of its arguments.
#[no_mangle]
unsafe extern "C" fn kvm_arch_dev_ioctl(
    _file: *mut bindings::file,
    _ioctl: c_uint,
    _arg: c_ulong,
) -> c_long {
    EINVAL.to_errno() as c_long
}
check_prototype!(kvm_arch_dev_ioctl);

/// Brings a CPU into use for VMs.
///
/// # Safety
///
/// Core KVM calls this on the CPU itself, with interrupts disabled or in the CPU's hotplug
/// thread.
#[no_mangle]
unsafe extern "C" fn kvm_arch_enable_virtualization_cpu() -> c_int {
    from_result(|| cpu::enable_cpu().map(|()| 0))
}
check_prototype!(kvm_arch_enable_virtualization_cpu);

/// Takes a CPU out of use for VMs.
///
/// # Safety
///
/// Core KVM calls this on the CPU itself, with interrupts disabled or in the CPU's hotplug
/// thread.
#[no_mangle]
unsafe extern "C" fn kvm_arch_disable_virtualization_cpu() {
    cpu::disable_cpu();
}
check_prototype!(kvm_arch_disable_virtualization_cpu);
