"""Write docs/reference/live-page.md: the addresses of the live page, from the pages themselves.

    python -m scripts.live_page

A test checks that the page is current.
"""

from pathlib import Path

from orchestrator.live.pages import PAGES

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "live-page.md"
_HEAD = """\
# Addresses of the live page

<!-- Written by `python -m scripts.live_page` from orchestrator/live/pages.py; change it there. -->

The live page, which `deltasweep ui` or a launch serves ([how to use it](../how-to/live-page.md)), answers at these
addresses, by GET and HEAD only. Every request needs the token, as `?token=` or as the cookie that the first address
with the token sets: without it the answer is 403. A name of the server other than its own is answered with 421, and
what does not exist with 404.

| address | what it shows |
| --- | --- |
"""
_ASKED = """
What an address may ask for, after `?`; it is kept in links and while the page is updated, so that an address always
leads to the same view:

| address | name | meaning |
| --- | --- | --- |
"""
_EVENTS = """
`/events` before the path of a page is a stream of its updates, as server-sent events. Each is a JSON object:

| key | value |
| --- | --- |
| `at` | when the results root was read last, UTC, ISO 8601 |
| `trouble` | why it could not be read; empty if it could |
| `parts` | the HTML of the parts of the page that have changed, by name |

`seen`, a list of `NAME:DIGEST` with commas, names the parts that the viewer has; others are sent at once. The id of an
event is such a list, too: a browser that connects again sends it as `Last-Event-ID`, which goes before `seen`.
"""


def page() -> str:
    """Return the whole page."""
    rows = [f"| `{one.path.replace('{trial}', 'TRIAL')}` | {one.about} |\n" for one in PAGES]
    rows.append("| `/static/...` | style sheet, script and icon |\n")
    asked = [f"| `{one.path}` | `{name}` | {about} |\n" for one in PAGES for name, about in one.asks.items()]
    parts = "".join(f"| `{one.name}` | {', '.join(f'`{part}`' for part in one.parts)} |\n" for one in PAGES)
    return _HEAD + "".join(rows) + _ASKED + "".join(asked) + _EVENTS + "\n| page | parts |\n| --- | --- |\n" + parts


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
