"""Studies: packaged ones, those of study files, and those made of Python values."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.words import counted
from deltasweep import html, launches, plans
from deltasweep.models import Checked, StudyOrName, model_of
from deltasweep.tables import Table
from deltasweep.trials import trials_table
from jobs.catalog.builder_files import read_builders
from jobs.errors import Code, InvalidRequest
from jobs.specs.base import ALL
from jobs.study.expand import expand
from jobs.study.model import Study as Model
from jobs.system import safe_yaml
from orchestrator.study.load import study_from

if TYPE_CHECKING:
    from jobs.specs.trial import TrialSpec


class Study(Checked):
    """A study: trials that follow from a grid and a schedule, and what is asked of them.

    ::

        Study("demo")  # a packaged study
        Study("first.yaml")  # a study file
        Study(name="first", grid={...}, schedule=[...])
        Study("demo", name="pilot", schedule=[...])  # a study with other values for some keys

    The keyword arguments are the keys of a study file, with the values that the file would have. Mistakes are found by
    the same rules, all at once.
    """

    def __init__(
        self, study: StudyOrName | None = None, /, *, builder: str | Path | Sequence[str | Path] = (), **keys: Any
    ) -> None:
        """Load or make a study.

        Args:
            study: the name of a packaged study, the path of a study file, or a study.
            builder: builder files whose code is run, which own architectures of the study name.
            keys: the keys of a study; they replace those of ``study``. Relative paths start in the current directory.

        Raises:
            InvalidRequest: if the study has mistakes; the message lists them.
        """
        if study is None and not keys:
            raise InvalidRequest(
                Code.MISSING_KEY,
                "expected the name or path of a study, Study('demo'), or its keys, Study(name=..., grid=..., "
                "schedule=...); got neither. Fix: print(ds.Study('demo').yaml()) shows a study with all keys",
                key="study",
            )
        files = [Path(file) for file in ([builder] if isinstance(builder, str | Path) else builder)]
        before = None if study is None else model_of(study)
        if before is None or keys:
            values = {} if before is None else safe_yaml.load(before.resolved())
            self._model = study_from({**values, **_plain(keys)})
        else:
            self._model = before
        texts = {**({} if before is None else before.catalog.builders), **read_builders(files)}
        if texts:
            self._model = self._model.with_builders(texts)

    @property
    def name(self) -> str:
        """The study's name."""
        return self._model.name

    @property
    def description(self) -> str:
        """What the study asks, in one line; may be empty."""
        return " ".join(self._model.description.split())

    @property
    def trials(self) -> Table:
        """One row per trial, in the order of the study: id, kind, and what it is."""
        return trials_table(self._specs)

    def yaml(self) -> str:
        """Return the study as the text of a study file, including all defaults."""
        return self._model.resolved()

    plan = plans.plan
    launch = launches.launch

    @cached_property
    def _specs(self) -> "list[TrialSpec]":
        return expand(self._model)

    def __len__(self) -> int:
        """Return the number of trials."""
        return len(self._specs)

    def __repr__(self) -> str:
        return f"<Study {self.name}: {len(self):,} trials>"

    def _repr_html_(self) -> str:
        head = html.paragraph(f"{self.name}: {len(self):,} trials", bold=True)
        about = [html.remark(self.description)] if self.description else []
        return html.block(head, *about, html.facts(_facts(self._model)))


def _plain(value: Any) -> Any:
    """Return a value as a study file would have it: lists, mappings, numbers and texts."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # an array or a number of numpy, a column of pandas
        return value.tolist()
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    return value


def _facts(study: Model) -> "Iterable[tuple[str, str]]":
    if study.grid is not None:
        yield "sources", ", ".join(study.grid.source)
        yield "datasets", ", ".join(study.grid.dataset)
        yield "blocks", ", ".join(_or_all(number) for number in study.grid.blocks)
        yield from ((f"recipe: {key}", ", ".join(map(str, values))) for key, values in study.grid.recipe.items())
    for row in study.schedule:
        sizes = ", ".join(f"{_or_all(number)}" for number in row.images)
        yield "images", f"{sizes} ({counted(row.epochs, 'epoch')}, {counted(row.seeds, 'seed')})"
    for contrast in study.contrasts:
        epoch = "" if contrast.epoch == "last" else f", epoch {contrast.epoch}"
        depths = ", ".join(_or_all(number) for number in contrast.blocks)
        yield "contrast", f"{contrast.source} minus {contrast.baseline}, blocks {depths}{epoch}"
    if study.sections:
        yield "also", ", ".join(study.sections)


def _or_all(number: int) -> str:
    return "all" if number == ALL else f"{number:,}"
