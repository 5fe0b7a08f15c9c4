// SPDX-License-Identifier: GPL-2.0

//! What a vCPU keeps in registers while it is loaded. Answers to `kvm_arch_vcpu_load()`,
//! `kvm_arch_vcpu_put()` and `vcpu_config.c`.
//!
//! Loading and putting run with preemption off; the scheduler does both whenever it switches the
//! vCPU's thread. Most of the registers mean nothing to the host and stay in the CPU after a put; a
//! [`CtxGeneration`] tells whether they are still there at the next load.

use kernel::prelude::*;

use crate::{
    arch::{
        aia::{
            self,
            External, //
        },
        csr::{
            self,
            Registers, //
        },
        fp::{
            FpMoves,
            FpRegs,
            UserFp, //
        },
        irq_bits::from_guest,
        nacl::with_registers,
        supervisor::GuestCsrs,
        switch::{
            Unit,
            UnitState,
            UnitStatus, //
        },
        vector::Restored, //
    },
    isa::{
        EffectiveIsa,
        FpUnit, //
    },
    kvm_core::object::Vcpu,
    vcpu::{
        config::HypConfig,
        host::{
            self,
            Host, //
        },
        irq::Interrupt,
        residency::{
            CpuSlots,
            CtxGeneration,
            Residency, //
        },
        translation::TranslationState, //
    }, //
};

/// Registers that say what the guest may do; they follow from its configuration.
#[derive(Clone, Copy)]
struct Config {
    hyp_config: HypConfig,
    hstateen0: Option<usize>,
    fp: FpUnit,
    vector: bool,
    aia: Aia,
}

/// Whether there are the registers of the AIA.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aia {
    Absent,
    Present,
}

/// The host's `scounteren`, out of the CPU while the guest runs.
#[must_use]
pub(crate) struct HostCounters(usize);

/// Values of the host that are out of the CPU while a vCPU is loaded.
#[derive(Default)]
struct HostSide {
    senvcfg: usize,
    sstateen0: usize,
}

/// The state that loading moves between memory and registers.
pub(crate) struct CpuContext {
    /// Supervisor registers; stale while loaded.
    pub(crate) csrs: GuestCsrs,
    /// Floating-point registers; stale while loaded.
    pub(crate) fp: FpRegs,
    /// The guest's units, in its outer `sstatus`: what is live and what is dirty.
    pub(crate) units: UnitStatus,
    /// The registers that follow from the configuration.
    config: Config,
    /// The host's facts, looked up once: the lookup at each use would add up.
    facts: &'static Host,
    /// The CPUs' slots, looked up once as `facts` are.
    cpus: &'static CpuSlots,
    /// The load whose registers a CPU may still hold.
    generation: CtxGeneration,
    /// Where the vCPU left translations.
    translation: TranslationState,
    /// `hvictl`, on a host with AIA.
    external: External,
    /// A put has cleared `vsie`: what the guest has enabled is in memory alone.
    parked: bool,
    /// The host's values while the vCPU is loaded.
    host: HostSide,
}

impl CpuContext {
    /// Makes the state of a hart of `host` before its first reset in place: it is too large for the
    /// stack.
    ///
    /// # Safety
    ///
    /// The context becomes the part of a vCPU that is new, and so not loaded. It takes the place of
    /// no other context, which might know of a translation that is loaded.
    pub(crate) unsafe fn new(host: &'static Host, cpus: &'static CpuSlots) -> impl Init<Self> {
        init!(Self {
            csrs: GuestCsrs::RESET,
            fp: FpRegs::default(),
            units: UnitStatus::OFF,
            config: Config {
                hyp_config: HypConfig::NONE,
                hstateen0: None,
                fp: FpUnit::Off,
                vector: false,
                aia: Aia::Absent,
            },
            facts: host,
            cpus,
            generation: CtxGeneration::NONE,
            translation: TranslationState::new(),
            external: External::QUIET,
            parked: false,
            host: HostSide::default(),
        })
    }

    /// Resets the state to that of a hart at reset.
    pub(crate) fn reset(&mut self, isa: EffectiveIsa, hyp_config: HypConfig) {
        self.csrs = GuestCsrs::RESET;
        self.external = External::QUIET;
        self.fp = FpRegs::default();
        self.configure(isa, hyp_config);
        self.units = initial_units(isa);
        self.changed();
    }

