// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! An interrupt file in memory: what an IMSIC keeps for one hart.
//!
//! Any thread may make an identity pending ([`File::set`]), from any context; everything else is
//! the *owner's*. There is one owner at a time: the vCPU's thread, the holder of its mutex, or a
//! CPU that moves a file here that the vCPU is not using. The owner reads and changes registers,
//! and claims, without a lock.
//!
//! # How the line follows
//!
//! A sender holds a lock while it sets an identity and, if that is to be signalled, raises the
//! hart's external-interrupt [`Line`]; the owner holds the lock to [`drive`](File::drive) the line
//! after a change. So either the owner sees the identity that was set, or the sender sees the
//! owner's change; and no sender raises the line for an identity that is claimed by then.
//!
//! # Finding the first
//!
//! Bit `w` of `summary` is set if word `w` may have an identity that is pending and enabled, so
//! that [`File::top`] skips the rest. A sender sets the bit after it has changed the word, and the
//! owner clears it before it looks at the word once more.
//!
//! RISC-V AIA, "Incoming MSI Controller". Answers to the software half of `aia_imsic.c`.

use crate::kernel_ext::atomic::{
    AtomicBool,
    AtomicU32,
    AtomicU64,
    Ordering, //
};

/// How many words of 64 identities the largest file has.
pub(crate) const WORDS: usize = 32;

/// How many identities a file implements: one less than a multiple of 64, up to 2047. Those
/// identities are 1 to that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identities(u16);

impl Identities {
    /// Returns `count` identities, if a file can have so many.
    pub(crate) const fn new(count: u32) -> Option<Self> {
        if count % 64 == 63 && count < 64 * WORDS as u32 {
            Some(Self(count as u16))
        } else {
            None
        }
    }

    /// Returns how many there are.
    pub(crate) const fn count(self) -> u32 {
        self.0 as u32
    }

    /// Returns how many words of 64 they take.
    pub(crate) const fn words(self) -> usize {
        self.0 as usize / 64 + 1
    }

    /// Returns the identity with this number, if it is implemented.
    pub(crate) const fn get(self, number: u32) -> Option<Identity> {
        if number != 0 && number <= self.0 as u32 {
            Some(Identity(number as u16))
        } else {
            None
        }
    }

    /// Returns the bits of word `word` that stand for an identity.
    const fn bits(self, word: usize) -> u64 {
        match word {
            // Bit 0 of word 0 stands for no identity.
            0 => !1,
            _ if word < self.words() => u64::MAX,
            _ => 0,
        }
    }
}

/// The number of an interrupt at one file, which is also its priority: the lowest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity(u16);

impl Identity {
    /// Returns the number.
    pub(crate) const fn number(self) -> u32 {
        self.0 as u32
    }

    /// Returns what `*topei` reads while this one is the first.
    pub(crate) const fn topei(self) -> u64 {
        (self.0 as u64) << 16 | self.0 as u64
    }

    /// Returns the word that it is in. `% WORDS` changes nothing; it spares a check and bounds what
    /// the CPU speculates on.
    const fn word(self) -> usize {
        self.0 as usize / 64 % WORDS
    }

    /// Returns its bit in that word.
    const fn bit(self) -> u64 {
        1 << (self.0 % 64)
    }
}

/// A register that `*iselect` selects, where a register has 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Register {
    /// `eidelivery`.
    Delivery,
    /// `eithreshold`.
    Threshold,
    /// A number without a register: reads zero, ignores writes.
    Reserved,
    /// An even register of the `eip` array: this word of pending bits.
    Pending(u8),
    /// An even register of the `eie` array: this word of enable bits.
    Enabled(u8),
}

/// Why a value of `*iselect` selects no register of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRegister {
    /// An odd number in one of the arrays, which exists where registers have 32 bits only.
    Odd,
    /// Not a number of interrupt files.
    Elsewhere,
}

impl Register {
    /// Returns the register that `select` selects.
    ///
    /// # Errors
    ///
    /// [`NoRegister`] if there is none.
    pub(crate) const fn select(select: u64) -> Result<Self, NoRegister> {
        match select {
            0x70 => Ok(Self::Delivery),
            0x72 => Ok(Self::Threshold),
            0x71 | 0x73..=0x7f => Ok(Self::Reserved),
            0x80..=0xff if select % 2 != 0 => Err(NoRegister::Odd),
            0x80..=0xbf => Ok(Self::Pending((select - 0x80) as u8 / 2)),
            0xc0..=0xff => Ok(Self::Enabled((select - 0xc0) as u8 / 2)),
            _ => Err(NoRegister::Elsewhere),
        }
    }

