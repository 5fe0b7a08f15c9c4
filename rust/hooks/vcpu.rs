// SPDX-License-Identifier: GPL-2.0

//! Hooks of vCPUs. Answers to the `kvm_arch_vcpu_*` functions of `vcpu.c`.
//!
//! Core KVM holds `vcpu->mutex` across every vCPU ioctl, but for those of
//! `kvm_arch_vcpu_unlocked_ioctl()`: that makes the [`OwnedVcpu`].

use kernel::{
    error::from_result,
    ffi::{
        c_int,
        c_long,
        c_uint,
        c_ulong, //
    },
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

use crate::{
    bindings::{
        self,
        check_prototype, //
    },
    kvm_core::{
        addr::Gpa,
        calls as kvm,
        object::Vcpu, //
    },
    run::{
        self,
        reset, //
    },
    vcpu::{
        irq::Line,
        mp_state::{
            self,
            KvmMpState, //
        },
        onereg,
        token::{
            Loaded,
            OwnedVcpu, //
        }, //
    }, //
};

/// Does nothing: there is nothing to prepare.
///
/// # Safety
///
/// The function uses none of its arguments, so any will do.
#[no_mangle]
unsafe extern "C" fn kvm_arch_vcpu_precreate(_kvm: *mut bindings::kvm, _id: c_uint) -> c_int {
    0
}
check_prototype!(kvm_arch_vcpu_precreate);

/// Creates the arch part of a vCPU.
///
/// # Safety
///
/// Core KVM passes a valid vCPU of a live VM, and no other thread can reach the vCPU yet.
#[no_mangle]
unsafe extern "C" fn kvm_arch_vcpu_create(vcpu: *mut bindings::kvm_vcpu) -> c_int {
    from_result(|| {
        // SAFETY: Core KVM passes a valid vCPU of a live VM, and no other thread can reach the
        // vCPU yet.
        unsafe { Vcpu::create(vcpu) }?;
        Ok(0)
    })
}
check_prototype!(kvm_arch_vcpu_create);

/// Sets the first state of a vCPU that has become visible to other threads.
///
/// # Safety
///
/// Core KVM passes a live vCPU.
#[no_mangle]
unsafe extern "C" fn kvm_arch_vcpu_postcreate(vcpu: *mut bindings::kvm_vcpu) {
    // SAFETY: Core KVM passes a live vCPU, which went through `Vcpu::create`.
    mp_state::postcreate(unsafe { Vcpu::from_raw(vcpu) });
}
check_prototype!(kvm_arch_vcpu_postcreate);

/// Destroys the arch part of a vCPU.
///
/// # Safety
///
/// Core KVM passes a vCPU that it has created and not loaded, and that no other thread uses any
/// more.
#[no_mangle]
unsafe extern "C" fn kvm_arch_vcpu_destroy(vcpu: *mut bindings::kvm_vcpu) {
    // SAFETY: Core KVM passes a vCPU that went through `Vcpu::create`, that is not loaded, and
    // that no other thread uses any more.
    unsafe { Vcpu::destroy(vcpu) };
}
check_prototype!(kvm_arch_vcpu_destroy);

/// Loads the vCPU, which the scheduler, or `vcpu_load()`, puts on this CPU.
///
/// # Safety
///
/// Core KVM passes a live vCPU, and calls this in the vCPU's thread, which holds `vcpu->mutex`,
/// with preemption disabled.
#[no_mangle]
unsafe extern "C" fn kvm_arch_vcpu_load(vcpu: *mut bindings::kvm_vcpu, cpu: c_int) {
    // SAFETY: Core KVM passes a live vCPU, which went through `Vcpu::create`.
    let vcpu = unsafe { Vcpu::from_raw(vcpu) };
    // SAFETY: Core KVM calls this in the vCPU's thread, which holds `vcpu->mutex`, with
    // preemption disabled.
    unsafe { vcpu.sched_load(cpu as usize) };
}
check_prototype!(kvm_arch_vcpu_load);

/// Puts the vCPU, which the scheduler, or `vcpu_put()`, takes off this CPU.
///
/// # Safety
///
/// Core KVM passes a live vCPU, and calls this in the vCPU's thread, which holds `vcpu->mutex`,
/// with preemption disabled.
#[no_mangle]
unsafe extern "C" fn kvm_arch_vcpu_put(vcpu: *mut bindings::kvm_vcpu) {
    // SAFETY: Core KVM passes a live vCPU, which went through `Vcpu::create`.
    let vcpu = unsafe { Vcpu::from_raw(vcpu) };
    // SAFETY: Core KVM calls this in the vCPU's thread, which holds `vcpu->mutex`, with
    // preemption disabled.
    unsafe { vcpu.sched_put() };
}
check_prototype!(kvm_arch_vcpu_put);

/// Runs the guest (`KVM_RUN`).
///
/// # Safety
///
/// Core KVM passes a live vCPU, holds its `vcpu->mutex` and has not loaded it.
#[no_mangle]
unsafe extern "C" fn kvm_arch_vcpu_ioctl_run(vcpu: *mut bindings::kvm_vcpu) -> c_int {
    // SAFETY: Core KVM passes a live vCPU, which went through `Vcpu::create`. Core KVM holds
    // `vcpu->mutex` during the call and has not loaded the vCPU.
    let mut vcpu = unsafe { OwnedVcpu::from_raw(vcpu) };
    from_result(|| {
        run::run(&mut vcpu)?;
        Ok(0)
    })
}
check_prototype!(kvm_arch_vcpu_ioctl_run);

/// Handles the vCPU ioctls that are ours.
///
/// # Safety
///
/// Core KVM passes the open file of a vCPU, holds `vcpu->mutex` and has not loaded the vCPU.
#[no_mangle]
unsafe extern "C" fn kvm_arch_vcpu_ioctl(
    file: *mut bindings::file,
    ioctl: c_uint,
    arg: c_ulong,
) -> c_long {
    // SAFETY: `file` is the open file of a vCPU, and core KVM created it with the vCPU as
    // `private_data`.
    let vcpu = unsafe { (*file).private_data }.cast();
    // SAFETY: The open file keeps the vCPU, which went through `Vcpu::create`, alive. Core KVM
    // holds `vcpu->mutex` during the call and has not loaded the vCPU.
    let mut vcpu = unsafe { OwnedVcpu::from_raw(vcpu) };
    let user = UserPtr::from_addr(arg);
    // Check for it first, because VMMs call it most often.
    let result = if ioctl as usize == bindings::KVM_GET_ONE_REG {
        vcpu.apply_pending_reset();
        onereg::get(&mut vcpu, user)
    } else {
        vcpu_ioctl_slow(&mut vcpu, ioctl, user)
    };
    result.map_or_else(|err| err.to_errno() as c_long, |()| 0)
}
check_prototype!(kvm_arch_vcpu_ioctl);

/// Handles those other than `KVM_GET_ONE_REG`.
#[inline(never)]
fn vcpu_ioctl_slow(vcpu: &mut OwnedVcpu<'_>, ioctl: c_uint, user: UserPtr) -> Result {
    match ioctl as usize {
        bindings::KVM_SET_ONE_REG => {
            vcpu.apply_pending_reset();
            onereg::set(vcpu, user)
        }
        bindings::KVM_GET_REG_LIST => onereg::list(vcpu, user),
        _ => Err(EINVAL),
    }
}

/// Handles `KVM_INTERRUPT`, which needs no mutex.
///
/// # Safety
///
/// Core KVM passes the open file of a vCPU.
#[no_mangle]
unsafe extern "C" fn kvm_arch_vcpu_unlocked_ioctl(
    file: *mut bindings::file,
    ioctl: c_uint,
    arg: c_ulong,
) -> c_long {
    if ioctl as usize != bindings::KVM_INTERRUPT {
        return ENOIOCTLCMD.to_errno() as c_long;
    }
    // SAFETY: `file` is the open file of a vCPU, and core KVM created it with the vCPU as
    // `private_data`.
    let vcpu = unsafe { (*file).private_data }.cast();
    // SAFETY: The open file keeps the vCPU alive. The vCPU went through `Vcpu::create`, because
    // core KVM waits until it is online before it makes this call.
    let vcpu = unsafe { Vcpu::from_raw(vcpu) };
    let user = UserPtr::from_addr(arg);
    let result = UserSlice::new(user, size_of::<u32>())
        .reader()
        .read::<u32>()
        .and_then(Line::try_from)
        .map(|line| vcpu.set_external(line));
    result.map_or_else(|err| err.to_errno() as c_long, |()| 0)
}
check_prototype!(kvm_arch_vcpu_unlocked_ioctl);

/// Does one step of `KVM_PRE_FAULT_MEMORY`: maps what is at the start of the range; returns how
/// many bytes of it that covers.
///
/// # Safety
///
/// Core KVM passes a live vCPU, holds its `vcpu->mutex` and has loaded it. `range` points to
/// core KVM's own copy, which does not change during the call.
#[no_mangle]
unsafe extern "C" fn kvm_arch_vcpu_pre_fault_memory(
    vcpu: *mut bindings::kvm_vcpu,
    range: *mut bindings::kvm_pre_fault_memory,
) -> c_long {
    // SAFETY: Core KVM passes a live vCPU, which went through `Vcpu::create`. Core KVM holds
    // `vcpu->mutex` during the call and has loaded the vCPU.
    let mut vcpu = unsafe { Loaded::from_raw(vcpu) };
    // SAFETY: `range` points to core KVM's own copy, which does not change during the call.
    let range = unsafe { &*range };
    match vcpu.pre_fault(Gpa::new(range.gpa), range.size) {
        Ok(mapped) => mapped.min(range.size) as c_long,
        Err(err) => err.to_errno() as c_long,
    }
}
check_prototype!(kvm_arch_vcpu_pre_fault_memory);

/// Reads the state of the hart (`KVM_GET_MP_STATE`).
///
/// # Safety
///
/// Core KVM passes a live vCPU and holds its `vcpu->mutex`. `state` points to core KVM's own
/// structure.
#[no_mangle]
unsafe extern "C" fn kvm_arch_vcpu_ioctl_get_mpstate(
    vcpu: *mut bindings::kvm_vcpu,
    state: *mut bindings::kvm_mp_state,
) -> c_int {
    // SAFETY: Core KVM passes a live vCPU, which went through `Vcpu::create`.
    let vcpu = unsafe { Vcpu::from_raw(vcpu) };
    // SAFETY: `state` points to a structure on core KVM's stack, which no other code uses
    // during the call.
    unsafe { (*state).mp_state = vcpu.shared().mp_state.mp_state().into() };
    0
}
check_prototype!(kvm_arch_vcpu_ioctl_get_mpstate);

/// Changes the state of the hart (`KVM_SET_MP_STATE`).
///
/// # Safety
///
/// Core KVM passes a live vCPU, holds its `vcpu->mutex` and has not loaded it. `state` points
/// to core KVM's own copy.
#[no_mangle]
unsafe extern "C" fn kvm_arch_vcpu_ioctl_set_mpstate(
    vcpu: *mut bindings::kvm_vcpu,
    state: *mut bindings::kvm_mp_state,
) -> c_int {
    // SAFETY: Core KVM passes a live vCPU, which went through `Vcpu::create`. Core KVM holds
    // `vcpu->mutex` during the call and has not loaded the vCPU.
    let mut vcpu = unsafe { OwnedVcpu::from_raw(vcpu) };
    // SAFETY: `state` points to core KVM's own copy, which does not change during the call.
    let state = unsafe { (*state).mp_state };
    from_result(|| {
        reset::set_mp_state(&mut vcpu, KvmMpState::try_from(state)?)?;
        Ok(0)
    })
}
check_prototype!(kvm_arch_vcpu_ioctl_set_mpstate);

/// Sets whether software breakpoints go to userspace (`KVM_SET_GUEST_DEBUG`).
///
/// # Safety
///
/// Core KVM passes a live vCPU, holds its `vcpu->mutex` and has not loaded it. `debug` points
/// to core KVM's own copy.
#[no_mangle]
unsafe extern "C" fn kvm_arch_vcpu_ioctl_set_guest_debug(
    vcpu: *mut bindings::kvm_vcpu,
    debug: *mut bindings::kvm_guest_debug,
) -> c_int {
    // SAFETY: Core KVM passes a live vCPU, which went through `Vcpu::create`. Core KVM holds
    // `vcpu->mutex` during the call and has not loaded the vCPU.
    let mut vcpu = unsafe { OwnedVcpu::from_raw(vcpu) };
    // SAFETY: `debug` points to core KVM's own copy, which does not change during the call.
    let control = unsafe { (*debug).control };
    from_result(|| {
        vcpu.set_guest_debug(control)?;
        Ok(0)
    })
}
check_prototype!(kvm_arch_vcpu_ioctl_set_guest_debug);

/// Returns whether a blocked vCPU can go on.
///
/// # Safety
///
/// Core KVM passes a live vCPU.
#[no_mangle]
unsafe extern "C" fn kvm_arch_vcpu_runnable(vcpu: *mut bindings::kvm_vcpu) -> c_int {
    // SAFETY: Core KVM passes a live vCPU, which went through `Vcpu::create`.
    unsafe { Vcpu::from_raw(vcpu) }.is_runnable().into()
}
check_prototype!(kvm_arch_vcpu_runnable);

/// Returns whether a vCPU must be interrupted to notice a change.
///
/// # Safety
///
/// Core KVM passes a live vCPU.
#[no_mangle]
unsafe extern "C" fn kvm_arch_vcpu_should_kick(vcpu: *mut bindings::kvm_vcpu) -> c_int {
    // SAFETY: Core KVM passes a live vCPU, which went through `Vcpu::create`.
    kvm::leaving_guest(unsafe { Vcpu::from_raw(vcpu) }).into()
}
check_prototype!(kvm_arch_vcpu_should_kick);

/// Returns whether the guest's timer is due.
///
/// # Safety
///
/// Core KVM passes a live vCPU.
#[no_mangle]
unsafe extern "C" fn kvm_cpu_has_pending_timer(vcpu: *mut bindings::kvm_vcpu) -> c_int {
    // SAFETY: Core KVM passes a live vCPU, which went through `Vcpu::create`.
    let vcpu = unsafe { Vcpu::from_raw(vcpu) };
    vcpu.shared().timer.pending(vcpu).into()
}
check_prototype!(kvm_cpu_has_pending_timer);

/// Returns whether the guest was in its supervisor mode.
///
/// # Safety
///
/// Core KVM passes a live vCPU.
#[no_mangle]
unsafe extern "C" fn kvm_arch_vcpu_in_kernel(vcpu: *mut bindings::kvm_vcpu) -> bool {
    // SAFETY: Core KVM passes a live vCPU, which went through `Vcpu::create`.
    unsafe { Vcpu::from_raw(vcpu) }
        .shared()
        .last_exit
        .was_supervisor()
}
check_prototype!(kvm_arch_vcpu_in_kernel);

#[cfg(CONFIG_GUEST_PERF_EVENTS)]
/// Returns the guest's pc as of its last exit.
///
/// # Safety
///
/// Core KVM passes a live vCPU.
#[no_mangle]
unsafe extern "C" fn kvm_arch_vcpu_get_ip(vcpu: *mut bindings::kvm_vcpu) -> c_ulong {
    // SAFETY: Core KVM passes a live vCPU, which went through `Vcpu::create`.
    unsafe { Vcpu::from_raw(vcpu) }.shared().last_exit.pc()
}
#[cfg(CONFIG_GUEST_PERF_EVENTS)]
check_prototype!(kvm_arch_vcpu_get_ip);

/// Refuses a page: there are no more in a vCPU's file than core KVM serves.
///
/// # Safety
///
/// The function uses none of its arguments, so any will do.
#[no_mangle]
unsafe extern "C" fn kvm_arch_vcpu_fault(
    _vcpu: *mut bindings::kvm_vcpu,
    _fault: *mut bindings::vm_fault,
) -> bindings::vm_fault_t {
    bindings::vm_fault_reason_VM_FAULT_SIGBUS
}
check_prototype!(kvm_arch_vcpu_fault);

/// Refuses `KVM_GET_REGS`, which this architecture does not have: `EINVAL`.
///
/// # Safety
///
/// The function uses none of its arguments, so any will do.
#[no_mangle]
unsafe extern "C" fn kvm_arch_vcpu_ioctl_get_regs(
    _vcpu: *mut bindings::kvm_vcpu,
    _state: *mut bindings::kvm_regs,
) -> c_int {
    EINVAL.to_errno()
}
check_prototype!(kvm_arch_vcpu_ioctl_get_regs);

/// Refuses `KVM_SET_REGS`, which this architecture does not have: `EINVAL`.
///
/// # Safety
///
/// The function uses none of its arguments, so any will do.
#[no_mangle]
unsafe extern "C" fn kvm_arch_vcpu_ioctl_set_regs(
    _vcpu: *mut bindings::kvm_vcpu,
    _state: *mut bindings::kvm_regs,
) -> c_int {
    EINVAL.to_errno()
}
check_prototype!(kvm_arch_vcpu_ioctl_set_regs);

/// Refuses `KVM_GET_SREGS`, which this architecture does not have: `EINVAL`.
///
/// # Safety
///
/// The function uses none of its arguments, so any will do.
#[no_mangle]
unsafe extern "C" fn kvm_arch_vcpu_ioctl_get_sregs(
    _vcpu: *mut bindings::kvm_vcpu,
    _state: *mut bindings::kvm_sregs,
) -> c_int {
    EINVAL.to_errno()
}
check_prototype!(kvm_arch_vcpu_ioctl_get_sregs);

/// Refuses `KVM_SET_SREGS`, which this architecture does not have: `EINVAL`.
///
/// # Safety
///
/// The function uses none of its arguments, so any will do.
#[no_mangle]
unsafe extern "C" fn kvm_arch_vcpu_ioctl_set_sregs(
    _vcpu: *mut bindings::kvm_vcpu,
    _state: *mut bindings::kvm_sregs,
) -> c_int {
    EINVAL.to_errno()
}
check_prototype!(kvm_arch_vcpu_ioctl_set_sregs);

/// Refuses `KVM_GET_FPU`, which this architecture does not have: `EINVAL`.
///
/// # Safety
///
/// The function uses none of its arguments, so any will do.
#[no_mangle]
unsafe extern "C" fn kvm_arch_vcpu_ioctl_get_fpu(
    _vcpu: *mut bindings::kvm_vcpu,
    _state: *mut bindings::kvm_fpu,
) -> c_int {
    EINVAL.to_errno()
}
check_prototype!(kvm_arch_vcpu_ioctl_get_fpu);

/// Refuses `KVM_SET_FPU`, which this architecture does not have: `EINVAL`.
///
/// # Safety
///
/// The function uses none of its arguments, so any will do.
#[no_mangle]
unsafe extern "C" fn kvm_arch_vcpu_ioctl_set_fpu(
    _vcpu: *mut bindings::kvm_vcpu,
    _state: *mut bindings::kvm_fpu,
) -> c_int {
    EINVAL.to_errno()
}
check_prototype!(kvm_arch_vcpu_ioctl_set_fpu);

/// Refuses `KVM_TRANSLATE`, which this architecture does not have: `EINVAL`.
///
/// # Safety
///
/// The function uses none of its arguments, so any will do.
#[no_mangle]
unsafe extern "C" fn kvm_arch_vcpu_ioctl_translate(
    _vcpu: *mut bindings::kvm_vcpu,
    _state: *mut bindings::kvm_translation,
) -> c_int {
    EINVAL.to_errno()
}
check_prototype!(kvm_arch_vcpu_ioctl_translate);
