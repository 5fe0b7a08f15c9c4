// SPDX-License-Identifier: GPL-2.0

//! Firmware features: what the guest and userspace can make of them, and the bits that follow.

use proptest::{
    prelude::*,
    sample::{
        select,
        subsequence, //
    }, //
};

use crate::{
    bindings,
    isa::{
        EffectiveIsa,
        Ext,
        IsaSet, //
    },
    sbi_abi::{
        fwft::{
            Effect,
            Feature,
            Host,
            Platform,
            State, //
        },
        message::{
            Call,
            Fwft,
            Message,
            SbiError, //
        },
        table::{
            Extension,
            RegError, //
        }, //
    },
    vcpu::config::{
        GuestDebug,
        HypConfig, //
    }, //
};

const FEATURES: [Feature; 5] = [
    Feature::MisalignedDelegation,
    Feature::PointerMasking,
    Feature::AdUpdating,
    Feature::LandingPad,
    Feature::ShadowStack,
];

const LOCK: usize = 1;

// Bits by the Privileged Architecture, not by anybody's header.
const LPE: u64 = 1 << 2;
const SSE: u64 = 1 << 3;
const PMM_7: u64 = 2 << 32;
const PMM_16: u64 = 3 << 32;
const ADUE: u64 = 1 << 61;
const MISALIGNED: u64 = 1 << 4 | 1 << 6;
const BREAKPOINT: u64 = 1 << 3;
const SOFTWARE_CHECK: u64 = 1 << 18;

const ALL: &[Ext] = &[
    Ext::Zicsr,
    Ext::Zimop,
    Ext::Smnpm,
    Ext::Svadu,
    Ext::Svade,
    Ext::Zicfilp,
    Ext::Zicfiss,
];

const ABLE: Host = Host {
    misaligned_traps: true,
    pmlen_7: true,
    pmlen_16: true,
};

fn platform(exts: &[Ext], host: Host) -> Platform {
    let set = exts.iter().fold(IsaSet::EMPTY, |set, &ext| set.with(ext));
    Platform {
        isa: EffectiveIsa::of(set),
        host,
    }
}

fn without(gone: Ext) -> Platform {
    let left: Vec<Ext> = ALL.iter().copied().filter(|&ext| ext != gone).collect();
    platform(&left, ABLE)
}

/// Numbers of the registers of `feature`: enable, flags, value.
fn registers(feature: Feature) -> [usize; 3] {
    let first = 3 * FEATURES.iter().position(|&f| f == feature).unwrap();
    [first, first + 1, first + 2]
}

fn listed(platform: &Platform) -> Vec<usize> {
    let numbers = State::registers(platform);
    (0..128).filter(|n| numbers >> n & 1 != 0).collect()
}

fn decode(function: usize, args: [usize; 6]) -> Result<Message, SbiError> {
    let call = Call {
        extension: bindings::sbi_ext_id_SBI_EXT_FWFT as usize,
        function,
        args,
    };
    Message::decode(Extension::of(call.extension).unwrap(), &call)
}

fn decode_get(id: usize) -> Result<Feature, SbiError> {
    match decode(1, [id, 0, 0, 0, 0, 0])? {
        Message::Fwft(Fwft::Get(feature)) => Ok(feature),
        other => panic!("{other:?}"),
    }
}

#[test]
fn ids_are_32_bits_wide_and_the_specifications() {
    let defined = [
        (0, Ok(Feature::MisalignedDelegation)),
        (1, Ok(Feature::LandingPad)),
        (2, Ok(Feature::ShadowStack)),
        (3, Err(SbiError::NotSupported)),
        (4, Ok(Feature::AdUpdating)),
        (5, Ok(Feature::PointerMasking)),
    ];
    for (id, feature) in defined {
        assert_eq!(decode_get(id), feature, "{id:#x}");
        assert_eq!(decode_get(id | 1 << 32), feature, "{id:#x}");
        assert_eq!(decode_get(id | !0 << 32), feature, "{id:#x}");
    }
    for id in [
        6,
        0x3fff_ffff,
        0x4000_0000,
        0x7fff_ffff,
        0x8000_0000,
        0xbfff_ffff,
        0xc000_0000,
        0xffff_ffff,
        usize::MAX,
    ] {
        assert_eq!(decode_get(id), Err(SbiError::Denied), "{id:#x}");
        let set = decode(0, [id, 0, 0, 0, 0, 0]);
        assert_eq!(set, Err(SbiError::Denied), "{id:#x}");
    }
}

