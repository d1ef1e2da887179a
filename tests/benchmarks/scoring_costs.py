"""What the models of the scoring benchmark cost."""

BATCH_ITEMS = 32

COSTS_S = {"noop": (0.0, 0.0), "fixed": (0.020, 0.0005), "pair": (0.005, 0.0)}
"""Seconds a and b of a batch of n items, a + b n, by the name of the deployment."""

PIDS = "ONLINEVPO_BENCHMARK_PIDS"
"""Environment variable: a folder where each replica leaves a file that has its process id at the end of its name."""
