// SPDX-License-Identifier: GPL-2.0

//! Vector register files. Answers to `vcpu_vector.c`, without its register interface.
//!
//! While a thread is in the kernel, the vector registers of its user mode stay in the unit, as its
//! floating-point registers do: if `VS` in the `sstatus` that user mode had is dirty, they are in
//! the unit alone. Loading a vCPU saves them where the scheduler would, and marks them to be
//! restored when the thread returns to user mode. From then on the unit is free, and putting the
//! vCPU restores nothing.
//!
//! The kernel uses vectors itself now and then, also in softirqs, and may be preempted while it
//! does. `current->thread.riscv_v_flags` says which state is in the unit. In a thread that has
//! loaded a vCPU, `VCPU_CTX` says that the guest's state may be in the unit, and `NEED_RESTORE`
//! says that the guest's state is in memory and must be restored before the guest is entered.
//! Before the kernel takes the unit it calls back ([`VectorCallback`]), and the callback saves the
//! guest's state.

use core::cell::UnsafeCell;

use kernel::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    prelude::*, //
};

use crate::{
    arch::switch::UnitStatus,
    bindings,
    kvm_core::object::Vcpu, //
};

/// The callback by which the kernel has a guest's registers saved before it uses the vector unit in
/// a thread that has loaded a vCPU. A field of the module, which drops it after core KVM.
pub(crate) struct VectorCallback(());

/// The state of one hart's vector unit.
pub(crate) struct VectorRegs {
    /// The CSRs vstart, vl, vtype, vcsr and vlenb.
    pub(crate) csrs: bindings::__riscv_v_ext_state,
    /// v0-v31, one after another, of a length that does not change.
    data: KVec<u8>,
}

/// Returns the size in bytes of all 32 vector registers; 0 if the host has no V extension.
pub(crate) fn size() -> usize {
    // SAFETY: The helper only reads the host's ISA bitmap, which is complete since boot.
    if !unsafe { bindings::kvm_rs_host_isa_has(bindings::RISCV_ISA_EXT_V as u32) } {
        return 0;
    }
    #[cfg(CONFIG_RISCV_ISA_V)]
    // SAFETY: The helper only reads `riscv_v_vsize`, which is constant since boot.
    return unsafe { bindings::kvm_rs_vsize() };
    #[cfg(not(CONFIG_RISCV_ISA_V))]
    return 0;
}

impl VectorRegs {
    /// Returns v0-v31, one after another.
    pub(crate) fn data_mut(&mut self) -> &mut [u8] {
        &mut self.data
    }

    /// Returns registers that are all zero; without storage if the host has no vectors.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        let size = size();
        Ok(Self {
            csrs: bindings::__riscv_v_ext_state {
                vlenb: size / 32,
                ..Default::default()
            },
            data: KVec::from_elem(0, size, GFP_KERNEL_ACCOUNT)?,
        })
    }

    /// Resets the registers to the state of a hart at reset.
    pub(crate) fn reset(&mut self) {
        self.csrs = bindings::__riscv_v_ext_state {
            vlenb: self.csrs.vlenb,
            ..Default::default()
        };
        self.data.fill(0);
    }
}

/// The vector registers of one vCPU, unless they are in the unit.
///
/// Not a part of [`CpuContext`](crate::vcpu::context::CpuContext), which belongs to the vCPU's
/// thread: a softirq may save the guest's registers here at any time. While the vCPU is loaded,
/// they are accessed with softirqs off only.
pub(crate) struct GuestVector(UnsafeCell<VectorRegs>);

impl Vcpu {
    /// Returns the guest's vector registers.
    #[inline(always)]
    pub(crate) fn vector(&self) -> &GuestVector {
        self.part()
    }
}

impl GuestVector {
    /// Returns a context whose registers are all zero.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(UnsafeCell::new(VectorRegs::new()?)))
    }

    /// Returns the registers in memory.
    ///
    /// # Safety
    ///
    /// Either the vCPU is not loaded, and the caller holds `vcpu->mutex` or is the only user of the
    /// vCPU. Or the calling thread has loaded the vCPU, and softirqs, interrupts or, on PREEMPT_RT,
    /// preemption are off. The caller makes no second reference.
    #[expect(clippy::mut_from_ref, reason = "the mutex is core KVM's")]
    pub(crate) unsafe fn regs_mut(&self) -> &mut VectorRegs {
        // SAFETY: The caller keeps other threads and the softirqs of this CPU off the registers and
        // makes no second reference.
        unsafe { &mut *self.0.get() }
    }
}

