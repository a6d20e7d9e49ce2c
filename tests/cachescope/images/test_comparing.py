"""What differs between versions, which budgets hold, and what would make an image smaller."""

import hashlib

import pytest

from cachescope.images.advice import advise
from cachescope.images.budgets import Budget, OverrunKind, check_budget, find_drift, find_excesses
from cachescope.images.comparing import Change, attribute_growth, compare_platforms, engine_pull, pull_churn
from cachescope.images.model import Layer, PlatformImage, total
from cachescope.images.steps import match_steps

MB = 1_000_000


def digest(seed: str) -> str:
    return f"sha256:{hashlib.sha256(seed.encode()).hexdigest()}"


def layer(text: str, size: int | None, seed: str = "", base: bool | None = False) -> Layer:
    key = digest(seed or f"{text} {size}")
    return Layer(digest=key, diff_id=key, instruction=text, compressed_bytes=size, base=base)


def image(*layers: Layer) -> PlatformImage:
    compressed = total(one.compressed_bytes for one in layers)
    return PlatformImage(platform="linux/amd64", compressed_bytes=compressed, layers=layers)


BASE = layer("ADD rootfs /", 50 * MB, base=True)


def test_a_reworded_instruction_is_changed_and_another_one_is_added():
    before = image(BASE, layer("RUN apt-get install -y curl git", 10 * MB), layer("COPY . .", MB))
    after = image(
        BASE, layer("RUN apt-get install -y curl git jq", 12 * MB), layer("RUN make", 3 * MB), layer("COPY . .", MB)
    )
    found = compare_platforms(before, after)
    assert [one.change for one in found.layers] == [Change.SAME, Change.CHANGED, Change.ADDED, Change.SAME]
    assert found.blamed.instruction == "RUN make"
    assert found.compressed_growth == 5 * MB


def test_copies_of_the_classic_builder_are_known_by_where_they_go():
    one, two, three = (f"COPY file:{letter * 64} in " for letter in "abc")
    before = image(layer(one + ".", 1, "1"), layer(two + "/etc/", 2, "2"))
    after = image(layer(three + "/etc/", 9, "3"))
    found = compare_platforms(before, after)
    assert [(one.change, one.growth) for one in found.layers] == [(Change.REMOVED, -1), (Change.CHANGED, 7)]


def test_a_new_base_image_is_blamed_as_such():
    other = layer("ADD rootfs /", 90 * MB, "new", base=True)
    found = compare_platforms(image(BASE, layer("COPY . .", MB)), image(other, layer("COPY . .", MB)))
    assert found.blamed.is_base
    assert found.pull_churn_bytes == 90 * MB


def test_churn_counts_each_blob_once_and_an_engine_pulls_what_is_above_the_first_new_layer():
    top = layer("COPY . .", 2 * MB)
    before = image(BASE, layer("RUN a", MB), top)
    after = image(BASE, layer("RUN b", 3 * MB, "new"), layer("RUN c", 3 * MB, "new"), top)
    assert pull_churn(before, after) == 3 * MB
    assert engine_pull(before, after) == 5 * MB
    unknown = image(Layer(instruction="RUN a", unpacked_bytes=5))
    assert pull_churn(unknown, after) is None
    assert pull_churn(before, unknown) is None
    assert engine_pull(before, unknown) is None


def test_a_thousand_layers_are_compared_in_no_time():
    many = [image(*(layer(f"RUN {number}", number, f"{number}{kind}") for number in range(1000))) for kind in "ab"]
    assert len(compare_platforms(many[0], many[1]).layers) == 1000


def test_growth_is_attributed_even_to_an_instruction_that_was_reworded_on_the_way():
    texts = ("RUN pip install a b c", "RUN pip install a b c d", "RUN pip install a b c d e")
    versions = [image(BASE, layer(text, (place + 1) ** 3 * MB)) for place, text in enumerate(texts)]
    (found,) = attribute_growth(versions)
    assert (found.instruction, found.growth_bytes, found.largest_step) == (texts[2], 26 * MB, 2)


