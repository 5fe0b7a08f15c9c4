// SPDX-License-Identifier: GPL-2.0

//! Control and status registers, one constant each.
//!
//! Two kinds, by what a wrong value can do. A [`GuestCsr`] only shapes what a guest sees while it
//! runs, so writing one is safe from anywhere. A [`HostCsr`] takes part in the host's own
//! translation, trap handling or privilege, so writing one is `unsafe`.
//!
//! There are two ways to the former, see [`Registers`]; the one that needs no help is [`Direct`].
//!
//! Which vCPU the registers belong to is not this module's business: see
//! [`CpuContext`](crate::vcpu::context::CpuContext).

use core::arch::asm;

use kernel::prelude::*;

use crate::bindings as b;

pub(crate) use crate::arch::registers::*;

/// The registers of this CPU itself.
///
/// Named where they are meant even if the hypervisor below us has a faster way to them: with
/// guests out of the way, or for what the guest is not to see. All else goes by
/// [`with_registers!`](crate::arch::nacl::with_registers).
pub(crate) struct Direct;

/// A register that the host's own execution depends on.
#[derive(Clone, Copy)]
pub(crate) struct HostCsr<const N: u32>(());

impl Direct {
    /// Sets the bits of the register that are ones in `bits`.
    #[inline(always)]
    pub(crate) fn set<const N: u32>(&self, _csr: GuestCsr<N>, bits: usize) {
        // SAFETY: By the contract of `GuestCsr` only a guest sees the effect of the write.
        unsafe { asm!("csrs {}, {}", const N, in(reg) bits, options(nostack)) };
    }

    /// Clears the bits of the register that are ones in `bits`.
    #[inline(always)]
    pub(crate) fn clear<const N: u32>(&self, _csr: GuestCsr<N>, bits: usize) {
        // SAFETY: By the contract of `GuestCsr` only a guest sees the effect of the write.
        unsafe { asm!("csrc {}, {}", const N, in(reg) bits, options(nostack)) };
    }
}

impl Registers for Direct {
    #[inline(always)]
    fn read<const N: u32>(&self, _csr: GuestCsr<N>) -> usize {
        let value;
        // SAFETY: The instruction only reads the register, which has no side effect.
        unsafe { asm!("csrr {}, {}", out(reg) value, const N, options(nomem, nostack)) };
        value
    }

    #[inline(always)]
    fn write<const N: u32>(&self, _csr: GuestCsr<N>, value: usize) {
        // SAFETY: By the contract of `GuestCsr` only a guest sees the effect of the write.
        unsafe { asm!("csrw {}, {}", const N, in(reg) value, options(nostack)) };
    }

    #[inline(always)]
    fn swap<const N: u32>(&self, _csr: GuestCsr<N>, value: usize) -> usize {
        let old;
        // SAFETY: By the contract of `GuestCsr` only a guest sees the effect of the write.
        unsafe { asm!("csrrw {}, {}, {}", out(reg) old, const N, in(reg) value, options(nostack)) };
        old
    }

    #[inline(always)]
    fn write_readback<const N: u32>(&self, csr: GuestCsr<N>, value: usize) -> usize {
        self.write(csr, value);
        self.read(csr)
    }

    #[inline(always)]
    fn hgatp(&self) -> usize {
        HGATP.read()
    }

    #[inline(always)]
    unsafe fn set_hgatp(&self, value: usize) {
        // SAFETY: `hgatp` translates only accesses of guests and the host's accesses on their
        // behalf. The caller ensures that the tree stays as it is while `hgatp` names it, or
        // changes as `gstage` lets it.
        unsafe { HGATP.write(value) };
    }
}

impl<const N: u32> HostCsr<N> {
    /// Reads the register.
    #[inline(always)]
    pub(crate) fn read(self) -> usize {
        let value;
        // SAFETY: The instruction only reads the register, which has no side effect.
        unsafe { asm!("csrr {}, {}", out(reg) value, const N, options(nomem, nostack)) };
        value
    }

    /// Writes the register.
    ///
    /// # Safety
    ///
    /// The host must be able to go on with the new value.
    #[inline(always)]
    pub(crate) unsafe fn write(self, value: usize) {
        // SAFETY: The caller ensures that the host can go on with the new value.
        unsafe { asm!("csrw {}, {}", const N, in(reg) value, options(nostack)) };
    }

