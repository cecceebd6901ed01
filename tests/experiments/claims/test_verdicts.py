"""The verdicts on differences between experiments, from the ledger's lines to the page."""

import copy

import numpy as np
import pytest

from experiments.claims.analysis import (
    PValues,
    decide,
    p_values_of_claim,
    p_values_of_part,
)
from experiments.claims.page import (
    compare_with_flips,
    explain_replicates,
    least_p,
    render,
    tell_claim,
    tell_p,
)
from experiments.claims.schema import (
    CLAIMS_FILE,
    MEASURES,
    Claims,
    Part,
    find_cases,
    read_claims,
    rows_of,
)
from experiments.claims.verdicts import (
    FAMILIES,
    Evidence,
    Finding,
    family_of,
    judge_all,
    rule_of,
)
from experiments.intervals import estimate, sign_flip
from experiments.running.ledger import Ledger
from experiments.running.plans import Spent, fingerprints_of
from experiments.tables.recipes import Case, parse, read_preset
from experiments.tables.replicates import replicates
from stages.shared.errors import BadInput

PRESET = read_preset("toybirds")
STAGES = {name: {"cmd": name, "params": ["synth.gamma", "seed"]} for name in ("evaluate", "assess")}
GAMMA = Part(
    label="0.5 against 1",
    better=["table6/5-shot s=0.5 gamma=0.5"],
    worse=["table6/5-shot s=0.5 gamma=1.0"],
    measure=["top1"],
)


def claims_of(*parts: Part, paper: str = "it helps") -> Claims:
    """One claim with these parts, in two replicates."""
    claim = {
        "text": "it helps", "source": "Sec. 0", "paper": paper,
        "parts": [part.model_dump() for part in parts],
    }  # fmt: skip
    head = {"title": "Claims", "replicates": 2, "level": 0.05, "margin": 2.0}
    return Claims.model_validate(head | {"claims": {"a": claim}})


def enter(ledger: Ledger, case: Case, metrics: dict) -> None:
    """Give the ledger a line of the case."""
    fingerprint = fingerprints_of(case, STAGES)[0]
    ledger.entries[fingerprint] = {
        "name": f"row-{fingerprint}", "fingerprint": fingerprint, "commit": "0badcafe",
        "seconds": 1.0, "metrics": metrics,
    }  # fmt: skip


def evaluated(**measures: float) -> dict:
    """Metrics of an experiment whose arm diffmix has these measures."""
    return {"evaluate": {"arms": {"diffmix": measures}}}


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(tmp_path / "runs.jsonl")


def judge(claims: Claims, ledger: Ledger) -> dict:
    """The content of metrics/claims.json."""
    rows = find_cases(claims, PRESET)
    return judge_all(claims, Evidence(rows, STAGES, ledger, claims.replicates))


def fill(ledger: Ledger, claims: Claims, values: dict[str, list[dict]]) -> None:
    """Enter metrics for each replicate of the rows."""
    rows = find_cases(claims, PRESET)
    for name, metrics in values.items():
        for case, each in zip(replicates(rows[name], claims.replicates), metrics, strict=False):
            enter(ledger, case, each)


def test_every_row_of_the_claims_is_a_row_of_a_table():
    claims = read_claims()
    parts = [part for claim in claims.claims.values() for part in claim.parts]
    assert set(find_cases(claims, PRESET)) == {row for part in parts for row in rows_of(part)}


def test_ten_claims_are_the_papers_and_begin_with_a_quotation():
    claims = read_claims().claims
    assert [key for key, claim in claims.items() if claim.paper] == list("abcdefghij")
    assert all(claims[key].paper.startswith('"') for key in "abcdefghij")


def test_a_difference_is_taken_in_each_replicate(ledger):
    claims = claims_of(GAMMA)
    fill(ledger, claims, {
        GAMMA.better[0]: [evaluated(top1=80.0), evaluated(top1=82.0)],
        GAMMA.worse[0]: [evaluated(top1=70.0), evaluated(top1=73.0)],
    })  # fmt: skip

    part = judge(claims, ledger)["claims"]["a"]["parts"][0]
    assert part["values"] == [10.0, 9.0]
    assert part["difference"]["value"] == 9.5
    assert part["commits"] == ["0badcafe"]


