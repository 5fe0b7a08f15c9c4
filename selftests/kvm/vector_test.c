// SPDX-License-Identifier: GPL-2.0
/* on-c: pass */
/* covers: arch/vector.rs vcpu/onereg/units.rs vcpu/context.rs */
/*
 * Vector registers belong to whom they belong: guests and threads of the host,
 * all on one CPU, have values of their own in all of them.  Guests find theirs
 * again after each exit and each preemption, threads after each preemption; a
 * system call of theirs may clobber them, but not with what guests had.
 */
#include <pthread.h>

#include "kvm_rs_util.h"

#define NR_VCPUS	3
#define MAX_WORDS	(32 * 1024 / 8)	/* 32 registers of up to 8192 bits */
#define ROUNDS		40
#define SPIN		"100000"
#define HAND_OVER	0x08000001	/* an SBI extension that userspace serves */
#define OTHER		0x200		/* an owner that is no guest */

/* What the registers are to hold, and what they held. */
struct values {
	u64 in[MAX_WORDS], out[MAX_WORDS], again[MAX_WORDS];
};

static struct values guest_values[NR_VCPUS];

static size_t nr_words(void)
{
	return csr_read(CSR_VLENB) * 32 / 8;
}

static void fill(u64 *regs, u64 owner, u64 round)
{
	for (u64 i = 0; i < nr_words(); i++)
		regs[i] = owner << 48 | round << 16 | i;
}

/* Eight registers at a time, at a base that moves. */
#define ALL(op, base)						\
	"mv t1," base "\nvsetvli t0,x0,e8,m8,ta,ma\n"		\
	op " v0,(t1)\nadd t1,t1,t0\n" op " v8,(t1)\nadd t1,t1,t0\n"	\
	op " v16,(t1)\nadd t1,t1,t0\n" op " v24,(t1)\n"

#define PAUSE	"li t0," SPIN "\n1: addi t0,t0,-1\nbnez t0,1b\n"

#define VECTOR(insns)	".option push\n.option arch, +v\n" insns ".option pop\n"

/* Loads all registers, makes a call, stores them, and once more when they are clean. */
static noinline void guest_call(struct values *v, u64 vcsr)
{
	register long a0 asm("a0") = 0;
	register long a1 asm("a1") = 0;
	register long a6 asm("a6") = 0;
	register long a7 asm("a7") = HAND_OVER;
	register u64 *s2 asm("s2") = v->in;
	register u64 *s3 asm("s3") = v->out;
	register u64 *s4 asm("s4") = v->again;
	u64 now;

	/* Until it sticks: QEMU 10 does not tell the hypervisor of a write to vcsr alone. */
	do {
		asm volatile(VECTOR("csrw vcsr,%[vcsr]\n" ALL("vle8.v", "s2") "csrr %[now],vcsr\n")
			     : [now] "=r"(now) : "r"(s2), [vcsr] "r"(vcsr) : "t0", "t1", "memory");
	} while (now != vcsr);
	asm volatile(VECTOR(PAUSE "ecall\n" PAUSE ALL("vse8.v", "s3")
			    PAUSE "ecall\n" PAUSE ALL("vse8.v", "s4")
			    "csrr %[now],vcsr\n")
		     : "+r"(a0), "+r"(a1), [now] "=r"(now)
		     : "r"(a6), "r"(a7), "r"(s3), "r"(s4)
		     : "t0", "t1", "memory");
	GUEST_ASSERT_EQ(now, vcsr);
}

static void guest_code(u64 owner, struct values *v)
{
	csr_set(CSR_SSTATUS, SR_VS);
	for (u64 round = 0; round < ROUNDS; round++) {
		fill(v->in, owner, round);
		guest_call(v, round & 7);
		for (int i = 0; i < nr_words(); i++) {
			GUEST_ASSERT_EQ(v->out[i], v->in[i]);
			GUEST_ASSERT_EQ(v->again[i], v->in[i]);
		}
	}
	GUEST_DONE();
}

static void assert_none_of_guests(const u64 *out)
{
	for (int i = 0; i < nr_words(); i++)
		TEST_ASSERT(out[i] >> 48 == 0 || out[i] >> 48 > NR_VCPUS,
			    "the vCPU's thread: word %d is 0x%lx", i, (unsigned long)out[i]);
}

