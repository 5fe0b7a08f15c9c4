// SPDX-License-Identifier: GPL-2.0

//! The priorities of major interrupts, as the guest sees them.

use proptest::prelude::*;

use crate::aia::imsic::iprio::{
    NoRow,
    Priorities,
    Row, //
};

/// The layout of the two registers, byte by byte, as the specification's tables have it.
const HVIPRIO: [[u32; 8]; 2] = [
    [0, 1, 4, 5, 8, 13, 14, 15],
    [16, 17, 18, 19, 20, 21, 22, 23],
];

fn row(interrupt: u32) -> Row {
    Row::select(u64::from(0x30 + interrupt / 8 * 2)).unwrap()
}

#[test]
fn rows_are_the_even_numbers() {
    for select in 0..0x100u64 {
        match (select, Row::select(select)) {
            (0x30..=0x3f, Ok(_)) => assert_eq!(select % 2, 0),
            (0x30..=0x3f, Err(NoRow::Odd)) => assert_eq!(select % 2, 1),
            (_, Err(NoRow::Elsewhere)) => assert!(!(0x30..=0x3f).contains(&select)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn each_priority_is_in_its_byte() {
    for interrupt in 0..64 {
        let mut priorities = Priorities::default();
        let shift = interrupt % 8 * 8;
        priorities.modify(row(interrupt), 0xab << shift, 0xff << shift);
        let mut expected = [0; 2];
        for (register, bytes) in HVIPRIO.iter().enumerate() {
            if let Some(byte) = bytes.iter().position(|&held| held == interrupt) {
                expected[register] = 0xab << (byte * 8);
            }
        }
        assert_eq!(priorities.0, expected, "interrupt {interrupt}");
        let held = expected != [0; 2];
        let value = priorities.read(row(interrupt));
        assert_eq!(value, if held { 0xab << shift } else { 0 });
    }
}

proptest! {
    #[test]
    fn rows_read_what_was_written(
        start in any::<[u64; 2]>(), number in 0..8u32, value in any::<u64>(), mask in any::<u64>(),
    ) {
        let mut priorities = Priorities(start);
        let row = row(number * 8);
        let old = priorities.read(row);
        let mut held = Priorities::default();
        held.modify(row, u64::MAX, u64::MAX);
        let held = held.read(row);
        priorities.modify(row, value, mask);
        prop_assert_eq!(priorities.read(row), old & !mask | value & mask & held);
        for other in (0..8).filter(|&other| other != number) {
            let row = Row::select(u64::from(0x30 + other * 2)).unwrap();
            prop_assert_eq!(priorities.read(row), Priorities(start).read(row));
        }
    }
}
