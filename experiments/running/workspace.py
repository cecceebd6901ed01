"""The files that results depend on, as DVC takes them from the workspace into an experiment."""

from pathlib import Path

from experiments.commands import git
from experiments.running.fingerprint import PIPELINE, Stages, digest_once, sources, written
from stages.shared.errors import BadInput
from stages.shared.params import PATH


class Workspace:
    """What the fingerprints cover, params.yaml and dvc.yaml; made before the fingerprints are."""

    def __init__(self, stages: Stages):
        self._stages = stages
        self._began = self._digests()

    def _digests(self) -> dict[str, str]:
        files = {*sources(self._stages, self._stages), PATH, PIPELINE}
        return {str(path): digest_once(path) for path in sorted(files)}

    def check_place(self) -> None:
        """Raises BadInput where DVC could not run an experiment: it copies by an ASCII path."""
        root = Path.cwd()
        if not str(root).isascii():
            raise BadInput(
                f"{root}: DVC's experiments fail in a folder whose path has letters beyond ASCII; "
                "move the project to another"
            )

    def check_clean(self) -> None:
        """Raises BadInput where one differs from the commit, or is in none.

        A change of another file does no harm.
        """
        paths = sorted({*written(self._stages, self._stages), str(PATH), str(PIPELINE)})
        changed = git("diff", "--name-only", "--no-renames", "-z", "HEAD", "--", *paths)
        unknown = git("ls-files", "--others", "--exclude-standard", "-z", "--", *paths)

        different = [path for path in (changed + unknown).split("\0") if path]
        if different:
            raise BadInput(
                f"{different[0]}: differs from the last commit; commit (or stash) first, then run"
            )

    def check_same(self) -> None:
        """Raises BadInput where one has changed: its fingerprint would be the earlier one's."""
        now = self._digests()
        paths = sorted(now.keys() | self._began.keys())
        changed = [path for path in paths if now.get(path) != self._began.get(path)]
        if changed:
            raise BadInput(
                f"{changed[0]}: has changed since this call began; commit it, then call again"
            )
