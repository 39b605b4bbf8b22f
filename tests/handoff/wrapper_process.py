"""A process that runs a command as a job, as `datalayer run` does, and ends with its exit code."""

import sys
from pathlib import Path

from datalayer.handoff.context import layer_for, read_context
from datalayer.handoff.runner import run

if __name__ == "__main__":
    context_path, report, *command = sys.argv[1:]
    context = read_context(Path(context_path))
    path = Path(report)
    result = run(context, command, layer=layer_for(context), report_path=path, work_dir=path.parent / "work")
    # Not ru_maxrss, which begins with the size of the process that started this one.
    status = Path("/proc/self/status").read_text()
    path.with_name("peak").write_text(str(int(status.partition("VmHWM:")[2].split()[0]) << 10))
    sys.exit(result.exit_code)
