// SPDX-License-Identifier: GPL-2.0

//! What needs the write lock: taking translations and permissions away, ageing, splitting, device
//! pages.
//!
//! A range that covers a block in part gets the whole block unmapped or write-protected: that is
//! always safe, the guest faults and gets back what it may have. A table is freed when unmapping
//! passes its last frame and nothing is left in it, in whatever pieces the rest was unmapped
//! before; one that lost its last leaf otherwise stays until then, or until the tree is destroyed.
//!
//! Answers to the range operations of `gstage.c` and to `kvm_riscv_mmu_ioremap()`.

use crate::{
    mem::addr::{
        Gfn,
        GfnRange,
        Level,
        Pfn, //
    },
    sync::atomic::Ordering,
};

use super::{
    duty::{
        Flush,
        Progress,
        Stop,
        Teardown, //
    },
    pte::{
        self,
        Bits,
        Entry,
        Leaf,
        Pbmt,
        Pte,
        Rights,
        Slot,
        TablePtr, //
    },
    table::{
        TableMemory,
        TableSource, //
    },
    walk::{
        Place,
        Then,
        Visit, //
    },
    MmuRead,
    MmuWrite, //
};

/// Registers of a device that a guest is to reach without an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DevicePages {
    /// The frame of the first page.
    pub(crate) pfn: Pfn,
    /// How many pages.
    pub(crate) count: u64,
    /// [`Rights::Writable`], or [`Rights::HostReadOnly`] for registers that are only read.
    pub(crate) rights: Rights,
    /// [`Pbmt::Io`] if the host has Svpbmt, [`Pbmt::Pma`] if not.
    pub(crate) pbmt: Pbmt,
}

/// Whether a range was used by the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Age {
    /// No leaf has A set.
    Old,
    /// Some leaf has A set.
    Young,
}

