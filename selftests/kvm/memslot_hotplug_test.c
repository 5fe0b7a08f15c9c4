// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: M3, N38 */
/* covers: mmu/memslots.rs hooks/mmu.rs kvm_core/srcu.rs kvm_core/memslot.rs */
/*
 * Memory slots that come, go, move and share memory while vCPUs use them: a
 * guest's access reaches the memory while the slot is there, and userspace, as
 * MMIO, while it is not; none is lost and none lands in both.
 */
#include "kvm_rs_mem.h"

#define SLOT_A		1
#define SLOT_B		2
#define GPA_A		SIZE_1G
#define GPA_B		(SIZE_1G + 4 * SIZE_2M)
#define NPAGES		512UL
#define SIZE		(NPAGES * SIZE_4K)
#define ROUNDS		8

/* What a load gets from userspace while there is no slot. */
#define NO_SLOT		0xdeadULL

static char *mem;

/* One access that is MMIO for userspace, which answers a load with @val. */
static void assert_mmio(struct kvm_vcpu *vcpu, enum guest_op op, u64 gva, u64 gpa, u64 val)
{
	struct kvm_run *run = vcpu->run;
	u64 data;

	guest_ask(vcpu, op, gva, val);
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
	TEST_ASSERT_EQ(run->mmio.phys_addr, gpa);
	TEST_ASSERT_EQ(run->mmio.is_write, op == GUEST_OP_STORE);
	TEST_ASSERT_EQ(run->mmio.len, 8);
	if (op == GUEST_OP_LOAD)
		memcpy(run->mmio.data, &val, 8);
	memcpy(&data, run->mmio.data, 8);
	TEST_ASSERT_EQ(data, val);
	TEST_ASSERT_EQ(guest_answer(vcpu, &data), NO_TRAP);
	if (op == GUEST_OP_LOAD)
		TEST_ASSERT_EQ(data, val);
}

static void assert_absent(struct kvm_vcpu *vcpu, u64 gva, u64 gpa, u64 npages)
{
	u64 i;

	for (i = 0; i < npages; i += npages / 4 ?: 1) {
		assert_mmio(vcpu, GUEST_OP_LOAD, gva + i * SIZE_4K, gpa + i * SIZE_4K, NO_SLOT);
		assert_mmio(vcpu, GUEST_OP_STORE, gva + i * SIZE_4K, gpa + i * SIZE_4K, 7);
	}
}

/* The guest sees @at at @gva, and writes there. */
static void assert_present(struct kvm_vcpu *vcpu, u64 gva, char *at, u64 npages)
{
	u64 i;

	for (i = 0; i < npages; i += npages / 4 ?: 1) {
		page_word(at, i)[1]++;
		TEST_ASSERT_EQ(guest_load(vcpu, gva + i * SIZE_4K + 8), page_word(at, i)[1]);
		guest_store(vcpu, gva + i * SIZE_4K + 16, pattern(i));
		TEST_ASSERT_EQ(page_word(at, i)[2], pattern(i));
		page_word(at, i)[2] = 0;
	}
}

/* A vCPU that sees both windows: GPA_A at TEST_GVA, GPA_B behind it. */
#define GVA_A	TEST_GVA
#define GVA_B	(TEST_GVA + SIZE)

static struct kvm_vcpu *create(int advice)
{
	struct kvm_vcpu *vcpu = server_create();
	u64 off;

	mem = map_advised(SIZE, advice);
	memset(mem, 0, SIZE);
	for (off = 0; off < SIZE; off += SIZE_4K) {
		virt_pg_map(vcpu->vm, GVA_A + off, GPA_A + off);
		virt_pg_map(vcpu->vm, GVA_B + off, GPA_B + off);
	}
	return vcpu;
}

static void destroy(struct kvm_vcpu *vcpu)
{
	kvm_vm_free(vcpu->vm);
	munmap(mem, SIZE);
}

static void set_slot(struct kvm_vcpu *vcpu, u32 slot, u32 flags, u64 gpa, u64 size, void *at)
{
	vm_set_user_memory_region(vcpu->vm, slot, flags, gpa, size, at);
}

