// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: S17, S3, N5, N30, N31, N53 */
/* covers: sbi/hsm.rs vcpu/mp_state.rs run/reset.rs */
/*
 * SBI: hart state management: start, stop, status and suspend.
 */
#include "kvm_rs_sbi.h"

#define NR_FUNCTIONS	4

static u64 status(struct kvm_vcpu *vcpu, u64 hart)
{
	return assert_sbi(0, vcpu, SBI_EXT_HSM, SBI_HSM_STATUS, hart);
}

static void guest_stop(void)
{
	csr_clear(CSR_SSTATUS, SR_SIE);
	sbi_ecall(SBI_EXT_HSM, SBI_HSM_STOP, 0, 0, 0, 0, 0, 0);
	GUEST_FAIL("hart_stop returned");
}

TEST(start_and_stop)
{
	struct kvm_vcpu *vcpu = caller_create();
	int round;

	add_stub();
	TEST_ASSERT_EQ(status(vcpu, 0), SBI_HSM_STARTED);
	TEST_ASSERT_EQ(status(vcpu, 1), SBI_HSM_STARTED);

	/* It stops itself, is seen stopped, and is started afresh. */
	vcpu_arch_set_entry_point(vcpus[1], guest_stop);
	TEST_ASSERT(eventually(assert_sleeps(vcpus[1]) == KVM_MP_STATE_STOPPED),
		    "the hart runs on");
	for (round = 0; round < 3; round++) {
		TEST_ASSERT_EQ(status(vcpu, 1), SBI_HSM_STOPPED);
		assert_sbi_fails(0, vcpu, SBI_EXT_HSM, SBI_HSM_START, 1, STUB_GPA,
				 0xfedcba9876543210 + round);
		TEST_ASSERT(status(vcpu, 1) != SBI_HSM_STOPPED, "the hart does not start");
		assert_sbi_fails(SBI_ERR_ALREADY_AVAILABLE, vcpu, SBI_EXT_HSM, SBI_HSM_START, 1,
				 STUB_GPA, 0);
		assert_stub(vcpus[1], 1, 0xfedcba9876543210 + round);
		TEST_ASSERT_OK(set_mp_state(vcpus[1], KVM_MP_STATE_STOPPED));
	}
}

/*
 * What reaches a hart before it has started is forgotten as it starts; who is
 * told that it is STARTED must not lose anything (differences-from-c N30).
 */
TEST(start_pending)
{
	struct kvm_vcpu *vcpu = lone_caller_create();

	add_stub();
	assert_sbi(0, vcpu, SBI_EXT_HSM, SBI_HSM_START, 1, STUB_GPA, 1);
	TEST_ASSERT_EQ(status(vcpu, 1), SBI_HSM_START_PENDING);
	TEST_ASSERT_EQ(get_mp_state(vcpus[1]), KVM_MP_STATE_RUNNABLE);
	/* Stopped before it has, it is that. */
	TEST_ASSERT_OK(set_mp_state(vcpus[1], KVM_MP_STATE_STOPPED));
	TEST_ASSERT_EQ(status(vcpu, 1), SBI_HSM_STOPPED);
	assert_sbi(0, vcpu, SBI_EXT_HSM, SBI_HSM_START, 1, STUB_GPA, 2);
	TEST_ASSERT_EQ(status(vcpu, 1), SBI_HSM_START_PENDING);
	assert_stub(vcpus[1], 1, 2);

	TEST_ASSERT_EQ(status(vcpu, 1), SBI_HSM_STARTED);
	assert_sbi(0, vcpu, SBI_EXT_IPI, 0, 2, 0);
	TEST_ASSERT_EQ(pending(vcpus[1]) & IP_SSIP, IP_SSIP);
	/* Userspace that looks at the hart starts it, too. */
	TEST_ASSERT_OK(set_mp_state(vcpus[1], KVM_MP_STATE_STOPPED));
	assert_sbi(0, vcpu, SBI_EXT_HSM, SBI_HSM_START, 1, STUB_GPA, 3);
	TEST_ASSERT_EQ(vcpu_pc(vcpus[1]), STUB_GPA);
	TEST_ASSERT_EQ(status(vcpu, 1), SBI_HSM_STARTED);
}

