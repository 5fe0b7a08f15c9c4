// SPDX-License-Identifier: GPL-2.0

//! The interfaces of the interrupt controller to userspace and to the guest: the attributes of
//! `KVM_DEV_TYPE_RISCV_AIA`, and the pages on the MMIO bus. Answers to `aia_device.c`.
//!
//! Errors are those of `KVM_SET_DEVICE_ATTR` in `api.rst`: what does not exist is `ENXIO`.
//!
//! Locks: `kvm->lock` is held around all attribute accesses; `vcpu->mutex` is taken below it for
//! the registers of an interrupt file. User memory is accessed by the callers, without locks.

use kernel::prelude::*;

use crate::{
    aia::{
        aplic::Acknowledged,
        imsic::Imsic,
        layout,
        limits,
        msi::{
            Delivery,
            Msi, //
        },
        params::{
            Invalid,
            Setting, //
        }, //
        AiaIrqchip,
        AiaParams,
        Aplic,
        File,
    },
    bindings,
    kernel_ext::atomic::Ordering,
    kvm_core::{
        addr::{
            Gpa,
            HartId,
            VcpuIdx, //
        },
        iodev::{
            BusPort,
            Registrations, //
        },
        irqfd as kvm,
        locks::VmLock,
        object::{
            Vcpu,
            Vm, //
        }, //
    },
    vcpu::token::{
        self,
        OwnedVcpu, //
    }, //
};

impl From<Invalid> for Error {
    fn from(_: Invalid) -> Self {
        EINVAL
    }
}

/// An attribute of the device.
#[derive(Clone, Copy)]
pub(crate) enum Attr {
    /// `KVM_DEV_RISCV_AIA_GRP_CONFIG`.
    AiaParams(Setting),
    /// `KVM_DEV_RISCV_AIA_ADDR_APLIC`.
    AplicAddr,
    /// `KVM_DEV_RISCV_AIA_ADDR_IMSIC`: of the vCPU at this position.
    ImsicAddr(VcpuIdx),
    /// `KVM_DEV_RISCV_AIA_CTRL_INIT`.
    Init,
    /// `KVM_DEV_RISCV_AIA_GRP_APLIC`: the register at this offset.
    Aplic(u64),
    /// `KVM_DEV_RISCV_AIA_GRP_IMSIC`: of the vCPU with this hart id, the register with this number.
    Imsic(HartId, u32),
}

/// How many bytes userspace has for the value of an attribute.
#[derive(Clone, Copy)]
pub(crate) enum Width {
    /// None: the attribute is an action.
    Nothing,
    /// 4 bytes.
    Word,
    /// 8 bytes.
    Double,
}

impl Attr {
    /// Decodes the attribute that userspace names.
    ///
    /// # Errors
    ///
    /// `ENXIO` if there is no such group, or nothing of that number in it.
    pub(crate) fn new(group: u32, attr: u64) -> Result<Self> {
        match group {
            bindings::KVM_DEV_RISCV_AIA_GRP_CONFIG => {
                Setting::from_attr(attr).map(Self::AiaParams).ok_or(ENXIO)
            }
            bindings::KVM_DEV_RISCV_AIA_GRP_ADDR => match attr.checked_sub(IMSIC_ADDRS) {
                None => Ok(Self::AplicAddr),
                Some(idx) => Ok(Self::ImsicAddr(VcpuIdx::new(idx as usize))),
            },
            bindings::KVM_DEV_RISCV_AIA_GRP_CTRL if attr == CTRL_INIT => Ok(Self::Init),
            bindings::KVM_DEV_RISCV_AIA_GRP_APLIC => Ok(Self::Aplic(attr)),
            bindings::KVM_DEV_RISCV_AIA_GRP_IMSIC => Ok(Self::Imsic(
                HartId::new(attr >> bindings::KVM_DEV_RISCV_AIA_IMSIC_ISEL_BITS),
                attr as u32 & ISEL_MASK,
            )),
            _ => Err(ENXIO),
        }
    }

    /// Returns the size of its value.
    pub(crate) fn width(self) -> Width {
        match self {
            Self::Init => Width::Nothing,
            Self::AiaParams(_) | Self::Aplic(_) => Width::Word,
            Self::AplicAddr | Self::ImsicAddr(_) | Self::Imsic(..) => Width::Double,
        }
    }
}

/// `KVM_DEV_RISCV_AIA_ADDR_IMSIC(0)`; the APLIC's comes before it.
const IMSIC_ADDRS: u64 = bindings::KVM_DEV_RISCV_AIA_ADDR_APLIC as u64 + 1;
const CTRL_INIT: u64 = bindings::KVM_DEV_RISCV_AIA_CTRL_INIT as u64;
/// The register's number in an attribute of the group `KVM_DEV_RISCV_AIA_GRP_IMSIC`.
const ISEL_MASK: u32 = (1 << bindings::KVM_DEV_RISCV_AIA_IMSIC_ISEL_BITS) - 1;

