// SPDX-License-Identifier: GPL-2.0

//! Why the guest came back, and what is done about it. Answers to `vcpu_exit.c` and to the
//! virtual-instruction half of `vcpu_insn.c`.
//!
//! A cause is decoded once, into [`Cause`]; what the guest did wrong becomes a trap of the guest,
//! never an error of `KVM_RUN` (c-review M22).

use kernel::prelude::*;

use crate::{
    arch::{
        csr::{
            self,
            Registers, //
        },
        nacl::with_registers,
        registers::GuestMode,
        switch::Trap, //
    },
    bindings,
    insn::{
        CounterEnable,
        Htinst,
        Illegal,
        Insn,
        InsnLen,
        PteAccess,
        SystemInsn, //
    },
    kvm_core::{
        addr::Gpa,
        calls as kvm,
        srcu::SlotsRead, //
    },
    mmu::fault::{
        Access,
        Outcome, //
    },
    run::mmio,
    sbi,
    vcpu::{
        pmu::FirmwareEvent,
        stat::Counter,
        token::Loaded,
        trace, //
        Next,
    }, //
};

/// `scause` of an exception, decoded (Privileged Architecture, "Supervisor Cause Register").
enum Cause {
    /// Exceptions that are the guest's own business but cannot be delegated, or were not.
    Reflect(Option<(Counter, FirmwareEvent)>),
    /// `ebreak` while userspace debugs the guest.
    Breakpoint,
    /// `ecall` from VS-mode.
    Ecall,
    /// The G-stage does not map, or not for this access.
    GuestPageFault(Access),
    /// An instruction that the hypervisor has to emulate, or refuse.
    VirtualInstruction,
    /// Nothing that a guest can cause.
    Unexpected,
}

impl Cause {
    #[inline(always)]
    fn decode(scause: usize) -> Self {
        match u32::try_from(scause) {
            Ok(bindings::EXC_INST_ILLEGAL) => Self::Reflect(Some((
                Counter::InstrIllegalExits,
                FirmwareEvent::IllegalInsn,
            ))),
            Ok(bindings::EXC_LOAD_MISALIGNED) => Self::Reflect(Some((
                Counter::LoadMisalignedExits,
                FirmwareEvent::MisalignedLoad,
            ))),
            Ok(bindings::EXC_STORE_MISALIGNED) => Self::Reflect(Some((
                Counter::StoreMisalignedExits,
                FirmwareEvent::MisalignedStore,
            ))),
            Ok(bindings::EXC_LOAD_ACCESS) => {
                Self::Reflect(Some((Counter::LoadAccessExits, FirmwareEvent::AccessLoad)))
            }
            Ok(bindings::EXC_STORE_ACCESS) => Self::Reflect(Some((
                Counter::StoreAccessExits,
                FirmwareEvent::AccessStore,
            ))),
            Ok(bindings::EXC_INST_ACCESS) => Self::Reflect(None),
            // Not delegated to a guest whose senvcfg turned it on for VU-mode alone.
            Ok(bindings::EXC_SOFTWARE_CHECK) => Self::Reflect(None),
            Ok(bindings::EXC_BREAKPOINT) => Self::Breakpoint,
            Ok(bindings::EXC_SUPERVISOR_SYSCALL) => Self::Ecall,
            Ok(bindings::EXC_INST_GUEST_PAGE_FAULT) => Self::GuestPageFault(Access::Fetch),
            Ok(bindings::EXC_LOAD_GUEST_PAGE_FAULT) => Self::GuestPageFault(Access::Load),
            Ok(bindings::EXC_STORE_GUEST_PAGE_FAULT) => Self::GuestPageFault(Access::Store),
            Ok(bindings::EXC_VIRTUAL_INST_FAULT) => Self::VirtualInstruction,
            _ => Self::Unexpected,
        }
    }
}

