// SPDX-License-Identifier: GPL-2.0

//! The world switch that enters the guest by an SBI call. Answers to
//! `__kvm_riscv_nacl_switch_to()`.
//!
//! As in [`arch::switch`](crate::arch::switch), the guest's next trap lands on the second half. The
//! call may also return, when it is refused: then the registers are still the host's, and none may
//! be stored as the guest's, as C does.

use core::{
    arch::global_asm,
    mem::offset_of, //
};

use crate::{
    arch::{
        gprs::Gprs,
        nacl::{
            provider::Refused,
            shared::Hstatus, //
        },
        switch::{
            host_registers, //
            SwitchContext,
            Trap,
        }, //
    },
    bindings, //
};

/// All that the assembly accesses.
#[repr(C)]
struct Frame {
    /// The guest's registers, once it has trapped; before, they are in the shared memory.
    gprs: Gprs,
    sepc: usize,
    sstatus: usize,
    hstatus: usize,
    /// Whether the assembly swaps `hstatus`: 0 or 1.
    swap: usize,
    scause: usize,
    stval: usize,
    /// The error that the call returned; 0 if it did not return.
    error: usize,
    host: Host,
}

/// Registers of the host.
#[repr(C)]
#[derive(Default)]
struct Host {
    ra: usize,
    sp: usize,
    gp: usize,
    tp: usize,
    s: [usize; 12],
    sstatus: usize,
    stvec: usize,
}

/// Runs the guest until it traps. Its x registers are in the shared memory of this CPU.
///
/// `htval` and `htinst` stay in the shared memory.
///
/// # Errors
///
/// The error that the call returned; the guest was not entered, and `ctx` is unchanged.
///
/// # Safety
///
/// Interrupts are off, and the registers and `hgatp` of this vCPU are loaded on this CPU. The
/// caller has told time accounting as `guest_timing_enter_irqoff()` wants, and tells RCU before it
/// lets interrupts in.
pub(super) unsafe fn sync_sret(ctx: &mut SwitchContext, hstatus: Hstatus) -> Result<(), Refused> {
    let mut frame = Frame {
        gprs: Gprs::zeroed(),
        sepc: ctx.sepc,
        sstatus: ctx.sstatus,
        hstatus: ctx.hstatus,
        swap: match hstatus {
            Hstatus::SwapsItself => 0,
            Hstatus::MustBeSwapped => 1,
        },
        scause: 0,
        stval: 0,
        error: 0,
        host: Host::default(),
    };
    // SAFETY: The function passes the pointer to the assembly below, which reads and writes the
    // frame by the offsets given there. The caller keeps interrupts off and the vCPU's registers
    // and `hgatp` loaded, has told time accounting, and tells RCU before it lets interrupts in.
    unsafe { bindings::kvm_rs_nacl_enter_guest((&raw mut frame).cast()) };
    if frame.error != 0 {
        return Err(Refused(frame.error as isize));
    }
    ctx.gprs = frame.gprs;
    ctx.sepc = frame.sepc;
    ctx.sstatus = frame.sstatus;
    ctx.hstatus = frame.hstatus;
    ctx.set_trap(&Trap {
        sepc: frame.sepc,
        scause: frame.scause,
        stval: frame.stval,
        ..Trap::default()
    });
    Ok(())
}

/// The offset of one of the host's registers in a [`Frame`].
macro_rules! host {
    ($field:ident) => {
        offset_of!(Frame, host) + offset_of!(Host, $field)
    };
}

// a0 = the frame.
global_asm!(
    ".pushsection .text",
    ".option push",
    ".option norelax",
    ".option arch, +h",
    host_registers!(),
    ".macro kvm_rs_nacl_swap_hstatus",
    "ld t0, {swap}(a0)",
    "beqz t0, 9f",
    "ld t0, {hstatus}(a0)",
    "csrrw t0, hstatus, t0",
    "sd t0, {hstatus}(a0)",
    "9:",
    ".endm",
    ".balign 4",
    ".globl kvm_rs_nacl_switch_to",
    ".type kvm_rs_nacl_switch_to, @function",
    "kvm_rs_nacl_switch_to:",
    "kvm_rs_host sd",
    "kvm_rs_nacl_swap_hstatus",
    "ld t0, {sstatus}(a0)",
    "ld t2, {sepc}(a0)",
    "lla t3, 1f",
    "csrrw t0, sstatus, t0",
    "csrw sepc, t2",
    "csrrw t3, stvec, t3",
    "csrw sscratch, a0",
    "sd t0, {h_sstatus}(a0)",
    "sd t3, {h_stvec}(a0)",
    "li a6, {sync_sret}",
    "li a7, {nacl}",
    "ecall",
    // The call was refused. All registers are the host's, but for a0 and a1.
    "mv t5, a0",
    "csrrw a0, sscratch, zero",
    "sd t5, {error}(a0)",
    "j 2f",
    // The guest trapped.
    ".balign 4",
    "1:",
    "csrrw a0, sscratch, a0",
    ".irp n, 1,2,3,4,5,6,7,8,9,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "sd x\\n, {gprs}+8*\\n(a0)",
    ".endr",
    "csrrw t0, sscratch, zero",
    "csrr t1, sepc",
    "csrr t2, scause",
    "csrr t3, stval",
    "sd t0, {a0}(a0)",
    "sd t1, {sepc}(a0)",
    "sd t2, {scause}(a0)",
    "sd t3, {stval}(a0)",
    // Both ways join here.
    "2:",
    "ld t0, {h_sstatus}(a0)",
    "ld t1, {h_stvec}(a0)",
    "csrrw t0, sstatus, t0",
    "csrw stvec, t1",
    "sd t0, {sstatus}(a0)",
    "kvm_rs_nacl_swap_hstatus",
    "kvm_rs_host ld",
    "ret",
    ".size kvm_rs_nacl_switch_to, . - kvm_rs_nacl_switch_to",
    ".purgem kvm_rs_host",
    ".purgem kvm_rs_nacl_swap_hstatus",
    ".option pop",
    ".popsection",
    gprs = const offset_of!(Frame, gprs),
    a0 = const offset_of!(Frame, gprs) + 8 * 10,
    sepc = const offset_of!(Frame, sepc),
    sstatus = const offset_of!(Frame, sstatus),
    hstatus = const offset_of!(Frame, hstatus),
    swap = const offset_of!(Frame, swap),
    scause = const offset_of!(Frame, scause),
    stval = const offset_of!(Frame, stval),
    error = const offset_of!(Frame, error),
    h_ra = const host!(ra),
    h_sp = const host!(sp),
    h_gp = const host!(gp),
    h_tp = const host!(tp),
    h_s = const host!(s),
    h_sstatus = const host!(sstatus),
    h_stvec = const host!(stvec),
    sync_sret = const bindings::sbi_ext_nacl_fid_SBI_EXT_NACL_SYNC_SRET,
    nacl = const bindings::sbi_ext_id_SBI_EXT_NACL,
);
