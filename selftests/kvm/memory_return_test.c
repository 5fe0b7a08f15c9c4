// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: M4 */
/* covers: mmu/table_memory.rs gstage/table.rs gstage/walk.rs kvm_core/stats.rs */
/*
 * Once a VM is gone, the host has all its memory back: every page of a G-stage
 * table, whatever the VM did to its memslots before.
 */
#include <sys/wait.h>

#include "kvm_rs_pgtable.h"

#define SLOT	1
#define GPA	SIZE_1G

/* One page in each of them, in a table of its own: few faults, many tables. */
static u64 regions;
#define SPARSE	(regions * SIZE_2M)

#define BLOCKS	8UL
#define DENSE	(BLOCKS * SIZE_2M)

static void guest_touch(u64 me, u64 nr, u64 count)
{
	u64 i;

	for (i = me; i < count; i += nr)
		WRITE_ONCE(*(u64 *)(TEST_GVA + i * SIZE_4K), i);
	GUEST_SYNC1(0);
	for (i = me; i < count; i += nr)
		WRITE_ONCE(*(u64 *)(TEST_GVA + i * SIZE_4K), i + 1);
	GUEST_DONE();
}

static char *map_sparse(void)
{
	char *mem = mmap_at(SPARSE, SIZE_2M, 0, MAP_ANON_PRIVATE | MAP_NORESERVE, -1);

	TEST_ASSERT(mem != MAP_FAILED, "mmap");
	madvise(mem, SPARSE, MADV_NOHUGEPAGE);
	return mem;
}

/*
 * @nr vCPUs that touch @count pages, @step bytes apart, of memory at @mem; in
 * the guest's own tables, of which there are few, they are neighbours.
 */
static struct kvm_vm *create(int nr, struct kvm_vcpu **vcpus, u64 count, u64 step, char *mem,
			     u32 ring)
{
	struct kvm_vm *vm;
	u64 i;
	int v;

	if (ring) {
		vm = __vm_create(VM_SHAPE_DEFAULT, nr, 0);
		vm_enable_dirty_ring(vm, ring);
		for (v = 0; v < nr; v++)
			vcpus[v] = vm_vcpu_add(vm, v, guest_touch);
		kvm_arch_vm_finalize_vcpus(vm);
	} else {
		vm = vm_create_with_vcpus(nr, guest_touch, vcpus);
	}
	vm_set_user_memory_region(vm, SLOT, 0, GPA, count * step, mem);
	for (i = 0; i < count; i++)
		virt_pg_map(vm, TEST_GVA + i * SIZE_4K, GPA + i * step);
	for (v = 0; v < nr; v++)
		vcpu_args_set(vcpus[v], 3, (u64)v, (u64)nr, count);
	return vm;
}

static void run_all(int nr, struct kvm_vcpu **vcpus)
{
	int v;

	for (v = 0; v < nr; v++)
		run_to_sync(vcpus[v]);
}

static void live_plain_4k(void)
{
	struct kvm_vcpu *vcpus[NR_VCPUS];
	char *mem = map_sparse();
	struct kvm_vm *vm = create(NR_VCPUS, vcpus, regions, SIZE_2M, mem, 0);

	run_all(NR_VCPUS, vcpus);
	kvm_vm_free(vm);
	munmap(mem, SPARSE);
}

/* The address space goes first. */
static void live_munmap_first(void)
{
	struct kvm_vcpu *vcpus[1];
	char *mem = map_sparse();
	struct kvm_vm *vm = create(1, vcpus, regions, SIZE_2M, mem, 0);

	run_all(1, vcpus);
	munmap(mem, SPARSE);
	kvm_vm_free(vm);
}

static void live_never_run(void)
{
	struct kvm_vcpu *vcpus[NR_VCPUS];
	char *mem = map_sparse();

	kvm_vm_free(create(NR_VCPUS, vcpus, regions, SIZE_2M, mem, 0));
	munmap(mem, SPARSE);
}

static void logged(char *mem, u64 count, u64 step, u32 ring)
{
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct kvm_vm *vm = create(NR_VCPUS, vcpus, count, step, mem, ring);

	run_all(NR_VCPUS, vcpus);
	vm_set_user_memory_region(vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES, GPA, count * step, mem);
	run_to_done(vcpus[0]);
	vm_set_user_memory_region(vm, SLOT, 0, GPA, count * step, mem);
	run_to_done(vcpus[1]);
	vm_set_user_memory_region(vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES, GPA, count * step, mem);
	run_to_done(vcpus[2]);
	kvm_vm_free(vm);
}

static void live_logged_4k(void)
{
	char *mem = map_sparse();

	logged(mem, regions, SIZE_2M, 0);
	munmap(mem, SPARSE);
}

static void live_logged_2m(void)
{
	char *mem = map_advised(DENSE, MADV_HUGEPAGE);

	memset(mem, 0, DENSE);
	logged(mem, DENSE / SIZE_4K / 4, 4 * SIZE_4K, 0);
	munmap(mem, DENSE);
}

static void live_not_eager(void)
{
	if (set_eager_split("N"))
		live_logged_2m();
	set_eager_split("Y");
}

static void live_dirty_ring(void)
{
	char *mem = map_advised(DENSE, MADV_HUGEPAGE);

	memset(mem, 0, DENSE);
	if (kvm_check_cap(KVM_CAP_DIRTY_LOG_RING_ACQ_REL))
		logged(mem, DENSE / SIZE_4K / 16, 16 * SIZE_4K, 1 << 15);
	munmap(mem, DENSE);
}

