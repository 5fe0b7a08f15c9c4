// SPDX-License-Identifier: GPL-2.0

//! Floating-point register files: saved and restored whole. Answers to the assembly half of
//! `vcpu_fp.c`.
//!
//! The kernel is compiled without floating point, so `sstatus.FS` is off in it and is switched on
//! for the length of each routine.
//!
//! While a thread is in the kernel, the registers of its user mode stay in the unit. `FS` in the
//! `sstatus` that its user mode had says whether they are also in `current->thread.fstate`: if it
//! is dirty they are not, if it is clean they are. All kernel code that reads or moves them relies
//! on that, such as the scheduler. So [`UserFp::save`] does for a guest what a switch to another
//! thread does: it saves the registers if they are dirty, and sets `FS` to clean. From then on the
//! unit is free, and a thread that is scheduled away with its guest's registers in it loses
//! nothing.

use core::{
    arch::global_asm,
    mem::{
        align_of,
        offset_of,
        size_of, //
    }, //
};

use kernel::prelude::*;

use crate::{
    bindings,
    isa::FpUnit, //
};

/// The registers f0-f31 and fcsr, for FLEN 32 or 64. With F alone the low halves are used.
#[repr(C)]
#[derive(Clone, Default)]
pub(crate) struct FpRegs {
    /// The registers f0-f31.
    pub(crate) f: [u64; 32],
    /// Accrued exceptions and rounding mode.
    pub(crate) fcsr: u32,
}

/// Defines the assembler function `$name`, which moves f0 to f31 by `$op` between the unit and the
/// [`FpRegs`] that `a0` points to.
macro_rules! routine {
    ($name:literal, $arch:literal, $op:literal, $before:literal, $after:literal) => {
        global_asm!(
            ".pushsection .text",
            ".option push",
            concat!(".option arch, ", $arch),
            ".balign 4",
            concat!(".globl ", $name),
            concat!(".type ", $name, ", @function"),
            concat!($name, ":"),
            "li t1, {fs}",
            "csrr t2, sstatus",
            "csrs sstatus, t1",
            $before,
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
            concat!($op, " f\\n, {f}+8*\\n(a0)"),
            ".endr",
            $after,
            "csrw sstatus, t2",
            "ret",
            concat!(".size ", $name, ", . - ", $name),
            ".option pop",
            ".popsection",
            fs = const bindings::SR_FS,
            f = const offset_of!(FpRegs, f),
            fcsr = const offset_of!(FpRegs, fcsr),
        );
    };
}

routine!(
    "kvm_rs_fp_save_d",
    "+d",
    "fsd",
    "frcsr t0",
    "sw t0, {fcsr}(a0)"
);
routine!(
    "kvm_rs_fp_save_f",
    "+f",
    "fsw",
    "frcsr t0",
    "sw t0, {fcsr}(a0)"
);
routine!(
    "kvm_rs_fp_restore_d",
    "+d",
    "fld",
    "lw t0, {fcsr}(a0)",
    "fscsr t0"
);
routine!(
    "kvm_rs_fp_restore_f",
    "+f",
    "flw",
    "lw t0, {fcsr}(a0)",
    "fscsr t0"
);

extern "C" {
    /// Saves the registers of a unit with D.
    fn kvm_rs_fp_save_d(regs: *mut FpRegs);
    /// Saves the registers of a unit with F and without D.
    fn kvm_rs_fp_save_f(regs: *mut FpRegs);
    /// Restores the registers of a unit with D.
    fn kvm_rs_fp_restore_d(regs: *const FpRegs);
    /// Restores the registers of a unit with F and without D.
    fn kvm_rs_fp_restore_f(regs: *const FpRegs);
}

/// The instructions that move a unit's registers.
pub(crate) trait FpMoves {
    /// Copies the unit's registers to `regs`.
    ///
    /// # Safety
    ///
    /// The CPU has the unit.
    unsafe fn save(self, regs: &mut FpRegs);

    /// Copies `regs` to the unit's registers.
    ///
    /// # Safety
    ///
    /// The CPU has the unit, and its registers hold nothing that the caller has not saved.
    unsafe fn restore(self, regs: &FpRegs);
}

impl FpMoves for FpUnit {
    unsafe fn save(self, regs: &mut FpRegs) {
        match self {
            Self::Off => {}
            // SAFETY: `regs` is writable, and the caller runs on a CPU that has the unit.
            Self::Single => unsafe { kvm_rs_fp_save_f(regs) },
            // SAFETY: `regs` is writable, and the caller runs on a CPU that has the unit.
            Self::Double => unsafe { kvm_rs_fp_save_d(regs) },
        }
    }

    unsafe fn restore(self, regs: &FpRegs) {
        match self {
            Self::Off => {}
            // SAFETY: `regs` is readable. The caller runs on a CPU that has the unit, and has saved
            // what was in its registers.
            Self::Single => unsafe { kvm_rs_fp_restore_f(regs) },
            // SAFETY: `regs` is readable. The caller runs on a CPU that has the unit, and has saved
            // what was in its registers.
            Self::Double => unsafe { kvm_rs_fp_restore_d(regs) },
        }
    }
}

