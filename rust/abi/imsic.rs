// SPDX-License-Identifier: GPL-2.0

//! The host's interrupt controllers: what its IMSICs are like, where their guest interrupt files
//! are, the interrupt by which they wake us, and work on another CPU. A door. Answers to the
//! corresponding parts of `aia.c`.

use core::ptr::NonNull;

use kernel::{
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
    mem::addr::Hpa,
    sync::PreemptOff, //
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

/// What the host's IMSICs have in common, if it has any.
pub(crate) fn common() -> Option<Common> {
    // SAFETY: asks the driver, which was set up during boot.
    if !unsafe { bindings::kvm_rs_imsic_is_there() } {
        return None;
    }
    // SAFETY: there are IMSICs.
    let identities = unsafe { bindings::kvm_rs_imsic_guest_ids() };
    // SAFETY: as above.
    let guest_files = unsafe { bindings::kvm_rs_imsic_guest_files() };
    Some(Common {
        identities,
        guest_files,
    })
}

/// How many guest interrupt files the IMSIC of `cpu` has.
pub(crate) fn files_of(cpu: usize) -> u32 {
    if common().is_none() {
        return 0;
    }
    // SAFETY: there are IMSICs, and a possible CPU has its cell.
    unsafe { bindings::kvm_rs_imsic_local_guest_files(cpu as u32) }
}

/// The page of a guest interrupt file, as the host reaches it.
///
/// # Invariants
///
/// `va` is where the IMSIC driver has mapped the page, for good.
#[derive(Clone, Copy)]
pub(crate) struct Page {
    va: NonNull<c_void>,
    pa: Hpa,
}

// SAFETY: a store there makes an identity pending, from any CPU.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    /// The page of `file` of `cpu`, which has such a file.
    pub(crate) fn of(cpu: usize, file: GuestFile) -> Option<Self> {
        if file.number() > files_of(cpu) {
            return None;
        }
        let offset = file.number() as usize * PAGE;
        // SAFETY: there are IMSICs, and a possible CPU has its cell.
        let va = unsafe { bindings::kvm_rs_imsic_va(cpu as u32) };
        // SAFETY: as above.
        let pa = unsafe { bindings::kvm_rs_imsic_pa(cpu as u32) };
        // INVARIANT: the driver maps the supervisor's own page and then those of its guest files.
        Some(Self {
            va: NonNull::new(va.wrapping_byte_add(offset))?,
            pa: Hpa::new(pa + offset as u64),
        })
    }

    /// Its physical address.
    pub(crate) fn address(self) -> Hpa {
        self.pa
    }

    /// Makes identity `number` pending.
    pub(crate) fn set(self, number: u32) {
        // SAFETY: by the invariant; `seteipnum_le` is at the beginning.
        unsafe { bindings::kvm_rs_writel(number, self.va.as_ptr()) };
    }
}

/// An interrupt of the CPUs' own controllers, requested for [`hgei::interrupt`]. Dropping it frees
/// it; no CPU takes it any more then.
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
        // SAFETY: looks up a domain that stays, and maps a number of it.
        let irq = unsafe { bindings::kvm_rs_local_irq(local) };
        if irq == 0 {
            return Err(ENOENT);
        }
        // SAFETY: the handler is constant, and `drop` frees the interrupt before the module goes.
        to_result(unsafe { bindings::kvm_rs_request_percpu_irq(irq, Some(handler)) })?;
        Ok(Self(irq))
    }

    /// This CPU takes it from now on.
    pub(crate) fn enable(&self) {
        // SAFETY: requested in `request`; the caller stays on its CPU.
        unsafe { bindings::kvm_rs_enable_percpu_irq(self.0) };
    }

    /// This CPU takes it no more.
    pub(crate) fn disable(&self) {
        // SAFETY: as above.
        unsafe { bindings::kvm_rs_disable_percpu_irq(self.0) };
    }
}

impl Drop for PerCpuInterrupt {
    fn drop(&mut self) {
        // SAFETY: requested in `request`, and freed here alone.
        unsafe { bindings::kvm_rs_free_percpu_irq(self.0) };
    }
}

/// # Safety
///
/// The interrupt's handler, called as such.
unsafe extern "C" fn handler(_irq: c_int, _device: *mut c_void) -> bindings::irqreturn_t {
    hgei::interrupt();
    bindings::irqreturn::IRQ_HANDLED
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
    /// `work` points to an `F` that nobody else uses.
    unsafe extern "C" fn call<F: FnMut(&PreemptOff)>(work: *mut c_void) {
        // SAFETY: as the caller promises.
        let work = unsafe { &mut *work.cast::<F>() };
        work(&PreemptOff::new());
    }

    let work = core::ptr::from_mut(&mut work).cast();
    // SAFETY: the call waits, so `work` lives long enough, and nobody uses it meanwhile.
    to_result(unsafe { bindings::kvm_rs_call_on_cpu(cpu as c_int, Some(call::<F>), work) })
}

/// Whether this is the only CPU that is online, with interrupts off, because the machine is about
/// to sleep or to make an image of itself.
pub(crate) fn is_suspending() -> bool {
    // SAFETY: reads a variable that only suspend and hibernation set to this state.
    unsafe { bindings::kvm_rs_is_suspending() }
}

/// Whether the caller may sleep, as far as interrupts are concerned.
pub(crate) fn interrupts_are_on() -> bool {
    // SAFETY: reads this CPU's state.
    !unsafe { bindings::kvm_rs_irqs_disabled() }
}

#[kunit_tests(kvm_riscv_imsic)]
mod tests {
    use super::*;

    /// One of the numbers that only a guest's interrupts have, so that it is not requested already.
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
