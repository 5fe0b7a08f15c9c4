// SPDX-License-Identifier: GPL-2.0-only
/* on-c: pass */
/* also-on: svade: pass */
/* also-on: cfi: fail: N14 */
/*
 * The SBI's firmware features: the guest's calls, function by function and
 * error by error, the registers of userspace, and what a guest sees of each
 * feature.
 *
 * Support depends on the hart and on the kernel: misaligned accesses have to
 * trap, Zicfilp and Zicfiss need CONFIG_RISCV_USER_CFI, and Linux offers Svadu
 * or Svade, not both.  What cannot be had is asserted to be absent, and its own
 * test is a skip.
 */
#include "kvm_rs_priv.h"

#define FWFT_SET		0
#define FWFT_GET		1
#define FWFT_LOCK		1

#define FWFT_DOUBLE_TRAP	3

#define SBI_ERR_DENIED_LOCKED	-14

#define CSR_SENVCFG		0x10a
#define SENVCFG_LPE		(1UL << 2)
#define SR_SPELP		(1UL << 23)
#define CSR_SSP			0x011
#define EXC_SOFTWARE_CHECK	18

#define PTE_A			(1UL << 6)
#define PTE_D			(1UL << 7)

#define REG(nr)			__kvm_reg_id(KVM_REG_RISCV_SBI_STATE, KVM_REG_RISCV_SBI_FWFT, nr, \
					     KVM_REG_SIZE_ULONG)
#define FEATURE_REG(f, name)	REG((f)->reg + offsetof(struct kvm_riscv_sbi_fwft_feature, name) / \
				    sizeof(unsigned long))
#define NR_REGS			(sizeof(struct kvm_riscv_sbi_fwft) / sizeof(unsigned long))
#define FWFT_EXT		RISCV_SBI_EXT_REG(KVM_RISCV_SBI_EXT_FWFT)

struct feature {
	const char *name;
	u32 id;
	unsigned int reg;
	u64 on[2];	/* values, beside 0 */
	int nr_on;
};

