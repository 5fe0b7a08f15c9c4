/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of this directory share on top of the upstream KVM selftest
 * library: catching traps inside the guest, running a vCPU with a time limit,
 * errno checks, and the host's ISA string.
 *
 * Conventions:
 *
 *  - "on-c: pass", "on-c: fail: IDS", "on-c: varies: IDS" (a race) or
 *    "on-c: skip: WHAT" near the top of a program states what it does on the C
 *    module of Linux 7.3.4, where IDS are the numbers of the defects that
 *    Documentation/differences-from-c.rst lists (M*, S*, and N* for those that
 *    these tests found first).
 *
 *  - A subtest that fails on the C module is named after its defect: m1_*,
 *    s17_*.  All others pass there (or skip for want of hardware).  A few
 *    defects show on some hardware only: M9 needs Svade, M10 Sstc, M11 V, M19
 *    Svnapot.
 */
#ifndef SELFTEST_KVM_RS_UTIL_H
#define SELFTEST_KVM_RS_UTIL_H

#include <sched.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

#include "kvm_util.h"
#include "processor.h"
#include "sbi.h"
#include "ucall_common.h"
#include "kselftest_harness.h"

/*
 * Seconds for each TEST(): emulated CPUs are slow when they are many, and
 * slower on a debug kernel.
 */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	200

/*
 * How long a test waits for what happens at once on an idle host, before it
 * says that it never does: nobody waits that long but where it fails.  What a
 * defect keeps the C module from ever doing is awaited for DEFECT_MS.
 */
#define HANG_MS			30000
#define DEFECT_MS		6000

#ifndef EXC_INST_MISALIGNED
#define EXC_INST_MISALIGNED	0
#define EXC_INST_ACCESS		1
#define EXC_INST_ILLEGAL	2
#define EXC_BREAKPOINT		3
#define EXC_LOAD_MISALIGNED	4
#define EXC_LOAD_ACCESS		5
#define EXC_STORE_MISALIGNED	6
#define EXC_STORE_ACCESS	7
#define EXC_SYSCALL		8
#define EXC_INST_PAGE_FAULT	12
#define EXC_LOAD_PAGE_FAULT	13
#define EXC_STORE_PAGE_FAULT	15
#endif
#define EXC_VIRTUAL_INST_FAULT	22

#ifndef SR_VS
#define SR_VS			0x600UL
#endif
#ifndef SR_FS
#define SR_FS			0x6000UL
#endif

#ifndef CSR_FCSR
#define CSR_FCSR		0x003
#endif
#ifndef CSR_VLENB
#define CSR_VLENB		0xc22
#endif

/* SBI extensions that sbi.h does not name. */
#define SBI_EXT_DBCN		0x4442434E
#define SBI_EXT_FWFT		0x46574654
#define SBI_EXT_HSM		0x48534D
#define SBI_EXT_IPI		0x735049
#define SBI_EXT_MPXY		0x4D505859
#define SBI_EXT_RFENCE		0x52464E43
#define SBI_EXT_SRST		0x53525354
#define SBI_EXT_SUSP		0x53555350
#define SBI_EXT_TIME		0x54494D45

#define SBI_HSM_START		0
#define SBI_HSM_STOP		1
#define SBI_HSM_STATUS		2
#define SBI_HSM_SUSPEND		3

/* Bits of sip and sie. */
#define IP_SSIP			(1UL << 1)
#define IP_STIP			(1UL << 5)
#define IP_SEIP			(1UL << 9)

#define SIZE_4K			0x1000UL
#define SIZE_2M			0x200000UL
#define SIZE_1G			0x40000000UL

/* A GVA range that the library's allocators never reach. */
#define TEST_GVA		0x40000000UL

#define NO_TRAP			(~0UL)

/*
 * The last trap that guest_trap_handler() saw, in guest memory: every VM has
 * its own copy.
 */
struct guest_trap {
	unsigned long cause;
	unsigned long tval;
	unsigned long epc;
	unsigned long count;
};

static volatile struct guest_trap guest_trap __maybe_unused;

