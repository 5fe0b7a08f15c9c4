// SPDX-License-Identifier: GPL-2.0

//! The Supervisor Binary Interface of a guest. Answers to `vcpu_sbi.c` and `vcpu_sbi_*.c`.
//!
//! RISC-V Supervisor Binary Interface Specification 3.0. A call goes through three types:
//! registers ([`Call`]) become a [`Message`], the only type that names function ids; a
//! handler turns the message into an [`Outcome`]; [`complete`] turns that into registers or into
//! an exit to userspace. [`table`](crate::sbi_abi::table) lists the extensions.
//!
//! No locks of its own: a [`State`](crate::sbi_abi::table::State) belongs to the holder of
//! `vcpu->mutex`, and handlers reach other harts through [`VcpuShared`](crate::vcpu::VcpuShared)
//! alone. The handlers of base, TIME, IPI and RFENCE do not sleep.

use kernel::prelude::*;

use crate::{
    arch::{
        gprs::Reg,
        switch::Trap, //
    },
    insn::InsnLen,
    kernel_ext::context::IrqOff,
    kvm_core::guestmem::NoPlace,
    sbi_abi::{
        message::{
            Call,
            Convention,
            Message,
            SbiError, //
        },
        table::Extension, //
    },
    vcpu::{
        mp_state::Start,
        pending::PendingExit,
        pmu::FirmwareEvent,
        stat::Counter,
        token::{
            Loaded,
            OwnedVcpu,
            Pinned, //
        },
        trace, //
        ExitAction,
        VcpuInner,
    }, //
};

pub(crate) mod base;
pub(crate) mod fwft;
pub(crate) mod harts;
pub(crate) mod hsm;
pub(crate) mod ipi_rfence;
pub(crate) mod pmu;
pub(crate) mod srst;
pub(crate) mod sta;
pub(crate) mod susp;
pub(crate) mod v01;

/// The outcome of a call.
enum Outcome {
    /// The call is done: with a value, or with an error.
    Done(Result<usize, SbiError>),
    /// Userspace serves the call and returns the result; see [`finish`].
    Forward,
    /// Userspace suspends the system; if it does, the hart is reset, see [`finish_suspend`].
    Suspend(Start),
    /// The guest takes this trap instead, because the access to its memory that the call requires
    /// is its own error.
    Redirect(Trap),
    /// The guest makes the call again: a page that was missing is mapped now, or userspace must
    /// collect the dirty ring first.
    Retry,
    /// The call succeeds once an interrupt is pending that the guest has enabled.
    WaitForInterrupt,
    /// `kvm_run` tells userspace what happened; the call does not return, or is made again.
    Exit(ExitAction),
}

/// Why a call that accesses guest memory has no value.
enum Unfinished {
    /// The call failed.
    Error(SbiError),
    /// The dirty ring has no room for the page that the call writes to: the guest makes the call
    /// again, after userspace has collected the ring.
    RingFull,
}

impl Unfinished {
    /// Returns why a call found no memory: `error`, if there is none.
    fn without(none: NoPlace, error: SbiError) -> Self {
        match none {
            NoPlace::NoMemory => Self::Error(error),
            NoPlace::RingFull => Self::RingFull,
        }
    }
}

impl From<SbiError> for Unfinished {
    fn from(error: SbiError) -> Self {
        Self::Error(error)
    }
}

impl From<Result<usize, Unfinished>> for Outcome {
    fn from(result: Result<usize, Unfinished>) -> Self {
        match result {
            Ok(value) => Self::Done(Ok(value)),
            Err(Unfinished::Error(error)) => Self::Done(Err(error)),
            Err(Unfinished::RingFull) => Self::Retry,
        }
    }
}

