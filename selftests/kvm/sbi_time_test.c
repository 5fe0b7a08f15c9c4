// SPDX-License-Identifier: GPL-2.0
/* on-c: pass */
/* also-on: no-sstc: pass */
/* covers: vcpu/timer.rs vcpu/hrtimer.rs kernel_ext/time.rs */
/*
 * SBI: the timer extension, where the timer is a register of the guest (Sstc)
 * and where it is not.
 */
#include "kvm_rs_sbi.h"

#define NR_FUNCTIONS	1

/* In the guest: ticks until the interrupt, and of the time in which it must have come. */
static u64 delay, patience;

static u64 guest_set_timer(u64 when)
{
	struct sbiret ret = guest_ecall(SBI_EXT_TIME, 0, (u64[6]){ when });

	GUEST_ASSERT_EQ(ret.error, 0L);
	GUEST_ASSERT_EQ(ret.value, 0L);
	return when;
}

static u64 guest_time(void)
{
	return csr_read(CSR_TIME);
}

static bool guest_timer_pending(void)
{
	return csr_read(CSR_SIP) & IP_STIP;
}

/* A deadline that passed may be some while in showing: without Sstc, the host's timer says it. */
static void guest_wait_for_timer(u64 deadline)
{
	u64 limit = guest_time() + patience;
	bool late;

	for (;;) {
		late = guest_time() > limit;
		if (guest_timer_pending())
			break;
		GUEST_ASSERT(!late);
	}
	GUEST_ASSERT(guest_time() >= deadline);
}

static void guest_timer(void)
{
	u64 i;

	csr_clear(CSR_SIE, ~0UL);
	GUEST_ASSERT(!guest_timer_pending());

	/* The past, with all of the time's bits; then never, which clears. */
	for (i = 0; i < 3; i++) {
		guest_wait_for_timer(guest_set_timer(i ? guest_time() - i : 0));
		guest_set_timer(~0UL);
		GUEST_ASSERT(!guest_timer_pending());
	}

	/* Not before its time; a new time replaces the old one and clears, too. */
	for (i = 0; i < 3; i++)
		guest_wait_for_timer(guest_set_timer(guest_time() + delay));
	guest_set_timer(guest_time() + 10 * patience);
	GUEST_ASSERT(!guest_timer_pending());
	guest_wait_for_timer(guest_set_timer(guest_time() + delay));

	/* 64 bits of it count. */
	guest_set_timer(guest_time() + (1UL << 32));
	GUEST_ASSERT(!guest_timer_pending());
	guest_set_timer(guest_time() | 1UL << 63);
	GUEST_ASSERT(!guest_timer_pending());

	/* It ends a WFI. */
	csr_set(CSR_SIE, IP_STIP);
	for (i = 0; i < 3; i++) {
		u64 deadline = guest_set_timer(guest_time() + delay);

		while (!guest_timer_pending())
			asm volatile("wfi");
		GUEST_ASSERT(guest_time() >= deadline);
	}
	guest_set_timer(~0UL);
	GUEST_DONE();
}

static void check_timer(struct kvm_vcpu *vcpu)
{
	u64 frequency = vcpu_get_reg(vcpu, RISCV_TIMER_REG(frequency));

	write_guest_global(vm, delay, frequency / 500);
	write_guest_global(vm, patience, frequency * HANG_MS / 1000);
	run_to_done(vcpu);
}

static struct kvm_vcpu *timer_vcpu(void)
{
	vm = vm_create_with_vcpus(1, guest_timer, vcpus);
	return vcpus[0];
}

TEST(timer)
{
	check_timer(timer_vcpu());
}

/* The guest's time is not the host's. */
TEST(timer_of_another_time)
{
	struct kvm_vcpu *vcpu = timer_vcpu();

	vcpu_set_reg(vcpu, RISCV_TIMER_REG(time), 1UL << 61);
	check_timer(vcpu);
}

/* Userspace sees what the guest set. */
TEST(deadline_as_register)
{
	struct kvm_vcpu *vcpu = caller_create();
	u64 when = now(vcpu) + (1UL << 40);
	u64 sip = 0;

	assert_sbi(0, vcpu, SBI_EXT_TIME, 0, when);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_TIMER_REG(compare)), when);
	assert_sbi(0, vcpu, SBI_EXT_TIME, 0, 0);
	TEST_ASSERT(eventually(!vcpu_sbi_sip(vcpu, SBI_EXT_BASE, 0, &sip).error && sip & IP_STIP),
		    "a deadline that passed interrupts nobody");
	TEST_ASSERT_EQ(pending(vcpus[1]) & IP_STIP, 0);
}

TEST(unknown_functions)
{
	struct kvm_vcpu *vcpu = caller_create();

	check_unknown_functions(vcpu, SBI_EXT_TIME, NR_FUNCTIONS);
	check_id_width(vcpu, SBI_EXT_TIME);
	/* None of them was a set_timer(0). */
	TEST_ASSERT_EQ(pending(vcpu) & IP_STIP, 0);
}

TEST(switched_off)
{
	check_switched_off(caller_create(), KVM_RISCV_SBI_EXT_TIME, SBI_EXT_TIME, NR_FUNCTIONS);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
