// SPDX-License-Identifier: GPL-2.0

//! Modes, entries, addresses.

use crate::{
    gstage::*,
    kvm_core::addr::*, //
};

#[test]
fn tables_are_pages_of_words() {
    assert_eq!(size_of::<Table>(), 4096);
    assert_eq!(align_of::<Table>(), 4096);
    assert_eq!(size_of::<RootTable>(), 16384);
    assert_eq!(align_of::<RootTable>(), 16384);
}

#[test]
fn modes_are_as_the_architecture_has_them() {
    let facts = Mode::ALL.map(|m| (m.encoding(), m.levels(), m.gpa_bits(), m.top()));
    assert_eq!(
        facts,
        [
            (8, 3, 41, Level::Giga),
            (9, 4, 50, Level::Tera),
            (10, 5, 59, Level::Peta)
        ]
    );
    for mode in Mode::ALL {
        assert_eq!(mode.frames().len(), 1 << (mode.gpa_bits() - 12));
        assert_eq!(Mode::try_from(mode.encoding()), Ok(mode));
    }
    assert!(Mode::Sv39x4 < Mode::Sv48x4 && Mode::Sv48x4 < Mode::Sv57x4);
}

#[test]
fn other_encodings_are_refused() {
    for encoding in (0..8)
        .chain(11..130)
        .chain([1 << 32 | 8, 1 << 63 | 8, u64::MAX])
    {
        assert_eq!(Mode::try_from(encoding), Err(UnknownMode), "{encoding:#x}");
    }
}

#[test]
fn narrowest_mode_for_a_width() {
    let expect = [
        (0, Some(Mode::Sv39x4)),
        (41, Some(Mode::Sv39x4)),
        (42, Some(Mode::Sv48x4)),
        (50, Some(Mode::Sv48x4)),
        (51, Some(Mode::Sv57x4)),
        (59, Some(Mode::Sv57x4)),
        (60, None),
        (u64::MAX, None),
    ];
    for (bits, mode) in expect {
        assert_eq!(Mode::for_gpa_bits(bits), mode, "{bits}");
    }
}

#[test]
fn fields_of_an_entry_are_where_the_architecture_has_them() {
    let at = |pte: Pte| pte.into_raw();
    let none = Pte::from_raw(0);
    assert_eq!(at(none.with_valid(true)), 1);
    assert_eq!(at(none.with_read(true)), 1 << 1);
    assert_eq!(at(none.with_write(true)), 1 << 2);
    assert_eq!(at(none.with_execute(true)), 1 << 3);
    assert_eq!(at(none.with_user(true)), 1 << 4);
    assert_eq!(at(none.with_accessed(true)), 1 << 6);
    assert_eq!(at(none.with_dirty(true)), 1 << 7);
    assert_eq!(at(none.with_host_writable(true)), 1 << 8);
    assert_eq!(at(none.with_const_ppn::<1>()), 1 << 10);
    assert_eq!(
        at(none.with_const_ppn::<{ (1 << 44) - 1 }>()),
        ((1 << 44) - 1) << 10
    );
    assert_eq!(at(none.with_pbmt(Pbmt::Nc)), 1 << 61);
    assert_eq!(at(none.with_pbmt(Pbmt::Io)), 2 << 61);
    assert_eq!(at(none.with_napot(true)), 1 << 63);
}

#[test]
fn host_sizes_are_rounded_down_to_leaves() {
    assert_eq!(PageSize::Size4K.level(), Level::Page);
    assert_eq!(PageSize::Size64K.level(), Level::Page);
    assert_eq!(PageSize::Size2M.level(), Level::Mega);
    assert_eq!(PageSize::Size1G.level(), Level::Giga);
    for size in PageSize::ALL {
        assert!(size.level().shift() <= size.shift());
        assert_eq!(size.bytes(), size.frames() << PAGE_SHIFT);
    }
}

#[test]
fn ranges_of_frames() {
    let range = |start, end| GfnRange::new(Gfn::new(start), Gfn::new(end));
    assert!(range(5, 3).is_empty());
    assert_eq!(range(2, 6).len(), 4);
    assert_eq!(range(2, 6).intersection(range(4, 9)), range(4, 6));
    assert!(range(2, 4).intersection(range(6, 9)).is_empty());
    assert_eq!(range(2, 4).hull(range(6, 9)), range(2, 9));
    assert_eq!(range(2, 4).hull(GfnRange::EMPTY), range(2, 4));
    assert_eq!(GfnRange::EMPTY.hull(range(2, 4)), range(2, 4));
    assert_eq!(GfnRange::from_len(Gfn::new(u64::MAX), 9).len(), 0);
    assert!(range(2, 6).covers(range(3, 6)) && !range(2, 6).covers(range(3, 7)));
    assert_eq!(Level::Mega.span(Gfn::new(0x3ff)), range(0x200, 0x400));
}

#[test]
fn addresses_and_ids() {
    assert_eq!(Gpa::new(0x8000_1234).gfn(), Gfn::new(0x8_0001));
    assert_eq!(Gpa::new(0x8000_1234).offset(), 0x234);
    assert_eq!(Gfn::new(0x8_0001).gpa(), Gpa::new(0x8000_1000));
    assert_eq!(Gpa::new(u64::MAX).checked_add(1), None);
    assert_eq!(
        Gfn::new(0x3ff).align_down(PageSize::Size2M),
        Gfn::new(0x200)
    );
    assert_eq!(format!("{:?}", Gpa::new(16)), "Gpa(0x10)");
}
