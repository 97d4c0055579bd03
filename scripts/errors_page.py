"""Write docs/errors.md: every code of an expected error, from the docstrings of the codes themselves.

    python -m scripts.errors_page

A test holds that the page is what this writes.
"""

import ast
from inspect import getsource
from itertools import pairwise
from pathlib import Path

from jobs import errors
from jobs.errors import Code
from orchestrator.cli_errors import exit_code_of

PAGE = Path(__file__).parents[1] / "docs" / "errors.md"
_HEAD = """\
# Errors

<!-- Written by `python -m scripts.errors_page` from jobs/errors.py; change it there. -->

An expected error is one message for a person, and a **code** and a **place** for programs. Messages may get better from
release to release; codes never change: a release may add some, and none goes or means something else.

The place is the file (a path or an address), the line in it (from 1) and the key: of a study file, `grid.source[0]`; a
column; an option, `--results`; or a command's argument, in capitals. What does not apply is empty; the line is null.

Commands that are asked for JSON (`--json`, `--format json`) print the error as one object on standard output, besides
the message on standard error. A message that tells several mistakes, such as those of a study file, has each of them
under `mistakes`; its own code and place are those of the first, or what they have in common.

```json
{"error": {"code": "unknown-name", "message": "first.yaml: 2 mistakes\\n  line 3: ...",
           "file": "first.yaml", "line": 3, "key": "grid.source[1]",
           "mistakes": [{"code": "unknown-name", "message": "unknown source 'fmnist_l1'; known: ...",
                         "file": "first.yaml", "line": 3, "key": "grid.source[1]"},
                        {"code": "unknown-key", "message": "unknown key (did you mean 'epochs'?); ...",
                         "file": "first.yaml", "line": 7, "key": "schedule[0].epoch"}]}}
```

In Python the exceptions are those of `jobs.errors`: `error.code`, `error.place`, `error.mistakes`. The exit status of a
command follows from the code: 2 where the request, or what it is about, has to change; 3 where trying again is right.
What nobody expected is a bug of DeltaSweep: `internal`, exit status 70, and the message names the file that has its
traceback.

| code | exit status | what it means |
| --- | --- | --- |
"""


def page() -> str:
    """The whole page."""
    meanings = _meanings()
    return _HEAD + "".join(f"| `{code}` | {_status(code)} | {meanings[code.name]} |\n" for code in Code)


def _status(code: Code) -> str:
    return "none" if code is Code.INTERNAL else str(exit_code_of(code).value)


def _meanings() -> dict[str, str]:
    """What stands under each member of ``Code``, by its name."""
    (body,) = (
        node.body
        for node in ast.parse(getsource(errors)).body
        if isinstance(node, ast.ClassDef) and node.name == Code.__name__
    )
    found = {}
    for member, said in pairwise(body):
        if isinstance(member, ast.Assign) and isinstance(said, ast.Expr):
            (target,) = member.targets
            found[ast.unparse(target)] = " ".join(str(ast.literal_eval(said.value)).split())
    return found


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
