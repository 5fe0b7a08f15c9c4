// SPDX-License-Identifier: GPL-2.0
/* on-c: varies: S10 */
/* covers: aia/hgei.rs aia/host_imsic.rs aia/imsic/hw.rs hooks/cpu.rs */
/*
 * CPUs go offline and come back under the traffic of interrupts: what a file
 * in hardware knew goes on elsewhere, and no message is lost.
 */
#include <fcntl.h>

#include "kvm_rs_aia.h"

#define VCPUS	3
#define ROUNDS	12

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpus[VCPUS];
static struct aia_runner runners[VCPUS];
static int fd;

static bool write_online(int cpu, const char *online)
{
	char path[64];
	int file, ret;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online", cpu);
	file = open(path, O_WRONLY);
	if (file < 0)
		return false;
	ret = write(file, online, 1);
	close(file);
	return ret == 1;
}

/* Whether @cpu is online afterwards as it is to be. */
static bool set_online(int cpu, bool online)
{
	int i;

	if (!online) {
		bool gone = write_online(cpu, "0");

		/* Linux is done with it before the firmware is, and must not ask for it too soon. */
		usleep(100000);
		return gone;
	}
	/* Until then a try is refused; it is not repeated too fast, either. */
	for (i = 0; i < HANG_MS / 100; i++) {
		if (write_online(cpu, "1"))
			return true;
		usleep(100000);
	}
	return false;
}

static bool create(u32 mode, void *code)
{
	vm = vm_create_with_vcpus(VCPUS, code, vcpus);
	fd = kvm_create_device(vm, KVM_DEV_TYPE_RISCV_AIA);
	if (mode != KVM_DEV_RISCV_AIA_MODE_EMUL &&
	    aia_get(fd, CONFIG, KVM_DEV_RISCV_AIA_CONFIG_MODE) == KVM_DEV_RISCV_AIA_MODE_EMUL)
		return false;
	aia_configure(vm, fd, mode, 0);
	TEST_ASSERT_OK(__aia_init(fd));
	vm_catch_guest_traps(vm);
	aia_map(vm);
	vm_install_interrupt_handler(vm, aia_irq_handler);
	return true;
}

static void destroy(void)
{
	close(fd);
	kvm_vm_free(vm);
}

static void move_to(struct aia_runner *runner, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	TEST_ASSERT_EQ(pthread_setaffinity_np(runner->thread, sizeof(set), &set), 0);
}

/* Sends one, and waits until it was taken. */
static void message(int vcpu, int id, const char *when)
{
	volatile u64 *taken = aia_taken_of(vm);
	u64 before = taken[id];

	TEST_ASSERT(aia_signal_msi(vm, AIA_IMSIC(vcpu), id) >= 0, "%s: %s", when, strerror(errno));
	TEST_ASSERT(eventually(taken[id] != before), "a message to vCPU %d is lost %s", vcpu, when);
}

/* Sends without pause to a vCPU of its own, each message after the one before was taken. */
static volatile bool enough;

static void *sender(void *arg)
{
	long vcpu = (long)arg;
	int id = 40 + vcpu;

	while (!enough)
		message(vcpu, id, "under way");
	return NULL;
}

#define NEEDS_CPUS									\
do {											\
	if (!aia_is_there())								\
		SKIP(return, "no in-kernel irqchip");					\
	if (sysconf(_SC_NPROCESSORS_ONLN) < 3 || !set_online(2, true))			\
		SKIP(return, "needs three CPUs that can be taken offline");		\
} while (0)

/* vCPUs sleep and have their files on the CPU that goes. */
static void sleepers(void)
{
	int i, round;

	for (i = 0; i < VCPUS; i++)
		aia_start(&runners[i], vcpus[i]);
	for (round = 0; round < ROUNDS; round++) {
		int cpu = 1 + round % 2;

		for (i = 0; i < VCPUS; i++) {
			move_to(&runners[i], cpu);
			message(i, 1 + i, "before");
		}
		TEST_ASSERT(set_online(cpu, false), "CPU %d stays: %s", cpu, strerror(errno));
		for (i = 0; i < VCPUS; i++)
			message(i, 10 + i, "after the CPU went");
		TEST_ASSERT(set_online(cpu, true), "CPU %d does not come back: %s", cpu,
			    strerror(errno));
		for (i = 0; i < VCPUS; i++)
			message(i, 20 + i, "after it came back");
	}
	for (i = 0; i < VCPUS; i++)
		aia_stop(&runners[i]);
}

