// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: M13, S2, S6, S7, S16, N15, F9, F18 */
/* also-on: few-counters: fail: F12 */
/* covers: sbi/pmu.rs vcpu/pmu.rs vcpu/pmu/counters.rs vcpu/pmu/event.rs
 * vcpu/pmu/firmware.rs vcpu/pmu/layout.rs sbi_abi/message/pmu.rs */
/*
 * The SBI PMU extension by the words of its specification: every function, its
 * errors, what is counted, and what a counter's state is after each call.
 */
#include <linux/perf_event.h>
#include <pthread.h>
#include <sys/syscall.h>

#include "kvm_rs_pmu.h"

TEST_F(pmu, counters)
{
	int i, hw = 0;

	assert_pmu(SBI_ERR_INVALID_PARAM, PMU_INFO, TIME_COUNTER);
	assert_pmu(SBI_ERR_INVALID_PARAM, PMU_INFO, 64);
	assert_pmu(SBI_ERR_INVALID_PARAM, PMU_INFO, 1UL << 32);
	assert_pmu(SBI_ERR_INVALID_PARAM, PMU_INFO, ~0UL);
	for_each_bit(i, self->hw | self->fixed) {
		TEST_ASSERT(self->info[i].csr == CSR_CYCLE + i, "counter %d: CSR 0x%x", i,
			    (unsigned int)self->info[i].csr);
		TEST_ASSERT(self->info[i].width >= 31, "counter %d: width %u", i,
			    (unsigned int)self->info[i].width);
		hw++;
	}
	TH_LOG("%d counters in hardware, %lu in all", hw, (unsigned long)self->nr);
	assert_pmu(SBI_ERR_NOT_SUPPORTED, 9);
	assert_pmu(SBI_ERR_NOT_SUPPORTED, ~0U);
}

/* differences-from-c S16 */
TEST_F(pmu, info_beyond)
{
	u64 i;

	for (i = self->nr; i < 64; i++)
		assert_pmu(SBI_ERR_INVALID_PARAM, PMU_INFO, i);
}

/* Sets of counters with one that is none: all functions that take a set. */
TEST_F(pmu, invalid_sets)
{
	const u64 sets[][2] = {
		{ 0, 0 }, { 3, 0 }, { self->nr, 1 }, { 0, self->all + 1 }, { 0, ~0UL },
		{ self->nr - 1, 3 }, { ~0UL, 1 }, { ~0UL, 3 }, { ~0UL - 62, 1UL << 63 },
		{ 1UL << 32, 1 }, { 64, 1 },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(sets); i++) {
		assert_pmu(SBI_ERR_INVALID_PARAM, PMU_MATCH, sets[i][0], sets[i][1], 0, CYCLES);
		assert_pmu(SBI_ERR_INVALID_PARAM, PMU_MATCH, sets[i][0], sets[i][1], 0,
			   FW(SET_TIMER));
		assert_pmu(SBI_ERR_INVALID_PARAM, PMU_MATCH, sets[i][0], sets[i][1], SKIP_MATCH,
			   CYCLES);
		assert_pmu(SBI_ERR_INVALID_PARAM, PMU_START, sets[i][0], sets[i][1]);
		assert_pmu(SBI_ERR_INVALID_PARAM, PMU_STOP, sets[i][0], sets[i][1]);
	}
}

TEST_F(pmu, events_that_are_not)
{
	static const u64 events[] = {
		SBI_PMU_HW_GENERAL_MAX, 0x1234, 0xffff,	/* general */
		0x10000 | 0xffff, 0x10000 | 7 << 3,	/* cache */
		0x40000, 0xe0001,			/* of no type */
		FW(MAX), 0xf00ff, 0xffffe,		/* firmware */
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(events); i++)
		assert_pmu(SBI_ERR_NOT_SUPPORTED, PMU_MATCH, 0, self->all, 0, events[i]);
	/* Events for counters that are not in the set. */
	assert_pmu(SBI_ERR_NOT_SUPPORTED, PMU_MATCH, 0, self->hw | self->fixed, 0, FW(SET_TIMER));
	assert_pmu(SBI_ERR_NOT_SUPPORTED, PMU_MATCH, TIME_COUNTER, 1, 0, FW(SET_TIMER));
}

