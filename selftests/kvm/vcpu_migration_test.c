// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: M2, M10 */
/* covers: vcpu/context.rs vcpu/residency.rs vcpu/token.rs vcpu/translation.rs
 * gstage/vmid.rs arch/switch.rs arch/registers.rs */
/*
 * A vCPU keeps its state, all of it and no other's, wherever its thread runs
 * and whatever interrupts it; and its thread keeps its own.
 */
#include <sys/syscall.h>

#include "kvm_rs_util.h"

#define NR_VCPUS	3
#define RUN_MS		1500

static int nr_cpus;
static u64 stop;

static void guest_read_sscratch(void)
{
	for (;;)
		GUEST_SYNC1(csr_read(CSR_SSCRATCH));
}

/* A KVM_RUN that loads the vCPU and leaves again before the guest runs. */
static void load_and_leave(struct kvm_vcpu *vcpu)
{
	struct {
		struct kvm_signal_mask head;
		u64 set;
	} __packed mask = { .head.len = 8 };
	sigset_t usr1;
	int sig;

	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &usr1, NULL);
	TEST_ASSERT(!ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, &mask), "KVM_SET_SIGNAL_MASK");
	pthread_kill(pthread_self(), SIGUSR1);
	TEST_ASSERT_ERRNO(__vcpu_run(vcpu), EINTR);
	sigwait(&usr1, &sig);
	TEST_ASSERT(!ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, NULL), "KVM_SET_SIGNAL_MASK");
}

/*
 * What was set while the vCPU was last on one CPU must still be there when it
 * comes back from another, on which it was loaded and never entered (differences-from-c M2).
 */
TEST(loaded_elsewhere_not_entered)
{
	struct kvm_vcpu *vcpu;

	if (nr_cpus < 2)
		SKIP(return, "there is one CPU");

	vm_create_with_one_vcpu(&vcpu, guest_read_sscratch);
	pin_self_to_cpu(0);
	run_to_sync(vcpu);
	vcpu_set_reg(vcpu, RISCV_GENERAL_CSR_REG(sscratch), 0x1111);
	TEST_ASSERT_EQ(run_to_sync(vcpu), 0x1111);

	vcpu_set_reg(vcpu, RISCV_GENERAL_CSR_REG(sscratch), 0x2222);
	pin_self_to_cpu(1);
	load_and_leave(vcpu);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(sscratch)), 0x2222);
	pin_self_to_cpu(0);
	TEST_ASSERT_EQ(run_to_sync(vcpu), 0x2222);
}

/* The same with another vCPU in between, and with all CPUs. */
TEST(loaded_everywhere)
{
	struct kvm_vcpu *vcpus[2];
	u64 val = 0x1000;
	int cpu, i;

	vm_create_with_vcpus(2, guest_read_sscratch, vcpus);
	for (cpu = 0; cpu < 3 * nr_cpus; cpu++) {
		pin_self_to_cpu(cpu % nr_cpus);
		for (i = 0; i < 2; i++)
			vcpu_set_reg(vcpus[i], RISCV_GENERAL_CSR_REG(sscratch), val + i);
		load_and_leave(vcpus[cpu & 1]);
		for (i = 0; i < 2; i++)
			TEST_ASSERT_EQ(run_to_sync(vcpus[i]), val + i);
		val += 0x10;
	}
}

/* In the guest: how many timers it set, and how many of them were gone. */
static u64 timers, timers_lost;

static void guest_set_timers(void)
{
	u64 at;

	while (!READ_ONCE(stop)) {
		at = csr_read(CSR_TIME) + (1UL << 40) + timers;
		sbi_ecall(SBI_EXT_TIME, 0, at, 0, 0, 0, 0, 0);
		if (csr_read(CSR_STIMECMP) != at)
			timers_lost++;
		WRITE_ONCE(timers, timers + 1);
	}
	GUEST_DONE();
}

static void ignore(int sig)
{
}