#define __FEATURE(_id, member, nr, ...)						\
	{ #member, _id, KVM_REG_RISCV_SBI_FWFT_REG(member), { __VA_ARGS__ }, nr }

static const struct feature features[] = {
	__FEATURE(0, misaligned_deleg, 1, 1),
	__FEATURE(5, pointer_masking, 2, 7, 16),
	__FEATURE(4, pte_ad_hw_updating, 1, 1),
	__FEATURE(1, landing_pad, 1, 1),
	__FEATURE(2, shadow_stack, 1, 1),
};

static const struct feature *const misaligned = &features[0];
static const struct feature *const pmlen = &features[1];
static const struct feature *const adue = &features[2];
static const struct feature *const lpad = &features[3];
static const struct feature *const sstack = &features[4];

#define for_each_feature(f) \
	for (f = features; f < features + ARRAY_SIZE(features); f++)

/*
 * A guest that makes one SBI call, if it has to, and then does one thing, with
 * nothing in between.
 */
static struct {
	u64 ext, fid, arg[6];
	void (*what)(void);
	u64 addr;
} todo;

static u64 got;

static void guest_code(void)
{
	struct sbiret ret;
	u64 trap;

	for (;;) {
		ret = (struct sbiret){};
		trap = NO_TRAP;
		barrier();
		if (todo.ext)
			ret = guest_ecall(todo.ext, todo.fid, todo.arg);
		if (todo.what)
			trap = GUEST_CATCH(todo.what());
		GUEST_SYNC4(ret.error, ret.value, trap, got);
	}
}

static void guest_load_here(void)
{
	got = READ_ONCE(*(u64 *)todo.addr);
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

struct answer {
	long error;
	u64 value, trap, got;
};

#define ask(vcpu, args...)							\
({										\
	typeof(todo) __todo = { args };						\
										\
	write_guest_global((vcpu)->vm, todo, __todo);				\
	answer(vcpu);								\
})

static struct answer answer(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	TEST_ASSERT_EQ(run_to_ucall(vcpu, &uc), UCALL_SYNC);
	return (struct answer){ uc.args[0], uc.args[1], uc.args[2], uc.args[3] };
}

#define call(vcpu, function, args...)						\
	ask(vcpu, .ext = SBI_EXT_FWFT, .fid = (function), .arg = { args })

#define assert_call(want, vcpu, function, args...)				\
({										\
	struct answer __a = call(vcpu, function, args);				\
										\
	TEST_ASSERT(__a.error == (want), #function "(" #args "): error %ld, not %d", \
		    __a.error, want);						\
	TEST_ASSERT(!__a.error || !__a.value, #function "(" #args "): value %lu",	\
		    (unsigned long)__a.value);					\
	__a.value;								\
})

#define assert_set(want, vcpu, args...)	assert_call(want, vcpu, FWFT_SET, args)
#define assert_get(want, vcpu, id)					\
	TEST_ASSERT_EQ(assert_call(0, vcpu, FWFT_GET, id), want)

static struct kvm_vcpu *create(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = vm_create_with_one_vcpu(&vcpu, guest_code);

	vm_catch_guest_traps(vm);
	vm_install_exception_handler(vm, EXC_SOFTWARE_CHECK, guest_trap_handler);
	return vcpu;
}

static bool has_feature(struct kvm_vcpu *vcpu, const struct feature *f)
{
	u64 val;

	if (!__vcpu_get_reg(vcpu, FEATURE_REG(f, enable), &val))
		return true;
	TEST_ASSERT(errno == ENOENT, "%s: %s", f->name, strerror(errno));
	return false;
}

/* Whether the hart can be set to @value. */
static bool has_value(struct kvm_vcpu *vcpu, const struct feature *f, u64 value)
{
	u64 before;
	int ret;

	if (!has_feature(vcpu, f))
		return false;
	before = vcpu_get_reg(vcpu, FEATURE_REG(f, value));
	ret = __vcpu_set_reg(vcpu, FEATURE_REG(f, value), value);
	TEST_ASSERT(!ret || errno == EINVAL, "%s: %s", f->name, strerror(errno));
	vcpu_set_reg(vcpu, FEATURE_REG(f, value), before);
	return !ret;
}

/* The first value other than 0 that the hart can be set to. */
static u64 first_value(struct kvm_vcpu *vcpu, const struct feature *f)
{
	int i;

	for (i = 0; i < f->nr_on; i++)
		if (has_value(vcpu, f, f->on[i]))
			return f->on[i];
	TEST_FAIL("%s is supported and has no value", f->name);
	return 0;
}

static void assert_regs(struct kvm_vcpu *vcpu, const struct feature *f, u64 enable, u64 flags,
			u64 value)
{
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, FEATURE_REG(f, enable)), enable);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, FEATURE_REG(f, flags)), flags);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, FEATURE_REG(f, value)), value);
}

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
	static const u64 wrong[] = { 2, 3, 8, 15, 17, 1UL << 32, 1 | 1UL << 32, 7 | 1UL << 32, ~0UL };
	struct kvm_vcpu *vcpu = create();
	const struct feature *f;
	int i;

	for_each_feature(f) {
		if (!has_feature(vcpu, f)) {
			pr_info("# no %s here\n", f->name);
			assert_set(SBI_ERR_NOT_SUPPORTED, vcpu, f->id, 0, 0);
			assert_set(SBI_ERR_NOT_SUPPORTED, vcpu, f->id, 99, 2);
			assert_call(SBI_ERR_NOT_SUPPORTED, vcpu, FWFT_GET, f->id);
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

	for_each_feature(f) {
		if (!has_feature(vcpu, f))
			continue;
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

/* What a reset takes away and a guest needs to go on. */
struct saved {
	u64 id[64], val[64];
	int n;
};

static void save(struct kvm_vcpu *vcpu, struct saved *s)
{
	struct kvm_reg_list *list = vcpu_get_reg_list(vcpu);
	u64 type, i;

	s->n = 0;
	for (i = 0; i < list->n; i++) {
		type = list->reg[i] & KVM_REG_RISCV_TYPE_MASK;
		if (type != KVM_REG_RISCV_CORE && type != KVM_REG_RISCV_CSR)
			continue;
		TEST_ASSERT(s->n < ARRAY_SIZE(s->id), "too many registers");
		s->id[s->n] = list->reg[i];
		s->val[s->n++] = vcpu_get_reg(vcpu, list->reg[i]);
	}
	free(list);
}

static void restore(struct kvm_vcpu *vcpu, const struct saved *s)
{
	int i;

	for (i = 0; i < s->n; i++)
		vcpu_set_reg(vcpu, s->id[i], s->val[i]);
}

TEST(reset_clears)
{
	struct kvm_mp_state init = { .mp_state = KVM_MP_STATE_INIT_RECEIVED };
	struct kvm_vcpu *vcpu = create();
	const struct feature *f;
	struct saved s;
	u64 on;

	vm_enable_cap(vcpu->vm, KVM_CAP_RISCV_MP_STATE_RESET, 0);
	for_each_feature(f) {
		if (!has_feature(vcpu, f))
			continue;
		on = first_value(vcpu, f);
		assert_set(0, vcpu, f->id, on, FWFT_LOCK);
		save(vcpu, &s);
		vcpu_mp_state_set(vcpu, &init);
		assert_regs(vcpu, f, 1, 0, 0);
		restore(vcpu, &s);
		assert_get(0, vcpu, f->id);
		assert_set(0, vcpu, f->id, on, 0);

		/* What userspace withholds stays withheld. */
		vcpu_set_reg(vcpu, FEATURE_REG(f, enable), 0);
		save(vcpu, &s);
		vcpu_mp_state_set(vcpu, &init);
		assert_regs(vcpu, f, 0, 0, 0);
		restore(vcpu, &s);
		assert_call(SBI_ERR_NOT_SUPPORTED, vcpu, FWFT_GET, f->id);
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

/* Whether the list has register @nr of FWFT. */
static bool listed(struct kvm_vcpu *vcpu, u64 nr)
{
	struct kvm_reg_list *list = vcpu_get_reg_list(vcpu);
	bool found = false;
	u64 i;

	for (i = 0; i < list->n; i++)
		found |= list->reg[i] == REG(nr);
	free(list);
	return found;
}

TEST(registers)
{
	struct kvm_vcpu *vcpu = create();
	const struct feature *f;
	u64 val, id, on;
	int i;

	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, FWFT_EXT), 1);
	for_each_feature(f) {
		for (i = 0; i < 3; i++) {
			id = REG(f->reg + i);
			TEST_ASSERT_EQ(listed(vcpu, f->reg + i), has_feature(vcpu, f));
			if (!has_feature(vcpu, f)) {
				TEST_ASSERT_ERRNO(__vcpu_get_reg(vcpu, id, &val), ENOENT);
				TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, id, 0), ENOENT);
			}
			id = (id & ~KVM_REG_SIZE_MASK) | KVM_REG_SIZE_U32;
			TEST_ASSERT_ERRNO(__vcpu_get_reg(vcpu, id, &val), EINVAL);
			TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, id, 0), EINVAL);
		}
		if (!has_feature(vcpu, f))
			continue;

		on = first_value(vcpu, f);
		assert_regs(vcpu, f, 1, 0, 0);
		TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, FEATURE_REG(f, enable), 2), EINVAL);
		TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, FEATURE_REG(f, enable), ~0UL), EINVAL);
		TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, FEATURE_REG(f, value), 99), EINVAL);
		TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, FEATURE_REG(f, value), on | 1UL << 32),
				  EINVAL);
		assert_regs(vcpu, f, 1, 0, 0);

		/* A lock binds the guest, not userspace. */
		vcpu_set_reg(vcpu, FEATURE_REG(f, flags), FWFT_LOCK);
		vcpu_set_reg(vcpu, FEATURE_REG(f, value), on);
		assert_regs(vcpu, f, 1, FWFT_LOCK, on);
		assert_set(SBI_ERR_DENIED_LOCKED, vcpu, f->id, 0, 0);
		assert_get(on, vcpu, f->id);
		/* Also after the first run. */
		vcpu_set_reg(vcpu, FEATURE_REG(f, flags), 0);
		assert_set(0, vcpu, f->id, 0, 0);
		vcpu_set_reg(vcpu, FEATURE_REG(f, value), on);
		assert_get(on, vcpu, f->id);

		vcpu_set_reg(vcpu, FEATURE_REG(f, enable), 0);
		TEST_ASSERT(listed(vcpu, f->reg), "%s: withheld is not listed", f->name);
		assert_call(SBI_ERR_NOT_SUPPORTED, vcpu, FWFT_GET, f->id);
		assert_set(SBI_ERR_NOT_SUPPORTED, vcpu, f->id, 0, 0);
		assert_regs(vcpu, f, 0, 0, on);
		vcpu_set_reg(vcpu, FEATURE_REG(f, enable), 1);
		assert_get(on, vcpu, f->id);
	}

	TEST_ASSERT_ERRNO(__vcpu_get_reg(vcpu, REG(NR_REGS), &val), ENOENT);
	TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, REG(NR_REGS), 0), ENOENT);
	TEST_ASSERT_ERRNO(__vcpu_get_reg(vcpu, REG(0xffff), &val), ENOENT);
}