/* differences-from-c S16 */
TEST_F(pmu, fixed_counter_obeys_the_set)
{
	const u64 sets[] = { self->hw, self->fw, 1UL << TIME_COUNTER, 1UL << 2 };
	struct sbiret ret;
	int i;

	for (i = 0; i < ARRAY_SIZE(sets); i++) {
		ret = pmu(PMU_MATCH, 0, sets[i], 0, CYCLES);
		if (ret.error)
			TEST_ASSERT_EQ(ret.error, SBI_ERR_NOT_SUPPORTED);
		else
			TEST_ASSERT(sets[i] >> ret.value & 1, "counter %ld is not in the set",
				    ret.value);
	}
}

/* Reserved bits and values (differences-from-c N15). */
TEST_F(pmu, reserved_bits_are_refused)
{
	u64 c = lowest(self->fw);
	int i;

	assert_pmu(SBI_ERR_NOT_SUPPORTED, PMU_MATCH, 0, self->all, 0, SBI_PMU_HW_NO_EVENT);
	for (i = 8; i < 64; i += 11)
		assert_pmu(SBI_ERR_INVALID_PARAM, PMU_MATCH, c, 1, 1UL << i, FW(SET_TIMER));
	TEST_ASSERT_EQ(assert_pmu(0, PMU_MATCH, c, 1, 0, FW(SET_TIMER)), c);
	for (i = 2; i < 64; i++) {
		assert_pmu(SBI_ERR_INVALID_PARAM, PMU_START, c, 1, 1UL << i);
		assert_pmu(SBI_ERR_INVALID_PARAM, PMU_STOP, c, 1, 1UL << i);
	}
	/* None of the calls did anything. */
	assert_pmu(SBI_ERR_ALREADY_STOPPED, PMU_STOP, c, 1);
}

TEST_F(pmu, firmware_read)
{
	const u64 none[] = { TIME_COUNTER, self->nr, 63, 64, 1UL << 32, ~0UL };
	u64 c = lowest(self->fw);
	int i;

	for (i = 0; i < ARRAY_SIZE(none); i++)
		assert_pmu(SBI_ERR_INVALID_PARAM, PMU_READ, none[i]);
	assert_pmu(SBI_ERR_INVALID_PARAM, PMU_READ, 0);
	assert_pmu(SBI_ERR_INVALID_PARAM, PMU_READ, lowest(self->hw));
	assert_pmu(0, PMU_MATCH, c, 1, 0, FW(SET_TIMER));
	assert_pmu(0, PMU_START, c, 1, INIT_VALUE, BIG * BIG - 3);
	TEST_ASSERT_EQ(assert_pmu(0, PMU_READ, c), BIG * BIG - 3);
	TEST_ASSERT_EQ(assert_pmu(0, PMU_READ_HI, c), 0);
}

/* differences-from-c N15 */
TEST_F(pmu, firmware_read_of_hardware)
{
	u64 c = assert_pmu(0, PMU_MATCH, 0, self->all, AUTO_START, CYCLES);

	assert_pmu(SBI_ERR_INVALID_PARAM, PMU_READ, c);
	assert_pmu(SBI_ERR_INVALID_PARAM, PMU_READ_HI, c);
	assert_pmu(SBI_ERR_INVALID_PARAM, PMU_READ_HI, self->nr);
	assert_pmu(SBI_ERR_INVALID_PARAM, PMU_READ_HI, ~0UL);
}

