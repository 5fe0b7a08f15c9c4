// SPDX-License-Identifier: GPL-2.0

//! TLB maintenance: fences on this CPU, fences on other CPUs, and the fences that a CPU must
//! execute before a vCPU may run on it. Answers to `tlb.c`.
//!
//! A fence reaches every vCPU that may have cached something, by a request, and is executed by the
//! vCPU's own thread on the CPU that the vCPU is on. What the vCPU left on other CPUs, it flushes
//! when it comes back to one ([`Pinned::update_hgatp`]): all vCPUs of a VM share a VMID, so a CPU
//! may also hold translations of its siblings (differences-from-c M7).
//!
//! `hfence.vvma` acts on the VMID in `hgatp`. `hgatp` is never swapped for a fence: if the vCPU's
//! is not loaded, the fence is left to `update_hgatp` (differences-from-c M17).
//!
//! Locks: [`HfenceQueue`] has one, below all others. It is a raw spinlock, as the vCPU's thread
//! takes it with preemption or interrupts off.

use core::mem;

use kernel::prelude::*;

use crate::{
    arch::{
        csr::Registers,
        fence::{
            self,
            Fences, //
        },
        hgatp::{
            self,
            Hgatp, //
        },
        inval,
        nacl::with_registers, //
    },
    gstage::{
        vmid::Tag, //
        Flushed,
    },
    kernel_ext::{
        atomic::{
            fence, //
            AtomicBool,
            Ordering,
        },
        raw_spinlock::{
            new_raw_spinlock, //
            RawSpinLock,
        }, //
    },
    kvm_core::{
        addr::{
            Asid,
            GfnRange,
            Gpa,
            VcpuIdx, //
            PAGE_SHIFT,
        },
        calls::{
            self as kvm,
            VcpuBitmap, //
        },
        object::{
            Vcpu,
            Vm, //
        }, //
    },
    mmu::{
        shared, //
        Memory,
    },
    vcpu::{
        request::Request,
        token::{
            Loaded,
            Pinned, //
        },
        translation::TranslationState, //
    }, //
};

impl Pinned<'_> {
    /// Loads the vCPU's `hgatp` if it is not loaded, and flushes the translations of this CPU that
    /// the vCPU must not use. C: `kvm_riscv_mmu_update_hgatp()`.
    #[inline(always)]
    pub(crate) fn update_hgatp(&mut self) {
        let vcpu = self.vcpu();
        let (state, cpu) = self.translation();
        // While the vCPU stays loaded, no other vCPU runs on this CPU.
        if !state.is_loaded() {
            let memory = vcpu.vm().memory();
            with_registers!(regs => memory.load_translation(regs, vcpu, cpu, state));
        }
    }

    /// Returns where the vCPU left translations, and the CPU that it is on.
    #[inline(always)]
    fn translation(&mut self) -> (&mut TranslationState, usize) {
        let cpu = self.cpu();
        (self.context().translation(), cpu)
    }
}

impl Memory {
    /// Loads the translation of `vcpu`, one of this VM, on `cpu`, this CPU, and executes the fences
    /// that this CPU owes.
    fn load_translation(
        &self,
        regs: &(impl Registers + Fences),
        vcpu: &Vcpu,
        cpu: usize,
        state: &mut TranslationState,
    ) {
        // From here on, other CPUs request fences of the vCPU for what they take away.
        vcpu.hfences().set_gstage_active();
        let tag = shared().map_or(Tag::NONE, |shared| shared.vmids.current(&self.vmid));
        let hgatp = Hgatp::from_raw(self.hgatp.load(Ordering::Relaxed)).with_vmid_of(tag.vmid());
        // SAFETY: By the invariants of `Memory` this names the root of the VM's tree, and the
        // root's page stays for as long as `Memory` lives, which is longer than the vCPU does. A
        // put of the vCPU unloads `hgatp`, and until then only `gstage` changes the tree.
        unsafe { hgatp::load(regs, hgatp) };

        // All fences come after `hgatp` was written, as the specification wants where a VMID is
        // used again.
        let me = (vcpu.idx().get() as u32).wrapping_add(1);
        let last = self.last.get(cpu);
        if tag == Tag::NONE || !state.is_from(cpu, tag) {
            // Flush the translations of other VMs that had the VMID, of siblings, and of this vCPU
            // from before it ran elsewhere.
            regs.gvma_vmid(tag.vmid());
            regs.vvma_all();
            fence::fence_i();
        } else if last.is_none_or(|last| last.load(Ordering::Relaxed) != me) {
            // A sibling ran here, with address spaces and instructions of its own. Guest-physical
            // translations are the same for both.
            regs.vvma_all();
            fence::fence_i();
        }
        if let Some(last) = last {
            last.store(me, Ordering::Relaxed);
        }
        // SAFETY: The vCPU is on this CPU, `cpu`, whose `hgatp` was written above with the VM's
        // tree and `tag.vmid()`.
        unsafe { state.set_loaded(cpu, tag) };
    }
}

