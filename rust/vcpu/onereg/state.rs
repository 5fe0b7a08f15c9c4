// SPDX-License-Identifier: GPL-2.0

//! Registers of the guest's integer unit, its supervisor, and its timer.
//!
//! Answers to the core and CSR parts of `vcpu_onereg.c`, and to the registers of `vcpu_timer.c`,
//! which keeps them in [`timer`](crate::vcpu::timer).

use core::mem::offset_of;

use kernel::prelude::*;

use crate::{
    arch::{
        gprs::Reg,
        registers::GuestMode,
        supervisor::{
            Limits,
            Supervisor, //
        }, //
    },
    bindings,
    vcpu::{
        host,
        onereg::table::View,
        timer::TimerReg,
        token::OwnedVcpu, //
    }, //
};

/// A register of `struct kvm_riscv_core`.
enum Core {
    Pc,
    Gpr(Reg),
    Mode,
}

/// The size of a register of `struct kvm_riscv_core`, in bytes.
const WORD: usize = size_of::<usize>();
/// The number of pc.
const PC: usize = offset_of!(bindings::kvm_riscv_core, regs.pc) / WORD;
/// The number of the mode.
const MODE: usize = offset_of!(bindings::kvm_riscv_core, mode) / WORD;

/// pc has the number of x0, and x1 to x31 have their own.
const _: () = assert!(
    PC == 0
        && offset_of!(bindings::kvm_riscv_core, regs.ra) == WORD
        && offset_of!(bindings::kvm_riscv_core, regs.t6) == 31 * WORD
        && MODE == Reg::COUNT as usize
);

impl Core {
    /// Returns the register with this number; `ENOENT` if there is none.
    #[inline]
    fn at(number: usize) -> Result<Self> {
        match number {
            PC => Ok(Self::Pc),
            MODE => Ok(Self::Mode),
            number => u8::try_from(number)
                .ok()
                .and_then(Reg::new)
                .map(Self::Gpr)
                .ok_or(ENOENT),
        }
    }
}

/// Reads a register of the integer unit.
///
/// # Errors
///
/// `ENOENT` if there is no such register.
#[inline]
pub(super) fn get_core(vcpu: &mut View<'_, '_>, number: usize) -> Result<u64> {
    let ctx = &vcpu.ctx;
    Ok(match Core::at(number)? {
        Core::Pc => ctx.pc() as u64,
        Core::Gpr(reg) => ctx.gprs.get(reg) as u64,
        Core::Mode => match ctx.mode() {
            GuestMode::Supervisor => bindings::KVM_RISCV_MODE_S.into(),
            GuestMode::User => bindings::KVM_RISCV_MODE_U.into(),
        },
    })
}

/// Writes a register of the integer unit. Any mode but supervisor mode is user mode, as it has
/// always been.
///
/// # Errors
///
/// `ENOENT` if there is no such register.
pub(super) fn set_core(vcpu: &mut OwnedVcpu<'_>, number: usize, value: u64) -> Result {
    const SUPERVISOR: u64 = bindings::KVM_RISCV_MODE_S as u64;

    let ctx = &mut vcpu.ctx;
    match (Core::at(number)?, value) {
        (Core::Pc, value) => ctx.set_pc(value as usize),
        (Core::Gpr(reg), value) => ctx.gprs.set(reg, value as usize),
        (Core::Mode, SUPERVISOR) => ctx.set_mode(GuestMode::Supervisor),
        (Core::Mode, _) => ctx.set_mode(GuestMode::User),
    }
    Ok(())
}

members! {
    /// A register of `struct kvm_riscv_csr`.
    enum Csr of kvm_riscv_csr {
        Sstatus(sstatus),
        Sie(sie),
        Stvec(stvec),
        Sscratch(sscratch),
        Sepc(sepc),
        Scause(scause),
        Stval(stval),
        Sip(sip),
        Satp(satp),
        Scounteren(scounteren),
        Senvcfg(senvcfg),
    }
}

impl Csr {
    /// Returns the register, unless it is `sip`, which is more than a value.
    fn supervisor(self) -> Option<Supervisor> {
        Some(match self {
            Self::Sstatus => Supervisor::Sstatus,
            Self::Sie => Supervisor::Sie,
            Self::Stvec => Supervisor::Stvec,
            Self::Sscratch => Supervisor::Sscratch,
            Self::Sepc => Supervisor::Sepc,
            Self::Scause => Supervisor::Scause,
            Self::Stval => Supervisor::Stval,
            Self::Sip => return None,
            Self::Satp => Supervisor::Satp,
            Self::Scounteren => Supervisor::Scounteren,
            Self::Senvcfg => Supervisor::Senvcfg,
        })
    }
}

/// Reads a supervisor register.
///
/// # Errors
///
/// `ENOENT` if there is no such register.
pub(super) fn get_csr(vcpu: &mut View<'_, '_>, number: usize) -> Result<u64> {
    Ok(match Csr::at(number)?.supervisor() {
        Some(csr) => vcpu.context().csrs.get(csr) as u64,
        None => vcpu.sip() as u64,
    })
}

/// Writes a supervisor register. What it cannot hold of `value` is dropped; reads tell what is
/// left.
///
/// # Errors
///
/// `ENOENT` if there is no such register.
pub(super) fn set_csr(vcpu: &mut OwnedVcpu<'_>, number: usize, value: u64) -> Result {
    match Csr::at(number)?.supervisor() {
        Some(csr) => restore(vcpu, csr, value),
        None => {
            vcpu.set_sip(value as usize);
            Ok(())
        }
    }
}

