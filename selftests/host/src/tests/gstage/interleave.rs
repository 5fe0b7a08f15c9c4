// SPDX-License-Identifier: GPL-2.0

//! All interleavings of a few CPUs under the read lock, and of harts that set A and D meanwhile.
//!
//! The arena also has loom check that a table is reached only after its contents were published.

use std::sync::Arc;

use loom::{
    sync::{
        atomic::{
            AtomicU64,
            Ordering, //
        }, //
        RwLock,
    },
    thread, //
};

use super::arena::{
    flushing, //
    Arena,
};
use crate::{
    gstage::*,
    kvm_core::addr::*,
    tests::explore::explore, //
};

/// How far a host frame is from the guest frame that it is behind.
pub(super) const OFFSET: u64 = 0x4_0000;

const W: u64 = 1 << 2;
const A: u64 = 1 << 6;
const D: u64 = 1 << 7;

/// A VM with a G-stage.
pub(super) struct Vm {
    /// Stays until [`Vm::end`].
    pub(super) arena: &'static Arena,
    root: Root<&'static Arena>,
}

// SAFETY: the tree is shared between threads as under the kernel's lock.
unsafe impl Sync for Vm {}
// SAFETY: as above.
unsafe impl Send for Vm {}

impl Vm {
    pub(super) fn new() -> Vm {
        let arena: &'static Arena = Box::leak(Box::new(Arena::new()));
        let root = arena.root(Mode::Sv39x4);
        Vm { arena, root }
    }

    pub(super) fn read(&self) -> MmuRead<'_, &'static Arena> {
        // SAFETY: no thread uses a write view while others run, but for harts, or they lock.
        unsafe { MmuRead::new(&self.root) }
    }

    pub(super) fn write(&self) -> MmuWrite<'_, &'static Arena> {
        // SAFETY: as above.
        unsafe { MmuWrite::new(&self.root) }
    }

    pub(super) fn install(&self, gfn: u64, size: PageSize, rights: Rights) -> Outcome {
        let page = HostPage::of_test(Pfn::new(gfn + OFFSET), size, rights);
        let mut tables = self.arena.source(8);
        let fault = FaultGpa::new(Gfn::new(gfn).gpa());
        let read = self.read();
        let (result, _) = read.install(fault, page, &mut tables);
        // Harts are not modelled so far as to remember translations.
        result.flush.into_frames();
        result.outcome
    }

    pub(super) fn make_writable(&self, gfn: u64) -> MakeWritable {
        let fault = FaultGpa::new(Gfn::new(gfn).gpa());
        self.read().make_writable(fault)
    }

    pub(super) fn rights(&self, gfn: u64) -> Option<Rights> {
        let mapping = self.read().lookup(Gfn::new(gfn))?;
        let pfn = mapping.leaf.pfn_of(Gfn::new(gfn), mapping.level);
        assert_eq!(pfn, Pfn::new(gfn + OFFSET));
        Some(mapping.leaf.rights())
    }

    /// Maps what is missing of `frames` in the leaf table of `gfn`, where something is mapped.
    pub(super) fn fill(&self, gfn: u64, frames: GfnRange, rights: Rights) -> u64 {
        let page = HostPage::of_test(
            Pfn::new(gfn + OFFSET),
            PageSize::Size4K,
            Rights::HostReadOnly,
        );
        let fault = FaultGpa::new(Gfn::new(gfn).gpa());
        let read = self.read();
        let mut tables = self.arena.source(0);
        let (install, neighbours) = read.install(fault, page, &mut tables);
        install.flush.into_frames();
        let neighbours = neighbours.expect("a leaf table");
        read.fill(&neighbours, frames, Age::Old, |gfn| {
            Some(HostPage::of_test(
                Pfn::new(gfn.get() + OFFSET),
                PageSize::Size4K,
                rights,
            ))
        })
    }

    /// The size of the leaf that maps `gfn`.
    pub(super) fn size(&self, gfn: u64) -> Option<PageSize> {
        let mapping = self.read().lookup(Gfn::new(gfn))?;
        Some(mapping.leaf.size(mapping.level))
    }

    /// Asserts that the 16 frames from `first` on are a run or are not, and are mapped rightly.
    pub(super) fn assert_not_mixed(&self, first: u64) {
        let runs = (first..first + 16).filter(|gfn| {
            let _ = self.rights(*gfn);
            self.size(*gfn) == Some(PageSize::Size64K)
        });
        let runs = runs.count();
        assert!(runs == 0 || runs == 16, "{runs} of 16 entries are in a run");
        let leaves = |size| {
            let counts = self.arena.counts();
            counts.get(&Counted::Leaves(size)).copied().unwrap_or(0)
        };
        assert_eq!(leaves(PageSize::Size64K), runs as i64 / 16);
    }

