"""Facts of the machine, as the head of a table has them."""

from pleinair.bench import machine


def test_head_of_a_table_names_what_was_measured() -> None:
    from importlib.metadata import version

    assert f"openvino {version('openvino')}" in machine.sentence(machine.facts())
