"""What can go wrong with the processes of a run; the rest is in policies/errors.py."""

from __future__ import annotations

from policies.errors import OnlineVPOError


class PartError(OnlineVPOError, RuntimeError):
    """A part of the run failed for good: its own code raised, or it died more often than it may. Exit code 1."""


class ReplicaBrokenError(OnlineVPOError, RuntimeError):
    """A replica of a reward model will not answer again and is being replaced; others can do its work."""


class StoreUnavailableError(OnlineVPOError, ConnectionError):
    """The store did not do what it was asked within its deadline. Whether it will have is unknown. Exit code 3."""


class LeaseLostError(OnlineVPOError, RuntimeError):
    """Someone else holds this piece of work by now, or it has ended: stop working on it, nothing was written."""
