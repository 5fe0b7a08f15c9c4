// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: M19 */
/* covers: mmu/fault.rs gstage/install.rs gstage/napot.rs mmu/memslots.rs */
/*
 * Three vCPUs keep contents of their own in every page of one kind of memory
 * and check what each load finds, while the host does to that memory whatever a
 * host may do.  Each kind runs in a process and a VM of its own.
 *
 *   -s SEED     The events and the guests' accesses follow from it.  A run is
 *               repeatable as far as the order of threads allows.
 *   -t SECONDS  For all kinds together.
 *   -k KIND     Only this kind; may be given several times.
 *   -l          Lists the kinds.
 *
 * The C module maps the first page of 16 wherever the host has one of 64 kB
 * (M19).  A run of 3 seconds of hugetlb-64k finds F34 in one of a few seeds.
 */
#include <malloc.h>
#include <sys/wait.h>

#include "kvm_rs_mem.h"

#define SLOT		1
#define NR_RUNNERS	3
/* The pages that the guests use.  Together they are NR_CLUSTERS groups of 16. */
#define NPAGES		1024UL
#define CLUSTER		16UL
#define NR_CLUSTERS	(NPAGES / CLUSTER)

#define GPA_A		SIZE_1G
#define GPA_B		(4 * SIZE_1G)
#define GVA_A		TEST_GVA
#define GVA_B		(TEST_GVA + SIZE_1G / 2)

#define DEFAULT_SEED	1
#define DEFAULT_SECONDS	12
/* A VM that nothing disturbs any more ends within this, and every vCPU has made accesses. */
#define END_SECONDS	120

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

/* What is true of a kind of memory, and so of what may happen to it. */
#define SHARED		(1 << 0)	/* A file has the contents; unmapping loses nothing. */
#define LOSSY		(1 << 1)	/* Events may drop private contents. */
#define HUGETLB		(1 << 2)
#define FROM_FILE	(1 << 3)	/* What is dropped is as the file has it, not zero. */
#define MERGED		(1 << 4)	/* Pages have the contents of others, for ksmd to merge. */
#define ANON		(1 << 5)	/* Private, without a file. */

struct kind {
	const char *name;
	u64 unit;		/* The host's page size. */
	u64 step;		/* Of so many pages the guest uses one. */
	u32 flags;
	bool (*set_up)(const struct kind *kind);
};

/* --- in the guests' memory ----------------------------------------------------- */

static u64 expected[NR_RUNNERS][NPAGES];
static u64 nr_accesses[NR_RUNNERS];
static u64 nr_tags, seed0, stop, cluster, gva_now;
static bool is_lossy, keeps_tag, merges;

/* What the first word of page @i always is. */
static u64 tag_of(u64 i)
{
	return pattern(i % nr_tags + 1);
}

/* The word of page @p that vCPU @id counts in. */
static u64 *word_of(u64 p, u64 id)
{
	return (u64 *)p + 1 + id;
}

/*
 * One access of vCPU @id to page @i: finds its own contents; @what decides
 * whether it changes them.
 */
static void guest_access(u64 id, u64 i, u64 what)
{
	u64 page = READ_ONCE(gva_now) + i * SIZE_4K, *word = word_of(page, id);
	u64 tag = READ_ONCE(*(u64 *)page), val = READ_ONCE(*word), want = expected[id][i];

	if (is_lossy && !keeps_tag && !tag)
		WRITE_ONCE(*(u64 *)page, tag_of(i));
	else
		__GUEST_ASSERT(tag == tag_of(i),
			       "vCPU %lu, page %lu: tag 0x%lx, not 0x%lx; now 0x%lx", id, i, tag,
			       tag_of(i), READ_ONCE(*(u64 *)page));
	if (is_lossy && !val)
		want = 0;
	__GUEST_ASSERT(val == want, "vCPU %lu, page %lu: counter 0x%lx, not 0x%lx; now 0x%lx", id,
		       i, val, want, READ_ONCE(*word));
	if (what & 1) {
		/* Other pages are as this one again, and may be one with it. */
		want = merges && what & 6 ? 0 : want + 1;
		WRITE_ONCE(*word, want);
	}
	expected[id][i] = want;
}

