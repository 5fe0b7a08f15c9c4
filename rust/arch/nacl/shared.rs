// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! A CPU's guest registers, fences and guest entry by way of the shared memory.
//!
//! The rules, from SBI 3.0, "Nested Acceleration Extension":
//!
//! - Registers are read in the memory: the other side keeps it up to date.
//! - They are written there with the feature "Synchronize CSR", and take effect once they are
//!   synchronised; without it, the CSR is written.
//! - Fences wait there with the feature "Synchronize HFENCE"; without, the instruction is executed.
//!   C queues them in either case.
//! - A synchronous SRET synchronises. Code that enters the guest or reads on its behalf by other
//!   means calls [`Shared::sync`] first.

use crate::{
    arch::{
        gprs::{
            Gprs,
            Reg, //
        },
        nacl::{
            hfence::{
                Hfence,
                Queued, //
            },
            memory::{
                SharedMemory, //
                AUTOSWAP_HSTATUS,
            },
            provider::{
                Feature,
                Features,
                Function,
                Provider,
                Refused, //
            }, //
        },
        registers::{
            GuestCsr,
            Registers, //
        }, //
    },
    bindings,
    kernel_ext::atomic::Ordering, //
};

/// All CSRs, or all fences.
const ALL: usize = usize::MAX;

/// `SBI_SHMEM_DISABLE`, for either half of an address.
const NOWHERE: usize = usize::MAX;

/// A CPU's side of the protocol: its memory, the SBI implementation, and the registers themselves.
pub(crate) struct Shared<'m, P, D> {
    /// The memory of this CPU.
    memory: &'m SharedMemory,
    /// The features of the implementation.
    features: Features,
    /// The calls of the implementation.
    provider: P,
    /// The registers themselves, where the memory does not serve.
    direct: D,
}

/// The side that swaps `hstatus` when the guest is entered and left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hstatus {
    /// The other side.
    SwapsItself,
    /// The world switch.
    MustBeSwapped,
}

/// The values that the guest's trap has left in the shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// The guest's `hstatus`, if the other side swaps it.
    pub(crate) hstatus: Option<usize>,
    /// `htval`.
    pub(crate) htval: usize,
    /// `htinst`.
    pub(crate) htinst: usize,
}

impl<'m, P: Provider, D: Registers> Shared<'m, P, D> {
    /// The number of times that a full queue is synchronised before the caller must use the
    /// instruction.
    const ATTEMPTS: usize = 5;

    /// Returns the protocol over `memory`, which belongs to this CPU.
    pub(crate) fn new(
        memory: &'m SharedMemory,
        features: Features,
        provider: P,
        direct: D,
    ) -> Self {
        Self {
            memory,
            features,
            provider,
            direct,
        }
    }

    /// Passes the memory, at `physical`, to the other side.
    ///
    /// # Errors
    ///
    /// The implementation's error.
    pub(crate) fn enable(&self, physical: u64) -> Result<(), Refused> {
        // Drop what is left from an earlier use.
        self.memory.clear();
        let args = [physical as usize, 0, 0];
        self.provider.call(Function::SetShmem, args).map(|_| ())
    }

    /// Ends the use of the memory, and executes the fences that wait there before.
    pub(crate) fn disable(&self) {
        // The caller cannot handle an error, so both are ignored. The CPU forgets everything before
        // it is used again.
        let _ = self.sync_hfences();
        let _ = self
            .provider
            .call(Function::SetShmem, [NOWHERE, NOWHERE, 0]);
    }

    /// Synchronises CSRs and fences now.
    ///
    /// # Errors
    ///
    /// The implementation's error; the registers of this CPU are then not the guest's.
    pub(crate) fn sync(&self) -> Result<(), Refused> {
        if self.memory.is_any_csr_dirty() {
            self.provider.call(Function::SyncCsr, [ALL, 0, 0])?;
        }
        self.sync_hfences()
    }

    /// Has the other side execute all fences that wait.
    fn sync_hfences(&self) -> Result<(), Refused> {
        if self.memory.is_any_hfence_pending() {
            self.provider.call(Function::SyncHfence, [ALL, 0, 0])?;
        }
        Ok(())
    }

