"""What each piece of evidence proves, rules out or leaves open, one small pair of builds at a time."""

from dataclasses import replace

import pytest

from cachescope.comparing import Break, ChangedFile, Evidence, find_breaks
from cachescope.model import BaseImage, Build, CacheTransfer, Outcome, Step, StepKind, StepStatus

DIGESTS = {"old": "sha256:" + "1" * 64, "new": "sha256:" + "2" * 64}


def step(name: str, cached: bool = False, **fields) -> Step:
    place, _, text = name.partition("] ")
    *stage, numbers = place.removeprefix("[").split()
    index, _, total = numbers.partition("/")
    keyword = text.split()[0]
    known = {
        "kind": StepKind.INSTRUCTION,
        "text": text,
        "status": StepStatus.CACHED if cached else StepStatus.DONE,
        "cached": cached,
        "cacheable": keyword in ("RUN", "COPY", "ADD", "WORKDIR"),
        "instruction": keyword,
        "stage": stage[0] if stage else None,
        "index": int(index),
        "total": int(total),
        "duration_seconds": 1.0,
    }
    return Step(**(known | fields))


def internal(text: str, size: int | None = None) -> Step:
    return Step(
        kind=StepKind.INTERNAL,
        text=f"[internal] {text}",
        status=StepStatus.DONE,
        cached=False,
        cacheable=False,
        transferred_bytes=size,
    )


def build(*steps: Step, builder: str = "buildkit", digest: str | None = "old", reference: str = "x", **fields) -> Build:
    bases = (BaseImage(reference=reference, digest=DIGESTS[digest] if digest else None),)
    known = {"builder": builder, "format": "x", "outcome": Outcome.SUCCEEDED, "steps": steps, "base_images": bases}
    return Build(**(known | fields))


def explain(after: Build, before: Build, **evidence) -> Break:
    (found,) = find_breaks(after, before, Evidence(**evidence)).breaks
    return found


def dockerfiles(before: str, after: str | None = None) -> dict[str, dict[str, str]]:
    return {"dockerfiles_before": {"": before}, "dockerfiles_after": {"": before if after is None else after}}


FROM = step("[1/3] FROM x")


def chain(*names: str, hits: int = 0) -> tuple[Step, ...]:
    """A stage of one file: FROM, then these texts, the first ones hits."""
    total = len(names) + 1
    lines = [step(f"[{n + 2}/{total}] {name}", n < hits) for n, name in enumerate(names)]
    return (step(f"[1/{total}] FROM x"), *lines)


RUN = build(*chain("COPY a a", "RUN make", hits=1))


# -- arguments --------------------------------------------------------------------------------------------------------

ARG = "FROM x\nCOPY a a\nARG MODE=fast\nRUN make\n"


def test_an_argument_with_another_value_is_named_and_its_value_is_not() -> None:
    commands = {"command_before": ("build", "--build-arg", "MODE=s3cret", "."), "command_after": ("build", ".")}
    found = explain(RUN, RUN, **dockerfiles(ARG), **commands)
    assert (found.cause, found.confidence, found.expected) == ("build_arg_changed", "certain", False)
    assert found.evidence == ("Build argument MODE was given before and is not any more.",)
    commands["command_after"] = ("build", "--build-arg", "MODE=other", ".")
    assert "s3cret" not in "".join(explain(RUN, RUN, **dockerfiles(ARG), **commands).evidence)


def test_an_argument_that_no_arg_declares_is_in_no_key() -> None:
    commands = {"command_before": ("build", "."), "command_after": ("build", "--build-arg", "OTHER=1", ".")}
    assert explain(RUN, RUN, **dockerfiles(ARG), **commands).cause == "cache_lost"


def test_equal_arguments_are_no_cause() -> None:
    command = ("build", "--build-arg", "MODE=a", ".")
    found = explain(RUN, RUN, **dockerfiles(ARG), command_before=command, command_after=command)
    assert found.cause == "cache_lost"


def test_arguments_of_a_record_count_as_those_of_a_command() -> None:
    found = explain(RUN, RUN, **dockerfiles(ARG), arguments_before={"MODE": "a"}, arguments_after={"MODE": "b"})
    assert found.cause == "build_arg_changed"


def test_an_argument_that_an_env_of_the_base_stage_took_over_is_in_the_key() -> None:
    text = "FROM x AS base\nARG MODE=a\nENV MODE=$MODE\nCOPY a a\nFROM base\nRUN make\n"
    steps = (step("[base 1/2] FROM x"), step("[base 2/2] COPY a a", True), step("[stage-1 1/1] RUN make"))
    found = explain(
        build(*steps), build(*steps), **dockerfiles(text), arguments_before={}, arguments_after={"MODE": "b"}
    )
    assert (found.cause, found.confidence) == ("build_arg_changed", "certain")
    assert explain(build(*steps), build(*steps), **dockerfiles(text)).cause == "unknown"


