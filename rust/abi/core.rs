// SPDX-License-Identifier: GPL-2.0

//! Core KVM's functions, for safe callers. One function each; the reason why it is sound to call
//! stands in it.

use kernel::{
    error::to_result,
    prelude::*,
    task::Task,
    uaccess::UserPtr, //
};

use crate::{
    arch::switch::{
        SwitchContext,
        Trap, //
    },
    bindings,
    mem::addr::Gpa,
    sbi::sta::area::Waited,
    sync::SlotsRead,
    vcpu::{
        insn::Direction,
        irq::{
            Interrupt,
            Line, //
        },
        MachineIds,
        OwnedVcpu,
        Vcpu, //
    },
    vm::Vm, //
};

/// Whether this `KVM_RUN` is to enter the guest at all (`immediate_exit` says no).
pub(crate) fn wants_to_run(vcpu: &Vcpu) -> bool {
    // SAFETY: By the invariant of `Vcpu` the vCPU is live. Core KVM writes `wants_to_run` in this
    // thread, before it calls `kvm_arch_vcpu_ioctl_run()`.
    unsafe { (*vcpu.as_ptr()).wants_to_run }
}

/// Tells core KVM where the vCPU is: `OUTSIDE_GUEST_MODE`, `IN_GUEST_MODE`, or
/// `READING_SHADOW_PAGE_TABLES`.
pub(crate) fn set_mode(vcpu: &Vcpu, mode: u32) {
    // SAFETY: By the invariant of `Vcpu` the vCPU is live. This only computes the field's address.
    let cell = unsafe { core::ptr::addr_of_mut!((*vcpu.as_ptr()).mode) };
    // SAFETY: The vCPU is live. The caller is the vCPU's thread. Only this thread, and a kick from
    // an interrupt on its CPU, stores a mode; other CPUs change it by an atomic exchange alone.
    unsafe { cell.write_volatile(mode as i32) };
}

/// Whether the mode is still the `IN_GUEST_MODE` that the caller set: no CPU has asked the vCPU to
/// leave the guest.
#[inline(always)]
pub(crate) fn is_in_guest_mode(vcpu: &Vcpu) -> bool {
    // SAFETY: By the invariant of `Vcpu` the vCPU is live. This only computes the field's address.
    let mode = unsafe { core::ptr::addr_of!((*vcpu.as_ptr()).mode) };
    // SAFETY: The vCPU is live. Other CPUs may exchange the mode meanwhile, so the read is
    // volatile.
    let mode = unsafe { mode.read_volatile() };
    mode == bindings::IN_GUEST_MODE as i32
}

/// Whether the vCPU is in the guest; if so, it is told to leave (`kvm_arch_vcpu_should_kick()`).
pub(crate) fn leaving_guest(vcpu: &Vcpu) -> bool {
    // SAFETY: By the invariant of `Vcpu` the vCPU is live. The call changes the mode by an atomic
    // exchange, which any CPU may do.
    let mode = unsafe { bindings::kvm_vcpu_exiting_guest_mode(vcpu.as_ptr()) };
    mode == bindings::IN_GUEST_MODE as i32
}

/// Signals, rescheduling and task work that come before the guest.
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

/// Whether there is such work. Interrupts are off.
pub(crate) fn guest_mode_work_pending() -> bool {
    // SAFETY: This only reads the thread flags of `current`. The caller has interrupts disabled, as
    // `xfer_to_guest_mode_work_pending()` requires.
    unsafe { bindings::xfer_to_guest_mode_work_pending() }
}

/// Calls `cond_resched()`. The caller holds no spinlock.
pub(crate) fn cond_resched() {
    // SAFETY: The caller holds no spinlock and has preemption enabled, so it may be scheduled away.
    unsafe { bindings::kvm_rs_cond_resched() };
}

/// Books time on the guest from here on. Interrupts are off.
pub(crate) fn guest_timing_enter() {
    // SAFETY: The caller has interrupts disabled, as `guest_timing_enter_irqoff()` requires.
    unsafe { bindings::guest_timing_enter_irqoff() };
}

