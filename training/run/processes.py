"""The processes of an arm: what was asked of accelerate or torchrun, and whether it was given.

`accelerate launch` passes its config file on in environment variables, and accelerate leaves out
some of it in silence: FSDP without a GPU, or all processes but one. Such an arm would train, and be
another one. So everything that was asked for is compared with what accelerate set up.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, GradientAccumulationPlugin, TorchDynamoPlugin

from training.config.config import CompareConfig
from training.errors import BadInput

from .machine import Machine

_OTHER = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism_config",
    "ACCELERATE_USE_SAGEMAKER": "SageMaker",
}
_MIXED = {"bf16": "bf16", "fp32": "no"}  # our names and accelerate's


def check_processes(config: CompareConfig, machine: Machine) -> None:
    """Raise BadInput if the processes of an arm, or the parts of its batches, cannot be as asked.

    These checks are cheap and need no data.
    """
    check_launch(os.environ, config, machine)
    if machine.gradient_checkpointing and not config.model.pretrained:
        raise BadInput(
            f"--gradient-checkpointing is for Hugging Face models, and the model is "
            f"{config.model.model!r}: leave it out (--accumulate also saves memory)."
        )
    if (processes := machine.state.num_processes) > 1 and (machine.jobs or 1) > 1:
        raise BadInput(
            f"jobs is {machine.jobs}, but accelerate already spreads each arm over {processes} "
            "processes. Leave --jobs out."
        )
    _check_shares(config, machine.accumulate, processes)
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_PORT" in os.environ
    if launched and processes == 1 and "LOCAL_RANK" not in os.environ:
        # accelerate sets the port if num_processes is above 1
        raise BadInput(
            "accelerate launch was asked for several processes and started one, as it does on a "
            "CPU: use torchrun --nproc_per_node N -m training.compare --cpu ..., or "
            "--num_processes 1."
        )
    wanted = int(os.environ.get("WORLD_SIZE", "1"))
    if wanted != processes:
        raise BadInput(
            f"{wanted} processes were started (WORLD_SIZE), and accelerate joins {processes} of "
            f"them (distributed_type {machine.state.distributed_type.name}), so each would train "
            "apart: add --cpu if there is no GPU, or start one process."
        )


def check_launch(given: Mapping[str, str], config: CompareConfig, machine: Machine) -> None:
    """Raise BadInput if the config of `accelerate launch` asks for another training than the flags.

    Arguments:
        given: the environment, which holds that config.
    """

    def on(name: str) -> bool:
        return given.get(name, "false").lower() in ("true", "1", "yes")

    if on("ACCELERATE_USE_CPU") and not machine.cpu:
        raise BadInput("accelerate's config has use_cpu, and --cpu was not given: add --cpu.")
    if other := [title for name, title in _OTHER.items() if on(name)]:
        raise BadInput(
            f"accelerate's config asks for {other[0]}, which is not supported: use "
            "distributed_type MULTI_GPU (DDP) or FSDP with fsdp_version 2."
        )
    ours = {
        "mixed_precision": ("no", _MIXED[machine.precision(config)], "--precision bf16 or fp32"),
        "gradient_accumulation_steps": ("1", str(machine.accumulate), "--accumulate"),
        "dynamo_backend": ("no", "inductor" if machine.compile else "no", "--compile"),
    }
    for name, (usual, here, flag) in ours.items():
        asked = given.get(f"ACCELERATE_{name.upper()}", usual).lower()
        if asked not in (usual, here):
            raise BadInput(
                f"accelerate's config has {name} {asked}, and this run has {here}: set {flag} "
                f"instead, and {name} to {usual}."
            )
    if on("ACCELERATE_USE_FSDP"):
        _check_fsdp(given, machine)


def _check_fsdp(given: Mapping[str, str], machine: Machine) -> None:
    if (version := given.get("FSDP_VERSION", "1")) != "2":
        raise BadInput(f"accelerate's config has fsdp_version {version}: use fsdp_version 2.")
    if machine.cpu or torch.accelerator.current_accelerator() is None:
        raise BadInput(
            "accelerate's config asks for FSDP, which accelerate has on GPUs alone: without one it "
            "uses DDP, or nothing, in silence. Use distributed_type MULTI_CPU with --cpu."
        )
    if machine.compile:
        raise BadInput("--compile with FSDP was never tried: leave one of them out.")
    refused = {
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "each process builds the model itself",
        "FSDP_ACTIVATION_CHECKPOINTING": "it renames the weights; use --gradient-checkpointing",
    }
    for name, why in refused.items():
        if given.get(name, "false").lower() == "true":
            raise BadInput(f"accelerate's config has {name.lower()} true: set it to false ({why}).")


def accelerator_of(machine: Machine, config: CompareConfig) -> Accelerator:
    """Return the Accelerator of an arm's training.

    Raises BadInput if its processes are not joined as the config of `accelerate launch` asks.
    """
    # explicit values: accelerate would read others from the environment, compile the whole model,
    # and divide each loss by the number of parts
    accelerator = Accelerator(
        cpu=machine.cpu,
        mixed_precision=_MIXED[machine.precision(config)],
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        dynamo_plugin=TorchDynamoPlugin(backend="no"),
    )
    if machine.shards != (accelerator.distributed_type == DistributedType.FSDP):
        wanted = "FSDP" if machine.shards else "DDP or one process"
        raise BadInput(
            f"accelerate's config asks for {wanted}, and accelerate set up "
            f"{accelerator.distributed_type.name}: use a config file of examples/accelerate."
        )
    if accelerator.is_fsdp2:
        use_autocast(accelerator)
    return accelerator


def use_autocast(accelerator: Accelerator) -> None:
    """Let bf16 mean autocast under FSDP2 as well.

    accelerate would cast the weights themselves for the forward, and so also norms and the sums of
    the residual stream, which autocast leaves in fp32.
    """
    accelerator.state.fsdp_plugin.mixed_precision_policy = None


def facts_of(machine: Machine) -> dict[str, int | str]:
    """Return the processes of an arm for config.json.

    {"processes_per_arm": 8, "sharding": "fsdp2"}; without "sharding" each has the whole model.
    """
    sharding = {"sharding": "fsdp2"} if machine.shards else {}
    return {"processes_per_arm": machine.state.num_processes, **sharding}


def _check_shares(config: CompareConfig, accumulate: int, processes: int) -> None:
    """Raise BadInput if the rows of a batch are too few for the processes and their parts."""
    for phase in config.phases:
        if not phase.steps:
            continue
        if phase.batch_size < processes * accumulate:
            seen = f"{phase.name} has batches of {phase.batch_size}"
            raise BadInput(
                f"{seen}, too few for {processes} x {accumulate} parts (processes x --accumulate): "
                "choose a larger batch size, or fewer processes or parts."
            )
        # replayed rows of text may be fewer; then their batch has fewer parts, but no empty share
        if phase.replay_share and config.text.batch_size < processes:
            raise BadInput(
                f"{phase.name} replays text in batches of {config.text.batch_size} rows, too few "
                f"for {processes} processes: choose a larger --batch-size, or fewer processes."
            )
