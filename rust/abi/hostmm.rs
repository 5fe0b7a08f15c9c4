// SPDX-License-Identifier: GPL-2.0

//! The host's own address space: how it maps what is behind a guest page. Answers to
//! `get_hva_mapping_size()` and to the loop over VMAs of `mmu.c`.

use core::{
    marker::PhantomData,
    ops::Deref, //
};

use kernel::prelude::*;

use super::{
    folio::LiveFolio,
    memslot::{
        Slot,
        SlotAccess, //
    }, //
};
use crate::{
    bindings,
    mem::addr::{
        Gfn,
        GfnRange,
        Hva,
        PageSize,
        Pfn,
        PAGE_SHIFT, //
    },
    sync::IrqOff,
    vm::Vm,
};

/// What an entry of the host's page table says of a frame, whatever memory that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostMapping {
    /// The frame of the page itself, also where the entry maps more.
    pub(crate) pfn: Pfn,
    /// How much the entry maps, with the same rights; 4 KiB if the host is about to take away a part
    /// of that.
    pub(crate) size: PageSize,
    /// What the process may do.
    pub(crate) stores: Stores,
}

/// A page as an entry of the host's page table has it: the kernel's memory, which stays mapped for
/// `'t`, in which interrupts are off and `mmu_lock` is held.
///
/// # Invariants
///
/// The frame has a `struct page`.
#[derive(Clone, Copy)]
pub(crate) struct Present<'t> {
    mapping: HostMapping,
    life: PhantomData<&'t HostTable<'t>>,
}

impl Deref for Present<'_> {
    type Target = HostMapping;

    #[inline(always)]
    fn deref(&self) -> &HostMapping {
        &self.mapping
    }
}

impl<'t> Present<'t> {
    /// Returns what the page is a part of.
    pub(crate) fn folio(self) -> LiveFolio<'t> {
        let folio = PageMap::new().folio(self.pfn);
        // SAFETY: By the type's invariant the frame has a folio, which is in use for `'t`.
        unsafe { LiveFolio::new(folio) }
    }
}

/// What a store of the process meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stores {
    /// A fault: the page is read-only, or somebody's own copy must be made first.
    Fault,
    /// No fault, but the entry is clean: the store marks it dirty, by hardware or a fault that
    /// does nothing else. A store that goes around the entry would not.
    Dirty,
    /// Nothing.
    Pass,
}

/// What the host maps, while `kvm->mmu_lock` is held: the lock's guards make it.
///
/// The host takes no page away, makes none read-only and splits no block before it has told the
/// notifier, and that waits for the lock to unmap it from the guest. So what the host's page table
/// says is true until the lock is dropped, but about the frames that the host has told us of before
/// and is not through with. Whoever installs a page needs no reference to it: before the host can
/// give it to somebody else it must wait for the lock. Nor is the page put on the list of active
/// ones for it: whether the guest uses it, ageing finds in the entry.
///
/// # Invariants
///
/// For `'l`, the lock of `vm` is held, and no invalidation is under way of frames that are not
/// `changing`.
pub(crate) struct HostView<'l> {
    vm: &'l Vm,
    changing: GfnRange,
}

impl<'l> HostView<'l> {
    /// # Safety
    ///
    /// `mmu_lock` of `vm` is held, for reading or writing, for `'l`.
    #[inline(always)]
    pub(super) unsafe fn new(vm: &'l Vm) -> Self {
        let raw = vm.as_ptr();
        // SAFETY: the VM is live; the field changes only while the lock is held for writing.
        let changing = if unsafe { (*raw).mmu_invalidate_in_progress } == 0 {
            GfnRange::EMPTY
        } else {
            // SAFETY: as above.
            let start = unsafe { (*raw).mmu_invalidate_range_start };
            // SAFETY: as above.
            let end = unsafe { (*raw).mmu_invalidate_range_end };
            GfnRange::new(Gfn::new(start), Gfn::new(end))
        };
        // INVARIANT: the caller holds the lock, without which none begins.
        Self { vm, changing }
    }

    /// Returns how the host maps what is behind `gfn`, a frame of `slot`; see
    /// [`HostTable::mapping`].
    pub(crate) fn mapping(&self, slot: &Slot<'_>, gfn: Gfn) -> Option<HostMapping> {
        let irqs = IrqOff::new();
        HostTable::around(self, slot, gfn, &irqs)?.mapping()
    }

