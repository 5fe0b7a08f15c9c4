// SPDX-License-Identifier: GPL-2.0

//! Capabilities of the module and of a VM. Answers to the capability half of `vm.c`.
//!
//! Locks: enabling a G-stage format takes `kvm->lock`, then `kvm->slots_lock`.

use kernel::{
    ffi::{
        c_int,
        c_long, //
    },
    prelude::*, //
};

use crate::{
    aia,
    bindings,
    gstage::Mode,
    kernel_ext::{
        atomic::Ordering,
        cpu, //
    },
    kvm_core::{
        locks,
        object::Vm, //
    },
    mmu::{
        self,
        Memory, //
    }, //
};

/// The argument of `KVM_ENABLE_CAP` on a VM, decoded and range-checked.
pub(crate) enum EnableCap {
    /// `KVM_CAP_RISCV_MP_STATE_RESET`: `KVM_MP_STATE_INIT_RECEIVED` resets a vCPU.
    MpStateReset,
    /// `KVM_CAP_RISCV_SET_HGATP_MODE`, or `KVM_CAP_VM_GPA_BITS`: both select a G-stage format.
    GstageMode(Mode),
}

impl TryFrom<&bindings::kvm_enable_cap> for EnableCap {
    type Error = Error;

    fn try_from(cap: &bindings::kvm_enable_cap) -> Result<Self> {
        if cap.flags != 0 {
            return Err(EINVAL);
        }
        match cap.cap {
            bindings::KVM_CAP_RISCV_MP_STATE_RESET => Ok(Self::MpStateReset),
            bindings::KVM_CAP_VM_GPA_BITS => Mode::for_gpa_bits(cap.args[0])
                .map(Self::GstageMode)
                .ok_or(EINVAL),
            bindings::KVM_CAP_RISCV_SET_HGATP_MODE => Mode::try_from(cap.args[0])
                .map(Self::GstageMode)
                .map_err(|_| EINVAL),
            _ => Err(EINVAL),
        }
    }
}

impl Vm {
    /// Enables a capability of a VM (`KVM_ENABLE_CAP`).
    ///
    /// # Errors
    ///
    /// `EINVAL` if the host lacks the format; `EBUSY` once the VM is committed, that is, has a
    /// vCPU or a memslot with pages.
    pub(crate) fn enable(&self, cap: EnableCap) -> Result {
        match cap {
            EnableCap::MpStateReset => {
                self.state().mp_state_reset.store(true, Ordering::Relaxed);
                Ok(())
            }
            EnableCap::GstageMode(mode) if mode > mmu::host_max_mode() => Err(EINVAL),
            EnableCap::GstageMode(mode) => {
                let uncommitted = locks::Uncommitted::lock(self).ok_or(EBUSY)?;
                Memory::set_mode(&uncommitted, mode);
                Ok(())
            }
        }
    }
}

/// Returns the value of a capability for `KVM_CHECK_EXTENSION`, on a VM or ([`None`]) on
/// `/dev/kvm`. What is not here is answered by core KVM, or absent: 0.
pub(crate) fn check(vm: Option<&Vm>, ext: c_long) -> c_int {
    let Ok(ext) = u32::try_from(ext) else {
        return 0;
    };
    match ext {
        bindings::KVM_CAP_IOEVENTFD
        | bindings::KVM_CAP_USER_MEMORY
        | bindings::KVM_CAP_DESTROY_MEMORY_REGION_WORKS
        | bindings::KVM_CAP_ONE_REG
        | bindings::KVM_CAP_READONLY_MEM
        | bindings::KVM_CAP_MP_STATE
        | bindings::KVM_CAP_IMMEDIATE_EXIT
        | bindings::KVM_CAP_SET_GUEST_DEBUG
        | bindings::KVM_CAP_MEMORY_FAULT_INFO
        | bindings::KVM_CAP_PRE_FAULT_MEMORY
        | bindings::KVM_CAP_RISCV_MP_STATE_RESET => 1,
        bindings::KVM_CAP_IRQCHIP => aia::limits().is_some().into(),
        bindings::KVM_CAP_NR_VCPUS => cpu::online_cpus().min(bindings::KVM_MAX_VCPUS) as c_int,
        bindings::KVM_CAP_MAX_VCPUS => bindings::KVM_MAX_VCPUS as c_int,
        bindings::KVM_CAP_NR_MEMSLOTS => bindings::KVM_USER_MEM_SLOTS as c_int,
        bindings::KVM_CAP_VM_GPA_BITS => {
            let mode = vm.map_or_else(mmu::host_max_mode, |vm| vm.memory().mode());
            mode.gpa_bits() as c_int
        }
        bindings::KVM_CAP_RISCV_SET_HGATP_MODE => host_modes(),
        _ => 0,
    }
}

/// Returns the formats of the host, as `KVM_RISCV_HGATP_MODE_*_BIT`s. A host with one has all
/// narrower.
fn host_modes() -> c_int {
    Mode::ALL
        .into_iter()
        .filter(|mode| *mode <= mmu::host_max_mode())
        .fold(0, |bits, mode| bits | 1 << mode_bit(mode))
}

/// Returns the bit that stands for `mode` in `KVM_CHECK_EXTENSION`.
const fn mode_bit(mode: Mode) -> u32 {
    match mode {
        Mode::Sv39x4 => bindings::KVM_RISCV_HGATP_MODE_SV39X4_BIT,
        Mode::Sv48x4 => bindings::KVM_RISCV_HGATP_MODE_SV48X4_BIT,
        Mode::Sv57x4 => bindings::KVM_RISCV_HGATP_MODE_SV57X4_BIT,
    }
}
