// SPDX-License-Identifier: GPL-2.0

//! Instructions that raise a virtual-instruction exception.

use proptest::prelude::*;

use crate::{
    arch::{
        gprs::Gprs,
        registers::GuestMode, //
    },
    bindings,
    insn::{
        csr::{
            CsrEffect,
            CsrManner,
            CsrNum,
            CsrRange, //
        }, //
        CounterEnable,
        CsrHandler,
        CsrOp,
        Illegal,
        Insn,
        SystemInsn,
    },
    isa::{
        EffectiveIsa,
        Ext,
        IsaSet, //
    }, //
};

use super::reg;

const MODES: [GuestMode; 2] = [GuestMode::User, GuestMode::Supervisor];

const CSRRW: u32 = 1;
const CSRRS: u32 = 2;
const CSRRC: u32 = 3;
const CSRRWI: u32 = 5;
const CSRRSI: u32 = 6;
const CSRRCI: u32 = 7;
const KINDS: [u32; 6] = [CSRRW, CSRRS, CSRRC, CSRRWI, CSRRSI, CSRRCI];

const SEED: u32 = 0x015;
const WFI: u32 = 0x1050_0073;
const WRS_NTO: u32 = 0x00d0_0073;
const WRS_STO: u32 = 0x01d0_0073;

/// Encodes a CSR instruction.
fn csr_insn(kind: u32, csr: u32, rd: u32, source: u32) -> u32 {
    csr << 20 | source << 15 | kind << 12 | rd << 7 | 0x73
}

/// All of `scounteren`, or nothing.
const ALL: CounterEnable = CounterEnable::from_raw(usize::MAX);
const NONE: CounterEnable = CounterEnable::from_raw(0);

/// A guest with an entropy source, and without counters.
fn with_zkr() -> EffectiveIsa {
    EffectiveIsa::of(IsaSet::EMPTY.with(Ext::Zicsr).with(Ext::Zkr))
}

/// A guest without the entropy source.
fn without_zkr() -> EffectiveIsa {
    EffectiveIsa::of(IsaSet::EMPTY.with(Ext::Zicsr))
}

fn decode(word: u32, mode: GuestMode) -> Result<SystemInsn, Illegal> {
    SystemInsn::decode(Insn::fetched(word), mode, with_zkr(), ALL, &Gprs::zeroed())
}

/// Decodes an encoded CSR instruction, whatever the CSR.
fn operation(word: u32, gprs: &Gprs) -> Option<CsrOp> {
    match Insn::fetched(word) {
        Insn::Wide(insn) => CsrOp::decode(insn, gprs),
        _ => None,
    }
}

#[test]
fn the_guests_kernel_may_wait_and_its_programs_may_only_pause() {
    assert_eq!(decode(WFI, GuestMode::Supervisor), Ok(SystemInsn::Wfi));
    assert_eq!(decode(WFI, GuestMode::User), Err(Illegal));
    for mode in MODES {
        assert_eq!(decode(WRS_NTO, mode), Ok(SystemInsn::WrsNto));
        assert_eq!(decode(WRS_STO, mode), Err(Illegal));
    }
}

#[test]
fn one_bit_more_is_another_instruction() {
    for insn in [WFI, WRS_NTO] {
        for bit in 0..32 {
            assert_eq!(decode(insn ^ 1 << bit, GuestMode::Supervisor), Err(Illegal));
        }
    }
}

#[test]
fn of_all_privileged_instructions_only_the_waits_are_emulated() {
    for rest in 0..1_u32 << 17 {
        // Every funct12 and rs1 with rd = x0; sret, sfence.vma, hfence, ecall and the like.
        let insn = rest << 15 | 0x73;
        let want = match insn {
            WFI => Ok(SystemInsn::Wfi),
            WRS_NTO => Ok(SystemInsn::WrsNto),
            _ => Err(Illegal),
        };
        assert_eq!(decode(insn, GuestMode::Supervisor), want, "{insn:#010x}");
    }
}

#[test]
fn hypervisor_accesses_and_other_opcodes_are_illegal() {
    for mode in MODES {
        for funct7 in 0..128 {
            assert_eq!(decode(funct7 << 25 | 0x4073, mode), Err(Illegal));
        }
        for opcode in (0..32).filter(|opcode| *opcode != 0b11_100) {
            let insn = csr_insn(CSRRW, SEED, 10, 0) & !0x7c | opcode << 2;
            assert_eq!(decode(insn, mode), Err(Illegal), "{insn:#010x}");
        }
    }
}

