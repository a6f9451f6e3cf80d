"""Annotation files read entry by entry equal what a JSON parser says of the whole."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segbench.core.errors import DataError
from segbench.datasets.reading import json_lists
from segbench.datasets.reading.json_lists import iter_lists, plain_text, read_entries

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(
    document=st.dictionaries(st.sampled_from("abcdef"), values),
    escaped=st.booleans(),
    indent=st.sampled_from([None, 1]),
    piece=st.integers(1, 40),
)
def test_every_entry_is_found_in_place(tmp_path_factory, document, escaped, indent, piece):
    path = tmp_path_factory.mktemp("json") / "file.json"
    text = json.dumps(document, ensure_ascii=escaped, indent=indent)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    before, json_lists._PIECE = json_lists._PIECE, piece
    try:
        found = list(iter_lists(path, ()))
    finally:
        json_lists._PIECE = before
    expected = [
        (key, value) for key, one in document.items() if isinstance(one, list) for value in one
    ]
    assert [entry.key for entry in found] == [key for key, _ in expected]
    places = [place for entry in found for place in (entry.begin, entry.length)]
    assert read_entries(path, places) == [value for _, value in expected]


def test_text_of_an_entry_is_what_the_file_means(tmp_path):
    for name, escaped in (("straße.jpg", False), ("straße.jpg", True), ("plain.jpg", True)):
        path = tmp_path / "file.json"
        path.write_text(json.dumps({"images": [name]}, ensure_ascii=escaped), encoding="utf-8")
        (entry,) = iter_lists(path, ("images",))
        assert plain_text(entry.value) == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected '{', found ''"),
        ("[]", "expected '{', found '\\['"),
        ('{"images": [1, 2', "expected ',' or '\\]'"),
        ('{"images": [1 2]}', "expected ',' or '\\]'"),
        ('{"images": [{"id": 1]}', "is not valid JSON"),
        ('{"images" [1]}', "expected ':'"),
        ('{"images": [1]} more', "more text after its end at byte 16"),
        ('{"images": {}}', "expected a JSON object with a list 'images'"),
        ('{"images": [' + "[" * 100_000, "nested too deeply|is not valid JSON"),
    ],
)
def test_what_is_no_such_file_is_said(tmp_path, text, message):
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        list(iter_lists(path, ("images",)))
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no\.json does not exist"):
        list(iter_lists(tmp_path / "no.json", ()))
