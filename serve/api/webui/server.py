"""What webui's endpoints share."""

from collections.abc import Mapping
from typing import Any

from ...service import Service
from ...settings import Settings
from .batch import Batches
from .options import Clients, Options
from .painting import Painter


class Server:
    """One person's webui for each client of a service."""

    def __init__(self, service: Service, settings: Settings) -> None:
        self.service, self.settings = service, settings
        self.models = service.models
        self.clients = Clients(service.models)
        self.batches = Batches(service)

    def options(self, client: str, overridden: Mapping[str, Any] | None = None) -> Options:
        """A client's options with those of one request over them."""
        return self.clients.of(client).over(overridden or {}, self.models)

    def painter(self, options: Options) -> Painter:
        """Reads requests; opens the model where it is not open."""
        return Painter.of(self.models, self.settings, options)
