"""Models on the hub: what a repository holds, fetched whole or not at all. Needs no torch."""
