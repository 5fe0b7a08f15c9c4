// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! One G-stage page-table entry.
//!
//! A [`PteCell`] is an entry of a table that harts walk and, with Svadu, write; a [`Pte`] is a
//! value read from it. Code outside of this file decides on [`Entry`], never on bits. Privileged
//! Architecture, "Sv39 Page-Table Entry", "Two-Stage Address Translation", "Svpbmt".

use kernel::{
    bitfield,
    num::Bounded, //
};

use crate::{
    gstage::table::TablePage,
    kernel_ext::atomic::{
        AtomicU64,
        Ordering, //
    },
    kvm_core::addr::{
        Gfn,
        Level,
        PageSize,
        Pfn, //
    }, //
};

bitfield! {
    /// The value of an entry.
    pub(crate) struct Pte(u64) {
        /// Svnapot: one of the 16 entries of a run of 64 KiB. Its frame number then ends in 0b1000.
        63:63 napot => bool;
        /// Svpbmt: what the memory attributes are. Zero in table entries.
        62:61 pbmt => Pbmt;
        /// The frame of the leaf's first page, or of the table.
        53:10 ppn;
        /// A software bit (RSW): the host lets the page be written, so a store may make the leaf
        /// writable without asking the host again.
        8:8 host_writable => bool;
        /// Written. Set in every leaf from the start: the dirty log works by write protection.
        7:7 dirty => bool;
        /// Used. Set in every leaf from the start, cleared by ageing.
        6:6 accessed => bool;
        /// G-stage leaves must have it: every guest access counts as a user access.
        4:4 user => bool;
        3:3 execute => bool;
        2:2 write => bool;
        1:1 read => bool;
        /// The entry is used only if this is set.
        0:0 valid => bool;
    }
}

/// Number of entries of a Svnapot run. The architecture has this one size.
pub(super) const NAPOT_PTES: usize = 16;

/// The part of an entry's frame number that a run's entries use to encode the run's size.
const RUN_PPN_MASK: u64 = (NAPOT_PTES as u64 - 1) << Pte::PPN_SHIFT;

/// The value of [`RUN_PPN_MASK`] in a run of [`NAPOT_PTES`] entries.
const RUN_PPN: u64 = (NAPOT_PTES as u64 / 2) << Pte::PPN_SHIFT;

/// A frame number as an entry holds it: physical addresses have 56 bits.
pub(crate) type Ppn = Bounded<u64, 44>;

/// Returns `pfn` as an entry holds it, or [`None`] if no physical address has that frame.
#[inline(always)]
pub(crate) fn ppn(pfn: Pfn) -> Option<Ppn> {
    Ppn::try_new(pfn.get())
}

/// Memory attributes of a leaf (Svpbmt). A host without Svpbmt has only [`Pbmt::Pma`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pbmt {
    /// The attributes that the platform has for the physical address (PMA).
    Pma,
    /// Non-cacheable, idempotent, weakly ordered: main memory.
    Nc,
    /// Non-cacheable, non-idempotent, strongly ordered: devices.
    Io,
    /// Reserved; no leaf has it.
    Reserved,
}

impl From<Bounded<u64, 2>> for Pbmt {
    #[inline(always)]
    fn from(bits: Bounded<u64, 2>) -> Self {
        match bits.get() {
            0 => Pbmt::Pma,
            1 => Pbmt::Nc,
            2 => Pbmt::Io,
            _ => Pbmt::Reserved,
        }
    }
}

impl From<Pbmt> for Bounded<u64, 2> {
    #[inline(always)]
    fn from(pbmt: Pbmt) -> Self {
        match pbmt {
            Pbmt::Pma => Self::new::<0>(),
            Pbmt::Nc => Self::new::<1>(),
            Pbmt::Io => Self::new::<2>(),
            Pbmt::Reserved => Self::new::<3>(),
        }
    }
}

/// Whether the guest used a page or a range since ageing last looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Age {
    /// No leaf has A set.
    Old,
    /// Some leaf has A set.
    Young,
}

