// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: N2, N3, N36, N56 */
/* covers: aia/imsic.rs aia/imsic/file.rs aia/imsic/hw.rs aia/imsic/csr.rs
 * aia/imsic/iprio.rs arch/aia.rs mmu/ioremap.rs gstage/device.rs */
/*
 * Interrupt files of guests, in software and in hardware: every register,
 * messages of all senders, claims, priorities, and what becomes of them when
 * vCPUs move and when there are more of them than files.
 */
#include "kvm_rs_aia.h"

#define ISELECT_IPRIO(n)	(0x30 + (n))
#define IPRIO_OF(value, irq)	((value) >> (irq) % 8 * 8 & 0xff)

#define MAX_VCPUS		6

FIXTURE(imsic)
{
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[MAX_VCPUS];
	struct aia_runner runners[MAX_VCPUS];
	u32 ids;
	int fd;
};

FIXTURE_VARIANT(imsic)
{
	u32 mode;
};

FIXTURE_VARIANT_ADD(imsic, software) { .mode = KVM_DEV_RISCV_AIA_MODE_EMUL };
FIXTURE_VARIANT_ADD(imsic, hardware) { .mode = KVM_DEV_RISCV_AIA_MODE_HWACCEL };

FIXTURE_SETUP(imsic)
{
	if (!aia_is_there())
		SKIP(return, "no in-kernel irqchip");
}

FIXTURE_TEARDOWN(imsic)
{
	if (self->vm) {
		close(self->fd);
		kvm_vm_free(self->vm);
	}
}

/* Whether the host has interrupt files for guests: its own default says so. */
static bool host_has_files(int fd)
{
	return aia_get(fd, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_MODE) != KVM_DEV_RISCV_AIA_MODE_EMUL;
}

/* @n vCPUs that run @code, with a controller of @mode; false if the host has no such mode. */
static bool create(FIXTURE_DATA(imsic) *self, u32 mode, int n, void *code)
{
	self->vm = vm_create_with_vcpus(n, code, self->vcpus);
	self->fd = kvm_create_device(self->vm, KVM_DEV_TYPE_RISCV_AIA);
	if (mode != KVM_DEV_RISCV_AIA_MODE_EMUL && !host_has_files(self->fd))
		return false;
	self->ids = aia_get(self->fd, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_IDS);
	aia_configure(self->vm, self->fd, mode, 0);
	TEST_ASSERT_OK(__aia_init(self->fd));
	vm_catch_guest_traps(self->vm);
	aia_map(self->vm);
	vm_install_interrupt_handler(self->vm, aia_irq_handler);
	return true;
}

#define CREATE(n, code)									\
do {											\
	if (!create(self, variant->mode, n, code))					\
		SKIP(return, "no interrupt files for guests on this host");		\
} while (0)

static void move_to(struct aia_runner *runner, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	pthread_setaffinity_np(runner->thread, sizeof(set), &set);
}

/* What the guest is to know. */
static u64 file_ids;

static u64 bits_of(u64 n)
{
	u64 first = n * 32;

	if (first > file_ids)
		return 0;
	return first ? ~0UL : ~1UL;
}

