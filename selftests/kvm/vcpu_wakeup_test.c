// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: N55 */
/* covers: run/wait.rs run.rs vcpu/irq.rs */
/*
 * A hart that waits for an interrupt runs when it has one, also if the hart
 * that sends it has the CPU: that one does not keep it until the host's tick.
 */
#include <pthread.h>
#include <sys/sysinfo.h>

#include "kvm_rs_util.h"

#define NR_ROUNDS	200

static u64 answered;

/* What the sender does when it has sent. */
enum then {
	SPIN,
	EXIT,
};

/* Sends IPIs, each when the last was answered; the ticks of all. */
static u64 send(u64 first, enum then then)
{
	u64 begin = csr_read(CSR_TIME);

	for (u64 round = first; round < first + NR_ROUNDS; round++) {
		sbi_ecall(SBI_EXT_IPI, 0, 1 << 1, 0, 0, 0, 0, 0);
		if (then == EXIT)
			sbi_ecall(SBI_EXT_HSM, SBI_HSM_STATUS, 0, 0, 0, 0, 0, 0);
		while (READ_ONCE(answered) != round)
			barrier();
	}
	return csr_read(CSR_TIME) - begin;
}

static void sender(void)
{
	GUEST_SYNC1(send(1, EXIT));
	GUEST_SYNC1(send(1 + NR_ROUNDS, SPIN));
	GUEST_DONE();
}

static void receiver(void)
{
	csr_write(CSR_SIE, IP_SSIP);
	for (u64 round = 1; round <= 2 * NR_ROUNDS; round++) {
		while (!(csr_read(CSR_SIP) & IP_SSIP))
			asm volatile("wfi" : : : "memory");
		csr_clear(CSR_SIP, IP_SSIP);
		WRITE_ONCE(answered, round);
	}
	GUEST_DONE();
}

static void *run_receiver(void *vcpu)
{
	pin_self_to_cpu(0);
	run_to_done(vcpu);
	return NULL;
}

TEST(sender_on_the_same_cpu)
{
	struct kvm_mp_state runs = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvm_vcpu *vcpus[2];
	struct kvm_vm *vm = vm_create_with_vcpus(2, sender, vcpus);
	struct sched_param fifo = { .sched_priority = 1 };
	pthread_t thread;
	u64 ms, exiting, spinning;

	vcpu_arch_set_entry_point(vcpus[1], receiver);
	vcpu_mp_state_set(vcpus[1], &runs);
	pthread_create(&thread, NULL, run_receiver, vcpus[1]);
	/* So that it is not for the scheduler to choose. */
	TEST_ASSERT(!pthread_setschedparam(thread, SCHED_FIFO, &fifo), "SCHED_FIFO");
	pin_self_to_cpu(0);
	ms = vcpu_get_reg(vcpus[0], RISCV_TIMER_REG(frequency)) / 1000;
	exiting = run_to_sync(vcpus[0]) / ms;
	spinning = run_to_sync(vcpus[0]) / ms;
	run_to_done(vcpus[0]);
	pthread_join(thread, NULL);
	/* To wait for ticks takes several ms each time. */
	TEST_ASSERT(spinning < 3 * exiting + NR_ROUNDS, "%d rounds: %lu ms, %lu with an exit",
		    NR_ROUNDS, (unsigned long)spinning, (unsigned long)exiting);
	kvm_vm_free(vm);
}

#define TRACING	"/sys/kernel/tracing/"

static void trace_write(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY | O_TRUNC);

	TEST_ASSERT(fd >= 0 && write(fd, text, strlen(text)) == strlen(text), "cannot write %s", file);
	close(fd);
}

/* How often CPU 1 went idle in half a second. */
static u64 idle_entries(void)
{
	char line[128];
	u64 n = 0, value;
	FILE *f;
	int i;

	trace_write(TRACING "trace", "");
	trace_write(TRACING "events/power/cpu_idle/enable", "1");
	usleep(500000);
	trace_write(TRACING "events/power/cpu_idle/enable", "0");
	/* What is still there, and what was overwritten. */
	f = fopen(TRACING "per_cpu/cpu1/stats", "r");
	TEST_ASSERT(f, "no stats");
	for (i = 0; i < 2 && fgets(line, sizeof(line), f); i++)
		if (sscanf(line, "%*[^:]: %lu", &value) == 1)
			n += value;
	fclose(f);
	return n / 2;
}

static void guest_exit_and_exit(void)
{
	/* SSIP is enabled, not taken. */
	csr_clear(CSR_SSTATUS, SR_SIE);
	csr_write(CSR_SIE, IP_SSIP);
	GUEST_SYNC1(0);
	csr_set(CSR_SIP, IP_SSIP);
	GUEST_SYNC1(1);
	GUEST_ASSERT_EQ(csr_read(CSR_SIE), IP_SSIP);
	GUEST_ASSERT_EQ(csr_read(CSR_SIP) & IP_SSIP, IP_SSIP);
	GUEST_DONE();
}

/*
 * F3: what a vCPU has pending and enabled stays in the CPU when it leaves; WFI
 * of the idle host then returns at once, for ever (differences-from-c N55).
 */
TEST(a_vcpu_that_left_lets_its_cpu_sleep)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 before, after;

	if (access(TRACING "events/power/cpu_idle/enable", W_OK))
		SKIP(return, "no tracing");
	if (get_nprocs() < 2)
		SKIP(return, "one CPU");
	vm = vm_create_with_one_vcpu(&vcpu, guest_exit_and_exit);
	pin_self_to_cpu(1);
	TEST_ASSERT_EQ(run_to_sync(vcpu), 0);
	pin_self_to_cpu(0);
	before = idle_entries();
	pin_self_to_cpu(1);
	TEST_ASSERT_EQ(run_to_sync(vcpu), 1);
	pin_self_to_cpu(0);
	after = idle_entries();
	TEST_ASSERT(after < 10 * before + 2000, "the CPU went idle %lu times, %lu with nothing pending",
		    (unsigned long)after, (unsigned long)before);
	/* The guest finds all as it was. */
	pin_self_to_cpu(1);
	run_to_done(vcpu);
	kvm_vm_free(vm);
}

TEST_HARNESS_MAIN
