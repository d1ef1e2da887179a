"""How many replicas of which application this process could call, as far as Serve has told it.

Apart from the router itself, of which Serve makes copies that would each have a list of their own.
"""

from __future__ import annotations

from typing import Protocol


class _Router(Protocol):
    @property
    def reachable(self) -> int: ...


_routers: dict[str, _Router] = {}


def know(app: str, router: _Router) -> None:
    """Remembers the router of an application; the newest one counts."""
    _routers[app] = router


def replicas_of(app: str) -> int:
    """How many replicas could be called now; cheap."""
    router = _routers.get(app)
    return 0 if router is None else router.reachable
