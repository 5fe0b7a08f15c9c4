// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: M3 */
/* covers: mmu/memslots.rs mmu/fault.rs gstage/range.rs hooks/mmu.rs */
/*
 * The dirty log says of every page exactly whether the guest stored to it, on
 * small pages and on huge ones, and logging leaves no trace when it ends.
 */
#include "kvm_rs_mem.h"

#define SLOT		1
#define GPA		SIZE_1G
#define NPAGES		1088UL		/* two huge pages and a part of a word */
#define SIZE		(NPAGES * SIZE_4K)
#define WORDS		(NPAGES / 64)

struct log {
	struct kvm_vcpu *vcpu;
	char *mem;
	u64 want[WORDS];
	u64 got[WORDS];
};

static void set_flags(struct log *log, u32 flags)
{
	vm_set_user_memory_region(log->vcpu->vm, SLOT, flags, GPA, SIZE, log->mem);
}

/* Host memory as @advice has it, every page touched, then every page of the guest's. */
static void log_create(struct log *log, int advice, bool map)
{
	u64 i;

	memset(log, 0, sizeof(*log));
	log->vcpu = server_create();
	log->mem = mmap_at(2 * SIZE_2M + SIZE_2M, SIZE_2M, 0, MAP_ANON_PRIVATE, -1);
	TEST_ASSERT(log->mem != MAP_FAILED, "mmap");
	madvise(log->mem, 3 * SIZE_2M, advice);
	memset(log->mem, 0, SIZE);
	set_flags(log, 0);
	server_map(log->vcpu, GPA, SIZE);
	for (i = 0; map && i < NPAGES; i += 64)
		guest_store(log->vcpu, gva_of(i), 1);
}

/* A store by the guest, which the log is to show. */
static void dirty(struct log *log, u64 page)
{
	guest_store(log->vcpu, gva_of(page) + 8, page + 1);
	log->want[page / 64] |= 1ULL << page % 64;
	TEST_ASSERT(*(u64 *)(log->mem + page * SIZE_4K + 8) == page + 1,
		    "page %lu: the host does not see the store", (unsigned long)page);
}

static void assert_log(struct log *log, const char *when)
{
	int i;

	memset(log->got, 0xa5, sizeof(log->got));
	kvm_vm_get_dirty_log(log->vcpu->vm, SLOT, log->got);
	for (i = 0; i < WORDS; i++)
		TEST_ASSERT(log->got[i] == log->want[i],
			    "%s: pages %d..: the log has %016lx, the guest stored to %016lx", when,
			    i * 64, (unsigned long)log->got[i], (unsigned long)log->want[i]);
}

/* As assert_log(), where reading the log empties it. */
static void take_log(struct log *log, const char *when)
{
	assert_log(log, when);
	memset(log->want, 0, sizeof(log->want));
}

static const u64 edges[] = { 0, 1, 2, 62, 63, 64, 65, 127, 128, 510, 511, 512, 513, 1022, 1023,
			     1024, 1025, NPAGES - 1 };

static void check_exact(int advice, bool map)
{
	struct log log;
	int i, round;

	log_create(&log, advice, map);
	set_flags(&log, KVM_MEM_LOG_DIRTY_PAGES);
	take_log(&log, "at first");

	for (round = 0; round < 3; round++) {
		/* Loads are not logged, before a store to the page or after. */
		for (i = 0; i < ARRAY_SIZE(edges); i += 2)
			guest_load(log.vcpu, gva_of(edges[i]));
		assert_log(&log, "after loads");
		for (i = 0; i < ARRAY_SIZE(edges); i++)
			dirty(&log, edges[i]);
		for (i = 0; i < ARRAY_SIZE(edges); i++)
			guest_load(log.vcpu, gva_of(edges[i]) + 8);
		take_log(&log, "after stores");
		take_log(&log, "without a store");
		/* One store, and its neighbours stay clean. */
		dirty(&log, 77);
		dirty(&log, 300 + round);
		take_log(&log, "after one store");
	}

	/* A store by the host is none of the guest's. */
	log.mem[5 * SIZE_4K] = 9;
	take_log(&log, "after a store by the host");
	kvm_vm_free(log.vcpu->vm);
	munmap(log.mem, 3 * SIZE_2M);
}

TEST(exact_4k)
{
	check_exact(MADV_NOHUGEPAGE, true);
}

TEST(exact_thp)
{
	check_exact(MADV_HUGEPAGE, true);
}

TEST(exact_unmapped)
{
	check_exact(MADV_NOHUGEPAGE, false);
	check_exact(MADV_HUGEPAGE, false);
}

