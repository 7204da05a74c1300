"""HTTP interface of the server: its routes, its OpenAPI page, and the reading of an upload."""

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import FastAPI, Query, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from swagger_ui_bundle import swagger_ui_path

from dentalign import __version__
from dentalign.cases.case_list import check_id
from dentalign.errors import CaseDefect
from dentalign.prediction.files import Moved
from dentalign.serving.limits import Refused, ServerLimits
from dentalign.serving.worker import MEDIA, UPLOAD, Answer, Job, Worker

LOOPBACK = ("127.0.0.1", "localhost")
MOST_CONNECTIONS = 64
_ZIPS = ("application/zip", "application/x-zip-compressed")
_ABOUT = (
    "Predicts T2 of one case. The body is a zip: `<case_id>.json` and a crown for each tooth (`<FDI>.stl`, "
    "`.ply`, `.obj`) in tooth-local coordinates, or crowns alone, all in one frame, with the tooth's number "
    "in the name. Millimetres. Nothing of a request is kept. Not a medical device."
)
_BODY = {
    "requestBody": {
        "required": True,
        "content": {_ZIPS[0]: {"schema": {"type": "string", "format": "binary"}}},
    }
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "json: teeth with poses (4 x 4, tooth-local to head, mm), movements, what to look at, "
        "the case with the predicted stage. report: the 3D page. zip: all files that `dentalign predict` "
        "writes, and answer.json.",
        "content": {
            media.split(";")[0]: {"schema": {"type": "object" if name == "json" else "string"}}
            for name, media in MEDIA.items()
        },
    },
    **{
        status: {"description": text, "content": {"application/json": {"schema": {"type": "object"}}}}
        for status, text in {
            408: "The upload took too long.", 413: "Too large, packed or unpacked.", 415: "No zip.",
            422: "Not a case that can be predicted; `detail` has the reason and the fix.",
            503: "Too many requests wait.", 504: "The prediction took too long.",
        }.items()
    },
}  # fmt: skip


def make_app(
    workers: Mapping[str, Worker],
    limits: ServerLimits | None = None,
    *,
    host: str = LOOPBACK[0],
    origins: Sequence[str] = (),
) -> FastAPI:
    """Make the application.

    workers : name of the models -> their worker; the first is the default
    host    : address that the server listens on; on loopback a request must name a loopback host, so that
              no page of another site can reach the server by a name of its own
    origins : sites whose pages may call the server, such as https://app.example.org
    """
    limits = limits or ServerLimits()
    app = FastAPI(title="dentalign", version=__version__, docs_url=None, redoc_url=None)
    app.openapi_version = "3.0.3"  # the newest that the bundled Swagger UI shows
    if host in LOOPBACK:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK))
    if origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(origins), allow_methods=["GET", "POST"], allow_headers=["*"]
        )
    app.mount("/docs/assets", StaticFiles(directory=swagger_ui_path))
    default = next(iter(workers))

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        # What is left of the body is not read.
        return JSONResponse({"detail": str(error)}, error.status, {"Connection": "close"})

    @app.get("/", include_in_schema=False)
    async def start() -> RedirectResponse:
        return RedirectResponse("/docs")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return get_swagger_ui_html(
            openapi_url="/openapi.json", title="dentalign",
            swagger_js_url="/docs/assets/swagger-ui-bundle.js",
            swagger_css_url="/docs/assets/swagger-ui.css",
            swagger_favicon_url="/docs/assets/favicon-32x32.png",
        )  # fmt: skip

    @app.get("/models", summary="Names of the models")
    async def models() -> list[str]:
        return list(workers)

    @app.post(
        "/predict", summary="Predict a case", description=_ABOUT, openapi_extra=_BODY, responses=_ANSWERS,
        response_class=Response,
    )  # fmt: skip
    async def predict(
        request: Request,
        answer: Answer = "json",
        models: Annotated[str, Query(json_schema_extra={"enum": list(workers)})] = default,
        case_id: Annotated[str, Query(description="Name of a case that comes without JSON.")] = "case",
        numbering: Annotated[
            Literal["", "fdi", "universal"], Query(description="Tooth numbers of crowns without JSON.")
        ] = "",
        extract: Annotated[list[int], Query(description="FDI numbers to extract.")] = [],  # noqa: B006
        fixed: Annotated[list[int], Query(description="FDI numbers that must not move.")] = [],  # noqa: B006
        stages: Annotated[bool, Query(description="Also the stages between T1 and T2.")] = False,
        moved: Annotated[Moved, Query(description="zip: also the crowns at each stage.")] = "none",
    ) -> Response:
        worker = workers.get(models)
        if worker is None:
            raise Refused(422, f"models: there are {', '.join(workers)}")
        if request.headers.get("content-type", "").split(";")[0].strip().lower() not in _ZIPS:
            # Other types may be sent by any web page without asking.
            raise Refused(415, f"the body must be a zip, with the header Content-Type: {_ZIPS[0]}")
        try:
            check_id(case_id)
        except CaseDefect as defect:
            raise Refused(422, f"case_id: {defect.seen}; {defect.fix}") from None
        if worker.waiting >= limits.waiting:
            raise Refused(503, f"{worker.waiting} requests wait already: send it again later")
        worker.waiting += 1
        try:
            with tempfile.TemporaryDirectory(prefix="dentalign-serve-") as name:
                folder = Path(name).resolve()
                await _receive(request, folder / UPLOAD, limits)
                job = Job(
                    folder, limits, answer, case_id, numbering, tuple(extract), tuple(fixed), stages, moved
                )
                found = await asyncio.to_thread(worker.predict, job)
                return Response(found.read_bytes(), media_type=MEDIA[answer])
        finally:
            worker.waiting -= 1

    return app


async def _receive(request: Request, path: Path, limits: ServerLimits) -> None:
    """Write the body into a file, within the limits of size and time; raises Refused."""
    most = int(limits.upload_mb * 1e6)
    too_large = Refused(413, f"the upload is larger than {limits.upload_mb:g} MB")
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > most:
        raise too_large
    size = 0
    try:
        async with asyncio.timeout(limits.upload_s):
            with open(path, "xb") as file:
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > most:
                        raise too_large
                    file.write(chunk)
    except ClientDisconnect:
        raise Refused(400, "the upload ended early") from None
    except TimeoutError:
        raise Refused(408, f"the upload took longer than {limits.upload_s:g} s") from None


def serve(app: FastAPI, host: str, port: int) -> None:
    """Serve an application until Ctrl-C."""
    uvicorn.run(
        app, host=host, port=port, http="h11", ws="none", server_header=False, log_level="warning",
        limit_concurrency=MOST_CONNECTIONS, timeout_graceful_shutdown=5,
    )  # fmt: skip
