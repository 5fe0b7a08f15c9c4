// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: M14, M21, M22 */
/* covers: run/mmio.rs insn/mmio.rs insn/htinst.rs vcpu/pending.rs
 * kvm_core/runpage.rs kvm_core/calls.rs */
/*
 * Loads and stores where no memslot is: every form reaches userspace with the
 * right address, size and data; what cannot be MMIO is the guest's fault, not
 * the end of the VM.
 */
#include "kvm_rs_util.h"

#define MMIO_GPA	0x7700000000UL
#define MMIO_GVA	(TEST_GVA + SIZE_1G)

#define DATA		0x8182838485868788UL

/* Functions of an address, run by the guest. */
#define LOAD(name, insn)							\
static u64 name(u64 addr)							\
{										\
	register u64 val asm("a5");						\
	register u64 a asm("a4") = addr;					\
										\
	asm volatile(".option push\n.option norvc\n" insn "\n.option pop"	\
		     : "=r"(val) : "r"(a) : "memory");				\
	return val;								\
}

#define STORE(name, insn)							\
static u64 name(u64 addr)							\
{										\
	register u64 val asm("a5") = DATA;					\
	register u64 a asm("a4") = addr;					\
										\
	asm volatile(".option push\n.option norvc\n" insn "\n.option pop"	\
		     : : "r"(val), "r"(a) : "memory");				\
	return 0;								\
}

/* The same with the address in sp, which no trap handler may see. */
#define SP_FORM(insn) \
	".option rvc\nmv t0, sp\nmv sp, a4\n" insn "\nmv sp, t0\n"

LOAD(do_lb, "lb a5, 0(a4)")
LOAD(do_lbu, "lbu a5, 0(a4)")
LOAD(do_lh, "lh a5, 0(a4)")
LOAD(do_lhu, "lhu a5, 0(a4)")
LOAD(do_lw, "lw a5, 0(a4)")
LOAD(do_lwu, "lwu a5, 0(a4)")
LOAD(do_ld, "ld a5, 0(a4)")
LOAD(do_lb_neg, "lb a5, -1(a4)")
LOAD(do_lb_odd, "lb a5, 3(a4)")
LOAD(do_lh_odd, "lh a5, 6(a4)")
LOAD(do_ld_far, "ld a5, 2040(a4)")
LOAD(do_c_lw, ".option rvc\nc.lw a5, 4(a4)")
LOAD(do_c_ld, ".option rvc\nc.ld a5, 8(a4)")
LOAD(do_c_lwsp, SP_FORM("c.lwsp a5, 4(sp)"))
LOAD(do_c_lwsp0, SP_FORM("c.lwsp a5, 0(sp)"))
LOAD(do_c_ldsp, SP_FORM("c.ldsp a5, 8(sp)"))
LOAD(do_c_ldsp0, SP_FORM("c.ldsp a5, 0(sp)"))
STORE(do_sb, "sb a5, 0(a4)")
STORE(do_sb_odd, "sb a5, 5(a4)")
STORE(do_sh, "sh a5, 0(a4)")
STORE(do_sw, "sw a5, 0(a4)")
STORE(do_sd, "sd a5, 0(a4)")
STORE(do_sd_neg, "sd a5, -8(a4)")
STORE(do_c_sw, ".option rvc\nc.sw a5, 4(a4)")
STORE(do_c_sd, ".option rvc\nc.sd a5, 8(a4)")
STORE(do_c_swsp, SP_FORM("c.swsp a5, 4(sp)"))
STORE(do_c_swsp0, SP_FORM("c.swsp a5, 0(sp)"))
STORE(do_c_sdsp, SP_FORM("c.sdsp a5, 8(sp)"))
STORE(do_c_sdsp0, SP_FORM("c.sdsp a5, 0(sp)"))

