// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! The duties after an entry has lost a permission or a translation.
//!
//! The frames of a [`Flush`] or [`Teardown`] must be flushed before the pages behind the lost
//! translations are given back. The types are `must_use`, in place of the "must flush" booleans of
//! `gstage.c`, which callers could forget.

use crate::{
    gstage::{
        pte::TablePtr,
        table::{
            FormerTable,
            Retired,
            TableMemory, //
        }, //
    },
    kvm_core::addr::{
        Gfn,
        GfnRange, //
    }, //
};

/// Frames whose cached translations are now too permissive, or wrong.
///
/// Runs merge into their hull, so a whole operation costs one flush.
#[must_use = "the old translations stay usable until they are flushed"]
#[derive(Debug)]
pub(crate) struct Flush(GfnRange);

impl Flush {
    /// Nothing to flush.
    pub(crate) const NONE: Flush = Flush(GfnRange::EMPTY);

    /// Owes a flush of `frames`.
    #[inline(always)]
    pub(super) const fn of(frames: GfnRange) -> Flush {
        Flush(frames)
    }

    /// Owes a flush of `frames` too.
    #[inline(always)]
    pub(super) fn add(&mut self, frames: GfnRange) {
        self.0 = self.0.hull(frames);
    }

    /// Takes over the duty of `other`.
    #[inline(always)]
    pub(super) fn merge(&mut self, other: Flush) {
        self.add(other.0);
    }

    /// Joins both duties.
    #[inline(always)]
    pub(crate) fn and(self, other: Flush) -> Flush {
        Flush(self.0.hull(other.0))
    }

    /// Returns whether there is nothing to flush.
    #[cfg(test)]
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Has `flush` flush the frames on every CPU that may hold their translations; does not call
    /// it if there is nothing to flush.
    #[inline(always)]
    pub(crate) fn issue(self, flush: impl FnOnce(GfnRange) -> Flushed) {
        if !self.0.is_empty() {
            let Flushed(()) = flush(self.0);
        }
    }

    /// Leaves the duty to a caller that flushes at least these frames anyway, as core KVM does
    /// after it got the dirty log.
    ///
    /// # Safety
    ///
    /// Before the pages behind the lost translations are given back, other code flushes the frames,
    /// or takes something away from the tree itself and flushes these frames for that.
    #[inline(always)]
    pub(crate) unsafe fn delegate(self) {}

    /// Returns the frames.
    #[cfg(test)]
    pub(crate) fn into_frames(self) -> GfnRange {
        self.0
    }
}

/// Proof of a flush: no CPU can use the translations any more that it was about.
pub(crate) struct Flushed(());

impl Flushed {
    /// Says that the flush is done.
    ///
    /// # Safety
    ///
    /// Since the entries were changed, every CPU that may hold their translations has flushed them,
    /// or is to do so before it next enters the guest and does not run the guest now.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

/// The translations that a flush has to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The translations of these frames: a fence for their addresses will do.
    Frames(GfnRange),
    /// All translations of the VM's tree. Tables were taken out, and a fence for an address orders
    /// accesses to leaf entries only, not to the entries that led to a table.
    Everything,
}

/// A [`Flush`], and the tables that nothing points to any more.
///
/// A hart may still walk those tables until the flush is done, so only [`Teardown::flush_and_free`]
/// hands them out.
#[must_use = "the old translations stay usable until they are flushed, and tables are leaked"]
pub(crate) struct Teardown<M> {
    /// The frames to be flushed.
    flush: Flush,
    /// The tables to be freed after the flush.
    tables: Retired<M>,
}

impl<M: TableMemory> Teardown<M> {
    /// Returns a duty with nothing to do, for a tree in `mem`.
    #[inline(always)]
    pub(crate) fn none(mem: M) -> Self {
        Teardown {
            flush: Flush::NONE,
            tables: Retired::none(mem),
        }
    }

    /// Owes a flush of `frames`.
    #[inline(always)]
    pub(super) fn add(&mut self, frames: GfnRange) {
        self.flush.add(frames);
    }

    /// Takes over the table behind `entry`, which was just removed from the tree.
    #[inline(always)]
    pub(super) fn retire(&mut self, entry: TablePtr) {
        self.tables.push(entry);
    }

    /// Returns whether there is nothing to flush and nothing to free.
    #[cfg(test)]
    pub(crate) fn is_none(&self) -> bool {
        self.flush.is_none() && self.tables.is_empty()
    }

    /// Joins both duties to one, so that an operation that was interrupted costs one flush.
    #[cfg(test)]
    pub(crate) fn and(self, other: Self) -> Self {
        Teardown {
            flush: self.flush.and(other.flush),
            tables: self.tables.and(other.tables),
        }
    }

    /// Has `flush` flush every CPU that may hold the lost translations, and then `free` take the
    /// tables; calls neither if there is nothing to do. `mmu_lock` need not be held.
    #[inline]
    pub(crate) fn flush_and_free(
        self,
        flush: impl FnOnce(Scope) -> Flushed,
        mut free: impl FnMut(FormerTable),
    ) {
        let Teardown {
            flush: Flush(frames),
            mut tables,
        } = self;
        if !tables.is_empty() {
            let Flushed(()) = flush(Scope::Everything);
        } else if !frames.is_empty() {
            let Flushed(()) = flush(Scope::Frames(frames));
        }
        while let Some(table) = tables.pop() {
            free(table);
        }
    }
}

/// Why an operation on a range ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// All of the range is done.
    Done,
    /// The caller's `stop_here` asked for it.
    Asked,
    /// The [`TableSource`](crate::gstage::TableSource) is empty.
    NeedTables,
    /// Something else is mapped where a device page was to go.
    Occupied,
}

/// How far an operation on a range got, and what is owed for that part.
#[must_use = "it holds a duty, and may not have come to the end"]
pub(crate) struct Progress<D> {
    /// The frames before this one are done; where to start again.
    pub(crate) done_to: Gfn,
    /// Why it ended there.
    pub(crate) stop: Stop,
    /// What is owed so far.
    pub(crate) duty: D,
}
