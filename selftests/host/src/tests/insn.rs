// SPDX-License-Identifier: GPL-2.0

//! Instruction decoding, against a second decoder that works from a table of masks.

use crate::{
    arch::gprs::{
        Gprs,
        Reg, //
    },
    insn::{
        Htinst,
        Insn,
        InsnLen, //
    }, //
};

mod gprs;
mod htinst;
mod mmio;
mod reference;
mod system;

/// The register `number`.
fn reg(number: u32) -> Reg {
    u8::try_from(number).ok().and_then(Reg::new).unwrap()
}

/// Registers where `value` tells what each of x1 to x31 holds.
fn gprs(value: impl Fn(usize) -> usize) -> Gprs {
    let mut gprs = Gprs::zeroed();
    for n in 1..32 {
        gprs.set(reg(n), value(n as usize));
    }
    gprs
}

#[test]
fn the_low_bits_tell_how_long_an_instruction_is() {
    for low in 0..=u16::MAX {
        let word = 0xabcd_0000 | u32::from(low);
        match Insn::fetched(word) {
            Insn::Compressed(bits) => {
                assert_ne!(low & 3, 3);
                assert_eq!(bits.into_raw(), low);
            }
            Insn::Wide(bits) => {
                assert!(low & 3 == 3 && low & 0x1f != 0x1f);
                assert_eq!(bits.into_raw(), word);
            }
            Insn::Long => assert_eq!(low & 0x1f, 0x1f),
            Insn::Transformed(..) => panic!("memory holds no transformed instruction"),
        }
    }
}

#[test]
fn an_instruction_is_as_long_as_its_name_says() {
    assert_eq!(InsnLen::Two.bytes(), 2);
    assert_eq!(InsnLen::Four.bytes(), 4);
}

#[test]
fn stval_of_zero_means_that_the_instruction_has_to_be_fetched() {
    assert_eq!(Insn::from_stval(0), None);
    assert_eq!(
        Insn::from_stval(0x1050_0073),
        Some(Insn::fetched(0x1050_0073))
    );
    assert_eq!(Insn::from_stval(0x4501), Some(Insn::fetched(0x4501)));
    assert_eq!(Insn::from_stval(0x1_0000_0073), Some(Insn::Long));
}

#[test]
fn an_instruction_reports_its_bits_as_far_as_they_are_known() {
    assert_eq!(Insn::fetched(0xc000_2573).stval(), 0xc000_2573);
    assert_eq!(Insn::fetched(0xffff_4501).stval(), 0x4501);
    let transformed = Htinst::decode(0x2501).instruction().unwrap().unwrap();
    assert_eq!(transformed.stval(), 0x2501);
    assert_eq!(Insn::Long.stval(), 0);
}
