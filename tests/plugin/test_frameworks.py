"""PEFT and Trainer: each row of docs/frameworks.md whose tools are in the `test` extra."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from accelerate import Accelerator
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainingArguments

import charembed
from charembed import AttachError, CharEmbedError, MismatchError
from tests.messages import raises, warns
from tests.plugin.hosts import GPT2, HOSTS, IDS, VOCABULARY, Host, V, char_embedding, logits_of

# Our warnings name the letters; every other warning is another library's.
pytestmark = pytest.mark.filterwarnings("ignore", "error:.*letters")

LLAMA = next(host for host in HOSTS if host.name == "llama")
BERT = next(host for host in HOSTS if host.name == "bert")
TARGETS = {"gpt2": ["c_attn"], "llama": ["q_proj", "v_proj"], "bert": ["query"]}
SHAPES = pytest.mark.parametrize(
    ("host", "tie", "init"),
    [
        (GPT2, True, "zero"),
        (GPT2, True, "normal"),
        (LLAMA, True, "zero"),
        (LLAMA, True, "pretrained"),
        (LLAMA, False, "normal"),
        (BERT, True, "normal"),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)


def attached(host: Host = GPT2, tie: bool = True, init: str = "normal") -> Any:
    model: Any = host(tie)
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    for name in ("attention_dropout", "attention_probs_dropout_prob"):
        if hasattr(model.config, name):
            setattr(model.config, name, 0.0)
    return charembed.attach(model, VOCABULARY, init=init).eval()


def lora(host: Host = GPT2, **changes: Any) -> LoraConfig:
    return LoraConfig(
        **{"target_modules": TARGETS[host.name], "r": 2, "fan_in_fan_out": host is GPT2, **changes}
    )


def with_lora(model: Any, host: Host = GPT2, **changes: Any) -> Any:
    torch.manual_seed(11)
    return get_peft_model(model, charembed.peft_config(model, lora(host, **changes)))


def train(model: Any, steps: int = 3) -> None:
    """Take some steps with every parameter that requires gradients."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    model.train()
    for _ in range(steps):
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


@torch.no_grad()
def logits(model: Any) -> Tensor:
    """Return logits from the table of evaluation."""
    return logits_of(model)


class Best(TrainerCallback):
    """Report a loss that is best at step 2."""

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **_: Any) -> None:
        metrics["eval_loss"] = abs(state.global_step - 2)


def trainer(model: Any, folder: Path, **changes: Any) -> Trainer:
    arguments = TrainingArguments(
        str(folder),
        **{
            "max_steps": 4,
            "save_steps": 2,
            "report_to": [],
            "use_cpu": True,
            "learning_rate": 1e-2,
            "disable_tqdm": True,
            **changes,
        },
    )
    rows = [{"input_ids": row, "labels": row} for row in IDS.repeat(4, 1).tolist()]
    return Trainer(model, arguments, train_dataset=rows, eval_dataset=rows[:1], callbacks=[Best()])


# The recommended way: charembed.peft_config


