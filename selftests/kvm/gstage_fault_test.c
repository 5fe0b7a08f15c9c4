// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: M1, N1 */
/* also-on: svade: fail: M1, M9, N1 */
/* covers: mmu/fault.rs kvm_core/hostmm.rs kvm_core/memslot.rs gstage/install.rs
 * mmu/memslots.rs */
/*
 * G-stage faults on every kind of memory that can stand behind a memslot: what
 * the guest sees is what the host has there, and nothing else changes.
 */
#include <sys/wait.h>

#include "kvm_rs_mem.h"

#define SLOT	1
#define GPA	SIZE_1G

static void add_slot(struct kvm_vcpu *vcpu, u32 flags, u64 gpa, u64 size, void *mem)
{
	vm_set_user_memory_region(vcpu->vm, SLOT, flags, gpa, size, mem);
}

static struct kvm_vcpu *create_with_slot(u32 flags, u64 gpa, u64 size, void *mem)
{
	struct kvm_vcpu *vcpu = server_create();

	add_slot(vcpu, flags, gpa, size, mem);
	server_map(vcpu, gpa, size);
	return vcpu;
}

static void *anon(size_t size, size_t offset, int advice)
{
	void *mem = mmap_at(size, SIZE_2M, offset, MAP_ANON_PRIVATE, -1);

	TEST_ASSERT(mem != MAP_FAILED, "mmap");
	if (madvise(mem, size, advice))
		pr_info("# madvise(%d): %s: no THP in this kernel?\n", advice, strerror(errno));
	return mem;
}

TEST(anon_4k)
{
	void *mem = anon(64 * SIZE_4K, 0, MADV_NOHUGEPAGE);
	struct kvm_vcpu *vcpu = create_with_slot(0, GPA, 64 * SIZE_4K, mem);

	fill(mem, 64);
	check_pages(vcpu, mem, 0, 32, 1, false);
	check_pages(vcpu, mem, 32, 32, 1, true);

	/* What the host drops, the guest finds empty. */
	madvise(page_word(mem, 7), SIZE_4K, MADV_DONTNEED);
	TEST_ASSERT_EQ(guest_load(vcpu, gva_of(7)), 0);
	guest_store(vcpu, gva_of(7), 77);
	TEST_ASSERT_EQ(page_word(mem, 7)[0], 77);
	TEST_ASSERT_EQ(guest_load(vcpu, gva_of(6)), pattern(6));
}

/* The host faults the page in only after the guest asks for it. */
TEST(untouched)
{
	void *mem = anon(8 * SIZE_4K, 0, MADV_NOHUGEPAGE);
	struct kvm_vcpu *vcpu = create_with_slot(0, GPA, 8 * SIZE_4K, mem);

	TEST_ASSERT_EQ(guest_load(vcpu, gva_of(0)), 0);
	guest_store(vcpu, gva_of(0), 5);
	guest_store(vcpu, gva_of(1), 6);
	TEST_ASSERT_EQ(page_word(mem, 0)[0], 5);
	TEST_ASSERT_EQ(page_word(mem, 1)[0], 6);
	TEST_ASSERT_EQ(page_word(mem, 2)[0], 0);
}

/*
 * A piece of a huge page that goes is nothing for the kernel to complain about.
 * It may say so only once: this comes before all that drops such pieces (differences-from-c N1).
 */
TEST(unmap_part_of_thp_quietly)
{
	void *mem = anon(SIZE_2M, 0, MADV_HUGEPAGE);
	struct kvm_vcpu *vcpu = create_with_slot(0, GPA, SIZE_2M, mem);
	int kmsg = kmsg_open();

	fill(mem, SIZE_2M / SIZE_4K);
	guest_store(vcpu, gva_of(0), 1);
	madvise(page_word(mem, 100), SIZE_4K, MADV_DONTNEED);
	TEST_ASSERT_EQ(guest_load(vcpu, gva_of(100)), 0);
	kmsg_assert_quiet(kmsg);
}

