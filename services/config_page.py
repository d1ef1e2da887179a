"""docs/config.md, from the docstrings of the configuration's fields."""

from __future__ import annotations

from typing import Any

import yaml

from cluster.config import RunConfig
from policies.config import Config
from services.config_keys import Key, all_keys

_INTRO = """# Configuration

One YAML file describes a run. Every setting, its type, its default and what it means; `onlinevpo config docs` prints
this page from the source. Unknown keys and wrong types are errors, all reported at once with their lines;
`onlinevpo validate CONFIG` checks a file without starting anything. `--set section.key=value` overrides a setting.

Relative paths in the file are relative to the file. Those given with `--set` are relative to the working directory
(or, where nothing is there, to the file). `output_dir` is relative to the working directory.

The least that a run needs:

```yaml
policy:
  path: shapes            # or a folder or hub id in diffusers layout
prompts:
  train: prompts.txt
```
"""


def config_page() -> str:
    """The page as Markdown."""
    return f"{_INTRO}\n{settings_tables(RunConfig, title='run')}"


def settings_tables(root: type[Config], *, title: str) -> str:
    """A table for every section of a configuration, as Markdown; `title` is what the whole configures."""
    parts = []
    sections: dict[tuple[str, str | None], list[Key]] = {}
    for key in all_keys(root):
        sections.setdefault((".".join(key.path[:-1]), key.model), []).append(key)
    for (section, model), keys in sections.items():
        heading = f"`{section}`" if section else f"The {title}"
        heading += f" with `model: {model}`" if model else ""
        parts.append(f"## {heading}\n\n| key | type | default | meaning |\n| --- | --- | --- | --- |")
        parts[-1] += "".join(f"\n{_row(key)}" for key in keys)
        parts[-1] += "\n"
    return "\n".join(parts)


def _row(key: Key) -> str:
    default = "**required**" if key.required else f"`{_plain(key.default)}`"
    return f"| `{key.dotted}` | {_cell(key.expected)} | {default} | {_cell(key.doc)} |"


def _plain(value: Any) -> str:
    """A default as one would write it in YAML."""
    value = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1000)
    return text.removesuffix("\n").removesuffix("...").rstrip("\n")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
