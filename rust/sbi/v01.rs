// SPDX-License-Identifier: GPL-2.0

//! The calls of SBI v0.1, where each call is an extension. Answers to `vcpu_sbi_v01.c`.
//!
//! They name harts by a bit-vector in guest memory, at a virtual address.

use kernel::prelude::*;

use crate::{
    arch::switch::Trap,
    bindings,
    mmu::{
        fault::{
            self,
            Access, //
        },
        guest_access, //
    },
    sbi::{
        harts::Targets,
        ipi_rfence,
        srst, //
        Outcome,
    },
    sbi_abi::message::{
        HartMask,
        Legacy,
        LegacyHarts,
        Reset,
        ResetKind, //
    },
    vcpu::{
        irq::Interrupt,
        pmu::FirmwareEvent,
        token::Loaded, //
        ExitAction,
    }, //
};

/// Harts per word of a bit-vector.
const WORD: usize = u64::BITS as usize;

/// Words of the bit-vector of the largest VM.
const MAX_WORDS: usize = (bindings::KVM_MAX_VCPUS as usize).div_ceil(WORD);

/// Serves `call`.
///
/// # Errors
///
/// Those of resolving a fault on a hart mask in guest memory.
#[inline(never)]
pub(super) fn handle(vcpu: &mut Loaded<'_>, call: Legacy) -> Result<Outcome> {
    let done = Outcome::Done(Ok(0));
    Ok(match call {
        Legacy::SetTimer(deadline) => {
            vcpu.vcpu().note(FirmwareEvent::SetTimer);
            vcpu.set_timer(deadline);
            done
        }
        Legacy::Console => Outcome::Forward,
        Legacy::ClearIpi => Outcome::Done(Ok(clear_ipi(vcpu))),
        Legacy::SendIpi(harts) => on_harts(vcpu, harts, FirmwareEvent::IpiSent, |_, targets| {
            ipi_rfence::interrupt(targets);
        })?,
        Legacy::Fence(harts, fence) => on_harts(vcpu, harts, fence.sent(), |vcpu, targets| {
            ipi_rfence::fence_on(vcpu, targets, fence);
        })?,
        Legacy::Shutdown => srst::handle(
            vcpu,
            Reset {
                kind: ResetKind::Shutdown,
                reason: bindings::sbi_srst_reset_reason_SBI_SRST_RESET_REASON_NONE,
            },
        ),
    })
}

/// Takes back the hart's software interrupt; 1 if there was one, else 0.
fn clear_ipi(vcpu: &mut Loaded<'_>) -> usize {
    // The guest may have set or cleared it by itself.
    let me = vcpu.vcpu();
    vcpu.pinned(|vcpu| vcpu.context().snapshot(me));
    me.withdraw(Interrupt::Software).into()
}

/// Calls `f` with the harts, in one piece or in several, and counts `event` once; does neither if
/// the bit-vector cannot be read.
fn on_harts(
    vcpu: &mut Loaded<'_>,
    harts: LegacyHarts,
    event: FirmwareEvent,
    f: impl Fn(&mut Loaded<'_>, &Targets<'_>),
) -> Result<Outcome> {
    let vm = vcpu.vcpu().vm();
    match harts {
        LegacyHarts::All => f(vcpu, &Targets::all(vm)),
        LegacyHarts::VectorAt(gva) => match read_vector(vcpu, gva)? {
            Read::Words(words) => {
                for (mask, base) in words.into_iter().zip((0..).step_by(WORD)) {
                    if mask != 0 {
                        f(vcpu, &Targets::existing(vm, HartMask::new(base, mask)));
                    }
                }
            }
            Read::Not(outcome) => return Ok(outcome),
        },
    }
    vcpu.vcpu().note(event);
    Ok(Outcome::Done(Ok(0)))
}

/// The outcome of reading a bit-vector.
enum Read {
    /// Its words; those beyond the VM's harts are 0.
    Words([u64; MAX_WORDS]),
    /// The bit-vector could not be read; the call ends so.
    Not(Outcome),
}

/// Reads the bit-vector at guest virtual address `gva`, all of it before anything is done: one
/// word for each 64 harts of the VM.
fn read_vector(vcpu: &mut Loaded<'_>, gva: usize) -> Result<Read> {
    let count = vcpu.vcpu().vm().online_vcpus().div_ceil(WORD);
    let mut words = [0; MAX_WORDS];
    for (i, word) in words.iter_mut().take(count).enumerate() {
        match vcpu.read_word(gva.wrapping_add(i * size_of::<usize>())) {
            Ok(value) => *word = value as u64,
            Err(mut trap) => {
                // The trap says where our own load is.
                trap.sepc = vcpu.ctx.pc();
                return Ok(Read::Not(unreadable(vcpu, trap)?));
            }
        }
    }
    Ok(Read::Words(words))
}

/// Handles `trap`, which reading took. If the page is only missing in the G-stage, this is not the
/// guest's business: it is brought in, and the call made again (differences-from-c S9).
///
/// # Errors
///
/// `EINTR`, `ENOMEM` while providing guest memory.
fn unreadable(vcpu: &mut Loaded<'_>, trap: Trap) -> Result<Outcome> {
    if !guest_access::is_guest_page_fault(&trap) {
        return Ok(Outcome::Redirect(trap));
    }
    Ok(match vcpu.provide(&trap, Access::Load)? {
        fault::Outcome::Mapped => Outcome::Retry,
        fault::Outcome::Refused => Outcome::Exit(ExitAction::MemoryFault),
        // A real machine raises an access fault where no device or memory answers.
        fault::Outcome::NoMemory => Outcome::Redirect(Trap {
            sepc: trap.sepc,
            scause: bindings::EXC_LOAD_ACCESS as usize,
            stval: trap.stval,
            ..Trap::default()
        }),
    })
}
