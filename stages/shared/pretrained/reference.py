"""Which pretrained model: parameters, read without importing the libraries that load it."""

import re

from pydantic import Field

from stages.shared.params import Section

COMMIT = re.compile(r"[0-9a-f]{40}")  # a hub's revision: a branch or a tag would move


class Pretrained(Section):
    """A folder, or a hub id at a pinned revision."""

    id: str = Field(min_length=1)
    revision: str | None
