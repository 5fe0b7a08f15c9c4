// SPDX-License-Identifier: GPL-2.0

//! Loads and stores.

use proptest::prelude::*;

use crate::{
    arch::gprs::Gprs,
    insn::{
        mmio::{
            Extend,
            Store,
            Undecodable,
            Width, //
        }, //
        Direction,
        Htinst,
        Insn,
        InsnLen,
        Load,
        MmioInsn,
        MmioOp,
    },
    kvm_core::addr::Gpa, //
};

use super::{
    reference::{
        self,
        Access, //
    },
    reg, //
};

pub(super) fn direction(load: bool) -> Direction {
    if load {
        Direction::Load
    } else {
        Direction::Store
    }
}

fn width(bytes: u64) -> Width {
    match bytes {
        1 => Width::Byte,
        2 => Width::Half,
        4 => Width::Word,
        8 => Width::Double,
        _ => panic!("no access has {bytes} bytes"),
    }
}

/// The decoder's word for what the reference found.
pub(super) fn expected(access: &Access) -> MmioInsn {
    let width = width(access.bytes);
    let op = if access.load {
        MmioOp::Load(Load {
            rd: reg(access.reg),
            width,
            extend: if access.signed {
                Extend::Sign
            } else {
                Extend::Zero
            },
        })
    } else {
        MmioOp::Store(Store {
            rs2: reg(access.reg),
            width,
        })
    };
    let len = match access.len {
        2 => InsnLen::Two,
        _ => InsnLen::Four,
    };
    MmioInsn { op, len }
}

/// Where the access of `word` begins; anything if it is none.
fn address(word: u32, gprs: &Gprs) -> u64 {
    reference::decode(word).map_or(0, |access| {
        (gprs.get(reg(access.base)) as u64).wrapping_add_signed(access.offset)
    })
}

/// Decodes `word` as an access that faults at its beginning, within an identity-mapped guest.
fn decode(word: u32, load: bool, gprs: &Gprs) -> Result<MmioInsn, Undecodable> {
    let gpa = Gpa::new(address(word, gprs));
    MmioInsn::decode(Insn::fetched(word), direction(load), gpa, gprs)
}

/// Compares both decoders on one instruction; true if it is an access.
fn check(word: u32, gprs: &Gprs) -> bool {
    let Some(access) = reference::decode(word) else {
        for load in [true, false] {
            let got = decode(word, load, gprs);
            assert!(
                !matches!(
                    got,
                    Ok(_) | Err(Undecodable::Misaligned | Undecodable::Rewritten)
                ),
                "{word:#010x} is no access but {got:?}"
            );
        }
        return false;
    };
    let want = if address(word, gprs) % access.bytes == 0 {
        Ok(expected(&access))
    } else {
        Err(Undecodable::Misaligned)
    };
    assert_eq!(decode(word, access.load, gprs), want, "{word:#010x}");
    assert_eq!(
        decode(word, !access.load, gprs),
        Err(Undecodable::Rewritten),
        "{word:#010x}"
    );
    true
}

/// Registers of every alignment: the low three bits are those of the register number.
fn odd_registers() -> Gprs {
    super::gprs(|n| n << 20 | n & 7)
}

fn aligned_registers() -> Gprs {
    super::gprs(|n| n << 20)
}

#[test]
fn every_compressed_encoding_decodes_as_the_reference_says() {
    let (odd, aligned) = (odd_registers(), aligned_registers());
    let mut accesses = 0;
    for insn in (0..=0xffff_u32).filter(|insn| insn & 3 != 3) {
        accesses += u32::from(check(insn, &aligned));
        check(insn, &odd);
    }
    // Per row: the encodings that its mask leaves free, less those with rd = x0.
    let free = |mask: u32| 1_u32 << (16 - mask.count_ones());
    let all: u32 = reference::ROWS
        .iter()
        .filter(|row| row.value & 3 != 3)
        .map(|row| free(row.mask) - if row.nonzero { 1 << 6 } else { 0 })
        .sum();
    assert_eq!(accesses, all);
}

#[test]
fn every_load_decodes_as_the_reference_says() {
    let (odd, aligned) = (odd_registers(), aligned_registers());
    // All low immediates, under patterns of high ones.
    let highs = [0, 0xff8, 0x550, 0xaa8, 0x800, 0x7f8];
    for n in 0..1_u32 << 16 {
        let (funct3, rd, rs1, low) = (n >> 13, n >> 8 & 31, n >> 3 & 31, n & 7);
        for high in highs {
            let word = (high | low) << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | 0x03;
            assert_eq!(check(word, &aligned), funct3 != 7);
            check(word, &odd);
        }
    }
}

