// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! Decodes the registers of a call into a message.
//!
//! RISC-V Supervisor Binary Interface Specification 3.0, chapter "Binary Encoding" and those of the
//! extensions. Errors that do not depend on the state of the VM are found here. It answers to the
//! decoding in the handlers of `vcpu_sbi_*.c`.

use crate::{
    arch::gprs::{
        Gprs,
        Reg, //
    },
    bindings,
    kvm_core::addr::{
        Asid,
        HartId, //
    },
    sbi_abi::{
        fwft::Feature,
        message::{
            pmu::Pmu,
            system::{
                StealTime,
                Suspend, //
            }, //
        },
        table::Extension, //
    }, //
};

pub(crate) mod pmu;
pub(crate) mod system;

/// Extension ids of SBI v0.1, where each call is an extension.
pub(super) mod legacy {
    pub(crate) const SET_TIMER: usize = 0;
    pub(super) const CONSOLE_PUTCHAR: usize = 1;
    pub(super) const CONSOLE_GETCHAR: usize = 2;
    pub(super) const CLEAR_IPI: usize = 3;
    pub(super) const SEND_IPI: usize = 4;
    pub(super) const REMOTE_FENCE_I: usize = 5;
    pub(super) const REMOTE_SFENCE_VMA: usize = 6;
    pub(super) const REMOTE_SFENCE_VMA_ASID: usize = 7;
    pub(crate) const SHUTDOWN: usize = 8;
}

/// Why a call failed, as the guest learns it. No relation to errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum SbiError {
    /// The call failed for another reason.
    Failed = bindings::SBI_ERR_FAILURE,
    /// There is no such extension or function.
    NotSupported = bindings::SBI_ERR_NOT_SUPPORTED,
    /// A value that is reserved or not implemented, or a hart that does not exist.
    InvalidParam = bindings::SBI_ERR_INVALID_PARAM,
    /// The address is not valid, or has no suitable memory.
    InvalidAddress = bindings::SBI_ERR_INVALID_ADDRESS,
    /// The call is refused: at this time, to this hart, or by this implementation.
    Denied = bindings::SBI_ERR_DENIED,
    /// The hart is started, or about to be.
    AlreadyAvailable = bindings::SBI_ERR_ALREADY_AVAILABLE,
    /// A counter is started.
    AlreadyStarted = bindings::SBI_ERR_ALREADY_STARTED,
    /// A counter is stopped.
    AlreadyStopped = bindings::SBI_ERR_ALREADY_STOPPED,
    /// There is no shared memory.
    NoSharedMemory = bindings::SBI_ERR_NO_SHMEM,
    /// The call is refused, because the guest has locked the feature.
    DeniedLocked = bindings::SBI_ERR_DENIED_LOCKED,
}

impl SbiError {
    /// Returns the error as the guest finds it in `a0`.
    pub(crate) const fn code(self) -> usize {
        self as i32 as usize
    }
}

/// The registers of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// `a7`
    pub(crate) extension: usize,
    /// `a6`
    pub(crate) function: usize,
    /// `a0` to `a5`.
    pub(crate) args: [usize; 6],
}

impl Call {
    /// Returns the call that a guest with these registers makes.
    #[inline]
    pub(crate) fn of(gprs: &Gprs) -> Self {
        Self {
            extension: gprs.get(Reg::A7),
            function: gprs.get(Reg::A6),
            args: [Reg::A0, Reg::A1, Reg::A2, Reg::A3, Reg::A4, Reg::A5].map(|reg| gprs.get(reg)),
        }
    }
}

/// The convention by which results are returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Convention {
    /// Error in `a0`, value in `a1`.
    Standard,
    /// Error or value in `a0`; `a1` keeps what it has (SBI v0.1).
    Legacy,
}

