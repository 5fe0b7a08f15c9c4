// SPDX-License-Identifier: GPL-2.0

//! The pure modules of kvm-riscv-rs, compiled on the host from the very files that the kernel
//! module is built from, and their tests.
//!
//! A module joins by one `mod` line in [`tree`] (its path below `rust/` is its path there), one
//! `use` line below if it is a root module, and tests in `src/tests/<area>.rs`.

// The kernel module uses what the tests of one area may not.
#![allow(dead_code, unused_imports)]

// `bitfield!` implements `::pin_init::Zeroable`.
extern crate kernel as pin_init;

pub(crate) mod bindings;
pub(crate) mod sync;

#[path = "../../../rust"]
mod tree {
    pub(crate) mod mem {
        pub(crate) mod addr;
        pub(crate) mod gstage;
        pub(crate) mod vmid;
    }
}

pub(crate) use tree::mem;

#[cfg(test)]
mod tests {
    mod gstage;
    mod vmid;
}
