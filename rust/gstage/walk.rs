// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! The walk over a range of frames, in table order, under the write lock.
//!
//! Each table is entered once; the entries of a leaf table are handed to the visitor as one slice,
//! so that the cost per page is the visitor's own loop. The descent recurses at most once per
//! level.

use core::ops::ControlFlow;

use crate::{
    gstage::{
        flush::{
            Progress,
            Stop, //
        },
        pte::{
            Entry,
            Leaf,
            PteCell,
            TablePtr, //
            NAPOT_PTES,
        },
        table::TableMemory, //
        MmuRead,
        MmuWrite,
    },
    kvm_core::addr::{
        Gfn,
        GfnRange,
        Level, //
    }, //
};

/// An entry above the leaf tables that a walk came to.
pub(super) struct VisitCtx<'v> {
    /// The entry.
    pub(super) slot: &'v PteCell,
    /// Its level; above [`Level::Page`].
    pub(super) level: Level,
    /// All frames that the entry maps.
    pub(super) span: GfnRange,
    /// The part of `span` that the walk is about.
    pub(super) part: GfnRange,
}

impl VisitCtx<'_> {
    /// Returns whether the walk is about all that the entry maps.
    #[inline(always)]
    pub(super) fn is_whole(&self) -> bool {
        self.span == self.part
    }
}

/// The next step of a walk at an entry above the leaf tables.
pub(super) enum WalkAction {
    /// Goes on with the next entry.
    Next,
    /// Looks at the entry again: a block became a table.
    Again,
    /// Enters the table.
    Enter,
    /// Ends before the entry.
    End(Stop),
}

/// The action at the entries that a walk comes to.
pub(super) trait Visitor<M: TableMemory> {
    /// Visits entries of one leaf table, the first for `first`.
    ///
    /// A Svnapot run is a block: if the walk is about a part of it, all its entries are among
    /// these, so they may begin before the range and end after it.
    fn pages(&mut self, slots: &[PteCell], first: Gfn);

