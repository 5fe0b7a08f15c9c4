// SPDX-License-Identifier: GPL-2.0

//! The interrupt file: against a literal reading of the specification, and interleavings.

use crate::aia::imsic::file::{
    File,
    Identities,
    Line,
    Register,
    Signal, //
};

fn file(identities: u32) -> File {
    File::new(Identities::new(identities).unwrap())
}

/// Everything that `eie0` can enable, and delivery.
fn open(file: &File) {
    file.modify(Register::Enabled(0), u64::MAX, u64::MAX);
    file.modify(Register::Delivery, 1, u64::MAX);
}

fn set(file: &File, number: u32) -> Signal {
    file.set(file.identities().get(number).unwrap())
}

fn claim(file: &File) -> Option<u32> {
    file.claim().map(|identity| identity.number())
}

#[cfg(not(loom))]
mod alone {
    use core::cell::Cell;

    use proptest::prelude::*;

    use super::*;
    use crate::aia::imsic::file::{
        NoRegister,
        WORDS, //
    };

    struct Wire(Cell<bool>);

    impl Line for Wire {
        fn raise(&self) {
            self.0.set(true);
        }

        fn lower(&self) {
            self.0.set(false);
        }
    }

    #[test]
    fn a_file_has_one_identity_less_than_a_multiple_of_64() {
        let possible = (0..4096).filter(|&n| Identities::new(n).is_some());
        assert!(possible.eq((1..=32).map(|words| words * 64 - 1)));
        let identities = Identities::new(127).unwrap();
        assert_eq!(identities.count(), 127);
        assert_eq!(identities.words(), 2);
        assert!(identities.get(0).is_none());
        assert!(identities.get(128).is_none());
        assert_eq!(identities.get(127).unwrap().topei(), 127 << 16 | 127);
    }

    #[test]
    fn registers_are_where_the_specification_has_them() {
        for select in 0..0x400 {
            let expected = match select {
                0x70 => Ok(Register::Delivery),
                0x72 => Ok(Register::Threshold),
                0x71 | 0x73..0x80 => Ok(Register::Reserved),
                0x80..0x100 if select & 1 == 1 => Err(NoRegister::Odd),
                0x80..0xc0 => Ok(Register::Pending(((select - 0x80) / 2) as u8)),
                0xc0..0x100 => Ok(Register::Enabled(((select - 0xc0) / 2) as u8)),
                _ => Err(NoRegister::Elsewhere),
            };
            assert_eq!(Register::select(select), expected, "{select:#x}");
        }
        assert_eq!(Register::select(u64::MAX), Err(NoRegister::Elsewhere));
        assert_eq!(Register::select(0x170), Err(NoRegister::Elsewhere));
    }

    #[test]
    fn a_fresh_file_is_silent() {
        let file = file(255);
        assert_eq!(set(&file, 7), Signal::Quiet);
        assert_eq!(file.top(), None);
        assert_eq!(file.read(Register::Pending(0)), 1 << 7);
    }

    #[test]
    fn a_message_is_signalled_once_until_it_is_claimed() {
        let file = file(63);
        open(&file);
        assert_eq!(set(&file, 63), Signal::Raise);
        assert_eq!(set(&file, 63), Signal::Quiet);
        assert_eq!(set(&file, 5), Signal::Raise);
        assert_eq!(claim(&file), Some(5));
        assert_eq!(claim(&file), Some(63));
        assert_eq!(claim(&file), None);
        assert_eq!(set(&file, 63), Signal::Raise);
    }

    #[test]
    fn topei_does_not_depend_on_delivery() {
        let file = file(63);
        file.modify(Register::Enabled(0), 1 << 9, u64::MAX);
        assert_eq!(set(&file, 9), Signal::Quiet);
        assert_eq!(file.top().unwrap().number(), 9);
        assert_eq!(file.signalled(), None);
    }

    #[test]
    fn delivery_holds_0_and_1_only() {
        let file = file(63);
        assert_eq!(file.modify(Register::Delivery, 0x4000_0000, u64::MAX), 0);
        assert_eq!(file.modify(Register::Delivery, u64::MAX, u64::MAX), 0);
        assert_eq!(file.modify(Register::Delivery, 0, 0), 1);
        assert_eq!(file.read(Register::Delivery), 1);
    }

