"""The two deployments: many replicas that paint, and one ingress before them."""

from ray import serve
from ray.serve import Application
from ray.serve.config import BackpressureConfig, RequestRouterConfig

from pleinair.runtime.errors import SettingError

from ..settings import Settings
from .ingress import LINGER, Ingress
from .replica import Replica
from .router import IdleRouter

_HEAD = "node:__internal_head__"
"""What a Ray cluster's head has one of: the ingress stands there, and so do the jobs."""
_SCALING = {"target_ongoing_requests": 1, "upscale_delay_s": 5, "downscale_delay_s": 600}
"""One picture a replica; one is soon there when it is wanted, and stays for what comes next."""
_LOOKING = 1000
"""Requests at once that wait for no picture: pages, statuses, probes."""
_RETRY = 30.0
"""Seconds after which a client asks again whom Ray's proxy has turned away."""


def application(setup: Settings) -> Application:
    """The service on a Ray cluster: a replica of --threads each, or else one a node.

    Raises SettingError for what a cluster does otherwise.
    """
    if setup.workers > 1:
        raise SettingError(
            f"--workers is {setup.workers}; a replica paints one picture at a time: give --replicas"
        )
    waiting = max(setup.max_queue, setup.replicas)
    room = {"num_cpus": setup.threads or 1}
    ending = {
        "graceful_shutdown_timeout_s": setup.drain + LINGER,
        "graceful_shutdown_wait_loop_s": 0.5,
    }
    replicas = serve.deployment(Replica).options(
        name="replica",
        ray_actor_options=room,
        max_replicas_per_node=None if setup.threads else 1,
        max_ongoing_requests=1,
        max_queued_requests=waiting,
        autoscaling_config={
            "min_replicas": setup.min_replicas,
            "max_replicas": setup.replicas,
            **_SCALING,
        },
        request_router_config=RequestRouterConfig(
            request_router_class=IdleRouter, initial_backoff_s=0.005, max_backoff_s=0.05
        ),
        **ending,
    )
    ingress = serve.deployment(serve.ingress()(Ingress)).options(
        name="ingress",
        ray_actor_options={"num_cpus": 0, "resources": {_HEAD: 0.001}},
        max_ongoing_requests=waiting + setup.replicas + _LOOKING,
        max_queued_requests=_LOOKING,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=_RETRY),
        **ending,
    )
    return ingress.bind(setup, replicas.bind(setup))
