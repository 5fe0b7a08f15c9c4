// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! Svnapot runs under the read lock: 16 entries that are claimed, upgraded or unfolded one by one,
//! next to other faults that do the same. C has no counterpart.
//!
//! For a page of 64 KiB, a hart may use any of the 16 entries that has N set, whatever the page's
//! own entry says (Privileged Architecture, "Svnapot"), and which of several it uses is
//! unpredictable. So entries of one run must never disagree in a way that matters:
//!
//! - *Translation.* They all map the same 64 KiB: the host's mapping that a claim is made from
//!   holds as long as `mmu_lock` is held, so all CPUs that claim have the same, and a 4 KiB leaf
//!   among the entries is a part of it.
//! - *Rights.* A claim says that all 16 pages may have its rights. Where an entry has fewer, for
//!   want of a fault or because another CPU claimed with less, a guest at worst faults once more.
//! - *What is taken away* is taken from all 16, under the write lock. That needs no search, because
//!   of the invariant below.
//!
//! # The invariant
//!
//! Whenever the write lock is held, each aligned group of 16 entries of a leaf table has N in all
//! of them, with the same frames, or in none.
//!
//! Under the read lock an entry goes from empty to a part of a run, and from there, or from empty,
//! to a 4 KiB leaf, and never back. A CPU that claims goes through all entries, and looks at them
//! again after the last one; a fault that sees or makes a 4 KiB leaf in a group where it also knows
//! of a run unfolds the run, that is, turns each of its entries into a 4 KiB leaf with the same
//! frame and rights. If an entry that [`unfold`] has passed is claimed afterwards, the claim came
//! after the 4 KiB leaf, and the claiming CPU finds that leaf when it looks again: each side first
//! writes, then, after a fence, reads what the other writes.

use crate::{
    gstage::{
        flush::Flush,
        install::Outcome,
        pte::{
            Bits,
            Entry,
            Leaf,
            Pte,
            PteCell, //
            NAPOT_PTES,
        },
        table::{
            Counted,
            TableMemory, //
        }, //
    },
    kernel_ext::atomic::{
        fence, //
        Ordering,
    },
    kvm_core::addr::{
        Gfn,
        GfnRange,
        PageSize, //
    }, //
};

/// The outcome of [`claim`].
pub(crate) enum Claim {
    /// All 16 entries are a run with at least the wanted rights; this is what the entry for the
    /// faulting page was before.
    Run(Pte),
    /// Other leaves are there: only pages can be mapped.
    Pages,
}

/// Makes the entries of `run`, in the kernel always 16, what `wanted` says, that for `gfn` among
/// them. The read lock is held.
#[cold]
pub(crate) fn claim<M: TableMemory>(mem: M, run: &[PteCell], gfn: Gfn, wanted: Leaf) -> Claim {
    // Look at all entries first, so that a run is not begun where it cannot be finished.
    if !run
        .iter()
        .all(|slot| after(slot.read_relaxed(), wanted).is_some())
    {
        return Claim::Pages;
    }
    let mut before = Pte::EMPTY;
    for (index, slot) in run.iter().enumerate() {
        let Some(old) = raise(slot, wanted) else {
            unfold(mem, run);
            return Claim::Pages;
        };
        if index == 0 && old == Pte::EMPTY {
            mem.count(Counted::Leaves(PageSize::Size64K), 1);
        }
        if index == gfn.get() as usize % NAPOT_PTES {
            before = old;
        }
    }
    // Pairs with the fence of `unfold`.
    fence(Ordering::SeqCst);
    if run.iter().all(|slot| slot.read_relaxed().in_run()) {
        Claim::Run(before)
    } else {
        unfold(mem, run);
        Claim::Pages
    }
}

