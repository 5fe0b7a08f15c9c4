// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: S4, S7, N9, N10, N11, N12 */
/* covers: sbi/sta.rs sbi_abi/sta.rs vcpu/steal_time.rs kernel_ext/sched.rs */
/*
 * SBI: steal-time accounting: the call, what is written and when, and the state
 * that userspace saves.
 */
#include "kvm_rs_sbi.h"

#define NR_FUNCTIONS	1

#define SHMEM_GPA	(STUB_GPA + 0x1240)
#define RO_GPA		0x21000000UL
#define OFF		(~0UL)

#define STA_REG(index) \
	__kvm_reg_id(KVM_REG_RISCV_SBI_STATE, KVM_REG_RISCV_SBI_STA, index, KVM_REG_SIZE_ULONG)
#define SHMEM_LO	STA_REG(KVM_REG_RISCV_SBI_STA_REG(shmem_lo))
#define SHMEM_HI	STA_REG(KVM_REG_RISCV_SBI_STA_REG(shmem_hi))

struct sta {
	u32 sequence;
	u32 flags;
	u64 steal;
	u8 preempted;
	u8 pad[47];
} __packed;

/* Two pages of the guest's at STUB_GPA, and what of them is at SHMEM_GPA. */
static char *mem;

static volatile struct sta *shmem(void)
{
	return (volatile struct sta *)(mem + SHMEM_GPA - STUB_GPA);
}

FIXTURE(sta) {
	struct kvm_vcpu *vcpu;
};

FIXTURE_SETUP(sta)
{
	self->vcpu = caller_create();
	if (!has_sbi(self->vcpu, KVM_RISCV_SBI_EXT_STA))
		SKIP(return, "the module has no steal time");
	mem = mmap_at(2 * SIZE_4K, SIZE_4K, 0, MAP_ANON_PRIVATE, -1);
	memset(mem, 0xff, 2 * SIZE_4K);
	vm_set_user_memory_region(vm, 1, 0, STUB_GPA, 2 * SIZE_4K, mem);
}

FIXTURE_TEARDOWN(sta)
{
}

static void set_shmem(struct kvm_vcpu *vcpu, u64 gpa)
{
	assert_sbi_fails(0, vcpu, SBI_EXT_STA, 0, gpa, gpa == OFF ? OFF : 0, 0);
}

static u64 shmem_lo(struct kvm_vcpu *vcpu)
{
	return vcpu_get_reg(vcpu, SHMEM_LO);
}

/* Nanoseconds that this thread was ready to run, and did not. */
static u64 run_delay(void)
{
	unsigned long run, delay = 0;
	FILE *f = fopen("/proc/thread-self/schedstat", "r");

	TEST_ASSERT(f && fscanf(f, "%lu %lu", &run, &delay) == 2, "no schedstat");
	fclose(f);
	return delay;
}

static bool thief_stop;

static void *thief(void *arg)
{
	while (!READ_ONCE(thief_stop))
		;
	return NULL;
}

/*
 * Makes this thread wait for its CPU for at least @ms, with another on it;
 * @vcpu, if any, does not get to run meanwhile, either.  What the thread had
 * waited when the vCPU ran for the last time.
 */
static u64 be_robbed(struct kvm_vcpu *vcpu, u64 ms)
{
	u64 end = run_delay() + ms * 1000000;
	pthread_attr_t attr;
	pthread_t thread;
	cpu_set_t cpu;

	CPU_ZERO(&cpu);
	CPU_SET(0, &cpu);
	TEST_ASSERT_OK(sched_setaffinity(0, sizeof(cpu), &cpu));
	pthread_attr_init(&attr);
	pthread_attr_setaffinity_np(&attr, sizeof(cpu), &cpu);
	WRITE_ONCE(thief_stop, false);
	TEST_ASSERT_OK(pthread_create(&thread, &attr, thief, NULL));
	while (run_delay() < end)
		if (vcpu)
			assert_sbi(0, vcpu, SBI_EXT_BASE, 0);
	WRITE_ONCE(thief_stop, true);
	pthread_join(thread, NULL);
	end = run_delay();
	if (vcpu)
		assert_sbi(0, vcpu, SBI_EXT_BASE, 0);
	return end;
}

/* More than a test takes. */
#define TOO_MUCH	(TEST_TIMEOUT_DEFAULT * 1000000000UL)