def test_several_rows_and_measures_count_by_their_mean(ledger):
    part = Part(
        label="", measure=["few", "medium"], beyond=["many"],
        better=["table6/5-shot s=0.5 gamma=0.5", "table6/5-shot s=0.5 gamma=0.3"],
        worse=GAMMA.worse,
    )  # fmt: skip
    claims = claims_of(part)
    fill(ledger, claims, {
        part.better[0]: [evaluated(few=50.0, medium=70.0, many=90.0)] * 2,  # -30
        part.better[1]: [evaluated(few=60.0, medium=80.0, many=80.0)] * 2,  # -10
        part.worse[0]: [evaluated(few=20.0, medium=40.0, many=90.0)] * 2,  # -60
    })  # fmt: skip

    assert judge(claims, ledger)["claims"]["a"]["parts"][0]["values"] == [40.0, 40.0]


def test_a_part_may_be_compared_with_nothing(ledger):
    part = Part(label="", better=["methods/Diff-Mix"], measure=["filter_gain"])
    claims = claims_of(part)
    fill(ledger, claims, {"methods/Diff-Mix": [judged("judge", 3.0), judged("judge", 5.0)]})

    assert judge(claims, ledger)["claims"]["a"]["parts"][0]["values"] == [3.0, 5.0]


def judged(measure: str, gain: float) -> dict:
    """Metrics of an experiment whose filter was measured so."""
    return {"assess": {"faithfulness": {"measure": measure, "filter_gain": gain}}}


def test_a_similarity_has_no_points_and_is_not_measurable(ledger):
    part = Part(label="", better=["methods/Diff-Mix"], measure=["filter_gain"])
    claims = claims_of(part)
    fill(ledger, claims, {"methods/Diff-Mix": [judged("clip similarity", 0.3)] * 2})

    assert judge(claims, ledger)["claims"]["a"]["verdict"] == "not measurable"


def test_what_lacks_one_replicate_is_missing(ledger):
    claims = claims_of(GAMMA)
    fill(ledger, claims, {
        GAMMA.better[0]: [evaluated(top1=80.0), evaluated(top1=82.0)],
        GAMMA.worse[0]: [evaluated(top1=70.0)],
    })  # fmt: skip

    content = judge(claims, ledger)
    claim = content["claims"]["a"]
    assert claim["verdict"] == "missing"
    assert "values" not in claim["parts"][0]
    assert "| top1 |  | missing (1 run) |" in render(content, "toybirds", "claims", SPENT)


def test_what_the_dataset_has_no_images_for_does_not_count(ledger):
    part = GAMMA.model_copy(update={"measure": ["waterbird_worst"]})
    claims = claims_of(GAMMA, part)
    fill(ledger, claims, {
        GAMMA.better[0]: [evaluated(top1=80.0), evaluated(top1=80.1)],
        GAMMA.worse[0]: [evaluated(top1=70.0), evaluated(top1=70.0)],
    })  # fmt: skip

    claim = judge(claims, ledger)["claims"]["a"]
    assert [each["verdict"] for each in claim["parts"]] == ["holds", "not measurable"]
    assert claim["verdict"] == "holds"
    assert tell_claim(claim) == "**holds** (1 of 2 comparisons measured)"

    alone = judge(claims_of(part), ledger)["claims"]["a"]
    assert alone["verdict"] == "not measurable"


def test_an_experiment_with_both_targets_serves_a_part_of_either(ledger):
    claims = claims_of(GAMMA)
    rows = find_cases(claims, PRESET)
    for row in rows.values():
        for case in replicates(row, 2):
            wider = case._replace(targets=("assess", "evaluate"))
            enter(ledger, wider, evaluated(top1=70.0) | {"assess": {}})

    assert judge(claims, ledger)["claims"]["a"]["verdict"] == "equivalent"


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({"measure": ["fewest"]}, "'fewest' is none of top1"),
        ({"beyond": ["fewest"]}, "'fewest' is none of top1"),
    ],
)
def test_a_misspelt_measure_is_refused_before_anything_runs(update, message):
    tree = claims_of(GAMMA).model_dump()
    tree["claims"]["a"]["parts"][0] |= update
    with pytest.raises(BadInput, match=message):
        parse(Claims, tree, "claims")


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({"measure": ["faithful"]}, "does not run assess"),
        ({"better": ["table6/5-shot"]}, "there is no row 'table6/5-shot'; write <table>/<row>"),
    ],
)
def test_a_row_that_cannot_serve_is_refused(update, message):
    with pytest.raises(BadInput, match=f"{CLAIMS_FILE}: .*{message}"):
        find_cases(claims_of(GAMMA.model_copy(update=update)), PRESET)


