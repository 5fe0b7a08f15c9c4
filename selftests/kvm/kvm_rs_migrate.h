/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Saving a VM and restoring it in another process, by ioctls alone, the way a
 * VMM does it.
 *
 * Saved: with all vCPUs out of KVM_RUN, and exits that are to be completed
 * completed (immediate_exit): KVM_GET_MP_STATE, KVM_GET_REG_LIST, all registers
 * that it names, memory, and of the interrupt controller what its attributes
 * give: the APLIC's registers and those of each interrupt file.
 *
 * Restored, in this order, on a VM that was made alike:
 *
 *  1. memory;
 *  2. of each vCPU the registers that say what it is: CONFIG, ISA_EXT, SBI_EXT.
 *     They decide which other registers there are;
 *  3. the APLIC, then the interrupt files. An MSI that the APLIC makes while it
 *     gets its registers is one that the file then has, or had, anyway;
 *  4. the vCPU's other registers, in the order of the list or from its end;
 *  5. KVM_SET_MP_STATE.
 *
 * The time of the guest is one register, although each vCPU has it: vCPU 0's is
 * restored, first or last as its list has it, the others' are not, since that
 * would turn back time. All registers read back as they were saved, but
 *
 *  - timer.time, which goes on: it is not less than vCPU 0's was;
 *  - sip.STIP, which under Sstc is a function of time, and sip.SEIP, which is one
 *    of the interrupt file and tells while that is in software.
 */
#ifndef SELFTEST_KVM_RS_MIGRATE_H
#define SELFTEST_KVM_RS_MIGRATE_H

#include "kvm_rs_aia.h"

#define MIG_VCPUS	3
#define MIG_SOURCES	40
#define MIG_MEMORY	(16UL << 20)
#define MIG_REGS	768
#define MIG_REG_SIZE	256
#define MIG_APLIC	256
#define MIG_FILE	8

struct mig_reg {
	u64 id;
	u8 value[MIG_REG_SIZE];
};

struct mig_vcpu {
	u32 mp_state;
	u64 n;
	struct mig_reg regs[MIG_REGS];
	u64 file[MIG_FILE];
};

/* All of a VM. It lies in memory that processes share: our wire. */
struct mig_image {
	bool full;
	struct mig_vcpu vcpus[MIG_VCPUS];
	u32 aplic[MIG_APLIC];
	u64 memory_size;
	u8 memory[MIG_MEMORY];
};

struct mig_machine {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[MIG_VCPUS];
	/* The interrupt controller, or -1. */
	int aia;
};

/* In which order registers are restored. */
enum mig_order {
	MIG_LIST_ORDER,
	MIG_REVERSE,
	/* To be added: not timer.state, where the timer is off. */
	MIG_NO_TIMER_OFF,
};

/* What each interrupt file is asked for, in the order in which it is set. */
static const u64 mig_file_regs[MIG_FILE] __maybe_unused = {
	IMSIC_EITHRESHOLD, IMSIC_EIE(0), IMSIC_EIP(0), IMSIC_EIDELIVERY,
};

static __maybe_unused u64 mig_type(u64 id)
{
	return id & KVM_REG_RISCV_TYPE_MASK;
}

/* Whether the register is one of those that decide what the vCPU is. */
static __maybe_unused bool mig_is_config(u64 id)
{
	return mig_type(id) == KVM_REG_RISCV_CONFIG || mig_type(id) == KVM_REG_RISCV_ISA_EXT ||
	       mig_type(id) == KVM_REG_RISCV_SBI_EXT;
}

