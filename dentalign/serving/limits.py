"""Limits of the server, and the refusal of a request that exceeds one."""

from dataclasses import dataclass

from dentalign.errors import DentalignError


@dataclass(frozen=True)
class ServerLimits:
    """Limits of one request.

    upload_mb   : size of the zip, MB
    unpacked_mb : size of its files together, MB
    files       : number of its entries
    ratio       : unpacked over packed size of a file
    upload_s    : time of the whole upload, seconds
    work_s      : time of a prediction, seconds
    waiting     : number of requests that wait for the worker of a set of models
    """

    upload_mb: float = 100.0
    unpacked_mb: float = 400.0
    files: int = 200
    ratio: float = 200.0
    upload_s: float = 60.0
    work_s: float = 120.0
    waiting: int = 16


class Refused(DentalignError):
    """Request that is refused; `status` is the HTTP status."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status
