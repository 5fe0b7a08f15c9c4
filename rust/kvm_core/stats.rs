// SPDX-License-Identifier: GPL-2.0

//! Statistics: the tables by which core KVM shows them to userspace, the gauges of a VM, and the
//! counters of a vCPU.
//!
//! Names, order, types and units are userspace ABI; those of core KVM's own counters are the ones
//! of `KVM_GENERIC_VM_STATS()` and `KVM_GENERIC_VCPU_STATS()`, then come those of the C module, and
//! last those that it lacks. A compile-time assertion checks that each table describes every word
//! of its structure once.
//!
//! Those that the C module lacks have no files in debugfs, because to make and remove one costs
//! each VM some 5,000 instructions. Core KVM makes as many files as the headers say that it finds
//! here; for userspace that reads statistics, [`kvm_rs_stats_read`] passes the headers that count
//! all statistics.

use core::{
    mem::{
        offset_of,
        size_of, //
    },
    ptr::NonNull,
    sync::atomic::{
        AtomicU64,
        Ordering, //
    }, //
};

use kernel::ffi::{
    c_char,
    c_void, //
};

use crate::{
    bindings::{
        self,
        check_prototype,
        kvm,
        kvm_stats_desc,
        kvm_stats_header,
        kvm_vcpu_stat,
        kvm_vm_stat, //
        HALT_POLL_HIST_COUNT,
        KVM_STATS_BASE_POW10,
        KVM_STATS_NAME_SIZE,
        KVM_STATS_TYPE_CUMULATIVE,
        KVM_STATS_TYPE_INSTANT,
        KVM_STATS_TYPE_LOG_HIST,
        KVM_STATS_UNIT_BOOLEAN,
        KVM_STATS_UNIT_NONE,
        KVM_STATS_UNIT_SECONDS,
    },
    kvm_core::object::Vcpu, //
};

/// The kind of a statistic.
#[derive(Clone, Copy)]
enum Kind {
    /// The number of events so far.
    Events,
    /// The time so far, in nanoseconds.
    Nanos,
    /// Events so far, by the time that each took: entry n is for those below 2^n ns.
    NanosHistogram,
    /// Whether a condition is true now.
    Flag,
    /// The number that there is now. Userspace cannot clear it.
    Now,
}

/// Returns the description of the statistic `name`, `offset` bytes into its structure.
const fn describe(name: &str, offset: usize, kind: Kind) -> kvm_stats_desc {
    let (type_, unit, exponent, size) = match kind {
        Kind::Events => (KVM_STATS_TYPE_CUMULATIVE, KVM_STATS_UNIT_NONE, 0, 1),
        Kind::Nanos => (KVM_STATS_TYPE_CUMULATIVE, KVM_STATS_UNIT_SECONDS, -9, 1),
        Kind::NanosHistogram => (
            KVM_STATS_TYPE_LOG_HIST,
            KVM_STATS_UNIT_SECONDS,
            -9,
            HALT_POLL_HIST_COUNT as u16,
        ),
        Kind::Flag => (KVM_STATS_TYPE_INSTANT, KVM_STATS_UNIT_BOOLEAN, 0, 1),
        Kind::Now => (KVM_STATS_TYPE_INSTANT, KVM_STATS_UNIT_NONE, 0, 1),
    };
    let bytes = name.as_bytes();
    // The terminating NUL needs room, too.
    assert!(bytes.len() < KVM_STATS_NAME_SIZE as usize);
    let mut name = [0; KVM_STATS_NAME_SIZE as usize];
    let mut i = 0;
    while i < bytes.len() {
        name[i] = bytes[i];
        i += 1;
    }
    kvm_stats_desc {
        flags: type_ | unit | KVM_STATS_BASE_POW10,
        exponent,
        size,
        offset: offset as u32,
        bucket_size: 0,
        name,
    }
}

/// Returns the header in front of the first `count` of a table.
const fn header(count: usize) -> kvm_stats_header {
    let id = size_of::<kvm_stats_header>() as u32;
    let desc = id + KVM_STATS_NAME_SIZE;
    kvm_stats_header {
        flags: 0,
        name_size: KVM_STATS_NAME_SIZE,
        num_desc: count as u32,
        id_offset: id,
        desc_offset: desc,
        data_offset: desc + (count * size_of::<kvm_stats_desc>()) as u32,
    }
}

/// Returns how many of `table` come before the one at `offset`.
const fn before<const N: usize>(table: &[kvm_stats_desc; N], offset: usize) -> usize {
    let mut count = 0;
    while (table[count].offset as usize) < offset {
        count += 1;
    }
    count
}

/// Returns `table`, and panics unless it describes each word of the first `size` bytes once, in
/// order.
const fn complete<const N: usize>(table: [kvm_stats_desc; N], size: usize) -> [kvm_stats_desc; N] {
    let mut next = 0;
    let mut i = 0;
    while i < table.len() {
        assert!(table[i].offset as usize == next);
        next += table[i].size as usize * size_of::<u64>();
        i += 1;
    }
    assert!(next == size);
    table
}

