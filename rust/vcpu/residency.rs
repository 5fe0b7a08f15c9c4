// SPDX-License-Identifier: GPL-2.0

//! Which vCPU has its registers in which CPU, and which CPUs core KVM uses.

use kernel::{
    cpu::nr_cpu_ids,
    prelude::*, //
};

use crate::kernel_ext::{
    atomic::{
        AtomicBool,
        AtomicU64,
        Ordering, //
    },
    module_cell::{
        ModuleCell,
        ModuleCellOwner, //
    }, //
};

/// One [`CpuSlot`] for each CPU, by its number.
pub(crate) struct CpuSlots(KVec<CpuSlot>);

/// One CPU's part of [`CpuSlots`], on a cache line of its own.
#[repr(align(64))]
struct CpuSlot {
    generation: AtomicU64,
    in_use: AtomicBool,
}

/// The slots of all CPUs, while the module is loaded.
static CPU_SLOTS: ModuleCell<CpuSlots> = ModuleCell::new();

/// Makes the slots. Called once, before core KVM can create a VM; the result is dropped last of
/// all.
///
/// # Errors
///
/// `ENOMEM`; `EEXIST` if called twice.
pub(crate) fn start() -> Result<ModuleCellOwner<CpuSlots>> {
    let mut slots = KVec::new();
    for _ in 0..nr_cpu_ids() {
        let slot = CpuSlot {
            generation: AtomicU64::new(0),
            in_use: AtomicBool::new(false),
        };
        slots.push(slot, GFP_KERNEL)?;
    }
    // SAFETY: The owner is a field of `Kvm` that is dropped after all that uses the slots, or, if
    // module init fails, a variable that outlives all that was begun. So nothing else of the module
    // runs when it is dropped.
    unsafe { CPU_SLOTS.own(CpuSlots(slots)) }
}

/// Returns the slots, once [`start`] has made them.
#[inline]
pub(crate) fn slots() -> Option<&'static CpuSlots> {
    CPU_SLOTS.get()
}

/// Names one load of a vCPU's registers: "the guest registers in this CPU are those of the vCPU
/// that holds the same generation". Every full load makes a new one, so a vCPU that was loaded
/// elsewhere in between, or changed in memory, holds another or none, whatever the CPU's number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct CtxGeneration(u64);

impl CtxGeneration {
    /// The generation that no CPU holds.
    pub(crate) const NONE: Self = Self(0);
}

/// The number of the next load.
static NEXT_GENERATION: AtomicU64 = AtomicU64::new(1);

/// What [`CpuSlots::take`] found.
#[derive(Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Residency {
    /// The vCPU's registers are still in the CPU.
    Resident,
    /// The CPU has the registers of another vCPU, or of none.
    Evicted,
}

impl CpuSlots {
    /// Tells whether `cpu` still holds the registers of the vCPU with `generation`. If not, the CPU
    /// is that vCPU's from now on, `generation` becomes a new one, and the caller must load
    /// everything.
    ///
    /// Called on `cpu`, with preemption disabled.
    #[inline]
    pub(crate) fn take(&self, cpu: usize, generation: &mut CtxGeneration) -> Residency {
        let Some(slot) = self.0.get(cpu) else {
            return Residency::Evicted;
        };
        if *generation != CtxGeneration::NONE
            && slot.generation.load(Ordering::Relaxed) == generation.0
        {
            return Residency::Resident;
        }
        *generation = CtxGeneration(NEXT_GENERATION.fetch_add(1, Ordering::Relaxed));
        slot.generation.store(generation.0, Ordering::Relaxed);
        Residency::Evicted
    }
}

/// Returns the slot of `cpu`, if there is one.
fn slot(cpu: usize) -> Option<&'static CpuSlot> {
    slots()?.0.get(cpu)
}

/// Notes that the guest registers of `cpu` are lost or cleared.
pub(crate) fn evict(cpu: usize) {
    if let Some(slot) = slot(cpu) {
        slot.generation.store(0, Ordering::Relaxed);
    }
}

/// Whether core KVM uses a CPU.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum InUse {
    /// Between `kvm_arch_enable_virtualization_cpu()` and its counterpart.
    Yes,
    /// Otherwise.
    No,
}

/// Notes that core KVM begins or ends to use `cpu`. Called on the CPU.
pub(crate) fn set_in_use(cpu: usize, in_use: InUse) {
    if let Some(slot) = slot(cpu) {
        slot.in_use.store(in_use == InUse::Yes, Ordering::Relaxed);
    }
}

/// Returns whether core KVM uses `cpu`.
pub(crate) fn in_use(cpu: usize) -> InUse {
    match slot(cpu) {
        Some(slot) if slot.in_use.load(Ordering::Relaxed) => InUse::Yes,
        _ => InUse::No,
    }
}

#[kunit_tests(kvm_riscv_residency)]
mod tests {
    use super::*;
    use crate::kernel_ext::context::PreemptOff;

    /// As if vCPUs were loaded on this CPU, one after another; the next real one loads everything.
    #[test]
    fn cpu_holds_the_registers_of_the_vcpu_loaded_last() -> Result {
        let slots = slots().ok_or(ENODEV)?;
        let preempt = PreemptOff::new();
        let cpu = preempt.cpu();
        let (mut one, mut other) = (CtxGeneration::NONE, CtxGeneration::NONE);
        let found = [
            slots.take(cpu, &mut one),
            slots.take(cpu, &mut one),
            slots.take(cpu, &mut other),
            slots.take(cpu, &mut one),
            slots.take(cpu, &mut one),
        ];
        drop(preempt);
        let wanted = [
            Residency::Evicted,
            Residency::Resident,
            Residency::Evicted,
            Residency::Evicted,
            Residency::Resident,
        ];
        assert!(found == wanted);
        Ok(())
    }

    #[test]
    fn cpu_without_a_slot_holds_no_registers() -> Result {
        let slots = slots().ok_or(ENODEV)?;
        let preempt = PreemptOff::new();
        let mut generation = CtxGeneration::NONE;
        let found = slots.take(slots.0.len(), &mut generation);
        drop(preempt);
        assert!(found == Residency::Evicted);
        assert!(generation == CtxGeneration::NONE);
        Ok(())
    }
}
