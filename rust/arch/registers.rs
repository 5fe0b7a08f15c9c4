// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! The registers of a guest by name, and the trait for the two ways to access them.
//!
//! Answers to `ncsr_read()`, `ncsr_write()` and `ncsr_swap()` of `asm/kvm_nacl.h`. C decides at
//! each access which way to take. Here code that accesses registers is generic over [`Registers`],
//! and the way is chosen once for a batch of accesses: see
//! [`with_registers!`](crate::arch::nacl::with_registers).

use crate::{
    bindings as b,
    bindings, //
};

/// A register that only the guest can see the effect of.
///
/// Only the constants below are such registers, and a wrong value of none of them reaches the
/// host: each acts on accesses, traps and interrupts of virtualization modes alone.
/// [`delegate_to_guest`] and [`delegate_nothing`] write `hideleg`, which decides whether an
/// interrupt of the guest comes to the host instead.
#[derive(Clone, Copy)]
pub(crate) struct GuestCsr<const N: u32>(());

/// The guest registers of one CPU.
///
/// The user of a value is on that CPU, and the vCPU that the registers belong to is loaded there.
pub(crate) trait Registers {
    /// Reads the register.
    fn read<const N: u32>(&self, csr: GuestCsr<N>) -> usize;

    /// Writes the register.
    fn write<const N: u32>(&self, csr: GuestCsr<N>, value: usize);

    /// Writes the register so that no bit of its old value stays, even if the hardware ignores a
    /// write of `value`: it writes zero first, which every register accepts. In shared memory,
    /// where the last value alone counts, this is [`write`](Self::write).
    #[inline(always)]
    fn replace<const N: u32>(&self, csr: GuestCsr<N>, value: usize) {
        self.write(csr, 0);
        self.write(csr, value);
    }

    /// Writes the register and returns what it held.
    fn swap<const N: u32>(&self, csr: GuestCsr<N>, value: usize) -> usize;

    /// Writes the register and returns what it then holds: the CSR is WARL, so unimplemented bits
    /// read back as the hardware chooses.
    fn write_readback<const N: u32>(&self, csr: GuestCsr<N>, value: usize) -> usize;

    /// Reads `hgatp`.
    fn hgatp(&self) -> usize;

    /// Writes `hgatp`.
    ///
    /// # Safety
    ///
    /// The root that it names, and the tree below, stay what they are as long as it is there, or
    /// change as `gstage` lets them.
    unsafe fn set_hgatp(&self, value: usize);
}

pub(crate) const VSSTATUS: GuestCsr<{ b::CSR_VSSTATUS }> = GuestCsr(());
pub(crate) const VSIE: GuestCsr<{ b::CSR_VSIE }> = GuestCsr(());
pub(crate) const VSTVEC: GuestCsr<{ b::CSR_VSTVEC }> = GuestCsr(());
pub(crate) const VSSCRATCH: GuestCsr<{ b::CSR_VSSCRATCH }> = GuestCsr(());
pub(crate) const VSEPC: GuestCsr<{ b::CSR_VSEPC }> = GuestCsr(());
pub(crate) const VSCAUSE: GuestCsr<{ b::CSR_VSCAUSE }> = GuestCsr(());
pub(crate) const VSTVAL: GuestCsr<{ b::CSR_VSTVAL }> = GuestCsr(());
pub(crate) const VSATP: GuestCsr<{ b::CSR_VSATP }> = GuestCsr(());
pub(crate) const VSTIMECMP: GuestCsr<{ b::CSR_VSTIMECMP }> = GuestCsr(());
pub(crate) const HVIP: GuestCsr<{ b::CSR_HVIP }> = GuestCsr(());
pub(crate) const HTIMEDELTA: GuestCsr<{ b::CSR_HTIMEDELTA }> = GuestCsr(());
pub(crate) const HEDELEG: GuestCsr<{ b::CSR_HEDELEG }> = GuestCsr(());
const HIDELEG: GuestCsr<{ b::CSR_HIDELEG }> = GuestCsr(());
pub(crate) const HENVCFG: GuestCsr<{ b::CSR_HENVCFG }> = GuestCsr(());
pub(crate) const HSTATEEN0: GuestCsr<{ b::CSR_HSTATEEN0 }> = GuestCsr(());
pub(crate) const HCOUNTEREN: GuestCsr<{ b::CSR_HCOUNTEREN }> = GuestCsr(());
pub(crate) const HVICTL: GuestCsr<{ b::CSR_HVICTL }> = GuestCsr(());
pub(crate) const HVIEN: GuestCsr<{ b::CSR_HVIEN }> = GuestCsr(());
pub(crate) const HVIPRIO1: GuestCsr<{ b::CSR_HVIPRIO1 }> = GuestCsr(());
pub(crate) const HVIPRIO2: GuestCsr<{ b::CSR_HVIPRIO2 }> = GuestCsr(());
pub(crate) const VSISELECT: GuestCsr<{ b::CSR_VSISELECT }> = GuestCsr(());
pub(crate) const VSIREG: GuestCsr<{ b::CSR_VSIREG }> = GuestCsr(());
pub(crate) const HGEIP: GuestCsr<{ b::CSR_HGEIP }> = GuestCsr(());

/// Has the guest take the exceptions in `hedeleg` and its own interrupts.
#[inline(always)]
pub(crate) fn delegate_to_guest(regs: &impl Registers, hedeleg: u64) {
    const VS_INTERRUPTS: usize = 1 << b::IRQ_VS_SOFT | 1 << b::IRQ_VS_TIMER | 1 << b::IRQ_VS_EXT;

    regs.write(HEDELEG, hedeleg as usize);
    regs.write(HIDELEG, VS_INTERRUPTS);
}

/// Has no guest take anything: there is none. Its interrupts go first, since with `hideleg` clear
/// what is pending and enabled would interrupt the host.
pub(crate) fn delegate_nothing(regs: &impl Registers) {
    regs.write(VSIE, 0);
    regs.write(HVIP, 0);
    regs.write(HEDELEG, 0);
    regs.write(HIDELEG, 0);
}

/// The mode that the guest was in when it trapped, by rising privilege.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum GuestMode {
    /// VU: a program of the guest.
    User,
    /// VS: the guest's kernel.
    Supervisor,
}

impl GuestMode {
    /// Returns the mode that `sstatus.SPP` tells after a trap from the guest.
    pub(crate) const fn of_sstatus(sstatus: usize) -> Self {
        if sstatus & bindings::SR_SPP == 0 {
            Self::User
        } else {
            Self::Supervisor
        }
    }
}
