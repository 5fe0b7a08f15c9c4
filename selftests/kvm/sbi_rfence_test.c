// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: S17, N32 */
/* covers: sbi/ipi_rfence.rs mmu/tlb.rs arch/fence.rs arch/inval.rs
 * vcpu/translation.rs */
/*
 * SBI: the RFENCE extension: results, and that other harts have fenced when a
 * call returns.
 */
#include "kvm_rs_sbi.h"

#define FENCE_I			0
#define SFENCE_VMA		1
#define SFENCE_VMA_ASID		2
/* Those of a hypervisor in the guest follow. */
#define NR_FUNCTIONS		3

TEST(results)
{
	struct kvm_vcpu *vcpu = caller_create();
	u64 fid, asid;

	for (fid = 0; fid < NR_FUNCTIONS; fid++) {
		assert_sbi_fails(0, vcpu, SBI_EXT_RFENCE, fid, 1, 0, 0, 0, 0);
		assert_sbi_fails(0, vcpu, SBI_EXT_RFENCE, fid, 3, 0, TEST_GVA, SIZE_4K, 5);
		assert_sbi_fails(0, vcpu, SBI_EXT_RFENCE, fid, 0, ~0UL, TEST_GVA, ~0UL, 5);
		/* No hart. */
		assert_sbi_fails(0, vcpu, SBI_EXT_RFENCE, fid, 0, 0, 0, 0, 0);
		/* Ranges of every page there is, and around the end of all. */
		assert_sbi_fails(0, vcpu, SBI_EXT_RFENCE, fid, 3, 0, 0, ~0UL - 1, 0);
		assert_sbi_fails(0, vcpu, SBI_EXT_RFENCE, fid, 3, 0, 0, 1UL << 63, 0);
		assert_sbi_fails(0, vcpu, SBI_EXT_RFENCE, fid, 1, 0, 1, 1, 0xffff);
		assert_sbi_fails(0, vcpu, SBI_EXT_RFENCE, fid, 3, 0, -SIZE_4K, SIZE_4K, 1);
		assert_sbi_fails(0, vcpu, SBI_EXT_RFENCE, fid, 3, 0, ~0UL, ~0UL, 1);
		assert_sbi_fails(0, vcpu, SBI_EXT_RFENCE, fid, 3, 0, ~0UL, 1, 1);
		assert_sbi_fails(0, vcpu, SBI_EXT_RFENCE, fid, 3, 0, TEST_GVA, 0, 1);
	}
	/* Bits that no ASID has are ignored, as by the instruction. */
	for (asid = 1; asid; asid <<= 1)
		assert_sbi_fails(0, vcpu, SBI_EXT_RFENCE, SFENCE_VMA_ASID, 3, 0, TEST_GVA, SIZE_4K,
				 asid);
}

/* NOT_SUPPORTED if a hart lacks the hypervisor extension, as all here do. */
TEST(fences_of_a_hypervisor)
{
	struct kvm_vcpu *vcpu = caller_create();
	u64 fid;

	for (fid = 3; fid < 7; fid++) {
		assert_sbi_fails(SBI_ERR_NOT_SUPPORTED, vcpu, SBI_EXT_RFENCE, fid, 1, 0, 0, 0, 0);
		assert_sbi_fails(SBI_ERR_NOT_SUPPORTED, vcpu, SBI_EXT_RFENCE, fid, 0, ~0UL, 0, ~0UL,
				 1);
		assert_sbi_fails(SBI_ERR_NOT_SUPPORTED, vcpu, SBI_EXT_RFENCE, fid, 0, 0, 0, 0, 0);
	}
}

TEST(unknown_functions)
{
	struct kvm_vcpu *vcpu = caller_create();

	check_unknown_functions(vcpu, SBI_EXT_RFENCE, 7);
	check_id_width(vcpu, SBI_EXT_RFENCE);
}

TEST(switched_off)
{
	check_switched_off(caller_create(), KVM_RISCV_SBI_EXT_RFENCE, SBI_EXT_RFENCE, 7);
}

/* differences-from-c S17 */
TEST(invalid_harts)
{
	static const u64 bad[][2] = {
		{ 4, 0 }, { 1UL << 63, 0 }, { ~0UL, 0 }, { 2, 1 }, { 1, 2 }, { 1, 64 },
		{ 1, 1UL << 31 }, { 1, 1UL << 32 }, { 3, 1UL << 32 }, { 1, ~1UL }, { 4, ~1UL },
		{ 1UL << 63, ~62UL },
	};
	struct kvm_vcpu *vcpu = caller_create();
	u64 fid;
	int i;

	for (fid = 0; fid < NR_FUNCTIONS; fid++)
		for (i = 0; i < ARRAY_SIZE(bad); i++)
			assert_sbi_fails(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_RFENCE, fid,
					 bad[i][0], bad[i][1], TEST_GVA, SIZE_4K, 0);
}

static const u64 sparse_good[][2] = { { 1, 70 }, { 1, 3 }, { 0x41, 64 }, { 9, 0 },
				      { 1UL << 63, 7 }, { 1UL << 61, 3 }, { 0, ~0UL } };

