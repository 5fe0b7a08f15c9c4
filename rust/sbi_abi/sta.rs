// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! The state of steal time: where it is reported, and how much has been reported.
//!
//! RISC-V Supervisor Binary Interface Specification 3.0, chapter "Steal-time Accounting
//! Extension". Answers to the state in `vcpu_sbi_sta.c`. A [`State`] is protected by `vcpu->mutex`.

use crate::kvm_core::addr::Gpa;

/// The area in which steal time is reported: aligned to its size, so that it is in one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Area(Gpa);

impl Area {
    /// How many bytes it has.
    pub(crate) const BYTES: usize = 64;

    /// Where `sequence` is in it, 32 bits: odd while the rest changes.
    pub(crate) const SEQUENCE: usize = 0;

    /// Where `steal` is in it, 64 bits: nanoseconds.
    pub(crate) const STEAL: usize = 8;

    /// Where `preempted` is in it. It is a byte; the seven after it are zero as well.
    pub(crate) const PREEMPTED: usize = 16;

    /// Returns the area at `gpa`, or [`None`] if that is not aligned to 64 bytes.
    pub(crate) const fn at(gpa: u64) -> Option<Self> {
        if gpa % Self::BYTES as u64 == 0 {
            Some(Self(Gpa::new(gpa)))
        } else {
            None
        }
    }

    /// Returns the area's address.
    pub(crate) const fn gpa(self) -> Gpa {
        self.0
    }
}

/// Returns the value that `sequence` has during a change, if it has `sequence` before. A guest that
/// has left an odd one there sees the change, too.
pub(crate) const fn changing(sequence: u32) -> u32 {
    sequence.wrapping_add(1) | 1
}

/// Returns the value after a change during which it was `changing`.
pub(crate) const fn changed(changing: u32) -> u32 {
    changing.wrapping_add(1)
}

/// How long a thread had been ready to run and was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunDelay {
    /// The thread; two threads that live at the same time have different numbers.
    pub(crate) thread: usize,
    /// How long, in nanoseconds.
    pub(crate) nanos: u64,
}

impl RunDelay {
    /// Returns the time in ns that was added since `earlier`; 0 if that was another thread, which
    /// the vCPU has left.
    pub(crate) const fn since(self, earlier: Self) -> u64 {
        if self.thread == earlier.thread {
            self.nanos.saturating_sub(earlier.nanos)
        } else {
            0
        }
    }
}

/// Steal time of one vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Not reported.
    Off,
    /// Userspace has set the area's address. Its contents stay, and the time that the vCPU waits
    /// from the next run on is added.
    Restored(Area),
    /// The area has all steal time up to this count.
    Reported(Area, RunDelay),
}

/// The error of [`State::set_low`]: the address is not aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Misaligned;

/// The address that stands for no area.
const NOWHERE: u64 = u64::MAX;

impl State {
    /// Returns where the area is, if there is one.
    pub(crate) const fn area(self) -> Option<Area> {
        match self {
            Self::Off => None,
            Self::Restored(area) | Self::Reported(area, _) => Some(area),
        }
    }

    /// Returns the low word of the area's address, as `KVM_GET_ONE_REG` wants it; all ones without
    /// one. The high word is always 0.
    pub(crate) const fn low(self) -> u64 {
        match self.area() {
            Some(area) => area.gpa().get(),
            None => NOWHERE,
        }
    }

    /// Sets the low word.
    ///
    /// # Errors
    ///
    /// [`Misaligned`] if no area can be there.
    pub(crate) fn set_low(&mut self, low: u64) -> Result<(), Misaligned> {
        if low != self.low() {
            *self = match low {
                NOWHERE => Self::Off,
                gpa => Self::Restored(Area::at(gpa).ok_or(Misaligned)?),
            };
        }
        Ok(())
    }
}