/*
 * The vCPUs mostly work on the same few pages, because much that can go wrong
 * needs two of them within one huge page.
 */
static void guest_soak(u64 id)
{
	u64 seed = seed0 + (id + 1) * 0x9e3779b97f4a7c15ULL, n, r, i;

	for (n = 0; !READ_ONCE(stop); n++) {
		r = xorshift(&seed);
		if (id == 0 && n % 32 == 0)
			WRITE_ONCE(cluster, (r >> 40) % NR_CLUSTERS);
		if (r & 7)
			i = READ_ONCE(cluster) * CLUSTER + (r >> 8) % CLUSTER;
		else
			i = (r >> 8) % NPAGES;
		guest_access(id, i, r >> 32);
		WRITE_ONCE(nr_accesses[id], n + 1);
	}
	GUEST_DONE();
}

/* --- the host ------------------------------------------------------------------ */

static struct {
	const struct kind *kind;
	char *mem;
	u64 size, npages;	/* Of the slot. */
	int fd;			/* What stands behind it, or -1. */
	char *elsewhere;	/* Room for as much. */
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR_RUNNERS + 1];	/* The last one never runs. */
	u64 gpa_a, gpa_b, gpa;
	u32 log;
	bool has_swap, has_pre_fault;
	int idle_fd;
	u64 seed;
	/*
	 * Held while the memory is not as a store of the process needs it, and while a slot is
	 * not where the guest looks for it.
	 */
	pthread_mutex_t lock;
	u64 refused, emulated;
} host = { .fd = -1, .idle_fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER };

#define HISTORY	24
static const char *history[HISTORY];
static u64 nr_events;

static void print_history(void)
{
	u64 i = nr_events > HISTORY ? nr_events - HISTORY : 0;

	printf("# %s: after %lu events, the last of which were:", host.kind->name,
	       (unsigned long)nr_events);
	for (; i < nr_events; i++)
		printf(" %s", history[i % HISTORY]);
	printf("\n");
	fflush(stdout);
}

static u64 chance(u64 n)
{
	return xorshift(&host.seed) % n;
}

/* The host's address of page @i of those that the guests use. */
static char *used_page(u64 i)
{
	return host.mem + i * host.kind->step * SIZE_4K;
}

struct range {
	char *start;
	u64 len;
};

/* Some of the memory, in units of @unit bytes. */
static struct range pick_units(u64 unit)
{
	u64 total = host.size / unit, most = total > 4 ? total / 4 : total, n = 1 + chance(most);

	/* Small ones more often. */
	if (chance(2))
		n = 1 + chance(n);
	return (struct range) { host.mem + chance(total - n + 1) * unit, n * unit };
}

static struct range pick(void)
{
	return pick_units(host.kind->unit == SIZE_2M && chance(2) && !(host.kind->flags & HUGETLB) ?
			  SIZE_4K : host.kind->unit);
}

static void advise(struct range r, int advice)
{
	/* Whether the kernel likes it is not the point. */
	(void)!madvise(r.start, r.len, advice);
}

static void pause_us(u64 us)
{
	usleep(chance(us) + 1);
}

static void ev_touch(void)
{
	u64 i, n = 1 + chance(64);
	u64 *page;

	for (; n; n--) {
		i = chance(NPAGES);
		page = (u64 *)used_page(i);
		if (READ_ONCE(page[0]) != tag_of(i) && !(is_lossy && !keeps_tag && !page[0]))
			TEST_FAIL("page %lu: the host finds tag 0x%lx", (unsigned long)i,
				  (unsigned long)page[0]);
		/* A word that is no vCPU's; the host's entry gets dirty. */
		if (chance(2) && !merges)
			WRITE_ONCE(page[1 + NR_RUNNERS], i);
	}
}

