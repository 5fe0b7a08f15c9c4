// SPDX-License-Identifier: GPL-2.0
/* on-c: skip: a fuzzer of the C module finds what is known of it, which ends the machine */
/* covers: hooks.rs hooks/vm.rs hooks/vcpu.rs hooks/cap.rs aia/device.rs
 * vcpu/onereg.rs */
/*
 * Generated ioctls of /dev/kvm, VMs, vCPUs and devices from several threads,
 * on files that come and go, with memory that is taken away and a CPU that
 * goes off and on.  Arguments are mostly valid, so that the calls get far.
 * Whatever they return, the kernel does not complain, each process ends, and a
 * fresh VM works afterwards.
 */
#include <asm/kvm_rs.h>
#include <setjmp.h>

#include "kvm_rs_fuzz.h"

#define NR_THREADS	4
#define CALLS		400		/* of each thread in a round */
#define ROUND_MS	4000		/* and what it may take */
#define TICK_US		2000

#define ARENA_SIZE	(4 * SIZE_2M)
#define GPA		0x80000000UL
#define MAX_VCPUS	8
#define MAX_REGS	1024

enum kind { SYSTEM, VM, VCPU, DEVICE, EVENT, OTHER, NR_KINDS };
#define FILES		6

/* What the threads of a round share.  Any thread may close or replace any file. */
static int files[NR_KINDS][FILES];
static struct kvm_run *runs[MAX_VCPUS];
static char *arena;
static u64 regs[MAX_REGS];
static u32 nr_regs;
static pthread_t threads[NR_THREADS];
static u64 created;
static volatile int over;

static int file(u64 *seed, enum kind kind)
{
	if (one_in(seed, 64))
		kind = below(seed, NR_KINDS);
	return READ_ONCE(files[kind][below(seed, FILES)]);
}

static void file_add(u64 *seed, enum kind kind, int fd)
{
	int old;

	if (fd < 0)
		return;
	old = __atomic_exchange_n(&files[kind][below(seed, FILES)], fd, __ATOMIC_RELAXED);
	if (old > 2)
		close(old);
}

static long call(int fd, unsigned long request, void *arg)
{
	long ret = ioctl(fd, request, arg);

	fuzz_add(calls, 1);
	fuzz_add(by[_IOC_NR(request)], 1);
	if (ret >= 0) {
		fuzz_add(succeeded, 1);
		fuzz_add(by_succeeded[_IOC_NR(request)], 1);
	}
	return ret;
}

/* An address in the arena, or one that is not so good. */
static u64 hva(u64 *seed)
{
	u64 page = (u64)arena + below(seed, ARENA_SIZE / SIZE_4K) * SIZE_4K;

	switch (below(seed, 24)) {
	case 0: return fuzz_value(seed);
	case 1: return page + 4088;
	case 2: return (u64)READ_ONCE(runs[below(seed, MAX_VCPUS)]);
	case 3: return page & ~(SIZE_2M - 1);
	default: return page;
	}
}

static u64 gpa(u64 *seed)
{
	switch (below(seed, 16)) {
	case 0: return fuzz_value(seed) & ~(SIZE_4K - 1);
	case 1: return AIA_APLIC_GPA + below(seed, 8) * SIZE_4K;
	case 2: return AIA_IMSIC_GPA + below(seed, 8) * SIZE_4K;
	case 3: return fuzz_value(seed);
	case 4: return (1UL << pick(seed, 41, 50, 56, 59)) - below(seed, 4) * SIZE_4K;
	default: return GPA + below(seed, 2 * ARENA_SIZE / SIZE_4K) * SIZE_4K;
	}
}

/* Where messages of interrupts go. */
static u64 msi_address(u64 *seed)
{
	return one_in(seed, 4) ? gpa(seed) : AIA_IMSIC(below(seed, MAX_VCPUS));
}

static u64 length(u64 *seed)
{
	switch (below(seed, 16)) {
	case 0: return fuzz_value(seed);
	case 1: return 0;
	case 2: return SIZE_1G << below(seed, 4);
	case 3 ... 5: return SIZE_2M * (1 + below(seed, 4));
	default: return SIZE_4K * (1 + below(seed, 600));
	}
}

static u32 slot_id(u64 *seed)
{
	return one_in(seed, 16) ? fuzz_value(seed) : one_in(seed, 2) ? 0 : below(seed, 6);
}

