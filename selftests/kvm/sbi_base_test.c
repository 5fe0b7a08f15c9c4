// SPDX-License-Identifier: GPL-2.0
/* on-c: pass */
/* covers: sbi/base.rs sbi.rs sbi_abi/message.rs arch/gprs.rs */
/*
 * SBI: the base extension, and what holds for every call: how it is encoded,
 * and which registers it leaves alone.
 */
#include "kvm_rs_sbi.h"

/* KVM in the specification's list. */
#define IMPL_ID_KVM	3

#define BASE_SPEC_VERSION	0
#define BASE_IMPL_ID		1
#define BASE_IMPL_VERSION	2
#define BASE_MVENDORID		4
#define BASE_MARCHID		5
#define BASE_MIMPID		6
#define NR_FUNCTIONS		7

TEST(versions)
{
	struct kvm_vcpu *vcpu = caller_create();
	u64 val;

	/* Seven bits of major number, 24 of minor; the others are reserved. */
	val = assert_sbi(0, vcpu, SBI_EXT_BASE, BASE_SPEC_VERSION);
	TEST_ASSERT(val == sbi_mk_version(3, 0), "version 0x%lx", (unsigned long)val);
	TEST_ASSERT_EQ(assert_sbi(0, vcpu, SBI_EXT_BASE, BASE_IMPL_ID), IMPL_ID_KVM);
	TEST_ASSERT(assert_sbi(0, vcpu, SBI_EXT_BASE, BASE_IMPL_VERSION),
		    "no implementation version");
	/* Arguments that there are not are ignored. */
	TEST_ASSERT_EQ(assert_sbi(0, vcpu, SBI_EXT_BASE, BASE_IMPL_ID, ~0UL, 1, 2, 3, 4, 5),
		       IMPL_ID_KVM);
}

TEST(machine_ids)
{
	struct kvm_vcpu *vcpu = caller_create();

	vcpu_set_reg(vcpu, RISCV_CONFIG_REG(mvendorid), 0x7ab1e);
	vcpu_set_reg(vcpu, RISCV_CONFIG_REG(marchid), 1UL << 63 | 42);
	vcpu_set_reg(vcpu, RISCV_CONFIG_REG(mimpid), 0x123456789abcdef0);
	TEST_ASSERT_EQ(assert_sbi(0, vcpu, SBI_EXT_BASE, BASE_MVENDORID), 0x7ab1e);
	TEST_ASSERT_EQ(assert_sbi(0, vcpu, SBI_EXT_BASE, BASE_MARCHID), 1UL << 63 | 42);
	TEST_ASSERT_EQ(assert_sbi(0, vcpu, SBI_EXT_BASE, BASE_MIMPID), 0x123456789abcdef0);
	/* They are a hart's own; those of a new one are the host's. */
	TEST_ASSERT_EQ(vcpu_get_reg(vcpus[1], RISCV_CONFIG_REG(marchid)),
		       vcpu_get_reg(__vm_vcpu_add(vm, 2), RISCV_CONFIG_REG(marchid)));
}

TEST(unknown_functions)
{
	struct kvm_vcpu *vcpu = caller_create();

	check_unknown_functions(vcpu, SBI_EXT_BASE, NR_FUNCTIONS);
	check_id_width(vcpu, SBI_EXT_BASE);
}

TEST(probes)
{
	static const u64 have[] = { SBI_EXT_BASE, SBI_EXT_TIME, SBI_EXT_IPI, SBI_EXT_RFENCE,
				    SBI_EXT_HSM, SBI_EXT_SRST };
	/* Absent, until asked for, beside the ranges of others, and reserved. */
	static const u64 lack[] = { SBI_EXT_CPPC, SBI_EXT_DBTR, SBI_EXT_NACL, SBI_EXT_SSE,
				    SBI_EXT_DBCN, SBI_EXT_SUSP, SBI_EXT_MPXY,
				    9, 0xa, 0xf, 0x11, 0x07ffffff, 0x0a000000, 0x0affffff,
				    0x7fffffff, ~0UL, ~0UL << 31, 1UL << 63 };
	struct kvm_vcpu *vcpu = caller_create();
	u64 id;
	int i;

	for (i = 0; i < ARRAY_SIZE(have); i++)
		TEST_ASSERT_EQ(probe(vcpu, have[i]), 1);
	for (i = 0; i < ARRAY_SIZE(lack); i++) {
		TEST_ASSERT(!probe(vcpu, lack[i]), "extension 0x%lx is there",
			    (unsigned long)lack[i]);
		assert_sbi_fails(SBI_ERR_NOT_SUPPORTED, vcpu, lack[i], 0, 0, 0);
	}
	for (id = 0; id <= 8; id++)
		TEST_ASSERT_EQ(probe(vcpu, id), __vcpu_has_sbi_ext(vcpu, KVM_RISCV_SBI_EXT_V01));
}

