// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: S8, S16, N15, F15 */
/* also-on: max: fail: S8, S16, N15 */
/* covers: sbi/pmu.rs vcpu/pmu.rs vcpu/pmu/perf_event.rs vcpu/pmu/wrap.rs
 * kvm_core/guestmem.rs */
/*
 * What the SBI PMU extension does in the guest's memory: snapshots of counters
 * with their overflows, and what event_get_info() says of events.
 */
#include <linux/perf_event.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#include "kvm_rs_pmu.h"

#define IRQ_LCOFI	13

/* Far above all memory. */
#define NOWHERE_GPA	(1UL << 38)

/* Memory that the guest can read but not write. */
#define ROM_GPA		0x60000000UL
#define ROM_SLOT	5

/* In the guest. */

static u64 overflows;

static void guest_overflow(struct pt_regs *regs)
{
	GUEST_ASSERT_EQ(regs->cause & ~CAUSE_IRQ_FLAG, IRQ_LCOFI);
	csr_clear(CSR_SIP, 1UL << IRQ_LCOFI);
	overflows++;
}

/* Spins until a counter overflows, for at most @times turns. */
static u64 guest_await_overflow(u64 times)
{
	overflows = 0;
	csr_set(CSR_SIE, 1UL << IRQ_LCOFI);
	csr_set(CSR_SSTATUS, SR_SIE);
	while (times-- && !READ_ONCE(overflows))
		asm volatile("nop");
	csr_clear(CSR_SSTATUS, SR_SIE);
	return overflows;
}

/* Whether an overflow's interrupt is pending; takes it away. */
static u64 guest_take_pending(u64 unused)
{
	u64 sip = csr_read(CSR_SIP);

	csr_clear(CSR_SIP, 1UL << IRQ_LCOFI);
	return sip >> IRQ_LCOFI & 1;
}

/* In the host. */

/* The snapshot's memory, filled with what nobody would write. */
#define FILLER		0x5a5a5a5a5a5a5a5aUL

static void fill(FIXTURE_DATA(pmu) *self)
{
	int i;

	for (i = 0; i < 512; i++)
		self->page[i] = FILLER;
}

/* Asserts that nothing was written but the overflows and the values of @set. */
static void assert_written(FIXTURE_DATA(pmu) *self, u64 set)
{
	int i;

	for (i = 1; i < 512; i++) {
		bool mine = i <= 64 && (set >> (i - 1) & 1);

		TEST_ASSERT((self->page[i] != FILLER) == mine, "word %d: 0x%lx", i,
			    (unsigned long)self->page[i]);
	}
}

TEST_F(pmu, set_shmem)
{
	u64 c = lowest(self->fw);

	assert_pmu(0, PMU_MATCH, c, 1, 0, FW(SET_TIMER));
	assert_pmu(ERR_NO_SHMEM, PMU_START, c, 1, INIT_SNAPSHOT);
	assert_pmu(0, PMU_START, c, 1);
	assert_pmu(ERR_NO_SHMEM, PMU_STOP, c, 1, TAKE_SNAPSHOT);
	assert_pmu(0, PMU_STOP, c, 1);

	assert_pmu(SBI_ERR_INVALID_PARAM, PMU_SHMEM, self->gpa, 0, 1);
	assert_pmu(SBI_ERR_INVALID_PARAM, PMU_SHMEM, self->gpa, 0, 1UL << 63);
	assert_pmu(SBI_ERR_INVALID_PARAM, PMU_SHMEM, ~0UL, ~0UL, 1);
	assert_pmu(SBI_ERR_INVALID_ADDRESS, PMU_SHMEM, self->gpa, 1, 0);
	assert_pmu(SBI_ERR_INVALID_ADDRESS, PMU_SHMEM, self->gpa, ~0UL, 0);
	assert_pmu(SBI_ERR_INVALID_ADDRESS, PMU_SHMEM, NOWHERE_GPA, 0, 0);
	assert_pmu(SBI_ERR_INVALID_ADDRESS, PMU_SHMEM, 1UL << 63, 0, 0);
	vm_userspace_mem_region_add(self->vm, VM_MEM_SRC_ANONYMOUS, ROM_GPA, ROM_SLOT, 1,
				    KVM_MEM_READONLY);
	assert_pmu(SBI_ERR_INVALID_ADDRESS, PMU_SHMEM, ROM_GPA, 0, 0);
	assert_pmu(ERR_NO_SHMEM, PMU_START, c, 1, INIT_SNAPSHOT);

	assert_pmu(0, PMU_SHMEM, self->gpa, 0, 0);
	assert_pmu(0, PMU_START, c, 1, INIT_SNAPSHOT);
	assert_pmu(0, PMU_STOP, c, 1, TAKE_SNAPSHOT);
	assert_pmu(0, PMU_SHMEM, ~0UL, ~0UL, 0);
	assert_pmu(ERR_NO_SHMEM, PMU_START, c, 1, INIT_SNAPSHOT);
	assert_pmu(0, PMU_START, c, 1);
	assert_pmu(ERR_NO_SHMEM, PMU_STOP, c, 1, TAKE_SNAPSHOT);
	/* What is disabled can be disabled. */
	assert_pmu(0, PMU_SHMEM, ~0UL, ~0UL, 0);
}