/* In the guest. */
static u64 waiting, stop_starting;

static void guest_waiter(void)
{
	csr_clear(CSR_SSTATUS, SR_SIE);
	csr_write(CSR_SIE, 0);
	WRITE_ONCE(waiting, 1);
	for (;;)
		asm volatile("wfi");
}

static void *stub_thread(void *vcpu)
{
	vcpu_run(vcpu);
	return NULL;
}

/*
 * A system reset stops a hart that waits for an interrupt; userspace leaves it
 * there and starts the first one again, which starts the others (differences-from-c N31).
 */
TEST(started_out_of_wfi)
{
	struct kvm_vcpu *vcpu = caller_create();
	u64 *is_waiting = addr_gva2hva(vm, (gva_t)&waiting);
	pthread_t thread;
	struct timespec end;

	add_stub();
	vcpu_arch_set_entry_point(vcpus[1], guest_waiter);
	pthread_create(&thread, NULL, stub_thread, vcpus[1]);
	TEST_ASSERT(eventually(READ_ONCE(*is_waiting)), "the other hart does not run");
	/* It may not wait yet, which would do as well. */
	TEST_ASSERT(eventually(status(vcpu, 1) == SBI_HSM_SUSPENDED), "it does not wait");

	sbi_ask(vcpu, SBI_EXT_SRST, 0, (u64[6]){ 1 });
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_SYSTEM_EVENT);
	TEST_ASSERT_OK(set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE));
	vcpu_set_reg(vcpu, RISCV_CORE_REG(regs.pc), vcpu_pc(vcpu) + 4);
	sbi_answer(vcpu, NULL);
	TEST_ASSERT_EQ(status(vcpu, 1), SBI_HSM_STOPPED);

	assert_sbi(0, vcpu, SBI_EXT_HSM, SBI_HSM_START, 1, STUB_GPA, 0x99);
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += DEFECT_MS / 1000;
	TEST_ASSERT(!pthread_timedjoin_np(thread, NULL, &end), "the hart does not start");
	TEST_ASSERT_KVM_EXIT_REASON(vcpus[1], KVM_EXIT_RISCV_SBI);
	TEST_ASSERT_EQ(vcpus[1]->run->riscv_sbi.args[0], 1);
	TEST_ASSERT_EQ(vcpus[1]->run->riscv_sbi.args[1], 0x99);
}

static void guest_keeps_starting(void)
{
	while (!READ_ONCE(stop_starting))
		guest_ecall(SBI_EXT_HSM, SBI_HSM_START, (u64[6]){ 1, STUB_GPA });
	GUEST_DONE();
}

/*
 * However often it is stopped while it starts, it starts where it was told to
 * (differences-from-c S3).
 */
TEST(stopped_while_it_starts)
{
	pthread_t thread;
	u64 pc;
	int i;

	vm = vm_create_with_vcpus(2, guest_keeps_starting, vcpus);
	add_stub();
	TEST_ASSERT_OK(set_mp_state(vcpus[1], KVM_MP_STATE_STOPPED));
	thread = run_aside(vcpus[0]);
	TEST_ASSERT(eventually_within(DEFECT_MS, vcpu_pc(vcpus[1]) == STUB_GPA),
		    "the hart does not start");
	for (i = 0; i < 20000; i++) {
		TEST_ASSERT_OK(set_mp_state(vcpus[1], KVM_MP_STATE_STOPPED));
		pc = vcpu_pc(vcpus[1]);
		TEST_ASSERT(pc == STUB_GPA, "round %d: pc 0x%lx", i, (unsigned long)pc);
	}
	write_guest_global(vm, stop_starting, 1);
	pthread_join(thread, NULL);
}

