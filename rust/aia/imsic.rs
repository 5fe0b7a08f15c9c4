// SPDX-License-Identifier: GPL-2.0

//! The IMSIC of a vCPU: its interrupt file, in software or in hardware. Answers to `aia_imsic.c`.
//!
//! - [`file`](mod@file): the file in software; pure.
//! - [`hw`]: a file in hardware, which belongs to a CPU and moves with the vCPU to another.
//! - [`csr`]: the guest's accesses to registers that the hardware does not serve.
//! - [`iprio`]: priorities of major interrupts; pure.
//!
//! A message is delivered to the file where it is, under the [`Imsic::place`] lock. The file moves
//! when its vCPU is loaded on another CPU ([`update`]), when a hart is reset, and when a CPU goes
//! offline; [`Imsic::moving`] makes these one at a time (differences-from-c S10). A move first
//! redirects all senders, and waits until no CPU, guest or device sends to the old place any more;
//! then it moves the identities that have arrived there.
//!
//! Lock order: [`hgei`]'s evacuation, `vcpu->mutex`, [`Imsic::moving`], `mmu_lock`;
//! [`Imsic::place`], then the table of a CPU, both in any context. The last two are raw spinlocks,
//! while the rest sleeps under `PREEMPT_RT`: so preemption is off only where a CPU's registers are
//! used.

use core::mem;

use kernel::{
    new_mutex,
    prelude::*,
    sync::Mutex, //
};

use crate::{
    aia::{
        hgei,
        imsic::{
            file::{
                File,
                Identities,
                Line,
                Register,
                Signal, //
            },
            hw::{
                VsFile,
                VsFileLocation, //
            }, //
        },
        msi::Delivery,
        params::Mode, //
    },
    arch::aia::{
        External,
        GuestFile, //
    },
    bindings,
    kernel_ext::{
        atomic::{
            AtomicU64,
            Ordering, //
        },
        context::PreemptOff,
        raw_spinlock::{
            new_raw_spinlock, //
            RawSpinLock,
        }, //
    },
    kvm_core::{
        addr::Gpa,
        object::Vcpu, //
    },
    mmu::ioremap,
    vcpu::{
        irq::{
            Interrupt,
            Irqs, //
        },
        request::Request,
        token::{
            Loaded,
            OwnedVcpu,
            Pinned, //
        }, //
        ExitAction,
    }, //
};

pub(crate) mod csr;
pub(crate) mod file;
mod hw;
pub(crate) mod iprio;

/// The file that messages go to. C: `struct imsic_mrif`, or a VS-file.
enum ImsicBackend {
    Software,
    Hardware(VsFile),
}

/// [`ImsicBackend`] without its ownership, packed into one word so that readers need no lock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FileLocation {
    Software,
    Hardware(VsFileLocation),
}

impl FileLocation {
    /// Packs the location into a word: file number in bits 0 to 5, 0 for software, and the CPU
    /// above.
    const fn pack(self) -> u64 {
        match self {
            Self::Software => 0,
            Self::Hardware(at) => (at.cpu as u64) << 6 | at.file.number() as u64,
        }
    }

    /// Unpacks what [`pack`](Self::pack) made.
    const fn unpack(home: u64) -> Self {
        match GuestFile::new((home & 0x3f) as u32) {
            None => Self::Software,
            Some(file) => Self::Hardware(VsFileLocation {
                cpu: (home >> 6) as usize,
                file,
            }),
        }
    }

    /// Returns the file in hardware, if it is one.
    const fn file(self) -> Option<GuestFile> {
        match self {
            Self::Software => None,
            Self::Hardware(at) => Some(at.file),
        }
    }
}

/// The interrupt file of one vCPU.
#[pin_data]
pub(crate) struct Imsic {
    /// Whether the file may or must be in hardware.
    mode: Mode,
    /// The file in software, used while `place` is [`ImsicBackend::Software`]. Otherwise it is
    /// clear, but for the state of a file that is being moved, or whose CPU sleeps with the
    /// machine.
    file: File,
    /// Held while the file moves, and while userspace accesses its registers. May sleep.
    #[pin]
    moving: Mutex<()>,
    /// Where messages go. Taken in any context.
    #[pin]
    place: RawSpinLock<ImsicBackend>,
    /// The [`FileLocation`] of `place`, written together with it.
    home: AtomicU64,
    /// The [`FileLocation`] that the vCPU's `hstatus` names; only the vCPU's owner accesses it.
    attached: AtomicU64,
}

/// The move that a vCPU's file needs before the vCPU enters the guest.
enum Move {
    /// The file stays where it is.
    Stay,
    /// The file goes to software.
    ToSoftware,
    /// The file goes to this one, of the CPU that the vCPU is on.
    To(VsFile),
    /// The file is to go to this CPU, which has no free one.
    NoFile(usize),
}

