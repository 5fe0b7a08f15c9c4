// SPDX-License-Identifier: GPL-2.0

//! A guest touches a page that its G-stage does not map, or not with that permission. Answers to
//! `kvm_riscv_mmu_map()`.
//!
//! Two ways lead to a mapping. A store to a page that is write-protected for the dirty log, and
//! that the host is known to let its process write, is settled in the tree alone. Everything else
//! asks the host for the page, without locks, and then installs it under `mmu_lock` held for
//! reading, next to other faults, unless the host has taken something away meanwhile: then the
//! guest tries again.
//!
//! Locks: `kvm->srcu`, then `mmu_lock` for reading. Sleeps, and so does the host.

use kernel::prelude::*;

use super::{
    addr::{
        Gpa,
        PageSize, //
    },
    gstage::{
        self,
        FaultGpa,
        HostPage,
        MakeWritable,
        Rights, //
    },
    shared,
    tlb, //
};
use crate::{
    abi::{
        hostmm::{
            self,
            Depth, //
        },
        memslot::{
            FaultIn,
            HostAccess,
            HostRef,
            InvalidateSeq,
            Slot,
            SlotAccess, //
        },
        tables::{
            ReadGuard,
            WriteGuard, //
        }, //
    },
    sync::SlotsRead,
    vcpu::Loaded,
    vm::Vm,
};

/// What the guest wanted to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Read, also on behalf of an address translation.
    Load,
    /// Write; atomic operations, too.
    Store,
    /// Execute.
    Fetch,
}

/// What became of [`Loaded::fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Outcome {
    /// The guest can go on. It may fault again, if the host changed something meanwhile; if the
    /// memory is broken, the thread has a signal pending that says so.
    Mapped,
    /// There is no memory to access so: nobody's address, a device's, or a store to a read-only
    /// slot, which is to be treated as one to a device.
    NoMemory,
}

impl Loaded<'_> {
    /// Makes `gpa` accessible to the guest.
    ///
    /// Enters `kvm->srcu` itself, so the caller is not in it.
    ///
    /// # Errors
    ///
    /// `EFAULT` if the host has no page there, or none with that access; `EINTR` if a signal came
    /// first; `ENOMEM`.
    pub(crate) fn fault(&mut self, gpa: Gpa, access: Access) -> Result<Outcome> {
        let me = self.vcpu;
        let slots = SlotsRead::new(me);
        let Some(slot) = Slot::find(me, &slots, gpa.gfn()) else {
            return Ok(Outcome::NoMemory);
        };
        if access == Access::Store && slot.access() == SlotAccess::ReadOnly {
            return Ok(Outcome::NoMemory);
        }
        let fault = Fault {
            vm: me.vm(),
            slot,
            gpa: FaultGpa::new(gpa),
            access,
        };
        let done = if fault.is_logged_store() && fault.unprotect() {
            Done::Mapped(Fence::Address)
        } else {
            fault.map(self)?
        };
        match done {
            Done::Mapped(Fence::Nothing) | Done::Retry => {}
            Done::Mapped(Fence::Address) => self.pinned(|vcpu| tlb::flush_gpa(vcpu, gpa)),
            Done::Mapped(Fence::Everything) => self.pinned(tlb::flush_all),
            Done::Poisoned => hostmm::send_poison_signal(slot.hva(gpa.gfn())),
        }
        Ok(Outcome::Mapped)
    }
}

/// A fault on a page of a slot.
struct Fault<'f> {
    vm: &'f Vm,
    slot: Slot<'f>,
    gpa: FaultGpa,
    access: Access,
}

/// How it was settled.
enum Done {
    Mapped(Fence),
    Retry,
    Poisoned,
}

/// What this hart must forget for the guest to go on. Others that remember as much fault once, and
/// then forget it themselves.
#[derive(Clone, Copy)]
enum Fence {
    /// It sees entries that become valid without being told.
    Nothing,
    /// What it knows of the faulting address.
    Address,
    /// Everything: it may remember an entry above the faulting page's, which a fence for an address
    /// leaves alone.
    Everything,
}

