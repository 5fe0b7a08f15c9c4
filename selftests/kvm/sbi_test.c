// SPDX-License-Identifier: GPL-2.0-only
/* on-c: fail: S9, S17 */
/*
 * The SBI calls that KVM answers itself: results, errors, and that they do
 * what they say.
 */
#include "kvm_rs_util.h"

#define STUB_GPA	0x20000000UL

/* KVM_SBI_IMPID of the SBI specification's list. */
#define IMPL_ID_KVM	3

static struct kvm_vcpu *vcpus[2];
static struct kvm_vm *vm;

static int set_mp_state(struct kvm_vcpu *vcpu, u32 state)
{
	struct kvm_mp_state mp = { .mp_state = state };

	return __vcpu_ioctl(vcpu, KVM_SET_MP_STATE, &mp);
}

static u32 get_mp_state(struct kvm_vcpu *vcpu)
{
	struct kvm_mp_state mp;

	vcpu_mp_state_get(vcpu, &mp);
	return mp.mp_state;
}

/* The first vCPU takes calls; the second exists. */
static struct kvm_vcpu *caller_create(void)
{
	vm = vm_create_with_vcpus(2, guest_sbi_server, vcpus);
	vm_catch_guest_traps(vm);
	return vcpus[0];
}

static u64 pending(struct kvm_vcpu *vcpu)
{
	return vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(sip));
}

TEST(base)
{
	static const u64 have[] = { SBI_EXT_BASE, SBI_EXT_TIME, SBI_EXT_IPI, SBI_EXT_RFENCE,
				    SBI_EXT_HSM, SBI_EXT_SRST };
	static const u64 lack[] = { 0x11, 0x4E41434C, SBI_EXT_DBCN, SBI_EXT_SUSP, SBI_EXT_MPXY,
				    0x0a000000, 0x7fffffff };
	struct kvm_vcpu *vcpu = caller_create();
	u64 val;
	int i;

	val = assert_sbi(0, vcpu, SBI_EXT_BASE, 0);
	TEST_ASSERT(val >= sbi_mk_version(2, 0) && val < sbi_mk_version(16, 0), "version 0x%lx",
		    (unsigned long)val);
	TEST_ASSERT_EQ(assert_sbi(0, vcpu, SBI_EXT_BASE, 1), IMPL_ID_KVM);
	TEST_ASSERT(assert_sbi(0, vcpu, SBI_EXT_BASE, 2), "no implementation version");
	TEST_ASSERT_EQ(assert_sbi(0, vcpu, SBI_EXT_BASE, 4),
		       vcpu_get_reg(vcpu, RISCV_CONFIG_REG(mvendorid)));
	TEST_ASSERT_EQ(assert_sbi(0, vcpu, SBI_EXT_BASE, 5),
		       vcpu_get_reg(vcpu, RISCV_CONFIG_REG(marchid)));
	TEST_ASSERT_EQ(assert_sbi(0, vcpu, SBI_EXT_BASE, 6),
		       vcpu_get_reg(vcpu, RISCV_CONFIG_REG(mimpid)));
	assert_sbi(SBI_ERR_NOT_SUPPORTED, vcpu, SBI_EXT_BASE, 7);
	assert_sbi(SBI_ERR_NOT_SUPPORTED, vcpu, SBI_EXT_BASE, ~0U);

	for (i = 0; i < ARRAY_SIZE(have); i++)
		TEST_ASSERT(assert_sbi(0, vcpu, SBI_EXT_BASE, 3, have[i]),
			    "extension 0x%lx is not there", (unsigned long)have[i]);
	for (i = 0; i < ARRAY_SIZE(lack); i++) {
		TEST_ASSERT(!assert_sbi(0, vcpu, SBI_EXT_BASE, 3, lack[i]),
			    "extension 0x%lx is there", (unsigned long)lack[i]);
		assert_sbi(SBI_ERR_NOT_SUPPORTED, vcpu, lack[i], 0);
	}
}