/// Serves [`Request::TlbFlush`]: flushes all guest-physical translations.
pub(crate) fn flush_all(vcpu: &mut Pinned<'_>) {
    let (state, cpu) = vcpu.translation();
    state.fence_gvma(cpu, fence::gvma_vmid);
}

/// Flushes the translation of one guest-physical address, after a fault on it.
pub(crate) fn flush_gpa(vcpu: &mut Pinned<'_>, gpa: Gpa) {
    let (state, cpu) = vcpu.translation();
    state.fence_gvma(cpu, |vmid| fence::gvma_vmid_gpa(vmid, gpa));
}

/// Serves [`Request::FenceI`].
pub(crate) fn fence_i(vcpu: &mut Pinned<'_>) {
    let (state, cpu) = vcpu.translation();
    state.fence(cpu, |_| fence::fence_i());
}

/// Serves [`Request::Hfence`]: executes what is in the vCPU's queue.
///
/// Other CPUs may add fences faster than this CPU executes them. So, as in one fence, after
/// `MAX_PAGES` pages a fence for everything replaces the rest; fences that are added after that
/// come with a new request.
pub(crate) fn process(vcpu: &mut Loaded<'_>) {
    let mut pages = 0;
    while pages < inval::MAX_PAGES {
        let Some(hfence) = vcpu.vcpu().hfences().take() else {
            return;
        };
        pages = hfence.pages().saturating_add(pages);
        vcpu.pinned(|vcpu| hfence.execute(vcpu));
    }
    vcpu.pinned(process_at_once);
}

/// Executes all fences that wait, in a moment: what waits becomes fences for everything.
fn process_at_once(vcpu: &mut Pinned<'_>) {
    let hfences = vcpu.vcpu().hfences().take_all();
    hfences.for_each(|hfence| hfence.execute(vcpu));
}

/// Serves the TLB requests that other CPUs have made, for a caller that is about to use
/// translations without entering the guest. Interrupts may be off.
pub(crate) fn serve_pending(vcpu: &mut Pinned<'_>) {
    if vcpu.vcpu().take_request(Request::TlbFlush) {
        flush_all(vcpu);
    }
    if vcpu.vcpu().take_request(Request::Hfence) {
        process_at_once(vcpu);
    }
}

/// Guest virtual addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GvaSpan {
    /// All of them.
    Everything,
    /// From `start` on, `size` bytes; to the end of the address space if the sum overflows.
    Bytes {
        /// The first.
        start: usize,
        /// How many; may be 0.
        size: usize,
    },
}

/// A fence that a guest requests on its own harts (`SBI_EXT_RFENCE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GuestFence {
    /// Synchronises instruction fetches with stores (FENCE.I).
    Instructions,
    /// Flushes guest-virtual translations (SFENCE.VMA).
    Translations {
        /// The address space; [`None`] means all, and global mappings.
        asid: Option<Asid>,
        /// The addresses.
        span: GvaSpan,
    },
}

