// SPDX-License-Identifier: GPL-2.0-only
/*
 * What KVM's operations cost, in nanoseconds, which are instructions on a
 * machine that counts them (QEMU's -icount shift=0). tools/bench runs this.
 *
 * An operation is done many times in a row, long enough that the 10 MHz
 * timebase is exact to four digits and short enough that most rows see no
 * timer tick; the quietest quarter of the rows is averaged.
 *
 * What handles a range of pages is timed for two sizes of it, and the
 * difference is divided by the difference in pages: what a call costs once is
 * in neither. Such calls may sleep, for a grace period mostly, so that their
 * time is the thread's CPU time.
 */
#include <getopt.h>
#include <time.h>

#include "kvm_util.h"
#include "processor.h"
#include "sbi.h"
#include "ucall_common.h"

#define SBI_EXT_TIME	0x54494D45
#define SBI_EXT_IPI	0x735049
#define SBI_EXT_RFENCE	0x52464E43

#define ROWS		32
#define REPEAT		1000

#define SLOT		1
#define MEM_GPA		(1UL << 32)
#define MEM_GVA		0x40000000UL
#define MMIO_GPA	(1UL << 36)
#define MMIO_GVA	0x30000000UL
#define PAGE		4096UL
#define SMALL		512UL
#define LARGE		8192UL
#define PAGE_ROUNDS	8

/* What the host asks the guest to do: @n times, told how long it took or not. */
static struct {
	void (*op)(u64 n);
	u64 n;
} ask;

static const char *filter;

/* --- numbers -------------------------------------------------------------- */

static u64 clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000UL + t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The mean of the quietest quarter. */
static double quiet(double *val, int n)
{
	double sum = 0;
	int i, m = n / 4 ?: 1;

	qsort(val, n, sizeof(*val), compare);
	for (i = 0; i < m; i++)
		sum += val[i];
	return sum / m;
}

/* One line for tools/bench. */
static void tell(const char *what, double ns)
{
	printf("%.2f\t%s\n", ns, what);
	fflush(stdout);
}

static bool wanted(const char *what)
{
	return !filter || strstr(what, filter);
}

/* --- the guest ------------------------------------------------------------ */

static u64 guest_time(void)
{
	return csr_read(CSR_TIME);
}

static void guest_code(void)
{
	u64 start;

	for (;;) {
		barrier();
		start = guest_time();
		ask.op(ask.n);
		GUEST_SYNC1(guest_time() - start);
	}
}

static inline void ecall(u64 ext, u64 fid, u64 arg0, u64 arg1, u64 arg2, u64 arg3)
{
	register u64 a0 asm("a0") = arg0;
	register u64 a1 asm("a1") = arg1;
	register u64 a2 asm("a2") = arg2;
	register u64 a3 asm("a3") = arg3;
	register u64 a6 asm("a6") = fid;
	register u64 a7 asm("a7") = ext;

	asm volatile("ecall" : "+r"(a0), "+r"(a1) : "r"(a2), "r"(a3), "r"(a6), "r"(a7) : "memory");
}

static void guest_nothing(u64 n)
{
	while (n--)
		barrier();
}

static void guest_base(u64 n)
{
	while (n--)
		ecall(SBI_EXT_BASE, SBI_EXT_BASE_GET_SPEC_VERSION, 0, 0, 0, 0);
}

static void guest_set_timer(u64 n)
{
	while (n--)
		ecall(SBI_EXT_TIME, 0, -1UL, 0, 0, 0);
}

static void guest_send_ipi(u64 n)
{
	while (n--)
		ecall(SBI_EXT_IPI, 0, 0, 0, 0, 0);
}

static void guest_sfence(u64 n)
{
	while (n--)
		ecall(SBI_EXT_RFENCE, 1, 1, 0, 0, PAGE);
}

static void guest_forward(u64 n)
{
	while (n--)
		ecall(SBI_EXT_EXPERIMENTAL_START, 0, 0, 0, 0, 0);
}

static void guest_mmio_store(u64 n)
{
	while (n--)
		WRITE_ONCE(*(u32 *)MMIO_GVA, 1);
}

static void guest_mmio_load(u64 n)
{
	while (n--)
		READ_ONCE(*(u32 *)MMIO_GVA);
}

/* A store to each of @n pages. */
static void guest_store_pages(u64 n)
{
	u64 i;

	for (i = 0; i < n; i++)
		WRITE_ONCE(*(u64 *)(MEM_GVA + i * PAGE), i);
}

static void guest_ask(struct kvm_vcpu *vcpu, void (*op)(u64), u64 n)
{
	typeof(ask) a = { .op = op, .n = n };

	write_guest_global(vcpu->vm, ask, a);
}

