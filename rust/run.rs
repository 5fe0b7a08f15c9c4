// SPDX-License-Identifier: GPL-2.0

//! The run loop enters the guest, handles its exits, and serves requests in between. Answers to
//! `kvm_arch_vcpu_ioctl_run()`.
//!
//! Locks: `vcpu->mutex` is held throughout, `kvm->srcu` only by handlers that look at memslots.

use kernel::prelude::*;

use crate::{
    aia::imsic,
    arch::switch::Trap,
    bindings,
    kernel_ext::{
        context::IrqOff,
        sched, //
    },
    kvm_core::calls::{
        self as kvm,
        Inside,
        VcpuMode, //
    },
    mmu::tlb,
    run::wait::wait_for_interrupt,
    sbi,
    vcpu::{
        mp_state,
        pending::PendingExit,
        request::Request,
        stat::Counter,
        token::{
            Loaded,
            OwnedVcpu,
            Pinned, //
        },
        trace, //
        ExitAction,
    }, //
};

pub(crate) mod exit;
pub(crate) mod mmio;
pub(crate) mod reset;
pub(crate) mod wait;

/// Runs the guest until userspace is needed (`KVM_RUN`).
///
/// # Errors
///
/// `EINTR` for a signal or `immediate_exit`, `EIO` for a dead VM, `EFAULT` for guest memory that
/// the host cannot provide; errors of the exit handlers.
pub(crate) fn run(vcpu: &mut OwnedVcpu<'_>) -> Result {
    freeze(vcpu);
    finish_exit(vcpu);
    if !kvm::wants_to_run(vcpu.held()) {
        return Err(EINTR);
    }
    vcpu.loaded(|vcpu| {
        let _signals = kvm::SignalMask::activate(vcpu.held());
        vcpu.run_page().set_exit_reason(bindings::KVM_EXIT_UNKNOWN);
        vcpu.pmu.enter();
        let result = run_loop(vcpu);
        vcpu.pmu.leave();
        result
    })
}

/// Enters the guest again and again until userspace is needed.
#[inline(always)]
fn run_loop(vcpu: &mut Loaded<'_>) -> Result {
    loop {
        match enter_guest_once(vcpu)? {
            ExitAction::Resume => {}
            ExitAction::WaitForInterrupt => wait_for_interrupt(vcpu),
            ExitAction::Userspace => return Ok(()),
            ExitAction::MemoryFault => return Err(EFAULT),
        }
    }
}

/// Makes the configuration final, at the first run.
fn freeze(vcpu: &mut OwnedVcpu<'_>) {
    if !vcpu.ran_atleast_once {
        vcpu.ran_atleast_once = true;
        vcpu.isa.freeze();
        vcpu.configure();
    }
}

/// Completes the exit that userspace has answered.
fn finish_exit(vcpu: &mut OwnedVcpu<'_>) {
    match vcpu.pending.take() {
        None => {}
        Some(PendingExit::Load(load)) => load.finish(vcpu),
        Some(PendingExit::Store(store)) => store.finish(vcpu),
        Some(PendingExit::Csr(access)) => access.finish(vcpu),
        Some(PendingExit::Sbi(convention)) => sbi::finish(vcpu, convention),
        Some(PendingExit::Suspend(start)) => {
            if sbi::finish_suspend(vcpu) {
                vcpu.reset(Some(start));
            }
        }
    }
}

/// Serves pending work and requests, then enters the guest once and handles the exit.
fn enter_guest_once(vcpu: &mut Loaded<'_>) -> Result<ExitAction> {
    kvm::handle_guest_mode_work(vcpu.held())?;
    if vcpu.vcpu().any_request() && serve_requests(vcpu)? == ExitAction::Userspace {
        return Ok(ExitAction::Userspace);
    }
    match vcpu.pinned(enter) {
        Some(trap) => exit::handle(vcpu, &trap),
        None => Ok(ExitAction::Resume),
    }
}

/// Serves the requests that other threads, or the vCPU's own thread, have made. Each request is
/// named, so that a new one does not compile until it is served (differences-from-c M24).
#[inline(never)]
fn serve_requests(vcpu: &mut Loaded<'_>) -> Result<ExitAction> {
    for request in Request::ALL {
        if !vcpu.vcpu().take_request(request) {
            continue;
        }
        match request {
            Request::VmDead => return Err(EIO),
            Request::Unblock => {}
            Request::Sleep => mp_state::wait_while_stopped(vcpu),
            Request::Reset => vcpu.unloaded(|vcpu| vcpu.apply_reset()),
            Request::FenceI => vcpu.pinned(tlb::fence_i),
            Request::InterruptFile => {
                if imsic::update(vcpu)? == ExitAction::Userspace {
                    return Ok(ExitAction::Userspace);
                }
            }
            Request::TlbFlush => vcpu.pinned(tlb::flush_all),
            Request::Hfence => tlb::process(vcpu),
            Request::StealTime => sbi::sta::record(vcpu),
            Request::DirtyRingSoftFull => {
                // Core KVM looks at the request itself.
                vcpu.vcpu().request(request);
                if kvm::dirty_ring_is_full(vcpu.held()) {
                    return Ok(ExitAction::Userspace);
                }
            }
        }
    }
    Ok(ExitAction::Resume)
}

