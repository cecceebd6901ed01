"""Get one file over HTTP, and go on where a connection was cut: the downloader that pooch lacks."""

import logging
import os
import time
from http import HTTPStatus
from pathlib import Path

from stages.shared.errors import BadInput
from stages.shared.params import shortened
from stages.shared.watching.progress import Progress

log = logging.getLogger(__name__)
CHUNK = 1 << 20  # bytes
TIMEOUT = (15, 60)  # seconds to connect, and between two chunks
TRIES = 4  # in a row that bring no byte
PAUSE = 2.0  # seconds before the second try, then twice as long each time
CURE = (
    "run again, name a mirror at data.url, "
    "or the folder of the archive as you have it at data.archive"
)


def transfer(url: str, output: str, pooch: object, part: Path) -> None:
    """Fetch `url` into `part`, which outlives a failed run, then move it to `output`.

    The arguments are those of a downloader of pooch's. Raises BadInput, naming the address and the
    cure, where nothing more can be had.
    """
    import requests
    import urllib3

    idle = 0  # tries in a row that brought nothing
    while True:
        before = _size(part)
        try:
            _append(url, part)
            break
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            idle = 1 if _size(part) > before else idle + 1
            if idle >= TRIES:
                raise BadInput(f"{url}: {_reason(error)}; {CURE}") from None

            log.warning("%s: %s; going on at byte %d", url, _reason(error), _size(part))
            time.sleep(PAUSE * 2 ** (idle - 1))

    os.replace(part, output)


def _append(url: str, part: Path) -> None:
    """One request for what is missing.

    Raises requests' or urllib3's errors where another request may help.
    """
    import requests

    have = _size(part)
    # identity: the archive's own bytes, which a server may otherwise announce as a packed page
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"

    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        resumed = response.headers.get("Content-Range", "")
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            if resumed == f"bytes */{have}":
                return  # all there: the last run ended just before it could say so
            part.unlink()

        _refuse(url, response)
        partial = response.status_code == HTTPStatus.PARTIAL_CONTENT
        if not partial or not resumed.startswith(f"bytes {have}-"):
            part.write_bytes(b"")  # the server sends all of it, from the beginning
        _write(response, part, Path(url).name)


def _refuse(url: str, response) -> None:
    """Raises requests.HTTPError for an answer that may pass, BadInput for others."""
    status = response.status_code
    if status in (HTTPStatus.PARTIAL_CONTENT, HTTPStatus.OK):
        return

    passing = (HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, HTTPStatus.TOO_MANY_REQUESTS)
    if status >= 500 or status in passing:
        response.raise_for_status()
    raise BadInput(f"{url}: the server answers {status} {response.reason}; {CURE}")


def _write(response, part: Path, name: str) -> None:
    """Append the answer's body to the file."""
    have = _size(part)
    coming = response.headers.get("Content-Length")
    total = have + int(coming) if coming and coming.isdecimal() else None

    bar = Progress(
        desc=name, total=total, initial=have, unit="B", unit_scale=True, unit_divisor=1024
    )
    with part.open("ab") as file, bar:
        for chunk in response.raw.stream(CHUNK, decode_content=False):
            file.write(chunk)
            bar.update(len(chunk))


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _reason(error: Exception) -> str:
    """The error in a few words; the libraries' own messages are long."""
    text = " ".join(str(error).split())
    known = {
        "NameResolution": "the host's name is unknown here (is there a network?)",
        "Connection refused": "the host refuses the connection",
        "timed out": "the host does not answer in time",
        "CERTIFICATE": "the host's certificate is not valid",
        "IncompleteRead": "the connection broke",
        "Connection broken": "the connection broke",
        "aborted": "the connection broke",
    }
    return next((words for word, words in known.items() if word in text), shortened(text))
