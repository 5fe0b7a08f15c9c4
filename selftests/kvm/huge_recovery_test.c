// SPDX-License-Identifier: GPL-2.0
/* on-c: skip: huge-page recovery, statistics of pages by size */
/* covers: gstage/recover.rs mmu/memslots.rs kvm_core/stats.rs */
/*
 * When dirty logging ends, blocks that it split are whole again at once: no
 * guest has to touch them.  What the guest may do, and what it reads, is what it
 * was before.
 */
#include "kvm_rs_pgtable.h"

#define SLOT		1
#define GPA		SIZE_1G
#define BLOCKS		4UL
#define SIZE		(BLOCKS * SIZE_2M)
#define NPAGES		(SIZE / SIZE_4K)

static struct dump before, during, after;

struct rig {
	struct kvm_vcpu *vcpu;
	char *mem;
};

static void set_flags(struct rig *rig, u32 flags)
{
	vm_set_user_memory_region(rig->vcpu->vm, SLOT, flags, GPA, SIZE, rig->mem);
}

static void look(struct rig *rig, struct dump *dump)
{
	dump_read(rig->vcpu->vm, dump);
	assert_stats_are(rig->vcpu->vm, dump);
}

/* A slot on @mem, each page of which holds its pattern; @ring is a dirty ring's size or 0. */
static void rig_create(struct rig *rig, char *mem, u32 ring)
{
	struct kvm_vm *vm;
	u64 i;

	if (ring) {
		struct vm_shape shape = VM_SHAPE_DEFAULT;

		vm = __vm_create(shape, 1, 0);
		vm_enable_dirty_ring(vm, ring);
		rig->vcpu = vm_vcpu_add(vm, 0, guest_server);
		kvm_arch_vm_finalize_vcpus(vm);
		vm_catch_guest_traps(vm);
	} else {
		rig->vcpu = server_create();
	}
	rig->mem = mem;
	for (i = 0; i < NPAGES; i++)
		*page_word(mem, i) = pattern(i);
	set_flags(rig, 0);
	server_map(rig->vcpu, GPA, SIZE);
}

static void rig_free(struct rig *rig)
{
	kvm_vm_free(rig->vcpu->vm);
	munmap(rig->mem, SIZE);
}

/* The guest stores to one page of each block, which it thereby maps. */
static void touch_blocks(struct rig *rig, u64 page)
{
	u64 i;

	for (i = 0; i < BLOCKS; i++)
		guest_store(rig->vcpu, gva_of(i * 512 + page) + 8, i);
}

static void assert_contents(struct rig *rig)
{
	u64 i;

	for (i = 0; i < NPAGES; i += i % 512 < 3 || i % 512 > 508 ? 1 : 29) {
		TEST_ASSERT(*page_word(rig->mem, i) == pattern(i), "page %lu: the host's contents",
			    (unsigned long)i);
		TEST_ASSERT(guest_load(rig->vcpu, gva_of(i)) == pattern(i),
			    "page %lu: the guest's contents", (unsigned long)i);
	}
}

/* All of the slot is mapped by leaves of 2M. */
static bool is_whole(const struct dump *dump)
{
	return dump_bytes(dump, GPA, SIZE, SIZE_2M) == SIZE;
}

static void require_thp(void)
{
	char *mem = map_advised(SIZE_2M, MADV_HUGEPAGE);
	struct rig rig;

	munmap(mem, SIZE_2M);
	mem = map_advised(SIZE, MADV_HUGEPAGE);
	rig_create(&rig, mem, 0);
	touch_blocks(&rig, 0);
	look(&rig, &before);
	rig_free(&rig);
	TEST_ASSERT(is_whole(&before), "no huge pages to begin with");
}

