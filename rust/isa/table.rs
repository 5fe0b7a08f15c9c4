// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! The table of ISA extensions: each row has all properties of one extension.
//!
//! The rows answer to the map and the two `switch` statements of `arch/riscv/kvm/isa.c`, and,
//! for `requires`, to the dependencies of `arch/riscv/kernel/cpufeature.c` and of the
//! specifications. Everything that depends on an extension reads its row; the proofs are at the
//! end.

use crate::{
    bindings,
    isa::set::IsaSet, //
};

/// When an extension may be switched on for a guest, on a host that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Enable {
    /// The extension may be switched on whenever the host has it.
    Always,
    /// The extension may never be switched on, because KVM does not virtualise it.
    Never,
    /// Only while this one is offered, too.
    NeedsOffered(Ext),
    /// Only if the host's page-table walker may update A and D: henvcfg.ADUE is read-only zero
    /// if menvcfg.ADUE is.
    NeedsHwAdUpdates,
    /// Only by a process that may use vectors itself, [`crate::isa::VectorUse`].
    NeedsVectorUse,
}

/// When an extension may be switched off for a guest, on a host that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disable {
    /// Always: there is a control for it (sstatus.FS or VS, henvcfg, hstateen0).
    Allowed,
    /// Never: there is no control that disables its instructions, so a guest would find them
    /// working.
    Never,
    /// Not by itself, but the control of this one takes it away as well, so a guest without that
    /// one is also without this. To userspace, the same as [`Self::Never`].
    Follows(Ext),
    /// Only if the host has Smstateen, whose hstateen0 is the control.
    NeedsSmstateen,
    /// Only if the host's page-table walker may update A and D; otherwise it cannot but fault.
    NeedsHwAdUpdates,
}

/// One extension.
pub(crate) struct Row {
    /// Its number in the user API.
    pub(crate) ext: Ext,
    /// Its bit in an ISA bitmap, `RISCV_ISA_EXT_*`; single letters have theirs in misa.
    pub(crate) base: u32,
    /// The bit that a host must have for guests to get it; almost always `base`.
    pub(crate) host: u32,
    /// When it may be switched on.
    pub(crate) enable: Enable,
    /// When it may be switched off.
    pub(crate) disable: Disable,
    /// Extensions without which a guest cannot have it.
    pub(crate) requires: &'static [Ext],
}

impl Row {
    /// Returns a row of `ext` with the policies that most extensions have.
    const fn new(ext: Ext, base: u32, disable: Disable) -> Self {
        Self {
            ext,
            base,
            host: base,
            enable: Enable::Always,
            disable,
            requires: &[],
        }
    }
}

/// How many extensions there are, which is as many as Linux 7.3 numbers in the user API.
pub(crate) const COUNT: usize = ROWS.len();

/// Makes [`Ext`] and [`ROWS`] of rows `Name(user API number, base id) { fields }`, where all
/// fields but `disable` have a default, [`Row::new`].
macro_rules! extensions {
    ($($name:ident($kvm:ident, $base:ident) {
        disable: $disable:expr,
        $($field:ident: $value:expr,)*
    })+) => {
        /// An extension of the user API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub(crate) enum Ext {
            $(
                #[doc = concat!("`", stringify!($kvm), "`.")]
                $name = bindings::$kvm,
            )+
        }

        /// Every extension; the index is the number in the user API.
        pub(crate) const ROWS: [Row; [$(Ext::$name),+].len()] = [$(
            Row {
                $($field: $value,)*
                ..Row::new(Ext::$name, bindings::$base as u32, $disable)
            },
        )+];
    };
}

impl Ext {
    /// Returns the number in the user API, `KVM_RISCV_ISA_EXT_*`.
    #[inline]
    pub(crate) const fn id(self) -> u32 {
        self as u32
    }
}

