"""Names are text and never markup; nothing but what the store's tables name is read or written."""

from __future__ import annotations

import io
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.app import markup
from pipeline.app.desk import Desk
from pipeline.app.images import require_allowed
from pipeline.app.pictures import Thumbnails, large, pixels_of
from pipeline.app.text import escaped, plain
from pipeline.app.uploads import Upload, check_uploads
from pipeline.config import LimitsConfig
from pipeline.errors import InputError
from tests.app.stores import EVIL, Place, small_store
from tests.conftest import save

HOSTILE = [EVIL, "<script>alert(1)</script>", '"><svg onload=alert(1)>', "{{ 7 * 191 }}", "a\x00b"]


# What the app's own tables and captions are made of.
PLAIN = {"div", "table", "caption", "thead", "tbody", "tr", "th", "td", "bdi", "dl", "dt", "dd"}
PLAIN |= {"figure", "img", "figcaption", "span", "br"}


class Tags(HTMLParser):
    """The elements and texts of a piece of HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_text_in_every_table_and_caption(name: str) -> None:
    made = [
        markup.table("t", [name], [[name, name]]),
        markup.facts([("name", name)]),
        markup.picture(1, b"jpeg", name, [name], name),
        markup.picture(1, name, name, [name]),
    ]
    for one in made:
        seen = Tags()
        seen.feed(one)
        assert seen.tags <= PLAIN
        assert not [name for name in seen.attributes if name.startswith("on")]
        assert plain(name) in "".join(seen.text) or "data:" in one


def test_markdown_of_a_name_is_escaped_mark_by_mark() -> None:
    assert escaped("**b** [l](x) :red[y] <i> $z$ `c` _d_") == (
        r"\*\*b\*\* \[l\]\(x\) \:red\[y\] \<i\> \$z\$ \`c\` \_d\_"
    )
    assert escaped("a\nb\tc") == "a b c"
    assert "\u202e" not in plain("\u202egnp.exe")
    assert len(plain("x" * 1000)) == 200


@pytest.mark.parametrize(
    "path", ["../outside.parquet", "/etc/passwd", "s3://elsewhere/x", "tables/../../x", ""]
)
def test_a_record_that_names_a_place_outside_the_store_is_refused(
    tmp_path: Path, path: str
) -> None:
    place = small_store(tmp_path, size=32)
    record_file = Path(place.store) / "published" / "monday.json"
    record = json.loads(record_file.read_text())
    record["tables"]["scores"]["files"][0]["path"] = path
    record_file.write_text(json.dumps(record))
    desk = Desk(place.config())
    with pytest.raises(InputError, match="outside the store"):
        desk.held("monday")
    assert [run.run_id for run in desk.runs()] == ["tuesday"]


@pytest.mark.parametrize("run_id", ["../../etc", "nobody", "a/b", "monday/../monday"])
def test_a_run_that_is_not_listed_is_refused(small: Place, run_id: str) -> None:
    with pytest.raises(InputError):
        Desk(small.config()).held(run_id)


@pytest.mark.parametrize("uri", ["http://10.0.0.1/x.png", "ftp://h/x", "memory://x", "gs://b/x"])
def test_no_other_kind_of_place_is_asked_for_an_image(uri: str) -> None:
    with pytest.raises(InputError, match="folders and s3:// only"):
        require_allowed(uri)
    assert "folders and s3:// only" in str(Thumbnails(LimitsConfig(), 1 << 20).of([uri])[uri])


def test_an_image_is_found_by_its_id_alone(small: Place) -> None:
    desk = Desk(small.config())
    held = desk.held("monday")
    assert held.row_of(12345) is None
    row = np.array([3], np.intp)
    (shown,) = desk.shown("monday", held, row)
    assert shown.image_id == held.image_id[3]
    assert Path(shown.uri).is_file()


def test_a_file_that_is_no_image_is_told_and_never_shown(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_text("password")
    found = Thumbnails(LimitsConfig(), 1 << 20).of([str(secret), str(tmp_path / "gone.png")])
    assert "not_an_image" in str(found[str(secret)])
    assert "not_found" in str(found[str(tmp_path / "gone.png")])
    with pytest.raises(InputError, match="too_large"):
        save(tmp_path / "big.png", np.zeros((40, 40, 3), np.uint8))
        pixels_of(str(tmp_path / "big.png"), LimitsConfig(max_pixels=100))


def test_thumbnails_are_kept_up_to_so_many_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    places = []
    for number in range(12):
        file = tmp_path / f"{number}.png"
        save(file, rng.integers(0, 255, (100, 100, 3), dtype=np.uint8))
        places.append(str(file))
    kept = Thumbnails(LimitsConfig(), 20_000)
    first = kept.of(places)
    assert all(isinstance(one, bytes) for one in first.values())
    assert 0 < kept.kept_bytes <= 20_000
    # What was asked for last comes from memory: its file may be gone. (Of the twelve, whichever
    # was read last is kept.)
    kept.of(places[-1:])
    Path(places[-1]).unlink()
    assert kept.of(places[-1:])[places[-1]] == first[places[-1]]


def test_boxes_and_the_masks_outline_are_drawn_where_they_are() -> None:
    from pipeline.app.images import Box

    pixels = np.full((64, 64, 3), 128, np.uint8)
    mask = np.zeros((64, 64, 3), np.uint8)
    mask[40:60, 40:60] = 255
    bare = np.asarray(Image.open(io.BytesIO(large(pixels)))).astype(int)
    boxed = np.asarray(
        Image.open(io.BytesIO(large(pixels, [Box((8, 8, 24, 24), 0.9, "x")], mask)))
    ).astype(int)
    assert bare.shape == (512, 512, 3)
    changed = np.abs(boxed - bare).max(axis=2) > 60
    assert changed[60:70, 64:192].any()
    assert changed[320:480, 318:330].any()
    assert not changed[220:300, 220:300].any()
    # Inside of the mask nothing hides what is there.
    assert not changed[350:450, 350:450].any()


def test_more_and_larger_uploads_than_agreed_are_refused(small: Place) -> None:
    config = small.config(max_uploads=2, max_upload_mb=1)
    check_uploads(config, [Upload("a", b"x")] * 2)
    with pytest.raises(InputError, match="3 files; at most 2"):
        check_uploads(config, [Upload("a", b"x")] * 3)
    with pytest.raises(InputError, match=r"big\.png: has 2\.0 MB; at most 1"):
        check_uploads(config, [Upload("big.png", b"x" * 2_000_000)])


def test_looking_writes_nothing(tmp_path: Path) -> None:
    place = small_store(tmp_path, size=32)

    def files() -> dict[str, int]:
        return {str(f): f.stat().st_mtime_ns for f in tmp_path.rglob("*") if f.is_file()}

    before = files()
    desk = Desk(place.config())
    for run in desk.runs():
        held = desk.held(run.run_id, labelled=True)
        for name in desk.policies(run.run_id).resolved:
            desk.outcome(run.run_id, name)
        for one in desk.shown(run.run_id, held, np.arange(3)):
            desk.boxes(run.run_id, one)
            desk.mask(run.run_id, one)
            desk.thumbnails.of([one.uri])
    assert files() == before
