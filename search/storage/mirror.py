"""The copy of a directory in a bucket.

    PREFIX/manifest.json     {"writer": ..., "files": {"study.db": {"sha256": ..., "bytes": ...}}}: what the directory holds, written last
    PREFIX/objects/SHA256    what is in a file

An object has the name of its content, so none is ever written over, and the copy is at every time what the last manifest says. The manifest is
only written over the one that was read: of two writers, one hears of the other, also if both would write the same files.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pydantic import BaseModel, Field, ValidationError

from results.run_directory import RunError
from search.storage.bucket import Bucket, BucketError, Changed
from spaces.files import replacing

MANIFEST = "manifest.json"
TRIES = 3
"""Readings of a copy that is being changed."""
STAGING = ".fetching-"


class Listed(BaseModel, frozen=True):
    """A file of the copy."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int


class _Manifest(BaseModel):
    files: dict[str, Listed]


class DamagedCopy(RunError):
    """What is in the bucket is not what its manifest says."""


class Mirror:
    """The copy of one directory, at a bucket's prefix."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.files: dict[str, Listed] = {}
        """What the manifest says, as last read or written."""
        self._tag: str | None = None
        self._writer = uuid.uuid4().hex
        self._unanswered: list[bytes] = []
        """Manifests that were sent since, of which one may have been written although no answer came."""

    @property
    def url(self) -> str:
        return self.bucket.url

    def read(self) -> bool:
        """Read the manifest; whether there is one.

        Raises:
            DamagedCopy: it is none.
            BucketError: the bucket cannot be read.
        """
        found = self.bucket.get(MANIFEST)
        self._tag, self.files = None if found is None else found.tag, {}
        if found is None:
            return False
        try:
            files = _Manifest.model_validate_json(found.data).files
        except ValidationError:
            raise DamagedCopy(f"{self.url}/{MANIFEST}: damaged; nothing was changed") from None
        if wrong := [name for name in files if not _is_below(name)]:
            raise DamagedCopy(f"{self.url}/{MANIFEST}: damaged: it has a file {wrong[0]!r}; nothing was changed")
        self.files = files
        return True

    def doubt(self) -> None:
        """Put everything again the next time, as objects are damaged."""
        self.files = {}

    def changed(self) -> bool:
        """Whether somebody else has written the manifest since it was read or written here."""
        found = self.bucket.get(MANIFEST)
        return (None if found is None else found.tag) != self._tag

    def fetch(self, directory: Path, there: Iterable[str] = ()) -> None:
        """Make a directory what the manifest says: all of it, or nothing is changed.

        Args:
            there: names of the files that the directory has, and that are to be among those of the manifest.

        Raises:
            DamagedCopy: an object is missing, or is not what it is named for.
            BucketError: the bucket cannot be read.
        """
        directory.mkdir(parents=True, exist_ok=True)
        for left in directory.glob(f"{STAGING}*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        for tried in range(1, TRIES + 1):
            with tempfile.TemporaryDirectory(dir=directory, prefix=STAGING) as staging:
                try:
                    self._download(directory, Path(staging))
                except DamagedCopy:
                    if tried < TRIES and self.changed() and self.read():  # by a search that goes on
                        continue
                    raise
                self._take_over(Path(staging), directory, there)
                return

    def put(self, content: bytes | Path) -> Listed:
        """Write an object, unless the manifest says that it is there; what it is, to be listed.

        Args:
            content: of a file that may be written to meanwhile, or a file that is not.

        Raises:
            FileNotFoundError: the file is gone.
            BucketError: it cannot be written.
        """
        if isinstance(content, bytes):
            listed = Listed(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
            self._put(listed, content)
            return listed
        with content.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            listed = Listed(sha256=digest, bytes=file.tell())
            file.seek(0)
            self._put(listed, file)
        return listed

    def publish(self, files: Mapping[str, Listed]) -> None:
        """Make these, which have been put, the files of the copy; objects that it then has no file of are deleted.

        Raises:
            Changed: somebody else has written the manifest.
            BucketError: it cannot be written.
        """
        listed = {name: files[name].model_dump() for name in sorted(files)}
        text = json.dumps({"writer": self._writer, "files": listed}, indent=2)
        self._write(f"{text}\n".encode())
        unlisted = self._objects() - {one.sha256 for one in files.values()}
        self.files = dict(files)
        with suppress(BucketError):  # they only take space
            self.bucket.delete(f"objects/{one}" for one in unlisted)

    def sweep(self) -> None:
        """Delete what a killed writer has put and not listed. Nobody else may write.

        Raises:
            BucketError: the bucket cannot be listed or written to.
        """
        left = {*(self.bucket / "objects").names()} - self._objects()
        self.bucket.delete(f"objects/{one}" for one in left)

    def _write(self, manifest: bytes) -> None:
        """Write the manifest over the one that was last read or written here."""
        self._unanswered.append(manifest)
        try:
            self._tag = self.bucket.put_over(MANIFEST, manifest, self._tag)
        except Changed:
            found = self.bucket.get(MANIFEST)
            if found is None or found.data not in self._unanswered:
                raise
            self._tag = self.bucket.put_over(MANIFEST, manifest, found.tag)
        self._unanswered = []

    def _put(self, listed: Listed, body: bytes | BinaryIO) -> None:
        if listed.sha256 not in self._objects():
            self.bucket.put(f"objects/{listed.sha256}", body)

    def _objects(self) -> set[str]:
        return {one.sha256 for one in self.files.values()}

    def _download(self, directory: Path, staging: Path) -> None:
        """What the directory does not have already."""
        for name, listed in self.files.items():
            if _is(directory / name, listed) or (path := staging / listed.sha256).exists():
                continue
            came = self.bucket.download(f"objects/{listed.sha256}", path)
            if came != listed.sha256:
                what = "missing" if came is None else "damaged (its SHA-256 is another one)"
                raise DamagedCopy(f"{self.url}: {name} is {what}, as objects/{listed.sha256}; nothing was changed here")

    def _take_over(self, staging: Path, directory: Path, there: Iterable[str]) -> None:
        for name in set(there) - self.files.keys():
            (directory / name).unlink(missing_ok=True)
        for name, listed in self.files.items():
            path = directory / name
            if (came := staging / listed.sha256).exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(path, listed.bytes) as temporary:
                    shutil.copyfile(came, temporary)  # which several files may be


def _is(path: Path, listed: Listed) -> bool:
    if not path.is_file() or path.stat().st_size != listed.bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == listed.sha256


def _is_below(name: str) -> bool:
    """Whether it names a file below the directory, and no other place."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and str(path) == name
