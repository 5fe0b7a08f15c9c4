// SPDX-License-Identifier: GPL-2.0

//! Registers of the Advanced Interrupt Architecture: the guest interrupt files of this CPU, their
//! lines to the host (`hgeip`, `hgeie`), and the priorities of a guest's interrupts. Answers to the
//! CSR accesses of `aia.c` and `aia_imsic.c`.
//!
//! RISC-V AIA, "Interrupts for Virtual Machines (VS Level)". Used on hosts with AIA only.

use crate::{
    arch::csr::{
        self,
        Direct,
        Registers, //
    },
    bindings,
    kernel_ext::{
        atomic::{
            AtomicBool,
            Ordering, //
        },
        context::PreemptOff, //
    }, //
};

/// Whether the host's AIA is there and in use.
static AVAILABLE: AtomicBool = AtomicBool::new(false);

/// Returns whether the host has an AIA that guests can use. Answers to
/// `kvm_riscv_aia_available()`.
pub(crate) fn is_available() -> bool {
    // Relaxed: the value changes at module init and exit only, while there is no VM.
    AVAILABLE.load(Ordering::Relaxed)
}

/// Sets whether guests can use the host's AIA. Called at module init and exit only.
pub(crate) fn set_available(available: bool) {
    AVAILABLE.store(available, Ordering::Relaxed);
}

/// The number of a guest interrupt file of a CPU, and of its line: 1 to 63.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GuestFile(u8);

impl GuestFile {
    /// Returns the name of file `number`, or [`None`] if no hart can have such a file.
    pub(crate) const fn new(number: u32) -> Option<Self> {
        if number > 0 && number < u64::BITS {
            Some(Self(number as u8))
        } else {
            None
        }
    }

    /// Returns the file's number, from 1 to 63 (`hstatus.VGEIN`).
    pub(crate) const fn number(self) -> u32 {
        self.0 as u32
    }

    /// Returns the file's bit in `hgeie` and `hgeip`.
    pub(crate) const fn bit(self) -> usize {
        1 << self.0
    }

    /// Returns `hstatus` with `VGEIN` naming this file, or no file.
    pub(crate) const fn in_hstatus(file: Option<Self>, hstatus: usize) -> usize {
        let number = match file {
            Some(file) => file.0 as usize,
            None => 0,
        };
        hstatus & !bindings::HSTATUS_VGEIN | number << bindings::HSTATUS_VGEIN_SHIFT
    }

    /// Returns whether the file signals an interrupt (`hgeip`). The caller runs on the file's CPU.
    #[inline]
    pub(crate) fn signals(self) -> bool {
        Direct.read(csr::HGEIP) & self.bit() != 0
    }

    /// Sets the file's bit in `hgeie`, so that this CPU takes an interrupt when the file signals,
    /// at once if it does already.
    #[inline]
    pub(crate) fn enable_hgeie(self) {
        // SAFETY: This may raise the guest external interrupt. `hgei` has requested that interrupt,
        // and its handler ends the watch.
        unsafe { csr::HGEIE.set(self.bit()) };
        renew();
    }

    /// Clears the file's bit in `hgeie`, so that this CPU takes no interrupt for it any more.
    #[inline]
    pub(crate) fn ignore(self) {
        // SAFETY: This only takes away a reason for an interrupt.
        unsafe { csr::HGEIE.clear(self.bit()) };
        renew();
    }
}

/// Writes `hgeie` once more if a watched file signals.
///
/// QEMU computes whether there is an interrupt before it excludes the CPU that makes a file signal,
/// and may drop an interrupt that this CPU raised in between.
fn renew() {
    let due = Direct.read(csr::HGEIP) & csr::HGEIE.read();
    if due != 0 {
        // SAFETY: The host watches these files already, so this adds no reason for an interrupt.
        unsafe { csr::HGEIE.set(due) };
    }
}

/// Ends the watch on all files of this CPU that signal; returns their bits.
pub(crate) fn take_signals() -> usize {
    let due = Direct.read(csr::HGEIP) & csr::HGEIE.read();
    // SAFETY: This only takes away reasons for an interrupt.
    unsafe { csr::HGEIE.clear(due) };
    renew();
    due
}

/// Returns `hgeie`: the files whose interrupts this CPU takes.
pub(crate) fn watched() -> usize {
    csr::HGEIE.read()
}

/// Watches the files in `bits` on this CPU, and no others.
pub(crate) fn watch_only(bits: usize) {
    // SAFETY: This may raise the guest external interrupt. `hgei` has requested that interrupt, so
    // it has a handler.
    unsafe { csr::HGEIE.write(bits) };
}

/// Returns how many guest interrupt files this CPU has (GEILEN). Leaves `hgeie` zero.
pub(crate) fn count_lines() -> u32 {
    watch_only(usize::MAX);
    let implemented = csr::HGEIE.read();
    watch_only(0);
    // Bit 0 of `hgeie` is read-only zero.
    (usize::BITS - implemented.leading_zeros()).saturating_sub(1)
}

