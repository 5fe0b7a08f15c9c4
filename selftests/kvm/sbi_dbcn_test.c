// SPDX-License-Identifier: GPL-2.0
/* on-c: pass */
/* covers: sbi.rs sbi_abi.rs kvm_core/runpage.rs */
/*
 * SBI: the debug console, which userspace serves if it wants to: here as the
 * specification has it.
 */
#include "kvm_rs_sbi.h"

#define CONSOLE_WRITE		0
#define CONSOLE_READ		1
#define CONSOLE_WRITE_BYTE	2
#define NR_FUNCTIONS		3

TEST(forwarded)
{
	check_optional_forward(KVM_RISCV_SBI_EXT_DBCN, SBI_EXT_DBCN, NR_FUNCTIONS);
}

static char written[64];
static size_t nr_written;
static const char input[] = "typed";

/* Serves one call of the guest's. */
static void serve(struct kvm_run *run)
{
	u64 *arg = (u64 *)run->riscv_sbi.args, *ret = (u64 *)run->riscv_sbi.ret;

	TEST_ASSERT_EQ(run->riscv_sbi.extension_id, SBI_EXT_DBCN);
	ret[0] = 0;
	switch (run->riscv_sbi.function_id) {
	case CONSOLE_WRITE:
		if (arg[2]) {
			ret[0] = SBI_ERR_INVALID_PARAM;
			return;
		}
		memcpy(written + nr_written, addr_gpa2hva(vm, arg[1]), arg[0]);
		nr_written += arg[0];
		ret[1] = arg[0];
		return;
	case CONSOLE_READ:
		ret[1] = arg[0] < strlen(input) ? arg[0] : strlen(input);
		memcpy(addr_gpa2hva(vm, arg[1]), input, ret[1]);
		return;
	case CONSOLE_WRITE_BYTE:
		written[nr_written++] = arg[0];
		return;
	}
	ret[0] = SBI_ERR_NOT_SUPPORTED;
}

static struct sbiret dbcn(u64 fid, u64 arg0, u64 arg1, u64 arg2)
{
	sbi_ask(vcpus[0], SBI_EXT_DBCN, fid, (u64[6]){ arg0, arg1, arg2 });
	vcpu_run(vcpus[0]);
	TEST_ASSERT_KVM_EXIT_REASON(vcpus[0], KVM_EXIT_RISCV_SBI);
	serve(vcpus[0]->run);
	return sbi_answer(vcpus[0], NULL);
}

TEST(served_by_userspace)
{
	struct kvm_vcpu *vcpu = caller_create();
	struct sbiret ret;
	u64 gva, gpa;
	char *hva;

	switch_sbi(vcpu, KVM_RISCV_SBI_EXT_DBCN, 1);
	gva = vm_alloc_page(vm);
	gpa = addr_gva2gpa(vm, gva);
	hva = addr_gva2hva(vm, gva);

	strcpy(hva, "hello");
	ret = dbcn(CONSOLE_WRITE, 5, gpa, 0);
	TEST_ASSERT(!ret.error && ret.value == 5, "write: %ld, %ld", ret.error, ret.value);
	ret = dbcn(CONSOLE_WRITE_BYTE, '!', 0, 0);
	TEST_ASSERT_EQ(ret.error, 0);
	TEST_ASSERT(nr_written == 6 && !memcmp(written, "hello!", 6), "wrote %.*s",
		    (int)nr_written, written);
	ret = dbcn(CONSOLE_READ, 3, gpa, 0);
	TEST_ASSERT(!ret.error && ret.value == 3 && !memcmp(hva, "typlo", 5), "read %ld, %ld",
		    ret.error, ret.value);
	TEST_ASSERT_EQ(dbcn(CONSOLE_WRITE, 5, gpa, 1).error, SBI_ERR_INVALID_PARAM);
	TEST_ASSERT_EQ(dbcn(NR_FUNCTIONS, 0, 0, 0).error, SBI_ERR_NOT_SUPPORTED);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
