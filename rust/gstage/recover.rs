// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! Joins the blocks, in place, that dirty logging had split. C has no counterpart; the behaviour is
//! that of x86 (`recover_huge_pages_range()`), which asks the host's page table, too.

use crate::{
    gstage::{
        flush::{
            Progress,
            Teardown, //
        },
        install::HostPage,
        pte::{
            self,
            Age,
            Bits,
            Entry,
            Leaf,
            Ppn,
            Pte,
            PteCell,
            Rights,
            TablePtr, //
            NAPOT_PTES,
        },
        table::{
            Counted,
            StatDelta,
            TableMemory, //
        },
        walk::{
            whole_runs, //
            VisitCtx,
            Visitor,
            WalkAction,
        }, //
        MmuWrite,
    },
    kvm_core::addr::{
        Gfn,
        GfnRange,
        Level,
        PageSize,
        Pfn, //
    }, //
};

impl<M: TableMemory> MmuWrite<'_, M> {
    /// Undoes the effects of dirty logging, which has ended, on `range`, a slot's frames.
    ///
    /// - A table whose leaves are parts of one block of the host becomes a leaf: of 2 MiB, and if
    ///   the host has 1 GiB, of that. Within what stays pages, each 16 of them that are so in the
    ///   host become a Svnapot run.
    /// - A table without entries goes, so that the next fault there can make a block.
    /// - What stays as it is gets its write permission back, if the host's page is known to be
    ///   writable: a few instructions per page here, a fault each later.
    ///
    /// `host` is asked about frames that are mapped, and answers as for a fault: `pfn`, the largest
    /// block that host mapping, slot and CPU allow around the frame, and whether the host lets its
    /// process write to all of that; [`None`] if it has nothing there. It is asked about once per
    /// leaf table, if at all: not if guest and host frames have different offsets, and not again
    /// within what it said. If `smallest`, the smallest block that the CPU has, is
    /// [`PageSize::Size64K`], it is asked about each run of a table that stays pages, too. The
    /// host's MM takes pages away from a block only with all of the block, and has not done so yet,
    /// because the frame is still mapped; so the answer stays true until the lock is dropped.
    ///
    /// A block is writable if `host` says so and some part of it was known to be; or else the
    /// next store asks the host. It is young if a part was. What is mapped in any other manner than
    /// `host` says is left alone.
    ///
    /// `stop_here` as in [`unmap`](Self::unmap). If it says so, start again at
    /// [`done_to`](Progress::done_to), with the same end.
    pub(crate) fn recover(
        &mut self,
        range: GfnRange,
        smallest: PageSize,
        host: impl FnMut(Gfn) -> Option<HostPage>,
        stop_here: impl FnMut() -> bool,
    ) -> Progress<Teardown<M>> {
        let mut visitor = Recover {
            mem: self.root.mem,
            duty: Teardown::none(self.root.mem),
            host: Answers { host, last: None },
            smallest,
            stop_here,
        };
        let ended = self.walk(range, &mut visitor);
        Progress::new(ended, visitor.duty)
    }
}

/// The host's answers, of which the last is kept.
struct Answers<H> {
    host: H,
    last: Option<Answer>,
}

/// A block that the host maps as one.
#[derive(Clone, Copy)]
struct Answer {
    frames: GfnRange,
    size: PageSize,
    /// The host's frame behind the first of `frames`.
    first: Ppn,
    rights: Rights,
}

impl Answer {
    /// Returns the block of `page` around `gfn`; [`None`] if guest and host frame have different
    /// offsets in it.
    fn new(gfn: Gfn, page: HostPage) -> Option<Self> {
        let offset = page.size().frames() - 1;
        if (gfn.get() ^ page.pfn().get()) & offset != 0 {
            return None;
        }
        Some(Self {
            frames: GfnRange::from_len(gfn.align_down(page.size()), page.size().frames()),
            size: page.size(),
            first: pte::ppn(Pfn::new(page.pfn().get() & !offset))?,
            rights: page.rights(),
        })
    }

    /// Returns the host's frame behind `gfn`, one of the block's frames.
    fn ppn(&self, gfn: Gfn) -> Option<Ppn> {
        let offset = gfn.get().wrapping_sub(self.frames.start().get());
        Ppn::try_new(self.first.get() | offset)
    }
}

impl<H: FnMut(Gfn) -> Option<HostPage>> Answers<H> {
    /// Returns how the host maps `gfn`, where the tree has `leaf`, an entry of `level`; [`None`] if
    /// the host maps it to another frame, or not so that a leaf of `least` is possible.
    fn about(&mut self, gfn: Gfn, leaf: Leaf, level: Level, least: PageSize) -> Option<Answer> {
        let there = leaf.pfn_of(gfn, level);
        if (gfn.get() ^ there.get()) & (least.frames() - 1) != 0 {
            return None;
        }
        let answer = match self.last {
            Some(last) if last.frames.contains(gfn) => last,
            _ => Answer::new(gfn, (self.host)(gfn)?)?,
        };
        self.last = Some(answer);
        let is_there = answer.ppn(gfn)?.get() == there.get();
        (is_there && answer.size >= least).then_some(answer)
    }
}

