from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.errors import InputError
from policies.prompts import load_prompts, prompt_batches
from policies.types import Prompt, VideoShape


def write(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def prompts_of(count: int) -> list[Prompt]:
    return [Prompt(id=f"p{index}", text=f"prompt {index}") for index in range(count)]


def test_txt_has_one_prompt_a_line_without_blanks_and_comments(tmp_path: Path) -> None:
    source = write(tmp_path, "p.txt", "\ufeff# mine\na cat\r\n\n  a dog, café  \n")
    assert load_prompts(source) == [Prompt(id="p00000", text="a cat"), Prompt(id="p00001", text="a dog, café")]


def test_jsonl_carries_ids_and_shapes(tmp_path: Path) -> None:
    source = write(
        tmp_path, "p.jsonl",
        '{"id": "a", "prompt": "a cat", "shape": {"num_frames": 9, "height": 16, "width": 32}}\n\n'
        '{"id": "b", "prompt": "a dog", "shape": null}\n',
    )  # fmt: skip
    assert load_prompts(source) == [
        Prompt(id="a", text="a cat", shape=VideoShape(num_frames=9, height=16, width=32)),
        Prompt(id="b", text="a dog"),
    ]


@pytest.mark.parametrize(("split", "count"), [("train", 104), ("validation", 16), ("test", 24)])
def test_bundled_splits(split: str, count: int) -> None:
    prompts = load_prompts(f"shapes:{split}")
    assert len({prompt.id for prompt in prompts}) == len(prompts) == count


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.txt", "", "holds no prompts"),
        ("p.txt", "\n# only a comment\n  \n", "holds no prompts"),
        ("p.txt", b"a cat\n\xff\xfe\n", "p.txt:2: not UTF-8 (byte 0xff)"),
        ("p.csv", "a cat", "p.csv: prompts come from a .txt file"),
        ("p.jsonl", "", "holds no prompts"),
        ("p.jsonl", '{"id": "a", "prompt": "x"}\n{"id": "a", "prompt": "y"}', "p.jsonl:2: id 'a' is already on line 1"),
        ("p.jsonl", "a cat", "p.jsonl:1: not JSON"),
        ("p.jsonl", "[" * 100_000, "p.jsonl:1: not JSON"),
        ("p.jsonl", '"a cat"', "p.jsonl:1: expected an object"),
        ("p.jsonl", '{"prompt": "x"}', "p.jsonl:1: id is missing"),
        ("p.jsonl", '{"id": "a"}', "p.jsonl:1: prompt is missing"),
        ("p.jsonl", '{"id": 3, "prompt": "x"}', "p.jsonl:1: id is 3; expected text"),
        ("p.jsonl", '{"id": "a", "prompt": " "}', "p.jsonl:1: prompt is empty"),
        ("p.jsonl", '{"id": "a", "id": "b", "prompt": "x"}', "p.jsonl:1: key 'id' appears twice"),
        ("p.jsonl", '{"id": "a", "prompt": "x", "seed": 1}', "p.jsonl:1: unknown key 'seed'"),
        ("p.jsonl", '{"id": "a", "prompt": "\\ud800"}', "p.jsonl:1: prompt holds half a surrogate pair"),
        ("p.jsonl", '{"id": "a", "prompt": "x", "shape": [9, 32, 32]}', "p.jsonl:1: shape is [9, 32, 32]"),
        (
            "p.jsonl",
            '{"id": "a", "prompt": "x", "shape": {"num_frames": 9, "height": 32}}',
            "expected an object with num_frames, height, width",
        ),
        (
            "p.jsonl",
            '{"id": "a", "prompt": "x", "shape": {"num_frames": true, "height": 32, "width": 32}}',
            "shape.num_frames is True",
        ),
        (
            "p.jsonl",
            '{"id": "a", "prompt": "x", "shape": {"num_frames": 9, "height": 0, "width": 32}}',
            "shape.height is 0; expected a whole number above 0",
        ),
    ],
)  # fmt: skip
def test_unusable_sources_say_where_and_why(tmp_path: Path, name: str, content: str | bytes, said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_prompts(write(tmp_path, name, content))
    assert said in str(caught.value)


def test_every_bad_line_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_prompts(write(tmp_path, "p.jsonl", "{}\n" * 30))
    lines = str(caught.value).splitlines()
    assert len(lines) == 21 and "p.jsonl:20:" in lines[19] and lines[20] == "... and 10 more"


@pytest.mark.parametrize(("source", "said"), [("nowhere.txt", "no such prompt file"), ("shapes:tes", "has the splits")])
def test_missing_sources(source: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_prompts(source)


def test_a_folder_is_no_prompt_file(tmp_path: Path) -> None:
    (tmp_path / "p.txt").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        load_prompts(str(tmp_path / "p.txt"))


@given(count=st.integers(1, 12), per_update=st.integers(1, 30), first=st.integers(0, 40), seed=st.integers(0, 3))
def test_a_batch_depends_on_its_index_alone(count: int, per_update: int, first: int, seed: int) -> None:
    prompts = prompts_of(count)
    whole = list(prompt_batches(prompts, per_update=per_update, run_seed=seed, first=0, last=first + 3))
    part = list(prompt_batches(prompts, per_update=per_update, run_seed=seed, first=first, last=first + 3))
    assert whole[first:] == part
    assert [batch.index for batch in part] == [first, first + 1, first + 2]
    assert all(len(batch.prompts) == per_update for batch in whole)


@given(count=st.integers(1, 12), per_update=st.integers(1, 30), seed=st.integers(0, 3))
def test_every_epoch_holds_every_prompt_once(count: int, per_update: int, seed: int) -> None:
    batches = prompt_batches(prompts_of(count), per_update=per_update, run_seed=seed, first=0, last=count * 2)
    row = [prompt.id for batch in batches for prompt in batch.prompts]
    for start in range(0, len(row) - count + 1, count):
        assert max(Counter(row[start : start + count]).values()) == 1


def test_orders_differ_between_epochs_and_seeds() -> None:
    def order(seed: int, epoch: int) -> tuple[Prompt, ...]:
        batches = prompt_batches(prompts_of(50), per_update=50, run_seed=seed, first=epoch, last=epoch + 1)
        return next(batches).prompts

    assert len({order(0, 0), order(0, 1), order(1, 0), tuple(prompts_of(50))}) == 4


def test_the_order_never_changes_with_a_version() -> None:
    batch = next(prompt_batches(prompts_of(8), per_update=8, run_seed=0, first=0, last=1))
    assert [prompt.id for prompt in batch.prompts] == ["p0", "p4", "p6", "p7", "p5", "p2", "p3", "p1"]


def test_a_late_batch_is_found_at_once() -> None:
    batch = next(prompt_batches(prompts_of(100), per_update=8, run_seed=0, first=10**12, last=10**12 + 1))
    assert batch.index == 10**12


def test_no_prompts_make_no_batch() -> None:
    with pytest.raises(InputError, match="0 prompts and 8 per update"):
        next(prompt_batches([], per_update=8, run_seed=0, first=0, last=1))
