// SPDX-License-Identifier: GPL-2.0

//! What safe code cannot name. See `types.rs`.

use kernel::types::NotThreadSafe;

use crate::{
    arch::{
        csr::GuestCsr,
        registers::HIDELEG, //~ E0603
        vector::VectorCallback,
    },
    gstage::Flushed,
    kernel_ext::context::IrqOff,
    kvm_core::locks::VmLock,
};

fn host_takes_the_interrupts_of_a_guest(regs: &impl crate::arch::csr::Registers) {
    regs.write(HIDELEG, 0);
}

fn any_csr_passes_for_a_guest_register(regs: &impl crate::arch::csr::Registers) {
    const SATP: u32 = 0x180;
    regs.write(GuestCsr::<SATP>(()), 0); //~ E0423
}

fn interrupts_are_said_to_be_off() -> IrqOff {
    IrqOff(NotThreadSafe) //~ E0423
}

fn lock_is_said_to_be_held(vm: &crate::kvm_core::object::Vm) {
    let _ = VmLock(vm, NotThreadSafe); //~ E0423
}

fn flush_is_said_to_be_done() -> Flushed {
    Flushed(()) //~ E0423
}

fn vector_callback_ends_while_the_module_runs() {
    drop(VectorCallback(())); //~ E0423
}
