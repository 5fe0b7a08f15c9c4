// SPDX-License-Identifier: GPL-2.0

//! Guest memory: the G-stage tree of a VM, its VMID, and what the TLBs of the host may remember of
//! them.
//!
//! - [`gstage`](crate::gstage): the tree and its format; every change to it.
//! - [`fault`]: guest-page faults.
//! - [`memslots`]: changes of memslots by userspace, and of memory by the host's MM.
//! - [`tlb`]: fences, on this CPU and on others, and what a CPU owes before a vCPU may run on it.
//! - [`vmid`]: VMIDs, handed out without stopping any vCPU.
//! - [`ioremap`]: pages of devices that a guest reaches by itself.
//! - [`cache`]: table pages, allocated before locks are taken.
//! - [`icache`]: memory that may hold instructions which CPUs have not seen yet.
//! - [`guest_access`]: reads of guest memory as the guest itself would make them.
//! - [`table_memory`]: pages for tables, and the ways to the tree under `mmu_lock`.
//! - [`param`]: module parameters that can change while the module runs.
//! - `ptdump`: the tree as text, for debugfs.
//!
//! Lock order: `kvm->slots_lock`, then `kvm->srcu`, then `kvm->mmu_lock`, then the locks of
//! [`tlb::HfenceQueue`]. The tree is reached only through the guards of `kvm_core::mmu_lock`, which
//! hold `mmu_lock`.
//!
//! Answers to `mmu.c`, `tlb.c` and `vmid.c`.

use kernel::{
    cpu::nr_cpu_ids,
    prelude::*,
    sync::SetOnce, //
};

use crate::{
    arch::{
        cpufeature,
        hgatp::{
            self,
            Hgatp, //
        }, //
    },
    bindings,
    gstage::{
        vmid, //
        Mode,
    },
    kernel_ext::atomic::{
        AtomicU32,
        AtomicU64,
        Ordering, //
    },
    kvm_core::{
        locks::Uncommitted,
        mmu_lock::WriteGuard,
        object::Vm,
        stats::Gauges, //
    },
    mmu::table_memory::TreeCell, //
};

pub(crate) mod cache;
pub(crate) mod fault;
pub(crate) mod guest_access;
pub(crate) mod icache;
pub(crate) mod ioremap;
pub(crate) mod memslots;
pub(crate) mod param;
#[cfg(CONFIG_DEBUG_FS)]
pub(crate) mod ptdump;
pub(crate) mod table_memory;
pub(crate) mod tlb;

/// The G-stage features of the host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostGstage {
    /// The widest format.
    pub(crate) max_mode: Mode,
    /// How many bits of `hgatp.VMID` can be written; 0 means that there are no VMIDs.
    pub(crate) vmid_bits: u32,
    /// Whether harts see page-table entries that become valid without a fence, within a bounded
    /// time (Svvptc).
    svvptc: bool,
    /// Whether leaves can be 64 KiB, those of the host's own tables, too (Svnapot).
    svnapot: bool,
    /// Whether entries can have a memory type (Svpbmt).
    svpbmt: bool,
}

/// What all VMs share.
struct Shared {
    host: HostGstage,
    vmids: vmid::Space,
}

/// What all VMs share; set by [`probe`].
static SHARED: SetOnce<Shared> = SetOnce::new();

/// Probes the G-stage of this CPU. Called once, at module init, before there is a VM.
///
/// # Errors
///
/// `ENODEV` if there is no format that we know; `EEXIST` if called twice.
pub(crate) fn probe() -> Result<HostGstage> {
    let (max_mode, vmid_bits) = hgatp::probe().ok_or(ENODEV)?;
    let host = HostGstage {
        max_mode,
        vmid_bits,
        svvptc: cpufeature::host_has(bindings::RISCV_ISA_EXT_SVVPTC),
        svnapot: cpufeature::host_has(bindings::RISCV_ISA_EXT_SVNAPOT),
        svpbmt: cpufeature::host_has(bindings::RISCV_ISA_EXT_SVPBMT),
    };
    let vmids = vmid::Space::new(vmid_bits);
    SHARED
        .populate(Shared { host, vmids })
        .then_some(host)
        .ok_or(EEXIST)
}

