// SPDX-License-Identifier: GPL-2.0

//! One G-stage page-table entry.
//!
//! A [`Slot`] is a place in a table that harts walk and, with Svadu, write; a [`Pte`] is a value
//! read from it. Code decides on [`Entry`], never on bits. Privileged Architecture, "Sv39
//! Page-Table Entry", "Two-Stage Address Translation", "Svpbmt".

use kernel::{
    bitfield,
    num::Bounded, //
};

use crate::{
    mem::addr::{
        Gfn,
        Level,
        Pfn, //
    },
    sync::atomic::{
        AtomicU64,
        Ordering, //
    },
};

use super::table::TablePage;

bitfield! {
    /// The value of an entry.
    pub(crate) struct Pte(u64) {
        /// Svnapot: part of a larger run. We make no such leaves.
        63:63 napot => bool;
        /// Svpbmt: what the memory attributes are. Zero in table entries.
        62:61 pbmt => Pbmt;
        /// The frame of the leaf's first page, or of the table.
        53:10 ppn;
        /// Ours (RSW): the host lets the page be written, so a store may turn the leaf writable
        /// without asking the host again.
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
        /// The rest counts only if this is set.
        0:0 valid => bool;
    }
}

/// A frame number as an entry holds it: physical addresses have 56 bits.
pub(super) type Ppn = Bounded<u64, 44>;

/// `pfn` as an entry holds it, if it is one that a physical address can have.
#[inline(always)]
pub(super) fn ppn(pfn: Pfn) -> Option<Ppn> {
    Ppn::try_new(pfn.get())
}

/// Memory attributes of a leaf (Svpbmt). A host without Svpbmt has only [`Pbmt::Pma`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pbmt {
    /// What the platform says about the physical address.
    Pma,
    /// Non-cacheable, idempotent, weakly ordered: main memory.
    Nc,
    /// Non-cacheable, non-idempotent, strongly ordered: devices.
    Io,
    /// No meaning yet; we make no such leaves.
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

/// What a guest may do with a page, and what its host page would allow.
///
/// There is no "guest may write, host may not": that state cannot be built.
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
pub(super) enum Entry {
    /// Nothing is mapped.
    Empty,
    /// A table of the level below.
    Table(TablePtr),
    /// A page or block.
    Leaf(Leaf),
}

/// Where a live table entry points. Only [`Pte::entry`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TablePtr(Ppn);

impl TablePtr {
    /// The table's frame.
    #[inline(always)]
    pub(super) fn ppn(self) -> Ppn {
        self.0
    }
}

/// A leaf's value.
///
/// # Invariants
///
/// `valid` is set and one of `read`, `write` and `execute` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaf(Pte);

/// Permission and status bits that a leaf is to get or lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bits(u64);

impl Bits {
    /// A store without a fault.
    pub(super) const WRITE: Bits = Bits(Pte::WRITE_MASK);
    /// Any access without a fault, where hardware does not set the bit.
    pub(super) const ACCESSED: Bits = Bits(Pte::ACCESSED_MASK);
    /// What [`MmuRead::make_writable`](super::MmuRead::make_writable) sets.
    pub(super) const WRITABLE: Bits = Bits(Pte::WRITE_MASK | Pte::ACCESSED_MASK | Pte::DIRTY_MASK);
    /// What the architecture has the walker set or software set for it.
    const STATUS: Bits = Bits(Pte::ACCESSED_MASK | Pte::DIRTY_MASK);
    /// What an access of the guest can lack.
    const PERMISSION: Bits = Bits(Pte::READ_MASK | Pte::WRITE_MASK | Pte::EXECUTE_MASK);
    /// All that a leaf can gain in place.
    const GRANTABLE: Bits =
        Bits(Bits::PERMISSION.0 | Bits::STATUS.0 | Pte::USER_MASK | Pte::HOST_WRITABLE_MASK);

    /// Whether there is none.
    #[inline(always)]
    pub(super) const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether an access of the guest depends on one of them.
    #[inline(always)]
    pub(super) const fn permission(self) -> bool {
        self.0 & Self::PERMISSION.0 != 0
    }

    /// Those among them that only record use.
    #[inline(always)]
    pub(super) const fn status(self) -> Bits {
        Bits(self.0 & Self::STATUS.0)
    }
}

impl Pte {
    /// No entry.
    pub(super) const EMPTY: Pte = Pte::from_raw(0);

    /// An entry that points to `table`, which thereby belongs to the tree.
    #[inline(always)]
    pub(super) fn table(table: &TablePage) -> Pte {
        Pte::EMPTY.with_ppn(table.ppn()).with_valid(true)
    }

    /// A value without meaning to a hart, whose walker finds nothing here, that names a frame.
    #[inline(always)]
    pub(super) fn link(ppn: Ppn) -> Pte {
        Pte::EMPTY.with_ppn(ppn)
    }

    /// What the entry means.
    #[inline(always)]
    pub(super) fn entry(self) -> Entry {
        if !self.valid() {
            Entry::Empty
        } else if self.read() || self.write() || self.execute() {
            // INVARIANT: valid, and one of the three is set.
            Entry::Leaf(Leaf(self))
        } else {
            Entry::Table(TablePtr(self.ppn()))
        }
    }

    /// Whether any of `bits` is set.
    #[inline(always)]
    pub(super) const fn any(self, bits: Bits) -> bool {
        self.into_raw() & bits.0 != 0
    }

    /// Whether all of `bits` are set.
    #[inline(always)]
    pub(super) const fn all(self, bits: Bits) -> bool {
        self.into_raw() & bits.0 == bits.0
    }

