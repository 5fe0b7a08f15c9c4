// SPDX-License-Identifier: GPL-2.0

//! The G-stage tree of a VM, as text: what is mapped, in leaves of what size, and
//! what the guest may do. Answers to `arch/arm64/kvm/ptdump.c`.
//!
//! The tree may change during a read of the file. Each line was true when it was looked up;
//! between two of them, and within long ones, other CPUs get `mmu_lock`.
//!
//! Locks: `mmu_lock` for reading.

use core::ops::ControlFlow;

use kernel::{
    fmt,
    prelude::*, //
};

use crate::{
    gstage::{
        Age,
        Extent,
        Kind,
        Mode,
        Pbmt,
        Rights, //
    },
    kernel_ext::sched,
    kvm_core::{
        addr::{
            Gfn,
            GfnRange,
            PageSize, //
            PAGE_SHIFT,
        },
        hostmm,
        mmu_lock::{
            is_contended, //
            ReadGuard,
        },
        object::Vm, //
    }, //
};

/// Adjacent leaves that look the same, which are one line. It does not show their host addresses.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    /// What they map.
    pub(crate) frames: GfnRange,
    /// The size of each leaf.
    size: PageSize,
    /// The permissions of guest and host.
    rights: Rights,
    /// Whether the guest has used them since ageing last looked.
    age: Age,
    /// Their memory attributes.
    pbmt: Pbmt,
    /// Whether they map memory or a device.
    kind: Kind,
}

impl Run {
    /// Joins both runs to one; [`None`] unless `next` continues this one with the same properties.
    fn and(self, next: Run) -> Option<Run> {
        let adjoins = self.frames.end() == next.frames.start();
        let looks = |run: Run| (run.size, run.rights, run.age, run.pbmt, run.kind);
        (adjoins && looks(self) == looks(next)).then_some(Run {
            frames: GfnRange::new(self.frames.start(), next.frames.end()),
            ..self
        })
    }
}

impl From<Extent> for Run {
    fn from(extent: Extent) -> Self {
        let Extent {
            frames,
            pfn: _,
            size,
            rights,
            age,
            pbmt,
            kind,
        } = extent;
        Self {
            frames,
            size,
            rights,
            age,
            pbmt,
            kind,
        }
    }
}

/// Returns a number of bytes in the largest unit that it is a multiple of.
fn in_units(bytes: u64) -> (u64, char) {
    let (shift, unit) = match bytes.trailing_zeros() {
        30.. => (30, 'G'),
        20.. => (20, 'M'),
        _ => (10, 'K'),
    };
    (bytes >> shift, unit)
}

/// Guest physical addresses, how many bytes that is, the size of each leaf, the guest's permissions
/// (`rwx`), the accessed and dirty bits (`ad`), whether the host allows writes, and the memory
/// type.
impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (write, host) = match self.rights {
            Rights::HostReadOnly => ('-', "host-ro"),
            Rights::WriteProtected => ('-', "host-rw"),
            Rights::Writable => ('w', "host-rw"),
        };
        let execute = match self.kind {
            Kind::Memory => 'x',
            Kind::Device => '-',
        };
        let accessed = match self.age {
            Age::Young => 'a',
            Age::Old => '-',
        };
        let pbmt = match self.pbmt {
            Pbmt::Pma => "pma",
            Pbmt::Nc => "nc",
            Pbmt::Io => "io",
            Pbmt::Reserved => "?",
        };
        let (total, total_unit) = in_units(self.frames.len() << PAGE_SHIFT);
        let (size, size_unit) = in_units(self.size.bytes());
        let start = self.frames.start().gpa().get();
        let end = self.frames.end().gpa().get();
        write!(
            f,
            "{start:#018x}-{end:#018x} {total}{total_unit} {size}{size_unit} ",
        )?;
        write!(f, "r{write}{execute} {accessed}d {host} {pbmt}")
    }
}

/// A line of the dump.
#[derive(Clone, Copy)]
pub(crate) enum Line {
    /// The first line: the format of the table.
    Head(Mode),
    /// Each other line: a run.
    Run(Run),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Head(mode) => write!(
                f,
                "# {mode:?}: {} levels, {} bits",
                mode.levels(),
                mode.gpa_bits(),
            ),
            Line::Run(run) => run.fmt(f),
        }
    }
}

/// Returns the first line about `vm`.
pub(crate) fn head(vm: &Vm) -> Line {
    Line::Head(vm.memory().mode())
}

/// Returns the first run with `from` or a later frame; [`None`] if nothing is mapped there.
///
/// # Errors
///
/// `EINTR` if a signal is pending, and there is so much to look at that other CPUs had to be let at
/// the lock.
pub(crate) fn next_run(vm: &Vm, from: Gfn) -> Result<Option<Run>> {
    let mut run: Option<Run> = None;
    let mut at = from;
    loop {
        let lock = ReadGuard::lock(vm);
        // Without an address space there is nothing to be mapped, and no tree.
        let Some(tree) = lock.tree() else {
            return Ok(run);
        };
        let mut whole = false;
        let rest = tree.extents(at, |extent| {
            let next = extent.into();
            let joined = match run {
                None => Some(next),
                Some(run) => run.and(next),
            };
            whole = joined.is_none();
            run = joined.or(run);
            if whole || is_contended(vm) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        match rest {
            Some(next) if !whole => at = next,
            _ => return Ok(run),
        }
        drop(lock);
        sched::cond_resched();
        if hostmm::signal_pending() {
            return Err(EINTR);
        }
    }
}
