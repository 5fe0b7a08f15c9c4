// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! Events that a counter can count, as the SBI numbers them. No locks.
//!
//! RISC-V Supervisor Binary Interface Specification 3.0, chapter "Performance Monitoring Unit
//! Extension", sections "Event: ...". It answers to `kvm_pmu_get_perf_event_type()`,
//! `kvm_pmu_get_perf_event_config()` and what they call.

use crate::{
    bindings,
    kernel_ext::nospec, //
};

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// An event that the host's counters count.
    Hardware(HardwareEvent),
    /// An event that KVM counts.
    Firmware(FirmwareEvent),
}

/// An event of the host's counters, as perf names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HardwareEvent {
    /// The type, `PERF_TYPE_*`.
    pub(crate) kind: u32,
    /// What `perf_event_attr.config` says for this type.
    pub(crate) config: u64,
}

/// Values of `PERF_TYPE_*`, `<uapi/linux/perf_event.h>`.
const PERF_TYPE_HARDWARE: u32 = bindings::perf_type_id_PERF_TYPE_HARDWARE;
const PERF_TYPE_HW_CACHE: u32 = bindings::perf_type_id_PERF_TYPE_HW_CACHE;
const PERF_TYPE_RAW: u32 = bindings::perf_type_id_PERF_TYPE_RAW;

/// What the codes of general events mean to perf, from code 1 on; 0 is no event.
const GENERAL: [u32; 10] = [
    bindings::perf_hw_id_PERF_COUNT_HW_CPU_CYCLES,
    bindings::perf_hw_id_PERF_COUNT_HW_INSTRUCTIONS,
    bindings::perf_hw_id_PERF_COUNT_HW_CACHE_REFERENCES,
    bindings::perf_hw_id_PERF_COUNT_HW_CACHE_MISSES,
    bindings::perf_hw_id_PERF_COUNT_HW_BRANCH_INSTRUCTIONS,
    bindings::perf_hw_id_PERF_COUNT_HW_BRANCH_MISSES,
    bindings::perf_hw_id_PERF_COUNT_HW_BUS_CYCLES,
    bindings::perf_hw_id_PERF_COUNT_HW_STALLED_CYCLES_FRONTEND,
    bindings::perf_hw_id_PERF_COUNT_HW_STALLED_CYCLES_BACKEND,
    bindings::perf_hw_id_PERF_COUNT_HW_REF_CPU_CYCLES,
];

/// Perf numbers them in the same order, so that code and number differ by one, always.
const _: () = {
    assert!(
        GENERAL.len() + 1 == bindings::sbi_pmu_hw_generic_events_t_SBI_PMU_HW_GENERAL_MAX as usize
    );
    let mut code = 0;
    while code < GENERAL.len() {
        assert!(GENERAL[code] as usize == code);
        code += 1;
    }
};

/// The layout of an event's number; what is above the type is reserved.
const CODE_BITS: u32 = bindings::SBI_PMU_EVENT_IDX_TYPE_MASK.trailing_zeros();

impl Event {
    /// Decodes `event_idx` and `event_data`; [`None`] for what is no event of ours. That perf knows
    /// a hardware event does not mean that the host can count it.
    pub(crate) fn decode(idx: u64, data: u64) -> Option<Self> {
        let kind = u32::try_from(idx >> CODE_BITS).ok()?;
        let code = idx as u32 & bindings::SBI_PMU_EVENT_IDX_CODE_MASK;
        let hardware = |kind, config| Self::Hardware(HardwareEvent { kind, config });
        Some(match kind {
            bindings::sbi_pmu_event_type_SBI_PMU_EVENT_TYPE_HW => {
                let number = below(code.checked_sub(1)?, GENERAL.len() as u32)?;
                hardware(PERF_TYPE_HARDWARE, number.into())
            }
            bindings::sbi_pmu_event_type_SBI_PMU_EVENT_TYPE_CACHE => {
                hardware(PERF_TYPE_HW_CACHE, cache(code)?)
            }
            bindings::sbi_pmu_event_type_SBI_PMU_EVENT_TYPE_RAW if code == 0 => hardware(
                PERF_TYPE_RAW,
                data & bindings::RISCV_PMU_RAW_EVENT_MASK as u64,
            ),
            bindings::sbi_pmu_event_type_SBI_PMU_EVENT_TYPE_RAW_V2 if code == 0 => hardware(
                PERF_TYPE_RAW,
                data & bindings::RISCV_PMU_RAW_EVENT_V2_MASK as u64,
            ),
            bindings::sbi_pmu_event_type_SBI_PMU_EVENT_TYPE_FW => {
                Self::Firmware(FirmwareEvent::of(code)?)
            }
            _ => return None,
        })
    }
}

