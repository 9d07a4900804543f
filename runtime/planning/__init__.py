"""How a call is checked against a model and becomes a plan; nothing is computed here."""
