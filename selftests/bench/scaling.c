// SPDX-License-Identifier: GPL-2.0
/*
 * Demand paging by several vCPUs at a time: each has a CPU, and stores to pages
 * of its own that no guest has touched since the slot was made.
 *
 * tools/bench has all instructions counted that are executed meanwhile, or the
 * waits for locks traced; nothing is timed.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

#include "bench.h"

#define MAX_VCPUS	8
/* Pages for each. */
#define SHARE		4096UL
#define ROUNDS		3

static struct kvm_vcpu *vcpus[MAX_VCPUS];
static pthread_barrier_t start, done;
static bool over;

static void guest_own_pages(u64 idx)
{
	u64 i;

	for (;;) {
		barrier();
		for (i = idx * SHARE; i < (idx + 1) * SHARE; i++)
			WRITE_ONCE(*(u64 *)(MEM_GVA + i * PAGE), i);
		GUEST_SYNC(0);
	}
}

static void *vcpu_thread(void *idx)
{
	struct kvm_vcpu *vcpu = vcpus[(u64)idx];

	pin_self_to_cpu((u64)idx);
	for (;;) {
		pthread_barrier_wait(&start);
		if (over)
			return NULL;
		vcpu_run(vcpu);
		TEST_ASSERT_EQ(get_ucall(vcpu, NULL), UCALL_SYNC);
		pthread_barrier_wait(&done);
	}
}

/* All vCPUs store to their pages, from now until the last is done. */
static void page_in(void)
{
	pthread_barrier_wait(&start);
	pthread_barrier_wait(&done);
}

/* For tools/bench, which counts lock contention of this time only. */
static void trace(const char *on)
{
	int fd = open("/sys/kernel/tracing/tracing_on", O_WRONLY);

	TEST_ASSERT(fd >= 0 && write(fd, on, 1) == 1, "no tracing");
	close(fd);
}

static void demand_paging(struct kvm_vm *vm, int nr_vcpus, bool absent, bool traced)
{
	u64 size = nr_vcpus * SHARE * PAGE;
	void *mem;
	int i;

	mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(mem != MAP_FAILED && !madvise(mem, size, MADV_NOHUGEPAGE), "no memory");
	if (!absent)
		TEST_ASSERT(!madvise(mem, size, MADV_POPULATE_WRITE), "madvise");
	vm_set_user_memory_region(vm, SLOT, 0, MEM_GPA, size, mem);

	if (!absent) {
		/* One by one, so that they need not wait for each other. */
		for (i = 0; i < nr_vcpus; i++)
			vcpu_run(vcpus[i]);
		vm_set_user_memory_region(vm, SLOT, 0, MEM_GPA, 0, 0);
		vm_set_user_memory_region(vm, SLOT, 0, MEM_GPA, size, mem);
	}

	if (traced)
		trace("1");
	if (marking)
		mark_begin();
	page_in();
	if (marking)
		mark_end();
	if (traced)
		trace("0");
	vm_set_user_memory_region(vm, SLOT, 0, MEM_GPA, 0, 0);
	munmap(mem, size);
}

void bench_scaling(int nr_vcpus, bool absent, bool traced)
{
	pthread_t threads[MAX_VCPUS];
	int rounds = ROUNDS;
	struct kvm_vm *vm;
	u64 i;

	TEST_ASSERT(nr_vcpus <= MAX_VCPUS, "at most %d vCPUs", MAX_VCPUS);
	vm = __vm_create_with_vcpus(VM_SHAPE_DEFAULT, nr_vcpus, nr_vcpus * SHARE / 256, guest_own_pages, vcpus);
	for (i = 0; i < nr_vcpus * SHARE; i++)
		virt_pg_map(vm, MEM_GVA + i * PAGE, MEM_GPA + i * PAGE);
	pthread_barrier_init(&start, NULL, nr_vcpus + 1);
	pthread_barrier_init(&done, NULL, nr_vcpus + 1);
	for (i = 0; i < nr_vcpus; i++) {
		vcpu_args_set(vcpus[i], 1, i);
		pthread_create(&threads[i], NULL, vcpu_thread, (void *)i);
	}
	pin_self_to_cpu(0);

	if (opt_profile) {
		demand_paging(vm, nr_vcpus, absent, false);
		marking = true;
		rounds = 1;
	}
	for (i = 0; i < rounds; i++)
		demand_paging(vm, nr_vcpus, absent, traced);
	/* How many the marks enclose, or the trace. */
	tell("pages", rounds * nr_vcpus * SHARE);

	over = true;
	pthread_barrier_wait(&start);
	for (i = 0; i < nr_vcpus; i++)
		pthread_join(threads[i], NULL);
	kvm_vm_free(vm);
}
