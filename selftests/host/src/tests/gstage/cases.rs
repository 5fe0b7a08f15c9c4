// SPDX-License-Identifier: GPL-2.0

//! Single behaviours, most of them defects of other implementations, by name.

use super::{
    arena::{
        flushing, //
        Arena,
    },
    model::*, //
};
use crate::{
    gstage::*,
    kvm_core::addr::*, //
};

/// Host frames are these many frames behind guest frames.
pub(super) const OFFSET: u64 = 0x4_0000;

pub(super) const BLOCK: u64 = 512;

pub(super) fn frames(start: u64, len: u64) -> GfnRange {
    GfnRange::from_len(Gfn::new(start), len)
}

/// Runs `test` with a view of an empty tree of each mode.
pub(super) fn each_mode(test: impl Fn(&Arena, &Root<&Arena>, MmuWrite<'_, &Arena>)) {
    for mode in Mode::ALL {
        let arena = Arena::new();
        let root = arena.root(mode);
        // SAFETY: the only view, and the only thread.
        let view = unsafe { MmuWrite::new(&root) };
        test(&arena, &root, view);
        // SAFETY: the test's view is gone.
        let duty = unsafe { MmuWrite::new(&root) }.destroy(|| ());
        duty.flush_and_free(flushing(|_| ()), |table| arena.free(table));
        assert_eq!(arena.live(), 0);
    }
}

pub(super) fn install(
    view: &MmuRead<'_, &Arena>,
    arena: &Arena,
    gfn: u64,
    size: PageSize,
    rights: Rights,
) -> Install {
    let page = HostPage::of_test(Pfn::new(gfn + OFFSET), size, rights);
    let fault = FaultGpa::new(Gfn::new(gfn).gpa());
    view.install(fault, page, &mut arena.source(9)).0
}

/// As [`install`], where nothing can have been split.
pub(super) fn put(
    view: &MmuRead<'_, &Arena>,
    arena: &Arena,
    gfn: u64,
    size: PageSize,
    rights: Rights,
) -> (Outcome, Level) {
    let result = install(view, arena, gfn, size, rights);
    assert!(result.flush.is_none());
    (result.outcome, result.level)
}

pub(super) fn backing(view: &MmuRead<'_, &Arena>, gfn: u64) -> Option<(u64, Rights)> {
    let Mapping { leaf, level } = view.lookup(Gfn::new(gfn))?;
    Some((leaf.pfn_of(Gfn::new(gfn), level).get(), leaf.rights()))
}

/// M1: a store to a page that the host mapped read-only goes through the host.
#[test]
fn read_only_host_page_never_turns_writable_in_place() {
    each_mode(|arena, _, view| {
        put(&view, arena, 7, PageSize::Size4K, Rights::HostReadOnly);
        let fault = FaultGpa::new(Gpa::new(0x7abc));
        assert_eq!(view.make_writable(fault), MakeWritable::NotAllowed);
        assert_eq!(backing(&view, 7), Some((7 + OFFSET, Rights::HostReadOnly)));
        // The host broke copy-on-write, without moving the page: now it may.
        let again = put(&view, arena, 7, PageSize::Size4K, Rights::Writable);
        assert_eq!(again, (Outcome::Upgraded, Level::Page));
    });
}

/// M3: logging was on and off; a block is wanted where pages are; the faulting page is fixed.
#[test]
fn fault_in_a_split_block_fixes_the_faulting_page() {
    each_mode(|arena, _, mut view| {
        put(&view, arena, 0, PageSize::Size2M, Rights::Writable);
        let _ = view
            .write_protect(frames(0, BLOCK), || false)
            .duty
            .into_frames();
        let split = view.split(frames(0, BLOCK), &mut arena.source(1), || false);
        assert_eq!(split.stop, Stop::Done);
        assert_eq!(split.duty.into_frames(), frames(0, BLOCK));
        let result = put(&view, arena, 1, PageSize::Size2M, Rights::Writable);
        assert_eq!(result, (Outcome::Upgraded, Level::Page));
        assert_eq!(backing(&view, 1), Some((1 + OFFSET, Rights::Writable)));
        assert_eq!(backing(&view, 0), Some((OFFSET, Rights::WriteProtected)));
        assert_eq!(
            backing(&view, 2),
            Some((2 + OFFSET, Rights::WriteProtected))
        );
    });
}

/// M3: the same where the pages were unmapped meanwhile.
#[test]
fn block_is_not_used_where_a_table_is() {
    each_mode(|arena, _, mut view| {
        put(&view, arena, 3, PageSize::Size4K, Rights::Writable);
        let unmap = view.unmap(frames(3, 1), || false);
        unmap
            .duty
            .flush_and_free(flushing(|_| ()), |table| arena.free(table));
        let result = put(&view, arena, 5, PageSize::Size2M, Rights::Writable);
        assert_eq!(result, (Outcome::Mapped, Level::Page));
        assert_eq!(backing(&view, 5), Some((5 + OFFSET, Rights::Writable)));
        assert_eq!(backing(&view, 4), None);
    });
}

/// M3: a fault inside a block maps the block, and the faulting page to its own frame.
#[test]
fn fault_inside_a_block_maps_the_block() {
    each_mode(|arena, _, view| {
        let result = put(&view, arena, 777, PageSize::Size2M, Rights::Writable);
        assert_eq!(result, (Outcome::Mapped, Level::Mega));
        for gfn in [512, 777, 1023] {
            assert_eq!(backing(&view, gfn), Some((gfn + OFFSET, Rights::Writable)));
        }
        assert_eq!(backing(&view, 511), None);
        assert_eq!(backing(&view, 1024), None);
    });
}

/// M4: creating, using and unmapping keeps no table, page by page or as a whole.
#[test]
fn unmapping_frees_tables() {
    each_mode(|arena, root, mut view| {
        for at_once in [1, BLOCK, 4 * BLOCK] {
            for gfn in 0..4 * BLOCK {
                put(&view, arena, gfn, PageSize::Size4K, Rights::Writable);
            }
            assert!(arena.live() > 4);
            for start in (0..4 * BLOCK).step_by(at_once as usize) {
                let unmap = view.unmap(frames(start, at_once), || false);
                unmap
                    .duty
                    .flush_and_free(flushing(|_| ()), |table| arena.free(table));
            }
            let rest = view.unmap(frames(4 * BLOCK, 1 << 29), || false);
            rest.duty
                .flush_and_free(flushing(|_| ()), |table| arena.free(table));
            assert_eq!(leaf_tables(arena, root), 0);
            assert!(arena.live() <= 3, "leaf tables are freed");
        }
    });
}

/// Number of leaf tables.
fn leaf_tables(arena: &Arena, root: &Root<&Arena>) -> usize {
    let tables = snapshot(arena, root).tables;
    tables
        .iter()
        .filter(|(level, _)| *level == Level::Mega)
        .count()
}

/// A fence for an address does not order accesses to the entries above a leaf.
#[test]
fn freeing_a_table_flushes_everything() {
    each_mode(|arena, _, mut view| {
        put(&view, arena, 3, PageSize::Size4K, Rights::Writable);
        put(&view, arena, 4, PageSize::Size4K, Rights::Writable);
        let mut scopes = Vec::new();
        let one = view.unmap(frames(3, 1), || false);
        one.duty
            .flush_and_free(flushing(|scope| scopes.push(scope)), |table| {
                arena.free(table)
            });
        let all = view.unmap(frames(0, BLOCK), || false);
        all.duty
            .flush_and_free(flushing(|scope| scopes.push(scope)), |table| {
                arena.free(table)
            });
        assert_eq!(scopes, [Scope::Frames(frames(3, 1)), Scope::Everything]);
    });
}

/// M9: what ageing cleared, a fault sets again, in blocks without splitting them.
#[test]
fn fault_on_an_aged_leaf_makes_it_young() {
    each_mode(|arena, _, mut view| {
        put(&view, arena, 0, PageSize::Size2M, Rights::Writable);
        assert_eq!(view.age(frames(5, 1)), Age::Young);
        assert_eq!(view.age(frames(5, 1)), Age::Old);
        let result = put(&view, arena, 9, PageSize::Size4K, Rights::Writable);
        assert_eq!(result, (Outcome::Upgraded, Level::Mega));
        assert_eq!(view.test_age(frames(300, 1)), Age::Young);

        put(&view, arena, BLOCK, PageSize::Size4K, Rights::Writable);
        assert_eq!(view.age(frames(BLOCK, 1)), Age::Young);
        let fault = FaultGpa::new(Gfn::new(BLOCK).gpa());
        assert_eq!(view.make_writable(fault), MakeWritable::Done);
        assert_eq!(view.make_writable(fault), MakeWritable::AlreadyWritable);
    });
}

/// M15: all leaves of a range are aged, whatever its size.
#[test]
fn ageing_covers_the_whole_range() {
    each_mode(|arena, _, mut view| {
        put(&view, arena, 0, PageSize::Size2M, Rights::Writable);
        put(&view, arena, BLOCK + 16, PageSize::Size4K, Rights::Writable);
        assert_eq!(view.age(frames(0, 100)), Age::Young);
        assert_eq!(view.test_age(frames(0, BLOCK + 16)), Age::Old);
        assert_eq!(view.age(frames(3, BLOCK + 16)), Age::Young);
        assert_eq!(view.test_age(frames(0, 2 * BLOCK)), Age::Old);
    });
}

/// M19: a size that is not that of one entry.
#[test]
fn host_size_of_64k_maps_a_run() {
    each_mode(|arena, root, view| {
        let result = put(&view, arena, 21, PageSize::Size64K, Rights::Writable);
        assert_eq!(result, (Outcome::Mapped, Level::Page));
        for gfn in 16..32 {
            assert_eq!(backing(&view, gfn), Some((gfn + OFFSET, Rights::Writable)));
            let again = put(&view, arena, gfn, PageSize::Size64K, Rights::Writable);
            assert_eq!(again, (Outcome::Already, Level::Page));
        }
        assert_eq!(backing(&view, 15), None);
        assert_eq!(backing(&view, 32), None);
        assert!(snapshot(arena, root).leaves[&16].run);
    });
}

#[test]
fn masked_write_protection_leaves_other_frames() {
    each_mode(|arena, _, mut view| {
        for gfn in [BLOCK - 2, BLOCK - 1] {
            put(&view, arena, gfn, PageSize::Size4K, Rights::Writable);
        }
        put(&view, arena, BLOCK, PageSize::Size2M, Rights::Writable);
        let base = Gfn::new(BLOCK - 2);
        assert!(view.write_protect_masked(base, 0).into_frames().is_empty());
        let flushed = view.write_protect_masked(base, 0b01).into_frames();
        assert_eq!(flushed, frames(BLOCK - 2, 1));
        assert_eq!(backing(&view, BLOCK - 1).unwrap().1, Rights::Writable);
        assert_eq!(backing(&view, BLOCK).unwrap().1, Rights::Writable);
        let flushed = view
            .write_protect_masked(base, 1 << 40 | 0b10)
            .into_frames();
        assert_eq!(flushed, frames(BLOCK - 1, BLOCK + 1));
    });
}

#[test]
fn masked_write_protection_leaves_holes() {
    each_mode(|arena, _, mut view| {
        for gfn in 8..13 {
            put(&view, arena, gfn, PageSize::Size4K, Rights::Writable);
        }
        let flushed = view
            .write_protect_masked(Gfn::new(8), 0b10101)
            .into_frames();
        assert_eq!(flushed, frames(8, 5));
        for gfn in 8..13 {
            let is_writable = backing(&view, gfn).unwrap().1 == Rights::Writable;
            assert_eq!(is_writable, gfn % 2 == 1);
        }
        let rest = view
            .write_protect_masked(Gfn::new(8), 0b11111)
            .into_frames();
        assert_eq!(rest, frames(8, 5));
        assert_eq!(backing(&view, 9).unwrap().1, Rights::WriteProtected);
    });
}

/// The mask begins in a block, but only a frame behind it is set.
#[test]
fn masked_write_protection_leaves_a_block_before_it() {
    each_mode(|arena, _, mut view| {
        put(&view, arena, BLOCK, PageSize::Size2M, Rights::Writable);
        put(&view, arena, 2 * BLOCK, PageSize::Size4K, Rights::Writable);
        let base = Gfn::new(2 * BLOCK - 2);
        let flushed = view.write_protect_masked(base, 0b100).into_frames();
        assert_eq!(flushed, frames(2 * BLOCK, 1));
        assert_eq!(backing(&view, BLOCK).unwrap().1, Rights::Writable);
    });
}

#[test]
fn other_page_is_reported_and_kept() {
    each_mode(|arena, _, view| {
        put(&view, arena, 5, PageSize::Size4K, Rights::Writable);
        let page = HostPage::of_test(Pfn::new(1), PageSize::Size4K, Rights::Writable);
        let fault = FaultGpa::new(Gfn::new(5).gpa());
        let result = view.install(fault, page, &mut arena.source(0)).0;
        assert_eq!(result.outcome, Outcome::Occupied(Pfn::new(5 + OFFSET)));
        assert!(result.flush.is_none());
        assert_eq!(backing(&view, 5), Some((5 + OFFSET, Rights::Writable)));
    });
}

#[test]
fn addresses_beyond_the_mode_are_refused() {
    each_mode(|arena, root, mut view| {
        let end = root.mode().frames().end();
        let page = |pfn| HostPage::of_test(Pfn::new(pfn), PageSize::Size4K, Rights::Writable);
        let mut tables = arena.source(9);
        let beyond = FaultGpa::new(end.gpa());
        let too_far = view.install(beyond, page(1), &mut tables).0;
        assert_eq!(too_far.outcome, Outcome::OutOfRange);
        assert!(too_far.flush.is_none());
        let fault = FaultGpa::new(Gpa::new(0));
        let no_such_frame = view.install(fault, page(1 << 44), &mut tables).0;
        assert_eq!(no_such_frame.outcome, Outcome::OutOfRange);
        assert!(no_such_frame.flush.is_none());
        assert_eq!(view.make_writable(beyond), MakeWritable::NotPresent);
        assert_eq!(view.lookup(end), None);
        let pages = DevicePages {
            pfn: Pfn::new(1),
            count: 1,
            rights: Rights::Writable,
            pbmt: Pbmt::Pma,
        };
        let device = view.map_device(end, pages, &mut tables);
        assert_eq!((device.stop, device.done_to), (Stop::Occupied, end));
        assert!(device.duty.is_none());
        let nothing = view.unmap(GfnRange::new(end, Gfn::new(u64::MAX)), || true);
        assert_eq!(nothing.stop, Stop::Done);
        assert!(nothing.duty.is_none());
        assert!(root.is_unused());
    });
}

#[test]
fn mode_changes_only_without_entries() {
    let arena = Arena::new();
    let mut root = arena.root(Mode::Sv57x4);
    assert_eq!(root.set_mode(Mode::Sv39x4), Ok(()));
    {
        // SAFETY: the only view, and the only thread.
        let view = unsafe { MmuWrite::new(&root) };
        put(&view, &arena, 5, PageSize::Size4K, Rights::Writable);
    }
    assert_eq!(root.set_mode(Mode::Sv48x4), Err(InUse));
    // SAFETY: as above.
    let duty = unsafe { MmuWrite::new(&root) }.destroy(|| ());
    duty.flush_and_free(flushing(|_| ()), |table| arena.free(table));
    assert_eq!(root.set_mode(Mode::Sv48x4), Ok(()));
    assert_eq!(root.mode(), Mode::Sv48x4);
}

#[test]
fn gigantic_block_splits_only_where_asked() {
    each_mode(|arena, root, mut view| {
        let level = put(&view, arena, 0x1234, PageSize::Size1G, Rights::Writable);
        assert_eq!(level, (Outcome::Mapped, Level::Giga));
        let split = view.split(frames(3, 1), &mut arena.source(2), || false);
        assert_eq!(split.stop, Stop::Done);
        assert_eq!(split.duty.into_frames(), frames(0, 1 << 18));
        let now = snapshot(arena, root);
        assert_eq!(now.leaves.len(), 511 + 512);
        assert!(now
            .leaves
            .values()
            .all(|leaf| leaf.rights == Rights::Writable));
        for gfn in [0, 3, 511, 512, 0x3_ffff] {
            assert_eq!(backing(&view, gfn), Some((gfn + OFFSET, Rights::Writable)));
        }
    });
}

/// Without memory for tables, a block that is to be logged stays a block, and faults split it.
#[test]
fn split_without_tables_is_left_to_faults() {
    each_mode(|arena, root, mut view| {
        put(&view, arena, 0, PageSize::Size1G, Rights::Writable);
        let all = frames(0, 1 << 18);
        let _ = view.write_protect(all, || false).duty.into_frames();
        let split = view.split(all, &mut arena.source(2), || false);
        assert_eq!(
            (split.stop, split.done_to),
            (Stop::NeedTables, Gfn::new(BLOCK))
        );
        let _ = split.duty.into_frames();
        assert_eq!(snapshot(arena, root).leaves.len(), 511 + 512);
        for gfn in [3, BLOCK + 3] {
            let fault = FaultGpa::new(Gfn::new(gfn).gpa());
            let fast = match gfn < BLOCK {
                true => MakeWritable::Done,
                false => MakeWritable::NotAllowed,
            };
            assert_eq!(view.make_writable(fault), fast);
        }
        let result = install(&view, arena, BLOCK + 3, PageSize::Size4K, Rights::Writable);
        assert_eq!(
            (result.outcome, result.level),
            (Outcome::Upgraded, Level::Page)
        );
        let _ = result.flush.into_frames();
        let now = snapshot(arena, root);
        assert_eq!(now.leaves.len(), 510 + 2 * 512);
        for (gfn, leaf) in now.leaves {
            let writable = [3, BLOCK + 3].contains(&gfn);
            assert_eq!(leaf.rights == Rights::Writable, writable, "{gfn:#x}");
        }
    });
}

#[test]
fn interrupted_unmap_goes_on_where_it_stopped() {
    each_mode(|arena, _, mut view| {
        for block in 0..8 {
            put(
                &view,
                arena,
                block * BLOCK,
                PageSize::Size4K,
                Rights::Writable,
            );
        }
        let range = frames(0, 8 * BLOCK);
        let first = view.unmap(range, || true);
        assert_eq!((first.stop, first.done_to), (Stop::Asked, Gfn::new(BLOCK)));
        assert_eq!(backing(&view, 0), None);
        assert!(backing(&view, BLOCK).is_some());
        let rest = view.unmap(GfnRange::new(first.done_to, range.end()), || false);
        assert_eq!((rest.stop, rest.done_to), (Stop::Done, range.end()));
        let mut freed = 0;
        first
            .duty
            .and(rest.duty)
            .flush_and_free(flushing(|_| ()), |table| {
                freed += 1;
                arena.free(table);
            });
        assert_eq!(freed, 8);
    });
}

#[test]
fn device_pages_replace_pages_and_not_blocks() {
    each_mode(|arena, root, mut view| {
        let pages = |pfn| DevicePages {
            pfn: Pfn::new(pfn),
            count: 2,
            rights: Rights::Writable,
            pbmt: Pbmt::Io,
        };
        let first = view.map_device(Gfn::new(5), pages(0x2_8000), &mut arena.source(9));
        assert_eq!(first.stop, Stop::Done);
        assert!(first.duty.is_none());
        let moved = view.map_device(Gfn::new(5), pages(0x2_9000), &mut arena.source(0));
        assert_eq!(moved.stop, Stop::Done);
        assert_eq!(moved.duty.into_frames(), frames(5, 2));
        let leaf = snapshot(arena, root).leaves[&6];
        assert!(leaf.device);
        assert_eq!(leaf.pfn, 0x2_9001);
        put(&view, arena, BLOCK, PageSize::Size2M, Rights::Writable);
        let blocked = view.map_device(Gfn::new(BLOCK - 1), pages(9), &mut arena.source(9));
        assert_eq!(
            (blocked.stop, blocked.done_to),
            (Stop::Occupied, Gfn::new(BLOCK))
        );
        assert!(blocked.duty.is_none());
    });
}
