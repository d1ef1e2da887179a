import pytest

from cluster.errors import PartError
from cluster.failures import describe, rebuild
from policies.errors import InputError, NonFiniteError, OnlineVPOError


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


@pytest.mark.parametrize("kind", [InputError, NonFiniteError])
def test_an_error_of_ours_comes_back_as_itself_with_its_trace(kind: type[OnlineVPOError]):
    back = rebuild("learner rank 0", describe(raised(kind("what, value, advice"))))
    assert type(back) is kind and str(back) == "what, value, advice"
    assert "Traceback" in back.__notes__[0]


@pytest.mark.parametrize("error", [KeyError("token"), ConnectionError("peer"), PartError("inner")])
def test_any_other_error_is_quoted(error: Exception):
    back = rebuild("learner rank 1", describe(raised(error)))
    assert type(back) is PartError and str(back) == f"learner rank 1 raised {type(error).__name__}: {error}"
