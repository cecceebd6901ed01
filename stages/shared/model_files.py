"""The files of a pretrained model: which there must be, and one line for what to put where, where some are missing."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from huggingface_hub.utils import logging as hub_logging

from stages.shared.errors import BadInput
from stages.shared.params import quoted
from stages.shared.pretrained import Pretrained

PIPELINE_INDEX, CLIP_INDEX = "model_index.json", "config.json"  # what there is in every such model
UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
WEIGHTS = {"diffusers": "diffusion_pytorch_model.safetensors", "transformers": "model.safetensors"}
TOKENIZERS = ("tokenizer.json", "vocab.json, merges.txt")  # either will do
CLIP_FILES = ["config.json", "model.safetensors", "processor_config.json or preprocessor_config.json",
              f"{TOKENIZERS[0]} or {TOKENIZERS[1]}"]  # fmt: skip
STABLE_DIFFUSION = {  # 1.x and 2.x, as their index says
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def pipeline_files(index: dict[str, Any]) -> list[str]:
    """What a pipeline's folder must hold, by its index."""
    found = [PIPELINE_INDEX]
    for name, entry in sorted(index.items()):
        if name in UNUSED or not isinstance(entry, list) or len(entry) != 2 or entry[0] not in WEIGHTS:
            continue
        library, kind = entry
        if "Scheduler" in kind:
            found.append(f"{name}/scheduler_config.json")
        elif "Tokenizer" in kind:
            found.append(" or ".join(f"{name}/{files}".replace(", ", f", {name}/") for files in TOKENIZERS))
        else:
            found += [f"{name}/config.json", f"{name}/{WEIGHTS[library]}"]
    return found


def missing(folder: Path, wanted: list[str]) -> list[str]:
    """Those that are not there; large weights may lie in several files with an index."""

    def there(name: str) -> bool:
        return (folder / name).is_file() or (folder / f"{name}.index.json").is_file()

    return [line for line in wanted if not any(all(map(there, way.split(", "))) for way in line.split(" or "))]


def check_files(section: str, folder: str, wanted: list[str]) -> None:
    """Raises BadInput for a model's folder that is not whole."""
    if lacking := missing(Path(folder), wanted):
        raise BadInput(f"params.yaml: {section}.id: {quoted(folder)} lacks {', '.join(lacking)}; put that there")


def read_index(section: str, model: Pretrained, name: str) -> dict[str, Any]:
    """The file that says what a model is made of, from its folder or, at its revision, from the hub or its cache.

    Raises BadInput where it is not there, is no JSON object or cannot be fetched.
    """
    folder = Path(model.id)
    if folder.is_dir():
        check_files(section, model.id, [name])
        path = folder / name
    else:
        path = fetch(section, model, name)
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise unloadable(section, model, error) from None
    if not isinstance(index, dict):
        raise unloadable(section, model, ValueError(f"{name} is no JSON object"))
    return index


def fetch(section: str, model: Pretrained, name: str) -> Path:
    """Raises BadInput with what to do where there is no network, and with the hub's reason otherwise."""
    hub_logging.set_verbosity_error()
    try:
        return Path(hf_hub_download(model.id, name, revision=model.revision))
    except LocalEntryNotFoundError:
        wanted = CLIP_FILES if name == CLIP_INDEX else pipeline_files(STABLE_DIFFUSION)
        raise BadInput(
            f"params.yaml: {section}.id: {model.id!r} is not in the cache, and the hub is out of reach; with a network "
            f"run `hf download {model.id} --revision {model.revision} --local-dir FOLDER`, then name that folder here; "
            f"it needs {'; '.join(wanted)}"
        ) from None
    except (HfHubHTTPError, OSError, ValueError) as error:  # no such model or commit, or one that asks for a login
        raise unloadable(section, model, error) from None


def unloadable(section: str, model: Pretrained, error: Exception) -> BadInput:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return BadInput(
        f"params.yaml: {section}.id: {model.id!r} cannot be loaded ({reason}); name a folder or a hub id with its "
        "revision"
    )