static void *vcpu_thread(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	struct ucall uc;

	for (;;) {
		if (__vcpu_run(vcpu)) {
			TEST_ASSERT(errno == EINTR, "KVM_RUN: %s", strerror(errno));
			continue;
		}
		switch (get_ucall(vcpu, &uc)) {
		case UCALL_DONE:
			return NULL;
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT(uc);
			break;
		case UCALL_SYNC:
			break;
		default:
			TEST_FAIL("exit %d", vcpu->run->exit_reason);
		}
	}
}

/*
 * Runs the vCPUs, one thread each, and moves the threads about and interrupts
 * them all the while, and until the guest's @progress is worth something.
 */
static void bounce(struct kvm_vm *vm, struct kvm_vcpu **vcpus, int nr, u64 *progress)
{
	struct sigaction sa = { .sa_handler = ignore };
	pthread_t threads[NR_VCPUS];
	struct timespec start;
	unsigned int rounds;
	int i;

	sigaction(SIGUSR1, &sa, NULL);
	for (i = 0; i < nr; i++)
		pthread_create(&threads[i], NULL, vcpu_thread, vcpus[i]);

	clock_gettime(CLOCK_MONOTONIC, &start);
	progress = addr_gva2hva(vm, (gva_t)progress);
	for (rounds = 0; timespec_to_ns(timespec_elapsed(start)) < RUN_MS * 1000000LL ||
			 READ_ONCE(*progress) < 10; rounds++) {
		for (i = 0; i < nr; i++) {
			if (rounds & 1)
				pthread_kill(threads[i], SIGUSR1);
			else
				__pin_task_to_cpu(threads[i], (rounds / 2 + i) % nr_cpus);
		}
		usleep(200);
	}
	write_guest_global(vm, stop, 1);
	for (i = 0; i < nr; i++)
		pthread_join(threads[i], NULL);
	pr_info("# %u rounds\n", rounds);
}

/*
 * Every set_timer() is in force when the guest looks, whatever came between
 * (differences-from-c M10).
 */
TEST(no_timer_is_lost)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	if (!host_has_isa("sstc"))
		SKIP(return, "the host lacks Sstc");

	vm = vm_create_with_one_vcpu(&vcpu, guest_set_timers);
	bounce(vm, &vcpu, 1, &timers);
	sync_global_from_guest(vm, timers);
	sync_global_from_guest(vm, timers_lost);
	TH_LOG("%lu timers, %lu lost", (unsigned long)timers, (unsigned long)timers_lost);
	TEST_ASSERT(!timers_lost, "%lu of %lu timers are lost", (unsigned long)timers_lost,
		    (unsigned long)timers);
}

#define FOR_32(M) \
	M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15) \
	M(16) M(17) M(18) M(19) M(20) M(21) M(22) M(23) M(24) M(25) M(26) M(27) M(28) M(29) \
	M(30) M(31)

#define FLD(n)	"fld f" #n ", 8*" #n "(%0)\n"
#define FSD(n)	"fsd f" #n ", 8*" #n "(%0)\n"

static void fp_load(const u64 *f)
{
	asm volatile(FOR_32(FLD) : : "r"(f) : "memory");
}

static void fp_store(u64 *f)
{
	asm volatile(FOR_32(FSD) : : "r"(f) : "memory");
}

/* v0-v31, as many bytes as there are. */
#define VECTOR_ALL(insn)							\
	asm volatile(".option push\n.option arch, +v\n"				\
		     "csrr t0, vlenb\nslli t0, t0, 3\nmv t1, %0\n"		\
		     insn " v0, (t1)\nadd t1, t1, t0\n"				\
		     insn " v8, (t1)\nadd t1, t1, t0\n"				\
		     insn " v16, (t1)\nadd t1, t1, t0\n"			\
		     insn " v24, (t1)\n.option pop"				\
		     : : "r"(v) : "t0", "t1", "memory")

