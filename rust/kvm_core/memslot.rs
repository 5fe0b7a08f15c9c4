// SPDX-License-Identifier: GPL-2.0

//! Memory slots, and the host's pages behind them. Answers to core KVM's `gfn_to_hva*()` and
//! `__kvm_faultin_pfn()` as `mmu.c` uses them.

use core::{
    marker::PhantomData,
    ptr::{
        self,
        NonNull, //
    }, //
};

use kernel::prelude::*;

use crate::{
    bindings,
    kernel_ext::{
        folio::LiveFolio,
        nospec, //
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
        mmu_lock::ReadGuard,
        object::{
            HeldVcpu,
            Vm, //
        },
        srcu::SlotsRead, //
    }, //
};

/// A memory slot.
///
/// # Invariants
///
/// For `'s`, `raw` points to a slot of a VM, and its guest physical address, size, host address and
/// flags do not change. Core KVM may write to other fields, which link the slot with other slots,
/// so this type makes no reference to the whole structure.
#[derive(Clone, Copy)]
pub(crate) struct Slot<'s> {
    /// Core KVM's slot.
    raw: NonNull<bindings::kvm_memory_slot>,
    life: PhantomData<&'s bindings::kvm_memory_slot>,
}

/// Whether a guest may write to a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotAccess {
    /// `KVM_MEM_READONLY`: writes go to userspace.
    ReadOnly,
    /// Reads and writes.
    ReadWrite,
}

/// The change of a slot (`enum kvm_mr_change`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotChange {
    /// The slot is new.
    Create,
    /// The slot is deleted.
    Delete,
    /// The slot gets another guest physical address.
    Move,
    /// The slot gets other flags.
    Flags,
}

impl SlotChange {
    /// Decodes core KVM's number.
    ///
    /// # Errors
    ///
    /// `EINVAL` for one that there is not.
    pub(crate) fn try_from_raw(change: bindings::kvm_mr_change) -> Result<Self> {
        match change {
            bindings::kvm_mr_change_KVM_MR_CREATE => Ok(Self::Create),
            bindings::kvm_mr_change_KVM_MR_DELETE => Ok(Self::Delete),
            bindings::kvm_mr_change_KVM_MR_MOVE => Ok(Self::Move),
            bindings::kvm_mr_change_KVM_MR_FLAGS_ONLY => Ok(Self::Flags),
            _ => Err(EINVAL),
        }
    }
}

impl<'s> Slot<'s> {
    /// Takes a slot of core KVM's; [`None`] for a null pointer.
    ///
    /// # Safety
    ///
    /// `raw` is null, or points to a slot that keeps its guest physical address, size, host address
    /// and flags for `'s`.
    pub(crate) unsafe fn from_raw(raw: *const bindings::kvm_memory_slot) -> Option<Self> {
        // INVARIANT: By the caller's promise `raw`, if it is not null, points to a slot that keeps
        // its guest physical address, size, host address and flags for `'s`.
        NonNull::new(raw.cast_mut()).map(|raw| Self {
            raw,
            life: PhantomData,
        })
    }

    /// Returns the slot with `gfn`, if there is one; it may be [about to go](Self::is_invalid).
    #[inline]
    pub(crate) fn find(slots: &'s SlotsRead<'_>, gfn: Gfn) -> Option<Self> {
        let vcpu = slots.vcpu().as_ptr();
        // SAFETY: This thread holds `vcpu->mutex`, so no other thread uses the vCPU's cached slot.
        // `slots` is a read-side section of its VM's `kvm->srcu`.
        let raw = unsafe { bindings::kvm_vcpu_gfn_to_memslot(vcpu, gfn.get()) };
        // SAFETY: `raw` is null, or a slot that core KVM neither frees nor changes before the
        // section of `kvm->srcu` ends, which `slots` keeps open for `'s`.
        unsafe { Self::from_raw(raw) }
    }

    /// Returns whether it is about to be deleted or moved, and userspace waits for that.
    #[inline]
    pub(crate) fn is_invalid(&self) -> bool {
        self.flags() & bindings::KVM_MEMSLOT_INVALID != 0
    }

