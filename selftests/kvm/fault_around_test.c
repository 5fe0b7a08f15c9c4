// SPDX-License-Identifier: GPL-2.0
/* on-c: skip: fault_around_bytes */
/* also-on: svade: skip: fault_around_bytes */
/* covers: gstage/around.rs mmu/fault.rs mmu/param.rs kvm_core/hostmm.rs
 * kvm_core/host_mapping.rs */
/*
 * Fault-around: a fault maps the neighbours that the host has present, too.
 * That saves faults, and nobody can tell otherwise: what is shared stays
 * shared, what is written becomes dirty, the dirty log stays exact, and a page
 * that nobody used stays idle.
 */
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "kvm_rs_pgtable.h"

#define SLOT	1
#define GPA	SIZE_1G
#define KNOB	"/sys/module/kvm/parameters/fault_around_bytes"
#define WINDOW	16UL		/* pages, by default */

/* The last page behind one of the guest's own tables; no test has more before it. */
#define WARM_UP	511UL

/* What the next VM gets; every test begins with the default. */
static u64 around_bytes = WINDOW * SIZE_4K;
static u64 around_before;

static void set_around(u64 bytes)
{
	TEST_ASSERT(knob_set(KNOB, "%lu", (unsigned long)bytes), "%s: %s", KNOB, strerror(errno));
}

static struct kvm_vcpu *create(u32 flags, u64 npages, void *mem)
{
	struct kvm_vcpu *vcpu = server_create();
	u64 i;

	set_around(around_bytes);
	vm_set_user_memory_region(vcpu->vm, SLOT, flags, GPA, npages * SIZE_4K, mem);
	for (i = 0; i < npages && i < WARM_UP; i++)
		virt_pg_map(vcpu->vm, gva_of(i), GPA + i * SIZE_4K);
	/* What the guest needs for itself is mapped before anybody counts. */
	vm_set_user_memory_region(vcpu->vm, SLOT + 1, 0, GPA / 2, SIZE_4K,
				  map_advised(SIZE_4K, MADV_NOHUGEPAGE));
	virt_pg_map(vcpu->vm, gva_of(WARM_UP), GPA / 2);
	guest_store(vcpu, gva_of(WARM_UP), 1);
	guest_load(vcpu, gva_of(WARM_UP));
	around_before = vcpu_get_stat(vcpu, pf_around);
	return vcpu;
}

/* Faults for which the host's page tables were asked. */
static u64 faults(struct kvm_vcpu *vcpu)
{
	return vcpu_get_stat(vcpu, pf_fixed);
}

/* Neighbours that came along, since create(). */
static u64 around(struct kvm_vcpu *vcpu)
{
	return vcpu_get_stat(vcpu, pf_around) - around_before;
}

/* How many faults it takes to touch the @npages pages behind @vcpu's slot in order. */
static u64 touch(struct kvm_vcpu *vcpu, u64 npages, bool write)
{
	u64 before = faults(vcpu), i;

	for (i = 0; i < npages; i++) {
		if (write)
			guest_store(vcpu, gva_of(i) + 8, ~pattern(i));
		else
			TEST_ASSERT_EQ(guest_load(vcpu, gva_of(i)), pattern(i));
	}
	return faults(vcpu) - before;
}

/* The parameter is a power of two from two pages to a leaf table, or 0. */
TEST(parameter)
{
	static const struct {
		const char *set;
		long get;
	} vals[] = {
		{ "0", 0 }, { "4096", 0 }, { "8191", 0 }, { "8192", 8192 }, { "70000", 65536 },
		{ "2097152", 2097152 }, { "131071", 65536 }, { "0x10000", 65536 },
	};
	static const char * const bad[] = { "2097153", "-1", "x", "18446744073709551616" };
	int i, fd;

	for (i = 0; i < ARRAY_SIZE(vals); i++) {
		TEST_ASSERT(knob_set(KNOB, "%s", vals[i].set), "%s is refused", vals[i].set);
		TEST_ASSERT_EQ(knob_get(KNOB), vals[i].get);
	}
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		fd = open(KNOB, O_WRONLY);
		TEST_ASSERT(write(fd, bad[i], strlen(bad[i])) < 0, "%s is accepted", bad[i]);
		close(fd);
		TEST_ASSERT_EQ(knob_get(KNOB), 65536);
	}
}