def test_another_base_by_an_argument_is_the_arguments_doing() -> None:
    text = "ARG TAG=1\nFROM x:${TAG}\nCOPY a a\n"
    before = build(step("[1/2] FROM x:1"), step("[2/2] COPY a a", True), reference="x:1")
    after = build(step("[1/2] FROM x:2"), step("[2/2] COPY a a"), reference="x:2")
    found = explain(after, before, **dockerfiles(text), arguments_before={}, arguments_after={"TAG": "2"})
    assert (found.cause, found.confidence) == ("build_arg_changed", "certain")
    assert explain(after, before, **dockerfiles(text)).cause == "build_arg_changed"


def test_another_base_by_an_edit_is_the_dockerfiles_doing() -> None:
    before = build(step("[1/2] FROM x:1"), step("[2/2] COPY a a", True), reference="x:1")
    after = build(step("[1/2] FROM x:2"), step("[2/2] COPY a a"), reference="x:2")
    found = explain(after, before, **dockerfiles("FROM x:1\nCOPY a a\n", "FROM x:2\nCOPY a a\n"))
    assert (found.cause, found.confidence) == ("instruction_changed", "certain")


def test_two_logs_do_not_tell_who_named_another_base() -> None:
    before = build(step("[1/2] FROM x:1"), step("[2/2] RUN make", True), reference="x:1")
    after = build(step("[1/2] FROM x:2"), step("[2/2] RUN make"), reference="x:2")
    found = explain(after, before)
    assert found.cause == "unknown"
    assert set(found.possible) == {"build_arg_changed", "instruction_changed"}
    sizes = [
        replace(b, steps=(internal("load build definition from Dockerfile", n), *b.steps))
        for n, b in ((10, before), (12, after))
    ]
    assert explain(sizes[1], sizes[0]).cause == "instruction_changed"


def test_a_value_that_shows_in_the_text_is_likely_the_cause_without_the_dockerfile() -> None:
    before, after = build(*chain("RUN make V=1")), build(*chain("RUN make V=2"))
    found = explain(after, before, arguments_before={"V": "1"}, arguments_after={"V": "2"})
    assert (found.cause, found.confidence) == ("build_arg_changed", "likely")
    copies = build(*chain("COPY a a")), build(*chain("COPY a a"))
    assert explain(*copies, arguments_before={"V": "1"}, arguments_after={"V": "2"}).cause != "build_arg_changed"


def test_the_same_line_printed_otherwise_is_an_argument() -> None:
    text = "FROM x\nARG V=1\nRUN make V=$V\n"
    found = explain(build(*chain("RUN make V=2")), build(*chain("RUN make V=1")), **dockerfiles(text))
    assert (found.cause, found.confidence) == ("build_arg_changed", "certain")


def test_a_proxy_is_in_the_key_of_the_classic_builder_only() -> None:
    steps = (step("[1/2] FROM x"), step("[2/2] RUN make"))
    given = {"arguments_before": {}, "arguments_after": {"HTTP_PROXY": "p"}, **dockerfiles("FROM x\nRUN make\n")}
    assert (
        explain(build(*steps, builder="docker"), build(*steps, builder="docker"), **given).cause == "build_arg_changed"
    )
    assert "build_arg_changed" not in explain(build(*steps), build(*steps), **given).possible


def test_a_value_may_hide_behind_a_dollar_where_lines_are_printed_as_written() -> None:
    steps = (step("[1/3] FROM x"), step("[2/3] ARG V=1", True), step("[3/3] ENV V=$V"))
    one = build(*steps, builder="docker")
    assert "build_arg_changed" in explain(one, one).possible
    assert "build_arg_changed" in explain(one, one, **dockerfiles("FROM x\nARG V=1\nENV V=$V\n")).possible
    plain = build(step("[1/2] FROM x"), step("[2/2] ENV V=1"), builder="docker")
    assert "build_arg_changed" not in explain(plain, plain).possible


