"""The versions that belong together. Change them here, and nowhere else."""

from __future__ import annotations

SPARK = "4.1.1"
"""PySpark's release; the extra ``spark`` in pyproject.toml names the same one."""
SCALA = "2.13"
HADOOP = "3.4.2"
"""The release inside that PySpark."""
AWS_SDK = "2.29.52"
"""The release that this Hadoop was built with."""
ALLUXIO = "2.9.6"
"""The release of Alluxio's client. A client speaks to servers of its own release."""
JAVA = 17
"""The oldest Java that all of it runs on."""
