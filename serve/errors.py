"""Why a request is not served: each API says it in its own shape."""

from pleinair.runtime.errors import PleinairError


class Refusal(PleinairError):  # noqa: N818 (what the server does, no fault)
    """A request that is not served.

    status: of HTTP. code: a word for programs. param: the field that is to blame, by its name in
    a call; None where it is none. retry_after: seconds after which it may be asked again; None
    where asking again would change nothing.
    """

    status = 400
    code = "invalid_value"

    def __init__(
        self, message: object, *, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.param, self.retry_after = param, retry_after


class Unknown(Refusal):
    """There is no such model, sampler, job or picture here."""

    status, code = 404, "not_found"


class TooLarge(Refusal):
    """More than the server's limits admit."""

    status, code = 413, "too_large"


class Full(Refusal):
    """The queue has no room."""

    status, code = 429, "queue_full"


class Closing(Refusal):
    """The server is about to stop, and takes no new work."""

    status, code = 503, "closing"