# -- the Dockerfile ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("FROM x\nCOPY a a\nENV A=1\nRUN make\n", "FROM x\nCOPY a a\nENV A=2\nRUN make\n", 'ENV A was "1" and is "2".'),
        ("FROM x\nCOPY a a\nRUN make\n", "FROM x\nCOPY a a\nENV A=1\nRUN make\n", 'ENV A is new: "1".'),
        ("FROM x\nCOPY a a\nENV A=1\nRUN make\n", "FROM x\nCOPY a a\nRUN make\n", 'ENV A was taken out (it was "1").'),
        ("FROM x\nCOPY a a\nUSER a\nRUN make\n", "FROM x\nCOPY a a\nUSER b\nRUN make\n", 'USER was "a" and is "b".'),
        ("FROM x\nCOPY a a\nRUN make\n", 'FROM x\nCOPY a a\nSHELL ["b"]\nRUN make\n', "SHELL was edited."),
        (
            "FROM x\nCOPY a a\nARG A=1\nRUN make\n",
            "FROM x\nCOPY a a\nARG A=2\nRUN make\n",
            'The default of ARG A was "1" and is "2".',
        ),
    ],
)  # fmt: skip
def test_an_edit_above_a_run_is_told_by_name(before: str, after: str, sentence: str) -> None:
    found = explain(RUN, RUN, **dockerfiles(before, after))
    assert (found.cause, found.confidence, found.expected) == ("instruction_changed", "certain", True)
    assert found.evidence == (sentence,)


def test_a_comment_is_no_edit_of_an_instruction() -> None:
    found = explain(RUN, RUN, **dockerfiles("FROM x\nCOPY a a\nRUN make\n", "FROM x\n# note\nCOPY a a\nRUN make\n"))
    assert found.cause == "cache_lost"


def test_a_line_taken_out_above_is_an_edit() -> None:
    before = build(*chain("RUN one", "COPY a a", "RUN make", hits=3))
    after = build(*chain("COPY a a", "RUN make", hits=1))
    texts = dockerfiles("FROM x\nRUN one\nCOPY a a\nRUN make\n", "FROM x\nCOPY a a\nRUN make\n")
    assert explain(after, before, **texts).evidence == ("The lines above line 3 of the Dockerfile were edited.",)
    assert explain(after, before).cause == "instruction_changed"


def test_a_pinned_digest_that_moved_is_an_edit() -> None:
    pinned = "load metadata for docker.io/library/x@sha256:1"
    before = build(internal("other"), *chain("COPY a a"), digest="old")
    after = build(internal(pinned), *chain("COPY a a"), digest="new", reference="x")
    after = replace(after, steps=(internal("load metadata for x@sha256:22"), *after.steps[1:]))
    found = explain(after, before)
    assert (found.cause, found.confidence) == ("instruction_changed", "certain")


def test_a_dockerfile_that_the_commit_left_alone_is_the_same() -> None:
    loads = internal("load build definition from Dockerfile", 20)
    changed = {"changed_files": (ChangedFile("other.txt"),)}
    one = build(loads, *chain("COPY a a", "RUN make", hits=1))
    assert "instruction_changed" not in explain(one, one, **changed).possible
    touched = {"changed_files": (ChangedFile("docker/Dockerfile"),)}
    assert "instruction_changed" in explain(one, one, **touched).possible
    known = {"dockerfiles_after": {"": "FROM x\nCOPY a a\nRUN make\n"}}
    assert explain(one, one, **changed, **known).cause == "cache_lost"


# -- files ------------------------------------------------------------------------------------------------------------

COPY = build(*chain("COPY src src", "RUN make"))


def test_a_changed_file_is_named_only_if_it_is_read_and_not_ignored() -> None:
    changed = tuple(map(ChangedFile, ("src/a.c", "src/notes.md", "docs/x")))
    found = explain(COPY, COPY, changed_files=changed, dockerignore_after="**/*.md\n")
    assert (found.cause, found.confidence, found.files) == ("files_changed", "certain", ("src/a.c",))


def test_without_the_ignore_rules_no_file_is_named() -> None:
    found = explain(COPY, COPY, changed_files=(ChangedFile("src/a.c"),))
    assert (found.cause, found.confidence, found.files) == ("files_changed", "likely", ())


def test_a_log_that_shows_no_ignore_file_is_as_good_as_the_rules() -> None:
    after = replace(COPY, steps=(internal("load .dockerignore", 2), *COPY.steps))
    assert explain(after, COPY, changed_files=(ChangedFile("src/a.c"),)).files == ("src/a.c",)
    after = replace(COPY, steps=(internal("load .dockerignore", 60), *COPY.steps))
    assert explain(after, COPY, changed_files=(ChangedFile("src/a.c"),)).files == ()


def test_rules_that_changed_may_be_the_reason() -> None:
    rules = {"dockerignore_before": "*.log\n", "dockerignore_after": "\n"}
    found = explain(COPY, COPY, changed_files=(ChangedFile(".dockerignore"),), **rules)
    assert (found.cause, found.confidence, found.files) == ("files_changed", "likely", (".dockerignore",))


