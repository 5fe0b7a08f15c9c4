// SPDX-License-Identifier: GPL-2.0
/* on-c: skip: a fuzzer of the C module finds what is known of it, which ends the machine */
/* covers: run/exit.rs run/mmio.rs sbi.rs insn.rs mmu/guest_access.rs arch/hlv.rs */
/*
 * Hostile guests: random SBI calls and random instructions (CSRs, memory and
 * MMIO, HLV, fences, vector, FP, AMO, compressed ones), whose traps the guest
 * catches to go on behind them, on several vCPUs, while the host takes the
 * memory away, deletes, moves and logs its slot, and answers exits with random
 * data.  A guest that lost its way is set back to its start.
 */
#include "kvm_rs_fuzz.h"

#define ECALL_INSN	0x00000073
#define EBREAK_INSN	0x00100073
#define WFI_INSN	0x10500073
#define SRET_INSN	0x10200073	/* QEMU calls it illegal in VU-mode, see fuzz_is_printed() */
#define CLEAR_SEPC_INSN	0x14105073	/* csrwi sepc, 0 */

#define NR_GUESTS	3
#define ROUND_MS	1500
#define TICK_US		4000
#define PATIENCE	3		/* ticks without progress */

#define SLOT		1
#define SIZE		(256 * SIZE_4K)
#define READONLY_SLOT	2
#define READONLY_GPA	(TEST_GVA + 2 * SIZE_2M)
#define READONLY_SIZE	(16 * SIZE_4K)
/* Where no slot is. */
#define MMIO_GPA	0x10000000UL
/* Mapped by a table that is in the shared slot, or nowhere. */
#define WALK_GVA	0x50000000UL
/* Each guest's code: for its supervisor and its user. */
#define CODE_GVA	0x60000000UL
#define USER_CODE_GVA	(CODE_GVA + SIZE_2M)

/* What a guest is and does, in its own memory; the offsets are for the assembly below. */
struct frame {
	u64 regs[32];
	u64 saved[14];
	u64 cause, epc, tval;		/* 368 */
	u64 pc, status;			/* 392 */
	struct fuzz_stream stream;
};

kvm_static_assert(offsetof(struct frame, saved) == 256);
kvm_static_assert(offsetof(struct frame, cause) == 368);
kvm_static_assert(offsetof(struct frame, pc) == 392);

static struct frame frames[NR_GUESTS];
/* Apart from what the guests store to on purpose. */
static struct {
	u64 blocks, traps;
} counts[NR_GUESTS];
static bool has_ring;

/*
 * guest_try(frame) jumps to frame->pc by sret with frame->status in sstatus and
 * frame->regs in all registers, and returns after a trap.
 */
void guest_try(struct frame *frame);

asm(	".pushsection .text\n"
	".option push\n"
	".option norelax\n"
	".balign 4\n"
	"guest_try:\n"
	"	sd ra, 256(a0); sd sp, 264(a0); sd gp, 272(a0); sd tp, 280(a0)\n"
	"	sd s0, 288(a0); sd s1, 296(a0); sd s2, 304(a0); sd s3, 312(a0); sd s4, 320(a0)\n"
	"	sd s5, 328(a0); sd s6, 336(a0); sd s7, 344(a0); sd s8, 352(a0); sd s9, 360(a0)\n"
	"	addi sp, sp, -16; sd s10, 0(sp); sd s11, 8(sp); sd sp, 264(a0)\n"
	"	la t0, 1f; csrw stvec, t0; csrw sscratch, a0\n"
	"	ld t0, 392(a0); csrw sepc, t0; ld t0, 400(a0); csrw sstatus, t0\n"
	"	mv x31, a0\n"
	"	ld x1, 8(x31); ld x2, 16(x31); ld x3, 24(x31); ld x4, 32(x31); ld x5, 40(x31)\n"
	"	ld x6, 48(x31); ld x7, 56(x31); ld x8, 64(x31); ld x9, 72(x31); ld x10, 80(x31)\n"
	"	ld x11, 88(x31); ld x12, 96(x31); ld x13, 104(x31); ld x14, 112(x31)\n"
	"	ld x15, 120(x31); ld x16, 128(x31); ld x17, 136(x31); ld x18, 144(x31)\n"
	"	ld x19, 152(x31); ld x20, 160(x31); ld x21, 168(x31); ld x22, 176(x31)\n"
	"	ld x23, 184(x31); ld x24, 192(x31); ld x25, 200(x31); ld x26, 208(x31)\n"
	"	ld x27, 216(x31); ld x28, 224(x31); ld x29, 232(x31); ld x30, 240(x31)\n"
	"	ld x31, 248(x31)\n"
	"	sret\n"
	".balign 4\n"
	"1:	csrrw x31, sscratch, x31\n"
	"	csrr t0, scause; sd t0, 368(x31); csrr t0, sepc; sd t0, 376(x31)\n"
	"	csrr t0, stval; sd t0, 384(x31)\n"
	"	ld ra, 256(x31); ld sp, 264(x31); ld gp, 272(x31); ld tp, 280(x31)\n"
	"	ld s0, 288(x31); ld s1, 296(x31); ld s2, 304(x31); ld s3, 312(x31); ld s4, 320(x31)\n"
	"	ld s5, 328(x31); ld s6, 336(x31); ld s7, 344(x31); ld s8, 352(x31); ld s9, 360(x31)\n"
	"	ld s10, 0(sp); ld s11, 8(sp); addi sp, sp, 16\n"
	"	ret\n"
	".option pop\n"
	".popsection\n");

