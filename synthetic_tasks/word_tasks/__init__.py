"""Tasks about the letters of one word. Each task is a `Recipe` plus its table in wordings.toml."""
