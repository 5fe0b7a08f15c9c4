// SPDX-License-Identifier: GPL-2.0

//! Hooks of guest memory. Answers to the `kvm_arch_*` and `kvm_*_gfn*` functions of `mmu.c` and
//! `tlb.c`.

use kernel::{
    error::from_result,
    ffi::{
        c_int,
        c_ulong, //
    }, //
};

use crate::{
    bindings::{
        self,
        check_prototype, //
    },
    gstage::Age,
    kvm_core::{
        addr::{
            Gfn,
            GfnRange, //
        },
        memslot::{
            Slot,
            SlotChange, //
        },
        mmu_lock::WriteHeld,
        object::Vm, //
    },
    mmu::{
        memslots::{
            self,
            MayBlock, //
        },
        tlb, //
    }, //
};

/// Returns the frames of a notification.
fn frames(range: &bindings::kvm_gfn_range) -> GfnRange {
    GfnRange::new(Gfn::new(range.start), Gfn::new(range.end))
}

/// Flushes the translations of `pages` frames from `gfn` on in all vCPUs.
///
/// # Safety
///
/// Core KVM passes a live VM.
#[no_mangle]
unsafe extern "C" fn kvm_arch_flush_remote_tlbs_range(
    kvm: *mut bindings::kvm,
    gfn: bindings::gfn_t,
    pages: u64,
) -> c_int {
    // SAFETY: Core KVM calls this with a live VM.
    let vm = unsafe { Vm::from_raw(kvm) };
    tlb::flush_frames(vm, GfnRange::from_len(Gfn::new(gfn), pages));
    0
}
check_prototype!(kvm_arch_flush_remote_tlbs_range);

/// Unmaps pages that the host takes away. They are flushed here, so core KVM need not.
///
/// # Safety
///
/// Core KVM passes a live VM and its own `range`, which does not change during the call. The
/// calling thread holds `mmu_lock` for writing.
#[no_mangle]
unsafe extern "C" fn kvm_unmap_gfn_range(
    kvm: *mut bindings::kvm,
    range: *mut bindings::kvm_gfn_range,
) -> bool {
    // SAFETY: Core KVM calls this with a live VM.
    let vm = unsafe { Vm::from_raw(kvm) };
    // SAFETY: `range` points to core KVM's own structure, which does not change during the
    // call.
    let range = unsafe { &*range };
    // SAFETY: Core KVM holds `mmu_lock` for writing in this thread during the call, and this is
    // the only `WriteHeld` that the call makes.
    let mut lock = unsafe { WriteHeld::assume(vm) };
    let patience = if range.may_block {
        MayBlock::MayYield
    } else {
        MayBlock::Atomic
    };
    memslots::invalidate(&mut lock, frames(range), patience);
    false
}
check_prototype!(kvm_unmap_gfn_range);

/// Returns whether the guest used pages, and forgets it.
///
/// # Safety
///
/// Core KVM passes a live VM and its own `range`, which does not change during the call. The
/// calling thread holds `mmu_lock` for writing.
#[no_mangle]
unsafe extern "C" fn kvm_age_gfn(
    kvm: *mut bindings::kvm,
    range: *mut bindings::kvm_gfn_range,
) -> bool {
    // SAFETY: Core KVM calls this with a live VM.
    let vm = unsafe { Vm::from_raw(kvm) };
    // SAFETY: `range` points to core KVM's own structure, which does not change during the
    // call.
    let range = unsafe { &*range };
    // SAFETY: Core KVM holds `mmu_lock` for writing in this thread during the call, and this is
    // the only `WriteHeld` that the call makes.
    let mut lock = unsafe { WriteHeld::assume(vm) };
    memslots::age(&mut lock, frames(range)) == Age::Young
}
check_prototype!(kvm_age_gfn);

/// Returns whether the guest used pages.
///
/// # Safety
///
/// Core KVM passes a live VM and its own `range`, which does not change during the call. The
/// calling thread holds `mmu_lock` for writing.
#[no_mangle]
unsafe extern "C" fn kvm_test_age_gfn(
    kvm: *mut bindings::kvm,
    range: *mut bindings::kvm_gfn_range,
) -> bool {
    // SAFETY: Core KVM calls this with a live VM.
    let vm = unsafe { Vm::from_raw(kvm) };
    // SAFETY: `range` points to core KVM's own structure, which does not change during the
    // call.
    let range = unsafe { &*range };
    // SAFETY: Core KVM holds `mmu_lock` for writing in this thread during the call, and this is
    // the only `WriteHeld` that the call makes.
    let mut lock = unsafe { WriteHeld::assume(vm) };
    memslots::test_age(&mut lock, frames(range)) == Age::Young
}
check_prototype!(kvm_test_age_gfn);

/// Unmaps everything, because the VM's address space goes.
///
/// # Safety
///
/// Core KVM passes a live VM, and the calling thread does not hold its `mmu_lock`.
#[no_mangle]
unsafe extern "C" fn kvm_arch_flush_shadow_all(kvm: *mut bindings::kvm) {
    // SAFETY: Core KVM calls this with a live VM.
    memslots::flush_all(unsafe { Vm::from_raw(kvm) });
}
check_prototype!(kvm_arch_flush_shadow_all);

