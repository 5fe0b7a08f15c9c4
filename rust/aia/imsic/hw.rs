// SPDX-License-Identifier: GPL-2.0

//! An interrupt file in hardware, on the CPU that it belongs to. Answers to the `imsic_vsfile_*`
//! functions of `aia_imsic.c`.
//!
//! A message is a store to the file's page, from any CPU. Everything else is an access to registers
//! that only the file's own CPU reaches, so it may take an IPI and the wait for it.

use super::file::{
    Identity,
    Register,
    State, //
};
use crate::{
    abi::imsic,
    aia::hgei::{
        self,
        Claim, //
    },
    arch::aia::{
        FileRegisters,
        GuestFile, //
    },
    mem::addr::Hpa,
    sync::PreemptOff,
    vcpu::Vcpu, //
};

/// Numbers of the registers (AIA, "Incoming MSI Controller").
const DELIVERY: usize = 0x70;
const THRESHOLD: usize = 0x72;

const fn pending(word: usize) -> usize {
    0x80 + 2 * word
}

const fn enabled(word: usize) -> usize {
    0xc0 + 2 * word
}

/// The number that selects `register`; there is none for what is reserved.
fn select(register: Register) -> Option<usize> {
    match register {
        Register::Delivery => Some(DELIVERY),
        Register::Threshold => Some(THRESHOLD),
        Register::Reserved => None,
        Register::Pending(word) => Some(pending(word.into())),
        Register::Enabled(word) => Some(enabled(word.into())),
    }
}

/// How many words of identities files in hardware have.
fn words_in_hardware() -> usize {
    hgei::host().map_or(0, |host| host.max_ids.div_ceil(u64::BITS) as usize)
}

/// Where a file in hardware is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Location {
    /// The CPU that it belongs to.
    pub(super) cpu: usize,
    /// Its number on that CPU.
    pub(super) file: GuestFile,
}

/// A file, owned.
pub(super) struct VsFile(Claim);

impl VsFile {
    /// A file of this CPU, clear and silent, if one is free.
    pub(super) fn claim(vcpu: &Vcpu, here: &PreemptOff) -> Option<Self> {
        let claim = Claim::new(here.cpu(), vcpu)?;
        claim.file().ignore();
        take(&FileRegisters::of(claim.file(), here));
        Some(Self(claim))
    }

    /// Where it is.
    pub(super) fn location(&self) -> Location {
        Location {
            cpu: self.0.cpu(),
            file: self.0.file(),
        }
    }

    /// The page to be mapped for those who send messages.
    pub(super) fn address(&self) -> Hpa {
        self.0.page().address()
    }

    /// Makes `identity` pending. Any context.
    pub(super) fn set(&self, identity: Identity) {
        self.0.page().set(identity.number());
    }
}

/// Whoever calls these sees to it that the file stays where it is, and is the vCPU's.
impl Location {
    /// Takes all that the file knows; it is clear and silent afterwards. Waits for its CPU.
    pub(super) fn drain(self) -> State {
        let mut state = State::CLEAR;
        self.with_registers(|registers| state = take(registers));
        state
    }

    /// Adds what another file knew. On the file's own CPU.
    pub(super) fn absorb(self, state: &State, here: &PreemptOff) {
        let registers = FileRegisters::of(self.file, here);
        let words = state.pending.iter().zip(&state.enabled);
        for (index, (&pending_bits, &enabled_bits)) in words.take(words_in_hardware()).enumerate() {
            if pending_bits != 0 {
                registers.set(pending(index), pending_bits);
            }
            if enabled_bits != 0 {
                registers.set(enabled(index), enabled_bits);
            }
        }
        registers.write(THRESHOLD, state.threshold);
        registers.write(DELIVERY, state.delivery);
    }

    /// Reads `register`. Waits for its CPU.
    pub(super) fn read(self, register: Register) -> u64 {
        let mut value = 0;
        if let Some(select) = select(register) {
            self.with_registers(|registers| value = registers.read(select));
        }
        value
    }

    /// Writes `register`. Waits for its CPU.
    pub(super) fn write(self, register: Register, value: u64) {
        if let Some(select) = select(register) {
            self.with_registers(|registers| registers.write(select, value));
        }
    }

    fn with_registers(self, mut work: impl FnMut(&FileRegisters<'_>) + Send) {
        // A CPU does not go before its files are given back, so this does not fail.
        let _ = imsic::on_cpu(self.cpu, |here| work(&FileRegisters::of(self.file, here)));
    }
}

/// Empties a file, in the order that the specification recommends for a move.
fn take(registers: &FileRegisters<'_>) -> State {
    let mut state = State::CLEAR;
    state.delivery = registers.swap(DELIVERY, 0);
    state.threshold = registers.swap(THRESHOLD, 0);
    let words = state.pending.iter_mut().zip(&mut state.enabled);
    for (index, (pending_bits, enabled_bits)) in words.take(words_in_hardware()).enumerate() {
        *pending_bits = registers.swap(pending(index), 0);
        *enabled_bits = registers.swap(enabled(index), 0);
    }
    state
}
