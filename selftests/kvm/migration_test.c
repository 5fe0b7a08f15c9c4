// SPDX-License-Identifier: GPL-2.0
/* on-c: fail: M25, S3, S4 */
/* also-on: no-sstc: fail: M25, S3, S4 */
/* covers: vcpu/onereg.rs vcpu/onereg/state.rs vcpu/timer.rs vcpu/irq.rs
 * vcpu/mp_state.rs vcpu/steal_time.rs vcpu/pending.rs */
/*
 * A guest with all that a guest can have moves from process to process, stopped
 * wherever it happens to be: see kvm_rs_migrate.h for how. It has a hart that
 * computes with FP and vectors, arms timers, sends IPIs, starts and awaits
 * another hart, and reads a device of userspace; a hart that sleeps between
 * interrupts; a hart that is started without translation and stops itself.
 * Userspace sends MSIs and wired interrupts. Each of these events happens once,
 * in order, and not early, whatever was under way when the guest was stopped.
 */
#include <sys/wait.h>

#include "kvm_rs_migrate.h"
#include "kvm_rs_units.h"

/* However long they take, so many moves are made; others within so many seconds. */
#define MOVES_MIN	12
#define SECONDS		40

#define WORKER		0
#define SLEEPER		1
#define STARTER		2

#define MMIO_GVA	(TEST_GVA + SIZE_1G)
#define MMIO_GPA	0x7700000000UL

/* The wire, and the identity that it has at the worker. */
#define WIRE		9
#define WIRE_ID		63
/* Identities that are sent as MSIs: odd ones to the sleeper. */
#define MSIS		16

#define FWFT_SET	0
#define FWFT_GET	1
#define FWFT_PMLEN	5
#define FWFT_LOCK	1
#define PMLEN		7
#define SBI_ERR_DENIED_LOCKED	-14

/* In the guest. */

/* What has gone wrong, the first time that anything did. */
enum trouble {
	FINE, COUNTER, UNITS, SSCRATCH, TIME_BACK, EARLY, EXTRA_TIMER,
	EXTRA_IPI, HART_START, HART_STARTS, HART_STATE, MMIO_ORDER, STEAL, FEATURE,
	EXTRA_IRQ,
};

/* What a hart that is started gets in a1; the assembler below knows the offsets. */
struct box {
	u64 request;
	u64 starts;
	u64 done;
	u64 bad;
};

struct sta {
	u32 sequence;
	u32 flags;
	u64 steal;
	u8 rest[48];
} __aligned(64);

static struct {
	/* Of the host. */
	u64 box_gpa, entry_gpa, sta_gpa[MIG_VCPUS];
	bool fp, vector, sstc, aia, sta;
	/* Of the guest. */
	u64 trouble, what, wanted;
	u64 rounds, mmio, time, steal;
	u64 timers, armed, deadline, masked;
	u64 ipis_sent, ipis_taken;
	u64 taken[64];
	struct box box;
} g;

static struct sta sta[MIG_VCPUS];

static void wrong(u64 trouble, u64 what, u64 wanted)
{
	if (!g.trouble) {
		g.what = what;
		g.wanted = wanted;
		mb();	/* what it is comes before that it is */
		WRITE_ONCE(g.trouble, trouble);
	}
	for (;;)
		cpu_relax();
}

#define expect(trouble, what, wanted)					\
do {									\
	u64 __what = (what), __wanted = (wanted);			\
									\
	if (__what != __wanted)						\
		wrong(trouble, __what, __wanted);			\
} while (0)

/* Where hart STARTER starts: a0 is its id, a1 the box's address, nothing else is known. */
extern char hart_entry[];
asm(".pushsection .text\n"
    ".balign 64\n"
    "hart_entry:\n"
    "	li t0, 2\n"
    "	bne a0, t0, 1f\n"
    "	csrr t0, satp\n"
    "	bnez t0, 1f\n"
    "	csrr t0, sstatus\n"
    "	andi t0, t0, 2\n"
    "	bnez t0, 1f\n"
    "	ld t0, 8(a1)\n"
    "	addi t0, t0, 1\n"
    "	sd t0, 8(a1)\n"
    "	ld t1, 0(a1)\n"
    "	fence rw, rw\n"
    "	sd t1, 16(a1)\n"
    "	li a7, 0x48534d\n"
    "	li a6, 1\n"
    "	ecall\n"
    "1:	li t0, 1\n"
    "	sd t0, 24(a1)\n"
    "	j 1b\n"
    ".popsection");

