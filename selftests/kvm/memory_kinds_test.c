// SPDX-License-Identifier: GPL-2.0
/* on-c: pass */
/* covers: mmu/fault.rs kvm_core/hostmm.rs gstage/install.rs */
/*
 * Every kind of memory that a host can put behind a slot, by every access, before
 * and after what the host can do to it.  The guest must see the host's contents
 * and the host the guest's.  Each line of the output tells how many G-stage
 * faults it took: test_kinds.py compares them between the two modules.
 *
 *   thp store mprotect: first 2 second 2 4K 0 64K 0 2M 2 1G 0
 *
 * "first" counts the faults of a guest that touches 96 pages once, "second"
 * those of the same after the event; the rest is what maps the slot in the end,
 * where the module can tell.  Combinations that the host does not have, or the
 * module refuses, have lines of their own.
 *
 * Arguments: the only kind, access and event, each of which may be "-" for all.
 */
#include <dirent.h>
#include <linux/userfaultfd.h>
#include <linux/vfio.h>
#include <sys/mount.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>

#include "kvm_rs_pgtable.h"

#define SLOT	1
#define GPA	SIZE_1G
#define SIZE	(2 * SIZE_2M)

/* jalr zero, 0(ra) */
#define RET	0x8067UL

#define TRACE	"/sys/kernel/tracing/instances/memory_kinds"
#define THP	"/sys/kernel/mm/transparent_hugepage/"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif
#ifndef __NR_memfd_secret
#define __NR_memfd_secret	447
#endif

/* Memory of one kind, as a slot has it. */
struct mem {
	char *slot;		/* the slot's first page */
	u64 first;		/* which page of the guest's that is */
	u64 npages;		/* those of it that the guest may touch */
	u64 slot_size;
	u32 flags;
	char *map;		/* all of it */
	u64 map_size;
	int fd;
	bool is_anon, is_hugetlb;
};

static struct kvm_vcpu *vcpu;

/* The pages of each 2M that the guest touches: the first two windows of 64K, and the last. */
static bool is_touched(u64 i)
{
	return i % 512 < 32 || i % 512 >= 496;
}

/* First word of page @i of a slot, a function. */
static u64 code(u64 i)
{
	return i << 32 | RET;
}

static void write_code(char *mem, u64 npages)
{
	u64 i;

	for (i = 0; i < npages; i++)
		page_word(mem, i)[0] = code(i);
}

/* The guest: one access to each of some pages. */

enum access { LOAD, STORE, FETCH, NR_ACCESSES };

static const char * const access_name[] = { "load", "store", "fetch" };

static struct {
	u64 access, first, end, step, value;
} batch;

static u64 nr_illegal;

static void handle_illegal(struct pt_regs *regs)
{
	/* A page of zeros. */
	nr_illegal++;
	regs->epc = regs->ra;
}

static void guest_batches(void)
{
	u64 i, sum;

	for (;;) {
		barrier();
		sum = 0;
		nr_illegal = 0;
		for (i = batch.first; i < batch.end; i += batch.step) {
			u64 *word = (u64 *)(TEST_GVA + i * SIZE_4K);

			if (!is_touched(i))
				continue;
			switch (batch.access) {
			case LOAD:
				sum += READ_ONCE(word[0]);
				break;
			case STORE:
				WRITE_ONCE(word[1], batch.value + i);
				break;
			default:
				((void (*)(void))word)();
			}
		}
		barrier();
		GUEST_SYNC2(sum, nr_illegal);
	}
}

/* Faults of the slot since the last time: what the trace has, with what it has no more. */
static u64 faults(void)
{
	static u64 last;
	u64 sum = 0, n;
	char line[128];
	int cpu;
	FILE *f;

	for (cpu = 0; cpu < get_nprocs_conf(); cpu++) {
		snprintf(line, sizeof(line), TRACE "/per_cpu/cpu%d/stats", cpu);
		f = fopen(line, "r");
		TEST_ASSERT(f, "no %s", line);
		while (fgets(line, sizeof(line), f))
			if (sscanf(line, "entries: %lu", (unsigned long *)&n) == 1 ||
			    sscanf(line, "overrun: %lu", (unsigned long *)&n) == 1)
				sum += n;
		fclose(f);
	}
	n = sum - last;
	last = sum;
	return n;
}

