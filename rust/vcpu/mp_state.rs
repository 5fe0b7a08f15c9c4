// SPDX-License-Identifier: GPL-2.0

//! Whether a hart runs, is stopped, and where it starts. Answers to the `mp_state` parts of
//! `vcpu.c`, and to the reset state of `vcpu_sbi.c`.
//!
//! A hart that is stopped is parked by [`Request::Sleep`]: its thread waits in `KVM_RUN`, or, if it
//! is in userspace, at the beginning of the next one. Starting it asks for [`Request::Reset`]
//! *before* it lets the hart go, so that a CPU that sees it runnable sees the reset, too. The reset
//! itself is done by the hart's own thread, without a lock (differences-from-c M16); until it is,
//! SBI HSM calls the hart's state START_PENDING.
//!
//! Locks: [`MpState`] owns a leaf spinlock. Nothing is called under it that could sleep or lock. A
//! start and a system reset exclude each other by a lock of the VM, which comes before it and
//! before those of the scheduler.

use kernel::{
    new_spinlock,
    prelude::*,
    sync::SpinLock, //
};

use crate::{
    bindings,
    kernel_ext::atomic::{
        AtomicBool,
        Ordering, //
    },
    kvm_core::object::{
        Vcpu,
        Vm, //
    },
    vcpu::{
        request::Request,
        token::Loaded, //
    }, //
};

/// The start address of a hart, and its `a1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// Guest physical address of the first instruction.
    pub(crate) pc: usize,
    /// The caller's word for the hart, in `a1`.
    pub(crate) opaque: usize,
}

/// The hart is not stopped, hence cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AlreadyStarted;

/// `KVM_{GET,SET}_MP_STATE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KvmMpState {
    /// The hart runs, or waits for an interrupt.
    Runnable,
    /// The hart is stopped.
    Stopped,
    /// Write-only: resets the hart. Whether it runs does not change.
    InitReceived,
}

impl TryFrom<u32> for KvmMpState {
    type Error = Error;

    fn try_from(state: u32) -> Result<Self> {
        match state {
            bindings::KVM_MP_STATE_RUNNABLE => Ok(Self::Runnable),
            bindings::KVM_MP_STATE_STOPPED => Ok(Self::Stopped),
            bindings::KVM_MP_STATE_INIT_RECEIVED => Ok(Self::InitReceived),
            _ => Err(EINVAL),
        }
    }
}

impl From<KvmMpState> for u32 {
    fn from(state: KvmMpState) -> u32 {
        match state {
            KvmMpState::Runnable => bindings::KVM_MP_STATE_RUNNABLE,
            KvmMpState::Stopped => bindings::KVM_MP_STATE_STOPPED,
            KvmMpState::InitReceived => bindings::KVM_MP_STATE_INIT_RECEIVED,
        }
    }
}

/// What SBI HSM calls the state of a hart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum HartState {
    /// It executes instructions.
    Started = bindings::sbi_hsm_hart_state_SBI_HSM_STATE_STARTED,
    /// It waits to be started.
    Stopped = bindings::sbi_hsm_hart_state_SBI_HSM_STATE_STOPPED,
    /// It was started and is yet to be reset, which forgets what reaches it now.
    StartPending = bindings::sbi_hsm_hart_state_SBI_HSM_STATE_START_PENDING,
    /// It waits for an interrupt.
    Suspended = bindings::sbi_hsm_hart_state_SBI_HSM_STATE_SUSPENDED,
}

/// The mp_state of one hart.
#[pin_data]
pub(crate) struct MpState {
    /// Written under the lock of `start`, read without.
    stopped: AtomicBool,
    /// Where the hart was told to start, until it has been reset for that.
    #[pin]
    start: SpinLock<Option<Start>>,
}

impl MpState {
    /// Returns the state of a hart that runs.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            stopped: AtomicBool::new(false),
            start <- new_spinlock!(None, "kvm_riscv::mp_state"),
        })
    }

    /// Returns whether the hart is stopped.
    #[inline]
    pub(crate) fn is_stopped(&self) -> bool {
        // Acquire: a CPU that sees that the hart was started sees the request to reset it.
        self.stopped.load(Ordering::Acquire)
    }

    /// Marks the hart as stopped. It goes on until it serves [`Request::Sleep`], which the caller
    /// has to make.
    pub(crate) fn stop(&self) {
        let _start = self.start.lock();
        // Release: a CPU that sees that the hart is stopped sees all that it did.
        self.stopped.store(true, Ordering::Release);
    }

    /// Marks the hart as not stopped, on behalf of userspace.
    pub(crate) fn set_runnable(&self) {
        let _start = self.start.lock();
        self.stopped.store(false, Ordering::Release);
    }

    /// Returns where the hart is to start, if another hart has started it and it has not begun yet.
    pub(crate) fn pending_start(&self) -> Option<Start> {
        *self.start.lock()
    }

    /// Notes that `vcpu`, the hart, has begun where it was to start. If it was stopped and started
    /// anew meanwhile, the request to reset it is pending again, and it will begin once more.
    pub(crate) fn start_applied(&self, vcpu: &Vcpu) {
        let mut pending = self.start.lock();
        if !vcpu.requested(Request::Reset) {
            *pending = None;
        }
    }

    /// Returns the state for `KVM_GET_MP_STATE`.
    pub(crate) fn mp_state(&self) -> KvmMpState {
        if self.is_stopped() {
            KvmMpState::Stopped
        } else {
            KvmMpState::Runnable
        }
    }
}