    /// What a hart's walker does for a store: finds the leaf and sets A and D if it is writable.
    fn hart_stores(&self, gfn: u64) {
        let root = TableMemory::root(self.arena, self.root.pfn()).cast::<[AtomicU64; 2048]>();
        // SAFETY: a table is an array of the atomics that it is made of.
        let mut word = unsafe { &root.as_ref()[(gfn >> 18) as usize % 2048] };
        for shift in [9, 0] {
            let pte = word.load(Ordering::Acquire);
            if pte & 0b1111 != 1 {
                break;
            }
            let table = self.arena.table(Pfn::new(pte >> 10 & ((1 << 44) - 1)));
            let table = table.cast::<[AtomicU64; 512]>();
            // SAFETY: as above.
            word = unsafe { &table.as_ref()[(gfn >> shift) as usize % 512] };
        }
        let pte = word.load(Ordering::Acquire);
        if pte & W != 0 {
            let new = pte | A | D;
            let _ = word.compare_exchange(pte, new, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Ends the VM; every table must have been kept track of.
    pub(super) fn end(self) {
        let duty = self.write().destroy(|| ());
        duty.flush_and_free(flushing(|_| ()), |table| self.arena.free(table));
        assert_eq!(self.arena.live(), 0);
        let arena = std::ptr::from_ref(self.arena).cast_mut();
        // SAFETY: made from a box by `new`; its only user, the root, goes with `self`.
        drop(unsafe { Box::from_raw(arena) });
    }
}

/// Runs `first` and `second` at the same time, after `before`, and then `after` alone.
pub(super) fn race<T: Send + 'static>(
    before: impl Fn(&Vm) + Sync + Send + 'static,
    first: impl Fn(&Vm) -> T + Clone + Sync + Send + 'static,
    second: impl Fn(&Vm) -> T + Sync + Send + 'static,
    after: impl Fn(&Vm, T, T) + Sync + Send + 'static,
) {
    explore(move || {
        let vm = Arc::new(Vm::new());
        before(&vm);
        let there = thread::spawn({
            let (vm, first) = (vm.clone(), first.clone());
            move || first(&vm)
        });
        let here = second(&vm);
        let there = there.join().unwrap();
        after(&vm, there, here);
        Arc::into_inner(vm).unwrap().end();
    });
}

#[test]
fn loom_two_faults_on_one_page() {
    race(
        |_| (),
        |vm| vm.install(5, PageSize::Size4K, Rights::Writable),
        |vm| vm.install(5, PageSize::Size4K, Rights::Writable),
        |vm, one, other| {
            assert_eq!(vm.rights(5), Some(Rights::Writable));
            let pair = [one, other];
            assert!(pair.contains(&Outcome::Mapped) && pair.contains(&Outcome::Already));
        },
    );
}

#[test]
fn loom_two_faults_on_neighbours() {
    race(
        |_| (),
        |vm| vm.install(5, PageSize::Size4K, Rights::Writable),
        |vm| vm.install(6, PageSize::Size4K, Rights::WriteProtected),
        |vm, one, other| {
            assert_eq!((one, other), (Outcome::Mapped, Outcome::Mapped));
            assert_eq!(vm.rights(5), Some(Rights::Writable));
            assert_eq!(vm.rights(6), Some(Rights::WriteProtected));
            assert_eq!(vm.rights(7), None);
        },
    );
}

#[test]
fn loom_block_against_page() {
    race(
        |_| (),
        |vm| vm.install(5, PageSize::Size2M, Rights::Writable),
        |vm| vm.install(6, PageSize::Size4K, Rights::Writable),
        |vm, _, _| {
            assert_eq!(vm.rights(5), Some(Rights::Writable));
            assert_eq!(vm.rights(6), Some(Rights::Writable));
        },
    );
}

#[test]
fn loom_fault_against_fault_around() {
    race(
        |vm| {
            vm.install(4, PageSize::Size4K, Rights::HostReadOnly);
        },
        |vm| vm.fill(4, GfnRange::from_len(Gfn::new(4), 3), Rights::HostReadOnly),
        |vm| match vm.install(5, PageSize::Size4K, Rights::Writable) {
            Outcome::Mapped => 1,
            Outcome::Upgraded => 0,
            other => panic!("{other:?}"),
        },
        |vm, filled, mapped| {
            assert_eq!(filled + mapped, 2);
            assert_eq!(vm.rights(5), Some(Rights::Writable));
            assert_eq!(vm.rights(6), Some(Rights::HostReadOnly));
            let pages = Counted::Leaves(PageSize::Size4K);
            assert_eq!(vm.arena.counts()[&pages], 3);
        },
    );
}

#[test]
fn loom_reader_and_writer_of_one_page() {
    race(
        |_| (),
        |vm| vm.install(5, PageSize::Size4K, Rights::WriteProtected),
        |vm| vm.install(5, PageSize::Size4K, Rights::Writable),
        |vm, _, _| assert_eq!(vm.rights(5), Some(Rights::Writable)),
    );
}

#[test]
fn loom_two_splits_of_one_block() {
    race(
        |vm| {
            vm.install(0, PageSize::Size2M, Rights::WriteProtected);
        },
        |vm| vm.install(5, PageSize::Size4K, Rights::Writable),
        |vm| vm.install(6, PageSize::Size4K, Rights::Writable),
        |vm, one, other| {
            assert_eq!((one, other), (Outcome::Upgraded, Outcome::Upgraded));
            assert_eq!(vm.rights(4), Some(Rights::WriteProtected));
            assert_eq!(vm.rights(5), Some(Rights::Writable));
            assert_eq!(vm.rights(6), Some(Rights::Writable));
        },
    );
}

#[test]
fn loom_split_against_upgrade_of_the_block() {
    race(
        |vm| {
            vm.install(0, PageSize::Size2M, Rights::WriteProtected);
        },
        |vm| vm.install(5, PageSize::Size4K, Rights::Writable),
        |vm| vm.install(6, PageSize::Size2M, Rights::Writable),
        |vm, _, _| {
            assert_eq!(vm.rights(5), Some(Rights::Writable));
            assert_eq!(vm.rights(6), Some(Rights::Writable));
        },
    );
}

#[test]
fn loom_two_log_faults_on_one_page() {
    race(
        |vm| {
            vm.install(5, PageSize::Size4K, Rights::WriteProtected);
        },
        |vm| vm.make_writable(5),
        |vm| vm.make_writable(5),
        |vm, one, other| {
            for result in [one, other] {
                assert!(matches!(
                    result,
                    MakeWritable::Done | MakeWritable::AlreadyWritable
                ));
            }
            assert_eq!(vm.rights(5), Some(Rights::Writable));
        },
    );
}

#[test]
fn loom_log_fault_against_install() {
    race(
        |vm| {
            vm.install(0, PageSize::Size2M, Rights::WriteProtected);
        },
        |vm| vm.install(5, PageSize::Size4K, Rights::Writable) == Outcome::Upgraded,
        |vm| vm.make_writable(5) == MakeWritable::NotAllowed,
        |vm, installed, block| {
            // Either the leaf was still a block, or it was split and then anybody may have won.
            assert!(installed || !block);
            assert_eq!(vm.rights(5), Some(Rights::Writable));
        },
    );
}

#[test]
fn loom_write_protection_against_a_storing_hart() {
    race(
        |vm| {
            vm.install(5, PageSize::Size4K, Rights::Writable);
            assert_eq!(vm.write().age(GfnRange::single(Gfn::new(5))), Age::Young);
        },
        |vm| {
            let page = GfnRange::single(Gfn::new(5));
            let flushed = vm.write().write_protect(page, || false).duty.into_frames();
            assert_eq!(flushed, page);
        },
        |vm| vm.hart_stores(5),
        |vm, (), ()| assert_eq!(vm.rights(5), Some(Rights::WriteProtected)),
    );
}

#[test]
fn loom_fault_against_unmap_and_free() {
    explore(|| {
        let vm = Arc::new(RwLock::new(Vm::new()));
        vm.write()
            .unwrap()
            .install(6, PageSize::Size4K, Rights::Writable);
        let there = thread::spawn({
            let vm = vm.clone();
            move || {
                let vm = vm.read().unwrap();
                vm.install(5, PageSize::Size4K, Rights::Writable)
            }
        });
        {
            let vm = vm.write().unwrap();
            let all = GfnRange::from_len(Gfn::new(0), 512);
            let unmap = vm.write().unmap(all, || false);
            unmap
                .duty
                .flush_and_free(flushing(|_| ()), |table| vm.arena.free(table));
        }
        assert_eq!(there.join().unwrap(), Outcome::Mapped);
        let vm = Arc::into_inner(vm).unwrap().into_inner().unwrap();
        assert_eq!(vm.rights(6), None);
        assert!(matches!(vm.rights(5), None | Some(Rights::Writable)));
        vm.end();
    });
}
