// SPDX-License-Identifier: GPL-2.0

//! The host's own address space: its mappings of the pages behind guest pages. Answers to
//! `get_hva_mapping_size()` and to the loop over VMAs of `mmu.c`.

use core::{
    marker::PhantomData,
    ops::Deref, //
};

use kernel::{
    mm::{
        virt::{
            flags, //
            VmaRef,
        },
        MmWithUser,
        MmapReadGuard, //
    },
    prelude::*, //
};

use crate::{
    bindings,
    kernel_ext::{
        context::IrqOff,
        folio::LiveFolio, //
    },
    kvm_core::{
        addr::{
            Gfn,
            GfnRange,
            Hva,
            PageSize,
            Pfn, //
            PAGE_SHIFT,
        },
        host_mapping::{
            HostMapping,
            HostWrite, //
        },
        memslot::{
            Slot,
            SlotAccess, //
        },
        object::Vm, //
    }, //
};

/// A page as an entry of the host's page table has it: the kernel's memory, which stays mapped for
/// `'t`, in which interrupts are off and `mmu_lock` is held.
///
/// # Invariants
///
/// The frame has a `struct page`. The page stays mapped, and so its folio stays in use, for `'t`.
#[derive(Clone, Copy)]
pub(crate) struct PresentPage<'t> {
    /// How the entry maps the page.
    mapping: HostMapping<'t>,
}

impl<'t> Deref for PresentPage<'t> {
    type Target = HostMapping<'t>;

    #[inline(always)]
    fn deref(&self) -> &HostMapping<'t> {
        &self.mapping
    }
}

impl<'t> PresentPage<'t> {
    /// Returns how the page is mapped.
    #[inline(always)]
    pub(crate) fn mapping(self) -> HostMapping<'t> {
        self.mapping
    }

    /// Returns the folio that the page is a part of.
    pub(crate) fn folio(self) -> LiveFolio<'t> {
        let folio = PageMap::new().folio(self.pfn());
        // SAFETY: By the type's invariant the frame has a `struct page`, and its folio stays in use
        // for `'t`.
        unsafe { LiveFolio::new(folio) }
    }
}

/// The host's page table, while `kvm->mmu_lock` is held: the guards of the lock create it.
///
/// The host's MM takes no page away, makes none read-only and splits no block before it has called
/// the MMU notifier, which waits for the lock to unmap the page from the guest. So the host's page
/// table stays true until the lock is dropped, except for frames whose invalidation is in progress.
/// A thread that installs a page needs no reference to it: the host must wait for the lock before
/// it can give the page to another owner. Nor does the host have to mark the page active: ageing
/// finds in the entry whether the guest uses it.
///
/// # Invariants
///
/// For `'l`, `mmu_lock` of `vm` is held for reading or writing, and no invalidation is in progress
/// of a frame that is not in `changing`.
pub(crate) struct HostPgtable<'l> {
    /// The VM, whose `mm` has the page table.
    vm: &'l Vm,
    /// The hull of the frames whose invalidation is in progress.
    changing: GfnRange,
}

impl<'l> HostPgtable<'l> {
    /// Reads which frames the host is changing.
    ///
    /// # Safety
    ///
    /// The caller must hold `mmu_lock` of `vm`, for reading or writing, for `'l`.
    #[inline(always)]
    pub(crate) unsafe fn new(vm: &'l Vm) -> Self {
        let raw = vm.as_ptr();
        // SAFETY: By its type's invariant `vm` points to a live `struct kvm`. Core KVM writes the
        // field only with `mmu_lock` held for writing, and the caller holds the lock.
        let changing = if unsafe { (*raw).mmu_invalidate_in_progress } == 0 {
            GfnRange::EMPTY
        } else {
            // SAFETY: The VM is live by its type's invariant. Core KVM writes the field only with
            // `mmu_lock` held for writing, and the caller holds the lock.
            let start = unsafe { (*raw).mmu_invalidate_range_start };
            // SAFETY: The VM is live by its type's invariant. Core KVM writes the field only with
            // `mmu_lock` held for writing, and the caller holds the lock.
            let end = unsafe { (*raw).mmu_invalidate_range_end };
            GfnRange::new(Gfn::new(start), Gfn::new(end))
        };
        // INVARIANT: The caller holds `mmu_lock` for `'l`, and core KVM begins an invalidation only
        // with that lock held for writing. So none begins for `'l`, and `changing` has all that
        // have begun.
        Self { vm, changing }
    }

