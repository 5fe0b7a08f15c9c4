// SPDX-License-Identifier: GPL-2.0

//! Atomics of pure modules. The kernel's are `core`'s; the host tests put loom's here.
//!
//! `core`'s and not [`kernel::sync::atomic`]: the other party is often the hardware walker or a
//! file that must also compile on the host, and neither knows the kernel's memory model. The
//! orderings used mean the same in both.

pub(crate) use core::sync::atomic::{
    fence, //
    AtomicBool,
    AtomicPtr,
    AtomicU32,
    AtomicU64,
    Ordering,
};
