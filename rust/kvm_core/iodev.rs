// SPDX-License-Identifier: GPL-2.0

//! Pages of the interrupt controller on the MMIO bus of core KVM. Answers to the `kvm_io_device`s
//! of `aia_aplic.c` and `aia_imsic.c`.
//!
//! Locks: `kvm->slots_lock` to put them there and to take them off; accesses come with `kvm->srcu`
//! held.

use core::ptr;

use kernel::{
    error::{
        from_result,
        to_result, //
    },
    ffi::{
        c_int,
        c_void, //
    },
    prelude::*,
    types::Opaque, //
};

use crate::{
    bindings,
    kernel_ext::compat,
    kvm_core::{
        addr::Gpa,
        locks,
        object::{
            Vcpu,
            Vm, //
        }, //
    }, //
};

/// The device behind pages on the MMIO bus. Called in the thread of the vCPU that makes the access,
/// with `kvm->srcu` held.
pub(crate) trait BusPort: Copy + Send + Sync {
    /// Reads the word at `offset`; returns [`None`] if there is no device.
    fn read(self, vm: &Vm, offset: u32) -> Option<u32>;

    /// Writes the word at `offset`; returns [`None`] if there is no device.
    fn write(self, vm: &Vm, offset: u32, value: u32) -> Option<()>;
}

/// One or more pages, in which guest accesses call a [`BusPort`].
///
/// # Invariants
///
/// `raw` comes first, so that the address by which core KVM knows the device is also that of the
/// `BusDevice`.
#[repr(C)]
pub(crate) struct BusDevice<P> {
    /// Core KVM's part of the device.
    raw: Opaque<bindings::kvm_io_device>,
    /// The guest physical address of offset 0.
    base: Gpa,
    /// The device that serves the accesses.
    port: P,
}

// SAFETY: `raw` is a constant pointer to a constant table, and the port may be sent.
unsafe impl<P: BusPort> Send for BusDevice<P> {}
// SAFETY: `raw` is a constant pointer to a constant table, no field is written after `new`, and the
// port may be shared.
unsafe impl<P: BusPort> Sync for BusDevice<P> {}

impl<P: BusPort> BusDevice<P> {
    /// Core KVM's table of the device's operations.
    const OPS: &'static bindings::kvm_io_device_ops = &bindings::kvm_io_device_ops {
        read: Some(read::<P>),
        write: Some(write::<P>),
        destructor: None,
    };

    /// Allocates a device with its registers at `base`.
    fn new(base: Gpa, port: P) -> Result<KBox<Self>> {
        let raw = bindings::kvm_io_device { ops: Self::OPS };
        // INVARIANT: `raw` is the first field, and `repr(C)` keeps the order of the fields.
        Ok(KBox::new(
            Self {
                raw: Opaque::new(raw),
                base,
                port,
            },
            GFP_KERNEL_ACCOUNT,
        )?)
    }

    /// Returns the pointer that core KVM knows the device by.
    fn as_raw(&self) -> *mut bindings::kvm_io_device {
        ptr::from_ref(self).cast_mut().cast()
    }

    /// Returns the device that core KVM passes to an operation.
    ///
    /// # Safety
    ///
    /// `raw` comes from [`as_raw`](Self::as_raw) of a device that is live for `'a`.
    unsafe fn from_raw<'a>(raw: *mut bindings::kvm_io_device) -> &'a Self {
        // SAFETY: The caller passes a pointer from `as_raw` to a live device. Devices are never
        // mutated.
        unsafe { &*raw.cast() }
    }

    /// Returns the offset of an access of `len` bytes at `addr`, or [`None`] unless it is a
    /// naturally aligned word.
    fn offset(&self, addr: u64, len: c_int) -> Option<u32> {
        (len == 4 && addr & 3 == 0)
            .then(|| addr.wrapping_sub(self.base.get()))
            .and_then(|offset| u32::try_from(offset).ok())
    }
}

