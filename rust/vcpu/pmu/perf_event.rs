// SPDX-License-Identifier: GPL-2.0

//! The host's performance counters, counting a guest. Answers to the perf calls of
//! `vcpu_pmu.c`.
//!
//! An event counts the thread that created it, a vCPU's, while that is in the guest. Its overflow
//! comes as an interrupt on the CPU where the thread is; releasing an event removes it from that
//! CPU first, so that no overflow comes afterwards. Locks: perf's own, all of which may sleep; an
//! overflow takes the raw spinlock of its [`OverflowLine`].

use core::ptr::NonNull;

use kernel::{
    error::to_result,
    ffi::c_void,
    prelude::*,
    sync::{
        Arc,
        SetOnce, //
    }, //
};

use crate::{
    arch::cpufeature,
    bindings::{
        self,
        check_prototype, //
    },
    kernel_ext::{
        context::IrqOff,
        raw_spinlock::{
            new_raw_spinlock, //
            RawSpinLock,
        }, //
    },
    kvm_core::object::{
        HeldVcpu,
        Vcpu, //
    },
    sbi_abi::message::pmu::Filter,
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
        }, //
    }, //
};

/// Returns what counters guests can have: [`None`] if the host's own driver found none, or if the
/// host cannot tell guests from itself.
pub(crate) fn layout() -> Option<Layout> {
    if !cpufeature::host_has(bindings::RISCV_ISA_EXT_SSCOFPMF) {
        return None;
    }
    let (mut width, mut number) = (0, 0);
    // SAFETY: Both variables are writable, and the driver only stores a number in each.
    to_result(unsafe { bindings::riscv_pmu_get_hpm_info(&mut width, &mut number) }).ok()?;
    Layout::new(number, width)
}

/// Returns whether the host has a counter for `event`.
pub(crate) fn can_count(event: HardwareEvent) -> bool {
    // SAFETY: The driver takes any type and configuration, and refuses those that it does not know.
    // A null pointer tells it that the caller does not want the configuration back.
    let idx = unsafe {
        bindings::riscv_pmu_get_event_info(event.kind, event.config, core::ptr::null_mut())
    };
    idx > 0
}

/// The line by which overflows reach a vCPU. Events share it with the vCPU, which cuts it before it
/// goes, so that an event may outlive the vCPU.
#[pin_data]
struct OverflowLine {
    #[pin]
    vcpu: RawSpinLock<Connection>,
}

/// The vCPU at the end of an [`OverflowLine`].
///
/// # Invariants
///
/// The vCPU is live: [`OverflowSink::disconnect`] takes it out before the vCPU is destroyed.
struct Connection(Option<NonNull<Vcpu>>);

// SAFETY: `Vcpu` is `Sync`, so any thread may use a pointer to a live vCPU.
unsafe impl Send for Connection {}

impl OverflowLine {
    /// Makes a line to `vcpu`.
    fn new(vcpu: &Vcpu) -> impl PinInit<Self> {
        // INVARIANT: `Vcpu::destroy` calls `OverflowSink::disconnect`, which finds this line: the
        // only caller puts it into the sink of `vcpu`.
        let vcpu = Connection(Some(NonNull::from(vcpu)));
        pin_init!(Self {
            vcpu <- new_raw_spinlock!(vcpu, "kvm_riscv::overflow"),
        })
    }

    /// Makes the counter overflow interrupt of the vCPU pending, if it is still there.
    fn raise(&self) {
        self.vcpu.with(|vcpu| {
            if let Connection(Some(vcpu)) = vcpu {
                // SAFETY: By the type's invariant the vCPU is live, and the lock keeps it in its
                // place.
                unsafe { vcpu.as_ref() }.inject(Interrupt::CounterOverflow);
            }
        });
    }
}

/// A vCPU's end of its [`OverflowLine`], which is made with the first event.
pub(crate) struct OverflowSink(SetOnce<Arc<OverflowLine>>);

impl OverflowSink {
    /// Makes the sink of a vCPU without events.
    pub(crate) fn new() -> Self {
        Self(SetOnce::new())
    }

    /// Cuts the line: no overflow reaches the vCPU any more. The vCPU is about to be destroyed.
    pub(crate) fn disconnect(&self) {
        if let Some(line) = self.0.as_ref() {
            line.vcpu.with(|vcpu| vcpu.0 = None);
        }
    }

    /// Returns the line to `vcpu`, whose sink this is.
    fn line(&self, vcpu: &Vcpu) -> Result<Arc<OverflowLine>> {
        if self.0.as_ref().is_none() {
            let line = Arc::pin_init(OverflowLine::new(vcpu), GFP_KERNEL_ACCOUNT)?;
            // The vCPU's mutex keeps other threads from making one, too.
            self.0.populate(line);
        }
        self.0.as_ref().cloned().ok_or(ENOMEM)
    }
}

/// Makes events for the counters of one vCPU.
pub(crate) struct PerfSource {
    /// The way of overflows to the vCPU.
    line: Arc<OverflowLine>,
    /// Whether the guest is told of overflows.
    overflows: Overflows,
}

impl PerfSource {
    /// Makes events for the counters of `vcpu`.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(crate) fn of(vcpu: HeldVcpu<'_>, overflows: Overflows) -> Result<Self> {
        let vcpu = vcpu.get();
        let line = vcpu.shared().overflows.line(vcpu)?;
        Ok(Self { line, overflows })
    }
}

impl Source for PerfSource {
    type Event = PerfEvent;

