// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: M25, M26, N51, N52 */
/* covers: vcpu/onereg.rs vcpu/onereg/id.rs vcpu/onereg/table.rs
 * vcpu/onereg/state.rs vcpu/onereg/units.rs arch/supervisor.rs
 * kernel_ext/uaccess.rs */
/*
 * KVM_{GET,SET}_ONE_REG: what is refused, what is kept, and that the guest
 * gets what was set.  The ISA extension registers are in isa_ext_test, the SBI
 * ones in sbi_ext_test.
 */
#include "kvm_rs_util.h"

#define AS_SIZE(id, size)	(((id) & ~KVM_REG_SIZE_MASK) | KVM_REG_SIZE_##size)
#define CONFIG_IDX(i)		__kvm_reg_id(KVM_REG_RISCV_CONFIG, 0, i, KVM_REG_SIZE_ULONG)
#define CORE_IDX(i)		__kvm_reg_id(KVM_REG_RISCV_CORE, 0, i, KVM_REG_SIZE_ULONG)
#define CSR_IDX(sub, i)		__kvm_reg_id(KVM_REG_RISCV_CSR, sub, i, KVM_REG_SIZE_ULONG)
#define TIMER_IDX(i)		__kvm_reg_id(KVM_REG_RISCV_TIMER, 0, i, KVM_REG_SIZE_U64)
#define FP_F_IDX(i)		__kvm_reg_id(KVM_REG_RISCV_FP_F, 0, i, KVM_REG_SIZE_U32)
#define FP_D_IDX(i)		__kvm_reg_id(KVM_REG_RISCV_FP_D, 0, i, KVM_REG_SIZE_U64)
#define FP_D_FCSR		__kvm_reg_id(KVM_REG_RISCV_FP_D, 0, \
					     KVM_REG_RISCV_FP_D_REG(fcsr), KVM_REG_SIZE_U32)
#define VECTOR_IDX(i)		__kvm_reg_id(KVM_REG_RISCV_VECTOR, 0, i, KVM_REG_SIZE_U64)


static void guest_idle(void)
{
	for (;;)
		GUEST_SYNC1(0);
}

static struct kvm_vcpu *idle_create(void)
{
	struct kvm_vcpu *vcpu;

	vm_create_with_one_vcpu(&vcpu, guest_idle);
	return vcpu;
}

#define assert_refused(vcpu, id, err)						\
do {										\
	u64 __buf[64] = {};							\
										\
	TEST_ASSERT(__vcpu_get_reg(vcpu, id, __buf) == -1 && errno == (err),	\
		    "get %s: wanted errno %d, got %d", #id, err, errno);	\
	TEST_ASSERT(__vcpu_set_reg_buf(vcpu, id, __buf) == -1 && errno == (err),\
		    "set %s: wanted errno %d, got %d", #id, err, errno);	\
} while (0)

static int __vcpu_set_reg_buf(struct kvm_vcpu *vcpu, u64 id, void *buf)
{
	struct kvm_one_reg reg = { .id = id, .addr = (u64)buf };

	return __vcpu_ioctl(vcpu, KVM_SET_ONE_REG, &reg);
}

TEST(config)
{
	struct kvm_vcpu *vcpu = idle_create();
	u64 ids[] = { RISCV_CONFIG_REG(mvendorid), RISCV_CONFIG_REG(marchid),
		      RISCV_CONFIG_REG(mimpid) };
	u64 blocks[] = { RISCV_CONFIG_REG(zicbom_block_size), RISCV_CONFIG_REG(zicboz_block_size),
			 RISCV_CONFIG_REG(zicbop_block_size) };
	u64 val;
	int i;

	for (i = 0; i < ARRAY_SIZE(blocks); i++) {
		if (__vcpu_get_reg(vcpu, blocks[i], &val) || !val)
			continue;
		TEST_ASSERT_OK(__vcpu_set_reg(vcpu, blocks[i], val));
		TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, blocks[i], val * 2), EINVAL);
		TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, blocks[i], val + 1), EINVAL);
	}

	val = vcpu_get_reg(vcpu, RISCV_CONFIG_REG(satp_mode));
	TEST_ASSERT(val >= 8 && val <= 10, "satp_mode %ld", (long)val);
	TEST_ASSERT_OK(__vcpu_set_reg(vcpu, RISCV_CONFIG_REG(satp_mode), val));
	TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, RISCV_CONFIG_REG(satp_mode), val + 1), EINVAL);

	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		vcpu_set_reg(vcpu, ids[i], 0x1234 + i);
		TEST_ASSERT_EQ(vcpu_get_reg(vcpu, ids[i]), 0x1234 + i);
	}
	run_to_sync(vcpu);
	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		TEST_ASSERT_OK(__vcpu_set_reg(vcpu, ids[i], 0x1234 + i));
		TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, ids[i], 1), EBUSY);
		TEST_ASSERT_EQ(vcpu_get_reg(vcpu, ids[i]), 0x1234 + i);
	}

	assert_refused(vcpu, CONFIG_IDX(sizeof(struct kvm_riscv_config) / 8), ENOENT);
	assert_refused(vcpu, CONFIG_IDX(0xffff), ENOENT);
	assert_refused(vcpu, AS_SIZE(RISCV_CONFIG_REG(isa), U32), EINVAL);
	assert_refused(vcpu, AS_SIZE(RISCV_CONFIG_REG(isa), U128), EINVAL);
}

