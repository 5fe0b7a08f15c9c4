// SPDX-License-Identifier: GPL-2.0
/* on-c: pass */
/* also-on: plain: pass */
/* also-on: svade: pass */
/* also-on: max: pass */
/* covers: isa.rs isa/table.rs isa/set.rs vcpu/onereg/config.rs vcpu/onereg/table.rs */
/*
 * The ISA extension registers of KVM_{GET,SET}_ONE_REG: every id, single and
 * multi, before and after the first run, against what /proc/cpuinfo says the
 * host has.
 */
#include <sys/prctl.h>
#include <sys/wait.h>

#include "kvm_rs_util.h"

/* What userspace may do with an extension that the host has. */
enum policy {
	FIXED,			/* on, and nothing can turn it off */
	OPTIONAL,		/* on, can be turned off */
	NEEDS_SMSTATEEN,	/* on, can be turned off when the host has Smstateen */
	NEEDS_SVADU,		/* on, can be turned off when the host has Svadu */
	NEVER,			/* off, and cannot be turned on */
};

struct isa_ext {
	const char *name;	/* in /proc/cpuinfo, of what the host must have */
	enum policy policy;
	int id;
	bool known;
};

#define __ROW(ext, cpuinfo, pol) \
	[KVM_RISCV_ISA_EXT_##ext] = { cpuinfo, pol, KVM_RISCV_ISA_EXT_##ext, true }

static const struct isa_ext isa_exts[] = {
	__ROW(A, "a", FIXED),
	__ROW(C, "c", FIXED),
	__ROW(D, "d", OPTIONAL),
	__ROW(F, "f", OPTIONAL),
	__ROW(H, "h", NEVER),
	__ROW(I, "i", FIXED),
	__ROW(M, "m", FIXED),
	__ROW(SVPBMT, "svpbmt", OPTIONAL),
	__ROW(SSTC, "sstc", FIXED),
	__ROW(SVINVAL, "svinval", FIXED),
	__ROW(ZIHINTPAUSE, "zihintpause", FIXED),
	__ROW(ZICBOM, "zicbom", OPTIONAL),
	__ROW(ZICBOZ, "zicboz", OPTIONAL),
	__ROW(ZBB, "zbb", FIXED),
	__ROW(SSAIA, "ssaia", NEEDS_SMSTATEEN),
	__ROW(V, "v", OPTIONAL),
	__ROW(SVNAPOT, "svnapot", FIXED),
	__ROW(ZBA, "zba", FIXED),
	__ROW(ZBS, "zbs", FIXED),
	__ROW(ZICNTR, "zicntr", FIXED),
	__ROW(ZICSR, "zicsr", FIXED),
	__ROW(ZIFENCEI, "zifencei", FIXED),
	__ROW(ZIHPM, "zihpm", FIXED),
	__ROW(SMSTATEEN, "smstateen", OPTIONAL),
	__ROW(ZICOND, "zicond", FIXED),
	__ROW(ZBC, "zbc", FIXED),
	__ROW(ZBKB, "zbkb", FIXED),
	__ROW(ZBKC, "zbkc", FIXED),
	__ROW(ZBKX, "zbkx", FIXED),
	__ROW(ZKND, "zknd", FIXED),
	__ROW(ZKNE, "zkne", FIXED),
	__ROW(ZKNH, "zknh", FIXED),
	__ROW(ZKR, "zkr", FIXED),
	__ROW(ZKSED, "zksed", FIXED),
	__ROW(ZKSH, "zksh", FIXED),
	__ROW(ZKT, "zkt", FIXED),
	__ROW(ZVBB, "zvbb", FIXED),
	__ROW(ZVBC, "zvbc", FIXED),
	__ROW(ZVKB, "zvkb", FIXED),
	__ROW(ZVKG, "zvkg", FIXED),
	__ROW(ZVKNED, "zvkned", FIXED),
	__ROW(ZVKNHA, "zvknha", FIXED),
	__ROW(ZVKNHB, "zvknhb", FIXED),
	__ROW(ZVKSED, "zvksed", FIXED),
	__ROW(ZVKSH, "zvksh", FIXED),
	__ROW(ZVKT, "zvkt", FIXED),
	__ROW(ZFH, "zfh", FIXED),
	__ROW(ZFHMIN, "zfhmin", FIXED),
	__ROW(ZIHINTNTL, "zihintntl", FIXED),
	__ROW(ZVFH, "zvfh", FIXED),
	__ROW(ZVFHMIN, "zvfhmin", FIXED),
	__ROW(ZFA, "zfa", FIXED),
	__ROW(ZTSO, "ztso", FIXED),
	__ROW(ZACAS, "zacas", FIXED),
	__ROW(SSCOFPMF, "sscofpmf", FIXED),
	__ROW(ZIMOP, "zimop", FIXED),
	__ROW(ZCA, "zca", FIXED),
	__ROW(ZCB, "zcb", FIXED),
	__ROW(ZCD, "zcd", FIXED),
	__ROW(ZCF, "zcf", FIXED),
	__ROW(ZCMOP, "zcmop", FIXED),
	__ROW(ZAWRS, "zawrs", FIXED),
	/* What masks pointers of VS-mode is the host's Ssnpm. */
	__ROW(SMNPM, "ssnpm", OPTIONAL),
	__ROW(SSNPM, "ssnpm", FIXED),
	__ROW(SVADE, "svade", NEEDS_SVADU),
	__ROW(SVADU, "svadu", OPTIONAL),
	__ROW(SVVPTC, "svvptc", FIXED),
	__ROW(ZABHA, "zabha", FIXED),
	__ROW(ZICCRSE, "ziccrse", FIXED),
	__ROW(ZAAMO, "zaamo", FIXED),
	__ROW(ZALRSC, "zalrsc", FIXED),
	__ROW(ZICBOP, "zicbop", FIXED),
	__ROW(ZFBFMIN, "zfbfmin", FIXED),
	__ROW(ZVFBFMIN, "zvfbfmin", FIXED),
	__ROW(ZVFBFWMA, "zvfbfwma", FIXED),
	__ROW(ZCLSD, "zclsd", OPTIONAL),
	__ROW(ZILSD, "zilsd", OPTIONAL),
	__ROW(ZALASR, "zalasr", FIXED),
	__ROW(ZICFILP, "zicfilp", OPTIONAL),
	__ROW(ZICFISS, "zicfiss", OPTIONAL),
};

#define for_each_ext(ext) \
	for (ext = isa_exts; ext < isa_exts + ARRAY_SIZE(isa_exts); ext++)

#define MULTI_REG(sub, word) \
	__kvm_reg_id(KVM_REG_RISCV_ISA_EXT, KVM_REG_RISCV_ISA_MULTI_##sub, word, \
		     KVM_REG_SIZE_ULONG)

/* Whether a VM can have it: Ssaia only with the in-kernel irqchip. */
static bool is_offered(const struct isa_ext *ext)
{
	if (ext->id == KVM_RISCV_ISA_EXT_SSAIA && !kvm_check_cap(KVM_CAP_IRQCHIP))
		return false;
	return host_has_isa(ext->name);
}

static enum policy policy_of(const struct isa_ext *ext)
{
	switch (ext->policy) {
	case NEEDS_SMSTATEEN:
		return host_has_isa("smstateen") ? OPTIONAL : FIXED;
	case NEEDS_SVADU:
		return host_has_isa("svadu") ? OPTIONAL : FIXED;
	default:
		/* Sscofpmf's interrupt needs the filtering of Ssaia. */
		if (ext->id == KVM_RISCV_ISA_EXT_SSCOFPMF &&
		    !is_offered(&isa_exts[KVM_RISCV_ISA_EXT_SSAIA]))
			return NEVER;
		return ext->policy;
	}
}

static int get_ext(struct kvm_vcpu *vcpu, u64 id, u64 *val)
{
	*val = 0x5a5a;
	return __vcpu_get_reg(vcpu, RISCV_ISA_EXT_REG(id), val);
}

static int set_ext(struct kvm_vcpu *vcpu, u64 id, u64 val)
{
	return __vcpu_set_reg(vcpu, RISCV_ISA_EXT_REG(id), val);
}

static void assert_ext(struct kvm_vcpu *vcpu, const struct isa_ext *ext, u64 want)
{
	u64 val;

	TEST_ASSERT(!get_ext(vcpu, ext->id, &val), "%s: get failed: %s", ext->name,
		    strerror(errno));
	TEST_ASSERT(val == want, "%s: reads %lu, not %lu", ext->name, (unsigned long)val,
		    (unsigned long)want);
}

#define assert_set(vcpu, ext, val, err)						\
do {										\
	int __r = set_ext(vcpu, (ext)->id, val);				\
										\
	TEST_ASSERT((err) ? __r == -1 && errno == (err) : !__r,			\
		    "%s: set to %ld: wanted errno %d, got %d, errno %d",	\
		    (ext)->name, (long)(val), err, __r, errno);			\
} while (0)

static void guest_idle(void)
{
	for (;;)
		GUEST_SYNC1(0);
}

TEST(table_is_complete)
{
	const struct isa_ext *ext;

	for_each_ext(ext)
		TEST_ASSERT(ext->known, "id %ld has no row: teach this test",
			    (long)(ext - isa_exts));
}

/* What the host lacks is not there; what it has is on, but for H. */
TEST(get_matches_host)
{
	const struct isa_ext *ext;
	struct kvm_vcpu *vcpu;
	unsigned int have = 0;
	u64 val;

	vm_create_with_one_vcpu(&vcpu, guest_idle);

	for_each_ext(ext) {
		if (!is_offered(ext)) {
			TEST_ASSERT_ERRNO(get_ext(vcpu, ext->id, &val), ENOENT);
			continue;
		}
		assert_ext(vcpu, ext, policy_of(ext) != NEVER);
		have++;
	}
	TH_LOG("the host has %u of %zu extensions", have, ARRAY_SIZE(isa_exts));
}

TEST(set_follows_policy)
{
	const struct isa_ext *ext;
	struct kvm_vcpu *vcpu;

	vm_create_with_one_vcpu(&vcpu, guest_idle);

	for_each_ext(ext) {
		if (!is_offered(ext)) {
			assert_set(vcpu, ext, 0, ENOENT);
			assert_set(vcpu, ext, 1, ENOENT);
			assert_set(vcpu, ext, 2, ENOENT);
			assert_set(vcpu, ext, ~0UL, ENOENT);
			continue;
		}

		assert_set(vcpu, ext, 2, EINVAL);
		assert_set(vcpu, ext, ~0UL, EINVAL);
		assert_set(vcpu, ext, 1UL << 32, EINVAL);

		switch (policy_of(ext)) {
		case NEVER:
			assert_set(vcpu, ext, 0, 0);
			assert_set(vcpu, ext, 1, EINVAL);
			assert_ext(vcpu, ext, 0);
			break;
		case FIXED:
			assert_set(vcpu, ext, 1, 0);
			assert_set(vcpu, ext, 0, EINVAL);
			assert_ext(vcpu, ext, 1);
			break;
		default:
			/* D goes before F, as its number does. */
			assert_set(vcpu, ext, 1, 0);
			assert_set(vcpu, ext, 0, 0);
			assert_ext(vcpu, ext, 0);
			assert_set(vcpu, ext, 0, 0);
			break;
		}
	}

	/* And on again, F before D. */
	for (ext = &isa_exts[ARRAY_SIZE(isa_exts) - 1]; ext >= isa_exts; ext--) {
		if (!is_offered(ext) || policy_of(ext) != OPTIONAL)
			continue;
		assert_set(vcpu, ext, 1, 0);
		assert_ext(vcpu, ext, 1);
	}
}

TEST(unknown_ids)
{
	static const u64 ids[] = {
		ARRAY_SIZE(isa_exts), ARRAY_SIZE(isa_exts) + 1, 127, 128, 255,
		0x1000, 0x8000, 0xffff,
	};
	struct kvm_vcpu *vcpu;
	u64 val = 0, id;
	int i;

	vm_create_with_one_vcpu(&vcpu, guest_idle);

	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		TEST_ASSERT_ERRNO(get_ext(vcpu, ids[i], &val), ENOENT);
		TEST_ASSERT_ERRNO(set_ext(vcpu, ids[i], 0), ENOENT);
		TEST_ASSERT_ERRNO(set_ext(vcpu, ids[i], 1), ENOENT);
	}

	/* Words beyond the last, and a subtype that does not exist. */
	for (i = KVM_REG_RISCV_ISA_MULTI_REG_LAST + 1; i <= 0xffff; i = 2 * i + 1) {
		TEST_ASSERT_ERRNO(__vcpu_get_reg(vcpu, MULTI_REG(EN, i), &val), ENOENT);
		TEST_ASSERT_ERRNO(__vcpu_get_reg(vcpu, MULTI_REG(DIS, i), &val), ENOENT);
		TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, MULTI_REG(EN, i), 0), ENOENT);
		TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, MULTI_REG(DIS, i), 0), ENOENT);
	}
	id = __kvm_reg_id(KVM_REG_RISCV_ISA_EXT, 3UL << KVM_REG_RISCV_SUBTYPE_SHIFT, 0,
			  KVM_REG_SIZE_ULONG);
	TEST_ASSERT_ERRNO(__vcpu_get_reg(vcpu, id, &val), ENOENT);
	TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, id, 0), ENOENT);

	/* The size comes first. */
	id = RISCV_ISA_EXT_REG(KVM_RISCV_ISA_EXT_M) & ~KVM_REG_SIZE_MASK;
	TEST_ASSERT_ERRNO(__vcpu_get_reg(vcpu, id | KVM_REG_SIZE_U32, &val), EINVAL);
	TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, id | KVM_REG_SIZE_U32, 1), EINVAL);
}

