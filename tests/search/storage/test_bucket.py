"""Addresses, conditional writes and what a store refuses."""

import io

import pytest

from search.storage.bucket import Bucket, BucketError, Changed
from spaces.errors import SpaceError


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gs://bucket/runs", "gs:// is not supported"),
        ("s3:///runs", "expected s3://BUCKET/PREFIX"),
        ("s3:/bucket/runs", "expected s3://BUCKET/PREFIX"),
        ("s3://Bucket/runs", "the bucket is 'Bucket'"),
        ("s3://bucket/../runs", "without '.', '..'"),
        ("s3://bucket/runs?endpoint=host", "did you mean 'endpoint_override'"),
        ("s3://bucket/runs?endpoint_override=host&scheme=ftp", "valid: http, https"),
        ("s3://bucket/runs?scheme=http", "endpoint_override"),
    ],
)
def test_addresses_that_are_none(text, says):
    with pytest.raises(SpaceError) as error:
        Bucket.parse(text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_an_address_is_read_and_said_alike():
    text = "s3://bucket/some/runs?endpoint_override=host:9000&scheme=http&region=here"
    bucket = Bucket.parse(text)
    assert str(bucket) == text
    assert bucket.url == "s3://bucket/some/runs"
    assert str((bucket / "one").parent) == text
    assert Bucket.parse("s3://bucket").url == "s3://bucket"


def test_objects_come_back_as_they_were_put(bucket, tmp_path):
    assert bucket.get("one") is None
    assert bucket.download("one", tmp_path / "one") is None
    assert bucket.put("one", b"first") == bucket.get("one").tag
    (bucket / "below").put("two", io.BytesIO(b"second"))
    assert bucket.get("one").data == b"first"
    assert bucket.names() == ["below", "one"]
    assert (bucket / "below").names() == ["two"]
    assert bucket.download("below/two", tmp_path / "two") is not None
    assert (tmp_path / "two").read_bytes() == b"second"
    bucket.delete(["one", "below/two", "not there"])
    assert bucket.names() == []


def test_a_write_over_another_object_than_the_one_that_was_read_is_refused(bucket):
    first = bucket.put_over("one", b"first", None)
    with pytest.raises(Changed):
        bucket.put_over("one", b"other", None)
    second = bucket.put_over("one", b"second", first)
    with pytest.raises(Changed):
        bucket.put_over("one", b"third", first)
    bucket.delete(["one"])
    with pytest.raises(Changed):
        bucket.put_over("one", b"third", second)


def test_a_write_that_was_tried_again_as_its_answer_was_lost_is_one(bucket):
    tag = bucket.put_over("one", b"first", None)
    assert bucket.put_over("one", b"first", None) == tag


def test_a_bucket_that_can_be_used_is_left_as_it_was(bucket):
    bucket.check()
    assert bucket.names() == []


@pytest.mark.parametrize("condition", ["IfMatch", "IfNoneMatch"])
def test_a_store_that_leaves_conditions_out_is_refused(bucket, condition):
    class Careless(Bucket):
        def _put(self, name, body, **conditions):
            conditions.pop(condition, None)
            return super()._put(name, body, **conditions)

    careless = Careless(bucket.name, bucket.prefix, bucket.query)
    with pytest.raises(BucketError, match="does not know conditional writes"):
        careless.check()
    assert bucket.names() == []


def test_what_a_store_refuses_is_one_line(bucket, address, locked_out):
    missing = Bucket.parse(address().replace(bucket.name, "another-bucket"))
    with pytest.raises(BucketError, match="NoSuchBucket") as error:
        missing.check()
    assert "\n" not in str(error.value)
    locked_out()
    with pytest.raises(BucketError) as error:
        bucket.check()
    assert "\n" not in str(error.value)


def test_a_store_that_does_not_answer_is_told(address):
    gone = Bucket.parse("s3://bucket/runs?endpoint_override=127.0.0.1:1&scheme=http")
    with pytest.raises(BucketError, match=r"127\.0\.0\.1:1"):
        gone.get("one")