/* Records a trap and steps over the instruction that caused it. */
static __maybe_unused void guest_trap_handler(struct pt_regs *regs)
{
	unsigned int len = 4;

	guest_trap.cause = regs->cause;
	guest_trap.tval = regs->badaddr;
	guest_trap.epc = regs->epc;
	guest_trap.count++;

	switch (regs->cause) {
	case EXC_INST_MISALIGNED:
	case EXC_INST_ACCESS:
	case EXC_INST_PAGE_FAULT:
		/* There is nothing to step over: return to the caller. */
		regs->epc = regs->ra;
		return;
	}

	/* User pages cannot be read from here; their code has no C forms. */
	if ((regs->status & SR_SPP) && (*(u16 *)regs->epc & 3) != 3)
		len = 2;
	regs->epc += len;
}

/* Runs @stmt in the guest; evaluates to the cause of its trap, or NO_TRAP. */
#define GUEST_CATCH(stmt)						\
({									\
	guest_trap.count = 0;						\
	barrier();							\
	stmt;								\
	barrier();							\
	guest_trap.count ? guest_trap.cause : NO_TRAP;			\
})

static __maybe_unused void vm_catch_guest_traps(struct kvm_vm *vm)
{
	static const int causes[] = {
		EXC_INST_MISALIGNED, EXC_INST_ACCESS, EXC_INST_ILLEGAL,
		EXC_BREAKPOINT, EXC_LOAD_MISALIGNED, EXC_LOAD_ACCESS,
		EXC_STORE_MISALIGNED, EXC_STORE_ACCESS, EXC_INST_PAGE_FAULT,
		EXC_LOAD_PAGE_FAULT, EXC_STORE_PAGE_FAULT,
		EXC_VIRTUAL_INST_FAULT,
	};
	struct kvm_vcpu *vcpu;
	int i;

	vm_init_vector_tables(vm);
	for (i = 0; i < ARRAY_SIZE(causes); i++)
		vm_install_exception_handler(vm, causes[i], guest_trap_handler);
	list_for_each_entry(vcpu, &vm->vcpus, list)
		vcpu_init_vector_tables(vcpu);
}

/*
 * Runs until the guest makes a ucall other than a printf; a failed guest
 * assertion ends the test.  Evaluates to the ucall's command.
 */
static __maybe_unused u64 run_to_ucall(struct kvm_vcpu *vcpu, struct ucall *uc)
{
	struct ucall dummy;

	if (!uc)
		uc = &dummy;

	for (;;) {
		vcpu_run(vcpu);
		switch (get_ucall(vcpu, uc)) {
		case UCALL_PRINTF:
			REPORT_GUEST_PRINTF(*uc);
			continue;
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT(*uc);
			break;
		case UCALL_UNHANDLED:
			TEST_FAIL("unexpected trap in the guest: vector %lu cause %lu",
				  (unsigned long)uc->args[0], (unsigned long)uc->args[1]);
			break;
		case UCALL_NONE:
			TEST_FAIL("unexpected exit %u (%s)", vcpu->run->exit_reason,
				  exit_reason_str(vcpu->run->exit_reason));
			break;
		}
		return uc->cmd;
	}
}

static __maybe_unused void run_to_done(struct kvm_vcpu *vcpu)
{
	u64 cmd = run_to_ucall(vcpu, NULL);

	TEST_ASSERT(cmd == UCALL_DONE, "guest made ucall %lu, not DONE", (unsigned long)cmd);
}

/* Runs until the guest makes a GUEST_SYNC1(); evaluates to its argument. */
static __maybe_unused u64 run_to_sync(struct kvm_vcpu *vcpu)
{
	struct ucall uc;
	u64 cmd = run_to_ucall(vcpu, &uc);

	TEST_ASSERT(cmd == UCALL_SYNC, "guest made ucall %lu, not SYNC", (unsigned long)cmd);
	return uc.args[0];
}

/*
 * Volatile, since the handler reads it: setitimer() is declared to call nothing of
 * this file, so the compiler may otherwise move the store behind it.  A signal
 * that comes before KVM_RUN would then be lost, and with it the end of the run.
 */
static struct kvm_run *volatile limited_run __maybe_unused;

static __maybe_unused void limit_handler(int sig)
{
	if (limited_run)
		limited_run->immediate_exit = 1;
}