    /// Has the registers follow `isa` and what it is permitted: a unit that the guest lacks is off,
    /// for good.
    pub(crate) fn configure(&mut self, isa: EffectiveIsa, hyp_config: HypConfig) {
        self.config.hyp_config = hyp_config;
        self.config.hstateen0 =
            host::get().and_then(|host| isa.hstateen0(&host.isa).map(|v| v as usize));
        self.config.fp = isa.fp();
        self.config.vector = isa.has_vector();
        self.config.aia = if aia::is_available() {
            Aia::Present
        } else {
            Aia::Absent
        };
        for unit in [Unit::Fp, Unit::Vector] {
            let initial = initial_state(isa, unit);
            // What the guest lacks is Off; what it got back begins anew.
            if initial == UnitState::Off || self.units.is(unit, UnitState::Off) {
                self.units = self.units.with(unit, initial);
            }
        }
        self.changed();
    }

    /// Changes hyp_config alone, on the CPU that the vCPU is loaded on. No other CPU can take what
    /// it may still hold for current.
    pub(crate) fn set_config_at_once(&mut self, hyp_config: HypConfig) {
        self.config.hyp_config = hyp_config;
        with_registers!(regs => self.load_config(regs));
    }

    /// Marks the state in memory as changed: what a CPU may still hold is out of date.
    pub(crate) fn changed(&mut self) {
        self.generation = CtxGeneration::NONE;
    }

    /// Moves the state from memory to registers. Preemption is off.
    pub(crate) fn load(&mut self, vcpu: &Vcpu, cpu: usize) {
        with_registers!(regs => self.load_registers(regs, vcpu, cpu));
        self.swap_in();
        self.load_fp();
        if self.config.vector {
            vcpu.vector().load();
        }
    }

    /// Moves the state from registers to memory. Preemption is off.
    pub(crate) fn put(&mut self, vcpu: &Vcpu) {
        self.put_vector(vcpu);
        self.put_fp();
        self.swap_out();
        with_registers!(regs => self.put_registers(regs, vcpu));
    }

    /// Copies to [`VcpuShared`](crate::vcpu::VcpuShared) which interrupts the guest has enabled,
    /// which it has cleared itself, and the timer's deadline, as the check whether a blocked vCPU
    /// can go on needs them. Preemption is off.
    pub(crate) fn snapshot(&mut self, vcpu: &Vcpu) {
        with_registers!(regs => {
            self.put_interrupts(regs, vcpu);
            vcpu.shared().timer.snapshot(regs);
        });
    }

    /// Reads which interrupts the guest has enabled, and which pending ones it has changed, into
    /// memory.
    #[inline(always)]
    fn put_interrupts(&mut self, regs: &impl Registers, vcpu: &Vcpu) {
        let irqs = &vcpu.shared().irqs;
        self.csrs.sie = regs.read(csr::VSIE);
        self.csrs.hvip = regs.read(csr::HVIP);
        irqs.sync(self.csrs.hvip);
        irqs.set_enabled(self.csrs.sie);
    }

    /// Brings interrupts that other contexts made pending into the guest's view. Interrupts are
    /// disabled.
    ///
    /// Returns the new level of the external interrupt's line if it has changed and the guest has
    /// the registers of the AIA, which the caller has to set.
    #[inline(always)]
    pub(crate) fn flush_interrupts(&mut self, vcpu: &Vcpu) -> Option<bool> {
        let update = vcpu.shared().irqs.take_changes()?;
        with_registers!(regs => regs.write(csr::HVIP, update.apply(regs.read(csr::HVIP))));
        match self.config.aia {
            Aia::Present => update.of(Interrupt::External),
            Aia::Absent => None,
        }
    }

    /// Sets what the guest is to see of an external interrupt that is not from a file in hardware.
    pub(crate) fn set_external(&mut self, external: External) {
        self.external = external;
        with_registers!(regs => external.load(regs));
    }

    /// Returns the guest's `siselect`.
    pub(crate) fn selected(&self) -> usize {
        with_registers!(regs => regs.read(csr::VSISELECT))
    }

    /// Returns the priorities of the guest's major interrupts.
    pub(crate) fn priorities(&self) -> [u64; 2] {
        [self.csrs.iprio1 as u64, self.csrs.iprio2 as u64]
    }

    /// Changes the priorities of the guest's major interrupts, as far as the hardware implements
    /// them.
    pub(crate) fn set_priorities(&mut self, priorities: [u64; 2]) {
        with_registers!(regs => self.csrs.set_priorities(regs, priorities));
    }

    /// Returns the guest's `scounteren`.
    pub(crate) fn scounteren(&self) -> usize {
        self.csrs.scounteren
    }

