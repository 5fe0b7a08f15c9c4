// SPDX-License-Identifier: GPL-2.0

//! Vector register files. Answers to `vcpu_vector.c`, without its register interface.
//!
//! A thread's user mode has its registers in the unit as with floating point: what `VS` in the
//! `sstatus` that it had calls dirty is in the unit alone. A vCPU that is loaded saves that where
//! the scheduler would, and has the kernel restore it on the way to user mode, should it get there.
//! From then on the unit is free, and who puts the vCPU has nothing to restore.
//!
//! The kernel uses vectors itself now and then, also in softirqs, and may be preempted while it
//! does. `current->thread.riscv_v_flags` tells it whose state is in the unit: `VCPU_CTX` of a thread
//! whose vCPU is loaded says that the guest's may be, `NEED_RESTORE` that it is in memory and must be
//! restored before the guest is entered. Before the kernel takes the unit it calls back
//! ([`register`]), and the guest's state is saved then.

use core::cell::UnsafeCell;

use kernel::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    prelude::*, //
};

use super::switch::UnitStatus;
use crate::bindings;

/// The state of one hart's vector unit.
pub(crate) struct VectorRegs {
    /// vstart, vl, vtype, vcsr and vlenb.
    pub(crate) csrs: bindings::__riscv_v_ext_state,
    /// v0-v31, one after another.
    pub(crate) data: KVec<u8>,
}

/// Bytes of all 32 vector registers; 0 if the host has no V extension.
pub(crate) fn size() -> usize {
    // SAFETY: reads the host's ISA bitmap, complete since boot.
    if !unsafe { bindings::kvm_rs_host_isa_has(bindings::RISCV_ISA_EXT_V as u32) } {
        return 0;
    }
    #[cfg(CONFIG_RISCV_ISA_V)]
    // SAFETY: reads a variable that is constant since boot.
    return unsafe { bindings::kvm_rs_vsize() };
    #[cfg(not(CONFIG_RISCV_ISA_V))]
    return 0;
}

impl VectorRegs {
    /// All registers zero; without storage if the host has no vectors.
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

    /// Back to the state of a hart at reset.
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
/// Not a part of [`Resident`](super::resident::Resident), which belongs to the vCPU's thread: a
/// softirq may save the guest's registers here whatever that thread is doing. While the vCPU is
/// loaded, they are touched with softirqs off only.
pub(crate) struct GuestVector(UnsafeCell<VectorRegs>);

impl GuestVector {
    /// All registers zero.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(UnsafeCell::new(VectorRegs::new()?)))
    }

    /// The registers of a vCPU that is not loaded.
    ///
    /// # Safety
    ///
    /// The caller holds `vcpu->mutex` or is alone with the vCPU, which is not loaded, and makes no
    /// second reference.
    #[expect(clippy::mut_from_ref, reason = "the mutex is core KVM's")]
    pub(crate) unsafe fn regs_mut(&self) -> &mut VectorRegs {
        // SAFETY: as the caller promises.
        unsafe { &mut *self.0.get() }
    }
}

/// Whether the guest's registers were put into the unit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restored {
    /// They are clean now.
    Yes,
    /// They were there.
    No,
}

