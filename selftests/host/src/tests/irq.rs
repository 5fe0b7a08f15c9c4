// SPDX-License-Identifier: GPL-2.0

//! Pending interrupts: what the word says against a model of `hvip`, and interleavings.

use crate::arch::irq_bits::{
    Interrupt,
    Word, //
};

const SOFTWARE: usize = 1 << 2;
const TIMER: usize = 1 << 6;
const EXTERNAL: usize = 1 << 10;

/// Takes what changed to `hvip`, as guest entry does.
fn enter(word: &Word, hvip: usize) -> usize {
    word.take_changes()
        .map_or(hvip, |update| update.apply(hvip))
}

#[cfg(not(loom))]
mod alone {
    use super::*;
    use crate::arch::irq_bits::{
        from_guest,
        to_guest, //
    };

    const OVERFLOW: usize = 1 << 13;

    #[test]
    fn positions_are_those_of_the_guest_and_back() {
        assert_eq!(from_guest(1 << 1 | 1 << 5 | 1 << 9 | 1 << 13) as usize, {
            SOFTWARE | TIMER | EXTERNAL | OVERFLOW
        });
        assert_eq!(from_guest(usize::MAX) as usize, {
            SOFTWARE | TIMER | EXTERNAL | OVERFLOW
        });
        assert_eq!(to_guest(u32::MAX), 1 << 1 | 1 << 5 | 1 << 9 | 1 << 13);
        for bit in 0..usize::BITS {
            let there = from_guest(1 << bit);
            assert!(there == 0 || to_guest(there) == 1 << bit, "bit {bit}");
        }
    }

    #[test]
    fn nothing_changes_by_itself() {
        let word = Word::new();
        assert_eq!(word.take_changes(), None);
        word.set(Interrupt::External);
        assert_eq!(enter(&word, TIMER), TIMER | EXTERNAL);
        assert_eq!(word.take_changes(), None);
    }

    #[test]
    fn clearing_what_is_not_pending_is_no_change() {
        let word = Word::new();
        word.clear(Interrupt::Timer);
        assert_eq!(word.take_changes(), None);
        word.set(Interrupt::Timer);
        word.clear(Interrupt::Timer);
        assert_eq!(enter(&word, TIMER), 0);
    }

    #[test]
    fn clearing_tells_whether_it_was_pending() {
        let word = Word::new();
        for interrupt in [Interrupt::Software, Interrupt::Timer, Interrupt::External] {
            assert!(!word.clear(interrupt));
            word.set(interrupt);
            assert!(word.clear(interrupt));
            assert!(!word.withdraw(interrupt));
        }
        word.sync(SOFTWARE);
        assert!(word.take_changes().is_some());
        word.sync(SOFTWARE);
        assert!(word.withdraw(Interrupt::Software), "the guest's own");
    }

    #[test]
    fn clearing_an_ipi_reaches_one_that_the_guest_sent_itself() {
        let word = Word::new();
        word.clear(Interrupt::Software);
        assert_eq!(enter(&word, SOFTWARE), 0);
    }

    #[test]
    fn the_guest_may_set_and_clear_its_own_ipi_only() {
        let word = Word::new();
        word.sync(SOFTWARE | TIMER | EXTERNAL | OVERFLOW);
        assert_eq!(word.pending() as usize, SOFTWARE);
        word.sync(0);
        assert_eq!(word.pending(), 0);
        word.set(Interrupt::CounterOverflow);
        word.set(Interrupt::External);
        let hvip = enter(&word, 0);
        assert_eq!(hvip, OVERFLOW | EXTERNAL);
        word.sync(hvip & !OVERFLOW);
        assert_eq!(word.pending() as usize, EXTERNAL);
    }

    #[test]
    fn restoring_replaces_everything() {
        let word = Word::new();
        word.set(Interrupt::Timer);
        word.replace(SOFTWARE as u32);
        word.sync(EXTERNAL);
        assert_eq!(word.pending() as usize, SOFTWARE);
        assert_eq!(enter(&word, TIMER | EXTERNAL | OVERFLOW), SOFTWARE);
    }