@SHAPES
def test_an_adapter_holds_the_encoder(host: Host, tie: bool, init: str, tmp_path: Path) -> None:
    """Trained, disabled, saved, loaded, saved apart, folded, merged."""
    before = logits(attached(host, tie, init))
    model = with_lora(attached(host, tie, init), host)
    train(model)
    trained = logits(model)
    assert (trained - before).abs().max() > 0.01

    with model.disable_adapter():
        assert torch.equal(logits(model), before)
    assert torch.equal(logits(model), trained)

    model.save_pretrained(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(attached(host, tie, init), tmp_path / "adapter").eval()
    assert torch.equal(logits(loaded), trained)
    with loaded.disable_adapter():  # nothing requires gradients here
        assert torch.equal(logits(loaded), before)
    assert torch.equal(logits(loaded), trained)

    charembed.save(model, tmp_path / "part")
    part = charembed.load(host(tie), VOCABULARY, tmp_path / "part")
    rows = torch.arange(V)
    trained_encoder = char_embedding(copy.deepcopy(model).merge_and_unload()).encoder
    assert torch.equal(char_embedding(part).encoder(rows), trained_encoder(rows))

    merged = copy.deepcopy(model).merge_and_unload()
    folded = charembed.fold(copy.deepcopy(model))
    assert torch.equal(logits(folded), trained)
    near = {"rtol": 1e-4, "atol": 1e-5}  # merging rounds the sum of two matrices
    torch.testing.assert_close(logits(merged), trained, **near)
    assert torch.equal(logits(charembed.fold(merged)), logits(merged))
    torch.testing.assert_close(logits(folded.merge_and_unload()), trained, **near)


def test_only_lora_and_the_encoder_are_trained() -> None:
    model = with_lora(attached())
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert all("lora_" in name or "encoder.modules_to_save.default." in name for name in names)
    assert sum(p.numel() for p in charembed.parameters(model)) == sum(
        p.numel() for p in charembed.parameters(attached())
    )
    charembed.freeze_base(model)
    assert not any(
        parameter.requires_grad
        for name, parameter in model.named_parameters()
        if "modules_to_save.default" not in name
    )


@pytest.mark.parametrize(
    "host", [GPT2, pytest.param(LLAMA, marks=pytest.mark.slow)], ids=lambda host: host.name
)
def test_trainer_resumes_as_if_unbroken(host: Host, tmp_path: Path) -> None:
    unbroken = trainer(with_lora(attached(host), host), tmp_path)
    unbroken.train()
    resumed = trainer(with_lora(attached(host), host), tmp_path)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    one, two = unbroken.model.state_dict(), resumed.model.state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_trainer_restores_the_best_step(tmp_path: Path) -> None:
    model = with_lora(attached())
    trainer(
        model, tmp_path, load_best_model_at_end=True, eval_strategy="steps", eval_steps=2
    ).train()
    best = PeftModel.from_pretrained(attached(), tmp_path / "checkpoint-2").eval()
    last = PeftModel.from_pretrained(attached(), tmp_path / "checkpoint-4").eval()
    assert torch.equal(logits(model.eval()), logits(best))
    assert not torch.equal(logits(model), logits(last))


def test_each_adapter_has_its_own_encoder(tmp_path: Path) -> None:
    base = attached()
    config = charembed.peft_config(base, lora())
    model = get_peft_model(base, config)
    train(model)
    first = logits(model)
    model.add_adapter("second", config)
    model.set_adapter("second")
    train(model, 5)
    second = logits(model)
    charembed.save(model, tmp_path / "second")
    model.set_adapter("default")
    assert torch.equal(logits(model), first)
    charembed.save(model, tmp_path / "first")
    model.set_adapter("second")
    assert torch.equal(logits(model), second)
    assert not torch.equal(first, second)
    parts = [charembed.load(GPT2(), VOCABULARY, tmp_path / name) for name in ("first", "second")]
    assert not torch.equal(*(char_embedding(part).table() for part in parts))
    with torch.no_grad(), raises(CharEmbedError, "adapter_names set_adapter"):
        model(input_ids=IDS, adapter_names=["default", "second"])


def test_unload_keeps_the_trained_encoder() -> None:
    model = with_lora(attached())
    train(model)
    rows = torch.arange(V)
    trained = char_embedding(copy.deepcopy(model).merge_and_unload()).encoder(rows)
    left = char_embedding(model.unload()).encoder(rows)
    assert torch.equal(left, trained)
    assert not torch.equal(left, char_embedding(attached()).encoder(rows))


def test_new_spellings_reach_every_copy() -> None:
    model = with_lora(attached())
    train(model)
    words = [*VOCABULARY[:-2], b"\xd0\xb6\xd0\xb6", None]
    charembed.update_spellings(model, words)
    trained = logits(model)
    with model.disable_adapter():
        base = logits(model)
    assert torch.equal(base, logits(charembed.update_spellings(attached(), words)))
    assert not torch.equal(base, trained)


@pytest.mark.parametrize("kind", ["IA3Config", "LoHaConfig", "VeraConfig", "OFTConfig"])
def test_other_kinds_of_adapters(kind: str, tmp_path: Path) -> None:
    sizes = {"IA3Config": {"feedforward_modules": []}, "OFTConfig": {"oft_block_size": 8}}
    config = getattr(peft, kind)(target_modules=["v_proj"], **sizes.get(kind, {}))
    before = logits(attached(LLAMA))
    base = attached(LLAMA)
    model = get_peft_model(base, charembed.peft_config(base, config))
    train(model)
    trained = logits(model)
    with model.disable_adapter():
        assert torch.equal(logits(model), before)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(attached(LLAMA), tmp_path).eval()
    assert torch.equal(logits(loaded), trained)
    # fold first: these kinds cannot merge beside a module in modules_to_save without a weight
    plain = charembed.fold(model).merge_and_unload()
    torch.testing.assert_close(logits(plain), trained, rtol=1e-4, atol=1e-5)


def test_prompt_tuning_trains_and_saves_but_does_not_disable(tmp_path: Path) -> None:
    base = attached()
    before = logits(base)
    with warns(UserWarning, "PromptTuningConfig disable_adapter"):
        config = charembed.peft_config(
            base, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
        )
    model = get_peft_model(base, config)
    train(model)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(attached(), tmp_path).eval()
    assert torch.equal(logits(loaded), logits(model))
    with model.disable_adapter():
        assert not torch.equal(logits(model), before)


def test_the_adapters_of_transformers_itself(tmp_path: Path) -> None:
    model = attached()
    before = logits(model)
    model.add_adapter(charembed.peft_config(model, lora()))
    train(model)
    model.save_pretrained(tmp_path)
    again = attached()
    again.load_adapter(tmp_path)
    assert torch.equal(logits(again.eval()), logits(model))
    model.disable_adapters()
    assert torch.equal(logits(model), before)


def test_accelerate_saves_and_loads_the_state(tmp_path: Path) -> None:
    accelerator = Accelerator(cpu=True)
    model = accelerator.prepare(with_lora(attached()))
    train(model)
    trained = logits(model)
    accelerator.save_state(str(tmp_path))
    train(model)
    assert not torch.equal(logits(model), trained)
    accelerator.load_state(str(tmp_path))
    assert torch.equal(logits(model), trained)


def test_peft_itself_warns_on_a_base_without_encoder(tmp_path: Path) -> None:
    with_lora(attached()).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"transformer\.wte\.encoder"):
        PeftModel.from_pretrained(GPT2(), tmp_path)


