"""Uploaded videos. Only who uploaded a file sees it: its id is a hash of its bytes, and that is no secret."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from cluster.store.files import File
from cluster.store.idempotency import Answer
from services.gateway.files_check import UploadCheck, view_of
from services.gateway.files_content import content
from services.gateway.files_schemas import DeletedFile, FileId, FileList, FileView, UploadedFile
from services.gateway.files_upload import BYTES, FORM, received
from services.gateway.idempotency import Operation, answer_of, held, operation_of, replay
from services.gateway.pages import Cursor, Limit, listing
from services.gateway.problem_kinds import FILE_NOT_FOUND
from services.gateway.problems import JsonObject, Problem
from services.gateway.routes import answer, current, needs, new_router, problems
from services.media.files import StoredFile

_FORM_SCHEMA = {
    "type": "object",
    "required": ["file"],
    "additionalProperties": False,
    "properties": {"file": {"type": "string", "format": "binary", "description": "The video; its name is ignored."}},
}
_BODY = {
    "required": True,
    "content": {
        **{media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in BYTES},
        FORM: {"schema": _FORM_SCHEMA},
    },
}
_HAD_IT = {"model": UploadedFile, "description": "The API key had it already"}
_CONTENT = {"video/mp4": {"schema": {"type": "string", "format": "binary"}}}

router = new_router()


@router.post(
    "/v1/files", tags=["files"], operation_id="upload_file", summary="Upload a video", status_code=201,
    response_model=UploadedFile, openapi_extra={"requestBody": _BODY},
    responses={200: _HAD_IT, **problems(409, 415, 422, 507)},
)  # fmt: skip
async def upload_file(request: Request) -> Response:
    """Takes an MP4 or WebM, as the body itself or as the field `file` of a form. The same bytes are kept once.

    The video is decoded before it is kept; one that could not be scored is refused.
    """
    key = needs(request, "score")
    gateway = current(request)
    operation = operation_of(request.scope)
    async with received(request, gateway.shelf, max_bytes=gateway.config.media.max_bytes) as (stored, container):
        if operation is None:
            return await _enter(request, key.id, stored, container)
        return await _once(request, operation, stored, container)


async def _once(request: Request, operation: Operation, stored: StoredFile, container: str) -> Response:
    """The file's hash is the request's: the form around it may differ from try to try."""
    known = current(request).store.idempotency
    begun = await operation.begin(known, stored.sha256)
    if isinstance(begun, Answer):
        return replay(begun)
    async with held(known, begun) as keep:
        response = await _enter(request, operation.owner, stored, container)
        await keep(answer_of(response))
    return response


async def _enter(request: Request, owner: str, stored: StoredFile, container: str) -> Response:
    check: UploadCheck = request.app.state.upload_check
    facts = {"container": container, **await check.facts(stored.sha256, stored.size)}
    file, had_it = await current(request).shelf.enter(
        owner, sha256=stored.sha256, size=stored.size, media_type=f"video/{container}", facts=facts
    )
    return answer({**_view(file, owner), "deduplicated": had_it}, status=200 if had_it else 201)


@router.get(
    "/v1/files", tags=["files"], operation_id="list_files", summary="List files", responses=problems(422),
    response_model=FileList,
)  # fmt: skip
async def list_files(request: Request, cursor: Cursor = None, limit: Limit = 50) -> Response:
    """Files of this API key, newest first. New ones do not move the pages of those before them."""
    owner = needs(request, "score").id

    def entry(file: File) -> JsonObject:
        return _view(file, owner)

    return answer(await listing(current(request).store.files.page, owner, entry, cursor=cursor, limit=limit))


@router.get(
    "/v1/files/{file_id}", tags=["files"], operation_id="get_file", summary="Look at a file", responses=problems(422),
    response_model=FileView,
)  # fmt: skip
async def get_file(request: Request, file_id: FileId) -> Response:
    """What is known of a file."""
    return answer(_view(*await _own(request, file_id)))


@router.get(
    "/v1/files/{file_id}/content", tags=["files"], operation_id="get_file_content", summary="Download a file",
    responses={
        200: {"description": "The video", "content": _CONTENT},
        206: {"description": "The range of it that was asked for", "content": _CONTENT},
        304: {"description": "The caller has it"},
        **problems(416, 422),
    },
    response_class=Response,
)  # fmt: skip
async def get_file_content(request: Request, file_id: FileId) -> Response:
    """The bytes, with an ETag; one Range is served as 206."""
    file, _ = await _own(request, file_id)
    path = current(request).files.find(file.sha256)
    return await content(path, sha256=file.sha256, media_type=file.media_type, headers=request.headers)


@router.delete(
    "/v1/files/{file_id}", tags=["files"], operation_id="delete_file", summary="Delete a file", responses=problems(422),
    response_model=DeletedFile,
)  # fmt: skip
async def delete_file(request: Request, file_id: FileId) -> Response:
    """This API key has it no longer. Jobs that were accepted before can still read it."""
    file, owner = await _own(request, file_id)
    await current(request).shelf.take_from(owner, file.sha256)
    request.app.state.engine.videos.forget(owner, file.sha256)
    return answer({"id": file.sha256, "object": "file", "deleted": True})


async def _own(request: Request, file_id: str) -> tuple[File, str]:
    owner = needs(request, "score").id
    file = await current(request).store.files.get(file_id)
    if file is None or owner not in file.owners:
        raise Problem(FILE_NOT_FOUND)
    return file, owner


def _view(file: File, owner: str) -> JsonObject:
    """A file as one of its owners sees it: since when others have it is not their business."""
    return {
        "id": file.sha256,
        "object": "file",
        "bytes": file.size,
        "media_type": file.media_type,
        "created_at": int(file.owners[owner]) / 1e6,
        "video": view_of(file.facts),
    }