/* differences-from-c S16 */
TEST_F(pmu, shmem_alignment)
{
	int shift;

	for (shift = 0; shift < 12; shift++)
		assert_pmu(SBI_ERR_INVALID_PARAM, PMU_SHMEM, self->gpa + (1UL << shift), 0, 0);
}

/* Values are at the place that they have in the set, of both kinds of counters. */
TEST_F(pmu, snapshot_values)
{
	u64 a = lowest(self->fw), b = a + 5, set_timer[6] = { ~0UL };

	assert_pmu(0, PMU_MATCH, a, 1, 0, FW(SET_TIMER));
	assert_pmu(0, PMU_MATCH, b, 1, 0, FW(IPI_SENT));
	assert_pmu(0, PMU_SHMEM, self->gpa, 0, 0);
	self->page[1 + 2] = 1000;
	self->page[1 + 7] = 2000;
	assert_pmu(0, PMU_START, a - 2, 1 << 2 | 1 << 7, INIT_SNAPSHOT);
	sbi_times(self->vcpu, 25, SBI_EXT_TIME, 0, set_timer);
	assert_pmu(0, PMU_STOP, a - 1, 1 << 1 | 1 << 6, TAKE_SNAPSHOT);
	TEST_ASSERT_EQ(self->page[0], 0);
	TEST_ASSERT_EQ(self->page[1 + 1], 1025);
	TEST_ASSERT_EQ(self->page[1 + 6], 2000);
}

/*
 * Only what the specification defines is written, and of that what was asked for
 * (differences-from-c S16).
 */
TEST_F(pmu, snapshot_writes_what_it_should)
{
	u64 a = assert_pmu(0, PMU_MATCH, 0, self->all, 0, CYCLES), b = lowest(self->fw);

	assert_pmu(0, PMU_MATCH, b, 1, 0, FW(SET_TIMER));
	assert_pmu(0, PMU_SHMEM, self->gpa, 0, 0);
	fill(self);
	assert_pmu(0, PMU_START, b, 1, INIT_VALUE, 3);
	assert_pmu(0, PMU_START, a, 1);
	assert_written(self, 0);
	TEST_ASSERT_EQ(self->page[0], FILLER);
	assert_pmu(0, PMU_STOP, b, 1, TAKE_SNAPSHOT);
	assert_written(self, 1);
	TEST_ASSERT_EQ(self->page[0], 0);
	TEST_ASSERT_EQ(self->page[1], 3);
	fill(self);
	assert_pmu(0, PMU_STOP, a, 1, TAKE_SNAPSHOT | RESET);
	assert_written(self, 1);
	fill(self);
	assert_pmu(0, PMU_START, b, 1);
	assert_pmu(0, PMU_STOP, b - 4, 1 << 4, TAKE_SNAPSHOT);
	assert_written(self, 1 << 4);
}

