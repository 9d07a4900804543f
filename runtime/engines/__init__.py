"""Inference engines behind one small protocol, and the choice between them."""
