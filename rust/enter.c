// SPDX-License-Identifier: GPL-2.0
/*
 * The bracket around the world switch: nothing in it may be instrumented,
 * because lockdep believes that interrupts are on, and RCU, where it is told of
 * the guest, does not watch this CPU. noinstr is C's word for that, and Rust has
 * none.
 */
#include <linux/kvm_host.h>

/* rust/arch/switch.rs */
void kvm_rs_switch_to(void *context);

void kvm_rs_enter_guest(void *context);

/*
 * What guest_state_enter_irqoff() and its counterpart do, less the note to RCU
 * where RCU does not track the context: that is due once for the time in which
 * interrupts are off, see rust_helper_kvm_rs_note_guest(), not twice for each
 * entry.
 */
noinstr void kvm_rs_enter_guest(void *context)
{
	if (context_tracking_enabled()) {
		guest_state_enter_irqoff();
		kvm_rs_switch_to(context);
		guest_state_exit_irqoff();
		return;
	}

	instrumentation_begin();
	trace_hardirqs_on_prepare();
	lockdep_hardirqs_on_prepare();
	instrumentation_end();
	lockdep_hardirqs_on(CALLER_ADDR0);

	kvm_rs_switch_to(context);

	lockdep_hardirqs_off(CALLER_ADDR0);
	instrumentation_begin();
	trace_hardirqs_off_finish();
	instrumentation_end();
}