TEST(multi_get_matches_single)
{
	struct kvm_vcpu *vcpu;
	u64 word, en, dis, val;
	int i;

	vm_create_with_one_vcpu(&vcpu, guest_idle);

	for (word = 0; word <= KVM_REG_RISCV_ISA_MULTI_REG_LAST; word++) {
		en = vcpu_get_reg(vcpu, MULTI_REG(EN, word));
		dis = vcpu_get_reg(vcpu, MULTI_REG(DIS, word));
		TEST_ASSERT(en == ~dis, "word %lu: enabled %#lx, disabled %#lx",
			    (unsigned long)word, (unsigned long)en, (unsigned long)dis);
		for (i = 0; i < 64; i++) {
			if (get_ext(vcpu, word * 64 + i, &val))
				val = 0;
			TEST_ASSERT((en >> i & 1) == val, "id %ld: multi %ld, single %ld",
				    (long)word * 64 + i, (long)(en >> i & 1), (long)val);
		}
		/* What was read can be written back. */
		TEST_ASSERT_OK(__vcpu_set_reg(vcpu, MULTI_REG(EN, word), en));
		TEST_ASSERT_EQ(vcpu_get_reg(vcpu, MULTI_REG(EN, word)), en);
	}
}

/*
 * A multi write does to every extension what a single write would, and changes
 * nothing that a single write would refuse to change.  Whether it then reports
 * the refusal is left open: the C module does not.
 */
