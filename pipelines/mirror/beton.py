"""Stored samples whose bytes come from an object store when they are needed: `MirroredBeton`.

In: a mirror and betons of its manifest. Out: a `Beton`. Its bytes are those of the same betons in a
local folder, or an error.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial

import numpy as np
import numpy.typing as npt

from slipform.pipelines.beton import Beton
from slipform.pipelines.checksums import read_crc32
from slipform.pipelines.errors import DatasetError, SampleError
from slipform.pipelines.manifest import BetonInfo
from slipform.pipelines.mirror.cache import writing
from slipform.pipelines.mirror.folder import Mirror
from slipform.pipelines.mirror.index import fetch_indices
from slipform.pipelines.mirror.pins import Pins
from slipform.pipelines.mirror.reader import Reader
from slipform.pipelines.mirror.transfer import Transfer
from slipform.pipelines.stopping import check
from slipform.pipelines.workers import Workers

__all__ = ["MirroredBeton"]

_PART = 256 << 20  # bytes of samples in a part of `parts`
_Int64 = npt.NDArray[np.int64]


class MirroredBeton(Beton):
    """See `Beton`. Index and tables are fetched at once, samples when they are held.

    `bytes_of` gives the bytes of any sample: those of a held one where they are mapped, else a
    copy, for which it may wait.

    Args:
        mirror: The mirror.
        files: Betons of its manifest, at least one.

    Attributes:
        reader: Fetches the samples.
        samples: int64 [N], their numbers for `reader`.
        url: The folder in the object store.

    Raises:
        StorageError: The object store cannot be read, or the cache is too small.
        DatasetError: An object is not the one that dataset.json describes.
    """

    stays = False

    def __init__(self, mirror: Mirror, files: Sequence[BetonInfo]) -> None:
        with writing(mirror.folder):
            pins = Pins(mirror)  # first: from now on, nobody deletes the mirror
            fetch_indices(mirror, files)
            paths = [mirror.folder / info.file for info in files]
            super().__init__(*paths)
            counts = [len(one.labels) for one in self.files()]
            if counts != [info.num_samples for info in files]:
                raise DatasetError(
                    f"{mirror.store.url}: betons have {counts} samples, dataset.json says"
                    f" {[info.num_samples for info in files]}. Upload the dataset again."
                )
            offsets = self.offsets - np.repeat(self._files.starts, counts)
            inodes = [(one[0], one[1]) for one in self._files.identities]
            tables = list(map(read_crc32, paths, counts))
            transfer = Transfer(mirror, files, inodes, offsets, self.sizes, tables)
            self.reader = Reader(mirror, pins, files, transfer, self.data, self.offsets, self.sizes)
        self.samples: _Int64 = np.arange(len(self))
        self.url = mirror.store.url

    def subset(self, samples: _Int64) -> MirroredBeton:
        """See `Beton`."""
        found = super().subset(samples)
        assert isinstance(found, MirroredBeton)
        found.samples = self.samples[samples]
        return found

    def bytes_of(self, index: int) -> npt.NDArray[np.uint8]:
        """See `Beton`."""
        sample = int(self.samples[index])
        if self.reader.has(sample):
            return super().bytes_of(index)
        with self.reader.held(np.array([sample])):
            return super().bytes_of(index).copy()

    def check_crc32(self, index: int) -> None:
        """See `Beton`."""
        try:
            super().check_crc32(index)
        except SampleError as error:
            path, place = self.place(index)
            raise SampleError(
                f"sample {place} of {self.url}/{path.name} is damaged in the object store: its"
                " CRC-32 is not the one prep wrote. Upload that file again, or leave out such"
                ' samples with data.on_bad = "skip".',
                place,
                error.label,
            ) from None

    def held(self, indices: _Int64) -> AbstractContextManager[None]:
        """See `Beton`."""
        return self.reader.held(self.samples[indices])

    def parts(self) -> Iterator[_Int64]:
        """See `Beton`. The next part is fetched while the present one is used."""
        part = min(_PART, max(1, self.reader.budget // 2))
        number = np.cumsum(self.sizes) // part
        chunks = np.split(np.arange(len(self)), np.flatnonzero(np.diff(number)) + 1)
        following = [*chunks[1:], np.zeros(0, np.int64)]
        held: deque[ExitStack] = deque()  # of the parts that were fetched, until they are released

        def take(chunk: _Int64) -> None:
            with ExitStack() as stack:
                stack.enter_context(self.held(chunk))
                held.append(stack.pop_all())

        def release() -> None:
            while held:
                held.popleft().close()

        worker = Workers(1, "slipform-part")
        try:
            ahead = worker.submit(partial(take, chunks[0]))
            for chunk, after in zip(chunks, following, strict=True):
                ahead.result(partial(check, self.url))
                ahead = worker.submit(partial(take, after))
                yield chunk
                held.popleft().close()
        finally:
            worker.submit(release)
            worker.close(wait=False)
