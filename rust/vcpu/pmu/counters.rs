// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! The counters of one hart and what calls do to them. Answers to the counter functions of
//! `vcpu_pmu.c`.
//!
//! Pure: what counts events of hardware is behind [`Source`] and [`Event`]. No locks: the holder of
//! `vcpu->mutex` owns a [`Counters`].
//!
//! A counter is a [`Pmc`]. Whether it counts, and what, is one value, so that there is no event
//! without a counter to stop it and no started counter without an event (differences-from-c S2,
//! S6).

use crate::{
    kernel_ext::nospec,
    sbi_abi::message::{
        pmu::{
            Choice,
            Events,
            Filter,
            Run,
            Value, //
        }, //
        SbiError,
    },
    vcpu::pmu::{
        event::{
            self,
            FirmwareEvent,
            HardwareEvent, //
        },
        firmware::FirmwareCounts,
        layout::{
            Kind,
            Layout,
            Member,
            Selection, //
            FIRST_PROGRAMMABLE,
            MAX_COUNTERS,
        },
        wrap, //
    }, //
};

/// Where events of hardware come from.
pub(crate) trait Source {
    /// An event, stopped; dropping it gives back what it holds.
    type Event: Event;

    /// Prepares to count `event` in those modes that `filter` leaves, for a counter with one bit
    /// more than `width`. [`None`] if the host cannot, or has no counter left and `room` does not
    /// say that one comes free.
    fn create(
        &mut self,
        event: HardwareEvent,
        filter: Filter,
        width: u32,
        room: Room,
    ) -> Option<Self::Event>;
}

/// Whether the host needs another counter for a new event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// The host needs a free counter.
    Needed,
    /// The new event replaces one that counts.
    ComesFree,
}

/// Whether the guest is told that a counter has wrapped (Sscofpmf).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overflows {
    /// The guest is told by an interrupt, and in snapshots.
    Told,
    /// The guest is not told.
    Ignored,
}

/// An event of hardware that is counted, from 0 whenever it is started, while its vCPU is in
/// `KVM_RUN`.
pub(crate) trait Event {
    /// Starts counting for a counter that holds `value`, in `KVM_RUN`.
    ///
    /// # Errors
    ///
    /// [`NotStarted`] if the host refuses, or has no counter left.
    fn start(&mut self, value: u64) -> Result<(), NotStarted>;

    /// Stops the event, and returns how much it has counted since it was started.
    /// [`wrapped`](Self::wrapped) takes that into account from then on, also if the interrupt of
    /// the overflow did not come.
    fn stop(&mut self) -> u64;

    /// Returns how much it has counted since it was started.
    fn count(&self) -> u64;

    /// Returns whether its counter has wrapped since it was last started, and the guest is to know.
    fn wrapped(&self) -> bool;

    /// Notes that the `KVM_RUN` ends which it counts in. It is started.
    fn leave(&mut self);

    /// Notes that the next `KVM_RUN` begins.
    fn enter(&mut self);
}

/// The host does not start to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotStarted;

/// What a counter with an event holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    /// This.
    Stopped(u64),
    /// This value, plus what its event has counted since.
    Started(u64),
}

/// A counter.
enum Pmc<E> {
    /// The counter has no event. It keeps the value that it last had.
    Free(u64),
    /// The counter counts an event of KVM's own.
    Firmware(FirmwareEvent, Count),
    /// The counter counts an event of the host's hardware.
    Hardware(E, Count),
}

impl<E: Event> Pmc<E> {
    /// Returns whether it has no event.
    fn is_free(&self) -> bool {
        matches!(self, Self::Free(_))
    }

    /// Returns whether it counts.
    fn is_started(&self) -> bool {
        match self {
            Self::Free(_) => false,
            Self::Firmware(_, count) | Self::Hardware(_, count) => {
                matches!(count, Count::Started(_))
            }
        }
    }