TEST(multi_set_follows_policy)
{
	const struct isa_ext *ext;
	struct kvm_vcpu *vcpu;
	u64 word, off[2] = {}, val;

	vm_create_with_one_vcpu(&vcpu, guest_idle);

	for_each_ext(ext)
		if (is_offered(ext) && policy_of(ext) == OPTIONAL)
			off[ext->id / 64] |= KVM_REG_RISCV_ISA_MULTI_MASK(ext->id);

	for (word = 0; word <= KVM_REG_RISCV_ISA_MULTI_REG_LAST; word++)
		TEST_ASSERT_OK(__vcpu_set_reg(vcpu, MULTI_REG(DIS, word), off[word]));
	for_each_ext(ext)
		if (is_offered(ext))
			assert_ext(vcpu, ext, policy_of(ext) == FIXED);

	for (word = 0; word <= KVM_REG_RISCV_ISA_MULTI_REG_LAST; word++)
		TEST_ASSERT_OK(__vcpu_set_reg(vcpu, MULTI_REG(EN, word), off[word]));
	for_each_ext(ext)
		if (is_offered(ext))
			assert_ext(vcpu, ext, policy_of(ext) != NEVER);

	/* Refusals: one at a time, so that no other change is in the way. */
	for_each_ext(ext) {
		bool dis = policy_of(ext) == FIXED;
		u64 id = dis ? MULTI_REG(DIS, ext->id / 64) : MULTI_REG(EN, ext->id / 64);
		int ret, want = ENOENT;

		if (is_offered(ext)) {
			if (policy_of(ext) == OPTIONAL)
				continue;
			want = EINVAL;
		}
		ret = __vcpu_set_reg(vcpu, id, KVM_REG_RISCV_ISA_MULTI_MASK(ext->id));
		TEST_ASSERT(!ret || errno == want, "%s: refused with errno %d, not %d",
			    ext->name, errno, want);
		if (want == EINVAL)
			assert_ext(vcpu, ext, dis);
		else
			TEST_ASSERT_ERRNO(get_ext(vcpu, ext->id, &val), ENOENT);
	}
}