    /// Returns where the vCPU left translations.
    #[inline(always)]
    pub(crate) fn translation(&mut self) -> &mut TranslationState {
        &mut self.translation
    }

    /// Puts the guest's vectors into the unit if the kernel or a load has displaced them.
    /// Interrupts are off, the guest is entered next.
    #[inline]
    pub(crate) fn restore_vector(&mut self, vcpu: &Vcpu) {
        // SAFETY: The guest has vectors, so the host has them. The calling thread enters the vCPU
        // next, so it has loaded the vCPU, and interrupts are off.
        if self.config.vector && unsafe { vcpu.vector().enter() } == Restored::Yes {
            self.units = self.units.with(Unit::Vector, UnitState::Clean);
        }
    }

    /// Takes over what the guest made of its units, right after an exit, with interrupts still off,
    /// and saves its vectors if the kernel cannot ask for them later.
    #[inline(always)]
    pub(crate) fn take_units(&mut self, vcpu: &Vcpu, units: UnitStatus) {
        self.units = units;
        if self.config.vector {
            // SAFETY: The guest has vectors, so the host has them. The calling thread has loaded
            // the vCPU, and interrupts have been off since `restore_vector`.
            unsafe { vcpu.vector().exit(units) };
        }
    }

    /// Loads the CSRs that the CPU does not have any more, and the timer.
    #[inline(always)]
    fn load_registers(&mut self, regs: &impl Registers, vcpu: &Vcpu, cpu: usize) {
        if self.cpus.take(cpu, &mut self.generation) == Residency::Evicted {
            // The configuration comes first, because it decides what the other registers can hold.
            self.load_config(regs);
            self.load_csrs(regs);
        } else if self.parked {
            regs.write(csr::VSIE, self.csrs.sie);
        }
        self.parked = false;
        vcpu.shared().timer.load(regs, vcpu);
    }

    /// Saves interrupts, timer and CSRs, and clears `hgatp`.
    #[inline(always)]
    fn put_registers(&mut self, regs: &impl Registers, vcpu: &Vcpu) {
        self.put_interrupts(regs, vcpu);
        self.park(regs);
        vcpu.shared().timer.put(regs, vcpu);
        self.put_csrs(regs);
        self.translation.unload(regs);
    }

    /// Leaves no interrupt in the CPU that is pending and enabled: WFI of the host would return at
    /// once, for as long as the vCPU's registers stay there.
    #[inline(always)]
    fn park(&mut self, regs: &impl Registers) {
        if from_guest(self.csrs.sie) as usize & self.csrs.hvip != 0 {
            // The read makes a write that NACL has deferred take effect at once, not at the next
            // entry.
            let _ = regs.write_readback(csr::VSIE, 0);
            self.parked = true;
        }
    }

    /// Loads the CSRs that say what the guest may do.
    fn load_config(&self, regs: &impl Registers) {
        csr::delegate_to_guest(regs, self.config.hyp_config.hedeleg);
        regs.write(csr::HENVCFG, self.config.hyp_config.henvcfg as usize);
        if let Some(hstateen0) = self.config.hstateen0 {
            regs.write(csr::HSTATEEN0, hstateen0);
        }
    }

    /// Loads the guest's own CSRs.
    fn load_csrs(&mut self, regs: &impl Registers) {
        self.csrs.load(regs);
        regs.write(csr::VSIE, self.csrs.sie);
        regs.write(csr::HVIP, self.csrs.hvip);
        if self.config.aia == Aia::Present {
            self.csrs.load_aia(regs);
            self.external.load(regs);
        }
    }

    /// Saves the guest's own CSRs, but `sie` and `hvip`, which are in
    /// [`put_interrupts`](Self::put_interrupts).
    fn put_csrs(&mut self, regs: &impl Registers) {
        self.csrs.save(regs);
        if self.config.aia == Aia::Present {
            self.csrs.siselect = regs.read(csr::VSISELECT);
        }
    }

    /// Loads the guest's registers that act on user mode alone, and saves the host's: here and not
    /// around each entry, since the kernel between two entries runs in neither.
    fn swap_in(&mut self) {
        let host = self.facts;
        // SAFETY: `senvcfg` acts on user mode alone, and this CPU does not run the host's user mode
        // before `swap_out`.
        self.host.senvcfg = unsafe { csr::SENVCFG.swap(self.csrs.senvcfg) };
        if host.smstateen {
            // SAFETY: The host has `sstateen0`. It acts on user mode alone, and this CPU does not
            // run the host's user mode before `swap_out`.
            self.host.sstateen0 = unsafe { csr::SSTATEEN0.swap(self.csrs.sstateen0) };
        }
        if host.zicfiss {
            // SAFETY: The host has `ssp`. The kernel saves user mode's `ssp` to memory on entry and
            // does not use the register itself.
            unsafe { csr::SSP.write(self.csrs.ssp) };
        }
    }

