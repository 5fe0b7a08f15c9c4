// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! Lists what the tree maps, in order, for the dump in debugfs. C has no counterpart.

use core::ops::ControlFlow;

use crate::{
    gstage::{
        pte::{
            Age,
            Entry,
            Leaf,
            Pbmt,
            PteCell,
            Rights, //
        },
        table::TableMemory, //
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

/// Adjacent leaves that differ in nothing but their frames, and whose host frames are adjacent,
/// too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// What they map.
    pub(crate) frames: GfnRange,
    /// The frame behind the first one.
    pub(crate) pfn: Pfn,
    /// The size of each leaf.
    pub(crate) size: PageSize,
    /// What guest and host may do.
    pub(crate) rights: Rights,
    /// Whether the guest used them since ageing last looked. That of a Svnapot run's entries may
    /// differ.
    pub(crate) age: Age,
    /// Their memory attributes.
    pub(crate) pbmt: Pbmt,
    /// What they map.
    pub(crate) kind: Kind,
}

/// What is behind a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Memory; the guest may execute it.
    Memory,
    /// A device's registers.
    Device,
}

impl Extent {
    /// Returns the extent of the leaf, an entry of `level`, for `frames`.
    fn of(leaf: Leaf, level: Level, frames: GfnRange) -> Self {
        Self {
            frames,
            pfn: leaf.pfn_of(frames.start(), level),
            size: leaf.size(level),
            rights: leaf.rights(),
            age: leaf.age(),
            pbmt: leaf.pte().pbmt(),
            kind: if leaf.pte().execute() {
                Kind::Memory
            } else {
                Kind::Device
            },
        }
    }

    /// Joins this extent and `next`; [`None`] unless `next` continues it with the same properties.
    fn and(self, next: Extent) -> Option<Extent> {
        let joined = Extent {
            frames: GfnRange::new(self.frames.start(), next.frames.end()),
            ..self
        };
        let rest = Extent {
            frames: GfnRange::new(self.frames.end(), next.frames.end()),
            pfn: self.pfn.checked_add(self.frames.len())?,
            ..self
        };
        (rest == next).then_some(joined)
    }
}

impl<M: TableMemory> MmuRead<'_, M> {
    /// Shows the leaves from `from` on to `each`, as [`Extent`]s as long as can be, in ascending
    /// order, until it breaks. Returns where to go on; [`None`] at the end of the tree.
    ///
    /// The lock may be dropped in between. `each` is called at the end of an extent only, so
    /// within one it cannot break, however long the lock is held: an extent of 1 GiB in 4 KiB
    /// leaves takes about a millisecond.
    ///
    /// A leaf that `from` lies in the middle of is shown from `from` on.
    pub(crate) fn extents(
        &self,
        from: Gfn,
        each: impl FnMut(Extent) -> ControlFlow<()>,
    ) -> Option<Gfn> {
        let mode = self.mode();
        let part = mode
            .frames()
            .intersection(GfnRange::new(from, mode.frames().end()));
        if part.is_empty() {
            return None;
        }
        let mut joiner = Joiner {
            pending: None,
            each,
        };
        let root = self.root_table().slots();
        let mut seen = show(self, root, mode.top(), part, &mut joiner);
        if seen.is_continue() {
            seen = joiner.finish();
        }
        match seen {
            ControlFlow::Continue(()) => None,
            ControlFlow::Break(next) => Some(next),
        }
    }
}

/// Joins adjacent leaves to extents.
struct Joiner<F> {
    pending: Option<Extent>,
    each: F,
}

impl<F: FnMut(Extent) -> ControlFlow<()>> Joiner<F> {
    /// Breaks with the frame to go on at.
    fn add(&mut self, next: Extent) -> ControlFlow<Gfn> {
        match self.pending {
            None => self.pending = Some(next),
            Some(pending) => match pending.and(next) {
                Some(joined) => self.pending = Some(joined),
                None => {
                    self.finish()?;
                    self.pending = Some(next);
                }
            },
        }
        ControlFlow::Continue(())
    }

    /// Shows what there is. Breaks with the frame to go on at.
    fn finish(&mut self) -> ControlFlow<Gfn> {
        match self.pending.take() {
            None => ControlFlow::Continue(()),
            Some(extent) => match (self.each)(extent) {
                ControlFlow::Continue(()) => ControlFlow::Continue(()),
                ControlFlow::Break(()) => ControlFlow::Break(extent.frames.end()),
            },
        }
    }
}

/// Shows `part`, not empty, of the table of `slots`, which maps all of it with entries of `level`.
fn show<M: TableMemory, F: FnMut(Extent) -> ControlFlow<()>>(
    view: &MmuRead<'_, M>,
    slots: &[PteCell],
    level: Level,
    part: GfnRange,
    joiner: &mut Joiner<F>,
) -> ControlFlow<Gfn> {
    let mask = slots.len().wrapping_sub(1);
    let first = (part.start().get() >> level.frame_shift()) as usize & mask;
    let mut span = level.span(part.start());
    for slot in slots.get(first..).unwrap_or_default() {
        let here = span.intersection(part);
        if here.is_empty() {
            break;
        }
        match (slot.load().entry(), level.below()) {
            (Entry::Empty, _) | (Entry::Table(_), None) => {}
            (Entry::Leaf(leaf), _) => joiner.add(Extent::of(leaf, level, here))?,
            (Entry::Table(table), Some(below)) => {
                show(view, view.table(table).slots(), below, here, joiner)?;
            }
        }
        span = GfnRange::from_len(span.end(), level.frames());
    }
    ControlFlow::Continue(())
}