/* A populated region costs a fault for each window. */
static void check_count(u32 flags, u64 bytes, u64 npages, bool write, u64 want)
{
	char *mem = map_advised(npages * SIZE_4K, MADV_NOHUGEPAGE);
	struct kvm_vcpu *vcpu;
	u64 n;

	fill(mem, npages);
	around_bytes = bytes;
	vcpu = create(flags, npages, mem);
	n = touch(vcpu, npages, write);
	TEST_ASSERT(n == want, "%lu bytes: %lu faults for %lu pages, wanted %lu",
		    (unsigned long)bytes, (unsigned long)n, (unsigned long)npages,
		    (unsigned long)want);
	TEST_ASSERT_EQ(around(vcpu), npages - want);
	check_pages(vcpu, mem, 0, npages, 1, true);
	kvm_vm_free(vcpu->vm);
	munmap(mem, npages * SIZE_4K);
}

TEST(faults_per_window)
{
	check_count(0, 0, 256, false, 256);
	check_count(0, 2 * SIZE_4K, 256, false, 128);
	check_count(0, WINDOW * SIZE_4K, 256, false, 16);
	check_count(0, WINDOW * SIZE_4K, 256, true, 16);
	check_count(0, SIZE_2M, 500, true, 1);
	/* The slot ends within a window. */
	check_count(0, WINDOW * SIZE_4K, 21, true, 2);
	check_count(KVM_MEM_LOG_DIRTY_PAGES, WINDOW * SIZE_4K, 64, false, 4);
}

/* Neighbours beside the slot, and across the border of two host tables, are none. */
TEST(borders)
{
	static const u64 offs[] = { 1, 5, 511, 508, 3 };
	u64 npages = 40, data = 0x1234;
	struct kvm_vcpu *vcpu;
	char *mem, *at;
	int i, side;

	for (i = 0; i < ARRAY_SIZE(offs); i++) {
		mem = map_advised(2 * SIZE_2M, MADV_NOHUGEPAGE);
		memset(mem, 0xee, 2 * SIZE_2M);
		at = mem + offs[i] * SIZE_4K;
		fill(at, npages);
		vcpu = server_create();
		set_around(around_bytes);
		vm_set_user_memory_region(vcpu->vm, SLOT, 0, GPA + 4 * SIZE_4K, npages * SIZE_4K, at);
		server_map(vcpu, GPA + 4 * SIZE_4K, npages * SIZE_4K);
		virt_pg_map(vcpu->vm, TEST_GVA - 2 * SIZE_4K, GPA + 3 * SIZE_4K);
		virt_pg_map(vcpu->vm, TEST_GVA - SIZE_4K, GPA + (4 + npages) * SIZE_4K);
		check_pages(vcpu, at, 0, npages, 1, i & 1);
		for (side = 1; side <= 2; side++) {
			guest_ask(vcpu, GUEST_OP_LOAD, TEST_GVA - side * SIZE_4K, 0);
			vcpu_run(vcpu);
			TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
			memcpy(vcpu->run->mmio.data, &data, 8);
			guest_answer(vcpu, NULL);
		}
		kvm_vm_free(vcpu->vm);
		munmap(mem, 2 * SIZE_2M);
	}
}

/* What is not present stays so: the guest's fault must not allocate, nor wait for anybody. */
TEST(absent_stays_absent)
{
	char *mem = map_advised(WINDOW * SIZE_4K, MADV_NOHUGEPAGE);
	struct kvm_vcpu *vcpu;
	u64 i;

	for (i = 0; i < WINDOW; i += 3)
		page_word(mem, i)[0] = pattern(i);
	vcpu = create(0, WINDOW, mem);
	TEST_ASSERT_EQ(guest_load(vcpu, gva_of(0)), pattern(0));
	TEST_ASSERT_EQ(around(vcpu), WINDOW / 3);
	for (i = 0; i < WINDOW; i++)
		TEST_ASSERT(!pfn_of(page_word(mem, i)) == !!(i % 3), "page %lu", (unsigned long)i);
	for (i = 0; i < WINDOW; i++)
		TEST_ASSERT_EQ(guest_load(vcpu, gva_of(i)), i % 3 ? 0 : pattern(i));
	kvm_vm_free(vcpu->vm);
}

