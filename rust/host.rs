// SPDX-License-Identifier: GPL-2.0

//! What this host is: asked once, at module init, and constant from then on.
//!
//! Answers to the probing half of `main.c`, and to the host checks that C repeats on every vCPU
//! creation and register access.

use kernel::prelude::*;

use crate::{
    abi::{
        core as kvm,
        perf, //
    },
    arch::{
        csr::{
            self,
            Direct,
            Registers, //
        },
        supervisor::SatpModes, //
    },
    bindings,
    isa::{
        HostIsa,
        VectorUse, //
    },
    sbi::fwft,
    sync::{
        atomic::{
            AtomicBool,
            AtomicU64,
            Ordering, //
        },
        module::{
            OfModule,
            Owner, //
        },
        PreemptOff, //
    },
    vcpu::{
        pmu::layout::Layout,
        MachineIds, //
    }, //
};

/// The facts.
pub(crate) struct Host {
    /// Extensions that can be offered to guests, and under which policy.
    pub(crate) isa: HostIsa,
    /// Bytes of all 32 vector registers; 0 without the V extension.
    pub(crate) vector_size: usize,
    /// The host has hstateen0 and sstateen0.
    pub(crate) smstateen: bool,
    /// The host has the ssp register.
    pub(crate) zicfiss: bool,
    /// The host has vstimecmp.
    pub(crate) sstc: bool,
    /// The host has the fine-grained invalidations.
    pub(crate) svinval: bool,
    /// Combined translations are not tagged with the guest physical address and VMID, so that a
    /// G-stage fence does not reach them (Andes AX66).
    pub(crate) split_tlb: bool,
    /// How guests can translate addresses.
    pub(crate) satp_modes: SatpModes,
    /// The performance counters that guests can have.
    pub(crate) counters: Option<Layout>,
    /// What firmware features can make of the host.
    pub(crate) features: fwft::state::Host,
    /// Identity of the harts.
    pub(crate) machine: MachineIds,
    /// Which vCPU's registers are in each CPU; see [`Host::claim`].
    residents: KVec<Residence>,
}

/// One CPU's cell, on a cache line of its own.
#[repr(align(64))]
struct Residence {
    stamp: AtomicU64,
    in_use: AtomicBool,
}

static HOST: OfModule<Host> = OfModule::new();

/// `mvendorid` of Andes, and the part of `marchid` that names the AX66.
const ANDES: usize = 0x31e;
const ANDES_AX66: usize = 0x8a66;

/// Asks the host. Called once, before core KVM can create a VM; the result is dropped last of all.
///
/// # Errors
///
/// `ENOMEM`; `EEXIST` if called twice.
pub(crate) fn probe() -> Result<Owner<Host>> {
    let machine = kvm::machine_ids();
    let mut residents = KVec::new();
    for _ in 0..kvm::cpu_ids() {
        let cell = Residence {
            stamp: AtomicU64::new(0),
            in_use: AtomicBool::new(false),
        };
        residents.push(cell, GFP_KERNEL)?;
    }
    let host = Host {
        isa: HostIsa::probe(kvm::host_has),
        vector_size: crate::arch::vector::size(),
        smstateen: kvm::host_has(bindings::RISCV_ISA_EXT_SMSTATEEN),
        zicfiss: kvm::host_has(bindings::RISCV_ISA_EXT_ZICFISS),
        sstc: kvm::host_has(bindings::RISCV_ISA_EXT_SSTC),
        svinval: kvm::host_has(bindings::RISCV_ISA_EXT_SVINVAL),
        split_tlb: machine.vendor == ANDES && machine.arch & 0xffff == ANDES_AX66,
        satp_modes: satp_modes(),
        counters: perf::layout(),
        features: fwft::state::Host {
            misaligned_traps: kvm::misaligned_traps_reach_us(),
            pmlen_7: masks_pointers(bindings::ENVCFG_PMM_PMLEN_7),
            pmlen_16: masks_pointers(bindings::ENVCFG_PMM_PMLEN_16),
        },
        machine,
        residents,
    };
    // SAFETY: The owner is the last field of `Kvm` to be dropped, or, if module init fails, a
    // variable that outlives all that was begun. So nothing else of the module runs when it is
    // dropped.
    unsafe { HOST.own(host) }
}

/// Whether VS-mode of this CPU, hence of all, can ignore as many bits of an address as `pmm` says,
/// a value of henvcfg.PMM.
fn masks_pointers(pmm: usize) -> bool {
    if !kvm::host_has(bindings::RISCV_ISA_EXT_SSNPM) {
        return false;
    }
    let _preempt = PreemptOff::new();
    // No vCPU is loaded, but the host may have left something here.
    let before = Direct.read(csr::HENVCFG);
    Direct.write(csr::HENVCFG, before & !bindings::ENVCFG_PMM | pmm);
    let accepted = Direct.read(csr::HENVCFG) & bindings::ENVCFG_PMM == pmm;
    Direct.write(csr::HENVCFG, before);
    accepted
}

