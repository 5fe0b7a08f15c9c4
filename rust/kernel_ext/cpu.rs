// SPDX-License-Identifier: GPL-2.0

//! The CPUs of the host. `kernel::cpu` lacks the number of those that are online.

use crate::bindings;

/// Returns how many CPUs are online.
pub(crate) fn online_cpus() -> u32 {
    // SAFETY: This only reads the kernel's counter of online CPUs.
    unsafe { bindings::kvm_rs_num_online_cpus() }
}
