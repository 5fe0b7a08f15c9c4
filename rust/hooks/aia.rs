// SPDX-License-Identifier: GPL-2.0

//! The device `KVM_DEV_TYPE_RISCV_AIA`, as core KVM calls it. Answers to `kvm_riscv_aia_device_ops`
//! of `aia_device.c`.
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

use crate::{
    aia::device::{
        Attr,
        Device,
        Width, //
    },
    bindings,
    kernel_ext::uaccess::{
        get_user_u32,
        get_user_u64,
        put_user_u32,
        put_user_u64, //
    },
    kvm_core::{
        locks::VmLock,
        object::Vm, //
    }, //
};

/// A `struct kvm_device_ops`, for a static.
#[repr(transparent)]
struct Ops(bindings::kvm_device_ops);

// SAFETY: The table is constant, and so is the name that it points to.
unsafe impl Sync for Ops {}

/// There is no `release`: a controller lives as long as its VM, also after its file is closed.
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

/// The registration of the device type: core KVM offers the device while this lives.
pub(crate) struct DeviceType(());

impl DeviceType {
    /// Registers the device type with core KVM.
    ///
    /// # Errors
    ///
    /// `EEXIST` if it is already.
    pub(crate) fn register() -> Result<Self> {
        // SAFETY: The table is constant, and `drop` unregisters it before the module is unloaded.
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
        // SAFETY: `register` registered the table. The module is being unloaded, or was never
        // ready, so there is no VM.
        unsafe {
            bindings::kvm_unregister_device_ops(bindings::kvm_device_type_KVM_DEV_TYPE_RISCV_AIA)
        };
    }
}

/// Creates the device for `KVM_CREATE_DEVICE` (`struct kvm_device_ops`).
///
/// # Safety
///
/// Core KVM calls this with `kvm->lock` held. `dev` is core KVM's own, new and live.
unsafe extern "C" fn create(dev: *mut bindings::kvm_device, _type: u32) -> c_int {
    // SAFETY: Core KVM passes a live `dev`, and the thread that creates it has a reference to its
    // VM.
    let vm = unsafe { Vm::from_raw((*dev).kvm) };
    from_result(|| {
        // SAFETY: Core KVM holds `kvm->lock` until this function returns.
        unsafe { VmLock::assume(vm, |lock| device(lock).create()) }?;
        Ok(0)
    })
}

/// Frees a device that has no file: core KVM could not open one, so that `KVM_CREATE_DEVICE` fails,
/// or the VM ends.
///
/// # Safety
///
/// Core KVM calls this with no lock held, after it took `dev` off the VM's list.
unsafe extern "C" fn destroy(dev: *mut bindings::kvm_device) {
    // SAFETY: Core KVM passes a live `dev`. Its VM is live at least until this returns: the thread
    // that destroys the VM calls this after `Vm::destroy`, and a thread that creates a device has a
    // reference to the VM.
    let vm = unsafe { Vm::from_raw_unless_destroyed((*dev).kvm) };
    if let Some(vm) = vm {
        locked(vm, |device| device.undo_create());
    }
    // SAFETY: Core KVM allocated `dev` with `kmalloc()`, and leaves it to this function to free it.
    unsafe { bindings::kfree(dev.cast_const().cast()) };
}

/// Returns the VM and the attribute that userspace means, and where it has the value.
///
/// # Safety
///
/// `dev` and `attr` are the arguments of one of core KVM's device functions: `dev` is live, and
/// `attr` is core KVM's own copy of the user's argument. `'a` ends with that function.
unsafe fn request<'a>(
    dev: *mut bindings::kvm_device,
    attr: *mut bindings::kvm_device_attr,
) -> Result<(&'a Vm, Attr, UserPtr)> {
    // SAFETY: The caller passes a live `dev`, and the file of a device has a reference to its VM.
    let vm = unsafe { Vm::from_raw((*dev).kvm) };
    // SAFETY: The caller passes core KVM's own copy, which is initialised and which no other thread
    // writes.
    let attr = unsafe { ptr::read(attr) };
    let user = UserPtr::from_addr(attr.addr as usize);
    Ok((vm, Attr::new(attr.group, attr.attr)?, user))
}

/// Returns the controller of the VM that `lock` locks.
fn device<'l, 'v>(lock: &'l VmLock<'v>) -> Device<'l, 'v> {
    Device::new(lock, |vcpu| vcpu.apply_pending_reset())
}

/// Runs `f` with `kvm->lock` held.
fn locked<R>(vm: &Vm, f: impl FnOnce(&Device<'_, '_>) -> R) -> R {
    VmLock::with(vm, |lock| f(&device(lock)))
}

/// Sets an attribute for `KVM_SET_DEVICE_ATTR`.
///
/// # Safety
///
/// Core KVM passes a live `dev`, and in `attr` its own copy of the user's argument.
unsafe extern "C" fn set_attr(
    dev: *mut bindings::kvm_device,
    attr: *mut bindings::kvm_device_attr,
) -> c_int {
    from_result(|| {
        // SAFETY: Core KVM passes a live `dev`, and in `attr` its own copy of the user's argument.
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

/// Reads an attribute for `KVM_GET_DEVICE_ATTR`.
///
/// # Safety
///
/// Core KVM passes a live `dev`, and in `attr` its own copy of the user's argument.
unsafe extern "C" fn get_attr(
    dev: *mut bindings::kvm_device,
    attr: *mut bindings::kvm_device_attr,
) -> c_int {
    from_result(|| {
        // SAFETY: Core KVM passes a live `dev`, and in `attr` its own copy of the user's argument.
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

/// Returns whether there is an attribute, for `KVM_HAS_DEVICE_ATTR`.
///
/// # Safety
///
/// Core KVM passes a live `dev`, and in `attr` its own copy of the user's argument.
unsafe extern "C" fn has_attr(
    dev: *mut bindings::kvm_device,
    attr: *mut bindings::kvm_device_attr,
) -> c_int {
    from_result(|| {
        // SAFETY: Core KVM passes a live `dev`, and in `attr` its own copy of the user's argument.
        let (vm, attr, _) = unsafe { request(dev, attr) }?;
        locked(vm, |device| device.has(attr))?;
        Ok(0)
    })
}
