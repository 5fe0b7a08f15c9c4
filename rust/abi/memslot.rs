// SPDX-License-Identifier: GPL-2.0

//! Memory slots, and the host's pages behind them. Answers to core KVM's `gfn_to_hva*()` and
//! `__kvm_faultin_pfn()` as `mmu.c` uses them.

use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr::{
        self,
        NonNull, //
    }, //
};

use kernel::prelude::*;

use super::tables::ReadGuard;
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
    sync::{
        nospec,
        SlotsRead, //
    },
    vcpu::Vcpu,
    vm::Vm,
};

/// A memory slot.
///
/// # Invariants
///
/// For `'s`, `raw` is a slot of a VM whose fields do not change.
#[derive(Clone, Copy)]
pub(crate) struct Slot<'s> {
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

/// What happens to a slot (`enum kvm_mr_change`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotChange {
    /// It is new.
    Create,
    /// It goes.
    Delete,
    /// It gets another guest physical address.
    Move,
    /// It gets other flags.
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
    /// # Safety
    ///
    /// `raw` is null, or a slot that does not change for `'s`.
    pub(crate) unsafe fn from_raw(raw: *const bindings::kvm_memory_slot) -> Option<Self> {
        // INVARIANT: as the caller promises.
        NonNull::new(raw.cast_mut()).map(|raw| Self {
            raw,
            life: PhantomData,
        })
    }

    /// The slot with `gfn`, if there is one and it is not about to go.
    #[inline]
    pub(crate) fn find(vcpu: &Vcpu, _slots: &'s SlotsRead<'_>, gfn: Gfn) -> Option<Self> {
        // SAFETY: the vCPU's own thread, in a read-side section of `kvm->srcu`.
        let raw = unsafe { bindings::kvm_vcpu_gfn_to_memslot(vcpu.as_ptr(), gfn.get()) };
        // SAFETY: slots that are found do not change before the section ends.
        unsafe { Self::from_raw(raw) }
            .filter(|slot| slot.flags() & bindings::KVM_MEMSLOT_INVALID == 0)
    }

    fn get(&self) -> &'s bindings::kvm_memory_slot {
        // SAFETY: by the type's invariant.
        unsafe { self.raw.as_ref() }
    }

    fn flags(&self) -> u32 {
        self.get().flags
    }

    /// The guest's frames.
    pub(crate) fn frames(&self) -> GfnRange {
        GfnRange::from_len(Gfn::new(self.get().base_gfn), self.get().npages as u64)
    }

    /// The host address of the first frame.
    pub(crate) fn start(&self) -> Hva {
        Hva::new(self.get().userspace_addr)
    }

    /// How many bytes it has.
    pub(crate) fn bytes(&self) -> usize {
        // Core KVM has checked that it fits.
        self.get().npages << PAGE_SHIFT
    }

    /// The host address of the frame `gfn`, which is the guest's choice: bounded also where the
    /// CPU guesses.
    #[inline]
    pub(crate) fn hva(&self, gfn: Gfn) -> Hva {
        let offset = gfn.get().wrapping_sub(self.get().base_gfn) as usize;
        let offset = nospec::index(offset, self.get().npages);
        Hva::new(self.get().userspace_addr.wrapping_add(offset << PAGE_SHIFT))
    }

    /// Whether the guest may write.
    pub(crate) fn access(&self) -> SlotAccess {
        if self.flags() & bindings::KVM_MEM_READONLY != 0 {
            SlotAccess::ReadOnly
        } else {
            SlotAccess::ReadWrite
        }
    }

    /// Whether writes must be noticed.
    pub(crate) fn is_logged(&self) -> bool {
        self.flags() & bindings::KVM_MEM_LOG_DIRTY_PAGES != 0
    }

    /// The largest block around `gfn` that lies in the slot, and that has the same place in a block
    /// of the host's address space as of the guest's.
    pub(crate) fn largest_block(&self, gfn: Gfn) -> PageSize {
        let hva_frame = (self.get().userspace_addr >> PAGE_SHIFT) as u64;
        let differ = hva_frame ^ self.get().base_gfn;
        [PageSize::Size1G, PageSize::Size2M]
            .into_iter()
            .find(|size| {
                differ & (size.frames() - 1) == 0 && self.frames().covers(size.level().span(gfn))
            })
            .unwrap_or(PageSize::Size4K)
    }

    /// Notes that the guest may have written to `gfn`.
    pub(crate) fn mark_dirty(&self, lock: &ReadGuard<'_>, gfn: Gfn) {
        // SAFETY: the slot belongs to the VM, by whose frame it was found; the lock orders this
        // before the next harvest of the log, and the caller's thread runs a vCPU.
        unsafe {
            bindings::mark_page_dirty_in_slot(lock.vm().as_ptr(), self.raw.as_ptr(), gfn.get())
        };
    }

    /// Has the host bring in the page behind `gfn`. May sleep.
    pub(crate) fn fault_in<'v>(&self, vm: &'v Vm, gfn: Gfn, want: HostAccess) -> FaultIn<'v> {
        let mut writable = false;
        let mut page = ptr::null_mut();
        // SAFETY: the slot is valid, both pointers are to locals, and the thread's address space
        // is the VM's.
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
            return FaultIn::Page(HostRef {
                vm,
                page,
                pfn: Pfn::new(pfn),
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

/// What became of [`Slot::fault_in`].
pub(crate) enum FaultIn<'v> {
    /// The page is there.
    Page(HostRef<'v>),
    /// Its memory is broken.
    Poisoned,
    /// A signal came first.
    Interrupted,
    /// There is no page, or not with that access.
    Failed,
}

/// What the host lets its process do with a page.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostAccess {
    /// Read.
    ReadOnly,
    /// Read and write.
    ReadWrite,
}

/// A page of the host's, with a reference to it.
///
/// # Invariants
///
/// `page` is null, for memory without `struct page`, or a page that this value has a reference to.
pub(crate) struct HostRef<'v> {
    vm: &'v Vm,
    page: *mut bindings::page,
    pfn: Pfn,
    access: HostAccess,
}

