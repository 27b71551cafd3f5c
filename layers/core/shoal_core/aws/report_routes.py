"""A dataset version's report as a page, and its quarantine, over HTTP."""

from __future__ import annotations

import base64
from typing import Annotated, Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter

from shoal_core.aws.handler import artifacts
from shoal_core.data.quality.quarantine import MAX_PAGE, QuarantinePage
from shoal_core.registry.openapi import answers
from shoal_core.registry.reports import quarantine_of, quarantined_file, report_page

router = APIGatewayHttpRouter()  # type: ignore[no-untyped-call]
NOT_FOUND: Any = answers(404, 503)
BAD_QUERY: Any = answers(400, 404, 503)
PAGE: Any = {
    **NOT_FOUND,
    200: {"description": "One page, complete in itself", "content": {"text/html": {"schema": {"type": "string"}}}},
}
FILE: Any = {
    **answers(404, 413, 503),
    200: {"description": "Its bytes", "content": {"application/octet-stream": {"schema": {"type": "string"}}}},
}
# The page's own policy, in its head, also names its style sheet by hash; both hold.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache",
}


@router.get("/datasets/<name>/versions/<version>/report.html", summary="The report as a page", responses=PAGE)
def get_report_page(name: str, version: str) -> Response[str]:
    """Show a version's report to a person."""
    return Response(200, "text/html; charset=utf-8", report_page(artifacts(), name, version), HEADERS)


@router.get("/datasets/<name>/versions/<version>/quarantine", summary="Bad samples, and why", responses=BAD_QUERY)
def get_quarantine(
    name: str,
    version: str,
    after: Annotated[str | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
) -> QuarantinePage:
    """Show a page of what is kept of a version's bad samples."""
    return quarantine_of(artifacts(), name, version, after, limit)


@router.get(
    "/datasets/<name>/versions/<version>/quarantine/<item>/<sample>",
    summary="One bad file as it was uploaded",
    responses=FILE,
)
def get_quarantined(name: str, version: str, item: str, sample: str) -> Response[str]:
    """Give back a quarantined file, to be mended and replayed."""
    data = quarantined_file(artifacts(), name, version, item, sample)
    disposition = {"Content-Disposition": f'attachment; filename="{item}-{sample}"'}
    # Encoded here: the resolver's check of answers would decode bytes as text.
    text = base64.b64encode(data).decode()
    response = Response(200, "application/octet-stream", text, {**HEADERS, **disposition})
    response.base64_encoded = True
    return response
