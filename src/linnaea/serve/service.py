"""A model behind a queue: requests of many callers are batched, and a full queue refuses new ones at once."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from linnaea.data.exif import Taken, read_taken
from linnaea.data.images import call_apart, decode_noted_here
from linnaea.data.isolated import CallLimits
from linnaea.model.encode import encode_pixels
from linnaea.model.preprocess import decode_pixels
from linnaea.predict.predictor import Predictor

Item = TypeVar("Item")
Result = TypeVar("Result")


class BusyError(Exception):
    """The queue is full; try again later."""


class TooSlowError(Exception):
    """The answer took longer than the time limit."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on one request and on all requests together."""

    file_bytes: int = 20_000_000
    request_bytes: int = 100_000_000
    files: int = 64
    pixels: int = 100_000_000
    """Width times height."""
    decoding_bytes: int = 1_000_000_000
    """Memory for decoding one photograph; ``workers`` photographs are decoded at once."""
    waiting: int = 256
    """Photographs in progress, of all requests together; also the limit on requests."""
    bytes_under_way: int = 500_000_000
    """Bytes of all requests together, arriving or being answered."""
    per_client: int = 192
    """Requests of one client at a time."""
    head_s: float = 10.0
    """Seconds for the head of a request."""
    body_s: float = 20.0
    """Seconds for the body of a request, besides the time that its bytes take at :attr:`bytes_per_s`."""
    bytes_per_s: float = 20_000.0
    """The slowest rate at which a body may arrive."""
    seconds: float = 60.0
    """Seconds for one photograph, from its arrival to its vector."""


@dataclass(frozen=True)
class _Job:
    pixels: NDArray[Any]
    result: "Future[NDArray[np.float32]]"


