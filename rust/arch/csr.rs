// SPDX-License-Identifier: GPL-2.0

//! Control and status registers, one constant each.
//!
//! Two kinds, by what a wrong value can do. A [`GuestCsr`] only shapes what a guest sees while it
//! runs, so writing one is safe from anywhere. A [`HostCsr`] takes part in the host's own
//! translation, trap handling or privilege, so writing one is `unsafe`.
//!
//! Which vCPU the registers belong to is not this module's business: see
//! [`Resident`](crate::arch::resident::Resident).

use core::arch::asm;

use crate::bindings as b;

macro_rules! accessors {
    ($kind:ident, $($unsafety:ident)?, $safety:literal) => {
        impl<const N: u32> $kind<N> {
            /// Reads the register.
            #[inline(always)]
            pub(crate) fn read(self) -> usize {
                let value;
                // SAFETY: reading this register has no side effect.
                unsafe { asm!("csrr {}, {}", out(reg) value, const N, options(nomem, nostack)) };
                value
            }

            /// Writes the register.
            #[doc = $safety]
            #[inline(always)]
            pub(crate) $($unsafety)? fn write(self, value: usize) {
                // SAFETY: see the type for who vouches for the value.
                unsafe { asm!("csrw {}, {}", const N, in(reg) value, options(nostack)) };
            }

            /// Writes the register and returns what it held.
            #[doc = $safety]
            #[inline(always)]
            pub(crate) $($unsafety)? fn swap(self, value: usize) -> usize {
                let old;
                // SAFETY: see the type for who vouches for the value.
                unsafe {
                    asm!("csrrw {}, {}, {}", out(reg) old, const N, in(reg) value, options(nostack))
                };
                old
            }

            /// Sets the bits that are ones in `bits`.
            #[doc = $safety]
            #[inline(always)]
            pub(crate) $($unsafety)? fn set(self, bits: usize) {
                // SAFETY: see the type for who vouches for the value.
                unsafe { asm!("csrs {}, {}", const N, in(reg) bits, options(nostack)) };
            }

            /// Clears the bits that are ones in `bits`.
            #[doc = $safety]
            #[inline(always)]
            pub(crate) $($unsafety)? fn clear(self, bits: usize) {
                // SAFETY: see the type for who vouches for the value.
                unsafe { asm!("csrc {}, {}", const N, in(reg) bits, options(nostack)) };
            }
        }
    };
}

/// A register that only the guest can see the effect of.
#[derive(Clone, Copy)]
pub(crate) struct GuestCsr<const N: u32>;

/// A register that the host's own execution depends on.
#[derive(Clone, Copy)]
pub(crate) struct HostCsr<const N: u32>;

accessors!(GuestCsr, , "");
accessors!(
    HostCsr,
    unsafe,
    "\n\n# Safety\n\nThe host must be able to go on with the new value."
);

pub(crate) const VSSTATUS: GuestCsr<{ b::CSR_VSSTATUS }> = GuestCsr;
pub(crate) const VSIE: GuestCsr<{ b::CSR_VSIE }> = GuestCsr;
pub(crate) const VSTVEC: GuestCsr<{ b::CSR_VSTVEC }> = GuestCsr;
pub(crate) const VSSCRATCH: GuestCsr<{ b::CSR_VSSCRATCH }> = GuestCsr;
pub(crate) const VSEPC: GuestCsr<{ b::CSR_VSEPC }> = GuestCsr;
pub(crate) const VSCAUSE: GuestCsr<{ b::CSR_VSCAUSE }> = GuestCsr;
pub(crate) const VSTVAL: GuestCsr<{ b::CSR_VSTVAL }> = GuestCsr;
pub(crate) const VSATP: GuestCsr<{ b::CSR_VSATP }> = GuestCsr;
pub(crate) const VSTIMECMP: GuestCsr<{ b::CSR_VSTIMECMP }> = GuestCsr;
pub(crate) const HVIP: GuestCsr<{ b::CSR_HVIP }> = GuestCsr;
pub(crate) const HTIMEDELTA: GuestCsr<{ b::CSR_HTIMEDELTA }> = GuestCsr;
pub(crate) const HEDELEG: GuestCsr<{ b::CSR_HEDELEG }> = GuestCsr;
pub(crate) const HIDELEG: GuestCsr<{ b::CSR_HIDELEG }> = GuestCsr;
pub(crate) const HENVCFG: GuestCsr<{ b::CSR_HENVCFG }> = GuestCsr;
pub(crate) const HSTATEEN0: GuestCsr<{ b::CSR_HSTATEEN0 }> = GuestCsr;
pub(crate) const HCOUNTEREN: GuestCsr<{ b::CSR_HCOUNTEREN }> = GuestCsr;
pub(crate) const HVICTL: GuestCsr<{ b::CSR_HVICTL }> = GuestCsr;
pub(crate) const HVIEN: GuestCsr<{ b::CSR_HVIEN }> = GuestCsr;
pub(crate) const HVIPRIO1: GuestCsr<{ b::CSR_HVIPRIO1 }> = GuestCsr;
pub(crate) const HVIPRIO2: GuestCsr<{ b::CSR_HVIPRIO2 }> = GuestCsr;
pub(crate) const VSISELECT: GuestCsr<{ b::CSR_VSISELECT }> = GuestCsr;
pub(crate) const VSIREG: GuestCsr<{ b::CSR_VSIREG }> = GuestCsr;
pub(crate) const HGEIP: GuestCsr<{ b::CSR_HGEIP }> = GuestCsr;

pub(crate) const HIE: HostCsr<{ b::CSR_HIE }> = HostCsr;
pub(crate) const HGEIE: HostCsr<{ b::CSR_HGEIE }> = HostCsr;
pub(crate) const HGATP: HostCsr<{ b::CSR_HGATP }> = HostCsr;
pub(crate) const HSTATUS: HostCsr<{ b::CSR_HSTATUS }> = HostCsr;
pub(crate) const SCOUNTEREN: HostCsr<{ b::CSR_SCOUNTEREN }> = HostCsr;
pub(crate) const SENVCFG: HostCsr<{ b::CSR_SENVCFG }> = HostCsr;
pub(crate) const SSTATEEN0: HostCsr<{ b::CSR_SSTATEEN0 }> = HostCsr;
pub(crate) const SSP: HostCsr<{ b::CSR_SSP }> = HostCsr;
