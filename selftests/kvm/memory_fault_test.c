// SPDX-License-Identifier: GPL-2.0
/* on-c: skip: KVM_CAP_MEMORY_FAULT_INFO */
/* covers: kvm_core/runpage.rs mmu/fault.rs */
/*
 * Guest memory that the host cannot provide ends KVM_RUN with EFAULT and
 * KVM_EXIT_MEMORY_FAULT, which says where; once it can, the guest goes on as if
 * nothing had been.
 */
#include "kvm_rs_mem.h"

#define SLOT	1
#define GPA	SIZE_1G
#define NPAGES	16UL
#define OFFSET	0x788UL

static struct kvm_vcpu *create(u32 flags, void *mem)
{
	struct kvm_vcpu *vcpu = server_create();

	vm_set_user_memory_region(vcpu->vm, SLOT, flags, GPA, NPAGES * SIZE_4K, mem);
	server_map(vcpu, GPA, NPAGES * SIZE_4K);
	return vcpu;
}

static char *anon(void)
{
	char *mem = map_advised(SIZE_2M, MADV_NOHUGEPAGE);

	fill(mem, NPAGES);
	return mem;
}

/* KVM_RUN fails, and says that it is for want of @page. */
static void assert_fault(struct kvm_vcpu *vcpu, u64 page)
{
	struct kvm_run *run = vcpu->run;
	int i, ret, err;

	/* However often it is tried. */
	for (i = 0; i < 3; i++) {
		memset(&run->memory_fault, 0xa5, sizeof(run->memory_fault));
		ret = __vcpu_run(vcpu);
		err = errno;
		TEST_ASSERT(ret == -1 && err == EFAULT, "KVM_RUN: %d, %s", ret, strerror(err));
		TEST_ASSERT_EQ(run->exit_reason, KVM_EXIT_MEMORY_FAULT);
		TEST_ASSERT_EQ(run->memory_fault.gpa, GPA + page * SIZE_4K);
		TEST_ASSERT_EQ(run->memory_fault.size, SIZE_4K);
		TEST_ASSERT_EQ(run->memory_fault.flags, 0);
	}
}

static void ask(struct kvm_vcpu *vcpu, enum guest_op op, u64 page, u64 val)
{
	guest_ask(vcpu, op, gva_of(page) + (op == GUEST_OP_EXEC ? 0 : OFFSET), val);
}

/* The guest's access comes to its end: no trap, and a value. */
static u64 assert_ends(struct kvm_vcpu *vcpu)
{
	u64 val;

	TEST_ASSERT_EQ(guest_answer(vcpu, &val), NO_TRAP);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, UCALL_EXIT_REASON);
	return val;
}

TEST(capability)
{
	struct kvm_vcpu *vcpu = server_create();

	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_MEMORY_FAULT_INFO), 1);
	TEST_ASSERT_EQ(vm_check_cap(vcpu->vm, KVM_CAP_MEMORY_FAULT_INFO), 1);
	kvm_vm_free(vcpu->vm);
}

/* Nothing is mapped there; then something is. */
TEST(unmapped)
{
	static const u32 ret[] = { 0x02a00513, 0x00008067 }; /* li a0, 42; ret */
	static const enum guest_op ops[] = { GUEST_OP_LOAD, GUEST_OP_STORE, GUEST_OP_EXEC };
	char *mem = anon(), *page, *new;
	struct kvm_vcpu *vcpu = create(0, mem);
	int i, p;
	u64 val;

	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		p = 3 + 2 * i;
		page = mem + p * SIZE_4K;
		/* Whether the guest had the page before, or not. */
		if (i & 1)
			guest_load(vcpu, gva_of(p));
		munmap(page, SIZE_4K);
		ask(vcpu, ops[i], p, 77);
		assert_fault(vcpu, p);

		new = mmap(page, SIZE_4K, PROT_READ | PROT_WRITE, MAP_ANON_PRIVATE | MAP_FIXED, -1, 0);
		TEST_ASSERT(new == page, "mmap");
		memcpy(page, ret, sizeof(ret));
		*(u64 *)(page + OFFSET) = 1234;
		val = assert_ends(vcpu);
		switch (ops[i]) {
		case GUEST_OP_LOAD:
			TEST_ASSERT_EQ(val, 1234);
			break;
		case GUEST_OP_STORE:
			TEST_ASSERT_EQ(*(u64 *)(page + OFFSET), 77);
			break;
		default:
			TEST_ASSERT_EQ(val, 42);
		}
		/* The neighbours were there all the time. */
		TEST_ASSERT_EQ(guest_load(vcpu, gva_of(p - 1)), pattern(p - 1));
		TEST_ASSERT_EQ(guest_load(vcpu, gva_of(p + 1)), pattern(p + 1));
	}
	kvm_vm_free(vcpu->vm);
}

/* Neither to be read nor to be written. */
TEST(prot_none)
{
	char *mem = anon();
	struct kvm_vcpu *vcpu = create(0, mem);

	guest_store(vcpu, gva_of(2), pattern(2));
	mprotect(mem, NPAGES * SIZE_4K, PROT_NONE);
	ask(vcpu, GUEST_OP_LOAD, 2, 0);
	assert_fault(vcpu, 2);
	mprotect(mem, NPAGES * SIZE_4K, PROT_READ | PROT_WRITE);
	TEST_ASSERT_EQ(assert_ends(vcpu), 0);

	mprotect(mem, NPAGES * SIZE_4K, PROT_NONE);
	ask(vcpu, GUEST_OP_STORE, 3, 5);
	assert_fault(vcpu, 3);
	mprotect(mem, NPAGES * SIZE_4K, PROT_READ | PROT_WRITE);
	assert_ends(vcpu);
	TEST_ASSERT_EQ(*(u64 *)(mem + 3 * SIZE_4K + OFFSET), 5);
	kvm_vm_free(vcpu->vm);
}

