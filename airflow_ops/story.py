"""What a task's log tells a person: what was read and from where, what was committed, where it was delivered. Lines of text, nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datalayer.words import bytes_text, files_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_ops.enriching import Prepared
    from datalayer.handoff.report import Delivered, TaskReport
    from datalayer.resolve.resolution import Resolution


def of_inputs(prepared: Prepared) -> Iterator[str]:
    """Yield what will be read, from which tier, and why not from a faster one."""
    yield f"This task is {prepared.key}, attempt {prepared.attempt}, under the design {prepared.layer.design.name}"
    there: set[str] = set()
    for one in prepared.pinned:
        there.add(one.alias)
        for output in one.outputs:
            name = "" if output.key.name == "default" else f", output {output.key.name}"
            line = (
                f"Input {one.alias}{name}: {one.resolution.key}, attempt {one.resolution.attempt}: {files_text(output.output.files)}, "
                f"{bytes_text(output.output.bytes)} from the tier {output.tier.value}"
            )
            why = "; ".join(str(miss) for miss in output.misses)
            yield f"{line} (not from a faster one: {why})" if why else line
    for alias, spec in prepared.context.inputs.items():
        if alias not in there:
            yield f"Input {alias} is optional and not there" if spec.optional else f"Input {alias} stands for nothing"
    if prepared.remembered:
        yield "These are the inputs that an earlier try has found: a retry reads the same"


def of_commit(resolution: Resolution, report: TaskReport | None) -> Iterator[str]:
    """Yield what was committed, and how long it took."""
    for name, output in sorted(resolution.manifest.outputs.items()):
        rows = "" if output.rows is None else f", {output.rows:,} rows"
        yield (
            f"Committed output {name}: {files_text(output.files)}, {bytes_text(output.bytes)}{rows}, on the tier {output.tier}, "
            f"at {resolution[name].uri}"
        )
    yield f"The head of {resolution.key} names attempt {resolution.attempt} (digest {resolution.digest.removeprefix('sha256:')[:12]})"
    if report is None:
        return
    steps = ", ".join(f"{step} {seconds:.1f}" for step, seconds in report.seconds.items() if step != "total")
    if steps:
        yield f"Seconds: {steps}; {report.seconds.get('total', 0.0):.1f} in all"
    for tier, receipt in sorted(report.receipt.items()):
        calls = sum(receipt.calls.values())
        parts = [
            f"{calls:,} calls",
            f"{bytes_text(receipt.bytes_read)} read",
            f"{bytes_text(receipt.bytes_written)} written",
        ]
        if receipt.bytes_hit:
            parts.append(f"{bytes_text(receipt.bytes_hit)} of them from copies")
        parts += [f"passed over {count} times: {why}" for why, count in receipt.misses.items()]
        yield f"Tier {tier}: {', '.join(parts)}"


def of_deliveries(delivered: Iterable[Delivered]) -> Iterator[str]:
    """Yield where copies of the outputs are now."""
    for one in delivered:
        how = (
            "copied by the server"
            if one.copied_by_server == one.files
            else f"{one.copied_by_server} copied by the server"
        )
        removed = f", {files_text(one.removed)} of an earlier delivery removed" if one.removed else ""
        yield f"Delivered output {one.output} to {one.location}: {files_text(one.files)}, {bytes_text(one.bytes)} ({how}){removed}"
