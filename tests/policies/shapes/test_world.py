"""The renderer of the moving-shapes world."""

import numpy as np
import pytest

from policies.shapes.prompts import ALL_PROMPTS, TRAIN_PROMPTS, VALUES, parse_prompt
from policies.shapes.world import Corruption, FaultRates, area_of, coverage, render, render_batch, shown_attributes


def test_a_clip_is_nine_frames_of_32_by_32_in_uint8() -> None:
    clip = render("a red circle moving left slowly", np.random.default_rng(0))
    assert clip.shape == (9, 32, 32, 3)
    assert clip.dtype == np.uint8


def test_the_same_state_of_the_generator_renders_the_same_clip() -> None:
    fault = Corruption(visual=0.7, motion=0.4, wrong=("colour",))
    one, two = (render(ALL_PROMPTS[5], np.random.default_rng(3), fault) for _ in range(2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, render(ALL_PROMPTS[5], np.random.default_rng(4), fault))


def test_text_and_attributes_render_alike() -> None:
    text = "a cyan square moving up quickly"
    one = render(text, np.random.default_rng(0))
    assert np.array_equal(one, render(parse_prompt(text), np.random.default_rng(0)))


def test_a_red_circle_moving_left_is_red_and_moves_left() -> None:
    clip = render("a red circle moving left quickly", np.random.default_rng(0)).astype(float)
    assert clip[..., 0].max() == 255
    assert clip[..., 1:].max() < 60
    columns = (clip[..., 0].sum(1) * np.arange(32)).sum(-1) / clip[..., 0].sum((1, 2))
    assert np.all(np.diff(columns) < -1.5)


@pytest.mark.parametrize("shape", VALUES["shape"])
def test_edges_are_antialiased_and_the_area_is_as_stated(shape: str) -> None:
    cover = coverage(shape, np.array([[16.3, 15.8]]), np.array([5.2]))[0]
    assert cover.sum() == pytest.approx(area_of(shape, 5.2), rel=0.03)
    assert ((cover > 0) & (cover < 1)).sum() > 10


@pytest.mark.parametrize("name", VALUES)
def test_a_wrong_attribute_shows_another_value_and_leaves_the_rest(name: str) -> None:
    rng = np.random.default_rng(0)
    for prompt in ALL_PROMPTS[::7]:
        asked, shown = parse_prompt(prompt), shown_attributes(prompt, Corruption(wrong=(name,)), rng)
        assert [part for part in VALUES if getattr(asked, part) != getattr(shown, part)] == [name]


def test_even_the_worst_motion_fault_leaves_something_to_see_in_nearly_every_frame() -> None:
    clips = render_batch(ALL_PROMPTS, np.random.default_rng(1), [Corruption(motion=1.0)] * 144)
    visible = (clips.max(-1) > 60).sum((2, 3))
    assert (visible >= 8).mean() > 0.98


def test_fault_rates_are_kept() -> None:
    rng, rates = np.random.default_rng(0), FaultRates(visual=0.4, motion=0.2, wrong=0.1)
    drawn = [rates.draw(rng) for _ in range(4000)]
    assert np.mean([fault.visual > 0 for fault in drawn]) == pytest.approx(0.4, abs=0.03)
    assert np.mean([fault.motion > 0 for fault in drawn]) == pytest.approx(0.2, abs=0.03)
    assert np.mean([len(fault.wrong) for fault in drawn]) == pytest.approx(0.4, abs=0.04)
    assert min(fault.visual for fault in drawn if fault.visual) >= 0.35


def test_bad_arguments_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"severity 1\.5"):
        Corruption(visual=1.5)
    with pytest.raises(ValueError, match="'size' is no attribute"):
        Corruption(wrong=("size",))
    with pytest.raises(ValueError, match="2 prompts but 1 corruptions"):
        render_batch(TRAIN_PROMPTS[:2], rng, [Corruption()])
    with pytest.raises(ValueError, match="not of the moving-shapes world"):
        render("a dog", rng)


def test_an_empty_batch_renders_no_clip() -> None:
    assert render_batch([], np.random.default_rng(0)).shape == (0, 9, 32, 32, 3)
