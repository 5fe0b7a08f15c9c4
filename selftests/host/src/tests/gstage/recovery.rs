// SPDX-License-Identifier: GPL-2.0

//! What recovery does to the model, and what the model looks like to whoever reads the tree.

use std::ops::ControlFlow;

use super::{
    model::*,
    ops::{
        behind, //
        Host,
    },
    random::{
        impatient, //
        World,
    }, //
};
use crate::{
    gstage::*,
    kvm_core::addr::*, //
};

impl World<'_> {
    pub(super) fn recover(
        &mut self,
        range: GfnRange,
        host: &Host,
        patience: usize,
    ) -> Option<Scope> {
        let mut from = range.start();
        let mut duty = Teardown::none(self.arena);
        let mut stop_here = impatient(patience);
        let mut starts = Vec::new();
        loop {
            starts.push(from);
            let rest = GfnRange::new(from, range.end());
            let progress = self.write().recover(
                rest,
                PageSize::Size64K,
                |gfn| {
                    assert!(rest.contains(gfn));
                    host.page(gfn.get())
                },
                &mut stop_here,
            );
            duty = duty.and(progress.duty);
            if progress.stop == Stop::Done {
                assert_eq!(progress.done_to, range.end());
                break;
            }
            assert_eq!(progress.stop, Stop::Asked);
            assert!(progress.done_to > from && progress.done_to < range.end());
            from = progress.done_to;
        }
        for level in [Level::Mega, Level::Giga] {
            let tables = self.now.tables.clone();
            for (_, first) in tables.into_iter().filter(|(at, _)| *at == level) {
                let span = level.span(Gfn::new(first));
                let mut part = span.intersection(range);
                if level == Level::Giga {
                    // A table of blocks must have one in the piece that comes to its end.
                    let last = starts.iter().rev().find(|from| **from < part.end());
                    let last = *last.unwrap_or(&range.start());
                    part = GfnRange::new(last, range.end()).intersection(part);
                }
                if !part.is_empty() {
                    self.recover_table(level, span, part, range, host);
                }
            }
        }
        for start in touching(&self.model, range) {
            let leaf = self.model.get_mut(&start).unwrap();
            if leaf.rights == Rights::WriteProtected {
                leaf.rights = Rights::Writable;
            }
        }
        self.settle(duty)
    }

    fn recover_table(
        &mut self,
        level: Level,
        span: GfnRange,
        part: GfnRange,
        range: GfnRange,
        host: &Host,
    ) {
        let Some(gfn) = touching(&self.model, part).first().copied() else {
            return;
        };
        let gfn = gfn.max(part.start().get());
        // No run is made of a table of which the host says that it may be larger.
        let may_be_block = host.page(gfn).is_some_and(|page| {
            page.size() > PageSize::Size64K && host.backing % page.size().frames() == 0
        }) && find(&self.model, gfn)
            .is_some_and(|(start, leaf)| leaf.pfn + (gfn - start) == behind(gfn, host.backing));
        if level == Level::Mega && !may_be_block {
            for start in (span.start().get()..span.end().get()).step_by(16) {
                let run = GfnRange::from_len(Gfn::new(start), 16);
                if part.covers(run) {
                    self.join(PageSize::Size64K, run, run, range, host);
                }
            }
        }
        let size = level.leaf_size();
        if level == Level::Mega || part.end() == span.end() {
            self.join(size, span, part, range, host);
        }
    }

    /// Makes one leaf of `size` of the leaves in `span` if they are so in the host.
    fn join(
        &mut self,
        size: PageSize,
        span: GfnRange,
        part: GfnRange,
        range: GfnRange,
        host: &Host,
    ) {
        let starts = touching(&self.model, span);
        let Some(gfn) = touching(&self.model, part).first().copied() else {
            return;
        };
        let gfn = gfn.max(part.start().get());
        let Some(page) = host.page(gfn) else {
            return;
        };
        let fits = if size == PageSize::Size64K {
            // Larger blocks do not say that the CPU has Svnapot.
            page.size() == size
        } else {
            page.size() >= size
        };
        let first = behind(span.start().get(), host.backing);
        if size == PageSize::Size1G {
            let mut tables = self.now.tables.iter();
            let still = |&(level, first): &(Level, u64)| {
                let frames = level.span(Gfn::new(first));
                // A table without entries goes.
                let is_emptied = range.covers(frames) && touching(&self.model, frames).is_empty();
                level == Level::Mega
                    && !is_emptied
                    && span.contains(Gfn::new(first))
                    && self
                        .model
                        .get(&first)
                        .is_none_or(|leaf| leaf.level != level)
            };
            if tables.any(still) {
                return;
            }
        }
        let same = |start: &u64| {
            let leaf = &self.model[start];
            leaf.pfn == first + (start - span.start().get()) && !leaf.device && leaf.size() < size
        };
        if !fits || host.backing % page.size().frames() != 0 || !starts.iter().all(same) {
            return;
        }
        let leaves = starts.iter().map(|start| self.model.remove(start).unwrap());
        let leaves: Vec<_> = leaves.collect();
        let known = leaves
            .iter()
            .any(|leaf| leaf.rights != Rights::HostReadOnly);
        let leaf = Seen {
            level: size.level(),
            run: size == PageSize::Size64K,
            young: leaves.iter().any(|leaf| leaf.young),
            ..Seen::page(
                first,
                if known && host.rights != Rights::HostReadOnly {
                    Rights::Writable
                } else {
                    Rights::HostReadOnly
                },
            )
        };
        self.model.insert(span.start().get(), leaf);
    }

    /// Reads the tree as extents, some at a time.
    pub(super) fn show(&self, from: u64, patience: usize) {
        let mut seen = Vec::new();
        let mut stop_here = impatient(patience);
        let mut next = Some(Gfn::new(from));
        while let Some(from) = next {
            next = self.read().extents(from, |extent| {
                seen.push(extent);
                if stop_here() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
        }
        let mut expect: Vec<Extent> = Vec::new();
        for start in touching(
            &self.model,
            GfnRange::new(Gfn::new(from), Gfn::new(u64::MAX)),
        ) {
            let leaf = &self.model[&start];
            let whole = span(start, leaf);
            let frames = GfnRange::new(whole.start().max(Gfn::new(from)), whole.end());
            let next = Extent {
                frames,
                pfn: Pfn::new(leaf.pfn + (frames.start().get() - start)),
                size: leaf.size(),
                rights: leaf.rights,
                age: if leaf.young { Age::Young } else { Age::Old },
                pbmt: if leaf.device { Pbmt::Io } else { Pbmt::Pma },
                kind: if leaf.device {
                    Kind::Device
                } else {
                    Kind::Memory
                },
            };
            match expect.last_mut() {
                Some(last)
                    if *last
                        == Extent {
                            frames: last.frames,
                            pfn: last.pfn,
                            ..next
                        }
                        && last.frames.end() == next.frames.start()
                        && last.pfn.get() + last.frames.len() == next.pfn.get() =>
                {
                    last.frames = last.frames.hull(next.frames);
                }
                _ => expect.push(next),
            }
        }
        assert_eq!(seen, expect);
    }
}