/// Lets the guest access the page of `gfn`, whose entry `slot` is `leaf`, one of those of `run`, as
/// `wanted` says, which holds for this page only. Returns what was done, and the frames of the run
/// if it was split; [`None`] if the entry is not `leaf` any more.
#[cold]
pub(crate) fn page_of_run<M: TableMemory>(
    mem: M,
    run: &[PteCell],
    slot: &PteCell,
    gfn: Gfn,
    leaf: Leaf,
    wanted: Leaf,
) -> Option<(Outcome, Flush)> {
    let lacks = leaf.lacks(wanted);
    if lacks.permission() {
        let index = gfn.get() as usize % NAPOT_PTES;
        if !to_page(mem, slot, leaf, index, lacks) {
            return None;
        }
        unfold(mem, run);
        let start = gfn.align_down(PageSize::Size64K);
        let split = Flush::of(GfnRange::from_len(start, NAPOT_PTES as u64));
        return Some((Outcome::Upgraded, split));
    }
    let gain = lacks.status();
    if gain.is_none() {
        return Some((Outcome::Already, Flush::NONE));
    }
    if slot.replace(leaf.pte(), leaf.with(gain).pte()).is_err() {
        return None;
    }
    // A hart may use any of the entries for any page. If another CPU changes an entry meanwhile,
    // that CPU checks the group itself.
    for slot in run {
        let now = slot.read_relaxed();
        match now.entry() {
            Entry::Leaf(other)
                if now.in_run() && !other.lacks(leaf.with(gain)).status().is_none() =>
            {
                let _ = slot.replace(now, other.with(gain).pte());
            }
            _ => {}
        }
    }
    Some((Outcome::Upgraded, Flush::NONE))
}

/// Returns what an entry that was `now` becomes when `wanted`, a leaf of a run, claims it; [`None`]
/// if it cannot be claimed.
#[inline]
fn after(now: Pte, wanted: Leaf) -> Option<Leaf> {
    match now.entry() {
        Entry::Empty => Some(wanted),
        Entry::Leaf(leaf) if leaf.translates_as(wanted) => Some(leaf.with(leaf.lacks(wanted))),
        Entry::Leaf(_) | Entry::Table(_) => None,
    }
}

/// Makes one entry what [`after`] says; returns what it was.
#[inline]
fn raise(slot: &PteCell, wanted: Leaf) -> Option<Pte> {
    loop {
        let now = slot.read_relaxed();
        let new = after(now, wanted)?.pte();
        if new == now || slot.replace(now, new).is_ok() {
            return Some(now);
        }
    }
}

/// Turns the entries of `run` that are in a run into 4 KiB leaves that translate alike.
///
/// Under the read lock, an entry that is a 4 KiB leaf was seen or made before. No flush is owed:
/// what harts remember stays right until something is taken away, which is flushed then.
#[cold]
pub(super) fn unfold<M: TableMemory>(mem: M, run: &[PteCell]) {
    // Pairs with the fence of `claim`.
    fence(Ordering::SeqCst);
    for (index, slot) in run.iter().enumerate() {
        loop {
            let now = slot.read_relaxed();
            let Entry::Leaf(leaf) = now.entry() else {
                break;
            };
            if !now.in_run() || to_page(mem, slot, leaf, index, Bits::NONE) {
                break;
            }
        }
    }
}

/// Turns one entry of a run, `leaf`, the one at `index`, into a 4 KiB leaf that has `gain`, too.
/// Tells whether the entry still was `leaf`. The caller unfolds the rest of the run.
#[inline]
pub(super) fn to_page<M: TableMemory>(
    mem: M,
    slot: &PteCell,
    leaf: Leaf,
    index: usize,
    gain: Bits,
) -> bool {
    let page = leaf.page_of_run(index).with(gain);
    if slot.replace(leaf.pte(), page.pte()).is_err() {
        return false;
    }
    if index % NAPOT_PTES == 0 {
        mem.count(Counted::Leaves(PageSize::Size64K), -1);
    }
    mem.count(Counted::Leaves(PageSize::Size4K), 1);
    true
}