    /// Returns how the host maps what is behind `gfn`, a frame of `slot`; see
    /// [`HostTable::mapping`].
    pub(crate) fn mapping(&self, slot: &Slot<'_>, gfn: Gfn) -> Option<HostMapping<'_>> {
        IrqOff::with(|irqs| {
            let mapping = HostTable::around(self, slot, gfn, irqs)?.mapping()?;
            // It stays until `mmu_lock` is dropped, longer than interrupts are off.
            Some(HostMapping::new(
                mapping.pfn(),
                mapping.size(),
                mapping.stores(),
            ))
        })
    }

    /// Returns those of `frames`, from `gfn` on in both directions, that the host is not changing.
    /// `gfn` itself is one of them, and not changing.
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
/// Apart from [`HostTable::mapping`], only pages are shown that `get_user_pages_fast()` would give
/// for reading, too. Entries are read without the host's locks.
///
/// # Invariants
///
/// `kind` maps the page behind `gfn`, a frame of `slot`, as entry `index` of its pages. `gfn` is
/// not in `host.changing`. Interrupts are off for `'t`, so a leaf table in `kind` is not freed.
pub(crate) struct HostTable<'t> {
    /// The page table that this is a part of.
    host: &'t HostPgtable<'t>,
    /// The slot of `gfn`.
    slot: Slot<'t>,
    /// The frame that the table was looked up for.
    gfn: Gfn,
    /// The position of `gfn` in `kind`, in pages.
    index: u64,
    /// The entry or the leaf table that maps `gfn`.
    kind: Kind,
    /// The base of the array of `struct page`.
    map: PageMap,
    /// With interrupts off tables are not freed: that waits for an RCU grace period, or for this
    /// CPU to take an IPI.
    life: PhantomData<&'t IrqOff>,
}

/// Pages in a row of a [`HostTable`].
///
/// # Invariants
///
/// `table` maps all of `frames`, its slot has all of them, and none is in `table.host.changing`.
pub(crate) struct HostPages<'t> {
    /// The table that the pages are in.
    table: &'t HostTable<'t>,
    /// The guest frames of the pages.
    frames: GfnRange,
}

/// What the walk ended at.
#[derive(Clone, Copy)]
enum Kind {
    /// This entry maps all of it.
    Block(bindings::pte_t, PageSize),
    /// The first entry of a leaf table.
    Leaves(*mut bindings::pte_t),
}

impl Kind {
    /// Returns the block of `entry`, which is not present, if it is swapped out or being migrated;
    /// [`None`] if the entry is empty.
    #[cold]
    fn absent(entry: bindings::pte_t, size: PageSize) -> Option<Self> {
        // SAFETY: `pte_none()` only inspects its argument.
        let is_none = unsafe { bindings::kvm_rs_pte_none(entry) };
        (!is_none).then_some(Kind::Block(entry, size))
    }

    /// Returns how many pages it maps.
    #[inline(always)]
    fn pages(self) -> u64 {
        match self {
            Kind::Block(_, size) => size.frames(),
            Kind::Leaves(_) => PageSize::Size2M.frames(),
        }
    }
}

