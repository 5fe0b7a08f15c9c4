// SPDX-License-Identifier: GPL-2.0

//! The page that a vCPU shares with userspace, `struct kvm_run`. Answers to the uses of
//! `vcpu->run` throughout C.
//!
//! Userspace has it mapped and may write any of it at any time, so there is never a reference into
//! it: every access is volatile, and every method reads a field at most once. A value that is read
//! is not trusted, and a value that was written is not read back: an exit that userspace completes
//! is kept in [`VcpuInner::pending`](crate::vcpu::VcpuInner), not in the page.

use core::{
    marker::PhantomData,
    ptr::{
        addr_of_mut, //
        NonNull,
    }, //
};

use crate::{
    bindings::{
        self,
        __BindgenUnionField, //
    },
    kvm_core::{
        addr::{
            Gpa,
            PAGE_SIZE, //
        },
        object::Vcpu, //
    }, //
};

/// Access to the page of a vCPU.
///
/// # Invariants
///
/// The pointer is to the `struct kvm_run` of a vCPU that lives for `'a`.
pub(crate) struct RunPage<'a>(NonNull<bindings::kvm_run>, PhantomData<&'a Vcpu>);

/// A field of the page, by its path from `struct kvm_run`, or from a member of its union if the
/// path begins with `in`. No reference is made on the way.
macro_rules! field {
    ($page:ident, in $member:ident . $($path:tt)+) => {{
        let run = $page.0.as_ptr();
        // SAFETY: By the type's invariant the page is there, so its union is in bounds.
        let member = member(unsafe { addr_of_mut!((*run).__bindgen_anon_1.$member) });
        // SAFETY: By the type's invariant the page is there, and `member` is in it.
        Field(unsafe { addr_of_mut!((*member).$($path)+) })
    }};
    ($page:ident, $($path:tt)+) => {{
        let run = $page.0.as_ptr();
        // SAFETY: By the type's invariant the page is there, so its field is in bounds.
        Field(unsafe { addr_of_mut!((*run).$($path)+) })
    }};
}

/// Returns the address of a member of a union.
fn member<T>(place: *mut __BindgenUnionField<T>) -> *mut T {
    place.cast()
}

/// A place in the page that holds a `T`; any bytes are one.
struct Field<T>(*mut T);

impl<T: Copy> Field<T> {
    /// Reads the field once.
    fn get(self) -> T {
        // SAFETY: `field!` made the pointer from a field of the page, so it is aligned and the page
        // is alive. The access is volatile because userspace may write the field now.
        unsafe { self.0.read_volatile() }
    }

    /// Writes the field once.
    fn set(self, value: T) {
        // SAFETY: `field!` made the pointer from a field of the page, so it is aligned and the page
        // is alive. The access is volatile because userspace may access the field now.
        unsafe { self.0.write_volatile(value) };
    }
}

impl<'a> RunPage<'a> {
    /// Returns the page of `vcpu`.
    pub(crate) fn new(vcpu: &'a Vcpu) -> Self {
        // SAFETY: By the invariant of `Vcpu` the vCPU is live. Core KVM sets `run` before the arch
        // layer sees the vCPU, and never changes it.
        let run = unsafe { (*vcpu.as_ptr()).run };
        // INVARIANT: The page lives as long as its vCPU, which lives for `'a`.
        // SAFETY: Core KVM gives every vCPU a page, so the pointer is not null.
        Self(unsafe { NonNull::new_unchecked(run) }, PhantomData)
    }

    /// Sets why `KVM_RUN` returns, a `KVM_EXIT_*`.
    pub(crate) fn set_exit_reason(&self, reason: u32) {
        field!(self, exit_reason).set(reason);
    }

    /// Sets `KVM_EXIT_MMIO`: a load of `len` bytes at `gpa`.
    pub(crate) fn exit_mmio_load(&self, gpa: Gpa, len: u8) {
        self.exit_mmio(gpa, len, 0);
    }

    /// Sets `KVM_EXIT_MMIO`: a store of the first `len` bytes of `data` at `gpa`.
    pub(crate) fn exit_mmio_store(&self, gpa: Gpa, len: u8, data: [u8; 8]) {
        self.mmio_word().set(u64::from_ne_bytes(data));
        self.exit_mmio(gpa, len, 1);
    }