static u64 reg_id(u64 *seed)
{
	u64 id = nr_regs ? regs[below(seed, nr_regs)] : KVM_REG_RISCV;

	switch (below(seed, 16)) {
	case 0: return id ^ 1UL << below(seed, 64);
	case 1: return KVM_REG_RISCV | KVM_REG_SIZE_U64 | (1 + below(seed, 11)) << KVM_REG_RISCV_TYPE_SHIFT |
		       below(seed, 4) << KVM_REG_RISCV_SUBTYPE_SHIFT | below(seed, 80);
	default: return id;
	}
}

static void one_reg(u64 *seed, bool set)
{
	u64 val[64] = {}, i;
	struct kvm_one_reg reg = { .id = reg_id(seed), .addr = (u64)val };
	int fd = file(seed, VCPU);

	/* What is there, or nearly; else anything. */
	if (set && !one_in(seed, 4))
		call(fd, KVM_GET_ONE_REG, &reg);
	if (set)
		for (i = 0; i < 4; i++)
			if (one_in(seed, 2))
				val[i] = one_in(seed, 2) ? fuzz_value(seed) : val[i] ^ 1UL << below(seed, 64);
	if (set && reg.id == RISCV_CORE_REG(regs.pc) && !one_in(seed, 4))
		val[0] = GPA + below(seed, ARENA_SIZE / SIZE_4K) * SIZE_4K;
	if (one_in(seed, 64))
		reg.addr = hva(seed);
	call(fd, set ? KVM_SET_ONE_REG : KVM_GET_ONE_REG, &reg);
}

static void memory_region(u64 *seed)
{
	struct kvm_userspace_memory_region2 region = {
		.slot = slot_id(seed),
		.flags = pick(seed, 0, 0, KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_LOG_DIRTY_PAGES,
			      KVM_MEM_READONLY, KVM_MEM_READONLY | KVM_MEM_LOG_DIRTY_PAGES, xorshift(seed)),
		.guest_phys_addr = gpa(seed),
		.memory_size = length(seed),
		.userspace_addr = hva(seed),
	};

	/* Bitmaps of huge slots would take all the memory. */
	if ((region.flags & KVM_MEM_LOG_DIRTY_PAGES) && region.memory_size > SIZE_1G)
		region.memory_size = SIZE_2M;
	/* Half of them deserve a chance of THP. */
	if (one_in(seed, 4)) {
		region.guest_phys_addr &= ~(SIZE_2M - 1);
		region.userspace_addr = (u64)arena;
	}
	call(file(seed, VM), one_in(seed, 4) ? KVM_SET_USER_MEMORY_REGION2 : KVM_SET_USER_MEMORY_REGION,
	     &region);
}

static void dirty_log(u64 *seed)
{
	struct kvm_clear_dirty_log clear = {
		.slot = slot_id(seed),
		.num_pages = one_in(seed, 4) ? fuzz_value(seed) : below(seed, 64) * 64,
		.first_page = one_in(seed, 4) ? fuzz_value(seed) : below(seed, 8) * 64,
		.dirty_bitmap = (void *)hva(seed),
	};
	struct kvm_dirty_log get = {
		.slot = clear.slot,
		.dirty_bitmap = clear.dirty_bitmap,
	};

	if (one_in(seed, 3))
		call(file(seed, VM), KVM_CLEAR_DIRTY_LOG, &clear);
	else
		call(file(seed, VM), KVM_GET_DIRTY_LOG, &get);
}

/* Entries of a dirty ring are in memory that userspace writes. */
static void dirty_ring(u64 *seed)
{
	int fd = file(seed, VCPU), i, n;
	struct kvm_dirty_gfn *ring;
	u64 size = SIZE_4K << below(seed, 4);

	ring = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, KVM_DIRTY_LOG_PAGE_OFFSET * SIZE_4K);
	if (ring != MAP_FAILED) {
		n = below(seed, size / sizeof(*ring));
		for (i = 0; i < n; i++) {
			ring[i].flags |= KVM_DIRTY_GFN_F_RESET;
			if (one_in(seed, 16))
				ring[i].flags = fuzz_value(seed);
			if (one_in(seed, 16))
				ring[i].slot = slot_id(seed);
			if (one_in(seed, 16))
				ring[i].offset = fuzz_value(seed);
		}
		munmap(ring, size);
	}
	call(file(seed, VM), KVM_RESET_DIRTY_RINGS, NULL);
}

