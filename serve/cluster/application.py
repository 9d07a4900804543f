"""The two deployments: many replicas that paint, and one ingress before them."""

from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import BackpressureConfig, RequestRouterConfig

from pleinair.runtime.engines import cores

from .. import settings
from ..settings import Settings
from .ingress import Ingress
from .replica import Replica
from .router import IdleRouter

_LOOKING = 1000
"""Requests at once that wait for no picture: pages, statuses, probes."""
_LINGER = 10.0
"""Seconds beside --drain before Ray kills what does not end."""
_RETRY = 30.0
"""Seconds after which a client asks again whom Ray's proxy has turned away."""


def app(args: Mapping[str, Any]) -> Application:
    """For `serve run pleinair.serve.cluster:app model=NAME replicas=8`, and Ray's config files.

    args: the options of `pleinair serve` by their names, `_` for `-`; over the environment's.
    Raises SettingError.
    """
    setup = settings.named(args)
    setup.check_safe()
    return application(setup)


def application(setup: Settings) -> Application:
    """The service on a Ray cluster."""
    waiting = max(setup.max_queue, setup.replicas)
    replicas = serve.deployment(Replica).options(
        name="replica",
        ray_actor_options={"num_cpus": setup.threads or cores.physical_cores()},
        max_ongoing_requests=1,
        max_queued_requests=waiting,
        autoscaling_config={
            "min_replicas": setup.min_replicas,
            "max_replicas": setup.replicas,
            "target_ongoing_requests": 1,
            "upscale_delay_s": 5,
            "downscale_delay_s": 600,
        },
        request_router_config=RequestRouterConfig(
            request_router_class=IdleRouter, initial_backoff_s=0.005, max_backoff_s=0.05
        ),
        graceful_shutdown_timeout_s=setup.drain + _LINGER,
        graceful_shutdown_wait_loop_s=0.5,
    )
    ingress = serve.deployment(serve.ingress()(Ingress)).options(
        name="ingress",
        num_replicas=1,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=waiting + setup.replicas + _LOOKING,
        max_queued_requests=_LOOKING,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=_RETRY),
        graceful_shutdown_timeout_s=setup.drain + _LINGER,
        graceful_shutdown_wait_loop_s=0.5,
    )
    return ingress.bind(setup, replicas.bind(setup))
