// SPDX-License-Identifier: GPL-2.0

//! The SBI's Nested Acceleration Extension of a hypervisor below this one: guest registers, fences
//! and guest entry by way of memory that it shares with each CPU. Answers to `nacl.c`.
//!
//! The module probes for it once. From then on there is a static branch, one per batch of accesses
//! and none per access: [`with_registers!`].
//!
//! The protocol is in [`shared`], and compiles on the host, too; here are the memory of the CPUs,
//! the calls, and in [`switch`] the world switch that ends in a call instead of `sret`.

use core::ptr::{
    self,
    NonNull, //
};

use kernel::{
    cpu::nr_cpu_ids,
    ffi::{
        c_int,
        c_ulong, //
    },
    fmt,
    prelude::*, //
};

use crate::{
    arch::{
        csr::Direct,
        hgatp::Hgatp,
        nacl::{
            memory::SharedMemory,
            provider::{
                Features,
                Function,
                Provider,
                Refused, //
            },
            shared::Shared, //
        },
        registers::Registers,
        switch::{
            SwitchContext,
            Trap, //
        }, //
    },
    bindings,
    kernel_ext::{
        atomic::{
            AtomicPtr,
            AtomicU32,
            Ordering, //
        },
        context::PreemptOff, //
    },
    kvm_core::addr::{
        Vmid, //
        PAGE_SIZE,
    }, //
};

mod hfence;
mod memory;
mod provider;
mod shared;
mod switch;

pub(super) use crate::arch::nacl::hfence::{
    Hfence,
    Span, //
};

/// Chooses the [`Registers`] of this CPU for `$batch`, a call that takes it as `$regs`.
macro_rules! with_registers {
    ($regs:ident => $batch:expr) => {
        if $crate::arch::nacl::is_used() {
            $crate::arch::nacl::aside(|$regs| $batch)
        } else {
            let $regs = &$crate::arch::csr::Direct;
            $batch
        }
    };
}
pub(crate) use with_registers;

/// The SBI implementation below us.
pub(crate) struct Firmware;

impl Provider for Firmware {
    fn call(&self, function: Function, [a0, a1, a2]: [usize; 3]) -> Result<usize, Refused> {
        let extension = bindings::sbi_ext_id_SBI_EXT_NACL as c_int;
        let function = function as c_int;
        // SAFETY: The only memory that a call names belongs to `Acceleration`. The module drops it
        // after core KVM has taken each CPU out of use, when `disable_cpu` has told the SBI
        // implementation to forget the memory.
        let answer = unsafe { bindings::__sbi_ecall(a0, a1, a2, 0, 0, 0, function, extension) };
        match answer.error {
            0 => Ok(answer.value as usize),
            error => Err(Refused(error)),
        }
    }
}

impl Refused {
    /// Returns the errno that the kernel's `sbi_err_map_linux_errno()` makes of the error.
    fn to_error(self) -> Error {
        // SAFETY: The function only maps a number to a number.
        Error::from_errno(unsafe { bindings::sbi_err_map_linux_errno(self.0 as c_int) })
    }
}

/// The memory of one CPU.
struct Place {
    memory: NonNull<SharedMemory>,
    physical: u64,
}

// SAFETY: The place owns the memory, which is all atomics and can be freed in any thread.
unsafe impl Send for Place {}
// SAFETY: The memory is all atomics, which any number of threads may access at once.
unsafe impl Sync for Place {}

impl Place {
    /// The order of the allocation, by which the page allocator gives `1 << ORDER` pages.
    const ORDER: u32 = (size_of::<SharedMemory>() as u64)
        .div_ceil(PAGE_SIZE)
        .next_power_of_two()
        .trailing_zeros();