/* One configuration, all orders of start and stop. */
static void start_and_stop(FIXTURE_DATA(pmu) *self, u64 event)
{
	u64 c = assert_pmu(0, PMU_MATCH, 0, self->all, 0, event);
	u64 v;

	assert_pmu(SBI_ERR_ALREADY_STOPPED, PMU_STOP, c, 1);
	assert_pmu(0, PMU_START, c, 1, INIT_VALUE, 1000);
	assert_pmu(SBI_ERR_ALREADY_STARTED, PMU_START, c, 1);
	TEST_ASSERT(read_counter(self, c) >= 1000, "the initial value was not taken");
	assert_pmu(0, PMU_STOP, c, 1);
	assert_pmu(SBI_ERR_ALREADY_STOPPED, PMU_STOP, c, 1);
	v = read_counter(self, c);
	guest_do(self->vcpu, guest_spin, 1000);
	TEST_ASSERT(read_counter(self, c) == v, "a counter counts that is stopped");
	/* Without an initial value it goes on from where it was. */
	assert_pmu(0, PMU_START, c, 1);
	TEST_ASSERT(read_counter(self, c) >= v, "a restart loses the value");
	assert_pmu(0, PMU_STOP, c, 1, RESET);
	/* It can be had again, for the same and with another value. */
	TEST_ASSERT_EQ(assert_pmu(0, PMU_MATCH, c, 1, 0, event), c);
	TEST_ASSERT_EQ(assert_pmu(0, PMU_MATCH, c, 1, SKIP_MATCH | CLEAR_VALUE, event), c);
	assert_pmu(0, PMU_START, c, 1, INIT_VALUE, 5);
	TEST_ASSERT(read_counter(self, c) < BIG, "the initial value was not taken");
	assert_pmu(0, PMU_STOP, c, 1);
	/* Hints about modes need not be heeded, but taken. */
	assert_pmu(0, PMU_MATCH, c, 1, SKIP_MATCH | 0xf8, event);
	assert_pmu(SBI_ERR_ALREADY_STOPPED, PMU_STOP, c, 1, RESET);
}

TEST_F(pmu, start_and_stop_cycles)	{ start_and_stop(self, CYCLES); }
TEST_F(pmu, start_and_stop_instret)	{ start_and_stop(self, INSTRET); }
TEST_F(pmu, start_and_stop_firmware)	{ start_and_stop(self, FW(SET_TIMER)); }

/* Sets of more than one counter. */
TEST_F(pmu, several_at_once)
{
	u64 a = lowest(self->fw), b = a + 3;

	TEST_ASSERT_EQ(assert_pmu(0, PMU_MATCH, a, 1, 0, FW(SET_TIMER)), a);
	TEST_ASSERT_EQ(assert_pmu(0, PMU_MATCH, a, 9, AUTO_START, FW(IPI_SENT)), b);
	assert_pmu(SBI_ERR_ALREADY_STARTED, PMU_START, a, 9, INIT_VALUE, 7);
	assert_pmu(0, PMU_STOP, a, 9);
	assert_pmu(SBI_ERR_ALREADY_STOPPED, PMU_STOP, a, 9);
	assert_pmu(0, PMU_START, a, 9, INIT_VALUE, 7);
	TEST_ASSERT_EQ(read_counter(self, a), 7);
	TEST_ASSERT_EQ(read_counter(self, b), 7);
	/* Neither is free for another event. */
	assert_pmu(SBI_ERR_NOT_SUPPORTED, PMU_MATCH, a, 9, 0, FW(IPI_RCVD));
}

static void counts(FIXTURE_DATA(pmu) *self, u64 event, u64 times, u64 want, u64 ext, u64 fid,
		   const u64 *arg)
{
	u64 c = assert_pmu(0, PMU_MATCH, 0, self->all, 0, event), v;

	assert_pmu(0, PMU_START, c, 1, INIT_VALUE, 11);
	TEST_ASSERT_EQ(sbi_times(self->vcpu, times, ext, fid, arg).error, 0);
	v = read_counter(self, c);
	TEST_ASSERT(v == 11 + want, "event 0x%lx: %lu of %lu were counted", (unsigned long)event,
		    (unsigned long)v - 11, (unsigned long)want);
	assert_pmu(0, PMU_STOP, c, 1);
	sbi_times(self->vcpu, times, ext, fid, arg);
	TEST_ASSERT_EQ(read_counter(self, c), v);
	assert_pmu(SBI_ERR_ALREADY_STOPPED, PMU_STOP, c, 1, RESET);
}

