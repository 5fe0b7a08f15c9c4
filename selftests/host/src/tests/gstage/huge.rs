// SPDX-License-Identifier: GPL-2.0

//! Svnapot runs, recovery of blocks, fault-around: single behaviours, by name.

use std::cell::Cell;

use super::{
    arena::Arena,
    cases::{
        backing,
        each_mode,
        frames,
        install,
        put,
        BLOCK,
        OFFSET, //
    },
    model::*, //
};
use crate::mem::{
    addr::*,
    gstage::*, //
};

/// The run at frame 16.
const RUN: u64 = 16;

/// A host that maps all its memory in blocks of `size`.
fn host(size: PageSize, rights: Rights) -> impl Fn(Gfn) -> Option<HostPage> {
    move |gfn| {
        Some(HostPage {
            pfn: Pfn::new(gfn.get() + OFFSET),
            size,
            rights,
        })
    }
}

/// Logging begins, with blocks split.
fn log(view: &mut MmuWrite<'_, &Arena>, arena: &Arena, range: GfnRange) {
    view.write_protect(range, || false).duty.delegate();
    let split = view.split(range, &mut arena.source(9), || false);
    assert_eq!(split.stop, Stop::Done);
    split.duty.delegate();
}

/// Logging ends. Returns what was flushed.
fn recover(
    view: &mut MmuWrite<'_, &Arena>,
    arena: &Arena,
    range: GfnRange,
    host: impl FnMut(Gfn) -> Option<HostPage>,
) -> Option<Scope> {
    let recover = view.recover(range, host, || false);
    assert_eq!(recover.stop, Stop::Done);
    let mut scope = None;
    recover
        .duty
        .settle(|wanted| scope = Some(wanted), |table| arena.free(table));
    scope
}

#[test]
fn write_fault_in_a_logged_run_splits_it_in_place() {
    each_mode(|arena, root, mut view| {
        put(&view, arena, RUN, PageSize::Size64K, Rights::Writable);
        let flushed = view.write_protect_masked(Gfn::new(RUN + 3), 1).delegate();
        assert_eq!(flushed, frames(RUN, 16));
        assert_eq!(backing(&view, RUN).unwrap().1, Rights::WriteProtected);
        let fault = FaultGpa::new(Gfn::new(RUN + 3).gpa());
        assert_eq!(view.make_writable(fault), MakeWritable::NotAllowed);
        let result = install(&view, arena, RUN + 3, PageSize::Size4K, Rights::Writable);
        assert_eq!(result.outcome, Outcome::Upgraded);
        assert_eq!(result.flush.delegate(), frames(RUN, 16));
        for (gfn, leaf) in snapshot(arena, root).leaves {
            assert!(!leaf.run);
            assert_eq!(leaf.pfn, gfn + OFFSET);
            assert_eq!(leaf.rights == Rights::Writable, gfn == RUN + 3);
        }
    });
}

#[test]
fn unmapping_a_page_takes_its_run() {
    each_mode(|arena, _, mut view| {
        put(&view, arena, RUN, PageSize::Size64K, Rights::Writable);
        put(&view, arena, RUN + 16, PageSize::Size4K, Rights::Writable);
        let unmap = view.unmap(frames(RUN + 15, 1), || false);
        unmap.duty.settle(
            |scope| assert_eq!(scope, Scope::Frames(frames(RUN, 16))),
            |table| arena.free(table),
        );
        assert_eq!(backing(&view, RUN), None);
        assert!(backing(&view, RUN + 16).is_some());
    });
}

#[test]
fn ageing_looks_at_all_of_a_run() {
    each_mode(|arena, root, mut view| {
        put(&view, arena, RUN, PageSize::Size64K, Rights::Writable);
        assert_eq!(view.age(frames(RUN + 9, 1)), Age::Young);
        assert_eq!(view.age(frames(RUN, 16)), Age::Old);
        assert!(!snapshot(arena, root).leaves[&RUN].young);
        // Svade: or else the guest's next access of each page would fault.
        let result = put(&view, arena, RUN + 2, PageSize::Size4K, Rights::Writable);
        assert_eq!(result, (Outcome::Upgraded, Level::Page));
        assert!(snapshot(arena, root).leaves[&RUN].young);
        assert_eq!(view.test_age(frames(RUN + 9, 1)), Age::Young);
    });
}

#[test]
fn run_is_not_made_around_a_page() {
    each_mode(|arena, root, view| {
        put(&view, arena, RUN + 7, PageSize::Size4K, Rights::Writable);
        let result = put(&view, arena, RUN, PageSize::Size64K, Rights::Writable);
        assert_eq!(result, (Outcome::Mapped, Level::Page));
        let leaves = snapshot(arena, root).leaves;
        assert_eq!(leaves.into_keys().collect::<Vec<_>>(), [RUN, RUN + 7]);
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
            map.duty.delegate();
            let host = host(PageSize::Size2M, Rights::Writable);
            let scope = recover(&mut view, arena, range, host);
            assert_eq!(scope, None);
            assert_eq!(snapshot(arena, root).leaves.len(), 512);
            // But the rest need not fault to be written to.
            assert_eq!(backing(&view, 7), Some((7 + OFFSET, Rights::Writable)));
            view.write_protect(range, || false).duty.delegate();
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
        for first in [RUN, 4 * RUN] {
            put(&view, arena, first, PageSize::Size64K, Rights::Writable);
        }
        log(&mut view, arena, range);
        assert_eq!(snapshot(arena, root).leaves.len(), 32);
        let host = host(PageSize::Size64K, Rights::Writable);
        let scope = recover(&mut view, arena, range, host);
        assert_eq!(scope, Some(Scope::Frames(frames(RUN, 4 * RUN))));
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
            let recover = view.recover(rest, host, || true);
            recover.duty.settle(|_| (), |table| arena.free(table));
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
        put(&view, arena, RUN + 1, PageSize::Size4K, Rights::Writable);
        let page = HostPage {
            pfn: Pfn::new(RUN + OFFSET),
            size: PageSize::Size4K,
            rights: Rights::Writable,
        };
        let fault = FaultGpa::new(Gfn::new(RUN).gpa());
        let (result, neighbours) = view.install(fault, page, &mut arena.source(0));
        assert_eq!(result.outcome, Outcome::Mapped);
        assert!(result.flush.is_none());
        let neighbours = neighbours.expect("it ended in a leaf table");
        let filled = view.fill(&neighbours, frames(RUN, 16), Age::Old, |gfn| {
            let pfn = Pfn::new(gfn.get() + OFFSET);
            (gfn.get() < RUN + 4).then_some((pfn, Rights::HostReadOnly))
        });
        assert_eq!(filled, 2);
        let leaves = snapshot(arena, root).leaves;
        let seen = |gfn| leaves.get(&gfn).map(|leaf| (leaf.rights, leaf.young));
        assert_eq!(seen(RUN + 1), Some((Rights::Writable, true)));
        assert_eq!(seen(RUN + 2), Some((Rights::HostReadOnly, false)));
        assert_eq!(seen(RUN + 3), Some((Rights::HostReadOnly, false)));
        assert_eq!(seen(RUN + 4), None);
        // Nothing beyond the table, whatever is asked for.
        let beyond = frames(BLOCK, 16);
        let none = view.fill(&neighbours, beyond, Age::Old, |_| panic!("not asked"));
        assert_eq!(none, 0);
    });
}
