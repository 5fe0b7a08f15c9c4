// SPDX-License-Identifier: GPL-2.0

//! The harts that a call addresses, found among the vCPUs. Answers to the loops over vCPUs in
//! `vcpu_sbi_replace.c` and `vcpu_sbi_v01.c`. No locks are needed: vCPUs are created, but not
//! destroyed before their VM.

use crate::{
    kvm_core::object::{
        Vcpu,
        Vm, //
    },
    sbi_abi::message::{
        HartMask,
        Harts,
        SbiError, //
    }, //
};

/// Harts of a VM that exist.
///
/// # Invariants
///
/// Every hart that `harts` names is a vCPU of `vm`.
pub(super) struct Targets<'v> {
    /// The VM of the harts.
    vm: &'v Vm,
    /// The harts, as the call names them.
    harts: Harts,
}

impl<'v> Targets<'v> {
    /// Looks up `harts`, all of them: a call that names one that is not there does nothing at all
    /// (differences-from-c S17).
    ///
    /// # Errors
    ///
    /// [`SbiError::InvalidParam`] if one does not exist.
    pub(super) fn find(vm: &'v Vm, harts: Harts) -> Result<Self, SbiError> {
        let all_exist = match harts {
            Harts::All => true,
            Harts::Mask(mask) => mask
                .harts()
                .all(|hart| hart.is_some_and(|hart| vm.hart(hart).is_some())),
        };
        if all_exist {
            // INVARIANT: The check above found a vCPU for every hart, and vCPUs do not go away
            // before their VM.
            Ok(Self { vm, harts })
        } else {
            Err(SbiError::InvalidParam)
        }
    }

    /// Returns those of `mask` that exist: SBI v0.1 has no way to say that one does not.
    pub(super) fn existing(vm: &'v Vm, mask: HartMask) -> Self {
        let there = mask.filter(|hart| vm.hart(hart).is_some());
        // INVARIANT: Only harts that exist are left in `there`, and vCPUs do not go away before
        // their VM.
        Self {
            vm,
            harts: Harts::Mask(there),
        }
    }

    /// Returns all harts of `vm`.
    pub(super) fn all(vm: &'v Vm) -> Self {
        // INVARIANT: `All` names only the vCPUs that exist.
        Self {
            vm,
            harts: Harts::All,
        }
    }

    /// Calls `f` with each of them.
    pub(super) fn for_each(&self, f: impl FnMut(&'v Vcpu)) {
        match self.harts {
            Harts::All => self.vm.vcpus().for_each(f),
            Harts::Mask(mask) => mask
                .harts()
                .flatten()
                .filter_map(|hart| self.vm.hart(hart))
                .for_each(f),
        }
    }
}
