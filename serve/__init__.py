"""Pleinair behind HTTP: a queue, the APIs that picture programs know, and a page.

`pleinair serve` starts it. Everything under it is here: `service.py` is what the APIs call, and
knows nothing of HTTP; `api/` has a file an API; `app.py` puts them together.
"""
