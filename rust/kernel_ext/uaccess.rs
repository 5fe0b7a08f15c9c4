// SPDX-License-Identifier: GPL-2.0

//! Single words of user memory. `UserSlice` of the kernel crate copies through a loop and a
//! function call; these are `get_user()` and `put_user()`, which the compiler inlines.

use kernel::{
    prelude::*,
    uaccess::UserPtr, //
};

use crate::bindings;

/// Reads a word of user memory.
///
/// # Errors
///
/// `EFAULT`.
#[inline]
pub(crate) fn get_user_u32(from: UserPtr) -> Result<u32> {
    let mut value = 0;
    // SAFETY: `value` is writable. `get_user()` takes any address, and reads user memory alone.
    let error = unsafe { bindings::kvm_rs_get_user_u32(&mut value, from.as_const_ptr()) };
    if error == 0 {
        Ok(value)
    } else {
        Err(EFAULT)
    }
}

/// Reads a double word of user memory.
///
/// # Errors
///
/// `EFAULT`.
#[inline]
pub(crate) fn get_user_u64(from: UserPtr) -> Result<u64> {
    let mut value = 0;
    // SAFETY: `value` is writable. `get_user()` takes any address, and reads user memory alone.
    let error = unsafe { bindings::kvm_rs_get_user_u64(&mut value, from.as_const_ptr()) };
    if error == 0 {
        Ok(value)
    } else {
        Err(EFAULT)
    }
}

/// Reads two adjacent double words of user memory, for little more than one.
///
/// # Errors
///
/// `EFAULT`.
#[inline]
pub(crate) fn get_user_pair(from: UserPtr) -> Result<[u64; 2]> {
    #[cold]
    #[inline(never)]
    fn misaligned(from: UserPtr) -> Result<[u64; 2]> {
        Ok([
            get_user_u64(from)?,
            get_user_u64(from.wrapping_byte_add(size_of::<u64>()))?,
        ])
    }

    // Check here, so that the compiler can drop the check that `unsafe_get_user()` makes for each
    // double word.
    if !from.as_const_ptr().cast::<u64>().is_aligned() {
        return misaligned(from);
    }
    let mut values = [0; 2];
    // SAFETY: `values` has room for both. The helper takes any address, and reads user memory
    // alone.
    let error = unsafe { bindings::kvm_rs_get_user_pair(values.as_mut_ptr(), from.as_const_ptr()) };
    if error == 0 {
        Ok(values)
    } else {
        Err(EFAULT)
    }
}

/// Writes a word of user memory.
///
/// # Errors
///
/// `EFAULT`.
#[inline]
pub(crate) fn put_user_u32(to: UserPtr, value: u32) -> Result {
    // SAFETY: `put_user()` takes any address, and writes user memory alone.
    let error = unsafe { bindings::kvm_rs_put_user_u32(value, to.as_mut_ptr()) };
    if error == 0 {
        Ok(())
    } else {
        Err(EFAULT)
    }
}

/// Writes a double word of user memory.
///
/// # Errors
///
/// `EFAULT`.
#[inline]
pub(crate) fn put_user_u64(to: UserPtr, value: u64) -> Result {
    // SAFETY: `put_user()` takes any address, and writes user memory alone.
    let error = unsafe { bindings::kvm_rs_put_user_u64(value, to.as_mut_ptr()) };
    if error == 0 {
        Ok(())
    } else {
        Err(EFAULT)
    }
}
