"""A model behind a queue: requests of many people become batches, and a queue that is full says so at once."""

import asyncio
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linnaea.data.images import ImageError, decode
from linnaea.model.encode import encode_pixels
from linnaea.predict.predictor import Predictor


class BusyError(Exception):
    """The queue is full; come back later."""


class TooSlowError(Exception):
    """The answer took longer than the limit."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may ask for."""

    file_bytes: int = 20_000_000
    request_bytes: int = 100_000_000
    files: int = 64
    pixels: int = 100_000_000
    """Width times height."""
    waiting: int = 256
    """Photographs in the queue, of all requests together."""
    seconds: float = 60.0


@dataclass(frozen=True)
class _Job:
    pixels: NDArray[np.uint8]
    result: "Future[NDArray[np.float32]]"


class Service:
    """Photographs to unit vectors, in batches of whatever waits; one thread speaks to the model."""

    def __init__(self, predictor: Predictor, limits: Limits) -> None:
        self.predictor, self.limits = predictor, limits
        self._jobs: queue.Queue[_Job | None] = queue.Queue(maxsize=limits.waiting)
        self._decoders = asyncio.Semaphore(max(2, predictor.n_workers))
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def n_waiting(self) -> int:
        return self._jobs.qsize()

    def close(self) -> None:
        """Finish what waits, then stop."""
        self._jobs.put(None)
        self._thread.join()

    async def encode(self, data: bytes) -> NDArray[np.float32]:
        """The unit vector of one photograph.

        Raises:
            ImageError: it is no picture, or too large.
            BusyError: too much is waiting.
            TooSlowError: it took longer than ``limits.seconds``.
        """
        if self._jobs.full():
            raise BusyError
        async with self._decoders:
            pixels = await asyncio.to_thread(self._decode, data)
        job = _Job(pixels, Future())
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise BusyError from None
        try:
            async with asyncio.timeout(self.limits.seconds):
                return await asyncio.wrap_future(job.result)
        except TimeoutError:
            job.result.cancel()
            raise TooSlowError from None

    def _decode(self, data: bytes) -> NDArray[np.uint8]:
        preprocess = self.predictor.model.preprocess
        picture = decode(data, min_short_side=preprocess.enough_short_side)
        if picture.shape[0] * picture.shape[1] > self.limits.pixels:
            raise ImageError(f"too large: {picture.shape[1]} x {picture.shape[0]} pixels")
        return np.asarray(preprocess.pixels(picture), np.uint8)

    def _work(self) -> None:
        while (first := self._jobs.get()) is not None:
            batch = [first]
            while len(batch) < self.predictor.batch_size:
                try:
                    more = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    self._run(batch)
                    return
                batch.append(more)
            self._run(batch)

    def _run(self, batch: Sequence[_Job]) -> None:
        wanted = [job for job in batch if job.result.set_running_or_notify_cancel()]
        if not wanted:
            return
        try:
            vectors: Any = encode_pixels(self.predictor.model, np.stack([job.pixels for job in wanted]))
        except Exception as error:
            for job in wanted:
                job.result.set_exception(error)
            return
        for job, vector in zip(wanted, vectors, strict=True):
            job.result.set_result(vector)
