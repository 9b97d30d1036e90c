"""Attached models in transformers: initialized, loaded, saved, folded, of several parts."""

from __future__ import annotations

import copy
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from accelerate import dispatch_model
from accelerate.hooks import remove_hook_from_submodules
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import (
    GPT2LMHeadModel,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
)

import charembed
from charembed import AttachError, CharEmbedding
from tests.messages import raises, warns
from tests.plugin.families import hide_progress_bars
from tests.plugin.hosts import (
    GEMMA3,
    GPT2,
    IDS,
    VOCABULARY,
    Host,
    V,
    char_embedding,
    hugging_face,
    in_transformers,
    logits_and_loss,
    logits_of,
)

two = pytest.mark.parametrize("host", [GPT2, GEMMA3], ids=lambda host: host.name)


@pytest.fixture(autouse=True)
def _without_progress_bars() -> None:
    hide_progress_bars()


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def trained(model: Any) -> Any:
    """Change all parameters of the encoder from their initial values."""
    with torch.no_grad():
        for parameter in charembed.parameters(model):
            parameter.mul_(1.1).add_(0.01)
    return model


# A model built around an attached one


class WithValueHead(PreTrainedModel):
    config_class = transformers.GPT2Config

    def __init__(self, inner: Any) -> None:
        super().__init__(transformers.GPT2Config(attn_implementation="eager"))
        self.inner, self.value = inner, nn.Linear(16, 1)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.data.fill_(7.0)


@in_transformers
def test_initialising_a_model_around_it_leaves_encoder_and_tokens_alone(host: Host) -> None:
    model: Any = trained(host.attach(host(), init="normal"))
    before = state(model)
    model.init_weights()
    assert_same(state(model), before)
    outer = WithValueHead(model)
    assert_same(state(outer.inner), before)
    assert bool((outer.value.weight == 7.0).all())
    outer.init_weights()
    assert_same(state(outer.inner), before)


def test_an_encoder_decoder_model_of_attached_ones_leaves_them_alone() -> None:
    def bert(decoder: bool) -> Any:
        config = transformers.BertConfig(
            vocab_size=V,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            is_decoder=decoder,
            add_cross_attention=decoder,
        )
        return transformers.BertLMHeadModel(config) if decoder else transformers.BertModel(config)

    encoder, decoder = (
        trained(charembed.attach(bert(which), VOCABULARY, init="normal", char_dim=4, hidden_size=4))
        for which in (False, True)
    )
    before = state(encoder), state(decoder)
    both = transformers.EncoderDecoderModel(encoder=encoder, decoder=decoder)
    assert_same(state(both.encoder), before[0])
    assert_same(state(both.decoder), before[1])


# Attached in the class's own __init__


class AttachedGPT2(GPT2LMHeadModel):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        charembed.attach(self, VOCABULARY, init="normal")


class AttachedGemma3(transformers.Gemma3ForCausalLM):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        charembed.attach(self, VOCABULARY, init="normal")


