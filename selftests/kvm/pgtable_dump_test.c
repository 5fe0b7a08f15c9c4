// SPDX-License-Identifier: GPL-2.0
/* on-c: skip: page-table dump, statistics of pages by size */
/* covers: gstage/dump.rs mmu/ptdump.rs hooks/debugfs.rs kvm_core/stats.rs */
/*
 * gstage_page_tables in debugfs shows what is mapped, how large its leaves are,
 * and what the guest may do; the statistics count the same leaves.
 */
#include <sys/wait.h>

#include "kvm_rs_pgtable.h"

#define SLOT	1
#define GPA	SIZE_1G
#define SIZE	(4 * SIZE_2M)
#define NPAGES	(SIZE / SIZE_4K)

static struct dump dump, again;

static void look(struct kvm_vm *vm)
{
	dump_read(vm, &dump);
	assert_stats_are(vm, &dump);
}

/* The run with @gpa, or NULL. */
static const struct run *run_at(u64 gpa)
{
	int i;

	for (i = 0; i < dump.nr; i++)
		if (dump.runs[i].start <= gpa && gpa < dump.runs[i].end)
			return &dump.runs[i];
	return NULL;
}

static struct kvm_vcpu *create(u32 flags, void *mem)
{
	struct kvm_vcpu *vcpu = server_create();

	vm_set_user_memory_region(vcpu->vm, SLOT, flags, GPA, SIZE, mem);
	server_map(vcpu, GPA, SIZE);
	return vcpu;
}

/* Fault-around, where there is such a thing, would map more than the guest asks for. */
#define FAULT_AROUND	"/sys/module/kvm/parameters/fault_around_bytes"

static long saved_around;

static void fault_around_off(void)
{
	saved_around = knob_get(FAULT_AROUND);
	if (saved_around > 0)
		knob_set(FAULT_AROUND, "0");
}

static void fault_around_restore(void)
{
	if (saved_around > 0)
		knob_set(FAULT_AROUND, "%ld", saved_around);
}

TEST(empty)
{
	struct kvm_vm *vm = vm_create_barebones();

	look(vm);
	TEST_ASSERT_EQ(dump.nr, 0);
	TEST_ASSERT_EQ(vm_get_stat(vm, gstage_tables), 0);
	kvm_vm_free(vm);
}

TEST(small_pages)
{
	char *mem = map_advised(SIZE, MADV_NOHUGEPAGE);
	struct kvm_vcpu *vcpu = create(0, mem);
	static const u64 pages[] = { 3, 4, 5, 600, 1023, 1024, NPAGES - 1 };
	const struct run *run;
	int i;

	for (i = 0; i < ARRAY_SIZE(pages); i++)
		guest_store(vcpu, gva_of(pages[i]), 1);
	look(vcpu->vm);
	TEST_ASSERT_EQ(dump_bytes(&dump, GPA, SIZE, SIZE_4K), ARRAY_SIZE(pages) * SIZE_4K);
	TEST_ASSERT_EQ(dump_bytes(&dump, GPA, SIZE, 0), ARRAY_SIZE(pages) * SIZE_4K);
	for (i = 0; i < ARRAY_SIZE(pages); i++) {
		run = run_at(GPA + pages[i] * SIZE_4K);
		TEST_ASSERT(run && run->w && run->x && run->a && run->d && run->host_w &&
			    !strcmp(run->type, "pma"), "page %lu", (unsigned long)pages[i]);
	}
	/* Neighbours that are alike are one line, also from one table to the next. */
	run = run_at(GPA + 4 * SIZE_4K);
	TEST_ASSERT(run->start == GPA + 3 * SIZE_4K && run->end == GPA + 6 * SIZE_4K, "3 to 5");
	run = run_at(GPA + 1023 * SIZE_4K);
	TEST_ASSERT(run->start == GPA + 1023 * SIZE_4K && run->end == GPA + 1025 * SIZE_4K,
		    "1023 to 1024");

	/* What the host takes away is gone. */
	madvise(page_word(mem, 4), SIZE_4K, MADV_DONTNEED);
	look(vcpu->vm);
	TEST_ASSERT(!run_at(GPA + 4 * SIZE_4K), "the page was dropped");
	TEST_ASSERT_EQ(dump_bytes(&dump, GPA, SIZE, 0), (ARRAY_SIZE(pages) - 1) * SIZE_4K);
	vm_set_user_memory_region(vcpu->vm, SLOT, 0, GPA, 0, NULL);
	look(vcpu->vm);
	TEST_ASSERT_EQ(dump_bytes(&dump, GPA, SIZE, 0), 0);
	kvm_vm_free(vcpu->vm);
	munmap(mem, SIZE);
}

