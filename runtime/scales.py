"""How large a scale or a weight may be: more takes numbers out of the range of 32 bits."""

MOST = 1000.0


def fits(number: float) -> bool:
    """Whether it is a number, and from -MOST to MOST."""
    return abs(number) <= MOST
