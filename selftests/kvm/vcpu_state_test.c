// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: M12, M26, S3 */
/* covers: vcpu.rs vcpu/irq.rs arch/irq_bits.rs vcpu/mp_state.rs run/reset.rs
 * vcpu/request.rs vcpu/token.rs */
/*
 * What userspace and the guest do to a vCPU's interrupts, power and debug
 * state, and that restoring it restores what it does.
 */
#include "kvm_rs_util.h"

static void guest_idle(void)
{
	for (;;)
		GUEST_SYNC1(0);
}

static struct kvm_vcpu *idle_create(void)
{
	struct kvm_vcpu *vcpu;

	vm_create_with_one_vcpu(&vcpu, guest_idle);
	return vcpu;
}

static int set_mp_state(struct kvm_vcpu *vcpu, u32 state)
{
	struct kvm_mp_state mp = { .mp_state = state };

	return __vcpu_ioctl(vcpu, KVM_SET_MP_STATE, &mp);
}

static u32 get_mp_state(struct kvm_vcpu *vcpu)
{
	struct kvm_mp_state mp;

	vcpu_mp_state_get(vcpu, &mp);
	return mp.mp_state;
}

static void guest_wfi(void)
{
	csr_clear(CSR_SSTATUS, SR_SIE);
	asm volatile("wfi" : : : "memory");
	GUEST_SYNC1(csr_read(CSR_SIP));
	GUEST_DONE();
}

/* Waits in WFI with @sie enabled; asserts that pending @sip ends it. */
static void assert_wakes(struct kvm_vcpu *vcpu, u64 sip)
{
	struct ucall uc;

	TEST_ASSERT(!vcpu_run_limited(vcpu, DEFECT_MS), "WFI sleeps on with sip 0x%lx pending: %s",
		    (unsigned long)sip, strerror(errno));
	TEST_ASSERT_EQ(get_ucall(vcpu, &uc), UCALL_SYNC);
	TEST_ASSERT((uc.args[0] & sip) == sip, "the guest's sip is 0x%lx, not 0x%lx",
		    (unsigned long)uc.args[0], (unsigned long)sip);
}

/* A restored software interrupt is as good as one that was sent (differences-from-c M12). */
TEST(restored_ssip_ends_wfi)
{
	struct kvm_vcpu *vcpu;

	vm_create_with_one_vcpu(&vcpu, guest_wfi);
	vcpu_set_reg(vcpu, RISCV_GENERAL_CSR_REG(sie), IP_SSIP);
	vcpu_set_reg(vcpu, RISCV_GENERAL_CSR_REG(sip), IP_SSIP);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(sip)) & IP_SSIP, IP_SSIP);
	assert_wakes(vcpu, IP_SSIP);
	run_to_done(vcpu);
}

static int interrupt(struct kvm_vcpu *vcpu, u32 irq)
{
	struct kvm_interrupt intr = { .irq = irq };

	return __vcpu_ioctl(vcpu, KVM_INTERRUPT, &intr);
}

TEST(interrupt_ends_wfi)
{
	struct kvm_vcpu *vcpu;

	vm_create_with_one_vcpu(&vcpu, guest_wfi);
	vcpu_set_reg(vcpu, RISCV_GENERAL_CSR_REG(sie), IP_SEIP);
	TEST_ASSERT(vcpu_run_limited(vcpu, 100) == -1 && errno == EINTR,
		    "WFI ends with nothing pending");
	TEST_ASSERT_OK(interrupt(vcpu, KVM_INTERRUPT_SET));
	assert_wakes(vcpu, IP_SEIP);
	run_to_done(vcpu);
}

TEST(interrupt_shows_in_sip)
{
	struct kvm_vcpu *vcpu = idle_create();
	u64 sip = RISCV_GENERAL_CSR_REG(sip);

	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, sip) & IP_SEIP, 0);
	TEST_ASSERT_OK(interrupt(vcpu, KVM_INTERRUPT_SET));
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, sip) & IP_SEIP, IP_SEIP);
	run_to_sync(vcpu);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, sip) & IP_SEIP, IP_SEIP);
	TEST_ASSERT_OK(interrupt(vcpu, KVM_INTERRUPT_UNSET));
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, sip) & IP_SEIP, 0);
	run_to_sync(vcpu);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, sip) & IP_SEIP, 0);
}

