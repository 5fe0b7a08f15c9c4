// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: M26 */
/* covers: sbi_abi/table.rs vcpu/onereg/config.rs */
/*
 * SBI extensions as userspace sees them: the registers that switch them on and
 * off, until when they do, and what a guest finds.
 */
#include "kvm_rs_sbi.h"

#define MULTI_REG(sub, word) \
	__kvm_reg_id(KVM_REG_RISCV_SBI_EXT, KVM_REG_RISCV_SBI_MULTI_##sub, word, KVM_REG_SIZE_ULONG)
#define STATE_REG(ext, index) \
	__kvm_reg_id(KVM_REG_RISCV_SBI_STATE, KVM_REG_RISCV_SBI_##ext, index, KVM_REG_SIZE_ULONG)

static const struct sbi_ext {
	const char *name;
	int id;
	u64 eid;		/* what the guest calls */
	bool always;		/* no kernel option or host feature takes it away */
	bool off;		/* until userspace wants it */
} exts[] = {
#define __ROW(ext, args...) { #ext, KVM_RISCV_SBI_EXT_##ext, args }
	__ROW(V01, 1, false, false),
	__ROW(TIME, SBI_EXT_TIME, true, false),
	__ROW(IPI, SBI_EXT_IPI, true, false),
	__ROW(RFENCE, SBI_EXT_RFENCE, true, false),
	__ROW(SRST, SBI_EXT_SRST, true, false),
	__ROW(HSM, SBI_EXT_HSM, true, false),
	__ROW(PMU, SBI_EXT_PMU, false, false),
	__ROW(EXPERIMENTAL, 0x08000001, true, false),
	__ROW(VENDOR, 0x09000001, true, false),
	__ROW(DBCN, SBI_EXT_DBCN, true, true),
	__ROW(STA, SBI_EXT_STA, false, false),
	__ROW(SUSP, SBI_EXT_SUSP, false, true),
	__ROW(FWFT, SBI_EXT_FWFT, false, false),
	__ROW(MPXY, SBI_EXT_MPXY, true, true),
};

#define for_each_ext(ext) \
	for (ext = exts; ext < exts + ARRAY_SIZE(exts); ext++)

static int get_ext(struct kvm_vcpu *vcpu, u64 id, u64 *val)
{
	*val = 0x5a5a;
	return __vcpu_get_reg(vcpu, RISCV_SBI_EXT_REG(id), val);
}

static int set_ext(struct kvm_vcpu *vcpu, u64 id, u64 val)
{
	return __vcpu_set_reg(vcpu, RISCV_SBI_EXT_REG(id), val);
}

static bool has_ext(struct kvm_vcpu *vcpu, const struct sbi_ext *ext)
{
	u64 val;

	if (!get_ext(vcpu, ext->id, &val))
		return true;
	TEST_ASSERT(errno == ENOENT && !ext->always, "%s: get: %s", ext->name, strerror(errno));
	return false;
}

static void assert_ext(struct kvm_vcpu *vcpu, const struct sbi_ext *ext, u64 want)
{
	u64 val;

	TEST_ASSERT_OK(get_ext(vcpu, ext->id, &val));
	TEST_ASSERT(val == want, "%s: reads %lu, not %lu", ext->name, (unsigned long)val,
		    (unsigned long)want);
}

TEST(get_and_set)
{
	struct kvm_vcpu *vcpu = caller_create();
	const struct sbi_ext *ext;
	u64 val;

	TEST_ASSERT_EQ(ARRAY_SIZE(exts), KVM_RISCV_SBI_EXT_MAX);
	for_each_ext(ext) {
		if (!has_ext(vcpu, ext)) {
			TEST_ASSERT_ERRNO(set_ext(vcpu, ext->id, 0), ENOENT);
			TEST_ASSERT_ERRNO(set_ext(vcpu, ext->id, 1), ENOENT);
			continue;
		}
		assert_ext(vcpu, ext, !ext->off);
		TEST_ASSERT_OK(set_ext(vcpu, ext->id, ext->off));
		assert_ext(vcpu, ext, ext->off);
		TEST_ASSERT_ERRNO(set_ext(vcpu, ext->id, 2), EINVAL);
		TEST_ASSERT_ERRNO(set_ext(vcpu, ext->id, ~0UL), EINVAL);
		assert_ext(vcpu, ext, ext->off);
		TEST_ASSERT_OK(set_ext(vcpu, ext->id, !ext->off));
		assert_ext(vcpu, ext, !ext->off);
	}

	TEST_ASSERT_ERRNO(get_ext(vcpu, KVM_RISCV_SBI_EXT_MAX, &val), ENOENT);
	TEST_ASSERT_ERRNO(set_ext(vcpu, KVM_RISCV_SBI_EXT_MAX, 1), ENOENT);
	TEST_ASSERT_ERRNO(get_ext(vcpu, 0xffff, &val), ENOENT);
	TEST_ASSERT_ERRNO(set_ext(vcpu, 0xffff, 0), ENOENT);
	val = RISCV_SBI_EXT_REG(1) & ~KVM_REG_SIZE_MASK;
	TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, val | KVM_REG_SIZE_U32, 1), EINVAL);
}

