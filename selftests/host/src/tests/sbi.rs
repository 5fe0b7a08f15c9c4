// SPDX-License-Identifier: GPL-2.0

//! SBI calls: what is decoded, what is refused, and the registers that switch extensions.

use proptest::prelude::*;

use crate::{
    arch::gprs::{
        Gprs,
        Reg, //
    },
    bindings,
    kvm_core::addr::{
        Asid,
        HartId, //
    },
    sbi_abi::{
        message::{
            Base,
            Call,
            Fence,
            Few,
            HartMask,
            Harts,
            Hsm,
            Legacy,
            LegacyHarts,
            Message,
            Reset,
            ResetKind,
            SbiError,
            Span, //
        },
        table::{
            Extension,
            Multi,
            Probe,
            RegError,
            State, //
        }, //
    }, //
};

const TIME: usize = bindings::sbi_ext_id_SBI_EXT_TIME as usize;
const IPI: usize = bindings::sbi_ext_id_SBI_EXT_IPI as usize;
const RFENCE: usize = bindings::sbi_ext_id_SBI_EXT_RFENCE as usize;
const HSM: usize = bindings::sbi_ext_id_SBI_EXT_HSM as usize;
const SRST: usize = bindings::sbi_ext_id_SBI_EXT_SRST as usize;
const DBCN: usize = bindings::sbi_ext_id_SBI_EXT_DBCN as usize;
const BASE: usize = bindings::sbi_ext_id_SBI_EXT_BASE as usize;

fn decode(extension: usize, function: usize, args: [usize; 6]) -> Result<Message, SbiError> {
    let call = Call {
        extension,
        function,
        args,
    };
    Message::decode(
        Extension::of(extension).expect("an extension that exists"),
        &call,
    )
}

fn harts(mask: HartMask) -> Vec<Option<u64>> {
    mask.harts().map(|hart| hart.map(HartId::get)).collect()
}

#[test]
fn registers_of_a_call() {
    let mut gprs = Gprs::zeroed();
    for (n, value) in (10..18).zip(100..) {
        gprs.set(Reg::new(n).unwrap(), value);
    }

    assert_eq!(
        Call::of(&gprs),
        Call {
            extension: 107,
            function: 106,
            args: [100, 101, 102, 103, 104, 105],
        }
    );
}

#[test]
fn ids_of_the_kernels_header_and_no_others() {
    let known = [
        (
            bindings::sbi_ext_id_SBI_EXT_0_1_SET_TIMER,
            Extension::Legacy,
        ),
        (bindings::sbi_ext_id_SBI_EXT_0_1_SHUTDOWN, Extension::Legacy),
        (bindings::sbi_ext_id_SBI_EXT_BASE, Extension::Base),
        (bindings::sbi_ext_id_SBI_EXT_MPXY, Extension::Mpxy),
        (bindings::sbi_ext_id_SBI_EXT_PMU, Extension::Pmu),
        (bindings::sbi_ext_id_SBI_EXT_STA, Extension::Sta),
        (bindings::sbi_ext_id_SBI_EXT_SUSP, Extension::Susp),
        (
            bindings::sbi_ext_id_SBI_EXT_EXPERIMENTAL_START,
            Extension::Experimental,
        ),
        (
            bindings::sbi_ext_id_SBI_EXT_EXPERIMENTAL_END,
            Extension::Experimental,
        ),
        (bindings::sbi_ext_id_SBI_EXT_VENDOR_START, Extension::Vendor),
        (bindings::sbi_ext_id_SBI_EXT_VENDOR_END, Extension::Vendor),
    ];
    for (id, ext) in known {
        assert_eq!(Extension::of(id as usize), Some(ext), "{id:#x}");
        // All of the register counts.
        assert_eq!(Extension::of(id as usize | 1 << 32), None, "{id:#x}");
    }

    let absent = [
        9,
        0xf,
        bindings::sbi_ext_id_SBI_EXT_VENDOR_END + 1,
        bindings::sbi_ext_id_SBI_EXT_EXPERIMENTAL_START - 1,
        bindings::sbi_ext_id_SBI_EXT_NACL,
        bindings::sbi_ext_id_SBI_EXT_DBTR,
    ];
    for id in absent {
        assert_eq!(Extension::of(id as usize), None, "{id:#x}");
    }
    assert_eq!(Extension::of(usize::MAX), None);
}

