/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of the SBI share, one program for each extension: a VM whose
 * first vCPU makes calls, a hart that starts without translation, and what the
 * specification (RISC-V SBI 3.0) says of every extension alike.
 */
#ifndef SELFTEST_KVM_RS_SBI_H
#define SELFTEST_KVM_RS_SBI_H

#include "kvm_rs_util.h"

/* Extensions that nobody serves here. */
#define SBI_EXT_CPPC		0x43505043
#define SBI_EXT_DBTR		0x44425452
#define SBI_EXT_NACL		0x4E41434C
#define SBI_EXT_SSE		0x535345

#define SBI_EXT_EXPERIMENTAL_FIRST	0x08000000UL
#define SBI_EXT_EXPERIMENTAL_LAST	0x08ffffffUL
#define SBI_EXT_VENDOR_FIRST		0x09000000UL
#define SBI_EXT_VENDOR_LAST		0x09ffffffUL

#define SBI_BASE_PROBE		3

#define SBI_HSM_STARTED		0
#define SBI_HSM_STOPPED		1
#define SBI_HSM_START_PENDING	2
#define SBI_HSM_SUSPENDED	4

#define STUB_GPA		0x20000000UL
/* Nothing is there. */
#define NOWHERE_GPA		0x30000000UL

static struct kvm_vcpu *vcpus[2] __maybe_unused;
static struct kvm_vm *vm __maybe_unused;

/* The first vCPU takes calls; the second exists. */
static __maybe_unused struct kvm_vcpu *caller_create(void)
{
	vm = vm_create_with_vcpus(2, guest_sbi_server, vcpus);
	vm_catch_guest_traps(vm);
	return vcpus[0];
}

static __maybe_unused int set_mp_state(struct kvm_vcpu *vcpu, u32 state)
{
	struct kvm_mp_state mp = { .mp_state = state };

	return __vcpu_ioctl(vcpu, KVM_SET_MP_STATE, &mp);
}

static __maybe_unused u32 get_mp_state(struct kvm_vcpu *vcpu)
{
	struct kvm_mp_state mp;

	vcpu_mp_state_get(vcpu, &mp);
	return mp.mp_state;
}

/* As caller_create(), with the second hart stopped. */
static __maybe_unused struct kvm_vcpu *lone_caller_create(void)
{
	caller_create();
	TEST_ASSERT_OK(set_mp_state(vcpus[1], KVM_MP_STATE_STOPPED));
	return vcpus[0];
}

static __maybe_unused u64 pending(struct kvm_vcpu *vcpu)
{
	return vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(sip));
}

static __maybe_unused u64 vcpu_pc(struct kvm_vcpu *vcpu)
{
	return vcpu_get_reg(vcpu, RISCV_CORE_REG(regs.pc));
}

static __maybe_unused u64 now(struct kvm_vcpu *vcpu)
{
	return vcpu_get_reg(vcpu, RISCV_TIMER_REG(time));
}

/* Whether the module has an extension at all; no says why a test is skipped. */
static __maybe_unused bool has_sbi(struct kvm_vcpu *vcpu, u64 id)
{
	u64 val;

	return !__vcpu_get_reg(vcpu, RISCV_SBI_EXT_REG(id), &val);
}

static __maybe_unused void switch_sbi(struct kvm_vcpu *vcpu, u64 id, u64 on)
{
	vcpu_set_reg(vcpu, RISCV_SBI_EXT_REG(id), on);
}

