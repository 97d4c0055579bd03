"""Write docs/reference/errors.md: every code of an expected error, from the docstrings of the codes themselves.

    python -m scripts.errors_page

A test checks that the page is current.
"""

import ast
from inspect import getsource
from itertools import pairwise
from pathlib import Path

from jobs import errors
from jobs.errors import Code
from orchestrator.cli.exit_codes import exit_code_of

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "errors.md"
_HEAD = """\
# Errors

<!-- Written by `python -m scripts.errors_page` from jobs/errors.py; change it there. -->

An expected error has one message for people, and a **code** and a **place** for programs. Messages may change from
release to release. Codes do not: a release may add codes, but never removes or redefines one.

The place is the file (a path or an address), the line in it (from 1) and the key: a key of a study file
(`grid.source[0]`), a column, an option (`--results`), or a command's argument in capitals. What does not apply is
empty; the line is null.

Commands that print JSON (`--json`, `--format json`) print the error as one object on standard error, on one line, the
last one, in place of the message; standard output is empty. A message that reports several mistakes, such as those of
a study file, lists them under `mistakes` (those of a file up to 100); its own code and place are those of the first, or
what they have in common.

```json
{"error": {"code": "unknown-name", "message": "first.yaml: 2 mistakes\\n  line 3: ...",
           "file": "first.yaml", "line": 3, "key": "grid.source[1]",
           "mistakes": [{"code": "unknown-name", "message": "unknown source 'fmnist_l1'; known: ...",
                         "file": "first.yaml", "line": 3, "key": "grid.source[1]"},
                        {"code": "unknown-key", "message": "unknown key (did you mean 'epochs'?); ...",
                         "file": "first.yaml", "line": 7, "key": "schedule[0].epoch"}]}}
```

In Python the exceptions are those of `jobs.errors`: `error.code`, `error.place`, `error.mistakes`. The [exit
code](exit-codes.md) of a command follows from the code: 2 if the request, or what it refers to, has to change; 3 if
trying again can help. Any other exception is a bug in DeltaSweep: `internal`, exit code 70, and the message names the
file with the traceback.

| code | exit code | meaning |
| --- | --- | --- |
"""


def page() -> str:
    """Return the whole page."""
    meanings = _meanings()
    return _HEAD + "".join(f"| `{code}` | {_status(code)} | {meanings[code.name]} |\n" for code in Code)


def _status(code: Code) -> str:
    return str(exit_code_of(code).value)


def _meanings() -> dict[str, str]:
    """Return the docstring under each member of ``Code``, by the member's name."""
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
