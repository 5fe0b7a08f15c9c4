// SPDX-License-Identifier: GPL-2.0
/* on-c: skip: F1: a register that userspace writes ends the machine */
/* covers: vcpu/onereg.rs vcpu/onereg/state.rs arch/supervisor.rs vcpu/mp_state.rs */
/*
 * A vCPU whose state is anything that userspace can say: every register of
 * KVM_GET_REG_LIST with values that prefer boundaries, power states, wires,
 * debugging, attributes of the interrupt controller, in any order and with runs
 * in between.  The host stays well, no register holds what it has no room for,
 * what one vCPU reads another takes, and a fresh VM works afterwards.
 *
 *   restore_fuzz_test [-s SEED] [-t SECONDS]
 */
#include "kvm_rs_aia.h"

/* The program has options of its own. */
static int test_harness_run(int argc, char **argv) __maybe_unused;

#define STEPS		150
#define MAX_SIZE	8192

static u64 seed = 1, state;

static u64 next(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state * 0x2545f4914f6cdd1dUL;
}

static u64 below(u64 n)
{
	return (next() >> 11) % n;
}

static u64 value(void)
{
	u64 bit = 1UL << below(64);

	switch (below(8)) {
	case 0: return 0;
	case 1: return below(16);
	case 2: return bit;
	case 3: return ~bit;
	case 4: return bit - 1;
	case 5: return -bit;
	case 6: return ~0UL;
	default: return next();
	}
}

/* Bits that a register can have on some machine; all, of one that is not here. */
static u64 fields(u64 id)
{
	const struct {
		u64 id, fields;
	} known[] = {
		{ RISCV_CORE_REG(regs.pc), ~1UL },
		{ RISCV_CORE_REG(mode), 1 },
		{ RISCV_GENERAL_CSR_REG(sstatus), 0x80000003008c6722UL },
		{ RISCV_GENERAL_CSR_REG(sie), 0x2222 },
		{ RISCV_GENERAL_CSR_REG(sip), 0x2222 },
		{ RISCV_GENERAL_CSR_REG(stvec), ~2UL },
		{ RISCV_GENERAL_CSR_REG(sepc), ~1UL },
		{ RISCV_GENERAL_CSR_REG(satp), 0xbfffffffffffffffUL },
		{ RISCV_GENERAL_CSR_REG(scounteren), 0xffffffffUL },
		{ RISCV_GENERAL_CSR_REG(senvcfg), 0x3000000fdUL },
		{ __kvm_reg_id(KVM_REG_RISCV_CSR, KVM_REG_RISCV_CSR_AIA, 0, KVM_REG_SIZE_U64), 0xfff },
		{ __kvm_reg_id(KVM_REG_RISCV_CSR, KVM_REG_RISCV_CSR_AIA, 1, KVM_REG_SIZE_U64),
		  0xffffff00ff00ff00UL },
		{ __kvm_reg_id(KVM_REG_RISCV_CSR, KVM_REG_RISCV_CSR_SMSTATEEN, 0, KVM_REG_SIZE_U64), 7 },
		{ __kvm_reg_id(KVM_REG_RISCV_CSR, KVM_REG_RISCV_CSR_ZICFISS, 0, KVM_REG_SIZE_U64), ~3UL },
		{ __kvm_reg_id(KVM_REG_RISCV_FP_F, 0, 32, KVM_REG_SIZE_U32), 0xff },
		{ __kvm_reg_id(KVM_REG_RISCV_FP_D, 0, 32, KVM_REG_SIZE_U32), 0xff },
		{ __kvm_reg_id(KVM_REG_RISCV_VECTOR, 0, KVM_REG_RISCV_VECTOR_CSR_REG(vtype),
			       KVM_REG_SIZE_U64), 1UL << 63 | 0xff },
		{ __kvm_reg_id(KVM_REG_RISCV_VECTOR, 0, KVM_REG_RISCV_VECTOR_CSR_REG(vcsr),
			       KVM_REG_SIZE_U64), 7 },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(known); i++)
		if (known[i].id == id)
			return known[i].fields;
	return ~0UL;
}

static u64 type_of(u64 id)
{
	return id & KVM_REG_RISCV_TYPE_MASK;
}

static size_t size_of(u64 id)
{
	return 1UL << ((id & KVM_REG_SIZE_MASK) >> KVM_REG_SIZE_SHIFT);
}

static int access_reg(struct kvm_vcpu *vcpu, unsigned long cmd, u64 id, void *buf)
{
	struct kvm_one_reg reg = { .id = id, .addr = (u64)buf };

	return ioctl(vcpu->fd, cmd, &reg);
}

