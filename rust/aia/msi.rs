// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! Message-signalled interrupts of the AIA: their targets and their outcome.
//!
//! An interrupt file is named by the index of its hart and, for guest files, by a guest index; an
//! interrupt within it by its identity.

/// The number of a hart among the targets of MSIs: group index and hart index in one, as the
/// `target` registers of an APLIC have it. Not the hart id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HartIndex(u32);

impl HartIndex {
    /// Names the hart with index `index`.
    pub(crate) const fn new(index: u32) -> Self {
        Self(index)
    }

    /// Returns the index as a number.
    pub(crate) const fn get(self) -> u32 {
        self.0
    }
}

/// Which interrupt file of a hart: 0 is the supervisor's own, and each other one is a guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GuestIndex(u32);

impl GuestIndex {
    /// The supervisor's own file.
    pub(crate) const SUPERVISOR: Self = Self(0);

    /// Names the file with guest index `index`.
    pub(crate) const fn new(index: u32) -> Self {
        Self(index)
    }
}

/// An MSI on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Msi {
    /// The hart that it goes to.
    pub(crate) hart: HartIndex,
    /// The file of that hart.
    pub(crate) guest: GuestIndex,
    /// The identity, as the sender wrote it: 0 is none, and the file may lack it.
    pub(crate) id: u32,
}

/// The outcome of an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Delivery {
    /// The interrupt is pending at its target.
    Delivered,
    /// The guest has disabled or masked it, so it has no effect.
    Blocked,
    /// The interrupt cannot be delivered in this context; the caller must repeat it in one that may
    /// sleep.
    Defer,
}

/// The level of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// The level 0.
    Low,
    /// The level 1.
    High,
}

/// A receiver of MSIs.
pub(crate) trait MsiSink {
    /// Sends an MSI.
    fn send(&mut self, msi: Msi) -> Delivery;
}

impl<F: FnMut(Msi) -> Delivery> MsiSink for F {
    fn send(&mut self, msi: Msi) -> Delivery {
        self(msi)
    }
}