#[test]
fn every_store_decodes_as_the_reference_says() {
    let (odd, aligned) = (odd_registers(), aligned_registers());
    let highs = [0, 0x7f, 0x2a, 0x55];
    for n in 0..1_u32 << 18 {
        let (funct3, low, rs1, rs2) = (n >> 15, n >> 10 & 31, n >> 5 & 31, n & 31);
        for high in highs {
            let word = high << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | low << 7 | 0x23;
            assert_eq!(check(word, &aligned), funct3 < 4);
            check(word, &odd);
        }
    }
}

#[test]
fn no_other_opcode_is_an_access() {
    let gprs = aligned_registers();
    for n in 0..1_u32 << 15 {
        let (opcode, funct3, rest) = (n >> 10, n >> 7 & 7, n & 127);
        let word = rest << 25 | (rest & 31) << 15 | funct3 << 12 | (rest & 31) << 7;
        let access = opcode == 0b00_000 && funct3 != 7 || opcode == 0b01_000 && funct3 < 4;
        assert_eq!(check(word | opcode << 2 | 3, &gprs), access);
    }
}

#[test]
fn what_cannot_be_completed_says_why() {
    let gprs = aligned_registers();
    for (word, load, why) in [
        (0x0005_2507, true, Undecodable::FloatOrVector), // flw fa0, (a0)
        (0x00a5_3027, false, Undecodable::FloatOrVector), // fsd fa0, (a0)
        (0x0205_6007, true, Undecodable::FloatOrVector), // vle32.v v0, (a0)
        (0x2108, true, Undecodable::FloatOrVector),      // c.fld fa0, (a0)
        (0xa108, false, Undecodable::FloatOrVector),     // c.fsd fa0, (a0)
        (0x2502, true, Undecodable::FloatOrVector),      // c.fldsp fa0, (sp)
        (0xa02a, false, Undecodable::FloatOrVector),     // c.fsdsp fa0, (sp)
        (0x00b5_252f, false, Undecodable::Atomic),       // amoadd.w a0, a1, (a0)
        (0x1005_252f, true, Undecodable::Atomic),        // lr.w a0, (a0)
        (0x18b5_252f, false, Undecodable::Atomic),       // sc.w a0, a1, (a0)
        (0x0045_200f, false, Undecodable::CacheBlock),   // cbo.zero (a0)
        (0x6005_4573, true, Undecodable::System),        // hlv.b a0, (a0)
        (0x0000_000b, true, Undecodable::Custom),
        (0x0000_002b, true, Undecodable::Custom),
        (0x0000_005b, true, Undecodable::Custom),
        (0x0000_007b, true, Undecodable::Custom),
        (0x0000_7003, true, Undecodable::Unknown), // LOAD, reserved width
        (0x0000_4023, false, Undecodable::Unknown), // STORE, reserved width
        (0x4002, true, Undecodable::Unknown),      // c.lwsp x0, (sp)
        (0x6002, true, Undecodable::Unknown),      // c.ldsp x0, (sp)
        (0x8c40, false, Undecodable::Unknown),     // Zcb, c.sh with bit 6 set
        (0x9000, true, Undecodable::Unknown),      // Zcb, reserved
        (0x0000_0013, true, Undecodable::Unknown), // nop
        (0x0001, true, Undecodable::Unknown),      // c.nop
        (0x0000, true, Undecodable::Unknown),      // illegal
    ] {
        assert_eq!(decode(word, load, &gprs), Err(why), "{word:#010x}");
    }
    assert_eq!(
        MmioInsn::decode(Insn::Long, Direction::Load, Gpa::new(0), &gprs),
        Err(Undecodable::Unknown)
    );
}

#[test]
fn stores_with_bits_11_to_7_clear_are_stores() {
    // C takes those bits for a register that must not be x0: offset 0 was refused.
    let gprs = aligned_registers();
    for (word, name) in [(0xe02a, "c.sdsp a0, 0(sp)"), (0xc02a, "c.swsp a0, 0(sp)")] {
        assert!(decode(word, false, &gprs).is_ok(), "{name}");
    }
}