    /// Bits of either value: accumulates what a run of entries had.
    #[inline(always)]
    pub(super) const fn or(self, other: Pte) -> Pte {
        Pte::from_raw(self.into_raw() | other.into_raw())
    }
}

impl Leaf {
    /// RAM for the guest, from `ppn` on: it may load and execute, and store if `rights` says so.
    ///
    /// A and D are set: a hart without Svadu would fault on the first access otherwise.
    #[inline(always)]
    pub(super) fn memory(ppn: Ppn, rights: Rights) -> Leaf {
        // INVARIANT: `valid` and `read` are set.
        Leaf(Self::common(ppn, rights).with_execute(true))
    }

    /// A device's registers, from `ppn` on: like memory, but never executed.
    #[inline(always)]
    pub(super) fn device(ppn: Ppn, rights: Rights, pbmt: Pbmt) -> Leaf {
        // INVARIANT: `valid` and `read` are set.
        Leaf(Self::common(ppn, rights).with_pbmt(pbmt))
    }

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

    /// The value as a table holds it.
    #[inline(always)]
    pub(crate) const fn pte(self) -> Pte {
        self.0
    }

    /// The frame that the leaf's first page lies in.
    #[inline(always)]
    pub(crate) fn pfn(self) -> Pfn {
        Pfn::new(self.0.ppn().get())
    }

    /// The frame that the leaf, an entry of `level`, maps `gfn` to.
    #[inline(always)]
    pub(crate) fn pfn_of(self, gfn: Gfn, level: Level) -> Pfn {
        Pfn::new(self.pfn().get() | (gfn.get() & (level.frames() - 1)))
    }

    /// What guest and host may do.
    #[cfg(test)]
    pub(crate) fn rights(self) -> Rights {
        if self.0.write() {
            Rights::Writable
        } else if self.0.host_writable() {
            Rights::WriteProtected
        } else {
            Rights::HostReadOnly
        }
    }

    /// Whether it was used since ageing last looked.
    #[inline(always)]
    pub(crate) fn is_young(self) -> bool {
        self.0.accessed()
    }

    /// What this leaf lacks of `wanted`, another leaf for the same page.
    #[inline(always)]
    pub(super) const fn lacks(self, wanted: Leaf) -> Bits {
        Bits(wanted.0.into_raw() & !self.0.into_raw() & Bits::GRANTABLE.0)
    }

    /// This leaf with `bits` set.
    #[inline(always)]
    pub(super) const fn with(self, bits: Bits) -> Leaf {
        // INVARIANT: no bit is cleared.
        Leaf(Pte::from_raw(self.0.into_raw() | bits.0))
    }

    /// The leaf for part `index` of this block after it was split into entries of `level`.
    ///
    /// Everything but the frame is inherited.
    #[inline(always)]
    pub(super) const fn part(self, index: usize, level: Level) -> Leaf {
        let offset = (index as u64) << level.frame_shift();
        // A block is aligned to its size, so the offset only fills zeros of the frame number.
        // INVARIANT: all other bits stay.
        Leaf(Pte::from_raw(
            self.0.into_raw() | (offset << Pte::PPN_SHIFT),
        ))
    }
}

/// An entry's place in a table.
///
/// Relaxed unless a method says otherwise: what the order of a leaf's change has to be towards
/// harts, the fence that follows it ensures, and towards other CPUs' software, `mmu_lock`.
#[repr(transparent)]
pub(crate) struct Slot(AtomicU64);

/// Somebody else changed the entry first.
pub(super) struct Raced;

impl Slot {
    /// A slot with a value, for tables that nothing points to yet.
    #[inline(always)]
    pub(super) fn new(pte: Pte) -> Slot {
        Slot(AtomicU64::new(pte.into_raw()))
    }

    /// The value.
    ///
    /// Acquire: if it points to a table, that table's first contents are visible. Pairs with
    /// [`Slot::replace`] and [`Slot::set`].
    #[inline(always)]
    pub(super) fn load(&self) -> Pte {
        Pte::from_raw(self.0.load(Ordering::Acquire))
    }

    /// The value, where no other CPU can have linked a table since the lock was taken.
    #[inline(always)]
    pub(super) fn peek(&self) -> Pte {
        Pte::from_raw(self.0.load(Ordering::Relaxed))
    }

    /// Replaces `old` by `new` if the entry still is `old`.
    ///
    /// Release: what `new` points to is visible before the pointer is.
    #[inline(always)]
    pub(super) fn replace(&self, old: Pte, new: Pte) -> Result<(), Raced> {
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
    /// Release, as in [`Slot::replace`]. A hart's concurrent setting of A or D may get lost.
    #[inline(always)]
    pub(super) fn set(&self, new: Pte) {
        self.0.store(new.into_raw(), Ordering::Release);
    }

    /// Empties the entry; the caller holds the write lock.
    #[inline(always)]
    pub(super) fn clear(&self) {
        self.0.store(Pte::EMPTY.into_raw(), Ordering::Relaxed);
    }

    /// Sets `bits` of a leaf of [`Level::Page`].
    ///
    /// Under the read lock such a leaf stays the same leaf, so nothing needs to be compared. A
    /// block does not: it may become a table.
    #[inline(always)]
    pub(super) fn grant(&self, bits: Bits) {
        self.0.fetch_or(bits.0, Ordering::Relaxed);
    }

    /// Clears `bits` of a leaf; the caller holds the write lock.
    ///
    /// Read-modify-write, so that A and D that a hart sets meanwhile stay.
    #[inline(always)]
    pub(super) fn withdraw(&self, bits: Bits) {
        self.0.fetch_and(!bits.0, Ordering::Relaxed);
    }
}