    /// Every history of seven steps, against the plain rule: an IPI is seen at the next entry
    /// whatever the guest did before; what the guest did afterwards counts; a line is seen as it
    /// was last moved.
    #[test]
    fn every_short_history_agrees_with_the_model() {
        const STEPS: u32 = 7;
        const KINDS: u32 = 7;

        for history in 0..KINDS.pow(STEPS) {
            let word = Word::new();
            let mut hvip = 0;
            let (mut ipi, mut line) = (false, false);
            let mut rest = history;
            for _ in 0..STEPS {
                match rest % KINDS {
                    0 => {
                        word.set(Interrupt::Software);
                        ipi = true;
                    }
                    1 => {
                        word.set(Interrupt::External);
                        line = true;
                    }
                    2 => {
                        word.clear(Interrupt::External);
                        line = false;
                    }
                    3 => hvip |= SOFTWARE,
                    4 => hvip &= !SOFTWARE,
                    5 => {
                        word.sync(hvip);
                        let pending = word.pending() as usize;
                        assert_eq!(pending & SOFTWARE != 0, ipi || hvip & SOFTWARE != 0);
                        assert_eq!(pending & EXTERNAL != 0, line);
                    }
                    _ => {
                        let expected = ipi || hvip & SOFTWARE != 0;
                        hvip = enter(&word, hvip);
                        ipi = false;
                        assert_eq!(hvip & SOFTWARE != 0, expected, "history {history}");
                        assert_eq!(hvip & EXTERNAL != 0, line, "history {history}");
                    }
                }
                rest /= KINDS;
            }
        }
    }
}

#[cfg(loom)]
mod interleave {
    use std::sync::Arc;

    use loom::{
        sync::atomic::{
            AtomicUsize,
            Ordering, //
        },
        thread, //
    };

    use super::*;
    use crate::tests::explore::explore;

    /// The guest acknowledges one IPI while the next one comes.
    #[test]
    fn loom_an_ipi_survives_the_acknowledgement_of_the_one_before() {
        explore(|| {
            let word = Arc::new(Word::new());
            word.set(Interrupt::Software);
            assert_eq!(enter(&word, 0), SOFTWARE);
            let sender = {
                let word = word.clone();
                thread::spawn(move || word.set(Interrupt::Software))
            };
            let mut hvip = 0;
            word.sync(hvip);
            hvip = enter(&word, hvip);
            sender.join().unwrap();
            hvip = enter(&word, hvip);
            assert_eq!(hvip, SOFTWARE);
            assert_eq!(word.pending() as usize, SOFTWARE);
        });
    }

    /// The guest sends an IPI to itself while a device moves its line up and down.
    #[test]
    fn loom_neighbours_do_not_disturb_each_other() {
        explore(|| {
            let word = Arc::new(Word::new());
            let device = {
                let word = word.clone();
                thread::spawn(move || {
                    word.set(Interrupt::External);
                    word.clear(Interrupt::External);
                })
            };
            let timer = {
                let word = word.clone();
                thread::spawn(move || word.set(Interrupt::Timer))
            };
            let mut hvip = SOFTWARE;
            word.sync(hvip);
            hvip = enter(&word, hvip);
            device.join().unwrap();
            timer.join().unwrap();
            hvip = enter(&word, hvip);
            assert_eq!(hvip, SOFTWARE | TIMER);
            assert_eq!(word.pending() as usize, SOFTWARE | TIMER);
        });
    }

    /// Whoever takes an interrupt sees what it is about.
    #[test]
    fn loom_an_interrupt_publishes_what_came_before_it() {
        explore(|| {
            let shared = Arc::new((Word::new(), AtomicUsize::new(0)));
            let device = {
                let shared = shared.clone();
                thread::spawn(move || {
                    shared.1.store(1, Ordering::Relaxed);
                    shared.0.set(Interrupt::External);
                })
            };
            // Something else may be in the word on the way.
            shared.0.set(Interrupt::Timer);
            if enter(&shared.0, 0) & EXTERNAL != 0 {
                assert_eq!(shared.1.load(Ordering::Relaxed), 1);
            }
            device.join().unwrap();
        });
    }
}
