"""Reward models: what turns the frames of a video and its prompt into named scores."""