    /// Those of `frames` that can be relied on from `gfn` on in both directions. `gfn` itself is one
    /// of them, and not changing.
    fn settled(&self, frames: GfnRange, gfn: Gfn) -> GfnRange {
        let changing = self.changing;
        if frames.intersection(changing).is_empty() {
            frames
        } else if gfn < changing.start() {
            GfnRange::new(frames.start(), changing.start())
        } else {
            GfnRange::new(changing.end(), frames.end())
        }
    }
}

/// A part of the host's page table, behind a slot: what an entry for a block maps, or a leaf table.
///
/// Only pages are seen that `get_user_pages_fast()` would give for reading, too, but for what
/// [`HostTable::mapping`] tells. Entries are read without the host's locks.
///
/// # Invariants
///
/// `kind` maps what is behind `gfn`, a frame of `slot`, in place `index` of its pages. The frame is
/// not changing.
pub(crate) struct HostTable<'t> {
    host: &'t HostView<'t>,
    slot: Slot<'t>,
    gfn: Gfn,
    index: u64,
    kind: Kind,
    map: PageMap,
    /// With interrupts off tables are not freed: that waits for an RCU grace period, or for this
    /// CPU to take an IPI.
    life: PhantomData<&'t IrqOff>,
}

/// Pages in a row of a [`HostTable`].
///
/// # Invariants
///
/// The table has all of `frames`, and so has its slot; none is changing.
pub(crate) struct HostPages<'t> {
    table: &'t HostTable<'t>,
    frames: GfnRange,
}

#[derive(Clone, Copy)]
enum Kind {
    /// This entry maps all of it.
    Block(bindings::pte_t, PageSize),
    /// The first entry of a leaf table.
    Leaves(*mut bindings::pte_t),
}

impl Kind {
    /// Returns what `entry`, which is not present, is if it is anything: the place of a block that
    /// is swapped out or on its way to other frames.
    #[cold]
    fn absent(entry: bindings::pte_t, size: PageSize) -> Option<Self> {
        // SAFETY: This looks at a value.
        let is_none = unsafe { bindings::kvm_rs_pte_none(entry) };
        (!is_none).then_some(Kind::Block(entry, size))
    }

    /// How many pages it maps.
    #[inline(always)]
    fn pages(self) -> u64 {
        match self {
            Kind::Block(_, size) => size.frames(),
            Kind::Leaves(_) => PageSize::Size2M.frames(),
        }
    }
}

impl<'t> HostTable<'t> {
    /// The part behind `gfn`, a frame of `slot`; none if there is none, or if the host is about to
    /// take the page away.
    #[inline(always)]
    pub(crate) fn around(
        host: &'t HostView<'_>,
        slot: &Slot<'t>,
        gfn: Gfn,
        _irqs: &'t IrqOff,
    ) -> Option<Self> {
        if host.changing.contains(gfn) {
            return None;
        }
        let hva = slot.hva(gfn).get();
        let kind = Self::walk(host.vm, hva)?;
        // INVARIANT: just so.
        Some(Self {
            host,
            slot: *slot,
            gfn,
            index: (hva >> PAGE_SHIFT) as u64 & (kind.pages() - 1),
            kind,
            map: PageMap::new(),
            life: PhantomData,
        })
    }

