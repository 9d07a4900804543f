"""The service on many machines, by Ray: `serve run pleinair.serve.cluster:app`.

The ingress is the service of one machine, with its queue, its limits and its APIs; what it does not
do itself is paint. Replicas do: each is that same service once more, with one worker and no HTTP.
"""

from collections.abc import Mapping
from typing import Any


def app(args: Mapping[str, Any]) -> Any:
    """For `serve run pleinair.serve.cluster:app model=NAME replicas=8`, and Ray's config files.

    args: the options of `pleinair serve` by their names, `_` for `-`; over the environment's. Where
        it listens is said by Ray's `http_options`; `host` says whether others can reach that.
    Raises SettingError.
    """
    from pleinair.runtime.errors import SettingError

    from .. import settings
    from .application import application

    if "port" in args:
        raise SettingError(
            "port: Ray listens where http_options of a config file say; leave it out"
        )
    setup = settings.named(args)
    setup.check_safe()
    return application(setup)