TEST(after_first_run)
{
	const struct isa_ext *ext, *off = NULL;
	struct kvm_vcpu *vcpu;
	u64 word, en, val;

	vm_create_with_one_vcpu(&vcpu, guest_idle);

	/* One that is off when the vCPU first runs. */
	for_each_ext(ext)
		if (is_offered(ext) && policy_of(ext) == OPTIONAL &&
		    ext->id != KVM_RISCV_ISA_EXT_F)
			off = ext;
	if (off)
		assert_set(vcpu, off, 0, 0);
	run_to_sync(vcpu);

	for_each_ext(ext) {
		bool on = policy_of(ext) != NEVER && ext != off;

		if (!is_offered(ext)) {
			TEST_ASSERT_ERRNO(get_ext(vcpu, ext->id, &val), ENOENT);
			assert_set(vcpu, ext, 0, ENOENT);
			assert_set(vcpu, ext, 1, ENOENT);
			continue;
		}
		assert_ext(vcpu, ext, on);
		assert_set(vcpu, ext, on, 0);
		assert_set(vcpu, ext, !on, EBUSY);
		/* Not a value at all: refused either way. */
		TEST_ASSERT(set_ext(vcpu, ext->id, 2) == -1 && errno == EBUSY,
			    "%s: set to 2 after the first run: errno %d", ext->name, errno);
		assert_ext(vcpu, ext, on);
	}

	for (word = 0; word <= KVM_REG_RISCV_ISA_MULTI_REG_LAST; word++) {
		en = vcpu_get_reg(vcpu, MULTI_REG(EN, word));
		TEST_ASSERT_OK(__vcpu_set_reg(vcpu, MULTI_REG(EN, word), en));
		/* Refused, whether it says so or not. */
		__vcpu_set_reg(vcpu, MULTI_REG(DIS, word), en);
		TEST_ASSERT_EQ(vcpu_get_reg(vcpu, MULTI_REG(EN, word)), en);
	}
	run_to_sync(vcpu);
}

