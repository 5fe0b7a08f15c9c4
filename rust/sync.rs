// SPDX-License-Identifier: GPL-2.0

//! What keeps CPUs and contexts apart: guards for preemption, interrupts and SRCU, and the facade
//! of atomics that pure modules share with the host tests. A door.

use core::marker::PhantomData;

use crate::{
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
        // SAFETY: no instruction at all; the compiler forgets what it knows of `mask`, so that it
        // cannot turn the arithmetic back into the branch.
        unsafe { core::arch::asm!("/* {0} */", inout(reg) mask, options(nomem, nostack)) };
        index & mask
    }
}

/// Preemption is off while this lives.
pub(crate) struct PreemptOff(PhantomData<*mut ()>);

impl PreemptOff {
    /// Switches preemption off.
    pub(crate) fn new() -> Self {
        // SAFETY: paired with the enable in `drop`.
        unsafe { bindings::kvm_rs_preempt_disable() };
        Self(PhantomData)
    }

    /// The CPU that this code runs on, and stays on.
    pub(crate) fn cpu(&self) -> usize {
        // SAFETY: preemption is off, so that the answer stays true.
        unsafe { bindings::kvm_rs_smp_processor_id() as usize }
    }
}

impl Drop for PreemptOff {
    fn drop(&mut self) {
        // SAFETY: paired with the disable in `new`.
        unsafe { bindings::kvm_rs_preempt_enable() };
    }
}

/// Interrupts are off while this lives; they were on before.
pub(crate) struct IrqOff(PhantomData<*mut ()>);

impl IrqOff {
    /// Switches interrupts off.
    pub(crate) fn new() -> Self {
        // SAFETY: paired with the enable in `drop`.
        unsafe { bindings::kvm_rs_local_irq_disable() };
        Self(PhantomData)
    }

    /// Lets pending interrupts in, once.
    pub(crate) fn window(&mut self) {
        // SAFETY: paired with the disable below; `&mut self` proves that nothing borrowed from
        // this guard is in use across the window.
        unsafe { bindings::kvm_rs_local_irq_enable() };
        // SAFETY: restores the state that this guard stands for.
        unsafe { bindings::kvm_rs_local_irq_disable() };
    }
}

impl Drop for IrqOff {
    fn drop(&mut self) {
        // SAFETY: paired with the disable in `new`.
        unsafe { bindings::kvm_rs_local_irq_enable() };
    }
}

/// The memslots and buses of a vCPU's VM stay as they are while this lives (`kvm->srcu`).
///
/// Taken around the users of memslots only, not around the whole of `KVM_RUN` as in C. One per
/// vCPU at a time: core KVM keeps the index in the vCPU.
pub(crate) struct SlotsRead<'a>(&'a Vcpu);

impl<'a> SlotsRead<'a> {
    /// Enters the read-side section. `vcpu` is the caller's own: its mutex is held.
    pub(crate) fn new(vcpu: &'a Vcpu) -> Self {
        // SAFETY: the vCPU is live; paired with the unlock in `drop`.
        unsafe { bindings::kvm_vcpu_srcu_read_lock(vcpu.as_ptr()) };
        Self(vcpu)
    }
}

impl Drop for SlotsRead<'_> {
    fn drop(&mut self) {
        // SAFETY: paired with the lock in `new`.
        unsafe { bindings::kvm_vcpu_srcu_read_unlock(self.0.as_ptr()) };
    }
}
