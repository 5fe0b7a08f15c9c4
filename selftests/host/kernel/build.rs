// SPDX-License-Identifier: GPL-2.0

//! Finds the kernel tree whose own `bitfield!` and `Bounded` the pure modules are tested with.

use std::{
    env,
    fs,
    path::PathBuf, //
};

fn main() {
    println!("cargo::rerun-if-env-changed=KVM_KERNEL_SRC");
    let src = kernel_src().join("rust/kernel");
    for file in ["bitfield.rs", "build_assert.rs", "num.rs"] {
        let file = src.join(file);
        assert!(
            file.is_file(),
            "{} is missing: set KVM_KERNEL_SRC to a Linux 7.3 source tree",
            file.display()
        );
        println!("cargo::rerun-if-changed={}", file.display());
    }
    // The inline module gives its children the tree's directory, nested modules included.
    let tree = format!(
        "#[allow(dead_code, unused_imports)]\n#[path = {src:?}]\nmod tree {{\n    \
         pub mod bitfield;\n    pub mod build_assert;\n    pub mod num;\n}}\n"
    );
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("tree.rs"), tree).expect("OUT_DIR is writable");
}

/// `KVM_KERNEL_SRC`, or the tree that `tools/kernel` unpacks into the cache.
fn kernel_src() -> PathBuf {
    if let Some(src) = env::var_os("KVM_KERNEL_SRC") {
        return src.into();
    }
    let home = PathBuf::from(env::var_os("HOME").unwrap_or_default());
    // In the toolchain root, HOME is a directory of the cache itself.
    [
        home.join("../src-x"),
        home.join(".cache/kvm-riscv-rs/src-x"),
    ]
    .into_iter()
    .map(|dir| dir.join("linux-source-7.3"))
    .find(|tree| tree.is_dir())
    .unwrap_or_default()
}