/* Whether @cond comes true within @ms.  It is looked at once more when they are over. */
#define eventually_within(ms, cond)						\
({										\
	struct timespec __start;						\
	unsigned int __us = 100;						\
	bool __over, __is;							\
										\
	clock_gettime(CLOCK_MONOTONIC, &__start);				\
	for (;;) {								\
		__over = timespec_to_ns(timespec_elapsed(__start)) > (ms) * 1000000LL; \
		__is = (cond);							\
		if (__is || __over)						\
			break;							\
		usleep(__us);							\
		__us = min(2 * __us, 10000U);					\
	}									\
	__is;									\
})

#define eventually(cond)	eventually_within(HANG_MS, cond)

/* One KVM_RUN that a timer ends with -EINTR after @ms; for one thread at a time. */
static __maybe_unused int vcpu_run_limited(struct kvm_vcpu *vcpu, unsigned int ms)
{
	struct itimerval off = {};
	struct itimerval on = {
		.it_value = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 },
	};
	struct sigaction sa = { .sa_handler = limit_handler };
	int ret, saved;

	limited_run = vcpu->run;
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &on, NULL);
	ret = __vcpu_run(vcpu);
	saved = errno;
	setitimer(ITIMER_REAL, &off, NULL);
	limited_run = NULL;
	vcpu->run->immediate_exit = 0;
	errno = saved;
	return ret;
}

/* Asserts that a system call failed with @err. */
#define TEST_ASSERT_ERRNO(call, err)						\
do {										\
	int __ret = (call);							\
	int __err = errno;							\
										\
	TEST_ASSERT(__ret == -1 && __err == (err),				\
		    "%s: wanted %s, got %d (%s)", #call, strerror(err), __ret,	\
		    __ret == -1 ? strerror(__err) : "no error");		\
} while (0)

#define TEST_ASSERT_OK(call)							\
do {										\
	int __ret = (call);							\
	int __err = errno;							\
										\
	TEST_ASSERT(!__ret, "%s: wanted 0, got %d (%s)", #call, __ret,		\
		    strerror(__err));						\
} while (0)

/*
 * The kernel log from now on, every WARN_ONCE armed again where debugfs is
 * mounted; for kmsg_assert_quiet() later.
 */
static __maybe_unused int kmsg_open(void)
{
	int fd = open("/sys/kernel/debug/clear_warn_once", O_WRONLY);

	if (fd >= 0) {
		if (write(fd, "1", 1) != 1)
			pr_info("# cannot clear the warnings of before\n");
		close(fd);
	}
	fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	if (fd >= 0)
		lseek(fd, 0, SEEK_END);
	return fd;
}

/* Asserts that the kernel has not complained since kmsg_open(). */
static __maybe_unused void kmsg_assert_quiet(int fd)
{
	static const char * const bad[] = { "WARNING: ", "BUG: ", "Oops", "INFO: " };
	char line[8192];
	ssize_t n;
	int i;

	while (fd >= 0 && ((n = read(fd, line, sizeof(line) - 1)) > 0 || errno == EPIPE)) {
		if (n <= 0)
			continue;
		line[n] = '\0';
		for (i = 0; i < ARRAY_SIZE(bad); i++)
			TEST_ASSERT(!strstr(line, bad[i]), "the kernel says: %s", line);
	}
	close(fd);
}

/* The level-0 entry of the guest's own page table that maps @gva. */
static __maybe_unused u64 *guest_pte(struct kvm_vm *vm, gva_t gva)
{
	u64 table = vm->mmu.pgd;
	int level;
	u64 *pte = NULL;

	for (level = vm->mmu.pgtable_levels - 1; level >= 0; level--) {
		pte = (u64 *)addr_gpa2hva(vm, table) + (gva >> (12 + 9 * level) & 0x1ff);
		TEST_ASSERT(!level || (*pte & PGTBL_PTE_VALID_MASK), "gva 0x%lx is not mapped",
			    (unsigned long)gva);
		table = (*pte & PGTBL_PTE_ADDR_MASK) >> PGTBL_PTE_ADDR_SHIFT << 12;
	}
	return pte;
}

/*
 * A guest that does what the host asks, one thing at a time: the host calls
 * guest_load() and friends below on a vCPU that runs guest_server().  The
 * guest catches traps if the VM has vm_catch_guest_traps().
 */
enum guest_op {
	GUEST_OP_LOAD,
	GUEST_OP_STORE,
	GUEST_OP_EXEC,		/* a function of the value, which it replaces */
};

struct guest_cmd {
	enum guest_op op;
	u64 addr;
	u64 val;
};

