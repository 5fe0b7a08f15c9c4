// SPDX-License-Identifier: GPL-2.0

//! The pure modules of kvm-riscv-rs, compiled on the host from the very files that the kernel
//! module is built from, and their tests. There is nothing else: without tests, it is empty.
//!
//! A module joins by one `mod` line in [`tree`] (its path below `rust/` is its path there), one
//! `use` line below if it is a root module, and tests in `src/tests/<area>.rs`.

#![cfg(test)]

// `bitfield!` implements `::pin_init::Zeroable`.
extern crate kernel as pin_init;

mod bindings;
mod sync;

// What the kernel module uses need not have a test; what nobody uses, its own build tells.
#[allow(dead_code, unused_imports)]
#[path = "../../../rust"]
mod tree {
    pub(crate) mod abi {
        pub(crate) mod perf_absent;
    }

    pub(crate) mod aia {
        pub(crate) mod aplic;
        pub(crate) mod config;
        pub(crate) mod imsic {
            pub(crate) mod file;
            pub(crate) mod iprio;
        }
        pub(crate) mod layout;
        pub(crate) mod msi;
    }

    // The other party of its atomics is no thread of ours.
    #[cfg(not(loom))]
    pub(crate) mod arch {
        pub(crate) mod nacl {
            pub(crate) mod hfence;
            pub(crate) mod memory;
            pub(crate) mod provider;
            pub(crate) mod shared;
        }
        pub(crate) mod registers;
        pub(crate) mod supervisor;
    }

    pub(crate) mod isa;

    pub(crate) mod mem {
        pub(crate) mod addr;
        pub(crate) mod gstage;
        pub(crate) mod icache;
        pub(crate) mod vmid;
    }

    pub(crate) mod sbi {
        pub(crate) mod fwft {
            pub(crate) mod state;
        }
        pub(crate) mod message;
        pub(crate) mod sta {
            pub(crate) mod area;
        }
        pub(crate) mod table;
    }

    pub(crate) mod vcpu {
        /// No vCPU of the host's needs anything.
        pub(crate) struct Vcpu;

        pub(crate) mod config;
        pub(crate) mod gprs;
        pub(crate) mod insn;

        pub(crate) mod irq {
            pub(crate) mod bits;
        }

        pub(crate) mod onereg {
            pub(crate) mod id;
        }

        pub(crate) mod pmu {
            pub(crate) mod counters;
            pub(crate) mod event;
            pub(crate) mod firmware;
            pub(crate) mod layout;
            pub(crate) mod wrap;
        }
    }
}

#[cfg(not(loom))]
use tree::{
    abi,
    arch, //
};
// Not all of them have anything for loom.
#[cfg_attr(loom, allow(unused_imports))]
use tree::{
    aia,
    isa,
    mem,
    sbi,
    vcpu, //
};

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
