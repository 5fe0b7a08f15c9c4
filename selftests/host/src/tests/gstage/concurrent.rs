// SPDX-License-Identifier: GPL-2.0

//! Random faults of several CPUs at once, next to random operations on ranges, with real threads.
//!
//! What there is at a moment depends on who was faster. Checked is what must be true in any case,
//! whenever the lock is held for writing: each frame is mapped to its own frame of the host or not
//! at all, runs are whole and of one mind, the counts are exact, and while writes are logged, what
//! is writable is in the log.

use std::{
    collections::BTreeSet,
    sync::{
        Barrier,
        Mutex,
        RwLock, //
    },
    thread, //
};

use proptest::prelude::*;

use super::{
    arena::{
        flushing, //
        Arena,
    },
    model::snapshot,
    ops::{
        behind, //
        Host,
    }, //
};
use crate::{
    gstage::*,
    kvm_core::addr::*, //
};

/// How far the host's frames are away; blocks of 2 MiB fit.
const BACKING: u64 = 0x4_0000;

/// All that the guest has: three leaf tables.
const FRAMES: u64 = 3 * 512;

#[derive(Clone, Debug)]
enum Fault {
    Install {
        gfn: u64,
        size: PageSize,
        rights: Rights,
    },
    MakeWritable {
        gfn: u64,
    },
    Fill {
        gfn: u64,
        frames: GfnRange,
    },
}

#[derive(Clone, Debug)]
enum Change {
    Unmap(GfnRange),
    Age(GfnRange),
    Split(GfnRange),
    /// Logging begins, or the log is fetched.
    Log,
    /// Logging ends.
    Recover(u64),
}

struct Vm<'a> {
    arena: &'a Arena,
    root: &'a Root<&'a Arena>,
    lock: RwLock<Logging>,
    log: Mutex<BTreeSet<u64>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Logging {
    Off,
    On,
}

impl Vm<'_> {
    fn fault(&self, fault: &Fault) {
        let logging = self.lock.read().unwrap();
        // SAFETY: the lock is held.
        let tree = unsafe { MmuRead::new(self.root) };
        match *fault {
            Fault::Install { gfn, size, rights } => {
                // As `fault.rs` describes the host's page.
                let (size, rights) = match *logging {
                    Logging::Off => (size, rights),
                    Logging::On => (PageSize::Size4K, rights),
                };
                let page = HostPage::of_test(Pfn::new(behind(gfn, BACKING)), size, rights);
                let fault = FaultGpa::new(Gfn::new(gfn).gpa());
                let (install, _) = tree.install(fault, page, &mut self.arena.source(8));
                install.flush.into_frames();
                assert!(matches!(
                    install.outcome,
                    Outcome::Mapped | Outcome::Upgraded | Outcome::Already
                ));
                let found = tree.lookup(Gfn::new(gfn)).expect("it is mapped");
                if rights == Rights::Writable {
                    assert_eq!(found.leaf.rights(), rights);
                    self.log.lock().unwrap().insert(gfn);
                }
            }
            Fault::MakeWritable { gfn } => {
                let fault = FaultGpa::new(Gfn::new(gfn).gpa());
                if tree.make_writable(fault) == MakeWritable::Done {
                    self.log.lock().unwrap().insert(gfn);
                }
            }
            Fault::Fill { gfn, frames } => {
                let page = HostPage::of_test(
                    Pfn::new(behind(gfn, BACKING)),
                    PageSize::Size4K,
                    Rights::HostReadOnly,
                );
                let fault = FaultGpa::new(Gfn::new(gfn).gpa());
                let (install, neighbours) = tree.install(fault, page, &mut self.arena.source(8));
                install.flush.into_frames();
                if let Some(neighbours) = neighbours {
                    let runs = *logging == Logging::Off && gfn % 2 == 0;
                    tree.fill(&neighbours, frames, Age::Old, |gfn| {
                        Some(HostPage::of_test(
                            Pfn::new(behind(gfn.get(), BACKING)),
                            if runs {
                                PageSize::Size64K
                            } else {
                                PageSize::Size4K
                            },
                            Rights::WriteProtected,
                        ))
                    });
                }
            }
        }
    }

    fn change(&self, change: &Change) {
        let mut logging = self.lock.write().unwrap();
        self.check(*logging);
        // SAFETY: the lock is held for writing.
        let mut tree = unsafe { MmuWrite::new(self.root) };
        let all = GfnRange::from_len(Gfn::new(0), FRAMES);
        match *change {
            Change::Unmap(range) => {
                let unmap = tree.unmap(range, || false);
                unmap
                    .duty
                    .flush_and_free(flushing(|_| ()), |table| self.arena.free(table));
                for gfn in range.start().get()..range.end().get() {
                    assert_eq!(tree.lookup(Gfn::new(gfn)), None);
                }
            }
            Change::Age(range) => {
                let _ = tree.age(range);
                assert_eq!(tree.test_age(range), Age::Old);
            }
            Change::Split(range) => {
                let split = tree.split(range, &mut self.arena.source(8), || false);
                split.duty.into_frames();
                for gfn in range.start().get()..range.end().get() {
                    if let Some(found) = tree.lookup(Gfn::new(gfn)) {
                        assert_eq!(found.leaf.size(found.level), PageSize::Size4K);
                    }
                }
            }
            Change::Log => {
                let log = std::mem::take(&mut *self.log.lock().unwrap());
                if *logging == Logging::Off {
                    tree.write_protect(all, || false).duty.into_frames();
                    *logging = Logging::On;
                } else {
                    for base in (0..FRAMES).step_by(64) {
                        let bits = (0..64).filter(|bit| log.contains(&(base + bit)));
                        let mask = bits.fold(0, |mask, bit| mask | 1 << bit);
                        tree.write_protect_masked(Gfn::new(base), mask)
                            .into_frames();
                    }
                }
            }
            Change::Recover(sizes) => {
                *logging = Logging::Off;
                let host = Host {
                    backing: BACKING,
                    sizes,
                    rights: Rights::Writable,
                };
                let recover =
                    tree.recover(all, PageSize::Size64K, |gfn| host.page(gfn.get()), || false);
                recover
                    .duty
                    .flush_and_free(flushing(|_| ()), |table| self.arena.free(table));
            }
        }
        self.check(*logging);
    }

    fn check(&self, logging: Logging) {
        let now = snapshot(self.arena, self.root);
        assert_eq!(self.arena.counts(), now.counts());
        assert_eq!(self.arena.live(), now.tables.len());
        let log = self.log.lock().unwrap();
        for (&start, leaf) in &now.leaves {
            assert_eq!(leaf.pfn, behind(start, BACKING));
            if logging == Logging::On && leaf.rights == Rights::Writable {
                for gfn in start..start + leaf.size().frames() {
                    assert!(log.contains(&gfn), "{gfn:#x} is written to and not logged");
                }
            }
        }
    }
}

