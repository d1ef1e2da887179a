import pytest

from policies.config import VideoRewardConfig, VideoScoreConfig
from policies.errors import InputError
from services.reward_options import reward_config


def test_options_make_the_configuration_of_their_model() -> None:
    options = {"weights": "dir", "base": "base", "dtype": "bfloat16", "rotary": "published", "device": None}
    assert reward_config("videoreward", **options) == VideoRewardConfig(
        path="dir", base="base", dtype="bfloat16", rotary="published"
    )
    assert reward_config("videoscore", weights="owner/name", max_frames=8) == VideoScoreConfig(
        path="owner/name", max_frames=8
    )
    assert reward_config("shapes").model == "shapes"


@pytest.mark.parametrize(
    ("reward", "options", "message"),
    [
        ("shapes", {"dtype": "bfloat16"}, "--dtype: Input should be 'float32' for the reward model shapes"),
        ("videoscore", {"weights": "d", "rotary": "exact"}, "--rotary is not for the reward model videoscore"),
        ("shapes", {"max_frames": 8}, "--max-frames is not for the reward model shapes"),
        ("videoscore", {}, "--reward videoscore needs --weights"),
    ],
)
def test_options_that_do_not_fit_are_refused(reward: str, options: dict[str, str | int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        reward_config(reward, **options)
