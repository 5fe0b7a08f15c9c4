// SPDX-License-Identifier: GPL-2.0

//! The world switch. Answers to `vcpu_switch.S` and `kvm_riscv_vcpu_enter_exit()`.
//!
//! One routine, entered like a function and left by `sret` into the guest; the guest's next trap
//! lands on its second half, which returns to the caller. Of the host's registers, only those are
//! saved that a callee must keep by the calling convention.

use core::{
    arch::global_asm,
    mem::offset_of, //
};

use crate::{
    arch::{
        aia::GuestFile,
        gprs::Gprs,
        nacl::{
            self,
            Entered, //
        },
        registers::GuestMode,
        supervisor::INSN_ADDRESS, //
    },
    bindings, //
};

/// A unit whose state is in `sstatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Floating point: FS.
    Fp,
    /// Vectors: VS.
    Vector,
}

impl Unit {
    /// Returns the unit's field in `sstatus`.
    const fn field(self) -> usize {
        match self {
            Self::Fp => bindings::SR_FS,
            Self::Vector => bindings::SR_VS,
        }
    }
}

/// The state of a unit, in `sstatus.FS` or `sstatus.VS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum UnitState {
    /// The guest has no such unit.
    Off = 0,
    /// The unit is as a reset leaves it.
    Initial = 1,
    /// The registers in memory and in the unit are the same.
    Clean = 2,
    /// The registers in the unit are newer than those in memory.
    Dirty = 3,
}

/// FS and VS of the `sstatus` with which the guest runs, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnitStatus(usize);

impl UnitStatus {
    /// The fields of all units.
    const ALL: usize = Unit::Fp.field() | Unit::Vector.field();

    /// No unit.
    pub(crate) const OFF: Self = Self(0);

    /// Returns whether `unit` is in `state`.
    #[inline(always)]
    pub(crate) const fn is(self, unit: Unit, state: UnitState) -> bool {
        self.0 & unit.field() == (state as usize) << unit.field().trailing_zeros()
    }

    /// Returns these states with `unit` in `state`.
    #[inline(always)]
    pub(crate) const fn with(self, unit: Unit, state: UnitState) -> Self {
        Self(self.0 & !unit.field() | (state as usize) << unit.field().trailing_zeros())
    }
}

/// The CSRs of a trap of the guest.
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

impl Trap {
    /// Returns whether it was an interrupt of the host, which is taken already.
    #[inline(always)]
    pub(crate) fn is_interrupt(&self) -> bool {
        self.scause & bindings::CAUSE_IRQ_FLAG != 0
    }
}

/// `scause` of an `ecall` from VS-mode.
const ECALL: usize = bindings::EXC_SUPERVISOR_SYSCALL as usize;

/// Registers of the host that the switch keeps across the guest.
///
/// `sscratch` is not among them: it is 0 while the kernel runs, by which the trap handler
/// recognises a trap from the kernel.
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
}

/// All that the assembly accesses: the guest's integer context, and room for the host's.
///
/// `sstatus` and `hstatus` say where `sret` goes. They are private to `arch`: with a wrong one the
/// guest's pc would run in the host's own mode.
///
/// # Invariants
///
/// Between two entries, `hstatus` has SPV and VTW set, and `sstatus` is what a trap from the guest
/// leaves there. After an entry, the code that handles the trap calls
/// [`came_from_guest`](Self::came_from_guest) before anything else if the trap may have come from
/// elsewhere.
#[repr(C)]
pub(crate) struct SwitchContext {
    /// The guest's x registers.
    pub(crate) gprs: Gprs,
    /// The guest's pc.
    pub(super) sepc: usize,
    /// `sstatus` while the guest runs: SPP is its privilege, FS and VS its extension state.
    pub(super) sstatus: usize,
    /// `hstatus` while the guest runs.
    pub(super) hstatus: usize,
    /// `scause` of the guest's trap.
    scause: usize,
    /// `stval`; an `ecall` writes neither this nor the next two.
    stval: usize,
    /// `htval`.
    htval: usize,
    /// `htinst`.
    htinst: usize,
    /// The host's registers while the guest runs.
    host: Host,
}

