// SPDX-License-Identifier: GPL-2.0
/* on-c: skip: KVM_CAP_RISCV_SET_HGATP_MODE */
/* also-on: plain: skip: KVM_CAP_RISCV_SET_HGATP_MODE */
/* also-on: sv39: skip: KVM_CAP_RISCV_SET_HGATP_MODE */
/* covers: gstage/mode.rs hooks/cap.rs arch/hgatp.rs */
/*
 * KVM_CAP_RISCV_SET_HGATP_MODE: userspace chooses the G-stage translation mode
 * of a VM by its encoding in hgatp.MODE.
 *
 * Mainline gave the number 247 to a capability of s390 later, and offers the
 * same choice as KVM_CAP_VM_GPA_BITS; gpa_bits_test has that one.
 */
#include "kvm_rs_util.h"

#ifndef KVM_CAP_RISCV_SET_HGATP_MODE
#define KVM_CAP_RISCV_SET_HGATP_MODE		247
#define KVM_RISCV_HGATP_MODE_SV39X4_BIT		0
#define KVM_RISCV_HGATP_MODE_SV48X4_BIT		1
#define KVM_RISCV_HGATP_MODE_SV57X4_BIT		2
#endif

static const struct hgatp_mode {
	u64 mode;
	unsigned int bit;
	unsigned int gpa_bits;
} modes[] = {
	{ 8, KVM_RISCV_HGATP_MODE_SV39X4_BIT, 41 },
	{ 9, KVM_RISCV_HGATP_MODE_SV48X4_BIT, 50 },
	{ 10, KVM_RISCV_HGATP_MODE_SV57X4_BIT, 59 },
};

static const u64 bad_modes[] = {
	0, 1, 2, 7, 11, 15, 16, 41, 50, 59, 63, 64, 65, 72, 73, 74, 127, 128, 255,
	256 + 8, (1ULL << 31) + 8, 1ULL << 32, (1ULL << 32) + 8, (1ULL << 32) + 9,
	8ULL << 60, 1ULL << 63, ~0ULL,
};

static unsigned int host_modes(void)
{
	return kvm_check_cap(KVM_CAP_RISCV_SET_HGATP_MODE);
}

static bool supported(const struct hgatp_mode *m)
{
	return host_modes() & 1U << m->bit;
}

/* The highest mode of the host, the default of a VM. */
static const struct hgatp_mode *highest(void)
{
	const struct hgatp_mode *m = &modes[ARRAY_SIZE(modes) - 1];

	while (!supported(m))
		m--;
	return m;
}

static int enable(struct kvm_vm *vm, u64 mode, u32 flags)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_RISCV_SET_HGATP_MODE,
		.flags = flags,
		.args = { mode },
	};

	return __vm_ioctl(vm, KVM_ENABLE_CAP, &cap);
}

static void assert_width(struct kvm_vm *vm, const struct hgatp_mode *m)
{
	int bits = vm_check_cap(vm, KVM_CAP_VM_GPA_BITS);

	TEST_ASSERT(bits == m->gpa_bits, "mode %lu: %d GPA bits, not %u",
		    (unsigned long)m->mode, bits, m->gpa_bits);
}

static void add_slot(struct kvm_vm *vm, u64 size)
{
	static void *mem;

	if (!mem)
		mem = mmap(NULL, SIZE_4K, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	vm_set_user_memory_region(vm, 7, 0, 0x10000, size, mem);
}

TEST(check_extension)
{
	struct kvm_vm *vm = vm_create_barebones();
	unsigned int sys = host_modes();
	int i;

	TH_LOG("modes of the host: 0x%x", sys);
	TEST_ASSERT(!(sys & ~7U), "unknown bits: 0x%x", sys);
	TEST_ASSERT(sys & 1U << KVM_RISCV_HGATP_MODE_SV39X4_BIT, "no Sv39x4: 0x%x", sys);
	TEST_ASSERT_EQ(vm_check_cap(vm, KVM_CAP_RISCV_SET_HGATP_MODE), sys);

	/* The widest says what KVM_CAP_VM_GPA_BITS says of /dev/kvm. */
	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_VM_GPA_BITS), highest()->gpa_bits);
	assert_width(vm, highest());

	/* What the VM uses does not change what it could use. */
	for (i = 0; i < ARRAY_SIZE(modes); i++)
		if (supported(&modes[i]))
			TEST_ASSERT_OK(enable(vm, modes[i].mode, 0));
	TEST_ASSERT_EQ(vm_check_cap(vm, KVM_CAP_RISCV_SET_HGATP_MODE), sys);
	TEST_ASSERT_EQ(host_modes(), sys);
}

TEST(enable_each_mode)
{
	struct kvm_vm *vm;
	int i;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		vm = vm_create_barebones();
		if (supported(&modes[i])) {
			TEST_ASSERT_OK(enable(vm, modes[i].mode, 0));
			assert_width(vm, &modes[i]);
		} else {
			TEST_ASSERT_ERRNO(enable(vm, modes[i].mode, 0), EINVAL);
			assert_width(vm, highest());
		}
		kvm_vm_free(vm);
	}
}

TEST(refused_modes)
{
	struct kvm_vm *vm = vm_create_barebones();
	int i;

	TEST_ASSERT_OK(enable(vm, modes[0].mode, 0));
	for (i = 0; i < ARRAY_SIZE(bad_modes); i++) {
		TEST_ASSERT(enable(vm, bad_modes[i], 0) == -1 && errno == EINVAL,
			    "mode 0x%lx was not refused with EINVAL", (unsigned long)bad_modes[i]);
		assert_width(vm, &modes[0]);
	}
}

