"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a setting, as in learner.learning_rate=1e-4.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout, progress on stderr."
)


def data_options(command: Command) -> Command:
    """Adds the options that say where a service keeps its data; the command takes `data_dir` and `store`."""
    folder = click.option(
        "--data-dir", metavar="DIR", help="Folder for the store and uploaded files.  [default: onlinevpo-data]"
    )
    store = click.option(
        "--store",
        metavar="PATH_OR_URL",
        help="Store: a path or a Redis URL.  [default: a SQLite file in the data folder]",
    )
    return folder(store(command))
