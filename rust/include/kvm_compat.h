/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What Linux 7.3 has and the kernel that the module is built for may lack. This
 * is the one place that knows of versions; what is here is as Linux 7.3 has it.
 * Included before all other headers. Documentation/building.rst tells how it
 * changes for a new kernel.
 *
 * The name begins with kvm so that bindgen takes what is in it (see Kbuild).
 */
#ifndef _KVM_COMPAT_H
#define _KVM_COMPAT_H

#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 3, 0)

/* <asm/csr.h> */
#define EXC_SOFTWARE_CHECK		18

/* <asm/hwcap.h> had these in small letters, for which it has other macros, too. */
#define RISCV_ISA_EXT_A			('a' - 'a')
#define RISCV_ISA_EXT_C			('c' - 'a')
#define RISCV_ISA_EXT_D			('d' - 'a')
#define RISCV_ISA_EXT_F			('f' - 'a')
#define RISCV_ISA_EXT_H			('h' - 'a')
#define RISCV_ISA_EXT_I			('i' - 'a')
#define RISCV_ISA_EXT_M			('m' - 'a')
#define RISCV_ISA_EXT_V			('v' - 'a')

/* <uapi/asm/kvm.h>: the structure has got members. */
#define kvm_riscv_sbi_fwft		kvm_riscv_sbi_fwft_of_7_2
#include <linux/kvm.h>
#undef kvm_riscv_sbi_fwft

struct kvm_riscv_sbi_fwft {
	struct kvm_riscv_sbi_fwft_feature misaligned_deleg;
	struct kvm_riscv_sbi_fwft_feature pointer_masking;
	struct kvm_riscv_sbi_fwft_feature pte_ad_hw_updating;
	struct kvm_riscv_sbi_fwft_feature landing_pad;
	struct kvm_riscv_sbi_fwft_feature shadow_stack;
};

struct kvm_riscv_zicfiss_csr {
	unsigned long ssp;
};

#define KVM_REG_RISCV_CSR_ZICFISS	(0x3 << KVM_REG_RISCV_SUBTYPE_SHIFT)

/* enum KVM_RISCV_ISA_EXT_ID has got members; also as bindgen calls them. */
enum {
	KVM_RISCV_ISA_EXT_ZICFILP = KVM_RISCV_ISA_EXT_MAX,
	KVM_RISCV_ISA_EXT_ZICFISS,
	KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZICFILP = KVM_RISCV_ISA_EXT_ZICFILP,
	KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZICFISS,
};

#else

/* kvm_riscv_register_vctx_callback(), RISCV_V_VCPU_CTX, RISCV_V_VCPU_NEED_RESTORE */
#ifdef CONFIG_RISCV_ISA_V
#define KVM_RS_VECTOR_CALLBACK
#endif

#endif

#endif