/* What @vcpu reads as register @id, which it may lack. */
static bool read_reg(struct kvm_vcpu *vcpu, u64 id, u64 *buf)
{
	buf[0] = 0;
	if (access_reg(vcpu, KVM_GET_ONE_REG, id, buf)) {
		TEST_ASSERT(errno == ENOENT || errno == EINVAL, "get 0x%lx: %s", (long)id,
			    strerror(errno));
		return false;
	}
	TEST_ASSERT(size_of(id) > 8 || !(buf[0] & ~fields(id)), "register 0x%lx is 0x%lx", (long)id,
		    (long)buf[0]);
	return true;
}

static void write_any(struct kvm_vcpu *vcpu, u64 id)
{
	static u64 buf[MAX_SIZE / 8], again[MAX_SIZE / 8];
	u64 type = type_of(id);
	int i;

	for (i = 0; i < DIV_ROUND_UP(size_of(id), 8); i++)
		buf[i] = value();
	if (type == KVM_REG_RISCV_ISA_EXT || type == KVM_REG_RISCV_SBI_EXT)
		buf[0] = below(8) ? 1 : below(3);
	if (access_reg(vcpu, KVM_SET_ONE_REG, id, buf)) {
		TEST_ASSERT(errno == EINVAL || errno == EBUSY || errno == ENOENT, "set 0x%lx: %s",
			    (long)id, strerror(errno));
		return;
	}
	/* Time goes on; what a register makes of a value it keeps. */
	if (type == KVM_REG_RISCV_TIMER || id == RISCV_GENERAL_CSR_REG(sip) || !read_reg(vcpu, id, buf))
		return;
	if (type == KVM_REG_RISCV_ISA_EXT || type == KVM_REG_RISCV_SBI_EXT || type == KVM_REG_RISCV_CONFIG)
		return;
	TEST_ASSERT_OK(access_reg(vcpu, KVM_SET_ONE_REG, id, buf));
	TEST_ASSERT(read_reg(vcpu, id, again) && !memcmp(buf, again, size_of(id)),
		    "register 0x%lx: 0x%lx, then 0x%lx", (long)id, (long)buf[0], (long)again[0]);
}

static void guest_look(void)
{
	for (;;) {
		csr_read(CSR_SSTATUS);
		csr_read(CSR_SIP);
		csr_read(CSR_TIME);
		sbi_ecall(SBI_EXT_BASE, 0, 0, 0, 0, 0, 0, 0);
	}
}

static void run_a_moment(struct kvm_vcpu *vcpu)
{
	if (below(2))
		vcpu_set_reg(vcpu, RISCV_CORE_REG(regs.pc), (unsigned long)guest_look);
	if (!below(8)) {
		vcpu->run->immediate_exit = 1;
		TEST_ASSERT_ERRNO(__vcpu_run(vcpu), EINTR);
		vcpu->run->immediate_exit = 0;
	} else if (vcpu_run_limited(vcpu, 1 + below(3))) {
		TEST_ASSERT(errno == EINTR || errno == EFAULT || errno == EIO, "KVM_RUN: %s",
			    strerror(errno));
	}
	/* What another would do with the exit. */
	*(u64 *)vcpu->run->mmio.data = value();
}

static void touch_device(int fd)
{
	u32 group = below(6);
	u64 attr = below(2) ? below(64) : value(), buf = value();
	int ret;

	if (group == KVM_DEV_RISCV_AIA_GRP_APLIC && below(4))
		attr = below(0x4000) & ~3UL;
	if (group == KVM_DEV_RISCV_AIA_GRP_IMSIC && below(4))
		attr = below(2) << KVM_DEV_RISCV_AIA_IMSIC_ISEL_BITS | (0x70 + below(0x90));
	ret = below(2) ? __kvm_device_attr_set(fd, group, attr, &buf) :
			 __kvm_device_attr_get(fd, group, attr, &buf);
	TEST_ASSERT(!ret || errno == ENXIO || errno == EINVAL || errno == EBUSY || errno == ENODEV ||
		    errno == EPERM || errno == ENOSPC || errno == EOPNOTSUPP || errno == EFAULT ||
		    errno == EEXIST,
		    "group %u attr 0x%lx: %s", group, (long)attr, strerror(errno));
}

