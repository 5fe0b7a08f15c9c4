// SPDX-License-Identifier: GPL-2.0

//! Which interrupt file an address names: against the specification's formula, read literally.

use std::collections::{
    hash_map::Entry, //
    HashMap,
};

use proptest::prelude::*;

use crate::{
    aia::{
        layout::*,
        msi::{
            GuestIndex,
            HartIndex, //
        }, //
    },
    kvm_core::addr::{
        Gpa,
        VcpuIdx, //
    }, //
};

/// AIA, "Arrangement of the memory regions of multiple interrupt files": "The address of the
/// supervisor-level interrupt file of hart h in group g is g x 2^E + B + h x 2^D", guest file n is
/// the n-th page behind it. D is what the guest files need, and E is above all of that.
fn address(bits: LayoutBits, base: u64, group: u64, hart: u64, guest: u64) -> u64 {
    let d = 12 + bits.guest;
    let e = bits.group_shift;
    let groups = if bits.group == 0 { 0 } else { group << e };
    groups + base + (hart << d) + (guest << 12)
}

fn layout(bits: LayoutBits) -> GroupLayout {
    GroupLayout::new(bits).expect("a layout")
}

/// All that the device's attributes allow, and what they make an address of 64 bits.
fn bits() -> impl Strategy<Value = LayoutBits> {
    (0..8_u32, 0..16_u32, 0..8_u32, 24..56_u32)
        .prop_map(|(guest, hart, group, group_shift)| LayoutBits {
            guest,
            hart,
            group,
            group_shift,
        })
        .prop_filter("no overlap", |bits| {
            bits.group == 0 || bits.group_shift >= 12 + bits.guest + bits.hart
        })
}

/// A base as the specification wants it: nothing where an index is.
fn base(bits: LayoutBits, random: u64) -> u64 {
    let last = |bits: u32| (1_u64 << bits) - 1;
    let every = address(bits, 0, last(bits.group), last(bits.hart), last(bits.guest));
    random & !every & !0xfff
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_address_is_taken_apart_into_what_it_was_made_of(
        bits in bits(),
        random: u64,
        (group, hart, guest) in any::<(u64, u64, u64)>(),
        offset in 0..4096_u64,
    ) {
        let group = group & ((1 << bits.group) - 1);
        let hart = hart & ((1 << bits.hart) - 1);
        let guest = guest & ((1 << bits.guest) - 1);
        let base = base(bits, random);
        let gpa = address(bits, base, group, hart, guest) + offset;
        let place = layout(bits).split(Gpa::new(gpa));
        prop_assert_eq!(place.base, base);
        prop_assert_eq!(u64::from(place.hart.get()), group << bits.hart | hart);
        prop_assert_eq!(place.guest, GuestIndex::new(guest as u32));
        prop_assert_eq!(u64::from(place.offset), offset);
    }

    #[test]
    fn every_address_is_made_of_its_parts(bits in bits(), gpa: u64) {
        let place = layout(bits).split(Gpa::new(gpa));
        let hart = u64::from(place.hart.get());
        let guest = (0..1 << bits.guest).find(|&guest| place.guest == GuestIndex::new(guest));
        let made = address(
            bits,
            place.base,
            hart >> bits.hart,
            hart & ((1 << bits.hart) - 1),
            guest.expect("it has no more bits").into(),
        );
        prop_assert_eq!(made + u64::from(place.offset), gpa);
    }

    #[test]
    fn whatever_the_bits_are_nothing_overflows(
        guest: u32, hart: u32, group: u32, group_shift: u32, gpa: u64,
    ) {
        for scale in [0, 24, 26, 28, 30] {
            let bits = LayoutBits {
                guest: guest >> scale,
                hart: hart >> scale,
                group: group >> scale,
                group_shift: group_shift >> scale,
            };
            if let Ok(layout) = GroupLayout::new(bits) {
                let place = layout.split(Gpa::new(gpa));
                prop_assert_eq!(place.base & 0xfff, 0);
            }
        }
    }

    #[test]
    fn the_table_finds_those_that_were_entered_and_nobody_else(
        harts in proptest::collection::vec(0..300_u32, 0..100),
        shift in 0..23_u32,
        others in proptest::collection::vec(any::<u32>(), 20),
    ) {
        let mut slots = vec![HartSlot::default(); slots_for(harts.len())];
        let mut model = HashMap::new();
        for (vcpu, hart) in harts.iter().map(|hart| hart << shift).enumerate() {
            let entered = insert(&mut slots, HartIndex::new(hart), VcpuIdx::new(vcpu));
            let expect = match model.entry(hart) {
                Entry::Occupied(_) => Err(Rejected::Duplicate),
                Entry::Vacant(entry) => {
                    entry.insert(vcpu);
                    Ok(())
                }
            };
            prop_assert_eq!(entered, expect);
        }
        let near = model.keys().map(|hart| hart.wrapping_add(1));
        for hart in model.keys().copied().chain(near).chain(others) {
            let found = find(&slots, HartIndex::new(hart));
            prop_assert_eq!(found.map(VcpuIdx::get), model.get(&hart).copied());
        }
    }
}

#[test]
fn an_example_with_all_parts() {
    let bits = LayoutBits {
        guest: 2,
        hart: 3,
        group: 2,
        group_shift: 24,
    };
    let place = layout(bits).split(Gpa::new(0x2_8000_0000 | 2 << 24 | 5 << 14 | 3 << 12 | 4));
    assert_eq!(place.base, 0x2_8000_0000);
    assert_eq!(place.hart, HartIndex::new(2 << 3 | 5));
    assert_eq!(place.guest, GuestIndex::new(3));
    assert_eq!(place.offset, 4);
}