/// Unmaps a slot that goes, or moves.
///
/// # Safety
///
/// Core KVM passes a live VM and one of its slots. The calling thread holds `kvm->slots_lock`,
/// and does not hold `mmu_lock`.
#[no_mangle]
unsafe extern "C" fn kvm_arch_flush_shadow_memslot(
    kvm: *mut bindings::kvm,
    slot: *mut bindings::kvm_memory_slot,
) {
    // SAFETY: Core KVM calls this with a live VM.
    let vm = unsafe { Vm::from_raw(kvm) };
    // SAFETY: `slot` is a slot of the VM. Core KVM does not change it during the call, because
    // this thread holds `kvm->slots_lock`.
    if let Some(slot) = unsafe { Slot::from_raw(slot) } {
        memslots::flush(vm, &slot);
    }
}
check_prototype!(kvm_arch_flush_shadow_memslot);

/// Checks that a slot can be as userspace wants it.
///
/// # Safety
///
/// Core KVM passes a live VM. `new` is null if the slot is deleted, and otherwise points to its
/// description, which does not change during the call: the calling thread holds
/// `kvm->slots_lock`.
#[no_mangle]
unsafe extern "C" fn kvm_arch_prepare_memory_region(
    kvm: *mut bindings::kvm,
    _old: *const bindings::kvm_memory_slot,
    new: *mut bindings::kvm_memory_slot,
    change: bindings::kvm_mr_change,
) -> c_int {
    // SAFETY: Core KVM calls this with a live VM.
    let vm = unsafe { Vm::from_raw(kvm) };
    // SAFETY: `new` is null or points to a slot that core KVM does not change during the call,
    // because this thread holds `kvm->slots_lock`.
    let new = unsafe { Slot::from_raw(new) };
    from_result(|| {
        if let Some(new) = new {
            memslots::prepare(vm, &new, SlotChange::try_from_raw(change)?)?;
        }
        Ok(0)
    })
}
check_prototype!(kvm_arch_prepare_memory_region);

/// Notes that a slot is now as userspace wants it.
///
/// # Safety
///
/// Core KVM passes a live VM. `new` is null if the slot was deleted, and otherwise points to
/// the slot, which does not change during the call: the calling thread holds `kvm->slots_lock`.
#[no_mangle]
unsafe extern "C" fn kvm_arch_commit_memory_region(
    kvm: *mut bindings::kvm,
    _old: *mut bindings::kvm_memory_slot,
    new: *const bindings::kvm_memory_slot,
    change: bindings::kvm_mr_change,
) {
    // SAFETY: Core KVM calls this with a live VM.
    let vm = unsafe { Vm::from_raw(kvm) };
    // SAFETY: `new` is null or points to a slot that core KVM does not change during the call,
    // because this thread holds `kvm->slots_lock`.
    let new = unsafe { Slot::from_raw(new) };
    if let (Some(new), Ok(change)) = (new, SlotChange::try_from_raw(change)) {
        memslots::commit(vm, &new, change);
    }
}
check_prototype!(kvm_arch_commit_memory_region);

/// Does nothing: slots have no arch part. Called also after the VM's is gone.
///
/// # Safety
///
/// The function uses none of its arguments, so any will do.
#[no_mangle]
unsafe extern "C" fn kvm_arch_free_memslot(
    _kvm: *mut bindings::kvm,
    _slot: *mut bindings::kvm_memory_slot,
) {
}
check_prototype!(kvm_arch_free_memslot);

/// Does nothing: nothing is cached by the slots' generation.
///
/// # Safety
///
/// The function uses none of its arguments, so any will do.
#[no_mangle]
unsafe extern "C" fn kvm_arch_memslots_updated(_kvm: *mut bindings::kvm, _generation: u64) {}
check_prototype!(kvm_arch_memslots_updated);

/// Does nothing: the log is written as the guest writes; no hardware keeps a part of it.
///
/// # Safety
///
/// The function uses none of its arguments, so any will do.
#[no_mangle]
unsafe extern "C" fn kvm_arch_sync_dirty_log(
    _kvm: *mut bindings::kvm,
    _slot: *mut bindings::kvm_memory_slot,
) {
}
check_prototype!(kvm_arch_sync_dirty_log);

/// Write-protects some frames of a slot for the dirty log. Core KVM flushes afterwards.
///
/// # Safety
///
/// Core KVM passes a live VM and one of its slots. The calling thread holds `kvm->slots_lock`,
/// and holds `mmu_lock` for writing.
#[no_mangle]
unsafe extern "C" fn kvm_arch_mmu_enable_log_dirty_pt_masked(
    kvm: *mut bindings::kvm,
    slot: *mut bindings::kvm_memory_slot,
    offset: bindings::gfn_t,
    mask: c_ulong,
) {
    // SAFETY: Core KVM calls this with a live VM.
    let vm = unsafe { Vm::from_raw(kvm) };
    // SAFETY: `slot` is a slot of the VM. Core KVM does not change it during the call, because
    // this thread holds `kvm->slots_lock`.
    if let Some(slot) = unsafe { Slot::from_raw(slot) } {
        // SAFETY: Core KVM holds `mmu_lock` for writing in this thread during the call, and
        // this is the only `WriteHeld` that the call makes.
        let mut lock = unsafe { WriteHeld::assume(vm) };
        let base = slot.frames().start().saturating_add(offset);
        memslots::protect_logged(&mut lock, base, mask as u64);
    }
}
check_prototype!(kvm_arch_mmu_enable_log_dirty_pt_masked);