TEST(thp_2m)
{
	u64 npages = 2 * SIZE_2M / SIZE_4K;
	void *mem = anon(2 * SIZE_2M, 0, MADV_HUGEPAGE);
	struct kvm_vcpu *vcpu = create_with_slot(0, GPA, 2 * SIZE_2M, mem);

	fill(mem, npages);
	check_pages(vcpu, mem, 3, npages / 2 - 3, 37, false);
	check_pages(vcpu, mem, npages - 1, 1, 1, true);
	check_pages(vcpu, mem, npages / 2, npages / 2 - 1, 41, true);

	/* A page of the middle goes, its neighbours stay. */
	madvise(page_word(mem, 100), SIZE_4K, MADV_DONTNEED);
	TEST_ASSERT_EQ(guest_load(vcpu, gva_of(100)), 0);
	TEST_ASSERT_EQ(guest_load(vcpu, gva_of(99)), pattern(99));
	TEST_ASSERT_EQ(guest_load(vcpu, gva_of(101)), pattern(101));
	guest_store(vcpu, gva_of(100), 11);
	TEST_ASSERT_EQ(page_word(mem, 100)[0], 11);
}

/*
 * Slots whose guest and host addresses differ within a huge page, or which
 * begin and end in the middle of one.
 */
TEST(thp_unaligned)
{
	static const struct {
		u64 gpa_off, hva_off;
	} offs[] = {
		{ SIZE_4K, 0 }, { 0, SIZE_4K }, { 5 * SIZE_4K, 5 * SIZE_4K },
		{ SIZE_2M - SIZE_4K, SIZE_2M - SIZE_4K }, { SIZE_4K, SIZE_2M - SIZE_4K },
	};
	u64 npages = 2 * SIZE_2M / SIZE_4K, data = 0xabcd;
	struct kvm_vcpu *vcpu;
	char *mem;
	int i, side;

	for (i = 0; i < ARRAY_SIZE(offs); i++) {
		/* Huge pages all around the slot. */
		mem = anon(4 * SIZE_2M, 0, MADV_HUGEPAGE);
		memset(mem, 0xee, 4 * SIZE_2M);
		mem += offs[i].hva_off;
		vcpu = create_with_slot(0, GPA + offs[i].gpa_off, npages * SIZE_4K, mem);
		fill(mem, npages);
		check_pages(vcpu, mem, 0, 3, 1, false);
		check_pages(vcpu, mem, npages - 3, 3, 1, true);
		check_pages(vcpu, mem, 3, npages - 6, 61, false);

		/* The pages beside the slot are none of the guest's. */
		for (side = 0; side < 2; side++) {
			u64 gpa = GPA + offs[i].gpa_off + (side ? npages * SIZE_4K : -SIZE_4K);

			virt_pg_map(vcpu->vm, TEST_GVA - SIZE_1G / 2 + side * SIZE_4K, gpa);
			guest_ask(vcpu, GUEST_OP_LOAD, TEST_GVA - SIZE_1G / 2 + side * SIZE_4K, 0);
			vcpu_run(vcpu);
			TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
			TEST_ASSERT_EQ(vcpu->run->mmio.phys_addr, gpa);
			memcpy(vcpu->run->mmio.data, &data, 8);
			guest_answer(vcpu, NULL);
		}
		kvm_vm_free(vcpu->vm);
		munmap(mem - offs[i].hva_off, 4 * SIZE_2M);
	}
}

