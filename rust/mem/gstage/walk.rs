// SPDX-License-Identifier: GPL-2.0

//! The walk over a range of frames, in table order, under the write lock.
//!
//! Each table is entered once; the entries of a leaf table are handed to the visitor as one slice,
//! so that the cost per page is the visitor's own loop. The descent recurses at most once per
//! level.

use core::ops::ControlFlow;

use crate::mem::addr::{
    Gfn,
    GfnRange,
    Level, //
};

use super::{
    duty::{
        Progress,
        Stop, //
    },
    pte::{
        Entry,
        Leaf,
        Slot,
        TablePtr, //
    },
    table::TableMemory,
    MmuRead,
    MmuWrite, //
};

/// An entry above the leaf tables that a walk came to.
pub(super) struct Place<'v> {
    /// The entry.
    pub(super) slot: &'v Slot,
    /// Its level; above [`Level::Page`].
    pub(super) level: Level,
    /// All that it maps.
    pub(super) span: GfnRange,
    /// The part of that which the walk is about.
    pub(super) part: GfnRange,
}

impl Place<'_> {
    /// Whether the walk is about all that the entry maps.
    #[inline(always)]
    pub(super) fn is_whole(&self) -> bool {
        self.span == self.part
    }
}

/// What a walk does about an entry above the leaf tables next.
pub(super) enum Then {
    /// Goes on with the next entry.
    Next,
    /// Looks at the entry again: a block became a table.
    Again,
    /// Enters the table.
    Enter,
    /// Ends before the entry.
    End(Stop),
}

/// What happens to the entries that a walk comes to.
pub(super) trait Visit<M: TableMemory> {
    /// Entries of one leaf table, the first for `first`.
    fn pages(&mut self, slots: &[Slot], first: Gfn);

    /// A leaf of more than one page.
    fn block(&mut self, place: &Place<'_>, leaf: Leaf) -> Then;

    /// A table that is about to be entered.
    #[inline(always)]
    fn table(&mut self, _place: &Place<'_>, _table: TablePtr) -> Then {
        Then::Enter
    }

    /// A table of `slots` that the walk has been through.
    #[inline(always)]
    fn leave(&mut self, _place: &Place<'_>, _table: TablePtr, _slots: &[Slot]) {}

    /// Asked after every block and every table: whether to end the walk there.
    #[inline(always)]
    fn stop_here(&mut self) -> bool {
        false
    }
}

/// Where a walk ended before its range did, and why.
type Ended = (Gfn, Stop);

impl<M: TableMemory> MmuWrite<'_, M> {
    /// Takes `visitor` through the entries that map a frame of `range`.
    ///
    /// Frames that the mode does not have are left out. Returns where it ended.
    #[inline]
    pub(super) fn walk<V: Visit<M>>(&mut self, range: GfnRange, visitor: &mut V) -> Ended {
        let mode = self.mode();
        let part = range.intersection(mode.frames());
        if part.is_empty() {
            return (range.end(), Stop::Done);
        }
        let root = self.root_table().slots();
        match walk_table(&self.read, root, mode.top(), part, visitor) {
            ControlFlow::Continue(()) => (range.end(), Stop::Done),
            ControlFlow::Break(ended) => ended,
        }
    }
}

/// Walks `part`, not empty, through the table of `slots`, which maps all of it with entries of
/// `level`.
fn walk_table<M: TableMemory, V: Visit<M>>(
    view: &MmuRead<'_, M>,
    slots: &[Slot],
    level: Level,
    part: GfnRange,
    visitor: &mut V,
) -> ControlFlow<Ended> {
    let mask = slots.len().wrapping_sub(1);
    let index = |gfn: Gfn| (gfn.get() >> level.frame_shift()) as usize & mask;
    let last = Gfn::new(part.end().get().wrapping_sub(1));
    // Both are in bounds: the mask is that of the table's size, and `part` lies in the table.
    let slots = slots
        .get(index(part.start())..=index(last))
        .unwrap_or_default();
    let Some(below) = level.below() else {
        visitor.pages(slots, part.start());
        return ControlFlow::Continue(());
    };
    let mut span = level.span(part.start());
    for slot in slots {
        let place = Place {
            slot,
            level,
            span,
            part: span.intersection(part),
        };
        span = GfnRange::from_len(span.end(), level.frames());
        loop {
            let then = match slot.peek().entry() {
                Entry::Empty => break,
                Entry::Leaf(leaf) => visitor.block(&place, leaf),
                Entry::Table(table) => {
                    let then = visitor.table(&place, table);
                    if let Then::Enter = then {
                        let slots = view.table(table).slots();
                        walk_table(view, slots, below, place.part, visitor)?;
                        visitor.leave(&place, table, slots);
                        Then::Next
                    } else {
                        then
                    }
                }
            };
            match then {
                Then::Again => continue,
                Then::End(stop) => return ControlFlow::Break((place.part.start(), stop)),
                Then::Next | Then::Enter => {}
            }
            if place.part.end() < part.end() && visitor.stop_here() {
                return ControlFlow::Break((place.part.end(), Stop::Asked));
            }
            break;
        }
    }
    ControlFlow::Continue(())
}

impl<D> Progress<D> {
    /// What a walk that ended so has done.
    #[inline(always)]
    pub(super) fn new((done_to, stop): Ended, duty: D) -> Self {
        Progress {
            done_to,
            stop,
            duty,
        }
    }
}