/// A call, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// A question about the SBI itself, or about the machine.
    Base(Base),
    /// The timer is to fire when `time` reaches this.
    SetTimer(u64),
    /// A software interrupt for these harts.
    SendIpi(Harts),
    /// A fence on these harts.
    Fence(Harts, Fence),
    /// A request about the state of a hart.
    Hsm(Hsm),
    /// The system is to be reset.
    Reset(Reset),
    /// A request about performance counters.
    Pmu(Pmu),
    /// A request about a feature of the hart.
    Fwft(Fwft),
    /// Steal time is to be reported, or not.
    StealTime(StealTime),
    /// The system is to be suspended.
    Suspend(Suspend),
    /// A call of SBI v0.1.
    Legacy(Legacy),
    /// Userspace serves the call.
    Forward,
}

/// Questions to the base extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    /// Which specification this is.
    SpecVersion,
    /// Which implementation this is.
    ImplId,
    /// Which version of it.
    ImplVersion,
    /// Whether the extension with this id exists.
    Probe(usize),
    /// `mvendorid`
    VendorId,
    /// `marchid`
    ArchId,
    /// `mimpid`
    MachineImplId,
}

/// Harts by their ids: one word of mask, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Harts {
    /// All that there are.
    All,
    /// Some of the 64 harts from a base on.
    Mask(HartMask),
}

impl Harts {
    /// Decodes `hart_mask` and `hart_mask_base`.
    #[inline]
    fn decode(mask: usize, base: usize) -> Self {
        if base == usize::MAX {
            Self::All
        } else {
            Self::Mask(HartMask::new(base as u64, mask as u64))
        }
    }
}

/// Some of the 64 harts from a base on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HartMask {
    /// The id of the hart that bit 0 stands for.
    base: u64,
    /// A bit for each of 64 harts.
    mask: u64,
}

impl HartMask {
    /// Returns the mask in which bit i of `mask` stands for hart `base + i`.
    pub(crate) const fn new(base: u64, mask: u64) -> Self {
        Self { base, mask }
    }

    /// Returns which hart it names, if none or only its base, as a guest passes it to mean one
    /// hart.
    #[inline]
    pub(crate) fn few(self) -> Few {
        match self.mask {
            0 => Few::Nobody,
            1 => Few::One(HartId::new(self.base)),
            _ => Few::Perhaps,
        }
    }

    /// Returns whether it names no hart.
    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.mask == 0
    }

    /// Returns whether it names no hart but `hart`, which may be missing, too.
    #[inline]
    pub(crate) fn is_within(self, hart: HartId) -> bool {
        let own = hart
            .get()
            .checked_sub(self.base)
            .and_then(|bit| 1u64.checked_shl(u32::try_from(bit).ok()?))
            .unwrap_or(0);
        self.mask & !own == 0
    }

    /// Returns the harts; [`None`] in place of one whose id would not fit in 64 bits.
    #[inline]
    pub(crate) fn harts(self) -> impl Iterator<Item = Option<HartId>> {
        let mut left = self.mask;
        core::iter::from_fn(move || {
            (left != 0).then(|| {
                let bit = left.trailing_zeros();
                left &= left.wrapping_sub(1);
                self.base.checked_add(u64::from(bit)).map(HartId::new)
            })
        })
    }

    /// Returns the mask with only those harts for which `keep` is true.
    pub(crate) fn filter(self, keep: impl Fn(HartId) -> bool) -> Self {
        let mask = (0..u64::BITS)
            .filter(|&bit| self.mask >> bit & 1 != 0)
            .filter(|&bit| {
                self.base
                    .checked_add(u64::from(bit))
                    .is_some_and(|id| keep(HartId::new(id)))
            })
            .fold(0, |mask, bit| mask | 1 << bit);
        Self { mask, ..self }
    }
}

/// The number of harts that a [`HartMask`] names, as far as one comparison shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Few {
    /// No hart.
    Nobody,
    /// This one.
    One(HartId),
    /// Maybe several harts: the mask must be searched.
    Perhaps,
}

/// A fence for other harts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fence {
    /// Synchronises instruction fetches with stores (FENCE.I).
    Instructions,
    /// Flushes translations of `span`, in one address space or in all (SFENCE.VMA).
    Translations {
        /// The address space; [`None`] means all, global mappings included.
        asid: Option<Asid>,
        /// The addresses.
        span: Span,
    },
}

