"""What an archive is taken for: the MVTec AD layout, a plain folder, a list."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.tables import storage
from pipeline.tables.layout import NOT_UTF8, Listing, defect_images, list_source
from tests.conftest import printed_by

ROOT = Path(__file__).parents[2]

MVTEC = {
    "bolt/train/good/000.png",
    "bolt/train/good/001.png",
    "bolt/validation/good/000.png",
    "bolt/test/good/000.png",
    "bolt/test/dent/000.png",
    "bolt/test/dent/001.png",
    "tile/train/good/000.jpg",
    "tile/test/crack/7.TIFF",
}
MASKS = {"bolt/ground_truth/dent/000_mask.png", "tile/ground_truth/crack/7_mask.png"}


def fill(root: Path, names: set[str] | list[str]) -> Path:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
    return root


def labels(listing: Listing) -> dict[str, dict[str, object]]:
    return {entry.uri: entry.labels for entry in listing.entries}


def refusal(source: object, **options: str) -> str:
    with pytest.raises(InputError) as error:
        list_source(str(source), **options)
    return str(error.value)


# --- MVTec AD ---


def test_an_mvtec_archive(tmp_path: Path) -> None:
    root = fill(tmp_path / "archive", MVTEC | MASKS)
    listing = list_source(str(root))
    assert listing.layout == "mvtec"
    assert [entry.uri for entry in listing.entries] == sorted(f"{root}/{name}" for name in MVTEC)
    assert listing.stray == []
    for name in MVTEC:
        category, split, kind, _ = name.split("/")
        found = labels(listing)[f"{root}/{name}"]
        expected = {"category": category, "split": split, "defect_type": kind}
        assert {key: found[key] for key in expected} == expected
        assert found["is_defect"] is (kind != "good")
    assert defect_images(listing.entries) == 3


def test_masks_belong_to_their_images_and_a_missing_one_is_told(tmp_path: Path) -> None:
    root = fill(tmp_path, MVTEC | MASKS)
    listing = list_source(str(root))
    masks = {uri.removeprefix(f"{root}/"): found.get("mask_uri")
             for uri, found in labels(listing).items()}  # fmt: skip
    assert {name: mask for name, mask in masks.items() if mask} == {
        "bolt/test/dent/000.png": f"{root}/bolt/ground_truth/dent/000_mask.png",
        "tile/test/crack/7.TIFF": f"{root}/tile/ground_truth/crack/7_mask.png",
    }
    assert listing.missing_masks == [f"{root}/bolt/test/dent/001.png"]


def test_a_mask_of_another_category_or_defect_is_no_mask(tmp_path: Path) -> None:
    elsewhere = {"a/test/cut/0.png", "b/ground_truth/cut/0_mask.png", "a/ground_truth/dent/0.png"}
    root = fill(tmp_path, elsewhere)
    assert list_source(str(root)).missing_masks == [f"{root}/a/test/cut/0.png"]


def test_what_is_no_image_is_told_with_its_reason(tmp_path: Path) -> None:
    strays = {
        "license.txt": "no image suffix",
        "bolt/readme.txt": "no image suffix",
        "bolt/test/dent/notes": "no image suffix",
        ".DS_Store": "hidden",
        "bolt/train/good/.000.png": "hidden",
        ".cache/bolt/train/good/000.png": "hidden",
        "overview.png": "outside <category>/<train|validation|test>/<defect type>/",
        "bolt/old/good/000.png": "outside <category>/<train|validation|test>/<defect type>/",
        "bolt/train/good/deeper/1.png": "outside <category>/<train|validation|test>/<defect type>/",
    }
    root = fill(tmp_path, MVTEC | MASKS | set(strays))
    listing = list_source(str(root))
    assert dict(listing.stray) == {f"{root}/{name}": why for name, why in strays.items()}
    assert len(listing.stray) == len(strays)
    assert len(listing.entries) == len(MVTEC)


def test_a_pipe_among_the_images_is_told_not_opened(tmp_path: Path) -> None:
    fill(tmp_path, {"a.png"})
    os.mkfifo(tmp_path / "b.png")
    listing = list_source(str(tmp_path))
    assert [Path(entry.uri).name for entry in listing.entries] == ["a.png"]
    assert listing.stray == [(f"{tmp_path}/b.png", "no regular file")]


def test_a_link_in_a_circle_is_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "nothing.png")
    assert len(list_source(str(tmp_path)).entries) == 2


# Root reads every folder until it gives the right up, which counts for the next program.
OBEY_THEN_LIST = """
import os, sys
from tests.conftest import obey_file_modes
obey_file_modes()
os.execv(sys.executable, [sys.executable, "-c", *sys.argv[1:]])
"""
LIST = """
import sys
from pipeline.errors import InputError
from pipeline.tables.layout import list_source
try:
    list_source(sys.argv[1])