    /// Returns what it holds, before its width is looked at.
    fn value(&self, firmware: &FirmwareCounts) -> u64 {
        match self {
            Self::Free(value)
            | Self::Firmware(_, Count::Stopped(value))
            | Self::Hardware(_, Count::Stopped(value)) => *value,
            Self::Firmware(event, Count::Started(base)) => {
                base.wrapping_add(firmware.count(*event))
            }
            Self::Hardware(event, Count::Started(base)) => base.wrapping_add(event.count()),
        }
    }

    /// Starts the counter, if it has an event and is stopped, with `value`, or with what it holds.
    fn start(&mut self, value: Option<u64>, firmware: &FirmwareCounts) -> Result<(), NotStarted> {
        match self {
            Self::Firmware(event, count) => {
                if let Count::Stopped(held) = *count {
                    let counted = firmware.count(*event);
                    *count = Count::Started(value.unwrap_or(held).wrapping_sub(counted));
                }
            }
            Self::Hardware(event, count) => {
                if let Count::Stopped(held) = *count {
                    let value = value.unwrap_or(held);
                    event.start(value)?;
                    *count = Count::Started(value);
                }
            }
            Self::Free(_) => {}
        }
        Ok(())
    }

    /// Stops the counter, if it is started.
    fn stop(&mut self, firmware: &FirmwareCounts) {
        match self {
            Self::Firmware(event, count) => {
                if let Count::Started(base) = *count {
                    *count = Count::Stopped(base.wrapping_add(firmware.count(*event)));
                }
            }
            Self::Hardware(event, count) => {
                if let Count::Started(base) = *count {
                    *count = Count::Stopped(base.wrapping_add(event.stop()));
                }
            }
            Self::Free(_) => {}
        }
    }

    /// Returns whether it has wrapped since it was started; a counter of firmware never does.
    fn wrapped(&self) -> bool {
        match self {
            Self::Free(_) | Self::Firmware(..) => false,
            Self::Hardware(event, _) => event.wrapped(),
        }
    }
}

/// What is to be configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setup {
    /// Which event.
    pub(crate) event: event::Event,
    /// How a counter is chosen.
    pub(crate) choice: Choice,
    /// What it holds.
    pub(crate) value: Value,
    /// Whether it counts at once.
    pub(crate) run: Run,
    /// When it does not.
    pub(crate) filter: Filter,
}

/// What is told of a counter that was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// Its place in the mask.
    pub(crate) bit: usize,
    /// What it holds.
    pub(crate) value: u64,
    /// Whether it has wrapped since it was started.
    pub(crate) wrapped: bool,
}

/// All counters of a hart.
pub(crate) struct Counters<E> {
    /// Which counters there are.
    layout: Layout,
    /// Whether a counter of hardware is started.
    counting: bool,
    /// The counters, by their numbers.
    pmcs: [Pmc<E>; MAX_COUNTERS],
}

impl<E: Event> Counters<E> {
    /// Makes counters without events in place: they are too large for the stack.
    #[cfg(not(test))]
    pub(crate) fn new(layout: Layout) -> impl pin_init::Init<Self> {
        pin_init::init!(Self {
            layout,
            counting: false,
            pmcs <- pin_init::init_array_from_fn(|_| Pmc::Free(0)),
        })
    }

    /// Makes counters without events.
    #[cfg(test)]
    pub(crate) fn new(layout: Layout) -> Self {
        Self {
            layout,
            counting: false,
            pmcs: [const { Pmc::Free(0) }; MAX_COUNTERS],
        }
    }

    /// Returns counter `index`, also in speculation, if there is one.
    fn pmc(&self, index: usize) -> Option<&Pmc<E>> {
        self.pmcs.get(nospec::index(index, MAX_COUNTERS))
    }

    /// Returns counter `index`, to be changed.
    fn pmc_mut(&mut self, index: usize) -> Option<&mut Pmc<E>> {
        self.pmcs.get_mut(nospec::index(index, MAX_COUNTERS))
    }

