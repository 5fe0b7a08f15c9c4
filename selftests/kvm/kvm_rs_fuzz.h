/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the fuzzers share: rounds in processes of their own, each from a seed
 * that repeats it, random values that prefer boundaries, random instructions,
 * and the end: the kernel has not complained, and a fresh VM works.
 *
 *   NAME_test [-s SEED] [-t SECONDS] [-r ROUND] [-p PIECES]
 *
 * The seed decides what each thread asks for, not how the threads interleave.
 *
 * A kernel with KCOV says what code a call has reached.  A round in which a thread
 * reached code that none had reached before is kept, up to that step, and later
 * rounds begin like it and go on with another seed: a round is a list of pieces,
 * seeds with how many steps each is good for.  The kernel's log has the pieces of
 * each round, for -p to repeat.
 */
#ifndef SELFTEST_KVM_RS_FUZZ_H
#define SELFTEST_KVM_RS_FUZZ_H

#include <linux/kcov.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "kvm_rs_aia.h"
#include "kvm_rs_mem.h"

/* The programs have options of their own. */
static int test_harness_run(int argc, char **argv) __maybe_unused;

/* Seconds until a round that was killed must have ended. */
#define FUZZ_HANG_S	100

#define FUZZ_COUNTS	320

/* What a round asks for. */
#define FUZZ_PIECES	8
struct fuzz_recipe {
	u64 nr;
	struct {
		u64 seed, steps;
	} piece[FUZZ_PIECES];
};

#define FUZZ_KEPT	512
#define FUZZ_CODE_BITS	18

/* In memory that all processes share. */
struct fuzz_stats {
	u64 calls, succeeded;		/* made by the host */
	u64 traps, exits, resets;	/* of guests */
	u64 signals;			/* rounds that a signal ended */
	u64 by[FUZZ_COUNTS], by_succeeded[FUZZ_COUNTS];

	/* From KCOV: a bit for the hash of each place of code reached, and how many there are. */
	u64 seen[(1 << FUZZ_CODE_BITS) / 64];
	u64 code;
	/* The last step of this round that reached new code; 0 if none did. */
	u64 first_step;
	/* Rounds that reached new code. */
	u64 nr_kept;
	struct fuzz_recipe kept[FUZZ_KEPT];
};

static struct fuzz_stats *fuzz_stats __maybe_unused;
static int fuzz_seconds __maybe_unused = 4;
static const char *fuzz_name __maybe_unused;

#define fuzz_add(counter, n)	__atomic_add_fetch(&fuzz_stats->counter, n, __ATOMIC_RELAXED)

/* Random values.  These run in guests, too. */

static __maybe_unused u64 fuzz_mix(u64 a, u64 b)
{
	u64 x = (a ^ b * 0x9e3779b97f4a7c15ULL) + 0x9e3779b97f4a7c15ULL;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	x ^= x >> 31;
	return x ? x : 1;
}

static __maybe_unused u64 below(u64 *seed, u64 n)
{
	return (xorshift(seed) >> 11) % n;
}

/* One time in @n. */
static __maybe_unused bool one_in(u64 *seed, u64 n)
{
	return !below(seed, n);
}

#define pick(seed, ...)								\
({										\
	const u64 __of[] = { __VA_ARGS__ };					\
	__of[below(seed, ARRAY_SIZE(__of))];					\
})

/* Where one thread is in the recipe of its round. */
struct fuzz_stream {
	u64 seed, thread, piece, left, step;
};

/* Before each step of a thread. */
static __maybe_unused void fuzz_step(struct fuzz_stream *stream, const struct fuzz_recipe *recipe)
{
	if (!stream->left && stream->piece < recipe->nr) {
		stream->seed = fuzz_mix(recipe->piece[stream->piece].seed, stream->thread);
		stream->left = recipe->piece[stream->piece].steps;
		stream->piece++;
	}
	stream->left -= !!stream->left;
	stream->step++;
}