    /// Returns `KVM_MEM_*` and `KVM_MEMSLOT_*`.
    fn flags(&self) -> u32 {
        // SAFETY: By the type's invariant the slot is live and the field does not change.
        unsafe { (*self.raw.as_ptr()).flags }
    }

    /// Returns the number of the first frame.
    fn base_gfn(&self) -> u64 {
        // SAFETY: By the type's invariant the slot is live and the field does not change.
        unsafe { (*self.raw.as_ptr()).base_gfn }
    }

    /// Returns the number of frames.
    fn npages(&self) -> usize {
        // SAFETY: By the type's invariant the slot is live and the field does not change.
        unsafe { (*self.raw.as_ptr()).npages }
    }

    /// Returns the host address of the first byte.
    fn userspace_addr(&self) -> usize {
        // SAFETY: By the type's invariant the slot is live and the field does not change.
        unsafe { (*self.raw.as_ptr()).userspace_addr }
    }

    /// Returns the guest's frames.
    pub(crate) fn frames(&self) -> GfnRange {
        GfnRange::from_len(Gfn::new(self.base_gfn()), self.npages() as u64)
    }

    /// Returns the host address of the first frame.
    pub(crate) fn start(&self) -> Hva {
        Hva::new(self.userspace_addr())
    }

    /// Returns how many bytes it has.
    pub(crate) fn bytes(&self) -> usize {
        // Core KVM has checked that the size fits.
        self.npages() << PAGE_SHIFT
    }

    /// Returns the host address of the frame `gfn`, which is the guest's choice: bounded also where
    /// the CPU guesses.
    #[inline]
    pub(crate) fn hva(&self, gfn: Gfn) -> Hva {
        let offset = gfn.get().wrapping_sub(self.base_gfn()) as usize;
        let offset = nospec::index(offset, self.npages());
        Hva::new(self.userspace_addr().wrapping_add(offset << PAGE_SHIFT))
    }

    /// Returns whether the guest may write.
    pub(crate) fn access(&self) -> SlotAccess {
        if self.flags() & bindings::KVM_MEM_READONLY != 0 {
            SlotAccess::ReadOnly
        } else {
            SlotAccess::ReadWrite
        }
    }

    /// Returns whether writes must be noticed.
    pub(crate) fn is_logged(&self) -> bool {
        self.flags() & bindings::KVM_MEM_LOG_DIRTY_PAGES != 0
    }

    /// Returns the largest block around `gfn` that lies in the slot, that has the same place in a
    /// block of the host's address space as of the guest's, and that a leaf can map. `napot` says
    /// whether a leaf can map 64 KiB.
    pub(crate) fn largest_block(&self, gfn: Gfn, napot: bool) -> PageSize {
        let hva_frame = (self.userspace_addr() >> PAGE_SHIFT) as u64;
        let differ = hva_frame ^ self.base_gfn();
        [PageSize::Size1G, PageSize::Size2M, PageSize::Size64K]
            .into_iter()
            .filter(|size| *size != PageSize::Size64K || napot)
            .find(|size| {
                let mask = size.frames() - 1;
                let block = GfnRange::from_len(Gfn::new(gfn.get() & !mask), size.frames());
                differ & mask == 0 && self.frames().covers(block)
            })
            .unwrap_or(PageSize::Size4K)
    }

    /// Notes that the guest may have written to `gfn`, a frame of the slot. The caller holds
    /// `lock`, which orders this before the next harvest of the log.
    pub(crate) fn mark_dirty(&self, lock: &ReadGuard<'_>, gfn: Gfn) {
        self.mark(lock.vm(), gfn);
    }

    /// Notes that the caller has written to the guest's memory at `gfn`, a frame of the slot,
    /// through the host's mapping. `vcpu` is loaded.
    pub(crate) fn mark_written(&self, vcpu: HeldVcpu<'_>, gfn: Gfn) {
        self.mark(vcpu.get().vm(), gfn);
    }

    /// Has core KVM mark `gfn` in the bitmap or the ring of `vm`, unless it is not in the slot.
    #[inline(always)]
    fn mark(&self, vm: &Vm, gfn: Gfn) {
        if gfn.get().wrapping_sub(self.base_gfn()) >= self.npages() as u64 {
            return;
        }
        // SAFETY: By the type's invariant the slot is live, and `gfn` is in the slot, hence in its
        // bitmap. Core KVM refuses a `vm` that is not that of the vCPU that this thread runs.
        unsafe { bindings::mark_page_dirty_in_slot(vm.as_ptr(), self.raw.as_ptr(), gfn.get()) };
    }