static void guest_registers(void)
{
	u64 n, bits, value;

	/* WARL: 0 and 1. */
	imsic_write(IMSIC_EIDELIVERY, ~0UL);
	GUEST_ASSERT_EQ(imsic_read(IMSIC_EIDELIVERY), 1);
	imsic_write(IMSIC_EIDELIVERY, 0);
	GUEST_ASSERT_EQ(imsic_read(IMSIC_EIDELIVERY), 0);

	for (n = 0; n <= file_ids; n++) {
		imsic_write(IMSIC_EITHRESHOLD, n);
		GUEST_ASSERT_EQ(imsic_read(IMSIC_EITHRESHOLD), n);
	}
	imsic_write(IMSIC_EITHRESHOLD, 0);

	for (n = 0; n * 32 <= file_ids; n += 2) {
		bits = bits_of(n);
		imsic_write(IMSIC_EIE(n), ~0UL);
		GUEST_ASSERT_EQ(imsic_read(IMSIC_EIE(n)), bits);
		imsic_write(IMSIC_EIP(n), ~0UL);
		GUEST_ASSERT_EQ(imsic_read(IMSIC_EIP(n)), bits);
		csr_write(CSR_SISELECT_NR, IMSIC_EIE(n));
		csr_clear(CSR_SIREG_NR, 0xf0f0f0f0f0f0f0f0);
		GUEST_ASSERT_EQ(csr_read(CSR_SIREG_NR), bits & 0x0f0f0f0f0f0f0f0f);
		csr_set(CSR_SIREG_NR, 0xff00UL);
		GUEST_ASSERT_EQ(csr_read(CSR_SIREG_NR), bits & 0x0f0f0f0f0f0fff0f);
		value = csr_swap(CSR_SIREG_NR, 0);
		GUEST_ASSERT_EQ(value, bits & 0x0f0f0f0f0f0fff0f);
		GUEST_ASSERT_EQ(imsic_read(IMSIC_EIP(n)), bits);
		imsic_write(IMSIC_EIP(n), 0);
		GUEST_ASSERT_EQ(imsic_read(IMSIC_EIP(n)), 0);
	}

	/* Odd registers of the arrays are those of harts of 32 bits. */
	for (n = 1; n < 64; n += 2) {
		GUEST_ASSERT_EQ(GUEST_CATCH(imsic_read(IMSIC_EIP(n))), EXC_INST_ILLEGAL);
		GUEST_ASSERT_EQ(GUEST_CATCH(imsic_write(IMSIC_EIE(n), 0)), EXC_INST_ILLEGAL);
	}
	GUEST_DONE();
}

static void run_with_ids(FIXTURE_DATA(imsic) *self)
{
	u64 ids = self->ids;

	write_guest_global(self->vm, file_ids, ids);
	run_to_done(self->vcpus[0]);
}

TEST_F(imsic, registers)
{
	CREATE(1, guest_registers);
	run_with_ids(self);
}

static void guest_reserved(void)
{
	u64 n;

	/* Numbers without a register, and bits without an identity, are read-only zeros. */
	for (n = 0x71; n < 0x80; n++) {
		if (n == IMSIC_EITHRESHOLD)
			continue;
		imsic_write(n, ~0UL);
		GUEST_ASSERT_EQ(imsic_read(n), 0);
	}
	for (n = (file_ids + 1) / 32; n < 64; n += 2) {
		imsic_write(IMSIC_EIE(n), ~0UL);
		GUEST_ASSERT_EQ(imsic_read(IMSIC_EIE(n)), 0);
		imsic_write(IMSIC_EIP(n), ~0UL);
		GUEST_ASSERT_EQ(imsic_read(IMSIC_EIP(n)), 0);
	}
	GUEST_ASSERT_EQ(guest_trap.count, 0);
	GUEST_DONE();
}

/*
 * C sends the guest's accesses to reserved registers to userspace, and refuses the others
 * (differences-from-c N2).
 */
TEST_F(imsic, reserved_registers)
{
	CREATE(1, guest_reserved);
	run_with_ids(self);
}

/* Numbers that belong to nothing are illegal, whatever VMMs know of them. */
static void guest_elsewhere(void)
{
	static const u64 numbers[] = { 0, 0x2f, 0x31, 0x3f, 0x6f, 0x100, 0x170, 0xfff };
	int i;

	for (i = 0; i < ARRAY_SIZE(numbers); i++)
		GUEST_ASSERT_EQ(GUEST_CATCH(imsic_read(numbers[i])), EXC_INST_ILLEGAL);
	GUEST_DONE();
}

TEST_F(imsic, numbers_without_registers)
{
	CREATE(1, guest_elsewhere);
	run_to_done(self->vcpus[0]);
}

static void send_to(u64 gpa, u32 offset, u32 value)
{
	WRITE_ONCE(*(u32 *)(gpa + offset), value);
	/* A message may be on its way for some time. */
	asm volatile("fence" : : : "memory");
}

#define me	AIA_IMSIC(0)

