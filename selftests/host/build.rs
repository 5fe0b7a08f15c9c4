// SPDX-License-Identifier: GPL-2.0

//! Makes the host's `crate::bindings` with bindgen, from headers of the kernel tree.

use std::{
    env,
    fs,
    path::{
        Path,
        PathBuf, //
    },
    process::Command, //
};

/// The prefix that marks a constant made from a macro; as in Kbuild.
const PREFIX: &str = "RUST_CONST_HELPER_";

/// The list of such constants that the kernel module uses.
const HELPER: &str = "../../rust/bindings_helper.h";

/// Of the kernel's configuration, what the pure modules and the headers ask for. What is absent
/// is off.
const CONFIG: [&str; 4] = [
    "CONFIG_64BIT",
    "CONFIG_DEBUG_FS",
    "CONFIG_RISCV_SBI",
    "CONFIG_RISCV_SBI_V01",
];

/// Where the tree has the headers that need no configured kernel, and where those are that may.
const UAPI: [&str; 2] = ["arch/riscv/include/uapi", "include/uapi"];
const KERNEL: &str = "arch/riscv/include";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=include");
    println!("cargo::rerun-if-changed={HELPER}");
    // The build script of `kernel` says so, and checks KVM_KERNEL_SRC.
    let tree = PathBuf::from(env::var_os("DEP_KERNEL_TREE").expect("`kernel` tells"));
    for dir in UAPI.into_iter().chain([KERNEL]) {
        println!("cargo::rerun-if-changed={}", tree.join(dir).display());
    }
    for symbol in CONFIG {
        println!("cargo::rustc-cfg={symbol}");
        println!("cargo::rustc-check-cfg=cfg({symbol})");
    }

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let generic = out.join("include");
    wrap_generic_headers(&tree, &generic.join("asm"));
    let names = helper_constants();
    let header = out.join("bindings.h");
    fs::write(&header, helper_header(&names)).expect("OUT_DIR is writable");
    let bindings = typed_constants(&bindgen(&tree, &generic, &header, &names));
    fs::write(out.join("bindings.rs"), bindings).expect("OUT_DIR is writable");
}

/// What bindgen makes of `header`.
fn bindgen(tree: &Path, generic: &Path, header: &Path, names: &[String]) -> String {
    let include = env::current_dir().expect("cargo sets it").join("include");
    let done = Command::new("bindgen")
        .arg(header)
        .args(["--use-core", "--no-layout-tests", "--no-doc-comments"])
        .args(["--ctypes-prefix", "ffi", "--rust-target", "1.85"])
        .arg("--ignore-functions")
        // What bindgen makes of the macro itself may have another type.
        .args(names.iter().flat_map(|name| ["--blocklist-item", name]))
        .args(["--", "--target=riscv64-linux-gnu", "-nostdinc"])
        .arg("-D__EXPORTED_HEADERS__")
        .args(CONFIG.map(|symbol| format!("-D{symbol}")))
        .args([Path::new("-I"), &include])
        .args(UAPI.map(|dir| format!("-I{}", tree.join(dir).display())))
        .args([Path::new("-I"), generic])
        // Behind the rest: only what needs no configured kernel is found here.
        .args([Path::new("-idirafter"), &tree.join(KERNEL)])
        .output()
        .expect("bindgen is installed (tools/toolchain has it)");
    assert!(
        done.status.success(),
        "bindgen: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8(done.stdout).expect("bindgen writes UTF-8")
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
        .expect("the kernel module is beside us")
        .lines()
        .filter_map(|line| line.strip_prefix("C(")?.strip_suffix(");"))
        .map(String::from)
        .collect()
}

/// A header with those `names` that `include/bindings.h` leads to, as [`HELPER`] defines them.
fn helper_header(names: &[String]) -> String {
    let mut text = String::from("#include <bindings.h>\n");
    for name in names {
        text += &format!("#ifdef {name}\nconst long {PREFIX}{name} = (long)({name});\n#endif\n");
    }
    text
}

/// Gives the constants of [`helper_header`] the name and the type that Kbuild gives them.
fn typed_constants(bindings: &str) -> String {
    let mut text = String::new();
    for line in bindings.lines() {
        let constant = line
            .strip_prefix("pub const ")
            .and_then(|rest| rest.strip_prefix(PREFIX)?.split_once(": ffi::c_long = "))
            .and_then(|(name, rest)| Some((name, rest.strip_suffix(';')?)));
        match constant {
            Some((name, value)) => {
                text += &format!("pub const {name}: usize = {value}i64 as usize;\n");
            }
            None => text += &format!("{line}\n"),
        }
    }
    assert!(!text.contains(PREFIX), "bindgen made no constant of one");
    text
}