#[cfg(CONFIG_RISCV_ISA_V)]
impl VectorRegs {
    /// Copies the unit's registers here.
    ///
    /// # Safety
    ///
    /// The host has vectors, and nothing else uses the unit during the call.
    unsafe fn save(&mut self) {
        let data = self.data.as_mut_ptr().cast();
        // SAFETY: `new` made `data` large enough for all registers of a host with vectors, and
        // its length does not change. The caller keeps everything else off the unit.
        unsafe { bindings::kvm_rs_vstate_save(&mut self.csrs, data) };
    }

    /// Copies these registers to the unit.
    ///
    /// # Safety
    ///
    /// The host has vectors, nothing else uses the unit during the call, and what was in the
    /// unit is saved or no longer needed.
    unsafe fn restore(&mut self) {
        let data = self.data.as_mut_ptr().cast();
        // SAFETY: `new` made `data` hold all registers of a host with vectors, and its length
        // does not change. The caller keeps everything else off the unit.
        unsafe { bindings::kvm_rs_vstate_restore(&mut self.csrs, data) };
    }
}

/// Whether the guest's registers were put into the unit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restored {
    /// The guest's registers were restored, and are clean now.
    Yes,
    /// The guest's registers were in the unit already.
    No,
}

#[cfg(all(CONFIG_RISCV_ISA_V, kvm_since_7_3))]
mod unit {
    use {
        super::*,
        crate::arch::switch::{
            Unit,
            UnitState, //
        }, //
    };

    /// The guest's registers may be in the unit.
    const LOADED: u32 = bindings::RISCV_V_VCPU_CTX;
    /// The guest's registers are not in the unit.
    const SAVED: u32 = bindings::RISCV_V_VCPU_NEED_RESTORE;

    /// The kernel keeps off the vector unit while this lives.
    pub(super) struct UnitGuard(());

    impl UnitGuard {
        /// Takes the unit. The caller is in thread context with preemption off.
        pub(super) fn new() -> Self {
            // SAFETY: `drop` calls `put_cpu_vector_context()`. The calls do not nest: the caller
            // has no other guard, and kernel code that has the unit this way cannot be preempted.
            unsafe { bindings::get_cpu_vector_context() };
            Self(())
        }
    }

    impl Drop for UnitGuard {
        fn drop(&mut self) {
            // SAFETY: `new` called `get_cpu_vector_context()`, and this is the matching put.
            unsafe { bindings::put_cpu_vector_context() };
        }
    }

    impl GuestVector {
        /// Frees the unit from what the calling thread's user mode has in it, when the vCPU is
        /// loaded. Preemption is off.
        pub(crate) fn load(&self) {
            let _unit = UnitGuard::new();
            // SAFETY: The helper saves and marks the user-mode registers of `current`, which no
            // other thread touches while `current` runs. The guard keeps the kernel off the unit.
            unsafe { bindings::kvm_rs_user_vector_save() };
            update_flags(0, SAVED);
        }

        /// Puts the guest's registers into the unit if they are not there, before the guest is
        /// entered.
        ///
        /// # Safety
        ///
        /// The host has vectors. The calling thread has loaded the vCPU, and interrupts are off.
        #[inline]
        pub(crate) unsafe fn enter(&self) -> Restored {
            if flags() & SAVED == 0 {
                return Restored::No;
            }
            update_flags(SAVED, LOADED);
            // SAFETY: The calling thread has loaded the vCPU, so no other thread uses the
            // registers, and interrupts are off, so no softirq of this CPU uses them or the unit.
            let regs = unsafe { self.regs_mut() };
            // SAFETY: The caller promises a host with vectors, and interrupts are off, so nothing
            // else uses the unit. `load` saved what user mode had in it, and the kernel has
            // finished with what it had in it.
            unsafe { regs.restore() };
            Restored::Yes
        }

        /// Leaves the guest's registers in the unit after an exit of the guest.
        ///
        /// # Safety
        ///
        /// There are no requirements. The function is unsafe because its counterpart in a kernel
        /// without the callback is.
        #[inline(always)]
        pub(crate) unsafe fn exit(&self, _units: UnitStatus) {}

        /// Saves the registers if `units` calls them dirty and they are in the unit, when the vCPU
        /// is put. Kernel code that was preempted while it used the unit finds it as it was.
        ///
        /// # Safety
        ///
        /// The host has vectors. The calling thread has loaded the vCPU, and preemption is off.
        pub(crate) unsafe fn put(&self, units: UnitStatus) {
            let _unit = UnitGuard::new();
            if units.is(Unit::Vector, UnitState::Dirty) {
                // SAFETY: The caller promises a host with vectors and that the calling thread has
                // loaded the vCPU. The guard keeps the kernel, softirqs included, off the unit.
                unsafe { self.save() };
            }
            update_flags(LOADED | SAVED, 0);
        }

