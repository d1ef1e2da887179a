"""Preference objectives: ordinary losses on the network's predictions."""