static const struct form {
	const char *name;
	u64 (*fn)(u64 addr);
	int off;
	int len;
	bool is_write;
	u64 want;		/* what the guest has, or userspace gets */
} forms[] = {
#define __FORM(name, args...) { #name, do_##name, args }
	__FORM(lb, 0, 1, false, 0xffffffffffffff88),
	__FORM(lbu, 0, 1, false, 0x88),
	__FORM(lh, 0, 2, false, 0xffffffffffff8788),
	__FORM(lhu, 0, 2, false, 0x8788),
	__FORM(lw, 0, 4, false, 0xffffffff85868788),
	__FORM(lwu, 0, 4, false, 0x85868788),
	__FORM(ld, 0, 8, false, DATA),
	__FORM(lb_neg, -1, 1, false, 0xffffffffffffff88),
	__FORM(lb_odd, 3, 1, false, 0xffffffffffffff88),
	__FORM(lh_odd, 6, 2, false, 0xffffffffffff8788),
	__FORM(ld_far, 2040, 8, false, DATA),
	__FORM(c_lw, 4, 4, false, 0xffffffff85868788),
	__FORM(c_ld, 8, 8, false, DATA),
	__FORM(c_lwsp, 4, 4, false, 0xffffffff85868788),
	__FORM(c_lwsp0, 0, 4, false, 0xffffffff85868788),
	__FORM(c_ldsp, 8, 8, false, DATA),
	__FORM(c_ldsp0, 0, 8, false, DATA),
	__FORM(sb, 0, 1, true, 0x88),
	__FORM(sb_odd, 5, 1, true, 0x88),
	__FORM(sh, 0, 2, true, 0x8788),
	__FORM(sw, 0, 4, true, 0x85868788),
	__FORM(sd, 0, 8, true, DATA),
	__FORM(sd_neg, -8, 8, true, DATA),
	__FORM(c_sw, 4, 4, true, 0x85868788),
	__FORM(c_sd, 8, 8, true, DATA),
	__FORM(c_swsp, 4, 4, true, 0x85868788),
	__FORM(c_swsp0, 0, 4, true, 0x85868788),
	__FORM(c_sdsp, 8, 8, true, DATA),
	__FORM(c_sdsp0, 0, 8, true, DATA),
};

static struct kvm_vcpu *mmio_create(void)
{
	struct kvm_vcpu *vcpu = server_create();
	int i;

	for (i = -1; i < 2; i++)
		virt_pg_map(vcpu->vm, MMIO_GVA + i * SIZE_4K, MMIO_GPA + i * SIZE_4K);
	return vcpu;
}

static void ask(struct kvm_vcpu *vcpu, u64 (*fn)(u64), u64 addr)
{
	guest_ask(vcpu, GUEST_OP_EXEC, (u64)fn, addr);
}

/* Runs into the MMIO exit that @form makes at MMIO_GPA plus its offset. */
static void assert_mmio(struct kvm_vcpu *vcpu, const struct form *form)
{
	struct kvm_run *run = vcpu->run;
	u64 data = 0;

	memset(run->mmio.data, 0x77, sizeof(run->mmio.data));
	TEST_ASSERT(!__vcpu_run(vcpu), "%s: KVM_RUN: %s", form->name, strerror(errno));
	TEST_ASSERT(run->exit_reason == KVM_EXIT_MMIO, "%s: exit %d", form->name,
		    run->exit_reason);
	TEST_ASSERT(run->mmio.phys_addr == MMIO_GPA + form->off && run->mmio.len == form->len &&
		    run->mmio.is_write == form->is_write,
		    "%s: address 0x%llx, len %u, is_write %u", form->name, run->mmio.phys_addr,
		    run->mmio.len, run->mmio.is_write);
	memcpy(&data, run->mmio.data, form->len);
	if (form->is_write)
		TEST_ASSERT(data == form->want, "%s: data 0x%lx", form->name,
			    (unsigned long)data);
}

TEST(all_forms)
{
	struct kvm_vcpu *vcpu = mmio_create();
	u64 data = DATA, got;
	int i;

	for (i = 0; i < ARRAY_SIZE(forms); i++) {
		ask(vcpu, forms[i].fn, MMIO_GVA);
		assert_mmio(vcpu, &forms[i]);
		memcpy(vcpu->run->mmio.data, &data, 8);
		TEST_ASSERT(guest_answer(vcpu, &got) == NO_TRAP, "%s: trap", forms[i].name);
		TEST_ASSERT(forms[i].is_write || got == forms[i].want, "%s: the guest got 0x%lx",
			    forms[i].name, (unsigned long)got);
	}
	TH_LOG("%zu forms", ARRAY_SIZE(forms));
}