TEST(permissions)
{
	char *mem = map_advised(SIZE, MADV_NOHUGEPAGE);
	struct kvm_vcpu *vcpu;
	const struct run *run;

	/* A slot that the guest must not write to, on memory that it could. */
	memset(mem, 1, SIZE);
	vcpu = create(KVM_MEM_READONLY, mem);
	guest_load(vcpu, gva_of(9));
	look(vcpu->vm);
	run = run_at(GPA + 9 * SIZE_4K);
	TEST_ASSERT(run && !run->w, "read-only slot");
	kvm_vm_free(vcpu->vm);

	/* The zero page is not the guest's to write. */
	madvise(mem, SIZE, MADV_DONTNEED);
	vcpu = create(0, mem);
	TEST_ASSERT_EQ(*page_word(mem, 9), 0);
	guest_load(vcpu, gva_of(9));
	look(vcpu->vm);
	run = run_at(GPA + 9 * SIZE_4K);
	TEST_ASSERT(run && !run->w && !run->host_w, "zero page");
	guest_store(vcpu, gva_of(9), 1);
	look(vcpu->vm);
	run = run_at(GPA + 9 * SIZE_4K);
	TEST_ASSERT(run && run->w && run->host_w, "a page of its own");

	/* Nor is a page the stores to which are logged, until it does. */
	guest_store(vcpu, gva_of(10), 1);
	vm_set_user_memory_region(vcpu->vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES, GPA, SIZE, mem);
	look(vcpu->vm);
	run = run_at(GPA + 10 * SIZE_4K);
	TEST_ASSERT(run && !run->w && run->host_w, "logged");
	guest_store(vcpu, gva_of(10), 2);
	look(vcpu->vm);
	run = run_at(GPA + 10 * SIZE_4K);
	TEST_ASSERT(run && run->w, "dirty");
	run = run_at(GPA + 9 * SIZE_4K);
	TEST_ASSERT(run && !run->w, "clean");
	kvm_vm_free(vcpu->vm);
	munmap(mem, SIZE);
}

TEST(young_and_old)
{
	char *mem = map_advised(SIZE, MADV_NOHUGEPAGE);
	struct kvm_vcpu *vcpu = create(0, mem);
	const struct run *run;
	int fd;

	guest_store(vcpu, gva_of(20), 1);
	fd = idle_open();
	if (fd < 0)
		SKIP(return, "no page_idle");
	idle_mark(fd, pfn_of(page_word(mem, 20)));
	look(vcpu->vm);
	run = run_at(GPA + 20 * SIZE_4K);
	/* Not yet on an LRU list, it cannot be made idle. */
	if (run && idle_test(fd, pfn_of(page_word(mem, 20))))
		TEST_ASSERT(!run->a, "idle and accessed");
	close(fd);
	kvm_vm_free(vcpu->vm);
	munmap(mem, SIZE);
}

TEST(huge_pages)
{
	char *mem = map_advised(SIZE, MADV_HUGEPAGE);
	struct kvm_vcpu *vcpu;
	const struct run *run;
	u64 tables;

	memset(mem, 1, SIZE);
	vcpu = create(0, mem);
	guest_store(vcpu, gva_of(700), 1);
	look(vcpu->vm);
	run = run_at(GPA + SIZE_2M);
	TEST_ASSERT(run && run->leaf == SIZE_2M && run->start == GPA + SIZE_2M &&
		    run->end == GPA + 2 * SIZE_2M, "one block");

	/* A split costs a table. */
	tables = vm_get_stat(vcpu->vm, gstage_tables);
	set_eager_split("Y");
	vm_set_user_memory_region(vcpu->vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES, GPA, SIZE, mem);
	look(vcpu->vm);
	TEST_ASSERT_EQ(dump_bytes(&dump, GPA, SIZE, SIZE_4K), SIZE_2M);
	TEST_ASSERT_EQ(vm_get_stat(vcpu->vm, gstage_tables), tables + 1);
	kvm_vm_free(vcpu->vm);
	munmap(mem, SIZE);
}

/* Every fault is counted as what it was. */
TEST(faults_by_kind)
{
	char *mem = map_advised(SIZE, MADV_NOHUGEPAGE);
	struct kvm_vcpu *vcpu = create(0, mem);
	u64 fixed, fast;

	*page_word(mem, 1) = 1;
	guest_load(vcpu, gva_of(0));
	fixed = vcpu_get_stat(vcpu, pf_fixed);
	guest_store(vcpu, gva_of(1), 1);
	guest_store(vcpu, gva_of(1), 2);
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, pf_fixed), fixed + 1);

	vm_set_user_memory_region(vcpu->vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES, GPA, SIZE, mem);
	fast = vcpu_get_stat(vcpu, pf_fast);
	guest_store(vcpu, gva_of(1), 3);
	guest_store(vcpu, gva_of(1), 4);
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, pf_fast), fast + 1);
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, pf_fixed), fixed + 1);
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, pf_around), 0);
	kvm_vm_free(vcpu->vm);
	munmap(mem, SIZE);
}

