// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! The G-stage page table of a VM: guest physical to host physical addresses.
//!
//! This module owns the format ([`Mode`], [`Pte`](pte::Pte)), the table tree under a [`Root`], and
//! every change to it. There is a view for each way to hold `kvm->mmu_lock`, which offers what the
//! lock allows:
//!
//! - [`MmuRead`], lock held for reading: look up, [`install`](MmuRead::install) what a fault
//!   needs and [`fill`](MmuRead::fill) what is around it,
//!   [`make_writable`](MmuRead::make_writable), show [`extents`](MmuRead::extents). Many CPUs do so
//!   at once, with compare-and-exchange. An entry only gains: empty becomes a leaf or a table, a
//!   block becomes a table with the same translations, a Svnapot run pages, a leaf gets more
//!   permissions. Nothing is taken away, so no table is freed.
//! - [`MmuWrite`], lock held for writing: all of that, and unmap, write-protect, age, split,
//!   [`recover`](MmuWrite::recover) what was split, replace. What takes a permission or a
//!   translation away returns a duty: [`Flush`], or [`Teardown`], which also holds the tables that
//!   may be freed only after the flush.
//!
//! Views borrow from the caller's lock guard and walkers borrow from the view, so nothing points
//! into the tree once the lock is dropped. A long operation stops where the caller's `stop_here`
//! returns true, and returns a [`Progress`]; the caller flushes, drops the lock, takes it again,
//! and starts a new operation from there.
//!
//! Lock order: nothing is locked here; all of it runs under `mmu_lock`, or on a tree that no other
//! code can reach any more. Nothing is allocated here either: tables come from a [`TableSource`]
//! that was filled before the lock was taken.
//!
//! Each change of the number of tables, or of leaves of a size, is passed to
//! [`TableMemory::count`].
//!
//! This module is pure: it also compiles on the host (`selftests/host`), over an arena instead of
//! the linear map. It answers to `arch/riscv/kvm/gstage.c` and the table half of `mmu.c`. Formats:
//! RISC-V Privileged Architecture, "Two-Stage Address Translation", "Svnapot", "Svpbmt".

pub(crate) mod around;
pub(crate) mod device;
#[cfg(CONFIG_DEBUG_FS)]
pub(crate) mod dump;
pub(crate) mod flush;
pub(crate) mod install;
pub(crate) mod mode;
pub(crate) mod napot;
pub(crate) mod pte;
pub(crate) mod range;
pub(crate) mod recover;
pub(crate) mod table;
pub(crate) mod vmid;
pub(crate) mod walk;

use core::{
    marker::PhantomData,
    ops::Deref, //
};

use crate::{
    kernel_ext::atomic::{
        AtomicU64,
        Ordering, //
    },
    kvm_core::addr::Pfn, //
};

pub(crate) use crate::gstage::{
    around::Neighbours,
    device::DevicePages,
    flush::{
        Flush,
        Flushed,
        Progress,
        Scope,
        Stop,
        Teardown, //
    },
    install::{
        FaultGpa,
        HostPage,
        MakeWritable,
        Outcome, //
    },
    mode::Mode,
    pte::{
        Age,
        Pbmt,
        Rights, //
    },
    table::{
        Counted,
        FormerTable,
        RootTable,
        Table,
        TableMemory,
        TablePage,
        TableSource, //
    }, //
};

#[cfg(CONFIG_DEBUG_FS)]
pub(crate) use crate::gstage::dump::{
    Extent,
    Kind, //
};

#[cfg(test)]
pub(crate) use crate::gstage::{
    install::{
        Install,
        Mapping, //
    },
    mode::UnknownMode,
    napot::{
        claim,
        page_of_run, //
        Claim,
    },
    pte::{
        ppn, //
        Entry,
        Leaf,
        Pte,
        PteCell,
    }, //
};

/// The root of a VM's G-stage tree.
///
/// One per VM, from its creation to its end; [`MmuWrite::destroy`] empties it. The code that made
/// it frees its page, once no `hgatp` holds it.
///
/// # Invariants
///
/// - `pfn` is the first frame of a [`RootTable`] that `mem` reaches and that belongs to this value.
/// - Every table entry below the root points to a [`Table`] that `mem` reaches and that belongs to
///   the tree, until the entry is replaced under the write lock.
/// - Bit `i / 32` of `used` is set if entry `i` of the root is not empty.
pub(crate) struct Root<M: TableMemory> {
    /// Access to the tables.
    mem: M,
    /// The format of the tree.
    mode: Mode,
    /// The first frame of the root table.
    pfn: Pfn,
    /// A bit for each group of 32 root entries that was ever used.
    used: AtomicU64,
}