def test_an_adapter_of_another_encoder_is_refused(tmp_path: Path) -> None:
    """PEFT drops the keys that the model lacks."""
    with_lora(charembed.set_scale(attached(), 0.5)).save_pretrained(tmp_path)
    PeftModel.from_pretrained(charembed.set_scale(attached(), 2.0), tmp_path)
    with raises(MismatchError, "loudness charembed.attach set_scale"):
        PeftModel.from_pretrained(attached(), tmp_path)


def test_attaching_after_the_adapter_is_refused(tmp_path: Path) -> None:
    model = with_lora(attached())
    train(model)
    model.save_pretrained(tmp_path / "adapter")
    charembed.save(model, tmp_path / "part")
    late = PeftModel.from_pretrained(GPT2(), tmp_path / "adapter").eval()
    with raises(AttachError, "transformer.wte.encoder charembed.attach PeftModel.from_pretrained"):
        charembed.attach(late, VOCABULARY, init="normal")
    # the part has the values that PEFT dropped
    assert torch.equal(logits(charembed.load(late, VOCABULARY, tmp_path / "part")), logits(model))
    bert = get_peft_model(BERT(), lora(BERT, modules_to_save=["bert.encoder.layer.0"]))
    charembed.attach(bert, VOCABULARY)


def test_the_users_config_is_kept() -> None:
    model, mine = attached(), lora(modules_to_save=["ln_f"], exclude_modules=["mlp.c_proj"])
    made = charembed.peft_config(model, mine)
    assert mine.modules_to_save == ["ln_f"]
    assert made.modules_to_save == ["ln_f", "transformer.wte.encoder"]
    assert "mlp.c_proj" in made.exclude_modules
    assert charembed.peft_config(model, lora(exclude_modules=r".*\.7\..*")).exclude_modules == (
        r".*\.7\..*"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target_modules": ["wte", "c_attn"]}, "target_modules transformer.wte modules_to_save"),
        ({"target_modules": r".*(wte|c_attn)"}, "target_modules transformer.wte"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices"),
        ({"modules_to_save": "lm_head"}, "modules_to_save 'lm_head' ['lm_head']"),
        ({"modules_to_save": ["wte"]}, "modules_to_save transformer.wte ensure_weight_tying=True"),
    ],
)
def test_configs_that_cannot_hold_the_encoder(changes: dict[str, Any], words: str) -> None:
    with raises(AttachError, words):
        charembed.peft_config(attached(), lora(**changes))


