// SPDX-License-Identifier: GPL-2.0
/* on-c: pass */
/* also-on: svade: pass */
/* also-on: cfi: fail: N14 */
/* covers: sbi/fwft.rs sbi_abi/fwft.rs vcpu/config.rs */
/*
 * The calls of the SBI's firmware features, function by function and error by
 * error, what is left of a feature after a reset, and what a guest sees of it.
 * Where a feature cannot be had, the test of what it does is a skip.
 */
#include "kvm_rs_fwft.h"
#include "kvm_rs_priv.h"

#define FWFT_DOUBLE_TRAP	3

#define CSR_SENVCFG		0x10a
#define SENVCFG_LPE		(1UL << 2)
#define SR_SPELP		(1UL << 23)
#define CSR_SSP			0x011

#define PTE_A			(1UL << 6)
#define PTE_D			(1UL << 7)

TEST(unknown_functions)
{
	static const u64 unknown[] = { 2, 3, 0xffffffff, 1UL << 32, 1 | 1UL << 32, ~0UL };
	struct kvm_vcpu *vcpu = create();
	int i;

	for (i = 0; i < ARRAY_SIZE(unknown); i++) {
		assert_call(SBI_ERR_NOT_SUPPORTED, vcpu, unknown[i], 0);
		/* Not even about a reserved feature. */
		assert_call(SBI_ERR_NOT_SUPPORTED, vcpu, unknown[i], 6);
	}
}

/* Feature ids have 32 bits, whatever else is in the register. */
TEST(ids_are_32_bits)
{
	static const u64 high[] = { 0, 1UL << 32, 1UL << 63, 0xffffffffUL << 32 };
	static const u64 reserved[] = {
		6, 0x3fffffff, 0x40000000, 0x7fffffff,
		0x80000000, 0xbfffffff, 0xc0000000, 0xffffffff,
	};
	struct kvm_vcpu *vcpu = create();
	const struct feature *f;
	int i, j;

	for (i = 0; i < ARRAY_SIZE(high); i++) {
		for (j = 0; j < ARRAY_SIZE(reserved); j++) {
			assert_set(SBI_ERR_DENIED, vcpu, reserved[j] | high[i], 0, 0);
			/* Whatever is wrong with the rest. */
			assert_set(SBI_ERR_DENIED, vcpu, reserved[j] | high[i], 99, 2);
			assert_call(SBI_ERR_DENIED, vcpu, FWFT_GET, reserved[j] | high[i]);
		}
		assert_set(SBI_ERR_NOT_SUPPORTED, vcpu, FWFT_DOUBLE_TRAP | high[i], 1, 0);
		assert_call(SBI_ERR_NOT_SUPPORTED, vcpu, FWFT_GET, FWFT_DOUBLE_TRAP | high[i]);
		for_each_feature(f) {
			int want = has_feature(vcpu, f) ? 0 : SBI_ERR_NOT_SUPPORTED;

			assert_set(want, vcpu, f->id | high[i], 0, 0);
			assert_call(want, vcpu, FWFT_GET, f->id | high[i]);
		}
	}
}

TEST(set_and_get)
{
	static const u64 wrong[] = {
		2, 3, 8, 15, 17, 1UL << 32, 1 | 1UL << 32, 7 | 1UL << 32, ~0UL,
	};
	struct kvm_vcpu *vcpu = create();
	const struct feature *f;
	int i;

	for_each_feature(f) {
		if (!has_feature(vcpu, f)) {
			pr_info("# no %s here\n", f->name);
			assert_absent(vcpu, f->id);
			assert_set(SBI_ERR_NOT_SUPPORTED, vcpu, f->id, 99, 2);
			continue;
		}
		assert_get(0, vcpu, f->id);
		for (i = 0; i < f->nr_on; i++) {
			if (!has_value(vcpu, f, f->on[i])) {
				assert_set(SBI_ERR_INVALID_PARAM, vcpu, f->id, f->on[i], 0);
				continue;
			}
			assert_set(0, vcpu, f->id, f->on[i], 0);
			assert_get(f->on[i], vcpu, f->id);
			assert_regs(vcpu, f, 1, 0, f->on[i]);
		}
		assert_set(0, vcpu, f->id, first_value(vcpu, f), 0);
		for (i = 0; i < ARRAY_SIZE(wrong); i++)
			assert_set(SBI_ERR_INVALID_PARAM, vcpu, f->id, wrong[i], FWFT_LOCK);
		assert_set(SBI_ERR_INVALID_PARAM, vcpu, f->id, f == pmlen ? 1 : 7, 0);
		assert_regs(vcpu, f, 1, 0, first_value(vcpu, f));
	}
}