/* A call that fails has no value. */
#define assert_sbi_fails(want, vcpu, ext, fid, args...)				\
	TEST_ASSERT_EQ(assert_sbi(want, vcpu, ext, fid, ##args), 0)

static __maybe_unused u64 probe(struct kvm_vcpu *vcpu, u64 ext)
{
	return assert_sbi(0, vcpu, SBI_EXT_BASE, SBI_BASE_PROBE, ext);
}

/*
 * An ECALL with a function id that is not supported must return NOT_SUPPORTED;
 * ids are 32 bits wide and sign-extended, so that other bits make another id.
 * @count functions there are, from 0 on.
 */
static __maybe_unused void check_unknown_functions(struct kvm_vcpu *vcpu, u64 ext, u64 count)
{
	u64 fid;

	for (fid = count; fid < count + 4; fid++)
		assert_sbi_fails(SBI_ERR_NOT_SUPPORTED, vcpu, ext, fid, 0, 0, 0);
	for (fid = 0; fid < count; fid++) {
		assert_sbi_fails(SBI_ERR_NOT_SUPPORTED, vcpu, ext, fid | 1UL << 32, 0, 0, 0);
		assert_sbi_fails(SBI_ERR_NOT_SUPPORTED, vcpu, ext, fid | ~0UL << 31, 0, 0, 0);
	}
	assert_sbi_fails(SBI_ERR_NOT_SUPPORTED, vcpu, ext, 0x7fffffff, 0, 0, 0);
	assert_sbi_fails(SBI_ERR_NOT_SUPPORTED, vcpu, ext, ~0UL, 0, 0, 0);
	assert_sbi_fails(SBI_ERR_NOT_SUPPORTED, vcpu, ext, 1UL << 63, 0, 0, 0);
}

/*
 * So with an ECALL whose extension is not supported: @ext, which has @count
 * functions, while it is switched off.  @vcpu has not run.
 */
static __maybe_unused void check_switched_off(struct kvm_vcpu *vcpu, u64 id, u64 ext, u64 count)
{
	u64 fid;

	switch_sbi(vcpu, id, 0);
	for (fid = 0; fid <= count; fid++)
		assert_sbi_fails(SBI_ERR_NOT_SUPPORTED, vcpu, ext, fid, 0, 0, 0);
	TEST_ASSERT_EQ(probe(vcpu, ext), 0);
}

/* And that of @ext with other bits above. */
static __maybe_unused void check_id_width(struct kvm_vcpu *vcpu, u64 ext)
{
	static const u64 above[] = { 1UL << 32, ~0UL << 32, 1UL << 63, 1UL << 31 };
	int i;

	for (i = 0; i < ARRAY_SIZE(above); i++) {
		assert_sbi_fails(SBI_ERR_NOT_SUPPORTED, vcpu, ext | above[i], 0, 0, 0, 0);
		TEST_ASSERT_EQ(probe(vcpu, ext | above[i]), 0);
	}
}

/* The call leaves with all its arguments and returns what userspace says. */
static __maybe_unused void check_forward(struct kvm_vcpu *vcpu, u64 ext, u64 fid)
{
	u64 arg[6] = { 0x1111, ~0UL, 1UL << 63, 4, 5, 0x123456789abcdef0 };
	struct kvm_run *run = vcpu->run;
	struct sbiret ret;
	u64 pc;
	int i;

	sbi_ask(vcpu, ext, fid, arg);
	vcpu_run(vcpu);
	TEST_ASSERT(run->exit_reason == KVM_EXIT_RISCV_SBI && run->riscv_sbi.extension_id == ext &&
		    run->riscv_sbi.function_id == fid, "exit %d, not SBI 0x%lx", run->exit_reason,
		    (unsigned long)ext);
	for (i = 0; i < 6; i++)
		TEST_ASSERT_EQ(run->riscv_sbi.args[i], arg[i]);
	/* If userspace knows nothing of it. */
	TEST_ASSERT_EQ((long)run->riscv_sbi.ret[0], SBI_ERR_NOT_SUPPORTED);
	TEST_ASSERT_EQ(run->riscv_sbi.ret[1], 0);

	/* The next KVM_RUN completes it, once, if it does nothing else. */
	pc = vcpu_pc(vcpu);
	run->riscv_sbi.ret[0] = -77;
	run->riscv_sbi.ret[1] = 0xfedcba9876543210;
	for (i = 0; i < 2; i++) {
		run->immediate_exit = 1;
		TEST_ASSERT_ERRNO(__vcpu_run(vcpu), EINTR);
		run->immediate_exit = 0;
		TEST_ASSERT_EQ(vcpu_pc(vcpu), pc + 4);
	}
	ret = sbi_answer(vcpu, NULL);
	TEST_ASSERT_EQ(ret.error, -77);
	TEST_ASSERT_EQ((u64)ret.value, 0xfedcba9876543210);
}

/* A call that userspace leaves alone fails. */
static __maybe_unused void check_forward_untouched(struct kvm_vcpu *vcpu, u64 ext, u64 fid)
{
	struct sbiret ret;

	sbi_ask(vcpu, ext, fid, (u64[6]){ 1, 2, 3 });
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_RISCV_SBI);
	ret = sbi_answer(vcpu, NULL);
	TEST_ASSERT_EQ(ret.error, SBI_ERR_NOT_SUPPORTED);
	TEST_ASSERT_EQ(ret.value, 0);
}

/*
 * An extension that is there if userspace wants it, because userspace serves
 * it: all of its functions, those included that nobody knows yet.
 */
static __maybe_unused void check_optional_forward(u64 id, u64 ext, u64 count)
{
	struct kvm_vcpu *vcpu = caller_create();
	u64 fid;

	for (fid = 0; fid <= count; fid++)
		assert_sbi_fails(SBI_ERR_NOT_SUPPORTED, vcpu, ext, fid, 0, 0, 0);
	TEST_ASSERT_EQ(probe(vcpu, ext), 0);
	kvm_vm_free(vm);

	vcpu = caller_create();
	switch_sbi(vcpu, id, 1);
	TEST_ASSERT_EQ(probe(vcpu, ext), 1);
	for (fid = 0; fid <= count; fid++)
		check_forward(vcpu, ext, fid);
	check_forward(vcpu, ext, ~0UL);
	check_forward(vcpu, ext, 1UL << 32);
	check_forward_untouched(vcpu, ext, 0);
	check_id_width(vcpu, ext);
	/* The other vCPU's choice is its own. */
	TEST_ASSERT_EQ(vcpu_get_reg(vcpus[1], RISCV_SBI_EXT_REG(id)), 0);
	kvm_vm_free(vm);
}

/* Code for a hart without translation: leaves to userspace with a0 and a1. */
static const u32 stub_code[] __maybe_unused = {
	0x090008b7,	/* lui a7, 0x9000: a vendor's extension */
	0x07b00813,	/* li a6, 123 */
	0x00000073,	/* ecall */
	0x0000006f,	/* j . */
};

static __maybe_unused void add_stub(void)
{
	void *mem = mmap_at(SIZE_4K, SIZE_4K, 0, MAP_ANON_PRIVATE, -1);

	memcpy(mem, stub_code, sizeof(stub_code));
	vm_set_user_memory_region(vm, 1, 0, STUB_GPA, SIZE_4K, mem);
}

/* The hart runs the stub, in the state that the specification wants. */
static __maybe_unused void assert_stub(struct kvm_vcpu *vcpu, u64 hart, u64 opaque)
{
	struct kvm_run *run = vcpu->run;

	TEST_ASSERT(!vcpu_run_limited(vcpu, HANG_MS), "KVM_RUN: %s", strerror(errno));
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_RISCV_SBI);
	TEST_ASSERT_EQ(run->riscv_sbi.extension_id, SBI_EXT_VENDOR_FIRST);
	TEST_ASSERT_EQ(run->riscv_sbi.function_id, 123);
	TEST_ASSERT_EQ(run->riscv_sbi.args[0], hart);
	TEST_ASSERT_EQ(run->riscv_sbi.args[1], opaque);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(satp)), 0);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(sstatus)) & SR_SIE, 0);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_CORE_REG(mode)), KVM_RISCV_MODE_S);
}

