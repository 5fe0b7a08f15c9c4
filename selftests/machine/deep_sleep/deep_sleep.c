// SPDX-License-Identifier: GPL-2.0
/*
 * A machine that can be suspended to RAM, for test_power.py: QEMU's has no firmware
 * for that. It wakes up at once. On the CPU that sleeps last, the interrupt files
 * of guests are as after power-on, which QEMU alone would keep.
 */
#include <linux/cpu.h>
#include <linux/irqchip/riscv-imsic.h>
#include <linux/module.h>
#include <linux/suspend.h>

#include <asm/csr.h>

#define EIDELIVERY	0x70
#define EITHRESHOLD	0x72
#define EIP(word)	(0x80 + 2 * (word))
#define EIE(word)	(0xc0 + 2 * (word))

static void write_file(unsigned long select, unsigned long value)
{
	csr_write(CSR_VSISELECT, select);
	csr_write(CSR_VSIREG, value);
}

static void lose_guest_files(void)
{
	const struct imsic_global_config *config = imsic_get_global_config();
	unsigned long hstatus = csr_read(CSR_HSTATUS), file, word;

	if (!config)
		return;
	for (file = 1; file <= this_cpu_ptr(config->local)->nr_guest_files; file++) {
		csr_write(CSR_HSTATUS, (hstatus & ~HSTATUS_VGEIN) | file << HSTATUS_VGEIN_SHIFT);
		write_file(EIDELIVERY, 0);
		write_file(EITHRESHOLD, 0);
		for (word = 0; word <= config->nr_guest_ids / 64; word++) {
			write_file(EIP(word), 0);
			write_file(EIE(word), 0);
		}
	}
	csr_write(CSR_HSTATUS, hstatus);
	pr_info("deep_sleep: CPU %u lost its guests' interrupt files\n", smp_processor_id());
}

static int enter(suspend_state_t state)
{
	lose_guest_files();
	return 0;
}

static const struct platform_suspend_ops ops = {
	.valid = suspend_valid_only_mem,
	.enter = enter,
};

static int __init deep_sleep_init(void)
{
	suspend_set_ops(&ops);
	return 0;
}
module_init(deep_sleep_init);

static void __exit deep_sleep_exit(void)
{
	suspend_set_ops(NULL);
}
module_exit(deep_sleep_exit);

MODULE_DESCRIPTION("Suspend to RAM of a machine that wakes up at once");
MODULE_LICENSE("GPL");
