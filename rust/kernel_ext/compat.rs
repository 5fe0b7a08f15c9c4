// SPDX-License-Identifier: GPL-2.0

//! What the `kernel` crate of Linux 7.3 has and that of 7.2 lacks, or calls otherwise. See
//! `rust/include/kvm_compat.h`, which does the same for C's headers.

use kernel::{
    ffi::c_int,
    prelude::*, //
};

use crate::bindings;

#[cfg(kvm_since_7_3)]
mod since_7_3 {
    pub(crate) use kernel::{
        new_spinlock_irq,
        sync::SpinLockIrq, //
    };

    use crate::bindings;

    /// What the handler of an interrupt returns that was its own.
    pub(crate) const IRQ_HANDLED: bindings::irqreturn_t = bindings::irqreturn::IRQ_HANDLED;
}
#[cfg(kvm_since_7_3)]
pub(crate) use since_7_3::*;

#[cfg(not(kvm_since_7_3))]
mod before_7_3 {
    use kernel::sync::lock::Lock;

    use crate::{
        bindings,
        kernel_ext::raw_spinlock::RawSpinLockBackend, //
    };

    /// A spinlock that is taken with interrupts off, under PREEMPT_RT, too.
    pub(crate) type SpinLockIrq<T> = Lock<T, RawSpinLockBackend>;

    /// Makes a [`SpinLockIrq`] with a lock class of its own.
    macro_rules! new_spinlock_irq {
        ($inner:expr) => {
            ::kernel::sync::lock::Lock::new(
                $inner,
                ::kernel::optional_name!(),
                ::kernel::static_lock_class!(),
            )
        };
    }
    pub(crate) use new_spinlock_irq;

    /// What the handler of an interrupt returns that was its own.
    pub(crate) const IRQ_HANDLED: bindings::irqreturn_t = bindings::irqreturn_IRQ_HANDLED;
}
#[cfg(not(kvm_since_7_3))]
pub(crate) use before_7_3::*;

/// Returns `EHWPOISON`, for which the crate of 7.2 has no constant.
pub(crate) fn ehwpoison() -> Error {
    Error::from_errno(-(bindings::EHWPOISON as c_int))
}

/// Returns `EOPNOTSUPP`, for which the crate of 7.2 has no constant.
pub(crate) fn eopnotsupp() -> Error {
    Error::from_errno(-(bindings::EOPNOTSUPP as c_int))
}
