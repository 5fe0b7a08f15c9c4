// SPDX-License-Identifier: GPL-2.0

//! The guest's timer: its deadline, and the hardware or hrtimer that watches it. Answers to
//! `vcpu_timer.c`.
//!
//! A timer is one number, the guest time at which its interrupt becomes pending, and stays so
//! until a later deadline is set; `u64::MAX` is never. Two ways to watch it:
//!
//! - With Sstc, the hardware does, while the vCPU is loaded. The deadline is then in `vstimecmp`,
//!   which the guest may write without an exit, and the field here is stale: put and
//!   [`Timer::snapshot`] read it back (differences-from-c M10). A vCPU that is put because it
//!   blocks has a [`VcpuHrtimer`] wake it.
//! - Without, the hrtimer runs whether the vCPU is loaded or not, and makes the interrupt pending.
//!
//! Everything is atomic, there is no lock. Only the vCPU's own thread, or the holder of its mutex
//! while it does not run, writes the deadline, and starts or stops the hrtimer; the hrtimer's
//! callback may start it once more. `kvm_cpu_has_pending_timer()` reads from anywhere.

use kernel::{
    prelude::*,
    time::Delta, //
};

use crate::{
    arch::{
        csr::{
            self,
            Registers, //
        },
        nacl::with_registers, //
    },
    bindings,
    kernel_ext::{
        atomic::{
            AtomicBool,
            AtomicU64,
            Ordering, //
        },
        time, //
    },
    kvm_core::object::Vcpu,
    vcpu::{
        host,
        hrtimer::VcpuHrtimer,
        irq::Interrupt,
        token::{
            Loaded,
            OwnedVcpu,
            Pinned, //
        }, //
    }, //
};

/// A deadline that never comes.
const NEVER: u64 = u64::MAX;

/// What watches the deadline while the vCPU is loaded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watch {
    /// `vstimecmp`.
    Hardware,
    /// The hrtimer.
    VcpuHrtimer,
}

/// How far away the deadline is.
enum Deadline {
    /// It does not come.
    Never,
    /// It comes in so many ticks.
    In(u64),
    /// It has come.
    Now,
}

/// The timer of one vCPU.
#[pin_data]
pub(crate) struct Timer {
    /// What watches the deadline while the vCPU is loaded; constant.
    watch: Watch,
    /// Guest time at which the timer interrupt becomes pending.
    deadline: AtomicU64,
    /// The hrtimer was started and has not been stopped, nor has it gone off.
    armed: AtomicBool,
    /// What guest time was ahead of the host's when the hrtimer was last to be started.
    armed_delta: AtomicU64,
    /// The hrtimer.
    #[pin]
    alarm: VcpuHrtimer,
}

impl Timer {
    /// Returns a timer whose deadline never comes.
    pub(crate) fn new() -> impl PinInit<Self> {
        let watch = match host::get() {
            Some(host) if host.sstc => Watch::Hardware,
            _ => Watch::VcpuHrtimer,
        };
        pin_init!(Self {
            watch,
            deadline: AtomicU64::new(NEVER),
            armed: AtomicBool::new(false),
            armed_delta: AtomicU64::new(0),
            alarm <- VcpuHrtimer::new(),
        })
    }

    /// Returns the hrtimer, for [`VcpuHrtimer::start`].
    pub(crate) fn alarm(&self) -> &VcpuHrtimer {
        &self.alarm
    }

    /// Returns whether the hardware derives the timer interrupt from the deadline, so that no timer
    /// needs to inject it.
    pub(crate) fn is_in_hardware(&self) -> bool {
        self.watch == Watch::Hardware
    }

    /// Loads the timer of `vcpu`, which the scheduler puts on this CPU. Preemption is off.
    #[inline]
    pub(crate) fn load(&self, regs: &impl Registers, vcpu: &Vcpu) {
        let delta = vcpu.vm().time_delta();
        regs.write(csr::HTIMEDELTA, delta as usize);
        match self.watch {
            Watch::Hardware => {
                let deadline = self.deadline.load(Ordering::Relaxed);
                regs.write(csr::VSTIMECMP, deadline as usize);
                if self.armed.load(Ordering::Relaxed) {
                    self.disarm();
                }
            }
            Watch::VcpuHrtimer => {
                // Userspace may have changed guest time after it set the deadline. The hrtimer may
                // even have gone off, by a time that was not the guest's.
                if self.armed_delta.load(Ordering::Relaxed) != delta {
                    self.rearm(vcpu);
                }
            }
        }
    }

