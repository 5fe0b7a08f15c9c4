// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! Table pages: access to them, their ownership, and the list of detached ones that wait for the
//! flush.

use core::ptr::NonNull;

use crate::{
    gstage::{
        pte::{
            self,
            Leaf,
            Ppn,
            Pte,
            PteCell,
            TablePtr, //
            NAPOT_PTES,
        }, //
        MmuRead,
    },
    kvm_core::addr::{
        Gfn,
        GfnRange,
        Level,
        PageSize,
        Pfn, //
    }, //
};

/// Number of entries of a table other than the root.
const ENTRIES: usize = 512;

/// Number of entries of the root table: its index has two more bits.
const ROOT_ENTRIES: usize = 4 * ENTRIES;

/// Number of entries of the root that one bit of [`Root::used`](crate::gstage::Root) stands for.
const ROOT_GROUP: usize = ROOT_ENTRIES / u64::BITS as usize;

/// A table, other than the root: 4 KiB.
#[repr(C, align(4096))]
pub(crate) struct Table([PteCell; ENTRIES]);

/// The root table: 16 KiB, aligned to its size.
#[repr(C, align(16384))]
pub(crate) struct RootTable([PteCell; ROOT_ENTRIES]);

impl Table {
    /// Returns all entries.
    #[inline(always)]
    pub(super) fn slots(&self) -> &[PteCell] {
        &self.0
    }

    /// Returns the entry for `gfn`, if this is a table of `level`.
    #[inline(always)]
    pub(super) fn slot(&self, gfn: Gfn, level: Level) -> &PteCell {
        // The mask keeps the index in bounds; the compiler sees it.
        &self.0[(gfn.get() >> level.frame_shift()) as usize % ENTRIES]
    }

    /// Returns the entry for `gfn`, if this is a table of the level of that number.
    #[inline(always)]
    pub(super) fn slot_at(&self, gfn: Gfn, level: u32) -> &PteCell {
        // The mask keeps the index in bounds; the compiler sees it.
        &self.0[(gfn.get() >> (9 * level)) as usize % ENTRIES]
    }

    /// Returns the entries for `frames`, all of which this leaf table maps.
    #[inline(always)]
    pub(super) fn slots_of(&self, frames: GfnRange) -> &[PteCell] {
        let first = frames.start().get() as usize % ENTRIES;
        let len = frames.len() as usize;
        self.0
            .get(first..)
            .and_then(|rest| rest.get(..len))
            .unwrap_or_default()
    }

    /// Returns the 16 entries around `gfn` that a Svnapot run would have, if this is a leaf table.
    #[inline(always)]
    pub(super) fn run(&self, gfn: Gfn) -> &[PteCell] {
        let number = gfn.get() as usize % ENTRIES / NAPOT_PTES;
        self.0
            .chunks_exact(NAPOT_PTES)
            .nth(number)
            .unwrap_or_default()
    }
}

impl RootTable {
    /// Returns all entries.
    #[inline(always)]
    pub(super) fn slots(&self) -> &[PteCell] {
        &self.0
    }

    /// Returns the position of the entry for `gfn`, where root entries are of level `top`.
    #[inline(always)]
    pub(super) fn index(gfn: Gfn, top: Level) -> usize {
        (gfn.get() >> top.frame_shift()) as usize % ROOT_ENTRIES
    }

    /// Returns the group that entry `index` is in, one of 64.
    #[inline(always)]
    pub(super) fn group(index: usize) -> usize {
        index / ROOT_GROUP
    }

    /// Returns the entries of group `group`.
    #[inline(always)]
    pub(super) fn in_group(&self, group: usize) -> &[PteCell] {
        self.0.chunks_exact(ROOT_GROUP).nth(group).unwrap_or(&[])
    }

    /// Returns the entry for `gfn`, where root entries are of level `top`.
    #[inline(always)]
    pub(super) fn slot(&self, gfn: Gfn, top: Level) -> &PteCell {
        // The mask keeps the index in bounds; the compiler sees it.
        &self.0[Self::index(gfn, top)]
    }
}

/// The parts of a tree that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Counted {
    /// Leaves of a size. A Svnapot run of 16 entries is one of [`PageSize::Size64K`].
    Leaves(PageSize),
    /// Tables, the root not counted.
    Tables,
}

/// Access to the tables by software: the kernel's linear map, or an arena on the host.
///
/// # Safety
///
/// For a frame that was passed to [`TablePage::new`] or [`Root::new`](crate::gstage::Root::new),
/// the result must point to that table, and must stay valid for atomic access until
/// [`Teardown::flush_and_free`](crate::gstage::Teardown::flush_and_free) hands the page out, or
/// [`TablePage::discard`] gives it up before it is part of a tree, as for
/// [`TableSource::give_back`]. The result for a root must stay valid for as long as the
/// [`Root`](crate::gstage::Root) lives. Copies must reach the same tables.
pub(crate) unsafe trait TableMemory: Copy {
    /// Returns the address of the table in frame `pfn`.
    fn table(self, pfn: Pfn) -> NonNull<Table>;