    /// Writes the register and returns what it held.
    ///
    /// # Safety
    ///
    /// The host must be able to go on with the new value.
    #[inline(always)]
    pub(crate) unsafe fn swap(self, value: usize) -> usize {
        let old;
        // SAFETY: The caller ensures that the host can go on with the new value.
        unsafe { asm!("csrrw {}, {}, {}", out(reg) old, const N, in(reg) value, options(nostack)) };
        old
    }

    /// Sets the bits that are ones in `bits`.
    ///
    /// # Safety
    ///
    /// The host must be able to go on with the new value.
    #[inline(always)]
    pub(crate) unsafe fn set(self, bits: usize) {
        // SAFETY: The caller ensures that the host can go on with the new value.
        unsafe { asm!("csrs {}, {}", const N, in(reg) bits, options(nostack)) };
    }

    /// Clears the bits that are ones in `bits`.
    ///
    /// # Safety
    ///
    /// The host must be able to go on with the new value.
    #[inline(always)]
    pub(crate) unsafe fn clear(self, bits: usize) {
        // SAFETY: The caller ensures that the host can go on with the new value.
        unsafe { asm!("csrc {}, {}", const N, in(reg) bits, options(nostack)) };
    }
}

pub(crate) const HIE: HostCsr<{ b::CSR_HIE }> = HostCsr(());
pub(crate) const HGEIE: HostCsr<{ b::CSR_HGEIE }> = HostCsr(());
pub(crate) const HGATP: HostCsr<{ b::CSR_HGATP }> = HostCsr(());
pub(crate) const HSTATUS: HostCsr<{ b::CSR_HSTATUS }> = HostCsr(());
pub(crate) const SCOUNTEREN: HostCsr<{ b::CSR_SCOUNTEREN }> = HostCsr(());
pub(crate) const SENVCFG: HostCsr<{ b::CSR_SENVCFG }> = HostCsr(());
pub(crate) const SSTATEEN0: HostCsr<{ b::CSR_SSTATEEN0 }> = HostCsr(());
pub(crate) const SSP: HostCsr<{ b::CSR_SSP }> = HostCsr(());

/// No vCPU is loaded in the thread that runs these.
#[kunit_tests(kvm_riscv_csr)]
mod tests {
    use super::*;
    use crate::kernel_ext::context::PreemptOff;

    /// Writes `value` and gives what `csr` holds then, and what it held before, which is put back.
    fn write<const N: u32>(csr: GuestCsr<N>, value: usize) -> (usize, usize) {
        let _here = PreemptOff::new();
        let before = Direct.swap(csr, value);
        let now = Direct.read(csr);
        let swapped = Direct.swap(csr, before);
        // Both ways of reading agree, or the first is given twice.
        (now, if swapped == now { before } else { now })
    }

    #[test]
    fn guest_register_holds_what_is_written() {
        for value in [0, usize::MAX, 0x0123_4567_89ab_cdef] {
            assert_eq!(write(VSSCRATCH, value).0, value);
            assert_eq!(write(VSTVAL, value).0, value);
            assert_eq!(write(HTIMEDELTA, value).0, value);
        }
    }

    #[test]
    fn guest_register_is_put_back() {
        let (_, before) = write(VSSCRATCH, 1);
        assert_eq!(write(VSSCRATCH, 2).1, before);
    }

    /// There is no translation of format 1.
    #[test]
    fn write_readback_tells_what_does_not_fit() {
        const RESERVED: usize = 1 << 60;
        const SV39: usize = 8 << 60;

        let preempt = PreemptOff::new();
        let before = Direct.swap(VSATP, 0);
        let reserved = Direct.write_readback(VSATP, RESERVED);
        let known = Direct.write_readback(VSATP, SV39);
        Direct.write(VSATP, before);
        drop(preempt);
        assert!(reserved != RESERVED);
        assert_eq!(known, SV39);
    }

    #[test]
    fn bits_are_set_and_cleared() {
        let preempt = PreemptOff::new();
        let before = Direct.swap(VSSCRATCH, 0b1100);
        Direct.set(VSSCRATCH, 0b0110);
        let set = Direct.read(VSSCRATCH);
        Direct.clear(VSSCRATCH, 0b1010);
        let cleared = Direct.swap(VSSCRATCH, before);
        drop(preempt);
        assert_eq!(set, 0b1110);
        assert_eq!(cleared, 0b0100);
    }
}
