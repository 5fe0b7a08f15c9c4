// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: M13, M14 */
/* covers: insn.rs insn/csr.rs insn/system.rs insn/encoding.rs run/exit.rs
 * aia/imsic/csr.rs vcpu/trap.rs */
/*
 * What the guest's user and supervisor may do: instructions that trap to KVM
 * are emulated for those whom the architecture allows them, and illegal for
 * all others.
 */
#include "kvm_rs_aia.h"
#include "kvm_rs_priv.h"

#define MMIO_GVA	(TEST_GVA + SIZE_1G)
#define MMIO_GPA	0x7700000000UL

#define WFI		0x10500073
#define SRET		0x10200073
#define SFENCE_VMA	0x12000073
#define HFENCE_GVMA	0x62000073
#define HFENCE_VVMA	0x22000073
#define HLV_D		0x6c054573	/* hlv.d a0, (a0) */

#define CSR_SEED_NR	0x015

static struct kvm_vcpu *create(void)
{
	struct kvm_vcpu *vcpu = priv_create();

	virt_pg_map(vcpu->vm, MMIO_GVA, MMIO_GPA);
	return vcpu;
}

/* Starts a counter of cycles; returns its CSR, 0 if there is none to be had. */
static u64 start_cycles(u64 unused)
{
	union sbi_pmu_ctr_info info;
	struct sbiret ret;

	ret = sbi_ecall(SBI_EXT_PMU, SBI_EXT_PMU_NUM_COUNTERS, 0, 0, 0, 0, 0, 0);
	if (ret.error || !ret.value)
		return 0;
	ret = sbi_ecall(SBI_EXT_PMU, SBI_EXT_PMU_COUNTER_CFG_MATCH, 0, ~0UL >> (64 - ret.value),
			SBI_PMU_CFG_FLAG_AUTO_START, SBI_PMU_HW_CPU_CYCLES, 0, 0);
	if (ret.error)
		return 0;
	ret = sbi_ecall(SBI_EXT_PMU, SBI_EXT_PMU_COUNTER_GET_INFO, ret.value, 0, 0, 0, 0, 0);
	info.value = ret.value;
	return ret.error || info.type ? 0 : info.csr;
}

/* A user has no interrupts to claim, and no file to look into (differences-from-c M13). */
TEST(interrupt_file_of_user)
{
	struct kvm_vcpu *vcpu;
	int fd;

	if (!aia_is_there())
		SKIP(return, "no in-kernel irqchip");
	vcpu = create();
	fd = aia_create(vcpu->vm, KVM_DEV_RISCV_AIA_MODE_EMUL, 0);
	TEST_ASSERT_EQ(run_insn(vcpu, super_insn, CSRR(CSR_STOPEI_NR), NULL), NO_TRAP);
	assert_illegal(vcpu, user_insn, CSRR(CSR_STOPEI_NR), "stopei");
	assert_illegal(vcpu, user_insn, CSRRW(CSR_STOPEI_NR), "a claim");
	assert_illegal(vcpu, user_insn, CSRR(CSR_SIREG_NR), "sireg");
	assert_illegal(vcpu, user_insn, CSRRW(CSR_SIREG_NR), "sireg, written");
	close(fd);
}

/* With the counter's bit of scounteren off a user has no counter (differences-from-c M13). */
TEST(counter_of_user)
{
	struct kvm_vcpu *vcpu = create();
	u64 csr;

	run_insn(vcpu, start_cycles, 0, &csr);
	/* Without the means to count, rdcycle may still be there and read 0. */
	if (!csr)
		csr = CSR_CYCLE;
	TH_LOG("counter 0x%lx", (unsigned long)csr);
	if (run_insn(vcpu, super_insn, CSRR(csr), NULL) != NO_TRAP)
		SKIP(return, "the supervisor has no counter either");
	run_insn(vcpu, set_scounteren, 0, NULL);
	assert_illegal(vcpu, user_insn, CSRR(csr), "a running counter");
	assert_illegal(vcpu, user_insn, CSRR(CSR_CYCLE), "rdcycle");
	assert_illegal(vcpu, user_insn, CSRR(CSR_INSTRET), "rdinstret");
	assert_illegal(vcpu, user_insn, CSRR(CSR_HPMCOUNTER3), "hpmcounter3");
}

