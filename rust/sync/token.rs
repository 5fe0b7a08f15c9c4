// SPDX-License-Identifier: GPL-2.0

//! The states of a vCPU as tokens: who holds one may do what its type offers.
//!
//! [`OwnedVcpu`] (mutex held, registers in memory) gives [`Loaded`] (registers in the CPU), gives
//! [`Pinned`] (preemption off), gives [`EntryToken`](crate::vcpu::run::EntryToken) (interrupts
//! off), which enters the guest. Loading and putting happen behind the owner's back whenever the
//! scheduler switches the thread, so a `&mut` of [`Resident`] exists only where it cannot.

use crate::{
    abi::{
        core as kvm,
        object::Vcpu, //
    },
    arch::{
        hlv,
        resident::Resident,
        switch::Trap,
        vector::VectorRegs, //
    },
    bindings,
    mem::tlb,
    sync::{
        atomic::{
            fence,
            Ordering, //
        },
        IrqOff,
        PreemptOff, //
    },
    vcpu::Owned, //
};

/// A vCPU whose `vcpu->mutex` this thread holds, and whose registers are in memory.
///
/// Core KVM takes the mutex before every vCPU ioctl, so the doors create this; nothing else can.
///
/// # Invariants
///
/// As above; made here alone, like the other tokens.
pub(crate) struct OwnedVcpu<'a> {
    /// The vCPU.
    pub(crate) vcpu: &'a Vcpu,
    /// What the mutex protects.
    pub(crate) owned: &'a mut Owned,
    _private: (),
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
        let owned = unsafe { vcpu.owned_mut() };
        // INVARIANT: as the caller promises.
        Self {
            vcpu,
            owned,
            _private: (),
        }
    }

    /// The state that loading moves into registers.
    pub(crate) fn resident(&mut self) -> &mut Resident {
        // SAFETY: the vCPU is not loaded, so the scheduler does not touch it, and the mutex keeps
        // other threads out; the result borrows `self`.
        unsafe { self.vcpu.resident_mut() }
    }

    /// The vector registers.
    pub(crate) fn vector(&mut self) -> &mut VectorRegs {
        // SAFETY: the vCPU is not loaded, the mutex keeps other threads out, and the result borrows
        // `self`.
        unsafe { self.vcpu.vector().regs_mut() }
    }

    /// Both parts at once.
    pub(crate) fn split(&mut self) -> (&mut Owned, &mut Resident) {
        // SAFETY: as in `resident`; the two parts are disjoint.
        let resident = unsafe { self.vcpu.resident_mut() };
        (self.owned, resident)
    }

    /// Runs `f` with the guest's registers in the CPU, and saves them afterwards.
    pub(crate) fn loaded<R>(&mut self, f: impl FnOnce(&mut Loaded<'_>) -> R) -> R {
        // SAFETY: the vCPU is live and its mutex is held, as core KVM wants.
        unsafe { bindings::vcpu_load(self.vcpu.as_ptr()) };
        // INVARIANT: the mutex stays held, and the vCPU was just loaded.
        let result = f(&mut Loaded {
            vcpu: self.vcpu,
            owned: self.owned,
            _private: (),
        });
        // SAFETY: paired with the load.
        unsafe { bindings::vcpu_put(self.vcpu.as_ptr()) };
        result
    }
}

/// A vCPU whose registers are in this CPU; preemptible, so the scheduler may move it.
///
/// # Invariants
///
/// This thread holds the mutex, and has loaded the vCPU.
pub(crate) struct Loaded<'l> {
    /// The vCPU.
    pub(crate) vcpu: &'l Vcpu,
    /// What the mutex protects.
    pub(crate) owned: &'l mut Owned,
    _private: (),
}

impl<'l> Loaded<'l> {
    /// # Safety
    ///
    /// `vcpu` went through [`Vcpu::create`]; the caller holds `vcpu->mutex` for `'l`, and the vCPU
    /// is loaded.
    pub(crate) unsafe fn from_raw(vcpu: *mut bindings::kvm_vcpu) -> Self {
        // SAFETY: as the caller promises.
        let vcpu = unsafe { Vcpu::from_raw(vcpu) };
        // SAFETY: the mutex makes this the only reference.
        let owned = unsafe { vcpu.owned_mut() };
        // INVARIANT: as the caller promises.
        Self {
            vcpu,
            owned,
            _private: (),
        }
    }
}

impl Loaded<'_> {
    /// Runs `f` with preemption off: on one CPU, with the scheduler kept away.
    pub(crate) fn pinned<R>(&mut self, f: impl FnOnce(&mut Pinned<'_>) -> R) -> R {
        let preempt = PreemptOff::new();
        // SAFETY: the vCPU is loaded and preemption is off, so neither load nor put runs while
        // the reference lives.
        let resident = unsafe { self.vcpu.resident_mut() };
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
        // INVARIANT: the mutex stays held, and the vCPU was just put.
        let result = f(&mut OwnedVcpu {
            vcpu: self.vcpu,
            owned: self.owned,
            _private: (),
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
    ///
    /// Whoever takes a page away waits meanwhile for the IPI that the mode has it send, or is seen
    /// to have asked for a flush, which then comes first.
    fn with_translation<R>(&mut self, f: impl FnOnce(usize) -> R) -> R {
        self.pinned(|vcpu| {
            let _irqs = IrqOff::new();
            kvm::set_mode(vcpu.vcpu, bindings::READING_SHADOW_PAGE_TABLES);
            fence(Ordering::SeqCst);
            tlb::serve_pending(vcpu);
            vcpu.settle();
            let result = f(vcpu.owned.ctx.hstatus());
            // The reads come before the mode that lets others go on.
            fence(Ordering::SeqCst);
            kvm::set_mode(vcpu.vcpu, bindings::OUTSIDE_GUEST_MODE);
            result
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

impl<'p> Pinned<'p> {
    /// The CPU that the vCPU is on.
    pub(crate) fn cpu(&self) -> usize {
        self.preempt.cpu()
    }

    /// What keeps the vCPU there.
    pub(crate) fn preempt(&self) -> &'p PreemptOff {
        self.preempt
    }
}
