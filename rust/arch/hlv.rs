// SPDX-License-Identifier: GPL-2.0

//! Reads of guest memory through the guest's own translation: HLV and HLVX. Answers to
//! `kvm_riscv_vcpu_unpriv_read()`.
//!
//! The hardware walks both stages with the `hgatp`, `vsatp` and `vsstatus` that are loaded and
//! with the privilege in `hstatus.SPVP`. A fault comes back as a [`Trap`] of the guest's access.

use core::arch::{
    asm,
    global_asm, //
};
use core::mem::offset_of;

use kernel::prelude::*;

use crate::{
    arch::{
        csr,
        nacl,
        switch::Trap, //
    },
    bindings, //
};

// Where a faulting HLV lands: a0 = the Trap to fill, a1 = scratch. HLV and HLVX are four bytes.
global_asm!(
    ".pushsection .text",
    ".option push",
    ".option arch, +h",
    ".balign 4",
    ".globl kvm_rs_hlv_trap",
    ".type kvm_rs_hlv_trap, @function",
    "kvm_rs_hlv_trap:",
    "csrr a1, sepc",
    "sd a1, {sepc}(a0)",
    "addi a1, a1, 4",
    "csrw sepc, a1",
    "csrr a1, scause",
    "sd a1, {scause}(a0)",
    "csrr a1, stval",
    "sd a1, {stval}(a0)",
    "csrr a1, htval",
    "sd a1, {htval}(a0)",
    "csrr a1, htinst",
    "sd a1, {htinst}(a0)",
    "sret",
    ".size kvm_rs_hlv_trap, . - kvm_rs_hlv_trap",
    ".option pop",
    ".popsection",
    sepc = const offset_of!(Trap, sepc),
    scause = const offset_of!(Trap, scause),
    stval = const offset_of!(Trap, stval),
    htval = const offset_of!(Trap, htval),
    htinst = const offset_of!(Trap, htinst),
);

extern "C" {
    /// Fills the [`Trap`] of an HLV or HLVX that trapped. `stvec` points here during the access;
    /// nothing calls it.
    fn kvm_rs_hlv_trap();
}

/// Executes `$insn`, an HLV or HLVX, at guest virtual address `$gva`. Returns what it reads; if it
/// traps, `$trap` is filled, and the value means nothing.
///
/// `stvec` names [`kvm_rs_hlv_trap`] within one `asm!` block, so that no code of the compiler's
/// runs in between: an exception of any other instruction would be taken for that of the access.
///
/// The caller uses this in an unsafe block, with interrupts off and the guest's translation loaded.
macro_rules! guarded {
    ($insn:literal, $gva:expr, $trap:expr) => {{
        let value: usize;
        asm!(
            ".option push", ".option arch, +h",
            "csrrw {stvec}, stvec, {handler}",
            concat!($insn, " {value}, ({addr})"),
            "csrw stvec, {stvec}",
            ".option pop",
            stvec = out(reg) _,
            handler = in(reg) kvm_rs_hlv_trap as usize,
            value = inout(reg) 0usize => value,
            addr = in(reg) $gva,
            in("a0") core::ptr::from_mut::<Trap>($trap),
            out("a1") _,
            options(nostack)
        );
        value
    }};
}

/// Runs `access` with guest privilege in `hstatus`.
///
/// # Safety
///
/// Interrupts are off and the guest's translation is loaded on this CPU. `hstatus` is the guest's,
/// or the host's with another SPVP.
unsafe fn with_privilege(
    hstatus: usize,
    access: impl FnOnce(&mut Trap) -> usize,
) -> Result<usize, Trap> {
    // `scause` 0, instruction address misaligned, stands for no trap, because no access raises it.
    let mut trap = Trap::default();
    if nacl::sync().is_err() {
        // The registers are not the guest's, so a read would give data of another address space.
        trap.scause = bindings::EXC_LOAD_ACCESS as usize;
        return Err(trap);
    }
    // SAFETY: SPVP, VGEIN and the interception bits act on V=1, on HLV and on guest registers
    // alone. SPV acts on `sret` alone: interrupts are off, and if `access` traps, the trap from V=0
    // clears SPV before the handler executes `sret`.
    let old_hstatus = unsafe { csr::HSTATUS.swap(hstatus) };
    let value = access(&mut trap);
    // SAFETY: This writes back the host's own value, which the swap returned.
    unsafe { csr::HSTATUS.write(old_hstatus) };
    if trap.scause == 0 {
        Ok(value)
    } else {
        Err(trap)
    }
}

