// SPDX-License-Identifier: GPL-2.0
/*
 * A plugin for QEMU's TCG: how often each instruction was executed between two
 * marks, which the measured program sets (selftests/bench/bench.h). tools/profile
 * compiles and reads it.
 *
 *   -plugin insn_count.so,out=FILE
 *
 * For each pair of marks FILE gets a line "ADDRESS COUNT" for each address, and
 * an empty line.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of qemu-plugin.h, which Debian has no package of: what is used here. */
typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
					   void (*cb)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
					    void (*cb)(unsigned int, void *), int flags, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *dest, size_t len);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);

/* The API of QEMU 9.1 to 10. */
__attribute__((visibility("default"))) int qemu_plugin_version = 4;

/* "slti zero, zero, 1" and 2: they do nothing, and no compiler emits them. */
#define MARK_BEGIN	0x00102013
#define MARK_END	0x00202013

#define SLOTS		(1 << 21)

static struct slot {
	uint64_t address, count;
} slots[SLOTS];
static bool counting;
static char *out;

static struct slot *slot(uint64_t address)
{
	uint64_t i = address * 0x9e3779b97f4a7c15 >> 43;

	while (slots[i].address && slots[i].address != address)
		i = (i + 1) % SLOTS;
	slots[i].address = address;
	return &slots[i];
}

static void begin(unsigned int cpu, void *data)
{
	counting = true;
}

/* All CPUs run in one thread of QEMU when instructions are counted. */
static void end(unsigned int cpu, void *data)
{
	FILE *f;

	if (!counting)
		return;
	counting = false;
	f = fopen(out, "a");
	for (size_t i = 0; f && i < SLOTS; i++) {
		if (slots[i].count)
			fprintf(f, "%lx %lu\n", slots[i].address, slots[i].count);
		slots[i].count = 0;
	}
	if (!f || fputs("\n", f) == EOF || fclose(f))
		perror(out);
}

static void count(unsigned int cpu, void *data)
{
	((struct slot *)data)->count += counting;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		uint64_t address = qemu_plugin_insn_vaddr(insn);
		uint32_t code = 0;

		qemu_plugin_insn_data(insn, &code, sizeof(code));
		if (code == MARK_BEGIN || code == MARK_END)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, code == MARK_BEGIN ? begin : end, 0, NULL);
		else
			qemu_plugin_register_vcpu_insn_exec_cb(insn, count, 0, slot(address));
	}
}

__attribute__((visibility("default")))
int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
	if (argc != 1 || strncmp(argv[0], "out=", 4))
		return -1;
	out = strdup(argv[0] + 4);
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
