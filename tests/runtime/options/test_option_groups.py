"""All options that there are: named once, and what they name is there."""

from collections import Counter

import pytest

from pleinair.runtime import schedulers
from pleinair.runtime.denoise import feature_cache
from pleinair.runtime.families import FAMILIES, GROUPS
from pleinair.runtime.options import groups
from pleinair.runtime.options.groups import CALL, Opening
from pleinair.runtime.options.option import Option, declared
from pleinair.runtime.speed.profiles import AUTO, PROFILES

EVERY = tuple(dict.fromkeys((*GROUPS, Opening)))
OPTIONS = [(group, one) for group in EVERY for one in declared(group).values()]
each_option = pytest.mark.parametrize(
    "one", [one for _, one in OPTIONS], ids=[one.name for _, one in OPTIONS]
)


def test_no_two_options_share_a_name_or_a_flag() -> None:
    names = Counter(name for group in EVERY for name in declared(group))
    flags = Counter(
        flag for group in EVERY for one in declared(group).values() for flag in one.flags
    )
    assert [name for name, count in [*names.items(), *flags.items()] if count > 1] == []


def test_a_call_has_the_common_groups_and_those_of_families() -> None:
    assert GROUPS[: len(CALL)] == CALL
    assert set(GROUPS[len(CALL) :]) == {family.options for family in FAMILIES}


@each_option
def test_a_default_is_a_choice_or_none(one: Option) -> None:
    if one.choices is not None:
        assert one.default in (None, *one.choices())
        assert len(set(one.choices())) == len(one.choices()) > 1
    if one.default is not None:
        assert isinstance(one.default, one.type)


@each_option
def test_an_option_has_help_in_one_sentence(one: Option) -> None:
    assert one.help
    assert not one.help.endswith(".")
    assert all(flag.startswith("-") for flag in one.flags)
    assert one.metavar or one.type is bool or not one.flags


@pytest.mark.parametrize("group", EVERY, ids=lambda group: group.__name__)
def test_every_group_stands_without_arguments(group: type) -> None:
    made = group()
    assert vars(made) == {name: one.default for name, one in declared(group).items()}
    assert group.__doc__


def test_choices_are_what_there_is() -> None:
    assert tuple(feature_cache.SCHEDULES) == groups.CACHE_SCHEDULES
    assert tuple(PROFILES) == groups.PROFILES
    assert AUTO not in PROFILES
    assert declared(groups.Sampling)["scheduler"].choices() == schedulers.names()
