// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: S13, N37 */
/* covers: aia/device.rs aia/aplic.rs aia/imsic.rs vcpu/onereg/state.rs */
/*
 * The interrupt controller moves to another VM with its guest: all of its state
 * is in the device's attributes and in registers of the vCPUs, and no interrupt
 * is lost or made up on the way.
 */
#include "kvm_rs_aia.h"

#define VCPUS	2
#define SOURCES	63
#define WIRE	9
#define ROUNDS	40

/* What a vCPU can have in one register: a vector of 2048 bits. */
#define REG_SIZE 256

struct machine {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[VCPUS];
	struct aia_runner runners[VCPUS];
	int fd;
};

static void machine_create(struct machine *m, u32 mode)
{
	int i;

	m->vm = vm_create_with_vcpus(VCPUS, aia_guest_sleeper, m->vcpus);
	m->fd = aia_create(m->vm, mode, SOURCES);
	aia_map(m->vm);
	vm_init_vector_tables(m->vm);
	for (i = 0; i < VCPUS; i++)
		vcpu_init_vector_tables(m->vcpus[i]);
	vm_install_interrupt_handler(m->vm, aia_irq_handler);
}

static void machine_free(struct machine *m)
{
	close(m->fd);
	kvm_vm_free(m->vm);
}

static void machine_start(struct machine *m)
{
	int i;

	for (i = 0; i < VCPUS; i++)
		aia_start(&m->runners[i], m->vcpus[i]);
}

static void machine_stop(struct machine *m)
{
	int i;

	for (i = 0; i < VCPUS; i++)
		aia_stop(&m->runners[i]);
}

static void copy_aplic(struct machine *to, struct machine *from)
{
	u64 offset = 0;

	do {
		aia_set(to->fd, APLIC, offset, aia_get(from->fd, APLIC, offset));
	} while ((offset = aplic_next(offset, SOURCES)));
}

static void assert_same_aplic(struct machine *a, struct machine *b)
{
	u64 offset = 0;

	do {
		u64 want = aia_get(a->fd, APLIC, offset);
		u64 got = aia_get(b->fd, APLIC, offset);

		TEST_ASSERT(want == got, "offset 0x%lx: 0x%lx is now 0x%lx", (unsigned long)offset,
			    (unsigned long)want, (unsigned long)got);
	} while ((offset = aplic_next(offset, SOURCES)));
}

static void for_each_file_register(struct machine *to, struct machine *from, bool compare)
{
	u32 ids = aia_get(from->fd, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_IDS);
	int v, n, i;

	for (v = 0; v < VCPUS; v++) {
		u64 regs[2 + 2 * 64];
		int count = 0;

		regs[count++] = IMSIC_EITHRESHOLD;
		for (n = 0; n <= ids / 32; n += 2) {
			regs[count++] = IMSIC_EIE(n);
			regs[count++] = IMSIC_EIP(n);
		}
		regs[count++] = IMSIC_EIDELIVERY;
		for (i = 0; i < count; i++) {
			u64 value = aia_file_get(from->fd, v, regs[i]);

			if (compare)
				TEST_ASSERT(aia_file_get(to->fd, v, regs[i]) == value,
					    "vCPU %d register 0x%lx", v, (unsigned long)regs[i]);
			else
				aia_file_set(to->fd, v, regs[i], value);
		}
	}
}

static void copy_vcpu(struct kvm_vcpu *to, struct kvm_vcpu *from)
{
	struct kvm_reg_list *list = vcpu_get_reg_list(from);
	u8 value[REG_SIZE] __aligned(8);
	struct kvm_mp_state state;
	struct kvm_one_reg reg;
	u64 i;

	for (i = 0; i < list->n; i++) {
		reg.id = list->reg[i];
		reg.addr = (u64)value;
		vcpu_ioctl(from, KVM_GET_ONE_REG, &reg);
		TEST_ASSERT(!__vcpu_ioctl(to, KVM_SET_ONE_REG, &reg), "register 0x%lx: %s",
			    (unsigned long)reg.id, strerror(errno));
	}
	free(list);
	vcpu_ioctl(from, KVM_GET_MP_STATE, &state);
	vcpu_ioctl(to, KVM_SET_MP_STATE, &state);
}