def test_a_file_that_the_rules_let_in_now_is_named_with_the_rules() -> None:
    rules = {"dockerignore_before": "**/*.log\n", "dockerignore_after": "\n"}
    changed = (ChangedFile(".dockerignore"), ChangedFile("src/a.log"))
    assert set(explain(COPY, COPY, changed_files=changed, **rules).files) == {".dockerignore", "src/a.log"}


def test_a_new_file_that_is_ignored_is_no_reason() -> None:
    found = explain(COPY, COPY, changed_files=(ChangedFile("src/a.log", "A"),), dockerignore_after="**/*.log\n")
    assert found.files == ()
    assert found.cause == "unknown"


def test_a_deleted_file_that_was_ignored_is_no_reason() -> None:
    rules = {"dockerignore_before": "**/*.log\n", "dockerignore_after": "\n"}
    found = explain(COPY, COPY, changed_files=(ChangedFile("src/a.log", "D"),), **rules)
    assert "src/a.log" not in found.files


def test_files_outside_the_context_are_no_reason() -> None:
    changed = {"changed_files": (ChangedFile("web/src/a.c"),), "dockerignore_after": ""}
    assert explain(COPY, COPY, **changed, contexts={"": "web"}).files == ("src/a.c",)
    assert explain(COPY, COPY, **changed, contexts={"": "api"}).files == ()


def test_an_address_may_serve_something_else() -> None:
    one = build(*chain("ADD https://example.org/a.txt /a"))
    found = explain(one, one)
    assert found.cause == "unknown"
    assert "files_changed" in found.possible


BELOW = build(*chain("WORKDIR /w", "COPY src src", "RUN make", hits=1))


def test_more_context_than_before_means_changed_files() -> None:
    found = explain(replace(BELOW, context_bytes=20), replace(BELOW, context_bytes=10))
    assert (found.cause, found.confidence) == ("files_changed", "likely")
    assert explain(replace(BELOW, context_bytes=10), replace(BELOW, context_bytes=10)).cause == "unknown"


def test_more_context_proves_nothing_where_nothing_hit() -> None:
    # Docker's own builder keeps the base images when its cache is pruned, but loses its copy of the context.
    found = explain(replace(COPY, context_bytes=20), replace(COPY, context_bytes=10))
    assert found.cause == "unknown"
    assert {"cache_lost", "files_changed"} <= set(found.possible)


def test_more_context_than_the_commit_explains_is_unexpected() -> None:
    found = explain(
        replace(BELOW, context_bytes=20), replace(BELOW, context_bytes=10), changed_files=(), dockerignore_after=""
    )
    assert (found.cause, found.expected) == ("files_changed", False)


def test_a_former_state_that_hit_above_leaves_the_cause_open() -> None:
    one = build(*chain("COPY src src", "RUN make", hits=1))
    found = explain(
        one,
        one,
        **dockerfiles("FROM x\nCOPY src src\nRUN make\n"),
        changed_files=(ChangedFile("src/a"),),
        dockerignore_after="",
    )
    assert set(found.possible) == {"cache_lost", "files_changed"}


# -- base images ------------------------------------------------------------------------------------------------------


def test_a_tag_that_moved_is_the_cause_right_below_from() -> None:
    found = explain(build(*chain("RUN make"), digest="new"), build(*chain("RUN make")))
    assert (found.cause, found.confidence, found.expected) == ("base_image_changed", "certain", False)


def test_a_base_whose_digest_is_not_printed_may_have_moved() -> None:
    one = build(*chain("WORKDIR /x"), digest=None)
    found = explain(one, one)
    assert found.cause == "unknown"
    assert "base_image_changed" in found.possible


def test_an_image_that_is_copied_from_may_move_too() -> None:
    steps = chain("RUN one", "COPY --from=tools:1 /t /t", hits=1)
    old = (BaseImage(reference="docker.io/library/tools:1", digest=DIGESTS["old"]),)
    new = (BaseImage(reference="docker.io/library/tools:1", digest=DIGESTS["new"]),)
    found = explain(build(*steps, base_images=new), build(*steps, base_images=old))
    assert (found.cause, found.confidence) == ("base_image_changed", "certain")


# -- the cache --------------------------------------------------------------------------------------------------------


def test_a_workdir_that_missed_on_the_same_base_proves_a_lost_cache() -> None:
    one = build(*chain("WORKDIR /x"))
    found = explain(one, one)
    assert (found.cause, found.confidence, found.expected) == ("cache_lost", "certain", False)


def test_a_failed_import_explains_only_a_build_in_which_nothing_hit() -> None:
    failed = (CacheTransfer(ref="r", succeeded=False),)
    worked = (CacheTransfer(ref="r", succeeded=True),)
    cold = build(*chain("COPY a a", "RUN make"))
    found = explain(replace(cold, cache_imports=failed), replace(cold, cache_imports=worked))
    assert (found.cause, found.confidence) == ("cache_not_imported", "certain")
    found = explain(replace(RUN, cache_imports=failed), replace(RUN, cache_imports=worked))
    assert "cache_not_imported" in found.possible