static void vector_load(const u8 *v)
{
	VECTOR_ALL("vl8re8.v");
}

static void vector_store(u8 *v)
{
	VECTOR_ALL("vs8r.v");
}

#define MAX_VLENB	64

/* In the guest, a set per vCPU. */
static struct regs {
	u64 f[32];
	u64 f_now[32];
	u8 v[32 * MAX_VLENB];
	u8 v_now[32 * MAX_VLENB];
	u64 loops;
} regs[NR_VCPUS];
static u64 with_vector;

/*
 * Fills most integer registers from @seed, spins, makes an SBI call that does
 * not exist, and returns how many of them have changed.
 */
static noinline u64 guest_check_integers(u64 seed)
{
	register u64 kept asm("s11") = seed;
	register u64 bad asm("s1") = 0;

#define X_SET(r, n)	"addi " #r ", %1, " #n "\n"
#define X_CHECK(r, n)	"addi t0, %1, " #n "\nxor t0, t0, " #r "\nsnez t0, t0\nadd %0, %0, t0\n"
#define X_ALL(M) \
	M(a2, 2) M(a3, 3) M(a4, 4) M(a5, 5) M(s2, 6) M(s3, 7) M(s4, 8) M(s5, 9) M(s6, 10) \
	M(s7, 11) M(s8, 12) M(s9, 13) M(s10, 14) M(t1, 15) M(t2, 16) M(t3, 17) M(t4, 18) \
	M(t5, 19) M(t6, 20)
	asm volatile(X_ALL(X_SET)
		     "li t0, 2000\n"
		     "1: addi t0, t0, -1\nbnez t0, 1b\n"
		     "li a7, 0x10\nli a6, 0x7f\necall\n"
		     X_ALL(X_CHECK)
		     : "+r"(bad), "+r"(kept) :
		     : "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "s2", "s3", "s4", "s5",
		       "s6", "s7", "s8", "s9", "s10", "t0", "t1", "t2", "t3", "t4", "t5", "t6",
		       "memory");
	return bad + (kept != seed);
}

static void guest_check_registers(u64 id)
{
	struct regs *r = &regs[id];
	u64 i, seed = (id + 1) << 32, vlenb = 0;

	csr_set(CSR_SSTATUS, SR_FS);
	if (with_vector) {
		csr_set(CSR_SSTATUS, SR_VS);
		vlenb = csr_read(CSR_VLENB);
	}
	while (!READ_ONCE(stop)) {
		seed += 0x10001;
		for (i = 0; i < 32; i++)
			r->f[i] = seed << 8 | i;
		for (i = 0; i < 32 * vlenb; i++)
			r->v[i] = seed + i * 7;
		csr_write(CSR_SSCRATCH, seed);
		fp_load(r->f);
		if (vlenb)
			vector_load(r->v);

		GUEST_ASSERT_EQ(guest_check_integers(seed), 0UL);

		fp_store(r->f_now);
		if (vlenb)
			vector_store(r->v_now);
		GUEST_ASSERT_EQ(csr_read(CSR_SSCRATCH), seed);
		for (i = 0; i < 32; i++)
			GUEST_ASSERT_EQ(r->f_now[i], r->f[i]);
		for (i = 0; i < 32 * vlenb; i++)
			__GUEST_ASSERT(r->v_now[i] == r->v[i], "v%lu byte %lu: %x, not %x",
				       i / vlenb, i % vlenb, r->v_now[i], r->v[i]);
		WRITE_ONCE(r->loops, r->loops + 1);
		if (!(r->loops % 8))
			GUEST_SYNC1(r->loops);
	}
	GUEST_DONE();
}