    /// Returns the address of the root table that begins with frame `pfn`.
    fn root(self, pfn: Pfn) -> NonNull<RootTable>;

    /// Counts a change: there are `by` more of `what` now, or fewer if it is negative.
    ///
    /// The sum is exact whenever no CPU changes the tree. Called once per fault, and once per table
    /// by operations on ranges, by many CPUs at once; order does not matter.
    fn count(self, what: Counted, by: i64);
}

/// A page that is to be a table; nothing points to it.
///
/// # Invariants
///
/// The page belongs to this value, the tree's memory reaches it as a [`Table`], and its entries are
/// empty, or the parts of a block.
#[must_use = "the page is leaked"]
#[derive(Debug)]
pub(crate) struct TablePage(Ppn);

/// A page that was a table, or was to be one; nothing points to it. Its contents are undefined, so
/// it can only be freed.
///
/// # Invariants
///
/// The page belongs to this value.
#[must_use = "the page is leaked"]
#[derive(Debug)]
pub(crate) struct FormerTable(Ppn);

impl FormerTable {
    /// Gives the page up, to be freed.
    #[inline(always)]
    pub(crate) fn into_pfn(self) -> Pfn {
        Pfn::new(self.0.get())
    }
}

impl TablePage {
    /// Takes over the zeroed page at `pfn`; [`None`] if a table entry could not hold that number.
    ///
    /// # Safety
    ///
    /// The page must be zeroed, belong to the caller, and be reached as a [`Table`] by the
    /// [`TableMemory`] of the tree that it is offered to.
    #[inline(always)]
    pub(crate) unsafe fn new(pfn: Pfn) -> Option<TablePage> {
        // INVARIANT: The caller hands over a zeroed page that the tree's memory reaches as a
        // `Table`.
        pte::ppn(pfn).map(TablePage)
    }

    /// Gives the page back, which will not be a table.
    #[inline(always)]
    pub(crate) fn discard(self) -> FormerTable {
        // INVARIANT: By the type's invariant the page belonged to `self`, which ends here.
        FormerTable(self.0)
    }

    /// Ends the ownership: an entry of the tree, which `mem` reaches, points to the page now.
    #[inline(always)]
    pub(super) fn linked<M: TableMemory>(self, mem: M) {
        mem.count(Counted::Tables, 1);
    }

    /// Returns the page's frame.
    #[inline(always)]
    pub(super) fn ppn(&self) -> Ppn {
        self.0
    }

    /// Fills the table with the parts of `block`, which thereby become entries of `level`.
    #[inline]
    pub(super) fn fill<M: TableMemory>(&mut self, mem: M, block: Leaf, level: Level) {
        let mut table = mem.table(Pfn::new(self.0.get()));
        // SAFETY: By the type's invariant the page is a table that belongs to `self`, which is
        // borrowed mutably, and the tree's memory reaches it, so the pointer is valid.
        let table = unsafe { table.as_mut() };
        for (index, slot) in table.0.iter_mut().enumerate() {
            // INVARIANT: All entries become parts of the block.
            *slot = PteCell::new(block.part(index, level).pte());
        }
    }

    /// Does what [`linked`](Self::linked) does, for a table that was [filled](Self::fill) with
    /// entries of `level` and took the place of the block.
    #[inline(always)]
    pub(super) fn replaced_block<M: TableMemory>(self, mem: M, level: Level) {
        let block = match level {
            Level::Page => PageSize::Size2M,
            Level::Mega | Level::Giga | Level::Tera | Level::Peta => PageSize::Size1G,
        };
        mem.count(Counted::Leaves(block), -1);
        mem.count(Counted::Leaves(level.leaf_size()), ENTRIES as i64);
        self.linked(mem);
    }
}

/// Entries of leaf tables that are about to go, counted.
#[derive(Clone, Copy, Default)]
pub(super) struct StatDelta {
    /// The valid entries, those of Svnapot runs among them.
    entries: u64,
    /// The entries of Svnapot runs.
    run_entries: u64,
}

impl StatDelta {
    /// Counts the entries of the leaf table of `slots`.
    #[inline]
    pub(super) fn of(slots: &[PteCell]) -> Self {
        // Most tables are full, which is cheaper to find out than how many entries there are; and
        // a run's first entry stands for all of them.
        let mut all = Pte::ALL;
        let mut run_entries = 0;
        for run in slots.chunks_exact(NAPOT_PTES) {
            if let [first, others @ ..] = run {
                let first = first.read_relaxed();
                all = all.and(first);
                run_entries += u64::from(first.in_run());
                for slot in others {
                    all = all.and(slot.read_relaxed());
                }
            }
        }
        let entries = if all.valid() {
            slots.len() as u64
        } else {
            slots
                .iter()
                .map(|slot| u64::from(slot.read_relaxed().valid()))
                .sum()
        };
        StatDelta {
            entries,
            run_entries: run_entries * NAPOT_PTES as u64,
        }
    }

    /// Counts an entry, unless it is empty.
    #[inline(always)]
    pub(super) fn add(&mut self, entry: Pte) {
        // Without a branch, because this runs for many pages.
        self.entries += u64::from(entry.valid());
        self.run_entries += u64::from(entry.in_run());
    }

