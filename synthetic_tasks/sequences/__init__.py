"""Tasks about sequences and graphs instead of words: counting, path-star graphs, functions."""
