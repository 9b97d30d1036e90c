"""Compare the numbers of small runs, questions, names and saved files with recorded digests.

tests/data/golden.json holds SHA-256 digests (the first 16 hexadecimal digits) of two kinds:

- "exact": questions, batches, identities, names, saved tensors. They are the same on every machine.
- "by_arithmetic": losses, answers, results, pictures, vectors. Their last digits depend on the CPU
  and on the versions of a few packages. The key is `arithmetic()`, a hash of a small training step
  and of these versions. If the file has no entry for this machine, these checks are skipped.

A change that should move no number must leave both kinds as they are. The failure message lists
the entries that differ. Record the digests anew on another machine, or after a change that is meant
to move numbers:

    python -m tests.laboratory.test_golden --record

This rewrites "exact", adds or replaces the entry of this machine in "by_arithmetic", and prints
the entries that changed. If numbers were meant to move, delete the entries of other machines by
hand: they are out of date.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

# Everything of the project that is used here, in one place: modules move, and these checks stay.
import charembed
from charembed.checkpoint import TENSORS
from synthetic_tasks import (
    ANSWER_FORMS,
    TASKS,
    Material,
    WordSplits,
    build_task,
    sort_words,
    split_words,
    stream,
)
from synthetic_tasks.formats import FORMATS
from synthetic_tasks.words import fingerprint
from tests import warm
from tests.laboratory.pretrained import llama, save, train_tokenizer
from tests.plugin.hosts import GPT2, SMALL, VOCABULARY, char_embedding
from training.compare import main as compare
from training.config.presets import PRESETS
from training.data.corpus import load_corpus, load_words
from training.evaluate.__main__ import main as evaluate
from training.probe.__main__ import main as probe
from training.run.identity import short_name
from training.run.run import Run
from training.study.__main__ import main as study

ROOT = Path(__file__).parent.parent.parent
DATA = ROOT / "tests" / "data"
GOLDEN = DATA / "golden.json"
SAVED_PARTS = {"format_1": DATA / "format_1"} | {
    f"format_2 {name}": DATA / "format_2" / name for name in charembed.ENCODERS
}
# A run that version 0.1 finished, without the files that --resume does not read.
SAVED_RUN = DATA / "run_0.1"

# The commands. Outside of the imports only these flags name parts of the project: if a flag gets
# another name, change it here. PRETRAINED becomes the folder of a small pretrained model, TEXT a
# text file, RUNS the folder that holds all runs.
COMMON = ["--cpu", "--quiet", "--jobs", "1"]
RUNS = {
    # every arm, the control first
    "arms": """
        --preset tiny --seeds 2 --questions 4
        --arms matched,plain,shuffled,lstm,gru,cnn,bag,bee,transformer,length,first,random
    """,
    # spelling warm-up and loss, scale, low-Fisher directions, a numbered scratchpad, mixed word forms
    "spelling": """
        --preset tiny --arms matched,lstm,cnn --tasks spell*2,reverse,count,longer
        --wording sentences --answer-form counted --word-forms mixed --finetune-context 192
        --spelling-steps 4 --spelling-loss 0.3 --scale 2 --low-fisher-share 0.25
        --replay-share 0.5 --char-lr-factor 3 --questions 2 --other-corpus sotu
    """,
    # four phases, AdamW, dropout, a constant learning rate, its own initial values and alphabet
    "parent": """
        --preset parent --arms matched,lstm --tasks reverse,index --questions 3 --num-words 5000
        --layers 1 --heads 2 --width 16 --char-dim 16 --char-hidden 16 --validation-rows 4
        --batch-size 4 --steps 4 --finetune-batch-size 4 --finetune-steps 6
        --tasks-only-batch-size 4 --tasks-only-steps 3
    """,
    # a pretrained model, the packaged encoder, replay of corpus and base samples with KL to the base
    "retrofit": """
        --preset smollm2 --model PRETRAINED --arms plain,lstm --precision fp32 --corpus TEXT
        --other-corpus none
        --answer-form worked --tasks spell,swap --num-words 5000 --questions 2 --validation-rows 4
        --finetune-steps 6 --finetune-batch-size 4 --finetune-context 96 --set finetune_warmup=2
        --replay-share 0.5 --replay-text both --replay-weight 4
    """,
}
SAVED_RUN_FLAGS = "--preset tiny --arms matched,lstm --tasks reverse,count --questions 4 --width 8"
STUDIES = {"path_star": "path_star --size tiny", "functions": "functions --size tiny"}
# Two arms of one run, by free generation and by likelihood; a pretrained model, one shot; a probe of
# the tables of a run.
OTHERS = {
    "evaluate_run": """
        RUNS/spelling --arm lstm --against-arm matched --suite letters=reverse+count,langgame
        --questions 2
    """,
    "evaluate_model": """
        RUNS/pretrained --suite letters=reverse+index,charbench,langgame --shots 1 --questions 2
    """,
    "probe": "RUNS/parent --arm lstm --splits 1 --probes letter,length --tokens 150",
}
NAMES = (*RUNS, *STUDIES, *OTHERS)
# The default tests make these runs alone; all take three CPU minutes: -m "slow or not slow".
BY_DEFAULT = ("spelling", "path_star", "evaluate_run")
each_run = pytest.mark.parametrize(
    "name",
    [name if name in BY_DEFAULT else pytest.param(name, marks=pytest.mark.slow) for name in NAMES],
)
ANSWER = ("task", "split", "prompt", "expected", "given", "right")
QUESTION = ANSWER[:4]
DEPENDS_ON = ("torch", "transformers", "numpy", "scipy", "statsmodels", "matplotlib")

Digests = dict[str, Any]


def digest(value: Any) -> str:
    """Hash bytes, a text, or the canonical JSON of a value: 16 hexadecimal digits of SHA-256."""
    if not isinstance(value, bytes):
        text = (
            value
            if isinstance(value, str)
            else json.dumps(value, sort_keys=True, ensure_ascii=False)
        )
        value = text.encode()
    return hashlib.sha256(value).hexdigest()[:16]


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def arithmetic() -> str:
    """Hash three training steps of a small model, some products, and versions; one thread."""
    threads, chance = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        lstm, linear, head = nn.LSTM(24, 40, batch_first=True), nn.Linear(40, 96), nn.Linear(96, 17)
        parameters = [*lstm.parameters(), *linear.parameters(), *head.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=1e-2)
        x_BTD, found = torch.randn(6, 33, 24), list[bytes]()
        for _ in range(3):
            logits = head(
                nn.functional.layer_norm(nn.functional.gelu(linear(lstm(x_BTD)[0])), (96,))
            )
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), torch.arange(6 * 33) % 17)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(bits(loss))
        found += [bits(parameter) for parameter in parameters]
        for rows, inner, columns in ((1, 16, 512), (48, 16, 64), (130, 128, 300), (256, 512, 96)):
            left, right = torch.randn(rows, inner), torch.randn(inner, columns)
            found += [bits(left @ right), bits((left @ right).softmax(1).exp().sum(0))]
            found.append(bits(left.bfloat16() @ right.bfloat16()))
        query, key, value = torch.randn(3, 2, 4, 31, 16)
        attended = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        found.append(bits(attended))
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(chance)
    # which precision "fast" stands for is decided by these
    fast = [
        name
        for name, there in torch.cpu.get_capabilities().items()
        if name.endswith("bf16") and there
    ]
    versions = [version(package) for package in DEPENDS_ON]
    return digest([*(hashlib.sha256(each).hexdigest() for each in found), fast, versions])


# What a folder of a run holds


def make_runs(folder: Path, cache: Path, names: Collection[str] = NAMES) -> None:
    """Make runs, studies, evaluations and probes, one after another in this process."""
    torch.set_num_threads(1)
    text = load_corpus("sotu").train[:1_000_000]
    model = save(folder / "pretrained", llama(), train_tokenizer(text))
    (folder / "text.txt").write_text(text, "utf-8")
    places = {"PRETRAINED": model, "TEXT": folder / "text.txt", "RUNS": folder}

    def make(name: str, flags: str, main: Callable[[list[str]], int], common: list[str]) -> None:
        if name not in names and not any(f"RUNS/{name} " in OTHERS.get(one, "") for one in names):
            return
        for stand_in, place in places.items():
            flags = flags.replace(stand_in, str(place))
        began = time.process_time()
        status = main([*flags.split(), *common, "--out", str(folder / name), "--cache", str(cache)])
        print(f"{name}: {time.process_time() - began:.1f} s", file=sys.stderr)
        assert status == 0, (name, status)

    for name, flags in RUNS.items():
        make(name, flags, compare, COMMON)
    for name, flags in STUDIES.items():
        make(name, flags, study, COMMON)
    for name, flags in OTHERS.items():
        command = probe if name == "probe" else evaluate
        make(name, flags, command, ["--quiet", "--threads", "1"])


def started(folder: Path, cache: Path, names: Iterable[str] = NAMES) -> Path:
    """Make runs in their own process, without any change that a test made in this one."""
    command = [
        sys.executable,
        "-m",
        "tests.laboratory.test_golden",
        "--runs",
        str(folder),
        "--cache",
        str(cache),
        "--names",
        ",".join(names),
    ]
    one_thread = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = warm.run(command, cwd=ROOT, env=os.environ | one_thread)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def without_times(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of results or metrics: none that measures seconds, and no field of seconds."""
    kept = [row for row in rows if "seconds" not in str(row.get("metric", ""))]
    return [{name: value for name, value in row.items() if "seconds" not in name} for row in kept]