def test_an_import_that_is_no_longer_asked_for_is_likely_the_cause() -> None:
    cold = build(*chain("COPY a a", "RUN make"))
    command = ("build", "--cache-from", "type=gha", ".")
    found = explain(
        cold, cold, command_before=command, command_after=("build", "."), changed_files=(), dockerignore_after=""
    )
    assert found.cause == "cache_not_imported"
    assert found.confidence == "likely"


def test_no_cache_of_a_bake_target_is_read_from_its_file() -> None:
    one = build(step("[1/2] FROM x", target="api"), step("[2/2] RUN make", target="api"))
    found = explain(one, one, bake='target "api" {\n no-cache = true\n}\n', command_after=("bake",))
    assert (found.cause, found.confidence) == ("no_cache_requested", "certain")
    unknown = explain(one, one, command_after=("bake",))
    assert "no_cache_requested" in unknown.possible


def test_a_filter_on_a_stage_without_a_name_is_a_filter_on_the_only_one() -> None:
    one = build(*chain("RUN make"))
    found = explain(one, one, command_after=("build", "--no-cache-filter", "only", "."))
    assert found.cause == "no_cache_requested"


def test_no_cache_on_the_command_line_is_certain() -> None:
    one = build(*chain("RUN make"))
    assert explain(one, one, command_after=("build", "--no-cache", ".")).cause == "no_cache_requested"
    assert explain(one, one, command_after=("build", ".")).possible.count("no_cache_requested") == 0


# -- vertex digests, runners, triggers, arguments in FROM --------------------------------------------------------------


def test_equal_vertex_digests_rule_out_edits_and_arguments() -> None:
    run = "[2/3] RUN make"
    known = {"digest": "sha256:" + "7" * 64}
    before, after = build(FROM, step(run, cached=True, **known)), build(FROM, step(run, **known))
    assert explain(after, before).possible == ("cache_lost", "no_cache_requested")
    plain = explain(build(FROM, step(run)), build(FROM, step(run, cached=True)))
    assert {"build_arg_changed", "instruction_changed"} < set(plain.possible)


def test_another_runner_lacks_the_cache_when_nothing_else_is_open() -> None:
    workdir = step("[2/3] WORKDIR /w", cached=True)
    before = build(FROM, workdir, step("[3/3] COPY a a", cached=True), context_bytes=2)
    after = build(FROM, workdir, step("[3/3] COPY a a"), context_bytes=900)
    known = {
        **dockerfiles("FROM x\nWORKDIR /w\nCOPY a a\n"),
        "changed_files": (),
        "dockerignore_after": "",
        "command_before": ("build", "."),
        "command_after": ("build", "."),
    }
    other = explain(after, before, runner_before="one", runner_after="two", **known)
    assert (other.cause, other.confidence) == ("cache_lost", "likely")
    assert "ran on two" in other.evidence[0]
    # On the same builder more context means that files changed.
    assert explain(after, before, runner_before="one", runner_after="one", **known).cause == "files_changed"
    blind = {**known, "command_after": None, "command_before": None}
    assert explain(after, before, runner_before="one", runner_after="two", **blind).cause == "unknown"


def test_a_trigger_of_the_base_reads_files_as_its_instruction_does() -> None:
    text = "[2/3] ONBUILD COPY trees.txt /x/"
    found = explain(
        build(FROM, step(text, cacheable=True)),
        build(FROM, step(text, cached=True, cacheable=True)),
        changed_files=(ChangedFile("trees.txt"),),
        dockerignore_after="",
    )
    assert (found.cause, found.files) == ("files_changed", ("trees.txt",))


def test_a_stage_that_an_argument_picks_was_not_built_before() -> None:
    text = "ARG V=a\nFROM x AS s-a\nRUN a\nFROM x AS s-b\nRUN b\nFROM s-${V} AS last\nRUN c\n"
    before = build(step("[s-a 1/2] FROM x"), step("[s-a 2/2] RUN a"), step("[last 1/1] RUN c"))
    after = build(step("[s-b 1/2] FROM x"), step("[s-b 2/2] RUN b"), step("[last 1/1] RUN c"))
    found = explain(after, before, **dockerfiles(text))
    assert (found.cause, found.confidence) == ("build_arg_changed", "likely")
    assert [after.steps[p].text for p in found.cascade] == ["RUN c"]
    commands = {"command_before": ("build", "."), "command_after": ("build", "--build-arg", "V=b", ".")}
    assert explain(after, before, **dockerfiles(text), **commands).confidence == "certain"


