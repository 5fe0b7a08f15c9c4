// SPDX-License-Identifier: GPL-2.0

//! Local TLB and instruction-cache fences. Answers to the `kvm_riscv_local_hfence_*` functions of
//! `tlb.c`.
//!
//! A fence can only forget translations, so every function here is safe. The assembler of the
//! kernel's build need not know the H and Svinval extensions: they are switched on per statement.
//!
//! The VS-stage fences act on the VMID in `hgatp` (Privileged Architecture, "Hypervisor
//! Memory-Management Fence Instructions"); callers hold a [`Pinned`](crate::vcpu::Pinned) vCPU,
//! whose VMID is loaded.

use core::arch::asm;

use crate::mem::addr::{
    Asid,
    Gpa,
    Vmid, //
};

/// Orders all guest-physical translations, of every VM.
pub(crate) fn gvma_all() {
    // SAFETY: a fence only forgets cached translations.
    unsafe {
        asm!(
            ".option push",
            ".option arch, +h",
            "hfence.gvma",
            ".option pop"
        )
    };
}

/// Orders all guest-physical translations of one VM.
pub(crate) fn gvma_vmid(vmid: Vmid) {
    // SAFETY: a fence only forgets cached translations.
    unsafe {
        asm!(
            ".option push", ".option arch, +h", "hfence.gvma zero, {}", ".option pop",
            in(reg) vmid.get() as usize
        )
    };
}

/// Orders the translation of one guest-physical address of one VM.
pub(crate) fn gvma_vmid_gpa(vmid: Vmid, gpa: Gpa) {
    // SAFETY: a fence only forgets cached translations.
    unsafe {
        asm!(
            ".option push", ".option arch, +h", "hfence.gvma {}, {}", ".option pop",
            in(reg) gpa.get() >> 2, in(reg) vmid.get() as usize
        )
    };
}

/// Orders all guest-virtual translations of the VM in `hgatp`.
pub(crate) fn vvma_all() {
    // SAFETY: a fence only forgets cached translations.
    unsafe {
        asm!(
            ".option push",
            ".option arch, +h",
            "hfence.vvma",
            ".option pop"
        )
    };
}

/// Orders the translations of one guest address space.
pub(crate) fn vvma_asid(asid: Asid) {
    // SAFETY: a fence only forgets cached translations.
    unsafe {
        asm!(
            ".option push", ".option arch, +h", "hfence.vvma zero, {}", ".option pop",
            in(reg) asid.get() as usize
        )
    };
}

/// Makes instruction fetches of this CPU see earlier stores.
pub(crate) fn fence_i() {
    // SAFETY: a fence only forgets cached instructions.
    unsafe { asm!("fence.i") };
}