extensions! {
    A(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_A, RISCV_ISA_EXT_A) {
        disable: Disable::Never,
        requires: &[Ext::Zaamo, Ext::Zalrsc],
    }
    C(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_C, RISCV_ISA_EXT_C) {
        disable: Disable::Never,
        requires: &[Ext::Zca],
    }
    // The one control, sstatus.FS, is shared with F. Userspace has always been allowed to take D
    // alone, as QEMU does on its way to a guest without both, so it stays allowed; as long as F is
    // there, a guest that tries finds the instructions of D working.
    D(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_D, RISCV_ISA_EXT_D) {
        disable: Disable::Allowed,
        requires: &[Ext::F],
    }
    F(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_F, RISCV_ISA_EXT_F) {
        disable: Disable::Allowed,
        requires: &[Ext::Zicsr],
    }
    // Nested virtualisation is not implemented.
    H(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_H, RISCV_ISA_EXT_H) {
        disable: Disable::Allowed,
        enable: Enable::Never,
    }
    I(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_I, RISCV_ISA_EXT_I) {
        disable: Disable::Never,
    }
    M(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_M, RISCV_ISA_EXT_M) {
        disable: Disable::Never,
    }
    Svpbmt(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_SVPBMT, RISCV_ISA_EXT_SVPBMT) {
        disable: Disable::Allowed,
    }
    Sstc(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_SSTC, RISCV_ISA_EXT_SSTC) {
        disable: Disable::Never,
    }
    Svinval(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_SVINVAL, RISCV_ISA_EXT_SVINVAL) {
        disable: Disable::Never,
    }
    Zihintpause(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZIHINTPAUSE, RISCV_ISA_EXT_ZIHINTPAUSE) {
        disable: Disable::Never,
    }
    Zicbom(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZICBOM, RISCV_ISA_EXT_ZICBOM) {
        disable: Disable::Allowed,
    }
    Zicboz(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZICBOZ, RISCV_ISA_EXT_ZICBOZ) {
        disable: Disable::Allowed,
    }
    Zbb(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZBB, RISCV_ISA_EXT_ZBB) {
        disable: Disable::Never,
    }
    Ssaia(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_SSAIA, RISCV_ISA_EXT_SSAIA) {
        disable: Disable::NeedsSmstateen,
    }
    // sstatus.VS is the only control over vectors, and V is the name that the user API has for
    // it: all vector extensions follow V, also those that need less than V of the hardware.
    V(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_V, RISCV_ISA_EXT_V) {
        disable: Disable::Allowed,
        enable: Enable::NeedsVectorUse,
        requires: &[Ext::D],
    }
    Svnapot(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_SVNAPOT, RISCV_ISA_EXT_SVNAPOT) {
        disable: Disable::Never,
    }
    Zba(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZBA, RISCV_ISA_EXT_ZBA) {
        disable: Disable::Never,
    }
    Zbs(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZBS, RISCV_ISA_EXT_ZBS) {
        disable: Disable::Never,
    }
    Zicntr(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZICNTR, RISCV_ISA_EXT_ZICNTR) {
        disable: Disable::Never,
        requires: &[Ext::Zicsr],
    }
    Zicsr(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZICSR, RISCV_ISA_EXT_ZICSR) {
        disable: Disable::Never,
    }
    Zifencei(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZIFENCEI, RISCV_ISA_EXT_ZIFENCEI) {
        disable: Disable::Never,
    }
    Zihpm(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZIHPM, RISCV_ISA_EXT_ZIHPM) {
        disable: Disable::Never,
        requires: &[Ext::Zicsr],
    }
    Smstateen(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_SMSTATEEN, RISCV_ISA_EXT_SMSTATEEN) {
        disable: Disable::Allowed,
    }
    Zicond(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZICOND, RISCV_ISA_EXT_ZICOND) {
        disable: Disable::Never,
    }
    Zbc(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZBC, RISCV_ISA_EXT_ZBC) {
        disable: Disable::Never,
    }
    Zbkb(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZBKB, RISCV_ISA_EXT_ZBKB) {
        disable: Disable::Never,
    }
    Zbkc(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZBKC, RISCV_ISA_EXT_ZBKC) {
        disable: Disable::Never,
    }
    Zbkx(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZBKX, RISCV_ISA_EXT_ZBKX) {
        disable: Disable::Never,
    }
    Zknd(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZKND, RISCV_ISA_EXT_ZKND) {
        disable: Disable::Never,
    }
    Zkne(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZKNE, RISCV_ISA_EXT_ZKNE) {
        disable: Disable::Never,
    }
    Zknh(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZKNH, RISCV_ISA_EXT_ZKNH) {
        disable: Disable::Never,
    }
    Zkr(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZKR, RISCV_ISA_EXT_ZKR) {
        disable: Disable::Never,
        requires: &[Ext::Zicsr],
    }
    Zksed(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZKSED, RISCV_ISA_EXT_ZKSED) {
        disable: Disable::Never,
    }
    Zksh(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZKSH, RISCV_ISA_EXT_ZKSH) {
        disable: Disable::Never,
    }
    Zkt(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZKT, RISCV_ISA_EXT_ZKT) {
        disable: Disable::Never,
    }
    Zvbb(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZVBB, RISCV_ISA_EXT_ZVBB) {
        disable: Disable::Follows(Ext::V),
        requires: &[Ext::V, Ext::Zvkb],
    }
    Zvbc(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZVBC, RISCV_ISA_EXT_ZVBC) {
        disable: Disable::Follows(Ext::V),
        requires: &[Ext::V],
    }
    Zvkb(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZVKB, RISCV_ISA_EXT_ZVKB) {
        disable: Disable::Follows(Ext::V),
        requires: &[Ext::V],
    }
    Zvkg(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZVKG, RISCV_ISA_EXT_ZVKG) {
        disable: Disable::Follows(Ext::V),
        requires: &[Ext::V],
    }
    Zvkned(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZVKNED, RISCV_ISA_EXT_ZVKNED) {
        disable: Disable::Follows(Ext::V),
        requires: &[Ext::V],
    }
    Zvknha(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZVKNHA, RISCV_ISA_EXT_ZVKNHA) {
        disable: Disable::Follows(Ext::V),
        requires: &[Ext::V],
    }
    Zvknhb(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZVKNHB, RISCV_ISA_EXT_ZVKNHB) {
        disable: Disable::Follows(Ext::V),
        requires: &[Ext::V],
    }
    Zvksed(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZVKSED, RISCV_ISA_EXT_ZVKSED) {
        disable: Disable::Follows(Ext::V),
        requires: &[Ext::V],
    }
    Zvksh(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZVKSH, RISCV_ISA_EXT_ZVKSH) {
        disable: Disable::Follows(Ext::V),
        requires: &[Ext::V],
    }
    Zvkt(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZVKT, RISCV_ISA_EXT_ZVKT) {
        disable: Disable::Follows(Ext::V),
        requires: &[Ext::V],
    }
    Zfh(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZFH, RISCV_ISA_EXT_ZFH) {
        disable: Disable::Follows(Ext::F),
        requires: &[Ext::F, Ext::Zfhmin],
    }
    Zfhmin(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZFHMIN, RISCV_ISA_EXT_ZFHMIN) {
        disable: Disable::Follows(Ext::F),
        requires: &[Ext::F],
    }
    Zihintntl(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZIHINTNTL, RISCV_ISA_EXT_ZIHINTNTL) {
        disable: Disable::Never,
    }
    Zvfh(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZVFH, RISCV_ISA_EXT_ZVFH) {
        disable: Disable::Follows(Ext::V),
        requires: &[Ext::V, Ext::Zvfhmin, Ext::Zfhmin],
    }
    Zvfhmin(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZVFHMIN, RISCV_ISA_EXT_ZVFHMIN) {
        disable: Disable::Follows(Ext::V),
        requires: &[Ext::V],
    }
    Zfa(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZFA, RISCV_ISA_EXT_ZFA) {
        disable: Disable::Follows(Ext::F),
        requires: &[Ext::F],
    }
    Ztso(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZTSO, RISCV_ISA_EXT_ZTSO) {
        disable: Disable::Never,
    }
    Zacas(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZACAS, RISCV_ISA_EXT_ZACAS) {
        disable: Disable::Never,
        requires: &[Ext::Zaamo],
    }
    // Its interrupt reaches a guest through the filtering of the host's AIA. The guest needs no
    // Ssaia for that, hence no `requires`.
    Sscofpmf(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_SSCOFPMF, RISCV_ISA_EXT_SSCOFPMF) {
        disable: Disable::Never,
        enable: Enable::NeedsOffered(Ext::Ssaia),
    }
    Zimop(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZIMOP, RISCV_ISA_EXT_ZIMOP) {
        disable: Disable::Never,
    }
    Zca(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZCA, RISCV_ISA_EXT_ZCA) {
        disable: Disable::Never,
    }
    Zcb(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZCB, RISCV_ISA_EXT_ZCB) {
        disable: Disable::Never,
        requires: &[Ext::Zca],
    }
    Zcd(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZCD, RISCV_ISA_EXT_ZCD) {
        disable: Disable::Follows(Ext::D),
        requires: &[Ext::D, Ext::Zca],
    }
    // RV32 only.
    Zcf(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZCF, RISCV_ISA_EXT_ZCF) {
        disable: Disable::Follows(Ext::F),
        requires: &[Ext::F, Ext::Zca],
    }
    Zcmop(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZCMOP, RISCV_ISA_EXT_ZCMOP) {
        disable: Disable::Never,
        requires: &[Ext::Zca],
    }
    Zawrs(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZAWRS, RISCV_ISA_EXT_ZAWRS) {
        disable: Disable::Never,
        requires: &[Ext::Zalrsc],
    }
    // A guest's Smnpm is the host's Ssnpm: henvcfg.PMM, which VS-mode is subject to, is part of it.
    Smnpm(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_SMNPM, RISCV_ISA_EXT_SMNPM) {
        disable: Disable::Allowed,
        host: bindings::RISCV_ISA_EXT_SSNPM,
    }
    Ssnpm(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_SSNPM, RISCV_ISA_EXT_SSNPM) {
        disable: Disable::Never,
    }
    Svade(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_SVADE, RISCV_ISA_EXT_SVADE) {
        disable: Disable::NeedsHwAdUpdates,
    }
    Svadu(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_SVADU, RISCV_ISA_EXT_SVADU) {
        disable: Disable::Allowed,
        enable: Enable::NeedsHwAdUpdates,
    }
    Svvptc(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_SVVPTC, RISCV_ISA_EXT_SVVPTC) {
        disable: Disable::Never,
    }
    Zabha(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZABHA, RISCV_ISA_EXT_ZABHA) {
        disable: Disable::Never,
        requires: &[Ext::Zaamo],
    }
    Ziccrse(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZICCRSE, RISCV_ISA_EXT_ZICCRSE) {
        disable: Disable::Never,
        requires: &[Ext::Zalrsc],
    }
    Zaamo(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZAAMO, RISCV_ISA_EXT_ZAAMO) {
        disable: Disable::Never,
    }
    Zalrsc(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZALRSC, RISCV_ISA_EXT_ZALRSC) {
        disable: Disable::Never,
    }
    Zicbop(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZICBOP, RISCV_ISA_EXT_ZICBOP) {
        disable: Disable::Never,
    }
    Zfbfmin(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZFBFMIN, RISCV_ISA_EXT_ZFBFMIN) {
        disable: Disable::Follows(Ext::F),
        requires: &[Ext::F],
    }
    Zvfbfmin(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZVFBFMIN, RISCV_ISA_EXT_ZVFBFMIN) {
        disable: Disable::Follows(Ext::V),
        requires: &[Ext::V],
    }
    Zvfbfwma(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZVFBFWMA, RISCV_ISA_EXT_ZVFBFWMA) {
        disable: Disable::Follows(Ext::V),
        requires: &[Ext::V, Ext::Zvfbfmin, Ext::Zfbfmin],
    }
    // RV32 only, so never offered on RV64; nothing takes it or Zilsd away (C would allow it).
    Zclsd(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZCLSD, RISCV_ISA_EXT_ZCLSD) {
        disable: Disable::Never,
        requires: &[Ext::Zca, Ext::Zilsd],
    }
    Zilsd(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZILSD, RISCV_ISA_EXT_ZILSD) {
        disable: Disable::Never,
    }
    Zalasr(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZALASR, RISCV_ISA_EXT_ZALASR) {
        disable: Disable::Never,
    }
    Zicfilp(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZICFILP, RISCV_ISA_EXT_ZICFILP) {
        disable: Disable::Allowed,
        requires: &[Ext::Zicsr],
    }
    Zicfiss(KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZICFISS, RISCV_ISA_EXT_ZICFISS) {
        disable: Disable::Allowed,
        requires: &[Ext::Zicsr, Ext::Zimop],
    }
}