#[test]
fn compressed_and_long_instructions_are_illegal() {
    let gprs = Gprs::zeroed();
    for mode in MODES {
        for insn in (0..=0xffff_u32).filter(|insn| insn & 3 != 3) {
            assert_eq!(decode(insn, mode), Err(Illegal));
        }
        let long = SystemInsn::decode(Insn::Long, mode, with_zkr(), ALL, &gprs);
        assert_eq!(long, Err(Illegal));
    }
}

#[test]
fn of_all_csrs_only_seed_is_emulated_and_only_for_the_guests_kernel() {
    for csr in 0..1 << 12 {
        for mode in MODES {
            for kind in KINDS {
                for (rd, source) in [(0, 0), (0, 11), (10, 0), (10, 11)] {
                    let got = decode(csr_insn(kind, csr, rd, source), mode);
                    let writes = matches!(kind, CSRRW | CSRRWI) || source != 0;
                    let allowed = csr == SEED && mode == GuestMode::Supervisor && writes;
                    assert_eq!(
                        got.is_ok(),
                        allowed,
                        "{csr:#x} {mode:?} {kind} {rd} {source}"
                    );
                }
            }
        }
    }
}

#[test]
fn counters_are_read_by_whom_scounteren_lets() {
    let gprs = Gprs::zeroed();
    let zicntr = EffectiveIsa::of(IsaSet::EMPTY.with(Ext::Zicsr).with(Ext::Zicntr));
    let both = EffectiveIsa::of(
        IsaSet::EMPTY
            .with(Ext::Zicsr)
            .with(Ext::Zicntr)
            .with(Ext::Zihpm),
    );
    let allowed = |word, mode, isa, counters| {
        let insn = SystemInsn::decode(Insn::fetched(word), mode, isa, counters, &gprs);
        match insn {
            Ok(SystemInsn::Csr(access)) => {
                assert_eq!(access.handler(), CsrHandler::Counter);
                true
            }
            Ok(other) => panic!("{other:?}"),
            Err(Illegal) => false,
        }
    };
    for (csr, number) in (0xc00..0xc20).zip(0..) {
        let read = csr_insn(CSRRS, csr, 10, 0);
        // `time` is the hardware's.
        let here = csr != 0xc01;
        let only = CounterEnable::from_raw(1 << number);
        let others = CounterEnable::from_raw(!(1 << number));
        for counters in [ALL, NONE, only, others] {
            let counted = allowed(read, GuestMode::Supervisor, both, counters);
            assert_eq!(counted, here, "{csr:#x}");
            let user = allowed(read, GuestMode::User, both, counters);
            let enabled = counters == ALL || counters == only;
            assert_eq!(user, here && enabled, "{csr:#x} {counters:?}");
        }
        let fixed = number == 0 || number == 2;
        assert_eq!(allowed(read, GuestMode::Supervisor, zicntr, ALL), fixed);
        for mode in MODES {
            assert!(!allowed(csr_insn(CSRRW, csr, 10, 11), mode, both, ALL));
            assert!(!allowed(read, mode, with_zkr(), ALL));
        }
    }
}

#[test]
fn seed_goes_to_userspace_if_the_guest_has_zkr() {
    let gprs = super::gprs(|n| n * 0x1111);
    let insn = Insn::fetched(csr_insn(CSRRW, SEED, 10, 11));
    let decode = |isa| SystemInsn::decode(insn, GuestMode::Supervisor, isa, ALL, &gprs);

    assert_eq!(decode(without_zkr()), Err(Illegal));
    let Ok(SystemInsn::Csr(access)) = decode(with_zkr()) else {
        panic!("csrrw a0, seed, a1 is emulated");
    };
    assert_eq!(access.handler(), CsrHandler::Userspace);
    assert_eq!(
        *access.op(),
        CsrOp {
            csr: CsrNum::SEED,
            rd: reg(10),
            new_value: 11 * 0x1111,
            write_mask: usize::MAX,
            effect: CsrEffect::ReadWrite,
        }
    );
}