impl<M: TableMemory> MmuWrite<'_, M> {
    /// Unmaps the frames of `range`.
    ///
    /// `stop_here` is asked after every table; if it says so and something is left to do, the
    /// operation ends early.
    pub(crate) fn unmap(
        &mut self,
        range: GfnRange,
        stop_here: impl FnMut() -> bool,
    ) -> Progress<Teardown<M>> {
        let mut visitor = Unmap {
            duty: Teardown::none(self.root.mem),
            stop_here,
        };
        let ended = self.walk(range, &mut visitor);
        Progress::new(ended, visitor.duty)
    }

    /// Takes write permission from the frames of `range`; `stop_here` as in [`Self::unmap`].
    pub(crate) fn write_protect(
        &mut self,
        range: GfnRange,
        stop_here: impl FnMut() -> bool,
    ) -> Progress<Flush> {
        let mut visitor = WriteProtect {
            duty: Flush::NONE,
            stop_here,
        };
        let ended = self.walk(range, &mut visitor);
        Progress::new(ended, visitor.duty)
    }

    /// Takes write permission from frame `base + i` for every bit `i` of `mask`.
    pub(crate) fn write_protect_masked(&mut self, base: Gfn, mask: u64) -> Flush {
        let mut visitor = WriteProtectMasked {
            duty: Flush::NONE,
            base,
            mask,
        };
        let range = visitor.range();
        self.walk(range, &mut visitor);
        visitor.duty
    }

    /// Tells whether the guest used a frame of `range` since it was last asked so, and forgets it.
    ///
    /// No flush is owed: a hart that remembers the leaf may use it without setting A again, which
    /// only makes a page look older than it is.
    pub(crate) fn age(&mut self, range: GfnRange) -> Age {
        let mut visitor = MakeOld { age: Age::Old };
        self.walk(range, &mut visitor);
        visitor.age
    }

    /// Tells whether the guest used a frame of `range` since [`Self::age`] last said so.
    pub(crate) fn test_age(&mut self, range: GfnRange) -> Age {
        let mut visitor = TestAge { age: Age::Old };
        self.walk(range, &mut visitor);
        visitor.age
    }

    /// Splits the blocks that map frames of `range` into 4 KiB leaves, as far as `tables` has
    /// tables; `stop_here` as in [`Self::unmap`].
    ///
    /// Of a block that is split, all pages inherit all permissions. Parts of it that are no
    /// frames of `range` may stay blocks of a smaller size.
    pub(crate) fn split<S: TableSource>(
        &mut self,
        range: GfnRange,
        tables: &mut S,
        stop_here: impl FnMut() -> bool,
    ) -> Progress<Flush> {
        let mut visitor = Split {
            duty: Flush::NONE,
            mem: self.root.mem,
            tables,
            stop_here,
        };
        let ended = self.walk(range, &mut visitor);
        Progress::new(ended, visitor.duty)
    }

    /// Maps a device's pages from `gfn` on, in place of whatever 4 KiB leaves are there.
    ///
    /// Ends with [`Stop::Occupied`] where a block is in the way, or where guest or host cannot
    /// have such a frame.
    #[cfg_attr(not(test), expect(dead_code, reason = "for AIA interrupt files"))]
    pub(crate) fn map_device<S: TableSource>(
        &mut self,
        gfn: Gfn,
        pages: DevicePages,
        tables: &mut S,
    ) -> Progress<Flush> {
        let mut duty = Flush::NONE;
        for offset in 0..pages.count {
            let at = gfn.saturating_add(offset);
            let leaf = pages
                .pfn
                .checked_add(offset)
                .and_then(pte::ppn)
                .map(|ppn| Leaf::device(ppn, pages.rights, pages.pbmt));
            let set = match leaf {
                Some(leaf) => self.set_page(at, leaf, tables),
                None => Err(Stop::Occupied),
            };
            match set {
                Ok(changed) => duty = duty.and(changed),
                Err(stop) => return Progress::new((at, stop), duty),
            }
        }
        let end = gfn.saturating_add(pages.count);
        Progress::new((end, Stop::Done), duty)
    }

    /// Sets the 4 KiB leaf for `gfn`.
    fn set_page<S: TableSource>(
        &mut self,
        gfn: Gfn,
        new: Leaf,
        tables: &mut S,
    ) -> Result<Flush, Stop> {
        if !self.mode().frames().contains(gfn) {
            return Err(Stop::Occupied);
        }
        let mut level = self.mode().top();
        let mut slot = self.root_table().slot(gfn, level);
        loop {
            let now = slot.peek();
            match (now.entry(), level.below()) {
                (Entry::Table(table), Some(below)) => {
                    level = below;
                    slot = self.table(table).slot(gfn, level);
                }
                (Entry::Empty, Some(_)) => {
                    self.note_use(gfn, level);
                    let table = tables.take().ok_or(Stop::NeedTables)?;
                    slot.set(Pte::table(&table));
                    table.linked();
                }
                (Entry::Leaf(_), Some(_)) | (Entry::Table(_), None) => {
                    return Err(Stop::Occupied);
                }
                (Entry::Empty, None) => {
                    slot.set(new.pte());
                    return Ok(Flush::NONE);
                }
                (Entry::Leaf(_), None) => {
                    slot.set(new.pte());
                    return Ok(Flush::of(GfnRange::single(gfn)));
                }
            }
        }
    }

    /// Unmaps everything and takes all tables out; only the root stays.
    ///
    /// Only groups of root entries that were ever used are looked at.
    pub(crate) fn destroy(&mut self) -> Teardown<M> {
        let mut duty = Teardown::none(self.root.mem);
        let top = self.mode().top();
        // Relaxed: the write lock orders it after all installs.
        let mut used = self.root.used.swap(0, Ordering::Relaxed);
        while used != 0 {
            let group = used.trailing_zeros() as usize;
            used &= used.wrapping_sub(1);
            for slot in self.root_table().in_group(group) {
                let entry = slot.peek().entry();
                slot.clear();
                match entry {
                    Entry::Empty => continue,
                    Entry::Leaf(_) => {}
                    Entry::Table(table) => {
                        if let Some(level) = top.below() {
                            retire(&self.read, table, level, &mut duty);
                        }
                    }
                }
                duty.add(self.mode().frames());
            }
        }
        duty
    }
}

