// SPDX-License-Identifier: GPL-2.0

//! Core KVM's objects as the arch layer sees them: a VM and a vCPU. The state of the arch layer is
//! behind the one pointer that `<asm/kvm_host.h>` gives each, in parts that belong to other layers.

use core::ptr;

use kernel::types::{
    NotThreadSafe,
    Opaque, //
};

use crate::{
    bindings,
    kernel_ext::atomic::AtomicU64,
    kvm_core::addr::{
        HartId,
        VcpuIdx, //
    }, //
};

/// A part of the arch layer's state of a VM, which the layer that owns the part reaches by its
/// type.
///
/// # Safety
///
/// What `arch.rust` of every [`Vm`] points to has a `Self` at `OFFSET` bytes from its start. Any
/// thread may have a shared reference to that `Self`, and no code makes a mutable one before the
/// state is dropped.
pub(crate) unsafe trait VmPart: Sized {
    /// The offset of the part, in bytes.
    const OFFSET: usize;
}

/// A part of the arch layer's state of a vCPU, as [`VmPart`] is of a VM.
///
/// # Safety
///
/// What `arch.rust` of every [`Vcpu`] points to has a `Self` at `OFFSET` bytes from its start. Any
/// thread may have a shared reference to that `Self`, and no code makes a mutable one before the
/// state is dropped.
pub(crate) unsafe trait VcpuPart: Sized {
    /// The offset of the part, in bytes.
    const OFFSET: usize;
}

/// Core KVM's `struct kvm`, from the outside.
///
/// # Invariants
///
/// Points into a live `struct kvm`, and its `arch.rust` points to the arch layer's state, which has
/// every [`VmPart`]. Core KVM keeps the VM alive for the duration of every call into the arch
/// layer, which it calls between `kvm_arch_init_vm()` and `kvm_arch_destroy_vm()`. A function that
/// core KVM also calls later uses [`Vm::from_raw_unless_destroyed`].
#[repr(transparent)]
pub(crate) struct Vm(Opaque<bindings::kvm>);

// SAFETY: Core KVM calls the arch layer from any thread. A `Vm` gives away shared references to
// parts of its state alone, which any thread may have.
unsafe impl Send for Vm {}
// SAFETY: A `&Vm` gives any thread shared references to parts of its state alone, which any thread
// may have.
unsafe impl Sync for Vm {}

impl Vm {
    /// Takes a VM of core KVM's.
    ///
    /// # Safety
    ///
    /// For `'a`, `kvm` is live and keeps its state.
    pub(crate) unsafe fn from_raw<'a>(kvm: *mut bindings::kvm) -> &'a Vm {
        // SAFETY: `Vm` is transparent over `struct kvm`, and the caller keeps `kvm` and its state
        // alive for `'a`.
        unsafe { &*kvm.cast() }
    }

    /// Returns the VM, or [`None`] if `kvm_arch_destroy_vm()` has already taken its state.
    ///
    /// # Safety
    ///
    /// `kvm` is live for `'a` and got its state in `kvm_arch_init_vm()`. `kvm_arch_destroy_vm()`
    /// runs neither during the call nor during `'a`.
    pub(crate) unsafe fn from_raw_unless_destroyed<'a>(kvm: *mut bindings::kvm) -> Option<&'a Vm> {
        // SAFETY: The caller keeps `kvm` alive, and `kvm_arch_destroy_vm()` does not write the
        // field during the call.
        let state = unsafe { (*kvm).arch.rust };
        // SAFETY: The caller keeps `kvm` alive for `'a`. `arch.rust` is not null, so
        // `kvm_arch_destroy_vm()` has not run, and by the caller's promise it does not run during
        // `'a`.
        (!state.is_null()).then(|| unsafe { Vm::from_raw(kvm) })
    }

    /// Returns core KVM's own pointer, for calls into it.
    pub(crate) fn as_ptr(&self) -> *mut bindings::kvm {
        self.0.get()
    }

