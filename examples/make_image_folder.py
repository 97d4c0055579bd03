"""Write a small image folder, to try `own-images.yaml` with: the digits 0, 1 and 2 of scikit-learn, as PGM files.

python examples/make_image_folder.py FOLDER
"""

import sys
from pathlib import Path

from sklearn.datasets import load_digits

LABELS = {0: "zero", 1: "one", 2: "two"}
TRAIN, TEST = 40, 20
"""Images of each label."""


def write_folder(folder: Path) -> None:
    """Write ``folder/train/LABEL/NNN.pgm`` and ``folder/test/LABEL/NNN.pgm``."""
    digits = load_digits()
    for digit, label in LABELS.items():
        images = (digits.images[digits.target == digit][: TRAIN + TEST] * 255 / 16).astype("uint8")
        for number, image in enumerate(images):
            part = folder / ("train" if number < TRAIN else "test") / label
            part.mkdir(parents=True, exist_ok=True)
            (part / f"{number:03}.pgm").write_bytes(b"P5\n8 8\n255\n" + image.tobytes())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write_folder(Path(sys.argv[1]))