except InputError as error:
    print(error)
"""


def test_a_sub_folder_that_cannot_be_read_is_not_passed_over(tmp_path: Path) -> None:
    fill(tmp_path, {"open/a.png", "locked/b.png"})
    (tmp_path / "locked").chmod(0)
    done = subprocess.run(
        [sys.executable, "-c", OBEY_THEN_LIST, LIST, str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    (tmp_path / "locked").chmod(0o700)
    assert done.stdout.startswith(f"source: {tmp_path}: access denied"), done.stderr
    assert "locked" in done.stdout


# The folder is listed right after its parent was, or the last of them; then somebody moves it.
MOVE_THEN_LIST = """
import os, sys
from pipeline.errors import InputError
from pipeline.tables.layout import list_source
source, listed, moved, then = sys.argv[1:]
def move(event, found):
    if event == "os.scandir" and found[0] == listed and os.path.exists(moved):
        os.rename(moved, source + "-aside")
        if then == "folder":
            os.mkdir(moved)
        if then == "file":
            open(moved, "w").close()
sys.addaudithook(move)
try:
    print(*(entry.uri for entry in list_source(source).entries))
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("then", ["nothing", "file"])
def test_a_sub_folder_that_vanishes_while_it_is_listed_is_passed_over(
    tmp_path: Path, then: str
) -> None:
    root = fill(tmp_path / "archive", {"a/1.png", "b/2.png", "b/deeper/3.png", "c/4.png"})
    said = printed_by(MOVE_THEN_LIST, str(root), f"{root}/b", f"{root}/b", then)
    assert (tmp_path / "archive-aside/deeper/3.png").exists()
    assert said.split() == [f"{root}/a/1.png", f"{root}/c/4.png"]


@pytest.mark.parametrize(("listed", "then"), [("", "nothing"), ("/b", "nothing"), ("/b", "folder")])
def test_a_source_that_vanishes_while_it_is_listed_is_an_error(
    tmp_path: Path, listed: str, then: str
) -> None:
    root = fill(tmp_path / "archive", {"a/1.png", "b/2.png"})
    said = printed_by(MOVE_THEN_LIST, str(root), f"{root}{listed}", str(root), then)
    assert said.startswith(f"source: {root}: there is no such file or folder")


def test_one_categorys_own_folder(tmp_path: Path) -> None:
    fill(tmp_path, MVTEC | MASKS)
    for source in (f"{tmp_path}/bolt", f"{tmp_path}/bolt/"):
        listing = list_source(source)
        assert listing.layout == "mvtec"
        assert {found["category"] for found in labels(listing).values()} == {"bolt"}
        assert len(listing.entries) == sum(name.startswith("bolt/") for name in MVTEC)
        assert listing.missing_masks == [f"{tmp_path}/bolt/test/dent/001.png"]


