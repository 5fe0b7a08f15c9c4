/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What bindgen reads to make bindings_generated.rs: core KVM's types and
 * functions, and constants whose macros bindgen cannot evaluate (rust/bindings.rs).
 */
#include "include/kvm_compat.h"

#include <linux/kvm_host.h>
#include <linux/cpu_pm.h>
#include <linux/mman.h>
#include <linux/mm.h>
#include <linux/perf_event.h>
#include <linux/perf/riscv_pmu.h>
#include <linux/sched/signal.h>
#include <kvm/iodev.h>
#include <clocksource/timer-riscv.h>
#include <asm/cpufeature.h>
#include <asm/csr.h>
#include <asm/hwcap.h>
#include <asm/sbi.h>
#include <asm/vector.h>

#include "include/uapi/asm/kvm_rs.h"

/* Signed: bindgen makes no constant of an unsigned one with the top bit set. */
#define C(name) const long RUST_CONST_HELPER_##name = (long)(name)

C(HGATP_MODE_SV39X4);
C(HGATP_MODE_SV48X4);
C(HGATP_MODE_SV57X4);
C(HGATP_VMID);
C(HGATP_PPN);

C(SR_SIE);
C(SR_SPIE);
C(SR_SPP);
C(SR_SPELP);
C(SR_SUM);
C(SR_UXL);
C(SR_UXL_32);
C(SR_UXL_64);
C(SR_SD);
C(SR_FS);
C(SR_FS_OFF);
C(SR_FS_INITIAL);
C(SR_FS_CLEAN);
C(SR_FS_DIRTY);
C(SR_VS);
C(SR_VS_OFF);
C(SR_VS_INITIAL);
C(SR_VS_CLEAN);
C(SR_VS_DIRTY);

C(SATP_MODE_39);
C(SATP_MODE_48);
C(SATP_MODE_57);

C(HSTATUS_VTW);
C(HSTATUS_SPVP);
C(HSTATUS_SPV);
C(HSTATUS_GVA);
C(HSTATUS_VGEIN);
C(HVICTL_IPRIOM);

C(ENVCFG_STCE);
C(ENVCFG_PBMTE);
C(ENVCFG_ADUE);
C(ENVCFG_PMM);
C(ENVCFG_PMM_PMLEN_7);
C(ENVCFG_PMM_PMLEN_16);
C(ENVCFG_CBZE);
C(ENVCFG_CBCFE);
C(ENVCFG_CBIE);
C(ENVCFG_LPE);
C(ENVCFG_SSE);
C(ENVCFG_FIOM);
C(SMSTATEEN0_AIA_IMSIC);
C(SMSTATEEN0_AIA);
C(SMSTATEEN0_AIA_ISEL);
C(SMSTATEEN0_HSENVCFG);
C(SMSTATEEN0_SSTATEEN0);

C(CAUSE_IRQ_FLAG);

C(SBI_PMU_CFG_FLAG_SKIP_MATCH);
C(SBI_PMU_CFG_FLAG_CLEAR_VALUE);
C(SBI_PMU_CFG_FLAG_AUTO_START);
C(SBI_PMU_CFG_FLAG_SET_VUINH);
C(SBI_PMU_CFG_FLAG_SET_VSINH);
C(SBI_PMU_CFG_FLAG_SET_UINH);
C(SBI_PMU_CFG_FLAG_SET_SINH);
C(SBI_PMU_CFG_FLAG_SET_MINH);
C(SBI_PMU_START_FLAG_SET_INIT_VALUE);
C(SBI_PMU_START_FLAG_INIT_SNAPSHOT);
C(SBI_PMU_STOP_FLAG_RESET);
C(SBI_PMU_STOP_FLAG_TAKE_SNAPSHOT);
C(RISCV_PMU_RAW_EVENT_MASK);
C(RISCV_PMU_RAW_EVENT_V2_MASK);

C(SBI_FWFT_SET_FLAG_LOCK);

C(LINUX_VERSION_CODE);
C(RISCV_ISA_EXT_A);
C(RISCV_ISA_EXT_C);
C(RISCV_ISA_EXT_D);
C(RISCV_ISA_EXT_F);
C(RISCV_ISA_EXT_H);
C(RISCV_ISA_EXT_I);
C(RISCV_ISA_EXT_M);
C(RISCV_ISA_EXT_V);


C(KVM_REQ_TLB_FLUSH);
C(KVM_REQ_VM_DEAD);
C(KVM_REQ_OUTSIDE_GUEST_MODE);
C(KVM_REQ_SLEEP);
C(KVM_REQ_VCPU_RESET);
C(KVM_REQ_FENCE_I);
C(KVM_REQ_HFENCE);
C(KVM_REQ_INTERRUPT_FILE);
C(KVM_REQ_STEAL_UPDATE);

C(KVM_USER_MEM_SLOTS);

C(KVM_SET_ONE_REG);
C(KVM_GET_ONE_REG);
C(KVM_GET_REG_LIST);
C(KVM_INTERRUPT);

C(PAGE_SHIFT);
C(PMD_SHIFT);
C(PUD_SHIFT);
