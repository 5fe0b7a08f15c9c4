// SPDX-License-Identifier: GPL-2.0
/*
 * What rust/arch/nacl.rs needs of C: the static key that tells whether the SBI
 * has the Nested Acceleration Extension, and the bracket around the world switch
 * by way of it, which is noinstr for the reason that enter.c gives.
 */
#include <linux/jump_label.h>
#include <linux/kvm_host.h>

DEFINE_STATIC_KEY_FALSE(kvm_rs_nacl_key);

void kvm_rs_nacl_use(void);
void kvm_rs_nacl_use(void)
{
	static_branch_enable(&kvm_rs_nacl_key);
}

/* rust/arch/nacl/switch.rs */
void kvm_rs_nacl_switch_to(void *frame);

void kvm_rs_nacl_enter_guest(void *frame);
noinstr void kvm_rs_nacl_enter_guest(void *frame)
{
	guest_state_enter_irqoff();
	kvm_rs_nacl_switch_to(frame);
	guest_state_exit_irqoff();
}
