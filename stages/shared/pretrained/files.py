"""The files of a pretrained model: which there must be, where they are, and what to do where some are not."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    IncompleteSnapshotError,
    LocalEntryNotFoundError,
)
from huggingface_hub.utils import logging as hub_logging

from stages.shared.errors import BadInput
from stages.shared.params import quoted, shortened
from stages.shared.pretrained.reference import Pretrained

File = tuple[tuple[str, ...], ...]  # ways to have what is needed, each by all of its files
PIPELINE_INDEX, CLIP_INDEX = "model_index.json", "config.json"  # what there is in every such model
UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
WEIGHTS = {"diffusers": "diffusion_pytorch_model.safetensors", "transformers": "model.safetensors"}
TOKENIZER: File = (("tokenizer.json",), ("vocab.json", "merges.txt"))
CLIP: list[File] = [
    ((CLIP_INDEX,),),
    ((WEIGHTS["transformers"],),),
    (("processor_config.json",), ("preprocessor_config.json",)),
    TOKENIZER,
]
STABLE_DIFFUSION = {  # 1.x and 2.x, as their index says
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def pipeline_files(index: dict[str, Any]) -> list[File]:
    """What a pipeline's folder must hold, by its index."""
    found: list[File] = [((PIPELINE_INDEX,),)]
    for name, entry in sorted(index.items()):
        if (
            name in UNUSED
            or not isinstance(entry, list)
            or len(entry) != 2
            or entry[0] not in WEIGHTS
        ):
            continue
        library, kind = entry
        if "Scheduler" in kind:
            found.append(((f"{name}/scheduler_config.json",),))
        elif "Tokenizer" in kind:
            found.append(tuple(tuple(f"{name}/{file}" for file in way) for way in TOKENIZER))
        else:
            found += [((f"{name}/config.json",),), ((f"{name}/{WEIGHTS[library]}",),)]
    return found


def spell(file: File) -> str:
    return " or ".join(" and ".join(way) for way in file)


def missing(folder: Path, wanted: list[File]) -> list[str]:
    """Those that are not there; large weights may lie in several files with an index."""

    def there(name: str) -> bool:
        return (folder / name).is_file() or (folder / f"{name}.index.json").is_file()

    return [spell(file) for file in wanted if not any(all(map(there, way)) for way in file)]


def check_files(section: str, folder: str, wanted: list[File]) -> None:
    """Raises BadInput for a model's folder that is not whole."""
    if lacking := missing(Path(folder), wanted):
        raise BadInput(
            f"params.yaml: {section}.id: {quoted(folder)} lacks {', '.join(lacking)}; put that there"
        )


def read_index(section: str, model: Pretrained, name: str) -> dict[str, Any]:
    """The file that says what a model is made of, from its folder or, at its revision, from the hub or its cache.

    Raises BadInput where it is not there, is no JSON object or cannot be fetched.
    """
    if os.path.isdir(model.id):  # unlike Path.is_dir, says no to a name that is too long
        check_files(section, model.id, [((name,),)])
        path = Path(model.id) / name
    else:
        wanted = CLIP if name == CLIP_INDEX else pipeline_files(STABLE_DIFFUSION)
        path = fetch(
            section, model, wanted, lambda: hf_hub_download(model.id, name, revision=model.revision)
        )
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise unloadable(section, model, error) from None
    if not isinstance(index, dict):
        raise unloadable(section, model, ValueError(f"{name} is no JSON object"))
    return index


def find_folder(section: str, model: Pretrained, wanted: list[File]) -> Path:
    """The folder with all of the model's files; a hub's model's lies in its cache, and only what is missing is fetched.

    A cache that is whole needs no network. Raises BadInput where files are missing and cannot be fetched.
    """
    if os.path.isdir(model.id):
        check_files(section, model.id, wanted)
        return Path(model.id)
    folder = fetch(section, model, wanted, lambda: find_snapshot(model, wanted))
    if lacking := missing(folder, wanted):
        raise unavailable(section, model, wanted, lacking)
    return folder


def find_snapshot(model: Pretrained, wanted: list[File]) -> str:
    """The cache's folder of the commit."""
    options: dict[str, Any] = {
        "revision": model.revision,
        "allow_patterns": [*patterns(wanted), *shards(wanted)],
    }
    with suppress(LocalEntryNotFoundError, IncompleteSnapshotError):
        cached = snapshot_download(model.id, local_files_only=True, **options)
        if not missing(Path(cached), wanted):
            return cached
    return snapshot_download(model.id, **options)


def patterns(wanted: list[File]) -> list[str]:
    """What of a repository is needed: all small files, and the weights that are loaded."""
    return ["*.json", "*.txt", *weights(wanted)]


def shards(wanted: list[File]) -> list[str]:
    return [f"{name.removesuffix('.safetensors')}-*-of-*.safetensors" for name in weights(wanted)]


def weights(wanted: list[File]) -> list[str]:
    return [
        name for file in wanted for way in file for name in way if name.endswith(".safetensors")
    ]


def fetch(section: str, model: Pretrained, wanted: list[File], get: Callable[[], str]) -> Path:
    """Raises BadInput with what to do where there is no network, and with the hub's reason otherwise."""
    hub_logging.set_verbosity_error()
    try:
        return Path(get())
    except (LocalEntryNotFoundError, IncompleteSnapshotError):
        raise unavailable(section, model, wanted, list(map(spell, wanted))) from None
    except GatedRepoError:
        raise BadInput(
            f"{id_leaf(section, model)} asks for a login; accept its terms on the hub, then `hf auth login`"
        ) from None
    except (OSError, ValueError) as error:  # no such model or commit, among others
        raise unloadable(section, model, error) from None


def unavailable(
    section: str, model: Pretrained, wanted: list[File], lacking: list[str]
) -> BadInput:
    """What to put where, for files that are not in the cache and that the hub does not give."""
    include = " ".join(f"'{pattern}'" for pattern in patterns(wanted))
    return BadInput(
        f"{id_leaf(section, model)} is not whole in the cache, and the hub does not give the rest (there is no network, "
        f"or the commit has no such files); with a network run `hf download {model.id} --revision {model.revision} "
        f"--include {include} --local-dir FOLDER`, then name that folder here; missing: {'; '.join(lacking)}"
    )


def unloadable(section: str, model: Pretrained, error: Exception) -> BadInput:
    """An error of a library's as one line; of the hub's without status and request id, which come first."""
    lines = [line for line in map(str.strip, str(error).splitlines()) if line]
    if isinstance(error, HfHubHTTPError) and len(lines) > 1:
        lines = lines[1:]
    reason = shortened(" ".join(lines) or type(error).__name__, 300)
    return BadInput(
        f"{id_leaf(section, model)} cannot be loaded ({reason}); name a folder or a hub id with its commit"
    )


def id_leaf(section: str, model: Pretrained) -> str:
    return f"params.yaml: {section}.id: {quoted(model.id)}"