static void guest_claims(void)
{
	u64 id, sip;

	imsic_write(IMSIC_EIE(0), ~0UL);
	imsic_write(IMSIC_EIDELIVERY, 1);
	GUEST_ASSERT_EQ(csr_read(CSR_STOPEI_NR), 0);
	GUEST_ASSERT_EQ(imsic_claim(), 0);
	GUEST_ASSERT_EQ(csr_read(CSR_SIP) & IP_SEIP, 0);

	/* The lowest number comes first, whatever came first. */
	for (id = 63; id; id--)
		send_to(me, 0, id);
	sip = csr_read(CSR_SIP);
	GUEST_ASSERT_EQ(sip & IP_SEIP, IP_SEIP);
	for (id = 1; id < 64; id++) {
		/* Looking is not taking. */
		GUEST_ASSERT_EQ(csr_read(CSR_STOPEI_NR), id << 16 | id);
		GUEST_ASSERT_EQ(csr_read(CSR_STOPEI_NR), id << 16 | id);
		switch (id % 4) {
		case 0:
			GUEST_ASSERT_EQ(csr_swap(CSR_STOPEI_NR, 0), id << 16 | id);
			break;
		case 1:
			/* The value does not matter, that it is written does. */
			GUEST_ASSERT_EQ(csr_read_set(CSR_STOPEI_NR, id), id << 16 | id);
			break;
		case 2:
			csr_write(CSR_STOPEI_NR, ~0UL);
			break;
		case 3:
			imsic_write(IMSIC_EIP(0), id == 63 ? 0 : ~0UL << (id + 1));
			break;
		}
	}
	GUEST_ASSERT_EQ(csr_read(CSR_STOPEI_NR), 0);
	GUEST_ASSERT_EQ(csr_read(CSR_SIP) & IP_SEIP, 0);

	/* The same again is one interrupt until it is claimed. */
	send_to(me, 0, 9);
	send_to(me, 0, 9);
	GUEST_ASSERT_EQ(imsic_claim(), 9);
	GUEST_ASSERT_EQ(imsic_claim(), 0);

	/* The threshold, and what is not enabled, hold back. */
	send_to(me, 0, 20);
	imsic_write(IMSIC_EITHRESHOLD, 20);
	GUEST_ASSERT_EQ(csr_read(CSR_STOPEI_NR), 0);
	GUEST_ASSERT_EQ(csr_read(CSR_SIP) & IP_SEIP, 0);
	imsic_write(IMSIC_EITHRESHOLD, 21);
	GUEST_ASSERT_EQ(csr_read(CSR_STOPEI_NR), 20 << 16 | 20);
	GUEST_ASSERT_EQ(csr_read(CSR_SIP) & IP_SEIP, IP_SEIP);
	imsic_write(IMSIC_EIE(0), ~(1UL << 20));
	GUEST_ASSERT_EQ(csr_read(CSR_STOPEI_NR), 0);
	GUEST_ASSERT_EQ(csr_read(CSR_SIP) & IP_SEIP, 0);
	imsic_write(IMSIC_EIE(0), ~0UL);
	imsic_write(IMSIC_EITHRESHOLD, 0);

	/* Without delivery there is an interrupt, but nobody is told. */
	imsic_write(IMSIC_EIDELIVERY, 0);
	GUEST_ASSERT_EQ(csr_read(CSR_SIP) & IP_SEIP, 0);
	GUEST_ASSERT_EQ(csr_read(CSR_STOPEI_NR), 20 << 16 | 20);
	imsic_write(IMSIC_EIDELIVERY, 1);
	GUEST_ASSERT_EQ(csr_read(CSR_SIP) & IP_SEIP, IP_SEIP);
	GUEST_ASSERT_EQ(imsic_claim(), 20);
	GUEST_DONE();
}

TEST_F(imsic, claims_and_thresholds)
{
	CREATE(1, guest_claims);
	run_to_done(self->vcpus[0]);
}

static bool file_takes_both;

