"""The bundled model, its card and the catalog of known models: data only."""
