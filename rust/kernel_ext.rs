// SPDX-License-Identifier: GPL-2.0

//! What `rust/kernel` lacks, each file a candidate for upstream; its header says what is missing
//! there. The lowest layer: nothing here knows KVM.

pub(crate) mod atomic;
pub(crate) mod compat;
pub(crate) mod context;
pub(crate) mod cpu;
pub(crate) mod folio;
pub(crate) mod module_cell;
pub(crate) mod nospec;
pub(crate) mod raw_spinlock;
pub(crate) mod sched;
pub(crate) mod time;
pub(crate) mod uaccess;
