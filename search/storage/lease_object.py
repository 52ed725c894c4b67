"""A lease's record as an object of a bucket: each write is one over the object that was read."""

from __future__ import annotations

from search.lease import LeaseStore, Overtaken
from search.storage.bucket import Bucket, Changed, Found

NAME = "driver.json"


class LeaseObject(LeaseStore):
    """The object `driver.json` of a run's copy; the time of its last write, in seconds, is the sign of life."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket, self.run = bucket, bucket.url
        self._read: Found | None = None
        self._tag: str | None = None

    def read(self) -> bytes | None:
        self._read = self._bucket.get(NAME)
        self._tag = None if self._read is None else self._read.tag
        return None if self._read is None else self._read.data

    def write(self, record: bytes) -> None:
        try:
            self._tag = self._bucket.put_over(NAME, record, self._tag)
        except Changed as error:
            raise Overtaken(str(error)) from None

    def renew(self, record: bytes) -> None:
        self.write(record)  # as the same text it has the same tag, and a later time

    def sign(self) -> object | None:
        self.read()
        return None if self._read is None else (self._read.tag, self._read.modified)

    def silence(self) -> float:
        assert self._read is not None
        return (self._read.now - self._read.modified).total_seconds()

    def remove(self) -> None:
        self._bucket.delete([NAME])