TEST(set_timer)
{
	struct kvm_vcpu *vcpu = caller_create();
	u64 sip;

	TEST_ASSERT_EQ(vcpu_sbi_sip(vcpu, SBI_EXT_TIME, 0, &sip, 0).error, 0);
	TEST_ASSERT_EQ(sip & IP_STIP, IP_STIP);
	TEST_ASSERT_EQ(vcpu_sbi_sip(vcpu, SBI_EXT_TIME, 0, &sip, ~0UL).error, 0);
	TEST_ASSERT_EQ(sip & IP_STIP, 0);
	TEST_ASSERT_EQ(vcpu_sbi_sip(vcpu, SBI_EXT_TIME, 0, &sip, 1UL << 60).error, 0);
	TEST_ASSERT_EQ(sip & IP_STIP, 0);
	assert_sbi(SBI_ERR_NOT_SUPPORTED, vcpu, SBI_EXT_TIME, 1, 0);
}

TEST(ipi)
{
	struct kvm_vcpu *vcpu = caller_create();
	u64 sip;

	TEST_ASSERT_EQ(vcpu_sbi_sip(vcpu, SBI_EXT_IPI, 0, &sip, 1, 0).error, 0);
	TEST_ASSERT_EQ(sip & IP_SSIP, IP_SSIP);
	TEST_ASSERT_EQ(pending(vcpus[1]) & IP_SSIP, 0);

	/* Hart 1 alone, by its bit and by its number. */
	TEST_ASSERT_EQ(vcpu_sbi_sip(vcpu, SBI_EXT_IPI, 0, &sip, 2, 0).error, 0);
	TEST_ASSERT_EQ(sip & IP_SSIP, 0);
	TEST_ASSERT_EQ(pending(vcpus[1]) & IP_SSIP, IP_SSIP);
	vcpu_set_reg(vcpus[1], RISCV_GENERAL_CSR_REG(sip), 0);
	assert_sbi(0, vcpu, SBI_EXT_IPI, 0, 1, 1);
	TEST_ASSERT_EQ(pending(vcpus[1]) & IP_SSIP, IP_SSIP);
	vcpu_set_reg(vcpus[1], RISCV_GENERAL_CSR_REG(sip), 0);

	/* All of them, whatever the mask. */
	TEST_ASSERT_EQ(vcpu_sbi_sip(vcpu, SBI_EXT_IPI, 0, &sip, 0, ~0UL).error, 0);
	TEST_ASSERT_EQ(sip & IP_SSIP, IP_SSIP);
	TEST_ASSERT_EQ(pending(vcpus[1]) & IP_SSIP, IP_SSIP);

	/* None, and such as there are not. */
	TEST_ASSERT_EQ(vcpu_sbi_sip(vcpu, SBI_EXT_IPI, 0, &sip, 0, 0).error, 0);
	TEST_ASSERT_EQ(sip & IP_SSIP, 0);
	assert_sbi(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_IPI, 0, 4, 0);
	assert_sbi(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_IPI, 0, 1, 2);
	assert_sbi(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_IPI, 0, 1, 1UL << 32);
	assert_sbi(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_IPI, 0, 1, ~1UL);
	assert_sbi(SBI_ERR_NOT_SUPPORTED, vcpu, SBI_EXT_IPI, 1, 1, 0);
}