static struct guest_cmd guest_cmd __maybe_unused;

static __maybe_unused void guest_server(void)
{
	u64 addr, val, trap;

	for (;;) {
		barrier();
		addr = guest_cmd.addr;
		val = guest_cmd.val;
		switch (guest_cmd.op) {
		case GUEST_OP_LOAD:
			trap = GUEST_CATCH(val = READ_ONCE(*(u64 *)addr));
			break;
		case GUEST_OP_STORE:
			trap = GUEST_CATCH(WRITE_ONCE(*(u64 *)addr, val));
			break;
		default:
			trap = GUEST_CATCH(val = ((u64 (*)(u64))addr)(val));
			break;
		}
		GUEST_SYNC2(trap, val);
	}
}

static __maybe_unused void guest_ask(struct kvm_vcpu *vcpu, enum guest_op op, u64 addr, u64 val)
{
	struct guest_cmd cmd = { .op = op, .addr = addr, .val = val };

	write_guest_global(vcpu->vm, guest_cmd, cmd);
}

/* The trap of what guest_ask() asked for, or NO_TRAP and the value loaded. */
static __maybe_unused u64 guest_answer(struct kvm_vcpu *vcpu, u64 *val)
{
	struct ucall uc;

	TEST_ASSERT_EQ(run_to_ucall(vcpu, &uc), UCALL_SYNC);
	if (val)
		*val = uc.args[1];
	return uc.args[0];
}

static __maybe_unused u64 guest_load(struct kvm_vcpu *vcpu, u64 addr)
{
	u64 trap, val;

	guest_ask(vcpu, GUEST_OP_LOAD, addr, 0);
	trap = guest_answer(vcpu, &val);
	TEST_ASSERT(trap == NO_TRAP, "load from 0x%lx: cause %ld", (unsigned long)addr,
		    (long)trap);
	return val;
}

static __maybe_unused void guest_store(struct kvm_vcpu *vcpu, u64 addr, u64 val)
{
	u64 trap;

	guest_ask(vcpu, GUEST_OP_STORE, addr, val);
	trap = guest_answer(vcpu, NULL);
	TEST_ASSERT(trap == NO_TRAP, "store to 0x%lx: cause %ld", (unsigned long)addr,
		    (long)trap);
}

/* A VM with one vCPU that runs guest_server(). */
static __maybe_unused struct kvm_vcpu *server_create(void)
{
	struct kvm_vcpu *vcpu;

	vm_catch_guest_traps(vm_create_with_one_vcpu(&vcpu, guest_server));
	return vcpu;
}

/* Maps @size bytes of TEST_GVA to @gpa in the guest's own tables. */
static __maybe_unused void server_map(struct kvm_vcpu *vcpu, u64 gpa, u64 size)
{
	u64 off;

	for (off = 0; off < size; off += SIZE_4K)
		virt_pg_map(vcpu->vm, TEST_GVA + off, gpa + off);
}

/*
 * A guest that makes the SBI calls which the host asks for with vcpu_sbi(), or
 * with sbi_ask() and a run of its own where the call leaves for userspace.
 */
static struct {
	u64 ext, fid, arg[6];
} sbi_call __maybe_unused;

/* As sbi_ecall(), which cuts its ids to 32 bits. */
static __maybe_unused struct sbiret guest_ecall(u64 ext, u64 fid, const u64 *arg)
{
	register u64 a0 asm("a0") = arg[0];
	register u64 a1 asm("a1") = arg[1];
	register u64 a2 asm("a2") = arg[2];
	register u64 a3 asm("a3") = arg[3];
	register u64 a4 asm("a4") = arg[4];
	register u64 a5 asm("a5") = arg[5];
	register u64 a6 asm("a6") = fid;
	register u64 a7 asm("a7") = ext;

	asm volatile("ecall" : "+r"(a0), "+r"(a1)
		     : "r"(a2), "r"(a3), "r"(a4), "r"(a5), "r"(a6), "r"(a7) : "memory");
	return (struct sbiret){ .error = a0, .value = a1 };
}

static __maybe_unused void guest_sbi_server(void)
{
	struct sbiret ret;
	u64 sip;

	for (;;) {
		barrier();
		ret = guest_ecall(sbi_call.ext, sbi_call.fid, sbi_call.arg);
		sip = csr_read(CSR_SIP);
		csr_clear(CSR_SIP, IP_SSIP);
		GUEST_SYNC3(ret.error, ret.value, sip);
	}
}

