"""Bodies that are wrong: one clean problem each, and nothing of them in it."""

import json
from typing import Any

import httpx2
import pytest

from services.gateway.examples import CLIP, PROMPT

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"Content-Type": "application/json"}
GOOD = {"prompt": PROMPT, "video": {"data": CLIP}}
SECRET = "s3cr3t-in-the-body"

NOT_JSON = {
    "empty": b"",
    "cut off": b'{"items": [',
    "NaN": b'{"items": [], "timeout_s": NaN}',
    "Infinity": b'{"timeout_s": -Infinity}',
    "a name twice": b'{"items": [1], "items": [2]}',
    "a name twice, deep down": b'{"items": [{"prompt": "a", "prompt": "b"}]}',
    "10^5 arrays": b"[" * 100_000 + b"]" * 100_000,
    "40,000 objects in one another": b'{"a":' * 40_000 + b"1" + b"}" * 40_000,
    "a number of 10^5 digits": b'{"timeout_s": ' + b"9" * 100_000 + b"}",
    "no UTF-8": b'{"prompt": "\xff\xfe"}',
    "UTF-16": '{"items": []}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "something behind it": b"{} {}",
    "a comment": b"{} // {}",
    "a control character in a string": b'{"model": "a\x00b"}',
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
@pytest.mark.parametrize("path", ["/v1/score", "/v1/compare"])
async def test_what_is_no_json_is_one_problem(shared_client: httpx2.AsyncClient, path: str, body: bytes) -> None:
    response = await shared_client.post(path, content=body, headers=JSON)
    assert (response.status_code, response.json()["code"]) == (400, "malformed_json")


def item(**fields: Any) -> dict[str, Any]:
    return {"items": [{**GOOD, **fields}]}


INVALID: dict[str, tuple[Any, str]] = {
    "no object": ([], ""),
    "null": (None, ""),
    "no items": ({}, "/items"),
    "items are no list": ({"items": {"0": GOOD}}, "/items"),
    "no item at all": ({"items": []}, "/items"),
    "an item is no object": ({"items": [SECRET]}, "/items/0"),
    "no prompt": ({"items": [{"video": {"data": CLIP}}]}, "/items/0/prompt"),
    "prompt of another type": (item(prompt=7), "/items/0/prompt"),
    "prompt is null": (item(prompt=None), "/items/0/prompt"),
    "prompt is empty": (item(prompt=""), "/items/0/prompt"),
    "NUL in a prompt": (item(prompt=f"{SECRET}\0"), "/items/0/prompt"),
    "half a surrogate pair in a prompt": (item(prompt=f"{SECRET}\ud800"), "/items/0/prompt"),
    "prompt too long": (item(prompt=SECRET * 1000), "/items/0/prompt"),
    "video is a string": (item(video=SECRET), "/items/0/video"),
    "video is empty": (item(video={}), "/items/0/video"),
    "two videos": (item(video={"data": CLIP, "file_id": "a" * 64}), "/items/0/video"),
    "file_id is no hash": (item(video={"file_id": f"../{SECRET}"}), "/items/0/video/file_id"),
    "file_id is null": (item(video={"file_id": None}), "/items/0/video/file_id"),
    "an id of another form": (item(id=f"{SECRET}\n"), "/items/0/id"),
    "a field that is not known": (item(**{SECRET: 1}), "/items/0"),
    "a field that is not known at the top": ({**item(), SECRET: 1}, ""),
    "timeout is a string": ({**item(), "timeout_s": "5"}, "/timeout_s"),
    "timeout is true": ({**item(), "timeout_s": True}, "/timeout_s"),
    "timeout is zero": ({**item(), "timeout_s": 0}, "/timeout_s"),
    "timeout is infinite": ({**item(), "timeout_s": "1e400"}, "/timeout_s"),
    "timeout is above the server's": ({**item(), "timeout_s": 601}, "/timeout_s"),
    "timeout has 300 digits": ({**item(), "timeout_s": 10**300}, "/timeout_s"),
    "a dimension that the model lacks": ({**item(), "dimensions": ["MQ", SECRET]}, "/dimensions/1"),
    "no dimension": ({**item(), "dimensions": []}, "/dimensions"),
    "model of another form": ({**item(), "model": f"../{SECRET}"}, "/model"),
}


@pytest.mark.parametrize(("value", "pointer"), INVALID.values(), ids=INVALID.keys())
async def test_what_is_invalid_is_pointed_at_and_not_repeated(
    shared_client: httpx2.AsyncClient, value: Any, pointer: str
) -> None:
    body = json.dumps(value).replace('"1e400"', "1e400")
    response = await shared_client.post("/v1/score", content=body, headers=JSON)
    problem = response.json()
    assert response.status_code == 422, response.text
    assert problem["code"] == "invalid_request"
    assert pointer in [error["pointer"] for error in problem["errors"]]
    assert SECRET not in response.text and PROMPT not in response.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/jsonp"},
        {"Content-Type": ""},
        {},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
async def test_json_must_be_said_to_be_json(shared_client: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    response = await shared_client.post("/v1/score", content=json.dumps(item()), headers=headers)
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")


async def test_a_charset_may_be_named(shared_client: httpx2.AsyncClient) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert (await shared_client.post("/v1/score", content=json.dumps(item()), headers=headers)).status_code == 200


async def test_too_many_items_are_refused(shared_client: httpx2.AsyncClient) -> None:
    response = await shared_client.post("/v1/score", json={"items": [{}] * 1025})
    assert (response.status_code, response.json()["code"]) == (413, "too_many_items")
    response = await shared_client.post("/v1/score", content=b'{"items": [' + b"0," * 999_999 + b"0]}", headers=JSON)
    assert (response.status_code, response.json()["code"]) == (413, "too_many_items")


BOMBS = {
    "many objects": (b'{"items": [' + b"{}," * 60_000 + b"{}]}", 413, "content_too_large"),
    "many numbers": (b'{"items": [' + b"0," * 1_100_000 + b"0]}", 413, "content_too_large"),
    "many members": (b"{" + b",".join(b'"%d":0' % index for index in range(100_000)) + b"}", 422, "invalid_request"),
    "many dimensions": (json.dumps({"items": [GOOD], "dimensions": [7] * 100_000}).encode(), 422, "invalid_request"),
}


@pytest.mark.parametrize(("body", "status", "code"), BOMBS.values(), ids=BOMBS.keys())
async def test_a_small_body_does_not_become_a_large_value(
    shared_client: httpx2.AsyncClient, body: bytes, status: int, code: str
) -> None:
    response = await shared_client.post("/v1/score", content=body, headers=JSON)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert len(response.content) < 10_000


LATER = {
    "a video by URL": item(video={"url": f"https://example.com/{SECRET}"}),
    "a URL as URI": item(video={"uri": f"https://example.com/{SECRET}"}),
    "a webhook": {**item(), "webhook": f"https://example.com/{SECRET}"},
    "a batch file": {"input_file_id": "a" * 64, "items": [GOOD]},
}


@pytest.mark.parametrize("value", LATER.values(), ids=LATER.keys())
async def test_what_comes_later_is_refused_as_such(shared_client: httpx2.AsyncClient, value: Any) -> None:
    response = await shared_client.post("/v1/score", json=value)
    assert (response.status_code, response.json()["code"]) == (422, "not_offered")
    assert "later" in response.json()["detail"] and SECRET not in response.text


@pytest.mark.parametrize("path", ["/v1/batches", "/v1/webhooks"])
async def test_addresses_that_come_later_say_so(shared_client: httpx2.AsyncClient, path: str) -> None:
    response = await shared_client.post(path, json={})
    assert response.json()["code"] == "not_offered"


async def test_in_one_request_a_bad_item_costs_the_good_ones_nothing(shared_client: httpx2.AsyncClient) -> None:
    bad = [value["items"][0] for name, (value, _) in INVALID.items() if name in ("no prompt", "video is empty")]
    later = LATER["a video by URL"]["items"][0]
    body = (await shared_client.post("/v1/score", json={"items": [GOOD, *bad, later, GOOD]})).json()
    codes = [entry.get("error", {}).get("code") for entry in body["data"]]
    assert codes == [None, "invalid_request", "invalid_request", "not_offered", None]
