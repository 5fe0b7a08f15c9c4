// SPDX-License-Identifier: GPL-2.0

//! The base extension: versions, ids, and which extensions there are. Answers to `vcpu_sbi_base.c`.

use crate::{
    bindings,
    sbi::Outcome,
    sbi_abi::{
        message::Base,
        table::Probe, //
    },
    vcpu::VcpuInner, //
};

/// The version of the specification that KVM implements, 3.0.
const SPEC_VERSION: usize = 3 << bindings::SBI_SPEC_VERSION_MAJOR_SHIFT;

/// The number of KVM among the implementations.
const IMPL_KVM: usize = 3;

/// Answers `question` of the base extension. Does not sleep.
pub(super) fn handle(inner: &VcpuInner, question: Base) -> Outcome {
    Outcome::Done(Ok(match question {
        Base::SpecVersion => SPEC_VERSION,
        Base::ImplId => IMPL_KVM,
        Base::ImplVersion => bindings::LINUX_VERSION_CODE,
        Base::Probe(id) => match inner.sbi.find(id).map(|ext| ext.probe()) {
            None => 0,
            Some(Probe::Implemented) => 1,
            Some(Probe::Userspace) => return Outcome::Forward,
        },
        Base::VendorId => inner.machine.vendor,
        Base::ArchId => inner.machine.arch,
        Base::MachineImplId => inner.machine.imp,
    }))
}