/* Loads all registers, calls ioctl(fd, KVM_RUN), and stores them. */
static void run(int fd, struct values *v)
{
	register long a0 asm("a0") = fd;
	register long a1 asm("a1") = KVM_RUN;
	register long a2 asm("a2") = 0;
	register long a7 asm("a7") = __NR_ioctl;
	register u64 *s2 asm("s2") = v->in;
	register u64 *s3 asm("s3") = v->out;

	asm volatile(VECTOR(ALL("vle8.v", "s2") "ecall\n" ALL("vse8.v", "s3"))
		     : "+r"(a0)
		     : "r"(a1), "r"(a2), "r"(a7), "r"(s2), "r"(s3)
		     : "t0", "t1", "memory");
	TEST_ASSERT(!a0, "KVM_RUN: %s", strerror(-a0));
}

static void *run_vcpu(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	struct values *v = calloc(1, sizeof(*v));
	struct ucall uc;

	pin_self_to_cpu(0);
	for (u64 round = 0;; round++) {
		fill(v->in, 0x100 + vcpu->id, round);
		run(vcpu->fd, v);
		assert_none_of_guests(v->out);
		TEST_ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_RISCV_SBI);
		if (vcpu->run->riscv_sbi.extension_id == HAND_OVER) {
			vcpu->run->riscv_sbi.ret[0] = 0;
			continue;
		}
		if (get_ucall(vcpu, &uc) == UCALL_ABORT)
			REPORT_GUEST_ASSERT(uc);
		TEST_ASSERT_EQ(uc.cmd, UCALL_DONE);
		free(v);
		return NULL;
	}
}

static bool done;

/*
 * Somebody else, who has nothing to do with KVM, with values of its own; and
 * between them the kernel, which copies much by vectors.
 */
static void *run_other(void *arg)
{
	struct values *v = calloc(1, sizeof(*v));
	int pipes[2];

	pin_self_to_cpu(0);
	TEST_ASSERT(!pipe(pipes), "pipe: %s", strerror(errno));
	for (u64 round = 0; !READ_ONCE(done); round++) {
		register u64 *s2 asm("s2") = v->in;
		register u64 *s3 asm("s3") = v->out;

		fill(v->in, OTHER, round);
		asm volatile(VECTOR(ALL("vle8.v", "s2") PAUSE ALL("vse8.v", "s3"))
			     : : "r"(s2), "r"(s3) : "t0", "t1", "memory");
		for (int i = 0; i < nr_words(); i++)
			TEST_ASSERT(v->out[i] == v->in[i],
				    "another thread: word %d is 0x%lx, not 0x%lx", i,
				    (unsigned long)v->out[i], (unsigned long)v->in[i]);
		TEST_ASSERT_EQ(write(pipes[1], v->again, SIZE_4K), SIZE_4K);
		TEST_ASSERT_EQ(read(pipes[0], v->again, SIZE_4K), SIZE_4K);
	}
	close(pipes[0]);
	close(pipes[1]);
	free(v);
	return NULL;
}

TEST(all_on_one_cpu)
{
	struct kvm_vcpu *vcpus[NR_VCPUS];
	pthread_t threads[NR_VCPUS], other;
	struct kvm_vm *vm;

	if (!host_has_isa("v"))
		SKIP(return, "the host lacks V");
	TEST_ASSERT(nr_words() <= MAX_WORDS, "%ld words", (long)nr_words());
	vm = vm_create_with_vcpus(NR_VCPUS, guest_code, vcpus);
	pthread_create(&other, NULL, run_other, NULL);
	for (int i = 0; i < NR_VCPUS; i++) {
		vcpu_args_set(vcpus[i], 2, (u64)i + 1, &guest_values[i]);
		pthread_create(&threads[i], NULL, run_vcpu, vcpus[i]);
	}
	for (int i = 0; i < NR_VCPUS; i++)
		pthread_join(threads[i], NULL);
	WRITE_ONCE(done, true);
	pthread_join(other, NULL);
	kvm_vm_free(vm);
}

TEST_HARNESS_MAIN
