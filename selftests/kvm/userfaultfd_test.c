// SPDX-License-Identifier: GPL-2.0
/* on-c: pass */
/* also-on: max: fail: N1 */
/* covers: mmu/fault.rs kvm_core/memslot.rs */
/*
 * Guest memory that userspace provides page by page, as the guest asks for it:
 * live migration after the switch, snapshots that are read lazily.  Several
 * vCPUs ask at once, two threads answer, and only what is touched is asked for.
 */
#include <poll.h>
#include <sys/wait.h>

#include <linux/userfaultfd.h>

#include "kvm_rs_mem.h"

#define SLOT		1
#define GPA		SIZE_1G
#define MAX_PAGES	4096UL
#define NR_SERVERS	2

/* In the guest's memory: which pages it touches. */
static u64 nr_pages, step;

/* What answers page faults, and how often each page was asked for. */
static struct {
	int fd, quit[2];
	u64 mode, page_size, size;
	bool zero;
	char *mem, *alias;
	pthread_t threads[NR_SERVERS];
	u32 asked[MAX_PAGES], given[MAX_PAGES];
	/* Of write protection: the pages as they were before the first store. */
	char *saved;
	pthread_mutex_t saving;
} server = { .saving = PTHREAD_MUTEX_INITIALIZER };

/* The page's contents; @src has room for a huge one. */
static void fill_page(char *src, u64 page)
{
	u64 per = server.page_size / SIZE_4K, i;

	for (i = 0; i < per; i++)
		page_word(src, i)[0] = pattern(page * per + i);
}

static void serve_one(u64 page, char *src)
{
	struct uffdio_continue cont = {};
	struct uffdio_zeropage zero = {};
	struct uffdio_copy copy = {};
	u64 addr = (u64)server.mem + page * server.page_size;
	int ret;

	if (server.mode == UFFDIO_REGISTER_MODE_MINOR) {
		cont.range.start = addr;
		cont.range.len = server.page_size;
		ret = ioctl(server.fd, UFFDIO_CONTINUE, &cont);
	} else if (server.zero) {
		zero.range.start = addr;
		zero.range.len = server.page_size;
		ret = ioctl(server.fd, UFFDIO_ZEROPAGE, &zero);
	} else {
		fill_page(src, page);
		copy.src = (u64)src;
		copy.dst = addr;
		copy.len = server.page_size;
		ret = ioctl(server.fd, UFFDIO_COPY, &copy);
	}
	/* Of two that answer the same question, one is late. */
	TEST_ASSERT(!ret || errno == EEXIST || errno == EAGAIN, "page %lu: %s",
		    (unsigned long)page, strerror(errno));
	if (!ret)
		__atomic_add_fetch(&server.given[page], 1, __ATOMIC_RELAXED);
}

/* Saves a page before the first store to it, and lets it be written. */
static void save_one(u64 page)
{
	struct uffdio_writeprotect open = {
		.range = { (u64)server.mem + page * server.page_size, server.page_size },
	};

	/* No server may open a page that another one is still copying. */
	pthread_mutex_lock(&server.saving);
	if (!server.given[page]++)
		memcpy(server.saved + page * server.page_size,
		       server.mem + page * server.page_size, server.page_size);
	TEST_ASSERT_OK(ioctl(server.fd, UFFDIO_WRITEPROTECT, &open));
	pthread_mutex_unlock(&server.saving);
}

static void *serve(void *arg)
{
	struct pollfd fds[] = { { server.fd, POLLIN }, { server.quit[0], POLLIN } };
	char *src = mmap(NULL, server.page_size, PROT_READ | PROT_WRITE, MAP_ANON_PRIVATE, -1, 0);
	struct uffd_msg msg;
	u64 page;

	while (poll(fds, 2, -1) > 0 && !fds[1].revents) {
		if (read(server.fd, &msg, sizeof(msg)) != sizeof(msg))
			continue;
		TEST_ASSERT(msg.event == UFFD_EVENT_PAGEFAULT, "event %u", msg.event);
		page = (msg.arg.pagefault.address - (u64)server.mem) / server.page_size;
		__atomic_add_fetch(&server.asked[page], 1, __ATOMIC_RELAXED);
		if (msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP)
			save_one(page);
		else
			serve_one(page, src);
	}
	munmap(src, server.page_size);
	return NULL;
}

