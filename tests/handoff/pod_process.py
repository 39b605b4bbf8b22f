"""The committer of a pod as a process, with the pod's volume and the API server where a test has them."""

import os
import sys
from pathlib import Path

from datalayer.handoff.pod import run_pod
from datalayer.handoff.pod_status import OwnPod

if __name__ == "__main__":
    home = Path(sys.argv[1])
    pod = OwnPod("pod-1", "team-a", "uid-1", "base", server=("localhost", int(sys.argv[2])), account=home / "account")
    report = run_pod(os.environ, folder=home / "datalayer", termination_log=home / "termination-log", pod=pod)
    sys.exit(report.exit_code)
