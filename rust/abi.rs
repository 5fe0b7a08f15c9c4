// SPDX-License-Identifier: GPL-2.0

//! The C ABI, all of it: the functions that core KVM calls, and those of core KVM that we call.
//!
//! A door turns raw pointers into our types, calls one safe function, and turns its result into
//! the integer that core KVM expects. Nothing else happens here. [`door!`] also proves that its
//! type is that of the declaration which core KVM was compiled against.

/// Defines a function that core KVM calls.
macro_rules! door {
    ($(#[$attr:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$attr])*
        #[no_mangle]
        unsafe extern "C" fn $name($($arg: $ty),*) $(-> $ret)? $body

        // An array has one element type: this compiles only if both are of the same function type.
        const _: () = {
            let _ = [$name, $crate::bindings::$name];
        };
    };
}

pub(crate) mod aia;
pub(crate) mod clock;
pub(crate) mod core;
#[cfg(CONFIG_DEBUG_FS)]
mod debugfs;
mod device;
pub(crate) mod folio;
pub(crate) mod guestmem;
pub(crate) mod hostmm;
pub(crate) mod imsic;
pub(crate) mod iodev;
pub(crate) mod irqchip;
pub(crate) mod memslot;
mod mmu;
pub(crate) mod module;
pub(crate) mod object;
pub(crate) mod param;
#[cfg(CONFIG_RISCV_PMU_SBI)]
pub(crate) mod perf;
#[cfg(not(CONFIG_RISCV_PMU_SBI))]
#[path = "abi/perf_absent.rs"]
pub(crate) mod perf;
pub(crate) mod runpage;
pub(crate) mod stats;
pub(crate) mod tables;
mod vcpu;
mod vm;