/// The guest's permission to write to a page, and the host's.
///
/// The combination "guest may write, host may not" does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rights {
    /// The host page is read-only (zero page, copy-on-write, KSM, ...): a store must go through
    /// the host first.
    HostReadOnly,
    /// The host page is writable, but the guest's next store must be noticed: dirty logging.
    WriteProtected,
    /// The guest may write.
    Writable,
}

/// What an entry means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Nothing is mapped.
    Empty,
    /// A table of the level below.
    Table(TablePtr),
    /// A page or block.
    Leaf(Leaf),
}

/// The table that a live table entry points to. Only [`Pte::entry`] and [`Pte::table_ptr`] make
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TablePtr(Ppn);

impl TablePtr {
    /// Returns the table's frame.
    #[inline(always)]
    pub(super) fn ppn(self) -> Ppn {
        self.0
    }
}

/// A leaf's value.
///
/// # Invariants
///
/// `valid` is set, and at least one of `read`, `write` and `execute` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaf(Pte);

/// Permission and status bits that a leaf is to get or lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bits(u64);

impl Bits {
    /// No bit.
    pub(super) const NONE: Bits = Bits(0);
    /// A store without a fault.
    pub(super) const WRITE: Bits = Bits(Pte::WRITE_MASK);
    /// What the host would allow.
    pub(super) const HOST_WRITABLE: Bits = Bits(Pte::HOST_WRITABLE_MASK);
    /// Any access without a fault, where hardware does not set the bit.
    pub(super) const ACCESSED: Bits = Bits(Pte::ACCESSED_MASK);
    /// What [`MmuRead::make_writable`](crate::gstage::MmuRead::make_writable) sets.
    pub(super) const WRITABLE: Bits = Bits(Pte::WRITE_MASK | Pte::ACCESSED_MASK | Pte::DIRTY_MASK);
    /// What the architecture has the walker set or software set for it.
    const STATUS: Bits = Bits(Pte::ACCESSED_MASK | Pte::DIRTY_MASK);
    /// What an access of the guest can lack.
    const PERMISSION: Bits = Bits(Pte::READ_MASK | Pte::WRITE_MASK | Pte::EXECUTE_MASK);
    /// What two leaves that map the same frames to the same guest frames have in common.
    const TRANSLATION: Bits = Bits(Pte::PPN_MASK | Pte::PBMT_MASK | Pte::NAPOT_MASK);
    /// What two memory leaves that map the same frames to the same guest frames have in common.
    const MEMORY: Bits = Bits(
        Bits::TRANSLATION.0 | Pte::VALID_MASK | Pte::READ_MASK | Pte::EXECUTE_MASK | Pte::USER_MASK,
    );
    /// All that a leaf can gain in place.
    const GRANTABLE: Bits =
        Bits(Bits::PERMISSION.0 | Bits::STATUS.0 | Pte::USER_MASK | Pte::HOST_WRITABLE_MASK);

    /// Returns whether no bit is in the set.
    #[inline(always)]
    pub(super) const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Returns whether an access of the guest depends on one of the bits.
    #[inline(always)]
    pub(super) const fn permission(self) -> bool {
        self.0 & Self::PERMISSION.0 != 0
    }

    /// Returns those bits that only record use (A and D).
    #[inline(always)]
    pub(super) const fn status(self) -> Bits {
        Bits(self.0 & Self::STATUS.0)
    }
}

impl Pte {
    /// No entry.
    pub(crate) const EMPTY: Pte = Pte::from_raw(0);

    /// All bits, for [`Pte::and`].
    pub(super) const ALL: Pte = Pte::from_raw(u64::MAX);

    /// Returns an entry that points to `table`, which thereby belongs to the tree.
    #[inline(always)]
    pub(super) fn table(table: &TablePage) -> Pte {
        Pte::EMPTY.with_ppn(table.ppn()).with_valid(true)
    }

