/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What core KVM needs to know of the RISC-V arch layer: some limits, the
 * request numbers, the statistics, and one opaque pointer each in a VM and a
 * vCPU. Everything else about arch state is rust/'s own business.
 *
 * Found before the kernel tree's header of the same name (see Kbuild).
 */
#ifndef __RISCV_KVM_HOST_H__
#define __RISCV_KVM_HOST_H__

#include <linux/types.h>
#include <linux/kvm.h>
#include <linux/kvm_types.h>

#define KVM_MAX_VCPUS			1024
#define KVM_HALT_POLL_NS_DEFAULT	500000
#define KVM_VCPU_MAX_FEATURES		0
#define KVM_IRQCHIP_NUM_PINS		1024

#define KVM_HAVE_MMU_RWLOCK
#define __KVM_HAVE_ARCH_FLUSH_REMOTE_TLBS_RANGE

#define KVM_DIRTY_LOG_MANUAL_CAPS \
	(KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET)

/* vCPU requests; rust/vcpu/request.rs says what each asks for. */
#define KVM_RS_REQ(nr)			(KVM_REQUEST_ARCH_BASE + (nr))
#define KVM_RS_REQ_WAIT(nr) \
	(KVM_RS_REQ(nr) | KVM_REQUEST_WAIT | KVM_REQUEST_NO_WAKEUP)
#define KVM_REQ_SLEEP			KVM_RS_REQ_WAIT(0)
#define KVM_REQ_VCPU_RESET		KVM_RS_REQ(1)
#define KVM_REQ_FENCE_I			KVM_RS_REQ_WAIT(2)
#define KVM_REQ_HFENCE			KVM_RS_REQ_WAIT(3)
#define KVM_REQ_INTERRUPT_FILE		KVM_RS_REQ(4)
#define KVM_REQ_STEAL_UPDATE		KVM_RS_REQ(5)

/* Names and order are userspace ABI: rust/kvm_core/stats.rs describes them. */
struct kvm_vm_stat {
	struct kvm_vm_stat_generic generic;
	/* What the G-stage tree consists of now. */
	u64 pages_4k;
	u64 pages_64k;
	u64 pages_2m;
	u64 pages_1g;
	u64 gstage_tables;
};

struct kvm_vcpu_stat {
	struct kvm_vcpu_stat_generic generic;
	u64 ecall_exit_stat;
	u64 wfi_exit_stat;
	u64 wrs_exit_stat;
	u64 mmio_exit_user;
	u64 mmio_exit_kernel;
	u64 csr_exit_user;
	u64 csr_exit_kernel;
	u64 signal_exits;
	u64 exits;
	u64 instr_illegal_exits;
	u64 load_misaligned_exits;
	u64 store_misaligned_exits;
	u64 load_access_exits;
	u64 store_access_exits;
	/* Up to here the C module's, in its order; what follows is ours. */
	u64 pf_fixed;
	u64 pf_fast;
	u64 pf_spurious;
	u64 pf_retry;
	u64 pf_around;
	u64 pf_fence_i;
};

struct kvm_arch_memory_slot {
};

/* A `KBox<VmState>` and a `KBox<VcpuState>`, see rust/vm.rs and rust/vcpu.rs. */
struct kvm_arch {
	void *rust;
};

struct kvm_vcpu_arch {
	void *rust;
};

/* Any perf interrupt while a vCPU is loaded counts as taken in the guest. */
static inline bool kvm_arch_pmi_in_guest(struct kvm_vcpu *vcpu)
{
	return IS_ENABLED(CONFIG_GUEST_PERF_EVENTS) && !!vcpu;
}

static inline void kvm_arch_vcpu_blocking(struct kvm_vcpu *vcpu) {}
static inline void kvm_arch_vcpu_unblocking(struct kvm_vcpu *vcpu) {}

#endif /* __RISCV_KVM_HOST_H__ */
