"""The command line: ``soma-bench COMMAND``. Commands are imported when they are called."""

from __future__ import annotations

import io
import os
import signal
import sys
from importlib import import_module
from types import FrameType
from typing import NoReturn

import click

from soma_bench import __version__
from soma_bench.errors import SomaError

_COMMANDS: dict[str, tuple[str, str]] = {
    "doctor": ("soma_bench.cli.doctor:doctor", "Look at this machine and say what can run on it."),
    "models": ("soma_bench.cli.models:models", "List, fetch and derive local models."),
    "cases": ("soma_bench.cli.cases:cases", "Make suites by seed; import them from files."),
    "sweep": ("soma_bench.cli.sweep:sweep", "Run a declared set of trials; resumes by itself."),
    "worker": ("soma_bench.cli.cluster:worker", "Answer the trials of sweeps run elsewhere."),
    "score": ("soma_bench.cli.sweep:score", "Score a run's stored answers; calls no model."),
    "store": ("soma_bench.cli.store:store", "Look at a store of trials; bring it up to date."),
    "compare": ("soma_bench.cli.compare:compare", "Compare a run's targets, agent by agent."),
    "optimize": ("soma_bench.cli.optimize:optimize", "Choose the best routing; write a profile."),
    "confirm": ("soma_bench.cli.confirm:confirm", "Measure whole analyses on a profile's targets."),
    "gate": ("soma_bench.cli.gate:gate", "Hold a run against a profile: exit code 1 when worse."),
    "report": ("soma_bench.cli.report:report", "Write a run's report as one HTML file."),
    "profile": (
        "soma_bench.cli.profile:profile",
        "Validate, show, compare, lint and sign profiles.",
    ),
    "export": (
        "soma_bench.cli.profile:export",
        "Export a profile as JSON, a module for Node or .env.",
    ),
    "route": ("soma_bench.cli.route:route", "Say where an agent's question goes, and why."),
    "costs": ("soma_bench.cli.costs:costs", "Reckon cloud, hybrid and local, and the pay-back."),
    "judge": ("soma_bench.cli.judge:judge", "Draw answers to label; measure a judge by labels."),
    "run": ("soma_bench.cli.run:run", "Analyse a case live with a profile."),
    "latency": (
        "soma_bench.cli.latency:latency",
        "Measure how fast targets answer under load.",
    ),
    "replay": ("soma_bench.cli.replay:replay", "Try a profile on recorded calls."),
    "serve": ("soma_bench.cli.serve:serve", "Serve reports by a profile to SOMA's front end."),
    "notebook": ("soma_bench.cli.notebook:notebook", "Execute a notebook with checked parameters."),
}

_MAX_LINE = 1200
"""Longest error that is shown: an argument or a path in it may have any length."""


class _LazyGroup(click.Group):
    """A group that knows its commands' names and first lines without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        if name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: soma-bench sweep sweeps/demo.yaml && soma-bench compare demo",
)
@click.version_option(__version__, package_name="soma-bench")
def cli() -> None:
    """Find, prove and export the best LLM routing for the SOMA medical report system.

    Exit codes: 0 done, 1 the answer is no, 2 wrong use or bad input.
    """


def main() -> None:
    """Run the command line; every foreseen error is one line on stderr."""
    received = _treat_sigterm_as_interrupt()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A path may hold bytes that are no text; in JSON the replacement is an escape that is valid.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = cli(standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        _fail(_missing_command(error))
    except click.UsageError as error:
        where = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
        _fail(error.format_message() + where)
    except click.ClickException as error:
        _fail(error.format_message())
    except SomaError as error:
        _fail(str(error))
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("stopped\n")
        _end(128 + (received[-1] if received else signal.SIGINT))
    except OSError as error:
        _fail(f"{error.filename or 'the output'}: {error.strerror or error}")
    _end(code if isinstance(code, int) else 0)


def _missing_command(error: click.exceptions.NoArgsIsHelpError) -> str:
    group, ctx = error.ctx.command, error.ctx
    known = ", ".join(group.list_commands(ctx)) if isinstance(group, click.Group) else "none"
    return f"{ctx.command_path}: a command is missing; there are: {known} (see --help)"


def _treat_sigterm_as_interrupt() -> list[int]:
    """Let SIGTERM unwind the work as Ctrl-C does; the list gets the signal that was received."""
    received: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> None:
        received.append(number)
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # So a shell starts what it puts into the background.
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGTERM, interrupt)
    return received


def _fail(message: str) -> NoReturn:
    """One line on stderr and exit code 2."""
    line = " ".join(message.split())
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    cut = shown if len(shown) <= _MAX_LINE else f"{shown[:_MAX_LINE]}..."
    sys.stderr.write(f"error: {cut}\n")
    _end(2)


def _end(code: int) -> NoReturn:
    """Exit once all output is out; a reader that has gone away (``| head``) is no error of ours."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"error: the output cannot be written: {error.strerror}\n")
            code = 2
    sys.exit(code)
