// SPDX-License-Identifier: GPL-2.0-only
/* on-c: pass */
/*
 * A hart that waits for an interrupt runs when it has one, also if the hart
 * that sends it has the CPU: that one does not keep it until the host's tick.
 */
#include <pthread.h>

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

TEST_HARNESS_MAIN
