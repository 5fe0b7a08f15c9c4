// SPDX-License-Identifier: GPL-2.0

//! Random sequences of operations, compared with the model after each.

use proptest::prelude::*;

use super::{
    arena::{
        flushing, //
        Arena,
    },
    model::*,
    ops::*, //
};
use crate::{
    gstage::*,
    kvm_core::addr::*, //
};

pub(super) struct World<'a> {
    pub(super) arena: &'a Arena,
    root: &'a Root<&'a Arena>,
    pub(super) model: Leaves,
    /// The tables before the operation.
    pub(super) now: Snapshot,
}

/// Asks for a stop after every `patience` tables.
pub(super) fn impatient(patience: usize) -> impl FnMut() -> bool {
    let mut left = patience;
    move || {
        left = left.saturating_sub(1);
        let stop = left == 0;
        if stop {
            left = patience;
        }
        stop
    }
}

impl<'a> World<'a> {
    pub(super) fn read(&self) -> MmuRead<'a, &'a Arena> {
        // SAFETY: there is one thread.
        unsafe { MmuRead::new(self.root) }
    }

    pub(super) fn write(&self) -> MmuWrite<'a, &'a Arena> {
        // SAFETY: there is one thread, and no other view is in use.
        unsafe { MmuWrite::new(self.root) }
    }

    fn end(&self) -> u64 {
        self.root.mode().frames().end().get()
    }

    /// Runs `op`, applies it to the model, returns what was flushed.
    fn run(&mut self, op: &Op) -> Option<Scope> {
        match *op {
            Op::Install {
                gfn,
                backing,
                size,
                rights,
                tables,
                ref around,
            } => self.install(gfn, backing, size, rights, tables, around.as_ref()),
            Op::MakeWritable { gfn } => {
                let fault = FaultGpa::new(Gfn::new(gfn).gpa());
                let result = self.read().make_writable(fault);
                let expect = match find(&self.model, gfn) {
                    None => MakeWritable::NotPresent,
                    Some((_, leaf)) if leaf.is_block() || leaf.rights == Rights::HostReadOnly => {
                        MakeWritable::NotAllowed
                    }
                    Some((_, leaf)) if leaf.rights == Rights::Writable && leaf.young => {
                        MakeWritable::AlreadyWritable
                    }
                    Some((start, _)) => {
                        let leaf = self.model.get_mut(&start).unwrap();
                        leaf.rights = Rights::Writable;
                        leaf.young = true;
                        MakeWritable::Done
                    }
                };
                assert_eq!(result, expect);
                None
            }
            Op::Unmap { range, patience } => {
                let mut from = range.start();
                let mut duty = Teardown::none(self.arena);
                let mut stop_here = impatient(patience);
                loop {
                    let rest = GfnRange::new(from, range.end());
                    let progress = self.write().unmap(rest, &mut stop_here);
                    duty = duty.and(progress.duty);
                    if progress.stop == Stop::Done {
                        assert_eq!(progress.done_to, range.end());
                        break;
                    }
                    assert_eq!(progress.stop, Stop::Asked);
                    assert!(progress.done_to > from && progress.done_to < range.end());
                    from = progress.done_to;
                }
                for start in touching(&self.model, range) {
                    self.model.remove(&start);
                }
                let tables = &snapshot(self.arena, self.root).tables;
                for &(level, first) in tables {
                    let span = level.span(Gfn::new(first));
                    assert!(!range.covers(span), "a table of {span:?} stays");
                }
                self.settle(duty)
            }
            Op::WriteProtect { range, patience } => {
                let mut from = range.start();
                let mut duty = Flush::NONE;
                let mut stop_here = impatient(patience);
                loop {
                    let rest = GfnRange::new(from, range.end());
                    let progress = self.write().write_protect(rest, &mut stop_here);
                    duty = duty.and(progress.duty);
                    if progress.stop == Stop::Done {
                        break;
                    }
                    assert!(progress.done_to > from && progress.done_to < range.end());
                    from = progress.done_to;
                }
                self.protect(touching(&self.model, range));
                issue(duty)
            }
            Op::WriteProtectMasked { base, mask } => {
                let duty = self.write().write_protect_masked(Gfn::new(base), mask);
                for bit in (0..64).filter(|bit| mask >> bit & 1 == 1) {
                    self.protect(touching(
                        &self.model,
                        GfnRange::single(Gfn::new(base + bit)),
                    ));
                }
                issue(duty)
            }
            Op::Age { range } => {
                let mut expect = Age::Old;
                for start in touching(&self.model, range) {
                    let leaf = self.model.get_mut(&start).unwrap();
                    if std::mem::replace(&mut leaf.young, false) {
                        expect = Age::Young;
                    }
                }
                assert_eq!(self.write().age(range), expect);
                None
            }
            Op::TestAge { range } => {
                let young = touching(&self.model, range)
                    .iter()
                    .any(|start| self.model[start].young);
                let expect = if young { Age::Young } else { Age::Old };
                assert_eq!(self.write().test_age(range), expect);
                None
            }
            Op::Split {
                range,
                tables,
                patience,
            } => self.split(range, tables, patience),
            Op::MapDevice {
                gfn,
                backing,
                count,
                rights,
                tables,
            } => {
                let pages = DevicePages {
                    pfn: Pfn::new(behind(gfn, backing)),
                    count,
                    rights,
                    pbmt: Pbmt::Io,
                };
                let mut source = self.arena.source(tables);
                let progress = self.write().map_device(Gfn::new(gfn), pages, &mut source);
                let done_to = progress.done_to.get();
                for at in gfn..done_to {
                    let pfn = behind(at, backing);
                    let leaf = Seen {
                        device: true,
                        ..Seen::page(pfn, rights)
                    };
                    if let Some(old) = self.model.insert(at, leaf) {
                        assert!(!old.is_block());
                    }
                }
                match progress.stop {
                    Stop::Done => assert_eq!(done_to, gfn + count),
                    Stop::NeedTables => assert_eq!(source.count, 0),
                    Stop::Occupied => assert!(
                        done_to >= self.end()
                            || find(&self.model, done_to).is_some_and(|(_, leaf)| leaf.is_block())
                    ),
                    Stop::Asked => panic!("nobody asked"),
                }
                issue(progress.duty)
            }
            Op::Recover {
                range,
                ref host,
                patience,
            } => self.recover(range, host, patience),
            Op::Show { from, patience } => {
                self.show(from, patience);
                None
            }
            Op::Destroy => {
                let duty = self.write().destroy(|| ());
                assert_eq!(
                    duty.is_none(),
                    self.now.leaves.is_empty() && self.now.tables.is_empty()
                );
                self.model.clear();
                assert!(self.root.is_unused());
                self.settle(duty)
            }
        }
    }

