// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: M19 */
/* covers: kvm_core/hostmm.rs kvm_core/memslot.rs gstage/napot.rs mmu/fault.rs */
/*
 * Guests on hugetlbfs pages of 64K (Svnapot), 2M and 1G: every page of a huge
 * one is that page, wherever the slot begins and ends, and what happens to huge
 * pages in the host happens to the guest.
 */
#include <sys/wait.h>

#include "kvm_rs_mem.h"

#define SLOT	1
#define GPA	SIZE_1G

/* Where a slot of @len bytes lies in host memory of huge pages and at GPA. */
struct layout {
	u64 hva_off, gpa_off, len;
};

static struct kvm_vcpu *create(u32 flags, u64 gpa, u64 len, void *mem, u64 step)
{
	struct kvm_vcpu *vcpu = server_create();
	u64 i;

	vm_set_user_memory_region(vcpu->vm, SLOT, flags, gpa, len, mem);
	for (i = 0; i < len / SIZE_4K; i += step)
		virt_pg_map(vcpu->vm, gva_of(i), gpa + i * SIZE_4K);
	return vcpu;
}

/* Not the guest's, though the same huge page of the host. */
static void assert_mmio(struct kvm_vcpu *vcpu, u64 gpa)
{
	u64 gva = TEST_GVA - SIZE_1G / 2, val = 0xabcd;

	virt_pg_map(vcpu->vm, gva + gpa % SIZE_2M, gpa);
	guest_ask(vcpu, GUEST_OP_LOAD, gva + gpa % SIZE_2M, 0);
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
	TEST_ASSERT_EQ(vcpu->run->mmio.phys_addr, gpa);
	memcpy(vcpu->run->mmio.data, &val, 8);
	guest_answer(vcpu, NULL);
}

static void check_layout(char *mem, const struct layout *at, u64 step, bool write_first)
{
	char *start = mem + at->hva_off;
	u64 npages = at->len / SIZE_4K, i;
	struct kvm_vcpu *vcpu;

	if (step > npages)
		step = 1;
	for (i = 0; i < npages; i += step) {
		page_word(start, i)[0] = pattern(i);
		page_word(start, i)[1] = 0;
	}
	vcpu = create(0, GPA + at->gpa_off, at->len, start, step);
	check_pages(vcpu, start, 0, npages, step, write_first);
	assert_mmio(vcpu, GPA + at->gpa_off - SIZE_4K);
	assert_mmio(vcpu, GPA + at->gpa_off + at->len);
	kvm_vm_free(vcpu->vm);
}

/* Of @nr huge pages of @size; one page in @step is looked at. */
static void check_layouts(struct __test_metadata *_metadata, u64 size, u64 nr, u64 step)
{
	const struct layout layouts[] = {
		{ 0, 0, nr * size },
		/* A huge entry would map the wrong pages. */
		{ 0, SIZE_4K, nr * size },
		{ SIZE_4K, 0, nr * size - SIZE_4K },
		/* A smaller one might do. */
		{ 0, SIZE_64K, nr * size },
		{ 0, SIZE_2M, nr * size },
		/* Begins, or ends, within. */
		{ SIZE_4K, SIZE_4K, nr * size - SIZE_4K },
		{ 0, 0, nr * size - SIZE_4K },
		{ size / 2, size / 2, nr * size - size / 2 },
		/* Less than one. */
		{ 0, 0, size / 2 },
		{ size / 2, size / 2, size / 2 },
		{ size / 2, size / 2, SIZE_4K },
		{ size - SIZE_4K, 0, SIZE_4K },
	};
	char *mem = hugetlb_map(size, nr * size);
	int i;

	if (!mem)
		SKIP(return, "no huge pages of %lu kB", (unsigned long)size / 1024);
	for (i = 0; i < ARRAY_SIZE(layouts); i++)
		check_layout(mem, &layouts[i], step, i & 1);
	munmap(mem, nr * size);
}