/* Without the extension there is nothing; what comes back begins anew. */
TEST(extension_switched_off)
{
	struct kvm_vcpu *vcpu = create();
	const struct feature *f;
	u64 val, i;

	for_each_feature(f)
		if (has_feature(vcpu, f)) {
			vcpu_set_reg(vcpu, FEATURE_REG(f, value), first_value(vcpu, f));
			vcpu_set_reg(vcpu, FEATURE_REG(f, flags), FWFT_LOCK);
		}
	vcpu_set_reg(vcpu, FWFT_EXT, 0);
	for (i = 0; i <= NR_REGS; i++) {
		TEST_ASSERT(!listed(vcpu, i), "register %lu is listed", (unsigned long)i);
		TEST_ASSERT_ERRNO(__vcpu_get_reg(vcpu, REG(i), &val), EINVAL);
		TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, REG(i), 0), EINVAL);
	}
	vcpu_set_reg(vcpu, FWFT_EXT, 1);
	for_each_feature(f)
		if (has_feature(vcpu, f))
			assert_regs(vcpu, f, 1, 0, 0);

	vcpu_set_reg(vcpu, FWFT_EXT, 0);
	for_each_feature(f) {
		assert_set(SBI_ERR_NOT_SUPPORTED, vcpu, f->id, 0, 0);
		assert_call(SBI_ERR_NOT_SUPPORTED, vcpu, FWFT_GET, f->id);
	}
	assert_call(SBI_ERR_NOT_SUPPORTED, vcpu, FWFT_GET, 6);
	TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, FWFT_EXT, 1), EBUSY);
}