/* A userfaultfd for server.mem; false if the kernel has none of that kind. */
static bool uffd_open(u64 features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	struct uffdio_register reg = {
		.range = { (u64)server.mem, server.size },
		.mode = server.mode,
	};

	server.fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (server.fd < 0)
		return false;
	if (ioctl(server.fd, UFFDIO_API, &api) || ioctl(server.fd, UFFDIO_REGISTER, &reg)) {
		close(server.fd);
		return false;
	}
	memset(server.asked, 0, sizeof(server.asked));
	memset(server.given, 0, sizeof(server.given));
	return true;
}

static bool server_start(u64 features)
{
	int i;

	if (!uffd_open(features))
		return false;
	TEST_ASSERT(!pipe(server.quit), "pipe");
	for (i = 0; i < NR_SERVERS; i++)
		pthread_create(&server.threads[i], NULL, serve, NULL);
	return true;
}

static void server_stop(void)
{
	int i;

	close(server.quit[1]);
	for (i = 0; i < NR_SERVERS; i++)
		pthread_join(server.threads[i], NULL);
	close(server.quit[0]);
	close(server.fd);
}

static u64 mark_of(u64 page, u64 id)
{
	return page << 8 | (id + 1);
}

/*
 * Every vCPU touches the same pages, each in an order of its own; half of the
 * first touches are stores.
 */
static void guest_touch(u64 id)
{
	u64 n, page, *p;
	int round;

	for (round = 0; round < 2; round++) {
		for (n = 0; n < nr_pages; n++) {
			page = (n * 7 + id * nr_pages / NR_VCPUS) % nr_pages * step;
			p = (u64 *)gva_of(page);
			if ((page ^ id) & 1)
				WRITE_ONCE(p[1 + id], mark_of(page, id));
			__GUEST_ASSERT(READ_ONCE(p[0]) == pattern(page),
				       "vCPU %lu, page %lu: found %lx", id, page, p[0]);
			WRITE_ONCE(p[1 + id], mark_of(page, id));
		}
	}
	GUEST_DONE();
}

/* Runs guest_touch() on @n pages, every @each, while the server answers. */
static void run_guests(struct crew *crew, u64 n, u64 each, u32 flags, u64 gpa)
{
	nr_pages = n;
	step = each;
	crew_create(crew, guest_touch);
	crew_add_slot(crew, SLOT, flags, gpa, server.size, server.mem);
	sync_global_to_guest(crew->vm, nr_pages);
	sync_global_to_guest(crew->vm, step);
	crew_start(crew, crew_run_to_done);
}

/* What the guests touched was given once, the rest not, and their stores are there. */
static void assert_given_once(char *view)
{
	u64 per = server.page_size / SIZE_4K, i, id;
	bool touched[MAX_PAGES] = {};

	for (i = 0; i < nr_pages * step; i += step) {
		touched[i / per] = true;
		TEST_ASSERT(page_word(view, i)[0] == pattern(i), "page %lu is another",
			    (unsigned long)i);
		for (id = 0; id < NR_VCPUS; id++)
			TEST_ASSERT(page_word(view, i)[1 + id] == mark_of(i, id),
				    "page %lu lost the store of vCPU %lu", (unsigned long)i,
				    (unsigned long)id);
	}
	for (i = 0; i < server.size / server.page_size; i++) {
		TEST_ASSERT(server.given[i] == touched[i], "page %lu was given %u times",
			    (unsigned long)i, server.given[i]);
		TEST_ASSERT(!server.asked[i] == !touched[i], "page %lu was asked for %u times",
			    (unsigned long)i, server.asked[i]);
		/* A fault of each vCPU, and each may have found the answer late. */
		TEST_ASSERT(server.asked[i] <= 4 * NR_VCPUS, "page %lu was asked for %u times",
			    (unsigned long)i, server.asked[i]);
	}
}

