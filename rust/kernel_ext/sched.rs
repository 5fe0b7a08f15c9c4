// SPDX-License-Identifier: GPL-2.0

//! What a thread that runs a guest tells the scheduler, the accounting of time and RCU. The
//! kernel crate has none of it.

use crate::bindings;

/// Returns whether a signal, rescheduling or task work comes before the guest. The caller has
/// interrupts disabled.
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

/// Returns whether the kernel counts how long threads wait for a CPU.
pub(crate) fn counts_waiting() -> bool {
    // SAFETY: `sched_info_on()` returns a constant of the kernel's configuration.
    unsafe { bindings::sched_info_on() != 0 }
}

/// Returns the nanoseconds that this thread has waited for a CPU; 0 where the kernel does not
/// count.
#[inline(always)]
pub(crate) fn run_delay() -> u64 {
    // SAFETY: This only reads the scheduler's statistics of `current`.
    unsafe { bindings::kvm_rs_run_delay() }
}
