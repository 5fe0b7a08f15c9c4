// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! The APLIC of a guest: wires in, MSIs out. Answers to `aia_aplic.c`.
//!
//! One interrupt domain at supervisor level, the root as far as the guest can see, without
//! children, in MSI delivery mode, little-endian. AIA specification, "Advanced Platform-Level
//! Interrupt Controller"; the comments name its sections.
//!
//! # Locking
//!
//! The owner keeps a [`Domain`] in a spinlock that is taken with interrupts off: an irqfd changes a
//! wire from any context. MSIs leave through a [`MsiSink`] *under* that lock. The lock is held only
//! a little longer, because an interrupt file takes an MSI in any context and in constant time, and
//! the MSIs have the order that the specification asks for: an MSI that `genmsi` makes arrives
//! after all that were sent before it, and once a source is disabled, redirected or made inactive,
//! nothing of it is on the way any more.
//!
//! # Restoring
//!
//! Userspace saves and restores registers as they read. To restore one is different from a guest's
//! write: `setip` and `setie` also take bits away, `in_clrip` sets the inputs, which are what it
//! reads, `sourcecfg` makes nothing pending and `genmsi` sends nothing.

use crate::{
    aia::{
        aplic::{
            register::{
                DomainCfg,
                Register,
                SourceCfg,
                SourceMode,
                Target, //
            },
            word::{
                Index,
                LineOwner,
                Word,
                Writer, //
            }, //
        },
        msi::{
            Delivery,
            Level,
            MsiSink, //
        }, //
    },
    kernel_ext::nospec, //
};

mod register;
pub(crate) mod word;

/// Words of sources.
const WORDS: usize = 32;

/// There is no such interrupt source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoSource;

/// There is no such register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRegister;

/// The interrupt domain. All zero, it is as after reset, and without sources.
///
/// # Invariants
///
/// Sources that do not exist are inactive.
#[cfg_attr(not(test), derive(pin_init::Zeroable))]
pub(crate) struct Domain {
    /// `domaincfg.IE`: whether the domain sends MSIs.
    enabled: bool,
    /// `genmsi`, as it was last written.
    genmsi: Target,
    /// How many sources there are; their numbers begin with 1.
    sources: u32,
    /// The sources, 32 to a word; source 0 does not exist.
    words: [Word; WORDS],
}

/// The numbers of the sources whose handling the guest ends, all of one word.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledged {
    /// The number of the word.
    word: usize,
    /// A bit for each of the sources.
    sources: u32,
}

impl Acknowledged {
    /// The value without sources.
    const NONE: Self = Self {
        word: 0,
        sources: 0,
    };

    /// Returns whether there is no source.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.sources == 0
    }
}

impl Iterator for Acknowledged {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.is_empty() {
            return None;
        }
        let n = self.sources.trailing_zeros();
        self.sources &= self.sources - 1;
        Some((self.word * word::SOURCES_PER_WORD) as u32 + n)
    }
}

/// A source that exists: the number of its word, and its position in the word.
#[derive(Clone, Copy)]
struct Source(usize, Index);

impl Domain {
    /// Gives the domain `sources` sources, or as many as a domain can have.
    pub(crate) fn set_up(&mut self, sources: u32) {
        self.sources = sources.min((WORDS * word::SOURCES_PER_WORD) as u32 - 1);
    }

    /// Returns source `number`, also in speculation, if it exists.
    fn source(&self, number: u32) -> Option<Source> {
        if number == 0 || number > self.sources {
            return None;
        }
        let number = nospec::index(number as usize, self.sources as usize + 1);
        Some(Source(
            number / word::SOURCES_PER_WORD,
            Index::of(number as u32),
        ))
    }

    /// Returns word `k`, also in speculation, if a source in it exists.
    fn existing_word(&self, k: usize) -> Option<usize> {
        let words = self.sources as usize / word::SOURCES_PER_WORD + 1;
        (k < words).then(|| nospec::index(k, words))
    }

