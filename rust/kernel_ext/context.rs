// SPDX-License-Identifier: GPL-2.0

//! Guards that keep preemption or interrupts disabled. `kernel::interrupt` has no guard that lets
//! interrupts in for a moment, and none for preemption alone.

use core::marker::PhantomData;

use kernel::prelude::*;

use crate::bindings;

/// Preemption is off while this lives.
pub(crate) struct PreemptOff(PhantomData<*mut ()>);

impl PreemptOff {
    /// Switches preemption off.
    pub(crate) fn new() -> Self {
        // SAFETY: `drop` enables preemption again.
        unsafe { bindings::kvm_rs_preempt_disable() };
        Self(PhantomData)
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

/// Returns whether this CPU takes interrupts.
fn interrupts_are_on() -> bool {
    // SAFETY: This only reads `sstatus` of this CPU.
    !unsafe { bindings::kvm_rs_irqs_disabled() }
}

/// Interrupts are off while this lives; they were on before.
pub(crate) struct IrqOff(PhantomData<*mut ()>);

impl IrqOff {
    /// Switches interrupts off. Does not nest: the drop of an inner guard would enable interrupts
    /// within the outer one.
    pub(crate) fn new() -> Self {
        debug_assert!(interrupts_are_on());
        // SAFETY: The caller has interrupts on, since the guard does not nest, and `drop` enables
        // them again.
        unsafe { bindings::kvm_rs_local_irq_disable() };
        Self(PhantomData)
    }

    /// Enables interrupts for a moment, so that this CPU takes those that are pending.
    pub(crate) fn window(&mut self) {
        // SAFETY: The call below disables interrupts again. `&mut self` proves that nothing
        // borrowed from this guard is in use across the window.
        unsafe { bindings::kvm_rs_local_irq_enable() };
        // SAFETY: This restores the state that the guard stands for: interrupts are off.
        unsafe { bindings::kvm_rs_local_irq_disable() };
    }
}

impl Drop for IrqOff {
    fn drop(&mut self) {
        // SAFETY: `new` disabled interrupts, which were on before, and this is the matching enable.
        unsafe { bindings::kvm_rs_local_irq_enable() };
    }
}

#[kunit_tests(kvm_riscv_sync)]
mod tests {
    use {
        super::*,
        crate::kernel_ext::raw_spinlock::new_raw_spinlock, //
    };

    #[test]
    fn interrupts_are_off_while_the_guard_lives() {
        let mut irqs = IrqOff::new();
        let within = interrupts_are_on();
        irqs.window();
        let after_window = interrupts_are_on();
        drop(irqs);
        assert!(!within);
        assert!(!after_window);
        assert!(interrupts_are_on());
    }

    #[test]
    fn raw_lock_leaves_interrupts_as_they_were() -> Result {
        let lock = KBox::pin_init(new_raw_spinlock!(1, "kvm_riscv_test"), GFP_KERNEL)?;
        let mut guard = lock.lock();
        let within = interrupts_are_on();
        *guard += 1;
        drop(guard);
        assert!(!within);
        assert!(interrupts_are_on());

        let irqs = IrqOff::new();
        let value = *lock.lock();
        let after = interrupts_are_on();
        drop(irqs);
        assert!(!after);
        assert_eq!(value, 2);
        Ok(())
    }

    #[test]
    fn raw_lock_has_one_owner() -> Result {
        let lock = KBox::pin_init(new_raw_spinlock!((), "kvm_riscv_test"), GFP_KERNEL)?;
        let guard = lock.try_lock();
        let again = lock.try_lock().is_some();
        let first = guard.is_some();
        drop(guard);
        assert!(first);
        assert!(!again);
        assert!(interrupts_are_on());
        assert!(lock.try_lock().is_some());
        Ok(())
    }
}