/// Books time on the host from here on. Interrupts are off.
pub(crate) fn guest_timing_exit() {
    // SAFETY: The caller has interrupts disabled, as `guest_timing_exit_irqoff()` requires.
    unsafe { bindings::guest_timing_exit_irqoff() };
}

/// Tells RCU that this CPU was in the guest, hence used nothing that RCU protects: a quiescent
/// state. Interrupts are off.
///
/// Once after any number of entries, if no interrupt was let in between them. RCU can do nothing
/// with the note before this CPU takes an interrupt: it is a flag of the CPU, which the CPU's own
/// tick looks at, and other CPUs that cannot wait send an IPI. Either ends the guest and comes
/// after the note. So one at each entry and one at each exit, as `guest_state_enter_irqoff()` and
/// its counterpart have it, say no more. Where there may be no tick (`nohz_full`) RCU tracks the
/// context instead, and is told by the bracket of each entry.
pub(crate) fn note_guest() {
    // SAFETY: The caller has interrupts disabled, as `rcu_virt_note_context_switch()` requires.
    unsafe { bindings::kvm_rs_note_guest() };
}

/// Whether the dirty ring is so full that userspace must collect it; `kvm_run` says so.
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

/// Whether the kernel counts how long threads wait for a CPU.
pub(crate) fn counts_waiting() -> bool {
    // SAFETY: `sched_info_on()` returns a constant of the kernel's configuration.
    unsafe { bindings::sched_info_on() != 0 }
}

/// What this thread has waited for a CPU; 0 where the kernel does not count.
#[inline(always)]
pub(crate) fn waited() -> Waited {
    Waited {
        thread: Task::current_raw() as usize,
        // SAFETY: This only reads the scheduler's statistics of `current`.
        nanos: unsafe { bindings::kvm_rs_run_delay() },
    }
}

/// Lets another vCPU run that may hold what this one spins for.
pub(crate) fn on_spin(vcpu: &Vcpu, in_kernel: bool) {
    // SAFETY: By the invariant of `Vcpu` the vCPU is live. The caller is the vCPU's thread, and
    // holds no spinlock, so it may yield the CPU.
    unsafe { bindings::kvm_vcpu_on_spin(vcpu.as_ptr(), in_kernel) };
}

/// The signal mask of `KVM_SET_SIGNAL_MASK` is in force while this lives.
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

/// Tracepoint `kvm_entry`.
pub(crate) fn trace_entry(pc: usize) {
    // SAFETY: The tracepoint only records its arguments, which are numbers of any value.
    unsafe { bindings::trace_kvm_entry(pc) };
}

/// Tracepoint `kvm_exit`. While it is off, not even its arguments are looked at.
#[inline(always)]
pub(crate) fn trace_exit(ctx: &SwitchContext) {
    #[cold]
    #[inline(never)]
    fn trace(trap: &Trap) {
        // SAFETY: The tracepoint only records its arguments, which are numbers of any value.
        unsafe {
            bindings::trace_kvm_exit(trap.sepc, trap.scause, trap.stval, trap.htval, trap.htinst)
        };
    }

    // SAFETY: This only reads the tracepoint's static key.
    if unsafe { bindings::trace_kvm_exit_enabled() } {
        trace(&ctx.trap());
    }
}

/// Tracepoint `kvm_vcpu_exit` for a trap that is handled before interrupts are on again. While it
/// is off, not even its arguments are looked at.
#[inline(always)]
pub(crate) fn trace_vcpu_exit_at_once(vcpu: &Vcpu, ctx: &SwitchContext) {
    #[cold]
    #[inline(never)]
    fn trace(vcpu: &Vcpu, ctx: &SwitchContext) {
        trace_vcpu_exit(vcpu, &ctx.trap());
    }

    // SAFETY: This only reads the tracepoint's static key.
    if unsafe { bindings::trace_kvm_vcpu_exit_enabled() } {
        trace(vcpu, ctx);
    }
}

