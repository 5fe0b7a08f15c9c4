// SPDX-License-Identifier: GPL-2.0

//! Finds the pure files of the kernel module, and makes the host's `crate::bindings` with bindgen,
//! from headers of the kernel tree.

use std::{
    collections::BTreeMap,
    env,
    fmt::Write,
    fs,
    path::{
        Path,
        PathBuf, //
    },
    process::Command, //
};

/// The prefix that marks a constant made from a macro; as in Kbuild.
const PREFIX: &str = "RUST_CONST_HELPER_";

/// The kernel module's source.
const RUST: &str = "../../rust";

/// The second line of a pure file.
const PURE: &str = "// Pure: ";

/// A folder that is not for loom: the other party of its atomics is no thread of ours.
const NOT_FOR_LOOM: &str = "nacl";

/// What a pure file may name and does not look into.
const STAND_INS: [(&str, &str); 1] = [(
    "kvm_core::object",
    "pub(crate) struct Vcpu; pub(crate) struct HeldVcpu<'a>(pub(crate) &'a Vcpu);",
)];

/// The list of such constants that the kernel module uses.
const HELPER: &str = "../../rust/bindings_helper.h";

/// What a kernel before the newest lacks.
const COMPAT: &str = "../../rust/include/kvm_compat.h";

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
    println!("cargo::rerun-if-changed={COMPAT}");
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
    write_version_header(&tree, &generic.join("linux"));
    let names = helper_constants();
    let header = out.join("bindings.h");
    fs::write(&header, helper_header(&names)).expect("OUT_DIR is writable");
    let bindings = typed_constants(&bindgen(&tree, &generic, &header, &names));
    fs::write(out.join("bindings.rs"), bindings).expect("OUT_DIR is writable");
    fs::write(out.join("tree.rs"), pure_tree()).expect("OUT_DIR is writable");
}

/// A module of the tree: those below it, and what is in it, unless it is a file.
#[derive(Default)]
struct Module {
    below: BTreeMap<String, Module>,
    content: String,
    is_file: bool,
}

impl Module {
    /// Returns the module at `path` below this one. A pure file declares those below itself.
    fn at(&mut self, path: &[String]) -> &mut Module {
        match path {
            [name, rest @ ..] => self.below.entry(name.clone()).or_default().at(rest),
            [] => self,
        }
    }

    /// Writes the declarations of the modules below.
    fn declare(&self, text: &mut String) {
        for (name, module) in &self.below {
            if name == NOT_FOR_LOOM {
                *text += "#[cfg(not(loom))]\n";
            }
            if module.is_file {
                writeln!(text, "pub(crate) mod {name};").expect("a String takes all");
            } else {
                writeln!(text, "pub(crate) mod {name} {{").expect("a String takes all");
                *text += &module.content;
                module.declare(text);
                *text += "}\n";
            }
        }
    }
}

/// Declares the pure files, each at its path in the kernel module.
fn pure_tree() -> String {
    println!("cargo::rerun-if-changed={RUST}");
    let rust = fs::canonicalize(RUST).expect("the kernel module is beside us");
    let mut root = Module::default();
    find_pure(&rust, &mut Vec::new(), &mut root);
    for (path, content) in STAND_INS {
        let path: Vec<_> = path.split("::").map(String::from).collect();
        root.at(&path).content = content.into();
    }
    let mut text = format!(
        "#[allow(dead_code, unused_imports)]\n#[path = {:?}]\nmod tree {{\n",
        rust.display()
    );
    root.declare(&mut text);
    text += "}\n";
    for name in root.below.keys() {
        // Not all of them have anything for loom.
        let line = format!("#[cfg_attr(loom, allow(unused_imports))]\nuse tree::{name};\n");
        text += &line;
    }
    text
}

/// Enters the pure files of `dir`, which is at `path`, into the tree.
fn find_pure(dir: &Path, path: &mut Vec<String>, root: &mut Module) {
    for entry in fs::read_dir(dir).expect("a folder").flatten() {
        let file = entry.path();
        let name = file.file_stem().expect("it has a name").to_string_lossy();
        path.push(name.into_owned());
        if file.is_dir() {
            find_pure(&file, path, root);
        } else if file.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&file).expect("a source file");
            if text
                .lines()
                .nth(1)
                .is_some_and(|line| line.starts_with(PURE))
            {
                root.at(path).is_file = true;
            }
        }
        path.pop();
    }
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

/// Writes `<linux/version.h>`, which the kernel's build makes of its Makefile.
fn write_version_header(tree: &Path, linux: &Path) {
    let makefile = fs::read_to_string(tree.join("Makefile")).expect("a kernel tree");
    let number = |name: &str| {
        let line = makefile.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim_start_matches([' ', '=']).parse::<u32>().ok())
            .expect("the kernel's Makefile has its version")
    };
    let (version, level) = (number("VERSION ="), number("PATCHLEVEL ="));
    let text = format!(
        "#define LINUX_VERSION_CODE KERNEL_VERSION({version}, {level}, 0)\n\
         #define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))\n"
    );
    fs::create_dir_all(linux).expect("OUT_DIR is writable");
    fs::write(linux.join("version.h"), text).expect("OUT_DIR is writable");
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
    let compat = fs::canonicalize(COMPAT).expect("the kernel module is beside us");
    let mut text = format!("#include {:?}\n#include <bindings.h>\n", compat.display());
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