/* What is there before anything was stolen, or little of it. */
static void assert_valid(void)
{
	int i;

	TEST_ASSERT(!(shmem()->sequence & 1), "sequence %u", shmem()->sequence);
	TEST_ASSERT_EQ(shmem()->flags, 0);
	TEST_ASSERT(shmem()->steal < TOO_MUCH, "steal %lu", (unsigned long)shmem()->steal);
	for (i = 0; i < sizeof(shmem()->pad); i++)
		TEST_ASSERT_EQ(shmem()->pad[i], 0);
}

TEST_F(sta, set_and_clear)
{
	int i;

	TEST_ASSERT_EQ(probe(self->vcpu, SBI_EXT_STA), 1);
	TEST_ASSERT_EQ(shmem_lo(self->vcpu), OFF);
	set_shmem(self->vcpu, SHMEM_GPA);
	/* "All bytes must be set to zero", and no other. */
	assert_valid();
	TEST_ASSERT_EQ((u8)((char *)shmem())[-1], 0xff);
	TEST_ASSERT_EQ((u8)((char *)shmem())[64], 0xff);
	TEST_ASSERT_EQ(shmem_lo(self->vcpu), SHMEM_GPA);

	/* At another place, and the first one is left alone. */
	set_shmem(self->vcpu, SHMEM_GPA + 64);
	memset((void *)shmem(), 0xee, 64);
	be_robbed(self->vcpu, 1);
	for (i = 0; i < 64; i++)
		TEST_ASSERT_EQ((u8)((char *)shmem())[i], 0xee);

	set_shmem(self->vcpu, OFF);
	TEST_ASSERT_EQ(shmem_lo(self->vcpu), OFF);
	memset(mem, 0xdd, 2 * SIZE_4K);
	be_robbed(self->vcpu, 1);
	for (i = 0; i < 2 * SIZE_4K; i++)
		TEST_ASSERT((u8)mem[i] == 0xdd, "byte 0x%x is written", i);
}

/* The last 64 bytes of memory will do. */
TEST_F(sta, last_bytes)
{
	set_shmem(self->vcpu, STUB_GPA + 2 * SIZE_4K - 64);
	be_robbed(self->vcpu, 1);
	TEST_ASSERT_EQ(shmem_lo(self->vcpu), STUB_GPA + 2 * SIZE_4K - 64);
}

/* INVALID_PARAM: flags, and an address that is not aligned. */
TEST_F(sta, invalid_param)
{
	u64 bit;

	set_shmem(self->vcpu, SHMEM_GPA);
	for (bit = 1; bit < 64; bit <<= 1)
		assert_sbi_fails(SBI_ERR_INVALID_PARAM, self->vcpu, SBI_EXT_STA, 0,
				 SHMEM_GPA + 64 + bit, 0, 0);
	for (bit = 1; bit <= 0x80000000; bit <<= 1)
		assert_sbi_fails(SBI_ERR_INVALID_PARAM, self->vcpu, SBI_EXT_STA, 0, SHMEM_GPA + 64,
				 0, bit);
	assert_sbi_fails(SBI_ERR_INVALID_PARAM, self->vcpu, SBI_EXT_STA, 0, OFF, OFF, 1);
	/* All ones twice are an order; once, an address. */
	assert_sbi_fails(SBI_ERR_INVALID_PARAM, self->vcpu, SBI_EXT_STA, 0, OFF, 0, 0);
	TEST_ASSERT_EQ(shmem_lo(self->vcpu), SHMEM_GPA);
}

/* The flags are as wide as a register (differences-from-c N9). */
TEST_F(sta, flags_upper_half)
{
	u64 bit;

	for (bit = 1UL << 32; bit; bit <<= 1) {
		assert_sbi_fails(SBI_ERR_INVALID_PARAM, self->vcpu, SBI_EXT_STA, 0, SHMEM_GPA, 0,
				 bit);
		assert_sbi_fails(SBI_ERR_INVALID_PARAM, self->vcpu, SBI_EXT_STA, 0, OFF, OFF, bit);
	}
	TEST_ASSERT_EQ(shmem_lo(self->vcpu), OFF);
}

