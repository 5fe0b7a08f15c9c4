/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The SBI PMU extension, for tests: calls that the host makes through a guest,
 * and the guest's counters.
 */
#ifndef SELFTEST_KVM_RS_PMU_H
#define SELFTEST_KVM_RS_PMU_H

#include "kvm_rs_priv.h"

/* Functions of the extension. */
#define PMU_NUM		0
#define PMU_INFO	1
#define PMU_MATCH	2
#define PMU_START	3
#define PMU_STOP	4
#define PMU_READ	5
#define PMU_READ_HI	6
#define PMU_SHMEM	7
#define PMU_EVENTS	8

#define ERR_NO_SHMEM	-9

#define SKIP_MATCH	SBI_PMU_CFG_FLAG_SKIP_MATCH
#define CLEAR_VALUE	SBI_PMU_CFG_FLAG_CLEAR_VALUE
#define AUTO_START	SBI_PMU_CFG_FLAG_AUTO_START
#define INIT_VALUE	SBI_PMU_START_FLAG_SET_INIT_VALUE
#define INIT_SNAPSHOT	SBI_PMU_START_FLAG_INIT_SNAPSHOT
#define RESET		SBI_PMU_STOP_FLAG_RESET
#define TAKE_SNAPSHOT	SBI_PMU_STOP_FLAG_TAKE_SNAPSHOT

#define CYCLES		SBI_PMU_HW_CPU_CYCLES
#define INSTRET		SBI_PMU_HW_INSTRUCTIONS
#define FW(event)	(0xf0000UL | SBI_PMU_FW_##event)

/* The counter that is the time CSR and none of the PMU's. */
#define TIME_COUNTER	1

#define BIG		(1UL << 40)

/* In the guest. */

static struct sbiret sbi_result __maybe_unused;

/* Makes @times calls of what sbi_ask() left, keeps the last one's answer. */
static __maybe_unused u64 guest_sbi(u64 times)
{
	while (times--)
		sbi_result = sbi_ecall(sbi_call.ext, sbi_call.fid, sbi_call.arg[0],
				       sbi_call.arg[1], sbi_call.arg[2], sbi_call.arg[3],
				       sbi_call.arg[4], sbi_call.arg[5]);
	csr_clear(CSR_SIP, IP_SSIP);
	return 0;
}

static __maybe_unused u64 guest_spin(u64 times)
{
	while (times--)
		asm volatile("nop");
	return 0;
}

/* In the host. */

FIXTURE(pmu)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	/* Shared memory, for the host, and its addresses in the guest. */
	u64 *page;
	u64 gpa, gva;
	/* Counters there are, and sets of them. */
	u64 nr, all, fixed, hw, fw;
	union sbi_pmu_ctr_info info[64];
};

static __maybe_unused u64 guest_do(struct kvm_vcpu *vcpu, u64 (*what)(u64), u64 val)
{
	u64 trap;

	guest_ask(vcpu, GUEST_OP_EXEC, (u64)what, val);
	trap = guest_answer(vcpu, &val);
	TEST_ASSERT(trap == NO_TRAP, "cause %ld", (long)trap);
	return val;
}

static __maybe_unused struct sbiret sbi_times(struct kvm_vcpu *vcpu, u64 times, u64 ext, u64 fid,
					      const u64 *arg)
{
	struct sbiret ret;

	sbi_ask(vcpu, ext, fid, arg);
	guest_do(vcpu, guest_sbi, times);
	memcpy(&ret, addr_gva2hva(vcpu->vm, (gva_t)&sbi_result), sizeof(ret));
	return ret;
}

#define pmu(fid, args...)	sbi_times(self->vcpu, 1, SBI_EXT_PMU, fid, (u64[6]){ args })

/* Asserts on the error of a call; evaluates to its value. */
#define assert_pmu(want, fid, args...)						\
({										\
	struct sbiret __r = pmu(fid, ##args);					\
										\
	TEST_ASSERT(__r.error == (want), #fid "(" #args "): error %ld, not %ld",	\
		    __r.error, (long)(want));					\
	(u64)__r.value;								\
})

#define for_each_bit(i, set)	for (i = 0; i < 64; i++) if ((set) >> i & 1)

static __maybe_unused u64 lowest(u64 set)
{
	return __builtin_ctzl(set);
}

FIXTURE_SETUP(pmu)
{
	struct kvm_vcpu *vcpu = priv_create();
	struct kvm_vm *vm = vcpu->vm;
	gva_t gva;
	u64 i;

	self->vcpu = vcpu;
	self->vm = vm;
	if (!__vcpu_has_sbi_ext(vcpu, KVM_RISCV_SBI_EXT_PMU))
		SKIP(return, "no SBI PMU");
	gva = vm_alloc_page(vm);
	self->page = addr_gva2hva(vm, gva);
	self->gpa = addr_gva2gpa(vm, gva);
	self->gva = gva;

	self->nr = assert_pmu(0, PMU_NUM);
	TEST_ASSERT(self->nr && self->nr <= 64, "%lu counters", (unsigned long)self->nr);
	self->all = ~0UL >> (64 - self->nr);
	for (i = 0; i < self->nr; i++) {
		if (i == TIME_COUNTER)
			continue;
		self->info[i].value = assert_pmu(0, PMU_INFO, i);
		if (self->info[i].type == SBI_PMU_CTR_TYPE_FW)
			self->fw |= 1UL << i;
		else if (i < 3)
			self->fixed |= 1UL << i;
		else
			self->hw |= 1UL << i;
	}
	TEST_ASSERT(self->fw && self->hw, "no counter to be programmed");
}

FIXTURE_TEARDOWN(pmu)
{
	if (self->vm)
		kvm_vm_free(self->vm);
}

/* The value of counter @c: of what kind it is, the guest knows. */
static __maybe_unused u64 read_counter(FIXTURE_DATA(pmu) *self, u64 c)
{
	u64 val;

	if (self->fw >> c & 1)
		return assert_pmu(0, PMU_READ, c);
	TEST_ASSERT(run_insn(self->vcpu, super_insn, CSRR(self->info[c].csr), &val) == NO_TRAP,
		    "counter %lu cannot be read", (unsigned long)c);
	return val;
}

#endif /* SELFTEST_KVM_RS_PMU_H */
