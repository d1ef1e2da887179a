"""VideoReward (VideoAlign, arXiv 2501.13918): Qwen2-VL with a head that is read at reward tokens."""