    /// Saves the timer of `vcpu`, which the scheduler takes off this CPU. Preemption is off; the
    /// guest's interrupts are already known to [`Irqs`](crate::vcpu::irq::Irqs).
    #[inline]
    pub(crate) fn put(&self, regs: &impl Registers, vcpu: &Vcpu) {
        if self.watch == Watch::VcpuHrtimer {
            return;
        }
        // The register gets `NEVER`: a deadline that has come would end the host's WFI at once,
        // though no guest is loaded.
        let deadline = regs.swap(csr::VSTIMECMP, NEVER as usize) as u64;
        self.deadline.store(deadline, Ordering::Relaxed);
        // A hart that is stopped, or does not want the interrupt, would only be woken to block and
        // be put again, with the hrtimer going off at once each time.
        if vcpu.is_blocking() && self.is_wanted(vcpu) && !vcpu.shared().mp_state.is_stopped() {
            self.arm(vcpu);
        }
    }

    /// Reads the deadline of a vCPU that is loaded. Preemption is off. The copy is up to date until
    /// the guest runs again, as a vCPU that polls before it blocks needs.
    #[inline]
    pub(crate) fn snapshot(&self, regs: &impl Registers) {
        if self.watch == Watch::Hardware {
            let deadline = regs.read(csr::VSTIMECMP) as u64;
            self.deadline.store(deadline, Ordering::Relaxed);
        }
    }

    /// Returns whether the timer ends a WFI of `vcpu`, whose timer this is. True as of the last put
    /// or [`snapshot`](Self::snapshot).
    pub(crate) fn pending(&self, vcpu: &Vcpu) -> bool {
        self.is_wanted(vcpu) && matches!(self.due(vcpu), Deadline::Now)
    }

    /// Resets the timer to its state at reset. The vCPU is not loaded.
    pub(crate) fn reset(&self) {
        self.disarm();
        self.deadline.store(NEVER, Ordering::Relaxed);
    }

    /// Handles the expiry of the hrtimer of `vcpu`, whose timer this is. Any CPU, in a hard
    /// interrupt.
    pub(crate) fn expired(&self, vcpu: &Vcpu) {
        match (self.due(vcpu), self.watch) {
            (Deadline::Never, _) => self.armed.store(false, Ordering::Release),
            // The hrtimer's clock is not exactly the guest's, so the rest is waited for.
            (Deadline::In(ticks), _) => VcpuHrtimer::start(vcpu, time::duration(ticks)),
            (Deadline::Now, Watch::Hardware) => {
                // Clear it first, so that the woken thread does not stop an hrtimer that has
                // expired.
                self.armed.store(false, Ordering::Release);
                vcpu.kick();
            }
            (Deadline::Now, Watch::VcpuHrtimer) => {
                vcpu.inject(Interrupt::Timer);
                // Clear it after the injection, and with release: a CPU that sees that the hrtimer
                // is not armed sees the interrupt, too, and can withdraw it.
                self.armed.store(false, Ordering::Release);
            }
        }
    }

    /// Makes the interrupt pending again if it is due, after what is pending for `vcpu`, whose
    /// timer this is, was replaced. The hrtimer may have gone off before, and does not again for
    /// the same deadline.
    pub(crate) fn restore_pending(&self, vcpu: &Vcpu) {
        if self.watch == Watch::VcpuHrtimer && matches!(self.due(vcpu), Deadline::Now) {
            vcpu.inject(Interrupt::Timer);
        }
    }

    /// Returns whether the guest has the timer interrupt enabled.
    fn is_wanted(&self, vcpu: &Vcpu) -> bool {
        vcpu.shared().irqs.is_enabled(Interrupt::Timer)
    }

    /// Returns when the deadline is.
    fn due(&self, vcpu: &Vcpu) -> Deadline {
        match self.deadline.load(Ordering::Relaxed) {
            NEVER => Deadline::Never,
            deadline => match deadline.checked_sub(vcpu.vm().time()) {
                None | Some(0) => Deadline::Now,
                Some(ticks) => Deadline::In(ticks),
            },
        }
    }

    /// Has the hrtimer watch the deadline. It is not armed.
    #[inline(never)]
    fn arm(&self, vcpu: &Vcpu) {
        self.armed_delta
            .store(vcpu.vm().time_delta(), Ordering::Relaxed);
        let delay = match self.due(vcpu) {
            Deadline::Never => return,
            Deadline::In(ticks) => time::duration(ticks),
            Deadline::Now => Delta::from_nanos(0),
        };
        self.armed.store(true, Ordering::Relaxed);
        VcpuHrtimer::start(vcpu, delay);
    }

    /// Stops the hrtimer, if it is armed. What its callback has done is visible afterwards.
    #[inline(never)]
    fn disarm(&self) {
        // Acquire: pairs with the release in `expired`.
        if self.armed.load(Ordering::Acquire) {
            self.alarm.stop();
            self.armed.store(false, Ordering::Relaxed);
        }
    }