static void check_recovery(const char *eager, u32 ring)
{
	u64 bitmap[NPAGES / 64], faults;
	struct rig rig;
	int round;

	TEST_ASSERT(set_eager_split(eager), "eager_page_split");
	rig_create(&rig, map_advised(SIZE, MADV_HUGEPAGE), ring);
	touch_blocks(&rig, 0);
	look(&rig, &before);
	TEST_ASSERT(is_whole(&before), "not whole before");
	TEST_ASSERT_EQ(dump_writable(&before, GPA, SIZE), SIZE);

	for (round = 0; round < 3; round++) {
		set_flags(&rig, KVM_MEM_LOG_DIRTY_PAGES);
		/* In the third round the guest stores to nothing. */
		if (round < 2) {
			touch_blocks(&rig, 7 + round);
			guest_store(rig.vcpu, gva_of(511) + 8, 3);
			guest_store(rig.vcpu, gva_of(NPAGES - 1) + 8, 3);
		}
		if (!ring)
			kvm_vm_get_dirty_log(rig.vcpu->vm, SLOT, bitmap);
		look(&rig, &during);
		if (round < 2 || *eager == 'Y')
			TEST_ASSERT(!dump_bytes(&during, GPA, SIZE, SIZE_2M),
				    "round %d: blocks while their stores are logged", round);

		set_flags(&rig, 0);
		look(&rig, &after);
		if (!is_whole(&after))
			dump_print(&after);
		TEST_ASSERT(is_whole(&after), "round %d: not whole after", round);
		TEST_ASSERT_EQ(dump_writable(&after, GPA, SIZE), SIZE);
		TEST_ASSERT_EQ(vm_get_stat(rig.vcpu->vm, pages_2m),
			       dump_bytes(&before, 0, ~0UL >> 1, SIZE_2M) / SIZE_2M);

		/* Nobody has to ask the host again. */
		faults = vcpu_faults(rig.vcpu);
		touch_blocks(&rig, 100);
		assert_contents(&rig);
		TEST_ASSERT_EQ(vcpu_faults(rig.vcpu), faults);
	}
	rig_free(&rig);
	set_eager_split("Y");
}

TEST(eager)
{
	check_recovery("Y", 0);
}

TEST(not_eager)
{
	check_recovery("N", 0);
}

TEST(dirty_ring)
{
	if (!kvm_check_cap(KVM_CAP_DIRTY_LOG_RING_ACQ_REL))
		SKIP(return, "no dirty ring");
	check_recovery("Y", 4096);
	check_recovery("N", 4096);
}

/* Blocks of 1G split into two levels of tables and come back whole. */
TEST(block_1g)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 tables;
	char *mem;

	mem = hugetlb_map(SIZE_1G, SIZE_1G);
	if (!mem)
		SKIP(return, "no huge page of 1G");
	vcpu = server_create();
	vm = vcpu->vm;
	vm_set_user_memory_region(vm, SLOT, 0, SIZE_1G, SIZE_1G, mem);
	server_map(vcpu, SIZE_1G, SIZE_2M);
	guest_store(vcpu, gva_of(3), 33);
	dump_read(vm, &before);
	assert_stats_are(vm, &before);
	TEST_ASSERT_EQ(dump_bytes(&before, SIZE_1G, SIZE_1G, SIZE_1G), SIZE_1G);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_1g), 1);
	tables = vm_get_stat(vm, gstage_tables);

	vm_set_user_memory_region(vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES, SIZE_1G, SIZE_1G, mem);
	dump_read(vm, &during);
	assert_stats_are(vm, &during);
	TEST_ASSERT_EQ(dump_bytes(&during, SIZE_1G, SIZE_1G, SIZE_4K), SIZE_1G);
	TEST_ASSERT_EQ(dump_writable(&during, SIZE_1G, SIZE_1G), 0);
	TEST_ASSERT_EQ(vm_get_stat(vm, gstage_tables), tables + 1 + 512);
	guest_store(vcpu, gva_of(4), 44);

	vm_set_user_memory_region(vm, SLOT, 0, SIZE_1G, SIZE_1G, mem);
	dump_read(vm, &after);
	assert_stats_are(vm, &after);
	TEST_ASSERT_EQ(dump_bytes(&after, SIZE_1G, SIZE_1G, SIZE_1G), SIZE_1G);
	TEST_ASSERT_EQ(dump_writable(&after, SIZE_1G, SIZE_1G), SIZE_1G);
	TEST_ASSERT_EQ(vm_get_stat(vm, gstage_tables), tables);
	TEST_ASSERT_EQ(guest_load(vcpu, gva_of(3)), 33);
	TEST_ASSERT_EQ(*page_word(mem, 4), 44);
	kvm_vm_free(vm);
	munmap(mem, SIZE_1G);
}