static void ev_mprotect(void)
{
	struct range r = pick();
	int prot = chance(3) ? PROT_READ : PROT_NONE;

	TEST_ASSERT_OK(mprotect(r.start, r.len, prot));
	pause_us(500);
	TEST_ASSERT_OK(mprotect(r.start, r.len, PROT_READ | PROT_WRITE));
}

static void ev_mremap(void)
{
	struct range r = pick();
	char *to = host.elsewhere + (r.start - host.mem);

	TEST_ASSERT(mremap(r.start, r.len, r.len, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to,
		    "mremap: %s", strerror(errno));
	pause_us(300);
	TEST_ASSERT(mremap(to, r.len, r.len, MREMAP_MAYMOVE | MREMAP_FIXED, r.start) == r.start,
		    "mremap back: %s", strerror(errno));
	TEST_ASSERT(mmap(to, r.len, PROT_NONE, MAP_ANON_PRIVATE | MAP_NORESERVE | MAP_FIXED, -1,
			 0) == to, "mmap: %s", strerror(errno));
}

static void ev_remap(void)
{
	struct range r = pick();
	void *p;

	if (chance(2)) {
		TEST_ASSERT_OK(munmap(r.start, r.len));
		pause_us(300);
	}
	p = mmap(r.start, r.len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, host.fd,
		 r.start - host.mem);
	TEST_ASSERT(p == r.start, "mmap: %s", strerror(errno));
}

static void ev_drop(void)
{
	advise(pick(), MADV_DONTNEED);
}

static void ev_free(void)
{
	advise(pick(), MADV_FREE);
}

static void ev_cold(void)
{
	advise(pick(), MADV_COLD);
}

/* Page by page, each with a flush on all CPUs: not much at once. */
static struct range pick_little(void)
{
	struct range r = pick();

	if (r.len > 8 * SIZE_4K && r.len < SIZE_2M)
		r.len = 8 * SIZE_4K;
	return r;
}

static void ev_pageout(void)
{
	advise(pick_little(), MADV_PAGEOUT);
}

static void ev_collapse(void)
{
	advise(pick_units(SIZE_2M), MADV_COLLAPSE);
}

static void ev_clear_refs(void)
{
	/* References of all, of private, of mapped pages; and the soft-dirty bits. */
	knob_set("/proc/self/clear_refs", "%d", 1 + (int)chance(4));
}

static void ev_idle(void)
{
	struct range r = pick_little();
	u64 off, pfn;

	for (off = 0; off < r.len && off < 8 * SIZE_4K; off += SIZE_4K) {
		pfn = pfn_of(r.start + off);
		if (pfn)
			idle_mark(host.idle_fd, pfn);
	}
}

static void ev_migrate(void)
{
	knob_set("/proc/sys/vm/compact_memory", "1");
}

static void ev_fork(void)
{
	int status;
	pid_t pid;
	u64 i, tag;

	pid = fork();
	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	if (!pid) {
		if (host.kind->flags & SHARED)
			_exit(0);
		for (i = chance(8); i < NPAGES; i += 8) {
			tag = *(u64 *)used_page(i);
			if (tag != tag_of(i) && !(is_lossy && !keeps_tag && !tag))
				_exit(1);
		}
		_exit(0);
	}
	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid");
	TEST_ASSERT(!status, "a forked child does not see what was there, status 0x%x", status);
}

static void ev_merge(void)
{
	struct range r = pick();

	advise(r, chance(8) ? MADV_MERGEABLE : MADV_UNMERGEABLE);
}

static void set_slot(u64 gpa, u64 size)
{
	vm_set_user_memory_region(host.vm, SLOT, host.log, gpa, size, host.mem);
}

static void ev_log_switch(void)
{
	host.log ^= KVM_MEM_LOG_DIRTY_PAGES;
	set_slot(host.gpa, host.size);
}

static void ev_log_harvest(void)
{
	static u64 bitmap[SIZE_1G / SIZE_4K / 64];

	if (!host.log)
		return;
	kvm_vm_get_dirty_log(host.vm, SLOT, bitmap);
}

static void ev_slot_move(void)
{
	u64 gpa = host.gpa == host.gpa_a ? host.gpa_b : host.gpa_a;

	/* The flags may not change with the place. */
	host.gpa = gpa;
	set_slot(gpa, host.size);
	write_guest_global(host.vm, gva_now, gpa == host.gpa_a ? GVA_A : GVA_B);
}

static void ev_slot_replace(void)
{
	set_slot(host.gpa, 0);
	pause_us(300);
	set_slot(host.gpa, host.size);
}

static void ev_pre_fault(void)
{
	struct range r = pick();
	struct kvm_pre_fault_memory range = {
		.gpa = host.gpa + (r.start - host.mem),
		.size = r.len < SIZE_2M ? r.len : SIZE_2M,
	};

	(void)!__vcpu_ioctl(host.vcpus[NR_RUNNERS], KVM_PRE_FAULT_MEMORY, &range);
}

static void ev_nothing(void)
{
	pause_us(5000);
}

static bool any(void) { return true; }
static bool if_shared(void) { return host.kind->flags & SHARED; }
static bool if_droppable(void) { return host.kind->flags & (SHARED | LOSSY); }
static bool if_lru(void) { return !(host.kind->flags & HUGETLB); }
static bool if_freeable(void)
{
	return if_lru() && host.kind->flags & LOSSY && host.kind->flags & ANON;
}
static bool if_swap(void) { return if_lru() && host.has_swap; }
static bool if_idle(void) { return if_lru() && host.idle_fd >= 0; }
static bool if_merged(void) { return host.kind->flags & MERGED; }
static bool if_pre_fault(void) { return host.has_pre_fault; }

/* Forking reserves private huge pages for the stores that follow: one is enough. */
static bool if_forkable(void) { return host.kind->unit < SIZE_1G; }

static const struct event {
	const char *name;
	void (*happen)(void);
	bool (*applies)(void);
	int weight;
} events[] = {
	{ "touch", ev_touch, any, 8 },
	{ "mprotect", ev_mprotect, any, 6 },
	{ "mremap", ev_mremap, any, 5 },
	{ "remap", ev_remap, if_shared, 6 },
	{ "drop", ev_drop, if_droppable, 10 },
	{ "free", ev_free, if_freeable, 6 },
	{ "cold", ev_cold, if_lru, 4 },
	{ "pageout", ev_pageout, if_swap, 4 },
	{ "collapse", ev_collapse, if_lru, 4 },
	{ "clear_refs", ev_clear_refs, any, 4 },
	{ "idle", ev_idle, if_idle, 3 },
	{ "migrate", ev_migrate, any, 1 },
	{ "fork", ev_fork, if_forkable, 2 },
	{ "merge", ev_merge, if_merged, 6 },
	{ "log_switch", ev_log_switch, any, 4 },
	{ "log_harvest", ev_log_harvest, any, 6 },
	{ "slot_move", ev_slot_move, any, 2 },
	{ "slot_replace", ev_slot_replace, any, 2 },
	{ "pre_fault", ev_pre_fault, if_pre_fault, 3 },
	{ "nothing", ev_nothing, any, 4 },
};

static const struct event *pick_event(void)
{
	int i, total = 0, n;

	for (i = 0; i < ARRAY_SIZE(events); i++)
		if (events[i].applies())
			total += events[i].weight;
	n = chance(total);
	for (i = 0; i < ARRAY_SIZE(events); i++) {
		if (!events[i].applies())
			continue;
		n -= events[i].weight;
		if (n < 0)
			break;
	}
	return &events[i];
}

/*
 * The slot is not where the guest looked for it: the access is made here, as if
 * it were.
 */
static void emulate(struct kvm_run *run)
{
	u64 gpa = run->mmio.phys_addr, off;

	pthread_mutex_lock(&host.lock);
	off = gpa - (gpa >= host.gpa_b ? host.gpa_b : host.gpa_a);
	TEST_ASSERT(gpa >= host.gpa_a && off < host.size && run->mmio.len == 8,
		    "MMIO of %u bytes at 0x%llx", run->mmio.len, run->mmio.phys_addr);
	if (run->mmio.is_write)
		WRITE_ONCE(*(u64 *)(host.mem + off), *(u64 *)run->mmio.data);
	else
		*(u64 *)run->mmio.data = READ_ONCE(*(u64 *)(host.mem + off));
	host.emulated++;
	pthread_mutex_unlock(&host.lock);
}

static void *vcpu_thread(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	struct ucall uc;

	for (;;) {
		if (_vcpu_run(vcpu)) {
			/* The memory is not there, or not to be written to, for the moment. */
			TEST_ASSERT(errno == EFAULT, "KVM_RUN: %s", strerror(errno));
			pthread_mutex_lock(&host.lock);
			host.refused++;
			pthread_mutex_unlock(&host.lock);
			continue;
		}
		if (vcpu->run->exit_reason == KVM_EXIT_MMIO) {
			emulate(vcpu->run);
			continue;
		}
		switch (get_ucall(vcpu, &uc)) {
		case UCALL_DONE:
			return NULL;
		case UCALL_ABORT:
			print_history();
			REPORT_GUEST_ASSERT(uc);
			break;
		default:
			TEST_FAIL("unexpected exit %u (%s)", vcpu->run->exit_reason,
				  exit_reason_str(vcpu->run->exit_reason));
		}
	}
}

/* --- kinds --------------------------------------------------------------------- */

#define THP		"/sys/kernel/mm/transparent_hugepage/"

/* What was changed in the kernel's settings, to be put back. */
static struct {
	const char *path;
	char val[16];
} saved[8];
static int nr_saved;

static void restore_knobs(void)
{
	while (nr_saved--)
		knob_set(saved[nr_saved].path, "%s", saved[nr_saved].val);
}

/* Changes a setting until the run is over; false if the kernel does not have it. */
static bool knob_change(const char *path, const char *val)
{
	char now[128] = "", *start;
	int fd = open(path, O_RDONLY);

	if (fd < 0 || read(fd, now, sizeof(now) - 1) <= 0)
		return false;
	close(fd);
	/* One of several, in brackets, or a number. */
	start = strchr(now, '[');
	start = start ? start + 1 : now;
	start[strcspn(start, "]\n")] = 0;
	saved[nr_saved].path = path;
	snprintf(saved[nr_saved].val, sizeof(saved[nr_saved].val), "%s", start);
	nr_saved++;
	return knob_set(path, "%s", val);
}

static bool map(int flags, u64 align)
{
	host.mem = mmap_at(host.size, align, 0, flags, host.fd);
	return host.mem != MAP_FAILED;
}

static bool set_up_anon(const struct kind *kind)
{
	TEST_ASSERT(map(MAP_ANON_PRIVATE, SIZE_2M), "mmap: %s", strerror(errno));
	(void)!madvise(host.mem, host.size, kind->unit == SIZE_2M ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	return true;
}

static bool set_up_mthp(const struct kind *kind)
{
	if (!knob_change(THP "hugepages-64kB/enabled", "always"))
		return false;
	knob_change(THP "hugepages-2048kB/enabled", "never");
	TEST_ASSERT(map(MAP_ANON_PRIVATE, SIZE_2M), "mmap: %s", strerror(errno));
	(void)!madvise(host.mem, host.size, MADV_HUGEPAGE);
	return true;
}

static bool set_up_ksm(const struct kind *kind)
{
	if (!knob_change("/sys/kernel/mm/ksm/run", "1"))
		return false;
	knob_change("/sys/kernel/mm/ksm/sleep_millisecs", "1");
	knob_change("/sys/kernel/mm/ksm/pages_to_scan", "500");
	set_up_anon(kind);
	return !madvise(host.mem, host.size, MADV_MERGEABLE);
}

/* A file without a name, of pages of the kind's size. */
static void make_file(const struct kind *kind)
{
	host.fd = memfd_create("soak", kind->flags & HUGETLB ? MFD_HUGE_OF(kind->unit) : 0);
	TEST_ASSERT(host.fd >= 0, "memfd_create: %s", strerror(errno));
	TEST_ASSERT(!ftruncate(host.fd, host.size), "ftruncate: %s", strerror(errno));
}

static bool set_up_shmem(const struct kind *kind)
{
	if (kind->unit != SIZE_4K)
		knob_change(THP "shmem_enabled", "advise");
	make_file(kind);
	TEST_ASSERT(map(MAP_SHARED, SIZE_2M), "mmap: %s", strerror(errno));
	if (kind->unit != SIZE_4K)
		(void)!madvise(host.mem, host.size, MADV_HUGEPAGE);
	return true;
}

/* What the file has is what the pages begin with. */
static bool set_up_file(const struct kind *kind)
{
	u64 i, tag;

	make_file(kind);
	for (i = 0; i < NPAGES; i++) {
		tag = tag_of(i);
		TEST_ASSERT(pwrite(host.fd, &tag, 8, i * kind->step * SIZE_4K) == 8, "pwrite");
	}
	TEST_ASSERT(map(MAP_PRIVATE, SIZE_2M), "mmap: %s", strerror(errno));
	return true;
}

static bool set_up_hugetlb(const struct kind *kind)
{
	if (!hugetlb_reserve(kind->unit, host.size / kind->unit))
		return false;
	make_file(kind);
	return map(MAP_SHARED, kind->unit);
}

/* Twice as many: a child has the others, for a moment. */
static bool set_up_hugetlb_private(const struct kind *kind)
{
	if (!hugetlb_reserve(kind->unit, 2 * host.size / kind->unit))
		return false;
	return map(MAP_ANON_PRIVATE | MAP_HUGE_OF(kind->unit), kind->unit);
}

static const struct kind kinds[] = {
	{ "hugetlb-64k", SIZE_64K, 1, SHARED | HUGETLB, set_up_hugetlb },
	{ "hugetlb-64k-private", SIZE_64K, 1, HUGETLB | ANON | LOSSY, set_up_hugetlb_private },
	{ "hugetlb-2m", SIZE_2M, 1, SHARED | HUGETLB, set_up_hugetlb },
	{ "hugetlb-2m-private", SIZE_2M, 1, HUGETLB | ANON, set_up_hugetlb_private },
	{ "hugetlb-1g", SIZE_1G, 256, SHARED | HUGETLB, set_up_hugetlb },
	{ "anon", SIZE_4K, 1, ANON, set_up_anon },
	{ "anon-lossy", SIZE_4K, 1, ANON | LOSSY, set_up_anon },
	{ "thp", SIZE_2M, 1, ANON, set_up_anon },
	{ "thp-lossy", SIZE_2M, 1, ANON | LOSSY, set_up_anon },
	{ "mthp-64k", SIZE_64K, 1, ANON | LOSSY, set_up_mthp },
	{ "shmem", SIZE_4K, 1, SHARED, set_up_shmem },
	{ "shmem-thp", SIZE_2M, 1, SHARED, set_up_shmem },
	{ "file-private", SIZE_4K, 1, LOSSY | FROM_FILE, set_up_file },
	{ "ksm", SIZE_4K, 1, ANON | MERGED, set_up_ksm },
};

/* --- a run --------------------------------------------------------------------- */

/* Where the slot is in the guest's address space, and how that fits to the host's. */
static void choose_places(void)
{
	static const u64 offsets[] = { 0, SIZE_4K, SIZE_64K, SIZE_2M };

	host.gpa_a = GPA_A;
	host.gpa_b = GPA_B + offsets[chance(ARRAY_SIZE(offsets))];
	host.gpa = host.gpa_a;
}

static void create_vm(void)
{
	u64 i, step = host.kind->step * SIZE_4K;

	host.vm = __vm_create_with_vcpus(VM_SHAPE_DEFAULT, NR_RUNNERS + 1, 64, guest_soak,
					 host.vcpus);
	host.has_pre_fault = vm_check_cap(host.vm, KVM_CAP_PRE_FAULT_MEMORY);
	set_slot(host.gpa, host.size);
	for (i = 0; i < NPAGES; i++) {
		virt_pg_map(host.vm, GVA_A + i * SIZE_4K, host.gpa_a + i * step);
		virt_pg_map(host.vm, GVA_B + i * SIZE_4K, host.gpa_b + i * step);
	}
	for (i = 0; i < NR_RUNNERS; i++)
		vcpu_args_set(host.vcpus[i], 1, i);
	gva_now = GVA_A;
	sync_global_to_guest(host.vm, gva_now);
	sync_global_to_guest(host.vm, nr_tags);
	sync_global_to_guest(host.vm, seed0);
	sync_global_to_guest(host.vm, is_lossy);
	sync_global_to_guest(host.vm, keeps_tag);
	sync_global_to_guest(host.vm, merges);
}

static bool all_ran(void)
{
	u64 *now = addr_gva2hva(host.vm, (gva_t)nr_accesses);
	int i;

	for (i = 0; i < NR_RUNNERS && READ_ONCE(now[i]) >= NPAGES / 4; i++)
		;
	return i == NR_RUNNERS;
}

static void check_end(void)
{
	u64 i, id, val;

	sync_global_from_guest(host.vm, expected);
	for (i = 0; i < NPAGES; i++) {
		for (id = 0; id < NR_RUNNERS; id++) {
			val = *word_of((u64)used_page(i), id);
			TEST_ASSERT(val == expected[id][i] || (is_lossy && !val),
				    "page %lu: vCPU %lu left 0x%lx, the host finds 0x%lx",
				    (unsigned long)i, (unsigned long)id,
				    (unsigned long)expected[id][i], (unsigned long)val);
		}
	}
}

/* Runs one kind, in a process of its own. */
static int run_kind(const struct kind *kind, u64 seed, u64 ms)
{
	const struct event *event;
	pthread_t threads[NR_RUNNERS];
	struct timespec start, end;
	u64 i, total = 0;

	host.kind = kind;
	host.npages = NPAGES * kind->step;
	host.size = host.npages * SIZE_4K;
	host.seed = seed * 0x9e3779b97f4a7c15ULL + 0x2545f4914f6cdd1dULL;
	seed0 = seed * 0x9e3779b97f4a7c15ULL;
	is_lossy = kind->flags & LOSSY;
	keeps_tag = kind->flags & FROM_FILE;
	merges = kind->flags & MERGED;
	nr_tags = merges ? 8 : NPAGES;

	/* A heap of another thread must not go where the memory is missing for a moment. */
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_MAX, 0);
	/* Also if an assertion ends the process. */
	atexit(restore_knobs);
	if (!kind->set_up(kind))
		return KSFT_SKIP;
	host.has_swap = if_lru() && swap_start();
	if (if_lru())
		host.idle_fd = open("/sys/kernel/mm/page_idle/bitmap", O_RDWR);
	host.elsewhere = mmap_at(host.size, kind->unit > SIZE_2M ? kind->unit : SIZE_2M, 0,
				 MAP_ANON_PRIVATE | MAP_NORESERVE, -1);
	TEST_ASSERT(host.elsewhere != MAP_FAILED, "mmap");
	for (i = 0; i < NPAGES; i++)
		if (!(kind->flags & FROM_FILE) || i % 2)
			*(u64 *)used_page(i) = tag_of(i);
	choose_places();
	create_vm();
	for (i = 0; i < NR_RUNNERS; i++)
		pthread_create(&threads[i], NULL, vcpu_thread, host.vcpus[i]);

	clock_gettime(CLOCK_MONOTONIC, &start);
	while (timespec_to_ns(timespec_elapsed(start)) < ms * 1000000LL || !all_ran()) {
		TEST_ASSERT(timespec_elapsed(start).tv_sec < ms / 1000 + END_SECONDS || all_ran(),
			    "the guests do not get on: %lu accesses refused",
			    (unsigned long)host.refused);
		event = pick_event();
		history[nr_events++ % HISTORY] = event->name;
		pthread_mutex_lock(&host.lock);
		event->happen();
		pthread_mutex_unlock(&host.lock);
		/* Time to fault back in, or the guests get nowhere. */
		pause_us(1500);
	}
	write_guest_global(host.vm, stop, 1);
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += END_SECONDS;
	for (i = 0; i < NR_RUNNERS; i++)
		TEST_ASSERT(!pthread_timedjoin_np(threads[i], NULL, &end), "vCPU %lu never ends",
			    (unsigned long)i);
	check_end();
	sync_global_from_guest(host.vm, nr_accesses);
	for (i = 0; i < NR_RUNNERS; i++)
		total += nr_accesses[i];
	printf("# %s: %lu accesses, %lu events, %lu refused, %lu emulated\n", kind->name,
	       (unsigned long)total, (unsigned long)nr_events, (unsigned long)host.refused,
	       (unsigned long)host.emulated);
	fflush(stdout);
	kvm_vm_free(host.vm);
	return KSFT_PASS;
}

static void report(const struct kind *kind, int status)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == KSFT_SKIP)
		ksft_test_result_skip("%s: the machine has none such\n", kind->name);
	else
		ksft_test_result(!status, "%s, status 0x%x\n", kind->name, status);
}