TEST(flags_and_lock)
{
	static const u64 reserved[] = { 2, 3, 1UL << 31, 1UL << 32, 1UL << 63 | FWFT_LOCK, ~0UL };
	struct kvm_vcpu *vcpu = create();
	const struct feature *f;
	u64 on;
	int i;

	for_each_supported(vcpu, f) {
		on = first_value(vcpu, f);
		for (i = 0; i < ARRAY_SIZE(reserved); i++)
			assert_set(SBI_ERR_INVALID_PARAM, vcpu, f->id, on, reserved[i]);
		assert_regs(vcpu, f, 1, 0, 0);
		/* A call that fails locks nothing. */
		assert_set(SBI_ERR_INVALID_PARAM, vcpu, f->id, 99, FWFT_LOCK);
		assert_regs(vcpu, f, 1, 0, 0);

		assert_set(0, vcpu, f->id, on, FWFT_LOCK);
		assert_regs(vcpu, f, 1, FWFT_LOCK, on);
		/* Not even to what it is. */
		assert_set(SBI_ERR_DENIED_LOCKED, vcpu, f->id, on, FWFT_LOCK);
		assert_set(SBI_ERR_DENIED_LOCKED, vcpu, f->id, 0, 0);
		assert_set(SBI_ERR_DENIED_LOCKED, vcpu, f->id, 99, 0);
		/* Reserved flags come first. */
		assert_set(SBI_ERR_INVALID_PARAM, vcpu, f->id, on, 2);
		assert_get(on, vcpu, f->id);
	}
}

/* Whether a reset takes the register away and a guest needs it to go on. */
static bool is_hart_state(u64 id)
{
	u64 type = id & KVM_REG_RISCV_TYPE_MASK;

	return type == KVM_REG_RISCV_CORE || type == KVM_REG_RISCV_CSR;
}

/* What a reset makes of feature @f; the guest goes on. */
static void assert_reset(struct kvm_vcpu *vcpu, const struct feature *f, u64 enable)
{
	struct kvm_mp_state init = { .mp_state = KVM_MP_STATE_INIT_RECEIVED };
	struct kvm_reg_list *list = vcpu_get_reg_list(vcpu);
	u64 val[list->n], i;

	for (i = 0; i < list->n; i++)
		if (is_hart_state(list->reg[i]))
			val[i] = vcpu_get_reg(vcpu, list->reg[i]);
	vcpu_mp_state_set(vcpu, &init);
	assert_regs(vcpu, f, enable, 0, 0);
	for (i = 0; i < list->n; i++)
		if (is_hart_state(list->reg[i]))
			vcpu_set_reg(vcpu, list->reg[i], val[i]);
	free(list);
}

TEST(reset_clears)
{
	struct kvm_vcpu *vcpu = create();
	const struct feature *f;
	u64 on;

	vm_enable_cap(vcpu->vm, KVM_CAP_RISCV_MP_STATE_RESET, 0);
	for_each_supported(vcpu, f) {
		on = first_value(vcpu, f);
		assert_set(0, vcpu, f->id, on, FWFT_LOCK);
		assert_reset(vcpu, f, 1);
		assert_get(0, vcpu, f->id);
		assert_set(0, vcpu, f->id, on, 0);

		/* What userspace withholds stays withheld. */
		vcpu_set_reg(vcpu, FEATURE_REG(f, enable), 0);
		assert_reset(vcpu, f, 0);
		assert_absent(vcpu, f->id);
	}
}

/* A hart that is started begins anew. */
TEST(hart_start_clears)
{
	static const u32 code[] = {
		0x46574537,	/* lui a0, 0x46574 */
		0x65450893,	/* addi a7, a0, 0x654: FWFT */
		0x00100813,	/* li a6, 1: get */
		0x00500513,	/* li a0, 5: pointer masking */
		0x00000073,	/* ecall */
		0x090008b7,	/* lui a7, 0x9000: a vendor's extension, for userspace */
		0x00000073,	/* ecall */
		0x0000006f,	/* j . */
	};
	const u64 gpa = 0xc0000000;
	struct kvm_vcpu *vcpu = create(), *other;
	struct kvm_run *run;
	void *mem;

	if (!has_feature(vcpu, pmlen))
		SKIP(return, "the CPU cannot mask pointers (no Ssnpm)");

	mem = mmap_at(SIZE_4K, SIZE_4K, 0, MAP_ANON_PRIVATE, -1);
	memcpy(mem, code, sizeof(code));
	vm_set_user_memory_region(vcpu->vm, 1, 0, gpa, SIZE_4K, mem);
	other = __vm_vcpu_add(vcpu->vm, 1);
	run = other->run;
	vcpu_set_reg(other, FEATURE_REG(pmlen, value), first_value(other, pmlen));
	vcpu_set_reg(other, FEATURE_REG(pmlen, flags), FWFT_LOCK);
	TEST_ASSERT_EQ(ask(vcpu, .ext = SBI_EXT_HSM, .fid = SBI_HSM_START,
			   .arg = { 1, gpa, 0 }).error, 0);
	vcpu_run(other);
	TEST_ASSERT_KVM_EXIT_REASON(other, KVM_EXIT_RISCV_SBI);
	TEST_ASSERT_EQ(run->riscv_sbi.extension_id, 0x09000000);
	TEST_ASSERT_EQ(run->riscv_sbi.args[0], 0);
	TEST_ASSERT_EQ(run->riscv_sbi.args[1], 0);
	assert_regs(other, pmlen, 1, 0, 0);
}

