// SPDX-License-Identifier: GPL-2.0
/* on-c: skip: KVM_CAP_PRE_FAULT_MEMORY */
/* covers: mmu/fault.rs hooks/mmu.rs gstage/around.rs */
/*
 * KVM_PRE_FAULT_MEMORY maps memory as loads of the guest would, and does
 * nothing else: the guest's accesses do not fault then, what is shared stays
 * shared, and nothing is dirty.  Modelled on the upstream test of the ioctl.
 */
#include <pthread.h>

#include "kvm_rs_mem.h"

#define SLOT	1
#define GPA	SIZE_1G
#define NPAGES	(2 * SIZE_2M / SIZE_4K)
#define SIZE	(NPAGES * SIZE_4K)

static struct kvm_vcpu *create(u32 flags, u64 size, void *mem)
{
	struct kvm_vcpu *vcpu = server_create();

	vm_set_user_memory_region(vcpu->vm, SLOT, flags, GPA, size, mem);
	server_map(vcpu, GPA, size);
	return vcpu;
}

/* The ioctl; what is left of the size goes to @left. */
static int pre_fault(struct kvm_vcpu *vcpu, u64 gpa, u64 size, u64 *left)
{
	struct kvm_pre_fault_memory range = { .gpa = gpa, .size = size };
	int ret, saved;

	ret = __vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &range);
	saved = errno;
	TEST_ASSERT(range.gpa - gpa == size - range.size, "gpa and size went different ways");
	TEST_ASSERT((range.size < size) ^ (ret < 0) || !size, "ret %d, 0x%lx of 0x%lx left", ret,
		    (unsigned long)range.size, (unsigned long)size);
	if (left)
		*left = range.size;
	errno = saved;
	return ret;
}

static void assert_pre_fault(struct kvm_vcpu *vcpu, u64 gpa, u64 size)
{
	u64 left;

	TEST_ASSERT_OK(pre_fault(vcpu, gpa, size, &left));
	TEST_ASSERT_EQ(left, 0);
}

/* Faults of the guest, of all kinds. */
static u64 faults(struct kvm_vcpu *vcpu)
{
	return vcpu_get_stat(vcpu, pf_fixed) + vcpu_get_stat(vcpu, pf_fast) +
	       vcpu_get_stat(vcpu, pf_spurious) + vcpu_get_stat(vcpu, pf_retry);
}

/* Of a hart without Svvptc, which may remember that nothing was mapped, none counts. */
static u64 real_faults(struct kvm_vcpu *vcpu)
{
	return faults(vcpu) - vcpu_get_stat(vcpu, pf_spurious);
}

TEST(capability)
{
	struct kvm_vcpu *vcpu = server_create();

	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_PRE_FAULT_MEMORY), 1);
	TEST_ASSERT_EQ(vm_check_cap(vcpu->vm, KVM_CAP_PRE_FAULT_MEMORY), 1);
	kvm_vm_free(vcpu->vm);
}

TEST(errors)
{
	char *mem = map_advised(SIZE, MADV_NOHUGEPAGE);
	struct kvm_vcpu *vcpu = create(0, SIZE, mem);
	struct kvm_pre_fault_memory range = { .gpa = GPA, .size = SIZE_4K, .flags = 1 };
	u64 left;

	TEST_ASSERT_ERRNO(__vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &range), EINVAL);
	TEST_ASSERT_ERRNO(__vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, (struct kvm_pre_fault_memory *)8),
			  EFAULT);
	TEST_ASSERT_ERRNO(pre_fault(vcpu, GPA, 0, NULL), EINVAL);
	TEST_ASSERT_ERRNO(pre_fault(vcpu, GPA + 8, SIZE_4K, NULL), EINVAL);
	TEST_ASSERT_ERRNO(pre_fault(vcpu, GPA, 100, NULL), EINVAL);
	TEST_ASSERT_ERRNO(pre_fault(vcpu, -SIZE_4K, 2 * SIZE_4K, NULL), EINVAL);

	/* No slot, there or anywhere; more than a guest can address. */
	TEST_ASSERT_ERRNO(pre_fault(vcpu, GPA + SIZE, SIZE_4K, NULL), ENOENT);
	TEST_ASSERT_ERRNO(pre_fault(vcpu, 1UL << 62, SIZE_4K, NULL), ENOENT);
	/* A part is better than nothing, and the rest tells. */
	TEST_ASSERT_OK(pre_fault(vcpu, GPA + SIZE - SIZE_4K, 3 * SIZE_4K, &left));
	TEST_ASSERT_EQ(left, 2 * SIZE_4K);

	/* A slot, but nothing behind it. */
	munmap(mem + 8 * SIZE_4K, SIZE_4K);
	TEST_ASSERT_ERRNO(pre_fault(vcpu, GPA + 8 * SIZE_4K, SIZE_4K, NULL), EFAULT);
	TEST_ASSERT_OK(pre_fault(vcpu, GPA + 6 * SIZE_4K, 4 * SIZE_4K, &left));
	TEST_ASSERT_EQ(left, 2 * SIZE_4K);
	kvm_vm_free(vcpu->vm);
}

