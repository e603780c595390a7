"""Questions about passages, cut by title."""

import json

from click.testing import CliRunner

from bench.reading import main
from training.answer_data import read_questions


def test_no_passage_is_learned_from_and_asked_about(tmp_path):
    pack = tmp_path / "pack"
    (pack / "dev").mkdir(parents=True)
    documents = [{"id": f"d{at}", "title": f"t{at // 2}", "text": f"Passage {at}."} for at in range(40)]
    asked = [
        {"id": f"q{at}", "question": f"What is in {at}?", "answers": [str(at)], "doc_ids": [f"d{at}"]}
        for at in range(40)
    ]
    for name, rows in (("corpus", documents), ("dev/qa", asked)):
        (pack / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = CliRunner().invoke(main, [str(pack), str(tmp_path / "out")], catch_exceptions=False)
    assert done.output == "train: 20 questions\nvalid: 4 questions\ntest: 16 questions\n"
    split = read_questions(tmp_path / "out")
    titles = [{int(one.answers[0]) // 2 for one in part} for part in (split.train, split.valid, split.test)]
    assert sum(map(len, titles)) == len(set().union(*titles)) == 20
    assert split.test[0].text.startswith("Passage ")
