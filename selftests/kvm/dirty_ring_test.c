// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: M3, N25, F4 */
/* covers: mmu/memslots.rs mmu/fault.rs run.rs kvm_core/guestmem.rs */
/*
 * The dirty ring: an entry for each page that the guest stores to, in the ring
 * of the vCPU that did, once until userspace took it and reset it; and a vCPU
 * whose ring is almost full waits for that.
 */
#include "kvm_rs_mem.h"

#define SLOT_A		1
#define SLOT_B		7
#define GPA_A		SIZE_1G
#define NPAGES		1024UL
#define SIZE		(NPAGES * SIZE_4K)
#define GPA_B		(GPA_A + SIZE)
#define ENTRIES		256U
/* What KVM keeps for entries that come while the vCPU is on its way out. */
#define RESERVED	64U

struct ring {
	struct kvm_vcpu *vcpu;
	struct kvm_dirty_gfn *gfns;
	u32 next, reset;
};

/* How often each page was found in a ring since it was last forgotten. */
static u32 found[2][NPAGES];

static char *mem;

static struct kvm_vm *create_vm(int nr_vcpus, u32 entries)
{
	struct kvm_vm *vm = __vm_create(VM_SHAPE_DEFAULT, nr_vcpus, 0);

	vm_enable_dirty_ring(vm, entries * sizeof(struct kvm_dirty_gfn));
	return vm;
}

static void add_slots(struct kvm_vm *vm, int advice)
{
	u64 off;

	mem = map_advised(2 * SIZE, advice);
	memset(mem, 0, 2 * SIZE);
	vm_set_user_memory_region(vm, SLOT_A, 0, GPA_A, SIZE, mem);
	vm_set_user_memory_region(vm, SLOT_B, 0, GPA_B, SIZE, mem + SIZE);
	for (off = 0; off < 2 * SIZE; off += SIZE_4K)
		virt_pg_map(vm, TEST_GVA + off, GPA_A + off);
	memset(found, 0, sizeof(found));
}

static void log_slots(struct kvm_vm *vm, u32 flags)
{
	vm_set_user_memory_region(vm, SLOT_A, flags, GPA_A, SIZE, mem);
	vm_set_user_memory_region(vm, SLOT_B, flags, GPA_B, SIZE, mem + SIZE);
}

static void create(struct ring *ring, int advice)
{
	struct kvm_vm *vm = create_vm(1, ENTRIES);

	memset(ring, 0, sizeof(*ring));
	ring->vcpu = vm_vcpu_add(vm, 0, guest_server);
	vm_catch_guest_traps(vm);
	ring->gfns = vcpu_map_dirty_ring(ring->vcpu);
	add_slots(vm, advice);
}

static void destroy(struct ring *ring)
{
	kvm_vm_free(ring->vcpu->vm);
	munmap(mem, 2 * SIZE);
}

