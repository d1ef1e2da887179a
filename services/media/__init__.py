"""The media guard: videos from strangers, as bytes, become frames in processes that can touch nothing else."""
