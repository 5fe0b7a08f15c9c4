// SPDX-License-Identifier: GPL-2.0

//! What calls ask for, and which events there are.

use super::{
    named, //
    CYCLES,
    FIRMWARE,
    SET_TIMER,
};
use crate::{
    bindings,
    kvm_core::addr::Gpa,
    sbi_abi::{
        message::{
            pmu::{
                Choice,
                Configure,
                Events,
                Filter,
                Initial,
                Pmu,
                Report,
                Run,
                Value, //
            }, //
            Call,
            Message,
            SbiError,
        },
        table::Extension, //
    },
    vcpu::pmu::event::{
        Event,
        FirmwareEvent, //
    }, //
};

#[test]
fn numbers_of_events() {
    let hardware = |idx, data| match Event::decode(idx, data) {
        Some(Event::Hardware(event)) => Some((event.kind, event.config)),
        _ => None,
    };
    assert_eq!(
        hardware(CYCLES, 7),
        Some((bindings::perf_type_id_PERF_TYPE_HARDWARE, 0))
    );
    assert_eq!(
        hardware(10, 0),
        Some((bindings::perf_type_id_PERF_TYPE_HARDWARE, 9))
    );
    // A miss of a write in the node.
    assert_eq!(
        hardware(0x1_0000 | 6 << 3 | 1 << 1 | 1, 0),
        Some((
            bindings::perf_type_id_PERF_TYPE_HW_CACHE,
            6 | 1 << 8 | 1 << 16
        ))
    );
    assert_eq!(
        hardware(0x2_0000, u64::MAX),
        Some((bindings::perf_type_id_PERF_TYPE_RAW, u64::MAX >> 16))
    );
    assert_eq!(
        hardware(0x3_0000, u64::MAX),
        Some((bindings::perf_type_id_PERF_TYPE_RAW, u64::MAX >> 8))
    );
    assert_eq!(
        Event::decode(SET_TIMER, 0),
        Some(Event::Firmware(FirmwareEvent::SetTimer))
    );
    assert_eq!(
        Event::decode(FIRMWARE | 21, 0),
        Some(Event::Firmware(FirmwareEvent::HfenceVvmaAsidReceived))
    );
    for none in [
        0,
        11,
        0x1234,
        0x1_0000 | 7 << 3,
        0x1_0000 | 3 << 1,
        0x1_ffff,
        0x2_0001,
        0x3_0001,
        0x4_0000,
        0xe_0001,
        FIRMWARE | 22,
        FIRMWARE | 0xffff,
        1 << 20 | CYCLES,
        1 << 32 | CYCLES,
        u64::MAX,
    ] {
        assert_eq!(Event::decode(none, 0), None, "{none:#x}");
    }
}

fn decode(function: usize, args: [usize; 6]) -> Result<Pmu, SbiError> {
    let call = Call {
        extension: bindings::sbi_ext_id_SBI_EXT_PMU as usize,
        function,
        args,
    };
    Message::decode(Extension::Pmu, &call).map(|message| match message {
        Message::Pmu(call) => call,
        other => panic!("{other:?}"),
    })
}

#[test]
fn calls() {
    assert_eq!(decode(0, [9; 6]), Ok(Pmu::Number));
    assert_eq!(decode(1, [7, 0, 0, 0, 0, 0]), Ok(Pmu::Info(7)));
    assert_eq!(
        decode(2, [3, 5, 0b110_0111, 0x2_0000, 0xabc, 0]),
        Ok(Pmu::Configure(Configure {
            counters: named(3, 5),
            choice: Choice::First,
            value: Value::Clear,
            run: Run::Started,
            filter: Filter {
                user: true,
                supervisor: true,
            },
            event: 0x2_0000,
            data: 0xabc,
        }))
    );
    assert_eq!(
        decode(3, [3, 5, 0, 8, 0, 0]),
        Ok(Pmu::Start(named(3, 5), Initial::Current))
    );
    assert_eq!(
        decode(3, [3, 5, 1, 8, 0, 0]),
        Ok(Pmu::Start(named(3, 5), Initial::Value(8)))
    );
    assert_eq!(
        decode(3, [3, 5, 2, 8, 0, 0]),
        Ok(Pmu::Start(named(3, 5), Initial::Snapshot))
    );
    assert_eq!(
        decode(4, [3, 5, 3, 8, 0, 0]),
        Ok(Pmu::Stop {
            counters: named(3, 5),
            events: Events::Reset,
            report: Report::Snapshot,
        })
    );
    assert_eq!(decode(5, [7; 6]), Ok(Pmu::Read(7)));
    assert_eq!(decode(6, [7; 6]), Ok(Pmu::ReadHigh(7)));
    assert_eq!(
        decode(7, [0x8000_0000, 0, 0, 1, 1, 1]),
        Ok(Pmu::SetSnapshot(Some(Gpa::new(0x8000_0000))))
    );
    assert_eq!(
        decode(7, [usize::MAX, usize::MAX, 0, 1, 1, 1]),
        Ok(Pmu::SetSnapshot(None))
    );
    assert_eq!(
        decode(8, [0x8000_0010, 0, 3, 0, 1, 1]),
        Ok(Pmu::EventInfo {
            at: Gpa::new(0x8000_0010),
            count: 3,
        })
    );
}

#[test]
fn calls_that_mean_nothing() {
    for function in [9, 0xffff_ffff, 1 << 32, usize::MAX] {
        assert_eq!(decode(function, [0; 6]), Err(SbiError::NotSupported));
    }
    let invalid = Err(SbiError::InvalidParam);
    for bit in 8..64 {
        assert_eq!(decode(2, [0, 1, 1 << bit, CYCLES as usize, 0, 0]), invalid);
    }
    for bit in 2..64 {
        assert_eq!(decode(3, [0, 1, 1 << bit, 0, 0, 0]), invalid);
        assert_eq!(decode(4, [0, 1, 1 << bit, 0, 0, 0]), invalid);
    }
    // One or the other.
    assert_eq!(decode(3, [0, 1, 3, 0, 0, 0]), invalid);
    for bit in 0..12 {
        assert_eq!(decode(7, [1 << bit, 0, 0, 0, 0, 0]), invalid);
    }
    for bit in 0..4 {
        assert_eq!(decode(8, [1 << bit, 0, 1, 0, 0, 0]), invalid);
    }
    assert_eq!(decode(7, [usize::MAX, usize::MAX, 1, 0, 0, 0]), invalid);
    assert_eq!(decode(7, [4096, 0, 1, 0, 0, 0]), invalid);
    assert_eq!(decode(8, [4096, 0, 0, 0, 0, 0]), invalid);
    assert_eq!(decode(8, [4096, 0, 1, 1, 0, 0]), invalid);
    let nowhere = Err(SbiError::InvalidAddress);
    assert_eq!(decode(7, [4096, 1, 0, 0, 0, 0]), nowhere);
    assert_eq!(decode(7, [4096, usize::MAX, 0, 0, 0, 0]), nowhere);
    assert_eq!(decode(8, [4096, 1, 1, 0, 0, 0]), nowhere);
}