TEST(format)
{
	static const struct {
		long bits, levels;
	} modes[] = { { 41, 3 }, { 50, 4 }, { 59, 5 } };
	long host = kvm_check_cap(KVM_CAP_VM_GPA_BITS);
	struct kvm_vm *vm;
	int i;

	for (i = 0; i < ARRAY_SIZE(modes) && modes[i].bits <= host; i++) {
		vm = vm_create_barebones();
		look(vm);
		TEST_ASSERT_EQ(dump.bits, host);
		vm_enable_cap(vm, KVM_CAP_VM_GPA_BITS, modes[i].bits);
		look(vm);
		TEST_ASSERT_EQ(dump.bits, modes[i].bits);
		TEST_ASSERT_EQ(dump.levels, modes[i].levels);
		kvm_vm_free(vm);
	}
}

/* Far apart, in tables of their own, and up to where addresses end. */
TEST(sparse)
{
	struct kvm_vcpu *vcpu = server_create();
	u64 top = 1UL << min(vm_check_cap(vcpu->vm, KVM_CAP_VM_GPA_BITS), 50);
	u64 gpas[] = { SIZE_1G, 5 * SIZE_1G, top / 2, top - SIZE_4K };
	char *mem = map_advised(SIZE_4K, MADV_NOHUGEPAGE);
	int i;

	for (i = 0; i < ARRAY_SIZE(gpas); i++) {
		vm_set_user_memory_region(vcpu->vm, SLOT + i, 0, gpas[i], SIZE_4K, mem);
		virt_pg_map(vcpu->vm, gva_of(i), gpas[i]);
		guest_store(vcpu, gva_of(i), i);
	}
	look(vcpu->vm);
	for (i = 0; i < ARRAY_SIZE(gpas); i++)
		TEST_ASSERT(run_at(gpas[i]) && run_at(gpas[i])->start == gpas[i] &&
			    run_at(gpas[i])->end == gpas[i] + SIZE_4K, "0x%lx",
			    (unsigned long)gpas[i]);
	kvm_vm_free(vcpu->vm);
	munmap(mem, SIZE_4K);
}

/* Read in crumbs, and from the middle, the text is the same. */
TEST(pieces)
{
	char *mem = map_advised(SIZE, MADV_NOHUGEPAGE), path[128], *whole, *pieces;
	struct kvm_vcpu *vcpu = create(0, mem);
	const size_t room = 1 << 17;
	ssize_t n, size = 0;
	u64 i;
	int fd;

	for (i = 0; i < NPAGES; i += 2)
		guest_store(vcpu, gva_of(i), 1);
	dump_path(vcpu->vm, path);
	whole = calloc(1, room);
	pieces = calloc(1, room);
	fd = open(path, O_RDONLY);
	while ((n = read(fd, whole + size, room - size)) > 0)
		size += n;
	TEST_ASSERT(size > NPAGES / 2 * 40 && size < room, "%ld bytes", (long)size);
	close(fd);

	fd = open(path, O_RDONLY);
	for (i = 0; (n = read(fd, pieces + i, 7 + i % 91)) > 0; i += n)
		;
	TEST_ASSERT(i == size && !memcmp(whole, pieces, size), "in crumbs");
	for (i = 0; i < size; i += 4999) {
		n = pread(fd, pieces, 300, i);
		TEST_ASSERT(n > 0 && !memcmp(whole + i, pieces, n), "from %lu", (unsigned long)i);
	}
	close(fd);
	kvm_vm_free(vcpu->vm);
	munmap(mem, SIZE);
}

/* An open file keeps the VM, not its address space; a directory goes with its VM. */
TEST(outlives_fds)
{
	char *mem = map_advised(SIZE, MADV_NOHUGEPAGE), path[128], line[256];
	struct kvm_vcpu *vcpu = create(0, mem);
	int kmsg = kmsg_open(), i;
	FILE *f, *gone;

	guest_store(vcpu, gva_of(0), 1);
	dump_path(vcpu->vm, path);
	f = fopen(path, "r");
	TEST_ASSERT(f, "%s", path);
	kvm_vm_free(vcpu->vm);
	/* The memory of its other slots is unmapped now. */
	TEST_ASSERT(fgets(line, sizeof(line), f) && line[0] == '#', "no first line");
	for (i = 0; fgets(line, sizeof(line), f); i++)
		TEST_ASSERT_EQ(parse_run(line).start, GPA);
	TEST_ASSERT(i == 1 && !ferror(f), "%d lines", i);
	munmap(mem, SIZE);
	rewind(f);
	TEST_ASSERT(fgets(line, sizeof(line), f) && !fgets(line, sizeof(line), f), "unmapped: %s",
		    line);
	fclose(f);
	gone = fopen(path, "r");
	TEST_ASSERT(!gone, "the VM is gone, its directory is not");
	kmsg_assert_quiet(kmsg);
}

