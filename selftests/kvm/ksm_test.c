// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: M1 */
/* covers: mmu/fault.rs kvm_core/hostmm.rs */
/*
 * Guest memory that ksmd merges with other memory of the same contents: the
 * guest's store gives it a page of its own, and whoever shared it sees nothing.
 */
#include "kvm_rs_mem.h"

#define SLOT	1
#define GPA	SIZE_1G
#define NPAGES	64UL
#define KSM	"/sys/kernel/mm/ksm/"

/* The guest's pages, and the copies that it knows nothing of. */
static char *mem, *copy;

/* All pages of the guest's and all copies of page @i have the contents of page @i % 4. */
static u64 content(u64 i)
{
	return pattern(i % 4 + 100);
}

static void fill_page(char *at, u64 i)
{
	u64 *p = page_word(at, i);
	int n;

	for (n = 0; n < SIZE_4K / 8; n++)
		p[n] = content(i) + n;
}

static bool is_page(char *at, u64 i)
{
	u64 *p = page_word(at, i);
	int n;

	for (n = 0; n < SIZE_4K / 8; n++)
		if (p[n] != content(i) + n)
			return false;
	return true;
}

static void assert_copies(void)
{
	u64 i;

	for (i = 0; i < NPAGES; i++)
		TEST_ASSERT(is_page(copy, i), "the guest's store reached the copy of page %lu",
			    (unsigned long)i);
}

/*
 * Whether all pages are merged: to four, as a rule.  A page that ksmd finds in
 * use when it looks for it, it makes a second time.
 */
static bool is_merged(char *at)
{
	return are_ksm(at, NPAGES) && are_ksm(copy, NPAGES);
}

static bool ksm_start(void)
{
	return knob_set(KSM "pages_to_scan", "2000") && knob_set(KSM "sleep_millisecs", "5") &&
	       knob_set(KSM "run", "1");
}

static void ksm_stop(void)
{
	knob_set(KSM "run", "2");
	knob_set(KSM "run", "0");
}

static void wait_for_merge(void)
{
	/* ksmd wants to see the same contents twice. */
	TEST_ASSERT(eventually_within(2 * HANG_MS, is_merged(mem)), "ksmd did not merge the pages");
}

static void map_copies(void)
{
	u64 i;

	mem = map_advised(NPAGES * SIZE_4K, MADV_NOHUGEPAGE);
	copy = map_advised(NPAGES * SIZE_4K, MADV_NOHUGEPAGE);
	for (i = 0; i < NPAGES; i++) {
		fill_page(mem, i);
		fill_page(copy, i);
	}
	TEST_ASSERT_OK(madvise(mem, NPAGES * SIZE_4K, MADV_MERGEABLE));
	TEST_ASSERT_OK(madvise(copy, NPAGES * SIZE_4K, MADV_MERGEABLE));
}

/* Merged under the guest, which then writes: some pages at once, some after a load. */
static void check_merge(struct __test_metadata *_metadata, u32 flags)
{
	struct kvm_vcpu *vcpu = server_create();
	int round;
	u64 i;

	if (!ksm_start())
		SKIP(return, "no CONFIG_KSM");
	map_copies();
	vm_set_user_memory_region(vcpu->vm, SLOT, flags, GPA, NPAGES * SIZE_4K, mem);
	server_map(vcpu, GPA, NPAGES * SIZE_4K);
	for (round = 0; round < 2; round++) {
		/* The guest has them mapped, writable. */
		for (i = 0; i < NPAGES; i++)
			guest_store(vcpu, gva_of(i), content(i));
		wait_for_merge();
		for (i = 0; i < NPAGES; i += 2)
			TEST_ASSERT_EQ(guest_load(vcpu, gva_of(i) + 8), content(i) + 1);
		TEST_ASSERT(is_merged(mem), "a load unshared a page");
		for (i = 0; i < NPAGES; i++) {
			guest_store(vcpu, gva_of(i), 1000 + i);
			TEST_ASSERT_EQ(page_word(mem, i)[0], 1000 + i);
			TEST_ASSERT_EQ(guest_load(vcpu, gva_of(i) + 8), content(i) + 1);
			assert_copies();
		}
	}
	ksm_stop();
	kvm_vm_free(vcpu->vm);
	munmap(mem, NPAGES * SIZE_4K);
	munmap(copy, NPAGES * SIZE_4K);
}

TEST(merge)
{
	check_merge(_metadata, 0);
}

/* differences-from-c M1 */
TEST(merge_dirty_log)
{
	check_merge(_metadata, KVM_MEM_LOG_DIRTY_PAGES);
}

/* In the guest's memory. */
static u64 stop;

/* Makes its page different and the same again, for ever. */
static void guest_change(u64 id)
{
	u64 seed = id + 1, page, *p, old;

	while (!READ_ONCE(stop)) {
		page = xorshift(&seed) % (NPAGES / NR_VCPUS) * NR_VCPUS + id;
		p = (u64 *)gva_of(page) + 1;
		old = READ_ONCE(*p);
		__GUEST_ASSERT(old == content(page) + 1,
			       "vCPU %lu, page %lu: found %lx", id, page, old);
		WRITE_ONCE(*p, seed);
		__GUEST_ASSERT(READ_ONCE(*p) == seed, "vCPU %lu, page %lu: a store is lost", id,
			       page);
		WRITE_ONCE(*p, old);
	}
	GUEST_DONE();
}

/* The guest never writes what is merged but by way of a copy, at any moment. */
TEST(merge_while_running)
{
	struct crew crew;
	int i;

	if (!ksm_start())
		SKIP(return, "no CONFIG_KSM");
	map_copies();
	crew_create(&crew, guest_change);
	crew_add_slot(&crew, SLOT, 0, GPA, NPAGES * SIZE_4K, mem);
	crew_start(&crew, crew_run_to_done);
	for (i = 0; i < 100; i++) {
		assert_copies();
		usleep(5000);
	}
	write_guest_global(crew.vm, stop, 1);
	crew_join(&crew);
	wait_for_merge();
	assert_copies();
	for (i = 0; i < NPAGES; i++)
		TEST_ASSERT(is_page(mem, i), "page %d is not as it was", i);
	ksm_stop();
	kvm_vm_free(crew.vm);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
