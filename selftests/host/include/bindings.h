/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the host's crate::bindings is made from: the headers of the kernel tree
 * that need no configured kernel. build.rs adds the constants that
 * rust/bindings_helper.h lists, as far as these headers define them.
 */
#include <linux/kvm.h>
#include <linux/perf_event.h>
#include <asm/csr.h>
/* From beside uapi/: the user's header of this name has the letters only. */
#include <../asm/hwcap.h>
#include <asm/hwprobe.h>
#include <asm/sbi.h>
