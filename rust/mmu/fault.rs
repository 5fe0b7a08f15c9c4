// SPDX-License-Identifier: GPL-2.0

//! Guest-page faults: an access to a page that the G-stage does not map, or not with that
//! permission. Answers to `kvm_riscv_mmu_map()`.
//!
//! Three ways lead to a mapping. A store to a page that is write-protected for the dirty log, and
//! that the host is known to let its process write, is handled in the tree alone. A page that is
//! present in the host's own page table is installed from there, with its neighbours, under
//! `mmu_lock` held for reading, in parallel to other faults. For all other pages, the fault asks
//! the host, without locks, and installs the page unless the host has begun an invalidation
//! meanwhile: then the guest repeats the access.
//!
//! Locks: `kvm->srcu`, then `mmu_lock` for reading. May sleep.

use kernel::prelude::*;

use crate::{
    gstage::{
        self,
        Age,
        FaultGpa,
        HostPage,
        MakeWritable,
        MmuRead,
        Neighbours,
        Rights, //
    },
    kernel_ext::{
        compat,
        context::IrqOff,
        folio::LiveFolio,
        sched, //
    },
    kvm_core::{
        addr::{
            Gfn,
            GfnRange,
            Gpa,
            PageSize, //
            PAGE_SHIFT,
        },
        host_mapping::HostWrite,
        hostmm::{
            self,
            HostPgtable,
            HostTable, //
        },
        memslot::{
            FaultIn,
            HostAccess,
            HostRef,
            InvalidateSeq,
            Slot,
            SlotAccess, //
        },
        mmu_lock::{
            ReadGuard,
            WriteGuard, //
        },
        object::{
            Vcpu,
            Vm, //
        },
        srcu::SlotsRead, //
    },
    mmu::{
        cache::TableCache,
        has_svnapot,
        icache::FrameSet,
        memslots,
        param,
        shared,
        table_memory::LinearMap,
        tlb, //
    },
    vcpu::{
        stat::Counter,
        token::Loaded, //
    }, //
};

/// The access that the guest attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Read, also on behalf of an address translation.
    Load,
    /// Write; atomic operations, too.
    Store,
    /// Execute.
    Fetch,
}

/// The outcome of [`Loaded::fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Outcome {
    /// The guest can go on. It may fault again, if the host has changed its mapping meanwhile, or
    /// userspace is changing the slot; if the memory is broken, the thread has SIGBUS pending.
    Mapped,
    /// There is no memory for this access: the address has no slot, or the access is a store to a
    /// read-only slot, which is to be treated as one to a device.
    NoMemory,
    /// There is a slot, but the host has no page there, or does not allow that access. `kvm_run`
    /// has `KVM_EXIT_MEMORY_FAULT`, and `KVM_RUN` is to fail with `EFAULT`.
    Refused,
}