impl HostRef<'_> {
    /// Its frame, as far as the kernel says; see [`hostmm::HostMapping`](super::hostmm::HostMapping)
    /// about Svnapot.
    pub(crate) fn pfn(&self) -> Pfn {
        self.pfn
    }

    /// What the host allows now.
    pub(crate) fn access(&self) -> HostAccess {
        self.access
    }

    /// Whether it is ordinary memory; if not, it is a device's or another remapping (`VM_PFNMAP`).
    pub(crate) fn is_memory(&self) -> bool {
        !self.page.is_null()
    }

    /// Gives the reference back after the page was installed. The lock, still held, keeps the
    /// host's invalidations from passing in between.
    pub(crate) fn installed(self, _lock: &ReadGuard<'_>) {
        let this = ManuallyDrop::new(self);
        // A page that the guest can write, or can be allowed to write without asking the host
        // again, counts as dirty from now on.
        let dirty = this.access == HostAccess::ReadWrite;
        // SAFETY: by the type's invariant, and the value is used up.
        unsafe { bindings::kvm_release_faultin_page(this.vm.as_ptr(), this.page, false, dirty) };
    }
}

impl Drop for HostRef<'_> {
    fn drop(&mut self) {
        // SAFETY: by the type's invariant.
        unsafe { bindings::kvm_release_faultin_page(self.vm.as_ptr(), self.page, true, false) };
    }
}

/// When the host had last taken something away (`kvm->mmu_invalidate_seq`).
#[derive(Clone, Copy)]
pub(crate) struct InvalidateSeq(usize);

impl InvalidateSeq {
    /// Reads it, before anything that it is to vouch for.
    pub(crate) fn read(vm: &Vm) -> Self {
        // SAFETY: the VM is live.
        Self(unsafe { bindings::kvm_rs_mmu_invalidate_seq(vm.as_ptr()) })
    }

    /// The number.
    pub(super) fn get(self) -> usize {
        self.0
    }
}

/// Whether the dirty log of `vm` starts out with all pages set, so that pages are write-protected
/// piece by piece as userspace clears it.
pub(crate) fn log_starts_full(vm: &Vm) -> bool {
    // SAFETY: the VM is live; the setting is fixed before the first slot with a log.
    unsafe { bindings::kvm_dirty_log_manual_protect_and_init_set(vm.as_ptr()) }
}
