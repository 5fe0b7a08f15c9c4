// SPDX-License-Identifier: GPL-2.0

//! A spinlock that interrupt handlers may take whatever the kernel's preemption model is: C's
//! `raw_spinlock_t`, with interrupts off. The `kernel` crate has none.

use kernel::{
    ffi::{
        c_char,
        c_ulong, //
    },
    prelude::*,
    sync::{
        lock::{
            Backend,
            Lock, //
        },
        LockClassKey, //
    }, //
};

use crate::bindings;

/// Makes a [`RawSpinLock`] with a lock class of its own.
macro_rules! new_raw_spinlock {
    ($inner:expr, $name:literal) => {
        $crate::kernel_ext::raw_spinlock::RawSpinLock::new(
            $inner,
            ::kernel::optional_name!($name),
            ::kernel::static_lock_class!(),
        )
    };
}
pub(crate) use new_raw_spinlock;

/// The lock. Interrupts are off while it is held.
///
/// It has no guard, only [`with`](Self::with): of two guards, the one that is dropped last would
/// restore what it found, and leave interrupts off if it was not the first to be taken.
#[pin_data]
pub(crate) struct RawSpinLock<T> {
    /// The lock of the `kernel` crate, with the operations below.
    #[pin]
    lock: Lock<T, RawSpinLockBackend>,
}

impl<T> RawSpinLock<T> {
    /// Makes a lock that nothing holds; see [`new_raw_spinlock!`].
    pub(crate) fn new(
        data: impl PinInit<T>,
        name: &'static CStr,
        key: Pin<&'static LockClassKey>,
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            lock <- Lock::new(data, name, key),
        })
    }

    /// Runs `f` with the lock held. Any context.
    #[inline(always)]
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R
    where
        T: Unpin,
    {
        f(&mut self.lock.lock())
    }
}

/// C's operations on it.
pub(crate) struct RawSpinLockBackend;

// SAFETY: A `raw_spinlock_t` has one owner at a time, from `lock` to `unlock`. `relock` is the
// default and calls `lock`.
unsafe impl Backend for RawSpinLockBackend {
    type State = bindings::raw_spinlock_t;
    /// Whether interrupts were on.
    type GuardState = c_ulong;

    unsafe fn init(ptr: *mut Self::State, name: *const c_char, key: *mut bindings::lock_class_key) {
        // SAFETY: The caller ensures that `ptr` is valid for writes, and that `name` and `key` stay
        // valid for good.
        unsafe { bindings::kvm_rs_raw_spin_lock_init(ptr, name, key) }
    }

    #[inline]
    unsafe fn lock(ptr: *mut Self::State) -> Self::GuardState {
        // SAFETY: The caller ensures that `init` has initialised the lock at `ptr`.
        unsafe { bindings::kvm_rs_raw_spin_lock_irqsave(ptr) }
    }

    unsafe fn try_lock(ptr: *mut Self::State) -> Option<Self::GuardState> {
        let mut flags = 0;
        // SAFETY: The caller ensures that `init` has initialised the lock at `ptr`.
        let locked = unsafe { bindings::kvm_rs_raw_spin_trylock_irqsave(ptr, &mut flags) };
        locked.then_some(flags)
    }

    #[inline]
    unsafe fn unlock(ptr: *mut Self::State, flags: &Self::GuardState) {
        // SAFETY: The caller owns the lock, and `flags` come from `lock` or `try_lock`.
        unsafe { bindings::kvm_rs_raw_spin_unlock_irqrestore(ptr, *flags) }
    }

    unsafe fn assert_is_held(ptr: *mut Self::State) {
        // SAFETY: The caller ensures that `init` has initialised the lock at `ptr`.
        unsafe { bindings::kvm_rs_raw_spin_assert_is_held(ptr) }
    }
}

#[kunit_tests(kvm_riscv_raw_spinlock)]
mod tests {
    use super::*;
    use crate::kernel_ext::context::IrqOff;

    fn interrupts_are_on() -> bool {
        // SAFETY: This only reads `sstatus` of this CPU.
        !unsafe { bindings::kvm_rs_irqs_disabled() }
    }

    #[test]
    fn lock_leaves_interrupts_as_they_were() -> Result {
        let lock = KBox::pin_init(new_raw_spinlock!(1, "kvm_riscv_test"), GFP_KERNEL)?;
        let within = lock.with(|value| {
            *value += 1;
            interrupts_are_on()
        });
        assert!(!within);
        assert!(interrupts_are_on());

        let (value, after) = IrqOff::with(|_| {
            let value = lock.with(|value| *value);
            (value, interrupts_are_on())
        });
        assert!(!after);
        assert_eq!(value, 2);
        Ok(())
    }

    #[test]
    fn lock_has_one_owner() -> Result {
        let lock = KBox::pin_init(new_raw_spinlock!((), "kvm_riscv_test"), GFP_KERNEL)?;
        let again = lock.with(|()| lock.lock.try_lock().is_some());
        assert!(!again);
        assert!(lock.lock.try_lock().is_some());
        Ok(())
    }
}