/// Handles an ECALL from VS-mode if that takes only a moment: interrupts are off, and the guest is
/// entered again at once. Otherwise does nothing, and [`handle`] is to handle it.
#[inline]
pub(crate) fn handle_at_once(vcpu: &mut Pinned<'_>, _irqs: &IrqOff) -> Handled {
    let id = vcpu.ctx.gprs.get(Reg::A7);
    let extension = match vcpu.sbi.find(id) {
        Some(
            extension @ (Extension::Base | Extension::Time | Extension::Ipi | Extension::Rfence),
        ) => extension,
        Some(_) | None => return Handled::No,
    };
    let mut handled = Handled::Yes;
    let result = match Message::decode(extension, &Call::of(&vcpu.ctx.gprs)) {
        Ok(message) => {
            if matches!(message, Message::SendIpi(_)) {
                handled = Handled::WokeVcpu;
            }
            match serve_at_once(vcpu, message) {
                Some(result) => result,
                None => return Handled::No,
            }
        }
        Err(error) => Err(error),
    };
    trace::trace_vcpu_exit_at_once(vcpu.vcpu(), &vcpu.ctx);
    set_sbiret(vcpu, Convention::Standard, result);
    handled
}

/// Whether a call was handled.
#[derive(Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Handled {
    /// The guest goes on after the ECALL.
    Yes,
    /// The guest goes on after the ECALL, but other threads may have been woken, which may want
    /// this CPU.
    WokeVcpu,
    /// Nothing was done.
    No,
}

/// Serves `message` unless that takes long, or waits for other harts.
#[inline]
fn serve_at_once(vcpu: &mut Pinned<'_>, message: Message) -> Option<Result<usize, SbiError>> {
    match message {
        Message::Base(question) => match base::handle(vcpu, question) {
            Outcome::Done(result) => Some(result),
            _ => None,
        },
        Message::SetTimer(deadline) => vcpu.set_timer_in_hardware(deadline).map(|()| {
            vcpu.vcpu().note(FirmwareEvent::SetTimer);
            Ok(0)
        }),
        Message::SendIpi(harts) => ipi_rfence::send_ipi_at_once(vcpu.vcpu(), harts),
        Message::Fence(harts, fence) => ipi_rfence::fence_here(vcpu, harts, fence).map(|()| Ok(0)),
        Message::Hsm(_)
        | Message::Reset(_)
        | Message::Pmu(_)
        | Message::Fwft(_)
        | Message::StealTime(_)
        | Message::Suspend(_)
        | Message::Legacy(_)
        | Message::Forward => None,
    }
}

/// Handles an ECALL from VS-mode.
///
/// # Errors
///
/// Those of resolving a fault on a hart mask in guest memory.
#[inline(never)]
pub(crate) fn handle(vcpu: &mut Loaded<'_>) -> Result<ExitAction> {
    let call = Call::of(&vcpu.ctx.gprs);
    let extension = vcpu.sbi.find(call.extension);
    let decoded = match extension {
        Some(extension) => Message::decode(extension, &call),
        None => Err(SbiError::NotSupported),
    };
    let outcome = match decoded {
        Ok(message) => serve(vcpu, message)?,
        Err(error) => Outcome::Done(Err(error)),
    };
    Ok(complete(vcpu, &call, convention(extension), outcome))
}

/// Returns how the results of a call to `extension` go back.
fn convention(extension: Option<Extension>) -> Convention {
    match extension {
        Some(Extension::Legacy) => Convention::Legacy,
        Some(_) | None => Convention::Standard,
    }
}

/// Serves `message`. May sleep.
#[inline]
fn serve(vcpu: &mut Loaded<'_>, message: Message) -> Result<Outcome> {
    Ok(match message {
        Message::Base(question) => base::handle(vcpu, question),
        Message::SetTimer(deadline) => {
            vcpu.vcpu().note(FirmwareEvent::SetTimer);
            vcpu.set_timer(deadline);
            Outcome::Done(Ok(0))
        }
        Message::SendIpi(harts) => Outcome::Done(ipi_rfence::send_ipi(vcpu.vcpu(), harts)),
        Message::Fence(harts, fence) => Outcome::Done(ipi_rfence::fence(vcpu, harts, fence)),
        Message::Hsm(request) => hsm::handle(vcpu, request),
        Message::Reset(reset) => srst::handle(vcpu, reset),
        Message::Pmu(call) => pmu::handle(vcpu, call).into(),
        Message::Fwft(request) => Outcome::Done(fwft::handle(vcpu, request)),
        Message::StealTime(request) => sta::handle(vcpu, request).into(),
        Message::Suspend(suspend) => susp::handle(vcpu, suspend),
        Message::Legacy(call) => return v01::handle(vcpu, call),
        Message::Forward => Outcome::Forward,
    })
}