    /// Returns a part of the arch layer's state.
    #[inline(always)]
    pub(crate) fn part<T: VmPart>(&self) -> &T {
        // SAFETY: By the type's invariant `arch.rust` points to the state, which lives as long as
        // `self`. `VmPart` promises that the state has a `T` at this offset, and that no code makes
        // a mutable reference to it.
        unsafe { &*(*self.as_ptr()).arch.rust.byte_add(T::OFFSET).cast::<T>() }
    }

    /// Returns how many vCPUs there are.
    pub(crate) fn online_vcpus(&self) -> usize {
        // SAFETY: By the type's invariant `as_ptr()` points to a live `struct kvm`.
        unsafe { bindings::kvm_rs_online_vcpus(self.as_ptr()) as usize }
    }

    /// Returns the vCPU that was created at position `idx`, if one was.
    pub(crate) fn vcpu(&self, idx: VcpuIdx) -> Option<&Vcpu> {
        if idx.get() >= self.online_vcpus() {
            return None;
        }
        // SAFETY: By the type's invariant the VM is live; `idx` is below `online_vcpus`, so it fits
        // into an `i32`.
        let vcpu = unsafe { bindings::kvm_get_vcpu(self.as_ptr(), idx.get() as i32) };
        // SAFETY: The vCPU is online, so it has its state. Core KVM destroys it with
        // its VM only, so it lives as long as `self`.
        (!vcpu.is_null()).then(|| unsafe { Vcpu::from_raw(vcpu) })
    }

    /// Returns the vCPU that the guest knows as hart `hart`, if there is one. All 64 bits of the id
    /// count.
    pub(crate) fn hart(&self, hart: HartId) -> Option<&Vcpu> {
        let id = i32::try_from(hart.get()).ok()?;
        // SAFETY: By the type's invariant `as_ptr()` points to a live `struct kvm`.
        let vcpu = unsafe { bindings::kvm_get_vcpu_by_id(self.as_ptr(), id) };
        // SAFETY: The vCPU is online, so it has its state. Core KVM destroys it with
        // its VM only, so it lives as long as `self`.
        (!vcpu.is_null()).then(|| unsafe { Vcpu::from_raw(vcpu) })
    }
}

/// Core KVM's `struct kvm_vcpu`, from the outside.
///
/// # Invariants
///
/// Points into a live `struct kvm_vcpu`, and its `arch.rust` points to the arch layer's state,
/// which has every [`VcpuPart`].
#[repr(transparent)]
pub(crate) struct Vcpu(Opaque<bindings::kvm_vcpu>);

// SAFETY: A `Vcpu` gives away shared references to parts of its state alone, which any thread may
// have; what else safe code reaches through it is constant or atomic.
unsafe impl Send for Vcpu {}
// SAFETY: A `&Vcpu` gives any thread shared references to parts of its state alone, which any
// thread may have; what else safe code reaches through it is constant or atomic.
unsafe impl Sync for Vcpu {}

impl Vcpu {
    /// Takes a vCPU of core KVM's.
    ///
    /// # Safety
    ///
    /// For `'a`, `vcpu` is live and keeps its state.
    pub(crate) unsafe fn from_raw<'a>(vcpu: *mut bindings::kvm_vcpu) -> &'a Vcpu {
        // SAFETY: `Vcpu` is transparent over `struct kvm_vcpu`, and the caller keeps `vcpu` and its
        // state alive for `'a`.
        unsafe { &*vcpu.cast() }
    }

    /// Returns core KVM's own pointer, for calls into it.
    pub(crate) fn as_ptr(&self) -> *mut bindings::kvm_vcpu {
        self.0.get()
    }

    /// Returns a part of the arch layer's state.
    #[inline(always)]
    pub(crate) fn part<T: VcpuPart>(&self) -> &T {
        // SAFETY: By the type's invariant `arch.rust` points to the state, which lives as long as
        // `self`. `VcpuPart` promises that the state has a `T` at this offset, and that no code
        // makes a mutable reference to it.
        unsafe { &*(*self.as_ptr()).arch.rust.byte_add(T::OFFSET).cast::<T>() }
    }

    /// Returns the VM that this vCPU belongs to.
    pub(crate) fn vm(&self) -> &Vm {
        // SAFETY: Core KVM sets `kvm` before it calls `kvm_arch_vcpu_create()` and never changes
        // it. The VM has its state, and it outlives its vCPUs.
        unsafe { Vm::from_raw((*self.as_ptr()).kvm) }
    }