static void set_timer(u64 at)
{
	/* Both ways there are. */
	if (g.sstc && (g.timers & 1))
		csr_write(CSR_STIMECMP, at);
	else
		sbi_ecall(SBI_EXT_TIME, 0, at, 0, 0, 0, 0, 0);
}

static void guest_irq(struct pt_regs *regs)
{
	u64 id, now;

	switch (regs->cause & ~CAUSE_IRQ_FLAG) {
	case 1:
		csr_clear(CSR_SIP, IP_SSIP);
		if (READ_ONCE(g.ipis_taken) >= READ_ONCE(g.ipis_sent))
			wrong(EXTRA_IPI, g.ipis_taken, g.ipis_sent);
		WRITE_ONCE(g.ipis_taken, g.ipis_taken + 1);
		return;
	case 5:
		now = csr_read(CSR_TIME);
		expect(EXTRA_TIMER, g.armed, 1);
		if (now < g.deadline)
			wrong(EARLY, now, g.deadline);
		set_timer(~0UL);
		g.armed = 0;
		g.timers++;
		return;
	case 9:
		while ((id = imsic_claim()))
			WRITE_ONCE(g.taken[id & 63], g.taken[id & 63] + 1);
		return;
	}
	wrong(EXTRA_IRQ, regs->cause, 0);
}

static void check_unit(struct units_fault fault)
{
	if (fault.unit)
		wrong(UNITS, fault.is, fault.was);
}

static void step_ipi(void)
{
	if (READ_ONCE(g.ipis_taken) != g.ipis_sent)
		return;
	WRITE_ONCE(g.ipis_sent, g.ipis_sent + 1);
	mb();	/* counted before it arrives */
	sbi_ecall(SBI_EXT_IPI, 0, 1 << SLEEPER, 0, 0, 0, 0, 0);
}

static void step_timer(u64 round)
{
	if (READ_ONCE(g.armed))
		return;
	csr_clear(CSR_SSTATUS, SR_SIE);
	g.deadline = csr_read(CSR_TIME) + round % 7 * 3000;
	g.armed = 1;
	set_timer(g.deadline);
	csr_set(CSR_SSTATUS, SR_SIE);
}

/* Starts the third hart once it has stopped, after it did what it was asked for. */
static void step_hart(void)
{
	struct sbiret ret;

	expect(HART_STATE, READ_ONCE(g.box.bad), 0);
	if (READ_ONCE(g.box.done) != g.box.request)
		return;
	mb();	/* pairs with the fence of hart_entry */
	expect(HART_STARTS, READ_ONCE(g.box.starts), g.box.request);
	ret = sbi_ecall(SBI_EXT_HSM, SBI_HSM_STATUS, STARTER, 0, 0, 0, 0, 0);
	if (ret.value != 1)
		return;
	WRITE_ONCE(g.box.request, g.box.request + 1);
	mb();	/* the other hart reads it */
	ret = sbi_ecall(SBI_EXT_HSM, SBI_HSM_START, STARTER, g.entry_gpa, g.box_gpa, 0, 0, 0);
	expect(HART_START, ret.error, 0);
}

static void step_sta(void)
{
	u64 steal;

	if (!g.sta)
		return;
	steal = READ_ONCE(sta[WORKER].steal);
	if (steal < g.steal)
		wrong(STEAL, steal, g.steal);
	g.steal = steal;
}

static void step_fwft(void)
{
	struct sbiret ret;

	if (!g.masked)
		return;
	ret = sbi_ecall(SBI_EXT_FWFT, FWFT_GET, FWFT_PMLEN, 0, 0, 0, 0, 0);
	expect(FEATURE, ret.error, 0);
	expect(FEATURE, ret.value, PMLEN);
	/* And locked. */
	ret = sbi_ecall(SBI_EXT_FWFT, FWFT_SET, FWFT_PMLEN, 0, 0, 0, 0, 0);
	expect(FEATURE, ret.error, SBI_ERR_DENIED_LOCKED);
}

static void guest_worker(void)
{
	register u64 round asm("s11") = 0;
	u64 now;

	for (;;) {
		/* In a register and in memory. */
		expect(COUNTER, READ_ONCE(g.rounds), round);
		if (g.fp)
			check_unit(units_check_fp(round));
		if (g.vector)
			check_unit(units_check_vector(round));
		expect(SSCRATCH, csr_read(CSR_SSCRATCH), WORKER);
		now = csr_read(CSR_TIME);
		if (now < g.time)
			wrong(TIME_BACK, now, g.time);
		g.time = now;
		step_timer(round);
		step_ipi();
		step_hart();
		step_sta();
		step_fwft();
		if (round % 4 == 0)
			expect(MMIO_ORDER, READ_ONCE(*(u64 *)MMIO_GVA), ++g.mmio);
		WRITE_ONCE(g.rounds, ++round);
	}
}