    #[test]
    fn the_threshold_holds_every_identity() {
        for words in 1..=WORDS as u32 {
            let file = file(words * 64 - 1);
            for value in 0..words * 64 {
                file.modify(Register::Threshold, value.into(), u64::MAX);
                assert_eq!(file.read(Register::Threshold), u64::from(value));
            }
        }
    }

    /// Moves a file as a vCPU's goes from one CPU to another: taken into one in between, and added
    /// to what has arrived at the new place.
    fn carry(old: &File, new: &File) {
        let between = file(255);
        between.absorb(WORDS, |register| old.modify(register, 0, u64::MAX));
        between.drain(|register, value| {
            let mask = match register {
                Register::Pending(_) | Register::Enabled(_) => value,
                _ => u64::MAX,
            };
            new.modify(register, value, mask);
        });
    }

    #[test]
    fn moving_a_file_keeps_what_arrived_on_both_sides() {
        let (old, new) = (file(255), file(255));
        open(&old);
        old.modify(Register::Threshold, 77, u64::MAX);
        let _ = set(&old, 3);
        let _ = set(&old, 200);
        let _ = set(&new, 4);
        carry(&old, &new);
        old.drain(|_, value| assert_eq!(value, 0));
        assert_eq!(new.read(Register::Threshold), 77);
        assert_eq!(new.read(Register::Delivery), 1);
        assert_eq!(new.read(Register::Enabled(0)), !1);
        assert_eq!(new.read(Register::Pending(0)), 1 << 3 | 1 << 4);
        assert_eq!(new.read(Register::Pending(3)), 1 << (200 - 192));
        assert_eq!(claim(&new), Some(3));
    }

    /// The file as the specification describes it: a bit each, and a search.
    struct Model {
        count: usize,
        delivery: bool,
        threshold: u64,
        pending: Vec<bool>,
        enabled: Vec<bool>,
    }

    impl Model {
        fn top(&self) -> Option<usize> {
            (1..=self.count)
                .find(|&id| self.pending[id] && self.enabled[id])
                .filter(|&id| self.threshold == 0 || (id as u64) < self.threshold)
        }

        fn array(&mut self, register: Register) -> Option<(&mut Vec<bool>, usize)> {
            match register {
                Register::Pending(word) => Some((&mut self.pending, usize::from(word) * 64)),
                Register::Enabled(word) => Some((&mut self.enabled, usize::from(word) * 64)),
                _ => None,
            }
        }

        fn read(&mut self, register: Register) -> u64 {
            match register {
                Register::Delivery => self.delivery.into(),
                Register::Threshold => self.threshold,
                Register::Reserved => 0,
                _ => {
                    let count = self.count;
                    let (array, first) = self.array(register).unwrap();
                    (0..64)
                        .filter(|bit| (1..=count).contains(&(first + bit)) && array[first + bit])
                        .map(|bit| 1 << bit)
                        .sum()
                }
            }
        }