    fn protect(&mut self, starts: Vec<u64>) {
        for start in starts {
            let leaf = self.model.get_mut(&start).unwrap();
            leaf.rights = leaf.rights.min(Rights::WriteProtected);
        }
    }

    /// The level of the empty entry that a walk to `gfn` ends at.
    fn empty_level(&self, gfn: u64) -> Level {
        let mut level = self.root.mode().top();
        while self
            .now
            .tables
            .contains(&(level, gfn & !(level.frames() - 1)))
        {
            level = level.below().unwrap();
        }
        level
    }

    fn install(
        &mut self,
        gfn: u64,
        backing: u64,
        size: PageSize,
        rights: Rights,
        tables: usize,
        around: Option<&Around>,
    ) -> Option<Scope> {
        let pfn = behind(gfn, backing);
        let mut source = self.arena.source(tables);
        let page = HostPage::of_test(Pfn::new(pfn), size, rights);
        let fault = FaultGpa::new(Gpa::new((gfn << 12) + 0x123));
        let read = self.read();
        let (result, neighbours) = read.install(fault, page, &mut source);
        assert_eq!(
            neighbours.is_some(),
            result.level == Level::Page && result.outcome != Outcome::OutOfRange
        );
        let flushed = self.expect_install(gfn, backing, page, tables, result, source.count);
        if let (Some(neighbours), Some(around)) = (neighbours, around) {
            self.fill(gfn, &neighbours, around);
        }
        flushed
    }