TEST(sleepers_in_hardware)
{
	NEEDS_CPUS;
	if (!create(KVM_DEV_RISCV_AIA_MODE_AUTO, aia_guest_sleeper))
		SKIP(return, "no interrupt files for guests on this host");
	sleepers();
	destroy();
}

TEST(sleepers_in_software)
{
	NEEDS_CPUS;
	create(KVM_DEV_RISCV_AIA_MODE_EMUL, aia_guest_sleeper);
	sleepers();
	destroy();
}

/* CPUs come and go while messages do not pause. */
static void traffic(void)
{
	pthread_t threads[VCPUS];
	int i, round;

	enough = false;
	for (i = 0; i < VCPUS; i++) {
		aia_start(&runners[i], vcpus[i]);
		message(i, 1 + i, "at the beginning");
		TEST_ASSERT_EQ(pthread_create(&threads[i], NULL, sender, (void *)(long)i), 0);
	}
	/* Longer: what is lost is lost once in a while. */
	for (round = 0; round < 2 * ROUNDS; round++) {
		int cpu = 1 + round % 2;

		for (i = 0; i < VCPUS; i++)
			move_to(&runners[i], cpu);
		TEST_ASSERT(set_online(cpu, false), "CPU %d stays: %s", cpu, strerror(errno));
		TEST_ASSERT(set_online(cpu, true), "CPU %d does not come back: %s", cpu,
			    strerror(errno));
	}
	enough = true;
	for (i = 0; i < VCPUS; i++)
		pthread_join(threads[i], NULL);
	for (i = 0; i < VCPUS; i++)
		aia_stop(&runners[i]);
}

/* differences-from-c S10 */
TEST(traffic_to_sleepers)
{
	NEEDS_CPUS;
	if (!create(KVM_DEV_RISCV_AIA_MODE_AUTO, aia_guest_sleeper))
		SKIP(return, "no interrupt files for guests on this host");
	traffic();
	destroy();
}

/* What userspace reads of a file is the same before and after its CPU went. */
TEST(state_is_kept)
{
	int i;

	NEEDS_CPUS;
	if (!create(KVM_DEV_RISCV_AIA_MODE_AUTO, aia_guest_sleeper))
		SKIP(return, "no interrupt files for guests on this host");
	aia_start(&runners[0], vcpus[0]);
	move_to(&runners[0], 2);
	message(0, 1, "before");
	aia_stop(&runners[0]);

	aia_file_set(fd, 0, IMSIC_EIDELIVERY, 0);
	aia_file_set(fd, 0, IMSIC_EITHRESHOLD, 33);
	for (i = 0; i < 4; i += 2) {
		aia_file_set(fd, 0, IMSIC_EIE(i), 0x123456789abcdef0 << i);
		aia_file_set(fd, 0, IMSIC_EIP(i), 0x0fedcba987654320 << i);
	}
	TEST_ASSERT(set_online(2, false), "CPU 2 stays: %s", strerror(errno));
	for (i = 0; i < 4; i += 2) {
		TEST_ASSERT_EQ(aia_file_get(fd, 0, IMSIC_EIE(i)), 0x123456789abcdef0 << i);
		TEST_ASSERT_EQ(aia_file_get(fd, 0, IMSIC_EIP(i)), 0x0fedcba987654320 << i);
	}
	TEST_ASSERT_EQ(aia_file_get(fd, 0, IMSIC_EIDELIVERY), 0);
	TEST_ASSERT_EQ(aia_file_get(fd, 0, IMSIC_EITHRESHOLD), 33);
	TEST_ASSERT(set_online(2, true), "CPU 2 does not come back: %s", strerror(errno));
	destroy();
}

TEST_HARNESS_MAIN