#define COUNTS(event, times, want, ext, fid, args...) \
	counts(self, FW(event), times, want, ext, fid, (u64[6]){ args })

TEST_F(pmu, firmware_events)
{
	COUNTS(SET_TIMER, 1000, 1000, SBI_EXT_TIME, 0, ~0UL);
	COUNTS(IPI_SENT, 300, 300, SBI_EXT_IPI, 0, 1, 0);
	COUNTS(IPI_RCVD, 300, 300, SBI_EXT_IPI, 0, 1, 0);
	COUNTS(FENCE_I_SENT, 100, 100, SBI_EXT_RFENCE, 0, 1, 0);
	COUNTS(FENCE_I_RCVD, 100, 100, SBI_EXT_RFENCE, 0, 1, 0);
	/* Others' events are none of this one's. */
	COUNTS(SET_TIMER, 100, 0, SBI_EXT_IPI, 0, 1, 0);
	COUNTS(MISALIGNED_LOAD, 10, 0, SBI_EXT_TIME, 0, ~0UL);
}

/* What the guest calls sfence.vma is that for its counters, too (differences-from-c N15). */
TEST_F(pmu, sfence_events)
{
	COUNTS(SFENCE_VMA_SENT, 50, 50, SBI_EXT_RFENCE, 1, 1, 0, 0, ~0UL);
	COUNTS(SFENCE_VMA_ASID_SENT, 50, 50, SBI_EXT_RFENCE, 2, 1, 0, 0, ~0UL, 0);
}

/* Starts a counter of @event out of @set; evaluates to its CSR. */
static u32 start_csr(FIXTURE_DATA(pmu) *self, u64 set, u64 event)
{
	return self->info[assert_pmu(0, PMU_MATCH, 0, set, AUTO_START, event)].csr;
}

TEST_F(pmu, csrs_of_supervisor)
{
	const u32 csrs[] = {
		start_csr(self, self->all, CYCLES), start_csr(self, self->all, INSTRET),
	};
	u64 a, b;
	int i;

	for (i = 0; i < ARRAY_SIZE(csrs); i++) {
		a = read_counter(self, csrs[i] - CSR_CYCLE);
		guest_do(self->vcpu, guest_spin, 10000);
		b = read_counter(self, csrs[i] - CSR_CYCLE);
		TEST_ASSERT(b > a, "CSR 0x%x: %lu, then %lu", csrs[i], (unsigned long)a,
			    (unsigned long)b);
		assert_illegal(self->vcpu, super_insn, CSRRW(csrs[i]), "a write");
	}
	/* Counters without an event, and numbers that are no counter's. */
	assert_illegal(self->vcpu, super_insn, CSRR(CSR_HPMCOUNTER31), "hpmcounter31");
	assert_illegal(self->vcpu, super_insn, CSRR(CSR_CYCLE + lowest(self->hw)), "a free one");
}

/* A user reads what scounteren lets him (differences-from-c M13). */
TEST_F(pmu, csrs_of_user)
{
	const u32 csrs[] = {
		start_csr(self, self->all, CYCLES), start_csr(self, self->all, INSTRET),
	};
	u64 a, b;
	int i;

	for (i = 0; i < ARRAY_SIZE(csrs); i++) {
		run_insn(self->vcpu, set_scounteren, 1UL << (csrs[i] - CSR_CYCLE), NULL);
		a = read_counter(self, csrs[i] - CSR_CYCLE);
		TEST_ASSERT_EQ(run_insn(self->vcpu, user_insn, CSRR(csrs[i]), &b), NO_TRAP);
		TEST_ASSERT(b > a, "supervisor and user read different counters");
		assert_illegal(self->vcpu, user_insn, CSRRW(csrs[i]), "a write by the user");
		run_insn(self->vcpu, set_scounteren, ~(1UL << (csrs[i] - CSR_CYCLE)), NULL);
		assert_illegal(self->vcpu, user_insn, CSRR(csrs[i]), "a read by the user");
	}
}