def test_an_env_that_takes_an_argument_tells_its_value() -> None:
    text = "FROM x\nARG LOAD\nENV MAX=$LOAD\nRUN echo $MAX\n"
    found = explain(
        build(FROM, step("[2/2] RUN echo 2")), build(FROM, step("[2/2] RUN echo 1", cached=True)), **dockerfiles(text)
    )
    assert (found.cause, found.confidence) == ("build_arg_changed", "certain")
    assert "LOAD" in found.evidence[0]


@pytest.mark.parametrize(
    ("context", "path", "files"),
    [
        ("floors", "floors/hall.txt", ("hall.txt",)),
        ("floors", "hall.txt", ("hall.txt",)),
        (".", "floors/hall.txt", ("floors/hall.txt",)),
        ("https://example.org/x.git", "hall.txt", ("hall.txt",)),
    ],
)
def test_the_command_says_where_the_context_begins(context: str, path: str, files: tuple[str, ...]) -> None:
    found = explain(
        build(FROM, step("[2/2] COPY . .")),
        build(FROM, step("[2/2] COPY . .", cached=True)),
        changed_files=(ChangedFile(path),),
        dockerignore_after="",
        command_after=("docker", "build", context),
    )
    assert found.files == files


def test_a_file_behind_a_link_may_be_what_the_commit_changed() -> None:
    workdir = step("[2/3] WORKDIR /w", cached=True)
    before = build(FROM, workdir, step("[3/3] COPY signs/current /", cached=True), context_bytes=100)
    after = build(FROM, workdir, step("[3/3] COPY signs/current /"), context_bytes=500)
    text = dockerfiles("FROM x\nWORKDIR /w\nCOPY signs/current /\n")
    changed = (ChangedFile("signs/open.txt"),)
    found = explain(after, before, changed_files=changed, dockerignore_after="", **text)
    assert (found.cause, found.expected, found.files) == ("files_changed", True, ())
    for files, ignore in (((ChangedFile("Dockerfile"),), ""), (changed, "signs/open.txt"), ((), "")):
        other = explain(after, before, changed_files=files, dockerignore_after=ignore, **text)
        assert other.expected is False


def test_what_another_target_takes_from_cache_was_asked_to_run() -> None:
    run = "[s 2/2] RUN make"
    before = build(
        step("[s 1/2] FROM x", target="a"), step(run, cached=True, target="a"), step(run, cached=True, target="b")
    )
    after = build(step("[s 1/2] FROM x", target="a"), step(run, cached=True, target="a"), step(run, target="a"))
    found = explain(after, before, command_after=("buildx", "bake", "--set", "b.no-cache=true"), bake='target "b" {}')
    assert (found.cause, found.confidence) == ("no_cache_requested", "certain")


def test_a_stage_of_another_target_is_built_for_the_first_time() -> None:
    text = "FROM x AS base\nRUN a\nFROM base AS app\nRUN b\nFROM base AS checks\nRUN c\n"
    base = (step("[base 1/2] FROM x"), step("[base 2/2] RUN a", cached=True))
    before = build(*base, step("[app 1/1] RUN b", cached=True))
    after = build(*base, step("[checks 1/1] RUN c"))
    found = explain(after, before, **dockerfiles(text))
    assert (found.cause, found.confidence, found.expected) == ("first_build", "likely", True)
    commands = {"command_before": ("build", "--target=app", "."), "command_after": ("build", "."), **dockerfiles(text)}
    assert explain(after, before, **commands).confidence == "certain"
    same = {**commands, "command_before": ("build", ".")}
    assert explain(after, before, **same).cause == "unknown"
    edited = dockerfiles(text.partition("FROM base AS checks")[0], text)
    assert explain(after, before, **edited).cause == "instruction_changed"


def test_two_logs_leave_another_target_and_an_edit_open_unless_the_dockerfile_grew() -> None:
    base = (step("[base 1/2] FROM x"), step("[base 2/2] RUN a", cached=True))
    ends = (step("[app 1/1] RUN b", cached=True), step("[checks 1/1] RUN c"))
    sizes = [internal("load build definition from Dockerfile", size) for size in (100, 100, 150)]
    before = build(sizes[0], *base, ends[0])
    assert "first_build" in explain(build(sizes[1], *base, ends[1]), before).possible
    assert explain(build(sizes[2], *base, ends[1]), before).cause == "instruction_changed"