def picture(svg: str) -> dict[str, str]:
    """Hash the shapes with their paint, and the visible texts of an svg, separately.

    Ids, fonts, style sheets and accessible labels are markup of a page, and leave the hashes alone.
    """
    places = ("viewBox", "d", "x", "y", "width", "height", "transform")
    shapes, texts = [], []
    for element in ElementTree.fromstring(svg).iter():
        name = element.tag.rpartition("}")[2]
        texts += ["".join(element.itertext())] if name == "text" else []
        values = [element.get(key) for key in (*places, *(["style"] if name != "text" else []))]
        shapes += [[name, *values]] if any(values) else []
    return {"shapes": digest(shapes), "texts": digest(texts)}


def arm_folders(out: Path) -> dict[str, Path]:
    """By "seed0/lstm"."""
    folders = [path.parent for path in sorted(out.glob("seed*/*/done.json"))]
    return {folder.relative_to(out).as_posix(): folder for folder in folders}


def chosen(rows: Iterable[dict[str, Any]], names: Iterable[str]) -> list[list[Any]]:
    return [[row[name] for name in names] for row in rows]


def exact_of_run(out: Path, name: str) -> Digests:
    """Of each arm its questions, batches, and identity."""
    found: Digests = {}
    for arm, folder in arm_folders(out).items():
        done = json.loads((folder / "done.json").read_text("utf-8"))
        found[arm] = {
            "questions": digest(chosen(lines(folder / "answers.jsonl"), QUESTION)),
            "batches": digest(done["batches"]),
            "identity": done["run"][:16],
        }
        if name == "retrofit":  # the others depend on the path and the samples of the base
            found[arm] = {"questions": found[arm]["questions"]}
    return found


