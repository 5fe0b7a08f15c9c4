// SPDX-License-Identifier: GPL-2.0

//! What userspace may ask of an interrupt controller: each setting by itself, and what they make
//! together, against a literal reading of the rules.

use proptest::prelude::*;

use crate::{
    aia::{
        layout::*, //
        params::*,
    },
    kvm_core::addr::{
        Gpa,
        VcpuIdx, //
    }, //
};

const HOST: Limits = Limits {
    max_ids: 256,
    guest_files: 3,
};

const EMULATION_ONLY: Limits = Limits {
    max_ids: 2048,
    guest_files: 0,
};

const SETTINGS: [Setting; 7] = [
    Setting::Mode,
    Setting::Ids,
    Setting::Sources,
    Setting::GroupBits,
    Setting::GroupShift,
    Setting::HartBits,
    Setting::GuestBits,
];

/// The values that userspace may give a setting.
fn allowed(setting: Setting, value: u32, limits: Limits) -> bool {
    match setting {
        Setting::Mode => value == 0 || value <= 2 && limits.guest_files > 0,
        Setting::Ids => value % 64 == 63 && (63..limits.max_ids.min(2048)).contains(&value),
        Setting::Sources => value < limits.max_ids.min(1024),
        Setting::GroupBits | Setting::GuestBits => value < 8,
        Setting::GroupShift => (24..56).contains(&value),
        Setting::HartBits => value < 16,
    }
}

#[test]
fn attributes_are_numbered_in_order() {
    for (attr, setting) in (0..).zip(SETTINGS) {
        assert_eq!(Setting::from_attr(attr), Some(setting));
        assert_eq!(Setting::from_attr(attr | 1 << 32), None);
    }
    assert_eq!(Setting::from_attr(7), None);
}

#[test]
fn every_setting_takes_what_it_may_and_nothing_else() {
    for limits in [HOST, EMULATION_ONLY] {
        for setting in SETTINGS {
            let mut config = AiaParams::new(limits);
            let first = config.get(setting);
            assert!(allowed(setting, first, limits), "{setting:?}");
            let mut last = first;
            for value in (0..3000).chain([1 << 31, u32::MAX]) {
                let expect = allowed(setting, value, limits);
                assert_eq!(
                    config.set(setting, value, limits),
                    expect.then_some(()).ok_or(Invalid),
                    "{setting:?} {value}"
                );
                last = if expect { value } else { last };
                assert_eq!(config.get(setting), last, "{setting:?}");
            }
        }
    }
}

#[test]
fn without_wishes_hardware_is_used_where_there_is_some() {
    let config = AiaParams::new(HOST);
    assert_eq!(config.get(Setting::Mode), Mode::Auto.raw());
    assert_eq!(config.get(Setting::Ids), 255);
    let config = AiaParams::new(EMULATION_ONLY);
    assert_eq!(config.get(Setting::Mode), Mode::Emulation.raw());
    assert_eq!(config.get(Setting::Ids), 2047);
    assert_eq!(config.get(Setting::Sources), 0);
    assert_eq!(config.aplic(), None);
}

/// A configuration with these settings, in this order: sources, group bits, group shift, hart bits,
/// guest bits.
fn config(aplic: Option<u64>, values: [u32; 5]) -> AiaParams {
    let mut config = AiaParams::new(EMULATION_ONLY);
    for (setting, value) in SETTINGS[2..].iter().zip(values) {
        config
            .set(*setting, value, EMULATION_ONLY)
            .expect("a value that is allowed");
    }
    if let Some(gpa) = aplic {
        config.set_aplic(Gpa::new(gpa)).expect("aligned");
    }
    config
}

#[test]
fn sources_need_an_aplic_that_the_guest_can_address() {
    let plan = |aplic, sources, end| config(aplic, [sources, 0, 24, 0, 0]).plan(end).map(|_| ());
    assert_eq!(plan(None, 0, 1 << 41), Ok(()));
    assert_eq!(plan(None, 1, 1 << 41), Err(Invalid));
    // Without sources, nobody looks for it.
    assert_eq!(plan(Some(!0xfff), 0, 1 << 41), Ok(()));
    assert_eq!(plan(Some(!0xfff), 1, 1 << 41), Err(Invalid));
    assert_eq!(plan(Some((1 << 41) - 0x4000), 1, 1 << 41), Ok(()));
    assert_eq!(plan(Some((1 << 41) - 0x3000), 1, 1 << 41), Err(Invalid));
    let mut config = config(None, [1, 0, 24, 0, 0]);
    for gpa in [1, 0x800, 0xfff] {
        assert_eq!(config.set_aplic(Gpa::new(gpa)), Err(Invalid));
    }
}