/* An address with something special behind it; virtual and physical are the same. */
static u64 guest_address(u64 *seed)
{
	u64 any = TEST_GVA + below(seed, SIZE);

	switch (below(seed, 16)) {
	case 0: return AIA_APLIC_GPA + below(seed, KVM_DEV_RISCV_APLIC_SIZE) / 4 * 4;
	case 1: return AIA_IMSIC(below(seed, NR_GUESTS)) + below(seed, 2) * 4;
	case 2: return MMIO_GPA + below(seed, SIZE_4K);
	case 3: return WALK_GVA + below(seed, SIZE_2M);
	case 4: return READONLY_GPA + below(seed, READONLY_SIZE);
	case 5: return (any & ~(SIZE_4K - 1)) - 1 - below(seed, 8);
	case 6: return TEST_GVA + SIZE - below(seed, 64);
	case 7: return (u64)&frames[0] + below(seed, sizeof(frames));
	case 8: return any;
	case 9 ... 11: return any & ~(SIZE_4K - 1);
	default: return any & ~63UL;
	}
}

static u64 guest_value(u64 *seed)
{
	return one_in(seed, 3) ? fuzz_value(seed) : guest_address(seed);
}

/* Registers for an SBI call that is nearly right. */
static void guest_sbi_regs(struct frame *f)
{
	u64 *a = &f->regs[10], *seed = &f->stream.seed;

	a[7] = fuzz_sbi_ext(seed);
	a[6] = one_in(seed, 32) ? fuzz_value(seed) : below(seed, 10);
	switch (a[7]) {
	case 0x504D55:		/* PMU */
		a[0] = pick(seed, 0, 0, 1, below(seed, 40), guest_address(seed) & ~(SIZE_4K - 1), fuzz_value(seed));
		a[1] = pick(seed, 0, 1, 2, 0xffffffff, xorshift(seed) & 0xffffffff, fuzz_value(seed));
		a[2] = pick(seed, 0, 1, 2, 4, 8, below(seed, 64), fuzz_value(seed));
		a[3] = pick(seed, below(seed, 11), 0x10000 | below(seed, 64), 0x20000, 0x30000,
			    0xf0000 | below(seed, 24), fuzz_value(seed));
		a[4] = fuzz_value(seed);
		break;
	case 0x535441:		/* STA */
		a[0] = one_in(seed, 4) ? fuzz_value(seed) : guest_address(seed) & ~63UL;
		a[1] = one_in(seed, 8) ? fuzz_value(seed) : 0;
		a[2] = one_in(seed, 8) ? fuzz_value(seed) : 0;
		break;
	case SBI_EXT_HSM:
		a[0] = below(seed, NR_GUESTS + 1);
		if (a[6] == SBI_HSM_STOP && !one_in(seed, 16))
			a[6] = SBI_HSM_STATUS;
		if (a[6] == SBI_HSM_SUSPEND)
			a[0] = pick(seed, 0, 0, 0x80000000, fuzz_value(seed));
		break;
	case SBI_EXT_IPI:
	case SBI_EXT_RFENCE:
		a[0] = one_in(seed, 8) ? fuzz_value(seed) : below(seed, 16);
		a[1] = pick(seed, 0, 0, 0, ~0UL, fuzz_value(seed));
		break;
	case SBI_EXT_FWFT:
		a[6] = below(seed, 3);
		a[0] = one_in(seed, 4) ? fuzz_value(seed) : below(seed, 6);
		a[1] = below(seed, 9);
		a[2] = below(seed, 3);
		break;
	case SBI_EXT_TIME:
	case 0:
		a[0] = one_in(seed, 4) ? fuzz_value(seed) : csr_read(CSR_TIME) + below(seed, 40000);
		break;
	}
}