class Invented:
    """Evidence from values by measure, (replicates, rows)."""

    def __init__(self, rows: list[str], values: dict[str, np.ndarray]):
        self.columns = {row: number for number, row in enumerate(rows)}
        self.values = values
        self.count = len(values["top1"])

    def find(self, part: Part) -> Finding:
        difference = np.mean([self._mean(part, name) for name in part.measure], axis=0)
        if part.beyond:
            difference = difference - np.mean([self._mean(part, name) for name in part.beyond], 0)
        return Finding(list(difference), set())

    def _mean(self, part: Part, measure: str) -> np.ndarray:
        table = self.values[measure]
        mean = table[:, [self.columns[row] for row in part.better]].mean(1)
        if part.worse:
            mean = mean - table[:, [self.columns[row] for row in part.worse]].mean(1)
        return mean


def invent(random: np.random.Generator, rows: list[str]) -> Invented:
    """Methods that differ by points, seen in seven replicates that differ by about one."""
    values = {}
    for measure in MEASURES:
        effects = random.normal(0, 5, len(rows))
        shared = random.normal(0, 3, (7, 1))
        values[measure] = effects + shared + random.normal(0, 1, (7, len(rows)))
    values["filter_gain"] -= values["filter_gain"].mean()  # a difference already: without effect
    return Invented(rows, values)


def shuffle(random: np.random.Generator, evidence: Invented) -> Invented:
    """The same values under other methods' names, in each replicate anew."""
    shuffled = copy.copy(evidence)
    orders = np.stack([random.permutation(len(evidence.columns)) for _ in range(evidence.count)])
    shuffled.values = {
        measure: np.take_along_axis(table, orders, axis=1)
        for measure, table in evidence.values.items()
    }
    return shuffled


def families(claims: Claims, evidence: Invented) -> dict[str, dict[str, PValues]]:
    """The claims' p values, by family."""
    found: dict[str, dict[str, PValues]] = {}
    for key, claim in claims.claims.items():
        parts = [
            p_values_of_part(estimate(evidence.find(part).values), rule_of(part, claims))
            for part in claim.parts
        ]
        found.setdefault(family_of(claim), {})[key] = p_values_of_claim(parts)
    return found


def is_wrong(claims: Claims, family: dict[str, PValues]) -> bool:
    """Whether, without any effect, a claim fails, or one holds that is more than `not worse`."""
    for key, verdict in decide(family, claims.level, len(family)).items():
        lenient = all(part.kind == "not-worse" for part in claims.claims[key].parts)
        if verdict == "fails" or (verdict == "holds" and not lenient):
            return True
    return False


def test_shuffled_names_of_methods_decide_nothing():
    """In at least 95 % of sets of each family; where names are as they are, most decide much."""
    claims = read_claims()
    rows = list(find_cases(claims, PRESET))
    random = np.random.default_rng(0)
    sets = [invent(random, rows) for _ in range(400)]

    before = [families(claims, each) for each in sets[:100]]
    after = [families(claims, shuffle(random, each)) for each in sets]

    for family in FAMILIES:
        assert np.mean([is_wrong(claims, each[family]) for each in before]) > 0.9
        assert np.mean([is_wrong(claims, each[family]) for each in after]) <= 0.05


SPENT = Spent(2, 1.5, 1)


@pytest.fixture
def page(ledger) -> str:
    """The page of one claim with two parts."""
    lenient = GAMMA.model_copy(update={"kind": "not-worse", "beyond": ["few"]})
    claims = claims_of(GAMMA, lenient)
    fill(ledger, claims, {
        GAMMA.better[0]: [evaluated(top1=80.0, few=40.0), evaluated(top1=80.2, few=44.0)],
        GAMMA.worse[0]: [evaluated(top1=70.0, few=30.0), evaluated(top1=70.0, few=30.0)],
    })  # fmt: skip
    return render(judge(claims, ledger), "toybirds", "claims", SPENT)


