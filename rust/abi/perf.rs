// SPDX-License-Identifier: GPL-2.0

//! The host's performance counters, counting a guest. Answers to the perf calls of `vcpu_pmu.c`. A
//! door.
//!
//! An event counts the thread that created it, a vCPU's, while that is in the guest. Its overflow
//! comes as an interrupt on the CPU where the thread is; releasing an event removes it from that
//! CPU first, so that no overflow comes afterwards. Locks: perf's own, all of which may sleep; the
//! overflow takes none.

use core::ptr::NonNull;

use kernel::{
    error::to_result,
    ffi::c_void,
    prelude::*, //
};

use crate::{
    bindings,
    sbi::message::pmu::Filter,
    sync::IrqOff,
    vcpu::{
        irq::Interrupt,
        pmu::{
            counters::{
                Event,
                NotStarted,
                Overflows,
                Room,
                Source, //
            },
            event::HardwareEvent,
            layout::Layout,
            wrap::{
                self,
                Expired,
                Wrap,
                Wrapped, //
            }, //
        },
        Vcpu, //
    },
};

/// What counters guests can have: none on a host whose own driver found none, or that cannot tell
/// guests from itself.
pub(crate) fn layout() -> Option<Layout> {
    if !super::core::host_has(bindings::RISCV_ISA_EXT_SSCOFPMF) {
        return None;
    }
    let (mut width, mut number) = (0, 0);
    // SAFETY: both are writable.
    to_result(unsafe { bindings::riscv_pmu_get_hpm_info(&mut width, &mut number) }).ok()?;
    Layout::new(number, width)
}

/// Whether the host has a counter for `event`.
pub(crate) fn can_count(event: HardwareEvent) -> bool {
    // SAFETY: takes any numbers; the configuration is not wanted.
    let idx = unsafe {
        bindings::riscv_pmu_get_event_info(event.kind, event.config, core::ptr::null_mut())
    };
    idx > 0
}

/// Makes events for the counters of one vCPU.
pub(crate) struct PerfSource<'v> {
    vcpu: &'v Vcpu,
    overflows: Overflows,
}

impl<'v> PerfSource<'v> {
    /// For the counters of `vcpu`, the caller's own: what is made is kept in its
    /// [`Owned`](crate::vcpu::Owned).
    pub(crate) fn of(vcpu: &'v Vcpu, overflows: Overflows) -> Self {
        Self { vcpu, overflows }
    }
}

impl Source for PerfSource<'_> {
    type Event = PerfEvent;

    fn create(
        &mut self,
        event: HardwareEvent,
        filter: Filter,
        width: u32,
        room: Room,
    ) -> Option<PerfEvent> {
        let target = Target {
            vcpu: NonNull::from(self.vcpu),
            overflows: self.overflows,
            wrap: Wrap::new(wrap::mask(width)),
        };
        let target = KBox::new(target, GFP_KERNEL_ACCOUNT).ok()?;
        // SAFETY: perf takes any type and configuration, and refuses what it does not know. The
        // context is a `Target`, which outlives the event.
        let raw = unsafe {
            bindings::kvm_rs_perf_create(
                event.kind,
                event.config,
                filter.user,
                filter.supervisor,
                target.wrap.start(0),
                core::ptr::from_ref(&*target).cast_mut().cast(),
            )
        };
        let raw = kernel::error::from_err_ptr(raw).ok()?;
        // INVARIANT: the event is new, and `target` is its context.
        let mut event = PerfEvent {
            raw: NonNull::new(raw)?,
            target,
        };
        // It was enabled, to see whether the host has a counter left for it.
        let fits = !event.is_refused();
        event.stop();
        (fits || room == Room::ComesFree).then_some(event)
    }
}

/// An event of perf.
///
/// # Invariants
///
/// `raw` is an event of ours whose overflow handler is given `target`. It is dropped before the
/// vCPU is: it is kept in the vCPU's own state, and [`Vcpu::destroy`] begins with that.
pub(crate) struct PerfEvent {
    raw: NonNull<bindings::perf_event>,
    target: KBox<Target>,
}

/// The counter that an event is for.
struct Target {
    vcpu: NonNull<Vcpu>,
    overflows: Overflows,
    wrap: Wrap,
}

impl Target {
    /// Looks at the `count` of the live event whose target this is: the guest gets the interrupt if
    /// its counter has wrapped. Any context.
    fn look(&self, count: u64) -> Expired {
        let expired = self.wrap.expired(count);
        if expired.wrapped == Wrapped::Now && self.overflows == Overflows::Told {
            // SAFETY: The event is alive, hence the vCPU is.
            unsafe { self.vcpu.as_ref() }.inject(Interrupt::CounterOverflow);
        }
        expired
    }
}

