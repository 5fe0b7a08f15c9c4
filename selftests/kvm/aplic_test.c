// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: S11, S12, S13 */
/* covers: aia/aplic.rs aia/aplic/register.rs aia/aplic/word.rs aia/route.rs */
/*
 * The APLIC: what its registers keep and ignore, and when a source is pending
 * and sends an MSI, as the guest finds it by MMIO, with KVM_IRQ_LINE for the
 * wires. AIA specification, "Advanced Platform-Level Interrupt Controller".
 *
 * irqfd_aia_test has what irqfds do to wires (S1).
 */
#include "kvm_rs_aia.h"

/* In two words of bits, of which the second is not full. */
#define SOURCES		40

#define VCPUS		2

/* What vCPU 0 does next: a load, or a store. */
enum { LOAD, STORE };

static struct {
	u64 op;
	u32 offset;
	u32 value;
} access_cmd;

static void guest_accessor(void)
{
	u32 value;

	for (;;) {
		barrier();
		value = access_cmd.value;
		if (access_cmd.op == LOAD)
			value = aplic_read(access_cmd.offset);
		else
			aplic_write(access_cmd.offset, value);
		GUEST_SYNC1(value);
	}
}

FIXTURE(aplic)
{
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[VCPUS];
	int fd;
};

FIXTURE_SETUP(aplic)
{
	if (!aia_is_there())
		SKIP(return, "no in-kernel irqchip");
	self->vm = vm_create_with_vcpus(VCPUS, guest_accessor, self->vcpus);
	self->fd = aia_create(self->vm, KVM_DEV_RISCV_AIA_MODE_EMUL, SOURCES);
	aia_map(self->vm);
}

FIXTURE_TEARDOWN(aplic)
{
	close(self->fd);
	kvm_vm_free(self->vm);
}

static u32 access_by(struct kvm_vcpu *vcpu, u64 op, u32 offset, u32 value)
{
	typeof(access_cmd) cmd = { .op = op, .offset = offset, .value = value };
	struct ucall uc;

	write_guest_global(vcpu->vm, access_cmd, cmd);
	TEST_ASSERT_EQ(run_to_ucall(vcpu, &uc), UCALL_SYNC);
	return uc.args[0];
}

/* The guest's accesses. */
#define RD(offset)		access_by(self->vcpus[0], LOAD, offset, 0)
#define WR(offset, value)	((void)access_by(self->vcpus[0], STORE, offset, value))

