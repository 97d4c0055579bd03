"""A study's own image folders: whether they are still those that the cards describe. No torch; no image is decoded."""

from collections.abc import Iterable
from pathlib import Path

from jobs.catalog.dataset_card import DatasetCard, DatasetFormat
from jobs.errors import DamagedFile
from jobs.study.model import Study
from jobs.system.printable import brief


def changed_own_images(study: Study, names: Iterable[str]) -> list[str]:
    """Describe image folders of the study on this machine that a launch would refuse: with other numbers of images than
    in their cards, or with files that are no images. Changed images of the same numbers are found by the launch.

    Args:
        names: the datasets that the study's trials read.
    """
    cards = [study.datasets[name] for name in dict.fromkeys(names) if name in study.datasets]
    return [
        brief(f"A launch would refuse the images of {card.name}: {why}")
        for card in cards
        if card.folder is not None and card.format is DatasetFormat.IMAGE_FOLDER and Path(card.folder).exists()
        if (why := _refused(card, Path(card.folder)))
    ]


def _refused(card: DatasetCard, folder: Path) -> str | None:
    from jobs.data.folders import list_image_folder  # loads Pillow, which other plans do not need
    from jobs.data.readers import how_to_go_on

    try:
        listed = list_image_folder(folder)
    except DamagedFile as error:
        return str(error)
    if listed.problems:
        return str(listed.problems[0])
    train, test = (sum(map(len, part.values())) for part in (listed.train, listed.test))
    if (train, test) == (card.train, card.test):
        return None
    return (
        f"its card has {card.train:,} training and {card.test:,} test images; {folder} contains {train:,} and "
        f"{test:,}. {how_to_go_on(card)}"
    )