/* A logged slot over a huge page of the host's: small pages, some at a time. */
TEST(parts_of_a_huge_page)
{
	char *mem = map_advised(SIZE_2M, MADV_HUGEPAGE);
	u64 npages = 496, got[512 / 64], i;
	struct kvm_vcpu *vcpu;

	fill(mem, npages);
	vcpu = create(KVM_MEM_LOG_DIRTY_PAGES, SIZE_2M / SIZE_4K, mem);
	TEST_ASSERT_EQ(touch(vcpu, npages, false), npages / WINDOW);
	kvm_vm_get_dirty_log(vcpu->vm, SLOT, got);
	for (i = 0; i < ARRAY_SIZE(got); i++)
		TEST_ASSERT_EQ(got[i], 0);
	check_pages(vcpu, mem, 0, npages, 1, false);
	kvm_vm_free(vcpu->vm);
}

/*
 * A slot that lies in huge pages with another offset than they have in the
 * guest: pieces of 64K, by one leaf (Svnapot) or by their neighbours.
 */
TEST(huge_page_with_offset)
{
	char *mem = map_advised(2 * SIZE_2M, MADV_HUGEPAGE) + SIZE_64K;
	u64 npages = 496;
	struct kvm_vcpu *vcpu;

	fill(mem, npages);
	vcpu = create(0, npages, mem);
	TEST_ASSERT_EQ(touch(vcpu, npages, true), npages / WINDOW);
	TEST_ASSERT_EQ(around(vcpu), host_has_isa("svnapot") ? 0 : npages - npages / WINDOW);
	check_pages(vcpu, mem, 0, npages, 1, false);
	kvm_vm_free(vcpu->vm);
}

/* What userspace asks for is not filled up with small pages where larger ones will do. */
TEST(pre_fault_64k)
{
	char *mem = map_advised(2 * SIZE_2M, MADV_HUGEPAGE) + SIZE_64K;
	struct kvm_pre_fault_memory range = { .gpa = GPA, .size = 31 * SIZE_64K };
	u64 npages = 31 * WINDOW, before;
	struct kvm_vcpu *vcpu;

	if (!host_has_isa("svnapot") || !kvm_has_cap(KVM_CAP_PRE_FAULT_MEMORY))
		SKIP(return, "no Svnapot, or no KVM_PRE_FAULT_MEMORY");
	fill(mem, npages);
	vcpu = create(0, npages, mem);
	before = vm_get_stat(vcpu->vm, pages_64k);
	vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &range);
	TEST_ASSERT_EQ(range.size, 0);
	TEST_ASSERT_EQ(vm_get_stat(vcpu->vm, pages_64k) - before, npages / WINDOW);
	TEST_ASSERT_EQ(touch(vcpu, npages, true), 0);
	kvm_vm_free(vcpu->vm);
}

/* Shared memory that must not be swapped is memory like any other (F26). */
TEST(locked_shmem)
{
	u64 npages = 4 * WINDOW;
	struct kvm_vcpu *vcpu;
	char *mem;
	int id;

	id = shmget(IPC_PRIVATE, npages * SIZE_4K, IPC_CREAT | 0600);
	if (id < 0 && errno == ENOSYS)
		SKIP(return, "the kernel has no System V IPC");
	TEST_ASSERT(id >= 0, "shmget: %s", strerror(errno));
	mem = shmat(id, NULL, 0);
	TEST_ASSERT(mem != (void *)-1, "shmat: %s", strerror(errno));
	TEST_ASSERT_OK(shmctl(id, SHM_LOCK, NULL));
	TEST_ASSERT_OK(shmctl(id, IPC_RMID, NULL));
	fill(mem, npages);
	vcpu = create(0, npages, mem);
	/* How its address fits to the guest's windows is the kernel's choice of it. */
	TEST_ASSERT(touch(vcpu, npages, true) <= npages / WINDOW + 1, "the neighbours do not come");
	check_pages(vcpu, mem, 0, npages, 1, true);
	kvm_vm_free(vcpu->vm);
	shmdt(mem);
}