/// Tracepoint `kvm_vcpu_exit`.
pub(crate) fn trace_vcpu_exit(vcpu: &Vcpu, trap: &Trap) {
    // SAFETY: The tracepoint only records its arguments, which are numbers of any value.
    unsafe {
        bindings::trace_kvm_vcpu_exit(
            vcpu.hart().get() as usize,
            trap.sepc,
            trap.scause,
            trap.stval,
            trap.htval,
            trap.htinst,
        )
    };
}

/// Whether all harts of the host have the extension `ext` (`RISCV_ISA_EXT_*`).
pub(crate) fn host_has(ext: u32) -> bool {
    // SAFETY: This only reads the host's ISA bitmap, complete since boot. The kernel checks that
    // `ext` is a bit of it.
    unsafe { bindings::kvm_rs_host_isa_has(ext) }
}

/// Whether the exceptions of misaligned loads and stores reach the host on all of its harts.
pub(crate) fn misaligned_traps_reach_us() -> bool {
    // SAFETY: This only reads what the kernel found out about its CPUs when they came up.
    unsafe { bindings::kvm_rs_misaligned_traps_can_delegate() }
}

/// Whether the calling process may use vectors.
pub(crate) fn may_use_vectors() -> bool {
    // SAFETY: This only reads the vector control word of `current`.
    unsafe { bindings::riscv_v_vstate_ctrl_user_allowed() }
}

/// One more than the highest CPU number there can be.
pub(crate) fn cpu_ids() -> usize {
    // SAFETY: This only reads `nr_cpu_ids`, a constant of the running kernel.
    unsafe { bindings::kvm_rs_nr_cpu_ids() as usize }
}

/// How many CPUs are online.
pub(crate) fn online_cpus() -> u32 {
    // SAFETY: This only reads the kernel's counter of online CPUs.
    unsafe { bindings::kvm_rs_num_online_cpus() }
}

/// A VM without vCPUs and without populated memslots, which stays so while this lives: it holds
/// `kvm->lock` and `kvm->slots_lock`.
pub(crate) struct Uncommitted<'a>(&'a Vm);

impl<'a> Uncommitted<'a> {
    /// Takes the locks, in their order; `None` if the VM is committed already.
    pub(crate) fn lock(vm: &'a Vm) -> Option<Self> {
        // SAFETY: By the invariant of `Vm` the VM is live. The caller may sleep and holds no lock
        // of the VM, and `drop` releases both locks.
        unsafe { bindings::kvm_rs_lock_vm(vm.as_ptr()) };
        let this = Self(vm);
        // SAFETY: The VM is live, and this thread holds `kvm->lock`, which protects the field.
        let created_vcpus = unsafe { (*vm.as_ptr()).created_vcpus };
        // SAFETY: The VM is live, and this thread holds `kvm->slots_lock`, as the call requires.
        let is_empty = unsafe { bindings::kvm_are_all_memslots_empty(vm.as_ptr()) };
        (created_vcpus == 0 && is_empty).then_some(this)
    }

    /// The VM.
    pub(crate) fn vm(&self) -> &'a Vm {
        self.0
    }
}

impl Drop for Uncommitted<'_> {
    fn drop(&mut self) {
        // SAFETY: By the invariant of `Vm` the VM is live. `lock` took both locks, and only this
        // releases them.
        unsafe { bindings::kvm_rs_unlock_vm(self.0.as_ptr()) };
    }
}

