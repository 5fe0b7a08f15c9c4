// SPDX-License-Identifier: GPL-2.0

//! The in-kernel interrupt controller: an APLIC in MSI mode and one IMSIC for each vCPU (RISC-V
//! Advanced Interrupt Architecture). Answers to `aia.c` and to the VM's part of `aia_device.c`.
//!
//! - [`params`], [`layout`]: what userspace wants it to be like, and how addresses name files.
//! - [`aplic`]: wired interrupts, which become MSIs.
//! - [`imsic`]: interrupt files, in software or, by [`hgei`], in hardware.
//! - [`device`]: its attributes, which userspace reads and writes; [`route`]: interrupts that
//!   userspace and devices send.
//!
//! An [`Aia`] is in one of three states: there is no controller; userspace is configuring it; or
//! there is an [`AiaIrqchip`], for good. Only an `AiaIrqchip` delivers interrupts, and it is
//! complete.
//!
//! Lock order: `kvm->lock`, `vcpu->mutex`, `kvm->slots_lock`, `mmu_lock`, the APLIC's lock, the
//! lock of an interrupt file, those of [`hgei`]. The last three are taken in any context.

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Mutex,
        SetOnce, //
    }, //
};

use crate::{
    aia::{
        aplic::Domain,
        imsic::Imsic,
        layout::{
            GroupLayout,
            HartSlot, //
        },
        msi::{
            Delivery,
            GuestIndex,
            Msi, //
        },
        params::{
            AiaParams,
            Limits, //
        }, //
    },
    kernel_ext::atomic::{
        AtomicBool,
        AtomicU64,
        Ordering, //
    },
    kernel_ext::compat::{
        new_spinlock_irq,
        SpinLockIrq, //
    },
    kvm_core::{
        addr::{
            Gpa,
            VcpuIdx, //
        },
        iodev::BusDevice,
        object::{
            Vcpu,
            Vm, //
        }, //
    }, //
};

pub(crate) mod aplic;
pub(crate) mod device;
pub(crate) mod hgei;
pub(crate) mod host_imsic;
pub(crate) mod imsic;
pub(crate) mod layout;
pub(crate) mod msi;
pub(crate) mod params;
pub(crate) mod route;

/// The interrupt controller of a VM.
#[pin_data]
pub(crate) struct Aia {
    /// Whether userspace created the device, so that this is the VM's interrupt controller.
    in_kernel: AtomicBool,
    /// The configuration, before there is a `chip`. C: `struct kvm_aia`. `kvm->lock` is held around
    /// changes.
    #[pin]
    config: Mutex<Option<AiaParams>>,
    /// The complete controller, once userspace has initialised it.
    chip: SetOnce<AiaIrqchip>,
}

impl Aia {
    /// Returns the state of a VM without an interrupt controller.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            in_kernel: AtomicBool::new(false),
            config <- new_mutex!(None),
            chip: SetOnce::new(),
        })
    }

    /// Returns whether userspace created the device.
    pub(crate) fn in_kernel(&self) -> bool {
        self.in_kernel.load(Ordering::Acquire)
    }

    /// Returns the controller, once it is complete.
    #[inline]
    pub(crate) fn chip(&self) -> Option<&AiaIrqchip> {
        self.chip.as_ref()
    }

    /// Gives the hardware's interrupt files back: the VM ends, and no thread uses its vCPUs any
    /// more.
    pub(crate) fn retire(&self) {
        if let Some(chip) = self.chip() {
            hgei::retire(|| chip.files.iter().for_each(|file| file.imsic.retire()));
        }
    }
}

/// Returns what the host allows a controller to be like; [`None`] without AIA.
pub(crate) fn limits() -> Option<Limits> {
    hgei::host().map(|host| Limits {
        max_ids: host.max_ids,
        guest_files: hgei::guest_files(),
    })
}

/// The wired half of a controller.
#[pin_data]
pub(crate) struct Aplic {
    /// The state. Taken with interrupts off, as irqfds change wires in any context.
    #[pin]
    domain: SpinLockIrq<Domain>,
}

impl Aplic {
    /// Makes an APLIC with sources 1 to `sources`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn new(sources: u32) -> Result<Pin<KBox<Self>>> {
        let this = KBox::pin_init(
            try_pin_init!(Self {
                // The domain is made in place, because it is too large for the stack.
                domain <- new_spinlock_irq!(pin_init::init_zeroed::<Domain>()),
            }? Error),
            GFP_KERNEL_ACCOUNT,
        )?;
        this.domain.lock().set_up(sources);
        Ok(this)
    }

    /// Returns the state. The caller passes the MSIs that a change of it makes to
    /// [`AiaIrqchip::send`].
    pub(crate) fn domain(&self) -> &SpinLockIrq<Domain> {
        &self.domain
    }
}

