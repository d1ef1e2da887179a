"""VideoScore (arXiv 2406.15252): Idefics2 or Qwen2-VL with a regression head that gives five scores of 1 to 4."""