static void guest_page(void)
{
	u32 offset, id;

	imsic_write(IMSIC_EIE(0), ~0UL);
	for (offset = 0; offset < 8; offset += 4)
		GUEST_ASSERT_EQ(READ_ONCE(*(u32 *)(me + offset)), 0);
	/* Hardware may ignore the other byte order. */
	send_to(me, 4, __builtin_bswap32(33));
	id = imsic_claim();
	if (id || file_takes_both)
		GUEST_ASSERT_EQ(id, 33);
	/* No such identity. */
	send_to(me, 0, 0);
	send_to(me, 0, file_ids + 1);
	send_to(me, 0, 1 << 31);
	send_to(me, 0, ~0);
	send_to(me, 4, 33);
	GUEST_ASSERT_EQ(imsic_claim(), 0);
	/* The largest there is. */
	id = file_ids;
	imsic_write(IMSIC_EIE(id / 64 * 2), ~0UL);
	send_to(me, 0, id);
	GUEST_ASSERT_EQ(imsic_claim(), id);
	GUEST_DONE();
}

TEST_F(imsic, page)
{
	bool software = variant->mode == KVM_DEV_RISCV_AIA_MODE_EMUL;

	CREATE(1, guest_page);
	write_guest_global(self->vm, file_takes_both, software);
	run_with_ids(self);
}

static void guest_iprio(void)
{
	static const int irqs[] = { 1, 5, 13, 14, 15, 16, 23 };
	u64 n, value, want;
	int i;

	for (n = 0; n < 16; n += 2) {
		imsic_write(ISELECT_IPRIO(n), ~0UL);
		value = imsic_read(ISELECT_IPRIO(n));
		/* That of the external interrupt is the file's to say. */
		if (n == 2)
			GUEST_ASSERT_EQ(IPRIO_OF(value, 9), 0);
		imsic_write(ISELECT_IPRIO(n), 0);
		GUEST_ASSERT_EQ(imsic_read(ISELECT_IPRIO(n)), 0);
	}
	/* Each is where it belongs, or nowhere. */
	for (i = 0; i < ARRAY_SIZE(irqs); i++) {
		n = irqs[i] / 8 * 2;
		want = 0x55UL << irqs[i] % 8 * 8;
		imsic_write(ISELECT_IPRIO(n), want);
		value = imsic_read(ISELECT_IPRIO(n));
		if (value)
			GUEST_ASSERT_EQ(value, want);
		imsic_write(ISELECT_IPRIO(n), 0);
	}
	GUEST_DONE();
}

TEST_F(imsic, priorities_of_major_interrupts)
{
	CREATE(1, guest_iprio);
	run_to_done(self->vcpus[0]);
}

/* The guest's software interrupt gets a priority between those of two messages. */
static void guest_order(void)
{
	imsic_write(ISELECT_IPRIO(0), 10UL << 8);
	if (imsic_read(ISELECT_IPRIO(0)) != 10UL << 8)
		GUEST_DONE();
	imsic_open();
	csr_set(CSR_SIE, IP_SEIP | IP_SSIP);
	csr_set(CSR_SIP, IP_SSIP);
	GUEST_ASSERT_EQ(csr_read(CSR_STOPI_NR), 1 << 16 | 10);
	send_to(me, 0, 20);
	GUEST_ASSERT_EQ(csr_read(CSR_STOPI_NR), 1 << 16 | 10);
	send_to(me, 0, 3);
	GUEST_ASSERT_EQ(csr_read(CSR_STOPI_NR), 9 << 16 | 3);
	GUEST_ASSERT_EQ(imsic_claim(), 3);
	GUEST_ASSERT_EQ(csr_read(CSR_STOPI_NR), 1 << 16 | 10);
	csr_clear(CSR_SIP, IP_SSIP);
	GUEST_ASSERT_EQ(csr_read(CSR_STOPI_NR), 9 << 16 | 20);
	GUEST_ASSERT_EQ(imsic_claim(), 20);
	GUEST_ASSERT_EQ(csr_read(CSR_STOPI_NR), 0);
	GUEST_DONE();
}

/*
 * In C every external interrupt of a file in software has priority 1, and nobody sees priorities
 * (differences-from-c N3).
 */
TEST_F(imsic, stopi_tells_priorities)
{
	CREATE(1, guest_order);
	run_to_done(self->vcpus[0]);
}

