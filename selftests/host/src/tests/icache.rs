// SPDX-License-Identifier: GPL-2.0

//! Which memory may hold instructions that CPUs have not seen.

use crate::{
    kvm_core::addr::{
        Gfn,
        GfnRange, //
    },
    mmu::icache::{
        FrameSet,
        MovedRegions, //
    }, //
};

/// The frames of a region.
const REGION: u64 = 512;

fn moved(start: u64, len: u64) -> MovedRegions {
    let regions = MovedRegions::new();
    regions.add(GfnRange::from_len(Gfn::new(start), len));
    regions
}

fn has(regions: &MovedRegions, number: u64) -> bool {
    let first = regions.contains(Gfn::new(number * REGION));
    assert_eq!(
        regions.contains(Gfn::new(number * REGION + REGION - 1)),
        first
    );
    first
}

#[test]
fn regions_are_those_of_the_frames() {
    let regions = moved(REGION - 1, 2);
    assert!(has(&regions, 0) && has(&regions, 1) && !has(&regions, 2));
    let regions = moved(2 * REGION, REGION);
    assert!(!has(&regions, 1) && has(&regions, 2) && !has(&regions, 3));
    assert!((0..1024).all(|number| !has(&moved(5, 0), number)));
}

#[test]
fn far_regions_share_what_near_ones_have() {
    let regions = moved((1 << 20) * REGION + 7, 1);
    assert!(has(&regions, 1 << 20));
    assert_eq!((0..1024).filter(|number| has(&regions, *number)).count(), 1);
}

#[test]
fn large_ranges_are_all_regions() {
    for (start, len) in [
        (3 * REGION, 1024 * REGION),
        (1, u64::MAX - 1),
        (u64::MAX - 1, 1),
    ] {
        let regions = moved(start, len);
        let all = len > 1;
        assert_eq!((0..1024).all(|number| has(&regions, number)), all);
    }
}

#[test]
fn frames_are_those_that_were_added() {
    let mut frames = FrameSet::EMPTY;
    assert!(frames.is_empty());
    let first = Gfn::new(7 * REGION);
    for offset in [0, 63, 64, 511] {
        frames.add(first.saturating_add(offset));
    }
    assert!(!frames.is_empty());
    let there = (0..REGION).filter(|offset| frames.contains(first.saturating_add(*offset)));
    assert_eq!(there.collect::<Vec<_>>(), [0, 63, 64, 511]);
}
