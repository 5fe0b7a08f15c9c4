// SPDX-License-Identifier: GPL-2.0

//! Finds the kernel tree whose own `bitfield!` and `Bounded` the pure modules are tested with.

use std::{
    env,
    fs,
    path::PathBuf,
    process, //
};

/// The modules that are the kernel's own, below rust/kernel.
const MODULES: [&str; 3] = ["bitfield", "build_assert", "num"];

fn main() {
    println!("cargo::rerun-if-env-changed=KVM_KERNEL_SRC");
    let tree = env::var_os("KVM_KERNEL_SRC").filter(|tree| !tree.is_empty());
    let Some(tree) = tree.map(PathBuf::from) else {
        fail("KVM_KERNEL_SRC is not set: it names a Linux source tree, `tools/kernel --source` prints one");
    };
    let src = tree.join("rust/kernel");
    let mut text = format!("#[allow(dead_code, unused_imports)]\n#[path = {src:?}]\nmod tree {{\n");
    for module in MODULES {
        let file = src.join(module).with_extension("rs");
        if !file.is_file() {
            fail(&format!(
                "KVM_KERNEL_SRC={} is no Linux 7.3 source tree: it has no rust/kernel/{module}.rs",
                tree.display()
            ));
        }
        println!("cargo::rerun-if-changed={}", file.display());
        // The inline module gives its children the tree's directory, nested modules included.
        text += &format!("    pub mod {module};\n");
    }
    text += "}\n";
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("tree.rs"), text).expect("OUT_DIR is writable");

    println!("cargo::metadata=tree={}", tree.display());
    println!("cargo::rustc-cfg=CONFIG_64BIT");
    println!("cargo::rustc-check-cfg=cfg(CONFIG_64BIT, CONFIG_RUST_BITFIELD_KUNIT_TEST)");
}

/// Has cargo end the build with one sentence.
fn fail(why: &str) -> ! {
    println!("cargo::error={why}");
    process::exit(0);
}
