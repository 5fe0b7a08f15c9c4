// SPDX-License-Identifier: GPL-2.0
/*
 * What is done to ranges of memory, per page of 4K or block of 2M. Each function
 * sets up a memslot of its own, measures one thing and leaves nothing behind.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>

#include <asm/barrier.h>

#include "bench.h"

#define SMALL		512
#define LARGE		4096
#define ROUNDS		4

#define SMALL_BLOCKS	2
#define LARGE_BLOCKS	32
#define BLOCK_ROUNDS	16

/* --- the host's side of it ------------------------------------------------ */

static void advise(void *mem, u64 size, int advice)
{
	TEST_ASSERT(!madvise(mem, size, advice), "madvise %d", advice);
}

/* Aligned, so that huge pages fit, and free of them if it is for pages of 4K. */
static void *alloc(u64 size, u64 unit)
{
	void *mem = mmap(NULL, size + BLOCK, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	u64 lead = -(u64)mem % BLOCK;

	TEST_ASSERT(mem != MAP_FAILED, "mmap");
	if (lead)
		munmap(mem, lead);
	munmap(mem + lead + size, BLOCK - lead);
	advise(mem + lead, size, unit == PAGE ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
	return mem + lead;
}

static void touch(void *mem, u64 size)
{
	advise(mem, size, MADV_POPULATE_WRITE);
}

static void set_slot(struct kvm_vcpu *vcpu, u32 flags, u64 size, void *mem)
{
	vm_set_user_memory_region(vcpu->vm, SLOT, flags, MEM_GPA, size, mem);
}

/* Memory that the host has, in a slot. */
static void *present(struct kvm_vcpu *vcpu, u64 size, u64 unit)
{
	void *mem = alloc(size, unit);

	touch(mem, size);
	set_slot(vcpu, 0, size, mem);
	return mem;
}

/* ... and that the guest has, too. */
static void *mapped(struct kvm_vcpu *vcpu, u64 size, u64 unit)
{
	void *mem = present(vcpu, size, unit);

	guest_does(vcpu, unit == PAGE ? guest_store_pages : guest_store_blocks, size / unit);
	return mem;
}

/* ... or that it had, so that the pages are what the host calls active. */
static void *known(struct kvm_vcpu *vcpu, u64 size, u64 unit)
{
	void *mem = mapped(vcpu, size, unit);

	set_slot(vcpu, 0, 0, 0);
	set_slot(vcpu, 0, size, mem);
	return mem;
}

/* ... or that it writes to under dirty logging: all is write-protected. */
static void *logged(struct kvm_vcpu *vcpu, u64 n)
{
	void *mem = mapped(vcpu, n * PAGE, PAGE);

	set_slot(vcpu, KVM_MEM_LOG_DIRTY_PAGES, n * PAGE, mem);
	return mem;
}

static void drop(struct kvm_vcpu *vcpu, u64 size, void *mem)
{
	set_slot(vcpu, 0, 0, 0);
	munmap(mem, size);
}

/* --- faults --------------------------------------------------------------- */

static double fault_first(struct kvm_vcpu *vcpu, u64 n)
{
	void *mem = present(vcpu, n * PAGE, PAGE);
	double ns = guest_timed(vcpu, guest_store_pages, n);

	drop(vcpu, n * PAGE, mem);
	return ns;
}

static double fault(struct kvm_vcpu *vcpu, u64 n)
{
	void *mem = known(vcpu, n * PAGE, PAGE);
	double ns = guest_timed(vcpu, guest_store_pages, n);

	drop(vcpu, n * PAGE, mem);
	return ns;
}

static double fault_absent(struct kvm_vcpu *vcpu, u64 n)
{
	void *mem = alloc(n * PAGE, PAGE);
	double ns;

	set_slot(vcpu, 0, n * PAGE, mem);
	ns = guest_timed(vcpu, guest_store_pages, n);
	drop(vcpu, n * PAGE, mem);
	return ns;
}

static double fault_block(struct kvm_vcpu *vcpu, u64 n)
{
	void *mem = known(vcpu, n * BLOCK, BLOCK);
	double ns = guest_timed(vcpu, guest_store_blocks, n);

	drop(vcpu, n * BLOCK, mem);
	return ns;
}

/* What KVM_PRE_FAULT_MEMORY spares the guest, where there is none. */
static double pre_fault(struct kvm_vcpu *vcpu, u64 n)
{
	struct kvm_pre_fault_memory range = { .gpa = MEM_GPA, .size = n * PAGE };
	void *mem = known(vcpu, n * PAGE, PAGE);
	double ns;

	if (kvm_check_cap(KVM_CAP_PRE_FAULT_MEMORY)) {
		ns = CPU_TIME(ioctl(vcpu->fd, KVM_PRE_FAULT_MEMORY, &range));
		TEST_ASSERT(!range.size, "0x%llx bytes are left", range.size);
	} else {
		ns = guest_timed(vcpu, guest_store_pages, n);
	}
	drop(vcpu, n * PAGE, mem);
	return ns;
}

/* --- dirty pages ---------------------------------------------------------- */

static double log_enable(struct kvm_vcpu *vcpu, u64 n)
{
	void *mem = mapped(vcpu, n * PAGE, PAGE);
	double ns = CPU_TIME(set_slot(vcpu, KVM_MEM_LOG_DIRTY_PAGES, n * PAGE, mem));

	drop(vcpu, n * PAGE, mem);
	return ns;
}

static double log_fault(struct kvm_vcpu *vcpu, u64 n)
{
	void *mem = logged(vcpu, n);
	double ns = guest_timed(vcpu, guest_store_pages, n);

	drop(vcpu, n * PAGE, mem);
	return ns;
}

/* Every page is dirty; @ns() gets the bitmap, and clears it if it must. */
static double log_read(struct kvm_vcpu *vcpu, u64 n, double (*ns)(struct kvm_vm *, void *, u64))
{
	u64 *bitmap = calloc(n / 64, sizeof(*bitmap));
	void *mem = logged(vcpu, n);
	double val;

	guest_does(vcpu, guest_store_pages, n);
	memset(bitmap, 0, n / 8);
	val = ns(vcpu->vm, bitmap, n);
	TEST_ASSERT(bitmap[0] == ~0UL && bitmap[n / 64 - 1] == ~0UL, "not all pages are dirty");
	drop(vcpu, n * PAGE, mem);
	free(bitmap);
	return val;
}

static double time_get(struct kvm_vm *vm, void *bitmap, u64 n)
{
	return CPU_TIME(kvm_vm_get_dirty_log(vm, SLOT, bitmap));
}

static double time_clear(struct kvm_vm *vm, void *bitmap, u64 n)
{
	kvm_vm_get_dirty_log(vm, SLOT, bitmap);
	return CPU_TIME(kvm_vm_clear_dirty_log(vm, SLOT, bitmap, 0, n));
}

static double log_get(struct kvm_vcpu *vcpu, u64 n)
{
	return log_read(vcpu, n, time_get);
}

static double log_clear(struct kvm_vcpu *vcpu, u64 n)
{
	return log_read(vcpu, n, time_clear);
}

/* The pages that the guest dirtied are in its ring; they are collected, and reset. */
static double ring_reset(struct kvm_vcpu *vcpu, u64 n)
{
	struct kvm_dirty_gfn *ring = vcpu_map_dirty_ring(vcpu);
	static u32 next;
	void *mem = logged(vcpu, n);
	double ns;
	u64 i;

	guest_does(vcpu, guest_store_pages, n);
	for (i = 0; i < n; next++, i++) {
		struct kvm_dirty_gfn *gfn = &ring[next % (vcpu->vm->dirty_ring_size / sizeof(*gfn))];

		TEST_ASSERT(smp_load_acquire(&gfn->flags) == KVM_DIRTY_GFN_F_DIRTY,
			    "entry %lu of the ring has flags %x", i, gfn->flags);
		smp_store_release(&gfn->flags, KVM_DIRTY_GFN_F_RESET);
	}
	ns = CPU_TIME(i = kvm_vm_reset_dirty_ring(vcpu->vm));
	TEST_ASSERT_EQ(i, n);
	drop(vcpu, n * PAGE, mem);
	return ns;
}

/*
 * Logging has split huge pages and ends. Ours makes them huge again then; with
 * the C module they are when the slot is made anew and the guest faults.
 */
static double recover(struct kvm_vcpu *vcpu, u64 n)
{
	u64 size = n * BLOCK;
	void *mem = mapped(vcpu, size, BLOCK);
	double ns;

	set_slot(vcpu, KVM_MEM_LOG_DIRTY_PAGES, size, mem);
	guest_does(vcpu, guest_store_pages, size / PAGE);
	ns = CPU_TIME(set_slot(vcpu, 0, size, mem));
	if (!is_ours()) {
		ns += CPU_TIME(
			set_slot(vcpu, 0, 0, 0);
			set_slot(vcpu, 0, size, mem);
		);
		ns += guest_timed(vcpu, guest_store_blocks, n);
	}
	drop(vcpu, size, mem);
	return ns;
}

/* --- what the host takes away or looks at --------------------------------- */

static double delete(struct kvm_vcpu *vcpu, u64 n)
{
	void *mem = mapped(vcpu, n * PAGE, PAGE);
	double ns = CPU_TIME(set_slot(vcpu, 0, 0, 0));

	munmap(mem, n * PAGE);
	return ns;
}

/* @mem, which is in a slot or is not. */
static double time_unmap(void *mem, u64 n)
{
	return CPU_TIME(madvise(mem, n * PAGE, MADV_DONTNEED));
}

/* As swapping, migration and KSM do it. */
static double time_unmap_each(void *mem, u64 n)
{
	u64 i;

	return CPU_TIME(
		for (i = 0; i < n; i++)
			madvise(mem + i * PAGE, PAGE, MADV_DONTNEED);
	);
}

/*
 * Tells the host that the pages are idle, through /sys/kernel/mm/page_idle: it
 * clears the accessed bit wherever there is one. The file has a bit for each
 * page frame.
 */
static double time_age(void *mem, u64 n)
{
	int map = open("/proc/self/pagemap", O_RDONLY), idle = open("/sys/kernel/mm/page_idle/bitmap", O_WRONLY);
	u64 *entries = calloc(n, sizeof(*entries)), *bits, first = -1, last = 0, i, pfn;
	double ns;

	TEST_ASSERT(map >= 0 && idle >= 0, "no pagemap or no page_idle");
	TEST_ASSERT(pread(map, entries, n * 8, (u64)mem / PAGE * 8) == n * 8, "pagemap");
	for (i = 0; i < n; i++) {
		pfn = entries[i] & GENMASK(54, 0);
		first = min(first, pfn / 64);
		last = max(last, pfn / 64);
	}
	bits = calloc(last - first + 1, sizeof(*bits));
	for (i = 0; i < n; i++) {
		pfn = entries[i] & GENMASK(54, 0);
		bits[pfn / 64 - first] |= 1UL << pfn % 64;
	}
	ns = CPU_TIME(
		for (i = first; i <= last; i++)
			if (bits[i - first])
				pwrite(idle, &bits[i - first], 8, i * 8);
	);
	free(bits);
	free(entries);
	close(idle);
	close(map);
	return ns;
}

static double inside(struct kvm_vcpu *vcpu, u64 n, double (*ns)(void *, u64))
{
	void *mem = mapped(vcpu, n * PAGE, PAGE);
	double val = ns(mem, n);

	drop(vcpu, n * PAGE, mem);
	return val;
}

/* The host alone, on memory that the guest had for a while. */
static double outside(struct kvm_vcpu *vcpu, u64 n, double (*ns)(void *, u64))
{
	void *mem = mapped(vcpu, n * PAGE, PAGE);
	double val;

	set_slot(vcpu, 0, 0, 0);
	val = ns(mem, n);
	munmap(mem, n * PAGE);
	return val;
}

static double unmap_inside(struct kvm_vcpu *vcpu, u64 n)
{
	return inside(vcpu, n, time_unmap);
}

static double unmap_outside(struct kvm_vcpu *vcpu, u64 n)
{
	return outside(vcpu, n, time_unmap);
}

static double unmap_each_inside(struct kvm_vcpu *vcpu, u64 n)
{
	return inside(vcpu, n, time_unmap_each);
}

static double unmap_each_outside(struct kvm_vcpu *vcpu, u64 n)
{
	return outside(vcpu, n, time_unmap_each);
}

static double age_inside(struct kvm_vcpu *vcpu, u64 n)
{
	return inside(vcpu, n, time_age);
}

static double age_outside(struct kvm_vcpu *vcpu, u64 n)
{
	return outside(vcpu, n, time_age);
}

/* --- all of it ------------------------------------------------------------ */

static void pages(const char *what, double (*ns)(struct kvm_vcpu *, u64), struct kvm_vcpu *vcpu)
{
	measure(what, ns, vcpu, SMALL, LARGE, ROUNDS);
}

static void blocks(const char *what, double (*ns)(struct kvm_vcpu *, u64), struct kvm_vcpu *vcpu)
{
	measure(what, ns, vcpu, SMALL_BLOCKS, LARGE_BLOCKS, BLOCK_ROUNDS);
}

void bench_pages(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu *other;

	set_param("fault_around_bytes", "0");
	pages("G-stage fault, 4K, host page present", fault, vcpu);
	pages("G-stage fault, 4K, host page new to its LRU", fault_first, vcpu);
	set_param("fault_around_bytes", "65536");
	pages("G-stage fault, 4K, with fault-around", fault, vcpu);
	pages("G-stage fault, 4K, host page absent", fault_absent, vcpu);
	pages("pre-fault, per page (C: fault)", pre_fault, vcpu);
	blocks("G-stage fault, 2M", fault_block, vcpu);

	pages("dirty log: enable, per page", log_enable, vcpu);
	pages("dirty log: write fault", log_fault, vcpu);
	pages("dirty log: get, per page", log_get, vcpu);
	if (wanted("dirty log: clear, per page")) {
		other = bench_vm(0);
		vm_enable_cap(other->vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
		pages("dirty log: clear, per page", log_clear, other);
		kvm_vm_free(other->vm);
	}
	if (wanted("dirty ring: write fault") || wanted("dirty ring: reset, per page")) {
		other = bench_vm(2 * LARGE);
		pages("dirty ring: reset, per page", ring_reset, other);
		kvm_vm_free(other->vm);
	}
	blocks("logging ends, per 2M huge again (C: slot anew)", recover, vcpu);

	pages("memslot delete, per page", delete, vcpu);
	pages("notifier unmap, per page", unmap_inside, vcpu);
	pages("notifier unmap, per page, no guest there", unmap_outside, vcpu);
	pages("notifier unmap, page by page", unmap_each_inside, vcpu);
	pages("notifier unmap, page by page, no guest there", unmap_each_outside, vcpu);
	pages("ageing, per page", age_inside, vcpu);
	pages("ageing, per page, no guest there", age_outside, vcpu);
}
