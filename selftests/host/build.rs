// SPDX-License-Identifier: GPL-2.0

//! Makes the host's `crate::bindings` with bindgen, from headers of the kernel tree.

use std::{
    env, fs,
    path::{
        Path,
        PathBuf, //
    },
    process::Command,
};

/// The prefix that marks a constant made from a macro; as in the kernel's own rust/Makefile.
const PREFIX: &str = "RUST_CONST_HELPER_";

/// The list of such constants that the kernel module uses.
const HELPER: &str = "../../rust/bindings_helper.h";

fn main() {
    println!("cargo::rerun-if-env-changed=KVM_KERNEL_SRC");
    println!("cargo::rerun-if-changed=include");
    println!("cargo::rerun-if-changed={HELPER}");
    let tree = kernel_src();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));

    let generic = out.join("include");
    wrap_generic_headers(&tree, &generic.join("asm"));
    let names = helper_constants();
    let header = out.join("bindings.h");
    fs::write(&header, helper_header(&names)).expect("OUT_DIR is writable");

    let include = env::current_dir().expect("cargo sets it").join("include");
    let bindings = Command::new("bindgen")
        .arg(&header)
        .args(["--use-core", "--no-layout-tests", "--no-doc-comments"])
        .args(["--with-derive-default", "--rust-target", "1.85"])
        .arg("--ignore-functions")
        // What bindgen makes of the macro itself may have another type.
        .args(names.iter().flat_map(|name| ["--blocklist-item", name]))
        .args([
            "--",
            "--target=riscv64-linux-gnu",
            "-nostdinc",
            "-D__EXPORTED_HEADERS__",
        ])
        .args([
            "-DCONFIG_64BIT",
            "-DCONFIG_RISCV_SBI",
            "-DCONFIG_RISCV_SBI_V01",
        ])
        .arg("-I")
        .arg(include)
        .args(
            ["arch/riscv/include/uapi", "include/uapi"]
                .map(|dir| format!("-I{}", tree.join(dir).display())),
        )
        .arg("-I")
        .arg(generic)
        // Behind the rest: only what needs no configured kernel is found here.
        .arg("-idirafter")
        .arg(tree.join("arch/riscv/include"))
        .output()
        .expect("bindgen is installed (tools/toolchain has it)");
    assert!(
        bindings.status.success(),
        "bindgen: {}",
        String::from_utf8_lossy(&bindings.stderr)
    );
    let bindings = String::from_utf8(bindings.stdout)
        .expect("bindgen writes UTF-8")
        .replace(PREFIX, "")
        // The kernel's Rust has `long` as a pointer-sized integer.
        .replace("::core::ffi::c_ulonglong", "u64")
        .replace("::core::ffi::c_longlong", "i64")
        .replace("::core::ffi::c_ulong", "usize")
        .replace("::core::ffi::c_long", "isize");
    fs::write(out.join("bindings.rs"), bindings).expect("OUT_DIR is writable");
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
    .expect("a Linux 7.3 source tree: set KVM_KERNEL_SRC")
}

/// Stands in for the kernel build's own `<asm/...>` wrappers of generic headers.
fn wrap_generic_headers(tree: &Path, asm: &Path) {
    fs::create_dir_all(asm).expect("OUT_DIR is writable");
    let arch = tree.join("arch/riscv/include/uapi/asm");
    let generic = fs::read_dir(tree.join("include/uapi/asm-generic")).expect("a kernel tree");
    for header in generic.flatten().map(|entry| entry.file_name()) {
        if !arch.join(&header).exists() {
            let text = format!("#include <asm-generic/{}>\n", header.to_string_lossy());
            fs::write(asm.join(&header), text).expect("OUT_DIR is writable");
        }
    }
}

/// The names that [`HELPER`] lists.
fn helper_constants() -> Vec<String> {
    fs::read_to_string(HELPER)
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.strip_prefix("C(")?.strip_suffix(");"))
        .map(String::from)
        .collect()
}

/// A header with those `names` that `include/bindings.h` leads to.
fn helper_header(names: &[String]) -> String {
    let mut text = String::from("#include <bindings.h>\n");
    for name in names {
        text += &format!(
            "#ifdef {name}\nstatic const unsigned long {PREFIX}{name} = {name};\n#endif\n"
        );
    }
    text
}