    // Words come from `source` and `existing_word`: `% WORDS` changes nothing, and spares a check.

    /// Returns word `k`. The remainder changes nothing, and spares a check.
    fn word(&self, k: usize) -> &Word {
        &self.words[k % WORDS]
    }

    /// Returns word `k`, to be changed.
    fn word_mut(&mut self, k: usize) -> &mut Word {
        &mut self.words[k % WORDS]
    }

    /// Sends what is pending and enabled, of the sources `mask` in word `k`, if the domain may send
    /// at all. "Interrupt forwarding by MSIs".
    fn forward(&mut self, k: usize, mask: u32, sink: &mut impl MsiSink) -> Option<Delivery> {
        if !self.enabled {
            return None;
        }
        let mut last = None;
        self.word_mut(k).forward(mask, |target| {
            let delivery = sink.send(target.msi());
            last = Some(delivery);
            delivery
        });
        last
    }

    /// Makes the wire of source `number` high or low, as far as `owner` drives it.
    ///
    /// [`Delivery::Delivered`]: the source became pending, and its MSI, if one went out, arrived.
    /// [`Delivery::Blocked`]: nothing came of it. [`Delivery::Defer`]: the source is pending, but
    /// its MSI could not be sent.
    ///
    /// # Errors
    ///
    /// [`NoSource`] if there is no such source.
    pub(crate) fn set_line(
        &mut self,
        number: u32,
        owner: LineOwner,
        level: Level,
        sink: &mut impl MsiSink,
    ) -> Result<Delivery, NoSource> {
        let Source(k, n) = self.source(number).ok_or(NoSource)?;
        let becomes_pending = self.word_mut(k).change_wire(n, owner, level);
        Ok(match self.forward(k, n.mask(), sink) {
            Some(delivery) => delivery,
            None if becomes_pending => Delivery::Delivered,
            None => Delivery::Blocked,
        })
    }

    /// Makes the wire of source `number` high, and low again, for userspace.
    ///
    /// # Errors
    ///
    /// [`NoSource`] if there is no such source.
    pub(crate) fn pulse(
        &mut self,
        number: u32,
        sink: &mut impl MsiSink,
    ) -> Result<Delivery, NoSource> {
        let rise = self.set_line(number, LineOwner::Userspace, Level::High, sink)?;
        let fall = self.set_line(number, LineOwner::Userspace, Level::Low, sink)?;
        Ok(match (rise, fall) {
            (Delivery::Defer, _) | (_, Delivery::Defer) => Delivery::Defer,
            (Delivery::Delivered, _) | (_, Delivery::Delivered) => Delivery::Delivered,
            (Delivery::Blocked, Delivery::Blocked) => Delivery::Blocked,
        })
    }

    /// Reads the register at `offset` for the guest.
    pub(crate) fn read(&self, offset: u32) -> u32 {
        Register::at(offset).map_or(0, |register| self.get(register))
    }

    /// Returns what `register` reads as.
    fn get(&self, register: Register) -> u32 {
        let of_source = |number, field: fn(&Word, Index) -> u32| {
            let source = self.source(number);
            source.map_or(0, |Source(k, n)| field(self.word(k), n))
        };
        let of_word = |k, field: fn(&Word) -> u32| {
            let k = self.existing_word(k);
            k.map_or(0, |k| field(self.word(k)))
        };
        match register {
            Register::DomainCfg => DomainCfg::RESET.with_ie(self.enabled).into_raw(),
            Register::SourceCfg(number) => of_source(number, Word::sourcecfg),
            Register::SetIp(k) => of_word(k, Word::pending),
            Register::InClrIp(k) => of_word(k, Word::rectified),
            Register::SetIe(k) => of_word(k, Word::enabled),
            Register::GenMsi => self.genmsi.into_raw(),
            Register::Target(number) => of_source(number, |word, n| word.target(n).into_raw()),
            Register::SetIpNum
            | Register::SetIpNumBe
            | Register::ClrIpNum
            | Register::SetIeNum
            | Register::ClrIe(_)
            | Register::ClrIeNum => 0,
        }
    }

