// SPDX-License-Identifier: GPL-2.0

//! Any sequence of calls leaves in the counters what a simple model of them has.

use proptest::{
    prelude::*,
    sample::select, //
};

use super::{
    layout,
    named,
    setup, //
    Hart,
    CACHE_MISSES,
    CYCLES,
    FIRMWARE,
    HARDWARE,
    INSTRUCTIONS,
    IPI_SENT,
    SET_TIMER,
    WIDTH,
};
use crate::{
    sbi_abi::message::{
        pmu::{
            Choice,
            Events,
            Run,
            Value, //
        }, //
        SbiError,
    },
    vcpu::pmu::{
        counters::{
            Counters,
            Setup, //
        },
        wrap, //
    }, //
};

/// What a counter is, simply said.
#[derive(Clone, Copy, Debug, Default)]
struct Model {
    event: Option<u64>,
    started: bool,
    value: u64,
}

/// What can happen.
#[derive(Clone, Copy, Debug)]
enum Step {
    Configure(usize, u64, Choice, Value, Run),
    Start(usize, u64, Option<u64>),
    Stop(usize, u64, Events),
    Happen(u64, u64),
    /// It happens to another vCPU, which the thread runs meanwhile.
    HappenElsewhere(u64, u64),
    Reset,
}

fn events() -> impl Strategy<Value = u64> {
    select(vec![
        CYCLES,
        INSTRUCTIONS,
        CACHE_MISSES,
        SET_TIMER,
        IPI_SENT,
    ])
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let base = || 0..layout().count() + 2;
    let mask = || prop_oneof![1u64..16, any::<u64>(), Just(1)];
    let step = prop_oneof![
        4 => (
            base(),
            events(),
            select(vec![Choice::Match, Choice::First]),
            select(vec![Value::Keep, Value::Clear]),
            select(vec![Run::Stopped, Run::Started]),
        ).prop_map(|(base, idx, choice, value, run)| {
            Step::Configure(base, idx, choice, value, run)
        }),
        4 => (base(), mask(), any::<Option<u64>>()).prop_map(|(b, m, i)| Step::Start(b, m, i)),
        4 => (base(), mask(), select(vec![Events::Keep, Events::Reset]))
            .prop_map(|(b, m, e)| Step::Stop(b, m, e)),
        4 => (events(), 0u64..100).prop_map(|(idx, times)| Step::Happen(idx, times)),
        2 => (select(vec![CYCLES, INSTRUCTIONS, CACHE_MISSES]), 0u64..100)
            .prop_map(|(idx, times)| Step::HappenElsewhere(idx, times)),
        1 => Just(Step::Reset),
    ];
    proptest::collection::vec(step, 1..60)
}

/// The counters of a set, as the specification defines it.
fn members(base: usize, mask: u64) -> Option<Vec<usize>> {
    let set: Vec<u128> = (0..64)
        .filter(|bit| mask >> bit & 1 != 0)
        .map(|bit| base as u128 + bit)
        .collect();
    let exists = |&index: &u128| index < layout().count() as u128;
    (!set.is_empty() && set.iter().all(exists))
        .then(|| set.into_iter().map(|index| index as usize).collect())
}

fn width(index: usize) -> u64 {
    match index {
        3..HARDWARE => wrap::mask(WIDTH),
        _ => u64::MAX,
    }
}

