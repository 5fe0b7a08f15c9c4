// SPDX-License-Identifier: GPL-2.0

//! Svnapot runs, recovery of blocks, fault-around: single behaviours, by name.

use std::cell::Cell;

use super::{
    arena::{
        flushing, //
        Arena,
    },
    cases::{
        backing,
        each_mode,
        frames,
        install,
        put, //
        BLOCK,
        OFFSET,
    },
    model::*, //
};
use crate::{
    gstage::*,
    kvm_core::addr::*, //
};

/// The run at frame 16.
const NAPOT_PTES: u64 = 16;

/// A host that maps all its memory in blocks of `size`.
fn host(size: PageSize, rights: Rights) -> impl Fn(Gfn) -> Option<HostPage> {
    move |gfn| {
        Some(HostPage::of_test(
            Pfn::new(gfn.get() + OFFSET),
            size,
            rights,
        ))
    }
}

/// Logging begins, with blocks split.
fn log(view: &mut MmuWrite<'_, &Arena>, arena: &Arena, range: GfnRange) {
    view.write_protect(range, || false).duty.into_frames();
    let split = view.split(range, &mut arena.source(9), || false);
    assert_eq!(split.stop, Stop::Done);
    split.duty.into_frames();
}

/// Logging ends. Returns what was flushed.
fn recover(
    view: &mut MmuWrite<'_, &Arena>,
    arena: &Arena,
    range: GfnRange,
    host: impl FnMut(Gfn) -> Option<HostPage>,
) -> Option<Scope> {
    let recover = view.recover(range, PageSize::Size64K, host, || false);
    assert_eq!(recover.stop, Stop::Done);
    let mut scope = None;
    recover
        .duty
        .flush_and_free(flushing(|wanted| scope = Some(wanted)), |table| {
            arena.free(table)
        });
    scope
}

#[test]
fn write_fault_in_a_logged_run_splits_it_in_place() {
    each_mode(|arena, root, mut view| {
        put(
            &view,
            arena,
            NAPOT_PTES,
            PageSize::Size64K,
            Rights::Writable,
        );
        let flushed = view
            .write_protect_masked(Gfn::new(NAPOT_PTES + 3), 1)
            .into_frames();
        assert_eq!(flushed, frames(NAPOT_PTES, 16));
        assert_eq!(
            backing(&view, NAPOT_PTES).unwrap().1,
            Rights::WriteProtected
        );
        let fault = FaultGpa::new(Gfn::new(NAPOT_PTES + 3).gpa());
        assert_eq!(view.make_writable(fault), MakeWritable::NotAllowed);
        let result = install(
            &view,
            arena,
            NAPOT_PTES + 3,
            PageSize::Size4K,
            Rights::Writable,
        );
        assert_eq!(result.outcome, Outcome::Upgraded);
        assert_eq!(result.flush.into_frames(), frames(NAPOT_PTES, 16));
        for (gfn, leaf) in snapshot(arena, root).leaves {
            assert!(!leaf.run);
            assert_eq!(leaf.pfn, gfn + OFFSET);
            assert_eq!(leaf.rights == Rights::Writable, gfn == NAPOT_PTES + 3);
        }
    });
}

#[test]
fn unmapping_a_page_takes_its_run() {
    each_mode(|arena, _, mut view| {
        put(
            &view,
            arena,
            NAPOT_PTES,
            PageSize::Size64K,
            Rights::Writable,
        );
        put(
            &view,
            arena,
            NAPOT_PTES + 16,
            PageSize::Size4K,
            Rights::Writable,
        );
        let unmap = view.unmap(frames(NAPOT_PTES + 15, 1), || false);
        unmap.duty.flush_and_free(
            flushing(|scope| assert_eq!(scope, Scope::Frames(frames(NAPOT_PTES, 16)))),
            |table| arena.free(table),
        );
        assert_eq!(backing(&view, NAPOT_PTES), None);
        assert!(backing(&view, NAPOT_PTES + 16).is_some());
    });
}

