// SPDX-License-Identifier: GPL-2.0

//! The register `htinst`.

use proptest::prelude::*;

use crate::{
    arch::gprs::Gprs,
    insn::{
        mmio::Undecodable, //
        Htinst,
        Insn,
        InsnLen,
        MmioInsn,
        PteAccess,
    },
    kvm_core::addr::Gpa, //
};

use super::{
    mmio::{
        direction,
        expected, //
    },
    reference, //
};

/// What becomes of an access that faulted at an aligned address, told by `raw` alone.
fn decode(raw: usize, load: bool) -> Result<MmioInsn, Undecodable> {
    let insn = Htinst::decode(raw).instruction()?.unwrap();
    MmioInsn::decode(
        insn,
        direction(load),
        Gpa::new(0x1000_0000),
        &Gprs::zeroed(),
    )
}

#[test]
fn zero_means_that_the_instruction_has_to_be_fetched() {
    assert_eq!(Htinst::decode(0), Htinst::Absent);
    assert_eq!(Htinst::Absent.instruction(), Ok(None));
}

#[test]
fn a_page_table_walk_is_not_the_instructions_own_access() {
    for (raw, access) in [
        (0x2000, PteAccess::Read),
        (0x2020, PteAccess::Write),
        (0x3000, PteAccess::Read),
        (0x3020, PteAccess::Write),
    ] {
        let htinst = Htinst::decode(raw);
        assert_eq!(htinst, Htinst::Pseudo(access), "{raw:#x}");
        assert_eq!(htinst.instruction(), Err(Undecodable::PageTableWalk));
    }
}

#[test]
fn a_transformed_access_decodes_like_the_original() {
    let wide = (0..1 << 13).flat_map(|n: u32| {
        // Every funct3, rd and rs2 of both opcodes.
        let (funct3, rd, rs2) = (n >> 10, n >> 5 & 31, n & 31);
        [0x03, 0x23].map(|op| rs2 << 20 | funct3 << 12 | rd << 7 | op)
    });
    let compressed = (0..=0xffff_u32).filter(|insn| insn & 3 != 3);

    let mut seen = 0;
    for access in wide.chain(compressed).filter_map(reference::decode) {
        let raw = reference::htinst(&access, 0);
        assert_eq!(decode(raw, access.load), Ok(expected(&access)), "{raw:#x}");
        seen += 1;
    }
    assert!(seen > 20_000, "{seen}");
}

#[test]
fn the_zeroes_where_the_immediate_was_do_not_count() {
    let lw_a0 = 0x2503;
    assert_eq!(
        decode(lw_a0 | 0xfff0_0000, true),
        decode(lw_a0, true),
        "a future specification may put hints there",
    );
}

#[test]
fn a_fault_in_the_middle_of_an_access_means_that_it_was_misaligned() {
    let lw_a0 = reference::decode(0x0000_2503).unwrap();
    for distance in 1..4 {
        let raw = reference::htinst(&lw_a0, distance);
        assert_eq!(decode(raw, true), Err(Undecodable::Misaligned));
    }
}

#[test]
fn custom_instructions_are_told_apart_whatever_their_length() {
    for opcode in [0x0b, 0x2b, 0x5b, 0x7b] {
        for raw in [opcode, opcode & !2, opcode | 0xffff_f000] {
            assert_eq!(Htinst::decode(raw), Htinst::Custom, "{raw:#x}");
            assert_eq!(decode(raw, true), Err(Undecodable::Custom));
        }
    }
}

#[test]
fn values_that_no_specification_defines_are_reserved() {
    // Pseudoinstructions that do not exist; quadrant 2; longer than 32 bits; above bit 31.
    for raw in [
        4,
        0x1000,
        0x2004,
        0x3022,
        0x4000,
        2,
        0x2502,
        0x1f,
        0x3d,
        0xffff_ffff,
        1 << 32,
        0x1_0000_2503,
    ] {
        assert_eq!(Htinst::decode(raw), Htinst::Reserved, "{raw:#x}");
        assert_eq!(decode(raw, true), Err(Undecodable::Unknown));
    }
}

proptest! {
    #[test]
    fn any_value_decodes_to_what_its_low_bits_say(raw: usize) {
        match Htinst::decode(raw) {
            Htinst::Absent => prop_assert_eq!(raw, 0),
            Htinst::Transformed(Insn::Transformed(_, len)) => {
                prop_assert_eq!(raw & 1, 1);
                prop_assert_eq!(len == InsnLen::Four, raw & 2 != 0);
            }
            Htinst::Transformed(other) => prop_assert!(false, "{other:?}"),
            Htinst::Pseudo(_) => prop_assert_eq!(raw & !0x1020, 0x2000),
            Htinst::Custom => prop_assert_eq!(raw & 1, 1),
            Htinst::Reserved => prop_assert_ne!(raw, 0),
        }
    }

    #[test]
    fn any_word_decodes_or_faults_but_never_panics(raw: u32, load: bool) {
        if let Ok(Some(insn)) = Htinst::decode(raw as usize).instruction() {
            let _ = MmioInsn::decode(insn, direction(load), Gpa::new(0), &Gprs::zeroed());
        }
    }
}
