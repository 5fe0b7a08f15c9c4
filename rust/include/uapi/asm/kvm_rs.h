/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * What kvm-riscv-rs offers to userspace beyond <linux/kvm.h> of Linux 7.3.
 *
 * KVM_CAP_RISCV_SET_HGATP_MODE chooses the G-stage page-table format of a VM.
 *
 * KVM_CHECK_EXTENSION, on /dev/kvm and on a VM, returns the formats that the
 * host has, as a bitmask of the bits below. KVM_ENABLE_CAP on a VM, with the
 * encoding of hgatp.MODE (8, 9, 10) in args[0] and flags 0, selects one:
 *
 *   -EINVAL  flags are set, or the host lacks the format
 *   -EBUSY   the VM has a vCPU or a memory slot
 *
 * It may be repeated until then. The default is the widest format. The number
 * is the one under which the capability was first proposed; Linux later gave
 * 247 to a capability of s390 and merged the function as KVM_CAP_VM_GPA_BITS,
 * which works here, too, on the same state.
 */
#ifndef _UAPI_ASM_RISCV_KVM_RS_H
#define _UAPI_ASM_RISCV_KVM_RS_H

#define KVM_CAP_RISCV_SET_HGATP_MODE	247

#define KVM_RISCV_HGATP_MODE_SV39X4_BIT	0
#define KVM_RISCV_HGATP_MODE_SV48X4_BIT	1
#define KVM_RISCV_HGATP_MODE_SV57X4_BIT	2

#endif
