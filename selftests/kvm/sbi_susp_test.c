// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: S5, N53 */
/* covers: sbi/susp.rs sbi_abi/message/system.rs */
/*
 * SBI: system suspend: what it asks for, what userspace makes of it, and how
 * the hart goes on.
 */
#include "kvm_rs_sbi.h"

#define NR_FUNCTIONS	1
#define OPAQUE		0xfeed6f7061717565UL

/* A lone hart that may suspend, and the stub at which it resumes. */
FIXTURE(susp) {
	struct kvm_vcpu *vcpu;
};

FIXTURE_SETUP(susp)
{
	self->vcpu = lone_caller_create();
	if (!has_sbi(self->vcpu, KVM_RISCV_SBI_EXT_SUSP))
		SKIP(return, "the module has no system suspend");
	add_stub();
	switch_sbi(self->vcpu, KVM_RISCV_SBI_EXT_SUSP, 1);
}

FIXTURE_TEARDOWN(susp)
{
}

/* Asks, and runs up to where userspace is to do it. */
static void ask_suspend(struct kvm_vcpu *vcpu, u64 type)
{
	struct kvm_run *run = vcpu->run;

	sbi_ask(vcpu, SBI_EXT_SUSP, 0, (u64[6]){ type, STUB_GPA, OPAQUE });
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_RISCV_SBI);
	TEST_ASSERT_EQ(run->riscv_sbi.extension_id, SBI_EXT_SUSP);
	TEST_ASSERT_EQ(run->riscv_sbi.function_id, 0);
	TEST_ASSERT_EQ(run->riscv_sbi.args[0], type);
	TEST_ASSERT_EQ(run->riscv_sbi.args[1], STUB_GPA);
	TEST_ASSERT_EQ(run->riscv_sbi.args[2], OPAQUE);
	/* If userspace knows nothing of it. */
	TEST_ASSERT_EQ((long)run->riscv_sbi.ret[0], SBI_ERR_NOT_SUPPORTED);
	TEST_ASSERT_EQ(run->riscv_sbi.ret[1], 0);
}

TEST_F(susp, suspend_and_resume)
{
	ask_suspend(self->vcpu, 0);
	self->vcpu->run->riscv_sbi.ret[0] = 0;
	assert_stub(self->vcpu, 0, OPAQUE);
	/* It goes on in the stub: a suspend completes once. */
	TEST_ASSERT(vcpu_run_limited(self->vcpu, 100) == -1 && errno == EINTR,
		    "the hart does not go on");
	/* The other hart is where it was. */
	TEST_ASSERT_EQ(get_mp_state(vcpus[1]), KVM_MP_STATE_STOPPED);
}

/*
 * F14: the wire is userspace's, and is where it was when the hart resumes
 * (differences-from-c N53).
 */
TEST_F(susp, a_resume_does_not_move_the_wire)
{
	struct kvm_interrupt set = { .irq = KVM_INTERRUPT_SET };

	ask_suspend(self->vcpu, 0);
	vcpu_ioctl(self->vcpu, KVM_INTERRUPT, &set);
	self->vcpu->run->riscv_sbi.ret[0] = 0;
	assert_stub(self->vcpu, 0, OPAQUE);
	TEST_ASSERT_EQ(pending(self->vcpu) & IP_SEIP, IP_SEIP);
}

/* The type is 32 bits wide. */
TEST_F(susp, type_upper_half)
{
	ask_suspend(self->vcpu, 1UL << 32);
	self->vcpu->run->riscv_sbi.ret[0] = 0;
	assert_stub(self->vcpu, 0, OPAQUE);
}

/* A KVM_RUN that does nothing else completes the call; the hart resumes once. */
TEST_F(susp, resume_after_immediate_exit)
{
	ask_suspend(self->vcpu, 0);
	self->vcpu->run->riscv_sbi.ret[0] = 0;
	self->vcpu->run->immediate_exit = 1;
	TEST_ASSERT_ERRNO(__vcpu_run(self->vcpu), EINTR);
	self->vcpu->run->immediate_exit = 0;
	assert_stub(self->vcpu, 0, OPAQUE);
}

/* INVALID_PARAM: types that are reserved, or a platform's. */
TEST_F(susp, types)
{
	static const u64 bad[] = { 1, 0x7fffffff, 0x80000000, 0xffffffff, ~0UL, 1UL << 32 | 1 };
	int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_sbi_fails(SBI_ERR_INVALID_PARAM, self->vcpu, SBI_EXT_SUSP, 0, bad[i],
				 STUB_GPA, 0);
}

TEST_F(susp, resume_address)
{
	static const u64 bad[] = { NOWHERE_GPA, STUB_GPA + SIZE_4K, STUB_GPA - 4, 1UL << 40,
				   1UL << 63 | STUB_GPA, 1UL << 59 | STUB_GPA, -4UL, ~0UL };
	int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_sbi_fails(SBI_ERR_INVALID_ADDRESS, self->vcpu, SBI_EXT_SUSP, 0, 0,
				 bad[i], 0);
}

