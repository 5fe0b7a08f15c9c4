# SPDX-License-Identifier: GPL-2.0
"""Where things live, and the way into the toolchain root."""

import os
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
TOOLS = TOP / "tools"
LOGS = TOP / "build" / "log"


def cache() -> Path:
    """The directory that lib.sh calls CACHE."""
    return Path(tool_shell('printf %s "$CACHE"'))


def in_root() -> bool:
    return "KVM_RISCV_RS_IN_ROOT" in os.environ


def enter_root() -> None:
    """Starts the running program again inside the toolchain root."""
    if not in_root():
        argv = [str(TOOLS / "toolchain"), "--run", "python3", *sys.argv]
        argv[3] = str(Path(sys.argv[0]).resolve())
        os.execv(argv[0], argv)


def tool_shell(script: str, *args: str) -> str:
    """Runs a bash fragment with lib.sh loaded; returns what it prints."""
    argv = ["bash", "-c", f'. "{TOOLS}/lib.sh"; {script}', "kvmlab", *args]
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout


def step(what: str, *argv: str) -> None:
    """Runs a command with progress as lib.sh's step does; exits if it fails."""
    try:
        tool_shell('step "$@"', what, *argv)
    except subprocess.CalledProcessError as e:
        sys.exit(e.returncode)


def tool(name: str, *args: str) -> str:
    """Runs one of our tools; returns the last line that it prints."""
    try:
        out = subprocess.run([str(TOOLS / name), *args], check=True, stdout=subprocess.PIPE, text=True).stdout
    except subprocess.CalledProcessError as e:
        sys.exit(e.returncode)
    return out.strip().rpartition("\n")[2]


def build_module(flavour: str = "") -> None:
    """Our kvm.ko, up to date. Outside the root: a user's KDIR has its own tools."""
    # Its steps, which may take minutes, are to be seen.
    tool("kernel", *([f"--{flavour}"] if flavour else []))
    step("kvm.ko", "make", "-C", str(TOP), "module", *([f"{flavour.upper()}=1"] if flavour else []))
