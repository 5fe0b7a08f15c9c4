// SPDX-License-Identifier: GPL-2.0

//! Changes of memslots by userspace, dirty logging, and the MMU notifiers by which the host takes
//! pages away or asks whether they were used. Answers to the memory-slot and notifier functions of
//! `mmu.c`.
//!
//! All changes are made under `mmu_lock` held for writing. Long ones drop the lock in between. They
//! flush the TLBs before they do, because the next holder relies on it that no TLB has an entry
//! that is not in the tree.
//!
//! Locks: core KVM holds `kvm->slots_lock` for what concerns slots, `mmu_lock` for notifications.

use kernel::prelude::*;

use crate::{
    gstage::{
        Age,
        Flush,
        FormerTable,
        HostPage,
        Progress,
        Rights,
        Scope,
        Stop,
        TableMemory,
        Teardown, //
    },
    kvm_core::{
        addr::{
            Gfn,
            GfnRange,
            PageSize, //
        },
        host_mapping::HostWrite,
        hostmm::{
            self,
            HostPgtable, //
        },
        memslot::{
            self,
            Slot,
            SlotAccess,
            SlotChange, //
        },
        mmu_lock::{
            is_contended, //
            WriteGuard,
            WriteHeld,
        },
        object::Vm, //
    },
    mmu::{
        cache::TableCache,
        has_svnapot,
        param,
        table_memory::{
            free_table,
            free_table_politely, //
        },
        tlb, //
    }, //
};

/// Whether an operation may drop `mmu_lock` in between. C: `range->may_block`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MayBlock {
    /// The operation may drop the lock and yield the CPU.
    MayYield,
    /// The operation may not drop the lock, because the caller relies on it.
    Atomic,
}

/// Checks that a slot can be as userspace wants it.
///
/// # Errors
///
/// `EFAULT` if the guest cannot address all of it; `EPERM` if it is to be writable and the memory
/// behind it is not; `EINVAL` if it is to be logged and the memory behind it is a device's.
pub(crate) fn prepare(vm: &Vm, slot: &Slot<'_>, change: SlotChange) -> Result {
    match change {
        SlotChange::Delete => Ok(()),
        SlotChange::Create | SlotChange::Move | SlotChange::Flags => {
            if !vm.memory().mode().frames().covers(slot.frames()) {
                return Err(EFAULT);
            }
            hostmm::check_backing(slot)
        }
    }
}

/// Notes that a slot is now as userspace wants it: begins or ends dirty logging. `kvm->slots_lock`
/// is held.
pub(crate) fn commit(vm: &Vm, slot: &Slot<'_>, change: SlotChange) {
    // New slots and slots in a new place are logged from their first page on.
    if change != SlotChange::Flags {
        return;
    }
    if !slot.is_logged() {
        recover(&mut WriteGuard::lock(vm), slot, slot.frames());
        return;
    }
    // `protect_logged` write-protects the pages piece by piece.
    if memslot::log_starts_full(vm) {
        return;
    }
    let frames = slot.frames();
    let mut lock = WriteGuard::lock(vm);
    let protected = write_protect(&mut lock, frames);
    let split = if param::eager_page_split() {
        split(&mut lock, frames, TableCache::CAPACITY)
    } else {
        Flush::NONE
    };
    drop(lock);
    // A write of the guest until here need not be logged: the ioctl that begins the log has not
    // returned.
    protected
        .and(split)
        .issue(|frames| tlb::flush_frames(vm, frames));
}

