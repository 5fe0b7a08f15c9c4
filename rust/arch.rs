// SPDX-License-Identifier: GPL-2.0

//! The machine: registers, fences, the world switch, and reads of guest memory. The `unsafe` code
//! for them is here, so that the layers above need none. No file of this layer accesses a vCPU's
//! state.

pub(crate) mod aia;
pub(crate) mod cpufeature;
pub(crate) mod csr;
pub(crate) mod fence;
pub(crate) mod fp;
pub(crate) mod gprs;
pub(crate) mod hgatp;
pub(crate) mod hlv;
pub(crate) mod inval;
pub(crate) mod irq_bits;
pub(crate) mod nacl;
pub(crate) mod registers;
pub(crate) mod supervisor;
pub(crate) mod switch;
pub(crate) mod vector;
