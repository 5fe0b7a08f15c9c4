// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! The guest's supervisor registers while they are in memory, and the legal values of each.
//!
//! Two sources fill them: the hardware, when a vCPU is put, and userspace, through ONE_REG. Values
//! from the hardware are legal. Values from userspace go through [`GuestCsrs::set`], which keeps
//! only the fields that the register has, as a write by the guest itself would: the fields are
//! private to `arch`, so that no other way leads from userspace to a CSR. Hardware need not be as
//! strict. QEMU's `vsstatus`, for one, takes any bit, and entering the guest then copies
//! `mstatus.TSR` and `mstatus.MPRV` from it.
//!
//! Privileged Architecture, "Supervisor CSRs" and "Virtual Supervisor CSRs"; RISC-V AIA,
//! "Supervisor-level CSRs".

use crate::{
    arch::{
        irq_bits::{
            to_guest, //
            Interrupt,
        },
        registers::{
            self as csr,
            Registers, //
        }, //
    },
    bindings,
    isa::{
        EffectiveIsa,
        Ext,
        FpUnit,
        GuestIsa, //
    }, //
};

/// A supervisor register of ONE_REG that is a value in [`GuestCsrs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Supervisor {
    /// `sstatus`
    Sstatus,
    /// `sie`
    Sie,
    /// `stvec`
    Stvec,
    /// `sscratch`
    Sscratch,
    /// `sepc`
    Sepc,
    /// `scause`
    Scause,
    /// `stval`
    Stval,
    /// `satp`
    Satp,
    /// `scounteren`
    Scounteren,
    /// `senvcfg`
    Senvcfg,
    /// `sstateen0`
    Sstateen0,
    /// `ssp`
    Ssp,
    /// `siselect`
    Siselect,
    /// The first half of the priorities of major interrupts.
    Iprio1,
    /// The other half.
    Iprio2,
}

/// The modes of address translation that VS-mode of this host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SatpModes(u16);

impl SatpModes {
    /// Bare, which every hart has.
    pub(crate) const BARE: Self = Self(1);

    /// Sv39, Sv48 and Sv57, each as `satp` with that mode.
    pub(crate) const CANDIDATES: [usize; 3] = [
        bindings::SATP_MODE_39,
        bindings::SATP_MODE_48,
        bindings::SATP_MODE_57,
    ];

    /// Returns these modes with that of `satp` added.
    pub(crate) const fn with(self, satp: usize) -> Self {
        Self(self.0 | 1 << Self::number(satp))
    }

    /// Returns whether the mode of `satp` is among them.
    const fn has(self, satp: usize) -> bool {
        self.0 & 1 << Self::number(satp) != 0
    }

    /// Returns `satp.MODE`, four bits.
    const fn number(satp: usize) -> usize {
        satp >> bindings::SATP_MODE_SHIFT
    }
}

/// The properties that the legal values of a guest's registers depend on.
#[derive(Clone, Copy)]
pub(crate) struct Limits<'a> {
    /// The guest's extensions.
    pub(crate) isa: &'a GuestIsa,
    /// The modes of `satp` that the guest can use.
    pub(crate) satp_modes: SatpModes,
}

/// The guest's supervisor registers, by the names that the guest uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GuestCsrs {
    /// `vsstatus`
    pub(crate) sstatus: usize,
    /// In the positions of `vsie`.
    pub(crate) sie: usize,
    /// `vstvec`
    pub(crate) stvec: usize,
    /// `vsscratch`
    pub(crate) sscratch: usize,
    /// `vsepc`
    pub(crate) sepc: usize,
    /// `vscause`
    pub(crate) scause: usize,
    /// `vstval`
    pub(crate) stval: usize,
    /// `vsatp`
    pub(crate) satp: usize,
    /// What the guest sees pending.
    pub(crate) hvip: usize,
    /// The guest's value of `scounteren`.
    pub(crate) scounteren: usize,
    /// The guest's value of `senvcfg`.
    pub(crate) senvcfg: usize,
    /// The guest's value of `sstateen0`.
    pub(crate) sstateen0: usize,
    /// The guest's value of `ssp`.
    pub(crate) ssp: usize,
    /// `vsiselect`
    pub(crate) siselect: usize,
    /// `hviprio1`
    pub(crate) iprio1: usize,
    /// `hviprio2`
    pub(crate) iprio2: usize,
}

/// `sstatus.UXL` of 64 bits. Zero is no legal width, and hardware may then keep the value of
/// another guest.
const UXL_64: usize = bindings::SR_UXL_64;

/// `sstatus.MXR`, which the kernel's headers do not name.
const SR_MXR: usize = 1 << 19;

/// Bytes of `hviprio1` and `hviprio2` that hold a priority: those of interrupts 0, 4 and 8 do not.
const IPRIO1: usize = 0xffff_ff00_ff00_ff00;
/// Bytes of `hviprio2` that hold a priority: all.
const IPRIO2: usize = usize::MAX;

