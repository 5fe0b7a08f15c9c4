// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: M11 */
/* covers: isa/effective.rs vcpu/config.rs arch/cpufeature.rs arch/csr.rs */
/*
 * What the guest sees of an extension that userspace turned off: an illegal
 * instruction, and none of the host's registers.
 */
#include "kvm_rs_util.h"

static void set_ext(struct kvm_vcpu *vcpu, u64 id, u64 on)
{
	TEST_ASSERT_OK(__vcpu_set_reg(vcpu, RISCV_ISA_EXT_REG(id), on));
}

/* With the extension's bit of sstatus on, as a guest's kernel would. */
#define GUEST_TRY(insn) \
	GUEST_CATCH(asm volatile(".option push\n.option norvc\n" insn "\n.option pop" \
				 : : : "a0", "memory"))

static void guest_vector(void)
{
	unsigned long cause;

	csr_set(CSR_SSTATUS, SR_VS);
	/* vsetvli zero, zero, e64, m1, ta, ma: old values of vl do not matter */
	cause = GUEST_TRY(".insn r 0x57, 7, 0x06, x0, x0, x24");
	GUEST_SYNC1(cause);
	/* vmv.x.s a0, v0 */
	cause = GUEST_TRY(".insn 0x42002557");
	GUEST_SYNC1(cause);
	/* csrr a0, vlenb */
	cause = GUEST_TRY("csrr a0, 0xc22");
	GUEST_SYNC1(cause);
	GUEST_DONE();
}

/* The last of the writes counts: what was off before it leaves no trace. */
static void run_guest_vector(int before, int on)
{
	struct kvm_vcpu *vcpu;
	u64 want = on ? NO_TRAP : EXC_INST_ILLEGAL;
	struct kvm_vm *vm = vm_create_with_one_vcpu(&vcpu, guest_vector);

	vm_catch_guest_traps(vm);
	set_ext(vcpu, KVM_RISCV_ISA_EXT_V, before);
	set_ext(vcpu, KVM_RISCV_ISA_EXT_V, on);
	TEST_ASSERT_EQ(run_to_sync(vcpu), want);
	TEST_ASSERT_EQ(run_to_sync(vcpu), want);
	TEST_ASSERT_EQ(run_to_sync(vcpu), want);
	run_to_done(vcpu);
}

TEST(guest_vector_on)
{
	if (!host_has_isa("v"))
		SKIP(return, "the host lacks V");
	run_guest_vector(1, 1);
}

TEST(guest_vector_off_and_on)
{
	if (!host_has_isa("v"))
		SKIP(return, "the host lacks V");
	run_guest_vector(0, 1);
}

/*
 * Without V the guest must not see what the host left in the vector registers
 * (differences-from-c M11).
 */
TEST(guest_vector_off)
{
	if (!host_has_isa("v"))
		SKIP(return, "the host lacks V");
	run_guest_vector(1, 0);
}

static void guest_fp(void)
{
	csr_set(CSR_SSTATUS, SR_FS);
	GUEST_SYNC1(GUEST_TRY("fmv.x.w a0, fa0"));
	GUEST_SYNC1(GUEST_TRY("fmv.x.d a0, fa0"));
	GUEST_SYNC1(GUEST_TRY("csrr a0, fcsr"));
	GUEST_DONE();
}

TEST(guest_fp_off)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int on, i;

	if (!host_has_isa("f") || !host_has_isa("d"))
		SKIP(return, "the host lacks F or D");

	for (on = 0; on < 2; on++) {
		vm = vm_create_with_one_vcpu(&vcpu, guest_fp);
		vm_catch_guest_traps(vm);
		set_ext(vcpu, KVM_RISCV_ISA_EXT_D, on);
		set_ext(vcpu, KVM_RISCV_ISA_EXT_F, on);
		for (i = 0; i < 3; i++)
			TEST_ASSERT_EQ(run_to_sync(vcpu), on ? NO_TRAP : EXC_INST_ILLEGAL);
		run_to_done(vcpu);
		kvm_vm_free(vm);
	}
}

static u8 block[256] __aligned(256);

static void guest_cbo(void)
{
	GUEST_SYNC1(GUEST_CATCH(asm volatile(".insn i 0x0f, 2, x0, %0, 4" : : "r"(block)
					     : "memory")));
	GUEST_SYNC1(GUEST_CATCH(asm volatile(".insn i 0x0f, 2, x0, %0, 2" : : "r"(block)
					     : "memory")));
	GUEST_DONE();
}

/* cbo.zero and cbo.flush follow Zicboz and Zicbom. */
TEST(guest_cbo_off)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int on;

	if (!host_has_isa("zicboz") || !host_has_isa("zicbom"))
		SKIP(return, "the host lacks Zicboz or Zicbom");

	for (on = 0; on < 2; on++) {
		vm = vm_create_with_one_vcpu(&vcpu, guest_cbo);
		vm_catch_guest_traps(vm);
		set_ext(vcpu, KVM_RISCV_ISA_EXT_ZICBOZ, on);
		set_ext(vcpu, KVM_RISCV_ISA_EXT_ZICBOM, on);
		TEST_ASSERT_EQ(run_to_sync(vcpu), on ? NO_TRAP : EXC_INST_ILLEGAL);
		TEST_ASSERT_EQ(run_to_sync(vcpu), on ? NO_TRAP : EXC_INST_ILLEGAL);
		run_to_done(vcpu);
		kvm_vm_free(vm);
	}
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
