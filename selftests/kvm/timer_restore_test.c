// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: N16 */
/* also-on: no-sstc: fail: N16 */
/* covers: vcpu/timer.rs vcpu/hrtimer.rs vm.rs */
/*
 * A timer that is restored register by register, while time goes on: whatever
 * the order, and however long it takes, its interrupt comes once, and not
 * before the deadline. Most of this is about hosts where KVM itself watches the
 * deadline, for want of Sstc: C fails one or the other of the subtests on either.
 * There, too, a deadline may come when its vCPU is no more.
 */
#include "kvm_rs_util.h"

static u64 fired, early;

static void guest_timer(struct pt_regs *regs)
{
	GUEST_ASSERT_EQ(regs->cause & ~CAUSE_IRQ_FLAG, 5);
	sbi_ecall(SBI_EXT_TIME, 0, ~0UL, 0, 0, 0, 0, 0);
	/* One that never goes away is enough. */
	if (++fired > 100)
		regs->status &= ~SR_SPIE;
}

/*
 * Takes timer interrupts for a while after the first, which may be late by much
 * where the host is busy; tells how many came, and how many early.
 */
static u64 guest_watch(u64 deadline)
{
	u64 now, before, until = csr_read(CSR_TIME) + 60000000;

	fired = early = 0;
	csr_set(CSR_SIE, IP_STIP);
	do {
		before = csr_read(CSR_TIME);
		csr_set(CSR_SSTATUS, SR_SIE);
		csr_clear(CSR_SSTATUS, SR_SIE);
		now = csr_read(CSR_TIME);
		if (READ_ONCE(fired) && now < deadline)
			early = fired;
		if (READ_ONCE(fired) == 1 && now + 20000 < until)
			until = now + 20000;
	} while (now < until && before <= now && fired < 100);
	return early << 32 | fired;
}

FIXTURE(timer)
{
	struct kvm_vcpu *vcpu;
};

FIXTURE_SETUP(timer)
{
	struct kvm_vm *vm;

	self->vcpu = server_create();
	vm = self->vcpu->vm;
	vm_install_interrupt_handler(vm, guest_timer);
}

FIXTURE_TEARDOWN(timer)
{
	kvm_vm_free(self->vcpu->vm);
}

static u64 now(struct kvm_vcpu *vcpu)
{
	return vcpu_get_reg(vcpu, RISCV_TIMER_REG(time));
}

static u64 ms(struct kvm_vcpu *vcpu, u64 n)
{
	return vcpu_get_reg(vcpu, RISCV_TIMER_REG(frequency)) / 1000 * n;
}

static void assert_fires_once(struct kvm_vcpu *vcpu, u64 deadline)
{
	u64 trap, val;

	guest_ask(vcpu, GUEST_OP_EXEC, (u64)guest_watch, deadline);
	trap = guest_answer(vcpu, &val);
	TEST_ASSERT_EQ(trap, NO_TRAP);
	TEST_ASSERT(!(val >> 32), "%lu interrupts before the deadline", (unsigned long)val >> 32);
	TEST_ASSERT(val == 1, "%lu interrupts", (unsigned long)val);
}

/* The deadline passes after it was restored, before what is pending is (differences-from-c N16). */
TEST_F(timer, passes_before_sip)
{
	u64 deadline = now(self->vcpu) + ms(self->vcpu, 5);

	vcpu_set_reg(self->vcpu, RISCV_TIMER_REG(state), KVM_RISCV_TIMER_STATE_ON);
	vcpu_set_reg(self->vcpu, RISCV_TIMER_REG(compare), deadline);
	vcpu_set_reg(self->vcpu, RISCV_TIMER_REG(state), KVM_RISCV_TIMER_STATE_ON);
	usleep(30000);
	vcpu_set_reg(self->vcpu, RISCV_GENERAL_CSR_REG(sip), 0);
	assert_fires_once(self->vcpu, deadline);
}

/*
 * This VM is older than the guest that it gets: the deadline looks passed until time is set
 * (differences-from-c N16).
 */
TEST_F(timer, compare_before_time)
{
	u64 then = now(self->vcpu), deadline = then + ms(self->vcpu, 40);

	usleep(60000);
	vcpu_set_reg(self->vcpu, RISCV_TIMER_REG(state), KVM_RISCV_TIMER_STATE_ON);
	vcpu_set_reg(self->vcpu, RISCV_TIMER_REG(compare), deadline);
	usleep(1000);
	vcpu_set_reg(self->vcpu, RISCV_TIMER_REG(time), then);
	assert_fires_once(self->vcpu, deadline);
}

/* The same, for what the other one had pending in truth (differences-from-c N16). */
TEST_F(timer, pending_and_compare_before_time)
{
	u64 then = now(self->vcpu), deadline = then - 1;

	vcpu_set_reg(self->vcpu, RISCV_TIMER_REG(state), KVM_RISCV_TIMER_STATE_ON);
	vcpu_set_reg(self->vcpu, RISCV_TIMER_REG(compare), deadline);
	usleep(1000);
	vcpu_set_reg(self->vcpu, RISCV_TIMER_REG(time), then);
	vcpu_set_reg(self->vcpu, RISCV_GENERAL_CSR_REG(sip), IP_STIP);
	assert_fires_once(self->vcpu, deadline);
}

/* And the other way about: time leaps over the deadline (differences-from-c N16). */
TEST_F(timer, time_passes_compare)
{
	u64 deadline = now(self->vcpu) + ms(self->vcpu, 100000);

	vcpu_set_reg(self->vcpu, RISCV_TIMER_REG(compare), deadline);
	vcpu_set_reg(self->vcpu, RISCV_TIMER_REG(state), KVM_RISCV_TIMER_STATE_ON);
	vcpu_set_reg(self->vcpu, RISCV_TIMER_REG(time), deadline + 1);
	assert_fires_once(self->vcpu, deadline);
}

/* A deadline that comes while its vCPU goes is nobody's. */
TEST(deadline_after_the_end)
{
	int kmsg = kmsg_open();

	for (int i = 0; i < 40; i++) {
		struct kvm_vcpu *vcpu = server_create();

		vcpu_set_reg(vcpu, RISCV_TIMER_REG(compare), now(vcpu) + ms(vcpu, i) / 10);
		vcpu_set_reg(vcpu, RISCV_TIMER_REG(state), KVM_RISCV_TIMER_STATE_ON);
		kvm_vm_free(vcpu->vm);
	}
	usleep(10000);
	kmsg_assert_quiet(kmsg);
}

TEST_HARNESS_MAIN