/* Code that may be run but not be read is no memory for a guest, which may read all it has. */
TEST(prot_exec)
{
	char *mem = anon();
	struct kvm_vcpu *vcpu = create(0, mem);

	mprotect(mem + 2 * SIZE_4K, SIZE_4K, PROT_EXEC);
	TEST_ASSERT_EQ(guest_load(vcpu, gva_of(1)), pattern(1));
	ask(vcpu, GUEST_OP_LOAD, 2, 0);
	assert_fault(vcpu, 2);
	mprotect(mem + 2 * SIZE_4K, SIZE_4K, PROT_READ);
	TEST_ASSERT_EQ(assert_ends(vcpu), 0);
	kvm_vm_free(vcpu->vm);
}

/* Loads are served, stores are not, in a logged slot neither. */
TEST(read_only)
{
	static const u32 flags[] = { 0, KVM_MEM_LOG_DIRTY_PAGES };
	struct kvm_vcpu *vcpu;
	char *mem;
	int i;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		mem = anon();
		vcpu = create(flags[i], mem);
		mprotect(mem, NPAGES * SIZE_4K, PROT_READ);
		TEST_ASSERT_EQ(guest_load(vcpu, gva_of(4)), pattern(4));
		TEST_ASSERT_EQ(guest_load(vcpu, gva_of(5)), pattern(5));
		ask(vcpu, GUEST_OP_STORE, 4, 6);
		assert_fault(vcpu, 4);
		TEST_ASSERT_EQ(*(u64 *)(mem + 4 * SIZE_4K + OFFSET), 0);
		mprotect(mem, NPAGES * SIZE_4K, PROT_READ | PROT_WRITE);
		assert_ends(vcpu);
		TEST_ASSERT_EQ(*(u64 *)(mem + 4 * SIZE_4K + OFFSET), 6);
		kvm_vm_free(vcpu->vm);
	}
}

/* A page of a file that the file does not have. */
TEST(beyond_end_of_file)
{
	int fd = memfd_create("short", 0);
	struct kvm_vcpu *vcpu;
	char *mem;

	TEST_ASSERT(!ftruncate(fd, 4 * SIZE_4K), "ftruncate");
	mem = mmap(NULL, NPAGES * SIZE_4K, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	TEST_ASSERT(mem != MAP_FAILED, "mmap");
	vcpu = create(0, mem);
	guest_store(vcpu, gva_of(3), 1);
	ask(vcpu, GUEST_OP_STORE, 4, 7);
	assert_fault(vcpu, 4);
	TEST_ASSERT(!ftruncate(fd, 5 * SIZE_4K), "ftruncate");
	assert_ends(vcpu);
	TEST_ASSERT_EQ(*(u64 *)(mem + 4 * SIZE_4K + OFFSET), 7);
	/* It shrinks again, under the guest. */
	TEST_ASSERT(!ftruncate(fd, 4 * SIZE_4K), "ftruncate");
	ask(vcpu, GUEST_OP_LOAD, 4, 0);
	assert_fault(vcpu, 4);
	kvm_vm_free(vcpu->vm);
}

/* Where there is no slot, and for stores to a read-only one, there is MMIO as ever. */
TEST(mmio_is_not_meant)
{
	char *mem = anon();
	struct kvm_vcpu *vcpu = create(KVM_MEM_READONLY, mem);

	ask(vcpu, GUEST_OP_STORE, 1, 1);
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
	assert_ends(vcpu);

	munmap(mem + 2 * SIZE_4K, SIZE_4K);
	ask(vcpu, GUEST_OP_STORE, 2, 1);
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
	assert_ends(vcpu);
	ask(vcpu, GUEST_OP_LOAD, 2, 1);
	assert_fault(vcpu, 2);
	kvm_vm_free(vcpu->vm);
}

/* What comes after a memory fault does not look like one. */
TEST(not_stale)
{
	char *mem = anon();
	struct kvm_vcpu *vcpu = create(0, mem);
	int kmsg = kmsg_open();
	char line[4096];
	ssize_t n;

	munmap(mem + 2 * SIZE_4K, SIZE_4K);
	ask(vcpu, GUEST_OP_LOAD, 2, 0);
	assert_fault(vcpu, 2);

	/* The slot goes: now it is MMIO. */
	vm_set_user_memory_region(vcpu->vm, SLOT, 0, GPA, 0, NULL);
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
	TEST_ASSERT_EQ(vcpu->run->mmio.phys_addr, GPA + 2 * SIZE_4K + OFFSET);
	*(u64 *)vcpu->run->mmio.data = 99;
	TEST_ASSERT_EQ(assert_ends(vcpu), 99);

	/* Userspace was told; the log need not be. */
	while ((n = read(kmsg, line, sizeof(line) - 1)) > 0 || (n < 0 && errno == EPIPE)) {
		line[n > 0 ? n : 0] = '\0';
		TEST_ASSERT(!strstr(line, "exit error"), "the kernel says: %s", line);
	}
	close(kmsg);
	kvm_vm_free(vcpu->vm);
}

int main(int argc, char *argv[])
{
	__TEST_REQUIRE(kvm_check_cap(KVM_CAP_MEMORY_FAULT_INFO), "KVM_CAP_MEMORY_FAULT_INFO is missing");
	return test_harness_run(argc, argv);
}
