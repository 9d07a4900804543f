"""Whether the server lives, whether it is ready, and how it is doing."""

from collections.abc import Iterator

from fastapi import APIRouter
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.responses import JSONResponse, Response

from pleinair.runtime import __version__

from ..service import Service

_SOON = "5"
"""Seconds until a server that is not ready may be asked again."""


class Figures:
    """A service's figures, read when Prometheus asks."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def describe(self) -> Iterator[Metric]:
        """Nothing beforehand: the registry need not ask for figures to know their names."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        service = self.service
        pictures = GaugeMetricFamily(
            "pleinair_pictures", "Pictures that wait, and that are in work.", labels=["state"]
        )
        for state, number in zip(("waiting", "painting"), service.queue.lengths, strict=True):
            pictures.add_metric([state], number)
        yield pictures
        jobs = CounterMetricFamily(
            "pleinair_jobs", "Jobs that are over, by how they ended.", labels=["state"]
        )
        for state, number in service.painted.items():
            jobs.add_metric([state], number)
        yield jobs
        stages = CounterMetricFamily(
            "pleinair_stage_seconds", "Seconds that pictures took, by stage.", labels=["stage"]
        )
        for stage, seconds in dict(service.stages).items():
            stages.add_metric([stage], seconds)
        yield stages


def router(service: Service) -> APIRouter:
    made = APIRouter(tags=["status"])
    registry = CollectorRegistry()
    registry.register(Figures(service))
    ProcessCollector(registry=registry)

    @made.get("/health", responses={503: {"description": "start it anew"}})
    async def health() -> Response:
        """Whether the server lives: it answers, and what paints has not died."""
        if service.healthy:
            return JSONResponse({"status": "ok", "version": __version__})
        return JSONResponse({"status": "broken", "version": __version__}, 503)

    @made.get("/ready", responses={503: {"description": "not ready"}})
    async def ready() -> Response:
        """Whether new work is taken in and begun at once: models are warm, and it does not stop."""
        fault = None if service.fault is None else str(service.fault)
        state = {"ready": service.ready, "queue": len(service.queue), "fault": fault}
        if service.ready:
            return JSONResponse(state)
        return JSONResponse(state, 503, {"Retry-After": _SOON})

    @made.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Queue, jobs, seconds a stage and memory, as Prometheus reads them."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return made
