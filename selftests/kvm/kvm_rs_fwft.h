/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The SBI's firmware features, for tests: a guest that makes calls and looks at
 * what they do, and the registers that userspace has of each feature.
 *
 * Support depends on the hart and on the kernel: misaligned accesses have to
 * trap, Zicfilp and Zicfiss need CONFIG_RISCV_USER_CFI, and Linux offers Svadu
 * or Svade, not both.  What cannot be had is asserted to be absent.
 */
#ifndef SELFTEST_KVM_RS_FWFT_H
#define SELFTEST_KVM_RS_FWFT_H

#include "kvm_rs_util.h"

#define FWFT_SET		0
#define FWFT_GET		1
#define FWFT_LOCK		1
#define SBI_ERR_DENIED_LOCKED	-14

#define EXC_SOFTWARE_CHECK	18

#define FWFT_REG(nr)		__kvm_reg_id(KVM_REG_RISCV_SBI_STATE, KVM_REG_RISCV_SBI_FWFT, nr, \
					     KVM_REG_SIZE_ULONG)
#define FEATURE_REG(f, name)	FWFT_REG((f)->reg + \
					 offsetof(struct kvm_riscv_sbi_fwft_feature, name) / \
					 sizeof(unsigned long))
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

static const struct feature *const misaligned __maybe_unused = &features[0];
static const struct feature *const pmlen __maybe_unused = &features[1];
static const struct feature *const adue __maybe_unused = &features[2];
static const struct feature *const lpad __maybe_unused = &features[3];
static const struct feature *const sstack __maybe_unused = &features[4];

#define for_each_feature(f) \
	for (f = features; f < features + ARRAY_SIZE(features); f++)

#define for_each_supported(vcpu, f)						\
	for_each_feature(f)							\
		if (!has_feature(vcpu, f)) {} else

/*
 * A guest that makes one SBI call, if it has to, and then does one thing, with
 * nothing in between.
 */
static struct {
	u64 ext, fid, arg[6];
	void (*what)(void);
	u64 addr;
} todo __maybe_unused;

static u64 got __maybe_unused;

static __maybe_unused void guest_code(void)
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

static __maybe_unused void guest_load_here(void)
{
	got = READ_ONCE(*(u64 *)todo.addr);
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

static __maybe_unused struct answer answer(struct kvm_vcpu *vcpu)
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

/* To the guest the feature is not there. */
static __maybe_unused void assert_absent(struct kvm_vcpu *vcpu, u64 id)
{
	assert_set(SBI_ERR_NOT_SUPPORTED, vcpu, id, 0, 0);
	assert_call(SBI_ERR_NOT_SUPPORTED, vcpu, FWFT_GET, id);
}

static __maybe_unused struct kvm_vcpu *create(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = vm_create_with_one_vcpu(&vcpu, guest_code);

	vm_catch_guest_traps(vm);
	vm_install_exception_handler(vm, EXC_SOFTWARE_CHECK, guest_trap_handler);
	return vcpu;
}

static __maybe_unused bool has_feature(struct kvm_vcpu *vcpu, const struct feature *f)
{
	u64 val;

	if (!__vcpu_get_reg(vcpu, FEATURE_REG(f, enable), &val))
		return true;
	TEST_ASSERT(errno == ENOENT, "%s: %s", f->name, strerror(errno));
	return false;
}

/* Whether the hart can be set to @value. */
static __maybe_unused bool has_value(struct kvm_vcpu *vcpu, const struct feature *f, u64 value)
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
static __maybe_unused u64 first_value(struct kvm_vcpu *vcpu, const struct feature *f)
{
	int i;

	for (i = 0; i < f->nr_on; i++)
		if (has_value(vcpu, f, f->on[i]))
			return f->on[i];
	TEST_FAIL("%s is supported and has no value", f->name);
	return 0;
}

static __maybe_unused void assert_regs(struct kvm_vcpu *vcpu, const struct feature *f, u64 enable,
				       u64 flags, u64 value)
{
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, FEATURE_REG(f, enable)), enable);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, FEATURE_REG(f, flags)), flags);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, FEATURE_REG(f, value)), value);
}

/* A page at a GVA that can be tagged whatever the mode of translation. */
static __maybe_unused u64 load_gva(struct kvm_vcpu *vcpu)
{
	u64 gva = vm_alloc_page(vcpu->vm);

	*(u64 *)addr_gva2hva(vcpu->vm, gva) = 0x600d;
	return gva;
}

#define TAG_7	(0x55UL << 57)
#define TAG_16	(0x5555UL << 48)

/* A load ignores the topmost @bits bits of its address, and no others. */
static __maybe_unused void assert_masked(struct kvm_vcpu *vcpu, u64 gva, u64 bits)
{
	static const struct {
		u64 bits, tag;
	} tags[] = { { 0, 0 }, { 7, TAG_7 }, { 16, TAG_16 } };
	struct answer a;
	int i;

	for (i = 0; i < ARRAY_SIZE(tags); i++) {
		a = ask(vcpu, .what = guest_load_here, .addr = gva | tags[i].tag);
		TEST_ASSERT(a.trap == (bits >= tags[i].bits ? NO_TRAP : EXC_LOAD_PAGE_FAULT),
			    "a tag of %lu bits where %lu are masked: cause %ld",
			    (unsigned long)tags[i].bits, (unsigned long)bits, (long)a.trap);
		TEST_ASSERT(a.trap != NO_TRAP || a.got == 0x600d, "loaded 0x%lx",
			    (unsigned long)a.got);
	}
}

/*
 * Whether the machine does what henvcfg says: QEMU 10.0 goes by menvcfg also in
 * VS-mode.
 */
static __maybe_unused bool machine_masks(void)
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

/* Ends a program that has nothing to test. */
static __maybe_unused void require_fwft(void)
{
	struct kvm_vcpu *vcpu;
	u64 val;

	vm_create_with_one_vcpu(&vcpu, guest_code);
	if (__vcpu_get_reg(vcpu, FWFT_EXT, &val))
		ksft_exit_skip("the module has no firmware features\n");
	kvm_vm_free(vcpu->vm);
}

#endif /* SELFTEST_KVM_RS_FWFT_H */