/* F23: a run that is not all the slot's, at its begin, is no obstacle to the others. */
TEST(runs_of_a_slot_with_offset)
{
	u64 gpa = GPA + SIZE_4K, size = SIZE_2M - SIZE_4K, npages = size / SIZE_4K, i;
	struct kvm_vcpu *vcpu;
	u64 *log;
	char *mem;

	mem = host_has_isa("svnapot") ? hugetlb_map(SIZE_64K, SIZE_2M) : NULL;
	if (!mem)
		SKIP(return, "no huge pages of 64K, or no Svnapot");
	log = calloc(npages / 64 + 1, 8);
	vcpu = server_create();
	vm_set_user_memory_region(vcpu->vm, SLOT, 0, gpa, size, mem + SIZE_4K);
	server_map(vcpu, gpa, size);
	for (i = 0; i < npages; i++)
		guest_store(vcpu, gva_of(i), pattern(i));
	dump_read(vcpu->vm, &before);
	TEST_ASSERT_EQ(dump_bytes(&before, gpa, size, SIZE_64K), 31 * SIZE_64K);

	vm_set_user_memory_region(vcpu->vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES, gpa, size, mem + SIZE_4K);
	for (i = 0; i < npages; i += 20)
		guest_store(vcpu, gva_of(i) + 8, i);
	kvm_vm_get_dirty_log(vcpu->vm, SLOT, log);
	dump_read(vcpu->vm, &during);
	TEST_ASSERT_EQ(dump_bytes(&during, gpa, size, SIZE_64K), 0);

	vm_set_user_memory_region(vcpu->vm, SLOT, 0, gpa, size, mem + SIZE_4K);
	dump_read(vcpu->vm, &after);
	assert_stats_are(vcpu->vm, &after);
	TEST_ASSERT_EQ(dump_bytes(&after, gpa, size, SIZE_64K), 31 * SIZE_64K);
	TEST_ASSERT_EQ(dump_writable(&after, gpa, size), size);
	for (i = 0; i < npages; i++)
		TEST_ASSERT_EQ(guest_load(vcpu, gva_of(i)), pattern(i));
	kvm_vm_free(vcpu->vm);
	munmap(mem, SIZE_2M);
	free(log);
}

/* F25: in whatever order a table loses its pages, it gives way to a block. */
TEST(emptied_tables)
{
	struct rig rig;
	u64 at, faults;

	rig_create(&rig, map_advised(SIZE, MADV_NOHUGEPAGE), 0);
	touch_blocks(&rig, 0);
	touch_blocks(&rig, 511);
	for (at = 0; at < SIZE; at += SIZE_2M) {
		munmap(rig.mem + at + SIZE_2M / 2, SIZE_2M / 2);
		munmap(rig.mem + at, SIZE_2M / 2);
	}
	TEST_ASSERT(mmap(rig.mem, SIZE, PROT_READ | PROT_WRITE, MAP_ANON_PRIVATE | MAP_FIXED, -1,
			 0) == rig.mem, "mmap: %s", strerror(errno));
	TEST_ASSERT_OK(madvise(rig.mem, SIZE, MADV_HUGEPAGE));
	memset(rig.mem, 0, SIZE);
	faults = vcpu_faults(rig.vcpu);
	touch_blocks(&rig, 0);
	TEST_ASSERT_EQ(vcpu_faults(rig.vcpu), faults + BLOCKS);
	look(&rig, &after);
	TEST_ASSERT(is_whole(&after), "tables of before are in the way");
	touch_blocks(&rig, 300);
	TEST_ASSERT_EQ(vcpu_faults(rig.vcpu), faults + BLOCKS);
	rig_free(&rig);
}