/* Every extension that there can be, and every id that is one bit from it. */
static const u64 known[] = {
	0, SBI_EXT_BASE, SBI_EXT_TIME, SBI_EXT_IPI, SBI_EXT_RFENCE, SBI_EXT_HSM, SBI_EXT_SRST,
	SBI_EXT_PMU, SBI_EXT_DBCN, SBI_EXT_STA, SBI_EXT_SUSP, SBI_EXT_FWFT, SBI_EXT_MPXY,
	SBI_EXT_EXPERIMENTAL_FIRST, SBI_EXT_EXPERIMENTAL_LAST, SBI_EXT_VENDOR_FIRST,
	SBI_EXT_VENDOR_LAST,
};

static bool is_known(u64 id)
{
	int i;

	if (id <= 8 || (id >= SBI_EXT_EXPERIMENTAL_FIRST && id <= SBI_EXT_VENDOR_LAST))
		return true;
	for (i = 0; i < ARRAY_SIZE(known); i++)
		if (known[i] == id)
			return true;
	return false;
}

static void guest_ids_nearby(void)
{
	static const u64 none[6];
	struct sbiret ret;
	u64 id, bit, i, steps = 0;

	for (i = 0; i < ARRAY_SIZE(known) * 66; i++) {
		bit = i % 66;
		id = known[i / 66];
		/* The last two are the neighbours. */
		id = bit < 64 ? id ^ 1UL << bit : bit == 64 ? id - 1 : id + 1;
		if (is_known(id))
			continue;
		ret = guest_ecall(id, 0, none);
		__GUEST_ASSERT(ret.error == SBI_ERR_NOT_SUPPORTED && !ret.value,
			       "extension 0x%lx: error %ld, value %ld", id, ret.error, ret.value);
		ret = guest_ecall(SBI_EXT_BASE, SBI_BASE_PROBE, (u64[6]){ id });
		__GUEST_ASSERT(!ret.error && !ret.value, "probe of 0x%lx: error %ld, value %ld",
			       id, ret.error, ret.value);
		steps++;
	}
	GUEST_SYNC1(steps);
}

TEST(ids_nearby)
{
	struct kvm_vcpu *vcpu;

	vm_create_with_one_vcpu(&vcpu, guest_ids_nearby);
	TEST_ASSERT(run_to_sync(vcpu) > 700, "too few ids were tried");
}

/*
 * u64 preserves(ext, fid, arg0, arg1): makes the call with a pattern in all
 * registers but sp, gp and tp; 0, or the number of one that changed.
 */
asm(".pushsection .text\n"
	"preserves:\n"
	"	addi sp, sp, -128\n"
	"	sd ra, 0(sp)\n	sd s0, 8(sp)\n	sd s1, 16(sp)\n	sd s2, 24(sp)\n"
	"	sd s3, 32(sp)\n	sd s4, 40(sp)\n	sd s5, 48(sp)\n	sd s6, 56(sp)\n"
	"	sd s7, 64(sp)\n	sd s8, 72(sp)\n	sd s9, 80(sp)\n	sd s10, 88(sp)\n"
	"	sd s11, 96(sp)\n"
	"	mv a7, a0\n	mv a6, a1\n	mv a0, a2\n	mv a1, a3\n"
	"	sd a7, 104(sp)\n	sd a6, 112(sp)\n"
	"	.irp n, 1,5,6,7,8,9,12,13,14,15,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
	"	li x\\n, 0x01010101 * \\n\n"
	"	.endr\n"
	"	ecall\n"
	"	.irp n, 1,5,6,7,8,9,12,13,14,15,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
	"	li a0, \\n\n"
	"	li a1, 0x01010101 * \\n\n"
	"	bne a1, x\\n, 1f\n"
	"	.endr\n"
	"	li a0, 17\n	ld a1, 104(sp)\n	bne a1, a7, 1f\n"
	"	li a0, 16\n	ld a1, 112(sp)\n	bne a1, a6, 1f\n"
	"	li a0, 0\n"
	"1:	ld ra, 0(sp)\n	ld s0, 8(sp)\n	ld s1, 16(sp)\n	ld s2, 24(sp)\n"
	"	ld s3, 32(sp)\n	ld s4, 40(sp)\n	ld s5, 48(sp)\n	ld s6, 56(sp)\n"
	"	ld s7, 64(sp)\n	ld s8, 72(sp)\n	ld s9, 80(sp)\n	ld s10, 88(sp)\n"
	"	ld s11, 96(sp)\n"
	"	addi sp, sp, 128\n"
	"	ret\n"
	".popsection\n");