/* differences-from-c M26 */
TEST(interrupt_values)
{
	static const u32 bad[] = { 0, 1, 9, 0x7fffffff, 0x80000000, -3U };
	struct kvm_vcpu *vcpu = idle_create();
	int i;

	TEST_ASSERT_OK(interrupt(vcpu, KVM_INTERRUPT_SET));
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		TEST_ASSERT_ERRNO(interrupt(vcpu, bad[i]), EINVAL);
		TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(sip)) & IP_SEIP, IP_SEIP);
	}
}

static int guest_debug(struct kvm_vcpu *vcpu, u32 control)
{
	struct kvm_guest_debug debug = { .control = control };

	return __vcpu_ioctl(vcpu, KVM_SET_GUEST_DEBUG, &debug);
}

TEST(guest_debug_on_and_off)
{
	struct kvm_vcpu *vcpu = idle_create();

	TEST_ASSERT_OK(guest_debug(vcpu, 0));
	TEST_ASSERT_OK(guest_debug(vcpu, KVM_GUESTDBG_ENABLE));
	TEST_ASSERT_OK(guest_debug(vcpu, KVM_GUESTDBG_ENABLE));
	TEST_ASSERT_OK(guest_debug(vcpu, 0));
}

/* What is not offered is not accepted (differences-from-c M26). */
TEST(guest_debug_flags)
{
	struct kvm_vcpu *vcpu = idle_create();
	int bit;

	/* All but KVM_GUESTDBG_ENABLE and KVM_GUESTDBG_SINGLESTEP. */
	for (bit = 2; bit < 32; bit++)
		TEST_ASSERT(guest_debug(vcpu, KVM_GUESTDBG_ENABLE | 1U << bit) == -1 &&
			    errno == EINVAL, "control bit %d is accepted", bit);
}

TEST(mp_state)
{
	struct kvm_vcpu *vcpus[2];
	struct kvm_vm *vm = vm_create_with_vcpus(2, guest_idle, vcpus);
	u32 state;

	TEST_ASSERT_EQ(get_mp_state(vcpus[0]), KVM_MP_STATE_RUNNABLE);
	/* Without the library's help only the first vCPU is on. */
	TEST_ASSERT_EQ(get_mp_state(__vm_vcpu_add(vm, 2)), KVM_MP_STATE_STOPPED);

	TEST_ASSERT_OK(set_mp_state(vcpus[1], KVM_MP_STATE_STOPPED));
	TEST_ASSERT_EQ(get_mp_state(vcpus[1]), KVM_MP_STATE_STOPPED);
	TEST_ASSERT(vcpu_run_limited(vcpus[1], 100) == -1 && errno == EINTR,
		    "a stopped vCPU runs");
	TEST_ASSERT_EQ(get_mp_state(vcpus[1]), KVM_MP_STATE_STOPPED);
	TEST_ASSERT_OK(set_mp_state(vcpus[1], KVM_MP_STATE_RUNNABLE));
	run_to_sync(vcpus[1]);

	for (state = 1; state < 10; state++)
		if (state != KVM_MP_STATE_STOPPED)
			TEST_ASSERT_ERRNO(set_mp_state(vcpus[0], state), EINVAL);
	TEST_ASSERT_ERRNO(set_mp_state(vcpus[0], ~0U), EINVAL);
	TEST_ASSERT_EQ(get_mp_state(vcpus[0]), KVM_MP_STATE_RUNNABLE);
}

/* With KVM_CAP_RISCV_MP_STATE_RESET, INIT_RECEIVED resets the vCPU. */
static void check_mp_state_reset(void)
{
	struct kvm_vcpu *vcpu = idle_create();

	TEST_ASSERT_ERRNO(set_mp_state(vcpu, KVM_MP_STATE_INIT_RECEIVED), EINVAL);
	vm_enable_cap(vcpu->vm, KVM_CAP_RISCV_MP_STATE_RESET, 0);
	run_to_sync(vcpu);
	vcpu_set_reg(vcpu, RISCV_GENERAL_CSR_REG(sscratch), 5);
	TEST_ASSERT_OK(interrupt(vcpu, KVM_INTERRUPT_SET));
	TEST_ASSERT_OK(set_mp_state(vcpu, KVM_MP_STATE_INIT_RECEIVED));
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(sscratch)), 0);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(satp)), 0);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(sip)), 0);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_CORE_REG(regs.sp)), 0);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_CORE_REG(mode)), KVM_RISCV_MODE_S);
	TEST_ASSERT_EQ(get_mp_state(vcpu), KVM_MP_STATE_RUNNABLE);
}