/* A store into a read-only slot is MMIO for userspace; loads and fetches are not. */
static void check_readonly(void *mem, u64 size)
{
	static const u32 ret[] = { 0x02a00513, 0x00008067 }; /* li a0, 42; ret */
	struct kvm_vcpu *vcpu = create_with_slot(KVM_MEM_READONLY, GPA, size, mem);
	u64 npages = size / SIZE_4K, i, val;
	struct kvm_run *run = vcpu->run;

	for (i = 0; i < npages; i += npages / 4) {
		TEST_ASSERT_EQ(guest_load(vcpu, gva_of(i)), pattern(i));
		guest_ask(vcpu, GUEST_OP_STORE, gva_of(i) + 8, ~pattern(i));
		vcpu_run(vcpu);
		TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
		TEST_ASSERT_EQ(run->mmio.phys_addr, GPA + i * SIZE_4K + 8);
		TEST_ASSERT_EQ(run->mmio.is_write, 1);
		TEST_ASSERT_EQ(run->mmio.len, 8);
		memcpy(&val, run->mmio.data, 8);
		TEST_ASSERT_EQ(val, ~pattern(i));
		TEST_ASSERT_EQ(guest_answer(vcpu, NULL), NO_TRAP);
		TEST_ASSERT_EQ(page_word(mem, i)[0], pattern(i));
		TEST_ASSERT_EQ(page_word(mem, i)[1], 0);
	}

	/* The host can still write, and the guest sees and runs it. */
	memcpy(page_word(mem, 1), ret, sizeof(ret));
	guest_ask(vcpu, GUEST_OP_EXEC, gva_of(1), 0);
	TEST_ASSERT_EQ(guest_answer(vcpu, &val), NO_TRAP);
	TEST_ASSERT_EQ(val, 42);
	kvm_vm_free(vcpu->vm);
}

TEST(readonly_slot)
{
	void *mem = anon(16 * SIZE_4K, 0, MADV_NOHUGEPAGE);

	fill(mem, 16);
	check_readonly(mem, 16 * SIZE_4K);

	mem = anon(SIZE_2M, 0, MADV_HUGEPAGE);
	fill(mem, SIZE_2M / SIZE_4K);
	check_readonly(mem, SIZE_2M);
}

/* Memory that the host itself may only read needs a read-only slot. */
TEST(readonly_mapping)
{
	void *mem = anon(4 * SIZE_4K, 0, MADV_NOHUGEPAGE);
	struct kvm_vcpu *vcpu = server_create();

	fill(mem, 4);
	mprotect(mem, 4 * SIZE_4K, PROT_READ);
	TEST_ASSERT_ERRNO(__vm_set_user_memory_region(vcpu->vm, SLOT, 0, GPA, 4 * SIZE_4K, mem),
			  EPERM);
	add_slot(vcpu, KVM_MEM_READONLY, GPA, 4 * SIZE_4K, mem);
	server_map(vcpu, GPA, 4 * SIZE_4K);
	TEST_ASSERT_EQ(guest_load(vcpu, gva_of(2)), pattern(2));
}

/* An access that the host forbids, and that goes on once it does not. */
static void assert_refused(struct kvm_vcpu *vcpu, void *mem, enum guest_op op, u64 page)
{
	u64 *word = page_word(mem, page);

	guest_ask(vcpu, op, gva_of(page), 1);
	TEST_ASSERT_ERRNO(__vcpu_run(vcpu), EFAULT);
	TEST_ASSERT_ERRNO(__vcpu_run(vcpu), EFAULT);
	TEST_ASSERT_OK(mprotect(word, SIZE_4K, PROT_READ | PROT_WRITE));
	TEST_ASSERT_EQ(*word, pattern(page));
	TEST_ASSERT_EQ(guest_answer(vcpu, NULL), NO_TRAP);
	TEST_ASSERT_EQ(*word, op == GUEST_OP_STORE ? 1 : pattern(page));
}

/*
 * What the host no longer allows its process, the guest is not to do either,
 * and not with the help of a neighbour's fault.
 */
