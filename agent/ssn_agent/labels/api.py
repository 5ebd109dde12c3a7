"""The HTTP API's routes: reading the ledger, and labelling. `guard` stands before them.

What reads, reads the ledger itself, without holding its writer up; a label goes to the ledger
process. Filters with an unknown name are refused, so that a misspelt one never passes unseen.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema
from sqlalchemy import Engine
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route

from ssn_agent.errors import LedgerDamaged, LedgerError, LedgerTimeout, MessageError
from ssn_agent.labels.pictures import PictureRoutes
from ssn_agent.ledger import label_query, query
from ssn_agent.ledger.label_query import LabelFilter
from ssn_agent.ledger.query import Filter
from ssn_agent.log import logger
from ssn_contract.http import (
    Cursor,
    DisagreementPage,
    Health,
    LabelAnswer,
    LabelPage,
    LedgerPage,
    Problem,
)
from ssn_contract.manifest import Name, Time
from ssn_contract.messages import (
    MAX_LABEL_BYTES,
    InvalidReason,
    Label,
    PartId,
    Text,
    VerdictKind,
)

MAX_PAGE = 500
MAX_WRITERS = 16
"""Labels under way at once, in threads of their own: no question holds one up."""
_PROBLEMS: dict[int, str] = {
    401: "No token, or a wrong one.",
    422: "Something in the request is not understood.",
    429: "Too many requests.",
    503: "The ledger is away at present, or the answer took too long.",
}
_STATUS = {"kept": 201, "repeated": 200, "unknown": 404, "conflict": 409}


Absent = SkipJsonSchema[None]
"""A parameter that is not given; there is no way to write it."""


def _written_out(given: object) -> object:
    """Refuse what is a time only to pydantic: a bare number, or a day."""
    if isinstance(given, str) and not re.match(r"\d{4}-\d\d-\d\d[Tt ]\d\d:", given):
        raise ValueError("is no time; give one as 2026-05-04T06:00:00Z")
    return given


Moment = Annotated[
    Time,
    BeforeValidator(_written_out),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class _Page(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 50
    before: Cursor | Absent = None
    """The page that follows: `next` of the one before."""


class VerdictQuery(_Page):
    """Which verdicts are wanted."""

    since: Moment | Absent = None
    """Triggered at this time or later."""
    until: Moment | Absent = None
    """Triggered before this time."""
    camera: Name | Absent = None
    verdict: VerdictKind | Absent = None
    reason: InvalidReason | Absent = None
    model: Text | Absent = None
    """A bundle's name, NAME-VERSION, or how its digest begins."""
    part: PartId | Absent = None
    labelled: bool | Absent = None
    """Whether anybody has labelled it."""


class LabelQuery(_Page):
    """Which labels are wanted."""

    since: Moment | Absent = None
    """Given at this time or later; of a disagreement, its newest label."""
    camera: Name | Absent = None


def _problems(*more: tuple[int, str]) -> dict[int | str, dict[str, Any]]:
    texts = {**_PROBLEMS, **dict(more)}
    return {status: {"model": Problem, "description": text} for status, text in texts.items()}


class Routes:
    """What the routes need."""

    def __init__(
        self,
        engine: Engine,
        pictures: PictureRoutes,
        keep: Callable[[Label], LabelAnswer],
    ) -> None:
        """Take an engine that only reads, and what hands a label to the ledger process."""
        self._engine = engine
        self.pictures = pictures
        self._keep = keep
        self._writers = CapacityLimiter(MAX_WRITERS)

    def health(self, response: Response) -> Health:
        """Say whether the ledger can be read. Needs no token."""
        try:
            query.page(self._engine, Filter(), None, 1)
        except (LedgerError, LedgerDamaged):
            response.status_code = 503
            return Health(ledger="faulty")
        return Health(ledger="ok")

    def verdicts(self, wanted: Annotated[VerdictQuery, Query()]) -> LedgerPage:
        """Return verdicts, the newest first."""
        given = wanted.model_dump(exclude={"limit", "before"})
        return query.page(self._engine, Filter(**given), wanted.before, wanted.limit)

    async def label(self, request: Request, response: Response) -> LabelAnswer:
        """Label a verdict; answered when the label is on the disk."""
        label = await _read_label(request)
        answer = await run_sync(self._keep, label, limiter=self._writers)
        status = _STATUS.get(answer.status, 503)
        if answer.problem is not None:
            raise HTTPException(status, answer.problem)
        response.status_code = status
        return answer

    def labels(self, wanted: Annotated[LabelQuery, Query()]) -> LabelPage:
        """Return labels, the newest first."""
        found = label_query.labels(self._engine, _filter(wanted), wanted.limit + 1)
        entries = found[: wanted.limit]
        return LabelPage(
            entries=entries, next=entries[-1].id if len(found) > len(entries) else None
        )

    def disagreements(self, wanted: Annotated[LabelQuery, Query()]) -> DisagreementPage:
        """Return verdicts on which people, or the newest label and the agent, disagree."""
        found = label_query.disagreements(self._engine, _filter(wanted), wanted.limit + 1)
        entries = found[: wanted.limit]
        is_more = len(found) > len(entries)
        return DisagreementPage(entries=entries, next=entries[-1].labels[0].id if is_more else None)


