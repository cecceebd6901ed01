"""Which packages the benchmark needs: asked before anything is imported, so that it costs nothing.

Nothing but Python's own library is imported here.
"""

from importlib.util import find_spec

# what pip calls each package, by the name that it is imported by
PACKAGES = {
    "accelerate": "accelerate",
    "diffusers": "diffusers",
    "huggingface_hub": "huggingface_hub",
    "numpy": "numpy",
    "pandas": "pandas",
    "peft": "peft",
    "PIL": "pillow",
    "psutil": "psutil",
    "pydantic": "pydantic",
    "ruamel.yaml": "ruamel.yaml",
    "safetensors": "safetensors",
    "torch": "torch",
    "torchvision": "torchvision",
    "tqdm": "tqdm",
    "transformers": "transformers",
    "yaml": "pyyaml",
}


def missing() -> list[str]:
    """The packages that this Python lacks, as pip calls them."""
    return [package for name, package in PACKAGES.items() if not is_here(name)]


def is_here(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # of a dotted name, whose parent is missing
        return False