@pytest.mark.parametrize(
    ("budget", "is_pull_request", "kinds"),
    [
        (Budget(), False, []),
        (Budget(absolute_bytes=69 * MB), False, [OverrunKind.ABSOLUTE]),
        (Budget(absolute_bytes=70 * MB), False, []),
        (Budget(growth_ratio=0.1), False, [OverrunKind.GROWTH]),
        (Budget(growth_ratio=0.5), False, []),
        (Budget(pull_request_bytes=MB), False, []),
        (Budget(pull_request_bytes=MB), True, [OverrunKind.PULL_REQUEST]),
    ],
)
def test_a_budget_says_which_limit_is_passed_and_because_of_what(budget, is_pull_request, kinds):
    before, after = image(BASE, layer("COPY . .", 5 * MB)), image(BASE, layer("COPY . .", 20 * MB))
    found = check_budget(budget, before, after, is_pull_request=is_pull_request)
    assert [one.kind for one in found] == kinds
    assert {one.instruction for one in found} <= {"COPY . ."}
    assert check_budget(budget, None, image(layer("RUN x", None))) == []


def weighing(*megabytes: int | None) -> list[PlatformImage]:
    return [image(layer("COPY . .", size if size is None else size * MB)) for size in megabytes]


def test_a_budget_is_passed_once_and_until_a_version_keeps_to_it():
    found = find_excesses(Budget(absolute_bytes=100 * MB), weighing(90, 110, None, 120, 100, 101))
    assert [(one.overrun.size_bytes // MB, one.since, one.until) for one in found] == [(110, 1, 4), (101, 5, None)]
    assert find_excesses(Budget(), weighing(1, 1_000)) == []


def test_growth_lasts_until_the_image_is_as_small_as_it_might_have_been():
    found = find_excesses(Budget(growth_ratio=0.1), weighing(100, 130, 131, 120, 110, 109))
    assert [(one.overrun.kind, one.since, one.until) for one in found] == [(OverrunKind.GROWTH, 1, 4)]


def test_slow_growth_is_found_and_a_step_is_none():
    slow = [image(BASE, layer("COPY . .", (10 + number) * MB)) for number in range(10)]
    assert find_drift(slow).instruction == "COPY . ."
    assert find_drift(slow[:5]) is None
    assert find_drift([slow[0]] * 9 + [slow[9]]) is None
    assert find_drift([slow[0]] * 10) is None


def test_advice_names_the_bytes_that_it_would_save_most_first():
    layers = (
        BASE,
        layer("RUN apt-get update && apt-get install -y curl", 20 * MB),
        layer("RUN apt-get update && apt-get install -y gcc make", 90 * MB),
        layer("COPY big /big", 30 * MB),
        layer("RUN rm /big && chown -R app /srv", 5 * MB),
    )
    contents = {
        "caches": [{"name": "apt lists", "size_bytes": 40 * MB, "files": 9, "layer": 1, "cure": "rm -rf"}],
        "wasted": [{"path": "big", "size_bytes": 31 * MB, "layer": 3, "hidden_by": 4, "deleted": True}],
        "rewritten": [{"layer": 3, "rewritten_by": 4, "size_bytes": 6 * MB}],
    }
    found = advise(image(*layers), contents)
    assert [(one.kind, one.saves_bytes, one.at_most) for one in found] == [
        ("multi_stage", 90 * MB, True),
        ("cache_left", 40 * MB, False),
        ("added_and_deleted", 31 * MB, False),
        ("no_install_recommends", 20 * MB, True),
        ("chown", 6 * MB, False),
    ]
    assert [one.kind for one in advise(image(*layers))] == ["multi_stage", "no_install_recommends", "chown"]
    assert advise(image(BASE, layer("COPY . .", 90 * MB))) == []


def test_layers_are_tied_to_the_steps_that_made_them():
    steps = [(2, "COPY --from=build /deps /deps"), (3, "RUN --mount=type=cache,target=/c make  all"), (5, "COPY . .")]
    assert match_steps([None, "COPY /deps /deps", "RUN make all", "COPY . ."], steps) == [None, 2, 3, 5]
    assert match_steps([f"COPY dir:{'a' * 64} in ."], [(4, "COPY . .")]) == [4]
    assert match_steps(["RUN other"], steps) == [None]
    assert match_steps(["COPY a b\nRUN make all"], steps) == [3]
