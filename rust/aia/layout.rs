// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! The guest physical addresses of interrupt files, and the vCPU that each belongs to. Answers to
//! `aia_imsic_ppn()` and `aia_imsic_hart_index()` in `aia_device.c`, and to the search through all
//! vCPUs that C does for each MSI.
//!
//! AIA specification, "Arrangement of the memory regions of multiple interrupt files": the pages of
//! all harts are at one base address plus group, hart and guest number, each shifted to a place of
//! its own:
//!
//! ```text
//!  63                                                  12 11     0
//! | base | group index | base | hart index | guest index | offset |
//!        ^ group_shift
//! ```

use core::ops::Range;

use crate::{
    aia::msi::{
        GuestIndex,
        HartIndex, //
    },
    kvm_core::addr::{
        Gpa,
        VcpuIdx, //
        PAGE_SHIFT,
    }, //
};

/// How many bits each index has in an address, and where the group index begins. The hart index is
/// above the guest index, which is above the offset in the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LayoutBits {
    /// Bits of the guest index.
    pub(crate) guest: u32,
    /// Bits of the hart index within a group.
    pub(crate) hart: u32,
    /// Bits of the group index; without any, there is one group.
    pub(crate) group: u32,
    /// Where the group index begins; ignored if it has no bits.
    pub(crate) group_shift: u32,
}

/// The indices do not fit beside each other, into an address or into a [`HartIndex`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overlap;

/// Bits of an address that form a number.
///
/// # Invariants
///
/// `shift` is below 64, `width` at most 32, `shift + width` at most 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    shift: u32,
    width: u32,
}

impl Field {
    /// Returns the field of `width` bits from `shift` on; [`None`] if no address has them.
    const fn new(shift: u32, width: u32) -> Option<Field> {
        if shift < u64::BITS && width <= u32::BITS && shift + width <= u64::BITS {
            // INVARIANT: The condition checks all three bounds.
            Some(Field { shift, width })
        } else {
            None
        }
    }

    /// Returns as many ones as the number has bits.
    const fn ones(self) -> u64 {
        (1 << self.width) - 1
    }

    /// Returns the bits of the address.
    const fn mask(self) -> u64 {
        self.ones() << self.shift
    }

    /// Returns the number in `address`.
    const fn of(self, address: u64) -> u32 {
        (address >> self.shift & self.ones()) as u32
    }
}

/// The fields in the addresses of a VM's interrupt files.
///
/// # Invariants
///
/// Fields that have any bits do not overlap each other and begin above the offset. `hart` and
/// `group` together have at most 32 bits, and `hart` has fewer than 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupLayout {
    /// The guest index.
    guest: Field,
    /// The hart index within a group.
    hart: Field,
    /// The group index.
    group: Field,
}

/// An address taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The address without the offset and the indices: the same for all interrupt files of a VM.
    pub(crate) base: u64,
    /// Group index and hart index.
    pub(crate) hart: HartIndex,
    /// Guest index.
    pub(crate) guest: GuestIndex,
    /// The offset in the page.
    pub(crate) offset: u32,
}

impl GroupLayout {
    /// Returns the layout with these bits.
    ///
    /// # Errors
    ///
    /// [`Overlap`]
    pub(crate) const fn new(bits: LayoutBits) -> Result<Self, Overlap> {
        // Refuse widths that no address has, so that nothing overflows below.
        if bits.guest > u32::BITS || bits.hart >= u32::BITS || bits.group > u32::BITS - bits.hart {
            return Err(Overlap);
        }
        let end = PAGE_SHIFT + bits.guest + bits.hart;
        let group_shift = if bits.group == 0 { 0 } else { bits.group_shift };
        let apart = bits.group == 0 || group_shift >= end;
        let fields = (
            Field::new(PAGE_SHIFT, bits.guest),
            Field::new(PAGE_SHIFT + bits.guest, bits.hart),
            Field::new(group_shift, bits.group),
        );
        match fields {
            // INVARIANT: The widths were checked above, and each field that has bits begins where
            // the one before it ends, or later.
            (Some(guest), Some(hart), Some(group)) if apart => Ok(Self { guest, hart, group }),
            _ => Err(Overlap),
        }
    }