/* Before the first run, with and without the log, on pages of each size. */
static void check(u32 flags, int advice, bool touched)
{
	char *mem = map_advised(SIZE, advice);
	struct kvm_vcpu *vcpu = create(flags, SIZE, mem);
	u64 before, i;

	if (touched)
		fill(mem, NPAGES);
	assert_pre_fault(vcpu, GPA, SIZE);
	assert_pre_fault(vcpu, GPA, SIZE);
	if (!touched)
		fill(mem, NPAGES);

	/* The guest's own code, data and tables. */
	for (i = 0; i < NPAGES; i += 512)
		TEST_ASSERT_EQ(guest_load(vcpu, gva_of(i)), pattern(i));
	before = real_faults(vcpu);
	for (i = 0; i < NPAGES; i += 7)
		TEST_ASSERT_EQ(guest_load(vcpu, gva_of(i)), pattern(i));
	/* Untouched memory was one page of zeroes, which the host has replaced. */
	if (touched)
		TEST_ASSERT_EQ(real_faults(vcpu), before);
	check_pages(vcpu, mem, 0, NPAGES, 13, false);
	kvm_vm_free(vcpu->vm);
	munmap(mem, SIZE);
}

TEST(no_faults_later)
{
	static const u32 flags[] = { 0, KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY };
	int i;

	for (i = 0; i < 2; i++) {
		check(flags[i], MADV_NOHUGEPAGE, true);
		check(flags[i], MADV_NOHUGEPAGE, false);
		check(flags[i], MADV_HUGEPAGE, true);
		check(flags[i], MADV_HUGEPAGE, false);
	}
}

TEST(read_only_slot)
{
	char *mem = map_advised(SIZE, MADV_NOHUGEPAGE);
	struct kvm_vcpu *vcpu = create(KVM_MEM_READONLY, SIZE, mem);
	u64 before, i;

	fill(mem, NPAGES);
	assert_pre_fault(vcpu, GPA, SIZE);
	for (i = 0; i < NPAGES; i += 512)
		guest_load(vcpu, gva_of(i));
	before = real_faults(vcpu);
	for (i = 0; i < NPAGES; i += 5)
		TEST_ASSERT_EQ(guest_load(vcpu, gva_of(i)), pattern(i));
	TEST_ASSERT_EQ(real_faults(vcpu), before);
	guest_ask(vcpu, GUEST_OP_STORE, gva_of(3), 1);
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
	guest_answer(vcpu, NULL);
	TEST_ASSERT_EQ(page_word(mem, 3)[0], pattern(3));
	kvm_vm_free(vcpu->vm);
}

