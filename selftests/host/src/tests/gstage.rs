// SPDX-License-Identifier: GPL-2.0

//! The G-stage engine: formats, every operation against a model, and interleavings.

mod arena;
#[cfg(not(loom))]
mod cases;
#[cfg(not(loom))]
mod concurrent;
#[cfg(not(loom))]
mod format;
#[cfg(not(loom))]
mod huge;
#[cfg(loom)]
mod interleave;
#[cfg(not(loom))]
mod model;
#[cfg(not(loom))]
mod ops;
#[cfg(not(loom))]
mod random;
#[cfg(not(loom))]
mod recovery;
#[cfg(loom)]
mod runs;
