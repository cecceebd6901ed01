"""Parameters of the stage download."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from stages.shared.errors import BadInput
from stages.shared.params import Section
from stages.shared.pretrained.reference import COMMIT


class Toybirds(Section):
    """How many birds are drawn, and how often in their own habitat."""

    train_per_class: int = Field(ge=1)
    test_per_class: int = Field(ge=1)
    ood_per_group: int = Field(ge=1)
    bias: float = Field(ge=0, le=1)


class Folder(Section):
    """A folder of one's own photos; `test_share` is split off where it has no test folder."""

    path: str
    test_share: float = Field(gt=0, lt=1)


class Hub(Section):
    """An image dataset of the Hugging Face hub; all is null where another dataset is chosen."""

    id: str | None
    revision: str | None  # its commit
    image: str | None  # a column
    label: str | None  # a column
    train: str | None  # a split
    test: str | None  # a split

    @field_validator("revision")
    @classmethod
    def check_revision(cls, revision: str | None) -> str | None:
        if revision is not None and not COMMIT.fullmatch(revision):
            raise ValueError("a branch or a tag moves; give the 40 hex digits of a commit")

        return revision


class Data(Section):
    """Which dataset, and where it comes from."""

    name: Literal[
        "toybirds", "folder", "cub", "aircraft", "flowers", "dogs", "cars", "pascal", "hub"
    ]
    metaclass: str = Field(pattern=r"^\S+( \S+)*$")  # words, for a prompt
    url: str | None = Field(pattern=r"^https?://\S+$")
    archive: str | None
    waterbirds: bool
    toybirds: Toybirds
    folder: Folder
    hub: Hub

    @field_validator("metaclass", mode="before")
    @classmethod
    def check_set(cls, metaclass: Any) -> Any:
        """Raises ValueError for null, which presets of one's own photos have."""
        if metaclass is None:
            raise ValueError("is not set; set it to what all your classes are (dog, flower, car)")

        return metaclass

    @model_validator(mode="after")
    def check_source(self) -> Self:
        """Waterbirds go with cub alone, and a dataset of the hub needs all of its section."""
        if self.waterbirds and self.name != "cub":
            raise ValueError(
                f"waterbirds are species of cub, not of {self.name}; "
                "set it to false, or name to cub"
            )

        missing = [name for name, value in self.hub if value is None]
        if self.name == "hub" and missing:
            raise ValueError(
                f"hub.{missing[0]} is null; "
                "a dataset of the hub needs id, revision, columns and splits"
            )

        return self


class Params(Section):
    """What the stage reads of params.yaml."""

    data: Data


def find_photos(path: str) -> Path:
    """The folder of photos, relative to the workspace's root, as DVC hashes it.

    Raises BadInput where there is none. The stage `check` calls this, too, since DVC's own message
    for a missing dependency tells no cure.
    """
    root = Path(path)
    if not os.path.isdir(root):  # unlike Path.is_dir, says no to a name that is too long
        raise BadInput(
            f"params.yaml: data.folder.path: there is no folder {root}; name the one with your "
            "photos (without ~, which is the shell's), or data/no-photos where there are none"
        )

    with suppress(OSError):  # whoever reads the photos says what cannot be read
        for folder in (root, root / "train", root / "test"):
            refuse_links(folder)

    return root


def refuse_links(folder: Path) -> None:
    """Raises BadInput for a link to a folder among the entries: DVC would not look into it."""
    if not folder.is_dir():
        return

    for path in sorted(folder.iterdir()):
        if path.is_symlink() and os.path.isdir(path):
            raise BadInput(
                f"{path}: is a link to a folder, whose changes DVC does not see; "
                "name the real folder at data.folder.path, or copy the photos here"
            )
