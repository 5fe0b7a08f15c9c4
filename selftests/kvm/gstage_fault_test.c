// SPDX-License-Identifier: GPL-2.0-only
/* on-c: fail: M1, M9, M19, N1 */
/*
 * G-stage faults on every kind of memory that can stand behind a memslot: what
 * the guest sees is what the host has there, and nothing else changes.
 */
#include <sys/wait.h>

#include "kvm_rs_util.h"

#define SLOT	1
#define GPA	SIZE_1G

/* Contents of page @i, none of which is zero. */
static u64 pattern(u64 i)
{
	return i * 0x9e3779b97f4a7c15ULL | 1;
}

static u64 *page_word(void *mem, u64 i)
{
	return (u64 *)((char *)mem + i * SIZE_4K);
}

/* Page @i, counted from the start of the slot, as the guest sees it. */
static u64 gva_of(u64 i)
{
	return TEST_GVA + i * SIZE_4K;
}

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

/*
 * The guest reads what the host wrote and the host reads what the guest wrote,
 * in @npages pages from @first every @step; @write_first decides whether the
 * first fault in a page is a store.
 */
static void check_pages(struct kvm_vcpu *vcpu, void *mem, u64 first, u64 npages, u64 step,
			bool write_first)
{
	u64 i;

	for (i = first; i < first + npages; i += step) {
		if (write_first)
			guest_store(vcpu, gva_of(i) + 8, ~pattern(i));
		TEST_ASSERT(guest_load(vcpu, gva_of(i)) == pattern(i),
			    "page %lu: the guest sees another page", (unsigned long)i);
		if (!write_first)
			guest_store(vcpu, gva_of(i) + 8, ~pattern(i));
	}
	for (i = first; i < first + npages; i += step)
		TEST_ASSERT(page_word(mem, i)[1] == ~pattern(i) &&
			    page_word(mem, i)[0] == pattern(i),
			    "page %lu: the host sees another page", (unsigned long)i);
}

static void fill(void *mem, u64 npages)
{
	u64 i;

	for (i = 0; i < npages; i++) {
		page_word(mem, i)[0] = pattern(i);
		page_word(mem, i)[1] = 0;
	}
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
 * It may say so only once: this comes before all that drops such pieces.
 */
TEST(n1_unmap_part_of_thp_quietly)
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

/* Pages of @size from hugetlbfs, or NULL: reserved on the command line or now. */
static void *hugetlb(u64 size, u64 len, struct __test_metadata *_metadata)
{
	char path[96], val[16] = "";
	void *mem;
	int fd, had = 0;

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%lukB/nr_hugepages",
		 (unsigned long)size / 1024);
	fd = open(path, O_RDWR);
	if (fd < 0)
		SKIP(return NULL, "the kernel has no huge pages of %lu kB",
		     (unsigned long)size / 1024);
	if (read(fd, val, sizeof(val) - 1) > 0)
		had = atoi(val);
	if (had < len / size) {
		snprintf(val, sizeof(val), "%lu", (unsigned long)(len / size));
		if (pwrite(fd, val, strlen(val), 0) < 0)
			TH_LOG("cannot reserve huge pages of %lu kB", (unsigned long)size / 1024);
	}
	close(fd);

	mem = mmap_at(len, size, 0, MAP_ANON_PRIVATE | MAP_HUGETLB |
		      __builtin_ctzl(size) << 26 /* MAP_HUGE_SHIFT */, -1);
	if (mem == MAP_FAILED)
		SKIP(return NULL, "no huge page of %lu kB is free", (unsigned long)size / 1024);
	return mem;
}

static void check_hugetlb(struct __test_metadata *_metadata, u64 size, u64 len, u64 step)
{
	static const u64 offs[] = { 0, SIZE_4K, SIZE_2M };
	u64 i, npages = len / SIZE_4K;
	struct kvm_vcpu *vcpu;
	void *mem;
	int o;

	mem = hugetlb(size, len, _metadata);
	if (!mem)
		return;

	for (i = 0; i < npages; i += step)
		page_word(mem, i)[0] = pattern(i);

	/* Aligned, and not: a block must fit both addresses. */
	for (o = 0; o < ARRAY_SIZE(offs); o++) {
		if (offs[o] >= size)
			continue;
		vcpu = server_create();
		add_slot(vcpu, 0, GPA + offs[o], len, mem);
		for (i = 0; i < npages; i += step)
			virt_pg_map(vcpu->vm, gva_of(i), GPA + offs[o] + i * SIZE_4K);
		check_pages(vcpu, mem, 0, npages, step, o & 1);
		kvm_vm_free(vcpu->vm);
	}
	munmap(mem, len);
}

TEST(hugetlb_2m)
{
	check_hugetlb(_metadata, SIZE_2M, 2 * SIZE_2M, 29);
}

TEST(hugetlb_1g)
{
	check_hugetlb(_metadata, SIZE_1G, SIZE_1G, 4099);
}

/* With Svnapot there are huge pages that are no level of the page table. */
TEST(m19_hugetlb_64k)
{
	check_hugetlb(_metadata, 64 * 1024, 4 * 64 * 1024, 1);
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

TEST(m1_private_file_dirty_log)
{
	check_private_file(KVM_MEM_LOG_DIRTY_PAGES);
}

/* All untouched memory of the host is one page of zeroes. */
TEST(m1_zero_page_dirty_log)
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

/* After fork() parent and child share pages until one of them writes. */
TEST(m1_forked_child_dirty_log)
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
 * become young again on the guest's next store.
 */
TEST(m9_aged_page_dirty_log)
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
	TEST_ASSERT(!vcpu_run_limited(vcpu, 2000), "the store never ends: %s", strerror(errno));
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