static void guest_main(void)
{
	u64 hart = guest_get_vcpuid();
	struct sbiret ret;

	if (g.aia)
		imsic_open();
	if (g.sta)
		sbi_ecall(SBI_EXT_STA, 0, g.sta_gpa[hart], 0, 0, 0, 0, 0);
	/* Pointers have seven bits to spare, for ever; where there is no FWFT, it is told so. */
	ret = sbi_ecall(SBI_EXT_FWFT, FWFT_SET, FWFT_PMLEN, PMLEN, FWFT_LOCK, 0, 0, 0);
	if (hart == WORKER)
		g.masked = !ret.error;
	csr_set(CSR_SSTATUS, SR_FS_INITIAL | (g.vector ? SR_VS_INITIAL : 0));
	csr_set(CSR_SIE, IP_SSIP | IP_STIP | IP_SEIP);
	csr_set(CSR_SSTATUS, SR_SIE);
	if (hart == WORKER)
		guest_worker();
	for (;;)
		asm volatile("wfi" : : : "memory");
}

/* In the host. */

/* What goes from process to process: the VM, and the state of its userspace. */
struct travel {
	struct mig_image image, check;
	u64 sent[MSIS], wired, mmio;
};

struct runner {
	struct kvm_vcpu *vcpu;
	struct travel *travel;
	pthread_t thread;
	volatile bool runs, stop;
};

/* The device, which knows how often it was read. */
static void serve_mmio(struct runner *r)
{
	struct kvm_run *run = r->vcpu->run;

	TEST_ASSERT_KVM_EXIT_REASON(r->vcpu, KVM_EXIT_MMIO);
	TEST_ASSERT(run->mmio.phys_addr == MMIO_GPA && !run->mmio.is_write && run->mmio.len == 8,
		    "MMIO at 0x%llx", run->mmio.phys_addr);
	r->travel->mmio++;
	memcpy(run->mmio.data, &r->travel->mmio, 8);
}

static void *run(void *arg)
{
	struct runner *r = arg;
	bool served = false;
	int ret;

	while (!r->stop) {
		ret = __vcpu_run(r->vcpu);
		TEST_ASSERT(!ret || errno == EINTR, "KVM_RUN: %s", strerror(errno));
		served = !ret;
		if (served)
			serve_mmio(r);
	}
	/* What userspace has answered, the guest must get. */
	if (served) {
		r->vcpu->run->immediate_exit = 1;
		TEST_ASSERT_ERRNO(__vcpu_run(r->vcpu), EINTR);
	}
	return NULL;
}

static void start(struct runner *r)
{
	r->stop = false;
	r->runs = true;
	r->vcpu->run->immediate_exit = 0;
	TEST_ASSERT_EQ(pthread_create(&r->thread, NULL, run, r), 0);
}

static void stop(struct runner *r)
{
	if (!r->runs)
		return;
	r->stop = true;
	r->vcpu->run->immediate_exit = 1;
	pthread_kill(r->thread, SIGUSR1);
	pthread_join(r->thread, NULL);
	r->vcpu->run->immediate_exit = 0;
	r->runs = false;
}

/* The guest's globals, for the host. */
static typeof(g) *globals(struct mig_machine *m)
{
	return addr_gva2hva(m->vm, (gva_t)&g);
}

/* A machine as they all are, before it has any state. */
static void machine_create(struct mig_machine *m, int aia_mode)
{
	int v;

	m->vm = vm_create_with_vcpus(MIG_VCPUS, guest_main, m->vcpus);
	m->aia = -1;
	if (aia_mode >= 0) {
		m->aia = aia_create(m->vm, aia_mode, MIG_SOURCES);
		aia_map(m->vm);
	}
	virt_pg_map(m->vm, MMIO_GVA, MMIO_GPA);
	vm_init_vector_tables(m->vm);
	for (v = 0; v < MIG_VCPUS; v++)
		vcpu_init_vector_tables(m->vcpus[v]);
	vm_install_interrupt_handler(m->vm, guest_irq);
}

static bool has_isa(struct kvm_vcpu *vcpu, u64 ext)
{
	return __vcpu_has_isa_ext(vcpu, ext);
}

