// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! Calls of the steal time and of the system suspend extension.
//!
//! RISC-V Supervisor Binary Interface Specification 3.0, chapters "Steal-time Accounting Extension"
//! and "System Suspend Extension". It answers to the decoding in `vcpu_sbi_sta.c` and
//! `vcpu_sbi_system.c`.

use crate::{
    bindings,
    sbi_abi::{
        message::{
            function, //
            Call,
            SbiError,
        },
        sta::Area, //
    }, //
};

/// Requests of the steal time extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StealTime {
    /// Report the calling hart's from now on.
    Report(Area),
    /// Stop reporting it.
    Stop,
}

impl StealTime {
    /// Decodes a call: `shmem_phys_lo`, `shmem_phys_hi` and `flags`, all of them as wide as a
    /// register.
    ///
    /// # Errors
    ///
    /// [`SbiError::NotSupported`] if there is no such function; [`SbiError::InvalidParam`] or
    /// [`SbiError::InvalidAddress`] for arguments that mean nothing.
    pub(super) fn decode(call: &Call) -> Result<Self, SbiError> {
        let [low, high, flags, ..] = call.args;
        match function(call)? {
            bindings::sbi_ext_sta_fid_SBI_EXT_STA_STEAL_TIME_SET_SHMEM => {}
            _ => return Err(SbiError::NotSupported),
        }
        if flags != 0 {
            return Err(SbiError::InvalidParam);
        }
        if low == usize::MAX && high == usize::MAX {
            return Ok(Self::Stop);
        }
        let area = Area::at(low as u64).ok_or(SbiError::InvalidParam)?;
        match high {
            0 => Ok(Self::Report(area)),
            // No physical address is wider than a register.
            _ => Err(SbiError::InvalidAddress),
        }
    }
}

/// The request of the system suspend extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suspend {
    /// Where the calling hart resumes, a guest physical address: translation is off.
    pub(crate) resume: usize,
    /// The value for `a1` then, which KVM does not interpret.
    pub(crate) opaque: usize,
}

impl Suspend {
    /// Decodes a call: `sleep_type`, which is 32 bits wide, and what follows. Suspend to RAM is the
    /// only type: the rest is reserved, or belongs to platforms.
    ///
    /// # Errors
    ///
    /// [`SbiError::NotSupported`] if there is no such function; [`SbiError::InvalidParam`] for
    /// another type.
    pub(super) fn decode(call: &Call) -> Result<Self, SbiError> {
        let [kind, resume, opaque, ..] = call.args;
        match function(call)? {
            bindings::sbi_ext_susp_fid_SBI_EXT_SUSP_SYSTEM_SUSPEND => {}
            _ => return Err(SbiError::NotSupported),
        }
        match kind as u32 {
            bindings::sbi_ext_susp_sleep_type_SBI_SUSP_SLEEP_TYPE_SUSPEND_TO_RAM => {
                Ok(Self { resume, opaque })
            }
            _ => Err(SbiError::InvalidParam),
        }
    }
}
