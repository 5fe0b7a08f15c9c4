// SPDX-License-Identifier: GPL-2.0

//! Steal time and system suspend: what is decoded, and the state of steal time.

use crate::{
    bindings,
    kvm_core::addr::Gpa,
    sbi_abi::{
        message::{
            system::{
                StealTime,
                Suspend, //
            }, //
            Call,
            Message,
            SbiError,
        },
        sta::{
            self,
            Area,
            Misaligned,
            RunDelay, //
            State,
        },
        table::{
            self,
            Extension,
            RegError, //
        }, //
    }, //
};

const NOWHERE: u64 = u64::MAX;

fn decode(extension: Extension, function: usize, args: [usize; 3]) -> Result<Message, SbiError> {
    let [a0, a1, a2] = args;
    Message::decode(
        extension,
        &Call {
            extension: 0,
            function,
            args: [a0, a1, a2, 4, 5, 6],
        },
    )
}

fn set_shmem(low: usize, high: usize, flags: usize) -> Result<StealTime, SbiError> {
    match decode(Extension::Sta, 0, [low, high, flags])? {
        Message::StealTime(request) => Ok(request),
        other => panic!("{other:?}"),
    }
}

fn area(gpa: u64) -> Area {
    Area::at(gpa).unwrap()
}

#[test]
fn where_steal_time_goes() {
    assert_eq!(
        set_shmem(0x8000_1040, 0, 0),
        Ok(StealTime::Report(area(0x8000_1040)))
    );
    assert_eq!(set_shmem(0, 0, 0), Ok(StealTime::Report(area(0))));
    assert_eq!(set_shmem(usize::MAX, usize::MAX, 0), Ok(StealTime::Stop));
}

#[test]
fn flags_are_reserved_as_wide_as_they_are() {
    for flags in [1, 1 << 31, 1 << 32, 1 << 63, usize::MAX] {
        assert_eq!(set_shmem(0x1000, 0, flags), Err(SbiError::InvalidParam));
        assert_eq!(
            set_shmem(usize::MAX, usize::MAX, flags),
            Err(SbiError::InvalidParam)
        );
    }
}

#[test]
fn areas_are_aligned_and_below_the_high_word() {
    for low in [1, 0x1020, 0x103f, 0x1041, usize::MAX] {
        assert_eq!(
            set_shmem(low, 0, 0),
            Err(SbiError::InvalidParam),
            "{low:#x}"
        );
    }
    for high in [1, 1 << 63, usize::MAX] {
        assert_eq!(set_shmem(0x1040, high, 0), Err(SbiError::InvalidAddress));
    }
    assert_eq!(area(0x1fc0).gpa(), Gpa::new(0x1fc0));
    assert_eq!(Area::at(0x1fc1), None);
}

#[test]
fn one_function_each() {
    for extension in [Extension::Sta, Extension::Susp] {
        for function in [1, 2, 0xffff_ffff, 1 << 32, usize::MAX] {
            assert_eq!(
                decode(extension, function, [0; 3]),
                Err(SbiError::NotSupported),
                "{extension:?} {function:#x}"
            );
        }
    }
}

#[test]
fn suspend_to_ram_is_all_there_is() {
    let suspend = Suspend {
        resume: 0x8020_0000,
        opaque: 0x1234_5678_9abc_def0,
    };
    // The type is 32 bits wide.
    for kind in [0, 1 << 32, 0xffff_ffff_0000_0000] {
        assert_eq!(
            decode(Extension::Susp, 0, [kind, suspend.resume, suspend.opaque]),
            Ok(Message::Suspend(suspend)),
            "{kind:#x}"
        );
    }
    for kind in [1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 32 | 1] {
        assert_eq!(
            decode(Extension::Susp, 0, [kind, 0, 0]),
            Err(SbiError::InvalidParam),
            "{kind:#x}"
        );
    }
}

#[test]
fn a_sequence_is_odd_during_a_change_and_goes_up() {
    for before in [0, 2, 3, 1000, u32::MAX - 2, u32::MAX - 1, u32::MAX] {
        let during = sta::changing(before);
        let after = sta::changed(during);

        assert_eq!(during % 2, 1, "{before}");
        assert_eq!(after % 2, 0, "{before}");
        assert!((1..=2).contains(&during.wrapping_sub(before)), "{before}");
        assert_eq!(after.wrapping_sub(during), 1, "{before}");
    }
}

#[test]
fn only_the_same_thread_waits_on() {
    let waited = |thread, nanos| RunDelay { thread, nanos };

    assert_eq!(waited(1, 500).since(waited(1, 200)), 300);
    assert_eq!(waited(1, 200).since(waited(1, 200)), 0);
    assert_eq!(waited(2, 500).since(waited(1, 200)), 0);
    // Another thread that got the number of one that is gone.
    assert_eq!(waited(1, 100).since(waited(1, 200)), 0);
}

/// differences-from-c S4: nothing that userspace can say about the high word says anything about the low one.
#[test]
fn the_low_word_is_all_of_the_address() {
    let mut state = State::Off;

    assert_eq!(state.low(), NOWHERE);
    assert_eq!(state.set_low(0x1240), Ok(()));
    assert_eq!(state, State::Restored(area(0x1240)));
    assert_eq!(state.low(), 0x1240);
    assert_eq!(state.set_low(0x1241), Err(Misaligned));
    assert_eq!(state.low(), 0x1240);
    assert_eq!(state.set_low(NOWHERE), Ok(()));
    assert_eq!(state, State::Off);
}

#[test]
fn to_say_the_same_again_loses_no_time() {
    let waited = RunDelay {
        thread: 1,
        nanos: 2,
    };
    let mut state = State::Reported(area(0x1240), waited);

    assert_eq!(state.set_low(0x1240), Ok(()));
    assert_eq!(state, State::Reported(area(0x1240), waited));
    assert_eq!(state.set_low(0x1280), Ok(()));
    assert_eq!(state, State::Restored(area(0x1280)));
}

#[test]
fn what_goes_leaves_nothing_behind() {
    let sta = u64::from(bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_STA);
    let mut state = table::State::new(|_| true);

    state.sta.set_low(0x40).unwrap();
    assert_eq!(state.set(sta, 1), Ok(()));
    assert_eq!(state.sta.low(), 0x40);
    assert_eq!(state.set(sta, 0), Ok(()));
    assert_eq!(state.sta, State::Off);

    assert_eq!(state.set(sta, 1), Ok(()));
    state.sta.set_low(0x40).unwrap();
    state.reset();
    assert_eq!(state.sta, State::Off);
    assert!(state.has(Extension::Sta));
}

#[test]
fn an_extension_that_the_host_cannot_provide_does_not_exist() {
    let sta = u64::from(bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_STA);
    let mut state = table::State::new(|ext| ext != Extension::Sta);

    assert!(!state.has(Extension::Sta));
    assert_eq!(state.get(sta), Err(RegError::NotFound));
    assert_eq!(state.set(sta, 1), Err(RegError::NotFound));
}

#[test]
fn suspend_waits_for_userspace_to_want_it() {
    let susp = u64::from(bindings::KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_SUSP);
    let mut state = table::State::new(|_| true);

    assert_eq!(state.get(susp), Ok(false));
    assert_eq!(state.set(susp, 1), Ok(()));
    assert!(state.has(Extension::Susp));
}
