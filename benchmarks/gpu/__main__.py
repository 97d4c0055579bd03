"""What a GPU does with trials: equal bits, speed in each format, bundles, shared cards, memory. Under six minutes.

Trials of ResNet-50 with random weights and made images; no network, no Ray, and no files but temporary ones. Rows are
those of other benchmarks, and go to a JSON file with the GPU's name, each as soon as it is measured. What cannot be
measured is named with the reason, and costs the others nothing. Times are wall time from one synchronization of the GPU
to the next.

A machine needs torch 2.11 or later with CUDA, torchvision, numpy, and the packages in ``requirements.txt``, which says
how to carry them.

Usage: python -m benchmarks.gpu [--out FILE] [--gpu NAME] [--seconds 300]
       python -m benchmarks.gpu --rehearse    # on any machine, with few images: shows that the script runs
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from benchmarks.gpu.bits import equal_bits, resumed_bits
from benchmarks.gpu.machine import REHEARSAL, WHOLE, Machine, Missing, Part, guarded
from benchmarks.gpu.memory import peak_memory, sharing, starved
from benchmarks.gpu.speed import bundles, evaluation, filled_memory, formats, fused_steps, images_on_the_device
from benchmarks.rows import Row, in_words
from jobs.execution.device import default_device
from jobs.execution.device_kind import device_name
from jobs.system.files import write_files
from orchestrator.planning.gpu_table import named_after, packaged_table

PARTS: tuple[Part, ...] = (
    equal_bits,
    resumed_bits,
    starved,
    sharing,
    formats,
    bundles,
    peak_memory,
    evaluation,
    images_on_the_device,
    fused_steps,
    filled_memory,
)
"""Correctness first: a slow GPU has no time for the last ones."""

Keep = Callable[[Sequence[Row], Mapping[str, str]], object]
"""Called with all rows so far, and why others are missing, by the name of their part."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="file for the rows")
    parser.add_argument(
        "--gpu", choices=packaged_table(), help="name of the GPU in the table of `plan`, if its own name does not tell"
    )
    parser.add_argument("--seconds", type=float, default=300, help="nothing starts later than this")
    parser.add_argument("--rehearse", action="store_true", help="few images, on any device")
    given = parser.parse_args()
    device = default_device()
    if device.type != "cuda" and not given.rehearse:
        sys.exit("expected a GPU that torch sees; got none. Fix: run it on one, or rehearse it here: --rehearse")
    size = REHEARSAL if given.rehearse else WHOLE
    machine = Machine(device, size, given.gpu or card_of(device), time.monotonic() + given.seconds)
    print(
        f"{device_name(device)}, torch {torch.__version__}, CUDA {torch.version.cuda}; plan knows it as {machine.card}"
    )
    about = {
        "device": device_name(device),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]  # torch gives it no types
        "rehearsal": given.rehearse,
    }

    def keep(rows: Sequence[Row], missing: Mapping[str, str]) -> None:
        found = {**about, "rows": [row._asdict() for row in rows], "missing": missing}
        write_files({given.out: f"{json.dumps(found, indent=2)}\n".encode()})

    keep([], {})  # fails now, not after minutes, if the file cannot be written
    measured(machine, PARTS, keep)
    print(f"rows: {given.out}")


def measured(machine: Machine, parts: Sequence[Part], keep: Keep) -> None:
    """Measure all parts. Rows are printed and kept as they come."""
    rows: list[Row] = []
    missing: dict[str, str] = {}
    for part in parts:
        started = time.monotonic()
        for found in guarded(machine, part.__name__, part(machine)):
            if isinstance(found, Missing):
                missing[found.what] = found.why
                print(f"{found.what}: {found.why}", flush=True)
            else:
                rows.append(found)
                print(in_words(found), flush=True)
            keep(rows, missing)
        print(f"{part.__name__}: {time.monotonic() - started:.0f} s", flush=True)
    keep(rows, missing)


def card_of(device: torch.device) -> str | None:
    """Return the device's name in the table of ``plan``; None if it has none."""
    if device.type != "cuda":
        return None
    memory = torch.cuda.get_device_properties(device).total_memory
    return named_after(torch.cuda.get_device_name(device), memory, packaged_table())


if __name__ == "__main__":
    main()
