"""How large a scale or a weight may be: more takes a graph's numbers out of their range."""

MOST = 1000.0


def fits(number: float) -> bool:
    """Whether it is a number, and from -MOST to MOST."""
    return abs(number) <= MOST
