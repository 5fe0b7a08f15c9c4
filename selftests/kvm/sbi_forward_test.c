// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: N8 */
/* covers: sbi.rs sbi_abi/table.rs */
/*
 * SBI: the ranges of experimental extensions and of vendors', which userspace
 * serves, and where they end.
 */
#include "kvm_rs_sbi.h"

/* The last of the experimental ones, which ucalls use with functions 0 and 1. */
#define FREE_FUNCTION	7

TEST(ranges)
{
	static const u64 inside[] = {
		SBI_EXT_EXPERIMENTAL_FIRST, SBI_EXT_EXPERIMENTAL_FIRST + 1, 0x08800000,
		SBI_EXT_EXPERIMENTAL_LAST - 1, SBI_EXT_EXPERIMENTAL_LAST,
		SBI_EXT_VENDOR_FIRST, SBI_EXT_VENDOR_FIRST + 1, 0x09abcdef,
		SBI_EXT_VENDOR_LAST - 1, SBI_EXT_VENDOR_LAST,
	};
	/* Those of firmware come next; nobody serves them. */
	static const u64 outside[] = {
		SBI_EXT_EXPERIMENTAL_FIRST - 1, SBI_EXT_VENDOR_LAST + 1, 0x0affffff,
		0x18000000, 0x88000000, ~0UL << 32 | 0x88000000,
		1UL << 32 | SBI_EXT_EXPERIMENTAL_FIRST, 1UL << 63 | SBI_EXT_VENDOR_LAST,
	};
	struct kvm_vcpu *vcpu = caller_create();
	int i;

	for (i = 0; i < ARRAY_SIZE(inside); i++) {
		check_forward(vcpu, inside[i], FREE_FUNCTION);
		check_forward_untouched(vcpu, inside[i], FREE_FUNCTION);
	}
	check_forward(vcpu, SBI_EXT_VENDOR_FIRST, 0);
	check_forward(vcpu, SBI_EXT_VENDOR_FIRST, ~0UL);
	check_forward(vcpu, SBI_EXT_VENDOR_FIRST, 1UL << 32);
	for (i = 0; i < ARRAY_SIZE(outside); i++) {
		assert_sbi_fails(SBI_ERR_NOT_SUPPORTED, vcpu, outside[i], 0, 0, 0, 0);
		TEST_ASSERT_EQ(probe(vcpu, outside[i]), 0);
	}
}

/* Userspace answers for what only it knows. */
TEST(probe_is_forwarded)
{
	static const u64 ids[] = { SBI_EXT_EXPERIMENTAL_FIRST, SBI_EXT_EXPERIMENTAL_LAST,
				   SBI_EXT_VENDOR_FIRST, SBI_EXT_VENDOR_LAST };
	struct kvm_vcpu *vcpu = caller_create();
	struct kvm_run *run = vcpu->run;
	u64 answer;
	int i;

	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		for (answer = 0; answer <= 42; answer += 42) {
			sbi_ask(vcpu, SBI_EXT_BASE, SBI_BASE_PROBE, (u64[6]){ ids[i] });
			vcpu_run(vcpu);
			TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_RISCV_SBI);
			TEST_ASSERT_EQ(run->riscv_sbi.extension_id, SBI_EXT_BASE);
			TEST_ASSERT_EQ(run->riscv_sbi.function_id, SBI_BASE_PROBE);
			TEST_ASSERT_EQ(run->riscv_sbi.args[0], ids[i]);
			run->riscv_sbi.ret[0] = 0;
			run->riscv_sbi.ret[1] = answer;
			TEST_ASSERT_EQ(sbi_answer(vcpu, NULL).value, answer);
		}
	}
}

/* Without the ranges, their calls do not leave. */
TEST(vendor_switched_off)
{
	struct kvm_vcpu *vcpu = caller_create();

	switch_sbi(vcpu, KVM_RISCV_SBI_EXT_VENDOR, 0);
	assert_sbi_fails(SBI_ERR_NOT_SUPPORTED, vcpu, SBI_EXT_VENDOR_FIRST, 0, 0, 0, 0);
	assert_sbi_fails(SBI_ERR_NOT_SUPPORTED, vcpu, SBI_EXT_VENDOR_LAST, 0, 0, 0, 0);
	/* One range is not the other. */
	check_forward(vcpu, SBI_EXT_EXPERIMENTAL_FIRST, 0);
	check_forward(vcpu, SBI_EXT_EXPERIMENTAL_LAST, FREE_FUNCTION);
}

/* "0 if the given extension is not available" (differences-from-c N8). */
TEST(switched_off_is_not_available)
{
	struct kvm_vcpu *vcpu = caller_create();

	switch_sbi(vcpu, KVM_RISCV_SBI_EXT_VENDOR, 0);
	TEST_ASSERT_EQ(probe(vcpu, SBI_EXT_VENDOR_FIRST), 0);
	TEST_ASSERT_EQ(probe(vcpu, SBI_EXT_VENDOR_LAST), 0);
}

/* In the guest, which has no ucalls: what it found is in memory. */
static struct sbiret found[3];

static void guest_without_experiments(void)
{
	static const u64 none[6];

	found[0] = guest_ecall(SBI_EXT_EXPERIMENTAL_FIRST, 0, none);
	found[1] = guest_ecall(SBI_EXT_EXPERIMENTAL_LAST, 0, none);
	found[2] = guest_ecall(SBI_EXT_BASE, 1, none);
	for (;;)
		guest_ecall(SBI_EXT_VENDOR_FIRST, 1, none);
}

TEST(experimental_switched_off)
{
	int i;

	vm = vm_create_with_vcpus(1, guest_without_experiments, vcpus);
	switch_sbi(vcpus[0], KVM_RISCV_SBI_EXT_EXPERIMENTAL, 0);
	vcpu_run(vcpus[0]);
	TEST_ASSERT_KVM_EXIT_REASON(vcpus[0], KVM_EXIT_RISCV_SBI);
	TEST_ASSERT_EQ(vcpus[0]->run->riscv_sbi.extension_id, SBI_EXT_VENDOR_FIRST);
	sync_global_from_guest(vm, found);
	for (i = 0; i < 2; i++) {
		TEST_ASSERT_EQ(found[i].error, SBI_ERR_NOT_SUPPORTED);
		TEST_ASSERT_EQ(found[i].value, 0);
	}
	TEST_ASSERT_EQ(found[2].value, 3);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
