/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What KVM's operations cost, in nanoseconds, which are instructions on a
 * machine that counts them (QEMU's -icount shift=0). tools/bench runs this;
 * tools/profile asks which instructions they are.
 */
#ifndef KVM_BENCH_H
#define KVM_BENCH_H

#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"

#define PAGE		4096UL
#define BLOCK		(2UL << 20)

/* Memory that is measured, and a place without memory. */
#define SLOT		1
#define MEM_GPA		(1UL << 32)
#define MEM_GVA		0x40000000UL
#define MEM_SIZE	(32 * BLOCK)
#define MMIO_GPA	(1UL << 36)
#define MMIO_GVA	0x30000000UL

/*
 * Between these two tools/profile's counter counts. They do nothing, and no
 * compiler emits them: see tools/kvmlab/insn_count.c.
 */
#define mark_begin()	asm volatile("slti zero, zero, 1" ::: "memory")
#define mark_end()	asm volatile("slti zero, zero, 2" ::: "memory")

/* What @stmt takes on @clock, marked if it is the round that counts. */
#define TIMED(clock, stmt)				\
({							\
	u64 __start = clock_ns(clock);			\
							\
	if (marking)					\
		mark_begin();				\
	stmt;						\
	if (marking)					\
		mark_end();				\
	(double)(clock_ns(clock) - __start);		\
})

/* For calls that may sleep, for a grace period mostly: the thread's own time. */
#define CPU_TIME(stmt)	TIMED(CLOCK_THREAD_CPUTIME_ID, stmt)

extern bool marking, opt_profile, opt_quick;

u64 clock_ns(clockid_t clock);
double quiet(double *val, int n);
bool wanted(const char *what);
void tell(const char *what, double ns);

/*
 * Measures @rounds times, after one that does not count, what @ns() takes for
 * @small and for @large operations, and tells the difference divided by the
 * difference in number: what a call costs once is in neither. With @small of 0
 * it is what @large operations take, divided by their number.
 */
void measure(const char *what, double (*ns)(struct kvm_vcpu *vcpu, u64 n),
	     struct kvm_vcpu *vcpu, u64 small, u64 large, int rounds);

/* Our module, which has parameters that the C module lacks? */
bool is_ours(void);
/* Sets a module parameter; nothing if the module has none of this name. */
void set_param(const char *name, const char *val);

/* A VM whose guest sees MEM_GPA and MMIO_GPA; with a dirty ring if it has entries. */
struct kvm_vcpu *bench_vm(u32 ring_entries);

/* The guest's side: does what it is asked for, again and again. */
void guest_code(void);
void guest_ask(struct kvm_vcpu *vcpu, void (*op)(u64 n), u64 n);
double guest_answer(struct kvm_vcpu *vcpu);
double guest_does(struct kvm_vcpu *vcpu, void (*op)(u64 n), u64 n);
double guest_timed(struct kvm_vcpu *vcpu, void (*op)(u64 n), u64 n);
void guest_store_pages(u64 n);
void guest_store_blocks(u64 n);

void bench_exits(struct kvm_vcpu *vcpu);
void bench_pages(struct kvm_vcpu *vcpu);
void bench_aia(void);
void bench_scaling(int nr_vcpus, bool absent, bool traced);

#endif
