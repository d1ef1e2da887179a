"""Who is let in."""

import base64
from typing import Any

import httpx2
import pytest

from cluster.errors import StoreUnavailableError
from cluster.store.keys import ApiKey, new_key
from cluster.store.store import Store
from services.gateway import auth
from services.gateway.app import create_app
from services.gateway.auth import Auth, Authenticator
from services.gateway.examples import CLIP, PROMPT
from tests.services.gateway.conftest import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY = {"items": [{"prompt": PROMPT, "video": {"data": CLIP}}]}


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anyone:{password}".encode()).decode()


@pytest.mark.parametrize(
    "form",
    ["{}", "Token {}", "Bearer  ", "Bearer {}x", "Bearer x{}", "Bearer {} {}", "Basic {}", "Bearer\t{}", "bearer:{}"],
)
async def test_other_forms_of_a_key_are_no_key(service: Service, form: str) -> None:
    async with service.client(Authorization=form.format(service.admin, service.admin)) as client:
        response = await client.get("/v1/models")
    assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")
    assert response.headers["www-authenticate"] == "Bearer"


async def test_two_keys_are_no_key(service: Service) -> None:
    headers = [("Authorization", f"Bearer {service.admin}")] * 2
    async with service.client() as client:
        assert (await client.get("/v1/models", headers=headers)).status_code == 401


async def test_a_key_with_the_right_id_and_another_secret_is_refused(service: Service) -> None:
    mine, other = service.admin.split("_"), new_key().token.split("_")
    async with service.client("_".join([*mine[:2], other[2]])) as client:
        assert (await client.get("/v1/models")).status_code == 401


async def test_a_revoked_key_is_refused_within_seconds(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    token = await service.token("score")
    async with service.client(token) as client:
        assert (await client.get("/v1/models")).status_code == 200
        await service.gateway.store.keys.revoke(token.split("_")[1])
        now = auth.time.monotonic()
        monkeypatch.setattr(auth.time, "monotonic", lambda: now + auth.REMEMBERED_S)
        assert (await client.get("/v1/models")).status_code == 401


@pytest.mark.parametrize(
    ("scopes", "path", "status"),
    [
        (("score",), "/v1/score", 200),
        (("run", "admin"), "/v1/score", 403),
        (("run", "admin"), "/v1/compare", 403),
        (("score", "run"), "/v1/models/shapes/restart", 403),
        (("admin",), "/v1/models/shapes/restart", 202),
    ],
)
async def test_a_key_may_do_what_its_scopes_say(
    service: Service, scopes: tuple[Any, ...], path: str, status: int
) -> None:
    async with service.client(await service.token(*scopes)) as client:
        response = await client.post(path, json=BODY)
    assert response.status_code == status, response.text
    if status == 403:
        assert response.json()["code"] == "forbidden" and "scope" in response.json()["detail"]


async def test_browsers_may_open_pages_with_the_key_as_password(service: Service) -> None:
    async with service.client(Authorization=basic(service.admin)) as client:
        for path in ("/docs", "/docs/start.js", "/docs/swagger-ui.css", "/openapi.json", "/problems/not_found"):
            assert (await client.get(path)).status_code == 200, path


async def test_a_password_opens_nothing_else(service: Service) -> None:
    """A browser sends it by itself, also when another site's page makes it ask."""
    async with service.client(Authorization=basic(service.admin)) as client:
        assert (await client.get("/v1/models")).status_code == 401
        assert (await client.post("/docs", json={})).status_code == 401
        assert (await client.post("/v1/score", json=BODY)).status_code == 401
        assert (await client.get("/metrics")).status_code == 401


async def test_a_browser_is_asked_for_a_password_on_pages_only(service: Service) -> None:
    async with service.client() as client:
        assert (await client.get("/docs")).headers["www-authenticate"].startswith("Basic ")
        assert (await client.get("/v1/models")).headers["www-authenticate"] == "Bearer"


class Keys:
    """Keys of a store that may be away; counts how often it is asked."""

    def __init__(self, key: ApiKey | None) -> None:
        self.key, self.asked, self.is_away = key, 0, False

    async def authenticate(self, token: str) -> ApiKey | None:
        self.asked += 1
        if self.is_away:
            raise StoreUnavailableError("away")
        return self.key


class KeyStore(Store):
    def __init__(self, keys: Any) -> None:
        self.keys = keys


async def test_the_store_is_not_asked_for_each_request() -> None:
    new = new_key()
    keys = Keys(ApiKey(id=new.id, name="a", scopes=frozenset({"score"}), created_at=0.0))
    authenticator = Authenticator(KeyStore(keys))
    for _ in range(100):
        assert await authenticator.key(new.token) is keys.key
    assert keys.asked == 1
    assert new.token not in repr(vars(authenticator))


async def test_a_key_that_was_refused_is_asked_about_again() -> None:
    keys = Keys(None)
    authenticator = Authenticator(KeyStore(keys))
    for _ in range(3):
        assert await authenticator.key(new_key().token) is None
    assert keys.asked == 3


async def test_what_has_not_the_form_of_a_key_does_not_reach_the_store() -> None:
    keys = Keys(None)
    assert await Authenticator(KeyStore(keys)).key("x" * 10_000) is None
    assert keys.asked == 0


async def test_without_the_store_nobody_is_let_in_and_all_may_try_again(service: Service) -> None:
    keys = Keys(None)
    keys.is_away = True
    app = create_app(service.gateway)
    (layer,) = [layer for layer in app.user_middleware if layer.cls is Auth]
    layer.kwargs["store"] = KeyStore(keys)
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {service.admin}"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        response = await client.get("/v1/models")
        assert (response.status_code, response.json()["code"]) == (503, "store_unavailable")
        assert response.json()["retryable"] and int(response.headers["retry-after"]) >= 1
        assert (await client.get("/livez")).status_code == 200