def test_the_class_of_a_config_is_refused_and_kept() -> None:
    before = dict(vars(peft.LoraConfig))
    with raises(AttachError, "LoraConfig(...)"):
        charembed.peft_config(attached(), peft.LoraConfig)
    assert dict(vars(peft.LoraConfig)) == before


def test_a_config_that_is_complete_stays_so() -> None:
    model = attached()
    once = charembed.peft_config(model, lora())
    assert charembed.peft_config(model, once) == once


def test_models_that_have_no_encoder_to_hold() -> None:
    with raises(AttachError, "charembed.attach"):
        charembed.peft_config(GPT2(), lora())
    with raises(AttachError, "get_peft_model"):
        charembed.peft_config(with_lora(attached()), lora())
    with raises(AttachError, "PeftConfig modules_to_save charembed.save"):
        charembed.peft_config(attached(), peft.PeftConfig())


# The whole embedding as one of modules_to_save


@pytest.mark.slow
@pytest.mark.parametrize(("host", "tie"), [(GPT2, True), (LLAMA, True), (LLAMA, False)])
def test_the_whole_embedding_in_modules_to_save(host: Host, tie: bool, tmp_path: Path) -> None:
    name = host.path.rpartition(".")[2]

    def model(base: Any) -> Any:
        torch.manual_seed(11)
        config = lora(host, modules_to_save=[name], ensure_weight_tying=tie)
        return get_peft_model(base, config)

    def quietly(base: Any, **changes: Any) -> Trainer:
        return trainer(model(base), tmp_path, **changes)

    before = logits(attached(host, tie))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # at each checkpoint: see the next test
        unbroken = quietly(attached(host, tie))
        unbroken.train()
        resumed = quietly(attached(host, tie))
        resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
        trained = logits(unbroken.model.eval())
        assert torch.equal(logits(resumed.model.eval()), trained)
        loaded = PeftModel.from_pretrained(attached(host, tie), tmp_path / "checkpoint-4").eval()
        assert torch.equal(logits(loaded), trained)
        with resumed.model.disable_adapter():
            assert torch.equal(logits(resumed.model), before)
        near = {"rtol": 1e-4, "atol": 1e-5}
        merged = copy.deepcopy(unbroken.model).merge_and_unload()
        torch.testing.assert_close(logits(merged), trained, **near)
        assert torch.equal(logits(charembed.fold(merged)), logits(merged))


@pytest.mark.parametrize("changes", [{"modules_to_save": ["wte"]}, {"target_modules": ["wte"]}])
def test_an_adapter_with_encoder_keys_is_announced(changes: Any, tmp_path: Path) -> None:
    """PEFT drops surplus keys without a word when it loads them onto a base without encoder."""
    model = get_peft_model(attached(GPT2, False), lora(**changes))
    with warns(UserWarning, "charembed.attach PeftModel.from_pretrained"):
        model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(attached(GPT2, False), tmp_path).eval()
    assert torch.equal(logits(again), logits(model.eval()))


# Without the helper


def unfrozen() -> Any:
    model = get_peft_model(attached(), lora())
    for parameter in charembed.parameters(model):
        parameter.requires_grad_()
    return model


def test_trainer_says_that_its_checkpoint_lacks_an_unfrozen_encoder(tmp_path: Path) -> None:
    with warns(UserWarning, "checkpoint charembed.peft_config"):
        trainer(unfrozen(), tmp_path).train()
    with raises(CharEmbedError, "resume charembed.peft_config"):
        trainer(unfrozen(), tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_trainer_says_that_the_best_step_lacks_an_unfrozen_encoder(tmp_path: Path) -> None:
    best = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 2}
    with warns(UserWarning, "best last charembed.peft_config"):
        trainer(unfrozen(), tmp_path, **best).train()