#define READS(offset, want)							\
do {										\
	u32 __v = RD(offset);							\
										\
	TEST_ASSERT(__v == (u32)(want), #offset ": 0x%x, not 0x%x", __v, (u32)(want)); \
} while (0)

#define BIT_OF(source)		(1U << (source) % 32)
#define IS_SET(row, source)	(!!(RD(row((source) / 32)) & BIT_OF(source)))
#define IS_PENDING(source)	IS_SET(APLIC_SETIP, source)
#define IS_ENABLED(source)	IS_SET(APLIC_SETIE, source)
#define INPUT(source)		IS_SET(APLIC_IN_CLRIP, source)

#define MODE(source, mode)	WR(APLIC_SOURCECFG(source), mode)
#define WIRE(source, level)	TEST_ASSERT_OK(aia_line(self->vm, source, level))

/* The identities that became pending in the file of vCPU @id since this was asked last. */
static u64 sent_to(int fd, u64 id)
{
	u64 pending = aia_file_get(fd, id, IMSIC_EIP(0));

	aia_file_set(fd, id, IMSIC_EIP(0), 0);
	return pending;
}

#define SENT()			sent_to(self->fd, 0)
#define MSI(id)			(1UL << (id))

/* Source @source in @mode, whose MSIs go to vCPU 0 with the source's number. */
#define SET_UP(source, mode)						\
do {									\
	MODE(source, mode);						\
	WR(APLIC_TARGET(source), APLIC_TO(0, source));			\
	WR(APLIC_SETIENUM, source);					\
} while (0)

TEST_F(aplic, domaincfg)
{
	READS(APLIC_DOMAINCFG, APLIC_DOMAINCFG_FIXED);
	WR(APLIC_DOMAINCFG, ~APLIC_IE);
	READS(APLIC_DOMAINCFG, APLIC_DOMAINCFG_FIXED);
	WR(APLIC_DOMAINCFG, ~0);
	READS(APLIC_DOMAINCFG, APLIC_DOMAINCFG_FIXED | APLIC_IE);
}

TEST_F(aplic, source_modes)
{
	static const u32 modes[] = {
		APLIC_DETACHED, APLIC_EDGE1, APLIC_EDGE0, APLIC_LEVEL1, APLIC_LEVEL0, APLIC_INACTIVE,
	};
	int i, source;

	for (source = 1; source <= SOURCES; source += SOURCES - 1)
		for (i = 0; i < ARRAY_SIZE(modes); i++) {
			/* All that is not the mode or the delegation. */
			MODE(source, modes[i] | 0xfffff8f8);
			READS(APLIC_SOURCECFG(source), modes[i]);
		}

	/* There is no child to delegate to. */
	MODE(1, APLIC_LEVEL1);
	MODE(1, 0x400 | APLIC_LEVEL1);
	READS(APLIC_SOURCECFG(1), 0);
}

/* differences-from-c S12 */
TEST_F(aplic, reserved_modes_are_inactive)
{
	u32 mode;

	for (mode = 2; mode < 4; mode++) {
		MODE(1, APLIC_LEVEL1);
		MODE(1, mode);
		READS(APLIC_SOURCECFG(1), 0);
	}
}

TEST_F(aplic, targets_are_kept)
{
	MODE(1, APLIC_EDGE1);
	MODE(SOURCES, APLIC_EDGE1);
	WR(APLIC_TARGET(1), APLIC_TO(0x2aaa, 0x555));
	WR(APLIC_TARGET(SOURCES), APLIC_TO(0x1555, 0x2aa));
	READS(APLIC_TARGET(1), APLIC_TO(0x2aaa, 0x555));
	READS(APLIC_TARGET(SOURCES), APLIC_TO(0x1555, 0x2aa));
}

/* differences-from-c S12 */
TEST_F(aplic, target_and_genmsi_have_no_other_fields)
{
	MODE(1, APLIC_EDGE1);
	WR(APLIC_TARGET(1), ~0);
	READS(APLIC_TARGET(1), APLIC_TO(0x3fff, 0x7ff));
	WR(APLIC_GENMSI, ~0);
	READS(APLIC_GENMSI, APLIC_TO(0x3fff, 0x7ff));
}

/* And stay in the kernel: userspace has nothing there (differences-from-c S12). */
TEST_F(aplic, reserved_offsets_read_zero)
{
	static const u32 reserved[] = {
		APLIC_SOURCECFG(SOURCES + 1), APLIC_SOURCECFG(1023), 0x1000,
		APLIC_MMSIADDRCFG, APLIC_MMSIADDRCFG + 4, APLIC_MMSIADDRCFG + 8,
		APLIC_MMSIADDRCFG + 12, APLIC_SETIP(2), APLIC_SETIP(31), APLIC_SETIP(32),
		APLIC_SETIPNUM + 4, APLIC_IN_CLRIP(2), APLIC_SETIE(2), APLIC_CLRIE(2), 0x1ffc,
		APLIC_SETIPNUM_BE + 4, 0x2ffc, APLIC_TARGET(SOURCES + 1), APLIC_TARGET(1023),
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(reserved); i++) {
		WR(reserved[i], ~0);
		READS(reserved[i], 0);
	}
}

TEST_F(aplic, edges)
{
	int source, active;

	WR(APLIC_DOMAINCFG, APLIC_IE);
	for (source = 31; source <= 34; source++) {
		active = source % 2;
		WIRE(source, !active);
		SET_UP(source, active ? APLIC_EDGE1 : APLIC_EDGE0);
		TEST_ASSERT_EQ(SENT(), 0);
		TEST_ASSERT_EQ(INPUT(source), 0);

		WIRE(source, active);
		TEST_ASSERT_EQ(SENT(), MSI(source));
		TEST_ASSERT_EQ(INPUT(source), 1);
		/* The same again is no edge; nor is the other one. */
		WIRE(source, active);
		WIRE(source, !active);
		TEST_ASSERT_EQ(SENT(), 0);
		WIRE(source, active);
		TEST_ASSERT_EQ(SENT(), MSI(source));

		/* An edge is remembered, if nobody withdraws it. */
		WR(APLIC_CLRIENUM, source);
		WIRE(source, !active);
		WIRE(source, active);
		WIRE(source, !active);
		TEST_ASSERT_EQ(IS_PENDING(source), 1);
		WR(APLIC_SETIENUM, source);
		TEST_ASSERT_EQ(SENT(), MSI(source));
		TEST_ASSERT_EQ(IS_PENDING(source), 0);
		WR(APLIC_CLRIENUM, source);
		WIRE(source, active);
		WR(APLIC_CLRIPNUM, source);
		TEST_ASSERT_EQ(IS_PENDING(source), 0);
		WR(APLIC_SETIENUM, source);
		TEST_ASSERT_EQ(SENT(), 0);
	}
}

TEST_F(aplic, a_detached_source_is_softwares)
{
	WR(APLIC_DOMAINCFG, APLIC_IE);
	SET_UP(33, APLIC_DETACHED);
	WIRE(33, 1);
	WIRE(33, 0);
	TEST_ASSERT_EQ(SENT(), 0);
	WR(APLIC_SETIPNUM, 33);
	TEST_ASSERT_EQ(SENT(), MSI(33));
	WR(APLIC_SETIP(1), BIT_OF(33));
	TEST_ASSERT_EQ(SENT(), MSI(33));
}

/* differences-from-c S11 */
TEST_F(aplic, a_detached_source_has_no_input)
{
	MODE(33, APLIC_DETACHED);
	WIRE(33, 1);
	TEST_ASSERT_EQ(INPUT(33), 0);
}

/* "Special consideration for level-sensitive interrupt sources": Linux writes setipnum_le. */
TEST_F(aplic, a_level_is_sent_again_on_demand)
{
	int source, active;

	WR(APLIC_DOMAINCFG, APLIC_IE);
	for (source = 5; source <= 6; source++) {
		active = source % 2;
		WIRE(source, !active);
		SET_UP(source, active ? APLIC_LEVEL1 : APLIC_LEVEL0);
		WR(APLIC_SETIPNUM_LE, source);
		TEST_ASSERT_EQ(SENT(), 0);

		WIRE(source, active);
		TEST_ASSERT_EQ(INPUT(source), 1);
		TEST_ASSERT_EQ(SENT(), MSI(source));
		WR(APLIC_SETIPNUM_LE, source);
		TEST_ASSERT_EQ(SENT(), MSI(source));
		WR(APLIC_SETIP(0), BIT_OF(source));
		TEST_ASSERT_EQ(SENT(), MSI(source));
		/* Software can withdraw it. */
		WR(APLIC_CLRIENUM, source);
		WR(APLIC_SETIPNUM, source);
		TEST_ASSERT_EQ(IS_PENDING(source), 1);
		WR(APLIC_IN_CLRIP(0), BIT_OF(source));
		TEST_ASSERT_EQ(IS_PENDING(source), 0);
		WR(APLIC_SETIENUM, source);
		TEST_ASSERT_EQ(SENT(), 0);

		WIRE(source, !active);
		TEST_ASSERT_EQ(INPUT(source), 0);
		WR(APLIC_SETIPNUM_LE, source);
		TEST_ASSERT_EQ(SENT(), 0);
		WIRE(source, active);
		TEST_ASSERT_EQ(SENT(), MSI(source));
	}
}

/* differences-from-c S11 */
TEST_F(aplic, a_level_is_sent_once_by_itself)
{
	WR(APLIC_DOMAINCFG, APLIC_IE);
	SET_UP(5, APLIC_LEVEL1);
	WIRE(5, 1);
	TEST_ASSERT_EQ(SENT(), MSI(5));
	WIRE(5, 1);
	TEST_ASSERT_EQ(SENT(), 0);
}

/* differences-from-c S11 */
TEST_F(aplic, a_level_that_drops_is_no_longer_pending)
{
	int source, active;

	WR(APLIC_DOMAINCFG, APLIC_IE);
	for (source = 5; source <= 6; source++) {
		active = source % 2;
		WIRE(source, !active);
		SET_UP(source, active ? APLIC_LEVEL1 : APLIC_LEVEL0);
		WR(APLIC_CLRIENUM, source);
		WIRE(source, active);
		TEST_ASSERT_EQ(IS_PENDING(source), 1);
		WIRE(source, !active);
		TEST_ASSERT_EQ(IS_PENDING(source), 0);
		WR(APLIC_SETIENUM, source);
		TEST_ASSERT_EQ(SENT(), 0);
	}
}

/* differences-from-c S11 */
TEST_F(aplic, an_inactive_source_has_no_state)
{
	MODE(33, APLIC_EDGE1);
	WR(APLIC_TARGET(33), APLIC_TO(1, 9));
	WR(APLIC_SETIENUM, 33);
	WR(APLIC_SETIPNUM, 33);
	MODE(33, APLIC_INACTIVE);
	TEST_ASSERT_EQ(IS_PENDING(33), 0);
	TEST_ASSERT_EQ(IS_ENABLED(33), 0);
	READS(APLIC_TARGET(33), 0);

	/* Nor gets it any. */
	WR(APLIC_TARGET(33), APLIC_TO(1, 9));
	WR(APLIC_SETIENUM, 33);
	WR(APLIC_SETIE(1), ~0);
	WR(APLIC_SETIPNUM, 33);
	WIRE(33, 1);
	TEST_ASSERT_EQ(INPUT(33), 0);
	TEST_ASSERT_EQ(IS_PENDING(33), 0);
	TEST_ASSERT_EQ(IS_ENABLED(33), 0);
	READS(APLIC_TARGET(33), 0);

	/* And begins without. */
	MODE(33, APLIC_DETACHED);
	TEST_ASSERT_EQ(IS_PENDING(33), 0);
	TEST_ASSERT_EQ(IS_ENABLED(33), 0);
}

/* differences-from-c S11 */
TEST_F(aplic, a_new_mode_forgets_a_level_that_is_low)
{
	MODE(7, APLIC_DETACHED);
	WR(APLIC_SETIPNUM, 7);
	MODE(7, APLIC_EDGE1);
	TEST_ASSERT_EQ(IS_PENDING(7), 1);
	MODE(7, APLIC_LEVEL1);
	TEST_ASSERT_EQ(IS_PENDING(7), 0);
}

TEST_F(aplic, bits_by_number_and_in_words)
{
	static const u32 write_only[] = {
		APLIC_SETIPNUM, APLIC_CLRIPNUM, APLIC_SETIENUM, APLIC_CLRIENUM, APLIC_SETIPNUM_LE,
		APLIC_SETIPNUM_BE, APLIC_CLRIE(0), APLIC_CLRIE(1),
	};
	static const u32 none[] = { 0, SOURCES + 1, 1024, 1U << 31, ~0U };
	int i;

	for (i = 1; i <= SOURCES; i++)
		MODE(i, APLIC_DETACHED);

	WR(APLIC_SETIENUM, 31);
	WR(APLIC_SETIENUM, 32);
	READS(APLIC_SETIE(0), BIT_OF(31));
	READS(APLIC_SETIE(1), BIT_OF(32));
	WR(APLIC_SETIE(0), ~0);
	WR(APLIC_SETIE(1), ~0);
	/* No source 0, none beyond the last. */
	READS(APLIC_SETIE(0), ~1);
	READS(APLIC_SETIE(1), (2U << SOURCES % 32) - 1);
	WR(APLIC_CLRIENUM, 2);
	WR(APLIC_CLRIE(0), BIT_OF(3) | BIT_OF(4));
	READS(APLIC_SETIE(0), ~0x1d);
	WR(APLIC_CLRIE(1), ~0);
	READS(APLIC_SETIE(1), 0);
	WR(APLIC_CLRIE(0), ~0);

	WR(APLIC_SETIPNUM, 1);
	WR(APLIC_SETIPNUM_LE, 2);
	WR(APLIC_SETIPNUM_BE, __builtin_bswap32(3));
	READS(APLIC_SETIP(0), 0xe);
	WR(APLIC_SETIPNUM_BE, __builtin_bswap32(SOURCES));
	READS(APLIC_SETIP(1), BIT_OF(SOURCES));
	WR(APLIC_SETIP(0), 0xf0);
	READS(APLIC_SETIP(0), 0xfe);
	WR(APLIC_IN_CLRIP(0), 0xf0);
	READS(APLIC_SETIP(0), 0xe);
	WR(APLIC_CLRIPNUM, 2);
	READS(APLIC_SETIP(0), 0xa);

	for (i = 0; i < ARRAY_SIZE(none); i++) {
		WR(APLIC_SETIPNUM, none[i]);
		WR(APLIC_SETIENUM, none[i]);
		WR(APLIC_CLRIPNUM, none[i]);
		WR(APLIC_CLRIENUM, none[i]);
	}
	READS(APLIC_SETIP(0), 0xa);
	READS(APLIC_SETIP(1), BIT_OF(SOURCES));
	READS(APLIC_SETIE(0), 0);
	READS(APLIC_SETIE(1), 0);
	for (i = 0; i < ARRAY_SIZE(write_only); i++)
		READS(write_only[i], 0);
}

TEST_F(aplic, the_domain_holds_back)
{
	int i;

	for (i = 1; i <= SOURCES; i += 13) {
		SET_UP(i, APLIC_EDGE1);
		WIRE(i, 1);
	}
	TEST_ASSERT_EQ(SENT(), 0);
	WR(APLIC_DOMAINCFG, APLIC_IE);
	TEST_ASSERT_EQ(SENT(), MSI(1) | MSI(14) | MSI(27) | MSI(40));
	READS(APLIC_SETIP(0), 0);
	READS(APLIC_SETIP(1), 0);
	WR(APLIC_DOMAINCFG, 0);
	WR(APLIC_DOMAINCFG, APLIC_IE);
	TEST_ASSERT_EQ(SENT(), 0);
}

TEST_F(aplic, msis_find_their_hart)
{
	WR(APLIC_DOMAINCFG, APLIC_IE);
	SET_UP(9, APLIC_DETACHED);
	WR(APLIC_TARGET(9), APLIC_TO(1, 17));
	WR(APLIC_SETIPNUM, 9);
	TEST_ASSERT_EQ(SENT(), 0);
	TEST_ASSERT_EQ(sent_to(self->fd, 1), MSI(17));

	/* Identity 0 is none; nobody has hart index 2. Such MSIs are gone. */
	WR(APLIC_TARGET(9), APLIC_TO(1, 0));
	WR(APLIC_SETIPNUM, 9);
	WR(APLIC_TARGET(9), APLIC_TO(2, 17));
	WR(APLIC_SETIPNUM, 9);
	TEST_ASSERT_EQ(IS_PENDING(9), 0);
	TEST_ASSERT_EQ(SENT(), 0);
	TEST_ASSERT_EQ(sent_to(self->fd, 1), 0);
}

/* "An extempore MSI is sent even if domaincfg.IE = 0." */
TEST_F(aplic, genmsi)
{
	WR(APLIC_GENMSI, APLIC_TO(1, 23));
	TEST_ASSERT_EQ(sent_to(self->fd, 1), MSI(23));
	READS(APLIC_GENMSI, APLIC_TO(1, 23));
	TEST_ASSERT_EQ(SENT(), 0);
}

#define ATTR(offset)		((u32)aia_get(self->fd, APLIC, offset))
#define RESTORE(offset, value)	aia_set(self->fd, APLIC, offset, value)

TEST_F(aplic, attributes_read_as_registers_do)
{
	u32 offset, reg, attr, set = 0;
	int i;

	for (i = 1; i <= SOURCES; i++) {
		MODE(i, i % 3 ? APLIC_LEVEL1 : APLIC_EDGE0);
		WR(APLIC_TARGET(i), APLIC_TO(i & 1, i));
		WIRE(i, i % 5 == 0);
		if (i % 7)
			WR(APLIC_SETIENUM, i);
	}
	WR(APLIC_GENMSI, APLIC_TO(1, 63));
	for (offset = 0; offset < KVM_DEV_RISCV_APLIC_SIZE; offset += 4) {
		if (__kvm_has_device_attr(self->fd, KVM_DEV_RISCV_AIA_GRP_APLIC, offset))
			continue;
		reg = RD(offset);
		attr = ATTR(offset);
		TEST_ASSERT(reg == attr, "0x%x: 0x%x, attribute 0x%x", offset, reg, attr);
		set += !!reg;
	}
	/* domaincfg, genmsi, modes, targets, three rows of bits. */
	TEST_ASSERT_EQ(set, 2 + SOURCES + SOURCES + 3 * 2);
}

/* differences-from-c S13 */
TEST_F(aplic, restored_inputs_are_no_edges)
{
	RESTORE(APLIC_DOMAINCFG, APLIC_IE);
	RESTORE(APLIC_SOURCECFG(4), APLIC_EDGE1);
	RESTORE(APLIC_SOURCECFG(5), APLIC_LEVEL1);
	RESTORE(APLIC_SOURCECFG(6), APLIC_LEVEL0);
	RESTORE(APLIC_SETIE(0), 0x70);
	RESTORE(APLIC_IN_CLRIP(0), 0x70);
	RESTORE(APLIC_TARGET(4), APLIC_TO(0, 4));
	RESTORE(APLIC_TARGET(5), APLIC_TO(0, 5));
	RESTORE(APLIC_TARGET(6), APLIC_TO(0, 6));
	READS(APLIC_IN_CLRIP(0), 0x70);
	READS(APLIC_SETIP(0), 0);

	/* The device that was there says the same as before. */
	WIRE(4, 1);
	WIRE(5, 1);
	WIRE(6, 0);
	TEST_ASSERT_EQ(SENT(), 0);
	WR(APLIC_SETIPNUM_LE, 5);
	TEST_ASSERT_EQ(SENT(), MSI(5));
	WIRE(5, 0);
	WIRE(4, 0);
	WIRE(4, 1);
	TEST_ASSERT_EQ(SENT(), MSI(4));
	READS(APLIC_IN_CLRIP(0), 0x50);
}

/* In rising order, the pending bits come before the inputs (differences-from-c S13). */
TEST_F(aplic, restored_levels_are_pending_still)
{
	RESTORE(APLIC_DOMAINCFG, APLIC_IE);
	RESTORE(APLIC_SOURCECFG(33), APLIC_LEVEL1);
	RESTORE(APLIC_SOURCECFG(34), APLIC_LEVEL1);
	RESTORE(APLIC_SETIP(1), BIT_OF(33));
	RESTORE(APLIC_IN_CLRIP(1), BIT_OF(33) | BIT_OF(34));
	RESTORE(APLIC_TARGET(33), APLIC_TO(0, 33));
	RESTORE(APLIC_TARGET(34), APLIC_TO(0, 34));
	READS(APLIC_SETIP(1), BIT_OF(33));
	TEST_ASSERT_EQ(SENT(), 0);
	WR(APLIC_SETIE(1), ~0);
	TEST_ASSERT_EQ(SENT(), MSI(33));
}

/* differences-from-c S13 */
TEST_F(aplic, restored_genmsi_sends_nothing)
{
	RESTORE(APLIC_GENMSI, APLIC_TO(1, 23));
	READS(APLIC_GENMSI, APLIC_TO(1, 23));
	TEST_ASSERT_EQ(sent_to(self->fd, 1), 0);
}

TEST_HARNESS_MAIN