    /// Visits a leaf of more than one page, but no run.
    fn block(&mut self, place: &VisitCtx<'_>, leaf: Leaf) -> WalkAction;

    /// Returns whether the visitor need not see the table in an entry for `frames` frames which
    /// maps all of `part`, the walk's range: neither [`table`](Self::table) nor
    /// [`table_post`](Self::table_post) would do anything.
    #[inline(always)]
    fn passes(&self, _part: GfnRange, _frames: u64) -> bool {
        false
    }

    /// Visits a table of `slots` that is about to be entered.
    #[inline(always)]
    fn table(&mut self, _place: &VisitCtx<'_>, _table: TablePtr, _slots: &[PteCell]) -> WalkAction {
        WalkAction::Enter
    }

    /// Visits a table of `slots` that the walk has been through.
    #[inline(always)]
    fn table_post(&mut self, _place: &VisitCtx<'_>, _table: TablePtr, _slots: &[PteCell]) {}

    /// Returns whether to end the walk here; asked after every block and every table.
    #[inline(always)]
    fn stop_here(&mut self) -> bool {
        false
    }
}

/// The frame at which a walk ended, and why.
type Ended = (Gfn, Stop);

impl<M: TableMemory> MmuWrite<'_, M> {
    /// Takes `visitor` through the entries that map a frame of `range`.
    ///
    /// Frames that the mode does not have are left out. Returns where it ended.
    #[inline]
    pub(super) fn walk<V: Visitor<M>>(&mut self, range: GfnRange, visitor: &mut V) -> Ended {
        let mode = self.mode();
        let part = range.intersection(mode.frames());
        if part.is_empty() {
            return (range.end(), Stop::Done);
        }
        let mut slots = self.root_table().slots();
        // Most walks are about a single page, so go straight down to its table.
        let first = part.start().get();
        let differ = first ^ part.end().get().wrapping_sub(1);
        let mut shift = mode.top().frame_shift();
        while shift != 0 && differ >> shift == 0 && visitor.passes(part, 1 << shift) {
            let index = (first >> shift) as usize & slots.len().wrapping_sub(1);
            let entry = slots.get(index).map(|slot| slot.read_relaxed().entry());
            match entry.unwrap_or(Entry::Empty) {
                Entry::Empty => return (range.end(), Stop::Done),
                Entry::Leaf(_) => break,
                Entry::Table(table) => slots = self.table(table).slots(),
            }
            shift -= Level::Mega.frame_shift();
        }
        let Some(level) = table_level(shift) else {
            walk_pages(slots, part, visitor);
            return (range.end(), Stop::Done);
        };
        match walk_table(&self.read, slots, level, part, visitor) {
            ControlFlow::Continue(()) => (range.end(), Stop::Done),
            ControlFlow::Break(ended) => ended,
        }
    }
}

/// Returns the level whose entries map `1 << shift` frames; [`None`] if those are pages.
#[inline(always)]
fn table_level(shift: u32) -> Option<Level> {
    match shift / Level::Mega.frame_shift() {
        0 => None,
        1 => Some(Level::Mega),
        2 => Some(Level::Giga),
        3 => Some(Level::Tera),
        _ => Some(Level::Peta),
    }
}

/// Returns the positions of the entries for the first and the last frame of `part`, which is not
/// empty, in the table of `slots`, which maps all of it with entries of `level`.
#[inline(always)]
fn positions(slots: &[PteCell], level: Level, part: GfnRange) -> (usize, usize) {
    let mask = slots.len().wrapping_sub(1);
    // In bounds: the mask is that of the table's size, and `part` lies in the table.
    let position = |gfn: u64| (gfn >> level.frame_shift()) as usize & mask;
    (
        position(part.start().get()),
        position(part.end().get().wrapping_sub(1)),
    )
}

/// Shows the entries for `part`, not empty, of the leaf table of `slots`, which maps all of it.
#[inline(always)]
fn walk_pages<M: TableMemory, V: Visitor<M>>(slots: &[PteCell], part: GfnRange, visitor: &mut V) {
    let (first, last) = positions(slots, Level::Page, part);
    let (first, last) = whole_runs(slots, first, last);
    let mask = slots.len().wrapping_sub(1) as u64;
    let gfn = Gfn::new(part.start().get() & !mask | first as u64);
    visitor.pages(slots.get(first..=last).unwrap_or_default(), gfn);
}

/// Walks `part`, not empty, through the table of `slots`, which maps all of it with entries of
/// `level`.
fn walk_table<M: TableMemory, V: Visitor<M>>(
    view: &MmuRead<'_, M>,
    slots: &[PteCell],
    level: Level,
    part: GfnRange,
    visitor: &mut V,
) -> ControlFlow<Ended> {
    let Some(below) = level.below() else {
        walk_pages(slots, part, visitor);
        return ControlFlow::Continue(());
    };
    let (first, last) = positions(slots, level, part);
    let slots = slots.get(first..=last).unwrap_or_default();
    let mut span = level.span(part.start());
    for slot in slots {
        let place = VisitCtx {
            slot,
            level,
            span,
            part: span.intersection(part),
        };
        span = GfnRange::from_len(span.end(), level.frames());
        loop {
            let then = match slot.read_relaxed().entry() {
                Entry::Empty => break,
                Entry::Leaf(leaf) => visitor.block(&place, leaf),
                Entry::Table(table) => {
                    let slots = view.table(table).slots();
                    let then = visitor.table(&place, table, slots);
                    if let WalkAction::Enter = then {
                        walk_table(view, slots, below, place.part, visitor)?;
                        visitor.table_post(&place, table, slots);
                        WalkAction::Next
                    } else {
                        then
                    }
                }
            };
            match then {
                WalkAction::Again => continue,
                WalkAction::End(stop) => return ControlFlow::Break((place.part.start(), stop)),
                WalkAction::Next | WalkAction::Enter => {}
            }
            if place.part.end() < part.end() && visitor.stop_here() {
                return ControlFlow::Break((place.part.end(), Stop::Asked));
            }
            break;
        }
    }
    ControlFlow::Continue(())
}

/// Widens positions `first` to `last` of a leaf table's `slots` to all entries of the runs that
/// they begin and end in.
#[inline(always)]
pub(super) fn whole_runs(slots: &[PteCell], first: usize, last: usize) -> (usize, usize) {
    // While the write lock is held, all entries of a run are there, or none.
    let in_run = |at: usize| {
        slots
            .get(at)
            .is_some_and(|slot| slot.read_relaxed().in_run())
    };
    (
        if in_run(first) {
            first & !(NAPOT_PTES - 1)
        } else {
            first
        },
        if in_run(last) {
            last | (NAPOT_PTES - 1)
        } else {
            last
        },
    )
}

impl<D> Progress<D> {
    /// Says how far a walk that ended so has come, and what `duty` it leaves.
    #[inline(always)]
    pub(super) fn new((done_to, stop): Ended, duty: D) -> Self {
        Progress {
            done_to,
            stop,
            duty,
        }
    }
}