/// Numbers that `siselect` can hold: those of AIA and of Sscsrind, without custom ones.
const SISELECT: usize = 0xfff;

/// `sstateen0`: C, FCSR and JVT.
const SSTATEEN0: usize = 0b111;

/// `ssp` is aligned to the smallest entry of a shadow stack.
const SSP: usize = !0b11;

/// The lowest bit of an address of an instruction.
pub(crate) const INSN_ADDRESS: usize = !1;

impl GuestCsrs {
    /// The registers of a hart at reset.
    pub(crate) const RESET: Self = Self {
        sstatus: UXL_64,
        sie: 0,
        stvec: 0,
        sscratch: 0,
        sepc: 0,
        scause: 0,
        stval: 0,
        satp: 0,
        hvip: 0,
        scounteren: 0,
        senvcfg: 0,
        sstateen0: 0,
        ssp: 0,
        siselect: 0,
        iprio1: 0,
        iprio2: 0,
    };

    /// Returns what the guest would read from `csr`.
    pub(crate) fn get(&self, csr: Supervisor) -> usize {
        match csr {
            Supervisor::Sstatus => self.sstatus | summary(self.sstatus),
            Supervisor::Sie => self.sie,
            Supervisor::Stvec => self.stvec,
            Supervisor::Sscratch => self.sscratch,
            Supervisor::Sepc => self.sepc,
            Supervisor::Scause => self.scause,
            Supervisor::Stval => self.stval,
            Supervisor::Satp => self.satp,
            Supervisor::Scounteren => self.scounteren,
            Supervisor::Senvcfg => self.senvcfg,
            Supervisor::Sstateen0 => self.sstateen0,
            Supervisor::Ssp => self.ssp,
            Supervisor::Siselect => self.siselect,
            Supervisor::Iprio1 => self.iprio1,
            Supervisor::Iprio2 => self.iprio2,
        }
    }

    /// Writes `csr` as the guest would: bits that are no field of the register are dropped, and an
    /// illegal value of a field becomes a legal one.
    pub(crate) fn set(&mut self, csr: Supervisor, value: usize, limits: Limits<'_>) {
        match csr {
            Supervisor::Sstatus => self.sstatus = sstatus(value, limits.isa.effective()),
            Supervisor::Sie => self.sie = value & interrupts(limits.isa.effective()),
            // Modes 2 and 3 are reserved.
            Supervisor::Stvec => self.stvec = value & !0b10,
            Supervisor::Sscratch => self.sscratch = value,
            Supervisor::Sepc => self.sepc = value & INSN_ADDRESS,
            // The register holds any value.
            Supervisor::Scause => self.scause = value,
            Supervisor::Stval => self.stval = value,
            // A write with an unsupported mode has no effect.
            Supervisor::Satp if !limits.satp_modes.has(value) => {}
            Supervisor::Satp => self.satp = value,
            Supervisor::Scounteren => self.scounteren = value & u32::MAX as usize,
            Supervisor::Senvcfg => self.senvcfg = senvcfg(value, limits.isa.effective()),
            Supervisor::Sstateen0 => self.sstateen0 = value & SSTATEEN0,
            Supervisor::Ssp => self.ssp = value & SSP,
            Supervisor::Siselect => self.siselect = value & SISELECT,
            Supervisor::Iprio1 => self.iprio1 = value & IPRIO1,
            Supervisor::Iprio2 => self.iprio2 = value & IPRIO2,
        }
    }

    /// Clears the fields that a guest with `isa` does not have: userspace may choose extensions
    /// after it has written registers.
    pub(crate) fn confine(&mut self, isa: EffectiveIsa) {
        self.sstatus = sstatus(self.sstatus, isa);
        self.sie &= interrupts(isa);
        self.senvcfg = senvcfg(self.senvcfg, isa);
    }

    /// Loads the registers into a CPU that has held another vCPU's values. All but `hvip` and
    /// `sie`, and those of the AIA.
    ///
    /// Hardware may ignore a write of an illegal value, and would keep the other vCPU's value: so
    /// zero, which every register can hold, is written first.
    pub(crate) fn load(&self, regs: &impl Registers) {
        regs.replace(csr::VSSTATUS, self.sstatus);
        regs.replace(csr::VSTVEC, self.stvec);
        regs.write(csr::VSSCRATCH, self.sscratch);
        regs.replace(csr::VSEPC, self.sepc);
        regs.replace(csr::VSCAUSE, self.scause);
        regs.replace(csr::VSTVAL, self.stval);
        regs.replace(csr::VSATP, self.satp);
    }

