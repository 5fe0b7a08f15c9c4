// SPDX-License-Identifier: GPL-2.0

//! Registers of the guest's integer unit, its supervisor, and its timer.
//!
//! Answers to the core and CSR parts of `vcpu_onereg.c`, and to the registers of `vcpu_timer.c`,
//! which keeps them in [`timer`](crate::vcpu::timer).

use core::mem::offset_of;

use kernel::prelude::*;

use super::table::View;
use crate::{
    bindings,
    vcpu::{
        gprs::Reg,
        timer::TimerReg,
        OwnedVcpu, //
    }, //
};

/// A register of `struct kvm_riscv_core`.
enum Core {
    Pc,
    Gpr(Reg),
    Mode,
}

const WORD: usize = size_of::<usize>();
const PC: usize = offset_of!(bindings::kvm_riscv_core, regs.pc) / WORD;
const MODE: usize = offset_of!(bindings::kvm_riscv_core, mode) / WORD;

/// pc has the number of x0, and x1 to x31 have their own.
const _: () = assert!(
    PC == 0
        && offset_of!(bindings::kvm_riscv_core, regs.ra) == WORD
        && offset_of!(bindings::kvm_riscv_core, regs.t6) == 31 * WORD
        && MODE == Reg::COUNT as usize
);

impl Core {
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
#[inline]
pub(super) fn get_core(vcpu: &mut View<'_, '_>, number: usize) -> Result<u64> {
    let ctx = &vcpu.owned.ctx;
    Ok(match Core::at(number)? {
        Core::Pc => ctx.sepc as u64,
        Core::Gpr(reg) => ctx.gprs.get(reg) as u64,
        Core::Mode if ctx.sstatus & bindings::SR_SPP != 0 => bindings::KVM_RISCV_MODE_S.into(),
        Core::Mode => bindings::KVM_RISCV_MODE_U.into(),
    })
}

/// Writes a register of the integer unit. Any mode but supervisor mode is user mode, as it has
/// always been.
pub(super) fn set_core(vcpu: &mut OwnedVcpu<'_>, number: usize, value: u64) -> Result {
    const SUPERVISOR: u64 = bindings::KVM_RISCV_MODE_S as u64;

    let ctx = &mut vcpu.owned.ctx;
    match (Core::at(number)?, value) {
        (Core::Pc, value) => ctx.sepc = value as usize,
        (Core::Gpr(reg), value) => ctx.gprs.set(reg, value as usize),
        (Core::Mode, SUPERVISOR) => ctx.sstatus |= bindings::SR_SPP,
        (Core::Mode, _) => ctx.sstatus &= !bindings::SR_SPP,
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

/// Reads a supervisor register.
pub(super) fn get_csr(vcpu: &mut View<'_, '_>, number: usize) -> Result<u64> {
    let csr = Csr::at(number)?;
    let sip = vcpu.sip();
    let csrs = &vcpu.resident().csrs;
    let value = match csr {
        Csr::Sstatus => csrs.sstatus,
        Csr::Sie => csrs.sie,
        Csr::Stvec => csrs.stvec,
        Csr::Sscratch => csrs.sscratch,
        Csr::Sepc => csrs.sepc,
        Csr::Scause => csrs.scause,
        Csr::Stval => csrs.stval,
        Csr::Sip => sip,
        Csr::Satp => csrs.satp,
        Csr::Scounteren => csrs.scounteren,
        Csr::Senvcfg => csrs.senvcfg,
    };
    Ok(value as u64)
}

/// Writes a supervisor register. What the hardware does not take of it, reads will tell.
pub(super) fn set_csr(vcpu: &mut OwnedVcpu<'_>, number: usize, value: u64) -> Result {
    let csr = Csr::at(number)?;
    let value = value as usize;
    let csrs = &mut vcpu.resident().csrs;
    match csr {
        Csr::Sstatus => csrs.sstatus = value,
        Csr::Sie => {
            csrs.sie = value;
            // Who asks whether the vCPU can go on looks there (c-review M12).
            vcpu.vcpu.shared().irqs.set_enabled(value);
        }
        Csr::Stvec => csrs.stvec = value,
        Csr::Sscratch => csrs.sscratch = value,
        Csr::Sepc => csrs.sepc = value,
        Csr::Scause => csrs.scause = value,
        Csr::Stval => csrs.stval = value,
        Csr::Sip => vcpu.set_sip(value),
        Csr::Satp => csrs.satp = value,
        Csr::Scounteren => csrs.scounteren = value,
        Csr::Senvcfg => csrs.senvcfg = value,
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

/// Reads a register of Ssaia.
pub(super) fn get_aia(vcpu: &mut View<'_, '_>, number: usize) -> Result<u64> {
    let csrs = &vcpu.resident().csrs;
    let value = match Aia::at(number)? {
        Aia::Siselect => csrs.siselect,
        Aia::Iprio1 => csrs.iprio1,
        Aia::Iprio2 => csrs.iprio2,
        Aia::Sieh | Aia::Siph | Aia::Iprio1h | Aia::Iprio2h => 0,
    };
    Ok(value as u64)
}

/// Writes a register of Ssaia. What the hardware does not take of it, reads will tell.
pub(super) fn set_aia(vcpu: &mut OwnedVcpu<'_>, number: usize, value: u64) -> Result {
    let csrs = &mut vcpu.resident().csrs;
    let value = value as usize;
    match Aia::at(number)? {
        Aia::Siselect => csrs.siselect = value,
        Aia::Iprio1 => csrs.iprio1 = value,
        Aia::Iprio2 => csrs.iprio2 = value,
        Aia::Sieh | Aia::Siph | Aia::Iprio1h | Aia::Iprio2h => {}
    }
    Ok(())
}

members! {
    /// A register of `struct kvm_riscv_smstateen_csr`.
    enum Smstateen of kvm_riscv_smstateen_csr {
        Sstateen0(sstateen0),
    }
}

/// Reads a register of Smstateen.
pub(super) fn get_sstateen(vcpu: &mut View<'_, '_>, number: usize) -> Result<u64> {
    let csrs = &vcpu.resident().csrs;
    match Smstateen::at(number)? {
        Smstateen::Sstateen0 => Ok(csrs.sstateen0 as u64),
    }
}

/// Writes a register of Smstateen.
pub(super) fn set_sstateen(vcpu: &mut OwnedVcpu<'_>, number: usize, value: u64) -> Result {
    let csrs = &mut vcpu.resident().csrs;
    match Smstateen::at(number)? {
        Smstateen::Sstateen0 => csrs.sstateen0 = value as usize,
    }
    Ok(())
}

members! {
    /// A register of `struct kvm_riscv_zicfiss_csr`.
    enum Zicfiss of kvm_riscv_zicfiss_csr {
        Ssp(ssp),
    }
}

/// Reads a register of Zicfiss.
pub(super) fn get_ssp(vcpu: &mut View<'_, '_>, number: usize) -> Result<u64> {
    let csrs = &vcpu.resident().csrs;
    match Zicfiss::at(number)? {
        Zicfiss::Ssp => Ok(csrs.ssp as u64),
    }
}

/// Writes a register of Zicfiss.
pub(super) fn set_ssp(vcpu: &mut OwnedVcpu<'_>, number: usize, value: u64) -> Result {
    let csrs = &mut vcpu.resident().csrs;
    match Zicfiss::at(number)? {
        Zicfiss::Ssp => csrs.ssp = value as usize,
    }
    Ok(())
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
pub(super) fn get_timer(vcpu: &mut View<'_, '_>, number: usize) -> Result<u64> {
    Ok(vcpu.timer_reg(Timer::at(number)?.into()))
}

/// Writes a register of the timer.
pub(super) fn set_timer(vcpu: &mut OwnedVcpu<'_>, number: usize, value: u64) -> Result {
    vcpu.set_timer_reg(Timer::at(number)?.into(), value)
}
