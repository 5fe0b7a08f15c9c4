/* SPDX-License-Identifier: GPL-2.0 */
/*
 * In the guest: whether all registers of the floating-point and of the vector
 * unit keep what they have over some time, whatever the host does meanwhile.
 */
#ifndef SELFTEST_KVM_RS_UNITS_H
#define SELFTEST_KVM_RS_UNITS_H

#include "kvm_rs_util.h"

#define CSR_VCSR_NR	0x00f

/* How long a round takes, in turns of a loop. */
#define UNITS_SPIN	20000

/* The most bytes that a vector register can have here. */
#define UNITS_VLENB	256

static u64 units_f[2][32] __maybe_unused;
static u8 units_v[32 * UNITS_VLENB] __maybe_unused;

/* A register that is not what it was. */
struct units_fault {
	const char *unit;
	u64 is, was;
};

#define UNITS_EXPECT(unit, is, was)						\
do {										\
	u64 __is = (is), __was = (was);						\
										\
	if (__is != __was)							\
		return (struct units_fault){ unit, __is, __was };		\
} while (0)

/* An instruction for each of the registers and its place. */
#define UNITS_ALL(op)								\
	".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17,"	\
	" 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31\n"		\
	#op " f\\n, 8*\\n(%[at])\n.endr\n"

/* All FP registers keep what they have, over some time. */
static __maybe_unused struct units_fault units_check_fp(u64 round)
{
	u64 fcsr, spin = UNITS_SPIN;
	int i;

	for (i = 0; i < 32; i++)
		units_f[0][i] = round * 0x9e3779b97f4a7c15UL + i;
	/*
	 * Until it sticks: QEMU 10 does not tell the hypervisor (sstatus.FS) of a
	 * write to a CSR of the unit, only of instructions that write registers.
	 */
	do {
		csr_write(CSR_FCSR, round % 5 << 5 | (round & 31));
		asm volatile(UNITS_ALL(fld) : : [at] "r"(units_f[0]), "m"(units_f[0]));
	} while (csr_read(CSR_FCSR) != (round % 5 << 5 | (round & 31)));
	asm volatile("1: addi %0, %0, -1\nbnez %0, 1b" : "+r"(spin));
	asm volatile(UNITS_ALL(fsd) : "=m"(units_f[1]) : [at] "r"(units_f[1]));
	fcsr = csr_read(CSR_FCSR);
	UNITS_EXPECT("fcsr", fcsr, round % 5 << 5 | (round & 31));
	for (i = 0; i < 32; i++)
		UNITS_EXPECT("f", units_f[1][i], units_f[0][i]);
	return (struct units_fault){};
}

/* So do the vector registers, and what configures them. */
static __maybe_unused struct units_fault units_check_vector(u64 round)
{
	u64 bytes = csr_read(CSR_VLENB) * 32, n = UNITS_SPIN, vl, vtype, i;
	u8 *at = units_v;

	do {
		asm volatile(".option push\n.option arch, +v\n"
			     "csrw 0x00f, %[vcsr]\n"
			     "vsetvli t0, x0, e64, m8, ta, ma\n"
			     "vmv.v.x v0, %[a]\nvmv.v.x v8, %[b]\n"
			     "vmv.v.x v16, %[c]\nvmv.v.x v24, %[d]\n.option pop"
			     : : [a] "r"(round), [b] "r"(~round), [c] "r"(round << 7),
				 [d] "r"(-round), [vcsr] "r"(round & 7)
			     : "t0", "memory");
	} while (csr_read(CSR_VCSR_NR) != (round & 7));
	asm volatile(".option push\n.option arch, +v\n"
		     "1: addi %[n], %[n], -1\nbnez %[n], 1b\n"
		     "csrr %[vl], 0xc20\ncsrr %[vtype], 0xc21\n"
		     "vs8r.v v0, (%[at])\nadd %[at], %[at], %[step]\n"
		     "vs8r.v v8, (%[at])\nadd %[at], %[at], %[step]\n"
		     "vs8r.v v16, (%[at])\nadd %[at], %[at], %[step]\n"
		     "vs8r.v v24, (%[at])\n.option pop"
		     : [vl] "=&r"(vl), [vtype] "=&r"(vtype), [n] "+&r"(n), [at] "+&r"(at)
		     : [step] "r"(bytes / 4) : "memory");
	UNITS_EXPECT("vcsr", vl, bytes / 32);
	UNITS_EXPECT("vcsr", vtype, 0xdb);
	UNITS_EXPECT("vcsr", csr_read(CSR_VCSR_NR), round & 7);
	for (i = 0; i < bytes / 8; i++) {
		const u64 want[] = { round, ~round, round << 7, -round };

		UNITS_EXPECT("v", ((u64 *)units_v)[i], want[i / (bytes / 32)]);
	}
	return (struct units_fault){};
}

#endif /* SELFTEST_KVM_RS_UNITS_H */