    /// Saves the registers that [`load`](Self::load) loads.
    pub(crate) fn save(&mut self, regs: &impl Registers) {
        self.sstatus = regs.read(csr::VSSTATUS);
        self.stvec = regs.read(csr::VSTVEC);
        self.sscratch = regs.read(csr::VSSCRATCH);
        self.sepc = regs.read(csr::VSEPC);
        self.scause = regs.read(csr::VSCAUSE);
        self.stval = regs.read(csr::VSTVAL);
        self.satp = regs.read(csr::VSATP);
    }

    /// Loads `siselect` and the priorities into a CPU that has held another vCPU's, and reads back
    /// what the hardware holds of the priorities.
    pub(crate) fn load_aia(&mut self, regs: &impl Registers) {
        regs.replace(csr::VSISELECT, self.siselect);
        regs.write(csr::HVIPRIO1, 0);
        regs.write(csr::HVIPRIO2, 0);
        self.load_priorities(regs);
    }

    /// Changes the priorities in memory and in the CPU.
    pub(crate) fn set_priorities(&mut self, regs: &impl Registers, priorities: [u64; 2]) {
        self.iprio1 = priorities[0] as usize & IPRIO1;
        self.iprio2 = priorities[1] as usize & IPRIO2;
        self.load_priorities(regs);
    }

    /// Writes the priorities to the CPU and keeps what it holds of them.
    fn load_priorities(&mut self, regs: &impl Registers) {
        self.iprio1 = regs.write_readback(csr::HVIPRIO1, self.iprio1);
        self.iprio2 = regs.write_readback(csr::HVIPRIO2, self.iprio2);
    }
}

/// Returns what `sstatus` holds of `value`: `UBE` and `XS` are fixed, and `SD` follows from `FS`
/// and `VS`.
fn sstatus(value: usize, isa: EffectiveIsa) -> usize {
    let mut fields =
        bindings::SR_SIE | bindings::SR_SPIE | bindings::SR_SPP | bindings::SR_SUM | SR_MXR;
    if isa.fp() != FpUnit::Off {
        fields |= bindings::SR_FS;
    }
    if isa.has_vector() {
        fields |= bindings::SR_VS;
    }
    if isa.has(Ext::Zicfilp) {
        fields |= bindings::SR_SPELP;
    }
    let uxl = match value & bindings::SR_UXL {
        bindings::SR_UXL_32 => bindings::SR_UXL_32,
        _ => UXL_64,
    };
    value & fields | uxl
}

/// Returns `sstatus.SD`, which is set if `FS` or `VS` is dirty.
fn summary(sstatus: usize) -> usize {
    let is_dirty = sstatus & bindings::SR_FS == bindings::SR_FS_DIRTY
        || sstatus & bindings::SR_VS == bindings::SR_VS_DIRTY;
    if is_dirty {
        bindings::SR_SD
    } else {
        0
    }
}

/// Returns the bits of `sip` and `sie` that a guest with `isa` has.
pub(crate) fn interrupts(isa: EffectiveIsa) -> usize {
    let mut interrupts =
        Interrupt::Software.bit() | Interrupt::Timer.bit() | Interrupt::External.bit();
    if isa.has(Ext::Sscofpmf) {
        interrupts |= Interrupt::CounterOverflow.bit();
    }
    to_guest(interrupts)
}

/// Returns what `senvcfg` holds of `value`; reserved values of a field become zero.
fn senvcfg(value: usize, isa: EffectiveIsa) -> usize {
    // `CBIE` has three legal values: no invalidation, by flush, or by invalidation.
    const CBIE_RESERVED: usize = 0b10 << ENVCFG_CBIE.trailing_zeros();
    // `PMM` has three legal values: pointer masking off, of 7 bits, or of 16 bits.
    const PMM_RESERVED: usize = 0b01 << ENVCFG_PMM.trailing_zeros();

    let mut fields = bindings::ENVCFG_FIOM;
    if isa.has(Ext::Zicbom) {
        fields |= bindings::ENVCFG_CBCFE;
        if value & ENVCFG_CBIE != CBIE_RESERVED {
            fields |= ENVCFG_CBIE;
        }
    }
    if isa.has(Ext::Zicboz) {
        fields |= bindings::ENVCFG_CBZE;
    }
    if isa.has(Ext::Zicfilp) {
        fields |= bindings::ENVCFG_LPE;
    }
    if isa.has(Ext::Zicfiss) {
        fields |= bindings::ENVCFG_SSE;
    }
    if isa.has(Ext::Ssnpm) && value & ENVCFG_PMM != PMM_RESERVED {
        fields |= ENVCFG_PMM;
    }
    value & fields
}

// Constants of C helpers come as whatever integer bindgen makes of them, maybe a signed one.
const ENVCFG_CBIE: usize = bindings::ENVCFG_CBIE;
const ENVCFG_PMM: usize = bindings::ENVCFG_PMM;
