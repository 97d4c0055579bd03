"""Add this machine's golden numbers to those of other kinds of device in tests/golden/rows.json.

    python -m scripts.add_golden_rows

Review the changes before committing them. On a kind of device that already had rows, numbers must only change on
purpose, together with ``numerics_version`` of the kind of trial. The clean accuracies of the bundled sources require
Fashion-MNIST on this machine.

After such a change, or for another version of torch, rows of three kinds of device are needed. One machine can act as
several, because its libraries select code by environment variables. Run this again with each of

    ATEN_CPU_CAPABILITY=default    ONEDNN_MAX_CPU_ISA=SSE41    ONEDNN_MAX_CPU_ISA=AVX    MKL_CBWR=COMPATIBLE

Their rows have the same processor name and different digests of the probe.
"""

from tests.golden.cases import CASES
from tests.golden.rows import add_rows


def main() -> None:
    added = list(add_rows())
    print(f"{len(added)} of {len(CASES)} rows for {' and '.join(sorted({row.device_kind for row in added}))}")
    for case in CASES.keys() - {row.case for row in added}:
        print(f"skipped: {case}: its images are not on this machine")


if __name__ == "__main__":
    main()
