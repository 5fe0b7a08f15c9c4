// SPDX-License-Identifier: GPL-2.0

//! A virtual CPU. Answers to `vcpu.c`.
//!
//! Its state has three parts, by which code may touch it:
//!
//! - [`VcpuShared`]: any CPU, at any time. Atomics, and locks that own their data.
//! - [`VcpuInner`]: the holder of `vcpu->mutex`, through [`OwnedVcpu`] or [`Loaded`].
//! - [`CpuContext`](context::CpuContext): what loading and putting move between memory and
//!   registers. The scheduler does that in the owner's thread at any time, so the part of a loaded
//!   vCPU is reached only with preemption off, through [`Pinned`](token::Pinned); an idle one's
//!   through [`OwnedVcpu`]. Vector registers, which even a softirq may save, are a part of their
//!   own, [`GuestVector`](crate::arch::vector::GuestVector).
//!
//! The tokens nest: [`OwnedVcpu`] (mutex held) gives [`Loaded`] (registers in the CPU, which CPU
//! may change), gives [`Pinned`](token::Pinned) (preemption off), gives
//! [`EntryToken`](crate::run::EntryToken) (interrupts off), which alone enters the guest.
//!
//! Lock order: `vcpu->mutex`, then the leaf locks in [`VcpuShared`].

use kernel::prelude::*;

use crate::{
    arch::{
        cpufeature::MachineIds,
        registers::GuestMode,
        switch::SwitchContext, //
    },
    bindings,
    isa::GuestIsa,
    kernel_ext::atomic::{
        AtomicU64,
        Ordering, //
    },
    kvm_core::{
        object::Vcpu,
        runpage::RunPage, //
    },
    sbi_abi::{
        fwft,
        table, //
    },
    vcpu::{
        config::{
            GuestDebug,
            HypConfig, //
        },
        host::Host,
        irq::Irqs,
        mp_state::MpState,
        pending::PendingExit,
        pmu::{
            firmware::FirmwareCounts,
            perf_event::OverflowSink, //
            Pmu,
        },
        request::Request,
        timer::Timer,
        token::{
            Loaded,
            OwnedVcpu, //
        }, //
    }, //
};

pub(crate) mod config;
pub(crate) mod context;
pub(crate) mod host;
pub(crate) mod hrtimer;
pub(crate) mod irq;
pub(crate) mod mp_state;
pub(crate) mod onereg;
pub(crate) mod pending;
pub(crate) mod pmu;
pub(crate) mod request;
pub(crate) mod residency;
pub(crate) mod stat;
pub(crate) mod steal_time;
pub(crate) mod timer;
pub(crate) mod token;
pub(crate) mod trace;
pub(crate) mod translation;
pub(crate) mod trap;

/// The part that any CPU may access at any time. C: `struct kvm_vcpu_arch`, without a lock.
#[pin_data]
pub(crate) struct VcpuShared {
    /// Pending interrupts, and what the guest last had enabled.
    pub(crate) irqs: Irqs,
    /// The guest's timer.
    #[pin]
    pub(crate) timer: Timer,
    /// Started, stopped, and with which registers to start.
    #[pin]
    pub(crate) mp_state: MpState,
    /// Events that performance counters count.
    pub(crate) firmware: FirmwareCounts,
    /// How overflows of performance counters reach the vCPU.
    pub(crate) overflows: OverflowSink,
    /// What is reported of the thread's waiting.
    pub(crate) steal: steal_time::Watch,
    /// Where the guest was when it last came back.
    pub(crate) last_exit: LastExit,
}

/// The guest's pc and privilege as of its last exit, for profilers, and for core KVM, which chooses
/// a vCPU to yield to. Other CPUs read it while the guest runs, so it is a copy.
///
/// Bit 0, which no pc has, says whether the guest was in its supervisor mode.
pub(crate) struct LastExit(AtomicU64);

impl LastExit {
    /// Returns what is noted at a reset: pc 0, supervisor mode.
    fn new() -> Self {
        Self(AtomicU64::new(1))
    }

    /// Notes where the guest was.
    #[inline(always)]
    pub(crate) fn set(&self, ctx: &SwitchContext) {
        let supervisor = u64::from(ctx.mode() == GuestMode::Supervisor);
        // Relaxed: readers use this value alone.
        self.0
            .store(ctx.pc() as u64 | supervisor, Ordering::Relaxed);
    }

    /// Returns the guest's pc.
    #[cfg(CONFIG_GUEST_PERF_EVENTS)]
    pub(crate) fn pc(&self) -> usize {
        self.0.load(Ordering::Relaxed) as usize & !1
    }

    /// Returns whether the guest was in its supervisor mode.
    pub(crate) fn was_supervisor(&self) -> bool {
        self.0.load(Ordering::Relaxed) & 1 != 0
    }
}