    /// Writes `value` to the register at `offset` for the guest.
    pub(crate) fn write(&mut self, offset: u32, value: u32, sink: &mut impl MsiSink) {
        if let Some(register) = Register::at(offset) {
            self.set(register, value, sink);
        }
    }

    /// Writes `value` to `register`, and sends the MSIs that follow.
    fn set(&mut self, register: Register, value: u32, sink: &mut impl MsiSink) {
        match register {
            Register::DomainCfg => {
                self.enabled = DomainCfg::from(value).ie();
                for k in 0..WORDS {
                    self.forward(k, u32::MAX, sink);
                }
            }
            Register::SourceCfg(number) => {
                let mode = SourceMode::written(SourceCfg::from(value));
                self.change(number, sink, |word, n| {
                    word.set_mode(n, mode, Writer::Guest);
                });
            }
            Register::SetIp(k) => self.change_word(k, value, sink, Word::set_pending),
            Register::SetIpNum => self.change_bit(value, sink, Word::set_pending),
            Register::SetIpNumBe => self.change_bit(value.swap_bytes(), sink, Word::set_pending),
            Register::InClrIp(k) => self.change_word(k, value, sink, Word::clear_pending),
            Register::ClrIpNum => self.change_bit(value, sink, Word::clear_pending),
            Register::SetIe(k) => self.change_word(k, value, sink, Word::enable),
            Register::SetIeNum => self.change_bit(value, sink, Word::enable),
            Register::ClrIe(k) => self.change_word(k, value, sink, Word::disable),
            Register::ClrIeNum => self.change_bit(value, sink, Word::disable),
            Register::GenMsi => {
                // `genmsi` sends whether `domaincfg.IE` is set or not.
                self.genmsi = Target::written(value);
                // The guest does not learn whether the MSI arrived, as for any memory write.
                let _ = sink.send(self.genmsi.msi());
            }
            Register::Target(number) => {
                let target = Target::written(value);
                self.change(number, sink, |word, n| word.set_target(n, target));
            }
        }
    }

    /// Changes source `number`, if it exists, and sends its MSI if it is pending and enabled then.
    fn change(
        &mut self,
        number: u32,
        sink: &mut impl MsiSink,
        change: impl FnOnce(&mut Word, Index),
    ) {
        if let Some(Source(k, n)) = self.source(number) {
            change(self.word_mut(k), n);
            self.forward(k, n.mask(), sink);
        }
    }

    /// Changes source `number` by a `change` that takes a set of sources: here, the one.
    fn change_bit(&mut self, number: u32, sink: &mut impl MsiSink, change: fn(&mut Word, u32)) {
        self.change(number, sink, |word, n| change(word, n.mask()));
    }

    /// Changes the sources `mask` in word `k`, and sends their MSIs.
    fn change_word(
        &mut self,
        k: usize,
        mask: u32,
        sink: &mut impl MsiSink,
        change: fn(&mut Word, u32),
    ) {
        if let Some(k) = self.existing_word(k) {
            change(self.word_mut(k), mask);
            self.forward(k, mask, sink);
        }
    }

    /// Returns the sources whose handling the guest ends by writing `value` at `offset`:
    /// level-sensitive, and their wires still high (low, if inverted).
    ///
    /// "Special consideration for level-sensitive interrupt sources": the guest asks for another
    /// interrupt in case that the wire is still asserted. A resampling irqfd, which keeps the wire
    /// high until the guest has served the device, must lower it before [`Self::write`] looks at
    /// it.
    pub(crate) fn acknowledged_by_write(&self, offset: u32, value: u32) -> Acknowledged {
        let of_source = |number| match self.source(number) {
            Some(Source(k, n)) => self.asserted_levels(k, n.mask()),
            None => Acknowledged::NONE,
        };
        match Register::at(offset) {
            Some(Register::SetIpNum) => of_source(value),
            Some(Register::SetIpNumBe) => of_source(value.swap_bytes()),
            Some(Register::SetIp(k)) => match self.existing_word(k) {
                Some(k) => self.asserted_levels(k, value),
                None => Acknowledged::NONE,
            },
            _ => Acknowledged::NONE,
        }
    }

