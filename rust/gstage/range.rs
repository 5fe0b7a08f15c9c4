// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! The operations that need the write lock: taking translations and permissions away, ageing,
//! splitting.
//!
//! A range that covers a block in part gets the whole block unmapped or write-protected: that is
//! always safe, because the guest faults and gets back what it may have. A Svnapot run is a block.
//! A table is freed when unmapping passes its last frame and nothing is left in it, in whatever
//! pieces the rest was unmapped before; one that lost its last leaf otherwise stays until then, or
//! until the tree is destroyed.
//!
//! Answers to the range operations of `gstage.c`.

use crate::{
    gstage::{
        flush::{
            Flush,
            Progress,
            Stop,
            Teardown, //
        },
        napot,
        pte::{
            Age,
            Bits,
            Entry,
            Leaf,
            Pte,
            PteCell,
            TablePtr, //
            NAPOT_PTES,
        },
        table::{
            Counted,
            StatDelta,
            TableMemory,
            TableSource, //
        },
        walk::{
            VisitCtx,
            Visitor,
            WalkAction, //
        }, //
        MmuRead,
        MmuWrite,
    },
    kernel_ext::atomic::Ordering,
    kvm_core::addr::{
        Gfn,
        GfnRange,
        Level, //
    }, //
};

impl<M: TableMemory> MmuWrite<'_, M> {
    /// Unmaps the frames of `range`.
    ///
    /// `stop_here` is called after every table; if it returns true and something is left to do, the
    /// operation ends early.
    pub(crate) fn unmap(
        &mut self,
        range: GfnRange,
        stop_here: impl FnMut() -> bool,
    ) -> Progress<Teardown<M>> {
        let mut visitor = Unmap {
            mem: self.root.mem,
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
    /// All pages of a block that is split inherit all its permissions. Parts of it that are no
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

    /// Unmaps everything and takes all tables out; only the root stays.
    ///
    /// Only groups of root entries that were ever used are looked at. `pause` is called after every
    /// table; a caller that needs no lock to have the tree for itself may let other threads run.
    pub(crate) fn destroy(&mut self, mut pause: impl FnMut()) -> Teardown<M> {
        let mut duty = Teardown::none(self.root.mem);
        let top = self.mode().top();
        // Relaxed: the write lock orders it after all installs.
        let mut used = self.root.used.swap(0, Ordering::Relaxed);
        while used != 0 {
            let group = used.trailing_zeros() as usize;
            used &= used.wrapping_sub(1);
            for slot in self.root_table().in_group(group) {
                let entry = slot.read_relaxed().entry();
                slot.clear();
                match entry {
                    Entry::Empty => continue,
                    Entry::Leaf(_) => self.root.mem.count(Counted::Leaves(top.leaf_size()), -1),
                    Entry::Table(table) => {
                        if let Some(level) = top.below() {
                            retire(&self.read, table, level, &mut duty, &mut pause);
                        }
                    }
                }
                duty.add(self.mode().frames());
            }
        }
        duty
    }
}

/// Takes over `table`, one of `level` that no entry points to any more, and all tables below it.
fn retire<M: TableMemory>(
    view: &MmuRead<'_, M>,
    table: TablePtr,
    level: Level,
    duty: &mut Teardown<M>,
    pause: &mut impl FnMut(),
) {
    let mem = view.root.mem;
    let slots = view.table(table).slots();
    match level.below() {
        None => StatDelta::of(slots).count_out(mem),
        Some(below) => {
            for slot in slots {
                match slot.read_relaxed().entry() {
                    Entry::Empty => {}
                    Entry::Leaf(_) => mem.count(Counted::Leaves(level.leaf_size()), -1),
                    Entry::Table(child) => retire(view, child, below, duty, pause),
                }
            }
        }
    }
    duty.retire(table);
    pause();
}

/// Empties entries, and takes tables out that it has emptied.
struct Unmap<M, F> {
    mem: M,
    duty: Teardown<M>,
    stop_here: F,
}

impl<M: TableMemory, F: FnMut() -> bool> Visitor<M> for Unmap<M, F> {
    #[inline(always)]
    fn passes(&self, part: GfnRange, frames: u64) -> bool {
        // A table is taken out when its last frame is unmapped.
        part.end().get() & (frames - 1) != 0
    }

    #[inline(always)]
    fn pages(&mut self, slots: &[PteCell], first: Gfn) {
        let mut had = StatDelta::default();
        for slot in slots {
            let pte = slot.read_relaxed();
            if pte != Pte::EMPTY {
                slot.clear();
                had.add(pte);
            }
        }
        if !had.is_empty() {
            had.count_out(self.mem);
            self.duty.add(GfnRange::from_len(first, slots.len() as u64));
        }
    }

    #[inline(always)]
    fn block(&mut self, place: &VisitCtx<'_>, _leaf: Leaf) -> WalkAction {
        place.slot.clear();
        self.mem.count(Counted::Leaves(place.level.leaf_size()), -1);
        self.duty.add(place.span);
        WalkAction::Next
    }

    #[inline(always)]
    fn table(&mut self, place: &VisitCtx<'_>, table: TablePtr, slots: &[PteCell]) -> WalkAction {
        // A leaf table is taken out as a whole, and its entries are only counted.
        if place.level == Level::Mega && place.is_whole() {
            place.slot.clear();
            StatDelta::of(slots).count_out(self.mem);
            self.duty.retire(table);
            return WalkAction::Next;
        }
        WalkAction::Enter
    }

    #[inline(always)]
    fn table_post(&mut self, place: &VisitCtx<'_>, table: TablePtr, slots: &[PteCell]) {
        if place.part.end() != place.span.end() {
            return;
        }
        if place.is_whole() || slots.iter().all(|slot| slot.read_relaxed() == Pte::EMPTY) {
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
fn protect(slot: &PteCell) -> Pte {
    let pte = slot.read_relaxed();
    if pte.any(Bits::WRITE) {
        slot.withdraw(Bits::WRITE);
    }
    pte
}

/// Takes write permission from a block, and flushes all of it if it had it.
#[inline(always)]
fn protect_block(place: &VisitCtx<'_>, duty: &mut Flush) -> WalkAction {
    if protect(place.slot).any(Bits::WRITE) {
        duty.add(place.span);
    }
    WalkAction::Next
}

/// Takes the guest's write permission from all leaves.
struct WriteProtect<F> {
    duty: Flush,
    stop_here: F,
}

impl<M: TableMemory, F: FnMut() -> bool> Visitor<M> for WriteProtect<F> {
    #[inline(always)]
    fn pages(&mut self, slots: &[PteCell], first: Gfn) {
        let mut had = Pte::EMPTY;
        for slot in slots {
            had = had.or(protect(slot));
        }
        if had.any(Bits::WRITE) {
            self.duty.add(GfnRange::from_len(first, slots.len() as u64));
        }
    }

    #[inline(always)]
    fn block(&mut self, place: &VisitCtx<'_>, _leaf: Leaf) -> WalkAction {
        protect_block(place, &mut self.duty)
    }

    #[inline(always)]
    fn stop_here(&mut self) -> bool {
        (self.stop_here)()
    }
}

/// Takes the guest's write permission from the pages whose bits are set in `mask`; bit 0 is `base`.
struct WriteProtectMasked {
    duty: Flush,
    base: Gfn,
    mask: u64,
}

impl WriteProtectMasked {
    /// Returns the range from the first to the last frame of the mask.
    fn range(&self) -> GfnRange {
        let past_last = u64::BITS - self.mask.leading_zeros();
        GfnRange::new(
            self.base
                .saturating_add(u64::from(self.mask.trailing_zeros())),
            self.base.saturating_add(u64::from(past_last)),
        )
    }

    /// Returns the bits of the mask from `gfn`'s on.
    #[inline(always)]
    fn mask_from(&self, gfn: Gfn) -> u64 {
        let (gfn, base) = (gfn.get(), self.base.get());
        let shift = |distance: u64| u32::try_from(distance).unwrap_or(u32::MAX);
        if gfn >= base {
            self.mask.checked_shr(shift(gfn - base)).unwrap_or(0)
        } else {
            // The run begins before the mask.
            self.mask.checked_shl(shift(base - gfn)).unwrap_or(0)
        }
    }

    /// Takes write permission from the runs among `slots` that have a frame whose bit is set.
    #[cold]
    fn runs(&mut self, slots: &[PteCell], first: Gfn) {
        let mut gfn = first;
        let mut rest = slots;
        while !rest.is_empty() {
            // Only the end of the first group of 16 may be among `slots`; then the group is no run.
            let len = NAPOT_PTES - gfn.get() as usize % NAPOT_PTES;
            let (slots, others) = rest.split_at(len.min(rest.len()));
            let wanted = self.mask_from(gfn) & ((1 << len) - 1) != 0;
            if wanted
                && slots
                    .first()
                    .is_some_and(|slot| slot.read_relaxed().in_run())
            {
                for slot in slots {
                    slot.withdraw(Bits::WRITE);
                }
                self.duty.add(GfnRange::from_len(gfn, NAPOT_PTES as u64));
            }
            gfn = gfn.saturating_add(len as u64);
            rest = others;
        }
    }
}

impl<M: TableMemory> Visitor<M> for WriteProtectMasked {
    #[inline(always)]
    fn passes(&self, _part: GfnRange, _frames: u64) -> bool {
        true
    }

    #[inline(always)]
    fn pages(&mut self, slots: &[PteCell], first: Gfn) {
        // A run may begin before the mask does.
        let start = first.max(self.base);
        let before = start.get().wrapping_sub(first.get()) as usize;
        let masked = slots.get(before..).unwrap_or_default();
        let mut mask = self.mask_from(start);
        let bits = u64::BITS.saturating_sub(masked.len() as u32);
        let all = u64::MAX.checked_shr(bits).unwrap_or(0);
        let mut had = Pte::EMPTY;
        // The frames whose bit is set were written to, so nearly all are writable, and a look
        // before would not pay.
        if mask & all == all {
            // Four at a time, because the loop's own overhead would be more than its body.
            let fours = masked.chunks_exact(4);
            for slot in fours.remainder() {
                had = had.or(slot.withdraw(Bits::WRITE));
            }
            for slots in fours {
                for slot in slots {
                    had = had.or(slot.withdraw(Bits::WRITE));
                }
            }
        } else {
            for slot in masked {
                if mask & 1 != 0 {
                    had = had.or(slot.withdraw(Bits::WRITE));
                }
                mask >>= 1;
            }
        }
        if had.any(Bits::WRITE) {
            self.duty
                .add(GfnRange::from_len(start, masked.len() as u64));
            if had.in_run() {
                self.runs(slots, first);
            }
        }
    }

    #[inline(always)]
    fn block(&mut self, place: &VisitCtx<'_>, _leaf: Leaf) -> WalkAction {
        // Larger than the mask, a block in the range has the range's first or last frame, and
        // both have their bits set.
        protect_block(place, &mut self.duty)
    }
}

/// Clears the bit A of all leaves, and notes whether one had it.
struct MakeOld {
    age: Age,
}

impl MakeOld {
    /// Clears A of one entry.
    #[inline(always)]
    fn one(&mut self, slot: &PteCell) {
        if slot.read_relaxed().any(Bits::ACCESSED) {
            slot.withdraw(Bits::ACCESSED);
            self.age = Age::Young;
        }
    }
}

impl<M: TableMemory> Visitor<M> for MakeOld {
    #[inline(always)]
    fn passes(&self, _part: GfnRange, _frames: u64) -> bool {
        true
    }

    #[inline(always)]
    fn pages(&mut self, slots: &[PteCell], _first: Gfn) {
        for slot in slots {
            self.one(slot);
        }
    }

    #[inline(always)]
    fn block(&mut self, place: &VisitCtx<'_>, _leaf: Leaf) -> WalkAction {
        self.one(place.slot);
        WalkAction::Next
    }
}

/// Looks for a leaf that has the bit A, up to the first.
struct TestAge {
    age: Age,
}

impl<M: TableMemory> Visitor<M> for TestAge {
    #[inline(always)]
    fn passes(&self, _part: GfnRange, _frames: u64) -> bool {
        true
    }

    #[inline(always)]
    fn pages(&mut self, slots: &[PteCell], _first: Gfn) {
        if slots
            .iter()
            .any(|slot| slot.read_relaxed().any(Bits::ACCESSED))
        {
            self.age = Age::Young;
        }
    }

    #[inline(always)]
    fn block(&mut self, _place: &VisitCtx<'_>, leaf: Leaf) -> WalkAction {
        if leaf.age() == Age::Young {
            self.age = Age::Young;
        }
        WalkAction::Next
    }

    /// Ends at the first young leaf.
    #[inline(always)]
    fn stop_here(&mut self) -> bool {
        self.age == Age::Young
    }
}

/// Splits runs and blocks into pages, with tables from `tables`.
struct Split<'s, M, S, F> {
    duty: Flush,
    mem: M,
    tables: &'s mut S,
    stop_here: F,
}

impl<M: TableMemory, S: TableSource, F: FnMut() -> bool> Visitor<M> for Split<'_, M, S, F> {
    #[inline(always)]
    fn pages(&mut self, slots: &[PteCell], first: Gfn) {
        // The first position where a run may begin.
        let to_boundary = first.get().wrapping_neg() as usize % NAPOT_PTES;
        let runs = slots.get(to_boundary..).unwrap_or_default();
        for (number, run) in runs.chunks_exact(NAPOT_PTES).enumerate() {
            if run.first().is_some_and(|slot| slot.read_relaxed().in_run()) {
                napot::unfold(self.mem, run);
                let offset = to_boundary + number * NAPOT_PTES;
                let start = first.saturating_add(offset as u64);
                self.duty.add(GfnRange::from_len(start, NAPOT_PTES as u64));
            }
        }
    }

    #[inline(always)]
    fn block(&mut self, place: &VisitCtx<'_>, leaf: Leaf) -> WalkAction {
        let Some(below) = place.level.below() else {
            return WalkAction::Next;
        };
        let Some(mut table) = self.tables.take() else {
            return WalkAction::End(Stop::NeedTables);
        };
        table.fill(self.mem, leaf, below);
        place.slot.set(Pte::table(&table));
        table.replaced_block(self.mem, below);
        self.duty.add(place.span);
        // The block is a table now, of pages or of blocks that are the next to be split.
        if below == Level::Page {
            WalkAction::Next
        } else {
            WalkAction::Again
        }
    }

    #[inline(always)]
    fn stop_here(&mut self) -> bool {
        (self.stop_here)()
    }
}
