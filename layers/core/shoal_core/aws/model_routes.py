"""Models over HTTP: what there is."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter

from shoal_core.aws.config import environment
from shoal_core.aws.handler import artifacts, catalog
from shoal_core.aws.report_routes import HEADERS, PAGE
from shoal_core.errors import NotFound
from shoal_core.registry.card_files import FORMS, read_card
from shoal_core.registry.openapi import answers
from shoal_core.registry.queries import Models, Queries
from shoal_core.registry.records import Model

router = APIGatewayHttpRouter()  # type: ignore[no-untyped-call]
NOT_FOUND: Any = answers(404, 503)
READS: Any = answers(503)
MARKDOWN: Any = {
    200: {"description": "One document", "content": {"text/markdown": {"schema": {"type": "string"}}}},
    **answers(404, 503),
}


@cache
def queries() -> Queries:
    """The catalog's questions."""
    return Queries(catalog(), artifacts(), environment().architecture)


@router.get("/models", summary="All models", responses=READS)
def get_models() -> Models:
    """List every model with its version in production."""
    return queries().models()


@router.get("/models/<name>", summary="One model: versions, aliases, inputs, endpoint", responses=NOT_FOUND)
def get_model(name: str) -> Model:
    """Show one model."""
    event = router.current_event
    scheme = event.headers.get("x-forwarded-proto", "https")
    return queries().model(name, f"{scheme}://{event.request_context.domain_name}")


@router.get("/models/<name>/versions/<version>/card", summary="What is known of a version", responses=NOT_FOUND)
def get_card(name: str, version: str) -> dict[str, Any]:
    """Show a version's card."""
    return dict(json.loads(read_card(artifacts(), name, _number(name, version))))


@router.get("/models/<name>/versions/<version>/card.html", summary="The model card as a page", responses=PAGE)
def get_card_page(name: str, version: str) -> Response[str]:
    """Show a version's card to a person."""
    text = read_card(artifacts(), name, _number(name, version), "html").decode()
    return Response(200, FORMS["html"], text, HEADERS)


@router.get("/models/<name>/versions/<version>/card.md", summary="The model card as Markdown", responses=MARKDOWN)
def get_card_markdown(name: str, version: str) -> Response[str]:
    """Give a version's card as Markdown."""
    return Response(200, FORMS["md"], read_card(artifacts(), name, _number(name, version), "md").decode(), HEADERS)


def _number(name: str, version: str) -> int:
    if not (version.isascii() and version.isdigit() and len(version) < 10):
        raise NotFound(f"Model {name!r} has no version {version[:40]!r}.", f"See GET /models/{name} for its versions.")
    return int(version)
