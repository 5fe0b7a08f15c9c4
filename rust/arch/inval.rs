// SPDX-License-Identifier: GPL-2.0

//! Fences for ranges of addresses, with or without Svinval. Answers to the loops of `tlb.c`.
//!
//! Privileged Architecture, "Svinval": several HINVAL between SFENCE.W.INVAL and SFENCE.INVAL.IR
//! have the effect of as many HFENCE, and can overlap.

use core::arch::asm;

use crate::{
    arch::{
        cpufeature,
        fence,
        nacl::{
            self,
            Hfence,
            Span, //
        }, //
    },
    bindings,
    kernel_ext::atomic::{
        AtomicBool,
        Ordering, //
    },
    kvm_core::addr::{
        Asid,
        GfnRange,
        Vmid, //
        PAGE_SHIFT,
        PAGE_SIZE,
    }, //
};

/// Whether the host has Svinval: constant once [`probe`] has asked.
static HAS_SVINVAL: AtomicBool = AtomicBool::new(false);

/// Probes which instructions the host has for fences. Called once, before there is a VM.
pub(crate) fn probe() {
    let has = cpufeature::host_has(bindings::RISCV_ISA_EXT_SVINVAL);
    HAS_SVINVAL.store(has, Ordering::Relaxed);
}

/// For ranges of more pages, a fence for everything is faster.
pub(crate) const MAX_PAGES: u64 = 512;

/// Executes a fence of `$stage` for each of `$addresses`, with `$operand` for its second: as HINVAL
/// where there is Svinval, or else as HFENCE.
macro_rules! in_one_go {
    ($addresses:expr, $stage:literal, $operand:literal $(, $id:expr)?) => {
        in_one_go(
            $addresses,
            |address| {
                // SAFETY: The instruction only makes this CPU forget cached translations.
                unsafe {
                    asm!(
                        ".option push", ".option arch, +h, +svinval",
                        concat!("hinval.", $stage, " {}, ", $operand),
                        ".option pop",
                        in(reg) address $(, in(reg) $id)?
                    )
                };
            },
            |address| {
                // SAFETY: The fence only makes this CPU forget cached translations.
                unsafe {
                    asm!(
                        ".option push", ".option arch, +h",
                        concat!("hfence.", $stage, " {}, ", $operand),
                        ".option pop",
                        in(reg) address $(, in(reg) $id)?
                    )
                };
            },
        )
    };
}

/// Flushes the guest-physical translations of `frames`, of one VM.
pub(crate) fn gvma_frames(vmid: Vmid, frames: GfnRange) {
    let first = frames.start().gpa();
    match frames.len() {
        0 => {}
        1 => fence::gvma_vmid_gpa(vmid, first),
        2..=MAX_PAGES => {
            let addresses = (0..frames.len()).map(|i| (first.get() + i * PAGE_SIZE) >> 2);
            nacl::fence(
                |_| Hfence::GvmaVmid(vmid, Span::frames(frames)),
                || gvma_pages(vmid, addresses),
            );
        }
        _ => fence::gvma_vmid(vmid),
    }
}

/// Executes HFENCE.GVMA for each of `addresses`, which are shifted right by 2, and `vmid`.
fn gvma_pages(vmid: Vmid, addresses: impl Iterator<Item = u64>) {
    let vmid = vmid.get() as usize;
    in_one_go!(addresses, "gvma", "{}", vmid);
}

/// Flushes the guest-virtual translations of the `size` bytes from `start` on, of the VM in
/// `hgatp`: in one address space, or in all and of global mappings, too.
pub(crate) fn vvma_bytes(asid: Option<Asid>, start: usize, size: usize) {
    if size == 0 {
        return;
    }
    // Compute with the last byte, because the end of the range may be 2^64.
    let pages = start.checked_add(size - 1).map(|last| {
        let first = start >> PAGE_SHIFT;
        (first, (last >> PAGE_SHIFT) - first + 1)
    });
    match (pages, asid) {
        (Some((first, pages)), _) if pages as u64 <= MAX_PAGES => {
            let addresses = (first..first + pages).map(|page| (page << PAGE_SHIFT) as u64);
            let span = Span::Pages {
                first: first as u64,
                count: pages as u64,
            };
            match asid {
                Some(asid) => nacl::fence(
                    |vmid| Hfence::VvmaAsid(vmid, asid, span),
                    || vvma_asid_pages(asid, addresses),
                ),
                None => nacl::fence(|vmid| Hfence::Vvma(vmid, span), || vvma_pages(addresses)),
            }
        }
        (_, Some(asid)) => fence::vvma_asid(asid),
        (_, None) => fence::vvma_all(),
    }
}

/// Executes HFENCE.VVMA for each of `addresses` in the address space `asid`.
fn vvma_asid_pages(asid: Asid, addresses: impl Iterator<Item = u64>) {
    let asid = asid.get() as usize;
    in_one_go!(addresses, "vvma", "{}", asid);
}

/// Executes HFENCE.VVMA for each of `addresses` in all address spaces, for global mappings, too.
fn vvma_pages(addresses: impl Iterator<Item = u64>) {
    // Name x0 itself: any other register with 0 in it names address space 0.
    in_one_go!(addresses, "vvma", "zero");
}

/// Calls `hinval` for all `addresses` inside of the Svinval bracket if the host has Svinval, or
/// else `hfence`.
#[inline(always)]
fn in_one_go(addresses: impl Iterator<Item = u64>, hinval: impl Fn(u64), hfence: impl Fn(u64)) {
    if !HAS_SVINVAL.load(Ordering::Relaxed) {
        addresses.for_each(hfence);
        return;
    }
    // SAFETY: The host has Svinval, and `sfence.w.inval` only orders memory accesses.
    unsafe {
        asm!(
            ".option push",
            ".option arch, +svinval",
            "sfence.w.inval",
            ".option pop"
        )
    };
    addresses.for_each(hinval);
    // SAFETY: The host has Svinval, and `sfence.inval.ir` only orders memory accesses.
    unsafe {
        asm!(
            ".option push",
            ".option arch, +svinval",
            "sfence.inval.ir",
            ".option pop"
        )
    };
}