TEST(core)
{
	u64 n = sizeof(struct kvm_riscv_core) / 8, i;
	struct kvm_vcpu *vcpu = idle_create();

	for (i = 0; i < n - 1; i++)
		vcpu_set_reg(vcpu, CORE_IDX(i), 0x1000 * i + 2);
	vcpu_set_reg(vcpu, RISCV_CORE_REG(mode), KVM_RISCV_MODE_U);
	for (i = 0; i < n - 1; i++)
		TEST_ASSERT_EQ(vcpu_get_reg(vcpu, CORE_IDX(i)), 0x1000 * i + 2);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_CORE_REG(mode)), KVM_RISCV_MODE_U);
	vcpu_set_reg(vcpu, RISCV_CORE_REG(mode), KVM_RISCV_MODE_S);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_CORE_REG(mode)), KVM_RISCV_MODE_S);

	assert_refused(vcpu, CORE_IDX(n), ENOENT);
	assert_refused(vcpu, CORE_IDX(0x8000), ENOENT);
	assert_refused(vcpu, CORE_IDX(0xffff), ENOENT);
	assert_refused(vcpu, AS_SIZE(RISCV_CORE_REG(regs.pc), U32), EINVAL);
	assert_refused(vcpu, AS_SIZE(RISCV_CORE_REG(regs.pc), U8), EINVAL);
}

TEST(csr)
{
	const u64 ids[] = {
		RISCV_GENERAL_CSR_REG(sscratch), RISCV_GENERAL_CSR_REG(sepc),
		RISCV_GENERAL_CSR_REG(stval), RISCV_GENERAL_CSR_REG(scause),
		RISCV_GENERAL_CSR_REG(stvec),
	};
	u64 n = sizeof(struct kvm_riscv_csr) / 8, sub, val;
	struct kvm_vcpu *vcpu = idle_create();
	int i;

	for (i = 0; i < ARRAY_SIZE(ids); i++)
		vcpu_set_reg(vcpu, ids[i], 0x40000 + 4 * i);
	run_to_sync(vcpu);
	for (i = 0; i < ARRAY_SIZE(ids); i++)
		TEST_ASSERT_EQ(vcpu_get_reg(vcpu, ids[i]), 0x40000 + 4 * i);

	assert_refused(vcpu, CSR_IDX(KVM_REG_RISCV_CSR_GENERAL, n), ENOENT);
	assert_refused(vcpu, CSR_IDX(KVM_REG_RISCV_CSR_GENERAL, 0xffff), ENOENT);
	assert_refused(vcpu, AS_SIZE(RISCV_GENERAL_CSR_REG(sip), U32), EINVAL);
	for (sub = 1; sub < 256; sub++) {
		u64 shifted = sub << KVM_REG_RISCV_SUBTYPE_SHIFT;

		if (sub > 3)
			assert_refused(vcpu, CSR_IDX(shifted, 0), ENOENT);
		assert_refused(vcpu, CSR_IDX(shifted, 7), ENOENT);
	}
	if (host_has_isa("smstateen")) {
		u64 id = CSR_IDX(KVM_REG_RISCV_CSR_SMSTATEEN, 0);

		TEST_ASSERT_OK(__vcpu_get_reg(vcpu, id, &val));
		vcpu = idle_create();
		vcpu_set_reg(vcpu, RISCV_ISA_EXT_REG(KVM_RISCV_ISA_EXT_SMSTATEEN), 0);
		assert_refused(vcpu, id, ENOENT);
	}
}