static void irqfd(u64 *seed)
{
	struct kvm_irqfd irqfd = {
		.fd = file(seed, EVENT),
		.gsi = one_in(seed, 8) ? fuzz_value(seed) : below(seed, 100),
		.flags = pick(seed, 0, 0, KVM_IRQFD_FLAG_DEASSIGN, KVM_IRQFD_FLAG_RESAMPLE,
			      KVM_IRQFD_FLAG_RESAMPLE, fuzz_value(seed)),
		.resamplefd = file(seed, EVENT),
	};

	call(file(seed, VM), KVM_IRQFD, &irqfd);
}

static void ioeventfd(u64 *seed)
{
	struct kvm_ioeventfd io = {
		.datamatch = fuzz_value(seed),
		.addr = gpa(seed),
		.len = pick(seed, 0, 1, 2, 4, 8, 8, 3, xorshift(seed)),
		.fd = file(seed, EVENT),
		.flags = pick(seed, 0, 0, 1, 2, 4, 4, 5, 8, fuzz_value(seed)),
	};

	call(file(seed, VM), KVM_IOEVENTFD, &io);
}

static void coalesced(u64 *seed)
{
	struct kvm_coalesced_mmio_zone zone = {
		.addr = gpa(seed),
		.size = length(seed),
		.pio = one_in(seed, 8),
	};

	call(file(seed, VM), one_in(seed, 2) ? KVM_REGISTER_COALESCED_MMIO : KVM_UNREGISTER_COALESCED_MMIO,
	     &zone);
}

static void routing(u64 *seed)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entries[64];
	} table = {};
	int i;

	table.head.nr = one_in(seed, 16) ? fuzz_value(seed) : below(seed, 64);
	table.head.flags = one_in(seed, 16) ? fuzz_value(seed) : 0;
	for (i = 0; i < 64; i++) {
		struct kvm_irq_routing_entry *e = &table.entries[i];

		e->gsi = one_in(seed, 16) ? fuzz_value(seed) : below(seed, 100);
		e->type = one_in(seed, 16) ? fuzz_value(seed) :
			  pick(seed, KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI);
		e->flags = one_in(seed, 32) ? fuzz_value(seed) : 0;
		if (e->type == KVM_IRQ_ROUTING_MSI) {
			e->u.msi.address_lo = msi_address(seed);
			e->u.msi.data = fuzz_value(seed);
		} else {
			e->u.irqchip.irqchip = one_in(seed, 16) ? fuzz_value(seed) : 0;
			e->u.irqchip.pin = one_in(seed, 16) ? fuzz_value(seed) : below(seed, 100);
		}
	}
	call(file(seed, VM), KVM_SET_GSI_ROUTING, &table);
}

static void interrupt(u64 *seed)
{
	struct kvm_msi msi = {
		.address_lo = msi_address(seed),
		.data = one_in(seed, 4) ? fuzz_value(seed) : below(seed, 64),
		.flags = one_in(seed, 16) ? fuzz_value(seed) : 0,
		.devid = fuzz_value(seed),
	};
	struct kvm_irq_level line = {
		.irq = one_in(seed, 8) ? fuzz_value(seed) : below(seed, 100),
		.level = below(seed, 2),
	};
	struct kvm_interrupt irq = {
		.irq = pick(seed, KVM_INTERRUPT_SET, KVM_INTERRUPT_UNSET, fuzz_value(seed)),
	};

	switch (below(seed, 4)) {
	case 0: call(file(seed, VM), KVM_SIGNAL_MSI, &msi); break;
	case 1: call(file(seed, VM), KVM_IRQ_LINE, &line); break;
	case 2: call(file(seed, VM), KVM_IRQ_LINE_STATUS, &line); break;
	default: call(file(seed, VCPU), KVM_INTERRUPT, &irq); break;
	}
}