#[test]
fn unknown_functions_are_not_supported() {
    for (extension, first_unknown) in [
        (BASE, 7),
        (TIME, 1),
        (IPI, 1),
        // What follows are the fences of a hypervisor.
        (RFENCE, 3),
        (HSM, 4),
        (SRST, 1),
    ] {
        for function in [first_unknown, 7, 0xffff_ffff, 1 << 32, usize::MAX] {
            assert_eq!(
                decode(extension, function, [0; 6]),
                Err(SbiError::NotSupported),
                "{extension:#x} {function:#x}"
            );
        }
        assert!(decode(extension, 0, [0; 6]).is_ok(), "{extension:#x}");
    }
}

#[test]
fn base_probes_for_the_whole_register() {
    assert_eq!(
        decode(BASE, 3, [usize::MAX, 0, 0, 0, 0, 0]),
        Ok(Message::Base(Base::Probe(usize::MAX)))
    );
}

#[test]
fn set_timer_takes_64_bits() {
    assert_eq!(
        decode(TIME, 0, [usize::MAX, 0, 0, 0, 0, 0]),
        Ok(Message::SetTimer(u64::MAX))
    );
}

#[test]
fn mask_of_harts() {
    let masked = |mask, base| match decode(IPI, 0, [mask, base, 0, 0, 0, 0]) {
        Ok(Message::SendIpi(Harts::Mask(mask))) => harts(mask),
        other => panic!("{other:?}"),
    };

    assert_eq!(masked(0, 7), []);
    assert_eq!(masked(0b1010, 0), [Some(1), Some(3)]);
    assert_eq!(
        masked(0b11, 0x1_0000_0000),
        [Some(0x1_0000_0000), Some(0x1_0000_0001)]
    );
    assert_eq!(masked(1 << 63 | 1, 64), [Some(64), Some(127)]);
    assert_eq!(masked(usize::MAX, 0).len(), 64);
    // Base -1 means all, base -2 does not: its second hart has an id, its third has none.
    assert_eq!(
        masked(0b111, usize::MAX - 1),
        [Some(u64::MAX - 1), Some(u64::MAX), None]
    );
    assert_eq!(
        decode(IPI, 0, [0b1, usize::MAX, 0, 0, 0, 0]),
        Ok(Message::SendIpi(Harts::All))
    );
}

proptest! {
    /// A mask is within a hart if the hart is all that it names, also at the ends of the id space.
    #[test]
    fn mask_is_within_one_hart(
        base in prop_oneof![0u64..70, u64::MAX - 70..=u64::MAX],
        mask in prop_oneof![Just(0u64), (0u32..64).prop_map(|bit| 1 << bit), any::<u64>()],
        offset in 0u64..140,
    ) {
        let hart = base.wrapping_add(offset).wrapping_sub(70);
        let mask = HartMask::new(base, mask);
        let within = mask.harts().all(|named| named == Some(HartId::new(hart)));
        prop_assert_eq!(mask.is_within(HartId::new(hart)), within);
        let named: Vec<_> = mask.harts().collect();
        match mask.few() {
            Few::Nobody => prop_assert!(named.is_empty()),
            Few::One(hart) => prop_assert_eq!(named, [Some(hart)]),
            Few::Perhaps => prop_assert!(!named.is_empty()),
        }
    }
}

#[test]
fn filter_of_harts() {
    let even = |hart: HartId| hart.get() % 2 == 0;

    assert_eq!(harts(HartMask::new(3, 0b111).filter(even)), [Some(4)]);
    assert_eq!(harts(HartMask::new(0, 0).filter(even)), []);
    assert_eq!(
        harts(HartMask::new(u64::MAX, 0b11).filter(|_| true)),
        [Some(u64::MAX)]
    );
}

