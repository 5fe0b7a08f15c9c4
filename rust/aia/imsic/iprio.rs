// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! Priorities of a guest's major interrupts: the `iprio` array that the guest sees, as far as
//! `hviprio1` and `hviprio2` hold it. Pure; no state of its own.
//!
//! RISC-V AIA, "Configuring priorities of major interrupts at VS level". Answers to the priority
//! half of `aia.c`.

/// Interrupts whose priority the hypervisor's two registers hold, eight to a register, a byte each.
/// The priorities of 0, 4 and 8 read as zero, because the specification reserves their bytes.
const HELD: [u8; 16] = [0, 1, 4, 5, 8, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23];

/// A register of the array: eight priorities, where a register has 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row(u8);

/// Why a value of `siselect` selects no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRow {
    /// An odd number, which exists where registers have 32 bits only.
    Odd,
    /// Not a number of the array.
    Elsewhere,
}

impl Row {
    /// Returns the row that `select` selects.
    ///
    /// # Errors
    ///
    /// [`NoRow`] if there is none.
    pub(crate) const fn select(select: u64) -> Result<Self, NoRow> {
        match select {
            0x30..=0x3f if select % 2 != 0 => Err(NoRow::Odd),
            0x30..=0x3f => Ok(Self((select - 0x30) as u8 / 2)),
            _ => Err(NoRow::Elsewhere),
        }
    }

    /// Returns the interrupt whose priority is byte 0.
    const fn first(self) -> u8 {
        self.0 * 8
    }
}

/// `hviprio1` and `hviprio2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Priorities(pub(crate) [u64; 2]);

impl Priorities {
    /// Returns what the guest reads in `row`.
    pub(crate) fn read(&self, row: Row) -> u64 {
        let mut value = 0;
        for (from, to) in bytes(row) {
            let register = self.0.get(from / 64).copied().unwrap_or(0);
            value |= (register >> (from % 64) & 0xff) << to;
        }
        value
    }

    /// Writes those bits of `value` to `row` that are ones in `mask`. Priorities that no register
    /// holds stay zero.
    pub(crate) fn modify(&mut self, row: Row, value: u64, mask: u64) {
        for (to, from) in bytes(row) {
            let mask = (mask >> from & 0xff) << (to % 64);
            let value = (value >> from & 0xff) << (to % 64);
            if let Some(register) = self.0.get_mut(to / 64) {
                *register = *register & !mask | value & mask;
            }
        }
    }
}

/// Returns for each priority of `row` that is held: at which bit of the two registers, and at which
/// bit of the row.
fn bytes(row: Row) -> impl Iterator<Item = (usize, u32)> {
    let interrupts = row.first()..row.first() + 8;
    HELD.iter()
        .enumerate()
        .filter(move |(_, interrupt)| interrupts.contains(interrupt))
        .map(move |(index, interrupt)| (index * 8, u32::from(interrupt - row.first()) * 8))
}