TEST(rfence_results)
{
	struct kvm_vcpu *vcpu = caller_create();
	int fid;

	/* FENCE.I, SFENCE.VMA, SFENCE.VMA with an ASID. */
	for (fid = 0; fid < 3; fid++) {
		assert_sbi(0, vcpu, SBI_EXT_RFENCE, fid, 1, 0, 0, 0, 0);
		assert_sbi(0, vcpu, SBI_EXT_RFENCE, fid, 3, 0, TEST_GVA, SIZE_4K, 5);
		assert_sbi(0, vcpu, SBI_EXT_RFENCE, fid, 0, ~0UL, TEST_GVA, ~0UL, 5);
		/* Ranges of every page there is, and around the end of all. */
		assert_sbi(0, vcpu, SBI_EXT_RFENCE, fid, 3, 0, 0, ~0UL - 1, 0);
		assert_sbi(0, vcpu, SBI_EXT_RFENCE, fid, 3, 0, 0, 1UL << 63, 0);
		assert_sbi(0, vcpu, SBI_EXT_RFENCE, fid, 1, 0, 1, 1, 0xffff);
	}
	/* Of a hypervisor in the guest: there is none. */
	for (fid = 3; fid < 8; fid++)
		assert_sbi(SBI_ERR_NOT_SUPPORTED, vcpu, SBI_EXT_RFENCE, fid, 1, 0, 0, 0, 0);
}

TEST(s17_rfence_invalid_harts)
{
	struct kvm_vcpu *vcpu = caller_create();
	int fid;

	for (fid = 0; fid < 3; fid++) {
		assert_sbi(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_RFENCE, fid, 4, 0, 0, 0, 0);
		assert_sbi(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_RFENCE, fid, 1, 2, 0, 0, 0);
		assert_sbi(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_RFENCE, fid, 1, 1UL << 32, 0, 0, 0);
	}
}

/* In the guest. */
static u64 round_no, round_seen, fence_fid;

#define FENCE_ROUNDS	24
#define TABLE_GVA	(TEST_GVA + SIZE_2M)

/* Switches a page between two and has the other hart fence. */
static void guest_fencer(u64 pte0, u64 pte1, u64 offset)
{
	u64 *pte = (u64 *)(TABLE_GVA + offset);
	struct sbiret ret;
	u64 i;

	for (i = 1; i <= FENCE_ROUNDS; i++) {
		WRITE_ONCE(*pte, i & 1 ? pte1 : pte0);
		/* By address, all at once, on all harts. */
		ret = sbi_ecall(SBI_EXT_RFENCE, fence_fid, i % 3 ? 2 : 0, i % 3 ? 0 : -1UL,
				i % 2 ? TEST_GVA : 0, i % 2 ? SIZE_4K : 0, 0, 0);
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
			val = READ_ONCE(*(u64 *)TEST_GVA);
		} while (now != i);
		__GUEST_ASSERT(val == (i & 1), "round %lu: after the fence page %lu", i, val);
		WRITE_ONCE(round_seen, i);
	}
	GUEST_DONE();
}

static void *run_thread(void *vcpu)
{
	run_to_done(vcpu);
	return NULL;
}

static void check_fence(u64 fid)
{
	gva_t page[2];
	pthread_t thread;
	u64 pte[2], table;
	int i;

	vm = vm_create_with_vcpus(2, guest_fencer, vcpus);
	vcpu_arch_set_entry_point(vcpus[1], guest_fenced);
	write_guest_global(vm, fence_fid, fid);
	for (i = 0; i < 2; i++) {
		page[i] = vm_alloc_page(vm);
		*(u64 *)addr_gva2hva(vm, page[i]) = i;
		pte[i] = *guest_pte(vm, page[i]);
	}
	virt_pg_map(vm, TEST_GVA, addr_gva2gpa(vm, page[0]));
	table = addr_hva2gpa(vm, guest_pte(vm, TEST_GVA));
	virt_pg_map(vm, TABLE_GVA, table & ~(SIZE_4K - 1));
	vcpu_args_set(vcpus[0], 3, pte[0], pte[1], table & (SIZE_4K - 1));

	pthread_create(&thread, NULL, run_thread, vcpus[1]);
	run_to_done(vcpus[0]);
	pthread_join(thread, NULL);
}

/* When the call returns, the other hart has fenced. */
TEST(remote_sfence_vma)
{
	check_fence(1);
}

TEST(remote_sfence_vma_asid)
{
	check_fence(2);
}