/* Fields of sstatus; which of them there are depends on the vCPU's extensions. */
#define SSTATUS_ALWAYS	(SR_SIE | SR_SPIE | SR_SPP | SR_SUM | 1UL << 19 /* MXR */)
#define SSTATUS_UXL	(3UL << 32)
#define SSTATUS_SPELP	(1UL << 23)

static bool has_ext(struct kvm_vcpu *vcpu, u64 ext)
{
	u64 val;

	return !__vcpu_get_reg(vcpu, RISCV_ISA_EXT_REG(ext), &val) && val;
}

static u64 sstatus_fields(struct kvm_vcpu *vcpu)
{
	u64 fields = SSTATUS_ALWAYS | SSTATUS_UXL;

	if (has_ext(vcpu, KVM_RISCV_ISA_EXT_F))
		fields |= SR_FS | SR_SD;
	if (has_ext(vcpu, KVM_RISCV_ISA_EXT_V))
		fields |= SR_VS | SR_SD;
	if (has_ext(vcpu, KVM_RISCV_ISA_EXT_ZICFILP))
		fields |= SSTATUS_SPELP;
	return fields;
}

/*
 * F1: QEMU's vsstatus takes any bit, and the machine then runs with it: with bit
 * 22, mstatus.TSR, the host's next SRET traps (differences-from-c N51).
 */
TEST(sstatus_has_its_fields_only)
{
	struct kvm_vcpu *vcpu = idle_create();
	u64 id = RISCV_GENERAL_CSR_REG(sstatus), fields = sstatus_fields(vcpu), val;
	int bit;

	for (bit = 0; bit < 64; bit++) {
		vcpu_set_reg(vcpu, id, 1UL << bit);
		val = vcpu_get_reg(vcpu, id);
		TEST_ASSERT(!(val & ~fields), "bit %d: sstatus is 0x%lx", bit, (long)val);
		TEST_ASSERT(bit == 32 || (val & SSTATUS_UXL) == 2UL << 32,
			    "bit %d: sstatus is 0x%lx", bit, (long)val);
		if (SSTATUS_ALWAYS & 1UL << bit)
			TEST_ASSERT(val & 1UL << bit, "bit %d: sstatus is 0x%lx", bit, (long)val);
	}
	vcpu_set_reg(vcpu, id, ~0UL);
	run_to_sync(vcpu);
	val = vcpu_get_reg(vcpu, id);
	TEST_ASSERT(!(val & ~fields), "sstatus is 0x%lx", (long)val);
	/* The host does as before, and so does the next guest. */
	run_to_sync(idle_create());
}

/* What no guest could write there by itself is not there (differences-from-c N51). */
TEST(registers_have_their_fields_only)
{
	const struct {
		u64 id, fields;
	} regs[] = {
		{ RISCV_CORE_REG(regs.pc), ~1UL },
		{ RISCV_GENERAL_CSR_REG(sie), IP_SSIP | IP_STIP | IP_SEIP | 1UL << 13 },
		{ RISCV_GENERAL_CSR_REG(sip), IP_SSIP | IP_STIP | IP_SEIP | 1UL << 13 },
		{ RISCV_GENERAL_CSR_REG(stvec), ~2UL },
		{ RISCV_GENERAL_CSR_REG(sepc), ~1UL },
		{ RISCV_GENERAL_CSR_REG(scounteren), 0xffffffffUL },
		{ RISCV_GENERAL_CSR_REG(senvcfg), 0x3000000fdUL },
		{ CSR_IDX(KVM_REG_RISCV_CSR_AIA, 0), 0xfffUL },
		{ CSR_IDX(KVM_REG_RISCV_CSR_AIA, 1), 0xffffff00ff00ff00UL },
		{ CSR_IDX(KVM_REG_RISCV_CSR_SMSTATEEN, 0), 7UL },
		{ CSR_IDX(KVM_REG_RISCV_CSR_ZICFISS, 0), ~3UL },
		{ VECTOR_IDX(KVM_REG_RISCV_VECTOR_CSR_REG(vtype)), 1UL << 63 | 0xff },
		{ VECTOR_IDX(KVM_REG_RISCV_VECTOR_CSR_REG(vcsr)), 7UL },
	};
	struct kvm_vcpu *vcpu = idle_create();
	u64 val;
	u32 fcsr;
	int i;

	for (i = 0; i < ARRAY_SIZE(regs); i++) {
		if (__vcpu_get_reg(vcpu, regs[i].id, &val))
			continue;
		vcpu_set_reg(vcpu, regs[i].id, ~0UL);
		val = vcpu_get_reg(vcpu, regs[i].id);
		TEST_ASSERT(!(val & ~regs[i].fields), "register %d is 0x%lx", i, (long)val);
	}
	if (host_has_isa("d")) {
		fcsr = ~0U;
		TEST_ASSERT_OK(__vcpu_set_reg_buf(vcpu, FP_D_FCSR, &fcsr));
		TEST_ASSERT_OK(__vcpu_get_reg(vcpu, FP_D_FCSR, &fcsr));
		TEST_ASSERT_EQ(fcsr, 0xff);
	}
}