/// Completes a call: writes `outcome` to the guest's registers, or exits to userspace.
#[inline]
fn complete(
    vcpu: &mut Loaded<'_>,
    call: &Call,
    convention: Convention,
    outcome: Outcome,
) -> ExitAction {
    match outcome {
        Outcome::Done(result) => {
            set_sbiret(vcpu, convention, result);
            ExitAction::Resume
        }
        Outcome::Forward => {
            forward(vcpu, call, PendingExit::Sbi(convention));
            ExitAction::Userspace
        }
        Outcome::Suspend(start) => {
            forward(vcpu, call, PendingExit::Suspend(start));
            ExitAction::Userspace
        }
        Outcome::Redirect(trap) => {
            vcpu.redirect(&trap);
            ExitAction::Resume
        }
        Outcome::WaitForInterrupt => {
            set_sbiret(vcpu, convention, Ok(0));
            ExitAction::WaitForInterrupt
        }
        Outcome::Retry => ExitAction::Resume,
        Outcome::Exit(next) => next,
    }
}

/// Tells userspace of a call, which the next `KVM_RUN` finishes as `pending` says. If userspace
/// does not know the call and leaves the page as it is, the guest gets [`SbiError::NotSupported`].
#[inline]
fn forward(vcpu: &mut Loaded<'_>, call: &Call, pending: PendingExit) {
    vcpu.vcpu().count(Counter::EcallExits);
    vcpu.run_page().exit_sbi(
        call.extension,
        call.function,
        call.args,
        SbiError::NotSupported.code(),
    );
    vcpu.pending = Some(pending);
}

/// Gives the guest the result of its call.
#[inline]
fn set_sbiret(inner: &mut VcpuInner, convention: Convention, result: Result<usize, SbiError>) {
    let gprs = &mut inner.ctx.gprs;
    match convention {
        Convention::Standard => {
            let (error, value) = match result {
                Ok(value) => (0, value),
                Err(error) => (error.code(), 0),
            };
            gprs.set(Reg::A0, error);
            gprs.set(Reg::A1, value);
        }
        Convention::Legacy => gprs.set(Reg::A0, result.unwrap_or_else(SbiError::code)),
    }
    skip_ecall(inner);
}

/// Completes a call that userspace served: takes its results from `kvm_run`. Called once for each,
/// by the next `KVM_RUN`.
pub(crate) fn finish(vcpu: &mut OwnedVcpu<'_>, convention: Convention) {
    let [error, value] = vcpu.run_page().sbi_return();
    let gprs = &mut vcpu.ctx.gprs;
    gprs.set(Reg::A0, error);
    match convention {
        Convention::Standard => gprs.set(Reg::A1, value),
        Convention::Legacy => {}
    }
    skip_ecall(vcpu);
}

/// Completes a call to suspend the system. Returns whether userspace did it, so that the caller has
/// to reset the hart; otherwise the guest goes on after a call that failed. Until then nothing has
/// happened to the hart.
pub(crate) fn finish_suspend(vcpu: &mut OwnedVcpu<'_>) -> bool {
    let [error, _] = vcpu.run_page().sbi_return();
    if error == 0 {
        return true;
    }
    let gprs = &mut vcpu.ctx.gprs;
    gprs.set(Reg::A0, error);
    gprs.set(Reg::A1, 0);
    skip_ecall(vcpu);
    false
}

/// Moves the guest to the instruction after the ECALL, which has no compressed form.
fn skip_ecall(inner: &mut VcpuInner) {
    inner.ctx.skip(InsnLen::Four.bytes());
}