/* The same where interrupts from outside come by a wire of userspace's. */
static void guest_order_without_files(void)
{
	imsic_write(ISELECT_IPRIO(0), 10UL << 8);
	if (imsic_read(ISELECT_IPRIO(0)) != 10UL << 8)
		GUEST_DONE();
	csr_clear(CSR_SSTATUS, SR_SIE);
	csr_set(CSR_SIE, IP_SEIP | IP_SSIP);
	GUEST_ASSERT_EQ(csr_read(CSR_STOPI_NR), 0);
	csr_set(CSR_SIP, IP_SSIP);
	GUEST_ASSERT_EQ(csr_read(CSR_STOPI_NR), 1 << 16 | 10);
	GUEST_SYNC1(1);
	/* Nothing is known of its priority: it comes first. */
	GUEST_ASSERT_EQ(csr_read(CSR_STOPI_NR), 9 << 16 | 1);
	csr_clear(CSR_SIP, IP_SSIP);
	GUEST_ASSERT_EQ(csr_read(CSR_STOPI_NR), 9 << 16 | 1);
	GUEST_DONE();
}

/* F16 (differences-from-c N56) */
TEST(stopi_tells_priorities_without_irqchip)
{
	struct kvm_interrupt set = { .irq = KVM_INTERRUPT_SET };
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	struct ucall uc;

	if (!aia_is_there())
		SKIP(return, "no AIA");
	vm = vm_create_with_one_vcpu(&vcpu, guest_order_without_files);
	if (run_to_ucall(vcpu, &uc) == UCALL_SYNC) {
		vcpu_ioctl(vcpu, KVM_INTERRUPT, &set);
		run_to_done(vcpu);
	}
	kvm_vm_free(vm);
}

/* What userspace reads and writes is what the guest has. */
static void guest_attributes(void)
{
	imsic_write(IMSIC_EITHRESHOLD, 50);
	imsic_write(IMSIC_EIE(0), 0x8000000000000006);
	imsic_write(IMSIC_EIP(0), 0x8000000000000004);
	imsic_write(IMSIC_EIDELIVERY, 1);
	GUEST_SYNC1(1);
	GUEST_ASSERT_EQ(imsic_read(IMSIC_EITHRESHOLD), 60);
	GUEST_ASSERT_EQ(imsic_read(IMSIC_EIDELIVERY), 1);
	GUEST_ASSERT_EQ(imsic_read(IMSIC_EIE(0)), 0x30);
	GUEST_ASSERT_EQ(imsic_read(IMSIC_EIP(0)), 0x28);
	GUEST_ASSERT_EQ(csr_read(CSR_SIP) & IP_SEIP, IP_SEIP);
	GUEST_ASSERT_EQ(imsic_claim(), 5);
	GUEST_DONE();
}

TEST_F(imsic, attributes)
{
	CREATE(1, guest_attributes);
	TEST_ASSERT_EQ(run_to_sync(self->vcpus[0]), 1);
	TEST_ASSERT_EQ(aia_file_get(self->fd, 0, IMSIC_EITHRESHOLD), 50);
	TEST_ASSERT_EQ(aia_file_get(self->fd, 0, IMSIC_EIE(0)), 0x8000000000000006);
	TEST_ASSERT_EQ(aia_file_get(self->fd, 0, IMSIC_EIP(0)), 0x8000000000000004);
	TEST_ASSERT_EQ(aia_file_get(self->fd, 0, IMSIC_EIDELIVERY), 1);
	aia_file_set(self->fd, 0, IMSIC_EITHRESHOLD, 60);
	aia_file_set(self->fd, 0, IMSIC_EIE(0), 0x30);
	aia_file_set(self->fd, 0, IMSIC_EIP(0), 0x28);
	/* On the way to another file all of it comes along. */
	if (sysconf(_SC_NPROCESSORS_ONLN) > 1)
		pin_self_to_cpu(1);
	run_to_done(self->vcpus[0]);
}

/* Each message of @rounds is taken before the next one is sent; @disturb comes in between. */
static void messages(FIXTURE_DATA(imsic) *self, int n, int rounds,
		     void (*disturb)(FIXTURE_DATA(imsic) *, int))
{
	volatile u64 *taken = aia_taken_of(self->vm);
	u64 before;
	int i, id;

	for (i = 0; i < n; i++)
		aia_start(&self->runners[i], self->vcpus[i]);
	for (i = 0; i < rounds; i++) {
		id = i % 63 + 1;
		before = taken[id];
		disturb(self, i);
		TEST_ASSERT(aia_signal_msi(self->vm, AIA_IMSIC(i % n), id) >= 0, "message %d: %s", i,
			    strerror(errno));
		TEST_ASSERT(eventually(taken[id] != before), "message %d to vCPU %d is lost", i,
			    i % n);
	}
	for (i = 0; i < n; i++)
		aia_stop(&self->runners[i]);
}