/* Code for a hart without translation: leaves to userspace with a0 and a1. */
static void add_stub(void)
{
	static const u32 code[] = {
		0x090008b7,	/* lui a7, 0x9000: a vendor's extension */
		0x07b00813,	/* li a6, 123 */
		0x00000073,	/* ecall */
		0x0000006f,	/* j . */
	};
	void *mem = mmap_at(SIZE_4K, SIZE_4K, 0, MAP_ANON_PRIVATE, -1);

	memcpy(mem, code, sizeof(code));
	vm_set_user_memory_region(vm, 1, 0, STUB_GPA, SIZE_4K, mem);
}

static void assert_stub(struct kvm_vcpu *vcpu, u64 hart, u64 opaque)
{
	struct kvm_run *run = vcpu->run;

	TEST_ASSERT(!vcpu_run_limited(vcpu, 2000), "KVM_RUN: %s", strerror(errno));
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_RISCV_SBI);
	TEST_ASSERT_EQ(run->riscv_sbi.extension_id, 0x9000000);
	TEST_ASSERT_EQ(run->riscv_sbi.function_id, 123);
	TEST_ASSERT_EQ(run->riscv_sbi.args[0], hart);
	TEST_ASSERT_EQ(run->riscv_sbi.args[1], opaque);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(satp)), 0);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(sstatus)) & SR_SIE, 0);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_CORE_REG(mode)), KVM_RISCV_MODE_S);
}

static void guest_stop(void)
{
	sbi_ecall(SBI_EXT_HSM, SBI_HSM_STOP, 0, 0, 0, 0, 0, 0);
	GUEST_FAIL("hart_stop returned");
}

TEST(hsm)
{
	struct kvm_vcpu *vcpu = caller_create();
	int round;

	add_stub();
	TEST_ASSERT_EQ(assert_sbi(0, vcpu, SBI_EXT_HSM, SBI_HSM_STATUS, 0), 0);
	TEST_ASSERT_EQ(assert_sbi(0, vcpu, SBI_EXT_HSM, SBI_HSM_STATUS, 1), 0);
	assert_sbi(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_HSM, SBI_HSM_STATUS, 2);
	assert_sbi(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_HSM, SBI_HSM_START, 2, STUB_GPA, 0);
	assert_sbi(SBI_ERR_ALREADY_AVAILABLE, vcpu, SBI_EXT_HSM, SBI_HSM_START, 0, STUB_GPA, 0);
	assert_sbi(SBI_ERR_ALREADY_AVAILABLE, vcpu, SBI_EXT_HSM, SBI_HSM_START, 1, STUB_GPA, 0);
	assert_sbi(SBI_ERR_NOT_SUPPORTED, vcpu, SBI_EXT_HSM, 4, 0);

	/* It stops itself, is seen stopped, and is started afresh. */
	vcpu_arch_set_entry_point(vcpus[1], guest_stop);
	TEST_ASSERT(vcpu_run_limited(vcpus[1], 300) == -1 && errno == EINTR, "a stopped hart runs");
	TEST_ASSERT_EQ(get_mp_state(vcpus[1]), KVM_MP_STATE_STOPPED);
	for (round = 0; round < 3; round++) {
		TEST_ASSERT_EQ(assert_sbi(0, vcpu, SBI_EXT_HSM, SBI_HSM_STATUS, 1), 1);
		assert_sbi(0, vcpu, SBI_EXT_HSM, SBI_HSM_START, 1, STUB_GPA, 0x1234567800 + round);
		TEST_ASSERT_EQ(assert_sbi(0, vcpu, SBI_EXT_HSM, SBI_HSM_STATUS, 1), 0);
		assert_sbi(SBI_ERR_ALREADY_AVAILABLE, vcpu, SBI_EXT_HSM, SBI_HSM_START, 1, 0, 0);
		assert_stub(vcpus[1], 1, 0x1234567800 + round);
		TEST_ASSERT_OK(set_mp_state(vcpus[1], KVM_MP_STATE_STOPPED));
	}
}