        fn write(&mut self, register: Register, value: u64) {
            match register {
                Register::Delivery => self.delivery = value & 1 != 0,
                Register::Threshold => {
                    self.threshold = value % (self.count as u64 + 1).next_power_of_two();
                }
                Register::Reserved => {}
                _ => {
                    let count = self.count;
                    let (array, first) = self.array(register).unwrap();
                    for bit in (0..64).filter(|bit| (1..=count).contains(&(first + bit))) {
                        array[first + bit] = value >> bit & 1 != 0;
                    }
                }
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(u32),
        Claim,
        Modify(u64, u64, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let sparse = prop_oneof![
            Just(u64::MAX),
            Just(0),
            (0..64u32).prop_map(|bit| 1 << bit),
            any::<u64>()
        ];
        let select = prop_oneof![
            Just(0x70u64),
            Just(0x72),
            0x80..0x90u64,
            0xc0..0xd0u64,
            0x70..0x100u64
        ];
        prop_oneof![
            4 => (0..300u32).prop_map(Step::Set),
            2 => Just(Step::Claim),
            4 => (select, sparse.clone(), sparse).prop_map(|(s, v, m)| Step::Modify(s, v, m)),
        ]
    }

    proptest! {
        #[test]
        fn every_history_agrees_with_the_model(
            words in 1..=4u32,
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let count = words * 64 - 1;
            let file = file(count);
            let wire = Wire(Cell::new(false));
            let mut model = Model {
                count: count as usize,
                delivery: false,
                threshold: 0,
                pending: vec![false; 2048],
                enabled: vec![false; 2048],
            };
            for step in steps {
                match step {
                    Step::Set(number) => {
                        if let Some(identity) = file.identities().get(number) {
                            if file.set(identity) == Signal::Raise {
                                wire.raise();
                            }
                            model.pending[number as usize] = true;
                        } else {
                            prop_assert!(number == 0 || number > count);
                        }
                    }
                    Step::Claim => {
                        let top = model.top();
                        prop_assert_eq!(claim(&file), top.map(|id| id as u32));
                        if let Some(id) = top {
                            model.pending[id] = false;
                        }
                        file.drive(&wire);
                    }
                    Step::Modify(select, value, mask) => {
                        if let Ok(register) = Register::select(select) {
                            let old = model.read(register);
                            prop_assert_eq!(file.modify(register, value, mask), old);
                            model.write(register, old & !mask | value & mask);
                            prop_assert_eq!(file.read(register), model.read(register));
                            file.drive(&wire);
                        }
                    }
                }
                prop_assert_eq!(file.top().map(|id| id.number() as usize), model.top());
                prop_assert_eq!(wire.0.get(), model.delivery && model.top().is_some());
            }
        }

        #[test]
        fn a_file_drained_and_absorbed_is_the_same(
            pending in any::<[u64; 4]>(), enabled in any::<[u64; 4]>(), threshold in 0..256u64,
        ) {
            let old = file(255);
            for word in 0..4u8 {
                old.modify(Register::Pending(word), pending[usize::from(word)], u64::MAX);
                old.modify(Register::Enabled(word), enabled[usize::from(word)], u64::MAX);
            }
            old.modify(Register::Threshold, threshold, u64::MAX);
            let top = old.top();
            let new = file(255);
            carry(&old, &new);
            prop_assert_eq!(new.top(), top);
            for word in 0..4u8 {
                let implemented = if word == 0 { !1 } else { u64::MAX };
                prop_assert_eq!(new.read(Register::Pending(word)), pending[usize::from(word)] & implemented);
                prop_assert_eq!(new.read(Register::Enabled(word)), enabled[usize::from(word)] & implemented);
            }
        }
    }
}

#[cfg(loom)]
mod interleave {
    use std::sync::Arc;

    use loom::{
        sync::{
            atomic::{
                AtomicUsize,
                Ordering, //
            }, //
            Mutex,
        },
        thread, //
    };

    use super::*;
    use crate::{
        arch::irq_bits::{
            Interrupt,
            Word, //
        },
        tests::explore::explore, //
    };

    const EXTERNAL: u32 = 1 << 10;

    /// A file and the pending interrupts of its hart, connected as in the kernel.
    struct Hart {
        file: File,
        word: Word,
        place: Mutex<()>,
    }

    impl Line for Hart {
        fn raise(&self) {
            self.word.set(Interrupt::External);
        }

        fn lower(&self) {
            self.word.withdraw(Interrupt::External);
        }
    }

    impl Hart {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                file: file(127),
                word: Word::new(),
                place: Mutex::new(()),
            })
        }

        fn send(&self, number: u32) {
            let _place = self.place.lock().unwrap();
            if set(&self.file, number) == Signal::Raise {
                self.raise();
            }
        }

        /// The owner changed something.
        fn drive(&self) {
            let _place = self.place.lock().unwrap();
            self.file.drive(self);
        }

        fn line(&self) -> bool {
            self.word.pending() & EXTERNAL != 0
        }

        /// The guest's handler: claims while its line is high.
        fn serve(&self) -> Vec<u32> {
            let mut claimed = Vec::new();
            while self.line() {
                claimed.extend(claim(&self.file));
                self.drive();
            }
            claimed
        }
    }

    fn sender(hart: &Arc<Hart>, number: u32) -> thread::JoinHandle<()> {
        let hart = hart.clone();
        thread::spawn(move || hart.send(number))
    }

