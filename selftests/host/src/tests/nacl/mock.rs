// SPDX-License-Identifier: GPL-2.0

//! The other side: a hypervisor that implements SBI 3.0, "Nested Acceleration Extension", for one
//! CPU. It knows the shared memory by the offsets of the specification and nothing of our types.

use std::{
    cell::{
        Cell,
        RefCell, //
    },
    collections::BTreeMap,
    sync::atomic::{
        AtomicU64,
        Ordering, //
    }, //
};

use crate::{
    arch::{
        nacl::{
            memory::SharedMemory,
            provider::{
                Function,
                Provider,
                Refused, //
            }, //
        },
        registers::{
            GuestCsr,
            Registers, //
        }, //
    },
    bindings, //
};

pub(super) const NOT_SUPPORTED: isize = -2;
pub(super) const INVALID_PARAM: isize = -3;
pub(super) const NO_SHMEM: isize = -9;

pub(super) const SYNC_CSR: u32 = 1 << 0;
pub(super) const SYNC_HFENCE: u32 = 1 << 1;
pub(super) const SYNC_SRET: u32 = 1 << 2;
pub(super) const AUTOSWAP_CSR: u32 = 1 << 3;
pub(super) const EVERY_FEATURE: u32 = 0xf;

const HFENCE_ENTRIES: usize = 60;
const ALL: usize = usize::MAX;

/// The words of a fence that was executed, as they stood in the memory.
pub(super) type Words = [u64; 4];

/// What the other side was seen to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Probed(usize),
    SetShmem([usize; 3]),
    SyncedCsr(usize),
    SyncedHfence(usize),
    CsrWritten(u32, u64),
    Fenced(Words),
    Entered,
}

/// The guest at the moment when it is entered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Guest {
    pub(super) gprs: [u64; 32],
    pub(super) hstatus: u64,
}

/// The trap that ends the guest.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GuestTrap {
    pub(super) hstatus: u64,
    pub(super) htval: u64,
    pub(super) htinst: u64,
}

/// The CPU, and who implements its H extension.
pub(super) struct Mock {
    memory: Box<SharedMemory>,
    features: u32,
    shmem: Cell<Option<usize>>,
    csrs: RefCell<BTreeMap<u32, u64>>,
    /// Bits that a CSR implements; all, for those that are not here.
    pub(super) implemented: RefCell<BTreeMap<u32, u64>>,
    pub(super) events: RefCell<Vec<Event>>,
    /// Says that fences are done, and leaves them pending.
    pub(super) stuck: Cell<bool>,
    /// Answers so, whatever is called.
    pub(super) refuses: Cell<Option<isize>>,
    pub(super) entered: RefCell<Guest>,
    pub(super) trap: Cell<GuestTrap>,
}

impl Mock {
    pub(super) fn new(features: u32) -> Self {
        Mock {
            memory: Box::new(SharedMemory::zeroed()),
            features,
            shmem: Cell::new(None),
            csrs: RefCell::default(),
            implemented: RefCell::default(),
            events: RefCell::default(),
            stuck: Cell::new(false),
            refuses: Cell::new(None),
            entered: RefCell::default(),
            trap: Cell::default(),
        }
    }

    pub(super) fn memory(&self) -> &SharedMemory {
        &self.memory
    }

    pub(super) fn physical(&self) -> u64 {
        core::ptr::from_ref(self.memory()) as u64
    }

