// SPDX-License-Identifier: GPL-2.0

//! What a fault does: look up, install, turn writable. All of it under the read lock.
//!
//! Answers to `kvm_riscv_gstage_map_page()` and to the dirty-log write fault of `mmu.c`.

use crate::{
    mem::addr::{
        Gfn,
        GfnRange,
        Gpa,
        Level,
        PageSize,
        Pfn, //
    },
    sync::atomic::Ordering,
};

use super::{
    duty::Flush,
    pte::{
        self,
        Bits,
        Entry,
        Leaf,
        Ppn,
        Pte,
        Rights,
        Slot, //
    },
    table::{
        RootTable,
        Table,
        TableMemory,
        TableSource, //
    },
    MmuRead, //
};

/// The address that a guest could not access.
///
/// Deliberately not a [`Gpa`]: which entry is looked at follows from the faulting address alone,
/// however large the block that is installed around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FaultGpa(Gpa);

impl FaultGpa {
    /// The faulting address, offset included or not.
    #[inline(always)]
    pub(crate) const fn new(gpa: Gpa) -> Self {
        Self(gpa)
    }

    /// The faulting frame.
    #[inline(always)]
    pub(crate) const fn gfn(self) -> Gfn {
        self.0.gfn()
    }
}

/// What the host has behind a faulting frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostPage {
    /// The frame behind the faulting frame itself, not behind the start of a block.
    pub(crate) pfn: Pfn,
    /// The largest block around it that memslot, host mapping and dirty logging allow. Blocks are
    /// used as far as `pfn` and the faulting frame have the same offset in them; other sizes are
    /// rounded down.
    pub(crate) size: PageSize,
    /// What the guest may do, for all of the block.
    pub(crate) rights: Rights,
}

/// What became of [`MmuRead::install`].
#[must_use]
#[derive(Debug)]
pub(crate) struct Install {
    /// What was found or done.
    pub(crate) outcome: Outcome,
    /// The level of the entry that the walk ended at.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the host tests"))]
    pub(crate) level: Level,
    /// The frames of a block that was split on the way, whatever the outcome.
    ///
    /// Cached translations of the block stay right until something below it changes, and whoever
    /// takes something away flushes that: so it is enough to flush the faulting hart.
    pub(crate) flush: Flush,
}

/// What [`MmuRead::install`] found or did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The entry was empty and is a leaf now. A hart without Svvptc may remember the empty entry.
    Mapped,
    /// The entry mapped the same page with fewer permissions, or was not young. The faulting hart
    /// must be fenced; others that remember the old entry will fault and find [`Self::Already`].
    Upgraded,
    /// The entry already is as good as wanted: another vCPU was faster, or this hart remembers an
    /// old entry and must be fenced. It may be an entry above the leaf that it remembers.
    Already,
    /// The entry maps this other frame, or a device. Under the write lock it can be unmapped.
    Occupied(Pfn),
    /// The [`TableSource`] is empty. Fill it without the lock, and try again.
    NeedTables,
    /// The guest cannot have this address in its mode, or no host can have this frame.
    OutOfRange,
}

/// What became of [`MmuRead::make_writable`].
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MakeWritable {
    /// The leaf is writable now; the faulting hart must be fenced.
    Done,
    /// The leaf was writable; the faulting hart remembers an old one and must be fenced.
    AlreadyWritable,
    /// Nothing is mapped.
    NotPresent,
    /// The host page is not known to be writable, or the leaf is a block, which dirty logging
    /// must split: the slow path decides.
    NotAllowed,
}

/// A leaf of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// Its value.
    pub(crate) leaf: Leaf,
    /// The level of its entry: how much it maps.
    pub(crate) level: Level,
}

/// The pages around a fault: one leaf table, for mapping more than what the guest asked for.
pub(crate) struct Neighbours<'v> {
    table: &'v Table,
    frames: GfnRange,
}

