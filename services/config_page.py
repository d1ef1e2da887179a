"""docs/config.md, from the docstrings of the configuration's fields."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import yaml

from cluster.config import RunConfig
from policies.config import Config
from services.config_keys import Key, all_keys
from services.serving_config import OF_A_RUN

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


_SERVING_INTRO = """# Configuration of the service

One YAML file describes a scoring service: `onlinevpo serve CONFIG`. Every setting, its type, its default and what it
means; `onlinevpo config docs --serving` prints this page from the source. Unknown keys and wrong types are errors, all
reported at once with their lines. `--set section.key=value` overrides a setting.

Relative paths in the file are relative to the file; `data_dir` and `store` are relative to the working directory. NAME
is a model's name, which requests call it by. What a run has in `reward` to make one number of several scores
(`weights`, `combine`, `calibration_samples`, `also`) is refused here: a service gives each score and the model's own
reward.

The least is no file at all, which serves the bundled model. The next is this:

```yaml
models:
  videoreward:
    reward: {model: videoreward, path: VideoReward, base: Qwen2-VL-2B, dtype: bfloat16}
    gpus_per_replica: 1
```
"""


def config_page() -> str:
    """The page about runs, as Markdown."""
    return f"{_INTRO}\n{settings_tables(RunConfig, title='run')}"


def serving_page() -> str:
    """The page about the service, as Markdown."""
    from services.serve_config import ServeConfig

    return f"{_SERVING_INTRO}\n{settings_tables(ServeConfig, title='service', without=OF_A_RUN)}"


def settings_tables(root: type[Config], *, title: str, without: Collection[str] = ()) -> str:
    """A table for every section of a configuration, as Markdown.

    Args:
        title: what the whole configures.
        without: keys that are refused here.
    """
    parts = []
    sections: dict[tuple[str, str | None], list[Key]] = {}
    for key in all_keys(root):
        if key.path[-1] in without:
            continue
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