/* differences-from-c M19 */
TEST(layouts_of_64k_pages)
{
	check_layouts(_metadata, SIZE_64K, 4, 1);
}

TEST(layouts_2m)
{
	check_layouts(_metadata, SIZE_2M, 2, 29);
}

TEST(layouts_1g)
{
	check_layouts(_metadata, SIZE_1G, 1, 8191);
}

/* A huge page that the host drops is a new one for the guest, its neighbour stays. */
static void check_drop(struct __test_metadata *_metadata, u64 size, u64 step)
{
	char *mem = hugetlb_map(size, 2 * size);
	u64 per = size / SIZE_4K, i;
	struct kvm_vcpu *vcpu;

	if (!mem)
		SKIP(return, "no huge pages of %lu kB", (unsigned long)size / 1024);
	fill(mem, 2 * per);
	vcpu = create(0, GPA, 2 * size, mem, 1);
	check_pages(vcpu, mem, 0, 2 * per, step, false);
	TEST_ASSERT_OK(madvise(mem, size, MADV_DONTNEED));
	for (i = 0; i < per; i += step) {
		TEST_ASSERT_EQ(guest_load(vcpu, gva_of(i)), 0);
		guest_store(vcpu, gva_of(i), i + 1);
		TEST_ASSERT_EQ(page_word(mem, i)[0], i + 1);
	}
	for (i = per; i < 2 * per; i += step)
		TEST_ASSERT_EQ(guest_load(vcpu, gva_of(i)), pattern(i));
	kvm_vm_free(vcpu->vm);
	munmap(mem, 2 * size);
}

/* differences-from-c M19 */
TEST(dropped_64k_page_is_anew)
{
	check_drop(_metadata, SIZE_64K, 1);
}

TEST(drop_2m)
{
	check_drop(_metadata, SIZE_2M, 17);
}

/* A forked child keeps what was there; the guest's first store copies the page. */
static void check_fork(struct __test_metadata *_metadata, u64 size, u64 step)
{
	char *mem = hugetlb_reserve(size, 4) ? hugetlb_map(size, 2 * size) : NULL;
	u64 npages = 2 * size / SIZE_4K, i;
	struct kvm_vcpu *vcpu;
	int fds[2], status;
	char go = 0;
	pid_t pid;

	if (!mem)
		SKIP(return, "no huge pages of %lu kB", (unsigned long)size / 1024);
	fill(mem, npages);
	vcpu = create(0, GPA, 2 * size, mem, 1);
	for (i = 0; i < npages; i += step)
		guest_store(vcpu, gva_of(i) + 8, 0);
	TEST_ASSERT(!pipe(fds), "pipe");
	pid = fork();
	if (!pid) {
		if (read(fds[0], &go, 1) != 1)
			_exit(2);
		for (i = 0; i < npages; i++) {
			if (page_word(mem, i)[0] == pattern(i) && !page_word(mem, i)[1])
				continue;
			fprintf(stderr, "# the child's page %lu: %lx %lx\n", (unsigned long)i,
				(unsigned long)page_word(mem, i)[0], (unsigned long)page_word(mem, i)[1]);
			_exit(1);
		}
		_exit(0);
	}
	check_pages(vcpu, mem, 0, npages, step, false);
	TEST_ASSERT(write(fds[1], &go, 1) == 1, "write");
	TEST_ASSERT(waitpid(pid, &status, 0) == pid && WIFEXITED(status), "waitpid");
	TEST_ASSERT(WEXITSTATUS(status) == 0, "the child's pages changed, or are gone: %d",
		    WEXITSTATUS(status));
	kvm_vm_free(vcpu->vm);
	munmap(mem, 2 * size);
}

/* differences-from-c M19 */
TEST(forked_child_keeps_64k_pages)
{
	check_fork(_metadata, SIZE_64K, 1);
}

TEST(fork_2m)
{
	check_fork(_metadata, SIZE_2M, 17);
}

