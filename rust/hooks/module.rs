// SPDX-License-Identifier: GPL-2.0

//! Registrations of the module, each a value that undoes itself. Answers to `riscv_kvm_init()` and
//! `riscv_kvm_exit()`.

use core::marker::PhantomData;

use kernel::{
    error::to_result,
    ffi::{
        c_int,
        c_ulong,
        c_void, //
    },
    prelude::*,
    types::Opaque, //
};

use crate::{
    bindings,
    hooks::cpu, //
};

/// Refuses hosts without what every VM needs.
///
/// # Errors
///
/// `ENODEV` without the H extension, SBI v0.2 or SBI RFENCE; the log says which.
pub(crate) fn require_hypervisor() -> Result {
    // SAFETY: This only reads the host's ISA bitmap, which is complete since boot.
    if !unsafe { bindings::kvm_rs_host_isa_has(bindings::RISCV_ISA_EXT_H as u32) } {
        pr_info!("hypervisor extension not available\n");
        return Err(ENODEV);
    }
    // SAFETY: This only reads the version of the SBI, which the kernel knows since boot.
    if unsafe { bindings::sbi_spec_is_0_1() } {
        pr_info!("require SBI v0.2 or higher\n");
        return Err(ENODEV);
    }
    // SAFETY: This is an SBI call that asks the firmware and has no effects.
    let rfence =
        unsafe { bindings::sbi_probe_extension(bindings::sbi_ext_id_SBI_EXT_RFENCE as c_int) };
    if rfence == 0 {
        pr_info!("require SBI RFENCE extension\n");
        return Err(ENODEV);
    }
    Ok(())
}

/// Core KVM, running: `/dev/kvm` exists.
pub(crate) struct CoreKvm(PhantomData<*mut ()>);

// SAFETY: The value is only a token, and core KVM is not bound to a thread.
unsafe impl Send for CoreKvm {}
// SAFETY: The value is only a token, and a reference to it gives access to nothing.
unsafe impl Sync for CoreKvm {}

impl CoreKvm {
    /// Starts core KVM.
    ///
    /// # Errors
    ///
    /// Those of `kvm_init()`.
    pub(crate) fn start(module: &'static ThisModule) -> Result<Self> {
        let size = size_of::<bindings::kvm_vcpu>() as u32;
        // SAFETY: Module init calls this once, when everything that core KVM calls is ready.
        to_result(unsafe { bindings::kvm_init(size, 0, module.as_ptr()) })?;
        Ok(Self(PhantomData))
    }
}

impl Drop for CoreKvm {
    fn drop(&mut self) {
        // SAFETY: This pairs with the `kvm_init()` in `start`. The module has no users left, so
        // there is no VM.
        unsafe { bindings::kvm_exit() };
    }
}

/// The registration of the callbacks by which perf tells guest samples from the host's.
pub(crate) struct PerfCallbacks(());

impl PerfCallbacks {
    /// Registers with perf, if the kernel has guest events.
    pub(crate) fn register() -> Self {
        #[cfg(CONFIG_GUEST_PERF_EVENTS)]
        // SAFETY: Module init calls this once, and passes no handlers of its own.
        unsafe {
            bindings::__kvm_register_perf_callbacks(None, None)
        };
        Self(())
    }
}

impl Drop for PerfCallbacks {
    fn drop(&mut self) {
        #[cfg(CONFIG_GUEST_PERF_EVENTS)]
        // SAFETY: `register` registered the callbacks, and only this unregisters them.
        unsafe {
            bindings::kvm_unregister_perf_callbacks()
        };
    }
}

/// The registration of the notifier by which a CPU that loses its registers in idle gets the
/// hypervisor's back.
pub(crate) struct IdleNotifier(Pin<KBox<Opaque<bindings::notifier_block>>>);

// SAFETY: The block is only handed to the notifier chain, which has its own lock.
unsafe impl Send for IdleNotifier {}
// SAFETY: The block is only handed to the notifier chain, which has its own lock.
unsafe impl Sync for IdleNotifier {}

impl IdleNotifier {
    /// Registers with the chain.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and those of `cpu_pm_register_notifier()`.
    pub(crate) fn register() -> Result<Self> {
        let block = Opaque::new(bindings::notifier_block {
            notifier_call: Some(idle_transition),
            ..Default::default()
        });
        let block = KBox::pin(block, GFP_KERNEL)?;
        // SAFETY: The block is pinned in its box, and `drop` takes it off the chain before the box
        // is freed.
        to_result(unsafe { bindings::cpu_pm_register_notifier(block.get()) })?;
        Ok(Self(block))
    }
}

impl Drop for IdleNotifier {
    fn drop(&mut self) {
        // SAFETY: `register` put the block on the chain. This waits for the CPUs that walk the
        // chain, so that the block can be freed afterwards.
        unsafe { bindings::cpu_pm_unregister_notifier(self.0.get()) };
    }
}

/// Handles `CPU_PM_ENTER` and its kin.
///
/// # Safety
///
/// The notifier chain calls this on the CPU that goes idle, or comes back, with interrupts
/// disabled.
unsafe extern "C" fn idle_transition(
    _block: *mut bindings::notifier_block,
    event: c_ulong,
    _data: *mut c_void,
) -> c_int {
    match event as u32 {
        bindings::cpu_pm_event_CPU_PM_ENTER => cpu::idle_enter(),
        bindings::cpu_pm_event_CPU_PM_ENTER_FAILED | bindings::cpu_pm_event_CPU_PM_EXIT => {
            cpu::idle_exit()
        }
        _ => return bindings::NOTIFY_DONE as c_int,
    }
    bindings::NOTIFY_OK as c_int
}