static __maybe_unused void mig_save_vcpu(struct mig_vcpu *to, struct kvm_vcpu *vcpu)
{
	struct kvm_reg_list *list = vcpu_get_reg_list(vcpu);
	struct kvm_mp_state mp;
	struct kvm_one_reg reg;
	u64 i;

	vcpu_ioctl(vcpu, KVM_GET_MP_STATE, &mp);
	to->mp_state = mp.mp_state;
	to->n = list->n;
	TEST_ASSERT(to->n <= MIG_REGS, "%lu registers", (unsigned long)to->n);
	for (i = 0; i < list->n; i++) {
		u64 size = 1UL << ((list->reg[i] & KVM_REG_SIZE_MASK) >> KVM_REG_SIZE_SHIFT);

		TEST_ASSERT(size <= MIG_REG_SIZE, "register 0x%lx is too big",
			    (unsigned long)list->reg[i]);
		to->regs[i].id = list->reg[i];
		memset(to->regs[i].value, 0, MIG_REG_SIZE);
		reg.id = list->reg[i];
		reg.addr = (u64)to->regs[i].value;
		vcpu_ioctl(vcpu, KVM_GET_ONE_REG, &reg);
	}
	free(list);
}

static __maybe_unused void mig_save_aia(struct mig_image *to, struct mig_machine *m)
{
	u64 offset = 0;
	int v, i = 0;

	do {
		TEST_ASSERT(i < MIG_APLIC, "the APLIC is too big");
		to->aplic[i++] = aia_get(m->aia, APLIC, offset);
	} while ((offset = aplic_next(offset, MIG_SOURCES)));
	for (v = 0; v < MIG_VCPUS; v++)
		for (i = 0; i < MIG_FILE && mig_file_regs[i]; i++)
			to->vcpus[v].file[i] = aia_file_get(m->aia, v, mig_file_regs[i]);
}

/* Saves all but memory of @m, whose vCPUs do not run. */
static __maybe_unused void mig_save_state(struct mig_image *to, struct mig_machine *m)
{
	int v;

	for (v = 0; v < MIG_VCPUS; v++)
		mig_save_vcpu(&to->vcpus[v], m->vcpus[v]);
	if (m->aia >= 0)
		mig_save_aia(to, m);
}

/* Saves @m, whose vCPUs do not run. */
static __maybe_unused void mig_save(struct mig_image *to, struct mig_machine *m)
{
	struct userspace_mem_region *slot = memslot2region(m->vm, 0);

	mig_save_state(to, m);
	to->memory_size = slot->region.memory_size;
	TEST_ASSERT(to->memory_size <= MIG_MEMORY, "0x%lx bytes of memory",
		    (unsigned long)to->memory_size);
	memcpy(to->memory, slot->host_mem, to->memory_size);
	to->full = true;
}

static __maybe_unused void mig_set_reg(struct kvm_vcpu *vcpu, struct mig_reg *from)
{
	struct kvm_one_reg reg = { .id = from->id, .addr = (u64)from->value };

	TEST_ASSERT(!__vcpu_ioctl(vcpu, KVM_SET_ONE_REG, &reg),
		    "vCPU %u: register 0x%lx cannot be set to 0x%lx: %s", vcpu->id,
		    (unsigned long)from->id, *(unsigned long *)from->value, strerror(errno));
}

/* Sets the registers of one step, see above. */
static __maybe_unused void mig_restore_regs(struct kvm_vcpu *vcpu, struct mig_vcpu *from,
					    bool config, enum mig_order order)
{
	u64 i;

	for (i = 0; i < from->n; i++) {
		struct mig_reg *reg = &from->regs[order & MIG_REVERSE ? from->n - 1 - i : i];

		if (mig_is_config(reg->id) != config)
			continue;
		if (reg->id == RISCV_TIMER_REG(time) && vcpu->id)
			continue;
		if (reg->id == RISCV_TIMER_REG(state) && (order & MIG_NO_TIMER_OFF) &&
		    *(u64 *)reg->value == KVM_RISCV_TIMER_STATE_OFF)
			continue;
		mig_set_reg(vcpu, reg);
	}
}

static __maybe_unused void mig_restore_aia(struct mig_machine *m, struct mig_image *from)
{
	u64 offset = 0;
	int v, i = 0;

	do {
		aia_set(m->aia, APLIC, offset, from->aplic[i++]);
	} while ((offset = aplic_next(offset, MIG_SOURCES)));
	for (v = 0; v < MIG_VCPUS; v++)
		for (i = 0; i < MIG_FILE && mig_file_regs[i]; i++)
			aia_file_set(m->aia, v, mig_file_regs[i], from->vcpus[v].file[i]);
}