/* Zicntr's two counters. */
static const u32 zicntr[] = { CSR_CYCLE, CSR_INSTRET };

/*
 * A guest without a driver for the PMU reads them: loaders and libraries do so
 * for a clock or for entropy (F9).
 */
TEST(cycle_and_instret_are_there_without_any_call)
{
	struct kvm_vcpu *vcpu = priv_create();
	u64 val, cause;
	int i;

	for (i = 0; i < ARRAY_SIZE(zicntr); i++) {
		cause = run_insn(vcpu, super_insn, CSRR(zicntr[i]), &val);
		TEST_ASSERT(cause == NO_TRAP, "CSR 0x%x: cause %ld", zicntr[i], (long)cause);
		TEST_ASSERT_EQ(val, 0);
		assert_illegal(vcpu, super_insn, CSRRW(zicntr[i]), "a write");
		run_insn(vcpu, set_scounteren, 7, NULL);
		TEST_ASSERT_EQ(run_insn(vcpu, user_insn, CSRR(zicntr[i]), &val), NO_TRAP);
		TEST_ASSERT_EQ(val, 0);
		run_insn(vcpu, set_scounteren, 0, NULL);
		assert_illegal(vcpu, user_insn, CSRR(zicntr[i]), "a read by the user");
	}
	/* Other counters are the PMU's. */
	assert_illegal(vcpu, super_insn, CSRR(CSR_HPMCOUNTER3), "hpmcounter3");
	kvm_vm_free(vcpu->vm);
}

/*
 * A driver stops all counters when it begins, and lets them go when it is done.
 * The two can be read all the time; Linux lets its users read them without
 * having an event for them (perf_user_access of 2) (F9).
 */
TEST_F(pmu, cycle_and_instret_hold_what_they_had)
{
	static const u64 events[] = { CYCLES, INSTRET };
	u64 c, val;
	int i;

	assert_pmu(0, PMU_STOP, 0, self->all, RESET);
	for (i = 0; i < ARRAY_SIZE(zicntr); i++) {
		c = zicntr[i] - CSR_CYCLE;
		TEST_ASSERT_EQ(read_counter(self, c), 0);
		TEST_ASSERT_EQ(assert_pmu(0, PMU_MATCH, c, 1, 0, events[i]), c);
		TEST_ASSERT_EQ(read_counter(self, c), 0);
		assert_pmu(0, PMU_START, c, 1, INIT_VALUE, BIG);
		assert_pmu(0, PMU_STOP, c, 1);
		val = read_counter(self, c);
		TEST_ASSERT(val > BIG, "counter %lu: %lu", (unsigned long)c, (unsigned long)val);
		assert_pmu(SBI_ERR_ALREADY_STOPPED, PMU_STOP, c, 1, RESET);
		TEST_ASSERT_EQ(read_counter(self, c), val);
		run_insn(self->vcpu, set_scounteren, 7, NULL);
		TEST_ASSERT_EQ(run_insn(self->vcpu, user_insn, CSRR(zicntr[i]), &c), NO_TRAP);
		TEST_ASSERT_EQ(c, val);
	}
}

/* In the guest: instructions, and both kinds of misses in the data TLB. */
static u64 guest_work(u64 gva)
{
	u64 i;

	for (i = 0; i < 100; i++) {
		asm volatile("sfence.vma" : : : "memory");
		READ_ONCE(*(u64 *)gva);
		asm volatile("sfence.vma" : : : "memory");
		WRITE_ONCE(*(u64 *)gva, i);
	}
	return 0;
}

/* Events that happen in guest_work(): no two counters need to count one. */
#define DTLB_MISS(op)	(0x10000UL | PERF_COUNT_HW_CACHE_DTLB << 3 | (op) << 1 | 1)

