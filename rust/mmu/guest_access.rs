// SPDX-License-Identifier: GPL-2.0

//! Reads of guest memory as the guest itself would make them, and handling of those that find no
//! page. Answers to `kvm_riscv_vcpu_unpriv_read()`.

use kernel::prelude::*;

use crate::{
    arch::{
        hlv,
        switch::Trap, //
    },
    bindings,
    insn::{
        Htinst,
        PteAccess, //
    },
    kernel_ext::{
        atomic::{
            fence, //
            Ordering,
        },
        context::IrqOff, //
    },
    kvm_core::{
        addr::Gpa,
        calls::{
            Inside,
            VcpuMode, //
        },
        srcu::SlotsRead, //
    },
    mmu::{
        fault::{
            Access,
            Outcome, //
        },
        tlb, //
    },
    vcpu::{
        token::Loaded, //
        ExitAction,
    }, //
};

/// Returns the guest physical address that `trap`, a guest-page fault of `access`, is about, and
/// the access to it.
#[inline(always)]
pub(crate) fn lacking(trap: &Trap, access: Access) -> (Gpa, Access) {
    let gpa = Gpa::new((trap.htval as u64) << 2 | trap.stval as u64 & 3);
    // The walk of the guest's own tables may have faulted as it set an accessed or dirty bit on
    // behalf of a load, which is a store.
    let wanted = match Htinst::decode(trap.htinst) {
        Htinst::Pseudo(PteAccess::Write) => Access::Store,
        Htinst::Pseudo(PteAccess::Read) => Access::Load,
        _ => access,
    };
    (gpa, wanted)
}

/// Returns whether the G-stage, not the guest's own translation, refused an access.
pub(crate) fn is_guest_page_fault(trap: &Trap) -> bool {
    matches!(
        u32::try_from(trap.scause),
        Ok(bindings::EXC_INST_GUEST_PAGE_FAULT
            | bindings::EXC_LOAD_GUEST_PAGE_FAULT
            | bindings::EXC_STORE_GUEST_PAGE_FAULT)
    )
}

impl Loaded<'_> {
    /// Reads the instruction at guest virtual address `gva` as the guest would fetch it.
    ///
    /// # Errors
    ///
    /// The trap that the fetch would have taken; a guest-page fault means that the page is not
    /// mapped yet.
    pub(crate) fn read_insn(&mut self, gva: usize) -> Result<u32, Trap> {
        self.with_translation(|hstatus| {
            // SAFETY: `with_translation` has disabled interrupts and loaded the guest's translation
            // on this CPU, and passes the guest's `hstatus`.
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
            // SAFETY: `with_translation` has disabled interrupts and loaded the guest's translation
            // on this CPU, and passes the guest's `hstatus`.
            unsafe { hlv::read_word(hstatus, gva) }
        })
    }

    /// Runs `f` with interrupts off and the guest's translation current, VMID included
    /// (differences-from-c M18).
    ///
    /// A CPU that takes a page away from the guest makes a request for a flush, then reads the
    /// mode. Either that CPU sees the mode, sends an IPI and waits until this CPU has taken it,
    /// after `f`; or this CPU sees the request, and flushes before `f`.
    fn with_translation<R>(&mut self, f: impl FnOnce(usize) -> R) -> R {
        self.pinned(|vcpu| {
            IrqOff::with(|irqs| {
                let mode = VcpuMode::enter(vcpu.held(), Inside::Tables, irqs);
                tlb::serve_pending(vcpu);
                vcpu.update_hgatp();
                let result = f(vcpu.ctx.hstatus());
                // The reads of `f` come before the store of the mode, after which the other CPU
                // does not wait.
                fence(Ordering::SeqCst);
                drop(mode);
                result
            })
        })
    }

    /// Brings in the page that a read of guest memory on behalf of the guest did not find in the
    /// G-stage: `trap` is the guest-page fault that the HLV or HLVX took, and `access` is what the
    /// guest attempted. After [`Outcome::Mapped`] the read can be made again.
    ///
    /// The guest cannot simply repeat its instruction: its own fetch may hit a translation that the
    /// hart has cached and HLVX need not use, so that the two would repeat for ever.
    ///
    /// # Errors
    ///
    /// `EINTR`, `ENOMEM` while providing guest memory.
    #[cold]
    #[inline(never)]
    pub(crate) fn provide(&mut self, trap: &Trap, access: Access) -> Result<Outcome> {
        let (gpa, wanted) = lacking(trap, access);
        let slots = SlotsRead::new(self.held());
        self.fault(&slots, gpa, wanted)
    }

    /// Handles `fault`, which the hypervisor's fetch of the guest's instruction took. If the
    /// G-stage lacked the page, provides it and has the guest repeat the instruction; otherwise the
    /// guest takes the trap.
    ///
    /// # Errors
    ///
    /// As [`provide`](Self::provide).
    #[cold]
    #[inline(never)]
    pub(crate) fn fetch_failed(&mut self, fault: &Trap) -> Result<ExitAction> {
        let sepc = self.ctx.pc();
        let trap = Trap { sepc, ..*fault };
        if !is_guest_page_fault(fault) {
            self.redirect(&trap);
            return Ok(ExitAction::Resume);
        }
        match self.provide(fault, Access::Fetch)? {
            Outcome::Mapped => Ok(ExitAction::Resume),
            Outcome::Refused => Ok(ExitAction::MemoryFault),
            Outcome::NoMemory => {
                self.access_fault(Access::Fetch, &trap);
                Ok(ExitAction::Resume)
            }
        }
    }

    /// Has the guest take an access fault: there is no memory or device at the address.
    pub(crate) fn access_fault(&mut self, access: Access, trap: &Trap) {
        let cause = match access {
            Access::Fetch => bindings::EXC_INST_ACCESS,
            Access::Load => bindings::EXC_LOAD_ACCESS,
            Access::Store => bindings::EXC_STORE_ACCESS,
        };
        self.redirect(&Trap {
            sepc: trap.sepc,
            scause: cause as usize,
            stval: trap.stval,
            ..Trap::default()
        });
    }
}