/* Secret memory is for its process alone, though it is present. */
TEST(secret_memory)
{
	int fd = syscall(__NR_memfd_secret, 0);
	struct kvm_vcpu *vcpu;
	char *mem;

	if (fd < 0 && errno == ENOSYS)
		SKIP(return, "the kernel has no secret memory");
	TEST_ASSERT(fd >= 0, "memfd_secret: %s", strerror(errno));
	TEST_ASSERT(!ftruncate(fd, WINDOW * SIZE_4K), "ftruncate");
	mem = mmap_at(WINDOW * SIZE_4K, SIZE_2M, 0, MAP_SHARED, fd);
	TEST_ASSERT(mem != MAP_FAILED, "mmap: %s", strerror(errno));
	fill(mem, WINDOW);
	vcpu = create(0, WINDOW, mem);
	guest_ask(vcpu, GUEST_OP_LOAD, gva_of(1), 0);
	TEST_ASSERT_ERRNO(__vcpu_run(vcpu), EFAULT);
	kvm_vm_free(vcpu->vm);
	close(fd);
}

/*
 * F24: what is mapped with a page that is in no run, because its run begins before
 * the slot, are runs where the host has some.
 */
static void check_runs_around(struct __test_metadata *_metadata, bool pre_fault)
{
	static struct dump dump;
	u64 npages = 16 * WINDOW - 1, gpa = GPA + SIZE_4K, before;
	struct kvm_pre_fault_memory range = { .gpa = gpa, .size = npages * SIZE_4K };
	struct kvm_vcpu *vcpu;
	char *mem;

	if (!host_has_isa("svnapot") || (pre_fault && !kvm_has_cap(KVM_CAP_PRE_FAULT_MEMORY)))
		SKIP(return, "no Svnapot, or no KVM_PRE_FAULT_MEMORY");
	if (!hugetlb_reserve(SIZE_64K, 16))
		SKIP(return, "no huge pages of 64K");
	/* In one table of the host's. */
	mem = mmap_at(16 * SIZE_64K, SIZE_2M, 0, MAP_ANON_PRIVATE | MAP_HUGE_OF(SIZE_64K), -1);
	TEST_ASSERT(mem != MAP_FAILED, "mmap: %s", strerror(errno));
	fill(mem + SIZE_4K, npages);
	vcpu = server_create();
	set_around(SIZE_2M);
	vm_set_user_memory_region(vcpu->vm, SLOT, 0, gpa, npages * SIZE_4K, mem + SIZE_4K);
	server_map(vcpu, gpa, npages * SIZE_4K);
	if (pre_fault) {
		vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &range);
		TEST_ASSERT_EQ(range.size, 0);
	}
	TEST_ASSERT_EQ(guest_load(vcpu, gva_of(0)), pattern(0));
	dump_read(vcpu->vm, &dump);
	TEST_ASSERT_EQ(dump_bytes(&dump, gpa, npages * SIZE_4K, SIZE_64K), 15 * SIZE_64K);
	TEST_ASSERT_EQ(dump_bytes(&dump, gpa, npages * SIZE_4K, SIZE_4K), SIZE_64K - SIZE_4K);
	assert_stats_are(vcpu->vm, &dump);
	before = faults(vcpu);
	check_pages(vcpu, mem + SIZE_4K, 0, npages, 1, true);
	TEST_ASSERT_EQ(faults(vcpu), before);
	kvm_vm_free(vcpu->vm);
	munmap(mem, 16 * SIZE_64K);
}

TEST(runs_around_a_page)
{
	check_runs_around(_metadata, false);
}

TEST(runs_around_a_pre_faulted_page)
{
	check_runs_around(_metadata, true);
}

static const u32 flags_of[] = { 0, KVM_MEM_LOG_DIRTY_PAGES };

/*
 * The guest loads one page, and stores to all of them: what others see of them
 * must not change.
 */
static void load_one_store_all(struct kvm_vcpu *vcpu, char *mem, u64 npages)
{
	u64 i;

	guest_load(vcpu, gva_of(npages / 2));
	for (i = 0; i < npages; i++)
		guest_store(vcpu, gva_of(i) + 8, ~pattern(i));
	for (i = 0; i < npages; i++) {
		TEST_ASSERT_EQ(page_word(mem, i)[1], ~pattern(i));
		TEST_ASSERT_EQ(guest_load(vcpu, gva_of(i) + 8), ~pattern(i));
	}
}

