// SPDX-License-Identifier: GPL-2.0

//! What the tree should translate, as a map of leaves, and what it does translate, read from the
//! tables by an independent walker that knows the architecture's bits only.

use std::{
    collections::{
        BTreeMap,
        BTreeSet, //
    },
    sync::atomic::{
        AtomicU64,
        Ordering, //
    }, //
};

use super::arena::Arena;
use crate::{
    gstage::{
        Counted,
        Rights,
        Root,
        Scope,
        TableMemory, //
    },
    kvm_core::addr::{
        Gfn,
        GfnRange,
        Level,
        PageSize,
        Pfn, //
    }, //
};

/// A leaf, as the tests see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) level: Level,
    /// A Svnapot run: 16 entries.
    pub(super) run: bool,
    pub(super) pfn: u64,
    pub(super) rights: Rights,
    pub(super) young: bool,
    pub(super) device: bool,
}

impl Seen {
    /// A new page.
    pub(super) fn page(pfn: u64, rights: Rights) -> Seen {
        Seen {
            level: Level::Page,
            run: false,
            pfn,
            rights,
            young: true,
            device: false,
        }
    }

    pub(super) fn size(&self) -> PageSize {
        match (self.level, self.run) {
            (Level::Page, false) => PageSize::Size4K,
            (Level::Page, true) => PageSize::Size64K,
            (Level::Mega, false) => PageSize::Size2M,
            (Level::Giga, false) => PageSize::Size1G,
            _ => panic!("no such leaves"),
        }
    }

    /// Whether there are smaller leaves.
    pub(super) fn is_block(&self) -> bool {
        self.size() > PageSize::Size4K
    }
}

/// Leaves by their first frame.
pub(super) type Leaves = BTreeMap<u64, Seen>;

/// What the tables say.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) leaves: Leaves,
    /// Level of the entry that points to the table, and first frame.
    pub(super) tables: BTreeSet<(Level, u64)>,
    frames: BTreeSet<u64>,
}

/// The frames of the leaf at `start`.
pub(super) fn span(start: u64, leaf: &Seen) -> GfnRange {
    GfnRange::from_len(Gfn::new(start), leaf.size().frames())
}

/// The leaf of `leaves` that maps `gfn`, and where it starts.
pub(super) fn find(leaves: &Leaves, gfn: u64) -> Option<(u64, Seen)> {
    let (&start, leaf) = leaves.range(..=gfn).next_back()?;
    span(start, leaf)
        .contains(Gfn::new(gfn))
        .then_some((start, *leaf))
}

/// First frames of the leaves of `leaves` that map a frame of `range`.
pub(super) fn touching(leaves: &Leaves, range: GfnRange) -> Vec<u64> {
    if range.is_empty() {
        return Vec::new();
    }
    let first = find(leaves, range.start().get()).map(|(start, _)| start);
    let rest = leaves.range(range.start().get()..range.end().get());
    let rest = rest.map(|(&start, _)| start).filter(|&s| Some(s) != first);
    first.into_iter().chain(rest).collect()
}

/// Splits the leaf at `start` by one level, or a run.
pub(super) fn split(leaves: &mut Leaves, start: u64) {
    let block = leaves.remove(&start).expect("a block to split");
    let (below, parts) = if block.run {
        (Level::Page, 16)
    } else {
        (block.level.below().expect("a page cannot be split"), 512)
    };
    for part in 0..parts {
        let offset = part * below.frames();
        leaves.insert(
            start + offset,
            Seen {
                level: below,
                run: false,
                pfn: block.pfn + offset,
                ..block
            },
        );
    }
}

impl Snapshot {
    /// How many there are of what.
    pub(super) fn counts(&self) -> BTreeMap<Counted, i64> {
        let mut counts = BTreeMap::new();
        for leaf in self.leaves.values() {
            *counts.entry(Counted::Leaves(leaf.size())).or_default() += 1;
        }
        if !self.tables.is_empty() {
            counts.insert(Counted::Tables, self.tables.len() as i64);
        }
        counts
    }
}