@pytest.mark.slow
def test_an_unfrozen_encoder_that_was_loaded_may_resume(tmp_path: Path) -> None:
    with warns(UserWarning, "checkpoint"):
        trainer(unfrozen(), tmp_path).train()
    charembed.save(attached(), tmp_path / "part")
    model = get_peft_model(charembed.load(GPT2(), VOCABULARY, tmp_path / "part"), lora())
    for parameter in charembed.parameters(model):
        parameter.requires_grad_()
    with warns(UserWarning, "checkpoint"):
        trainer(model, tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def frozen(init: str = "zero") -> Any:
    return get_peft_model(peft.prepare_model_for_kbit_training(attached(init=init)), lora())


def test_training_beside_an_encoder_frozen_at_zero_warns_once() -> None:
    model = frozen().train()
    with warns(UserWarning, "frozen charembed.peft_config charembed.parameters"):
        model(input_ids=IDS)
    model(input_ids=IDS)  # an error if it warned again


def test_no_warning_about_frozen_encoders_that_are_meant() -> None:
    model = frozen("normal").train()
    model(input_ids=IDS)  # frozen, but not zero
    model = frozen()
    with torch.no_grad():
        model.train()(input_ids=IDS)
    model.eval()(input_ids=IDS)
    with charembed.disabled(model):
        model.train()(input_ids=IDS)
    special = torch.full_like(IDS, V - 1)  # has no characters, so its vector is always zero
    model.train()(input_ids=special)
    helped = with_lora(attached(init="zero"))
    with helped.disable_adapter():
        helped.train()(input_ids=IDS)
    with warns(UserWarning, "frozen"):
        model.train()(input_ids=IDS)


def test_trainable_tokens_are_refused_in_both_orders() -> None:
    config = lora(trainable_token_indices=[5])
    model = get_peft_model(attached(), config).eval()
    with raises(CharEmbedError, "trainable_token_indices modules_to_save"):
        model(input_ids=IDS)
    with model.disable_adapter():
        assert torch.equal(logits(model), logits(attached()))
    model = get_peft_model(GPT2(), config)
    inner = "base_model.model.transformer.wte.token_adapter.base_layer"
    assert isinstance(model.get_submodule(inner), torch.nn.Embedding)
    for path in (None, inner):
        with raises(AttachError, "trainable_token_indices merge_and_unload"):
            charembed.attach(model, VOCABULARY, module=path)
    merged = model.merge_and_unload()
    charembed.attach(merged, VOCABULARY)


def test_attach_names_no_embedding_that_peft_does_not_call() -> None:
    model = get_peft_model(GPT2(), lora(modules_to_save=["wte"]))
    with raises(AttachError, "base_model.model.transformer.wte.modules_to_save.default") as error:
        charembed.attach(model, VOCABULARY)
    assert "original_module" not in str(error.value)


# The table for one-hot and soft inputs


@pytest.mark.parametrize("encoder", charembed.ENCODERS)
def test_one_hot_times_the_table_is_the_look_up_with_gradients(encoder: str) -> None:
    model: Any = charembed.attach(GPT2(False), VOCABULARY, encoder=encoder, init="normal").eval()
    embedding = char_embedding(model)
    for parameter in charembed.parameters(model):
        with torch.no_grad():
            parameter.add_(0.1)

    def gradients(loss: Tensor) -> list[Tensor]:
        model.zero_grad()
        loss.backward()
        trained = [embedding.weight, *charembed.parameters(model)]
        return [torch.zeros(1) if p.grad is None else p.grad.clone() for p in trained]

    by_ids = model(input_ids=IDS, labels=IDS).loss
    expected = gradients(by_ids)
    one_hot = torch.nn.functional.one_hot(IDS, V).float().requires_grad_()
    by_table = model(inputs_embeds=one_hot @ embedding.table(grad=True), labels=IDS).loss
    for ours, theirs in zip(gradients(by_table), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(by_table, by_ids)
    assert one_hot.grad is not None
    assert one_hot.grad.abs().sum() > 0
    with torch.no_grad():
        torch.testing.assert_close(embedding.table(grad=True), embedding.table())
    assert not embedding.table().requires_grad


def test_the_differentiable_table_keeps_one_chunk_in_memory(monkeypatch: Any) -> None:
    import charembed.partition

    monkeypatch.setattr(charembed.partition, "TOKENS_AT_ONCE", 16)
    monkeypatch.setattr(charembed.partition, "CHUNK", 16)
    embedding = char_embedding(attached(LLAMA))
    seen: list[int] = []
    embedding.encoder.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor.numel()) or tensor, lambda tensor: tensor
    ):
        table_VD = embedding.table(grad=True)
    assert max(seen) <= 16
    assert sum(kept) <= 4 * table_VD.numel()
    expected = torch.autograd.grad(embedding(torch.arange(V)).square().sum(), embedding.weight)
    torch.testing.assert_close(
        torch.autograd.grad(table_VD.square().sum(), embedding.weight), expected
    )
