"""Which pretrained model: read without importing what loads it."""

import re

from pydantic import Field

from stages.shared.params import Section

COMMIT = re.compile(r"[0-9a-f]{40}")  # of a hub: a branch or a tag moves


class Pretrained(Section):
    """A folder, or a hub id at a pinned revision."""

    id: str = Field(min_length=1)
    revision: str | None