def test_a_value_on_the_command_line_that_the_text_shows_is_likely_the_cause() -> None:
    before = build(FROM, step("[2/2] COPY v1 /", cached=True))
    after = build(FROM, step("[2/2] COPY v2 /"))
    commands = {"command_before": ("build", "--build-arg", "V=v1"), "command_after": ("build", "--build-arg", "V=v2")}
    assert explain(after, before, **commands).cause == "build_arg_changed"
    other = {**commands, "command_after": ("build", "--build-arg", "V=x9")}
    assert "build_arg_changed" not in explain(after, before, **other).possible


def test_a_line_below_that_prints_another_value_proves_the_argument() -> None:
    text = "FROM x\nARG V\nRUN make\nRUN echo $V\n"
    before = build(
        FROM, step("[2/3] RUN make", cached=True), step("[3/3] RUN echo version one two three 1", cached=True)
    )
    after = build(FROM, step("[2/3] RUN make"), step("[3/3] RUN echo version one two three 2"))
    text = text.replace("echo $V", "echo version one two three $V")
    found = explain(after, before, **dockerfiles(text))
    assert (found.cause, found.confidence) == ("build_arg_changed", "certain")
    assert "A line below" in found.evidence[0]


# -- what two sets of fresh projects showed ---------------------------------------------------------------------------


def classic(*lines: str, image: str) -> Build:
    """Steps of one file as the classic builder numbers them; none hit."""
    steps = [step(f"[{n}/{len(lines)}] {line}") for n, line in enumerate(lines, 1)]
    bases = (BaseImage(reference="tools:${TAG}", id=image),)
    return Build(builder="docker", format="x", outcome=Outcome.SUCCEEDED, steps=tuple(steps), base_images=bases)


FILE = ("ARG TAG=1", "FROM tools:${TAG}", "RUN make")


def test_another_image_behind_an_arg_may_be_a_tag_that_moved_or_a_value() -> None:
    found = explain(classic(*FILE, image="new"), classic(*FILE, image="old"))
    assert (found.cause, found.possible) == ("unknown", ("base_image_changed", "build_arg_changed"))
    known = dockerfiles("\n".join(FILE))
    assert explain(classic(*FILE, image="new"), classic(*FILE, image="old"), **known).possible == found.possible


def test_the_command_lines_tell_which_image_an_arg_means() -> None:
    after, before, known = classic(*FILE, image="new"), classic(*FILE, image="old"), dockerfiles("\n".join(FILE))
    same = {"command_before": ("build", "."), "command_after": ("build", ".")}
    assert explain(after, before, **known, **same).cause == "base_image_changed"
    other = {"command_before": ("build", "."), "command_after": ("build", "--build-arg", "TAG=2", ".")}
    found = explain(after, before, **known, **other)
    assert (found.cause, found.confidence) == ("build_arg_changed", "certain")


def test_an_edited_arg_above_the_stages_is_an_edit() -> None:
    found = explain(classic("ARG TAG=2", *FILE[1:], image="new"), classic(*FILE, image="old"))
    assert (found.cause, found.confidence) == ("instruction_changed", "certain")


def test_an_arg_that_picks_the_image_counts_where_the_stage_declares_it_too() -> None:
    text = "ARG TAG=1\nFROM x:$TAG\nARG TAG\nWORKDIR /w\n"
    before = build(step("[1/2] FROM x:1"), step("[2/2] WORKDIR /w", cached=True), reference="x:1")
    after = build(step("[1/2] FROM x:2"), step("[2/2] WORKDIR /w"), reference="x:2")
    commands = {"command_before": ("build", "."), "command_after": ("build", "--build-arg", "TAG=2", ".")}
    assert explain(after, before, **dockerfiles(text), **commands).cause == "build_arg_changed"


BUILDAH = build(step("[1/3] FROM x"), step("[2/3] ARG Y"), step("[3/3] RUN make"), builder="buildah", digest=None)


def test_buildah_keys_an_arg_by_the_names_that_are_given() -> None:
    known = dockerfiles("FROM x\nARG Y\nRUN make\n")
    given = {"command_before": ("build", "."), "command_after": ("build", "--build-arg", "HTTP_PROXY=x", ".")}
    found = explain(BUILDAH, BUILDAH, **known, **given)
    assert (found.cause, found.confidence) == ("build_arg_changed", "certain")
    assert "build_arg_changed" in explain(BUILDAH, BUILDAH, **known).possible
    assert "build_arg_changed" in explain(BUILDAH, BUILDAH).possible
    assert "build_arg_changed" in explain(BUILDAH, BUILDAH, **given).possible
    other = {"command_before": ("build", "."), "command_after": ("build", "--build-arg", "NOBODY=1", ".")}
    assert "build_arg_changed" not in explain(BUILDAH, BUILDAH, **known, **other).possible


