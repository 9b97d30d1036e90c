"""Slow, obvious twins of the tasks: each parses a prompt and answers it."""

from __future__ import annotations


def solve_word(task: str, word: str, named: tuple[str, ...]) -> str:
    """The word tasks, letter by letter."""
    letters = [word[i] for i in range(len(word))]
    if task in ("spell", "unspell"):
        return "".join(letters)
    if task == "reverse":
        return "".join(word[i] for i in range(len(word) - 1, -1, -1))
    if task == "count":
        return str(sum(1 for letter in letters if letter == named[0]))
    if task == "contains":
        return "yes" if any(letter == named[0] for letter in letters) else "no"
    if task in ("first_letter", "last_letter"):
        return letters.pop(0 if task == "first_letter" else -1)
    if task == "nth_letter":
        for _ in range(int(named[0])):
            letters.pop(0)
        return letters[0]
    if task == "distinct":
        return str(sum(1 for i in range(len(word)) if word[i] not in word[:i]))
    if task == "insert":
        letters.insert(int(named[1]), named[0])
        return "".join(letters)
    if task == "delete":
        return "".join(letter for letter in letters if letter != named[0])
    if task == "substitute":
        return "".join(named[1] if letter == named[0] else letter for letter in letters)
    if task == "exchange":
        one, other = map(int, named)
        return "".join(letters[{one: other, other: one}.get(i, i)] for i in range(len(word)))
    if task == "longer":
        return sorted((word, named[0]), key=lambda each: sum(1 for _ in each))[1]
    if task == "nearer":
        return min(named, key=lambda each: edits(each, word))
    places = [i for i in range(len(word)) if word[i] == named[0]]
    if task == "last_index":
        return str(max(places))
    if task == "index":
        return str(min(places))
    assert task == "swap", task
    return word[: min(places)] + named[1] + word[min(places) + 1 :]


def edits(one: str, other: str) -> int:
    """Levenshtein's distance, by its definition."""
    table = {(i, 0): i for i in range(len(one) + 1)} | {(0, j): j for j in range(len(other) + 1)}
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            changed = table[i - 1, j - 1] + (one[i - 1] != other[j - 1])
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, changed)
    return table[len(one), len(other)]


def show_work(task: str, form: str, word: str, named: tuple[str, ...]) -> str:
    """The scratchpad, one letter after another."""
    if form in ("plain", "spelled") or task in ("spell", "unspell", "first_letter"):
        return ""
    if task in ("longer", "nearer"):
        words = []
        for each in (*named, word):
            numbers = form == "counted" and task == "longer"
            written = " ".join(
                f"{letter}{i + 1 if numbers else ''}" for i, letter in enumerate(each)
            )
            away = (
                f" {edits(each, word)}"
                if form == "counted" and task == "nearer" and each != word
                else ""
            )
            words.append(written + away)
        return ", ".join(words)
    written: list[str] = []
    met: set[str] = set()
    count = 0
    for place, letter in enumerate(word):
        number: object = ""
        if task == "count" and letter == named[0]:
            count += 1
            number = count
        if task == "distinct":
            if letter in met:
                continue
            number = len(met) + 1
        if task in ("index", "last_index", "nth_letter", "insert", "exchange"):
            number = place
        met.add(letter)
        written.append(letter + (str(number) if form == "counted" else ""))
        if task in ("index", "contains") and letter == named[0]:
            break
        if task == "nth_letter" and place == int(named[0]):
            break
    return " ".join(written)


def solve_counting(prompt: str) -> str:
    """ "counting a b a" -> "2", "most frequent a b a b b" -> "3" """
    most_frequent = prompt.startswith("most frequent ")
    sequence = prompt.removeprefix("most frequent ").removeprefix("counting ").split(" ")
    most = 0
    for symbol in sequence if most_frequent else sequence[-1:]:
        most = max(most, sum(1 for other in sequence if other == symbol))
    return str(most)


def solve_path(prompt: str) -> str:
    """Walk the edges backwards from the goal. "path a B, f c, B d, a f; a d:" -> " a B d" """
    graph, ends = prompt.removeprefix("path ").removesuffix(":").split("; ")
    edges = [tuple(edge.split()) for edge in graph.split(", ")]
    start, node = ends.split()
    path = [node]
    while node != start:
        (node,) = [tail for tail, head in edges if head == node]
        path.insert(0, node)
    return " " + " ".join(path)


SYMBOLS = "abcdefghjklmnopr"


SHIFTS = ("shift 1", "shift 2", "shift 3")
MIXTURE = [["reverse"], ["rotate 1", "rotate 2"], [*SHIFTS], ["upper"], ["first"]]


def apply_function(name: str, string: list[str]) -> list[str]:
    """One function of the mixture, symbol by symbol, or "neighbours"."""
    n, result = len(string), []
    for place in range(n):
        if name == "reverse":
            result.append(string[n - 1 - place])
        elif name.startswith("rotate"):
            result.append(string[(place + int(name[-1])) % n])
        elif name == "upper":
            result.append(chr(ord(string[place]) - 32) if string[place] >= "a" else string[place])
        elif name == "first":
            result.append(string[0])
        elif name in SHIFTS:
            small = SYMBOLS[(SYMBOLS.index(string[place].lower()) + int(name[-1])) % len(SYMBOLS)]
            result.append(small if string[place] >= "a" else small.upper())
        elif name == "neighbours":
            other = place + 1 if place % 2 == 0 else place - 1
            result.append(string[other] if other < n else string[place])
    return result


def solve_functions(prompt: str, programs: list[tuple[str, ...]]) -> set[str]:
    """The answers for the last input, of all programs (functions in a row) that fit all examples.

    "examples a b c > c b a; d e f:", [("reverse",), ("upper",)] -> {" f e d"}
    """
    *examples, last = prompt.removeprefix("examples ").removesuffix(":").split("; ")
    answers = set()
    for program in programs:
        explains = True
        for example in examples:
            given, result = example.split(" > ")
            explains = explains and run_program(program, given.split()) == result.split()
        if explains:
            answers.add(" " + " ".join(run_program(program, last.split())))
    return answers


def run_program(program: tuple[str, ...], string: list[str]) -> list[str]:
    for name in program:
        string = apply_function(name, string)
    return string
