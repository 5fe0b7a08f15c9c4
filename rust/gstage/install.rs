// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! The operations of a fault: look up, install, make writable. All run under the read lock.
//!
//! Answers to `kvm_riscv_gstage_map_page()` and to the dirty-log write fault of `mmu.c`.

use crate::{
    gstage::{
        around::Neighbours,
        flush::Flush,
        napot::{
            self,
            Claim, //
        },
        pte::{
            self,
            Bits,
            Entry,
            Leaf,
            Ppn,
            Pte,
            PteCell,
            Rights, //
        },
        table::{
            Counted,
            RootTable,
            Table,
            TableMemory,
            TableSource, //
        }, //
        MmuRead,
    },
    kernel_ext::atomic::Ordering,
    kvm_core::{
        addr::{
            Gfn,
            Gpa,
            Level,
            PageSize,
            Pfn, //
        },
        host_mapping::{
            HostMapping,
            HostWrite, //
        }, //
    }, //
};

/// The address that a guest could not access.
///
/// Deliberately not a [`Gpa`]: which entry is looked at follows from the faulting address alone,
/// however large the block that is installed around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FaultGpa(Gpa);

impl FaultGpa {
    /// Takes the faulting address, with the offset in its page or without.
    #[inline(always)]
    pub(crate) const fn new(gpa: Gpa) -> Self {
        Self(gpa)
    }

    /// Returns the faulting frame.
    #[inline(always)]
    pub(crate) const fn gfn(self) -> Gfn {
        self.0.gfn()
    }
}

/// What the host has behind a faulting frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostPage {
    /// The frame behind the faulting frame itself, not behind the start of a block.
    pfn: Pfn,
    /// The largest block around it that may be mapped.
    size: PageSize,
    /// What the guest may do with all of the block.
    rights: Rights,
}

impl HostPage {
    /// Makes a page that the host has given. The frame of `mapping` is behind the faulting frame
    /// itself, not behind the start of a block. Its size is the largest block around it that
    /// memslot, host mapping, dirty logging and CPU allow. Blocks are used as far as both frames
    /// have the same offset in them, or else smaller ones. [`PageSize::Size64K`] makes a Svnapot
    /// run: only for a host that has the extension. No runs are made where larger sizes are allowed
    /// but not possible.
    ///
    /// `rights` is what the guest may do, for all of the block; no more than `mapping` allows.
    #[inline(always)]
    pub(crate) fn new(mapping: HostMapping<'_>, rights: Rights) -> Self {
        let rights = match mapping.stores() {
            HostWrite::ReadOnly => Rights::HostReadOnly,
            HostWrite::Clean | HostWrite::Dirty => rights,
        };
        Self {
            pfn: mapping.pfn(),
            size: mapping.size(),
            rights,
        }
    }

    /// Makes a page that the host was not asked for, as [`new`](Self::new) does: the guest may
    /// write only if the host has marked it dirty already.
    #[inline(always)]
    pub(crate) fn unasked(mapping: HostMapping<'_>, rights: Rights) -> Self {
        let rights = match mapping.stores() {
            HostWrite::Dirty => rights,
            HostWrite::ReadOnly | HostWrite::Clean => Rights::HostReadOnly,
        };
        Self {
            pfn: mapping.pfn(),
            size: mapping.size(),
            rights,
        }
    }

    /// Makes a page as the host of a test has it.
    #[cfg(test)]
    pub(crate) fn of_test(pfn: Pfn, size: PageSize, rights: Rights) -> Self {
        Self { pfn, size, rights }
    }

    /// Returns the frame.
    #[inline(always)]
    pub(crate) fn pfn(&self) -> Pfn {
        self.pfn
    }

    /// Returns the largest block that may be mapped.
    #[inline(always)]
    pub(crate) fn size(&self) -> PageSize {
        self.size
    }

    /// Returns what the guest may do.
    #[inline(always)]
    pub(crate) fn rights(&self) -> Rights {
        self.rights
    }
}

/// The result of [`MmuRead::install`].
#[must_use]
#[derive(Debug)]
pub(crate) struct Install {
    /// What the walk found or did.
    pub(crate) outcome: Outcome,
    /// The level of the entry that the walk ended at.
    pub(crate) level: Level,
    /// The frames of a block that was split on the way, whatever the outcome.
    ///
    /// Cached translations of the block stay right until an entry below it changes, and the CPU
    /// that takes an entry away flushes that: so it is enough to fence the faulting hart.
    pub(crate) flush: Flush,
}