/// Returns what all VMs share, once [`probe`] has asked.
#[inline]
fn shared() -> Option<&'static Shared> {
    SHARED.as_ref()
}

/// Returns whether leaves can be 64 KiB (Svnapot).
pub(crate) fn has_svnapot() -> bool {
    shared().is_some_and(|shared| shared.host.svnapot)
}

/// Returns the widest G-stage format of the host.
pub(crate) fn host_max_mode() -> Mode {
    // Every host with the H extension has Sv39x4.
    shared().map_or(Mode::Sv39x4, |shared| shared.host.max_mode)
}

/// The guest memory of one VM.
///
/// # Invariants
///
/// - `hgatp` is the mode of the tree in `tree`, and the frame of its root. The root's page stays
///   where it is for as long as this value lives, even after the tree was closed: so what a vCPU
///   loads into `hgatp` is never the address of a page that belongs to another user
///   (differences-from-c M5, M23).
/// - `last` has a cell for every CPU.
#[pin_data]
pub(crate) struct Memory {
    /// The G-stage tree, under `mmu_lock`.
    tree: TreeCell,
    /// `hgatp` without VMID. Changes only before there is a vCPU.
    hgatp: AtomicU64,
    /// The VMID, current or of an older generation.
    vmid: vmid::Cell,
    /// For each CPU, which vCPU of this VM last ran there: its index plus 1; 0 for none. Only that
    /// CPU uses the cell.
    last: KVec<AtomicU32>,
    /// The regions from which the host has taken pages away.
    moved: icache::MovedRegions,
}

impl Memory {
    /// Makes guest memory with nothing in it, in the host's widest format. What the tree holds will
    /// show in `gauges`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(gauges: Gauges) -> impl PinInit<Self, Error> {
        // INVARIANT: The tree is made with the mode that `hgatp` gets, `hgatp` gets the frame of
        // the tree's root, and `last` gets a cell for every CPU.
        try_pin_init!(Self {
            tree: TreeCell::new(host_max_mode(), gauges)?,
            hgatp: AtomicU64::new(Hgatp::without_vmid(host_max_mode(), tree.root_pfn()).into_raw()),
            vmid: vmid::Cell::new(),
            last: cpu_cells()?,
            moved: icache::MovedRegions::new(),
        })
    }

    /// Returns the format of the tree.
    pub(crate) fn mode(&self) -> Mode {
        // Relaxed: the word is constant once there is a vCPU; before that, userspace orders its own
        // ioctls.
        Hgatp::from_raw(self.hgatp.load(Ordering::Relaxed))
            .known_mode()
            .unwrap_or(Mode::Sv39x4)
    }

    /// Changes the format of a VM's tree, to one that the host has. May be repeated until the VM is
    /// committed.
    ///
    /// Takes `mmu_lock`.
    pub(crate) fn set_mode(vm: &Uncommitted<'_>, mode: Mode) {
        let memory = vm.vm().memory();
        // Without a vCPU nothing is mapped, so the tree is empty.
        if WriteGuard::lock(vm.vm()).set_mode(mode).is_ok() {
            let hgatp = Hgatp::without_vmid(mode, memory.tree.root_pfn());
            // INVARIANT: The tree has this mode now, and `hgatp` gets the frame of its root.
            memory.hgatp.store(hgatp.into_raw(), Ordering::Relaxed);
        }
    }

    /// Returns the regions from which the host has taken pages that the guest had.
    #[inline(always)]
    pub(crate) fn moved(&self) -> &icache::MovedRegions {
        &self.moved
    }

    /// Returns the tree's cell, for the guards of `mmu_lock`.
    pub(crate) fn tree_cell(&self) -> &TreeCell {
        &self.tree
    }
}

impl Vm {
    /// Returns the VM's guest memory.
    #[inline(always)]
    pub(crate) fn memory(&self) -> &Memory {
        self.part()
    }
}

/// Allocates a zero for every CPU that there can be.
fn cpu_cells() -> Result<KVec<AtomicU32>> {
    let cpus = nr_cpu_ids() as usize;
    let mut cells = KVec::with_capacity(cpus, GFP_KERNEL_ACCOUNT)?;
    for _ in 0..cpus {
        cells.push(AtomicU32::new(0), GFP_KERNEL_ACCOUNT)?;
    }
    Ok(cells)
}
