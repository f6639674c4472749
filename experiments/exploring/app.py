"""Addresses of the page: each is a GET request whose parameters hold all of its state."""

import dataclasses
import hashlib
from typing import Annotated

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException

from experiments.exploring import pages
from experiments.exploring.explorer import Explorer
from experiments.exploring.histories import ORDERS, QueryError, UnknownIdError
from experiments.exploring.histories import Query as CaseQuery
from experiments.exploring.style import STYLE

_MOST_POPULAR = 100
_HEADERS = {
    # Nothing is loaded from elsewhere, no script runs, and no other page may frame this one.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache",
}


def make_app(explorer: Explorer) -> FastAPI:
    """Makes the application. Its functions are no coroutines, so that FastAPI runs each in a thread of a pool."""
    # The pages that FastAPI would add load scripts from a network.
    app = FastAPI(title="dgin explore", docs_url=None, redoc_url=None, openapi_url=None)

    def state_of(
        user: str = "",
        history: str = "",
        candidates: str = "",
        at: Annotated[str, Query(pattern=r"^\d{0,9}$")] = "",
        popular: Annotated[int, Query(ge=0, le=_MOST_POPULAR)] = 10,
        model: str = "",
        compare: str = "",
        item: str = "",
    ) -> pages.State:
        for name in (model, compare):
            if name and name not in explorer.models:
                raise UnknownIdError(
                    f"There is no model {name!r}; there are {', '.join(explorer.models)}."
                )
        query = CaseQuery(
            user.strip(), _ids(history), _ids(candidates), int(at) if at else None, popular
        )
        model = model or next(iter(explorer.models))
        return pages.State(query, model, "" if compare == model else compare, item)

    @app.get("/")
    def users(order: str = "events", page: Annotated[int, Query(ge=1)] = 1):
        if order not in ORDERS:
            raise QueryError(f"Users are listed by {', '.join(ORDERS)}; got {order!r}.")
        return HTMLResponse(pages.users_page(explorer, order, page))

    @app.get("/rank")
    def rank(state: Annotated[pages.State, Depends(state_of)]):
        case = explorer.case(state.query)
        try:
            if state.item:
                case.place_of(state.item)
        except UnknownIdError as error:  # other candidates were typed after one was chosen
            without = dataclasses.replace(state, item="")
            return HTMLResponse(pages.ranking_page(explorer, without, str(error)), 404)
        return HTMLResponse(pages.ranking_page(explorer, state))

    @app.get("/picture.png")
    def draw(request: Request, picture: str, state: Annotated[pages.State, Depends(state_of)]):
        place = explorer.case(state.query).place_of(state.item)
        png = explorer.png(state.model, state.query, place, picture)
        if png is None:
            raise UnknownIdError(f"There is no picture {picture!r} of {state.model} here.")
        return _cached(request, png, "image/png")

    @app.get("/style.css")
    def style(request: Request):
        return _cached(request, STYLE.encode(), "text/css")

    @app.get("/favicon.ico")
    def icon():
        return Response(status_code=204)

    @app.middleware("http")
    async def add_headers(request: Request, call_next):
        response = await call_next(request)
        response.headers.update(_HEADERS)
        return response

    def refuse(request: Request, status: int, title: str, sentence: str) -> HTMLResponse:
        page = pages.error_page(explorer, title, sentence, request.query_params)
        return HTMLResponse(page, status, _HEADERS)

    @app.exception_handler(UnknownIdError)
    def unknown_id(request: Request, error: UnknownIdError):
        return refuse(request, 404, "Not found", str(error))

    @app.exception_handler(QueryError)
    def bad_query(request: Request, error: QueryError):
        return refuse(request, 400, "That does not work", str(error))

    @app.exception_handler(RequestValidationError)
    def bad_parameter(request: Request, error: RequestValidationError):
        name = error.errors()[0]["loc"][-1]
        return refuse(
            request,
            400,
            "That does not work",
            f"The parameter {name} is missing or no such number.",
        )

    @app.exception_handler(HTTPException)
    def no_page(request: Request, error: HTTPException):
        return refuse(request, error.status_code, str(error.detail), "There is no such page.")

    @app.exception_handler(Exception)
    def fault(request: Request, error: Exception):
        # The server writes the traceback to its log.
        return refuse(
            request, 500, "A fault", "This should not happen; the command printed its traceback."
        )

    return app


def _cached(request: Request, content: bytes, media_type: str) -> Response:
    """An answer that browsers keep, and ask whether it is still the same."""
    tag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
    if request.headers.get("If-None-Match") == tag:
        return Response(status_code=304, headers={"ETag": tag})
    return Response(content, media_type=media_type, headers={"ETag": tag})


def _ids(text: str) -> tuple[str, ...]:
    """Raw ids of a text that separates them by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