def test_names_with_spaces_and_other_letters(tmp_path: Path) -> None:
    names = {
        "пластина №1/train/good/снимок 1.png",
        "pièce à 100%/test/rayure profonde/é #2?.png",
        "螺丝/train/good/图 像.PNG",
        "line::1/train/good/10::22.png",
        "line::1/train/good/a.png",
        "line::1/train/good/a.png::b.png",
        "line::1/train/good/~x.png",
    }
    mask = "pièce à 100%/ground_truth/rayure profonde/é #2?_mask.png"
    root = fill(tmp_path / "Archiv größe", names | {mask})
    listing = list_source(str(root))
    assert {entry.uri for entry in listing.entries} == {f"{root}/{name}" for name in names}
    assert listing.missing_masks == []
    assert {found["category"] for found in labels(listing).values()} == {
        "пластина №1", "pièce à 100%", "螺丝", "line::1",
    }  # fmt: skip
    for entry in listing.entries:
        assert storage.read_bytes(entry.uri).decode() == entry.uri.removeprefix(f"{root}/")


# Latin-1 names, as an old Windows share or a camera writes them.
LATIN = {
    b"gr\xf6sse/train/good/0.png": "gr\\xf6sse/train/good/0.png",
    b"bolt/train/good/\xfc.png": "bolt/train/good/\\xfc.png",
    b"bolt/ground_truth/dent/\xfc_mask.png": "bolt/ground_truth/dent/\\xfc_mask.png",
}
LATIN_NOTES = {
    b"bolt/\xfc.txt": ("bolt/\\xfc.txt", "no image suffix"),
    b"bolt/.\xfc.png": ("bolt/.\\xfc.png", "hidden"),
}


def fill_bytes(root: Path, names: Iterable[bytes]) -> None:
    for name in names:
        file = os.path.join(os.fsencode(root), name)
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "wb") as opened:
            opened.write(name)


def test_a_path_that_is_not_utf8_is_told_in_letters_that_can_be_printed(tmp_path: Path) -> None:
    root = fill(tmp_path / "größe", MVTEC | MASKS)
    fill_bytes(root, [*LATIN, *LATIN_NOTES])
    listing = list_source(str(root))
    assert {entry.uri for entry in listing.entries} == {f"{root}/{name}" for name in MVTEC}
    assert dict(listing.stray) == {
        **{f"{root}/{name}": NOT_UTF8 for name in LATIN.values()},
        **{f"{root}/{name}": reason for name, reason in LATIN_NOTES.values()},
    }
    json.dumps(listing.stray, ensure_ascii=False).encode()  # as a report is written


def test_where_no_path_is_utf8_the_refusal_says_so(tmp_path: Path) -> None:
    fill_bytes(tmp_path, LATIN)
    said = refusal(tmp_path)
    assert NOT_UTF8 in said
    assert "3 of them, as " in said
    assert "\\xfc" in said
    said = refusal(os.fsdecode(os.path.join(os.fsencode(tmp_path), b"gr\xf6sse")))
    assert said == f"source: {tmp_path}/gr\\xf6sse: its path is not UTF-8, as URIs are; rename it"


def test_the_order_does_not_depend_on_the_order_of_writing(tmp_path: Path) -> None:
    names = sorted(MVTEC | MASKS)
    listings = []
    for seed in range(3):
        root = tmp_path / str(seed) / "archive"
        fill(root, random.Random(seed).sample(names, len(names)))
        listing = list_source(str(root))
        listings.append([entry.uri.removeprefix(str(root)) for entry in listing.entries])
        assert listings[-1] == sorted(listings[-1])
    assert listings[0] == listings[1] == listings[2]


def test_size_and_time_of_a_file_are_kept(tmp_path: Path) -> None:
    root = fill(tmp_path, {"a/train/good/0.png"})
    entry = list_source(str(root)).entries[0]
    stat = (root / "a/train/good/0.png").stat()
    assert entry.size == stat.st_size
    assert entry.modified_at == datetime.fromtimestamp(stat.st_mtime, UTC)
    assert entry.etag is None


@pytest.fixture
def memory() -> Iterator[str]:
    folder = f"memory:///archive-{uuid.uuid4().hex[:8]}"
    yield folder
    storage.remove(folder)


def test_an_archive_that_is_not_on_a_local_disk(memory: str) -> None:
    for name in MVTEC | MASKS:
        storage.write_bytes(f"{memory}/{name}", name.encode())
    listing = list_source(memory)
    assert [entry.uri for entry in listing.entries] == sorted(f"{memory}/{name}" for name in MVTEC)
    assert listing.missing_masks == [f"{memory}/bolt/test/dent/001.png"]
    for entry in listing.entries:
        assert entry.size == len(storage.read_bytes(entry.uri))