/// Deals with what brought the guest back.
///
/// # Errors
///
/// `EFAULT` for a trap that no guest can cause; `ENOMEM` while providing guest memory.
pub(crate) fn handle(vcpu: &mut Loaded<'_>, trap: &Trap) -> Result<Next> {
    if trap.is_interrupt() {
        return Ok(Next::Resume);
    }
    trace::trace_vcpu_exit(vcpu.vcpu, trap);
    let result = if !vcpu.owned.ctx.came_from_guest() {
        // The world switch itself trapped.
        Err(EFAULT)
    } else {
        // Here, so that the compiler makes one jump of decoding and handling.
        match Cause::decode(trap.scause) {
            Cause::Reflect(counted) => {
                if let Some((counter, event)) = counted {
                    vcpu.vcpu.count(counter);
                    vcpu.vcpu.note(event);
                }
                vcpu.redirect(trap);
                Ok(Next::Resume)
            }
            Cause::Breakpoint => {
                vcpu.run_page().exit_debug();
                Ok(Next::Userspace)
            }
            Cause::Ecall => sbi::handle(vcpu),
            Cause::GuestPageFault(access) => guest_page_fault(vcpu, trap, access),
            Cause::VirtualInstruction => virtual_instruction(vcpu, trap),
            Cause::Unexpected => Err(EFAULT),
        }
    };
    match result {
        // A signal came first. The guest would try again: before that, signals are looked at.
        Err(EINTR) => Ok(Next::Resume),
        Err(err) => {
            report(vcpu, trap, err);
            if !vcpu.owned.ctx.came_from_guest() {
                vcpu.owned.ctx.forget();
            }
            Err(err)
        }
        Ok(next) => Ok(next),
    }
}

/// Tells the log what the guest was doing when `KVM_RUN` failed. A guest can repeat that at will,
/// if its VMM lets it: hence the limit.
fn report(vcpu: &Loaded<'_>, trap: &Trap, err: Error) {
    let (sstatus, hstatus) = vcpu.owned.ctx.status();
    trace::log_exit_error(vcpu.vcpu, trap, sstatus, hstatus, err);
}

/// Returns the guest physical address that `trap`, a guest-page fault of `access`, is about, and the
/// access to it.
#[inline(always)]
fn lacking(trap: &Trap, access: Access) -> (Gpa, Access) {
    let gpa = Gpa::new((trap.htval as u64) << 2 | trap.stval as u64 & 3);
    // The walk of the guest's own tables may have been about to set an accessed or dirty bit, on
    // behalf of a load.
    let wanted = match Htinst::decode(trap.htinst) {
        Htinst::Pseudo(PteAccess::Write) => Access::Store,
        Htinst::Pseudo(PteAccess::Read) => Access::Load,
        _ => access,
    };
    (gpa, wanted)
}

/// The G-stage does not map the page.
fn guest_page_fault(vcpu: &mut Loaded<'_>, trap: &Trap, access: Access) -> Result<Next> {
    let (gpa, wanted) = lacking(trap, access);
    let slots = SlotsRead::new(vcpu.vcpu);
    match vcpu.fault(&slots, gpa, wanted)? {
        Outcome::Mapped => Ok(Next::Resume),
        Outcome::Refused => Ok(Next::MemoryFault),
        Outcome::NoMemory => match access {
            // A fetch cannot be emulated: a machine without memory there refuses it.
            Access::Fetch => {
                vcpu.access_fault(access, trap);
                Ok(Next::Resume)
            }
            Access::Load | Access::Store => mmio::access(vcpu, &slots, gpa, access, trap),
        },
    }
}

/// An instruction that raised a virtual-instruction exception.
// Not in the way of exits that need fewer registers.
#[inline(never)]
fn virtual_instruction(vcpu: &mut Loaded<'_>, trap: &Trap) -> Result<Next> {
    let insn = match Insn::from_stval(trap.stval) {
        Some(insn) => insn,
        None => match vcpu.read_insn(trap.sepc) {
            Ok(word) => Insn::fetched(word),
            Err(fault) => return vcpu.fetch_failed(&fault),
        },
    };
    let mode = vcpu.owned.ctx.mode();
    let isa = vcpu.owned.isa.effective();
    let counters = CounterEnable::from_raw(vcpu.pinned(|vcpu| vcpu.resident.scounteren()));
    let done = match SystemInsn::decode(insn, mode, isa, counters, &vcpu.owned.ctx.gprs) {
        Ok(SystemInsn::Wfi) => {
            vcpu.vcpu.count(Counter::WfiExits);
            wait_for_interrupt(vcpu);
            vcpu.skip(InsnLen::Four);
            Ok(Next::Resume)
        }
        Ok(SystemInsn::WrsNto) => {
            vcpu.vcpu.count(Counter::WrsExits);
            kvm::on_spin(vcpu.vcpu, mode == GuestMode::Supervisor);
            vcpu.skip(InsnLen::Four);
            Ok(Next::Resume)
        }
        Ok(SystemInsn::Csr(access)) => mmio::csr(vcpu, access),
        Err(Illegal) => Err(Illegal),
    };
    done.or_else(|Illegal| {
        vcpu.redirect(&Trap {
            sepc: trap.sepc,
            scause: bindings::EXC_INST_ILLEGAL as usize,
            stval: insn.stval(),
            ..Trap::default()
        });
        Ok(Next::Resume)
    })
}