    /// The pages of the slot in this part, as far as they can be relied on.
    pub(crate) fn pages(&self) -> HostPages<'_> {
        let start = Gfn::new(self.gfn.get().saturating_sub(self.index));
        let end = self.gfn.saturating_add(self.kind.pages() - self.index);
        let frames = GfnRange::new(start, end).intersection(self.slot.frames());
        // INVARIANT: `settled` leaves no frame that is changing.
        HostPages {
            table: self,
            frames: self.host.settled(frames, self.gfn),
        }
    }

    /// Each entry is read once: it may turn from a table into a block meanwhile.
    #[inline(always)]
    fn walk(vm: &Vm, hva: usize) -> Option<Kind> {
        // SAFETY: the VM has a reference to the `struct mm`.
        let mm = unsafe { (*vm.as_ptr()).mm };
        // SAFETY: the top table lives as long as the `struct mm`.
        let pgd = unsafe { bindings::kvm_rs_pgd(mm, hva) };
        // SAFETY: a value is looked at.
        if unsafe { bindings::kvm_rs_pgd_none(pgd) } {
            return None;
        }
        // SAFETY: the entry is a table (or folded), which is not freed: interrupts are off.
        let p4d = unsafe { bindings::kvm_rs_p4d(pgd, hva) };
        // SAFETY: a value is looked at.
        if !unsafe { bindings::kvm_rs_p4d_present(p4d) } {
            return None;
        }
        // SAFETY: as above; the host makes no blocks of this level.
        let pud = unsafe { bindings::kvm_rs_pud(p4d, hva) };
        // SAFETY: a value is looked at.
        if !unsafe { bindings::kvm_rs_pud_present(pud) } {
            // SAFETY: a value is converted.
            return Kind::absent(unsafe { bindings::kvm_rs_pud_pte(pud) }, PageSize::Size1G);
        }
        // SAFETY: a value is looked at.
        if unsafe { bindings::kvm_rs_pud_leaf(pud) } {
            // SAFETY: a value is converted.
            let entry = unsafe { bindings::kvm_rs_pud_pte(pud) };
            return Some(Kind::Block(entry, PageSize::Size1G));
        }
        // SAFETY: as above, it is a table.
        let pmd = unsafe { bindings::kvm_rs_pmd(pud, hva) };
        // SAFETY: a value is looked at.
        if !unsafe { bindings::kvm_rs_pmd_present(pmd) } {
            // SAFETY: a value is converted.
            return Kind::absent(unsafe { bindings::kvm_rs_pmd_pte(pmd) }, PageSize::Size2M);
        }
        // SAFETY: a value is looked at.
        if unsafe { bindings::kvm_rs_pmd_leaf(pmd) } {
            // SAFETY: a value is converted.
            let entry = unsafe { bindings::kvm_rs_pmd_pte(pmd) };
            return Some(Kind::Block(entry, PageSize::Size2M));
        }
        let first = hva & !(PageSize::Size2M.bytes() as usize - 1);
        // SAFETY: as above, it is a table.
        Some(Kind::Leaves(unsafe { bindings::kvm_rs_ptep(pmd, first) }))
    }

    /// The page behind the frame that the table was looked for.
    #[inline(always)]
    pub(crate) fn page(&self) -> Option<Present<'_>> {
        self.look(self.gfn, self.index)
    }

    /// Returns what the entry behind the frame that the table was looked for maps, whatever memory
    /// that is: the huge zero page and the memory of a device, too, which no other function here
    /// gives.
    ///
    /// The guest may have such memory only where the host has said so before: the caller compares
    /// the frame with the one that the host gave, or that the tree has from then. If they are the
    /// same, all that the entry maps may be mapped like it.
    pub(crate) fn mapping(&self) -> Option<HostMapping> {
        let (entry, size) = self.entry(self.index);
        // SAFETY: This looks at a value.
        let is_readable = unsafe { bindings::kvm_rs_pte_is_readable(entry) };
        is_readable.then(|| self.decode(self.gfn, self.index, entry, size))
    }

    /// Returns whether the host has nothing behind the frame that the table was looked for, nor
    /// anything swapped out or on its way.
    pub(crate) fn is_none(&self) -> bool {
        let (entry, _) = self.entry(self.index);
        // SAFETY: This looks at a value.
        unsafe { bindings::kvm_rs_pte_none(entry) }
    }

    /// Returns the entry for place `index`, and how much it maps.
    #[inline(always)]
    fn entry(&self, index: u64) -> (bindings::pte_t, PageSize) {
        match self.kind {
            Kind::Block(entry, size) => (entry, size),
            Kind::Leaves(first) => {
                let index = (index % PageSize::Size2M.frames()) as usize;
                // SAFETY: a leaf table has so many entries.
                let place = unsafe { first.add(index) };
                // SAFETY: the table is not freed, see `life`.
                let entry = unsafe { bindings::kvm_rs_ptep_get(place) };
                (entry, leaf_size(entry))
            }
        }
    }

    /// The page behind `gfn`, which is not changing, in place `index`.
    #[inline(always)]
    fn look(&self, gfn: Gfn, index: u64) -> Option<Present<'_>> {
        let (entry, size) = self.entry(index);
        // SAFETY: a value is looked at.
        if !unsafe { bindings::kvm_rs_pte_is_ordinary(entry) } {
            return None;
        }
        let mapping = self.decode(gfn, index, entry, size);
        // INVARIANT: An ordinary entry maps memory of the kernel's. With `mmu_lock` held, which
        // `host` stands for, the host does not unmap it.
        (!self.is_secret(mapping.pfn)).then_some(Present {
            mapping,
            life: PhantomData,
        })
    }

    /// Returns what `entry`, for `size`, says of `gfn`, which is in place `index`.
    #[inline(always)]
    fn decode(&self, gfn: Gfn, index: u64, entry: bindings::pte_t, size: PageSize) -> HostMapping {
        // SAFETY: a value is looked at.
        let first = unsafe { bindings::kvm_rs_pte_pfn(entry) } as u64;
        // What is contiguous is aligned in both address spaces, so the offset is that of the
        // address. This is true of a Svnapot entry, too, which is repeated for each of its pages,
        // and which the kernel resolves to the first one's frame (c-review M19).
        let offset = index & (size.frames() - 1);
        HostMapping {
            pfn: Pfn::new(first | offset),
            size: if size == PageSize::Size4K || self.is_settled(gfn, offset, size) {
                size
            } else {
                PageSize::Size4K
            },
            stores: stores(entry),
        }
    }

    /// Returns whether the page is secret memory (`memfd_secret()`), which only its process is to
    /// reach, and which `get_user_pages()` refuses.
    #[inline(always)]
    fn is_secret(&self, pfn: Pfn) -> bool {
        if !cfg!(CONFIG_SECRETMEM) {
            return false;
        }
        // SAFETY: The frame of an ordinary entry has a `struct page`. The page stays mapped, see
        // `HostView`, so its folio is in use; its mapping and inode are not freed while interrupts
        // are off, see `life`.
        unsafe { bindings::kvm_rs_page_is_secret(self.map.page(pfn)) }
    }

    /// Tells the host's memory management that `page` is used, as `get_user_pages_fast()` does.
    #[inline]
    pub(crate) fn note_use(&self, page: Present<'_>) {
        let folio = self.map.folio(page.pfn);
        // SAFETY: By its type's invariant the page has a folio that is in use.
        if !unsafe { bindings::kvm_rs_folio_referenced(folio) } {
            // SAFETY: As above.
            unsafe { bindings::kvm_rs_folio_set_referenced(folio) };
        }
    }

    /// Whether nothing changes in the block of `size` in which `gfn` is in place `offset`.
    #[inline(always)]
    fn is_settled(&self, gfn: Gfn, offset: u64, size: PageSize) -> bool {
        let start = Gfn::new(gfn.get().saturating_sub(offset));
        let block = GfnRange::new(start, gfn.saturating_add(size.frames() - offset));
        block.intersection(self.host.changing).is_empty()
    }
}