#[test]
fn there_is_an_identity_for_each_source() {
    let mut config = config(Some(0), [63, 0, 24, 0, 0]);
    let ids = |config: &mut AiaParams, ids| config.set(Setting::Ids, ids, EMULATION_ONLY);
    assert_eq!(ids(&mut config, 63), Ok(()));
    assert!(config.plan(1 << 41).is_ok());
    assert_eq!(config.set(Setting::Sources, 64, EMULATION_ONLY), Ok(()));
    assert!(config.plan(1 << 41).is_err());
    assert_eq!(ids(&mut config, 127), Ok(()));
    assert!(config.plan(1 << 41).is_ok());
}

/// The hart indices of files at `files`, read from the rules one by one; `None` if they cannot be.
fn place_all(values: [u32; 5], aplic: u64, files: &[u64], end: u64) -> Option<Vec<u64>> {
    let [sources, group, shift, hart, guest] = values;
    let index = |gpa: u64, from: u32, bits: u32| gpa >> from & ((1 << bits) - 1);
    if group > 0 && shift < 12 + guest + hart {
        return None;
    }
    let mut found = Vec::new();
    let mut bases = Vec::new();
    for &gpa in files {
        // A page of the guest's,
        if gpa % 4096 != 0 || gpa >= end {
            return None;
        }
        // the supervisor's own,
        if index(gpa, 12, guest) != 0 {
            return None;
        }
        // not where the APLIC is,
        if sources > 0 && (aplic..aplic + 0x4000).contains(&gpa) {
            return None;
        }
        let (g, h) = (index(gpa, shift, group), index(gpa, 12 + guest, hart));
        found.push(g << hart | h);
        bases.push(gpa - (g << if group > 0 { shift } else { 0 }) - (h << (12 + guest)));
    }
    // and like all others but for the index.
    bases.dedup();
    (bases.len() <= 1).then_some(found)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn files_are_where_all_rules_allow_them(
        sources in 0..3_u32,
        (group, shift, hart, guest) in (0..3_u32, 24..30_u32, 0..4_u32, 0..3_u32),
        files in proptest::collection::vec(
            (0..3_u64, 0..6_u64, 0..16_u64, prop_oneof![9 => Just(0_u64), 1 => 0..4096_u64]),
            1..6,
        ),
        base in prop_oneof![8 => Just(0x2800_0000_u64), 1 => Just(0x2800_1000), 1 => Just(0)],
        aplic in prop_oneof![Just(0xd00_0000_u64), Just(0x2800_2000)],
        end in prop_oneof![Just(1_u64 << 41), Just(0x2800_4000)],
    ) {
        let values = [sources, group, shift, hart, guest];
        let files: Vec<_> = files
            .into_iter()
            // Mostly made as they should be; small numbers, so that some collide.
            .map(|(g, other, h, offset)| {
                let g = if other == 0 { g } else { g & ((1 << group) - 1) };
                let h = if other == 1 { h } else { h & ((1 << hart) - 1) };
                base + (g << shift) + (h << (12 + guest)) + offset
            })
            .collect();
        let expect = place_all(values, aplic, &files, end);
        let made = config(Some(aplic), values).plan(end).and_then(|mut plan| {
            files
                .iter()
                .map(|&gpa| Ok(plan.place(Gpa::new(gpa))?.get().into()))
                .collect::<Result<Vec<u64>, _>>()
        });
        // The APLIC itself may be out of reach.
        if sources == 0 || aplic + 0x4000 <= end {
            prop_assert_eq!(made.clone().ok(), expect);
        } else {
            prop_assert_eq!(&made, &Err(Invalid));
        }

        // differences-from-c S15: two files at one address have one hart index.
        if let Ok(harts) = made {
            let mut slots = vec![HartSlot::default(); slots_for(harts.len())];
            for (n, &hart) in harts.iter().enumerate() {
                let hart = crate::aia::msi::HartIndex::new(hart as u32);
                let entered = insert(&mut slots, hart, VcpuIdx::new(n));
                prop_assert_eq!(entered.is_err(), files[..n].contains(&files[n]));
            }
        }
    }
}
