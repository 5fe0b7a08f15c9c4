// SPDX-License-Identifier: GPL-2.0

//! Outbound: core KVM's objects and functions, for safe callers. `struct kvm`, `struct kvm_vcpu`,
//! memslots, `kvm_run`, the I/O buses and core KVM's locks, in plain types.
//!
//! The state that the layers above keep in a VM or a vCPU is theirs: each owns its part, and
//! [`object`] finds a part by its type.

pub(crate) mod addr;
pub(crate) mod calls;
pub(crate) mod guestmem;
pub(crate) mod host_mapping;
pub(crate) mod hostmm;
pub(crate) mod iodev;
pub(crate) mod irqfd;
pub(crate) mod locks;
pub(crate) mod memslot;
pub(crate) mod mmu_lock;
pub(crate) mod object;
pub(crate) mod runpage;
pub(crate) mod srcu;
pub(crate) mod stats;