/// Reads all tables below `root`. Each run must be whole, and of one mind.
pub(super) fn snapshot(arena: &Arena, root: &Root<&Arena>) -> Snapshot {
    let mut seen = Snapshot::default();
    // SAFETY: a table is an array of atomic words (checked in `format.rs`).
    let words = unsafe {
        TableMemory::root(arena, root.pfn())
            .cast::<[AtomicU64; 2048]>()
            .as_ref()
    };
    read(arena, words, root.mode().top(), 0, &mut seen);
    seen
}

fn read(arena: &Arena, words: &[AtomicU64], level: Level, base: u64, seen: &mut Snapshot) {
    for (index, word) in words.iter().enumerate() {
        let pte = word.load(Ordering::SeqCst);
        let first = base + index as u64 * level.frames();
        if pte == 0 {
            continue;
        }
        assert_eq!(pte & 1, 1, "a live entry is valid or zero: {pte:#x}");
        let pfn = pte >> 10 & ((1 << 44) - 1);
        if pte & 0b1110 == 0 {
            assert_eq!(
                pte & !(((1 << 44) - 1) << 10),
                1,
                "a pointer has V and PPN only"
            );
            assert!(seen.frames.insert(pfn), "a table is reached twice");
            seen.tables.insert((level, first));
            let below = level.below().expect("no table below pages");
            // SAFETY: as in `snapshot`.
            let words = unsafe {
                arena
                    .table(Pfn::new(pfn))
                    .cast::<[AtomicU64; 512]>()
                    .as_ref()
            };
            read(arena, words, below, first, seen);
            continue;
        }
        assert_eq!(pte & 1 << 1, 1 << 1, "R");
        assert_eq!(pte & 1 << 4, 1 << 4, "U");
        assert_eq!(pte & 1 << 7, 1 << 7, "D");
        assert_eq!(pte & (1 << 5 | 1 << 9 | 0x7f << 54), 0, "G, RSW, reserved");
        let run = pte >> 63 == 1;
        let group = &words[index & !15..][..16];
        let entries = group.iter().map(|word| word.load(Ordering::SeqCst));
        if run {
            assert_eq!(level, Level::Page, "a run of blocks");
            assert_eq!(pfn % 16, 8, "the size of a run");
            assert!(entries.into_iter().all(|entry| entry == pte), "a mixed run");
            if index % 16 != 0 {
                continue;
            }
        } else {
            assert_eq!(pfn % level.frames(), 0, "a misaligned block");
        }
        let pfn = if run { pfn - 8 } else { pfn };
        let device = pte >> 61 & 3 == 2;
        assert_eq!(device, pte & 1 << 3 == 0, "memory has X, devices have not");
        let rights = match (pte >> 2 & 1, pte >> 8 & 1) {
            (0, 0) => Rights::HostReadOnly,
            (0, _) => Rights::WriteProtected,
            (_, 1) => Rights::Writable,
            _ => panic!("writable for the guest but not for the host"),
        };
        let young = pte >> 6 & 1 == 1;
        let leaf = Seen {
            level,
            run,
            pfn,
            rights,
            young,
            device,
        };
        seen.leaves.insert(first, leaf);
    }
}

/// Asserts that every translation that `now` lacks or restricts, compared with `before`, is
/// flushed by `scope`.
pub(super) fn assert_flushed(before: &Leaves, now: &Leaves, scope: Option<Scope>) {
    for (&start, old) in before {
        let range = span(start, old);
        let parts = touching(now, range);
        let mut at = start;
        let kept = parts.iter().all(|&part| {
            let new = &now[&part];
            let next = span(part, new);
            let same = next.contains(Gfn::new(at))
                && new.device == old.device
                && new.rights >= old.rights
                && new.pfn + (at - part) == old.pfn + (at - start);
            at = next.end().get();
            same
        });
        if kept && at >= range.end().get() {
            continue;
        }
        match scope {
            Some(Scope::Everything) => {}
            Some(Scope::Frames(frames)) => {
                assert!(frames.covers(range), "{range:?} not flushed by {frames:?}");
            }
            None => panic!("{range:?} changed and nothing is flushed"),
        }
    }
}
