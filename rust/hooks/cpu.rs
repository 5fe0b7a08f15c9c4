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

/// This CPU is about to lose its registers in idle.
pub(crate) fn idle_enter() {
    let cpu = cpu();
    if residency::in_use(cpu) == InUse::Yes {
        clear();
        hgei::idle_enter(cpu);
    }
}

/// This CPU is back from idle, without its registers.
pub(crate) fn idle_exit() {
    let cpu = cpu();
    if residency::in_use(cpu) == InUse::Yes {
        write_defaults();
        hgei::idle_exit(cpu);
    }
}

fn clear() {
    csr::delegate_nothing(&Direct);
    residency::evict(cpu());
}

/// Every caller is bound to its CPU; the guard only asks which one it is.
fn cpu() -> usize {
    PreemptOff::new().cpu()
}