/* Readers while vCPUs fault, the host takes pages away, and VMs end. */
static bool stop_reading, stop_guests;

static void *read_thread(void *vm)
{
	char line[256];
	FILE *f;

	while (!READ_ONCE(stop_reading)) {
		f = dump_open(vm);
		TEST_ASSERT(f && fgets(line, sizeof(line), f), "no dump");
		while (fgets(line, sizeof(line), f))
			parse_run(line);
		fclose(f);
		usleep(1000);
	}
	return NULL;
}

static void guest_wander(u64 me)
{
	u64 x = me + 1;

	while (!READ_ONCE(stop_guests))
		WRITE_ONCE(*(u64 *)(TEST_GVA + xorshift(&x) % NPAGES * SIZE_4K), x);
	GUEST_DONE();
}

TEST(while_it_changes)
{
	int kmsg = kmsg_open(), round, i;
	char *mem = map_advised(SIZE, MADV_HUGEPAGE);
	pthread_t readers[2];
	struct crew crew;
	time_t start;
	u64 x = 7;

	for (round = 0; round < 2; round++) {
		memset(mem, 0, SIZE);
		crew_create(&crew, guest_wander);
		crew_add_slot(&crew, SLOT, 0, GPA, SIZE, mem);
		WRITE_ONCE(stop_reading, false);
		for (i = 0; i < ARRAY_SIZE(readers); i++)
			pthread_create(&readers[i], NULL, read_thread, crew.vm);
		crew_start(&crew, crew_run_to_done);
		start = time(NULL);
		for (i = 0; !enough(i, 12, start, 4); i++) {
			vm_set_user_memory_region(crew.vm, SLOT, i % 2 ? 0 : KVM_MEM_LOG_DIRTY_PAGES,
						  GPA, SIZE, mem);
			madvise(mem + xorshift(&x) % 4 * SIZE_2M,
				xorshift(&x) % 2 ? SIZE_4K : SIZE_2M, MADV_DONTNEED);
			usleep(2000);
		}
		write_guest_global(crew.vm, stop_guests, true);
		crew_join(&crew);
		/* The readers hold the VM, so all that is left is for them to see. */
		WRITE_ONCE(stop_reading, true);
		for (i = 0; i < ARRAY_SIZE(readers); i++)
			pthread_join(readers[i], NULL);
		dump_read(crew.vm, &dump);
		dump_read(crew.vm, &again);
		TEST_ASSERT(dump.nr == again.nr &&
			    !memcmp(dump.runs, again.runs, dump.nr * sizeof(dump.runs[0])),
			    "nothing changes, the dump does");
		assert_stats_are(crew.vm, &dump);
		kvm_vm_free(crew.vm);
	}
	munmap(mem, SIZE);
	kmsg_assert_quiet(kmsg);
}

/* A process whose memory goes while another one has its file open. */
TEST(after_exit)
{
	int kmsg = kmsg_open(), fds[2], n;
	char path[128] = "", line[256];
	pid_t pid;
	FILE *f;

	TEST_ASSERT(!pipe(fds), "pipe");
	pid = fork();
	if (!pid) {
		char *mem = map_advised(SIZE, MADV_NOHUGEPAGE);
		struct kvm_vcpu *vcpu = create(0, mem);

		guest_store(vcpu, gva_of(0), 1);
		dump_path(vcpu->vm, path);
		n = write(fds[1], path, sizeof(path));
		pause();
	}
	TEST_ASSERT(read(fds[0], path, sizeof(path)) == sizeof(path), "no path");
	f = fopen(path, "r");
	TEST_ASSERT(f && fgets(line, sizeof(line), f) && fgets(line, sizeof(line), f), "%s", path);
	parse_run(line);
	kill(pid, SIGKILL);
	waitpid(pid, &n, 0);
	rewind(f);
	TEST_ASSERT(fgets(line, sizeof(line), f) && !fgets(line, sizeof(line), f),
		    "memory of a process that is no more: %s", line);
	fclose(f);
	f = fopen(path, "r");
	TEST_ASSERT(!f, "the VM is gone, its directory is not");
	kmsg_assert_quiet(kmsg);
}

int main(int argc, char *argv[])
{
	int ret;

	require_pgtable_debug();
	fault_around_off();
	ret = test_harness_run(argc, argv);
	fault_around_restore();
	return ret;
}
