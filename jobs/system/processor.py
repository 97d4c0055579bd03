"""This machine's processor, as the operating system describes it. No torch."""

import os
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from jobs.system.control_groups import control_groups

Format16 = Literal["bfloat16", "float16"]

_UNITS: Mapping[Format16, frozenset[str]] = {
    "bfloat16": frozenset({"avx512_bf16", "amx_bf16", "bf16", "FEAT_BF16"}),
    "float16": frozenset({"avx512_fp16", "amx_fp16", "asimdhp", "FEAT_FP16"}),
}
"""Features of x86 and ARM processors that compute products in a format, by their names in Linux or macOS."""


def read_cpuinfo(path: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """Return the fields of the first processor in ``/proc/cpuinfo``; empty on other systems than Linux."""
    try:
        first = path.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def read_sysctl(*arguments: str) -> str:
    """Return the output of macOS' ``sysctl``; empty on other systems."""
    if platform.system() != "Darwin":
        return ""
    command = ["/usr/sbin/sysctl", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def cpu_name(told: Mapping[str, str]) -> str:
    """Return a readable name of a processor: model, vendor and family.

    Args:
        told: result of ``read_cpuinfo``.
    """
    machine = platform.processor() or platform.machine()
    if "cpu family" in told:
        model = re.sub(r"\((R|TM)\)|@.*", " ", told.get("model name", machine))
        parts = (told.get("vendor_id", "?"), "family", told["cpu family"], "model", told.get("model", "?"))
        name = f"{model} ({' '.join(parts)})"
    elif "CPU part" in told:
        name = f"{machine} (implementer {told.get('CPU implementer', '?')} part {told['CPU part']})"
    else:
        name = read_sysctl("-n", "machdep.cpu.brand_string") or machine
    return " ".join(name.replace("->", "-").split())  # "->" stands between device kinds


def cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may use, at least 1: the minimum over those that it may run on and the quotas
    of its control groups (of a container or batch job), rounded down.

    Args:
        root: the parent directory of ``proc`` and ``sys``.
    """
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([own, *_quotas(root)]))


def _quotas(root: Path) -> Iterator[int]:
    """Yield the processor time of each control group that has a limit, in whole cores."""
    for version, directory in control_groups("cpu", root):
        names = ("cpu.max",) if version == 2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        with suppress(OSError, ValueError):  # no such group here, or no limit ("max")
            quota, period = " ".join((directory / name).read_text("ascii") for name in names).split()
            if int(quota) > 0 and int(period) > 0:  # a quota of -1 is none
                yield int(quota) // int(period)


def features() -> frozenset[str]:
    """Return the names of the processor's features; empty if the operating system tells none."""
    cpuinfo = read_cpuinfo()
    listed = cpuinfo.get("flags") or cpuinfo.get("Features")
    if listed is not None:
        return frozenset(listed.split())
    return frozenset(re.findall(r"^hw\.optional\.arm\.(\w+): 1$", read_sysctl("hw.optional.arm"), re.MULTILINE))


def units_for(form: Format16, known: frozenset[str]) -> frozenset[str]:
    """Return the features among ``known`` that compute products in a format; empty: the processor emulates them."""
    return _UNITS[form] & known
