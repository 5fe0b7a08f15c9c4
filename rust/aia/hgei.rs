// SPDX-License-Identifier: GPL-2.0

//! Guest external interrupts: the interrupt files in hardware of each CPU, their owners, and the
//! interrupt that wakes a waiting vCPU when its file signals. Answers to the second half of
//! `aia.c`.
//!
//! A [`HgeiLine`] is the ownership of one file of one CPU; dropping it gives the file back. The
//! table of a CPU has the vCPU of each file only to wake it, and to have it give the file back
//! before the CPU goes offline (differences-from-c S10).
//!
//! Lock order: [`Host::evacuation`], the vCPUs' own locks, and innermost the table of a CPU, which
//! is taken in any context.

use core::ptr::NonNull;

use kernel::{
    cpu::nr_cpu_ids,
    new_mutex,
    prelude::*,
    sync::Mutex, //
};

use crate::{
    aia::{
        host_imsic::{
            self,
            Page,
            PerCpuInterrupt, //
        },
        imsic::Imsic, //
    },
    arch::{
        aia::{
            self as registers,
            self,
            External,
            GuestFile,
            Signals, //
        },
        cpufeature,
        csr::Direct, //
    },
    bindings,
    kernel_ext::{
        atomic::{
            AtomicBool,
            AtomicU32,
            AtomicU64,
            Ordering, //
        },
        context::PreemptOff,
        module_cell::{
            ModuleCell,
            ModuleCellOwner, //
        },
        raw_spinlock::{
            new_raw_spinlock, //
            RawSpinLock,
        }, //
    },
    kvm_core::object::Vcpu, //
};

/// The host's files. C: `struct aia_hgei_control` of all CPUs.
pub(crate) struct Host {
    /// One more than the highest identity that a guest's interrupt file can have.
    pub(crate) max_ids: u32,
    /// Whether guests can be given counter overflow interrupts.
    overflows: bool,
    /// The number of files of the CPU that has the fewest.
    fewest: AtomicU32,
    /// The guest external interrupt.
    interrupt: PerCpuInterrupt,
    /// The files of each CPU, by its number.
    cpus: KVec<Pin<KBox<Cpu>>>,
    /// A CPU holds this while it takes its files from their vCPUs, and a thread that destroys vCPUs
    /// while it gives theirs back.
    evacuation: Pin<KBox<Mutex<()>>>,
}

/// The files of one CPU.
#[pin_data]
struct Cpu {
    #[pin]
    table: RawSpinLock<Table>,
    /// `table.free` as of the last change, for readers without the lock.
    free: AtomicU64,
    /// `hgeie` of a CPU that is idle without its registers.
    watched: AtomicU64,
    /// Whether the machine sleeps, so that the vCPUs keep the state of their files in memory.
    suspended: AtomicBool,
}

/// Which files of a CPU are free, and which vCPU has each of the rest.
struct Table {
    /// Whether the files have been counted.
    counted: bool,
    free: u64,
    owners: [Option<Owner>; u64::BITS as usize],
}

/// The vCPU that has a file.
///
/// # Invariants
///
/// The vCPU is live as long as it stands in a table: the thread that destroys a VM gives all files
/// back within [`retire`] before it destroys the vCPUs.
#[derive(Clone, Copy)]
struct Owner(NonNull<Vcpu>);

// SAFETY: `Vcpu` is `Sync`, so any thread may use a pointer to a live vCPU.
unsafe impl Send for Owner {}

impl Owner {
    /// Returns the vCPU.
    ///
    /// # Safety
    ///
    /// The caller found `self` in a table, and has held that table's lock since, or has held
    /// [`Host::evacuation`] since before. It keeps it for as long as it uses the result.
    unsafe fn vcpu<'a>(self) -> &'a Vcpu {
        // SAFETY: By the type's invariant the vCPU is live while it stands in a table. The caller
        // holds the table's lock, so it stands there, or evacuation, so the thread that destroys
        // the VM waits in `retire`.
        unsafe { self.0.as_ref() }
    }
}

/// The host's files, while the module is loaded.
static HOST: ModuleCell<Host> = ModuleCell::new();

/// Returns what the host offers; [`None`] if it has no AIA, or before it was asked.
#[inline]
pub(crate) fn host() -> Option<&'static Host> {
    HOST.get()
}

/// Returns how many interrupt files in hardware each CPU has for vCPUs, at least.
pub(crate) fn guest_files() -> u32 {
    host().map_or(0, |host| host.fewest.load(Ordering::Relaxed))
}

/// The host's AIA, in use.
pub(crate) struct Interrupts {
    _host: ModuleCellOwner<Host>,
}