#[test]
fn ageing_looks_at_all_of_a_run() {
    each_mode(|arena, root, mut view| {
        put(
            &view,
            arena,
            NAPOT_PTES,
            PageSize::Size64K,
            Rights::Writable,
        );
        assert_eq!(view.age(frames(NAPOT_PTES + 9, 1)), Age::Young);
        assert_eq!(view.age(frames(NAPOT_PTES, 16)), Age::Old);
        assert!(!snapshot(arena, root).leaves[&NAPOT_PTES].young);
        // Svade: or else the guest's next access of each page would fault.
        let result = put(
            &view,
            arena,
            NAPOT_PTES + 2,
            PageSize::Size4K,
            Rights::Writable,
        );
        assert_eq!(result, (Outcome::Upgraded, Level::Page));
        assert!(snapshot(arena, root).leaves[&NAPOT_PTES].young);
        assert_eq!(view.test_age(frames(NAPOT_PTES + 9, 1)), Age::Young);
    });
}

#[test]
fn run_is_not_made_around_a_page() {
    each_mode(|arena, root, view| {
        put(
            &view,
            arena,
            NAPOT_PTES + 7,
            PageSize::Size4K,
            Rights::Writable,
        );
        let result = put(
            &view,
            arena,
            NAPOT_PTES,
            PageSize::Size64K,
            Rights::Writable,
        );
        assert_eq!(result, (Outcome::Mapped, Level::Page));
        let leaves = snapshot(arena, root).leaves;
        assert_eq!(
            leaves.into_keys().collect::<Vec<_>>(),
            [NAPOT_PTES, NAPOT_PTES + 7]
        );
    });
}

#[test]
fn split_block_is_a_block_again_when_logging_ends() {
    each_mode(|arena, root, mut view| {
        put(&view, arena, 0, PageSize::Size2M, Rights::Writable);
        log(&mut view, arena, frames(0, BLOCK));
        assert_eq!(view.age(frames(0, BLOCK)), Age::Young);
        put(&view, arena, 5, PageSize::Size4K, Rights::Writable);
        let tables = arena.live();
        let asked = Cell::new(0);
        let host = host(PageSize::Size2M, Rights::Writable);
        let scope = recover(&mut view, arena, frames(0, BLOCK), |gfn| {
            asked.set(asked.get() + 1);
            host(gfn)
        });
        assert_eq!((scope, asked.get()), (Some(Scope::Everything), 1));
        assert_eq!(arena.live(), tables - 1);
        let leaf = snapshot(arena, root).leaves[&0];
        assert_eq!(leaf.level, Level::Mega);
        // One of its pages was used.
        assert!(leaf.young);
        assert_eq!(backing(&view, 77), Some((77 + OFFSET, Rights::Writable)));
    });
}

#[test]
fn block_that_nobody_used_stays_old() {
    each_mode(|arena, root, mut view| {
        put(&view, arena, 0, PageSize::Size2M, Rights::Writable);
        log(&mut view, arena, frames(0, BLOCK));
        assert_eq!(view.age(frames(0, BLOCK)), Age::Young);
        let host = host(PageSize::Size2M, Rights::Writable);
        recover(&mut view, arena, frames(0, BLOCK), host);
        assert!(!snapshot(arena, root).leaves[&0].young);
    });
}

#[test]
fn gigantic_block_is_recovered_and_the_host_asked_once() {
    each_mode(|arena, root, mut view| {
        put(&view, arena, 0, PageSize::Size1G, Rights::Writable);
        log(&mut view, arena, frames(3 * BLOCK, 4 * BLOCK));
        assert_eq!(snapshot(arena, root).leaves.len(), 508 + 4 * 512);
        let asked = Cell::new(0);
        let host = host(PageSize::Size1G, Rights::Writable);
        recover(&mut view, arena, frames(0, 1 << 18), |gfn| {
            asked.set(asked.get() + 1);
            host(gfn)
        });
        assert_eq!(asked.get(), 1);
        let leaves = snapshot(arena, root).leaves;
        assert_eq!(leaves.len(), 1);
        assert_eq!(leaves[&0].level, Level::Giga);
        assert_eq!(leaves[&0].rights, Rights::Writable);
    });
}

