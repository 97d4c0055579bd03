"""What the operating system tells of the processor."""

import os
from pathlib import Path

import pytest

from jobs.system import processor
from jobs.system.processor import Format16, cores, features, read_cpuinfo, units_for

X86 = "processor\t: 0\nflags\t\t: fpu sse2 avx512_bf16 amx_bf16 avx512_fp16\n\nprocessor\t: 1\nflags\t: fpu\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimdhp bf16\n"
MACOS = "hw.optional.arm.FEAT_BF16: 1\nhw.optional.arm.FEAT_FP16: 1\nhw.optional.arm.FEAT_SME2: 0\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (X86, {"fpu", "sse2", "avx512_bf16", "amx_bf16", "avx512_fp16"}),
        (ARM, {"fp", "asimd", "asimdhp", "bf16"}),
        ("processor : 0\n", set()),
        ("", set()),
    ],
)
def test_features_of_linux(text: str, expected: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    told = read_cpuinfo(path)
    monkeypatch.setattr(processor, "read_cpuinfo", lambda: told)
    monkeypatch.setattr(processor, "read_sysctl", lambda *_: "")
    assert features() == expected


def test_features_of_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "read_cpuinfo", dict)
    monkeypatch.setattr(processor, "read_sysctl", lambda *_: MACOS)
    assert features() == {"FEAT_BF16", "FEAT_FP16"}


def test_no_such_file(tmp_path: Path) -> None:
    assert read_cpuinfo(tmp_path / "cpuinfo") == {}


@pytest.mark.parametrize(
    ("form", "known", "expected"),
    [
        ("bfloat16", {"avx512_bf16", "avx512_fp16"}, {"avx512_bf16"}),
        ("bfloat16", {"avx2"}, set()),
        ("float16", {"amx_fp16", "avx512_fp16", "fpu"}, {"amx_fp16", "avx512_fp16"}),
        ("float16", {"avx512_bf16", "f16c"}, set()),
        ("float16", {"asimdhp"}, {"asimdhp"}),
        ("bfloat16", {"FEAT_BF16"}, {"FEAT_BF16"}),
    ],
)
def test_units(form: Format16, known: set[str], expected: set[str]) -> None:
    assert units_for(form, frozenset(known)) == expected


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("", {}, 8),
        ("0::/job", {"job/cpu.max": "max 100000"}, 8),
        ("0::/job", {"job/cpu.max": "400000 100000"}, 4),
        ("0::/job/step", {"job/cpu.max": "350000 100000", "job/step/cpu.max": "max 100000"}, 3),
        ("0::/docker/0123", {"cpu.max": "50000 100000"}, 1),
        ("0::/job", {"job/cpu.max": "6400000 100000"}, 8),
        ("0::/job", {"job/cpu.max": "many"}, 8),
        ("4:cpu,cpuacct:/job", {"cpu/job/cpu.cfs_quota_us": "200000", "cpu/job/cpu.cfs_period_us": "100000"}, 2),
        ("4:cpu,cpuacct:/job", {"cpu/job/cpu.cfs_quota_us": "-1", "cpu/job/cpu.cfs_period_us": "100000"}, 8),
        ("5:memory:/job", {"job/cpu.max": "200000 100000"}, 8),
    ],
)
def test_cores_that_a_container_or_job_leaves(
    groups: str, files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for name, text in {
        "proc/self/cgroup": groups,
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="ascii")
    assert cores(tmp_path) == expected