/*
 * F2: hardware may ignore a write of what it cannot hold, and then keeps what is
 * there: on this CPU, that is another VM's (differences-from-c N52).
 */
TEST(nothing_is_left_of_another_vm)
{
	const u64 satp = RISCV_GENERAL_CSR_REG(satp), stvec = RISCV_GENERAL_CSR_REG(stvec);
	struct kvm_vcpu *victim = idle_create(), *vcpu = idle_create();
	u64 mode, val, own = vcpu_get_reg(vcpu, satp);
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	TEST_ASSERT_OK(sched_setaffinity(0, sizeof(one), &one));

	vcpu_set_reg(victim, satp, vcpu_get_reg(victim, satp) | 0x1234UL << 44);
	vcpu_set_reg(victim, stvec, 0x5a5a5a58);
	for (mode = 0xf; mode > 0xa; mode--) {
		vcpu_set_reg(vcpu, satp, mode << 60 | 1);
		vcpu_set_reg(vcpu, stvec, 0x40002);
		run_to_sync(victim);
		run_to_sync(vcpu);
		val = vcpu_get_reg(vcpu, satp);
		TEST_ASSERT(val == own, "mode %d: satp is 0x%lx, was 0x%lx", (int)mode, (long)val,
			    (long)own);
		val = vcpu_get_reg(vcpu, stvec);
		TEST_ASSERT(val == 0x40000, "stvec is 0x%lx", (long)val);
	}
}

static void guest_read_fp(void)
{
	u64 a, b, fcsr;

	csr_set(CSR_SSTATUS, SR_FS);
	asm volatile("fmv.x.d %0, fs0\nfmv.x.d %1, ft11\nfrcsr %2\n"
		     : "=r"(a), "=r"(b), "=r"(fcsr));
	GUEST_ASSERT_EQ(a, 0x4008000000000000UL);
	GUEST_ASSERT_EQ(b, 0x7ff8000000000123UL);
	GUEST_ASSERT_EQ(fcsr, 0x4bUL);
	asm volatile("fmv.d.x fs0, %0\nfscsr zero" : : "r"(77UL));
	GUEST_DONE();
}