/* A value that prefers small ones, single bits, and the neighbours of both. */
static __maybe_unused u64 fuzz_value(u64 *seed)
{
	u64 bit = 1UL << below(seed, 64);

	switch (below(seed, 8)) {
	case 0: return 0;
	case 1: return below(seed, 16);
	case 2: return bit;
	case 3: return bit - 1;
	case 4: return -bit;
	case 5: return ~0UL - below(seed, 4);
	case 6: return xorshift(seed) & (bit - 1);
	default: return xorshift(seed);
	}
}

/* CSRs that mean something to a hypervisor. */
static const u16 fuzz_csrs[] __maybe_unused = {
	0x001, 0x002, 0x003, 0x008, 0x009, 0x00a, 0x00f, 0x015, 0x011, 0x017,
	0x100, 0x104, 0x105, 0x106, 0x10a, 0x10c, 0x120, 0x140, 0x141, 0x142, 0x143, 0x144, 0x14d,
	0x150, 0x151, 0x152, 0x153, 0x154, 0x155, 0x156, 0x157, 0x15c, 0x180, 0x181, 0x5a8, 0xda0, 0xdb0,
	0x200, 0x204, 0x205, 0x240, 0x241, 0x242, 0x243, 0x244, 0x24d, 0x250, 0x251, 0x25c, 0x280,
	0x600, 0x602, 0x603, 0x604, 0x605, 0x606, 0x607, 0x608, 0x609, 0x60a, 0x60c, 0x643, 0x644,
	0x645, 0x646, 0x647, 0x64a, 0x680, 0x6a8, 0xe12, 0xeb0,
	0x300, 0x301, 0x302, 0x304, 0x305, 0x30a, 0x320, 0x340, 0x344, 0x3a0, 0x3b0, 0x747, 0x7a0, 0x7a1,
	0xb00, 0xb02, 0xc00, 0xc01, 0xc02, 0xc03, 0xc04, 0xc1f, 0xc20, 0xc21, 0xc22, 0xf11, 0xf14,
};

/* CSRs without which a guest does not come back from its next trap. */
static __maybe_unused bool fuzz_csr_is_vital(u32 csr)
{
	return csr == 0x105 || csr == 0x140 || csr == 0x180;
}

static __maybe_unused u32 fuzz_csr_insn(u64 *seed)
{
	u32 csr, funct3 = pick(seed, 1, 2, 3, 5, 6, 7);

	do {
		switch (below(seed, 4)) {
		case 0: csr = below(seed, 0x1000); break;
		case 1: csr = pick(seed, 0x100, 0x200, 0x600, 0x500, 0xc00, 0xc80, 0xd00, 0x280) +
			      below(seed, 0x80); break;
		default: csr = fuzz_csrs[below(seed, ARRAY_SIZE(fuzz_csrs))]; break;
		}
	} while (fuzz_csr_is_vital(csr) && !one_in(seed, 64));
	return csr << 20 | below(seed, 32) << 15 | funct3 << 12 | below(seed, 32) << 7 | 0x73;
}

#define FUZZ_RD		(0x1fU << 7)
#define FUZZ_RS1	(0x1fU << 15)
#define FUZZ_RS2	(0x1fU << 20)

/*
 * Instructions of the SYSTEM and MISC-MEM opcodes, and which register fields each has.
 *
 * MRET, DRET and wrong fields are left out, and so is what fuzz_is_printed()
 * names: OpenSBI 1.6 prints a line for each of them, and after some hundreds of
 * lines a hart jumps astray in M-mode, in the middle of one, and the machine stops.
 */