    /// Returns the sources whose handling the guest ends by reading the register at `offset`.
    ///
    /// The other way that the specification has for level-sensitive sources: the guest looks at the
    /// rectified inputs before it leaves its handler, and serves the device again if there is
    /// reason to. A source that is pending is left out: the guest has not taken its interrupt yet,
    /// so it is not serving it.
    pub(crate) fn acknowledged_by_read(&self, offset: u32) -> Acknowledged {
        match Register::at(offset) {
            Some(Register::InClrIp(k)) => match self.existing_word(k) {
                Some(k) => self.asserted_levels(k, !self.word(k).pending()),
                None => Acknowledged::NONE,
            },
            _ => Acknowledged::NONE,
        }
    }

    /// Returns those of the sources `mask` in word `k` that are level-sensitive, with a wire that
    /// asserts an interrupt.
    fn asserted_levels(&self, k: usize, mask: u32) -> Acknowledged {
        Acknowledged {
            word: k,
            sources: self.word(k).asserted_levels() & mask,
        }
    }

    /// Returns the register at `offset` for userspace, which is told what does not exist.
    fn attribute(&self, offset: u64) -> Option<Register> {
        let register = Register::at(offset.try_into().ok()?)?;
        match register {
            Register::SourceCfg(number) | Register::Target(number) => {
                self.source(number)?;
            }
            Register::SetIp(k) | Register::InClrIp(k) | Register::SetIe(k) | Register::ClrIe(k) => {
                self.existing_word(k)?;
            }
            Register::DomainCfg
            | Register::SetIpNum
            | Register::SetIpNumBe
            | Register::ClrIpNum
            | Register::SetIeNum
            | Register::ClrIeNum
            | Register::GenMsi => {}
        }
        Some(register)
    }

    /// Reads the register at `offset`, to be saved; [`None`] if there is none.
    pub(crate) fn save(&self, offset: u64) -> Option<u32> {
        self.attribute(offset).map(|register| self.get(register))
    }

    /// Restores the register at `offset`. In rising order of offsets, what was saved gives the same
    /// state, and sends nothing that was not owed already; in a domain that was in use, if all
    /// `sourcecfg` are made 0 before.
    ///
    /// # Errors
    ///
    /// [`NoRegister`] if there is no such register.
    pub(crate) fn restore(
        &mut self,
        offset: u64,
        value: u32,
        sink: &mut impl MsiSink,
    ) -> Result<(), NoRegister> {
        let register = self.attribute(offset).ok_or(NoRegister)?;
        match register {
            Register::SourceCfg(number) => {
                let mode = SourceMode::written(SourceCfg::from(value));
                self.change(number, sink, |word, n| {
                    word.set_mode(n, mode, Writer::Restore);
                });
            }
            Register::SetIp(k) => self.restore_word(k, value, sink, Word::restore_pending),
            Register::InClrIp(k) => self.restore_word(k, value, sink, Word::restore_inputs),
            Register::SetIe(k) => self.restore_word(k, value, sink, Word::restore_enabled),
            Register::GenMsi => self.genmsi = Target::written(value),
            Register::DomainCfg
            | Register::SetIpNum
            | Register::SetIpNumBe
            | Register::ClrIpNum
            | Register::SetIeNum
            | Register::ClrIe(_)
            | Register::ClrIeNum
            | Register::Target(_) => self.set(register, value, sink),
        }
        Ok(())
    }

    /// Restores all of word `k`.
    fn restore_word(
        &mut self,
        k: usize,
        value: u32,
        sink: &mut impl MsiSink,
        restore: fn(&mut Word, u32),
    ) {
        if let Some(k) = self.existing_word(k) {
            restore(self.word_mut(k), value);
            self.forward(k, u32::MAX, sink);
        }
    }
}