/* With KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 only KVM_CLEAR_DIRTY_LOG empties the log. */
static void check_manual(int advice, u64 how)
{
	struct log log;
	u64 bits[WORDS] = {};
	int i;

	log_create(&log, advice, true);
	vm_enable_cap(log.vcpu->vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, how);
	set_flags(&log, KVM_MEM_LOG_DIRTY_PAGES);

	if (how & KVM_DIRTY_LOG_INITIALLY_SET) {
		memset(log.want, 0xff, sizeof(log.want));
		assert_log(&log, "initially set");
		memset(bits, 0xff, sizeof(bits));
		/* In pieces, the first of which is one page of a huge one. */
		kvm_vm_clear_dirty_log(log.vcpu->vm, SLOT, (u64[]){ 1ULL << 3 }, 0, 64);
		log.want[0] &= ~(1ULL << 3);
		assert_log(&log, "one page cleared");
		dirty(&log, 3);
		assert_log(&log, "the page is stored to again");
		kvm_vm_clear_dirty_log(log.vcpu->vm, SLOT, bits, 0, 512);
		kvm_vm_clear_dirty_log(log.vcpu->vm, SLOT, bits, 512, NPAGES - 512);
		memset(log.want, 0, sizeof(log.want));
	}
	assert_log(&log, "at first");

	for (i = 0; i < ARRAY_SIZE(edges); i++)
		dirty(&log, edges[i]);
	assert_log(&log, "after stores");
	assert_log(&log, "read twice");
	for (i = 0; i < ARRAY_SIZE(edges); i++)
		dirty(&log, edges[i]);
	assert_log(&log, "stored to again");

	/* Clear one word: its pages are watched again, the others stay dirty. */
	kvm_vm_clear_dirty_log(log.vcpu->vm, SLOT, &log.got[1], 64, 64);
	log.want[1] = 0;
	assert_log(&log, "one word cleared");
	dirty(&log, 64);
	assert_log(&log, "stored to after the clear");

	/* The rest; then every store shows anew. */
	kvm_vm_clear_dirty_log(log.vcpu->vm, SLOT, log.got, 0, NPAGES);
	memset(log.want, 0, sizeof(log.want));
	assert_log(&log, "all cleared");
	for (i = 0; i < ARRAY_SIZE(edges); i++)
		dirty(&log, edges[i]);
	assert_log(&log, "after all was cleared");
	kvm_vm_free(log.vcpu->vm);
	munmap(log.mem, 3 * SIZE_2M);
}

TEST(manual_protect)
{
	check_manual(MADV_NOHUGEPAGE, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	check_manual(MADV_HUGEPAGE, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
}

TEST(initially_set)
{
	u64 both = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;

	if (!(kvm_check_cap(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) & KVM_DIRTY_LOG_INITIALLY_SET))
		SKIP(return, "KVM_DIRTY_LOG_INITIALLY_SET is missing");
	check_manual(MADV_NOHUGEPAGE, both);
	check_manual(MADV_HUGEPAGE, both);
}

TEST(exact_without_eager_split)
{
	u64 both = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;

	if (!set_eager_split("N"))
		SKIP(return, "the module has no eager_page_split");
	check_exact(MADV_HUGEPAGE, true);
	check_exact(MADV_HUGEPAGE, false);
	check_manual(MADV_HUGEPAGE, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	check_manual(MADV_HUGEPAGE, both);
	set_eager_split("Y");
}

/* A store that must not take for ever. */
static void assert_store_ends(struct kvm_vcpu *vcpu, u64 page)
{
	guest_ask(vcpu, GUEST_OP_STORE, gva_of(page), page);
	TEST_ASSERT(!vcpu_run_limited(vcpu, DEFECT_MS), "page %lu: the store never ends: %s",
		    (unsigned long)page, strerror(errno));
	TEST_ASSERT_EQ(guest_answer(vcpu, NULL), NO_TRAP);
}

static void check_on_and_off(int advice)
{
	struct log log;
	int round, i;

	log_create(&log, advice, true);
	for (round = 0; round < 2; round++) {
		set_flags(&log, KVM_MEM_LOG_DIRTY_PAGES);
		dirty(&log, 700);
		take_log(&log, "after one store");
		set_flags(&log, 0);
		for (i = 0; i < ARRAY_SIZE(edges); i++)
			assert_store_ends(log.vcpu, edges[i]);
		for (i = 0; i < ARRAY_SIZE(edges); i++)
			TEST_ASSERT_EQ(*(u64 *)(log.mem + edges[i] * SIZE_4K), edges[i]);
	}
	kvm_vm_free(log.vcpu->vm);
	munmap(log.mem, 3 * SIZE_2M);
}

TEST(on_and_off_4k)
{
	check_on_and_off(MADV_NOHUGEPAGE);
}

/*
 * After logging the host's page is huge and the guest's entries are small
 * (differences-from-c M3).
 */
TEST(on_and_off_thp)
{
	set_eager_split("Y");
	check_on_and_off(MADV_HUGEPAGE);
}

/* differences-from-c M3 */
TEST(on_and_off_thp_lazy_split)
{
	set_eager_split("N");
	check_on_and_off(MADV_HUGEPAGE);
	set_eager_split("Y");
}

/* Logging cannot be had on what is not there, nor the log without logging. */
TEST(errors)
{
	struct kvm_dirty_log args = { .slot = SLOT };
	struct log log;

	log_create(&log, MADV_NOHUGEPAGE, false);
	args.dirty_bitmap = log.got;
	TEST_ASSERT_ERRNO(__vm_ioctl(log.vcpu->vm, KVM_GET_DIRTY_LOG, &args), ENOENT);
	args.slot = SLOT + 1;
	TEST_ASSERT_ERRNO(__vm_ioctl(log.vcpu->vm, KVM_GET_DIRTY_LOG, &args), ENOENT);
	args.slot = 0xffff;
	TEST_ASSERT(__vm_ioctl(log.vcpu->vm, KVM_GET_DIRTY_LOG, &args) == -1, "slot 65535");
	set_flags(&log, KVM_MEM_LOG_DIRTY_PAGES);
	args.slot = SLOT;
	TEST_ASSERT_OK(__vm_ioctl(log.vcpu->vm, KVM_GET_DIRTY_LOG, &args));
	args.dirty_bitmap = (void *)8;
	TEST_ASSERT_ERRNO(__vm_ioctl(log.vcpu->vm, KVM_GET_DIRTY_LOG, &args), EFAULT);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2));
	return test_harness_run(argc, argv);
}
