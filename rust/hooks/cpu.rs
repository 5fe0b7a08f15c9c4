// SPDX-License-Identifier: GPL-2.0

//! The hypervisor extension of each CPU: switched on, switched off, and found again after a CPU
//! lost its state in idle. Answers to the hardware half of `main.c`.

use kernel::prelude::*;

use crate::{
    aia::hgei,
    arch::{
        csr::{
            self,
            Direct,
            Registers, //
        },
        nacl, //
    },
    kernel_ext::context::PreemptOff,
    vcpu::residency::{
        self,
        InUse, //
    }, //
};

/// The only counter that a guest reads without trapping: `time`.
const HCOUNTEREN: usize = 1 << 1;

/// Makes this CPU ready to be entered with a guest. Interrupts are off, or the CPU is coming up.
///
/// # Errors
///
/// The firmware's, if it has nested acceleration: the CPU is not ready.
pub(crate) fn enable_cpu() -> Result {
    let cpu = cpu();
    nacl::enable_cpu()?;
    write_defaults();
    hgei::enable_cpu(cpu);
    residency::set_in_use(cpu, InUse::Yes);
    Ok(())
}

/// Sets the hypervisor registers to their values while no vCPU is loaded.
fn write_defaults() {
    csr::delegate_nothing(&Direct);
    Direct.write(csr::HCOUNTEREN, HCOUNTEREN);
}

/// Leaves nothing of any guest in this CPU.
pub(crate) fn disable_cpu() {
    let cpu = cpu();
    clear();
    hgei::disable_cpu(cpu);
    nacl::disable_cpu();
    residency::set_in_use(cpu, InUse::No);
}

/// Prepares this CPU for losing its registers in idle. Interrupts are off.
pub(crate) fn idle_enter() {
    let cpu = cpu();
    if residency::in_use(cpu) == InUse::Yes {
        clear();
        hgei::idle_enter(cpu);
    }
}

/// Makes this CPU ready again after idle, in which it lost its registers. Interrupts are off.
pub(crate) fn idle_exit() {
    let cpu = cpu();
    if residency::in_use(cpu) == InUse::Yes {
        write_defaults();
        hgei::idle_exit(cpu);
    }
}

/// Clears what could interrupt the host, and forgets whose registers this CPU has.
fn clear() {
    csr::delegate_nothing(&Direct);
    residency::evict(cpu());
}

/// Returns this CPU. Every caller is bound to it; the guard only asks which one it is.
fn cpu() -> usize {
    PreemptOff::new().cpu()
}