impl<M: TableMemory> Root<M> {
    /// Makes an empty tree of format `mode` over the zeroed 16 KiB at `pfn`.
    ///
    /// # Safety
    ///
    /// `pfn` must be the first frame of a zeroed [`RootTable`], aligned to its size, that `mem`
    /// reaches for as long as the value lives, and that no other code uses.
    pub(crate) unsafe fn new(mem: M, mode: Mode, pfn: Pfn) -> Self {
        // INVARIANT: The caller hands over the page. It is zeroed, so no entry is in use.
        Self {
            mem,
            mode,
            pfn,
            used: AtomicU64::new(0),
        }
    }

    /// Returns the format, which gives depth, guest physical width and `hgatp.MODE`.
    #[cfg(test)]
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns the frame for `hgatp.PPN`.
    #[cfg(test)]
    pub(crate) fn pfn(&self) -> Pfn {
        self.pfn
    }

    /// Returns whether no entry was ever installed since the tree was made or destroyed.
    pub(crate) fn is_unused(&self) -> bool {
        // Relaxed: a caller that must not miss an entry holds `mmu_lock`, which orders this load.
        self.used.load(Ordering::Relaxed) == 0
    }

    /// Changes the format of a tree without entries.
    ///
    /// # Errors
    ///
    /// [`InUse`] if there may be entries; the format stays.
    pub(crate) fn set_mode(&mut self, mode: Mode) -> Result<(), InUse> {
        if !self.is_unused() {
            return Err(InUse);
        }
        self.mode = mode;
        Ok(())
    }
}

/// The error of [`Root::set_mode`]: the tree has entries, so its format cannot change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InUse;

/// The tree, while `kvm->mmu_lock` is held at least for reading.
///
/// # Invariants
///
/// For `'a`, the lock is held for reading or writing, or no other code can reach the tree: no table
/// of the tree is freed.
pub(crate) struct MmuRead<'a, M: TableMemory> {
    /// The tree.
    root: &'a Root<M>,
}

impl<'a, M: TableMemory> MmuRead<'a, M> {
    /// Makes the view; for lock guards.
    ///
    /// # Safety
    ///
    /// The `mmu_lock` of the VM that `root` belongs to must be held for reading or writing for
    /// `'a`, or no other code be able to reach the tree.
    #[inline(always)]
    pub(crate) unsafe fn new(root: &'a Root<M>) -> Self {
        // INVARIANT: The caller holds the lock for `'a`, or no other code can reach the tree.
        Self { root }
    }

    /// Returns the format of the tree.
    #[inline(always)]
    pub(crate) fn mode(&self) -> Mode {
        self.root.mode
    }
}

/// The tree, while `kvm->mmu_lock` is held for writing.
///
/// # Invariants
///
/// For `'a`, the lock is held for writing, or no other code can reach the tree: no other view of it
/// is in use, and only harts' page-table walkers read it (and set A and D bits).
pub(crate) struct MmuWrite<'a, M: TableMemory> {
    /// The view for reading, which this one includes.
    read: MmuRead<'a, M>,
    exclusive: PhantomData<&'a mut Root<M>>,
}

impl<'a, M: TableMemory> MmuWrite<'a, M> {
    /// Makes the view; for lock guards.
    ///
    /// # Safety
    ///
    /// The `mmu_lock` of the VM that `root` belongs to must be held for writing for `'a`, or no
    /// other code be able to reach the tree; and no other view of the tree may be in use for `'a`.
    #[inline(always)]
    pub(crate) unsafe fn new(root: &'a Root<M>) -> Self {
        // INVARIANT: The caller holds the lock for writing for `'a`, or no other code can reach the
        // tree, and no other view of the tree is in use.
        Self {
            // SAFETY: The caller holds the lock for writing for `'a`, which allows all that the
            // read lock does, or no other code can reach the tree.
            read: unsafe { MmuRead::new(root) },
            exclusive: PhantomData,
        }
    }
}

/// What is allowed under the read lock is allowed under the write lock.
impl<'a, M: TableMemory> Deref for MmuWrite<'a, M> {
    type Target = MmuRead<'a, M>;

    #[inline(always)]
    fn deref(&self) -> &Self::Target {
        &self.read
    }
}
