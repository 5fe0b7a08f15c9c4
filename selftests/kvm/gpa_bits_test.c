// SPDX-License-Identifier: GPL-2.0
/* on-c: pass */
/* also-on: plain: pass */
/* also-on: sv39: pass */
/* covers: gstage/mode.rs hooks/cap.rs mmu.rs kvm_core/locks.rs */
/*
 * KVM_CAP_VM_GPA_BITS: the width of guest physical addresses, what it is, how
 * it is chosen, and what it limits.
 */
#include "kvm_rs_util.h"

static const unsigned int widths[] = { 41, 50, 59 };

static unsigned int host_bits(void)
{
	return kvm_check_cap(KVM_CAP_VM_GPA_BITS);
}

static unsigned int vm_bits(struct kvm_vm *vm)
{
	return vm_check_cap(vm, KVM_CAP_VM_GPA_BITS);
}

/* The width that a request for @bits selects, 0 if none. */
static unsigned int width_for(u64 bits)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(widths); i++)
		if (bits <= widths[i])
			return widths[i] <= host_bits() ? widths[i] : 0;
	return 0;
}

static int enable(struct kvm_vm *vm, u64 bits, u32 flags)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_VM_GPA_BITS,
		.flags = flags,
		.args = { bits },
	};

	return __vm_ioctl(vm, KVM_ENABLE_CAP, &cap);
}

