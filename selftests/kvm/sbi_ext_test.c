// SPDX-License-Identifier: GPL-2.0-only
/* on-c: fail: S4, S5, S7 */
/*
 * SBI extensions as userspace sees them: the registers that switch them, what
 * leaves for userspace and how it comes back, and the state they keep.
 */
#include "kvm_rs_util.h"

#define STUB_GPA	0x20000000UL

#define MULTI_REG(sub, word) \
	__kvm_reg_id(KVM_REG_RISCV_SBI_EXT, KVM_REG_RISCV_SBI_MULTI_##sub, word, KVM_REG_SIZE_ULONG)
#define STA_REG(name) \
	__kvm_reg_id(KVM_REG_RISCV_SBI_STATE, KVM_REG_RISCV_SBI_STA, \
		     KVM_REG_RISCV_SBI_STA_REG(name), KVM_REG_SIZE_ULONG)

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

static struct kvm_vcpu *caller_create(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = vm_create_with_one_vcpu(&vcpu, guest_sbi_server);

	vm_catch_guest_traps(vm);
	return vcpu;
}

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

TEST(multi)
{
	struct kvm_vcpu *vcpu = caller_create();
	const struct sbi_ext *ext;
	u64 all = 0, on = 0, val;

	for_each_ext(ext) {
		if (!has_ext(vcpu, ext))
			continue;
		all |= 1UL << ext->id;
		if (!ext->off)
			on |= 1UL << ext->id;
	}
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
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, MULTI_REG(EN, 0)), all & ~(1UL << KVM_RISCV_SBI_EXT_TIME));

	TEST_ASSERT_ERRNO(__vcpu_get_reg(vcpu, MULTI_REG(EN, 1), &val), ENOENT);
	TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, MULTI_REG(EN, 1), 0), ENOENT);
	TEST_ASSERT_ERRNO(__vcpu_get_reg(vcpu, MULTI_REG(DIS, 0xffff), &val), ENOENT);
	TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, MULTI_REG(DIS, 0xffff), 0), ENOENT);
	val = __kvm_reg_id(KVM_REG_RISCV_SBI_EXT, 3UL << KVM_REG_RISCV_SUBTYPE_SHIFT, 0,
			   KVM_REG_SIZE_ULONG);
	TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, val, 0), ENOENT);
}

TEST(after_first_run)
{
	struct kvm_vcpu *vcpu = caller_create();
	const struct sbi_ext *ext;
	u64 en;

	assert_sbi(0, vcpu, SBI_EXT_BASE, 0);
	for_each_ext(ext) {
		if (!has_ext(vcpu, ext))
			continue;
		assert_ext(vcpu, ext, !ext->off);
		TEST_ASSERT_ERRNO(set_ext(vcpu, ext->id, ext->off), EBUSY);
		assert_ext(vcpu, ext, !ext->off);
	}
	en = vcpu_get_reg(vcpu, MULTI_REG(EN, 0));
	__vcpu_set_reg(vcpu, MULTI_REG(DIS, 0), en);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, MULTI_REG(EN, 0)), en);
}

/* What is switched off is not there for the guest; the base always is. */
TEST(disabled_is_not_there)
{
	const struct sbi_ext *ext;
	struct kvm_vcpu *vcpu = caller_create();

	/* All but the one that ucalls are made of. */
	vcpu_set_reg(vcpu, MULTI_REG(DIS, 0), vcpu_get_reg(vcpu, MULTI_REG(EN, 0)) &
		     ~(1UL << KVM_RISCV_SBI_EXT_EXPERIMENTAL));
	TEST_ASSERT_EQ(assert_sbi(0, vcpu, SBI_EXT_BASE, 1), 3);
	for_each_ext(ext) {
		if (ext->id == KVM_RISCV_SBI_EXT_EXPERIMENTAL)
			continue;
		/* For a vendor's extensions userspace answers, there or not. */
		TEST_ASSERT(ext->id == KVM_RISCV_SBI_EXT_VENDOR ||
			    !assert_sbi(0, vcpu, SBI_EXT_BASE, 3, ext->eid),
			    "%s is there", ext->name);
		assert_sbi(SBI_ERR_NOT_SUPPORTED, vcpu, ext->eid, 0);
	}
}