/// The bits of leaves that are to become one.
struct Parts(Pte);

impl Parts {
    /// Returns the bits of all `slots`, entries of `level`, if each is empty or the part of `whole`
    /// in its place.
    fn of(slots: &[PteCell], whole: Leaf, level: Level) -> Option<Self> {
        let mut had = Pte::EMPTY;
        for (index, slot) in slots.iter().enumerate() {
            let pte = slot.read_relaxed();
            match pte.entry() {
                Entry::Empty => continue,
                Entry::Table(_) => return None,
                Entry::Leaf(leaf) => {
                    let leaf = if pte.in_run() {
                        leaf.page_of_run(index)
                    } else {
                        leaf
                    };
                    if !leaf.is_memory_as(whole.part(index, level)) {
                        return None;
                    }
                }
            }
            had = had.or(pte);
        }
        Some(Self(had))
    }

    /// Returns the rights of the whole, if the host allows `rights`.
    fn rights(&self, rights: Rights) -> Rights {
        match rights {
            Rights::HostReadOnly => Rights::HostReadOnly,
            // The host marks a page dirty when a fault asks to write to it. No fault has asked for
            // this page yet, so one must, first.
            _ if !self.0.host_writable() => Rights::HostReadOnly,
            // The slot is not logged any more.
            Rights::WriteProtected | Rights::Writable => Rights::Writable,
        }
    }

    /// Returns the age of the whole: young if a part is.
    fn age(&self) -> Age {
        if self.0.accessed() {
            Age::Young
        } else {
            Age::Old
        }
    }
}

/// Returns the first leaf among the entries `slots` of `place` that maps a frame of the walk's, and
/// the first such frame.
fn first_leaf(place: &VisitCtx<'_>, slots: &[PteCell]) -> Option<(Gfn, Leaf)> {
    let below = place.level.below()?;
    let mut gfn = place.part.start();
    let skip = gfn.get().wrapping_sub(place.span.start().get()) >> below.frame_shift();
    for slot in slots.get(skip as usize..)? {
        if gfn >= place.part.end() {
            break;
        }
        if let Entry::Leaf(leaf) = slot.read_relaxed().entry() {
            return Some((gfn, leaf));
        }
        gfn = below.span(gfn).end();
    }
    None
}

/// Puts together what dirty logging has split, and gives write permission back.
struct Recover<M, H, F> {
    mem: M,
    duty: Teardown<M>,
    host: Answers<H>,
    smallest: PageSize,
    stop_here: F,
}

impl<M: TableMemory, H: FnMut(Gfn) -> Option<HostPage>, F> Recover<M, H, F> {
    /// Joins what can be joined in a leaf table, and makes the rest writable.
    fn leaf_table(&mut self, place: &VisitCtx<'_>, table: TablePtr, slots: &[PteCell]) {
        let Some((gfn, leaf)) = first_leaf(place, slots) else {
            if place.is_whole() {
                self.remove(place, table);
            }
            return;
        };
        match self.host.about(gfn, leaf, Level::Page, self.smallest) {
            Some(answer) if answer.size > PageSize::Size64K => {
                if self.block(place, table, slots, answer) {
                    return;
                }
            }
            // The first page says nothing about the runs of other pages: its own may begin before
            // the slot, or be about to change.
            _ if self.smallest == PageSize::Size64K => self.runs(place, slots),
            _ => {}
        }
        let index = |gfn: Gfn| gfn.get().wrapping_sub(place.span.start().get()) as usize;
        let last = index(place.part.end()).wrapping_sub(1);
        let (first, last) = whole_runs(slots, index(place.part.start()), last);
        let pages = slots.get(first..=last).unwrap_or_default();
        pages.iter().for_each(make_writable_again);
    }

    /// Joins a table of blocks if it can; the walk has been to its end.
    fn block_table(&mut self, place: &VisitCtx<'_>, table: TablePtr, slots: &[PteCell]) {
        if slots.iter().all(|slot| slot.read_relaxed() == Pte::EMPTY) {
            self.remove(place, table);
            return;
        }
        let Some((gfn, leaf)) = first_leaf(place, slots) else {
            return;
        };
        if let Some(answer) = self.host.about(gfn, leaf, Level::Mega, PageSize::Size1G) {
            self.block(place, table, slots, answer);
        }
    }