static void device_attr(u64 *seed)
{
	u64 val = fuzz_value(seed);
	struct kvm_device_attr attr = {
		.group = one_in(seed, 16) ? fuzz_value(seed) : below(seed, 6),
		.addr = one_in(seed, 16) ? hva(seed) : (u64)&val,
		.flags = one_in(seed, 32) ? fuzz_value(seed) : 0,
	};

	switch (attr.group) {
	case KVM_DEV_RISCV_AIA_GRP_CONFIG:
		attr.attr = below(seed, 8);
		val = one_in(seed, 4) ? val : pick(seed, 0, 1, 2, 3, 24, 63, 96, 255, 1023, 2047);
		break;
	case KVM_DEV_RISCV_AIA_GRP_ADDR:
		attr.attr = below(seed, MAX_VCPUS + 1);
		val = one_in(seed, 8) ? gpa(seed) : attr.attr ? AIA_IMSIC(attr.attr - 1) : AIA_APLIC_GPA;
		break;
	case KVM_DEV_RISCV_AIA_GRP_APLIC:
		attr.attr = below(seed, 0x1000) * 4;
		break;
	case KVM_DEV_RISCV_AIA_GRP_IMSIC:
		attr.attr = aia_imsic_attr(below(seed, MAX_VCPUS), 0x70 + below(seed, 0x90));
		break;
	}
	if (one_in(seed, 32))
		attr.attr ^= fuzz_value(seed);
	call(file(seed, DEVICE), pick(seed, KVM_SET_DEVICE_ATTR, KVM_SET_DEVICE_ATTR, KVM_GET_DEVICE_ATTR,
				      KVM_HAS_DEVICE_ATTR), &attr);
}

/* All of the device's configuration, so that its INIT succeeds. */
static void device_init(u64 *seed)
{
	int fd = file(seed, DEVICE), i;

	__aia_set(fd, KVM_DEV_RISCV_AIA_GRP_CONFIG, KVM_DEV_RISCV_AIA_CONFIG_MODE, below(seed, 3));
	__aia_set(fd, KVM_DEV_RISCV_AIA_GRP_CONFIG, KVM_DEV_RISCV_AIA_CONFIG_SRCS, 64 + below(seed, 64));
	__aia_set(fd, KVM_DEV_RISCV_AIA_GRP_CONFIG, KVM_DEV_RISCV_AIA_CONFIG_HART_BITS, AIA_HART_BITS);
	__aia_set(fd, KVM_DEV_RISCV_AIA_GRP_ADDR, KVM_DEV_RISCV_AIA_ADDR_APLIC, AIA_APLIC_GPA);
	for (i = 0; i < MAX_VCPUS; i++)
		__aia_set(fd, KVM_DEV_RISCV_AIA_GRP_ADDR, KVM_DEV_RISCV_AIA_ADDR_IMSIC(i), AIA_IMSIC(i));
	__aia_init(fd);
}

static void create_device(u64 *seed)
{
	struct kvm_create_device device = {
		.type = one_in(seed, 8) ? fuzz_value(seed) : KVM_DEV_TYPE_RISCV_AIA,
		.flags = pick(seed, 0, 0, 0, KVM_CREATE_DEVICE_TEST, fuzz_value(seed)),
	};

	if (!call(file(seed, VM), KVM_CREATE_DEVICE, &device) && !(device.flags & KVM_CREATE_DEVICE_TEST))
		file_add(seed, DEVICE, device.fd);
	if (one_in(seed, 2))
		device_init(seed);
}

static void enable_cap(u64 *seed)
{
	struct kvm_enable_cap cap = {
		.cap = pick(seed, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_CAP_HALT_POLL, KVM_CAP_DIRTY_LOG_RING,
			    KVM_CAP_DIRTY_LOG_RING_ACQ_REL, KVM_CAP_DIRTY_LOG_RING_ACQ_REL,
			    KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP, KVM_CAP_RISCV_MP_STATE_RESET,
			    KVM_CAP_RISCV_SET_HGATP_MODE, KVM_CAP_VM_GPA_BITS, below(seed, 252)),
		.flags = one_in(seed, 32) ? fuzz_value(seed) : 0,
		.args = { pick(seed, 0, 1, 2, 3, 8, 9, 10, 41, 50, 59, 4096, 16384, 65536, fuzz_value(seed)),
			  one_in(seed, 8) ? fuzz_value(seed) : 0 },
	};

	call(file(seed, one_in(seed, 8) ? VCPU : VM), KVM_ENABLE_CAP, &cap);
}

