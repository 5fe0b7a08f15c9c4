// SPDX-License-Identifier: GPL-2.0

//! Calls of a thread that runs a guest into the scheduler, the accounting of time, and RCU. The
//! kernel crate has none of them.

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

/// Accounts time to the guest from here on. Interrupts are off.
pub(crate) fn guest_timing_enter() {
    // SAFETY: The caller has interrupts disabled, as `guest_timing_enter_irqoff()` requires.
    unsafe { bindings::guest_timing_enter_irqoff() };
}

/// Accounts time to the host from here on. Interrupts are off.
pub(crate) fn guest_timing_exit() {
    // SAFETY: The caller has interrupts disabled, as `guest_timing_exit_irqoff()` requires.
    unsafe { bindings::guest_timing_exit_irqoff() };
}

/// Tells RCU that this CPU was in the guest, hence used nothing that RCU protects: a quiescent
/// state. Interrupts are off.
///
/// Call it once after any number of entries, if interrupts stayed off between them. RCU does not
/// read the note, a flag of this CPU, before this CPU takes an interrupt: its own tick, or an IPI
/// of another CPU that cannot wait. Either ends the guest and comes after the note. So two notes
/// for each entry, as `guest_state_enter_irqoff()` and its counterpart make, have no more effect.
/// On a CPU without tick (`nohz_full`) RCU tracks the context instead, which the bracket of each
/// entry in `enter.c` reports.
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
