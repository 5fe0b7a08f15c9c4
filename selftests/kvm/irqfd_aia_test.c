// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: S1, N4 */
/* covers: hooks/irq_routing.rs aia/msi.rs aia/route.rs aia/aplic.rs
 * kvm_core/irqfd.rs */
/*
 * Interrupts by eventfd into the in-kernel interrupt controller: as MSIs, and
 * over the wires of the APLIC, edge and level, with and without resampling.
 */
#include <poll.h>
#include <sys/eventfd.h>

#include "kvm_rs_aia.h"

#define EDGE	5
#define LEVEL	6
#define SOURCES	31
#define PINGS	300
/* The identity that a source has. */
#define ID(source)	((source) + 32)

static void set_source(int fd, u32 source, u32 mode)
{
	aia_set(fd, APLIC, APLIC_SOURCECFG(source), mode);
	aia_set(fd, APLIC, APLIC_TARGET(source), APLIC_TO(0, ID(source)));
}

/* A VM with a controller and both sources; -1 if the host has no such mode. */
static int create(struct kvm_vm **vm, struct kvm_vcpu **vcpu, void *guest, u32 mode)
{
	int fd;

	*vm = vm_create_with_one_vcpu(vcpu, guest);
	fd = kvm_create_device(*vm, KVM_DEV_TYPE_RISCV_AIA);
	if (mode != KVM_DEV_RISCV_AIA_MODE_EMUL &&
	    aia_get(fd, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_MODE) == KVM_DEV_RISCV_AIA_MODE_EMUL)
		return -1;
	aia_configure(*vm, fd, mode, SOURCES);
	TEST_ASSERT_OK(__aia_init(fd));
	aia_map(*vm);
	set_source(fd, EDGE, APLIC_EDGE1);
	set_source(fd, LEVEL, APLIC_LEVEL1);
	aia_set(fd, APLIC, APLIC_SETIE(0), 1 << EDGE | 1 << LEVEL);
	aia_set(fd, APLIC, APLIC_DOMAINCFG, APLIC_IE);
	return fd;
}

/* A guest that does what it is told. */
FIXTURE(irqfd)
{
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	int fd;
};

FIXTURE_VARIANT(irqfd)
{
	u32 mode;
};

FIXTURE_VARIANT_ADD(irqfd, software) { .mode = KVM_DEV_RISCV_AIA_MODE_EMUL };
FIXTURE_VARIANT_ADD(irqfd, hardware) { .mode = KVM_DEV_RISCV_AIA_MODE_HWACCEL };

FIXTURE_SETUP(irqfd)
{
	if (!aia_is_there())
		SKIP(return, "no in-kernel irqchip");
	self->fd = create(&self->vm, &self->vcpu, guest_server, variant->mode);
	if (self->fd < 0)
		SKIP(return, "no interrupt files for guests on this host");
	vm_catch_guest_traps(self->vm);
}

FIXTURE_TEARDOWN(irqfd)
{
	close(self->fd);
	kvm_vm_free(self->vm);
}

/* A guest that takes interrupts all the time. */
FIXTURE(guest)
{
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct aia_runner runner;
	int fd;
};

FIXTURE_VARIANT(guest)
{
	u32 mode;
	void (*code)(void);
};

#define VARIANT(name, how, what)						\
	FIXTURE_VARIANT_ADD(guest, name) {					\
		.mode = KVM_DEV_RISCV_AIA_MODE_##how,				\
		.code = what,							\
	}

VARIANT(software_sleeping, EMUL, aia_guest_sleeper);
VARIANT(software_spinning, EMUL, aia_guest_spinner);
VARIANT(hardware_sleeping, HWACCEL, aia_guest_sleeper);
VARIANT(hardware_spinning, HWACCEL, aia_guest_spinner);