/// What each extension falls with: the extensions that can be absent although the host offers
/// them, and without which this one is gone. Closed, so that one look is enough. That of an
/// extension with a control of its own has itself; that of one which nothing takes away is empty.
pub(crate) const LOSSES: [IsaSet; COUNT] = losses();

/// Computes [`LOSSES`].
const fn losses() -> [IsaSet; COUNT] {
    let mut losses = [IsaSet::EMPTY; COUNT];

    // Each round carries the losses one step further up; no chain is longer than the table.
    let mut changed = true;
    while changed {
        changed = false;
        let mut i = 0;
        while i < COUNT {
            let row = &ROWS[i];
            let mut loss = losses[i];

            if !matches!(row.enable, Enable::Always) {
                loss = loss.with(row.ext);
            }
            match row.disable {
                Disable::Never => {}
                Disable::Follows(leader) => loss = loss.or(losses[leader.id() as usize]),
                Disable::Allowed | Disable::NeedsSmstateen | Disable::NeedsHwAdUpdates => {
                    loss = loss.with(row.ext);
                    let mut r = 0;
                    while r < row.requires.len() {
                        loss = loss.or(losses[row.requires[r].id() as usize]);
                        r += 1;
                    }
                }
            }
            if !loss.is_subset_of(losses[i]) {
                losses[i] = loss;
                changed = true;
            }
            i += 1;
        }
    }
    losses
}