impl SwitchContext {
    /// Returns the state of a hart at reset: VS-mode, pc 0, registers 0.
    pub(crate) fn reset() -> Self {
        Self {
            gprs: Gprs::zeroed(),
            sepc: 0,
            sstatus: bindings::SR_SPP | bindings::SR_SPIE,
            hstatus: bindings::HSTATUS_VTW | bindings::HSTATUS_SPVP | bindings::HSTATUS_SPV,
            scause: 0,
            stval: 0,
            htval: 0,
            htinst: 0,
            host: Host::default(),
        }
    }

    /// Returns the guest's pc.
    #[inline(always)]
    pub(crate) fn pc(&self) -> usize {
        self.sepc
    }

    /// Sets the guest's pc. An instruction has an even address, so bit 0 is cleared.
    #[inline(always)]
    pub(crate) fn set_pc(&mut self, pc: usize) {
        self.sepc = pc & INSN_ADDRESS;
    }

    /// Advances the guest's pc by `bytes`.
    #[inline(always)]
    pub(crate) fn skip(&mut self, bytes: usize) {
        self.sepc = self.sepc.wrapping_add(bytes);
    }

    /// Returns the guest's privilege.
    #[inline(always)]
    pub(crate) fn mode(&self) -> GuestMode {
        GuestMode::of_sstatus(self.sstatus)
    }

    /// Sets the guest's privilege.
    #[inline(always)]
    pub(crate) fn set_mode(&mut self, mode: GuestMode) {
        match mode {
            GuestMode::Supervisor => self.sstatus |= bindings::SR_SPP,
            GuestMode::User => self.sstatus &= !bindings::SR_SPP,
        }
    }

    /// Returns the guest's privilege and whether it expects a landing pad, as a trap of its own
    /// would leave them in `sstatus`: SPP and SPELP. It expects none any more.
    #[inline(always)]
    pub(crate) fn take_trap_status(&mut self) -> usize {
        let status = self.sstatus & (bindings::SR_SPP | bindings::SR_SPELP);
        self.sstatus &= !bindings::SR_SPELP;
        status
    }

    /// Returns the states of the guest's floating-point and vector units, as the guest left them.
    #[inline(always)]
    pub(crate) fn units(&self) -> UnitStatus {
        UnitStatus(self.sstatus & UnitStatus::ALL)
    }

    /// Sets the states that the guest is to find its units in.
    #[inline(always)]
    pub(crate) fn set_units(&mut self, units: UnitStatus) {
        self.sstatus = self.sstatus & !UnitStatus::ALL | units.0;
    }

    /// Sets the interrupt file of this CPU that is the guest's (`hstatus.VGEIN`), or that it has
    /// none.
    pub(crate) fn set_file(&mut self, file: Option<GuestFile>) {
        self.hstatus = GuestFile::in_hstatus(file, self.hstatus);
    }

    /// Returns `hstatus` with the guest's privilege, for `hlv`.
    #[inline(always)]
    pub(crate) fn hstatus(&self) -> usize {
        self.hstatus
    }

    /// Returns whether the last trap was the guest's. If not, the world switch itself trapped, and
    /// what is here of pc and status is the host's: see [`forget`](Self::forget).
    #[inline(always)]
    pub(crate) fn came_from_guest(&self) -> bool {
        self.hstatus & bindings::HSTATUS_SPV != 0
    }

    /// Replaces the registers by those of a hart at reset, after the world switch trapped: neither
    /// userspace nor another entry must get those of the host. The guest's are lost.
    #[cold]
    #[inline(never)]
    pub(crate) fn forget(&mut self) {
        *self = Self::reset();
    }

    /// Returns `sstatus` and `hstatus`, for the log.
    pub(crate) fn status(&self) -> (usize, usize) {
        (self.sstatus, self.hstatus)
    }

    /// Returns whether the guest came back with an `ecall` from VS-mode.
    #[inline(always)]
    pub(crate) fn is_ecall(&self) -> bool {
        self.scause == ECALL
    }

    /// Returns why the guest came back.
    #[inline(always)]
    pub(crate) fn trap(&self) -> Trap {
        let plain = Trap {
            sepc: self.sepc,
            scause: self.scause,
            ..Trap::default()
        };
        if self.is_ecall() {
            plain
        } else {
            Trap {
                stval: self.stval,
                htval: self.htval,
                htinst: self.htinst,
                ..plain
            }
        }
    }