#[test]
fn table_that_the_host_contradicts_is_left_alone() {
    each_mode(|arena, root, mut view| {
        let range = frames(0, BLOCK);
        put(&view, arena, 0, PageSize::Size2M, Rights::Writable);
        log(&mut view, arena, range);
        // Somewhere in the middle: other registers, or some where the memory would be.
        for pfn in [0x9999, 300 + OFFSET] {
            let other = DevicePages {
                pfn: Pfn::new(pfn),
                count: 1,
                rights: Rights::Writable,
                pbmt: Pbmt::Io,
            };
            let map = view.map_device(Gfn::new(300), other, &mut arena.source(0));
            map.duty.into_frames();
            let host = host(PageSize::Size2M, Rights::Writable);
            let scope = recover(&mut view, arena, range, host);
            assert_eq!(scope, None);
            assert_eq!(snapshot(arena, root).leaves.len(), 512);
            // But the rest need not fault to be written to.
            assert_eq!(backing(&view, 7), Some((7 + OFFSET, Rights::Writable)));
            view.write_protect(range, || false).duty.into_frames();
        }
    });
}

/// M1, when logging ends: a page that the host mapped read-only goes through the host.
#[test]
fn recovery_makes_no_read_only_host_page_writable() {
    each_mode(|arena, _, mut view| {
        let range = frames(0, BLOCK);
        put(&view, arena, 5, PageSize::Size4K, Rights::HostReadOnly);
        let small = host(PageSize::Size4K, Rights::Writable);
        assert_eq!(recover(&mut view, arena, range, small), None);
        assert_eq!(backing(&view, 5), Some((5 + OFFSET, Rights::HostReadOnly)));
        let large = host(PageSize::Size2M, Rights::Writable);
        assert!(recover(&mut view, arena, range, large).is_some());
        assert_eq!(backing(&view, 9), Some((9 + OFFSET, Rights::HostReadOnly)));
    });
}

#[test]
fn pages_become_runs_again() {
    each_mode(|arena, root, mut view| {
        let range = frames(0, BLOCK);
        for first in [NAPOT_PTES, 4 * NAPOT_PTES] {
            put(&view, arena, first, PageSize::Size64K, Rights::Writable);
        }
        log(&mut view, arena, range);
        assert_eq!(snapshot(arena, root).leaves.len(), 32);
        let host = host(PageSize::Size64K, Rights::Writable);
        let scope = recover(&mut view, arena, range, host);
        assert_eq!(
            scope,
            Some(Scope::Frames(frames(NAPOT_PTES, 4 * NAPOT_PTES)))
        );
        let leaves = snapshot(arena, root).leaves;
        assert_eq!(leaves.len(), 2);
        let is_run = |leaf: &Seen| leaf.run && leaf.rights == Rights::Writable;
        assert!(leaves.values().all(is_run));
    });
}

#[test]
fn recovery_goes_on_where_it_stopped() {
    each_mode(|arena, root, mut view| {
        put(&view, arena, 0, PageSize::Size1G, Rights::Writable);
        log(&mut view, arena, frames(0, 4 * BLOCK));
        let range = frames(0, 1 << 18);
        let mut from = range.start();
        let mut pieces = 0;
        loop {
            let rest = GfnRange::new(from, range.end());
            let host = host(PageSize::Size1G, Rights::Writable);
            let recover = view.recover(rest, PageSize::Size64K, host, || true);
            recover
                .duty
                .flush_and_free(flushing(|_| ()), |table| arena.free(table));
            if recover.stop == Stop::Done {
                break;
            }
            from = recover.done_to;
            pieces += 1;
        }
        assert_eq!(pieces, 511);
        assert_eq!(snapshot(arena, root).leaves.len(), 1);
    });
}

#[test]
fn fault_around_fills_what_is_missing() {
    each_mode(|arena, root, view| {
        put(
            &view,
            arena,
            NAPOT_PTES + 1,
            PageSize::Size4K,
            Rights::Writable,
        );
        let page = HostPage::of_test(
            Pfn::new(NAPOT_PTES + OFFSET),
            PageSize::Size4K,
            Rights::Writable,
        );
        let fault = FaultGpa::new(Gfn::new(NAPOT_PTES).gpa());
        let (result, neighbours) = view.install(fault, page, &mut arena.source(0));
        assert_eq!(result.outcome, Outcome::Mapped);
        assert!(result.flush.is_none());
        let neighbours = neighbours.expect("it ended in a leaf table");
        let filled = view.fill(&neighbours, frames(NAPOT_PTES, 16), Age::Old, |gfn| {
            host(PageSize::Size4K, Rights::HostReadOnly)(gfn).filter(|_| gfn.get() < NAPOT_PTES + 4)
        });
        assert_eq!(filled, 2);
        let leaves = snapshot(arena, root).leaves;
        let seen = |gfn| leaves.get(&gfn).map(|leaf| (leaf.rights, leaf.young));
        assert_eq!(seen(NAPOT_PTES + 1), Some((Rights::Writable, true)));
        assert_eq!(seen(NAPOT_PTES + 2), Some((Rights::HostReadOnly, false)));
        assert_eq!(seen(NAPOT_PTES + 3), Some((Rights::HostReadOnly, false)));
        assert_eq!(seen(NAPOT_PTES + 4), None);
        // Nothing beyond the table, whatever is asked for.
        let beyond = frames(BLOCK, 16);
        let none = view.fill(&neighbours, beyond, Age::Old, |_| panic!("not asked"));
        assert_eq!(none, 0);
    });
}