TEST(pointer_masking)
{
	struct kvm_vcpu *vcpu = create();
	u64 gva = load_gva(vcpu), bits, i;
	struct answer a;

	if (!has_feature(vcpu, pmlen))
		SKIP(return, "the CPU cannot mask pointers (no Ssnpm)");
	if (!machine_masks())
		SKIP(return, "this QEMU masks pointers of VS-mode as menvcfg says, not henvcfg");

	assert_masked(vcpu, gva, 0);
	for (i = 0; i < pmlen->nr_on; i++) {
		if (!has_value(vcpu, pmlen, pmlen->on[i]))
			continue;
		/* At once, and for good: on, then off. */
		for (bits = pmlen->on[i];; bits = 0) {
			a = ask(vcpu, .ext = SBI_EXT_FWFT, .fid = FWFT_SET,
				.arg = { pmlen->id, bits, 0 },
				.what = guest_load_here, .addr = gva | TAG_7);
			TEST_ASSERT_EQ(a.error, 0);
			TEST_ASSERT_EQ(a.trap, bits ? NO_TRAP : EXC_LOAD_PAGE_FAULT);
			assert_masked(vcpu, gva, bits);
			if (!bits)
				break;
		}

		/* By userspace. */
		vcpu_set_reg(vcpu, FEATURE_REG(pmlen, value), pmlen->on[i]);
		assert_masked(vcpu, gva, pmlen->on[i]);
		vcpu_set_reg(vcpu, FEATURE_REG(pmlen, enable), 0);
		assert_masked(vcpu, gva, pmlen->on[i]);
		vcpu_set_reg(vcpu, FEATURE_REG(pmlen, enable), 1);
		vcpu_set_reg(vcpu, FEATURE_REG(pmlen, value), 0);
		assert_masked(vcpu, gva, 0);
	}
}

/* Each vCPU has its own, on whatever CPU it is and whoever was there before. */
TEST(each_its_own)
{
	struct kvm_vcpu *vcpu[3];
	cpu_set_t all, one;
	u64 gva[3];
	int cpu, i;

	for (i = 0; i < ARRAY_SIZE(vcpu); i++) {
		vcpu[i] = create();
		gva[i] = load_gva(vcpu[i]);
	}
	if (!has_value(vcpu[0], pmlen, 7) || !has_value(vcpu[0], pmlen, 16))
		SKIP(return, "the CPU cannot mask pointers (no Ssnpm)");
	if (!machine_masks())
		SKIP(return, "this QEMU masks pointers of VS-mode as menvcfg says, not henvcfg");

	assert_set(0, vcpu[1], pmlen->id, 7, 0);
	assert_set(0, vcpu[2], pmlen->id, 16, 0);
	sched_getaffinity(0, sizeof(all), &all);
	for (cpu = 0; cpu < CPU_SETSIZE && cpu < 2 * CPU_COUNT(&all); cpu++) {
		if (!CPU_ISSET(cpu % CPU_COUNT(&all), &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu % CPU_COUNT(&all), &one);
		TEST_ASSERT(!sched_setaffinity(0, sizeof(one), &one), "cannot go to CPU %d", cpu);
		for (i = 0; i < ARRAY_SIZE(vcpu); i++)
			assert_masked(vcpu[i], gva[i], (u64[]){ 0, 7, 16 }[i]);
		/* Changed here, seen there. */
		assert_set(0, vcpu[0], pmlen->id, 16, 0);
		assert_masked(vcpu[0], gva[0], 16);
		assert_set(0, vcpu[0], pmlen->id, 0, 0);
	}
	sched_setaffinity(0, sizeof(all), &all);
}

/* Atomics want their alignment on every CPU. */
static void guest_misaligned_amo(void)
{
	asm volatile("amoadd.w zero, zero, (%0)" :: "r" (todo.addr) : "memory");
}

/* The guest gets the exception in any case: from the host, or without it. */
TEST(misaligned_delegation)
{
	struct kvm_vcpu *vcpu = create();
	u64 addr = load_gva(vcpu) + 1, before;
	struct answer a;
	int on;

	before = vcpu_get_stat(vcpu, store_misaligned_exits);
	a = ask(vcpu, .what = guest_misaligned_amo, .addr = addr);
	if (!has_feature(vcpu, misaligned) && a.trap != EXC_STORE_MISALIGNED)
		SKIP(return, "the kernel does not get misaligned accesses");
	TEST_ASSERT_EQ(a.trap, EXC_STORE_MISALIGNED);
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, store_misaligned_exits), before + 1);
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, load_misaligned_exits), 0);

	if (!has_feature(vcpu, misaligned))
		SKIP(return, "the kernel does not get all misaligned accesses");
	for (on = 1; on >= 0; on--) {
		assert_set(0, vcpu, misaligned->id, on, 0);
		a = ask(vcpu, .what = guest_misaligned_amo, .addr = addr);
		TEST_ASSERT_EQ(a.trap, EXC_STORE_MISALIGNED);
		TEST_ASSERT_EQ(vcpu_get_stat(vcpu, store_misaligned_exits), before + 2 - on);
	}
}