/* The first of them begins. */
static void machine_begin(struct mig_machine *m)
{
	struct kvm_mp_state stopped = { .mp_state = KVM_MP_STATE_STOPPED };
	typeof(g) *guest = globals(m);
	int i;

	guest->box_gpa = addr_gva2gpa(m->vm, (gva_t)&g.box);
	guest->entry_gpa = addr_gva2gpa(m->vm, (gva_t)hart_entry);
	guest->fp = has_isa(m->vcpus[0], KVM_RISCV_ISA_EXT_D);
	guest->vector = has_isa(m->vcpus[0], KVM_RISCV_ISA_EXT_V);
	guest->sstc = has_isa(m->vcpus[0], KVM_RISCV_ISA_EXT_SSTC);
	guest->sta = __vcpu_has_sbi_ext(m->vcpus[0], KVM_RISCV_SBI_EXT_STA);
	guest->aia = m->aia >= 0;
	for (i = 0; i < MIG_VCPUS; i++)
		guest->sta_gpa[i] = addr_gva2gpa(m->vm, (gva_t)&sta[i]);
	vcpu_ioctl(m->vcpus[STARTER], KVM_SET_MP_STATE, &stopped);
	pr_info("# fp %d vector %d sstc %d sta %d aia %d\n", guest->fp, guest->vector, guest->sstc,
	       guest->sta, guest->aia);
	if (m->aia < 0)
		return;
	/* Beside what is used, state that only sits there. */
	for (i = 1; i <= MIG_SOURCES; i++) {
		aia_set(m->aia, APLIC, APLIC_SOURCECFG(i), i % 2 ? APLIC_EDGE1 : APLIC_DETACHED);
		aia_set(m->aia, APLIC, APLIC_TARGET(i), APLIC_TO(i % 3, i));
	}
	aia_set(m->aia, APLIC, APLIC_SETIP(1), 0x155);
	aia_set(m->aia, APLIC, APLIC_TARGET(WIRE), APLIC_TO(WORKER, WIRE_ID));
	aia_set(m->aia, APLIC, APLIC_SETIE(0), 1 << WIRE);
	aia_set(m->aia, APLIC, APLIC_DOMAINCFG, APLIC_IE);
}

/* Sends all interrupts that the guest has not still to take. */
static void send_interrupts(struct mig_machine *m, struct travel *t)
{
	typeof(g) *guest = globals(m);
	int i;

	if (m->aia < 0)
		return;
	for (i = 1; i < MSIS; i++) {
		if (READ_ONCE(guest->taken[i]) != t->sent[i])
			continue;
		t->sent[i]++;
		TEST_ASSERT(aia_signal_msi(m->vm, AIA_IMSIC(i % 2), i) >= 0, "KVM_SIGNAL_MSI: %s",
			    strerror(errno));
	}
	if (READ_ONCE(guest->taken[WIRE_ID]) == t->wired) {
		t->wired++;
		TEST_ASSERT_OK(aia_line(m->vm, WIRE, 1));
		TEST_ASSERT_OK(aia_line(m->vm, WIRE, 0));
	}
}

/* Asserts that the guest has found nothing wrong, and got nothing that was not sent. */
static void assert_fine(struct mig_machine *m, struct travel *t, int n)
{
	typeof(g) *guest = globals(m);
	int i;

	TEST_ASSERT(!guest->trouble, "move %d: the guest's trouble %lu: 0x%lx, not 0x%lx", n,
		    (unsigned long)guest->trouble, (unsigned long)guest->what,
		    (unsigned long)guest->wanted);
	for (i = 1; i < MSIS; i++)
		TEST_ASSERT(guest->taken[i] <= t->sent[i], "move %d: MSI %d came twice", n, i);
	TEST_ASSERT(guest->taken[WIRE_ID] <= t->wired, "move %d: the wire came twice", n);
}

