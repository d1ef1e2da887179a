"""One small tree of errors. Each also is the standard error it refines, and each survives pickling by Ray."""

from __future__ import annotations


class OnlineVPOError(Exception):
    """Root of every error this system raises on purpose."""


class InputError(OnlineVPOError, ValueError):
    """The caller's input cannot be used: says what, the value, and what to do. Exit code 2.

    `public` is the same in one sentence that quotes nothing of the input, for callers who must not get it back.
    """

    def __init__(self, message: str = "", *, public: str | None = None) -> None:
        super().__init__(message)
        self.public = public


class NonFiniteError(OnlineVPOError, ArithmeticError):
    """A loss or gradient is NaN or infinite; the optimizer has not acted."""


class WeightsMismatchError(OnlineVPOError, RuntimeError):
    """Weights on disk or in memory are not the ones their manifest or request names."""


class StallError(OnlineVPOError, TimeoutError):
    """A wait passed its deadline. The message names the stage that was waited for."""


class ClusterError(OnlineVPOError, ConnectionError):
    """The Ray cluster cannot be started or reached. Exit code 3."""
