"""Slow, obvious twins of the tasks: each reads a prompt as a person would, and answers it."""

from __future__ import annotations


def solve_word(task: str, word: str, letters: tuple[str, ...]) -> str:
    """The word tasks, letter by letter."""
    if task == "spell":
        return word
    if task == "reverse":
        return "".join(word[i] for i in range(len(word) - 1, -1, -1))
    if task == "count":
        return str(sum(1 for letter in word if letter == letters[0]))
    first = min(i for i in range(len(word)) if word[i] == letters[0])
    if task == "index":
        return str(first)
    return word[:first] + letters[1] + word[first + 1 :]


def solve_counting(prompt: str) -> str:
    """ "counting a b a; a:" -> " 2", "most frequent a b a:" -> " 2" """
    if prompt.startswith("counting "):
        sequence, query = prompt.removeprefix("counting ").removesuffix(":").split("; ")
        asked = [query]
    else:
        sequence = prompt.removeprefix("most frequent ").removesuffix(":")
        asked = sequence.split()
    most = 0
    for symbol in asked:
        most = max(most, sum(1 for other in sequence.split() if other == symbol))
    return f" {most}"


def solve_path(prompt: str) -> str:
    """Walk the edges backwards from the goal. "path a B, f c, B d, a f; a d:" -> " a B d" """
    graph, asked = prompt.removeprefix("path ").removesuffix(":").split("; ")
    edges = [tuple(edge.split()) for edge in graph.split(", ")]
    start, node = asked.split()
    path = [node]
    while node != start:
        (node,) = [tail for tail, head in edges if head == node]
        path.insert(0, node)
    return " " + " ".join(path)