static void assert_fixed(struct __test_metadata *_metadata, int id, const char *shown)
{
	const struct isa_ext *ext = &isa_exts[id];
	struct kvm_vcpu *vcpu;
	u64 val;

	if (!is_offered(ext))
		SKIP(return, "the host lacks %s", shown);

	vm_create_with_one_vcpu(&vcpu, guest_idle);
	TEST_ASSERT(!get_ext(vcpu, id, &val), "%s: get failed", shown);
	TH_LOG("%s: get: %lu", shown, (unsigned long)val);
	TEST_ASSERT_EQ(val, 1);
	assert_set(vcpu, ext, 0, EINVAL);
	TH_LOG("%s: disable: EINVAL", shown);
	assert_set(vcpu, ext, 1, 0);
	TH_LOG("%s: enable: 0", shown);
	assert_ext(vcpu, ext, 1);
	run_to_sync(vcpu);
	assert_set(vcpu, ext, 0, EBUSY);
	assert_set(vcpu, ext, 1, 0);
	assert_ext(vcpu, ext, 1);
}

TEST(zaamo)
{
	assert_fixed(_metadata, KVM_RISCV_ISA_EXT_ZAAMO, "Zaamo");
}

TEST(zalrsc)
{
	assert_fixed(_metadata, KVM_RISCV_ISA_EXT_ZALRSC, "Zalrsc");
}