/* A page at a GVA that can be tagged whatever the mode of translation. */
static u64 load_gva(struct kvm_vcpu *vcpu)
{
	u64 gva = vm_alloc_page(vcpu->vm);

	*(u64 *)addr_gva2hva(vcpu->vm, gva) = 0x600d;
	return gva;
}

#define TAG_7	(0x55UL << 57)
#define TAG_16	(0x5555UL << 48)

static void assert_masked(struct kvm_vcpu *vcpu, u64 gva, u64 bits)
{
	struct answer a;

	a = ask(vcpu, .what = guest_load_here, .addr = gva);
	TEST_ASSERT_EQ(a.trap, NO_TRAP);
	a = ask(vcpu, .what = guest_load_here, .addr = gva | TAG_7);
	TEST_ASSERT_EQ(a.trap, bits >= 7 ? NO_TRAP : EXC_LOAD_PAGE_FAULT);
	TEST_ASSERT(a.trap != NO_TRAP || a.got == 0x600d, "loaded 0x%lx", (unsigned long)a.got);
	a = ask(vcpu, .what = guest_load_here, .addr = gva | TAG_16);
	TEST_ASSERT_EQ(a.trap, bits >= 16 ? NO_TRAP : EXC_LOAD_PAGE_FAULT);
	TEST_ASSERT(a.trap != NO_TRAP || a.got == 0x600d, "loaded 0x%lx", (unsigned long)a.got);
}

