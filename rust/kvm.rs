// SPDX-License-Identifier: GPL-2.0

//! KVM for RISC-V: the arch layer of `kvm.ko`. Answers to `main.c`.
//!
//! Core KVM (`virt/kvm` of the kernel tree) is C and calls the arch layer through `hooks`;
//! everything below is Rust. `Documentation/architecture.rst` has the map.

use kernel::prelude::*;

// From the top to the bottom: a file imports only from layers below its own, and
// `tools/check-layers` holds it to that.
mod hooks;

mod run;

mod aia;
mod sbi;

mod mmu;

mod vcpu;

mod vm;

mod sbi_abi;

mod arch;

mod gstage;
mod insn;
mod isa;

mod kvm_core;

mod kernel_ext;

mod bindings;

// What must not compile: `test_source.py` builds the crate with one of these.
#[cfg(kvm_rs_misuse = "literals")]
#[path = "../selftests/misuse/literals.rs"]
mod misuse;
#[cfg(kvm_rs_misuse = "names")]
#[path = "../selftests/misuse/names.rs"]
mod misuse;
#[cfg(kvm_rs_misuse = "types")]
#[path = "../selftests/misuse/types.rs"]
mod misuse;

use crate::{
    aia::hgei,
    arch::{
        nacl,
        vector::VectorCallback, //
    },
    hooks::module,
    kernel_ext::module_cell::ModuleCellOwner,
    vcpu::{
        host::{
            self,
            Host, //
        },
        residency::{
            self,
            CpuSlots, //
        }, //
    }, //
};

module! {
    type: Kvm,
    name: "kvm",
    authors: ["The kvm-riscv-rs developers"],
    description: "Kernel-based Virtual Machine for RISC-V",
    license: "GPL",
}

/// The loaded module; each field undoes its part when it is dropped. Fields are dropped in the
/// order of their declaration, which is the reverse of that in which [`init`](kernel::Module::init)
/// makes them.
struct Kvm {
    _core: module::CoreKvm,
    _aia: Option<AiaSupport>,
    _idle: module::IdleNotifier,
    _perf: module::PerfCallbacks,
    _vector: VectorCallback,
    _nacl: Option<nacl::Acceleration>,
    _host: ModuleCellOwner<Host>,
    _cpus: ModuleCellOwner<CpuSlots>,
}

/// The registrations for the host's AIA: the guest external interrupt, and the device type.
struct AiaSupport {
    _device: hooks::aia::DeviceType,
    _interrupts: hgei::Interrupts,
}

impl AiaSupport {
    /// Registers the interrupt of guest interrupt files and the type of the AIA device; [`None`] on
    /// a host without AIA.
    ///
    /// # Errors
    ///
    /// Those of the host's interrupt controller.
    fn start() -> Result<Option<Self>> {
        let Some(interrupts) = hgei::Interrupts::register()? else {
            return Ok(None);
        };
        Ok(Some(Self {
            _device: hooks::aia::DeviceType::register()?,
            _interrupts: interrupts,
        }))
    }
}

impl kernel::Module for Kvm {
    fn init(module: &'static ThisModule) -> Result<Self> {
        module::require_hypervisor()?;
        let cpus = residency::start()?;
        let host = host::probe()?;
        let nacl = nacl::Acceleration::start()?;
        let gstage = mmu::probe()?;

        pr_info!("hypervisor extension available\n");
        if let Some(nacl) = &nacl {
            nacl.announce();
        }
        pr_info!("highest G-stage page table mode is {:?}\n", gstage.max_mode);
        pr_info!("VMID {} bits available\n", gstage.vmid_bits);

        let vector = VectorCallback::register();
        let perf = module::PerfCallbacks::register();
        let idle = module::IdleNotifier::register()?;
        let aia = AiaSupport::start()?;
        // Start core KVM last: from then on userspace can create VMs.
        let core = module::CoreKvm::start(module)?;
        Ok(Self {
            _core: core,
            _aia: aia,
            _idle: idle,
            _perf: perf,
            _vector: vector,
            _nacl: nacl,
            _host: host,
            _cpus: cpus,
        })
    }
}