impl HostPages<'_> {
    /// The frames.
    pub(crate) fn frames(&self) -> GfnRange {
        self.frames
    }

    /// The page behind `gfn`; none if that is no frame of these.
    #[inline(always)]
    pub(crate) fn page(&self, gfn: Gfn) -> Option<Present<'_>> {
        if !self.frames.contains(gfn) {
            return None;
        }
        let table = self.table;
        let distance = gfn.get().wrapping_sub(table.gfn.get());
        table.look(gfn, table.index.wrapping_add(distance))
    }
}

/// Where the kernel has the `struct page` of each frame. It is looked up once for many frames.
#[derive(Clone, Copy)]
struct PageMap(*mut bindings::page);

impl PageMap {
    #[inline(always)]
    fn new() -> Self {
        // SAFETY: This looks at constants of this boot.
        Self(unsafe { bindings::kvm_rs_memmap() })
    }

    /// Returns the `struct page` of `pfn`, if it has one.
    #[inline(always)]
    fn page(self, pfn: Pfn) -> *mut bindings::page {
        // SAFETY: This computes an address.
        unsafe { bindings::kvm_rs_memmap_page(self.0, pfn.get() as usize) }
    }

    /// Returns the folio of `pfn`, a frame with a `struct page` that is in use.
    #[inline(always)]
    fn folio(self, pfn: Pfn) -> *mut bindings::folio {
        // SAFETY: The callers, all in this file, have such a frame.
        unsafe { bindings::kvm_rs_page_folio(self.page(pfn)) }
    }
}

/// How much an entry of a leaf table is a part of.
#[inline(always)]
fn leaf_size(entry: bindings::pte_t) -> PageSize {
    // SAFETY: a value is looked at.
    if !unsafe { bindings::kvm_rs_pte_napot(entry) } {
        return PageSize::Size4K;
    }
    // SAFETY: a value is looked at.
    let size = unsafe { bindings::kvm_rs_pte_leaf_size(entry) };
    if size as u64 == PageSize::Size64K.bytes() {
        PageSize::Size64K
    } else {
        PageSize::Size4K
    }
}

