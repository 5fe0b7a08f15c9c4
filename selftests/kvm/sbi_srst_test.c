// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: S17, N54 */
/* covers: sbi/srst.rs sbi_abi/message/system.rs vcpu/mp_state.rs */
/*
 * SBI: system reset: what userspace is told, and that every hart stops.
 */
#include "kvm_rs_sbi.h"

#define NR_FUNCTIONS	1

#define SHUTDOWN	0
#define COLD_REBOOT	1
#define WARM_REBOOT	2

static void assert_event(u32 type, u64 reason)
{
	struct kvm_run *run = vcpus[0]->run;

	TEST_ASSERT_KVM_EXIT_REASON(vcpus[0], KVM_EXIT_SYSTEM_EVENT);
	TEST_ASSERT_EQ(run->system_event.type, type);
	TEST_ASSERT_EQ(run->system_event.ndata, 1);
	TEST_ASSERT_EQ(run->system_event.data[0], reason);
	TEST_ASSERT_EQ(get_mp_state(vcpus[0]), KVM_MP_STATE_STOPPED);
	TEST_ASSERT_EQ(get_mp_state(vcpus[1]), KVM_MP_STATE_STOPPED);
}

static void check_reset(u64 type, u64 reason, u32 event)
{
	struct kvm_vcpu *vcpu = caller_create();

	sbi_ask(vcpu, SBI_EXT_SRST, 0, (u64[6]){ type, reason });
	vcpu_run(vcpu);
	assert_event(event, reason & 0xffffffff);
	kvm_vm_free(vm);
}

TEST(types_and_reasons)
{
	check_reset(SHUTDOWN, 0, KVM_SYSTEM_EVENT_SHUTDOWN);
	check_reset(SHUTDOWN, 1, KVM_SYSTEM_EVENT_SHUTDOWN);
	check_reset(COLD_REBOOT, 0, KVM_SYSTEM_EVENT_RESET);
	check_reset(COLD_REBOOT, 1, KVM_SYSTEM_EVENT_RESET);
	check_reset(WARM_REBOOT, 0, KVM_SYSTEM_EVENT_RESET);
	check_reset(WARM_REBOOT, 1, KVM_SYSTEM_EVENT_RESET);
}

/* The platform is userspace, which may have reasons of its own. */
TEST(reasons_of_the_platform)
{
	check_reset(SHUTDOWN, 0xf0000000, KVM_SYSTEM_EVENT_SHUTDOWN);
	check_reset(COLD_REBOOT, 0xffffffff, KVM_SYSTEM_EVENT_RESET);
}

/* Both are 32 bits wide. */
TEST(upper_halves)
{
	check_reset(1UL << 32 | SHUTDOWN, 1UL << 63 | 1, KVM_SYSTEM_EVENT_SHUTDOWN);
	check_reset(~0UL << 32 | COLD_REBOOT, ~0UL << 32, KVM_SYSTEM_EVENT_RESET);
}

/*
 * INVALID_PARAM is for what is reserved, or platform-specific and unimplemented
 * (SBI 3.0, errors of sbi_system_reset); NOT_SUPPORTED is for neither (differences-from-c S17).
 */
TEST(reserved_resets_are_refused)
{
	static const u64 bad[][2] = {
		{ 3, 0 }, { 0x7fffffff, 0 }, { 0x80000000, 0 }, { 0xefffffff, 0 },
		{ 0xf0000000, 0 }, { 0xffffffff, 0 }, { ~0UL, 0 }, { 1UL << 32 | 3, 0 },
		{ SHUTDOWN, 2 }, { SHUTDOWN, 0x7fffffff }, { SHUTDOWN, 0xdfffffff },
		{ COLD_REBOOT, 2 }, { WARM_REBOOT, 0x80000000 },
		/* Reasons of the implementation: there are none. */
		{ SHUTDOWN, 0xe0000000 }, { COLD_REBOOT, 0xefffffff },
		{ 3, 2 }, { SHUTDOWN, 1UL << 32 | 2 },
	};
	struct kvm_vcpu *vcpu = caller_create();
	int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_sbi_fails(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_SRST, 0, bad[i][0],
				 bad[i][1]);
	TEST_ASSERT_EQ(get_mp_state(vcpus[0]), KVM_MP_STATE_RUNNABLE);
	TEST_ASSERT_EQ(get_mp_state(vcpus[1]), KVM_MP_STATE_RUNNABLE);
}

/* "Does not return if it succeeds". */
TEST(no_return)
{
	struct kvm_vcpu *vcpu = caller_create();
	u64 pc;

	sbi_ask(vcpu, SBI_EXT_SRST, 0, (u64[6]){ COLD_REBOOT, 1 });
	vcpu_run(vcpu);
	pc = vcpu_pc(vcpu);
	assert_sleeps(vcpu);
	assert_sleeps(vcpus[1]);
	TEST_ASSERT_EQ(vcpu_pc(vcpu), pc);
	/* Let go by userspace as it is, it asks again. */
	TEST_ASSERT_OK(set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE));
	vcpu_run(vcpu);
	assert_event(KVM_SYSTEM_EVENT_RESET, 1);
}

/* In the guest. */
static u64 turns;

static void guest_turn(void)
{
	for (;;)
		WRITE_ONCE(turns, READ_ONCE(turns) + 1);
}