static void check_mprotect(int advice, u32 flags)
{
	u64 npages = SIZE_2M / SIZE_4K, none = 4, ro = 8, i;
	void *mem = anon(SIZE_2M, 0, advice);
	struct kvm_vcpu *vcpu = create_with_slot(flags, GPA, SIZE_2M, mem);

	fill(mem, npages);
	for (i = 0; i < npages; i += 3)
		guest_store(vcpu, gva_of(i) + 8, i);
	TEST_ASSERT_OK(mprotect(page_word(mem, none), 4 * SIZE_4K, PROT_NONE));
	TEST_ASSERT_OK(mprotect(page_word(mem, ro), 4 * SIZE_4K, PROT_READ));
	guest_store(vcpu, gva_of(3), 33);
	guest_load(vcpu, gva_of(12));
	guest_store(vcpu, gva_of(12), 34);

	for (i = none; i < ro; i++)
		assert_refused(vcpu, mem, i & 1 ? GUEST_OP_STORE : GUEST_OP_LOAD, i);
	for (i = ro; i < ro + 4; i++) {
		TEST_ASSERT_EQ(guest_load(vcpu, gva_of(i)), pattern(i));
		assert_refused(vcpu, mem, GUEST_OP_STORE, i);
	}
	kvm_vm_free(vcpu->vm);
	munmap(mem, SIZE_2M);
}

TEST(mprotect_4k)
{
	check_mprotect(MADV_NOHUGEPAGE, 0);
	check_mprotect(MADV_NOHUGEPAGE, KVM_MEM_LOG_DIRTY_PAGES);
}

TEST(mprotect_thp)
{
	check_mprotect(MADV_HUGEPAGE, 0);
}

