// SPDX-License-Identifier: GPL-2.0

//! The G-stage engine: formats, every operation against a model, and interleavings.

mod arena;
#[cfg(not(loom))]
mod cases;
#[cfg(not(loom))]
mod format;
#[cfg(loom)]
mod interleave;
#[cfg(not(loom))]
mod model;
#[cfg(not(loom))]
mod ops;
#[cfg(not(loom))]
mod random;