    /// Saves the guest's registers that act on user mode alone, and loads the host's.
    fn swap_out(&mut self) {
        let host = self.facts;
        // SAFETY: This writes back the host's own value, which `swap_in` saved.
        self.csrs.senvcfg = unsafe { csr::SENVCFG.swap(self.host.senvcfg) };
        if host.smstateen {
            // SAFETY: This writes back the host's own value, which `swap_in` saved. The host has
            // `sstateen0`.
            self.csrs.sstateen0 = unsafe { csr::SSTATEEN0.swap(self.host.sstateen0) };
        }
        if host.zicfiss {
            // SAFETY: The host has `ssp`, and the kernel runs with 0 in it.
            self.csrs.ssp = unsafe { csr::SSP.swap(0) };
        }
    }

    /// Puts the guest's `scounteren` into the CPU, for as long as interrupts are off: perf changes
    /// the host's by one, to let user mode at counters. Returns the host's.
    #[inline(always)]
    pub(crate) fn swap_in_counters(&mut self) -> HostCounters {
        // SAFETY: `scounteren` acts on user mode alone. Interrupts are off, so this CPU does not
        // run the host's user mode before `swap_out_counters`.
        HostCounters(unsafe { csr::SCOUNTEREN.swap(self.csrs.scounteren) })
    }

    /// Puts the host's `scounteren` back.
    #[inline(always)]
    pub(crate) fn swap_out_counters(&mut self, host: HostCounters) {
        // SAFETY: This writes back the host's own value, which `swap_in_counters` returned.
        self.csrs.scounteren = unsafe { csr::SCOUNTEREN.swap(host.0) };
    }

    /// Saves the floating-point registers of the host's user mode, and loads the guest's.
    fn load_fp(&mut self) {
        // `configure` has set it Off for good in a guest without a unit.
        if !self.units.is(Unit::Fp, UnitState::Off) {
            UserFp::save();
            // SAFETY: A guest has a unit only if the host has that unit, and `UserFp::save()` has
            // saved the registers of the host's user mode.
            unsafe { self.config.fp.restore(&self.fp) };
            self.units = self.units.with(Unit::Fp, UnitState::Clean);
        }
    }

    /// Saves the guest's floating-point registers if they are dirty, and loads those of the host's
    /// user mode.
    fn put_fp(&mut self) {
        if self.units.is(Unit::Fp, UnitState::Off) {
            return;
        }
        if self.units.is(Unit::Fp, UnitState::Dirty) {
            // SAFETY: A guest has a unit only if the host has that unit.
            unsafe { self.config.fp.save(&mut self.fp) };
            self.units = self.units.with(Unit::Fp, UnitState::Clean);
        }
        // SAFETY: The thread has not been in user mode since `load_fp` called `UserFp::save()`. The
        // guest's registers are saved in `self.fp`.
        unsafe { UserFp::restore() };
    }

    /// Saves the guest's vector registers if they are dirty.
    fn put_vector(&mut self, vcpu: &Vcpu) {
        if self.config.vector {
            // SAFETY: The guest has vectors, so the host has them. Core KVM puts the vCPU in the
            // thread that has loaded it, with preemption off.
            unsafe { vcpu.vector().put(self.units) };
            self.units = self.units.with(Unit::Vector, UnitState::Clean);
        }
    }
}

/// Returns the states of the units of a hart with `isa` after reset.
fn initial_units(isa: EffectiveIsa) -> UnitStatus {
    UnitStatus::OFF
        .with(Unit::Fp, initial_state(isa, Unit::Fp))
        .with(Unit::Vector, initial_state(isa, Unit::Vector))
}

/// Returns the state of `unit` of a hart with `isa` after reset: Initial where there is a unit, Off
/// where not (differences-from-c M11).
fn initial_state(isa: EffectiveIsa, unit: Unit) -> UnitState {
    let is_there = match unit {
        Unit::Fp => isa.fp() != FpUnit::Off,
        Unit::Vector => isa.has_vector(),
    };
    if is_there {
        UnitState::Initial
    } else {
        UnitState::Off
    }
}