proptest! {
    #[test]
    fn counters_are_what_a_model_says(steps in steps()) {
        let mut hart = Hart::new();
        let mut model = [Model::default(); 64];

        for step in steps {
            match step {
                Step::Configure(base, idx, choice, value, run) => {
                    let set = named(base, 0b1111);
                    let result = hart.configure(set, Setup { choice, value, run, ..setup(idx) });
                    let Some(set) = members(base, 0b1111) else {
                        prop_assert_eq!(result, Err(SbiError::InvalidParam));
                        continue;
                    };
                    let can = |&index: &usize| match idx {
                        SET_TIMER | IPI_SENT => index >= HARDWARE,
                        CYCLES => index == 0 || (3..HARDWARE).contains(&index),
                        INSTRUCTIONS => (2..HARDWARE).contains(&index),
                        _ => (3..HARDWARE).contains(&index),
                    };
                    let able: Vec<_> = set.iter().copied().filter(can).collect();
                    match result {
                        Ok(index) => {
                            prop_assert!(able.contains(&index));
                            let counter = &mut model[index];
                            match choice {
                                Choice::First => prop_assert_eq!(index, set[0]),
                                // One that is not started.
                                Choice::Match => prop_assert!(!counter.started),
                            }
                            *counter = Model {
                                event: Some(idx),
                                started: run == Run::Started,
                                value: match value {
                                    Value::Keep => counter.value,
                                    Value::Clear => 0,
                                },
                            };
                        }
                        Err(error) => {
                            prop_assert_eq!(error, SbiError::NotSupported);
                            match choice {
                                Choice::First => prop_assert!(!able.contains(&set[0])),
                                Choice::Match => {
                                    prop_assert!(able.iter().all(|&i| model[i].event.is_some()));
                                }
                            }
                        }
                    }
                }
                Step::Start(base, mask, initial) => {
                    let result = hart.start(named(base, mask), initial);
                    let Some(set) = members(base, mask) else {
                        prop_assert_eq!(result, Err(SbiError::InvalidParam));
                        continue;
                    };
                    let mut already = false;
                    for index in set {
                        let counter = &mut model[index];
                        already |= counter.started;
                        if counter.event.is_some() && !counter.started {
                            counter.started = true;
                            counter.value = initial.unwrap_or(counter.value);
                        }
                    }
                    let expected = if already { Err(SbiError::AlreadyStarted) } else { Ok(()) };
                    prop_assert_eq!(result, expected);
                }
                Step::Stop(base, mask, events) => {
                    let (result, reports) = hart.stop(named(base, mask), events);
                    let Some(set) = members(base, mask) else {
                        prop_assert_eq!(result, Err(SbiError::InvalidParam));
                        continue;
                    };
                    let mut already = false;
                    let mut told = Vec::new();
                    for index in set {
                        let counter = &mut model[index];
                        if counter.event.is_some() {
                            already |= !counter.started;
                            counter.started = false;
                            told.push((index - base, counter.value & width(index)));
                            if events == Events::Reset {
                                counter.event = None;
                            }
                        }
                    }
                    let expected = if already { Err(SbiError::AlreadyStopped) } else { Ok(()) };
                    prop_assert_eq!(result, expected);
                    let reports: Vec<_> = reports.iter().map(|r| (r.bit, r.value)).collect();
                    prop_assert_eq!(reports, told);
                }
                Step::Happen(idx, times) => {
                    hart.happen(idx, times);
                    for counter in &mut model {
                        if counter.started && counter.event == Some(idx) {
                            counter.value = counter.value.wrapping_add(times);
                        }
                    }
                }
                Step::HappenElsewhere(idx, times) => {
                    hart.counters.leave();
                    hart.happen(idx, times);
                    hart.counters.enter();
                }
                Step::Reset => {
                    hart.counters = Counters::new(layout());
                    hart.firmware.want(0);
                    model = [Model::default(); 64];
                }
            }
            for (index, counter) in model.iter().enumerate() {
                // Zicntr's hold something without an event, too.
                let is_shown = counter.event.is_some() || matches!(index, 0 | 2);
                let shown = is_shown.then_some(counter.value & width(index));
                prop_assert_eq!(hart.read(index), shown, "counter {}", index);
            }
            let hardware = |m: &&Model| m.event.is_some_and(|idx| idx < FIRMWARE);
            let alive = model.iter().filter(hardware).count();
            prop_assert_eq!(hart.machine.borrow().alive, alive);
        }
    }
}