/* Code of some instructions, and as much of it as can be run. */
static void guest_block(struct frame *f, u64 id)
{
	u64 *seed = &f->stream.seed, base, room = one_in(seed, 8) ? TEST_GVA + id * SIZE_4K : CODE_GVA + id * SIZE_4K;
	int n = 2 + below(seed, 12), first = 0, i, tries;
	volatile u32 *code = (u32 *)room;
	bool user = one_in(seed, 8), sleeps = one_in(seed, 4);

	for (i = 1; i < 32; i++)
		f->regs[i] = guest_value(seed);
	/* An sret goes astray, not back to where it came from. */
	if (!user)
		code[first++] = CLEAR_SEPC_INSN;
	for (i = first; i < n; i++) {
		do
			code[i] = fuzz_insn(seed);
		while (user && code[i] == SRET_INSN);
		sleeps |= code[i] == WFI_INSN;
	}
	if (one_in(seed, 3)) {
		guest_sbi_regs(f);
		code[first] = ECALL_INSN;
	}
	for (i = n; i < n + 4; i++)
		code[i] = EBREAK_INSN;
	asm volatile("fence.i" : : : "memory");

	/* Something to wake up from. */
	if (sleeps)
		guest_ecall(SBI_EXT_TIME, 0, (u64[6]){ csr_read(CSR_TIME) + below(seed, 20000) });
	csr_write(CSR_SIE, ~0UL);

	f->status = SR_SPP | SR_FS | SR_VS | (xorshift(seed) & (SR_SPIE | SR_SUM | 1UL << 19));
	base = room;
	if (user) {
		base = USER_CODE_GVA + id * SIZE_4K;
		f->status &= ~SR_SPP;
		if (room < CODE_GVA)
			for (i = 0; i < n + 4; i++)
				((volatile u32 *)(CODE_GVA + id * SIZE_4K))[i] = code[i];
	}
	f->pc = base;
	for (tries = 0; tries < 24; tries++) {
		guest_try(f);
		counts[id].traps++;
		/* Taken once; then what is pending stays so. */
		if (f->cause >> 63)
			csr_write(CSR_SIE, 0);
		else if (f->epc - base >= n * 4)
			break;
		else
			f->epc += (*(volatile u16 *)(CODE_GVA + id * SIZE_4K + (f->epc - base)) & 3) == 3 ? 4 : 2;
		f->pc = f->epc;
		if (f->pc - base >= n * 4)
			break;
	}
}

static void guest_main(u64 id)
{
	for (;;) {
		counts[id].blocks++;
		fuzz_step(&frames[id].stream, &fuzz_recipe);
		guest_block(&frames[id], id);
	}
}

/* The host. */

static struct guest {
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	u64 seed, progress, patience, nr_regs;
	struct kvm_one_reg start[96];
	u64 value[96];
} guests[NR_GUESTS];

static struct kvm_vm *vm;
static volatile bool over;
static char *mem;
static int memfd = -1;

/* What a vCPU starts with, to set it back to. */
static void guest_remember(struct guest *g)
{
	struct kvm_reg_list *list = vcpu_get_reg_list(g->vcpu);
	u64 i, type;

	for (i = 0; i < list->n && g->nr_regs < ARRAY_SIZE(g->value); i++) {
		struct kvm_one_reg *reg = &g->start[g->nr_regs];

		type = list->reg[i] & KVM_REG_RISCV_TYPE_MASK;
		if (type != KVM_REG_RISCV_CORE && type != KVM_REG_RISCV_CSR)
			continue;
		reg->id = list->reg[i];
		reg->addr = (u64)&g->value[g->nr_regs];
		if (!__vcpu_ioctl(g->vcpu, KVM_GET_ONE_REG, reg))
			g->nr_regs++;
	}
	free(list);
}