/* What guest_code() measured, in nanoseconds. */
static double guest_answer(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	vcpu_run(vcpu);
	TEST_ASSERT_EQ(get_ucall(vcpu, &uc), UCALL_SYNC);
	return uc.args[0] * 1e9 / vcpu_get_reg(vcpu, RISCV_TIMER_REG(frequency));
}

static double guest_does(struct kvm_vcpu *vcpu, void (*op)(u64), u64 n)
{
	guest_ask(vcpu, op, n);
	return guest_answer(vcpu);
}

/* --- operations that are timed one after the other ------------------------ */

/* Handled in the kernel, the guest has the clock. */
static void bench_guest(struct kvm_vcpu *vcpu, const char *what, void (*op)(u64))
{
	double rows[ROWS];
	int i;

	if (!wanted(what))
		return;
	guest_does(vcpu, op, REPEAT);
	for (i = 0; i < ROWS; i++)
		rows[i] = guest_does(vcpu, op, REPEAT) / REPEAT;
	tell(what, quiet(rows, ROWS));
}

/* Ends KVM_RUN each time; the host has the clock. */
static void bench_exit(struct kvm_vcpu *vcpu, const char *what, void (*op)(u64), u32 reason)
{
	double rows[ROWS];
	u64 start;
	int i, j;

	if (!wanted(what))
		return;
	guest_ask(vcpu, op, (ROWS + 1) * (REPEAT / 2));
	for (i = -1; i < ROWS; i++) {
		start = clock_ns(CLOCK_MONOTONIC);
		for (j = 0; j < REPEAT / 2; j++)
			ioctl(vcpu->fd, KVM_RUN, NULL);
		if (i >= 0)
			rows[i] = (clock_ns(CLOCK_MONOTONIC) - start) / (REPEAT / 2.0);
		TEST_ASSERT_EQ(vcpu->run->exit_reason, reason);
	}
	guest_answer(vcpu);
	tell(what, quiet(rows, ROWS));
}

static void bench_get_reg(struct kvm_vcpu *vcpu, const char *what)
{
	unsigned long pc;
	struct kvm_one_reg reg = {
		.id = RISCV_CORE_REG(regs.pc),
		.addr = (unsigned long)&pc,
	};
	double rows[ROWS];
	u64 start;
	int i, j;

	if (!wanted(what))
		return;
	for (i = 0; i < ROWS; i++) {
		start = clock_ns(CLOCK_MONOTONIC);
		for (j = 0; j < REPEAT; j++)
			ioctl(vcpu->fd, KVM_GET_ONE_REG, &reg);
		rows[i] = (clock_ns(CLOCK_MONOTONIC) - start) / (double)REPEAT;
	}
	TEST_ASSERT(pc, "the guest's pc is 0");
	tell(what, quiet(rows, ROWS));
}

static void bench_create(const char *what)
{
	double rows[ROWS];
	int kvm = open_kvm_dev_path_or_exit();
	int i, vm, vcpu;
	u64 start;

	if (!wanted(what))
		return;
	for (i = -1; i < ROWS; i++) {
		start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
		vm = ioctl(kvm, KVM_CREATE_VM, 0);
		vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
		close(vcpu);
		close(vm);
		if (i >= 0)
			rows[i] = clock_ns(CLOCK_THREAD_CPUTIME_ID) - start;
		TEST_ASSERT(vm >= 0 && vcpu >= 0, "cannot create a VM with a vCPU");
	}
	close(kvm);
	tell(what, quiet(rows, ROWS));
}

/* --- operations on ranges of pages ---------------------------------------- */

enum page_op {
	FAULT,
	LOG_ENABLE,
	LOG_FAULT,
	LOG_GET,
	DELETE,
	UNMAP,
	HOST_UNMAP,
	NR_PAGE_OPS,
};

static const char * const page_op_name[] = {
	[FAULT] = "G-stage fault, 4K, host page present",
	[LOG_ENABLE] = "dirty log: enable, per page",
	[LOG_FAULT] = "dirty log: write fault",
	[LOG_GET] = "dirty log: get, per page",
	[DELETE] = "memslot delete, per page",
	[UNMAP] = "notifier unmap, per page",
	[HOST_UNMAP] = "the same where no guest is, per page",
};

