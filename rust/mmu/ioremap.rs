// SPDX-License-Identifier: GPL-2.0

//! Pages of devices that a guest reaches without an exit, where it has no memory: the page of its
//! interrupt file. Answers to `kvm_riscv_mmu_ioremap()` and `kvm_riscv_mmu_iounmap()`.
//!
//! Lock: `mmu_lock` for writing. Interrupts are on, since other CPUs may have to be
//! waited for.

use crate::{
    gstage::{
        DevicePages,
        Pbmt,
        Progress,
        Rights,
        Stop, //
    },
    kvm_core::{
        addr::{
            Gpa,
            Hpa, //
        },
        mmu_lock::WriteGuard,
        object::Vm, //
    },
    mmu::{
        cache::TableCache,
        memslots,
        shared,
        tlb, //
    }, //
};

/// The page could not be mapped: memory is in its place, there was no table for it, or the VM's
/// address space is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotMapped;

/// Maps the page of a device at `hpa` for the guest at `gpa`, in place of another device's. The
/// guest uses no other when this returns. `tables` has one for each level below the root.
///
/// # Errors
///
/// [`NotMapped`]; what was there stays.
pub(crate) fn map_page(
    vm: &Vm,
    gpa: Gpa,
    hpa: Hpa,
    tables: &mut TableCache,
) -> Result<(), NotMapped> {
    let pages = DevicePages {
        pfn: hpa.pfn(),
        count: 1,
        rights: Rights::Writable,
        pbmt: if shared().is_some_and(|shared| shared.host.svpbmt) {
            Pbmt::Io
        } else {
            Pbmt::Pma
        },
    };
    let mut lock = WriteGuard::lock(vm);
    let Some(mut tree) = lock.tree() else {
        return Err(NotMapped);
    };
    let Progress { stop, duty, .. } = tree.map_device(gpa.gfn(), pages, tables);
    drop(lock);
    // A hart that still caches the absence of the page faults once, and then finds the page.
    duty.issue(|frames| tlb::flush_frames(vm, frames));
    match stop {
        Stop::Done => Ok(()),
        Stop::Asked | Stop::NeedTables | Stop::Occupied => Err(NotMapped),
    }
}

/// Unmaps what is at `gpa`. The guest does not use it any more when this returns.
pub(crate) fn unmap_page(vm: &Vm, gpa: Gpa) {
    memslots::unmap_page(&mut WriteGuard::lock(vm), gpa.gfn());
}