/* Bits of a multi register of what the vCPU can have, and of what a new one has. */
static u64 can_have(struct kvm_vcpu *vcpu, u64 *initially)
{
	const struct sbi_ext *ext;
	u64 all = 0, on = 0;

	for_each_ext(ext) {
		if (!has_ext(vcpu, ext))
			continue;
		all |= 1UL << ext->id;
		if (!ext->off)
			on |= 1UL << ext->id;
	}
	if (initially)
		*initially = on;
	return all;
}

TEST(multi)
{
	struct kvm_vcpu *vcpu = caller_create();
	const struct sbi_ext *ext;
	u64 on, val, all = can_have(vcpu, &on);

	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, MULTI_REG(EN, 0)), on);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, MULTI_REG(DIS, 0)), ~on);

	vcpu_set_reg(vcpu, MULTI_REG(DIS, 0), on);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, MULTI_REG(EN, 0)), 0);
	vcpu_set_reg(vcpu, MULTI_REG(EN, 0), all);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, MULTI_REG(EN, 0)), all);
	for_each_ext(ext)
		if (all & 1UL << ext->id)
			assert_ext(vcpu, ext, 1);
	vcpu_set_reg(vcpu, MULTI_REG(DIS, 0), 1UL << KVM_RISCV_SBI_EXT_TIME);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, MULTI_REG(EN, 0)),
		       all & ~(1UL << KVM_RISCV_SBI_EXT_TIME));

	TEST_ASSERT_ERRNO(__vcpu_get_reg(vcpu, MULTI_REG(EN, 1), &val), ENOENT);
	TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, MULTI_REG(EN, 1), 0), ENOENT);
	TEST_ASSERT_ERRNO(__vcpu_get_reg(vcpu, MULTI_REG(DIS, 0xffff), &val), ENOENT);
	TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, MULTI_REG(DIS, 0xffff), 0), ENOENT);
	val = __kvm_reg_id(KVM_REG_RISCV_SBI_EXT, 3UL << KVM_REG_RISCV_SUBTYPE_SHIFT, 0,
			   KVM_REG_SIZE_ULONG);
	TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, val, 0), ENOENT);
}

/* All or nothing: what does not exist cannot be switched on (differences-from-c M26). */
TEST(multi_unknown)
{
	struct kvm_vcpu *vcpu = caller_create();
	u64 on, bit;

	can_have(vcpu, &on);
	for (bit = 1UL << KVM_RISCV_SBI_EXT_MAX; bit; bit <<= 1)
		TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, MULTI_REG(EN, 0),
						 bit | 1UL << KVM_RISCV_SBI_EXT_DBCN), ENOENT);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, MULTI_REG(EN, 0)), on);
	/* It is off already. */
	vcpu_set_reg(vcpu, MULTI_REG(DIS, 0), ~0UL << KVM_RISCV_SBI_EXT_MAX);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, MULTI_REG(EN, 0)), on);
}

/* Each vCPU has its own. */
TEST(other_vcpu)
{
	struct kvm_vcpu *vcpu = caller_create();
	u64 on;

	can_have(vcpu, &on);
	vcpu_set_reg(vcpu, MULTI_REG(DIS, 0), on & ~(1UL << KVM_RISCV_SBI_EXT_EXPERIMENTAL));
	TEST_ASSERT_EQ(vcpu_get_reg(vcpus[1], MULTI_REG(EN, 0)), on);
	/* Nor does one that has run keep the other from choosing. */
	assert_sbi(0, vcpu, SBI_EXT_BASE, 0);
	vcpu_set_reg(vcpus[1], MULTI_REG(DIS, 0), on);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpus[1], MULTI_REG(EN, 0)), 0);
}

