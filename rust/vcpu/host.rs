// SPDX-License-Identifier: GPL-2.0

//! Facts of the host, probed once at module init and constant from then on.
//!
//! Answers to the probing half of `main.c`, and to the host checks that C repeats on every vCPU
//! creation and register access.

use kernel::prelude::*;

use crate::{
    arch::{
        cpufeature::{
            self,
            MachineIds, //
        },
        csr::{
            self,
            Direct,
            Registers, //
        },
        inval,
        supervisor::SatpModes,
        vector, //
    },
    bindings,
    isa::{
        HostIsa,
        VectorUse, //
    },
    kernel_ext::{
        context::PreemptOff,
        module_cell::{
            ModuleCell,
            ModuleCellOwner, //
        },
        sched, //
    },
    sbi_abi::{
        fwft,
        table::Extension, //
    },
    vcpu::pmu::{
        self,
        layout::Layout,
        perf_event, //
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
    /// Combined translations are not tagged with the guest physical address and VMID, so that a
    /// G-stage fence does not reach them (Andes AX66).
    pub(crate) split_tlb: bool,
    /// How guests can translate addresses.
    pub(crate) satp_modes: SatpModes,
    /// The performance counters that guests can have.
    pub(crate) counters: Option<Layout>,
    /// What firmware features can make of the host.
    pub(crate) features: fwft::Host,
    /// Identity of the harts.
    pub(crate) machine: MachineIds,
}

/// The facts, from [`probe`] until its result is dropped.
static HOST: ModuleCell<Host> = ModuleCell::new();

/// `mvendorid` of Andes.
const ANDES: usize = 0x31e;
/// The part of `marchid` that names the AX66.
const ANDES_AX66: usize = 0x8a66;

/// Asks the host. Called once, before core KVM can create a VM; the result is dropped after
/// all that asks for the facts.
///
/// # Errors
///
/// `ENOMEM`; `EEXIST` if called twice.
pub(crate) fn probe() -> Result<ModuleCellOwner<Host>> {
    let machine = cpufeature::machine_ids();
    inval::probe();
    let host = Host {
        isa: HostIsa::probe(cpufeature::host_has),
        vector_size: vector::size(),
        smstateen: cpufeature::host_has(bindings::RISCV_ISA_EXT_SMSTATEEN),
        zicfiss: cpufeature::host_has(bindings::RISCV_ISA_EXT_ZICFISS),
        sstc: cpufeature::host_has(bindings::RISCV_ISA_EXT_SSTC),
        split_tlb: machine.vendor == ANDES && machine.arch & 0xffff == ANDES_AX66,
        satp_modes: satp_modes(),
        counters: perf_event::layout(),
        features: fwft::Host {
            misaligned_traps: cpufeature::misaligned_traps_reach_us(),
            pmlen_7: masks_pointers(bindings::ENVCFG_PMM_PMLEN_7),
            pmlen_16: masks_pointers(bindings::ENVCFG_PMM_PMLEN_16),
        },
        machine,
    };
    // SAFETY: The owner is a field of `Kvm` that is dropped after all that reads the facts, or, if
    // module init fails, a variable that outlives all that was begun. So no code of the module that
    // reads them runs when it is dropped.
    unsafe { HOST.own(host) }
}

/// Returns whether VS-mode of this CPU, hence of all, can ignore as many bits of an address as
/// `pmm` says, a value of henvcfg.PMM.
fn masks_pointers(pmm: usize) -> bool {
    if !cpufeature::host_has(bindings::RISCV_ISA_EXT_SSNPM) {
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

/// Returns the modes that `vsatp` of this CPU takes, hence that of all. A host that runs with fewer
/// levels than its harts have does not keep guests from using them.
fn satp_modes() -> SatpModes {
    let _preempt = PreemptOff::new();
    // No vCPU is loaded, but the host may have left something here.
    let before = Direct.read(csr::VSATP);
    let modes = SatpModes::CANDIDATES
        .into_iter()
        .fold(SatpModes::BARE, |modes, satp| {
            Direct.write(csr::VSATP, 0);
            if Direct.write_readback(csr::VSATP, satp) == satp {
                modes.with(satp)
            } else {
                modes
            }
        });
    Direct.write(csr::VSATP, before);
    modes
}

/// Returns the facts, once [`probe`] has asked.
#[inline]
pub(crate) fn get() -> Option<&'static Host> {
    HOST.get()
}

/// Returns whether the calling process may use vectors, hence give them to a guest.
pub(crate) fn vector_use() -> VectorUse {
    if cpufeature::may_use_vectors() {
        VectorUse::Permitted
    } else {
        VectorUse::Denied
    }
}

/// Returns whether the host has what it takes for `extension`. Asked when a vCPU is made; what is
/// missing then does not exist for it.
pub(crate) fn provides_sbi(extension: Extension) -> bool {
    match extension {
        Extension::Sta => sched::counts_waiting(),
        Extension::Pmu => pmu::layout().is_some(),
        _ => true,
    }
}
