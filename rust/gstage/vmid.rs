// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! VMIDs, which tag the translations of a VM in TLBs. Answers to `vmid.c`.
//!
//! VMIDs are handed out in order; when they run out, a new generation begins, in which every VM
//! gets a new one the next time one of its vCPUs is loaded. No vCPU is stopped for that, unlike in
//! C, whose rollover interrupts all CPUs and still lets a vCPU enter with a VMID that is already
//! another VM's (differences-from-c M6). The argument:
//!
//! - A VMID means something to one hart only. The Privileged Architecture lets software use VMID
//!   (and ASID) 0 everywhere at the price of a local fence, so what one hart caches under a VMID
//!   has no effect on another.
//! - When a vCPU is loaded on a hart, it uses its VM's VMID only if that is of the newest
//!   generation that the hart has seen, and otherwise gets a new one. So on one hart the
//!   generations of the VMIDs in use never go back, and within a generation a VMID has one owner.
//! - The first time that a vCPU uses a [`Tag`] on a hart, everything that the hart has cached under
//!   its VMID is flushed ([`tlb`](crate::mmu::tlb)): other VMs may have left it there in earlier
//!   generations.
//!
//! A vCPU that stays loaded through a rollover keeps its old VMID: its hart runs no other VM's
//! meanwhile.
//!
//! This file is pure: it also compiles on the host (`selftests/host`). No locks.

use crate::{
    kernel_ext::atomic::{
        AtomicU64,
        Ordering, //
    },
    kvm_core::addr::Vmid, //
};

/// A VMID and the generation that it was handed out in. No two VMs ever have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(u64);

/// The VMID is in the low bits of a [`Tag`], the generation above.
const GENERATION_SHIFT: u32 = 16;

impl Tag {
    /// VMID 0 of no generation: no VMID was handed out yet, or the host has none.
    pub(crate) const NONE: Tag = Tag(0);

    /// Returns the VMID, for `hgatp`.
    #[inline(always)]
    pub(crate) const fn vmid(self) -> Vmid {
        Vmid::new(self.0 as u16)
    }

    /// Returns the generation in which the VMID was handed out.
    #[inline(always)]
    pub(crate) const fn generation(self) -> u64 {
        self.0 >> GENERATION_SHIFT
    }

    /// Returns the tag to hand out after this one, where `max` is the highest VMID. 0 is left out:
    /// it is what an idle `hgatp` holds.
    #[inline(always)]
    const fn next(self, max: u16) -> Tag {
        if self.vmid().get() < max {
            Tag(self.0.wrapping_add(1))
        } else {
            // 48 bits of generations do not overflow in practice.
            Tag(self.generation().wrapping_add(1) << GENERATION_SHIFT | 1)
        }
    }
}

/// The VMID of a VM.
pub(crate) struct Cell(AtomicU64);

impl Cell {
    /// Returns the cell of a VM that has no VMID yet.
    pub(crate) fn new() -> Self {
        Cell(AtomicU64::new(Tag::NONE.0))
    }
}

/// All VMIDs of the host.
pub(crate) struct Space {
    /// The tag that was handed out last.
    last: AtomicU64,
    /// The highest VMID; 0 if there are no VMIDs.
    max: u16,
}

impl Space {
    /// Returns the VMIDs of a host whose `hgatp.VMID` has `bits` bits.
    pub(crate) fn new(bits: u32) -> Self {
        let max = 1_u16
            .checked_shl(bits)
            .map_or(u16::MAX, |n| n.wrapping_sub(1));
        // The first generation is 1, so that no tag is `Tag::NONE`.
        Space {
            last: AtomicU64::new(1 << GENERATION_SHIFT),
            max,
        }
    }

    /// Returns the current tag of the VM with `cell`, a new one if need be.
    #[inline]
    pub(crate) fn current(&self, cell: &Cell) -> Tag {
        // Acquire: a CPU that uses a tag of some generation sees that the generation has begun, and
        // from then on uses no older tag on this hart. Pairs with the release in `renew`.
        let tag = Tag(cell.0.load(Ordering::Acquire));
        let last = Tag(self.last.load(Ordering::Relaxed));
        if tag.generation() == last.generation() {
            tag
        } else {
            self.renew(cell, tag)
        }
    }

    /// Gives the VM whose `cell` had `old` a new tag, unless another vCPU of it was faster.
    #[cold]
    fn renew(&self, cell: &Cell, old: Tag) -> Tag {
        if self.max == 0 {
            return Tag::NONE;
        }
        let mut last = self.last.load(Ordering::Relaxed);
        let new = loop {
            let next = Tag(last).next(self.max);
            match self
                .last
                .compare_exchange_weak(last, next.0, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => break next,
                Err(now) => last = now,
            }
        };
        let mut seen = old;
        loop {
            let set = cell
                .0
                .compare_exchange(seen.0, new.0, Ordering::AcqRel, Ordering::Acquire);
            match set.map_err(Tag) {
                Ok(_) => return new,
                // The new tag is not used, which costs only a number.
                Err(theirs) if theirs.generation() >= new.generation() => return theirs,
                Err(theirs) => seen = theirs,
            }
        }
    }
}
