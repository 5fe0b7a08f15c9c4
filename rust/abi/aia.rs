// SPDX-License-Identifier: GPL-2.0

//! The door of `KVM_DEV_TYPE_RISCV_AIA`. Answers to `kvm_riscv_aia_device_ops` of `aia_device.c`.
//!
//! `kvm->lock` is taken here for attributes, after user memory was read and before it is written.

use core::ptr;

use kernel::{
    error::{
        from_result,
        to_result, //
    },
    ffi::c_int,
    prelude::*,
    uaccess::UserPtr, //
};

use super::{
    core::{
        get_user_u32,
        get_user_u64,
        put_user_u32,
        put_user_u64, //
    },
    irqchip::VmLock, //
};
use crate::{
    aia::device::{
        Attr,
        Device,
        Width, //
    },
    bindings,
    vm::Vm, //
};

/// A table of core KVM's.
#[repr(transparent)]
struct Ops(bindings::kvm_device_ops);

// SAFETY: constant.
unsafe impl Sync for Ops {}

/// There is no `release`: a controller lives as long as its VM, whatever becomes of its file.
static OPS: Ops = Ops(bindings::kvm_device_ops {
    name: c"kvm-riscv-aia".to_bytes_with_nul().as_ptr(),
    create: Some(create),
    init: None,
    destroy: Some(destroy),
    release: None,
    set_attr: Some(set_attr),
    get_attr: Some(get_attr),
    has_attr: Some(has_attr),
    ioctl: None,
    mmap: None,
});

/// Core KVM offers the device while this lives.
pub(crate) struct DeviceType(());

impl DeviceType {
    /// Has it offered.
    ///
    /// # Errors
    ///
    /// `EEXIST` if it is already.
    pub(crate) fn register() -> Result<Self> {
        // SAFETY: the table is constant, and taken back in `drop`.
        to_result(unsafe {
            bindings::kvm_register_device_ops(
                &OPS.0,
                bindings::kvm_device_type_KVM_DEV_TYPE_RISCV_AIA,
            )
        })?;
        Ok(Self(()))
    }
}

impl Drop for DeviceType {
    fn drop(&mut self) {
        // SAFETY: registered in `register`; the module goes, so there is no VM.
        unsafe {
            bindings::kvm_unregister_device_ops(bindings::kvm_device_type_KVM_DEV_TYPE_RISCV_AIA)
        };
    }
}

/// # Safety
///
/// For core KVM, which holds `kvm->lock`; `dev` is its own.
unsafe extern "C" fn create(dev: *mut bindings::kvm_device, _type: u32) -> c_int {
    // SAFETY: a device's VM lives as long as the device.
    let vm = unsafe { Vm::from_raw((*dev).kvm) };
    from_result(|| {
        // SAFETY: see above.
        unsafe { VmLock::assume(vm, |lock| Device::new(lock).create()) }?;
        Ok(0)
    })
}

/// Frees a device that has no file: core KVM could not open one, so that `KVM_CREATE_DEVICE` fails,
/// or the VM ends.
///
/// # Safety
///
/// For core KVM, which took `dev` off the VM's list and holds no lock.
unsafe extern "C" fn destroy(dev: *mut bindings::kvm_device) {
    // SAFETY: `dev` is live, and its VM at least until this returns: the thread that destroys the VM
    // calls this after `Vm::destroy`, and one that creates a device has a reference to the VM.
    let vm = unsafe { Vm::from_raw_unless_destroyed((*dev).kvm) };
    if let Some(vm) = vm {
        locked(vm, |device| device.undo_create());
    }
    // SAFETY: core KVM allocated `dev` with `kmalloc()`, and leaves it to this function to free it.
    unsafe { bindings::kfree(dev.cast_const().cast()) };
}

/// The VM and the attribute that userspace means, and where it has the value.
///
/// # Safety
///
/// For core KVM's device functions: `dev` is live, `attr` is core KVM's own copy.
unsafe fn request<'a>(
    dev: *mut bindings::kvm_device,
    attr: *mut bindings::kvm_device_attr,
) -> Result<(&'a Vm, Attr, UserPtr)> {
    // SAFETY: a device's VM lives as long as the device.
    let vm = unsafe { Vm::from_raw((*dev).kvm) };
    // SAFETY: as the caller promises.
    let attr = unsafe { ptr::read(attr) };
    let user = UserPtr::from_addr(attr.addr as usize);
    Ok((vm, Attr::new(attr.group, attr.attr)?, user))
}

/// Runs `f` with `kvm->lock` held.
fn locked<R>(vm: &Vm, f: impl FnOnce(&Device<'_, '_>) -> R) -> R {
    VmLock::with(vm, |lock| f(&Device::new(lock)))
}

/// # Safety
///
/// As [`request`].
unsafe extern "C" fn set_attr(
    dev: *mut bindings::kvm_device,
    attr: *mut bindings::kvm_device_attr,
) -> c_int {
    from_result(|| {
        // SAFETY: as the caller promises.
        let (vm, attr, user) = unsafe { request(dev, attr) }?;
        let value = match attr.width() {
            Width::Nothing => 0,
            Width::Word => get_user_u32(user)?.into(),
            Width::Double => get_user_u64(user)?,
        };
        locked(vm, |device| device.set(attr, value))?;
        Ok(0)
    })
}

/// # Safety
///
/// As [`request`].
unsafe extern "C" fn get_attr(
    dev: *mut bindings::kvm_device,
    attr: *mut bindings::kvm_device_attr,
) -> c_int {
    from_result(|| {
        // SAFETY: as the caller promises.
        let (vm, attr, user) = unsafe { request(dev, attr) }?;
        let value = locked(vm, |device| device.get(attr))?;
        match attr.width() {
            Width::Nothing => {}
            Width::Word => put_user_u32(user, value as u32)?,
            Width::Double => put_user_u64(user, value)?,
        }
        Ok(0)
    })
}

/// # Safety
///
/// As [`request`].
unsafe extern "C" fn has_attr(
    dev: *mut bindings::kvm_device,
    attr: *mut bindings::kvm_device_attr,
) -> c_int {
    from_result(|| {
        // SAFETY: as the caller promises.
        let (vm, attr, _) = unsafe { request(dev, attr) }?;
        locked(vm, |device| device.has(attr))?;
        Ok(0)
    })
}