/* The instruction is finished once, by the first KVM_RUN after the exit. */
TEST(finished_once)
{
	static const struct form ld = { "ld", do_ld, 0, 8, false };
	struct kvm_vcpu *vcpu = mmio_create();
	u64 data = 0x1111, pc, got;

	ask(vcpu, do_ld, MMIO_GVA);
	assert_mmio(vcpu, &ld);
	memcpy(vcpu->run->mmio.data, &data, 8);
	vcpu_run_complete_io(vcpu);
	pc = vcpu_get_reg(vcpu, RISCV_CORE_REG(regs.pc));
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_CORE_REG(regs.a5)), 0x1111);

	data = 0x2222;
	memcpy(vcpu->run->mmio.data, &data, 8);
	vcpu_run_complete_io(vcpu);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_CORE_REG(regs.pc)), pc);
	guest_answer(vcpu, &got);
	TEST_ASSERT_EQ(got, 0x1111);
}

/* x0 stays zero, whatever is loaded into it. */
static u64 load_x0(u64 addr)
{
	u64 val;

	asm volatile(".option push\n.option norvc\n"
		     "lw x0, 0(%1)\n"
		     "sd x0, 8(%1)\n"
		     "add %0, x0, x0\n"
		     ".option pop" : "=r"(val) : "r"(addr) : "memory");
	return val;
}

/* differences-from-c M14 */
TEST(load_into_x0)
{
	static const struct form lw = { "lw x0", load_x0, 0, 4, false };
	static const struct form sd = { "sd x0", load_x0, 8, 8, true, 0 };
	struct kvm_vcpu *vcpu = mmio_create();
	u64 data = DATA, got;

	ask(vcpu, load_x0, MMIO_GVA);
	assert_mmio(vcpu, &lw);
	memcpy(vcpu->run->mmio.data, &data, 8);
	assert_mmio(vcpu, &sd);
	guest_answer(vcpu, &got);
	TEST_ASSERT_EQ(got, 0);
}

LOAD(do_ld_1, "ld a5, 1(a4)")
LOAD(do_lw_2, "lw a5, 2(a4)")
LOAD(do_lhu_1, "lhu a5, 1(a4)")
LOAD(do_lr, "lr.d a5, (a4)")
STORE(do_sd_4, "sd a5, 4(a4)")
STORE(do_sw_1, "sw a5, 1(a4)")
STORE(do_sh_1, "sh a5, 1(a4)")
STORE(do_amo, "amoadd.d a5, a5, (a4)")
STORE(do_amo_w, "amoswap.w zero, a5, (a4)")

static u64 do_flw(u64 addr)
{
	csr_set(CSR_SSTATUS, SR_FS);
	asm volatile("flw fa5, 0(%0)" : : "r"(addr) : "memory");
	return 0;
}

static u64 do_fld(u64 addr)
{
	csr_set(CSR_SSTATUS, SR_FS);
	asm volatile("fld fa5, 0(%0)" : : "r"(addr) : "memory");
	return 0;
}

static u64 do_fsd(u64 addr)
{
	csr_set(CSR_SSTATUS, SR_FS);
	asm volatile("fsd fa5, 0(%0)" : : "r"(addr) : "memory");
	return 0;
}

static u64 do_cbo_zero(u64 addr)
{
	asm volatile(".insn i 0x0f, 2, x0, %0, 4" : : "r"(addr) : "memory");
	return 0;
}

static u64 do_vle64(u64 addr)
{
	csr_set(CSR_SSTATUS, SR_VS);
	/* vsetivli zero, 1, e64, m1, ta, ma; vle64.v v0, (addr) */
	asm volatile(".insn 0xcd80f057\n.insn i 0x07, 7, x0, %0, 0x020" : : "r"(addr) : "memory");
	return 0;
}

