// SPDX-License-Identifier: GPL-2.0
/* on-c: skip: statistic of instruction caches */
/* covers: mmu/icache.rs mmu/fault.rs kernel_ext/folio.rs */
/*
 * F27: the host's kernel may move the guest's instructions to other frames, about
 * which the instruction caches of the CPUs may remember something else.  QEMU has
 * no such caches, so the statistic tells whether CPUs were made to forget it: they
 * must where the host may have moved the contents, once for each page, and need
 * not where the memory is new to the guest.
 */
#include "kvm_rs_pgtable.h"

#define SLOT	1
#define GPA	SIZE_1G
#define NPAGES	(SIZE_2M / SIZE_4K)
#define WINDOW	16UL		/* pages that a fault maps */

/* jalr zero, 0(ra) */
#define RET	0x8067UL

static struct kvm_vcpu *vcpu;
static char *mem;

static void create(void)
{
	vcpu = server_create();
	mem = map_advised(SIZE_2M, MADV_NOHUGEPAGE);
	vm_set_user_memory_region(vcpu->vm, SLOT, 0, GPA, SIZE_2M, mem);
	server_map(vcpu, GPA, SIZE_2M);
	/* What the guest has of its own is mapped before the statistic is looked at. */
	vm_set_user_memory_region(vcpu->vm, SLOT + 1, 0, 2 * GPA, SIZE_4K,
				  map_advised(SIZE_4K, MADV_NOHUGEPAGE));
	virt_pg_map(vcpu->vm, gva_of(NPAGES), 2 * GPA);
	guest_store(vcpu, gva_of(NPAGES), RET);
	guest_ask(vcpu, GUEST_OP_EXEC, gva_of(NPAGES), 1);
	guest_answer(vcpu, NULL);
	guest_load(vcpu, gva_of(NPAGES));
}

static void write_code(void)
{
	u64 i;

	for (i = 0; i < NPAGES; i++)
		page_word(mem, i)[0] = i << 32 | RET;
}

static void fetch(u64 i)
{
	u64 val;

	guest_ask(vcpu, GUEST_OP_EXEC, gva_of(i), i + 77);
	TEST_ASSERT_EQ(guest_answer(vcpu, &val), NO_TRAP);
	TEST_ASSERT_EQ(val, i + 77);
}

static u64 fences(void)
{
	return vcpu_get_stat(vcpu, pf_fence_i);
}

static void destroy(void)
{
	kvm_vm_free(vcpu->vm);
	munmap(mem, SIZE_2M);
}

/* The host takes all pages from the guest, and moves none. */
static void unmap(void)
{
	TEST_ASSERT_OK(mprotect(mem, SIZE_2M, PROT_READ));
	TEST_ASSERT_OK(mprotect(mem, SIZE_2M, PROT_READ | PROT_WRITE));
}

TEST(new_memory)
{
	u64 before, i;

	create();
	before = fences();
	/* In part absent, in part present. */
	for (i = NPAGES / 2; i < NPAGES; i++)
		page_word(mem, i)[0] = i;
	for (i = 0; i < NPAGES; i += 3)
		guest_store(vcpu, gva_of(i) + 8, i);
	for (i = 1; i < NPAGES; i += 3)
		guest_load(vcpu, gva_of(i));
	/* What comes back as zeros is new, too. */
	TEST_ASSERT_OK(madvise(mem, SIZE_2M, MADV_DONTNEED));
	for (i = 0; i < NPAGES; i += 3)
		guest_store(vcpu, gva_of(i) + 8, i);
	TEST_ASSERT_EQ(fences(), before);
	destroy();
}

/* Code that userspace has put there. */
TEST(fetched)
{
	u64 before;

	create();
	write_code();
	before = fences();
	fetch(3);
	TEST_ASSERT_EQ(fences(), before + 1);
	/* Its neighbours, with it. */
	fetch(4);
	TEST_ASSERT_EQ(fences(), before + 1);
	fetch(3 + WINDOW);
	TEST_ASSERT_EQ(fences(), before + 2);
	/* They have seen it. */
	unmap();
	fetch(3);
	fetch(4);
	fetch(3 + WINDOW);
	TEST_ASSERT_EQ(fences(), before + 2);
	destroy();
}

static void check_moved(void)
{
	u64 before = fences(), i;

	/* A load maps the page for fetches, too. */
	for (i = 0; i < NPAGES; i += WINDOW)
		guest_load(vcpu, gva_of(i));
	TEST_ASSERT(fences() > before, "CPUs may remember other instructions");
	before = fences();
	unmap();
	for (i = 0; i < NPAGES; i++)
		fetch(i);
	TEST_ASSERT_EQ(fences(), before);
}

TEST(collapsed)
{
	u64 i, pfn;

	create();
	write_code();
	for (i = 0; i < NPAGES; i++)
		fetch(i);
	pfn = pfn_of(mem);
	if (madvise(mem, SIZE_2M, MADV_HUGEPAGE) || madvise(mem, SIZE_2M, MADV_COLLAPSE))
		SKIP(return, "no MADV_COLLAPSE: %s", strerror(errno));
	TEST_ASSERT(pfn_of(mem) != pfn, "the same frame");
	check_moved();
	destroy();
}

TEST(swapped)
{
	u64 i, out = 0;

	if (!swap_start())
		SKIP(return, "no swap on " SWAP_DEVICE);
	create();
	write_code();
	for (i = 0; i < NPAGES; i++)
		fetch(i);
	TEST_ASSERT_OK(madvise(mem, SIZE_2M, MADV_PAGEOUT));
	for (i = 0; i < NPAGES; i++)
		out += !!(pagemap_entry(page_word(mem, i)) & PAGEMAP_SWAPPED);
	TEST_ASSERT(out, "nothing was swapped");
	for (i = 0; i < NPAGES; i++)
		READ_ONCE(page_word(mem, i)[0]);
	check_moved();
	destroy();
	swap_stop();
}

/* A copy of what a child shares. */
TEST(copied)
{
	pid_t child;
	u64 i;

	create();
	write_code();
	for (i = 0; i < NPAGES; i++)
		fetch(i);
	child = fork();
	if (!child) {
		pause();
		_exit(0);
	}
	for (i = 0; i < NPAGES; i++)
		page_word(mem, i)[1] = i;
	check_moved();
	kill(child, SIGKILL);
	destroy();
}

int main(int argc, char *argv[])
{
	struct kvm_vm *vm = vm_create_with_one_vcpu(&vcpu, guest_server);
	struct kvm_stats_header header;
	struct kvm_stats_desc *descs;
	bool found = false;
	int i;

	read_stats_header(vcpu->stats.fd, &header);
	descs = read_stats_descriptors(vcpu->stats.fd, &header);
	for (i = 0; i < header.num_desc; i++)
		found |= !strcmp(get_stats_descriptor(descs, i, &header)->name, "pf_fence_i");
	free(descs);
	kvm_vm_free(vm);
	__TEST_REQUIRE(found, "the module does not count pf_fence_i");
	return test_harness_run(argc, argv);
}
