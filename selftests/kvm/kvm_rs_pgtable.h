/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests share that look at the G-stage page table of a VM: the dump in
 * debugfs, the statistics, and what the host says it spends on tables.
 */
#ifndef SELFTEST_KVM_RS_PGTABLE_H
#define SELFTEST_KVM_RS_PGTABLE_H

#include "kvm_rs_mem.h"

/* A line of gstage_page_tables. */
struct run {
	u64 start, end;		/* guest physical */
	u64 leaf;		/* bytes that one leaf maps */
	bool w, x, a, d;
	bool host_w;
	char type[8];
};

#define MAX_RUNS	4096

struct dump {
	int levels, bits;
	int nr;
	struct run runs[MAX_RUNS];
};

static __maybe_unused void dump_path(struct kvm_vm *vm, char path[128])
{
	snprintf(path, 128, "/sys/kernel/debug/kvm/%d-%d/gstage_page_tables", getpid(), vm->fd);
}

static __maybe_unused FILE *dump_open(struct kvm_vm *vm)
{
	char path[128];

	dump_path(vm, path);
	return fopen(path, "r");
}

/* @line as gstage_page_tables has it; what it says must be possible. */
static __maybe_unused struct run parse_run(const char *line)
{
	char total[16], leaf[16], rwx[8], ad[8], host[16];
	unsigned long start, end;
	struct run run = {};
	int n;

	n = sscanf(line, "0x%lx-0x%lx %15s %15s %7s %7s %15s %7s", &start, &end, total, leaf, rwx,
		   ad, host, run.type);
	TEST_ASSERT(n == 8, "line '%s' has %d fields", line, n);
	run.start = start;
	run.end = end;
	run.leaf = parse_size(leaf);
	TEST_ASSERT(start < end, "line '%s'", line);
	TEST_ASSERT(parse_size(total) == end - start, "line '%s'", line);
	TEST_ASSERT(strlen(rwx) == 3 && rwx[0] == 'r' && strchr("w-", rwx[1]) &&
		    strchr("x-", rwx[2]), "line '%s'", line);
	TEST_ASSERT(strlen(ad) == 2 && strchr("a-", ad[0]) && strchr("d-", ad[1]), "line '%s'", line);
	TEST_ASSERT(!strcmp(host, "host-rw") || !strcmp(host, "host-ro"), "line '%s'", line);
	run.w = rwx[1] == 'w';
	run.x = rwx[2] == 'x';
	run.a = ad[0] == 'a';
	run.d = ad[1] == 'd';
	run.host_w = !strcmp(host, "host-rw");
	TEST_ASSERT(!run.w || run.host_w, "the guest may write what the host may not: '%s'", line);
	return run;
}

/* The dump of a tree that nobody changes meanwhile. */
static __maybe_unused void dump_read(struct kvm_vm *vm, struct dump *dump)
{
	FILE *f = dump_open(vm);
	char line[256];

	TEST_ASSERT(f, "no gstage_page_tables: %s", strerror(errno));
	TEST_ASSERT(fgets(line, sizeof(line), f) &&
		    sscanf(line, "# %*[^:]: %d levels, %d bits", &dump->levels, &dump->bits) == 2,
		    "the first line is '%s'", line);
	for (dump->nr = 0; fgets(line, sizeof(line), f); dump->nr++) {
		struct run *run = &dump->runs[dump->nr];

		TEST_ASSERT(dump->nr < MAX_RUNS, "more than %d lines", MAX_RUNS);
		*run = parse_run(line);
		TEST_ASSERT(run->start % run->leaf == 0 && run->end % run->leaf == 0,
			    "parts of leaves: '%s'", line);
		TEST_ASSERT(!dump->nr || run->start >= run[-1].end, "not in order: '%s'", line);
	}
	TEST_ASSERT(!ferror(f), "gstage_page_tables: %s", strerror(errno));
	fclose(f);
}

/* How many bytes of [@gpa, @gpa + @size) are mapped by leaves of @leaf bytes; 0 means any. */
static __maybe_unused u64 dump_bytes(const struct dump *dump, u64 gpa, u64 size, u64 leaf)
{
	u64 sum = 0;
	int i;

	for (i = 0; i < dump->nr; i++) {
		const struct run *run = &dump->runs[i];
		u64 start = max(run->start, gpa), end = min(run->end, gpa + size);

		if (start < end && (!leaf || run->leaf == leaf))
			sum += end - start;
	}
	return sum;
}