/// Writes a register that is only a value. The caller has the vCPU, which is not loaded.
fn restore(vcpu: &mut OwnedVcpu<'_>, csr: Supervisor, value: u64) -> Result {
    let satp_modes = host::get().ok_or(ENODEV)?.satp_modes;
    let (inner, context) = vcpu.split();
    let limits = Limits {
        isa: &inner.isa,
        satp_modes,
    };
    context.csrs.set(csr, value as usize, limits);
    if csr == Supervisor::Sie {
        let sie = context.csrs.get(csr);
        // What a vCPU that blocks waits for is looked up there (differences-from-c M12).
        vcpu.vcpu().shared().irqs.set_enabled(sie);
    }
    Ok(())
}

members! {
    /// A register of `struct kvm_riscv_aia_csr`.
    enum Aia of kvm_riscv_aia_csr {
        Siselect(siselect),
        Iprio1(iprio1),
        Iprio2(iprio2),
        // Upper halves for harts of 32 bits: zero.
        Sieh(sieh),
        Siph(siph),
        Iprio1h(iprio1h),
        Iprio2h(iprio2h),
    }
}

impl Aia {
    /// Returns the register, unless it is one that is zero.
    fn supervisor(self) -> Option<Supervisor> {
        match self {
            Self::Siselect => Some(Supervisor::Siselect),
            Self::Iprio1 => Some(Supervisor::Iprio1),
            Self::Iprio2 => Some(Supervisor::Iprio2),
            Self::Sieh | Self::Siph | Self::Iprio1h | Self::Iprio2h => None,
        }
    }
}

/// Reads a register of Ssaia.
///
/// # Errors
///
/// `ENOENT` if there is no such register.
pub(super) fn get_aia(vcpu: &mut View<'_, '_>, number: usize) -> Result<u64> {
    let csr = Aia::at(number)?.supervisor();
    Ok(csr.map_or(0, |csr| vcpu.context().csrs.get(csr) as u64))
}

/// Writes a register of Ssaia, as [`set_csr`].
///
/// # Errors
///
/// `ENOENT` if there is no such register.
pub(super) fn set_aia(vcpu: &mut OwnedVcpu<'_>, number: usize, value: u64) -> Result {
    match Aia::at(number)?.supervisor() {
        Some(csr) => restore(vcpu, csr, value),
        None => Ok(()),
    }
}

members! {
    /// A register of `struct kvm_riscv_smstateen_csr`.
    enum Smstateen of kvm_riscv_smstateen_csr {
        Sstateen0(sstateen0),
    }
}

/// Reads a register of Smstateen.
///
/// # Errors
///
/// `ENOENT` if there is no such register.
pub(super) fn get_sstateen(vcpu: &mut View<'_, '_>, number: usize) -> Result<u64> {
    match Smstateen::at(number)? {
        Smstateen::Sstateen0 => Ok(vcpu.context().csrs.get(Supervisor::Sstateen0) as u64),
    }
}

/// Writes a register of Smstateen, as [`set_csr`].
///
/// # Errors
///
/// `ENOENT` if there is no such register.
pub(super) fn set_sstateen(vcpu: &mut OwnedVcpu<'_>, number: usize, value: u64) -> Result {
    match Smstateen::at(number)? {
        Smstateen::Sstateen0 => restore(vcpu, Supervisor::Sstateen0, value),
    }
}

members! {
    /// A register of `struct kvm_riscv_zicfiss_csr`.
    enum Zicfiss of kvm_riscv_zicfiss_csr {
        Ssp(ssp),
    }
}

/// Reads a register of Zicfiss.
///
/// # Errors
///
/// `ENOENT` if there is no such register.
pub(super) fn get_ssp(vcpu: &mut View<'_, '_>, number: usize) -> Result<u64> {
    match Zicfiss::at(number)? {
        Zicfiss::Ssp => Ok(vcpu.context().csrs.get(Supervisor::Ssp) as u64),
    }
}

/// Writes a register of Zicfiss, as [`set_csr`].
///
/// # Errors
///
/// `ENOENT` if there is no such register.
pub(super) fn set_ssp(vcpu: &mut OwnedVcpu<'_>, number: usize, value: u64) -> Result {
    match Zicfiss::at(number)? {
        Zicfiss::Ssp => restore(vcpu, Supervisor::Ssp, value),
    }
}

members! {
    /// A register of `struct kvm_riscv_timer`.
    enum Timer of kvm_riscv_timer {
        Frequency(frequency),
        Time(time),
        Compare(compare),
        State(state),
    }
}

impl From<Timer> for TimerReg {
    fn from(reg: Timer) -> Self {
        match reg {
            Timer::Frequency => Self::Frequency,
            Timer::Time => Self::Time,
            Timer::Compare => Self::Compare,
            Timer::State => Self::State,
        }
    }
}

/// Reads a register of the timer.
///
/// # Errors
///
/// `ENOENT` if there is no such register.
pub(super) fn get_timer(vcpu: &mut View<'_, '_>, number: usize) -> Result<u64> {
    Ok(vcpu.timer_reg(Timer::at(number)?.into()))
}

/// Writes a register of the timer.
///
/// # Errors
///
/// `ENOENT` if there is no such register; `EINVAL` for another frequency than the host's, or an
/// unknown state.
pub(super) fn set_timer(vcpu: &mut OwnedVcpu<'_>, number: usize, value: u64) -> Result {
    vcpu.set_timer_reg(Timer::at(number)?.into(), value)
}