def floats_of_run(out: Path) -> Digests:
    """Of each arm its answers, of the run its losses, its rows without times, and its picture."""
    return {
        "answers": {
            arm: digest(chosen(lines(folder / "answers.jsonl"), ANSWER))
            for arm, folder in arm_folders(out).items()
        },
        "batches": {
            arm: digest(json.loads((folder / "done.json").read_text("utf-8"))["batches"])
            for arm, folder in arm_folders(out).items()
        },
        "metrics": digest(without_times(lines(out / "metrics.jsonl"))),
        "rows": digest(without_times(json.loads((out / "results.json").read_text("utf-8")))),
        "answers.svg": picture((out / "answers.svg").read_text("utf-8")),
    }


def floats_of_study(out: Path) -> Digests:
    points = sorted(path.parent for path in out.glob("*/config.json"))
    return {
        "rows": digest(without_times(json.loads((out / "results.json").read_text("utf-8")))),
        "pictures": {
            path.name: picture(path.read_text("utf-8")) for path in sorted(out.glob("*.svg"))
        },
        "points": {
            point.name: {
                "answers": {
                    arm: digest(chosen(lines(folder / "answers.jsonl"), ANSWER))
                    for arm, folder in arm_folders(point).items()
                },
                "metrics": digest(without_times(lines(point / "metrics.jsonl"))),
            }
            for point in points
        },
    }


def exact_of_other(out: Path) -> Digests:
    """The questions of an evaluation; of a probe the places that it reads."""
    if (out / "marks.jsonl").exists():
        names = ("task", "split", "key", "prompt", "expected")
        return {"questions": digest(chosen(lines(out / "marks.jsonl"), names))}
    rows = json.loads((out / "results.json").read_text("utf-8"))
    return {"questions": digest(chosen(rows, ("arm", "task", "split", "metric", "n")))}


def floats_of_other(out: Path) -> Digests:
    found = {"rows": digest(without_times(json.loads((out / "results.json").read_text("utf-8"))))}
    names = ("task", "split", "prompt", "expected", "given", "read", "right")
    if (out / "marks.jsonl").exists():
        found["answers"] = digest(chosen(lines(out / "marks.jsonl"), names))
    return found


