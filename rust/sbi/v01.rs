// SPDX-License-Identifier: GPL-2.0

//! The calls of SBI v0.1, where each call is an extension. Answers to `vcpu_sbi_v01.c`.
//!
//! They name harts by a bit-vector in guest memory, at a virtual address.

use kernel::prelude::*;

use super::{
    harts::Targets,
    message::{
        HartMask,
        Legacy,
        LegacyHarts,
        Reset,
        ResetKind, //
    },
    replace,
    srst,
    Outcome, //
};
use crate::{
    bindings,
    vcpu::{
        exit,
        irq::Interrupt,
        Loaded, //
    },
    vm::Vm,
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
pub(super) fn handle(vcpu: &mut Loaded<'_>, call: Legacy) -> Result<Outcome> {
    let done = Outcome::Done(Ok(0));
    Ok(match call {
        Legacy::SetTimer(deadline) => {
            replace::set_timer(vcpu, deadline);
            done
        }
        Legacy::Console => Outcome::Forward,
        Legacy::ClearIpi => {
            vcpu.vcpu.withdraw(Interrupt::Software);
            done
        }
        Legacy::SendIpi(harts) => on_harts(vcpu, harts, replace::interrupt)?,
        Legacy::Fence(harts, fence) => {
            on_harts(vcpu, harts, |targets| replace::fence_on(targets, fence))?
        }
        Legacy::Shutdown => srst::handle(
            vcpu,
            Reset {
                kind: ResetKind::Shutdown,
                reason: bindings::sbi_srst_reset_reason_SBI_SRST_RESET_REASON_NONE,
            },
        ),
    })
}

/// Calls `f` with the harts, in one piece or in several; not at all if their names cannot be read.
fn on_harts(
    vcpu: &mut Loaded<'_>,
    harts: LegacyHarts,
    f: impl Fn(&Targets<'_>),
) -> Result<Outcome> {
    let vm = vcpu.vcpu.vm();
    match harts {
        LegacyHarts::All => f(&Targets::all(vm)),
        LegacyHarts::VectorAt(gva) => match read_vector(vcpu, gva)? {
            Read::Words(words) => {
                for (mask, base) in words.into_iter().zip((0..).step_by(WORD)) {
                    if mask != 0 {
                        f(&Targets::existing(vm, HartMask::new(base, mask)));
                    }
                }
            }
            Read::Not(outcome) => return Ok(outcome),
        },
    }
    Ok(Outcome::Done(Ok(0)))
}

/// What came of reading a bit-vector.
enum Read {
    /// Its words; those beyond the VM's harts are 0.
    Words([u64; MAX_WORDS]),
    /// It could not be read, now or ever.
    Not(Outcome),
}

/// Reads the bit-vector at guest virtual address `gva`, all of it before anything is done: one
/// word for each 64 harts of the VM.
fn read_vector(vcpu: &mut Loaded<'_>, gva: usize) -> Result<Read> {
    let count = vcpu.vcpu.vm().online_vcpus().div_ceil(WORD);
    let mut words = [0; MAX_WORDS];
    for (i, word) in words.iter_mut().take(count).enumerate() {
        match vcpu.read_word(gva.wrapping_add(i * size_of::<usize>())) {
            Ok(value) => *word = value as u64,
            Err(mut trap) => {
                // The access was the call's.
                trap.sepc = vcpu.owned.ctx.sepc;
                return Ok(Read::Not(fault(vcpu, trap)?));
            }
        }
    }
    Ok(Read::Words(words))
}