/* INVALID_ADDRESS: no memory, or such as cannot be written. */
TEST_F(sta, invalid_address)
{
	static const u64 bad[][2] = {
		{ NOWHERE_GPA, 0 }, { STUB_GPA - 64, 0 }, { STUB_GPA + 2 * SIZE_4K, 0 },
		{ RO_GPA, 0 }, { SHMEM_GPA, 1 }, { SHMEM_GPA, OFF }, { SHMEM_GPA, 1UL << 63 },
		{ -64UL, 0 }, { 1UL << 63 | SHMEM_GPA, 0 }, { 1UL << 59 | SHMEM_GPA, 0 },
	};
	void *ro = mmap_at(SIZE_4K, SIZE_4K, 0, MAP_ANON_PRIVATE, -1);
	int i;

	vm_set_user_memory_region(vm, 2, KVM_MEM_READONLY, RO_GPA, SIZE_4K, ro);
	set_shmem(self->vcpu, SHMEM_GPA + 128);
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_sbi_fails(SBI_ERR_INVALID_ADDRESS, self->vcpu, SBI_EXT_STA, 0, bad[i][0],
				 bad[i][1], 0);
	TEST_ASSERT_EQ(shmem_lo(self->vcpu), SHMEM_GPA + 128);

	/* Memory of the guest's that the host cannot write. */
	mprotect(mem, SIZE_4K, PROT_READ);
	assert_sbi_fails(SBI_ERR_INVALID_ADDRESS, self->vcpu, SBI_EXT_STA, 0, STUB_GPA, 0, 0);
}

/* What the thread waited between two runs of the vCPU is what was stolen, no less and no more. */
TEST_F(sta, steal)
{
	u64 before, began, ended, after, steal;
	u32 sequence;

	before = run_delay();
	set_shmem(self->vcpu, SHMEM_GPA);
	began = run_delay();
	steal = shmem()->steal;
	sequence = shmem()->sequence;
	ended = be_robbed(self->vcpu, 30);
	after = run_delay();
	steal = shmem()->steal - steal;
	assert_valid();
	TEST_ASSERT(shmem()->sequence != sequence, "sequence stays %u", sequence);
	TEST_ASSERT(steal >= ended - began && steal <= after - before,
		    "%lu stolen in a wait of %lu to %lu", (unsigned long)steal,
		    (unsigned long)(ended - began), (unsigned long)(after - before));
}

static void *run_elsewhere(void *vcpu)
{
	assert_sbi(0, vcpu, SBI_EXT_BASE, 0);
	return NULL;
}

/* Another thread takes the vCPU over, which has not waited (differences-from-c N10). */
TEST_F(sta, steal_in_another_thread)
{
	pthread_t thread;
	u64 steal;
	int i;

	set_shmem(self->vcpu, SHMEM_GPA);
	be_robbed(self->vcpu, 20);
	for (i = 0; i < 2; i++) {
		steal = shmem()->steal;
		pthread_create(&thread, NULL, run_elsewhere, self->vcpu);
		pthread_join(thread, NULL);
		TEST_ASSERT(shmem()->steal >= steal, "the time stolen shrinks from %lu to %lu",
			    (unsigned long)steal, (unsigned long)shmem()->steal);
		TEST_ASSERT(shmem()->steal < TOO_MUCH, "steal %lu",
			    (unsigned long)shmem()->steal);
		assert_sbi(0, self->vcpu, SBI_EXT_BASE, 0);
	}
}

/*
 * What the thread waited before the vCPU was restored is nobody's steal
 * (differences-from-c N11).
 */
TEST_F(sta, steal_after_restore)
{
	u64 before;

	be_robbed(NULL, 30);
	memset((void *)shmem(), 0, 64);
	shmem()->steal = 1000;
	before = run_delay();
	vcpu_set_reg(self->vcpu, SHMEM_LO, SHMEM_GPA);
	vcpu_set_reg(self->vcpu, SHMEM_HI, 0);
	/* Where writing the one forgets the other (S4), once more. */
	vcpu_set_reg(self->vcpu, SHMEM_LO, SHMEM_GPA);
	assert_sbi(0, self->vcpu, SBI_EXT_BASE, 0);
	assert_sbi(0, self->vcpu, SBI_EXT_BASE, 0);
	assert_valid();
	TEST_ASSERT(shmem()->steal >= 1000, "the time stolen shrinks to %lu",
		    (unsigned long)shmem()->steal);
	TEST_ASSERT(shmem()->steal - 1000 <= run_delay() - before, "%lu stolen in %lu",
		    (unsigned long)shmem()->steal - 1000, (unsigned long)(run_delay() - before));
}

/*
 * "Must stop writing to the shared memory when the supervisor-mode software is
 * not runnable, such as upon system reset".
 */
static void check_not_runnable(struct kvm_vcpu *vcpu)
{
	int i;

	be_robbed(NULL, 10);
	memset((void *)shmem(), 0xcc, 64);
	for (i = 0; i < 3; i++)
		TEST_ASSERT(vcpu_run_limited(vcpu, 20) == -1 && errno == EINTR, "the hart runs");
	for (i = 0; i < 64; i++)
		TEST_ASSERT((u8)((char *)shmem())[i] == 0xcc, "byte %d is written", i);
}