    fn create(
        &mut self,
        event: HardwareEvent,
        filter: Filter,
        width: u32,
        room: Room,
    ) -> Option<PerfEvent> {
        let target = Target {
            line: self.line.clone(),
            overflows: self.overflows,
            wrap: Wrap::new(wrap::mask(width)),
        };
        let target = KBox::new(target, GFP_KERNEL_ACCOUNT).ok()?;
        // SAFETY: Perf takes any type and configuration, and refuses what it does not know. The
        // context is a `Target` on the heap, which outlives the event: only `PerfEvent` frees it,
        // or this function if there is no event.
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
        // INVARIANT: The event is new and live, and `target` is its context.
        let mut event = PerfEvent {
            raw: NonNull::new(raw)?,
            target,
        };
        // `kvm_rs_perf_create()` has enabled the event, which shows whether the host has a counter
        // left for it.
        let fits = !event.is_refused();
        event.stop();
        (fits || room == Room::ComesFree).then_some(event)
    }
}

/// An event of perf.
///
/// # Invariants
///
/// `raw` is a live event that [`PerfSource`] created, and perf gives `target` to its overflow
/// handler.
pub(crate) struct PerfEvent {
    /// Perf's event.
    raw: NonNull<bindings::perf_event>,
    /// The context of the overflow handler.
    target: KBox<Target>,
}

/// The counter that an event is for.
struct Target {
    /// The way of the overflow to the vCPU.
    line: Arc<OverflowLine>,
    overflows: Overflows,
    wrap: Wrap,
}

impl Target {
    /// Looks at the `count` of the live event that has this target: the guest gets the interrupt if
    /// its counter has wrapped. Any context.
    fn look(&self, count: u64) -> Expired {
        let expired = self.wrap.expired(count);
        if expired.wrapped == Wrapped::Now && self.overflows == Overflows::Told {
            self.line.raise();
        }
        expired
    }
}

impl PerfEvent {
    /// Returns whether the host had no counter left for the event when it last wanted one. Only
    /// [`enable`](Self::enable) makes it try again.
    fn is_refused(&self) -> bool {
        // SAFETY: By the type's invariant `raw` is a live event.
        unsafe { bindings::kvm_rs_perf_is_refused(self.raw.as_ptr()) }
    }

    /// Returns whether this thread is the one that it counts.
    fn counts_this_thread(&self) -> bool {
        // SAFETY: By the type's invariant `raw` is a live event.
        unsafe { bindings::kvm_rs_perf_counts_current(self.raw.as_ptr()) }
    }

    /// Enables the event: the host counts, or tries to find a counter.
    fn enable(&mut self) {
        // SAFETY: By the type's invariant `raw` is a live event.
        unsafe { bindings::perf_event_enable(self.raw.as_ptr()) };
    }

    /// Sets the period from here on.
    fn set_period(&mut self, period: u64) -> Result {
        // SAFETY: By the type's invariant `raw` is a live event.
        to_result(unsafe { bindings::perf_event_period(self.raw.as_ptr(), period) })
    }

    /// Returns the count, in the thread that is counted. Interrupts are off, so it does not change
    /// in the kernel.
    fn count_here(&self, _irqs: &IrqOff) -> u64 {
        // SAFETY: By the type's invariant `raw` is a live event. `_irqs` shows that interrupts are
        // disabled, and the caller is the thread that the event counts.
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
        // SAFETY: By the type's invariant `raw` is a live event. Its count begins anew.
        let count = unsafe { bindings::perf_event_pause(self.raw.as_ptr(), true) };
        // If the interrupt of an overflow has not come yet, it never comes.
        let _ = self.target.look(count);
        self.target.wrap.own(count)
    }

    fn count(&self) -> u64 {
        let (mut enabled, mut running) = (0, 0);
        // SAFETY: By the type's invariant `raw` is a live event. The times are writable.
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
        IrqOff::with(|irqs| {
            let count = self.count_here(irqs);
            let _ = self.target.look(count);
            self.target.wrap.leave(count);
        });
    }

    fn enter(&mut self) {
        // Events of another thread are foreign.
        if !self.counts_this_thread() {
            return;
        }
        let period = IrqOff::with(|irqs| self.target.wrap.enter(self.count_here(irqs)));
        if let Some(period) = period {
            // Perf accepts any period that `Wrap` gives. If it did not, a wrap would only be
            // noticed late.
            let _ = self.set_period(period);
        }
        // The thread may have come to a CPU where all counters were in use.
        if self.is_refused() {
            self.enable();
        }
    }
}

impl Drop for PerfEvent {
    fn drop(&mut self) {
        // SAFETY: By the type's invariant `raw` is a live event. Its only owner is being dropped,
        // so this code does not use it any more. The result says nothing. Perf does not run the
        // event's handler afterwards, so that `target` can go.
        unsafe { bindings::perf_event_release_kernel(self.raw.as_ptr()) };
    }
}

/// Handles that an event of ours has counted as much as it was told. An interrupt of the CPU where
/// the vCPU's thread is: does not sleep.
///
/// # Safety
///
/// `event` is a live event that [`PerfSource`] created, and `context` is its context. Perf
/// calls this as the event's overflow handler, while the event is active on this CPU.
#[no_mangle]
unsafe extern "C" fn kvm_rs_counter_overflow(
    event: *mut bindings::perf_event,
    context: *mut c_void,
) {
    // SAFETY: Perf passes the context of an event that `PerfSource::create` made. That is a
    // `Target`, which outlives the event.
    let target = unsafe { &*context.cast::<Target>() };
    // SAFETY: Perf passes a live event.
    let count = unsafe { bindings::kvm_rs_perf_count(event) };
    let expired = target.look(count);
    // The host's counter would go on with the same period.
    // SAFETY: Perf passes a live event that is active on this CPU, and this is its overflow
    // handler.
    unsafe { bindings::kvm_rs_perf_rearm(event, expired.period) };
}
check_prototype!(kvm_rs_counter_overflow);