/* A private mapping of a file shows the file's pages until somebody writes. */
TEST(copies_nothing)
{
	int fd = memfd_create("private", 0);
	u64 val, i, pfns[16];
	struct kvm_vcpu *vcpu;
	char *mem, *shared;

	TEST_ASSERT(!ftruncate(fd, 16 * SIZE_4K), "ftruncate");
	shared = mmap(NULL, 16 * SIZE_4K, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	mem = mmap(NULL, 16 * SIZE_4K, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	TEST_ASSERT(mem != MAP_FAILED && shared != MAP_FAILED, "mmap");
	fill(shared, 16);
	vcpu = create(0, 16 * SIZE_4K, mem);
	assert_pre_fault(vcpu, GPA, 16 * SIZE_4K);
	for (i = 0; i < 16; i++) {
		pfns[i] = pfn_of(mem + i * SIZE_4K);
		TEST_ASSERT_EQ(pfns[i], pfn_of(shared + i * SIZE_4K));
	}
	for (i = 0; i < 16; i++) {
		guest_store(vcpu, gva_of(i) + 8, i);
		TEST_ASSERT(pread(fd, &val, 8, i * SIZE_4K + 8) == 8, "pread");
		TEST_ASSERT(!val, "page %lu: the guest's store reached the file", (unsigned long)i);
		TEST_ASSERT(pfn_of(mem + i * SIZE_4K) != pfns[i], "the page is still shared");
		TEST_ASSERT_EQ(guest_load(vcpu, gva_of(i)), pattern(i));
	}
	kvm_vm_free(vcpu->vm);
}

/* The log knows nothing of it, and every store afterwards. */
TEST(logs_nothing)
{
	static const int advice[] = { MADV_NOHUGEPAGE, MADV_HUGEPAGE };
	u64 want[NPAGES / 64], got[NPAGES / 64], i;
	struct kvm_vcpu *vcpu;
	char *mem;
	int a;

	for (a = 0; a < ARRAY_SIZE(advice); a++) {
		mem = map_advised(SIZE, advice[a]);
		fill(mem, NPAGES);
		vcpu = create(KVM_MEM_LOG_DIRTY_PAGES, SIZE, mem);
		assert_pre_fault(vcpu, GPA, SIZE);
		memset(want, 0, sizeof(want));
		kvm_vm_get_dirty_log(vcpu->vm, SLOT, got);
		TEST_ASSERT(!memcmp(want, got, sizeof(want)), "pages are dirty that nobody wrote");
		for (i = 1; i < NPAGES; i += 17) {
			guest_store(vcpu, gva_of(i), i);
			want[i / 64] |= 1ULL << i % 64;
		}
		assert_pre_fault(vcpu, GPA, SIZE);
		kvm_vm_get_dirty_log(vcpu->vm, SLOT, got);
		TEST_ASSERT(!memcmp(want, got, sizeof(want)), "the log is not what the guest wrote");
		kvm_vm_free(vcpu->vm);
		munmap(mem, SIZE);
	}
}

/* Userspace's view of the vCPU stays, also in the middle of an exit that it is to complete. */
TEST(changes_no_exit)
{
	char *mem = map_advised(SIZE, MADV_NOHUGEPAGE);
	struct kvm_vcpu *vcpu = create(0, SIZE, mem);
	struct kvm_run *copy = malloc(SIZE_4K);
	u64 val;

	virt_pg_map(vcpu->vm, TEST_GVA - SIZE_4K, GPA + SIZE);
	guest_ask(vcpu, GUEST_OP_LOAD, TEST_GVA - SIZE_4K, 0);
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
	memcpy(copy, vcpu->run, SIZE_4K);
	assert_pre_fault(vcpu, GPA, SIZE);
	munmap(mem, SIZE_4K);
	TEST_ASSERT_ERRNO(pre_fault(vcpu, GPA, SIZE_4K, NULL), EFAULT);
	TEST_ASSERT(!memcmp(copy, vcpu->run, SIZE_4K), "kvm_run was written");
	*(u64 *)vcpu->run->mmio.data = 4711;
	TEST_ASSERT_EQ(guest_answer(vcpu, &val), NO_TRAP);
	TEST_ASSERT_EQ(val, 4711);
	kvm_vm_free(vcpu->vm);
}

static void on_alarm(int sig)
{
}

/* A signal ends it; what was done by then is done. */
TEST(interrupted)
{
	struct itimerval on = { .it_value = { .tv_usec = 5000 } };
	struct sigaction sa = { .sa_handler = on_alarm };
	u64 size = 128UL << 20, left = size, was;
	struct kvm_vcpu *vcpu = server_create();
	int ret, times = 0;
	char *mem;

	mem = map_advised(size, MADV_NOHUGEPAGE);
	vm_set_user_memory_region(vcpu->vm, SLOT, 0, GPA, size, mem);
	sigaction(SIGALRM, &sa, NULL);
	while (left) {
		setitimer(ITIMER_REAL, &on, NULL);
		was = left;
		ret = pre_fault(vcpu, GPA + size - left, left, &left);
		TEST_ASSERT(!ret || errno == EINTR, "errno %d", errno);
		TEST_ASSERT(!ret ^ (left == was), "ret %d, 0x%lx left", ret, (unsigned long)left);
		times += !!left;
	}
	TEST_ASSERT(times, "no signal came in time");
	kvm_vm_free(vcpu->vm);
	munmap(mem, size);
}

struct deleter {
	struct kvm_vm *vm;
	char *mem;
	bool stop;
	u64 rounds;
};

static void *delete_and_create(void *arg)
{
	struct deleter *d = arg;

	while (!READ_ONCE(d->stop)) {
		vm_set_user_memory_region(d->vm, SLOT, 0, GPA, 0, NULL);
		vm_set_user_memory_region(d->vm, SLOT, 0, GPA, SIZE, d->mem);
		d->rounds++;
	}
	return NULL;
}

/* The slot goes and comes meanwhile: never anything but done, not there, or not now. */
TEST(slot_comes_and_goes)
{
	struct deleter d = { .mem = map_advised(SIZE, MADV_NOHUGEPAGE) };
	struct kvm_vcpu *vcpu = create(0, SIZE, d.mem);
	u64 i, left, times[3] = {};
	pthread_t thread;
	int ret;

	d.vm = vcpu->vm;
	fill(d.mem, NPAGES);
	pthread_create(&thread, NULL, delete_and_create, &d);
	for (i = 0; i < 3000 || d.rounds < 20; i++) {
		ret = pre_fault(vcpu, GPA, SIZE, &left);
		TEST_ASSERT(!ret || errno == ENOENT || errno == EAGAIN, "errno %d", errno);
		times[!ret ? 0 : errno == ENOENT ? 1 : 2]++;
	}
	WRITE_ONCE(d.stop, true);
	pthread_join(thread, NULL);
	TH_LOG("%lu slots: %lu done, %lu ENOENT, %lu EAGAIN", (unsigned long)d.rounds,
	       (unsigned long)times[0], (unsigned long)times[1], (unsigned long)times[2]);
	assert_pre_fault(vcpu, GPA, SIZE);
	check_pages(vcpu, d.mem, 0, NPAGES, 31, false);
	kvm_vm_free(vcpu->vm);
}

static void *pre_fault_all(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	u64 i;

	for (i = 0; i < NPAGES; i += 8)
		assert_pre_fault(vcpu, GPA + i * SIZE_4K, 8 * SIZE_4K);
	return NULL;
}

static void crew_guest(u64 me)
{
	u64 i;

	for (i = 0; i < NPAGES; i++)
		GUEST_ASSERT_EQ(READ_ONCE(*(u64 *)(TEST_GVA + i * SIZE_4K)),
				i * 0x9e3779b97f4a7c15ULL | 1);
	GUEST_DONE();
}

/* All vCPUs at once, on the same memory. */
TEST(in_parallel)
{
	char *mem = map_advised(SIZE, MADV_NOHUGEPAGE);
	struct crew crew;
	int i;

	fill(mem, NPAGES);
	crew_create(&crew, crew_guest);
	crew_add_slot(&crew, SLOT, 0, GPA, SIZE, mem);
	crew_start(&crew, pre_fault_all);
	crew_join(&crew);
	for (i = 0; i < NR_VCPUS; i++)
		run_to_done(crew.vcpus[i]);
	kvm_vm_free(crew.vm);
}

int main(int argc, char *argv[])
{
	__TEST_REQUIRE(kvm_check_cap(KVM_CAP_PRE_FAULT_MEMORY), "KVM_CAP_PRE_FAULT_MEMORY is missing");
	return test_harness_run(argc, argv);
}
