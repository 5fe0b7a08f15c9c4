# SPDX-License-Identifier: GPL-2.0
"""The proving ground: machines under QEMU, what is in them, what runs on them.

Used by tools/vm, tools/run and the tests of selftests/machine, always inside
the toolchain root (see `enter_root`).
"""
