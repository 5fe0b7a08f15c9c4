// SPDX-License-Identifier: GPL-2.0

//! The features of the host's CPUs, as the kernel has found them. `kernel::cpu` has nothing for
//! RISC-V.

use crate::bindings;

/// Returns whether all harts of the host have the extension `ext` (`RISCV_ISA_EXT_*`).
pub(crate) fn host_has(ext: u32) -> bool {
    // SAFETY: This only reads the host's ISA bitmap, complete since boot. The kernel checks that
    // `ext` is a bit of it.
    unsafe { bindings::kvm_rs_host_isa_has(ext) }
}

/// Returns whether exceptions of misaligned loads and stores reach the kernel on all harts of the
/// host, so that it can delegate them.
pub(crate) fn misaligned_traps_reach_us() -> bool {
    // SAFETY: This only reads what the kernel found out about its CPUs when they came up.
    unsafe { bindings::kvm_rs_misaligned_traps_can_delegate() }
}

/// Returns whether the calling process may use vectors (`PR_RISCV_V_SET_CONTROL`).
pub(crate) fn may_use_vectors() -> bool {
    // SAFETY: This only reads the vector control word of `current`.
    unsafe { bindings::riscv_v_vstate_ctrl_user_allowed() }
}

/// Returns the size in bytes of the block that a cache-block management instruction (Zicbom) works
/// on.
pub(crate) fn cbom_block_size() -> usize {
    // SAFETY: This only reads a variable that is constant since boot.
    unsafe { bindings::kvm_rs_cbom_block_size() }
}

/// Returns the size in bytes of the block that a cache-block zero instruction (Zicboz) works on.
pub(crate) fn cboz_block_size() -> usize {
    // SAFETY: This only reads a variable that is constant since boot.
    unsafe { bindings::kvm_rs_cboz_block_size() }
}

/// Returns the size in bytes of the block that a cache-block prefetch instruction (Zicbop) works
/// on.
pub(crate) fn cbop_block_size() -> usize {
    // SAFETY: This only reads a variable that is constant since boot.
    unsafe { bindings::kvm_rs_cbop_block_size() }
}

/// Returns the host's `satp.MODE`, which is the highest that its guests can use.
pub(crate) fn satp_mode() -> usize {
    // SAFETY: This only reads a variable that is constant since boot.
    unsafe { bindings::kvm_rs_satp_mode() }
}

/// Returns `mvendorid`, `marchid` and `mimpid` of the host, as its firmware reports them.
pub(crate) fn machine_ids() -> MachineIds {
    // SAFETY: This is an SBI call without arguments, so the firmware accesses no memory for it.
    let vendor = unsafe { bindings::sbi_get_mvendorid() };
    // SAFETY: This is an SBI call without arguments, so the firmware accesses no memory for it.
    let arch = unsafe { bindings::sbi_get_marchid() };
    // SAFETY: This is an SBI call without arguments, so the firmware accesses no memory for it.
    let imp = unsafe { bindings::sbi_get_mimpid() };
    MachineIds {
        vendor: vendor as usize,
        arch: arch as usize,
        imp: imp as usize,
    }
}

/// Identity registers of a hart.
#[derive(Clone, Copy)]
pub(crate) struct MachineIds {
    /// `mvendorid`.
    pub(crate) vendor: usize,
    /// `marchid`.
    pub(crate) arch: usize,
    /// `mimpid`.
    pub(crate) imp: usize,
}
