import inspect
import subprocess
import sys

import pytest

from services.client import AsyncClient, Client
from services.client.async_client import AsyncFiles, AsyncJobs
from services.client.client import Files, Jobs
from services.client.errors import ApiError
from services.client.videos import content_of, reference
from tests.services.client.scripted import KEY, Scripted, entry, scores


def test_the_environment_says_where_the_service_is_and_with_which_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONLINEVPO_URL", "http://elsewhere:1234/")
    monkeypatch.setenv("ONLINEVPO_API_KEY", f"{KEY}\n")
    service = Scripted(scores(entry()))
    import httpx2

    Client(transport=httpx2.MockTransport(service)).score(video="0" * 64, prompt="p")
    (request,) = service.requests
    assert str(request.url) == "http://elsewhere:1234/v1/score"
    assert request.headers["Authorization"] == f"Bearer {KEY}"


def test_what_is_missing_or_makes_no_sense_is_told_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONLINEVPO_API_KEY", raising=False)
    with pytest.raises(ValueError, match="an API key is needed: pass api_key, or set ONLINEVPO_API_KEY"):
        Client()
    with pytest.raises(ValueError, match="begins with http:// or https://, not 'ftp://x'"):
        Client("ftp://x", api_key=KEY)
    with pytest.raises(ValueError, match="begins with http:// or https://, not ''"):
        Client("", api_key=KEY)  # a variable of a script that was not set is not the service of this machine
    with pytest.raises(ValueError, match="characters that no key has"):
        Client(api_key="a\nb")


@pytest.mark.parametrize("text", ["clip.mp4", "./clip.mp4", "/tmp/clip.mp4", "", "F" * 64])
def test_text_that_looks_like_a_file_of_this_machine_is_not_taken_for_one_of_the_service(text: str) -> None:
    with pytest.raises(ValueError, match="for a file of this machine pass a Path"):
        reference(text)


def test_text_is_an_uploaded_file_or_a_path_below_a_root() -> None:
    assert reference("a" * 64) == {"file_id": "a" * 64}
    assert reference("bucket/some/clip.mp4") == {"uri": "bucket/some/clip.mp4"}


def test_webm_is_told_from_mp4_by_its_first_bytes() -> None:
    webm, mp4 = content_of(b"\x1aE\xdf\xa3..."), content_of(b"....ftyp")
    assert webm is not None and webm.data_url().startswith("data:video/webm;base64,")
    assert mp4 is not None and mp4.data_url().startswith("data:video/mp4;base64,")


@pytest.mark.parametrize(("one", "other"), [(Client, AsyncClient), (Files, AsyncFiles), (Jobs, AsyncJobs)])
def test_both_clients_have_the_same_calls_with_the_same_arguments(one: type, other: type) -> None:
    def calls(kind: type) -> dict[str, list[tuple[str, object]]]:
        return {
            name: [(parameter.name, parameter.default) for parameter in inspect.signature(call).parameters.values()]
            for name, call in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert calls(one) == calls(other)


def test_the_client_brings_neither_torch_nor_ray_nor_a_server() -> None:
    heavy = {"torch", "ray", "numpy", "av", "fastapi", "uvicorn", "pydantic", "policies", "cluster"}
    program = f"import sys, services.client; print({heavy!r} & {{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_an_error_says_once_what_is_wrong_and_where() -> None:
    places = [{"pointer": "/items/0", "detail": "Too dark."}, {"parameter": "limit", "detail": "Too large."}]
    error = ApiError(status=422, code="c", detail="Too dark.", errors=places)
    assert str(error) == "Too dark.; /items/0; limit: Too large. (422 c)"
