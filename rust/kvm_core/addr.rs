// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! Addresses and numbers, each with a type of its own.
//!
//! No bare integer crosses a function boundary with a meaning: mixing up a guest frame and a host
//! frame, or a hart id and a vCPU index, does not compile. This file is pure: it also compiles on
//! the host (`selftests/host`). It has no counterpart in the C module, which uses `gpa_t`,
//! `gfn_t`, `phys_addr_t` and plain integers.

use core::fmt;

/// log2 of the size of a frame, in bytes: both stages use 4 KiB.
pub(crate) const PAGE_SHIFT: u32 = 12;

/// The size of a frame, in bytes.
pub(crate) const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;

/// Declares a newtype over an integer with a constructor and an accessor.
macro_rules! number {
    ($(#[$attr:meta])* $name:ident($int:ty)) => {
        $(#[$attr])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub(crate) struct $name($int);

        impl $name {
            /// Wraps the bare number.
            #[inline(always)]
            pub(crate) const fn new(value: $int) -> Self {
                Self(value)
            }

            /// Returns the bare number.
            #[inline(always)]
            pub(crate) const fn get(self) -> $int {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }
    };
}

number! {
    /// A guest physical address.
    Gpa(u64)
}
number! {
    /// A guest frame number: a [`Gpa`] without its 12 bits of offset.
    Gfn(u64)
}
number! {
    /// A virtual address of the process that owns the VM.
    Hva(usize)
}
number! {
    /// A host physical address.
    Hpa(u64)
}
number! {
    /// A host page frame number: an [`Hpa`] without its 12 bits of offset.
    Pfn(u64)
}
number! {
    /// A virtual machine identifier, as `hgatp.VMID` holds it (at most 14 bits on RV64).
    Vmid(u16)
}
number! {
    /// An address space identifier of a guest, as `vsatp.ASID` holds it.
    Asid(u16)
}
number! {
    /// A hart id of 64 bits: the id that userspace gave a vCPU (`KVM_CREATE_VCPU`), or one that a
    /// guest passes and that may belong to no vCPU.
    HartId(u64)
}
number! {
    /// A vCPU's position in the order of creation (`vcpu->vcpu_idx`).
    VcpuIdx(usize)
}

impl Gpa {
    /// Returns the frame that holds this address.
    #[inline(always)]
    pub(crate) const fn gfn(self) -> Gfn {
        Gfn(self.0 >> PAGE_SHIFT)
    }

    /// Returns the offset of this address in its frame, in bytes.
    #[cfg(test)]
    pub(crate) const fn offset(self) -> u64 {
        self.0 & (PAGE_SIZE - 1)
    }

    /// Returns the address `bytes` further on, or [`None`] if it lies beyond 64 bits.
    #[cfg(test)]
    pub(crate) const fn checked_add(self, bytes: u64) -> Option<Gpa> {
        match self.0.checked_add(bytes) {
            Some(sum) => Some(Gpa(sum)),
            None => None,
        }
    }
}

impl Gfn {
    /// Returns the address of the frame's first byte.
    ///
    /// A frame number of more than 52 bits has no address; its upper bits are lost. Frames that
    /// were compared with the width of a VM's mode never have so many.
    #[inline(always)]
    pub(crate) const fn gpa(self) -> Gpa {
        Gpa(self.0 << PAGE_SHIFT)
    }

    /// Returns the frame `frames` further on, or [`None`] if its number exceeds 64 bits.
    #[cfg(test)]
    pub(crate) const fn checked_add(self, frames: u64) -> Option<Gfn> {
        match self.0.checked_add(frames) {
            Some(sum) => Some(Gfn(sum)),
            None => None,
        }
    }

    /// Returns the frame `frames` further on, or the last one that can be numbered.
    #[inline(always)]
    pub(crate) const fn saturating_add(self, frames: u64) -> Gfn {
        Gfn(self.0.saturating_add(frames))
    }

    /// Returns the first frame of the block of `size` that holds this frame.
    #[inline(always)]
    pub(crate) const fn align_down(self, size: PageSize) -> Gfn {
        Gfn(self.0 & !(size.frames() - 1))
    }
}

impl Hpa {
    /// Returns the frame that holds this address.
    #[inline(always)]
    pub(crate) const fn pfn(self) -> Pfn {
        Pfn(self.0 >> PAGE_SHIFT)
    }
}

impl Pfn {
    /// Returns the address of the frame's first byte.
    #[inline(always)]
    pub(crate) const fn hpa(self) -> Hpa {
        Hpa(self.0 << PAGE_SHIFT)
    }

    /// Returns the frame `frames` further on, or [`None`] if its number exceeds 64 bits.
    #[inline(always)]
    pub(crate) const fn checked_add(self, frames: u64) -> Option<Pfn> {
        match self.0.checked_add(frames) {
            Some(sum) => Some(Pfn(sum)),
            None => None,
        }
    }
}

/// A run of guest frames, `start` included, `end` not.
///
/// # Invariants
///
/// `start <= end`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct GfnRange {
    /// The first frame.
    start: Gfn,
    /// The frame after the last one.
    end: Gfn,
}

impl GfnRange {
    /// The range without frames.
    pub(crate) const EMPTY: GfnRange = GfnRange {
        start: Gfn(0),
        end: Gfn(0),
    };

    /// Returns the frames from `start` up to, not including, `end`; empty if `end` lies before
    /// `start`.
    #[inline(always)]
    pub(crate) const fn new(start: Gfn, end: Gfn) -> Self {
        // INVARIANT: An `end` that lies before `start` is moved up to it.
        GfnRange {
            start,
            end: if end.0 < start.0 { start } else { end },
        }
    }

    /// Returns the `frames` frames from `start`, cut off where frame numbers end.
    #[inline(always)]
    pub(crate) const fn from_len(start: Gfn, frames: u64) -> Self {
        Self::new(start, start.saturating_add(frames))
    }

    /// Returns the frame `gfn` alone.
    #[inline(always)]
    pub(crate) const fn single(gfn: Gfn) -> Self {
        Self::from_len(gfn, 1)
    }

    /// Returns the first frame.
    #[inline(always)]
    pub(crate) const fn start(self) -> Gfn {
        self.start
    }

    /// Returns the frame after the last one.
    #[inline(always)]
    pub(crate) const fn end(self) -> Gfn {
        self.end
    }

    /// Returns the number of frames.
    #[inline(always)]
    pub(crate) const fn len(self) -> u64 {
        self.end.0 - self.start.0
    }

    /// Returns whether there is no frame.
    #[inline(always)]
    pub(crate) const fn is_empty(self) -> bool {
        self.start.0 == self.end.0
    }

    /// Returns whether `gfn` is one of the frames.
    #[inline(always)]
    pub(crate) const fn contains(self, gfn: Gfn) -> bool {
        self.start.0 <= gfn.0 && gfn.0 < self.end.0
    }

    /// Returns whether all frames of `other` are among these.
    #[inline(always)]
    pub(crate) const fn covers(self, other: GfnRange) -> bool {
        other.is_empty() || (self.start.0 <= other.start.0 && other.end.0 <= self.end.0)
    }

    /// Returns the frames that both have.
    #[inline(always)]
    pub(crate) fn intersection(self, other: GfnRange) -> GfnRange {
        GfnRange::new(self.start.max(other.start), self.end.min(other.end))
    }

    /// Returns the smallest run that covers both; an empty one adds nothing.
    #[inline(always)]
    pub(crate) fn hull(self, other: GfnRange) -> GfnRange {
        if self.is_empty() {
            other
        } else if other.is_empty() {
            self
        } else {
            GfnRange::new(self.start.min(other.start), self.end.max(other.end))
        }
    }
}

impl fmt::Debug for GfnRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gfn({:#x}..{:#x})", self.start.0, self.end.0)
    }
}

/// A level of a page-table tree, named after what one of its entries maps.
///
/// The discriminant is the architecture's number of the level (the `i` of `PTE.ppn[i]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Level {
    /// 4 KiB.
    Page = 0,
    /// 2 MiB.
    Mega = 1,
    /// 1 GiB.
    Giga = 2,
    /// 512 GiB.
    Tera = 3,
    /// 256 TiB.
    Peta = 4,
}

impl Level {
    /// Returns log2 of the number of frames that one entry maps.
    #[inline(always)]
    pub(crate) const fn frame_shift(self) -> u32 {
        9 * self as u32
    }

    /// Returns the number of frames that one entry maps.
    #[inline(always)]
    pub(crate) const fn frames(self) -> u64 {
        1 << self.frame_shift()
    }

    /// Returns log2 of what one entry maps, in bytes.
    #[inline(always)]
    pub(crate) const fn shift(self) -> u32 {
        PAGE_SHIFT + self.frame_shift()
    }

    /// Returns the level that a table entry of this level points to; [`None`] below
    /// [`Level::Page`].
    #[inline(always)]
    pub(crate) const fn below(self) -> Option<Level> {
        match self {
            Level::Page => None,
            Level::Mega => Some(Level::Page),
            Level::Giga => Some(Level::Mega),
            Level::Tera => Some(Level::Giga),
            Level::Peta => Some(Level::Tera),
        }
    }

    /// Returns how much one leaf of this level maps. There are none above [`Level::Giga`]: no host
    /// has larger pages.
    #[inline(always)]
    pub(crate) const fn leaf_size(self) -> PageSize {
        match self {
            Level::Page => PageSize::Size4K,
            Level::Mega => PageSize::Size2M,
            Level::Giga | Level::Tera | Level::Peta => PageSize::Size1G,
        }
    }

    /// Returns the frames of the entry that maps `gfn`.
    #[inline(always)]
    pub(crate) const fn span(self, gfn: Gfn) -> GfnRange {
        let first = gfn.0 & !(self.frames() - 1);
        GfnRange::from_len(Gfn(first), self.frames())
    }
}

/// A size in which hosts map memory.
///
/// Ordered by size. No single G-stage entry has the size of a Svnapot run: see [`PageSize::level`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PageSize {
    /// 4 KiB.
    Size4K,
    /// 64 KiB: a Svnapot run.
    Size64K,
    /// 2 MiB.
    Size2M,
    /// 1 GiB.
    Size1G,
}

impl PageSize {
    /// All sizes, smallest first.
    #[cfg(test)]
    pub(crate) const ALL: [PageSize; 4] = [
        PageSize::Size4K,
        PageSize::Size64K,
        PageSize::Size2M,
        PageSize::Size1G,
    ];

    /// Returns log2 of the size, in bytes.
    #[inline(always)]
    pub(crate) const fn shift(self) -> u32 {
        match self {
            PageSize::Size4K => 12,
            PageSize::Size64K => 16,
            PageSize::Size2M => 21,
            PageSize::Size1G => 30,
        }
    }

    /// Returns the size, in bytes.
    #[inline(always)]
    pub(crate) const fn bytes(self) -> u64 {
        1 << self.shift()
    }

    /// Returns the size, in frames.
    #[inline(always)]
    pub(crate) const fn frames(self) -> u64 {
        1 << (self.shift() - PAGE_SHIFT)
    }

    /// Returns the highest level that has leaves no larger than this size.
    #[inline(always)]
    pub(crate) const fn level(self) -> Level {
        match self {
            PageSize::Size4K | PageSize::Size64K => Level::Page,
            PageSize::Size2M => Level::Mega,
            PageSize::Size1G => Level::Giga,
        }
    }
}
