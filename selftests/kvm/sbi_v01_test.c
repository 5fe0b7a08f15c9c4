// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: S9, N6, N7 */
/* covers: sbi/v01.rs sbi/harts.rs mmu/guest_access.rs */
/*
 * SBI: the legacy extensions of v0.1, where each call is an extension, a0 alone
 * returns, and harts are bits in guest memory.
 */
#include "kvm_rs_sbi.h"

#define SET_TIMER		0
#define CONSOLE_PUTCHAR		1
#define CONSOLE_GETCHAR		2
#define CLEAR_IPI		3
#define SEND_IPI		4
#define REMOTE_FENCE_I		5
#define REMOTE_SFENCE_VMA	6
#define REMOTE_SFENCE_VMA_ASID	7
#define SHUTDOWN		8

FIXTURE(v01) {
	struct kvm_vcpu *vcpu;
};

FIXTURE_SETUP(v01)
{
	self->vcpu = caller_create();
	if (!has_sbi(self->vcpu, KVM_RISCV_SBI_EXT_V01))
		SKIP(return, "the module has no SBI v0.1");
}

FIXTURE_TEARDOWN(v01)
{
}

/* Nothing is returned in a1; what the function id is does not matter. */
#define assert_v01(want, vcpu, ext, arg0, args...)					\
do {											\
	struct sbiret __r = vcpu_sbi(vcpu, ext, 0x5a5a, arg0, 0x1234567, ##args);	\
											\
	TEST_ASSERT(__r.error == (want), #ext ": %ld", __r.error);			\
	TEST_ASSERT(__r.value == 0x1234567, #ext ": a1 is 0x%lx", __r.value);		\
} while (0)

static bool got(struct kvm_vcpu *vcpu)
{
	bool yes = pending(vcpu) & IP_SSIP;

	vcpu_set_reg(vcpu, RISCV_GENERAL_CSR_REG(sip), 0);
	return yes;
}

TEST_F(v01, set_timer)
{
	u64 sip;

	TEST_ASSERT_EQ(vcpu_sbi_sip(self->vcpu, SET_TIMER, 0, &sip, 0).error, 0);
	TEST_ASSERT_EQ(sip & IP_STIP, IP_STIP);
	TEST_ASSERT_EQ(vcpu_sbi_sip(self->vcpu, SET_TIMER, 0, &sip, ~0UL).error, 0);
	TEST_ASSERT_EQ(sip & IP_STIP, 0);
	TEST_ASSERT_EQ(vcpu_sbi_sip(self->vcpu, SET_TIMER, 9, &sip, 1UL << 60).error, 0);
	TEST_ASSERT_EQ(sip & IP_STIP, 0);
	assert_v01(0, self->vcpu, SET_TIMER, ~0UL);
}

/* The console is userspace's; it gets the call and gives a0. */
static struct sbiret console(struct kvm_vcpu *vcpu, u64 ext, u64 c, u64 ret)
{
	struct kvm_run *run = vcpu->run;

	sbi_ask(vcpu, ext, 0, (u64[6]){ c, 0x1234567 });
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_RISCV_SBI);
	TEST_ASSERT_EQ(run->riscv_sbi.extension_id, ext);
	TEST_ASSERT_EQ(run->riscv_sbi.args[0], c);
	run->riscv_sbi.ret[0] = ret;
	run->riscv_sbi.ret[1] = 0x7654321;
	return sbi_answer(vcpu, NULL);
}

TEST_F(v01, console)
{
	TEST_ASSERT_EQ(console(self->vcpu, CONSOLE_PUTCHAR, 'x', 0).error, 0);
	TEST_ASSERT_EQ(console(self->vcpu, CONSOLE_GETCHAR, 0, 'y').error, 'y');
	TEST_ASSERT_EQ(console(self->vcpu, CONSOLE_GETCHAR, 0, -1).error, -1);
}

/* "All registers except a0 must be preserved" (differences-from-c N7). */
TEST_F(v01, console_preserves_a1)
{
	TEST_ASSERT_EQ(console(self->vcpu, CONSOLE_PUTCHAR, 'x', 0).value, 0x1234567);
	TEST_ASSERT_EQ(console(self->vcpu, CONSOLE_GETCHAR, 0, 'y').value, 0x1234567);
}

TEST_F(v01, all_harts)
{
	u64 sip;

	TEST_ASSERT_EQ(vcpu_sbi_sip(self->vcpu, SEND_IPI, 0, &sip, 0).error, 0);
	TEST_ASSERT_EQ(sip & IP_SSIP, IP_SSIP);
	TEST_ASSERT(got(vcpus[1]), "hart 1 has no IPI");
	assert_v01(0, self->vcpu, SEND_IPI, 0);
	assert_v01(0, self->vcpu, REMOTE_FENCE_I, 0);
	assert_v01(0, self->vcpu, REMOTE_SFENCE_VMA, 0, 0);
	assert_v01(0, self->vcpu, REMOTE_SFENCE_VMA, 0, ~0UL);
	assert_v01(0, self->vcpu, REMOTE_SFENCE_VMA_ASID, 0, 0, 0);
	assert_v01(0, self->vcpu, REMOTE_SFENCE_VMA_ASID, 0, SIZE_4K, 1);
}

/* In the guest: sends itself what clear_ipi then takes back, both said at once. */
static void guest_clear_ipi(u64 positive)
{
	static const u64 self[6] = { 1 }, none[6];
	struct sbiret ret;
	u64 i;

	for (i = 0; i < 3; i++) {
		ret = guest_ecall(CLEAR_IPI, 0, none);
		GUEST_ASSERT_EQ(ret.error, 0L);
		switch (i) {
		case 0:
			GUEST_ASSERT_EQ(guest_ecall(SBI_EXT_IPI, 0, self).error, 0L);
			break;
		case 1:
			/* By its own hand. */
			csr_set(CSR_SIP, IP_SSIP);
			break;
		default:
			GUEST_ASSERT_EQ(guest_ecall(SEND_IPI, 0, none).error, 0L);
			break;
		}
		GUEST_ASSERT(csr_read(CSR_SIP) & IP_SSIP);
		ret = guest_ecall(CLEAR_IPI, 0, none);
		GUEST_ASSERT(!(csr_read(CSR_SIP) & IP_SSIP));
		__GUEST_ASSERT(ret.error > 0 || (!positive && !ret.error), "clear_ipi returned %ld",
			       ret.error);
	}
	GUEST_DONE();
}

static void check_clear_ipi(u64 positive)
{
	vm = vm_create_with_vcpus(1, guest_clear_ipi, vcpus);
	vcpu_args_set(vcpus[0], 1, positive);
	run_to_done(vcpus[0]);
}

TEST_F(v01, clear_ipi)
{
	assert_v01(0, self->vcpu, CLEAR_IPI, 7);
	check_clear_ipi(0);
}

/*
 * "0 if no IPI had been pending, or a positive value if an IPI had been pending"
 * (differences-from-c N6).
 */
TEST_F(v01, clear_ipi_tells)
{
	check_clear_ipi(1);
}

/* The page with the mask has been used, so that KVM can read it at once. */
static u64 mask_in_guest(struct kvm_vcpu *vcpu, u64 word)
{
	u64 gva = vm_alloc_page(vm);

	*(u64 *)addr_gva2hva(vm, gva) = word;
	return gva;
}

/* Harts that do not exist cannot be complained about: there is no such error. */
static void check_masks(struct kvm_vcpu *vcpu)
{
	u64 ext, mask, sip;

	mask = mask_in_guest(vcpu, 2);
	TEST_ASSERT_EQ(vcpu_sbi_sip(vcpu, SEND_IPI, 0, &sip, mask).error, 0);
	TEST_ASSERT_EQ(sip & IP_SSIP, 0);
	TEST_ASSERT(got(vcpus[1]), "hart 1 has no IPI");

	mask = mask_in_guest(vcpu, ~0UL << 63 | 1);
	TEST_ASSERT_EQ(vcpu_sbi_sip(vcpu, SEND_IPI, 0, &sip, mask).error, 0);
	TEST_ASSERT_EQ(sip & IP_SSIP, IP_SSIP);
	TEST_ASSERT(!got(vcpus[1]), "hart 1 has an IPI");

	for (ext = SEND_IPI; ext <= REMOTE_SFENCE_VMA_ASID; ext++) {
		mask = mask_in_guest(vcpu, 3);
		assert_v01(0, vcpu, ext, mask, SIZE_4K, 1);
	}
}

/* The hart mask is in memory, which KVM must bring in if need be (differences-from-c S9). */
TEST_F(v01, mask_on_untouched_page)
{
	check_masks(self->vcpu);
}

/* One word for each 64 harts (differences-from-c S9). */
TEST(mask_of_two_words)
{
	struct kvm_vcpu *vcpu, *other;
	u64 gva, ext, sip;
	int i;

	vm = vm_create(70);
	vcpu = vm_vcpu_add(vm, 0, guest_sbi_server);
	if (!has_sbi(vcpu, KVM_RISCV_SBI_EXT_V01))
		SKIP(return, "the module has no SBI v0.1");
	for (i = 1; i < 69; i++)
		__vm_vcpu_add(vm, i);
	other = __vm_vcpu_add(vm, 69);
	vm_catch_guest_traps(vm);

	/* The words are on two pages. */
	gva = vm_alloc_pages(vm, 2) + SIZE_4K - 8;
	*(u64 *)addr_gva2hva(vm, gva) = 1;
	*(u64 *)addr_gva2hva(vm, gva + 8) = 1 << 5;
	TEST_ASSERT_EQ(vcpu_sbi_sip(vcpu, SEND_IPI, 0, &sip, gva).error, 0);
	TEST_ASSERT_EQ(sip & IP_SSIP, IP_SSIP);
	TEST_ASSERT(got(other), "hart 69 has no IPI");
	for (ext = REMOTE_FENCE_I; ext <= REMOTE_SFENCE_VMA_ASID; ext++)
		TEST_ASSERT_EQ(vcpu_sbi(vcpu, ext, 0, gva, 0, 0, 0).error, 0);
}

/* In the guest. */
static void guest_fault(u64 ext, u64 mask)
{
	extern const char ecall_here[];
	u64 trap;

	/* Brings in the guest's own tables, which are not what this is about. */
	trap = GUEST_CATCH((void)READ_ONCE(*(u64 *)(TEST_GVA + SIZE_4K)));
	GUEST_ASSERT_EQ(trap, (u64)EXC_LOAD_PAGE_FAULT);

	trap = GUEST_CATCH(({
		register u64 a0 asm("a0") = mask;
		register u64 a7 asm("a7") = ext;

		asm volatile(".globl ecall_here\necall_here: ecall"
			     : "+r"(a0) : "r"(a7) : "memory");
		GUEST_ASSERT_EQ(a0, mask);
	}));
	GUEST_ASSERT_EQ(guest_trap.epc, (u64)ecall_here);
	GUEST_SYNC2(trap, guest_trap.tval);
}

/* What the guest gets from a mask at @gva. */
static void check_fault(u64 ext, u64 gva, u64 cause)
{
	struct ucall uc;

	vm = vm_create_with_vcpus(1, guest_fault, vcpus);
	vm_catch_guest_traps(vm);
	virt_pg_map(vm, TEST_GVA, NOWHERE_GPA);
	vcpu_args_set(vcpus[0], 2, ext, gva);
	TEST_ASSERT_EQ(run_to_ucall(vcpus[0], &uc), UCALL_SYNC);
	TEST_ASSERT(uc.args[0] == cause, "extension %lu: cause %ld, not %lu", (unsigned long)ext,
		    (long)uc.args[0], (unsigned long)cause);
	TEST_ASSERT_EQ(uc.args[1], gva);
	kvm_vm_free(vm);
}

/* Faults are the supervisor's, "with sepc pointing to the faulting ECALL". */
TEST_F(v01, mask_at_no_page)
{
	u64 ext;

	for (ext = SEND_IPI; ext <= REMOTE_SFENCE_VMA_ASID; ext++)
		check_fault(ext, TEST_GVA + SIZE_4K, EXC_LOAD_PAGE_FAULT);
}

/* A machine has no guest-page faults to give (differences-from-c S9). */
TEST_F(v01, mask_at_no_memory)
{
	u64 ext;

	for (ext = SEND_IPI; ext <= REMOTE_SFENCE_VMA_ASID; ext++)
		check_fault(ext, TEST_GVA + 8, EXC_LOAD_ACCESS);
}

/*
 * Memory that the host does not have is reported as for any other access
 * (differences-from-c S9).
 */
TEST_F(v01, mask_in_memory_that_is_gone)
{
	struct kvm_run *run = self->vcpu->run;
	u64 *mem;

	mem = mmap_at(SIZE_4K, SIZE_4K, 0, MAP_ANON_PRIVATE, -1);
	*mem = 2;
	vm_set_user_memory_region(vm, 1, 0, STUB_GPA, SIZE_4K, mem);
	virt_pg_map(vm, TEST_GVA, STUB_GPA);
	TEST_ASSERT_OK(mprotect(mem, SIZE_4K, PROT_NONE));
	sbi_ask(self->vcpu, SEND_IPI, 0, (u64[6]){ TEST_GVA });
	TEST_ASSERT_ERRNO(__vcpu_run(self->vcpu), EFAULT);
	if (kvm_check_cap(KVM_CAP_MEMORY_FAULT_INFO)) {
		TEST_ASSERT_EQ(run->exit_reason, KVM_EXIT_MEMORY_FAULT);
		TEST_ASSERT_EQ(run->memory_fault.gpa, STUB_GPA);
	}
	/* When it has, the call is made again. */
	TEST_ASSERT_OK(mprotect(mem, SIZE_4K, PROT_READ | PROT_WRITE));
	TEST_ASSERT_EQ(sbi_answer(self->vcpu, NULL).error, 0);
	TEST_ASSERT(got(vcpus[1]), "hart 1 has no IPI");
}

TEST_F(v01, shutdown)
{
	struct kvm_run *run = self->vcpu->run;

	sbi_ask(self->vcpu, SHUTDOWN, 0, (u64[6]){});
	vcpu_run(self->vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(self->vcpu, KVM_EXIT_SYSTEM_EVENT);
	TEST_ASSERT_EQ(run->system_event.type, KVM_SYSTEM_EVENT_SHUTDOWN);
	TEST_ASSERT_EQ(run->system_event.data[0], 0);
	TEST_ASSERT_EQ(get_mp_state(vcpus[0]), KVM_MP_STATE_STOPPED);
	TEST_ASSERT_EQ(get_mp_state(vcpus[1]), KVM_MP_STATE_STOPPED);
	assert_sleeps(self->vcpu);
}

/* Seven more are reserved. */
TEST_F(v01, reserved)
{
	u64 ext;

	for (ext = SHUTDOWN + 1; ext < SBI_EXT_BASE; ext++)
		assert_sbi_fails(SBI_ERR_NOT_SUPPORTED, self->vcpu, ext, 0, 0, 0, 0);
	for (ext = SET_TIMER; ext <= SHUTDOWN; ext++)
		assert_sbi_fails(SBI_ERR_NOT_SUPPORTED, self->vcpu, 1UL << 32 | ext, 0, 0, 0, 0);
}

/* Absent, they answer as any extension that is not supported. */
TEST_F(v01, switched_off)
{
	u64 ext;

	switch_sbi(self->vcpu, KVM_RISCV_SBI_EXT_V01, 0);
	for (ext = SET_TIMER; ext <= SHUTDOWN; ext++) {
		assert_sbi_fails(SBI_ERR_NOT_SUPPORTED, self->vcpu, ext, 0, 0, 0, 0);
		TEST_ASSERT_EQ(probe(self->vcpu, ext), 0);
	}
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
