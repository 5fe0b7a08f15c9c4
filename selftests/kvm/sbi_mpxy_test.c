// SPDX-License-Identifier: GPL-2.0
/* on-c: pass */
/* covers: sbi.rs sbi_abi/table.rs */
/*
 * SBI: message proxy channels, which userspace serves if it wants to.
 */
#include "kvm_rs_sbi.h"

#define SEND_WITH_RESPONSE	5
#define NR_FUNCTIONS		8

TEST(forwarded)
{
	check_optional_forward(KVM_RISCV_SBI_EXT_MPXY, SBI_EXT_MPXY, NR_FUNCTIONS);
}

/* Whatever userspace says is what the guest gets. */
TEST(results)
{
	struct kvm_vcpu *vcpu = caller_create();
	struct sbiret ret;
	long error;

	switch_sbi(vcpu, KVM_RISCV_SBI_EXT_MPXY, 1);
	for (error = 0; error > -16; error--) {
		sbi_ask(vcpu, SBI_EXT_MPXY, SEND_WITH_RESPONSE, (u64[6]){ 7, 1, 64 });
		vcpu_run(vcpu);
		TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_RISCV_SBI);
		TEST_ASSERT_EQ(vcpu->run->riscv_sbi.extension_id, SBI_EXT_MPXY);
		TEST_ASSERT_EQ(vcpu->run->riscv_sbi.function_id, SEND_WITH_RESPONSE);
		vcpu->run->riscv_sbi.ret[0] = error;
		vcpu->run->riscv_sbi.ret[1] = error ? 0 : 4096;
		ret = sbi_answer(vcpu, NULL);
		TEST_ASSERT_EQ(ret.error, error);
		TEST_ASSERT_EQ(ret.value, error ? 0 : 4096);
	}
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