static const struct {
	const char *name;
	const char *needs;
	u64 (*fn)(u64 addr);
	bool is_write;
} no_mmio[] = {
	{ "ld misaligned", "i", do_ld_1, false },
	{ "lw misaligned", "i", do_lw_2, false },
	{ "lhu misaligned", "i", do_lhu_1, false },
	{ "sd misaligned", "i", do_sd_4, true },
	{ "sw misaligned", "i", do_sw_1, true },
	{ "sh misaligned", "i", do_sh_1, true },
	{ "lr.d", "a", do_lr, false },
	{ "amoadd.d", "a", do_amo, true },
	{ "amoswap.w", "a", do_amo_w, true },
	{ "flw", "f", do_flw, false },
	{ "fld", "d", do_fld, false },
	{ "fsd", "d", do_fsd, true },
	{ "cbo.zero", "zicboz", do_cbo_zero, true },
	{ "vle64.v", "v", do_vle64, false },
};

/*
 * What has no meaning as MMIO faults in the guest, as it does where the
 * machine has no memory, and the VM lives on.  A misaligned access may also be
 * told that it is one (differences-from-c M22).
 */
TEST(no_mmio_is_a_trap)
{
	struct kvm_vcpu *vcpu = mmio_create();
	struct guest_trap trap;
	struct ucall uc;
	int i, bad = 0;

	for (i = 0; i < ARRAY_SIZE(no_mmio); i++) {
		u64 access = no_mmio[i].is_write ? EXC_STORE_ACCESS : EXC_LOAD_ACCESS;
		u64 misaligned = no_mmio[i].is_write ? EXC_STORE_MISALIGNED : EXC_LOAD_MISALIGNED;

		if (!host_has_isa(no_mmio[i].needs))
			continue;
		ask(vcpu, no_mmio[i].fn, MMIO_GVA);
		if (__vcpu_run(vcpu)) {
			TH_LOG("%s: KVM_RUN failed: %s", no_mmio[i].name, strerror(errno));
			bad++;
			vcpu = mmio_create();
			continue;
		}
		TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_SYNC, "%s: exit %d, not a trap",
			    no_mmio[i].name, vcpu->run->exit_reason);
		TEST_ASSERT(uc.args[0] == access || uc.args[0] == misaligned, "%s: cause %ld",
			    no_mmio[i].name, (long)uc.args[0]);
		memcpy(&trap, addr_gva2hva(vcpu->vm, (gva_t)&guest_trap), sizeof(trap));
		TEST_ASSERT(trap.count == 1 && trap.tval / SIZE_4K == MMIO_GVA / SIZE_4K,
			    "%s: %lu traps, tval 0x%lx", no_mmio[i].name, trap.count, trap.tval);
	}
	TEST_ASSERT(!bad, "%d of %zu forms ended KVM_RUN", bad, ARRAY_SIZE(no_mmio));
}

/*
 * A load through a page table that is not in memory: the table's address is
 * no MMIO of the instruction, the access faults.
 */
static void check_table_unbacked(enum guest_op op, u64 cause)
{
	struct kvm_vcpu *vcpu = mmio_create();
	u64 gva = TEST_GVA + 2 * SIZE_1G, *pte;
	int level = vcpu->vm->mmu.pgtable_levels - 1;
	struct guest_trap trap;

	/* A table entry at the top, as if the next table were at MMIO_GPA. */
	gva += 1UL << (12 + 9 * level);
	pte = (u64 *)addr_gpa2hva(vcpu->vm, vcpu->vm->mmu.pgd) + (gva >> (12 + 9 * level) & 0x1ff);
	TEST_ASSERT(!*pte, "the entry is in use");
	*pte = MMIO_GPA >> 12 << PGTBL_PTE_ADDR_SHIFT | PGTBL_PTE_VALID_MASK;

	guest_ask(vcpu, op, gva, 1);
	TEST_ASSERT(!vcpu_run_limited(vcpu, HANG_MS), "KVM_RUN: %s", strerror(errno));
	TEST_ASSERT(vcpu->run->exit_reason != KVM_EXIT_MMIO,
		    "the page-table walk is MMIO at 0x%llx", vcpu->run->mmio.phys_addr);
	TEST_ASSERT_EQ(guest_answer(vcpu, NULL), cause);
	memcpy(&trap, addr_gva2hva(vcpu->vm, (gva_t)&guest_trap), sizeof(trap));
	TEST_ASSERT_EQ(trap.tval, gva);
}

