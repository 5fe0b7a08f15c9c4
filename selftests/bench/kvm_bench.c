// SPDX-License-Identifier: GPL-2.0
/*
 * The program: its options, its numbers, its guest.
 *
 * An operation is done many times in a row, long enough that the 10 MHz
 * timebase is exact to four digits and short enough that most rounds see no
 * timer tick; the quietest quarter of the rounds is averaged.
 */
#include <getopt.h>
#include <time.h>

#include "bench.h"

#define MAX_ROUNDS	32

bool marking, opt_profile, opt_quick;

static char *filters[32];
static int nr_filters;

/* What the host asks the guest to do: @n times. */
static struct {
	void (*op)(u64 n);
	u64 n;
	bool marking;
} ask;

/* --- numbers -------------------------------------------------------------- */

u64 clock_ns(clockid_t clock)
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
double quiet(double *val, int n)
{
	double sum = 0;
	int i, m = n / 4 ?: 1;

	qsort(val, n, sizeof(*val), compare);
	for (i = 0; i < m; i++)
		sum += val[i];
	return sum / m;
}

bool wanted(const char *what)
{
	int i;

	for (i = 0; i < nr_filters; i++)
		if (*filters[i] == '=' ? !strcmp(what, filters[i] + 1) : !!strstr(what, filters[i]))
			return true;
	return !nr_filters;
}

/* One line for tools/bench. */
void tell(const char *what, double ns)
{
	printf("%.2f\t%s\n", ns, what);
	fflush(stdout);
}

void measure(const char *what, double (*ns)(struct kvm_vcpu *vcpu, u64 n),
	     struct kvm_vcpu *vcpu, u64 small, u64 large, int rounds)
{
	double s[MAX_ROUNDS], l[MAX_ROUNDS];
	int i;

	if (!wanted(what))
		return;
	if (opt_profile) {
		ns(vcpu, large);
		marking = true;
		ns(vcpu, large);
		marking = false;
		/* How many the marks enclose. */
		tell(what, large);
		return;
	}
	if (opt_quick)
		rounds = 2;
	for (i = -1; i < rounds; i++) {
		s[max(i, 0)] = small ? ns(vcpu, small) : 0;
		l[max(i, 0)] = ns(vcpu, large);
	}
	tell(what, (quiet(l, rounds) - quiet(s, rounds)) / (large - small));
}

/* --- the module ----------------------------------------------------------- */

#define PARAMETERS	"/sys/module/kvm/parameters/"

bool is_ours(void)
{
	return !access(PARAMETERS "fault_around_bytes", F_OK);
}

void set_param(const char *name, const char *val)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), PARAMETERS "%s", name);
	f = fopen(path, "w");
	if (!f)
		return;
	TEST_ASSERT(fputs(val, f) >= 0 && !fclose(f), "cannot write %s to %s", val, path);
}

/* --- the guest ------------------------------------------------------------ */

void guest_code(void)
{
	u64 start, end;

	for (;;) {
		barrier();
		start = csr_read(CSR_TIME);
		if (ask.marking)
			mark_begin();
		ask.op(ask.n);
		if (ask.marking)
			mark_end();
		end = csr_read(CSR_TIME);
		GUEST_SYNC1(end - start);
	}
}

void guest_store_pages(u64 n)
{
	u64 i;

	for (i = 0; i < n; i++)
		WRITE_ONCE(*(u64 *)(MEM_GVA + i * PAGE), i);
}

void guest_store_blocks(u64 n)
{
	u64 i;

	for (i = 0; i < n; i++)
		WRITE_ONCE(*(u64 *)(MEM_GVA + i * BLOCK), i);
}

void guest_ask(struct kvm_vcpu *vcpu, void (*op)(u64), u64 n)
{
	typeof(ask) a = { .op = op, .n = n, .marking = false };

	write_guest_global(vcpu->vm, ask, a);
}

/* What guest_code() measured, in nanoseconds. */
double guest_answer(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	vcpu_run(vcpu);
	TEST_ASSERT_EQ(get_ucall(vcpu, &uc), UCALL_SYNC);
	return uc.args[0] * 1e9 / vcpu_get_reg(vcpu, RISCV_TIMER_REG(frequency));
}

/* For setting up; guest_timed() is for what counts. */
double guest_does(struct kvm_vcpu *vcpu, void (*op)(u64), u64 n)
{
	guest_ask(vcpu, op, n);
	return guest_answer(vcpu);
}

double guest_timed(struct kvm_vcpu *vcpu, void (*op)(u64), u64 n)
{
	typeof(ask) a = { .op = op, .n = n, .marking = marking };

	write_guest_global(vcpu->vm, ask, a);
	return guest_answer(vcpu);
}

struct kvm_vcpu *bench_vm(u32 ring_entries)
{
	struct kvm_vm *vm = __vm_create(VM_SHAPE_DEFAULT, 1, MEM_SIZE / PAGE / 256);
	struct kvm_vcpu *vcpu;
	u64 i;

	if (ring_entries)
		vm_enable_dirty_ring(vm, ring_entries * sizeof(struct kvm_dirty_gfn));
	vcpu = vm_vcpu_add(vm, 0, guest_code);
	virt_pg_map(vm, MMIO_GVA, MMIO_GPA);
	for (i = 0; i < MEM_SIZE; i += PAGE)
		virt_pg_map(vm, MEM_GVA + i, MEM_GPA + i);
	guest_does(vcpu, guest_store_pages, 0);
	return vcpu;
}

/* --- the program ---------------------------------------------------------- */

static void usage(const char *program)
{
	printf("usage: %s [-p | -q] [-k NAME]... | %s -s VCPUS [-a] [-f BYTES] [-w]\n\n"
	       "Prints nanoseconds and name of each operation, or of those whose name\n"
	       "contains a NAME, or is NAME if that is given as =NAME.\n\n"
	       "  -p        runs each once between the marks of tools/profile, and prints the\n"
	       "            number of operations in place of time\n"
	       "  -q        fewer rounds\n"
	       "  -s VCPUS  demand paging by so many vCPUs at a time\n"
	       "  -a        ... of pages that the host has not got yet, either\n"
	       "  -f BYTES  ... with as much fault-around, where there is any\n"
	       "  -w        ... with tracing on while it is measured\n",
	       program, program);
	exit(2);
}

int main(int argc, char *argv[])
{
	struct kvm_vcpu *vcpu;
	bool absent = false, traced = false;
	int opt, scale = 0;

	while ((opt = getopt(argc, argv, "k:pqs:awf:")) != -1) {
		switch (opt) {
		case 'k':
			TEST_ASSERT(nr_filters < ARRAY_SIZE(filters), "too many names");
			filters[nr_filters++] = optarg;
			break;
		case 'p':
			opt_profile = true;
			break;
		case 'q':
			opt_quick = true;
			break;
		case 's':
			scale = atoi(optarg);
			break;
		case 'a':
			absent = true;
			break;
		case 'w':
			traced = true;
			break;
		case 'f':
			set_param("fault_around_bytes", optarg);
			break;
		default:
			usage(argv[0]);
		}
	}
	if (scale) {
		bench_scaling(scale, absent, traced);
		return 0;
	}

	vcpu = bench_vm(0);
	bench_exits(vcpu);
	bench_pages(vcpu);
	bench_aia();
	kvm_vm_free(vcpu->vm);
	return 0;
}
