// SPDX-License-Identifier: GPL-2.0

//! A virtual CPU. Answers to `vcpu.c`.
//!
//! Its state has three parts, by who may touch it:
//!
//! - [`Shared`]: anybody, at any time. Atomics, and locks that own their data.
//! - [`Owned`]: the holder of `vcpu->mutex`, through [`OwnedVcpu`] or [`Loaded`].
//! - [`Resident`]: what loading and putting move between memory and registers. The scheduler does
//!   that behind the owner's back, so a loaded vCPU's is reached only with preemption off, through
//!   [`Pinned`]; an idle one's through [`OwnedVcpu`].
//!
//! The tokens nest: [`OwnedVcpu`] (mutex held) gives [`Loaded`] (registers in the CPU, which CPU
//! may change), gives [`Pinned`] (preemption off), gives
//! [`EntryToken`](run::EntryToken) (interrupts off), which alone enters the guest.
//!
//! Lock order: `vcpu->mutex`, then the leaf locks in [`Shared`].

use core::{
    cell::UnsafeCell,
    ptr, //
};

use kernel::{
    prelude::*,
    types::Opaque, //
};

use crate::{
    abi::{
        core as kvm,
        runpage::RunPage, //
    },
    arch::{
        hlv,
        switch::{
            SwitchContext,
            Trap, //
        }, //
    },
    bindings,
    isa::GuestIsa,
    mem::{
        addr::{
            HartId,
            VcpuIdx, //
        },
        cache::TableCache, //
    },
    sbi,
    sync::{
        atomic::{
            AtomicU64,
            Ordering, //
        },
        IrqOff,
        PreemptOff, //
    },
    vm::Vm,
};

pub(crate) mod exit;
pub(crate) mod gprs;
pub(crate) mod insn;
pub(crate) mod irq;
pub(crate) mod mmio;
pub(crate) mod onereg;
pub(crate) mod power;
pub(crate) mod request;
pub(crate) mod resident;
pub(crate) mod run;
pub(crate) mod stat;
pub(crate) mod timer;

use gprs::Reg;
use irq::Irqs;
use mmio::Pending;
use power::Power;
use request::Request;
use resident::{
    GuestDebug,
    Resident, //
};
use timer::Timer;

/// Core KVM's `struct kvm_vcpu`, from the outside.
///
/// # Invariants
///
/// Points into a live `struct kvm_vcpu` whose `arch.rust` holds the [`VcpuState`] that
/// [`Vcpu::create`] put there.
#[repr(transparent)]
pub(crate) struct Vcpu(Opaque<bindings::kvm_vcpu>);

// SAFETY: what `&Vcpu` gives away is shared state, or needs a token.
unsafe impl Send for Vcpu {}
// SAFETY: as above.
unsafe impl Sync for Vcpu {}

/// Our part of a vCPU.
#[pin_data]
struct VcpuState {
    #[pin]
    shared: Shared,
    owned: UnsafeCell<Owned>,
    resident: UnsafeCell<Resident>,
}

/// What any CPU may touch at any time.
#[pin_data]
pub(crate) struct Shared {
    /// Pending interrupts, and what the guest last had enabled.
    pub(crate) irqs: Irqs,
    /// The guest's timer.
    #[pin]
    pub(crate) timer: Timer,
    /// Started, stopped, and with which registers to start.
    #[pin]
    pub(crate) power: Power,
    /// Fences that other harts asked for.
    #[pin]
    pub(crate) hfences: crate::mem::tlb::HfenceQueue,
}

/// What only the holder of `vcpu->mutex` may touch.
pub(crate) struct Owned {
    /// The guest's integer registers, pc and privilege.
    pub(crate) ctx: SwitchContext,
    /// The extensions that the guest has.
    pub(crate) isa: GuestIsa,
    /// The vCPU ran: its configuration is final.
    pub(crate) frozen: bool,
    /// `mvendorid`, `marchid` and `mimpid` as the guest reads them.
    pub(crate) machine: MachineIds,
    /// What an exit to userspace left to be finished by the next `KVM_RUN`.
    pub(crate) pending: Option<Pending>,
    /// SBI extensions and their state.
    pub(crate) sbi: sbi::State,
    /// Table pages for the fault path.
    pub(crate) tables: TableCache,
}

