/* SPDX-License-Identifier: GPL-2.0 */
/* For <asm/sbi.h>. */
#define DECLARE_STATIC_KEY_FALSE(name)	extern int name
