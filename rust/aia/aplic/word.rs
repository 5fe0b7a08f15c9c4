// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! 32 interrupt sources, as the registers of bits have them.
//!
//! One bit of each field belongs to one source, so that one operation changes all 32 sources: a
//! write to `setip` costs the same, whatever it sets. AIA specification, "Source configurations"
//! and "Precise effects on interrupt-pending bits", for MSI delivery mode.

use crate::aia::{
    aplic::register::{
        SourceMode,
        Target, //
    },
    msi::{
        Delivery,
        Level, //
    }, //
};

/// Interrupt sources per word.
pub(super) const SOURCES_PER_WORD: usize = u32::BITS as usize;

/// The origin of a value that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// The guest.
    Guest,
    /// Userspace, which restores a saved value.
    Restore,
}

/// The state of 32 sources. All zero, they are inactive and their wires low.
///
/// # Invariants
///
/// - A source that is inactive is neither pending nor enabled, and its target is zero.
/// - A level-sensitive source is not pending while its rectified input is low.
#[cfg_attr(not(test), derive(pin_init::Zeroable))]
pub(super) struct Word {
    /// Bits 0, 1 and 2 of SM. Reserved modes do not occur, so bit 2 says that the wire matters to
    /// the source, and then bit 1 that it is level-sensitive, and bit 0 that it is inverted.
    sm: [u32; 3],
    /// The level that each [`LineOwner`] drives the wires to.
    lines: [u32; 2],
    /// The levels of the wires, also of sources that ignore them: high if an owner drives the wire
    /// high. After a restore, the restored levels, until an owner changes the wire.
    wires: u32,
    /// `setip`: a bit for each pending source.
    pending: u32,
    /// Level-sensitive sources that were restored as pending before their inputs, which are low.
    awaited: u32,
    /// `setie`: a bit for each enabled source.
    enabled: u32,
    /// `target` of each source.
    targets: [Target; SOURCES_PER_WORD],
}

impl Word {
    /// Returns the sources that are not inactive.
    fn active(&self) -> u32 {
        let [low, _, high] = self.sm;
        low | high
    }

    /// Returns the sources that are level-sensitive.
    fn level(&self) -> u32 {
        let [_, middle, high] = self.sm;
        middle & high
    }

    /// Returns the rectified input values: 1 where the wire asserts an interrupt.
    pub(super) fn rectified(&self) -> u32 {
        let [low, _, high] = self.sm;
        (self.wires ^ low) & high
    }

    /// Returns the sources that are level-sensitive, with a wire that asserts an interrupt.
    pub(super) fn asserted_levels(&self) -> u32 {
        self.level() & self.rectified()
    }

    /// Returns the sources that can be pending now.
    fn can_be_pending(&self) -> u32 {
        self.active() & (!self.level() | self.rectified())
    }

    /// Returns the sources that are pending (`setip`).
    pub(super) fn pending(&self) -> u32 {
        self.pending
    }

    /// Returns the sources that are enabled (`setie`).
    pub(super) fn enabled(&self) -> u32 {
        self.enabled
    }

    /// Returns the mode of source `n`, as `sourcecfg` has it.
    pub(super) fn sourcecfg(&self, n: Index) -> u32 {
        let bit = |plane: u32| plane >> n.0 & 1;
        let [low, middle, high] = self.sm;
        bit(high) << 2 | bit(middle) << 1 | bit(low)
    }

    /// Gives source `n` a mode.
    ///
    /// The specification leaves open whether a source becomes pending if its input is high in its
    /// new mode. A level-sensitive one does, so that no guest waits for a change of a wire that is
    /// already asserted. An edge-sensitive one does not, because there was no edge.
    pub(super) fn set_mode(&mut self, n: Index, mode: SourceMode, writer: Writer) {
        let mask = n.mask();
        let changes = self.sourcecfg(n) != mode.sm();
        for (bit, plane) in self.sm.iter_mut().enumerate() {
            *plane = *plane & !mask | if mode.sm() >> bit & 1 != 0 { mask } else { 0 };
        }
        self.awaited &= !mask;
        match mode {
            SourceMode::Inactive => {
                self.pending &= !mask;
                self.enabled &= !mask;
                self.targets[n.place()] = Target::ZERO;
            }
            SourceMode::Detached | SourceMode::EdgeRise | SourceMode::EdgeFall => {}
            SourceMode::LevelHigh | SourceMode::LevelLow => {
                if changes && writer == Writer::Guest {
                    self.pending |= mask & self.rectified();
                }
                self.pending &= self.can_be_pending();
            }
        }
    }