/* The log is about small pages, whatever the host has; and logging ends. */
static void check_log(struct __test_metadata *_metadata, u64 size)
{
	static const u64 pages[] = { 0, 1, 15, 16, 17, 40, 63 };
	u64 npages = 2 * size / SIZE_4K, i, n, log[1024 / 64], want[1024 / 64] = {};
	char *mem = hugetlb_map(size, 2 * size);
	struct kvm_vcpu *vcpu;
	int round;

	if (npages > 1024)
		npages = 1024;
	if (!mem)
		SKIP(return, "no huge pages of %lu kB", (unsigned long)size / 1024);
	fill(mem, npages);
	vcpu = create(0, GPA, npages * SIZE_4K, mem, 1);
	for (i = 0; i < npages; i += 8)
		guest_store(vcpu, gva_of(i) + 8, 1);
	for (round = 0; round < 2; round++) {
		vm_set_user_memory_region(vcpu->vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES, GPA,
					  npages * SIZE_4K, mem);
		for (n = 0; n < ARRAY_SIZE(pages) && pages[n] < npages; n++) {
			guest_load(vcpu, gva_of(pages[n] + 1));
			guest_store(vcpu, gva_of(pages[n]) + 8, n);
			want[pages[n] / 64] |= 1ULL << pages[n] % 64;
		}
		memset(log, 0, sizeof(log));
		kvm_vm_get_dirty_log(vcpu->vm, SLOT, log);
		for (i = 0; i * 64 < npages; i++)
			TEST_ASSERT(log[i] == want[i], "pages %lu..: log %lx, stored to %lx",
				    (unsigned long)i * 64, (unsigned long)log[i],
				    (unsigned long)want[i]);
		vm_set_user_memory_region(vcpu->vm, SLOT, 0, GPA, npages * SIZE_4K, mem);
		for (i = 0; i < npages; i += 5) {
			guest_ask(vcpu, GUEST_OP_STORE, gva_of(i) + 16, pattern(i));
			TEST_ASSERT(!vcpu_run_limited(vcpu, DEFECT_MS), "the store never ends: %s",
				    strerror(errno));
			TEST_ASSERT_EQ(guest_answer(vcpu, NULL), NO_TRAP);
			TEST_ASSERT_EQ(page_word(mem, i)[2], pattern(i));
			TEST_ASSERT_EQ(page_word(mem, i)[0], pattern(i));
		}
	}
	kvm_vm_free(vcpu->vm);
	munmap(mem, 2 * size);
}

/* differences-from-c M19 */
TEST(log_of_64k_pages_is_of_small_ones)
{
	check_log(_metadata, SIZE_64K);
}

TEST(log_2m)
{
	check_log(_metadata, SIZE_2M);
}

/* Two mappings of one file: each sees what the guest does through the other. */
static void check_shared(struct __test_metadata *_metadata, u64 size, u64 step)
{
	u64 len = 2 * size, npages = len / SIZE_4K;
	struct kvm_vcpu *vcpu;
	char *mem, *alias;
	int fd;

	if (!hugetlb_reserve(size, 2))
		SKIP(return, "no huge pages of %lu kB", (unsigned long)size / 1024);
	fd = memfd_create("hugetlb", MFD_HUGE_OF(size));
	TEST_ASSERT(fd >= 0 && !ftruncate(fd, len), "memfd: %s", strerror(errno));
	mem = mmap_at(len, size, 0, MAP_SHARED, fd);
	alias = mmap_at(len, size, 0, MAP_SHARED, fd);
	TEST_ASSERT(mem != MAP_FAILED && alias != MAP_FAILED, "mmap: %s", strerror(errno));
	fill(alias, npages);
	vcpu = create(0, GPA, len, mem, 1);
	check_pages(vcpu, alias, 0, npages, step, false);
	/* A hole in the file is a hole for the guest. */
	TEST_ASSERT_OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, size, size));
	TEST_ASSERT_EQ(guest_load(vcpu, gva_of(npages - 1)), 0);
	TEST_ASSERT_EQ(guest_load(vcpu, gva_of(npages / 2 - 1)), pattern(npages / 2 - 1));
	kvm_vm_free(vcpu->vm);
	munmap(mem, len);
	munmap(alias, len);
	close(fd);
}