/* The memory is the guest's: what it wrote counts, when it is asked for. */
TEST_F(pmu, snapshot_after_the_memory_changed)
{
	u64 c = lowest(self->fw);
	int i;

	assert_pmu(0, PMU_MATCH, c, 1, 0, FW(SET_TIMER));
	assert_pmu(0, PMU_SHMEM, self->gpa, 0, 0);
	for (i = 0; i < 10; i++) {
		self->page[1] = i * BIG;
		assert_pmu(0, PMU_START, c, 1, INIT_SNAPSHOT);
		self->page[1] = 17;
		TEST_ASSERT_EQ(read_counter(self, c), i * BIG);
		assert_pmu(0, PMU_STOP, c, 1, TAKE_SNAPSHOT);
		TEST_ASSERT_EQ(self->page[1], i * BIG);
	}
}

/* Memory that goes away makes an error of the call, and no noise in the host. */
TEST_F(pmu, snapshot_without_memory)
{
	u64 c = lowest(self->fw);
	int kmsg = kmsg_open();

	vm_userspace_mem_region_add(self->vm, VM_MEM_SRC_ANONYMOUS, ROM_GPA, ROM_SLOT, 1, 0);
	assert_pmu(0, PMU_MATCH, c, 1, AUTO_START, FW(SET_TIMER));
	assert_pmu(0, PMU_SHMEM, ROM_GPA, 0, 0);
	vm_mem_region_delete(self->vm, ROM_SLOT);
	TEST_ASSERT(pmu(PMU_STOP, c, 1, TAKE_SNAPSHOT).error, "there is nowhere to write");
	TEST_ASSERT(pmu(PMU_START, c, 1, INIT_SNAPSHOT).error, "there is nothing to read");
	/* The start was refused. */
	assert_pmu(SBI_ERR_ALREADY_STOPPED, PMU_STOP, c, 1);
	kmsg_assert_quiet(kmsg);
}

/* Whether counters of this host interrupt when they overflow: QEMU's may not. */
static bool host_interrupts(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_HW_CPU_CYCLES,
		.pinned = 1,
		.sample_period = 100000,
		.wakeup_events = 1,
	};
	int fd = syscall(__NR_perf_event_open, &attr, 0, -1, -1, 0);
	struct perf_event_mmap_page *ring;
	int round;
	bool any;

	TEST_ASSERT(fd >= 0, "perf_event_open: %s", strerror(errno));
	ring = mmap(NULL, 2 * SIZE_4K, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	TEST_ASSERT(ring != MAP_FAILED, "perf ring: %s", strerror(errno));
	/* QEMU may deliver the interrupt long after the overflow, on a busy host by seconds. */
	for (round = 0; round < 150 && !READ_ONCE(ring->data_head); round++)
		guest_spin(5000000);
	any = READ_ONCE(ring->data_head);
	munmap(ring, 2 * SIZE_4K);
	close(fd);
	return any;
}

/* Whether the guest is told of overflows. */
static bool has_overflows(FIXTURE_DATA(pmu) *self)
{
	return __vcpu_has_isa_ext(self->vcpu, KVM_RISCV_ISA_EXT_SSCOFPMF);
}

/* Starts @event so that it overflows at once, and waits for its interrupt. */
static u64 overflow(FIXTURE_DATA(pmu) *self, u64 event)
{
	u64 c = assert_pmu(0, PMU_MATCH, 0, self->all, 0, event);

	vm_install_interrupt_handler(self->vm, guest_overflow);
	assert_pmu(0, PMU_SHMEM, self->gpa, 0, 0);
	assert_pmu(0, PMU_START, c, 1, INIT_VALUE, -50000UL);
	TEST_ASSERT(guest_do(self->vcpu, guest_await_overflow, 1000000000),
		    "event %lu: no interrupt", (unsigned long)event);
	return c;
}