    /// Sets `KVM_EXIT_MMIO` without data.
    fn exit_mmio(&self, gpa: Gpa, len: u8, is_write: u8) {
        field!(self, in mmio.phys_addr).set(gpa.get());
        field!(self, in mmio.len).set(len.into());
        field!(self, in mmio.is_write).set(is_write);
        self.set_exit_reason(bindings::KVM_EXIT_MMIO);
    }

    /// Returns the bytes that userspace loaded.
    pub(crate) fn mmio_data(&self) -> [u8; 8] {
        self.mmio_word().get().to_ne_bytes()
    }

    /// Returns the bytes of an MMIO access, all at once: they follow a `u64`, hence are aligned as
    /// one.
    fn mmio_word(&self) -> Field<u64> {
        let bytes: Field<[u8; 8]> = field!(self, in mmio.data);
        Field(bytes.0.cast())
    }

    /// Sets `KVM_EXIT_RISCV_SBI`: a call that userspace serves. Until it does, the results are
    /// `default_error` and 0.
    pub(crate) fn exit_sbi(
        &self,
        extension: usize,
        function: usize,
        args: [usize; 6],
        default_error: usize,
    ) {
        field!(self, in riscv_sbi.extension_id).set(extension);
        field!(self, in riscv_sbi.function_id).set(function);
        field!(self, in riscv_sbi.args).set(args);
        field!(self, in riscv_sbi.ret).set([default_error, 0]);
        self.set_exit_reason(bindings::KVM_EXIT_RISCV_SBI);
    }

    /// Returns error and value that userspace returned.
    pub(crate) fn sbi_return(&self) -> [usize; 2] {
        field!(self, in riscv_sbi.ret).get()
    }

    /// Sets `KVM_EXIT_RISCV_CSR`: an access to a CSR. Until userspace serves it, what is read is 0.
    pub(crate) fn exit_csr(&self, csr: u16, new_value: usize, write_mask: usize) {
        field!(self, in riscv_csr.csr_num).set(csr.into());
        field!(self, in riscv_csr.new_value).set(new_value);
        field!(self, in riscv_csr.write_mask).set(write_mask);
        field!(self, in riscv_csr.ret_value).set(0);
        self.set_exit_reason(bindings::KVM_EXIT_RISCV_CSR);
    }

    /// Returns what the CSR held, as userspace says.
    pub(crate) fn csr_return(&self) -> usize {
        field!(self, in riscv_csr.ret_value).get()
    }

    /// Sets `KVM_EXIT_SYSTEM_EVENT`: a `KVM_SYSTEM_EVENT_*` with one word of detail.
    pub(crate) fn exit_system_event(&self, event: u32, detail: u64) {
        let mut data = [0; 16];
        data[0] = detail;
        field!(self, in system_event.type_).set(event);
        field!(self, in system_event.ndata).set(1);
        let data_field = member(field!(self, in system_event.__bindgen_anon_1.data).0);
        Field(data_field).set(data);
        self.set_exit_reason(bindings::KVM_EXIT_SYSTEM_EVENT);
    }

    /// Sets `KVM_EXIT_MEMORY_FAULT`: the host cannot provide the page of `gpa`. `KVM_RUN` fails.
    pub(crate) fn exit_memory_fault(&self, gpa: Gpa) {
        field!(self, in memory_fault.flags).set(0);
        field!(self, in memory_fault.gpa).set(gpa.gfn().gpa().get());
        field!(self, in memory_fault.size).set(PAGE_SIZE);
        self.set_exit_reason(bindings::KVM_EXIT_MEMORY_FAULT);
    }

    /// Sets `KVM_EXIT_FAIL_ENTRY`: the guest cannot be entered on this CPU.
    pub(crate) fn exit_fail_entry(&self, reason: u64, cpu: u32) {
        field!(self, in fail_entry.hardware_entry_failure_reason).set(reason);
        field!(self, in fail_entry.cpu).set(cpu);
        self.set_exit_reason(bindings::KVM_EXIT_FAIL_ENTRY);
    }

    /// Sets `KVM_EXIT_DEBUG`: a breakpoint that userspace asked for.
    pub(crate) fn exit_debug(&self) {
        self.set_exit_reason(bindings::KVM_EXIT_DEBUG);
    }
}
