// SPDX-License-Identifier: GPL-2.0

//! Pages for G-stage tables, and the tree of a VM behind `kvm->mmu_lock`: the proofs that
//! [`gstage`] asks for.
//!
//! Lock order: `kvm->slots_lock` and `kvm->srcu` come before `mmu_lock`, the locks of hfence queues
//! after it. Nothing under it may sleep.
//!
//! [`gstage`]: crate::gstage

use core::{
    cell::UnsafeCell,
    ptr::NonNull, //
};

use kernel::prelude::*;

use crate::{
    bindings,
    gstage::{
        Counted,
        Flushed,
        FormerTable,
        InUse,
        MmuRead,
        MmuWrite,
        Mode,
        Root,
        RootTable,
        Table,
        TableMemory,
        TablePage,
        Teardown, //
    },
    kvm_core::{
        addr::{
            Hpa,
            PageSize,
            Pfn, //
        },
        hostmm::HostPgtable,
        mmu_lock::{
            ReadGuard,
            WriteHeld, //
        },
        object::Vm,
        stats::{
            Gauge,
            Gauges, //
        }, //
    }, //
};

/// log2 of the pages of a root table: 16 KiB.
const ROOT_ORDER: u32 = 2;

/// Returns where in the kernel's address space physical address 0 would be.
fn linear_base() -> usize {
    // SAFETY: `phys_to_virt()` only computes an address and accesses no memory.
    unsafe { bindings::kvm_rs_phys_to_virt(0) as usize }
}

/// Returns the address of frame `pfn` in the kernel's address space, which has all memory at a
/// constant distance.
#[inline(always)]
fn address<T>(base: usize, pfn: Pfn) -> NonNull<T> {
    let address = base.wrapping_add(pfn.hpa().get() as usize);
    // All callers pass frames from the kernel's own allocator, so there is memory at the address,
    // which is not 0.
    NonNull::new(core::ptr::with_exposed_provenance_mut(address)).unwrap_or(NonNull::dangling())
}

/// Access to the tables of a VM by the kernel's linear map (C: `__va()`), and the statistics that
/// count their entries.
#[derive(Clone, Copy)]
pub(crate) struct LinearMap {
    /// What [`linear_base`] returns.
    base: usize,
    /// The statistics of the VM.
    gauges: Gauges,
}

// SAFETY: Pages that `alloc()` returned are in the linear map until they are freed, and the
// contracts of `TablePage` and `Root` leave that to their last owner. `Table` and `RootTable` have
// the size and alignment of what `alloc()` returns for them.
unsafe impl TableMemory for LinearMap {
    #[inline(always)]
    fn table(self, pfn: Pfn) -> NonNull<Table> {
        address(self.base, pfn)
    }

    #[inline(always)]
    fn root(self, pfn: Pfn) -> NonNull<RootTable> {
        address(self.base, pfn)
    }

    #[inline(always)]
    fn count(self, what: Counted, by: i64) {
        let gauge = match what {
            Counted::Leaves(PageSize::Size4K) => Gauge::Pages4K,
            Counted::Leaves(PageSize::Size64K) => Gauge::Pages64K,
            Counted::Leaves(PageSize::Size2M) => Gauge::Pages2M,
            Counted::Leaves(PageSize::Size1G) => Gauge::Pages1G,
            Counted::Tables => Gauge::Tables,
        };
        self.gauges.add(gauge, by);
    }
}

/// Allocates `1 << order` zeroed pages, aligned to their size, charged to the calling process, as
/// memory for secondary page tables. May sleep.
fn alloc(order: u32) -> Option<Pfn> {
    // SAFETY: `__get_free_pages()` has no requirement but a context that may sleep, for
    // `GFP_KERNEL_ACCOUNT`, and the callers of this function may sleep.
    let page = unsafe {
        bindings::kvm_rs_alloc_pages(bindings::GFP_KERNEL_ACCOUNT | bindings::__GFP_ZERO, order)
    };
    if page == 0 {
        return None;
    }
    let page = page as *mut core::ffi::c_void;
    // SAFETY: `page` is the address of `1 << order` pages that were just allocated.
    unsafe { bindings::kvm_account_pgtable_pages(page, 1 << order) };
    // SAFETY: `__get_free_pages()` returned `page`, so it is the address of a page in the linear
    // map.
    let hpa = unsafe { bindings::kvm_rs_virt_to_phys(page) };
    Some(Hpa::new(hpa).pfn())
}

/// Frees what [`alloc`] allocated. Does not sleep.
///
/// # Safety
///
/// `pfn` must have come from [`alloc`] with the same `order`, and must not be used any more.
unsafe fn free(pfn: Pfn, order: u32) {
    let page = address::<core::ffi::c_void>(linear_base(), pfn).as_ptr();
    // SAFETY: The caller promises that the pages came from `alloc()`, which counted as many of
    // them.
    unsafe { bindings::kvm_account_pgtable_pages(page, -(1 << order)) };
    // SAFETY: The caller promises that the pages came from `alloc()` with this `order`, and are
    // used no more.
    unsafe { bindings::kvm_rs_free_pages(page as usize, order) };
}

