/* SPDX-License-Identifier: GPL-2.0 */
/* For <asm/sbi.h>. */
#ifndef _HOST_LINUX_CPUMASK_H
#define _HOST_LINUX_CPUMASK_H

#include <linux/bits.h>

#include <asm/errno.h>

typedef _Bool bool;
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __u64 uint64_t;
typedef struct cpumask cpumask_t;

extern const cpumask_t *cpu_online_mask;

#define false		0
#define true		1
#define ENOTSUPP	524
#define IS_ENABLED(option)	0

#endif