/* From the first run on, even what changes nothing is refused. */
static void check_final(struct kvm_vcpu *vcpu)
{
	const struct sbi_ext *ext;
	u64 on, all = can_have(vcpu, &on);

	for_each_ext(ext) {
		if (!(all & 1UL << ext->id))
			continue;
		assert_ext(vcpu, ext, !ext->off);
		TEST_ASSERT_ERRNO(set_ext(vcpu, ext->id, ext->off), EBUSY);
		TEST_ASSERT_ERRNO(set_ext(vcpu, ext->id, !ext->off), EBUSY);
		assert_ext(vcpu, ext, !ext->off);
	}
	TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, MULTI_REG(EN, 0), all), EBUSY);
	TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, MULTI_REG(EN, 0), 0), EBUSY);
	TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, MULTI_REG(DIS, 0), on), EBUSY);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, MULTI_REG(EN, 0)), on);
}

TEST(after_first_run)
{
	struct kvm_vcpu *vcpu = caller_create();

	assert_sbi(0, vcpu, SBI_EXT_BASE, 0);
	check_final(vcpu);
}

/* A run that comes to nothing is a run. */
TEST(after_immediate_exit)
{
	struct kvm_vcpu *vcpu = caller_create();

	vcpu->run->immediate_exit = 1;
	TEST_ASSERT_ERRNO(__vcpu_run(vcpu), EINTR);
	vcpu->run->immediate_exit = 0;
	check_final(vcpu);
}

/* A hart that starts again has what it had. */
TEST(after_reset)
{
	struct kvm_vcpu *vcpu = caller_create(), *other = vcpus[1];
	u64 en;

	add_stub();
	TEST_ASSERT_OK(set_ext(other, KVM_RISCV_SBI_EXT_TIME, 0));
	TEST_ASSERT_OK(set_ext(other, KVM_RISCV_SBI_EXT_DBCN, 1));
	en = vcpu_get_reg(other, MULTI_REG(EN, 0));
	assert_sbi_fails(SBI_ERR_NOT_SUPPORTED, other, SBI_EXT_TIME, 0, 0);
	TEST_ASSERT_OK(set_mp_state(other, KVM_MP_STATE_STOPPED));
	assert_sbi(0, vcpu, SBI_EXT_HSM, SBI_HSM_START, 1, STUB_GPA, 9);
	assert_stub(other, 1, 9);
	TEST_ASSERT_EQ(vcpu_get_reg(other, MULTI_REG(EN, 0)), en);
	TEST_ASSERT_ERRNO(set_ext(other, KVM_RISCV_SBI_EXT_TIME, 1), EBUSY);
}

/* How often @id is in the list, with @mask of its bits. */
static int listed(struct kvm_vcpu *vcpu, u64 id, u64 mask)
{
	struct kvm_reg_list *list = vcpu_get_reg_list(vcpu);
	int i, count = 0;

	for (i = 0; i < list->n; i++)
		count += (list->reg[i] & mask) == id;
	free(list);
	return count;
}

TEST(list)
{
	struct kvm_vcpu *vcpu = caller_create();
	const u64 kind = KVM_REG_ARCH_MASK | KVM_REG_RISCV_TYPE_MASK;
	u64 class = RISCV_SBI_EXT_REG(0) & kind;
	const struct sbi_ext *ext;
	u64 all = can_have(vcpu, NULL);
	int n = __builtin_popcountl(all), round;

	/* Those that the vCPU can have, once, whether it has them or not. */
	for (round = 0; round < 3; round++) {
		for_each_ext(ext)
			TEST_ASSERT(listed(vcpu, RISCV_SBI_EXT_REG(ext->id), ~0UL) ==
				    !!(all & 1UL << ext->id), "%s: not once in the list",
				    ext->name);
		TEST_ASSERT_EQ(listed(vcpu, class, kind), n);
		vcpu_set_reg(vcpu, round ? MULTI_REG(EN, 0) : MULTI_REG(DIS, 0), all);
	}
}

