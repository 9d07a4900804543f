"""The service on many machines, by Ray: `serve run pleinair.serve.cluster:app`.

The ingress is the service of one machine, with its queue, its limits and its APIs; what it does not
do itself is paint. Replicas do: each is that same service once more, with one worker and no HTTP.
"""

from .application import app

__all__ = ["app"]