/// The value of an address that userspace has not set yet.
const NOWHERE: u64 = u64::MAX;

/// The controller of a VM, as userspace configures and inspects it: `kvm->lock` is held.
pub(crate) struct Device<'l, 'v> {
    /// `kvm->lock` of the VM.
    lock: &'l VmLock<'v>,
    /// The function of the run loop's layer, which is above this one.
    apply_reset: ApplyReset,
}

/// Applies the reset of a hart that another hart asked for, so that what follows sees its outcome.
pub(crate) type ApplyReset = fn(&mut OwnedVcpu<'_>);

impl<'l, 'v> Device<'l, 'v> {
    /// Returns the controller of the VM that `lock` locks.
    pub(crate) fn new(lock: &'l VmLock<'v>, apply_reset: ApplyReset) -> Self {
        Self { lock, apply_reset }
    }

    /// Returns the VM.
    fn vm(&self) -> &'v Vm {
        self.lock.vm()
    }

    /// Creates the controller without its configuration (`KVM_CREATE_DEVICE`).
    ///
    /// # Errors
    ///
    /// `EEXIST` if it has it; `ENODEV` without AIA; `EBUSY` if a vCPU ran, or is being created or
    /// used.
    pub(crate) fn create(&self) -> Result {
        let aia = self.vm().aia();
        if aia.in_kernel() {
            return Err(EEXIST);
        }
        let limits = limits().ok_or(ENODEV)?;
        let ran = token::any_idle_vcpu(self.lock, |vcpu| vcpu.ran_atleast_once).ok_or(EBUSY)?;
        if ran {
            return Err(EBUSY);
        }
        *aia.config.lock() = Some(AiaParams::new(limits));
        aia.in_kernel.store(true, Ordering::Release);
        Ok(())
    }

    /// Undoes [`create`](Self::create): `KVM_CREATE_DEVICE` fails after it, before userspace has a
    /// file by which to configure the controller (differences-from-c S15).
    pub(crate) fn undo_create(&self) {
        let aia = self.vm().aia();
        *aia.config.lock() = None;
        aia.in_kernel.store(false, Ordering::Release);
    }

    /// Checks that the controller has an attribute (`KVM_HAS_DEVICE_ATTR`).
    ///
    /// # Errors
    ///
    /// `ENXIO` if the controller does not have it; `ENODEV` if it is a register, and there are none
    /// yet.
    pub(crate) fn has(&self, attr: Attr) -> Result {
        match attr {
            Attr::AiaParams(_) | Attr::AplicAddr | Attr::Init => Ok(()),
            Attr::ImsicAddr(idx) => self.vm().vcpu(idx).map(|_| ()).ok_or(ENXIO),
            Attr::Aplic(offset) => {
                let aplic = self.aplic()?;
                let word = aplic.domain().lock().save(offset);
                word.map(|_| ()).ok_or(ENXIO)
            }
            Attr::Imsic(hart, select) => {
                let (_, imsic) = self.imsic(hart)?;
                imsic.has(select).then_some(()).ok_or(ENXIO)
            }
        }
    }

    /// Reads an attribute (`KVM_GET_DEVICE_ATTR`).
    ///
    /// # Errors
    ///
    /// As [`has`](Self::has); `ENXIO` for an action; `EINTR`.
    pub(crate) fn get(&self, attr: Attr) -> Result<u64> {
        match attr {
            Attr::AiaParams(setting) => Ok(self.config(|config| config.get(setting))?.into()),
            Attr::AplicAddr => {
                let addr = self.config(|config| config.aplic())?;
                Ok(addr.map_or(NOWHERE, Gpa::get))
            }
            Attr::ImsicAddr(idx) => {
                let vcpu = self.vm().vcpu(idx).ok_or(ENXIO)?;
                Ok(vcpu.imsic_addr().0.load(Ordering::Relaxed))
            }
            Attr::Init => Err(ENXIO),
            Attr::Aplic(offset) => {
                let aplic = self.aplic()?;
                let word = aplic.domain().lock().save(offset);
                word.map(u64::from).ok_or(ENXIO)
            }
            Attr::Imsic(hart, select) => {
                self.with_imsic(hart, |imsic, vcpu| imsic.save(vcpu, select))
            }
        }
    }

    /// Sets an attribute (`KVM_SET_DEVICE_ATTR`).
    ///
    /// # Errors
    ///
    /// As [`has`](Self::has); `EINVAL` for a value that cannot be; `EBUSY` for what is final since
    /// the controller is complete; those of [`init`](Self::init); `EINTR`.
    pub(crate) fn set(&self, attr: Attr, value: u64) -> Result {
        match attr {
            Attr::AiaParams(setting) => {
                let limits = limits().ok_or(ENODEV)?;
                self.configure(|config| config.set(setting, value as u32, limits))
            }
            Attr::AplicAddr => self.configure(|config| config.set_aplic(Gpa::new(value))),
            Attr::ImsicAddr(idx) => {
                let vcpu = self.vm().vcpu(idx).ok_or(ENXIO)?;
                self.still_open()?;
                if value & (u64::from(bindings::KVM_DEV_RISCV_IMSIC_ALIGN) - 1) != 0 {
                    return Err(EINVAL);
                }
                vcpu.imsic_addr().0.store(value, Ordering::Relaxed);
                Ok(())
            }
            Attr::Init => self.init(),
            Attr::Aplic(offset) => {
                let chip = self.chip()?;
                let vm = self.vm();
                let aplic = chip.aplic().ok_or(ENODEV)?;
                let mut sink = |msi: Msi| chip.send(vm, msi);
                let restored = aplic
                    .domain()
                    .lock()
                    .restore(offset, value as u32, &mut sink);
                restored.map_err(|_| ENXIO)
            }
            Attr::Imsic(hart, select) => {
                self.with_imsic(hart, |imsic, vcpu| imsic.restore(vcpu, select, value))
            }
        }
    }

    /// Returns the complete controller; `ENODEV` before it is.
    fn chip(&self) -> Result<&'v AiaIrqchip> {
        self.vm().aia().chip().ok_or(ENODEV)
    }

    /// Returns the APLIC; `ENODEV` if there is none, or the controller is not complete.
    fn aplic(&self) -> Result<&'v Aplic> {
        self.chip()?.aplic().ok_or(ENODEV)
    }

    /// Returns the vCPU with id `hart` and its interrupt file; `ENODEV` before the controller is
    /// complete, `ENXIO` if there is no such vCPU, or no file of its.
    fn imsic(&self, hart: HartId) -> Result<(&'v Vcpu, &'v Imsic)> {
        let chip = self.chip()?;
        let vcpu = self.vm().hart(hart).ok_or(ENXIO)?;
        Ok((vcpu, chip.imsic(vcpu.idx()).ok_or(ENXIO)?))
    }

    /// Runs `f` with `vcpu->mutex` held, so the vCPU does not run.
    fn with_imsic<R>(
        &self,
        hart: HartId,
        f: impl FnOnce(&Imsic, &mut OwnedVcpu<'_>) -> Result<R>,
    ) -> Result<R> {
        let (vcpu, imsic) = self.imsic(hart)?;
        token::with_vcpu(vcpu, |vcpu| {
            // A reset that another hart has requested before comes first, so that `f` sees its
            // outcome.
            (self.apply_reset)(vcpu);
            f(imsic, vcpu)
        })?
    }

    /// Reads the configuration; `ENODEV` without one.
    fn config<R>(&self, f: impl FnOnce(&AiaParams) -> R) -> Result<R> {
        self.vm().aia().config.lock().as_ref().map(f).ok_or(ENODEV)
    }

    /// Checks that the controller can still be configured: `EBUSY` if it is complete.
    fn still_open(&self) -> Result {
        match self.vm().aia().chip() {
            Some(_) => Err(EBUSY),
            None => Ok(()),
        }
    }

    /// Changes the configuration; `EBUSY` if the controller is complete, `EINVAL` if `f` refuses.
    fn configure(&self, f: impl FnOnce(&mut AiaParams) -> Result<(), Invalid>) -> Result {
        self.still_open()?;
        let mut config = self.vm().aia().config.lock();
        let config = (*config).as_mut().ok_or(ENODEV)?;
        Ok(f(config)?)
    }

    /// Builds the controller from its configuration (`KVM_DEV_RISCV_AIA_CTRL_INIT`). If that
    /// fails, nothing has happened.
    ///
    /// # Errors
    ///
    /// `EBUSY` if it is built, or a vCPU is being created; `EINVAL` for a configuration that cannot
    /// be, among them two files at one address (differences-from-c S15); `ENOMEM`; `ENOSPC`.
    fn init(&self) -> Result {
        self.still_open()?;
        let vm = self.vm();
        if self.lock.is_creating_vcpu() {
            return Err(EBUSY);
        }
        let end = 1 << vm.memory().mode().gpa_bits();
        let mut plan = self.config(|config| config.plan(end))??;

        let vcpus = vm.online_vcpus();
        let mut files = KVec::with_capacity(vcpus, GFP_KERNEL_ACCOUNT)?;
        let slots = layout::slots_for(vcpus);
        let mut harts = KVec::with_capacity(slots, GFP_KERNEL_ACCOUNT)?;
        harts.resize(slots, layout::HartSlot::default(), GFP_KERNEL_ACCOUNT)?;
        let mut devices = Registrations::new(vm);

        let aplic = match plan.aplic {
            Some((gpa, sources)) => {
                devices.add(gpa, bindings::KVM_DEV_RISCV_APLIC_SIZE, Port::Aplic)?;
                Some(Aplic::new(sources)?)
            }
            None => None,
        };
        let mut gpas = KVec::with_capacity(vcpus, GFP_KERNEL)?;
        for vcpu in vm.vcpus() {
            let gpa = Gpa::new(vcpu.imsic_addr().0.load(Ordering::Relaxed));
            let hart = plan.place(gpa)?;
            layout::insert(&mut harts, hart, vcpu.idx()).map_err(|_| EINVAL)?;
            let imsic = KBox::pin_init(Imsic::new(plan.ids, plan.mode), GFP_KERNEL_ACCOUNT)?;
            files.push(File { gpa, imsic }, GFP_KERNEL_ACCOUNT)?;
            gpas.push(gpa, GFP_KERNEL)?;
        }
        gpas.sort_unstable();
        for run in plan.layout.runs(&gpas, plan.aplic.map(|(gpa, _)| gpa)) {
            let size = u32::try_from(run.end.get() - run.start.get()).map_err(|_| EINVAL)?;
            devices.add(run.start, size, Port::Imsics(run.start))?;
        }
        if let Some((_, sources)) = plan.aplic {
            kvm::set_pin_routing(vm, sources)?;
        }

        let chip = AiaIrqchip {
            layout: plan.layout,
            base: plan.base(),
            aplic,
            files,
            harts,
            _devices: devices.keep(),
        };
        // INVARIANT: The loop above made one file for each vCPU, by index, and entered exactly
        // these in `harts`. `kvm->lock` keeps other vCPUs from coming in between.
        vm.aia().chip.populate(chip);
        for vcpu in vm.vcpus() {
            if let Some(imsic) = vcpu.imsic() {
                imsic.connect(vcpu);
            }
        }
        Ok(())
    }
}

