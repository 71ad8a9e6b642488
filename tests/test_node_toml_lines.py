"""Lines of keys: whatever stands in values and comments, a key is found where it stands."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from node.config.toml_lines import read_lines

VALUES = st.sampled_from(
    [
        "1",
        '"a = 1 # no comment"',
        "'[x]'",
        '"""\n[x]\na = 1\n"""',
        "'''\n[x]\n''''",
        '"""quote \\""" " \n"""""',
        "[1, # ]\n 2,\n]",
        "[\n# a = 1\n]",
        '{ a = 1, "b]" = [\n1\n] }',
        "1979-05-27T07:32:00Z",
        '"\\"\\\\"',
        "true # [y]",
    ]
)
FILLERS = st.sampled_from(["", "\n", "# [c]\n", "  \n\t# a = '\n"])
KEYS = st.sampled_from(["{0}", '"{0}"', "'{0}'", "x{0} . y", ' "a.{0}"."="'])


@given(
    st.lists(
        st.tuples(FILLERS, KEYS, VALUES, st.sampled_from(["", "[t{0}]", "[[array]]", '[ t{0} . "s" ]'])), max_size=8
    )
)
def test_every_key_is_found_on_the_line_where_it_stands(entries):
    text, expected, elements, table = "", [], -1, ()
    for number, (filler, key, value, header) in enumerate(entries):
        text += filler
        if header:
            elements += header == "[[array]]"
            table = {
                "[t{0}]": (f"t{number}",),
                "[[array]]": ("array", elements),
                '[ t{0} . "s" ]': (f"t{number}", "s"),
            }[header]
            text += header.format(number) + "\n"
        place = {
            "x{0} . y": (f"x{number}", "y"),
            ' "a.{0}"."="': (f"a.{number}", "="),
        }.get(key, (str(number),))
        expected.append(((*table, *place), text.count("\n") + 1))
        text += f"{key.format(number)} = {value}\n"
    tomllib.loads(text)
    lines = read_lines(text)
    assert [(place, lines.find(place)) for place, _ in expected] == expected


def test_tables_inside_an_array_belong_to_its_last_element():
    lines = read_lines("[[a]]\n[a.b]\nc = 1\n[[a]]\n[a.b]\nc = 1\n[[a.d]]\n[[a.d]]\ne = 1")
    assert lines.find(("a", 0, "b", "c")) == 3
    assert lines.find(("a", 1, "b", "c")) == 6
    assert lines.find(("a", 1, "d", 1, "e")) == 9


def test_an_absent_key_has_the_line_of_its_table():
    lines = read_lines("\n[a]\nb = 1\n")
    assert lines.find(("a", "c", "d")) == 2
    assert lines.find(("z",)) == 1
