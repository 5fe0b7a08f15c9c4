// SPDX-License-Identifier: GPL-2.0

//! What a vCPU can be asked to do before it next enters the guest. Answers to the `KVM_REQ_*` of
//! `asm/kvm_host.h` and `linux/kvm_host.h`.
//!
//! The bits themselves are core KVM's, in `vcpu->requests`; see
//! [`Vcpu::request`](crate::kvm_core::object::Vcpu::request) and its kin. No locks.

use crate::{
    bindings,
    kvm_core::{
        calls as kvm,
        object::Vm, //
    }, //
};

/// A request. Exhaustive: the code that serves requests names each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// The VM is dead: `KVM_RUN` fails for good.
    VmDead,
    /// The hart may have been stopped: wait until it is started.
    Sleep,
    /// Reset the hart; [`MpState`](crate::vcpu::mp_state::MpState) has where it is to start.
    Reset,
    /// Synchronise instruction fetches with stores.
    FenceI,
    /// Forget all G-stage translations of the VM.
    TlbFlush,
    /// Execute the fences that wait in the vCPU's queue.
    Hfence,
    /// Move the interrupt file: it is not in hardware, or not on this CPU.
    InterruptFile,
    /// The thread had to wait for a CPU: report it to the guest.
    StealTime,
    /// Do not block, but check the guest once more.
    Unblock,
    /// The dirty ring is so full that userspace must collect it.
    DirtyRingSoftFull,
}

impl Request {
    /// All of them, in the order in which they are served: the dirty ring before whatever may write
    /// to guest memory; a hart that is stopped waits before it is reset, all else is dealt with
    /// after the reset, and the interrupt file, whose move leaves translations to be forgotten,
    /// before them.
    pub(crate) const ALL: [Self; 10] = [
        Self::VmDead,
        Self::DirtyRingSoftFull,
        Self::Sleep,
        Self::Reset,
        Self::FenceI,
        Self::TlbFlush,
        Self::InterruptFile,
        Self::Hfence,
        Self::StealTime,
        Self::Unblock,
    ];

    /// Returns core KVM's constant, with the flags that say how the request is made.
    pub(crate) const fn raw(self) -> u32 {
        let raw = match self {
            Self::VmDead => bindings::KVM_REQ_VM_DEAD,
            Self::Sleep => bindings::KVM_REQ_SLEEP,
            Self::Reset => bindings::KVM_REQ_VCPU_RESET,
            Self::FenceI => bindings::KVM_REQ_FENCE_I,
            Self::TlbFlush => bindings::KVM_REQ_TLB_FLUSH,
            Self::Hfence => bindings::KVM_REQ_HFENCE,
            Self::InterruptFile => bindings::KVM_REQ_INTERRUPT_FILE,
            Self::StealTime => bindings::KVM_REQ_STEAL_UPDATE,
            Self::Unblock => bindings::KVM_REQ_UNBLOCK as usize,
            Self::DirtyRingSoftFull => bindings::KVM_REQ_DIRTY_RING_SOFT_FULL as usize,
        };
        raw as u32
    }

    /// Returns the request's bit in `vcpu->requests`.
    pub(crate) const fn bit(self) -> u64 {
        1 << (self.raw() & kvm::REQUEST_MASK)
    }
}

/// Each request has a bit of its own, which exists.
const _: () = {
    let mut seen = 0;
    let mut i = 0;
    while i < Request::ALL.len() {
        let request = Request::ALL[i];
        assert!((request.raw() & kvm::REQUEST_MASK) < u64::BITS);
        assert!(seen & request.bit() == 0);
        seen |= request.bit();
        i += 1;
    }
};

impl Vm {
    /// Asks every vCPU, and has those in the guest leave it; waits for that if the request's
    /// constant says so. Preemptible, interrupts on.
    pub(crate) fn request_all(&self, request: Request) {
        kvm::request_all(self, request.raw());
    }
}
