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
    /// The tag under which the vCPU last ran.
    tag: Tag,
    /// The CPU that the vCPU last ran on, if what its TLBs remember is up to date.
    cpu: Option<usize>,
    /// Whether `hgatp` holds the VM's tree for the vCPU.
    loaded: bool,
}

impl TranslationState {
    /// Makes the state of a vCPU that did not run yet.
    pub(crate) fn new() -> Self {
        Self {
            tag: Tag::NONE,
            cpu: None,
            loaded: false,
        }
    }

    /// Says that the vCPU's translation is loaded on `cpu`, under `tag`.
    ///
    /// # Safety
    ///
    /// The vCPU is on `cpu`, which is this CPU, and `hgatp` holds its VM's tree and `tag.vmid()`
    /// until [`unload`](Self::unload).
    #[inline(always)]
    pub(crate) unsafe fn set_loaded(&mut self, cpu: usize, tag: Tag) {
        // INVARIANT: The caller promises that `hgatp` of `cpu` holds the VM's tree and
        // `tag.vmid()`.
        *self = Self {
            tag,
            cpu: Some(cpu),
            loaded: true,
        };
    }

    /// Returns whether `hgatp` holds the vCPU's translation.
    #[inline(always)]
    pub(crate) fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// Returns whether the vCPU last ran on `cpu`, under `tag`, and what it left there can be
    /// relied on.
    #[inline(always)]
    pub(crate) fn is_from(&self, cpu: usize, tag: Tag) -> bool {
        self.tag == tag && self.cpu == Some(cpu)
    }

    /// Takes the VM's tree out of `hgatp`, because the vCPU leaves its CPU.
    #[inline(always)]
    pub(crate) fn unload(&mut self, regs: &impl Registers) {
        if mem::take(&mut self.loaded) {
            hgatp::unload(regs);
        }
    }

    /// Executes `fence` on `cpu`, where the vCPU is, if that is where it left something. If not,
    /// the fence would miss the CPU where it did, so everything is forgotten before the vCPU enters
    /// the guest again, wherever that is (differences-from-c M2).
    #[inline]
    pub(crate) fn fence(&mut self, cpu: usize, fence: impl FnOnce(&Self)) {
        if self.cpu == Some(cpu) {
            fence(self);
        } else {
            self.cpu = None;
        }
    }

    /// Executes `fence` as [`fence`](Self::fence) does, for guest-physical translations.
    #[inline]
    pub(crate) fn fence_gvma(&mut self, cpu: usize, fence: impl FnOnce(Vmid)) {
        self.fence(cpu, |state| fence(state.tag.vmid()));
        // The G-stage fences of some harts leave combined translations alone.
        if host::get().is_some_and(|host| host.split_tlb) {
            self.fence_vvma(fence::vvma_all);
        }
    }

    /// Executes `fence` for guest-virtual translations, which it finds only through `hgatp`. If
    /// that is not loaded, everything is forgotten before the vCPU enters the guest again.
    #[inline]
    pub(crate) fn fence_vvma(&mut self, fence: impl FnOnce()) {
        if self.loaded {
            fence();
        } else {
            self.cpu = None;
        }
    }
}
