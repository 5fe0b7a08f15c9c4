// SPDX-License-Identifier: GPL-2.0

//! The second decoder: masks and values as riscv-opcodes lists them, operands bit by bit as the
//! unprivileged specification draws them. It shares nothing with the first one but the result.

/// Where a register number stands.
#[derive(Clone, Copy)]
pub(super) enum Field {
    /// Five bits from here.
    Full(u32),
    /// Three bits from here, naming x8 to x15.
    Short(u32),
    /// x2.
    Sp,
}

impl Field {
    fn of(self, insn: u32) -> u32 {
        match self {
            Self::Full(at) => insn >> at & 31,
            Self::Short(at) => 8 + (insn >> at & 7),
            Self::Sp => 2,
        }
    }
}

/// Bits of an instruction and where they go in the immediate: (from, to) pairs.
type Immediate = &'static [(u32, u32)];

/// One instruction.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) mask: u32,
    pub(super) value: u32,
    pub(super) load: bool,
    pub(super) bytes: u64,
    pub(super) signed: bool,
    pub(super) reg: Field,
    pub(super) base: Field,
    pub(super) imm: Immediate,
    /// Whether the register must not be x0.
    pub(super) nonzero: bool,
}

/// What an instruction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) load: bool,
    pub(super) reg: u32,
    pub(super) base: u32,
    pub(super) offset: i64,
    pub(super) bytes: u64,
    pub(super) signed: bool,
    pub(super) len: usize,
}

/// The immediate of the I format.
const I: Immediate = &[
    (20, 0),
    (21, 1),
    (22, 2),
    (23, 3),
    (24, 4),
    (25, 5),
    (26, 6),
    (27, 7),
    (28, 8),
    (29, 9),
    (30, 10),
    (31, 11),
];
/// The immediate of the S format.
const S: Immediate = &[
    (7, 0),
    (8, 1),
    (9, 2),
    (10, 3),
    (11, 4),
    (25, 5),
    (26, 6),
    (27, 7),
    (28, 8),
    (29, 9),
    (30, 10),
    (31, 11),
];
/// Four bytes, CL and CS formats: uimm[5:3] and uimm[2|6].
const C4: Immediate = &[(5, 6), (6, 2), (10, 3), (11, 4), (12, 5)];
/// Eight bytes, CL and CS formats: uimm[5:3] and uimm[7:6].
const C8: Immediate = &[(5, 6), (6, 7), (10, 3), (11, 4), (12, 5)];
/// Zcb, one byte: uimm[0|1].
const Z1: Immediate = &[(5, 1), (6, 0)];
/// Zcb, two bytes: uimm[1].
const Z2: Immediate = &[(5, 1)];
/// CI format, four bytes: uimm[5] and uimm[4:2|7:6].
const LWSP: Immediate = &[(2, 6), (3, 7), (4, 2), (5, 3), (6, 4), (12, 5)];
/// CI format, eight bytes: uimm[5] and uimm[4:3|8:6].
const LDSP: Immediate = &[(2, 6), (3, 7), (4, 8), (5, 3), (6, 4), (12, 5)];
/// CSS format, four bytes: uimm[5:2|7:6].
const SWSP: Immediate = &[(7, 6), (8, 7), (9, 2), (10, 3), (11, 4), (12, 5)];
/// CSS format, eight bytes: uimm[5:3|8:6].
const SDSP: Immediate = &[(7, 6), (8, 7), (9, 8), (10, 3), (11, 4), (12, 5)];

const fn load(name: &'static str, value: u32, bytes: u64, signed: bool) -> Row {
    Row {
        name,
        mask: 0x707f,
        value,
        load: true,
        bytes,
        signed,
        reg: Field::Full(7),
        base: Field::Full(15),
        imm: I,
        nonzero: false,
    }
}

const fn store(name: &'static str, value: u32, bytes: u64) -> Row {
    Row {
        name,
        mask: 0x707f,
        value,
        load: false,
        bytes,
        signed: false,
        reg: Field::Full(20),
        base: Field::Full(15),
        imm: S,
        nonzero: false,
    }
}

