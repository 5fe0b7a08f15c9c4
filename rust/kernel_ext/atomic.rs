// SPDX-License-Identifier: GPL-2.0

//! Atomics of pure modules. The kernel's are `core`'s; the host tests put loom's here.
//!
//! `core`'s and not [`kernel::sync::atomic`], which has neither `fetch_or` nor `fetch_and`: without
//! them each bit of a request, an interrupt or a page-table entry would be a loop of `cmpxchg`. The
//! orderings used mean the same in both memory models.

pub(crate) use core::sync::atomic::{
    fence, //
    AtomicBool,
    AtomicPtr,
    AtomicU32,
    AtomicU64,
    Ordering,
};