#[test]
fn calls() {
    assert_eq!(
        decode(0, [5 | 1 << 63, 7 | 1 << 40, usize::MAX, 4, 5, 6]),
        Ok(Message::Fwft(Fwft::Set {
            feature: Feature::PointerMasking,
            value: 7 | 1 << 40,
            flags: usize::MAX,
        }))
    );
    for function in [2, 3, 0xffff_ffff, 1 << 32, usize::MAX] {
        // Not even about a reserved feature is there such a function.
        for id in [0, 6] {
            assert_eq!(
                decode(function, [id, 0, 0, 0, 0, 0]),
                Err(SbiError::NotSupported)
            );
        }
    }
}

/// What each value turns on.
const EFFECTS: [(Feature, usize, Effect); 6] = {
    const fn effect(hedeleg: u64, henvcfg: u64) -> Effect {
        Effect { hedeleg, henvcfg }
    }
    [
        (Feature::MisalignedDelegation, 1, effect(MISALIGNED, 0)),
        (Feature::PointerMasking, 7, effect(0, PMM_7)),
        (Feature::PointerMasking, 16, effect(0, PMM_16)),
        (Feature::AdUpdating, 1, effect(0, ADUE)),
        (Feature::LandingPad, 1, effect(SOFTWARE_CHECK, LPE)),
        (Feature::ShadowStack, 1, effect(SOFTWARE_CHECK, SSE)),
    ]
};

#[test]
fn each_value_has_its_effect() {
    let all = platform(ALL, ABLE);
    for (feature, value, effect) in EFFECTS {
        let mut state = State::new();
        assert_eq!(state.get(&all, feature), Ok(0));
        assert_eq!(state.effect(&all), Effect::default());
        assert_eq!(state.set(&all, feature, value, 0), Ok(()));
        assert_eq!(state.get(&all, feature), Ok(value));
        assert_eq!(state.effect(&all), effect, "{feature:?}");
        assert_eq!(state.set(&all, feature, 0, 0), Ok(()));
        assert_eq!(state, State::new());
    }
}

#[test]
fn other_values_mean_nothing() {
    let all = platform(ALL, ABLE);
    for feature in FEATURES {
        let mut state = State::new();
        for value in [2, 3, 8, 15, 17, 1 << 32, 1 | 1 << 32, usize::MAX] {
            let refused = state.set(&all, feature, value, 0);
            assert_eq!(refused, Err(SbiError::InvalidParam), "{feature:?} {value}");
        }
        let foreign: &[usize] = match feature {
            Feature::PointerMasking => &[1],
            _ => &[7, 16],
        };
        for &value in foreign {
            let refused = state.set(&all, feature, value, 0);
            assert_eq!(refused, Err(SbiError::InvalidParam), "{feature:?} {value}");
        }
        assert_eq!(state, State::new());
    }
}

#[test]
fn software_checks_are_delegated_as_long_as_one_wants_it() {
    let all = platform(ALL, ABLE);
    let mut state = State::new();
    let check = |state: &State| state.effect(&all).hedeleg & SOFTWARE_CHECK != 0;

    state.set(&all, Feature::LandingPad, 1, 0).unwrap();
    state.set(&all, Feature::ShadowStack, 1, 0).unwrap();
    assert!(check(&state));
    state.set(&all, Feature::LandingPad, 0, 0).unwrap();
    assert!(check(&state));
    state.set(&all, Feature::ShadowStack, 0, 0).unwrap();
    assert!(!check(&state));
}