    /// Has `hfence` executed before the guest is entered, or else, at once, `instruction`, which
    /// does the same to the VMID in `hgatp`.
    pub(crate) fn fence(&self, hfence: Hfence, instruction: impl FnOnce()) {
        if self.queue(hfence) == Queued::Full {
            // SAFETY: The memory holds the value that `set_hgatp` wrote last, here or to the CSR.
            // Its caller ensured that the tree stays as it is while `hgatp` names it, or changes as
            // `gstage` lets it.
            unsafe { self.direct.set_hgatp(self.hgatp()) };
            instruction();
        }
    }

    /// Queues `hfence`, if an entry is free or becomes free.
    fn queue(&self, hfence: Hfence) -> Queued {
        if !self.features.has(Feature::SyncHfence) {
            return Queued::Full;
        }
        for _ in 0..Self::ATTEMPTS {
            match self.memory.queue(hfence) {
                Queued::Yes => return Queued::Yes,
                // If the call is refused, the next attempt finds no entry either.
                Queued::Full => drop(self.sync_hfences()),
            }
        }
        Queued::Full
    }

    /// Enters the guest by `sret`, the call for that, if there is one.
    ///
    /// # Errors
    ///
    /// [`None`] if there is no such call; otherwise the error with which the call returned. The
    /// guest was not entered then.
    pub(crate) fn enter(
        &self,
        gprs: &Gprs,
        hstatus: usize,
        sret: impl FnOnce(Hstatus) -> Result<(), Refused>,
    ) -> Result<Left, Option<Refused>> {
        if !self.features.has(Feature::SyncSret) {
            return Err(None);
        }
        for (number, place) in (0..).zip(&self.memory.gprs).skip(1) {
            if let Some(reg) = Reg::new(number) {
                place.store(gprs.get(reg) as u64, Ordering::Relaxed);
            }
        }
        let swaps = self.features.has(Feature::AutoswapCsr);
        let autoswap = &self.memory.autoswap;
        let answer = if swaps {
            autoswap.hstatus.store(hstatus as u64, Ordering::Relaxed);
            autoswap.flags.store(AUTOSWAP_HSTATUS, Ordering::Release);
            let answer = sret(Hstatus::SwapsItself);
            autoswap.flags.store(0, Ordering::Release);
            answer
        } else {
            sret(Hstatus::MustBeSwapped)
        };
        answer.map_err(Some)?;
        Ok(Left {
            hstatus: swaps.then(|| autoswap.hstatus.load(Ordering::Relaxed) as usize),
            htval: self.memory.csr::<{ bindings::CSR_HTVAL }>(),
            htinst: self.memory.csr::<{ bindings::CSR_HTINST }>(),
        })
    }

    /// Returns whether CSRs can be written in the memory.
    #[inline(always)]
    fn writes_here(&self) -> bool {
        self.features.has(Feature::SyncCsr)
    }
}

impl<P: Provider, D: Registers> Registers for Shared<'_, P, D> {
    fn read<const N: u32>(&self, _csr: GuestCsr<N>) -> usize {
        self.memory.csr::<N>()
    }

    fn write<const N: u32>(&self, csr: GuestCsr<N>, value: usize) {
        if self.writes_here() {
            self.memory.set_csr::<N>(value);
        } else {
            self.direct.write(csr, value);
        }
    }

    fn swap<const N: u32>(&self, csr: GuestCsr<N>, value: usize) -> usize {
        if self.writes_here() {
            let old = self.memory.csr::<N>();
            self.memory.set_csr::<N>(value);
            old
        } else {
            self.direct.swap(csr, value)
        }
    }

    fn write_readback<const N: u32>(&self, csr: GuestCsr<N>, value: usize) -> usize {
        if !self.writes_here() {
            return self.direct.write_readback(csr, value);
        }
        // A value that the CSR has already is not written again.
        if self.memory.csr::<N>() != value {
            self.memory.set_csr::<N>(value);
            // If the call is refused, the value that the CSR takes is seen after the next entry.
            let _ = self.provider.call(Function::SyncCsr, [N as usize, 0, 0]);
        }
        self.memory.csr::<N>()
    }

    fn hgatp(&self) -> usize {
        self.memory.csr::<{ bindings::CSR_HGATP }>()
    }

    unsafe fn set_hgatp(&self, value: usize) {
        if self.writes_here() {
            self.memory.set_csr::<{ bindings::CSR_HGATP }>(value);
        } else {
            // SAFETY: The caller ensures that the tree stays as it is while `hgatp` names it, or
            // changes as `gstage` lets it.
            unsafe { self.direct.set_hgatp(value) };
        }
    }
}