TEST(fp)
{
	struct kvm_vcpu *vcpu;
	u32 f = 0x3f800000;
	u64 val = 0;
	int i;

	if (!host_has_isa("d"))
		SKIP(return, "the host lacks D");

	vm_create_with_one_vcpu(&vcpu, guest_read_fp);
	for (i = 0; i < 32; i++)
		vcpu_set_reg(vcpu, FP_D_IDX(i), 0x4000000000000000UL + i);
	vcpu_set_reg(vcpu, FP_D_IDX(8), 0x4008000000000000UL);
	vcpu_set_reg(vcpu, FP_D_IDX(31), 0x7ff8000000000123UL);
	vcpu_set_reg(vcpu, FP_D_FCSR, 0x4b);
	for (i = 9; i < 31; i++)
		TEST_ASSERT_EQ(vcpu_get_reg(vcpu, FP_D_IDX(i)), 0x4000000000000000UL + i);
	run_to_done(vcpu);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, FP_D_IDX(8)), 77);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, FP_D_IDX(31)), 0x7ff8000000000123UL);
	TEST_ASSERT_OK(__vcpu_get_reg(vcpu, FP_D_FCSR, &val));
	TEST_ASSERT_EQ(val & 0xff, 0);

	assert_refused(vcpu, FP_D_IDX(33), ENOENT);
	assert_refused(vcpu, FP_D_IDX(0xffff), ENOENT);
	assert_refused(vcpu, FP_F_IDX(33), ENOENT);
	assert_refused(vcpu, AS_SIZE(FP_D_IDX(3), U32), EINVAL);
	assert_refused(vcpu, AS_SIZE(FP_D_FCSR, U64), EINVAL);
	assert_refused(vcpu, AS_SIZE(FP_F_IDX(3), U64), EINVAL);
	TEST_ASSERT_OK(__vcpu_set_reg_buf(vcpu, FP_F_IDX(3), &f));
	f = 0;
	TEST_ASSERT_OK(__vcpu_get_reg(vcpu, FP_F_IDX(3), &f));
	TEST_ASSERT_EQ(f, 0x3f800000);

	/* What the guest has not, userspace does not see. */
	vcpu = idle_create();
	vcpu_set_reg(vcpu, RISCV_ISA_EXT_REG(KVM_RISCV_ISA_EXT_D), 0);
	assert_refused(vcpu, FP_D_IDX(0), ENOENT);
	vcpu_set_reg(vcpu, RISCV_ISA_EXT_REG(KVM_RISCV_ISA_EXT_F), 0);
	assert_refused(vcpu, FP_F_IDX(0), ENOENT);
}

static void guest_read_vector(void)
{
	u64 val;

	csr_set(CSR_SSTATUS, SR_VS);
	/* vsetivli zero, 1, e64, m1, ta, ma; vmv.x.s val, v17 */
	asm volatile(".insn 0xcd80f057\n.insn r 0x57, 2, 0x21, %0, x0, x17" : "=r"(val));
	GUEST_ASSERT_EQ(val, 0x1111111111111111UL);
	/* vmv.v.i v18, 5 */
	asm volatile(".insn 0x5e02b957");
	GUEST_DONE();
}

TEST(vector)
{
	u8 reg[512] __aligned(8);
	struct kvm_vcpu *vcpu;
	u64 vlenb, v[32], csrs = sizeof(struct __riscv_v_ext_state) / 8;
	int i, j;

	if (!host_has_isa("v"))
		SKIP(return, "the host lacks V");

	vm_create_with_one_vcpu(&vcpu, guest_read_vector);
	vlenb = vcpu_get_reg(vcpu, VECTOR_IDX(KVM_REG_RISCV_VECTOR_CSR_REG(vlenb)));
	TEST_ASSERT(vlenb >= 16 && vlenb <= sizeof(reg) && !(vlenb & (vlenb - 1)), "vlenb %ld",
		    (long)vlenb);
	TEST_ASSERT_OK(__vcpu_set_reg(vcpu, VECTOR_IDX(KVM_REG_RISCV_VECTOR_CSR_REG(vlenb)),
				      vlenb));
	TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, VECTOR_IDX(KVM_REG_RISCV_VECTOR_CSR_REG(vlenb)),
					 vlenb * 2), EINVAL);

	for (i = 0; i < 32; i++)
		v[i] = KVM_REG_RISCV | KVM_REG_RISCV_VECTOR | KVM_REG_RISCV_VECTOR_REG(i) |
		       (u64)__builtin_ctzl(vlenb) << KVM_REG_SIZE_SHIFT;
	for (i = 0; i < 32; i++) {
		memset(reg, i == 17 ? 0x11 : 0x80 + i, vlenb);
		TEST_ASSERT_OK(__vcpu_set_reg_buf(vcpu, v[i], reg));
	}
	run_to_done(vcpu);
	for (i = 0; i < 32; i++) {
		TEST_ASSERT_OK(__vcpu_get_reg(vcpu, v[i], reg));
		for (j = i == 18 ? 8 : 0; j < vlenb; j++)
			TEST_ASSERT(i == 18 || reg[j] == (i == 17 ? 0x11 : 0x80 + i),
				    "v%d byte %d is 0x%x", i, j, reg[j]);
		if (i == 18)
			TEST_ASSERT_EQ(*(u64 *)reg, 5);
	}

	/* Beyond v31; the pointer that is in the kernel's structure; sizes. */
	assert_refused(vcpu, VECTOR_IDX(csrs + 32), ENOENT);
	assert_refused(vcpu, VECTOR_IDX(0xffff), ENOENT);
	assert_refused(vcpu, VECTOR_IDX(KVM_REG_RISCV_VECTOR_CSR_REG(datap)), ENOENT);
	assert_refused(vcpu, AS_SIZE(v[0], U8), EINVAL);
	assert_refused(vcpu, AS_SIZE(v[31], U2048), EINVAL);
	assert_refused(vcpu, AS_SIZE(VECTOR_IDX(0), U32), EINVAL);

	vcpu = idle_create();
	vcpu_set_reg(vcpu, RISCV_ISA_EXT_REG(KVM_RISCV_ISA_EXT_V), 0);
	assert_refused(vcpu, v[0], ENOENT);
	assert_refused(vcpu, VECTOR_IDX(0), ENOENT);
}