/// Takes over `table`, one of `level` that is linked no more, and all tables below it.
fn retire<M: TableMemory>(
    view: &MmuRead<'_, M>,
    table: TablePtr,
    level: Level,
    duty: &mut Teardown<M>,
) {
    if let Some(below) = level.below() {
        for slot in view.table(table).slots() {
            if let Entry::Table(child) = slot.peek().entry() {
                retire(view, child, below, duty);
            }
        }
    }
    duty.retire(table);
}

struct Unmap<M, F> {
    duty: Teardown<M>,
    stop_here: F,
}

impl<M: TableMemory, F: FnMut() -> bool> Visit<M> for Unmap<M, F> {
    #[inline(always)]
    fn pages(&mut self, slots: &[Slot], first: Gfn) {
        let mut had = Pte::EMPTY;
        for slot in slots {
            let pte = slot.peek();
            if pte != Pte::EMPTY {
                slot.clear();
                had = had.or(pte);
            }
        }
        if had != Pte::EMPTY {
            self.duty.add(GfnRange::from_len(first, slots.len() as u64));
        }
    }

    #[inline(always)]
    fn block(&mut self, place: &Place<'_>, _leaf: Leaf) -> Then {
        place.slot.clear();
        self.duty.add(place.span);
        Then::Next
    }

    #[inline(always)]
    fn table(&mut self, place: &Place<'_>, table: TablePtr) -> Then {
        // A leaf table as a whole: what it maps goes with it, unseen.
        if place.level == Level::Mega && place.is_whole() {
            place.slot.clear();
            self.duty.retire(table);
            return Then::Next;
        }
        Then::Enter
    }

    #[inline(always)]
    fn leave(&mut self, place: &Place<'_>, table: TablePtr, slots: &[Slot]) {
        if place.part.end() != place.span.end() {
            return;
        }
        if place.is_whole() || slots.iter().all(|slot| slot.peek() == Pte::EMPTY) {
            place.slot.clear();
            self.duty.retire(table);
        }
    }

    #[inline(always)]
    fn stop_here(&mut self) -> bool {
        (self.stop_here)()
    }
}

/// Takes write permission from one leaf; tells whether it had it.
#[inline(always)]
fn protect(slot: &Slot) -> Pte {
    let pte = slot.peek();
    if pte.any(Bits::WRITE) {
        slot.withdraw(Bits::WRITE);
    }
    pte
}

/// Takes write permission from a block, and flushes all of it if it had it.
#[inline(always)]
fn protect_block(place: &Place<'_>, duty: &mut Flush) -> Then {
    if protect(place.slot).any(Bits::WRITE) {
        duty.add(place.span);
    }
    Then::Next
}

struct WriteProtect<F> {
    duty: Flush,
    stop_here: F,
}

impl<M: TableMemory, F: FnMut() -> bool> Visit<M> for WriteProtect<F> {
    #[inline(always)]
    fn pages(&mut self, slots: &[Slot], first: Gfn) {
        let mut had = Pte::EMPTY;
        for slot in slots {
            had = had.or(protect(slot));
        }
        if had.any(Bits::WRITE) {
            self.duty.add(GfnRange::from_len(first, slots.len() as u64));
        }
    }

    #[inline(always)]
    fn block(&mut self, place: &Place<'_>, _leaf: Leaf) -> Then {
        protect_block(place, &mut self.duty)
    }

    #[inline(always)]
    fn stop_here(&mut self) -> bool {
        (self.stop_here)()
    }
}

struct WriteProtectMasked {
    duty: Flush,
    base: Gfn,
    mask: u64,
}