    /// Returns the registers of the arrays of a file with `words` words of identities.
    pub(crate) fn arrays(words: usize) -> impl Iterator<Item = Self> {
        (0..words.min(WORDS) as u8).flat_map(|word| [Self::Pending(word), Self::Enabled(word)])
    }
}

/// The external-interrupt line from a file to its hart.
pub(crate) trait Line {
    /// Raises the line: the hart is to take an interrupt.
    fn raise(&self);
    /// Lowers the line: there is none to take.
    fn lower(&self);
}

/// Whether the identity that was set is to be signalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Signal {
    /// Raise the line.
    Raise,
    /// Leave the line: the owner raises it when it makes the identity deliverable, or the sender
    /// that made it pending before has done so.
    Quiet,
}

/// The bits of 64 identities.
struct Word {
    pending: AtomicU64,
    enabled: AtomicU64,
}

impl Word {
    /// Returns what is pending and enabled.
    fn due(&self) -> u64 {
        self.pending.load(Ordering::Acquire) & self.enabled.load(Ordering::Relaxed)
    }
}

/// The file.
pub(crate) struct File {
    /// How many identities the file implements.
    identities: Identities,
    /// `eidelivery`, which is 0 or 1.
    delivery: AtomicBool,
    /// `eithreshold`; 0 for none.
    threshold: AtomicU32,
    /// A bit for each word that may have an identity which is pending and enabled.
    summary: AtomicU32,
    /// `eip` and `eie`.
    words: [Word; WORDS],
}

/// Returns `bits` of `new`, and the rest of `old`.
const fn merge(old: u64, new: u64, bits: u64) -> u64 {
    old & !bits | new & bits
}

/// Merges `bits` of `new` into `atomic`; returns what it was.
fn modify(atomic: &AtomicU64, new: u64, bits: u64) -> u64 {
    // Clearing and setting are two steps at most, so that a bit which another CPU sets meanwhile
    // stays set.
    let old = match bits & !new {
        0 => atomic.load(Ordering::Relaxed),
        clear => atomic.fetch_and(!clear, Ordering::AcqRel),
    };
    if bits & new != 0 {
        let between = atomic.fetch_or(bits & new, Ordering::AcqRel);
        // Bits that the first step did not change count as they were at the second step.
        return merge(old, between, !(bits & !new));
    }
    old
}

impl File {
    /// Returns a file with these identities: delivery off, nothing pending, nothing enabled.
    pub(crate) fn new(identities: Identities) -> Self {
        Self {
            identities,
            delivery: AtomicBool::new(false),
            threshold: AtomicU32::new(0),
            summary: AtomicU32::new(0),
            words: core::array::from_fn(|_| Word {
                pending: AtomicU64::new(0),
                enabled: AtomicU64::new(0),
            }),
        }
    }

    /// Returns the identities that it implements.
    pub(crate) const fn identities(&self) -> Identities {
        self.identities
    }

    /// Makes `identity` pending: a message arrived. Any context; the caller holds the lock, also to
    /// raise the line.
    pub(crate) fn set(&self, identity: Identity) -> Signal {
        let word = &self.words[identity.word()];
        // Release: what the message is about is visible to the CPU that claims it.
        if word.pending.fetch_or(identity.bit(), Ordering::Release) & identity.bit() != 0 {
            return Signal::Quiet;
        }
        self.announce(identity.word());
        if word.enabled.load(Ordering::Relaxed) & identity.bit() != 0
            && self.delivery.load(Ordering::Relaxed)
            && self.passes(identity)
        {
            Signal::Raise
        } else {
            Signal::Quiet
        }
    }

    /// Returns the first of those that are pending, enabled, and before the threshold: what
    /// `*topei` tells. Whether the file delivers does not matter.
    pub(crate) fn top(&self) -> Option<Identity> {
        let mut summary = self.summary.load(Ordering::Acquire);
        while summary != 0 {
            let index = summary.trailing_zeros() as usize;
            summary &= summary - 1;
            let due = self.due(index);
            if due != 0 {
                let first = Identity((index * 64) as u16 + due.trailing_zeros() as u16);
                return self.passes(first).then_some(first);
            }
        }
        None
    }

    /// Returns what the file signals to the hart.
    pub(crate) fn signalled(&self) -> Option<Identity> {
        if self.delivery.load(Ordering::Relaxed) {
            self.top()
        } else {
            None
        }
    }

