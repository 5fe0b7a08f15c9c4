// SPDX-License-Identifier: GPL-2.0

//! The reset of a hart. Answers to `kvm_riscv_reset_vcpu()` and to
//! `kvm_arch_vcpu_ioctl_set_mpstate()`.

use kernel::prelude::*;

use crate::{
    arch::{
        gprs::Reg,
        switch::SwitchContext, //
    },
    kernel_ext::atomic::Ordering,
    vcpu::{
        irq::Wires,
        mp_state::{
            KvmMpState,
            Start, //
        },
        request::Request,
        token::OwnedVcpu, //
    }, //
};

impl OwnedVcpu<'_> {
    /// Applies a reset that another hart asked for, so that what follows sees its outcome.
    pub(crate) fn apply_pending_reset(&mut self) {
        if self.vcpu().take_request(Request::Reset) {
            self.apply_reset();
        }
    }

    /// Serves [`Request::Reset`], which the caller has taken: the hart begins where it was told to.
    pub(crate) fn apply_reset(&mut self) {
        let vcpu = self.vcpu();
        let mp_state = &vcpu.shared().mp_state;
        let Some(start) = mp_state.pending_start() else {
            return;
        };
        self.reset(Some(start));
        mp_state.start_applied(vcpu);
    }

    /// Resets the hart; with `start`, to begin where HSM or SUSP said.
    pub(crate) fn reset(&mut self, start: Option<Start>) {
        if let Some(imsic) = self.vcpu().imsic() {
            imsic.reset(self.vcpu());
        }
        self.initialise(start);
    }

    /// Gives the hart itself the state of a reset. A vCPU that is being created has no position
    /// among the vCPUs yet, hence no interrupt file.
    pub(crate) fn initialise(&mut self, start: Option<Start>) {
        self.ctx = SwitchContext::reset();
        // An answer of userspace to an exit from before the reset is void.
        self.pending = None;
        if let Some(start) = start {
            self.ctx.set_pc(start.pc);
            let hart = self.vcpu().hart().get() as usize;
            self.ctx.gprs.set(Reg::A0, hart);
            self.ctx.gprs.set(Reg::A1, start.opaque);
        }
        self.sbi.reset();
        self.vector().reset();
        let (inner, context) = self.split();
        context.reset(inner.isa.effective(), inner.hyp_config());
        let shared = self.vcpu().shared();
        shared.timer.reset();
        // Userspace that resets the hart itself has reset what drives the wire, too.
        shared.irqs.reset(match (start, self.vcpu().imsic()) {
            (Some(_), None) => Wires::Stay,
            (Some(_), Some(_)) | (None, _) => Wires::Low,
        });
        self.vcpu().hfences().clear();
        self.pmu.reset(&shared.firmware);
    }
}

/// Sets the state of the hart (`KVM_SET_MP_STATE`). No thread waits in `KVM_RUN` while the mutex is
/// held, so none is woken.
///
/// # Errors
///
/// `EINVAL` for a reset that `KVM_CAP_RISCV_MP_STATE_RESET` has not enabled.
pub(crate) fn set_mp_state(vcpu: &mut OwnedVcpu<'_>, state: KvmMpState) -> Result {
    match state {
        KvmMpState::Runnable => vcpu.vcpu().shared().mp_state.set_runnable(),
        KvmMpState::Stopped => vcpu.vcpu().stop(),
        KvmMpState::InitReceived => {
            let vm = vcpu.vcpu().vm().state();
            if !vm.mp_state_reset.load(Ordering::Relaxed) {
                return Err(EINVAL);
            }
            // A start that was under way comes first; otherwise it would undo this.
            vcpu.apply_pending_reset();
            vcpu.reset(None);
        }
    }
    Ok(())
}
