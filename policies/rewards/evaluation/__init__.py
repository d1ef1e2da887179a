"""How well a reward model agrees with people."""
