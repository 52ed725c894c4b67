"""A bucket of S3, or of a store that speaks S3, its conditional writes included.

Conditions are what a lease is made of: a write goes through only if nobody else has written meanwhile. Of the clients that
there are, botocore is the smallest one with conditions.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Self
from urllib.parse import parse_qsl, urlsplit

from spaces.errors import SpaceError, nearest
from spaces.files import replacing

URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")
NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
QUERY = ("endpoint_override", "scheme", "region")
"""As Arrow's addresses have them."""
_CHUNK = 2**20
_LOST = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey")


class BucketError(OSError):
    """The bucket cannot be used, now or at all: one line, without the bucket's name."""


class Changed(BucketError):
    """The condition of a write does not hold: the object is another one by now, or is there already, or is gone."""


@dataclass(frozen=True)
class Found:
    """An object: `tag` changes with its content, `modified` with every write; `now` is the store's own clock."""

    data: bytes
    tag: str
    modified: datetime
    now: datetime


@dataclass(frozen=True)
class Bucket:
    """The objects of a bucket whose keys begin with a prefix, `s3://NAME/PREFIX?endpoint_override=HOST:PORT&scheme=http&region=REGION`."""

    name: str
    prefix: str = ""
    query: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises SpaceError: not such an address, or none of S3."""
        split = urlsplit(text)
        if split.scheme != "s3":
            raise SpaceError(
                f"{text}: {split.scheme}:// is not supported; valid: a directory, or s3:// (also of other stores that speak S3, by "
                "?endpoint_override=HOST), as one driver at a time needs conditional writes"
            )
        if not NAME.fullmatch(split.netloc):
            raise SpaceError(f"{text}: expected s3://BUCKET/PREFIX, but the bucket is {split.netloc!r}")
        parts = [part for part in split.path.split("/") if part]
        if {".", ".."} & {*parts} or split.fragment:
            raise SpaceError(f"{text}: expected s3://BUCKET/PREFIX, without '.', '..' and '#'")
        options = dict(parse_qsl(split.query, keep_blank_values=True))
        for option in options:
            if option not in QUERY:
                raise SpaceError(f"{text}: no such option '{option}'; {nearest(option, QUERY)}")
        if options.get("scheme", "https") not in ("http", "https"):
            raise SpaceError(f"{text}: scheme={options['scheme']}; valid: http, https")
        if not all(options.values()) or ("scheme" in options and "endpoint_override" not in options):
            raise SpaceError(f"{text}: an option has no value, or a scheme no endpoint_override")
        return cls(split.netloc, "/".join(parts), split.query)

    def __str__(self) -> str:
        """The address, as it is given on a command line."""
        return f"{self.url}{'?' * bool(self.query)}{self.query}"

    @property
    def url(self) -> str:
        """The address for people, without options."""
        return "/".join(part for part in (f"s3://{self.name}", self.prefix) if part)

    def __truediv__(self, name: str) -> Self:
        return replace(self, prefix=self._key(name))

    @property
    def parent(self) -> Self:
        return replace(self, prefix=self.prefix.rpartition("/")[0])

    def get(self, name: str) -> Found | None:
        """An object, None if there is none.

        Raises:
            BucketError: it cannot be read.
        """
        with _told():
            if (answer := self._open(name)) is None:
                return None
            now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
            return Found(answer["Body"].read(), answer["ETag"], answer["LastModified"], now)

    def put(self, name: str, body: bytes | BinaryIO) -> str:
        """Write an object; its tag.

        Raises:
            BucketError: it cannot be written.
        """
        return self._put(name, body)

    def put_over(self, name: str, body: bytes, tag: str | None) -> str:
        """Write an object if that which is there has a tag, or none is there; the new tag.

        Raises:
            Changed: it has another one.
            BucketError: it cannot be written.
        """
        try:
            return self._put(name, body, **({"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}))
        except Changed:  # maybe by this very write, whose answer was lost, so that it was tried again
            if (found := self.get(name)) is None or found.data != body:
                raise
            return found.tag

    def download(self, name: str, path: Path) -> str | None:
        """An object as a file; the SHA-256 of what came, None if there is no such object.

        Raises:
            BucketError: it cannot be read.
        """
        digest = hashlib.sha256()
        with _told():
            if (answer := self._open(name)) is None:
                return None
            with replacing(path) as temporary, temporary.open("wb") as file:
                while chunk := answer["Body"].read(_CHUNK):
                    digest.update(chunk)
                    file.write(chunk)
        return digest.hexdigest()

    def delete(self, names: Iterable[str]) -> None:
        """Raises BucketError: one of them cannot be deleted. One that is not there is."""
        with _told():
            for name in names:
                self._client().delete_object(Bucket=self.name, Key=self._key(name))

    def names(self) -> list[str]:
        """What comes next in the keys, up to a slash: as the names of a directory.

        Raises:
            BucketError: they cannot be listed.
        """
        start = f"{self.prefix}/" if self.prefix else ""
        with _told():
            pages = (
                self._client().get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=start, Delimiter="/")
            )
            found = [
                entry[key]
                for page in pages
                for kind, key in (("CommonPrefixes", "Prefix"), ("Contents", "Key"))
                for entry in page.get(kind, ())
            ]
        return sorted(one.removeprefix(start).rstrip("/") for one in found)

    def check(self) -> None:
        """See that objects can be written, read and deleted, and that conditions of both kinds count.

        Raises:
            BucketError: they cannot, or do not.
        """
        probe = f".probe-{uuid.uuid4().hex}"
        first = self.put_over(probe, b"", None)
        try:
            self.get(probe)
            self.put_over(probe, b"second", first)
            for condition in (None, first):  # neither holds any more
                with suppress(Changed):
                    self.put_over(probe, b"third", condition)
                    raise BucketError("the store does not know conditional writes, which keep two drivers apart")
        finally:
            self.delete([probe])

    def _open(self, name: str) -> Any:
        """An object's answer, its body still to come; None if there is none."""
        client = self._client()
        try:
            return client.get_object(Bucket=self.name, Key=self._key(name))
        except client.exceptions.NoSuchKey:
            return None

    def _put(self, name: str, body: bytes | BinaryIO, **condition: str) -> str:
        client = self._client()
        with _told():
            try:
                answer = client.put_object(Bucket=self.name, Key=self._key(name), Body=body, **condition)
            except client.exceptions.ClientError as error:
                if condition and error.response["Error"].get("Code") in _LOST:
                    raise Changed(f"{self._key(name)} has been written by somebody else") from None
                raise
            tag: str = answer["ETag"]
            return tag

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def _client(self) -> Any:
        options = dict(parse_qsl(self.query))
        endpoint = options.get("endpoint_override")
        return client(
            None if endpoint is None else f"{options.get('scheme', 'https')}://{endpoint}", options.get("region")
        )