/* The call leaves with all its arguments and returns what userspace says. */
static void check_forward(struct kvm_vcpu *vcpu, u64 ext, u64 fid)
{
	u64 arg[6] = { 0x1111, ~0UL, 1UL << 63, 4, 5, 0x123456789abcdef0 };
	struct kvm_run *run = vcpu->run;
	struct sbiret ret;
	int i;

	sbi_ask(vcpu, ext, fid, arg);
	vcpu_run(vcpu);
	TEST_ASSERT(run->exit_reason == KVM_EXIT_RISCV_SBI && run->riscv_sbi.extension_id == ext &&
		    run->riscv_sbi.function_id == fid, "exit %d, not SBI 0x%lx", run->exit_reason,
		    (unsigned long)ext);
	for (i = 0; i < 6; i++)
		TEST_ASSERT_EQ(run->riscv_sbi.args[i], arg[i]);
	/* If userspace knows nothing of it. */
	TEST_ASSERT_EQ((long)run->riscv_sbi.ret[0], SBI_ERR_NOT_SUPPORTED);
	TEST_ASSERT_EQ(run->riscv_sbi.ret[1], 0);
	run->riscv_sbi.ret[0] = -77;
	run->riscv_sbi.ret[1] = 0xfedcba9876543210;
	ret = sbi_answer(vcpu, NULL);
	TEST_ASSERT_EQ(ret.error, -77);
	TEST_ASSERT_EQ((u64)ret.value, 0xfedcba9876543210);
}

TEST(forwarded)
{
	struct kvm_vcpu *vcpu = caller_create();
	u64 probe;

	vcpu_set_reg(vcpu, RISCV_SBI_EXT_REG(KVM_RISCV_SBI_EXT_DBCN), 1);
	vcpu_set_reg(vcpu, RISCV_SBI_EXT_REG(KVM_RISCV_SBI_EXT_MPXY), 1);
	check_forward(vcpu, SBI_EXT_EXPERIMENTAL_START, 7);
	check_forward(vcpu, SBI_EXT_EXPERIMENTAL_END - 1, 0);
	check_forward(vcpu, 0x09000000, 1);
	check_forward(vcpu, 0x09ffffff, 0);
	check_forward(vcpu, SBI_EXT_DBCN, 0);
	check_forward(vcpu, SBI_EXT_DBCN, 2);
	check_forward(vcpu, SBI_EXT_MPXY, 3);
	TEST_ASSERT(assert_sbi(0, vcpu, SBI_EXT_BASE, 3, SBI_EXT_DBCN), "DBCN is not there");

	/* Userspace answers for what only it knows. */
	for (probe = 0x08000000; probe <= 0x09000000; probe += 0x01000000) {
		sbi_ask(vcpu, SBI_EXT_BASE, 3, (u64[6]){ probe });
		vcpu_run(vcpu);
		TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_RISCV_SBI);
		TEST_ASSERT_EQ(vcpu->run->riscv_sbi.extension_id, SBI_EXT_BASE);
		vcpu->run->riscv_sbi.ret[0] = 0;
		vcpu->run->riscv_sbi.ret[1] = 42;
		TEST_ASSERT_EQ(sbi_answer(vcpu, NULL).value, 42);
	}
}

/*
 * A vCPU that may suspend, and the code at which it resumes without translation;
 * NULL if the module has no system suspend.
 */
static struct kvm_vcpu *suspend_create(void)
{
	static const u32 resume[] = {
		0x090008b7,	/* lui a7, 0x9000: a vendor's extension */
		0x07b00813,	/* li a6, 123 */
		0x00000073,	/* ecall */
		0x0000006f,	/* j . */
	};
	struct kvm_vcpu *vcpu = caller_create();
	u64 val;
	void *mem;

	if (get_ext(vcpu, KVM_RISCV_SBI_EXT_SUSP, &val))
		return NULL;

	mem = mmap_at(SIZE_4K, SIZE_4K, 0, MAP_ANON_PRIVATE, -1);
	memcpy(mem, resume, sizeof(resume));
	vm_set_user_memory_region(vcpu->vm, 1, 0, STUB_GPA, SIZE_4K, mem);
	vcpu_set_reg(vcpu, RISCV_SBI_EXT_REG(KVM_RISCV_SBI_EXT_SUSP), 1);
	return vcpu;
}

static void ask_suspend(struct kvm_vcpu *vcpu)
{
	sbi_ask(vcpu, SBI_EXT_SUSP, 0, (u64[6]){ 0, STUB_GPA, 0x6f7061 });
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_RISCV_SBI);
	TEST_ASSERT_EQ(vcpu->run->riscv_sbi.extension_id, SBI_EXT_SUSP);
	TEST_ASSERT_EQ(vcpu->run->riscv_sbi.args[1], STUB_GPA);
}

