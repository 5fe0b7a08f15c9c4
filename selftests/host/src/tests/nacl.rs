// SPDX-License-Identifier: GPL-2.0

//! Nested acceleration: what is in the shared memory, and who is called when, by SBI 3.0, "Nested
//! Acceleration Extension".

use std::{
    sync::atomic::Ordering,
    thread, //
};

use proptest::prelude::*;

use crate::{
    arch::{
        gprs::{
            Gprs,
            Reg, //
        },
        nacl::{
            hfence::{
                Hfence,
                Span, //
            },
            memory::HFENCES,
            provider::{
                Feature,
                Features,
                Refused, //
            },
            shared::{
                Hstatus,
                Left,
                Shared, //
            }, //
        },
        registers::{
            self as csr,
            Registers, //
        }, //
    },
    bindings,
    kvm_core::addr::{
        Asid,
        Gfn,
        GfnRange,
        Vmid, //
    }, //
};

mod mock;

use mock::{
    Event,
    GuestTrap,
    Mock,
    Words, //
    AUTOSWAP_CSR,
    EVERY_FEATURE,
    NO_SHMEM,
    SYNC_CSR,
    SYNC_HFENCE,
    SYNC_SRET,
};

const ALL: usize = usize::MAX;

/// Our side of `mock`, before it is enabled.
fn disabled(mock: &Mock) -> Shared<'_, &Mock, &Mock> {
    let features = Features::probe(&mock);
    mock.take_events();
    Shared::new(mock.memory(), features, mock, mock)
}

/// The same, enabled.
fn shared(mock: &Mock) -> Shared<'_, &Mock, &Mock> {
    let shared = disabled(mock);
    shared.enable(mock.physical()).unwrap();
    mock.take_events();
    shared
}

/// A fence for all, told apart by its VMID.
fn numbered(number: usize) -> Hfence {
    Hfence::GvmaVmid(Vmid::new(number as u16), Span::Everything)
}

/// Has `hfence` executed, and tells whether it waits: if not, its instruction was.
fn waits(shared: &Shared<'_, &Mock, &Mock>, hfence: Hfence) -> bool {
    let mut executed = 0;
    shared.fence(hfence, || executed += 1);
    assert!(executed <= 1);
    executed == 0
}

fn number_of(words: &Words) -> usize {
    (words[0] >> 16 & 0x3fff) as usize
}

mod features {
    use super::*;

    #[test]
    fn are_probed_one_by_one() {
        for features in 0..=EVERY_FEATURE {
            let mock = Mock::new(features);
            let found = Features::probe(&&mock);
            assert_eq!(mock.take_events(), [0, 1, 2, 3].map(Event::Probed));
            for (bit, feature) in Feature::ALL.into_iter().enumerate() {
                assert_eq!(found.has(feature), features >> bit & 1 != 0);
            }
            assert_eq!(Features::from_raw(found.into_raw()), found);
        }
    }

    #[test]
    fn that_cannot_be_probed_are_not_there() {
        let mock = Mock::new(EVERY_FEATURE);
        mock.refuses.set(Some(-1));
        assert_eq!(Features::probe(&&mock), Features::from_raw(0));
    }

    #[test]
    fn have_the_names_that_c_logs() {
        let names = |features| {
            Features::probe(&&Mock::new(features))
                .names()
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(EVERY_FEATURE),
            ["sync_csr", "sync_hfence", "sync_sret", "autoswap_csr"]
        );
        assert_eq!(names(SYNC_SRET), ["sync_sret"]);
        assert!(names(0).is_empty());
    }
}

mod memory {
    use super::*;

    #[test]
    fn is_set_with_its_address_and_no_flags() {
        let mock = Mock::new(EVERY_FEATURE);
        disabled(&mock).enable(mock.physical()).unwrap();
        let args = [mock.physical() as usize, 0, 0];
        assert_eq!(mock.take_events(), [Event::SetShmem(args)]);
    }

    #[test]
    fn that_is_refused_is_an_error() {
        let mock = Mock::new(EVERY_FEATURE);
        let shared = disabled(&mock);
        mock.refuses.set(Some(-5));
        assert_eq!(shared.enable(mock.physical()), Err(Refused(-5)));
    }