    /// Returns a value that names a frame and means nothing to a hart: its page-table walker finds
    /// no entry.
    #[inline(always)]
    pub(super) fn link(ppn: Ppn) -> Pte {
        Pte::EMPTY.with_ppn(ppn)
    }

    /// Returns what the entry means.
    #[inline(always)]
    pub(crate) fn entry(self) -> Entry {
        if !self.valid() {
            Entry::Empty
        } else if self.read() || self.write() || self.execute() {
            // INVARIANT: `valid` is set, and so is one of the three permission bits.
            Entry::Leaf(Leaf(self))
        } else {
            Entry::Table(TablePtr(self.ppn()))
        }
    }

    /// Returns the table that the entry points to, if it is a table entry: [`Pte::entry`] for
    /// callers that only descend.
    #[inline(always)]
    pub(super) fn table_ptr(self) -> Option<TablePtr> {
        let kind = Pte::VALID_MASK | Bits::PERMISSION.0;
        (self.into_raw() & kind == Pte::VALID_MASK).then(|| TablePtr(self.ppn()))
    }

    /// Returns whether the entry is one of a Svnapot run.
    #[inline(always)]
    pub(crate) const fn in_run(self) -> bool {
        self.into_raw() & Pte::NAPOT_MASK != 0
    }

    /// Returns whether any of `bits` is set.
    #[inline(always)]
    pub(super) const fn any(self, bits: Bits) -> bool {
        self.into_raw() & bits.0 != 0
    }

    /// Returns whether all of `bits` are set.
    #[inline(always)]
    pub(super) const fn all(self, bits: Bits) -> bool {
        self.into_raw() & bits.0 == bits.0
    }

    /// Returns the bits that both values have.
    #[inline(always)]
    pub(super) const fn and(self, other: Pte) -> Pte {
        Pte::from_raw(self.into_raw() & other.into_raw())
    }

    /// Returns the bits that either value has: accumulates what a run of entries had.
    #[inline(always)]
    pub(super) const fn or(self, other: Pte) -> Pte {
        Pte::from_raw(self.into_raw() | other.into_raw())
    }
}

impl Leaf {
    /// Returns a leaf for memory from `ppn` on: the guest may load and execute, and store if
    /// `rights` says so. Memory attributes are the platform's (PMA), as in C, also where the host
    /// maps a device's memory; the guest's own translation can say otherwise.
    ///
    /// A and D are set: a hart without Svadu would fault on the first access otherwise.
    #[inline(always)]
    pub(crate) fn memory(ppn: Ppn, rights: Rights) -> Leaf {
        // INVARIANT: `common()` sets `valid` and `read`.
        Leaf(Self::common(ppn, rights).with_execute(true))
    }

    /// Returns a leaf for a device's registers from `ppn` on: like memory, but never executed.
    #[inline(always)]
    pub(super) fn device(ppn: Ppn, rights: Rights, pbmt: Pbmt) -> Leaf {
        // INVARIANT: `common()` sets `valid` and `read`.
        Leaf(Self::common(ppn, rights).with_pbmt(pbmt))
    }

    /// Returns what memory and devices have in common: valid, readable, and A, D and U set.
    #[inline(always)]
    fn common(ppn: Ppn, rights: Rights) -> Pte {
        let pte = Pte::EMPTY
            .with_ppn(ppn)
            .with_dirty(true)
            .with_accessed(true)
            .with_user(true)
            .with_read(true)
            .with_valid(true);
        match rights {
            Rights::HostReadOnly => pte,
            Rights::WriteProtected => pte.with_host_writable(true),
            Rights::Writable => pte.with_host_writable(true).with_write(true),
        }
    }

    /// Returns the entry, one of 16, of a run that maps 64 KiB of memory around `ppn`.
    #[inline(always)]
    pub(crate) fn run(ppn: Ppn, rights: Rights) -> Leaf {
        // INVARIANT: `memory()` sets `valid` and `read`, and this changes only the frame number and
        // `napot`.
        Leaf(Pte::from_raw(
            Self::memory(ppn, rights).0.into_raw() & !RUN_PPN_MASK | RUN_PPN | Pte::NAPOT_MASK,
        ))
    }