#[test]
fn fences() {
    let span = |start, size| match decode(RFENCE, 1, [1, 0, start, size, 9, 0]) {
        Ok(Message::Fence(_, Fence::Translations { asid: None, span })) => span,
        other => panic!("{other:?}"),
    };

    assert_eq!(span(0, 0), Span::Everything);
    assert_eq!(span(0x1000, usize::MAX), Span::Everything);
    assert_eq!(span(usize::MAX, 1), Span::Everything);
    assert_eq!(
        span(usize::MAX, 0),
        Span::Bytes {
            start: usize::MAX,
            size: 0
        }
    );
    assert_eq!(
        span(0x1000, 0x2000),
        Span::Bytes {
            start: 0x1000,
            size: 0x2000
        }
    );
    assert_eq!(
        decode(RFENCE, 2, [1, 0, 0, 0, 0x1_0005, 0]),
        Ok(Message::Fence(
            Harts::Mask(HartMask::new(0, 1)),
            Fence::Translations {
                asid: Some(Asid::new(5)),
                span: Span::Everything
            }
        ))
    );
    assert_eq!(
        decode(RFENCE, 0, [0, usize::MAX, 1, 2, 3, 4]),
        Ok(Message::Fence(Harts::All, Fence::Instructions))
    );
}

#[test]
fn hart_ids_are_not_cut() {
    let id = 0x1_0000_0001;

    assert_eq!(
        decode(HSM, 0, [id, 0x8000_0000, 42, 0, 0, 0]),
        Ok(Message::Hsm(Hsm::Start {
            hart: HartId::new(id as u64),
            pc: 0x8000_0000,
            opaque: 42
        }))
    );
    assert_eq!(
        decode(HSM, 2, [id, 0, 0, 0, 0, 0]),
        Ok(Message::Hsm(Hsm::Status(HartId::new(id as u64))))
    );
}

#[test]
fn suspend_types() {
    let suspend = |kind| decode(HSM, 3, [kind, 0, 0, 0, 0, 0]);

    assert_eq!(suspend(0), Ok(Message::Hsm(Hsm::SuspendRetentive)));
    assert_eq!(
        suspend(0xffff_ffff << 32),
        Ok(Message::Hsm(Hsm::SuspendRetentive))
    );
    assert_eq!(suspend(0x8000_0000), Err(SbiError::NotSupported));
    for kind in [1, 0x1000_0000, 0x7fff_ffff, 0x8000_0001, 0xffff_ffff] {
        assert_eq!(suspend(kind), Err(SbiError::InvalidParam), "{kind:#x}");
    }
}

#[test]
fn reset_types_and_reasons() {
    let reset = |kind, reason| decode(SRST, 0, [kind, reason, 0, 0, 0, 0]);
    let asked = |kind, reason| Ok(Message::Reset(Reset { kind, reason }));

    assert_eq!(reset(0, 0), asked(ResetKind::Shutdown, 0));
    assert_eq!(reset(1, 1), asked(ResetKind::Reboot, 1));
    assert_eq!(reset(2, 0xf000_0000), asked(ResetKind::Reboot, 0xf000_0000));
    assert_eq!(
        reset(0, 0xffff_ffff),
        asked(ResetKind::Shutdown, 0xffff_ffff)
    );
    for kind in [3, 0xefff_ffff, 0xf000_0000, 0xffff_ffff] {
        assert_eq!(reset(kind, 0), Err(SbiError::InvalidParam), "{kind:#x}");
    }
    for reason in [2, 0xdfff_ffff, 0xe000_0000, 0xefff_ffff] {
        assert_eq!(reset(0, reason), Err(SbiError::InvalidParam), "{reason:#x}");
    }
}

#[test]
fn legacy_calls_ignore_the_function() {
    let legacy = |id, args| match decode(id, usize::MAX, args) {
        Ok(Message::Legacy(call)) => call,
        other => panic!("{other:?}"),
    };

    assert_eq!(legacy(0, [7, 0, 0, 0, 0, 0]), Legacy::SetTimer(7));
    assert_eq!(legacy(1, [0; 6]), Legacy::Console);
    assert_eq!(legacy(2, [0; 6]), Legacy::Console);
    assert_eq!(legacy(3, [0; 6]), Legacy::ClearIpi);
    assert_eq!(legacy(4, [0; 6]), Legacy::SendIpi(LegacyHarts::All));
    assert_eq!(
        legacy(4, [0x1000, 0, 0, 0, 0, 0]),
        Legacy::SendIpi(LegacyHarts::VectorAt(0x1000))
    );
    assert_eq!(
        legacy(5, [0; 6]),
        Legacy::Fence(LegacyHarts::All, Fence::Instructions)
    );
    assert_eq!(
        legacy(6, [8, 0x2000, usize::MAX, 3, 0, 0]),
        Legacy::Fence(
            LegacyHarts::VectorAt(8),
            Fence::Translations {
                asid: None,
                span: Span::Everything
            }
        )
    );
    assert_eq!(
        legacy(7, [0, 0x2000, 0x1000, 3, 0, 0]),
        Legacy::Fence(
            LegacyHarts::All,
            Fence::Translations {
                asid: Some(Asid::new(3)),
                span: Span::Bytes {
                    start: 0x2000,
                    size: 0x1000
                }
            }
        )
    );
    assert_eq!(legacy(8, [0; 6]), Legacy::Shutdown);
}