impl<'t> HostTable<'t> {
    /// Returns the part of the host's page table behind `gfn`, a frame of `slot`; [`None`] if there
    /// is none, or if the host is about to take the page away.
    #[inline(always)]
    pub(crate) fn around(
        host: &'t HostPgtable<'_>,
        slot: &Slot<'t>,
        gfn: Gfn,
        _irqs: &'t IrqOff,
    ) -> Option<Self> {
        if host.changing.contains(gfn) {
            return None;
        }
        let hva = slot.hva(gfn).get();
        let kind = Self::walk(host.vm, hva)?;
        // INVARIANT: `walk()` found `kind` at the host address of `gfn`, which is a frame of `slot`
        // and, as checked above, not changing; `index` is the place of that address in `kind`.
        // `_irqs` keeps interrupts off for `'t`.
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

    /// Returns the pages of the slot in this part, without those that the host is changing.
    pub(crate) fn pages(&self) -> HostPages<'_> {
        let start = Gfn::new(self.gfn.get().saturating_sub(self.index));
        let end = self.gfn.saturating_add(self.kind.pages() - self.index);
        let frames = GfnRange::new(start, end).intersection(self.slot.frames());
        // INVARIANT: `frames` is what this table and its slot both have, and `settled()` leaves no
        // frame that is changing.
        HostPages {
            table: self,
            frames: self.host.settled(frames, self.gfn),
        }
    }

    /// Walks the host's page table to `hva`. Each entry is read once: it may turn from a table into
    /// a block meanwhile.
    #[inline(always)]
    fn walk(vm: &Vm, hva: usize) -> Option<Kind> {
        // SAFETY: By its type's invariant `vm` points to a live `struct kvm`. Core KVM sets `mm`
        // when it creates the VM, and does not change it.
        let mm = unsafe { (*vm.as_ptr()).mm };
        // SAFETY: The VM holds a reference to the `mm_struct`, and the top table lives as long as
        // that.
        let pgd = unsafe { bindings::kvm_rs_pgd(mm, hva) };
        // SAFETY: `pgd_none()` only inspects its argument.
        if unsafe { bindings::kvm_rs_pgd_none(pgd) } {
            return None;
        }
        // SAFETY: `pgd` is not none, so it points to a table, or its level is folded and the helper
        // reads its own copy. The caller has interrupts off, so the host does not free the table.
        let p4d = unsafe { bindings::kvm_rs_p4d(pgd, hva) };
        // SAFETY: `p4d_none()` and `p4d_present()` only inspect their argument.
        if !unsafe { bindings::kvm_rs_p4d_present(p4d) } {
            return None;
        }
        // SAFETY: `p4d` is present, and the host makes no blocks of this level: it points to a
        // table, or its level is folded and the helper reads its own copy. The caller has
        // interrupts off, so the host does not free the table.
        let pud = unsafe { bindings::kvm_rs_pud(p4d, hva) };
        // SAFETY: `pud_none()` and `pud_present()` only inspect their argument.
        if !unsafe { bindings::kvm_rs_pud_present(pud) } {
            // SAFETY: `pud_pte()` only converts its argument.
            return Kind::absent(unsafe { bindings::kvm_rs_pud_pte(pud) }, PageSize::Size1G);
        }
        // SAFETY: `pud_leaf()` only inspects its argument.
        if unsafe { bindings::kvm_rs_pud_leaf(pud) } {
            // SAFETY: `pud_pte()` only converts its argument.
            let entry = unsafe { bindings::kvm_rs_pud_pte(pud) };
            return Some(Kind::Block(entry, PageSize::Size1G));
        }
        // SAFETY: `pud` is present and no leaf, so it points to a table. The caller has interrupts
        // off, so the host does not free the table.
        let pmd = unsafe { bindings::kvm_rs_pmd(pud, hva) };
        // SAFETY: `pmd_none()` and `pmd_present()` only inspect their argument.
        if !unsafe { bindings::kvm_rs_pmd_present(pmd) } {
            // SAFETY: `pmd_pte()` only converts its argument.
            return Kind::absent(unsafe { bindings::kvm_rs_pmd_pte(pmd) }, PageSize::Size2M);
        }
        // SAFETY: `pmd_leaf()` only inspects its argument.
        if unsafe { bindings::kvm_rs_pmd_leaf(pmd) } {
            // SAFETY: `pmd_pte()` only converts its argument.
            let entry = unsafe { bindings::kvm_rs_pmd_pte(pmd) };
            return Some(Kind::Block(entry, PageSize::Size2M));
        }
        let first = hva & !(PageSize::Size2M.bytes() as usize - 1);
        // SAFETY: `pmd` is present and no leaf, so it points to a table. The caller has interrupts
        // off, so the host does not free the table.
        Some(Kind::Leaves(unsafe { bindings::kvm_rs_ptep(pmd, first) }))
    }