/// The pages that fault-around adds to a page at `gfn`, where `host` has them, in `around`.
fn fill_around(
    view: &MmuRead<'_, &Arena>,
    arena: &Arena,
    gfn: u64,
    around: GfnRange,
    host: impl FnMut(Gfn) -> Option<HostPage>,
) -> u64 {
    let page = HostPage::of_test(Pfn::new(gfn + OFFSET), PageSize::Size4K, Rights::Writable);
    let fault = FaultGpa::new(Gfn::new(gfn).gpa());
    let (_, neighbours) = view.install(fault, page, &mut arena.source(9));
    let neighbours = neighbours.expect("it ended in a leaf table");
    view.fill(&neighbours, around, Age::Old, host)
}

/// F24: a fault on a page that is in no run leaves the runs around it whole.
#[test]
fn fault_around_makes_runs_where_the_host_has_them() {
    each_mode(|arena, root, view| {
        // A slot that begins with the second page of a run.
        let runs = host(PageSize::Size64K, Rights::Writable);
        let filled = fill_around(&view, arena, 1, frames(1, 2 * NAPOT_PTES), |gfn| {
            let page = runs(gfn)?;
            Some(HostPage::of_test(
                page.pfn(),
                if gfn.get() < NAPOT_PTES {
                    PageSize::Size4K
                } else {
                    page.size()
                },
                page.rights(),
            ))
        });
        // With all pages of the run that the range ends in.
        assert_eq!(filled, 14 + 2 * NAPOT_PTES);
        let leaves = snapshot(arena, root).leaves;
        assert_eq!(leaves.len(), 15 + 2);
        for first in [NAPOT_PTES, 2 * NAPOT_PTES] {
            assert!(leaves[&first].run && !leaves[&first].young);
            assert_eq!(
                backing(&view, first + 5),
                Some((first + 5 + OFFSET, Rights::Writable))
            );
        }
    });
}

#[test]
fn fault_around_makes_no_run_of_other_offsets_or_around_a_page() {
    each_mode(|arena, root, view| {
        put(
            &view,
            arena,
            NAPOT_PTES + 7,
            PageSize::Size4K,
            Rights::Writable,
        );
        let runs = host(PageSize::Size64K, Rights::Writable);
        let filled = fill_around(&view, arena, 0, frames(0, 3 * NAPOT_PTES), |gfn| {
            let page = runs(gfn)?;
            let shift = u64::from(gfn.get() >= 2 * NAPOT_PTES);
            Some(HostPage::of_test(
                Pfn::new(page.pfn().get() + shift),
                page.size(),
                page.rights(),
            ))
        });
        assert_eq!(filled, 3 * NAPOT_PTES - 2);
        assert!(snapshot(arena, root).leaves.values().all(|leaf| !leaf.run));
    });
}