static void copy_memory(struct kvm_vm *to, struct kvm_vm *from)
{
	struct userspace_mem_region *a = memslot2region(from, 0), *b = memslot2region(to, 0);

	TEST_ASSERT_EQ(a->region.memory_size, b->region.memory_size);
	memcpy(b->host_mem, a->host_mem, a->region.memory_size);
}

/* All of @from, which is stopped, to @to, which is fresh. */
static void copy_machine(struct machine *to, struct machine *from)
{
	int i;

	copy_memory(to->vm, from->vm);
	for_each_file_register(to, from, false);
	copy_aplic(to, from);
	for (i = 0; i < VCPUS; i++)
		copy_vcpu(to->vcpus[i], from->vcpus[i]);
}

FIXTURE(aia)
{
	struct machine from, to;
};

FIXTURE_VARIANT(aia)
{
	u32 mode;
};

FIXTURE_VARIANT_ADD(aia, software) { .mode = KVM_DEV_RISCV_AIA_MODE_EMUL };
FIXTURE_VARIANT_ADD(aia, automatic) { .mode = KVM_DEV_RISCV_AIA_MODE_AUTO };

FIXTURE_SETUP(aia)
{
	struct kvm_vm *vm;
	int fd;

	if (!aia_is_there())
		SKIP(return, "no in-kernel irqchip");
	vm = vm_create(1);
	fd = kvm_create_device(vm, KVM_DEV_TYPE_RISCV_AIA);
	if (variant->mode != KVM_DEV_RISCV_AIA_MODE_EMUL &&
	    aia_get(fd, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_MODE) == KVM_DEV_RISCV_AIA_MODE_EMUL)
		SKIP(return, "no interrupt files for guests on this host");
	close(fd);
	kvm_vm_free(vm);
	machine_create(&self->from, variant->mode);
}

FIXTURE_TEARDOWN(aia)
{
	machine_free(&self->from);
}

/* State that only sits there comes back as it was (differences-from-c S13). */
TEST_F(aia, state_at_rest)
{
	static const u32 modes[] = {
		APLIC_INACTIVE, APLIC_DETACHED, APLIC_EDGE1, APLIC_EDGE0, APLIC_LEVEL1, APLIC_LEVEL0,
	};
	int i, fd = self->from.fd;

	for (i = 1; i <= SOURCES; i++) {
		aia_set(fd, APLIC, APLIC_SOURCECFG(i), modes[i % ARRAY_SIZE(modes)]);
		aia_set(fd, APLIC, APLIC_TARGET(i), APLIC_TO(i & 1, i));
		TEST_ASSERT_OK(aia_line(self->from.vm, i, i >> 1 & 1));
	}
	/* Half of them are pending, others enabled, and the domain is off. */
	aia_set(fd, APLIC, APLIC_SETIE(0), 0x33333333);
	aia_set(fd, APLIC, APLIC_SETIE(1), 0xcccccccc);
	for (i = 0; i < VCPUS; i++) {
		aia_file_set(fd, i, IMSIC_EIE(0), 0xf0f0UL << i);
		aia_file_set(fd, i, IMSIC_EIP(0), 0xff0000UL << i);
		aia_file_set(fd, i, IMSIC_EITHRESHOLD, 7 + i);
		aia_file_set(fd, i, IMSIC_EIDELIVERY, i);
	}
	machine_create(&self->to, variant->mode);
	copy_machine(&self->to, &self->from);
	assert_same_aplic(&self->from, &self->to);
	for_each_file_register(&self->to, &self->from, true);
	machine_free(&self->to);
}

/* The last MSI that was made with genmsi is not made again (differences-from-c S13). */
TEST_F(aia, genmsi_is_restored_without_a_message)
{
	machine_create(&self->to, variant->mode);
	aia_set(self->to.fd, APLIC, APLIC_DOMAINCFG, APLIC_IE);
	aia_set(self->to.fd, APLIC, APLIC_GENMSI, APLIC_TO(1, 5));
	TEST_ASSERT_EQ(aia_get(self->to.fd, APLIC, APLIC_GENMSI), APLIC_TO(1, 5));
	TEST_ASSERT_EQ(aia_file_get(self->to.fd, 1, IMSIC_EIP(0)), 0);
	machine_free(&self->to);
}