/* Takes up to @max entries, in order; returns how many there were. */
static u32 harvest(struct ring *ring, u32 max)
{
	u32 n, slot, size = ring->vcpu->vm->dirty_ring_size / sizeof(*ring->gfns);
	struct kvm_dirty_gfn *gfn;

	for (n = 0; n < max; n++, ring->next++) {
		gfn = &ring->gfns[ring->next % size];
		if (!(__atomic_load_n(&gfn->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY))
			break;
		slot = READ_ONCE(gfn->slot);
		TEST_ASSERT(slot == SLOT_A || slot == SLOT_B, "slot %u", slot);
		TEST_ASSERT(gfn->offset < NPAGES, "offset %llu", gfn->offset);
		found[slot == SLOT_B][gfn->offset]++;
		__atomic_store_n(&gfn->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
	}
	return n;
}

/* As harvest(); @n entries and no more are to be there. */
static void harvest_all(struct ring *ring, u32 n, const char *when)
{
	u32 got = harvest(ring, -1U);

	TEST_ASSERT(got == n, "%s: %u entries, not %u", when, got, n);
}

static void reset(struct ring *ring, u32 n)
{
	u32 got = kvm_vm_reset_dirty_ring(ring->vcpu->vm);

	TEST_ASSERT(got == n, "%u entries were reset, not %u", got, n);
}

/* Page @page was found @n times. */
static void assert_found(u64 page, u32 n, const char *when)
{
	u32 *p = &found[page / NPAGES][page % NPAGES];

	TEST_ASSERT(*p == n, "%s: page %lu is there %u times, not %u", when, (unsigned long)page,
		    *p, n);
	*p = 0;
}

static void assert_found_no_more(const char *when)
{
	u64 i;

	for (i = 0; i < 2 * NPAGES; i++)
		assert_found(i, 0, when);
}

static const u64 pages[] = { 0, 1, 2, 63, 64, 300, 511, 512, 513, NPAGES - 1, NPAGES, NPAGES + 1,
			     NPAGES + 512, 2 * NPAGES - 1 };

static void check_exact(int advice, const char *eager)
{
	struct ring ring;
	u64 i, round;

	set_eager_split(eager);
	create(&ring, advice);
	/* Stores of before are in no ring. */
	for (i = 0; i < 2 * NPAGES; i += 100)
		guest_store(ring.vcpu, gva_of(i), 1);
	harvest_all(&ring, 0, "not logged");
	log_slots(ring.vcpu->vm, KVM_MEM_LOG_DIRTY_PAGES);
	harvest_all(&ring, 0, "logged, no store");

	for (round = 0; round < 3; round++) {
		for (i = 0; i < ARRAY_SIZE(pages); i += 2)
			guest_load(ring.vcpu, gva_of(pages[i]));
		harvest_all(&ring, 0, "loads");
		for (i = 0; i < ARRAY_SIZE(pages); i++)
			guest_store(ring.vcpu, gva_of(pages[i]), i + round);
		/* A second time, which is not noticed. */
		for (i = 0; i < ARRAY_SIZE(pages); i++)
			guest_store(ring.vcpu, gva_of(pages[i]) + 8, i);
		harvest_all(&ring, ARRAY_SIZE(pages), "stores");
		for (i = 0; i < ARRAY_SIZE(pages); i++)
			assert_found(pages[i], 1, "stores");
		assert_found_no_more("stores");

		/* Taken, but not reset: still not noticed. */
		guest_store(ring.vcpu, gva_of(pages[3]), 3);
		harvest_all(&ring, 0, "not reset");
		reset(&ring, ARRAY_SIZE(pages));
		reset(&ring, 0);
	}

	/* A part is taken and reset: that part is watched again. */
	for (i = 0; i < 10; i++)
		guest_store(ring.vcpu, gva_of(20 + i), i);
	TEST_ASSERT_EQ(harvest(&ring, 4), 4);
	reset(&ring, 4);
	for (i = 0; i < 10; i++)
		guest_store(ring.vcpu, gva_of(20 + i), i);
	harvest_all(&ring, 10, "partly reset");
	for (i = 0; i < 10; i++)
		assert_found(20 + i, i < 4 ? 2 : 1, "partly reset");
	assert_found_no_more("partly reset");
	reset(&ring, 10);

	/* Nothing is logged any more, and no store takes for ever. */
	log_slots(ring.vcpu->vm, 0);
	for (i = 5; i < 15; i++) {
		guest_ask(ring.vcpu, GUEST_OP_STORE, gva_of(i * 10), i);
		TEST_ASSERT(!vcpu_run_limited(ring.vcpu, DEFECT_MS), "the store never ends: %s",
			    strerror(errno));
		TEST_ASSERT_EQ(guest_answer(ring.vcpu, NULL), NO_TRAP);
	}
	harvest_all(&ring, 0, "no longer logged");
	destroy(&ring);
	set_eager_split("Y");
}

TEST(exact_4k)
{
	check_exact(MADV_NOHUGEPAGE, "Y");
}

/* differences-from-c M3 */
TEST(exact_thp_eager_split)
{
	check_exact(MADV_HUGEPAGE, "Y");
}

/* differences-from-c M3 */
TEST(exact_thp_lazy_split)
{
	check_exact(MADV_HUGEPAGE, "N");
}

/*
 * A ring cannot start out with all pages in it, and there is nothing to be
 * cleared: whatever was wanted of bitmaps, stores to pages that the guest had
 * stored to before are in it (differences-from-c N25).
 */
TEST(bitmaps_start_full)
{
	static const int advice[] = { MADV_NOHUGEPAGE, MADV_HUGEPAGE };
	struct ring ring;
	u64 page;
	int i;

	for (i = 0; i < ARRAY_SIZE(advice); i++) {
		create(&ring, advice[i]);
		vm_enable_cap(ring.vcpu->vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
			      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET);
		for (page = 0; page < 40; page++)
			guest_store(ring.vcpu, gva_of(page), 1);
		harvest_all(&ring, 0, "not logged");
		log_slots(ring.vcpu->vm, KVM_MEM_LOG_DIRTY_PAGES);
		for (page = 0; page < 40; page += 3)
			guest_store(ring.vcpu, gva_of(page), 2);
		harvest_all(&ring, 14, "logged");
		for (page = 0; page < 40; page += 3)
			assert_found(page, 1, "logged");
		assert_found_no_more("logged");
		reset(&ring, 14);
		guest_store(ring.vcpu, gva_of(3), 3);
		guest_store(ring.vcpu, gva_of(4), 3);
		harvest_all(&ring, 2, "reset");
		destroy(&ring);
	}
}

/* In the guest's memory. */
static u64 nr_pages, first_page;

/* Stores to every page once; says which was the last. */
static void guest_store_all(u64 id)
{
	u64 i;

	for (;;) {
		for (i = 0; i < nr_pages; i++)
			WRITE_ONCE(*(u64 *)gva_of(first_page + i), i);
		GUEST_SYNC1(i);
	}
}

/* A ring that is full but for the reserve stops its vCPU, and none is lost. */
TEST(full)
{
	u32 soft = ENTRIES - RESERVED, got, total = 0, exits = 0, last[16];
	struct kvm_run *run;
	struct ring ring;
	u64 i;

	nr_pages = 1000;
	first_page = 10;
	memset(&ring, 0, sizeof(ring));
	ring.vcpu = vm_vcpu_add(create_vm(1, ENTRIES), 0, guest_store_all);
	sync_global_to_guest(ring.vcpu->vm, nr_pages);
	sync_global_to_guest(ring.vcpu->vm, first_page);
	vcpu_args_set(ring.vcpu, 1, 0ul);
	ring.gfns = vcpu_map_dirty_ring(ring.vcpu);
	add_slots(ring.vcpu->vm, MADV_NOHUGEPAGE);
	log_slots(ring.vcpu->vm, KVM_MEM_LOG_DIRTY_PAGES);
	run = ring.vcpu->run;

	for (;;) {
		vcpu_run(ring.vcpu);
		if (run->exit_reason != KVM_EXIT_DIRTY_RING_FULL)
			break;
		/* The store that came last is made again, after its page was reset. */
		last[exits++ % 16] = ring.gfns[(ring.next + soft - 1) % ENTRIES].offset;
		/* So it stays until userspace does something. */
		vcpu_run(ring.vcpu);
		TEST_ASSERT_KVM_EXIT_REASON(ring.vcpu, KVM_EXIT_DIRTY_RING_FULL);
		got = harvest(&ring, -1U);
		TEST_ASSERT(got == soft, "%u entries in a ring of %u with %u in reserve", got,
			    ENTRIES, RESERVED);
		vcpu_run(ring.vcpu);
		TEST_ASSERT_KVM_EXIT_REASON(ring.vcpu, KVM_EXIT_DIRTY_RING_FULL);
		reset(&ring, got);
		total += got;
	}
	TEST_ASSERT_EQ(get_ucall(ring.vcpu, NULL), UCALL_SYNC);
	got = harvest(&ring, -1U);
	reset(&ring, got);
	TEST_ASSERT_EQ(total + got, nr_pages + exits);
	TEST_ASSERT_EQ(exits, nr_pages / (soft - 1));
	for (i = 0; i < exits; i++)
		found[0][last[i]]--;
	for (i = 0; i < nr_pages; i++)
		assert_found(first_page + i, 1, "full");
	assert_found_no_more("full");

	/* One entry of room is room enough to go on. */
	vcpu_run(ring.vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(ring.vcpu, KVM_EXIT_DIRTY_RING_FULL);
	TEST_ASSERT_EQ(harvest(&ring, 1), 1);
	reset(&ring, 1);
	vcpu_run(ring.vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(ring.vcpu, KVM_EXIT_DIRTY_RING_FULL);
	harvest_all(&ring, soft, "one entry of room");
	destroy(&ring);
}

/* In the guest: makes the call that sbi_ask() left, and says its error. */
static u64 guest_call(u64 unused)
{
	return guest_ecall(sbi_call.ext, sbi_call.fid, sbi_call.arg).error;
}

static void ask_call(struct ring *ring, u64 ext, u64 fid, const u64 *arg)
{
	sbi_ask(ring->vcpu, ext, fid, arg);
	guest_ask(ring->vcpu, GUEST_OP_EXEC, (u64)guest_call, 0);
}

/* An entry of event_get_info(). */
struct event_info {
	u32 event;
	u32 output;
	u64 data;
};

/* What the call takes at most. */
#define NR_EVENTS	65536
#define EVENT_PAGES	(NR_EVENTS * sizeof(struct event_info) / SIZE_4K)

/*
 * One call of the guest has KVM write to more pages than the reserve has
 * entries: userspace is asked to make room in between, and no page is lost
 * (F4).
 */
TEST(one_call_writes_more_than_the_reserve)
{
	const u64 arg[6] = { GPA_A, 0, NR_EVENTS, 0 };
	u32 soft = ENTRIES - RESERVED, exits = 0, got, i;
	struct event_info *info;
	struct ring ring;
	struct ucall uc;
	int kmsg;

	create(&ring, MADV_NOHUGEPAGE);
	if (!__vcpu_has_sbi_ext(ring.vcpu, KVM_RISCV_SBI_EXT_PMU))
		SKIP(return, "no SBI PMU");
	info = (void *)mem;
	for (i = 0; i < NR_EVENTS; i++)
		info[i] = (struct event_info){ i % 11, 0x55555555, i };
	log_slots(ring.vcpu->vm, KVM_MEM_LOG_DIRTY_PAGES);
	for (i = 0; i < soft - 1; i++)
		guest_store(ring.vcpu, gva_of(NPAGES + i), 1);
	kmsg = kmsg_open();
	ask_call(&ring, SBI_EXT_PMU, 8, arg);
	for (;;) {
		vcpu_run(ring.vcpu);
		got = harvest(&ring, -1U);
		/* Room is left for what else an exit may add. */
		TEST_ASSERT(got <= soft + 1, "%u entries in a ring of %u with %u in reserve", got,
			    ENTRIES, RESERVED);
		if (ring.vcpu->run->exit_reason != KVM_EXIT_DIRTY_RING_FULL)
			break;
		reset(&ring, got);
		exits++;
	}
	kmsg_assert_quiet(kmsg);
	TEST_ASSERT_EQ(get_ucall(ring.vcpu, &uc), UCALL_SYNC);
	TEST_ASSERT(uc.args[0] == NO_TRAP && !uc.args[1], "cause %ld, error %ld", (long)uc.args[0],
		    (long)uc.args[1]);
	TEST_ASSERT(exits, "the ring was never full");
	/* No page is there again because the call was made again. */
	for (i = 0; i < EVENT_PAGES; i++)
		assert_found(i, 1, "event info");
	for (i = 0; i < soft - 1; i++)
		assert_found(NPAGES + i, 1, "stores");
	assert_found_no_more("event info");
	for (i = 0; i < NR_EVENTS; i++)
		TEST_ASSERT(info[i].event == i % 11 && info[i].output <= 1 && info[i].data == i,
			    "entry %u: 0x%x 0x%x", i, info[i].event, info[i].output);
	destroy(&ring);
}

static bool thief_stop;

static void *thief(void *arg)
{
	pin_self_to_cpu(0);
	while (!READ_ONCE(thief_stop))
		;
	return NULL;
}

/*
 * A ring that is full is looked at before steal time is written, which is news
 * whenever the thread had to wait for its CPU (F4).
 */
TEST(full_ring_is_looked_at_before_steal_time_is_written)
{
	const u64 arg[6] = { GPA_A, 0 };
	u32 soft = ENTRIES - RESERVED, i;
	struct ring ring;
	pthread_t thread;
	u64 val, steal;
	int kmsg;

	create(&ring, MADV_NOHUGEPAGE);
	if (__vcpu_get_reg(ring.vcpu, RISCV_SBI_EXT_REG(KVM_RISCV_SBI_EXT_STA), &val))
		SKIP(return, "the module has no steal time");
	ask_call(&ring, SBI_EXT_STA, 0, arg);
	TEST_ASSERT_EQ(guest_answer(ring.vcpu, &val), NO_TRAP);
	TEST_ASSERT_EQ(val, 0);
	log_slots(ring.vcpu->vm, KVM_MEM_LOG_DIRTY_PAGES);
	nr_pages = soft + 1;
	first_page = 1;
	sync_global_to_guest(ring.vcpu->vm, nr_pages);
	sync_global_to_guest(ring.vcpu->vm, first_page);
	guest_ask(ring.vcpu, GUEST_OP_EXEC, (u64)guest_store_all, 0);
	vcpu_run(ring.vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(ring.vcpu, KVM_EXIT_DIRTY_RING_FULL);
	steal = READ_ONCE(((u64 *)mem)[1]);

	kmsg = kmsg_open();
	pin_self_to_cpu(0);
	WRITE_ONCE(thief_stop, false);
	pthread_create(&thread, NULL, thief, NULL);
	for (i = 0; i < 2 * RESERVED; i++) {
		sched_yield();
		vcpu_run(ring.vcpu);
		TEST_ASSERT_KVM_EXIT_REASON(ring.vcpu, KVM_EXIT_DIRTY_RING_FULL);
	}
	WRITE_ONCE(thief_stop, true);
	pthread_join(thread, NULL);
	kmsg_assert_quiet(kmsg);
	TEST_ASSERT_EQ(((u64 *)mem)[1], steal);
	i = harvest(&ring, -1U);
	/* Before the first exit there may have been something to report. */
	TEST_ASSERT(i >= soft && i <= soft + 1, "%u entries in a full ring", i);
	reset(&ring, i);
	/* Now it is written. */
	vcpu_run(ring.vcpu);
	TEST_ASSERT_EQ(get_ucall(ring.vcpu, NULL), UCALL_SYNC);
	TEST_ASSERT(((u64 *)mem)[1] > steal, "what the thread waited is never reported");
	destroy(&ring);
}

/* In the guest's memory. */
static u64 stop, done[NR_VCPUS];

/* Every vCPU stores to pages of its own and to a few that all have. */
static void guest_mark(u64 id)
{
	u64 seed = id + 1, page, n;

	for (n = 1; !READ_ONCE(stop); n++) {
		page = xorshift(&seed) % (NPAGES / NR_VCPUS);
		if (page >= 16)
			page = page * NR_VCPUS + id;
		WRITE_ONCE(((u64 *)gva_of(page))[id], n);
		WRITE_ONCE(done[id], n);
	}
	GUEST_DONE();
}

#define MIN_ENTRIES	(NR_VCPUS * 20)

static struct ring rings[NR_VCPUS];
static u32 full_exits[NR_VCPUS];

static void *mark_thread(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	struct ucall uc;

	for (;;) {
		vcpu_run(vcpu);
		if (vcpu->run->exit_reason == KVM_EXIT_DIRTY_RING_FULL) {
			full_exits[vcpu->id]++;
			usleep(3000);
			continue;
		}
		if (get_ucall(vcpu, &uc) == UCALL_ABORT)
			REPORT_GUEST_ASSERT(uc);
		TEST_ASSERT_EQ(uc.cmd, UCALL_DONE);
		return NULL;
	}
}

/*
 * A copy that follows the rings, page by page as they say, is in the end the
 * guest's memory: what live migration relies on.
 */
TEST(copy_follows_guest)
{
	char *copy = map_advised(SIZE, MADV_NOHUGEPAGE);
	u32 entries = 0, full = 0, n;
	struct crew crew;
	bool last = false;
	u64 i, round;

	stop = 0;
	memset(done, 0, sizeof(done));
	memset(rings, 0, sizeof(rings));
	memset(copy, 0, SIZE);
	crew.vm = create_vm(NR_VCPUS, ENTRIES);
	for (i = 0; i < NR_VCPUS; i++) {
		crew.vcpus[i] = rings[i].vcpu = vm_vcpu_add(crew.vm, i, guest_mark);
		rings[i].gfns = vcpu_map_dirty_ring(rings[i].vcpu);
		vcpu_args_set(rings[i].vcpu, 1, i);
	}
	add_slots(crew.vm, MADV_HUGEPAGE);
	log_slots(crew.vm, KVM_MEM_LOG_DIRTY_PAGES);
	crew_start(&crew, mark_thread);
	for (round = 0; !last; round++) {
		/* Longer where the vCPUs hardly get a CPU. */
		last = round >= 12 && (entries > MIN_ENTRIES || round == 5000);
		if (last) {
			write_guest_global(crew.vm, stop, 1);
			/* The rings may be full: they are emptied until all have stopped. */
			for (i = 0; i < NR_VCPUS; i++)
				while (pthread_tryjoin_np(crew.threads[i], NULL)) {
					for (n = 0; n < NR_VCPUS; n++)
						entries += harvest(&rings[n], -1U);
					kvm_vm_reset_dirty_ring(crew.vm);
					usleep(1000);
				}
		}
		for (i = 0; i < NR_VCPUS; i++)
			entries += harvest(&rings[i], -1U);
		/* First watched again, then copied: a later store is in a ring. */
		kvm_vm_reset_dirty_ring(crew.vm);
		for (i = 0; i < NPAGES; i++) {
			if (found[0][i])
				memcpy(copy + i * SIZE_4K, mem + i * SIZE_4K, SIZE_4K);
			found[0][i] = 0;
		}
		usleep(5000);
	}
	for (i = 0; i < NR_VCPUS; i++)
		full += full_exits[i];
	pr_info("# %u entries, %u full rings\n", entries, full);
	TEST_ASSERT(entries > MIN_ENTRIES, "%u entries only", entries);
	for (i = 0; i < NPAGES; i++)
		TEST_ASSERT(!memcmp(copy + i * SIZE_4K, mem + i * SIZE_4K, SIZE_4K),
			    "page %lu differs from the copy", (unsigned long)i);
	kvm_vm_free(crew.vm);
	munmap(mem, 2 * SIZE);
	munmap(copy, SIZE);
}

/* What the ring's size may be and when; what goes with a ring and what not. */
TEST(errors)
{
	u32 max = kvm_check_cap(KVM_CAP_DIRTY_LOG_RING_ACQ_REL);
	struct kvm_vm *vm = __vm_create(VM_SHAPE_DEFAULT, 1, 0);
	struct kvm_dirty_log log = { .slot = SLOT_A, .dirty_bitmap = (void *)found };
	struct kvm_clear_dirty_log clear = { .slot = SLOT_A, .num_pages = NPAGES,
					     .dirty_bitmap = (void *)found };

	TEST_ASSERT_ERRNO(__vm_ioctl(vm, KVM_RESET_DIRTY_RINGS, NULL), EINVAL);
	TEST_ASSERT_ERRNO(__vm_enable_cap(vm, KVM_CAP_DIRTY_LOG_RING_ACQ_REL, 0), EINVAL);
	TEST_ASSERT_ERRNO(__vm_enable_cap(vm, KVM_CAP_DIRTY_LOG_RING_ACQ_REL, 3 * SIZE_4K), EINVAL);
	TEST_ASSERT_ERRNO(__vm_enable_cap(vm, KVM_CAP_DIRTY_LOG_RING_ACQ_REL, SIZE_4K / 2), EINVAL);
	TEST_ASSERT_ERRNO(__vm_enable_cap(vm, KVM_CAP_DIRTY_LOG_RING_ACQ_REL, 2 * max), E2BIG);
	/* The RISC-V memory model wants the ordered ring. */
	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_DIRTY_LOG_RING), 0);
	/* Nothing here is written without a vCPU, so there is no bitmap beside it. */
	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP), 0);
	TEST_ASSERT_ERRNO(__vm_enable_cap(vm, KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP, 0), EINVAL);
	vm_enable_dirty_ring(vm, SIZE_4K);
	TEST_ASSERT_ERRNO(__vm_enable_cap(vm, KVM_CAP_DIRTY_LOG_RING_ACQ_REL, SIZE_4K), EINVAL);
	TEST_ASSERT_ERRNO(__vm_enable_cap(vm, KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP, 0), EINVAL);
	add_slots(vm, MADV_NOHUGEPAGE);
	log_slots(vm, KVM_MEM_LOG_DIRTY_PAGES);
	TEST_ASSERT_ERRNO(__vm_ioctl(vm, KVM_GET_DIRTY_LOG, &log), ENXIO);
	TEST_ASSERT_ERRNO(__vm_ioctl(vm, KVM_CLEAR_DIRTY_LOG, &clear), ENXIO);
	TEST_ASSERT_EQ(kvm_vm_reset_dirty_ring(vm), 0);
	kvm_vm_free(vm);
	munmap(mem, 2 * SIZE);

	/* Too late. */
	vm = vm_create_with_one_vcpu(&rings[0].vcpu, guest_server);
	TEST_ASSERT_ERRNO(__vm_enable_cap(vm, KVM_CAP_DIRTY_LOG_RING_ACQ_REL, SIZE_4K), EINVAL);
	kvm_vm_free(vm);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_DIRTY_LOG_RING_ACQ_REL));
	return test_harness_run(argc, argv);
}