    #[test]
    fn is_left_with_ones_once_waiting_fences_are_executed() {
        let mock = Mock::new(EVERY_FEATURE);
        let shared = shared(&mock);
        assert!(waits(&shared, numbered(7)));
        shared.disable();
        let events = mock.take_events();
        assert_eq!(events.len(), 3);
        assert_eq!(events[0], Event::SyncedHfence(ALL));
        assert!(matches!(&events[1], Event::Fenced(words) if number_of(words) == 7));
        assert_eq!(events[2], Event::SetShmem([ALL, ALL, 0]));
    }

    #[test]
    fn brings_nothing_from_an_earlier_time() {
        let mock = Mock::new(EVERY_FEATURE);
        let shared = shared(&mock);
        shared.write(csr::VSIE, 0x222);
        mock.stuck.set(true);
        assert!(waits(&shared, numbered(7)));
        shared.disable();
        mock.stuck.set(false);
        shared.enable(mock.physical()).unwrap();
        mock.take_events();
        assert_eq!(shared.sync(), Ok(()));
        assert_eq!(mock.take_events(), []);
    }
}

mod registers_in_memory {
    use super::*;

    /// Every register that is ever accessed by way of the memory.
    macro_rules! for_each_register {
        ($do:ident) => {
            for_each_register!($do: VSSTATUS VSIE VSTVEC VSSCRATCH VSEPC VSCAUSE VSTVAL VSATP
                VSTIMECMP HVIP HTIMEDELTA HEDELEG HENVCFG HSTATEEN0 HCOUNTEREN HVICTL HVIEN
                HVIPRIO1 HVIPRIO2 VSISELECT VSIREG)
        };
        ($do:ident: $($name:ident)*) => {
            $($do(csr::$name);)*
        };
    }

    #[test]
    fn are_where_the_table_says() {
        fn check<const N: u32>(register: csr::GuestCsr<N>) {
            let mock = Mock::new(EVERY_FEATURE);
            let shared = shared(&mock);
            shared.write(register, 0x1234);
            assert_eq!(mock.space(N), 0x1234);
            assert!(mock.is_dirty(N));
            let set: u32 = (0xf80..0x1000)
                .step_by(8)
                .map(|at| mock.peek(at).count_ones())
                .sum();
            assert_eq!(set, 1);
            assert_eq!(shared.read(register), 0x1234);
            assert_eq!(shared.swap(register, 5), 0x1234);
            assert_eq!(shared.read(register), 5);
            // Nobody was asked, and the register has nothing of it.
            assert_eq!(mock.take_events(), []);
            assert_eq!(mock.csr(N), 0);
        }
        for_each_register!(check);
    }

    #[test]
    fn become_real_when_they_are_synchronised() {
        let mock = Mock::new(EVERY_FEATURE);
        let shared = shared(&mock);
        shared.write(csr::VSIE, 0x222);
        shared.write(csr::VSTVEC, 0x8000);
        assert_eq!(shared.sync(), Ok(()));
        assert_eq!(mock.csr(bindings::CSR_VSIE), 0x222);
        assert_eq!(mock.csr(bindings::CSR_VSTVEC), 0x8000);
        assert!(!mock.is_dirty(bindings::CSR_VSIE));
        let calls = |event: &&Event| matches!(event, Event::SyncedCsr(_) | Event::SyncedHfence(_));
        let events = mock.take_events();
        let calls: Vec<_> = events.iter().filter(calls).collect();
        assert_eq!(calls, [&Event::SyncedCsr(ALL)]);
        // Once.
        assert_eq!(shared.sync(), Ok(()));
        assert_eq!(mock.take_events(), []);
    }

    #[test]
    fn that_are_only_read_are_not_dirty() {
        let mock = Mock::new(EVERY_FEATURE);
        let shared = shared(&mock);
        mock.set_csr(bindings::CSR_HVIP, 0x40);
        mock.take_events();
        assert_eq!(shared.read(csr::HVIP), 0x40);
        assert_eq!(shared.sync(), Ok(()));
        assert_eq!(mock.take_events(), []);
    }

