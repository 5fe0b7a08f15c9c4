// SPDX-License-Identifier: GPL-2.0

//! The world switch. Answers to `vcpu_switch.S` and `kvm_riscv_vcpu_enter_exit()`.
//!
//! One routine, entered like a function and left by `sret` into the guest; the guest's next trap
//! lands on its second half, which returns to the caller. Only what the calling convention says a
//! callee must keep is saved of the host.

use core::{
    arch::global_asm,
    mem::offset_of, //
};

use crate::{
    bindings,
    vcpu::gprs::Gprs, //
};

/// What the guest's trap left behind.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Trap {
    /// `sepc`: where the guest was.
    pub(crate) sepc: usize,
    /// `scause`: why it stopped; the top bit marks an interrupt of the host.
    pub(crate) scause: usize,
    /// `stval`: the guest virtual address, or the instruction.
    pub(crate) stval: usize,
    /// `htval`: the guest physical address, shifted right by 2.
    pub(crate) htval: usize,
    /// `htinst`: the transformed instruction, a pseudo-instruction, or 0.
    pub(crate) htinst: usize,
}

/// Registers of the host that the switch keeps across the guest.
#[repr(C)]
#[derive(Default)]
struct Host {
    ra: usize,
    sp: usize,
    gp: usize,
    tp: usize,
    s: [usize; 12],
    sstatus: usize,
    hstatus: usize,
    stvec: usize,
    sscratch: usize,
}

/// Everything the assembly touches: the guest's integer context, and room for the host's.
#[repr(C)]
pub(crate) struct SwitchContext {
    /// The guest's x registers.
    pub(crate) gprs: Gprs,
    /// The guest's pc.
    pub(crate) sepc: usize,
    /// `sstatus` while the guest runs: SPP is its privilege, FS and VS its extension state.
    pub(crate) sstatus: usize,
    /// `hstatus` while the guest runs.
    pub(crate) hstatus: usize,
    /// Why it last came back.
    pub(crate) trap: Trap,
    host: Host,
}

impl SwitchContext {
    /// The state of a hart at reset: VS-mode, pc 0, registers 0.
    pub(crate) fn reset() -> Self {
        Self {
            gprs: Gprs::zeroed(),
            sepc: 0,
            sstatus: bindings::SR_SPP | bindings::SR_SPIE,
            hstatus: bindings::HSTATUS_VTW | bindings::HSTATUS_SPVP | bindings::HSTATUS_SPV,
            trap: Trap::default(),
            host: Host::default(),
        }
    }

    /// Runs the guest until it traps.
    ///
    /// # Safety
    ///
    /// Interrupts are off, this vCPU's registers and `hgatp` are loaded on this CPU, and RCU, lockdep
    /// and time accounting have been told as `guest_timing_enter_irqoff()` wants.
    pub(crate) unsafe fn enter(&mut self) {
        // SAFETY: the bracket passes the pointer to the assembly below, which reads and writes
        // this struct by the offsets given there; the caller vouches for the rest.
        unsafe { bindings::kvm_rs_enter_guest(core::ptr::from_mut(self).cast()) };
    }
}

macro_rules! gpr {
    ($n:literal) => {
        offset_of!(SwitchContext, gprs) + 8 * $n
    };
}
macro_rules! host {
    ($field:ident) => {
        offset_of!(SwitchContext, host) + offset_of!(Host, $field)
    };
}
macro_rules! trap {
    ($field:ident) => {
        offset_of!(SwitchContext, trap) + offset_of!(Trap, $field)
    };
}

