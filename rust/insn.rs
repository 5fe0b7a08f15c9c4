// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! Decoding of the guest instructions that KVM completes in the guest's stead.
//!
//! This module and those below it turn bits into types; they read no guest memory and change no
//! state, so they need no lock. They answer to the decoding half of `vcpu_insn.c`.
//!
//! - [`Htinst`]: the hardware's description of the instruction that trapped.
//! - [`MmioInsn`]: a load or store whose address no memory backs.
//! - [`SystemInsn`]: an instruction that raised a virtual-instruction exception.
//!
//! An instruction that cannot be completed is an exception for the guest
//! ([`Undecodable`](mmio::Undecodable), [`Illegal`]), as it would be on a machine whose devices
//! refuse the access. It is never an error of `KVM_RUN`: a guest must not be able to end its own VM
//! with one instruction.

pub(crate) mod csr;
pub(crate) mod encoding;
pub(crate) mod htinst;
pub(crate) mod mmio;
pub(crate) mod system;

pub(crate) use crate::insn::{
    csr::{
        CounterEnable,
        CsrAccess,
        CsrHandler,
        CsrOp,
        Illegal, //
    },
    encoding::{
        Insn,
        InsnLen, //
    },
    htinst::{
        Htinst,
        PteAccess, //
    },
    mmio::{
        Direction,
        Load,
        MmioInsn,
        MmioOp, //
    },
    system::SystemInsn, //
};