impl Fence {
    /// Decodes `asid`: as in the instruction, bits above the widest ASID there can be are ignored.
    #[inline]
    fn asid(arg: usize) -> Asid {
        Asid::new(arg as u16)
    }
}

/// Guest virtual addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    /// All.
    Everything,
    /// From `start` on, `size` bytes; the sum does not overflow.
    Bytes {
        /// The first.
        start: usize,
        /// How many; may be 0.
        size: usize,
    },
}

impl Span {
    /// Decodes `start_addr` and `size`. A range that runs over the end of the address space covers
    /// all of it.
    #[inline]
    fn decode(start: usize, size: usize) -> Self {
        let all = start == 0 && size == 0 || size == usize::MAX;
        if all || start.checked_add(size).is_none() {
            Self::Everything
        } else {
            Self::Bytes { start, size }
        }
    }
}

/// Requests of the hart state management extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hsm {
    /// Start `hart` at `pc`, with `opaque` in its `a1`.
    Start {
        /// Which one.
        hart: HartId,
        /// A guest physical address: translation is off.
        pc: usize,
        /// The value for the hart's `a1`, which KVM does not interpret.
        opaque: usize,
    },
    /// Stop the calling hart.
    Stop,
    /// Tell the state of a hart.
    Status(HartId),
    /// Wait for an interrupt, then go on with the next instruction.
    SuspendRetentive,
}

/// Requests of the system reset extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reset {
    /// Shutdown, or reboot.
    pub(crate) kind: ResetKind,
    /// Why, for userspace: 0 or 1, or a value that the platform has defined.
    pub(crate) reason: u32,
}

/// What a system reset ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResetKind {
    /// The system stays off.
    Shutdown,
    /// The system starts again, cold or warm: a VM makes no difference.
    Reboot,
}

impl Reset {
    /// Reasons from here on are the platform's, which is userspace; those right below are the SBI
    /// implementation's, and KVM defines none.
    const PLATFORM_REASONS: u32 = 0xf000_0000;

    /// Decodes `reset_type` and `reset_reason`, which are 32 bits wide.
    fn decode(kind: usize, reason: usize) -> Result<Self, SbiError> {
        let reason = reason as u32;
        let kind = match kind as u32 {
            bindings::sbi_srst_reset_type_SBI_SRST_RESET_TYPE_SHUTDOWN => ResetKind::Shutdown,
            bindings::sbi_srst_reset_type_SBI_SRST_RESET_TYPE_COLD_REBOOT
            | bindings::sbi_srst_reset_type_SBI_SRST_RESET_TYPE_WARM_REBOOT => ResetKind::Reboot,
            _ => return Err(SbiError::InvalidParam),
        };
        match reason {
            bindings::sbi_srst_reset_reason_SBI_SRST_RESET_REASON_NONE
            | bindings::sbi_srst_reset_reason_SBI_SRST_RESET_REASON_SYS_FAILURE
            | Self::PLATFORM_REASONS.. => Ok(Self { kind, reason }),
            _ => Err(SbiError::InvalidParam),
        }
    }
}

/// Requests of the firmware features extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fwft {
    /// Set a feature.
    Set {
        /// Which one.
        feature: Feature,
        /// To what.
        value: usize,
        /// The flags, which are checked only if the feature exists.
        flags: usize,
    },
    /// Tell what a feature is set to.
    Get(Feature),
}

/// Calls of SBI v0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Legacy {
    /// Set the timer, as [`Message::SetTimer`].
    SetTimer(u64),
    /// A character to or from the console, which userspace has.
    Console,
    /// Take back the calling hart's software interrupt.
    ClearIpi,
    /// Send an IPI, as [`Message::SendIpi`].
    SendIpi(LegacyHarts),
    /// Execute a fence, as [`Message::Fence`].
    Fence(LegacyHarts, Fence),
    /// Shut the system down.
    Shutdown,
}

/// How SBI v0.1 names harts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LegacyHarts {
    /// All that there are.
    All,
    /// Those in the bit-vector at this guest virtual address: hart 0 is bit 0 of the first word.
    VectorAt(usize),
}