        /// Saves the guest's registers, because the kernel takes the unit.
        ///
        /// # Safety
        ///
        /// The host has vectors. The calling thread has loaded the vCPU. Softirqs, interrupts or,
        /// on PREEMPT_RT, preemption are off, and nothing else uses the unit.
        unsafe fn flush(&self) {
            // SAFETY: The caller promises a host with vectors and that the calling thread has
            // loaded the vCPU, and keeps softirqs off and everything else off the unit.
            unsafe { self.save() };
            update_flags(0, SAVED);
        }

        /// Saves the registers if they are in the unit.
        ///
        /// # Safety
        ///
        /// The host has vectors. The calling thread has loaded the vCPU. Softirqs, interrupts or,
        /// on PREEMPT_RT, preemption are off, and nothing else uses the unit.
        unsafe fn save(&self) {
            if flags() & SAVED == 0 {
                // SAFETY: While the vCPU is loaded, each user of the registers, this one included,
                // has softirqs, interrupts or, on PREEMPT_RT, preemption off. So no user of the
                // registers interrupts another.
                let regs = unsafe { self.regs_mut() };
                // SAFETY: The caller promises a host with vectors and that nothing else uses the
                // unit.
                unsafe { regs.save() };
            }
        }
    }

    /// Returns the calling thread's note of what is in the unit.
    fn flags() -> u32 {
        // SAFETY: The helper only reads a field of `current`.
        unsafe { bindings::riscv_v_flags() }
    }

    /// Clears and sets bits of the calling thread's note.
    fn update_flags(clear: u32, set: u32) {
        // SAFETY: The helper writes a field of `current`, which only this thread and softirqs that
        // interrupt it write. Each caller has softirqs, interrupts or, on PREEMPT_RT, preemption
        // off, so no other use of the unit comes between the read and the write.
        unsafe { bindings::riscv_v_flags_set(flags() & !clear | set) };
    }

    /// Saves the registers of the running vCPU, because the kernel takes the unit from `current`.
    ///
    /// # Safety
    ///
    /// The kernel calls this before it takes the unit from `current`, which has `VCPU_CTX` set,
    /// with softirqs or, on PREEMPT_RT, preemption off.
    unsafe extern "C" fn flush() {
        // SAFETY: Softirqs or preemption are off, so this thread stays on this CPU while the helper
        // reads the running vCPU of this CPU.
        let vcpu = unsafe { bindings::kvm_rs_running_vcpu() };
        if vcpu.is_null() {
            return;
        }
        // SAFETY: The running vCPU is loaded, so it went through `Vcpu::create`, and core KVM keeps
        // it alive while it is loaded.
        let vcpu = unsafe { Vcpu::from_raw(vcpu) };
        // SAFETY: `current` has `VCPU_CTX`, which `enter` sets on a host with vectors and `put`
        // clears, so it has loaded the running vCPU. The kernel has softirqs or, on PREEMPT_RT,
        // preemption off and has taken the unit for the length of this call.
        unsafe { vcpu.vector().flush() };
    }

    /// Returns whether the host has vectors.
    fn present() -> bool {
        // SAFETY: The helper only tells whether the host has an extension, which is fixed since
        // boot.
        unsafe { bindings::has_vector() }
    }

    impl VectorCallback {
        /// Registers the callback.
        pub(crate) fn register() -> Self {
            if present() {
                // SAFETY: The callback is a function of this module and stays until `drop`
                // unregisters it. The kernel calls it as `flush` requires.
                unsafe { bindings::kvm_rs_register_vctx_callback(Some(flush)) };
            }
            Self(())
        }
    }

    impl Drop for VectorCallback {
        fn drop(&mut self) {
            if present() {
                // SAFETY: The call waits until the callback runs on no CPU. The module drops core
                // KVM before this, so no vCPU is left for which the kernel would call back.
                unsafe { bindings::kvm_rs_unregister_vctx_callback() };
            }
        }
    }
}

/// A kernel before Linux 7.3 does not call back before it uses the unit, so the guest's registers
/// are in the unit only while the guest runs.
#[cfg(all(CONFIG_RISCV_ISA_V, not(kvm_since_7_3)))]
mod unit {
    use {
        super::*,
        crate::{
            arch::switch::{
                Unit,
                UnitState, //
            },
            kernel_ext::context::IrqOff, //
        }, //
    };

    impl GuestVector {
        /// Frees the unit from what the calling thread's user mode has in it, when the vCPU is
        /// loaded. Preemption is off.
        pub(crate) fn load(&self) {
            // SAFETY: The helper saves and marks the user-mode registers of `current`, which no
            // other thread touches while `current` runs. Interrupts are off, so no softirq uses the
            // unit meanwhile.
            IrqOff::with(|_| unsafe { bindings::kvm_rs_user_vector_save() });
        }

