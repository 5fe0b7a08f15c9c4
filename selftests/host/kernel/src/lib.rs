// SPDX-License-Identifier: GPL-2.0

//! A stand-in for the kernel crate on the host.
//!
//! `bitfield!`, `Bounded` and the build-time assertions are the kernel's own source files; the
//! rest is the little that they need around them.

// The kernel's files reach us through `include!`, and use their own macros by path.
#![allow(macro_expanded_macro_exports_accessed_by_absolute_paths)]

extern crate self as kernel;

include!(concat!(env!("OUT_DIR"), "/tree.rs"));

pub use core::fmt;
pub use tree::{
    bitfield,
    build_assert,
    num, //
};

/// What the kernel's `macros` crate offers and the pure modules use.
pub mod macros {
    pub use paste::paste;
}

/// The kernel's error type, as far as `bitfield!` names it.
pub mod error {
    /// A negative errno.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Error(i32);

    /// A result with the kernel's error type.
    pub type Result<T = (), E = Error> = core::result::Result<T, E>;

    /// The errno values.
    pub mod code {
        /// The value does not fit.
        pub const EOVERFLOW: super::Error = super::Error(-75);
    }
}

/// What a failed `build_assert!` calls; on the host it panics.
pub mod build_error {
    /// Reports a failed assertion.
    ///
    /// # Panics
    ///
    /// Always.
    pub const fn build_error(msg: &'static str) -> ! {
        panic!("{}", msg);
    }
}

/// C's integers as the kernel has them on 64-bit machines.
#[allow(non_camel_case_types)]
pub mod ffi {
    pub use core::ffi::{
        c_int,
        c_longlong,
        c_schar,
        c_short,
        c_uchar,
        c_uint,
        c_ulonglong,
        c_ushort,
        c_void, //
    };

    /// `char` is unsigned.
    pub type c_char = u8;
    /// `long` has the size of a pointer.
    pub type c_long = isize;
    /// As above.
    pub type c_ulong = usize;
}

/// The names that kernel code imports everywhere.
pub mod prelude {
    pub use crate::{
        build_assert::{
            build_assert,
            const_assert,
            static_assert, //
        },
        error::{
            code::*,
            Error,
            Result, //
        },
        Zeroable, //
    };
    pub use core::format_args as fmt;
}

/// Types for which all-zero bytes are a value, as `pin_init` defines them.
///
/// # Safety
///
/// The all-zero bit pattern must be valid.
pub unsafe trait Zeroable: Sized {
    /// The all-zero value.
    fn zeroed() -> Self {
        // SAFETY: the implementer promises that zero bytes are a valid value.
        unsafe { core::mem::zeroed() }
    }
}

macro_rules! zeroable {
    ($($int:ty),*) => {
        $(
        // SAFETY: all bit patterns of an integer are valid.
        unsafe impl Zeroable for $int {}
        )*
    };
}

zeroable!(u8, u16, u32, u64, usize);
