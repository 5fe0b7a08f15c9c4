// SPDX-License-Identifier: GPL-2.0

//! What safe code cannot do: each `//~` gives the number of the error with which rustc refuses its
//! line, or the message if the error has no number. `test_source.py` compiles the crate with this
//! module and compares. A line that compiles is a way for safe code to break memory safety, or to
//! mix up VMs.
//!
//! `names.rs` and `literals.rs` are modules of their own, because rustc reports such errors alone.

#![deny(unsafe_code)]

use kernel::prelude::*;

use crate::{
    aia::hgei::HgeiLine,
    gstage::{
        Flush,
        HostPage,
        Rights,
        Teardown, //
    },
    kernel_ext::{
        context::IrqOff,
        raw_spinlock::RawSpinLock, //
    },
    kvm_core::{
        addr::{
            Gfn,
            PageSize,
            Pfn, //
        },
        calls::{
            self,
            Inside,
            SignalMask,
            VcpuMode, //
        },
        host_mapping::{
            HostMapping,
            HostWrite, //
        },
        hostmm::{
            HostPgtable,
            HostTable, //
        },
        locks::{
            SlotsLock,
            Uncommitted, //
        },
        memslot::Slot,
        mmu_lock::{
            ReadGuard,
            WriteGuard, //
        },
        object::{
            HeldVcpu,
            Vcpu,
            Vm, //
        },
        srcu::SlotsRead, //
    },
    mmu::{
        table_memory::LinearMap,
        tlb, //
    },
    vcpu::{
        context::CpuContext,
        host::Host,
        pmu::{
            counters::Overflows,
            perf_event::PerfSource, //
        },
        residency::CpuSlots,
        token::{
            Loaded,
            OwnedVcpu,
            Pinned, //
        },
        translation::TranslationState, //
        VcpuInner,
    }, //
};

// The tokens of a vCPU stand for one vCPU, and nothing else makes them.

fn token_becomes_one_of_another_vcpu<'a>(me: &mut OwnedVcpu<'a>, other: &OwnedVcpu<'a>) {
    me.vcpu = other.held(); //~ E0616
}

fn loaded_token_becomes_one_of_another_vcpu<'a>(me: &mut Loaded<'a>, other: &Loaded<'a>) {
    me.vcpu = other.held(); //~ E0616
}

fn token_gets_the_state_of_another_vcpu<'a>(me: &mut Pinned<'a>, other: &'a mut VcpuInner) {
    me.inner = other; //~ E0616
}

fn token_is_made_of_a_pointer(vcpu: &Vcpu) {
    let _ = OwnedVcpu::from_raw(vcpu.as_ptr()); //~ E0133
}

fn mutex_is_said_to_be_held(vcpu: &Vcpu) -> HeldVcpu<'_> {
    HeldVcpu::new(vcpu) //~ E0133
}

// What only the vCPU's own thread may do takes proof of it.

fn memslot_is_looked_up_in_the_cache_of_any_vcpu(vcpu: &Vcpu) {
    let _ = SlotsRead::new(vcpu); //~ E0308
}

fn mode_of_any_vcpu_is_set(vcpu: &Vcpu, irqs: &IrqOff) {
    let _ = VcpuMode::enter(vcpu, Inside::Guest, irqs); //~ E0308
}

fn any_vcpu_blocks(vcpu: &Vcpu) {
    calls::halt(vcpu); //~ E0308
}

fn events_count_for_any_vcpu(vcpu: &Vcpu) {
    let _ = PerfSource::of(vcpu, Overflows::Ignored); //~ E0308
}

// Interrupts stay off for as long as there is proof of it.

fn proof_outlives_what_it_proves() {
    let mut kept = None;
    IrqOff::with(|irqs| kept = Some(irqs)); //~ E0521
    let _ = kept;
}

fn page_table_of_the_host_is_kept<'a>(host: &'a HostPgtable<'a>, slot: &Slot<'a>, gfn: Gfn) {
    let _ = IrqOff::with(|irqs| HostTable::around(host, slot, gfn, irqs)); //~ lifetime may not live long enough
}

fn raw_locks_are_released_out_of_order(a: &RawSpinLock<u32>, b: &RawSpinLock<u32>) {
    let first = a.lock(); //~ E0599
    let second = b.lock(); //~ E0599
    drop(first);
    drop(second);
}

// A lock is released by the thread that took it.

fn is_send<T: Send>(_: &T) {}

fn locks_go_to_another_thread(vm: &Vm, vcpu: HeldVcpu<'_>) {
    is_send(&ReadGuard::lock(vm)); //~ E0277
    is_send(&WriteGuard::lock(vm)); //~ E0277
    is_send(&SlotsLock::lock(vm)); //~ E0277
    is_send(&Uncommitted::lock(vm)); //~ E0277
    is_send(&SlotsRead::new(vcpu)); //~ E0277
    is_send(&SignalMask::activate(vcpu)); //~ E0277
    is_send(&vcpu); //~ E0277
}

// The world switch ends in the guest.

fn code_of_the_guest_runs_in_the_mode_of_the_host(vcpu: &mut OwnedVcpu<'_>) {
    vcpu.ctx.hstatus = 0; //~ E0616
    vcpu.ctx.sepc = 0xdead_0000; //~ E0616
}

fn interrupts_come_within_the_world_switch(vcpu: &mut OwnedVcpu<'_>) {
    vcpu.ctx.sstatus |= 2; //~ E0616
}

fn vector_registers_lose_their_storage(vcpu: &mut OwnedVcpu<'_>) {
    vcpu.vector().data = KVec::new(); //~ E0616
}

// A CPU has loaded what it is said to have loaded.

fn translation_is_said_to_be_loaded(state: &mut TranslationState, cpu: usize) {
    state.set_loaded(cpu, crate::gstage::vmid::Tag::NONE); //~ E0133
}

fn loaded_context_is_forgotten(host: &'static Host, cpus: &'static CpuSlots) {
    let _ = KBox::init(CpuContext::new(host, cpus), GFP_KERNEL); //~ E0133
}

fn interrupt_file_outlives_its_vcpu(vcpu: &Vcpu) {
    core::mem::forget(HgeiLine::new(0, vcpu)); //~ E0624
}

// A guest gets what the host's process has, for as long as it has it.

fn guest_gets_any_frame() -> HostPage {
    let mapping = HostMapping::new(Pfn::new(0x80200), PageSize::Size1G, HostWrite::Dirty); //~ E0624
    HostPage::new(mapping, Rights::Writable)
}

fn mapping_outlives_the_lock<'v>(vm: &'v Vm, slot: &Slot<'v>, gfn: Gfn) -> Option<HostMapping<'v>> {
    let lock = ReadGuard::lock(vm);
    lock.host().mapping(slot, gfn) //~ E0515
}

// What was taken from a guest is flushed before it is given back.

fn tables_are_freed_without_a_flush(duty: Teardown<LinearMap>) {
    duty.flush_and_free(|_| {}, |_| {}); //~ E0308
}

fn flush_is_left_to_nobody(duty: Flush) {
    duty.delegate(); //~ E0133
}

fn proof_of_a_flush_is_dropped(vm: &Vm, duty: Flush) {
    let flush = |frames| drop(tlb::flush_frames(vm, frames));
    duty.issue(flush); //~ E0271
}