TEST(time_of_user)
{
	struct kvm_vcpu *vcpu = create();

	run_insn(vcpu, set_scounteren, 0, NULL);
	assert_illegal(vcpu, user_insn, CSRR(CSR_TIME), "rdtime");
}

TEST(time_with_scounteren)
{
	struct kvm_vcpu *vcpu = create();
	u64 t0, t1;

	run_insn(vcpu, set_scounteren, 7, NULL);
	TEST_ASSERT_EQ(run_insn(vcpu, user_insn, CSRR(CSR_TIME), &t0), NO_TRAP);
	TEST_ASSERT_EQ(run_insn(vcpu, user_insn, CSRR(CSR_TIME), &t1), NO_TRAP);
	TEST_ASSERT(t1 > t0, "time stands still");
	TEST_ASSERT_EQ(run_insn(vcpu, super_insn, CSRR(CSR_TIME), &t0), NO_TRAP);
	TEST_ASSERT(t0 > t1, "supervisor and user have different times");
}

/* A user has what the supervisor has, if that lets him. */
TEST(counters_with_scounteren)
{
	struct kvm_vcpu *vcpu = create();
	u64 super, user;

	run_insn(vcpu, set_scounteren, ~0U, NULL);
	super = run_insn(vcpu, super_insn, CSRR(CSR_CYCLE), NULL);
	user = run_insn(vcpu, user_insn, CSRR(CSR_CYCLE), NULL);
	TEST_ASSERT(super == user, "supervisor's cause %ld, user's %ld", (long)super, (long)user);
}

/* Supervisor CSRs are none of a user's, emulated or not. */
TEST(supervisor_csrs_of_user)
{
	static const u32 csrs[] = {
		CSR_SSTATUS, CSR_SIE, CSR_STVEC, CSR_SCOUNTEREN, CSR_SSCRATCH, CSR_SEPC, CSR_SCAUSE,
		CSR_STVAL, CSR_SIP, CSR_SATP, CSR_STIMECMP,
	};
	struct kvm_vcpu *vcpu = create();
	int i;

	for (i = 0; i < ARRAY_SIZE(csrs); i++) {
		assert_illegal(vcpu, user_insn, CSRR(csrs[i]), "csrr");
		assert_illegal(vcpu, user_insn, CSRRW(csrs[i]), "csrrw");
	}
	assert_illegal(vcpu, user_insn, SRET, "sret");
	assert_illegal(vcpu, user_insn, SFENCE_VMA, "sfence.vma");
}

/* Nor are those of the interrupt controller (differences-from-c M13). */
TEST(aia_csrs_of_user)
{
	static const u32 csrs[] = { CSR_SIREG, CSR_STOPEI, CSR_SISELECT, CSR_STOPI };
	struct kvm_vcpu *vcpu = create();
	int i;

	if (!host_has_isa("ssaia"))
		SKIP(return, "the host lacks Ssaia");
	for (i = 0; i < ARRAY_SIZE(csrs); i++) {
		assert_illegal(vcpu, user_insn, CSRR(csrs[i]), "csrr");
		assert_illegal(vcpu, user_insn, CSRRW(csrs[i]), "csrrw");
	}
}

/*
 * A user's WFI is illegal, or ends at once where the CPU itself so has it; it
 * does not put the hart to sleep (differences-from-c M13).
 */
TEST(wfi_of_user)
{
	struct kvm_vcpu *vcpu = create();
	u64 cause = run_insn(vcpu, user_insn, WFI, NULL);

	TEST_ASSERT(cause == EXC_INST_ILLEGAL || cause == NO_TRAP, "cause %ld", (long)cause);
}