# --- a plain folder ---


def test_a_plain_folder_takes_the_category_that_is_given(tmp_path: Path) -> None:
    root = fill(tmp_path, {"b.png", "a.jpg", "deeper/c.bmp", "notes.txt"})
    listing = list_source(str(root), category="bolt")
    assert listing.layout == "folder"
    assert [entry.uri for entry in listing.entries] == [
        f"{root}/{name}" for name in ("a.jpg", "b.png", "deeper/c.bmp")
    ]
    assert all(entry.labels == {"category": "bolt"} for entry in listing.entries)
    assert listing.stray == [(f"{root}/notes.txt", "no image suffix")]
    assert list_source(str(root)).entries[0].labels == {"category": None}


def test_an_mvtec_archive_can_be_taken_as_a_plain_folder(tmp_path: Path) -> None:
    root = fill(tmp_path, MVTEC | MASKS)
    listing = list_source(str(root), "folder", "all")
    assert len(listing.entries) == len(MVTEC | MASKS)
    assert all(entry.labels == {"category": "all"} for entry in listing.entries)


# --- a list ---


def write_list(folder: Path, kind: str, frame: pd.DataFrame) -> str:
    file = folder / f"list.{kind}"
    if kind == "csv":
        frame.to_csv(file, index=False)
    else:
        # As other tools write it, without pandas' own notes on its types.
        table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata()
        pq.write_table(table, file)
    return str(file)


both_kinds = pytest.mark.parametrize("kind", ["csv", "parquet"])


@both_kinds
def test_a_list_with_relative_and_absolute_uris(tmp_path: Path, kind: str) -> None:
    uris = [
        "s3://bucket/z.png",
        "below/a b.png",
        "/elsewhere/é.png",
        "file:///mnt/c.png",
        "../up.png",
        "~/x.png",
        "~x.png",
        "10::22.png",
    ]
    source = write_list(tmp_path, kind, pd.DataFrame({"uri": uris, "other": 1}))
    listing = list_source(source)
    assert listing.layout == "list"
    assert [entry.uri for entry in listing.entries] == sorted(
        [
            "s3://bucket/z.png",
            f"{tmp_path}/below/a b.png",
            "/elsewhere/é.png",
            "/mnt/c.png",
            f"{tmp_path.parent}/up.png",
            f"{tmp_path}/~/x.png",
            f"{tmp_path}/~x.png",
            f"{tmp_path}/10::22.png",
        ]
    )
    assert all(entry.labels == {"category": None} for entry in listing.entries)


@both_kinds
def test_a_list_carries_labels_and_leaves_out_what_is_not_known(tmp_path: Path, kind: str) -> None:
    frame = pd.DataFrame(
        {
            "uri": ["a.png", "b.png", "c.png"],
            "category": ["bolt", None, "tile"],
            "split": ["train", "test", None],
            "role": ["fit", None, None],
            "defect_type": ["good", "dent", None],
            "mask_uri": [None, "masks/b.png", None],
            "line": ["3", None, "L4"],
            "captured_at": ["2026-03-01 12:00", None, None],
        }
    )
    listing = list_source(write_list(tmp_path, kind, frame), category="other")
    assert [entry.labels for entry in listing.entries] == [
        {"category": "bolt", "split": "train", "role": "fit", "defect_type": "good",
         "is_defect": False, "line": "3", "captured_at": "2026-03-01 12:00"},
        {"category": "other", "split": "test", "defect_type": "dent", "is_defect": True,
         "mask_uri": f"{tmp_path}/masks/b.png"},
        {"category": "tile", "line": "L4"},
    ]  # fmt: skip


@both_kinds
def test_a_label_of_its_own_goes_before_the_one_from_the_defect_type(
    tmp_path: Path, kind: str
) -> None:
    frame = pd.DataFrame(
        {"uri": ["a", "b"], "defect_type": ["good", "scratch"], "is_defect": [True, False]}
    )
    listing = list_source(write_list(tmp_path, kind, frame))
    assert [entry.labels["is_defect"] for entry in listing.entries] == [True, False]