TEST(zcmop)
{
	assert_fixed(_metadata, KVM_RISCV_ISA_EXT_ZCMOP, "Zcmop");
}

/* No sequence of disables leaves an extension without what it needs. */
TEST(dependencies)
{
	static const struct {
		int ext, needs;
	} deps[] = {
		{ KVM_RISCV_ISA_EXT_ZACAS, KVM_RISCV_ISA_EXT_ZAAMO },
		{ KVM_RISCV_ISA_EXT_ZABHA, KVM_RISCV_ISA_EXT_ZAAMO },
		{ KVM_RISCV_ISA_EXT_ZCMOP, KVM_RISCV_ISA_EXT_ZCA },
		{ KVM_RISCV_ISA_EXT_ZCB, KVM_RISCV_ISA_EXT_ZCA },
		{ KVM_RISCV_ISA_EXT_C, KVM_RISCV_ISA_EXT_ZCA },
		{ KVM_RISCV_ISA_EXT_A, KVM_RISCV_ISA_EXT_ZAAMO },
		{ KVM_RISCV_ISA_EXT_A, KVM_RISCV_ISA_EXT_ZALRSC },
		{ KVM_RISCV_ISA_EXT_ZBC, KVM_RISCV_ISA_EXT_ZBKC },
		{ KVM_RISCV_ISA_EXT_SSCOFPMF, KVM_RISCV_ISA_EXT_SSAIA },
	};
	const struct isa_ext *ext;
	struct kvm_vcpu *vcpu;
	u64 has, needs;
	int i, pass;

	vm_create_with_one_vcpu(&vcpu, guest_idle);

	for (pass = 0; pass < 2; pass++) {
		for (i = 0; i < ARRAY_SIZE(deps); i++) {
			/* Not every host kernel derives the part from the whole. */
			if (get_ext(vcpu, deps[i].ext, &has) || !has ||
			    !is_offered(&isa_exts[deps[i].needs]))
				continue;
			/* Ssaia goes with Smstateen; its users' row is for the table. */
			if (pass && deps[i].needs == KVM_RISCV_ISA_EXT_SSAIA)
				continue;
			TEST_ASSERT(!get_ext(vcpu, deps[i].needs, &needs) && needs,
				    "%s without %s", isa_exts[deps[i].ext].name,
				    isa_exts[deps[i].needs].name);
		}
		for_each_ext(ext)
			set_ext(vcpu, ext->id, 0);
	}
}