static void check_delete(int advice)
{
	struct kvm_vcpu *vcpu = create(advice);
	char *other = map_advised(SIZE, advice);
	int i;

	assert_absent(vcpu, GVA_A, GPA_A, NPAGES);
	for (i = 0; i < 3; i++) {
		set_slot(vcpu, SLOT_A, 0, GPA_A, SIZE, mem);
		assert_present(vcpu, GVA_A, mem, NPAGES);
		assert_absent(vcpu, GVA_B, GPA_B, NPAGES);
		set_slot(vcpu, SLOT_A, 0, GPA_A, 0, NULL);
		assert_absent(vcpu, GVA_A, GPA_A, NPAGES);
		/* The same place, other memory; then less of it. */
		set_slot(vcpu, SLOT_A, 0, GPA_A, SIZE, other);
		assert_present(vcpu, GVA_A, other, NPAGES);
		set_slot(vcpu, SLOT_A, 0, GPA_A, 0, NULL);
		set_slot(vcpu, SLOT_B, 0, GPA_A, SIZE / 2, mem);
		assert_present(vcpu, GVA_A, mem, NPAGES / 2);
		assert_absent(vcpu, GVA_A + SIZE / 2, GPA_A + SIZE / 2, NPAGES / 2);
		set_slot(vcpu, SLOT_B, 0, GPA_A, 0, NULL);
	}
	munmap(other, SIZE);
	destroy(vcpu);
}

TEST(delete_and_create)
{
	check_delete(MADV_NOHUGEPAGE);
	check_delete(MADV_HUGEPAGE);
}

static void check_move(int advice)
{
	struct kvm_vcpu *vcpu = create(advice);
	int i;

	for (i = 0; i < 3; i++) {
		set_slot(vcpu, SLOT_A, 0, GPA_A, SIZE, mem);
		assert_present(vcpu, GVA_A, mem, NPAGES);
		set_slot(vcpu, SLOT_A, 0, GPA_B, SIZE, mem);
		assert_present(vcpu, GVA_B, mem, NPAGES);
		assert_absent(vcpu, GVA_A, GPA_A, NPAGES);
	}
	/* By one page: every address means another page now. */
	set_slot(vcpu, SLOT_A, 0, GPA_B + SIZE_4K, SIZE, mem);
	assert_absent(vcpu, GVA_B, GPA_B, 1);
	assert_present(vcpu, GVA_B + SIZE_4K, mem, NPAGES - 1);
	destroy(vcpu);
}

TEST(move)
{
	check_move(MADV_NOHUGEPAGE);
	check_move(MADV_HUGEPAGE);
}

/* Two slots show the same memory; each comes and goes, and is logged, alone. */
static void check_alias(int advice)
{
	struct kvm_vcpu *vcpu = create(advice);
	u64 log[NPAGES / 64], want[NPAGES / 64] = { 1ULL << 3 };

	set_slot(vcpu, SLOT_A, 0, GPA_A, SIZE, mem);
	set_slot(vcpu, SLOT_B, 0, GPA_B, SIZE, mem);
	guest_store(vcpu, GVA_A + 3 * SIZE_4K, 33);
	TEST_ASSERT_EQ(guest_load(vcpu, GVA_B + 3 * SIZE_4K), 33);
	guest_store(vcpu, GVA_B + 3 * SIZE_4K, 34);
	TEST_ASSERT_EQ(guest_load(vcpu, GVA_A + 3 * SIZE_4K), 34);

	set_slot(vcpu, SLOT_A, KVM_MEM_LOG_DIRTY_PAGES, GPA_A, SIZE, mem);
	kvm_vm_get_dirty_log(vcpu->vm, SLOT_A, log);
	guest_store(vcpu, GVA_B + 5 * SIZE_4K, 55);
	guest_store(vcpu, GVA_A + 3 * SIZE_4K, 35);
	kvm_vm_get_dirty_log(vcpu->vm, SLOT_A, log);
	TEST_ASSERT(!memcmp(log, want, sizeof(log)), "the log of one slot shows stores to the other: %lx",
		    (unsigned long)log[0]);
	TEST_ASSERT_EQ(guest_load(vcpu, GVA_A + 5 * SIZE_4K), 55);

	/* What the host drops is gone in both. */
	madvise(mem, SIZE, MADV_DONTNEED);
	TEST_ASSERT_EQ(guest_load(vcpu, GVA_A + 3 * SIZE_4K), 0);
	TEST_ASSERT_EQ(guest_load(vcpu, GVA_B + 5 * SIZE_4K), 0);

	set_slot(vcpu, SLOT_A, 0, GPA_A, 0, NULL);
	assert_absent(vcpu, GVA_A, GPA_A, NPAGES);
	assert_present(vcpu, GVA_B, mem, NPAGES);
	destroy(vcpu);
}

TEST(alias)
{
	check_alias(MADV_NOHUGEPAGE);
	check_alias(MADV_HUGEPAGE);
}