static void guest_sfence_and_load(void)
{
	asm volatile("sfence.vma" ::: "memory");
	guest_load_here();
}

static void guest_store_here(void)
{
	WRITE_ONCE(*(u64 *)todo.addr, 42);
}

/* What a load and a store make of A and D, or that they trap instead. */
static void assert_updates(struct kvm_vcpu *vcpu, u64 gva, bool updates)
{
	u64 *pte = guest_pte(vcpu->vm, gva);
	struct answer a;

	*pte &= ~(PTE_A | PTE_D);
	a = ask(vcpu, .what = guest_sfence_and_load, .addr = gva);
	TEST_ASSERT_EQ(a.trap, updates ? NO_TRAP : EXC_LOAD_PAGE_FAULT);
	TEST_ASSERT_EQ(*pte & (PTE_A | PTE_D), updates ? PTE_A : 0);
	a = ask(vcpu, .what = guest_store_here, .addr = gva);
	TEST_ASSERT_EQ(a.trap, updates ? NO_TRAP : EXC_STORE_PAGE_FAULT);
	TEST_ASSERT_EQ(*pte & (PTE_A | PTE_D), updates ? PTE_A | PTE_D : 0);
	*pte |= PTE_A | PTE_D;
}

static bool has_isa(struct kvm_vcpu *vcpu, u64 ext)
{
	u64 val;

	return !__vcpu_get_reg(vcpu, RISCV_ISA_EXT_REG(ext), &val) && val;
}

/* With Svadu alone the hart updates, without it it traps, and with both the guest chooses. */
TEST(ad_updating)
{
	struct kvm_vcpu *vcpu = create();
	bool svadu = has_isa(vcpu, KVM_RISCV_ISA_EXT_SVADU);
	bool svade = has_isa(vcpu, KVM_RISCV_ISA_EXT_SVADE);
	u64 gva = load_gva(vcpu);

	TEST_ASSERT_EQ(has_feature(vcpu, adue), svadu && svade);

	assert_updates(vcpu, gva, svadu && !svade);
	if (has_feature(vcpu, adue)) {
		assert_set(0, vcpu, adue->id, 1, 0);
		assert_updates(vcpu, gva, true);
		assert_set(0, vcpu, adue->id, 0, 0);
		assert_updates(vcpu, gva, false);
	}
	if (!svadu)
		SKIP(return, "the CPU does not update A and D (no Svadu)");

	/* Without Svadu nothing of it is left. */
	vcpu = create();
	gva = load_gva(vcpu);
	if (has_feature(vcpu, adue))
		vcpu_set_reg(vcpu, FEATURE_REG(adue, value), 1);
	vcpu_set_reg(vcpu, RISCV_ISA_EXT_REG(KVM_RISCV_ISA_EXT_SVADU), 0);
	assert_updates(vcpu, gva, false);
	assert_set(SBI_ERR_NOT_SUPPORTED, vcpu, adue->id, 1, 0);
}

/*
 * Turns landing pads on, jumps to where none is, and turns them off again,
 * since this program has none at all.  The cause goes to @got.
 */
