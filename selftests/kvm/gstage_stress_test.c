// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: M4 */
/* covers: mmu/fault.rs mmu/table_memory.rs mmu/tlb.rs kvm_core/mmu_lock.rs
 * gstage/flush.rs gstage/table.rs */
/*
 * Four vCPUs fault on the same memory while the host takes it away, gives it
 * back, shares it and logs it: no store is lost and none lands elsewhere.
 */
#include <sys/wait.h>

#include "kvm_rs_mem.h"

#define SLOT		1
#define GPA		SIZE_1G
#define NPAGES		512UL
#define SIZE		(NPAGES * SIZE_4K)
#define RUN_MS		500
#define MIN_ROUNDS	4

/*
 * The pages that the guests use.  Few, where each takes a fault of its own:
 * a fault may cost an interrupt to every CPU, and emulated CPUs are slow there.
 */
static u64 nr_pages;

/* In the guest's memory. */
static u64 counts[NR_VCPUS];
static u64 stop;

static struct kvm_vcpu *vcpus[NR_VCPUS];
static struct kvm_vm *vm;
static char *mem;
static int memfd;

/* Adds one to a word of its own in a page chosen at random. */
static void guest_count(u64 id)
{
	u64 seed = 0x9e3779b97f4a7c15ULL * (id + 1), *p;

	while (!READ_ONCE(stop)) {
		p = (u64 *)(TEST_GVA + xorshift(&seed) % nr_pages * SIZE_4K) + id;
		WRITE_ONCE(*p, READ_ONCE(*p) + 1);
		counts[id]++;
	}
	GUEST_DONE();
}

/* Leaves its mark and the page's number; finds nothing but these or zero. */
static void guest_mark(u64 id)
{
	u64 seed = 0x9e3779b97f4a7c15ULL * (id + 1), *p, page, val;

	while (!READ_ONCE(stop)) {
		page = xorshift(&seed) % nr_pages;
		p = (u64 *)(TEST_GVA + page * SIZE_4K) + id;
		val = READ_ONCE(*p);
		__GUEST_ASSERT(!val || val == (page << 8 | (id + 1)),
			       "page %lu, vCPU %lu: found %lx", page, id, val);
		WRITE_ONCE(*p, page << 8 | (id + 1));
		counts[id]++;
	}
	GUEST_DONE();
}

static void *vcpu_thread(void *arg)
{
	run_to_done(arg);
	return NULL;
}

/* Whether every vCPU has made some stores: emulated CPUs may be slow to start. */
static bool all_count(void)
{
	u64 *now = addr_gva2hva(vm, (gva_t)counts);
	int i;

	for (i = 0; i < NR_VCPUS; i++)
		if (READ_ONCE(now[i]) < 3)
			return false;
	return true;
}

/*
 * Runs @guest on all vCPUs while @disturb is called again and again, for about
 * a second.
 */
static void run_stress(void *guest, void (*disturb)(u64 *seed))
{
	struct timespec start;
	pthread_t threads[NR_VCPUS];
	u64 seed = 88172645463325252ULL, total = 0, rounds = 0;
	int i;

	vm = vm_create_with_vcpus(NR_VCPUS, guest, vcpus);
	vm_set_user_memory_region(vm, SLOT, 0, GPA, SIZE, mem);
	sync_global_to_guest(vm, nr_pages);
	for (i = 0; i < NPAGES; i++)
		virt_pg_map(vm, TEST_GVA + i * SIZE_4K, GPA + i * SIZE_4K);
	for (i = 0; i < NR_VCPUS; i++) {
		vcpu_args_set(vcpus[i], 1, (u64)i);
		pthread_create(&threads[i], NULL, vcpu_thread, vcpus[i]);
	}

	clock_gettime(CLOCK_MONOTONIC, &start);
	while (timespec_to_ns(timespec_elapsed(start)) < RUN_MS * 1000000LL ||
	       rounds < MIN_ROUNDS || !all_count()) {
		disturb(&seed);
		rounds++;
		/* Time to fault back in, or the guests get nowhere. */
		usleep(2000);
	}
	write_guest_global(vm, stop, 1);
	for (i = 0; i < NR_VCPUS; i++)
		pthread_join(threads[i], NULL);

	sync_global_from_guest(vm, counts);
	for (i = 0; i < NR_VCPUS; i++)
		total += counts[i];
	pr_info("# %lu stores, %lu disturbances\n", (unsigned long)total, (unsigned long)rounds);
}