/// Identity registers of a hart.
#[derive(Clone, Copy)]
pub(crate) struct MachineIds {
    /// `mvendorid`
    pub(crate) vendor: usize,
    /// `marchid`
    pub(crate) arch: usize,
    /// `mimpid`
    pub(crate) imp: usize,
}

impl MachineIds {
    /// Those of the host, as its firmware reports them.
    pub(crate) fn of_host() -> Self {
        // SAFETY: an SBI call without arguments.
        let vendor = unsafe { bindings::sbi_get_mvendorid() };
        // SAFETY: as above.
        let arch = unsafe { bindings::sbi_get_marchid() };
        // SAFETY: as above.
        let imp = unsafe { bindings::sbi_get_mimpid() };
        Self {
            vendor: vendor as usize,
            arch: arch as usize,
            imp: imp as usize,
        }
    }
}

/// What to do after an exit was handled.
#[derive(Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Next {
    /// Back into the guest.
    Resume,
    /// To userspace; `kvm_run` says why.
    Userspace,
}

impl Vcpu {
    /// Puts a fresh [`VcpuState`] into a vCPU that core KVM is creating.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// `vcpu` is valid, its `kvm` is live, and nobody else knows it yet.
    pub(crate) unsafe fn create(vcpu: *mut bindings::kvm_vcpu) -> Result {
        let host = crate::host::get().ok_or(ENODEV)?;
        let isa = GuestIsa::new(&host.isa, crate::host::vector_use());
        let resident = Resident::new()?;
        let state = KBox::pin_init(
            try_pin_init!(VcpuState {
                shared <- try_pin_init!(Shared {
                    irqs: Irqs::new(),
                    timer <- Timer::new(),
                    power <- Power::new(),
                    hfences <- crate::mem::tlb::HfenceQueue::new(),
                }),
                owned: UnsafeCell::new(Owned {
                    ctx: SwitchContext::reset(),
                    sbi: sbi::State::new(),
                    isa,
                    frozen: false,
                    machine: host.machine,
                    pending: None,
                    tables: TableCache::new(),
                }),
                resident: UnsafeCell::new(resident),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        // SAFETY: the box stays pinned where it is until `destroy`.
        let raw = KBox::into_raw(unsafe { Pin::into_inner_unchecked(state) });
        // SAFETY: the caller is the only one who knows `vcpu`.
        unsafe { (*vcpu).arch.rust = raw.cast() };
        // SAFETY: as above; the state is in place.
        unsafe { OwnedVcpu::from_raw(vcpu) }.reset(None);
        Ok(())
    }

    /// Takes the [`VcpuState`] out of a vCPU and drops it.
    ///
    /// # Safety
    ///
    /// `vcpu` went through [`Vcpu::create`] and nobody uses it any more.
    pub(crate) unsafe fn destroy(vcpu: *mut bindings::kvm_vcpu) {
        // SAFETY: the caller is the last user.
        let raw = unsafe { (*vcpu).arch.rust }.cast::<VcpuState>();
        // SAFETY: `create` made it from a pinned box, and a vCPU is destroyed once.
        drop(Pin::from(unsafe { KBox::from_raw(raw) }));
        // SAFETY: as above.
        unsafe { (*vcpu).arch.rust = ptr::null_mut() };
    }

    /// # Safety
    ///
    /// `vcpu` is live for `'a` and went through [`Vcpu::create`].
    pub(crate) unsafe fn from_raw<'a>(vcpu: *mut bindings::kvm_vcpu) -> &'a Vcpu {
        // SAFETY: `Vcpu` is transparent over `struct kvm_vcpu`; the caller keeps it alive.
        unsafe { &*vcpu.cast() }
    }

    /// Core KVM's own pointer, for calls into it.
    pub(crate) fn as_ptr(&self) -> *mut bindings::kvm_vcpu {
        self.0.get()
    }

    fn state(&self) -> &VcpuState {
        // SAFETY: by the type's invariant; only the `UnsafeCell`s in it are ever mutated.
        unsafe { &*(*self.as_ptr()).arch.rust.cast::<VcpuState>() }
    }

    /// What any CPU may touch.
    pub(crate) fn shared(&self) -> &Shared {
        &self.state().shared
    }

    /// The VM that this vCPU belongs to.
    pub(crate) fn vm(&self) -> &Vm {
        // SAFETY: `kvm` is set before the arch layer sees the vCPU and never changes.
        unsafe { Vm::from_raw((*self.as_ptr()).kvm) }
    }

    /// The hart id that the guest knows this vCPU by.
    pub(crate) fn hart(&self) -> HartId {
        // SAFETY: set once, before the arch layer sees the vCPU.
        HartId::new(unsafe { (*self.as_ptr()).vcpu_id } as u64)
    }

    /// Its position among the VM's vCPUs.
    pub(crate) fn idx(&self) -> VcpuIdx {
        // SAFETY: set once, before the arch layer sees the vCPU.
        VcpuIdx::new(unsafe { (*self.as_ptr()).vcpu_idx } as usize)
    }

    fn requests(&self) -> &AtomicU64 {
        // SAFETY: core KVM only ever touches the field with atomic operations.
        unsafe { AtomicU64::from_ptr(ptr::addr_of_mut!((*self.as_ptr()).requests)) }
    }

    /// Asks the vCPU to do something before it next enters the guest. Does not kick it.
    pub(crate) fn request(&self, request: Request) {
        // Release: what the request is about is visible to whoever takes the request.
        self.requests().fetch_or(request.bit(), Ordering::Release);
    }

    /// Whether `request` is pending.
    pub(crate) fn requested(&self, request: Request) -> bool {
        self.requests().load(Ordering::Relaxed) & request.bit() != 0
    }

    /// Whether any request is pending.
    pub(crate) fn any_request(&self) -> bool {
        self.requests().load(Ordering::Relaxed) != 0
    }

    /// Takes `request` if it is pending.
    pub(crate) fn take_request(&self, request: Request) -> bool {
        self.requested(request) && {
            // Acquire: pairs with the release in `request()` and in `kvm_make_request()`.
            self.requests().fetch_and(!request.bit(), Ordering::Acquire) & request.bit() != 0
        }
    }

    /// Makes the vCPU look at its requests and interrupts: wakes it, or has it leave the guest.
    pub(crate) fn kick(&self) {
        // SAFETY: the vCPU is live.
        unsafe { bindings::kvm_vcpu_kick(self.as_ptr()) };
    }

    /// Wakes the vCPU if it blocks.
    pub(crate) fn wake(&self) {
        // SAFETY: the vCPU is live.
        unsafe { bindings::kvm_vcpu_wake_up(self.as_ptr()) };
    }

    /// Whether its thread is about to block, or blocks, in the kernel.
    pub(crate) fn is_blocking(&self) -> bool {
        // SAFETY: the vCPU is live.
        unsafe { bindings::kvm_vcpu_is_blocking(self.as_ptr()) }
    }

    /// Whether it could go on if it blocked: an interrupt that it has enabled is pending, and it
    /// is not stopped.
    pub(crate) fn is_runnable(&self) -> bool {
        self.shared().irqs.deliverable() && !self.shared().power.is_stopped()
    }

    /// The guest's pc and privilege as of its last exit, for profilers: may be stale.
    pub(crate) fn sample(&self) -> (usize, bool) {
        let ctx = self.state().owned.get();
        // SAFETY: the field is in bounds; a racing owner makes the value stale, which the reader
        // accepts, and volatile keeps the compiler from assuming otherwise.
        let pc = unsafe { ptr::addr_of!((*ctx).ctx.sepc).read_volatile() };
        // SAFETY: as above.
        let sstatus = unsafe { ptr::addr_of!((*ctx).ctx.sstatus).read_volatile() };
        (pc, sstatus & bindings::SR_SPP != 0)
    }

    /// The scheduler puts the vCPU on this CPU (`kvm_arch_vcpu_load()`).
    ///
    /// # Safety
    ///
    /// Core KVM's call, with preemption off, in the vCPU's thread.
    pub(crate) unsafe fn sched_load(&self, cpu: usize) {
        // SAFETY: preemption is off and this is the vCPU's thread, so no `Pinned` exists.
        let resident = unsafe { &mut *self.state().resident.get() };
        resident.load(self, cpu);
        // SAFETY: `cpu` is written by load and put only.
        unsafe { (*self.as_ptr()).cpu = cpu as i32 };
    }

    /// The scheduler takes the vCPU off this CPU (`kvm_arch_vcpu_put()`).
    ///
    /// # Safety
    ///
    /// As [`sched_load`](Self::sched_load).
    pub(crate) unsafe fn sched_put(&self) {
        // SAFETY: `cpu` is written by load and put only.
        unsafe { (*self.as_ptr()).cpu = -1 };
        // SAFETY: as in `sched_load`.
        let resident = unsafe { &mut *self.state().resident.get() };
        resident.put(self);
    }

    /// The kernel wants the vector unit while the guest's state is in it.
    ///
    /// # Safety
    ///
    /// Called in the vCPU's thread with preemption or softirqs off, while the vCPU is loaded.
    pub(crate) unsafe fn flush_vector(&self) {
        // SAFETY: as the caller promises, no `Pinned` is in use: its holders never use vectors.
        let resident = unsafe { &mut *self.state().resident.get() };
        resident.flush_vector();
    }
}

/// A vCPU whose `vcpu->mutex` this thread holds, and whose registers are in memory.
///
/// Core KVM takes the mutex before every vCPU ioctl, so the doors create this; nothing else can.
pub(crate) struct OwnedVcpu<'a> {
    /// The vCPU.
    pub(crate) vcpu: &'a Vcpu,
    /// What the mutex protects.
    pub(crate) owned: &'a mut Owned,
}

impl<'a> OwnedVcpu<'a> {
    /// # Safety
    ///
    /// `vcpu` went through [`Vcpu::create`]; the caller holds `vcpu->mutex`, or is alone with the
    /// vCPU, for `'a`; the vCPU is not loaded.
    pub(crate) unsafe fn from_raw(vcpu: *mut bindings::kvm_vcpu) -> Self {
        // SAFETY: as the caller promises.
        let vcpu = unsafe { Vcpu::from_raw(vcpu) };
        // SAFETY: the mutex makes this the only reference.
        let owned = unsafe { &mut *vcpu.state().owned.get() };
        Self { vcpu, owned }
    }

    /// The state that loading moves into registers.
    pub(crate) fn resident(&mut self) -> &mut Resident {
        // SAFETY: the vCPU is not loaded, so the scheduler does not touch it, and the mutex keeps
        // other threads out; the result borrows `self`.
        unsafe { &mut *self.vcpu.state().resident.get() }
    }

    /// Both parts at once.
    pub(crate) fn split(&mut self) -> (&mut Owned, &mut Resident) {
        // SAFETY: as in `resident`; the two parts are disjoint.
        let resident = unsafe { &mut *self.vcpu.state().resident.get() };
        (self.owned, resident)
    }

    /// The page that userspace shares.
    pub(crate) fn run_page(&self) -> RunPage<'_> {
        RunPage::new(self.vcpu)
    }

    /// Runs `f` with the guest's registers in the CPU, and saves them afterwards.
    pub(crate) fn loaded<R>(&mut self, f: impl FnOnce(&mut Loaded<'_>) -> R) -> R {
        // SAFETY: the vCPU is live and its mutex is held, as core KVM wants.
        unsafe { bindings::vcpu_load(self.vcpu.as_ptr()) };
        let result = f(&mut Loaded {
            vcpu: self.vcpu,
            owned: self.owned,
        });
        // SAFETY: paired with the load.
        unsafe { bindings::vcpu_put(self.vcpu.as_ptr()) };
        result
    }

    /// `KVM_SET_GUEST_DEBUG`: whether `ebreak` goes to userspace.
    ///
    /// # Errors
    ///
    /// `EINVAL` for what this architecture does not do, such as single-stepping (c-review M26).
    pub(crate) fn set_guest_debug(&mut self, control: u32) -> Result {
        let debug = match control {
            0 => GuestDebug::Off,
            bindings::KVM_GUESTDBG_ENABLE => GuestDebug::On,
            _ => return Err(EINVAL),
        };
        kvm::set_guest_debug(self, control);
        self.resident().intercept_breakpoints(debug);
        Ok(())
    }

    /// Applies a reset that another hart asked for, so that what follows sees its outcome
    /// (c-review S3).
    pub(crate) fn drain_reset(&mut self) {
        if self.vcpu.take_request(Request::Reset) {
            let start = self.vcpu.shared().power.take_start();
            self.reset(start);
        }
    }

    /// Resets the hart; with `start`, to begin where HSM or SUSP said.
    pub(crate) fn reset(&mut self, start: Option<power::Start>) {
        self.owned.ctx = SwitchContext::reset();
        // What userspace answers to an exit of before is nobody's business any more.
        self.owned.pending = None;
        if let Some(start) = start {
            self.owned.ctx.sepc = start.pc;
            let hart = self.vcpu.hart().get() as usize;
            self.owned.ctx.gprs.set(Reg::A0, hart);
            self.owned.ctx.gprs.set(Reg::A1, start.opaque);
        }
        let (owned, resident) = self.split();
        resident.reset(owned.isa.effective());
        let shared = self.vcpu.shared();
        shared.timer.reset();
        shared.irqs.reset();
        shared.hfences.clear();
    }
}

/// A vCPU whose registers are in this CPU; preemptible, so the scheduler may move it.
pub(crate) struct Loaded<'l> {
    /// The vCPU.
    pub(crate) vcpu: &'l Vcpu,
    /// What the mutex protects.
    pub(crate) owned: &'l mut Owned,
}

impl Loaded<'_> {
    /// The page that userspace shares.
    pub(crate) fn run_page(&self) -> RunPage<'_> {
        RunPage::new(self.vcpu)
    }

    /// Runs `f` with preemption off: on one CPU, with the scheduler kept away.
    pub(crate) fn pinned<R>(&mut self, f: impl FnOnce(&mut Pinned<'_>) -> R) -> R {
        let preempt = PreemptOff::new();
        // SAFETY: the vCPU is loaded and preemption is off, so neither load nor put runs while
        // the reference lives.
        let resident = unsafe { &mut *self.vcpu.state().resident.get() };
        f(&mut Pinned {
            vcpu: self.vcpu,
            owned: self.owned,
            resident,
            preempt: &preempt,
        })
    }

    /// Runs `f` with the vCPU's registers in memory, then loads them again.
    pub(crate) fn unloaded<R>(&mut self, f: impl FnOnce(&mut OwnedVcpu<'_>) -> R) -> R {
        // SAFETY: the vCPU is loaded; it is loaded again below.
        unsafe { bindings::vcpu_put(self.vcpu.as_ptr()) };
        let result = f(&mut OwnedVcpu {
            vcpu: self.vcpu,
            owned: self.owned,
        });
        // SAFETY: the vCPU is live and its mutex is held.
        unsafe { bindings::vcpu_load(self.vcpu.as_ptr()) };
        result
    }

    /// Reads the instruction at guest virtual address `gva` as the guest would fetch it.
    ///
    /// # Errors
    ///
    /// The trap that the fetch would have taken; a guest-page fault means that the page is not
    /// mapped yet.
    pub(crate) fn read_insn(&mut self, gva: usize) -> Result<u32, Trap> {
        self.with_translation(|hstatus| {
            // SAFETY: interrupts are off and the translation is loaded.
            unsafe { hlv::read_insn(hstatus, gva) }
        })
    }

    /// Reads the 64-bit word at guest virtual address `gva` as the guest would load it.
    ///
    /// # Errors
    ///
    /// As [`read_insn`](Self::read_insn).
    pub(crate) fn read_word(&mut self, gva: usize) -> Result<usize, Trap> {
        self.with_translation(|hstatus| {
            // SAFETY: interrupts are off and the translation is loaded.
            unsafe { hlv::read_word(hstatus, gva) }
        })
    }

    /// Runs `f` with interrupts off and the guest's translation current, VMID included (c-review
    /// M18).
    fn with_translation<R>(&mut self, f: impl FnOnce(usize) -> R) -> R {
        self.pinned(|vcpu| {
            let _irqs = IrqOff::new();
            vcpu.settle();
            f(vcpu.owned.ctx.hstatus)
        })
    }
}

/// A loaded vCPU with preemption off.
pub(crate) struct Pinned<'p> {
    /// The vCPU.
    pub(crate) vcpu: &'p Vcpu,
    /// What the mutex protects.
    pub(crate) owned: &'p mut Owned,
    /// What loading moves; the registers in the CPU are newer.
    pub(crate) resident: &'p mut Resident,
    preempt: &'p PreemptOff,
}

impl Pinned<'_> {
    /// The CPU that the vCPU is on.
    pub(crate) fn cpu(&self) -> usize {
        self.preempt.cpu()
    }

    /// Makes the translation in this CPU that of the guest, VMID and stale entries included.
    #[inline(always)]
    pub(crate) fn settle(&mut self) {
        let cpu = self.cpu();
        self.vcpu
            .vm()
            .memory()
            .settle(self.vcpu.idx(), cpu, self.resident.translation());
    }
}