#[test]
fn without_index_bits_there_is_one_file() {
    let bits = LayoutBits {
        guest: 0,
        hart: 0,
        group: 0,
        // What nobody looks at may be anything.
        group_shift: u32::MAX,
    };
    let place = layout(bits).split(Gpa::new(0xffff_ffff_ffff_f004));
    assert_eq!(place.base, 0xffff_ffff_ffff_f000);
    assert_eq!(place.hart, HartIndex::new(0));
    assert_eq!(place.offset, 4);
}

#[test]
fn indices_must_not_overlap_nor_leave_the_address() {
    let bits = LayoutBits {
        guest: 3,
        hart: 10,
        group: 1,
        group_shift: 25,
    };
    assert!(GroupLayout::new(bits).is_ok());
    let overlap = |change: fn(&mut LayoutBits)| {
        let mut bits = bits;
        change(&mut bits);
        GroupLayout::new(bits) == Err(Overlap)
    };
    assert!(overlap(|bits| bits.group_shift = 24));
    assert!(overlap(|bits| bits.hart = 11));
    assert!(overlap(|bits| bits.guest = 4));
    assert!(overlap(|bits| bits.group_shift = 64));
    assert!(overlap(|bits| (bits.group, bits.group_shift) = (2, 63)));
    assert!(!overlap(|bits| (bits.group, bits.group_shift) = (1, 63)));
    // Without a group, its place does not matter.
    assert!(!overlap(|bits| (bits.group, bits.group_shift) = (0, 0)));
    // More than a hart index can tell apart.
    assert!(overlap(|bits| (bits.guest, bits.hart) = (0, 32)));
    assert!(overlap(
        |bits| (bits.guest, bits.hart, bits.group) = (0, 13, 20)
    ));
}

#[test]
fn a_table_is_at_most_half_full() {
    for vcpus in (0..40).chain([1023, 1024]) {
        let slots = slots_for(vcpus);
        assert!(slots.is_power_of_two() && slots >= 2 * vcpus, "{vcpus}");
    }
}

#[test]
fn a_table_without_room_says_so() {
    let mut slots = vec![HartSlot::default(); slots_for(1)];
    for n in 0..slots.len() {
        assert_eq!(
            insert(&mut slots, HartIndex::new(7 * n as u32), VcpuIdx::new(n)),
            Ok(())
        );
    }
    let (hart, vcpu) = (HartIndex::new(99), VcpuIdx::new(9));
    assert_eq!(insert(&mut slots, hart, vcpu), Err(Rejected::Full));
    assert_eq!(find(&slots, hart), None);
    assert_eq!(find(&[], hart), None);
    assert_eq!(insert(&mut [], hart, vcpu), Err(Rejected::Full));
}

#[test]
fn ordinary_hart_indices_are_found_at_once() {
    // 1,024 harts in 16 groups: no cluster is long. Each probe looks at one slot.
    let mut slots = vec![HartSlot::default(); slots_for(1024)];
    for n in 0..1024_u32 {
        let hart = HartIndex::new(n / 64 << 10 | n % 64);
        assert_eq!(insert(&mut slots, hart, VcpuIdx::new(n as usize)), Ok(()));
    }
    let mut longest = 0;
    let mut run = 0;
    for slot in slots.iter().chain(&slots) {
        // A slot in use is not the default one.
        let free = format!("{slot:?}") == format!("{:?}", HartSlot::default());
        run = if free { 0 } else { run + 1 };
        longest = longest.max(run);
    }
    assert!(longest <= 24, "a cluster of {longest}");
}

/// The runs of supervisors' files at `files`, as numbers.
fn runs(guest: u32, files: &[u64], gap: Option<u64>) -> Vec<(u64, u64)> {
    let layout = layout(LayoutBits {
        guest,
        hart: 8,
        group: 1,
        group_shift: 24,
    });
    let files: Vec<_> = files.iter().copied().map(Gpa::new).collect();
    layout
        .runs(&files, gap.map(Gpa::new))
        .map(|run| (run.start.get(), run.end.get()))
        .collect()
}

#[test]
fn files_of_neighbours_are_one_run() {
    let harts: Vec<_> = (0..1024).map(|n| 0x2800_0000 + n * 0x1000).collect();
    assert_eq!(runs(0, &harts, None), [(0x2800_0000, 0x2840_0000)]);
    assert_eq!(runs(0, &[], None), []);
    assert_eq!(
        runs(0, &[0x1000, 0x3000, 0x4000, 0x100_0000], None),
        [(0x1000, 0x2000), (0x3000, 0x5000), (0x100_0000, 0x100_1000)]
    );
}

#[test]
fn files_of_guests_lie_within_a_run() {
    assert_eq!(
        runs(1, &[0x4000, 0x6000, 0x8000, 0xc000], None),
        [(0x4000, 0x9000), (0xc000, 0xd000)]
    );
}

/// An APLIC, for one.
#[test]
fn what_is_no_file_is_in_no_run() {
    let files = [0x10_0000, 0x11_0000, 0x12_0000];
    assert_eq!(
        runs(4, &files, Some(0x11_8000)),
        [(0x10_0000, 0x11_1000), (0x12_0000, 0x12_1000)]
    );
    assert_eq!(runs(4, &files, Some(0x13_0000)), [(0x10_0000, 0x12_1000)]);
}