/// Why a vCPU cannot enter the guest.
enum Unsettled {
    /// This CPU has no free file, and the guest must have one in hardware.
    NoFile(usize),
    /// The file's page cannot be mapped.
    NotMapped,
}

impl Imsic {
    /// Makes a file with `ids` identities, in software until the vCPU runs.
    ///
    /// # Errors
    ///
    /// `EINVAL` if a file cannot have so many.
    pub(crate) fn new(ids: u32, mode: Mode) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            mode,
            file: File::new(Identities::new(ids).ok_or(EINVAL)?),
            moving <- new_mutex!((), "kvm_riscv::imsic_moving"),
            place <- new_raw_spinlock!(ImsicBackend::Software, "kvm_riscv::imsic"),
            home: AtomicU64::new(FileLocation::Software.pack()),
            attached: AtomicU64::new(FileLocation::Software.pack()),
        })
    }

    /// Reads where the file is; it may have moved by the time that the caller looks.
    fn home(&self) -> FileLocation {
        FileLocation::unpack(self.home.load(Ordering::Relaxed))
    }

    /// Redirects messages to `new`. Returns where they went before; only guests and devices may
    /// still send there.
    fn redirect(&self, new: ImsicBackend) -> ImsicBackend {
        let home = match &new {
            ImsicBackend::Software => FileLocation::Software,
            ImsicBackend::Hardware(file) => FileLocation::Hardware(file.location()),
        };
        self.place.with(|place| {
            self.home.store(home.pack(), Ordering::Relaxed);
            mem::replace(place, new)
        })
    }

    /// Makes identity `id` pending: a message for `vcpu` arrived. Any context.
    pub(crate) fn inject(&self, vcpu: &Vcpu, id: u32) -> Delivery {
        let Some(identity) = self.file.identities().get(id) else {
            return Delivery::Blocked;
        };
        self.place.with(|place| match place {
            ImsicBackend::Hardware(file) => file.set(identity),
            ImsicBackend::Software => {
                if self.file.set(identity) == Signal::Raise {
                    vcpu.inject(Interrupt::External);
                }
            }
        });
        Delivery::Delivered
    }

    /// Sets `line` to what the file in software signals, which is nothing if the file is in
    /// hardware.
    fn drive(&self, line: &impl Line) {
        self.place.with(|_| self.file.drive(line));
    }

    /// Has the file drive the line of external interrupts of `vcpu` from now on.
    pub(crate) fn connect(&self, vcpu: &Vcpu) {
        vcpu.shared().irqs.connect_file();
        self.drive(vcpu);
    }

    /// Requests [`Request::InterruptFile`] if the file is to move before the vCPU enters the guest
    /// on `cpu`. Called when the vCPU is loaded.
    pub(crate) fn load(&self, vcpu: &Vcpu, cpu: usize) {
        let home = self.home.load(Ordering::Relaxed);
        let wanted = match FileLocation::unpack(home) {
            FileLocation::Hardware(at) if at.cpu == cpu => {
                // The guest takes the file's interrupts itself now.
                at.file.ignore();
                false
            }
            FileLocation::Hardware(_) => true,
            FileLocation::Software => match self.mode {
                Mode::Emulation => false,
                Mode::HwAccel => true,
                Mode::Auto => hgei::has_free(cpu),
            },
        };
        if wanted || home != self.attached.load(Ordering::Relaxed) {
            vcpu.request(Request::InterruptFile);
        }
    }

    /// Notes that the scheduler takes the vCPU off this CPU; if it waits for an external interrupt,
    /// a file in hardware is to wake it. If it waits for another, or is stopped, it would only be
    /// woken to block and be put again, at once each time.
    pub(crate) fn put(&self, vcpu: &Vcpu) {
        let here = PreemptOff::new();
        if let FileLocation::Hardware(at) = self.home() {
            if at.cpu == here.cpu() && vcpu.is_blocking() && vcpu.awaits_external() {
                at.file.enable_hgeie();
            }
        }
    }

    /// Returns whether a file in hardware signals an interrupt. One in software moves a line that
    /// `hvip` follows.
    pub(crate) fn signals(&self) -> bool {
        let here = PreemptOff::new();
        match self.home() {
            FileLocation::Software => false,
            // `hgeip` of another CPU cannot be read. The vCPU moves its file, and then it sees.
            FileLocation::Hardware(at) => at.cpu != here.cpu() || at.file.signals(),
        }
    }

    /// Returns what `hvictl` is to say while the line has this level.
    pub(crate) fn external(&self, pending: bool) -> External {
        match self.file.top() {
            Some(top) if pending => External::with_priority(top.number()),
            _ => External::QUIET,
        }
    }

    /// Moves the file to software. `moving` is held.
    fn move_to_swfile(&self, vcpu: &Vcpu) {
        if let ImsicBackend::Hardware(file) = self.redirect(ImsicBackend::Software) {
            if let Some(gpa) = vcpu.imsic_gpa() {
                ioremap::unmap_page(vcpu.vm(), gpa);
            }
            file.location().drain_into(&self.file);
            self.drive(vcpu);
        }
    }

    /// Moves the file of `vcpu`, which does not run, to software if it is on `cpu`, which goes
    /// offline.
    pub(super) fn release_cpu(&self, vcpu: &Vcpu, cpu: usize) {
        let _moving = self.moving.lock();
        if matches!(self.home(), FileLocation::Hardware(at) if at.cpu == cpu) {
            self.move_to_swfile(vcpu);
        }
    }

    /// Keeps the state of a file in the hardware of this CPU while the machine sleeps. This CPU is
    /// the only one, with interrupts off, and no vCPU is in the midst of a move: user threads are
    /// frozen, and the CPUs that went offline before have moved theirs.
    pub(super) fn suspend(&self, here: &PreemptOff) {
        if let Some(at) = self.hardware_of(here) {
            at.drain_here(&self.file, here);
        }
    }

    /// Gives a file in the hardware of this CPU its state back, under the conditions of
    /// [`suspend`](Self::suspend).
    pub(super) fn resume(&self, here: &PreemptOff) {
        if let Some(at) = self.hardware_of(here) {
            at.fill_here(&self.file, here);
        }
    }

    /// Returns where the file is, if that is in the hardware of this CPU.
    fn hardware_of(&self, here: &PreemptOff) -> Option<VsFileLocation> {
        match self.home() {
            FileLocation::Hardware(at) if at.cpu == here.cpu() => Some(at),
            _ => None,
        }
    }

    /// Resets the file with the hart: nothing pending, nothing enabled, no delivery. The vCPU is
    /// not loaded, and its mutex is held.
    pub(crate) fn reset(&self, vcpu: &Vcpu) {
        {
            let _moving = self.moving.lock();
            self.move_to_swfile(vcpu);
        }
        // The caller resets `hstatus`, too.
        self.attached
            .store(FileLocation::Software.pack(), Ordering::Relaxed);
        self.file.drain(|_, _| {});
        self.drive(&vcpu.shared().irqs);
    }

    /// Gives a file in hardware back: no thread uses the vCPU any more. Within [`hgei::retire`].
    pub(super) fn retire(&self) {
        self.redirect(ImsicBackend::Software);
    }

    /// Returns the register that `select` names, for userspace: one that holds something.
    fn register(&self, select: u32) -> Option<Register> {
        let register = Register::select(select.into()).ok()?;
        match register {
            Register::Delivery | Register::Threshold => Some(register),
            Register::Reserved => None,
            Register::Pending(word) | Register::Enabled(word) => {
                (usize::from(word) < self.file.identities().words()).then_some(register)
            }
        }
    }

    /// Returns whether `select` names a register.
    pub(crate) fn has(&self, select: u32) -> bool {
        self.register(select).is_some()
    }

    /// Reads the register that `select` names, of the file of `vcpu`.
    ///
    /// # Errors
    ///
    /// `ENXIO` if there is none.
    pub(crate) fn save(&self, _vcpu: &mut OwnedVcpu<'_>, select: u32) -> Result<u64> {
        let register = self.register(select).ok_or(ENXIO)?;
        let _moving = self.moving.lock();
        Ok(match self.home() {
            FileLocation::Hardware(at) => at.read(register),
            FileLocation::Software => self.file.read(register),
        })
    }

    /// Writes the register that `select` names, of the file of `vcpu`.
    ///
    /// # Errors
    ///
    /// `ENXIO` if there is none.
    pub(crate) fn restore(&self, vcpu: &mut OwnedVcpu<'_>, select: u32, value: u64) -> Result {
        let register = self.register(select).ok_or(ENXIO)?;
        let _moving = self.moving.lock();
        match self.home() {
            FileLocation::Hardware(at) => at.write(register, value),
            FileLocation::Software => {
                self.file.modify(register, value, u64::MAX);
                self.drive(vcpu.vcpu());
            }
        }
        Ok(())
    }

    /// Moves the file to the CPU that the vCPU is on, if it is to be in hardware. `moving` is held.
    fn update_location(&self, vcpu: &mut Loaded<'_>, gpa: Gpa) -> Result<(), Unsettled> {
        let me = vcpu.vcpu();
        match vcpu.pinned(|vcpu| self.choose(vcpu)) {
            Move::Stay => Ok(()),
            Move::ToSoftware => {
                self.move_to_swfile(me);
                Ok(())
            }
            Move::To(new) => {
                let (_, tables) = vcpu.with_tables();
                ioremap::map_page(me.vm(), gpa, new.address(), tables)
                    .map(|()| self.occupy(me, new))
                    .map_err(|_| Unsettled::NotMapped)
            }
            Move::NoFile(cpu) => Err(Unsettled::NoFile(cpu)),
        }
    }

    /// Decides where the file is to go, and takes a free file in hardware for that. `moving` is
    /// held.
    fn choose(&self, vcpu: &Pinned<'_>) -> Move {
        let cpu = vcpu.cpu();
        match (self.home(), self.mode) {
            (_, Mode::Emulation) => return Move::Stay,
            (FileLocation::Hardware(at), _) if at.cpu == cpu => return Move::Stay,
            _ => {}
        }
        match (VsFile::claim(vcpu.vcpu(), vcpu.preempt()), self.mode) {
            (Some(new), _) => Move::To(new),
            (None, Mode::HwAccel) => Move::NoFile(cpu),
            (None, Mode::Auto | Mode::Emulation) => Move::ToSoftware,
        }
    }

    /// Moves the file to `new`, where the guest sends messages already. `moving` is held.
    fn occupy(&self, vcpu: &Vcpu, new: VsFile) {
        let at = new.location();
        if let ImsicBackend::Hardware(old) = self.redirect(ImsicBackend::Hardware(new)) {
            // The state goes by way of the file in software, which is clear.
            old.location().drain_into(&self.file);
        }
        at.fill_from(&self.file);
        self.drive(&vcpu.shared().irqs);
    }

    /// Names the file in hardware in the guest's `hstatus`, if it is on the CPU that the vCPU is on
    /// now. `moving` is held.
    fn attach(&self, vcpu: &mut Pinned<'_>) {
        let home = match self.home() {
            FileLocation::Hardware(at) if at.cpu != vcpu.cpu() => {
                // The scheduler has moved the vCPU meanwhile, and its file is to follow.
                vcpu.vcpu().request(Request::InterruptFile);
                FileLocation::Software
            }
            home => home,
        };
        if let FileLocation::Hardware(_) = home {
            vcpu.context().set_external(External::QUIET);
        }
        vcpu.ctx.set_file(home.file());
        self.attached.store(home.pack(), Ordering::Relaxed);
    }
}

