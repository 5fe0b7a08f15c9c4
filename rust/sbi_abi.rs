// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! What the SBI specification and KVM's registers for it say, as types: calls decoded from
//! registers, results, and the state of extensions that registers show.

pub(crate) mod fwft;
pub(crate) mod message;
pub(crate) mod sta;
pub(crate) mod table;
