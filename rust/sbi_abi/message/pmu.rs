// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! Calls of the performance monitoring extension.
//!
//! RISC-V Supervisor Binary Interface Specification 3.0, chapter "Performance Monitoring Unit
//! Extension". It answers to the decoding in `vcpu_sbi_pmu.c`. Bits that are reserved are
//! refused.

use crate::{
    bindings,
    kvm_core::addr::{
        Gpa,
        PAGE_SIZE, //
    },
    sbi_abi::message::{
        function, //
        Call,
        SbiError,
    }, //
};

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pmu {
    /// How many counters there are.
    Number,
    /// What the counter with this number is.
    Info(usize),
    /// Have one of these counters count an event.
    Configure(Configure),
    /// Start these counters.
    Start(Counters, Initial),
    /// Stop these counters.
    Stop {
        /// The counters to stop.
        counters: Counters,
        /// Whether they keep their events.
        events: Events,
        /// Whether their values are written into the snapshot.
        report: Report,
    },
    /// Read the firmware counter with this number.
    Read(usize),
    /// Read the upper half of what does not fit into a register, of the firmware counter with this
    /// number.
    ReadHigh(usize),
    /// Where snapshots go; [`None`] for nowhere any more.
    SetSnapshot(Option<Gpa>),
    /// Which of some events can be counted.
    EventInfo {
        /// The address of their descriptions, a multiple of their size.
        at: Gpa,
        /// How many.
        count: usize,
    },
}

/// Counters by their numbers, as the guest names them: those may not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    /// The number of the counter that bit 0 of `mask` stands for.
    pub(crate) base: usize,
    /// A bit for each of the counters from there on.
    pub(crate) mask: u64,
}

/// How a counter is to be configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Configure {
    /// Which counter is to count.
    pub(crate) counters: Counters,
    /// How one of them is chosen.
    pub(crate) choice: Choice,
    /// Its value.
    pub(crate) value: Value,
    /// Whether it begins at once.
    pub(crate) run: Run,
    /// When it does not count.
    pub(crate) filter: Filter,
    /// `event_idx`
    pub(crate) event: u64,
    /// `event_data`
    pub(crate) data: u64,
}

/// How a counter is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// A free one that can count the event.
    Match,
    /// The first one of those named.
    First,
}

/// Whether a counter keeps its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// The counter keeps its value.
    Keep,
    /// The counter becomes 0.
    Clear,
}

/// Whether a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    /// Once it is started.
    Stopped,
    /// At once.
    Started,
}

/// Modes of the guest in which an event does not count. The guest's modes are those that it
/// believes to be in, not VS and VU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// It does not count in user mode.
    pub(crate) user: bool,
    /// It does not count in supervisor mode.
    pub(crate) supervisor: bool,
}

/// The value that counters start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Initial {
    /// The value at which they stopped.
    Current,
    /// This.
    Value(u64),
    /// The value in the snapshot.
    Snapshot,
}

/// Whether counters that stop keep their events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Events {
    /// The counters keep them.
    Keep,
    /// The counters are free.
    Reset,
}

/// Whether counters that stop are written into the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// They are not written.
    Nothing,
    /// They are written.
    Snapshot,
}

impl Pmu {
    /// Decodes a call.
    ///
    /// # Errors
    ///
    /// [`SbiError::NotSupported`] for an unknown function; [`SbiError::InvalidParam`] for flags or
    /// arguments that mean nothing; [`SbiError::InvalidAddress`] for shared memory that cannot be
    /// there.
    pub(super) fn decode(call: &Call) -> Result<Self, SbiError> {
        let [a0, a1, a2, a3, a4, _] = call.args;
        let counters = Counters {
            base: a0,
            mask: a1 as u64,
        };
        Ok(match function(call)? {
            bindings::sbi_ext_pmu_fid_SBI_EXT_PMU_NUM_COUNTERS => Self::Number,
            bindings::sbi_ext_pmu_fid_SBI_EXT_PMU_COUNTER_GET_INFO => Self::Info(a0),
            bindings::sbi_ext_pmu_fid_SBI_EXT_PMU_COUNTER_CFG_MATCH => {
                Self::Configure(Configure::decode(counters, a2, a3 as u64, a4 as u64)?)
            }
            bindings::sbi_ext_pmu_fid_SBI_EXT_PMU_COUNTER_START => {
                Self::Start(counters, Initial::decode(a2, a3 as u64)?)
            }
            bindings::sbi_ext_pmu_fid_SBI_EXT_PMU_COUNTER_STOP => Self::stop(counters, a2)?,
            bindings::sbi_ext_pmu_fid_SBI_EXT_PMU_COUNTER_FW_READ => Self::Read(a0),
            bindings::sbi_ext_pmu_fid_SBI_EXT_PMU_COUNTER_FW_READ_HI => Self::ReadHigh(a0),
            bindings::sbi_ext_pmu_fid_SBI_EXT_PMU_SNAPSHOT_SET_SHMEM => {
                Self::set_snapshot(a0, a1, a2)?
            }
            bindings::sbi_ext_pmu_fid_SBI_EXT_PMU_EVENT_GET_INFO => {
                if a3 != 0 || a2 == 0 {
                    return Err(SbiError::InvalidParam);
                }
                Self::EventInfo {
                    at: shared_memory(a0, a1, EVENT_INFO_SIZE)?,
                    count: a2,
                }
            }
            _ => return Err(SbiError::NotSupported),
        })
    }