/// What is behind a page on the MMIO bus.
#[derive(Clone, Copy)]
pub(crate) enum Port {
    /// The APLIC.
    Aplic,
    /// Interrupt files, from this address on. Core KVM has room for 1,000 devices, and a VM can
    /// have more vCPUs: so a run of files is one device.
    Imsics(Gpa),
}

/// An access fails while there is no complete controller, or where there is no file.
impl BusPort for Port {
    fn read(self, vm: &Vm, offset: u32) -> Option<u32> {
        let chip = vm.aia().chip()?;
        match self {
            Self::Aplic => {
                let aplic = chip.aplic()?;
                let mut domain = aplic.domain().lock();
                let acknowledged = domain.acknowledged_by_read(offset);
                if !acknowledged.is_empty() {
                    drop(domain);
                    notify(vm, acknowledged);
                    domain = aplic.domain().lock();
                }
                Some(domain.read(offset))
            }
            // All registers of a file's page read as zero.
            Self::Imsics(base) => chip.file_at(at(base, offset)).map(|_| 0),
        }
    }

    fn write(self, vm: &Vm, offset: u32, value: u32) -> Option<()> {
        let chip = vm.aia().chip()?;
        match self {
            Self::Aplic => {
                let aplic = chip.aplic()?;
                let mut sink = |msi: Msi| chip.send(vm, msi);
                let mut domain = aplic.domain().lock();
                let acknowledged = domain.acknowledged_by_write(offset, value);
                if !acknowledged.is_empty() {
                    // Notify before the write, which makes the source pending again if its wire is
                    // still high.
                    drop(domain);
                    notify(vm, acknowledged);
                    domain = aplic.domain().lock();
                }
                domain.write(offset, value, &mut sink);
            }
            Self::Imsics(base) => {
                // The writer does not learn whether the MSI arrived, as on hardware.
                let _: Delivery = chip.send_to(vm, at(base, offset), value)?;
            }
        }
        Some(())
    }
}

/// Tells the resampling irqfds that the guest has handled the interrupts of these level-sensitive
/// sources: each lowers its wire now, and raises it again if its device still signals.
fn notify(vm: &Vm, acknowledged: Acknowledged) {
    acknowledged.for_each(|source| kvm::notify_acked_irq(vm, source));
}

/// Returns the address of an access at `offset` in the device that is at `base`.
fn at(base: Gpa, offset: u32) -> Gpa {
    Gpa::new(base.get() + u64::from(offset))
}