static void guest_set_back(struct guest *g)
{
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };
	u64 i;

	fuzz_add(resets, 1);
	__vcpu_ioctl(g->vcpu, KVM_SET_MP_STATE, &mp);
	for (i = 0; i < g->nr_regs; i++)
		__vcpu_ioctl(g->vcpu, KVM_SET_ONE_REG, &g->start[i]);
}

static void harvest(void)
{
	struct kvm_dirty_gfn *ring;
	int i, j;

	for (i = 0; i < NR_GUESTS; i++) {
		ring = guests[i].vcpu->dirty_gfns;
		for (j = 0; ring && j < guests[i].vcpu->dirty_gfns_count; j++)
			if (READ_ONCE(ring[j].flags) == KVM_DIRTY_GFN_F_DIRTY)
				WRITE_ONCE(ring[j].flags, KVM_DIRTY_GFN_F_RESET);
	}
	if (has_ring)
		ioctl(vm->fd, KVM_RESET_DIRTY_RINGS, 0);
}

/* Random data where the guest expects an answer. */
static void answer(struct guest *g)
{
	struct kvm_run *run = g->vcpu->run;
	u64 i;

	fuzz_add(by[run->exit_reason % FUZZ_COUNTS], 1);
	switch (run->exit_reason) {
	case KVM_EXIT_MMIO:
		for (i = 0; i < 8; i++)
			run->mmio.data[i] = xorshift(&g->seed);
		break;
	case KVM_EXIT_RISCV_SBI:
		run->riscv_sbi.ret[0] = fuzz_value(&g->seed);
		run->riscv_sbi.ret[1] = fuzz_value(&g->seed);
		break;
	case KVM_EXIT_RISCV_CSR:
		run->riscv_csr.ret_value = fuzz_value(&g->seed);
		break;
	case KVM_EXIT_DIRTY_RING_FULL:
		harvest();
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		guest_set_back(g);
		break;
	}
}

static void *guest_thread(void *arg)
{
	struct guest *g = arg;
	u64 *count = addr_gva2hva(vm, (gva_t)&counts[g - guests]), now, traps, before = 0;

	fuzz_cover_begin();
	while (!over) {
		if (!__vcpu_run(g->vcpu)) {
			fuzz_add(exits, 1);
			answer(g);
		} else {
			TEST_ASSERT(errno == EINTR || errno == EFAULT || errno == EAGAIN,
				    "KVM_RUN: %s", strerror(errno));
			fuzz_add(by[256 + (errno & 63)], 1);
		}
		now = READ_ONCE(count[0]);
		/* A guest may have stored something else to its count. */
		fuzz_cover_note(min_t(u64, now, 1 << 16));
		if (now != g->progress)
			g->patience = PATIENCE;
		else if (!g->patience--) {
			guest_set_back(g);
			g->patience = PATIENCE;
		}
		g->progress = now;
		/* Seldom, a guest stores to its own counts. */
		traps = READ_ONCE(count[1]);
		if (traps - before < 10000)
			fuzz_add(traps, traps - before);
		before = traps;
	}
	return NULL;
}

