// SPDX-License-Identifier: GPL-2.0

//! Interleavings of what CPUs do to a Svnapot run: claim, upgrade, split, and under the write lock,
//! take away.
//!
//! Where threads race for entries, the run has three of them instead of 16. The code does not know,
//! and loom, which has each relaxed load of an entry return each value that it may, comes to an end.

use std::sync::Arc;

use loom::{
    sync::RwLock,
    thread, //
};

use super::{
    arena::{
        flushing, //
        Arena,
    },
    interleave::{
        Vm, //
        OFFSET,
    }, //
};
use crate::{
    gstage::*,
    kvm_core::addr::*,
    tests::explore::explore_with, //
};

/// The run that all tests are about: frames 16 to 31.
const NAPOT_PTES: u64 = 16;

/// How often one history takes the CPU from a thread that could go on, where two threads race. One
/// less where there are three.
const PREEMPTIONS: usize = 3;

fn frames(start: u64, len: u64) -> GfnRange {
    GfnRange::from_len(Gfn::new(start), len)
}

/// Entries of a leaf table that are one run, or none.
struct Short {
    arena: &'static Arena,
    slots: [PteCell; 3],
}

impl Short {
    /// All of them are `leaf`, or empty.
    fn new(rights: Option<Rights>) -> Short {
        let run = |rights| Leaf::run(Self::ppn(0), rights).pte();
        let pte = rights.map_or(Pte::from_raw(0), run);
        Short {
            arena: Box::leak(Box::new(Arena::new())),
            slots: [(); 3].map(|()| PteCell::new(pte)),
        }
    }

    fn ppn(index: u64) -> kernel::num::Bounded<u64, 44> {
        ppn(Pfn::new(OFFSET + NAPOT_PTES + index)).unwrap()
    }

    /// A fault on entry `index` where the host has a run. As in `install`.
    fn claim(&self, index: u64, rights: Rights) {
        let wanted = Leaf::run(Self::ppn(index), rights);
        match claim(
            self.arena,
            &self.slots,
            Gfn::new(NAPOT_PTES + index),
            wanted,
        ) {
            Claim::Run(_) => {}
            Claim::Pages => self.page(index, rights),
        }
        assert!(self.rights(index) >= Some(rights));
    }

    /// A fault on entry `index` that is about one page. As in `install`.
    fn page(&self, index: u64, rights: Rights) {
        let gfn = Gfn::new(NAPOT_PTES + index);
        let slot = &self.slots[index as usize];
        let wanted = Leaf::memory(Self::ppn(index), rights);
        loop {
            let now = slot.load();
            match now.entry() {
                Entry::Empty => {
                    if slot.replace(now, wanted.pte()).is_ok() {
                        self.arena.count(Counted::Leaves(PageSize::Size4K), 1);
                        break;
                    }
                }
                Entry::Table(_) => panic!("no table"),
                Entry::Leaf(leaf) if now.in_run() => {
                    let slots = &self.slots;
                    if page_of_run(self.arena, slots, slot, gfn, leaf, wanted).is_some() {
                        break;
                    }
                }
                Entry::Leaf(leaf) => {
                    let new = leaf.with(leaf.lacks(wanted)).pte();
                    if slot.replace(now, new).is_ok() {
                        break;
                    }
                }
            }
        }
        assert!(self.rights(index) >= Some(rights));
    }

    fn rights(&self, index: u64) -> Option<Rights> {
        match self.slots[index as usize].load().entry() {
            Entry::Empty => None,
            Entry::Table(_) => panic!("no table"),
            Entry::Leaf(leaf) => {
                let pfn = leaf.pfn_of(Gfn::new(NAPOT_PTES + index), Level::Page);
                assert_eq!(pfn, Pfn::new(OFFSET + NAPOT_PTES + index));
                Some(leaf.rights())
            }
        }
    }

    fn in_run(&self, index: u64) -> bool {
        self.slots[index as usize].load().in_run()
    }

