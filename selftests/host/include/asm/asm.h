/* SPDX-License-Identifier: GPL-2.0 */
/* For <asm/csr.h>: nothing of it concerns constants. */
#define __ASM_STR(x)	#x