static void set_slot(u64 flags, u64 at, u64 size)
{
	struct kvm_userspace_memory_region region = {
		.slot = SLOT,
		.flags = flags,
		.guest_phys_addr = at,
		.memory_size = size,
		.userspace_addr = (u64)mem,
	};

	ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

static void read_debugfs(void)
{
	char path[96], buf[4096];
	int fd;

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/gstage_page_tables", getpid(), vm->fd);
	fd = open(path, O_RDONLY);
	while (fd >= 0 && read(fd, buf, sizeof(buf)) > 0)
		;
	close(fd);
}

static void disturb(u64 *seed)
{
	u64 len = SIZE_4K << below(seed, 9), at = below(seed, SIZE / len) * len, flags;
	static u64 bitmap[SIZE / SIZE_4K / 64];
	struct kvm_clear_dirty_log clear = {
		.slot = SLOT,
		.num_pages = 64,
		.first_page = below(seed, 4) * 64,
		.dirty_bitmap = bitmap,
	};
	struct kvm_dirty_log get = { .slot = SLOT, .dirty_bitmap = bitmap };
	struct kvm_interrupt irq = { .irq = pick(seed, KVM_INTERRUPT_SET, KVM_INTERRUPT_UNSET) };

	flags = pick(seed, 0, KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_LOG_DIRTY_PAGES);
	switch (below(seed, 20)) {
	case 0:
		set_slot(0, SIZE_1G, 0);
		set_slot(flags, SIZE_1G, SIZE);
		break;
	case 1:
		set_slot(flags, SIZE_1G + 2 * SIZE, SIZE);
		set_slot(flags, SIZE_1G, SIZE);
		break;
	case 2:
		set_slot(flags, SIZE_1G, SIZE);
		break;
	case 3:
		set_slot(KVM_MEM_READONLY, SIZE_1G, SIZE);
		set_slot(0, SIZE_1G, 0);
		set_slot(flags, SIZE_1G, SIZE);
		break;
	case 4 ... 5:
		ioctl(vm->fd, KVM_GET_DIRTY_LOG, &get);
		break;
	case 6:
		ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear);
		break;
	case 7:
		harvest();
		break;
	case 8:
		mprotect(mem + at, len, PROT_READ);
		mprotect(mem + at, len, PROT_READ | PROT_WRITE);
		break;
	case 9:
		if (memfd >= 0)
			mmap(mem + at, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memfd, at);
		else
			mmap(mem + at, len, PROT_READ | PROT_WRITE, MAP_ANON_PRIVATE | MAP_FIXED, -1, 0);
		break;
	case 10:
		if (memfd >= 0 && fallocate(memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, len))
			pr_debug("fallocate\n");
		break;
	case 11:
		aia_signal_msi(vm, AIA_IMSIC(below(seed, NR_GUESTS)), below(seed, 64));
		aia_line(vm, 1 + below(seed, 63), below(seed, 2));
		ioctl(guests[below(seed, NR_GUESTS)].vcpu->fd, KVM_INTERRUPT, &irq);
		break;
	case 12:
		set_eager_split(one_in(seed, 2) ? "0" : "1");
		break;
	case 13:
		read_debugfs();
		break;
	default:
		madvise(mem + at, len, pick(seed, MADV_DONTNEED, MADV_DONTNEED, MADV_FREE, MADV_COLD, MADV_PAGEOUT,
					    MADV_HUGEPAGE, MADV_NOHUGEPAGE, 25 /* COLLAPSE */));
	}
}

/* The entry of the guest's own tables at @level that maps @gva. */
static u64 *table_entry(gva_t gva, int level)
{
	u64 table = vm->mmu.pgd, *pte = NULL;
	int l;

	for (l = vm->mmu.pgtable_levels - 1; l >= level; l--) {
		pte = (u64 *)addr_gpa2hva(vm, table) + (gva >> (12 + 9 * l) & 0x1ff);
		table = (*pte & PGTBL_PTE_ADDR_MASK) >> PGTBL_PTE_ADDR_SHIFT << 12;
	}
	return pte;
}