/* What a private mapping shows for reading belongs to the file. */
static void check_private_file(u32 flags)
{
	int fd = memfd_create("private", 0);
	struct kvm_vcpu *vcpu;
	u64 val, i;
	void *mem;

	for (i = 0; i < 4; i++) {
		val = pattern(i);
		TEST_ASSERT(pwrite(fd, &val, 8, i * SIZE_4K) == 8, "pwrite");
	}
	TEST_ASSERT(!ftruncate(fd, 4 * SIZE_4K), "ftruncate");
	mem = mmap(NULL, 4 * SIZE_4K, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	TEST_ASSERT(mem != MAP_FAILED, "mmap");

	vcpu = create_with_slot(flags, GPA, 4 * SIZE_4K, mem);
	for (i = 0; i < 4; i++) {
		TEST_ASSERT_EQ(guest_load(vcpu, gva_of(i)), pattern(i));
		guest_store(vcpu, gva_of(i), 1000 + i);
		TEST_ASSERT_EQ(guest_load(vcpu, gva_of(i)), 1000 + i);
	}
	for (i = 0; i < 4; i++) {
		TEST_ASSERT(pread(fd, &val, 8, i * SIZE_4K) == 8, "pread");
		TEST_ASSERT(val == pattern(i), "page %lu: the guest's store reached the file",
			    (unsigned long)i);
		TEST_ASSERT_EQ(page_word(mem, i)[0], 1000 + i);
	}
}

TEST(private_file)
{
	check_private_file(0);
}

/* differences-from-c M1 */
TEST(private_file_dirty_log)
{
	check_private_file(KVM_MEM_LOG_DIRTY_PAGES);
}

/* All untouched memory of the host is one page of zeroes (differences-from-c M1). */
TEST(zero_page_dirty_log)
{
	void *other = anon(SIZE_4K, 0, MADV_NOHUGEPAGE);
	void *mem = anon(4 * SIZE_4K, 0, MADV_NOHUGEPAGE);
	struct kvm_vcpu *vcpu = create_with_slot(KVM_MEM_LOG_DIRTY_PAGES, GPA, 4 * SIZE_4K, mem);
	u64 off = SIZE_4K - 16, seen;

	TEST_ASSERT_EQ(guest_load(vcpu, gva_of(0) + off), 0);
	guest_store(vcpu, gva_of(0) + off, 1);
	seen = READ_ONCE(*(u64 *)((char *)other + off));
	/* Whatever page that was, leave it as it was found. */
	guest_store(vcpu, gva_of(0) + off, 0);
	TEST_ASSERT(!seen, "the guest wrote the host's zero page");
}

/* After fork() parent and child share pages until one of them writes (differences-from-c M1). */
TEST(forked_child_dirty_log)
{
	void *mem = anon(4 * SIZE_4K, 0, MADV_NOHUGEPAGE);
	struct kvm_vcpu *vcpu = create_with_slot(KVM_MEM_LOG_DIRTY_PAGES, GPA, 4 * SIZE_4K, mem);
	int fds[2], status;
	char go = 0;
	pid_t pid;

	fill(mem, 4);
	TEST_ASSERT(!pipe(fds), "pipe");
	pid = fork();
	if (!pid) {
		if (read(fds[0], &go, 1) != 1)
			_exit(2);
		_exit(READ_ONCE(page_word(mem, 2)[0]) == pattern(2) ? 0 : 1);
	}
	TEST_ASSERT_EQ(guest_load(vcpu, gva_of(2)), pattern(2));
	guest_store(vcpu, gva_of(2), 1);
	TEST_ASSERT(write(fds[1], &go, 1) == 1, "write");
	TEST_ASSERT(waitpid(pid, &status, 0) == pid && WIFEXITED(status), "waitpid");
	TEST_ASSERT(WEXITSTATUS(status) == 0, "the guest's store reached the forked child");
	TEST_ASSERT_EQ(page_word(mem, 2)[0], 1);
}

/*
 * Where the CPU does not set A bits itself, a page that the host aged must
 * become young again on the guest's next store (differences-from-c M9).
 */
TEST(aged_page_dirty_log)
{
	void *mem = anon(4 * SIZE_4K, 0, MADV_NOHUGEPAGE);
	u64 entry, pfn, bits;
	struct kvm_vcpu *vcpu;
	int map, idle, drop;

	if (!host_has_isa("svade"))
		SKIP(return, "the CPU sets A bits itself (no Svade)");
	idle = open("/sys/kernel/mm/page_idle/bitmap", O_RDWR);
	map = open("/proc/self/pagemap", O_RDONLY);
	if (idle < 0 || map < 0)
		SKIP(return, "no CONFIG_IDLE_PAGE_TRACKING or pagemap");

	vcpu = create_with_slot(KVM_MEM_LOG_DIRTY_PAGES, GPA, 4 * SIZE_4K, mem);
	fill(mem, 4);
	guest_store(vcpu, gva_of(1), 1);
	/* Only what is on an LRU list can be marked idle: this puts it there. */
	drop = open("/proc/sys/vm/drop_caches", O_WRONLY);
	TEST_ASSERT(write(drop, "1", 1) == 1, "drop_caches");
	TEST_ASSERT(pread(map, &entry, 8, (unsigned long)page_word(mem, 1) / SIZE_4K * 8) == 8,
		    "pagemap");
	pfn = entry & ((1ULL << 55) - 1);
	bits = 1ULL << pfn % 64;
	TEST_ASSERT(pwrite(idle, &bits, 8, pfn / 64 * 8) == 8, "page_idle");
	if (pread(idle, &entry, 8, pfn / 64 * 8) != 8 || !(entry & bits))
		SKIP(return, "the host does not mark the page idle");

	guest_ask(vcpu, GUEST_OP_STORE, gva_of(1), 2);
	TEST_ASSERT(!vcpu_run_limited(vcpu, DEFECT_MS), "the store never ends: %s", strerror(errno));
	TEST_ASSERT_EQ(guest_answer(vcpu, NULL), NO_TRAP);
	TEST_ASSERT_EQ(page_word(mem, 1)[0], 2);
}

/* Nothing to fetch from where no memslot is: an instruction access fault. */
TEST(exec_unbacked)
{
	struct kvm_vcpu *vcpu = server_create();
	struct guest_trap trap;

	server_map(vcpu, GPA, SIZE_4K);
	guest_ask(vcpu, GUEST_OP_EXEC, TEST_GVA + 0x40, 0);
	TEST_ASSERT_EQ(guest_answer(vcpu, NULL), EXC_INST_ACCESS);
	memcpy(&trap, addr_gva2hva(vcpu->vm, (gva_t)&guest_trap), sizeof(trap));
	TEST_ASSERT_EQ(trap.epc, TEST_GVA + 0x40);
	TEST_ASSERT_EQ(trap.tval, TEST_GVA + 0x40);
	TEST_ASSERT_EQ(trap.count, 1);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