    /// Has one of `among` count an event, and tells which.
    ///
    /// # Errors
    ///
    /// [`SbiError::NotSupported`] if none of them, or the host, can; [`SbiError::Failed`] if it was
    /// to be started and the host refuses. Nothing has changed then, but for the latter.
    pub(crate) fn configure(
        &mut self,
        among: Selection,
        setup: Setup,
        source: &mut impl Source<Event = E>,
        firmware: &FirmwareCounts,
    ) -> Result<usize, SbiError> {
        let index = self.choose(among, setup).ok_or(SbiError::NotSupported)?;
        let kind = self.layout.kind(index).ok_or(SbiError::NotSupported)?;
        let pmc = self.pmc_mut(index).ok_or(SbiError::NotSupported)?;
        let count = Count::Stopped(match setup.value {
            Value::Keep => pmc.value(firmware),
            Value::Clear => 0,
        });
        // The new event is there before the old one goes.
        *pmc = match (setup.event, kind) {
            (event::Event::Firmware(event), Kind::Firmware) => Pmc::Firmware(event, count),
            (event::Event::Hardware(event), Kind::Hardware { width }) => {
                let room = if pmc.is_started() {
                    Room::ComesFree
                } else {
                    Room::Needed
                };
                let event = source
                    .create(event, setup.filter, width, room)
                    .ok_or(SbiError::NotSupported)?;
                Pmc::Hardware(event, count)
            }
            (event::Event::Firmware(_), Kind::Hardware { .. })
            | (event::Event::Hardware(_), Kind::Firmware) => return Err(SbiError::NotSupported),
        };
        let started = match setup.run {
            Run::Stopped => Ok(()),
            Run::Started => pmc.start(None, firmware),
        };
        self.tell(firmware);
        started.map_err(|NotStarted| SbiError::Failed)?;
        Ok(index)
    }

    /// Chooses the counter for an event. One that is free, if there is a choice: the specification
    /// would allow one with an event that is stopped, but a guest may want to start that later.
    fn choose(&self, among: Selection, setup: Setup) -> Option<usize> {
        let can = |index: usize| match (setup.event, self.layout.kind(index)) {
            (event::Event::Firmware(_), Some(Kind::Firmware)) => true,
            (event::Event::Hardware(event), Some(Kind::Hardware { .. })) => {
                index >= FIRST_PROGRAMMABLE || event.fixed_counter() == Some(index)
            }
            _ => false,
        };
        match setup.choice {
            Choice::First => Some(among.first()).filter(|&index| can(index)),
            Choice::Match => {
                let find = |wanted: fn(usize, &Pmc<E>) -> bool| {
                    // By rising number, so that an event's own counter comes first.
                    let mut indices = among.members().map(|member| member.index);
                    indices.find(|&index| {
                        can(index) && self.pmc(index).is_some_and(|pmc| wanted(index, pmc))
                    })
                };
                find(|_, pmc| pmc.is_free()).or_else(|| {
                    // An event with a counter of its own can use no other.
                    find(|index, pmc| index < FIRST_PROGRAMMABLE && !pmc.is_started())
                })
            }
        }
    }

    /// Starts those of `which` that have an event, each with what `initial` says for its place in
    /// the mask, or with what it holds.
    ///
    /// # Errors
    ///
    /// [`SbiError::AlreadyStarted`] if some are started, which nothing changes for;
    /// [`SbiError::Failed`] if the host refuses some. The rest is started.
    pub(crate) fn start(
        &mut self,
        which: Selection,
        initial: impl Fn(usize) -> Option<u64>,
        firmware: &FirmwareCounts,
    ) -> Result<(), SbiError> {
        let mut result = Ok(());
        for Member { index, bit } in which.members() {
            let Some(pmc) = self.pmc_mut(index) else {
                continue;
            };
            if pmc.is_started() {
                result = result.and(Err(SbiError::AlreadyStarted));
            } else if pmc.start(initial(bit), firmware) == Err(NotStarted) {
                result = Err(SbiError::Failed);
            }
        }
        self.tell(firmware);
        result
    }