def exact_of_study(out: Path) -> Digests:
    points = sorted(path.parent for path in out.glob("*/config.json"))
    return {point.name: exact_of_run(point, point.name) for point in points}


def exact_of(runs: Path, name: str) -> Digests:
    if name in RUNS:
        return exact_of_run(runs / name, name)
    return exact_of_study(runs / name) if name in STUDIES else exact_of_other(runs / name)


def floats_of(runs: Path, name: str) -> Digests:
    if name in RUNS:
        return floats_of_run(runs / name)
    return floats_of_study(runs / name) if name in STUDIES else floats_of_other(runs / name)


# What needs no run


def packaged_splits(forms: str) -> WordSplits:
    """The packaged list's words, split with pairs of letters in the place of tokens."""
    words, _ = sort_words(load_words("wordsegment", 20_000), 3, 12, forms)
    return split_words(
        words,
        lambda word: [word[i : i + 2].encode() for i in range(0, len(word), 2)],
        seed=0,
        max_letters=9,
        token_share=0.05,
    )


def exact_splits() -> Digests:
    return {forms: fingerprint(packaged_splits(forms))[:16] for forms in ("lower", "mixed")}


def exact_items() -> Digests:
    """Draw 1,000 items of each task and wording from its splits in turn, 200 if the answer form is
    not "spelled", and hash them together with the fixed texts.
    """
    splits, found = packaged_splits("mixed"), Digests()
    for wording in ("compact", "sentences"):  # others have tests of their own
        for form in ANSWER_FORMS:
            for spec in TASKS:
                task = build_task(spec, Material(splits, wording, form))
                names, items = [split.name for split in task.splits], []
                for i in range(1000 if form == "spelled" else 200):
                    items.append([*task.draw(names[i % len(names)], stream("golden", i))])
                found[f"{spec}, {wording}, {form}"] = digest(
                    [names, items, sorted(task.fixed_texts())]
                )
    return found


def exact_benchmarks() -> Digests:
    """Of each benchmark's format the items that are made offline."""
    words = packaged_splits("lower").seen
    return {
        name: digest([[task.name, *map(list, task.items)] for task in kind.generate(words, 30, 5)])
        for name, kind in FORMATS.items()
    }


def exact_names() -> Digests:
    return {name: short_name(config) for name, config in PRESETS.items()}


def part_host() -> nn.Module:
    """The base of the saved parts of format 2: its token table is made without chance."""
    model = GPT2()
    with torch.no_grad():
        weight = GPT2.embedding(model).weight
        weight.copy_((torch.arange(weight.numel()) % 17).div(16).sub(0.5).reshape(weight.shape))
    return model


def save_part(name: str) -> None:
    """One encoder, moved away from its initial values, as a saved part."""
    model = GPT2.attach(part_host(), encoder=name, seed=5, **SMALL[name])
    with torch.no_grad():
        for parameter in charembed.parameters(model):
            parameter.mul_(1.25).add_(0.015625)
    charembed.save(model, SAVED_PARTS[f"format_2 {name}"])


def loaded_parts() -> dict[str, nn.Module]:
    return {
        name: char_embedding(
            charembed.load(GPT2() if name == "format_1" else part_host(), VOCABULARY, folder)
        ).encoder
        for name, folder in SAVED_PARTS.items()
    }


def exact_parts() -> Digests:
    """The kind and the tensors of each saved part, once they are in a model."""
    found: Digests = {}
    for name, encoder in loaded_parts().items():
        tensors = {key: digest(bits(value)) for key, value in encoder.state_dict().items()}
        found[name] = {"class": type(encoder).__name__, "tensors": digest(tensors)}
        files = load_file(SAVED_PARTS[name] / TENSORS)
        assert (
            tensors.items() <= {key: digest(bits(value)) for key, value in files.items()}.items()
        ), name
    return found


def floats_of_parts() -> Digests:
    """The vectors of all tokens that each saved part gives."""
    with torch.no_grad():
        ids = torch.arange(len(VOCABULARY))
        return {name: digest(bits(encoder.eval()(ids))) for name, encoder in loaded_parts().items()}


EXACT: dict[str, Callable[[], Digests]] = {
    "short_names": exact_names,
    "splits": exact_splits,
    "items": exact_items,
    "benchmarks": exact_benchmarks,
    "saved_parts": exact_parts,
}


# The checks


