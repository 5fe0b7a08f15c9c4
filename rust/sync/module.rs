// SPDX-License-Identifier: GPL-2.0

//! Values that are made when the module is loaded, read by all of it, and freed when it goes. A
//! door.
//!
//! Nothing drops a module's `static`s: what they own would be lost with each unload.

use core::ptr;

use kernel::prelude::*;

use super::atomic::{
    AtomicPtr,
    Ordering, //
};

/// A place for a value; a `static`.
///
/// # Invariants
///
/// The pointer is null, or that of a value which lives as long as anything of the module runs but
/// the end of its [`Owner`].
pub(crate) struct OfModule<T>(AtomicPtr<T>);

impl<T: Send + Sync> OfModule<T> {
    /// Nothing yet.
    pub(crate) const fn new() -> Self {
        // INVARIANT: null.
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// The value, if there is one.
    #[inline(always)]
    pub(crate) fn get(&self) -> Option<&'static T> {
        // Relaxed: what calls into the module was registered after the value was made.
        let value = self.0.load(Ordering::Relaxed);
        // SAFETY: by the invariant.
        unsafe { value.as_ref() }
    }

    /// Puts `value` there, as long as the owner lives.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EEXIST` if there is a value already.
    ///
    /// # Safety
    ///
    /// When the owner is dropped, nothing else of the module runs or will, or nothing has begun to.
    pub(crate) unsafe fn own(&'static self, value: T) -> Result<Owner<T>> {
        if self.get().is_some() {
            return Err(EEXIST);
        }
        let value = KBox::into_raw(KBox::new(value, GFP_KERNEL)?);
        // INVARIANT: as the caller promises.
        self.0.store(value, Ordering::Relaxed);
        Ok(Owner(self))
    }
}

/// What ends with the module: a field of it.
pub(crate) struct Owner<T: 'static>(&'static OfModule<T>);

impl<T> Drop for Owner<T> {
    fn drop(&mut self) {
        let value = self.0 .0.swap(ptr::null_mut(), Ordering::Relaxed);
        // SAFETY: made by `own`, which made one owner of it; by its rules nobody reads it any more.
        drop(unsafe { KBox::from_raw(value) });
    }
}

#[kunit_tests(kvm_riscv_module)]
mod tests {
    use super::*;
    use kernel::sync::Arc;

    static PLACE: OfModule<Arc<u32>> = OfModule::new();

    #[test]
    fn value_ends_with_its_owner() -> Result {
        let value = Arc::new(7, GFP_KERNEL)?;
        assert!(PLACE.get().is_none());
        // SAFETY: nobody but this test knows the place.
        let owner = unsafe { PLACE.own(value.clone()) }?;
        assert_eq!(PLACE.get().map(|value| **value), Some(7));
        // SAFETY: as above.
        let second = unsafe { PLACE.own(value.clone()) };
        assert!(matches!(second, Err(e) if e == EEXIST));
        drop(owner);
        assert!(PLACE.get().is_none());
        // No other reference is left.
        assert!(Arc::into_unique_or_drop(value).is_some());
        Ok(())
    }
}