impl Loaded<'_> {
    /// Makes `gpa` accessible to the guest.
    ///
    /// # Errors
    ///
    /// `EINTR` if a signal came first; `ENOMEM`.
    pub(crate) fn fault(
        &mut self,
        slots: &SlotsRead<'_>,
        gpa: Gpa,
        access: Access,
    ) -> Result<Outcome> {
        let me = self.vcpu();
        let Some(slot) = Slot::find(slots, gpa.gfn()) else {
            return Ok(Outcome::NoMemory);
        };
        if slot.is_invalid() {
            // The slot is still memory, not a device's: it stays if the ioctl of userspace fails.
            return Ok(Outcome::Mapped);
        }
        if access == Access::Store && slot.access() == SlotAccess::ReadOnly {
            return Ok(Outcome::NoMemory);
        }
        let fault = Fault {
            vm: me.vm(),
            slot,
            gpa: FaultGpa::new(gpa),
            access,
            asked: None,
        };
        let (done, counter) = if fault.is_logged_store() && fault.unprotect() {
            (Done::Mapped(Fence::Address, 1), Counter::PfFast)
        } else {
            let done = fault.map(self)?;
            let counter = done.counter();
            (done, counter)
        };
        me.count(counter);
        match done {
            Done::Mapped(Fence::Nothing, _) | Done::Retry => {}
            Done::Mapped(Fence::Address, _) => self.pinned(|vcpu| tlb::flush_gpa(vcpu, gpa)),
            Done::Mapped(Fence::Everything, _) => self.pinned(tlb::flush_all),
            Done::Poisoned => hostmm::send_poison_signal(slot.hva(gpa.gfn())),
            Done::Refused => {
                self.run_page().exit_memory_fault(gpa);
                return Ok(Outcome::Refused);
            }
        }
        Ok(Outcome::Mapped)
    }

    /// Maps what is at `gpa`, as for a load of the guest, and what the host has present of the
    /// `size` bytes from there on; returns how many bytes from there on are mapped, at least. The
    /// guest's state does not change.
    ///
    /// No fence is executed: a hart that remembers that nothing was mapped faults, and then forgets
    /// it.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no slot; `EAGAIN` if it is about to go; `EFAULT` if the host has no
    /// page there, `EHWPOISON` if it is broken; `EINTR` if a signal is pending; `ENOMEM`.
    pub(crate) fn pre_fault(&mut self, gpa: Gpa, size: u64) -> Result<u64> {
        let me = self.vcpu();
        let slots = SlotsRead::new(self.held());
        loop {
            let slot = Slot::find(&slots, gpa.gfn()).ok_or(ENOENT)?;
            if slot.is_invalid() {
                // Core KVM, which deletes or moves the slot, waits until the caller has left
                // `kvm->srcu`.
                return Err(EAGAIN);
            }
            let frames = (size >> PAGE_SHIFT).min(PRE_FAULT_FRAMES);
            let fault = Fault {
                vm: me.vm(),
                slot,
                gpa: FaultGpa::new(gpa),
                access: Access::Load,
                asked: Some(GfnRange::from_len(gpa.gfn(), frames)),
            };
            match fault.map(self)? {
                Done::Mapped(_, frames) => return Ok(frames << PAGE_SHIFT),
                Done::Retry if hostmm::signal_pending() => return Err(EINTR),
                Done::Retry => sched::cond_resched(),
                Done::Poisoned => return Err(compat::ehwpoison()),
                Done::Refused => return Err(EFAULT),
            }
        }
    }
}

/// How many pages are mapped at once where userspace asks for them: the host's table is read with
/// interrupts off, and to no end where the host has no page present.
const PRE_FAULT_FRAMES: u64 = 64;

/// A fault on a page of a slot.
struct Fault<'f> {
    vm: &'f Vm,
    slot: Slot<'f>,
    gpa: FaultGpa,
    access: Access,
    /// What userspace asked for, from the page on; [`None`] if the guest asked.
    asked: Option<GfnRange>,
}

/// The neighbours that are mapped with a page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Around {
    /// All neighbours that the host has present.
    All,
    /// The neighbours whose instructions all CPUs have seen.
    Seen,
}

/// A page that the host gave when a fault asked for it.
struct Given<'g> {
    page: &'g HostRef,
    /// Whether the host had no page in its place before.
    was_absent: bool,
}

impl Given<'_> {
    /// Returns whether it is new to the guest: the host has filled it with zeros for this fault.
    fn is_zeroed(&self) -> bool {
        self.was_absent && self.page.folio().is_some_and(LiveFolio::is_anon)
    }
}

/// What [`Fault::install`] has come to.
struct Installed {
    next: Next,
    /// The block that could be mapped, were there no smaller pages in its place.
    larger: Option<PageSize>,
    /// What the guest may do.
    rights: Rights,
    /// Neighbours that were mapped.
    around: u64,
    /// Pages from the faulting one on that are mapped, if userspace asked.
    mapped: u64,
}

/// What is left to do once the page is installed, or not.
enum Next {
    /// Have the guest go on, after a fence.
    Fence(Fence),
    /// Have the guest try again.
    Retry,
    /// Unmap what is in the page's place, and have the guest try again.
    Evict,
    /// Give up.
    Refuse,
}

