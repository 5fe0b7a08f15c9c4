// SPDX-License-Identifier: GPL-2.0

//! Raw bindings: core KVM's types and functions, and the C helpers.
//!
//! Two generated files (see `Kbuild`): `bindings_generated.rs` from `bindings_helper.h`, with
//! bindgen's compile-time layout checks, and `helpers_generated.rs` from `helpers/helpers.c`.
//! Types that the `kernel` crate already binds come from there, so that each C type has one
//! identity.

#![allow(
    clippy::all,
    clippy::cast_lossless,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    unused_imports,
    unused_qualifications
)]

pub(crate) use kernel::bindings::*;
use kernel::ffi;
use pin_init::{
    MaybeZeroable,
    Zeroable, //
};

/// The kernel's `size_t`, by the name that bindgen's output uses.
type __kernel_size_t = usize;
/// The kernel's `ssize_t`, by the name that bindgen's output uses.
type __kernel_ssize_t = isize;
/// The kernel's `ptrdiff_t`, by the name that bindgen's output uses.
type __kernel_ptrdiff_t = isize;

include!(concat!(env!("KVM_RUST_OBJ"), "/bindings_generated.rs"));

mod helpers {
    use super::*;

    include!(concat!(env!("KVM_RUST_OBJ"), "/helpers_generated.rs"));
}
pub(crate) use helpers::*;

/// Compiles only if the function that core KVM calls has the type of the declaration which core KVM
/// was compiled against.
macro_rules! check_prototype {
    ($name:ident) => {
        // An array has one element type, and each function here is one element.
        const _: () = {
            let _ = [$name, $crate::bindings::$name];
        };
    };
}
pub(crate) use check_prototype;