/* Harts but the first wait for this, whatever userspace does not do. */
TEST(new_hart_is_stopped)
{
	struct kvm_vcpu *vcpu = caller_create();
	struct kvm_vcpu *third = __vm_vcpu_add(vm, 2);

	add_stub();
	TEST_ASSERT_EQ(status(vcpu, 2), SBI_HSM_STOPPED);
	assert_sleeps(third);
	assert_sbi(0, vcpu, SBI_EXT_HSM, SBI_HSM_START, 2, STUB_GPA, 0x77);
	assert_stub(third, 2, 0x77);
}

TEST(start_refused)
{
	static const u64 bad[] = { 2, 63, 64, 0x7fffffff, 0x80000000, 0xffffffff };
	struct kvm_vcpu *vcpu = caller_create();
	int i;

	add_stub();
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_sbi_fails(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_HSM, SBI_HSM_START, bad[i],
				 STUB_GPA, 0);
		assert_sbi_fails(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_HSM, SBI_HSM_STATUS, bad[i]);
	}
	assert_sbi_fails(SBI_ERR_ALREADY_AVAILABLE, vcpu, SBI_EXT_HSM, SBI_HSM_START, 0, STUB_GPA,
			 0);
	assert_sbi_fails(SBI_ERR_ALREADY_AVAILABLE, vcpu, SBI_EXT_HSM, SBI_HSM_START, 1, STUB_GPA,
			 0);
}

/* A hart id is 64 bits wide (differences-from-c S17). */
TEST(hart_id_upper_half)
{
	struct kvm_vcpu *vcpu = lone_caller_create();
	static const u64 bad[] = { 1UL << 32 | 1, 1UL << 63 | 1, 1UL << 63, ~0UL << 32 | 1, ~0UL };
	int i;

	add_stub();
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_sbi_fails(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_HSM, SBI_HSM_START, bad[i],
				 STUB_GPA, 0);
		assert_sbi_fails(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_HSM, SBI_HSM_STATUS, bad[i]);
	}
	TEST_ASSERT_EQ(get_mp_state(vcpus[1]), KVM_MP_STATE_STOPPED);
}

/*
 * INVALID_ADDRESS: "It is not a valid physical address", or it cannot be
 * executed.  The hart stays where it is (differences-from-c N5).
 */
TEST(start_address)
{
	static const u64 bad[] = { NOWHERE_GPA, STUB_GPA + SIZE_4K, STUB_GPA - 4, 1UL << 40,
				   1UL << 63 | STUB_GPA, 1UL << 59 | STUB_GPA, -4UL, ~0UL };
	struct kvm_vcpu *vcpu = lone_caller_create();
	int i;

	add_stub();
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_sbi_fails(SBI_ERR_INVALID_ADDRESS, vcpu, SBI_EXT_HSM, SBI_HSM_START, 1,
				 bad[i], 0);
		TEST_ASSERT_EQ(status(vcpu, 1), SBI_HSM_STOPPED);
	}
	assert_sleeps(vcpus[1]);

	/* The hart comes before its address. */
	assert_sbi_fails(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_HSM, SBI_HSM_START, 2, NOWHERE_GPA,
			 0);
	assert_sbi_fails(0, vcpu, SBI_EXT_HSM, SBI_HSM_START, 1, STUB_GPA, 3);
	assert_sbi_fails(SBI_ERR_ALREADY_AVAILABLE, vcpu, SBI_EXT_HSM, SBI_HSM_START, 1,
			 NOWHERE_GPA, 0);
	assert_stub(vcpus[1], 1, 3);
}

