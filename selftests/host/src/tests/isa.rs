// SPDX-License-Identifier: GPL-2.0

//! Tests of the ISA table and of what ONE_REG does with it, against a second reading of the rules.

mod known;

use crate::{
    bindings::*,
    isa::{
        EffectiveIsa,
        Ext,
        FpUnit,
        GuestIsa,
        HostIsa,
        IsaError,
        IsaSet,
        Multi,
        VectorUse, //
    }, //
};
use known::{
    hosts,
    id, //
    Bitmap,
    KNOWN,
    NEEDS,
};
use proptest::prelude::*;

const USES: [VectorUse; 2] = [VectorUse::Permitted, VectorUse::Denied];

fn guest_of(host: &HostIsa) -> GuestIsa {
    GuestIsa::new(host, VectorUse::Permitted)
}

#[test]
fn numbers_and_host_bits_are_those_of_the_user_api() {
    // A kernel before Linux 7.3 numbers fewer.
    assert!(KNOWN.len() as u32 >= KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_MAX);
    for bit in 0..RISCV_ISA_EXT_MAX {
        let host = HostIsa::probe(|b| b == bit);
        let want: Vec<u32> = KNOWN
            .iter()
            .filter(|k| k.2 == bit)
            .map(|k| k.1 as u32)
            .collect();
        assert_eq!(host.offered().ids().collect::<Vec<_>>(), want, "bit {bit}");
        assert_eq!(host.offered().count() as usize, want.len());
    }
}

#[test]
fn typed_names_have_the_numbers_of_the_user_api() {
    for (ext, name) in [
        (Ext::A, "A"),
        (Ext::V, "V"),
        (Ext::Svpbmt, "SVPBMT"),
        (Ext::Zcmop, "ZCMOP"),
        (Ext::Zaamo, "ZAAMO"),
        (Ext::Zalrsc, "ZALRSC"),
        (Ext::Zicfiss, "ZICFISS"),
    ] {
        assert_eq!(u64::from(ext.id()), id(name));
        assert!(IsaSet::from_id(id(name)).contains(ext));
    }
}

#[test]
fn a_new_vcpu_has_all_that_may_be_switched_on() {
    for bitmap in hosts() {
        for vector in USES {
            let host = bitmap.host();
            let guest = GuestIsa::new(&host, vector);
            for ext in KNOWN {
                let want = if bitmap.offers(ext) {
                    Ok(bitmap.may_enable(ext, vector))
                } else {
                    Err(IsaError::NotFound)
                };
                assert_eq!(guest.get(&host, ext.1), want, "{}", ext.0);
            }
        }
    }
}

#[test]
fn numbers_beyond_the_user_api_are_not_found() {
    let host = Bitmap::all().host();
    let mut guest = guest_of(&host);
    // Among them what would be valid if only its low bits were looked at.
    for id in [80, 81, 127, 128, 128 + 69, 1 << 32, (1 << 32) + 1, u64::MAX] {
        assert_eq!(guest.get(&host, id), Err(IsaError::NotFound));
        for value in [0, 1, 2] {
            let got = guest.set(&host, VectorUse::Permitted, id, value);
            assert_eq!(got, Err(IsaError::NotFound));
        }
    }
}