/* A private mapping of a file, present for reading, and in part copied already. */
TEST(private_file)
{
	struct kvm_vcpu *vcpu;
	u64 i, val[2];
	char *mem;
	int f, fd;

	for (f = 0; f < ARRAY_SIZE(flags_of); f++) {
		fd = memfd_create("private", 0);
		TEST_ASSERT(!ftruncate(fd, WINDOW * SIZE_4K), "ftruncate");
		for (i = 0; i < WINDOW; i++) {
			val[0] = pattern(i);
			TEST_ASSERT(pwrite(fd, val, 8, i * SIZE_4K) == 8, "pwrite");
		}
		mem = mmap_at(WINDOW * SIZE_4K, SIZE_2M, 0, MAP_PRIVATE, fd);
		TEST_ASSERT(!madvise(mem, WINDOW * SIZE_4K, MADV_POPULATE_READ), "madvise");
		for (i = 1; i < WINDOW; i += 4)
			page_word(mem, i)[2] = 5;
		vcpu = create(flags_of[f], WINDOW, mem);
		load_one_store_all(vcpu, mem, WINDOW);
		TEST_ASSERT(around(vcpu), "no neighbour was mapped");
		for (i = 0; i < WINDOW; i++) {
			TEST_ASSERT(pread(fd, val, 16, i * SIZE_4K) == 16, "pread");
			TEST_ASSERT(val[0] == pattern(i) && !val[1],
				    "page %lu: the guest's store reached the file", (unsigned long)i);
		}
		kvm_vm_free(vcpu->vm);
		close(fd);
	}
}

/* fork() before and after the guest's first access. */
TEST(forked_child)
{
	int f, after, fds[2], status;
	struct kvm_vcpu *vcpu;
	char *mem, go = 0;
	pid_t pid = -1;
	u64 i;

	for (f = 0; f < ARRAY_SIZE(flags_of); f++) {
		for (after = 0; after < 2; after++) {
			mem = map_advised(WINDOW * SIZE_4K, MADV_NOHUGEPAGE);
			fill(mem, WINDOW);
			vcpu = create(flags_of[f], WINDOW, mem);
			TEST_ASSERT(!pipe(fds), "pipe");
			if (after)
				guest_load(vcpu, gva_of(3));
			pid = fork();
			if (!pid) {
				close(fds[1]);
				if (read(fds[0], &go, 1) != 1)
					_exit(2);
				for (i = 0; i < WINDOW; i++)
					if (page_word(mem, i)[0] != pattern(i) ||
					    page_word(mem, i)[1])
						_exit(1);
				_exit(0);
			}
			load_one_store_all(vcpu, mem, WINDOW);
			TEST_ASSERT(around(vcpu), "no neighbour was mapped");
			TEST_ASSERT(write(fds[1], &go, 1) == 1, "write");
			TEST_ASSERT(waitpid(pid, &status, 0) == pid && WIFEXITED(status), "waitpid");
			TEST_ASSERT(WEXITSTATUS(status) == 0,
				    "the guest's stores reached the child (fork %s the access)",
				    after ? "after" : "before");
			close(fds[0]);
			close(fds[1]);
			kvm_vm_free(vcpu->vm);
		}
	}
}

/* All that was only read of anonymous memory is one page. */
TEST(zero_page)
{
	char *other = map_advised(SIZE_4K, MADV_NOHUGEPAGE);
	struct kvm_vcpu *vcpu;
	u64 i, seen;
	char *mem;
	int f;

	for (f = 0; f < ARRAY_SIZE(flags_of); f++) {
		mem = map_advised(WINDOW * SIZE_4K, MADV_NOHUGEPAGE);
		TEST_ASSERT(!madvise(mem, WINDOW * SIZE_4K, MADV_POPULATE_READ), "madvise");
		page_word(mem, WINDOW / 2)[0] = 1;
		vcpu = create(flags_of[f], WINDOW, mem);
		guest_load(vcpu, gva_of(WINDOW / 2));
		for (i = 0; i < WINDOW; i++) {
			guest_store(vcpu, gva_of(i) + 8, 1);
			seen = READ_ONCE(*(u64 *)(other + 8));
			/* Whatever page that was, leave it as it was found. */
			guest_store(vcpu, gva_of(i) + 8, 0);
			TEST_ASSERT(!seen, "the guest wrote the host's zero page");
		}
		kvm_vm_free(vcpu->vm);
	}
}