/* All that was under way arrives, and more. */
static void assert_progress(struct mig_machine *m, struct travel *t, int n)
{
	typeof(g) *guest = globals(m), was = *guest;
	int i;

#define advances(what) \
	TEST_ASSERT(eventually(guest->trouble || READ_ONCE(guest->what) > was.what), \
		    "move %d: " #what " stays at %lu", n, (unsigned long)was.what)

	advances(rounds);
	advances(mmio);
	advances(timers);
	advances(ipis_taken);
	advances(box.done);
	for (i = 1; i < MSIS && m->aia >= 0; i++)
		TEST_ASSERT(eventually(guest->trouble || READ_ONCE(guest->taken[i]) == t->sent[i]),
			    "move %d: MSI %d: %lu sent, %lu taken", n, i, (unsigned long)t->sent[i],
			    (unsigned long)guest->taken[i]);
	TEST_ASSERT(m->aia < 0 || eventually(guest->trouble ||
						 READ_ONCE(guest->taken[WIRE_ID]) == t->wired),
		    "move %d: the wire's %lu came %lu times", n, (unsigned long)t->wired,
		    (unsigned long)guest->taken[WIRE_ID]);
}

/* One process: gets the guest, runs it for a while, and gives it away. */
static void host(struct travel *t, int n, int aia_mode, enum mig_order order)
{
	struct sigaction sa = { .sa_handler = aia_nothing };
	struct runner runners[MIG_VCPUS] = {};
	struct mig_machine m;
	int v, i;

	sigaction(SIGUSR1, &sa, NULL);
	srand(n);
	machine_create(&m, aia_mode);
	if (t->image.full) {
		mig_restore(&m, &t->image, order);
		mig_save_state(&t->check, &m);
		mig_assert_same(&t->image, &t->check);
	} else {
		machine_begin(&m);
	}
	for (v = 0; v < MIG_VCPUS; v++) {
		runners[v] = (struct runner){ .vcpu = m.vcpus[v], .travel = t };
		/* A hart that does not run here takes along what it got. */
		if ((n % 4 == 1 && v == SLEEPER) || (n % 4 == 2 && v == STARTER))
			continue;
		start(&runners[v]);
	}
	for (i = rand() % 4; i; i--) {
		send_interrupts(&m, t);
		usleep(rand() % 2000);
	}
	if (n % 4 == 3)
		assert_progress(&m, t, n);
	else
		usleep(rand() % 3000);
	for (v = 0; v < MIG_VCPUS; v++)
		stop(&runners[(v + n) % MIG_VCPUS]);
	assert_fine(&m, t, n);
	if (n % 2 == 0)
		send_interrupts(&m, t);
	mig_save(&t->image, &m);
}

/* At most @moves, and no more than is needed where they take long: on a debug kernel. */
static void travel(int aia_mode, enum mig_order order, int moves)
{
	int fd = memfd_create("travel", 0), n, status;
	time_t begin = time(NULL);
	struct travel *t;

	TEST_ASSERT_OK(ftruncate(fd, sizeof(*t)));
	t = mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	TEST_ASSERT(t != MAP_FAILED, "cannot map the way");
	/* This process has nothing of KVM, so neither have its children at first. */
	for (n = 0; n < moves && (n < MOVES_MIN || time(NULL) - begin < SECONDS); n++) {
		pid_t pid;

		fflush(NULL);
		pid = fork();
		if (!pid) {
			host(t, n, aia_mode, order);
			fflush(NULL);
			_exit(0);
		}
		waitpid(pid, &status, 0);
		TEST_ASSERT(WIFEXITED(status) && !WEXITSTATUS(status), "move %d failed", n);
	}
}

FIXTURE(guest)
{
};

FIXTURE_VARIANT(guest)
{
	enum mig_order order;
	u32 aia;
	int moves;
};

#define HARDWARE	KVM_DEV_RISCV_AIA_MODE_AUTO
#define SOFTWARE	KVM_DEV_RISCV_AIA_MODE_EMUL
#define NO_OFF		MIG_NO_TIMER_OFF

/* C refuses timer.state as it was read (M25) where it is restored at all. */
FIXTURE_VARIANT_ADD(guest, in_list_order) { MIG_LIST_ORDER, HARDWARE, 50 };
FIXTURE_VARIANT_ADD(guest, from_the_end_of_the_list) { MIG_REVERSE, HARDWARE, 25 };
FIXTURE_VARIANT_ADD(guest, interrupts_in_software) { MIG_LIST_ORDER, SOFTWARE, 16 };
/* Where it is not, C loses the steal-time area by its order (S4), and the start of a hart (S3). */
FIXTURE_VARIANT_ADD(guest, in_list_order_without_timer_off) { MIG_LIST_ORDER | NO_OFF, HARDWARE, 12 };
FIXTURE_VARIANT_ADD(guest, from_the_end_without_timer_off) { MIG_REVERSE | NO_OFF, HARDWARE, 12 };

FIXTURE_SETUP(guest)
{
}

FIXTURE_TEARDOWN(guest)
{
}

TEST_F_TIMEOUT(guest, moves, 400)
{
	travel(aia_is_there() ? (int)variant->aia : -1, variant->order, variant->moves);
}

TEST_HARNESS_MAIN