static void disturb_not(FIXTURE_DATA(imsic) *self, int round)
{
}

/* The receiver moves to another CPU while it is sent to. */
static void disturb_move(FIXTURE_DATA(imsic) *self, int round)
{
	move_to(&self->runners[0], round % sysconf(_SC_NPROCESSORS_ONLN));
}

TEST_F(imsic, messages_wake)
{
	CREATE(1, aia_guest_sleeper);
	messages(self, 1, 200, disturb_not);
}

TEST_F(imsic, messages_reach_a_vcpu_that_moves)
{
	CREATE(1, aia_guest_sleeper);
	messages(self, 1, 400, disturb_move);
}

TEST_F(imsic, messages_reach_a_vcpu_that_moves_and_does_not_sleep)
{
	CREATE(1, aia_guest_spinner);
	messages(self, 1, 400, disturb_move);
}

/* Takes each message as soon as it is there, and does not wait for the interrupt. */
static volatile u64 polls_asked, polls_sent, polls_over;

static void guest_polls(void)
{
	u64 n;

	imsic_open();
	for (n = 1; !polls_over; n++) {
		polls_asked = n;
		while (!imsic_claim())
			;
		while (polls_sent != n)
			cpu_relax();
		/* It was sent and taken: nothing is left to be signalled. */
		GUEST_ASSERT_EQ(csr_read(CSR_STOPEI_NR), 0);
		GUEST_ASSERT_EQ(csr_read(CSR_SIP) & IP_SEIP, 0);
	}
	GUEST_DONE();
}

static void *answer_polls(void *arg)
{
	struct kvm_vm *vm = arg;
	volatile u64 *asked = addr_gva2hva(vm, (gva_t)&polls_asked);
	volatile u64 *sent = addr_gva2hva(vm, (gva_t)&polls_sent);
	volatile u64 *over = addr_gva2hva(vm, (gva_t)&polls_over);
	time_t end = time(NULL) + 2;
	u64 n;

	for (n = 1; !*over; n++) {
		while (*asked != n)
			sched_yield();
		*over = time(NULL) >= end;
		TEST_ASSERT(aia_signal_msi(vm, AIA_IMSIC(0), 7) >= 0, "KVM_SIGNAL_MSI");
		*sent = n;
	}
	return NULL;
}

TEST_F(imsic, messages_that_are_polled)
{
	pthread_t thread;

	CREATE(1, guest_polls);
	TEST_ASSERT_EQ(pthread_create(&thread, NULL, answer_polls, self->vm), 0);
	run_to_done(self->vcpus[0]);
	pthread_join(thread, NULL);
}

/* A hart that waits for something else, with a message pending. */
static void guest_waits_for_nothing(void)
{
	imsic_open();
	csr_clear(CSR_SIE, IP_SEIP);
	send_to(me, 0, 5);
	for (;;)
		asm volatile("wfi" : : : "memory");
}

static void guest_stops_itself(void)
{
	imsic_open();
	csr_set(CSR_SIE, IP_SEIP);
	send_to(me, 0, 5);
	sbi_ecall(SBI_EXT_HSM, SBI_HSM_STOP, 0, 0, 0, 0, 0, 0);
	GUEST_FAIL("the hart is stopped");
}

/* How long the thread of @runner was on a CPU so far. */
static u64 cpu_time(struct aia_runner *runner)
{
	struct timespec time;
	clockid_t clock;

	TEST_ASSERT_EQ(pthread_getcpuclockid(runner->thread, &clock), 0);
	TEST_ASSERT_OK(clock_gettime(clock, &time));
	return timespec_to_ns(time);
}

/* Whether it was hardly on a CPU for a second. */
static bool rests(struct aia_runner *runner)
{
	u64 before = cpu_time(runner);

	usleep(1000000);
	return cpu_time(runner) - before < 100000000;
}

