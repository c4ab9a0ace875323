import pytest
import typer

from flows.adapters.bucket_path import BucketPath
from flows.commands.output_folder import output_folder


def test_local_and_in_a_bucket(tmp_path):
    assert output_folder(str(tmp_path)) == tmp_path
    assert output_folder("s3://bucket/out") == BucketPath("s3://bucket/out")


def test_no_place_for_results_is_bad_usage():
    with pytest.raises(typer.BadParameter, match="no place for results"):
        output_folder("gs://bucket/out")