/* Slots side by side in one huge page, with memory that is none of its neighbour's. */
TEST(neighbours)
{
	struct kvm_vcpu *vcpu = create(MADV_HUGEPAGE);
	char *other = map_advised(SIZE, MADV_HUGEPAGE);
	u64 half = SIZE / 2;

	memset(other, 0, SIZE);
	set_slot(vcpu, SLOT_A, 0, GPA_A, half, mem);
	set_slot(vcpu, SLOT_B, 0, GPA_A + half, half, other + half);
	assert_present(vcpu, GVA_A, mem, NPAGES / 2);
	assert_present(vcpu, GVA_A + half, other + half, NPAGES / 2);
	set_slot(vcpu, SLOT_A, 0, GPA_A, 0, NULL);
	assert_absent(vcpu, GVA_A, GPA_A, NPAGES / 2);
	assert_present(vcpu, GVA_A + half, other + half, NPAGES / 2);
	/* Now one slot has it all, and a huge page may take the place of tables. */
	set_slot(vcpu, SLOT_B, 0, GPA_A, 0, NULL);
	set_slot(vcpu, SLOT_A, 0, GPA_A, SIZE, mem);
	assert_present(vcpu, GVA_A, mem, NPAGES);
	munmap(other, SIZE);
	destroy(vcpu);
}

TEST(errors)
{
	struct kvm_vcpu *vcpu = create(MADV_NOHUGEPAGE);
	struct kvm_vm *vm = vcpu->vm;
	char *other = map_advised(SIZE, MADV_NOHUGEPAGE);

	set_slot(vcpu, SLOT_A, 0, GPA_A, SIZE, mem);
	assert_present(vcpu, GVA_A, mem, NPAGES);
	TEST_ASSERT_ERRNO(__vm_set_user_memory_region(vm, SLOT_B, 0, GPA_A + SIZE_4K, SIZE, mem),
			  EEXIST);
	TEST_ASSERT_ERRNO(__vm_set_user_memory_region(vm, SLOT_A, 0, GPA_A, SIZE / 2, mem), EINVAL);
	TEST_ASSERT_ERRNO(__vm_set_user_memory_region(vm, SLOT_A, 0, GPA_A, SIZE, other), EINVAL);
	TEST_ASSERT_ERRNO(__vm_set_user_memory_region(vm, SLOT_A, KVM_MEM_READONLY, GPA_A, SIZE, mem),
			  EINVAL);
	TEST_ASSERT_ERRNO(__vm_set_user_memory_region(vm, SLOT_B, 0, GPA_B, 0, NULL), EINVAL);
	TEST_ASSERT_ERRNO(__vm_set_user_memory_region(vm, SLOT_B, 0, GPA_B + 1, SIZE, mem), EINVAL);
	TEST_ASSERT_ERRNO(__vm_set_user_memory_region(vm, SLOT_B, 1U << 31, GPA_B, SIZE, mem), EINVAL);
	TEST_ASSERT_ERRNO(__vm_set_user_memory_region(vm, SLOT_B, 0, -SIZE_4K, SIZE, mem), EINVAL);
	/* A move onto another slot, which stays where it is. */
	set_slot(vcpu, SLOT_B, 0, GPA_B, SIZE, other);
	TEST_ASSERT_ERRNO(__vm_set_user_memory_region(vm, SLOT_B, 0, GPA_A, SIZE, other), EEXIST);
	/* None of that did anything. */
	assert_present(vcpu, GVA_A, mem, NPAGES);
	assert_present(vcpu, GVA_B, other, NPAGES);
	munmap(other, SIZE);
	destroy(vcpu);
}

/* --- with vCPUs that run -------------------------------------------------------- */

/*
 * In the guest's memory: how many pages it uses.  Few, where each takes a fault
 * of its own.
 */
static u64 nr_pages, stop;

/* Odd while the slot may be away; changes before it goes and after it came. */
static u64 epoch;

/* What userspace got instead of the memory, by vCPU. */
static struct {
	u64 loads, stores, last;
} mmio[NR_VCPUS];

/*
 * Stores numbers that rise, each to the next page, and reads them back: the
 * number itself, or what userspace says if the slot is away.  The slot may come
 * and go in between, so one that is read back late may be older.
 */
static void guest_count(u64 id)
{
	u64 n, got, *p;

	for (n = 1; !READ_ONCE(stop); n++) {
		p = (u64 *)(TEST_GVA + (n * 5 + id) % nr_pages * SIZE_4K) + 1 + id;
		WRITE_ONCE(*p, n);
		got = READ_ONCE(*p);
		__GUEST_ASSERT(got == NO_SLOT || got <= n, "vCPU %lu stored %lu and read %lx", id,
			       n, got);
	}
	GUEST_SYNC1(n - 1);
	GUEST_DONE();
}

