"""The README.md of the two built folders: what they take, how to call them, how they were made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.shapes.prompts import TEST_PROMPTS

if TYPE_CHECKING:
    from policies.shapes.build import BuildSettings

POLICY = """\
# Moving shapes: a tiny text-to-video model

A complete `diffusers` folder of 0.6 M parameters for the transformer and 0.7 M for the autoencoder, made to be aligned
within a minute on a laptop. It draws one shape that moves over black, with honest faults: haze, flicker, wrong colours.

```python
import torch
from diffusers import WanPipeline

pipeline = WanPipeline.from_pretrained("policy")
video = pipeline(
    prompt=["a red circle moving left slowly"],
    height=32, width=32, num_frames=9,
    num_inference_steps=6, guidance_scale=1.0,
    generator=torch.Generator().manual_seed(0),
).frames[0]
```

- **Size**: 32x32, 9 frames, to be shown at 8 frames per second. It knows no other size.
- **Prompts**: "a {{red|green|blue|yellow|magenta|cyan}} {{circle|square|triangle}} moving {{left|right|up|down}}
  {{slowly|quickly}}". Other words are unknown tokens.
- **Always pass** `height`, `width` and `num_frames`: the pipeline's defaults (480x832, 81 frames) are those of Wan 2.1,
  and slow nonsense here. `num_inference_steps`: 6 is meant, 4 to 50 work and score alike.
- **guidance_scale**: 1.0 is meant, and is what the figures below and the alignment runs use. The model never trained
  with dropped prompts; guidance happens to work nevertheless (at 2 to 5 it hides some of the faults that are to be
  learned away) and doubles the time.
- **max_sequence_length** may be 8 (quickest) to 512 (the default): trained at 8, 32 and 512.
- Needs `transformers` 5 or later (name of the tokenizer's class).

## How it was made

`onlinevpo shapes build all --seed {seed}`: nothing was downloaded and no other data was used.

- `vae`: AutoencoderKLWan, {vae_steps} steps of {vae_batch} rendered clips of all prompts (it learns pictures, no text);
  then a whitening of its latent to {channels} channels was folded into the convolutions around it.
- `tokenizer`, `text_encoder`: one token per word; a frozen UMT5 encoder with seeded random weights.
- `transformer`: WanTransformer3DModel, {policy_steps} steps of {policy_batch} flow-matching examples from
  {policy_clips} clips of the 104 training prompts, of which {visual:.0%} had a visual and {motion:.0%} a motion fault,
  and each attribute was wrong in {wrong:.0%}. No validation or test prompt, and no combination that they ask for,
  was seen.
- `scheduler`: UniPC, flow shift 1.
"""

MEASURED = """
Measured with the exact scorer (`policies.shapes.truth`), ground truth from 0 to 1: clips of the test prompts by the
call above {ground_truth:.3f} (VQ {vq:.2f}, MQ {mq:.2f}, TA {ta:.2f}), one noise, {clips} clips; clean clips after the
autoencoder's round trip {round_trip:.3f} (shapes recognised {round_trip_shape:.2f}).
"""

REWARD = """\
# Moving shapes: a learned reward

Scores clips of moving shapes in three dimensions: visual quality (VQ), motion quality (MQ), text alignment (TA). The
scores are raw: they have no unit and order clips. 0.3 M parameters, safetensors.

```python
import torch
from policies.shapes.reward import ShapesRewardModel

model = ShapesRewardModel.from_pretrained("reward").eval()
scores = model.score_frames(torch.rand(2, 9, 32, 32, 3), ["a red circle moving left slowly"] * 2)   # (2, 3)
```

After `import policies.shapes.reward`, `transformers.AutoModel.from_pretrained("reward")` works as well.

- **Frames**: BFHWC, float in [0, 1], 9 frames of 32x32 RGB; scores are differentiable with respect to them.
- **Prompts**: the 144 of the world. VQ and MQ never see the prompt.

## How it was made

`onlinevpo shapes build reward --seed {seed}`: {steps} steps of {batch} synthetic pairs of the 104 training prompts, two
thirds of them from a bank of {bank} pairs that went once through the policy's autoencoder. Labels follow from the
faults that were rendered; loss: Bradley-Terry with ties (Rao-Kupper, theta = {theta:g}). No validation or test prompt,
and no combination of attributes that they ask for, was seen.
"""


def policy_readme(settings: BuildSettings, seed: int, measured: dict[str, float] | None) -> str:
    """README of the policy's folder; measured: mean scores, and round_trip and round_trip_shape of the autoencoder."""
    made = POLICY.format(
        seed=seed,
        vae_steps=settings.vae.steps,
        vae_batch=settings.vae.batch_size,
        channels=settings.vae.kept_channels,
        policy_steps=settings.policy.steps,
        policy_batch=settings.policy_batch,
        policy_clips=settings.policy_clips,
        visual=settings.policy_faults.visual,
        motion=settings.policy_faults.motion,
        wrong=settings.policy_faults.wrong,
    )
    clips = settings.readme_clips_per_prompt * len(TEST_PROMPTS)
    return made if measured is None else made + MEASURED.format(**measured, clips=clips)


def reward_readme(settings: BuildSettings, seed: int) -> str:
    """README of the reward's folder."""
    return REWARD.format(
        seed=seed,
        steps=settings.reward.steps,
        batch=settings.reward_batch_pairs,
        bank=settings.reward_bank_pairs,
        theta=settings.reward.theta,
    )
