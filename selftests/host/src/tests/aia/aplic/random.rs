// SPDX-License-Identifier: GPL-2.0

//! Random accesses and wires, compared with the model after each step.

use proptest::prelude::*;

use super::{
    domain,
    model::Model,
    saved, //
    CLRIE,
    GENMSI,
    IN_CLRIP,
    OFFSETS,
    SETIE,
    SETIP,
    TARGET,
};
use crate::aia::{
    aplic::{
        word::LineOwner,
        Domain,
        NoSource, //
    },
    msi::{
        Delivery,
        Level,
        Msi, //
    }, //
};

#[derive(Clone, Copy, Debug)]
enum Op {
    Write(u32, u32),
    Line(u32, LineOwner, Level),
    Pulse(u32),
}

/// Numbers of sources: those at the edges of words, and sometimes one that does not exist.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![
        8 => prop_oneof![Just(1_u32), Just(2), Just(31), Just(32), Just(33), Just(63)],
        2 => 0..1025_u32,
    ]
}

fn offset() -> impl Strategy<Value = u32> {
    prop_oneof![
        3 => Just(0_u32),
        8 => number().prop_map(|n| 4 * n % 0x1000),
        4 => (0..3_u32).prop_map(|k| SETIP + 4 * k),
        4 => (0..3_u32).prop_map(|k| IN_CLRIP + 4 * k),
        4 => (0..3_u32).prop_map(|k| SETIE + 4 * k),
        3 => (0..3_u32).prop_map(|k| CLRIE + 4 * k),
        8 => prop_oneof![
            Just(0x1cdc_u32),
            Just(0x1ddc),
            Just(0x1edc),
            Just(0x1fdc),
            Just(0x2000),
            Just(0x2004),
        ],
        1 => Just(GENMSI),
        4 => number().prop_map(|n| TARGET + 4 * (n % 0x400)),
        2 => 0..0x4000_u32,
    ]
}

fn value() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => number(),
        2 => number().prop_map(u32::swap_bytes),
        6 => 0..8_u32,
        3 => Just(0x100_u32),
        4 => any::<u32>(),
        1 => Just(u32::MAX),
    ]
}

fn level() -> impl Strategy<Value = Level> {
    prop_oneof![Just(Level::Low), Just(Level::High)]
}

fn owner() -> impl Strategy<Value = LineOwner> {
    prop_oneof![3 => Just(LineOwner::Userspace), 1 => Just(LineOwner::Resample)]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (offset(), value()).prop_map(|(offset, value)| Op::Write(offset, value)),
        3 => (number(), owner(), level()).prop_map(|(n, owner, level)| Op::Line(n, owner, level)),
        1 => number().prop_map(Op::Pulse),
    ]
}

fn sources() -> impl Strategy<Value = u32> {
    prop_oneof![
        Just(1_u32),
        Just(31),
        Just(32),
        Just(63),
        Just(64),
        Just(1023)
    ]
}

/// A domain and what it sent.
struct Tested {
    domain: Box<Domain>,
    sent: Vec<Msi>,
}

impl Tested {
    fn new(sources: u32) -> Tested {
        Tested {
            domain: domain(sources),
            sent: Vec::new(),
        }
    }

    /// What the operation says became of the wire.
    fn run(&mut self, op: Op) -> Option<Result<Delivery, NoSource>> {
        let mut sink = |msi| {
            self.sent.push(msi);
            Delivery::Delivered
        };
        match op {
            Op::Write(offset, value) => {
                self.domain.write(offset, value, &mut sink);
                None
            }
            Op::Line(n, owner, level) => Some(self.domain.set_line(n, owner, level, &mut sink)),
            Op::Pulse(n) => Some(self.domain.pulse(n, &mut sink)),
        }
    }
}

