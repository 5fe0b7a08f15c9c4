// SPDX-License-Identifier: GPL-2.0
/*
 * The bracket around the world switch. Between the two calls RCU does not
 * watch this CPU, so nothing here may be instrumented: noinstr is C's word
 * for that, and Rust has none.
 */
#include <linux/kvm_host.h>

/* rust/arch/switch.rs */
void kvm_rs_switch_to(void *context);

void kvm_rs_enter_guest(void *context);
noinstr void kvm_rs_enter_guest(void *context)
{
	guest_state_enter_irqoff();
	kvm_rs_switch_to(context);
	guest_state_exit_irqoff();
}