    /// Sets `line` to what the file signals. Called by the owner after each change of its own, with
    /// the lock held.
    pub(crate) fn drive(&self, line: &impl Line) {
        match self.signalled() {
            Some(_) => line.raise(),
            None => line.lower(),
        }
    }

    /// Claims the first identity: it is not pending any more. Only the owner calls this, and drives
    /// the line afterwards.
    pub(crate) fn claim(&self) -> Option<Identity> {
        let top = self.top()?;
        // Acquire: pairs with the release in `set`.
        self.words[top.word()]
            .pending
            .fetch_and(!top.bit(), Ordering::Acquire);
        Some(top)
    }

    /// Reads `register`.
    pub(crate) fn read(&self, register: Register) -> u64 {
        self.modify(register, 0, 0)
    }

    /// Writes those bits of `value` to `register` that are ones in `mask`; returns what it held.
    /// Only the owner calls this, and drives the line afterwards.
    pub(crate) fn modify(&self, register: Register, value: u64, mask: u64) -> u64 {
        match register {
            Register::Reserved => 0,
            Register::Delivery => {
                let old = self.delivery.load(Ordering::Relaxed).into();
                let new = merge(old, value, mask & 1);
                self.delivery.store(new != 0, Ordering::Relaxed);
                old
            }
            Register::Threshold => {
                let old = self.threshold.load(Ordering::Relaxed).into();
                // `eithreshold` holds any identity, and 0.
                let held = u64::from(self.identities.count() + 1).next_power_of_two() - 1;
                let new = merge(old, value, mask & held);
                self.threshold.store(new as u32, Ordering::Relaxed);
                old
            }
            Register::Pending(index) => self.modify_array(index, value, mask, |w| &w.pending),
            Register::Enabled(index) => self.modify_array(index, value, mask, |w| &w.enabled),
        }
    }

    /// Adds the state of another file, with `words` words of identities: `take` reads a register of
    /// it and clears it. Only the owner calls this, and drives the line afterwards.
    pub(crate) fn absorb(&self, words: usize, mut take: impl FnMut(Register) -> u64) {
        // The specification recommends this order for a move: first the old file stops delivering.
        let delivery = take(Register::Delivery);
        let threshold = take(Register::Threshold);
        for register in Register::arrays(words) {
            let bits = take(register);
            self.modify(register, bits, bits);
        }
        self.modify(Register::Threshold, threshold, u64::MAX);
        self.modify(Register::Delivery, delivery, u64::MAX);
    }

    /// Clears the file, as a reset does, and adds its state to another one: `add` sets bits of an
    /// array's register, and writes the other registers. Called by the owner. An identity that
    /// arrives meanwhile is moved or stays.
    pub(crate) fn drain(&self, mut add: impl FnMut(Register, u64)) {
        let delivery = self.modify(Register::Delivery, 0, u64::MAX);
        let threshold = self.modify(Register::Threshold, 0, u64::MAX);
        for register in Register::arrays(self.identities.words()) {
            let bits = self.modify(register, 0, u64::MAX);
            if bits != 0 {
                add(register, bits);
            }
        }
        add(Register::Threshold, threshold);
        add(Register::Delivery, delivery);
    }

    /// Merges `value` into a register of one of the arrays; returns what it was.
    fn modify_array(
        &self,
        index: u8,
        value: u64,
        mask: u64,
        array: impl FnOnce(&Word) -> &AtomicU64,
    ) -> u64 {
        // As in `Identity::word`: `Register::select` knows no larger index.
        let index = usize::from(index) % WORDS;
        let word = &self.words[index];
        let mask = mask & self.identities.bits(index);
        let old = modify(array(word), value, mask);
        if value & mask != 0 {
            self.announce(index);
        }
        old
    }

    /// Announces that word `index` may have something due.
    fn announce(&self, index: usize) {
        // Release: a CPU that sees the bit sees the word.
        self.summary.fetch_or(1 << index, Ordering::Release);
    }

    /// Returns what is pending and enabled in word `index`.
    fn due(&self, index: usize) -> u64 {
        let Some(word) = self.words.get(index) else {
            return 0;
        };
        let due = word.due();
        if due != 0 {
            return due;
        }
        // Acquire: the changes of senders whose bit is cleared here are visible below.
        self.summary.fetch_and(!(1 << index), Ordering::Acquire);
        let due = word.due();
        if due != 0 {
            self.announce(index);
        }
        due
    }

    /// Returns whether the threshold lets `identity` through.
    fn passes(&self, identity: Identity) -> bool {
        let threshold = self.threshold.load(Ordering::Relaxed);
        threshold == 0 || identity.number() < threshold
    }
}