    /// Allocates the memory, zeroed. May sleep.
    ///
    /// # Errors
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there are not enough contiguous pages.
    ///
    /// `ENOMEM`.
    fn new() -> Result<Self> {
        let gfp = bindings::GFP_KERNEL | bindings::__GFP_ZERO;
        // SAFETY: The helper only allocates pages. Module init calls this and may sleep.
        let address = unsafe { bindings::kvm_rs_alloc_pages(gfp, Self::ORDER) } as usize;
        let memory = NonNull::new(address as *mut SharedMemory).ok_or(ENOMEM)?;
        Ok(Self {
            memory,
            // SAFETY: `memory` comes from the page allocator, so it is in the linear map.
            physical: unsafe { bindings::kvm_rs_virt_to_phys(memory.as_ptr().cast()) },
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let address = self.memory.as_ptr() as usize;
        // SAFETY: `new` allocated the pages with the same order. Neither this module nor the SBI
        // implementation uses them any more: each CPU in use went through `disable_cpu`.
        unsafe { bindings::kvm_rs_free_pages(address as c_ulong, Self::ORDER) };
    }
}

/// The memory of the CPUs, one place for each number that a CPU can have: [`Acceleration`]'s, as
/// long as there is one.
static PLACES: AtomicPtr<Place> = AtomicPtr::new(ptr::null_mut());
/// The implementation's [`Features`], as one word; written before [`PLACES`].
static FEATURES: AtomicU32 = AtomicU32::new(0);

/// The extension, in use.
pub(crate) struct Acceleration {
    /// The features of the implementation, for the log.
    features: Features,
    /// The memory that [`PLACES`] points to.
    _places: KVec<Place>,
}

impl Acceleration {
    /// Looks for the extension and takes it into use; [`None`] if the firmware does not have it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn start() -> Result<Option<Self>> {
        // SAFETY: The helper only asks the firmware whether it has the extension.
        if !unsafe { bindings::kvm_rs_nacl_is_there() } {
            return Ok(None);
        }
        let features = Features::probe(&Firmware);
        let mut places = KVec::new();
        for _ in 0..nr_cpu_ids() {
            places.push(Place::new()?, GFP_KERNEL)?;
        }
        FEATURES.store(features.into_raw(), Ordering::Relaxed);
        // Release: a CPU that loads the pointer with acquire also sees the contents of the places.
        PLACES.store(places.as_mut_ptr(), Ordering::Release);
        // SAFETY: The function enables a static branch, which may sleep, and module init may sleep.
        // `FEATURES` and `PLACES`, which the code behind the branch reads, are set.
        unsafe { bindings::kvm_rs_nacl_use() };
        Ok(Some(Self {
            features,
            _places: places,
        }))
    }

    /// Logs the extension and its features.
    pub(crate) fn announce(&self) {
        pr_info!(
            "using SBI nested acceleration with {}\n",
            Names(self.features)
        );
    }
}

/// A list for the log.
struct Names(Features);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = self.0.names();
        f.write_str(names.next().unwrap_or("no features"))?;
        for name in names {
            f.write_str(", ")?;
            f.write_str(name)?;
        }
        Ok(())
    }
}

/// Passes the memory of this CPU, which comes into use, to the firmware, if it has the extension.
///
/// # Errors
///
/// The firmware's error, as an errno.
pub(crate) fn enable_cpu() -> Result {
    if is_used() {
        let here = Here::new();
        here.shared
            .enable(here.physical)
            .map_err(Refused::to_error)?;
    }
    Ok(())
}

/// Stops the use of this CPU's memory, before the CPU goes out of use.
pub(crate) fn disable_cpu() {
    if is_used() {
        aside(OfThisCpu::disable);
    }
}

/// Synchronises the registers and the TLB of this CPU with the shared memory, for a caller that
/// reads on behalf of the guest.
///
/// # Errors
///
/// [`NotTheGuests`] if the firmware refuses.
#[inline(always)]
pub(crate) fn sync() -> Result<(), NotTheGuests> {
    if is_used() {
        aside(OfThisCpu::sync).map_err(|_| NotTheGuests)?;
    }
    Ok(())
}

/// The registers of this CPU are not those of the guest that is loaded.
pub(crate) struct NotTheGuests;

/// Has `hfence` executed on this CPU before the guest is entered, or executes `instruction`, which
/// does the same at once, to the VMID in `hgatp`.
#[inline(always)]
pub(super) fn fence(hfence: impl FnOnce(Vmid) -> Hfence, instruction: impl FnOnce()) {
    if is_used() {
        aside(|shared| shared.fence(hfence(shared.vmid()), instruction));
    } else {
        instruction();
    }
}

