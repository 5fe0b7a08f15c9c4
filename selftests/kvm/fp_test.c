// SPDX-License-Identifier: GPL-2.0
/* on-c: pass */
/* covers: arch/fp.rs vcpu/context.rs */
/*
 * Floating-point registers belong to whom they belong: guests and the threads
 * that run them, all on one CPU, have values of their own in all of them, and
 * find them again after each exit, each system call and each preemption.
 */
#include <pthread.h>

#include "kvm_rs_util.h"

#define NR_VCPUS	3
#define NR_REGS		32
#define ROUNDS		100
#define SPIN		"20000"
#define HAND_OVER	0x08000001	/* an SBI extension that userspace serves */

static void fill(u64 *regs, u64 owner, u64 round)
{
	for (u64 i = 0; i < NR_REGS; i++)
		regs[i] = owner << 48 | round << 16 | i;
}

#define ALL(op, base)								\
	op " f0,0(" base ")\n" op " f1,8(" base ")\n" op " f2,16(" base ")\n"	\
	op " f3,24(" base ")\n" op " f4,32(" base ")\n" op " f5,40(" base ")\n"	\
	op " f6,48(" base ")\n" op " f7,56(" base ")\n" op " f8,64(" base ")\n"	\
	op " f9,72(" base ")\n" op " f10,80(" base ")\n" op " f11,88(" base ")\n" \
	op " f12,96(" base ")\n" op " f13,104(" base ")\n" op " f14,112(" base ")\n" \
	op " f15,120(" base ")\n" op " f16,128(" base ")\n" op " f17,136(" base ")\n" \
	op " f18,144(" base ")\n" op " f19,152(" base ")\n" op " f20,160(" base ")\n" \
	op " f21,168(" base ")\n" op " f22,176(" base ")\n" op " f23,184(" base ")\n" \
	op " f24,192(" base ")\n" op " f25,200(" base ")\n" op " f26,208(" base ")\n" \
	op " f27,216(" base ")\n" op " f28,224(" base ")\n" op " f29,232(" base ")\n" \
	op " f30,240(" base ")\n" op " f31,248(" base ")\n"

#define FP_CLOBBERS								\
	"f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9", "f10", "f11",	\
	"f12", "f13", "f14", "f15", "f16", "f17", "f18", "f19", "f20", "f21", "f22",	\
	"f23", "f24", "f25", "f26", "f27", "f28", "f29", "f30", "f31", "memory"

#define PAUSE	"li t0," SPIN "\n1: addi t0,t0,-1\nbnez t0,1b\n"

/* Loads all registers, makes the call in a7, and stores them. */
static long call_with(const u64 *in, u64 *out, long nr, long arg0, long arg1)
{
	register long a0 asm("a0") = arg0;
	register long a1 asm("a1") = arg1;
	register long a2 asm("a2") = 0;
	register long a6 asm("a6") = 0;
	register long a7 asm("a7") = nr;
	register const u64 *s2 asm("s2") = in;
	register u64 *s3 asm("s3") = out;

	asm volatile(".option push\n.option arch, +d\n"
		     ALL("fld", "s2") PAUSE "ecall\n" PAUSE ALL("fsd", "s3")
		     ".option pop\n"
		     : "+r"(a0), "+r"(a1)
		     : "r"(a2), "r"(a6), "r"(a7), "r"(s2), "r"(s3)
		     : "t0", FP_CLOBBERS);
	return a0;
}

/*
 * The same, and once more without loading them, when they are clean. Not inline,
 * so that nothing is saved of them before the guest has switched its unit on.
 */
static noinline void call_twice(const u64 *in, u64 *out, u64 *again, long nr)
{
	register long a0 asm("a0") = 0;
	register long a1 asm("a1") = 0;
	register long a6 asm("a6") = 0;
	register long a7 asm("a7") = nr;
	register const u64 *s2 asm("s2") = in;
	register u64 *s3 asm("s3") = out;
	register u64 *s4 asm("s4") = again;

	asm volatile(".option push\n.option arch, +d\n"
		     ALL("fld", "s2") PAUSE "ecall\n" PAUSE ALL("fsd", "s3")
		     PAUSE "ecall\n" PAUSE ALL("fsd", "s4")
		     ".option pop\n"
		     : "+r"(a0), "+r"(a1)
		     : "r"(a6), "r"(a7), "r"(s2), "r"(s3), "r"(s4)
		     : "t0", FP_CLOBBERS);
}

static void guest_code(u64 owner)
{
	u64 in[NR_REGS], out[NR_REGS], again[NR_REGS];

	csr_set(CSR_SSTATUS, SR_FS_INITIAL);
	for (u64 round = 0; round < ROUNDS; round++) {
		fill(in, owner, round);
		call_twice(in, out, again, HAND_OVER);
		for (int i = 0; i < NR_REGS; i++) {
			GUEST_ASSERT_EQ(out[i], in[i]);
			GUEST_ASSERT_EQ(again[i], in[i]);
		}
	}
	GUEST_DONE();
}

static void assert_same(const u64 *out, const u64 *in, const char *who)
{
	for (int i = 0; i < NR_REGS; i++)
		TEST_ASSERT(out[i] == in[i], "%s: f%d is 0x%lx, not 0x%lx", who, i,
			    (unsigned long)out[i], (unsigned long)in[i]);
}

static void *run_vcpu(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	u64 in[NR_REGS], out[NR_REGS];
	struct ucall uc;

	pin_self_to_cpu(0);
	for (u64 round = 0;; round++) {
		fill(in, 0x100 + vcpu->id, round);
		call_with(in, out, __NR_ioctl, vcpu->fd, KVM_RUN);
		assert_same(out, in, "the vCPU's thread");
		TEST_ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_RISCV_SBI);
		if (vcpu->run->riscv_sbi.extension_id == HAND_OVER) {
			vcpu->run->riscv_sbi.ret[0] = 0;
			continue;
		}
		if (get_ucall(vcpu, &uc) == UCALL_ABORT)
			REPORT_GUEST_ASSERT(uc);
		TEST_ASSERT_EQ(uc.cmd, UCALL_DONE);
		return NULL;
	}
}

static bool done;

/* Somebody else, who has nothing to do with KVM. */
static void *run_other(void *arg)
{
	u64 in[NR_REGS], out[NR_REGS];

	pin_self_to_cpu(0);
	for (u64 round = 0; !READ_ONCE(done); round++) {
		fill(in, 0x200, round);
		call_with(in, out, __NR_sched_yield, 0, 0);
		assert_same(out, in, "another thread");
	}
	return NULL;
}

TEST(all_on_one_cpu)
{
	struct kvm_vcpu *vcpus[NR_VCPUS];
	pthread_t threads[NR_VCPUS], other;
	struct kvm_vm *vm = vm_create_with_vcpus(NR_VCPUS, guest_code, vcpus);

	pthread_create(&other, NULL, run_other, NULL);
	for (int i = 0; i < NR_VCPUS; i++) {
		vcpu_args_set(vcpus[i], 1, (u64)i + 1);
		pthread_create(&threads[i], NULL, run_vcpu, vcpus[i]);
	}
	for (int i = 0; i < NR_VCPUS; i++)
		pthread_join(threads[i], NULL);
	WRITE_ONCE(done, true);
	pthread_join(other, NULL);
	kvm_vm_free(vm);
}

TEST_HARNESS_MAIN
