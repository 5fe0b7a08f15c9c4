// SPDX-License-Identifier: GPL-2.0

//! Random operations, at places where much can go wrong.

use proptest::prelude::*;

use crate::{
    gstage::*,
    kvm_core::addr::*, //
};

/// How far a host frame is from the guest frame that it is behind.
const BACKINGS: [u64; 5] = [
    // 1 GiB blocks fit.
    0x4_0000, // The same pages of a guest that sees them elsewhere: also 1 GiB.
    0x8_0000, // 2 MiB blocks fit.
    0x4_0200, // Only pages fit.
    0x4_0001, // 512 GiB blocks fit.
    0x800_0000,
];

/// The host frame behind `gfn`.
pub(super) fn behind(gfn: u64, backing: u64) -> u64 {
    // No host has as many frames as a guest of Sv57x4.
    gfn % (1 << 40) + backing
}

/// An operation of the engine.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Install {
        gfn: u64,
        backing: u64,
        size: PageSize,
        rights: Rights,
        tables: usize,
        around: Option<Around>,
    },
    MakeWritable {
        gfn: u64,
    },
    Unmap {
        range: GfnRange,
        patience: usize,
    },
    WriteProtect {
        range: GfnRange,
        patience: usize,
    },
    WriteProtectMasked {
        base: u64,
        mask: u64,
    },
    Age {
        range: GfnRange,
    },
    TestAge {
        range: GfnRange,
    },
    Split {
        range: GfnRange,
        tables: usize,
        patience: usize,
    },
    MapDevice {
        gfn: u64,
        backing: u64,
        count: u64,
        rights: Rights,
        tables: usize,
    },
    Recover {
        range: GfnRange,
        host: Host,
        patience: usize,
    },
    Show {
        from: u64,
        patience: usize,
    },
    Destroy,
}

/// What is mapped with a faulting page.
#[derive(Clone, Debug)]
pub(super) struct Around {
    pub(super) frames: GfnRange,
    pub(super) backing: u64,
    pub(super) size: PageSize,
    pub(super) rights: Rights,
    pub(super) age: Age,
}

/// How the host maps its memory: `backing` away, in sizes that `sizes` decides for each block.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) backing: u64,
    pub(super) sizes: u64,
    pub(super) rights: Rights,
}

impl Host {
    pub(super) fn page(&self, gfn: u64) -> Option<HostPage> {
        // Of 64 frames of any size, the bits say which are mapped as one.
        let is = |size: PageSize| {
            let number = gfn / size.frames();
            self.sizes >> ((number + u64::from(size.shift()) * 7) % 64) & 1 == 1
        };
        let sizes = [PageSize::Size1G, PageSize::Size2M, PageSize::Size64K];
        let size = sizes.into_iter().find(|size| is(*size));
        Some(HostPage::of_test(
            Pfn::new(behind(gfn, self.backing)),
            size.unwrap_or(PageSize::Size4K),
            self.rights,
        ))
        .filter(|_| self.sizes % 11 != 0)
    }
}

/// Frames where tables of all levels meet, and some of their neighbours.
fn gfns(mode: Mode) -> BoxedStrategy<u64> {
    let end = mode.frames().end().get();
    let anchors = vec![0, 0x4_0000 - 0x400, 0x800_0000 - 0x400, end - 0x800];
    let anchors = prop::sample::select(anchors);
    let offsets = prop::sample::select(vec![0_u64, 1, 5, 15, 16, 60, 63, 64, 255, 510, 511]);
    (anchors, 0_u64..4, offsets)
        .prop_map(|(anchor, block, offset)| anchor + block * 512 + offset)
        .boxed()
}

/// Ranges of all sizes, aligned or not, some beyond the mode's frames.
fn ranges(mode: Mode) -> BoxedStrategy<GfnRange> {
    let len = prop_oneof![
        4 => Just(1_u64),
        2 => 2_u64..600,
        3 => Just(512),
        2 => Just(1024),
        1 => Just(0x4_0000),
        1 => Just(0x8_0400),
    ];
    let aligned = prop::bool::weighted(0.5);
    let some = (gfns(mode), len, aligned).prop_map(|(gfn, len, aligned)| {
        let start = if aligned { gfn & !511 } else { gfn };
        GfnRange::from_len(Gfn::new(start), len)
    });
    prop_oneof![
        12 => some,
        1 => Just(mode.frames()),
        1 => Just(GfnRange::new(Gfn::new(0), Gfn::new(u64::MAX))),
        1 => Just(GfnRange::EMPTY),
    ]
    .boxed()
}

/// Any operation.
pub(super) fn ops(mode: Mode) -> BoxedStrategy<Op> {
    let gfn = || gfns(mode);
    let range = || ranges(mode);
    let backing = || {
        prop_oneof![
            8 => Just(BACKINGS[0]),
            6 => prop::sample::select(&BACKINGS[..]),
        ]
    };
    let size = prop_oneof![
        3 => prop::sample::select(&PageSize::ALL[..]),
        1 => Just(PageSize::Size64K),
    ];
    let rights = || {
        prop::sample::select(vec![
            Rights::HostReadOnly,
            Rights::WriteProtected,
            Rights::Writable,
        ])
    };
    let tables = || prop_oneof![1 => 0_usize..4, 4 => Just(8_usize)];
    let age = prop::sample::select(vec![Age::Old, Age::Young]);
    let small = prop::sample::select(vec![PageSize::Size4K, PageSize::Size64K]);
    let around = (gfn(), 1_u64..40, backing(), small, rights(), age).prop_map(
        |(gfn, len, backing, size, rights, age)| Around {
            frames: GfnRange::from_len(Gfn::new(gfn), len),
            backing,
            size,
            rights,
            age,
        },
    );
    let around = prop::option::weighted(0.3, around);
    let patience = || prop_oneof![2 => Just(usize::MAX), 1 => 1_usize..4];
    prop_oneof![
        10 => (gfn(), backing(), size, rights(), tables(), around).prop_map(
            |(gfn, backing, size, rights, tables, around)| {
                Op::Install { gfn, backing, size, rights, tables, around }
            }
        ),
        3 => gfn().prop_map(|gfn| Op::MakeWritable { gfn }),
        4 => (range(), patience()).prop_map(|(range, patience)| Op::Unmap { range, patience }),
        3 => (range(), patience())
            .prop_map(|(range, patience)| Op::WriteProtect { range, patience }),
        2 => (gfn(), any::<u64>(), any::<u64>())
            .prop_map(|(base, a, b)| Op::WriteProtectMasked { base, mask: a & b }),
        1 => gfn().prop_map(|base| Op::WriteProtectMasked { base, mask: u64::MAX }),
        2 => range().prop_map(|range| Op::Age { range }),
        1 => range().prop_map(|range| Op::TestAge { range }),
        2 => (range(), tables(), patience())
            .prop_map(|(range, tables, patience)| Op::Split { range, tables, patience }),
        1 => (gfn(), backing(), 1_u64..5, rights(), tables()).prop_map(
            |(gfn, backing, count, rights, tables)| {
                Op::MapDevice { gfn, backing, count, rights, tables }
            }
        ),
        3 => (range(), backing(), any::<u64>(), any::<u64>(), rights(), patience()).prop_map(
            |(range, backing, a, b, rights, patience)| {
                let host = Host { backing, sizes: a | b, rights };
                Op::Recover { range, host, patience }
            }
        ),
        1 => (gfn(), patience()).prop_map(|(from, patience)| Op::Show { from, patience }),
        1 => Just(Op::Destroy),
    ]
    .boxed()
}
