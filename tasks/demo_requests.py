"""What a client of task=demo may send: bounded in bytes, pixels and time, and checked before anything is made of it."""

import io
import socket
import time
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datamodules.contract import Share

MAX_BYTES = 2_000_000  # of a drawing; one of 280x280 pixels takes less than 100,000
MAX_SIDE = 1_024  # pixels
MAX_REQUEST_BYTES = 1_000
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class RequestError(Exception):
    """A request that is refused with this status and this line."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class SampleRequest(BaseModel):
    """A request for a sample: its class, and a place on a walk through latent space.

    Attributes:
        label: index of the class; a GAN without classes does not look at it.
        seed: of the latents that the walk leads along.
        position: on the walk, from its beginning to its end.
    """

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    label: Annotated[int, Field(ge=0, lt=1_000)]
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    position: Share


class BoundedReader(io.RawIOBase):
    """Reads from a socket until a deadline, and no more than a number of bytes."""

    def __init__(self, connection: socket.socket, seconds: float, limit: int) -> None:
        self.connection = connection
        self.deadline = time.monotonic() + seconds
        self.left = limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        self.connection.settimeout(seconds)
        count = self.connection.recv_into(buffer, min(len(buffer), self.left)) if self.left else 0
        self.left -= count
        return count


def check_png(content: bytes) -> None:
    """Refuses what is not a PNG, and one that by its header would take much memory to decode.

    Raises:
        RequestError: of status 415 or 413.
    """
    if content[:8] != PNG_SIGNATURE or content[12:16] != b"IHDR" or len(content) < 33:
        raise RequestError(415, "a drawing is a PNG")
    width, height = (int.from_bytes(content[start : start + 4], "big") for start in (16, 20))
    if not 0 < width <= MAX_SIDE or not 0 < height <= MAX_SIDE:
        raise RequestError(413, f"a drawing has at most {MAX_SIDE}x{MAX_SIDE} pixels")


def read_sample_request(content: bytes) -> SampleRequest:
    """The request that a body holds.

    Raises:
        RequestError: of status 413 or 400.
    """
    if len(content) > MAX_REQUEST_BYTES:
        raise RequestError(413, f"a request for a sample has at most {MAX_REQUEST_BYTES:,} bytes")
    try:
        return SampleRequest.model_validate_json(content)
    except ValidationError:
        raise RequestError(400, "a label, a seed and a position from 0 to 1 are needed") from None