/// Write-protects the frames of `mask`, counted from `base` on, for the dirty log. The caller
/// flushes the slot. `kvm->slots_lock` is held.
pub(crate) fn protect_logged(lock: &mut WriteHeld<'_>, base: Gfn, mask: u64) {
    if let Some(mut tree) = lock.tree() {
        let protected = tree.write_protect_masked(base, mask);
        // SAFETY: Core KVM flushes the slot before it drops `mmu_lock`, or tells userspace.
        unsafe { protected.delegate() };
    }
    if mask != 0 && memslot::log_starts_full(lock.vm()) && param::eager_page_split() {
        let end = u64::from(u64::BITS - mask.leading_zeros());
        let frames = GfnRange::new(
            base.saturating_add(u64::from(mask.trailing_zeros())),
            base.saturating_add(end),
        );
        // Nearly always enough: a 1 GiB and two 2 MiB blocks.
        let split = split(lock, frames, 3);
        // SAFETY: Core KVM flushes the slot, as above.
        unsafe { split.delegate() };
    }
}

/// Joins the blocks among `frames` of `slot` that logging had split, and makes the rest writable
/// again. The slot is not logged any more, and readers that saw it logged have left `kvm->srcu`, so
/// none splits or protects a page now.
///
/// The host's page table decides what is a block, except where the host is invalidating a part of
/// it: the pages that such an invalidation has unmapped stay unmapped.
fn recover(lock: &mut WriteHeld<'_>, slot: &Slot<'_>, frames: GfnRange) {
    let vm = lock.vm();
    let smallest = if has_svnapot() {
        PageSize::Size64K
    } else {
        PageSize::Size2M
    };
    let mut rest = frames;
    while let Some((mut tree, host)) = lock.tree_and_host() {
        let Progress {
            done_to,
            stop,
            duty,
        } = tree.recover(
            rest,
            smallest,
            |gfn| host_block(&host, slot, gfn),
            || is_contended(vm),
        );
        // Flush and free before the lock is dropped: other CPUs rely on it that no hart walks
        // tables that are not in the tree.
        settle(vm, duty, free_table);
        if stop != Stop::Asked {
            break;
        }
        rest = GfnRange::new(done_to, rest.end());
        lock.cond_resched_lock();
    }
}

/// Puts a block of `size` around `gfn`, a frame of `slot`, if the host has one, in place of the
/// tables that are there. A fault could not install the block, because smaller pages are mapped
/// there or were.
///
/// The slot must not be logged, and the caller must be in a section of `kvm->srcu` since it saw
/// that: a log that begins then waits for it before it splits blocks.
#[cold]
pub(super) fn join(vm: &Vm, slot: &Slot<'_>, gfn: Gfn, size: PageSize) {
    let frames = GfnRange::from_len(gfn.align_down(size), size.frames());
    recover(&mut WriteGuard::lock(vm), slot, frames);
}

/// Returns how the host maps `gfn`, which the tree maps, as far as that is one block within `slot`.
fn host_block(host: &HostPgtable<'_>, slot: &Slot<'_>, gfn: Gfn) -> Option<HostPage> {
    // `recover()` of the tree compares the frame with its own.
    let present = host.mapping(slot, gfn)?;
    let rights = match (slot.access(), present.stores()) {
        (SlotAccess::ReadOnly, _) | (_, HostWrite::ReadOnly) => Rights::HostReadOnly,
        // A clean entry will do: the block is a single folio, which was marked dirty as a whole
        // when the first part of it became writable to the guest, and where none did, the tree
        // does not make it so.
        (SlotAccess::ReadWrite, HostWrite::Clean | HostWrite::Dirty) => Rights::Writable,
    };
    let block = present.limit(slot.largest_block(gfn, has_svnapot()));
    Some(HostPage::new(block, rights))
}

/// Unmaps a slot that goes; no fault finds it any more. `kvm->slots_lock` is held.
pub(crate) fn flush(vm: &Vm, slot: &Slot<'_>) {
    unmap(&mut WriteGuard::lock(vm), slot.frames(), MayBlock::MayYield);
}

/// Unmaps everything for good, because the VM's address space goes. May come at any time, once or
/// more often (differences-from-c M5).
pub(crate) fn flush_all(vm: &Vm) {
    let closed = WriteGuard::lock(vm).close();
    if let Some(tree) = closed {
        settle(vm, tree.destroy(), free_table_politely);
    }
}

