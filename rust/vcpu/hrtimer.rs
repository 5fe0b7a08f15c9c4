// SPDX-License-Identifier: GPL-2.0

//! The hrtimer of the host that wakes a vCPU when its guest timer expires.

use core::{
    pin::Pin,
    ptr,
    sync::atomic::{
        AtomicPtr,
        Ordering, //
    }, //
};

use kernel::{
    impl_has_hr_timer,
    prelude::*,
    time::{
        hrtimer::{
            HasHrTimer,
            HrTimer,
            HrTimerCallback,
            HrTimerCallbackContext,
            HrTimerRestart,
            RelativeHardMode, //
        }, //
        Delta,
        Monotonic,
    }, //
};

use crate::{
    bindings,
    kvm_core::object::Vcpu, //
};

/// A one-shot timer, part of a vCPU's [`Timer`](crate::vcpu::timer::Timer), which it calls when it
/// expires.
///
/// # Invariants
///
/// While the timer is started, or its callback runs, `vcpu` points to the vCPU that this is part
/// of. Dropping this stops the timer and waits for the callback, so the vCPU is live then.
#[pin_data(PinnedDrop)]
pub(crate) struct VcpuHrtimer {
    /// The kernel's timer.
    #[pin]
    timer: HrTimer<Self>,
    /// The vCPU; null until the timer is first started.
    vcpu: AtomicPtr<bindings::kvm_vcpu>,
}

impl_has_hr_timer! {
    impl HasHrTimer<Self> for VcpuHrtimer {
        // Hard: load and put stop it with preemption off, where PREEMPT_RT could not wait for a
        // callback in a softirq.
        mode: RelativeHardMode<Monotonic>,
        field: self.timer,
    }
}

impl VcpuHrtimer {
    /// Returns a timer that is not started.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            timer <- HrTimer::new(),
            vcpu: AtomicPtr::new(ptr::null_mut()),
        })
    }

    /// Starts the hrtimer of `vcpu`, or moves it: it goes off in `delay`.
    pub(crate) fn start(vcpu: &Vcpu, delay: Delta) {
        let alarm = vcpu.shared().timer.alarm();
        // INVARIANT: The hrtimer is part of `vcpu`.
        alarm.vcpu.store(vcpu.as_ptr(), Ordering::Relaxed);
        // SAFETY: The hrtimer is pinned in the vCPU's state, and its drop stops it before that
        // state is freed.
        unsafe { <Self as HasHrTimer<Self>>::start(alarm, delay) };
    }

    /// Stops the hrtimer. Its callback has returned when this does.
    pub(crate) fn stop(&self) {
        // SAFETY: `self` is a reference, so the pointer is valid.
        let timer = unsafe { <Self as HasHrTimer<Self>>::c_timer_ptr(self) };
        // SAFETY: `VcpuHrtimer::new` initialised the timer, which `self` keeps alive.
        unsafe { bindings::hrtimer_cancel(timer.cast_mut()) };
    }
}

impl HrTimerCallback for VcpuHrtimer {
    type Pointer<'a> = Pin<&'a Self>;

    fn run(this: Pin<&Self>, _: HrTimerCallbackContext<'_, Self>) -> HrTimerRestart {
        // SAFETY: The callback runs, so by the type's invariant `vcpu` points to the live vCPU that
        // this is part of.
        let vcpu = unsafe { Vcpu::from_raw(this.vcpu.load(Ordering::Relaxed)) };
        vcpu.shared().timer.expired(vcpu);
        // `expired` has started the hrtimer again if need be.
        HrTimerRestart::NoRestart
    }
}

#[pinned_drop]
impl PinnedDrop for VcpuHrtimer {
    fn drop(self: Pin<&mut Self>) {
        self.stop();
    }
}