FIXTURE_SETUP(guest)
{
	if (!aia_is_there())
		SKIP(return, "no in-kernel irqchip");
	self->fd = create(&self->vm, &self->vcpu, variant->code, variant->mode);
	if (self->fd < 0)
		SKIP(return, "no interrupt files for guests on this host");
	vm_init_vector_tables(self->vm);
	vcpu_init_vector_tables(self->vcpu);
	vm_install_interrupt_handler(self->vm, aia_irq_handler);
	/* It has begun. */
	TEST_ASSERT(aia_signal_msi(self->vm, AIA_IMSIC(0), 1) >= 0, "KVM_SIGNAL_MSI");
	aia_start(&self->runner, self->vcpu);
	TEST_ASSERT(eventually(aia_taken_of(self->vm)[1]), "the guest takes no interrupt");
}

FIXTURE_TEARDOWN(guest)
{
	aia_stop(&self->runner);
	close(self->fd);
	kvm_vm_free(self->vm);
}

static bool is_pending(int fd, u32 id)
{
	return aia_file_get(fd, 0, IMSIC_EIP(0)) >> id & 1;
}

static void unpend(int fd)
{
	aia_file_set(fd, 0, IMSIC_EIP(0), 0);
}

static bool is_high(int fd, u32 source)
{
	return aia_get(fd, APLIC, APLIC_IN_CLRIP(0)) >> source & 1;
}

static void signal_fd(int eventfd)
{
	TEST_ASSERT_OK(eventfd_write(eventfd, 1));
}

static int irqfd_of(struct kvm_vm *vm, u32 gsi)
{
	int eventfd = kvm_new_eventfd();

	kvm_assign_irqfd(vm, gsi, eventfd);
	return eventfd;
}

static void route_msi(struct kvm_vm *vm, u32 gsi, u64 gpa, u32 data)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entry;
	} table = {
		.head.nr = 1,
		.entry = {
			.gsi = gsi,
			.type = KVM_IRQ_ROUTING_MSI,
			.u.msi = { .address_lo = gpa, .address_hi = gpa >> 32, .data = data },
		},
	};

	TEST_ASSERT_OK(__vm_ioctl(vm, KVM_SET_GSI_ROUTING, &table.head));
}

TEST_F(irqfd, msi)
{
	int i, eventfd;

	route_msi(self->vm, 20, AIA_IMSIC(0), 9);
	eventfd = irqfd_of(self->vm, 20);
	for (i = 0; i < 3; i++) {
		signal_fd(eventfd);
		TEST_ASSERT(is_pending(self->fd, 9), "signal %d", i);
		unpend(self->fd);
	}
	/* Nowhere: nobody is hurt. */
	route_msi(self->vm, 20, AIA_IMSIC(1), 9);
	signal_fd(eventfd);
	route_msi(self->vm, 20, AIA_IMSIC(0), 0);
	signal_fd(eventfd);
	TEST_ASSERT_EQ(aia_file_get(self->fd, 0, IMSIC_EIP(0)), 0);
	close(eventfd);
}

TEST_F(irqfd, routes_that_cannot_be)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entry;
	} table = {
		.head.nr = 1,
		.entry = { .gsi = 1, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip.pin = 1024 },
	};

	TEST_ASSERT_ERRNO(__vm_ioctl(self->vm, KVM_SET_GSI_ROUTING, &table.head), EINVAL);
	table.entry.u.irqchip.pin = 1023;
	TEST_ASSERT_OK(__vm_ioctl(self->vm, KVM_SET_GSI_ROUTING, &table.head));
	table.entry.u.irqchip.irqchip = 1;
	TEST_ASSERT_ERRNO(__vm_ioctl(self->vm, KVM_SET_GSI_ROUTING, &table.head), EINVAL);
	table.entry.type = KVM_IRQ_ROUTING_HV_SINT;
	TEST_ASSERT_ERRNO(__vm_ioctl(self->vm, KVM_SET_GSI_ROUTING, &table.head), EINVAL);
}

/* Each signal is an edge of its own (differences-from-c S1). */
TEST_F(irqfd, each_signal_is_an_edge)
{
	int i, eventfd = irqfd_of(self->vm, EDGE);

	for (i = 0; i < 3; i++) {
		signal_fd(eventfd);
		TEST_ASSERT(eventually_within(DEFECT_MS, is_pending(self->fd, ID(EDGE))), "signal %d", i);
		TEST_ASSERT(!is_high(self->fd, EDGE), "the wire stays high");
		unpend(self->fd);
	}
	close(eventfd);
}

