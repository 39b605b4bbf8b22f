"""Every example in README and docs runs: the blocks of one page in order, in one folder of their own, as a reader would type them.

Blocks marked ``sh``, ``python`` and ``toml`` count. A ``toml`` block becomes ``datalayer.toml``. A comment before a block changes that:
``<!-- not run: reason -->`` skips it, ``<!-- file: name -->`` writes it to a file instead. Home is that folder, too, so that files in
``airflow/dags`` are DAG files: Airflow parses them all at the end of the page.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("**/*.md"), *(ROOT / "examples").glob("**/*.md")])

_BLOCK = re.compile(
    r"(?:<!-- (?P<order>not run|file): (?P<detail>[^\n]*?) -->\n+)?^```(?P<language>sh|python|toml|json|go|sql|ini|yaml)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One example of a page."""

    line: int
    language: str
    text: str
    order: str | None
    detail: str | None


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            text.count("\n", 0, match.start("text")), match["language"], match["text"], match["order"], match["detail"]
        )
        for match in _BLOCK.finditer(text)
    ]


PARSE = """
import sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag("airflow/dags")
print(sorted(bag.dags), bag.import_errors)
sys.exit(1 if bag.import_errors or not bag.dags else 0)
"""


def run(block: Block, folder: Path, where: str) -> None:
    if block.order == "file":
        target = folder / str(block.detail)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(block.text)
        return
    if block.language == "toml":
        (folder / "datalayer.toml").write_text(block.text)
        return
    command = {"python": [sys.executable, "-W", "error", "-c"], "sh": ["bash", "-euo", "pipefail", "-c"]}[
        block.language
    ]
    execute([*command, block.text], folder, where)


def execute(command: list[str], folder: Path, where: str) -> None:
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "DATALAYER_", "AWS_"))
    }
    environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
    environ["HOME"] = str(folder)
    if "DATALAYER_CACHE" in os.environ:
        environ["DATALAYER_CACHE"] = os.environ["DATALAYER_CACHE"]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.fail(f"{where}: exit code {done.returncode}\n{command[-1]}\n{done.stdout}{done.stderr}", pytrace=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path) -> None:
    for block in blocks(page):
        if block.order == "not run":
            assert block.detail, f"{page.name}:{block.line}: say why this block is not run"
            continue
        if block.language in {"python", "sh", "toml"} or block.order == "file":
            run(block, tmp_path, f"{page.relative_to(ROOT)}:{block.line}")
    if (tmp_path / "airflow" / "dags").is_dir():
        execute([sys.executable, "-c", PARSE], tmp_path, f"{page.relative_to(ROOT)}: its DAG files")


def test_the_readme_has_examples_that_run() -> None:
    ran = [
        block for block in blocks(ROOT / "README.md") if block.order != "not run" and block.language in {"python", "sh"}
    ]
    assert len(ran) >= 4
