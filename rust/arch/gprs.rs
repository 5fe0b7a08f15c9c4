// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! The guest's integer registers.
//!
//! [`Gprs`] owns the values of x1 to x31 while the guest is not running; the world switch loads
//! them from it and stores them to it, at eight times the register number. The thread that holds
//! the vCPU owns it: there is no lock of its own. It answers to the first 32 words of
//! `struct kvm_cpu_context` and to the register macros of `asm/insn.h`.
//!
//! x0 has a slot only so that the number is the index. Nothing can put a value there, so neither
//! an emulated load nor a CSR read with `rd` = x0 can be seen by a later instruction.

use kernel::num::Bounded;

/// The number of an integer register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reg(u8);

impl Reg {
    /// The stack pointer.
    pub(crate) const SP: Self = Self(2);
    /// First argument and return value of a call.
    pub(crate) const A0: Self = Self(10);
    /// Second argument and return value of a call.
    pub(crate) const A1: Self = Self(11);
    /// Third argument of a call.
    pub(crate) const A2: Self = Self(12);
    /// Fourth argument of a call.
    pub(crate) const A3: Self = Self(13);
    /// Fifth argument of a call.
    pub(crate) const A4: Self = Self(14);
    /// Sixth argument of a call.
    pub(crate) const A5: Self = Self(15);
    /// SBI function id.
    pub(crate) const A6: Self = Self(16);
    /// SBI extension id.
    pub(crate) const A7: Self = Self(17);

    /// Number of integer registers, x0 included.
    pub(crate) const COUNT: u8 = 32;

    /// Returns the register with this number, or [`None`] if there is none.
    pub(crate) const fn new(number: u8) -> Option<Self> {
        if number < Self::COUNT {
            Some(Self(number))
        } else {
            None
        }
    }

    /// Returns the register that a three-bit field of a compressed instruction names: x8 to x15.
    pub(crate) fn popular(field: Bounded<u16, 3>) -> Self {
        Self(u8::from(field) | 8)
    }

    /// Returns whether this is x0, which reads as zero and discards what is written.
    pub(crate) const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Returns the register's position in [`Gprs`].
    ///
    /// The mask changes no value. It lets the compiler see that the index is in bounds, and keeps
    /// it there when a number that a guest chose is used speculatively.
    const fn slot(self) -> usize {
        (self.0 & (Self::COUNT - 1)) as usize
    }
}

impl From<Bounded<u32, 5>> for Reg {
    fn from(field: Bounded<u32, 5>) -> Self {
        Self(u8::from(field))
    }
}

impl From<Bounded<u16, 5>> for Reg {
    fn from(field: Bounded<u16, 5>) -> Self {
        Self(u8::from(field))
    }
}

/// The guest's integer registers, in the layout that the world switch uses.
///
/// # Invariants
///
/// The first word is zero.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Gprs([usize; Reg::COUNT as usize]);

/// The world switch addresses register `n` at byte `8 * n`.
const _: () = assert!(size_of::<Gprs>() == 8 * Reg::COUNT as usize);

impl Gprs {
    /// Returns registers that all hold zero.
    pub(crate) const fn zeroed() -> Self {
        // INVARIANT: All words are zero, so the first is.
        Self([0; Reg::COUNT as usize])
    }

    /// Returns the value of `reg`.
    pub(crate) const fn get(&self, reg: Reg) -> usize {
        self.0[reg.slot()]
    }

    /// Sets `reg` to `value`; for x0 this does nothing.
    pub(crate) const fn set(&mut self, reg: Reg, value: usize) {
        self.0[reg.slot()] = value;
        // INVARIANT: Whichever register was written, the first word is zero again. An
        // unconditional store leaves nothing to mispredict.
        self.0[0] = 0;
    }
}