    /// Returns the page behind the frame that the table was looked up for.
    #[inline(always)]
    pub(crate) fn page(&self) -> Option<PresentPage<'_>> {
        self.look(self.gfn, self.index)
    }

    /// Returns what the entry behind the frame that the table was looked for maps, whatever memory
    /// that is: the huge zero page and the memory of a device, too, which no other function here
    /// gives.
    ///
    /// The guest may have such memory only where the host has said so before: the caller compares
    /// the frame with the one that the host gave, or that the tree has from then. If they are the
    /// same, all that the entry maps may be mapped like it.
    pub(crate) fn mapping(&self) -> Option<HostMapping<'t>> {
        let (entry, size) = self.entry(self.index);
        // SAFETY: `kvm_rs_pte_is_readable()` only inspects its argument.
        let is_readable = unsafe { bindings::kvm_rs_pte_is_readable(entry) };
        is_readable.then(|| self.decode(self.gfn, self.index, entry, size))
    }

    /// Returns whether the host has no page behind the frame that the table was looked up for, not
    /// even one that is swapped out or being migrated.
    pub(crate) fn is_none(&self) -> bool {
        let (entry, _) = self.entry(self.index);
        // SAFETY: `pte_none()` only inspects its argument.
        unsafe { bindings::kvm_rs_pte_none(entry) }
    }

    /// Returns the entry for place `index`, and how much it maps.
    #[inline(always)]
    fn entry(&self, index: u64) -> (bindings::pte_t, PageSize) {
        match self.kind {
            Kind::Block(entry, size) => (entry, size),
            Kind::Leaves(first) => {
                let index = (index % PageSize::Size2M.frames()) as usize;
                // SAFETY: `first` is the first entry of a leaf table, which has
                // `PageSize::Size2M.frames()` entries, and `index` is less than that.
                let place = unsafe { first.add(index) };
                // SAFETY: `place` is an entry of a leaf table. By the type's invariant interrupts
                // are off for `'t`, so the host does not free the table.
                let entry = unsafe { bindings::kvm_rs_ptep_get(place) };
                (entry, leaf_size(entry))
            }
        }
    }

    /// Returns the page behind `gfn`, which is not changing, in place `index`.
    #[inline(always)]
    fn look(&self, gfn: Gfn, index: u64) -> Option<PresentPage<'_>> {
        let (entry, size) = self.entry(index);
        // SAFETY: `kvm_rs_pte_is_ordinary()` only inspects its argument.
        if !unsafe { bindings::kvm_rs_pte_is_ordinary(entry) } {
            return None;
        }
        let mapping = self.decode(gfn, index, entry, size);
        // INVARIANT: An ordinary entry maps memory of the kernel's, which has a `struct page`.
        // `gfn` is not changing, and `host` stands for a held `mmu_lock`, so the host does not
        // unmap the page.
        (!self.is_secret(mapping.pfn())).then_some(PresentPage { mapping })
    }

    /// Returns what `entry`, for `size`, says of `gfn`, which is in place `index`.
    #[inline(always)]
    fn decode(
        &self,
        gfn: Gfn,
        index: u64,
        entry: bindings::pte_t,
        size: PageSize,
    ) -> HostMapping<'t> {
        // SAFETY: `pte_pfn()` only computes a number from its argument.
        let first = unsafe { bindings::kvm_rs_pte_pfn(entry) } as u64;
        // A contiguous block is aligned in both address spaces, so the offset is that of the
        // address. This is true of a Svnapot entry, too, which is repeated for each of its pages,
        // and which the kernel resolves to the first one's frame (differences-from-c M19).
        let offset = index & (size.frames() - 1);
        let size = if size == PageSize::Size4K || self.is_settled(gfn, offset, size) {
            size
        } else {
            PageSize::Size4K
        };
        HostMapping::new(Pfn::new(first | offset), size, stores(entry))
    }

    /// Returns whether the page is secret memory (`memfd_secret()`), which only its process may
    /// access, and which `get_user_pages()` refuses.
    #[inline(always)]
    fn is_secret(&self, pfn: Pfn) -> bool {
        if !cfg!(CONFIG_SECRETMEM) {
            return false;
        }
        // SAFETY: The caller passes the frame of an ordinary entry, which has a `struct page`.
        // `host` stands for a held `mmu_lock`, so the page stays mapped and its folio in use.
        // `life` stands for interrupts that are off, so the folio's mapping and inode are not
        // freed.
        unsafe { bindings::kvm_rs_page_is_secret(self.map.page(pfn)) }
    }

    /// Marks `page` as used for the host's MM, as `get_user_pages_fast()` does.
    #[inline]
    pub(crate) fn note_use(&self, page: PresentPage<'_>) {
        let folio = self.map.folio(page.pfn());
        // SAFETY: By the invariant of `PresentPage` the page has a folio that is in use.
        if !unsafe { bindings::kvm_rs_folio_referenced(folio) } {
            // SAFETY: By the invariant of `PresentPage` the page has a folio that is in use.
            unsafe { bindings::kvm_rs_folio_set_referenced(folio) };
        }
    }

    /// Returns whether nothing changes in the block of `size` in which `gfn` is in place `offset`.
    #[inline(always)]
    fn is_settled(&self, gfn: Gfn, offset: u64, size: PageSize) -> bool {
        let start = Gfn::new(gfn.get().saturating_sub(offset));
        let block = GfnRange::new(start, gfn.saturating_add(size.frames() - offset));
        block.intersection(self.host.changing).is_empty()
    }
}