/* A suspended hart wakes by what is pending; other ways to suspend are not had. */
TEST(hsm_suspend)
{
	struct kvm_vcpu *vcpu = caller_create();

	vcpu_set_reg(vcpu, RISCV_GENERAL_CSR_REG(sie), IP_STIP);
	assert_sbi(0, vcpu, SBI_EXT_TIME, 0, 0);
	assert_sbi(0, vcpu, SBI_EXT_HSM, SBI_HSM_SUSPEND, 0, 0, 0);
	assert_sbi(SBI_ERR_NOT_SUPPORTED, vcpu, SBI_EXT_HSM, SBI_HSM_SUSPEND, 0x80000000, 0, 0);
	assert_sbi(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_HSM, SBI_HSM_SUSPEND, 1, 0, 0);
	assert_sbi(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_HSM, SBI_HSM_SUSPEND, 0x80000001, 0, 0);
}

/* A hart id is 64 bits wide. */
TEST(s17_hart_id_upper_half)
{
	struct kvm_vcpu *vcpu = caller_create();
	u64 hart = (1UL << 32) + 1;

	TEST_ASSERT_OK(set_mp_state(vcpus[1], KVM_MP_STATE_STOPPED));
	assert_sbi(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_HSM, SBI_HSM_START, hart, STUB_GPA, 0);
	TEST_ASSERT_EQ(get_mp_state(vcpus[1]), KVM_MP_STATE_STOPPED);
	assert_sbi(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_HSM, SBI_HSM_STATUS, hart);
	assert_sbi(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_HSM, SBI_HSM_STATUS, 1UL << 63);
}

static void check_reset(u64 type, u64 reason, u32 event)
{
	struct kvm_vcpu *vcpu = caller_create();
	struct kvm_run *run = vcpu->run;

	sbi_ask(vcpu, SBI_EXT_SRST, 0, (u64[6]){ type, reason });
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_SYSTEM_EVENT);
	TEST_ASSERT_EQ(run->system_event.type, event);
	TEST_ASSERT_EQ(run->system_event.ndata, 1);
	TEST_ASSERT_EQ(run->system_event.data[0], reason);
	TEST_ASSERT_EQ(get_mp_state(vcpus[0]), KVM_MP_STATE_STOPPED);
	TEST_ASSERT_EQ(get_mp_state(vcpus[1]), KVM_MP_STATE_STOPPED);
}

TEST(srst)
{
	struct kvm_vcpu *vcpu;

	check_reset(0, 0, KVM_SYSTEM_EVENT_SHUTDOWN);
	check_reset(0, 1, KVM_SYSTEM_EVENT_SHUTDOWN);
	check_reset(1, 0, KVM_SYSTEM_EVENT_RESET);
	check_reset(2, 1, KVM_SYSTEM_EVENT_RESET);
	vcpu = caller_create();
	assert_sbi(SBI_ERR_NOT_SUPPORTED, vcpu, SBI_EXT_SRST, 1, 0, 0);
}

/*
 * INVALID_PARAM is for what is reserved, or platform-specific and unimplemented
 * (SBI 3.0, errors of sbi_system_reset); NOT_SUPPORTED is for neither.
 */
TEST(s17_srst_reserved)
{
	struct kvm_vcpu *vcpu = caller_create();

	assert_sbi(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_SRST, 0, 3, 0);
	assert_sbi(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_SRST, 0, 0xefffffff, 0);
	assert_sbi(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_SRST, 0, 0xf0000000, 0);
	assert_sbi(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_SRST, 0, 0xffffffff, 0);
	assert_sbi(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_SRST, 0, 0, 2);
	assert_sbi(SBI_ERR_INVALID_PARAM, vcpu, SBI_EXT_SRST, 0, 1, 0xdfffffff);
	TEST_ASSERT_EQ(get_mp_state(vcpus[0]), KVM_MP_STATE_RUNNABLE);
}

