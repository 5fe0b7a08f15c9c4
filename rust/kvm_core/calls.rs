// SPDX-License-Identifier: GPL-2.0

//! Core KVM's functions, for safe callers. Each function here calls one of them, and its SAFETY
//! comments say why that is sound.

use kernel::{
    error::to_result,
    prelude::*, //
};

use crate::{
    bindings,
    kernel_ext::atomic::Ordering,
    kvm_core::{
        addr::Gpa,
        object::{
            Vcpu,
            Vm, //
        },
        srcu::SlotsRead, //
    }, //
};

/// Returns whether this `KVM_RUN` is to enter the guest at all (`immediate_exit` says no).
pub(crate) fn wants_to_run(vcpu: &Vcpu) -> bool {
    // SAFETY: By the invariant of `Vcpu` the vCPU is live. Core KVM writes `wants_to_run` in this
    // thread, before it calls `kvm_arch_vcpu_ioctl_run()`.
    unsafe { (*vcpu.as_ptr()).wants_to_run }
}

/// Sets `vcpu->mode`, by which core KVM sees where the vCPU is: `OUTSIDE_GUEST_MODE`,
/// `IN_GUEST_MODE`, or `READING_SHADOW_PAGE_TABLES`.
pub(crate) fn set_mode(vcpu: &Vcpu, mode: u32) {
    // SAFETY: By the invariant of `Vcpu` the vCPU is live. This only computes the field's address.
    let cell = unsafe { core::ptr::addr_of_mut!((*vcpu.as_ptr()).mode) };
    // SAFETY: The vCPU is live. The caller is the vCPU's thread. Only this thread, and a kick from
    // an interrupt on its CPU, stores a mode; other CPUs change it by an atomic exchange alone.
    unsafe { cell.write_volatile(mode as i32) };
}

/// Returns whether the mode is still the `IN_GUEST_MODE` that the caller set: no CPU has asked the
/// vCPU to leave the guest.
#[inline(always)]
pub(crate) fn is_in_guest_mode(vcpu: &Vcpu) -> bool {
    // SAFETY: By the invariant of `Vcpu` the vCPU is live. This only computes the field's address.
    let mode = unsafe { core::ptr::addr_of!((*vcpu.as_ptr()).mode) };
    // SAFETY: The vCPU is live. Other CPUs may exchange the mode meanwhile, so the read is
    // volatile.
    let mode = unsafe { mode.read_volatile() };
    mode == bindings::IN_GUEST_MODE as i32
}

/// Tells the vCPU to leave the guest, and returns whether it was there
/// (`kvm_arch_vcpu_should_kick()`).
pub(crate) fn leaving_guest(vcpu: &Vcpu) -> bool {
    // SAFETY: By the invariant of `Vcpu` the vCPU is live. The call changes the mode by an atomic
    // exchange, which any CPU may do.
    let mode = unsafe { bindings::kvm_vcpu_exiting_guest_mode(vcpu.as_ptr()) };
    mode == bindings::IN_GUEST_MODE as i32
}

/// Handles signals, rescheduling and task work that come before the guest. May sleep.
///
/// # Errors
///
/// `EINTR` for a signal; `kvm_run` says so, too.
#[inline]
pub(crate) fn handle_guest_mode_work(vcpu: &Vcpu) -> Result {
    // `guest_mode_work_pending()` sees what comes later, with interrupts disabled.
    // SAFETY: This only reads the thread flags of `current`, in any context.
    if !unsafe { bindings::__xfer_to_guest_mode_work_pending() } {
        return Ok(());
    }
    // SAFETY: By the invariant of `Vcpu` the vCPU is live. The caller is the vCPU's thread,
    // preemptible and with interrupts enabled.
    to_result(unsafe { bindings::kvm_xfer_to_guest_mode_handle_work(vcpu.as_ptr()) })
}

/// Returns whether the vCPU's dirty ring is full but for its reserve.
pub(crate) fn dirty_ring_is_soft_full(vcpu: &Vcpu) -> bool {
    // The low bits of the constant are the number of the request.
    const BIT: u64 = 1 << (bindings::KVM_REQ_DIRTY_RING_SOFT_FULL & 0xff);

    vcpu.requests().load(Ordering::Relaxed) & BIT != 0
}

/// Returns whether the dirty ring is so full that userspace must collect it; `kvm_run` says so,
/// too.
pub(crate) fn dirty_ring_is_full(vcpu: &Vcpu) -> bool {
    // SAFETY: By the invariant of `Vcpu` the vCPU is live. The caller is the vCPU's thread, which
    // holds `vcpu->mutex`, so it may write to `kvm_run`.
    unsafe { bindings::kvm_dirty_ring_check_request(vcpu.as_ptr()) }
}

/// Blocks until the vCPU has something to do, polling first. No lock is held.
pub(crate) fn halt(vcpu: &Vcpu) {
    // SAFETY: By the invariant of `Vcpu` the vCPU is live. The caller is the vCPU's thread, and
    // holds no spinlock and no SRCU read-side section, so it may sleep.
    unsafe { bindings::kvm_vcpu_halt(vcpu.as_ptr()) };
}

