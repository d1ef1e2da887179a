"""What is learned and how it is judged. Runs in one process; needs torch, diffusers, transformers, peft; never Ray."""
