"""The sections of the kinds that examine networks."""

from collections.abc import Iterator

from analysis.figures.exhibits import Topic
from analysis.page.results import Results
from analysis.page.section import Content
from analysis.tables.model import Table


def contents(results: Results) -> Iterator[Content]:
    """A section for each topic, figures first; the tables of these kinds are in the section with all tables."""
    topics = [topic for of_kind in results.of_kinds for topic in of_kind.section.topics(of_kind.rows)]
    for topic in sorted(topics, key=lambda topic: not topic.drawn):
        yield _content(topic)


def kind_tables(results: Results) -> list[Table]:
    """Return the tables of all kinds."""
    return [table for of_kind in results.of_kinds for table in of_kind.section.tables(of_kind.rows, results.worded)]


def _content(topic: Topic) -> Content:
    return Content(
        title=topic.title,
        template="kinds.html",
        values={"exhibits": topic.exhibits},
        figures=tuple(exhibit.figure for exhibit in topic.exhibits if exhibit.figure is not None),
        pictures=tuple(exhibit for exhibit in topic.exhibits if exhibit.figure is None),
    )