static bool has_v01(struct kvm_vcpu *vcpu)
{
	return __vcpu_has_sbi_ext(vcpu, KVM_RISCV_SBI_EXT_V01);
}

TEST(legacy)
{
	struct kvm_vcpu *vcpu = caller_create();
	struct kvm_run *run = vcpu->run;
	u64 sip;

	if (!has_v01(vcpu))
		SKIP(return, "the module has no SBI v0.1");

	/* set_timer */
	TEST_ASSERT_EQ(vcpu_sbi_sip(vcpu, 0, 0, &sip, 0).error, 0);
	TEST_ASSERT_EQ(sip & IP_STIP, IP_STIP);
	TEST_ASSERT_EQ(vcpu_sbi_sip(vcpu, 0, 0, &sip, ~0UL).error, 0);
	TEST_ASSERT_EQ(sip & IP_STIP, 0);

	/* console_putchar and console_getchar are for userspace. */
	sbi_ask(vcpu, 1, 0, (u64[6]){ 'x' });
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_RISCV_SBI);
	TEST_ASSERT_EQ(run->riscv_sbi.extension_id, 1);
	TEST_ASSERT_EQ(run->riscv_sbi.args[0], 'x');
	run->riscv_sbi.ret[0] = 0;
	TEST_ASSERT_EQ(sbi_answer(vcpu, NULL).error, 0);
	sbi_ask(vcpu, 2, 0, (u64[6]){});
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_RISCV_SBI);
	TEST_ASSERT_EQ(run->riscv_sbi.extension_id, 2);
	run->riscv_sbi.ret[0] = 'y';
	TEST_ASSERT_EQ(sbi_answer(vcpu, NULL).error, 'y');

	/* send_ipi to all, clear_ipi, the fences of all. */
	TEST_ASSERT_EQ(vcpu_sbi_sip(vcpu, 4, 0, &sip, 0).error, 0);
	TEST_ASSERT_EQ(sip & IP_SSIP, IP_SSIP);
	TEST_ASSERT_EQ(pending(vcpus[1]) & IP_SSIP, IP_SSIP);
	TEST_ASSERT_EQ(vcpu_sbi_sip(vcpu, 3, 0, &sip, 0).error, 0);
	TEST_ASSERT_EQ(sip & IP_SSIP, 0);
	TEST_ASSERT_EQ(vcpu_sbi(vcpu, 5, 0, 0).error, 0);
	TEST_ASSERT_EQ(vcpu_sbi(vcpu, 6, 0, 0, 0, 0).error, 0);
	TEST_ASSERT_EQ(vcpu_sbi(vcpu, 7, 0, 0, 0, 0, 0).error, 0);

	/* shutdown */
	sbi_ask(vcpu, 8, 0, (u64[6]){});
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_SYSTEM_EVENT);
	TEST_ASSERT_EQ(run->system_event.type, KVM_SYSTEM_EVENT_SHUTDOWN);
}

/* The hart mask of v0.1 is in memory, which KVM must bring in if need be. */
TEST(s9_legacy_mask_on_untouched_page)
{
	struct kvm_vcpu *vcpu = caller_create();
	u64 mask, sip, ext;

	if (!has_v01(vcpu))
		SKIP(return, "the module has no SBI v0.1");

	for (ext = 4; ext < 8; ext++) {
		mask = vm_alloc_page(vm);
		*(u64 *)addr_gva2hva(vm, mask) = 3;
		TEST_ASSERT_EQ(vcpu_sbi_sip(vcpu, ext, 0, &sip, mask, 0, 0, 0).error, 0);
		if (ext != 4)
			continue;
		TEST_ASSERT_EQ(sip & IP_SSIP, IP_SSIP);
		TEST_ASSERT_EQ(pending(vcpus[1]) & IP_SSIP, IP_SSIP);
	}
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