TEST(mp_state_reset)
{
	check_mp_state_reset();
}

/* differences-from-c M26 */
TEST(mp_state_reset_is_reported)
{
	struct kvm_vm *vm = vm_create_barebones();

	TEST_ASSERT(kvm_check_cap(KVM_CAP_RISCV_MP_STATE_RESET),
		    "KVM_CAP_RISCV_MP_STATE_RESET works and is not reported");
	TEST_ASSERT(vm_check_cap(vm, KVM_CAP_RISCV_MP_STATE_RESET),
		    "KVM_CAP_RISCV_MP_STATE_RESET works and is not reported");
}

#define OPAQUE	0x6f70617175650000UL

static void guest_second(void);

static void guest_first(void)
{
	struct sbiret ret = sbi_ecall(SBI_EXT_HSM, SBI_HSM_START, 1, (unsigned long)guest_second, OPAQUE,
				      0, 0, 0);

	GUEST_SYNC1(ret.error);
	GUEST_DONE();
}

static void guest_second(void)
{
	/* Never entered: the host moves the pc. */
	GUEST_FAIL("the second hart ran where it was started");
}

static void guest_report_a1(u64 a0, u64 a1)
{
	GUEST_SYNC1(a1);
}

/* Started by hart_start() and not run since: that is the state now (differences-from-c S3). */
TEST(started_hart_state)
{
	struct kvm_vcpu *vcpus[2];

	vm_create_with_vcpus(2, guest_first, vcpus);
	TEST_ASSERT_OK(set_mp_state(vcpus[1], KVM_MP_STATE_STOPPED));
	TEST_ASSERT_EQ(run_to_sync(vcpus[0]), 0);

	TEST_ASSERT_EQ(get_mp_state(vcpus[1]), KVM_MP_STATE_RUNNABLE);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpus[1], RISCV_CORE_REG(regs.pc)),
		       (unsigned long)guest_second);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpus[1], RISCV_CORE_REG(regs.a0)), 1);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpus[1], RISCV_CORE_REG(regs.a1)), OPAQUE);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpus[1], RISCV_GENERAL_CSR_REG(satp)), 0);
}

/* What userspace sets after the start is not undone by it (differences-from-c S3). */
TEST(set_after_start)
{
	struct kvm_vcpu *vcpus[2];
	u64 sp, gp, satp;
	struct ucall uc;

	vm_create_with_vcpus(2, guest_first, vcpus);
	sp = vcpu_get_reg(vcpus[1], RISCV_CORE_REG(regs.sp));
	gp = vcpu_get_reg(vcpus[1], RISCV_CORE_REG(regs.gp));
	satp = vcpu_get_reg(vcpus[1], RISCV_GENERAL_CSR_REG(satp));
	TEST_ASSERT_OK(set_mp_state(vcpus[1], KVM_MP_STATE_STOPPED));
	TEST_ASSERT_EQ(run_to_sync(vcpus[0]), 0);

	vcpu_set_reg(vcpus[1], RISCV_CORE_REG(regs.sp), sp);
	vcpu_set_reg(vcpus[1], RISCV_CORE_REG(regs.gp), gp);
	vcpu_set_reg(vcpus[1], RISCV_GENERAL_CSR_REG(satp), satp);
	vcpu_set_reg(vcpus[1], RISCV_CORE_REG(regs.pc), (unsigned long)guest_report_a1);
	vcpu_set_reg(vcpus[1], RISCV_CORE_REG(regs.a1), 4242);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpus[1], RISCV_CORE_REG(regs.a1)), 4242);

	/* A queued reset would send it to guest_second() with satp 0. */
	TEST_ASSERT(!vcpu_run_limited(vcpus[1], HANG_MS), "KVM_RUN: %s", strerror(errno));
	TEST_ASSERT_EQ(get_ucall(vcpus[1], &uc), UCALL_SYNC);
	TEST_ASSERT_EQ(uc.args[0], 4242);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpus[1], RISCV_GENERAL_CSR_REG(satp)), satp);
	run_to_done(vcpus[0]);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
