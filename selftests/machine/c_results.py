# SPDX-License-Identifier: GPL-2.0
"""What the C module does, run once for each kernel, program, arguments and CPU,
and remembered beside the kernel: neither it nor the program changes with our
module."""

import hashlib
import json
from collections.abc import Callable

from kvmlab.machine import CPUS


def remembered(lab, program: str, arguments: str, cpu: str, run: Callable[[], dict],
               is_plausible: Callable[[dict], bool] = lambda _: True) -> dict:
    """The result of `run`, or what it was when it last ran. One that is not plausible is not kept."""
    memory = lab.image.build.parent / "c-results.json"
    known = json.loads(memory.read_text()) if memory.exists() else {}
    digest = hashlib.sha256(lab.image.programs[program].read_bytes()).hexdigest()[:16]
    key = f"{program} {arguments} {digest} {CPUS[cpu]}"
    if key in known:
        return known[key]
    result = run()
    if is_plausible(result):
        memory.write_text(json.dumps(known | {key: result}, indent=1))
    return result
