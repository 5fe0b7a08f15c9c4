/* SPDX-License-Identifier: GPL-2.0 */
/* For <linux/kvm.h> and <linux/perf_event.h>, which exported headers do not include it in. */
#ifndef _HOST_LINUX_COMPILER_H
#define _HOST_LINUX_COMPILER_H

#define __user
#define __force
#define __attribute_const__
#define __always_inline inline

#endif