class AttachesFirst(GPT2LMHeadModel):
    """Attaches before post_init, so transformers initializes the parts once more."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        charembed.attach(self, VOCABULARY, init="normal")
        self.more = nn.Linear(16, 2)
        self.post_init()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize(
    ("kind", "host"), [(AttachedGPT2, GPT2), (AttachedGemma3, GEMMA3), (AttachesFirst, GPT2)]
)
def test_a_class_that_attaches_itself_is_loaded(
    kind: Any, host: Host, dtype: torch.dtype, tmp_path: Path
) -> None:
    base: Any = host()
    base.save_pretrained(tmp_path / "base")
    kwargs = {} if dtype is torch.float32 else {"dtype": dtype}
    fresh = kind.from_pretrained(tmp_path / "base", **kwargs).eval()
    expected = host.attach(host().to(dtype), init="normal").eval()
    assert torch.isfinite(logits_of(fresh)).all()
    for ours, theirs in zip(
        charembed.parameters(fresh), charembed.parameters(expected), strict=True
    ):
        assert torch.equal(ours.float(), theirs.to(ours.dtype).float())
    if dtype is torch.float32:
        assert torch.equal(logits_of(fresh), logits_of(expected))

    moved = trained(fresh)
    moved.save_pretrained(tmp_path / "whole")
    again = kind.from_pretrained(tmp_path / "whole", **kwargs).eval()
    for ours, theirs in zip(charembed.parameters(again), charembed.parameters(moved), strict=True):
        assert torch.equal(ours, theirs)
    torch.testing.assert_close(
        logits_of(again),
        logits_of(moved),
        rtol=1e-2 if kwargs else 1e-5,
        atol=1e-2 if kwargs else 1e-5,
    )
    if dtype is torch.float32:
        assert_same(state(charembed.detach(again)), state(charembed.detach(moved)))


# save_pretrained


@two
def test_save_pretrained_of_an_attached_model_warns(host: Host, tmp_path: Path) -> None:
    model: Any = host.attach(host())
    advice = "charembed.save(model, folder) charembed.fold(copy.deepcopy(model))"
    with warns(UserWarning, f"save_pretrained {advice}"):
        model.save_pretrained(tmp_path)
    # the advice keeps the encoder that may be trained further
    charembed.fold(copy.deepcopy(model)).save_pretrained(tmp_path / "plain")
    assert isinstance(model.get_input_embeddings(), CharEmbedding)


def test_a_class_that_loads_its_encoder_does_not_warn(tmp_path: Path) -> None:
    class Outer(PreTrainedModel):
        """A model with an attached one inside."""

        config_class = transformers.GPT2Config
        _supports_sdpa = True

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.inner = charembed.attach(GPT2LMHeadModel(config), VOCABULARY, init="normal")
            self.post_init()

    config: Any = GPT2().config
    for kind in (AttachedGPT2, Outer):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            kind(config).save_pretrained(tmp_path / kind.__name__)

    class App:
        """No model: from_pretrained does not run its __init__."""

        def __init__(self) -> None:
            self.model: Any = charembed.attach(GPT2(), VOCABULARY)

    with warns(UserWarning, "save_pretrained"):
        App().model.save_pretrained(tmp_path / "app")


@two
def test_nothing_else_warns_of_it(host: Host, tmp_path: Path) -> None:
    model: Any = host.attach(host())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.state_dict()
        copy.deepcopy(model)
        charembed.save(model, tmp_path / "letters")
        model.config.save_pretrained(tmp_path / "config")
        charembed.fold(copy.deepcopy(model)).save_pretrained(tmp_path / "folded")
        charembed.detach(model).save_pretrained(tmp_path / "base")


def test_neither_pefts_adapters_nor_training_warn_of_it(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        adapted = get_peft_model(
            GPT2.attach(GPT2()), LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True)
        )
        adapted.save_pretrained(tmp_path / "adapter")
        model = GPT2.attach(GPT2())
        arguments = TrainingArguments(
            str(tmp_path),
            max_steps=2,
            save_strategy="no",
            eval_strategy="steps",
            eval_steps=1,
            report_to=[],
            use_cpu=True,
        )
        rows = [{"input_ids": row, "labels": row} for row in IDS]
        optimizer = torch.optim.AdamW(charembed.param_groups(model, lr=1e-3, char_lr=1e-2))
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=rows,
            eval_dataset=rows,
            optimizers=(optimizer, None),
        )
        trainer.train()
    assert not [one for one in seen if re.search("letters|character", str(one.message))]
    assert [group["name"] for group in trainer.optimizer.param_groups] == [
        "base",
        "base_vectors",
        "char",
    ]
    assert any("eval_loss" in row for row in trainer.state.log_history)


# DataParallel


@two
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_a_replica_of_data_parallel_computes_the_same(host: Host, training: bool) -> None:
    model = host.attach(host(False), init="normal").eval()
    embedding = char_embedding(model).train(training)
    with torch.no_grad():
        expected = embedding(IDS)
        copied = replicate(embedding)
        torch.testing.assert_close(copied(IDS), expected, rtol=1e-6, atol=1e-6)
    copied = replicate(embedding)
    copied(IDS).square().sum().backward()
    ours = [parameter.grad.clone() for parameter in embedding.parameters()]
    embedding.zero_grad()
    embedding(IDS).square().sum().backward()
    for one, other in zip(ours, embedding.parameters(), strict=True):
        torch.testing.assert_close(one, other.grad, rtol=1e-5, atol=1e-6)
    with charembed.disabled(embedding), torch.no_grad():
        base = embedding(IDS)
        assert torch.equal(replicate(embedding)(IDS), base)


def replicate(network: nn.Module) -> Any:
    """Replicate as torch.nn.parallel.replicate does, for one device."""
    modules = list(network.modules())
    where = {module: i for i, module in enumerate(modules)}
    copies = [module._replicate_for_data_parallel() for module in modules]
    for module, copied in zip(modules, copies, strict=True):
        copied._former_parameters = {}
        for name, child in module._modules.items():
            setattr(copied, name, None if child is None else copies[where[child]])
        for name, parameter in module._parameters.items():
            if parameter is not None:
                moved = parameter.view_as(
                    parameter
                )  # Broadcast returns tensors with gradients, not Parameters
                setattr(copied, name, moved)
                copied._former_parameters[name] = moved
        for name, buffer in module._buffers.items():
            setattr(copied, name, buffer)
    return copies[0]


# accelerate


@pytest.mark.filterwarnings("ignore")
def test_an_embedding_of_accelerate_is_taken_over_once_its_hooks_are_gone() -> None:
    plain = GPT2().eval()
    model = dispatch_model(copy.deepcopy(plain), device_map={"": "cpu"}, force_hooks=True)
    with raises(AttachError, "accelerate"):
        charembed.attach(model, VOCABULARY)
    remove_hook_from_submodules(model)
    charembed.attach(model, VOCABULARY)
    assert torch.equal(logits_of(model), logits_of(plain))
    model = dispatch_model(model, device_map={"": "cpu"}, force_hooks=True)
    for change in (charembed.detach, charembed.fold):
        with raises(AttachError, "accelerate.hooks.remove_hook_from_submodules(model)"):
            change(model)
        assert isinstance(model.get_input_embeddings(), CharEmbedding)
    assert torch.equal(logits_of(model), logits_of(plain))
    remove_hook_from_submodules(model)
    charembed.fold(model)
    assert torch.equal(logits_of(model), logits_of(plain))
    assert type(model.get_input_embeddings()) is nn.Embedding


@pytest.mark.filterwarnings("ignore")
def test_a_model_loaded_with_a_device_map(tmp_path: Path) -> None:
    plain: Any = GPT2()
    plain.save_pretrained(tmp_path)
    model = charembed.attach(
        GPT2LMHeadModel.from_pretrained(tmp_path, device_map="cpu"), VOCABULARY
    )
    assert torch.equal(logits_of(model.eval()), logits_of(plain.eval()))
    half = charembed.attach(
        GPT2LMHeadModel.from_pretrained(tmp_path, dtype=torch.float16), VOCABULARY, init="normal"
    ).eval()
    expected = logits_of(half)
    assert expected.dtype is torch.float16
    assert torch.equal(logits_of(charembed.fold(half)), expected)


# Models of several parts


def multimodal() -> Any:
    text = transformers.Gemma3TextConfig(
        vocab_size=V,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        pad_token_id=0,
    )
    vision = transformers.SiglipVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
    )
    config = transformers.Gemma3Config(
        text_config=text, vision_config=vision, mm_tokens_per_image=1, image_token_index=3
    )
    return transformers.Gemma3ForConditionalGeneration(config)


def llava() -> Any:
    text = transformers.LlamaConfig(
        vocab_size=V,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=True,
    )
    vision = transformers.CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
    )
    config = transformers.LlavaConfig(
        text_config=text, vision_config=vision, image_token_index=3, tie_word_embeddings=True
    )
    return transformers.LlavaForConditionalGeneration(config)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("build", [multimodal, llava])
def test_a_folded_multimodal_model_has_one_config(build: Any, tmp_path: Path) -> None:
    model = charembed.attach(build().eval(), VOCABULARY, init="normal")
    config, ids = model.config, IDS.clamp(min=4)
    assert config.text_config is model.model.language_model.config
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        charembed.fold(model)
        assert model.config.text_config is model.model.language_model.config
        assert model.config is model.model.config
        assert (config.tie_word_embeddings, model.config.tie_word_embeddings) == (True, False)
        assert torch.equal(model(input_ids=ids).logits, expected)
        model.save_pretrained(tmp_path)
        assert torch.equal(
            type(model).from_pretrained(tmp_path).eval()(input_ids=ids).logits, expected
        )
    model.tie_weights()
    assert model.lm_head.weight is not model.get_input_embeddings().weight


# Sizes up and down


@pytest.mark.parametrize("tie", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("update", [True, False])
def test_sizes_change_up_and_down_in_any_order(tie: bool, update: bool, tmp_path: Path) -> None:
    model: Any = GPT2.attach(GPT2(tie), init="normal").eval()
    long = [*VOCABULARY, b"the", "ж".encode(), b"be"]
    for size in (V + 3, V - 20, V + 1, 100, V):
        model.resize_token_embeddings(size, mean_resizing=False)
        if update:
            charembed.update_spellings(model, long[:size])
        ids = torch.arange(size)[None, :60]
        with torch.no_grad():
            expected = logits_of(model, ids)
            model.train().transformer.wte(torch.arange(size))
            assert torch.equal(
                logits_of(charembed.fold(copy.deepcopy(model.eval())), ids), expected
            )
    if not update:
        charembed.update_spellings(model, long[:V])
    charembed.save(model, tmp_path)
    base = charembed.detach(copy.deepcopy(model))
    assert torch.equal(logits_of(charembed.load(base, long[:V], tmp_path).eval()), logits_of(model))


# repr


@in_transformers
def test_an_attached_model_prints(host: Host) -> None:
    model: Any = host(False)
    line = repr(host.embedding(model))
    host.attach(model)
    shown = repr(host.embedding(model))
    assert shown.startswith("CharEmbedding(")
    assert line[line.index("(") + 1 : -1] in shown
    model.resize_token_embeddings(V + 3, mean_resizing=False)
    assert f"{V + 3}, 16" in repr(model)
    charembed.detach(model)
    assert repr(host.embedding(model)).startswith(line.split("(")[0])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "strategy",
    [
        {},
        {"num_beams": 2},
        {"do_sample": True},
        {"num_beams": 2, "do_sample": True},
        {"use_cache": False},
    ],
)
def test_generation_is_the_same_attached_and_folded(strategy: dict[str, Any]) -> None:
    model: Any = hugging_face("Llama", "ForCausalLM", True)
    charembed.attach(model, VOCABULARY, init="normal").eval()
    outputs = []
    for _ in range(2):
        torch.manual_seed(0)
        outputs.append(model.generate(IDS, max_new_tokens=5, pad_token_id=0, **strategy))
        charembed.fold(model)
    assert torch.equal(*outputs)


def test_training_twice_through_a_copied_model_is_independent() -> None:
    model = GPT2.attach(GPT2(), init="normal")
    logits_and_loss(copy.deepcopy(model))[1].backward()
    assert all(parameter.grad is None for parameter in model.parameters())
