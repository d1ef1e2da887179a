"""The API's description: complete, and true."""

from typing import Any

import httpx2
import jsonschema_rs
import pytest

from services.gateway.descriptions import COMPARE_EXAMPLES, SCORE_EXAMPLES

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def described(client: httpx2.AsyncClient) -> dict[str, Any]:
    return dict((await client.get("/openapi.json")).json())


def operations(spec: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation) for path, methods in spec["paths"].items() for method, operation in methods.items()
    ]


async def test_every_operation_says_what_it_does_and_what_it_answers(shared_client: httpx2.AsyncClient) -> None:
    spec = await described(shared_client)
    assert spec["openapi"].startswith("3.1")
    ids = []
    for path, method, operation in operations(spec):
        place = f"{method} {path}"
        assert operation["summary"] and operation["description"] and operation["tags"], place
        ids.append(operation["operationId"])
        responses = operation["responses"]
        assert any(status.startswith("2") for status in responses), place
        assert {"400", "401", "500"} <= set(responses), place
        for status, response in responses.items():
            if status[0] in "45":
                assert list(response["content"]) == ["application/problem+json"], (place, status)
    assert len(set(ids)) == len(ids)
    assert {operation["operationId"] for *_, operation in operations(spec)} >= {"score", "compare", "list_models"}


async def test_only_liveness_needs_no_key(shared_client: httpx2.AsyncClient) -> None:
    spec = await described(shared_client)
    assert spec["security"] == [{"key": []}]
    assert [path for path, _, operation in operations(spec) if operation.get("security") == []] == ["/livez"]


async def test_every_reference_leads_somewhere(shared_client: httpx2.AsyncClient) -> None:
    spec = await described(shared_client)
    known = {f"#/components/schemas/{name}" for name in spec["components"]["schemas"]}

    def check(value: Any) -> None:
        if isinstance(value, dict):
            assert value.get("$ref") is None or value["$ref"] in known, value
            for part in value.values():
                check(part)
        elif isinstance(value, list):
            for part in value:
                check(part)

    check(spec)


async def test_request_examples_are_sent_and_the_answers_are_as_described(shared_client: httpx2.AsyncClient) -> None:
    spec, sent = await described(shared_client), 0
    for path, method, operation in operations(spec):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            for example in content.get("examples", {}).values():
                response = await shared_client.request(method, path, json=example["value"])
                assert response.status_code == 200, response.text
                schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
                jsonschema_rs.Draft202012Validator({**schema, "components": spec["components"]}).validate(
                    response.json()
                )
                sent += 1
    assert sent >= 3


async def test_examples_of_answers_are_as_described(shared_client: httpx2.AsyncClient) -> None:
    spec, checked = await described(shared_client), set()
    for path, method, operation in operations(spec):
        for response in operation["responses"].values():
            for content in response.get("content", {}).values():
                if "example" in content:
                    schema = {**content["schema"], "components": spec["components"]}
                    jsonschema_rs.Draft202012Validator(schema).validate(content["example"])
                    checked.add((method, path))
    assert {("post", "/v1/score"), ("post", "/v1/compare"), ("get", "/v1/models")} <= checked
    (problem,) = spec["components"]["schemas"]["Problem"]["examples"]
    schema = {"$ref": "#/components/schemas/Problem", "components": spec["components"]}
    jsonschema_rs.Draft202012Validator(schema).validate(problem)


async def test_answers_have_the_fields_of_their_examples(shared_client: httpx2.AsyncClient) -> None:
    spec = await described(shared_client)
    for path, request in (("/v1/score", SCORE_EXAMPLES["several"]), ("/v1/compare", COMPARE_EXAMPLES["two"])):
        responses = spec["paths"][path]["post"]["responses"]
        answered = (await shared_client.post(path, json=request["value"])).json()
        assert set(answered) == set(responses["200"]["content"]["application/json"]["example"])
    answered = (await shared_client.get("/v1/models/shapes")).json()
    described_model = spec["paths"]["/v1/models/{name}"]["get"]["responses"]["200"]["content"]["application/json"]
    assert set(answered) == set(described_model["example"])
