// SPDX-License-Identifier: GPL-2.0

//! Supervisor registers: what userspace can put there, and what reaches a CPU that ignores writes
//! of what it cannot hold.

use std::cell::RefCell;
use std::collections::HashMap;

use proptest::prelude::*;

use crate::{
    arch::{
        registers::{
            self as csr,
            GuestCsr,
            Registers, //
        },
        supervisor::{
            GuestCsrs,
            Limits,
            SatpModes,
            Supervisor, //
        }, //
    },
    bindings::*,
    isa::{
        GuestIsa,
        HostIsa,
        VectorUse, //
    }, //
};

const ALL: [Supervisor; 15] = [
    Supervisor::Sstatus,
    Supervisor::Sie,
    Supervisor::Stvec,
    Supervisor::Sscratch,
    Supervisor::Sepc,
    Supervisor::Scause,
    Supervisor::Stval,
    Supervisor::Satp,
    Supervisor::Scounteren,
    Supervisor::Senvcfg,
    Supervisor::Sstateen0,
    Supervisor::Ssp,
    Supervisor::Siselect,
    Supervisor::Iprio1,
    Supervisor::Iprio2,
];

/// The bits that a register can have, on a host with all extensions.
fn fields(csr: Supervisor) -> usize {
    match csr {
        Supervisor::Sstatus => 0x8000_0003_008c_6722,
        Supervisor::Sie => 0x2222,
        Supervisor::Stvec => !2,
        Supervisor::Sepc => !1,
        Supervisor::Scounteren => 0xffff_ffff,
        Supervisor::Senvcfg => 0x3_0000_00fd,
        Supervisor::Sstateen0 => 7,
        Supervisor::Ssp => !3,
        Supervisor::Siselect => 0xfff,
        Supervisor::Iprio1 => 0xffff_ff00_ff00_ff00,
        Supervisor::Sscratch
        | Supervisor::Scause
        | Supervisor::Stval
        | Supervisor::Satp
        | Supervisor::Iprio2 => !0,
    }
}

/// A guest on a host that has those extensions that `has` says.
fn guest(has: impl Fn(u32) -> bool) -> GuestIsa {
    GuestIsa::new(&HostIsa::probe(has), VectorUse::Permitted)
}

fn limits(isa: &GuestIsa) -> Limits<'_> {
    Limits {
        isa,
        satp_modes: SatpModes::BARE.with(8 << 60).with(9 << 60),
    }
}

fn any_register() -> impl Strategy<Value = Supervisor> {
    proptest::sample::select(&ALL[..])
}

/// Any number, with those that have few zeros or few ones among them.
fn any_value() -> impl Strategy<Value = usize> {
    prop_oneof![
        any::<usize>(),
        (0..64u32).prop_map(|bit| 1 << bit),
        (0..64u32).prop_map(|bit| !(1 << bit)),
        Just(usize::MAX),
    ]
}

proptest! {
    #[test]
    fn nothing_outside_of_the_fields_is_kept(csr in any_register(), value in any_value()) {
        let isa = guest(|_| true);
        let mut csrs = GuestCsrs::RESET;
        csrs.set(csr, value, limits(&isa));
        prop_assert_eq!(csrs.get(csr) & !fields(csr), 0);
    }

    /// A VMM writes back what it has read.
    #[test]
    fn what_is_read_can_be_written_back(csr in any_register(), value in any_value()) {
        let isa = guest(|_| true);
        let mut csrs = GuestCsrs::RESET;
        csrs.set(csr, value, limits(&isa));
        let read = csrs.get(csr);
        let before = csrs;
        csrs.set(csr, read, limits(&isa));
        prop_assert_eq!(csrs, before);
    }

    #[test]
    fn no_register_changes_another(csr in any_register(), value in any_value()) {
        let isa = guest(|_| true);
        let mut csrs = GuestCsrs::RESET;
        csrs.set(csr, value, limits(&isa));
        for other in ALL {
            if other != csr {
                prop_assert_eq!(csrs.get(other), GuestCsrs::RESET.get(other));
            }
        }
    }

    /// A CPU that another VM has left its values in gets this vCPU's, or zero.
    #[test]
    fn a_cpu_keeps_nothing_of_another_vm(values in proptest::collection::vec(any_value(), 15)) {
        let isa = guest(|_| true);
        let (mut other, mut own) = (GuestCsrs::RESET, GuestCsrs::RESET);
        for (csr, value) in ALL.into_iter().zip(values) {
            other.set(csr, usize::MAX / 3, limits(&isa));
            own.set(csr, value, limits(&isa));
        }
        let cpu = Stubborn::default();
        other.load(&cpu);
        other.load_aia(&cpu);
        own.load(&cpu);
        own.load_aia(&cpu);
        prop_assert!([0, own.get(Supervisor::Stvec)].contains(&cpu.read(csr::VSTVEC)));
        prop_assert!([0, own.get(Supervisor::Satp)].contains(&cpu.read(csr::VSATP)));
        prop_assert!([0, own.get(Supervisor::Sepc)].contains(&cpu.read(csr::VSEPC)));
        prop_assert!([0, own.get(Supervisor::Scause)].contains(&cpu.read(csr::VSCAUSE)));
        prop_assert!([0, own.get(Supervisor::Stval)].contains(&cpu.read(csr::VSTVAL)));
        prop_assert!([0, own.get(Supervisor::Siselect)].contains(&cpu.read(csr::VSISELECT)));
        prop_assert_eq!(own.get(Supervisor::Iprio1), cpu.read(csr::HVIPRIO1));
        prop_assert_eq!(own.get(Supervisor::Iprio2), cpu.read(csr::HVIPRIO2));
    }
}