TEST(suspend_and_resume)
{
	struct kvm_vcpu *vcpu;

	vcpu = suspend_create();
	if (!vcpu)
		SKIP(return, "the module has no system suspend");

	assert_sbi(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_SUSP, 0, 1, STUB_GPA, 0);
	assert_sbi(SBI_ERR_INVALID_ADDRESS, vcpu, SBI_EXT_SUSP, 0, 0, 1UL << 40, 0);
	assert_sbi(SBI_ERR_NOT_SUPPORTED, vcpu, SBI_EXT_SUSP, 1, 0, 0, 0);
	ask_suspend(vcpu);
	vcpu->run->riscv_sbi.ret[0] = 0;
	TEST_ASSERT(!vcpu_run_limited(vcpu, 2000), "KVM_RUN: %s", strerror(errno));
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_RISCV_SBI);
	TEST_ASSERT_EQ(vcpu->run->riscv_sbi.function_id, 123);
	TEST_ASSERT_EQ(vcpu->run->riscv_sbi.args[0], 0);
	TEST_ASSERT_EQ(vcpu->run->riscv_sbi.args[1], 0x6f7061);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(satp)), 0);
}

TEST(suspend_needs_others_stopped)
{
	struct kvm_vcpu *vcpu;
	struct kvm_mp_state on = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvm_vcpu *other;

	vcpu = suspend_create();
	if (!vcpu)
		SKIP(return, "the module has no system suspend");

	other = __vm_vcpu_add(vcpu->vm, 1);
	vcpu_mp_state_set(other, &on);
	assert_sbi(SBI_ERR_DENIED, vcpu, SBI_EXT_SUSP, 0, 0, STUB_GPA, 0);
}

/* A suspend that userspace refuses is a call that failed, no more. */
TEST(s5_suspend_refused)
{
	struct kvm_vcpu *vcpu;
	struct ucall uc;
	u64 satp;

	vcpu = suspend_create();
	if (!vcpu)
		SKIP(return, "the module has no system suspend");

	satp = vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(satp));
	ask_suspend(vcpu);
	vcpu->run->riscv_sbi.ret[0] = SBI_ERR_DENIED;
	vcpu->run->riscv_sbi.ret[1] = 0;
	TEST_ASSERT(!vcpu_run_limited(vcpu, 2000), "KVM_RUN: %s", strerror(errno));
	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_SYNC, "the guest is not where it was");
	TEST_ASSERT_EQ((long)uc.args[0], SBI_ERR_DENIED);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(satp)), satp);
}

/* Steal time's address survives a restore in any order. */
TEST(s4_sta_restore)
{
	struct kvm_vcpu *vcpu = caller_create();
	u64 val;

	if (get_ext(vcpu, KVM_RISCV_SBI_EXT_STA, &val))
		SKIP(return, "the module has no steal time");

	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, STA_REG(shmem_lo)), ~0UL);
	vcpu_set_reg(vcpu, STA_REG(shmem_hi), 0);
	vcpu_set_reg(vcpu, STA_REG(shmem_lo), 0x1240);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, STA_REG(shmem_lo)), 0x1240);
	TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, STA_REG(shmem_lo), 0x1241), EINVAL);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, STA_REG(shmem_lo)), 0x1240);

	vcpu_set_reg(vcpu, STA_REG(shmem_lo), 0x2280);
	vcpu_set_reg(vcpu, STA_REG(shmem_hi), 0);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, STA_REG(shmem_lo)), 0x2280);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, STA_REG(shmem_hi)), 0);
}

/* Userspace that takes away what is behind steal time harms itself alone. */
TEST(s7_sta_unmapped_quietly)
{
	struct kvm_vcpu *vcpu = caller_create();
	void *mem = mmap_at(SIZE_4K, SIZE_4K, 0, MAP_ANON_PRIVATE, -1);
	int kmsg = kmsg_open();
	u64 val;

	if (get_ext(vcpu, KVM_RISCV_SBI_EXT_STA, &val))
		SKIP(return, "the module has no steal time");

	vm_set_user_memory_region(vcpu->vm, 1, 0, STUB_GPA, SIZE_4K, mem);
	assert_sbi(0, vcpu, SBI_EXT_STA, 0, STUB_GPA, 0, 0);
	assert_sbi(0, vcpu, SBI_EXT_BASE, 0);
	munmap(mem, SIZE_4K);
	assert_sbi(0, vcpu, SBI_EXT_BASE, 0);
	assert_sbi(0, vcpu, SBI_EXT_BASE, 0);
	kmsg_assert_quiet(kmsg);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