static const u64 busy_events[] = {
	CYCLES, INSTRET,
	DTLB_MISS(PERF_COUNT_HW_CACHE_OP_READ), DTLB_MISS(PERF_COUNT_HW_CACHE_OP_WRITE),
};

/* The counters for them. */
static void choose_counters(FIXTURE_DATA(pmu) *self, u64 c[])
{
	c[0] = 0;
	c[1] = CSR_INSTRET - CSR_CYCLE;
	c[2] = lowest(self->hw);
	c[3] = c[2] + 1;
	TEST_ASSERT(self->hw >> c[3] & 1, "one programmable counter");
}

static void assert_counts(FIXTURE_DATA(pmu) *self, u64 c)
{
	u64 before = read_counter(self, c);

	guest_do(self->vcpu, guest_work, self->gva);
	TEST_ASSERT(read_counter(self, c) > before, "counter %lu does not count",
		    (unsigned long)c);
}

/*
 * The host may have fewer counters that can count at a time than it tells of:
 * what counts is what was said to be configured and started (F12).
 */
TEST_F(pmu, a_counter_that_was_started_counts)
{
	u64 c[ARRAY_SIZE(busy_events)], started = 0, refused = 0;
	int i;

	choose_counters(self, c);
	for (i = 0; i < ARRAY_SIZE(c); i++) {
		struct sbiret ret = pmu(PMU_MATCH, c[i], 1, AUTO_START, busy_events[i]);

		if (ret.error) {
			TEST_ASSERT_EQ(ret.error, SBI_ERR_NOT_SUPPORTED);
			/* It can once another has given its own back. */
			assert_pmu(0, PMU_STOP, lowest(started), 1, RESET);
			started &= started - 1;
			refused++;
			TEST_ASSERT_EQ(assert_pmu(0, PMU_MATCH, c[i], 1, AUTO_START,
						  busy_events[i]), c[i]);
		}
		started |= 1UL << c[i];
		assert_counts(self, c[i]);
		/* A new event in the place of another needs no other counter. */
		assert_pmu(0, PMU_MATCH, c[i], 1, SKIP_MATCH | AUTO_START, busy_events[i]);
		assert_counts(self, c[i]);
	}
	TH_LOG("%lu of %lu found no counter", (unsigned long)refused, ARRAY_SIZE(c));
}

/* More may be configured than can start. */
TEST_F(pmu, a_counter_that_cannot_count_does_not_start)
{
	u64 c[ARRAY_SIZE(busy_events)], started = 0;
	int i;

	choose_counters(self, c);
	for (i = 0; i < ARRAY_SIZE(c); i++)
		assert_pmu(0, PMU_MATCH, c[i], 1, 0, busy_events[i]);
	for (i = 0; i < ARRAY_SIZE(c); i++) {
		struct sbiret ret = pmu(PMU_START, c[i], 1, INIT_VALUE, 5);

		if (ret.error) {
			TEST_ASSERT_EQ(ret.error, SBI_ERR_FAILURE);
			assert_pmu(SBI_ERR_ALREADY_STOPPED, PMU_STOP, c[i], 1);
			assert_pmu(0, PMU_STOP, lowest(started), 1);
			started &= started - 1;
			assert_pmu(0, PMU_START, c[i], 1);
		}
		started |= 1UL << c[i];
		assert_counts(self, c[i]);
	}
}

/* What @c counts while @who, which may be another vCPU of the same thread, spins. */
static u64 count_spin(FIXTURE_DATA(pmu) *self, u64 c, struct kvm_vcpu *who)
{
	u64 before = read_counter(self, c);

	guest_do(who, guest_spin, 10000000);
	return read_counter(self, c) - before;
}

/*
 * One thread runs two vCPUs in turn: each counts itself (F18).  What a turn
 * takes depends on the host's load, so that there are more tries than one; what
 * is least for the vCPU itself is the least that another one takes.
 */