static void *one_page(void)
{
	void *mem = mmap(NULL, 2 * SIZE_4K, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	TEST_ASSERT(mem != MAP_FAILED, "mmap");
	return mem;
}

TEST(check_extension)
{
	struct kvm_vm *vm = vm_create_barebones();
	unsigned int bits = host_bits();

	TH_LOG("the host has %u bits", bits);
	TEST_ASSERT(bits == 41 || bits == 50 || bits == 59, "%u bits", bits);
	TEST_ASSERT_EQ(vm_bits(vm), bits);
}

TEST(enable_every_width)
{
	struct kvm_vm *vm = vm_create_barebones();
	unsigned int bits, want, now = host_bits();

	for (bits = 0; bits <= 64; bits++) {
		want = width_for(bits);
		if (want) {
			TEST_ASSERT_OK(enable(vm, bits, 0));
			now = want;
		} else {
			TEST_ASSERT_ERRNO(enable(vm, bits, 0), EINVAL);
		}
		TEST_ASSERT_EQ(vm_bits(vm), now);
	}
	/* And narrower again; the host's own width does not follow. */
	TEST_ASSERT_OK(enable(vm, 41, 0));
	TEST_ASSERT_EQ(vm_bits(vm), 41);
	TEST_ASSERT(host_bits() >= now, "the host's width follows a VM's");
}

TEST(refused_widths)
{
	static const u64 bad[] = {
		60, 63, 64, 65, 255, 256 + 41, 1ULL << 31, 1ULL << 32, (1ULL << 32) + 41,
		1ULL << 63, ~0ULL,
	};
	struct kvm_vm *vm = vm_create_barebones();
	int i;

	TEST_ASSERT_OK(enable(vm, 41, 0));
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		TEST_ASSERT_ERRNO(enable(vm, bad[i], 0), EINVAL);
	for (i = 0; i < 32; i++)
		TEST_ASSERT_ERRNO(enable(vm, 41, 1U << i), EINVAL);
	TEST_ASSERT_EQ(vm_bits(vm), 41);
}

/* First flags, then the width, then whether the VM is still free to choose. */
static void assert_busy(struct kvm_vm *vm)
{
	unsigned int bits, now = vm_bits(vm);

	for (bits = 0; bits <= 64; bits++) {
		TEST_ASSERT_ERRNO(enable(vm, bits, 0), width_for(bits) ? EBUSY : EINVAL);
		TEST_ASSERT_ERRNO(enable(vm, bits, 1), EINVAL);
	}
	TEST_ASSERT_EQ(vm_bits(vm), now);
}

TEST(busy_with_vcpu)
{
	struct kvm_vm *vm = vm_create_barebones();

	__vm_vcpu_add(vm, 0);
	assert_busy(vm);
}

TEST(busy_with_memslot)
{
	struct kvm_vm *vm = vm_create_barebones();
	void *mem = one_page();

	vm_set_user_memory_region(vm, 0, 0, 0, SIZE_4K, mem);
	assert_busy(vm);
	vm_set_user_memory_region(vm, 0, 0, 0, 0, NULL);
	TEST_ASSERT_OK(enable(vm, 41, 0));
	TEST_ASSERT_EQ(vm_bits(vm), 41);
	vm_set_user_memory_region(vm, 0, KVM_MEM_READONLY, 0, SIZE_4K, mem);
	assert_busy(vm);
}

/* Memslots end where the width does. */
TEST(memslot_limit)
{
	void *mem = one_page();
	struct kvm_vm *vm;
	u64 end;
	int i;

	for (i = 0; i < ARRAY_SIZE(widths); i++) {
		if (!width_for(widths[i]))
			continue;
		vm = vm_create_barebones();
		TEST_ASSERT_OK(enable(vm, widths[i], 0));
		end = 1ULL << widths[i];

#define add(slot, gpa, size) __vm_set_user_memory_region(vm, slot, 0, gpa, size, mem)
		TEST_ASSERT_OK(add(0, end - SIZE_4K, SIZE_4K));
		TEST_ASSERT_ERRNO(add(1, end, SIZE_4K), EFAULT);
		TEST_ASSERT_ERRNO(add(1, end + SIZE_4K, SIZE_4K), EFAULT);
		TEST_ASSERT_ERRNO(add(1, 2 * end, SIZE_4K), EFAULT);
		/* Neither across the end nor around the top of 64 bits. */
		TEST_ASSERT_OK(add(0, end - SIZE_4K, 0));
		TEST_ASSERT_ERRNO(add(1, end - SIZE_4K, 2 * SIZE_4K), EFAULT);
		TEST_ASSERT(add(1, -SIZE_4K, 2 * SIZE_4K), "a memslot wraps around");
		TEST_ASSERT_OK(add(1, end - 2 * SIZE_4K, 2 * SIZE_4K));
		/* Moved beyond the end. */
		TEST_ASSERT_ERRNO(add(1, end - SIZE_4K, 2 * SIZE_4K), EFAULT);
		TEST_ASSERT_ERRNO(add(1, end, 2 * SIZE_4K), EFAULT);
		TEST_ASSERT_OK(add(1, end - 4 * SIZE_4K, 2 * SIZE_4K));
#undef add
		kvm_vm_free(vm);
	}
}

#define MAX_TOUCH	8

static void guest_touch(u64 *p, u64 n)
{
	u64 i;

	for (i = 0; i < n; i++, p += SIZE_4K / sizeof(*p))
		WRITE_ONCE(*p, READ_ONCE(*p) * 2 + i);
	GUEST_DONE();
}

/*
 * Pages at powers of two all over the width, each of its own contents: an
 * address that is cut, or a table index that is, makes two of them one.
 */
static void touch_width(unsigned int bits)
{
	u64 *mem[MAX_TOUCH], gpa[MAX_TOUCH] = {}, end;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int i, n = 0;

	/* The guest's own page tables name at most 56 bits. */
	end = 1ULL << (bits > 56 ? 56 : bits);
	gpa[n++] = end - SIZE_4K;
	gpa[n++] = end / 2;
	gpa[n++] = end / 2 + SIZE_4K;
	gpa[n++] = end / 4 * 3;
	gpa[n++] = SIZE_1G;
	gpa[n++] = (1ULL << 40) + SIZE_1G;
	if (bits > 41)
		gpa[n++] = (1ULL << 41) + SIZE_1G;
	if (bits > 50)
		gpa[n++] = (1ULL << 50) + SIZE_1G;

	vm = vm_create_loaded(KVM_CAP_VM_GPA_BITS, bits);
	TEST_ASSERT_EQ(vm_bits(vm), bits);
	vcpu = vm_vcpu_add(vm, 0, guest_touch);
	for (i = 0; i < n; i++) {
		mem[i] = one_page();
		mem[i][0] = 1000 * i + 7;
		vm_set_user_memory_region(vm, 1 + i, 0, gpa[i], SIZE_4K, mem[i]);
		virt_pg_map(vm, TEST_GVA + i * SIZE_4K, gpa[i]);
	}
	vcpu_args_set(vcpu, 2, TEST_GVA, n);
	run_to_done(vcpu);
	for (i = 0; i < n; i++) {
		TEST_ASSERT(mem[i][0] == (1000 * i + 7) * 2 + i,
			    "%u bits, gpa 0x%lx: wrong contents %lu", bits,
			    (unsigned long)gpa[i], (unsigned long)mem[i][0]);
		munmap(mem[i], 2 * SIZE_4K);
	}
	kvm_vm_free(vm);
}

TEST(touch_sv39x4)
{
	touch_width(41);
}

TEST(touch_sv48x4)
{
	if (!width_for(50))
		SKIP(return, "the host lacks Sv48x4");
	touch_width(50);
}

TEST(touch_sv57x4)
{
	if (!width_for(59))
		SKIP(return, "the host lacks Sv57x4");
	touch_width(59);
}

static void guest_load_once(u64 *p)
{
	GUEST_SYNC1(READ_ONCE(*p));
}

/* An address beyond the VM's width is no memory of it, not one cut to fit. */
TEST(beyond_the_width)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 *mem, val = 0x1234;
	int i;

	for (i = 0; i < ARRAY_SIZE(widths); i++) {
		if (!width_for(widths[i]))
			continue;
		vm = vm_create_loaded(KVM_CAP_VM_GPA_BITS, widths[i]);
		/* Beyond what the library lets the guest's page tables name. */
		if (widths[i] >= vm->pa_bits) {
			kvm_vm_free(vm);
			continue;
		}
		vcpu = vm_vcpu_add(vm, 0, guest_load_once);
		mem = one_page();
		mem[0] = 0x5555;
		vm_set_user_memory_region(vm, 1, 0, SIZE_1G, SIZE_4K, mem);
		virt_pg_map(vm, TEST_GVA, (1ULL << widths[i]) + SIZE_1G);
		vcpu_args_set(vcpu, 1, TEST_GVA);

		vcpu_run(vcpu);
		TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
		TEST_ASSERT_EQ(vcpu->run->mmio.phys_addr, (1ULL << widths[i]) + SIZE_1G);
		memcpy(vcpu->run->mmio.data, &val, sizeof(val));
		TEST_ASSERT_EQ(run_to_sync(vcpu), val);
		kvm_vm_free(vm);
	}
}

int main(int argc, char *argv[])
{
	__TEST_REQUIRE(host_bits(), "KVM_CAP_VM_GPA_BITS is missing");
	return test_harness_run(argc, argv);
}