static void create_vcpu(u64 *seed)
{
	int fd, i = below(seed, MAX_VCPUS);
	struct kvm_run *run;

	if (__atomic_add_fetch(&created, 1, __ATOMIC_RELAXED) > 24)
		return;
	fd = call(file(seed, VM), KVM_CREATE_VCPU, (void *)(one_in(seed, 16) ? fuzz_value(seed) : i));
	if (fd < 0)
		return;
	run = mmap(NULL, ioctl(files[SYSTEM][0], KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE,
		   MAP_SHARED, fd, 0);
	/* That of another vCPU is left mapped. */
	if (run != MAP_FAILED)
		WRITE_ONCE(runs[i], run);
	file_add(seed, VCPU, fd);
}

static void create_vm(u64 *seed)
{
	if (__atomic_add_fetch(&created, 4, __ATOMIC_RELAXED) > 24)
		return;
	file_add(seed, VM, call(files[SYSTEM][0], KVM_CREATE_VM,
				(void *)(one_in(seed, 4) ? fuzz_value(seed) : 0)));
}

/* Answers of userspace, and what it should not write. */
static void scribble(u64 *seed)
{
	struct kvm_run *run = READ_ONCE(runs[below(seed, MAX_VCPUS)]);
	int i;

	if (!run)
		return;
	for (i = 0; i < 8; i++)
		((u64 *)run)[below(seed, one_in(seed, 2) ? SIZE_4K / 8 : 32)] = fuzz_value(seed);
	run->immediate_exit = one_in(seed, 4);
}

static void run_vcpu(u64 *seed)
{
	int n = 1 + below(seed, 16), fd = file(seed, VCPU);

	if (one_in(seed, 4))
		scribble(seed);
	while (n-- && (call(fd, KVM_RUN, NULL) >= 0 || errno == EFAULT))
		if (one_in(seed, 4))
			scribble(seed);
}

static void mp_state(u64 *seed)
{
	struct kvm_mp_state mp = { .mp_state = one_in(seed, 8) ? fuzz_value(seed) : below(seed, 11) };

	/* A hart that runs is worth more. */
	if (one_in(seed, 3))
		mp.mp_state = KVM_MP_STATE_RUNNABLE;
	call(file(seed, VCPU), one_in(seed, 4) ? KVM_GET_MP_STATE : KVM_SET_MP_STATE, &mp);
}

static void guest_debug(u64 *seed)
{
	struct kvm_guest_debug dbg = { .control = one_in(seed, 4) ? fuzz_value(seed) : below(seed, 4) };

	call(file(seed, VCPU), KVM_SET_GUEST_DEBUG, &dbg);
}

static void signal_mask(u64 *seed)
{
	struct {
		struct kvm_signal_mask head;
		u64 set;
	} mask = { .head.len = one_in(seed, 8) ? fuzz_value(seed) : 8 };

	/* The signal that ends KVM_RUN stays unblocked. */
	mask.set = fuzz_value(seed) & ~(1UL << (SIGUSR1 - 1));
	call(file(seed, VCPU), KVM_SET_SIGNAL_MASK, one_in(seed, 4) ? NULL : &mask);
}

static void stats(u64 *seed)
{
	char buf[4096];
	int fd = call(file(seed, one_in(seed, 2) ? VM : VCPU), KVM_GET_STATS_FD, NULL);

	file_add(seed, OTHER, fd);
	if (pread(file(seed, OTHER), buf, below(seed, sizeof(buf)), one_in(seed, 4) ? fuzz_value(seed) : below(seed, 4096)) < 0)
		return;
}

static void reg_list(u64 *seed)
{
	struct {
		struct kvm_reg_list head;
		u64 reg[MAX_REGS];
	} list;

	list.head.n = one_in(seed, 2) ? MAX_REGS : fuzz_value(seed);
	if (!call(file(seed, VCPU), KVM_GET_REG_LIST, &list) && list.head.n <= MAX_REGS) {
		memcpy(regs, list.reg, list.head.n * 8);
		nr_regs = list.head.n;
	}
}

static void pre_fault(u64 *seed)
{
	struct kvm_pre_fault_memory range = {
		.gpa = gpa(seed),
		.size = length(seed),
		.flags = one_in(seed, 16) ? fuzz_value(seed) : 0,
	};

	if (range.size > SIZE_2M && !one_in(seed, 8))
		range.size = SIZE_2M;
	call(file(seed, VCPU), KVM_PRE_FAULT_MEMORY, &range);
}

/* Any of the numbers, those of other architectures too, with memory for an argument. */
static void any(u64 *seed)
{
	u64 args[128];
	u32 nr = below(seed, 256);
	int i;

	/* Those are called elsewhere, with care for how much they take. */
	if (nr == 0x01 || nr == 0x41 || nr == 0x46 || nr == 0x49 || nr == 0x8b || nr == 0xac)
		return;
	for (i = 0; i < ARRAY_SIZE(args); i++)
		args[i] = one_in(seed, 8) ? hva(seed) : fuzz_value(seed);
	call(file(seed, below(seed, NR_KINDS)),
	     _IOC(below(seed, 4), KVMIO, nr, one_in(seed, 2) ? pick(seed, 0, 4, 8, 16, 24, 32, 40, 64) : below(seed, 1024)),
	     one_in(seed, 4) ? (void *)hva(seed) : args);
}

static void check_extension(u64 *seed)
{
	call(file(seed, one_in(seed, 2) ? SYSTEM : VM), KVM_CHECK_EXTENSION,
	     (void *)(one_in(seed, 8) ? fuzz_value(seed) : below(seed, 256)));
}

/* Memory under the VM. */
static void memory_event(u64 *seed)
{
	u64 len = SIZE_4K << below(seed, 10), at = below(seed, ARENA_SIZE / len) * len;
	u32 *code = (u32 *)(arena + at);
	int i;

	switch (below(seed, 8)) {
	case 0:
		mprotect(code, len, PROT_READ);
		mprotect(code, len, PROT_READ | PROT_WRITE);
		break;
	case 1:
		mmap(code, len, PROT_READ | PROT_WRITE, MAP_FIXED |
		     (one_in(seed, 2) ? MAP_ANON_PRIVATE : MAP_SHARED | MAP_ANONYMOUS), -1, 0);
		break;
	case 2:
		munmap(mmap(NULL, len, PROT_READ, MAP_ANON_PRIVATE, -1, 0), len);
		break;
	case 3 ... 4:
		/* Code for the guests. */
		for (i = 0; i < 64; i++)
			code[i] = fuzz_insn(seed);
		break;
	default:
		madvise(code, len, pick(seed, MADV_DONTNEED, MADV_FREE, MADV_HUGEPAGE, MADV_NOHUGEPAGE,
					MADV_COLD, MADV_PAGEOUT, MADV_POPULATE_WRITE, 25 /* COLLAPSE */));
	}
}

/* Files: any order of closing, duplicates, what else a file can be asked. */
static void file_event(u64 *seed)
{
	enum kind kind = one_in(seed, 2) ? VCPU : below(seed, NR_KINDS);
	int fd = file(seed, kind);
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };
	u64 one = 1;
	void *at;

	switch (below(seed, 8)) {
	case 0:
		if (kind != SYSTEM && one_in(seed, 16))
			file_add(seed, kind, open("/dev/null", O_RDWR));
		break;
	case 1:
		file_add(seed, kind, dup(fd));
		break;
	case 2:
		poll(&p, 1, 0);
		break;
	case 3:
		if (lseek(fd, fuzz_value(seed), below(seed, 3)) < 0 || fsync(fd) < 0)
			break;
		break;
	case 4:
		at = mmap(NULL, SIZE_4K << below(seed, 6), below(seed, 8),
			  pick(seed, MAP_SHARED, MAP_SHARED, MAP_PRIVATE), fd,
			  (one_in(seed, 4) ? below(seed, 128) : pick(seed, 0, 1, 2, 3, 64)) * SIZE_4K);
		if (at != MAP_FAILED)
			munmap(at, SIZE_4K << below(seed, 6));
		break;
	case 5:
		file_add(seed, EVENT, eventfd(0, EFD_NONBLOCK));
		break;
	default:
		if (write(file(seed, EVENT), &one, 8) != 8)
			break;
	}
}

