"""The kit itself tested: seeded bugs are caught, legal variants raise no alarm. `make mutants` tries all the bugs."""

import json

import pytest

from refvit import exact, rules
from tests.kit_mutants import MUTANTS, __main__, legal
from tests.kit_mutants.campaign import Loaded, alarms, answers, first_wrong, tried
from tests.kit_mutants.plant import Mutant, at, planted, replaced

SAMPLE = MUTANTS[::32]


@pytest.fixture(scope="module")
def loaded(built_kit):
    return Loaded(built_kit)


@pytest.mark.parametrize("mutant", SAMPLE, ids=lambda mutant: mutant.place)
def test_a_sample_of_mutants_is_caught_at_its_operation(loaded, mutant):
    outcome = tried(loaded, mutant)
    assert outcome.caught and outcome.named, outcome


def test_legal_variants_raise_no_alarm(built_kit):
    found = alarms(built_kit)
    assert len(found) >= len(legal.EXACT) + len(legal.BOUNDED) and set(found.values()) == {None}, found


def test_variants_within_bounds_have_other_bits(built_kit):
    """So that their passing says something."""
    exactly = Loaded(built_kit, ("exact",))
    for place, function in legal.ALL.items():
        with replaced(place, function):
            assert first_wrong(exactly, answers(exactly)) is not None, place


def test_every_mutant_can_be_planted_and_is_taken_out_again():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 100
    for mutant in (*MUTANTS, *legal.EXACT.values(), *legal.PRODUCTS.values()):
        before = trace_of(mutant.place)
        with planted(mutant):
            assert trace_of(mutant.place) != before, mutant.name
        assert trace_of(mutant.place) == before, mutant.name


def trace_of(place):
    """What a function's code or a constant is."""
    _, found = at(place)
    return getattr(found, "__code__", repr(found))


def test_a_constant_is_replaced_wherever_it_was_imported():
    with planted(Mutant("rules:PROB_SCALE", "127.0", "1.0", "none")):
        holders = (rules.PROB_SCALE, at("engine:PROB_SCALE")[1], at("conformance.operations:PROB_SCALE")[1])
        assert holders == (1, 1, 1)
    assert rules.PROB_SCALE == at("engine:PROB_SCALE")[1] != 1


def test_an_edit_that_does_not_fit_is_an_error():
    for old in ("no such words", "partial"):
        with pytest.raises(ValueError, match="occurrences"):
            planted(Mutant("exact:sum16", old, "", "sum16"))
    assert exact.sum16.__code__.co_filename == exact.__file__


def test_the_campaign_says_what_it_found(monkeypatch, capsys):
    monkeypatch.setattr(__main__, "alarms", lambda path: {})
    monkeypatch.setattr("sys.argv", ["kit_mutants", "--json", "--only", "bell: 4 * 65535"])
    assert __main__.main() == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["mutants"], found["caught"], found["named"], found["alarms"]) == (1, 1, 1, {})
    assert found["rows"][0]["first"].startswith("seeded/")
    monkeypatch.setattr(__main__, "MUTANTS", [Mutant("exact:softmax", "e / sum16", "e  / sum16", "softmax")])
    monkeypatch.setattr("sys.argv", ["kit_mutants"])
    assert __main__.main() == 1 and "SURVIVED" in capsys.readouterr().out