/// Returns `number`, also in speculation, if it is below `count`. The host's driver looks up in
/// tables what it is given.
fn below(number: u32, count: u32) -> Option<u32> {
    (number < count).then(|| nospec::index(number as usize, count as usize) as u32)
}

/// Returns what the code of a cache event means to perf: cache, operation and result have the same
/// numbers there, in other places.
fn cache(code: u32) -> Option<u64> {
    let id = code >> bindings::SBI_PMU_EVENT_CACHE_ID_SHIFT;
    let op = (code & bindings::SBI_PMU_EVENT_CACHE_OP_ID_CODE_MASK)
        >> bindings::SBI_PMU_EVENT_CACHE_OP_SHIFT;
    let result = code & bindings::SBI_PMU_EVENT_CACHE_RESULT_ID_CODE_MASK;

    let id = below(id, bindings::perf_hw_cache_id_PERF_COUNT_HW_CACHE_MAX)?;
    let op = below(op, bindings::perf_hw_cache_op_id_PERF_COUNT_HW_CACHE_OP_MAX)?;
    let result = below(
        result,
        bindings::perf_hw_cache_op_result_id_PERF_COUNT_HW_CACHE_RESULT_MAX,
    )?;
    Some(u64::from(id | op << 8 | result << 16))
}

impl HardwareEvent {
    /// Returns the counter that counts this event and nothing else: those of cycles and of
    /// instructions have a place of their own, by the number of their CSR.
    pub(crate) fn fixed_counter(self) -> Option<usize> {
        let cycles = u64::from(bindings::perf_hw_id_PERF_COUNT_HW_CPU_CYCLES);
        let instructions = u64::from(bindings::perf_hw_id_PERF_COUNT_HW_INSTRUCTIONS);
        match self.kind {
            PERF_TYPE_HARDWARE if self.config == cycles => Some(0),
            PERF_TYPE_HARDWARE if self.config == instructions => Some(2),
            _ => None,
        }
    }
}