    /// Changes the wire of source `n`, as far as `owner` drives it. Returns whether the source
    /// became pending by it.
    pub(super) fn change_wire(&mut self, n: Index, owner: LineOwner, level: Level) -> bool {
        let mask = n.mask();
        let line = match owner {
            LineOwner::Userspace => &mut self.lines[0],
            LineOwner::Resample => &mut self.lines[1],
        };
        match level {
            Level::High => *line |= mask,
            Level::Low => *line &= !mask,
        }
        let [userspace, resample] = self.lines;
        let before = self.rectified();
        self.wires = self.wires & !mask | (userspace | resample) & mask;
        self.awaited &= !mask;
        let rises = self.rectified() & !before;
        let news = rises & !self.pending;
        self.pending = (self.pending | rises) & self.can_be_pending();
        news != 0
    }

    /// Makes the sources in `mask` pending, as far as they can be.
    pub(super) fn set_pending(&mut self, mask: u32) {
        self.pending |= mask & self.can_be_pending();
    }

    /// Withdraws the sources in `mask`: in MSI delivery mode, that is always possible.
    pub(super) fn clear_pending(&mut self, mask: u32) {
        self.pending &= !mask;
        self.awaited &= !mask;
    }

    /// Restores that the sources in `pending` were pending when the state was saved, and no more.
    /// If the input that one depends on is restored later, it becomes pending then.
    pub(super) fn restore_pending(&mut self, pending: u32) {
        self.pending = pending & self.can_be_pending();
        self.awaited = pending & self.level() & !self.pending;
    }

    /// Restores that the rectified inputs were `rectified` when the state was saved. No edge is
    /// seen.
    pub(super) fn restore_inputs(&mut self, rectified: u32) {
        let [low, _, high] = self.sm;
        self.wires = self.wires & !high | (rectified ^ low) & high;
        self.pending = (self.pending | self.awaited) & self.can_be_pending();
        self.awaited &= !self.pending;
    }

    /// Enables those sources in `mask` that are active.
    pub(super) fn enable(&mut self, mask: u32) {
        self.enabled |= mask & self.active();
    }

    /// Disables the sources in `mask`.
    pub(super) fn disable(&mut self, mask: u32) {
        self.enabled &= !mask;
    }

    /// Restores that the sources in `enabled` were enabled when the state was saved, and no more.
    pub(super) fn restore_enabled(&mut self, enabled: u32) {
        self.enabled = enabled & self.active();
    }

    /// Returns where interrupts of source `n` go.
    pub(super) fn target(&self, n: Index) -> Target {
        self.targets[n.place()]
    }

    /// Redirects interrupts of source `n`, if it is active.
    pub(super) fn set_target(&mut self, n: Index, target: Target) {
        if self.active() & n.mask() != 0 {
            self.targets[n.place()] = target;
        }
    }

    /// Hands what is pending and enabled, of the sources in `mask`, to `send`, lowest number
    /// first. What cannot be sent now stays pending.
    pub(super) fn forward(&mut self, mask: u32, mut send: impl FnMut(Target) -> Delivery) {
        let mut ready = self.pending & self.enabled & mask;
        while ready != 0 {
            let n = Index::of(ready.trailing_zeros());
            ready &= !n.mask();
            match send(self.target(n)) {
                Delivery::Delivered | Delivery::Blocked => self.pending &= !n.mask(),
                Delivery::Defer => {}
            }
        }
    }
}

/// A source among the 32 of its word.
///
/// # Invariants
///
/// The number is below 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Index(u32);

impl Index {
    /// Returns which one of its word source `number` is.
    pub(super) const fn of(number: u32) -> Index {
        // INVARIANT: A remainder of the division by 32 is below 32.
        Index(number % u32::BITS)
    }

    /// Returns the bit of the source in a register of bits.
    pub(super) const fn mask(self) -> u32 {
        1 << self.0
    }

    /// Returns the source's position in the array of targets.
    const fn place(self) -> usize {
        // The remainder changes nothing; it spares the bounds check.
        self.0 as usize % SOURCES_PER_WORD
    }
}

/// The source of a wire's level. The wire is low when no source makes it high.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineOwner {
    /// Userspace, by `KVM_IRQ_LINE` or an irqfd without resampling.
    Userspace,
    /// The irqfds whose level lasts until the guest acknowledges it.
    Resample,
}