/* Any byte address of user memory will do; the kernel's will not. */
TEST(user_pointers)
{
	static const u64 bad[] = { 0, 8, 1UL << 62, 0xffffffff80000000UL, ~7UL, ~0UL };
	struct kvm_vcpu *vcpu = idle_create();
	u64 id = RISCV_CORE_REG(regs.a0), val;
	struct kvm_one_reg reg = { .id = id };
	char buf[16];
	int i;

	for (i = 0; i < 8; i++) {
		val = 0x1122334455667700UL + i;
		memset(buf, 0xee, sizeof(buf));
		memcpy(buf + i, &val, 8);
		TEST_ASSERT_OK(__vcpu_set_reg_buf(vcpu, id, buf + i));
		TEST_ASSERT_EQ(vcpu_get_reg(vcpu, id), val);
		memset(buf, 0xee, sizeof(buf));
		TEST_ASSERT_OK(__vcpu_get_reg(vcpu, id, buf + i));
		TEST_ASSERT(!memcmp(buf + i, &val, 8), "offset %d: wrong value", i);
		TEST_ASSERT((!i || (u8)buf[i - 1] == 0xee) && (u8)buf[i + 8] == 0xee,
			    "offset %d: more was written", i);
	}
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		reg.addr = bad[i];
		TEST_ASSERT_ERRNO(__vcpu_ioctl(vcpu, KVM_GET_ONE_REG, &reg), EFAULT);
		TEST_ASSERT_ERRNO(__vcpu_ioctl(vcpu, KVM_SET_ONE_REG, &reg), EFAULT);
	}
	TEST_ASSERT_ERRNO(ioctl(vcpu->fd, KVM_GET_ONE_REG, 8), EFAULT);
}

TEST(unknown_types)
{
	struct kvm_vcpu *vcpu = idle_create();
	u64 type;

	for (type = 0; type < 256; type++)
		if (type == 0 || type > 0xa)
			assert_refused(vcpu, __kvm_reg_id(type << KVM_REG_RISCV_TYPE_SHIFT, 0, 0,
							  KVM_REG_SIZE_U64), ENOENT);
}

/* An id of another architecture is no register here (differences-from-c M26). */
TEST(foreign_arch)
{
	struct kvm_vcpu *vcpu = idle_create();
	u64 id = (RISCV_CORE_REG(regs.pc) & ~KVM_REG_ARCH_MASK) | KVM_REG_ARM64, val;

	TEST_ASSERT(__vcpu_get_reg(vcpu, id, &val) == -1, "got a register of arm64");
	TEST_ASSERT(__vcpu_set_reg(vcpu, id, 0) == -1, "set a register of arm64");
}

/*
 * A single-letter mask has 26 bits, not these and some of the upper half
 * (differences-from-c M26).
 */
TEST(isa_upper_half)
{
	struct kvm_vcpu *vcpu = idle_create();
	u64 isa = vcpu_get_reg(vcpu, RISCV_CONFIG_REG(isa));

	TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, RISCV_CONFIG_REG(isa), isa | 1UL << 40), EINVAL);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_CONFIG_REG(isa)), isa);
}

