// SPDX-License-Identifier: GPL-2.0

//! Ids of registers: what is taken apart, what is refused.

use proptest::prelude::*;

use crate::{
    bindings,
    vcpu::onereg::id::{
        Class,
        Parts, //
    }, //
};

/// `KVM_REG_RISCV | KVM_REG_SIZE_U64 | KVM_REG_RISCV_CORE | KVM_REG_RISCV_CORE_REG(regs.pc)`, as
/// the documentation spells it.
const PC: u64 = 0x8030_0000_0200_0000;
/// `sstateen0`.
const SSTATEEN0: u64 = 0x8030_0000_0302_0000;

#[test]
fn ids_of_the_documentation_are_understood() {
    assert_eq!(
        Parts::of(PC),
        Some(Parts {
            class: Class::new(bindings::KVM_REG_RISCV_CORE, 0),
            index: 0,
            size: 3,
        })
    );
    assert_eq!(
        Parts::of(SSTATEEN0),
        Some(Parts {
            class: Class::new(
                bindings::KVM_REG_RISCV_CSR,
                bindings::KVM_REG_RISCV_CSR_SMSTATEEN
            ),
            index: 0,
            size: 3,
        })
    );
}

#[test]
fn other_architectures_are_refused() {
    for arch in (0..=0xff).filter(|&arch| arch != 0x80) {
        assert_eq!(
            Parts::of(PC & !(0xff << 56) | arch << 56),
            None,
            "{arch:#x}"
        );
    }
}

#[test]
fn undefined_bits_are_refused() {
    for bit in 32..52 {
        assert_eq!(Parts::of(PC | 1 << bit), None, "bit {bit}");
    }
}

#[test]
fn bits_of_the_subtype_are_another_class() {
    for bit in 16..24 {
        let parts = Parts::of(PC | 1 << bit).expect("nothing undefined in it");
        assert_ne!(parts.class, Class::new(bindings::KVM_REG_RISCV_CORE, 0));
        assert!(parts.class.is_of(bindings::KVM_REG_RISCV_CORE));
    }
}

proptest! {
    /// No bit is ignored: what is understood can be put together again.
    #[test]
    fn an_id_that_is_understood_is_the_only_one(low: u32, size in 0u64..16) {
        let id = 0x80 << 56 | size << 52 | u64::from(low);
        prop_assert_eq!(Parts::of(id).map(Parts::id), Some(id));
    }

    #[test]
    fn no_id_is_understood_as_another(id: u64) {
        if let Some(parts) = Parts::of(id) {
            prop_assert_eq!(parts.id(), id);
        }
    }
}