impl PerfEvent {
    /// Whether the host had no counter left for the event when it last wanted one. Only
    /// [`enable`](Self::enable) makes it try again.
    fn is_refused(&self) -> bool {
        // SAFETY: A live event, by the invariant.
        unsafe { bindings::kvm_rs_perf_is_refused(self.raw.as_ptr()) }
    }

    /// Whether this thread is the one that it counts.
    fn counts_this_thread(&self) -> bool {
        // SAFETY: A live event, by the invariant.
        unsafe { bindings::kvm_rs_perf_counts_current(self.raw.as_ptr()) }
    }

    /// Has the host count, or try to.
    fn enable(&mut self) {
        // SAFETY: A live event, by the invariant.
        unsafe { bindings::perf_event_enable(self.raw.as_ptr()) };
    }

    /// Sets the period from here on.
    fn set_period(&mut self, period: u64) -> Result {
        // SAFETY: A live event, by the invariant.
        to_result(unsafe { bindings::perf_event_period(self.raw.as_ptr(), period) })
    }

    /// Returns the count, in the thread that is counted. Interrupts are off, so it does not change in
    /// the kernel.
    fn count_here(&self, _irqs: &IrqOff) -> u64 {
        // SAFETY: A live event, by the invariant, and interrupts are off.
        unsafe { bindings::kvm_rs_perf_read(self.raw.as_ptr()) }
    }
}

impl Event for PerfEvent {
    fn start(&mut self, value: u64) -> Result<(), NotStarted> {
        if !self.counts_this_thread() {
            return Err(NotStarted);
        }
        let period = self.target.wrap.start(value);
        self.set_period(period).map_err(|_| NotStarted)?;
        self.enable();
        if self.is_refused() {
            return Err(NotStarted);
        }
        Ok(())
    }

    fn stop(&mut self) -> u64 {
        // SAFETY: a live event, by the invariant. Its count begins anew.
        let count = unsafe { bindings::perf_event_pause(self.raw.as_ptr(), true) };
        // An overflow whose interrupt has not come yet never comes.
        let _ = self.target.look(count);
        self.target.wrap.own(count)
    }

    fn count(&self) -> u64 {
        let (mut enabled, mut running) = (0, 0);
        // SAFETY: a live event, by the invariant; the times are writable.
        let count = unsafe {
            bindings::perf_event_read_value(self.raw.as_ptr(), &mut enabled, &mut running)
        };
        self.target.wrap.own(count)
    }

    fn wrapped(&self) -> bool {
        self.target.overflows == Overflows::Told && self.target.wrap.happened()
    }

    fn leave(&mut self) {
        if !self.counts_this_thread() {
            return;
        }
        let irqs = IrqOff::new();
        let count = self.count_here(&irqs);
        let _ = self.target.look(count);
        self.target.wrap.leave(count);
    }

    fn enter(&mut self) {
        // Whatever another thread does is foreign.
        if !self.counts_this_thread() {
            return;
        }
        let irqs = IrqOff::new();
        let period = self.target.wrap.enter(self.count_here(&irqs));
        drop(irqs);
        if let Some(period) = period {
            // Perf takes any period that `Wrap` gives; a wrap is noticed late if not.
            let _ = self.set_period(period);
        }
        // The thread may have come to a CPU whose counters were all in use.
        if self.is_refused() {
            self.enable();
        }
    }
}

impl Drop for PerfEvent {
    fn drop(&mut self) {
        // SAFETY: a live event, which nobody uses any more. The result says nothing. Afterwards
        // its handler does not run, so that `target` can go.
        unsafe { bindings::perf_event_release_kernel(self.raw.as_ptr()) };
    }
}

door! {
    /// An event of ours has counted as much as it was told. An interrupt of the CPU where the
    /// vCPU's thread is: does not sleep, takes no lock.
    ///
    /// # Safety
    ///
    /// Perf passes an event of ours and its context, while it is active on this CPU.
    fn kvm_rs_counter_overflow(event: *mut bindings::perf_event, context: *mut c_void) {
        // SAFETY: the context of our events is a `Target` that outlives them.
        let target = unsafe { &*context.cast::<Target>() };
        // SAFETY: perf passes a live event.
        let count = unsafe { bindings::kvm_rs_perf_count(event) };
        let expired = target.look(count);
        // The host's counter would go on with the same period.
        // SAFETY: this is the event's overflow handler.
        unsafe { bindings::kvm_rs_perf_rearm(event, expired.period) };
    }
}
