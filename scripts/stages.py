"""Run the stages of `make test`, quick ones first; or only those that are named.

A stage that fails does not keep the later ones from running. Past the time budget the remaining stages are left out, and
the last lines say so loudly.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
PYTEST = ("pytest", "--durations=5", "--durations-min=5")
TYPED = ("datalayer", "spark_env", "airflow_ops", "benchmarks", "examples", "scripts", "tests")

# In the order in which they run. Every folder of tests is in one of them.
STAGES: dict[str, tuple[str, ...]] = {
    "lint": ("ruff", "check", "."),
    "format": ("ruff", "format", "--check", "."),
    "imports": ("lint-imports",),
    "typecheck": ("mypy", *(name for name in TYPED if (ROOT / name).is_dir())),
    "prepare": ("python", "scripts/prepare.py"),
    "unit": (*PYTEST, "tests/unit"),
    "docs": (*PYTEST, "tests/docs"),
    "contract": (*PYTEST, "tests/contract"),
    "handoff": (*PYTEST, "tests/handoff"),
    "services": (*PYTEST, "tests/services"),
    "cluster": (*PYTEST, "tests/cluster"),
    "behaviour": (*PYTEST, "tests/behaviour"),
    "integration": (*PYTEST, "tests/integration"),
    "airflow": (*PYTEST, "tests/airflow"),
    "docker": (*PYTEST, "tests/docker"),
}
BUDGET_MINUTES = 75
# It mostly waits for the kubelet, and so runs beside others, which neither end clusters nor change how this machine forwards.
ASIDE = "cluster"
BESIDE = ("behaviour", "integration", "airflow")


def main() -> int:
    """Run the stages; 0 where every one that ran passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", nargs="*", help=", ".join(STAGES))
    parser.add_argument("--budget", type=float, default=BUDGET_MINUTES, metavar="MINUTES")
    options = parser.parse_args()
    if unknown := set(options.stage) - STAGES.keys():
        parser.error(f"unknown stage: {', '.join(sorted(unknown))}")

    start = time.monotonic()
    results = _run_all(options.stage or list(STAGES), start + options.budget * 60)
    if not options.stage and (strays := _folders_without_stage()):
        results["strays"] = f"FAILED: no stage runs {', '.join(strays)}"

    print(f"\n===== {time.monotonic() - start:.0f} s in all =====")
    for stage, result in results.items():
        print(f"{stage:12} {result}")
    if left_out := [stage for stage, result in results.items() if result.startswith("LEFT OUT")]:
        print(f"\n{'!' * 100}\n!!! NOT TESTED within {options.budget:g} minutes: {', '.join(left_out)}\n{'!' * 100}")
    return 1 if any(result.startswith("FAILED") for result in results.values()) else 0


def _run_all(stages: list[str], end: float) -> dict[str, str]:
    results = dict.fromkeys(stages, "")
    with ThreadPoolExecutor() as pool, TemporaryDirectory() as folder:
        beside: dict[str, Future[str]] = {}

        def wait() -> None:
            for stage, result in beside.items():
                results[stage] = result.result()
                print(Path(folder, stage).read_text(encoding="utf-8", errors="replace"), end="", flush=True)
            beside.clear()

        for stage in stages:
            if stage == ASIDE and len(stages) > 1:
                print(f"\n===== {stage}: begun; what it prints comes later", flush=True)
                beside[stage] = pool.submit(_run_aside, stage, end, Path(folder, stage))
                continue
            if stage not in BESIDE:
                wait()
            results[stage] = _run(stage, end)
        wait()
    return results


def _run_aside(stage: str, end: float, path: Path) -> str:
    with path.open("w", encoding="utf-8") as output:
        return _run(stage, end, output)


def _run(stage: str, end: float, output: IO[str] | None = None) -> str:
    command, *arguments = STAGES[stage]
    start = time.monotonic()
    if start > end:
        return "LEFT OUT: the time budget was used up"
    print(f"\n===== {stage}: {command} {' '.join(arguments)}", file=output, flush=True)
    # What a stage complains of belongs where it prints.
    run = partial(subprocess.run, stdout=output, stderr=output and subprocess.STDOUT, cwd=ROOT, check=False)
    try:
        code = run([BIN / command, *arguments], timeout=end - start).returncode
    except subprocess.TimeoutExpired:
        # A slow machine is no fault of what is tested; the last lines say loudly what was not.
        return "LEFT OUT: it was still running when the time budget was used up"
    took = f"{time.monotonic() - start:.0f} s"
    return f"passed in {took}" if code == 0 else f"FAILED with exit code {code} in {took}"


def _folders_without_stage() -> list[str]:
    staged = {word for words in STAGES.values() for word in words}
    folders = {path.parent.relative_to(ROOT).parts[:2] for path in (ROOT / "tests").rglob("test_*.py")}
    return sorted({"/".join(folder) for folder in folders} - staged)


if __name__ == "__main__":
    sys.exit(main())
