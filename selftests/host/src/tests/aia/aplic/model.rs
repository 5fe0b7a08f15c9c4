// SPDX-License-Identifier: GPL-2.0

//! The APLIC as the specification tells it, source by source and sentence by sentence.

use crate::aia::{
    aplic::word::LineOwner,
    msi::{
        GuestIndex,
        HartIndex,
        Level,
        Msi, //
    }, //
};

/// Table "Encoding of the SM (Source Mode) field".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Inactive,
    Detached,
    Edge1,
    Edge0,
    Level1,
    Level0,
}

impl Mode {
    pub(super) const ALL: [Mode; 6] = [
        Mode::Inactive,
        Mode::Detached,
        Mode::Edge1,
        Mode::Edge0,
        Mode::Level1,
        Mode::Level0,
    ];

    pub(super) fn sm(self) -> u32 {
        match self {
            Mode::Inactive => 0,
            Mode::Detached => 1,
            Mode::Edge1 => 4,
            Mode::Edge0 => 5,
            Mode::Level1 => 6,
            Mode::Level0 => 7,
        }
    }

    pub(super) fn is_level(self) -> bool {
        matches!(self, Mode::Level1 | Mode::Level0)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub(super) mode: Mode,
    /// What userspace and the resamplers drive.
    lines: [bool; 2],
    pub(super) pending: bool,
    pub(super) enabled: bool,
    target: u32,
}

impl Source {
    fn wire(&self) -> bool {
        self.lines[0] || self.lines[1]
    }

    /// "(incoming wire value) XOR (source is inverted)"; "for a source that is inactive or Detached
    /// [...] zero".
    pub(super) fn rectified(&self) -> bool {
        match self.mode {
            Mode::Inactive | Mode::Detached => false,
            Mode::Edge1 | Mode::Level1 => self.wire(),
            Mode::Edge0 | Mode::Level0 => !self.wire(),
        }
    }
}

/// One domain. Sources begin with 1.
#[derive(Clone)]
pub(super) struct Model {
    pub(super) ie: bool,
    genmsi: u32,
    /// `sources[0]` is none.
    pub(super) sources: Vec<Source>,
    /// What was sent since it was last looked at.
    pub(super) sent: Vec<Msi>,
}

/// "bits 31:18 Hart Index", "bits 10:0 EIID".
fn msi(target: u32) -> Msi {
    Msi {
        hart: HartIndex::new(target >> 18),
        guest: GuestIndex::new(0),
        id: target % 2048,
    }
}

const TARGET_FIELDS: u32 = 0xfffc_07ff;

impl Model {
    pub(super) fn new(sources: u32) -> Model {
        let source = Source {
            mode: Mode::Inactive,
            lines: [false; 2],
            pending: false,
            enabled: false,
            target: 0,
        };
        Model {
            ie: false,
            genmsi: 0,
            sources: vec![source; sources as usize + 1],
            sent: Vec::new(),
        }
    }

    fn exists(&self, number: u32) -> bool {
        (1..self.sources.len()).contains(&(number as usize))
    }

    /// "If the source mode is Level1 or Level0 [...] The pending bit is cleared whenever the
    /// rectified input value is low"; "An MSI is sent for a specific source only when the source's
    /// corresponding pending and enable bits are both one and the IE field of register domaincfg is
    /// also one. If and when an MSI is sent, the source's interrupt pending bit is cleared."
    fn settle(&mut self) {
        for source in &mut self.sources {
            if source.mode.is_level() && !source.rectified() {
                source.pending = false;
            }
            if self.ie && source.pending && source.enabled {
                source.pending = false;
                self.sent.push(msi(source.target));
            }
        }
    }

    pub(super) fn set_line(&mut self, number: u32, owner: LineOwner, level: Level) {
        if !self.exists(number) {
            return;
        }
        let source = &mut self.sources[number as usize];
        let before = source.rectified();
        source.lines[usize::from(owner == LineOwner::Resample)] = level == Level::High;
        // Edge and, in MSI delivery mode, level: "set to one by a low-to-high transition in the
        // rectified input value".
        if !before && source.rectified() {
            source.pending = true;
        }
        self.settle();
    }

    /// "The following enumerates all the circumstances when a pending bit is set".
    fn set_pending(&mut self, number: u32) {
        if !self.exists(number) {
            return;
        }
        let source = &mut self.sources[number as usize];
        match source.mode {
            // "if that bit position corresponds to an active interrupt source"
            Mode::Inactive => {}
            Mode::Detached | Mode::Edge1 | Mode::Edge0 => source.pending = true,
            // "when the rectified input value is high, but not when the rectified input value is
            // low"
            Mode::Level1 | Mode::Level0 => source.pending |= source.rectified(),
        }
    }