impl HostPages<'_> {
    /// Returns the frames.
    pub(crate) fn frames(&self) -> GfnRange {
        self.frames
    }

    /// Returns the page behind `gfn`; [`None`] if that is no frame of these.
    #[inline(always)]
    pub(crate) fn page(&self, gfn: Gfn) -> Option<PresentPage<'_>> {
        if !self.frames.contains(gfn) {
            return None;
        }
        let table = self.table;
        let distance = gfn.get().wrapping_sub(table.gfn.get());
        table.look(gfn, table.index.wrapping_add(distance))
    }
}

/// The base of the kernel's array of `struct page`, looked up once for many frames.
#[derive(Clone, Copy)]
struct PageMap(*mut bindings::page);

impl PageMap {
    /// Reads where the kernel's array of `struct page` begins.
    #[inline(always)]
    fn new() -> Self {
        // SAFETY: `kvm_rs_memmap()` only computes an address from constants of this boot.
        Self(unsafe { bindings::kvm_rs_memmap() })
    }

    /// Returns the `struct page` of `pfn`, if it has one.
    #[inline(always)]
    fn page(self, pfn: Pfn) -> *mut bindings::page {
        // SAFETY: The callers, all in this file, pass a frame that has a `struct page`. The helper
        // only computes the address of that.
        unsafe { bindings::kvm_rs_memmap_page(self.0, pfn.get() as usize) }
    }

    /// Returns the folio of `pfn`, a frame with a `struct page` that is in use.
    #[inline(always)]
    fn folio(self, pfn: Pfn) -> *mut bindings::folio {
        // SAFETY: The callers, all in this file, pass a frame with a `struct page` that is in use.
        unsafe { bindings::kvm_rs_page_folio(self.page(pfn)) }
    }
}

/// Returns the size of what an entry of a leaf table is a part of: a page, or 64 KiB (Svnapot).
#[inline(always)]
fn leaf_size(entry: bindings::pte_t) -> PageSize {
    // SAFETY: `pte_napot()` only inspects its argument.
    if !unsafe { bindings::kvm_rs_pte_napot(entry) } {
        return PageSize::Size4K;
    }
    // SAFETY: `pte_leaf_size()` only inspects its argument.
    let size = unsafe { bindings::kvm_rs_pte_leaf_size(entry) };
    if size as u64 == PageSize::Size64K.bytes() {
        PageSize::Size64K
    } else {
        PageSize::Size4K
    }
}

