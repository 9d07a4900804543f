"""Which replica gets a picture: an idle one, and of those one that has the model."""

import random
from collections import Counter
from typing import Any

from ray.serve.request_router import (
    FIFOMixin,
    MultiplexMixin,
    PendingRequest,
    ReplicaID,
    RequestRouter,
    RunningReplica,
)

_TRIED = 4
"""Idle replicas that are tried before the router looks anew which are idle."""


class IdleRouter(FIFOMixin, MultiplexMixin, RequestRouter):
    """Knows which replicas are idle: the one ingress has sent them all that they are at.

    Ray's own router asks two replicas at random. Of a thousand of which one is idle it would ask
    a thousand for each picture.
    """

    def initialize_state(self, **_: Any) -> None:
        self._busy: Counter[ReplicaID] = Counter()

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """The replicas to try, in order: idle ones with the model, then those with fewest."""
        model = ""
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True
            model = pending_request.metadata.multiplexed_model_id
        idle = [one for one in candidate_replicas if not self._busy[one.replica_id]]
        random.shuffle(idle)
        idle.sort(key=lambda one: preference(model, one.multiplexed_model_ids))
        return [[one] for one in idle[:_TRIED]]

    def on_send_request(self, replica_id: ReplicaID) -> None:
        super().on_send_request(replica_id)
        self._busy[replica_id] += 1

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """Called for every request that was sent, and for some that could not be."""
        self._busy[replica_id] -= 1
        if self._busy[replica_id] <= 0:
            del self._busy[replica_id]


def preference(model: str, having: set[str]) -> tuple[bool, int]:
    """Smaller for a replica that should rather be taken, by the models that it has."""
    return model not in having, len(having)
