"""Start the cluster of the tests for a person to play with, with the images of docker/ loaded; end it again.

It outlives this process, and tests use it while it runs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.services.kubernetes.cluster import end, stay, up
from tests.services.kubernetes.images import IMAGES, load_images
from tests.services.kubernetes.programs import why_no_cluster
from tests.services.kubernetes.site import Site


def main() -> int:
    """Entry point of `make cluster` and `make cluster-down`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("up", "down"))
    what = parser.parse_args().what
    if reason := why_no_cluster():
        print(f"cluster: {reason}", file=sys.stderr)
        return 1
    site = Site()
    if what == "down":
        print("The cluster has ended." if end(site, print) else "No cluster runs.")
        return 0
    try:
        # First: a session of tests that ends meanwhile must not end it.
        stay(site)
        up(site, print)
        load_images(site, say=print)
    except RuntimeError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    tell(site)
    return 0


def tell(site: Site) -> None:
    """Print how to use it."""
    print(f"""
Running until make cluster-down, or until this machine stops; what it holds is gone then. To use it:
  export KUBECONFIG={site.kubeconfig}
  {site.kubectl} get pods --all-namespaces
Images, which no registry has: {", ".join(image.tag for image in IMAGES.values())}
Pods reach this machine at {site.host_address}; this machine reaches pods at theirs. Logs are in {site.folder}/log.
S3 and Alluxio for pods: make services HOST={site.host_address}. A first DAG in its pods: docs/kubernetes.md""")


if __name__ == "__main__":
    sys.exit(main())
