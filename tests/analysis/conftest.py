"""Small hand-made results roots, and the authors' published trials if they are available."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from analysis.imports import trials as imports
from jobs.results import schema
from tests.analysis.fixtures import browser, no_figure_files
from tests.analysis.support import Build
from tests.machine import authors_trials
from tests.results.fixtures import bucket, s3

__all__ = ["browser", "bucket", "no_figure_files", "s3"]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return Build(tmp_path)


@pytest.fixture(scope="session")
def paper() -> Path:
    """The folder with the published trials and Table 7."""
    return authors_trials("published_trials.csv.gz", "Table 7 of the paper, cell by cell").parent


@pytest.fixture(scope="session")
def published(paper: Path) -> pa.Table:
    """The published trials as imported results, without a results root."""
    trials = imports.as_results(imports.read(paper / "published_trials.csv.gz"))
    return pa.Table.from_pylist([row for rows in trials for row in rows], schema=schema("finetune"))


@pytest.fixture(scope="session")
def table7(paper: Path) -> pd.DataFrame:
    return pd.read_csv(paper / "table7_test_accuracy.csv")
