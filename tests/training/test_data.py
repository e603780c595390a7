"""A split is the same for everybody; what cannot be learned from is refused by file and line."""

import json

import pytest

from training.data import read_split
from training.errors import DataRefused


def lines(*rows):
    return "\n".join(json.dumps(row) for row in rows) + "\n"


def rows(count, start=0):
    return [{"text": f"text number {at}", "label": at % 2} for at in range(start, start + count)]


def write(folder, **parts):
    folder.mkdir(exist_ok=True)
    for name, content in parts.items():
        (folder / f"{name}.jsonl").write_text(content if isinstance(content, str) else lines(*content))
    return folder


def test_a_tenth_of_every_label_is_set_aside_and_the_same_tenth_each_time(tmp_path):
    folder = write(tmp_path / "d", train=rows(200), test=rows(20, 1000))
    split = read_split(folder)
    assert len(split.train) == 180
    assert [sum(one.label == label for one in split.valid) for label in (0, 1)] == [10, 10]
    assert read_split(folder) == split
    assert not {one.text for one in split.train} & {one.text for one in split.valid}


def test_copies_of_test_texts_leave_the_training_part(tmp_path):
    train = [*rows(40), {"text": "TEXT, number 1003!", "label": 1}]
    split = read_split(write(tmp_path / "d", train=train, test=rows(10, 1000)))
    assert split.removed == 1
    assert all("1003" not in one.text for one in (*split.train, *split.valid))


def test_a_larger_limit_keeps_what_a_smaller_one_drew(tmp_path):
    folder = write(tmp_path / "d", train=rows(200), test=rows(20, 1000))
    few, more = (read_split(folder, limit=limit).train for limit in (20, 90))
    assert set(few) < set(more)
    assert (len(few), len(more)) == (20, 90)


def test_labels_are_named_and_ordered_as_numbers(tmp_path):
    train = [{"text": f"t{at}", "label": str(at % 11)} for at in range(110)]
    folder = write(tmp_path / "d", train=train, test=train[:0] or [{"text": "q", "label": "10"}])
    (tmp_path / "labels.json").write_text(json.dumps({str(at): f"name {at}" for at in range(11)}))
    split = read_split(folder)
    assert split.labels == tuple(f"name {at}" for at in range(11))
    assert split.test[0].label == 10


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"train": rows(9)}, "has no test.jsonl"),
        ({"train": "{\n", "test": rows(2)}, r"train.jsonl, line 1: not JSON"),
        ({"train": lines(*rows(3)) + "[1]\n", "test": rows(2)}, "line 4: an object is wanted, not list"),
        ({"train": [{"text": " ", "label": 1}], "test": rows(2)}, 'line 1: "text" must be text'),
        ({"train": [{"text": "a", "label": None}], "test": rows(2)}, 'line 1: "label" must be a name'),
        ({"train": [{"text": "a", "label": True}], "test": rows(2)}, 'line 1: "label" must be a name'),
        ({"train": "\n", "test": rows(2)}, "holds no rows"),
        ({"train": [{"text": "a", "label": 1}] * 3, "test": [{"text": "b", "label": 1}]}, "one label only"),
        ({"train": rows(3), "test": rows(2)}, "fewer than 2 examples of 1"),
        ({"train": rows(20), "test": [{"text": "b", "label": "new"}]}, "fewer than 2 examples of new"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_by_line(tmp_path, parts, said):
    with pytest.raises(DataRefused, match=said):
        read_split(write(tmp_path / "d", **parts))


def test_bytes_that_are_no_text_are_refused(tmp_path):
    folder = write(tmp_path / "d", test=rows(2))
    (folder / "train.jsonl").write_bytes(b'{"text": "\xff"}\n')
    with pytest.raises(DataRefused, match="is not UTF-8"):
        read_split(folder)
