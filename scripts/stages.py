"""Run the stages of `make test`, quick ones first; or only those that are named.

A stage that fails does not keep the later ones from running. Past the time budget the remaining stages are left out, and
the last lines say so loudly.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

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
    "behaviour": (*PYTEST, "tests/behaviour"),
    "integration": (*PYTEST, "tests/integration"),
    "airflow": (*PYTEST, "tests/airflow"),
    "cluster": (*PYTEST, "tests/cluster"),
    "docker": (*PYTEST, "tests/docker"),
}
BUDGET_MINUTES = 75


def main() -> int:
    """Run the stages; 0 where every one that ran passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", nargs="*", help=", ".join(STAGES))
    parser.add_argument("--budget", type=float, default=BUDGET_MINUTES, metavar="MINUTES")
    options = parser.parse_args()
    if unknown := set(options.stage) - STAGES.keys():
        parser.error(f"unknown stage: {', '.join(sorted(unknown))}")

    results: dict[str, str] = {}
    start = time.monotonic()
    for stage in options.stage or STAGES:
        left = options.budget * 60 - (time.monotonic() - start)
        results[stage] = _run(stage, left) if left > 0 else "LEFT OUT: the time budget was used up"
    if not options.stage and (strays := _folders_without_stage()):
        results["strays"] = f"FAILED: no stage runs {', '.join(strays)}"

    print(f"\n===== {time.monotonic() - start:.0f} s in all =====")
    for stage, result in results.items():
        print(f"{stage:12} {result}")
    if left_out := [stage for stage, result in results.items() if result.startswith("LEFT OUT")]:
        print(f"\n{'!' * 100}\n!!! NOT TESTED within {options.budget:g} minutes: {', '.join(left_out)}\n{'!' * 100}")
    return 1 if any(result.startswith("FAILED") for result in results.values()) else 0


def _run(stage: str, seconds: float) -> str:
    command, *arguments = STAGES[stage]
    print(f"\n===== {stage}: {command} {' '.join(arguments)}", flush=True)
    start = time.monotonic()
    try:
        code = subprocess.run([BIN / command, *arguments], cwd=ROOT, timeout=seconds, check=False).returncode
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