/// A fence in a queue.
#[derive(Clone, Copy, Debug)]
enum Hfence {
    /// Guest-physical translations of these frames.
    Gvma(GfnRange),
    /// All guest-physical translations.
    GvmaAll,
    /// Guest-virtual translations.
    Vvma { asid: Option<Asid>, span: GvaSpan },
}

impl Hfence {
    /// All guest-virtual translations.
    const VVMA_ALL: Hfence = Hfence::Vvma {
        asid: None,
        span: GvaSpan::Everything,
    };

    /// Returns how many pages it is about, roughly; at least 1.
    fn pages(&self) -> u64 {
        match self {
            Hfence::Gvma(frames) => frames.len().max(1),
            Hfence::Vvma {
                span: GvaSpan::Bytes { size, .. },
                ..
            } => (*size as u64 >> PAGE_SHIFT) + 1,
            Hfence::GvmaAll
            | Hfence::Vvma {
                span: GvaSpan::Everything,
                ..
            } => 1,
        }
    }

    /// Executes the fence on this CPU, as far as the vCPU left something here.
    fn execute(self, vcpu: &mut Pinned<'_>) {
        let (state, cpu) = vcpu.translation();
        match self {
            Hfence::Gvma(frames) => {
                state.fence_gvma(cpu, |vmid| inval::gvma_frames(vmid, frames));
            }
            Hfence::GvmaAll => state.fence_gvma(cpu, fence::gvma_vmid),
            Hfence::Vvma { asid, span } => state.fence_vvma(|| match (span, asid) {
                (GvaSpan::Bytes { start, size }, asid) => inval::vvma_bytes(asid, start, size),
                (GvaSpan::Everything, Some(asid)) => fence::vvma_asid(asid),
                (GvaSpan::Everything, None) => fence::vvma_all(),
            }),
        }
    }
}

/// How many fences wait one by one.
const QUEUE_LEN: usize = 64;

/// Fences that other CPUs have requested of a vCPU. C: `hfence_queue`. Any thread adds them, the
/// vCPU's thread takes them.
///
/// The queue cannot overflow: when it is full, one fence for everything replaces the fences in it.
///
/// # Invariants
///
/// Unless `gstage_active` is set, the vCPU has not used a guest-physical translation yet, and it
/// forgets all of them before it uses one.
#[pin_data]
pub(crate) struct HfenceQueue {
    /// The waiting fences. Taken in any context.
    #[pin]
    ring: RawSpinLock<Ring>,
    /// Whether the vCPU may have used guest-physical translations.
    gstage_active: AtomicBool,
}

impl Vcpu {
    /// Returns the fences that other harts asked for.
    #[inline(always)]
    pub(crate) fn hfences(&self) -> &HfenceQueue {
        self.part()
    }
}

/// The waiting fences.
///
/// # Invariants
///
/// `len` is at most `QUEUE_LEN`, and `first` is less than `QUEUE_LEN`.
struct Ring {
    hfences: [Hfence; QUEUE_LEN],
    first: usize,
    len: usize,
    /// Whether a fence for all guest-physical translations waits.
    gvma_all: bool,
    /// Whether a fence for all guest-virtual translations waits.
    vvma_all: bool,
}

