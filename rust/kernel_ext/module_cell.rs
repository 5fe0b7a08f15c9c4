// SPDX-License-Identifier: GPL-2.0

//! Values that are made when the module is loaded, read by all of it, and freed when it goes.
//!
//! The `static`s of a module are never dropped, so each unload would leak what they own. That is
//! true of a `static` [`SetOnce`](kernel::sync::SetOnce), too.

use core::ptr;

use kernel::prelude::*;

use crate::kernel_ext::atomic::{
    AtomicPtr,
    Ordering, //
};

/// A place for a value; a `static`.
///
/// # Invariants
///
/// The pointer is null, or it comes from a `KBox` and points to a value that lives until its
/// [`ModuleCellOwner`] is dropped. No other code that reads the value runs then or later.
pub(crate) struct ModuleCell<T>(AtomicPtr<T>);

impl<T: Send + Sync> ModuleCell<T> {
    /// Returns a cell without a value.
    pub(crate) const fn new() -> Self {
        // INVARIANT: The pointer is null.
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Returns the value, if there is one.
    #[inline(always)]
    pub(crate) fn get(&self) -> Option<&'static T> {
        // Relaxed: all callers into the module were registered after the value was made.
        let value = self.0.load(Ordering::Relaxed);
        // SAFETY: By the type's invariant the pointer is null, or the value lives as long as code
        // that reads it runs.
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
    /// When the owner is dropped, no other code that reads the value runs or will run: the rest of
    /// the module has ended, or has not begun. No other thread calls this meanwhile.
    pub(crate) unsafe fn own(&'static self, value: T) -> Result<ModuleCellOwner<T>> {
        if self.get().is_some() {
            return Err(EEXIST);
        }
        let value = KBox::into_raw(KBox::new(value, GFP_KERNEL)?);
        // INVARIANT: The value comes from a `KBox`, and `ModuleCellOwner` frees it. The caller
        // ensures that no other code reads it when the owner is dropped.
        self.0.store(value, Ordering::Relaxed);
        Ok(ModuleCellOwner(self))
    }
}

/// The owner of a cell's value, a field of the module: dropping it frees the value.
pub(crate) struct ModuleCellOwner<T: 'static>(&'static ModuleCell<T>);

impl<T> Drop for ModuleCellOwner<T> {
    fn drop(&mut self) {
        let value = self.0 .0.swap(ptr::null_mut(), Ordering::Relaxed);
        // SAFETY: `own` took the value from a `KBox` and made one owner of it. By the invariant of
        // `ModuleCell` no other code reads the value any more.
        drop(unsafe { KBox::from_raw(value) });
    }
}

#[kunit_tests(kvm_riscv_module)]
mod tests {
    use super::*;
    use kernel::sync::Arc;

    static PLACE: ModuleCell<Arc<u32>> = ModuleCell::new();

    #[test]
    fn value_ends_with_its_owner() -> Result {
        let value = Arc::new(7, GFP_KERNEL)?;
        assert!(PLACE.get().is_none());
        // SAFETY: Only this test uses `PLACE`, and it reads no value when it drops the owner.
        let owner = unsafe { PLACE.own(value.clone()) }?;
        assert_eq!(PLACE.get().map(|value| **value), Some(7));
        // SAFETY: Only this test uses `PLACE`, and it reads no value when it drops an owner.
        let second = unsafe { PLACE.own(value.clone()) };
        assert!(matches!(second, Err(e) if e == EEXIST));
        drop(owner);
        assert!(PLACE.get().is_none());
        // No other reference is left.
        assert!(Arc::into_unique_or_drop(value).is_some());
        Ok(())
    }
}