/// The modes that `vsatp` of this CPU takes, hence that of all. A host that runs with fewer levels
/// than its harts have does not keep guests from using them.
fn satp_modes() -> SatpModes {
    let _preempt = PreemptOff::new();
    // No vCPU is loaded, but the host may have left something here.
    let before = Direct.read(csr::VSATP);
    let modes = SatpModes::CANDIDATES
        .into_iter()
        .fold(SatpModes::BARE, |modes, satp| {
            Direct.write(csr::VSATP, 0);
            if Direct.learn(csr::VSATP, satp) == satp {
                modes.with(satp)
            } else {
                modes
            }
        });
    Direct.write(csr::VSATP, before);
    modes
}

/// The facts, once [`probe`] has asked.
#[inline]
pub(crate) fn get() -> Option<&'static Host> {
    HOST.get()
}

/// Whether the calling process may use vectors, hence give them to a guest.
pub(crate) fn vector_use() -> VectorUse {
    if kvm::may_use_vectors() {
        VectorUse::Permitted
    } else {
        VectorUse::Denied
    }
}

/// A stamp on a CPU: "the guest registers in this CPU are those of the vCPU that holds the same
/// stamp". Every full load makes a new one, so a vCPU that was loaded elsewhere in between, or
/// changed in memory, holds another or none, whatever the CPU's number (c-review M2).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp(u64);

impl Stamp {
    /// Matches no CPU.
    pub(crate) const NONE: Stamp = Stamp(0);
}

static NEXT_STAMP: AtomicU64 = AtomicU64::new(1);

impl Host {
    /// Whether `cpu` still holds the registers of the vCPU with `stamp`. If not, the CPU is claimed
    /// for that vCPU, which must load everything, and `stamp` becomes the new one.
    ///
    /// Called on `cpu`, with preemption off.
    #[inline]
    pub(crate) fn claim(&self, cpu: usize, stamp: &mut Stamp) -> Claim {
        match self.residents.get(cpu) {
            Some(cell)
                if *stamp != Stamp::NONE && cell.stamp.load(Ordering::Relaxed) == stamp.0 =>
            {
                Claim::Resident
            }
            Some(cell) => {
                *stamp = Stamp(NEXT_STAMP.fetch_add(1, Ordering::Relaxed));
                cell.stamp.store(stamp.0, Ordering::Relaxed);
                Claim::Fresh
            }
            None => Claim::Fresh,
        }
    }
}

/// What [`Host::claim`] found.
#[derive(Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Claim {
    /// The registers are where they were put.
    Resident,
    /// The registers of another vCPU, or of none, are there.
    Fresh,
}

/// The guest registers of `cpu` are lost or cleared: those of no vCPU are there.
pub(crate) fn evict(cpu: usize) {
    if let Some(cell) = get().and_then(|host| host.residents.get(cpu)) {
        cell.stamp.store(0, Ordering::Relaxed);
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

/// Notes that `cpu` comes into use, or goes out of it. Called on the CPU.
pub(crate) fn set_in_use(cpu: usize, in_use: InUse) {
    if let Some(cell) = get().and_then(|host| host.residents.get(cpu)) {
        cell.in_use.store(in_use == InUse::Yes, Ordering::Relaxed);
    }
}

/// Whether `cpu` is in use.
pub(crate) fn in_use(cpu: usize) -> InUse {
    match get().and_then(|host| host.residents.get(cpu)) {
        Some(cell) if cell.in_use.load(Ordering::Relaxed) => InUse::Yes,
        _ => InUse::No,
    }
}

#[kunit_tests(kvm_riscv_host)]
mod tests {
    use super::*;

    /// As if vCPUs were loaded on this CPU, one after another; the next real one loads everything.
    #[test]
    fn registers_belong_to_who_claimed_the_cpu_last() -> Result {
        let host = get().ok_or(ENODEV)?;
        let preempt = PreemptOff::new();
        let cpu = preempt.cpu();
        let (mut one, mut other) = (Stamp::NONE, Stamp::NONE);
        let found = [
            host.claim(cpu, &mut one),
            host.claim(cpu, &mut one),
            host.claim(cpu, &mut other),
            host.claim(cpu, &mut one),
            host.claim(cpu, &mut one),
        ];
        drop(preempt);
        let wanted = [
            Claim::Fresh,
            Claim::Resident,
            Claim::Fresh,
            Claim::Fresh,
            Claim::Resident,
        ];
        assert!(found == wanted);
        Ok(())
    }

    #[test]
    fn no_stamp_is_of_no_vcpu() -> Result {
        let host = get().ok_or(ENODEV)?;
        let preempt = PreemptOff::new();
        let mut stamp = Stamp::NONE;
        // This CPU has no cell, and a CPU that no vCPU has claimed has no stamp, either.
        let found = host.claim(host.residents.len(), &mut stamp);
        drop(preempt);
        assert!(found == Claim::Fresh);
        assert!(stamp == Stamp::NONE);
        Ok(())
    }
}
