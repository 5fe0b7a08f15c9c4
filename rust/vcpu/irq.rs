// SPDX-License-Identifier: GPL-2.0

//! Interrupts of a vCPU: which are pending, and which the guest has enabled. Answers to the
//! interrupt parts of `vcpu.c`.
//!
//! [`Irqs`] is shared state without a lock; any context, hard interrupts included, may make an
//! interrupt pending. `hvip` follows it at the next guest entry. [`irq_bits`] says how that stays
//! consistent with what the guest does to `hvip` meanwhile.

use kernel::prelude::*;

use crate::{
    arch::{
        irq_bits,
        supervisor, //
    },
    bindings,
    kernel_ext::atomic::{
        AtomicBool,
        AtomicU64,
        Ordering, //
    },
    kvm_core::object::Vcpu,
    vcpu::{
        token::OwnedVcpu,
        trace, //
    }, //
};

pub(crate) use crate::arch::irq_bits::{
    Interrupt,
    Update, //
};

/// The interrupts of one vCPU.
pub(crate) struct Irqs {
    /// The pending interrupts, and which of them `hvip` may not show yet.
    word: irq_bits::Word,
    /// The guest's `sie`, in the positions of `hvip`, as of the last put or block.
    enabled: AtomicU64,
    /// An interrupt file of the kernel's drives the line of external interrupts.
    has_file: AtomicBool,
}

impl Irqs {
    /// Returns the interrupts of a hart that has nothing pending and nothing enabled.
    pub(crate) fn new() -> Self {
        Self {
            word: irq_bits::Word::new(),
            enabled: AtomicU64::new(0),
            has_file: AtomicBool::new(false),
        }
    }

    /// Takes what was made or unmade pending since the last call, if anything.
    ///
    /// Called on the way into the guest, with interrupts off, after `vcpu->mode` was set and a full
    /// fence: a CPU that changes something afterwards sees the mode and sends an IPI.
    #[inline(always)]
    pub(crate) fn take_changes(&self) -> Option<Update> {
        self.word.take_changes()
    }

    /// Takes over which pending interrupts the guest has changed itself. `hvip` was read on the CPU
    /// that the vCPU is loaded on.
    #[inline]
    pub(crate) fn sync(&self, hvip: usize) {
        self.word.sync(hvip);
    }

    /// Notes which interrupts the guest has enabled: `sie`, in the guest's own positions.
    #[inline]
    pub(crate) fn set_enabled(&self, sie: usize) {
        self.enabled
            .store(irq_bits::from_guest(sie).into(), Ordering::Relaxed);
    }

    /// Says that an interrupt file drives the line of external interrupts from now on.
    pub(crate) fn connect_file(&self) {
        self.has_file.store(true, Ordering::Relaxed);
    }

    /// Restores what is pending. The external interrupt stays as it is if an interrupt file drives
    /// it.
    fn restore(&self, pending: u32) {
        if self.has_file.load(Ordering::Relaxed) {
            self.word.replace_but(Interrupt::External, pending);
        } else {
            self.word.replace(pending);
        }
    }

    /// Returns whether the guest had `interrupt` enabled when it was last put or blocked.
    pub(crate) fn is_enabled(&self, interrupt: Interrupt) -> bool {
        self.enabled.load(Ordering::Relaxed) & 1 << interrupt.number() != 0
    }

    /// Returns whether an interrupt is pending and enabled, hence ends a WFI.
    pub(crate) fn deliverable(&self) -> bool {
        u64::from(self.word.pending()) & self.enabled.load(Ordering::Relaxed) != 0
    }

    /// Makes `interrupt` pending. Called in the vCPU's own thread, so no kick is needed: the next
    /// entry takes it along.
    pub(crate) fn set(&self, interrupt: Interrupt) {
        self.word.set(interrupt);
    }

    /// Takes `interrupt` back. What other CPUs did before they set it is visible afterwards.
    pub(crate) fn withdraw(&self, interrupt: Interrupt) {
        self.word.withdraw(interrupt);
    }

    /// Resets the interrupts with the hart: nothing pending but what `wires` say, nothing enabled.
    pub(crate) fn reset(&self, wires: Wires) {
        match wires {
            Wires::Stay => self.word.replace_but(Interrupt::External, 0),
            Wires::Low => self.word.replace(0),
        }
        self.enabled.store(0, Ordering::Relaxed);
    }
}

/// What becomes of the line of external interrupts when the hart is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wires {
    /// It stays as userspace's interrupt controller drives it (`KVM_INTERRUPT`).
    Stay,
    /// It is low: what drives it was reset, too.
    Low,
}

impl Vcpu {
    /// Makes `interrupt` pending and has the vCPU notice.
    pub(crate) fn inject(&self, interrupt: Interrupt) {
        self.shared().irqs.word.set(interrupt);
        trace::trace_irq(self, interrupt, Line::High);
        self.kick();
    }

    /// Takes `interrupt` back; returns whether it was pending. The vCPU notices when it next enters
    /// the guest. What other CPUs did before they set it is visible afterwards; a change by the
    /// guest since the last [`Irqs::sync`] is not taken into account.
    pub(crate) fn withdraw(&self, interrupt: Interrupt) -> bool {
        let was_pending = self.shared().irqs.word.withdraw(interrupt);
        trace::trace_irq(self, interrupt, Line::Low);
        was_pending
    }

    /// Moves the external interrupt line, as userspace's interrupt controller asks.
    pub(crate) fn set_external(&self, line: Line) {
        match line {
            Line::High => self.inject(Interrupt::External),
            Line::Low => {
                self.withdraw(Interrupt::External);
            }
        }
    }
}

impl OwnedVcpu<'_> {
    /// Returns the guest's `sip`. The vCPU is not loaded, so that what the guest did is known.
    pub(crate) fn sip(&self) -> usize {
        irq_bits::to_guest(self.vcpu().shared().irqs.word.pending())
    }

    /// Restores the guest's `sip`: what is pending from now on, and nothing else
    /// (differences-from-c M12).
    ///
    /// A timer interrupt is not among it where the timer's deadline alone decides; where not, one
    /// whose deadline has come stays pending. An external interrupt is pending if the vCPU's
    /// interrupt file says so, if there is one.
    pub(crate) fn set_sip(&mut self, sip: usize) {
        let shared = self.vcpu().shared();
        let pending = irq_bits::from_guest(sip & supervisor::interrupts(self.isa.effective()));
        let pending = if shared.timer.is_in_hardware() {
            pending & !(1 << Interrupt::Timer.number())
        } else {
            pending
        };
        shared.irqs.restore(pending);
        shared.timer.restore_pending(self.vcpu());
    }
}

/// The level of an interrupt line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// It is not asserted.
    Low,
    /// It is asserted.
    High,
}

/// The argument of `KVM_INTERRUPT` (differences-from-c M26).
impl TryFrom<u32> for Line {
    type Error = Error;

    fn try_from(irq: u32) -> Result<Self> {
        // The constant is unsigned in C, but bindgen makes a negative number of it.
        const SET: u32 = bindings::KVM_INTERRUPT_SET as u32;
        const UNSET: u32 = bindings::KVM_INTERRUPT_UNSET as u32;

        match irq {
            SET => Ok(Self::High),
            UNSET => Ok(Self::Low),
            _ => Err(EINVAL),
        }
    }
}