impl Interrupts {
    /// Asks the host, and requests the interrupt of its files; [`None`] without AIA.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; those of the interrupt; `EEXIST` if called twice.
    pub(crate) fn register() -> Result<Option<Self>> {
        // The identities of the largest file that the specification allows, for a host with AIA
        // whose IMSIC driver is not there.
        const IDENTITIES: u32 = 2047;

        if !cpufeature::host_has(bindings::RISCV_ISA_EXT_SSAIA) {
            return Ok(None);
        }
        let common = host_imsic::common();
        let mut cpus = KVec::new();
        for _ in 0..nr_cpu_ids() {
            cpus.push(KBox::pin_init(Cpu::new(), GFP_KERNEL)?, GFP_KERNEL)?;
        }
        let evacuation = KBox::pin_init(new_mutex!(()), GFP_KERNEL)?;
        let host = Host {
            max_ids: 1 + common
                .as_ref()
                .map_or(IDENTITIES, |common| common.identities),
            overflows: cpufeature::host_has(bindings::RISCV_ISA_EXT_SSCOFPMF),
            fewest: AtomicU32::new(common.map_or(0, |common| common.guest_files)),
            interrupt: PerCpuInterrupt::guest_external()?,
            cpus,
            evacuation,
        };
        // SAFETY: The owner is dropped when core KVM is gone, and core KVM has had every CPU
        // disable the interrupt. The idle notifier still runs then, but reads `HOST` only on a CPU
        // that is in use, and none is.
        let host = unsafe { HOST.own(host) }?;
        aia::set_available(true);
        Ok(Some(Self { _host: host }))
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        aia::set_available(false);
    }
}

impl Cpu {
    /// Returns the files of a CPU that has not been asked yet.
    fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            table <- new_raw_spinlock!(
                Table {
                    counted: false,
                    free: 0,
                    owners: [None; u64::BITS as usize],
                },
                "kvm_riscv::guest_files"
            ),
            free: AtomicU64::new(0),
            watched: AtomicU64::new(0),
            suspended: AtomicBool::new(false),
        })
    }

    /// Runs `change` on the table, under its lock.
    fn with_table<R>(&self, change: impl FnOnce(&mut Table) -> R) -> R {
        self.table.with(|table| {
            let result = change(table);
            self.free.store(table.free, Ordering::Relaxed);
            result
        })
    }
}

impl Host {
    /// Returns the files of `cpu`.
    fn cpu(&self, cpu: usize) -> Option<&Cpu> {
        self.cpus.get(cpu).map(|cpu| &**cpu)
    }
}

/// The ownership of one file in hardware.
pub(crate) struct HgeiLine {
    /// The CPU that the file belongs to.
    cpu: usize,
    /// The number of the file on that CPU.
    file: GuestFile,
    /// The page that messages to the file go to.
    page: Page,
}

impl HgeiLine {
    /// Takes a file of `cpu` for `vcpu`, if there is a free one. It holds whatever it held.
    ///
    /// Only the vCPU's [`Imsic`] calls this, since it gives the file back before the vCPU goes.
    pub(super) fn new(cpu: usize, vcpu: &Vcpu) -> Option<Self> {
        let cell = host()?.cpu(cpu)?;
        let file = cell.with_table(|table| {
            let file = GuestFile::new(table.free.trailing_zeros())?;
            // INVARIANT: The vCPU's `Imsic` keeps the claim, and gives the file back within
            // `retire`, before the vCPU is destroyed.
            *table.owners.get_mut(file.number() as usize)? = Some(Owner(NonNull::from(vcpu)));
            table.free &= !(file.bit() as u64);
            Some(file)
        })?;
        match Page::of(cpu, file) {
            Some(page) => Some(Self { cpu, file, page }),
            None => {
                free_line(cpu, file);
                None
            }
        }
    }

    /// Returns the CPU that the file belongs to.
    pub(crate) fn cpu(&self) -> usize {
        self.cpu
    }

    /// Returns the file's number on that CPU.
    pub(crate) fn file(&self) -> GuestFile {
        self.file
    }

    /// Returns where messages to it go.
    pub(crate) fn page(&self) -> Page {
        self.page
    }
}

impl Drop for HgeiLine {
    fn drop(&mut self) {
        free_line(self.cpu, self.file);
    }
}

/// Marks `file` of `cpu` as free.
fn free_line(cpu: usize, file: GuestFile) {
    let Some(cell) = host().and_then(|host| host.cpu(cpu)) else {
        return;
    };
    cell.with_table(|table| {
        table.free |= file.bit() as u64;
        if let Some(owner) = table.owners.get_mut(file.number() as usize) {
            *owner = None;
        }
    });
}

/// Returns whether `cpu` has a file to give. The answer may be out of date when it comes.
pub(crate) fn has_free(cpu: usize) -> bool {
    host()
        .and_then(|host| host.cpu(cpu))
        .is_some_and(|cpu| cpu.free.load(Ordering::Relaxed) != 0)
}