static void finish(struct crew *crew)
{
	crew_join(crew);
	server_stop();
	assert_given_once(server.alias ?: server.mem);
	kvm_vm_free(crew->vm);
	munmap(server.mem, server.size);
	if (server.alias)
		munmap(server.alias, server.size);
	server.alias = NULL;
	server.zero = false;
}

static void server_anon(u64 npages, int advice)
{
	server.page_size = SIZE_4K;
	server.size = npages * SIZE_4K;
	server.mode = UFFDIO_REGISTER_MODE_MISSING;
	server.mem = map_advised(server.size, advice);
}

/* A memfd, mapped twice. */
static void server_shared(u64 page_size, u64 size, u64 mode, u32 mfd_flags)
{
	int fd = memfd_create("uffd", mfd_flags);

	server.page_size = page_size;
	server.size = size;
	server.mode = mode;
	TEST_ASSERT(fd >= 0 && !ftruncate(fd, size), "memfd: %s", strerror(errno));
	server.mem = mmap_at(size, SIZE_2M, 0, MAP_SHARED, fd);
	server.alias = mmap_at(size, SIZE_2M, 0, MAP_SHARED, fd);
	TEST_ASSERT(server.mem != MAP_FAILED && server.alias != MAP_FAILED, "mmap: %s",
		    strerror(errno));
	close(fd);
}

TEST(missing_anon)
{
	struct crew crew;

	server_anon(256, MADV_NOHUGEPAGE);
	if (!server_start(0))
		SKIP(return, "no userfaultfd");
	run_guests(&crew, 128, 2, 0, GPA);
	finish(&crew);
}

/* Where huge pages are welcome nothing but the page that was given appears. */
TEST(missing_anon_thp)
{
	struct crew crew;

	server_anon(1024, MADV_HUGEPAGE);
	if (!server_start(0))
		SKIP(return, "no userfaultfd");
	run_guests(&crew, 170, 6, 0, GPA);
	finish(&crew);
}

TEST(missing_anon_dirty_log)
{
	struct crew crew;
	u64 log[4], i;

	server_anon(256, MADV_NOHUGEPAGE);
	if (!server_start(0))
		SKIP(return, "no userfaultfd");
	run_guests(&crew, 128, 2, KVM_MEM_LOG_DIRTY_PAGES, GPA);
	crew_join(&crew);
	kvm_vm_get_dirty_log(crew.vm, SLOT, log);
	for (i = 0; i < ARRAY_SIZE(log); i++)
		TEST_ASSERT_EQ(log[i], 0x5555555555555555UL);
	server_stop();
	assert_given_once(server.mem);
	kvm_vm_free(crew.vm);
	munmap(server.mem, server.size);
}

TEST(missing_shmem)
{
	struct crew crew;

	server_shared(SIZE_4K, 256 * SIZE_4K, UFFDIO_REGISTER_MODE_MISSING, 0);
	if (!server_start(UFFD_FEATURE_MISSING_SHMEM))
		SKIP(return, "no userfaultfd for shmem");
	run_guests(&crew, 128, 2, 0, GPA);
	finish(&crew);
}

TEST(missing_hugetlb)
{
	struct crew crew;

	if (!hugetlb_reserve(SIZE_2M, 8))
		SKIP(return, "no huge pages of 2M");
	server_shared(SIZE_2M, 8 * SIZE_2M, UFFDIO_REGISTER_MODE_MISSING, MFD_HUGE_OF(SIZE_2M));
	if (!server_start(UFFD_FEATURE_MISSING_HUGETLBFS))
		SKIP(return, "no userfaultfd for hugetlb");
	run_guests(&crew, 59, 61, 0, GPA);
	finish(&crew);
}

/* The page is there, only this mapping of it is not. */
TEST(minor_shmem)
{
	struct crew crew;
	u64 i;

	server_shared(SIZE_4K, 256 * SIZE_4K, UFFDIO_REGISTER_MODE_MINOR, 0);
	for (i = 0; i < 256; i++)
		page_word(server.alias, i)[0] = pattern(i);
	if (!server_start(UFFD_FEATURE_MINOR_SHMEM))
		SKIP(return, "no minor faults for shmem");
	run_guests(&crew, 128, 2, 0, GPA);
	finish(&crew);
}

