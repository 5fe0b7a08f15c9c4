// SPDX-License-Identifier: GPL-2.0

//! The host's IMSICs: their properties, the pages of their guest interrupt files, the interrupt by
//! which those wake the host, and calls of functions on another CPU. Answers to the corresponding
//! parts of `aia.c`.

use core::ptr::NonNull;

use kernel::{
    cpu::CpuId,
    error::to_result,
    ffi::{
        c_int,
        c_uint,
        c_void, //
    },
    prelude::*, //
};

use crate::{
    aia::hgei,
    arch::aia::GuestFile,
    bindings,
    kernel_ext::{
        compat,
        context::PreemptOff, //
    },
    kvm_core::addr::Hpa, //
};

/// Bytes of an interrupt file's page.
const PAGE: usize = 0x1000;

/// What all IMSICs of the host have in common.
pub(crate) struct Common {
    /// How many identities a guest interrupt file implements.
    pub(crate) identities: u32,
    /// How many guest interrupt files each CPU has, at least.
    pub(crate) guest_files: u32,
}

/// Returns what the host's IMSICs have in common, if it has any.
pub(crate) fn common() -> Option<Common> {
    // SAFETY: This only asks the IMSIC driver, which the kernel set up during boot.
    if !unsafe { bindings::kvm_rs_imsic_is_there() } {
        return None;
    }
    // SAFETY: The driver has a global configuration, as checked by the call before, and keeps it
    // for good.
    let identities = unsafe { bindings::kvm_rs_imsic_guest_ids() };
    // SAFETY: The driver has a global configuration, as checked by the first call, and keeps it for
    // good.
    let guest_files = unsafe { bindings::kvm_rs_imsic_guest_files() };
    Some(Common {
        identities,
        guest_files,
    })
}

/// Returns how many guest interrupt files the IMSIC of `cpu` has; 0 if there is no such CPU.
pub(crate) fn files_of(cpu: usize) -> u32 {
    let cpu = u32::try_from(cpu).ok().and_then(CpuId::from_u32);
    let (Some(cpu), Some(_)) = (cpu, common()) else {
        return 0;
    };
    // SAFETY: `common()` found the driver's global configuration, which stays, and a `CpuId` is
    // that of a CPU with a per-CPU cell.
    unsafe { bindings::kvm_rs_imsic_local_guest_files(cpu.as_u32()) }
}

/// The page of a guest interrupt file, as the host reaches it.
///
/// # Invariants
///
/// `va` is the address at which the IMSIC driver has mapped the page. The driver never unmaps it.
#[derive(Clone, Copy)]
pub(crate) struct Page {
    /// The kernel's mapping of the page.
    va: NonNull<c_void>,
    /// The physical address, for the G-stage.
    pa: Hpa,
}

// SAFETY: The value is two addresses. A store through `va` makes an identity pending, and any CPU
// may make one.
unsafe impl Send for Page {}
// SAFETY: `&Page` allows only stores through `va`, which any number of CPUs may make at once.
unsafe impl Sync for Page {}

impl Page {
    /// Returns the page of `file` of `cpu`; [`None`] if the CPU has no such file.
    pub(crate) fn of(cpu: usize, file: GuestFile) -> Option<Self> {
        if file.number() > files_of(cpu) {
            return None;
        }
        let offset = file.number() as usize * PAGE;
        // SAFETY: `files_of(cpu)` is not 0, so the driver's global configuration exists, and `cpu`
        // has a per-CPU cell.
        let va = unsafe { bindings::kvm_rs_imsic_va(cpu as u32) };
        // SAFETY: `files_of(cpu)` is not 0, so the driver's global configuration exists, and `cpu`
        // has a per-CPU cell.
        let pa = unsafe { bindings::kvm_rs_imsic_pa(cpu as u32) };
        // INVARIANT: The driver maps the supervisor's own page and then those of its guest files,
        // which are `files_of(cpu)` in number, and `file` is one of them.
        Some(Self {
            va: NonNull::new(va.wrapping_byte_add(offset))?,
            pa: Hpa::new(pa + offset as u64),
        })
    }

    /// Returns the page's physical address.
    pub(crate) fn address(self) -> Hpa {
        self.pa
    }

    /// Makes identity `number` pending.
    pub(crate) fn set(self, number: u32) {
        // SAFETY: By the type's invariant `va` is the mapped page of an interrupt file.
        // `seteipnum_le` is its first word.
        unsafe { bindings::kvm_rs_writel(number, self.va.as_ptr()) };
    }
}

/// A per-CPU interrupt, requested for [`hgei::interrupt`]. Dropping it frees it; no CPU takes it
/// any more then.
pub(crate) struct PerCpuInterrupt(c_uint);

