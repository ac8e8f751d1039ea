"""The bytes of samples, brought into a mirror when they are needed: `Reader`.

In: samples of the open betons of a mirror. Out: their bytes in the betons, which stay there while
the samples are held. What an earlier process left there is compared with its CRC-32, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Condition

import numpy as np
import numpy.typing as npt

from slipform.pipelines.errors import StorageError
from slipform.pipelines.manifest import BetonInfo
from slipform.pipelines.mirror.cache import can_punch, writing
from slipform.pipelines.mirror.copy_index import index_bounds
from slipform.pipelines.mirror.eviction import Eviction
from slipform.pipelines.mirror.folder import Mirror
from slipform.pipelines.mirror.pins import Pins
from slipform.pipelines.mirror.ranges import Piece, pieces_of, requests_at_once
from slipform.pipelines.mirror.transfer import Transfer
from slipform.pipelines.together import together

__all__ = ["Reader"]

_Bytes = npt.NDArray[np.uint8]
_Int64 = npt.NDArray[np.int64]


class Reader:
    """Fetches samples of betons. All threads may use it together.

    Samples have the numbers of the open beton here, from 0.

    Args:
        mirror: The mirror.
        pins: The pins of this reader.
        files: The betons.
        transfer: Copies samples of them.
        data: uint8 [bytes], the mapped betons.
        offsets, sizes: int64 [N], where each sample lies in `data`.

    Attributes:
        numbers: int64 [N], the numbers of the samples in the mirror.
        sizes: As given.
        budget: Bytes of samples that should be held at once, at most.
        next_use: When each sample is needed next, int64 [N]; None: unknown.
        transfer: As given.

    Raises:
        StorageError: The cache is too small, or its file system cannot free parts of a file.
    """

    def __init__(
        self,
        mirror: Mirror,
        pins: Pins,
        files: Sequence[BetonInfo],
        transfer: Transfer,
        data: _Bytes,
        offsets: _Int64,
        sizes: _Int64,
    ) -> None:
        self._mirror, self._pins, self.transfer = mirror, pins, transfer
        self._data, self._offsets, self.sizes = data, offsets, sizes
        self.numbers = mirror.numbers_of(files)
        self._present = mirror.present
        self._verified = transfer.unchecked.copy()
        self._damaged = np.zeros(len(sizes), bool)  # in the object store: not fetched again
        # The samples that a thread is fetching. Others that need them wait until it has ended.
        self._under_way, self._arrived = np.zeros(len(sizes), bool), Condition()
        self._eviction = Eviction(mirror)
        self.next_use: Callable[[], _Int64] | None = None
        self._limit = mirror.room()
        self._fits = self._eviction.fits(self._limit)
        self._in_order = np.argsort(transfer.positions)
        self._sorted = transfer.positions[self._in_order]
        always = sum(
            info.bytes - high + low for info in files for low, high in [index_bounds(info)]
        )
        always += int(sizes[transfer.unchecked].sum())
        self.budget = (self._limit - always) // 4
        self._check_limit(always)
        with mirror.locked():
            whole = self.numbers[transfer.unchecked]  # they were copied whole, and stay
            pins.add(whole)
            if (self._present[whole] != 1).any():
                raise StorageError(
                    f"another process has freed bytes of {mirror.folder}, which has no checksums."
                    " Start again."
                )
            self._eviction.make_room(self._limit, self._all_next_use)  # it may be smaller now

    def _check_limit(self, always: int) -> None:
        mirror, limit = self._mirror, self._limit
        root, wanted = mirror.folder.parent, f"Set SLIPFORM_CACHE_SIZE to {mirror.num_bytes:,}"
        if limit < mirror.num_bytes and not can_punch(root):
            raise StorageError(
                f"{mirror.store.url} has {mirror.num_bytes:,} bytes, and the cache in {root} may"
                f" take {limit:,}. Its file system cannot free parts of a file. {wanted}, or"
                " SLIPFORM_CACHE to a folder on ext4, XFS, Btrfs or tmpfs."
            )
        if always >= limit:
            raise StorageError(
                f"the tables of {mirror.store.url}, and samples without checksums, have"
                f" {always:,} bytes, and the cache in {root} may take {limit:,}. {wanted}."
            )

    def has(self, sample: int) -> bool:
        """Whether the bytes of a sample are held and there, so that they can be read.

        Args:
            sample: The sample.
        """
        number = self.numbers[sample]
        pinned = self._pins.counts[number] > 0  # first: what is pinned stays present
        there = self._present[number] == 1 and self._verified[sample]
        return bool(pinned and (there or self._damaged[sample]))

    @contextmanager
    def held(self, samples: _Int64) -> Iterator[None]:
        """Hold samples during a block, and fetch them before it.

        Args:
            samples: int64 [n].

        Raises:
            StorageError: They cannot be fetched.
        """
        samples = np.unique(samples)
        pieces, place = self.hold([samples]), self._mirror.store.url
        try:
            together(self.fetch, pieces, requests_at_once(pieces), place, self.drop)
            yield
        finally:
            self.release(samples)

    def hold(self, batches: Sequence[_Int64]) -> list[Piece]:
        """Hold the samples of batches, and free bytes for those that are missing.

        Args:
            batches: The samples of each batch, each at most once in it. `release` takes each of
                these arrays.

        Returns:
            What has to be fetched before they are read, in the order in which it is needed. Each
            piece must be given to `fetch` or to `drop`, once.

        Raises:
            StorageError: They are larger than the cache.
        """
        joined = np.concatenate(batches)
        samples = joined[np.sort(np.unique(joined, return_index=True)[1])]
        with writing(self._mirror.folder), self._mirror.locked():
            for batch in batches:
                self._pins.add(self.numbers[batch])
            there = (self._present[self.numbers[samples]] == 1) | self._damaged[samples]
            try:
                if not there.all():
                    self._make_room()
            except BaseException:
                for batch in batches:
                    self.release(batch)
                raise
            # What is there is read once, too: its bytes may have changed on the disk.
            pieces = self._pieces(
                samples, there & ~self._verified[samples] & ~self._damaged[samples]
            )
            pieces += map(self._with_neighbors, self._pieces(samples, ~there))
            for piece in pieces:
                self._pins.add(self.numbers[piece.samples])
        return sorted(pieces, key=lambda piece: piece.need)

    def _pieces(self, samples: _Int64, chosen: npt.NDArray[np.bool_]) -> list[Piece]:
        at = np.flatnonzero(chosen)
        some = samples[at]
        return pieces_of(some, self.transfer.positions[some], self.sizes[some], at)

    def _with_neighbors(self, piece: Piece) -> Piece:
        """A piece with what lies between its samples, if the cache has room for all samples."""
        if len(piece.samples) == 1 or not self._fits:
            return piece
        positions = self.transfer.positions
        low, high = np.searchsorted(self._sorted, [piece.start, piece.end])
        inside = self._in_order[low:high]
        inside = inside[positions[inside] + self.sizes[inside] <= piece.end]
        missing = self._present[self.numbers[inside]] != 1
        return piece._replace(samples=inside[missing])

    def release(self, samples: _Int64) -> None:
        """Hold the samples of a batch no longer.

        Args:
            samples: int64 [n], as given to `hold`.
        """
        self._pins.remove(self.numbers[samples])

    def drop(self, piece: Piece) -> None:
        """Do not fetch a piece.

        Args:
            piece: What `hold` returned.
        """
        self._pins.remove(self.numbers[piece.samples])

    def fetch(self, piece: Piece) -> None:
        """Have the bytes of a piece in the mirror, and compare them with their checksums.

        Args:
            piece: What `hold` returned. `fetch` takes back its pins.

        Raises:
            StorageError: It cannot be fetched.
            DatasetError: Another dataset is in the object store now.
        """
        left = piece.samples
        try:
            while len(left):
                with self._arrived:
                    others = self._under_way[left]
                    if others.all():  # pieces of the next epoch may have samples of this one
                        self._arrived.wait()
                    mine, left = left[~others], left[others]
                    self._under_way[mine] = True
                try:
                    self._fetch(mine)
                finally:
                    with self._arrived:
                        self._under_way[mine] = False
                        self._arrived.notify_all()
        finally:
            self._pins.remove(self.numbers[piece.samples])

    def _fetch(self, samples: _Int64) -> None:
        """Fetch samples that no other thread is fetching."""
        there = self._present[self.numbers[samples]] == 1
        here = samples[there & self._verified[samples]].tolist()
        for sample in samples[there & ~self._verified[samples]].tolist():
            if self.transfer.is_right(sample, self._view(sample).data):
                self._verified[sample] = True
                here.append(sample)
        missing = samples[~np.isin(samples, here)]
        for one in self._pieces(missing, np.ones(len(missing), bool)):
            right = self.transfer.copy(one.samples)
            # Only now: others trust this byte until they have compared the checksum.
            self._present[self.numbers[right]] = 1
            self._verified[right] = True
            self._damaged[one.samples[~np.isin(one.samples, right)]] = True

    def _view(self, sample: int) -> _Bytes:
        start = self._offsets[sample]
        return self._data[start : start + self.sizes[sample]]

    def _make_room(self) -> None:
        if self._eviction.make_room(self._limit, self._all_next_use):
            return
        held = int(self.sizes[self._pins.counts[self.numbers] > 0].sum())
        if held > self._limit:
            raise StorageError(
                f"the samples of the batches under way have {held:,} bytes, and the cache may take"
                f" {self._limit:,}. Set SLIPFORM_CACHE_SIZE to {4 * held:,} or more, or use smaller"
                " batches."
            )

    def _all_next_use(self) -> _Int64:
        """int64 [M], when each sample of the mirror is needed next, as far as it is known."""
        found = np.full(len(self._present), -1)
        found[self.numbers] = 0 if self.next_use is None else self.next_use()
        return found