TEST(sparse_harts)
{
	struct kvm_vcpu *vcpu = sparse_create();
	int i;

	add_stub();
	for (i = 1; i < ARRAY_SIZE(sparse); i++) {
		TEST_ASSERT_EQ(status(vcpu, sparse_ids[i]), SBI_HSM_STARTED);
		TEST_ASSERT_OK(set_mp_state(sparse[i], KVM_MP_STATE_STOPPED));
		TEST_ASSERT_EQ(status(vcpu, sparse_ids[i]), SBI_HSM_STOPPED);
		assert_sbi(0, vcpu, SBI_EXT_HSM, SBI_HSM_START, sparse_ids[i], STUB_GPA, i);
		assert_stub(sparse[i], sparse_ids[i], i);
	}
	/* The indices of those. */
	assert_sbi_fails(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_HSM, SBI_HSM_STATUS, 1);
	assert_sbi_fails(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_HSM, SBI_HSM_STATUS, 2);
}

/* Stopped, a hart has nothing of before: not its interrupts, nor its address space. */
TEST(starts_clean)
{
	struct kvm_vcpu *vcpu = lone_caller_create();

	add_stub();
	vcpu_set_reg(vcpus[1], RISCV_GENERAL_CSR_REG(sie), IP_SSIP);
	assert_sbi(0, vcpu, SBI_EXT_IPI, 0, 2, 0);
	assert_sbi(0, vcpu, SBI_EXT_HSM, SBI_HSM_START, 1, STUB_GPA, 0);
	assert_stub(vcpus[1], 1, 0);
	TEST_ASSERT_EQ(pending(vcpus[1]) & IP_SSIP, 0);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpus[1], RISCV_GENERAL_CSR_REG(sie)), 0);
}

/* A suspended hart goes on if something is pending already. */
TEST(suspend_with_pending)
{
	struct kvm_vcpu *vcpu = caller_create();

	vcpu_set_reg(vcpu, RISCV_GENERAL_CSR_REG(sie), IP_STIP);
	assert_sbi(0, vcpu, SBI_EXT_TIME, 0, 0);
	assert_sbi_fails(0, vcpu, SBI_EXT_HSM, SBI_HSM_SUSPEND, 0, 0, 0);
	/* The address is unused if registers are retained; the type has 32 bits. */
	assert_sbi_fails(0, vcpu, SBI_EXT_HSM, SBI_HSM_SUSPEND, 0, NOWHERE_GPA, 5);
	assert_sbi_fails(0, vcpu, SBI_EXT_HSM, SBI_HSM_SUSPEND, 1UL << 32, ~0UL, 5);
}

/*
 * INVALID_PARAM for types that are reserved, or a platform's; NOT_SUPPORTED for
 * the other one that the specification names.
 */
TEST(suspend_types)
{
	static const u64 bad[] = { 1, 0x0fffffff, 0x10000000, 0x7fffffff, 0x80000001, 0x8fffffff,
				   0x90000000, 0xffffffff, ~0UL, 1UL << 32 | 1 };
	struct kvm_vcpu *vcpu = caller_create();
	int i;

	add_stub();
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_sbi_fails(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_HSM, SBI_HSM_SUSPEND, bad[i],
				 STUB_GPA, 0);
	assert_sbi_fails(SBI_ERR_NOT_SUPPORTED, vcpu, SBI_EXT_HSM, SBI_HSM_SUSPEND, 0x80000000,
			 STUB_GPA, 0);
	assert_sbi_fails(SBI_ERR_NOT_SUPPORTED, vcpu, SBI_EXT_HSM, SBI_HSM_SUSPEND,
			 1UL << 32 | 0x80000000, STUB_GPA, 0);
}

/* In the guest. */
static u64 resumed;

static void guest_suspender(void)
{
	struct sbiret ret;
	u64 i;

	/* Interrupts are enabled one by one, not together: it goes on after the call. */
	csr_clear(CSR_SSTATUS, SR_SIE);
	csr_set(CSR_SIE, IP_SSIP);
	for (i = 1; i <= 3; i++) {
		ret = guest_ecall(SBI_EXT_HSM, SBI_HSM_SUSPEND, (u64[6]){ 0, -4UL });
		GUEST_ASSERT_EQ(ret.error, 0L);
		GUEST_ASSERT(csr_read(CSR_SIP) & IP_SSIP);
		csr_clear(CSR_SIP, IP_SSIP);
		WRITE_ONCE(resumed, i);
	}
	GUEST_DONE();
}

