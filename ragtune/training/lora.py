"""The generator's LoRA adapter at the beginning of a training."""

from pathlib import Path

from ragtune.errors import TrainingError
from ragtune.models.checkpoint import load_model, read_description, save_model
from ragtune.models.generators.adapter import Lora
from ragtune.models.generators.base import Generator
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.telemetry.progress_lines import say


def begin_adapter(generator: Generator, args: RagTrainingArguments) -> None:
    """Give the generator the adapter that `lora_rank` asks for; one that it has already is trained further.

    Where none is asked for, one that it has is merged, as all weights are to learn.

    Raises:
        TrainingError: its adapter has another rank.
        ModelError: as `Generator.add_adapter`.
    """
    rank = args.lora_rank
    if generator.adapters and not rank:
        if args.process_index == 0:
            say(f"{generator.name}: its adapter is merged, and all weights are trained; lora_rank trains it further")
        generator.merge_adapter()
    elif generator.adapters:
        (config,) = generator.adapters[0].peft_config.values()
        if config.r != rank:
            raise TrainingError(
                f"lora_rank={rank}: {generator.name} has an adapter of rank {config.r}; give lora_rank={config.r} to "
                "train that further, or 0 to merge it"
            )
    elif rank:
        generator.add_adapter(Lora(rank, args.lora_alpha, args.lora_dropout, args.lora_targets), args.seed)


def copy_with_adapter(model_folder: str | Path, target: str | Path, args: RagTrainingArguments, trust: bool) -> None:
    """Copy a model's folder, with the adapter in its generator that `lora_rank` asks for.

    Args:
        model_folder: of the model.
        target: folder to write, whole or not at all.
        args: of the adapter; its first weights are the same wherever it is made.
        trust: run code that comes with the model.

    Raises:
        TrainingError, ModelError: as `begin_adapter`.
    """
    model = load_model(model_folder, trust_remote_code=trust)
    begin_adapter(model.generator, args)
    save_model(model, target, read_description(model_folder)["lineage"])