/* The harness knows neither seeds nor durations, and is not used. */
static int (*const harness)(int, char **) __maybe_unused = test_harness_run;

int main(int argc, char *argv[])
{
	u64 seed = DEFAULT_SEED, seconds = DEFAULT_SECONDS, wanted = 0, ms;
	int opt, i, status;
	pid_t pid;

	while ((opt = getopt(argc, argv, "s:t:k:l")) != -1) {
		switch (opt) {
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 't':
			seconds = strtoull(optarg, NULL, 0);
			break;
		case 'k':
			for (i = 0; i < ARRAY_SIZE(kinds) && strcmp(kinds[i].name, optarg); i++)
				;
			TEST_ASSERT(i < ARRAY_SIZE(kinds), "no kind is called %s", optarg);
			wanted |= 1ULL << i;
			break;
		case 'l':
			for (i = 0; i < ARRAY_SIZE(kinds); i++)
				puts(kinds[i].name);
			return 0;
		default:
			return KSFT_FAIL;
		}
	}
	if (!wanted)
		wanted = (1ULL << ARRAY_SIZE(kinds)) - 1;
	close(open_kvm_dev_path_or_exit());
	ms = seconds * 1000 / __builtin_popcountll(wanted);

	ksft_print_header();
	ksft_set_plan(__builtin_popcountll(wanted));
	ksft_print_msg("seed %lu, %lu ms for each kind\n", (unsigned long)seed, (unsigned long)ms);
	fflush(stdout);
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (!(wanted & 1ULL << i))
			continue;
		pid = fork();
		TEST_ASSERT(pid >= 0, "fork");
		if (!pid)
			exit(run_kind(&kinds[i], seed, ms));
		TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid");
		report(&kinds[i], status);
	}
	ksft_finished();
}