static void *page_alloc(u64 npages)
{
	void *mem = mmap(NULL, npages * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	TEST_ASSERT(mem != MAP_FAILED, "mmap");
	TEST_ASSERT(!madvise(mem, npages * PAGE, MADV_NOHUGEPAGE), "madvise");
	return mem;
}

#define CPU_TIME(stmt)						\
({								\
	u64 __start = clock_ns(CLOCK_THREAD_CPUTIME_ID);	\
								\
	stmt;							\
	clock_ns(CLOCK_THREAD_CPUTIME_ID) - __start;		\
})

static void page_touch(void *mem, size_t size)
{
	TEST_ASSERT(!madvise(mem, size, MADV_POPULATE_WRITE), "madvise");
}

/* Every operation once, on @npages pages of memory which the host has just touched. */
static void page_round(struct kvm_vcpu *vcpu, u64 npages, double *ns)
{
	u64 *bitmap = calloc(npages / 64, sizeof(*bitmap));
	struct kvm_vm *vm = vcpu->vm;
	size_t size = npages * PAGE;
	void *mem = page_alloc(npages);

	page_touch(mem, size);
	ns[HOST_UNMAP] = CPU_TIME(madvise(mem, size, MADV_DONTNEED));
	page_touch(mem, size);
	vm_set_user_memory_region(vm, SLOT, 0, MEM_GPA, size, mem);
	ns[FAULT] = guest_does(vcpu, guest_store_pages, npages);
	ns[LOG_ENABLE] = CPU_TIME(vm_set_user_memory_region(vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES,
							    MEM_GPA, size, mem));
	ns[LOG_FAULT] = guest_does(vcpu, guest_store_pages, npages);
	memset(bitmap, 0, npages / 8);
	ns[LOG_GET] = CPU_TIME(kvm_vm_get_dirty_log(vm, SLOT, bitmap));
	TEST_ASSERT(bitmap[0] == ~0UL && bitmap[npages / 64 - 1] == ~0UL, "not all pages are dirty");
	vm_set_user_memory_region(vm, SLOT, 0, MEM_GPA, size, mem);
	ns[UNMAP] = CPU_TIME(madvise(mem, size, MADV_DONTNEED));
	page_touch(mem, size);
	guest_does(vcpu, guest_store_pages, npages);
	ns[DELETE] = CPU_TIME(vm_set_user_memory_region(vm, SLOT, 0, MEM_GPA, 0, 0));
	munmap(mem, size);
	free(bitmap);
}

static void bench_pages(struct kvm_vcpu *vcpu)
{
	double row[NR_PAGE_OPS], rows[2][NR_PAGE_OPS][PAGE_ROUNDS];
	u64 sizes[2] = { SMALL, LARGE };
	int i, size, op;

	for (op = 0; op < NR_PAGE_OPS && !wanted(page_op_name[op]); op++)
		;
	if (op == NR_PAGE_OPS)
		return;
	for (size = 0; size < 2; size++) {
		for (i = -1; i < PAGE_ROUNDS; i++) {
			page_round(vcpu, sizes[size], row);
			for (op = 0; i >= 0 && op < NR_PAGE_OPS; op++)
				rows[size][op][i] = row[op];
		}
	}
	for (op = 0; op < NR_PAGE_OPS; op++)
		if (wanted(page_op_name[op]))
			tell(page_op_name[op], (quiet(rows[1][op], PAGE_ROUNDS) -
						quiet(rows[0][op], PAGE_ROUNDS)) / (LARGE - SMALL));
}

int main(int argc, char *argv[])
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int opt, i;

	while ((opt = getopt(argc, argv, "k:")) != -1) {
		if (opt != 'k') {
			printf("usage: %s [-k NAME]\n\n"
			       "Prints nanoseconds and name of each operation, or of those whose\n"
			       "name contains NAME.\n", argv[0]);
			return 2;
		}
		filter = optarg;
	}

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	virt_pg_map(vm, MMIO_GVA, MMIO_GPA);
	for (i = 0; i < LARGE; i++)
		virt_pg_map(vm, MEM_GVA + i * PAGE, MEM_GPA + i * PAGE);
	guest_does(vcpu, guest_nothing, 1);

	bench_guest(vcpu, "SBI base ecall", guest_base);
	bench_guest(vcpu, "SBI set_timer", guest_set_timer);
	bench_guest(vcpu, "SBI send_ipi, no target", guest_send_ipi);
	bench_guest(vcpu, "SBI remote_sfence_vma, self", guest_sfence);
	bench_exit(vcpu, "MMIO store to userspace", guest_mmio_store, KVM_EXIT_MMIO);
	bench_exit(vcpu, "MMIO load from userspace", guest_mmio_load, KVM_EXIT_MMIO);
	bench_exit(vcpu, "SBI call to userspace", guest_forward, KVM_EXIT_RISCV_SBI);
	bench_get_reg(vcpu, "ONE_REG get pc");
	bench_pages(vcpu);
	bench_create("VM and vCPU, create and destroy");

	kvm_vm_free(vm);
	return 0;
}
