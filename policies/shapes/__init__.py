"""The bundled world "moving shapes": prompts, clips, an exact scorer, and the tiny real models trained on it."""