/* Small pages of the host's stay small, and are writable again without a fault. */
TEST(small_pages_are_writable_again)
{
	struct rig rig;
	u64 i, faults;

	rig_create(&rig, map_advised(SIZE, MADV_NOHUGEPAGE), 0);
	for (i = 0; i < NPAGES; i += 3)
		guest_store(rig.vcpu, gva_of(i) + 8, i);
	look(&rig, &before);
	set_flags(&rig, KVM_MEM_LOG_DIRTY_PAGES);
	look(&rig, &during);
	TEST_ASSERT_EQ(dump_writable(&during, GPA, SIZE), 0);
	guest_store(rig.vcpu, gva_of(0) + 8, 5);

	set_flags(&rig, 0);
	look(&rig, &after);
	TEST_ASSERT_EQ(dump_bytes(&after, GPA, SIZE, SIZE_2M), 0);
	TEST_ASSERT_EQ(dump_writable(&after, GPA, SIZE), dump_writable(&before, GPA, SIZE));
	faults = vcpu_faults(rig.vcpu);
	for (i = 0; i < NPAGES; i += 3)
		guest_store(rig.vcpu, gva_of(i) + 8, ~i);
	TEST_ASSERT_EQ(vcpu_faults(rig.vcpu), faults);
	assert_contents(&rig);
	rig_free(&rig);
}

/*
 * A block of which the host dropped a page meanwhile is not put together, nor
 * is one that was remapped: its frames are no longer one block's.
 */
TEST(holes_stay)
{
	struct rig rig;

	rig_create(&rig, map_advised(SIZE, MADV_HUGEPAGE), 0);
	touch_blocks(&rig, 0);
	set_flags(&rig, KVM_MEM_LOG_DIRTY_PAGES);
	touch_blocks(&rig, 1);
	/* Splits the host's own huge page. */
	madvise(page_word(rig.mem, 512 + 9), SIZE_4K, MADV_DONTNEED);
	set_flags(&rig, 0);
	look(&rig, &after);
	TEST_ASSERT_EQ(dump_bytes(&after, GPA + SIZE_2M, SIZE_2M, SIZE_2M), 0);
	TEST_ASSERT_EQ(dump_bytes(&after, GPA, SIZE, SIZE_2M), SIZE - SIZE_2M);
	TEST_ASSERT_EQ(guest_load(rig.vcpu, gva_of(512 + 9)), 0);
	TEST_ASSERT_EQ(guest_load(rig.vcpu, gva_of(512 + 10)), pattern(512 + 10));
	guest_store(rig.vcpu, gva_of(512 + 9), 1);
	TEST_ASSERT_EQ(*page_word(rig.mem, 512 + 9), 1);
	rig_free(&rig);
}

/* What the host maps read-only is whole again, and still read-only. */
static void check_cow(struct rig *rig, volatile u64 *original, u64 page, bool whole)
{
	u64 i;

	for (i = 0; i < BLOCKS; i++)
		TEST_ASSERT_EQ(guest_load(rig->vcpu, gva_of(i * 512 + page)),
			       pattern(i * 512 + page));
	look(rig, &before);
	TEST_ASSERT_EQ(dump_writable(&before, GPA, SIZE), 0);
	TEST_ASSERT(is_whole(&before) || !whole, "no huge pages to begin with");
	set_flags(rig, KVM_MEM_LOG_DIRTY_PAGES);
	for (i = 0; i < BLOCKS; i++)
		guest_load(rig->vcpu, gva_of(i * 512 + page + 1));
	look(rig, &during);
	TEST_ASSERT_EQ(dump_writable(&during, GPA, SIZE), 0);

	set_flags(rig, 0);
	look(rig, &after);
	TEST_ASSERT_EQ(dump_writable(&after, GPA, SIZE), 0);
	TEST_ASSERT_EQ(dump_bytes(&after, GPA, SIZE, SIZE_2M),
		       dump_bytes(&before, GPA, SIZE, SIZE_2M));

	/* A store goes to a copy. */
	guest_store(rig->vcpu, gva_of(page), 0x1234);
	TEST_ASSERT_EQ(guest_load(rig->vcpu, gva_of(page)), 0x1234);
	TEST_ASSERT_EQ(*page_word(rig->mem, page), 0x1234);
	TEST_ASSERT_EQ(*original, pattern(page));
}

