// SPDX-License-Identifier: GPL-2.0
/* on-c: pass */
/* covers: vcpu/context.rs run.rs */
/*
 * The host changes which counters its user mode may read, on all CPUs, while a
 * guest runs on one: the host's scounteren follows there, too, and the guest
 * keeps its own.
 */
#include <pthread.h>
#include <setjmp.h>
#include <sys/sysinfo.h>

#include "kvm_rs_util.h"

#define SYSCTL	"/proc/sys/kernel/perf_user_access"

/* What it says: events that were asked for; or cycles and instructions always. */
#define ASKED	"1"
#define LEGACY	"2"

#define GUESTS_COUNTERS	5

static u64 running, go;

static void guest_keep_counters(void)
{
	csr_write(CSR_SCOUNTEREN, GUESTS_COUNTERS);
	do {
		WRITE_ONCE(running, 1);
		GUEST_ASSERT_EQ(csr_read(CSR_SCOUNTEREN), GUESTS_COUNTERS);
	} while (!READ_ONCE(go));
	GUEST_ASSERT_EQ(csr_read(CSR_SCOUNTEREN), GUESTS_COUNTERS);
	GUEST_DONE();
}

static int set_access(const char *access)
{
	int fd = open(SYSCTL, O_WRONLY);
	int ret = fd < 0 ? -1 : write(fd, access, 1);

	if (fd >= 0)
		close(fd);
	return ret == 1 ? 0 : -1;
}

static sigjmp_buf illegal;

static void on_illegal(int sig)
{
	siglongjmp(illegal, 1);
}

/* Whether this thread may read cycles, on the CPU where it is. */
static bool can_read_cycles(void)
{
	struct sigaction sa = { .sa_handler = on_illegal }, old;
	volatile bool can = false;
	unsigned long cycles;

	sigaction(SIGILL, &sa, &old);
	if (!sigsetjmp(illegal, 1)) {
		asm volatile("rdcycle %0" : "=r"(cycles));
		can = true;
	}
	sigaction(SIGILL, &old, NULL);
	return can;
}

static void *allow_cycles(void *arg)
{
	struct kvm_vm *vm = arg;
	u64 *guest_running = addr_gva2hva(vm, (gva_t)&running);

	pin_self_to_cpu(1);
	while (!READ_ONCE(*guest_running))
		usleep(100);
	TEST_ASSERT_OK(set_access(LEGACY));
	write_guest_global(vm, go, 1);
	return NULL;
}

TEST(host_changes_its_counters)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	pthread_t thread;

	if (get_nprocs() < 2)
		SKIP(return, "one CPU");
	pin_self_to_cpu(0);
	if (set_access(LEGACY))
		SKIP(return, "no " SYSCTL);
	if (!can_read_cycles())
		SKIP(return, "this machine has no cycles for user mode");
	TEST_ASSERT_OK(set_access(ASKED));
	TEST_ASSERT(!can_read_cycles(), "cycles without having asked");

	vm = vm_create_with_one_vcpu(&vcpu, guest_keep_counters);
	pthread_create(&thread, NULL, allow_cycles, vm);
	run_to_done(vcpu);
	pthread_join(thread, NULL);
	TEST_ASSERT(can_read_cycles(), "the host's scounteren was lost");
	TEST_ASSERT_OK(set_access(ASKED));
	kvm_vm_free(vm);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
