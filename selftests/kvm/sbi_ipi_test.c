// SPDX-License-Identifier: GPL-2.0
/* on-c: pass */
/* covers: sbi/ipi_rfence.rs sbi/harts.rs */
/*
 * SBI: the IPI extension: which harts a mask names, and what they get.
 */
#include "kvm_rs_sbi.h"

#define NR_FUNCTIONS	1

/* Sends to a mask; what of @caller's own sip, and error. */
static bool self_got(struct kvm_vcpu *caller, u64 mask, u64 base)
{
	struct sbiret ret;
	u64 sip;

	ret = vcpu_sbi_sip(caller, SBI_EXT_IPI, 0, &sip, mask, base);
	TEST_ASSERT(!ret.error && !ret.value, "mask 0x%lx from 0x%lx: error %ld, value %ld",
		    (unsigned long)mask, (unsigned long)base, ret.error, ret.value);
	return sip & IP_SSIP;
}

/* Whether the hart has an IPI; it is gone afterwards. */
static bool got(struct kvm_vcpu *vcpu)
{
	bool yes = pending(vcpu) & IP_SSIP;

	vcpu_set_reg(vcpu, RISCV_GENERAL_CSR_REG(sip), 0);
	return yes;
}

TEST(mask_and_base)
{
	struct kvm_vcpu *vcpu = caller_create();

	TEST_ASSERT(self_got(vcpu, 1, 0) && !got(vcpus[1]), "to hart 0");
	/* Hart 1 alone, by its bit and by its number. */
	TEST_ASSERT(!self_got(vcpu, 2, 0) && got(vcpus[1]), "to hart 1");
	TEST_ASSERT(!self_got(vcpu, 1, 1) && got(vcpus[1]), "to hart 1 as the base");
	TEST_ASSERT(self_got(vcpu, 3, 0) && got(vcpus[1]), "to both");
	/* All of them, whatever the mask. */
	TEST_ASSERT(self_got(vcpu, 0, ~0UL) && got(vcpus[1]), "to all");
	TEST_ASSERT(self_got(vcpu, 4, ~0UL) && got(vcpus[1]), "to all with a mask");
	TEST_ASSERT(!self_got(vcpu, 0, 0) && !got(vcpus[1]), "to none");
	TEST_ASSERT(!self_got(vcpu, 0, 1) && !got(vcpus[1]), "to none from 1");
}

TEST(invalid_harts)
{
	static const u64 bad[][2] = {
		{ 4, 0 }, { 1UL << 63, 0 }, { ~0UL, 0 }, { ~0UL, 1 }, { 2, 1 }, { 1, 2 },
		{ 1, 64 }, { 1, 1UL << 31 }, { 1, 1UL << 32 }, { 3, 1UL << 32 },
		{ 1, 1UL << 63 }, { 1, ~1UL },
		/* Bits beyond 2^64 are not the harts from 0 on. */
		{ 4, ~1UL }, { 8, ~1UL }, { 1UL << 63, ~62UL }, { 1UL << 63, ~61UL },
	};
	struct kvm_vcpu *vcpu = caller_create();
	int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_sbi_fails(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_IPI, 0, bad[i][0],
				 bad[i][1]);
}

/* Ids are not indices: harts 0, 3, 64 and 70, created in another order. */
TEST(sparse_harts)
{
	static const struct {
		u64 mask, base, to;	/* bits of sparse_ids[] */
	} good[] = {
		{ 1, 70, 2 }, { 1, 3, 4 }, { 1, 64, 8 }, { 0x41, 64, 0xa }, { 9, 0, 5 },
		{ 1UL << 63, 7, 2 }, { 1UL << 61, 3, 8 }, { 1UL << 61 | 1, 3, 0xc },
		{ 0, ~0UL, 0xf },
	};
	static const u64 bad[][2] = { { 2, 0 }, { 1, 65 }, { 0x43, 64 }, { 1, 71 }, { 3, 3 },
				      { 1UL << 63, 8 } };
	struct kvm_vcpu *vcpu = sparse_create();
	u64 to;
	int i, j;

	for (i = 0; i < ARRAY_SIZE(good); i++) {
		to = self_got(vcpu, good[i].mask, good[i].base);
		for (j = 1; j < ARRAY_SIZE(sparse); j++)
			to |= (u64)got(sparse[j]) << j;
		TEST_ASSERT(to == good[i].to, "mask 0x%lx from %lu: went to 0x%lx, not 0x%lx",
			    (unsigned long)good[i].mask, (unsigned long)good[i].base,
			    (unsigned long)to, (unsigned long)good[i].to);
	}
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_sbi_fails(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_IPI, 0, bad[i][0],
				 bad[i][1]);
}

/* In the guest. */
static u64 sleeping, woken;

static void guest_sleeper(void)
{
	u64 i;

	csr_set(CSR_SIE, IP_SSIP);
	for (i = 1; i <= 3; i++) {
		WRITE_ONCE(sleeping, i);
		while (!(csr_read(CSR_SIP) & IP_SSIP))
			asm volatile("wfi");
		csr_clear(CSR_SIP, IP_SSIP);
		WRITE_ONCE(woken, i);
	}
	GUEST_DONE();
}

static void guest_waker(void)
{
	static const u64 masks[3][6] = { { 2, 0 }, { 1, 1 }, { 0, ~0UL } };
	u64 i;

	for (i = 1; i <= 3; i++) {
		while (READ_ONCE(sleeping) != i)
			cpu_relax();
		GUEST_ASSERT_EQ(guest_ecall(SBI_EXT_IPI, 0, masks[i - 1]).error, 0L);
		while (READ_ONCE(woken) != i)
			cpu_relax();
	}
	GUEST_DONE();
}

TEST(wakes_a_hart)
{
	pthread_t thread;

	vm = vm_create_with_vcpus(2, guest_waker, vcpus);
	vcpu_arch_set_entry_point(vcpus[1], guest_sleeper);
	pthread_create(&thread, NULL, run_thread, vcpus[1]);
	run_to_done(vcpus[0]);
	pthread_join(thread, NULL);
}

/* A hart that is stopped is a hart; it does not start by this. */
TEST(stopped_hart)
{
	struct kvm_vcpu *vcpu = lone_caller_create();

	assert_sbi(0, vcpu, SBI_EXT_IPI, 0, 2, 0);
	assert_sbi(0, vcpu, SBI_EXT_IPI, 0, 0, ~0UL);
	assert_sleeps(vcpus[1]);
	TEST_ASSERT_EQ(get_mp_state(vcpus[1]), KVM_MP_STATE_STOPPED);
	TEST_ASSERT_EQ(assert_sbi(0, vcpu, SBI_EXT_HSM, SBI_HSM_STATUS, 1), SBI_HSM_STOPPED);
}

TEST(unknown_functions)
{
	struct kvm_vcpu *vcpu = caller_create();

	check_unknown_functions(vcpu, SBI_EXT_IPI, NR_FUNCTIONS);
	check_id_width(vcpu, SBI_EXT_IPI);
	TEST_ASSERT(!got(vcpus[1]), "an IPI was sent");
}

TEST(switched_off)
{
	check_switched_off(caller_create(), KVM_RISCV_SBI_EXT_IPI, SBI_EXT_IPI, NR_FUNCTIONS);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