impl HfenceQueue {
    /// Returns a queue without fences, of a vCPU that has not run.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            ring <- new_raw_spinlock!(Ring::new(), "HfenceQueue"),
            // INVARIANT: A vCPU that has not run yet forgets everything before it runs.
            gstage_active: AtomicBool::new(false),
        })
    }

    /// Notes that the vCPU is about to use guest-physical translations.
    #[inline(always)]
    fn set_gstage_active(&self) {
        if !self.gstage_active.load(Ordering::Relaxed) {
            self.gstage_active.store(true, Ordering::Relaxed);
            // A CPU that takes an entry away and then finds `gstage_active` clear has taken
            // it away before the fences that follow here: pairs with the fence in
            // `gstage_active_vcpus`, which comes before `is_gstage_active`.
            fence(Ordering::SeqCst);
        }
    }

    /// Returns whether the vCPU must be told what is no longer in the tree. The tree was changed
    /// before.
    #[inline(always)]
    fn is_gstage_active(&self) -> bool {
        self.gstage_active.load(Ordering::Relaxed)
    }

    /// Replaces all waiting fences by fences for everything, when the vCPU is reset: it does not
    /// execute the single fences of before any more, but what they would have flushed must go
    /// (differences-from-c M8).
    pub(crate) fn clear(&self) {
        self.ring.with(Ring::collapse);
    }

    /// Adds a fence.
    fn push(&self, hfence: Hfence) {
        self.ring.with(|ring| ring.push(hfence));
    }

    /// Takes the next fence, if one waits.
    fn take(&self) -> Option<Hfence> {
        self.ring.with(Ring::take)
    }

    /// Takes all waiting fences, as at most two fences for everything.
    fn take_all(&self) -> impl Iterator<Item = Hfence> {
        let all = self.ring.with(|ring| {
            ring.collapse();
            [ring.take(), ring.take()]
        });
        all.into_iter().flatten()
    }
}

impl Ring {
    /// Makes an empty ring in place.
    fn new() -> impl Init<Self> {
        // INVARIANT: `len` and `first` are 0: the ring is empty.
        init!(Self {
            hfences <- pin_init::init_array_from_fn(|_| Hfence::GvmaAll),
            first: 0,
            len: 0,
            gvma_all: false,
            vvma_all: false,
        })
    }

    /// Adds a fence, unless one for everything waits; a full ring is replaced by such.
    fn push(&mut self, hfence: Hfence) {
        match hfence {
            Hfence::Gvma(_) if self.gvma_all => return,
            Hfence::Vvma { .. } if self.vvma_all => return,
            Hfence::GvmaAll => {
                self.gvma_all = true;
                return;
            }
            Hfence::Gvma(_) | Hfence::Vvma { .. } => {}
        }
        if self.len == QUEUE_LEN {
            self.collapse();
            self.push(hfence);
            return;
        }
        let place = (self.first + self.len) % QUEUE_LEN;
        if let Some(place) = self.hfences.get_mut(place) {
            *place = hfence;
            // INVARIANT: A full ring has returned, so `len` was less than `QUEUE_LEN`.
            self.len += 1;
        }
    }

    /// Takes the next fence: those for everything come first.
    fn take(&mut self) -> Option<Hfence> {
        if mem::take(&mut self.gvma_all) {
            return Some(Hfence::GvmaAll);
        }
        if mem::take(&mut self.vvma_all) {
            return Some(Hfence::VVMA_ALL);
        }
        self.pop()
    }

    /// Takes the oldest single fence.
    fn pop(&mut self) -> Option<Hfence> {
        self.len = self.len.checked_sub(1)?;
        let hfence = self.hfences.get(self.first).copied();
        // INVARIANT: The remainder is less than `QUEUE_LEN`, and `len` got smaller above.
        self.first = (self.first + 1) % QUEUE_LEN;
        hfence
    }

    /// Replaces single fences by one for everything.
    fn collapse(&mut self) {
        while let Some(hfence) = self.pop() {
            match hfence {
                Hfence::Gvma(_) | Hfence::GvmaAll => self.gvma_all = true,
                Hfence::Vvma { .. } => self.vvma_all = true,
            }
        }
    }
}

/// vCPUs of one VM that a fence is for. No [`kernel::bitmap`], which would have to be allocated, by
/// callers that hold spinlocks.
pub(crate) struct VcpuMask(VcpuBitmap);

impl VcpuMask {
    /// Returns a mask without vCPUs.
    pub(crate) fn none() -> Self {
        Self(kvm::NO_VCPUS)
    }

    /// Adds a vCPU.
    pub(crate) fn add(&mut self, vcpu: &Vcpu) {
        let (word, bit) = Self::place(vcpu);
        if let Some(word) = self.0.get_mut(word) {
            *word |= bit;
        }
    }