    /// Fault-around in the leaf table of `gfn`.
    fn fill(&mut self, gfn: u64, neighbours: &Neighbours<'_>, around: &Around) {
        let frames = Level::Mega.span(Gfn::new(gfn));
        assert_eq!(neighbours.frames(), frames);
        let mut expect = 0;
        let mut asked = Vec::new();
        let page = |gfn: Gfn| {
            (gfn.get() % 5 != 0).then_some(HostPage::of_test(
                Pfn::new(behind(gfn.get(), around.backing)),
                around.size,
                around.rights,
            ))
        };
        let filled = self
            .read()
            .fill(neighbours, around.frames, around.age, |gfn| {
                asked.push(gfn.get());
                page(gfn)
            });
        let frames = frames.intersection(around.frames);
        for at in frames.start().get()..frames.end().get() {
            if find(&self.model, at).is_some() {
                continue;
            }
            assert_eq!(asked.remove(0), at);
            if let Some(page) = page(Gfn::new(at)) {
                let group = GfnRange::from_len(Gfn::new(at & !15), 16);
                let run = page.size() == PageSize::Size64K
                    && around.backing % 16 == 0
                    && touching(&self.model, group).is_empty();
                let first = if run { at & !15 } else { at };
                let leaf = Seen {
                    run,
                    young: around.age == Age::Young,
                    ..Seen::page(page.pfn().get() - (at - first), page.rights())
                };
                self.model.insert(first, leaf);
                expect += leaf.size().frames();
            }
        }
        assert!(asked.is_empty());
        assert_eq!(filled, expect);
    }

    fn expect_install(
        &mut self,
        gfn: u64,
        backing: u64,
        page: HostPage,
        tables: usize,
        result: Install,
        left: usize,
    ) -> Option<Scope> {
        let (pfn, size, rights) = (page.pfn(), page.size(), page.rights());
        let pfn = pfn.get();
        let flushed = issue(result.flush);
        let used = tables - left;

        // The largest level that size and offsets allow.
        let largest = [Level::Tera, Level::Giga, Level::Mega]
            .into_iter()
            .find(|level| *level <= size.level() && backing % level.frames() == 0)
            .unwrap_or(Level::Page);
        let Some((mut start, mut leaf)) = find(&self.model, gfn) else {
            let empty = self.empty_level(gfn);
            let level = largest.min(empty);
            assert!(flushed.is_none());
            let needed = empty as usize - level as usize;
            if tables < needed {
                assert_eq!(result.outcome, Outcome::NeedTables);
                return None;
            }
            assert_eq!((result.outcome, result.level), (Outcome::Mapped, level));
            assert_eq!(used, needed);
            let group = GfnRange::from_len(Gfn::new(gfn & !15), 16);
            let run = level == Level::Page
                && size == PageSize::Size64K
                && backing % 16 == 0
                && touching(&self.model, group).is_empty();
            let frames = if run { 16 } else { level.frames() };
            let start = gfn & !(frames - 1);
            let leaf = Seen {
                level,
                run,
                ..Seen::page(pfn - (gfn - start), rights)
            };
            assert!(touching(&self.model, span(start, &leaf)).is_empty());
            self.model.insert(start, leaf);
            return None;
        };
        let there = leaf.pfn + (gfn - start);
        if there != pfn || leaf.device {
            assert_eq!(result.outcome, Outcome::Occupied(Pfn::new(there)));
            assert!(flushed.is_none());
            return None;
        }
        let block = span(start, &leaf);
        // A run is treated as a whole where that is what `page` is about.
        let is_part = |leaf: &Seen| leaf.level > largest || leaf.run && size == PageSize::Size4K;
        let must_split = |leaf: &Seen| {
            is_part(leaf) && rights == Rights::Writable && leaf.rights != Rights::Writable
        };
        let mut supply = tables;
        let was_split = must_split(&leaf) && supply > 0;
        let was_split = was_split || must_split(&leaf) && leaf.run;
        while must_split(&leaf) {
            if supply == 0 && !leaf.run {
                assert_eq!(result.outcome, Outcome::NeedTables);
                assert_eq!(flushed, was_split.then_some(Scope::Frames(block)));
                return flushed;
            }
            if !leaf.run {
                supply -= 1;
            }
            split(&mut self.model, start);
            (start, leaf) = find(&self.model, gfn).unwrap();
        }
        assert_eq!(used, tables - supply);
        assert_eq!(flushed, was_split.then_some(Scope::Frames(block)));
        let before = leaf;
        leaf.young = true;
        if !is_part(&leaf) {
            leaf.rights = leaf.rights.max(rights);
        }
        let expect = if leaf == before {
            Outcome::Already
        } else {
            Outcome::Upgraded
        };
        assert_eq!((result.outcome, result.level), (expect, leaf.level));
        self.model.insert(start, leaf);
        flushed
    }