#[cfg(CONFIG_RISCV_ISA_V)]
mod unit {
    use super::{
        super::switch::{
            Unit,
            UnitState, //
        },
        *, //
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
            // SAFETY: paired with the put in `drop`; not nested.
            unsafe { bindings::get_cpu_vector_context() };
            Self(())
        }
    }

    impl Drop for UnitGuard {
        fn drop(&mut self) {
            // SAFETY: paired with the get in `new`.
            unsafe { bindings::put_cpu_vector_context() };
        }
    }

    impl GuestVector {
        /// The vCPU is loaded: frees the unit from what the calling thread's user mode has in it.
        /// Preemption is off.
        pub(crate) fn load(&self) {
            let _unit = UnitGuard::new();
            // SAFETY: saves and marks `current`'s own, which nobody else touches while it runs; the
            // guard keeps others off the unit.
            unsafe { bindings::kvm_rs_user_vector_save() };
            update_flags(0, SAVED);
        }

        /// The guest is entered next: puts its registers into the unit if they are not there.
        ///
        /// # Safety
        ///
        /// The host has vectors. The vCPU is loaded by the calling thread, and interrupts are off.
        #[inline]
        pub(crate) unsafe fn enter(&self) -> Restored {
            if flags() & SAVED == 0 {
                return Restored::No;
            }
            update_flags(SAVED, LOADED);
            // SAFETY: with interrupts off nobody else uses registers or unit.
            let regs = unsafe { self.regs_mut() };
            // SAFETY: as the caller promises; what the unit held was saved by `load` or is the
            // kernel's, which is done with it.
            unsafe { regs.restore() };
            Restored::Yes
        }

        /// The vCPU is put: saves the registers if `units` calls them dirty and they are in the
        /// unit. Who was interrupted while it used the unit itself finds it as it was.
        ///
        /// # Safety
        ///
        /// The host has vectors. The vCPU is loaded by the calling thread, and preemption is off.
        pub(crate) unsafe fn put(&self, units: UnitStatus) {
            let _unit = UnitGuard::new();
            if units.is(Unit::Vector, UnitState::Dirty) {
                // SAFETY: as the caller promises, with the guard.
                unsafe { self.save() };
            }
            update_flags(LOADED | SAVED, 0);
        }

        /// The kernel takes the unit.
        ///
        /// # Safety
        ///
        /// The host has vectors. The vCPU is loaded by the calling thread, and nobody else uses the
        /// unit.
        unsafe fn flush(&self) {
            // SAFETY: as the caller promises.
            unsafe { self.save() };
            update_flags(0, SAVED);
        }

        /// Saves the registers if they are in the unit.
        ///
        /// # Safety
        ///
        /// As [`flush`](Self::flush).
        unsafe fn save(&self) {
            if flags() & SAVED == 0 {
                // SAFETY: whoever else may touch the registers keeps softirqs off, or is interrupted
                // by nobody.
                let regs = unsafe { self.regs_mut() };
                // SAFETY: as the caller promises.
                unsafe { regs.save() };
            }
        }
    }

    impl VectorRegs {
        /// Copies the unit's registers here.
        ///
        /// # Safety
        ///
        /// The host has vectors, and nobody else uses the unit during the call.
        pub(super) unsafe fn save(&mut self) {
            let data = self.data.as_mut_ptr().cast();
            // SAFETY: `data` has room for all registers of a host with vectors (see `new`).
            unsafe { bindings::kvm_rs_vstate_save(&mut self.csrs, data) };
        }

        /// Copies these registers to the unit.
        ///
        /// # Safety
        ///
        /// As [`save`](Self::save), and what was in the unit is saved or dead.
        pub(super) unsafe fn restore(&mut self) {
            let data = self.data.as_mut_ptr().cast();
            // SAFETY: `data` holds all registers of a host with vectors (see `new`).
            unsafe { bindings::kvm_rs_vstate_restore(&mut self.csrs, data) };
        }
    }

    /// The calling thread's note of what is in the unit.
    fn flags() -> u32 {
        // SAFETY: reads a field of `current`.
        unsafe { bindings::riscv_v_flags() }
    }

    /// Clears and sets bits of the calling thread's note.
    fn update_flags(clear: u32, set: u32) {
        // SAFETY: writes a field of `current`, which this thread alone writes.
        unsafe { bindings::riscv_v_flags_set(flags() & !clear | set) };
    }

    /// The kernel takes the unit.
    ///
    /// # Safety
    ///
    /// Called in the thread that uses the unit, with softirqs or preemption off.
    unsafe extern "C" fn flush() {
        // SAFETY: reads this CPU's running vCPU.
        let vcpu = unsafe { bindings::kvm_rs_running_vcpu() };
        if vcpu.is_null() {
            return;
        }
        // SAFETY: a running vCPU is live.
        let vcpu = unsafe { crate::vcpu::Vcpu::from_raw(vcpu) };
        // SAFETY: a running vCPU is loaded, and as the caller promises this is its thread; the
        // kernel has taken the unit for the length of this call.
        unsafe { vcpu.vector().flush() };
    }

    fn present() -> bool {
        // SAFETY: reads the host's ISA bitmap, complete since boot.
        unsafe { bindings::has_vector() }
    }

    /// Has the kernel call back before it uses the unit in a thread whose vCPU is loaded.
    pub(crate) fn register() {
        if present() {
            // SAFETY: the callback is ours and stays until `unregister`.
            unsafe { bindings::kvm_rs_register_vctx_callback(Some(flush)) };
        }
    }

    /// Ends that.
    pub(crate) fn unregister() {
        if present() {
            // SAFETY: waits until no callback runs.
            unsafe { bindings::kvm_rs_unregister_vctx_callback() };
        }
    }
}

#[cfg(not(CONFIG_RISCV_ISA_V))]
mod unit {
    use super::*;

    impl GuestVector {
        /// Nothing to save.
        pub(crate) fn load(&self) {}

        /// Nothing to restore.
        ///
        /// # Safety
        ///
        /// None; the twin of the function on a host with vectors.
        pub(crate) unsafe fn enter(&self) -> Restored {
            Restored::No
        }

        /// Nothing to save.
        ///
        /// # Safety
        ///
        /// None; the twin of the function on a host with vectors.
        pub(crate) unsafe fn put(&self, _units: UnitStatus) {}
    }

    /// Nobody to call back.
    pub(crate) fn register() {}

    /// Nobody to call back.
    pub(crate) fn unregister() {}
}

pub(crate) use unit::{
    register,
    unregister, //
};

#[cfg(CONFIG_RISCV_ISA_V)]
#[kunit_tests(kvm_riscv_vector)]
mod tests {
    use super::{
        unit::UnitGuard,
        *, //
    };
    use crate::sync::PreemptOff;

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
            // SAFETY: there are vectors, and the unit is ours.
            unsafe { before.restore() };
            // SAFETY: as above.
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
