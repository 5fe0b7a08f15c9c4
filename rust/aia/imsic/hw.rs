// SPDX-License-Identifier: GPL-2.0

//! An interrupt file in hardware, on the CPU that it belongs to. Answers to the `imsic_vsfile_*`
//! functions of `aia_imsic.c`.
//!
//! A message is a store to the file's page, from any CPU. Everything else is an access to registers
//! that only the file's own CPU reaches, so the caller may have to send an IPI to that CPU and
//! wait.

use crate::{
    aia::{
        hgei::{
            self,
            HgeiLine, //
        },
        host_imsic,
        imsic::file::{
            File,
            Identity,
            Register, //
        }, //
    },
    arch::aia::{
        FileRegisters,
        GuestFile, //
    },
    kernel_ext::context::PreemptOff,
    kvm_core::{
        addr::Hpa,
        object::Vcpu, //
    }, //
};

/// Returns the number that selects `register` (AIA, "Incoming MSI Controller"); [`None`] for what
/// is reserved.
fn select(register: Register) -> Option<usize> {
    match register {
        Register::Delivery => Some(0x70),
        Register::Threshold => Some(0x72),
        Register::Reserved => None,
        Register::Pending(word) => Some(0x80 + 2 * usize::from(word)),
        Register::Enabled(word) => Some(0xc0 + 2 * usize::from(word)),
    }
}

/// Returns how many words of identities files in hardware have.
fn words_in_hardware() -> usize {
    hgei::host().map_or(0, |host| host.max_ids.div_ceil(u64::BITS) as usize)
}

/// The location of a file in hardware. C: `vsfile_cpu`, `vsfile_hgei`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct VsFileLocation {
    /// The CPU that it belongs to.
    pub(super) cpu: usize,
    /// Its number on that CPU.
    pub(super) file: GuestFile,
}

/// A file that belongs to the owner of this value.
pub(super) struct VsFile(HgeiLine);

impl VsFile {
    /// Takes a file of this CPU, which is clear then and delivers nothing, if one is free.
    pub(super) fn claim(vcpu: &Vcpu, here: &PreemptOff) -> Option<Self> {
        let claim = HgeiLine::new(here.cpu(), vcpu)?;
        claim.file().ignore();
        clear(&FileRegisters::of(claim.file(), here));
        Some(Self(claim))
    }

    /// Returns where it is.
    pub(super) fn location(&self) -> VsFileLocation {
        VsFileLocation {
            cpu: self.0.cpu(),
            file: self.0.file(),
        }
    }

    /// Returns the page to be mapped, to which guests and devices send messages.
    pub(super) fn address(&self) -> Hpa {
        self.0.page().address()
    }

    /// Makes `identity` pending. Any context.
    pub(super) fn set(&self, identity: Identity) {
        self.0.page().set(identity.number());
    }
}

/// The caller of these ensures that the file is the vCPU's, and is not moved or freed meanwhile.
impl VsFileLocation {
    /// Moves the file's state to `file`, a file in software that is the caller's. Waits for the CPU
    /// that the file belongs to.
    pub(super) fn drain_into(self, file: &File) {
        self.with_registers(|registers| drain(registers, file));
    }

    /// Moves its state as [`drain_into`](Self::drain_into) does, on the file's own CPU, with
    /// interrupts on or off.
    pub(super) fn drain_here(self, file: &File, here: &PreemptOff) {
        drain(&FileRegisters::of(self.file, here), file);
    }

    /// Adds the state of `file`, a file in software that is the caller's, and clears that. Waits
    /// for the CPU that the file belongs to.
    pub(super) fn fill_from(self, file: &File) {
        self.with_registers(|registers| fill(registers, file));
    }

    /// Restores its state as [`fill_from`](Self::fill_from) does, on the file's own CPU, with
    /// interrupts on or off.
    pub(super) fn fill_here(self, file: &File, here: &PreemptOff) {
        fill(&FileRegisters::of(self.file, here), file);
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

    /// Runs `work` on the file's CPU, with its registers, and waits for it.
    fn with_registers(self, mut work: impl FnMut(&FileRegisters<'_>) + Send) {
        // A CPU gives its files back before it goes offline, so this does not fail.
        let _ = host_imsic::on_cpu(self.cpu, |here| work(&FileRegisters::of(self.file, here)));
    }
}

/// Moves the state in the registers to `file`.
fn drain(registers: &FileRegisters<'_>, file: &File) {
    file.absorb(words_in_hardware(), |register| {
        select(register).map_or(0, |select| registers.swap(select, 0))
    });
}

/// Adds the state of `file` to the registers, where identities may have arrived meanwhile.
fn fill(registers: &FileRegisters<'_>, file: &File) {
    file.drain(|register, value| match (register, select(register)) {
        (Register::Pending(_) | Register::Enabled(_), Some(select)) => {
            registers.set(select, value);
        }
        (_, Some(select)) => registers.write(select, value),
        (_, None) => {}
    });
}

/// Clears a file, `eidelivery` first.
fn clear(registers: &FileRegisters<'_>) {
    let arrays = Register::arrays(words_in_hardware());
    [Register::Delivery, Register::Threshold]
        .into_iter()
        .chain(arrays)
        .filter_map(select)
        .for_each(|select| registers.write(select, 0));
}