/*
 * Whether the machine does what henvcfg says: QEMU 10.0 goes by menvcfg also in
 * VS-mode.
 */
static bool machine_masks(void)
{
	struct kvm_vcpu *vcpu = create();
	char model[64] = {};
	struct answer a;
	FILE *f;

	if (!has_feature(vcpu, pmlen))
		return false;
	vcpu_set_reg(vcpu, FEATURE_REG(pmlen, value), first_value(vcpu, pmlen));
	a = ask(vcpu, .what = guest_load_here, .addr = load_gva(vcpu) | TAG_7);
	kvm_vm_free(vcpu->vm);
	if (a.trap == NO_TRAP)
		return true;

	f = fopen("/proc/device-tree/model", "r");
	if (f) {
		TEST_ASSERT(fread(model, 1, sizeof(model) - 1, f), "the machine has no name");
		fclose(f);
	}
	TEST_ASSERT(strstr(model, "qemu"), "%s does not mask the guest's pointers", model);
	return false;
}

TEST(pointer_masking)
{
	struct kvm_vcpu *vcpu = create();
	u64 gva = load_gva(vcpu), i;
	struct answer a;

	if (!has_feature(vcpu, pmlen))
		SKIP(return, "the CPU cannot mask pointers (no Ssnpm)");
	if (!machine_masks())
		SKIP(return, "this QEMU masks pointers of VS-mode as menvcfg says, not henvcfg");

	assert_masked(vcpu, gva, 0);
	for (i = 0; i < pmlen->nr_on; i++) {
		if (!has_value(vcpu, pmlen, pmlen->on[i]))
			continue;
		/* At once, and for good. */
		a = ask(vcpu, .ext = SBI_EXT_FWFT, .fid = FWFT_SET,
			.arg = { pmlen->id, pmlen->on[i], 0 },
			.what = guest_load_here, .addr = gva | TAG_7);
		TEST_ASSERT_EQ(a.error, 0);
		TEST_ASSERT_EQ(a.trap, NO_TRAP);
		assert_masked(vcpu, gva, pmlen->on[i]);

		a = ask(vcpu, .ext = SBI_EXT_FWFT, .fid = FWFT_SET, .arg = { pmlen->id, 0, 0 },
			.what = guest_load_here, .addr = gva | TAG_7);
		TEST_ASSERT_EQ(a.error, 0);
		TEST_ASSERT_EQ(a.trap, EXC_LOAD_PAGE_FAULT);
		assert_masked(vcpu, gva, 0);

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

TEST(extension_of_the_isa_switched_off)
{
	static const struct {
		const struct feature *f;
		u64 isa;
	} needs[] = {
		{ pmlen, KVM_RISCV_ISA_EXT_SMNPM },
		{ lpad, KVM_RISCV_ISA_EXT_ZICFILP },
		{ sstack, KVM_RISCV_ISA_EXT_ZICFISS },
	};
	const struct feature *f;
	struct kvm_vcpu *vcpu;
	u64 val, gva;
	int i, j;

	for (i = 0; i < ARRAY_SIZE(needs); i++) {
		vcpu = create();
		gva = load_gva(vcpu);
		f = needs[i].f;
		if (!has_feature(vcpu, f))
			continue;
		val = first_value(vcpu, f);
		vcpu_set_reg(vcpu, FEATURE_REG(f, value), val);
		vcpu_set_reg(vcpu, RISCV_ISA_EXT_REG(needs[i].isa), 0);
		for (j = 0; j < 3; j++) {
			TEST_ASSERT(!listed(vcpu, f->reg + j), "%s is listed", f->name);
			TEST_ASSERT_ERRNO(__vcpu_get_reg(vcpu, REG(f->reg + j), &val), ENOENT);
			TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, REG(f->reg + j), 0), ENOENT);
		}
		assert_set(SBI_ERR_NOT_SUPPORTED, vcpu, f->id, 0, 0);
		assert_call(SBI_ERR_NOT_SUPPORTED, vcpu, FWFT_GET, f->id);
		assert_masked(vcpu, gva, 0);
	}
}