def differences(found: Any, held: Any, place: str = "") -> list[str]:
    """Where two trees of digests differ. {"a": {"b": 1}}, {"a": {"b": 2}} -> ["a / b"]"""
    if isinstance(found, dict) and isinstance(held, dict):
        keys = dict.fromkeys([*held, *found])
        return [
            name
            for key in keys
            for name in differences(
                found.get(key), held.get(key), f"{place} / {key}".removeprefix(" / ")
            )
        ]
    return [] if found == held else [place]


def held() -> dict[str, Any]:
    golden: dict[str, Any] = json.loads(GOLDEN.read_text("utf-8"))
    return golden


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs of the selected tests."""
    items = [item for item in request.session.items if item.path == request.path]
    names = {item.callspec.params.get("name") for item in items if hasattr(item, "callspec")}
    folder = tmp_path_factory.mktemp("golden")
    return started(folder / "runs", folder / "cache", names & {*NAMES})


@pytest.fixture(scope="module")
def floats() -> dict[str, Any]:
    """The recorded digests of this machine's arithmetic."""
    here, known = arithmetic(), held()["by_arithmetic"]
    if here not in known:
        pytest.skip(
            f"no digests are recorded for this machine's arithmetic ({here}): at a commit whose numbers are "
            "right, run 'python -m tests.laboratory.test_golden --record' here."
        )
    return dict(known[here])


@pytest.mark.parametrize("name", EXACT)
def test_questions_names_and_files_are_as_recorded(name: str) -> None:
    assert differences(EXACT[name](), held()["exact"][name]) == []


@each_run
def test_questions_and_batches_of_a_run_are_as_recorded(name: str, runs: Path) -> None:
    assert differences(exact_of(runs, name), held()["exact"]["runs"][name]) == []


@each_run
def test_numbers_of_a_run_are_as_recorded(name: str, floats: dict[str, Any], runs: Path) -> None:
    assert differences(floats_of(runs, name), floats["runs"][name]) == []


def test_saved_parts_give_the_recorded_vectors(floats: dict[str, Any]) -> None:
    assert differences(floats_of_parts(), floats["saved_parts"]) == []


def test_an_old_run_opens_and_is_rendered_again(runs: Path, tmp_path: Path) -> None:
    out, cache = tmp_path / "run", runs.parent / "cache"
    shutil.copytree(SAVED_RUN, out)
    saved = Run.open(out, cache)
    assert (saved.config.arms, saved.config.seeds) == (("matched", "lstm"), 1)
    assert [task.name for task in saved.data.tasks] == ["reverse", "count"]
    flags = [
        *SAVED_RUN_FLAGS.split(),
        *COMMON,
        "--resume",
        "--out",
        str(out),
        "--cache",
        str(cache),
    ]
    assert compare(flags) == 0
    before, after = (
        json.loads((folder / "results.json").read_text("utf-8")) for folder in (SAVED_RUN, out)
    )
    for old, new in zip(before, after, strict=True):
        assert old.keys() <= new.keys()
        for name, value in old.items():  # intervals are computed anew, perhaps on another machine
            assert new[name] == (
                pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
            ), name
    assert (out / "report.html").is_file()


# Recording


def record(folder: Path) -> None:
    runs = started(folder / "runs", folder / "cache")
    golden = held() if GOLDEN.exists() else {"exact": {}, "by_arithmetic": {}}
    before = json.loads(json.dumps(golden))
    golden["exact"] = {name: make() for name, make in EXACT.items()}
    golden["exact"]["runs"] = {name: exact_of(runs, name) for name in NAMES}
    golden["by_arithmetic"][arithmetic()] = {
        "machine": {
            "architecture": platform.machine(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            **{package: version(package) for package in DEPENDS_ON},
        },
        "runs": {name: floats_of(runs, name) for name in NAMES},
        "saved_parts": floats_of_parts(),
    }
    GOLDEN.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n", "utf-8")
    print("\n".join(differences(golden, before)) or "nothing changed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--record", action="store_true", help="write tests/data/golden.json")
    parser.add_argument(
        "--runs", type=Path, metavar="FOLDER", help="only make the runs, in this folder"
    )
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="their cache")
    parser.add_argument("--names", default=",".join(NAMES), help="the runs to make [all]")
    options = parser.parse_args()
    if options.runs:
        make_runs(options.runs, options.cache or options.runs / "cache", options.names.split(","))
    elif options.record:
        with tempfile.TemporaryDirectory() as folder:
            record(Path(folder))
    else:
        parser.print_help()
