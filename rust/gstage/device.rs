// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! Mapping a device's registers into a guest, under the write lock.
//!
//! Answers to `kvm_riscv_mmu_ioremap()`.

use crate::{
    gstage::{
        flush::{
            Flush,
            Progress,
            Stop, //
        },
        pte::{
            self,
            Entry,
            Leaf,
            Pbmt,
            Pte,
            Rights, //
        },
        table::{
            Counted,
            TableMemory,
            TableSource, //
        }, //
        MmuWrite,
    },
    kvm_core::addr::{
        Gfn,
        GfnRange,
        PageSize,
        Pfn, //
    }, //
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

impl<M: TableMemory> MmuWrite<'_, M> {
    /// Maps a device's pages from `gfn` on, in place of whatever 4 KiB leaves are there.
    ///
    /// Ends with [`Stop::Occupied`] where a block or a run is in the way, or where guest or host
    /// cannot have such a frame.
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
            let now = slot.read_relaxed();
            match (now.entry(), level.below()) {
                (Entry::Table(table), Some(below)) => {
                    level = below;
                    slot = self.table(table).slot(gfn, level);
                }
                (Entry::Empty, Some(_)) => {
                    self.note_use(gfn, level);
                    let table = tables.take().ok_or(Stop::NeedTables)?;
                    slot.set(Pte::table(&table));
                    table.linked(self.root.mem);
                }
                (Entry::Leaf(_), Some(_)) | (Entry::Table(_), None) => {
                    return Err(Stop::Occupied);
                }
                (Entry::Empty, None) => {
                    slot.set(new.pte());
                    self.root.mem.count(Counted::Leaves(PageSize::Size4K), 1);
                    return Ok(Flush::NONE);
                }
                (Entry::Leaf(leaf), None) if leaf.pte().in_run() => {
                    return Err(Stop::Occupied);
                }
                (Entry::Leaf(_), None) => {
                    slot.set(new.pte());
                    return Ok(Flush::of(GfnRange::single(gfn)));
                }
            }
        }
    }
}