impl WriteProtectMasked {
    /// From the first to the last frame of the mask.
    fn range(&self) -> GfnRange {
        let past_last = u64::BITS - self.mask.leading_zeros();
        GfnRange::new(
            self.base
                .saturating_add(u64::from(self.mask.trailing_zeros())),
            self.base.saturating_add(u64::from(past_last)),
        )
    }

    /// The bits of the mask from `gfn`'s on.
    #[inline(always)]
    fn mask_from(&self, gfn: Gfn) -> u64 {
        let bit = gfn.get().wrapping_sub(self.base.get());
        u32::try_from(bit)
            .ok()
            .and_then(|bit| self.mask.checked_shr(bit))
            .unwrap_or(0)
    }
}

impl<M: TableMemory> Visit<M> for WriteProtectMasked {
    #[inline(always)]
    fn pages(&mut self, slots: &[Slot], first: Gfn) {
        let mut mask = self.mask_from(first);
        let mut had = Pte::EMPTY;
        for slot in slots {
            if mask & 1 != 0 {
                had = had.or(protect(slot));
            }
            mask >>= 1;
        }
        if had.any(Bits::WRITE) {
            self.duty.add(GfnRange::from_len(first, slots.len() as u64));
        }
    }

    #[inline(always)]
    fn block(&mut self, place: &Place<'_>, _leaf: Leaf) -> Then {
        // Larger than the mask, a block in the range has the range's first or last frame, and
        // both have their bits set.
        protect_block(place, &mut self.duty)
    }
}

struct MakeOld {
    age: Age,
}

impl MakeOld {
    #[inline(always)]
    fn one(&mut self, slot: &Slot) {
        if slot.peek().any(Bits::ACCESSED) {
            slot.withdraw(Bits::ACCESSED);
            self.age = Age::Young;
        }
    }
}

impl<M: TableMemory> Visit<M> for MakeOld {
    #[inline(always)]
    fn pages(&mut self, slots: &[Slot], _first: Gfn) {
        for slot in slots {
            self.one(slot);
        }
    }

    #[inline(always)]
    fn block(&mut self, place: &Place<'_>, _leaf: Leaf) -> Then {
        self.one(place.slot);
        Then::Next
    }
}

struct TestAge {
    age: Age,
}

impl<M: TableMemory> Visit<M> for TestAge {
    #[inline(always)]
    fn pages(&mut self, slots: &[Slot], _first: Gfn) {
        if slots.iter().any(|slot| slot.peek().any(Bits::ACCESSED)) {
            self.age = Age::Young;
        }
    }

    #[inline(always)]
    fn block(&mut self, _place: &Place<'_>, leaf: Leaf) -> Then {
        if leaf.is_young() {
            self.age = Age::Young;
        }
        Then::Next
    }

    /// One young leaf is enough.
    #[inline(always)]
    fn stop_here(&mut self) -> bool {
        self.age == Age::Young
    }
}

struct Split<'s, M, S, F> {
    duty: Flush,
    mem: M,
    tables: &'s mut S,
    stop_here: F,
}

impl<M: TableMemory, S: TableSource, F: FnMut() -> bool> Visit<M> for Split<'_, M, S, F> {
    #[inline(always)]
    fn pages(&mut self, _slots: &[Slot], _first: Gfn) {}

    #[inline(always)]
    fn block(&mut self, place: &Place<'_>, leaf: Leaf) -> Then {
        let Some(below) = place.level.below() else {
            return Then::Next;
        };
        let Some(mut table) = self.tables.take() else {
            return Then::End(Stop::NeedTables);
        };
        table.fill(self.mem, leaf, below);
        place.slot.set(Pte::table(&table));
        table.linked();
        self.duty.add(place.span);
        Then::Again
    }

    #[inline(always)]
    fn table(&mut self, place: &Place<'_>, _table: TablePtr) -> Then {
        // A leaf table has no blocks.
        if place.level == Level::Mega {
            Then::Next
        } else {
            Then::Enter
        }
    }

    #[inline(always)]
    fn stop_here(&mut self) -> bool {
        (self.stop_here)()
    }
}
