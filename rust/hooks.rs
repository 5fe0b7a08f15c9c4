// SPDX-License-Identifier: GPL-2.0

//! Inbound: the functions that core KVM and other parts of the kernel call.
//!
//! Each turns raw pointers into our types, calls one safe function, and turns its result into the
//! integer that its caller expects. It has the name that the C module gives it, and
//! [`check_prototype`](crate::bindings::check_prototype) compares its type with the declaration
//! that core KVM was compiled against.

pub(crate) mod aia;
pub(crate) mod cap;
pub(crate) mod cpu;
#[cfg(CONFIG_DEBUG_FS)]
pub(crate) mod debugfs;
pub(crate) mod irq_routing;
pub(crate) mod mmu;
pub(crate) mod module;
pub(crate) mod state;
pub(crate) mod vcpu;
pub(crate) mod vm;
