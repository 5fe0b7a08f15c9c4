// SPDX-License-Identifier: GPL-2.0

//! Guest memory that the SBI writes to. Answers to core KVM's `kvm_vcpu_read_guest()` and
//! `kvm_vcpu_write_guest()` as `vcpu_sbi_*.c` use them.
//!
//! It is user memory of the VM's own process, whose thread runs the vCPU; the access may sleep, and
//! fail. Locks: the slots are read (`kvm->srcu`), nothing else is held.

use kernel::{
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

use crate::{
    kernel_ext::uaccess::{
        get_user_u32,
        get_user_u64,
        put_user_u32,
        put_user_u64, //
    },
    kvm_core::{
        addr::{
            Gfn,
            Gpa,
            PAGE_SIZE, //
        },
        calls,
        memslot::{
            Slot,
            SlotAccess, //
        },
        object::HeldVcpu,
        srcu::SlotsRead, //
    }, //
};

/// Why there is no [`Place`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// There is no memory, or the guest cannot write to it.
    NoMemory,
    /// The vCPU's dirty ring is full but for its reserve. The caller tries again when userspace has
    /// collected the ring.
    RingFull,
}

/// Some bytes of guest memory, all in one page, that the guest could write to. Dropping this marks
/// the page in the dirty log if it was written to.
///
/// A vCPU whose dirty ring is full but for its reserve gets no place in memory that is logged. So
/// one exit adds at most one entry of a place to the reserve, however many places it finds.
pub(crate) struct Place<'s> {
    /// The vCPU on whose behalf memory is written.
    vcpu: HeldVcpu<'s>,
    /// The slot of the page.
    slot: Slot<'s>,
    /// The guest frame of the page.
    gfn: Gfn,
    /// The host address of the first byte.
    start: UserPtr,
    /// The number of bytes.
    len: usize,
    /// Whether there was a write.
    log: Log,
}

/// Whether the place was written to, for the dirty log.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Log {
    Nothing,
    Write,
}

impl<'s> Place<'s> {
    /// Returns the `len` bytes at `gpa`, if there is memory that the guest can write to. The vCPU
    /// of `slots` is loaded.
    ///
    /// # Errors
    ///
    /// [`NoPlace`]
    pub(crate) fn find(slots: &'s SlotsRead<'_>, gpa: Gpa, len: usize) -> Result<Self, NoPlace> {
        let offset = (gpa.get() % PAGE_SIZE) as usize;
        if offset.saturating_add(len) > PAGE_SIZE as usize {
            return Err(NoPlace::NoMemory);
        }
        let gfn = gpa.gfn();
        let slot = Slot::find(slots, gfn).ok_or(NoPlace::NoMemory)?;
        if slot.is_invalid() || slot.access() == SlotAccess::ReadOnly {
            return Err(NoPlace::NoMemory);
        }
        // Core KVM makes the request with the entry that reaches the soft limit, and the run loop
        // looks at the ring whenever it serves requests.
        if slot.is_logged() && calls::dirty_ring_is_soft_full(slots.vcpu().get()) {
            return Err(NoPlace::RingFull);
        }
        let page = UserPtr::from_addr(slot.hva(gfn).get());
        Ok(Self {
            vcpu: slots.vcpu(),
            slot,
            gfn,
            start: page.wrapping_byte_add(offset),
            len,
            log: Log::Nothing,
        })
    }

    /// Returns the address of the `len` bytes at `offset`.
    fn part(&self, offset: usize, len: usize) -> Result<UserPtr> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(self.start.wrapping_byte_add(offset)),
            Some(_) | None => Err(EINVAL),
        }
    }

    /// Reads the word at `offset`.
    ///
    /// # Errors
    ///
    /// `EFAULT` if userspace has no memory there; `EINVAL` if it is not in the place.
    pub(crate) fn read_u32(&self, offset: usize) -> Result<u32> {
        get_user_u32(self.part(offset, size_of::<u32>())?).map(u32::from_le)
    }

    /// Reads the double word at `offset`.
    ///
    /// # Errors
    ///
    /// As [`read_u32`](Self::read_u32).
    pub(crate) fn read_u64(&self, offset: usize) -> Result<u64> {
        get_user_u64(self.part(offset, size_of::<u64>())?).map(u64::from_le)
    }

    /// Writes the word at `offset`.
    ///
    /// # Errors
    ///
    /// As [`read_u32`](Self::read_u32).
    pub(crate) fn write_u32(&mut self, offset: usize, value: u32) -> Result {
        let part = self.part(offset, size_of::<u32>())?;
        self.log = Log::Write;
        put_user_u32(part, value.to_le())
    }

    /// Writes the double word at `offset`.
    ///
    /// # Errors
    ///
    /// As [`read_u32`](Self::read_u32).
    pub(crate) fn write_u64(&mut self, offset: usize, value: u64) -> Result {
        let part = self.part(offset, size_of::<u64>())?;
        self.log = Log::Write;
        put_user_u64(part, value.to_le())
    }

    /// Writes `bytes` at the start.
    ///
    /// # Errors
    ///
    /// As [`read_u32`](Self::read_u32); some may be written then.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result {
        let part = self.part(0, bytes.len())?;
        self.log = Log::Write;
        UserSlice::new(part, bytes.len())
            .writer()
            .write_slice(bytes)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.log == Log::Write {
            self.slot.mark_written(self.vcpu, self.gfn);
        }
    }
}