/// Few frames, so that threads meet.
fn gfns() -> impl Strategy<Value = u64> {
    let near = prop::sample::select(vec![0_u64, 500, 512, 528, 1024]);
    (near, 0_u64..20).prop_map(|(near, offset)| near + offset)
}

fn ranges() -> impl Strategy<Value = GfnRange> {
    let len = prop_oneof![3 => 1_u64..20, 1 => Just(512), 1 => Just(FRAMES)];
    (gfns(), len).prop_map(|(gfn, len)| {
        let all = GfnRange::from_len(Gfn::new(0), FRAMES);
        GfnRange::from_len(Gfn::new(gfn), len).intersection(all)
    })
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let size = prop::sample::select(vec![
        PageSize::Size4K,
        PageSize::Size64K,
        PageSize::Size64K,
        PageSize::Size2M,
    ]);
    let rights = prop::sample::select(vec![
        Rights::HostReadOnly,
        Rights::WriteProtected,
        Rights::Writable,
    ]);
    let fault = prop_oneof![
        6 => (gfns(), size, rights)
            .prop_map(|(gfn, size, rights)| Fault::Install { gfn, size, rights }),
        2 => gfns().prop_map(|gfn| Fault::MakeWritable { gfn }),
        1 => (gfns(), ranges()).prop_map(|(gfn, frames)| Fault::Fill { gfn, frames }),
    ];
    prop::collection::vec(fault, 40..80)
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        3 => ranges().prop_map(Change::Unmap),
        1 => ranges().prop_map(Change::Age),
        1 => ranges().prop_map(Change::Split),
        2 => Just(Change::Log),
        1 => any::<u64>().prop_map(Change::Recover),
    ];
    prop::collection::vec(change, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        // What fails may not fail again.
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    })]

    #[test]
    fn faults_next_to_changes(
        one in faults(),
        two in faults(),
        three in faults(),
        changes in changes(),
    ) {
        let arena = Arena::new();
        let root = arena.root(Mode::Sv39x4);
        let vm = Vm {
            arena: &arena,
            root: &root,
            lock: RwLock::new(Logging::Off),
            log: Mutex::new(BTreeSet::new()),
        };
        let start = Barrier::new(4);
        thread::scope(|scope| {
            for faults in [&one, &two, &three] {
                let (vm, start) = (&vm, &start);
                scope.spawn(move || {
                    start.wait();
                    faults.iter().for_each(|fault| vm.fault(fault));
                });
            }
            start.wait();
            changes.iter().for_each(|change| vm.change(change));
        });
        let logging = *vm.lock.read().unwrap();
        vm.check(logging);
        // SAFETY: all threads are gone.
        let duty = unsafe { MmuWrite::new(&root) }.destroy(|| ());
        duty.flush_and_free(flushing(|_| ()), |table| arena.free(table));
        prop_assert_eq!(arena.live(), 0);
        prop_assert!(arena.counts().is_empty());
    }
}
