// SPDX-License-Identifier: GPL-2.0

//! The firmware features extension (SBI 3.0, chapter "Firmware Features Extension"). Answers to
//! `vcpu_sbi_fwft.c`.

use crate::{
    mmu::tlb::{
        self,
        GuestFence,
        GvaSpan, //
    },
    sbi_abi::message::{
        Fwft,
        SbiError, //
    },
    vcpu::token::Loaded, //
};

/// Sets a feature of the calling hart, or tells what it is set to.
///
/// # Errors
///
/// Those of `sbi_fwft_set()` and `sbi_fwft_get()`, as [`State`](crate::sbi_abi::fwft::State) has
/// them.
pub(super) fn handle(vcpu: &mut Loaded<'_>, request: Fwft) -> Result<usize, SbiError> {
    let platform = vcpu.platform();
    let features = &mut vcpu.sbi.fwft;
    match request {
        Fwft::Set {
            feature,
            value,
            flags,
        } => {
            features.set(&platform, feature, value, flags)?;
            apply(vcpu);
            Ok(0)
        }
        Fwft::Get(feature) => features.get(&platform, feature),
    }
}

/// Subjects the guest's next instruction to what it has set.
fn apply(vcpu: &mut Loaded<'_>) {
    vcpu.pinned(|vcpu| {
        let hyp_config = vcpu.hyp_config();
        vcpu.context().set_config_at_once(hyp_config);
        // Flush the guest's translations, because some features change the meaning of its
        // page-table entries, and pointer masking without a page table of the guest applies to
        // guest physical addresses.
        tlb::guest_fence_here(
            vcpu,
            GuestFence::Translations {
                asid: None,
                span: GvaSpan::Everything,
            },
        );
        tlb::flush_all(vcpu);
    });
}
