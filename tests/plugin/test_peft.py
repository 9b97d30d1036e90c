"""LoRA together with a character encoder, in both orders, saved whole and merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    HiraConfig,
    LoraConfig,
    OFTConfig,
    PeftModel,
    PromptTuningConfig,
    TinyLoraConfig,
    get_peft_model,
)
from safetensors.torch import load_file

import charembed
from charembed import AttachError
from tests.messages import raises
from tests.plugin.hosts import (
    GPT2,
    VOCABULARY,
    V,
    char_embedding,
    logits_and_loss,
    logits_of,
)

LORA = {"r": 2, "lora_alpha": 4, "lora_dropout": 0.0, "init_lora_weights": False}


def lora(model: Any, **kwargs: Any) -> Any:
    torch.manual_seed(11)
    return get_peft_model(
        model, LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True, **LORA, **kwargs)
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("letters_first", [True, False])
def test_lora_on_top_in_both_orders(letters_first: bool, tmp_path: Path) -> None:
    model = (
        lora(GPT2.attach(GPT2())) if letters_first else charembed.attach(lora(GPT2()), VOCABULARY)
    )
    for parameter in charembed.parameters(model):
        parameter.requires_grad_()  # PEFT froze all parameters that it found
    optimizer = torch.optim.AdamW(charembed.param_groups(model, lr=1e-2))
    for _ in range(3):
        loss = logits_and_loss(model)[1]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    expected = logits_of(model)
    model.save_pretrained(tmp_path / "adapter")
    charembed.save(model, tmp_path / "letters")
    names = list(load_file(tmp_path / "adapter" / "adapter_model.safetensors"))
    assert names
    assert all("lora_" in name for name in names)

    first = PeftModel.from_pretrained(
        charembed.load(GPT2(), VOCABULARY, tmp_path / "letters"), tmp_path / "adapter"
    ).eval()
    second = charembed.load(
        PeftModel.from_pretrained(GPT2(), tmp_path / "adapter"), VOCABULARY, tmp_path / "letters"
    ).eval()
    assert torch.equal(logits_of(first), expected)
    assert torch.equal(logits_of(second), expected)
    assert torch.equal(logits_of(charembed.fold(second)), expected)
    plain = charembed.fold(first.merge_and_unload())
    torch.testing.assert_close(logits_of(plain), expected, rtol=1e-4, atol=1e-5)
    assert not any(
        "charembed" in type(module).__module__ or "peft" in type(module).__module__
        for module in plain.modules()
    )


@pytest.mark.filterwarnings("ignore")
def test_an_embedding_that_peft_saves_whole(tmp_path: Path) -> None:
    config = LoraConfig(
        target_modules=["c_attn"], fan_in_fan_out=True, modules_to_save=["wte"], **LORA
    )
    model = get_peft_model(GPT2.attach(GPT2(False), init="normal"), config)
    with torch.no_grad():
        charembed.parameters(model)[-1].add_(0.5)
        for name, parameter in model.named_parameters():
            if "wte.modules_to_save" in name and ".encoder." in name:
                parameter.mul_(1.5)
    model.eval()
    charembed.save(model, tmp_path)
    again = charembed.load(GPT2(False), VOCABULARY, tmp_path)
    trained = next(
        part for name, part in model.named_modules() if name.endswith("modules_to_save.default")
    )
    assert torch.equal(
        char_embedding(again).encoder(torch.arange(V)), trained.encoder(torch.arange(V))
    )


@pytest.mark.filterwarnings("ignore")
def test_lora_on_the_embedding_itself() -> None:
    config = LoraConfig(target_modules=["wte"], **LORA)
    over = get_peft_model(GPT2.attach(GPT2(), init="normal"), config).eval()
    assert not torch.equal(logits_of(over), logits_of(GPT2.attach(GPT2(), init="normal").eval()))
    with raises(AttachError, "module= base_model.model.transformer.wte.base_layer"):
        charembed.attach(get_peft_model(GPT2(), config), VOCABULARY)
    under = charembed.attach(
        get_peft_model(GPT2(), config),
        VOCABULARY,
        module="base_model.model.transformer.wte.base_layer",
        init="normal",
    ).eval()
    under.load_state_dict(over.state_dict())
    assert torch.equal(logits_of(under), logits_of(over))


def tuned(model: Any, kind: str) -> Any:
    """Wrap the embedding in a layer of PEFT with values that are not its initial ones."""
    configs = {
        "lora": lambda: LoraConfig(target_modules=["wte"], **LORA),
        "dora": lambda: LoraConfig(target_modules=["wte"], use_dora=True, **LORA),
        "oft": lambda: OFTConfig(target_modules=["wte"], oft_block_size=4, r=0),
        "hira": lambda: HiraConfig(target_modules=["wte"], r=2),
        "tinylora": lambda: TinyLoraConfig(target_modules=["wte"], r=2),
    }
    torch.manual_seed(11)
    wrapped = get_peft_model(model, configs[kind]())
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return wrapped.eval()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["lora", "hira", "tinylora"])
def test_adapters_that_add_to_the_embedding_merge_to_the_same_model(kind: str) -> None:
    model = tuned(GPT2.attach(GPT2(False), init="normal"), kind)
    with torch.no_grad():
        expected = logits_of(model)
        merged = logits_of(model.merge_and_unload())
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["dora", "oft"])
def test_adapters_that_change_the_sum_are_refused(kind: str) -> None:
    model = tuned(GPT2.attach(GPT2(False), init="normal"), kind)
    for training in (True, False):
        model.train(training)
        with raises(AttachError, kind, "PEFT target_modules use_dora=False"):
            logits_of(model)
        with torch.no_grad(), raises(AttachError, kind):
            logits_of(model)
    with model.disable_adapter():
        logits_of(model)
    logits_of(model.merge_and_unload())  # trained without character vectors, it may be merged
    wrapped = tuned(GPT2(False), kind)
    path = "base_model.model.transformer.wte.base_layer"
    with raises(AttachError, kind, "PEFT target_modules"):
        charembed.attach(wrapped, VOCABULARY, module=path)
    assert type(wrapped.get_submodule(path)) is torch.nn.Embedding
    charembed.attach(wrapped.merge_and_unload(), VOCABULARY)


@pytest.mark.filterwarnings("ignore")
def test_adapters_on_other_layers_are_accepted() -> None:
    for changes in ({"use_dora": True}, {}):
        config = LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True, **LORA, **changes)
        logits_of(get_peft_model(GPT2.attach(GPT2(), init="normal"), config))
    config = PromptTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=2, tokenizer_name_or_path=None
    )
    logits_of(get_peft_model(GPT2.attach(GPT2(), init="normal"), config))