        /// Puts the guest's registers into the unit, before the guest is entered.
        ///
        /// # Safety
        ///
        /// The host has vectors. The calling thread has loaded the vCPU, and interrupts are off
        /// until [`exit`](Self::exit) is called.
        #[inline]
        pub(crate) unsafe fn enter(&self) -> Restored {
            // SAFETY: The calling thread has loaded the vCPU, so no other thread uses the
            // registers, and interrupts are off, so no softirq of this CPU uses them or the unit.
            let regs = unsafe { self.regs_mut() };
            // SAFETY: The caller promises a host with vectors, and interrupts are off, so nothing
            // else uses the unit. `load` saved what user mode had in it.
            unsafe { regs.restore() };
            Restored::Yes
        }

        /// Saves the registers after an exit of the guest, if `units` calls them dirty.
        ///
        /// # Safety
        ///
        /// The host has vectors. The calling thread has loaded the vCPU, and interrupts have been
        /// off since [`enter`](Self::enter) was called.
        #[inline]
        pub(crate) unsafe fn exit(&self, units: UnitStatus) {
            if units.is(Unit::Vector, UnitState::Dirty) {
                // SAFETY: The calling thread has loaded the vCPU, so no other thread uses the
                // registers, and interrupts are off, so no softirq of this CPU does.
                let regs = unsafe { self.regs_mut() };
                // SAFETY: The caller promises a host with vectors, and interrupts have been off
                // since the guest's registers were put into the unit.
                unsafe { regs.save() };
            }
        }

        /// Saves nothing: [`exit`](Self::exit) has.
        ///
        /// # Safety
        ///
        /// There are no requirements. The function is unsafe because its counterpart in a kernel
        /// with the callback is.
        pub(crate) unsafe fn put(&self, _units: UnitStatus) {}
    }

    impl VectorCallback {
        /// Does nothing: the kernel does not call back.
        pub(crate) fn register() -> Self {
            Self(())
        }
    }
}

#[cfg(not(CONFIG_RISCV_ISA_V))]
mod unit {
    use super::*;

    impl GuestVector {
        /// Does nothing: the kernel is built without vectors.
        pub(crate) fn load(&self) {}

        /// Returns that nothing was restored: the kernel is built without vectors.
        ///
        /// # Safety
        ///
        /// There are no requirements. The function is unsafe because its counterpart in a kernel
        /// with vectors is.
        pub(crate) unsafe fn enter(&self) -> Restored {
            Restored::No
        }

        /// Saves nothing, because there are no vectors.
        ///
        /// # Safety
        ///
        /// There are no requirements. The function is unsafe because its counterpart in a kernel
        /// with vectors is.
        #[inline(always)]
        pub(crate) unsafe fn exit(&self, _units: UnitStatus) {}

        /// Does nothing: the kernel is built without vectors.
        ///
        /// # Safety
        ///
        /// There are no requirements. The function is unsafe because its counterpart in a kernel
        /// with vectors is.
        pub(crate) unsafe fn put(&self, _units: UnitStatus) {}
    }

    impl VectorCallback {
        /// Does nothing: a kernel without vectors has nothing to call back.
        pub(crate) fn register() -> Self {
            Self(())
        }
    }
}

#[cfg(all(CONFIG_RISCV_ISA_V, kvm_since_7_3))]
#[kunit_tests(kvm_riscv_vector)]
mod tests {
    use super::{
        unit::UnitGuard, //
        *,
    };
    use crate::kernel_ext::context::PreemptOff;

    #[test]
    fn what_is_restored_is_saved() -> Result {
        let mut before = VectorRegs::new()?;
        let mut after = VectorRegs::new()?;
        for (byte, n) in before.data.iter_mut().zip(0_usize..) {
            *byte = (n * 7 / 3) as u8;
        }
        if size() != 0 {
            let preempt = PreemptOff::new();
            let unit = UnitGuard::new();
            // SAFETY: The host has vectors, since `size()` is not 0. `unit` keeps the kernel off
            // the unit, and a KUnit thread has no state of its own in it.
            unsafe { before.restore() };
            // SAFETY: The host has vectors, since `size()` is not 0, and `unit` keeps the kernel
            // off the unit.
            unsafe { after.save() };
            drop(unit);
            drop(preempt);
        }
        assert_eq!(before.data.len(), size());
        assert!(after.data[..] == before.data[..] || size() == 0);
        assert_eq!(after.csrs.vlenb, before.csrs.vlenb);
        Ok(())
    }
}
