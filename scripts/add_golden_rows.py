"""Put this machine's golden numbers beside those of other kinds of devices, in tests/golden/rows.json.

    python -m scripts.add_golden_rows

Look at what changed before it is committed: on a kind that had rows, numbers only change on purpose, together with the
kind's ``numerics``. Fashion-MNIST must be here for the clean accuracies of the bundled sources.
"""

from tests.golden.cases import CASES
from tests.golden.rows import add_rows


def main() -> None:
    added = list(add_rows())
    print(f"{len(added)} of {len(CASES)} rows, of {added[0].device_kind}")
    for case in CASES.keys() - {row.case for row in added}:
        print(f"left out: {case}, which needs {CASES[case].needs}")


if __name__ == "__main__":
    main()
