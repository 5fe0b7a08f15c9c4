// SPDX-License-Identifier: GPL-2.0
/* on-c: varies: M1 */
/* covers: mmu/fault.rs hooks/mmu.rs */
/*
 * Guest memory that the host swaps out and in again, at its own wish or because
 * there is not enough: the guest notices nothing.
 */
#include <sys/wait.h>

#include "kvm_rs_mem.h"

#define SLOT	1
#define GPA	SIZE_1G

static bool has_swap;

static void page_out(void *mem, u64 size)
{
	TEST_ASSERT(!madvise(mem, size, MADV_PAGEOUT), "MADV_PAGEOUT: %s", strerror(errno));
}

/* Pages that the machine has written to swap since it booted. */
static u64 written(void)
{
	FILE *f = fopen("/proc/vmstat", "r");
	unsigned long n = 0;
	char line[128];

	TEST_ASSERT(f, "no /proc/vmstat");
	while (fgets(line, sizeof(line), f) && sscanf(line, "pswpout %lu", &n) != 1)
		;
	fclose(f);
	return n;
}

static u64 swapped(char *mem, u64 npages)
{
	u64 i, n = 0;

	for (i = 0; i < npages; i++)
		n += !!(pagemap_entry(page_word(mem, i)) & PAGEMAP_SWAPPED);
	return n;
}

/* Out and in, page by page, whichever way the guest comes back. */
static void check_out_and_in(struct __test_metadata *_metadata, int advice, u32 flags, u64 npages)
{
	struct kvm_vcpu *vcpu = server_create();
	char *mem = map_advised(npages * SIZE_4K, advice);
	u64 i, n, round;

	if (!has_swap)
		SKIP(return, "no swap on " SWAP_DEVICE);
	fill(mem, npages);
	vm_set_user_memory_region(vcpu->vm, SLOT, flags, GPA, npages * SIZE_4K, mem);
	server_map(vcpu, GPA, npages * SIZE_4K);
	for (round = 1; round <= 2; round++) {
		for (i = 0; i < npages; i += 3)
			guest_store(vcpu, gva_of(i) + 8, i * round);
		/* Pages that a CPU is about to put on a list stay, the first time. */
		for (n = 0; n < 100 && swapped(mem, npages) <= npages / 2; n++)
			page_out(mem, npages * SIZE_4K);
		TEST_ASSERT(swapped(mem, npages) > npages / 2, "%lu of %lu pages are out",
			    (unsigned long)swapped(mem, npages), (unsigned long)npages);
		/* Loads first, then stores to what came back read-only; and stores to what is out. */
		for (i = 0; i < npages; i += 2)
			TEST_ASSERT_EQ(guest_load(vcpu, gva_of(i)), pattern(i));
		for (i = 0; i < npages; i++) {
			guest_store(vcpu, gva_of(i) + 16, i + round);
			TEST_ASSERT_EQ(guest_load(vcpu, gva_of(i) + 8), i % 3 ? 0 : i * round);
		}
		for (i = 0; i < npages; i++) {
			TEST_ASSERT_EQ(page_word(mem, i)[0], pattern(i));
			TEST_ASSERT_EQ(page_word(mem, i)[1], i % 3 ? 0 : i * round);
			TEST_ASSERT_EQ(page_word(mem, i)[2], i + round);
		}
	}
	kvm_vm_free(vcpu->vm);
	munmap(mem, npages * SIZE_4K);
}

TEST(out_and_in_4k)
{
	check_out_and_in(_metadata, MADV_NOHUGEPAGE, 0, 128);
}

TEST(out_and_in_thp)
{
	check_out_and_in(_metadata, MADV_HUGEPAGE, 0, SIZE_2M / SIZE_4K);
}

TEST(out_and_in_dirty_log)
{
	check_out_and_in(_metadata, MADV_NOHUGEPAGE, KVM_MEM_LOG_DIRTY_PAGES, 128);
}

