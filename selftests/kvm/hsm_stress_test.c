// SPDX-License-Identifier: GPL-2.0
/* on-c: varies: M8, M16 */
/* covers: vcpu/mp_state.rs sbi/hsm.rs run/reset.rs mmu/tlb.rs */
/*
 * Harts that start and stop while others fence them and interrupt them, and
 * that hold counters when they do.  On a kernel with DEBUG_ATOMIC_SLEEP the C
 * module is seen to sleep in atomic context here (M16); its queue of fences is
 * reset without its lock (M8).
 */
#include "kvm_rs_util.h"

#define STUB_GPA	0x20000000UL
#define NR_VCPUS	3
#define RUN_MS		1500

/* In the guest: how often hart 0 started another, and was told it runs. */
static u64 stop, started, running;

/* A hart without translation: takes a counter of cycles, then stops. */
asm(".pushsection .text\n"
	"stub:\n"
	"li a0, 0\nli a1, 1\nli a2, 4\nli a3, 1\nli a4, 0\nli a5, 0\n"
	"li a6, 2\nli a7, 0x504d55\necall\n"
	"li a6, 1\nli a7, 0x48534d\necall\n"
	"j .\n"
	"stub_end:\n"
	".popsection\n");
extern const char stub[], stub_end[];

static void guest_starter(void)
{
	struct sbiret ret;
	u64 i;

	for (i = 0; !READ_ONCE(stop); i++) {
		ret = sbi_ecall(SBI_EXT_HSM, SBI_HSM_START, 1 + i % (NR_VCPUS - 1), STUB_GPA, i,
				0, 0, 0);
		if (!ret.error)
			WRITE_ONCE(started, started + 1);
		else if (ret.error == SBI_ERR_ALREADY_AVAILABLE)
			running++;
		else
			GUEST_FAIL("hart_start: %ld", ret.error);
		ret = sbi_ecall(SBI_EXT_RFENCE, i % 3, 0, -1UL, i * SIZE_4K, SIZE_4K, 0, 0);
		GUEST_ASSERT_EQ(ret.error, 0L);
		ret = sbi_ecall(SBI_EXT_IPI, 0, 6, 0, 0, 0, 0, 0);
		GUEST_ASSERT_EQ(ret.error, 0L);
	}
	GUEST_DONE();
}

static void ignore(int sig)
{
}

static bool all_done;

static void *secondary_thread(void *vcpu)
{
	while (!READ_ONCE(all_done)) {
		if (!__vcpu_run(vcpu))
			TEST_FAIL("a secondary hart left for userspace: exit %d",
				  ((struct kvm_vcpu *)vcpu)->run->exit_reason);
		TEST_ASSERT(errno == EINTR, "KVM_RUN: %s", strerror(errno));
	}
	return NULL;
}

static void *boot_thread(void *vcpu)
{
	run_to_done(vcpu);
	return NULL;
}

TEST(start_stop_fence)
{
	struct kvm_mp_state off = { .mp_state = KVM_MP_STATE_STOPPED };
	struct sigaction sa = { .sa_handler = ignore };
	struct kvm_vcpu *vcpus[NR_VCPUS];
	pthread_t threads[NR_VCPUS];
	int kmsg = kmsg_open(), i;
	struct kvm_vm *vm;
	u64 *now_started;
	void *mem;

	sigaction(SIGUSR1, &sa, NULL);
	vm = vm_create_with_vcpus(NR_VCPUS, guest_starter, vcpus);
	mem = mmap_at(SIZE_4K, SIZE_4K, 0, MAP_ANON_PRIVATE, -1);
	memcpy(mem, stub, stub_end - stub);
	vm_set_user_memory_region(vm, 1, 0, STUB_GPA, SIZE_4K, mem);

	for (i = 1; i < NR_VCPUS; i++) {
		vcpu_mp_state_set(vcpus[i], &off);
		pthread_create(&threads[i], NULL, secondary_thread, vcpus[i]);
	}
	pthread_create(&threads[0], NULL, boot_thread, vcpus[0]);
	usleep(RUN_MS * 1000);
	now_started = addr_gva2hva(vm, (gva_t)&started);
	TEST_ASSERT(eventually(READ_ONCE(*now_started) > 1), "%lu starts",
		    (unsigned long)*now_started);
	write_guest_global(vm, stop, 1);
	pthread_join(threads[0], NULL);
	WRITE_ONCE(all_done, true);
	for (i = 1; i < NR_VCPUS; i++) {
		/* A signal between the check and KVM_RUN would be lost. */
		vcpus[i]->run->immediate_exit = 1;
		pthread_kill(threads[i], SIGUSR1);
		pthread_join(threads[i], NULL);
	}

	sync_global_from_guest(vm, started);
	sync_global_from_guest(vm, running);
	TH_LOG("%lu starts, %lu too early", (unsigned long)started, (unsigned long)running);
	kmsg_assert_quiet(kmsg);
}

/* Userspace resets a vCPU that holds a counter. */
TEST(reset_with_counter)
{
	struct kvm_mp_state init = { .mp_state = KVM_MP_STATE_INIT_RECEIVED };
	int kmsg = kmsg_open(), i;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	for (i = 0; i < 4; i++) {
		vm = vm_create_with_one_vcpu(&vcpu, guest_sbi_server);
		vm_enable_cap(vm, KVM_CAP_RISCV_MP_STATE_RESET, 0);
		vcpu_sbi(vcpu, SBI_EXT_PMU, SBI_EXT_PMU_COUNTER_CFG_MATCH, 0, 1,
			 SBI_PMU_CFG_FLAG_AUTO_START, SBI_PMU_HW_CPU_CYCLES, 0);
		vcpu_mp_state_set(vcpu, &init);
		TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(satp)), 0);
		kvm_vm_free(vm);
	}
	kmsg_assert_quiet(kmsg);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