TEST(private_file)
{
	bool huge = hugetlb_reserve(SIZE_2M, 2 * BLOCKS);
	int fd = memfd_create("huge_recovery", huge ? MFD_HUGE_OF(SIZE_2M) : 0);
	char *shared, *private;
	struct rig rig;
	u64 i;

	TEST_ASSERT(fd >= 0 && !ftruncate(fd, SIZE), "memfd: %s", strerror(errno));
	shared = mmap_at(SIZE, SIZE_2M, 0, MAP_SHARED, fd);
	private = mmap_at(SIZE, SIZE_2M, 0, MAP_PRIVATE, fd);
	TEST_ASSERT(shared != MAP_FAILED && private != MAP_FAILED, "mmap: %s", strerror(errno));
	for (i = 0; i < NPAGES; i++)
		*page_word(shared, i) = pattern(i);
	rig.vcpu = server_create();
	rig.mem = private;
	set_flags(&rig, 0);
	server_map(rig.vcpu, GPA, SIZE);
	check_cow(&rig, page_word(shared, 3), 3, huge);
	munmap(shared, SIZE);
	rig_free(&rig);
	close(fd);
}

/* Anonymous huge pages that a child shares. */
TEST(forked)
{
	int to_child[2], from_child[2];
	struct rig rig;
	u64 word = 0;
	pid_t pid;

	rig_create(&rig, map_advised(SIZE, MADV_HUGEPAGE), 0);
	touch_blocks(&rig, 0);
	TEST_ASSERT(!pipe(to_child) && !pipe(from_child), "pipe");
	pid = fork();
	if (!pid) {
		while (read(to_child[0], &word, 8) == 8 &&
		       write(from_child[1], page_word(rig.mem, word), 8) == 8)
			;
		_exit(0);
	}
	check_cow(&rig, &(u64){ pattern(3) }, 3, true);
	word = 3;
	TEST_ASSERT(write(to_child[1], &word, 8) == 8 && read(from_child[0], &word, 8) == 8,
		    "the child is gone");
	TEST_ASSERT_EQ(word, pattern(3));
	kill(pid, SIGKILL);
	rig_free(&rig);
}

/* vCPUs that store all the time while logging goes on and off: each page counts. */
static u64 rounds_of[NR_VCPUS];
static bool stop_writers;

static void guest_writer(u64 me)
{
	u64 i, round;

	for (round = 1; !READ_ONCE(stop_writers); round++) {
		for (i = me; i < NPAGES; i += NR_VCPUS * 5) {
			u64 *word = (u64 *)(TEST_GVA + i * SIZE_4K) + 1;

			GUEST_ASSERT_EQ(READ_ONCE(*word), round - 1);
			WRITE_ONCE(*word, round);
		}
		WRITE_ONCE(rounds_of[me], round);
	}
	GUEST_DONE();
}