/* What debugfs says of the VMs of this process, while they change. */
static void debugfs(u64 *seed)
{
	char path[128], buf[2048];
	static const char * const names[] = { "gstage_page_tables", "gstage_page_tables", "exits", "remote_tlb_flush" };
	int fd;

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/%s", getpid(), file(seed, VM),
		 names[below(seed, ARRAY_SIZE(names))]);
	fd = open(path, O_RDONLY);
	if (fd >= 0 && read(fd, buf, sizeof(buf)) < 0)
		pr_debug("read %s\n", path);
	if (fd >= 0)
		close(fd);
}

/* Calls from another process than the VM's. */
static void other_process(u64 *seed);

static const struct {
	void (*make)(u64 *seed);
	u32 weight, times;
} calls[] = {
	{ memory_region, 12, 1 }, { dirty_log, 8, 1 }, { dirty_ring, 4, 1 }, { irqfd, 8, 1 }, { ioeventfd, 8, 1 },
	{ coalesced, 4, 1 }, { routing, 4, 1 }, { interrupt, 12, 8 }, { device_attr, 16, 8 }, { device_init, 1, 1 },
	{ create_device, 2, 1 }, { enable_cap, 6, 1 }, { create_vcpu, 3, 1 }, { create_vm, 1, 1 }, { run_vcpu, 10, 1 },
	{ scribble, 2, 1 }, { mp_state, 6, 2 }, { guest_debug, 3, 1 }, { signal_mask, 2, 1 }, { stats, 4, 2 },
	{ reg_list, 1, 1 }, { pre_fault, 4, 1 }, { any, 12, 8 }, { check_extension, 3, 8 }, { memory_event, 6, 1 },
	{ file_event, 10, 4 }, { debugfs, 1, 1 },
};