def make_api(routes: Routes) -> FastAPI:
    """Return the application, without its guard. It serves no page about itself."""
    api = FastAPI(
        title="SSN Inspect",
        version="1",
        description="Verdicts of a station, and what people say of them: docs/labels.md.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    unhealthy: dict[int | str, dict[str, Any]] = {
        429: {"model": Problem, "description": _PROBLEMS[429]},
        503: {"model": Health, "description": "The ledger cannot be read."},
    }
    api.get("/v1/health", responses=unhealthy, operation_id="health")(routes.health)
    known = [Depends(HTTPBearer(auto_error=False, scheme_name="token"))]
    get = partial(api.get, dependencies=known)
    nothing = (404, "No such verdict, or no such picture of it.")
    get("/v1/verdicts", responses=_problems(), operation_id="verdicts")(routes.verdicts)
    one = "/v1/verdicts/{camera}/{epoch}/{sequence}"
    pictures = routes.pictures
    get(one, responses=_problems(nothing), operation_id="verdict")(pictures.verdict)
    for name, route, what in (
        ("heatmap", pictures.heatmap, "An 8-bit gray PNG."),
        ("image", pictures.image, "A PNG, 8-bit gray or RGB."),
    ):
        png: dict[int | str, dict[str, Any]] = {
            200: {"content": {"image/png": {}}, "description": what}
        }
        get(
            f"{one}/{name}",
            responses={**_problems(nothing), **png},
            response_class=Response,
            operation_id=name,
        )(route)
    get("/v1/labels", responses=_problems(), operation_id="labels")(routes.labels)
    api.post(
        "/v1/labels",
        dependencies=known,
        status_code=201,
        responses={
            200: {"model": LabelAnswer, "description": "It is there already."},
            **_problems(
                (404, "No such verdict of this station."),
                (409, "The id is that of another label."),
                (413, "The body is too large."),
                (415, "The body is not JSON."),
            ),
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": Label.model_json_schema()}},
            }
        },
        operation_id="label",
    )(routes.label)
    get("/v1/disagreements", responses=_problems(), operation_id="disagreements")(
        routes.disagreements
    )
    api.add_exception_handler(RequestValidationError, _not_understood)
    api.add_exception_handler(StarletteHTTPException, _refused)
    api.add_exception_handler(LedgerTimeout, _too_long)
    for away in (LedgerError, LedgerDamaged):
        api.add_exception_handler(away, _ledger_away)
    return api


async def _read_label(request: Request) -> Label:
    """Read the body as the broker's messages are read: strictly."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" or "content-encoding" in request.headers:
        raise HTTPException(415, "a label is application/json, as it is")
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_LABEL_BYTES:
                raise HTTPException(413, f"a label has up to {MAX_LABEL_BYTES} bytes")
    except ClientDisconnect as error:
        raise HTTPException(400, "the body has not come to its end") from error
    try:
        return Label.model_validate_json(body)
    except ValidationError as error:
        raise HTTPException(422, str(MessageError.of(error, "label"))) from error


def _filter(wanted: LabelQuery) -> LabelFilter:
    return LabelFilter(camera=wanted.camera, since=wanted.since, before=wanted.before)


def _problem(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
    # In ASCII: a text from outside may hold what is no UTF-8.
    content = Problem(problem=text.encode("ascii", "backslashreplace").decode()).model_dump()
    return JSONResponse(content, status, headers)


async def _not_understood(_: Request, error: Exception) -> JSONResponse:
    """Name what is wrong, by its place; without what was given there."""
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    texts = (".".join(map(str, p["loc"])) + f": {p['msg']}" for p in problems)
    return _problem(422, "; ".join(texts))


async def _refused(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, StarletteHTTPException):
        raise error
    headers = dict(error.headers or {})
    if error.status_code == 503:
        headers["retry-after"] = "1"
    if error.status_code == 405:  # each method is a route of its own, and knows of no other
        headers["allow"] = ", ".join(sorted(_methods(request)))
    return _problem(error.status_code, str(error.detail), headers)


def _methods(request: Request) -> set[str]:
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    here = (r for r in routes if r.matches(request.scope)[0] is not Match.NONE)
    return {method for route in here for method in route.methods or ()}


async def _too_long(_: Request, error: Exception) -> JSONResponse:
    logger().warning("a request is given up", problem=str(error))
    return _problem(503, "the answer takes too long; name a time (since, until), or ask for less")


async def _ledger_away(_: Request, error: Exception) -> JSONResponse:
    logger().error("the ledger cannot be read", problem=str(error))
    return _problem(503, "the ledger cannot be read at present", {"retry-after": "1"})
