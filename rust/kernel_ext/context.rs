// SPDX-License-Identifier: GPL-2.0

//! Preemption or interrupts disabled for a while. The `kernel` crate has nothing for preemption,
//! and its `interrupt` promises nothing on a kernel that is not preemptible.

use kernel::{
    prelude::*,
    types::NotThreadSafe, //
};

use crate::bindings;

/// Preemption is off while this lives.
pub(crate) struct PreemptOff(NotThreadSafe);

impl PreemptOff {
    /// Switches preemption off.
    pub(crate) fn new() -> Self {
        // SAFETY: `drop` enables preemption again.
        unsafe { bindings::kvm_rs_preempt_disable() };
        Self(NotThreadSafe)
    }

    /// Returns the number of the CPU that this code runs on, and stays on.
    pub(crate) fn cpu(&self) -> usize {
        // SAFETY: Preemption is off while `self` lives, so this thread stays on the CPU.
        unsafe { bindings::kvm_rs_smp_processor_id() as usize }
    }
}

impl Drop for PreemptOff {
    fn drop(&mut self) {
        // SAFETY: `new` disabled preemption, and this is the matching enable.
        unsafe { bindings::kvm_rs_preempt_enable() };
    }
}

/// Proof that interrupts are disabled on this CPU.
///
/// [`IrqOff::with`] lends it, so no code can keep it, or end one of two that nest before the other.
pub(crate) struct IrqOff(NotThreadSafe);

impl IrqOff {
    /// Runs `f` with interrupts disabled. Afterwards they are as they were.
    #[inline(always)]
    pub(crate) fn with<R>(f: impl FnOnce(&IrqOff) -> R) -> R {
        // SAFETY: The call below restores what this returns.
        let flags = unsafe { bindings::kvm_rs_local_irq_save() };
        let result = f(&IrqOff(NotThreadSafe));
        // SAFETY: The flags are those of this CPU: since the call above, interrupts have been
        // disabled, so this thread has not left it.
        unsafe { bindings::kvm_rs_local_irq_restore(flags) };
        result
    }
}

#[kunit_tests(kvm_riscv_context)]
mod tests {
    use super::*;

    fn interrupts_are_on() -> bool {
        // SAFETY: This only reads `sstatus` of this CPU.
        !unsafe { bindings::kvm_rs_irqs_disabled() }
    }

    #[test]
    fn interrupts_are_off_within_and_on_afterwards() {
        let within = IrqOff::with(|_| interrupts_are_on());
        assert!(!within);
        assert!(interrupts_are_on());
    }

    #[test]
    fn inner_of_two_leaves_interrupts_off() {
        let after_inner = IrqOff::with(|_| {
            IrqOff::with(|_| ());
            interrupts_are_on()
        });
        assert!(!after_inner);
        assert!(interrupts_are_on());
    }
}
