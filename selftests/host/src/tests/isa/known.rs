// SPDX-License-Identifier: GPL-2.0

//! The second reading: numbers, policies and needs as the user API, the design and the C module
//! have them, sharing nothing with the table but the names of the host's bits.

use crate::{
    bindings::*,
    isa::{
        Ext,
        HostIsa,
        VectorUse, //
    }, //
};
use std::collections::BTreeSet;

/// One extension: its name, its number in the user API, the host's bit that offers it.
pub(super) struct Known(pub(super) &'static str, pub(super) u64, pub(super) u32);

pub(super) const KNOWN: &[Known] = &[
    Known("A", 0, RISCV_ISA_EXT_A as u32),
    Known("C", 1, RISCV_ISA_EXT_C as u32),
    Known("D", 2, RISCV_ISA_EXT_D as u32),
    Known("F", 3, RISCV_ISA_EXT_F as u32),
    Known("H", 4, RISCV_ISA_EXT_H as u32),
    Known("I", 5, RISCV_ISA_EXT_I as u32),
    Known("M", 6, RISCV_ISA_EXT_M as u32),
    Known("SVPBMT", 7, RISCV_ISA_EXT_SVPBMT),
    Known("SSTC", 8, RISCV_ISA_EXT_SSTC),
    Known("SVINVAL", 9, RISCV_ISA_EXT_SVINVAL),
    Known("ZIHINTPAUSE", 10, RISCV_ISA_EXT_ZIHINTPAUSE),
    Known("ZICBOM", 11, RISCV_ISA_EXT_ZICBOM),
    Known("ZICBOZ", 12, RISCV_ISA_EXT_ZICBOZ),
    Known("ZBB", 13, RISCV_ISA_EXT_ZBB),
    Known("SSAIA", 14, RISCV_ISA_EXT_SSAIA),
    Known("V", 15, RISCV_ISA_EXT_V as u32),
    Known("SVNAPOT", 16, RISCV_ISA_EXT_SVNAPOT),
    Known("ZBA", 17, RISCV_ISA_EXT_ZBA),
    Known("ZBS", 18, RISCV_ISA_EXT_ZBS),
    Known("ZICNTR", 19, RISCV_ISA_EXT_ZICNTR),
    Known("ZICSR", 20, RISCV_ISA_EXT_ZICSR),
    Known("ZIFENCEI", 21, RISCV_ISA_EXT_ZIFENCEI),
    Known("ZIHPM", 22, RISCV_ISA_EXT_ZIHPM),
    Known("SMSTATEEN", 23, RISCV_ISA_EXT_SMSTATEEN),
    Known("ZICOND", 24, RISCV_ISA_EXT_ZICOND),
    Known("ZBC", 25, RISCV_ISA_EXT_ZBC),
    Known("ZBKB", 26, RISCV_ISA_EXT_ZBKB),
    Known("ZBKC", 27, RISCV_ISA_EXT_ZBKC),
    Known("ZBKX", 28, RISCV_ISA_EXT_ZBKX),
    Known("ZKND", 29, RISCV_ISA_EXT_ZKND),
    Known("ZKNE", 30, RISCV_ISA_EXT_ZKNE),
    Known("ZKNH", 31, RISCV_ISA_EXT_ZKNH),
    Known("ZKR", 32, RISCV_ISA_EXT_ZKR),
    Known("ZKSED", 33, RISCV_ISA_EXT_ZKSED),
    Known("ZKSH", 34, RISCV_ISA_EXT_ZKSH),
    Known("ZKT", 35, RISCV_ISA_EXT_ZKT),
    Known("ZVBB", 36, RISCV_ISA_EXT_ZVBB),
    Known("ZVBC", 37, RISCV_ISA_EXT_ZVBC),
    Known("ZVKB", 38, RISCV_ISA_EXT_ZVKB),
    Known("ZVKG", 39, RISCV_ISA_EXT_ZVKG),
    Known("ZVKNED", 40, RISCV_ISA_EXT_ZVKNED),
    Known("ZVKNHA", 41, RISCV_ISA_EXT_ZVKNHA),
    Known("ZVKNHB", 42, RISCV_ISA_EXT_ZVKNHB),
    Known("ZVKSED", 43, RISCV_ISA_EXT_ZVKSED),
    Known("ZVKSH", 44, RISCV_ISA_EXT_ZVKSH),
    Known("ZVKT", 45, RISCV_ISA_EXT_ZVKT),
    Known("ZFH", 46, RISCV_ISA_EXT_ZFH),
    Known("ZFHMIN", 47, RISCV_ISA_EXT_ZFHMIN),
    Known("ZIHINTNTL", 48, RISCV_ISA_EXT_ZIHINTNTL),
    Known("ZVFH", 49, RISCV_ISA_EXT_ZVFH),
    Known("ZVFHMIN", 50, RISCV_ISA_EXT_ZVFHMIN),
    Known("ZFA", 51, RISCV_ISA_EXT_ZFA),
    Known("ZTSO", 52, RISCV_ISA_EXT_ZTSO),
    Known("ZACAS", 53, RISCV_ISA_EXT_ZACAS),
    Known("SSCOFPMF", 54, RISCV_ISA_EXT_SSCOFPMF),
    Known("ZIMOP", 55, RISCV_ISA_EXT_ZIMOP),
    Known("ZCA", 56, RISCV_ISA_EXT_ZCA),
    Known("ZCB", 57, RISCV_ISA_EXT_ZCB),
    Known("ZCD", 58, RISCV_ISA_EXT_ZCD),
    Known("ZCF", 59, RISCV_ISA_EXT_ZCF),
    Known("ZCMOP", 60, RISCV_ISA_EXT_ZCMOP),
    Known("ZAWRS", 61, RISCV_ISA_EXT_ZAWRS),
    // Not its own bit: what a guest's S-mode gets is the host's Ssnpm.
    Known("SMNPM", 62, RISCV_ISA_EXT_SSNPM),
    Known("SSNPM", 63, RISCV_ISA_EXT_SSNPM),
    Known("SVADE", 64, RISCV_ISA_EXT_SVADE),
    Known("SVADU", 65, RISCV_ISA_EXT_SVADU),
    Known("SVVPTC", 66, RISCV_ISA_EXT_SVVPTC),
    Known("ZABHA", 67, RISCV_ISA_EXT_ZABHA),
    Known("ZICCRSE", 68, RISCV_ISA_EXT_ZICCRSE),
    Known("ZAAMO", 69, RISCV_ISA_EXT_ZAAMO),
    Known("ZALRSC", 70, RISCV_ISA_EXT_ZALRSC),
    Known("ZICBOP", 71, RISCV_ISA_EXT_ZICBOP),
    Known("ZFBFMIN", 72, RISCV_ISA_EXT_ZFBFMIN),
    Known("ZVFBFMIN", 73, RISCV_ISA_EXT_ZVFBFMIN),
    Known("ZVFBFWMA", 74, RISCV_ISA_EXT_ZVFBFWMA),
    Known("ZCLSD", 75, RISCV_ISA_EXT_ZCLSD),
    Known("ZILSD", 76, RISCV_ISA_EXT_ZILSD),
    Known("ZALASR", 77, RISCV_ISA_EXT_ZALASR),
    Known("ZICFILP", 78, RISCV_ISA_EXT_ZICFILP),
    Known("ZICFISS", 79, RISCV_ISA_EXT_ZICFISS),
];

/// Switching these off is allowed without any condition; all others need one or never are.
const MAY_GO: &[&str] = &[
    "D",
    "F",
    "H",
    "V",
    "SMNPM",
    "SMSTATEEN",
    "SVADU",
    "SVPBMT",
    "ZICBOM",
    "ZICBOZ",
    "ZICFILP",
    "ZICFISS",
];

/// What needs what, by the specifications (V stands for all the Zve*).
pub(super) const NEEDS: &[(Ext, &[Ext])] = &[
    (Ext::A, &[Ext::Zaamo, Ext::Zalrsc]),
    (Ext::Zacas, &[Ext::Zaamo]),
    (Ext::Zabha, &[Ext::Zaamo]),
    (Ext::C, &[Ext::Zca]),
    (Ext::Zcb, &[Ext::Zca]),
    (Ext::Zcmop, &[Ext::Zca]),
    (Ext::Zcd, &[Ext::Zca, Ext::D]),
    (Ext::D, &[Ext::F]),
    (Ext::F, &[Ext::Zicsr]),
    (Ext::Zfh, &[Ext::F, Ext::Zfhmin]),
    (Ext::Zfhmin, &[Ext::F]),
    (Ext::Zfa, &[Ext::F]),
    (Ext::Zfbfmin, &[Ext::F]),
    (Ext::V, &[Ext::D, Ext::F]),
    (Ext::Zvfh, &[Ext::V, Ext::Zvfhmin, Ext::Zfhmin]),
    (Ext::Zvfhmin, &[Ext::V]),
    (Ext::Zvfbfmin, &[Ext::V]),
    (Ext::Zvfbfwma, &[Ext::Zvfbfmin, Ext::Zfbfmin]),
    (Ext::Zvbb, &[Ext::V, Ext::Zvkb]),
    (Ext::Zvbc, &[Ext::V]),
    (Ext::Zvkb, &[Ext::V]),
    (Ext::Zvkg, &[Ext::V]),
    (Ext::Zvkned, &[Ext::V]),
    (Ext::Zvknha, &[Ext::V]),
    (Ext::Zvknhb, &[Ext::V]),
    (Ext::Zvksed, &[Ext::V]),
    (Ext::Zvksh, &[Ext::V]),
    (Ext::Zvkt, &[Ext::V]),
    (Ext::Zicfiss, &[Ext::Zicsr, Ext::Zimop]),
];

pub(super) fn id(name: &str) -> u64 {
    KNOWN.iter().find(|k| k.0 == name).expect("a known name").1
}

/// A host, by the bits of its ISA bitmap.
#[derive(Clone, Debug)]
pub(super) struct Bitmap(pub(super) BTreeSet<u32>);

impl Bitmap {
    pub(super) fn all() -> Self {
        Self((0..RISCV_ISA_EXT_MAX).collect())
    }

    pub(super) fn without(mut self, bits: &[u32]) -> Self {
        self.0.retain(|bit| !bits.contains(bit));
        self
    }

    pub(super) fn host(&self) -> HostIsa {
        HostIsa::probe(|bit| self.0.contains(&bit))
    }

    fn has(&self, bit: u32) -> bool {
        self.0.contains(&bit)
    }

    pub(super) fn offers(&self, ext: &Known) -> bool {
        self.has(ext.2)
    }

    pub(super) fn may_enable(&self, ext: &Known, vector: VectorUse) -> bool {
        match ext.0 {
            "H" => false,
            "SSCOFPMF" => self.has(RISCV_ISA_EXT_SSAIA),
            "SVADU" => self.has(RISCV_ISA_EXT_SVADU),
            "V" => vector == VectorUse::Permitted,
            _ => true,
        }
    }

    pub(super) fn may_disable(&self, ext: &Known) -> bool {
        match ext.0 {
            "SSAIA" => self.has(RISCV_ISA_EXT_SMSTATEEN),
            "SVADE" => self.has(RISCV_ISA_EXT_SVADU),
            name => MAY_GO.contains(&name),
        }
    }
}

/// Hosts that differ in what policies look at.
pub(super) fn hosts() -> Vec<Bitmap> {
    let facts = [
        RISCV_ISA_EXT_SVADU,
        RISCV_ISA_EXT_SMSTATEEN,
        RISCV_ISA_EXT_SSAIA,
        RISCV_ISA_EXT_V as u32,
        RISCV_ISA_EXT_SSNPM,
    ];

    (0..1 << facts.len())
        .map(|missing: usize| {
            let missing: Vec<u32> = (0..facts.len())
                .filter(|i| missing >> i & 1 != 0)
                .map(|i| facts[i])
                .collect();
            Bitmap::all().without(&missing)
        })
        .collect()
}