/// Tracepoint `kvm_mmio_emulate`.
pub(crate) fn trace_mmio(
    vcpu: &Vcpu,
    pc: usize,
    insn: usize,
    gpa: Gpa,
    direction: Direction,
    width: u8,
) {
    // SAFETY: The tracepoint only records its arguments, which are numbers of any value.
    unsafe {
        bindings::trace_kvm_mmio_emulate(
            vcpu.hart().get() as usize,
            pc,
            insn,
            gpa.get() as usize,
            direction == Direction::Store,
            width.into(),
        )
    };
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

/// Writes `width` bytes to a device that core KVM emulates, such as an ioeventfd; whether there is
/// one at `gpa`.
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

/// Notes in the vCPU which debugging userspace asked for.
pub(crate) fn set_guest_debug(vcpu: &OwnedVcpu<'_>, control: u32) {
    // SAFETY: By the invariant of `OwnedVcpu` this thread holds `vcpu->mutex`, which protects the
    // field, or is the only user of the vCPU.
    unsafe { (*vcpu.vcpu.as_ptr()).guest_debug = control as usize };
}

/// Says in the log why `KVM_RUN` failed; no more often than the kernel's rate limit allows, since
/// a guest and its VMM can repeat it at will.
pub(crate) fn log_exit_error(vcpu: &Vcpu, trap: &Trap, sstatus: usize, hstatus: usize, err: Error) {
    // SAFETY: The helper only prints its arguments, which are numbers of any value.
    unsafe {
        bindings::kvm_rs_log_exit_error(
            vcpu.hart().get() as usize,
            err.to_errno(),
            trap.sepc,
            trap.scause,
            trap.stval,
            trap.htval,
            trap.htinst,
            sstatus,
            hstatus,
        )
    };
}

/// Tracepoint `kvm_vcpu_irq`.
pub(crate) fn trace_irq(vcpu: &Vcpu, interrupt: Interrupt, line: Line) {
    let level = match line {
        Line::High => 1,
        Line::Low => 0,
    };
    // SAFETY: The tracepoint only records its arguments, which are numbers of any value.
    unsafe { bindings::trace_kvm_vcpu_irq(vcpu.hart().get() as usize, interrupt.number(), level) };
}

/// Makes the request with the constant `raw` of every vCPU of the VM. Preemptible, interrupts on.
pub(crate) fn request_all(vm: &Vm, raw: u32) {
    // SAFETY: By the invariant of `Vm` the VM is live. `raw` is a request's constant, so its number
    // is a bit of `vcpu->requests`. The caller has interrupts enabled, as the IPIs require.
    unsafe { bindings::kvm_make_all_cpus_request(vm.as_ptr(), raw) };
}

/// One bit for each vCPU that a VM can have, by index.
pub(crate) type VcpuMask = [usize; MASK_WORDS];

const MASK_WORDS: usize = (bindings::KVM_MAX_VCPUS as usize).div_ceil(usize::BITS as usize);

/// No vCPU.
pub(crate) const NO_VCPUS: VcpuMask = [0; MASK_WORDS];

/// The same for the vCPUs in `mask`. Interrupts are on.
pub(crate) fn request_vcpus(vm: &Vm, raw: u32, mask: &mut VcpuMask) {
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

/// Sleeps until the hart is started, or a signal comes. The vCPU's thread, without any lock.
pub(crate) fn wait_while_stopped(vcpu: &Vcpu) {
    /// # Safety
    ///
    /// `vcpu` is live and went through [`Vcpu::create`].
    unsafe extern "C" fn started(vcpu: *mut bindings::kvm_vcpu) -> bool {
        // SAFETY: The caller passes the live vCPU that `wait_while_stopped` gave to it, and that
        // went through `Vcpu::create`.
        !unsafe { Vcpu::from_raw(vcpu) }.shared().power.is_stopped()
    }

    // SAFETY: By the invariant of `Vcpu` the vCPU is live. The caller is the vCPU's thread, which
    // holds no lock and is the only one that waits there. `handle_guest_mode_work` sees whether a
    // signal came.
    unsafe { bindings::kvm_rs_wait_event(vcpu.as_ptr(), Some(started)) };
}

/// Reads a word of user memory.
///
/// # Errors
///
/// `EFAULT`.
#[inline]
pub(crate) fn get_user_u32(from: UserPtr) -> Result<u32> {
    let mut value = 0;
    // SAFETY: `value` is writable. `get_user()` takes any address, and reads user memory alone.
    let error = unsafe { bindings::kvm_rs_get_user_u32(&mut value, from.as_const_ptr()) };
    if error == 0 {
        Ok(value)
    } else {
        Err(EFAULT)
    }
}

/// Reads a double word of user memory.
///
/// # Errors
///
/// `EFAULT`.
#[inline]
pub(crate) fn get_user_u64(from: UserPtr) -> Result<u64> {
    let mut value = 0;
    // SAFETY: `value` is writable. `get_user()` takes any address, and reads user memory alone.
    let error = unsafe { bindings::kvm_rs_get_user_u64(&mut value, from.as_const_ptr()) };
    if error == 0 {
        Ok(value)
    } else {
        Err(EFAULT)
    }
}

/// Reads two adjacent double words of user memory, for little more than one.
///
/// # Errors
///
/// `EFAULT`.
#[inline]
pub(crate) fn get_user_pair(from: UserPtr) -> Result<[u64; 2]> {
    #[cold]
    #[inline(never)]
    fn misaligned(from: UserPtr) -> Result<[u64; 2]> {
        Ok([
            get_user_u64(from)?,
            get_user_u64(from.wrapping_byte_add(size_of::<u64>()))?,
        ])
    }

    // The check comes here, so that the compiler can drop the one that `unsafe_get_user()` makes
    // for each double word.
    if !from.as_const_ptr().cast::<u64>().is_aligned() {
        return misaligned(from);
    }
    let mut values = [0; 2];
    // SAFETY: `values` has room for both. The helper takes any address, and reads user memory
    // alone.
    let error = unsafe { bindings::kvm_rs_get_user_pair(values.as_mut_ptr(), from.as_const_ptr()) };
    if error == 0 {
        Ok(values)
    } else {
        Err(EFAULT)
    }
}

/// Writes a word of user memory.
///
/// # Errors
///
/// `EFAULT`.
#[inline]
pub(crate) fn put_user_u32(to: UserPtr, value: u32) -> Result {
    // SAFETY: `put_user()` takes any address, and writes user memory alone.
    let error = unsafe { bindings::kvm_rs_put_user_u32(value, to.as_mut_ptr()) };
    if error == 0 {
        Ok(())
    } else {
        Err(EFAULT)
    }
}

/// Writes a double word of user memory.
///
/// # Errors
///
/// `EFAULT`.
#[inline]
pub(crate) fn put_user_u64(to: UserPtr, value: u64) -> Result {
    // SAFETY: `put_user()` takes any address, and writes user memory alone.
    let error = unsafe { bindings::kvm_rs_put_user_u64(value, to.as_mut_ptr()) };
    if error == 0 {
        Ok(())
    } else {
        Err(EFAULT)
    }
}

/// Bytes that a cache-block management instruction works on.
pub(crate) fn cbom_block_size() -> usize {
    // SAFETY: This only reads a variable that is constant since boot.
    unsafe { bindings::kvm_rs_cbom_block_size() }
}

/// Bytes that a cache-block zero instruction works on.
pub(crate) fn cboz_block_size() -> usize {
    // SAFETY: This only reads a variable that is constant since boot.
    unsafe { bindings::kvm_rs_cboz_block_size() }
}

/// Bytes that a cache-block prefetch instruction works on.
pub(crate) fn cbop_block_size() -> usize {
    // SAFETY: This only reads a variable that is constant since boot.
    unsafe { bindings::kvm_rs_cbop_block_size() }
}

/// `satp.MODE` of the host: the highest that its guests can use.
pub(crate) fn satp_mode() -> usize {
    // SAFETY: This only reads a variable that is constant since boot.
    unsafe { bindings::kvm_rs_satp_mode() }
}

/// `mvendorid`, `marchid` and `mimpid` of the host, as its firmware reports them.
pub(crate) fn machine_ids() -> MachineIds {
    // SAFETY: This is an SBI call without arguments, so the firmware accesses no memory for it.
    let vendor = unsafe { bindings::sbi_get_mvendorid() };
    // SAFETY: This is an SBI call without arguments, so the firmware accesses no memory for it.
    let arch = unsafe { bindings::sbi_get_marchid() };
    // SAFETY: This is an SBI call without arguments, so the firmware accesses no memory for it.
    let imp = unsafe { bindings::sbi_get_mimpid() };
    MachineIds {
        vendor: vendor as usize,
        arch: arch as usize,
        imp: imp as usize,
    }
}
