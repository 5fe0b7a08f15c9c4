// SPDX-License-Identifier: GPL-2.0

//! The causes of exits and their handlers. Answers to `vcpu_exit.c` and to the virtual-instruction
//! half of `vcpu_insn.c`.
//!
//! A cause is decoded once, into [`Cause`]. An error of the guest becomes a trap of the guest,
//! never an error of `KVM_RUN` (differences-from-c M22).

use kernel::prelude::*;

use crate::{
    arch::{
        registers::GuestMode,
        switch::Trap, //
    },
    bindings,
    insn::{
        CounterEnable,
        Illegal,
        Insn,
        InsnLen,
        SystemInsn, //
    },
    kvm_core::{
        calls as kvm,
        srcu::SlotsRead, //
    },
    mmu::{
        fault::{
            Access,
            Outcome, //
        },
        guest_access::lacking, //
    },
    run::{
        mmio,
        wait::wait_for_interrupt, //
    },
    sbi,
    vcpu::{
        pmu::FirmwareEvent,
        stat::Counter,
        token::Loaded,
        trace, //
        ExitAction,
    }, //
};

/// `scause` of an exception, decoded (Privileged Architecture, "Supervisor Cause Register").
enum Cause {
    /// Exceptions that the guest itself is to handle, but that cannot be delegated to it, or were
    /// not.
    Reflect(Option<(Counter, FirmwareEvent)>),
    /// `ebreak` while userspace debugs the guest.
    Breakpoint,
    /// `ecall` from VS-mode.
    Ecall,
    /// The G-stage does not map the address, or not for this access.
    GuestPageFault(Access),
    /// An instruction that the hypervisor has to emulate, or refuse.
    VirtualInstruction,
    /// A cause that no guest can have.
    Unexpected,
}

impl Cause {
    /// Decodes the cause of an exit.
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

/// Handles an exit.
///
/// # Errors
///
/// `EFAULT` for a trap that no guest can cause; `ENOMEM` while providing guest memory.
pub(crate) fn handle(vcpu: &mut Loaded<'_>, trap: &Trap) -> Result<ExitAction> {
    if trap.is_interrupt() {
        return Ok(ExitAction::Resume);
    }
    trace::trace_vcpu_exit(vcpu.vcpu(), trap);
    let result = if !vcpu.ctx.came_from_guest() {
        // The world switch itself trapped.
        Err(EFAULT)
    } else {
        // Here, so that the compiler makes one jump of decoding and handling.
        match Cause::decode(trap.scause) {
            Cause::Reflect(counted) => {
                if let Some((counter, event)) = counted {
                    vcpu.vcpu().count(counter);
                    vcpu.vcpu().note(event);
                }
                vcpu.redirect(trap);
                Ok(ExitAction::Resume)
            }
            Cause::Breakpoint => {
                vcpu.run_page().exit_debug();
                Ok(ExitAction::Userspace)
            }
            Cause::Ecall => sbi::handle(vcpu),
            Cause::GuestPageFault(access) => guest_page_fault(vcpu, trap, access),
            Cause::VirtualInstruction => virtual_instruction(vcpu, trap),
            Cause::Unexpected => Err(EFAULT),
        }
    };
    match result {
        // A signal interrupted the handler. Resuming handles the signal before the guest repeats
        // its access.
        Err(EINTR) => Ok(ExitAction::Resume),
        Err(err) => {
            report(vcpu, trap, err);
            if !vcpu.ctx.came_from_guest() {
                vcpu.ctx.forget();
            }
            Err(err)
        }
        Ok(next) => Ok(next),
    }
}

/// Tells the log what the guest was doing when `KVM_RUN` failed. The rate is limited, because a
/// guest can repeat that as often as its VMM lets it.
fn report(vcpu: &Loaded<'_>, trap: &Trap, err: Error) {
    let (sstatus, hstatus) = vcpu.ctx.status();
    trace::log_exit_error(vcpu.vcpu(), trap, sstatus, hstatus, err);
}

/// Handles a guest-page fault: the G-stage does not map the page, or does not allow the access.
fn guest_page_fault(vcpu: &mut Loaded<'_>, trap: &Trap, access: Access) -> Result<ExitAction> {
    let (gpa, wanted) = lacking(trap, access);
    let slots = SlotsRead::new(vcpu.held());
    match vcpu.fault(&slots, gpa, wanted)? {
        Outcome::Mapped => Ok(ExitAction::Resume),
        Outcome::Refused => Ok(ExitAction::MemoryFault),
        Outcome::NoMemory => match access {
            // A fetch cannot be emulated: a machine without memory there refuses it.
            Access::Fetch => {
                vcpu.access_fault(access, trap);
                Ok(ExitAction::Resume)
            }
            Access::Load | Access::Store => mmio::access(vcpu, &slots, gpa, access, trap),
        },
    }
}

/// Handles an instruction that raised a virtual-instruction exception.
// Out of line, so that exits which need fewer registers save fewer.
#[inline(never)]
fn virtual_instruction(vcpu: &mut Loaded<'_>, trap: &Trap) -> Result<ExitAction> {
    let insn = match Insn::from_stval(trap.stval) {
        Some(insn) => insn,
        None => match vcpu.read_insn(trap.sepc) {
            Ok(word) => Insn::fetched(word),
            Err(fault) => return vcpu.fetch_failed(&fault),
        },
    };
    let mode = vcpu.ctx.mode();
    let isa = vcpu.isa.effective();
    let counters = CounterEnable::from_raw(vcpu.pinned(|vcpu| vcpu.context().scounteren()));
    let done = match SystemInsn::decode(insn, mode, isa, counters, &vcpu.ctx.gprs) {
        Ok(SystemInsn::Wfi) => {
            vcpu.vcpu().count(Counter::WfiExits);
            wait_for_interrupt(vcpu);
            vcpu.skip(InsnLen::Four);
            Ok(ExitAction::Resume)
        }
        Ok(SystemInsn::WrsNto) => {
            vcpu.vcpu().count(Counter::WrsExits);
            kvm::on_spin(vcpu.held(), mode == GuestMode::Supervisor);
            vcpu.skip(InsnLen::Four);
            Ok(ExitAction::Resume)
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
        Ok(ExitAction::Resume)
    })
}