/// F23: a page at the edge of a slot, whose run is not all the slot's, is not what decides.
#[test]
fn each_group_becomes_a_run_again_by_itself() {
    each_mode(|arena, root, mut view| {
        let range = frames(1, 6 * NAPOT_PTES);
        put(&view, arena, 1, PageSize::Size4K, Rights::Writable);
        for first in [NAPOT_PTES, 3 * NAPOT_PTES, 6 * NAPOT_PTES] {
            put(&view, arena, first, PageSize::Size64K, Rights::Writable);
        }
        log(&mut view, arena, frames(0, BLOCK));
        let runs = host(PageSize::Size64K, Rights::Writable);
        let scope = recover(&mut view, arena, range, |gfn| {
            let page = runs(gfn)?;
            // What the host is about to change counts by pages, too.
            let is_page = gfn.get() < NAPOT_PTES || gfn.get() >= 6 * NAPOT_PTES;
            Some(HostPage::of_test(
                page.pfn(),
                if is_page {
                    PageSize::Size4K
                } else {
                    page.size()
                },
                page.rights(),
            ))
        });
        assert_eq!(
            scope,
            Some(Scope::Frames(frames(NAPOT_PTES, 3 * NAPOT_PTES)))
        );
        let leaves = snapshot(arena, root).leaves;
        assert_eq!(leaves.len(), 1 + 2 + 16);
        assert!(leaves[&NAPOT_PTES].run && leaves[&(3 * NAPOT_PTES)].run);
        assert!(!leaves[&1].run && leaves[&1].rights == Rights::Writable);
    });
}

#[test]
fn recovery_makes_no_runs_without_svnapot() {
    each_mode(|arena, root, mut view| {
        put(&view, arena, 0, PageSize::Size2M, Rights::Writable);
        log(&mut view, arena, frames(0, BLOCK));
        let asked = Cell::new(0);
        // Of a table that cannot be a block, because a part of it is no frame of the range.
        for size in [PageSize::Size4K, PageSize::Size2M] {
            let host = host(size, Rights::Writable);
            let range = frames(0, BLOCK - 1);
            let recover = view.recover(
                range,
                PageSize::Size2M,
                |gfn| {
                    asked.set(asked.get() + 1);
                    host(gfn).filter(|_| size == PageSize::Size4K)
                },
                || false,
            );
            assert!(recover.duty.is_none());
        }
        assert_eq!(asked.get(), 2);
        assert_eq!(snapshot(arena, root).leaves.len(), 512);
    });
}

/// F25: a leaf table that lost its pages in whatever order is no obstacle to a block.
#[test]
fn block_takes_the_place_of_an_emptied_table() {
    each_mode(|arena, root, mut view| {
        for gfn in [BLOCK + 3, BLOCK + 9, 2 * BLOCK - 1] {
            put(&view, arena, gfn, PageSize::Size4K, Rights::Writable);
        }
        for gfn in [2 * BLOCK - 1, BLOCK + 9, BLOCK + 3] {
            let unmap = view.unmap(frames(gfn, 1), || false);
            unmap
                .duty
                .flush_and_free(flushing(|_| ()), |table| arena.free(table));
        }
        let tables = arena.live();
        let none = |_| panic!("there is nothing to be asked about");
        let scope = recover(&mut view, arena, frames(BLOCK, BLOCK), none);
        assert_eq!(scope, Some(Scope::Everything));
        assert_eq!(arena.live(), tables - 1);
        let block = put(&view, arena, BLOCK + 5, PageSize::Size2M, Rights::Writable);
        assert_eq!(block, (Outcome::Mapped, Level::Mega));
        assert_eq!(snapshot(arena, root).leaves.len(), 1);
    });
}

/// F25: the same above: tables without entries hold no block of 1 GiB up.
#[test]
fn gigantic_block_takes_the_place_of_emptied_tables() {
    each_mode(|arena, root, mut view| {
        for block in [0, 7, 511] {
            put(
                &view,
                arena,
                block * BLOCK,
                PageSize::Size4K,
                Rights::Writable,
            );
        }
        for block in [511, 7] {
            let unmap = view.unmap(frames(block * BLOCK, 1), || false);
            unmap
                .duty
                .flush_and_free(flushing(|_| ()), |table| arena.free(table));
        }
        let giga = frames(0, 1 << 18);
        let blocks = host(PageSize::Size1G, Rights::Writable);
        recover(&mut view, arena, giga, blocks);
        let leaves = snapshot(arena, root).leaves;
        assert_eq!((leaves.len(), leaves[&0].level), (1, Level::Giga));
    });
}

/// A part of a table is no reason to take all of it.
#[test]
fn table_with_pages_elsewhere_stays() {
    each_mode(|arena, root, mut view| {
        put(&view, arena, BLOCK - 1, PageSize::Size4K, Rights::Writable);
        let none = |_| panic!("there is nothing to be asked about");
        assert_eq!(recover(&mut view, arena, frames(0, BLOCK - 1), none), None);
        assert_eq!(snapshot(arena, root).leaves.len(), 1);
    });
}