/* What was read from one VM, written to another: in the order of the list, or backwards. */
TEST(save_and_restore)
{
	struct kvm_vcpu *from = create(), *to;
	u64 val[NR_REGS], gva;
	const struct feature *f;
	int round, i, nr;

	for_each_feature(f)
		if (has_feature(from, f) && f != lpad)
			assert_set(0, from, f->id, first_value(from, f), FWFT_LOCK);
	for (i = 0; i < NR_REGS; i++)
		if (listed(from, i))
			val[i] = vcpu_get_reg(from, REG(i));

	for (round = 0; round < 2; round++) {
		to = create();
		gva = load_gva(to);
		for (i = 0; i < NR_REGS; i++) {
			nr = round ? NR_REGS - 1 - i : i;
			if (listed(to, nr))
				vcpu_set_reg(to, REG(nr), val[nr]);
		}
		for_each_feature(f) {
			if (!has_feature(to, f) || f == lpad)
				continue;
			assert_regs(to, f, 1, FWFT_LOCK, first_value(to, f));
			assert_get(first_value(to, f), to, f->id);
			assert_set(SBI_ERR_DENIED_LOCKED, to, f->id, 0, 0);
		}
		assert_masked(to, gva, machine_masks() ? first_value(to, pmlen) : 0);
		kvm_vm_free(to->vm);
	}
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

	before = vcpu_get_stat(vcpu, store_misaligned_exits);
	a = ask(vcpu, .what = guest_misaligned_amo, .addr = addr);
	if (!has_feature(vcpu, misaligned) && a.trap != EXC_STORE_MISALIGNED)
		SKIP(return, "the kernel does not get misaligned accesses");
	TEST_ASSERT_EQ(a.trap, EXC_STORE_MISALIGNED);
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, store_misaligned_exits), before + 1);
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, load_misaligned_exits), 0);

	if (!has_feature(vcpu, misaligned))
		SKIP(return, "the kernel does not get all misaligned accesses");
	assert_set(0, vcpu, misaligned->id, 1, 0);
	a = ask(vcpu, .what = guest_misaligned_amo, .addr = addr);
	TEST_ASSERT_EQ(a.trap, EXC_STORE_MISALIGNED);
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, store_misaligned_exits), before + 1);
	assert_set(0, vcpu, misaligned->id, 0, 0);
	a = ask(vcpu, .what = guest_misaligned_amo, .addr = addr);
	TEST_ASSERT_EQ(a.trap, EXC_STORE_MISALIGNED);
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, store_misaligned_exits), before + 2);
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

/* With Svadu alone the hart updates, without it it traps, and with both the guest chooses. */
TEST(ad_updating)
{
	struct kvm_vcpu *vcpu = create();
	u64 gva = load_gva(vcpu), val;
	bool svadu, svade;

	svadu = !__vcpu_get_reg(vcpu, RISCV_ISA_EXT_REG(KVM_RISCV_ISA_EXT_SVADU), &val) && val;
	svade = !__vcpu_get_reg(vcpu, RISCV_ISA_EXT_REG(KVM_RISCV_ISA_EXT_SVADE), &val) && val;
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
 * what the user does wrong is the guest's to deal with.
 */
TEST(n14_landing_pad_of_user)
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
	struct kvm_vcpu *vcpu;
	u64 val;

	vm_create_with_one_vcpu(&vcpu, guest_code);
	if (__vcpu_get_reg(vcpu, FWFT_EXT, &val))
		ksft_exit_skip("the module has no firmware features\n");
	kvm_vm_free(vcpu->vm);
	return test_harness_run(argc, argv);
}