/* A page that came back is shared with a child; the guest's store is its own. */
TEST(fork_while_out)
{
	struct kvm_vcpu *vcpu = server_create();
	char *mem = map_advised(16 * SIZE_4K, MADV_NOHUGEPAGE), go = 0;
	int fds[2], status;
	pid_t pid;
	u64 i;

	if (!has_swap)
		SKIP(return, "no swap on " SWAP_DEVICE);
	fill(mem, 16);
	vm_set_user_memory_region(vcpu->vm, SLOT, 0, GPA, 16 * SIZE_4K, mem);
	server_map(vcpu, GPA, 16 * SIZE_4K);
	for (i = 0; i < 16; i++)
		guest_store(vcpu, gva_of(i) + 8, 1);
	page_out(mem, 16 * SIZE_4K);
	TEST_ASSERT(!pipe(fds), "pipe");
	pid = fork();
	if (!pid) {
		if (read(fds[0], &go, 1) != 1)
			_exit(2);
		for (i = 0; i < 16; i++)
			if (page_word(mem, i)[0] != pattern(i) || page_word(mem, i)[1] != 1)
				_exit(1);
		_exit(0);
	}
	for (i = 0; i < 16; i++) {
		if (i & 1)
			TEST_ASSERT_EQ(guest_load(vcpu, gva_of(i)), pattern(i));
		guest_store(vcpu, gva_of(i) + 8, 2);
	}
	TEST_ASSERT(write(fds[1], &go, 1) == 1, "write");
	TEST_ASSERT(waitpid(pid, &status, 0) == pid && WIFEXITED(status), "waitpid");
	TEST_ASSERT(!WEXITSTATUS(status), "the guest's store reached the forked child");
	kvm_vm_free(vcpu->vm);
}

/* --- with vCPUs that run -------------------------------------------------------- */

/* In the guest's memory. */
static u64 nr_pages, step, stop, rounds[NR_VCPUS];

/*
 * Goes over all pages that count, every @step, again and again; each has a counter for every vCPU, which
 * is the same on all pages at the end of a round.
 */
static void guest_sweep(u64 id)
{
	u64 i, page, n, *p;

	for (n = 0; !READ_ONCE(stop); n++) {
		for (i = 0; i < nr_pages; i++) {
			page = (i * 7 + id * nr_pages / NR_VCPUS) % nr_pages * step;
			p = (u64 *)gva_of(page);
			__GUEST_ASSERT(READ_ONCE(p[0]) == pattern(page),
				       "vCPU %lu, page %lu: found %lx", id, page, p[0]);
			__GUEST_ASSERT(READ_ONCE(p[1 + id]) == n,
				       "vCPU %lu, page %lu: counter %lu in round %lu", id, page,
				       p[1 + id], n);
			WRITE_ONCE(p[1 + id], n + 1);
		}
		WRITE_ONCE(rounds[id], n + 1);
	}
	GUEST_DONE();
}

static void sweep_start(struct crew *crew, char *mem, u64 npages, u64 each, u32 flags)
{
	nr_pages = npages / each;
	step = each;
	stop = 0;
	memset(rounds, 0, sizeof(rounds));
	fill(mem, npages);
	crew_create(crew, guest_sweep);
	crew_add_slot(crew, SLOT, flags, GPA, npages * SIZE_4K, mem);
	sync_global_to_guest(crew->vm, nr_pages);
	sync_global_to_guest(crew->vm, step);
	crew_start(crew, crew_run_to_done);
}

static u64 least_rounds(struct crew *crew)
{
	u64 *now = addr_gva2hva(crew->vm, (gva_t)rounds), least = -1UL;
	int i;

	for (i = 0; i < NR_VCPUS; i++)
		least = min(least, READ_ONCE(now[i]));
	return least;
}