/// Allocates a page for a table, charged to the calling process. May sleep.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn alloc_table() -> Result<TablePage> {
    let pfn = alloc(0).ok_or(ENOMEM)?;
    // SAFETY: `alloc()` returned a zeroed page in the linear map, by which `LinearMap` reaches it,
    // and only this function has it.
    let table = unsafe { TablePage::new(pfn) };
    table.ok_or_else(|| {
        // SAFETY: `alloc(0)` returned the page above, and `TablePage::new()` did not take it. There
        // is no page whose frame number an entry cannot hold, so this is never reached.
        unsafe { free(pfn, 0) };
        ENOMEM
    })
}

/// Gives a table's page back. Does not sleep.
pub(crate) fn free_table(table: FormerTable) {
    // SAFETY: Tables come from `alloc_table()` alone, which calls `alloc(0)`. By the invariant of
    // `FormerTable` the page belongs to `table`, and nothing points to it.
    unsafe { free(table.into_pfn(), 0) };
}

/// Gives one of very many pages back, as [`free_table`] does, and calls `cond_resched()`, so it may
/// sleep.
pub(crate) fn free_table_politely(table: FormerTable) {
    free_table(table);
    // SAFETY: The caller is in a context that may sleep: it frees the tables of a `ClosedTree`,
    // without `mmu_lock`.
    unsafe { bindings::kvm_rs_cond_resched() };
}

/// The G-stage tree of a VM.
///
/// # Invariants
///
/// - `state` is accessed only with `mmu_lock` held, and mutably only with it held for writing, or
///   by the only owner, without the lock.
/// - Once `closed` is set, `state` is not accessed mutably but by the only owner, and only
///   [`ClosedTree`] uses the root.
/// - `root_pfn` is the root's frame, which belongs to this value.
pub(crate) struct TreeCell {
    /// What `mmu_lock` protects.
    state: UnsafeCell<Tree>,
    /// The frame of the root, which needs no lock.
    root_pfn: Pfn,
}

/// What `mmu_lock` protects.
struct Tree {
    root: Root<LinearMap>,
    /// Whether the tree is closed: nothing may be installed then.
    closed: bool,
}

// SAFETY: By the type's invariants `mmu_lock` protects `state`: only a holder of the write lock
// makes a mutable reference to it, and never once the tree is closed. `root_pfn` does not change.
unsafe impl Sync for TreeCell {}

impl TreeCell {
    /// Makes an empty tree, the contents of which show in `gauges`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(mode: Mode, gauges: Gauges) -> Result<Self> {
        let root_pfn = alloc(ROOT_ORDER).ok_or(ENOMEM)?;
        let mem = LinearMap {
            base: linear_base(),
            gauges,
        };
        // SAFETY: `alloc()` returned zeroed pages, aligned to their size, in the linear map, by
        // which `mem` reaches them. Only this value has them, and only `drop` frees them.
        let root = unsafe { Root::new(mem, mode, root_pfn) };
        // INVARIANT: No other code has the state yet, and `root_pfn` is the frame of the new root.
        Ok(Self {
            state: UnsafeCell::new(Tree {
                root,
                closed: false,
            }),
            root_pfn,
        })
    }

    /// Returns the frame for `hgatp`.
    pub(crate) fn root_pfn(&self) -> Pfn {
        self.root_pfn
    }
}

impl Drop for TreeCell {
    fn drop(&mut self) {
        let tree = self.state.get_mut();
        if !tree.root.is_unused() {
            // SAFETY: `drop` has the only reference to the tree, so no other code can reach it and
            // no other view of it is in use, which is more than what the lock ensures.
            let mut view = unsafe { MmuWrite::new(&tree.root) };
            view.destroy(|| {}).flush_and_free(
                // SAFETY: No vCPU is left, so no CPU runs the guest, nor ever will.
                |_| unsafe { Flushed::new() },
                free_table,
            );
        }
        // SAFETY: `alloc()` returned the pages to `new()`, with this order. No CPU walks them any
        // more: `TranslationState::unload()` took the root out of the last `hgatp` when the last
        // vCPU was put.
        unsafe { free(self.root_pfn, ROOT_ORDER) };
    }
}

/// The tree of a VM after its address space is gone: no other code looks into the tree any more,
/// with whatever lock.
///
/// # Invariants
///
/// The tree is closed, and there is no other value for this VM.
pub(crate) struct ClosedTree<'v>(&'v Vm);

impl ClosedTree<'_> {
    /// Takes everything out. Calls `cond_resched()`, so it may sleep: the tree may be large.
    pub(crate) fn destroy(self) -> Teardown<LinearMap> {
        // SAFETY: By the type's invariant the tree is closed, and a holder of `mmu_lock` makes no
        // mutable reference to a closed tree.
        let tree = unsafe { &*self.0.memory().tree_cell().state.get() };
        // SAFETY: By the type's invariant the tree is closed and this is the only value for it. No
        // code makes a view of a closed tree, and the views from before went with the locks that
        // they were made under. So this is the only view now.
        let mut view = unsafe { MmuWrite::new(&tree.root) };
        view.destroy(|| {
            // SAFETY: The caller is in a context that may sleep: it holds no spinlock.
            unsafe { bindings::kvm_rs_cond_resched() }
        })
    }
}