#[cfg_attr(not(test), expect(dead_code, reason = "fault-around fills the table"))]
impl Neighbours<'_> {
    /// The frames that the table maps.
    #[inline(always)]
    pub(crate) fn frames(&self) -> GfnRange {
        self.frames
    }

    /// Whether the table maps `gfn` and has nothing there.
    #[inline(always)]
    pub(crate) fn lacks(&self, gfn: Gfn) -> bool {
        self.frames.contains(gfn)
            && self.table.slot(gfn, Level::Page).peek().entry() == Entry::Empty
    }

    /// Maps `gfn` to `pfn` if the table has nothing there; tells whether it did.
    #[inline(always)]
    pub(crate) fn fill(&self, gfn: Gfn, pfn: Pfn, rights: Rights) -> bool {
        let Some(ppn) = pte::ppn(pfn) else {
            return false;
        };
        self.frames.contains(gfn)
            && self
                .table
                .slot(gfn, Level::Page)
                .replace(Pte::EMPTY, Leaf::memory(ppn, rights).pte())
                .is_ok()
    }
}

impl<M: TableMemory> MmuRead<'_, M> {
    /// The leaf that maps `gfn`.
    #[cfg(test)]
    pub(crate) fn lookup(&self, gfn: Gfn) -> Option<Mapping> {
        let (_, mapping) = self.leaf(gfn)?;
        Some(mapping)
    }

    /// The slot and value of the leaf that maps `gfn`.
    #[inline(always)]
    fn leaf(&self, gfn: Gfn) -> Option<(&Slot, Mapping)> {
        if !self.mode().frames().contains(gfn) {
            return None;
        }
        let mut level = self.mode().top();
        let mut slot = self.root_table().slot(gfn, level);
        loop {
            match slot.load().entry() {
                Entry::Empty => return None,
                Entry::Leaf(leaf) => return Some((slot, Mapping { leaf, level })),
                Entry::Table(table) => {
                    level = level.below()?;
                    slot = self.table(table).slot(gfn, level);
                }
            }
        }
    }

    /// Lets the guest access the faulting page as `page` says, if that needs no entry to be taken
    /// away.
    ///
    /// After [`Outcome::Mapped`], [`Outcome::Upgraded`] and [`Outcome::Already`] the faulting
    /// address is mapped to `page.pfn` with at least `page.rights`.
    #[inline]
    pub(crate) fn install<S: TableSource>(
        &self,
        fault: FaultGpa,
        page: HostPage,
        tables: &mut S,
    ) -> Install {
        let gfn = fault.gfn();
        let mut level = self.mode().top();
        let mut flush = Flush::NONE;
        let ppn = match pte::ppn(page.pfn) {
            Some(ppn) if self.mode().frames().contains(gfn) => ppn,
            _ => {
                return Install {
                    outcome: Outcome::OutOfRange,
                    level,
                    flush,
                }
            }
        };
        let largest = largest(gfn, page);
        let wanted = Leaf::memory(ppn, page.rights);
        let mut slot = self.root_table().slot(gfn, level);
        let outcome = loop {
            let now = slot.load();
            match now.entry() {
                Entry::Table(table) => {
                    let Some(below) = level.below() else {
                        // A valid entry of the last level without permissions is nobody's work.
                        break Outcome::Occupied(Pfn::new(table.ppn().get()));
                    };
                    level = below;
                    slot = self.table(table).slot(gfn, level);
                }
                Entry::Empty if level <= largest => {
                    self.note_use(gfn, level);
                    let block = Leaf::memory(first(ppn, level), page.rights);
                    if slot.replace(now, block.pte()).is_ok() {
                        break Outcome::Mapped;
                    }
                }
                Entry::Empty => {
                    self.note_use(gfn, level);
                    let Some(table) = tables.take() else {
                        break Outcome::NeedTables;
                    };
                    if slot.replace(now, Pte::table(&table)).is_ok() {
                        table.linked();
                    } else {
                        tables.give_back(table);
                    }
                }
                Entry::Leaf(leaf) => {
                    let there = leaf.pfn_of(gfn, level);
                    if there != page.pfn || leaf.pte().pbmt() != wanted.pte().pbmt() {
                        break Outcome::Occupied(there);
                    }
                    let lacks = leaf.lacks(wanted);
                    let gain = if level <= largest {
                        lacks
                    } else {
                        // What `page` says holds for a part of this block only.
                        lacks.status()
                    };
                    match level.below() {
                        Some(below) if level > largest && lacks.permission() => {
                            let Some(mut table) = tables.take() else {
                                break Outcome::NeedTables;
                            };
                            table.fill(self.root.mem, leaf, below);
                            if slot.replace(now, Pte::table(&table)).is_ok() {
                                table.linked();
                                flush.add(level.span(gfn));
                            } else {
                                tables.give_back(table);
                            }
                        }
                        _ if gain.is_none() => break Outcome::Already,
                        _ => {
                            // Not just setting bits: a block may become a table meanwhile.
                            if slot.replace(now, leaf.with(gain).pte()).is_ok() {
                                break Outcome::Upgraded;
                            }
                        }
                    }
                }
            }
        };
        Install {
            outcome,
            level,
            flush,
        }
    }

    /// Turns a write-protected 4 KiB leaf writable if its host page is known to be, as dirty
    /// logging wants it; the caller marks the page dirty before it drops the lock.
    #[inline]
    pub(crate) fn make_writable(&self, fault: FaultGpa) -> MakeWritable {
        let Some((slot, Mapping { leaf, level })) = self.leaf(fault.gfn()) else {
            return MakeWritable::NotPresent;
        };
        if level != Level::Page || !leaf.pte().host_writable() {
            return MakeWritable::NotAllowed;
        }
        if leaf.pte().all(Bits::WRITABLE) {
            return MakeWritable::AlreadyWritable;
        }
        slot.grant(Bits::WRITABLE);
        MakeWritable::Done
    }

    /// The leaf table that maps `gfn`, if there is one.
    #[cfg_attr(not(test), expect(dead_code, reason = "fault-around begins here"))]
    pub(crate) fn neighbours(&self, gfn: Gfn) -> Option<Neighbours<'_>> {
        if !self.mode().frames().contains(gfn) {
            return None;
        }
        let mut level = self.mode().top();
        let mut slot = self.root_table().slot(gfn, level);
        loop {
            let Entry::Table(table) = slot.load().entry() else {
                return None;
            };
            let table = self.table(table);
            let frames = level.span(gfn);
            level = level.below()?;
            if level == Level::Page {
                return Some(Neighbours { table, frames });
            }
            slot = table.slot(gfn, level);
        }
    }

    /// Remembers that the root's entry for `gfn` is about to be used, if `level` is the root's.
    #[inline(always)]
    pub(super) fn note_use(&self, gfn: Gfn, level: Level) {
        if level == self.mode().top() {
            let group = RootTable::group(RootTable::index(gfn, level));
            // Relaxed: read under the write lock only, which comes after our read lock.
            self.root.used.fetch_or(1 << group, Ordering::Relaxed);
        }
    }
}

/// The first frame of the block of `level` that `ppn` lies in.
#[inline(always)]
fn first(ppn: Ppn, level: Level) -> Ppn {
    // Clearing bits keeps the number in bounds.
    Ppn::try_new(ppn.get() & !(level.frames() - 1)).unwrap_or(ppn)
}

/// The highest level at which one entry can map `gfn` and its neighbours as `page` says.
#[inline(always)]
fn largest(gfn: Gfn, page: HostPage) -> Level {
    // In a block, guest and host frame have the same offset.
    let differ = gfn.get() ^ page.pfn.get();
    let mut level = page.size.level();
    while differ & (level.frames() - 1) != 0 {
        match level.below() {
            Some(below) => level = below,
            None => break,
        }
    }
    level
}