/// A CPU that ignores every write of an odd number of ones.
#[derive(Default)]
struct Stubborn(RefCell<HashMap<u32, usize>>);

impl Registers for Stubborn {
    fn read<const N: u32>(&self, _csr: GuestCsr<N>) -> usize {
        self.0.borrow().get(&N).copied().unwrap_or(0)
    }

    fn write<const N: u32>(&self, _csr: GuestCsr<N>, value: usize) {
        if value.count_ones() % 2 == 0 {
            self.0.borrow_mut().insert(N, value);
        }
    }

    fn swap<const N: u32>(&self, csr: GuestCsr<N>, value: usize) -> usize {
        let old = self.read(csr);
        self.write(csr, value);
        old
    }

    fn write_readback<const N: u32>(&self, csr: GuestCsr<N>, value: usize) -> usize {
        self.write(csr, value);
        self.read(csr)
    }

    fn hgatp(&self) -> usize {
        0
    }

    unsafe fn set_hgatp(&self, _value: usize) {}
}

#[test]
fn sstatus_has_units_that_the_guest_has() {
    let units = |isa: &GuestIsa| {
        let mut csrs = GuestCsrs::RESET;
        csrs.set(Supervisor::Sstatus, usize::MAX, limits(isa));
        csrs.get(Supervisor::Sstatus)
    };
    let without = |bit: u32| guest(move |has| has != bit);
    assert_eq!(units(&guest(|_| true)), 0x8000_0002_008c_6722);
    assert_eq!(
        units(&without(RISCV_ISA_EXT_V as u32)),
        0x8000_0002_008c_6122
    );
    assert_eq!(
        units(&without(RISCV_ISA_EXT_ZICFILP)),
        0x8000_0002_000c_6722
    );
    // V needs F.
    assert_eq!(
        units(&without(RISCV_ISA_EXT_F as u32)),
        0x0000_0002_008c_0122
    );
}

#[test]
fn what_was_written_before_an_extension_went_goes_with_it() {
    let (isa, plain) = (guest(|_| true), guest(|_| false));
    let (mut csrs, mut want) = (GuestCsrs::RESET, GuestCsrs::RESET);
    for csr in ALL {
        csrs.set(csr, usize::MAX, limits(&isa));
    }
    csrs.confine(plain.effective());
    for csr in [Supervisor::Sstatus, Supervisor::Sie, Supervisor::Senvcfg] {
        want.set(csr, usize::MAX, limits(&plain));
        assert_eq!(csrs.get(csr), want.get(csr));
    }
}

#[test]
fn a_narrow_user_mode_is_kept() {
    let isa = guest(|_| true);
    let mut csrs = GuestCsrs::RESET;
    assert_eq!(csrs.get(Supervisor::Sstatus), 2 << 32);
    for (written, read) in [(0, 2), (1, 1), (2, 2), (3, 2)] {
        csrs.set(Supervisor::Sstatus, written << 32, limits(&isa));
        assert_eq!(csrs.get(Supervisor::Sstatus), read << 32);
    }
}

#[test]
fn satp_with_a_mode_that_there_is_not_stays() {
    let isa = guest(|_| true);
    let mut csrs = GuestCsrs::RESET;
    for mode in 0..16 {
        let value = mode << 60 | 0x1234;
        let before = csrs.get(Supervisor::Satp);
        csrs.set(Supervisor::Satp, value, limits(&isa));
        let want = if [0, 8, 9].contains(&mode) {
            value
        } else {
            before
        };
        assert_eq!(csrs.get(Supervisor::Satp), want, "mode {mode}");
    }
}

#[test]
fn senvcfg_has_no_reserved_value() {
    let isa = guest(|_| true);
    let mut csrs = GuestCsrs::RESET;
    for (written, read) in [
        (0x20, 0),
        (0x10, 0x10),
        (0x30, 0x30),
        (1 << 32, 0),
        (3 << 32, 3 << 32),
    ] {
        csrs.set(Supervisor::Senvcfg, written, limits(&isa));
        assert_eq!(csrs.get(Supervisor::Senvcfg), read);
    }
    // Nothing but FIOM is a guest's that has no extension.
    let isa = guest(|_| false);
    csrs.set(Supervisor::Senvcfg, usize::MAX, limits(&isa));
    assert_eq!(csrs.get(Supervisor::Senvcfg), 1);
}
