/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The in-kernel interrupt controller, for tests: making one, its registers
 * from the inside (guest) and from the outside (device attributes).
 */
#ifndef SELFTEST_KVM_RS_AIA_H
#define SELFTEST_KVM_RS_AIA_H

#include <pthread.h>
#include <signal.h>

#include "kvm_rs_util.h"

#define AIA_APLIC_GPA		0x0d000000UL
#define AIA_IMSIC_GPA		0x28000000UL
#define AIA_NOWHERE		(~0UL)

/* How addresses name interrupt files in VMs of aia_create(). */
#define AIA_HART_BITS		3
#define AIA_IMSIC(vcpu)		(AIA_IMSIC_GPA + (vcpu) * SIZE_4K)

/* Registers of an interrupt file, by their numbers for siselect. */
#define IMSIC_EIDELIVERY	0x70
#define IMSIC_EITHRESHOLD	0x72
#define IMSIC_EIP(n)		(0x80 + (n))
#define IMSIC_EIE(n)		(0xc0 + (n))

/* Registers of the APLIC, by their offsets. */
#define APLIC_DOMAINCFG		0x0000
#define APLIC_SOURCECFG(n)	(0x0004 + ((n) - 1) * 4)
#define APLIC_MMSIADDRCFG	0x1bc0
#define APLIC_SETIP(n)		(0x1c00 + (n) * 4)
#define APLIC_SETIPNUM		0x1cdc
#define APLIC_IN_CLRIP(n)	(0x1d00 + (n) * 4)
#define APLIC_CLRIPNUM		0x1ddc
#define APLIC_SETIE(n)		(0x1e00 + (n) * 4)
#define APLIC_SETIENUM		0x1edc
#define APLIC_CLRIE(n)		(0x1f00 + (n) * 4)
#define APLIC_CLRIENUM		0x1fdc
#define APLIC_SETIPNUM_LE	0x2000
#define APLIC_SETIPNUM_BE	0x2004
#define APLIC_GENMSI		0x3000
#define APLIC_TARGET(n)		(0x3004 + ((n) - 1) * 4)

#define APLIC_IE		0x100
#define APLIC_DOMAINCFG_FIXED	0x80000004	/* reads so, besides IE */

#define APLIC_INACTIVE		0
#define APLIC_DETACHED		1
#define APLIC_EDGE1		4
#define APLIC_EDGE0		5
#define APLIC_LEVEL1		6
#define APLIC_LEVEL0		7

#define APLIC_TO(vcpu, id)	((u32)(vcpu) << 18 | (id))

#define CSR_SISELECT_NR		0x150
#define CSR_SIREG_NR		0x151
#define CSR_STOPEI_NR		0x15c
#define CSR_STOPI_NR		0xdb0

/* From the outside. */

static __maybe_unused bool aia_is_there(void)
{
	return kvm_check_cap(KVM_CAP_IRQCHIP);
}

static __maybe_unused int __aia_set(int fd, u32 group, u64 attr, u64 value)
{
	u32 word = value;

	if (group == KVM_DEV_RISCV_AIA_GRP_CONFIG || group == KVM_DEV_RISCV_AIA_GRP_APLIC)
		return __kvm_device_attr_set(fd, group, attr, &word);
	return __kvm_device_attr_set(fd, group, attr, &value);
}

static __maybe_unused int __aia_get(int fd, u32 group, u64 attr, u64 *value)
{
	u32 word = 0x5a5a5a5a;
	int ret;

	if (group != KVM_DEV_RISCV_AIA_GRP_CONFIG && group != KVM_DEV_RISCV_AIA_GRP_APLIC)
		return __kvm_device_attr_get(fd, group, attr, value);
	ret = __kvm_device_attr_get(fd, group, attr, &word);
	*value = word;
	return ret;
}