/* There is no hypervisor in the guest, nor a machine mode. */
TEST(hypervisor_is_illegal)
{
	static const u32 csrs[] = {
		CSR_HSTATUS, CSR_HEDELEG, CSR_HIDELEG, CSR_HIE, CSR_HTVAL, CSR_HVIP, CSR_HGATP,
		CSR_HTIMEDELTA, CSR_HENVCFG, CSR_VSSTATUS, CSR_VSIE, CSR_VSTVEC, CSR_VSATP,
		CSR_HGEIP, 0x300 /* mstatus */, 0x305 /* mtvec */, 0xf11 /* mvendorid */,
		0x5c0, 0x7c0, 0xfff,
	};
	static const u32 insns[] = { HFENCE_GVMA, HFENCE_VVMA, HLV_D };
	struct kvm_vcpu *vcpu = create();
	int i;

	for (i = 0; i < ARRAY_SIZE(csrs); i++) {
		assert_illegal(vcpu, super_insn, CSRR(csrs[i]), "csrr");
		assert_illegal(vcpu, super_insn, CSRRW(csrs[i]), "csrrw");
		assert_illegal(vcpu, user_insn, CSRR(csrs[i]), "csrr by the user");
	}
	for (i = 0; i < ARRAY_SIZE(insns); i++) {
		assert_illegal(vcpu, super_insn, insns[i], "hypervisor instruction");
		assert_illegal(vcpu, user_insn, insns[i], "hypervisor instruction by the user");
	}
}

/* A counter cannot be written. */
TEST(counters_are_read_only)
{
	struct kvm_vcpu *vcpu = create();

	run_insn(vcpu, set_scounteren, ~0U, NULL);
	assert_illegal(vcpu, super_insn, CSRRW(CSR_CYCLE), "csrrw cycle");
	assert_illegal(vcpu, super_insn, CSRRW(CSR_TIME), "csrrw time");
	assert_illegal(vcpu, user_insn, CSRRW(CSR_CYCLE), "csrrw cycle by the user");
}

/* Runs into the exit that an access to the seed CSR makes. */
static void assert_seed_exit(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_RISCV_CSR);
	TEST_ASSERT_EQ(run->riscv_csr.csr_num, CSR_SEED_NR);
	TEST_ASSERT(run->riscv_csr.new_value == 0, "x0 is 0x%lx", run->riscv_csr.new_value);
	TEST_ASSERT_EQ(run->riscv_csr.write_mask, ~0UL);
}

/* The entropy source is userspace's. */
TEST(seed)
{
	struct kvm_vcpu *vcpu = create();
	u64 val;

	if (!host_has_isa("zkr"))
		SKIP(return, "the host lacks Zkr");
	guest_ask(vcpu, GUEST_OP_EXEC, (u64)super_insn, CSRRW(CSR_SEED_NR));
	assert_seed_exit(vcpu);
	vcpu->run->riscv_csr.ret_value = 0x8000beef;
	TEST_ASSERT_EQ(guest_answer(vcpu, &val), NO_TRAP);
	TEST_ASSERT_EQ(val, 0x8000beef);
}

static u64 load_x0_then_seed(u64 addr)
{
	u64 val;

	asm volatile("lw x0, 0(%1)\n.insn i 0x73, 1, %0, x0, 0x015"
		     : "=r"(val) : "r"(addr) : "memory");
	return val;
}

/* What an MMIO load into x0 read is not what x0 then holds (differences-from-c M14). */
TEST(seed_after_load_into_x0)
{
	struct kvm_vcpu *vcpu = create();

	if (!host_has_isa("zkr"))
		SKIP(return, "the host lacks Zkr");
	guest_ask(vcpu, GUEST_OP_EXEC, (u64)load_x0_then_seed, MMIO_GVA);
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
	memset(vcpu->run->mmio.data, 0x55, 8);
	assert_seed_exit(vcpu);
	vcpu->run->riscv_csr.ret_value = 1;
	guest_answer(vcpu, NULL);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
