// SPDX-License-Identifier: GPL-2.0

//! `hgatp`, which names the G-stage tree by which this CPU translates guest physical addresses.
//! Answers to the probing in `gstage.c` and `vmid.c`, and to `kvm_riscv_mmu_update_hgatp()`.
//!
//! Privileged Architecture, "Hypervisor Guest Address Translation and Protection (hgatp)
//! Register".

use kernel::{
    bitfield,
    num::Bounded,
    prelude::*, //
};

use crate::{
    arch::{
        csr::{
            Direct,
            Registers, //
        },
        fence, //
    },
    gstage::Mode,
    kernel_ext::context::IrqOff,
    kvm_core::addr::{
        Pfn,
        Vmid, //
    }, //
};

bitfield! {
    /// The value of the register.
    pub(crate) struct Hgatp(u64) {
        /// The format of the tree; 0 is Bare: no translation.
        63:60 mode;
        /// The VMID, which tags cached translations with the VM.
        57:44 vmid;
        /// The frame of the root, 16 KiB and so aligned.
        43:0 ppn;
    }
}

impl Hgatp {
    /// Bare, VMID 0: no guest.
    const IDLE: Hgatp = Hgatp::from_raw(0);

    /// Returns the value for the tree of `mode` that has its root at `root`, with VMID 0.
    pub(crate) fn without_vmid(mode: Mode, root: Pfn) -> Self {
        // The mask makes the number fit; that of a frame from the kernel fits anyway.
        let ppn = Bounded::<u64, 44>::from_expr(root.get() & ((1 << 44) - 1));
        Self::IDLE.with_mode_of(mode).with_ppn(ppn)
    }

    /// Returns this value with another VMID.
    #[inline(always)]
    pub(crate) fn with_vmid_of(self, vmid: Vmid) -> Self {
        // The mask makes the VMID fit; VMIDs have at most the width that `probe` found.
        self.with_vmid(Bounded::<u64, 14>::from_expr(
            u64::from(vmid.get()) & ((1 << 14) - 1),
        ))
    }

    /// Returns this value with another format of the tree.
    fn with_mode_of(self, mode: Mode) -> Self {
        self.with_mode(Bounded::<u64, 4>::from_expr(mode.encoding() & 0xf))
    }

    /// Returns the VMID, which names the VM that the tree belongs to.
    pub(crate) fn vmid_of(self) -> Vmid {
        Vmid::new(u16::from(self.vmid()))
    }

    /// Returns the format of the tree, or [`None`] if `hgatp` names no tree.
    pub(crate) fn known_mode(self) -> Option<Mode> {
        Mode::try_from(self.mode().get()).ok()
    }
}

/// Lets this CPU translate with `hgatp`.
///
/// Translations that the TLB has cached under the same VMID are not flushed.
///
/// # Safety
///
/// The root that `hgatp` names and the tree below it stay what they are until [`unload`], or change
/// only as `gstage` lets them.
#[inline(always)]
pub(crate) unsafe fn load(regs: &impl Registers, hgatp: Hgatp) {
    // SAFETY: The caller ensures that the root and the tree below it stay what they are until
    // `unload`, or change only as `gstage` lets them.
    unsafe { regs.set_hgatp(hgatp.into_raw() as usize) };
}

/// Clears `hgatp`, so that this CPU walks no guest's tree, not even ahead of time.
#[inline(always)]
pub(crate) fn unload(regs: &impl Registers) {
    // SAFETY: `Hgatp::IDLE` has mode Bare and names no tree.
    unsafe { regs.set_hgatp(Hgatp::IDLE.into_raw() as usize) };
}

/// Returns the widest format of this CPU and how many bits of VMID it has, or [`None`] if it has no
/// format that we know.
///
/// All on one CPU, which is not left in between (differences-from-c M27). No guest is loaded.
pub(crate) fn probe() -> Option<(Mode, u32)> {
    IrqOff::with(|_| {
        let all_ones = Vmid::new(u16::MAX);
        let found = Mode::ALL.into_iter().rev().find_map(|mode| {
            let wanted = Hgatp::IDLE.with_mode_of(mode).with_vmid_of(all_ones);
            // SAFETY: Interrupts are off, no guest runs, and no code reads on behalf of one. So the
            // CPU can at most walk the frame that this names, 0, ahead of time, and the fence below
            // makes it forget what it has cached from there.
            unsafe { load(&Direct, wanted) };
            let got = Hgatp::from_raw(Direct.hgatp() as u64);
            (got.known_mode() == Some(mode)).then(|| (mode, got.vmid().get().count_ones()))
        });
        unload(&Direct);
        fence::gvma_all();
        found
    })
}

#[kunit_tests(kvm_riscv_hgatp)]
mod tests {
    use super::*;
    use crate::kernel_ext::context::PreemptOff;

    #[test]
    fn probe_gives_the_same_twice_and_leaves_nothing() {
        let first = probe();
        assert!(first.is_some());
        assert_eq!(probe(), first);
        let preempt = PreemptOff::new();
        let left = Direct.hgatp() as u64;
        drop(preempt);
        assert_eq!(left, Hgatp::IDLE.into_raw());
    }
}