    /// What must be so whenever nobody has the lock.
    fn check(&self) {
        let runs = (0..3).filter(|index| self.in_run(*index)).count();
        assert!(runs == 0 || runs == 3, "{runs} of 3 entries are in a run");
    }
}

/// Runs `threads` at the same time on a run with `rights`, or on none, and then `after`.
fn race<const N: usize>(
    rights: Option<Rights>,
    threads: [fn(&Short); N],
    after: impl Fn(&Short) + Sync + Send + 'static,
) {
    explore_with(PREEMPTIONS + 2 - N, move || {
        let run = Arc::new(Short::new(rights));
        let others: Vec<_> = threads[1..]
            .iter()
            .map(|thread| {
                let (run, f) = (run.clone(), *thread);
                thread::spawn(move || f(&run))
            })
            .collect();
        threads[0](&run);
        for other in others {
            other.join().unwrap();
        }
        run.check();
        after(&run);
        let arena = std::ptr::from_ref(run.arena).cast_mut();
        drop(run);
        // SAFETY: made from a box by `new`; nobody else has it.
        drop(unsafe { Box::from_raw(arena) });
    });
}

#[test]
fn loom_two_claims_of_one_run() {
    race(
        None,
        [
            |run| run.claim(1, Rights::HostReadOnly),
            |run| run.claim(0, Rights::Writable),
        ],
        |run| {
            for index in 0..3 {
                assert!(run.in_run(index));
                assert_eq!(run.rights(index), Some(Rights::Writable));
            }
        },
    );
}

#[test]
fn loom_claim_against_a_page() {
    race(
        None,
        [
            |run| run.claim(0, Rights::HostReadOnly),
            |run| run.page(1, Rights::Writable),
        ],
        |run| {
            assert!(!run.in_run(0));
            assert_eq!(run.rights(1), Some(Rights::Writable));
            assert!(run.rights(2) <= Some(Rights::HostReadOnly));
        },
    );
}

#[test]
fn loom_two_splits_of_one_run() {
    race(
        Some(Rights::WriteProtected),
        [
            |run| run.page(0, Rights::Writable),
            |run| run.page(2, Rights::Writable),
        ],
        |run| {
            assert!(!run.in_run(1));
            assert_eq!(run.rights(0), Some(Rights::Writable));
            assert_eq!(run.rights(1), Some(Rights::WriteProtected));
            assert_eq!(run.rights(2), Some(Rights::Writable));
        },
    );
}

#[test]
fn loom_split_against_upgrade_of_the_run() {
    race(
        Some(Rights::WriteProtected),
        [
            |run| run.page(1, Rights::Writable),
            |run| run.claim(2, Rights::Writable),
        ],
        |run| assert!(run.rights(0) >= Some(Rights::WriteProtected)),
    );
}

/// One splits a run that is not complete yet, behind the back of who claims it.
#[test]
fn loom_split_of_a_run_that_is_being_claimed() {
    race(
        None,
        [
            |run| run.claim(1, Rights::WriteProtected),
            |run| {
                // Not of an empty entry: of what another thread was seen to claim.
                if run.in_run(0) {
                    run.page(0, Rights::Writable);
                }
            },
        ],
        |run| assert!(run.rights(1) >= Some(Rights::WriteProtected)),
    );
}

#[test]
fn loom_split_of_a_run_that_two_claim() {
    race(
        None,
        [
            |run| run.claim(0, Rights::WriteProtected),
            |run| run.claim(1, Rights::WriteProtected),
            |run| run.page(0, Rights::Writable),
        ],
        |run| {
            assert_eq!(run.rights(0), Some(Rights::Writable));
            assert!(run.rights(1) >= Some(Rights::WriteProtected));
        },
    );
}

/// A VM, and what the host says about it.
struct Locked {
    vm: Vm,
    /// Counts what the host took away (`mmu_invalidate_seq`).
    seq: u64,
}