#[test]
fn an_access_that_faults_in_its_second_page_is_misaligned() {
    // lw a0, -2(a1) with a1 at the page: the first page is mapped, the fault is at the second.
    let gprs = super::gprs(|n| n << 20);
    let lw = 0xffe5_a503;
    assert_eq!(
        MmioInsn::decode(
            Insn::fetched(lw),
            Direction::Load,
            Gpa::new(11 << 20),
            &gprs
        ),
        Err(Undecodable::Misaligned)
    );
}

#[test]
fn an_access_that_faults_off_its_alignment_is_misaligned() {
    let gprs = aligned_registers();
    // Transformed and fetched: ld a0, (a1); then sd a1, (a0).
    for (insn, load) in [
        (Htinst::decode(0x3503).instruction().unwrap().unwrap(), true),
        (Insn::fetched(0x0005_b503), true),
        (
            Htinst::decode(0x00b0_3023).instruction().unwrap().unwrap(),
            false,
        ),
        (Insn::fetched(0x00b5_3023), false),
    ] {
        for offset in 0..16 {
            let gpa = Gpa::new(0x1000_0000 + offset);
            let got = MmioInsn::decode(insn, direction(load), gpa, &gprs);
            if offset % 8 == 0 {
                assert!(got.is_ok());
            } else {
                assert_eq!(got, Err(Undecodable::Misaligned));
            }
        }
    }
}

#[test]
fn an_address_that_wraps_around_is_no_reason_to_panic() {
    let gprs = super::gprs(|_| usize::MAX);
    let lb = 0x0075_8503; // lb a0, 7(a1)
    let lw = 0x0035_a503; // lw a0, 3(a1)
    let gpa = Gpa::new(0x1000);
    for (word, ok) in [(lb, true), (lw, false)] {
        let got = MmioInsn::decode(Insn::fetched(word), Direction::Load, gpa, &gprs);
        assert_eq!(got.is_ok(), ok, "{word:#x}");
    }
}

#[test]
fn a_load_to_x0_leaves_nothing_behind() {
    let mut gprs = aligned_registers();
    let Ok(MmioInsn {
        op: MmioOp::Load(load),
        ..
    }) = decode(0x0005_a003, true, &gprs)
    else {
        panic!("lw x0, (a1) is a load");
    };
    let before = gprs.clone();
    load.complete(&mut gprs, [0xff; 8]);
    assert!(gprs == before);

    let store = Store {
        rs2: reg(0),
        width: Width::Word,
    };
    assert_eq!(store.data(&gprs), [0; 8]);
}

proptest! {
    #[test]
    fn any_word_is_decoded_as_the_reference_says(word: u32, seed: usize) {
        let gprs = super::gprs(|n| seed.rotate_left(n as u32));
        if word & 0x1f != 0x1f {
            check(word, &gprs);
        }
    }

    #[test]
    fn a_loaded_value_is_extended_as_its_type_says(bits: u64, rd in 1_u32..32) {
        let data = bits.to_le_bytes();
        for (width, signed, unsigned) in [
            (Width::Byte, bits as i8 as usize, bits as u8 as usize),
            (Width::Half, bits as i16 as usize, bits as u16 as usize),
            (Width::Word, bits as i32 as usize, bits as u32 as usize),
            (Width::Double, bits as usize, bits as usize),
        ] {
            for (extend, want) in [(Extend::Sign, signed), (Extend::Zero, unsigned)] {
                let load = Load { rd: reg(rd), width, extend };
                prop_assert_eq!(load.value(data), want);

                let mut gprs = aligned_registers();
                load.complete(&mut gprs, data);
                let mut changed = aligned_registers();
                changed.set(reg(rd), want);
                prop_assert_eq!(gprs, changed);
            }
        }
    }

    #[test]
    fn a_stored_value_is_cut_to_its_width(value: usize, rs2 in 1_u32..32) {
        let mut gprs = aligned_registers();
        gprs.set(reg(rs2), value);
        for bytes in [1, 2, 4, 8] {
            let store = Store { rs2: reg(rs2), width: width(bytes) };
            prop_assert_eq!(u64::from(store.width.bytes()), bytes);
            let data = store.data(&gprs);
            let (low, high) = data.split_at(bytes as usize);
            prop_assert_eq!(low, &value.to_le_bytes()[..bytes as usize]);
            prop_assert!(high.iter().all(|byte| *byte == 0));
        }
    }
}