/* Without resampling, a level-sensitive source sees a pulse (differences-from-c S1). */
TEST_F(irqfd, level_pulse)
{
	int i, eventfd = irqfd_of(self->vm, LEVEL);

	for (i = 0; i < 3; i++) {
		signal_fd(eventfd);
		TEST_ASSERT(eventually_within(DEFECT_MS, is_pending(self->fd, ID(LEVEL))), "signal %d", i);
		TEST_ASSERT(!is_high(self->fd, LEVEL), "the wire stays high");
		unpend(self->fd);
	}
	/* While it is disabled, nothing is left of it. */
	aia_set(self->fd, APLIC, APLIC_CLRIE(0), 1 << LEVEL);
	signal_fd(eventfd);
	usleep(10000);
	aia_set(self->fd, APLIC, APLIC_SETIE(0), 1 << LEVEL);
	TEST_ASSERT(!is_pending(self->fd, ID(LEVEL)), "it came late");
	close(eventfd);
}

static bool was_resampled(int eventfd)
{
	struct pollfd poll_fd = { .fd = eventfd, .events = POLLIN };
	eventfd_t count;

	if (poll(&poll_fd, 1, 0) != 1)
		return false;
	TEST_ASSERT_OK(eventfd_read(eventfd, &count));
	TEST_ASSERT_EQ(count, 1);
	return true;
}

/* The ways in which a guest ends the handling of a level-sensitive interrupt. */
static u64 guest_setipnum_le(u64 source)
{
	aplic_write(APLIC_SETIPNUM_LE, source);
	return 0;
}

static u64 guest_setipnum_be(u64 source)
{
	aplic_write(APLIC_SETIPNUM_BE, __builtin_bswap32(source));
	return 0;
}

static u64 guest_setipnum(u64 source)
{
	aplic_write(APLIC_SETIPNUM, source);
	return 0;
}

static u64 guest_setip(u64 source)
{
	aplic_write(APLIC_SETIP(source / 32), 1 << source % 32);
	return 0;
}

/* Whether the guest would have to serve the device again. */
static u64 guest_in_clrip(u64 source)
{
	return aplic_read(APLIC_IN_CLRIP(source / 32)) >> source % 32 & 1;
}

/*
 * With resampling, the wire stays high until the guest is done, which it says by
 * @eoi: it asks for the interrupt again, if there is one, or looks at the wire.
 */
static void resamples(struct kvm_vm *vm, struct kvm_vcpu *vcpu, int fd, u64 (*eoi)(u64))
{
	struct kvm_irqfd irqfd = {
		.gsi = LEVEL,
		.flags = KVM_IRQFD_FLAG_RESAMPLE,
		.fd = kvm_new_eventfd(),
		.resamplefd = kvm_new_eventfd(),
	};
	bool looks = eoi == guest_in_clrip;
	u64 high;
	int i;

	TEST_ASSERT_OK(__vm_ioctl(vm, KVM_IRQFD, &irqfd));
	for (i = 0; i < 3; i++) {
		signal_fd(irqfd.fd);
		TEST_ASSERT(eventually_within(DEFECT_MS, is_pending(fd, ID(LEVEL))), "signal %d", i);
		TEST_ASSERT(is_high(fd, LEVEL), "the wire is low");
		TEST_ASSERT(!was_resampled(irqfd.resamplefd), "the guest was not done");
		unpend(fd);
		guest_ask(vcpu, GUEST_OP_EXEC, (u64)eoi, LEVEL);
		TEST_ASSERT_EQ(guest_answer(vcpu, &high), NO_TRAP);
		TEST_ASSERT(was_resampled(irqfd.resamplefd), "nobody was told");
		TEST_ASSERT(!looks || !high, "the guest sees the wire high");
		TEST_ASSERT(!is_high(fd, LEVEL), "the wire stays high");
		TEST_ASSERT(!is_pending(fd, ID(LEVEL)), "an interrupt of nobody");
	}
	/* The other owner of the wire holds it, whatever the irqfd does. */
	TEST_ASSERT_OK(aia_line(vm, LEVEL, 1));
	TEST_ASSERT(is_pending(fd, ID(LEVEL)), "no interrupt");
	unpend(fd);
	guest_ask(vcpu, GUEST_OP_EXEC, (u64)eoi, LEVEL);
	TEST_ASSERT_EQ(guest_answer(vcpu, &high), NO_TRAP);
	TEST_ASSERT(!looks || high, "the guest sees the wire low");
	TEST_ASSERT(is_high(fd, LEVEL), "the wire went low");
	TEST_ASSERT_EQ(is_pending(fd, ID(LEVEL)), !looks);
	TEST_ASSERT_OK(aia_line(vm, LEVEL, 0));
	TEST_ASSERT(!is_high(fd, LEVEL), "the wire stays high");
	close(irqfd.fd);
	close(irqfd.resamplefd);
}

