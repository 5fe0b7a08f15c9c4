// SPDX-License-Identifier: GPL-2.0

//! The system reset extension. Answers to `kvm_sbi_ext_srst_handler()` and
//! `kvm_riscv_vcpu_sbi_system_reset()`.

use crate::{
    bindings,
    sbi::Outcome,
    sbi_abi::message::{
        Reset,
        ResetKind, //
    },
    vcpu::{
        request::Request,
        token::Loaded, //
        ExitAction,
    }, //
};

/// Stops every hart and exits to userspace, which resets or ends the VM. The call does not return:
/// pc stays where it is until userspace resets the hart.
pub(super) fn handle(vcpu: &mut Loaded<'_>, reset: Reset) -> Outcome {
    let vm = vcpu.vcpu().vm();
    vm.stop_all();
    // The next system must not find steal time in its memory that the previous one has asked for.
    vm.vcpus().for_each(|vcpu| vcpu.shared().steal.stop());
    vm.request_all(Request::Sleep);
    let event = match reset.kind {
        ResetKind::Shutdown => bindings::KVM_SYSTEM_EVENT_SHUTDOWN,
        ResetKind::Reboot => bindings::KVM_SYSTEM_EVENT_RESET,
    };
    vcpu.run_page()
        .exit_system_event(event, u64::from(reset.reason));
    Outcome::Exit(ExitAction::Userspace)
}