/* Asserts that the hart does not leave KVM_RUN by itself; the state that it has then. */
static __maybe_unused u32 assert_sleeps(struct kvm_vcpu *vcpu)
{
	TEST_ASSERT(vcpu_run_limited(vcpu, 200) == -1 && errno == EINTR, "the hart runs: exit %d",
		    vcpu->run->exit_reason);
	return get_mp_state(vcpu);
}

static __maybe_unused void *run_thread(void *vcpu)
{
	run_to_done(vcpu);
	return NULL;
}

/* Runs @vcpu in a thread that takes none of this one's signals. */
static __maybe_unused pthread_t run_aside(struct kvm_vcpu *vcpu)
{
	sigset_t all, old;
	pthread_t thread;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	pthread_create(&thread, NULL, run_thread, vcpu);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return thread;
}

/* Four harts whose ids and order have little to do with each other. */
static struct kvm_vcpu *sparse[4] __maybe_unused;
static const u32 sparse_ids[4] __maybe_unused = { 0, 70, 3, 64 };

static __maybe_unused struct kvm_vcpu *sparse_create(void)
{
	int i;

	vm = vm_create(ARRAY_SIZE(sparse));
	for (i = 0; i < ARRAY_SIZE(sparse); i++)
		sparse[i] = vm_vcpu_add(vm, sparse_ids[i], guest_sbi_server);
	vm_catch_guest_traps(vm);
	return sparse[0];
}

#endif /* SELFTEST_KVM_RS_SBI_H */