const fn short(name: &'static str, mask: u32, value: u32, bytes: u64, imm: Immediate) -> Row {
    Row {
        name,
        mask,
        value,
        load: true,
        bytes,
        signed: true,
        reg: Field::Short(2),
        base: Field::Short(7),
        imm,
        nonzero: false,
    }
}

const fn to_memory(row: Row) -> Row {
    Row {
        load: false,
        signed: false,
        ..row
    }
}

const fn unsigned(row: Row) -> Row {
    Row {
        signed: false,
        ..row
    }
}

const fn load_sp(name: &'static str, value: u32, bytes: u64, imm: Immediate) -> Row {
    Row {
        reg: Field::Full(7),
        base: Field::Sp,
        nonzero: true,
        ..short(name, 0xe003, value, bytes, imm)
    }
}

const fn store_sp(name: &'static str, value: u32, bytes: u64, imm: Immediate) -> Row {
    Row {
        reg: Field::Full(2),
        base: Field::Sp,
        ..to_memory(short(name, 0xe003, value, bytes, imm))
    }
}

/// Every load and store that is to be decoded, and no other.
pub(super) const ROWS: &[Row] = &[
    load("lb", 0x0003, 1, true),
    load("lh", 0x1003, 2, true),
    load("lw", 0x2003, 4, true),
    load("ld", 0x3003, 8, true),
    load("lbu", 0x4003, 1, false),
    load("lhu", 0x5003, 2, false),
    load("lwu", 0x6003, 4, false),
    store("sb", 0x0023, 1),
    store("sh", 0x1023, 2),
    store("sw", 0x2023, 4),
    store("sd", 0x3023, 8),
    short("c.lw", 0xe003, 0x4000, 4, C4),
    short("c.ld", 0xe003, 0x6000, 8, C8),
    to_memory(short("c.sw", 0xe003, 0xc000, 4, C4)),
    to_memory(short("c.sd", 0xe003, 0xe000, 8, C8)),
    unsigned(short("c.lbu", 0xfc03, 0x8000, 1, Z1)),
    unsigned(short("c.lhu", 0xfc43, 0x8400, 2, Z2)),
    short("c.lh", 0xfc43, 0x8440, 2, Z2),
    to_memory(short("c.sb", 0xfc03, 0x8800, 1, Z1)),
    to_memory(short("c.sh", 0xfc43, 0x8c00, 2, Z2)),
    load_sp("c.lwsp", 0x4002, 4, LWSP),
    load_sp("c.ldsp", 0x6002, 8, LDSP),
    store_sp("c.swsp", 0xc002, 4, SWSP),
    store_sp("c.sdsp", 0xe002, 8, SDSP),
];

/// Decodes the instruction in the low bits of `word`.
pub(super) fn decode(word: u32) -> Option<Access> {
    let compressed = word & 3 != 3;
    let insn = if compressed { word & 0xffff } else { word };
    let mut rows = ROWS.iter().filter(|row| insn & row.mask == row.value);
    let row = rows.next()?;
    if let Some(second) = rows.next() {
        panic!("both {} and {} are {insn:#x}", row.name, second.name);
    }

    let reg = row.reg.of(insn);
    if row.nonzero && reg == 0 {
        return None;
    }
    let bits = row
        .imm
        .iter()
        .fold(0, |imm, (from, to)| imm | (insn >> from & 1) << to);
    let offset = if compressed {
        i64::from(bits)
    } else {
        i64::from((bits << 20) as i32 >> 20)
    };
    Some(Access {
        load: row.load,
        reg,
        base: row.base.of(insn),
        offset,
        bytes: row.bytes,
        signed: row.signed,
        len: if compressed { 2 } else { 4 },
    })
}

/// What `htinst` holds for an access that faulted `distance` bytes after its beginning.
pub(super) fn htinst(access: &Access, distance: u32) -> usize {
    let log = access.bytes.trailing_zeros();
    let word = if access.load {
        let funct3 = if access.signed { log } else { log | 4 };
        funct3 << 12 | access.reg << 7 | 0x03
    } else {
        access.reg << 20 | log << 12 | 0x23
    };
    let word = word | distance << 15;
    (if access.len == 2 { word & !2 } else { word }) as usize
}