impl VcpuShared {
    /// Makes the state of a hart before its first reset.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            irqs: Irqs::new(),
            timer <- Timer::new(),
            mp_state <- MpState::new(),
            firmware: FirmwareCounts::new(),
            overflows: OverflowSink::new(),
            steal: steal_time::Watch::new(),
            last_exit: LastExit::new(),
        })
    }
}

impl Vcpu {
    /// Returns the part that any CPU may access at any time.
    #[inline(always)]
    pub(crate) fn shared(&self) -> &VcpuShared {
        self.part()
    }
}

/// The part that only the holder of `vcpu->mutex` may access. C: `struct kvm_vcpu_arch`, under
/// `vcpu->mutex`.
pub(crate) struct VcpuInner {
    /// The guest's integer registers, pc and privilege.
    pub(crate) ctx: SwitchContext,
    /// The extensions that the guest has.
    pub(crate) isa: GuestIsa,
    /// The vCPU ran: its configuration is final.
    pub(crate) ran_atleast_once: bool,
    /// `mvendorid`, `marchid` and `mimpid` as the guest reads them.
    pub(crate) machine: MachineIds,
    /// What an exit to userspace left to be finished by the next `KVM_RUN`.
    pub(crate) pending: Option<PendingExit>,
    /// SBI extensions and their state.
    pub(crate) sbi: table::State,
    /// Whether userspace or the guest gets the guest's breakpoints.
    pub(crate) debug: GuestDebug,
    /// What the host's part of firmware features is.
    pub(crate) features: fwft::Host,
    /// Performance counters.
    pub(crate) pmu: Pmu,
}

impl VcpuInner {
    /// Makes the state of a hart of `host` in place: it is too large for the stack.
    pub(crate) fn new(host: &'static Host) -> impl Init<Self> {
        init!(Self {
            ctx: SwitchContext::reset(),
            isa: GuestIsa::new(&host.isa, host::vector_use()),
            ran_atleast_once: false,
            machine: host.machine,
            pending: None,
            sbi: table::State::new(host::provides_sbi),
            debug: GuestDebug::Off,
            features: host.features,
            pmu: Pmu::new(),
        })
    }

    /// Returns what support for firmware features depends on.
    pub(crate) fn platform(&self) -> fwft::Platform {
        fwft::Platform {
            isa: self.isa.effective(),
            host: self.features,
        }
    }

    /// Returns what the guest may do, as things stand.
    pub(crate) fn hyp_config(&self) -> HypConfig {
        HypConfig::of(&self.platform(), &self.sbi.fwft, self.debug)
    }
}

/// What to do after an exit was handled.
#[derive(Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum ExitAction {
    /// Back into the guest.
    Resume,
    /// Back into the guest, once an interrupt is pending that the guest has enabled.
    WaitForInterrupt,
    /// To userspace; `kvm_run` says why.
    Userspace,
    /// To userspace, with `EFAULT`: the host cannot provide guest memory.
    MemoryFault,
}

impl Vcpu {
    /// Asks the vCPU to do something before it next enters the guest. Does not kick it.
    pub(crate) fn request(&self, request: Request) {
        // Release: what the request is about is visible to the thread that takes the request.
        self.requests().fetch_or(request.bit(), Ordering::Release);
    }

    /// Returns whether `request` is pending.
    pub(crate) fn requested(&self, request: Request) -> bool {
        self.requests().load(Ordering::Relaxed) & request.bit() != 0
    }

    /// Returns whether any request is pending.
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

    /// Returns whether an external interrupt ends the vCPU's waiting: the guest had it enabled when
    /// last put or blocked, and the hart is not stopped.
    pub(crate) fn awaits_external(&self) -> bool {
        self.shared().irqs.is_enabled(irq::Interrupt::External)
            && !self.shared().mp_state.is_stopped()
    }
}

impl OwnedVcpu<'_> {
    /// Returns the page that userspace shares (`struct kvm_run`).
    pub(crate) fn run_page(&self) -> RunPage<'_> {
        RunPage::new(self.vcpu())
    }

    /// Sets whether `ebreak` goes to userspace (`KVM_SET_GUEST_DEBUG`).
    ///
    /// # Errors
    ///
    /// `EINVAL` for what this architecture does not do, such as single-stepping (differences-from-c
    /// M26).
    pub(crate) fn set_guest_debug(&mut self, control: u32) -> Result {
        let debug = match control {
            0 => GuestDebug::Off,
            bindings::KVM_GUESTDBG_ENABLE => GuestDebug::On,
            _ => return Err(EINVAL),
        };
        token::set_guest_debug(self, control);
        self.debug = debug;
        self.configure();
        Ok(())
    }

    /// Derives the registers anew from the guest's extensions, its firmware features, and whether
    /// userspace debugs it.
    pub(crate) fn configure(&mut self) {
        let (inner, context) = self.split();
        context.configure(inner.isa.effective(), inner.hyp_config());
    }
}

impl Loaded<'_> {
    /// Returns the page that userspace shares (`struct kvm_run`).
    pub(crate) fn run_page(&self) -> RunPage<'_> {
        RunPage::new(self.vcpu())
    }
}