    fn split(&mut self, range: GfnRange, tables: usize, patience: usize) -> Option<Scope> {
        // Of ranges that would fill memory, only the beginning.
        let range = GfnRange::from_len(range.start(), range.len().min(1500));
        let mut from = range.start();
        let mut duty = Flush::NONE;
        let mut stop_here = impatient(patience);
        let mut source = self.arena.source(tables);
        loop {
            let rest = GfnRange::new(from, range.end());
            let progress = self.write().split(rest, &mut source, &mut stop_here);
            duty = duty.and(progress.duty);
            assert!(progress.done_to >= from);
            match progress.stop {
                Stop::Done => break,
                Stop::NeedTables => source.count += 1,
                Stop::Asked => assert!(progress.done_to > from && progress.done_to < range.end()),
                Stop::Occupied => panic!("nothing can be in the way"),
            }
            from = progress.done_to;
        }
        let mut frames: Option<GfnRange> = None;
        loop {
            let blocks: Vec<u64> = touching(&self.model, range)
                .into_iter()
                .filter(|start| self.model[start].is_block())
                .collect();
            if blocks.is_empty() {
                let scope = issue(duty);
                assert_eq!(scope, frames.map(Scope::Frames));
                return scope;
            }
            for start in blocks {
                let block = span(start, &self.model[&start]);
                frames = Some(block.hull(frames.unwrap_or(block)));
                split(&mut self.model, start);
            }
        }
    }

    pub(super) fn settle(&self, duty: Teardown<&'a Arena>) -> Option<Scope> {
        let before = self.arena.live();
        let reached = snapshot(self.arena, self.root).tables.len();
        let mut scope = None;
        let mut freed = 0;
        let flushed = std::cell::Cell::new(false);
        duty.flush_and_free(
            flushing(|wanted| {
                flushed.set(true);
                scope = Some(wanted);
            }),
            |table| {
                assert!(flushed.get(), "a table is freed before the flush");
                self.arena.free(table);
                freed += 1;
            },
        );
        assert_eq!(
            freed,
            before - reached,
            "tables that nothing points to are freed"
        );
        assert!(freed == 0 || scope == Some(Scope::Everything));
        scope
    }
}

fn issue(duty: Flush) -> Option<Scope> {
    let mut scope = None;
    let none = duty.is_none();
    duty.issue(flushing(|frames| scope = Some(Scope::Frames(frames))));
    assert_eq!(scope.is_none(), none);
    scope
}

fn check(mode: Mode, ops: &[Op]) {
    let arena = Arena::new();
    let root = arena.root(mode);
    let mut world = World {
        arena: &arena,
        root: &root,
        model: Leaves::new(),
        now: Snapshot::default(),
    };
    for op in ops.iter().chain([&Op::Destroy]) {
        let before = world.model.clone();
        let scope = world.run(op);
        let now = snapshot(&arena, &root);
        assert_eq!(now.leaves, world.model, "after {op:?}");
        assert_eq!(now.tables.len(), arena.live(), "after {op:?}");
        assert_eq!(arena.counts(), now.counts(), "after {op:?}");
        assert_flushed(&before, &now.leaves, scope);
        for (&start, leaf) in now.leaves.iter().take(8) {
            let found = world.read().lookup(Gfn::new(start)).expect("a leaf");
            assert_eq!(found.level, leaf.level);
            assert_eq!(found.leaf.rights(), leaf.rights);
            let gfn = Gfn::new(start + leaf.size().frames() / 3);
            let pfn = found.leaf.pfn_of(gfn, found.level);
            assert_eq!(pfn.get(), leaf.pfn + (gfn.get() - start));
            assert_eq!(found.leaf.age() == Age::Young, leaf.young);
            assert_eq!(found.leaf.size(found.level), leaf.size());
        }
        world.now = now;
    }
    assert_eq!(arena.live(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 800,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn sv39x4_is_as_the_model(ops in prop::collection::vec(ops(Mode::Sv39x4), 1..40)) {
        check(Mode::Sv39x4, &ops);
    }

    #[test]
    fn sv48x4_is_as_the_model(ops in prop::collection::vec(ops(Mode::Sv48x4), 1..40)) {
        check(Mode::Sv48x4, &ops);
    }

    #[test]
    fn sv57x4_is_as_the_model(ops in prop::collection::vec(ops(Mode::Sv57x4), 1..40)) {
        check(Mode::Sv57x4, &ops);
    }
}
