// SPDX-License-Identifier: GPL-2.0

//! A spinlock that interrupt handlers may take whatever the kernel's preemption model is: C's
//! `raw_spinlock_t`, with interrupts off. The `kernel` crate has none.

use kernel::{
    ffi::{
        c_char,
        c_ulong, //
    },
    sync::lock::{
        Backend,
        Lock, //
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
pub(crate) type RawSpinLock<T> = Lock<T, RawSpinLockBackend>;

/// The backend: C's operations on a `raw_spinlock_t`.
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