/* Guest and host addresses differ within a huge page, so entries are small. */
TEST(minor_hugetlb)
{
	struct crew crew;
	u64 gpa, i;

	if (!hugetlb_reserve(SIZE_2M, 8))
		SKIP(return, "no huge pages of 2M");
	for (gpa = GPA; gpa <= GPA + SIZE_4K; gpa += SIZE_4K) {
		server_shared(SIZE_2M, 8 * SIZE_2M, UFFDIO_REGISTER_MODE_MINOR,
			      MFD_HUGE_OF(SIZE_2M));
		for (i = 0; i < server.size / SIZE_4K; i++)
			page_word(server.alias, i)[0] = pattern(i);
		if (!server_start(UFFD_FEATURE_MINOR_HUGETLBFS))
			SKIP(return, "no minor faults for hugetlb");
		run_guests(&crew, 59, 61, 0, gpa);
		finish(&crew);
	}
}

/* In the guest's memory. */
static u64 stop;

/* As guest_touch(), where marks may go with their pages. */
static void guest_touch_lossy(u64 id)
{
	u64 seed = id + 1, page, *p, val;

	while (!READ_ONCE(stop)) {
		page = xorshift(&seed) % nr_pages;
		p = (u64 *)gva_of(page);
		val = READ_ONCE(p[1 + id]);
		__GUEST_ASSERT(READ_ONCE(p[0]) == pattern(page),
			       "vCPU %lu, page %lu: found %lx", id, page, p[0]);
		__GUEST_ASSERT(!val || val == mark_of(page, id), "vCPU %lu, page %lu: mark %lx",
			       id, page, val);
		WRITE_ONCE(p[1 + id], mark_of(page, id));
	}
	GUEST_DONE();
}

static u64 pages_given(void)
{
	u64 given = 0, i;

	for (i = 0; i < nr_pages; i++)
		given += READ_ONCE(server.given[i]);
	return given;
}

/* Pages that go while the guests use them are asked for again. */
TEST(missing_again)
{
	u64 seed = 1;
	struct crew crew;
	int round;

	server_anon(64, MADV_NOHUGEPAGE);
	if (!server_start(0))
		SKIP(return, "no userfaultfd");
	nr_pages = 64;
	stop = 0;
	crew_create(&crew, guest_touch_lossy);
	crew_add_slot(&crew, SLOT, 0, GPA, server.size, server.mem);
	sync_global_to_guest(crew.vm, nr_pages);
	crew_start(&crew, crew_run_to_done);
	/* Longer where the guests hardly get a CPU. */
	for (round = 0; round < 60 || (pages_given() <= nr_pages && round < 20000); round++) {
		madvise(page_word(server.mem, xorshift(&seed) % 60), 4 * SIZE_4K, MADV_DONTNEED);
		usleep(1000);
	}
	write_guest_global(crew.vm, stop, 1);
	crew_join(&crew);
	server_stop();
	TEST_ASSERT(pages_given() > nr_pages, "%lu pages given", (unsigned long)pages_given());
	kvm_vm_free(crew.vm);
	munmap(server.mem, server.size);
}

/* A page of the host's zeroes is read, and not written. */
TEST(zeropage)
{
	char *other = map_advised(SIZE_4K, MADV_NOHUGEPAGE);
	struct kvm_vcpu *vcpu = server_create();
	u64 i;

	server_anon(8, MADV_NOHUGEPAGE);
	server.zero = true;
	if (!server_start(0))
		SKIP(return, "no userfaultfd");
	vm_set_user_memory_region(vcpu->vm, SLOT, 0, GPA, server.size, server.mem);
	server_map(vcpu, GPA, server.size);
	for (i = 0; i < 8; i++) {
		if (i & 1)
			TEST_ASSERT_EQ(guest_load(vcpu, gva_of(i) + 16), 0);
		guest_store(vcpu, gva_of(i) + 16, i + 1);
		TEST_ASSERT_EQ(page_word(server.mem, i)[2], i + 1);
		TEST_ASSERT_EQ(READ_ONCE(((u64 *)other)[2]), 0);
	}
	server_stop();
	server.zero = false;
	kvm_vm_free(vcpu->vm);
}

