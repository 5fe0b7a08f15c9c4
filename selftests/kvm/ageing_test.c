// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: M15 */
/* also-on: svade: fail: M9, M15 */
/* covers: mmu/memslots.rs gstage/range.rs hooks/mmu.rs */
/*
 * The host asks which pages the guest used since it last asked: it learns of
 * all that were, and of no others.
 *
 * The question is asked with page_idle: marking a page idle clears the accessed
 * bits of its mappings, and reading the mark looks whether one is set again.
 */
#include "kvm_rs_mem.h"

#define SLOT	1
#define GPA	SIZE_1G
#define NPAGES	64UL

static bool has_swap;

struct aged {
	struct kvm_vcpu *vcpu;
	char *mem;
	u64 npages;
	int idle;
	u64 pfn[SIZE_2M / SIZE_4K];
};

/* Memory that guest and host have touched, at @gpa; false if there is no page_idle. */
static bool create(struct aged *aged, int advice, u32 flags, u64 gpa, u64 npages)
{
	u64 i;

	memset(aged, 0, sizeof(*aged));
	aged->npages = npages;
	aged->mem = map_advised(npages * SIZE_4K, advice);
	fill(aged->mem, npages);
	aged->idle = idle_open();
	if (aged->idle < 0)
		return false;
	aged->vcpu = server_create();
	vm_set_user_memory_region(aged->vcpu->vm, SLOT, flags, gpa, npages * SIZE_4K, aged->mem);
	server_map(aged->vcpu, gpa, npages * SIZE_4K);
	for (i = 0; i < npages; i++) {
		guest_store(aged->vcpu, gva_of(i) + 8, i);
		aged->pfn[i] = pfn_of(page_word(aged->mem, i));
		TEST_ASSERT(aged->pfn[i], "page %lu is not present", (unsigned long)i);
	}
	return true;
}

static void destroy(struct aged *aged)
{
	kvm_vm_free(aged->vcpu->vm);
	munmap(aged->mem, aged->npages * SIZE_4K);
	close(aged->idle);
}

static void mark_all(struct aged *aged)
{
	u64 i;

	for (i = 0; i < aged->npages; i++)
		idle_mark(aged->idle, aged->pfn[i]);
	for (i = 0; i < aged->npages; i++)
		TEST_ASSERT(idle_test(aged->idle, aged->pfn[i]),
			    "page %lu is not idle and nobody used it", (unsigned long)i);
}

/* Uses a page of the guest's as @how has it, which it does not do to others. */
enum use { LOAD, STORE, FETCH };

static void use(struct aged *aged, u64 page, enum use how)
{
	static const u32 ret[] = { 0x02a00513, 0x00008067 }; /* li a0, 42; ret */
	u64 val;

	switch (how) {
	case LOAD:
		TEST_ASSERT_EQ(guest_load(aged->vcpu, gva_of(page)), pattern(page));
		break;
	case STORE:
		guest_ask(aged->vcpu, GUEST_OP_STORE, gva_of(page) + 8, page);
		TEST_ASSERT(!vcpu_run_limited(aged->vcpu, DEFECT_MS), "the store never ends: %s",
			    strerror(errno));
		TEST_ASSERT_EQ(guest_answer(aged->vcpu, NULL), NO_TRAP);
		break;
	case FETCH:
		memcpy(page_word(aged->mem, page) + 8, ret, sizeof(ret));
		mark_all(aged);
		guest_ask(aged->vcpu, GUEST_OP_EXEC, gva_of(page) + 64, 0);
		TEST_ASSERT_EQ(guest_answer(aged->vcpu, &val), NO_TRAP);
		TEST_ASSERT_EQ(val, 42);
		break;
	}
}

/* Pages for themselves: each use shows, and shows on no other. */
static void check_small(struct __test_metadata *_metadata, u32 flags)
{
	struct aged aged;
	u64 i, page;
	int how;

	if (!create(&aged, MADV_NOHUGEPAGE, flags, GPA, NPAGES))
		SKIP(return, "no CONFIG_IDLE_PAGE_TRACKING");
	for (how = LOAD; how <= FETCH; how++) {
		mark_all(&aged);
		for (page = how; page < NPAGES; page += 21) {
			use(&aged, page, how);
			for (i = 0; i < NPAGES; i++)
				TEST_ASSERT(idle_test(aged.idle, aged.pfn[i]) == (i != page),
					    "page %lu is %s after the guest's %s page %lu",
					    (unsigned long)i, i == page ? "idle" : "not idle",
					    how == LOAD ? "load from" :
					    how == STORE ? "store to" : "fetch from",
					    (unsigned long)page);
			mark_all(&aged);
		}
	}
	/* It stays used until it is asked about, however often. */
	use(&aged, 5, STORE);
	use(&aged, 7, LOAD);
	for (i = 0; i < NPAGES; i++)
		TEST_ASSERT_EQ(idle_test(aged.idle, aged.pfn[i]), i != 5 && i != 7);
	destroy(&aged);
}

