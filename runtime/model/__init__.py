"""A model on disk: its folder, the known models, their settings, encoding and decoding."""
