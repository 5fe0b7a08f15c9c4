// SPDX-License-Identifier: GPL-2.0

//! Module parameters that can change while the module runs. `module!` has only constant ones, so
//! these are laid down by hand, in the sections that `module_param()` uses.

use kernel::{
    module_param::KernelParam,
    types::Opaque, //
};

use crate::{
    bindings,
    sync::atomic::{
        AtomicBool,
        Ordering, //
    },
};

/// `S_IRUGO | S_IWUSR`.
const READ_WRITE: u16 = 0o644;

/// The name in sysfs and on the command line.
static EAGER_PAGE_SPLIT_NAME: [u8; 17] = *b"eager_page_split\0";

/// As in the C module.
static EAGER_PAGE_SPLIT: AtomicBool = AtomicBool::new(true);

#[expect(improper_ctypes, reason = "no C code sees it through this declaration")]
extern "C" {
    /// Only its address is used.
    static __this_module: Opaque<bindings::module>;
}

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

#[link_section = ".modinfo"]
#[used]
static EAGER_PAGE_SPLIT_TYPE: [u8; 31] = *b"parmtype=eager_page_split:bool\0";

/// Whether blocks are split when their slot is logged, rather than by the guest's first writes.
pub(crate) fn eager_page_split() -> bool {
    EAGER_PAGE_SPLIT.load(Ordering::Relaxed)
}