/// Makes [`FirmwareEvent`] of its names.
macro_rules! firmware_events {
    ($($(#[$doc:meta])+ $name:ident = $code:ident,)+) => {
        /// An event that KVM counts (SBI "firmware event"), by its code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub(crate) enum FirmwareEvent {
            $($(#[$doc])+ $name = bindings::$code,)+
        }

        impl FirmwareEvent {
            /// All of them.
            const ALL: &'static [Self] = &[$(Self::$name,)+];
        }
    };
}

firmware_events! {
    /// A misaligned load trapped.
    MisalignedLoad = sbi_pmu_fw_generic_events_t_SBI_PMU_FW_MISALIGNED_LOAD,
    /// A misaligned store trapped.
    MisalignedStore = sbi_pmu_fw_generic_events_t_SBI_PMU_FW_MISALIGNED_STORE,
    /// A load took an access fault.
    AccessLoad = sbi_pmu_fw_generic_events_t_SBI_PMU_FW_ACCESS_LOAD,
    /// A store took an access fault.
    AccessStore = sbi_pmu_fw_generic_events_t_SBI_PMU_FW_ACCESS_STORE,
    /// An illegal instruction trapped.
    IllegalInsn = sbi_pmu_fw_generic_events_t_SBI_PMU_FW_ILLEGAL_INSN,
    /// The timer was set.
    SetTimer = sbi_pmu_fw_generic_events_t_SBI_PMU_FW_SET_TIMER,
    /// The hart sent IPIs.
    IpiSent = sbi_pmu_fw_generic_events_t_SBI_PMU_FW_IPI_SENT,
    /// The hart was sent an IPI.
    IpiReceived = sbi_pmu_fw_generic_events_t_SBI_PMU_FW_IPI_RCVD,
    /// The hart asked for FENCE.I.
    FenceISent = sbi_pmu_fw_generic_events_t_SBI_PMU_FW_FENCE_I_SENT,
    /// The hart was asked for FENCE.I.
    FenceIReceived = sbi_pmu_fw_generic_events_t_SBI_PMU_FW_FENCE_I_RCVD,
    /// The hart asked for SFENCE.VMA of all address spaces.
    SfenceVmaSent = sbi_pmu_fw_generic_events_t_SBI_PMU_FW_SFENCE_VMA_SENT,
    /// The hart was asked for that.
    SfenceVmaReceived = sbi_pmu_fw_generic_events_t_SBI_PMU_FW_SFENCE_VMA_RCVD,
    /// The hart asked for SFENCE.VMA of one address space.
    SfenceVmaAsidSent = sbi_pmu_fw_generic_events_t_SBI_PMU_FW_SFENCE_VMA_ASID_SENT,
    /// The hart was asked for that.
    SfenceVmaAsidReceived = sbi_pmu_fw_generic_events_t_SBI_PMU_FW_SFENCE_VMA_ASID_RCVD,
    /// A guest that is no hypervisor does not ask for this, nor for what follows: these stay 0.
    HfenceGvmaSent = sbi_pmu_fw_generic_events_t_SBI_PMU_FW_HFENCE_GVMA_SENT,
    /// See there.
    HfenceGvmaReceived = sbi_pmu_fw_generic_events_t_SBI_PMU_FW_HFENCE_GVMA_RCVD,
    /// See there.
    HfenceGvmaVmidSent = sbi_pmu_fw_generic_events_t_SBI_PMU_FW_HFENCE_GVMA_VMID_SENT,
    /// See there.
    HfenceGvmaVmidReceived = sbi_pmu_fw_generic_events_t_SBI_PMU_FW_HFENCE_GVMA_VMID_RCVD,
    /// See there.
    HfenceVvmaSent = sbi_pmu_fw_generic_events_t_SBI_PMU_FW_HFENCE_VVMA_SENT,
    /// See there.
    HfenceVvmaReceived = sbi_pmu_fw_generic_events_t_SBI_PMU_FW_HFENCE_VVMA_RCVD,
    /// See there.
    HfenceVvmaAsidSent = sbi_pmu_fw_generic_events_t_SBI_PMU_FW_HFENCE_VVMA_ASID_SENT,
    /// See there.
    HfenceVvmaAsidReceived = sbi_pmu_fw_generic_events_t_SBI_PMU_FW_HFENCE_VVMA_ASID_RCVD,
}

impl FirmwareEvent {
    /// How many there are.
    pub(crate) const COUNT: usize = Self::ALL.len();

    /// Returns the event with this code, if there is one.
    fn of(code: u32) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|&event| event as u32 == code)
    }

    /// Returns the event's bit in a word that has one for each.
    pub(crate) const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// The codes are dense and fit in a word.
const _: () = {
    assert!(FirmwareEvent::COUNT == bindings::sbi_pmu_fw_generic_events_t_SBI_PMU_FW_MAX as usize);
    assert!(FirmwareEvent::COUNT <= u32::BITS as usize);
    let mut code = 0;
    while code < FirmwareEvent::COUNT {
        assert!(FirmwareEvent::ALL[code] as usize == code);
        code += 1;
    }
};