/// Runs `fault`, which is told whether the host still has what it had before, against `writer`.
fn against_writer(
    fault: fn(&Vm),
    writer: fn(&mut Locked),
    after: impl Fn(&Vm) + Sync + Send + 'static,
) {
    explore_with(PREEMPTIONS, move || {
        let vm = Vm::new();
        // The leaf table.
        let _ = vm.install(0, PageSize::Size4K, Rights::HostReadOnly);
        let locked = Arc::new(RwLock::new(Locked { vm, seq: 0 }));
        let there = thread::spawn({
            let locked = locked.clone();
            move || {
                let before = locked.read().unwrap().seq;
                let locked = locked.read().unwrap();
                if locked.seq == before {
                    fault(&locked.vm);
                }
            }
        });
        {
            let mut locked = locked.write().unwrap();
            locked.vm.assert_not_mixed(NAPOT_PTES);
            writer(&mut locked);
        }
        there.join().unwrap();
        let locked = Arc::into_inner(locked).unwrap().into_inner().unwrap();
        locked.vm.assert_not_mixed(NAPOT_PTES);
        after(&locked.vm);
        locked.vm.end();
    });
}

#[test]
fn loom_claim_against_unmap_of_one_page() {
    against_writer(
        |vm| {
            let _ = vm.install(NAPOT_PTES + 4, PageSize::Size64K, Rights::Writable);
            assert_eq!(vm.rights(NAPOT_PTES + 15), Some(Rights::Writable));
        },
        |locked| {
            locked.seq += 1;
            let unmap = locked.vm.write().unmap(frames(NAPOT_PTES + 9, 1), || false);
            let arena = locked.vm.arena;
            unmap.duty.flush_and_free(
                flushing(|scope| assert_eq!(scope, Scope::Frames(frames(NAPOT_PTES, 16)))),
                |table| arena.free(table),
            );
            assert_eq!(locked.vm.rights(NAPOT_PTES + 9), None);
        },
        // What was asked for after it may be there; what was before, is not.
        |vm| {
            assert!(matches!(
                vm.rights(NAPOT_PTES + 9),
                None | Some(Rights::Writable)
            ))
        },
    );
}

#[test]
fn loom_claim_against_write_protection_of_one_page() {
    against_writer(
        |vm| {
            let _ = vm.install(NAPOT_PTES + 4, PageSize::Size64K, Rights::Writable);
            assert_eq!(vm.rights(NAPOT_PTES + 15), Some(Rights::Writable));
        },
        |locked| {
            locked.seq += 1;
            let base = Gfn::new(NAPOT_PTES + 2);
            let flushed = locked
                .vm
                .write()
                .write_protect_masked(base, 0b10)
                .into_frames();
            if locked.vm.rights(NAPOT_PTES).is_some() {
                assert_eq!(flushed, frames(NAPOT_PTES, 16));
            }
            for gfn in NAPOT_PTES..NAPOT_PTES + 16 {
                assert!(locked.vm.rights(gfn) < Some(Rights::Writable));
            }
        },
        |_| (),
    );
}

#[test]
fn loom_page_against_recovery() {
    against_writer(
        |vm| {
            let _ = vm.install(NAPOT_PTES + 4, PageSize::Size4K, Rights::Writable);
        },
        |locked| {
            let vm = &locked.vm;
            let _ = vm.install(NAPOT_PTES + 5, PageSize::Size4K, Rights::WriteProtected);
            let host = |gfn: Gfn| {
                Some(HostPage::of_test(
                    Pfn::new(gfn.get() + OFFSET),
                    PageSize::Size64K,
                    Rights::Writable,
                ))
            };
            let range = frames(NAPOT_PTES, 16);
            let smallest = PageSize::Size64K;
            let recover = locked.vm.write().recover(range, smallest, host, || false);
            let arena = locked.vm.arena;
            recover
                .duty
                .flush_and_free(flushing(|_| ()), |table| arena.free(table));
            assert_eq!(locked.vm.size(NAPOT_PTES), Some(PageSize::Size64K));
        },
        |vm| {
            for gfn in NAPOT_PTES..NAPOT_PTES + 16 {
                assert_eq!(vm.rights(gfn), Some(Rights::Writable));
            }
        },
    );
}