static bool trace_start(void)
{
	rmdir(TRACE);
	return !mkdir(TRACE, 0700) &&
	       knob_set(TRACE "/events/kvm/kvm_exit/filter",
			"(scause == 20 || scause == 21 || scause == 23) && htval >= %lu && htval < %lu",
			GPA / 4, 2 * GPA / 4) &&
	       knob_set(TRACE "/events/kvm/kvm_exit/enable", "1");
}

static void trace_stop(void)
{
	knob_set(TRACE "/events/kvm/kvm_exit/enable", "0");
	rmdir(TRACE);
}

/* What the guest did is what the host sees. */
static void check(const struct mem *mem, enum access access, u64 value, u64 step,
		  const struct ucall *uc)
{
	u64 i, sum = 0, zeros = 0;

	for (i = mem->first; i < mem->first + mem->npages; i += step) {
		u64 *word = page_word(mem->slot, i - mem->first);

		if (!is_touched(i))
			continue;
		sum += word[0];
		zeros += !word[0];
		if (access == STORE)
			TEST_ASSERT(word[1] == value + i, "page %lu: the host has %lx, not %lx",
				    (unsigned long)i, (unsigned long)word[1],
				    (unsigned long)(value + i));
	}
	if (access == LOAD)
		TEST_ASSERT_EQ(uc->args[0], sum);
	TEST_ASSERT_EQ(uc->args[1], access == FETCH ? zeros : 0);
}

#define REFUSED		-1L
#define NEVER_ENDS	-2L

/* More faults than there can be, by far. */
#define MANY_FAULTS	2000

/* The guest touches every @step'th page; how many faults that took, or why it has not. */
static long touch(const struct mem *mem, enum access access, u64 step)
{
	static u64 value;
	struct ucall uc;
	long n = 0;

	value += 0x100000;
	batch.access = access;
	batch.first = mem->first;
	batch.end = mem->first + mem->npages;
	batch.step = step;
	batch.value = value;
	sync_global_to_guest(vcpu->vm, batch);
	faults();
	while (vcpu_run_limited(vcpu, 500)) {
		TEST_ASSERT(errno == EFAULT || errno == EINTR, "KVM_RUN: %s", strerror(errno));
		if (errno == EFAULT)
			n = REFUSED;
		else if ((n += faults()) > MANY_FAULTS)
			n = NEVER_ENDS;
		if (n < 0) {
			/* Not where it was: the next memory is another. */
			vcpu_arch_set_entry_point(vcpu, guest_batches);
			return n;
		}
	}
	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_SYNC, "exit %u", vcpu->run->exit_reason);
	n += faults();
	check(mem, access, value, step, &uc);
	return n;
}

/* Kinds: each maps its memory, or tells that the host has none such. */

/* The slot has all but @off bytes at the begin, with the same offset for the guest. */
static bool finish(struct mem *mem, u64 off, u64 size)
{
	mem->map_size = size;
	mem->slot = mem->map + off;
	mem->first = off / SIZE_4K;
	mem->slot_size = size - off;
	mem->npages = (min(size, SIZE) - off) / SIZE_4K;
	return true;
}

static bool map_anon(struct mem *mem, int advice, u64 off)
{
	mem->map = map_advised(SIZE, advice);
	mem->is_anon = true;
	return finish(mem, off, SIZE);
}

static bool anon(struct mem *mem, int advice, u64 off)
{
	map_anon(mem, advice, off);
	write_code(mem->slot, mem->npages);
	return true;
}

static bool anon_4k(struct mem *mem)
{
	return anon(mem, MADV_NOHUGEPAGE, 0);
}

static bool anon_absent(struct mem *mem)
{
	return map_anon(mem, MADV_NOHUGEPAGE, 0);
}

static bool thp(struct mem *mem)
{
	return anon(mem, MADV_HUGEPAGE, 0);
}

static bool thp_absent(struct mem *mem)
{
	return map_anon(mem, MADV_HUGEPAGE, 0);
}

static bool thp_at_4k(struct mem *mem)
{
	return anon(mem, MADV_HUGEPAGE, SIZE_4K);
}