def is_url(text: str) -> bool:
    """Whether it is an address rather than a path: also one that a path was made of, which takes a slash away."""
    return URL.match(text) is not None


@cache
def client(endpoint: str | None, region: str | None) -> Any:
    """A client of S3, which several threads may use.

    Raises:
        SpaceError: its library is not installed.
    """
    try:
        from botocore.config import Config
        from botocore.session import get_session
    except ImportError:
        raise SpaceError("s3:// needs botocore: pip install 'psf-search[s3]'") from None
    addressing = (
        {} if endpoint is None else {"s3": {"addressing_style": "path"}}
    )  # other stores have no host per bucket
    settings = Config(connect_timeout=10, read_timeout=30, retries={"mode": "standard"}, **addressing)
    return get_session().create_client("s3", region_name=region, endpoint_url=endpoint, config=settings)


@contextmanager
def _told() -> Iterator[None]:
    """botocore's errors in one line."""
    try:
        yield
    except (OSError, SpaceError):
        raise
    except Exception as error:
        from botocore.exceptions import BotoCoreError, ClientError

        if isinstance(error, ClientError):
            said = error.response["Error"]
            raise BucketError(f"{said.get('Code')}: {said.get('Message', '')}".rstrip(": ")) from error
        if isinstance(error, BotoCoreError):
            raise BucketError(" ".join(str(error).split())) from error
        raise