// The kernel's own struct has the same layout, with other names.
const _: () = assert!(
    size_of::<FpRegs>() == size_of::<bindings::__riscv_d_ext_state>()
        && align_of::<FpRegs>() == align_of::<bindings::__riscv_d_ext_state>()
        && offset_of!(FpRegs, f) == offset_of!(bindings::__riscv_d_ext_state, f)
        && offset_of!(FpRegs, fcsr) == offset_of!(bindings::__riscv_d_ext_state, fcsr)
);

/// The floating-point registers of the calling thread's user mode.
pub(crate) struct UserFp;

impl UserFp {
    /// Frees the unit: saves the registers, if they are in the unit alone, where the scheduler
    /// would. Preemption is off.
    #[inline(always)]
    pub(crate) fn save() {
        // SAFETY: This only reads the `sstatus` that `current` had in user mode.
        if unsafe { bindings::kvm_rs_user_fs() } != bindings::SR_FS_DIRTY {
            return;
        }
        // SAFETY: This only takes the address of `current->thread.fstate`, which no other thread
        // touches while `current` runs.
        let regs = unsafe { bindings::kvm_rs_user_fp() };
        // SAFETY: `regs` is the `fstate` of `current`, which no other thread touches while
        // `current` runs. The assertion in this file shows that the layout is the same. `FS` is
        // dirty, so the kernel lets user mode use the unit, which it does for FLEN 64 alone.
        unsafe { kvm_rs_fp_save_d(regs.cast()) };
        // SAFETY: This only writes the `sstatus` that `current` had in user mode. `FS` may say
        // clean, as the registers were just saved to `current->thread.fstate`.
        unsafe { bindings::kvm_rs_user_fs_clean() };
    }

    /// Puts the registers back into the unit. Preemption is off.
    ///
    /// # Safety
    ///
    /// The thread has called [`save`](Self::save), and was not in user mode since.
    #[inline(always)]
    pub(crate) unsafe fn restore() {
        // SAFETY: This only reads the `sstatus` that `current` had in user mode.
        if unsafe { bindings::kvm_rs_user_fs() } == bindings::SR_FS_OFF {
            return;
        }
        // SAFETY: This only takes the address of `current->thread.fstate`, which no other thread
        // touches while `current` runs.
        let regs = unsafe { bindings::kvm_rs_user_fp() };
        // SAFETY: `regs` is the `fstate` of `current`, which no other thread touches while
        // `current` runs. The assertion in this file shows that the layout is the same. `FS` is not
        // off, so the kernel lets user mode use the unit, which it does for FLEN 64 alone. `save`
        // stored the registers there, or they were there already, and the caller was not in user
        // mode since.
        unsafe { kvm_rs_fp_restore_d(regs.cast()) };
    }
}

#[kunit_tests(kvm_riscv_fp)]
mod tests {
    use super::*;
    use crate::kernel_ext::context::PreemptOff;

    /// Registers in which each differs from each.
    fn pattern(seed: u64) -> FpRegs {
        let mut regs = FpRegs {
            fcsr: 0x61,
            ..FpRegs::default()
        };
        for (f, n) in regs.f.iter_mut().zip(1..) {
            *f = seed.wrapping_mul(n);
        }
        regs
    }

    #[test]
    fn what_is_restored_is_saved() -> Result {
        let before = KBox::new(pattern(0x9e37_79b9_7f4a_7c15), GFP_KERNEL)?;
        let mut after = KBox::new(FpRegs::default(), GFP_KERNEL)?;
        let preempt = PreemptOff::new();
        // SAFETY: The kernel runs on CPUs that have the unit (FPU), and a kernel thread has nothing
        // in it.
        unsafe { FpUnit::Double.restore(&before) };
        // SAFETY: The kernel runs on CPUs that have the unit (FPU).
        unsafe { FpUnit::Double.save(&mut after) };
        drop(preempt);
        assert!(after.f == before.f);
        assert_eq!(after.fcsr, before.fcsr);
        Ok(())
    }

    /// F without D moves the low halves.
    #[test]
    fn single_moves_low_halves() -> Result {
        let before = KBox::new(pattern(0x0123_4567_89ab_cdef), GFP_KERNEL)?;
        let mut after = KBox::new(FpRegs::default(), GFP_KERNEL)?;
        let preempt = PreemptOff::new();
        // SAFETY: The kernel runs on CPUs that have the unit (FPU), and a kernel thread has nothing
        // in it.
        unsafe { FpUnit::Single.restore(&before) };
        // SAFETY: The kernel runs on CPUs that have the unit (FPU).
        unsafe { FpUnit::Single.save(&mut after) };
        drop(preempt);
        let low = |regs: &FpRegs| regs.f.map(|f| f as u32);
        assert!(low(&after) == low(&before));
        assert!(after.f.iter().all(|f| f >> 32 == 0));
        Ok(())
    }
}
