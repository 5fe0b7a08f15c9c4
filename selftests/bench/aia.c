// SPDX-License-Identifier: GPL-2.0
/*
 * Interrupts: wires, MSIs, and what a guest does to take one. The interrupt
 * file is in software, so that every step is KVM's.
 */
#include <sys/eventfd.h>
#include <time.h>

#include "bench.h"

#define ROUNDS		32
#define REPEAT		1000

#define APLIC		0x0d000000UL
#define IMSIC		0x28000000UL

/* Registers of the APLIC. */
#define DOMAINCFG	0x0000
#define SOURCECFG(n)	(0x0000 + (n) * 4)
#define SETIENUM	0x1edc
#define SETIPNUM_LE	0x2000
#define TARGET(n)	(0x3000 + (n) * 4)

#define EDGE1		4
#define LEVEL1		6

/* What they are used for here; the last is a number that no source has. */
#define EDGE		1
#define LEVEL		2
#define ID		7
#define ROUTE		0

static int irqfd;

static void device_set(int fd, u32 group, u64 attr, u64 val)
{
	u32 word = val;

	if (group == KVM_DEV_RISCV_AIA_GRP_ADDR)
		kvm_device_attr_set(fd, group, attr, &val);
	else
		kvm_device_attr_set(fd, group, attr, &word);
}

#define CONFIG(what, val) \
	device_set(fd, KVM_DEV_RISCV_AIA_GRP_CONFIG, KVM_DEV_RISCV_AIA_CONFIG_##what, val)
#define ADDR(what, gpa)	device_set(fd, KVM_DEV_RISCV_AIA_GRP_ADDR, KVM_DEV_RISCV_AIA_ADDR_##what, gpa)

/* A controller with as many sources as the host lets it have. */
static struct kvm_vcpu *aia_vm(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	int fd = kvm_create_device(vm, KVM_DEV_TYPE_RISCV_AIA);
	u32 ids;

	kvm_device_attr_get(fd, KVM_DEV_RISCV_AIA_GRP_CONFIG, KVM_DEV_RISCV_AIA_CONFIG_IDS, &ids);
	CONFIG(MODE, KVM_DEV_RISCV_AIA_MODE_EMUL);
	CONFIG(SRCS, min_t(u32, ids, KVM_DEV_RISCV_AIA_SRCS_MAX - 1));
	ADDR(APLIC, APLIC);
	ADDR(IMSIC(0), IMSIC);
	kvm_device_attr_set(fd, KVM_DEV_RISCV_AIA_GRP_CTRL, KVM_DEV_RISCV_AIA_CTRL_INIT, NULL);
	virt_map(vm, APLIC, APLIC, KVM_DEV_RISCV_APLIC_SIZE / PAGE);
	virt_map(vm, IMSIC, IMSIC, 1);
	close(fd);
	return vcpu;
}

static void aplic_write(u32 offset, u32 val)
{
	WRITE_ONCE(*(u32 *)(APLIC + offset), val);
}

/* Nothing is enabled in the interrupt file: what arrives there stays. */
static void guest_sets_up(u64 n)
{
	aplic_write(DOMAINCFG, 0x100);
	aplic_write(SOURCECFG(EDGE), EDGE1);
	aplic_write(TARGET(EDGE), ID);
	aplic_write(SETIENUM, EDGE);
	aplic_write(SOURCECFG(LEVEL), LEVEL1);
	aplic_write(TARGET(LEVEL), ID);
	aplic_write(SETIENUM, LEVEL);
}

/* As Linux ends the handling of a level-sensitive interrupt. */
static void guest_ends(u64 n)
{
	while (n--)
		aplic_write(SETIPNUM_LE, LEVEL);
}

static void guest_enables(u64 n)
{
	csr_write(CSR_SISELECT, 0xc0);
	csr_write(CSR_SIREG, 1UL << ID);
}

static void guest_sends_and_claims(u64 n)
{
	while (n--) {
		WRITE_ONCE(*(u32 *)IMSIC, ID);
		csr_swap(CSR_STOPEI, 0);
	}
}

static double level_eoi(struct kvm_vcpu *vcpu, u64 n)
{
	return guest_timed(vcpu, guest_ends, n);
}

static double send_and_claim(struct kvm_vcpu *vcpu, u64 n)
{
	return guest_timed(vcpu, guest_sends_and_claims, n);
}

static double edge(struct kvm_vcpu *vcpu, u64 n)
{
	struct kvm_irq_level up = { .irq = EDGE, .level = 1 }, down = { .irq = EDGE };
	u64 i;

	return TIMED(CLOCK_MONOTONIC,
		for (i = 0; i < n; i++) {
			ioctl(vcpu->vm->fd, KVM_IRQ_LINE, &up);
			ioctl(vcpu->vm->fd, KVM_IRQ_LINE, &down);
		}
	);
}

static double msi(struct kvm_vcpu *vcpu, u64 n)
{
	struct kvm_msi msi = { .address_lo = IMSIC, .data = ID };
	u64 i;

	return TIMED(CLOCK_MONOTONIC,
		for (i = 0; i < n; i++)
			ioctl(vcpu->vm->fd, KVM_SIGNAL_MSI, &msi);
	);
}

static double event(struct kvm_vcpu *vcpu, u64 n)
{
	u64 i, one = 1;

	return TIMED(CLOCK_MONOTONIC,
		for (i = 0; i < n; i++)
			TEST_ASSERT_EQ(write(irqfd, &one, sizeof(one)), sizeof(one));
	);
}

/* An irqfd of a device that sends MSIs. */
static void route_irqfd(struct kvm_vm *vm)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entry;
	} routes = {
		.head.nr = 1,
		.entry = {
			.gsi = ROUTE,
			.type = KVM_IRQ_ROUTING_MSI,
			.u.msi = { .address_lo = IMSIC, .data = ID },
		},
	};

	vm_ioctl(vm, KVM_SET_GSI_ROUTING, &routes.head);
	irqfd = kvm_new_eventfd();
	kvm_assign_irqfd(vm, ROUTE, irqfd);
}

void bench_aia(void)
{
	struct kvm_vcpu *vcpu;

	if (!kvm_check_cap(KVM_CAP_IRQCHIP))
		return;
	vcpu = aia_vm();
	guest_does(vcpu, guest_sets_up, 0);
	measure("APLIC: EOI of a level", level_eoi, vcpu, 0, REPEAT, ROUNDS);
	measure("IRQ_LINE: an edge", edge, vcpu, 0, REPEAT, ROUNDS);
	measure("SIGNAL_MSI", msi, vcpu, 0, REPEAT, ROUNDS);
	route_irqfd(vcpu->vm);
	measure("irqfd: an MSI", event, vcpu, 0, REPEAT, ROUNDS);
	kvm_deassign_irqfd(vcpu->vm, ROUTE, irqfd);
	close(irqfd);
	guest_does(vcpu, guest_enables, 0);
	measure("MSI to itself, and claim", send_and_claim, vcpu, 0, REPEAT, ROUNDS);
	kvm_vm_free(vcpu->vm);
}