/* The single-letter mask of the CONFIG register agrees. */
TEST(config_isa)
{
	static const char letters[] = "acdfhimv";
	struct kvm_vcpu *vcpu;
	u64 isa, val;
	int i, j;

	vm_create_with_one_vcpu(&vcpu, guest_idle);

	isa = vcpu_get_reg(vcpu, RISCV_CONFIG_REG(isa));
	for (i = 0; i < ARRAY_SIZE(isa_exts); i++) {
		for (j = 0; letters[j]; j++) {
			if (strlen(isa_exts[i].name) != 1 || isa_exts[i].name[0] != letters[j])
				continue;
			if (get_ext(vcpu, i, &val))
				val = 0;
			TEST_ASSERT((isa >> (letters[j] - 'a') & 1) == val,
				    "%c: config %#lx, single %ld", letters[j],
				    (unsigned long)isa, (long)val);
		}
	}
	TEST_ASSERT(!(isa >> 26), "config isa has more than letters: %#lx", (unsigned long)isa);

	TEST_ASSERT_OK(__vcpu_set_reg(vcpu, RISCV_CONFIG_REG(isa), isa));
	TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, RISCV_CONFIG_REG(isa), isa | 1 << 26), EINVAL);
	run_to_sync(vcpu);
	TEST_ASSERT_OK(__vcpu_set_reg(vcpu, RISCV_CONFIG_REG(isa), isa));
	TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, RISCV_CONFIG_REG(isa), isa & ~(1UL << 5)), EBUSY);
}

#define WITHOUT_VECTORS	"without-vectors"

/* V in a process that may not use it: the guest has none, and gets none. */
static int without_vectors(void)
{
	const struct isa_ext *v = &isa_exts[KVM_RISCV_ISA_EXT_V];
	u64 multi = MULTI_REG(EN, v->id / 64), isa;
	struct kvm_vcpu *vcpu;

	vm_create_with_one_vcpu(&vcpu, guest_idle);

	assert_ext(vcpu, v, 0);
	assert_set(vcpu, v, 0, 0);
	assert_set(vcpu, v, 1, EINVAL);
	assert_set(vcpu, v, 2, EINVAL);
	assert_ext(vcpu, v, 0);
	__vcpu_set_reg(vcpu, multi, KVM_REG_RISCV_ISA_MULTI_MASK(v->id));
	assert_ext(vcpu, v, 0);
	isa = vcpu_get_reg(vcpu, RISCV_CONFIG_REG(isa));
	TEST_ASSERT_OK(__vcpu_set_reg(vcpu, RISCV_CONFIG_REG(isa), isa | 1 << ('v' - 'a')));
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_CONFIG_REG(isa)), isa);

	run_to_sync(vcpu);
	assert_set(vcpu, v, 0, 0);
	assert_set(vcpu, v, 1, EBUSY);
	assert_ext(vcpu, v, 0);
	return 0;
}

TEST(vector_needs_permission)
{
	int status;
	pid_t pid;

	if (!host_has_isa("v"))
		SKIP(return, "the host lacks V");

	pid = fork();
	TEST_ASSERT(pid >= 0, "fork");
	if (!pid) {
		/* From the next program on: nobody can forbid it to himself. */
		prctl(PR_RISCV_V_SET_CONTROL, PR_RISCV_V_VSTATE_CTRL_OFF << 2, 0, 0, 0);
		execl("/proc/self/exe", "/proc/self/exe", WITHOUT_VECTORS, NULL);
		_exit(1);
	}
	TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
	TEST_ASSERT(WIFEXITED(status) && !WEXITSTATUS(status), "it failed: 0x%x", status);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	if (argc == 2 && !strcmp(argv[1], WITHOUT_VECTORS))
		return without_vectors();
	return test_harness_run(argc, argv);
}
