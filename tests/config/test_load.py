"""Settings from a file and the command line: what arrives, and what a mistake is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import (
    EvaluateConfig,
    FitConfig,
    IndexConfig,
    PoolConfig,
    ScoreConfig,
    SplitConfig,
    TrainClassifierConfig,
    TrainDetectorConfig,
    load,
    parse,
)
from pipeline.config.written import read_yaml
from pipeline.errors import InputError

INDEX = {"source": "images", "store": "data", "name": "demo"}
SCORE = ["manifest=m.parquet", "bundle=b", "store=data"]
FIT = ["manifest=m.parquet", "store=data"]

INDEX_TEXT = "source: images\nstore: data\nname: demo\n"

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_config(text: str) -> str:
        file = tmp_path / "job.yaml"
        file.write_text(text, encoding="utf-8")
        return str(file)

    return write_config


def refusal(config: type, file: str | None, *settings: str) -> str:
    with pytest.raises(InputError) as error:
        load(config, file, settings)
    return str(error.value)


def test_a_file_and_the_command_line_make_one_config(write: Write) -> None:
    file = write("source: images\nstore: data\nname: demo\nray: {num_cpus: 4}\n")
    config = load(IndexConfig, file, ["name=other", "ray.address=auto"])
    assert (config.source, config.name) == ("images", "other")
    assert (config.ray.num_cpus, config.ray.address) == (4, "auto")


def test_an_override_leaves_its_neighbours(write: Write) -> None:
    pools = {"features": {"size": 2, "threads": 3}, "detector": {"size": 1}}
    file = write(yaml.safe_dump({"pools": pools}))
    config = load(ScoreConfig, file, [*SCORE, "pools.features.size=5"])
    assert config.pools.features == PoolConfig(size=5, threads=3)
    assert config.pools.detector == PoolConfig(size=1)


def test_an_override_opens_a_section_that_the_file_leaves_empty(write: Write) -> None:
    file = write("classifier:\n")
    assert load(FitConfig, file, FIT).classifier is None
    config = load(FitConfig, file, [*FIT, "classifier.weights=w.pt"])
    assert config.classifier is not None
    assert config.classifier.weights == "w.pt"


@pytest.mark.parametrize("word", ["", "null", "~"])
def test_nothing_and_null_mean_no_value(word: str) -> None:
    config = load(FitConfig, None, [*FIT, f"classifier={word}", f"ray.num_cpus={word}"])
    assert config.classifier is None
    assert config.ray.num_cpus is None


def test_lists_stand_in_brackets() -> None:
    config = load(
        FitConfig, None, [*FIT, "backbone.grids=[2, 4, 8]", "backbone.pooled_layers=[layer4]"]
    )
    assert config.backbone.grids == (2, 4, 8)
    assert config.backbone.pooled_layers == ("layer4",)


def test_a_section_can_stand_in_braces() -> None:
    config = load(FitConfig, None, [*FIT, "classifier={weights: w.pt, batch_size: 4}"])
    assert config.classifier is not None
    assert config.classifier.batch_size == 4


@settings(deadline=None)
@given(st.text("0123456789", min_size=1, max_size=64))
def test_a_digest_of_digits_stays_text(digest: str) -> None:
    config = load(ScoreConfig, None, [*SCORE, f"bundle={digest}", f"run_id={digest}"])
    assert (config.bundle, config.run_id) == (digest, digest)


@settings(deadline=None)
@given(st.text(min_size=1).filter(lambda text: text[0] not in "[{"))
def test_text_arrives_as_it_was_written(text: str) -> None:
    if text not in ("null", "~"):
        assert load(ScoreConfig, None, [*SCORE, f"bundle={text}"]).bundle == text


@pytest.mark.parametrize("text", ["[a", "{a", "[a: b: c]", "[" * 500])
def test_what_only_looks_like_a_list_stays_text(text: str) -> None:
    assert load(ScoreConfig, None, [*SCORE, f"bundle={text}"]).bundle == text


# What YAML takes for a date, a number in one of its ways of writing one, or a truth.
NO_TEXT_TO_YAML = ["2026-11-25", "2026-13-45", "20261125", "0012", "012", "089", "1_000", "1e5"]
NO_TEXT_TO_YAML += ["1.10", "0x1F", "0b_", "no", "True"]
EVALUATE = ["store=s", "policies=p.json"]


@pytest.mark.parametrize("word", NO_TEXT_TO_YAML)
def test_a_run_is_named_as_it_is_written(write: Write, word: str) -> None:
    """On the command line and in a file, alone and in a list, never as YAML reads it."""
    both = (word, "monday")
    assert load(EvaluateConfig, None, [*EVALUATE, f"run_id={word}"]).run_id == (word,)
    assert load(EvaluateConfig, None, [*EVALUATE, f"run_id=[{word},monday]"]).run_id == both
    assert load(EvaluateConfig, write(f"run_id: {word}\n"), EVALUATE).run_id == (word,)
    assert load(EvaluateConfig, write(f"run_id: [{word}, monday]\n"), EVALUATE).run_id == both
    assert load(ScoreConfig, write(f"run_id: {word}\n"), SCORE).run_id == word


@pytest.mark.parametrize("word", [*NO_TEXT_TO_YAML, "1.0e+5", "12:30", ".5", "2026-11-25 02:00:00"])
def test_any_setting_of_text_takes_what_is_written(write: Write, word: str) -> None:
    config = load(EvaluateConfig, write(f"table: {word}\ncolumns: {{role: {word}}}\n"), EVALUATE)
    assert (config.table, config.columns) == (word, {"role": word})
    given = [*EVALUATE, "table=t", f"columns={{role: {word}}}", f"roles=[{word}]"]
    config = load(EvaluateConfig, None, given)
    assert (config.columns, config.roles) == ({"role": word}, (word,))
    by_category = f"near_duplicates={{by_category: {{{word}: 12}}}}"
    split = load(SplitConfig, None, ["manifest=m", "store=s", "name=n", by_category])
    assert split.near_duplicates.by_category == {word: 12}


@pytest.mark.parametrize("given", ["2026-11-25 02:00:00", "12:30", "-5", ".5", "+1"])
def test_what_no_run_can_be_named_is_refused_as_it_is_written(write: Write, given: str) -> None:
    file = write(f"run_id: [{given}]\n")
    for message in (
        refusal(EvaluateConfig, file, *EVALUATE),
        refusal(EvaluateConfig, None, *EVALUATE, f"run_id=[{given}]"),
    ):
        assert "run_id.0: a run id has letters, digits" in message
        assert message.endswith(f"not {given!r}")


def test_several_runs_are_a_list(write: Write) -> None:
    for message in (
        refusal(EvaluateConfig, None, *EVALUATE, "run_id=monday,tuesday"),
        refusal(EvaluateConfig, write("run_id: monday,tuesday\n"), *EVALUATE),
    ):
        assert "run_id: is no run's name; several are run_id=[monday,tuesday]" in message


def test_a_number_too_long_for_python_is_text(write: Write) -> None:
    digits = "9" * 5000
    file = write(f"run_id: {digits}\nblock_rows: {digits}\n")
    lines = refusal(ScoreConfig, file, *SCORE).splitlines()
    assert [line.split(": ")[:2] for line in lines] == [[file, "run_id"], [file, "block_rows"]]
    assert load(EvaluateConfig, write(f"table: {digits}\n"), EVALUATE).table == digits


def test_numbers_and_truths_reach_their_settings_as_yaml_has_them(write: Write) -> None:
    file = write(
        "block_rows: 1_000\ncommit_rows: 0x10\nreuse: off\nverify_content: No\n"
        "ray: {num_cpus: 012, resource_wait_s: 1.5e+1}\npools: {features: {num_gpus: .5}}\n"
    )
    config = load(ScoreConfig, file, SCORE)
    assert (config.block_rows, config.commit_rows) == (1000, 16)
    assert (config.reuse, config.verify_content) == (False, False)
    assert (config.ray.num_cpus, config.ray.resource_wait_s) == (10, 15.0)
    assert config.pools.features.num_gpus == 0.5
    config = load(ScoreConfig, None, [*SCORE, "ray={num_cpus: 1_0}", "models={detector: off}"])
    assert (config.ray.num_cpus, config.models.detector) == (10, False)


@settings(deadline=None)
@given(
    block=st.integers(1, 10**6),
    verify=st.booleans(),
    wait=st.floats(0, 1e6, allow_subnormal=False),
    size=st.one_of(st.none(), st.integers(1, 64)),
)
def test_the_command_line_means_what_the_file_means(
    block: int,
    verify: bool,
    wait: float,
    size: int | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    required = dict(setting.split("=") for setting in SCORE)
    values = {
        "block_rows": block,
        "verify_content": verify,
        "ray": {"resource_wait_s": wait},
        "pools": {"features": {"size": size}},
    }
    file = tmp_path_factory.mktemp("config") / "score.yaml"
    file.write_text(yaml.safe_dump(required | values))
    settings = [
        f"block_rows={block}",
        f"verify_content={str(verify).lower()}",
        f"ray.resource_wait_s={wait!r}",
        f"pools.features.size={'null' if size is None else size}",
    ]
    assert load(ScoreConfig, None, [*SCORE, *settings]) == load(ScoreConfig, str(file))


def test_a_config_is_frozen() -> None:
    config = load(ScoreConfig, None, SCORE)
    with pytest.raises(ValueError, match="frozen"):
        config.store = "elsewhere"  # type: ignore[misc]


def test_an_empty_file_holds_no_settings(write: Write) -> None:
    file = write("# nothing yet\n")
    assert load(IndexConfig, file, [f"{k}={v}" for k, v in INDEX.items()]).name == "demo"


def test_the_command_line_is_parsed_with_settings_around_the_file(write: Write) -> None:
    file = write("source: images\nstore: data\n")
    config = parse(IndexConfig, "Index.", ["name=x", "--config", file, "layout=folder"])
    assert (config.source, config.name, config.layout) == ("images", "x", "folder")


@pytest.mark.parametrize("place", ["/data/store", "s3://bucket/store", "file:///data/store"])
def test_a_submitted_job_takes_places_that_every_node_finds(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    config = parse(ScoreConfig, "", [f"manifest={place}/m", "bundle=b", f"store={place}"])
    assert config.store == place


@pytest.mark.parametrize(
    ("place", "says"), [("data/x", "is relative"), ("~/x", "is in a home folder")]
)
@pytest.mark.parametrize("key", ["manifest", "store"])
def test_a_submitted_job_refuses_a_place_in_its_temporary_folder(
    monkeypatch: pytest.MonkeyPatch, key: str, place: str, says: str
) -> None:
    """Nor is the home folder of a node the one of whoever submits."""
    values = {"manifest": "/data/m", "bundle": "b", "store": "/data"} | {key: place}
    arguments = [f"{name}={value}" for name, value in values.items()]
    assert parse(ScoreConfig, "", arguments).bundle == "b"
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(InputError, match=f"^{key}: {place}: {says}, .*give {key}= as an abs"):
        parse(ScoreConfig, "", arguments)


# --- mistakes ---


def test_an_unknown_key_is_named_with_its_value_and_a_suggestion(write: Write) -> None:
    file = write("manifest: m\nstore: d\nblock_row: 12\nlimits: {min_sied: 3}\n")
    lines = refusal(FitConfig, file).splitlines()
    assert f"{file}: block_row: unknown key (value 12); did you mean block_rows?" in lines
    assert f"{file}: limits.min_sied: unknown key (value 3); did you mean min_side?" in lines


def test_an_unknown_key_like_no_other_lists_the_known_ones_of_its_section(write: Write) -> None:
    file = write("manifest: m\nstore: d\ndetector: {weights: w, zzz: 1}\n")
    message = refusal(FitConfig, file)
    assert f"{file}: detector.zzz: unknown key (value 1); known: weights, trusted" in message
    assert "manifest" not in message


def test_an_unknown_key_below_an_unknown_section(write: Write) -> None:
    file = write("manifest: m\nstore: d\nbackbon: {image_size: 3}\n")
    message = refusal(FitConfig, file)
    assert "backbon: unknown key" in message
    assert "did you mean backbone?" in message


@pytest.mark.parametrize(
    ("text", "key", "parts"),
    [
        ("source: [5]", "source", ["valid string", "not [5]"]),
        ("layout: tiles", "layout", ["'auto', 'mvtec', 'folder' or 'list'", "not 'tiles'"]),
        ("name: a/b", "name", ["pattern", "not 'a/b'"]),
        ("name: ''", "name", ["pattern", "not ''"]),
        ("ray: 3", "ray", ["dictionary", "not 3"]),
        ("ray: {num_cpus: 0}", "ray.num_cpus", ["greater than or equal to 1", "not 0"]),
        ("ray: {num_cpus: many}", "ray.num_cpus", ["valid integer", "not 'many'"]),
        ("category: [a]", "category", ["valid string", "not ['a']"]),
        ("ray: {num_cpus: 2026-11-25}", "ray.num_cpus", ["valid integer", "not '2026-11-25'"]),
        ("1: 2", "1", ["unknown key (value 2)"]),
    ],
)
def test_a_wrong_value_names_file_key_value_and_what_is_allowed(
    write: Write, text: str, key: str, parts: list[str]
) -> None:
    name = text.split(":", 1)[0]
    rest = [f"{k}: {v}" for k, v in INDEX.items() if k != name]
    file = write("\n".join([*rest, text]) + "\n")
    lines = refusal(IndexConfig, file).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"{file}: {key}: ")
    assert [part for part in parts if part not in lines[0]] == []


def test_an_element_of_a_list_is_named_by_its_place() -> None:
    message = refusal(FitConfig, None, *FIT, "backbone.cell_layers=[layer2, layer9]")
    assert message.startswith("the command line: backbone.cell_layers.1: ")
    assert "not 'layer9'" in message


def test_a_missing_key_says_how_to_give_it(write: Write) -> None:
    file = write("detector: {}\n")
    assert refusal(FitConfig, file).splitlines() == [
        f"{file}: {key}: is missing; give it in the file or as {key}=VALUE"
        for key in ("manifest", "store", "detector.weights")
    ]


def test_every_mistake_is_told_at_once(write: Write) -> None:
    file = write("manifest: m\nstore: [s]\nblock_rows: 0\nx: 1\n")
    assert len(refusal(FitConfig, file).splitlines()) == 3


def test_a_mistake_is_blamed_on_the_place_where_it_stands(write: Write) -> None:
    file = write("manifest: m\nbundle: b\nblock_rows: 0\nray: {num_cpus: 0}\n")
    message = refusal(ScoreConfig, file, "commit_rows=0", "pools={features: 1}", "ray.adress=x")
    assert [line.split(": ")[:2] for line in message.splitlines()] == [
        [file, "store"],
        ["the command line", "pools.features"],
        [file, "block_rows"],
        ["the command line", "commit_rows"],
        [file, "ray.num_cpus"],
        ["the command line", "ray.adress"],
    ]


@pytest.mark.parametrize("setting", ["store", "=data", "", "--store"])
def test_a_setting_without_key_and_value(setting: str) -> None:
    message = refusal(IndexConfig, None, setting)
    assert message.startswith(repr(setting))
    assert "KEY=VALUE" in message


def test_a_key_below_a_value(write: Write) -> None:
    message = refusal(FitConfig, write("classifier: w.pt\n"), "classifier.weights=x")
    assert message == "'classifier.weights=x': classifier holds 'w.pt', which has no keys below it"


@pytest.mark.parametrize(
    ("text", "kind"), [("- a\n- b\n", "list"), ("just a text\n", "str"), ("3\n", "int")]
)
def test_a_file_that_is_no_mapping(write: Write, text: str, kind: str) -> None:
    file = write(text)
    assert (
        refusal(IndexConfig, file)
        == f"--config {file}: holds a {kind}, where `key: value` lines belong"
    )


@pytest.mark.parametrize(
    "text",
    ["a: [1\n", "a: b: c\n", "\t- x\n", "? [a]\n: 1\n", "[" * 500, "a: \x01\n"],
)
def test_a_file_that_is_not_yaml(write: Write, text: str) -> None:
    file = write(text)
    assert refusal(IndexConfig, file).startswith(f"--config {file}: is not YAML: ")


@pytest.mark.parametrize(
    ("text", "key", "lines"),
    [
        ("store: s\nname: n\nray: {num_cpus: 2}\nstore: t\n", "store", (1, 4)),
        ("notify:\n  on_failure: {}\nname: n\nnotify:\n  on_success: {}\n", "notify", (1, 4)),
        ("ray:\n  num_cpus: 2\n  address: a\n  num_cpus: 3\n", "num_cpus", (2, 4)),
        ("ray: {num_cpus: 2, num_cpus: 2}\n", "num_cpus", (1, 1)),
        ("name: a\n'name': b\n", "name", (1, 2)),
        ("name:\nname: b\n", "name", (1, 2)),
        ("0012: a\n'0012': b\n", "0012", (1, 2)),
        ("a: &a {x: 1}\nb: [{<<: *a, y: 1, y: 2}]\n", "y", (2, 2)),
    ],
)
def test_a_key_that_stands_twice_is_refused(
    write: Write, text: str, key: str, lines: tuple[int, int]
) -> None:
    file = write(text)
    first, again = lines
    assert refusal(IndexConfig, file) == (
        f"{file}: {key}: stands in line {first} and again in line {again}, and only one of them "
        "would count: put them together, or take one out"
    )


def test_a_key_that_stands_twice_is_refused_in_braces_and_brackets() -> None:
    for key, value in (
        ("classifier", "{weights: hush, weights: b}"),
        ("run_id", "[{weights: hush, weights: 1}]"),
    ):
        # The value isn't quoted: it may be a secret.
        assert refusal(FitConfig, None, *FIT, f"{key}={value}") == (
            f"the command line: {key}: weights stands twice in its braces, and only one of them "
            "would count: put them together, or take one out"
        )


def test_what_is_merged_may_be_changed_below(write: Write) -> None:
    file = write(
        "manifest: m\nstore: d\n"
        "pools:\n  detector: &base {size: 1, threads: 3}\n"
        "  classifier: &more {<<: *base, size: 2}\n  features: {<<: *more, threads: 5}\n"
        "  fused: {<<: *base, <<: *more}\n"
    )
    pools = load(ScoreConfig, file, ["bundle=b"]).pools
    assert pools.classifier == PoolConfig(size=2, threads=3)
    assert pools.features == PoolConfig(size=2, threads=5)
    assert pools.detector == PoolConfig(size=1, threads=3)
    # What is used further up than it stands has been merged by the time that it is made.
    assert read_yaml("a: {b: &b {<<: {x: p}, x: q}}\nc: {<<: *b, y: r}\n") == {
        "a": {"b": {"x": "q"}},
        "c": {"x": "q", "y": "r"},
    }


def test_a_second_file_is_refused(write: Write, tmp_path: Path) -> None:
    file = write(INDEX_TEXT)
    night = tmp_path / "night.yaml"
    night.write_text("name: night\n")
    for argv in (["--config", file, f"--config={night}"], ["--config", file, "a=b", "--config"]):
        given = argv if argv[-1] != "--config" else [*argv, str(night)]
        with pytest.raises(InputError) as error:
            parse(IndexConfig, "Index.", given)
        assert str(error.value) == (
            f"--config {night}: --config {file} is given too, and only one file is read: put the "
            "settings into one, or give those that differ as KEY=VALUE"
        )


@pytest.mark.parametrize("value", ["&x [*x]", "&x {a: *x}"])
def test_a_value_that_holds_itself_is_refused(write: Write, value: str) -> None:
    file = write(f"source: {value}\n")
    assert refusal(IndexConfig, file).startswith(f"{file}: a value holds itself, or is nested")


@pytest.mark.parametrize("value", ["!!bool maybe", "!!int ''", "!!timestamp soon"])
def test_a_tag_that_does_not_fit_is_a_wrong_value(write: Write, value: str) -> None:
    file = write(f"source: a\nstore: s\nname: n\nray: {{num_cpus: {value}}}\n")
    assert refusal(IndexConfig, file).startswith(f"{file}: ray.num_cpus: Input should be")
    assert "is not YAML" in refusal(IndexConfig, write(f"source: {value.split()[0]} [1]\n"))


def test_a_file_runs_no_code(write: Write, tmp_path: Path) -> None:
    target = tmp_path / "made"
    file = write(f"source: !!python/object/apply:os.mkdir ['{target}']\n")
    assert "is not YAML" in refusal(IndexConfig, file)
    assert not target.exists()


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    absent = tmp_path / "absent.yaml"
    assert refusal(IndexConfig, str(absent)) == f"--config {absent}: there is no such file"
    assert refusal(IndexConfig, str(tmp_path)).startswith(f"--config {tmp_path}: can't be read: ")
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("name: Stra\xdfe\n".encode("latin-1"))
    assert refusal(IndexConfig, str(latin)).startswith(f"--config {latin}: can't be read: ")


@pytest.mark.parametrize("value", [".inf", ".nan", "1e999"])
@pytest.mark.parametrize(
    ("model", "field"),
    [
        (TrainDetectorConfig, "good_per_defect"),
        (TrainDetectorConfig, "minutes"),
        (TrainClassifierConfig, "checkpoint_s"),
        (ScoreConfig, "ray.resource_wait_s"),
    ],
)
def test_a_number_is_finite(model: type, field: str, value: str) -> None:
    given = ["manifest=m", "store=s", *(["name=n"] if model is TrainClassifierConfig else [])]
    given += ["bundle=b"] if model is ScoreConfig else []
    assert f"{field}:" in refusal(model, None, *given, f"{field}={value}")


def test_settings_may_be_written_with_dashes(tmp_path: Path) -> None:
    file = tmp_path / "evaluate.yaml"
    file.write_text("store: s\nrun_id: monday\npolicies: a.json\n")
    argv = ["--config", str(file), "--sweep", "sweep.json", "--holdout.by=role", "name=x"]
    config = parse(EvaluateConfig, "Evaluate.", argv)
    assert (config.sweep, config.holdout.by, config.name) == ("sweep.json", "role", "x")
    assert (config.run_id, config.policies) == (("monday",), ("a.json",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"table": "t.parquet"}, "give run_id= .* or table="),
        ({"run_id": ()}, "give run_id= .* or table="),
        ({"policies": ()}, "give policies= .* sweep="),
        ({"guarantee": "fnr<=0.01@0.95"}, "give sweep= too"),
    ],
)
def test_an_evaluation_needs_one_source_and_something_to_judge(
    changes: dict[str, object], message: str
) -> None:
    values = {"store": "s", "run_id": ("monday",), "policies": ("a.json",)}
    with pytest.raises(ValueError, match=message):
        EvaluateConfig.model_validate(values | changes)