impl PerCpuInterrupt {
    /// Requests the interrupt of guest interrupt files. No CPU takes it before
    /// [`enable`](Self::enable).
    ///
    /// # Errors
    ///
    /// `ENOENT` if the CPUs' interrupt controller is not there; those of `request_percpu_irq()`.
    pub(crate) fn guest_external() -> Result<Self> {
        Self::request(bindings::IRQ_S_GEXT)
    }

    /// Requests the interrupt that has number `local` in `hie`.
    fn request(local: u32) -> Result<Self> {
        // SAFETY: This looks up the interrupt domain of the CPUs, which stays, and maps a number of
        // that domain.
        let irq = unsafe { bindings::kvm_rs_local_irq(local) };
        if irq == 0 {
            return Err(ENOENT);
        }
        // SAFETY: The handler is a constant function, and `drop` frees the interrupt before the
        // module is unloaded.
        to_result(unsafe { bindings::kvm_rs_request_percpu_irq(irq, Some(handler)) })?;
        Ok(Self(irq))
    }

    /// Enables the interrupt on this CPU.
    pub(crate) fn enable(&self) {
        // SAFETY: `request` requested this interrupt, and only `drop` frees it. The caller stays on
        // its CPU.
        unsafe { bindings::kvm_rs_enable_percpu_irq(self.0) };
    }

    /// Disables the interrupt on this CPU.
    pub(crate) fn disable(&self) {
        // SAFETY: `request` requested this interrupt, and only `drop` frees it. The caller stays on
        // its CPU.
        unsafe { bindings::kvm_rs_disable_percpu_irq(self.0) };
    }
}

impl Drop for PerCpuInterrupt {
    fn drop(&mut self) {
        // SAFETY: `request` requested this interrupt, and only this frees it. The owner has
        // disabled it on every CPU on which it had enabled it.
        unsafe { bindings::kvm_rs_free_percpu_irq(self.0) };
    }
}

/// Handles the guest external interrupt of this CPU.
///
/// # Safety
///
/// Only the kernel calls this, as the handler of an interrupt that `PerCpuInterrupt::request`
/// requested, with interrupts disabled.
unsafe extern "C" fn handler(_irq: c_int, _device: *mut c_void) -> bindings::irqreturn_t {
    hgei::interrupt();
    compat::IRQ_HANDLED
}

/// Runs `work` on `cpu`, with preemption off, and waits for it. Interrupts are on, and no spinlock
/// is held.
///
/// # Errors
///
/// `ENXIO` if the CPU is offline: then `work` did not run.
pub(crate) fn on_cpu<F: FnMut(&PreemptOff) + Send>(cpu: usize, mut work: F) -> Result {
    /// # Safety
    ///
    /// `work` points to an `F` that no other code uses until this returns.
    unsafe extern "C" fn call<F: FnMut(&PreemptOff)>(work: *mut c_void) {
        // SAFETY: The caller passes an `F` that no other code uses until this returns.
        let work = unsafe { &mut *work.cast::<F>() };
        work(&PreemptOff::new());
    }

    let work = core::ptr::from_mut(&mut work).cast();
    // SAFETY: The call waits until `call` has returned on the other CPU, so `work` lives long
    // enough, and this thread does not use it meanwhile. `F` is `Send`, so another CPU may run it.
    to_result(unsafe { bindings::kvm_rs_call_on_cpu(cpu as c_int, Some(call::<F>), work) })
}

/// Returns whether this is the only CPU that is online, with interrupts off, because the machine is
/// about to sleep or to make an image of itself.
pub(crate) fn is_suspending() -> bool {
    // SAFETY: This only reads `system_state`, which only suspend and hibernation set to
    // `SYSTEM_SUSPEND`.
    unsafe { bindings::kvm_rs_is_suspending() }
}

/// Returns whether this CPU takes interrupts, so that the caller may sleep as far as they are
/// concerned.
pub(crate) fn interrupts_are_on() -> bool {
    // SAFETY: This only reads whether this CPU has interrupts disabled.
    !unsafe { bindings::kvm_rs_irqs_disabled() }
}

#[kunit_tests(kvm_riscv_imsic)]
mod tests {
    use super::*;

    /// The number is one that only guests' interrupts have, so the kernel has not requested it
    /// already.
    #[test]
    fn interrupt_ends_with_its_owner() -> Result {
        if common().is_none() {
            return Ok(());
        }
        let interrupt = PerCpuInterrupt::request(bindings::IRQ_VS_SOFT)?;
        let second = PerCpuInterrupt::request(bindings::IRQ_VS_SOFT);
        let is_refused = second.is_err();
        drop(second);
        drop(interrupt);
        assert!(is_refused);
        PerCpuInterrupt::request(bindings::IRQ_VS_SOFT)?;
        Ok(())
    }
}