/* Pages of the same contents become one. */
TEST(ksm)
{
	u64 i, pfn[2 * WINDOW];
	struct kvm_vcpu *vcpu;
	char *mem;
	int f;

	if (!knob_set("/sys/kernel/mm/ksm/sleep_millisecs", "0"))
		SKIP(return, "no KSM");
	knob_set("/sys/kernel/mm/ksm/pages_to_scan", "10000");
	for (f = 0; f < ARRAY_SIZE(flags_of); f++) {
		mem = map_advised(2 * WINDOW * SIZE_4K, MADV_NOHUGEPAGE);
		for (i = 0; i < 2 * WINDOW; i++)
			memset(page_word(mem, i), 0x5a + f, SIZE_4K);
		TEST_ASSERT(!madvise(mem, 2 * WINDOW * SIZE_4K, MADV_MERGEABLE), "madvise");
		knob_set("/sys/kernel/mm/ksm/run", "1");
		TEST_ASSERT(eventually_within(2 * HANG_MS, are_ksm(mem, 2 * WINDOW)),
			    "KSM has not merged the pages");
		knob_set("/sys/kernel/mm/ksm/run", "0");
		for (i = 0; i < 2 * WINDOW; i++)
			pfn[i] = pfn_of(page_word(mem, i));

		vcpu = create(flags_of[f], WINDOW, mem);
		load_one_store_all(vcpu, mem, WINDOW);
		TEST_ASSERT(around(vcpu), "no neighbour was mapped");
		for (i = WINDOW; i < 2 * WINDOW; i++) {
			TEST_ASSERT_EQ(pfn_of(page_word(mem, i)), pfn[i]);
			TEST_ASSERT_EQ(page_word(mem, i)[1], (0x5a + f) * 0x0101010101010101ULL);
		}
		kvm_vm_free(vcpu->vm);
		munmap(mem, 2 * WINDOW * SIZE_4K);
	}
}

/*
 * Memory of a file that nobody has written is clean, and is dropped under
 * memory pressure.  A store through a neighbour that was mapped along must not
 * get lost with it.
 */
TEST(clean_shared_file)
{
	u64 npages = 8 * WINDOW, i, out = 0;
	int fd = memfd_create("clean", 0);
	struct kvm_vcpu *vcpu;
	char *mem;

	if (!swap_start())
		SKIP(return, "no swap");
	TEST_ASSERT(!ftruncate(fd, npages * SIZE_4K), "ftruncate");
	mem = mmap_at(npages * SIZE_4K, SIZE_2M, 0, MAP_SHARED, fd);
	TEST_ASSERT(!madvise(mem, npages * SIZE_4K, MADV_POPULATE_READ), "madvise");
	/* Clean windows, and such as begin with a dirty page. */
	for (i = 0; i < npages; i += 2 * WINDOW)
		page_word(mem, i)[1] = 1;

	vcpu = create(0, npages, mem);
	for (i = 0; i < npages; i += WINDOW)
		guest_load(vcpu, gva_of(i));
	TEST_ASSERT_EQ(around(vcpu), npages - npages / WINDOW);
	for (i = 0; i < npages; i++)
		guest_store(vcpu, gva_of(i), pattern(i));

	TEST_ASSERT(!madvise(mem, npages * SIZE_4K, MADV_PAGEOUT), "madvise: %s", strerror(errno));
	for (i = 0; i < npages; i++)
		out += !pfn_of(page_word(mem, i));
	TH_LOG("%lu of %lu pages were taken out", (unsigned long)out, (unsigned long)npages);
	TEST_ASSERT(out, "nothing was taken out");
	for (i = 0; i < npages; i++) {
		TEST_ASSERT(page_word(mem, i)[0] == pattern(i), "page %lu: the store is lost",
			    (unsigned long)i);
		TEST_ASSERT_EQ(guest_load(vcpu, gva_of(i)), pattern(i));
	}
	kvm_vm_free(vcpu->vm);
	munmap(mem, npages * SIZE_4K);
	close(fd);
	swap_stop();
}

