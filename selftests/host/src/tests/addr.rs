// SPDX-License-Identifier: GPL-2.0

//! Addresses, frames and ranges of frames, against plain arithmetic.

use proptest::prelude::*;

use crate::kvm_core::addr::{
    Gfn,
    GfnRange,
    Gpa,
    Hpa,
    Level,
    PageSize,
    Pfn, //
};

const LEVELS: [Level; 5] = [
    Level::Page,
    Level::Mega,
    Level::Giga,
    Level::Tera,
    Level::Peta,
];

fn range(start: u64, end: u64) -> GfnRange {
    GfnRange::new(Gfn::new(start), Gfn::new(end))
}

fn frames(range: GfnRange) -> Vec<u64> {
    (range.start().get()..range.end().get()).collect()
}

#[test]
fn an_address_is_its_frame_and_an_offset() {
    let gpa = Gpa::new(0x1234_5678);
    assert_eq!(gpa.gfn(), Gfn::new(0x12345));
    assert_eq!(gpa.offset(), 0x678);
    assert_eq!(gpa.gfn().gpa(), Gpa::new(0x1234_5000));
    assert_eq!(Hpa::new(0x8000_0fff).pfn(), Pfn::new(0x80000));
    assert_eq!(Pfn::new(0x80000).hpa(), Hpa::new(0x8000_0000));
}

#[test]
fn sums_do_not_wrap() {
    assert_eq!(Gpa::new(1).checked_add(2), Some(Gpa::new(3)));
    assert_eq!(Gpa::new(u64::MAX).checked_add(1), None);
    assert_eq!(Gfn::new(u64::MAX).checked_add(1), None);
    assert_eq!(Pfn::new(u64::MAX).checked_add(1), None);
    assert_eq!(Gfn::new(u64::MAX).saturating_add(1), Gfn::new(u64::MAX));
    assert_eq!(GfnRange::from_len(Gfn::new(u64::MAX), 5).len(), 0);
}

#[test]
fn levels_are_nine_bits_apart() {
    for (i, level) in LEVELS.into_iter().enumerate() {
        assert_eq!(level.shift() as usize, 12 + 9 * i);
        assert_eq!(level.frames(), 1 << (9 * i));
        assert_eq!(level.below(), i.checked_sub(1).map(|i| LEVELS[i]));
        let span = level.span(Gfn::new(u64::MAX >> 12));
        assert!(span.contains(Gfn::new(u64::MAX >> 12)));
        assert_eq!(span.start().get() % level.frames(), 0);
        assert_eq!(span.len(), level.frames());
    }
}

#[test]
fn a_range_that_ends_before_it_starts_is_empty() {
    assert!(range(5, 3).is_empty());
    assert!(GfnRange::EMPTY.is_empty());
    assert_eq!(frames(GfnRange::single(Gfn::new(9))), [9]);
}

proptest! {
    /// Ranges are sets of frames.
    #[test]
    fn ranges_are_sets(a in 0..20_u64, b in 0..20_u64, c in 0..20_u64, d in 0..20_u64) {
        let (one, other) = (range(a, b), range(c, d));
        let (left, right) = (frames(one), frames(other));
        prop_assert_eq!(one.len(), left.len() as u64);
        for gfn in 0..20 {
            prop_assert_eq!(one.contains(Gfn::new(gfn)), left.contains(&gfn));
        }
        prop_assert_eq!(one.covers(other), right.iter().all(|gfn| left.contains(gfn)));
        let both: Vec<_> = left.iter().copied().filter(|gfn| right.contains(gfn)).collect();
        prop_assert_eq!(frames(one.intersection(other)), both);
        let (first, last) = (left.iter().chain(&right).min(), left.iter().chain(&right).max());
        let hull = first.zip(last).map_or(Vec::new(), |(&first, &last)| (first..=last).collect());
        prop_assert_eq!(frames(one.hull(other)), hull);
    }

    #[test]
    fn aligning_finds_the_start_of_the_block(gfn: u64) {
        for size in PageSize::ALL {
            let start = Gfn::new(gfn).align_down(size).get();
            prop_assert!(start <= gfn && gfn - start < size.frames());
            prop_assert_eq!(start % size.frames(), 0);
        }
    }
}
