"""What importing `airflow_ops` costs."""

from __future__ import annotations

import subprocess
import sys

import airflow_ops


def test_importing_it_loads_no_airflow() -> None:
    program = "import sys, airflow_ops; print(sorted({name.partition('.')[0] for name in sys.modules} & {'airflow', 'datalayer', 'kubernetes'}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_what_airflow_imports_at_every_start_imports_nothing() -> None:
    program = "import sys; from airflow_ops.provider_info import get_provider_info; print('airflow' in sys.modules, 'datalayer' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_every_name_is_there() -> None:
    assert dir(airflow_ops) == sorted(airflow_ops.__all__)
    for name in airflow_ops.__all__:
        assert getattr(airflow_ops, name) is not None