/* The state of an extension is there as long as the extension is. */
static void check_state(struct kvm_vcpu *vcpu, u64 id, u64 class)
{
	const u64 mask = KVM_REG_ARCH_MASK | KVM_REG_RISCV_TYPE_MASK | KVM_REG_RISCV_SUBTYPE_MASK;
	struct kvm_reg_list *list;
	u64 val, reg = 0;
	int n, i;

	if (!has_sbi(vcpu, id))
		return;
	class &= mask;
	n = listed(vcpu, class, mask);
	if (!n)
		return;
	list = vcpu_get_reg_list(vcpu);
	for (i = 0; i < list->n; i++)
		if ((list->reg[i] & mask) == class)
			reg = list->reg[i];
	free(list);
	TEST_ASSERT_OK(__vcpu_get_reg(vcpu, reg, &val));
	TEST_ASSERT_OK(__vcpu_set_reg(vcpu, reg, val));

	TEST_ASSERT_OK(set_ext(vcpu, id, 0));
	TEST_ASSERT_EQ(listed(vcpu, class, mask), 0);
	TEST_ASSERT_ERRNO(__vcpu_get_reg(vcpu, reg, &val), EINVAL);
	TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, reg, val), EINVAL);

	TEST_ASSERT_OK(set_ext(vcpu, id, 1));
	TEST_ASSERT_EQ(listed(vcpu, class, mask), n);
	TEST_ASSERT_OK(__vcpu_get_reg(vcpu, reg, &val));
}

TEST(state)
{
	struct kvm_vcpu *vcpu = caller_create();
	u64 val, other;

	if (has_sbi(vcpu, KVM_RISCV_SBI_EXT_STA))
		TEST_ASSERT_EQ(listed(vcpu, STATE_REG(STA, 0), ~0UL), 1);
	check_state(vcpu, KVM_RISCV_SBI_EXT_STA, STATE_REG(STA, 0));
	check_state(vcpu, KVM_RISCV_SBI_EXT_FWFT, STATE_REG(FWFT, 0));
	/* There are no others. */
	other = __kvm_reg_id(KVM_REG_RISCV_SBI_STATE, 2UL << KVM_REG_RISCV_SUBTYPE_SHIFT, 0,
			     KVM_REG_SIZE_ULONG);
	TEST_ASSERT_ERRNO(__vcpu_get_reg(vcpu, other, &val), EINVAL);
	TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, other, 0), EINVAL);
}

static bool is_range(const struct sbi_ext *ext)
{
	return ext->id == KVM_RISCV_SBI_EXT_EXPERIMENTAL || ext->id == KVM_RISCV_SBI_EXT_VENDOR;
}

/* What the guest finds of each, with those in @on. */
static void assert_found(struct kvm_vcpu *vcpu, u64 on)
{
	const struct sbi_ext *ext;
	u64 is_on;

	TEST_ASSERT_EQ(probe(vcpu, SBI_EXT_BASE), 1);
	for_each_ext(ext) {
		/* Of ranges userspace is asked. */
		if (is_range(ext))
			continue;
		is_on = !!(on & 1UL << ext->id);
		TEST_ASSERT(!probe(vcpu, ext->eid) == !is_on, "%s: probed %lu", ext->name,
			    (unsigned long)!is_on);
		if (!is_on)
			assert_sbi_fails(SBI_ERR_NOT_SUPPORTED, vcpu, ext->eid, 0, 0, 0, 0);
	}
}

/* Ucalls are made of this one. */
#define UCALLS	(1UL << KVM_RISCV_SBI_EXT_EXPERIMENTAL)

/* What a new vCPU has, none, all, and each alone there and not there. */
TEST(guest_finds_what_is_on)
{
	struct kvm_vcpu *each[3 + 2 * ARRAY_SIZE(exts)];
	u64 on[ARRAY_SIZE(each)], all;
	const struct sbi_ext *ext;
	int n = 3, i;

	vm = vm_create_with_vcpus(ARRAY_SIZE(each), guest_sbi_server, each);
	vm_catch_guest_traps(vm);
	all = can_have(each[0], &on[0]);
	on[1] = 0;
	on[2] = all;
	for_each_ext(ext) {
		if (is_range(ext) || !(all & 1UL << ext->id))
			continue;
		on[n++] = 1UL << ext->id;
		on[n++] = all & ~(1UL << ext->id);
	}
	for (i = 0; i < n; i++) {
		if (i) {
			vcpu_set_reg(each[i], MULTI_REG(DIS, 0), ~on[i] & all & ~UCALLS);
			vcpu_set_reg(each[i], MULTI_REG(EN, 0), on[i]);
		}
		assert_found(each[i], on[i]);
	}
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
