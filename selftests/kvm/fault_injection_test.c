// SPDX-License-Identifier: GPL-2.0
/* on-c: skip: the usual kernel injects no faults */
/* on-c-debug: skip: the C module is not what is loaded again and again */
/* covers: hooks/module.rs hooks/state.rs kvm.rs kernel_ext/module_cell.rs
 * mmu/cache.rs */
/*
 * Every allocation of an operation fails once, by its number, until there is
 * none left: the operation then fails with the right errno or does without,
 * and works at the next try.  What leaks is for kmemleak, and what splats for
 * the kernel's log.
 *
 *   fault_injection_test [-f | -q] [-m MODULE]
 *
 * Loading the module makes more allocations than anything else, and takes
 * longer: without -f, only one in STRIDE of them fails.  With -q (quick), it is
 * not loaded again, and of an operation's allocations after the first
 * QUICK_FIRST only one in QUICK_STEP fails.
 */
#include <sys/syscall.h>

#include "kvm_rs_aia.h"
#include "kvm_rs_mem.h"

static int test_harness_run(int argc, char **argv) __maybe_unused;

#define STRIDE		37
#define MOST		5000	/* allocations of one operation */
#define QUICK_FIRST	12
#define QUICK_STEP	11

#define GPA		0x80000000UL
#define SIZE		SIZE_2M
#define LOG_SLOT	3

#define PMU_EXT		0x504D55
#define PMU_CFG_MATCH	2
#define PMU_SNAPSHOT	7

/* Loads, stores, makes an SBI call, and leaves for userspace with what it returned. */
static const u32 stub[] = {
	0x00033283,	/* ld t0, 0(t1) */
	0x0053b023,	/* sd t0, 0(t2) */
	0x00000073,	/* ecall */
	0x090008b7,	/* lui a7, 0x9000: a vendor's extension */
	0x00000073,	/* ecall */
	0x0000006f,	/* j . */
};

/* Errors of SBI calls, as act() tells them. */
#define SBI(err)	(1000 - (err))

static int kvm_fd, nth_fd, vm_fd, vcpu_fd, device_fd, extra_fd;
static struct kvm_run *run;
static char *mem;
static const char *module_path = "/modules/ours/kvm.ko";

/* Of the operations below, what they were called with last. */
static struct kvm_irqfd irqfd;
static u64 pmu_fid;

static int errno_of(long ret)
{
	return ret < 0 ? errno : 0;
}

static void arm(unsigned int nth)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%u", nth);

	TEST_ASSERT(pwrite(nth_fd, text, n, 0) == n, "fail-nth: %s", strerror(errno));
}

/* Whether the allocation has failed; none fails from here on. */
static bool disarm(void)
{
	char text[16] = {};

	TEST_ASSERT(pread(nth_fd, text, sizeof(text) - 1, 0) > 0, "fail-nth");
	arm(0);
	return !atoi(text);
}

static void set_reg(u64 id, u64 val)
{
	struct kvm_one_reg reg = { .id = id, .addr = (u64)&val };

	TEST_ASSERT_OK(ioctl(vcpu_fd, KVM_SET_ONE_REG, &reg));
}

static int set_slot(u32 slot, u64 flags, u64 gpa, u64 size)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (u64)mem,
	};

	return ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &region);
}

/* A VM whose memory is there, with the stub in it. */
static void make_vm(void)
{
	vm_fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);
	TEST_ASSERT(vm_fd >= 0, "KVM_CREATE_VM: %s", strerror(errno));
}

static void make_vcpu(void)
{
	make_vm();
	TEST_ASSERT_OK(set_slot(0, 0, GPA, SIZE));
	memset(mem, 0, SIZE);
	memcpy(mem, stub, sizeof(stub));
	vcpu_fd = ioctl(vm_fd, KVM_CREATE_VCPU, 0);
	TEST_ASSERT(vcpu_fd >= 0, "KVM_CREATE_VCPU: %s", strerror(errno));
	run = mmap(NULL, SIZE_4K, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, 0);
	TEST_ASSERT(run != MAP_FAILED, "mmap");
}

