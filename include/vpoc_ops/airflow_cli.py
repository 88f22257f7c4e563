"""``python -m vpoc_ops.airflow_cli ...``: Airflow's own command line on the Airflow that `make up` started."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vpoc_airflow import env
from vpoc_ops import supervisor


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``airflow`` with the environment of the running home and return its exit code."""
    parser = argparse.ArgumentParser(add_help=False)  # --help is Airflow's
    parser.add_argument("--home", type=Path, default=env.PROJECT / ".airflow" / "up", help="Airflow's folder")
    options, rest = parser.parse_known_args(arguments)
    home = options.home.absolute()
    if not supervisor.living(home):
        supervisor.console.print(f"Expected a running Airflow in {home}; found none. Start it with `make up`.")
        return 2
    command = [sys.executable, "-m", "airflow", *rest]
    return subprocess.run(command, env=supervisor.environment(home), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