    #[test]
    fn are_written_by_instruction_without_the_feature() {
        let mock = Mock::new(EVERY_FEATURE & !SYNC_CSR);
        let shared = shared(&mock);
        shared.write(csr::VSIE, 0x222);
        assert_eq!(mock.csr(bindings::CSR_VSIE), 0x222);
        assert!(!mock.is_dirty(bindings::CSR_VSIE));
        // Read in the memory all the same.
        mock.word(0x1000 + 8 * Mock::index(bindings::CSR_VSIE))
            .store(0x111, Ordering::Relaxed);
        assert_eq!(shared.read(csr::VSIE), 0x111);
        assert_eq!(shared.swap(csr::VSIE, 3), 0x222);
        // SAFETY: it is a number.
        unsafe { shared.set_hgatp(9) };
        assert_eq!(mock.csr(bindings::CSR_HGATP), 9);
        assert_eq!(shared.hgatp(), 9);
        assert_eq!(shared.write_readback(csr::HVIPRIO1, 4), 4);
        assert_eq!(shared.sync(), Ok(()));
        assert!(!mock.take_events().contains(&Event::SyncedCsr(ALL)));
    }

    #[test]
    fn tell_what_the_hardware_makes_of_a_value() {
        let mock = Mock::new(EVERY_FEATURE);
        let shared = shared(&mock);
        mock.implemented
            .borrow_mut()
            .insert(bindings::CSR_HVIPRIO1, 0xff00);
        assert_eq!(shared.write_readback(csr::HVIPRIO1, 0x1234), 0x1200);
        let number = bindings::CSR_HVIPRIO1 as usize;
        assert_eq!(mock.take_events()[0], Event::SyncedCsr(number));
        // What is known to fit is not asked for again.
        assert_eq!(shared.write_readback(csr::HVIPRIO1, 0x1200), 0x1200);
        assert_eq!(mock.take_events(), []);
    }

    #[test]
    fn refuse_to_be_the_guests_if_they_cannot_be_synchronised() {
        let mock = Mock::new(EVERY_FEATURE);
        let shared = shared(&mock);
        shared.write(csr::VSATP, 1);
        mock.refuses.set(Some(NO_SHMEM));
        assert_eq!(shared.sync(), Err(Refused(NO_SHMEM)));
    }

    #[test]
    fn include_hgatp_which_fences_need_at_once() {
        let mock = Mock::new(EVERY_FEATURE & !SYNC_HFENCE);
        let shared = shared(&mock);
        // SAFETY: it is a number.
        unsafe { shared.set_hgatp(0x8001_2345_6789_abcd) };
        assert_eq!(shared.hgatp(), 0x8001_2345_6789_abcd);
        assert_eq!(mock.csr(bindings::CSR_HGATP), 0);
        let mut seen = None;
        shared.fence(numbered(1), || seen = Some(mock.csr(bindings::CSR_HGATP)));
        assert_eq!(seen, Some(0x8001_2345_6789_abcd));
        assert!(shared.sync().is_ok());
        assert_eq!(mock.csr(bindings::CSR_HGATP), 0x8001_2345_6789_abcd);
    }
}

mod fences {
    use super::*;

    const PENDING: u64 = 1 << 63;

