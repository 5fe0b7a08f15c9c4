// SPDX-License-Identifier: GPL-2.0

//! Core KVM's functions, for safe callers. Each function here calls one of them, and its SAFETY
//! comments say why that is sound.

use kernel::{
    error::to_result,
    prelude::*, //
};

use crate::{
    bindings,
    kernel_ext::{
        atomic::{
            fence, //
            Ordering,
        },
        context::IrqOff, //
    },
    kvm_core::{
        addr::Gpa,
        object::{
            HeldVcpu,
            Vcpu,
            Vm, //
        },
        srcu::SlotsRead, //
    }, //
};

/// Returns whether this `KVM_RUN` is to enter the guest at all (`immediate_exit` says no).
pub(crate) fn wants_to_run(vcpu: HeldVcpu<'_>) -> bool {
    // SAFETY: By the invariant of `Vcpu` the vCPU is live. Core KVM writes `wants_to_run` with
    // `vcpu->mutex` held, which this thread holds.
    unsafe { (*vcpu.as_ptr()).wants_to_run }
}

/// Where a vCPU is that is not `OUTSIDE_GUEST_MODE`.
#[derive(Clone, Copy)]
pub(crate) enum Inside {
    /// `IN_GUEST_MODE`: the guest runs, or is about to.
    Guest,
    /// `READING_SHADOW_PAGE_TABLES`: this thread uses the guest's translations.
    Tables,
}

/// Tells core KVM that the vCPU uses its guest's translations while this lives: a CPU that makes a
/// request then sends an IPI and waits until this CPU has taken it. Without, a request waits.
///
/// Interrupts are disabled all the while, so that the IPI is taken after what it is about.
pub(crate) struct VcpuMode<'v> {
    /// The vCPU, whose mode this thread sets.
    vcpu: HeldVcpu<'v>,
}

impl<'v> VcpuMode<'v> {
    /// Sets the mode. What the caller reads afterwards is from after the mode was visible: a CPU
    /// that changes what is read sees the mode, or this CPU sees the change
    /// (Documentation/virt/kvm/vcpu-requests.rst).
    #[inline(always)]
    pub(crate) fn enter(vcpu: HeldVcpu<'v>, inside: Inside, _irqs: &'v IrqOff) -> Self {
        let mode = match inside {
            Inside::Guest => bindings::IN_GUEST_MODE,
            Inside::Tables => bindings::READING_SHADOW_PAGE_TABLES,
        };
        set_mode(vcpu, mode);
        fence(Ordering::SeqCst);
        Self { vcpu }
    }

    /// Returns whether the mode is still `IN_GUEST_MODE`: no CPU has asked the vCPU to leave the
    /// guest.
    #[inline(always)]
    pub(crate) fn is_in_guest(&self) -> bool {
        // SAFETY: By the invariant of `Vcpu` the vCPU is live. This only computes the field's
        // address.
        let mode = unsafe { core::ptr::addr_of!((*self.vcpu.as_ptr()).mode) };
        // SAFETY: The vCPU is live. Other CPUs may exchange the mode meanwhile, so the read is
        // volatile.
        let mode = unsafe { mode.read_volatile() };
        mode == bindings::IN_GUEST_MODE as i32
    }
}

impl Drop for VcpuMode<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        set_mode(self.vcpu, bindings::OUTSIDE_GUEST_MODE);
    }
}

/// Stores the mode, for other CPUs to read or to exchange.
#[inline(always)]
fn set_mode(vcpu: HeldVcpu<'_>, mode: u32) {
    // SAFETY: By the invariant of `Vcpu` the vCPU is live. This only computes the field's address.
    let cell = unsafe { core::ptr::addr_of_mut!((*vcpu.as_ptr()).mode) };
    // SAFETY: The vCPU is live. Only the thread that holds `vcpu->mutex`, which is this one, and a
    // kick from an interrupt on its CPU store a mode; other CPUs change it by an atomic exchange
    // alone.
    unsafe { cell.write_volatile(mode as i32) };
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
pub(crate) fn handle_guest_mode_work(vcpu: HeldVcpu<'_>) -> Result {
    // `guest_mode_work_pending()` sees what comes later, with interrupts disabled.
    // SAFETY: This only reads the thread flags of `current`, in any context.
    if !unsafe { bindings::__xfer_to_guest_mode_work_pending() } {
        return Ok(());
    }
    // SAFETY: By the invariant of `Vcpu` the vCPU is live. This thread holds `vcpu->mutex`. The
    // caller may sleep.
    to_result(unsafe { bindings::kvm_xfer_to_guest_mode_handle_work(vcpu.as_ptr()) })
}

/// Returns whether the vCPU's dirty ring is full but for its reserve.
pub(crate) fn dirty_ring_is_soft_full(vcpu: &Vcpu) -> bool {
    const BIT: u64 = 1 << (bindings::KVM_REQ_DIRTY_RING_SOFT_FULL & REQUEST_MASK);

    vcpu.requests().load(Ordering::Relaxed) & BIT != 0
}

/// Returns whether the dirty ring is so full that userspace must collect it; `kvm_run` says so.
pub(crate) fn dirty_ring_is_full(vcpu: HeldVcpu<'_>) -> bool {
    // SAFETY: By the invariant of `Vcpu` the vCPU is live. This thread holds `vcpu->mutex`, so it
    // may write to `kvm_run`.
    unsafe { bindings::kvm_dirty_ring_check_request(vcpu.as_ptr()) }
}

/// Blocks until the vCPU has something to do, polling first. No lock is held.
pub(crate) fn halt(vcpu: HeldVcpu<'_>) {
    // SAFETY: By the invariant of `Vcpu` the vCPU is live. This thread holds `vcpu->mutex`. The
    // caller holds no spinlock, so it may sleep.
    unsafe { bindings::kvm_vcpu_halt(vcpu.as_ptr()) };
}

/// Lets another vCPU run that may hold what this one spins for.
pub(crate) fn on_spin(vcpu: HeldVcpu<'_>, in_kernel: bool) {
    // SAFETY: By the invariant of `Vcpu` the vCPU is live. This thread holds `vcpu->mutex`. The
    // caller holds no spinlock, so it may yield the CPU.
    unsafe { bindings::kvm_vcpu_on_spin(vcpu.as_ptr(), in_kernel) };
}

/// The signal mask of `KVM_SET_SIGNAL_MASK` is in force while this lives.
pub(crate) struct SignalMask<'a>(HeldVcpu<'a>);