/// Every extension, host, caller, state and value, against the rules as the design states them.
#[test]
fn set_follows_the_policies_in_order() {
    for bitmap in hosts() {
        let host = bitmap.host();
        for vector in USES {
            for ext in KNOWN {
                for frozen in [false, true] {
                    for start in [false, true] {
                        for value in [0, 1, 2, u64::MAX] {
                            let mut guest = guest_of(&host);
                            // Where the policy lets us.
                            let _ = guest.set(&host, VectorUse::Permitted, ext.1, start.into());
                            if frozen {
                                guest.freeze();
                            }
                            let before = guest.chosen();
                            let has = guest.get(&host, ext.1);

                            let want = if !bitmap.offers(ext) {
                                Err(IsaError::NotFound)
                            } else if value > 1 && frozen {
                                Err(IsaError::Busy)
                            } else if value > 1 {
                                Err(IsaError::Invalid)
                            } else if Ok(value == 1) == has {
                                Ok(())
                            } else if frozen {
                                Err(IsaError::Busy)
                            } else if value == 1 && bitmap.may_enable(ext, vector)
                                || value == 0 && bitmap.may_disable(ext)
                            {
                                Ok(())
                            } else {
                                Err(IsaError::Invalid)
                            };
                            let got = guest.set(&host, vector, ext.1, value);
                            assert_eq!(got, want, "{} = {value}, {has:?}, {frozen}", ext.0);
                            if want.is_ok() {
                                assert_eq!(guest.get(&host, ext.1), Ok(value == 1));
                            } else {
                                assert_eq!(guest.chosen(), before);
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn what_nothing_can_take_away_stays() {
    let host = Bitmap::all().host();
    let mut guest = guest_of(&host);
    for name in [
        "A", "C", "I", "M", "ZAAMO", "ZALRSC", "ZCMOP", "ZABHA", "ZACAS", "ZCA", "SSTC", "ZFH",
    ] {
        assert_eq!(
            guest.set(&host, VectorUse::Permitted, id(name), 0),
            Err(IsaError::Invalid),
            "{name}"
        );
        assert_eq!(guest.get(&host, id(name)), Ok(true));
    }
}

#[test]
fn counter_overflows_need_the_filtering_of_ssaia() {
    let yes = VectorUse::Permitted;
    let host = Bitmap::all().host();
    let mut guest = guest_of(&host);
    assert_eq!(guest.get(&host, id("SSCOFPMF")), Ok(true));
    assert_eq!(guest.set(&host, yes, id("SSCOFPMF"), 1), Ok(()));

    let host = Bitmap::all().without(&[RISCV_ISA_EXT_SSAIA]).host();
    let mut guest = guest_of(&host);
    assert_eq!(guest.get(&host, id("SSAIA")), Err(IsaError::NotFound));
    assert_eq!(guest.get(&host, id("SSCOFPMF")), Ok(false));
    assert_eq!(
        guest.set(&host, yes, id("SSCOFPMF"), 1),
        Err(IsaError::Invalid)
    );
    assert_eq!(guest.set(&host, yes, id("SSCOFPMF"), 0), Ok(()));
}

#[test]
fn multi_registers_read_as_the_choice() {
    for bitmap in hosts() {
        let host = bitmap.host();
        let guest = guest_of(&host);
        for ext in KNOWN {
            let on = guest.get(&host, ext.1) == Ok(true);
            let bit = 1 << (ext.1 % 64);
            let word = ext.1 / 64;
            let enabled = guest
                .get_multi(Multi::Enable, word)
                .expect("the word exists");
            let disabled = guest
                .get_multi(Multi::Disable, word)
                .expect("the word exists");
            assert_eq!(enabled & bit != 0, on);
            assert_eq!(disabled, !enabled);
        }
        for word in [2, 3, 1 << 26, u64::MAX] {
            assert_eq!(
                guest.get_multi(Multi::Enable, word),
                Err(IsaError::NotFound)
            );
            assert_eq!(
                guest.get_multi(Multi::Disable, word),
                Err(IsaError::NotFound)
            );
        }
    }
}

#[test]
fn multi_registers_report_errors_and_then_change_nothing() {
    let host = Bitmap::all().without(&[RISCV_ISA_EXT_ZICBOZ]).host();
    let mut guest = guest_of(&host);
    let yes = VectorUse::Permitted;
    let bit = |name: &str| 1 << (id(name) % 64);
    let before = guest.chosen();

    // One of two may not go.
    let mask = bit("SVPBMT") | bit("ZACAS");
    assert_eq!(
        guest.set_multi(&host, yes, Multi::Disable, 0, mask),
        Err(IsaError::Invalid)
    );
    // One of two is not there.
    let mask = bit("SVPBMT") | bit("ZICBOZ");
    assert_eq!(
        guest.set_multi(&host, yes, Multi::Enable, 0, mask),
        Err(IsaError::NotFound)
    );
    assert_eq!(
        guest.set_multi(&host, yes, Multi::Enable, 0, bit("H")),
        Err(IsaError::Invalid)
    );
    // Beyond the last extension.
    assert_eq!(
        guest.set_multi(&host, yes, Multi::Enable, 1, 1 << 63),
        Err(IsaError::NotFound)
    );
    assert_eq!(
        guest.set_multi(&host, yes, Multi::Enable, 2, 0),
        Err(IsaError::NotFound)
    );
    assert_eq!(guest.chosen(), before);

    // To take away what is not there takes away nothing.
    let mask = bit("SVPBMT") | bit("ZICBOM") | bit("ZICBOZ") | bit("H");
    assert_eq!(guest.set_multi(&host, yes, Multi::Disable, 0, mask), Ok(()));
    assert_eq!(guest.get(&host, id("SVPBMT")), Ok(false));
    assert_eq!(guest.get(&host, id("ZICBOM")), Ok(false));
    guest.freeze();
    assert_eq!(
        guest.set_multi(&host, yes, Multi::Enable, 0, bit("ZICBOM")),
        Err(IsaError::Busy)
    );
}

#[test]
fn what_multi_registers_read_as_can_be_written_back_even_after_the_first_run() {
    for bitmap in hosts() {
        let host = bitmap.host();
        let mut guest = guest_of(&host);
        for frozen in [false, true] {
            if frozen {
                guest.freeze();
            }
            for multi in [Multi::Enable, Multi::Disable] {
                for word in 0..2 {
                    let mask = guest.get_multi(multi, word).expect("the word exists");
                    let got = guest.set_multi(&host, VectorUse::Denied, multi, word, mask);
                    assert_eq!(got, Ok(()));
                }
            }
        }
    }
}

fn letter(c: char) -> u64 {
    1 << (c as u32 - 'A' as u32)
}

fn config(letters: &str) -> u64 {
    letters.chars().map(letter).sum()
}

#[test]
fn config_isa_has_the_letters() {
    let host = Bitmap::all().host();
    assert_eq!(guest_of(&host).get_config(), config("ACDFIMV"));
    let guest = GuestIsa::new(&host, VectorUse::Denied);
    assert_eq!(guest.get_config(), config("ACDFIM"));
    let host = Bitmap::all().without(&[RISCV_ISA_EXT_V as u32]).host();
    assert_eq!(guest_of(&host).get_config(), config("ACDFIM"));
}

#[test]
fn config_isa_keeps_what_may_not_be_switched() {
    let host = Bitmap::all().without(&[RISCV_ISA_EXT_M as u32]).host();
    let mut guest = guest_of(&host);
    let yes = VectorUse::Permitted;
    let others = |guest: &GuestIsa| {
        let letters = [
            Ext::A,
            Ext::C,
            Ext::D,
            Ext::F,
            Ext::H,
            Ext::I,
            Ext::M,
            Ext::V,
        ];
        let letters = letters
            .iter()
            .fold(IsaSet::EMPTY, |set, &ext| set.with(ext));
        guest.chosen().without(letters)
    };
    let before = others(&guest);

    // A, C and I cannot go; D, F and V can; H, M (which the host lacks), Q and X cannot come.
    assert_eq!(guest.set_config(&host, yes, config("HMQX")), Ok(()));
    assert_eq!(guest.get_config(), config("ACI"));
    assert_eq!(
        guest.set_config(&host, VectorUse::Denied, config("DFV")),
        Ok(())
    );
    assert_eq!(guest.get_config(), config("ACIDF"));
    assert_eq!(guest.set_config(&host, yes, config("ACIFV")), Ok(()));
    assert_eq!(guest.get_config(), config("ACIFV"));
    // Bits that are no letter.
    for bad in [1 << 25, 1 << 26, 1 << 32, 1 << 63, u64::MAX] {
        let got = guest.set_config(&host, yes, config("ACI") | bad);
        assert_eq!(got, Err(IsaError::Invalid));
    }
    assert_eq!(guest.get_config(), config("ACIFV"));
    assert_eq!(others(&guest), before);

    guest.freeze();
    assert_eq!(guest.set_config(&host, yes, config("ACIFV")), Ok(()));
    assert_eq!(
        guest.set_config(&host, yes, config("ACIDFV")),
        Err(IsaError::Busy)
    );
}

/// As `get-reg-list` does it: all off, then one on.
#[test]
fn each_extension_can_be_brought_back_alone() {
    let host = Bitmap::all().host();
    for ext in KNOWN {
        let mut guest = guest_of(&host);
        let start = guest.get(&host, ext.1);
        for other in KNOWN {
            let _ = guest.set(&host, VectorUse::Permitted, other.1, 0);
        }
        if start == Ok(true) {
            assert_eq!(guest.set(&host, VectorUse::Permitted, ext.1, 1), Ok(()));
            assert_eq!(guest.get(&host, ext.1), Ok(true), "{}", ext.0);
        }
    }
}

fn effective_without(names: &[&str]) -> EffectiveIsa {
    let host = Bitmap::all().host();
    let mut guest = guest_of(&host);
    for name in names {
        assert_eq!(guest.set(&host, VectorUse::Permitted, id(name), 0), Ok(()));
    }
    guest.freeze()
}

#[test]
fn floating_point_goes_with_f_and_vectors_with_v() {
    let all = effective_without(&[]);
    assert_eq!(all.fp(), FpUnit::Double);
    assert!(all.has_vector() && all.has(Ext::Zvfh) && all.has(Ext::Zfh) && all.has(Ext::Zcd));

    let no_v = effective_without(&["V"]);
    assert_eq!(no_v.fp(), FpUnit::Double);
    assert!(!no_v.has_vector() && !no_v.has(Ext::Zvfh) && !no_v.has(Ext::Zvkt));
    assert!(no_v.has(Ext::Zfh) && no_v.has(Ext::Zcd));

    let no_d = effective_without(&["D"]);
    assert_eq!(no_d.fp(), FpUnit::Single);
    assert!(!no_d.has_vector() && !no_d.has(Ext::Zcd) && !no_d.has(Ext::Zvbb));
    assert!(no_d.has(Ext::Zfh));

    // Also if D was left on.
    let no_f = effective_without(&["F"]);
    assert_eq!(no_f.fp(), FpUnit::Off);
    assert!(!no_f.has_vector() && !no_f.has(Ext::D) && !no_f.has(Ext::Zfhmin));
    assert!(no_f.has(Ext::C) && no_f.has(Ext::Zca) && no_f.has(Ext::Zacas));
}

#[test]
fn a_caller_without_vectors_has_guests_without_vectors() {
    let host = Bitmap::all().host();
    let effective = GuestIsa::new(&host, VectorUse::Denied).effective();
    assert!(!effective.has_vector() && !effective.has(Ext::Zvkned) && effective.has(Ext::D));
}

#[test]
fn a_host_that_does_not_list_what_cannot_be_switched_keeps_what_needs_it() {
    // Without Zicsr in the device tree there still are F and counters.
    let host = Bitmap::all()
        .without(&[RISCV_ISA_EXT_ZICSR, RISCV_ISA_EXT_ZAAMO])
        .host();
    let effective = guest_of(&host).effective();
    assert_eq!(effective.fp(), FpUnit::Double);
    assert!(effective.has_vector() && effective.has(Ext::Zicntr) && effective.has(Ext::A));
}

#[test]
fn the_first_run_freezes() {
    let host = Bitmap::all().host();
    let mut guest = guest_of(&host);
    assert_eq!(guest.set(&host, VectorUse::Permitted, id("V"), 0), Ok(()));
    assert!(!guest.effective().has_vector());
    assert_eq!(guest.set(&host, VectorUse::Permitted, id("V"), 1), Ok(()));
    assert!(guest.effective().has_vector());

    let frozen = guest.freeze();
    assert_eq!(frozen, guest.effective());
    assert_eq!(
        guest.set(&host, VectorUse::Permitted, id("V"), 0),
        Err(IsaError::Busy)
    );
    assert_eq!(guest.freeze(), frozen);
}

#[test]
fn henvcfg_has_the_bit_of_each_extension() {
    // Svade beside Svadu: the guest asks for hardware updates itself.
    let all = 1 << 63 | 1 << 62 | 0b1111 << 4;
    assert_eq!(effective_without(&[]).henvcfg(), all);
    assert_eq!(effective_without(&["SVADE"]).henvcfg(), all | 1 << 61);
    assert_eq!(effective_without(&["SVADE", "SVADU"]).henvcfg(), all);
    assert_eq!(effective_without(&["SVADU"]).henvcfg(), all);
    assert_eq!(effective_without(&["SVPBMT"]).henvcfg(), all & !(1 << 62));
    assert_eq!(
        effective_without(&["ZICBOM"]).henvcfg(),
        all & !(0b111 << 4)
    );
    assert_eq!(effective_without(&["ZICBOZ"]).henvcfg(), all & !(1 << 7));

    let host = Bitmap::all().without(&[RISCV_ISA_EXT_SSTC]).host();
    assert_eq!(guest_of(&host).effective().henvcfg(), all & !(1 << 63));
}

#[test]
fn hstateen0_follows_smstateen() {
    let host = Bitmap::all().host();
    let effective = guest_of(&host).effective();
    // IMSIC, AIA, CSRIND
    let aia = 1 << 58 | 1 << 59 | 1 << 60;
    assert_eq!(effective.hstateen0(&host), Some(1 << 63 | 1 << 62 | aia));
    assert_eq!(
        effective_without(&["SMSTATEEN"]).hstateen0(&host),
        Some(1 << 62 | aia)
    );
    let host = Bitmap::all().without(&[RISCV_ISA_EXT_SMSTATEEN]).host();
    assert_eq!(guest_of(&host).effective().hstateen0(&host), None);
}

/// A write to one of the ISA registers.
#[derive(Clone, Debug)]
enum Write {
    One(u64, u64),
    Multi(Multi, u64, u64),
    Config(u64),
    Freeze,
}

fn write() -> impl Strategy<Value = Write> {
    let multi = prop_oneof![Just(Multi::Enable), Just(Multi::Disable)];
    // Words with few bits, so that some are legal.
    let mask = prop::collection::vec(0u32..64, 0..3)
        .prop_map(|bits| bits.iter().fold(0, |mask, bit| mask | 1 << bit));
    prop_oneof![
        20 => (0u64..84, 0u64..3).prop_map(|(id, value)| Write::One(id, value)),
        8 => (multi, 0u64..3, mask).prop_map(|(m, word, mask)| Write::Multi(m, word, mask)),
        3 => any::<u32>().prop_map(|value| Write::Config(value.into())),
        1 => Just(Write::Freeze),
    ]
}

fn bitmap() -> impl Strategy<Value = Bitmap> {
    prop_oneof![
        Just(Bitmap::all()),
        prop::collection::btree_set(0..RISCV_ISA_EXT_MAX, 0..128).prop_map(Bitmap),
    ]
}

proptest! {
    #[test]
    fn no_writes_leave_an_extension_without_what_it_needs(
        bitmap in bitmap(),
        vector in prop::sample::select(&USES[..]),
        writes in prop::collection::vec(write(), 0..40),
    ) {
        let host = bitmap.host();
        let mut guest = GuestIsa::new(&host, vector);
        let mut frozen = None;
        for w in writes {
            let before = guest.chosen();
            let result = match w {
                Write::One(id, value) => guest.set(&host, vector, id, value),
                Write::Multi(m, word, mask) => guest.set_multi(&host, vector, m, word, mask),
                Write::Config(value) => guest.set_config(&host, vector, value),
                Write::Freeze => {
                    frozen = Some((guest.chosen(), guest.freeze()));
                    Ok(())
                }
            };

            let chosen = guest.chosen();
            let effective = guest.effective();
            // An error changes nothing, nor does anything after the first run.
            prop_assert!(result.is_ok() || chosen == before);
            if let Some(frozen) = frozen {
                prop_assert_eq!((chosen, effective), frozen);
            }
            // Only what is offered is there; only what may change has changed.
            prop_assert!(chosen.is_subset_of(host.offered()));
            prop_assert!(chosen.without(before).is_subset_of(host.enable_allowed(vector)));
            prop_assert!(before.without(chosen).is_subset_of(host.disable_allowed()));
            // What is in effect was chosen, and has what it needs.
            prop_assert!(effective.set().is_subset_of(chosen));
            for (ext, needs) in NEEDS {
                for &need in *needs {
                    if effective.has(*ext) && host.offered().contains(need) {
                        prop_assert!(effective.has(need), "{:?} without {:?}", ext, need);
                    }
                }
            }
            // No vector state without V and no FP state without F, whatever the host lists.
            prop_assert!(effective.has_vector() || !effective.has(Ext::Zvkb));
            prop_assert!(effective.fp() != FpUnit::Off || !effective.has(Ext::Zfhmin));
        }
    }

    #[test]
    fn what_was_read_can_be_written_to_a_new_vcpu_in_any_order(
        bitmap in bitmap(),
        writes in prop::collection::vec(write(), 0..40),
        order in Just((0..80u64).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let host = bitmap.host();
        let vector = VectorUse::Permitted;
        let mut guest = guest_of(&host);
        for w in writes {
            let _ = match w {
                Write::One(id, value) => guest.set(&host, vector, id, value),
                Write::Multi(m, word, mask) => guest.set_multi(&host, vector, m, word, mask),
                Write::Config(value) => guest.set_config(&host, vector, value),
                Write::Freeze => Ok(()),
            };
        }

        let mut copy = guest_of(&host);
        for id in order {
            if let Ok(value) = guest.get(&host, id) {
                prop_assert_eq!(copy.set(&host, vector, id, value.into()), Ok(()));
            }
        }
        prop_assert_eq!(copy.chosen(), guest.chosen());
        prop_assert_eq!(copy.effective(), guest.effective());
    }
}