    #[test]
    fn are_encoded_as_in_the_table() {
        let vmid = Vmid::new(0x2aaa);
        let asid = Asid::new(0xbeef);
        let pages = Span::Pages {
            first: 0x12345,
            count: 17,
        };
        let all = Span::Everything;
        let range = |kind: u64, vmid: u64, asid: u64| {
            [PENDING | kind << 56 | vmid << 16 | asid, 0x12345, 0, 17]
        };
        let everything =
            |kind: u64, vmid: u64, asid: u64| [PENDING | kind << 56 | vmid << 16 | asid, 0, 0, 0];
        let cases = [
            (Hfence::Gvma(pages), range(0, 0, 0)),
            (Hfence::Gvma(all), everything(1, 0, 0)),
            (Hfence::GvmaVmid(vmid, pages), range(2, 0x2aaa, 0)),
            (Hfence::GvmaVmid(vmid, all), everything(3, 0x2aaa, 0)),
            (Hfence::Vvma(vmid, pages), range(4, 0x2aaa, 0)),
            (Hfence::Vvma(vmid, all), everything(5, 0x2aaa, 0)),
            (
                Hfence::VvmaAsid(vmid, asid, pages),
                range(6, 0x2aaa, 0xbeef),
            ),
            (
                Hfence::VvmaAsid(vmid, asid, all),
                everything(7, 0x2aaa, 0xbeef),
            ),
        ];
        for (hfence, words) in cases {
            let mock = Mock::new(EVERY_FEATURE);
            let shared = shared(&mock);
            assert!(waits(&shared, hfence));
            assert_eq!(mock.hfence_words(0), words, "{hfence:?}");
            // It waits.
            assert_eq!(mock.take_events(), []);
            assert_eq!(shared.sync(), Ok(()));
            assert_eq!(mock.fences(), [words]);
        }
    }

    #[test]
    fn leave_nothing_of_the_one_before() {
        let mock = Mock::new(EVERY_FEATURE);
        let shared = shared(&mock);
        let first = Hfence::VvmaAsid(
            Vmid::new(0x3fff),
            Asid::new(0xffff),
            Span::Pages {
                first: u64::MAX >> 12,
                count: u64::MAX,
            },
        );
        assert!(waits(&shared, first));
        assert_eq!(shared.sync(), Ok(()));
        assert!(waits(&shared, Hfence::Gvma(Span::Everything)));
        assert_eq!(mock.hfence_words(0), [PENDING | 1 << 56, 0, 0, 0]);
    }

    #[test]
    fn of_frames_are_pages_of_4_kib() {
        let frames = GfnRange::new(Gfn::new(0x80000), Gfn::new(0x80200));
        assert_eq!(
            Span::frames(frames),
            Span::Pages {
                first: 0x80000,
                count: 0x200
            }
        );
    }

    #[test]
    fn take_the_first_free_place() {
        let mock = Mock::new(EVERY_FEATURE);
        let shared = shared(&mock);
        for number in 0..4 {
            assert!(waits(&shared, numbered(number)));
        }
        // The other side executes one early.
        mock.word(0x800 + 32).store(0, Ordering::Relaxed);
        assert!(waits(&shared, numbered(9)));
        let numbers = [0, 1, 2, 3].map(|entry| number_of(&mock.hfence_words(entry)));
        assert_eq!(numbers, [0, 9, 2, 3]);
    }

    #[test]
    fn that_do_not_fit_have_the_others_executed() {
        let mock = Mock::new(EVERY_FEATURE);
        let shared = shared(&mock);
        assert_eq!(HFENCES, 60);
        for number in 0..HFENCES {
            assert!(waits(&shared, numbered(number)));
            assert_eq!(mock.take_events(), []);
        }
        assert!(waits(&shared, numbered(HFENCES)));
        assert_eq!(mock.events.borrow()[0], Event::SyncedHfence(ALL));
        assert_eq!(shared.sync(), Ok(()));
        let numbers: Vec<_> = mock.fences().iter().map(number_of).collect();
        assert_eq!(numbers, (0..=HFENCES).collect::<Vec<_>>());
    }

    /// C logs and forgets it.
    #[test]
    fn are_never_lost_even_if_no_place_becomes_free() {
        for refusal in [None, Some(NO_SHMEM)] {
            let mock = Mock::new(EVERY_FEATURE);
            let shared = shared(&mock);
            for number in 0..HFENCES {
                assert!(waits(&shared, numbered(number)));
            }
            mock.stuck.set(refusal.is_none());
            mock.refuses.set(refusal);
            assert!(!waits(&shared, numbered(HFENCES)));
            // It gave up after a few attempts.
            let attempts = |e: &&Event| matches!(e, Event::SyncedHfence(_));
            assert!(mock.take_events().iter().filter(attempts).count() <= 5);
            mock.stuck.set(false);
            mock.refuses.set(None);
            assert_eq!(shared.sync(), Ok(()));
            assert_eq!(mock.fences().len(), HFENCES);
        }
    }