/// What [`MmuRead::install`] found or did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The entry was empty and is a leaf now. A hart without Svvptc may remember the empty entry.
    Mapped,
    /// The entry mapped the same page with fewer permissions, or was not young. The faulting hart
    /// must be fenced; other harts that remember the old entry will fault and find
    /// [`Self::Already`].
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

/// The outcome of [`MmuRead::make_writable`].
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MakeWritable {
    /// The leaf is writable now; the faulting hart must be fenced.
    Done,
    /// The leaf was writable; the faulting hart remembers an old one and must be fenced.
    AlreadyWritable,
    /// Nothing is mapped.
    NotPresent,
    /// The host page is not known to be writable, or the leaf is a block or a run, which dirty
    /// logging must split: the slow path decides.
    NotAllowed,
}

/// A leaf of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// Its value.
    pub(crate) leaf: Leaf,
    /// The level of its entry.
    pub(crate) level: Level,
}

impl<M: TableMemory> MmuRead<'_, M> {
    /// Returns the leaf that maps `gfn`, or [`None`] if nothing does.
    #[cfg(test)]
    pub(crate) fn lookup(&self, gfn: Gfn) -> Option<Mapping> {
        let (_, mapping) = self.leaf(gfn)?;
        Some(mapping)
    }

    /// Returns whether there is a leaf that maps `gfn`.
    pub(crate) fn is_mapped(&self, gfn: Gfn) -> bool {
        self.leaf(gfn).is_some()
    }

    /// Returns the entry of the leaf that maps `gfn`, and its value; [`None`] if nothing maps it.
    #[inline(always)]
    fn leaf(&self, gfn: Gfn) -> Option<(&PteCell, Mapping)> {
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
    /// address is mapped to `page.pfn`, and the guest may do at least what `page.rights` says.
    ///
    /// With it comes the leaf table that the walk ended in, for [`fill`](Self::fill); [`None`] if
    /// it ended above.
    #[inline(always)]
    pub(crate) fn install<S: TableSource>(
        &self,
        fault: FaultGpa,
        page: HostPage,
        tables: &mut S,
    ) -> (Install, Option<Neighbours<'_>>) {
        match self.install_page(fault.gfn(), page) {
            Some(neighbours) => (
                Install {
                    outcome: Outcome::Mapped,
                    level: Level::Page,
                    flush: Flush::NONE,
                },
                Some(neighbours),
            ),
            None => self.install_any(fault, page, tables),
        }
    }

    /// Installs the page in the case that most faults come to: the leaf table is there and has
    /// nothing at `gfn`. Returns [`None`] if that is not so, or if a run is to be made.
    #[inline(always)]
    fn install_page(&self, gfn: Gfn, page: HostPage) -> Option<Neighbours<'_>> {
        let ppn = pte::ppn(page.pfn())?;
        let table = self.leaf_table(gfn)?;
        if page.size() == PageSize::Size64K {
            return None;
        }
        let leaf = Leaf::memory(ppn, page.rights());
        let slot = table.slot(gfn, Level::Page);
        slot.replace(Pte::EMPTY, leaf.pte()).ok()?;
        self.root.mem.count(Counted::Leaves(PageSize::Size4K), 1);
        Some(Neighbours::new(table, gfn))
    }

    /// Returns the leaf table for `gfn`, if there is one.
    #[inline(always)]
    fn leaf_table(&self, gfn: Gfn) -> Option<&Table> {
        if !self.mode().frames().contains(gfn) {
            return None;
        }
        let top = self.mode().top();
        let mut slot = self.root_table().slot(gfn, top);
        // Every fault comes here: in instructions, counting levels down is cheaper than asking each
        // for the one below.
        let mut below = top as u32;
        loop {
            let table = self.table(slot.load().table_ptr()?);
            below = below.wrapping_sub(1);
            if below == 0 {
                return Some(table);
            }
            slot = table.slot_at(gfn, below);
        }
    }

    /// Does what [`install`](Self::install) does, in all cases.
    #[inline(never)]
    fn install_any<S: TableSource>(
        &self,
        fault: FaultGpa,
        page: HostPage,
        tables: &mut S,
    ) -> (Install, Option<Neighbours<'_>>) {
        let gfn = fault.gfn();
        let mem = self.root.mem;
        let mut level = self.mode().top();
        let mut flush = Flush::NONE;
        let wanted = Wanted::new(gfn, page).filter(|_| self.mode().frames().contains(gfn));
        let Some(mut wanted) = wanted else {
            let outcome = Outcome::OutOfRange;
            return (
                Install {
                    outcome,
                    level,
                    flush,
                },
                None,
            );
        };
        let mut slot = self.root_table().slot(gfn, level);
        let mut table: Option<&Table> = None;
        let outcome = loop {
            let now = slot.load();
            match now.entry() {
                Entry::Table(below) => {
                    let Some(lower) = level.below() else {
                        // No code makes a valid entry of the last level without permissions.
                        break Outcome::Occupied(Pfn::new(below.ppn().get()));
                    };
                    level = lower;
                    let below = self.table(below);
                    slot = below.slot(gfn, level);
                    table = Some(below);
                }
                Entry::Empty if level == Level::Page => {
                    if let (RunChoice::Make, Some(table)) = (wanted.run, table) {
                        if let Some(outcome) = wanted.claim(mem, table) {
                            break outcome;
                        }
                    } else if slot.replace(now, wanted.page().pte()).is_ok() {
                        mem.count(Counted::Leaves(PageSize::Size4K), 1);
                        break Outcome::Mapped;
                    }
                }
                Entry::Empty if level <= wanted.largest => {
                    self.note_use(gfn, level);
                    if slot.replace(now, wanted.block(level).pte()).is_ok() {
                        mem.count(Counted::Leaves(level.leaf_size()), 1);
                        break Outcome::Mapped;
                    }
                }
                Entry::Empty => {
                    self.note_use(gfn, level);
                    let Some(table) = tables.take() else {
                        break Outcome::NeedTables;
                    };
                    if slot.replace(now, Pte::table(&table)).is_ok() {
                        table.linked(mem);
                    } else {
                        tables.give_back(table.discard());
                    }
                }
                Entry::Leaf(leaf) => {
                    let done = match table {
                        Some(table) if leaf.pte().in_run() => {
                            wanted.run_there(mem, table, slot, leaf, &mut flush)
                        }
                        _ => wanted.leaf_there(mem, slot, level, leaf, tables, &mut flush),
                    };
                    if let Some(outcome) = done {
                        break outcome;
                    }
                }
            }
        };
        let install = Install {
            outcome,
            level,
            flush,
        };
        let neighbours = match (level, table) {
            (Level::Page, Some(table)) => Some(Neighbours::new(table, gfn)),
            _ => None,
        };
        (install, neighbours)
    }

    /// Turns a write-protected 4 KiB leaf writable if its host page is known to be, as dirty
    /// logging wants it; the caller marks the page dirty before it drops the lock.
    #[inline]
    pub(crate) fn make_writable(&self, fault: FaultGpa) -> MakeWritable {
        let gfn = fault.gfn();
        let Some(table) = self.leaf_table(gfn) else {
            return match self.leaf(gfn) {
                Some(_) => MakeWritable::NotAllowed,
                None => MakeWritable::NotPresent,
            };
        };
        let slot = table.slot(gfn, Level::Page);
        let now = slot.load();
        if now == Pte::EMPTY {
            return MakeWritable::NotPresent;
        }
        if !now.host_writable() || now.in_run() {
            return MakeWritable::NotAllowed;
        }
        if now.all(Bits::WRITABLE) {
            return MakeWritable::AlreadyWritable;
        }
        slot.grant(Bits::WRITABLE);
        MakeWritable::Done
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

/// The leaf that a fault wants to install.
struct Wanted {
    gfn: Gfn,
    ppn: Ppn,
    rights: Rights,
    /// The highest level at which one entry can map all of it.
    largest: Level,
    run: RunChoice,
}

impl Wanted {
    /// Takes `page` for `gfn`; [`None`] if its frame number does not fit into an entry.
    #[inline]
    fn new(gfn: Gfn, page: HostPage) -> Option<Self> {
        Some(Self {
            gfn,
            ppn: pte::ppn(page.pfn())?,
            rights: page.rights(),
            largest: largest(gfn, page),
            run: RunChoice::new(gfn, page),
        })
    }

    /// Returns the leaf for the page by itself.
    #[inline]
    fn page(&self) -> Leaf {
        Leaf::memory(self.ppn, self.rights)
    }

    /// Returns the leaf for the block of `level` around the page.
    #[inline]
    fn block(&self, level: Level) -> Leaf {
        // Clearing bits keeps the number in bounds.
        let first = Ppn::try_new(self.ppn.get() & !(level.frames() - 1)).unwrap_or(self.ppn);
        Leaf::memory(first, self.rights)
    }

    /// Makes a run of the entries around the page, or upgrades the one that is there. Returns
    /// [`None`] if only the page can be mapped, about which the fault is from now on.
    fn claim<M: TableMemory>(&mut self, mem: M, table: &Table) -> Option<Outcome> {
        let whole = Leaf::run(self.ppn, self.rights);
        match napot::claim(mem, table.run(self.gfn), self.gfn, whole) {
            Claim::Run(before) => Some(gained(before, whole)),
            Claim::Pages => {
                self.run = RunChoice::Pages;
                None
            }
        }
    }

    /// Handles an entry, `slot` of `table`, that is `leaf`, one of a run. Returns [`None`] if it
    /// must be looked at again.
    fn run_there<M: TableMemory>(
        &mut self,
        mem: M,
        table: &Table,
        slot: &PteCell,
        leaf: Leaf,
        flush: &mut Flush,
    ) -> Option<Outcome> {
        let there = leaf.pfn_of(self.gfn, Level::Page);
        let whole = Leaf::run(self.ppn, self.rights);
        if there.get() != self.ppn.get() || !leaf.translates_as(whole) {
            return Some(Outcome::Occupied(there));
        }
        match self.run {
            RunChoice::Make | RunChoice::Keep => self.claim(mem, table),
            RunChoice::Pages => {
                let run = table.run(self.gfn);
                let (outcome, split) =
                    napot::page_of_run(mem, run, slot, self.gfn, leaf, self.page())?;
                flush.merge(split);
                Some(outcome)
            }
        }
    }

    /// Handles an entry, `slot` of a table of `level`, that is `leaf`, in no run. Returns [`None`]
    /// if it must be looked at again: it has changed, or is a table now.
    fn leaf_there<M: TableMemory, S: TableSource>(
        &self,
        mem: M,
        slot: &PteCell,
        level: Level,
        leaf: Leaf,
        tables: &mut S,
        flush: &mut Flush,
    ) -> Option<Outcome> {
        let wanted = self.page();
        if !leaf.part_for(self.gfn, level).translates_as(wanted) {
            return Some(Outcome::Occupied(leaf.pfn_of(self.gfn, level)));
        }
        let lacks = leaf.lacks(wanted);
        let gain = if level <= self.largest {
            lacks
        } else {
            // The wanted permissions hold for a part of this block only.
            lacks.status()
        };
        match level.below() {
            Some(below) if level > self.largest && lacks.permission() => {
                let Some(mut table) = tables.take() else {
                    return Some(Outcome::NeedTables);
                };
                table.fill(mem, leaf, below);
                if slot.replace(leaf.pte(), Pte::table(&table)).is_ok() {
                    table.replaced_block(mem, below);
                    flush.add(level.span(self.gfn));
                } else {
                    tables.give_back(table.discard());
                }
                None
            }
            _ if gain.is_none() => Some(Outcome::Already),
            _ => {
                // Compare and exchange instead of setting bits, because another CPU may turn a
                // block into a table meanwhile.
                let upgraded = slot.replace(leaf.pte(), leaf.with(gain).pte());
                upgraded.is_ok().then_some(Outcome::Upgraded)
            }
        }
    }
}

/// Returns the outcome of a fault whose page had the entry `before`, which now is at least
/// `wanted`.
#[inline]
fn gained(before: Pte, wanted: Leaf) -> Outcome {
    match before.entry() {
        Entry::Leaf(leaf) if leaf.lacks(wanted).is_none() => Outcome::Already,
        Entry::Leaf(_) => Outcome::Upgraded,
        Entry::Empty | Entry::Table(_) => Outcome::Mapped,
    }
}

/// What a fault does about Svnapot.
#[derive(Clone, Copy)]
enum RunChoice {
    /// Makes a run where nothing is mapped.
    Make,
    /// Treats a run that is there as a whole.
    Keep,
    /// Is about one page.
    Pages,
}

impl RunChoice {
    /// Chooses by the size of the host's page, and by whether guest and host frame have the same
    /// offset in 64 KiB.
    #[inline(always)]
    fn new(gfn: Gfn, page: HostPage) -> Self {
        let is_aligned = (gfn.get() ^ page.pfn().get()) % PageSize::Size64K.frames() == 0;
        match page.size() {
            PageSize::Size4K => Self::Pages,
            _ if !is_aligned => Self::Pages,
            PageSize::Size64K => Self::Make,
            // The size does not tell whether the CPU has Svnapot, so no run is made.
            PageSize::Size2M | PageSize::Size1G => Self::Keep,
        }
    }
}

/// Returns the highest level at which one entry can map `gfn` and its neighbours as `page` says.
#[inline(always)]
fn largest(gfn: Gfn, page: HostPage) -> Level {
    // In a block, guest and host frame have the same offset.
    let differ = gfn.get() ^ page.pfn().get();
    let mut level = page.size().level();
    while differ & (level.frames() - 1) != 0 {
        match level.below() {
            Some(below) => level = below,
            None => break,
        }
    }
    level
}
