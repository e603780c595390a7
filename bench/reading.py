"""`python -m bench.reading PACK OUT`: questions about passages → train, valid and test for `fewshot ladder`.

PACK holds `corpus.jsonl` {id, title, text} and `dev/qa.jsonl` {id, question, answers, doc_ids}, as packs of
answers do. Documents of one title stay together, so that no passage is both learned from and asked about.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

TEST_SHARE, VALID_SHARE = 0.4, 0.1  # of the titles


def parted(pack: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows {id, question, context, answers} by part; a hash of the title decides."""
    documents = {row["id"]: row for row in _rows(pack / "corpus.jsonl")}
    asked = [
        (documents[row["doc_ids"][0]], row) for row in _rows(pack / "dev" / "qa.jsonl") if row["answers"]
    ]
    titles = sorted({document["title"] for document, _ in asked}, key=_draw)
    test, valid = round(TEST_SHARE * len(titles)), round((TEST_SHARE + VALID_SHARE) * len(titles))
    place = {
        title: "test" if at < test else "valid" if at < valid else "train" for at, title in enumerate(titles)
    }
    parts: dict[str, list[dict[str, Any]]] = {"train": [], "valid": [], "test": []}
    for document, row in asked:
        parts[place[document["title"]]].append(
            {
                "id": row["id"],
                "question": row["question"],
                "context": document["text"],
                "answers": row["answers"],
            }
        )
    return parts


@click.command()
@click.argument("pack", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
def main(pack: Path, out: Path) -> None:
    """Write train.jsonl, valid.jsonl and test.jsonl into OUT."""
    out.mkdir(parents=True, exist_ok=True)
    for part, rows in parted(pack).items():
        (out / f"{part}.jsonl").write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
        )
        click.echo(f"{part}: {len(rows)} questions")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines if line.strip())


def _draw(title: str) -> bytes:
    return hashlib.sha256(title.encode()).digest()


if __name__ == "__main__":
    main()