    /// Two devices send, also across words, while the guest claims.
    #[test]
    fn loom_no_message_is_lost_to_a_claim() {
        explore(|| {
            let hart = Hart::new();
            open(&hart.file);
            hart.file.modify(Register::Enabled(1), 1 << 1, u64::MAX);
            hart.send(2);
            let device = sender(&hart, 65);
            let mut claimed = hart.serve();
            device.join().unwrap();
            claimed.extend(hart.serve());
            assert_eq!(claimed, [2, 65]);
            assert_eq!(hart.file.top(), None);
            assert!(!hart.line());
        });
    }

    /// Two devices at once, in one word.
    #[test]
    fn loom_two_senders_are_both_claimed() {
        explore(|| {
            let hart = Hart::new();
            open(&hart.file);
            let devices = [sender(&hart, 3), sender(&hart, 4)];
            let mut claimed = hart.serve();
            for device in devices {
                device.join().unwrap();
            }
            claimed.extend(hart.serve());
            claimed.sort_unstable();
            assert_eq!(claimed, [3, 4]);
        });
    }

    /// The same message again while the one before is claimed: it comes once or twice, and nothing
    /// is left.
    #[test]
    fn loom_a_repeated_message_comes_after_the_claim_of_the_one_before() {
        explore(|| {
            let hart = Hart::new();
            open(&hart.file);
            hart.send(9);
            let device = sender(&hart, 9);
            let mut claimed = hart.serve();
            device.join().unwrap();
            claimed.extend(hart.serve());
            assert!(claimed == [9] || claimed == [9, 9]);
            assert_eq!(hart.file.top(), None);
            assert!(!hart.line());
        });
    }

    /// The guest enables an identity while it arrives.
    #[test]
    fn loom_enabling_does_not_miss_what_arrives() {
        explore(|| {
            let hart = Hart::new();
            hart.file.modify(Register::Delivery, 1, u64::MAX);
            let device = sender(&hart, 9);
            hart.file.modify(Register::Enabled(0), 1 << 9, 1 << 9);
            hart.drive();
            device.join().unwrap();
            assert!(hart.line());
            assert_eq!(hart.serve(), [9]);
        });
    }

    /// The guest switches delivery on, or lowers the bar, while a message arrives.
    #[test]
    fn loom_delivery_and_threshold_do_not_miss_what_arrives() {
        for (register, before, after) in [(Register::Delivery, 0, 1), (Register::Threshold, 5, 0)] {
            explore(move || {
                let hart = Hart::new();
                open(&hart.file);
                hart.file.modify(register, before, u64::MAX);
                let device = sender(&hart, 9);
                hart.file.modify(register, after, u64::MAX);
                hart.drive();
                device.join().unwrap();
                assert!(hart.line());
                assert_eq!(hart.serve(), [9]);
            });
        }
    }

    /// The guest claims, without waiting for its line, what is about to be signalled: the line is
    /// not high for nothing afterwards.
    #[test]
    fn loom_what_was_claimed_before_it_was_signalled_is_not_signalled() {
        explore(|| {
            let hart = Hart::new();
            open(&hart.file);
            let device = sender(&hart, 9);
            let claimed = claim(&hart.file);
            hart.drive();
            device.join().unwrap();
            assert_eq!(hart.line(), claimed.is_none());
        });
    }

    /// Whoever claims a message sees what it is about.
    #[test]
    fn loom_a_message_publishes_what_came_before_it() {
        explore(|| {
            let hart = Hart::new();
            open(&hart.file);
            let data = Arc::new(AtomicUsize::new(0));
            let device = {
                let (hart, data) = (hart.clone(), data.clone());
                thread::spawn(move || {
                    data.store(1, Ordering::Relaxed);
                    hart.send(7);
                })
            };
            if claim(&hart.file).is_some() {
                assert_eq!(data.load(Ordering::Relaxed), 1);
            }
            device.join().unwrap();
        });
    }

    /// Somebody sets bits of a word that the guest rewrites: those of others stay.
    #[test]
    fn loom_writing_pending_bits_spares_those_of_others() {
        explore(|| {
            let hart = Hart::new();
            open(&hart.file);
            hart.send(2);
            let device = sender(&hart, 3);
            let clear = hart
                .file
                .modify(Register::Pending(0), 1 << 4, 1 << 2 | 1 << 4);
            assert_eq!(clear & (1 << 2 | 1 << 4), 1 << 2);
            hart.drive();
            device.join().unwrap();
            assert_eq!(hart.serve(), [3, 4]);
        });
    }
}