impl ReadGuard<'_> {
    /// Returns the tree; [`None`] if the VM's address space is gone.
    #[inline]
    pub(crate) fn tree(&self) -> Option<MmuRead<'_, LinearMap>> {
        // SAFETY: `self` holds `mmu_lock` for reading, so there is no mutable reference: only a
        // holder of the write lock makes one.
        let tree = unsafe { &*self.vm().memory().tree_cell().state.get() };
        // SAFETY: `self` holds `mmu_lock` for reading for as long as the result borrows it.
        (!tree.closed).then(|| unsafe { MmuRead::new(&tree.root) })
    }
}

impl<'v> WriteHeld<'v> {
    /// Returns the tree; [`None`] if the VM's address space is gone.
    pub(crate) fn tree(&mut self) -> Option<MmuWrite<'_, LinearMap>> {
        // SAFETY: By the type's invariant `mmu_lock` is held for writing. `self` is borrowed
        // mutably for as long as the result, so `open()` makes no mutable reference meanwhile.
        let tree = unsafe { &*self.vm().memory().tree_cell().state.get() };
        // SAFETY: By the type's invariant `mmu_lock` is held for writing. `self` is borrowed
        // mutably for as long as the result, so no other view of the tree is in use.
        (!tree.closed).then(|| unsafe { MmuWrite::new(&tree.root) })
    }

    /// Returns the tree, and what the host maps; [`None`] if the VM's address space is gone.
    pub(crate) fn tree_and_host(&mut self) -> Option<(MmuWrite<'_, LinearMap>, HostPgtable<'_>)> {
        let vm = self.vm();
        let tree = self.tree()?;
        // SAFETY: By the type's invariant `mmu_lock` is held. `self` is borrowed for as long as the
        // result, so `unlocked()` cannot drop the lock meanwhile.
        Some((tree, unsafe { HostPgtable::new(vm) }))
    }

    /// Changes the format of an empty tree.
    ///
    /// # Errors
    ///
    /// [`InUse`] if it is not empty, or closed.
    pub(crate) fn set_mode(&mut self, mode: Mode) -> Result<(), InUse> {
        self.open().ok_or(InUse)?.root.set_mode(mode)
    }

    /// Closes the tree: from now on [`tree`](Self::tree) returns [`None`], and only the result
    /// reaches what is in it. Returns [`None`] if the tree was closed already.
    pub(crate) fn close(&mut self) -> Option<ClosedTree<'v>> {
        self.open()?.closed = true;
        // INVARIANT: The tree was open, so there is no `ClosedTree` for this VM yet, and it is
        // closed now.
        Some(ClosedTree(self.vm()))
    }

    /// Returns what the cell holds, unless it is closed.
    fn open(&mut self) -> Option<&mut Tree> {
        self.tree()?;
        // SAFETY: By the type's invariant `mmu_lock` is held for writing, and `self` is borrowed
        // mutably for as long as the result. The tree is open, so there is no `ClosedTree`, which
        // needs no lock.
        Some(unsafe { &mut *self.vm().memory().tree_cell().state.get() })
    }
}

#[kunit_tests(kvm_riscv_tables)]
mod tests {
    use super::*;

    /// Runs `f` with new frames, as words.
    fn with_frames<R>(order: u32, f: impl FnOnce(Pfn, &mut [u64]) -> R) -> Result<R> {
        let pfn = alloc(order).ok_or(ENOMEM)?;
        let first = address::<u64>(linear_base(), pfn).as_ptr();
        // SAFETY: `alloc()` just returned `512 << order` zeroed words in the linear map, and only
        // this function has them.
        let result = f(pfn, unsafe {
            core::slice::from_raw_parts_mut(first, 512 << order)
        });
        // SAFETY: `alloc()` returned the frames above, with this order, and `f` is done with them.
        unsafe { free(pfn, order) };
        Ok(result)
    }

    #[test]
    fn tables_are_zeroed() -> Result {
        for order in [0, ROOT_ORDER] {
            // The allocator most likely gives the same frames again.
            with_frames(order, |_, words| words.fill(u64::MAX))?;
            assert!(with_frames(order, |_, words| words
                .iter()
                .all(|&word| word == 0))?);
        }
        Ok(())
    }

    #[test]
    fn tables_are_aligned_and_in_the_linear_map() -> Result {
        for order in [0, ROOT_ORDER] {
            let (pfn, hpa) = with_frames(order, |pfn, words| {
                // SAFETY: `words` begins at the address of a page in the linear map.
                let hpa = unsafe { bindings::kvm_rs_virt_to_phys(words.as_mut_ptr().cast()) };
                (pfn, Hpa::new(hpa))
            })?;
            assert_eq!(hpa.pfn(), pfn);
            assert_eq!(pfn.get() % (1 << order), 0);
        }
        Ok(())
    }
}