/// Handles the signals of the files that are watched: wakes the vCPUs that wait for them.
/// Interrupts are disabled.
pub(crate) fn interrupt() {
    let here = PreemptOff::new();
    let mut due = registers::take_signals();
    let Some(cell) = host().and_then(|host| host.cpu(here.cpu())) else {
        return;
    };
    cell.table.with(|table| {
        while due != 0 {
            let owner = table.owners.get(due.trailing_zeros() as usize);
            if let Some(Some(owner)) = owner {
                // SAFETY: `owner` stands in `table`, which is locked until after the call.
                unsafe { owner.vcpu() }.kick();
            }
            due &= due - 1;
        }
    });
}

/// Runs `f` while no CPU takes files from vCPUs: afterwards, a vCPU that gave back what it had can
/// be destroyed. Sleeps.
pub(crate) fn retire<R>(f: impl FnOnce() -> R) -> R {
    let _evacuation = host().map(|host| host.evacuation.lock());
    f()
}

/// Enables the interrupt when this CPU comes into use. Counts the CPU's files the first time, and
/// gives them their state back after a suspend.
pub(crate) fn enable_cpu(cpu: usize) {
    let Some(host) = host() else { return };
    let Some(cell) = host.cpu(cpu) else { return };
    let files = registers::count_lines().min(host_imsic::files_of(cpu));
    host.fewest.fetch_min(files, Ordering::Relaxed);
    cell.with_table(|table| {
        if !table.counted {
            table.counted = true;
            // Bits 1 to `files` are set.
            table.free = (u64::MAX >> (u64::BITS - 1 - files.min(u64::BITS - 1))) & !1;
        }
    });
    write_defaults(host);
    if cell.suspended.swap(false, Ordering::Relaxed) {
        for_each_file(cell, Imsic::resume);
    }
    host.interrupt.enable();
    registers::set_signals(Signals::On);
}

/// Sets the interrupt registers of this CPU to their values while no vCPU is loaded.
fn write_defaults(host: &Host) {
    External::QUIET.load(&Direct);
    registers::clear_priorities();
    if host.overflows {
        registers::filter_overflows(Signals::On);
    }
}

/// Disables the interrupt when this CPU goes out of use. Moves its files to software, or saves
/// their state if the machine is suspended.
pub(crate) fn disable_cpu(cpu: usize) {
    let Some(host) = host() else { return };
    clear(host);
    registers::set_signals(Signals::Off);
    host.interrupt.disable();
    if host_imsic::interrupts_are_on() {
        release_cpu(host, cpu);
    } else if host_imsic::is_suspending() {
        // The files belong to this CPU, which may lose power, so vCPUs keep their state in memory.
        if let Some(cell) = host.cpu(cpu) {
            cell.suspended.store(true, Ordering::Relaxed);
            for_each_file(cell, Imsic::suspend);
        }
    }
    // Otherwise the machine is being shut down, and no vCPU runs any more.
}

/// Has `f` save or restore each file of this CPU, the only one that is online. Interrupts are off.
fn for_each_file(cell: &Cpu, f: fn(&Imsic, &PreemptOff)) {
    let here = PreemptOff::new();
    cell.table.with(|table| {
        for owner in table.owners.iter().flatten() {
            // SAFETY: `owner` stands in `table`, which is locked until after the call.
            if let Some(imsic) = unsafe { owner.vcpu() }.imsic() {
                f(imsic, &here);
            }
        }
    });
}

/// Takes overflow interrupts of guests back (`hvien`), and leaves no external one pending
/// (`hvictl`).
fn clear(host: &Host) {
    if host.overflows {
        registers::filter_overflows(Signals::Off);
    }
    External::QUIET.load(&Direct);
}

/// Moves the files of `cpu`, this CPU, to software. None of their vCPUs runs here any more.
fn release_cpu(host: &Host, cpu: usize) {
    let _evacuation = host.evacuation.lock();
    let Some(cell) = host.cpu(cpu) else { return };
    for number in 0..u64::BITS as usize {
        let owner = cell
            .table
            .with(|table| table.owners.get(number).copied().flatten());
        if let Some(owner) = owner {
            // SAFETY: This thread has held evacuation since before it found `owner` in the table,
            // so the thread that destroys the VM waits in `retire`.
            let vcpu = unsafe { owner.vcpu() };
            if let Some(imsic) = vcpu.imsic() {
                imsic.release_cpu(vcpu, cpu);
            }
        }
    }
    registers::watch_only(0);
}

/// Notes which files this CPU watches (`hgeie`), as it is about to lose its registers in idle.
/// Interrupts are off.
pub(crate) fn idle_enter(cpu: usize) {
    let Some(host) = host() else { return };
    clear(host);
    if let Some(cell) = host.cpu(cpu) {
        let watched = registers::watched() as u64;
        cell.watched.store(watched, Ordering::Relaxed);
    }
}

/// Restores the interrupt registers of this CPU, which it has lost in idle. Interrupts are off.
pub(crate) fn idle_exit(cpu: usize) {
    let Some(host) = host() else { return };
    if let Some(cell) = host.cpu(cpu) {
        registers::watch_only(cell.watched.load(Ordering::Relaxed) as usize);
    }
    write_defaults(host);
    registers::set_signals(Signals::On);
}