TEST(repeatable_until_committed)
{
	struct kvm_vm *vm = vm_create_barebones();
	int i, j;

	for (j = 0; j < 3; j++) {
		for (i = 0; i < ARRAY_SIZE(modes); i++) {
			if (!supported(&modes[i]))
				continue;
			TEST_ASSERT_OK(enable(vm, modes[i].mode, 0));
			TEST_ASSERT_OK(enable(vm, modes[i].mode, 0));
			assert_width(vm, &modes[i]);
		}
	}
}

/* A busy VM refuses every mode, its own too; bad flags and modes come first. */
static void assert_busy(struct kvm_vm *vm, const struct hgatp_mode *now)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		TEST_ASSERT_ERRNO(enable(vm, modes[i].mode, 0),
				  supported(&modes[i]) ? EBUSY : EINVAL);
		TEST_ASSERT_ERRNO(enable(vm, modes[i].mode, 1), EINVAL);
	}
	for (i = 0; i < ARRAY_SIZE(bad_modes); i++)
		TEST_ASSERT(enable(vm, bad_modes[i], 0) == -1 && errno == EINVAL,
			    "busy, mode 0x%lx: wanted EINVAL, errno %d",
			    (unsigned long)bad_modes[i], errno);
	assert_width(vm, now);
}

TEST(busy_with_vcpu)
{
	struct kvm_vm *vm = vm_create_barebones();

	TEST_ASSERT_OK(enable(vm, modes[0].mode, 0));
	__vm_vcpu_add(vm, 0);
	assert_busy(vm, &modes[0]);
}

TEST(busy_with_memslot)
{
	struct kvm_vm *vm = vm_create_barebones();

	TEST_ASSERT_OK(enable(vm, modes[0].mode, 0));
	add_slot(vm, SIZE_4K);
	assert_busy(vm, &modes[0]);

	/* Without its last memslot the VM is free again. */
	add_slot(vm, 0);
	TEST_ASSERT_OK(enable(vm, highest()->mode, 0));
	assert_width(vm, highest());
	TEST_ASSERT_OK(enable(vm, modes[0].mode, 0));
	assert_width(vm, &modes[0]);
}

/* The two capabilities are two names of one state. */
TEST(one_state_with_gpa_bits)
{
	struct kvm_vm *vm = vm_create_barebones();
	int i;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		if (!supported(&modes[i]))
			continue;
		TEST_ASSERT_OK(enable(vm, modes[i].mode, 0));
		assert_width(vm, &modes[i]);
		vm_enable_cap(vm, KVM_CAP_VM_GPA_BITS, highest()->gpa_bits);
		assert_width(vm, highest());
		vm_enable_cap(vm, KVM_CAP_VM_GPA_BITS, modes[i].gpa_bits);
		assert_width(vm, &modes[i]);
	}
}

TEST(flags)
{
	struct kvm_vm *vm = vm_create_barebones();
	int bit;

	TEST_ASSERT_OK(enable(vm, modes[0].mode, 0));
	for (bit = 0; bit < 32; bit++) {
		TEST_ASSERT_ERRNO(enable(vm, highest()->mode, 1U << bit), EINVAL);
		TEST_ASSERT_ERRNO(enable(vm, 1, 1U << bit), EINVAL);
	}
	assert_width(vm, &modes[0]);
}

/* It is a VM capability: a vCPU fd does not take it. */
TEST(not_a_vcpu_capability)
{
	struct kvm_vm *vm = vm_create_barebones();
	struct kvm_vcpu *vcpu = __vm_vcpu_add(vm, 0);
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_RISCV_SET_HGATP_MODE,
		.args = { 8 },
	};

	TEST_ASSERT(__vcpu_ioctl(vcpu, KVM_ENABLE_CAP, &cap) == -1,
		    "a vCPU accepted KVM_CAP_RISCV_SET_HGATP_MODE");
}

static void guest_touch(u64 *p)
{
	WRITE_ONCE(*p, READ_ONCE(*p) + 1);
	GUEST_DONE();
}

/* A guest runs in each mode, with memory up to the last page of its width. */
TEST(guest_runs_in_each_mode)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 *mem, gpa;
	int i;

	mem = mmap(NULL, SIZE_4K, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(mem != MAP_FAILED, "mmap");

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		if (!supported(&modes[i]))
			continue;
		vm = vm_create_loaded(KVM_CAP_RISCV_SET_HGATP_MODE, modes[i].mode);
		vcpu = vm_vcpu_add(vm, 0, guest_touch);

		/* The guest's own page tables name at most 56 bits. */
		gpa = (1ULL << (modes[i].gpa_bits > 56 ? 56 : modes[i].gpa_bits)) - SIZE_4K;
		vm_set_user_memory_region(vm, 1, 0, gpa, SIZE_4K, mem);
		virt_pg_map(vm, TEST_GVA, gpa);
		mem[0] = 41;
		vcpu_args_set(vcpu, 1, TEST_GVA);
		run_to_done(vcpu);
		TEST_ASSERT_EQ(mem[0], 42);
		kvm_vm_free(vm);
	}
}

int main(int argc, char *argv[])
{
	__TEST_REQUIRE(host_modes(), "KVM_CAP_RISCV_SET_HGATP_MODE is missing");
	return test_harness_run(argc, argv);
}
