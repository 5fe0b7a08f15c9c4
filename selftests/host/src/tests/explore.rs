// SPDX-License-Identifier: GPL-2.0

//! How loom explores interleavings.

/// How often one history takes the CPU from a thread that could go on.
///
/// Each more takes about four times as long where three threads race, and loom's authors found that
/// two or three show nearly all faults. `LOOM_MAX_PREEMPTIONS` in the environment overrides it.
const PREEMPTIONS: usize = 4;

/// Runs `test` in all interleavings with at most [`PREEMPTIONS`] preemptions.
pub(super) fn explore(test: impl Fn() + Sync + Send + 'static) {
    explore_with(PREEMPTIONS, test);
}

/// Runs `test` in all interleavings with at most `preemptions`: for threads that do much.
pub(super) fn explore_with(preemptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = model.preemption_bound.or(Some(preemptions));
    // Looking through one table takes 512.
    model.max_branches = 20_000;
    model.check(test);
}