static const struct {
	u32 insn, fields;
} fuzz_system[] __maybe_unused = {
	{ 0x00000073 }, { 0x00100073 }, { 0x10200073 }, { 0x10500073 },		/* ecall to wfi */
	{ 0x00d00073 }, { 0x01d00073 },						/* wrs */
	{ 0x0100000f }, { 0x0000100f }, { 0x0ff0000f }, { 0x8330000f },		/* fences */
	{ 0x12000073, FUZZ_RS1 | FUZZ_RS2 }, { 0x16000073, FUZZ_RS1 | FUZZ_RS2 },	/* sfence, sinval */
	{ 0x18000073 }, { 0x18100073 },						/* sfence.w.inval, .inval.ir */
	{ 0x22000073, FUZZ_RS1 | FUZZ_RS2 }, { 0x26000073, FUZZ_RS1 | FUZZ_RS2 },	/* hfence, hinval */
	{ 0x62000073, FUZZ_RS1 | FUZZ_RS2 }, { 0x66000073, FUZZ_RS1 | FUZZ_RS2 },
	{ 0x60004073, FUZZ_RD | FUZZ_RS1 }, { 0x60104073, FUZZ_RD | FUZZ_RS1 },	/* hlv */
	{ 0x64004073, FUZZ_RD | FUZZ_RS1 }, { 0x64104073, FUZZ_RD | FUZZ_RS1 },
	{ 0x64304073, FUZZ_RD | FUZZ_RS1 }, { 0x68004073, FUZZ_RD | FUZZ_RS1 },
	{ 0x68104073, FUZZ_RD | FUZZ_RS1 }, { 0x68304073, FUZZ_RD | FUZZ_RS1 },
	{ 0x6c004073, FUZZ_RD | FUZZ_RS1 },
	{ 0x62004073, FUZZ_RS1 | FUZZ_RS2 }, { 0x66004073, FUZZ_RS1 | FUZZ_RS2 },	/* hsv */
	{ 0x6a004073, FUZZ_RS1 | FUZZ_RS2 }, { 0x6e004073, FUZZ_RS1 | FUZZ_RS2 },
	{ 0x0000200f, FUZZ_RS1 }, { 0x0010200f, FUZZ_RS1 },			/* cbo */
	{ 0x0020200f, FUZZ_RS1 }, { 0x0040200f, FUZZ_RS1 },
	{ 0x00006013, FUZZ_RS1 }, { 0x00106013, FUZZ_RS1 }, { 0x00306013, FUZZ_RS1 },	/* prefetch */
	{ 0x81c04073, FUZZ_RD | FUZZ_RS1 }, { 0xcdc04073, FUZZ_RD | FUZZ_RS1 },	/* zimop, zicfiss */
	{ 0x8200c073, FUZZ_RD },
};

/* Of the SYSTEM opcode, but no access to a CSR. */
static __maybe_unused bool fuzz_is_printed(u32 insn)
{
	return (insn & 0x7f) == 0x73 && !(insn & 0x3000);
}

static __maybe_unused u32 fuzz_insn(u64 *seed)
{
	u32 rd = below(seed, 32) << 7, rs1 = below(seed, 32) << 15, rs2 = below(seed, 32) << 20;
	u32 funct3 = below(seed, 8) << 12, word = xorshift(seed) >> 16, half, nr;

	switch (below(seed, 16)) {
	case 0 ... 3:
		return fuzz_csr_insn(seed);
	case 4:
		return 0x03 | rd | funct3 | rs1 | (word & 0x03f00000);
	case 5:
		return 0x23 | rd | funct3 | rs1 | rs2;
	case 6:
		return (word & 0x80000000 ? 0x07 : 0x27) | rd | funct3 | rs1 | (word & 0x7ff00000);
	case 7:
		return 0x2f | rd | (funct3 & 0x7000) | rs1 | rs2 | (word & 0xfe000000);
	case 8 ... 10:
		nr = below(seed, ARRAY_SIZE(fuzz_system));
		word = rd | rs2 | (one_in(seed, 8) ? 0 : rs1);
		return fuzz_system[nr].insn | (word & fuzz_system[nr].fields);
	case 11:
		return 0x57 | rd | funct3 | rs1 | (word & 0xfff00000);
	case 12:
		return (u32)pick(seed, 0x53, 0x43, 0x47, 0x4b, 0x4f) | rd | funct3 | rs1 | (word & 0xfff00000);
	case 13:
	case 14:
		/* Compressed: seldom a jump, which few come back from. */
		do {
			half = word & 0xffff;
			word = xorshift(seed) >> 16;
		} while ((half & 3) == 3 ||
			 ((((half & 3) == 1 && (half & 0x8000) && (half & 0x6000)) ||
			   ((half & 0xe07f) == 0x8002)) && !one_in(seed, 64)));
		return half | 0x00010000;
	default:
		return fuzz_is_printed(word) ? word | 0x1000 : word;
	}
}