/* Whether a slot was away at some time between two looks at the epoch. */
static bool was_away(u64 before, u64 after)
{
	return before & 1 || before != after;
}

static void *count_thread(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	struct kvm_run *run = vcpu->run;
	u64 id = vcpu->id, before, val;
	struct ucall uc;

	for (;;) {
		before = __atomic_load_n(&epoch, __ATOMIC_SEQ_CST);
		vcpu_run(vcpu);
		if (run->exit_reason == KVM_EXIT_MMIO) {
			TEST_ASSERT(was_away(before, __atomic_load_n(&epoch, __ATOMIC_SEQ_CST)),
				    "vCPU %lu: MMIO at %llx while the slot is there",
				    (unsigned long)id, run->mmio.phys_addr);
			TEST_ASSERT(run->mmio.phys_addr - GPA_A < SIZE ||
				    run->mmio.phys_addr - GPA_B < SIZE, "MMIO at %llx",
				    run->mmio.phys_addr);
			memcpy(&val, run->mmio.data, 8);
			if (run->mmio.is_write) {
				TEST_ASSERT(val > mmio[id].last, "store %lu after %lu",
					    (unsigned long)val, (unsigned long)mmio[id].last);
				mmio[id].last = val;
				mmio[id].stores++;
			} else {
				val = NO_SLOT;
				memcpy(run->mmio.data, &val, 8);
				mmio[id].loads++;
			}
			continue;
		}
		switch (get_ucall(vcpu, &uc)) {
		case UCALL_SYNC:
			/* The last store is in one of the two places. */
			val = page_word(mem, (uc.args[0] * 5 + id) % nr_pages)[1 + id];
			TEST_ASSERT(uc.args[0] == val || uc.args[0] == mmio[id].last,
				    "vCPU %lu lost store %lu", (unsigned long)id,
				    (unsigned long)uc.args[0]);
			continue;
		case UCALL_DONE:
			return NULL;
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT(uc);
		default:
			TEST_FAIL("exit %s", exit_reason_str(run->exit_reason));
		}
	}
}

/* The counters of all vCPUs in memory. */
static void snapshot(u64 (*to)[NR_VCPUS])
{
	u64 i;

	for (i = 0; i < nr_pages; i++)
		memcpy(to[i], page_word(mem, i) + 1, sizeof(to[i]));
}

static u64 mmio_exits(void)
{
	u64 exits = 0;
	int i;

	for (i = 0; i < NR_VCPUS; i++)
		exits += READ_ONCE(mmio[i].loads) + READ_ONCE(mmio[i].stores);
	return exits;
}

/* Some time, in which a vCPU misses the slot. */
static void await_mmio(void)
{
	u64 before = mmio_exits();

	usleep(500);
	TEST_ASSERT(eventually(mmio_exits() != before), "no vCPU misses the slot");
}

static void epoch_next(void)
{
	__atomic_add_fetch(&epoch, 1, __ATOMIC_SEQ_CST);
}

/* While the slot is away nothing changes in its memory. */
static void slot_goes_and_comes(struct crew *crew, u32 flags, u64 round)
{
	static u64 before[NPAGES][NR_VCPUS], after[NPAGES][NR_VCPUS];

	epoch_next();
	vm_set_user_memory_region(crew->vm, SLOT_A, flags, GPA_A, 0, NULL);
	snapshot(before);
	await_mmio();
	snapshot(after);
	TEST_ASSERT(!memcmp(before, after, sizeof(before)),
		    "a store reached the memory of a slot that is deleted");
	vm_set_user_memory_region(crew->vm, SLOT_A, flags, GPA_A, SIZE, mem);
	epoch_next();
}

/* The guest's window is at GPA_A and GPA_B in turns. */
static void move_away_and_back(struct crew *crew, u32 flags, u64 round)
{
	static u64 before[NPAGES][NR_VCPUS], after[NPAGES][NR_VCPUS];

	epoch_next();
	vm_set_user_memory_region(crew->vm, SLOT_A, flags, GPA_B, SIZE, mem);
	snapshot(before);
	await_mmio();
	snapshot(after);
	TEST_ASSERT(!memcmp(before, after, sizeof(before)),
		    "a store reached memory through the address that it moved from");
	vm_set_user_memory_region(crew->vm, SLOT_A, flags, GPA_A, SIZE, mem);
	epoch_next();
}

/* Another slot of the same memory comes and goes; nobody notices. */
static void alias_comes_and_goes(struct crew *crew, u32 flags, u64 round)
{
	vm_set_user_memory_region(crew->vm, SLOT_B, flags, GPA_B, SIZE, mem);
	usleep(500);
	vm_set_user_memory_region(crew->vm, SLOT_B, flags, GPA_B, 0, NULL);
}