/* Waiting costs nothing, once the hart has come to it. */
static void waits(FIXTURE_DATA(imsic) *self)
{
	struct aia_runner *runner = &self->runners[0];

	aia_start(runner, self->vcpus[0]);
	usleep(300000);
	TEST_ASSERT(eventually_within(DEFECT_MS, rests(runner)), "it is on a CPU all the time");
	aia_stop(runner);
}

/* differences-from-c N36 */
TEST_F(imsic, vcpu_that_waits_for_something_else_sleeps)
{
	CREATE(1, guest_waits_for_nothing);
	waits(self);
}

/* differences-from-c N36 */
TEST_F(imsic, stopped_vcpu_sleeps)
{
	CREATE(1, guest_stops_itself);
	waits(self);
}

/* Two guests' harts send to each other, without userspace. */
static volatile u64 ping[2];

static void guest_ping(int self_id)
{
	imsic_open();
	csr_set(CSR_SIE, IP_SEIP);
	for (;;) {
		/* Not taken as an interrupt: what wakes is claimed below. */
		asm volatile("wfi" : : : "memory");
		while (imsic_claim()) {
			ping[self_id]++;
			send_to(AIA_IMSIC(!self_id), 0, 7 + self_id);
		}
	}
}

static void ping_pong(FIXTURE_DATA(imsic) *self, u64 rounds)
{
	volatile u64 *count;
	int i;

	vcpu_args_set(self->vcpus[0], 1, 0);
	vcpu_args_set(self->vcpus[1], 1, 1);
	count = addr_gva2hva(self->vm, (gva_t)ping);
	for (i = 0; i < 2; i++)
		aia_start(&self->runners[i], self->vcpus[i]);
	/* Until the file is open, what arrives is pending. */
	TEST_ASSERT(aia_signal_msi(self->vm, AIA_IMSIC(0), 9) >= 0, "the first message");
	for (i = 0; count[0] < rounds; i++) {
		u64 before = count[0] + count[1];

		move_to(&self->runners[i % 2], i / 2 % sysconf(_SC_NPROCESSORS_ONLN));
		TEST_ASSERT(eventually(count[0] + count[1] != before),
			    "lost after %lu and %lu", (unsigned long)count[0],
			    (unsigned long)count[1]);
	}
	for (i = 0; i < 2; i++)
		aia_stop(&self->runners[i]);
}

TEST_F(imsic, harts_that_move_reach_each_other)
{
	CREATE(2, guest_ping);
	ping_pong(self, 300);
}

/* More vCPUs than a CPU has files: those without go on in software. */
TEST(more_vcpus_than_files)
{
	FIXTURE_DATA(imsic) *self, data = {};

	if (!aia_is_there())
		SKIP(return, "no in-kernel irqchip");
	self = &data;
	if (!create(self, KVM_DEV_RISCV_AIA_MODE_AUTO, MAX_VCPUS, aia_guest_sleeper))
		SKIP(return, "no interrupt files for guests on this host");
	pin_self_to_cpu(0);
	messages(self, MAX_VCPUS, 300, disturb_not);
	close(self->fd);
	kvm_vm_free(self->vm);
}

static void guest_nothing(void)
{
	for (;;)
		GUEST_SYNC1(1);
}