/* Every store of guest_count() is where it belongs. */
static void assert_counts(void)
{
	u64 i, id, sum[NR_VCPUS] = {};

	for (i = 0; i < NPAGES; i++)
		for (id = 0; id < NR_VCPUS; id++)
			sum[id] += ((u64 *)(mem + i * SIZE_4K))[id];
	for (id = 0; id < NR_VCPUS; id++)
		TEST_ASSERT(sum[id] == counts[id], "vCPU %lu made %lu stores, memory has %lu",
			    (unsigned long)id, (unsigned long)counts[id],
			    (unsigned long)sum[id]);
}

static void map_shared(void)
{
	nr_pages = 96;
	memfd = memfd_create("stress", 0);
	TEST_ASSERT(!ftruncate(memfd, SIZE), "ftruncate");
	mem = mmap_at(SIZE, SIZE_2M, 0, MAP_SHARED, memfd);
	TEST_ASSERT(mem != MAP_FAILED, "mmap");
}

static void map_anon(int advice)
{
	nr_pages = advice == MADV_HUGEPAGE ? NPAGES : 96;
	mem = mmap_at(SIZE, SIZE_2M, 0, MAP_ANON_PRIVATE, -1);
	TEST_ASSERT(mem != MAP_FAILED, "mmap");
	madvise(mem, SIZE, advice);
	memset(mem, 0, SIZE);
}

/* A range of at most @max pages. */
static void pick(u64 *seed, u64 max, u64 *off, u64 *len)
{
	u64 n = xorshift(seed) % max + 1;

	*off = xorshift(seed) % (nr_pages - n + 1) * SIZE_4K;
	*len = n * SIZE_4K;
}

/* The file stays; that it is mapped does not. */
static void unmap_and_remap(u64 *seed)
{
	void *p;
	u64 off, len;

	pick(seed, 16, &off, &len);
	if (*seed & 1) {
		madvise(mem + off, len, MADV_DONTNEED);
		return;
	}
	p = mmap(mem + off, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memfd, off);
	TEST_ASSERT(p == mem + off, "mmap");
}

TEST(remap_shared)
{
	map_shared();
	run_stress(guest_count, unmap_and_remap);
	assert_counts();
}

/* Logging is switched while the pages come and go. */
static void log_and_remap(u64 *seed)
{
	static u64 bitmap[NPAGES / 64];
	static bool logging;

	unmap_and_remap(seed);
	if (xorshift(seed) % 8)
		return;
	if (logging && *seed & 0x100) {
		kvm_vm_get_dirty_log(vm, SLOT, bitmap);
		return;
	}
	logging = !logging;
	vm_set_user_memory_region(vm, SLOT, logging ? KVM_MEM_LOG_DIRTY_PAGES : 0, GPA, SIZE, mem);
}

TEST(log_shared)
{
	map_shared();
	run_stress(guest_count, log_and_remap);
	assert_counts();
}

static void drop(u64 *seed)
{
	u64 off, len;

	pick(seed, 24, &off, &len);
	madvise(mem + off, len, MADV_DONTNEED);
}

TEST(drop_anon)
{
	map_anon(MADV_NOHUGEPAGE);
	run_stress(guest_mark, drop);
}

/* Dropped by pieces, and now and then asked to be huge again. */
static void drop_and_collapse(u64 *seed)
{
	drop(seed);
	if (xorshift(seed) % 4 == 0)
		madvise(mem, SIZE_2M, 25 /* MADV_COLLAPSE */);
}

TEST(drop_thp)
{
	map_anon(MADV_HUGEPAGE);
	run_stress(guest_mark, drop_and_collapse);
}

