"""The command ``deltasweep ui`` from its first line to Ctrl-C, in a process of its own."""

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs.results import open_store
from tests.orchestrator.live.roots import Sweep


@pytest.fixture
def root(tmp_path: Path) -> Path:
    Sweep(open_store(tmp_path / "root"))
    return tmp_path / "root"


@contextmanager
def serving(root: Path) -> Iterator[subprocess.Popen[str]]:
    command = [str(Path(sys.executable).with_name("deltasweep")), "ui", "--results", str(root), "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        yield process
        process.kill()


@pytest.fixture
def served(root: Path) -> Iterator[subprocess.Popen[str]]:
    with serving(root) as process:
        yield process


def printed(served: subprocess.Popen[str]) -> dict[str, Any]:
    """Return what it prints when the page can be opened."""
    assert served.stdout is not None
    text = ""
    while not text.endswith("}\n"):
        line = served.stdout.readline()
        assert line, served.communicate()
        text += line
    return dict(json.loads(text))


def test_the_page_is_served_at_the_printed_address_until_ctrl_c(served: subprocess.Popen[str], root: Path) -> None:
    said = printed(served)
    assert said["results"] == str(root)
    address: str = said["address"]
    assert address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(address, timeout=60) as page:
        assert "A study &lt;b&gt;for&lt;/b&gt; a test" in page.read().decode()
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(address.partition("?")[0], timeout=60)
    served.send_signal(signal.SIGINT)
    out, err = served.communicate(timeout=60)
    assert served.returncode == 130
    assert "Traceback" not in out + err


def test_a_root_that_is_not_there_yet_is_said_and_waited_for(tmp_path: Path) -> None:
    """A mistyped path looks the same, so the terminal says it, too."""
    with serving(tmp_path / "later") as served:
        with urllib.request.urlopen(printed(served)["address"], timeout=60) as page:
            assert "Waiting for this results root" in page.read().decode()
        served.send_signal(signal.SIGINT)
        _, err = served.communicate(timeout=60)
    said = " ".join(err.split())
    assert f"{tmp_path / 'later'} does not exist yet; the page waits for it. Fix: if it should exist, check" in said
    assert not (tmp_path / "later").exists()