/* Kills its process once somebody waits for a page. */
static void *kill_process(void *arg)
{
	struct pollfd asked = { server.fd, POLLIN };

	poll(&asked, 1, -1);
	usleep(10000);
	kill(getpid(), SIGKILL);
	return NULL;
}

/* While nobody answers, the vCPU waits; the process can be killed then. */
TEST(killed_while_waiting)
{
	int kmsg = kmsg_open(), status;
	struct kvm_vcpu *vcpu;
	pid_t pid = fork();

	if (!pid) {
		pthread_t thread;

		server_anon(8, MADV_NOHUGEPAGE);
		if (!uffd_open(0))
			_exit(4);
		vcpu = server_create();
		vm_set_user_memory_region(vcpu->vm, SLOT, 0, GPA, server.size, server.mem);
		server_map(vcpu, GPA, server.size);
		pthread_create(&thread, NULL, kill_process, NULL);
		guest_load(vcpu, gva_of(3));
		_exit(1);
	}
	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid");
	if (WIFEXITED(status) && WEXITSTATUS(status) == 4)
		SKIP(return, "no userfaultfd");
	TEST_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
		    "the vCPU did not wait: status 0x%x", status);
	kmsg_assert_quiet(kmsg);
}

/* Every vCPU stores to all pages, and once more after they were protected. */
static void guest_store_twice(u64 id)
{
	u64 n, page, *p;
	int round;

	for (round = 0; round < 2; round++) {
		for (n = 0; n < nr_pages; n++) {
			page = (n * 7 + id * nr_pages / NR_VCPUS) % nr_pages;
			p = (u64 *)gva_of(page);
			__GUEST_ASSERT(!round || READ_ONCE(p[1 + id]) == mark_of(page, id),
				       "vCPU %lu, page %lu: found %lx", id, page, p[1 + id]);
			WRITE_ONCE(p[1 + id], mark_of(page, id) + round);
		}
		GUEST_SYNC(round);
	}
	GUEST_DONE();
}

static void *crew_run_to_sync(void *vcpu)
{
	struct ucall uc;

	TEST_ASSERT_EQ(run_to_ucall(vcpu, &uc), UCALL_SYNC);
	return NULL;
}

/*
 * A snapshot of a guest that runs: what the guests map writable is protected, and the
 * first store to each page waits until the page is saved.
 */