static void create(u64 *seed)
{
	u64 i, page, table = pick(seed, SIZE_1G + 64 * SIZE_4K, SIZE_1G + 64 * SIZE_4K, MMIO_GPA,
				  READONLY_GPA, 1UL << 40);
	void *readonly;

	switch (below(seed, 3)) {
	case 0:
		vm = vm_create_loaded(KVM_CAP_DIRTY_LOG_RING_ACQ_REL, 65536);
		vm->dirty_ring_size = 65536;
		has_ring = true;
		break;
	case 1:
		vm = vm_create_loaded(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, pick(seed, 0, 1, 3));
		break;
	default:
		vm = vm_create(NR_GUESTS);
	}
	for (i = 0; i < NR_GUESTS; i++) {
		guests[i].vcpu = vm_vcpu_add(vm, i, guest_main);
		vcpu_args_set(guests[i].vcpu, 1, i);
		guests[i].seed = fuzz_mix(*seed, 16 + i);
		if (has_ring)
			vcpu_map_dirty_ring(guests[i].vcpu);
	}

	if (one_in(seed, 2)) {
		memfd = memfd_create("fuzz", 0);
		TEST_ASSERT(!ftruncate(memfd, SIZE), "ftruncate");
	}
	mem = mmap_at(SIZE, SIZE_2M, 0, memfd >= 0 ? MAP_SHARED : MAP_ANON_PRIVATE, memfd);
	readonly = mmap_at(READONLY_SIZE, SIZE_4K, 0, MAP_ANON_PRIVATE, -1);
	set_slot(0, SIZE_1G, SIZE);
	vm_set_user_memory_region(vm, READONLY_SLOT, KVM_MEM_READONLY, READONLY_GPA, READONLY_SIZE, readonly);

	virt_map(vm, TEST_GVA, SIZE_1G, SIZE / SIZE_4K + 16);
	virt_map(vm, READONLY_GPA, READONLY_GPA, READONLY_SIZE / SIZE_4K);
	virt_map(vm, MMIO_GPA, MMIO_GPA, 1);
	virt_map(vm, WALK_GVA, SIZE_1G, 1);
	*table_entry(WALK_GVA, 1) = table >> 12 << PGTBL_PTE_ADDR_SHIFT | PGTBL_PTE_VALID_MASK;
	for (i = 0; i < NR_GUESTS; i++) {
		page = addr_gva2gpa(vm, vm_alloc_page(vm));
		virt_map(vm, CODE_GVA + i * SIZE_4K, page, 1);
		virt_map(vm, USER_CODE_GVA + i * SIZE_4K, page, 1);
		*guest_pte(vm, USER_CODE_GVA + i * SIZE_4K) |= PGTBL_PTE_USER_MASK;
	}
	if (aia_is_there() && one_in(seed, 2)) {
		aia_create(vm, KVM_DEV_RISCV_AIA_MODE_AUTO, 64);
		aia_map(vm);
	} else {
		virt_map(vm, AIA_APLIC_GPA, AIA_APLIC_GPA, KVM_DEV_RISCV_APLIC_SIZE / SIZE_4K);
		virt_map(vm, AIA_IMSIC_GPA, AIA_IMSIC_GPA, NR_GUESTS);
	}

	/* The SBI extensions that are off by default, and some that are on. */
	for (i = 0; i < KVM_RISCV_SBI_EXT_MAX; i++)
		for (page = 0; page < NR_GUESTS; page++)
			if (!one_in(seed, 8))
				__vcpu_set_reg(guests[page].vcpu, RISCV_SBI_EXT_REG(i), 1);
			else if (one_in(seed, 2))
				__vcpu_set_reg(guests[page].vcpu, RISCV_SBI_EXT_REG(i), 0);
	sync_global_to_guest(vm, has_ring);
	sync_global_to_guest(vm, fuzz_recipe);
}

static void *disturb_thread(void *arg)
{
	u64 seed = (u64)arg;

	while (!over) {
		disturb(&seed);
		usleep(TICK_US);
	}
	return NULL;
}

static void round_main(u64 seed)
{
	struct timespec start;
	pthread_t disturber;
	struct frame *f;
	int i;

	fuzz_catch_signals();
	create(&seed);
	for (i = 0; i < NR_GUESTS; i++) {
		f = addr_gva2hva(vm, (gva_t)&frames[i]);
		f->stream.thread = i;
		guest_remember(&guests[i]);
		pthread_create(&guests[i].thread, NULL, guest_thread, &guests[i]);
	}

	pthread_create(&disturber, NULL, disturb_thread, (void *)fuzz_mix(seed, NR_GUESTS));
	clock_gettime(CLOCK_MONOTONIC, &start);
	while (fuzz_ms_since(&start) < ROUND_MS) {
		usleep(TICK_US);
		for (i = 0; i < NR_GUESTS; i++)
			pthread_kill(guests[i].thread, SIGUSR1);
	}
	over = true;
	for (i = 0; i < NR_GUESTS; i++) {
		guests[i].vcpu->run->immediate_exit = 1;
		pthread_kill(guests[i].thread, SIGUSR1);
		pthread_join(guests[i].thread, NULL);
	}
	pthread_join(disturber, NULL);
}

int main(int argc, char **argv)
{
	int i;

	fuzz_require_ours();
	fuzz_main(argc, argv, round_main);
	set_eager_split("1");
	TEST_ASSERT(fuzz_stats->traps && fuzz_stats->exits, "the guests did nothing");
	for (i = 0; i < 256; i++)
		if (fuzz_stats->by[i])
			printf("# exit %d (%s): %lu\n", i, exit_reason_str(i), (unsigned long)fuzz_stats->by[i]);
	for (i = 0; i < 64; i++)
		if (fuzz_stats->by[256 + i])
			printf("# KVM_RUN: %s: %lu\n", strerror(i), (unsigned long)fuzz_stats->by[256 + i]);
	printf("ok 1 guest_fuzz\n");
	return 0;
}