static void guest_wait_for_status(u64 want)
{
	struct sbiret ret;

	do {
		ret = guest_ecall(SBI_EXT_HSM, SBI_HSM_STATUS, (u64[6]){ 1 });
		GUEST_ASSERT_EQ(ret.error, 0L);
		GUEST_ASSERT(ret.value != SBI_HSM_STOPPED);
	} while (ret.value != want);
}

static void guest_resumer(void)
{
	struct sbiret ret;
	u64 i;

	for (i = 1; i <= 3; i++) {
		guest_wait_for_status(SBI_HSM_SUSPENDED);
		GUEST_ASSERT_EQ(READ_ONCE(resumed), i - 1);
		/* Suspended is not stopped. */
		ret = guest_ecall(SBI_EXT_HSM, SBI_HSM_START, (u64[6]){ 1, STUB_GPA });
		GUEST_ASSERT_EQ(ret.error, (long)SBI_ERR_ALREADY_AVAILABLE);
		GUEST_ASSERT_EQ(guest_ecall(SBI_EXT_IPI, 0, (u64[6]){ 2 }).error, 0L);
		while (READ_ONCE(resumed) != i)
			cpu_relax();
	}
	GUEST_DONE();
}

TEST(suspend_and_resume)
{
	pthread_t thread;

	vm = vm_create_with_vcpus(2, guest_resumer, vcpus);
	add_stub();
	vcpu_arch_set_entry_point(vcpus[1], guest_suspender);
	pthread_create(&thread, NULL, run_thread, vcpus[1]);
	run_to_done(vcpus[0]);
	pthread_join(thread, NULL);
}

static void move_wire(struct kvm_vcpu *vcpu, u32 irq)
{
	struct kvm_interrupt intr = { .irq = irq };

	vcpu_ioctl(vcpu, KVM_INTERRUPT, &intr);
}

/*
 * F14: the wire is userspace's, and is where it was when the hart begins
 * (differences-from-c N53).
 */
TEST(a_start_does_not_move_the_wire)
{
	struct kvm_vcpu *vcpu = lone_caller_create();

	add_stub();
	vcpu_set_reg(vcpus[1], RISCV_GENERAL_CSR_REG(sip), IP_SSIP);
	move_wire(vcpus[1], KVM_INTERRUPT_SET);
	assert_sbi(0, vcpu, SBI_EXT_HSM, SBI_HSM_START, 1, STUB_GPA, 1);
	/* What else was pending is not. */
	TEST_ASSERT_EQ(pending(vcpus[1]), IP_SEIP);
	assert_stub(vcpus[1], 1, 1);
	TEST_ASSERT_EQ(pending(vcpus[1]), IP_SEIP);

	TEST_ASSERT_OK(set_mp_state(vcpus[1], KVM_MP_STATE_STOPPED));
	move_wire(vcpus[1], KVM_INTERRUPT_UNSET);
	assert_sbi(0, vcpu, SBI_EXT_HSM, SBI_HSM_START, 1, STUB_GPA, 2);
	TEST_ASSERT_EQ(pending(vcpus[1]), 0);
}

TEST(unknown_functions)
{
	struct kvm_vcpu *vcpu = caller_create();

	check_unknown_functions(vcpu, SBI_EXT_HSM, NR_FUNCTIONS);
	check_id_width(vcpu, SBI_EXT_HSM);
	TEST_ASSERT_EQ(get_mp_state(vcpu), KVM_MP_STATE_RUNNABLE);
}

TEST(switched_off)
{
	check_switched_off(caller_create(), KVM_RISCV_SBI_EXT_HSM, SBI_EXT_HSM, NR_FUNCTIONS);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
