from pathlib import Path

import pytest

from cluster.config import RunConfig
from services.config_keys import Key, all_keys
from services.config_page import config_page
from tests.services.fake_run import FAKE_TEST, fake_line

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("key", list(all_keys(RunConfig)), ids=lambda key: key.dotted)
def test_every_setting_is_documented(key: Key) -> None:
    assert key.doc.endswith("."), f"write a docstring under {key.dotted}"


def test_every_metric_is_documented() -> None:
    page = (DOCS / "metrics.md").read_text()
    nested = fake_line(0)["pairs"][0].keys() | fake_line(0)["seconds"].keys() | fake_line(0)["pids"].keys()
    assert [key for key in fake_line(0).keys() | nested | FAKE_TEST.keys() if f"`{key}`" not in page
            and not key.endswith("_ci95")] == []  # fmt: skip


def test_the_page_is_what_the_source_says() -> None:
    assert (DOCS / "config.md").read_text() == config_page(), "run `onlinevpo config docs > docs/config.md`"
