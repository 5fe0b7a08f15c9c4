// SPDX-License-Identifier: GPL-2.0

//! What safe code cannot make of its parts. See `types.rs`.

use crate::{
    gstage::{
        HostPage,
        Rights, //
    },
    kvm_core::{
        addr::{
            PageSize,
            Pfn, //
        },
        object::HeldVcpu, //
    },
    vcpu::{
        token::OwnedVcpu, //
        VcpuInner,
    }, //
};

fn token_is_made_of_parts<'a>(vcpu: HeldVcpu<'a>, inner: &'a mut VcpuInner) -> OwnedVcpu<'a> {
    OwnedVcpu { vcpu, inner } //~ E0451
}

fn page_is_made_of_parts(pfn: Pfn, size: PageSize, rights: Rights) -> HostPage {
    HostPage { pfn, size, rights } //~ E0451
}