TEST_F(pmu, overflow_interrupts)
{
	static const u64 events[] = { CYCLES, INSTRET };
	int i;

	if (!has_overflows(self))
		SKIP(return, "no Sscofpmf");
	if (!host_interrupts())
		SKIP(return, "counters do not interrupt on this host");
	for (i = 0; i < ARRAY_SIZE(events); i++) {
		u64 c = overflow(self, events[i]);

		assert_pmu(0, PMU_STOP, c, 1, TAKE_SNAPSHOT);
		TEST_ASSERT_EQ(self->page[0], 1);
		TEST_ASSERT(self->page[1] < BIG, "the counter did not wrap");
		assert_pmu(SBI_ERR_ALREADY_STOPPED, PMU_STOP, c, 1, RESET);
	}
}

/* A counter that was started anew has not overflowed (differences-from-c S16). */
TEST_F(pmu, overflow_bits)
{
	u64 c;

	if (!has_overflows(self))
		SKIP(return, "no Sscofpmf");
	if (!host_interrupts())
		SKIP(return, "counters do not interrupt on this host");
	c = overflow(self, CYCLES);
	assert_pmu(0, PMU_STOP, c, 1, TAKE_SNAPSHOT);
	TEST_ASSERT_EQ(self->page[0], 1);
	assert_pmu(0, PMU_START, c, 1, INIT_VALUE, 0);
	assert_pmu(0, PMU_STOP, c, 1, TAKE_SNAPSHOT);
	TEST_ASSERT_EQ(self->page[0], 0);
}

/*
 * A counter that has wrapped when it is stopped says so, even if the host's
 * interrupt has not come yet, or never comes (F15).  Without Sscofpmf the bits
 * are zero (F19).
 */
TEST_F(pmu, a_counter_that_stops_has_overflowed)
{
	static const u64 events[] = { CYCLES, INSTRET, CYCLES, INSTRET };
	bool interrupts = has_overflows(self) && host_interrupts();
	int i;

	assert_pmu(0, PMU_SHMEM, self->gpa, 0, 0);
	for (i = 0; i < ARRAY_SIZE(events); i++) {
		u64 c = assert_pmu(0, PMU_MATCH, 0, self->all, 0, events[i]);

		assert_pmu(0, PMU_START, c, 1, INIT_VALUE, -5000UL);
		guest_do(self->vcpu, guest_spin, 1000000);
		fill(self);
		/* Also if it lets its event go at once. */
		assert_pmu(0, PMU_STOP, c, 1, i < 2 ? TAKE_SNAPSHOT : TAKE_SNAPSHOT | RESET);
		TEST_ASSERT(self->page[1] < BIG, "the counter did not wrap");
		TEST_ASSERT_EQ(self->page[0], has_overflows(self));
		if (interrupts)
			TEST_ASSERT_EQ(guest_do(self->vcpu, guest_take_pending, 0), 1);
		if (i >= 2)
			continue;
		assert_pmu(0, PMU_START, c, 1, INIT_VALUE, 0);
		assert_pmu(0, PMU_STOP, c, 1, TAKE_SNAPSHOT | RESET);
		TEST_ASSERT_EQ(self->page[0], 0);
	}
}

/* An entry of event_get_info(). */
struct event_info {
	u32 event;
	u32 output;
	u64 data;
};