    /// Stops those of `which` that have an event, and tells `report` of each.
    ///
    /// # Errors
    ///
    /// [`SbiError::AlreadyStopped`] if some were stopped before.
    pub(crate) fn stop(
        &mut self,
        which: Selection,
        events: Events,
        firmware: &FirmwareCounts,
        mut report: impl FnMut(Report),
    ) -> Result<(), SbiError> {
        let mut result = Ok(());
        let layout = self.layout;
        for Member { index, bit } in which.members() {
            let Some(pmc) = self.pmc_mut(index).filter(|pmc| !pmc.is_free()) else {
                continue;
            };
            if !pmc.is_started() {
                result = Err(SbiError::AlreadyStopped);
            }
            pmc.stop(firmware);
            let value = shown(layout, index, pmc.value(firmware));
            let wrapped = pmc.wrapped();
            if events == Events::Reset {
                *pmc = Pmc::Free(value);
            }
            report(Report {
                bit,
                value,
                wrapped,
            });
        }
        self.tell(firmware);
        result
    }

    /// Returns what a firmware counter holds; [`None`] if it has no event or is none.
    pub(crate) fn read_firmware(&self, index: usize, firmware: &FirmwareCounts) -> Option<u64> {
        self.layout.kind(index)?;
        match self.pmc(index)? {
            pmc @ Pmc::Firmware(..) => Some(pmc.value(firmware)),
            Pmc::Free(_) | Pmc::Hardware(..) => None,
        }
    }

    /// Returns what a counter of hardware holds; [`None`] if it is none, or if it is programmable
    /// and has no event. The other two are Zicntr's and always hold something.
    pub(crate) fn read_hardware(&self, index: usize, firmware: &FirmwareCounts) -> Option<u64> {
        self.layout.kind(index)?;
        match self.pmc(index)? {
            Pmc::Free(_) if index >= FIRST_PROGRAMMABLE => None,
            pmc @ (Pmc::Free(_) | Pmc::Hardware(..)) => {
                Some(shown(self.layout, index, pmc.value(firmware)))
            }
            Pmc::Firmware(..) => None,
        }
    }

    /// Says which firmware events are to be counted, and notes whether any of hardware are.
    fn tell(&mut self, firmware: &FirmwareCounts) {
        let (mut events, mut counting) = (0, false);
        for pmc in &self.pmcs {
            match pmc {
                Pmc::Firmware(event, Count::Started(_)) => events |= event.bit(),
                Pmc::Hardware(_, Count::Started(_)) => counting = true,
                Pmc::Free(_) | Pmc::Firmware(..) | Pmc::Hardware(..) => {}
            }
        }
        firmware.want(events);
        self.counting = counting;
    }

    /// Stops counting, as a `KVM_RUN` of the hart ends: what its thread does until the next one is
    /// not the guest's.
    #[inline]
    pub(crate) fn leave(&mut self) {
        if self.counting {
            self.for_each_counting(E::leave);
        }
    }

    /// Counts from here on, as a `KVM_RUN` of the hart begins.
    #[inline]
    pub(crate) fn enter(&mut self) {
        if self.counting {
            self.for_each_counting(E::enter);
        }
    }

    /// Calls `f` for each event of hardware that is started.
    #[cold]
    fn for_each_counting(&mut self, mut f: impl FnMut(&mut E)) {
        for pmc in &mut self.pmcs {
            match pmc {
                Pmc::Hardware(event, Count::Started(_)) => f(event),
                Pmc::Free(_) | Pmc::Firmware(..) | Pmc::Hardware(..) => {}
            }
        }
    }
}

/// Returns the bits of `value` that a counter has.
fn shown(layout: Layout, index: usize, value: u64) -> u64 {
    match layout.kind(index) {
        Some(Kind::Hardware { width }) => value & wrap::mask(width),
        Some(Kind::Firmware) | None => value,
    }
}