#[test]
fn locked_until_reset() {
    let all = platform(ALL, ABLE);
    for (feature, value, effect) in EFFECTS {
        let mut state = State::new();
        state.set(&all, feature, value, LOCK).unwrap();
        for (value, flags) in [(0, 0), (value, 0), (value, LOCK), (99, 0)] {
            assert_eq!(
                state.set(&all, feature, value, flags),
                Err(SbiError::DeniedLocked)
            );
        }
        // What is wrong with the call itself comes first.
        assert_eq!(state.set(&all, feature, 0, 2), Err(SbiError::InvalidParam));
        assert_eq!(state.get(&all, feature), Ok(value));
        assert_eq!(state.effect(&all), effect);

        state.reset();
        assert_eq!(state, State::new());
        assert_eq!(state.set(&all, feature, value, 0), Ok(()));
    }
}

#[test]
fn a_refused_call_locks_nothing() {
    let all = platform(ALL, ABLE);
    let mut state = State::new();
    for feature in FEATURES {
        assert_eq!(
            state.set(&all, feature, 99, LOCK),
            Err(SbiError::InvalidParam)
        );
        for flags in [2, 3, 1 << 32, 1 << 63 | LOCK, usize::MAX] {
            assert_eq!(
                state.set(&all, feature, 0, flags),
                Err(SbiError::InvalidParam)
            );
        }
    }
    assert_eq!(state, State::new());
}

/// Whatever is wrong with the call beside.
fn assert_absent(state: &mut State, platform: &Platform, feature: Feature) {
    assert_eq!(
        state.get(platform, feature),
        Err(SbiError::NotSupported),
        "{feature:?}"
    );
    for (value, flags) in [(0, 0), (1, LOCK), (99, 0), (0, 99)] {
        assert_eq!(
            state.set(platform, feature, value, flags),
            Err(SbiError::NotSupported)
        );
    }
}

#[test]
fn support_follows_the_platform() {
    let needs: [(Feature, &[Ext]); 4] = [
        (Feature::PointerMasking, &[Ext::Smnpm]),
        (Feature::AdUpdating, &[Ext::Svadu, Ext::Svade]),
        (Feature::LandingPad, &[Ext::Zicfilp]),
        (Feature::ShadowStack, &[Ext::Zicfiss]),
    ];
    for (feature, exts) in needs {
        for &ext in exts {
            let poor = without(ext);
            assert_absent(&mut State::new(), &poor, feature);
            for number in registers(feature) {
                assert!(!listed(&poor).contains(&number));
                assert_eq!(
                    State::new().get_register(&poor, number),
                    Err(RegError::NotFound)
                );
                assert_eq!(
                    State::new().set_register(&poor, number, 0),
                    Err(RegError::NotFound)
                );
            }
        }
    }

    let host = Host {
        misaligned_traps: false,
        ..ABLE
    };
    let feature = Feature::MisalignedDelegation;
    assert_absent(&mut State::new(), &platform(ALL, host), feature);

    let host = Host {
        pmlen_7: false,
        pmlen_16: false,
        ..ABLE
    };
    let feature = Feature::PointerMasking;
    assert_absent(&mut State::new(), &platform(ALL, host), feature);
}

#[test]
fn masks_no_more_than_the_host_can() {
    for (pmlen_7, pmlen_16) in [(true, false), (false, true)] {
        let platform = platform(
            ALL,
            Host {
                pmlen_7,
                pmlen_16,
                ..ABLE
            },
        );
        let mut state = State::new();
        let [.., value] = registers(Feature::PointerMasking);
        for (pmlen, able) in [(7, pmlen_7), (16, pmlen_16), (0, true)] {
            let wanted = if able {
                Ok(())
            } else {
                Err(SbiError::InvalidParam)
            };
            assert_eq!(
                state.set(&platform, Feature::PointerMasking, pmlen, 0),
                wanted
            );
            assert_eq!(
                state.set_register(&platform, value, pmlen as u64),
                wanted.map_err(|_| RegError::Invalid)
            );
        }
    }
}

