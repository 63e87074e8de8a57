"""The command line: parse, call, print. Heavy imports happen inside the commands.

Exit codes: 0 all done; 1 some movies or frames failed; 2 wrong usage; 3 no input; 4 interrupted, or
the cluster was lost (run the same command again to continue).
"""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click

from cypose_dask import __version__

__all__ = ["main", "run_and_exit"]

# Command, module and the line that --help shows without importing the module.
COMMANDS = {
    "segment": "Segment movies, or continue earlier runs.",
    "plan": "Say how long a run would take, and how much it needs.",
    "info": "Show axes, channels, and what a run would do.",
    "status": "Show how far results are, and which frames failed.",
    "report": "Write one HTML file that shows a result.",
    "preview": "Draw a result: frames side by side, or a film.",
    "measure": "Write a table of every cell in every frame.",
    "link": "Follow cells over time, and through divisions.",
    "verify": "Read a result again and check it, down to the labels.",
    "explain": "Show the Cellpose calls that equal a result.",
    "diff": "Say what differs between two results, and what it does.",
    "doctor": "Examine this machine, or the workers of a cluster.",
    "export": "Write a result as TIFs, or for other programs.",
    "convert": "Convert movies to OME-Zarr.",
    "evaluate": "Compare predicted labels with the truth.",
    "models": "List models, or look into one.",
    "frames": "Pick frames out of movies, to annotate them.",
    "train": "Fine-tune a model on labelled frames, or train one.",
    "compare": "Rank models, or settings, on a few frames of a movie.",
}


class LazyGroup(click.Group):
    """A group that imports a command only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import and return one command."""
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"cypose_dask.cli.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: cypose-dask segment movie.nd2 -o labels.tif",
)
@click.version_option(__version__, prog_name="cypose-dask")
def group() -> None:
    """Segment bacterial time-lapse movies with Cellpose on a Dask cluster."""


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit."""
    run_and_exit(lambda: group.main(args=args, standalone_mode=False))


def run_and_exit(command: Callable[[], Any]) -> NoReturn:
    """Run a command and exit; errors of the package become one line and an exit code."""
    from cypose_dask.errors import CyposeError

    # Batch systems send SIGTERM before they kill; it ends a run as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = command()
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo(
            "\nInterrupted. What was finished is kept. Run the same command again to continue.",
            err=True,
        )
        code = 4
    except CyposeError as error:
        click.echo(f"Error: {error}", err=True)
        code = _exit_code(error)
    sys.exit(code or 0)


def _exit_code(error: Exception) -> int:
    from cypose_dask.errors import DeviceError, MovieNotFoundError, RunError

    if isinstance(error, RunError) and not isinstance(error, DeviceError):
        return 4
    return 3 if isinstance(error, MovieNotFoundError) else 2