    /// Returns the leaf that maps entry `index` of this entry's run by itself. Everything but the
    /// frame is inherited.
    #[inline(always)]
    pub(super) const fn page_of_run(self, index: usize) -> Leaf {
        let offset = (index % NAPOT_PTES) as u64;
        // INVARIANT: This changes only the frame number and `napot`, so the bits of the invariant
        // stay.
        Leaf(Pte::from_raw(
            self.0.into_raw() & !(RUN_PPN_MASK | Pte::NAPOT_MASK) | (offset << Pte::PPN_SHIFT),
        ))
    }

    /// Returns the same leaf of age `age`: A is cleared for an old one.
    #[inline(always)]
    pub(super) const fn aged(self, age: Age) -> Leaf {
        match age {
            Age::Young => self,
            // INVARIANT: This clears only A, so the bits of the invariant stay.
            Age::Old => Leaf(Pte::from_raw(self.0.into_raw() & !Pte::ACCESSED_MASK)),
        }
    }

    /// Returns the value as a table holds it.
    #[inline(always)]
    pub(crate) const fn pte(self) -> Pte {
        self.0
    }

    /// Returns how much the leaf, an entry of `level`, maps; for a run, all its entries together.
    #[inline(always)]
    pub(crate) const fn size(self, level: Level) -> PageSize {
        if self.0.in_run() {
            PageSize::Size64K
        } else {
            level.leaf_size()
        }
    }

    /// Returns the frame that the leaf, an entry of `level`, maps `gfn` to.
    #[inline(always)]
    pub(crate) fn pfn_of(self, gfn: Gfn, level: Level) -> Pfn {
        let ppn = self.0.ppn().get();
        let offset = gfn.get() & (self.size(level).frames() - 1);
        if self.0.in_run() {
            Pfn::new(ppn & !(NAPOT_PTES as u64 - 1) | offset)
        } else {
            Pfn::new(ppn | offset)
        }
    }

    /// Returns the leaf that would map `gfn` by itself, where this is a block of `level`.
    #[inline(always)]
    pub(super) const fn part_for(self, gfn: Gfn, level: Level) -> Leaf {
        self.part((gfn.get() & (level.frames() - 1)) as usize, Level::Page)
    }

    /// Returns whether this leaf and `other`, an entry of the same level, translate alike.
    #[inline(always)]
    pub(super) const fn translates_as(self, other: Leaf) -> bool {
        (self.0.into_raw() ^ other.0.into_raw()) & Bits::TRANSLATION.0 == 0
    }

    /// Returns whether this leaf and `other`, a memory leaf of the same level, map the same memory.
    #[inline(always)]
    pub(super) const fn is_memory_as(self, other: Leaf) -> bool {
        (self.0.into_raw() ^ other.0.into_raw()) & Bits::MEMORY.0 == 0
    }

    /// Returns whether the guest may store, and whether the host may.
    #[cfg(CONFIG_DEBUG_FS)]
    pub(crate) fn rights(self) -> Rights {
        if self.0.write() {
            Rights::Writable
        } else if self.0.host_writable() {
            Rights::WriteProtected
        } else {
            Rights::HostReadOnly
        }
    }

    /// Returns whether the leaf was used since ageing last looked.
    #[inline(always)]
    pub(crate) fn age(self) -> Age {
        if self.0.accessed() {
            Age::Young
        } else {
            Age::Old
        }
    }

    /// Returns what this leaf lacks of `wanted`, another leaf for the same page.
    #[inline(always)]
    pub(crate) const fn lacks(self, wanted: Leaf) -> Bits {
        Bits(wanted.0.into_raw() & !self.0.into_raw() & Bits::GRANTABLE.0)
    }

    /// Returns this leaf with `bits` set.
    #[inline(always)]
    pub(crate) const fn with(self, bits: Bits) -> Leaf {
        // INVARIANT: This clears no bit, so the bits of the invariant stay.
        Leaf(Pte::from_raw(self.0.into_raw() | bits.0))
    }