/* differences-from-c N12 */
TEST_F(sta, system_reset)
{
	set_shmem(self->vcpu, SHMEM_GPA);
	sbi_ask(self->vcpu, SBI_EXT_SRST, 0, (u64[6]){ 0, 0 });
	vcpu_run(self->vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(self->vcpu, KVM_EXIT_SYSTEM_EVENT);
	check_not_runnable(self->vcpu);
}

/* What boots next has other things there (differences-from-c N12). */
TEST_F(sta, off_after_system_reset)
{
	int i;

	set_shmem(self->vcpu, SHMEM_GPA);
	set_shmem(vcpus[1], SHMEM_GPA + 64);
	sbi_ask(self->vcpu, SBI_EXT_SRST, 0, (u64[6]){ 1, 0 });
	vcpu_run(self->vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(self->vcpu, KVM_EXIT_SYSTEM_EVENT);
	TEST_ASSERT_EQ(shmem_lo(self->vcpu), OFF);
	TEST_ASSERT_EQ(shmem_lo(vcpus[1]), OFF);

	TEST_ASSERT_OK(set_mp_state(self->vcpu, KVM_MP_STATE_RUNNABLE));
	memset((void *)shmem(), 0xcc, 64);
	be_robbed(NULL, 10);
	/* The call, which userspace should have reset away, once more. */
	vcpu_run(self->vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(self->vcpu, KVM_EXIT_SYSTEM_EVENT);
	for (i = 0; i < 64; i++)
		TEST_ASSERT((u8)((char *)shmem())[i] == 0xcc, "byte %d is written", i);
}

/* differences-from-c N12 */
TEST_F(sta, stopped_hart)
{
	set_shmem(self->vcpu, SHMEM_GPA);
	TEST_ASSERT_OK(set_mp_state(self->vcpu, KVM_MP_STATE_STOPPED));
	check_not_runnable(self->vcpu);
}

/* A hart that starts has not asked for anything yet. */
TEST_F(sta, off_after_start)
{
	set_shmem(vcpus[1], SHMEM_GPA);
	TEST_ASSERT_OK(set_mp_state(vcpus[1], KVM_MP_STATE_STOPPED));
	memcpy(mem, stub_code, sizeof(stub_code));
	assert_sbi(0, self->vcpu, SBI_EXT_HSM, SBI_HSM_START, 1, STUB_GPA, 0);
	memset((void *)shmem(), 0xcc, 64);
	assert_stub(vcpus[1], 1, 0);
	TEST_ASSERT_EQ(shmem()->sequence, 0xcccccccc);
	TEST_ASSERT_EQ(shmem_lo(vcpus[1]), OFF);
	/* That of the other was never on. */
	TEST_ASSERT_EQ(shmem_lo(self->vcpu), OFF);
}

/* The page is dirty when it was written. */
TEST_F(sta, dirty_log)
{
	unsigned long dirty[1];

	vm_set_user_memory_region(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, STUB_GPA, 2 * SIZE_4K, mem);
	kvm_vm_get_dirty_log(vm, 1, dirty);
	set_shmem(self->vcpu, SHMEM_GPA);
	kvm_vm_get_dirty_log(vm, 1, dirty);
	TEST_ASSERT_EQ(dirty[0], 1UL << (SHMEM_GPA - STUB_GPA) / SIZE_4K);
	be_robbed(self->vcpu, 5);
	kvm_vm_get_dirty_log(vm, 1, dirty);
	TEST_ASSERT_EQ(dirty[0], 1UL << (SHMEM_GPA - STUB_GPA) / SIZE_4K);
}

TEST_F(sta, registers)
{
	u64 lo = shmem_lo(self->vcpu), hi = vcpu_get_reg(self->vcpu, SHMEM_HI), val;

	/* What was read can be written, and means the same: off. */
	TEST_ASSERT_EQ(lo, OFF);
	vcpu_set_reg(self->vcpu, SHMEM_LO, lo);
	vcpu_set_reg(self->vcpu, SHMEM_HI, hi);
	TEST_ASSERT_EQ(shmem_lo(self->vcpu), OFF);
	TEST_ASSERT_EQ(vcpu_get_reg(self->vcpu, SHMEM_HI), hi);

	vcpu_set_reg(self->vcpu, SHMEM_HI, 0);
	vcpu_set_reg(self->vcpu, SHMEM_LO, SHMEM_GPA);
	TEST_ASSERT_EQ(shmem_lo(self->vcpu), SHMEM_GPA);
	TEST_ASSERT_EQ(vcpu_get_reg(self->vcpu, SHMEM_HI), 0);
	TEST_ASSERT_ERRNO(__vcpu_set_reg(self->vcpu, SHMEM_LO, SHMEM_GPA + 1), EINVAL);
	TEST_ASSERT_ERRNO(__vcpu_set_reg(self->vcpu, SHMEM_LO, SHMEM_GPA + 32), EINVAL);
	TEST_ASSERT_ERRNO(__vcpu_set_reg(self->vcpu, SHMEM_HI, 1), EINVAL);
	TEST_ASSERT_EQ(shmem_lo(self->vcpu), SHMEM_GPA);

	TEST_ASSERT_ERRNO(__vcpu_get_reg(self->vcpu, STA_REG(2), &val), ENOENT);
	TEST_ASSERT_ERRNO(__vcpu_set_reg(self->vcpu, STA_REG(2), 0), ENOENT);
	val = (SHMEM_LO & ~KVM_REG_SIZE_MASK) | KVM_REG_SIZE_U32;
	TEST_ASSERT_ERRNO(__vcpu_set_reg(self->vcpu, val, 0), EINVAL);
}

/* Steal time's address survives a restore in any order (differences-from-c S4). */
TEST_F(sta, address_survives_a_restore)
{
	vcpu_set_reg(self->vcpu, SHMEM_LO, 0x2280);
	vcpu_set_reg(self->vcpu, SHMEM_HI, 0);
	TEST_ASSERT_EQ(shmem_lo(self->vcpu), 0x2280);
	TEST_ASSERT_EQ(vcpu_get_reg(self->vcpu, SHMEM_HI), 0);
}

/*
 * Userspace that takes away what is behind steal time harms itself alone
 * (differences-from-c S7).
 */
TEST_F(sta, unmapped_quietly)
{
	int kmsg = kmsg_open();

	set_shmem(self->vcpu, SHMEM_GPA);
	mmap(mem, 2 * SIZE_4K, PROT_NONE, MAP_ANON_PRIVATE | MAP_FIXED, -1, 0);
	be_robbed(self->vcpu, 2);
	kmsg_assert_quiet(kmsg);
}

/* differences-from-c S7 */
TEST_F(sta, read_only_quietly)
{
	int kmsg = kmsg_open();

	set_shmem(self->vcpu, SHMEM_GPA);
	mprotect(mem, 2 * SIZE_4K, PROT_READ);
	be_robbed(self->vcpu, 2);
	kmsg_assert_quiet(kmsg);
}

/* So with the slot, and with an address from userspace at which nothing is. */
TEST_F(sta, no_slot)
{
	int kmsg = kmsg_open();

	set_shmem(self->vcpu, SHMEM_GPA);
	vm_set_user_memory_region(vm, 1, 0, STUB_GPA, 0, mem);
	be_robbed(self->vcpu, 2);
	vcpu_set_reg(self->vcpu, SHMEM_LO, NOWHERE_GPA);
	be_robbed(self->vcpu, 2);
	kmsg_assert_quiet(kmsg);
}

TEST_F(sta, unknown_functions)
{
	check_unknown_functions(self->vcpu, SBI_EXT_STA, NR_FUNCTIONS);
	check_id_width(self->vcpu, SBI_EXT_STA);
	TEST_ASSERT_EQ(shmem_lo(self->vcpu), OFF);
}

TEST_F(sta, switched_off)
{
	u64 val;

	/* Its state goes when it is switched off, and is no register till then. */
	vcpu_set_reg(self->vcpu, SHMEM_LO, SHMEM_GPA);
	switch_sbi(self->vcpu, KVM_RISCV_SBI_EXT_STA, 0);
	TEST_ASSERT_ERRNO(__vcpu_get_reg(self->vcpu, SHMEM_LO, &val), EINVAL);
	TEST_ASSERT_ERRNO(__vcpu_set_reg(self->vcpu, SHMEM_LO, SHMEM_GPA), EINVAL);
	switch_sbi(self->vcpu, KVM_RISCV_SBI_EXT_STA, 1);
	TEST_ASSERT_EQ(shmem_lo(self->vcpu), OFF);
	check_switched_off(self->vcpu, KVM_RISCV_SBI_EXT_STA, SBI_EXT_STA, NR_FUNCTIONS);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