TEST_F(pmu, a_counter_counts_its_own_vcpu)
{
	struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvm_vcpu *other = vm_vcpu_add(self->vm, 1, guest_server);
	static const u64 events[] = { CYCLES, INSTRET };
	u64 c, own, others;
	int i, tries;

	vcpu_init_vector_tables(other);
	vcpu_ioctl(other, KVM_SET_MP_STATE, &runnable);
	for (i = 0; i < ARRAY_SIZE(events); i++) {
		c = assert_pmu(0, PMU_MATCH, 0, self->all, AUTO_START, events[i]);
		own = ~0UL;
		for (tries = 0; tries < 20; tries++) {
			own = min(own, count_spin(self, c, self->vcpu));
			others = count_spin(self, c, other);
			if (others < own / 20)
				break;
		}
		TEST_ASSERT(tries < 20, "event %lu: %lu by itself, %lu by another",
			    (unsigned long)events[i], (unsigned long)own, (unsigned long)others);
	}
}

/* differences-from-c S2 */
TEST_F(pmu, firmware_event_on_hardware)
{
	u64 c = assert_pmu(0, PMU_MATCH, 0, self->all, 0, CYCLES);
	struct sbiret ret = pmu(PMU_MATCH, c, 1, SKIP_MATCH, FW(SET_TIMER));

	TEST_ASSERT(ret.error == SBI_ERR_NOT_SUPPORTED, "error %ld", ret.error);
	/* The counter is what it was. */
	assert_pmu(0, PMU_START, c, 1);
	assert_pmu(0, PMU_STOP, c, 1, RESET);
}

/* Whether the host has a counter left for this thread. */
static bool host_counts(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_HW_CPU_CYCLES,
		.pinned = 1,
	};
	int fd = syscall(__NR_perf_event_open, &attr, 0, -1, -1, 0);
	u64 val = 0;
	ssize_t n;

	TEST_ASSERT(fd >= 0, "perf_event_open: %s", strerror(errno));
	guest_spin(1000);
	/* An event that found no counter has an end of file. */
	n = read(fd, &val, sizeof(val));
	close(fd);
	return n == sizeof(val) && val;
}

/*
 * Events in hardware on counters of firmware, let go by stop(RESET): they must
 * not go on for ever, with all counters of the host (differences-from-c S2).
 */
TEST_F(pmu, no_event_outlives_its_vm)
{
	int i;

	if (!host_counts())
		SKIP(return, "the host has no counter");
	for_each_bit(i, self->fw) {
		assert_pmu(0, PMU_MATCH, i, 1, 0, FW(SET_TIMER));
		pmu(PMU_MATCH, i, 1, SKIP_MATCH | AUTO_START, CYCLES);
		pmu(PMU_STOP, i, 1, RESET);
	}
	kvm_vm_free(self->vm);
	self->vm = NULL;
	TEST_ASSERT(host_counts(), "counters of a VM that is gone still count");
}

/* differences-from-c S6 */
TEST_F(pmu, auto_start)
{
	u64 c = assert_pmu(0, PMU_MATCH, 0, self->all, AUTO_START, CYCLES), v;

	assert_pmu(SBI_ERR_ALREADY_STARTED, PMU_START, c, 1);
	assert_pmu(0, PMU_STOP, c, 1);
	v = read_counter(self, c);
	guest_do(self->vcpu, guest_spin, 1000);
	TEST_ASSERT(read_counter(self, c) == v, "it still counts");
}

/* differences-from-c S6 */
TEST_F(pmu, refused_start)
{
	u64 c = assert_pmu(0, PMU_MATCH, 0, self->all, 0, CYCLES);

	assert_pmu(0, PMU_START, c, 1, INIT_VALUE, 1000);
	assert_pmu(SBI_ERR_ALREADY_STARTED, PMU_START, c, 1, INIT_VALUE, BIG);
	TEST_ASSERT(read_counter(self, c) < BIG, "a start that was refused set the value");
}

