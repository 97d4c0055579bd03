"""Put this machine's golden numbers beside those of other kinds of devices, in tests/golden/rows.json.

    python -m scripts.add_golden_rows

Look at what changed before it is committed: on a kind that had rows, numbers only change on purpose, together with the
kind's ``numerics``. Fashion-MNIST must be here for the clean accuracies of the bundled sources.

After such a change, or for another torch, rows of three kinds are needed. One machine can be several, by what its
libraries choose their code by: run this again with each of

    ATEN_CPU_CAPABILITY=default    ONEDNN_MAX_CPU_ISA=SSE41    ONEDNN_MAX_CPU_ISA=AVX    MKL_CBWR=COMPATIBLE

in the environment. Their rows stand under the processor's name with other digests of the probe.
"""

from tests.golden.cases import CASES
from tests.golden.rows import add_rows


def main() -> None:
    added = list(add_rows())
    print(f"{len(added)} of {len(CASES)} rows, of {added[0].device_kind}")
    for case in CASES.keys() - {row.case for row in added}:
        print(f"left out: {case}, whose images are not on this machine")


if __name__ == "__main__":
    main()
