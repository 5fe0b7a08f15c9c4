// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: S15 */
/* covers: aia.rs aia/device.rs aia/layout.rs aia/params.rs hooks/aia.rs
 * kvm_core/iodev.rs kvm_core/locks.rs */
/*
 * The device of the in-kernel interrupt controller, as userspace has it: every
 * group and attribute, and every way in which they can be refused.
 */
#include <sys/resource.h>

#include "kvm_rs_aia.h"

#define CONFIG	KVM_DEV_RISCV_AIA_GRP_CONFIG
#define ADDR	KVM_DEV_RISCV_AIA_GRP_ADDR
#undef CTRL
#define CTRL	KVM_DEV_RISCV_AIA_GRP_CTRL
#define APLIC	KVM_DEV_RISCV_AIA_GRP_APLIC
#define IMSIC	KVM_DEV_RISCV_AIA_GRP_IMSIC

#define VCPUS	2

FIXTURE(aia)
{
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[VCPUS];
	int fd;
};

FIXTURE_SETUP(aia)
{
	if (!aia_is_there())
		SKIP(return, "no in-kernel irqchip");
	self->vm = vm_create_with_vcpus(VCPUS, guest_server, self->vcpus);
	self->fd = kvm_create_device(self->vm, KVM_DEV_TYPE_RISCV_AIA);
}

FIXTURE_TEARDOWN(aia)
{
	close(self->fd);
	kvm_vm_free(self->vm);
}

