/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of guest memory share: contents that tell one page from
 * another, huge pages of a size, and what the host kernel knows of a page.
 */
#ifndef SELFTEST_KVM_RS_MEM_H
#define SELFTEST_KVM_RS_MEM_H

#include <stdarg.h>
#include <sys/stat.h>
#include <sys/swap.h>

#include "kvm_rs_util.h"

#define SIZE_64K	0x10000UL

/* Contents of page @i, none of which is zero. */
static __maybe_unused u64 pattern(u64 i)
{
	return i * 0x9e3779b97f4a7c15ULL | 1;
}

static __maybe_unused u64 *page_word(void *mem, u64 i)
{
	return (u64 *)((char *)mem + i * SIZE_4K);
}

/* Page @i, counted from the start of what is mapped at TEST_GVA. */
static __maybe_unused u64 gva_of(u64 i)
{
	return TEST_GVA + i * SIZE_4K;
}

/*
 * The guest reads what the host wrote and the host reads what the guest wrote,
 * in @npages pages from @first every @step; @write_first decides whether the
 * first fault in a page is a store.
 */
static __maybe_unused void check_pages(struct kvm_vcpu *vcpu, void *mem, u64 first, u64 npages, u64 step,
			bool write_first)
{
	u64 i;

	for (i = first; i < first + npages; i += step) {
		if (write_first)
			guest_store(vcpu, gva_of(i) + 8, ~pattern(i));
		TEST_ASSERT(guest_load(vcpu, gva_of(i)) == pattern(i),
			    "page %lu: the guest sees another page", (unsigned long)i);
		if (!write_first)
			guest_store(vcpu, gva_of(i) + 8, ~pattern(i));
	}
	for (i = first; i < first + npages; i += step)
		TEST_ASSERT(page_word(mem, i)[1] == ~pattern(i) &&
			    page_word(mem, i)[0] == pattern(i),
			    "page %lu: the host sees another page", (unsigned long)i);
}

static __maybe_unused void fill(void *mem, u64 npages)
{
	u64 i;

	for (i = 0; i < npages; i++) {
		page_word(mem, i)[0] = pattern(i);
		page_word(mem, i)[1] = 0;
	}
}

