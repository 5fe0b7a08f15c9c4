// SPDX-License-Identifier: GPL-2.0

//! Protection against speculation past a bounds check, which the kernel crate lacks.

/// Returns `index` if it is below `len`, otherwise 0, without a branch that could be mispredicted.
/// Answers to `array_index_nospec()`.
#[inline(always)]
pub(crate) fn index(index: usize, len: usize) -> usize {
    // All ones if index < len: the subtraction borrows, unless either has its top bit set.
    let mask = !((index | len.wrapping_sub(1).wrapping_sub(index)) as isize >> 63) as usize;
    let mut mask = mask;
    // SAFETY: The template has no instruction at all. The compiler forgets what it knows of
    // `mask`, so it cannot turn the arithmetic back into the branch.
    unsafe { core::arch::asm!("/* {0} */", inout(reg) mask, options(nomem, nostack)) };
    index & mask
}