#define REFUSED(err, group, attr, value)	TEST_ASSERT_ERRNO(__aia_set(self->fd, group, attr, value), err)
#define TAKEN(group, attr, value)		TEST_ASSERT_OK(__aia_set(self->fd, group, attr, value))
#define READS(group, attr, want)							\
do {											\
	u64 __v;									\
											\
	TEST_ASSERT_OK(__aia_get(self->fd, group, attr, &__v));				\
	TEST_ASSERT(__v == (want), #group " " #attr ": 0x%lx", (unsigned long)__v);	\
} while (0)
#define UNREADABLE(err, group, attr)							\
do {											\
	u64 __v;									\
											\
	TEST_ASSERT_ERRNO(__aia_get(self->fd, group, attr, &__v), err);			\
} while (0)
#define HAS(group, attr)	TEST_ASSERT_OK(__kvm_has_device_attr(self->fd, group, attr))
#define HAS_NOT(err, group, attr) \
	TEST_ASSERT_ERRNO(__kvm_has_device_attr(self->fd, group, attr), err)

/* The greatest number of identities that the host has room for. */
static u32 host_ids(int fd)
{
	return aia_get(fd, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_IDS);
}

/* Hardware's files can be used. */
static bool host_has_files(int fd)
{
	return aia_get(fd, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_MODE) != KVM_DEV_RISCV_AIA_MODE_EMUL;
}

TEST_F(aia, once_per_vm)
{
	TEST_ASSERT_ERRNO(__kvm_create_device(self->vm, KVM_DEV_TYPE_RISCV_AIA), EEXIST);
	TEST_ASSERT_OK(__kvm_test_create_device(self->vm, KVM_DEV_TYPE_RISCV_AIA));
}

TEST_F(aia, not_after_the_first_run)
{
	struct kvm_vcpu *vcpu = server_create();

	guest_ask(vcpu, GUEST_OP_LOAD, (u64)&guest_cmd, 0);
	guest_answer(vcpu, NULL);
	TEST_ASSERT_ERRNO(__kvm_create_device(vcpu->vm, KVM_DEV_TYPE_RISCV_AIA), EBUSY);
	kvm_vm_free(vcpu->vm);
}

/* A file that cannot be opened leaves the VM as it was (differences-from-c S15). */
TEST_F(aia, failed_creation_leaves_nothing)
{
	struct kvm_vm *vm = vm_create(1);
	struct kvm_irq_routing routing = { .nr = 0 };
	struct rlimit old, none;

	TEST_ASSERT_OK(getrlimit(RLIMIT_NOFILE, &old));
	none = old;
	none.rlim_cur = 0;
	TEST_ASSERT_OK(setrlimit(RLIMIT_NOFILE, &none));
	TEST_ASSERT_ERRNO(__kvm_create_device(vm, KVM_DEV_TYPE_RISCV_AIA), EMFILE);
	TEST_ASSERT_OK(setrlimit(RLIMIT_NOFILE, &old));
	TEST_ASSERT_ERRNO(__vm_ioctl(vm, KVM_SET_GSI_ROUTING, &routing), EINVAL);
	TEST_ASSERT_ERRNO(aia_line(vm, 1, 1), ENXIO);
	close(kvm_create_device(vm, KVM_DEV_TYPE_RISCV_AIA));
	kvm_vm_free(vm);
}

/*
 * The controller lives as long as the VM, also if the device's file is closed
 * before it is complete (F8).
 */
TEST_F(aia, closing_undoes_nothing)
{
	struct kvm_irq_routing routing = { .nr = 0 };

	aia_configure(self->vm, self->fd, KVM_DEV_RISCV_AIA_MODE_EMUL, 31);
	close(self->fd);
	self->fd = -1;
	TEST_ASSERT_OK(__vm_ioctl(self->vm, KVM_SET_GSI_ROUTING, &routing));
	TEST_ASSERT_ERRNO(aia_line(self->vm, 1, 1), EBUSY);
	TEST_ASSERT_ERRNO(aia_signal_msi(self->vm, AIA_IMSIC(0), 1), EBUSY);
	TEST_ASSERT_ERRNO(__kvm_create_device(self->vm, KVM_DEV_TYPE_RISCV_AIA), EEXIST);
}

/* Likewise if it was complete. */
TEST_F(aia, closing_leaves_a_complete_controller)
{
	aia_configure(self->vm, self->fd, KVM_DEV_RISCV_AIA_MODE_EMUL, 31);
	TEST_ASSERT_OK(__aia_init(self->fd));
	close(self->fd);
	self->fd = -1;
	TEST_ASSERT_OK(aia_line(self->vm, 1, 1));
	TEST_ASSERT_ERRNO(__kvm_create_device(self->vm, KVM_DEV_TYPE_RISCV_AIA), EEXIST);
}

TEST_F(aia, attributes_that_exist)
{
	int i;

	for (i = KVM_DEV_RISCV_AIA_CONFIG_MODE; i <= KVM_DEV_RISCV_AIA_CONFIG_GUEST_BITS; i++)
		HAS(CONFIG, i);
	HAS(ADDR, KVM_DEV_RISCV_AIA_ADDR_APLIC);
	for (i = 0; i < VCPUS; i++)
		HAS(ADDR, KVM_DEV_RISCV_AIA_ADDR_IMSIC(i));
	HAS(CTRL, KVM_DEV_RISCV_AIA_CTRL_INIT);
}

TEST_F(aia, attributes_that_do_not)
{
	u64 none[][2] = {
		{ CONFIG, KVM_DEV_RISCV_AIA_CONFIG_GUEST_BITS + 1 },
		{ CONFIG, 1UL << 32 },
		{ ADDR, KVM_DEV_RISCV_AIA_ADDR_IMSIC(VCPUS) },
		{ ADDR, 1UL << 32 },
		{ CTRL, KVM_DEV_RISCV_AIA_CTRL_INIT + 1 },
		{ 5, 0 },
		{ 0xffffffff, 0 },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(none); i++) {
		HAS_NOT(ENXIO, none[i][0], none[i][1]);
		REFUSED(ENXIO, none[i][0], none[i][1], 0);
		UNREADABLE(ENXIO, none[i][0], none[i][1]);
	}
	UNREADABLE(ENXIO, CTRL, KVM_DEV_RISCV_AIA_CTRL_INIT);
}

TEST_F(aia, memory_that_is_not_there)
{
	void *bad = (void *)8;

	TEST_ASSERT_ERRNO(__kvm_device_attr_set(self->fd, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_IDS, bad),
			  EFAULT);
	TEST_ASSERT_ERRNO(__kvm_device_attr_get(self->fd, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_IDS, bad),
			  EFAULT);
	TEST_ASSERT_ERRNO(__kvm_device_attr_set(self->fd, ADDR, KVM_DEV_RISCV_AIA_ADDR_APLIC, bad),
			  EFAULT);
	TEST_ASSERT_ERRNO(__kvm_device_attr_get(self->fd, ADDR, KVM_DEV_RISCV_AIA_ADDR_APLIC, bad),
			  EFAULT);
	aia_configure(self->vm, self->fd, KVM_DEV_RISCV_AIA_MODE_EMUL, 31);
	TEST_ASSERT_OK(__aia_init(self->fd));
	TEST_ASSERT_ERRNO(__kvm_device_attr_set(self->fd, APLIC, 0, bad), EFAULT);
	TEST_ASSERT_ERRNO(__kvm_device_attr_get(self->fd, APLIC, 0, bad), EFAULT);
	TEST_ASSERT_ERRNO(__kvm_device_attr_set(self->fd, IMSIC, aia_imsic_attr(0, IMSIC_EIDELIVERY),
						bad), EFAULT);
	TEST_ASSERT_ERRNO(__kvm_device_attr_get(self->fd, IMSIC, aia_imsic_attr(0, IMSIC_EIDELIVERY),
						bad), EFAULT);
}

TEST_F(aia, settings_as_they_begin)
{
	u32 ids = host_ids(self->fd);

	READS(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_SRCS, 0);
	READS(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_GROUP_BITS, 0);
	READS(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_GROUP_SHIFT, KVM_DEV_RISCV_AIA_GROUP_SHIFT_MIN);
	READS(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_HART_BITS, 0);
	READS(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_GUEST_BITS, 0);
	READS(ADDR, KVM_DEV_RISCV_AIA_ADDR_APLIC, AIA_NOWHERE);
	READS(ADDR, KVM_DEV_RISCV_AIA_ADDR_IMSIC(0), AIA_NOWHERE);
	TEST_ASSERT((ids & 63) == 63 && ids < KVM_DEV_RISCV_AIA_IDS_MAX, "%u identities", ids);
}

TEST_F(aia, settings_and_their_limits)
{
	u32 ids = host_ids(self->fd);
	static const struct {
		u32 attr, least, most;
	} ranges[] = {
		{ KVM_DEV_RISCV_AIA_CONFIG_GROUP_BITS, 0, KVM_DEV_RISCV_AIA_GROUP_BITS_MAX - 1 },
		{ KVM_DEV_RISCV_AIA_CONFIG_GROUP_SHIFT, KVM_DEV_RISCV_AIA_GROUP_SHIFT_MIN,
		  KVM_DEV_RISCV_AIA_GROUP_SHIFT_MAX - 1 },
		{ KVM_DEV_RISCV_AIA_CONFIG_HART_BITS, 0, KVM_DEV_RISCV_AIA_HART_BITS_MAX - 1 },
		{ KVM_DEV_RISCV_AIA_CONFIG_GUEST_BITS, 0, KVM_DEV_RISCV_AIA_GUEST_BITS_MAX - 1 },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		TAKEN(CONFIG, ranges[i].attr, ranges[i].least);
		TAKEN(CONFIG, ranges[i].attr, ranges[i].most);
		REFUSED(EINVAL, CONFIG, ranges[i].attr, ranges[i].most + 1);
		REFUSED(EINVAL, CONFIG, ranges[i].attr, 0xffffffff);
		if (ranges[i].least)
			REFUSED(EINVAL, CONFIG, ranges[i].attr, ranges[i].least - 1);
		READS(CONFIG, ranges[i].attr, ranges[i].most);
	}

	TAKEN(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_IDS, 63);
	READS(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_IDS, 63);
	TAKEN(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_IDS, ids);
	REFUSED(EINVAL, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_IDS, 0);
	REFUSED(EINVAL, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_IDS, 62);
	REFUSED(EINVAL, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_IDS, 64);
	REFUSED(EINVAL, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_IDS, ids + 64);
	REFUSED(EINVAL, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_IDS, 0xffffffff);

	TAKEN(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_SRCS, 0);
	TAKEN(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_SRCS, min(ids, 1023u));
	REFUSED(EINVAL, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_SRCS, min(ids, 1023u) + 1);

	TAKEN(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_MODE, KVM_DEV_RISCV_AIA_MODE_EMUL);
	REFUSED(EINVAL, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_MODE, KVM_DEV_RISCV_AIA_MODE_AUTO + 1);
}

TEST_F(aia, modes_of_the_host)
{
	if (host_has_files(self->fd)) {
		READS(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_MODE, KVM_DEV_RISCV_AIA_MODE_AUTO);
		TAKEN(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_MODE, KVM_DEV_RISCV_AIA_MODE_HWACCEL);
		READS(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_MODE, KVM_DEV_RISCV_AIA_MODE_HWACCEL);
		TAKEN(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_MODE, KVM_DEV_RISCV_AIA_MODE_AUTO);
	} else {
		READS(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_MODE, KVM_DEV_RISCV_AIA_MODE_EMUL);
		REFUSED(EINVAL, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_MODE, KVM_DEV_RISCV_AIA_MODE_HWACCEL);
		REFUSED(EINVAL, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_MODE, KVM_DEV_RISCV_AIA_MODE_AUTO);
	}
}

TEST_F(aia, addresses)
{
	REFUSED(EINVAL, ADDR, KVM_DEV_RISCV_AIA_ADDR_APLIC, AIA_APLIC_GPA + 4);
	TAKEN(ADDR, KVM_DEV_RISCV_AIA_ADDR_APLIC, AIA_APLIC_GPA);
	READS(ADDR, KVM_DEV_RISCV_AIA_ADDR_APLIC, AIA_APLIC_GPA);
	REFUSED(EINVAL, ADDR, KVM_DEV_RISCV_AIA_ADDR_IMSIC(1), AIA_IMSIC(1) + 0x800);
	TAKEN(ADDR, KVM_DEV_RISCV_AIA_ADDR_IMSIC(1), AIA_IMSIC(1));
	READS(ADDR, KVM_DEV_RISCV_AIA_ADDR_IMSIC(1), AIA_IMSIC(1));
	READS(ADDR, KVM_DEV_RISCV_AIA_ADDR_IMSIC(0), AIA_NOWHERE);
}

TEST_F(aia, nothing_before_init)
{
	u64 file = aia_imsic_attr(0, IMSIC_EIDELIVERY);

	aia_configure(self->vm, self->fd, KVM_DEV_RISCV_AIA_MODE_EMUL, 31);
	HAS_NOT(ENODEV, APLIC, APLIC_DOMAINCFG);
	REFUSED(ENODEV, APLIC, APLIC_DOMAINCFG, 0);
	UNREADABLE(ENODEV, APLIC, APLIC_DOMAINCFG);
	HAS_NOT(ENODEV, IMSIC, file);
	REFUSED(ENODEV, IMSIC, file, 0);
	UNREADABLE(ENODEV, IMSIC, file);
	TEST_ASSERT_ERRNO(aia_line(self->vm, 1, 1), EBUSY);
	TEST_ASSERT_ERRNO(aia_signal_msi(self->vm, AIA_IMSIC(0), 1), EBUSY);
}

TEST_F(aia, init_makes_it_final)
{
	aia_configure(self->vm, self->fd, KVM_DEV_RISCV_AIA_MODE_EMUL, 31);
	TEST_ASSERT_OK(__aia_init(self->fd));
	TEST_ASSERT_ERRNO(__aia_init(self->fd), EBUSY);
	REFUSED(EBUSY, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_IDS, 63);
	REFUSED(EBUSY, ADDR, KVM_DEV_RISCV_AIA_ADDR_APLIC, AIA_APLIC_GPA);
	REFUSED(EBUSY, ADDR, KVM_DEV_RISCV_AIA_ADDR_IMSIC(0), AIA_IMSIC(0));
	READS(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_SRCS, 31);
	READS(ADDR, KVM_DEV_RISCV_AIA_ADDR_IMSIC(1), AIA_IMSIC(1));
}

/* Init refuses the one thing that is wrong, and takes all once it is right. */
#define INIT_NEEDS(break_it, mend_it)						\
do {										\
	aia_configure(self->vm, self->fd, KVM_DEV_RISCV_AIA_MODE_EMUL, 31);	\
	break_it;								\
	TEST_ASSERT_ERRNO(__aia_init(self->fd), EINVAL);			\
	HAS_NOT(ENODEV, APLIC, APLIC_DOMAINCFG);				\
	mend_it;								\
	TEST_ASSERT_OK(__aia_init(self->fd));					\
} while (0)

TEST_F(aia, init_needs_an_identity_for_each_source)
{
	if (host_ids(self->fd) == 63)
		SKIP(return, "the host has room for 63 identities only");
	INIT_NEEDS(TAKEN(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_IDS, 63);
		   TAKEN(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_SRCS, 64),
		   TAKEN(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_SRCS, 63));
}

TEST_F(aia, init_needs_an_aplic_for_sources)
{
	int i;

	TAKEN(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_SRCS, 1);
	TAKEN(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_HART_BITS, AIA_HART_BITS);
	for (i = 0; i < VCPUS; i++)
		TAKEN(ADDR, KVM_DEV_RISCV_AIA_ADDR_IMSIC(i), AIA_IMSIC(i));
	TEST_ASSERT_ERRNO(__aia_init(self->fd), EINVAL);
	TAKEN(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_SRCS, 0);
	TEST_ASSERT_OK(__aia_init(self->fd));
	HAS_NOT(ENODEV, APLIC, APLIC_DOMAINCFG);
	HAS(IMSIC, aia_imsic_attr(0, IMSIC_EIDELIVERY));
	TEST_ASSERT_ERRNO(aia_line(self->vm, 1, 1), ENODEV);
}

TEST_F(aia, init_needs_all_files)
{
	TAKEN(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_HART_BITS, AIA_HART_BITS);
	TAKEN(ADDR, KVM_DEV_RISCV_AIA_ADDR_IMSIC(0), AIA_IMSIC(0));
	TEST_ASSERT_ERRNO(__aia_init(self->fd), EINVAL);
	TAKEN(ADDR, KVM_DEV_RISCV_AIA_ADDR_IMSIC(1), AIA_IMSIC(1));
	TEST_ASSERT_OK(__aia_init(self->fd));
}

TEST_F(aia, init_needs_files_that_differ_in_the_index_only)
{
	INIT_NEEDS(TAKEN(ADDR, KVM_DEV_RISCV_AIA_ADDR_IMSIC(1), AIA_IMSIC(1 << AIA_HART_BITS)),
		   TAKEN(ADDR, KVM_DEV_RISCV_AIA_ADDR_IMSIC(1), AIA_IMSIC((1 << AIA_HART_BITS) - 1)));
}

TEST_F(aia, init_needs_index_bits_apart)
{
	INIT_NEEDS(TAKEN(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_GROUP_BITS, 1);
		   TAKEN(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_HART_BITS, 13),
		   TAKEN(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_HART_BITS, 12));
}

/* differences-from-c S15 */
TEST_F(aia, init_needs_a_place_for_each_file)
{
	INIT_NEEDS(TAKEN(ADDR, KVM_DEV_RISCV_AIA_ADDR_IMSIC(1), AIA_IMSIC(0)),
		   TAKEN(ADDR, KVM_DEV_RISCV_AIA_ADDR_IMSIC(1), AIA_IMSIC(1)));
}

/* differences-from-c S15 */
TEST_F(aia, init_needs_files_of_supervisors)
{
	/* The lowest bit of the page number is the guest index, then. */
	INIT_NEEDS(TAKEN(CONFIG, KVM_DEV_RISCV_AIA_CONFIG_GUEST_BITS, 1),
		   TAKEN(ADDR, KVM_DEV_RISCV_AIA_ADDR_IMSIC(1), AIA_IMSIC(2)));
}

/* differences-from-c S15 */
TEST_F(aia, init_needs_files_that_the_guest_can_address)
{
	u64 end = 1UL << vm_check_cap(self->vm, KVM_CAP_VM_GPA_BITS);

	INIT_NEEDS(TAKEN(ADDR, KVM_DEV_RISCV_AIA_ADDR_IMSIC(0), end + AIA_IMSIC(0));
		   TAKEN(ADDR, KVM_DEV_RISCV_AIA_ADDR_IMSIC(1), end + AIA_IMSIC(1)),
		   TAKEN(ADDR, KVM_DEV_RISCV_AIA_ADDR_IMSIC(0), end - 2 * SIZE_4K);
		   TAKEN(ADDR, KVM_DEV_RISCV_AIA_ADDR_IMSIC(1), end - SIZE_4K));
}

/* differences-from-c S15 */
TEST_F(aia, init_needs_an_aplic_that_the_guest_can_address)
{
	u64 end = 1UL << vm_check_cap(self->vm, KVM_CAP_VM_GPA_BITS);

	INIT_NEEDS(TAKEN(ADDR, KVM_DEV_RISCV_AIA_ADDR_APLIC, end - SIZE_4K),
		   TAKEN(ADDR, KVM_DEV_RISCV_AIA_ADDR_APLIC, end - KVM_DEV_RISCV_APLIC_SIZE));
}

TEST_F(aia, registers_of_the_aplic)
{
	static const u64 there[] = {
		APLIC_DOMAINCFG, APLIC_SOURCECFG(1), APLIC_SOURCECFG(40), APLIC_SETIP(0),
		APLIC_SETIP(1), APLIC_SETIPNUM, APLIC_IN_CLRIP(0), APLIC_CLRIPNUM, APLIC_SETIE(0),
		APLIC_SETIENUM, APLIC_CLRIE(0), APLIC_CLRIENUM, APLIC_SETIPNUM_LE,
		APLIC_SETIPNUM_BE, APLIC_GENMSI, APLIC_TARGET(1), APLIC_TARGET(40),
	};
	static const u64 nowhere[] = {
		APLIC_SOURCECFG(41), APLIC_SETIP(2), APLIC_IN_CLRIP(2), APLIC_SETIE(2),
		APLIC_CLRIE(2), APLIC_TARGET(41), APLIC_MMSIADDRCFG, APLIC_SETIPNUM + 4,
		APLIC_SETIPNUM_BE + 4, 1, 2, APLIC_SOURCECFG(1) + 1, 0x4000, 1UL << 32,
	};
	int i;

	aia_configure(self->vm, self->fd, KVM_DEV_RISCV_AIA_MODE_EMUL, 40);
	TEST_ASSERT_OK(__aia_init(self->fd));
	for (i = 0; i < ARRAY_SIZE(there); i++) {
		HAS(APLIC, there[i]);
		READS(APLIC, there[i], i ? 0 : APLIC_DOMAINCFG_FIXED);
	}
	TAKEN(APLIC, APLIC_SOURCECFG(40), APLIC_EDGE1);
	READS(APLIC, APLIC_SOURCECFG(40), APLIC_EDGE1);
	for (i = 0; i < ARRAY_SIZE(nowhere); i++) {
		TEST_ASSERT(__kvm_has_device_attr(self->fd, APLIC, nowhere[i]), "offset 0x%lx",
			    (unsigned long)nowhere[i]);
	}
}

/* differences-from-c S15 */
TEST_F(aia, registers_that_are_not_there_are_enxio)
{
	static const u64 nowhere[] = {
		APLIC_SOURCECFG(41), APLIC_SETIP(2), APLIC_TARGET(41), 1, 2, 0x4000, 1UL << 32,
	};
	u64 file = aia_imsic_attr(0, 0);
	u64 files[] = {
		file | 0x6f, file | 0x71, file | 0x73, file | IMSIC_EIP(1), file | IMSIC_EIE(3),
		file | 0x100, file | 0x30, aia_imsic_attr(VCPUS, IMSIC_EIDELIVERY),
		/* The whole number counts. */
		aia_imsic_attr(1UL << 32, IMSIC_EIDELIVERY),
	};
	int i;

	aia_configure(self->vm, self->fd, KVM_DEV_RISCV_AIA_MODE_EMUL, 40);
	TEST_ASSERT_OK(__aia_init(self->fd));
	for (i = 0; i < ARRAY_SIZE(nowhere); i++) {
		HAS_NOT(ENXIO, APLIC, nowhere[i]);
		REFUSED(ENXIO, APLIC, nowhere[i], 0);
		UNREADABLE(ENXIO, APLIC, nowhere[i]);
	}
	for (i = 0; i < ARRAY_SIZE(files); i++) {
		HAS_NOT(ENXIO, IMSIC, files[i]);
		REFUSED(ENXIO, IMSIC, files[i], 0);
		UNREADABLE(ENXIO, IMSIC, files[i]);
	}
}

TEST_F(aia, registers_of_a_file)
{
	u32 ids = host_ids(self->fd), n, v;

	aia_configure(self->vm, self->fd, KVM_DEV_RISCV_AIA_MODE_EMUL, 31);
	TEST_ASSERT_OK(__aia_init(self->fd));
	for (v = 0; v < VCPUS; v++) {
		HAS(IMSIC, aia_imsic_attr(v, IMSIC_EIDELIVERY));
		HAS(IMSIC, aia_imsic_attr(v, IMSIC_EITHRESHOLD));
		for (n = 0; n <= ids / 32; n += 2) {
			HAS(IMSIC, aia_imsic_attr(v, IMSIC_EIP(n)));
			HAS(IMSIC, aia_imsic_attr(v, IMSIC_EIE(n)));
		}
		TAKEN(IMSIC, aia_imsic_attr(v, IMSIC_EIDELIVERY), 1);
		TAKEN(IMSIC, aia_imsic_attr(v, IMSIC_EITHRESHOLD), 40 + v);
		TAKEN(IMSIC, aia_imsic_attr(v, IMSIC_EIP(0)), ~0UL);
		TAKEN(IMSIC, aia_imsic_attr(v, IMSIC_EIE(0)), 0x5555UL << v);
	}
	for (v = 0; v < VCPUS; v++) {
		READS(IMSIC, aia_imsic_attr(v, IMSIC_EIDELIVERY), 1);
		READS(IMSIC, aia_imsic_attr(v, IMSIC_EITHRESHOLD), 40 + v);
		/* There is no identity 0. */
		READS(IMSIC, aia_imsic_attr(v, IMSIC_EIP(0)), ~1UL);
		READS(IMSIC, aia_imsic_attr(v, IMSIC_EIE(0)), (0x5555UL << v) & ~1UL);
		TAKEN(IMSIC, aia_imsic_attr(v, IMSIC_EIP(0)), 0);
		READS(IMSIC, aia_imsic_attr(v, IMSIC_EIP(0)), 0);
	}
}

/* As many files as a VM can have vCPUs: more than core KVM has room for devices (F17). */
TEST_F(aia, init_with_all_vcpus)
{
	int n = vm_check_cap(self->vm, KVM_CAP_MAX_VCPUS), fd, i;
	struct rlimit files = { .rlim_cur = n + 100, .rlim_max = n + 100 };
	struct kvm_vm *vm = vm_create(1);
	int *vcpus = calloc(n, sizeof(*vcpus));

	TEST_ASSERT(n > 1000, "%d vCPUs", n);
	TEST_ASSERT_OK(setrlimit(RLIMIT_NOFILE, &files));
	for (i = 0; i < n; i++) {
		vcpus[i] = __vm_ioctl(vm, KVM_CREATE_VCPU, (void *)(unsigned long)i);
		TEST_ASSERT(vcpus[i] >= 0, "vCPU %d: %d", i, errno);
	}
	fd = kvm_create_device(vm, KVM_DEV_TYPE_RISCV_AIA);
	aia_set(fd, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_MODE, KVM_DEV_RISCV_AIA_MODE_EMUL);
	aia_set(fd, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_SRCS, 31);
	aia_set(fd, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_HART_BITS, 10);
	aia_set(fd, ADDR, KVM_DEV_RISCV_AIA_ADDR_APLIC, AIA_APLIC_GPA);
	for (i = 0; i < n; i++)
		aia_set(fd, ADDR, KVM_DEV_RISCV_AIA_ADDR_IMSIC(i), AIA_IMSIC(i));
	TEST_ASSERT_OK(__aia_init(fd));
	TEST_ASSERT_EQ(aia_signal_msi(vm, AIA_IMSIC(n - 1), 5), 1);
	TEST_ASSERT_EQ(aia_get(fd, IMSIC, aia_imsic_attr(n - 1, IMSIC_EIP(0))), 1 << 5);
	for (i = 0; i < n; i++)
		close(vcpus[i]);
	free(vcpus);
	close(fd);
	kvm_vm_free(vm);
}

/* What userspace is told of an MSI (differences-from-c S14). */
TEST_F(aia, msi_of_an_ioctl)
{
	u32 ids = host_ids(self->fd);

	aia_configure(self->vm, self->fd, KVM_DEV_RISCV_AIA_MODE_EMUL, 31);
	TEST_ASSERT_OK(__aia_init(self->fd));
	TEST_ASSERT_EQ(aia_signal_msi(self->vm, AIA_IMSIC(1), 5), 1);
	READS(IMSIC, aia_imsic_attr(1, IMSIC_EIP(0)), 1 << 5);
	/* Big-endian. */
	TEST_ASSERT_EQ(aia_signal_msi(self->vm, AIA_IMSIC(1) + 4, 6 << 24), 1);
	READS(IMSIC, aia_imsic_attr(1, IMSIC_EIP(0)), 3 << 5);
	READS(IMSIC, aia_imsic_attr(0, IMSIC_EIP(0)), 0);
	/* Identities that no file has, and other registers: ignored. */
	TEST_ASSERT_EQ(aia_signal_msi(self->vm, AIA_IMSIC(1), 0), 0);
	TEST_ASSERT_EQ(aia_signal_msi(self->vm, AIA_IMSIC(1), ids + 1), 0);
	TEST_ASSERT_EQ(aia_signal_msi(self->vm, AIA_IMSIC(1) + 8, 7), 0);
	READS(IMSIC, aia_imsic_attr(1, IMSIC_EIP(0)), 3 << 5);
	/* Nobody's address. */
	TEST_ASSERT_ERRNO(aia_signal_msi(self->vm, AIA_IMSIC(VCPUS), 5), ENODEV);
	TEST_ASSERT_ERRNO(aia_signal_msi(self->vm, AIA_IMSIC(1) + (1UL << 40), 5), ENODEV);
}

TEST_F(aia, routing_needs_the_device)
{
	struct kvm_vm *vm = vm_create(1);
	struct kvm_irq_routing routing = { .nr = 0 };

	TEST_ASSERT_ERRNO(__vm_ioctl(vm, KVM_SET_GSI_ROUTING, &routing), EINVAL);
	TEST_ASSERT_ERRNO(aia_line(vm, 1, 1), ENXIO);
	TEST_ASSERT_ERRNO(aia_signal_msi(vm, AIA_IMSIC(0), 1), EINVAL);
	kvm_vm_free(vm);
	TEST_ASSERT_OK(__vm_ioctl(self->vm, KVM_SET_GSI_ROUTING, &routing));
}

TEST_HARNESS_MAIN