TEST(small_pages)
{
	check_small(_metadata, 0);
}

/* Without hardware that sets A the C module never ends (M9). */
TEST(small_pages_dirty_log)
{
	check_small(_metadata, KVM_MEM_LOG_DIRTY_PAGES);
}

/* A huge page is used when any piece of it is, and only then. */
static void check_huge(struct __test_metadata *_metadata, u32 flags, u64 gpa)
{
	static const u64 pages[] = { 0, 1, 15, 16, 300, 511 };
	struct aged aged;
	int n, how;

	if (!create(&aged, MADV_HUGEPAGE, flags, gpa, SIZE_2M / SIZE_4K))
		SKIP(return, "no CONFIG_IDLE_PAGE_TRACKING");
	if (aged.pfn[511] != aged.pfn[0] + 511)
		SKIP(return, "the host gave no huge page");
	for (how = LOAD; how <= STORE; how++) {
		for (n = 0; n < ARRAY_SIZE(pages); n++) {
			idle_mark(aged.idle, aged.pfn[0]);
			TEST_ASSERT(idle_test(aged.idle, aged.pfn[0]),
				    "the page is not idle and nobody used it");
			use(&aged, pages[n], how);
			TEST_ASSERT(!idle_test(aged.idle, aged.pfn[0]),
				    "page %lu of the huge one was used and the host does not know",
				    (unsigned long)pages[n]);
			TEST_ASSERT(!idle_test(aged.idle, aged.pfn[0]), "it has forgotten");
		}
	}
	destroy(&aged);
}

TEST(huge_page)
{
	check_huge(_metadata, 0, GPA);
}

/* The huge page is the host's; the guest's entries are small (differences-from-c M15). */
TEST(huge_page_dirty_log)
{
	check_huge(_metadata, KVM_MEM_LOG_DIRTY_PAGES, GPA);
}

/* differences-from-c M15 */
TEST(huge_page_unaligned)
{
	check_huge(_metadata, 0, GPA + SIZE_4K);
}

/*
 * Reclaim asks about folios of any size, and about all of one at once: here
 * 64K.  The kernel finds nothing strange in that.
 */
#define THP	"/sys/kernel/mm/transparent_hugepage/hugepages-"

/* differences-from-c M15 */
TEST(reclaim_asks_about_64k)
{
	u64 size = SIZE_2M, i, step = SIZE_64K / SIZE_4K, folios = 0;
	struct kvm_vcpu *vcpu = server_create();
	const char *cg = memcg_enter("ageing");
	int kmsg, round, out = 0;
	char *mem;

	if (!has_swap || !cg)
		SKIP(return, "no swap on " SWAP_DEVICE ", or no memory cgroups");
	if (!knob_set(THP "64kB/enabled", "always") || !knob_set(THP "2048kB/enabled", "never"))
		SKIP(return, "no THP of 64K");
	mem = map_advised(size, MADV_NORMAL);
	fill(mem, size / SIZE_4K);
	knob_set(THP "64kB/enabled", "inherit");
	knob_set(THP "2048kB/enabled", "inherit");
	for (i = 0; i < size / SIZE_4K; i += step)
		folios += pfn_of(page_word(mem, i)) % step == 0 &&
			  pfn_of(page_word(mem, i + step - 1)) ==
			  pfn_of(page_word(mem, i)) + step - 1;
	if (!folios)
		SKIP(return, "the host gave no folio of 64K");
	pr_info("# %lu folios of 64K\n", (unsigned long)folios);

	vm_set_user_memory_region(vcpu->vm, SLOT, 0, GPA, size, mem);
	server_map(vcpu, GPA, size);
	kmsg = kmsg_open();
	for (round = 0; round < 4; round++) {
		for (i = 0; i < size / SIZE_4K; i += step)
			TEST_ASSERT_EQ(guest_load(vcpu, gva_of(i + 7)), pattern(i + 7));
		/* Whoever reads it brings what reclaim knows of the cgroup up to date. */
		memcg_get(cg, "memory.stat");
		memcg_set(cg, "memory.reclaim", "8M");
		out += memcg_get(cg, "memory.swap.current") > 0;
	}
	TEST_ASSERT(out, "nothing was reclaimed");
	kmsg_assert_quiet(kmsg);
	for (i = 0; i < size / SIZE_4K; i++)
		TEST_ASSERT_EQ(guest_load(vcpu, gva_of(i)), pattern(i));
	kvm_vm_free(vcpu->vm);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	has_swap = swap_start();
	return test_harness_run(argc, argv);
}
