"""What a GPU does with trials: speed in each format, bundles, shared cards, memory, and equal bits. Under six minutes.

Trials of ResNet-50 with random weights and made images; no files, no network, no Ray. Rows are those of other
benchmarks, and go to a JSON file with the GPU's name. A row that cannot be measured says why. Times are wall time from
one synchronization of the GPU to the next.

A machine needs torch 2.11 or later with CUDA, torchvision, numpy, and the packages in ``requirements.txt``, which
are wheels and can be carried: ``pip download -r benchmarks/gpu/requirements.txt``.

Usage: python -m benchmarks.gpu [--out FILE] [--gpu NAME] [--seconds 330]
       python -m benchmarks.gpu --rehearse    # on any machine, with few images: shows that the script runs
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from benchmarks.gpu.bits import equal_bits, resumed_bits
from benchmarks.gpu.machine import REHEARSAL, WHOLE, Machine, Part
from benchmarks.gpu.memory import peak_memory, sharing, starved
from benchmarks.gpu.speed import bundles, evaluation, filled_memory, formats, fused_steps, images_on_the_device
from benchmarks.rows import Row, in_words
from jobs.execution.device import default_device
from jobs.execution.device_kind import device_name
from jobs.execution.gpu_memory import set_environment
from orchestrator.planning.gpu_table import named_after, packaged_table

PARTS: tuple[Part, ...] = (
    formats,
    equal_bits,
    evaluation,
    bundles,
    peak_memory,
    sharing,
    starved,
    images_on_the_device,
    fused_steps,
    filled_memory,
    resumed_bits,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="file for the rows")
    parser.add_argument("--gpu", help="name of the GPU in the table of `plan`, if its own name does not tell")
    parser.add_argument("--seconds", type=float, default=330, help="no part starts later than this")
    parser.add_argument("--rehearse", action="store_true", help="few images, on any device")
    given = parser.parse_args()
    set_environment()
    device = default_device()
    if device.type != "cuda" and not given.rehearse:
        sys.exit("expected a GPU that torch sees; got none. Fix: run it on one, or rehearse it here: --rehearse")
    size = REHEARSAL if given.rehearse else WHOLE
    memory = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0
    card = given.gpu or (named_after(torch.cuda.get_device_name(device), memory, packaged_table()) if memory else None)
    machine = Machine(device, size, card, time.monotonic() + given.seconds)
    print(
        f"{device_name(device)}, torch {torch.__version__}, CUDA {torch.version.cuda}; plan knows it as {machine.card}"
    )
    rows, missing = measured(machine)
    found = {
        "device": device_name(device),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]  # torch gives it no types
        "rehearsal": given.rehearse,
        "rows": [row._asdict() for row in rows],
        "missing": missing,
    }
    given.out.write_text(json.dumps(found, indent=2) + "\n")
    print(f"rows: {given.out}")


def measured(machine: Machine) -> tuple[list[Row], dict[str, str]]:
    """Return the rows of all parts, and why parts are missing, by name. Rows are printed as they come."""
    rows: list[Row] = []
    missing: dict[str, str] = {}
    for part in PARTS:
        started = time.monotonic()
        if started > machine.ends:
            missing[part.__name__] = "out of time"
            continue
        try:
            for row in part(machine):
                print(in_words(row), flush=True)
                rows.append(row)
        except Exception as error:  # noqa: BLE001  # the other parts are worth their minutes
            missing[part.__name__] = f"{type(error).__name__}: {error}"
        if machine.device.type == "cuda":
            torch.cuda.empty_cache()
        print(f"{part.__name__}: {time.monotonic() - started:.0f} s {missing.get(part.__name__, '')}", flush=True)
    return rows, missing


if __name__ == "__main__":
    main()