impl LegacyHarts {
    /// Decodes the argument of a v0.1 call: the guest virtual address of a mask, or 0 for all
    /// harts.
    fn decode(pointer: usize) -> Self {
        match pointer {
            0 => Self::All,
            gva => Self::VectorAt(gva),
        }
    }
}

impl Message {
    /// Decodes a call to `extension`, which the guest has.
    ///
    /// # Errors
    ///
    /// [`SbiError::NotSupported`] if there is no such function; otherwise the error for arguments
    /// that mean nothing.
    #[inline]
    pub(crate) fn decode(extension: Extension, call: &Call) -> Result<Self, SbiError> {
        match extension {
            Extension::Legacy => Self::legacy(call),
            Extension::Base => Self::base(call),
            Extension::Time => Self::time(call),
            Extension::Ipi => Self::ipi(call),
            Extension::Rfence => Self::rfence(call),
            Extension::Hsm => Self::hsm(call),
            Extension::Srst => Self::srst(call),
            Extension::Pmu => Pmu::decode(call).map(Self::Pmu),
            Extension::Fwft => Self::fwft(call),
            Extension::Sta => StealTime::decode(call).map(Self::StealTime),
            Extension::Susp => Suspend::decode(call).map(Self::Suspend),
            Extension::Dbcn | Extension::Mpxy | Extension::Experimental | Extension::Vendor => {
                Ok(Self::Forward)
            }
        }
    }

    /// Decodes a call of the base extension.
    fn base(call: &Call) -> Result<Self, SbiError> {
        Ok(Self::Base(match function(call)? {
            bindings::sbi_ext_base_fid_SBI_EXT_BASE_GET_SPEC_VERSION => Base::SpecVersion,
            bindings::sbi_ext_base_fid_SBI_EXT_BASE_GET_IMP_ID => Base::ImplId,
            bindings::sbi_ext_base_fid_SBI_EXT_BASE_GET_IMP_VERSION => Base::ImplVersion,
            bindings::sbi_ext_base_fid_SBI_EXT_BASE_PROBE_EXT => Base::Probe(call.args[0]),
            bindings::sbi_ext_base_fid_SBI_EXT_BASE_GET_MVENDORID => Base::VendorId,
            bindings::sbi_ext_base_fid_SBI_EXT_BASE_GET_MARCHID => Base::ArchId,
            bindings::sbi_ext_base_fid_SBI_EXT_BASE_GET_MIMPID => Base::MachineImplId,
            _ => return Err(SbiError::NotSupported),
        }))
    }

    /// Decodes a call of the TIME extension.
    fn time(call: &Call) -> Result<Self, SbiError> {
        match function(call)? {
            bindings::sbi_ext_time_fid_SBI_EXT_TIME_SET_TIMER => {
                Ok(Self::SetTimer(call.args[0] as u64))
            }
            _ => Err(SbiError::NotSupported),
        }
    }

    /// Decodes a call of the IPI extension.
    fn ipi(call: &Call) -> Result<Self, SbiError> {
        match function(call)? {
            bindings::sbi_ext_ipi_fid_SBI_EXT_IPI_SEND_IPI => {
                Ok(Self::SendIpi(Harts::decode(call.args[0], call.args[1])))
            }
            _ => Err(SbiError::NotSupported),
        }
    }

    /// Decodes a call of the RFENCE extension.
    fn rfence(call: &Call) -> Result<Self, SbiError> {
        let [mask, base, start, size, asid, _] = call.args;
        let fence = match function(call)? {
            bindings::sbi_ext_rfence_fid_SBI_EXT_RFENCE_REMOTE_FENCE_I => Fence::Instructions,
            bindings::sbi_ext_rfence_fid_SBI_EXT_RFENCE_REMOTE_SFENCE_VMA => Fence::Translations {
                asid: None,
                span: Span::decode(start, size),
            },
            bindings::sbi_ext_rfence_fid_SBI_EXT_RFENCE_REMOTE_SFENCE_VMA_ASID => {
                Fence::Translations {
                    asid: Some(Fence::asid(asid)),
                    span: Span::decode(start, size),
                }
            }
            // The fences of a hypervisor are not supported either, because the guest has no H
            // extension.
            _ => return Err(SbiError::NotSupported),
        };
        Ok(Self::Fence(Harts::decode(mask, base), fence))
    }

