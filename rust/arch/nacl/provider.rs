// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! The calls of the SBI's Nested Acceleration Extension.
//!
//! SBI 3.0, "Nested Acceleration Extension", functions 0 to 4. The last one, which enters the
//! guest, is not called from here: see `arch/nacl/switch.rs`.

use crate::bindings;

/// The implementation of the extension, which looks like firmware to this kernel.
pub(crate) trait Provider {
    /// Calls `function`.
    ///
    /// # Errors
    ///
    /// The implementation's error.
    fn call(&self, function: Function, args: [usize; 3]) -> Result<usize, Refused>;
}

/// A function that is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Function {
    /// Asks whether there is a [`Feature`].
    ProbeFeature = bindings::sbi_ext_nacl_fid_SBI_EXT_NACL_PROBE_FEATURE,
    /// Sets the address of the shared memory of this CPU.
    SetShmem = bindings::sbi_ext_nacl_fid_SBI_EXT_NACL_SET_SHMEM,
    /// Writes the CSRs that were changed in the shared memory.
    SyncCsr = bindings::sbi_ext_nacl_fid_SBI_EXT_NACL_SYNC_CSR,
    /// Executes the fences that wait.
    SyncHfence = bindings::sbi_ext_nacl_fid_SBI_EXT_NACL_SYNC_HFENCE,
}

/// The error of a call, as the SBI numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) isize);

/// A part of the extension that an implementation may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Feature {
    /// CSRs can be written in the shared memory.
    SyncCsr = bindings::sbi_ext_nacl_feature_SBI_NACL_FEAT_SYNC_CSR,
    /// Fences can be asked for there.
    SyncHfence = bindings::sbi_ext_nacl_feature_SBI_NACL_FEAT_SYNC_HFENCE,
    /// One call synchronises and enters the guest.
    SyncSret = bindings::sbi_ext_nacl_feature_SBI_NACL_FEAT_SYNC_SRET,
    /// `hstatus` is exchanged when the guest is entered and left.
    AutoswapCsr = bindings::sbi_ext_nacl_feature_SBI_NACL_FEAT_AUTOSWAP_CSR,
}

impl Feature {
    /// Each feature once.
    pub(crate) const ALL: [Self; 4] = [
        Self::SyncCsr,
        Self::SyncHfence,
        Self::SyncSret,
        Self::AutoswapCsr,
    ];

    /// Returns the feature's bit in [`Features`].
    const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Returns the feature's name in the kernel log.
    const fn name(self) -> &'static str {
        match self {
            Self::SyncCsr => "sync_csr",
            Self::SyncHfence => "sync_hfence",
            Self::SyncSret => "sync_sret",
            Self::AutoswapCsr => "autoswap_csr",
        }
    }
}

/// The features that an implementation has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Features(u32);

impl Features {
    /// Probes for each feature.
    pub(crate) fn probe(provider: &impl Provider) -> Self {
        let has = |feature: &Feature| {
            let args = [*feature as usize, 0, 0];
            matches!(provider.call(Function::ProbeFeature, args), Ok(found) if found != 0)
        };
        let found = Feature::ALL.into_iter().filter(has);
        Self(found.fold(0, |all, feature| all | feature.bit()))
    }

    /// Returns whether the implementation has `feature`.
    #[inline(always)]
    pub(crate) const fn has(self, feature: Feature) -> bool {
        self.0 & feature.bit() != 0
    }

    /// Returns the names of the features for the kernel log.
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        let all = Feature::ALL.into_iter();
        all.filter(move |feature| self.has(*feature))
            .map(Feature::name)
    }

    /// Returns the features as one word, for an atomic.
    pub(crate) const fn into_raw(self) -> u32 {
        self.0
    }

    /// Returns the features that [`into_raw`](Self::into_raw) made `raw` of.
    pub(crate) const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }
}