/* One vCPU's registers, as a VMM migrates them: all that it reads, and in its order. */
static void restore(struct kvm_vcpu *from, struct kvm_vcpu *to, struct kvm_reg_list *list)
{
	static u64 buf[MAX_SIZE / 8], got[MAX_SIZE / 8];
	int pass, i;

	/* What the extensions allow of the rest may come before them. */
	for (pass = 0; pass < 2; pass++)
		for (i = 0; i < list->n; i++)
			if (read_reg(from, list->reg[i], buf))
				access_reg(to, KVM_SET_ONE_REG, list->reg[i], buf);
	for (i = 0; i < list->n; i++) {
		u64 id = list->reg[i], type = type_of(id);

		/* A timer interrupt is pending if time says so. */
		if (type == KVM_REG_RISCV_TIMER || id == RISCV_GENERAL_CSR_REG(sip) ||
		    type == KVM_REG_RISCV_SBI_STATE)
			continue;
		if (!read_reg(from, id, buf))
			continue;
		TEST_ASSERT(read_reg(to, id, got) && !memcmp(buf, got, size_of(id)),
			    "register 0x%lx: 0x%lx is restored as 0x%lx", (long)id, (long)buf[0],
			    (long)got[0]);
	}
}

static void round_of_steps(void)
{
	struct kvm_vcpu *vcpus[2], *vcpu, *other;
	struct kvm_vm *vm = vm_create_with_vcpus(2, guest_look, vcpus), *second;
	bool has_aia = aia_is_there() && below(2);
	struct kvm_reg_list *list;
	int fd = -1, step;

	if (has_aia) {
		fd = kvm_create_device(vm, KVM_DEV_TYPE_RISCV_AIA);
		if (below(4))
			aia_configure(vm, fd, below(2) ? KVM_DEV_RISCV_AIA_MODE_EMUL :
				      KVM_DEV_RISCV_AIA_MODE_AUTO, below(2) ? 32 : 0);
	}
	list = vcpu_get_reg_list(vcpus[0]);
	for (step = 0; step < STEPS; step++) {
		struct kvm_mp_state mp = { .mp_state = below(12) };
		struct kvm_interrupt irq = { .irq = below(2) ? KVM_INTERRUPT_SET : KVM_INTERRUPT_UNSET };
		struct kvm_guest_debug debug = { .control = below(2) ? below(4) : value() };

		vcpu = vcpus[below(2)];
		switch (below(16)) {
		case 0 ... 9:
			write_any(vcpu, list->reg[below(list->n)]);
			break;
		case 10:
			__vcpu_ioctl(vcpu, KVM_SET_MP_STATE, &mp);
			break;
		case 11:
			__vcpu_ioctl(vcpu, KVM_INTERRUPT, &irq);
			break;
		case 12:
			__vcpu_ioctl(vcpu, KVM_SET_GUEST_DEBUG, &debug);
			break;
		case 13:
			if (fd >= 0)
				touch_device(fd);
			break;
		default:
			run_a_moment(vcpu);
			break;
		}
	}
	/* Into a VM that has not run, which then runs. */
	second = vm_create_with_one_vcpu(&other, guest_look);
	restore(vcpus[0], other, list);
	run_a_moment(other);
	free(list);
	if (fd >= 0)
		close(fd);
	kvm_vm_free(second);
	kvm_vm_free(vm);
}

static void guest_done(void)
{
	GUEST_DONE();
}

int main(int argc, char *argv[])
{
	struct timespec start;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int opt, kmsg, seconds = 3, rounds = 0;

	while ((opt = getopt(argc, argv, "s:t:")) != -1) {
		switch (opt) {
		case 's': seed = strtoull(optarg, NULL, 0); break;
		case 't': seconds = atoi(optarg); break;
		default:
			printf("usage: %s [-s SEED] [-t SECONDS]\n", argv[0]);
			return KSFT_FAIL;
		}
	}
	close(open_kvm_dev_path_or_exit());
	if (access("/sys/module/kvm/parameters/fault_around_bytes", F_OK)) {
		printf("1..0 # SKIP the C module: a register that userspace writes ends the machine\n");
		return KSFT_SKIP;
	}
	setbuf(stdout, NULL);
	kmsg = kmsg_open();
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		/* Each round by its seed, so that one can be had alone. */
		state = (seed + rounds) * 0x9e3779b97f4a7c15UL | 1;
		printf("# seed %lu\n", (unsigned long)(seed + rounds));
		round_of_steps();
		rounds++;
	} while (timespec_to_ns(timespec_elapsed(start)) < seconds * 1000000000LL);

	vm = vm_create_with_one_vcpu(&vcpu, guest_done);
	run_to_done(vcpu);
	kvm_vm_free(vm);
	kmsg_assert_quiet(kmsg);
	printf("# %d rounds from seed %lu\n", rounds, (unsigned long)seed);
	return KSFT_PASS;
}
