// SPDX-License-Identifier: GPL-2.0

//! The kernel's constants, under the names that bindgen gives them in the kernel module.

#![allow(
    non_upper_case_globals,
    non_camel_case_types,
    non_snake_case,
    clippy::all
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
