// SPDX-License-Identifier: GPL-2.0
/* on-c: pass */
/* covers: vcpu/onereg/sbi.rs sbi_abi/fwft.rs */
/*
 * The registers that userspace has of the SBI's firmware features: which there
 * are, what they take, what the guest sees of it, and that they carry a guest
 * from one VM to another.
 */
#include "kvm_rs_fwft.h"

#define NR_REGS		(sizeof(struct kvm_riscv_sbi_fwft) / sizeof(unsigned long))

/* Whether the list has register @nr of FWFT. */
static bool listed(struct kvm_vcpu *vcpu, u64 nr)
{
	struct kvm_reg_list *list = vcpu_get_reg_list(vcpu);
	bool found = false;
	u64 i;

	for (i = 0; i < list->n; i++)
		found |= list->reg[i] == FWFT_REG(nr);
	free(list);
	return found;
}

static void assert_no_reg(struct kvm_vcpu *vcpu, u64 id, int err)
{
	u64 val;

	TEST_ASSERT_ERRNO(__vcpu_get_reg(vcpu, id, &val), err);
	TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, id, 0), err);
}

TEST(registers)
{
	struct kvm_vcpu *vcpu = create();
	const struct feature *f;
	u64 id, on;
	int i;

	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, FWFT_EXT), 1);
	for_each_feature(f) {
		for (i = 0; i < 3; i++) {
			id = FWFT_REG(f->reg + i);
			TEST_ASSERT_EQ(listed(vcpu, f->reg + i), has_feature(vcpu, f));
			if (!has_feature(vcpu, f))
				assert_no_reg(vcpu, id, ENOENT);
			assert_no_reg(vcpu, (id & ~KVM_REG_SIZE_MASK) | KVM_REG_SIZE_U32, EINVAL);
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
		assert_absent(vcpu, f->id);
		assert_regs(vcpu, f, 0, 0, on);
		vcpu_set_reg(vcpu, FEATURE_REG(f, enable), 1);
		assert_get(on, vcpu, f->id);
	}

	assert_no_reg(vcpu, FWFT_REG(NR_REGS), ENOENT);
	assert_no_reg(vcpu, FWFT_REG(0xffff), ENOENT);
}

/* Without the extension there is nothing; what comes back begins anew. */
TEST(extension_switched_off)
{
	struct kvm_vcpu *vcpu = create();
	const struct feature *f;
	u64 i;

	for_each_supported(vcpu, f) {
		vcpu_set_reg(vcpu, FEATURE_REG(f, value), first_value(vcpu, f));
		vcpu_set_reg(vcpu, FEATURE_REG(f, flags), FWFT_LOCK);
	}
	vcpu_set_reg(vcpu, FWFT_EXT, 0);
	for (i = 0; i <= NR_REGS; i++) {
		TEST_ASSERT(!listed(vcpu, i), "register %lu is listed", (unsigned long)i);
		assert_no_reg(vcpu, FWFT_REG(i), EINVAL);
	}
	vcpu_set_reg(vcpu, FWFT_EXT, 1);
	for_each_supported(vcpu, f)
		assert_regs(vcpu, f, 1, 0, 0);

	vcpu_set_reg(vcpu, FWFT_EXT, 0);
	for_each_feature(f)
		assert_absent(vcpu, f->id);
	assert_call(SBI_ERR_NOT_SUPPORTED, vcpu, FWFT_GET, 6);
	TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, FWFT_EXT, 1), EBUSY);
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
	int i, j;
	u64 gva;

	for (i = 0; i < ARRAY_SIZE(needs); i++) {
		vcpu = create();
		gva = load_gva(vcpu);
		f = needs[i].f;
		if (!has_feature(vcpu, f))
			continue;
		vcpu_set_reg(vcpu, FEATURE_REG(f, value), first_value(vcpu, f));
		vcpu_set_reg(vcpu, RISCV_ISA_EXT_REG(needs[i].isa), 0);
		for (j = 0; j < 3; j++) {
			TEST_ASSERT(!listed(vcpu, f->reg + j), "%s is listed", f->name);
			assert_no_reg(vcpu, FWFT_REG(f->reg + j), ENOENT);
		}
		assert_absent(vcpu, f->id);
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

	/* This program has no landing pads. */
	for_each_supported(from, f)
		if (f != lpad)
			assert_set(0, from, f->id, first_value(from, f), FWFT_LOCK);
	for (i = 0; i < NR_REGS; i++)
		if (listed(from, i))
			val[i] = vcpu_get_reg(from, FWFT_REG(i));

	for (round = 0; round < 2; round++) {
		to = create();
		gva = load_gva(to);
		for (i = 0; i < NR_REGS; i++) {
			nr = round ? NR_REGS - 1 - i : i;
			if (listed(to, nr))
				vcpu_set_reg(to, FWFT_REG(nr), val[nr]);
		}
		for_each_supported(to, f) {
			if (f == lpad)
				continue;
			assert_regs(to, f, 1, FWFT_LOCK, first_value(to, f));
			assert_get(first_value(to, f), to, f->id);
			assert_set(SBI_ERR_DENIED_LOCKED, to, f->id, 0, 0);
		}
		assert_masked(to, gva, machine_masks() ? first_value(to, pmlen) : 0);
		kvm_vm_free(to->vm);
	}
}

int main(int argc, char *argv[])
{
	require_fwft();
	return test_harness_run(argc, argv);
}
