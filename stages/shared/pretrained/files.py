"""The files of a pretrained model: which it needs, where they are, what to do without them."""

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

# a file that is needed, or what may stand for it: alternatives, each of them files by name
File = tuple[tuple[str, ...], ...]

PIPELINE_INDEX = "model_index.json"  # every such pipeline has one
CLIP_INDEX = "config.json"  # every CLIP has one
UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
WEIGHTS = {"diffusers": "diffusion_pytorch_model.safetensors", "transformers": "model.safetensors"}
TOKENIZER: File = (("tokenizer.json",), ("vocab.json", "merges.txt"))
CLIP: list[File] = [
    ((CLIP_INDEX,),),
    ((WEIGHTS["transformers"],),),
    (("processor_config.json",), ("preprocessor_config.json",)),
    TOKENIZER,
]
LORA: list[File] = [(("pytorch_lora_weights.safetensors",),)]  # as diffusers saves one
STABLE_DIFFUSION = {  # 1.x and 2.x, as their index says
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def pipeline_files(index: dict[str, Any]) -> list[File]:
    """What a pipeline's folder must hold, by its index: of each part library and class."""
    found: list[File] = [((PIPELINE_INDEX,),)]

    for name, entry in sorted(index.items()):
        if name in UNUSED or not isinstance(entry, list) or len(entry) != 2:
            continue
        library, kind = entry
        if library not in WEIGHTS:
            continue

        if "Scheduler" in kind:
            found.append(((f"{name}/scheduler_config.json",),))
        elif "Tokenizer" in kind:
            found.append(tuple(tuple(f"{name}/{file}" for file in names) for names in TOKENIZER))
        else:
            found += [((f"{name}/config.json",),), ((f"{name}/{WEIGHTS[library]}",),)]

    return found


def spell(file: File) -> str:
    """A file as a message names it, with what may stand for it."""
    return " or ".join(" and ".join(names) for names in file)


def missing(folder: Path, wanted: list[File]) -> list[str]:
    """Those of the wanted files that the folder lacks, as a message names them."""

    def exists(name: str) -> bool:
        # large weights may lie in several files with an index
        return (folder / name).is_file() or (folder / f"{name}.index.json").is_file()

    return [spell(file) for file in wanted if not any(all(map(exists, names)) for names in file)]


def check_files(section: str, folder: str, wanted: list[File]) -> None:
    """Raises BadInput for a model's folder that is not whole."""
    if lacking := missing(Path(folder), wanted):
        raise BadInput(
            f"params.yaml: {section}.id: {quoted(folder)} lacks {', '.join(lacking)}; "
            "put that there"
        )


def read_index(section: str, model: Pretrained, name: str) -> dict[str, Any]:
    """The file that says what a model is made of.

    It is read from the model's folder or, at its revision, from the hub or the hub's cache. Raises
    BadInput where it is missing, is no JSON object or cannot be fetched.
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
    """The folder with all of the model's files.

    Of a hub's model it lies in the hub's cache; only what is missing is fetched, and a cache that
    is whole needs no network. Raises BadInput where files are missing and cannot be fetched.
    """
    if os.path.isdir(model.id):
        check_files(section, model.id, wanted)
        return Path(model.id)

    folder = fetch(section, model, wanted, lambda: find_snapshot(model, wanted))
    if lacking := missing(folder, wanted):
        raise unavailable(section, model, wanted, lacking)

    return folder


def find_snapshot(model: Pretrained, wanted: list[File]) -> str:
    """The cache's folder of the commit; what it lacks is fetched."""
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
    """The file patterns to fetch: all small files, and the weights that are loaded."""
    return ["*.json", "*.txt", *weights(wanted)]


def shards(wanted: list[File]) -> list[str]:
    """The file patterns of weights that are split into several files."""
    return [f"{name.removesuffix('.safetensors')}-*-of-*.safetensors" for name in weights(wanted)]


def weights(wanted: list[File]) -> list[str]:
    names = [name for file in wanted for alternative in file for name in alternative]
    return [name for name in names if name.endswith(".safetensors")]


def fetch(section: str, model: Pretrained, wanted: list[File], get: Callable[[], str]) -> Path:
    """The path that `get` gives, which may ask the hub.

    Raises BadInput: without a network with what to do, otherwise with the hub's reason.
    """
    hub_logging.set_verbosity_error()

    try:
        return Path(get())
    except (LocalEntryNotFoundError, IncompleteSnapshotError):
        raise unavailable(section, model, wanted, list(map(spell, wanted))) from None
    except GatedRepoError:
        raise BadInput(
            f"{id_leaf(section, model)} asks for a login; "
            "accept its terms on the hub, then `hf auth login`"
        ) from None
    except (OSError, ValueError) as error:  # no such model or commit, among others
        raise unloadable(section, model, error) from None


def unavailable(
    section: str, model: Pretrained, wanted: list[File], lacking: list[str]
) -> BadInput:
    """What to put where, for files that the cache lacks and that the hub does not give."""
    include = " ".join(f"'{pattern}'" for pattern in patterns(wanted))
    return BadInput(
        f"{id_leaf(section, model)} is not whole in the cache, and the hub does not give the rest "
        "(there is no network, or the commit has no such files); with a network run "
        f"`hf download {model.id} --revision {model.revision} --include {include} "
        "--local-dir FOLDER`, then name that folder here; "
        f"missing: {'; '.join(lacking)}"
    )


def unloadable(section: str, model: Pretrained, error: Exception) -> BadInput:
    """A library's error as one line."""
    lines = [line for line in map(str.strip, str(error).splitlines()) if line]
    if isinstance(error, HfHubHTTPError) and len(lines) > 1:
        lines = lines[1:]  # the first line holds status and request id

    reason = shortened(" ".join(lines) or type(error).__name__, 300)
    return BadInput(
        f"{id_leaf(section, model)} cannot be loaded ({reason}); "
        "name a folder or a hub id with its commit"
    )


def id_leaf(section: str, model: Pretrained) -> str:
    """The parameter that names the model, as a message begins."""
    return f"params.yaml: {section}.id: {quoted(model.id)}"