    /// Removes a vCPU; tells whether it was there.
    fn remove(&mut self, vcpu: &Vcpu) -> bool {
        let (word, bit) = Self::place(vcpu);
        self.0.get_mut(word).is_some_and(|word| {
            let there = *word & bit != 0;
            *word &= !bit;
            there
        })
    }

    /// Returns the word and the bit of a vCPU.
    fn place(vcpu: &Vcpu) -> (usize, usize) {
        let idx = vcpu.idx().get();
        let bits = usize::BITS as usize;
        (idx / bits, 1 << (idx % bits))
    }

    /// Returns the indices of the vCPUs.
    fn indices(&self) -> impl Iterator<Item = VcpuIdx> + '_ {
        let bits = usize::BITS as usize;
        self.0.iter().enumerate().flat_map(move |(at, &word)| {
            let mut rest = word;
            core::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(VcpuIdx::new(at * bits + bit))
            })
        })
    }
}

/// Executes `fence` on the caller itself.
pub(crate) fn guest_fence_here(caller: &mut Pinned<'_>, fence: GuestFence) {
    match fence {
        GuestFence::Instructions => fence_i(caller),
        GuestFence::Translations { asid, span } => Hfence::Vvma { asid, span }.execute(caller),
    }
}

/// Has the vCPUs `to`, all of the caller's VM, execute `fence`, and waits until none of them runs
/// the guest without having done so. The caller's own fence, if it is among them, is executed at
/// once.
pub(crate) fn guest_fence(caller: &mut Loaded<'_>, mut to: VcpuMask, fence: GuestFence) {
    let me = caller.vcpu();
    if to.remove(me) {
        caller.pinned(|vcpu| guest_fence_here(vcpu, fence));
    }
    match fence {
        GuestFence::Instructions => {
            kvm::request_vcpus(me.vm(), Request::FenceI.raw(), &mut to.0);
        }
        GuestFence::Translations { asid, span } => {
            let hfence = Hfence::Vvma { asid, span };
            let vm = me.vm();
            for vcpu in to.indices().filter_map(|idx| vm.vcpu(idx)) {
                vcpu.hfences().push(hfence);
            }
            kvm::request_vcpus(vm, Request::Hfence.raw(), &mut to.0);
        }
    }
}

/// Returns the vCPUs of `vm` that may remember what the tree no longer has. A vCPU that has not run
/// yet does not, and no CPU remembers anything on behalf of a VM that has run none of its vCPUs.
fn gstage_active_vcpus(vm: &Vm) -> impl Iterator<Item = &Vcpu> {
    // The tree was changed before the vCPUs are looked at.
    fence(Ordering::SeqCst);
    vm.vcpus().filter(|vcpu| vcpu.hfences().is_gstage_active())
}

/// Has all vCPUs of `vm` forget the guest-physical translations of `frames`, and waits until none
/// of them runs the guest without having done so. Does not sleep; interrupts are on.
pub(crate) fn flush_frames(vm: &Vm, frames: GfnRange) -> Flushed {
    if frames.len() > inval::MAX_PAGES {
        return flush_everything(vm);
    }
    let mut to = VcpuMask::none();
    let mut any = false;
    if !frames.is_empty() {
        for vcpu in gstage_active_vcpus(vm) {
            vcpu.hfences().push(Hfence::Gvma(frames));
            to.add(vcpu);
            any = true;
        }
    }
    if any {
        kvm::request_vcpus(vm, Request::Hfence.raw(), &mut to.0);
    }
    // SAFETY: Each vCPU that may remember the frames has the fence in its queue and was told. Core
    // KVM has waited until none of them was in the guest without having seen the request.
    unsafe { Flushed::new() }
}

/// Flushes as [`flush_frames`] does, for all frames.
pub(crate) fn flush_everything(vm: &Vm) -> Flushed {
    if gstage_active_vcpus(vm).next().is_some() {
        kvm::flush_remote_tlbs(vm);
    }
    // SAFETY: Unless no vCPU remembers anything, core KVM has told all vCPUs, and has waited until
    // none of them was in the guest without having seen the request.
    unsafe { Flushed::new() }
}