static bool thp_at_64k(struct mem *mem)
{
	return anon(mem, MADV_HUGEPAGE, SIZE_64K);
}

/* The guest has it elsewhere in its own 2M. */
static bool shift(struct mem *mem)
{
	mem->first = 0;
	return true;
}

static bool thp_shifted_4k(struct mem *mem)
{
	return anon(mem, MADV_HUGEPAGE, SIZE_4K) && shift(mem);
}

static bool thp_shifted_64k(struct mem *mem)
{
	return anon(mem, MADV_HUGEPAGE, SIZE_64K) && shift(mem);
}

static bool thp_read_only(struct mem *mem)
{
	mem->flags = KVM_MEM_READONLY;
	return anon(mem, MADV_HUGEPAGE, 0);
}

static bool mthp_64k(struct mem *mem)
{
	bool ok;

	if (!knob_set(THP "hugepages-64kB/enabled", "always") ||
	    !knob_set(THP "hugepages-2048kB/enabled", "never"))
		return false;
	ok = anon(mem, MADV_HUGEPAGE, 0);
	knob_set(THP "hugepages-64kB/enabled", "never");
	knob_set(THP "hugepages-2048kB/enabled", "inherit");
	return ok;
}

static bool zero_page(struct mem *mem)
{
	return map_anon(mem, MADV_NOHUGEPAGE, 0) &&
	       !madvise(mem->map, SIZE, MADV_POPULATE_READ);
}

static bool huge_zero_page(struct mem *mem)
{
	return map_anon(mem, MADV_HUGEPAGE, 0) && !madvise(mem->map, SIZE, MADV_POPULATE_READ);
}

static bool map_fd(struct mem *mem, int fd, int flags)
{
	if (fd < 0)
		return false;
	mem->fd = fd;
	mem->map = mmap_at(SIZE, SIZE_2M, 0, flags, fd);
	return mem->map != MAP_FAILED && finish(mem, 0, SIZE);
}

/* A file of which page @i begins with code(i). */
static bool file(struct mem *mem, int fd, int flags)
{
	u64 i, word;

	if (fd < 0 || ftruncate(fd, SIZE))
		return false;
	for (i = 0; i < SIZE / SIZE_4K; i++) {
		word = code(i);
		TEST_ASSERT(pwrite(fd, &word, 8, i * SIZE_4K) == 8, "pwrite: %s", strerror(errno));
	}
	return map_fd(mem, fd, flags) && !madvise(mem->map, SIZE, MADV_POPULATE_READ);
}

static bool shmem(struct mem *mem)
{
	return file(mem, memfd_create("kinds", 0), MAP_SHARED);
}

static bool shmem_thp(struct mem *mem)
{
	int fd = memfd_create("kinds", 0);
	bool ok;

	if (!knob_set(THP "shmem_enabled", "advise") || ftruncate(fd, SIZE))
		return false;
	ok = map_fd(mem, fd, MAP_SHARED) && !madvise(mem->map, SIZE, MADV_HUGEPAGE);
	if (ok)
		write_code(mem->slot, mem->npages);
	knob_set(THP "shmem_enabled", "never");
	return ok;
}

static bool shm_locked(struct mem *mem)
{
	int id = shmget(IPC_PRIVATE, SIZE, IPC_CREAT | 0600);

	if (id < 0)
		return false;
	mem->map = shmat(id, mmap_at(SIZE, SIZE_2M, 0, MAP_ANON_PRIVATE, -1), SHM_REMAP);
	shmctl(id, SHM_LOCK, NULL);
	shmctl(id, IPC_RMID, NULL);
	if (mem->map == (void *)-1)
		return false;
	finish(mem, 0, SIZE);
	write_code(mem->slot, mem->npages);
	return true;
}

static int open_unlinked(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	unlink(path);
	return fd;
}

static bool file_shared(struct mem *mem)
{
	return file(mem, open_unlinked("/tmp/memory_kinds"), MAP_SHARED);
}

static bool file_private(struct mem *mem)
{
	return file(mem, open_unlinked("/tmp/memory_kinds"), MAP_PRIVATE);
}

