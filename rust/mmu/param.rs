// SPDX-License-Identifier: GPL-2.0

//! Module parameters that can change while the module runs. `module!` supports only constant ones,
//! so these are put by hand into the sections that `module_param()` uses.

use kernel::{
    error::{
        from_result,
        to_result, //
    },
    ffi::{
        c_char,
        c_int,
        c_ulong, //
    },
    module_param::KernelParam,
    prelude::*,
    types::Opaque, //
};

use crate::{
    bindings,
    kernel_ext::atomic::{
        AtomicBool,
        AtomicU64,
        Ordering, //
    },
    kvm_core::addr::{
        PageSize, //
        PAGE_SIZE,
    }, //
};

/// `S_IRUGO | S_IWUSR`.
const READ_WRITE: u16 = 0o644;

/// The name in sysfs and on the command line.
static EAGER_PAGE_SPLIT_NAME: [u8; 17] = *b"eager_page_split\0";

/// Whether blocks are split when logging begins; the default is that of the C module.
static EAGER_PAGE_SPLIT: AtomicBool = AtomicBool::new(true);

/// The name in sysfs and on the command line.
static FAULT_AROUND_NAME: [u8; 19] = *b"fault_around_bytes\0";

/// A power of two of whole pages, up to what a leaf table maps; 0 for the faulting page alone.
static FAULT_AROUND_BYTES: AtomicU64 = AtomicU64::new(64 << 10);

#[expect(improper_ctypes, reason = "no C code sees it through this declaration")]
extern "C" {
    /// The module's own structure; only its address is used.
    static __this_module: Opaque<bindings::module>;
}

/// The parameter `eager_page_split`, for the module loader.
#[link_section = "__param"]
#[used]
static EAGER_PAGE_SPLIT_PARAM: KernelParam = KernelParam::new(bindings::kernel_param {
    name: EAGER_PAGE_SPLIT_NAME.as_ptr(),
    mod_: (&raw const __this_module).cast_mut().cast(),
    ops: &raw const bindings::param_ops_bool,
    perm: READ_WRITE,
    level: -1,
    flags: 0,
    __bindgen_anon_1: bindings::kernel_param__bindgen_ty_1 {
        arg: EAGER_PAGE_SPLIT.as_ptr().cast(),
    },
});

/// The type of `eager_page_split`, for modinfo.
#[link_section = ".modinfo"]
#[used]
static EAGER_PAGE_SPLIT_TYPE: [u8; 31] = *b"parmtype=eager_page_split:bool\0";

/// How `fault_around_bytes` is read and written.
static FAULT_AROUND_OPS: bindings::kernel_param_ops = bindings::kernel_param_ops {
    flags: 0,
    set: Some(set_fault_around),
    get: Some(get_fault_around),
    free: None,
};

/// The parameter `fault_around_bytes`, for the module loader.
#[link_section = "__param"]
#[used]
static FAULT_AROUND_PARAM: KernelParam = KernelParam::new(bindings::kernel_param {
    name: FAULT_AROUND_NAME.as_ptr(),
    mod_: (&raw const __this_module).cast_mut().cast(),
    ops: &raw const FAULT_AROUND_OPS,
    perm: READ_WRITE,
    level: -1,
    flags: 0,
    __bindgen_anon_1: bindings::kernel_param__bindgen_ty_1 {
        arg: core::ptr::null_mut(),
    },
});

/// The type of `fault_around_bytes`, for modinfo.
#[link_section = ".modinfo"]
#[used]
static FAULT_AROUND_TYPE: [u8; 34] = *b"parmtype=fault_around_bytes:ulong\0";

/// Returns a parameter like `param` that has `value` as its value.
///
/// # Safety
///
/// `param` points to a parameter of this module.
unsafe fn with_value(
    param: *const bindings::kernel_param,
    value: &mut c_ulong,
) -> bindings::kernel_param {
    // SAFETY: The caller passes a valid parameter.
    let mut copy = unsafe { *param };
    copy.__bindgen_anon_1.arg = core::ptr::from_mut(value).cast();
    copy
}

/// Sets `fault_around_bytes` from text.
///
/// # Safety
///
/// `text` points to a string that ends with a NUL, `param` to a parameter of this module.
unsafe extern "C" fn set_fault_around(
    text: *const c_char,
    param: *const bindings::kernel_param,
) -> c_int {
    let mut bytes = 0;
    // SAFETY: The kernel passes a parameter of this module.
    let copy = unsafe { with_value(param, &mut bytes) };
    // SAFETY: The kernel passes a string that ends with a NUL, and the value of `copy` is the
    // `c_ulong` `bytes`.
    let error = unsafe { bindings::param_set_ulong(text, &copy) };
    from_result(|| {
        to_result(error)?;
        FAULT_AROUND_BYTES.store(whole_window(bytes as u64)?, Ordering::Relaxed);
        Ok(0)
    })
}

/// Prints `fault_around_bytes`.
///
/// # Safety
///
/// `text` has room for a page, and `param` points to a parameter of this module.
unsafe extern "C" fn get_fault_around(
    text: *mut c_char,
    param: *const bindings::kernel_param,
) -> c_int {
    let mut bytes = FAULT_AROUND_BYTES.load(Ordering::Relaxed) as c_ulong;
    // SAFETY: The kernel passes a parameter of this module.
    let copy = unsafe { with_value(param, &mut bytes) };
    // SAFETY: The kernel passes a buffer with room for a page, and the value of `copy` is the
    // `c_ulong` `bytes`.
    unsafe { bindings::param_get_ulong(text, &copy) }
}

/// Rounds as mm's own `fault_around_bytes` does, down to a power of two. A window of one page is
/// the same as none, 0.
///
/// # Errors
///
/// `EINVAL` for more than a leaf table maps.
fn whole_window(bytes: u64) -> Result<u64> {
    if bytes > PageSize::Size2M.bytes() {
        return Err(EINVAL);
    }
    Ok(match bytes.checked_ilog2() {
        Some(log2) if 1 << log2 > PAGE_SIZE => 1 << log2,
        _ => 0,
    })
}

/// Returns how many frames are mapped when one of them faults, itself included: a power of two.
#[inline]
pub(crate) fn fault_around_frames() -> u64 {
    (FAULT_AROUND_BYTES.load(Ordering::Relaxed) / PAGE_SIZE).max(1)
}

/// Returns whether blocks are split when their slot is logged, rather than by the guest's first
/// writes.
pub(crate) fn eager_page_split() -> bool {
    EAGER_PAGE_SPLIT.load(Ordering::Relaxed)
}
