// SPDX-License-Identifier: GPL-2.0

//! The host's side of `crate::kernel_ext`: plain atomics, or loom's when it explores interleavings; and
//! no protection against speculation.

/// Atomics.
pub(crate) mod atomic {
    #[cfg(not(loom))]
    pub(crate) use core::sync::atomic::*;
    #[cfg(loom)]
    pub(crate) use loom::sync::atomic::*;
}

/// Bounds checks.
pub(crate) mod nospec {
    /// `index` if it is below `len`, otherwise 0.
    pub(crate) fn index(index: usize, len: usize) -> usize {
        if index < len {
            index
        } else {
            0
        }
    }
}