    /// C has them wait for ever.
    #[test]
    fn are_instructions_without_the_feature() {
        let mock = Mock::new(EVERY_FEATURE & !SYNC_HFENCE);
        let shared = shared(&mock);
        assert!(!waits(&shared, numbered(1)));
        assert_eq!(mock.hfence_words(0), [0; 4]);
        let hgatp = Event::CsrWritten(bindings::CSR_HGATP, 0);
        assert_eq!(mock.take_events(), [hgatp]);
    }

    /// What the specification lets hardware do: look at any time.
    #[test]
    fn are_complete_when_they_can_be_seen() {
        const ROUNDS: u64 = 20_000;

        struct Everywhere(Mock);
        // SAFETY: the thread uses the memory alone, which is all atomics.
        unsafe impl Sync for Everywhere {}

        let mock = Everywhere(Mock::new(EVERY_FEATURE));
        let shared = shared(&mock.0);
        thread::scope(|scope| {
            let mock = &mock;
            let hardware = scope.spawn(move || {
                let mut seen = 0;
                while seen < ROUNDS {
                    let config = mock.0.word(0x800);
                    if config.load(Ordering::Acquire) & PENDING != 0 {
                        let first = mock.0.word(0x808).load(Ordering::Relaxed);
                        let count = mock.0.word(0x818).load(Ordering::Relaxed);
                        assert_eq!((first, count), (seen, seen + 1));
                        seen += 1;
                        config.store(0, Ordering::Release);
                    }
                    thread::yield_now();
                }
            });
            for first in 0..ROUNDS {
                let count = first + 1;
                let pages = Span::Pages { first, count };
                while mock.0.peek(0x800) & PENDING != 0 {
                    assert!(!hardware.is_finished());
                    thread::yield_now();
                }
                assert!(waits(&shared, Hfence::Gvma(pages)));
            }
        });
    }
}

mod entry {
    use super::*;

    const GUEST_HSTATUS: usize = 0x2_0000_0180;
    const HOST_HSTATUS: u64 = 0x2_0000_0000;
    const TRAP: GuestTrap = GuestTrap {
        hstatus: 0x2_0000_01c0,
        htval: 0x2000_0001,
        htinst: 0x3020,
    };

    fn guest() -> Gprs {
        let mut gprs = Gprs::zeroed();
        for number in 1..32 {
            gprs.set(Reg::new(number).unwrap(), 0x1000 + usize::from(number));
        }
        gprs
    }

    fn mock(features: u32) -> Mock {
        let mock = Mock::new(features);
        mock.trap.set(TRAP);
        mock
    }

    #[test]
    fn has_every_register_in_its_place_and_nothing_in_that_of_x0() {
        let mock = mock(EVERY_FEATURE);
        let shared = shared(&mock);
        let sret = |_| mock.sync_sret();
        assert!(shared.enter(&guest(), GUEST_HSTATUS, sret).is_ok());
        let gprs = mock.entered.borrow().gprs;
        assert_eq!(gprs[0], 0);
        for (number, value) in gprs.into_iter().enumerate().skip(1) {
            assert_eq!(value, 0x1000 + number as u64);
        }
        // What is reserved behind them stays zero.
        assert!((0x100..0x200).step_by(8).all(|at| mock.peek(at) == 0));
    }

    #[test]
    fn comes_after_registers_and_fences() {
        let mock = mock(EVERY_FEATURE);
        let shared = shared(&mock);
        shared.write(csr::VSSCRATCH, 77);
        assert!(waits(&shared, numbered(3)));
        let sret = |_| mock.sync_sret();
        assert!(shared.enter(&guest(), GUEST_HSTATUS, sret).is_ok());
        let events = mock.take_events();
        let at = |wanted: &dyn Fn(&Event) -> bool| events.iter().position(wanted).unwrap();
        let written = at(&|e| *e == Event::CsrWritten(bindings::CSR_VSSCRATCH, 77));
        let fenced = at(&|e| matches!(e, Event::Fenced(words) if number_of(words) == 3));
        let entered = at(&|e| *e == Event::Entered);
        assert!(written < fenced && fenced < entered);
        // Nothing is left to synchronise, and nothing was called for it.
        assert!(!events.contains(&Event::SyncedCsr(ALL)));
        assert_eq!(shared.sync(), Ok(()));
        assert_eq!(mock.take_events(), []);
    }