/* The host drops odd parts, then the slot goes. */
static void live_in_parts(void)
{
	struct kvm_vcpu *vcpus[1];
	char *mem = map_advised(DENSE, MADV_NOHUGEPAGE);
	struct kvm_vm *vm = create(1, vcpus, DENSE / SIZE_4K / 4, 4 * SIZE_4K, mem, 0);

	run_all(1, vcpus);
	madvise(mem + SIZE_4K, SIZE_2M, MADV_DONTNEED);
	madvise(mem + SIZE_2M - SIZE_4K, 3 * SIZE_4K, MADV_DONTNEED);
	madvise(mem + 3 * SIZE_2M, 2 * SIZE_2M + SIZE_4K, MADV_DONTNEED);
	run_to_done(vcpus[0]);
	vm_set_user_memory_region(vm, SLOT, 0, GPA, 0, NULL);
	vm_set_user_memory_region(vm, SLOT, 0, GPA + 5 * SIZE_2M, DENSE, mem);
	kvm_vm_free(vm);
	munmap(mem, DENSE);
}

/* A process that is killed while its vCPUs run. */
static void *run_for_ever(void *vcpu)
{
	while (!__vcpu_run(vcpu))
		;
	return NULL;
}

static void live_killed(void)
{
	struct kvm_vcpu *vcpus[NR_VCPUS];
	pthread_t thread;
	int v, status;
	pid_t pid;

	pid = fork();
	if (!pid) {
		create(NR_VCPUS, vcpus, regions, SIZE_2M, map_sparse(), 0);
		for (v = 0; v < NR_VCPUS; v++)
			pthread_create(&thread, NULL, run_for_ever, vcpus[v]);
		usleep(20000);
		kill(getpid(), SIGKILL);
	}
	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid");
}

static bool counts_tables(void)
{
	struct kvm_vm *vm = vm_create_barebones();
	bool counts = vm_has_stat(vm, "gstage_tables");

	kvm_vm_free(vm);
	return counts;
}

/*
 * Tables are counted: what is left is zero.  Where they are not, a VM's tables
 * are 4 MB, which shows in the free memory of several rounds.
 */
static void check(void (*life)(void))
{
	const int rounds = counts_tables() ? 2 : 3;
	const long slack = 2048;
	long tables, available;
	int i;

	life();
	tables = meminfo("SecPageTables");
	knob_set("/proc/sys/vm/drop_caches", "3");
	available = meminfo("MemAvailable");
	for (i = 0; i < rounds; i++)
		life();
	TEST_ASSERT(meminfo("SecPageTables") == tables, "%ld KiB of tables are left",
		    meminfo("SecPageTables") - tables);
	if (counts_tables())
		return;
	knob_set("/proc/sys/vm/drop_caches", "3");
	available -= meminfo("MemAvailable");
	TEST_ASSERT(available < slack, "%d VMs took %ld KiB with them", rounds, available);
}

TEST(never_run) { check(live_never_run); }
/* differences-from-c M4 */
TEST(returns_after_plain_4k) { check(live_plain_4k); }
/* differences-from-c M4 */
TEST(munmap_first) { check(live_munmap_first); }
/* differences-from-c M4 */
TEST(logged_4k) { check(live_logged_4k); }

/* The C module's vCPUs fault for ever here (M3). */
static void check_logged_blocks(void (*life)(void))
{
	if (counts_tables())
		check(life);
	else
		pr_info("# the module does not count tables: not tried\n");
}

TEST(logged_2m) { check_logged_blocks(live_logged_2m); }
TEST(not_eager) { check_logged_blocks(live_not_eager); }
TEST(dirty_ring) { check_logged_blocks(live_dirty_ring); }
TEST(in_parts) { check(live_in_parts); }
/* differences-from-c M4 */
TEST(returns_after_a_kill) { check(live_killed); }

/* What a VM has, the host says it has: the tables, and the 16 KiB of the root. */
TEST(tables_are_counted)
{
	struct kvm_vcpu *vcpus[1];
	char *mem = map_sparse();
	long before, with;
	struct kvm_vm *vm;

	if (!counts_tables())
		SKIP(return, "the module does not count tables");
	before = meminfo("SecPageTables");
	vm = create(1, vcpus, regions, SIZE_2M, mem, 0);
	TEST_ASSERT_EQ(meminfo("SecPageTables") - before, 16);
	run_all(1, vcpus);
	with = meminfo("SecPageTables") - before;
	/* A vCPU keeps some for its next faults. */
	TEST_ASSERT(with >= 16 + 4 * (long)vm_get_stat(vm, gstage_tables) &&
		    with <= 16 + 4 * (long)vm_get_stat(vm, gstage_tables) + 64,
		    "%ld KiB for %ld tables", with, (long)vm_get_stat(vm, gstage_tables));
	TEST_ASSERT(vm_get_stat(vm, gstage_tables) >= regions, "%ld tables for %ld regions",
		    (long)vm_get_stat(vm, gstage_tables), (long)regions);

	/* Tables in which nothing is left are given back without the VM's end. */
	vm_set_user_memory_region(vm, SLOT, 0, GPA, 0, NULL);
	TEST_ASSERT(vm_get_stat(vm, gstage_tables) < 20, "%ld tables for nothing",
		    (long)vm_get_stat(vm, gstage_tables));
	kvm_vm_free(vm);
	TEST_ASSERT_EQ(meminfo("SecPageTables"), before);
	munmap(mem, SPARSE);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	regions = counts_tables() ? 256 : 1024;
	return test_harness_run(argc, argv);
}