/// differences-from-c S18: nothing is left in henvcfg of a feature whose extension has gone.
#[test]
fn nothing_outlives_its_extension() {
    let mut state = State::new();
    let all = platform(ALL, ABLE);
    for (feature, value, _) in EFFECTS {
        state.set(&all, feature, value, 0).unwrap();
    }
    for (gone, bit) in [
        (Ext::Svadu, ADUE),
        (Ext::Smnpm, PMM_16),
        (Ext::Zicfilp, LPE),
        (Ext::Zicfiss, SSE),
    ] {
        assert_ne!(
            HypConfig::of(&all, &state, GuestDebug::Off).henvcfg & bit,
            0
        );
        let permissions = HypConfig::of(&without(gone), &state, GuestDebug::Off);
        assert_eq!(permissions.henvcfg & bit, 0, "{gone:?}");
    }
    let none = platform(&[Ext::Svade], ABLE);
    let permissions = HypConfig::of(&none, &state, GuestDebug::Off);
    assert_eq!(permissions.hedeleg & SOFTWARE_CHECK, 0);
    assert_eq!(permissions.henvcfg, 0);
}

#[test]
fn svadu_alone_updates_for_good() {
    let svadu = platform(&[Ext::Svadu], ABLE);
    let permissions = HypConfig::of(&svadu, &State::new(), GuestDebug::Off);
    assert_eq!(permissions.henvcfg, ADUE);
    assert_absent(&mut State::new(), &svadu, Feature::AdUpdating);
}

#[test]
fn exceptions_of_every_guest() {
    let bare = platform(&[], ABLE);
    let all = platform(ALL, ABLE);
    let mut state = State::new();
    let base = 1 | 1 << 2 | BREAKPOINT | 1 << 8 | 1 << 12 | 1 << 13 | 1 << 15;

    assert_eq!(HypConfig::NONE.hedeleg, base);
    assert_eq!(
        HypConfig::of(&bare, &state, GuestDebug::Off),
        HypConfig::NONE
    );
    state
        .set(&all, Feature::MisalignedDelegation, 1, 0)
        .unwrap();
    state.set(&all, Feature::LandingPad, 1, 0).unwrap();
    assert_eq!(
        HypConfig::of(&all, &state, GuestDebug::On).hedeleg,
        base & !BREAKPOINT | MISALIGNED | SOFTWARE_CHECK
    );
}

#[test]
fn registers_in_the_order_of_the_struct() {
    let all = platform(ALL, ABLE);
    assert_eq!(listed(&all), (0..15).collect::<Vec<_>>());

    let mut state = State::new();
    for (feature, value, _) in EFFECTS {
        let [enable, flags, reg] = registers(feature);
        state.reset();
        assert_eq!(state.get_register(&all, enable), Ok(1));
        assert_eq!(state.get_register(&all, flags), Ok(0));
        assert_eq!(state.get_register(&all, reg), Ok(0));
        state.set(&all, feature, value, LOCK).unwrap();
        assert_eq!(state.get_register(&all, flags), Ok(1));
        assert_eq!(state.get_register(&all, reg), Ok(value as u64));
    }
    for number in [15, 16, 127, usize::MAX] {
        assert_eq!(state.get_register(&all, number), Err(RegError::NotFound));
        assert_eq!(state.set_register(&all, number, 0), Err(RegError::NotFound));
    }
}