static __maybe_unused u64 xorshift(u64 *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/* Anonymous memory of which @advice is true. */
static __maybe_unused char *map_advised(size_t size, int advice)
{
	char *mem = mmap_at(size, SIZE_2M, 0, MAP_ANON_PRIVATE, -1);

	TEST_ASSERT(mem != MAP_FAILED, "mmap");
	if (madvise(mem, size, advice))
		pr_info("# madvise(%d): %s\n", advice, strerror(errno));
	return mem;
}

/* Writes a file of the kernel's; false if it cannot be had. */
static __maybe_unused bool knob_set(const char *path, const char *fmt, ...)
{
	int fd = open(path, O_WRONLY);
	va_list ap;
	bool ok;

	if (fd < 0)
		return false;
	va_start(ap, fmt);
	ok = vdprintf(fd, fmt, ap) > 0;
	va_end(ap);
	close(fd);
	return ok;
}

/* The first number in a file of the kernel's, or -1. */
static __maybe_unused long knob_get(const char *path)
{
	int fd = open(path, O_RDONLY);
	char val[32] = "";
	long ret = -1;

	if (fd >= 0 && read(fd, val, sizeof(val) - 1) > 0)
		ret = atol(val);
	if (fd >= 0)
		close(fd);
	return ret;
}

/* Eager splitting of huge pages as @on, if the module has the choice. */
static __maybe_unused bool set_eager_split(const char *on)
{
	return knob_set("/sys/module/kvm/parameters/eager_page_split", "%s", on);
}

#define MAP_HUGE_OF(size)	(MAP_HUGETLB | __builtin_ctzl(size) << MAP_HUGE_SHIFT)
#define MFD_HUGE_OF(size)	(MFD_HUGETLB | __builtin_ctzl(size) << MAP_HUGE_SHIFT)

#define HUGETLB_KNOB	"/sys/kernel/mm/hugepages/hugepages-%lukB/%s_hugepages"

static __maybe_unused long hugetlb_knob(u64 size, const char *which)
{
	char path[96];

	snprintf(path, sizeof(path), HUGETLB_KNOB, (unsigned long)size / 1024, which);
	return knob_get(path);
}

/* Huge pages that nobody has, or was promised. */
static __maybe_unused long hugetlb_left(u64 size)
{
	return hugetlb_knob(size, "free") - hugetlb_knob(size, "resv");
}

/* Sees to it that @n huge pages of @size are there; false if the kernel has none such. */
static __maybe_unused bool hugetlb_reserve(u64 size, long n)
{
	char path[96];
	long lacking;
	int i;

	if (hugetlb_knob(size, "nr") < 0)
		return false;
	/* What a process that just ended had may not be back yet. */
	for (i = 0; i < 20 && hugetlb_left(size) < n && hugetlb_knob(size, "nr") >= n; i++)
		usleep(100000);
	lacking = n - hugetlb_left(size);
	if (lacking > 0) {
		/* Those of 1G can hardly be made after boot: the machine has one. */
		snprintf(path, sizeof(path), HUGETLB_KNOB, (unsigned long)size / 1024, "nr");
		knob_set(path, "%ld", hugetlb_knob(size, "nr") + lacking);
	}
	return hugetlb_left(size) >= n;
}

/* @len bytes of huge pages, private; or NULL. */
static __maybe_unused char *hugetlb_map(u64 size, u64 len)
{
	char *mem;

	if (!hugetlb_reserve(size, len / size))
		return NULL;
	mem = mmap_at(len, size, 0, MAP_ANON_PRIVATE | MAP_HUGE_OF(size), -1);
	return mem == MAP_FAILED ? NULL : mem;
}

#define PAGEMAP_PRESENT		(1ULL << 63)
#define PAGEMAP_SWAPPED		(1ULL << 62)

static __maybe_unused u64 pagemap_entry(void *addr)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	u64 entry = 0;

	TEST_ASSERT(fd >= 0, "no /proc/self/pagemap");
	TEST_ASSERT(pread(fd, &entry, 8, (unsigned long)addr / SIZE_4K * 8) == 8, "pagemap");
	close(fd);
	return entry;
}

/* The host's page frame at @addr, or 0. */
static __maybe_unused u64 pfn_of(void *addr)
{
	u64 entry = pagemap_entry(addr);

	return entry & PAGEMAP_PRESENT ? entry & ((1ULL << 55) - 1) : 0;
}

#define KPF_KSM			(1ULL << 21)

/* Whether the host's page at @addr is one that ksmd made of several. */
static __maybe_unused bool is_ksm(void *addr)
{
	u64 pfn = pfn_of(addr), flags = 0;
	int fd = open("/proc/kpageflags", O_RDONLY);

	TEST_ASSERT(fd >= 0, "no /proc/kpageflags");
	TEST_ASSERT(!pfn || pread(fd, &flags, 8, pfn * 8) == 8, "kpageflags");
	close(fd);
	return flags & KPF_KSM;
}

/* Whether so are all of @npages. */
static __maybe_unused bool are_ksm(void *mem, u64 npages)
{
	u64 i;

	for (i = 0; i < npages && is_ksm(page_word(mem, i)); i++)
		;
	return i == npages;
}

/*
 * The host's page_idle bitmap.  A page is marked idle, which ages all its
 * mappings, and is idle no more once somebody used it.
 */
static __maybe_unused int idle_open(void)
{
	/* Only what is on an LRU list can be marked idle: this puts it there. */
	knob_set("/proc/sys/vm/drop_caches", "1");
	return open("/sys/kernel/mm/page_idle/bitmap", O_RDWR);
}

static __maybe_unused void idle_mark(int fd, u64 pfn)
{
	u64 bit = 1ULL << pfn % 64;

	TEST_ASSERT(pwrite(fd, &bit, 8, pfn / 64 * 8) == 8, "page_idle: %s", strerror(errno));
}

static __maybe_unused bool idle_test(int fd, u64 pfn)
{
	u64 bits;

	TEST_ASSERT(pread(fd, &bits, 8, pfn / 64 * 8) == 8, "page_idle: %s", strerror(errno));
	return bits >> pfn % 64 & 1;
}

/*
 * Swap on /dev/ram0, for as long as the program runs; the kernel takes no
 * anonymous page away without.  False if it cannot be had.
 */