static void guest_shutdown(void)
{
	while (READ_ONCE(turns) < 1000)
		cpu_relax();
	sbi_ecall(SBI_EXT_SRST, 0, SHUTDOWN, 0, 0, 0, 0, 0);
	GUEST_FAIL("system_reset returned");
}

static void *other_thread(void *vcpu)
{
	/* Ends by the signal below. */
	__vcpu_run(vcpu);
	return (void *)(long)errno;
}

static void ignore(int sig)
{
}

/* A hart that runs in another thread is stopped, too. */
TEST(other_harts_stop)
{
	struct sigaction sa = { .sa_handler = ignore };
	pthread_t thread;
	void *err;
	u64 seen;

	sigaction(SIGUSR1, &sa, NULL);
	vm = vm_create_with_vcpus(2, guest_shutdown, vcpus);
	vcpu_arch_set_entry_point(vcpus[1], guest_turn);
	pthread_create(&thread, NULL, other_thread, vcpus[1]);
	vcpu_run(vcpus[0]);
	TEST_ASSERT_KVM_EXIT_REASON(vcpus[0], KVM_EXIT_SYSTEM_EVENT);

	sync_global_from_guest(vm, turns);
	seen = turns;
	usleep(50000);
	sync_global_from_guest(vm, turns);
	TEST_ASSERT(turns == seen, "the other hart runs on: %lu turns",
		    (unsigned long)(turns - seen));
	vcpus[1]->run->immediate_exit = 1;
	pthread_kill(thread, SIGUSR1);
	pthread_join(thread, &err);
	TEST_ASSERT_EQ((long)err, EINTR);
	assert_event(KVM_SYSTEM_EVENT_SHUTDOWN, 0);
}

TEST(unknown_functions)
{
	struct kvm_vcpu *vcpu = caller_create();

	check_unknown_functions(vcpu, SBI_EXT_SRST, NR_FUNCTIONS);
	check_id_width(vcpu, SBI_EXT_SRST);
	TEST_ASSERT_EQ(get_mp_state(vcpu), KVM_MP_STATE_RUNNABLE);
}

TEST(switched_off)
{
	check_switched_off(caller_create(), KVM_RISCV_SBI_EXT_SRST, SBI_EXT_SRST, NR_FUNCTIONS);
}

/* Code for a hart without translation: stops at once. */
static const u32 stop_code[] = {
	0x004858b7,	/* lui a7, 0x485 */
	0x34d88893,	/* addi a7, a7, 0x34d: HSM */
	0x00100813,	/* li a6, 1: hart_stop */
	0x00000073,	/* ecall */
	0x0000006f,	/* j . */
};

static u64 starts;

static void guest_start_and_start(void)
{
	for (;;) {
		if (!sbi_ecall(SBI_EXT_HSM, SBI_HSM_START, 2, STUB_GPA, 0, 0, 0, 0).error)
			WRITE_ONCE(starts, READ_ONCE(starts) + 1);
	}
}

static void guest_reset_when_they_start(void)
{
	while (READ_ONCE(starts) < 5)
		cpu_relax();
	sbi_ecall(SBI_EXT_SRST, 0, COLD_REBOOT, 0, 0, 0, 0, 0);
	GUEST_FAIL("system_reset returned");
}

static bool over;

static void *until_over(void *vcpu)
{
	while (!READ_ONCE(over))
		__vcpu_run(vcpu);
	return NULL;
}

/*
 * F13: a hart that is about to start another does not do so after the reset
 * (differences-from-c N54).
 */
TEST(no_hart_is_started_after_the_reset)
{
	struct sigaction sa = { .sa_handler = ignore };
	void *mem = mmap_at(SIZE_4K, SIZE_4K, 0, MAP_ANON_PRIVATE, -1);
	struct kvm_vcpu *harts[3];
	pthread_t threads[3];
	int round, i;

	memcpy(mem, stop_code, sizeof(stop_code));

	sigaction(SIGUSR1, &sa, NULL);
	for (round = 0; round < 40; round++) {
		vm = vm_create_with_vcpus(3, guest_reset_when_they_start, harts);
		vm_set_user_memory_region(vm, 1, 0, STUB_GPA, SIZE_4K, mem);
		vcpu_arch_set_entry_point(harts[1], guest_start_and_start);
		TEST_ASSERT_OK(set_mp_state(harts[1], KVM_MP_STATE_RUNNABLE));
		TEST_ASSERT_OK(set_mp_state(harts[2], KVM_MP_STATE_STOPPED));
		over = false;
		for (i = 1; i < 3; i++)
			pthread_create(&threads[i], NULL, until_over, harts[i]);
		vcpu_run(harts[0]);
		TEST_ASSERT_KVM_EXIT_REASON(harts[0], KVM_EXIT_SYSTEM_EVENT);
		/* Time for one that is under way. */
		usleep(2000);
		WRITE_ONCE(over, true);
		for (i = 1; i < 3; i++) {
			harts[i]->run->immediate_exit = 1;
			pthread_kill(threads[i], SIGUSR1);
			pthread_join(threads[i], NULL);
		}
		for (i = 0; i < 3; i++)
			TEST_ASSERT(get_mp_state(harts[i]) == KVM_MP_STATE_STOPPED,
				    "round %d: hart %d is not stopped", round, i);
		kvm_vm_free(vm);
	}
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