    /// Returns whether there was no entry.
    #[inline(always)]
    pub(super) fn is_empty(self) -> bool {
        self.entries == 0
    }

    /// Subtracts them from the counts of `mem`.
    #[inline(always)]
    pub(super) fn count_out<M: TableMemory>(self, mem: M) {
        let pages = self.entries.wrapping_sub(self.run_entries);
        if pages != 0 {
            mem.count(
                Counted::Leaves(PageSize::Size4K),
                (pages as i64).wrapping_neg(),
            );
        }
        if self.run_entries != 0 {
            let runs = self.run_entries / NAPOT_PTES as u64;
            mem.count(
                Counted::Leaves(PageSize::Size64K),
                (runs as i64).wrapping_neg(),
            );
        }
    }
}

/// A source of tables while `mmu_lock` is held, which were allocated before.
pub(crate) trait TableSource {
    /// Takes the next table, zeroed; [`None`] if there are no more, so that the caller must drop
    /// the lock and allocate.
    fn take(&mut self) -> Option<TablePage>;

    /// Takes back a table that is not needed, because another CPU was first to link one.
    fn give_back(&mut self, table: FormerTable);
}

impl<'a, M: TableMemory> MmuRead<'a, M> {
    /// Returns the root's entries.
    #[inline(always)]
    pub(super) fn root_table(&self) -> &RootTable {
        let root = self.root.mem.root(self.root.pfn);
        // SAFETY: By the invariants of `Root` its page is a root table that `mem` reaches and that
        // belongs to it, and the root is borrowed. Software accesses entries only atomically.
        unsafe { root.as_ref() }
    }

    /// Returns the table that a live entry points to.
    #[inline(always)]
    pub(super) fn table(&self, entry: TablePtr) -> &Table {
        let table = self.root.mem.table(Pfn::new(entry.ppn().get()));
        // SAFETY: By the invariants of `Root` a table entry points to a table of the tree. By the
        // invariant of `MmuRead`, and because detaching needs a mutable borrow, it stays one while
        // `self` is borrowed. Software accesses linked tables only atomically.
        unsafe { table.as_ref() }
    }
}

/// Tables that were taken out of the tree and wait for the flush, linked through their first
/// entries.
///
/// Harts may still walk them, so a link must look like an empty entry to them.
///
/// # Invariants
///
/// The tables from `head` to `tail` belong to this value, and the first entry of each but the last
/// names the next.
pub(super) struct Retired<M> {
    /// Access to the tables.
    mem: M,
    /// The first and the last table; [`None`] for an empty list.
    ends: Option<Ends>,
}

/// The first and the last table of a list.
#[derive(Clone, Copy)]
struct Ends {
    head: Ppn,
    tail: Ppn,
}

impl<M: TableMemory> Retired<M> {
    /// Returns an empty list.
    #[inline(always)]
    pub(super) fn none(mem: M) -> Self {
        // INVARIANT: There is no table, so there is no link.
        Retired { mem, ends: None }
    }

    /// Returns whether there is no table.
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_none()
    }

    /// Returns the first entry of the table at `ppn`, one of this list's.
    #[inline(always)]
    fn first(&self, ppn: Ppn) -> &PteCell {
        let table = self.mem.table(Pfn::new(ppn.get()));
        // SAFETY: By the type's invariant the table belongs to `self`, which is borrowed. Harts may
        // still read it, and software accesses it only atomically.
        let table = unsafe { table.as_ref() };
        table.slot(Gfn::new(0), Level::Page)
    }

    /// Takes over the table behind `entry`, which the caller just removed from the tree.
    #[inline(always)]
    pub(super) fn push(&mut self, entry: TablePtr) {
        self.mem.count(Counted::Tables, -1);
        let head = entry.ppn();
        let tail = match self.ends {
            None => head,
            Some(old) => {
                self.first(head).set(Pte::link(old.head));
                old.tail
            }
        };
        // INVARIANT: The caller hands over the table at `head`, and its first entry names the old
        // head if there was one.
        self.ends = Some(Ends { head, tail });
    }

    /// Joins both lists.
    #[cfg(test)]
    pub(super) fn and(mut self, other: Self) -> Self {
        self.ends = match (self.ends, other.ends) {
            (Some(ours), Some(theirs)) => {
                self.first(ours.tail).set(Pte::link(theirs.head));
                // INVARIANT: The last table of `self` names the first one of `other`.
                Some(Ends {
                    head: ours.head,
                    tail: theirs.tail,
                })
            }
            (ours, theirs) => ours.or(theirs),
        };
        self
    }

    /// Gives up one table.
    #[inline(always)]
    pub(super) fn pop(&mut self) -> Option<FormerTable> {
        let Ends { head, tail } = self.ends?;
        self.ends = if head == tail {
            None
        } else {
            Some(Ends {
                head: self.first(head).read_relaxed().ppn(),
                tail,
            })
        };
        // INVARIANT: The list begins after the table now, so the table belongs to the result alone.
        Some(FormerTable(head))
    }
}