impl Fault<'_> {
    fn is_logged_store(&self) -> bool {
        self.access == Access::Store && self.slot.is_logged()
    }

    /// Gives the page its write permission back and logs it; fails if that was not what it lacked.
    fn unprotect(&self) -> bool {
        let lock = ReadGuard::lock(self.vm);
        let Some(tree) = lock.tree() else {
            return false;
        };
        match tree.make_writable(self.gpa) {
            // Somebody who made it writable has marked it, or is about to.
            MakeWritable::AlreadyWritable => true,
            MakeWritable::Done => {
                self.slot.mark_dirty(&lock, self.gpa.gfn());
                true
            }
            MakeWritable::NotPresent | MakeWritable::NotAllowed => false,
        }
    }

    /// Asks the host for the page and installs it.
    fn map(&self, vcpu: &mut Loaded<'_>) -> Result<Done> {
        let gfn = self.gpa.gfn();
        let tables = &mut vcpu.owned.tables;
        // A table for each level below the root's.
        tables.top_up(self.vm.memory().mode().top() as usize)?;

        // What follows is true as long as the host does not say otherwise; from here on we notice.
        let seq = InvalidateSeq::read(self.vm);
        let want = match self.access {
            Access::Store => HostAccess::ReadWrite,
            Access::Load | Access::Fetch => HostAccess::ReadOnly,
        };
        let host = match self.slot.fault_in(self.vm, gfn, want) {
            FaultIn::Page(host) => host,
            FaultIn::Poisoned => return Ok(Done::Poisoned),
            FaultIn::Interrupted => return Err(EINTR),
            FaultIn::Failed => return Err(EFAULT),
        };
        let page = self.describe(&host);

        let lock = ReadGuard::lock(self.vm);
        let stale = match page.size {
            PageSize::Size4K => lock.is_stale(seq, gfn),
            // The rest of the block must be as it was, too.
            _ => lock.is_any_stale(seq),
        };
        if stale {
            return Ok(Done::Retry);
        }
        let Some(tree) = lock.tree() else {
            return Err(EFAULT);
        };
        let install = tree.install(self.gpa, page, tables);
        // A block that was split is remembered rightly until something in it changes.
        let _ = install.flush.delegate();
        let fence = match install.outcome {
            gstage::Outcome::Mapped => {
                if shared().is_some_and(|shared| shared.host.svvptc) {
                    Fence::Nothing
                } else {
                    Fence::Address
                }
            }
            gstage::Outcome::Upgraded => Fence::Address,
            gstage::Outcome::Already => Fence::Everything,
            gstage::Outcome::NeedTables => return Ok(Done::Retry),
            gstage::Outcome::OutOfRange => return Err(EFAULT),
            gstage::Outcome::Occupied(_) => {
                drop(lock);
                self.evict();
                return Ok(Done::Retry);
            }
        };
        if page.rights == Rights::Writable {
            self.slot.mark_dirty(&lock, gfn);
        }
        host.installed(&lock);
        Ok(Done::Mapped(fence))
    }

    /// How the guest may map the page.
    fn describe(&self, host: &HostRef<'_>) -> HostPage {
        let gfn = self.gpa.gfn();
        // Writes are noticed page by page. What is not the kernel's memory is mapped page by page,
        // too: its owner may have mapped it in any manner.
        let limit = if self.slot.is_logged() || !host.is_memory() {
            PageSize::Size4K
        } else {
            self.slot.largest_block(gfn)
        };
        // The host's page table knows, without `mmap_lock` and the VMA.
        let depth = if shared().is_some_and(|shared| shared.host.svnapot) {
            Some(Depth::Pages)
        } else if limit > PageSize::Size4K {
            Some(Depth::Blocks)
        } else {
            None
        };
        let (pfn, size) = match depth {
            None => (host.pfn(), PageSize::Size4K),
            Some(depth) => {
                let hva = self.slot.hva(gfn);
                let mapping = hostmm::mapping_at(self.vm, hva, depth);
                (mapping.frame(hva, host.pfn()), mapping.size().min(limit))
            }
        };
        let rights = match host.access() {
            HostAccess::ReadOnly => Rights::HostReadOnly,
            HostAccess::ReadWrite if self.slot.is_logged() && self.access != Access::Store => {
                Rights::WriteProtected
            }
            HostAccess::ReadWrite => Rights::Writable,
        };
        HostPage { pfn, size, rights }
    }

    /// Unmaps what is in the page's place, which is nothing that the host has now.
    fn evict(&self) {
        let mut lock = WriteGuard::lock(self.vm);
        super::slots::unmap_page(&mut lock, self.gpa.gfn());
    }
}
