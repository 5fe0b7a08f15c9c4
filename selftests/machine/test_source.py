# SPDX-License-Identifier: GPL-2.0
"""What needs no machine: formatting, lints, host tests, the build's refusals."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kvmlab.machine import CPUS
from kvmlab.paths import TOP, tool

HOST = TOP / "selftests/host"
MINUTES = 60
GOOD = ["CONFIG_RISCV=y", "CONFIG_64BIT=y", "CONFIG_CC_IS_CLANG=y", "CONFIG_RUST=y", "CONFIG_KVM=m"]


def succeeds(*argv: str, cwd: Path = TOP, timeout: int = 60 * MINUTES, **env: str) -> str:
    """Runs a program; its output is the message if it fails."""
    done = subprocess.run(argv, cwd=cwd, env={**os.environ, **env}, timeout=timeout,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout[-6000:]}"
    return done.stdout


def test_rust_is_formatted():
    succeeds("make", "-s", "fmt-check")


def test_clippy_is_silent():
    succeeds("make", "clippy")


@pytest.mark.parametrize("group", ["literals", "names", "types"])
def test_safe_code_cannot_break_the_rules(group):
    """rustc refuses each line of selftests/misuse that says so, and for that reason."""
    source = TOP / f"selftests/misuse/{group}.rs"
    build = TOP / "build/kbuild"
    command = (build / "rust/.kvm.bc.cmd").read_text()
    command = re.sub(r"--emit=\S+", "", re.search(r"^savedcmd_\S+ := (.*)$", command, re.M)[1])
    done = subprocess.run(
        [TOP / "tools/toolchain", "--run", "env", "RUSTC_BOOTSTRAP=1", f"KVM_RUST_OBJ={build}/rust", "sh", "-c",
         f"{command} --emit=metadata=/dev/null --error-format=json --cfg 'kvm_rs_misuse=\"{group}\"'"],
        cwd=build, stderr=subprocess.PIPE, text=True, timeout=MINUTES * 60)
    messages = [json.loads(line) for line in done.stderr.splitlines()]
    refused = {(span["file_name"].rpartition("/")[2], span["line_start"],
                message["code"]["code"] if message["code"] else message["message"])
               for message in messages if message["level"] == "error"
               for span in message["spans"] if span["is_primary"]}
    assert refused == {(source.name, number, line.partition("//~ ")[2])
                       for number, line in enumerate(source.read_text().splitlines(), 1) if " //~ " in line}


def test_documentation_builds_without_a_warning():
    succeeds("make", "htmldocs")


def test_docs_of_the_code_have_no_broken_link():
    succeeds("make", "rustdoc")


# A link of a page, and what it names of the tree in double backquotes: a file, or a folder with a slash.
LINK = re.compile(r"`[^`<]*<([^>:#]+)>`_|\]\(([^):#]+)\)")
NAMED = re.compile(r"``((?!Documentation/virt/)(?:rust|tools|selftests|Documentation|\.ci)/[\w./-]+)``")


def missing_in(page: Path, text: str) -> list[str]:
    """The links and files of a page that lead nowhere."""
    links = [page.parent / (rst or md) for rst, md in LINK.findall(text)]
    return sorted({str(path) for path in [*links, *(TOP / name for name in NAMED.findall(text))] if not path.exists()})


def test_links_and_files_of_the_documentation_are_there():
    pages = [TOP / "README.md", *(TOP / "Documentation").glob("*.rst")]
    assert len(pages) > 5
    assert [missing for page in pages for missing in missing_in(page, page.read_text())] == []


@pytest.mark.parametrize("text", [
    "`here <nothing.rst>`_", "[here](nothing.md)", "``tools/nothing``", "``rust/no/such.rs``"])
def test_a_link_that_leads_nowhere_is_seen(text):
    page = TOP / "Documentation/index.rst"
    assert len(missing_in(page, text)) == 1
    assert missing_in(page, "`here <index.rst>`_ [here](uapi.rst) ``tools/test``") == []


def test_documentation_says_what_the_tests_run_with():
    """The table of testing.rst, by the versions that there are and the CPUs that kvmlab has."""
    text = (TOP / "Documentation/testing.rst").read_text()
    table = text.partition("What the tests run with:")[2].partition("fails a test")[0]
    assert set(re.findall(r"``([\w-]+)``", table)) == set(CPUS)
    for program, pattern in [
            ("rustc", r"rustc ([\d.]+)\.\d"), ("clang", r"version (\d+)"), ("bindgen", r"bindgen ([\d.]+)\.\d")]:
        version = re.search(pattern, succeeds(TOP / "tools/toolchain", "--run", program, "--version"))[1]
        assert f"{program} {version}" in table
    kernel = (TOP / "tools/kernel").read_text()
    assert f"Linux        {re.search(r'LINUX:-([0-9.]+)', kernel)[1]};" in table


def test_each_file_has_a_test():
    succeeds("tools/tests-of", "--check")
    assert "selftests/kvm/vector_test.c" in succeeds("tools/tests-of", "rust/arch/vector.rs")
    assert "selftests/host/src/tests/gstage/runs.rs" in succeeds("tools/tests-of", "gstage/napot.rs")


def test_helpers_are_called():
    helpers = set(re.findall(r"\brust_helper_(\w+)", (TOP / "rust/helpers/helpers.c").read_text()))
    called = {word for path in (TOP / "rust").rglob("*.rs") for word in re.findall(r"\w+", path.read_text())}
    assert helpers
    assert sorted(helpers - called) == []


def test_licence_has_one_spelling():
    """In each file that has a place for it, but what is exported to userspace says more."""
    files = [path for part in ("rust", "selftests", "tools", "Documentation") for path in (TOP / part).rglob("*")
             if path.suffix in {".rs", ".c", ".h", ".py", ".sh", ".rst"} and "target" not in path.parts]
    said = {str(path): re.findall(r"SPDX-License-Identifier: (.*?)(?: \*/)?$", path.read_text(), re.M)[:1]
            for path in files}
    assert files
    assert {path: ids for path, ids in said.items() if ids != ["GPL-2.0"] and "/uapi/" not in path} == {}


def test_module_builds_without_bitcode():
    """What a compiler pair with two LLVMs gets: the helpers as an object."""
    succeeds("make", "module", "PLAIN=1")
    symbols = succeeds("llvm-nm", "build/kbuild-plain/kvm.ko")
    assert "rust_helper_" in symbols


# Configurations that the module must build for, beside those of the machines. The first has least.
VARIANTS = sorted((path.stem for path in (TOP / "tools/variants").glob("*.config")),
                  key=lambda name: (name != "minimal", name))


def pytest_generate_tests(metafunc):
    if "variant" in metafunc.fixturenames:
        full = metafunc.config.getoption("--full")
        metafunc.parametrize("variant", VARIANTS if full else VARIANTS[:1])


def test_module_builds_for_variant(full, variant):
    """Such a kernel is only prepared for modules, which takes two minutes once."""
    for plain in ["", "1"] if full else [""]:
        succeeds("make", "module", f"VARIANT={variant}", f"PLAIN={plain}")


def check_frames(*argv: str) -> list[str]:
    """The functions with large stack frames, as `NAME BYTES`."""
    done = subprocess.run([TOP / "tools/check-frames", *argv], capture_output=True, text=True)
    found = re.findall(r": (.*) has a stack frame of (\d+) bytes", done.stderr)
    assert done.returncode == bool(found), done.stderr
    return [" ".join(each) for each in found]


@pytest.mark.parametrize("flavour", ["kbuild", "kbuild-plain"])
def test_stack_frames_were_checked(flavour):
    """Each build looks at the frames of the Rust code; the limit is a sixteenth of the stack."""
    succeeds("make", "module", *(["PLAIN=1"] if "plain" in flavour else []))
    rust = TOP / "build" / flavour / "rust"
    assert (rust / "kvm.frames").stat().st_mtime >= (rust / "kvm.o").stat().st_mtime
    assert check_frames(rust / "kvm.o") == []
    # The module's own functions are there, with their names.
    assert any(name.startswith("kvm::") for name in check_frames(rust / "kvm.o", "200"))


def test_check_frames_agrees_with_the_compiler(tmp_path):
    """Of functions that need from a few bytes to more than one instruction can take."""
    sizes = [8, 900, 1000, 1100, 2000, 2100, 4000, 4096, 5000, 70000, 1 << 20]
    source = tmp_path / "frames.c"
    source.write_text("void use(char *);\n" + "\n".join(
        f"void uses_{size}(void) {{ char it[{size}]; use(it); }}" for size in sizes))
    succeeds("clang", "--target=riscv64-linux-gnu", "-O2", "-c", "-fstack-usage", source.name, cwd=tmp_path)
    told = [line.split("\t")[:2] for line in (tmp_path / "frames.su").read_text().splitlines()]
    frames = {where.split(":")[-1]: int(size) for where, size in told}
    assert len(frames) == len(sizes)
    for limit in [0, 512, 1024, *frames.values()]:
        large = sorted((item for item in frames.items() if item[1] > limit), key=lambda item: -item[1])
        assert check_frames(tmp_path / "frames.o", str(limit)) == [f"{name} {size}" for name, size in large]


def test_check_frames_refuses_what_has_no_code(tmp_path):
    (tmp_path / "empty.c").touch()
    succeeds("clang", "--target=riscv64-linux-gnu", "-c", "empty.c", cwd=tmp_path)
    done = subprocess.run([TOP / "tools/check-frames", tmp_path / "empty.o"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "no function was found" in done.stderr


def test_shell_scripts_are_clean():
    scripts = [p for d in ("tools", "tools/kvmlab", ".ci") for p in sorted((TOP / d).iterdir())
               if p.is_file() and (p.suffix == ".sh" or b"sh\n" in p.read_bytes().split(b"\n", 1)[0] + b"\n")]
    assert len(scripts) > 5
    succeeds("shellcheck", "-x", "-P", "tools", *map(str, scripts))


def test_no_file_imports_from_above():
    succeeds("tools/check-layers")


def test_check_layers_sees_each_fault(tmp_path):
    """In a copy of the tree with one fault of each kind, and nothing else."""
    copy = tmp_path / "tree"
    for part in ("rust", "tools"):
        shutil.copytree(TOP / part, copy / part)

    def add(path: str, text: str) -> None:
        file = copy / "rust" / path
        file.write_text(file.read_text().replace("\nuse ", f"\n{text}use ", 1))

    add("arch/csr.rs", "use crate::run::exit;\n")
    add("sbi/base.rs", "fn loads(vcpu: &Vcpu) { vcpu.imsic(); }\n")
    add("kernel_ext/cpu.rs", "use crate::kernel_ext::sched;\n")
    add("kernel_ext/sched.rs", "use crate::kernel_ext::cpu;\n")
    add("isa/set.rs", "use crate::kernel_ext::uaccess;\n")
    done = subprocess.run([copy / "tools/check-layers"], capture_output=True, text=True)
    found = [line.partition(": ")[2] for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert found[:-1] == [
        "imports run::exit, which is not below it",
        "calls imsic(), which is of aia, and that is not below it",
        "a circle of kernel_ext::cpu, kernel_ext::sched",
        "is pure, but imports kernel_ext::uaccess",
    ]


def test_comments_are_sentences():
    succeeds("tools/check-prose")


def test_check_prose_sees_each_fault(tmp_path):
    """And no other, in a tree of one file, which has none without it."""
    cases = [
        ("", None),
        ("pub(crate) fn odd() {}", "fn odd has no doc"),
        ("pub(crate) struct Odd;", "struct Odd has no doc"),
        ("const ODD: u32 = 1;", "const ODD has no doc"),
        ("static ODD: u32 = 1;", "static ODD has no doc"),
        ("/// A type.\npub(crate) struct Odd {\n    odd: u32,\n}", "field odd has no doc"),
        ("/// A type.\npub(crate) enum Odd {\n    Odd,\n}", "variant Odd has no doc"),
        ("/// Something odd\nconst ODD: u32 = 1;", "const ODD its doc begins with no sentence"),
        ("/// # Safety\n///\n/// There is none.\nunsafe fn odd() {}", "fn odd its doc begins with no sentence"),
        ("/// The odd one.\nfn odd() {}", "fn odd its doc does not begin with a verb"),
        ("/// Entries that are odd.\nfn odd() {}", "fn odd its doc does not begin with a verb"),
        ("/// The same for two.\nconst ODD: u32 = 2;", "const ODD its doc only refers to another"),
        ("/// Asks.\npub(crate) fn odd() -> Result<u32> {\n    Err(EINVAL)\n}", "fn odd has no `# Errors`"),
        ("// SAFETY: it is odd.", "begins with a small letter, or has no full stop: it is odd."),
        ("// SAFETY: It is odd", "begins with a small letter, or has no full stop: It is odd"),
        ("// SAFETY: See above.", "states no fact: See above."),
        ("// INVARIANT: As the caller promises.", "states no fact: As the caller promises."),
        ("// Nobody may touch it.", "“Nobody” is no name of an actor"),
        ("// It is kept for\n// others.", "“for others” is no name of an actor"),
        ("// It is the page; none if there is no slot.", "“none if” is no value: write [`None`]"),
        ("// It is odd (c-review D1).", "“c-review” is not in the tree"),
        ("// It is odd (issue 7).", "“issue 7” is not in the tree"),
        (f"// {'odd ' * 24}line.", "is longer than 100 characters"),
        ("// See `arch/odd.rs`.", "“arch/odd.rs” is not in the tree"),
    ]
    (tmp_path / "tools").mkdir()
    (tmp_path / "rust").mkdir()
    shutil.copy(TOP / "tools/check-prose", tmp_path / "tools")
    for text, fault in cases:
        (tmp_path / "rust/one.rs").write_text(f"//! A file.\n\n/// Asks.\npub(crate) fn good() {{}}\n\n{text}\n")
        done = subprocess.run([tmp_path / "tools/check-prose"], capture_output=True, text=True)
        found = [re.sub(r"^rust/one.rs:\d+: ", "", line) for line in done.stdout.splitlines()[:-1]]
        assert found == ([fault] if fault else []), text
        assert done.returncode == bool(fault), done.stderr


def test_porting_map_names_every_function():
    succeeds("tools/check-porting-map", tool("kernel", "--source"))


def cargo_test(*args: str, **env: str) -> None:
    """Runs tests of the host crate; none found is a failure, too."""
    output = succeeds("cargo", "test", "-q", *args, cwd=HOST, KVM_KERNEL_SRC=tool("kernel", "--source"), **env)
    assert sum(map(int, re.findall(r"(\d+) passed", output))) > 0, output


def test_host_crate():
    cargo_test()


def test_host_crate_under_loom():
    cargo_test("--release", "loom", RUSTFLAGS="--cfg loom", CARGO_TARGET_DIR=str(TOP / "build/loom"))


def test_rust_analyzer_knows_the_crate():
    succeeds("make", "rust-analyzer")
    assert '"display_name": "kvm"' in (TOP / "rust-project.json").read_text()


@pytest.fixture
def kdir(tmp_path):
    """A directory that looks like a kernel our module can be built for."""
    (tmp_path / "virt/kvm").mkdir(parents=True)
    (tmp_path / "virt/kvm/kvm_main.c").touch()
    (tmp_path / "Module.symvers").touch()
    (tmp_path / "Makefile").write_text("VERSION = 7\nPATCHLEVEL = 3\n")
    (tmp_path / ".config").write_text("\n".join(GOOD) + "\n")
    return tmp_path


def check(kdir: Path) -> subprocess.CompletedProcess:
    return subprocess.run([TOP / "tools/check-kdir", kdir], capture_output=True, text=True)


def test_check_kdir_takes_a_good_kernel(kdir):
    assert check(kdir).returncode == 0
    assert check(Path(tool("kernel", "--path"))).returncode == 0


@pytest.mark.parametrize("version, level, code, sentence", [
    (7, 2, 0, ""),
    (7, 4, 0, "is Linux 7.4, which this tree does not know"),
    (8, 0, 0, "is Linux 8.0, which this tree does not know"),
    (7, 1, 1, "is Linux 7.1; this is KVM for Linux 7.2 and 7.3"),
    (6, 12, 1, "is Linux 6.12; this is KVM for Linux 7.2 and 7.3"),
    ("", "", 1, "no Makefile that tells the version"),
])
def test_check_kdir_knows_the_version(kdir, version, level, code, sentence):
    (kdir / "Makefile").write_text(f"VERSION = {version}\nPATCHLEVEL = {level}\n")
    done = check(kdir)
    assert done.returncode == code
    assert sentence in done.stderr
    assert bool(sentence) == bool(done.stderr)


@pytest.mark.parametrize("symbol, sentence", [
    ("CONFIG_RISCV=y", "another architecture"),
    ("CONFIG_64BIT=y", "another architecture"),
    ("CONFIG_CC_IS_CLANG=y", "not configured with clang"),
    ("CONFIG_RUST=y", "lacks CONFIG_RUST=y"),
    ("CONFIG_KVM=m", "lacks CONFIG_KVM=m"),
], ids=[line.partition("=")[0] for line in GOOD])
def test_check_kdir_refuses_a_config_without(kdir, symbol, sentence):
    config = kdir / ".config"
    config.write_text(config.read_text().replace(symbol, f"# {symbol[:-2]} is not set"))
    refused(kdir, sentence)


def test_check_kdir_refuses_trimmed_symbols(kdir):
    config = kdir / ".config"
    good = config.read_text()
    config.write_text(f'{good}CONFIG_TRIM_UNUSED_KSYMS=y\nCONFIG_UNUSED_KSYMS_WHITELIST=""\n')
    refused(kdir, "CONFIG_TRIM_UNUSED_KSYMS=y")
    # A list that names what we need is the user's business.
    config.write_text(f'{good}CONFIG_TRIM_UNUSED_KSYMS=y\nCONFIG_UNUSED_KSYMS_WHITELIST="kvm-needs"\n')
    assert check(kdir).returncode == 0


@pytest.mark.parametrize("missing, sentence", [
    (".config", "not a configured kernel"),
    ("virt/kvm/kvm_main.c", "a headers package is not enough"),
    ("Module.symvers", "not built yet"),
])
def test_check_kdir_refuses_a_tree_without(kdir, missing, sentence):
    (kdir / missing).unlink()
    refused(kdir, sentence)


def test_make_refuses_a_bad_kdir(kdir):
    (kdir / "virt/kvm/kvm_main.c").unlink()
    done = subprocess.run(["make", f"KDIR={kdir}", "LLVM=1"], cwd=TOP, capture_output=True, text=True)
    assert done.returncode != 0
    assert "a headers package is not enough" in done.stderr


def refused(kdir: Path, sentence: str) -> None:
    done = check(kdir)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