    #[test]
    fn swaps_hstatus_by_itself_with_autoswap() {
        let mock = mock(EVERY_FEATURE);
        let shared = shared(&mock);
        mock.set_csr(bindings::CSR_HSTATUS, HOST_HSTATUS);
        let left = shared.enter(&guest(), GUEST_HSTATUS, |hstatus| {
            assert_eq!(hstatus, Hstatus::SwapsItself);
            assert_eq!(
                (mock.peek(0x200), mock.peek(0x208)),
                (1, GUEST_HSTATUS as u64)
            );
            mock.sync_sret()
        });
        assert_eq!(mock.entered.borrow().hstatus, GUEST_HSTATUS as u64);
        assert_eq!(mock.csr(bindings::CSR_HSTATUS), HOST_HSTATUS);
        let expected = Left {
            hstatus: Some(TRAP.hstatus as usize),
            htval: TRAP.htval as usize,
            htinst: TRAP.htinst as usize,
        };
        assert_eq!(left, Ok(expected));
        // A guest that is entered by other means later finds hstatus alone.
        assert_eq!(mock.peek(0x200), 0);
    }

    #[test]
    fn leaves_hstatus_to_the_world_switch_without() {
        let mock = mock(EVERY_FEATURE & !AUTOSWAP_CSR);
        let shared = shared(&mock);
        let left = shared.enter(&guest(), GUEST_HSTATUS, |hstatus| {
            assert_eq!(hstatus, Hstatus::MustBeSwapped);
            assert_eq!(mock.peek(0x200), 0);
            mock.sync_sret()
        });
        assert_eq!(left.unwrap().hstatus, None);
    }

    #[test]
    fn is_not_called_for_without_the_feature() {
        let mock = mock(EVERY_FEATURE & !SYNC_SRET);
        let shared = shared(&mock);
        let answer = shared.enter(&guest(), GUEST_HSTATUS, |_| panic!("called"));
        assert_eq!(answer, Err(None));
        assert_eq!(mock.peek(0x200), 0);
    }

    #[test]
    fn that_is_refused_changes_nothing() {
        let mock = mock(EVERY_FEATURE);
        let shared = shared(&mock);
        mock.set_csr(bindings::CSR_HSTATUS, HOST_HSTATUS);
        shared.write(csr::VSIE, 5);
        mock.refuses.set(Some(NO_SHMEM));
        let answer = shared.enter(&guest(), GUEST_HSTATUS, |_| mock.sync_sret());
        assert_eq!(answer, Err(Some(Refused(NO_SHMEM))));
        assert_eq!(mock.peek(0x200), 0);
        assert_eq!(mock.csr(bindings::CSR_HSTATUS), HOST_HSTATUS);
        mock.refuses.set(None);
        assert_eq!(shared.sync(), Ok(()));
        assert_eq!(mock.csr(bindings::CSR_VSIE), 5);
    }
}

