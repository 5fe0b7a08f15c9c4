// SPDX-License-Identifier: GPL-2.0-only
/* on-c: fail: S17 */
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
 * (SBI 3.0, errors of sbi_system_reset); NOT_SUPPORTED is for neither.
 */
TEST(s17_reserved)
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

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