#define RAMFS	"/tmp/memory_kinds.d"

/* Its pages are never reclaimed: they have AS_UNEVICTABLE, like secret memory. */
static bool ramfs(struct mem *mem)
{
	int fd;

	mkdir(RAMFS, 0700);
	if (mount("none", RAMFS, "ramfs", 0, NULL))
		return false;
	fd = open_unlinked(RAMFS "/file");
	umount2(RAMFS, MNT_DETACH);
	rmdir(RAMFS);
	return file(mem, fd, MAP_SHARED);
}

static bool secret(struct mem *mem)
{
	int fd = syscall(__NR_memfd_secret, 0);

	if (fd < 0 || ftruncate(fd, SIZE))
		return false;
	return map_fd(mem, fd, MAP_SHARED);
}

static bool hugetlb(struct mem *mem, u64 page, u64 off)
{
	u64 size = max(page, SIZE);

	mem->map = hugetlb_map(page, size);
	if (!mem->map)
		return false;
	mem->is_anon = page < SIZE_1G;
	mem->is_hugetlb = true;
	finish(mem, off, size);
	write_code(mem->slot, mem->npages);
	return true;
}

static bool hugetlb_64k(struct mem *mem)
{
	return hugetlb(mem, SIZE_64K, 0);
}

static bool hugetlb_64k_at_4k(struct mem *mem)
{
	return hugetlb(mem, SIZE_64K, SIZE_4K);
}

static bool hugetlb_2m(struct mem *mem)
{
	return hugetlb(mem, SIZE_2M, 0);
}

static bool hugetlb_2m_at_64k(struct mem *mem)
{
	return hugetlb(mem, SIZE_2M, SIZE_64K);
}

static bool hugetlb_1g(struct mem *mem)
{
	return hugetlb(mem, SIZE_1G, 0);
}

static bool ksm(struct mem *mem)
{
	u64 i;

	anon(mem, MADV_NOHUGEPAGE, 0);
	mem->npages = 64;
	mem->slot_size = mem->npages * SIZE_4K;
	for (i = 0; i < mem->npages; i++)
		page_word(mem->slot, i)[0] = RET;
	if (!knob_set("/sys/kernel/mm/ksm/sleep_millisecs", "0") ||
	    madvise(mem->slot, mem->slot_size, MADV_MERGEABLE))
		return false;
	knob_set("/sys/kernel/mm/ksm/pages_to_scan", "10000");
	knob_set("/sys/kernel/mm/ksm/run", "1");
	TEST_ASSERT(eventually_within(2 * HANG_MS, are_ksm(mem->slot, mem->npages)), "not merged");
	knob_set("/sys/kernel/mm/ksm/run", "0");
	return true;
}

static bool swapped(struct mem *mem)
{
	if (!swap_start())
		return false;
	return anon_4k(mem) && !madvise(mem->map, SIZE, MADV_PAGEOUT);
}

/* The device whose memory these tests map: QEMU's ivshmem, whose BAR 2 is memory. */
static const char *ivshmem(void)
{
	static char name[32];
	struct dirent *entry;
	char path[320], id[32];
	DIR *dir;
	int fd;

	dir = opendir("/sys/bus/pci/devices");
	while (!name[0] && dir && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/modalias", entry->d_name);
		fd = open(path, O_RDONLY);
		if (fd < 0)
			continue;
		if (read(fd, id, sizeof(id)) == sizeof(id) &&
		    !strncmp(id, "pci:v00001AF4d00001110", 22))
			strcpy(name, entry->d_name);
		close(fd);
	}
	if (dir)
		closedir(dir);
	return name[0] ? name : NULL;
}

static bool map_bar(struct mem *mem, int fd, u64 offset)
{
	char *at = mmap_at(SIZE, SIZE_2M, 0, MAP_ANON_PRIVATE, -1);

	mem->fd = fd;
	mem->map = mmap(at, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, offset);
	if (mem->map == MAP_FAILED)
		return false;
	finish(mem, 0, SIZE);
	write_code(mem->slot, mem->npages);
	return true;
}

