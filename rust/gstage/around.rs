// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! Fault-around: mapping the pages that the host has present around the faulting page, under the
//! same read lock and in the same leaf table. C has no counterpart; the model is
//! `do_fault_around()` of the host's MM.

use crate::{
    gstage::{
        install::HostPage,
        napot::{
            self,
            Claim, //
        },
        pte::{
            self,
            Age,
            Leaf,
            Ppn,
            Pte, //
            NAPOT_PTES,
        },
        table::{
            Counted,
            Table,
            TableMemory, //
        }, //
        MmuRead,
    },
    kvm_core::addr::{
        Gfn,
        GfnRange,
        Level,
        PageSize, //
    }, //
};

/// The pages around a fault: the leaf table that [`MmuRead::install`] ended in.
#[derive(Clone, Copy)]
pub(crate) struct Neighbours<'v> {
    /// The leaf table of the faulting page.
    table: &'v Table,
    /// Any frame that the table maps.
    near: Gfn,
}

impl<'v> Neighbours<'v> {
    /// Returns the pages of `table`, a leaf table that maps `near`.
    #[inline(always)]
    pub(super) fn new(table: &'v Table, near: Gfn) -> Self {
        Self { table, near }
    }

    /// Returns the frames that the table maps.
    #[inline(always)]
    pub(crate) fn frames(&self) -> GfnRange {
        Level::Mega.span(self.near)
    }

    /// Counts the frames from `gfn` on that have pages, up to the first one without, or the table's
    /// end.
    pub(crate) fn mapped_from(&self, gfn: Gfn) -> u64 {
        let frames = GfnRange::new(gfn, self.frames().end()).intersection(self.frames());
        let slots = self.table.slots_of(frames).iter();
        slots
            .take_while(|slot| slot.read_relaxed() != Pte::EMPTY)
            .count() as u64
    }
}

impl<M: TableMemory> MmuRead<'_, M> {
    /// Maps pages where the table of `neighbours` has none yet: of those of `frames` that lie in
    /// that table, and for which `host` knows a page. Returns how many.
    ///
    /// `host` is asked in ascending order, once per frame with nothing there. What it answers must
    /// be true as long as the lock is held, as for [`install`](Self::install): the host has not
    /// invalidated the frame since, and dirty logging allows the rights. A page that it gives
    /// [`PageSize::Size64K`] is mapped as a run, with the pages of the run that are no `frames`, if
    /// nothing else is mapped there; a page of any other size is mapped by itself. No fence is
    /// needed: a hart that remembers an empty entry faults, and finds the page.
    ///
    /// `age` is the age that the pages begin with. With [`Age::Old`] the guest's first access sets
    /// A, so that ageing sees which were used; that is for hosts with Svadu, because without it
    /// that access faults. With [`Age::Young`] they look used.
    #[inline]
    pub(crate) fn fill(
        &self,
        neighbours: &Neighbours<'_>,
        frames: GfnRange,
        age: Age,
        mut host: impl FnMut(Gfn) -> Option<HostPage>,
    ) -> u64 {
        let frames = frames.intersection(neighbours.frames());
        let mut gfn = frames.start();
        let mut filled = 0;
        let mut in_runs = 0;
        for slot in neighbours.table.slots_of(frames) {
            // A valid entry stays valid; another CPU may fill an empty one first.
            if slot.read_relaxed() == Pte::EMPTY {
                if let Some(page) = host(gfn) {
                    if let Some(ppn) = pte::ppn(page.pfn()) {
                        if page.size() == PageSize::Size64K
                            && self.fill_run(neighbours, gfn, ppn, page, age)
                        {
                            in_runs += NAPOT_PTES as u64;
                        } else {
                            let leaf = Leaf::memory(ppn, page.rights()).aged(age);
                            filled += u64::from(slot.replace(Pte::EMPTY, leaf.pte()).is_ok());
                        }
                    }
                }
            }
            gfn = gfn.saturating_add(1);
        }
        if filled != 0 {
            self.root
                .mem
                .count(Counted::Leaves(PageSize::Size4K), filled as i64);
        }
        filled + in_runs
    }

    /// Makes a run around `gfn`, whose host page is `page`, of frame `ppn`. Returns whether it did.
    #[cold]
    fn fill_run(
        &self,
        neighbours: &Neighbours<'_>,
        gfn: Gfn,
        ppn: Ppn,
        page: HostPage,
        age: Age,
    ) -> bool {
        // In a run, guest and host frame have the same offset.
        if (gfn.get() ^ page.pfn().get()) % NAPOT_PTES as u64 != 0 {
            return false;
        }
        let whole = Leaf::run(ppn, page.rights()).aged(age);
        let run = neighbours.table.run(gfn);
        matches!(napot::claim(self.root.mem, run, gfn, whole), Claim::Run(_))
    }
}
