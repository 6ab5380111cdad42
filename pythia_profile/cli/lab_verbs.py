"""The verb group `lab NAME`: each lab's verbs, found by the lab's name and imported when called."""

from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from pythia_profile import labs
from pythia_profile.cli.app import app, verbs

__all__ = ["known_labs"]


def known_labs() -> list[str]:
    """Names of the labs: folders of `pythia_profile.labs` that have verbs."""
    (room,) = labs.__path__
    return sorted(path.parent.name for path in Path(room).glob("*/*_cli.py"))


class _Labs(TyperGroup):
    """Lists labs without importing more of them than the line that says what they ask."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 (all contexts have the same)
        return known_labs()

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.list_commands(ctx):
            ctx.fail(f"no lab '{cmd_name}'; known labs: {', '.join(known_labs())}")
        module = import_module(f"pythia_profile.labs.{cmd_name}.{cmd_name}_cli")
        return typer.main.get_command(module.app)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        listed = [
            (name, _first_line(import_module(f"pythia_profile.labs.{name}")))
            for name in self.list_commands(ctx)
        ]
        if listed:
            with formatter.section("Labs"):
                formatter.write_dl(listed)


def _first_line(module: Any) -> str:
    return str(module.__doc__).partition("\n")[0]


app.add_typer(
    verbs("Further questions about what a model remembers.", _Labs),
    name="lab",
    rich_help_panel="Further questions",
)