/* Where the stub starts: touches @load and @store, and makes the call. */
static void aim(u64 load, u64 store, u64 ext, u64 fid)
{
	set_reg(RISCV_CORE_REG(regs.pc), GPA);
	set_reg(RISCV_CORE_REG(regs.t1), load);
	set_reg(RISCV_CORE_REG(regs.t2), store);
	set_reg(RISCV_CORE_REG(regs.a7), ext);
	set_reg(RISCV_CORE_REG(regs.a6), fid);
}

static void make_first_run(void)
{
	make_vcpu();
	aim(GPA + SIZE / 2, GPA + SIZE / 2 + SIZE_4K, SBI_EXT_BASE, 0);
}

static void end(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void end_all(void)
{
	if (run)
		munmap(run, SIZE_4K);
	run = NULL;
	end(&extra_fd);
	end(&device_fd);
	end(&vcpu_fd);
	end(&vm_fd);
}

static int act_create_vm(void)
{
	vm_fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);
	return errno_of(vm_fd);
}

static int act_create_vcpu(void)
{
	vcpu_fd = ioctl(vm_fd, KVM_CREATE_VCPU, 0);
	return errno_of(vcpu_fd);
}

static void make_vm_with_ring(void)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_DIRTY_LOG_RING_ACQ_REL, .args = { 65536 } };

	make_vm();
	TEST_ASSERT_OK(ioctl(vm_fd, KVM_ENABLE_CAP, &cap));
}

static int act_create_device(void)
{
	struct kvm_create_device device = { .type = KVM_DEV_TYPE_RISCV_AIA };
	int err = errno_of(ioctl(vm_fd, KVM_CREATE_DEVICE, &device));

	device_fd = err ? -1 : device.fd;
	return err;
}

/* All but INIT. */
static void make_device(void)
{
	make_vcpu();
	TEST_ASSERT_EQ(act_create_device(), 0);
	aia_set(device_fd, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_SRCS, 96);
	aia_set(device_fd, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_HART_BITS, AIA_HART_BITS);
	aia_set(device_fd, ADDR, KVM_DEV_RISCV_AIA_ADDR_APLIC, AIA_APLIC_GPA);
	aia_set(device_fd, ADDR, KVM_DEV_RISCV_AIA_ADDR_IMSIC(0), AIA_IMSIC(0));
}

static int act_init_device(void)
{
	return errno_of(__aia_init(device_fd));
}

/* An initialised controller whose vCPU runs for the first time: its file goes to the hardware. */
static void make_initialised(void)
{
	make_device();
	TEST_ASSERT_EQ(act_init_device(), 0);
	aim(GPA, GPA + SIZE_4K, SBI_EXT_BASE, 0);
}

static int act_add_slot(void)
{
	return errno_of(set_slot(LOG_SLOT, KVM_MEM_LOG_DIRTY_PAGES, 2 * GPA, SIZE));
}

static void make_slot(void)
{
	make_vm();
	TEST_ASSERT_EQ(act_add_slot(), 0);
}

static int act_move_slot(void)
{
	return errno_of(set_slot(LOG_SLOT, KVM_MEM_LOG_DIRTY_PAGES, 4 * GPA, SIZE));
}

static int act_delete_slot(void)
{
	return errno_of(set_slot(LOG_SLOT, 0, 2 * GPA, 0));
}

static int act_run(void)
{
	int err = errno_of(ioctl(vcpu_fd, KVM_RUN, NULL));

	TEST_ASSERT(err || run->exit_reason == KVM_EXIT_RISCV_SBI, "exit %d", run->exit_reason);
	return err;
}

/* KVM has done with the exit: what userspace sets from here on stays. */
static void complete(void)
{
	run->immediate_exit = 1;
	TEST_ASSERT_ERRNO(ioctl(vcpu_fd, KVM_RUN, NULL), EINTR);
	run->immediate_exit = 0;
}

/* A vCPU that ran: all its memory that was touched is mapped, in one block if that can be. */
static void make_ran(void)
{
	make_first_run();
	TEST_ASSERT_EQ(act_run(), 0);
	complete();
}