    /// Has the host bring in the page behind `gfn`. May sleep.
    pub(crate) fn fault_in(&self, gfn: Gfn, want: HostAccess) -> FaultIn {
        let mut writable = false;
        let mut page = ptr::null_mut();
        // SAFETY: By the type's invariant the slot is live. Both pointers are to locals, and the
        // thread's address space is the VM's, because core KVM refuses ioctls of other address
        // spaces.
        let pfn = unsafe {
            bindings::kvm_rs_faultin_pfn(
                self.raw.as_ptr(),
                gfn.get(),
                want == HostAccess::ReadWrite,
                &mut writable,
                &mut page,
            )
        };
        if pfn & bindings::KVM_PFN_ERR_NOSLOT_MASK as u64 == 0 {
            // INVARIANT: Core KVM gives `page` with a reference, which this value takes over, or
            // null for memory without `struct page`. `pfn` belongs to `page`, and `frame_at` finds
            // the frame behind the address.
            return FaultIn::Page(HostRef {
                page,
                pfn: frame_at(page, pfn, self.hva(gfn)),
                access: if writable {
                    HostAccess::ReadWrite
                } else {
                    HostAccess::ReadOnly
                },
            });
        }
        match pfn {
            bindings::KVM_PFN_ERR_HWPOISON => FaultIn::Poisoned,
            bindings::KVM_PFN_ERR_SIGPENDING => FaultIn::Interrupted,
            _ => FaultIn::Failed,
        }
    }
}

/// Returns the frame behind `hva`, for which the host has given `page` and `pfn`.
///
/// On a kernel that uses Svnapot, `get_user_pages()` resolves every address in a hugetlb page of
/// 64 KiB to the first of its 16 frames, because `pte_pfn()` does so for each of the 16 entries.
/// The host maps a hugetlb page as a whole and aligned, so the place of `hva` in it tells the
/// frame, whether or not the kernel has this defect.
fn frame_at(page: *mut bindings::page, pfn: u64, hva: Hva) -> Pfn {
    if page.is_null() {
        return Pfn::new(pfn);
    }
    // SAFETY: Core KVM has given a reference to `page`, which is not null here, and the caller
    // still has the reference, so the folio of `page` stays what it is.
    let frames = unsafe { bindings::kvm_rs_hugetlb_frames(page) } as u64;
    let offset = (hva.get() >> PAGE_SHIFT) as u64 & frames.wrapping_sub(1);
    Pfn::new(pfn & !frames.wrapping_sub(1) | offset)
}

/// The outcome of [`Slot::fault_in`].
pub(crate) enum FaultIn {
    /// The page is there.
    Page(HostRef),
    /// Its memory is broken.
    Poisoned,
    /// A signal came first.
    Interrupted,
    /// There is no page, or not with that access.
    Failed,
}

/// The host's permission for its process on a page.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostAccess {
    /// Read.
    ReadOnly,
    /// Read and write.
    ReadWrite,
}

/// A page of the host, with a reference to it. C: `kvm_faultin_pfn()`.
///
/// # Invariants
///
/// `page` is null, for memory without `struct page`, or a page that this value has a reference to.
/// `pfn` is the frame behind the address that the host was asked for; `page` may be another part of
/// the same folio (see [`frame_at`]).
pub(crate) struct HostRef {
    /// The `struct page` that the reference is to; null for memory without.
    page: *mut bindings::page,
    /// The host frame.
    pfn: Pfn,
    /// The host's permission on the page.
    access: HostAccess,
}