/// Blocks until an interrupt that the guest has enabled is pending.
pub(crate) fn wait_for_interrupt(vcpu: &mut Loaded<'_>) {
    vcpu.pinned(|vcpu| vcpu.resident.snapshot(vcpu.vcpu));
    if !vcpu.vcpu.is_runnable() {
        kvm::halt(vcpu.vcpu);
    }
}

impl Loaded<'_> {
    /// Moves the guest past an instruction of length `len`.
    pub(crate) fn skip(&mut self, len: InsnLen) {
        self.owned.ctx.skip(len.bytes());
    }

    /// Has the guest take `trap` (Privileged Architecture, "Trap Entry", for a trap into VS-mode).
    #[inline(never)]
    pub(crate) fn redirect(&mut self, trap: &Trap) {
        with_registers!(regs => self.redirect_by(regs, trap));
    }

    fn redirect_by(&mut self, regs: &impl Registers, trap: &Trap) {
        let ctx = &mut self.owned.ctx;
        let mut status = regs.read(csr::VSSTATUS);

        // SPELP tells whether a landing pad is expected where the trap came from; at the vector none
        // is. Zero on harts without them.
        status &= !(bindings::SR_SPP | bindings::SR_SPIE | bindings::SR_SPELP);
        status |= ctx.take_trap_status();
        if status & bindings::SR_SIE != 0 {
            status |= bindings::SR_SPIE;
        }
        status &= !bindings::SR_SIE;

        regs.write(csr::VSSTATUS, status);
        regs.write(csr::VSCAUSE, trap.scause);
        regs.write(csr::VSTVAL, trap.stval);
        regs.write(csr::VSEPC, trap.sepc);
        // Exceptions go to the base, whatever the mode of the vector.
        ctx.set_pc(regs.read(csr::VSTVEC) & !3);
        ctx.set_mode(GuestMode::Supervisor);
    }

    /// Brings in the page that a read of guest memory on behalf of the guest did not find in the
    /// G-stage: `trap` is the guest-page fault that the HLV or HLVX took, and `access` is what the
    /// guest attempted. After [`Outcome::Mapped`] the read can be made again.
    ///
    /// To have the guest repeat its instruction would not do: its own fetch may hit a translation
    /// that the hart has cached, and HLVX need not use that, so the two could repeat for ever.
    ///
    /// # Errors
    ///
    /// `EINTR`, `ENOMEM` while providing guest memory.
    #[cold]
    #[inline(never)]
    pub(crate) fn provide(&mut self, trap: &Trap, access: Access) -> Result<Outcome> {
        let (gpa, wanted) = lacking(trap, access);
        let slots = SlotsRead::new(self.vcpu);
        self.fault(&slots, gpa, wanted)
    }

    /// Deals with `fault`, which the hypervisor's fetch of the guest's instruction took. If the
    /// G-stage lacked the page, provides it and has the guest repeat the instruction; otherwise the
    /// guest takes the trap.
    ///
    /// # Errors
    ///
    /// As [`provide`](Self::provide).
    #[cold]
    #[inline(never)]
    pub(crate) fn fetch_failed(&mut self, fault: &Trap) -> Result<Next> {
        let sepc = self.owned.ctx.pc();
        let trap = Trap { sepc, ..*fault };
        if !is_guest_page_fault(fault) {
            self.redirect(&trap);
            return Ok(Next::Resume);
        }
        match self.provide(fault, Access::Fetch)? {
            Outcome::Mapped => Ok(Next::Resume),
            Outcome::Refused => Ok(Next::MemoryFault),
            Outcome::NoMemory => {
                self.access_fault(Access::Fetch, &trap);
                Ok(Next::Resume)
            }
        }
    }

    /// Has the guest take an access fault: nothing answers at the address.
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

/// Whether the G-stage, not the guest's own translation, refused an access.
pub(crate) fn is_guest_page_fault(trap: &Trap) -> bool {
    matches!(Cause::decode(trap.scause), Cause::GuestPageFault(_))
}