/* SBI calls. */

static __maybe_unused u64 fuzz_sbi_ext(u64 *seed)
{
	u64 ext = pick(seed, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0x10, 0x10, SBI_EXT_TIME, SBI_EXT_IPI,
		       SBI_EXT_RFENCE, SBI_EXT_RFENCE, SBI_EXT_HSM, SBI_EXT_HSM, SBI_EXT_SRST,
		       SBI_EXT_SUSP, SBI_EXT_DBCN, 0x504D55, 0x504D55, 0x504D55, 0x504D55, 0x535441,
		       0x535441, SBI_EXT_FWFT, SBI_EXT_FWFT, SBI_EXT_MPXY, 0x4E41434C, 0x535345, 0x44425452,
		       0x43505043, 0x08000000, 0x09000000, 0x0a000000);

	return one_in(seed, 32) ? ext ^ fuzz_value(seed) : ext;
}

/* The host's part. */

/* Wakes threads that sit in KVM_RUN. */
static __maybe_unused void fuzz_signal(int sig)
{
}

static __maybe_unused void fuzz_catch_signals(void)
{
	struct sigaction sa = { .sa_handler = fuzz_signal };

	sigaction(SIGUSR1, &sa, NULL);
}

static __maybe_unused s64 fuzz_ms_since(struct timespec *start)
{
	return timespec_to_ns(timespec_elapsed(*start)) / 1000000;
}

/* What happens is told in the kernel's log, where it stands beside what the kernel says. */
static __maybe_unused void fuzz_tell(const char *fmt, ...)
{
	char line[480];
	va_list ap;
	int fd, n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	fd = open("/dev/kmsg", O_WRONLY);
	if (fd >= 0 && write(fd, line, n) != n)
		pr_info("# cannot write to the kernel's log\n");
	close(fd);
}

/* What the threads of this round ask for. */
static struct fuzz_recipe fuzz_recipe __maybe_unused;

/* The code that this thread has reached: KCOV's buffer, if the kernel has that. */
#define FUZZ_COVER_SIZE	(1 << 16)
static __thread u64 *fuzz_cover __maybe_unused;

/* The kernel records the code that this thread reaches from here on. */
static __maybe_unused void fuzz_cover_begin(void)
{
	int fd = open("/sys/kernel/debug/kcov", O_RDWR);

	if (fd < 0)
		return;
	TEST_ASSERT(!ioctl(fd, KCOV_INIT_TRACE, FUZZ_COVER_SIZE), "KCOV_INIT_TRACE: %s", strerror(errno));
	fuzz_cover = mmap(NULL, FUZZ_COVER_SIZE * sizeof(u64), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	TEST_ASSERT(fuzz_cover != MAP_FAILED, "mmap of kcov");
	TEST_ASSERT(!ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC), "KCOV_ENABLE: %s", strerror(errno));
	close(fd);
}