/// Returns what a store through the entry would do.
#[inline(always)]
fn stores(entry: bindings::pte_t) -> HostWrite {
    // SAFETY: `pte_write()` only inspects its argument.
    if !unsafe { bindings::kvm_rs_pte_write(entry) } {
        return HostWrite::ReadOnly;
    }
    // SAFETY: `pte_dirty()` only inspects its argument.
    if unsafe { bindings::kvm_rs_pte_dirty(entry) } {
        HostWrite::Dirty
    } else {
        HostWrite::Clean
    }
}

/// Has all CPUs execute FENCE.I, and waits for them.
///
/// # Context
///
/// Interrupts are on: with them off this may wait for a CPU that waits for this one, which the
/// kernel warns of.
pub(crate) fn flush_icache_all() {
    // SAFETY: `flush_icache_all()` takes no argument: it interrupts the other CPUs and waits for
    // them.
    unsafe { bindings::kvm_rs_flush_icache_all() };
}

/// Returns whether the CPUs of the host set A bits of page tables themselves (Svadu).
pub(crate) fn has_hw_young() -> bool {
    // SAFETY: `arch_has_hw_pte_young()` takes no argument, and only tests whether the host has
    // Svadu.
    unsafe { bindings::arch_has_hw_pte_young() }
}

/// Returns whether the calling thread has a signal to handle.
pub(crate) fn signal_pending() -> bool {
    // SAFETY: `signal_pending()` only reads flags of `current`, which is live.
    unsafe { bindings::kvm_rs_signal_pending() }
}

/// Checks that the calling process maps memory behind `slot` that can serve it. Holes are allowed.
///
/// # Errors
///
/// `EPERM` if the slot is to be written and some of it is mapped read-only; `EINVAL` if writes are
/// to be noticed on memory that is not the kernel's.
pub(crate) fn check_backing(slot: &Slot<'_>) -> Result {
    let task = current!();
    let mm = task.mm().ok_or(EFAULT)?;
    let mmap = mm.mmap_read_lock();
    let end = slot.start().get().checked_add(slot.bytes()).ok_or(EINVAL)?;
    let mut at = slot.start().get();
    while let Some(vma) = next_vma(mm, &mmap, at, end) {
        if slot.access() == SlotAccess::ReadWrite && vma.flags() & flags::WRITE == 0 {
            return Err(EPERM);
        }
        if slot.is_logged() && vma.flags() & flags::PFNMAP != 0 {
            return Err(EINVAL);
        }
        at = vma.end();
    }
    Ok(())
}

/// Returns the first VMA of `mm` that has a part of `start..end`. [`MmapReadGuard`] itself finds
/// only the one around an address.
fn next_vma<'a>(
    mm: &MmWithUser,
    _mmap: &'a MmapReadGuard<'_>,
    start: usize,
    end: usize,
) -> Option<&'a VmaRef> {
    if start >= end {
        return None;
    }
    // SAFETY: `_mmap` is the read lock of `mm`: the caller has just taken it.
    let vma = unsafe { bindings::find_vma_intersection(mm.as_raw(), start, end) };
    // SAFETY: `vma` is not null, and stays what it is for as long as `_mmap` holds the lock.
    (!vma.is_null()).then(|| unsafe { VmaRef::from_raw(vma) })
}

/// Sends the calling process a SIGBUS, because its memory at `hva` is broken.
pub(crate) fn send_poison_signal(hva: Hva) {
    // SAFETY: This only sends a signal to `current`. `hva` is a number that the signal carries.
    unsafe { bindings::kvm_rs_send_sig_mceerr(hva.get(), poisoned_shift(hva)) };
}

/// Returns log2 of how many bytes are lost when the page at `hva` is broken.
fn poisoned_shift(hva: Hva) -> i16 {
    let task = current!();
    let Some(mm) = task.mm() else {
        return PAGE_SHIFT as i16;
    };
    let mmap = mm.mmap_read_lock();
    match mmap.vma_lookup(hva.get()) {
        Some(vma) if vma.flags() & flags::HUGETLB != 0 => {
            // SAFETY: `mmap` holds `mmap_lock`, so the VMA stays. It maps hugetlb pages, so it has
            // an `hstate`.
            unsafe { bindings::kvm_rs_vma_hugetlb_shift(vma.as_ptr()) as i16 }
        }
        _ => PAGE_SHIFT as i16,
    }
}
