/* SPDX-License-Identifier: GPL-2.0 */
/* For <linux/kvm.h>, which exported headers do not include it in. */
#ifndef _HOST_LINUX_COMPILER_H
#define _HOST_LINUX_COMPILER_H

#define __user
#define __always_inline inline

#endif
