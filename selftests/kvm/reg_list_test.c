// SPDX-License-Identifier: GPL-2.0
/* on-c: pass */
/* covers: vcpu/onereg.rs vcpu/onereg/table.rs */
/*
 * What a new vCPU has: its registers, printed with their values, so that two
 * modules can be compared (test_upstream.py does). What the list itself must be
 * like is in onereg_test.
 */
#include "kvm_rs_util.h"

#define MAX_SIZE	8192

/* The machine's clock is no property of the vCPU. */
static bool is_time(u64 id)
{
	return (id & KVM_REG_RISCV_TYPE_MASK) == KVM_REG_RISCV_TIMER;
}

TEST(new_vcpu)
{
	struct kvm_vm *vm = vm_create_barebones();
	struct kvm_vcpu *vcpu = __vm_vcpu_add(vm, 0);
	struct kvm_reg_list *list = vcpu_get_reg_list(vcpu);
	static u8 bytes[MAX_SIZE];
	u64 i, j;

	for (i = 0; i < list->n; i++) {
		u64 id = list->reg[i], size = KVM_REG_SIZE(id);

		TEST_ASSERT(size <= sizeof(bytes), "0x%lx has %lu bytes", (unsigned long)id,
			    (unsigned long)size);
		TEST_ASSERT(!__vcpu_get_reg(vcpu, id, bytes), "get 0x%lx: %s", (unsigned long)id,
			    strerror(errno));
		printf("# reg 0x%lx =", (unsigned long)id);
		for (j = 0; j < size && !is_time(id); j++)
			printf(" %02x", bytes[j]);
		printf("\n");
	}
	free(list);
	kvm_vm_free(vm);
}

int main(int argc, char *argv[])
{
	close(open_kvm_dev_path_or_exit());
	return test_harness_run(argc, argv);
}
