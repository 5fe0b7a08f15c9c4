// SPDX-License-Identifier: GPL-2.0

//! The host's own address space: how it maps what is behind a guest page. Answers to
//! `get_hva_mapping_size()` and to the loop over VMAs of `mmu.c`.

use kernel::prelude::*;

use super::memslot::{
    Slot,
    SlotAccess, //
};
use crate::{
    bindings,
    mem::addr::{
        Hva,
        PageSize,
        Pfn,
        PAGE_SHIFT, //
    },
    sync::IrqOff,
    vm::Vm,
};

/// How the host maps the page at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostMapping(PageSize);

impl HostMapping {
    /// A page of its own.
    const SINGLE: HostMapping = HostMapping(PageSize::Size4K);

    /// How much one entry of the host's page table maps.
    pub(crate) fn size(self) -> PageSize {
        self.0
    }

    /// The frame at `hva`, where the kernel says that it is `pfn`.
    ///
    /// A Svnapot entry is repeated for each of its pages, and the kernel resolves all of them to
    /// the first one's frame. What is contiguous is aligned in both address spaces, so the offset
    /// is that of the address (c-review M19).
    pub(crate) fn frame(self, hva: Hva, pfn: Pfn) -> Pfn {
        let mask = match self.0 {
            PageSize::Size64K => self.0.frames() - 1,
            PageSize::Size4K | PageSize::Size2M | PageSize::Size1G => 0,
        };
        let offset = (hva.get() >> PAGE_SHIFT) as u64 & mask;
        Pfn::new(pfn.get() & !mask | offset)
    }
}

/// How deep [`mapping_at`] has to look.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// For blocks.
    Blocks,
    /// For Svnapot pages, too.
    Pages,
}

/// Looks up how the host maps `hva` in its page table.
///
/// The answer is true only if nothing was invalidated since an
/// [`InvalidateSeq`](super::memslot::InvalidateSeq) from before.
pub(crate) fn mapping_at(vm: &Vm, hva: Hva, depth: Depth) -> HostMapping {
    // With interrupts off tables are not freed: that waits for an RCU grace period, or for this
    // CPU to take an IPI.
    let _irqs = IrqOff::new();
    // Each entry is read once: it may turn from a table into a block meanwhile.
    //
    // SAFETY: the VM has a reference to the `struct mm`.
    let mm = unsafe { (*vm.as_ptr()).mm };
    let hva = hva.get();
    // SAFETY: the top table lives as long as the `struct mm`.
    let pgd = unsafe { bindings::kvm_rs_pgd(mm, hva) };
    // SAFETY: a value is looked at.
    if unsafe { bindings::kvm_rs_pgd_none(pgd) } {
        return HostMapping::SINGLE;
    }
    // SAFETY: the entry is a table (or folded), which is not freed, see above.
    let p4d = unsafe { bindings::kvm_rs_p4d(pgd, hva) };
    // SAFETY: a value is looked at.
    if !unsafe { bindings::kvm_rs_p4d_present(p4d) } {
        return HostMapping::SINGLE;
    }
    // SAFETY: as above; the host makes no blocks of this level.
    let pud = unsafe { bindings::kvm_rs_pud(p4d, hva) };
    // SAFETY: a value is looked at.
    if !unsafe { bindings::kvm_rs_pud_present(pud) } {
        return HostMapping::SINGLE;
    }
    // SAFETY: a value is looked at.
    if unsafe { bindings::kvm_rs_pud_leaf(pud) } {
        return HostMapping(PageSize::Size1G);
    }
    // SAFETY: as above, it is a table.
    let pmd = unsafe { bindings::kvm_rs_pmd(pud, hva) };
    // SAFETY: a value is looked at.
    if !unsafe { bindings::kvm_rs_pmd_present(pmd) } {
        return HostMapping::SINGLE;
    }
    // SAFETY: a value is looked at.
    if unsafe { bindings::kvm_rs_pmd_leaf(pmd) } {
        return HostMapping(PageSize::Size2M);
    }
    if depth == Depth::Blocks {
        return HostMapping::SINGLE;
    }
    // SAFETY: as above, it is a table.
    let pte = unsafe { bindings::kvm_rs_pte(pmd, hva) };
    // SAFETY: a value is looked at.
    if !unsafe { bindings::kvm_rs_pte_present(pte) } {
        return HostMapping::SINGLE;
    }
    // SAFETY: a value is looked at.
    let size = unsafe { bindings::kvm_rs_pte_leaf_size(pte) };
    HostMapping(if size as u64 == PageSize::Size64K.bytes() {
        PageSize::Size64K
    } else {
        PageSize::Size4K
    })
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