/// Reads the instruction at guest virtual address `gva`: 16 or 32 bits, with execute permission.
///
/// # Errors
///
/// The trap that the guest's fetch would have taken.
///
/// # Safety
///
/// Interrupts are off and the guest's translation is loaded on this CPU; `hstatus` is the guest's.
pub(crate) unsafe fn read_insn(hstatus: usize, gva: usize) -> Result<u32, Trap> {
    let half = |gva: usize| {
        // SAFETY: The caller keeps interrupts off and the guest's translation loaded on this CPU.
        let access = |trap: &mut Trap| unsafe { guarded!("hlvx.hu", gva, trap) };
        // SAFETY: The caller keeps interrupts off and the guest's translation loaded on this CPU,
        // and `hstatus` is the guest's.
        unsafe { with_privilege(hstatus, access) }.map_err(|mut trap| {
            // HLVX faults as a load, but the guest's access is a fetch.
            trap.scause = match trap.scause as u32 {
                bindings::EXC_LOAD_PAGE_FAULT => bindings::EXC_INST_PAGE_FAULT as usize,
                bindings::EXC_LOAD_ACCESS => bindings::EXC_INST_ACCESS as usize,
                _ => trap.scause,
            };
            trap
        })
    };
    let low = half(gva)?;
    if low & 3 != 3 {
        return Ok(low as u32);
    }
    let high = half(gva.wrapping_add(2))?;
    Ok((high << 16 | low) as u32)
}

/// Reads the 64-bit word at guest virtual address `gva`.
///
/// # Errors
///
/// The trap that the guest's load would have taken.
///
/// # Safety
///
/// Interrupts are off and the guest's translation is loaded on this CPU; `hstatus` is the guest's.
pub(crate) unsafe fn read_word(hstatus: usize, gva: usize) -> Result<usize, Trap> {
    // SAFETY: The caller keeps interrupts off and the guest's translation loaded on this CPU.
    let access = |trap: &mut Trap| unsafe { guarded!("hlv.d", gva, trap) };
    // SAFETY: The caller keeps interrupts off and the guest's translation loaded on this CPU, and
    // `hstatus` is the guest's.
    unsafe { with_privilege(hstatus, access) }
}

/// Without translation at either stage, so that a guest virtual address is a physical one.
#[kunit_tests(kvm_riscv_hlv)]
mod tests {
    use super::*;
    use crate::{
        arch::csr::{
            Direct,
            Registers, //
        },
        kernel_ext::context::IrqOff, //
    };

    /// No machine has memory at this address: physical addresses have 56 bits.
    const NOWHERE: usize = 1 << 55;

    fn physical<T>(of: &T) -> usize {
        // SAFETY: `of` comes from a `KBox`, so it is in the linear map. The helper only computes
        // its physical address.
        unsafe { bindings::kvm_rs_virt_to_phys(core::ptr::from_ref(of).cast_mut().cast()) as usize }
    }

    /// Runs `read` with the privilege of a guest's supervisor.
    fn bare<R>(read: impl FnOnce(usize) -> R) -> R {
        IrqOff::with(|_| {
            let vsatp = Direct.swap(csr::VSATP, 0);
            let result = read(csr::HSTATUS.read() | bindings::HSTATUS_SPVP);
            Direct.write(csr::VSATP, vsatp);
            result
        })
    }

    #[test]
    fn words_are_read() -> Result {
        let word = KBox::new(0x0123_4567_89ab_cdef_usize, GFP_KERNEL)?;
        let at = physical(&*word);
        // SAFETY: `bare` runs this with interrupts off, without translation at either stage, and
        // with the host's `hstatus` plus SPVP.
        let read = bare(|hstatus| unsafe { read_word(hstatus, at) });
        assert!(read.is_ok_and(|read| read == *word));
        Ok(())
    }

    /// A compressed instruction, a full one, and one at an odd multiple of two.
    #[test]
    fn instructions_are_read() -> Result {
        let code = KBox::new(
            [0x1234_4501_u32, 0x0000_0073, 0x0073_0001, 0x0001_0000],
            GFP_KERNEL,
        )?;
        let at = physical(&*code);
        for (offset, insn) in [(0, 0x4501), (4, 0x73), (8, 0x1), (10, 0x73)] {
            // SAFETY: `bare` runs this with interrupts off, without translation at either stage,
            // and with the host's `hstatus` plus SPVP.
            let read = bare(|hstatus| unsafe { read_insn(hstatus, at + offset) });
            assert!(read.is_ok_and(|read| read == insn));
        }
        Ok(())
    }

    #[test]
    fn faults_come_back() {
        // SAFETY: `bare` runs this with interrupts off, without translation at either stage, and
        // with the host's `hstatus` plus SPVP.
        let load = bare(|hstatus| unsafe { read_word(hstatus, NOWHERE) });
        // SAFETY: `bare` runs this with interrupts off, without translation at either stage, and
        // with the host's `hstatus` plus SPVP.
        let fetch = bare(|hstatus| unsafe { read_insn(hstatus, NOWHERE) });
        let is = |trap: Trap, cause: u32| trap.scause == cause as usize && trap.stval == NOWHERE;
        assert!(load.is_err_and(|trap| is(trap, bindings::EXC_LOAD_ACCESS)));
        assert!(fetch.is_err_and(|trap| is(trap, bindings::EXC_INST_ACCESS)));
    }
}