/// Whether signals of watched files interrupt this CPU.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signals {
    /// They interrupt the CPU.
    On,
    /// They do not interrupt the CPU.
    Off,
}

/// Switches `signals` of this CPU.
pub(crate) fn set_signals(signals: Signals) {
    const GUEST_EXTERNAL: usize = 1 << bindings::IRQ_S_GEXT;

    match signals {
        // SAFETY: `hgei` has requested the guest external interrupt, so it has a handler.
        Signals::On => unsafe { csr::HIE.set(GUEST_EXTERNAL) },
        // SAFETY: This only takes away reasons for an interrupt.
        Signals::Off => unsafe { csr::HIE.clear(GUEST_EXTERNAL) },
    }
}

/// Makes counter overflow interrupts of guests injectable on this CPU (`hvien`), or not.
pub(crate) fn filter_overflows(signals: Signals) {
    const OVERFLOW: usize = 1 << bindings::IRQ_PMU_OVF;

    match signals {
        Signals::On => Direct.set(csr::HVIEN, OVERFLOW),
        Signals::Off => Direct.clear(csr::HVIEN, OVERFLOW),
    }
}

/// Sets the priorities of all guest interrupts on this CPU (`hviprio1`, `hviprio2`) to their
/// default.
pub(crate) fn clear_priorities() {
    Direct.write(csr::HVIPRIO1, 0);
    Direct.write(csr::HVIPRIO2, 0);
}

/// `hvictl`: the priority of an external interrupt that `hvip` makes pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct External(usize);

impl External {
    /// The number of the interrupt, 9; with priority 0 it is not pending.
    const IID: usize = (bindings::IRQ_S_EXT as usize) << bindings::HVICTL_IID_SHIFT;
    /// `stopi` shows priorities, also those of major interrupts, and not 1 for any interrupt.
    const SHOWN: usize = bindings::HVICTL_IPRIOM;

    /// An external interrupt is pending, from a controller without priorities: it comes first.
    pub(crate) const PLAIN: Self = Self(Self::IID | Self::SHOWN | 1);
    /// No external interrupt is pending, or the guest's own file in hardware shows it.
    pub(crate) const QUIET: Self = Self(Self::IID | Self::SHOWN);

    /// Returns a value that shows a pending interrupt of the priority in `*topei`; a priority above
    /// 255 becomes 255.
    pub(crate) const fn with_priority(priority: u32) -> Self {
        let priority = if priority < 0xff {
            priority as usize
        } else {
            0xff
        };
        Self(Self::IID | Self::SHOWN | priority)
    }

    /// Writes `hvictl` of the CPU that `regs` belong to.
    #[inline]
    pub(crate) fn load(self, regs: &impl Registers) {
        regs.write(csr::HVICTL, self.0);
    }
}

/// Access to the registers of one guest interrupt file of this CPU, while it lives; dropping this
/// restores what the loaded guest had selected. An interrupt handler may do the same meanwhile.
pub(crate) struct FileRegisters<'a> {
    /// The value of `hstatus` to be restored.
    hstatus: usize,
    /// The value of `vsiselect` to be restored.
    vsiselect: usize,
    _here: &'a PreemptOff,
}

impl<'a> FileRegisters<'a> {
    /// Selects `file`.
    pub(crate) fn of(file: GuestFile, here: &'a PreemptOff) -> Self {
        let hstatus = csr::HSTATUS.read();
        let vsiselect = Direct.read(csr::VSISELECT);
        // SAFETY: Only VGEIN changes, which selects the guest interrupt file that guest registers
        // access and does not act on the host itself. `drop` writes the old value back.
        unsafe { csr::HSTATUS.write(GuestFile::in_hstatus(Some(file), hstatus)) };
        Self {
            hstatus,
            vsiselect,
            _here: here,
        }
    }

    /// Reads the register that `select` selects.
    pub(crate) fn read(&self, select: usize) -> u64 {
        Direct.write(csr::VSISELECT, select);
        Direct.read(csr::VSIREG) as u64
    }

    /// Writes it.
    pub(crate) fn write(&self, select: usize, value: u64) {
        Direct.write(csr::VSISELECT, select);
        Direct.write(csr::VSIREG, value as usize);
    }

    /// Writes it and returns what it held, in one step.
    pub(crate) fn swap(&self, select: usize, value: u64) -> u64 {
        Direct.write(csr::VSISELECT, select);
        Direct.swap(csr::VSIREG, value as usize) as u64
    }

    /// Sets those of its bits that are ones in `bits`.
    pub(crate) fn set(&self, select: usize, bits: u64) {
        Direct.write(csr::VSISELECT, select);
        Direct.set(csr::VSIREG, bits as usize);
    }
}

impl Drop for FileRegisters<'_> {
    fn drop(&mut self) {
        Direct.write(csr::VSISELECT, self.vsiselect);
        // SAFETY: This writes back the value that `of` read.
        unsafe { csr::HSTATUS.write(self.hstatus) };
    }
}