#[test]
fn error_codes_are_sign_extended() {
    assert_eq!(SbiError::NotSupported.code(), usize::MAX - 1);
    assert_eq!(SbiError::AlreadyAvailable.code() as isize, -6);
}

#[test]
fn what_a_new_vcpu_has() {
    let state = State::new(|_| true);

    assert_eq!(state.find(BASE), Some(Extension::Base));
    assert_eq!(state.find(HSM), Some(Extension::Hsm));
    assert_eq!(state.find(0x0900_1234), Some(Extension::Vendor));
    assert_eq!(state.find(DBCN), None);
    assert_eq!(Extension::Vendor.probe(), Probe::Userspace);
    assert_eq!(Extension::Dbcn.probe(), Probe::Implemented);
}

#[test]
fn registers_switch_extensions() {
    let dbcn = u64::from(bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_DBCN);
    let hsm = u64::from(bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_HSM);
    let mut state = State::new(|_| true);

    assert_eq!(state.get(dbcn), Ok(false));
    assert_eq!(state.set(dbcn, 1), Ok(()));
    assert_eq!(state.get(dbcn), Ok(true));
    assert_eq!(state.find(DBCN), Some(Extension::Dbcn));
    assert_eq!(state.set(hsm, 0), Ok(()));
    assert_eq!(state.find(HSM), None);
    assert_eq!(state.set(hsm, 2), Err(RegError::Invalid));
    assert_eq!(state.get(hsm), Ok(false));
}

#[test]
fn extensions_that_do_not_exist_have_no_register() {
    let absent = [
        Extension::Pmu,
        Extension::Sta,
        Extension::Susp,
        Extension::Fwft,
    ];
    let mut state = State::new(|ext| !absent.contains(&ext));

    for id in [
        bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_PMU,
        bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_STA,
        bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_SUSP,
        bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_FWFT,
        bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_MAX,
        u32::MAX,
    ] {
        let id = u64::from(id);
        assert_eq!(state.get(id), Err(RegError::NotFound), "{id}");
        assert_eq!(state.set(id, 1), Err(RegError::NotFound), "{id}");
        assert_eq!(state.set(id, 2), Err(RegError::Invalid), "{id}");
    }
}

#[test]
fn multi_registers() {
    let mut state = State::new(|ext| ext != Extension::Pmu);
    let before = state.get_multi(Multi::Enable, 0).unwrap();
    let dbcn = 1 << bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_DBCN;
    let pmu = 1 << bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_PMU;

    assert_eq!(before & dbcn, 0);
    assert_eq!(state.get_multi(Multi::Disable, 0), Ok(!before));
    // All or nothing.
    assert_eq!(
        state.set_multi(Multi::Enable, 0, dbcn | pmu),
        Err(RegError::NotFound)
    );
    assert_eq!(state.get_multi(Multi::Enable, 0), Ok(before));
    assert_eq!(state.set_multi(Multi::Enable, 0, dbcn), Ok(()));
    assert_eq!(state.get_multi(Multi::Enable, 0), Ok(before | dbcn));
    // What was read can be written.
    assert_eq!(state.set_multi(Multi::Disable, 0, !before), Ok(()));
    assert_eq!(state.get_multi(Multi::Enable, 0), Ok(before));
    assert_eq!(state.set_multi(Multi::Disable, 0, u64::MAX), Ok(()));
    assert_eq!(state.get_multi(Multi::Enable, 0), Ok(0));
    // The base extension has no register.
    assert_eq!(state.find(BASE), Some(Extension::Base));

    for multi in [Multi::Enable, Multi::Disable] {
        assert_eq!(state.get_multi(multi, 1), Err(RegError::NotFound));
        assert_eq!(state.set_multi(multi, 1, 0), Err(RegError::NotFound));
    }
}
