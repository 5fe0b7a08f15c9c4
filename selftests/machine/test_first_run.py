# SPDX-License-Identifier: GPL-2.0
"""What a newcomer's first run meets: where the kernel's source comes from, what is said
when it comes from nowhere, and how far a step is. Archives are directories here, so
that no test needs a network."""

import hashlib
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from kvmlab.paths import TOOLS, TOP, tool_shell

SUITES = ["trixie-backports", "testing", "unstable", "experimental"]


def make_tree(path: Path, version: str) -> Path:
    """The little of a kernel's source that is looked at."""
    (path / "virt/kvm").mkdir(parents=True)
    (path / "virt/kvm/kvm_main.c").touch()
    major, minor = version.split(".")
    (path / "Makefile").write_text(f"VERSION = {major}\nPATCHLEVEL = {minor}\nSUBLEVEL = 0\n")
    return path


def make_tarball(path: Path, version: str) -> Path:
    with tarfile.open(path, "w:xz") as tar:
        tar.add(make_tree(path.with_suffix(".tree"), version), "linux-source")
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_archive(path: Path, suite: str) -> None:
    """A Debian archive with linux-source-7.3 in one suite; the others are empty."""
    pool = path / "pool"
    package = path / "package"
    (package / "DEBIAN").mkdir(parents=True)
    (package / "usr/src").mkdir(parents=True)
    pool.mkdir()
    control = "Package: linux-source-7.3\nVersion: 7.3.9-1\nArchitecture: all\nMaintainer: nobody\nDescription: none\n"
    (package / "DEBIAN/control").write_text(control)
    make_tarball(package / "usr/src/linux-source-7.3.tar.xz", "7.3")
    deb = pool / "linux-source-7.3_7.3.9-1_all.deb"
    subprocess.run(["dpkg-deb", "-b", package, deb], check=True, capture_output=True)
    for each in SUITES:
        index = path / "dists" / each / "main/binary-amd64/Packages"
        index.parent.mkdir(parents=True)
        index.write_text(f"{control}Filename: pool/{deb.name}\nSize: {deb.stat().st_size}\n"
                         f"SHA256: {sha256(deb)}\n" if each == suite else "")


def source(cache: Path, **env: str) -> subprocess.CompletedProcess:
    """Runs tools/kernel --source with a cache of its own."""
    clean = {k: v for k, v in os.environ.items() if k not in ("KDIR", "KSRC", "LINUX", "DEB_SUITE", "MIRROR")}
    return subprocess.run([TOOLS / "kernel", "--source"], cwd=TOP, env={**clean, "XDG_CACHE_HOME": str(cache), **env},
                          capture_output=True, text=True, timeout=600)


def has_source(done: subprocess.CompletedProcess) -> None:
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[-1], "virt/kvm/kvm_main.c").exists()


def refuses(done: subprocess.CompletedProcess, sentence: str) -> None:
    assert done.returncode == 1, done.stderr
    assert sentence in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("suite", [SUITES[0], SUITES[2]])
def test_source_comes_from_the_first_suite_that_has_it(tmp_path, suite):
    make_archive(tmp_path / "archive", suite)
    done = source(tmp_path / "cache", MIRROR=f"[trusted=yes] file://{tmp_path}/archive")
    has_source(done)
    assert f"fetch linux-source-7.3 from {suite}" in done.stderr
    assert done.stdout.splitlines()[-1].endswith("linux-7.3.9-1")


def test_no_suite_has_the_source(tmp_path):
    make_archive(tmp_path / "archive", "none")
    done = source(tmp_path / "cache", MIRROR=f"[trusted=yes] file://{tmp_path}/archive")
    refuses(done, "DEB_SUITE=")
    for word in [*SUITES, "MIRROR=", "LINUX_TARBALL=", "LINUX_SHA256=", "KSRC="]:
        assert word in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("prefix", ["", "file://"], ids=["file", "url"])
def test_source_comes_from_a_tarball(tmp_path, prefix):
    tarball = make_tarball(tmp_path / "linux.tar.xz", "7.3")
    has_source(source(tmp_path / "cache", LINUX_TARBALL=f"{prefix}{tarball}", LINUX_SHA256=sha256(tarball)))


def test_tarball_is_refused(tmp_path):
    tarball = make_tarball(tmp_path / "linux.tar.xz", "7.3")
    other = make_tarball(tmp_path / "other.tar.xz", "7.2")
    cache, good = tmp_path / "cache", sha256(tarball)
    refuses(source(cache, LINUX_TARBALL=str(tarball)), "needs LINUX_SHA256=")
    refuses(source(cache, LINUX_TARBALL=str(tarball), LINUX_SHA256=sha256(other)), f"has the SHA-256 checksum {good}")
    refuses(source(cache, LINUX_TARBALL=str(other), LINUX_SHA256=sha256(other)), "has Linux 7.2, not 7.3")
    refuses(source(cache, LINUX_TARBALL=str(tmp_path / "none"), LINUX_SHA256=good), "is no file")
    # What was refused is not in the way.
    has_source(source(cache, LINUX_TARBALL=str(tarball), LINUX_SHA256=good))


@pytest.mark.parametrize("seconds, done, told", [
    (10, 20, "1%"),
    (60, 430, "25%, about 180s more"),
    # A build that prints more than was expected.
    (100, 2000, "99%, about 1s more"),
])
def test_progress_tells_how_far_and_how_long(seconds, done, told):
    assert tool_shell('progress "$@"', str(seconds), str(done), "1720") == told
