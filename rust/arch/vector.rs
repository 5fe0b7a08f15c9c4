// SPDX-License-Identifier: GPL-2.0

//! Vector register files. Answers to `vcpu_vector.c`, without its register interface.
//!
//! The kernel uses vectors itself now and then. `current->thread.riscv_v_flags` tells it whose
//! state is in the unit: [`flags`] of a thread whose vCPU is loaded say that the guest's is, or
//! that it must be restored before the guest is entered. Before the kernel takes the unit it calls
//! back ([`register`]), and the guest's state is saved then.

use kernel::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    prelude::*, //
};

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

#[cfg(CONFIG_RISCV_ISA_V)]
mod unit {
    use super::*;

    /// The kernel keeps off the vector unit while this lives.
    pub(crate) struct UnitGuard(());

    impl UnitGuard {
        /// Takes the unit. The caller is in thread context with preemption off.
        pub(crate) fn new() -> Self {
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

    impl VectorRegs {
        /// Copies the unit's registers here.
        ///
        /// # Safety
        ///
        /// The host has vectors, and nobody else uses the unit during the call.
        pub(crate) unsafe fn save(&mut self) {
            let data = self.data.as_mut_ptr().cast();
            // SAFETY: `data` has room for all registers of a host with vectors (see `new`).
            unsafe { bindings::kvm_rs_vstate_save(&mut self.csrs, data) };
        }

        /// Copies these registers to the unit.
        ///
        /// # Safety
        ///
        /// As [`save`](Self::save), and what was in the unit is saved or dead.
        pub(crate) unsafe fn restore(&mut self) {
            let data = self.data.as_mut_ptr().cast();
            // SAFETY: `data` holds all registers of a host with vectors (see `new`).
            unsafe { bindings::kvm_rs_vstate_restore(&mut self.csrs, data) };
        }
    }

    /// The calling thread's note of what is in the unit.
    pub(crate) fn flags() -> u32 {
        // SAFETY: reads a field of `current`.
        unsafe { bindings::riscv_v_flags() }
    }

    /// Clears and sets bits of the calling thread's note.
    pub(crate) fn update_flags(clear: u32, set: u32) {
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
        // SAFETY: a running vCPU is loaded, and as the caller promises this is its thread, with
        // softirqs or preemption off.
        unsafe { vcpu.flush_vector() };
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

    /// A kernel without vectors never has the unit in use.
    pub(crate) struct UnitGuard(());

    impl UnitGuard {
        /// Nothing to take.
        pub(crate) fn new() -> Self {
            Self(())
        }
    }

    impl VectorRegs {
        /// Nothing to save.
        ///
        /// # Safety
        ///
        /// None; the twin of the function on a host with vectors.
        pub(crate) unsafe fn save(&mut self) {}

        /// Nothing to restore.
        ///
        /// # Safety
        ///
        /// None; the twin of the function on a host with vectors.
        pub(crate) unsafe fn restore(&mut self) {}
    }

    /// Nothing is ever in the unit.
    pub(crate) fn flags() -> u32 {
        0
    }

    /// Nothing is ever in the unit.
    pub(crate) fn update_flags(_clear: u32, _set: u32) {}

    /// Nobody to call back.
    pub(crate) fn register() {}

    /// Nobody to call back.
    pub(crate) fn unregister() {}
}

pub(crate) use unit::{
    flags,
    register,
    unregister,
    update_flags,
    UnitGuard, //
};
