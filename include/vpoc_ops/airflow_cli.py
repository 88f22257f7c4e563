"""``python -m vpoc_ops.airflow_cli ...``: Airflow's own command line on the Airflow that `make up` started."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from vpoc_ops import command_line, parts
from vpoc_ops.airflow_home import UP_HOME
from vpoc_ops.command_line import HomeOption

app = command_line.new_app(__doc__)


@app.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})  # --help is Airflow's
def airflow(
    words: Annotated[list[str], typer.Argument(help="Words of Airflow's command line.")] = [],  # noqa: B006
    home: HomeOption = UP_HOME,
) -> None:
    """Run ``airflow`` with the environment of the running home; its exit code is this one's."""
    home = home.absolute()
    if not parts.living(home):
        typer.echo(f"Expected a running Airflow in {home}; found none. Start it with `make up`.")
        raise typer.Exit(2)
    command = [sys.executable, "-m", "airflow", *words]
    raise typer.Exit(subprocess.run(command, env=parts.environment_of(home), check=False).returncode)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return command_line.run(app, arguments)


if __name__ == "__main__":
    sys.exit(main())