#define aia_set(fd, group, attr, value) \
	TEST_ASSERT_OK(__aia_set(fd, KVM_DEV_RISCV_AIA_GRP_##group, attr, value))

#define aia_get(fd, group, attr)						\
({										\
	u64 __value;								\
										\
	TEST_ASSERT_OK(__aia_get(fd, KVM_DEV_RISCV_AIA_GRP_##group, attr, &__value)); \
	__value;								\
})

static __maybe_unused u64 aia_imsic_attr(u64 vcpu_id, u64 isel)
{
	return vcpu_id << KVM_DEV_RISCV_AIA_IMSIC_ISEL_BITS | isel;
}

/* A register of an interrupt file. */
#define aia_file_get(fd, vcpu_id, isel)		aia_get(fd, IMSIC, aia_imsic_attr(vcpu_id, isel))
#define aia_file_set(fd, vcpu_id, isel, value)	aia_set(fd, IMSIC, aia_imsic_attr(vcpu_id, isel), value)

/* Configures all of the device, up to but without INIT; vCPU i is hart index i. */
static __maybe_unused void aia_configure(struct kvm_vm *vm, int fd, u32 mode, u32 sources)
{
	struct kvm_vcpu *vcpu;

	aia_set(fd, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_MODE, mode);
	aia_set(fd, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_SRCS, sources);
	aia_set(fd, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_HART_BITS, AIA_HART_BITS);
	aia_set(fd, ADDR, KVM_DEV_RISCV_AIA_ADDR_APLIC, AIA_APLIC_GPA);
	list_for_each_entry(vcpu, &vm->vcpus, list)
		aia_set(fd, ADDR, KVM_DEV_RISCV_AIA_ADDR_IMSIC(vcpu->id), AIA_IMSIC(vcpu->id));
}

static __maybe_unused int __aia_init(int fd)
{
	return __kvm_device_attr_set(fd, KVM_DEV_RISCV_AIA_GRP_CTRL, KVM_DEV_RISCV_AIA_CTRL_INIT,
				     NULL);
}

/* A complete controller for the vCPUs that @vm has; the device's file. */
static __maybe_unused int aia_create(struct kvm_vm *vm, u32 mode, u32 sources)
{
	int fd = kvm_create_device(vm, KVM_DEV_TYPE_RISCV_AIA);

	aia_configure(vm, fd, mode, sources);
	TEST_ASSERT_OK(__aia_init(fd));
	return fd;
}

/* The same pages for the guest, at the same virtual addresses. */
static __maybe_unused void aia_map(struct kvm_vm *vm)
{
	struct kvm_vcpu *vcpu;

	virt_map(vm, AIA_APLIC_GPA, AIA_APLIC_GPA, KVM_DEV_RISCV_APLIC_SIZE / SIZE_4K);
	list_for_each_entry(vcpu, &vm->vcpus, list)
		virt_map(vm, AIA_IMSIC(vcpu->id), AIA_IMSIC(vcpu->id), 1);
}

static __maybe_unused int aia_signal_msi(struct kvm_vm *vm, u64 gpa, u32 data)
{
	struct kvm_msi msi = {
		.address_lo = gpa,
		.address_hi = gpa >> 32,
		.data = data,
	};

	return __vm_ioctl(vm, KVM_SIGNAL_MSI, &msi);
}

static __maybe_unused int aia_line(struct kvm_vm *vm, u32 source, int level)
{
	return _kvm_irq_line(vm, source, level);
}

/* Every offset of the APLIC at which there is state, in order; 0 after the last. */
static __maybe_unused u64 aplic_next(u64 offset, u32 sources)
{
	const struct {
		u64 first, last;
	} ranges[] = {
		{ APLIC_DOMAINCFG, APLIC_DOMAINCFG },
		{ APLIC_SOURCECFG(1), APLIC_SOURCECFG(sources) },
		{ APLIC_SETIP(0), APLIC_SETIP(sources / 32) },
		{ APLIC_IN_CLRIP(0), APLIC_IN_CLRIP(sources / 32) },
		{ APLIC_SETIE(0), APLIC_SETIE(sources / 32) },
		{ APLIC_GENMSI, APLIC_GENMSI },
		{ APLIC_TARGET(1), APLIC_TARGET(sources) },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		if (offset < ranges[i].first)
			return ranges[i].first;
		if (offset < ranges[i].last)
			return offset + 4;
	}
	return 0;
}

/* From the inside. */

#define imsic_read(isel)							\
({										\
	csr_write(CSR_SISELECT_NR, isel);					\
	csr_read(CSR_SIREG_NR);							\
})

#define imsic_write(isel, value)						\
do {										\
	csr_write(CSR_SISELECT_NR, isel);					\
	csr_write(CSR_SIREG_NR, value);						\
} while (0)

/* The identity of the interrupt that comes first, which is no longer pending; or 0. */
#define imsic_claim()	(csr_swap(CSR_STOPEI_NR, 0) >> 16)

/* The file delivers all identities below 64. */
static __maybe_unused void imsic_open(void)
{
	imsic_write(IMSIC_EITHRESHOLD, 0);
	imsic_write(IMSIC_EIE(0), ~0UL);
	imsic_write(IMSIC_EIDELIVERY, 1);
}

static __maybe_unused u32 aplic_read(u32 offset)
{
	return READ_ONCE(*(u32 *)(AIA_APLIC_GPA + offset));
}

static __maybe_unused void aplic_write(u32 offset, u32 value)
{
	WRITE_ONCE(*(u32 *)(AIA_APLIC_GPA + offset), value);
}

/* How often the guest took each identity; guest memory, every VM has its own. */
static volatile u64 aia_taken[64] __maybe_unused;

/* For vm_install_interrupt_handler(): takes all there is, as Linux does. */
static __maybe_unused void aia_irq_handler(struct pt_regs *regs)
{
	unsigned long id;

	while ((id = imsic_claim()))
		aia_taken[id & 63]++;
}

/* A guest that sleeps between interrupts, for ever. */
static __maybe_unused void aia_guest_sleeper(void)
{
	imsic_open();
	csr_set(CSR_SIE, IP_SEIP);
	csr_set(CSR_SSTATUS, SR_SIE);
	for (;;)
		asm volatile("wfi" : : : "memory");
}

/* The same without sleep. */
static __maybe_unused void aia_guest_spinner(void)
{
	imsic_open();
	csr_set(CSR_SIE, IP_SEIP);
	csr_set(CSR_SSTATUS, SR_SIE);
	for (;;)
		cpu_relax();
}

static __maybe_unused volatile u64 *aia_taken_of(struct kvm_vm *vm)
{
	return addr_gva2hva(vm, (gva_t)aia_taken);
}

/* A thread that runs a vCPU until it is stopped. */
struct aia_runner {
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	volatile bool stop;
};

static __maybe_unused void aia_nothing(int sig)
{
}

static __maybe_unused void *aia_run(void *arg)
{
	struct aia_runner *runner = arg;
	int ret;

	while (!runner->stop) {
		ret = __vcpu_run(runner->vcpu);
		TEST_ASSERT(!ret || errno == EINTR, "KVM_RUN: %s", strerror(errno));
		TEST_ASSERT(ret || runner->stop, "exit %u (%s)", runner->vcpu->run->exit_reason,
			    exit_reason_str(runner->vcpu->run->exit_reason));
	}
	return NULL;
}

static __maybe_unused void aia_start(struct aia_runner *runner, struct kvm_vcpu *vcpu)
{
	struct sigaction sa = { .sa_handler = aia_nothing };

	sigaction(SIGUSR1, &sa, NULL);
	runner->vcpu = vcpu;
	runner->stop = false;
	vcpu->run->immediate_exit = 0;
	TEST_ASSERT_EQ(pthread_create(&runner->thread, NULL, aia_run, runner), 0);
}

static __maybe_unused void aia_stop(struct aia_runner *runner)
{
	runner->stop = true;
	runner->vcpu->run->immediate_exit = 1;
	pthread_kill(runner->thread, SIGUSR1);
	pthread_join(runner->thread, NULL);
	runner->vcpu->run->immediate_exit = 0;
}

#endif /* SELFTEST_KVM_RS_AIA_H */