    /// Returns the hart id that the guest knows this vCPU by.
    pub(crate) fn hart(&self) -> HartId {
        // SAFETY: Core KVM sets `vcpu_id` once, before it calls `kvm_arch_vcpu_create()`.
        HartId::new(unsafe { (*self.as_ptr()).vcpu_id } as u64)
    }

    /// Returns the vCPU's position among the VM's vCPUs.
    pub(crate) fn idx(&self) -> VcpuIdx {
        // SAFETY: Core KVM writes `vcpu_idx` in the thread that creates the vCPU, while no other
        // thread can reach the vCPU; it is -1 during `kvm_arch_vcpu_create()`.
        VcpuIdx::new(unsafe { (*self.as_ptr()).vcpu_idx } as usize)
    }

    /// Returns the pending requests, by bit (`vcpu->requests`).
    pub(crate) fn requests(&self) -> &AtomicU64 {
        // SAFETY: By the type's invariant the field is live, and core KVM only ever touches it with
        // atomic operations.
        unsafe { AtomicU64::from_ptr(ptr::addr_of_mut!((*self.as_ptr()).requests)) }
    }

    /// Makes the vCPU look at its requests and interrupts: wakes it, or has it leave the guest.
    pub(crate) fn kick(&self) {
        // SAFETY: By the type's invariant `as_ptr()` points to a live `struct kvm_vcpu`.
        unsafe { bindings::kvm_vcpu_kick(self.as_ptr()) };
    }

    /// Wakes the vCPU if it blocks.
    pub(crate) fn wake(&self) {
        // SAFETY: By the type's invariant `as_ptr()` points to a live `struct kvm_vcpu`.
        unsafe { bindings::kvm_vcpu_wake_up(self.as_ptr()) };
    }

    /// Returns whether the vCPU's thread is about to block, or blocks, in the kernel.
    pub(crate) fn is_blocking(&self) -> bool {
        // SAFETY: By the type's invariant `as_ptr()` points to a live `struct kvm_vcpu`.
        unsafe { bindings::kvm_vcpu_is_blocking(self.as_ptr()) }
    }

    /// Notes that the vCPU is loaded on `cpu`; -1 says that it is not loaded.
    ///
    /// # Safety
    ///
    /// This is the vCPU's thread, in `kvm_arch_vcpu_load()` or `kvm_arch_vcpu_put()`.
    pub(crate) unsafe fn set_cpu(&self, cpu: i32) {
        // SAFETY: By the type's invariant the vCPU is live; this only computes the field's address.
        let field = unsafe { ptr::addr_of_mut!((*self.as_ptr()).cpu) };
        // SAFETY: Once the vCPU exists, load and put alone write `cpu`, both in the vCPU's thread.
        // Other CPUs read the aligned word with `READ_ONCE()`, to which a volatile write belongs.
        unsafe { field.write_volatile(cpu) };
    }
}

/// A vCPU whose `vcpu->mutex` the calling thread holds, or whose only user it is. Core KVM leaves
/// fields of `struct kvm_vcpu` to that thread alone.
#[derive(Clone, Copy)]
pub(crate) struct HeldVcpu<'a> {
    /// The vCPU.
    vcpu: &'a Vcpu,
    _thread: NotThreadSafe,
}

impl<'a> HeldVcpu<'a> {
    /// Says that this thread holds the mutex.
    ///
    /// # Safety
    ///
    /// For `'a`, the calling thread holds `vcpu->mutex`, or is the only user of the vCPU.
    pub(crate) unsafe fn new(vcpu: &'a Vcpu) -> Self {
        Self {
            vcpu,
            _thread: NotThreadSafe,
        }
    }

    /// Returns the vCPU.
    #[inline(always)]
    pub(crate) fn get(self) -> &'a Vcpu {
        self.vcpu
    }

    /// Returns core KVM's own pointer, for calls into it.
    #[inline(always)]
    pub(crate) fn as_ptr(self) -> *mut bindings::kvm_vcpu {
        self.vcpu.as_ptr()
    }
}
