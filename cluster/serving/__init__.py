"""Reward models as a service: what a batch is, who runs it, and how it is deployed on Ray Serve."""