static void get_reg(u64 *seed)
{
	one_reg(seed, false);
}

static void set_reg(u64 *seed)
{
	one_reg(seed, true);
}

static void step(u64 *seed)
{
	u32 total = 0, at;
	int i;

	for (i = 0; i < ARRAY_SIZE(calls); i++)
		total += calls[i].weight;
	/* Many are about registers, which are cheap. */
	if (one_in(seed, 4)) {
		for (i = 0; i < 16; i++)
			(one_in(seed, 2) ? get_reg : set_reg)(seed);
		return;
	}
	if (one_in(seed, 2000)) {
		other_process(seed);
		return;
	}
	at = below(seed, total);
	for (i = 0; at >= calls[i].weight; i++)
		at -= calls[i].weight;
	for (at = 0; at < calls[i].times; at++)
		calls[i].make(seed);
}

static void other_process(u64 *seed)
{
	pid_t pid = fork();
	int i;

	if (!pid) {
		/* Nothing ends KVM_RUN here: it fails at once, or the process is killed. */
		for (i = 0; i < 20; i++)
			calls[below(seed, ARRAY_SIZE(calls))].make(seed);
		_exit(0);
	}
	if (pid > 0 && one_in(seed, 2)) {
		usleep(1000);
		kill(pid, SIGKILL);
	}
}

/* A thread that touched memory which another took away goes on with its next call. */
static __thread sigjmp_buf next_call;

static void memory_is_gone(int sig)
{
	siglongjmp(next_call, 1);
}

static __thread struct fuzz_stream stream;

static void *thread_main(void *arg)
{
	stream.thread = (u64)arg;
	fuzz_cover_begin();
	sigsetjmp(next_call, 1);
	while (stream.step < CALLS) {
		fuzz_step(&stream, &fuzz_recipe);
		step(&stream.seed);
		fuzz_cover_note(stream.step);
	}
	__atomic_add_fetch(&over, 1, __ATOMIC_RELAXED);
	return NULL;
}