/* A VM that insists on files in hardware does not run without. */
TEST(no_file_left)
{
	FIXTURE_DATA(imsic) data = {}, *self = &data;
	struct kvm_vcpu *vcpu;
	int i, ran;

	if (!aia_is_there())
		SKIP(return, "no in-kernel irqchip");
	pin_self_to_cpu(0);
	for (ran = 0; ran < 64; ran++) {
		memset(&data, 0, sizeof(data));
		if (!create(self, KVM_DEV_RISCV_AIA_MODE_HWACCEL, 1, guest_nothing))
			SKIP(return, "no interrupt files for guests on this host");
		vcpu = self->vcpus[0];
		TEST_ASSERT_EQ(_vcpu_run(vcpu), 0);
		if (vcpu->run->exit_reason == KVM_EXIT_FAIL_ENTRY)
			break;
		/* Kept: its file is taken. */
	}
	TEST_ASSERT(ran > 0 && ran < 64, "%d VMs ran", ran);
	TEST_ASSERT_EQ(vcpu->run->fail_entry.hardware_entry_failure_reason,
		       KVM_EXIT_FAIL_ENTRY_NO_VSFILE);
	TEST_ASSERT_EQ(vcpu->run->fail_entry.cpu, 0);
	/* Again, as often as one likes. */
	for (i = 0; i < 3; i++) {
		TEST_ASSERT_EQ(_vcpu_run(vcpu), 0);
		TEST_ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_FAIL_ENTRY);
	}
	/* Elsewhere there are some. */
	if (sysconf(_SC_NPROCESSORS_ONLN) > 1) {
		pin_self_to_cpu(1);
		TEST_ASSERT_EQ(run_to_sync(vcpu), 1);
		pin_self_to_cpu(0);
		TEST_ASSERT_EQ(_vcpu_run(vcpu), 0);
		TEST_ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_FAIL_ENTRY);
	}
}

/* Files of VMs that are gone are free again. */
TEST(files_come_back)
{
	FIXTURE_DATA(imsic) data, *self = &data;
	int i;

	if (!aia_is_there())
		SKIP(return, "no in-kernel irqchip");
	pin_self_to_cpu(0);
	for (i = 0; i < 20; i++) {
		memset(&data, 0, sizeof(data));
		if (!create(self, KVM_DEV_RISCV_AIA_MODE_HWACCEL, 1, guest_nothing))
			SKIP(return, "no interrupt files for guests on this host");
		TEST_ASSERT_EQ(run_to_sync(self->vcpus[0]), 1);
		close(self->fd);
		kvm_vm_free(self->vm);
	}
}

/* A hart that is started again begins with a file that knows nothing. */
static u64 stub_gpa;

static void guest_stops(int id)
{
	struct sbiret ret;

	if (!id) {
		imsic_open();
		imsic_write(IMSIC_EITHRESHOLD, 40);
		send_to(me, 0, 30);
		sbi_ecall(SBI_EXT_HSM, SBI_HSM_STOP, 0, 0, 0, 0, 0, 0);
		GUEST_FAIL("the hart is stopped");
	}
	while (sbi_ecall(SBI_EXT_HSM, SBI_HSM_STATUS, 0, 0, 0, 0, 0, 0).value != 1)
		cpu_relax();
	ret = sbi_ecall(SBI_EXT_HSM, SBI_HSM_START, 0, stub_gpa, 0, 0, 0, 0);
	GUEST_ASSERT_EQ(ret.error, 0);
	GUEST_SYNC1(1);
}

TEST_F(imsic, reset)
{
	struct kvm_mp_state running = { .mp_state = KVM_MP_STATE_RUNNABLE };
	u64 gpa, pc;
	int i;

	CREATE(2, guest_stops);
	/* Where it starts there is a loop: j . */
	gpa = addr_gva2gpa(self->vm, vm_alloc_page(self->vm));
	*(u32 *)addr_gpa2hva(self->vm, gpa) = 0x6f;
	write_guest_global(self->vm, stub_gpa, gpa);
	for (i = 0; i < 2; i++)
		vcpu_args_set(self->vcpus[i], 1, i);
	vcpu_mp_state_set(self->vcpus[1], &running);

	aia_start(&self->runners[0], self->vcpus[0]);
	TEST_ASSERT_EQ(run_to_sync(self->vcpus[1]), 1);
	aia_stop(&self->runners[0]);
	pc = vcpu_get_reg(self->vcpus[0], RISCV_CORE_REG(regs.pc));
	TEST_ASSERT_EQ(pc, gpa);
	TEST_ASSERT_EQ(aia_file_get(self->fd, 0, IMSIC_EIDELIVERY), 0);
	TEST_ASSERT_EQ(aia_file_get(self->fd, 0, IMSIC_EITHRESHOLD), 0);
	TEST_ASSERT_EQ(aia_file_get(self->fd, 0, IMSIC_EIE(0)), 0);
	TEST_ASSERT_EQ(aia_file_get(self->fd, 0, IMSIC_EIP(0)), 0);
}

TEST_HARNESS_MAIN
