"""Which pretrained model: read without importing what loads it."""

from pydantic import Field

from stages.shared.params import Section


class Pretrained(Section):
    """A folder, or a hub id at a pinned revision."""

    id: str = Field(min_length=1)
    revision: str | None