/* Logging begins: what is mapped as a block is split. */
static int act_begin_logging(void)
{
	return errno_of(set_slot(0, KVM_MEM_LOG_DIRTY_PAGES, GPA, SIZE));
}

/* Small pages all over, then a fault in a part that is not mapped. */
static void make_fault(void)
{
	make_ran();
	TEST_ASSERT_EQ(act_begin_logging(), 0);
	TEST_ASSERT_OK(set_slot(1, 0, GPA + SIZE_1G, SIZE));
	aim(GPA + SIZE_1G, GPA + SIZE_1G + 33 * SIZE_4K, SBI_EXT_BASE, 0);
}

/* Memory of the host's that is not there yet. */
static void make_host_fault(void)
{
	make_ran();
	madvise(mem + SIZE / 2, SIZE / 2, MADV_DONTNEED);
	aim(GPA + SIZE / 2, GPA + SIZE / 2 + SIZE_4K, SBI_EXT_BASE, 0);
}

static int act_pre_fault(void)
{
	struct kvm_pre_fault_memory range = { .gpa = GPA, .size = SIZE };
	int err = errno_of(ioctl(vcpu_fd, KVM_PRE_FAULT_MEMORY, &range));

	/* A part is done, which is no failure; the next call does the rest. */
	return err;
}

/* The call that act_sbi() makes, whatever the vCPU did before. */
static void aim_pmu(void)
{
	aim(GPA, GPA + SIZE_4K, PMU_EXT, pmu_fid);
	set_reg(RISCV_CORE_REG(regs.a0), pmu_fid == PMU_SNAPSHOT ? GPA + 2 * SIZE_4K : 0);
	set_reg(RISCV_CORE_REG(regs.a1), pmu_fid == PMU_SNAPSHOT ? 0 : 7);
	set_reg(RISCV_CORE_REG(regs.a2), 0);
	set_reg(RISCV_CORE_REG(regs.a3), 1);
	set_reg(RISCV_CORE_REG(regs.a4), 0);
}

static void make_pmu_event(void)
{
	make_ran();
	pmu_fid = PMU_CFG_MATCH;
	aim_pmu();
}

static void make_pmu_snapshot(void)
{
	make_ran();
	pmu_fid = PMU_SNAPSHOT;
	aim_pmu();
}

static int act_sbi(void)
{
	int err = act_run();

	if (err || !run->riscv_sbi.args[0])
		return err;
	err = SBI((long)run->riscv_sbi.args[0]);
	complete();
	aim_pmu();
	return err;
}

static int act_irqfd(void)
{
	return errno_of(ioctl(vm_fd, KVM_IRQFD, &irqfd));
}

static void make_irqfd(void)
{
	make_initialised();
	extra_fd = eventfd(0, 0);
	irqfd = (struct kvm_irqfd){ .fd = extra_fd, .gsi = 3, .flags = KVM_IRQFD_FLAG_RESAMPLE,
				    .resamplefd = extra_fd };
}

static int act_routing(void)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entry;
	} table = {
		.head.nr = 1,
		.entry = { .gsi = 5, .type = KVM_IRQ_ROUTING_MSI },
	};

	table.entry.u.msi.address_lo = AIA_IMSIC(0);
	return errno_of(ioctl(vm_fd, KVM_SET_GSI_ROUTING, &table));
}

static int act_ioeventfd(void)
{
	struct kvm_ioeventfd io = { .addr = 0x1000, .len = 4, .fd = extra_fd };

	return errno_of(ioctl(vm_fd, KVM_IOEVENTFD, &io));
}

static void make_ioeventfd(void)
{
	make_vm();
	extra_fd = eventfd(0, 0);
}

static int act_stats(void)
{
	extra_fd = ioctl(vcpu_fd, KVM_GET_STATS_FD, NULL);
	return errno_of(extra_fd);
}

static char debugfs_path[96];

static void make_debugfs(void)
{
	make_ran();
	snprintf(debugfs_path, sizeof(debugfs_path), "/sys/kernel/debug/kvm/%d-%d/gstage_page_tables", getpid(), vm_fd);
	/* Not every kernel has it. */
	if (access(debugfs_path, F_OK))
		strcpy(debugfs_path, "/dev/null");
}

