/* SPDX-License-Identifier: GPL-2.0 */
/* For <asm/csr.h>: the kernel's own header needs a configured kernel. */
#ifndef _HOST_LINUX_BITS_H
#define _HOST_LINUX_BITS_H

#include <linux/const.h>

#define BIT(nr)			(1UL << (nr))
#define BIT_ULL(nr)		(1ULL << (nr))
#define GENMASK(h, l)		(((~0UL) << (l)) & (~0UL >> (63 - (h))))
#define GENMASK_ULL(h, l)	GENMASK(h, l)

#endif
