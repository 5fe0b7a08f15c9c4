// SPDX-License-Identifier: GPL-2.0

//! The pure modules of kvm-riscv-rs, compiled on the host from the very files that the kernel
//! module is built from, and their tests. There is nothing else: without tests, it is empty.
//!
//! A module joins by its second line, which says that it is pure, and has its tests in
//! `src/tests/<area>.rs`.

#![cfg(test)]

// `bitfield!` implements `::pin_init::Zeroable`.
extern crate kernel as pin_init;

mod bindings;
mod kernel_ext;

// Made by build.rs: `tree` has the pure files below `rust/`, at their paths there.
include!(concat!(env!("OUT_DIR"), "/tree.rs"));

mod tests {
    #[cfg(not(loom))]
    mod addr;
    mod aia {
        #[cfg(not(loom))]
        mod aplic;
        #[cfg(not(loom))]
        mod config;
        #[cfg(not(loom))]
        mod csr;
        mod imsic;
        #[cfg(not(loom))]
        mod layout;
    }
    #[cfg(loom)]
    mod explore;
    #[cfg(not(loom))]
    mod fwft;
    mod gstage;
    #[cfg(not(loom))]
    mod icache;
    #[cfg(not(loom))]
    mod insn;
    mod irq;
    #[cfg(not(loom))]
    mod isa;
    #[cfg(not(loom))]
    mod nacl;
    #[cfg(not(loom))]
    mod onereg;
    #[cfg(not(loom))]
    mod pmu;
    #[cfg(not(loom))]
    mod sbi;
    #[cfg(not(loom))]
    mod sta;
    #[cfg(not(loom))]
    mod supervisor;
    mod vmid;
}