static void check_writers(const char *eager)
{
	char *mem = map_advised(SIZE, MADV_HUGEPAGE);
	u64 bitmap[NPAGES / 64], i;
	struct crew crew;
	time_t start = time(NULL);
	int toggle;

	TEST_ASSERT(set_eager_split(eager), "eager_page_split");
	memset(mem, 0, SIZE);
	crew_create(&crew, guest_writer);
	crew_add_slot(&crew, SLOT, 0, GPA, SIZE, mem);
	crew_start(&crew, crew_run_to_done);
	for (toggle = 0; !enough(toggle, 12, start, 4); toggle++) {
		vm_set_user_memory_region(crew.vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES, GPA, SIZE, mem);
		usleep(toggle * 700);
		kvm_vm_get_dirty_log(crew.vm, SLOT, bitmap);
		vm_set_user_memory_region(crew.vm, SLOT, 0, GPA, SIZE, mem);
		usleep(1000);
	}
	write_guest_global(crew.vm, stop_writers, true);
	crew_join(&crew);

	sync_global_from_guest(crew.vm, rounds_of);
	for (i = 0; i < NPAGES; i++) {
		u64 me = i % NR_VCPUS;
		u64 want = (i - me) % (NR_VCPUS * 5) ? 0 : rounds_of[me];

		TEST_ASSERT(page_word(mem, i)[1] == want, "page %lu has %lu, not %lu",
			    (unsigned long)i, (unsigned long)page_word(mem, i)[1],
			    (unsigned long)want);
	}
	dump_read(crew.vm, &after);
	assert_stats_are(crew.vm, &after);
	TEST_ASSERT(is_whole(&after), "not whole after");
	kvm_vm_free(crew.vm);
	munmap(mem, SIZE);
	set_eager_split("Y");
}

TEST(concurrent_stores)
{
	check_writers("Y");
	check_writers("N");
}

/* The host drops and brings back pages while blocks are put together. */
static char *victim;
static bool stop_dropping;

static void *drop_thread(void *arg)
{
	u64 x = 1;

	while (!READ_ONCE(stop_dropping)) {
		char *block = victim + xorshift(&x) % BLOCKS * SIZE_2M;

		madvise(block + xorshift(&x) % 512 * SIZE_4K, SIZE_4K, MADV_DONTNEED);
		if (xorshift(&x) % 4 == 0) {
			madvise(block, SIZE_2M, MADV_DONTNEED);
			memset(block, 0, 1);
		}
		/* Changes of memslots wait until nothing is being dropped. */
		usleep(500);
	}
	return NULL;
}

static void guest_hammer(u64 me)
{
	u64 i, x = me + 1;

	while (!READ_ONCE(stop_writers)) {
		for (i = 0; i < 64; i++)
			WRITE_ONCE(*(u64 *)(TEST_GVA + xorshift(&x) % NPAGES * SIZE_4K), x);
	}
	GUEST_DONE();
}

TEST(against_invalidation)
{
	int kmsg = kmsg_open(), toggle;
	time_t start = time(NULL);
	char *mem = map_advised(SIZE, MADV_HUGEPAGE);
	struct crew crew;
	pthread_t thread;

	memset(mem, 0, SIZE);
	crew_create(&crew, guest_hammer);
	crew_add_slot(&crew, SLOT, 0, GPA, SIZE, mem);
	victim = mem;
	crew_start(&crew, crew_run_to_done);
	pthread_create(&thread, NULL, drop_thread, NULL);
	for (toggle = 0; !enough(toggle, 20, start, 8); toggle++) {
		vm_set_user_memory_region(crew.vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES, GPA, SIZE, mem);
		usleep(500 + toggle * 150);
		vm_set_user_memory_region(crew.vm, SLOT, 0, GPA, SIZE, mem);
	}
	WRITE_ONCE(stop_dropping, true);
	pthread_join(thread, NULL);
	write_guest_global(crew.vm, stop_writers, true);
	crew_join(&crew);
	dump_read(crew.vm, &after);
	assert_stats_are(crew.vm, &after);
	kvm_vm_free(crew.vm);
	munmap(mem, SIZE);
	kmsg_assert_quiet(kmsg);
}

int main(int argc, char *argv[])
{
	require_pgtable_debug();
	require_thp();
	return test_harness_run(argc, argv);
}