/// Brings interrupts that other contexts made pending into the guest's view. Interrupts are
/// disabled.
#[inline(always)]
fn flush_interrupts(vcpu: &mut Pinned<'_>) {
    let me = vcpu.vcpu();
    if let Some(pending) = vcpu.context().flush_interrupts(me) {
        imsic::present_external(vcpu, pending);
    }
}

/// Enters the guest unless a reason not to has turned up; returns why it came back.
fn enter(vcpu: &mut Pinned<'_>) -> Option<Trap> {
    let trap = IrqOff::with(|irqs| {
        // From here on a kick is an IPI, which waits until the guest is entered and ends it.
        let mode = VcpuMode::enter(vcpu.held(), Inside::Guest, irqs);
        flush_interrupts(vcpu);
        let token = EntryToken::prepare_entry(vcpu, irqs, mode)?;
        sched::guest_timing_enter();
        Some(token.enter())
    })?;
    // Interrupts that came in the guest have been taken in between, so that the tick is booked on
    // it.
    IrqOff::with(|_| sched::guest_timing_exit());
    trap
}

/// Proof that the guest can be entered: interrupts are off, no request is pending, the translation
/// is the guest's. Consumed by entering.
///
/// As long as interrupts stay off and the mode is still `IN_GUEST_MODE`, the guest may be entered
/// again without another look at requests: a CPU that makes a request changes the mode, or
/// interrupts this CPU. The scheduler does neither if this CPU itself wakes a thread
/// ([`sbi::Handled::WokeVcpu`]).
pub(crate) struct EntryToken<'t, 'p> {
    /// The vCPU to be entered.
    vcpu: &'t mut Pinned<'p>,
    /// Interrupts, which are off.
    irqs: &'t IrqOff,
    /// The mode that has CPUs which make a request wait for this one.
    mode: VcpuMode<'t>,
}

impl<'t, 'p> EntryToken<'t, 'p> {
    /// Looks for reasons not to enter, a last time.
    fn prepare_entry(
        vcpu: &'t mut Pinned<'p>,
        irqs: &'t IrqOff,
        mode: VcpuMode<'t>,
    ) -> Option<Self> {
        if vcpu.vcpu().any_request() || sched::guest_mode_work_pending() {
            return None;
        }
        vcpu.update_hgatp();
        Some(Self { vcpu, irqs, mode })
    }

    /// Runs the guest until it traps, and through calls of the SBI that are handled at once;
    /// [`None`] if after such a call something else comes first.
    fn enter(mut self) -> Option<Trap> {
        let counters = self.vcpu.context().swap_in_counters();
        let trap = loop {
            self.enter_once();
            let ctx = &self.vcpu.ctx;
            self.vcpu.vcpu().count(Counter::Exits);
            trace::trace_exit(ctx);
            if !ctx.is_ecall() {
                break Some(ctx.trap());
            }
            match sbi::handle_at_once(self.vcpu, self.irqs) {
                sbi::Handled::No => break Some(self.vcpu.ctx.trap()),
                // The woken thread may be waiting for this CPU: `TIF_NEED_RESCHED` is then set
                // without an IPI, so check it here.
                sbi::Handled::WokeVcpu if sched::guest_mode_work_pending() => break None,
                sbi::Handled::Yes | sbi::Handled::WokeVcpu => {}
            }
            if !self.mode.is_in_guest() {
                break None;
            }
            flush_interrupts(self.vcpu);
        };
        self.vcpu.context().swap_out_counters(counters);
        // Before interrupts are let in: one of them may be a profiler's.
        self.vcpu.vcpu().shared().last_exit.set(&self.vcpu.ctx);
        sched::note_guest();
        trap
    }

    /// Enters the guest and returns when it traps. Interrupts are off.
    #[inline(always)]
    fn enter_once(&mut self) {
        let vcpu = self.vcpu.vcpu();
        let (inner, context) = self.vcpu.split();
        let ctx = &mut inner.ctx;

        trace::trace_entry(ctx.pc());
        context.restore_vector(vcpu);
        ctx.set_units(context.units);
        // SAFETY: This token proves that interrupts are disabled and that registers and translation
        // in this CPU are the guest's. The caller told time accounting before; it tells RCU after
        // the last entry, before interrupts are let in.
        unsafe { ctx.enter() };
        context.take_units(vcpu, ctx.units());
    }
}