/* How many of them the guest may write. */
static __maybe_unused u64 dump_writable(const struct dump *dump, u64 gpa, u64 size)
{
	struct dump *only = malloc(sizeof(*only));
	u64 sum;
	int i;

	for (only->nr = i = 0; i < dump->nr; i++)
		if (dump->runs[i].w)
			only->runs[only->nr++] = dump->runs[i];
	sum = dump_bytes(only, gpa, size, 0);
	free(only);
	return sum;
}

static __maybe_unused void dump_print(const struct dump *dump)
{
	int i;

	for (i = 0; i < dump->nr; i++) {
		const struct run *run = &dump->runs[i];

		pr_info("# 0x%lx-0x%lx leaf 0x%lx %s%s%s%s %s %s\n", (unsigned long)run->start,
			(unsigned long)run->end, (unsigned long)run->leaf, run->w ? "w" : "-",
			run->x ? "x" : "-", run->a ? "a" : "-", run->d ? "d" : "-",
			run->host_w ? "host-rw" : "host-ro", run->type);
	}
}

/* The statistics say what the dump says; nobody changes the tree meanwhile. */
static __maybe_unused void assert_stats_are(struct kvm_vm *vm, const struct dump *dump)
{
	u64 all = ~0UL >> 1;

	TEST_ASSERT_EQ(vm_get_stat(vm, pages_4k), dump_bytes(dump, 0, all, SIZE_4K) / SIZE_4K);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_64k), dump_bytes(dump, 0, all, SIZE_64K) / SIZE_64K);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), dump_bytes(dump, 0, all, SIZE_2M) / SIZE_2M);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_1g), dump_bytes(dump, 0, all, SIZE_1G) / SIZE_1G);
}

static __maybe_unused bool vm_has_stat(struct kvm_vm *vm, const char *name)
{
	struct kvm_stats_desc *descs;
	struct kvm_stats_header header;
	bool found = false;
	int i;

	read_stats_header(vm->stats.fd, &header);
	descs = read_stats_descriptors(vm->stats.fd, &header);
	for (i = 0; i < header.num_desc; i++)
		found |= !strcmp(get_stats_descriptor(descs, i, &header)->name, name);
	free(descs);
	return found;
}

/* The C module has neither the dump nor the statistics. */
static __maybe_unused void require_pgtable_debug(void)
{
	struct kvm_vm *vm = vm_create_barebones();
	bool stats = vm_has_stat(vm, "pages_2m");
	FILE *f = dump_open(vm);

	if (f)
		fclose(f);
	kvm_vm_free(vm);
	__TEST_REQUIRE(stats, "the module does not count pages by size");
	__TEST_REQUIRE(f, "no gstage_page_tables: no debugfs?");
}

/* Faults of a vCPU that needed more than the tree. */
static __maybe_unused u64 vcpu_faults(struct kvm_vcpu *vcpu)
{
	return vcpu_get_stat(vcpu, pf_fixed) + vcpu_get_stat(vcpu, pf_retry);
}

/* Whether @n rounds, or after the fourth @seconds, are over: debug kernels are slow. */
static __maybe_unused bool enough(int round, int n, time_t since, int seconds)
{
	return round >= n || (round > 4 && time(NULL) - since > seconds);
}

/* A line of /proc/meminfo, in KiB, exact: what CPUs have not reported yet is collected first. */
static __maybe_unused long meminfo(const char *name)
{
	char line[256];
	long kib = -1;
	FILE *f;

	knob_set("/proc/sys/vm/stat_refresh", "1");
	f = fopen("/proc/meminfo", "r");
	TEST_ASSERT(f, "no /proc/meminfo");
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':')
			kib = atol(line + strlen(name) + 1);
	fclose(f);
	TEST_ASSERT(kib >= 0, "/proc/meminfo has no %s", name);
	return kib;
}

#endif /* SELFTEST_KVM_RS_PGTABLE_H */