u64 preserves(u64 ext, u64 fid, u64 arg0, u64 arg1);

static void guest_preserves(void)
{
	static const u64 calls[][4] = {
		{ SBI_EXT_BASE, BASE_SPEC_VERSION }, { SBI_EXT_BASE, BASE_MIMPID },
		{ SBI_EXT_BASE, SBI_BASE_PROBE, SBI_EXT_TIME }, { SBI_EXT_BASE, 99 },
		{ SBI_EXT_TIME, 0, ~0UL }, { SBI_EXT_TIME, 1 },
		{ SBI_EXT_IPI, 0, 1, 0 }, { SBI_EXT_IPI, 0, 0, ~0UL }, { SBI_EXT_IPI, 0, 4, 0 },
		{ SBI_EXT_RFENCE, 0, 1, 0 }, { SBI_EXT_RFENCE, 1, 0, ~0UL },
		{ SBI_EXT_RFENCE, 2, 3, 0 }, { SBI_EXT_RFENCE, 3, 1, 0 },
		{ SBI_EXT_HSM, SBI_HSM_START, 0, 0 }, { SBI_EXT_HSM, SBI_HSM_STATUS, 1 },
		{ SBI_EXT_SRST, 0, 3, 0 }, { SBI_EXT_STA, 0, 1, 0 },
		{ SBI_EXT_NACL, 0 }, { 0x12345, 6 },
		/* Of v0.1. */
		{ 0, 0, ~0UL }, { 3, 0 }, { 4, 0 }, { 5, 0 }, { 6, 0 }, { 7, 0 },
		/* Served by userspace. */
		{ SBI_EXT_VENDOR_FIRST, 3, 4, 5 },
	};
	u64 i, changed;

	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		changed = preserves(calls[i][0], calls[i][1], calls[i][2], calls[i][3]);
		__GUEST_ASSERT(!changed, "extension 0x%lx function %lu changed x%lu", calls[i][0],
			       calls[i][1], changed);
	}
	GUEST_DONE();
}

/* All registers but a0 and a1 are preserved. */
TEST(registers_are_preserved)
{
	vm = vm_create_with_vcpus(2, guest_preserves, vcpus);
	vcpu_run(vcpus[0]);
	if (vcpus[0]->run->riscv_sbi.extension_id == SBI_EXT_VENDOR_FIRST)
		TEST_ASSERT_EQ(vcpus[0]->run->riscv_sbi.args[1], 5);
	run_to_done(vcpus[0]);
}

#define TRACING	"/sys/kernel/tracing/"

static void trace_write(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY | O_TRUNC);

	TEST_ASSERT(fd >= 0 && write(fd, text, strlen(text)) == strlen(text), "cannot write %s", file);
	close(fd);
}

static void guest_ask_base(void)
{
	int i;

	for (i = 0; i < 100; i++)
		sbi_ecall(SBI_EXT_BASE, SBI_BASE_PROBE, SBI_EXT_TIME, 0, 0, 0, 0, 0);
	GUEST_DONE();
}

/* F20: each exit for an ECALL is told, also where the answer takes but a moment. */
TEST(each_call_has_its_exit_in_the_trace)
{
	struct kvm_vcpu *vcpu;
	char line[512];
	int calls = 0;
	FILE *f;

	if (access(TRACING "events/kvm/kvm_vcpu_exit/enable", W_OK))
		SKIP(return, "no tracing");
	vm = vm_create_with_one_vcpu(&vcpu, guest_ask_base);
	trace_write(TRACING "trace", "");
	trace_write(TRACING "events/kvm/kvm_vcpu_exit/enable", "1");
	run_to_done(vcpu);
	trace_write(TRACING "events/kvm/kvm_vcpu_exit/enable", "0");
	f = fopen(TRACING "trace", "r");
	TEST_ASSERT(f, "no trace");
	while (fgets(line, sizeof(line), f))
		if (strstr(line, "kvm_vcpu_exit:") && strstr(line, "SCAUSE: 0xa,"))
			calls++;
	fclose(f);
	/* Those, and the end. */
	TEST_ASSERT(calls >= 101, "%d calls in the trace", calls);
	kvm_vm_free(vm);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