    /// Returns the leaf for part `index` of this block after it was split into entries of `level`.
    ///
    /// Everything but the frame is inherited.
    #[inline(always)]
    pub(super) const fn part(self, index: usize, level: Level) -> Leaf {
        let offset = (index as u64) << level.frame_shift();
        // A block is aligned to its size, so the offset only fills zeros of the frame number.
        // INVARIANT: This clears no bit, and sets bits of the frame number only: all other bits
        // stay.
        Leaf(Pte::from_raw(
            self.0.into_raw() | (offset << Pte::PPN_SHIFT),
        ))
    }
}

/// An entry of a table.
///
/// Accesses are relaxed unless a method says otherwise: towards harts, the fence after a change
/// orders it; towards software on other CPUs, `mmu_lock` does.
#[repr(transparent)]
pub(crate) struct PteCell(AtomicU64);

/// The error of [`PteCell::replace`]: another CPU changed the entry first, or a hart's page-table
/// walker did.
pub(crate) struct Raced;

impl PteCell {
    /// Returns a cell with a value, for tables that nothing points to yet.
    #[inline(always)]
    pub(crate) fn new(pte: Pte) -> PteCell {
        PteCell(AtomicU64::new(pte.into_raw()))
    }

    /// Reads the value, with acquire order: if it points to a table, that table's first contents
    /// are visible. Pairs with [`PteCell::replace`] and [`PteCell::set`].
    ///
    /// Acquire: if it points to a table, that table's first contents are visible. Pairs with
    /// [`PteCell::replace`] and [`PteCell::set`].
    #[inline(always)]
    pub(crate) fn load(&self) -> Pte {
        Pte::from_raw(self.0.load(Ordering::Acquire))
    }

    /// Reads the value, where no other CPU can have linked a table since the lock was taken.
    #[inline(always)]
    pub(super) fn read_relaxed(&self) -> Pte {
        Pte::from_raw(self.0.load(Ordering::Relaxed))
    }

    /// Replaces `old` by `new` if the entry still is `old`.
    ///
    /// Release: what `new` points to is visible before the pointer is.
    ///
    /// # Errors
    ///
    /// [`Raced`] if the entry is not `old` any more; it is unchanged then.
    #[inline(always)]
    pub(crate) fn replace(&self, old: Pte, new: Pte) -> Result<(), Raced> {
        self.0
            .compare_exchange(
                old.into_raw(),
                new.into_raw(),
                Ordering::Release,
                Ordering::Relaxed,
            )
            .map(|_| ())
            .map_err(|_| Raced)
    }

    /// Sets the entry; the caller holds the write lock or is the only one that knows the table.
    ///
    /// Release, as in [`PteCell::replace`]. A hart's concurrent setting of A or D may get lost.
    #[inline(always)]
    pub(super) fn set(&self, new: Pte) {
        self.0.store(new.into_raw(), Ordering::Release);
    }

    /// Empties the entry; the caller holds the write lock.
    #[inline(always)]
    pub(super) fn clear(&self) {
        self.0.store(Pte::EMPTY.into_raw(), Ordering::Relaxed);
    }

    /// Sets `bits` of a leaf of [`Level::Page`] that is in no run.
    ///
    /// Under the read lock such a leaf stays the same leaf, so nothing needs to be compared. A
    /// block may become a table, and an entry of a run may become a page.
    #[inline(always)]
    pub(super) fn grant(&self, bits: Bits) {
        self.0.fetch_or(bits.0, Ordering::Relaxed);
    }

    /// Clears `bits` of a leaf, or of nothing; the caller holds the write lock. Returns the value
    /// from before.
    ///
    /// Read-modify-write, so that A and D that a hart sets meanwhile stay.
    #[inline(always)]
    pub(super) fn withdraw(&self, bits: Bits) -> Pte {
        Pte::from_raw(self.0.fetch_and(!bits.0, Ordering::Relaxed))
    }
}
