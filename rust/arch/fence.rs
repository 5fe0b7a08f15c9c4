// SPDX-License-Identifier: GPL-2.0

//! Local TLB and instruction-cache fences. Answers to the `kvm_riscv_local_hfence_*` functions of
//! `tlb.c`.
//!
//! A fence can only forget translations, so every function here is safe. The assembler of the
//! kernel's build need not know the H and Svinval extensions: they are switched on per statement.
//!
//! With nested acceleration, a fence waits in shared memory until the guest is entered: see
//! [`nacl`].
//!
//! The VS-stage fences act on the VMID in `hgatp` (Privileged Architecture, "Hypervisor
//! Memory-Management Fence Instructions"). The caller holds a
//! [`Pinned`](crate::vcpu::token::Pinned) vCPU, so that the VMID of its VM is loaded.

use core::arch::asm;

use crate::{
    arch::{
        csr::Direct,
        nacl::{
            self,
            with_registers, //
            Hfence,
            Span,
        }, //
    },
    kvm_core::addr::{
        Asid,
        GfnRange,
        Gpa,
        Vmid, //
    }, //
};

/// Flushes all guest-physical translations, of every VM, at once: no guest is loaded.
pub(crate) fn gvma_all() {
    // SAFETY: The fence only makes this CPU forget cached translations.
    unsafe {
        asm!(
            ".option push",
            ".option arch, +h",
            "hfence.gvma",
            ".option pop"
        )
    };
}

/// The fences of one CPU that a batch of register accesses uses, too.
pub(crate) trait Fences {
    /// Flushes all guest-physical translations of one VM.
    fn gvma_vmid(&self, vmid: Vmid);

    /// Flushes all guest-virtual translations of the VM in `hgatp`.
    fn vvma_all(&self);
}

impl Fences for Direct {
    #[inline(always)]
    fn gvma_vmid(&self, vmid: Vmid) {
        // SAFETY: The fence only makes this CPU forget cached translations.
        unsafe {
            asm!(
                ".option push", ".option arch, +h", "hfence.gvma zero, {}", ".option pop",
                in(reg) vmid.get() as usize
            )
        };
    }

    #[inline(always)]
    fn vvma_all(&self) {
        // SAFETY: The fence only makes this CPU forget cached translations.
        unsafe {
            asm!(
                ".option push",
                ".option arch, +h",
                "hfence.vvma",
                ".option pop"
            )
        };
    }
}

impl Fences for nacl::OfThisCpu {
    fn gvma_vmid(&self, vmid: Vmid) {
        let hfence = Hfence::GvmaVmid(vmid, Span::Everything);
        self.fence(hfence, || Direct.gvma_vmid(vmid));
    }

    fn vvma_all(&self) {
        let hfence = Hfence::Vvma(self.vmid(), Span::Everything);
        self.fence(hfence, || Direct.vvma_all());
    }
}

/// Flushes all guest-physical translations of one VM.
pub(crate) fn gvma_vmid(vmid: Vmid) {
    with_registers!(regs => regs.gvma_vmid(vmid));
}

/// Flushes the translation of one guest-physical address of one VM.
pub(crate) fn gvma_vmid_gpa(vmid: Vmid, gpa: Gpa) {
    let frame = gpa.gfn();
    let frame = GfnRange::new(frame, frame.saturating_add(1));
    nacl::fence(
        |_| Hfence::GvmaVmid(vmid, Span::frames(frame)),
        || {
            // SAFETY: The fence only makes this CPU forget cached translations.
            unsafe {
                asm!(
                    ".option push", ".option arch, +h", "hfence.gvma {}, {}", ".option pop",
                    in(reg) gpa.get() >> 2, in(reg) vmid.get() as usize
                )
            };
        },
    );
}

/// Flushes all guest-virtual translations of the VM in `hgatp`.
pub(crate) fn vvma_all() {
    with_registers!(regs => regs.vvma_all());
}

/// Flushes the translations of one guest address space.
pub(crate) fn vvma_asid(asid: Asid) {
    nacl::fence(
        |vmid| Hfence::VvmaAsid(vmid, asid, Span::Everything),
        || {
            // SAFETY: The fence only makes this CPU forget cached translations.
            unsafe {
                asm!(
                    ".option push", ".option arch, +h", "hfence.vvma zero, {}", ".option pop",
                    in(reg) asid.get() as usize
                )
            };
        },
    );
}

/// Makes instruction fetches of this CPU see earlier stores.
pub(crate) fn fence_i() {
    // SAFETY: The fence only makes this CPU forget cached instructions.
    unsafe { asm!("fence.i") };
}
