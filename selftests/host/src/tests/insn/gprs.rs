// SPDX-License-Identifier: GPL-2.0

//! The register file.

use crate::arch::gprs::{
    Gprs,
    Reg, //
};

use super::reg;

#[test]
fn there_are_32_registers() {
    for number in 0..=u8::MAX {
        assert_eq!(Reg::new(number).is_some(), number < 32);
    }
}

#[test]
fn a_register_keeps_its_own_value() {
    let gprs = super::gprs(|n| n * 0x0101_0101_0101_0101);
    for n in 0..32 {
        assert_eq!(gprs.get(reg(n)), n as usize * 0x0101_0101_0101_0101);
    }
}

#[test]
fn x0_stays_zero_and_disturbs_no_other() {
    let mut gprs = super::gprs(|n| !n);
    let before = gprs.clone();
    gprs.set(reg(0), usize::MAX);

    assert_eq!(gprs.get(reg(0)), 0);
    assert!(gprs == before);
    assert!(reg(0).is_zero());
    assert!((1..32).all(|n| !reg(n).is_zero()));
}

#[test]
fn named_registers_have_the_numbers_of_the_calling_convention() {
    let args = [
        Reg::A0,
        Reg::A1,
        Reg::A2,
        Reg::A3,
        Reg::A4,
        Reg::A5,
        Reg::A6,
        Reg::A7,
    ];
    for (named, n) in args.into_iter().zip(10..) {
        assert_eq!(named, reg(n));
    }
    assert_eq!(Reg::SP, reg(2));
}

#[test]
fn the_world_switch_finds_register_n_at_eight_n() {
    let gprs = super::gprs(|n| n);
    let base = (&raw const gprs).cast::<usize>();
    assert_eq!(size_of::<Gprs>(), 256);
    for n in 0..32 {
        // SAFETY: the struct has 32 words, and `n` is one of them.
        assert_eq!(unsafe { base.add(n).read() }, n);
    }
}
