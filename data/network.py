"""Downloads that give up in time: TensorFlow Datasets by itself waits for ever, ten times over."""

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import requests
import requests.adapters

PROBE_SECONDS = 5.0
SILENCE_SECONDS = 7.0
"""With a late answer to the probe, and two connections that hang, a user waits less than half a minute."""


def any_answers(urls: Sequence[str]) -> bool:
    """Whether one of the first three hosts answers; all are asked at once, since looking up a name may hang, too."""
    by_host: dict[str, str] = {}
    for url in urls:
        by_host.setdefault(urlsplit(url).netloc, url)
    asked, answers = list(by_host.values())[:3], queue.SimpleQueue[bool]()
    for url in asked:
        threading.Thread(target=lambda url=url: answers.put(answers_in_time(url)), daemon=True).start()
    try:
        return any(answers.get(timeout=2 * PROBE_SECONDS) for _ in asked)
    except queue.Empty:
        return False


def answers_in_time(url: str) -> bool:
    """Whether there is an answer, be it a refusal: that one, TFDS may know how to take."""
    try:
        requests.get(url, stream=True, timeout=PROBE_SECONDS).close()
    except (requests.ConnectionError, requests.Timeout):
        return False
    except requests.RequestException:  # ftp:// for one
        return True
    return True


class _Impatient(requests.adapters.HTTPAdapter):
    def __init__(self, **options: Any) -> None:
        super().__init__(max_retries=1)

    def send(self, *words: Any, **options: Any) -> requests.Response:
        return super().send(
            *words, **{**options, "timeout": options.get("timeout") or (PROBE_SECONDS, SILENCE_SECONDS)}
        )


@contextmanager
def impatient() -> Iterator[None]:
    """Within it TFDS, which has no setting for that, takes a host's silence for an error, after one retry."""
    patient = requests.adapters.HTTPAdapter
    requests.adapters.HTTPAdapter = _Impatient  # type: ignore[misc,assignment]
    try:
        yield
    finally:
        requests.adapters.HTTPAdapter = patient  # type: ignore[misc]
