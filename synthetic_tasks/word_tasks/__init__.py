"""Tasks about the letters of one word: each is a `Recipe` and its table in wordings.toml."""