/* A slot cannot move to where no guest has addresses: it stays, all the time. */
static void move_in_vain(struct crew *crew, u32 flags, u64 round)
{
	int i;

	for (i = 0; i < 50; i++)
		TEST_ASSERT_ERRNO(__vm_set_user_memory_region(crew->vm, SLOT_A, flags, 1UL << 60, SIZE,
							      mem), EFAULT);
}

static bool is_dirty(struct kvm_vm *vm)
{
	u64 log[NPAGES / 64], any = 0;
	int i;

	kvm_vm_get_dirty_log(vm, SLOT_A, log);
	for (i = 0; i < ARRAY_SIZE(log); i++)
		any |= log[i];
	return any;
}

/* Logging is switched on and, once something was logged, off; nobody notices. */
static void log_on_and_off(struct crew *crew, u32 flags, u64 round)
{
	vm_set_user_memory_region(crew->vm, SLOT_A, KVM_MEM_LOG_DIRTY_PAGES, GPA_A, SIZE, mem);
	usleep(500);
	TEST_ASSERT(eventually_within(DEFECT_MS, is_dirty(crew->vm)), "no vCPU stores any more");
	vm_set_user_memory_region(crew->vm, SLOT_A, 0, GPA_A, SIZE, mem);
}

enum away { NEVER_AWAY, SOMETIMES_AWAY };

static void check_race(int advice, enum away away, u32 flags,
		       void (*disturb)(struct crew *crew, u32 flags, u64 round))
{
	int kmsg = kmsg_open();
	struct crew crew;
	u64 round;

	mem = map_advised(SIZE, advice);
	memset(mem, 0, SIZE);
	memset(mmio, 0, sizeof(mmio));
	epoch = 0;
	stop = 0;
	nr_pages = advice == MADV_HUGEPAGE ? NPAGES : 64;
	crew_create(&crew, guest_count);
	sync_global_to_guest(crew.vm, nr_pages);
	crew_add_slot(&crew, SLOT_A, flags, GPA_A, SIZE, mem);
	crew_start(&crew, count_thread);
	for (round = 0; round < ROUNDS; round++) {
		disturb(&crew, flags, round);
		usleep(2000);
	}
	write_guest_global(crew.vm, stop, 1);
	crew_join_within(&crew, HANG_MS / 1000);
	pr_info("# %lu MMIO exits\n", (unsigned long)mmio_exits());
	TEST_ASSERT(!mmio_exits() == (away == NEVER_AWAY), "%lu MMIO exits",
		    (unsigned long)mmio_exits());
	kvm_vm_free(crew.vm);
	munmap(mem, SIZE);
	kmsg_assert_quiet(kmsg);
}

TEST(delete_while_running)
{
	check_race(MADV_NOHUGEPAGE, SOMETIMES_AWAY, 0, slot_goes_and_comes);
}

TEST(delete_thp_while_running)
{
	check_race(MADV_HUGEPAGE, SOMETIMES_AWAY, 0, slot_goes_and_comes);
}

TEST(delete_logged_while_running)
{
	check_race(MADV_HUGEPAGE, SOMETIMES_AWAY, KVM_MEM_LOG_DIRTY_PAGES, slot_goes_and_comes);
}

TEST(move_while_running)
{
	check_race(MADV_NOHUGEPAGE, SOMETIMES_AWAY, 0, move_away_and_back);
	check_race(MADV_HUGEPAGE, SOMETIMES_AWAY, 0, move_away_and_back);
}

/* differences-from-c N38 */
TEST(move_in_vain_while_running)
{
	check_race(MADV_NOHUGEPAGE, NEVER_AWAY, 0, move_in_vain);
	check_race(MADV_HUGEPAGE, NEVER_AWAY, KVM_MEM_LOG_DIRTY_PAGES, move_in_vain);
}

TEST(alias_while_running)
{
	check_race(MADV_NOHUGEPAGE, NEVER_AWAY, 0, alias_comes_and_goes);
}

TEST(log_while_running)
{
	check_race(MADV_NOHUGEPAGE, NEVER_AWAY, 0, log_on_and_off);
}

/* differences-from-c M3 */
TEST(log_thp_while_running)
{
	check_race(MADV_HUGEPAGE, NEVER_AWAY, 0, log_on_and_off);
	set_eager_split("N");
	check_race(MADV_HUGEPAGE, NEVER_AWAY, 0, log_on_and_off);
	set_eager_split("Y");
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
