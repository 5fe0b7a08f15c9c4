// SPDX-License-Identifier: GPL-2.0

//! The host's side of `crate::sync`: plain atomics, or loom's when it explores interleavings.

/// Atomics.
pub(crate) mod atomic {
    #[cfg(not(loom))]
    pub(crate) use core::sync::atomic::*;
    #[cfg(loom)]
    pub(crate) use loom::sync::atomic::*;
}
