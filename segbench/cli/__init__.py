"""The command line. Each command is one small module; none imports torch before it must.

Exit codes: 0 done, 1 a fault the message explains, 2 a wrong configuration or command line,
3 another process owns the training state or the results, 70 a defect of segbench, 75 interrupted
with the state saved, 130 Ctrl-C, 141 the reader of standard output is gone, 143 SIGTERM.
"""

from __future__ import annotations

import importlib

import click

from segbench import __version__

COMMANDS = (
    "run",
    "doctor",
    "models",
    "recipes",
    "datasets",
    "protocols",
    "score",
    "compare",
    "explain",
    "download",
    "prepare",
    "check-data",
    "train",
    "predict",
    "control",
    "submit",
    "evaluate",
    "profile",
    "overlays",
    "collect",
    "report",
    "redo",
)
"""Each is a module of this package with a function of its name."""


class Commands(click.Group):
    """A group that imports a command's module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from segbench.core.errors import did_you_mean

        if cmd_name not in COMMANDS:
            ctx.fail(f"No such command '{cmd_name}'.{did_you_mean(cmd_name, COMMANDS)}")
        name = cmd_name.replace("-", "_")
        module = importlib.import_module(f"segbench.cli.{name}")
        command: click.Command = getattr(module, name)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="segbench")
def cli() -> None:
    """Train, score and rank segmentation architectures under named protocols.

    `segbench run` makes the whole board; every other command is one of its steps.
    """


def main() -> None:
    """Run the command line and exit with the code of this module's docstring."""
    from segbench.core import stopping
    from segbench.core.faults import exit_codes

    stopping.listen()
    exit_codes(_command)


def _command() -> int:
    from segbench.core import stopping

    try:
        return int(cli.main(prog_name="segbench", standalone_mode=False) or 0)
    except (click.exceptions.Abort, KeyboardInterrupt):
        return stopping.requests.exit_code
    except click.ClickException as error:
        error.show()
        return 2
