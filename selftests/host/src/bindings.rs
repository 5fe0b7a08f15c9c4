// SPDX-License-Identifier: GPL-2.0

//! The kernel's constants, under the names and with the types that they have in the kernel module.

#![allow(
    clippy::all,
    clippy::cast_lossless,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]

use kernel::ffi;

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
