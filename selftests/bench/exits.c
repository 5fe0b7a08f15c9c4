// SPDX-License-Identifier: GPL-2.0
/* What is done one at a time: exits, ONE_REG, creation. */
#include <time.h>

#include "bench.h"
#include "sbi.h"

#define SBI_EXT_TIME	0x54494D45
#define SBI_EXT_IPI	0x735049
#define SBI_EXT_RFENCE	0x52464E43

#define ROUNDS		32
#define REPEAT		1000

static inline void ecall(u64 ext, u64 fid, u64 arg0, u64 arg1, u64 arg2, u64 arg3)
{
	register u64 a0 asm("a0") = arg0;
	register u64 a1 asm("a1") = arg1;
	register u64 a2 asm("a2") = arg2;
	register u64 a3 asm("a3") = arg3;
	register u64 a6 asm("a6") = fid;
	register u64 a7 asm("a7") = ext;

	asm volatile("ecall" : "+r"(a0), "+r"(a1) : "r"(a2), "r"(a3), "r"(a6), "r"(a7) : "memory");
}

static void guest_base(u64 n)
{
	while (n--)
		ecall(SBI_EXT_BASE, SBI_EXT_BASE_GET_SPEC_VERSION, 0, 0, 0, 0);
}

static void guest_set_timer(u64 n)
{
	while (n--)
		ecall(SBI_EXT_TIME, 0, -1UL, 0, 0, 0);
}

static void guest_send_ipi(u64 n)
{
	while (n--)
		ecall(SBI_EXT_IPI, 0, 0, 0, 0, 0);
}

static void guest_sfence(u64 n)
{
	while (n--)
		ecall(SBI_EXT_RFENCE, 1, 1, 0, 0, PAGE);
}

static void guest_forward(u64 n)
{
	while (n--)
		ecall(SBI_EXT_EXPERIMENTAL_START, 0, 0, 0, 0, 0);
}

static void guest_mmio_store(u64 n)
{
	while (n--)
		WRITE_ONCE(*(u32 *)MMIO_GVA, 1);
}

static void guest_mmio_load(u64 n)
{
	while (n--)
		READ_ONCE(*(u32 *)MMIO_GVA);
}

/* Handled in the kernel: the guest has the clock. */
static double sbi_base(struct kvm_vcpu *vcpu, u64 n)
{
	return guest_timed(vcpu, guest_base, n);
}

static double sbi_set_timer(struct kvm_vcpu *vcpu, u64 n)
{
	return guest_timed(vcpu, guest_set_timer, n);
}

static double sbi_send_ipi(struct kvm_vcpu *vcpu, u64 n)
{
	return guest_timed(vcpu, guest_send_ipi, n);
}

static double sbi_sfence(struct kvm_vcpu *vcpu, u64 n)
{
	return guest_timed(vcpu, guest_sfence, n);
}

/* Ends KVM_RUN each time: the host has the clock. */
static double to_userspace(struct kvm_vcpu *vcpu, void (*op)(u64), u32 reason, u64 n)
{
	double ns;
	u64 i;

	guest_ask(vcpu, op, n + 1);
	ioctl(vcpu->fd, KVM_RUN, NULL);
	ns = TIMED(CLOCK_MONOTONIC,
		for (i = 0; i < n; i++)
			ioctl(vcpu->fd, KVM_RUN, NULL);
	);
	TEST_ASSERT_EQ(vcpu->run->exit_reason, reason);
	guest_answer(vcpu);
	return ns;
}

static double mmio_store(struct kvm_vcpu *vcpu, u64 n)
{
	return to_userspace(vcpu, guest_mmio_store, KVM_EXIT_MMIO, n);
}

static double mmio_load(struct kvm_vcpu *vcpu, u64 n)
{
	return to_userspace(vcpu, guest_mmio_load, KVM_EXIT_MMIO, n);
}

static double sbi_forward(struct kvm_vcpu *vcpu, u64 n)
{
	return to_userspace(vcpu, guest_forward, KVM_EXIT_RISCV_SBI, n);
}

static double get_pc(struct kvm_vcpu *vcpu, u64 n)
{
	unsigned long pc = 0;
	struct kvm_one_reg reg = {
		.id = RISCV_CORE_REG(regs.pc),
		.addr = (unsigned long)&pc,
	};
	double ns;
	u64 i;

	ns = TIMED(CLOCK_MONOTONIC,
		for (i = 0; i < n; i++)
			ioctl(vcpu->fd, KVM_GET_ONE_REG, &reg);
	);
	TEST_ASSERT(pc, "the guest's pc is 0");
	return ns;
}

static double create(int nr_vcpus)
{
	int kvm = open_kvm_dev_path_or_exit();
	int i, vm, vcpu[4];
	double ns;

	ns = CPU_TIME(
		vm = ioctl(kvm, KVM_CREATE_VM, 0);
		for (i = 0; i < nr_vcpus; i++)
			vcpu[i] = ioctl(vm, KVM_CREATE_VCPU, i);
		for (i = 0; i < nr_vcpus; i++)
			close(vcpu[i]);
		close(vm);
	);
	for (i = 0; i < nr_vcpus; i++)
		TEST_ASSERT(vcpu[i] >= 0, "cannot create vCPU %d", i);
	close(kvm);
	return ns;
}

static double create_1(struct kvm_vcpu *vcpu, u64 n)
{
	return create(1);
}

static double create_4(struct kvm_vcpu *vcpu, u64 n)
{
	return create(4);
}

void bench_exits(struct kvm_vcpu *vcpu)
{
	measure("SBI base ecall", sbi_base, vcpu, 0, REPEAT, ROUNDS);
	measure("SBI set_timer", sbi_set_timer, vcpu, 0, REPEAT, ROUNDS);
	measure("SBI send_ipi, no target", sbi_send_ipi, vcpu, 0, REPEAT, ROUNDS);
	measure("SBI remote_sfence_vma, self", sbi_sfence, vcpu, 0, REPEAT, ROUNDS);
	measure("MMIO store to userspace", mmio_store, vcpu, 0, REPEAT / 2, ROUNDS);
	measure("MMIO load from userspace", mmio_load, vcpu, 0, REPEAT / 2, ROUNDS);
	measure("SBI call to userspace", sbi_forward, vcpu, 0, REPEAT / 2, ROUNDS);
	measure("ONE_REG get pc", get_pc, vcpu, 0, REPEAT, ROUNDS);
	measure("VM and vCPU, create and destroy", create_1, vcpu, 0, 1, ROUNDS);
	measure("VM and 4 vCPUs, create and destroy", create_4, vcpu, 0, 1, ROUNDS);
}
