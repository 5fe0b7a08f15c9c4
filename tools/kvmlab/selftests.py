# SPDX-License-Identifier: GPL-2.0
"""The selftest programs of a machine: the kernel's and ours."""

from pathlib import Path

from .paths import tool


def build_selftests() -> dict[str, Path]:
    """Builds them; "upstream/NAME" and "ours/NAME" -> file."""
    out = Path(tool("selftests"))
    return {f"{d}/{p.name}": p for d in ("upstream", "ours")
            for p in sorted((out / d).iterdir()) if p.suffix not in (".d", ".full")}