TEST(sparse_harts)
{
	struct kvm_vcpu *vcpu = sparse_create();
	u64 fid;
	int i;

	for (fid = 0; fid < NR_FUNCTIONS; fid++)
		for (i = 0; i < ARRAY_SIZE(sparse_good); i++)
			assert_sbi_fails(0, vcpu, SBI_EXT_RFENCE, fid, sparse_good[i][0],
					 sparse_good[i][1], TEST_GVA, SIZE_4K, 0);
}

/* differences-from-c S17 */
TEST(sparse_invalid_harts)
{
	static const u64 bad[][2] = { { 2, 0 }, { 1, 65 }, { 0x43, 64 }, { 1, 71 }, { 3, 3 },
				      { 1UL << 63, 8 } };
	struct kvm_vcpu *vcpu = sparse_create();
	u64 fid;
	int i;

	for (fid = 0; fid < NR_FUNCTIONS; fid++)
		for (i = 0; i < ARRAY_SIZE(bad); i++)
			assert_sbi_fails(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_RFENCE, fid,
					 bad[i][0], bad[i][1], TEST_GVA, SIZE_4K, 0);
}

/* A hart that is stopped has nothing to forget that it could use. */
TEST(stopped_hart)
{
	struct kvm_vcpu *vcpu = lone_caller_create();
	u64 fid;

	for (fid = 0; fid < NR_FUNCTIONS; fid++)
		assert_sbi_fails(0, vcpu, SBI_EXT_RFENCE, fid, 2, 0, TEST_GVA, SIZE_4K, 0);
	TEST_ASSERT_EQ(get_mp_state(vcpus[1]), KVM_MP_STATE_STOPPED);
}

/* In the guest. */
static u64 round_no, round_seen, fence_fid, fence_gva;

#define FENCE_ROUNDS	24
#define TABLE_GVA	(TEST_GVA + SIZE_2M)

/* Switches a page between two and has the other hart fence. */
static void guest_fencer(u64 pte0, u64 pte1, u64 offset)
{
	u64 *pte = (u64 *)(TABLE_GVA + offset);
	struct sbiret ret;
	u64 i;

	for (i = 1; i <= FENCE_ROUNDS; i++) {
		u64 arg[6] = {
			/* One hart and all; by address and all at once. */
			[0] = i % 3 ? 2 : 0,
			[1] = i % 3 ? 0 : -1UL,
			[2] = i % 2 ? fence_gva : 0,
			[3] = i % 2 ? SIZE_4K : 0,
		};

		WRITE_ONCE(*pte, i & 1 ? pte1 : pte0);
		ret = guest_ecall(SBI_EXT_RFENCE, fence_fid, arg);
		GUEST_ASSERT_EQ(ret.error, 0L);
		WRITE_ONCE(round_no, i);
		while (READ_ONCE(round_seen) != i)
			cpu_relax();
	}
	GUEST_DONE();
}

static void guest_fenced(void)
{
	u64 i, now, val;

	for (i = 1; i <= FENCE_ROUNDS; i++) {
		/* Keep the translation in use until the fence has returned. */
		do {
			now = READ_ONCE(round_no);
			asm volatile("fence r, r" : : : "memory");
			val = READ_ONCE(*(u64 *)fence_gva);
		} while (now != i);
		__GUEST_ASSERT(val == (i & 1), "round %lu: after the fence page %lu", i, val);
		WRITE_ONCE(round_seen, i);
	}
	GUEST_DONE();
}

/* As virt_pg_map(), which knows four levels: the upper half may have five. */
static void map_page(u64 gva, u64 gpa)
{
	u64 table = vm->mmu.pgd, *pte;
	int level;

	for (level = vm->mmu.pgtable_levels - 1; ; level--) {
		pte = (u64 *)addr_gpa2hva(vm, table) + (gva >> (12 + 9 * level) & 0x1ff);
		if (!level)
			break;
		if (!*pte)
			*pte = vm_alloc_page_table(vm) >> 12 << PGTBL_PTE_ADDR_SHIFT |
			       PGTBL_PTE_VALID_MASK;
		table = (*pte & PGTBL_PTE_ADDR_MASK) >> PGTBL_PTE_ADDR_SHIFT << 12;
	}
	*pte = gpa >> 12 << PGTBL_PTE_ADDR_SHIFT | PGTBL_PTE_PERM_MASK | PGTBL_PTE_VALID_MASK;
}

