"""What can go wrong with the processes of a run; the rest is in policies/errors.py."""

from __future__ import annotations

from policies.errors import OnlineVPOError


class PartError(OnlineVPOError, RuntimeError):
    """A part of the run failed for good: its own code raised, or it died more often than it may. Exit code 1."""