/// How a fault ended.
enum Done {
    /// The page is mapped, and so many pages from there on if userspace asked. The hart must
    /// execute the fence.
    Mapped(Fence, u64),
    Retry,
    Poisoned,
    Refused,
}

impl Done {
    /// Returns the statistic that counts it.
    fn counter(&self) -> Counter {
        match self {
            Done::Mapped(Fence::Everything, _) => Counter::PfSpurious,
            Done::Mapped(Fence::Nothing | Fence::Address, _) | Done::Poisoned | Done::Refused => {
                Counter::PfFixed
            }
            Done::Retry => Counter::PfRetry,
        }
    }
}

/// The fence that this hart must execute for the guest to go on. Another hart that remembers the
/// old entry faults once, and then executes its own.
#[derive(Clone, Copy)]
enum Fence {
    /// No fence: the hart sees entries that become valid by itself (Svvptc).
    Nothing,
    /// A fence for the faulting address.
    Address,
    /// A fence for everything: the hart may remember an entry above the faulting page's, which a
    /// fence for an address leaves alone.
    Everything,
}

impl Fault<'_> {
    /// Returns whether this is a store to a slot whose writes are logged.
    fn is_logged_store(&self) -> bool {
        self.access == Access::Store && self.slot.is_logged()
    }

    /// Gives the page its write permission back and logs it; returns false if the fault has another
    /// reason.
    fn unprotect(&self) -> bool {
        let lock = ReadGuard::lock(self.vm);
        let Some(tree) = lock.tree() else {
            return false;
        };
        match tree.make_writable(self.gpa) {
            // The CPU that made it writable has marked it dirty, or is about to.
            MakeWritable::AlreadyWritable => true,
            MakeWritable::Done => {
                self.slot.mark_dirty(&lock, self.gpa.gfn());
                true
            }
            MakeWritable::NotPresent | MakeWritable::NotAllowed => false,
        }
    }

    /// Maps the page, as the host has it now or after it was asked for it. May sleep.
    fn map(&self, vcpu: &mut Loaded<'_>) -> Result<Done> {
        let (me, tables) = vcpu.with_tables();
        // The fault needs at most a table for each level below the root's.
        tables.top_up(self.vm.memory().mode().top() as usize)?;

        let (done, around) = match self.map_present(me, tables) {
            Some(done) => done,
            None => self.map_faulted_in(me, tables)?,
        };
        if around != 0 {
            me.count_many(Counter::PfAround, around);
        }
        Ok(done)
    }

    /// Installs what the host's page table has for the page already, and for its neighbours; tells
    /// how many of them. Returns [`None`] if the host must be asked.
    fn map_present(&self, vcpu: &Vcpu, tables: &mut TableCache) -> Option<(Done, u64)> {
        let gfn = self.gpa.gfn();
        let lock = ReadGuard::lock(self.vm);
        let tree = lock.tree()?;
        let host = lock.host();
        let around = if self.may_be_moved() {
            self.show_code(vcpu, &tree, &host, None);
            Around::Seen
        } else {
            Around::All
        };
        let installed = IrqOff::with(|irqs| {
            let table = HostTable::around(&host, &self.slot, gfn, irqs)?;
            let present = table.page()?;
            let access = match (present.stores(), self.slot.access()) {
                (HostWrite::Dirty, SlotAccess::ReadWrite) => HostAccess::ReadWrite,
                (HostWrite::ReadOnly, _) if self.access == Access::Store => return None,
                (HostWrite::ReadOnly, _) | (_, SlotAccess::ReadOnly) => HostAccess::ReadOnly,
                // Return, to ask the host, which marks the page dirty, so that it can be writable.
                (HostWrite::Clean, SlotAccess::ReadWrite) => return None,
            };
            table.note_use(present);
            let mapping = present.mapping().limit(self.limit(present.size()));
            let page = HostPage::new(mapping, self.rights(access));
            Some(self.install(&tree, page, tables, Some(&table), around))
        })?;
        Some(self.finish(lock, installed, None))
    }

    /// Returns whether the page or a neighbour of it may hold instructions that the host has moved
    /// to where they are, see [`icache`](crate::mmu::icache).
    #[inline(always)]
    fn may_be_moved(&self) -> bool {
        self.access == Access::Fetch || self.vm.memory().moved().contains(self.gpa.gfn())
    }

    /// Has all CPUs see the instructions of the page and its neighbours, as far as the host has
    /// them and has not shown them before. Pages that `tree` maps already are skipped.
    ///
    /// `given` is the page, if the host was asked for it.
    ///
    /// `mmu_lock`, which `host` stands for, keeps the pages where they are. CPUs that wait for it
    /// wait with interrupts on, so they take the interrupt that has them execute FENCE.I.
    #[cold]
    fn show_code(
        &self,
        vcpu: &Vcpu,
        tree: &MmuRead<'_, LinearMap>,
        host: &HostPgtable<'_>,
        given: Option<&Given<'_>>,
    ) {
        let gfn = self.gpa.gfn();
        let given_folio = given.and_then(|given| given.page.folio());
        let zeroed = given_folio.filter(|_| given.is_some_and(Given::is_zeroed));
        let mut unseen = FrameSet::EMPTY;
        let mut look = |gfn, folio: LiveFolio<'_>| {
            if !tree.is_mapped(gfn) && !folio.is_icache_clean() && zeroed != Some(folio) {
                unseen.add(gfn);
            }
        };
        self.for_window(host, &mut look);
        // The page itself may be the zero page, which [`HostTable`] does not show.
        if let Some(folio) = given_folio {
            look(gfn, folio);
        }
        if unseen.is_empty() {
            return;
        }
        vcpu.count(Counter::PfFenceI);
        hostmm::flush_icache_all();
        self.for_window(host, |gfn, folio| {
            if unseen.contains(gfn) {
                folio.set_icache_clean();
            }
        });
        if let Some(folio) = given_folio.filter(|_| unseen.contains(gfn)) {
            folio.set_icache_clean();
        }
    }

    /// Calls `look` for the page and its neighbours, with the folios that the host has there.
    fn for_window(&self, host: &HostPgtable<'_>, mut look: impl FnMut(Gfn, LiveFolio<'_>)) {
        IrqOff::with(|irqs| {
            let Some(table) = HostTable::around(host, &self.slot, self.gpa.gfn(), irqs) else {
                return;
            };
            let pages = table.pages();
            let frames = self.window().intersection(pages.frames());
            for gfn in (frames.start().get()..frames.end().get()).map(Gfn::new) {
                if let Some(page) = pages.page(gfn) {
                    look(gfn, page.folio());
                }
            }
        });
    }

    /// Returns whether the host has no page in its place, not even swapped out. If the host is
    /// changing its mapping there, the answer may be wrong.
    #[cold]
    fn is_absent(&self) -> bool {
        let lock = ReadGuard::lock(self.vm);
        let host = lock.host();
        IrqOff::with(|irqs| {
            let table = HostTable::around(&host, &self.slot, self.gpa.gfn(), irqs);
            table.is_none_or(|table| table.is_none())
        })
    }

    /// Installs the page, and its neighbours from `table` as `around` says.
    fn install(
        &self,
        tree: &MmuRead<'_, LinearMap>,
        page: HostPage,
        tables: &mut TableCache,
        table: Option<&HostTable<'_>>,
        around: Around,
    ) -> Installed {
        let gfn = self.gpa.gfn();
        let (install, neighbours) = tree.install(self.gpa, page, tables);
        let around = match (install.outcome, &neighbours, table) {
            (gstage::Outcome::Mapped, Some(neighbours), Some(table)) => {
                self.map_around(tree, neighbours, table, around)
            }
            _ => 0,
        };
        let mapped = match (self.asked, neighbours) {
            (None, _) => 1,
            (Some(_), Some(neighbours)) => neighbours.mapped_from(gfn),
            (Some(_), None) => GfnRange::new(gfn, install.level.span(gfn).end()).len(),
        };
        // SAFETY: What is cached of a block that was split stays right until something in it is
        // taken away, and that is flushed then.
        unsafe { install.flush.delegate() };
        let next = match install.outcome {
            gstage::Outcome::Mapped if sees_new_entries() => Next::Fence(Fence::Nothing),
            gstage::Outcome::Mapped | gstage::Outcome::Upgraded => Next::Fence(Fence::Address),
            gstage::Outcome::Already => Next::Fence(Fence::Everything),
            gstage::Outcome::NeedTables => Next::Retry,
            gstage::Outcome::OutOfRange => Next::Refuse,
            gstage::Outcome::Occupied(_) => Next::Evict,
        };
        let size = page.size();
        let is_smaller = size > PageSize::Size64K && size > install.level.leaf_size();
        Installed {
            next,
            larger: is_smaller.then_some(size),
            rights: page.rights(),
            around,
            mapped,
        }
    }

    /// Maps the neighbours of the page, which was just mapped, as far as `table` has them and there
    /// is room in the same leaf table; returns how many.
    fn map_around(
        &self,
        tree: &MmuRead<'_, LinearMap>,
        neighbours: &Neighbours<'_>,
        table: &HostTable<'_>,
        around: Around,
    ) -> u64 {
        let window = self.window();
        if window.len() <= 1 {
            return 0;
        }
        let pages = table.pages();
        let frames = window.intersection(pages.frames());
        // Where CPUs set the A bit themselves (Svadu), it starts clear, so that ageing sees that a
        // neighbour was never used. Elsewhere the first access would fault to set it, and this is
        // to avoid that fault.
        let age = if hostmm::has_hw_young() {
            Age::Old
        } else {
            Age::Young
        };
        // The guest has not asked for these pages: it may do nothing with them that the host or the
        // log would have to notice.
        let granted = match self.slot.access() {
            SlotAccess::ReadOnly => Rights::HostReadOnly,
            SlotAccess::ReadWrite if self.slot.is_logged() => Rights::WriteProtected,
            SlotAccess::ReadWrite => Rights::Writable,
        };
        tree.fill(neighbours, frames, age, |neighbour| {
            let page = pages.page(neighbour)?;
            if around == Around::Seen && !page.folio().is_icache_clean() {
                return None;
            }
            let mut mapping = page.mapping();
            if mapping.size() != PageSize::Size4K {
                mapping = mapping.limit(self.limit_neighbour(neighbour, mapping.size()));
            }
            Some(HostPage::unasked(mapping, granted))
        })
    }

    /// Returns the frames that are mapped with the page, if the host has them: those that userspace
    /// asked for, or the page's neighbours.
    #[inline(always)]
    fn window(&self) -> GfnRange {
        self.asked.unwrap_or_else(|| {
            let frames = param::fault_around_frames();
            let first = self.gpa.gfn().get() & !(frames - 1);
            GfnRange::from_len(Gfn::new(first), frames)
        })
    }

    /// Returns how much of `size` around `neighbour` is mapped with the faulting page: a run, where
    /// there can be one, which single pages would rule out for good.
    #[cold]
    fn limit_neighbour(&self, neighbour: Gfn, size: PageSize) -> PageSize {
        let is_run = has_svnapot()
            && !self.slot.is_logged()
            && self.slot.largest_block(neighbour, has_svnapot()).min(size) >= PageSize::Size64K;
        if is_run {
            PageSize::Size64K
        } else {
            PageSize::Size4K
        }
    }

    /// Asks the host for the page and installs it, and its neighbours; tells how many of them.
    fn map_faulted_in(&self, vcpu: &Vcpu, tables: &mut TableCache) -> Result<(Done, u64)> {
        let gfn = self.gpa.gfn();
        // From here on, `is_stale()` notices if the host invalidates what it is about to say.
        let seq = InvalidateSeq::read(self.vm);
        let may_be_moved = self.may_be_moved();
        let was_absent = may_be_moved && self.is_absent();
        let want = match self.access {
            Access::Store => HostAccess::ReadWrite,
            Access::Load | Access::Fetch => HostAccess::ReadOnly,
        };
        let given = match self.slot.fault_in(gfn, want) {
            FaultIn::Page(given) => given,
            FaultIn::Poisoned => return Ok((Done::Poisoned, 0)),
            FaultIn::Interrupted => return Err(EINTR),
            FaultIn::Failed => return Ok((Done::Refused, 0)),
        };
        let lock = ReadGuard::lock(self.vm);
        let Some(mapping) = given.mapping(&lock, seq, gfn) else {
            return Ok((Done::Retry, 0));
        };
        let Some(tree) = lock.tree() else {
            return Ok((Done::Refused, 0));
        };
        let host = lock.host();
        let around = if may_be_moved {
            let given = Given {
                page: &given,
                was_absent,
            };
            self.show_code(vcpu, &tree, &host, Some(&given));
            Around::Seen
        } else {
            Around::All
        };
        let installed = IrqOff::with(|irqs| {
            let table = HostTable::around(&host, &self.slot, gfn, irqs);
            // The entry for the page that the host gave says how much it maps like it, be that
            // memory, the huge zero page, or a device's.
            let mapping = mapping.widen(table.as_ref().and_then(HostTable::mapping));
            let mapping = mapping.limit(self.limit(mapping.size()));
            let page = HostPage::new(mapping, self.rights(given.access()));
            self.install(&tree, page, tables, table.as_ref(), around)
        });
        Ok(self.finish(lock, installed, Some(given)))
    }

    /// Returns how much of `size` around the page a single entry may map. Writes that are logged
    /// are noticed page by page.
    fn limit(&self, size: PageSize) -> PageSize {
        if size == PageSize::Size4K || self.slot.is_logged() {
            return PageSize::Size4K;
        }
        self.slot
            .largest_block(self.gpa.gfn(), has_svnapot())
            .min(size)
    }

    /// Returns what the guest may do with the page.
    fn rights(&self, access: HostAccess) -> Rights {
        match access {
            HostAccess::ReadOnly => Rights::HostReadOnly,
            HostAccess::ReadWrite if self.slot.is_logged() && self.access != Access::Store => {
                Rights::WriteProtected
            }
            HostAccess::ReadWrite => Rights::Writable,
        }
    }

    /// Does what is left to do after [`install`](Self::install); tells how many neighbours are
    /// mapped.
    #[inline(always)]
    fn finish(
        &self,
        lock: ReadGuard<'_>,
        installed: Installed,
        given: Option<HostRef>,
    ) -> (Done, u64) {
        let fence = match installed.next {
            Next::Fence(fence) => fence,
            Next::Retry => return (Done::Retry, installed.around),
            Next::Refuse => return (Done::Refused, installed.around),
            Next::Evict => {
                drop(lock);
                self.evict();
                return (Done::Retry, installed.around);
            }
        };
        if installed.rights == Rights::Writable && self.slot.is_logged() {
            self.slot.mark_dirty(&lock, self.gpa.gfn());
        }
        if let Some(given) = given {
            given.release_faultin_page(&lock);
        }
        if let Some(size) = installed.larger {
            // The table of smaller pages, which are or were there, is in the way of a block: join
            // them.
            drop(lock);
            memslots::join(self.vm, &self.slot, self.gpa.gfn(), size);
        }
        (Done::Mapped(fence, installed.mapped), installed.around)
    }

    /// Unmaps the entry in the page's place, which is none that the host has now.
    fn evict(&self) {
        let mut lock = WriteGuard::lock(self.vm);
        memslots::unmap_page(&mut lock, self.gpa.gfn());
    }
}

/// Returns whether harts see entries that become valid without a fence (Svvptc).
fn sees_new_entries() -> bool {
    shared().is_some_and(|shared| shared.host.svvptc)
}