static __maybe_unused void sbi_ask(struct kvm_vcpu *vcpu, u64 ext, u64 fid, const u64 *arg)
{
	typeof(sbi_call) call = { .ext = ext, .fid = fid };

	memcpy(call.arg, arg, sizeof(call.arg));
	write_guest_global(vcpu->vm, sbi_call, call);
}

/* What the call returned, and what the guest's sip was after it. */
static __maybe_unused struct sbiret sbi_answer(struct kvm_vcpu *vcpu, u64 *sip)
{
	struct sbiret ret;
	struct ucall uc;

	TEST_ASSERT_EQ(run_to_ucall(vcpu, &uc), UCALL_SYNC);
	ret.error = uc.args[0];
	ret.value = uc.args[1];
	if (sip)
		*sip = uc.args[2];
	return ret;
}

#define vcpu_sbi_sip(vcpu, ext, fid, sip, args...)				\
({										\
	sbi_ask(vcpu, ext, fid, (u64[6]){ args });				\
	sbi_answer(vcpu, sip);							\
})

#define vcpu_sbi(vcpu, ext, fid, args...)	vcpu_sbi_sip(vcpu, ext, fid, NULL, ##args)

/* Asserts on the error of an SBI call; evaluates to its value. */
#define assert_sbi(want, vcpu, ext, fid, args...)				\
({										\
	struct sbiret __r = vcpu_sbi(vcpu, ext, fid, ##args);			\
										\
	TEST_ASSERT(__r.error == (want), "SBI " #ext " " #fid " (" #args "): error %ld, not %d", \
		    __r.error, want);						\
	__r.value;								\
})

/* An anonymous range whose address is @offset beyond a multiple of @align. */
static __maybe_unused void *mmap_at(size_t size, size_t align, size_t offset, int flags, int fd)
{
	size_t room = size + 2 * align;
	char *p = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	TEST_ASSERT(p != MAP_FAILED, "cannot reserve 0x%lx bytes", (unsigned long)room);
	p = (char *)(((unsigned long)p + align - 1) / align * align) + offset;
	return mmap(p, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
}

#define MAP_ANON_PRIVATE	(MAP_PRIVATE | MAP_ANONYMOUS)

/*
 * A VM with this program loaded and no vCPU yet, made after VM capability @cap
 * was enabled with @arg: what vm_create() does, with the room in between.
 */
static __maybe_unused struct kvm_vm *vm_create_loaded(u32 cap, u64 arg)
{
	struct userspace_mem_region *slot0;
	struct kvm_vm *vm = vm_create_barebones();
	int i;

	vm_enable_cap(vm, cap, arg);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, 0, 0, 1024, 0);
	for (i = 0; i < NR_MEM_REGIONS; i++)
		vm->memslots[i] = 0;
	kvm_vm_elf_load(vm, program_invocation_name);
	slot0 = memslot2region(vm, 0);
	ucall_init(vm, slot0->region.guest_phys_addr + slot0->region.memory_size);
	return vm;
}

/* Whether the host kernel names extension @name in /proc/cpuinfo. */
static __maybe_unused bool host_has_isa(const char *name)
{
	static char isa[4096];
	char *p, *single;
	FILE *f;

	if (!isa[0]) {
		f = fopen("/proc/cpuinfo", "r");
		TEST_ASSERT(f, "cannot open /proc/cpuinfo");
		while (fgets(isa, sizeof(isa), f) && strncmp(isa, "isa\t", 4))
			;
		fclose(f);
		p = strstr(isa, "rv64");
		TEST_ASSERT(p, "/proc/cpuinfo has no isa line");
		memmove(isa, p + 4, strlen(p + 4) + 1);
		isa[strcspn(isa, " \n")] = '\0';
	}

	single = strchrnul(isa, '_');
	if (strlen(name) == 1) {
		p = strchr(isa, name[0]);
		return p && p < single;
	}
	for (p = single; *p; p = strchrnul(p + 1, '_'))
		if (!strncmp(p + 1, name, strlen(name)) &&
		    strchr("_", p[1 + strlen(name)]))
			return true;
	return false;
}

#endif /* SELFTEST_KVM_RS_UTIL_H */