/// The protocol, on this CPU.
pub(crate) type OfThisCpu = Shared<'static, Firmware, Direct>;

impl OfThisCpu {
    /// Returns the VMID in `hgatp`.
    pub(super) fn vmid(&self) -> Vmid {
        Hgatp::from_raw(self.hgatp() as u64).vmid_of()
    }
}

/// What this CPU shares with the SBI implementation; it stays this CPU while this lives.
struct Here {
    shared: OfThisCpu,
    physical: u64,
    _preempt: PreemptOff,
}

/// Returns whether there is the extension: a static branch. [`kernel::jump_label`] knows only keys
/// that are a field of something, as a tracepoint's is.
#[inline(always)]
pub(crate) fn is_used() -> bool {
    // SAFETY: The helper only tests a static branch.
    unsafe { bindings::kvm_rs_nacl_is_used() }
}

/// Runs `f` with the shared memory of this CPU, out of line for machines that lack the extension.
#[cold]
#[inline(never)]
pub(crate) fn aside<R>(f: impl FnOnce(&OfThisCpu) -> R) -> R {
    f(&Here::new().shared)
}

/// How [`enter`] ended.
#[derive(Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Entered {
    /// The guest has trapped; or it cannot be entered, and `scause` has a value that no trap has.
    Yes,
    /// The caller must enter the guest by the instruction: registers and TLB are ready.
    NotYet,
}

/// The `scause` that no trap has; [`enter`] leaves it if the guest could not be entered.
const REFUSED: usize = usize::MAX >> 1;

impl Here {
    /// Returns the protocol over this CPU's memory, and keeps preemption off.
    fn new() -> Self {
        let preempt = PreemptOff::new();
        let places = PLACES.load(Ordering::Acquire);
        // SAFETY: Callers come here only if `is_used()`, and `start` stores the pointer before it
        // enables that branch. There is a place for each number that a CPU can have. The places
        // live until the module is unloaded, when no other code of it runs.
        let place = unsafe { &*places.add(preempt.cpu()) };
        // SAFETY: The place owns the memory and keeps it allocated. The memory is all atomics and
        // was zero at first.
        let memory = unsafe { place.memory.as_ref() };
        let features = Features::from_raw(FEATURES.load(Ordering::Relaxed));
        Self {
            shared: Shared::new(memory, features, Firmware, Direct),
            physical: place.physical,
            _preempt: preempt,
        }
    }
}

/// Runs the guest until it traps, if there is a call for that.
///
/// # Safety
///
/// Interrupts are off, and the registers and `hgatp` of this vCPU are loaded on this CPU. The
/// caller has told time accounting as `guest_timing_enter_irqoff()` wants, and tells RCU before it
/// lets interrupts in.
#[cold]
#[inline(never)]
pub(super) unsafe fn enter(ctx: &mut SwitchContext) -> Entered {
    let here = Here::new();
    let gprs = ctx.gprs.clone();
    let answer = here.shared.enter(&gprs, ctx.hstatus, |hstatus| {
        // SAFETY: The caller keeps interrupts off and the vCPU's registers and `hgatp` loaded, has
        // told time accounting, and tells RCU before it lets interrupts in. The guest's x registers
        // are in the shared memory by now.
        unsafe { switch::sync_sret(ctx, hstatus) }
    });
    match answer {
        Ok(left) => {
            ctx.hstatus = left.hstatus.unwrap_or(ctx.hstatus);
            ctx.set_trap(&Trap {
                htval: left.htval,
                htinst: left.htinst,
                ..ctx.trap()
            });
            Entered::Yes
        }
        Err(_) if here.shared.sync().is_ok() => Entered::NotYet,
        Err(_) => {
            // The registers of this CPU are not the guest's, so the guest must not be entered.
            ctx.set_trap(&Trap {
                sepc: ctx.sepc,
                scause: REFUSED,
                ..Trap::default()
            });
            Entered::Yes
        }
    }
}