/// Reads a word of a device for core KVM's `read` operation.
///
/// # Safety
///
/// Core KVM calls this in a vCPU's thread and passes that vCPU. `this` is a device that is on the
/// bus, and `value` has room for `len` bytes.
unsafe extern "C" fn read<P: BusPort>(
    vcpu: *mut bindings::kvm_vcpu,
    this: *mut bindings::kvm_io_device,
    addr: u64,
    len: c_int,
    value: *mut c_void,
) -> c_int {
    // SAFETY: Core KVM passes a device that is on the bus. A device is freed only when it is off
    // the bus and no access is in it, so this one is live.
    let this = unsafe { BusDevice::<P>::from_raw(this) };
    // SAFETY: Core KVM passes the accessing vCPU, which is live.
    let vcpu = unsafe { Vcpu::from_raw(vcpu) };
    from_result(|| {
        let offset = this.offset(addr, len).ok_or_else(compat::eopnotsupp)?;
        let word = this
            .port
            .read(vcpu.vm(), offset)
            .ok_or_else(compat::eopnotsupp)?;
        // SAFETY: `value` has room for `len` bytes, and `offset()` accepts only a `len` of 4.
        unsafe { value.cast::<u32>().write_unaligned(word) };
        Ok(0)
    })
}

/// Writes a word of a device for core KVM's `write` operation.
///
/// # Safety
///
/// Core KVM calls this in a vCPU's thread and passes that vCPU. `this` is a device that is on the
/// bus, and `value` holds `len` bytes.
unsafe extern "C" fn write<P: BusPort>(
    vcpu: *mut bindings::kvm_vcpu,
    this: *mut bindings::kvm_io_device,
    addr: u64,
    len: c_int,
    value: *const c_void,
) -> c_int {
    // SAFETY: Core KVM passes a device that is on the bus. A device is freed only when it is off
    // the bus and no access is in it, so this one is live.
    let this = unsafe { BusDevice::<P>::from_raw(this) };
    // SAFETY: Core KVM passes the accessing vCPU, which is live.
    let vcpu = unsafe { Vcpu::from_raw(vcpu) };
    from_result(|| {
        let offset = this.offset(addr, len).ok_or_else(compat::eopnotsupp)?;
        // SAFETY: `value` holds `len` bytes, and `offset()` accepts only a `len` of 4.
        let word = unsafe { value.cast::<u32>().read_unaligned() };
        this.port
            .write(vcpu.vm(), offset, word)
            .ok_or_else(compat::eopnotsupp)?;
        Ok(0)
    })
}

/// Devices on the bus of a VM whose controller is being built; dropping this removes them from the
/// bus.
pub(crate) struct Registrations<'v, P: BusPort> {
    /// The VM whose bus the devices are on.
    vm: &'v Vm,
    /// The devices that are on the bus.
    devices: KVec<KBox<BusDevice<P>>>,
}

impl<'v, P: BusPort> Registrations<'v, P> {
    /// Returns the devices of a VM that has none yet.
    pub(crate) fn new(vm: &'v Vm) -> Self {
        Self {
            vm,
            devices: KVec::new(),
        }
    }

    /// Puts `port` at the `size` bytes from `base` on. Takes `kvm->slots_lock`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC`.
    pub(crate) fn add(&mut self, base: Gpa, size: u32, port: P) -> Result {
        self.devices.reserve(1, GFP_KERNEL_ACCOUNT)?;
        let device = BusDevice::new(base, port)?;
        let _slots = locks::SlotsLock::lock(self.vm);
        // SAFETY: By the invariant of `Vm` the VM is live, and `_slots` holds `kvm->slots_lock`.
        // The device stays where it is until it is off the bus, or the bus is gone.
        to_result(unsafe {
            bindings::kvm_io_bus_register_dev(
                self.vm.as_ptr(),
                bindings::kvm_bus_KVM_MMIO_BUS,
                base.get(),
                size as c_int,
                device.as_raw(),
            )
        })?;
        Ok(self.devices.push(device, GFP_KERNEL_ACCOUNT)?)
    }

    /// Leaves the devices on the bus, for as long as the bus lives: the caller keeps them until the
    /// VM's state is dropped, which core KVM does after it has destroyed the bus.
    pub(crate) fn keep(mut self) -> KVec<KBox<BusDevice<P>>> {
        core::mem::take(&mut self.devices)
    }
}

impl<P: BusPort> Drop for Registrations<'_, P> {
    fn drop(&mut self) {
        if self.devices.is_empty() {
            return;
        }
        let _slots = locks::SlotsLock::lock(self.vm);
        for device in &self.devices {
            // SAFETY: By the invariant of `Vm` the VM is live, and `_slots` holds
            // `kvm->slots_lock`. Core KVM waits until no access is in the device, which is freed
            // after this. If memory is so short that core KVM removes the bus as a whole, it finds
            // the remaining devices off the bus.
            unsafe {
                bindings::kvm_io_bus_unregister_dev(
                    self.vm.as_ptr(),
                    bindings::kvm_bus_KVM_MMIO_BUS,
                    device.as_raw(),
                )
            };
        }
    }
}