    fn clear_pending(&mut self, number: u32) {
        if self.exists(number) {
            self.sources[number as usize].pending = false;
        }
    }

    fn set_enabled(&mut self, number: u32, enabled: bool) {
        if self.exists(number) {
            let source = &mut self.sources[number as usize];
            source.enabled = enabled && source.mode != Mode::Inactive;
        }
    }

    fn set_sourcecfg(&mut self, number: u32, value: u32) {
        if !self.exists(number) {
            return;
        }
        let mode = match value & 7 {
            // "attempting to write a sourcecfg register with a value that has bit 10 = 1 causes the
            // entire register to be set to zero instead"
            _ if value >> 10 & 1 == 1 => Mode::Inactive,
            1 => Mode::Detached,
            4 => Mode::Edge1,
            5 => Mode::Edge0,
            6 => Mode::Level1,
            7 => Mode::Level0,
            _ => Mode::Inactive,
        };
        let source = &mut self.sources[number as usize];
        let old = core::mem::replace(&mut source.mode, mode);
        match mode {
            // "the corresponding interrupt-pending and interrupt-enable bits within the domain are
            // read-only zeros, and register target[i] is also read-only zero"
            Mode::Inactive => {
                source.pending = false;
                source.enabled = false;
                source.target = 0;
            }
            // "might (or might not) cause the corresponding interrupt-pending bit to be set to one
            // if the rectified input value is high": ours does for a new level mode.
            Mode::Level1 | Mode::Level0 if old != mode && source.rectified() => {
                source.pending = true;
            }
            _ => {}
        }
    }

    pub(super) fn write(&mut self, offset: u32, value: u32) {
        let bits = |first: u32| {
            (0..32)
                .filter(move |n| value >> n & 1 == 1)
                .map(move |n| first + n)
        };
        match offset {
            0 => self.ie = value >> 8 & 1 == 1,
            0x4..=0xffc => self.set_sourcecfg(offset / 4, value),
            0x1c00..=0x1c7c => {
                bits((offset - 0x1c00) * 8).for_each(|number| self.set_pending(number));
            }
            0x1cdc | 0x2000 => self.set_pending(value),
            0x2004 => self.set_pending(u32::from_be_bytes(value.to_le_bytes())),
            0x1d00..=0x1d7c => {
                bits((offset - 0x1d00) * 8).for_each(|number| self.clear_pending(number));
            }
            0x1ddc => self.clear_pending(value),
            0x1e00..=0x1e7c => {
                bits((offset - 0x1e00) * 8).for_each(|number| self.set_enabled(number, true));
            }
            0x1edc => self.set_enabled(value, true),
            0x1f00..=0x1f7c => {
                bits((offset - 0x1f00) * 8).for_each(|number| self.set_enabled(number, false));
            }
            0x1fdc => self.set_enabled(value, false),
            // "An extempore MSI is sent even if domaincfg.IE = 0."
            0x3000 => {
                self.genmsi = value & TARGET_FIELDS;
                self.sent.push(msi(self.genmsi));
            }
            0x3004..=0x3ffc => {
                let number = (offset - 0x3000) / 4;
                if self.exists(number) && self.sources[number as usize].mode != Mode::Inactive {
                    self.sources[number as usize].target = value & TARGET_FIELDS;
                }
            }
            _ => {}
        }
        self.settle();
    }

    pub(super) fn read(&self, offset: u32) -> u32 {
        let source = |number: u32| self.sources.get(number as usize);
        let word = |first: u32, bit: fn(&Source) -> bool| {
            (0..32)
                .filter(|n| source(first + n).is_some_and(bit))
                .fold(0, |word, n| word | 1 << n)
        };
        match offset {
            // "bits 31:24 read-only 0x80", "bit 8 IE", "bit 2 DM", "bit 0 BE".
            0 => 0x8000_0004 | u32::from(self.ie) << 8,
            0x4..=0xffc => source(offset / 4).map_or(0, |source| source.mode.sm()),
            0x1c00..=0x1c7c => word((offset - 0x1c00) * 8, |source| source.pending),
            0x1d00..=0x1d7c => word((offset - 0x1d00) * 8, Source::rectified),
            0x1e00..=0x1e7c => word((offset - 0x1e00) * 8, |source| source.enabled),
            0x3000 => self.genmsi,
            0x3004..=0x3ffc => source((offset - 0x3000) / 4).map_or(0, |source| source.target),
            _ => 0,
        }
    }
}