#define SWAP_DEVICE	"/dev/ram0"
#define SWAP_PAGES	16384U

static pid_t swap_owner __maybe_unused;

static __maybe_unused void swap_stop(void)
{
	if (getpid() == swap_owner)
		swapoff(SWAP_DEVICE);
}

static __maybe_unused bool swap_start(void)
{
	/* Version 1 of the header: 1 KiB for a boot block, then this; the magic ends the page. */
	const u32 head[] = { 1, SWAP_PAGES - 1, 0 };
	int fd = open(SWAP_DEVICE, O_RDWR);
	char page[SIZE_4K] = {};

	if (fd < 0)
		return false;
	memcpy(page + 1024, head, sizeof(head));
	memcpy(page + SIZE_4K - 10, "SWAPSPACE2", 10);
	/* Busy if a program was killed before it came to swap_stop(). */
	if (pwrite(fd, page, sizeof(page), 0) != sizeof(page) && errno == ETXTBSY) {
		close(fd);
		return true;
	}
	fsync(fd);
	close(fd);
	if (swapon(SWAP_DEVICE, 0))
		return false;
	swap_owner = getpid();
	atexit(swap_stop);
	return true;
}

/* Moves the calling process to a memory cgroup of its own; its path, or NULL. */
static __maybe_unused const char *memcg_enter(const char *name)
{
	static char path[64], file[96];

	knob_set("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	snprintf(path, sizeof(path), "/sys/fs/cgroup/%s", name);
	if (mkdir(path, 0755) && errno != EEXIST)
		return NULL;
	snprintf(file, sizeof(file), "%s/cgroup.procs", path);
	return knob_set(file, "%d", getpid()) ? path : NULL;
}

static __maybe_unused bool memcg_set(const char *path, const char *knob, const char *value)
{
	char file[96];

	snprintf(file, sizeof(file), "%s/%s", path, knob);
	return knob_set(file, "%s", value);
}

static __maybe_unused long memcg_get(const char *path, const char *knob)
{
	char file[96];

	snprintf(file, sizeof(file), "%s/%s", path, knob);
	return knob_get(file);
}

/*
 * vCPUs that run on threads of their own.  Each is told its number.
 */
#define NR_VCPUS	4

struct crew {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR_VCPUS];
	pthread_t threads[NR_VCPUS];
};

static __maybe_unused void crew_create(struct crew *crew, void *guest_code)
{
	int i;

	crew->vm = vm_create_with_vcpus(NR_VCPUS, guest_code, crew->vcpus);
	for (i = 0; i < NR_VCPUS; i++)
		vcpu_args_set(crew->vcpus[i], 1, (u64)i);
}

/* A memslot at @gpa, which the guest sees at TEST_GVA. */
static __maybe_unused void crew_add_slot(struct crew *crew, u32 slot, u32 flags, u64 gpa,
					 u64 size, void *mem)
{
	u64 off;

	vm_set_user_memory_region(crew->vm, slot, flags, gpa, size, mem);
	for (off = 0; off < size; off += SIZE_4K)
		virt_pg_map(crew->vm, TEST_GVA + off, gpa + off);
}

static __maybe_unused void *crew_run_to_done(void *vcpu)
{
	run_to_done(vcpu);
	return NULL;
}

static __maybe_unused void crew_start(struct crew *crew, void *(*thread)(void *))
{
	int i;

	for (i = 0; i < NR_VCPUS; i++)
		pthread_create(&crew->threads[i], NULL, thread, crew->vcpus[i]);
}

/* All vCPUs are done, or will be in @seconds. */
static __maybe_unused void crew_join_within(struct crew *crew, int seconds)
{
	struct timespec end;
	int i;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += seconds;
	for (i = 0; i < NR_VCPUS; i++)
		TEST_ASSERT(!pthread_timedjoin_np(crew->threads[i], NULL, &end),
			    "vCPU %d never ends", i);
}

static __maybe_unused void crew_join(struct crew *crew)
{
	/* Before the harness, which would not say who. */
	crew_join_within(crew, TEST_TIMEOUT_DEFAULT / 2);
}

#endif /* SELFTEST_KVM_RS_MEM_H */