/* What was mapped along is not logged before the guest stores to it, and is then. */
TEST(log_is_exact)
{
	u64 npages = 4 * WINDOW, want, got, i, before;
	char *mem = map_advised(npages * SIZE_4K, MADV_NOHUGEPAGE);
	struct kvm_vcpu *vcpu;

	fill(mem, npages);
	vcpu = create(KVM_MEM_LOG_DIRTY_PAGES, npages, mem);
	guest_load(vcpu, gva_of(3));
	guest_store(vcpu, gva_of(2 * WINDOW + 1), 1);
	kvm_vm_get_dirty_log(vcpu->vm, SLOT, &got);
	TEST_ASSERT_EQ(got, 1ULL << (2 * WINDOW + 1));
	/* The tree alone settles these. */
	before = faults(vcpu);
	for (want = 0, i = 0; i < npages; i += 5) {
		if (i / WINDOW & 1)
			continue;
		guest_store(vcpu, gva_of(i), 2);
		want |= 1ULL << i;
	}
	TEST_ASSERT_EQ(faults(vcpu), before);
	kvm_vm_get_dirty_log(vcpu->vm, SLOT, &got);
	TEST_ASSERT_EQ(got, want);
	kvm_vm_get_dirty_log(vcpu->vm, SLOT, &got);
	TEST_ASSERT_EQ(got, 0);
	kvm_vm_free(vcpu->vm);
}

/*
 * Ageing tells apart what the guest used and what came along with it, where the
 * CPU notes use itself; elsewhere all of it counts as used.
 */
TEST(ageing)
{
	char *mem = map_advised(WINDOW * SIZE_4K, MADV_NOHUGEPAGE);
	bool svade = !host_has_isa("svadu");
	struct kvm_vcpu *vcpu;
	u64 i, before;
	int idle;

	fill(mem, WINDOW);
	vcpu = create(0, WINDOW, mem);
	idle = idle_open();
	if (idle < 0)
		SKIP(return, "no idle page tracking");
	for (i = 0; i < WINDOW; i++)
		idle_mark(idle, pfn_of(page_word(mem, i)));
	for (i = 0; i < WINDOW; i++)
		if (!idle_test(idle, pfn_of(page_word(mem, i))))
			SKIP(return, "the host does not mark page %lu idle", (unsigned long)i);

	TEST_ASSERT_EQ(guest_load(vcpu, gva_of(5)), pattern(5));
	TEST_ASSERT_EQ(around(vcpu), WINDOW - 1);
	for (i = 0; i < WINDOW; i++)
		TEST_ASSERT(idle_test(idle, pfn_of(page_word(mem, i))) == (!svade && i != 5),
			    "page %lu is %sidle", (unsigned long)i, svade || i == 5 ? "" : "not ");

	/* Without another fault, where looking at the bitmap does not ask for one. */
	before = faults(vcpu);
	guest_load(vcpu, gva_of(7));
	guest_store(vcpu, gva_of(9), 1);
	if (!svade)
		TEST_ASSERT_EQ(faults(vcpu), before);
	for (i = 0; i < WINDOW; i++)
		TEST_ASSERT(idle_test(idle, pfn_of(page_word(mem, i))) ==
			    (!svade && i != 5 && i != 7 && i != 9), "page %lu", (unsigned long)i);
	close(idle);
	kvm_vm_free(vcpu->vm);
}

struct churn {
	char *mem;
	bool stop;
	u64 rounds;
};

#define PROTECTED_SIZE	(32UL << 20)

static void *protect_host(void *arg)
{
	struct churn *churn = arg;

	while (!READ_ONCE(churn->stop)) {
		mprotect(churn->mem, PROTECTED_SIZE, PROT_READ);
		mprotect(churn->mem, PROTECTED_SIZE, PROT_READ | PROT_WRITE);
		churn->rounds++;
	}
	return NULL;
}

/*
 * What the host is about to take away is not mapped, or mapped along; that
 * there is such a thing elsewhere in the guest's memory costs nobody a fault.
 */