    /// Decodes a call of the HSM extension.
    fn hsm(call: &Call) -> Result<Self, SbiError> {
        let [first, pc, opaque, ..] = call.args;
        let hart = HartId::new(first as u64);
        Ok(Self::Hsm(match function(call)? {
            bindings::sbi_ext_hsm_fid_SBI_EXT_HSM_HART_START => Hsm::Start { hart, pc, opaque },
            bindings::sbi_ext_hsm_fid_SBI_EXT_HSM_HART_STOP => Hsm::Stop,
            bindings::sbi_ext_hsm_fid_SBI_EXT_HSM_HART_STATUS => Hsm::Status(hart),
            // The type is 32 bits wide.
            bindings::sbi_ext_hsm_fid_SBI_EXT_HSM_HART_SUSPEND => match first as u32 {
                bindings::SBI_HSM_SUSPEND_RET_DEFAULT => Hsm::SuspendRetentive,
                bindings::SBI_HSM_SUSPEND_NON_RET_DEFAULT => return Err(SbiError::NotSupported),
                _ => return Err(SbiError::InvalidParam),
            },
            _ => return Err(SbiError::NotSupported),
        }))
    }

    /// Decodes a call of the SRST extension.
    fn srst(call: &Call) -> Result<Self, SbiError> {
        match function(call)? {
            bindings::sbi_ext_srst_fid_SBI_EXT_SRST_RESET => {
                Reset::decode(call.args[0], call.args[1]).map(Self::Reset)
            }
            _ => Err(SbiError::NotSupported),
        }
    }

    /// Decodes a call of the FWFT extension.
    fn fwft(call: &Call) -> Result<Self, SbiError> {
        let [id, value, flags, ..] = call.args;
        let function = function(call)?;
        // Ids are 32 bits wide (differences-from-c S17).
        let feature = || Feature::of(id as u32);
        Ok(Self::Fwft(match function {
            bindings::SBI_EXT_FWFT_SET => Fwft::Set {
                feature: feature()?,
                value,
                flags,
            },
            bindings::SBI_EXT_FWFT_GET => Fwft::Get(feature()?),
            _ => return Err(SbiError::NotSupported),
        }))
    }

    /// Decodes a call of SBI v0.1, where each call is an extension.
    fn legacy(call: &Call) -> Result<Self, SbiError> {
        let [first, start, size, asid, ..] = call.args;
        let harts = LegacyHarts::decode(first);
        Ok(Self::Legacy(match call.extension {
            legacy::SET_TIMER => Legacy::SetTimer(first as u64),
            legacy::CONSOLE_PUTCHAR | legacy::CONSOLE_GETCHAR => Legacy::Console,
            legacy::CLEAR_IPI => Legacy::ClearIpi,
            legacy::SEND_IPI => Legacy::SendIpi(harts),
            legacy::REMOTE_FENCE_I => Legacy::Fence(harts, Fence::Instructions),
            legacy::REMOTE_SFENCE_VMA => Legacy::Fence(
                harts,
                Fence::Translations {
                    asid: None,
                    span: Span::decode(start, size),
                },
            ),
            legacy::REMOTE_SFENCE_VMA_ASID => Legacy::Fence(
                harts,
                Fence::Translations {
                    asid: Some(Fence::asid(asid)),
                    span: Span::decode(start, size),
                },
            ),
            legacy::SHUTDOWN => Legacy::Shutdown,
            _ => return Err(SbiError::NotSupported),
        }))
    }
}

/// Returns the function id. Ids are 32 bits wide and fill the register sign-extended; those that
/// are defined are not negative.
#[inline]
fn function(call: &Call) -> Result<u32, SbiError> {
    u32::try_from(call.function).map_err(|_| SbiError::NotSupported)
}