/// Unmaps `frames`, which the host takes away, maybe to put the same contents into other frames. No
/// CPU remembers a translation of them when this returns.
pub(crate) fn invalidate(lock: &mut WriteHeld<'_>, frames: GfnRange, patience: MayBlock) {
    if unmap(lock, frames, patience) {
        lock.vm().memory().moved().add(frames);
    }
}

/// Unmaps `frames`; no TLB remembers them when it returns. Returns whether anything was mapped.
fn unmap(lock: &mut WriteHeld<'_>, frames: GfnRange, patience: MayBlock) -> bool {
    let vm = lock.vm();
    let mut rest = frames;
    let mut was_mapped = false;
    while let Some(mut tree) = lock.tree() {
        let Progress {
            done_to,
            stop,
            duty,
        } = tree.unmap(rest, || patience == MayBlock::MayYield && is_contended(vm));
        was_mapped |= settle(vm, duty, free_table);
        if stop != Stop::Asked {
            break;
        }
        rest = GfnRange::new(done_to, frames.end());
        lock.cond_resched_lock();
    }
    was_mapped
}

/// Unmaps the entry that maps `gfn`.
pub(super) fn unmap_page(lock: &mut WriteHeld<'_>, gfn: Gfn) {
    unmap(lock, GfnRange::single(gfn), MayBlock::Atomic);
}

/// Returns whether the guest used `frames` since it was last asked so, and forgets it.
pub(crate) fn age(lock: &mut WriteHeld<'_>, frames: GfnRange) -> Age {
    lock.tree().map_or(Age::Old, |mut tree| tree.age(frames))
}

/// Returns whether the guest used `frames` since [`age`].
pub(crate) fn test_age(lock: &mut WriteHeld<'_>, frames: GfnRange) -> Age {
    lock.tree()
        .map_or(Age::Old, |mut tree| tree.test_age(frames))
}

/// Flushes, then has `free` take the tables that are out of the tree. Returns whether there was
/// anything to flush.
fn settle<M: TableMemory>(vm: &Vm, duty: Teardown<M>, free: impl FnMut(FormerTable)) -> bool {
    let mut was_owed = false;
    duty.flush_and_free(
        |scope| {
            was_owed = true;
            match scope {
                Scope::Frames(frames) => tlb::flush_frames(vm, frames),
                Scope::Everything => tlb::flush_everything(vm),
            }
        },
        free,
    );
    was_owed
}

/// Takes write permission from `frames`.
///
/// The flush may wait until the whole operation is done, with the lock dropped in between: only
/// [`commit`], which issues it, depends on it.
fn write_protect(lock: &mut WriteHeld<'_>, frames: GfnRange) -> Flush {
    let vm = lock.vm();
    let mut rest = frames;
    let mut owed = Flush::NONE;
    while let Some(mut tree) = lock.tree() {
        let progress = tree.write_protect(rest, || is_contended(vm));
        owed = owed.and(progress.duty);
        if progress.stop != Stop::Asked {
            break;
        }
        rest = GfnRange::new(progress.done_to, frames.end());
        lock.cond_resched_lock();
    }
    owed
}

/// Splits the blocks among `frames`, with `batch` tables allocated at a time. Stops early if there
/// is no memory: the guest's writes split the rest.
fn split(lock: &mut WriteHeld<'_>, frames: GfnRange, batch: usize) -> Flush {
    let vm = lock.vm();
    let mut tables = TableCache::new();
    let mut rest = frames;
    let mut owed = Flush::NONE;
    while let Some(mut tree) = lock.tree() {
        let progress = tree.split(rest, &mut tables, || is_contended(vm));
        owed = owed.and(progress.duty);
        rest = GfnRange::new(progress.done_to, frames.end());
        match progress.stop {
            Stop::Asked => lock.cond_resched_lock(),
            Stop::NeedTables => {
                if lock.unlocked(|| tables.top_up(batch)).is_err() {
                    break;
                }
            }
            Stop::Done | Stop::Occupied => break,
        }
    }
    owed
}