/* Two counters of one firmware event are two (differences-from-c S6). */
TEST_F(pmu, fresh_event)
{
	u64 a = lowest(self->fw), b = a + 1, set_timer[6] = { ~0UL };

	assert_pmu(0, PMU_MATCH, a, 1, 0, FW(SET_TIMER));
	assert_pmu(0, PMU_MATCH, b, 1, 0, FW(SET_TIMER));
	assert_pmu(0, PMU_START, a, 1, INIT_VALUE, 100);
	assert_pmu(0, PMU_START, b, 1, INIT_VALUE, 200);
	sbi_times(self->vcpu, 10, SBI_EXT_TIME, 0, set_timer);
	assert_pmu(0, PMU_STOP, a, 1);
	sbi_times(self->vcpu, 10, SBI_EXT_TIME, 0, set_timer);
	TEST_ASSERT_EQ(read_counter(self, a), 110);
	TEST_ASSERT_EQ(read_counter(self, b), 220);
}

/* A new event on a counter that ran does not run, and can be started (differences-from-c S6). */
TEST_F(pmu, event_after_event)
{
	u64 c = assert_pmu(0, PMU_MATCH, 0, self->all, 0, CYCLES);

	assert_pmu(0, PMU_START, c, 1);
	if (pmu(PMU_MATCH, c, 1, SKIP_MATCH | CLEAR_VALUE, CYCLES).error)
		SKIP(return, "a counter that runs takes no event");
	assert_pmu(0, PMU_START, c, 1);
}

/* differences-from-c S6 */
TEST_F(pmu, clear_value_of_firmware)
{
	u64 c = lowest(self->fw);

	assert_pmu(0, PMU_MATCH, c, 1, 0, FW(SET_TIMER));
	assert_pmu(0, PMU_START, c, 1, INIT_VALUE, BIG);
	assert_pmu(0, PMU_STOP, c, 1);
	assert_pmu(0, PMU_MATCH, c, 1, SKIP_MATCH | CLEAR_VALUE, FW(SET_TIMER));
	TEST_ASSERT_EQ(read_counter(self, c), 0);
}

/* What a guest does wrong is not for the host's log (differences-from-c S7). */
TEST_F(pmu, log_stays_empty)
{
	u64 past[6] = { self->nr };
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK), lines = 0;
	char line[8192];

	if (fd < 0)
		SKIP(return, "no /dev/kmsg");
	lseek(fd, 0, SEEK_END);
	sbi_times(self->vcpu, 500, SBI_EXT_PMU, PMU_READ, past);
	while (read(fd, line, sizeof(line)) > 0 || errno == EPIPE)
		lines++;
	close(fd);
	TEST_ASSERT(lines < 50, "%d lines in the log", lines);
}

#define SENDERS	2
#define SENT	5000

static void guest_sender(void)
{
	int i;

	for (i = 0; i < SENT; i++)
		sbi_ecall(SBI_EXT_IPI, 0, 1, 0, 0, 0, 0, 0);
	GUEST_DONE();
}

static void *run_sender(void *vcpu)
{
	run_to_done(vcpu);
	return NULL;
}

/* IPIs from several harts at once are counted one by one (C has a race there). */
TEST_F(pmu, ipis_received)
{
	struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };
	u64 c = assert_pmu(0, PMU_MATCH, 0, self->all, 0, FW(IPI_RCVD)), v;
	struct kvm_vcpu *senders[SENDERS];
	pthread_t threads[SENDERS];
	int i;

	assert_pmu(0, PMU_START, c, 1, INIT_VALUE, 0);
	for (i = 0; i < SENDERS; i++) {
		senders[i] = vm_vcpu_add(self->vm, 1 + i, guest_sender);
		vcpu_ioctl(senders[i], KVM_SET_MP_STATE, &runnable);
	}
	for (i = 0; i < SENDERS; i++)
		pthread_create(&threads[i], NULL, run_sender, senders[i]);
	for (i = 0; i < SENDERS; i++)
		pthread_join(threads[i], NULL);
	v = read_counter(self, c);
	TEST_ASSERT(v == SENDERS * SENT, "%lu of %d were counted", (unsigned long)v,
		    SENDERS * SENT);
}

TEST_HARNESS_MAIN