static __maybe_unused void mig_restore(struct mig_machine *m, struct mig_image *from,
				       enum mig_order order)
{
	struct userspace_mem_region *slot = memslot2region(m->vm, 0);
	int v;

	TEST_ASSERT_EQ(slot->region.memory_size, from->memory_size);
	memcpy(slot->host_mem, from->memory, from->memory_size);
	for (v = 0; v < MIG_VCPUS; v++)
		mig_restore_regs(m->vcpus[v], &from->vcpus[v], true, order);
	if (m->aia >= 0)
		mig_restore_aia(m, from);
	for (v = 0; v < MIG_VCPUS; v++)
		mig_restore_regs(m->vcpus[v], &from->vcpus[v], false, order);
	for (v = 0; v < MIG_VCPUS; v++) {
		struct kvm_mp_state mp = { .mp_state = from->vcpus[v].mp_state };

		vcpu_ioctl(m->vcpus[v], KVM_SET_MP_STATE, &mp);
	}
}

static __maybe_unused u64 mig_time(struct mig_image *image)
{
	struct mig_vcpu *vcpu = &image->vcpus[0];
	u64 n;

	for (n = 0; n < vcpu->n; n++)
		if (vcpu->regs[n].id == RISCV_TIMER_REG(time))
			return *(u64 *)vcpu->regs[n].value;
	TEST_FAIL("no time in the list");
	return 0;
}

/* The bits of sip that follow from other state: of the timer, and of an interrupt file in use. */
static __maybe_unused u64 mig_derived_sip(struct mig_vcpu *vcpu)
{
	int i;

	for (i = 0; i < MIG_FILE; i++)
		if (vcpu->file[i])
			return IP_STIP | IP_SEIP;
	return IP_STIP;
}

static __maybe_unused void mig_assert_same_reg(u32 vcpu, struct mig_reg *a, struct mig_reg *b,
					       u64 time, u64 derived_sip)
{
	u64 *want = (u64 *)a->value, *got = (u64 *)b->value;

	if (a->id == RISCV_TIMER_REG(time)) {
		TEST_ASSERT(*got >= time, "vCPU %u: time went back by %lu", vcpu,
			    (unsigned long)(time - *got));
		return;
	}
	if (a->id == RISCV_GENERAL_CSR_REG(sip)) {
		*want &= ~derived_sip;
		*got &= ~derived_sip;
	}
	TEST_ASSERT(!memcmp(a->value, b->value, MIG_REG_SIZE),
		    "vCPU %u: register 0x%lx was 0x%lx, is 0x%lx", vcpu, (unsigned long)a->id,
		    (unsigned long)*want, (unsigned long)*got);
}

/* Asserts that two images are of one machine, bit for bit, memory apart. */
static __maybe_unused void mig_assert_same(struct mig_image *a, struct mig_image *b)
{
	u64 n, time = mig_time(a);
	int v, i;

	for (v = 0; v < MIG_VCPUS; v++) {
		struct mig_vcpu *want = &a->vcpus[v], *got = &b->vcpus[v];

		TEST_ASSERT_EQ(got->mp_state, want->mp_state);
		TEST_ASSERT_EQ(got->n, want->n);
		for (n = 0; n < want->n; n++) {
			TEST_ASSERT_EQ(got->regs[n].id, want->regs[n].id);
			mig_assert_same_reg(v, &want->regs[n], &got->regs[n], time,
					    mig_derived_sip(want));
		}
		for (i = 0; i < MIG_FILE; i++)
			TEST_ASSERT(got->file[i] == want->file[i],
				    "vCPU %d: file register 0x%lx was 0x%lx, is 0x%lx", v,
				    (unsigned long)mig_file_regs[i], (unsigned long)want->file[i],
				    (unsigned long)got->file[i]);
	}
	for (i = 0; i < MIG_APLIC; i++)
		TEST_ASSERT(a->aplic[i] == b->aplic[i], "APLIC word %d was 0x%x, is 0x%x", i,
			    a->aplic[i], b->aplic[i]);
}

#endif /* SELFTEST_KVM_RS_MIGRATE_H */