    /// Returns how many bytes lie between the files of a hart and those of the next hart index.
    const fn stride(&self) -> u64 {
        1 << self.hart.shift
    }

    /// Groups `files`, the addresses of supervisors' files in rising order, into runs of hart
    /// indices that follow each other, which have only files of guests in between. No run has `gap`
    /// in it, which is no file. Returns the addresses from the first file to the end of the last.
    pub(crate) fn runs<'f>(
        &'f self,
        files: &'f [Gpa],
        gap: Option<Gpa>,
    ) -> impl Iterator<Item = Range<Gpa>> + 'f {
        files
            .chunk_by(move |one, next| {
                let is_apart = gap.is_some_and(|gap| (*one..*next).contains(&gap));
                next.get() - one.get() == self.stride() && !is_apart
            })
            .filter_map(|run| Some(*run.first()?..Gpa::new(run.last()?.get() + (1 << PAGE_SHIFT))))
    }

    /// Takes `gpa` apart.
    pub(crate) const fn split(&self, gpa: Gpa) -> Place {
        let gpa = gpa.get();
        let offset = gpa & ((1 << PAGE_SHIFT) - 1);
        let indices = self.guest.mask() | self.hart.mask() | self.group.mask();
        Place {
            base: (gpa & !indices) - offset,
            hart: HartIndex::new(self.group.of(gpa) << self.hart.width | self.hart.of(gpa)),
            guest: GuestIndex::new(self.guest.of(gpa)),
            offset: offset as u32,
        }
    }
}

/// A slot of the table that finds vCPUs by hart index. The [`Default`] slot is free.
///
/// The table is a slice of [`slots_for`] slots, in which a vCPU is at the slot that its hart index
/// is hashed to, or in the next free one behind. So the cost of an MSI does not depend on the
/// number of vCPUs, nor on the hart indices, unless userspace chooses those to collide.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HartSlot {
    /// The hart index, if the slot is not free.
    hart: u32,
    /// One more than the vCPU's position; 0 if the slot is free.
    vcpu: u32,
}

/// Why a vCPU is not in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// Another vCPU has the same hart index.
    Duplicate,
    /// The table has no free slot, or cannot hold a position like this.
    Full,
}

/// Returns how many slots a table for `vcpus` vCPUs shall have: a power of two, at most half of
/// them used.
pub(crate) const fn slots_for(vcpus: usize) -> usize {
    match vcpus.checked_mul(2) {
        Some(0) => 1,
        Some(slots) => slots.next_power_of_two(),
        None => usize::MAX,
    }
}

/// Returns the slots where `hart` may be, in the order in which they are tried: each once.
fn candidates(slots: usize, hart: HartIndex) -> impl Iterator<Item = usize> {
    // Fibonacci hashing spreads neighbours, and the same harts of several groups, well.
    let hash = u64::from(hart.get()).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let mask = slots.wrapping_sub(1);
    (0..slots).map(move |step| (hash as usize).wrapping_add(step) & mask)
}

/// Enters the vCPU at position `vcpu` as the one that has the interrupt file with index `hart`.
///
/// # Errors
///
/// [`Rejected`]; the table is as before.
pub(crate) fn insert(
    slots: &mut [HartSlot],
    hart: HartIndex,
    vcpu: VcpuIdx,
) -> Result<(), Rejected> {
    let position = u32::try_from(vcpu.get()).ok();
    let entry = position
        .and_then(|position| position.checked_add(1))
        .ok_or(Rejected::Full)?;
    for n in candidates(slots.len(), hart) {
        let Some(slot) = slots.get_mut(n) else {
            break;
        };
        if slot.vcpu == 0 {
            *slot = HartSlot {
                hart: hart.get(),
                vcpu: entry,
            };
            return Ok(());
        }
        if slot.hart == hart.get() {
            return Err(Rejected::Duplicate);
        }
    }
    Err(Rejected::Full)
}

/// Returns the vCPU that has the interrupt file with index `hart`.
pub(crate) fn find(slots: &[HartSlot], hart: HartIndex) -> Option<VcpuIdx> {
    for n in candidates(slots.len(), hart) {
        let slot = slots.get(n)?;
        let position = slot.vcpu.checked_sub(1)?;
        if slot.hart == hart.get() {
            return Some(VcpuIdx::new(position as usize));
        }
    }
    None
}
