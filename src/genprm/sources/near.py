"""Texts that are nearly the same, found by MinHash over runs of five words, without keeping any text.

datasketch makes the sketches and chooses bands for a threshold. Two texts count as near duplicates if the sketches agree
in a whole band; so pairs at the threshold are found about half the time, pairs well above it nearly always, and pairs
well below it hardly ever. What is kept of a text is a hash and a number per band (`FirstSeen`).
"""

from __future__ import annotations

import hashlib

from genprm.errors import MissingExtraError
from genprm.sources.overlap import words_of
from genprm.sources.unique import FirstSeen

_SHINGLE = 5
_PERMUTATIONS = 128


class NearDuplicates:
    """Texts that were seen so far.

    Args:
        threshold: Jaccard similarity of the runs of five words, 0.1 to 0.95.

    Raises:
        MissingExtraError: the extra `data` is not installed.
    """

    def __init__(self, threshold: float) -> None:
        try:
            from datasketch import MinHash, MinHashLSH
        except ImportError as error:
            raise MissingExtraError("datasketch", "data", "removing near duplicates") from error
        bands = MinHashLSH(threshold=threshold, num_perm=_PERMUTATIONS)
        self._bands, self._rows = bands.b, bands.r
        self._empty = MinHash(num_perm=_PERMUTATIONS)
        self._seen = FirstSeen()

    def add(self, text: str, number: int) -> int | None:
        """The number of the earlier text that this one nearly repeats; None if there is none.

        A text that repeats another is not itself remembered: what is kept are texts that differ from all that were kept
        before.
        """
        keys = self._keys(text)
        earlier = [known for key in keys if (known := self._seen.number(key)) is not None]
        if earlier:
            return min(earlier)
        for key in keys:
            self._seen.remember(key, number)
        return None

    def _keys(self, text: str) -> list[int]:
        """A hash per band of the text's sketch; none for a text without words."""
        words = words_of(text)
        runs = range(max(1, len(words) - _SHINGLE + 1))
        shingles = {" ".join(words[start : start + _SHINGLE]) for start in runs}
        if not words:
            return []
        sketch = self._empty.copy()
        sketch.update_batch([shingle.encode("utf-8", "replace") for shingle in shingles])
        values, size = sketch.hashvalues, self._rows
        return [
            _key(band, values[band * size : (band + 1) * size].tobytes()) for band in range(self._bands)
        ]


def _key(band: int, minima: bytes) -> int:
    digest = hashlib.blake2b(minima, digest_size=8, salt=band.to_bytes(2, "big")).digest()
    return int.from_bytes(digest, "big")