TEST(host_changes_other_memory)
{
	u64 npages = 31 * WINDOW, round, retries;
	struct churn churn = {};
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	char *mem;

	mem = map_advised(npages * SIZE_4K, MADV_NOHUGEPAGE);
	fill(mem, npages);
	churn.mem = map_advised(PROTECTED_SIZE, MADV_NOHUGEPAGE);
	memset(churn.mem, 1, PROTECTED_SIZE);
	vcpu = create(0, npages, mem);
	vm_set_user_memory_region(vcpu->vm, SLOT + 2, 0, 2 * GPA, PROTECTED_SIZE, churn.mem);
	pthread_create(&thread, NULL, protect_host, &churn);
	TEST_ASSERT(eventually(READ_ONCE(churn.rounds)), "no round");
	retries = vcpu_get_stat(vcpu, pf_retry);
	for (round = 0; round < 3; round++) {
		TEST_ASSERT_EQ(touch(vcpu, npages, false), npages / WINDOW);
		/* Gone, for the next round. */
		mprotect(mem, npages * SIZE_4K, PROT_READ);
		mprotect(mem, npages * SIZE_4K, PROT_READ | PROT_WRITE);
	}
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, pf_retry), retries);
	WRITE_ONCE(churn.stop, true);
	pthread_join(thread, NULL);
	TH_LOG("%lu rounds", (unsigned long)churn.rounds);
	kvm_vm_free(vcpu->vm);
	munmap(mem, npages * SIZE_4K);
	munmap(churn.mem, PROTECTED_SIZE);
}

#define CHURN_PAGES	(4 * WINDOW)

/* Pages go, come back with other contents, are protected, copied. */
static void *churn_host(void *arg)
{
	u64 x = 88172645463325252ULL, page;
	struct churn *churn = arg;
	char *at;

	while (!READ_ONCE(churn->stop)) {
		page = xorshift(&x) % CHURN_PAGES;
		at = churn->mem + page * SIZE_4K;
		switch (x >> 32 & 3) {
		case 0:
			madvise(at, SIZE_4K, MADV_DONTNEED);
			break;
		case 1:
			mprotect(at, SIZE_4K, PROT_READ);
			mprotect(at, SIZE_4K, PROT_READ | PROT_WRITE);
			break;
		case 2:
			mmap(at, SIZE_4K, PROT_READ | PROT_WRITE, MAP_ANON_PRIVATE | MAP_FIXED, -1, 0);
			madvise(at, SIZE_4K, MADV_NOHUGEPAGE);
			break;
		default:
			/* Page by page, so that there are neighbours to be found. */
			madvise(churn->mem, CHURN_PAGES * SIZE_4K, MADV_POPULATE_WRITE);
		}
		WRITE_ONCE(churn->rounds, churn->rounds + 1);
	}
	return NULL;
}

static u64 page_of_fault(struct kvm_vcpu *vcpu)
{
	TEST_ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_MEMORY_FAULT);
	return (vcpu->run->memory_fault.gpa - GPA) / SIZE_4K;
}

/*
 * Whatever the host does with the neighbours meanwhile: in the end host and
 * guest see the same pages, and none that was given back.
 */
TEST(changing_neighbours)
{
	struct churn churn = { .mem = map_advised(CHURN_PAGES * SIZE_4K, MADV_NOHUGEPAGE) };
	struct kvm_vcpu *vcpu = create(0, CHURN_PAGES, churn.mem);
	u64 x = 123456789, i, page;
	pthread_t thread;

	pthread_create(&thread, NULL, churn_host, &churn);
	for (i = 0; i < 1500; i++) {
		page = xorshift(&x) % CHURN_PAGES;
		guest_ask(vcpu, x >> 40 & 1 ? GUEST_OP_STORE : GUEST_OP_LOAD, gva_of(page) + 8, i);
		/* The host may write-protect the page for a moment. */
		while (__vcpu_run(vcpu))
			TEST_ASSERT(errno == EFAULT && page_of_fault(vcpu) == page, "errno %d", errno);
		TEST_ASSERT_EQ(get_ucall(vcpu, NULL), UCALL_SYNC);
	}
	WRITE_ONCE(churn.stop, true);
	pthread_join(thread, NULL);
	TH_LOG("%lu changes, %lu faults, %lu neighbours", (unsigned long)churn.rounds,
	       (unsigned long)faults(vcpu), (unsigned long)around(vcpu));
	TEST_ASSERT(around(vcpu), "no neighbour was mapped");
	fill(churn.mem, CHURN_PAGES);
	check_pages(vcpu, churn.mem, 0, CHURN_PAGES, 1, false);
	kvm_vm_free(vcpu->vm);
}

int main(int argc, char *argv[])
{
	int ret;

	__TEST_REQUIRE(knob_get(KNOB) >= 0, "the module has no fault_around_bytes");
	ret = test_harness_run(argc, argv);
	set_around(WINDOW * SIZE_4K);
	return ret;
}