def test_buildah_stands_on_another_image_where_an_arg_of_from_changed() -> None:
    known = dockerfiles("ARG TAG=1\nFROM x:$TAG\nARG Y=1\nRUN make\n")
    given = {"command_before": ("build", "."), "command_after": ("build", "--build-arg", "TAG=2", ".")}
    one = build(step("[1/3] FROM x:1"), step("[2/3] ARG Y=1"), step("[3/3] RUN make"), builder="buildah", digest=None)
    assert explain(one, one, **known, **given).cause == "build_arg_changed"


def test_a_workdir_that_is_gone_says_that_all_is_gone() -> None:
    steps = (
        step("[a 1/2] FROM x"),
        step("[a 2/2] WORKDIR /a"),
        step("[b 1/3] FROM x"),
        step("[b 2/3] RUN make"),
    )
    found = find_breaks(build(*steps), build(*steps)).breaks
    assert [(b.cause, b.confidence) for b in found] == [("cache_lost", "certain"), ("cache_lost", "likely")]


def test_a_source_with_an_arg_takes_its_value_where_the_builder_prints_none() -> None:
    lines = ("FROM x", "ARG V=1", "COPY in-${V}.txt /")
    one = build(
        *(step(f"[{n}/3] {line}", cached=n == 2) for n, line in enumerate(lines, 1)), builder="docker", digest="old"
    )
    known = {**dockerfiles("\n".join(lines)), "dockerignore_after": ""}
    guessed = explain(one, one, changed_files=(ChangedFile("in-1.txt"),), **known)
    assert (guessed.cause, guessed.confidence, guessed.files) == ("files_changed", "likely", ("in-1.txt",))
    given = {
        "command_before": ("build", "--build-arg", "V=2", "."),
        "command_after": ("build", "--build-arg", "V=2", "."),
    }
    found = explain(one, one, changed_files=(ChangedFile("in-1.txt"), ChangedFile("in-2.txt")), **known, **given)
    assert (found.confidence, found.files) == ("certain", ("in-2.txt",))


def test_a_list_of_sources_is_printed_without_its_quotes() -> None:
    one = build(*chain("WORKDIR /w", "COPY [a b.c, src/]", hits=1))
    text = 'FROM x\nWORKDIR /w\nCOPY ["a b.c", "src/"]\n'
    found = explain(one, one, changed_files=(ChangedFile("a b.c"),), dockerignore_after="", **dockerfiles(text))
    assert (found.cause, found.files) == ("files_changed", ("a b.c",))


@pytest.mark.parametrize("line", ["COPY --from=docs a /a", "RUN --mount=type=bind,from=docs,target=/d cat /d/a"])
def test_a_file_of_a_named_context_is_named_where_the_command_tells_its_folder(line: str) -> None:
    context = Step(
        kind=StepKind.INTERNAL,
        text="[context docs] load from client",
        status=StepStatus.DONE,
        cached=False,
        cacheable=False,
        transferred_bytes=9,
    )
    one = build(*chain("WORKDIR /w", line, hits=1), context)
    known = {**dockerfiles(f"FROM x\nWORKDIR /w\n{line}\n"), "dockerignore_after": ""}
    command = ("build", "--build-context", "docs=manual", ".")
    known |= {"changed_files": (ChangedFile("manual/a"), ChangedFile("a")), "command_before": command}
    assert explain(one, one, **known, command_after=command).files == ("manual/a",)
    away = ("build", "--build-context", "docs=../manual", ".")
    for unknown in (None, away):
        found = explain(one, one, **known, command_after=unknown)
        assert found.files == ()
        assert "files_changed" in found.possible


def test_a_base_that_was_not_there_before_is_fetched_by_a_builder_that_is_not_empty() -> None:
    before = build(step("[1/2] FROM x"), step("[2/2] RUN make", cached=True))
    after = build(step("[1/2] FROM y", transferred_bytes=9), step("[2/2] RUN make"), reference="y")
    found = explain(after, before)
    assert set(found.possible) == {"build_arg_changed", "instruction_changed"}


def test_a_step_whose_layers_were_fetched_did_not_run() -> None:
    steps = chain("RUN make", "COPY src src")
    fetched = replace(steps[1], transferred_bytes=5)
    found = explain(build(steps[0], fetched, steps[2]), build(*chain("RUN make", "COPY src src", hits=2)))
    assert found.position == 2


def test_a_shared_step_that_is_shown_under_another_target_was_not_moved() -> None:
    before = build(
        step("[1/2] FROM x", target="web"),
        step("[2/2] COPY a a", cached=True, target="web"),
        step("[1/2] RUN own", cached=True, target="worker"),
    )
    after = build(step("[1/2] FROM x", target="worker"), step("[2/2] COPY a a", target="worker"))
    assert find_breaks(after, before).breaks[0].cause == "unknown"