/* differences-from-c M19 */
TEST(shared_64k_pages)
{
	check_shared(_metadata, SIZE_64K, 1);
}

TEST(shared_2m)
{
	check_shared(_metadata, SIZE_2M, 23);
}

#define RUSH_PAGES	128UL
#define RUSH_ROUNDS	10

/* In the guest's memory. */
static u64 rush_round, rush_done[NR_VCPUS];

/* In each round, loads every page and stores to its own of each four. */
static void guest_rush(u64 id)
{
	u64 round, i, val;

	for (round = 1; round <= RUSH_ROUNDS; round++) {
		while (READ_ONCE(rush_round) < round)
			;
		for (i = id; i < RUSH_PAGES; i += NR_VCPUS) {
			if (round & 1)
				WRITE_ONCE(*(u64 *)(gva_of(i) + 8), round);
			val = READ_ONCE(*(u64 *)gva_of(i));
			__GUEST_ASSERT(val == pattern(i),
				       "round %lu, vCPU %lu, page %lu: found %lx", round, id, i, val);
		}
		WRITE_ONCE(rush_done[id], round);
	}
	GUEST_DONE();
}

/*
 * All vCPUs fault on pages of one huge page at the same time.  Where the host
 * maps 64K as 16 entries, it clears and sets all of them for the fault of one
 * vCPU while another vCPU looks at them (F34).
 */
static void check_rush(struct __test_metadata *_metadata, u64 size)
{
	u64 len = size > RUSH_PAGES * SIZE_4K ? size : RUSH_PAGES * SIZE_4K, *done, i, round;
	struct crew crew;
	char *mem;
	int fd;

	if (!hugetlb_reserve(size, len / size))
		SKIP(return, "no huge pages of %lu kB", (unsigned long)size / 1024);
	fd = memfd_create("hugetlb", MFD_HUGE_OF(size));
	TEST_ASSERT(fd >= 0 && !ftruncate(fd, len), "memfd: %s", strerror(errno));
	mem = mmap_at(len, size, 0, MAP_SHARED, fd);
	TEST_ASSERT(mem != MAP_FAILED, "mmap: %s", strerror(errno));
	fill(mem, RUSH_PAGES);
	crew_create(&crew, guest_rush);
	crew_add_slot(&crew, SLOT, 0, GPA, len, mem);
	crew_start(&crew, crew_run_to_done);
	done = addr_gva2hva(crew.vm, (gva_t)rush_done);
	for (round = 1; round <= RUSH_ROUNDS; round++) {
		/* The file keeps the contents. */
		TEST_ASSERT_OK(madvise(mem, len, MADV_DONTNEED));
		write_guest_global(crew.vm, rush_round, round);
		for (i = 0; i < NR_VCPUS; i++)
			while (READ_ONCE(done[i]) < round)
				usleep(100);
	}
	crew_join(&crew);
	for (i = 0; i < RUSH_PAGES; i++)
		TEST_ASSERT(page_word(mem, i)[0] == pattern(i) &&
			    page_word(mem, i)[1] == RUSH_ROUNDS - 1,
			    "page %lu: the host finds %lx %lx", (unsigned long)i,
			    (unsigned long)page_word(mem, i)[0],
			    (unsigned long)page_word(mem, i)[1]);
	kvm_vm_free(crew.vm);
	munmap(mem, len);
	close(fd);
}

/* differences-from-c M19 */
TEST(vcpus_rush_at_64k_pages)
{
	check_rush(_metadata, SIZE_64K);
}

TEST(rush_2m)
{
	check_rush(_metadata, SIZE_2M);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