/// Serves [`Request::InterruptFile`].
///
/// # Errors
///
/// `ENOMEM`; `EFAULT` if the guest has something else where its interrupt file is to be.
pub(crate) fn update(vcpu: &mut Loaded<'_>) -> Result<ExitAction> {
    let me = vcpu.vcpu();
    let (Some(imsic), Some(gpa)) = (me.imsic(), me.imsic_gpa()) else {
        return Ok(ExitAction::Resume);
    };
    let levels = me.vm().memory().mode().top() as usize;
    vcpu.with_tables().1.top_up(levels)?;
    let settled = {
        let _moving = imsic.moving.lock();
        let settled = imsic.update_location(vcpu, gpa);
        vcpu.pinned(|vcpu| imsic.attach(vcpu));
        settled
    };
    match settled {
        Ok(()) => Ok(ExitAction::Resume),
        Err(Unsettled::NotMapped) => Err(EFAULT),
        Err(Unsettled::NoFile(cpu)) => {
            const NO_VSFILE: u64 = bindings::KVM_EXIT_FAIL_ENTRY_NO_VSFILE as u64;

            vcpu.run_page().exit_fail_entry(NO_VSFILE, cpu as u32);
            Ok(ExitAction::Userspace)
        }
    }
}

/// The line to a vCPU, moved by its own thread: the vCPU notices when it next enters the guest.
impl Line for Irqs {
    fn raise(&self) {
        self.set(Interrupt::External);
    }

    fn lower(&self) {
        self.withdraw(Interrupt::External);
    }
}

/// The line to a vCPU, moved by any other thread: the vCPU is kicked when the line rises.
impl Line for Vcpu {
    fn raise(&self) {
        self.inject(Interrupt::External);
    }

    fn lower(&self) {
        self.shared().irqs.lower();
    }
}

/// Shows the guest the external interrupt's line, which has just become `pending` or not: with the
/// identity of the first interrupt of its file, if it has one in software.
// Out of line, so that the run loop does not load this function's constants at each turn.
#[inline(never)]
pub(crate) fn present_external(vcpu: &mut Pinned<'_>, pending: bool) {
    let external = match vcpu.vcpu().imsic() {
        Some(imsic) => imsic.external(pending),
        None if pending => External::PLAIN,
        None => External::QUIET,
    };
    vcpu.context().set_external(external);
}