/* Adds the code that this thread has reached since the last call, in its step @step. */
static __maybe_unused void fuzz_cover_note(u64 step)
{
	u64 i, n, at, bit, last, code = 0;

	if (!fuzz_cover)
		return;
	n = __atomic_exchange_n(&fuzz_cover[0], 0, __ATOMIC_RELAXED);
	for (i = 1; i <= n && i < FUZZ_COVER_SIZE; i++) {
		at = fuzz_mix(fuzz_cover[i], 0) >> (64 - FUZZ_CODE_BITS);
		bit = 1UL << at % 64;
		if (READ_ONCE(fuzz_stats->seen[at / 64]) & bit)
			continue;
		if (!(__atomic_fetch_or(&fuzz_stats->seen[at / 64], bit, __ATOMIC_RELAXED) & bit))
			code++;
	}
	if (!code)
		return;
	fuzz_add(code, code);
	last = READ_ONCE(fuzz_stats->first_step);
	while (last < step && !__atomic_compare_exchange_n(&fuzz_stats->first_step, &last, step, false,
							   __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

/* Keeps the round that was, as far as it led to new code. */
static __maybe_unused void fuzz_keep(u64 seed)
{
	u64 left = fuzz_stats->first_step, i;
	struct fuzz_recipe kept = {};

	fuzz_stats->first_step = 0;
	if (!left)
		return;
	for (i = 0; i < fuzz_recipe.nr && left; i++) {
		kept.piece[i] = fuzz_recipe.piece[i];
		kept.piece[i].steps = min_t(u64, kept.piece[i].steps, left);
		left -= kept.piece[i].steps;
		kept.nr++;
	}
	i = fuzz_stats->nr_kept < FUZZ_KEPT ? fuzz_stats->nr_kept++ : below(&seed, FUZZ_KEPT);
	fuzz_stats->kept[i] = kept;
}

/* What the round of @seed asks for: begins like one that was kept, one time in two. */
static __maybe_unused void fuzz_choose(u64 seed)
{
	u64 last = seed;

	fuzz_recipe.nr = 0;
	if (fuzz_stats->nr_kept && one_in(&seed, 2))
		fuzz_recipe = fuzz_stats->kept[below(&seed, fuzz_stats->nr_kept)];
	if (fuzz_recipe.nr == FUZZ_PIECES)
		fuzz_recipe.nr--;
	fuzz_recipe.piece[fuzz_recipe.nr].seed = last;
	fuzz_recipe.piece[fuzz_recipe.nr++].steps = ~0UL;
}

/* Of -p: SEED:STEPS,SEED:STEPS,... */
static __maybe_unused void fuzz_parse(const char *text)
{
	char *end;

	for (fuzz_recipe.nr = 0; *text; fuzz_recipe.nr++) {
		TEST_ASSERT(fuzz_recipe.nr < FUZZ_PIECES, "more than %d pieces", FUZZ_PIECES);
		fuzz_recipe.piece[fuzz_recipe.nr].seed = strtoull(text, &end, 0);
		TEST_ASSERT(*end == ':', "no ':' in %s", text);
		fuzz_recipe.piece[fuzz_recipe.nr].steps = strtoull(end + 1, &end, 0);
		text = end + (*end == ',');
	}
	TEST_ASSERT(fuzz_recipe.nr, "no piece");
}

static __maybe_unused void fuzz_fresh_guest(void)
{
	WRITE_ONCE(*(u64 *)TEST_GVA, 1);
	GUEST_DONE();
}

/* A VM that has nothing to do with what was before. */
static __maybe_unused void fuzz_fresh_vm(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = vm_create_with_one_vcpu(&vcpu, fuzz_fresh_guest);
	void *mem = mmap_at(SIZE_4K, SIZE_4K, 0, MAP_ANON_PRIVATE, -1);

	vm_set_user_memory_region(vm, 1, 0, SIZE_1G, SIZE_4K, mem);
	virt_pg_map(vm, TEST_GVA, SIZE_1G);
	run_to_done(vcpu);
	TEST_ASSERT_EQ(*(u64 *)mem, 1);
	kvm_vm_free(vm);
	munmap(mem, SIZE_4K);
}

/* One round in a process group of its own, which is killed if it does not end by itself. */
static __maybe_unused void fuzz_round(void (*round)(u64 seed), u64 seed, int nr)
{
	char pieces[FUZZ_PIECES * 42 + 1] = "";
	struct timespec start;
	int status = 0, at = 0;
	pid_t pid, ended;
	u64 i;

	for (i = 0; i < fuzz_recipe.nr; i++)
		at += snprintf(pieces + at, sizeof(pieces) - at, "%s%lu:%lu", at ? "," : "",
			       (unsigned long)fuzz_recipe.piece[i].seed, (unsigned long)fuzz_recipe.piece[i].steps);
	fuzz_tell("%s: seed %lu round %d -p %s\n", fuzz_name, (unsigned long)seed, nr, pieces);
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork");
	if (!pid) {
		/* In place of the library's handlers, which tell of a failure. */
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		round(fuzz_recipe.piece[0].seed);
		_exit(0);
	}
	setpgid(pid, pid);
	clock_gettime(CLOCK_MONOTONIC, &start);
	while (!(ended = waitpid(pid, &status, WNOHANG))) {
		s64 ms = fuzz_ms_since(&start);

		if (ms > FUZZ_HANG_S * 500)
			kill(-pid, SIGKILL);
		TEST_ASSERT(ms < FUZZ_HANG_S * 1000, "seed %lu round %d does not end",
			    (unsigned long)seed, nr);
		usleep(2000);
	}
	/* Children of the round's. */
	kill(-pid, SIGKILL);
	if (ended == pid && WIFSIGNALED(status)) {
		/* It takes its own memory away, and kills itself at times. */
		fuzz_add(signals, 1);
		TEST_ASSERT(WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGSEGV ||
			    WTERMSIG(status) == SIGBUS, "seed %lu round %d: signal %d",
			    (unsigned long)seed, nr, WTERMSIG(status));
		return;
	}
	TEST_ASSERT(ended == pid && !WEXITSTATUS(status), "seed %lu round %d: status 0x%x",
		    (unsigned long)seed, nr, status);
}

/* Only ours: a fuzzer finds in the C module what is known, and the host does not survive it. */
static __maybe_unused void fuzz_require_ours(void)
{
	close(open_kvm_dev_path_or_exit());
	if (access("/sys/module/kvm/parameters/fault_around_bytes", F_OK)) {
		printf("1..0 # SKIP the C module: what is known of it ends the machine\n");
		exit(KSFT_SKIP);
	}
}

static __maybe_unused void fuzz_main(int argc, char **argv, void (*round)(u64 seed))
{
	int opt, kmsg, first = 0, last = INT_MAX, nr;
	struct timespec start;
	const char *pieces = NULL;
	u64 seed = 1;

	fuzz_name = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
	while ((opt = getopt(argc, argv, "s:t:r:p:")) != -1) {
		switch (opt) {
		case 's': seed = strtoull(optarg, NULL, 0); break;
		case 't': fuzz_seconds = atoi(optarg); break;
		case 'r': first = last = atoi(optarg); break;
		case 'p': pieces = optarg; break;
		default:
			printf("usage: %s [-s SEED] [-t SECONDS] [-r ROUND] [-p PIECES]\n", argv[0]);
			exit(KSFT_FAIL);
		}
	}
	setbuf(stdout, NULL);
	fuzz_stats = mmap(NULL, sizeof(*fuzz_stats), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(fuzz_stats != MAP_FAILED, "mmap");
	printf("# seed %lu\n", (unsigned long)seed);

	kmsg = kmsg_open();
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (nr = first; nr <= last && (nr == first || fuzz_ms_since(&start) < fuzz_seconds * 1000LL); nr++) {
		if (pieces)
			fuzz_parse(pieces);
		else
			fuzz_choose(fuzz_mix(seed, nr));
		fuzz_round(round, seed, nr);
		fuzz_keep(fuzz_mix(seed, nr));
	}
	fuzz_fresh_vm();
	kmsg_assert_quiet(kmsg);
	printf("# seed %lu: %d rounds, %lu calls (%lu succeeded), %lu guest traps, %lu exits, %lu resets, %lu rounds ended by a signal\n",
	       (unsigned long)seed, nr - first, (unsigned long)fuzz_stats->calls,
	       (unsigned long)fuzz_stats->succeeded, (unsigned long)fuzz_stats->traps,
	       (unsigned long)fuzz_stats->exits, (unsigned long)fuzz_stats->resets,
	       (unsigned long)fuzz_stats->signals);
	if (fuzz_stats->code)
		printf("# %lu places of code reached; %lu rounds kept\n",
		       (unsigned long)fuzz_stats->code, (unsigned long)fuzz_stats->nr_kept);
}

#endif /* SELFTEST_KVM_RS_FUZZ_H */
