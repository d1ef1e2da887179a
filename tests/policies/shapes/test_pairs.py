"""Synthetic preferences: their labels, and that nothing held out is in them."""

import numpy as np
import pytest

from policies.shapes.pairs import draw_pairs, label, through_vae, training_steps
from policies.shapes.pretrain import FAULTS, draw_faulty, render_training_clips
from policies.shapes.prompts import TRAIN_PROMPTS
from policies.shapes.reward import new_reward_model
from policies.shapes.vae import new_vae
from policies.shapes.world import Corruption


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (Corruption(), Corruption(), (0, 0, 0)),
        (Corruption(), Corruption(visual=0.5), (1, 0, 0)),
        (Corruption(motion=0.9), Corruption(motion=0.2), (0, -1, 0)),
        (Corruption(visual=0.30), Corruption(visual=0.40), (0, 0, 0)),
        (Corruption(wrong=("colour",)), Corruption(wrong=("shape",)), (0, 0, 0)),
        (Corruption(wrong=("colour",)), Corruption(wrong=("shape", "speed")), (0, 0, 1)),
    ],
)
def test_the_milder_fault_is_better_and_equal_faults_tie(
    first: Corruption, second: Corruption, expected: tuple[int, int, int]
) -> None:
    assert label(first, second) == expected
    assert label(second, first) == tuple(-value for value in expected)


def test_no_training_clip_shows_a_held_out_combination() -> None:
    rng = np.random.default_rng(0)
    for prompt in TRAIN_PROMPTS * 5:
        shown, _ = draw_faulty(prompt, FAULTS, rng)
        assert shown.prompt in TRAIN_PROMPTS


def test_training_clips_are_rendered_one_per_prompt() -> None:
    clips = render_training_clips(list(TRAIN_PROMPTS[:3]), FAULTS, np.random.default_rng(0))
    assert clips.shape == (3, 9, 32, 32, 3)


def test_pairs_are_of_training_prompts_and_the_same_for_the_same_seed() -> None:
    one, two = (draw_pairs(20, np.random.default_rng(1)) for _ in range(2))
    assert set(one.prompts) <= set(TRAIN_PROMPTS)
    assert one.prompts == two.prompts
    assert np.array_equal(one.first_BFHWC, two.first_BFHWC)
    assert one.labels_B3.tolist() == two.labels_B3.tolist()
    assert set(one.labels_B3.flatten().tolist()) == {-1.0, 0.0, 1.0}


def test_steps_come_twice_from_the_bank_and_once_fresh() -> None:
    model, vae = new_reward_model(0), new_vae(4).eval()
    steps = training_steps(model, vae, np.random.default_rng(0), batch_size=3, bank_pairs=4)
    batches = [videos for _ in range(3) for videos in next(steps).micro_batches]
    for videos in batches:
        frames, ids = videos.inputs
        assert frames.shape == (6, 9, 32, 32, 3)
        assert ids.shape == (6, 7)
        assert videos.labels.shape == (3, 3)
    fresh, _ = batches[2].inputs
    assert fresh.amax() > 0.5  # the untrained autoencoder gives grey; fresh clips have black and colour


def test_passing_through_the_autoencoder_keeps_prompts_and_labels() -> None:
    pairs = draw_pairs(3, np.random.default_rng(0))
    passed = through_vae(pairs, new_vae(4).eval())
    assert passed.prompts == pairs.prompts
    assert passed.labels_B3 is pairs.labels_B3
    assert passed.first_BFHWC.dtype == np.uint8
    assert not np.array_equal(passed.first_BFHWC, pairs.first_BFHWC)