/// Every number of the user API has exactly one row, at its index, with a host bit that exists.
const _: () = {
    let mut i = 0;
    while i < COUNT {
        assert!(ROWS[i].ext.id() as usize == i, "a row is out of order");
        assert!(ROWS[i].base < bindings::RISCV_ISA_EXT_MAX);
        assert!(ROWS[i].host < bindings::RISCV_ISA_EXT_MAX);
        let mut j = 0;
        while j < i {
            assert!(ROWS[i].base != ROWS[j].base, "two rows for one extension");
            j += 1;
        }
        i += 1;
    }
};

/// No policy can leave a guest with an extension and without what that needs: whatever takes away a
/// requirement takes away what requires it. An extension with a control of its own is switched off
/// by [`crate::isa::EffectiveIsa`]; one that follows another goes with that one's control, so it
/// may require only what falls no sooner; one that nothing takes away may require only the like.
const _: () = {
    let mut i = 0;
    while i < COUNT {
        let row = &ROWS[i];
        let mut r = 0;
        while r < row.requires.len() {
            assert!(
                LOSSES[row.requires[r].id() as usize].is_subset_of(LOSSES[i]),
                "a guest could lose what this extension requires, and keep the extension"
            );
            r += 1;
        }
        if let Disable::Follows(leader) = row.disable {
            assert!(
                LOSSES[leader.id() as usize].contains(leader),
                "an extension follows one that has no control"
            );
        }
        i += 1;
    }
};