/* A forked child must not see what the guest does after the fork. */
static void fork_snapshot(u64 *seed)
{
	static u64 words[NPAGES][NR_VCPUS];
	int status, i;
	pid_t pid;

	pid = fork();
	TEST_ASSERT(pid >= 0, "fork");
	if (!pid) {
		for (i = 0; i < NPAGES; i++)
			memcpy(words[i], mem + i * SIZE_4K, sizeof(words[i]));
		usleep(3000);
		for (i = 0; i < NPAGES; i++)
			if (memcmp(words[i], mem + i * SIZE_4K, sizeof(words[i])))
				_exit(1);
		_exit(0);
	}
	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid");
	TEST_ASSERT(WIFEXITED(status) && !WEXITSTATUS(status),
		    "a forked child saw the guest's stores, status 0x%x", status);
}

TEST(fork_anon)
{
	map_anon(MADV_NOHUGEPAGE);
	run_stress(guest_count, fork_snapshot);
	assert_counts();
}

TEST(fork_thp)
{
	map_anon(MADV_HUGEPAGE);
	run_stress(guest_count, fork_snapshot);
	assert_counts();
}

static long meminfo(const char *key)
{
	char line[128];
	long kb = -1;
	FILE *f = fopen("/proc/meminfo", "r");

	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)))
			kb = atol(line + strlen(key) + 1);
	fclose(f);
	return kb;
}

#define LEAK_VMS	24
#define LEAK_TABLES	96
#define LEAK_ROUNDS	5

/* What nobody has, and what the slab has: KASAN keeps there for a while what is freed. */
static long unused(void)
{
	return meminfo("MemFree:") + meminfo("Slab:");
}

/* How the tables of a VM go. */
enum end {
	WITH_SLOT,
	WITH_VM,
};

/* One page in every 2 MiB: every page needs a leaf table of its own. */
static void touch_sparse_vm(enum end end)
{
	u64 size = LEAK_TABLES * SIZE_2M, i;
	struct kvm_vcpu *vcpu = server_create();
	void *sparse = mmap_at(size, SIZE_2M, 0, MAP_ANON_PRIVATE | MAP_NORESERVE, -1);

	TEST_ASSERT(sparse != MAP_FAILED, "mmap");
	madvise(sparse, size, MADV_NOHUGEPAGE);
	vm_set_user_memory_region(vcpu->vm, SLOT, 0, GPA, size, sparse);
	for (i = 0; i < LEAK_TABLES; i++) {
		virt_pg_map(vcpu->vm, TEST_GVA + i * SIZE_4K, GPA + i * SIZE_2M);
		guest_store(vcpu, TEST_GVA + i * SIZE_4K, i);
	}
	if (end == WITH_SLOT)
		vm_set_user_memory_region(vcpu->vm, SLOT, 0, GPA, 0, sparse);
	kvm_vm_free(vcpu->vm);
	munmap(sparse, size);
}

/*
 * Free memory moves for reasons of its own, now and then by as much, and either
 * way; what leaks is gone in every round but perhaps one (differences-from-c M4).
 */
TEST(tables_are_freed)
{
	long free0, free1, sec0, sec1, leak = LEAK_VMS * LEAK_TABLES * 4;
	int round, i, kept = 0;

	for (round = 0; round < LEAK_ROUNDS; round++) {
		free0 = unused();
		sec0 = meminfo("SecPageTables:");
		for (i = 0; i < LEAK_VMS; i++)
			touch_sparse_vm(i % 2 ? WITH_SLOT : WITH_VM);
		free1 = unused();
		sec1 = meminfo("SecPageTables:");

		TH_LOG("%d VMs with %ld kB of leaf tables in all: %ld kB of memory less, SecPageTables %+ld kB",
		       LEAK_VMS, leak, free0 - free1, sec1 - sec0);
		if (free0 - free1 < leak / 4 && sec1 - sec0 < leak / 4 && ++kept == 2)
			return;
	}
	TEST_FAIL("%ld kB are lost, and so in all but %d of %d rounds", free0 - free1, kept,
		  LEAK_ROUNDS);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