static void check_write_protect(void)
{
	struct uffdio_writeprotect close = {
		.range = { (u64)server.mem, server.size },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	struct crew crew;
	u64 i, id;

	nr_pages = server.size / SIZE_4K;
	server.saved = mmap(NULL, server.size, PROT_READ | PROT_WRITE, MAP_ANON_PRIVATE, -1, 0);
	crew_create(&crew, guest_store_twice);
	crew_add_slot(&crew, SLOT, 0, GPA, server.size, server.mem);
	sync_global_to_guest(crew.vm, nr_pages);
	crew_start(&crew, crew_run_to_sync);
	crew_join(&crew);
	TEST_ASSERT_OK(ioctl(server.fd, UFFDIO_WRITEPROTECT, &close));
	crew_start(&crew, crew_run_to_sync);
	crew_join(&crew);
	server_stop();
	for (i = 0; i < nr_pages; i++) {
		TEST_ASSERT(server.given[i * SIZE_4K / server.page_size], "page %lu was not saved",
			    (unsigned long)i);
		for (id = 0; id < NR_VCPUS; id++) {
			TEST_ASSERT(page_word(server.saved, i)[1 + id] == mark_of(i, id),
				    "page %lu was saved with %lx of vCPU %lu", (unsigned long)i,
				    (unsigned long)page_word(server.saved, i)[1 + id],
				    (unsigned long)id);
			TEST_ASSERT(page_word(server.mem, i)[1 + id] == mark_of(i, id) + 1,
				    "page %lu lost the store of vCPU %lu", (unsigned long)i,
				    (unsigned long)id);
		}
	}
	kvm_vm_free(crew.vm);
	munmap(server.saved, server.size);
	munmap(server.mem, server.size);
}

TEST(write_protect_anon)
{
	server_anon(256, MADV_NOHUGEPAGE);
	server.mode = UFFDIO_REGISTER_MODE_WP;
	if (!server_start(UFFD_FEATURE_PAGEFAULT_FLAG_WP))
		SKIP(return, "no write protection by userfaultfd");
	check_write_protect();
}

/* A huge page is protected as one, and opened in parts. */
TEST(write_protect_anon_thp)
{
	server_anon(1024, MADV_HUGEPAGE);
	server.mode = UFFDIO_REGISTER_MODE_WP;
	if (!server_start(UFFD_FEATURE_PAGEFAULT_FLAG_WP))
		SKIP(return, "no write protection by userfaultfd");
	check_write_protect();
}

static volatile siginfo_t poison_info;

static void on_sigbus(int sig, siginfo_t *info, void *ctx)
{
	memcpy((void *)&poison_info, info, sizeof(*info));
}

/*
 * Memory that was lost on the way, or is broken: the vCPU's thread gets the
 * signal that says so, and where, and the guest goes on once it is mended.
 */
static void check_poison(u64 lsb)
{
	struct sigaction sa = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO }, old;
	struct kvm_vcpu *vcpu = server_create();
	struct uffdio_poison poison = {
		.range = { (u64)server.mem + server.page_size, server.page_size },
	};
	u64 page = server.page_size / SIZE_4K, val;
	char *src = mmap(NULL, server.page_size, PROT_READ | PROT_WRITE, MAP_ANON_PRIVATE, -1, 0);

	vm_set_user_memory_region(vcpu->vm, SLOT, 0, GPA, server.size, server.mem);
	server_map(vcpu, GPA, server.size);
	serve_one(0, src);
	TEST_ASSERT_EQ(guest_load(vcpu, gva_of(0)), pattern(0));
	TEST_ASSERT_OK(ioctl(server.fd, UFFDIO_POISON, &poison));

	sigaction(SIGBUS, &sa, &old);
	guest_ask(vcpu, GUEST_OP_LOAD, gva_of(page), 0);
	TEST_ASSERT_ERRNO(__vcpu_run(vcpu), EINTR);
	TEST_ASSERT_EQ(poison_info.si_signo, SIGBUS);
	TEST_ASSERT_EQ(poison_info.si_code, BUS_MCEERR_AR);
	TEST_ASSERT_EQ((u64)poison_info.si_addr & ~(server.page_size - 1),
		       (u64)server.mem + server.page_size);
	TEST_ASSERT_EQ(poison_info.si_addr_lsb, lsb);
	sigaction(SIGBUS, &old, NULL);

	madvise(server.mem + server.page_size, server.page_size, MADV_DONTNEED);
	serve_one(1, src);
	TEST_ASSERT_EQ(guest_answer(vcpu, &val), NO_TRAP);
	TEST_ASSERT_EQ(val, pattern(page));
	kvm_vm_free(vcpu->vm);
	close(server.fd);
	munmap(server.mem, server.size);
	munmap(src, server.page_size);
}

TEST(poison)
{
	server_anon(8, MADV_NOHUGEPAGE);
	if (!uffd_open(UFFD_FEATURE_POISON))
		SKIP(return, "no UFFDIO_POISON");
	check_poison(12);
}

TEST(poison_hugetlb)
{
	server.page_size = SIZE_2M;
	server.size = 2 * SIZE_2M;
	server.mode = UFFDIO_REGISTER_MODE_MISSING;
	server.mem = hugetlb_map(SIZE_2M, server.size);
	if (!server.mem)
		SKIP(return, "no huge pages of 2M");
	if (!uffd_open(UFFD_FEATURE_POISON | UFFD_FEATURE_MISSING_HUGETLBFS))
		SKIP(return, "no UFFDIO_POISON");
	check_poison(21);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