class Service:
    """Encodes photographs as unit vectors, in batches of those that wait.

    One thread runs a large model on every core, and a thread for each core runs a small one: threads that share a
    batch wait for one another, which takes twice the processor time where others decode.
    """

    def __init__(self, predictor: Predictor, limits: Limits) -> None:
        self.predictor, self.limits = predictor, limits
        self._jobs: queue.Queue[_Job | None] = queue.Queue(maxsize=max(limits.waiting, limits.files))
        self._n_waiting = 0
        self._asked: dict[int, list[tuple[Any, asyncio.Future[Any]]]] = {}
        """For each predictor that is answering, the items that wait for it."""
        self._answering: set[asyncio.Task[None]] = set()
        # Few threads each, since PyTorch and OpenBLAS keep memory for every thread that ever called them.
        self._decoders = ThreadPoolExecutor(max(2, predictor.n_workers), "decode")
        self._scorers = ThreadPoolExecutor(max(2, predictor.n_workers), "score")
        n_callers = predictor.model.n_callers
        self._threads = [threading.Thread(target=self._work, name="model", daemon=True) for _ in range(n_callers)]
        for thread in self._threads:
            thread.start()

    @property
    def n_waiting(self) -> int:
        """Return the number of photographs that are being read or encoded, or wait for it."""
        return self._n_waiting

    @contextmanager
    def room_for(self, n_photographs: int) -> Iterator[None]:
        """Reserve room for all of a request's photographs or for none; an idle server has room for any one request.

        Raises:
            BusyError: too many photographs are waiting.
        """
        if self._n_waiting and self._n_waiting + n_photographs > self.limits.waiting:
            raise BusyError
        self._n_waiting += n_photographs
        try:
            yield
        finally:
            self._n_waiting -= n_photographs

    def close(self) -> None:
        """Finish the waiting photographs, then stop."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._decoders.shutdown()
        self._scorers.shutdown()

    async def score(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Run a function of a vector in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._scorers, function, *arguments)

    async def score_together(
        self, function: Callable[[list[Item], Predictor], list[Result]], item: Item, predictor: Predictor
    ) -> Result:
        """Run a function of all items that wait for the same predictor in a thread.

        One call runs at a time for each predictor; items that arrive meanwhile go into the next call. A product
        of many vectors with the labels takes little more time than one of a single vector.
        """
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        if (waiting := self._asked.get(id(predictor))) is not None:
            waiting.append((item, result))
        else:
            self._asked[id(predictor)] = [(item, result)]
            task = asyncio.create_task(self._answer_all(function, predictor))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        return await result

    async def _answer_all(self, function: Callable[[list[Any], Predictor], list[Any]], predictor: Predictor) -> None:
        waiting = self._asked[id(predictor)]
        try:
            while waiting:
                some = waiting[: predictor.batch_size]
                del waiting[: len(some)]
                try:
                    answers = await self.score(function, [item for item, _ in some], predictor)
                except Exception as error:
                    for _, result in some:
                        if not result.done():  # its caller has left
                            result.set_exception(error)
                else:
                    for (_, result), answer in zip(some, answers, strict=True):
                        if not result.done():
                            result.set_result(answer)
        finally:
            del self._asked[id(predictor)]

    async def encode(
        self,
        data: bytes,
        notes: list[str] | None = None,
        check: Callable[[Any], None] | None = None,
    ) -> NDArray[np.float32]:
        """Return the unit vector of one photograph; what is unusual about the file is added to ``notes``.

        ``check`` is that of :func:`~linnaea.model.encode.iter_encoded_images`.

        Raises:
            ImageError: it is not a picture, is too large, or ``check`` raised it.
            BusyError: too many photographs are waiting.
            TooSlowError: it took longer than ``limits.seconds``.
        """
        result: Future[NDArray[np.float32]] = Future()
        until = time.monotonic() + self.limits.seconds
        try:
            async with asyncio.timeout(self.limits.seconds):
                decode = partial(self._decode, data, until)
                pixels, found = await asyncio.get_running_loop().run_in_executor(self._decoders, decode)
                if notes is not None:
                    notes += found
                if check is not None:
                    check(pixels)
                self._jobs.put_nowait(_Job(pixels, result))
                return await asyncio.wrap_future(result)
        except queue.Full:
            raise BusyError from None
        except TimeoutError:
            result.cancel()
            raise TooSlowError from None

    async def read_taken(self, data: bytes) -> Taken:
        """Return where and when a photograph says that it was taken, read in a process with limits."""
        seconds = self.limits.seconds
        limits = CallLimits(n_bytes=self.limits.decoding_bytes, seconds=seconds, wall_s=seconds)
        return await asyncio.get_running_loop().run_in_executor(self._decoders, read_taken, data, limits)

    async def decode(self, data: bytes) -> NDArray[Any]:
        """Return the pixels of one photograph as the model takes them.

        Raises:
            ImageError: it is not a picture, or is too large.
            TooSlowError: it took longer than ``limits.seconds``.
        """
        decode = partial(self._decode, data, time.monotonic() + self.limits.seconds)
        try:
            pixels, _ = await asyncio.get_running_loop().run_in_executor(self._decoders, decode)
        except TimeoutError:
            raise TooSlowError from None
        return pixels

    def _decode(self, data: bytes, until: float) -> tuple[NDArray[Any], list[str]]:
        """Decode in a process that is killed at the time ``until``, since a thread cannot be."""
        if (left := until - time.monotonic()) <= 0:
            raise TimeoutError
        model, pixels = self.predictor.model, self.limits.pixels
        preprocess, enough = model.preprocess, model.enough_short_side(self.predictor.fast)
        limits = CallLimits(n_bytes=self.limits.decoding_bytes, seconds=left, wall_s=left)
        result: NDArray[Any]
        if preprocess.resize_mode == "longest":  # this mode needs PyTorch, which a decoding process does not load
            picture, notes = call_apart(decode_noted_here, data, enough, pixels, limits=limits)
            result = preprocess.pixels(picture)
        else:
            result, notes = call_apart(decode_pixels, data, preprocess, enough, pixels, limits=limits)
        return result, notes

    def _work(self) -> None:
        """Encode batches of 1, 2, 4 ... photographs, since PyTorch keeps memory for every batch size it has seen."""
        ended = False
        while not ended and (first := self._jobs.get()) is not None:
            batch = [first]
            n_here = min(self._jobs.qsize() // len(self._threads) + 1, self.predictor.batch_size)
            with suppress(queue.Empty):  # another thread took it
                for _ in range((1 << n_here.bit_length() >> 1) - 1):
                    if ended := (more := self._jobs.get_nowait()) is None:
                        break
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