static int act_debugfs(void)
{
	static char buf[4096];
	int err, fd = open(debugfs_path, O_RDONLY);

	if (fd < 0)
		return errno;
	err = errno_of(read(fd, buf, sizeof(buf)));
	close(fd);
	return err;
}

/* The end of everything, which cannot fail. */
static int act_end(void)
{
	end_all();
	return 0;
}

static const struct op {
	const char *name;
	void (*make)(void);
	int (*act)(void);
	int also[2];		/* errnos beside ENOMEM */
} ops[] = {
	{ "KVM_CREATE_VM", NULL, act_create_vm },
	{ "KVM_CREATE_VCPU", make_vm, act_create_vcpu },
	{ "KVM_CREATE_VCPU with a dirty ring", make_vm_with_ring, act_create_vcpu },
	{ "KVM_CREATE_DEVICE", make_vm, act_create_device },
	{ "AIA INIT", make_device, act_init_device },
	{ "KVM_RUN with the interrupt controller", make_initialised, act_run },
	{ "the end of a VM with the interrupt controller", make_initialised, act_end },
	{ "a new memslot", make_vm, act_add_slot },
	{ "a memslot that moves", make_slot, act_move_slot },
	{ "a memslot that goes", make_slot, act_delete_slot },
	{ "the first KVM_RUN", make_first_run, act_run },
	{ "dirty logging", make_ran, act_begin_logging },
	{ "a G-stage fault", make_fault, act_run },
	{ "KVM_PRE_FAULT_MEMORY", make_first_run, act_pre_fault },
	{ "a PMU counter", make_pmu_event, act_sbi,
	  { SBI(SBI_ERR_FAILURE), SBI(SBI_ERR_NOT_SUPPORTED) } },
	{ "the PMU's snapshot", make_pmu_snapshot, act_sbi, { SBI(SBI_ERR_FAILURE) } },
	{ "KVM_IRQFD", make_irqfd, act_irqfd },
	{ "KVM_SET_GSI_ROUTING", make_initialised, act_routing },
	{ "KVM_IOEVENTFD", make_ioeventfd, act_ioeventfd },
	{ "KVM_GET_STATS_FD", make_ran, act_stats },
	{ "the page table in debugfs", make_debugfs, act_debugfs },
	/* A page that the host cannot have is a fault of userspace's, as on C. */
	{ "a G-stage fault of memory that is not there", make_host_fault, act_run, { EFAULT } },
};

static void sweep(const struct op *op, bool quick)
{
	int nth, err, failed = 0, tried = 0;
	bool injected;

	for (nth = 1; nth < MOST; nth += quick && nth >= QUICK_FIRST ? QUICK_STEP : 1) {
		if (op->make)
			op->make();
		arm(nth);
		err = op->act();
		injected = disarm();
		if (!injected)
			TEST_ASSERT(!err, "%s: errno %d though no allocation failed", op->name, err);
		else
			TEST_ASSERT(!err || err == ENOMEM || err == op->also[0] || err == op->also[1],
				    "%s: errno %d when allocation %d fails", op->name, err, nth);
		failed += !!err;
		if (err) {
			err = op->act();
			TEST_ASSERT(!err, "%s: errno %d at the try after allocation %d failed", op->name,
				    err, nth);
		}
		end_all();
		if (!injected)
			break;
		tried++;
	}
	TEST_ASSERT(nth < MOST, "%s: there is no end of allocations", op->name);
	printf("# %s: %d of %d allocations are needed\n", op->name, failed, tried);
}

static int load(void)
{
	int fd = open(module_path, O_RDONLY | O_CLOEXEC), err;

	if (fd < 0)
		return errno;
	err = errno_of(syscall(SYS_finit_module, fd, "", 0));
	close(fd);
	return err;
}

static int unload(void)
{
	return errno_of(syscall(SYS_delete_module, "kvm", O_NONBLOCK));
}

