"""What Airflow learns of this package through the entry point ``apache_airflow_provider``. Imported by every part of Airflow: it imports nothing."""

from __future__ import annotations

from typing import Any

_VERSION = "0.1.0"


def _option(
    description: str, kind: str = "string", default: str | None = None, example: str | None = None
) -> dict[str, Any]:
    return {"description": description, "version_added": _VERSION, "type": kind, "example": example, "default": default}


_OPTIONS = {
    "team": _option(
        "The team of every DAG that no run and no folder names one for: the first part of its tasks' addresses.",
        example="aviation",
    ),
    "launcher": _option(
        "Where jobs run: `kubernetes`, in pods, or `process`, as processes of the worker, for `dag.test()` on one machine.",
        default="kubernetes",
        example="process",
    ),
    "config_file": _option(
        "The workers' datalayer.toml: the storage design and its tiers. Without it, the file that DATALAYER_CONFIG names, ./datalayer.toml or\n"
        "~/.config/datalayer/datalayer.toml. Variables DATALAYER_… win over it.",
        example="/opt/airflow/datalayer.toml",
    ),
    "committer_image": _option(
        "The image of the container that prepares a job's inputs and commits its outputs (docker/job of this project).",
        example="registry.example.com/datalayer/job:1.0",
    ),
    "credentials_secret": _option(
        "A Secret of the team's namespace whose keys become environment variables of the job: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,\n"
        "AWS_SESSION_TOKEN. Without it, the pod's own identity is used.",
        example="datalayer-s3",
    ),
    "volume_claim": _option(
        "The PersistentVolumeClaim, in the team's namespace, that holds the shared tier.", example="datalayer-shared"
    ),
    "commit_timeout": _option("Seconds that a pod may take for its commit once it was told to end.", "float", "3600"),
    "quota_wait": _option("Seconds that a task waits, at most, until a quota has room for its pod.", "float", "600"),
    "process_folders": _option(
        "For the launcher `process`: folders of the image, and where they lie on this machine, as a JSON object.",
        example='{"/job": "/home/me/job"}',
    ),
}


def get_provider_info() -> dict[str, Any]:
    """Return the description in the form of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "datalayer-tasks",
        "name": "datalayer",
        "description": "Task outputs that are committed once and read in place, by any language and by Spark.",
        "integrations": [{"integration-name": "datalayer", "external-doc-url": "", "tags": ["software"]}],
        "filesystems": ["airflow_ops.filesystems"],
        "task-decorators": [{"name": "datalayer", "class-name": "airflow_ops.decorators.task"}],
        "extra-links": ["airflow_ops.links.TaskOutputLink"],
        "sensors": [{"integration-name": "datalayer", "python-modules": ["airflow_ops.sensors"]}],
        "hooks": [{"integration-name": "datalayer", "python-modules": ["airflow_ops.hooks"]}],
        "triggers": [{"integration-name": "datalayer", "python-modules": ["airflow_ops.triggers"]}],
        "operators": [
            {
                "integration-name": "datalayer",
                "python-modules": [
                    "airflow_ops.operators.execution_environment",
                    "airflow_ops.operators.spark",
                    "airflow_ops.tasks",
                ],
            }
        ],
        "config": {
            "datalayer": {
                "description": "How this deployment starts the jobs of airflow_ops, and where their data lies.",
                "options": _OPTIONS,
            }
        },
    }