    /// Takes out `table`, which has no entries.
    fn remove(&mut self, place: &VisitCtx<'_>, table: TablePtr) {
        place.slot.clear();
        self.duty.retire(table);
    }

    /// Puts a leaf in place of `table` if `answer` allows it; tells whether it did.
    fn block(
        &mut self,
        place: &VisitCtx<'_>,
        table: TablePtr,
        slots: &[PteCell],
        answer: Answer,
    ) -> bool {
        let whole = answer.frames.covers(place.span);
        let (true, Some(below)) = (whole, place.level.below()) else {
            return false;
        };
        let Some(ppn) = answer.ppn(place.span.start()) else {
            return false;
        };
        let Some(parts) = Parts::of(slots, Leaf::memory(ppn, answer.rights), below) else {
            return false;
        };
        match below {
            Level::Page => StatDelta::of(slots).count_out(self.mem),
            _ => {
                let leaves = slots
                    .iter()
                    .filter(|slot| slot.read_relaxed() != Pte::EMPTY);
                let what = Counted::Leaves(below.leaf_size());
                self.mem.count(what, (leaves.count() as i64).wrapping_neg());
            }
        }
        let leaf = Leaf::memory(ppn, parts.rights(answer.rights)).aged(parts.age());
        place.slot.set(leaf.pte());
        self.mem.count(Counted::Leaves(place.level.leaf_size()), 1);
        self.duty.retire(table);
        self.duty.add(place.span);
        true
    }

    /// Makes runs of the pages of a leaf table.
    fn runs(&mut self, place: &VisitCtx<'_>, slots: &[PteCell]) {
        let mut span = GfnRange::from_len(place.span.start(), NAPOT_PTES as u64);
        for run in slots.chunks_exact(NAPOT_PTES) {
            if place.part.covers(span) {
                self.run(run, span);
            }
            span = GfnRange::from_len(span.end(), NAPOT_PTES as u64);
        }
    }

    /// Makes a run of `slots`, which map `span`, if the host has one there.
    fn run(&mut self, slots: &[PteCell], span: GfnRange) {
        let mut frames = (span.start().get()..).map(Gfn::new).zip(slots);
        let first = frames.find_map(|(gfn, slot)| match slot.read_relaxed().entry() {
            Entry::Leaf(leaf) => Some((gfn, leaf)),
            Entry::Empty | Entry::Table(_) => None,
        });
        let Some((gfn, leaf)) = first.filter(|(_, leaf)| !leaf.pte().in_run()) else {
            return;
        };
        let answer = self.host.about(gfn, leaf, Level::Page, PageSize::Size64K);
        let answer = answer.filter(|answer| answer.size == PageSize::Size64K);
        let Some((answer, ppn)) =
            answer.and_then(|answer| Some((answer, answer.ppn(span.start())?)))
        else {
            return;
        };
        let Some(parts) = Parts::of(slots, Leaf::memory(ppn, answer.rights), Level::Page) else {
            return;
        };
        StatDelta::of(slots).count_out(self.mem);
        let leaf = Leaf::run(ppn, parts.rights(answer.rights)).aged(parts.age());
        for slot in slots {
            slot.set(leaf.pte());
        }
        self.mem.count(Counted::Leaves(PageSize::Size64K), 1);
        self.duty.add(span);
    }
}

/// Gives a leaf its write permission back if dirty logging took it.
#[inline(always)]
fn make_writable_again(slot: &PteCell) {
    let pte = slot.read_relaxed();
    if pte.any(Bits::HOST_WRITABLE) && !pte.any(Bits::WRITE) {
        slot.grant(Bits::WRITE);
    }
}

impl<M, H, F> Visitor<M> for Recover<M, H, F>
where
    M: TableMemory,
    H: FnMut(Gfn) -> Option<HostPage>,
    F: FnMut() -> bool,
{
    #[inline(always)]
    fn pages(&mut self, _slots: &[PteCell], _first: Gfn) {
        // The table itself is handled when the walk leaves it.
    }

    #[inline(always)]
    fn block(&mut self, place: &VisitCtx<'_>, _leaf: Leaf) -> WalkAction {
        make_writable_again(place.slot);
        WalkAction::Next
    }

    #[inline(always)]
    fn table_post(&mut self, place: &VisitCtx<'_>, table: TablePtr, slots: &[PteCell]) {
        match place.level {
            Level::Mega => self.leaf_table(place, table, slots),
            // The walk may have covered it in several pieces; the host decides whether all of it
            // may be one leaf.
            Level::Giga if place.part.end() == place.span.end() => {
                self.block_table(place, table, slots);
            }
            Level::Page | Level::Giga | Level::Tera | Level::Peta => {}
        }
    }

    #[inline(always)]
    fn stop_here(&mut self) -> bool {
        (self.stop_here)()
    }
}