fn run_model(model: &mut Model, op: Op) {
    match op {
        Op::Write(offset, value) if offset % 4 == 0 => model.write(offset, value),
        Op::Write(..) => {}
        Op::Line(n, owner, level) => model.set_line(n, owner, level),
        Op::Pulse(n) => {
            model.set_line(n, LineOwner::Userspace, Level::High);
            model.set_line(n, LineOwner::Userspace, Level::Low);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_step_is_as_the_specification_says(
        sources in sources(),
        ops in proptest::collection::vec(op(), 1..120),
    ) {
        let mut tested = Tested::new(sources);
        let mut model = Model::new(sources);
        for op in ops {
            // What came of a wire: the pending bits before and after, and the MSIs, tell.
            let became = |model: &Model, n: u32| {
                model.sources.get(n as usize).is_some_and(|source| source.pending)
            };
            let was_pending = match op {
                Op::Line(n, ..) | Op::Pulse(n) => became(&model, n),
                Op::Write(..) => false,
            };
            let result = tested.run(op);
            run_model(&mut model, op);
            prop_assert_eq!(&tested.sent, &model.sent, "{:x?}", op);
            if let (Op::Line(n, ..), Some(result)) = (op, result) {
                let exists = (1..=sources).contains(&n);
                let delivered = !model.sent.is_empty() || !was_pending && became(&model, n);
                prop_assert_eq!(result, match (exists, delivered) {
                    (false, _) => Err(NoSource),
                    (true, true) => Ok(Delivery::Delivered),
                    (true, false) => Ok(Delivery::Blocked),
                }, "{:x?}", op);
            }
            tested.sent.clear();
            model.sent.clear();
            let words = [SETIP, IN_CLRIP, SETIE].into_iter();
            let near = words.flat_map(|row| (row..).step_by(4).take(3));
            let touched = match op {
                Op::Write(offset, _) => offset & !3,
                Op::Line(..) | Op::Pulse(_) => 0,
            };
            for offset in near.chain([0, touched]) {
                let is = tested.domain.read(offset);
                prop_assert_eq!(is, model.read(offset), "{:x?} at {:#x}", op, offset);
            }
        }
        for offset in OFFSETS.iter().flat_map(|range| range.clone().step_by(4)) {
            prop_assert_eq!(tested.domain.read(offset), model.read(offset), "{:#x}", offset);
        }
    }

    #[test]
    fn what_is_saved_and_restored_goes_on_as_if_nothing_had_happened(
        sources in sources(),
        before in proptest::collection::vec(op(), 1..120),
        after in proptest::collection::vec(op(), 1..60),
    ) {
        let mut first = Tested::new(sources);
        for op in before {
            first.run(op);
        }
        first.sent.clear();

        let mut second = Tested::new(sources);
        let state = saved(&first.domain);
        for &(offset, value) in &state {
            let mut sink = |msi| {
                second.sent.push(msi);
                Delivery::Delivered
            };
            prop_assert_eq!(second.domain.restore(offset, value, &mut sink), Ok(()));
        }
        prop_assert_eq!(saved(&second.domain), state);
        prop_assert_eq!(&second.sent, &[]);

        // What drives the wires is restored, too, and drives them as it did before. An inactive
        // source has no input to be saved: this is what makes up for it.
        let wires: Vec<_> = (1..=sources)
            .map(|n| (n, if n % 3 == 0 { Level::High } else { Level::Low }))
            .collect();
        for tested in [&mut first, &mut second] {
            for &(n, level) in &wires {
                tested.run(Op::Line(n, LineOwner::Userspace, level));
                tested.run(Op::Line(n, LineOwner::Resample, Level::Low));
            }
        }
        prop_assert_eq!(saved(&first.domain), saved(&second.domain));
        prop_assert_eq!(&first.sent, &second.sent);
        for op in after {
            let results = [first.run(op), second.run(op)];
            prop_assert_eq!(results[0], results[1]);
            prop_assert_eq!(&first.sent, &second.sent);
        }
        prop_assert_eq!(saved(&first.domain), saved(&second.domain));
    }

    #[test]
    fn a_restore_over_another_state_is_one_if_its_sources_are_made_inactive_before(
        sources in sources(),
        ops in proptest::collection::vec(op(), 1..100),
        others in proptest::collection::vec(op(), 1..100),
    ) {
        let mut first = Tested::new(sources);
        let mut second = Tested::new(sources);
        for op in ops {
            first.run(op);
        }
        for op in others {
            second.run(op);
        }
        let state = saved(&first.domain);
        let reset = (1..=sources).map(|n| (u64::from(4 * n), 0));
        for (offset, value) in reset.chain(state.iter().copied()) {
            let mut sink = |msi| panic!("{msi:?} after {offset:#x}");
            prop_assert_eq!(second.domain.restore(offset, value, &mut sink), Ok(()));
        }
        prop_assert_eq!(saved(&second.domain), state);
    }

    #[test]
    fn what_could_not_be_sent_stays_pending_until_it_can(
        sources in sources(),
        ops in proptest::collection::vec((op(), any::<bool>()), 1..120),
    ) {
        // The same operations, with a sink that defers at times: nothing is sent that would not
        // have been, and at the end, all that is left pending and enabled goes out.
        let mut domain = domain(sources);
        for (op, defers) in ops {
            let mut sink = |_| if defers { Delivery::Defer } else { Delivery::Delivered };
            match op {
                Op::Write(offset, value) => domain.write(offset, value, &mut sink),
                Op::Line(n, owner, level) => {
                    let _ = domain.set_line(n, owner, level, &mut sink);
                }
                Op::Pulse(n) => {
                    let _ = domain.pulse(n, &mut sink);
                }
            }
        }
        let words = sources / 32 + 1;
        let owed = |domain: &Domain| -> u32 {
            (0..words)
                .map(|k| domain.read(SETIP + 4 * k) & domain.read(SETIE + 4 * k))
                .map(u32::count_ones)
                .sum()
        };
        let before = owed(&domain);
        let mut sent = 0;
        domain.write(0, 0x100, &mut |_| {
            sent += 1;
            Delivery::Delivered
        });
        prop_assert_eq!((before, owed(&domain)), (sent, 0));
    }
}