    /// Decodes the flags of `sbi_pmu_counter_stop()`.
    fn stop(counters: Counters, flags: usize) -> Result<Self, SbiError> {
        only(
            flags,
            bindings::SBI_PMU_STOP_FLAG_RESET | bindings::SBI_PMU_STOP_FLAG_TAKE_SNAPSHOT,
        )?;
        Ok(Self::Stop {
            counters,
            events: if flags & bindings::SBI_PMU_STOP_FLAG_RESET != 0 {
                Events::Reset
            } else {
                Events::Keep
            },
            report: if flags & bindings::SBI_PMU_STOP_FLAG_TAKE_SNAPSHOT != 0 {
                Report::Snapshot
            } else {
                Report::Nothing
            },
        })
    }

    /// Decodes `sbi_pmu_snapshot_set_shmem()`; all ones for the address mean no memory.
    fn set_snapshot(low: usize, high: usize, flags: usize) -> Result<Self, SbiError> {
        only(flags, 0)?;
        if low == usize::MAX && high == usize::MAX {
            return Ok(Self::SetSnapshot(None));
        }
        let at = shared_memory(low, high, PAGE_SIZE as usize)?;
        Ok(Self::SetSnapshot(Some(at)))
    }
}

/// Bytes of one description in the memory of [`Pmu::EventInfo`].
pub(crate) const EVENT_INFO_SIZE: usize = size_of::<bindings::riscv_pmu_event_info>();

/// Decodes the address of memory that the guest shares, a multiple of `align`. Guest physical
/// addresses fit into one register.
fn shared_memory(low: usize, high: usize, align: usize) -> Result<Gpa, SbiError> {
    if low % align != 0 {
        Err(SbiError::InvalidParam)
    } else if high != 0 {
        Err(SbiError::InvalidAddress)
    } else {
        Ok(Gpa::new(low as u64))
    }
}

/// Refuses flags other than `defined`.
fn only(flags: usize, defined: usize) -> Result<(), SbiError> {
    if flags & !defined == 0 {
        Ok(())
    } else {
        Err(SbiError::InvalidParam)
    }
}

impl Configure {
    /// Decodes `sbi_pmu_counter_config_matching()`.
    fn decode(counters: Counters, flags: usize, event: u64, data: u64) -> Result<Self, SbiError> {
        only(
            flags,
            bindings::SBI_PMU_CFG_FLAG_SKIP_MATCH
                | bindings::SBI_PMU_CFG_FLAG_CLEAR_VALUE
                | bindings::SBI_PMU_CFG_FLAG_AUTO_START
                | bindings::SBI_PMU_CFG_FLAG_SET_VUINH
                | bindings::SBI_PMU_CFG_FLAG_SET_VSINH
                | bindings::SBI_PMU_CFG_FLAG_SET_UINH
                | bindings::SBI_PMU_CFG_FLAG_SET_SINH
                | bindings::SBI_PMU_CFG_FLAG_SET_MINH,
        )?;
        let has = |flag| flags & flag != 0;
        Ok(Self {
            counters,
            choice: if has(bindings::SBI_PMU_CFG_FLAG_SKIP_MATCH) {
                Choice::First
            } else {
                Choice::Match
            },
            value: if has(bindings::SBI_PMU_CFG_FLAG_CLEAR_VALUE) {
                Value::Clear
            } else {
                Value::Keep
            },
            run: if has(bindings::SBI_PMU_CFG_FLAG_AUTO_START) {
                Run::Started
            } else {
                Run::Stopped
            },
            // The flags for other modes are ignored, because the guest has only these.
            filter: Filter {
                user: has(bindings::SBI_PMU_CFG_FLAG_SET_UINH),
                supervisor: has(bindings::SBI_PMU_CFG_FLAG_SET_SINH),
            },
            event,
            data,
        })
    }
}

impl Initial {
    /// Decodes the flags of `sbi_pmu_counter_start()`, which say where the counters begin.
    fn decode(flags: usize, value: u64) -> Result<Self, SbiError> {
        // Either flag excludes the other.
        match flags {
            0 => Ok(Self::Current),
            bindings::SBI_PMU_START_FLAG_SET_INIT_VALUE => Ok(Self::Value(value)),
            bindings::SBI_PMU_START_FLAG_INIT_SNAPSHOT => Ok(Self::Snapshot),
            _ => Err(SbiError::InvalidParam),
        }
    }
}