static void check_fence(u64 fid, u64 gva)
{
	gva_t page[2];
	pthread_t thread;
	u64 pte[2], table;
	int i;

	vm = vm_create_with_vcpus(2, guest_fencer, vcpus);
	vcpu_arch_set_entry_point(vcpus[1], guest_fenced);
	write_guest_global(vm, fence_fid, fid);
	write_guest_global(vm, fence_gva, gva);
	for (i = 0; i < 2; i++) {
		page[i] = vm_alloc_page(vm);
		*(u64 *)addr_gva2hva(vm, page[i]) = i;
		pte[i] = *guest_pte(vm, page[i]);
	}
	map_page(gva, addr_gva2gpa(vm, page[0]));
	table = addr_hva2gpa(vm, guest_pte(vm, gva));
	virt_pg_map(vm, TABLE_GVA, table & ~(SIZE_4K - 1));
	vcpu_args_set(vcpus[0], 3, pte[0], pte[1], table & (SIZE_4K - 1));

	pthread_create(&thread, NULL, run_thread, vcpus[1]);
	run_to_done(vcpus[0]);
	pthread_join(thread, NULL);
}

/* When the call returns, the other hart has fenced. */
TEST(remote_sfence_vma)
{
	check_fence(SFENCE_VMA, TEST_GVA);
}

TEST(remote_sfence_vma_asid)
{
	check_fence(SFENCE_VMA_ASID, TEST_GVA);
}

/* Of the last page that there is, whose end is not an address. */
TEST(last_page)
{
	check_fence(SFENCE_VMA, -SIZE_4K);
	check_fence(SFENCE_VMA_ASID, -SIZE_4K);
}

/* In the guest. */
static u64 stop_fencing;

#define FLOOD_S		20

/* As many fences as harts can ask for, each of as many pages as are forgotten one by one. */
static void guest_flooder(u64 ticks)
{
	u64 start = csr_read(CSR_TIME), i;

	for (i = 1; !READ_ONCE(stop_fencing) && csr_read(CSR_TIME) - start < ticks; i++)
		guest_ecall(SBI_EXT_RFENCE, SFENCE_VMA, (u64[6]){ 1, 0, i * SIZE_2M, SIZE_2M });
	GUEST_DONE();
}

static void guest_idler(void)
{
	for (;;)
		cpu_relax();
}

/*
 * A hart that cannot keep up is still its thread's, which a signal ends
 * (differences-from-c N32).
 */
TEST(more_fences_than_time)
{
	struct kvm_vcpu *flood[4];
	pthread_t threads[4];
	struct timespec start;
	u64 frequency;
	int i;

	vm = vm_create_with_vcpus(ARRAY_SIZE(flood), guest_flooder, flood);
	vcpu_arch_set_entry_point(flood[0], guest_idler);
	frequency = vcpu_get_reg(flood[0], RISCV_TIMER_REG(frequency));
	for (i = 1; i < ARRAY_SIZE(flood); i++) {
		vcpu_args_set(flood[i], 1, FLOOD_S * frequency);
		threads[i] = run_aside(flood[i]);
	}
	for (i = 0; i < 8; i++) {
		clock_gettime(CLOCK_MONOTONIC, &start);
		assert_sleeps(flood[0]);
		TEST_ASSERT(timespec_elapsed(start).tv_sec < FLOOD_S * 3 / 4,
			    "KVM_RUN returned when the others had done");
	}
	write_guest_global(vm, stop_fencing, 1);
	for (i = 1; i < ARRAY_SIZE(flood); i++)
		pthread_join(threads[i], NULL);
}

/* In the guest: a function that hart 0 rewrites and hart 1 calls. */
#define CODE_GVA	TEST_GVA

static void guest_writer(void)
{
	struct sbiret ret;
	u64 i;

	for (i = 1; i <= FENCE_ROUNDS; i++) {
		/* li a0, i; ret */
		WRITE_ONCE(*(u64 *)CODE_GVA, 0x0000806700000513UL | i << 20);
		asm volatile("fence rw, rw" : : : "memory");
		ret = guest_ecall(SBI_EXT_RFENCE, FENCE_I,
				  (u64[6]){ i % 2 ? 2 : 0, i % 2 ? 0 : ~0UL });
		GUEST_ASSERT_EQ(ret.error, 0L);
		WRITE_ONCE(round_no, i);
		while (READ_ONCE(round_seen) != i)
			cpu_relax();
	}
	GUEST_DONE();
}

static void guest_executor(void)
{
	u64 i, val;

	for (i = 1; i <= FENCE_ROUNDS; i++) {
		/* Code that is written while it is executed is too much for TCG. */
		while (READ_ONCE(round_no) != i)
			cpu_relax();
		asm volatile("fence r, r" : : : "memory");
		val = ((u64 (*)(void))CODE_GVA)();
		__GUEST_ASSERT(val == i, "round %lu: after the fence code %lu", i, val);
		WRITE_ONCE(round_seen, i);
	}
	GUEST_DONE();
}

TEST(remote_fence_i)
{
	pthread_t thread;

	vm = vm_create_with_vcpus(2, guest_writer, vcpus);
	vcpu_arch_set_entry_point(vcpus[1], guest_executor);
	virt_pg_map(vm, CODE_GVA, addr_gva2gpa(vm, vm_alloc_page(vm)));
	*(u64 *)addr_gva2hva(vm, CODE_GVA) = 0x0000806700000513UL;

	pthread_create(&thread, NULL, run_thread, vcpus[1]);
	run_to_done(vcpus[0]);
	pthread_join(thread, NULL);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