/* differences-from-c M21 */
TEST(load_through_unbacked_table)
{
	check_table_unbacked(GUEST_OP_LOAD, EXC_LOAD_ACCESS);
}

/* differences-from-c M21 */
TEST(store_through_unbacked_table)
{
	check_table_unbacked(GUEST_OP_STORE, EXC_STORE_ACCESS);
}

TEST(fetch_through_unbacked_table)
{
	check_table_unbacked(GUEST_OP_EXEC, EXC_INST_ACCESS);
}

#define NR_STORES	5

static u64 store_many(u64 addr)
{
	int i;

	for (i = 0; i < NR_STORES; i++)
		WRITE_ONCE(*(u32 *)(addr + 4 * i), 0x100 + i);
	WRITE_ONCE(*(u8 *)(addr + 0x40), 0x55);
	return 0;
}

/* Stores into a coalesced zone wait in the ring; the next one outside does not. */
TEST(coalesced)
{
	static const struct form out = { "outside the zone", NULL, 0x40, 1, true, 0x55 };
	struct kvm_coalesced_mmio_ring *ring;
	struct kvm_vcpu *vcpu = mmio_create();
	int i, page = kvm_check_cap(KVM_CAP_COALESCED_MMIO);
	u32 data;

	if (!page)
		SKIP(return, "KVM_CAP_COALESCED_MMIO is missing");
	kvm_vm_register_coalesced_io(vcpu->vm, MMIO_GPA, 0x40, false);
	ring = (void *)vcpu->run + page * SIZE_4K;

	ask(vcpu, store_many, MMIO_GVA);
	assert_mmio(vcpu, &out);
	TEST_ASSERT_EQ(ring->last - ring->first, NR_STORES);
	for (i = 0; i < NR_STORES; i++) {
		memcpy(&data, ring->coalesced_mmio[i].data, 4);
		TEST_ASSERT_EQ(ring->coalesced_mmio[i].phys_addr, MMIO_GPA + 4 * i);
		TEST_ASSERT_EQ(ring->coalesced_mmio[i].len, 4);
		TEST_ASSERT_EQ(data, 0x100 + i);
	}
	guest_answer(vcpu, NULL);
	kvm_vm_unregister_coalesced_io(vcpu->vm, MMIO_GPA, 0x40, false);
}

/* A store that an ioeventfd waits for makes no exit; one of other data does. */
TEST(ioeventfd)
{
	static const struct form out = { "other data", NULL, 8, 4, true, 0x102 };
	struct kvm_vcpu *vcpu = mmio_create();
	struct kvm_ioeventfd io = { .len = 4, .flags = KVM_IOEVENTFD_FLAG_DATAMATCH };
	u64 count;
	int i;

	io.fd = eventfd(0, EFD_NONBLOCK);
	for (i = 0; i < NR_STORES; i++) {
		io.addr = MMIO_GPA + 4 * i;
		/* The third does not match. */
		io.datamatch = 0x100 + i + (i == 2);
		vm_ioctl(vcpu->vm, KVM_IOEVENTFD, &io);
	}
	ask(vcpu, store_many, MMIO_GVA);
	assert_mmio(vcpu, &out);
	TEST_ASSERT(read(io.fd, &count, 8) == 8 && count == 2, "%lu events before it",
		    (unsigned long)count);
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
	TEST_ASSERT_EQ(vcpu->run->mmio.phys_addr, MMIO_GPA + 0x40);
	TEST_ASSERT(read(io.fd, &count, 8) == 8 && count == 2, "%lu events after it",
		    (unsigned long)count);
	guest_answer(vcpu, NULL);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