impl Vm {
    /// Stops all harts, for a system reset: whichever of them is about to start another does so
    /// before, and that one is stopped, too, or not at all. Those that are in the guest go on until
    /// they serve [`Request::Sleep`], which the caller has to make.
    pub(crate) fn stop_all(&self) {
        let _starts = self.state().starts.lock();
        self.vcpus().for_each(|vcpu| vcpu.shared().mp_state.stop());
    }
}

impl Vcpu {
    /// Starts the hart, on behalf of `caller`.
    ///
    /// # Errors
    ///
    /// [`AlreadyStarted`] if it is not stopped, also if another hart was faster; or if the caller
    /// itself is stopped: another hart has reset the system meanwhile.
    pub(crate) fn start_for(&self, caller: &Vcpu, start: Start) -> Result<(), AlreadyStarted> {
        {
            let _starts = self.vm().state().starts.lock();
            if caller.shared().mp_state.is_stopped() {
                return Err(AlreadyStarted);
            }
            self.start(start)?;
        }
        self.wake();
        Ok(())
    }

    /// Marks the hart as started. The caller wakes it.
    fn start(&self, start: Start) -> Result<(), AlreadyStarted> {
        let mp_state = &self.shared().mp_state;
        let mut pending = mp_state.start.lock();
        if !mp_state.stopped.load(Ordering::Relaxed) {
            return Err(AlreadyStarted);
        }
        *pending = Some(start);
        self.request(Request::Reset);
        // It may be in the WFI in which another hart's system reset stopped it.
        self.request(Request::Unblock);
        // Release: pairs with `is_stopped`.
        mp_state.stopped.store(false, Ordering::Release);
        Ok(())
    }

    /// Stops the hart: kicks it out of the guest, after which it executes no other instruction.
    pub(crate) fn stop(&self) {
        self.shared().mp_state.stop();
        self.request(Request::Sleep);
        self.kick();
    }

    /// Returns the state for SBI HSM.
    pub(crate) fn hart_state(&self) -> HartState {
        let mp_state = &self.shared().mp_state;
        let start = mp_state.start.lock();
        if mp_state.is_stopped() {
            HartState::Stopped
        } else if start.is_some() {
            HartState::StartPending
        } else if self.is_blocking() {
            HartState::Suspended
        } else {
            HartState::Started
        }
    }
}

/// Stops `vcpu`, which core KVM has created, unless it is the first: HSM starts the rest.
pub(crate) fn postcreate(vcpu: &Vcpu) {
    if vcpu.idx().get() != 0 {
        vcpu.stop();
    }
}

/// Serves [`Request::Sleep`]: waits until the hart is started. Holds no lock and no SRCU.
pub(crate) fn wait_while_stopped(vcpu: &mut Loaded<'_>) {
    wait_until_started(vcpu.vcpu());
    if vcpu.vcpu().shared().mp_state.is_stopped() {
        // Only a signal was it. The thread goes to userspace and sleeps again when it comes back.
        vcpu.vcpu().request(Request::Sleep);
    }
}

/// Sleeps until the hart is started, or a signal comes. Called in the vCPU's thread, which holds no
/// lock.
fn wait_until_started(vcpu: &Vcpu) {
    /// # Safety
    ///
    /// `vcpu` is live and went through [`Vcpu::create`].
    unsafe extern "C" fn started(vcpu: *mut bindings::kvm_vcpu) -> bool {
        // SAFETY: The caller passes the live vCPU that `wait_until_started` gave to it, and that
        // went through `Vcpu::create`.
        !unsafe { Vcpu::from_raw(vcpu) }
            .shared()
            .mp_state
            .is_stopped()
    }

    // SAFETY: By the invariant of `Vcpu` the vCPU is live. The caller is the vCPU's thread, which
    // holds no lock and is the only one that waits there. `handle_guest_mode_work` sees whether a
    // signal came.
    unsafe { bindings::kvm_rs_wait_event(vcpu.as_ptr(), Some(started)) };
}