    /// Has the hrtimer go off at another time, as guest time has moved. Where the deadline is yet
    /// to come, its interrupt is not pending.
    #[cold]
    #[inline(never)]
    fn rearm(&self, vcpu: &Vcpu) {
        self.disarm();
        if matches!(self.due(vcpu), Deadline::In(_)) {
            vcpu.withdraw(Interrupt::Timer);
        }
        self.arm(vcpu);
    }

    /// Sets a new deadline where the hrtimer watches.
    #[inline(never)]
    fn restart(&self, vcpu: &Vcpu, deadline: u64) {
        self.disarm();
        self.deadline.store(deadline, Ordering::Relaxed);
        vcpu.withdraw(Interrupt::Timer);
        match self.due(vcpu) {
            // Inject at once and not by an hrtimer that expires later: the guest may read `sip`.
            Deadline::Now => vcpu.inject(Interrupt::Timer),
            Deadline::Never | Deadline::In(_) => self.arm(vcpu),
        }
    }
}

impl Pinned<'_> {
    /// Sets the guest time at which the timer interrupt becomes pending; until then it is not.
    ///
    /// Pinned, because the register belongs to this vCPU only as long as the scheduler does not
    /// take it off the CPU. A put saves the deadline.
    #[inline]
    pub(crate) fn set_timer(&mut self, deadline: u64) {
        let timer = &self.vcpu().shared().timer;
        match timer.watch {
            Watch::Hardware => {
                with_registers!(regs => regs.write(csr::VSTIMECMP, deadline as usize))
            }
            Watch::VcpuHrtimer => timer.restart(self.vcpu(), deadline),
        }
    }

    /// Sets the deadline as [`set_timer`](Self::set_timer) does, if the hardware watches; [`None`]
    /// if not.
    #[inline]
    pub(crate) fn set_timer_in_hardware(&mut self, deadline: u64) -> Option<()> {
        self.vcpu()
            .shared()
            .timer
            .is_in_hardware()
            .then(|| self.set_timer(deadline))
    }
}

impl Loaded<'_> {
    /// Sets the guest time at which the timer interrupt becomes pending; until then it is not.
    #[inline]
    pub(crate) fn set_timer(&mut self, deadline: u64) {
        self.pinned(|vcpu| vcpu.set_timer(deadline));
    }
}

/// A timer register of ONE_REG, `KVM_REG_RISCV_TIMER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimerReg {
    /// Ticks per second; read-only.
    Frequency,
    /// The guest's `time`, common to all vCPUs.
    Time,
    /// The deadline.
    Compare,
    /// Whether there is a deadline.
    State,
}

impl OwnedVcpu<'_> {
    /// Reads a timer register.
    pub(crate) fn timer_reg(&self, reg: TimerReg) -> u64 {
        let deadline = self.vcpu().shared().timer.deadline.load(Ordering::Relaxed);
        match reg {
            TimerReg::Frequency => time::frequency(),
            TimerReg::Time => self.vcpu().vm().time(),
            TimerReg::Compare => deadline,
            TimerReg::State if deadline == NEVER => bindings::KVM_RISCV_TIMER_STATE_OFF.into(),
            TimerReg::State => bindings::KVM_RISCV_TIMER_STATE_ON.into(),
        }
    }

    /// Writes a timer register. A deadline counts as soon as it is there; `State` off removes the
    /// deadline, if there is one, and on leaves it as it is (differences-from-c M25).
    ///
    /// # Errors
    ///
    /// `EINVAL` for a frequency that is not the host's, or a state that there is not.
    pub(crate) fn set_timer_reg(&mut self, reg: TimerReg, value: u64) -> Result {
        const OFF: u64 = bindings::KVM_RISCV_TIMER_STATE_OFF as u64;
        const ON: u64 = bindings::KVM_RISCV_TIMER_STATE_ON as u64;

        match (reg, value) {
            (TimerReg::Frequency, value) if value == time::frequency() => {}
            (TimerReg::Frequency, _) => return Err(EINVAL),
            (TimerReg::Time, time) => self.vcpu().vm().set_time(time),
            (TimerReg::Compare, deadline) => self.set_deadline(deadline),
            (TimerReg::State, OFF) => self.set_deadline(NEVER),
            (TimerReg::State, ON) => {}
            (TimerReg::State, _) => return Err(EINVAL),
        }
        Ok(())
    }

    /// Sets the deadline of a vCPU that is not loaded.
    fn set_deadline(&mut self, deadline: u64) {
        let timer = &self.vcpu().shared().timer;
        match timer.watch {
            Watch::Hardware => timer.deadline.store(deadline, Ordering::Relaxed),
            Watch::VcpuHrtimer => timer.restart(self.vcpu(), deadline),
        }
    }
}