/* DENIED: "requires all but the calling hart be in the HSM STOPPED state". */
TEST_F(susp, needs_others_stopped)
{
	TEST_ASSERT_OK(set_mp_state(vcpus[1], KVM_MP_STATE_RUNNABLE));
	assert_sbi_fails(SBI_ERR_DENIED, self->vcpu, SBI_EXT_SUSP, 0, 0, STUB_GPA, 0);
	TEST_ASSERT_OK(set_mp_state(vcpus[1], KVM_MP_STATE_STOPPED));
	assert_sbi(0, self->vcpu, SBI_EXT_HSM, SBI_HSM_START, 1, STUB_GPA, 0);
	assert_sbi_fails(SBI_ERR_DENIED, self->vcpu, SBI_EXT_SUSP, 0, 0, STUB_GPA, 0);
	TEST_ASSERT_OK(set_mp_state(vcpus[1], KVM_MP_STATE_STOPPED));
	ask_suspend(self->vcpu, 0);
}

/* A suspend that userspace refuses is a call that failed, no more. */
static void check_refused(struct kvm_vcpu *vcpu, long error)
{
	struct ucall uc;
	u64 satp, pc;

	satp = vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(satp));
	ask_suspend(vcpu, 0);
	/* Nothing has happened to the hart yet. */
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(satp)), satp);
	pc = vcpu_pc(vcpu);
	TEST_ASSERT(pc != STUB_GPA, "the hart is at the resume address");
	TEST_ASSERT_EQ(get_mp_state(vcpu), KVM_MP_STATE_RUNNABLE);

	vcpu->run->riscv_sbi.ret[0] = error;
	vcpu->run->riscv_sbi.ret[1] = 0;
	TEST_ASSERT(!vcpu_run_limited(vcpu, HANG_MS), "KVM_RUN: %s", strerror(errno));
	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_SYNC, "the guest is not where it was");
	TEST_ASSERT_EQ((long)uc.args[0], error);
	TEST_ASSERT_EQ(uc.args[1], 0);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(satp)), satp);
}

/* differences-from-c S5 */
TEST_F(susp, refused_suspend_can_be_asked_for_again)
{
	check_refused(self->vcpu, SBI_ERR_DENIED);
	check_refused(self->vcpu, SBI_ERR_NOT_SUPPORTED);
	check_refused(self->vcpu, SBI_ERR_FAILURE);
	/* And it can be asked for again. */
	ask_suspend(self->vcpu, 0);
	self->vcpu->run->riscv_sbi.ret[0] = 0;
	assert_stub(self->vcpu, 0, OPAQUE);
}

/* differences-from-c S5 */
TEST_F(susp, left_alone)
{
	struct sbiret ret;

	ask_suspend(self->vcpu, 0);
	ret = sbi_answer(self->vcpu, NULL);
	TEST_ASSERT_EQ(ret.error, SBI_ERR_NOT_SUPPORTED);
	TEST_ASSERT_EQ(ret.value, 0);
}

/* What was pending is not; what waited for the hart is not lost on others. */
TEST_F(susp, resumes_clean)
{
	vcpu_set_reg(self->vcpu, RISCV_GENERAL_CSR_REG(sie), IP_SSIP);
	ask_suspend(self->vcpu, 0);
	self->vcpu->run->riscv_sbi.ret[0] = 0;
	assert_stub(self->vcpu, 0, OPAQUE);
	TEST_ASSERT_EQ(vcpu_get_reg(self->vcpu, RISCV_GENERAL_CSR_REG(sie)), 0);
}

/* It is the calling hart that resumes, whatever its number. */
TEST(any_hart)
{
	struct kvm_vcpu *vcpu;
	int i;

	sparse_create();
	vcpu = sparse[1];
	if (!has_sbi(vcpu, KVM_RISCV_SBI_EXT_SUSP))
		SKIP(return, "the module has no system suspend");
	add_stub();
	switch_sbi(vcpu, KVM_RISCV_SBI_EXT_SUSP, 1);
	for (i = 0; i < ARRAY_SIZE(sparse); i++)
		if (i != 1)
			TEST_ASSERT_OK(set_mp_state(sparse[i], KVM_MP_STATE_STOPPED));
	ask_suspend(vcpu, 0);
	vcpu->run->riscv_sbi.ret[0] = 0;
	assert_stub(vcpu, sparse_ids[1], OPAQUE);
}

TEST_F(susp, unknown_functions)
{
	TEST_ASSERT_EQ(probe(self->vcpu, SBI_EXT_SUSP), 1);
	check_unknown_functions(self->vcpu, SBI_EXT_SUSP, NR_FUNCTIONS);
	check_id_width(self->vcpu, SBI_EXT_SUSP);
}

TEST_F(susp, switched_off)
{
	check_switched_off(self->vcpu, KVM_RISCV_SBI_EXT_SUSP, SBI_EXT_SUSP, NR_FUNCTIONS);
}

/* Userspace has to want it. */
TEST(off_by_default)
{
	struct kvm_vcpu *vcpu = lone_caller_create();

	assert_sbi_fails(SBI_ERR_NOT_SUPPORTED, vcpu, SBI_EXT_SUSP, 0, 0, STUB_GPA, 0);
	TEST_ASSERT_EQ(probe(vcpu, SBI_EXT_SUSP), 0);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
