// SPDX-License-Identifier: GPL-2.0

//! What keeps CPUs and contexts apart: guards for preemption, interrupts and SRCU, and the facade
//! of atomics that pure modules share with the host tests. A door.

use core::marker::PhantomData;

use kernel::{
    ffi::c_int,
    prelude::*,
    types::NotThreadSafe, //
};

use crate::{
    arch::csr::HostCsr,
    bindings,
    vcpu::Vcpu, //
};

pub(crate) mod module;
pub(crate) mod raw;
pub(crate) mod token;

/// Atomics of pure modules. The kernel's are `core`'s; the host tests put loom's here.
///
/// `core`'s and not [`kernel::sync::atomic`]: the other party is often the hardware walker or a
/// file that must also compile on the host, and neither knows the kernel's memory model. The
/// orderings used mean the same in both.
pub(crate) mod atomic {
    pub(crate) use core::sync::atomic::{
        fence,
        AtomicBool,
        AtomicPtr,
        AtomicU32,
        AtomicU64,
        Ordering, //
    };
}

/// Protection against speculation past a bounds check.
pub(crate) mod nospec {
    /// `index` if it is below `len`, otherwise 0, without a branch that could be mispredicted.
    /// Answers to `array_index_nospec()`.
    #[inline(always)]
    pub(crate) fn index(index: usize, len: usize) -> usize {
        // All ones if index < len: the subtraction borrows, unless either has its top bit set.
        let mask = !((index | len.wrapping_sub(1).wrapping_sub(index)) as isize >> 63) as usize;
        let mut mask = mask;
        // SAFETY: The template has no instruction at all. The compiler forgets what it knows of
        // `mask`, so it cannot turn the arithmetic back into the branch.
        unsafe { core::arch::asm!("/* {0} */", inout(reg) mask, options(nomem, nostack)) };
        index & mask
    }
}

/// Preemption is off while this lives.
pub(crate) struct PreemptOff(PhantomData<*mut ()>);

impl PreemptOff {
    /// Switches preemption off.
    pub(crate) fn new() -> Self {
        // SAFETY: `drop` enables preemption again.
        unsafe { bindings::kvm_rs_preempt_disable() };
        Self(PhantomData)
    }

    /// The CPU that this code runs on, and stays on.
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

/// `sstatus`
const SSTATUS: HostCsr<{ bindings::CSR_SSTATUS }> = HostCsr;

/// Whether this CPU takes interrupts.
fn interrupts_are_on() -> bool {
    SSTATUS.read() & bindings::SR_SIE != 0
}

/// Interrupts are off while this lives; they were on before.
pub(crate) struct IrqOff(PhantomData<*mut ()>);

impl IrqOff {
    /// Switches interrupts off. Does not nest: the end of one would switch them on within another.
    pub(crate) fn new() -> Self {
        debug_assert!(interrupts_are_on());
        // SAFETY: The caller has interrupts on, since the guard does not nest, and `drop` enables
        // them again.
        unsafe { bindings::kvm_rs_local_irq_disable() };
        Self(PhantomData)
    }

    /// Lets pending interrupts in, once.
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

/// The memslots and buses of a vCPU's VM stay as they are while this lives (`kvm->srcu`).
///
/// Taken around the users of memslots only, not around the whole of `KVM_RUN` as in C. Sections may
/// nest: each has an index of its own, unlike those that core KVM keeps in the vCPU.
pub(crate) struct SlotsRead<'a> {
    vcpu: &'a Vcpu,
    index: c_int,
    /// The thread that entered the section leaves it.
    thread: NotThreadSafe,
}

impl<'a> SlotsRead<'a> {
    /// Enters the read-side section. `vcpu` is the caller's own: its mutex is held.
    #[inline]
    pub(crate) fn new(vcpu: &'a Vcpu) -> Self {
        Self {
            vcpu,
            // SAFETY: A live vCPU keeps its VM live, and `drop` calls the matching unlock with this
            // index.
            index: unsafe { bindings::kvm_rs_slots_read_lock(vcpu.vm().as_ptr()) },
            thread: NotThreadSafe,
        }
    }

    /// The vCPU.
    #[inline]
    pub(crate) fn vcpu(&self) -> &'a Vcpu {
        self.vcpu
    }
}

impl Drop for SlotsRead<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `new` entered the section in this thread, for the same VM, and got this index.
        // The live vCPU keeps the VM live.
        unsafe { bindings::kvm_rs_slots_read_unlock(self.vcpu.vm().as_ptr(), self.index) };
    }
}

#[kunit_tests(kvm_riscv_sync)]
mod tests {
    use super::{
        raw::new_raw_spinlock,
        *, //
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