/// Defines the table for a structure from its fields and what they measure.
macro_rules! table {
    ($struct:ident: $($($field:ident).+ => $kind:ident,)+) => {
        complete(
            [$(describe(
                last!($($field).+),
                offset_of!($struct, $($field).+),
                Kind::$kind,
            )),+],
            size_of::<$struct>(),
        )
    };
}

/// The name of the last of some nested fields, which is what userspace sees.
macro_rules! last {
    ($outer:ident.$inner:ident) => {
        stringify!($inner)
    };
    ($field:ident) => {
        stringify!($field)
    };
}
use last;

/// The gauges of the arch layer: defines [`Gauge`] and the end of the VMs' table.
macro_rules! gauges {
    ($($(#[$attr:meta])* $name:ident = $field:ident,)+) => {
        /// A number that goes up and down; its discriminant is its offset in `kvm->stat`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub(crate) enum Gauge {
            $($(#[$attr])* $name = offset_of!(kvm_vm_stat, $field),)+
        }

        const VM_TABLE: [kvm_stats_desc; 7] = table! { kvm_vm_stat:
            generic.remote_tlb_flush => Events,
            generic.remote_tlb_flush_requests => Events,
            $($field => Now,)+
        };
    };
}

gauges! {
    /// Leaves of 4 KiB.
    Pages4K = pages_4k,
    /// Leaves of 64 KiB (Svnapot): 16 entries each.
    Pages64K = pages_64k,
    /// Leaves of 2 MiB.
    Pages2M = pages_2m,
    /// Leaves of 1 GiB.
    Pages1G = pages_1g,
    /// Tables below the root.
    Tables = gstage_tables,
}

/// The gauges of one VM. Any thread may change them.
///
/// # Invariants
///
/// The pointer is to the `stat` of a live VM.
#[derive(Clone, Copy)]
pub(crate) struct Gauges(NonNull<kvm_vm_stat>);

impl Gauges {
    /// Returns the statistics of `vm`.
    ///
    /// # Safety
    ///
    /// `vm` is valid, and stays so for as long as the value and its copies are used.
    pub(crate) unsafe fn of(vm: *mut kvm) -> Self {
        // SAFETY: The caller passes a valid `vm`, so its field `stat` is in bounds.
        let stat = unsafe { core::ptr::addr_of_mut!((*vm).stat) };
        // SAFETY: `vm` is not null, so the address of its field is not null either.
        // INVARIANT: The caller keeps `vm` valid for as long as the value and its copies are used.
        Self(unsafe { NonNull::new_unchecked(stat) })
    }

    /// Adds `by` to a gauge.
    #[inline(always)]
    pub(crate) fn add(self, gauge: Gauge, by: i64) {
        // SAFETY: The number of a gauge is the offset of its field, so the result is in bounds.
        let word = unsafe { self.0.byte_add(gauge as usize) }.cast();
        // SAFETY: By the type's invariant the field is there; it is a `u64`, naturally aligned.
        // Rust code reaches it in this way alone, and C code loads it whole.
        let word = unsafe { AtomicU64::from_ptr(word.as_ptr()) };
        word.fetch_add(by as u64, Ordering::Relaxed);
    }
}

/// The counters of the arch layer: defines [`Counter`] and the end of the vCPUs' table.
macro_rules! counters {
    ($($(#[$attr:meta])* $name:ident = $field:ident,)+) => {
        /// A counter of the arch layer; its discriminant is its offset in `vcpu->stat`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub(crate) enum Counter {
            $($(#[$attr])* $name = offset_of!(kvm_vcpu_stat, $field),)+
        }

        const VCPU_TABLE: [kvm_stats_desc; 31] = table! { kvm_vcpu_stat:
            generic.halt_successful_poll => Events,
            generic.halt_attempted_poll => Events,
            generic.halt_poll_invalid => Events,
            generic.halt_wakeup => Events,
            generic.halt_poll_success_ns => Nanos,
            generic.halt_poll_fail_ns => Nanos,
            generic.halt_wait_ns => Nanos,
            generic.halt_poll_success_hist => NanosHistogram,
            generic.halt_poll_fail_hist => NanosHistogram,
            generic.halt_wait_hist => NanosHistogram,
            generic.blocking => Flag,
            $($field => Events,)+
        };
    };
}

counters! {
    /// SBI calls that went to userspace.
    EcallExits = ecall_exit_stat,
    /// WFI.
    WfiExits = wfi_exit_stat,
    /// WRS.NTO and WRS.STO.
    WrsExits = wrs_exit_stat,
    /// Loads and stores that userspace emulated.
    MmioExitUser = mmio_exit_user,
    /// Loads and stores that the kernel emulated.
    MmioExitKernel = mmio_exit_kernel,
    /// CSR accesses that userspace emulated.
    CsrExitUser = csr_exit_user,
    /// CSR accesses that the kernel emulated.
    CsrExitKernel = csr_exit_kernel,
    /// Returns to userspace for a signal.
    #[expect(dead_code, reason = "core KVM counts these")]
    SignalExits = signal_exits,
    /// Exits from the guest, of all kinds.
    Exits = exits,
    /// Illegal instructions that were given back to the guest.
    InstrIllegalExits = instr_illegal_exits,
    /// Misaligned loads that were given back to the guest.
    LoadMisalignedExits = load_misaligned_exits,
    /// Misaligned stores that were given back to the guest.
    StoreMisalignedExits = store_misaligned_exits,
    /// Load access faults that were given back to the guest.
    LoadAccessExits = load_access_exits,
    /// Store access faults that were given back to the guest.
    StoreAccessExits = store_access_exits,
    /// Faults that were handled with a page of the host.
    PfFixed = pf_fixed,
    /// Stores to pages that were write-protected for the dirty log, handled in the tree alone.
    PfFast = pf_fast,
    /// Faults that found the entry as they wanted it: another vCPU was faster, or the hart
    /// remembered an older one.
    PfSpurious = pf_spurious,
    /// Faults that the guest must repeat, because the host has begun an invalidation meanwhile.
    PfRetry = pf_retry,
    /// Neighbours of faulting pages that were mapped with them.
    PfAround = pf_around,
    /// Faults before which all CPUs executed FENCE.I.
    PfFenceI = pf_fence_i,
}

/// Adds `events` to a counter of `vcpu`.
#[inline(always)]
pub(crate) fn add(vcpu: &Vcpu, counter: Counter, events: u64) {
    // SAFETY: By the invariant of `Vcpu` the vCPU is live, so its field `stat` is in bounds.
    let stat = unsafe { core::ptr::addr_of_mut!((*vcpu.as_ptr()).stat) };
    // SAFETY: The number of a counter is the offset of its field, so the result is in bounds.
    let word = unsafe { stat.byte_add(counter as usize) }.cast();
    // SAFETY: The field is a `u64`, naturally aligned, as all of the structure. Rust code reaches
    // it in this way alone, and C code loads and stores it whole.
    let word = unsafe { AtomicU64::from_ptr(word) };
    // No `fetch_add` is needed: there is one writer, and if userspace clears the counter at this
    // moment, that is lost, as in C.
    word.store(
        word.load(Ordering::Relaxed).wrapping_add(events),
        Ordering::Relaxed,
    );
}

// The symbols that core KVM uses. `bindings` declares these, too, but as arrays without a length.

/// The descriptions of a VM's statistics, for core KVM.
#[no_mangle]
static kvm_vm_stats_desc: [kvm_stats_desc; VM_TABLE.len()] = VM_TABLE;

/// The header that core KVM reads; it counts only the statistics that C has, too.
#[no_mangle]
static kvm_vm_stats_header: kvm_stats_header = header(before(&VM_TABLE, Gauge::Pages4K as usize));

/// The descriptions of a vCPU's statistics, for core KVM.
#[no_mangle]
static kvm_vcpu_stats_desc: [kvm_stats_desc; VCPU_TABLE.len()] = VCPU_TABLE;

/// The header that core KVM reads; it counts only the statistics that C has, too.
#[no_mangle]
static kvm_vcpu_stats_header: kvm_stats_header =
    header(before(&VCPU_TABLE, Counter::PfFixed as usize));

// The headers that userspace reads.

/// The header that userspace reads, which counts all statistics of a VM.
static VM_HEADER: kvm_stats_header = header(VM_TABLE.len());

/// The header that userspace reads, which counts all statistics of a vCPU.
static VCPU_HEADER: kvm_stats_header = header(VCPU_TABLE.len());

/// Reads the file of `KVM_GET_STATS_FD` for userspace: as `kvm_stats_read()`, with the header that
/// counts all statistics.
///
/// # Safety
///
/// Core KVM passes what `kvm_stats_read()` needs. `header` and `desc` are one of the pairs
/// above.
#[no_mangle]
unsafe extern "C" fn kvm_rs_stats_read(
    id: *mut c_char,
    header: *const kvm_stats_header,
    desc: *const kvm_stats_desc,
    stats: *mut c_void,
    size_stats: usize,
    user_buffer: *mut c_char,
    size: usize,
    offset: *mut bindings::loff_t,
) -> isize {
    let whole = if core::ptr::eq(header, &kvm_vm_stats_header) {
        &VM_HEADER
    } else {
        &VCPU_HEADER
    };
    // SAFETY: Core KVM passes what `kvm_stats_read()` needs, and `desc` has as many elements as
    // `whole` says.
    unsafe {
        bindings::kvm_stats_read(
            id,
            whole,
            desc,
            stats,
            size_stats,
            user_buffer,
            size,
            offset,
        )
    }
}
check_prototype!(kvm_rs_stats_read);