// a0 = the context. `.altmacro` loops would save lines, and cost the reader.
global_asm!(
    ".pushsection .text",
    ".option push",
    ".option norelax",
    ".option arch, +h",
    ".macro kvm_rs_host op",
    "\\op ra, {h_ra}(a0)", "\\op sp, {h_sp}(a0)", "\\op gp, {h_gp}(a0)", "\\op tp, {h_tp}(a0)",
    "\\op s0, {h_s}+0*8(a0)", "\\op s1, {h_s}+1*8(a0)", "\\op s2, {h_s}+2*8(a0)",
    "\\op s3, {h_s}+3*8(a0)", "\\op s4, {h_s}+4*8(a0)", "\\op s5, {h_s}+5*8(a0)",
    "\\op s6, {h_s}+6*8(a0)", "\\op s7, {h_s}+7*8(a0)", "\\op s8, {h_s}+8*8(a0)",
    "\\op s9, {h_s}+9*8(a0)", "\\op s10, {h_s}+10*8(a0)", "\\op s11, {h_s}+11*8(a0)",
    ".endm",
    // All but a0 (x10), which holds the context.
    ".macro kvm_rs_guest op",
    ".irp n, 1,2,3,4,5,6,7,8,9,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "\\op x\\n, {gprs}+8*\\n(a0)",
    ".endr",
    ".endm",
    ".balign 4",
    ".globl kvm_rs_switch_to",
    ".type kvm_rs_switch_to, @function",
    "kvm_rs_switch_to:",
    "kvm_rs_host sd",
    "ld t0, {sstatus}(a0)",
    "ld t1, {hstatus}(a0)",
    "ld t2, {sepc}(a0)",
    "lla t3, 1f",
    "csrrw t0, sstatus, t0",
    "csrrw t1, hstatus, t1",
    "csrw sepc, t2",
    "csrrw t3, stvec, t3",
    "csrrw t4, sscratch, a0",
    "sd t0, {h_sstatus}(a0)",
    "sd t1, {h_hstatus}(a0)",
    "sd t3, {h_stvec}(a0)",
    "sd t4, {h_sscratch}(a0)",
    "kvm_rs_guest ld",
    "ld a0, {a0}(a0)",
    "sret",
    // The guest trapped.
    ".balign 4",
    "1:",
    "csrrw a0, sscratch, a0",
    "kvm_rs_guest sd",
    "ld t0, {h_sstatus}(a0)",
    "ld t1, {h_hstatus}(a0)",
    "ld t3, {h_stvec}(a0)",
    "ld t4, {h_sscratch}(a0)",
    "csrrw t0, sstatus, t0",
    "csrrw t1, hstatus, t1",
    "csrr t2, sepc",
    "csrw stvec, t3",
    "csrrw t4, sscratch, t4",
    "sd t0, {sstatus}(a0)",
    "sd t1, {hstatus}(a0)",
    "sd t2, {sepc}(a0)",
    "sd t4, {a0}(a0)",
    // Now, because the next host trap overwrites them.
    "csrr t0, scause",
    "csrr t1, stval",
    "csrr t3, htval",
    "csrr t4, htinst",
    "sd t2, {t_sepc}(a0)",
    "sd t0, {t_scause}(a0)",
    "sd t1, {t_stval}(a0)",
    "sd t3, {t_htval}(a0)",
    "sd t4, {t_htinst}(a0)",
    "kvm_rs_host ld",
    "ret",
    ".size kvm_rs_switch_to, . - kvm_rs_switch_to",
    ".purgem kvm_rs_host",
    ".purgem kvm_rs_guest",
    ".option pop",
    ".popsection",
    gprs = const offset_of!(SwitchContext, gprs),
    a0 = const gpr!(10),
    sepc = const offset_of!(SwitchContext, sepc),
    sstatus = const offset_of!(SwitchContext, sstatus),
    hstatus = const offset_of!(SwitchContext, hstatus),
    t_sepc = const trap!(sepc),
    t_scause = const trap!(scause),
    t_stval = const trap!(stval),
    t_htval = const trap!(htval),
    t_htinst = const trap!(htinst),
    h_ra = const host!(ra),
    h_sp = const host!(sp),
    h_gp = const host!(gp),
    h_tp = const host!(tp),
    h_s = const host!(s),
    h_sstatus = const host!(sstatus),
    h_hstatus = const host!(hstatus),
    h_stvec = const host!(stvec),
    h_sscratch = const host!(sscratch),
);
