"""From words to embeddings: prompt language, tokenizing and text encoding."""

# How a prompt is read. "webui" is the default of library and command line: people write
# `(word:1.3)` because prompts are passed around so, CLIP has no use for the brackets, and a prompt
# without brackets, backslashes and BREAK is read the same either way, bit for bit diffusers'
# picture. "plain" takes every character as text, as diffusers does.
SYNTAXES = ("webui", "plain")

# What becomes of a prompt that fits no single chunk: all of it is used; an error; it is cut.
LONG_PROMPTS = ("chunk", "stop", "truncate")