#[inline(always)]
fn stores(entry: bindings::pte_t) -> Stores {
    // SAFETY: a value is looked at.
    if !unsafe { bindings::kvm_rs_pte_write(entry) } {
        return Stores::Fault;
    }
    // SAFETY: a value is looked at.
    if unsafe { bindings::kvm_rs_pte_dirty(entry) } {
        Stores::Pass
    } else {
        Stores::Dirty
    }
}

/// Has all CPUs execute FENCE.I, and waits for them.
///
/// # Context
///
/// Interrupts are on: with them off this may wait for a CPU that waits for this one, which the
/// kernel warns of.
pub(crate) fn flush_icache_all() {
    // SAFETY: This sends interrupts and waits.
    unsafe { bindings::kvm_rs_flush_icache_all() };
}

/// Whether the CPUs of the host set A bits of page tables themselves (Svadu).
pub(crate) fn has_hw_young() -> bool {
    // SAFETY: looks at a static key.
    unsafe { bindings::arch_has_hw_pte_young() }
}

/// Whether the calling thread has a signal to handle.
pub(crate) fn signal_pending() -> bool {
    // SAFETY: looks at `current`.
    unsafe { bindings::kvm_rs_signal_pending() }
}

/// `mmap_lock` of the calling process, held for reading.
struct MmapRead(*mut bindings::mm_struct);

impl MmapRead {
    fn lock() -> Self {
        // SAFETY: a process in a system call has an address space.
        let mm = unsafe { bindings::kvm_rs_current_mm() };
        // SAFETY: as above; paired with the unlock in `drop`.
        unsafe { bindings::kvm_rs_mmap_read_lock(mm) };
        Self(mm)
    }
}

impl Drop for MmapRead {
    fn drop(&mut self) {
        // SAFETY: taken in `lock`.
        unsafe { bindings::kvm_rs_mmap_read_unlock(self.0) };
    }
}

/// Whether the calling process maps memory behind `slot` that can serve it. Holes are allowed.
///
/// # Errors
///
/// `EPERM` if the slot is to be written and some of it is mapped read-only; `EINVAL` if writes are
/// to be noticed on memory that is not the kernel's.
pub(crate) fn check_backing(slot: &Slot<'_>) -> Result {
    let mmap = MmapRead::lock();
    let end = slot.start().get().checked_add(slot.bytes()).ok_or(EINVAL)?;
    let mut at = slot.start().get();
    while at < end {
        // SAFETY: the lock is held.
        let vma = unsafe { bindings::find_vma_intersection(mmap.0, at, end) };
        if vma.is_null() {
            break;
        }
        // SAFETY: the lock is held, so the VMA stays.
        let flags = unsafe { bindings::kvm_rs_vma_flags(vma) };
        if slot.access() == SlotAccess::ReadWrite && flags & bindings::VM_WRITE == 0 {
            return Err(EPERM);
        }
        if slot.is_logged() && flags & bindings::VM_PFNMAP != 0 {
            return Err(EINVAL);
        }
        // SAFETY: as above.
        at = unsafe { bindings::kvm_rs_vma_end(vma) };
    }
    Ok(())
}

/// Tells the calling process that it needs memory at `hva` that is broken.
pub(crate) fn send_poison_signal(hva: Hva) {
    // SAFETY: a signal to the calling thread.
    unsafe { bindings::kvm_rs_send_sig_mceerr(hva.get(), poisoned_shift(hva)) };
}

/// log2 of how much is lost when the page at `hva` is broken.
fn poisoned_shift(hva: Hva) -> i16 {
    let mmap = MmapRead::lock();
    // SAFETY: the lock is held.
    let vma = unsafe { bindings::kvm_rs_vma_lookup(mmap.0, hva.get()) };
    // SAFETY: the lock is held, so the VMA stays.
    if vma.is_null() || !unsafe { bindings::kvm_rs_vma_is_hugetlb(vma) } {
        return PAGE_SHIFT as i16;
    }
    // SAFETY: as above, and it is one of huge pages.
    unsafe { bindings::kvm_rs_vma_hugetlb_shift(vma) as i16 }
}