/// Yields the CPU to another vCPU that may hold the lock which this one spins for.
pub(crate) fn on_spin(vcpu: &Vcpu, in_kernel: bool) {
    // SAFETY: By the invariant of `Vcpu` the vCPU is live. The caller is the vCPU's thread, and
    // holds no spinlock, so it may yield the CPU.
    unsafe { bindings::kvm_vcpu_on_spin(vcpu.as_ptr(), in_kernel) };
}

/// A guard: the signal mask of `KVM_SET_SIGNAL_MASK` is in force while this lives.
pub(crate) struct SignalMask<'a>(&'a Vcpu);

impl<'a> SignalMask<'a> {
    /// Puts the mask in force.
    pub(crate) fn activate(vcpu: &'a Vcpu) -> Self {
        // SAFETY: By the invariant of `Vcpu` the vCPU is live. The caller is the vCPU's thread, and
        // `drop` deactivates the mask.
        unsafe { bindings::kvm_sigset_activate(vcpu.as_ptr()) };
        Self(vcpu)
    }
}

impl Drop for SignalMask<'_> {
    fn drop(&mut self) {
        // SAFETY: By the invariant of `Vcpu` the vCPU is live. The vCPU's thread activated the mask
        // in `activate`, and this deactivates it once.
        unsafe { bindings::kvm_sigset_deactivate(self.0.as_ptr()) };
    }
}

/// Reads `width` bytes from a device that core KVM emulates, if there is one at `gpa`.
pub(crate) fn bus_read(
    vcpu: &Vcpu,
    _slots: &SlotsRead<'_>,
    gpa: Gpa,
    width: u8,
) -> Option<[u8; 8]> {
    let mut data = [0u8; 8];
    let width = width.min(8);
    // SAFETY: The vCPU is live. `_slots` is a read-side section of `kvm->srcu` that the caller has
    // entered for this VM, so the buses do not change before it ends. `data` has room for the 8
    // bytes that an access can have.
    let result = unsafe {
        bindings::kvm_io_bus_read(
            vcpu.as_ptr(),
            bindings::kvm_bus_KVM_MMIO_BUS,
            gpa.get(),
            width.into(),
            data.as_mut_ptr().cast(),
        )
    };
    (result == 0).then_some(data)
}

/// Writes `width` bytes to a device that core KVM emulates, such as an ioeventfd; returns whether
/// there is one at `gpa`.
pub(crate) fn bus_write(
    vcpu: &Vcpu,
    _slots: &SlotsRead<'_>,
    gpa: Gpa,
    width: u8,
    data: &[u8; 8],
) -> bool {
    let width = width.min(8);
    // SAFETY: The vCPU is live. `_slots` is a read-side section of `kvm->srcu` that the caller has
    // entered for this VM, so the buses do not change before it ends. `data` holds the 8 bytes that
    // an access can have.
    let result = unsafe {
        bindings::kvm_io_bus_write(
            vcpu.as_ptr(),
            bindings::kvm_bus_KVM_MMIO_BUS,
            gpa.get(),
            width.into(),
            data.as_ptr().cast(),
        )
    };
    result == 0
}

/// Makes the request with the constant `raw` of every vCPU of the VM. Preemptible, interrupts on.
pub(crate) fn request_all(vm: &Vm, raw: u32) {
    // SAFETY: By the invariant of `Vm` the VM is live. `raw` is a request's constant, so its number
    // is a bit of `vcpu->requests`. The caller has interrupts enabled, as the IPIs require.
    unsafe { bindings::kvm_make_all_cpus_request(vm.as_ptr(), raw) };
}

/// One bit for each vCPU that a VM can have, by index.
pub(crate) type VcpuBitmap = [usize; MASK_WORDS];

/// The words of a [`VcpuBitmap`].
const MASK_WORDS: usize = (bindings::KVM_MAX_VCPUS as usize).div_ceil(usize::BITS as usize);

/// The bitmap without vCPUs.
pub(crate) const NO_VCPUS: VcpuBitmap = [0; MASK_WORDS];

/// Makes the request with the constant `raw` of the vCPUs in `mask`. Interrupts are on.
pub(crate) fn request_vcpus(vm: &Vm, raw: u32, mask: &mut VcpuBitmap) {
    // SAFETY: By the invariant of `Vm` the VM is live. `mask` has a bit for every vCPU that there
    // can be. `raw` is a request's constant, so its number is a bit of `vcpu->requests`. The caller
    // has interrupts enabled, as the IPIs require.
    unsafe { bindings::kvm_make_vcpus_request_mask(vm.as_ptr(), raw, mask.as_mut_ptr()) };
}

/// Has all vCPUs flush their G-stage translations, and counts it. Interrupts are on.
pub(crate) fn flush_remote_tlbs(vm: &Vm) {
    // SAFETY: By the invariant of `Vm` the VM is live. The caller has interrupts enabled, as the
    // IPIs to other CPUs require.
    unsafe { bindings::kvm_flush_remote_tlbs(vm.as_ptr()) };
}