#[test]
fn a_row_admits_what_it_says_and_no_more() {
    // Not rows of the real table: a range that anybody may write, and one that nobody can.
    let row = |first, last| CsrRange {
        first: CsrNum::from_raw(first),
        last: CsrNum::from_raw(last),
        extension: Ext::Zkr,
        least: GuestMode::User,
        manner: CsrManner::MustWrite,
        handler: CsrHandler::Userspace,
    };
    let (writable, read_only) = (row(0x800, 0x8ff), row(0xc80, 0xcff));
    let gprs = Gprs::zeroed();

    for csr in 0..1 << 12 {
        let write = operation(csr_insn(CSRRW, csr, 10, 11), &gprs).unwrap();
        let read = operation(csr_insn(CSRRS, csr, 10, 0), &gprs).unwrap();
        for mode in MODES {
            let in_range = (0x800..0x900).contains(&csr);
            assert_eq!(writable.admits(&write, mode, with_zkr(), ALL), in_range);
            assert!(!writable.admits(&write, mode, without_zkr(), ALL));
            assert!(!writable.admits(&read, mode, with_zkr(), ALL));
            assert!(!read_only.admits(&write, mode, with_zkr(), ALL));
        }
    }
}

#[test]
fn spp_tells_the_mode() {
    assert_eq!(GuestMode::of_sstatus(!bindings::SR_SPP), GuestMode::User);
    assert_eq!(
        GuestMode::of_sstatus(bindings::SR_SPP),
        GuestMode::Supervisor
    );
    assert!(GuestMode::User < GuestMode::Supervisor);
}

#[test]
fn funct3_of_zero_and_four_access_no_csr() {
    let gprs = Gprs::zeroed();
    assert_eq!(operation(csr_insn(0, SEED, 10, 11), &gprs), None);
    assert_eq!(operation(csr_insn(4, SEED, 10, 11), &gprs), None);
}

proptest! {
    #[test]
    fn an_operation_is_what_the_specification_says(
        kind in prop::sample::select(&KINDS[..]),
        csr in 0_u32..1 << 12,
        rd in 0_u32..32,
        source in 0_u32..32,
        value: usize,
        old: usize,
    ) {
        let mut gprs = super::gprs(|n| !n);
        gprs.set(reg(source), value);
        let op = operation(csr_insn(kind, csr, rd, source), &gprs).unwrap();

        let value = if source == 0 { 0 } else { value };
        let immediate = source as usize;
        let want = match kind {
            CSRRW => value,
            CSRRS => old | value,
            CSRRC => old & !value,
            CSRRWI => immediate,
            CSRRSI => old | immediate,
            _ => old & !immediate,
        };
        prop_assert_eq!(old & !op.write_mask | op.new_value & op.write_mask, want);

        let swaps = matches!(kind, CSRRW | CSRRWI);
        let (reads, writes) = (!swaps || rd != 0, swaps || source != 0);
        prop_assert_eq!(op.effect, match (reads, writes) {
            (true, true) => CsrEffect::ReadWrite,
            (true, false) => CsrEffect::Read,
            (false, true) => CsrEffect::Write,
            (false, false) => panic!("no instruction does nothing"),
        });
        prop_assert_eq!(op.writes(), writes);
        prop_assert_eq!(op.rd, reg(rd));
        prop_assert_eq!(u32::from(op.csr.into_raw()), csr);
    }

    #[test]
    fn userspace_sees_the_operands_that_c_gives(source in 1_u32..32, value: usize) {
        let mut gprs = Gprs::zeroed();
        gprs.set(reg(source), value);
        let operands = |kind| {
            let op = operation(csr_insn(kind, SEED, 10, source), &gprs).unwrap();
            (op.new_value, op.write_mask)
        };
        let immediate = source as usize;
        prop_assert_eq!(operands(CSRRW), (value, usize::MAX));
        prop_assert_eq!(operands(CSRRS), (usize::MAX, value));
        prop_assert_eq!(operands(CSRRC), (0, value));
        prop_assert_eq!(operands(CSRRWI), (immediate, usize::MAX));
        prop_assert_eq!(operands(CSRRSI), (usize::MAX, immediate));
        prop_assert_eq!(operands(CSRRCI), (0, immediate));
    }

    #[test]
    fn any_word_is_decoded_or_illegal_but_never_panics(word: u32) {
        for mode in MODES {
            let _ = decode(word, mode);
        }
    }
}