static void guest_jump_astray(void)
{
	register u64 a0 asm("a0") = lpad->id;
	register u64 a1 asm("a1") = 1;
	register u64 a2 asm("a2") = 0;
	register u64 a6 asm("a6") = FWFT_SET;
	register u64 a7 asm("a7") = SBI_EXT_FWFT;
	/* Not one of the registers by which functions return or jump as they please. */
	register u64 tval asm("t3");
	u64 cause, old;

	asm volatile("la %[cause], 1f\n"
		     "csrrw %[old], stvec, %[cause]\n"
		     "ecall\n"
		     "la %[tval], 2f\n"
		     "jr %[tval]\n"
		     ".balign 4\n"
		     "2: li %[cause], -1\n"
		     "li %[tval], -1\n"
		     "j 3f\n"
		     ".balign 4\n"
		     "1: csrr %[cause], scause\n"
		     "csrr %[tval], stval\n"
		     "3: csrw stvec, %[old]\n"
		     "li a0, 1\n"
		     "li a1, 0\n"
		     "ecall\n"
		     : [cause] "=&r" (cause), [tval] "=&r" (tval), [old] "=&r" (old),
		       "+r" (a0), "+r" (a1), "+r" (a2)
		     : "r" (a6), "r" (a7)
		     : "memory");
	got = cause;
	GUEST_ASSERT(cause != EXC_SOFTWARE_CHECK || tval == 2);
}

TEST(landing_pad)
{
	struct kvm_vcpu *vcpu = create();

	if (!has_feature(vcpu, lpad))
		SKIP(return, "the kernel has no Zicfilp (needs CONFIG_RISCV_USER_CFI)");
	TEST_ASSERT_EQ(ask(vcpu, .what = guest_jump_astray).got, EXC_SOFTWARE_CHECK);
	assert_get(0, vcpu, lpad->id);
}

/* The user's jump to where no landing pad is. */
static void user_astray(struct pt_regs *regs)
{
	guest_trap.cause = regs->cause;
	guest_trap.tval = regs->badaddr;
	guest_trap.count++;
	regs->epc += 4;
	/* Nor is one at the next instruction. */
	regs->status &= ~SR_SPELP;
}

static u64 guest_user_astray(u64 unused)
{
	u32 *code = (u32 *)ALIAS_GVA;
	u64 lpe;

	csr_write(CSR_SENVCFG, SENVCFG_LPE);
	lpe = csr_read(CSR_SENVCFG) & SENVCFG_LPE;
	code[2] = 0x00000797;	/* auipc a5, 0 */
	code[3] = 0x00878067;	/* jr 8(a5) */
	code[4] = 0x00000013;	/* nop */
	code[5] = ECALL;
	user_insn(0x0080006f);	/* j code[2] */
	csr_write(CSR_SENVCFG, 0);
	return lpe;
}

/*
 * With landing pads for the guest's user alone, which need no firmware feature,
 * what the user does wrong is the guest's to deal with (differences-from-c N14).
 */
TEST(landing_pad_of_user)
{
	struct kvm_vcpu *vcpu = priv_create();
	u64 trap, lpe;

	vm_install_exception_handler(vcpu->vm, EXC_SOFTWARE_CHECK, user_astray);
	guest_ask(vcpu, GUEST_OP_EXEC, (u64)guest_user_astray, 0);
	trap = guest_answer(vcpu, &lpe);
	if (!lpe)
		SKIP(return, "the CPU has no landing pads (no Zicfilp)");
	TEST_ASSERT_EQ(trap, EXC_SOFTWARE_CHECK);
}

static void guest_read_ssp(void)
{
	got = csr_read(CSR_SSP);
}

TEST(shadow_stack)
{
	struct kvm_vcpu *vcpu = create();

	if (!has_feature(vcpu, sstack))
		SKIP(return, "the kernel has no Zicfiss (needs CONFIG_RISCV_USER_CFI)");
	TEST_ASSERT_EQ(ask(vcpu, .what = guest_read_ssp).trap, EXC_INST_ILLEGAL);
	assert_set(0, vcpu, sstack->id, 1, 0);
	TEST_ASSERT_EQ(ask(vcpu, .what = guest_read_ssp).trap, NO_TRAP);
	assert_set(0, vcpu, sstack->id, 0, 0);
	TEST_ASSERT_EQ(ask(vcpu, .what = guest_read_ssp).trap, EXC_INST_ILLEGAL);
}

int main(int argc, char *argv[])
{
	require_fwft();
	return test_harness_run(argc, argv);
}