impl HostRef {
    /// Returns the page that the host has behind `gfn`, which it was asked for after `seq` was
    /// read; [`None`] if it has changed, or is changing, what it has there since.
    pub(crate) fn mapping<'l>(
        &self,
        lock: &'l ReadGuard<'_>,
        seq: InvalidateSeq,
        gfn: Gfn,
    ) -> Option<HostMapping<'l>> {
        let stores = match self.access {
            HostAccess::ReadOnly => HostWrite::ReadOnly,
            HostAccess::ReadWrite => HostWrite::Dirty,
        };
        (!lock.is_stale(seq, gfn)).then(|| HostMapping::new(self.pfn, PageSize::Size4K, stores))
    }

    /// Returns what the host allows now.
    pub(crate) fn access(&self) -> HostAccess {
        self.access
    }

    /// Returns whether it is ordinary memory; if not, it is a device's or another remapping
    /// (`VM_PFNMAP`).
    pub(crate) fn is_memory(&self) -> bool {
        !self.page.is_null()
    }

    /// Returns the folio of the page, of ordinary memory.
    pub(crate) fn folio(&self) -> Option<LiveFolio<'_>> {
        self.is_memory().then(|| {
            // SAFETY: By the type's invariant this value has a reference to `page`, which is not
            // null here, for as long as the value lives. `page` is a part of the folio of the
            // frame, so that folio stays in use.
            unsafe { LiveFolio::new(bindings::kvm_rs_page_folio(self.page)) }
        })
    }

    /// Gives the reference back after the page was installed. The lock, which is still held, keeps
    /// the host from invalidating the page in between.
    ///
    /// `kvm_release_faultin_page()` would mark the page accessed, too. But `get_user_pages()` has
    /// already marked the page (`PG_referenced`), and the guest's use is in the entry, where ageing
    /// finds it. A second mark for one access would move the page to the active list at once, as if
    /// it were used all the time.
    pub(crate) fn release_faultin_page(self, _lock: &ReadGuard<'_>) {
        // A page that the guest can write, or can be allowed to write without asking the host
        // again, counts as dirty from now on.
        if self.access == HostAccess::ReadWrite {
            self.set_dirty();
        }
    }

    /// Marks the page dirty, unless it is dirty already or the kernel does not track it.
    fn set_dirty(&self) {
        let page = self.page;
        if page.is_null() {
            return;
        }
        // SAFETY: By the type's invariant this value has a reference to `page`, which is not null
        // here.
        let is_tracked = !unsafe { bindings::kvm_rs_page_reserved(page) };
        // SAFETY: By the type's invariant this value has a reference to `page`, which is not null
        // here.
        if is_tracked && !unsafe { bindings::kvm_rs_page_dirty(page) } {
            // SAFETY: By the type's invariant this value has a reference to `page`, which is not
            // null here. `release_faultin_page` has the guard of `mmu_lock`, so writeback has not
            // begun to clean the page since the host was asked for it.
            unsafe { bindings::kvm_rs_set_page_dirty(page) };
        }
    }
}

impl Drop for HostRef {
    fn drop(&mut self) {
        if !self.page.is_null() {
            // SAFETY: By the type's invariant this value has a reference to `page`, which is not
            // null here, and the value is used up.
            unsafe { bindings::kvm_rs_put_page(self.page) };
        }
    }
}

/// The number of invalidations so far (`kvm->mmu_invalidate_seq`).
#[derive(Clone, Copy)]
pub(crate) struct InvalidateSeq(usize);

impl InvalidateSeq {
    /// Reads `mmu_invalidate_seq`. Must be called before the host page is looked up.
    pub(crate) fn read(vm: &Vm) -> Self {
        // SAFETY: By the invariant of `Vm` the VM is live.
        Self(unsafe { bindings::kvm_rs_mmu_invalidate_seq(vm.as_ptr()) })
    }

    /// Returns the number.
    pub(super) fn get(self) -> usize {
        self.0
    }
}

/// Returns whether the dirty log of `vm` starts out with all pages set, so that pages are
/// write-protected piece by piece as userspace clears it. A dirty ring has nothing to be set, so it
/// starts empty, whatever userspace asked for. `kvm->slots_lock` is held.
pub(crate) fn log_starts_full(vm: &Vm) -> bool {
    // SAFETY: By the invariant of `Vm` the VM is live. The caller holds `kvm->slots_lock`, as
    // `kvm_use_dirty_bitmap()` requires.
    unsafe {
        bindings::kvm_dirty_log_manual_protect_and_init_set(vm.as_ptr())
            && bindings::kvm_use_dirty_bitmap(vm.as_ptr())
    }
}
