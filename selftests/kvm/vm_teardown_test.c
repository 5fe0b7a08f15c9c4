// SPDX-License-Identifier: GPL-2.0
/* on-c: varies: M5 */
/* on-c-debug: fail: M5 */
/* covers: mmu/memslots.rs mmu/table_memory.rs hooks/vm.rs hooks/state.rs
 * kvm_core/object.rs */
/*
 * A VM that ends while the host's memory changes under it, or while its vCPUs
 * run.  What goes wrong here goes wrong in the kernel: the test asserts that
 * the kernel log stays quiet, and is worth most on a kernel with KASAN, where
 * the C module is seen to use freed page tables (M5).
 */
#include <sys/wait.h>

#include "kvm_rs_util.h"

#define SLOT	1
#define GPA	SIZE_1G
#define NPAGES	512UL
#define SIZE	(NPAGES * SIZE_4K)
#define ROUNDS	12

static char *mem;
static bool done;

static void guest_touch_all(void)
{
	u64 i;

	for (i = 0; i < NPAGES; i += 8)
		WRITE_ONCE(*(u64 *)(TEST_GVA + i * SIZE_4K), i);
	GUEST_SYNC1(0);
	for (;;)
		WRITE_ONCE(*(u64 *)(TEST_GVA + i++ % NPAGES * SIZE_4K), i);
}

static struct kvm_vcpu *create(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = vm_create_with_one_vcpu(&vcpu, guest_touch_all);
	u64 i;

	vm_set_user_memory_region(vm, SLOT, 0, GPA, SIZE, mem);
	for (i = 0; i < NPAGES; i++)
		virt_pg_map(vm, TEST_GVA + i * SIZE_4K, GPA + i * SIZE_4K);
	run_to_sync(vcpu);
	return vcpu;
}

static void map_anon(void)
{
	mem = mmap_at(SIZE, SIZE_2M, 0, MAP_ANON_PRIVATE, -1);
	TEST_ASSERT(mem != MAP_FAILED, "mmap");
	madvise(mem, SIZE, MADV_NOHUGEPAGE);
}

static void *drop_thread(void *arg)
{
	u64 i;

	for (i = 0; !READ_ONCE(done); i++) {
		madvise(mem + i % 4 * SIZE / 4, SIZE / 4, MADV_DONTNEED);
		memset(mem + i % NPAGES * SIZE_4K, 1, SIZE_4K);
	}
	return NULL;
}

/*
 * The last file of the VM is closed while its memory is being dropped.  The C
 * module goes on in a root that was freed meanwhile; KASAN sees that at once,
 * other kernels rarely (differences-from-c M5).
 */
TEST(close_against_madvise)
{
	int kmsg = kmsg_open(), round;
	struct kvm_vcpu *vcpu;
	pthread_t thread;

	map_anon();
	for (round = 0; round < ROUNDS; round++) {
		vcpu = create();
		WRITE_ONCE(done, false);
		pthread_create(&thread, NULL, drop_thread, NULL);
		usleep(round * 300);
		kvm_vm_free(vcpu->vm);
		WRITE_ONCE(done, true);
		pthread_join(thread, NULL);
	}
	kmsg_assert_quiet(kmsg);
}

static void *run_thread(void *vcpu)
{
	/* Ends with the process, or with an error of memory that is gone. */
	while (!__vcpu_run(vcpu))
		;
	return NULL;
}

/* A process that is killed while its vCPUs fault. */
TEST(kill_while_running)
{
	int kmsg = kmsg_open(), round, status;
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	pid_t pid;

	for (round = 0; round < ROUNDS; round++) {
		pid = fork();
		if (!pid) {
			map_anon();
			vcpu = create();
			pthread_create(&thread, NULL, run_thread, vcpu);
			usleep(2000 + round * 500);
			kill(getpid(), SIGKILL);
		}
		TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid");
		TEST_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status 0x%x",
			    status);
	}
	kmsg_assert_quiet(kmsg);
}

/* Memory that is unmapped for good ends KVM_RUN, not the kernel. */
TEST(unmap_while_running)
{
	int kmsg = kmsg_open();
	struct kvm_vcpu *vcpu;
	pthread_t thread;

	map_anon();
	vcpu = create();
	pthread_create(&thread, NULL, run_thread, vcpu);
	usleep(20000);
	munmap(mem, SIZE);
	pthread_join(thread, NULL);
	kmsg_assert_quiet(kmsg);
}

/* The memslot goes and comes while the guest uses it. */
TEST(delete_memslot_while_running)
{
	int kmsg = kmsg_open(), round;
	struct kvm_vcpu *vcpu;
	pthread_t thread;

	map_anon();
	vcpu = create();
	/* An exit for MMIO is an answer too: run_thread() goes on. */
	pthread_create(&thread, NULL, run_thread, vcpu);
	for (round = 0; round < 2 * ROUNDS; round++) {
		vm_set_user_memory_region(vcpu->vm, SLOT, 0, GPA, 0, NULL);
		vm_set_user_memory_region(vcpu->vm, SLOT, 0, GPA, SIZE, mem);
		usleep(1000);
	}
	munmap(mem, SIZE);
	pthread_join(thread, NULL);
	kmsg_assert_quiet(kmsg);
}

static char debugfs_path[96];

static void *open_thread(void *arg)
{
	char buf[256];
	u64 opened = 0;
	int fd;

	while (!READ_ONCE(done)) {
		fd = open(debugfs_path, O_RDONLY);
		if (fd < 0)
			continue;
		opened++;
		/* What was opened in time may be gone from debugfs. */
		TEST_ASSERT(read(fd, buf, sizeof(buf)) >= 0 || errno == EIO, "read: %s", strerror(errno));
		close(fd);
	}
	return (void *)opened;
}

/* Opening fails once the VM's end has begun, and takes nothing from it. */
TEST(debugfs_file_is_opened_while_the_vm_ends)
{
	int kvm_fd = open_kvm_dev_path_or_exit(), kmsg = kmsg_open(), i, fd;
	struct timespec start;
	pthread_t threads[3];
	void *opened;
	u64 all = 0;

	fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);
	TEST_ASSERT(fd >= 0, "KVM_CREATE_VM: %s", strerror(errno));
	snprintf(debugfs_path, sizeof(debugfs_path), "/sys/kernel/debug/kvm/%d-%d/gstage_page_tables", getpid(), fd);
	if (access(debugfs_path, F_OK))
		SKIP(return, "no gstage_page_tables in debugfs");
	done = false;
	for (i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_create(&threads[i], NULL, open_thread, NULL);
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		usleep(500);
		close(fd);
		/* The VM's directory has its number, which the threads' files may take meanwhile. */
		fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);
		TEST_ASSERT(fd >= 0, "KVM_CREATE_VM: %s", strerror(errno));
		snprintf(debugfs_path, sizeof(debugfs_path), "/sys/kernel/debug/kvm/%d-%d/gstage_page_tables",
			 getpid(), fd);
	} while (timespec_to_ns(timespec_elapsed(start)) < 3000000000LL);
	WRITE_ONCE(done, true);
	for (i = 0; i < ARRAY_SIZE(threads); i++) {
		pthread_join(threads[i], &opened);
		all += (u64)opened;
	}
	close(fd);
	close(kvm_fd);
	TEST_ASSERT(all, "no file was opened");
	kmsg_assert_quiet(kmsg);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