/* Loads and unloads; the end of a VM may still hold the module for a moment. */
static void sweep_module(int stride)
{
	int nth, err, loads = 0, failed = 0;
	bool injected;

	TEST_ASSERT(eventually(!unload()), "the module cannot be unloaded: %s", strerror(errno));
	for (nth = 1; ; nth += stride) {
		arm(nth);
		err = load();
		injected = disarm();
		TEST_ASSERT(injected || !err, "loading: errno %d though no allocation failed", err);
		/* The module's loader says ENOENT of a symbol whose owner it cannot note, and others. */
		TEST_ASSERT(!err || err == ENOMEM || err == ENOENT || err == ENOEXEC || err == ENFILE,
			    "loading: errno %d when allocation %d fails", err, nth);
		failed += !!err;
		loads++;
		if (err) {
			/* The next try need not follow each: it takes as long as a whole load. */
			if (failed % 4 == 1) {
				err = load();
				TEST_ASSERT(!err, "loading: errno %d after allocation %d failed", err, nth);
				TEST_ASSERT_EQ(unload(), 0);
			}
			continue;
		}
		/* Unloading cannot fail for want of memory. */
		arm(1 + nth % 40);
		err = unload();
		disarm();
		TEST_ASSERT(!err, "unloading: errno %d", err);
		if (!injected)
			break;
	}
	printf("# loading: %d of %d loads failed, about %d allocations\n", failed, loads, nth);
	TEST_ASSERT_EQ(load(), 0);
}

static void sweep_unload(void)
{
	int nth, err;
	bool injected;

	for (nth = 1; ; nth++) {
		arm(nth);
		err = unload();
		injected = disarm();
		TEST_ASSERT(!err, "unloading: errno %d when allocation %d fails", err, nth);
		TEST_ASSERT_EQ(load(), 0);
		if (!injected)
			break;
	}
	printf("# unloading: %d allocations\n", nth - 1);
}

static void set_knobs(const char *fault)
{
	char path[80];

	snprintf(path, sizeof(path), "/sys/kernel/debug/%s/ignore-gfp-wait", fault);
	knob_set(path, "N");
	snprintf(path, sizeof(path), "/sys/kernel/debug/%s/verbose", fault);
	knob_set(path, "0");
	snprintf(path, sizeof(path), "/sys/kernel/debug/%s/ignore-gfp-highmem", fault);
	knob_set(path, "N");
	snprintf(path, sizeof(path), "/sys/kernel/debug/%s/min-order", fault);
	knob_set(path, "0");
}

int main(int argc, char **argv)
{
	int opt, kmsg, i, stride = STRIDE;
	bool quick = false;

	while ((opt = getopt(argc, argv, "fqm:")) != -1) {
		switch (opt) {
		case 'f': stride = 1; break;
		case 'q': quick = true; break;
		case 'm': module_path = optarg; break;
		default:
			printf("usage: %s [-f | -q] [-m MODULE]\n", argv[0]);
			exit(KSFT_FAIL);
		}
	}
	setbuf(stdout, NULL);
	kvm_fd = open_kvm_dev_path_or_exit();
	nth_fd = open("/proc/thread-self/fail-nth", O_RDWR);
	if (nth_fd < 0 || access("/sys/kernel/debug/failslab", F_OK)) {
		printf("1..0 # SKIP the kernel injects no faults (CONFIG_FAULT_INJECTION)\n");
		exit(KSFT_SKIP);
	}
	if (access("/sys/module/kvm/parameters/fault_around_bytes", F_OK)) {
		printf("1..0 # SKIP the C module is loaded\n");
		exit(KSFT_SKIP);
	}
	set_knobs("failslab");
	set_knobs("fail_page_alloc");
	vm_fd = vcpu_fd = device_fd = extra_fd = -1;
	mem = map_advised(SIZE, MADV_HUGEPAGE);
	memset(mem, 0, SIZE);
	/* A fault of this process's own is no business of the test's. */
	mlockall(MCL_CURRENT);
	munlock(mem, SIZE);

	kmsg = kmsg_open();
	for (i = 0; i < ARRAY_SIZE(ops); i++)
		sweep(&ops[i], quick);
	close(kvm_fd);
	if (!quick) {
		sweep_module(stride);
		sweep_unload();
	}
	kmsg_assert_quiet(kmsg);
	printf("ok 1 fault_injection\n");
	return 0;
}