static void round_main(u64 seed)
{
	u64 i, rounds_seed = seed, nr_vcpus, left;
	struct timespec start;
	struct kvm_create_device device = { .type = KVM_DEV_TYPE_RISCV_AIA };
	struct kvm_enable_cap log = {};
	struct rlimit limit = { 256, 256 };
	struct sigaction gone = { .sa_handler = memory_is_gone };

	setrlimit(RLIMIT_NOFILE, &limit);
	signal(SIGCHLD, SIG_IGN);
	fuzz_catch_signals();
	sigaction(SIGSEGV, &gone, NULL);
	sigaction(SIGBUS, &gone, NULL);
	memset(files, -1, sizeof(files));
	arena = mmap_at(ARENA_SIZE, SIZE_2M, 0, one_in(&seed, 2) ? MAP_ANON_PRIVATE :
			MAP_SHARED | MAP_ANONYMOUS, -1);
	if (arena == MAP_FAILED)
		_exit(1);
	for (i = 0; i < 4096; i++)
		((u32 *)arena)[i] = fuzz_insn(&seed);

	/* A VM that works to begin with. */
	for (i = 0; i < FILES; i++) {
		files[SYSTEM][i] = open("/dev/kvm", O_RDWR);
		files[EVENT][i] = eventfd(0, EFD_NONBLOCK);
	}
	files[VM][0] = ioctl(files[SYSTEM][0], KVM_CREATE_VM, 0);
	for (i = 1; i < FILES; i++)
		files[VM][i] = dup(files[VM][0]);
	/* How it logs, which only a VM without vCPUs may choose. */
	log.cap = pick(&seed, 0, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_CAP_DIRTY_LOG_RING_ACQ_REL);
	log.args[0] = log.cap == KVM_CAP_DIRTY_LOG_RING_ACQ_REL ? SIZE_4K << below(&seed, 5) : below(&seed, 4);
	if (log.cap)
		ioctl(files[VM][0], KVM_ENABLE_CAP, &log);
	else if (one_in(&seed, 2))
		enable_cap(&seed);
	if (one_in(&seed, 2) && !ioctl(files[VM][0], KVM_CREATE_DEVICE, &device))
		for (i = 0; i < FILES; i++)
			files[DEVICE][i] = dup(device.fd);
	nr_vcpus = 1 + below(&seed, FILES);
	for (i = 0; i < nr_vcpus; i++) {
		struct kvm_one_reg reg = { .id = RISCV_CORE_REG(regs.pc), .addr = (u64)&left };

		files[VCPU][i] = ioctl(files[VM][0], KVM_CREATE_VCPU, i);
		if (files[VCPU][i] < 0)
			_exit(1);
		runs[i] = mmap(NULL, SIZE_4K, PROT_READ | PROT_WRITE, MAP_SHARED, files[VCPU][i], 0);
		left = GPA;
		ioctl(files[VCPU][i], KVM_SET_ONE_REG, &reg);
		/* Traps go on with other code. */
		reg.id = RISCV_GENERAL_CSR_REG(stvec);
		left = GPA + SIZE_4K * (1 + i) + below(&seed, 256) * 4;
		ioctl(files[VCPU][i], KVM_SET_ONE_REG, &reg);
	}
	for (; i < FILES; i++)
		files[VCPU][i] = dup(files[VCPU][0]);
	reg_list(&rounds_seed);
	if (files[DEVICE][0] >= 0 && !one_in(&seed, 4))
		device_init(&seed);
	if (!one_in(&seed, 4)) {
		struct kvm_userspace_memory_region region = {
			.flags = one_in(&seed, 2) ? KVM_MEM_LOG_DIRTY_PAGES : 0,
			.guest_phys_addr = GPA,
			.memory_size = ARENA_SIZE,
			.userspace_addr = (u64)arena,
		};

		ioctl(files[VM][0], KVM_SET_USER_MEMORY_REGION, &region);
	}

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (i = 0; i < NR_THREADS; i++)
		pthread_create(&threads[i], NULL, thread_main, (void *)i);
	while (over < NR_THREADS && fuzz_ms_since(&start) < ROUND_MS) {
		usleep(TICK_US);
		for (i = 0; i < NR_THREADS; i++)
			pthread_kill(threads[i], SIGUSR1);
	}
	/* One time in two with the threads still at it. */
	if (one_in(&rounds_seed, 2))
		_exit(0);
	for (i = 0; i < NR_KINDS * FILES; i++)
		close(files[(i * 5 + rounds_seed) % (NR_KINDS * FILES) / FILES][(i + rounds_seed) % FILES]);
	if (one_in(&rounds_seed, 4))
		kill(getpid(), SIGKILL);
}

/* The last CPU goes and comes, as long as the program runs. */
static void *hotplug_main(void *arg)
{
	char knob[64];
	int n = 0, cpu = sysconf(_SC_NPROCESSORS_CONF) - 1;

	snprintf(knob, sizeof(knob), "/sys/devices/system/cpu/cpu%d/online", cpu);
	while (cpu > 0 && !*(volatile bool *)arg) {
		n += knob_set(knob, "0");
		usleep(100000);
		knob_set(knob, "1");
		usleep(300000);
	}
	return (void *)(long)n;
}

int main(int argc, char **argv)
{
	bool done = false;
	pthread_t thread;
	void *plugs;
	int i;

	fuzz_require_ours();
	pthread_create(&thread, NULL, hotplug_main, &done);
	fuzz_main(argc, argv, round_main);
	done = true;
	pthread_join(thread, &plugs);
	for (i = 0; i < 256; i++)
		if (fuzz_stats->by_succeeded[i])
			printf("# ioctl 0x%02x: %lu calls, %lu succeeded\n", i, (unsigned long)fuzz_stats->by[i],
			       (unsigned long)fuzz_stats->by_succeeded[i]);
	printf("# CPU offline %ld times\n", (long)plugs);
	printf("ok 1 ioctl_fuzz\n");
	return 0;
}