/* All that KVM_GET_REG_LIST lists can be read, and written back as it was. */
TEST(reg_list)
{
	struct kvm_vcpu *vcpu = idle_create();
	struct kvm_reg_list few = { .n = 1 };
	struct kvm_reg_list *list = vcpu_get_reg_list(vcpu);
	u8 buf[512];
	u64 i, j;

	TEST_ASSERT_ERRNO(__vcpu_ioctl(vcpu, KVM_GET_REG_LIST, &few), E2BIG);
	TEST_ASSERT_EQ(few.n, list->n);
	for (i = 0; i < list->n; i++) {
		for (j = 0; j < i; j++)
			TEST_ASSERT(list->reg[i] != list->reg[j], "0x%lx is listed twice",
				    (unsigned long)list->reg[i]);
		TEST_ASSERT(!__vcpu_get_reg(vcpu, list->reg[i], buf), "get 0x%lx: %s",
			    (unsigned long)list->reg[i], strerror(errno));
		/* Its own test. */
		if (list->reg[i] == RISCV_TIMER_REG(state))
			continue;
		TEST_ASSERT(!__vcpu_set_reg_buf(vcpu, list->reg[i], buf), "set 0x%lx: %s",
			    (unsigned long)list->reg[i], strerror(errno));
	}
}

static void guest_set_timer(u64 at)
{
	for (;;) {
		sbi_ecall(SBI_EXT_TIME, 0, at, 0, 0, 0, 0, 0);
		GUEST_SYNC1(csr_read(CSR_TIME));
	}
}

TEST(timer)
{
	struct kvm_vcpu *vcpu = idle_create();
	u64 freq, t0;

	freq = vcpu_get_reg(vcpu, RISCV_TIMER_REG(frequency));
	TEST_ASSERT(freq, "no frequency");
	TEST_ASSERT_OK(__vcpu_set_reg(vcpu, RISCV_TIMER_REG(frequency), freq));
	TEST_ASSERT_ERRNO(__vcpu_set_reg(vcpu, RISCV_TIMER_REG(frequency), freq + 1), EINVAL);

	vcpu_set_reg(vcpu, RISCV_TIMER_REG(time), 1UL << 40);
	t0 = vcpu_get_reg(vcpu, RISCV_TIMER_REG(time));
	TEST_ASSERT(t0 >= 1UL << 40 && t0 - (1UL << 40) < 60 * freq, "time went to 0x%lx",
		    (unsigned long)t0);
	TEST_ASSERT(vcpu_get_reg(vcpu, RISCV_TIMER_REG(time)) >= t0, "time goes backwards");

	vcpu_set_reg(vcpu, RISCV_TIMER_REG(compare), 0x123456789aUL);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_TIMER_REG(compare)), 0x123456789aUL);
	assert_refused(vcpu, TIMER_IDX(4), ENOENT);
	assert_refused(vcpu, TIMER_IDX(0xffff), ENOENT);
	assert_refused(vcpu, AS_SIZE(RISCV_TIMER_REG(time), U32), EINVAL);
}

/*
 * A timer that does not run can be stopped: the value just read is accepted
 * (differences-from-c M25).
 */
TEST(timer_off_again)
{
	struct kvm_vcpu *vcpu = idle_create();
	u64 id = RISCV_TIMER_REG(state);

	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, id), KVM_RISCV_TIMER_STATE_OFF);
	TEST_ASSERT_OK(__vcpu_set_reg(vcpu, id, KVM_RISCV_TIMER_STATE_OFF));
	run_to_sync(vcpu);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, id), KVM_RISCV_TIMER_STATE_OFF);
	TEST_ASSERT_OK(__vcpu_set_reg(vcpu, id, KVM_RISCV_TIMER_STATE_OFF));
}

/* What the guest armed is on, and can be stopped and armed again (differences-from-c M25). */
TEST(timer_armed_by_guest)
{
	u64 at = 1UL << 50, id = RISCV_TIMER_REG(state);
	struct kvm_vcpu *vcpu;

	vm_create_with_one_vcpu(&vcpu, guest_set_timer);
	vcpu_args_set(vcpu, 1, at);
	run_to_sync(vcpu);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_TIMER_REG(compare)), at);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, id), KVM_RISCV_TIMER_STATE_ON);
	TEST_ASSERT_OK(__vcpu_set_reg(vcpu, id, KVM_RISCV_TIMER_STATE_OFF));
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, id), KVM_RISCV_TIMER_STATE_OFF);
	vcpu_set_reg(vcpu, RISCV_TIMER_REG(compare), at + 5);
	TEST_ASSERT_OK(__vcpu_set_reg(vcpu, id, KVM_RISCV_TIMER_STATE_ON));
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, id), KVM_RISCV_TIMER_STATE_ON);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_TIMER_REG(compare)), at + 5);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