TEST(registers)
{
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct kvm_vm *vm = vm_create_with_vcpus(NR_VCPUS, guest_check_registers, vcpus);
	u64 vlenb = 0;
	int i;

	if (host_has_isa("v"))
		vlenb = vcpu_get_reg(vcpus[0], KVM_REG_RISCV | KVM_REG_RISCV_VECTOR |
				     KVM_REG_SIZE_U64 | KVM_REG_RISCV_VECTOR_CSR_REG(vlenb));
	write_guest_global(vm, with_vector, vlenb && vlenb <= MAX_VLENB);
	for (i = 0; i < NR_VCPUS; i++)
		vcpu_args_set(vcpus[i], 1, (u64)i);
	bounce(vm, vcpus, NR_VCPUS, &regs[NR_VCPUS - 1].loops);
	sync_global_from_guest(vm, regs);
	for (i = 0; i < NR_VCPUS; i++)
		TH_LOG("vCPU %d: %lu loops%s", i, (unsigned long)regs[i].loops,
		       vlenb ? ", with vectors" : "");
}

static void guest_dirty_registers(void)
{
	u64 i, f[32];

	csr_set(CSR_SSTATUS, SR_FS);
	for (;;) {
		for (i = 0; i < 32; i++)
			f[i] = 0xbadbadbad0000000UL + i;
		fp_load(f);
		csr_write(CSR_FCSR, 0xff);
		if (with_vector) {
			csr_set(CSR_SSTATUS, SR_VS);
			for (i = 0; i < sizeof(regs[0].v); i++)
				regs[0].v[i] = 0x5a;
			vector_load(regs[0].v);
		}
		sbi_ecall(KVM_RISCV_SELFTESTS_SBI_EXT, 1000, 0, 0, 0, 0, 0, 0);
	}
}

/* f0-f31 around a KVM_RUN with nothing in between. */
static long run_between(int fd, const u64 *before, u64 *after)
{
	register long a0 asm("a0") = fd;
	register long a1 asm("a1") = KVM_RUN;
	register long a2 asm("a2") = 0;
	register long a7 asm("a7") = SYS_ioctl;

	asm volatile("mv s2, %4\nmv s3, %5\n"
#define HFLD(n)	"fld f" #n ", 8*" #n "(s2)\n"
#define HFSD(n)	"fsd f" #n ", 8*" #n "(s3)\n"
		     FOR_32(HFLD)
		     "ecall\n"
		     FOR_32(HFSD)
		     : "+r"(a0) : "r"(a1), "r"(a2), "r"(a7), "r"(before), "r"(after)
		     : "s2", "s3", "memory");
	return a0;
}

/* The host's thread gets its own registers back, and none of the guest's. */
TEST(host_registers)
{
	u64 before[32], after[32];
	u8 v[32 * MAX_VLENB] = {};
	struct kvm_vcpu *vcpu;
	int i, round;

	vm_create_with_one_vcpu(&vcpu, guest_dirty_registers);
	write_guest_global(vcpu->vm, with_vector, host_has_isa("v"));
	for (round = 0; round < 20; round++) {
		pin_self_to_cpu(round % nr_cpus);
		for (i = 0; i < 32; i++)
			before[i] = 0x4000000000000000UL + round * 32 + i;
		csr_write(CSR_FCSR, 0x21);
		TEST_ASSERT(!run_between(vcpu->fd, before, after), "KVM_RUN");
		if (host_has_isa("v"))
			vector_store(v);
		TEST_ASSERT_EQ(csr_read(CSR_FCSR), 0x21);
		TEST_ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_RISCV_SBI);
		TEST_ASSERT_EQ(vcpu->run->riscv_sbi.function_id, 1000);
		for (i = 0; i < 32; i++)
			TEST_ASSERT(before[i] == after[i], "f%d came back as 0x%lx", i,
				    (unsigned long)after[i]);
		for (i = 0; i < sizeof(v); i++)
			TEST_ASSERT(v[i] != 0x5a, "byte %d of the guest's vectors is the host's", i);
		csr_write(CSR_FCSR, 0);
	}
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	nr_cpus = sysconf(_SC_NPROCESSORS_ONLN);
	return test_harness_run(argc, argv);
}