/* A BAR by small pages. */
static bool pfnmap(struct mem *mem)
{
	const char *dev = ivshmem();
	char path[128];
	int fd;

	if (!dev)
		return false;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/enable", dev);
	knob_set(path, "1");
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource2", dev);
	fd = open(path, O_RDWR);
	return fd >= 0 && map_bar(mem, fd, 0);
}

/* The same by huge ones, as VFIO maps it.  There is one for the whole program. */
static int vfio_device(u64 *offset)
{
	struct vfio_region_info info = { .argsz = sizeof(info), .index = 2 };
	static int device = -1;
	static bool tried;
	const char *dev = ivshmem();
	char path[128], group[128] = "";
	int container, fd;

	if (!tried && dev) {
		tried = true;
		knob_set("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "1");
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver_override", dev);
		knob_set(path, "vfio-pci");
		knob_set("/sys/bus/pci/drivers_probe", "%s", dev);
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", dev);
		if (readlink(path, group, sizeof(group) - 1) < 0)
			return -1;
		snprintf(path, sizeof(path), "/dev/vfio/noiommu-%s", strrchr(group, '/') + 1);
		container = open("/dev/vfio/vfio", O_RDWR);
		fd = open(path, O_RDWR);
		if (fd < 0 || ioctl(fd, VFIO_GROUP_SET_CONTAINER, &container) ||
		    ioctl(container, VFIO_SET_IOMMU, VFIO_NOIOMMU_IOMMU))
			return -1;
		device = ioctl(fd, VFIO_GROUP_GET_DEVICE_FD, dev);
	}
	if (device < 0 || ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info) || info.size < SIZE)
		return -1;
	*offset = info.offset;
	return dup(device);
}

static bool pfnmap_huge(struct mem *mem)
{
	u64 offset;
	int fd = vfio_device(&offset);

	return fd >= 0 && map_bar(mem, fd, offset);
}

static const struct {
	const char *name;
	bool (*map)(struct mem *mem);
	bool all_events;	/* or else only those that are common */
} kinds[] = {
	{ "anon", anon_4k, true },
	{ "anon-absent", anon_absent },
	{ "thp", thp, true },
	{ "thp-absent", thp_absent },
	{ "thp-at-4k", thp_at_4k },
	{ "thp-at-64k", thp_at_64k },
	{ "thp-shifted-4k", thp_shifted_4k },
	{ "thp-shifted-64k", thp_shifted_64k },
	{ "thp-read-only", thp_read_only },
	{ "mthp-64k", mthp_64k },
	{ "zero-page", zero_page },
	{ "huge-zero-page", huge_zero_page, true },
	{ "shmem", shmem },
	{ "shmem-thp", shmem_thp, true },
	{ "shm-locked", shm_locked },
	{ "file-shared", file_shared },
	{ "file-private", file_private },
	{ "ramfs", ramfs },
	{ "secret", secret },
	{ "hugetlb-64k", hugetlb_64k, true },
	{ "hugetlb-64k-at-4k", hugetlb_64k_at_4k },
	{ "hugetlb-2m", hugetlb_2m },
	{ "hugetlb-2m-at-64k", hugetlb_2m_at_64k },
	{ "hugetlb-1g", hugetlb_1g },
	{ "ksm", ksm },
	{ "swapped", swapped },
	{ "pfnmap", pfnmap },
	{ "pfnmap-huge", pfnmap_huge },
};

/* Events: what the host does between the guest's two rounds; false if it cannot. */

static bool none(struct mem *mem, enum access access)
{
	return true;
}

static bool dontneed(struct mem *mem, enum access access)
{
	return !madvise(mem->map, mem->map_size, MADV_DONTNEED);
}

static bool lazy_free(struct mem *mem, enum access access)
{
	return !madvise(mem->map, mem->map_size, MADV_FREE);
}

static bool cold(struct mem *mem, enum access access)
{
	return !madvise(mem->map, mem->map_size, MADV_COLD);
}

static bool pageout(struct mem *mem, enum access access)
{
	return swap_start() && !madvise(mem->map, mem->map_size, MADV_PAGEOUT);
}

static bool collapse(struct mem *mem, enum access access)
{
	madvise(mem->map, mem->map_size, MADV_HUGEPAGE);
	return !madvise(mem->map, mem->map_size, MADV_COLLAPSE);
}

