// SPDX-License-Identifier: GPL-2.0

//! Where a vCPU left translations: the CPU whose TLBs remember them, and under which VMID. Answers
//! to `last_exit_cpu` of `struct kvm_vcpu_arch`.

use core::mem;

use crate::{
    arch::{
        csr::Registers,
        fence,
        hgatp, //
    },
    gstage::vmid::Tag,
    kvm_core::addr::Vmid,
    vcpu::host, //
};

/// Where a vCPU left translations.
///
/// # Invariants
///
/// If `loaded`, `hgatp` of the CPU that the vCPU is on holds the VM's tree and `tag.vmid()`.
pub(crate) struct TranslationState {
    /// What it last ran with.
    pub(crate) tag: Tag,
    /// The CPU that it last ran on, if what is remembered there can be relied on.
    pub(crate) cpu: Option<usize>,
    pub(crate) loaded: bool,
}

impl TranslationState {
    /// Of a vCPU that did not run yet.
    pub(crate) fn new() -> Self {
        Self {
            tag: Tag::NONE,
            cpu: None,
            loaded: false,
        }
    }

    /// The vCPU leaves its CPU: takes its tree out of `hgatp` (c-review M23).
    #[inline(always)]
    pub(crate) fn unload(&mut self, regs: &impl Registers) {
        if mem::take(&mut self.loaded) {
            hgatp::unload(regs);
        }
    }

    /// Executes `fence` on `cpu`, where the vCPU is, if that is where it left something. If not,
    /// the fence would miss the CPU where it did, so everything is forgotten before the vCPU enters
    /// the guest again, wherever that is (c-review M2).
    #[inline]
    pub(crate) fn fence(&mut self, cpu: usize, fence: impl FnOnce(&Self)) {
        if self.cpu == Some(cpu) {
            fence(self);
        } else {
            self.cpu = None;
        }
    }

    /// The same for guest-physical translations.
    #[inline]
    pub(crate) fn fence_gvma(&mut self, cpu: usize, fence: impl FnOnce(Vmid)) {
        self.fence(cpu, |state| fence(state.tag.vmid()));
        // The G-stage fences of some harts leave combined translations alone.
        if host::get().is_some_and(|host| host.split_tlb) {
            self.fence_vvma(fence::vvma_all);
        }
    }

    /// The same for guest-virtual translations, which a fence finds only through `hgatp`.
    #[inline]
    pub(crate) fn fence_vvma(&mut self, fence: impl FnOnce()) {
        if self.loaded {
            fence();
        } else {
            self.cpu = None;
        }
    }
}