TEST_F(pmu, event_info)
{
	static const u32 events[] = {
		CYCLES, INSTRET, SBI_PMU_HW_GENERAL_MAX, 0x1ffff, 0x40000,
	};
	struct event_info *info = (void *)self->page;
	int i;

	for (i = 0; i < SIZE_4K / sizeof(*info); i++)
		info[i] = (struct event_info){ events[i % ARRAY_SIZE(events)], 0x55555555, i };
	assert_pmu(0, PMU_EVENTS, self->gpa, 0, SIZE_4K / sizeof(*info), 0);
	for (i = 0; i < SIZE_4K / sizeof(*info); i++) {
		bool is = i % ARRAY_SIZE(events) < 2;

		TEST_ASSERT(info[i].output == is, "entry %d, event 0x%x: 0x%x", i, info[i].event,
			    info[i].output);
		TEST_ASSERT_EQ(info[i].event, events[i % ARRAY_SIZE(events)]);
		TEST_ASSERT_EQ(info[i].data, i);
	}
	/* One entry in the middle, and none of its neighbours. */
	info[7].output = info[8].output = info[9].output = 0x55555555;
	assert_pmu(0, PMU_EVENTS, self->gpa + 8 * sizeof(*info), 0, 1, 0);
	TEST_ASSERT_EQ(info[7].output, 0x55555555);
	TEST_ASSERT(info[8].output <= 1, "0x%x", info[8].output);
	TEST_ASSERT_EQ(info[9].output, 0x55555555);

	assert_pmu(SBI_ERR_INVALID_PARAM, PMU_EVENTS, self->gpa, 0, 1, 1);
	assert_pmu(SBI_ERR_INVALID_PARAM, PMU_EVENTS, self->gpa, 0, 1, 1UL << 63);
	for (i = 0; i < 4; i++)
		assert_pmu(SBI_ERR_INVALID_PARAM, PMU_EVENTS, self->gpa + (1 << i), 0, 1, 0);
	assert_pmu(SBI_ERR_INVALID_ADDRESS, PMU_EVENTS, self->gpa, 1, 1, 0);
	vm_userspace_mem_region_add(self->vm, VM_MEM_SRC_ANONYMOUS, ROM_GPA, ROM_SLOT, 1,
				    KVM_MEM_READONLY);
	assert_pmu(SBI_ERR_INVALID_ADDRESS, PMU_EVENTS, ROM_GPA, 0, 1, 0);
}

/* differences-from-c N15 */
TEST_F(pmu, event_info_errors)
{
	struct event_info *info = (void *)self->page;

	info[0] = (struct event_info){ FW(MAX), ~0U, 0 };
	assert_pmu(0, PMU_EVENTS, self->gpa, 0, 1, 0);
	TEST_ASSERT(!info[0].output, "a firmware event that is none");
	assert_pmu(SBI_ERR_INVALID_ADDRESS, PMU_EVENTS, NOWHERE_GPA, 0, 1, 0);
	info[0] = (struct event_info){ CYCLES, 0, 0 };
	info[1] = (struct event_info){ 1 << 20 | CYCLES, 0, 0 };
	assert_pmu(SBI_ERR_INVALID_PARAM, PMU_EVENTS, self->gpa, 0, 2, 0);
	info[0].event = 1U << 31;
	assert_pmu(SBI_ERR_INVALID_PARAM, PMU_EVENTS, self->gpa, 0, 1, 0);
}

/*
 * More entries than there is memory: an error at once, not gigabytes of zeros
 * (differences-from-c S8).
 */
TEST_F(pmu, huge_event_info)
{
	static const u64 nr[] = { (1UL << 27) - 1, 1UL << 40, (1UL << 60) - 1, 1UL << 60, ~0UL };
	struct rusage a, b;
	struct sbiret ret;
	double s;
	int i;

	for (i = 0; i < ARRAY_SIZE(nr); i++) {
		getrusage(RUSAGE_THREAD, &a);
		ret = pmu(PMU_EVENTS, self->gpa, 0, nr[i], 0);
		getrusage(RUSAGE_THREAD, &b);
		TEST_ASSERT(ret.error < 0, "%lu entries: error %ld", (unsigned long)nr[i], ret.error);
		s = b.ru_stime.tv_sec - a.ru_stime.tv_sec +
		    (b.ru_stime.tv_usec - a.ru_stime.tv_usec) / 1e6;
		TEST_ASSERT(s < 5, "%lu entries: %.1f s in the kernel", (unsigned long)nr[i], s);
	}
}

TEST_HARNESS_MAIN
