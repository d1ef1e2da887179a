"""One module per family of video models. A family owns sign, time scale, layout, prediction type and LoRA targets."""