static void sweep_end(struct crew *crew, char *mem)
{
	u64 i, id;

	write_guest_global(crew->vm, stop, 1);
	crew_join(crew);
	sync_global_from_guest(crew->vm, rounds);
	for (i = 0; i < nr_pages * step; i += step)
		for (id = 0; id < NR_VCPUS; id++)
			TEST_ASSERT(page_word(mem, i)[1 + id] == rounds[id],
				    "page %lu: %lu, vCPU %lu went round %lu times",
				    (unsigned long)i, (unsigned long)page_word(mem, i)[1 + id],
				    (unsigned long)id, (unsigned long)rounds[id]);
	kvm_vm_free(crew->vm);
	munmap(mem, nr_pages * step * SIZE_4K);
}

static void check_out_while_running(struct __test_metadata *_metadata, int advice, u64 npages,
				    u64 each, u32 flags)
{
	char *mem = map_advised(npages * SIZE_4K, advice);
	u64 n, at, before = written(), seed = 7;
	struct crew crew;

	if (!has_swap)
		SKIP(return, "no swap on " SWAP_DEVICE);
	sweep_start(&crew, mem, npages, each, flags);
	/* Pages that are used that much do not all go. */
	for (n = 0; n < 2 || (written() - before <= 4 && n < 50); n++) {
		page_out(page_word(mem, xorshift(&seed) % (npages / 2)), npages / 2 * SIZE_4K);
		/* Until every vCPU came past what was out, some while that happened. */
		for (at = least_rounds(&crew); least_rounds(&crew) < at + 2;)
			usleep(1000);
	}
	pr_info("# %lu pages written in %lu attempts, %lu rounds\n",
		(unsigned long)(written() - before), (unsigned long)n,
		(unsigned long)least_rounds(&crew));
	TEST_ASSERT(written() - before > 4, "almost nothing was ever out");
	sweep_end(&crew, mem);
}

TEST(out_while_running)
{
	check_out_while_running(_metadata, MADV_NOHUGEPAGE, 64, 1, 0);
}

TEST(out_while_running_thp)
{
	check_out_while_running(_metadata, MADV_HUGEPAGE, SIZE_2M / SIZE_4K, 8, 0);
}

TEST(out_while_logged)
{
	check_out_while_running(_metadata, MADV_NOHUGEPAGE, 64, 1, KVM_MEM_LOG_DIRTY_PAGES);
}

/* The process may use less and less, until the guest's memory does not fit. */
static void check_pressure(struct __test_metadata *_metadata, int advice, u64 each)
{
	const char *cg = memcg_enter("swap_test");
	u64 npages = SIZE_2M / SIZE_4K, before, n, last = -1UL;
	struct crew crew;
	char *mem, max[32];
	long limit;

	if (!has_swap || !cg)
		SKIP(return, "no swap on " SWAP_DEVICE ", or no memory cgroups");
	TEST_ASSERT(memcg_set(cg, "memory.max", "max"), "memory.max");
	mem = map_advised(npages * SIZE_4K, advice);
	sweep_start(&crew, mem, npages, each, 0);
	while (!least_rounds(&crew))
		usleep(10000);
	before = written();
	limit = memcg_get(cg, "memory.current");
	while ((n = written() - before) < npages / 8) {
		/* As long as that makes pages go, it is little enough. */
		if (n == last) {
			limit -= SIZE_2M / 16;
			TEST_ASSERT(limit > 0, "it fits into nothing");
			snprintf(max, sizeof(max), "%ld", limit);
			TEST_ASSERT(memcg_set(cg, "memory.max", max), "memory.max");
		}
		last = n;
		usleep(20000);
	}
	n = least_rounds(&crew);
	pr_info("# %lu pages written, %lu rounds\n", (unsigned long)(written() - before),
		(unsigned long)n);
	memcg_set(cg, "memory.max", "max");
	while (least_rounds(&crew) < n + 2)
		usleep(1000);
	sweep_end(&crew, mem);
}

TEST(pressure_4k)
{
	check_pressure(_metadata, MADV_NOHUGEPAGE, 8);
}

TEST(pressure_thp)
{
	check_pressure(_metadata, MADV_HUGEPAGE, 8);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	has_swap = swap_start();
	return test_harness_run(argc, argv);
}