    /// Sets what [`trap`](Self::trap) returns.
    pub(super) fn set_trap(&mut self, trap: &Trap) {
        self.scause = trap.scause;
        self.stval = trap.stval;
        self.htval = trap.htval;
        self.htinst = trap.htinst;
    }

    /// Runs the guest until it traps.
    ///
    /// # Safety
    ///
    /// Interrupts are off, and the registers and `hgatp` of this vCPU are loaded on this CPU. The
    /// caller has told time accounting as `guest_timing_enter_irqoff()` wants, and tells RCU before
    /// it lets interrupts in.
    pub(crate) unsafe fn enter(&mut self) {
        // SAFETY: The caller keeps interrupts off and the vCPU's registers and `hgatp` loaded, has
        // told time accounting, and tells RCU before it lets interrupts in.
        if nacl::is_used() && unsafe { nacl::enter(self) } == Entered::Yes {
            return;
        }
        // SAFETY: The function passes the pointer to the assembly below, which reads and writes
        // this struct by the offsets given there. By the type's invariant `hstatus` has SPV set, so
        // `sret` enters the guest. The caller keeps interrupts off and the vCPU's registers and
        // `hgatp` loaded, has told time accounting, and tells RCU before it lets interrupts in.
        unsafe { bindings::kvm_rs_enter_guest(core::ptr::from_mut(self).cast()) };
    }
}

/// The offset of general-purpose register `$n` in a [`SwitchContext`].
macro_rules! gpr {
    ($n:literal) => {
        offset_of!(SwitchContext, gprs) + 8 * $n
    };
}
/// The offset of one of the host's registers in a [`SwitchContext`].
macro_rules! host {
    ($field:ident) => {
        offset_of!(SwitchContext, host) + offset_of!(Host, $field)
    };
}
/// The assembler's macro `kvm_rs_host`: does `op` to each register that a callee must keep, and its
/// place in what `a0` points to. Also for `nacl::switch`.
macro_rules! host_registers {
    () => {
        concat!(
            ".macro kvm_rs_host op\n",
            "\\op ra, {h_ra}(a0)\n \\op sp, {h_sp}(a0)\n",
            "\\op gp, {h_gp}(a0)\n \\op tp, {h_tp}(a0)\n",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11\n",
            "\\op s\\n, {h_s}+8*\\n(a0)\n",
            ".endr\n",
            ".endm"
        )
    };
}
pub(super) use host_registers;

// a0 = the context.
global_asm!(
    ".pushsection .text",
    ".option push",
    ".option norelax",
    ".option arch, +h",
    host_registers!(),
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
    "csrw sscratch, a0",
    "sd t0, {h_sstatus}(a0)",
    "sd t1, {h_hstatus}(a0)",
    "sd t3, {h_stvec}(a0)",
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
    "csrrw t0, sstatus, t0",
    "csrrw t1, hstatus, t1",
    "csrr t2, sepc",
    "csrw stvec, t3",
    "csrrw t4, sscratch, zero",
    "sd t0, {sstatus}(a0)",
    "sd t1, {hstatus}(a0)",
    "sd t2, {sepc}(a0)",
    "sd t4, {a0}(a0)",
    // Read the CSRs now, because the next host trap overwrites them. An ecall has its cause alone.
    "csrr t0, scause",
    "li t1, {ecall}",
    "sd t0, {scause}(a0)",
    "beq t0, t1, 2f",
    "csrr t1, stval",
    "csrr t3, htval",
    "csrr t4, htinst",
    "sd t1, {stval}(a0)",
    "sd t3, {htval}(a0)",
    "sd t4, {htinst}(a0)",
    "2:",
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
    scause = const offset_of!(SwitchContext, scause),
    stval = const offset_of!(SwitchContext, stval),
    htval = const offset_of!(SwitchContext, htval),
    htinst = const offset_of!(SwitchContext, htinst),
    ecall = const ECALL,
    h_ra = const host!(ra),
    h_sp = const host!(sp),
    h_gp = const host!(gp),
    h_tp = const host!(tp),
    h_s = const host!(s),
    h_sstatus = const host!(sstatus),
    h_hstatus = const host!(hstatus),
    h_stvec = const host!(stvec),
);