@both_kinds
@pytest.mark.parametrize("word", ["Good", "GOOD", " good", "good ", "\u00a0Good"])
@pytest.mark.parametrize("explicit", [{}, {"is_defect": [False, False, True]}])
def test_good_in_other_letters_is_no_type_of_a_list(
    tmp_path: Path, kind: str, word: str, explicit: dict[str, list[bool]]
) -> None:
    types = ["good", word, "dent"]
    frame = pd.DataFrame({"uri": ["a", "b", "c"], "defect_type": types} | explicit)
    source = write_list(tmp_path, kind, frame)
    assert refusal(source) == (
        f"source: {source}: row 1: defect_type {word!r}: a good image's type is 'good', in these "
        "letters and without spaces; anything else is a kind of defect: write it so, or give the "
        "defect another name"
    )


@pytest.mark.parametrize("word", ["Good", "GOOD", "good "])
@pytest.mark.parametrize("layout", ["auto", "mvtec"])
def test_good_in_other_letters_is_no_folder_of_an_archive(
    tmp_path: Path, word: str, layout: str
) -> None:
    root = fill(tmp_path, MVTEC | {f"bolt/test/{word}/001.png"})
    assert refusal(root, layout=layout).startswith(
        f"source: {root}/bolt/test/{word}: defect_type {word!r}: a good image's type is 'good', "
    )
    assert len(list_source(str(root), "folder").entries) == len(MVTEC) + 1


@both_kinds
def test_words_of_a_list_that_may_mean_good_are_counted(tmp_path: Path, kind: str) -> None:
    types = ["good", "OK", "ok ", "none", "normal", "Pass", "OK", "dent", "  ", "nok", None]
    frame = pd.DataFrame({"uri": [f"{n:02}" for n in range(len(types))], "defect_type": types})
    listing = list_source(write_list(tmp_path, kind, frame))
    assert listing.doubtful_types == {
        "  ": 1, "OK": 2, "Pass": 1, "none": 1, "normal": 1, "ok ": 1,
    }  # fmt: skip
    assert [entry.labels.get("is_defect") for entry in listing.entries] == [
        False, True, True, True, True, True, True, True, True, True, None,
    ]  # fmt: skip


@both_kinds
def test_where_a_list_says_it_no_word_is_doubted(tmp_path: Path, kind: str) -> None:
    truth = pd.array([False, True, None], "boolean")
    types = ["OK", "none", "OK"]
    frame = pd.DataFrame({"uri": ["a", "b", "c"], "defect_type": types, "is_defect": truth})
    listing = list_source(write_list(tmp_path, kind, frame))
    assert listing.doubtful_types == {"OK": 1}
    assert [entry.labels["is_defect"] for entry in listing.entries] == [False, True, True]


def test_folders_of_an_archive_that_may_mean_good_are_counted(tmp_path: Path) -> None:
    more = {
        "bolt/test/OK/0.png",
        "bolt/test/OK/1.png",
        "tile/test/OK/0.png",
        "tile/test/pass/0.png",
    }
    root = fill(tmp_path, MVTEC | MASKS | more)
    assert list_source(str(root)).doubtful_types == {"OK": 3, "pass": 1}
    assert list_source(str(root), "folder").doubtful_types == {}


@both_kinds
def test_group_ids_with_gaps_keep_all_63_bits(tmp_path: Path, kind: str) -> None:
    ids = [2**62 + 1, None, 7]
    frame = pd.DataFrame({"uri": ["a", "b", "c"], "group_id": pd.array(ids, "Int64")})
    listing = list_source(write_list(tmp_path, kind, frame))
    assert [entry.labels.get("group_id") for entry in listing.entries] == ids


