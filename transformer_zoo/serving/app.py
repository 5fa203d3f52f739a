"""The application: its routes, who may use them, and the checks before them."""

from collections.abc import Mapping

from fastapi import APIRouter, Depends, FastAPI, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse

from transformer_zoo.config.serving import ServingSettings
from transformer_zoo.serving import libretranslate, metrics, openai_routes, page, scoring
from transformer_zoo.serving.catalogue import Catalogue
from transformer_zoo.serving.engine import Engine
from transformer_zoo.serving.guard import Guard
from transformer_zoo.serving.here import Here, Serving
from transformer_zoo.serving.keys import Keys, keyed
from transformer_zoo.serving.refusals import Refusal, add_refusals

health = APIRouter()


@health.get("/healthz")
async def healthz(here: Here) -> Response:
    """Say that the server runs; 503 if the thread of a model has ended."""
    if ended := [name for name, engine in here.catalogue.engines.items() if not engine.thread.is_alive()]:
        raise Refusal(503, f"nothing computes for {', '.join(ended)} any more: start the server again", code="ended")
    return JSONResponse({"status": "ok"})


def create_app(engines: Mapping[str, Engine], settings: ServingSettings = ServingSettings()) -> FastAPI:
    """The ASGI application that answers for these models by their names.
    >>> app = create_app({"letters": writer})

    Raises:
        UserError: the file of keys cannot be used.
    """
    app = FastAPI(title="transformer_zoo", openapi_url=None, redirect_slashes=False)
    keys = Keys() if settings.keys is None else Keys.read(settings.keys)
    serving = app.state.serving = Serving(Catalogue(engines), settings, keys)
    for name, engine in engines.items():
        serving.metrics.watch(name, engine)
    for router in (openai_routes.router, scoring.router, metrics.router, page.router):
        app.include_router(router, dependencies=[Depends(keyed)])
    for router in (health, page.files, libretranslate.router):  # LibreTranslate's have a key in their bodies
        app.include_router(router)
    add_refusals(app)
    if settings.cors:
        methods, headers = ("GET", "POST"), ("Authorization", "Content-Type")
        app.add_middleware(CORSMiddleware, allow_origins=settings.cors, allow_methods=methods, allow_headers=headers)
    app.add_middleware(Guard, settings=settings, metrics=serving.metrics)
    return app