/* differences-from-c S1 */
TEST_F(irqfd, level_resample)
{
	resamples(self->vm, self->vcpu, self->fd, guest_setipnum_le);
}

/* differences-from-c S1 */
TEST_F(irqfd, level_resample_by_setipnum)
{
	resamples(self->vm, self->vcpu, self->fd, guest_setipnum);
}

/* differences-from-c S1 */
TEST_F(irqfd, level_resample_by_setipnum_be)
{
	resamples(self->vm, self->vcpu, self->fd, guest_setipnum_be);
}

TEST_F(irqfd, level_resample_by_setip)
{
	resamples(self->vm, self->vcpu, self->fd, guest_setip);
}

TEST_F(irqfd, level_resample_by_in_clrip)
{
	resamples(self->vm, self->vcpu, self->fd, guest_in_clrip);
}

/* Of a source that is pending, the guest does not know yet: it polls another one. */
TEST_F(irqfd, level_is_not_done_while_it_is_pending)
{
	struct kvm_irqfd irqfd = {
		.gsi = LEVEL,
		.flags = KVM_IRQFD_FLAG_RESAMPLE,
		.fd = kvm_new_eventfd(),
		.resamplefd = kvm_new_eventfd(),
	};
	u64 high;

	TEST_ASSERT_OK(__vm_ioctl(self->vm, KVM_IRQFD, &irqfd));
	aia_set(self->fd, APLIC, APLIC_CLRIE(0), 1 << LEVEL);
	signal_fd(irqfd.fd);
	TEST_ASSERT(eventually_within(DEFECT_MS, is_high(self->fd, LEVEL)), "the wire is low");
	guest_ask(self->vcpu, GUEST_OP_EXEC, (u64)guest_in_clrip, LEVEL);
	TEST_ASSERT_EQ(guest_answer(self->vcpu, &high), NO_TRAP);
	TEST_ASSERT(high, "the guest sees the wire low");
	TEST_ASSERT(!was_resampled(irqfd.resamplefd), "the guest was not done");
	aia_set(self->fd, APLIC, APLIC_SETIE(0), 1 << LEVEL);
	TEST_ASSERT(is_pending(self->fd, ID(LEVEL)), "the interrupt is lost");
	close(irqfd.fd);
	close(irqfd.resamplefd);
}

/* Signals until the guest took each of @count interrupts before the next one. */
static void ping(struct kvm_vm *vm, int eventfd, u32 id, u64 count)
{
	volatile u64 *taken = aia_taken_of(vm);
	u64 i, before = taken[id];

	for (i = 1; i <= count; i++) {
		signal_fd(eventfd);
		TEST_ASSERT(eventually_within(DEFECT_MS, taken[id] == before + i),
			    "interrupt %lu of %lu lost",
			    (unsigned long)i, (unsigned long)count);
	}
}

TEST_F(guest, takes_each_msi)
{
	int eventfd;

	route_msi(self->vm, 20, AIA_IMSIC(0), 9);
	eventfd = irqfd_of(self->vm, 20);
	ping(self->vm, eventfd, 9, PINGS);
	close(eventfd);
}

/* differences-from-c S1 */
TEST_F(guest, takes_each_edge)
{
	int eventfd = irqfd_of(self->vm, EDGE);

	ping(self->vm, eventfd, ID(EDGE), PINGS);
	close(eventfd);
}

TEST_HARNESS_MAIN