impl<'a> SignalMask<'a> {
    /// Puts the mask in force.
    pub(crate) fn activate(vcpu: HeldVcpu<'a>) -> Self {
        // SAFETY: By the invariant of `Vcpu` the vCPU is live. This thread holds `vcpu->mutex`,
        // which protects the vCPU's mask, and `drop` deactivates the mask.
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
pub(crate) fn bus_read(slots: &SlotsRead<'_>, gpa: Gpa, width: u8) -> Option<[u8; 8]> {
    let mut data = [0u8; 8];
    let width = width.min(8);
    // SAFETY: The vCPU is live. `slots` is a read-side section of `kvm->srcu` of its VM, so the
    // buses do not change before it ends. `data` has room for the 8 bytes that an access can have.
    let result = unsafe {
        bindings::kvm_io_bus_read(
            slots.vcpu().as_ptr(),
            bindings::kvm_bus_KVM_MMIO_BUS,
            gpa.get(),
            width.into(),
            data.as_mut_ptr().cast(),
        )
    };
    (result == 0).then_some(data)
}

/// Writes `width` bytes to a device that core KVM emulates, such as an ioeventfd; whether there is
/// one at `gpa`.
pub(crate) fn bus_write(slots: &SlotsRead<'_>, gpa: Gpa, width: u8, data: &[u8; 8]) -> bool {
    let width = width.min(8);
    // SAFETY: The vCPU is live. `slots` is a read-side section of `kvm->srcu` of its VM, so the
    // buses do not change before it ends. `data` holds the 8 bytes that an access can have.
    let result = unsafe {
        bindings::kvm_io_bus_write(
            slots.vcpu().as_ptr(),
            bindings::kvm_bus_KVM_MMIO_BUS,
            gpa.get(),
            width.into(),
            data.as_ptr().cast(),
        )
    };
    result == 0
}

/// The low bits of a `KVM_REQ_*`, which are its number (`KVM_REQUEST_MASK`); the others say how it
/// is made.
pub(crate) const REQUEST_MASK: u32 = 0xff;

/// Returns `raw`, a request's constant, with a number that is a bit of `vcpu->requests`, as that of
/// every request is.
#[inline(always)]
const fn with_valid_number(raw: u32) -> u32 {
    raw & !REQUEST_MASK | raw & (u64::BITS - 1)
}

/// Makes the request with the constant `raw` of every vCPU of the VM. Preemptible, interrupts on.
pub(crate) fn request_all(vm: &Vm, raw: u32) {
    let raw = with_valid_number(raw);
    // SAFETY: By the invariant of `Vm` the VM is live. The number of `raw` is a bit of
    // `vcpu->requests`. The caller has interrupts enabled, as the IPIs require.
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
    let raw = with_valid_number(raw);
    // SAFETY: By the invariant of `Vm` the VM is live. `mask` has a bit for every vCPU that there
    // can be. The number of `raw` is a bit of `vcpu->requests`. The caller has interrupts enabled,
    // as the IPIs require.
    unsafe { bindings::kvm_make_vcpus_request_mask(vm.as_ptr(), raw, mask.as_mut_ptr()) };
}

/// Has all vCPUs flush their G-stage translations, and counts it. Interrupts are on.
pub(crate) fn flush_remote_tlbs(vm: &Vm) {
    // SAFETY: By the invariant of `Vm` the VM is live. The caller has interrupts enabled, as the
    // IPIs to other CPUs require.
    unsafe { bindings::kvm_flush_remote_tlbs(vm.as_ptr()) };
}