mod random {
    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Write(u8, u64),
        Swap(u8, u64),
        Read(u8),
        /// The hypervisor below, or hardware, changes a register of the guest.
        Changes(u8, u64),
        Hgatp(u64),
        Fence(u16, u64, u64),
        Sync,
        Enter(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..4u8, any::<u64>()).prop_map(|(n, v)| Step::Write(n, v)),
            2 => (0..4u8, any::<u64>()).prop_map(|(n, v)| Step::Swap(n, v)),
            3 => (0..4u8).prop_map(Step::Read),
            1 => any::<u64>().prop_map(Step::Hgatp),
            8 => (0..0x4000u16, any::<u64>(), any::<u64>()).prop_map(|(v, f, c)| Step::Fence(v, f, c)),
            1 => Just(Step::Sync),
            1 => (0..4u8, any::<u64>()).prop_map(|(n, v)| Step::Changes(n, v)),
            1 => any::<u64>().prop_map(Step::Enter),
        ]
    }

    const NUMBERS: [u32; 4] = [
        bindings::CSR_VSSTATUS,
        bindings::CSR_HVIP,
        bindings::CSR_VSTIMECMP,
        bindings::CSR_VSISELECT,
    ];

    macro_rules! register {
        ($n:expr, $name:ident => $do:expr) => {
            match $n {
                0 => {
                    let $name = csr::VSSTATUS;
                    $do
                }
                1 => {
                    let $name = csr::HVIP;
                    $do
                }
                2 => {
                    let $name = csr::VSTIMECMP;
                    $do
                }
                _ => {
                    let $name = csr::VSISELECT;
                    $do
                }
            }
        };
    }

    /// A CPU whose registers and fences act at once.
    #[derive(Default)]
    struct Model {
        csrs: [u64; 4],
        hgatp: u64,
        owed: Vec<Words>,
    }

    impl Model {
        /// Whoever runs or reads for the guest now finds what it should.
        fn check(&mut self, mock: &Mock) {
            for (number, value) in NUMBERS.into_iter().zip(self.csrs) {
                assert_eq!(mock.csr(number), value);
            }
            assert_eq!(mock.csr(bindings::CSR_HGATP), self.hgatp);
            let executed = mock.fences();
            for owed in self.owed.drain(..) {
                assert!(executed.contains(&owed), "{owed:x?} is lost");
            }
            mock.take_events();
        }
    }

    proptest! {
        #[test]
        fn accesses_do_what_instructions_would(
            features in 0..=EVERY_FEATURE,
            steps in proptest::collection::vec(step(), 1..400),
        ) {
            let mock = Mock::new(features);
            let shared = shared(&mock);
            let mut model = Model::default();
            for step in steps {
                match step {
                    Step::Write(n, value) => {
                        register!(n, csr => shared.write(csr, value as usize));
                        model.csrs[usize::from(n)] = value;
                    }
                    Step::Swap(n, value) => {
                        let old = register!(n, csr => shared.swap(csr, value as usize));
                        prop_assert_eq!(old as u64, model.csrs[usize::from(n)]);
                        model.csrs[usize::from(n)] = value;
                    }
                    Step::Read(n) => {
                        let value = register!(n, csr => shared.read(csr));
                        prop_assert_eq!(value as u64, model.csrs[usize::from(n)]);
                    }
                    Step::Changes(n, value) => {
                        // While a guest runs, hence with nothing left to synchronise.
                        prop_assert!(shared.sync().is_ok());
                        model.check(&mock);
                        mock.set_csr(NUMBERS[usize::from(n)], value);
                        model.csrs[usize::from(n)] = value;
                    }
                    Step::Hgatp(value) => {
                        // SAFETY: it is a number.
                        unsafe { shared.set_hgatp(value as usize) };
                        model.hgatp = value;
                        prop_assert_eq!(shared.hgatp() as u64, value);
                    }
                    Step::Fence(vmid, first, count) => {
                        let pages = Span::Pages { first, count };
                        if waits(&shared, Hfence::GvmaVmid(Vmid::new(vmid), pages)) {
                            let config = 1 << 63 | 2 << 56 | u64::from(vmid) << 16;
                            model.owed.push([config, first, 0, count]);
                        } else {
                            // The instruction, then.
                            prop_assert!(features & SYNC_HFENCE == 0);
                        }
                    }
                    Step::Sync => {
                        prop_assert!(shared.sync().is_ok());
                        model.check(&mock);
                    }
                    Step::Enter(htval) => {
                        mock.trap.set(GuestTrap { htval, ..GuestTrap::default() });
                        let mut called = false;
                        let answer = shared.enter(&Gprs::zeroed(), 0, |_| {
                            called = true;
                            mock.sync_sret()
                        });
                        prop_assert_eq!(called, features & SYNC_SRET != 0);
                        match answer {
                            Ok(left) => prop_assert_eq!(left.htval as u64, htval),
                            Err(_) => prop_assert!(shared.sync().is_ok()),
                        }
                        model.check(&mock);
                    }
                }
            }
        }
    }
}