/* A page in the middle of each 2M has other rights for a moment. */
static bool split(struct mem *mem, enum access access)
{
	u64 at;

	for (at = SIZE_2M / 2; at < min(mem->map_size, SIZE); at += SIZE_2M)
		if (mprotect(mem->map + at, SIZE_4K, PROT_READ) ||
		    mprotect(mem->map + at, SIZE_4K, PROT_READ | PROT_WRITE))
			return false;
	return true;
}

static pid_t child;

static bool forked(struct mem *mem, enum access access)
{
	child = fork();
	if (!child) {
		pause();
		_exit(0);
	}
	return child > 0;
}

static bool protect(struct mem *mem, enum access access)
{
	return !mprotect(mem->map, mem->map_size, PROT_READ) &&
	       !mprotect(mem->map, mem->map_size, PROT_READ | PROT_WRITE);
}

/* To another address and back. */
static bool moved(struct mem *mem, enum access access)
{
	char *away = mmap_at(mem->map_size, max(SIZE_2M, mem->map_size), 0, MAP_ANON_PRIVATE, -1);
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED;

	return mremap(mem->map, mem->map_size, mem->map_size, flags, away) == away &&
	       mremap(away, mem->map_size, mem->map_size, flags, mem->map) == mem->map;
}

/* New memory, after the old one went in halves, the latter first. */
static bool in_pieces(struct mem *mem, enum access access)
{
	u64 at, half = SIZE_2M / 2;
	char *map;

	if (!mem->is_anon || mem->map_size != SIZE)
		return false;
	for (at = 0; at < SIZE; at += SIZE_2M)
		if (munmap(mem->map + at + half, half) || munmap(mem->map + at, half))
			return false;
	map = mmap(mem->map, SIZE, PROT_READ | PROT_WRITE, MAP_ANON_PRIVATE | MAP_FIXED, -1, 0);
	if (map != mem->map || madvise(map, SIZE, MADV_HUGEPAGE))
		return false;
	write_code(mem->slot, mem->npages);
	return true;
}

/* A userfaultfd gives every page anew. */
static bool userfault(struct mem *mem, enum access access)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_range range = { .start = (u64)mem->map, .len = SIZE };
	struct uffdio_register reg = { .range = range, .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_copy copy = { .dst = range.start, .len = SIZE };
	int fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	char *from = NULL;
	bool ok;

	ok = fd >= 0 && mem->is_anon && mem->map_size == SIZE && !ioctl(fd, UFFDIO_API, &api) &&
	     !ioctl(fd, UFFDIO_REGISTER, &reg);
	if (ok) {
		from = map_advised(SIZE, MADV_NOHUGEPAGE);
		copy.src = (u64)from;
		write_code(from + (mem->slot - mem->map), mem->npages);
		ok = !madvise(mem->map, SIZE, MADV_DONTNEED) && !ioctl(fd, UFFDIO_COPY, &copy) &&
		     !ioctl(fd, UFFDIO_UNREGISTER, &range);
		munmap(from, SIZE);
	}
	close(fd);
	return ok;
}

static bool set_flags(struct mem *mem, u32 flags)
{
	return !__vm_set_user_memory_region(vcpu->vm, SLOT, mem->flags | flags,
					    GPA + mem->first * SIZE_4K, mem->slot_size, mem->slot);
}

/* The slot is logged for a while, in which the guest touches some of it. */
static bool logged(struct mem *mem, enum access access)
{
	if (!set_flags(mem, KVM_MEM_LOG_DIRTY_PAGES))
		return false;
	touch(mem, access, 5);
	return set_flags(mem, 0);
}

static bool is_anon(const struct mem *mem)
{
	return mem->is_anon;
}

static bool is_not_hugetlb(const struct mem *mem)
{
	return !mem->is_hugetlb;
}