def test_words_of_a_csv_stay_words(tmp_path: Path) -> None:
    """A category 007 is not the number 7, nor 7.0 because another row has none."""
    file = tmp_path / "list.csv"
    file.write_text("uri,category,line,defect_type,captured_at\n0001,007,3,12,20260301\n2,,,,\n")
    first, second = list_source(str(file)).entries
    assert first.uri == f"{tmp_path}/0001"
    assert first.labels == {
        "category": "007", "line": "3", "defect_type": "12", "is_defect": True,
        "captured_at": "20260301",
    }  # fmt: skip
    assert second.labels == {"category": None}


def test_a_list_is_one_by_its_setting_too(tmp_path: Path) -> None:
    file = tmp_path / "LIST.CSV"
    file.write_text("uri\na.png\n")
    assert list_source(str(file)).layout == "list"
    other = tmp_path / "list.txt"
    other.write_text("uri\na.png\n")
    assert list_source(str(other), "list").layout == "list"


# --- refusals ---


@both_kinds
def test_a_list_without_the_column_uri(tmp_path: Path, kind: str) -> None:
    source = write_list(tmp_path, kind, pd.DataFrame({"path": ["a"], "category": ["b"]}))
    assert refusal(source) == f"source: {source}: has no column 'uri' (it has path, category)"


@both_kinds
@pytest.mark.parametrize("nothing", [None, "", "  "])
def test_a_list_with_an_empty_uri(tmp_path: Path, kind: str, nothing: str | None) -> None:
    frame = pd.DataFrame({"uri": ["a", "b", nothing, "c"], "category": "bolt"})
    source = write_list(tmp_path, kind, frame)
    assert refusal(source) == f"source: {source}: row 2: uri is empty; every image needs one"


@both_kinds
def test_a_list_of_nothing(tmp_path: Path, kind: str) -> None:
    source = write_list(tmp_path, kind, pd.DataFrame({"uri": []}, dtype=str))
    assert refusal(source) == f"source: {source}: lists no image"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.csv", b""),
        ("list.csv", b'uri\n"a\n'),
        ("list.csv", b"uri\nStra\xdfe.png\n"),
        ("list.csv", b"uri,group_id\na,first\n"),
        ("list.parquet", b""),
        ("list.parquet", b"uri\na.png\n"),
    ],
)
def test_a_list_that_cannot_be_read(tmp_path: Path, name: str, content: bytes) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    assert refusal(file).startswith(f"source: {file}: can't be read as a list: ")


def test_a_parquet_list_with_a_damaged_page(tmp_path: Path) -> None:
    file = tmp_path / "list.parquet"
    pd.DataFrame({"uri": [f"{i}.png" for i in range(100)]}).to_parquet(file)
    content = bytearray(file.read_bytes())
    content[6:30] = b"\xff" * 24
    file.write_bytes(content)
    assert refusal(file).startswith(f"source: {file}: can't be read as a list: ")


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    for name in ("absent", "absent.csv", "absent.parquet"):
        source = tmp_path / name
        assert refusal(source) == f"source: {source}: there is no such file or folder"


def test_a_source_that_is_one_file(tmp_path: Path) -> None:
    file = fill(tmp_path, {"a.png"}) / "a.png"
    assert refusal(file) == (
        f"source: {file}: is a file; give a folder, or a list ending in .csv or .parquet"
    )


def test_a_list_that_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "list.csv"
    folder.mkdir()
    assert refusal(folder) == f"source: {folder}: Is a directory"


def test_a_folder_without_an_image(tmp_path: Path) -> None:
    assert "holds no image in the layout 'folder' (0 image files, 0 others" in refusal(tmp_path)
    fill(tmp_path, {"a.txt", ".hidden.png"})
    message = refusal(tmp_path)
    assert message.startswith(f"source: {tmp_path}: holds no image")
    assert "(0 image files, 2 others were seen)" in message


def test_a_folder_that_is_not_in_the_layout_that_was_named(tmp_path: Path) -> None:
    fill(tmp_path, {"a.png", "b/c.png"})
    assert refusal(tmp_path, layout="mvtec") == (
        f"source: {tmp_path}: holds no image in the layout 'mvtec' "
        "(2 image files, 0 others were seen)"
    )