def test_the_page_names_rows_differences_and_verdicts(page):
    rows = "table6/5-shot s=0.5 gamma=0.5 > table6/5-shot s=0.5 gamma=1.0"
    assert f"| a | {rows} | top1 | +10.10 [8.83, 11.37] | holds |" in page
    assert "| top1, beyond few (within 2) | -1.90 [-26.04, 22.24] | undecided (" in page
    assert "| a | it helps | it helps (Sec. 0) | " in page


def test_the_page_tells_the_p_of_each_verdict():
    p = {"equivalent": 0.00004, "fails": 1.0, "holds": 0.0004}
    assert tell_p({"p": p}) == ["0.0004", "1", "4e-05"]
    assert tell_p({}) == ["", "", ""], "a claim that lacks a replicate"


STANDING = GAMMA.model_dump() | {"verdict": "holds", "p_sign_flip": 0.0}


def flipped(replicates: int, claims: int, parts: list[dict]) -> dict:
    """A family of so many claims, of which one has these parts; and one that does not count."""
    claim = {"family": FAMILIES[0], "verdict": "undecided", "parts": []}
    others = {str(number): claim for number in range(1, claims)}
    unmeasured = {"none": claim | {"verdict": "not measurable"}}
    found = {"e": claim | {"parts": parts}} | others | unmeasured
    return {"replicates": replicates, "level": 0.05, "claims": found}


def test_what_stands_by_students_t_alone_is_named():
    parts = [
        GAMMA.model_dump() | {"verdict": "holds", "p_sign_flip": 0.0156},
        GAMMA.model_dump() | {"verdict": "holds", "p_sign_flip": 0.0625},
        GAMMA.model_dump() | {"verdict": "undecided", "p_sign_flip": 0.9},
    ]
    said = compare_with_flips(flipped(7, 10, parts))

    rows = "table6/5-shot s=0.5 gamma=0.5 > table6/5-shot s=0.5 gamma=1.0"
    assert f"for 1 of the 2 comparisons that hold or fail (not for e's {rows}, top1)" in said
    assert "In 7 replicates its p cannot be below 0.016" in said


@pytest.mark.parametrize(
    ("replicates", "claims", "least"),
    [(7, 10, "0.016"), (8, 10, "0.0078"), (7, 4, "0.016")],
)
def test_flips_are_too_few_where_their_least_p_is_above_holms_first_step(replicates, claims, least):
    """The step is 0.05 / 10 = 0.005 or 0.05 / 4 = 0.0125."""
    said = compare_with_flips(flipped(replicates, claims, [STANDING]))
    assert f"In {replicates} replicates its p cannot be below {least}, which is too much" in said
    assert said.endswith("a claim that holds takes Student's word for it.")


@pytest.mark.parametrize(
    ("replicates", "claims", "least"),
    [(9, 10, "0.0039"), (12, 10, "0.00049"), (7, 3, "0.016")],
)
def test_flips_suffice_where_their_least_p_passes_holms_first_step(replicates, claims, least):
    said = compare_with_flips(flipped(replicates, claims, [STANDING]))
    assert said.endswith(f"In {replicates} replicates its p cannot be below {least}.")


@pytest.mark.parametrize("replicates", [7, 12, 20])
def test_the_least_p_by_flips_is_that_of_replicates_that_agree(replicates):
    """Of 20 not all flips are looked at, so that it is 2 / 10,000."""
    values = [float(value) for value in range(1, replicates + 1)]
    assert sign_flip(values, 0.0) == pytest.approx(least_p(replicates))


def test_fewer_replicates_than_the_rules_ask_for_are_told():
    content = {"replicates": 4, "replicates_asked": 7}
    assert explain_replicates(content, "toybirds").endswith("The rules ask for 7 replicates.")
    assert "rules ask" not in explain_replicates(content | {"replicates": 7}, "toybirds")


def test_with_few_replicates_nothing_is_said_of_flips(page):
    assert "flips" not in page


def test_the_page_says_what_was_spent_and_by_which_code(page):
    assert "The paper's claims (1): undecided 1. Made by the code of commit 0badcafe." in page
    assert "2 experiments, 1.5 min for the 1 that were timed." in page
