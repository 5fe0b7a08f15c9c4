/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Single instructions, run by the guest's user or its supervisor, and the traps
 * that they make.
 */
#ifndef SELFTEST_KVM_RS_PRIV_H
#define SELFTEST_KVM_RS_PRIV_H

#include "kvm_rs_util.h"

#define USER_GVA	TEST_GVA		/* for the guest's user */
#define ALIAS_GVA	(TEST_GVA + SIZE_2M)	/* the same page, for its supervisor */

#define CSRRW(csr)	((u32)(csr) << 20 | 1 << 12 | 10 << 7 | 0x73)	/* csrrw a0, csr, x0 */
#define CSRR(csr)	((u32)(csr) << 20 | 2 << 12 | 10 << 7 | 0x73)	/* csrr a0, csr */
#define ECALL		0x00000073
#define RET		0x00008067

/* In the guest: where its supervisor goes on, and what its user left in a0. */
static unsigned long back __maybe_unused, user_a0 __maybe_unused;

/* The user's ecall. */
static __maybe_unused void user_done(struct pt_regs *regs)
{
	user_a0 = regs->a0;
	regs->epc = back;
	regs->status |= SR_SPP;
}

/* Runs @insn as the guest's user would; GUEST_CATCH() tells of its trap. */
static __maybe_unused u64 user_insn(u64 insn)
{
	u32 *code = (u32 *)ALIAS_GVA;

	code[0] = insn;
	code[1] = ECALL;
	asm volatile("fence.i\n"
		     "la t0, 1f\n"
		     "sd t0, %[back]\n"
		     "csrw sepc, %[user]\n"
		     "li t0, %[spp]\n"
		     "csrc sstatus, t0\n"
		     "li a0, 0\n"
		     "sret\n"
		     "1:"
		     : [back] "=m"(back) : [user] "r"(USER_GVA), [spp] "i"(SR_SPP | SR_SPIE)
		     : "memory", "ra", "t0", "t1", "t2", "t3", "t4", "t5", "t6", "a0", "a1", "a2",
		       "a3", "a4", "a5", "a6", "a7");
	return user_a0;
}

/* The same for its supervisor. */
static __maybe_unused u64 super_insn(u64 insn)
{
	u32 *code = (u32 *)ALIAS_GVA;

	code[0] = insn;
	code[1] = RET;
	asm volatile("fence.i" : : : "memory");
	return ((u64 (*)(u64))code)(0);
}

static __maybe_unused u64 set_scounteren(u64 val)
{
	csr_write(CSR_SCOUNTEREN, val);
	return 0;
}

/* A vCPU for run_insn(). */
static __maybe_unused struct kvm_vcpu *priv_create(void)
{
	struct kvm_vcpu *vcpu = server_create();
	struct kvm_vm *vm = vcpu->vm;
	gpa_t gpa = addr_gva2gpa(vm, vm_alloc_page(vm));

	vm_install_exception_handler(vm, EXC_SYSCALL, user_done);
	virt_pg_map(vm, USER_GVA, gpa);
	*guest_pte(vm, USER_GVA) |= PGTBL_PTE_USER_MASK;
	virt_pg_map(vm, ALIAS_GVA, gpa);
	return vcpu;
}

/* Has the guest run @insn by @how; evaluates to its trap. */
static __maybe_unused u64 run_insn(struct kvm_vcpu *vcpu, u64 (*how)(u64), u32 insn, u64 *val)
{
	struct ucall uc;

	guest_ask(vcpu, GUEST_OP_EXEC, (u64)how, insn);
	TEST_ASSERT(!vcpu_run_limited(vcpu, DEFECT_MS), "instruction %08x does not end: %s", insn,
		    strerror(errno));
	TEST_ASSERT(vcpu->run->exit_reason != KVM_EXIT_RISCV_CSR,
		    "instruction %08x left for userspace: CSR 0x%lx", insn,
		    vcpu->run->riscv_csr.csr_num);
	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_SYNC, "instruction %08x: exit %d", insn,
		    vcpu->run->exit_reason);
	if (val)
		*val = uc.args[1];
	return uc.args[0];
}

static __maybe_unused void assert_illegal(struct kvm_vcpu *vcpu, u64 (*how)(u64), u32 insn,
					  const char *what)
{
	u64 cause = run_insn(vcpu, how, insn, NULL);

	TEST_ASSERT(cause == EXC_INST_ILLEGAL, "%s (%08x): cause %ld", what, insn, (long)cause);
}

#endif /* SELFTEST_KVM_RS_PRIV_H */