static void guest_waits(void)
{
	csr_set(CSR_SIE, IP_SEIP);
	csr_set(CSR_SSTATUS, SR_SIE);
	for (;;)
		asm volatile("wfi" : : : "memory");
}

/*
 * Files that are restored before sip decide what is pending, whatever sip says
 * (differences-from-c N37).
 */
TEST_F(aia, external_interrupts_are_the_files)
{
	struct kvm_vcpu *vcpu = self->from.vcpus[0];
	volatile u64 *taken = aia_taken_of(self->from.vm);
	int fd = self->from.fd;

	vcpu_arch_set_entry_point(vcpu, guest_waits);
	aia_file_set(fd, 0, IMSIC_EIE(0), 1 << 5);
	aia_file_set(fd, 0, IMSIC_EIDELIVERY, 1);
	vcpu_set_reg(vcpu, RISCV_GENERAL_CSR_REG(sip), IP_SEIP);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(sip)) & IP_SEIP, 0);

	aia_file_set(fd, 0, IMSIC_EIP(0), 1 << 5);
	vcpu_set_reg(vcpu, RISCV_GENERAL_CSR_REG(sip), 0);
	aia_start(&self->from.runners[0], vcpu);
	TEST_ASSERT(eventually_within(DEFECT_MS, taken[5]), "it is lost");
	aia_stop(&self->from.runners[0]);
	TEST_ASSERT_EQ(taken[5], 1);
}

/*
 * In the midst of traffic. An identity is sent again once the guest took it, so
 * that the guest must count as many as were sent.
 */
TEST_F(aia, no_interrupt_is_lost)
{
	u64 sent[VCPUS * 16] = {};
	int round, i, v;
	volatile u64 *taken;
	struct machine *m;

	for (v = 0; v < VCPUS; v++)
		aia_file_set(self->from.fd, v, IMSIC_EIDELIVERY, 0);
	aia_set(self->from.fd, APLIC, APLIC_SOURCECFG(WIRE), APLIC_EDGE1);
	aia_set(self->from.fd, APLIC, APLIC_TARGET(WIRE), APLIC_TO(0, 63));
	aia_set(self->from.fd, APLIC, APLIC_SETIE(0), 1 << WIRE);
	aia_set(self->from.fd, APLIC, APLIC_DOMAINCFG, APLIC_IE);
	machine_start(&self->from);
	taken = aia_taken_of(self->from.vm);
	for (round = 0; round < ROUNDS; round++) {
		u64 wired = taken[63];

		/* Both vCPUs have identities of their own. */
		for (i = 1; i < ARRAY_SIZE(sent); i++) {
			if (taken[i] != sent[i])
				continue;
			TEST_ASSERT(aia_signal_msi(self->from.vm, AIA_IMSIC(i % VCPUS), i) >= 0,
				    "KVM_SIGNAL_MSI: %s", strerror(errno));
			sent[i]++;
		}
		TEST_ASSERT_OK(aia_line(self->from.vm, WIRE, 1));
		TEST_ASSERT_OK(aia_line(self->from.vm, WIRE, 0));
		m = &self->from;
		if (round % 4 != 3) {
			usleep(round * 20);
			continue;
		}
		machine_stop(m);
		machine_create(&self->to, variant->mode);
		copy_machine(&self->to, &self->from);
		machine_free(&self->from);
		self->from = self->to;
		machine_start(&self->from);
		taken = aia_taken_of(self->from.vm);
		for (i = 1; i < ARRAY_SIZE(sent); i++)
			TEST_ASSERT(eventually(taken[i] == sent[i]),
				    "round %d: identity %d: %lu sent, %lu taken", round, i,
				    (unsigned long)sent[i], (unsigned long)taken[i]);
		TEST_ASSERT(eventually(taken[63] > wired), "round %d: no edge came", round);
	}
	machine_stop(&self->from);
	for (i = 1; i < ARRAY_SIZE(sent); i++)
		TEST_ASSERT_EQ(taken[i], sent[i]);
}

TEST_HARNESS_MAIN