static const struct {
	const char *name;
	bool (*happen)(struct mem *mem, enum access access);
	bool is_common;
	bool for_fetch;		/* or else only loads and stores come before and after it */
	bool (*is_for)(const struct mem *mem);
} events[] = {
	{ "none", none, true, true },
	{ "dontneed", dontneed, true },
	{ "free", lazy_free, false, false, is_anon },
	{ "cold", cold, false, false, is_not_hugetlb },
	{ "pageout", pageout, false, true, is_not_hugetlb },
	{ "collapse", collapse, false, true, is_not_hugetlb },
	{ "split", split, false, false, is_not_hugetlb },
	{ "fork", forked },
	{ "mprotect", protect },
	{ "mremap", moved },
	{ "in-pieces", in_pieces, false, false, is_anon },
	{ "userfault", userfault, false, false, is_anon },
	{ "log", logged, true, true },
};

static struct dump dump;

static void print_sizes(void)
{
	static const struct {
		const char *name;
		u64 size;
	} sizes[] = { { "4K", SIZE_4K }, { "64K", SIZE_64K }, { "2M", SIZE_2M }, { "1G", SIZE_1G } };
	FILE *f = dump_open(vcpu->vm);
	int i;

	if (!f)
		return;
	fclose(f);
	dump_read(vcpu->vm, &dump);
	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		printf(" %s %lu", sizes[i].name,
		       (unsigned long)(dump_bytes(&dump, GPA, SIZE_1G, sizes[i].size) / sizes[i].size));
}

static void run_one(int kind, enum access access, int event)
{
	struct mem mem = { .fd = -1, .map = MAP_FAILED };
	long first, second;

	if (!kinds[kind].map(&mem)) {
		printf("%s %s %s: not here\n", kinds[kind].name, access_name[access],
		       events[event].name);
		goto unmap;
	}
	if (access == STORE && mem.flags & KVM_MEM_READONLY)
		goto unmap;
	if (events[event].is_for && !events[event].is_for(&mem))
		goto unmap;
	printf("%s %s %s:", kinds[kind].name, access_name[access], events[event].name);
	fflush(stdout);
	TEST_ASSERT(set_flags(&mem, 0), "no slot: %s", strerror(errno));
	child = 0;
	first = touch(&mem, access, 1);
	if (first < 0) {
		printf(first == REFUSED ? " refused\n" : " never ends\n");
	} else if (!events[event].happen(&mem, access)) {
		printf(" not for it\n");
	} else {
		second = touch(&mem, access, 1);
		if (second < 0) {
			printf(second == REFUSED ? " refused\n" : " never ends\n");
		} else {
			printf(" first %ld second %ld", first, second);
			print_sizes();
			printf("\n");
		}
	}
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	vm_set_user_memory_region(vcpu->vm, SLOT, 0, GPA, 0, NULL);
unmap:
	if (mem.map != MAP_FAILED && mem.map_size)
		munmap(mem.map, mem.map_size);
	if (mem.fd >= 0)
		close(mem.fd);
}

static bool is_wanted(const char *name, int argc, char *argv[], int at)
{
	return argc <= at || !strcmp(argv[at], "-") || !strcmp(argv[at], name);
}

int main(int argc, char *argv[])
{
	int kind, event;
	int access;

	/* Its tests have no arguments of their own. */
	(void)test_harness_run;
	vm_catch_guest_traps(vm_create_with_one_vcpu(&vcpu, guest_batches));
	vm_install_exception_handler(vcpu->vm, EXC_INST_ILLEGAL, handle_illegal);
	server_map(vcpu, GPA, SIZE);
	__TEST_REQUIRE(trace_start(), "no kvm_exit trace event");
	/* Huge pages are made where events say so. */
	knob_set(THP "khugepaged/scan_sleep_millisecs", "3600000");
	for (kind = 0; kind < ARRAY_SIZE(kinds); kind++)
		for (event = 0; event < ARRAY_SIZE(events); event++)
			for (access = 0; access < NR_ACCESSES; access++)
				if ((kinds[kind].all_events || events[event].is_common) &&
				    (access != FETCH || events[event].for_fetch) &&
				    is_wanted(kinds[kind].name, argc, argv, 1) &&
				    is_wanted(access_name[access], argc, argv, 2) &&
				    is_wanted(events[event].name, argc, argv, 3))
					run_one(kind, access, event);
	knob_set(THP "khugepaged/scan_sleep_millisecs", "10000");
	trace_stop();
	kvm_vm_free(vcpu->vm);
	return 0;
}