/// The interrupt file of a vCPU, and where the guest has it.
struct File {
    gpa: Gpa,
    imsic: Pin<KBox<Imsic>>,
}

/// A complete interrupt controller.
///
/// # Invariants
///
/// `files` has one for each vCPU that there was when it was made, by index, and `harts` finds
/// exactly these.
pub(crate) struct AiaIrqchip {
    /// The index fields in the addresses of files.
    layout: GroupLayout,
    /// What the addresses of all files have in common.
    base: Option<u64>,
    /// The APLIC, unless there are no sources.
    aplic: Option<Pin<KBox<Aplic>>>,
    /// The interrupt file of each vCPU, by its position.
    files: KVec<File>,
    /// The table that finds a vCPU by its hart index.
    harts: KVec<HartSlot>,
    /// The pages that the guest finds on the MMIO bus.
    _devices: KVec<KBox<BusDevice<device::Port>>>,
}

impl AiaIrqchip {
    /// Returns the APLIC, unless there are no sources.
    pub(crate) fn aplic(&self) -> Option<&Aplic> {
        self.aplic.as_deref()
    }

    /// Returns the interrupt file of the vCPU at position `idx`.
    #[inline]
    pub(crate) fn imsic(&self, idx: VcpuIdx) -> Option<&Imsic> {
        self.files.get(idx.get()).map(|file| &*file.imsic)
    }

    /// Sends an MSI. Any context.
    pub(crate) fn send(&self, vm: &Vm, msi: Msi) -> Delivery {
        // The guest has no H extension, so there are no guest files.
        if msi.guest != GuestIndex::SUPERVISOR {
            return Delivery::Blocked;
        }
        match layout::find(&self.harts, msi.hart) {
            Some(idx) => self.inject(vm, idx, msi.id),
            None => Delivery::Blocked,
        }
    }

    /// Makes interrupt `id` pending in the file of the vCPU at position `idx`. Any context.
    pub(crate) fn inject(&self, vm: &Vm, idx: VcpuIdx, id: u32) -> Delivery {
        match (self.imsic(idx), vm.vcpu(idx)) {
            (Some(imsic), Some(vcpu)) => imsic.inject(vcpu, id),
            _ => Delivery::Blocked,
        }
    }

    /// Returns the vCPU whose interrupt file is at `gpa`, and the offset in the file's page.
    pub(crate) fn file_at(&self, gpa: Gpa) -> Option<(VcpuIdx, u32)> {
        let place = self.layout.split(gpa);
        if self.base != Some(place.base) || place.guest != GuestIndex::SUPERVISOR {
            return None;
        }
        Some((layout::find(&self.harts, place.hart)?, place.offset))
    }

    /// Writes `data` to `gpa`, as a device does that sends an MSI (AIA, "Memory region for an
    /// interrupt file"). Any context. Returns [`None`] if there is no interrupt file.
    pub(crate) fn send_to(&self, vm: &Vm, gpa: Gpa, data: u32) -> Option<Delivery> {
        let (idx, offset) = self.file_at(gpa)?;
        Some(match offset {
            SETEIPNUM_LE => self.inject(vm, idx, data),
            SETEIPNUM_BE => self.inject(vm, idx, data.swap_bytes()),
            _ => Delivery::Blocked,
        })
    }
}

/// Byte offset of `seteipnum_le`.
const SETEIPNUM_LE: u32 = 0;
/// Byte offset of `seteipnum_be`.
const SETEIPNUM_BE: u32 = 4;

impl Vm {
    /// Returns the VM's interrupt controller.
    #[inline]
    pub(crate) fn aia(&self) -> &Aia {
        self.part()
    }
}

/// The address at which userspace wants a vCPU's interrupt file; all ones before userspace has set
/// it. `kvm->lock` is held around changes.
pub(crate) struct ImsicAddr(AtomicU64);

impl ImsicAddr {
    /// Returns the address of a new vCPU: not set.
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl Vcpu {
    /// Returns where userspace wants the vCPU's interrupt file.
    fn imsic_addr(&self) -> &ImsicAddr {
        self.part()
    }

    /// Returns the vCPU's interrupt file, once the controller is complete.
    #[inline]
    pub(crate) fn imsic(&self) -> Option<&Imsic> {
        self.vm().aia().chip()?.imsic(self.idx())
    }

    /// Returns where the guest has the interrupt file.
    pub(crate) fn imsic_gpa(&self) -> Option<Gpa> {
        let chip = self.vm().aia().chip()?;
        Some(chip.files.get(self.idx().get())?.gpa)
    }
}