#[test]
fn values_of_registers() {
    let all = platform(ALL, ABLE);
    for (feature, value, effect) in EFFECTS {
        let mut state = State::new();
        let [enable, flags, reg] = registers(feature);

        for wrong in [2, u64::MAX] {
            assert_eq!(
                state.set_register(&all, enable, wrong),
                Err(RegError::Invalid)
            );
            assert_eq!(state.set_register(&all, reg, wrong), Err(RegError::Invalid));
            // Of flags, the one that is defined counts.
            assert_eq!(state.set_register(&all, flags, wrong), Ok(()));
            assert_eq!(state.get_register(&all, flags), Ok(wrong & 1));
        }

        // A lock is the guest's, not userspace's.
        state.set_register(&all, flags, 1).unwrap();
        assert_eq!(state.set(&all, feature, 0, 0), Err(SbiError::DeniedLocked));
        state.set_register(&all, reg, value as u64).unwrap();
        assert_eq!(state.get(&all, feature), Ok(value));

        // Withheld from the guest, yet in effect; a reset gives it nothing back.
        state.set_register(&all, enable, 0).unwrap();
        assert_absent(&mut state, &all, feature);
        assert_eq!(state.get_register(&all, reg), Ok(value as u64));
        assert_eq!(state.effect(&all), effect);
        state.reset();
        assert_eq!(state.get_register(&all, enable), Ok(0));
        assert_eq!(state.get_register(&all, flags), Ok(0));
        assert_eq!(state.get_register(&all, reg), Ok(0));
        state.set_register(&all, enable, 1).unwrap();
        assert_eq!(state, State::new());
    }
}

#[derive(Clone, Debug)]
enum Op {
    Set(Feature, usize, usize),
    Register(usize, u64),
    Reset,
    ChooseIsa(Vec<Ext>),
}

fn host() -> impl Strategy<Value = Host> {
    any::<[bool; 3]>().prop_map(|[misaligned_traps, pmlen_7, pmlen_16]| Host {
        misaligned_traps,
        pmlen_7,
        pmlen_16,
    })
}

fn op() -> impl Strategy<Value = Op> {
    let values = || select(&[0, 1, 7, 16, 3][..]);
    prop_oneof![
        6 => (select(&FEATURES[..]), values(), select(&[0, 0, 0, 1, 2][..]))
            .prop_map(|(feature, value, flags)| Op::Set(feature, value, flags)),
        4 => (0usize..17, values()).prop_map(|(n, value)| Op::Register(n, value as u64)),
        1 => Just(Op::Reset),
        1 => subsequence(ALL, 0..=ALL.len()).prop_map(Op::ChooseIsa),
    ]
}

proptest! {
    /// Whatever happened: what can be seen says what is in effect, and a new hart that is given
    /// all registers, in any order, is the same.
    #[test]
    fn visible_is_all_there_is(
        host in host(),
        ops in proptest::collection::vec(op(), 0..60),
        seed in any::<u64>(),
    ) {
        let mut state = State::new();
        let mut at = platform(ALL, host);
        for op in ops {
            let before = state.clone();
            let refused = match op {
                Op::Set(feature, value, flags) => state.set(&at, feature, value, flags).is_err(),
                Op::Register(number, value) => state.set_register(&at, number, value).is_err(),
                Op::Reset => {
                    state.reset();
                    false
                }
                Op::ChooseIsa(exts) => {
                    at = platform(&exts, host);
                    false
                }
            };
            prop_assert!(!refused || state == before);

            let mut wanted = Effect::default();
            for (feature, value, effect) in EFFECTS {
                let [_, _, reg] = registers(feature);
                if state.get_register(&at, reg) == Ok(value as u64) {
                    wanted.hedeleg |= effect.hedeleg;
                    wanted.henvcfg |= effect.henvcfg;
                }
            }
            prop_assert_eq!(state.effect(&at), wanted);
        }

        let mut numbers = listed(&at);
        // Any order will do.
        numbers.sort_by_key(|&n| (n as u64 + 1).wrapping_mul(seed | 1).rotate_left(17));
        let mut copy = State::new();
        for number in numbers {
            let value = state.get_register(&at, number).unwrap();
            prop_assert_eq!(copy.set_register(&at, number, value), Ok(()));
        }
        prop_assert_eq!(copy.effect(&at), state.effect(&at));
        for feature in FEATURES {
            prop_assert_eq!(copy.get(&at, feature), state.get(&at, feature));
            prop_assert_eq!(
                copy.set(&at, feature, 0, 0),
                state.clone().set(&at, feature, 0, 0)
            );
        }
    }
}