    /// The word of the shared memory at byte `offset`.
    pub(super) fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset % 8 == 0 && offset < size_of::<SharedMemory>());
        let base = core::ptr::from_ref(self.memory()).cast::<AtomicU64>();
        // SAFETY: in bounds, and the memory is all atomics.
        unsafe { &*base.add(offset / 8) }
    }

    pub(super) fn peek(&self, offset: usize) -> u64 {
        self.word(offset).load(Ordering::SeqCst)
    }

    fn poke(&self, offset: usize, value: u64) {
        self.word(offset).store(value, Ordering::SeqCst);
    }

    pub(super) fn hfence_words(&self, entry: usize) -> Words {
        core::array::from_fn(|word| self.peek(0x800 + 32 * entry + 8 * word))
    }

    /// The place of a CSR in the CSR space, from the specification's table of ranges.
    pub(super) fn index(csr: u32) -> usize {
        let base = match csr {
            0x200..=0x2ff => 0x000,
            0x600..=0x6ff => 0x100,
            0xa00..=0xaff => 0x200,
            0xe00..=0xeff => 0x300,
            _ => panic!("{csr:#x} is no CSR of the H extension"),
        };
        base + (csr & 0xff) as usize
    }

    pub(super) fn is_dirty(&self, csr: u32) -> bool {
        let at = Self::index(csr);
        // Bytes, as the bitmap is defined without regard to words.
        let byte = self.peek(0xf80 + at / 64 * 8).to_le_bytes()[at / 8 % 8];
        byte >> (at % 8) & 1 != 0
    }

    fn clear_dirty(&self, csr: u32) {
        let at = Self::index(csr);
        self.word(0xf80 + at / 64 * 8)
            .fetch_and(!(1 << (at % 64)), Ordering::SeqCst);
    }

    pub(super) fn space(&self, csr: u32) -> u64 {
        self.peek(0x1000 + 8 * Self::index(csr))
    }

    /// The register itself.
    pub(super) fn csr(&self, csr: u32) -> u64 {
        self.csrs.borrow().get(&csr).copied().unwrap_or(0)
    }

    /// The register changes, whoever made it.
    pub(super) fn set_csr(&self, csr: u32, value: u64) {
        let bits = self.implemented.borrow().get(&csr).copied();
        let value = value & bits.unwrap_or(u64::MAX);
        self.csrs.borrow_mut().insert(csr, value);
        self.events.borrow_mut().push(Event::CsrWritten(csr, value));
        // What is written and not yet synchronised stays.
        if self.shmem.get().is_some() && !self.is_dirty(csr) {
            self.poke(0x1000 + 8 * Self::index(csr), value);
        }
    }

    pub(super) fn take_events(&self) -> Vec<Event> {
        self.events.take()
    }

    pub(super) fn fences(&self) -> Vec<Words> {
        let executed = |event: &Event| match event {
            Event::Fenced(words) => Some(*words),
            _ => None,
        };
        self.events.borrow().iter().filter_map(executed).collect()
    }

    fn event(&self, event: Event) {
        self.events.borrow_mut().push(event);
    }

    fn sync_one_csr(&self, csr: u32) {
        if self.is_dirty(csr) {
            let value = self.space(csr);
            self.clear_dirty(csr);
            self.set_csr(csr, value);
        }
        self.poke(0x1000 + 8 * Self::index(csr), self.csr(csr));
    }

    fn sync_csrs(&self) {
        let all = [0x200..0x300, 0x600..0x700, 0xa00..0xb00, 0xe00..0xf00];
        // Those that were never written are not implemented: nobody can tell.
        for csr in all.into_iter().flatten() {
            if self.is_dirty(csr) || self.csrs.borrow().contains_key(&csr) {
                self.sync_one_csr(csr);
            }
        }
    }

    fn sync_one_hfence(&self, entry: usize) {
        let words = self.hfence_words(entry);
        if words[0] >> 63 == 0 || self.stuck.get() {
            return;
        }
        self.event(Event::Fenced(words));
        self.poke(0x800 + 32 * entry, words[0] & !(1 << 63));
    }

    fn has(&self, feature: u32) -> bool {
        self.features & feature != 0
    }

    fn probe(&self, feature: usize) -> usize {
        self.event(Event::Probed(feature));
        usize::from(feature < 4 && self.has(1 << feature))
    }

    fn set_shmem(&self, args: [usize; 3]) -> Result<usize, isize> {
        self.event(Event::SetShmem(args));
        let [low, high, flags] = args;
        if flags != 0 {
            return Err(INVALID_PARAM);
        }
        self.shmem.set(match (low, high) {
            (ALL, ALL) => None,
            (low, _) if low % 4096 != 0 => return Err(INVALID_PARAM),
            (low, high) => {
                assert_eq!((low as u64, high), (self.physical(), 0));
                Some(low)
            }
        });
        Ok(0)
    }

    fn sync_csr(&self, csr: usize) -> Result<usize, isize> {
        self.event(Event::SyncedCsr(csr));
        if !self.has(SYNC_CSR) {
            return Err(NOT_SUPPORTED);
        }
        if csr != ALL && (csr & 0x300 != 0x200 || csr >= 0x1000) {
            return Err(INVALID_PARAM);
        }
        self.shmem.get().ok_or(NO_SHMEM)?;
        match csr {
            ALL => self.sync_csrs(),
            csr => self.sync_one_csr(csr as u32),
        }
        Ok(0)
    }

    fn sync_hfence(&self, entry: usize) -> Result<usize, isize> {
        self.event(Event::SyncedHfence(entry));
        if !self.has(SYNC_HFENCE) {
            return Err(NOT_SUPPORTED);
        }
        if entry != ALL && entry >= HFENCE_ENTRIES {
            return Err(INVALID_PARAM);
        }
        self.shmem.get().ok_or(NO_SHMEM)?;
        match entry {
            ALL => (0..HFENCE_ENTRIES).for_each(|entry| self.sync_one_hfence(entry)),
            entry => self.sync_one_hfence(entry),
        }
        Ok(0)
    }

    /// Exchanges `hstatus` if it was asked to.
    fn autoswap(&self) {
        if self.has(AUTOSWAP_CSR) && self.peek(0x200) & 1 != 0 {
            let theirs = self.csr(bindings::CSR_HSTATUS);
            self.set_csr(bindings::CSR_HSTATUS, self.peek(0x208));
            self.poke(0x208, theirs);
        }
    }

    /// Function 4, up to the guest's trap: `self.trap` says which.
    pub(super) fn sync_sret(&self) -> Result<(), Refused> {
        if let Some(error) = self.refuses.get() {
            return Err(Refused(error));
        }
        if !self.has(SYNC_SRET) {
            return Err(Refused(NOT_SUPPORTED));
        }
        self.shmem.get().ok_or(Refused(NO_SHMEM))?;
        if self.has(SYNC_CSR) {
            self.sync_csrs();
        }
        if self.has(SYNC_HFENCE) {
            (0..HFENCE_ENTRIES).for_each(|entry| self.sync_one_hfence(entry));
        }
        self.autoswap();
        self.event(Event::Entered);
        *self.entered.borrow_mut() = Guest {
            gprs: core::array::from_fn(|reg| self.peek(8 * reg)),
            hstatus: self.csr(bindings::CSR_HSTATUS),
        };
        self.guest_traps();
        Ok(())
    }

    /// The guest is left.
    pub(super) fn guest_traps(&self) {
        let trap = self.trap.get();
        self.set_csr(bindings::CSR_HSTATUS, trap.hstatus);
        self.set_csr(bindings::CSR_HTVAL, trap.htval);
        self.set_csr(bindings::CSR_HTINST, trap.htinst);
        self.autoswap();
    }
}

impl Provider for &Mock {
    fn call(&self, function: Function, args: [usize; 3]) -> Result<usize, Refused> {
        if let Some(error) = self.refuses.get() {
            return Err(Refused(error));
        }
        // The numbers are those of the specification.
        match function as u32 {
            0 => Ok(self.probe(args[0])),
            1 => self.set_shmem(args),
            2 => self.sync_csr(args[0]),
            3 => self.sync_hfence(args[0]),
            other => panic!("no function {other}"),
        }
        .map_err(Refused)
    }
}

/// The registers by CSR instructions, each of which the other side emulates.
impl Registers for &Mock {
    fn read<const N: u32>(&self, _csr: GuestCsr<N>) -> usize {
        self.csr(N) as usize
    }

    fn write<const N: u32>(&self, _csr: GuestCsr<N>, value: usize) {
        self.set_csr(N, value as u64);
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
        self.csr(bindings::CSR_HGATP) as usize
    }

    unsafe fn set_hgatp(&self, value: usize) {
        self.set_csr(bindings::CSR_HGATP, value as u64);
    }
}
