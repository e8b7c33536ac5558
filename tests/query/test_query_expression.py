import numpy as np
import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st

from pyloric_db.errors import QueryError
from pyloric_db.query import database
from pyloric_db.query.expression import to_sql

MANIFEST = synthetic.make_manifest()
NAMES = [c.name for c in MANIFEST.columns]


@pytest.fixture(scope="module")
def db(pristine):
    return database.open(pristine[0])


@pytest.fixture(scope="module")
def table():
    return synthetic.expected(MANIFEST)


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("pyloric", lambda t: t["pyloric"]),
        ("not pyloric", lambda t: ~t["pyloric"]),
        ("pyloric == True", lambda t: t["pyloric"]),
        ("True", lambda t: np.ones(48, bool)),
        ("gsyn_ab_lp_nS == 0.1", lambda t: t["gsyn_ab_lp_nS"] == np.float32(0.1)),
        ("gsyn_lp_py_nS == 2", lambda t: np.zeros(48, bool)),  # no level of the grid
        ("gsyn_ab_lp_nS in [0.1, 3]", lambda t: np.isin(t["gsyn_ab_lp_index"], [1, 2])),
        ("gsyn_ab_lp_nS not in (0.1, 3)", lambda t: np.isin(t["gsyn_ab_lp_index"], [0, 3])),
        ("700 < period_ms <= 1400", lambda t: (t["period_ms"] > 700) & (t["period_ms"] <= 1400)),
        ("(abpd == 1) & ~(lp == 2) | pyloric",
         lambda t: ((t["abpd"] == 1) & (t["lp"] != 2)) | t["pyloric"]),
        ("isnull(period_ms)", lambda t: np.isnan(t["period_ms"])),
        ("not (period_ms > 1000)", lambda t: t["period_ms"] <= 1000),
        ("period_ms != 3", lambda t: ~np.isnan(t["period_ms"])),
        ("period_ms > 1e300", lambda t: np.zeros(48, bool)),
        ("-period_ms < -1e300 / 2", lambda t: np.zeros(48, bool)),
        ("activity_lp == 'bursting'", lambda t: t["activity_lp"] == "bursting"),
        ("activity_lp != activity_py",
         lambda t: (t["activity_lp"] != t["activity_py"]) & (t["activity_lp"] != "")
         & (t["activity_py"] != "")),
        ("lp == 'LP 3'", lambda t: t["lp"] == 2),
        ("'LP 3' != lp", lambda t: t["lp"] != 2),
        ("lp not in ['LP 3', 'LP 1']", lambda t: t["lp"] == 1),
        ("netcode == 'circuit 7'", lambda t: t["circuit_id"] == 7),
        ("netcode == \"it's; drop view circuits --\"", lambda t: np.zeros(48, bool)),
        ("gsyn_ab_lp_nS * 3 == 0.3",
         lambda t: t["gsyn_ab_lp_nS"] * np.float32(3) == np.float32(0.3)),
        ("gsyn_ab_lp_nS + abpd == 0.1",
         lambda t: t["gsyn_ab_lp_nS"].astype(float) + t["abpd"] == 0.1),
        ("abpd * 250 + lp * 250 > 600", lambda t: t["abpd"] * 250.0 + t["lp"] * 250.0 > 600),
        ("circuit_id - 40 < -35", lambda t: t["circuit_id"] < 5),
        ("circuit_id / 2 == 3.5", lambda t: t["circuit_id"] == 7),
        ("period_ms > 600 + 500", lambda t: t["period_ms"] > 1100),
        ("period_ms > 1600 - 500", lambda t: t["period_ms"] > 1100),
        ("period_ms > 2 * 550", lambda t: t["period_ms"] > 1100),
        ("period_ms > 2200 / 2", lambda t: t["period_ms"] > 1100),
        ("lp == 3 - 2", lambda t: t["lp"] == 1),
        ("1 / abpd >= 1", lambda t: t["abpd"] == 1),
        ("0 / abpd == 0", lambda t: t["abpd"] == 1),
        (" \n  pyloric  ", lambda t: t["pyloric"]),
        ("(pyloric\n and triphasic)", lambda t: t["pyloric"] & t["triphasic"]),
    ],
)  # fmt: skip
def test_expression_selects_as_numpy_does(db, table, text, mask):
    assert db.query(text).circuit_id.values.tolist() == np.flatnonzero(mask(table)).tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("perid_ms > 3", "unknown column 'perid_ms'; did you mean 'period_ms'.*51 columns"),
        ("zzzzzz > 3", r"unknown column 'zzzzzz'; the table has"),
        ("Pyloric", "unknown column 'Pyloric'; did you mean 'pyloric'"),
        ("period > 3", "unknown column 'period'; did you mean 'period_ms'"),
        ("activity_lp == bursting", "unknown column 'bursting': text stands in quotes"),
        ("", "empty"),
        ("   ", "empty"),
        ("pyloric and " * 6 + "$", r"the query '(pyloric and ){4}pyloric a\.\.\.' is not"),
        ("period_ms >", "not an expression at its end: allowed are columns"),
        ("period_ms = 3", "not an expression at '= 3': equal is written =="),
        ("(pyloric\n) AND lp", "at 'AND lp': and, or, not"),
        ("netcode <> 'a'", "at \"<> 'a'\": unequal is written !="),
        ("pyloric\nand triphasic", r"at 'and triphasic': several lines .* in parentheses$"),
        ("lp ==\r\n 2", "several lines stand together in parentheses$"),
        ("pyloric\ntriphasic", "at 'triphasic': allowed are"),
        ("netcode == 'a\nb'", "allowed are"),
        ("lp == 2) or (lp == 1", r"unmatched '\)'"),
        ("pyloric AND triphasic", "at 'AND triphasic': and, or, not and in are written out"),
        ("pyloric && triphasic", "at '& triphasic': and, or, not and in are written out"),
        ("!pyloric", "at '!pyloric': and, or, not and in are written out"),
        ("period_ms IS NULL", r"at 'IS NULL': null is asked for with isnull\("),
        ("period_ms is null", r"null is asked for with isnull\("),
        ("period_ms == null", r"write isnull\("),
        ("netcode == 0042334112", "at '0042334112': .*a netcode is text, in quotes"),
        ("netcode == 42334112", "cannot be compared with 42334112.0: text stands in quotes"),
        ("netcode == '= AND &&' 3", "at .*: allowed are columns"),
        ("lp == 'LP 4'", r"lp is never 'LP 4'.*; its cells are LP 1 \(0\), LP 2 \(1\), LP 3 \(2\)"),
        ("lp in ['LP 1', 'LP 4']", "lp is never 'LP 4'"),
        ("lp == 3", r"lp is never 3; its cells are LP 1 \(0\), LP 2 \(1\), LP 3 \(2\)$"),
        ("lp in [0, 3]", "lp is never 3; its cells"),
        ("-1 != lp", "lp is never -1; its cells"),
        ("lp == 0.5", "lp is never 0.5; its cells"),
        (
            "gbar_lp_Na > 10",
            "'gbar_lp_Na': this grid has its cells by name, as in lp == 'LP 3', "
            r"and db\.parameters\(ids\) has their gbar$",
        ),
        ("gbar_py_Na > 10", "unknown column 'gbar_py_Na'"),
        ("circuit_id in range(3)", r"may not call 'range\(3\)': .* as 0 <= circuit_id < 3$"),
        ("circuit_id in 'abc'", "'in' needs a list"),
        ("lp > 'LP 1'", "lp cannot be compared with 'LP 1' but by == and !=: cells have no order"),
        ("period_ms > 3; pyloric", "not an expression"),
        ("period_ms", "must be a condition, but is a number"),
        ("'a'", "must be a condition, but is text"),
        ("3", "must be a condition"),
        ("period_ms > 'a'", "period_ms cannot be compared with 'a'"),
        ("pyloric > 1", "pyloric cannot be compared with 1.0"),
        ("pyloric < triphasic", "with == and != only"),
        ("activity_lp > 'a'", "with == and != only"),
        ("activity_lp == 'burst'", "never 'burst'; did you mean 'bursting'"),
        ("'fine' == status", "never 'fine'.*; it is one of ok"),
        ("activity_lp in ['tonic', 'no']", "never 'no'"),
        ("lp in []", "not empty"),
        ("lp in 3", "needs a list"),
        ("lp in [abpd]", "numbers and text only"),
        ("1 < lp in [3]", "cannot be chained"),
        ("period_ms > 1 & pyloric", "put comparisons in parentheses"),
        ("pyloric + 1 > 2", r"\+ needs numbers, not pyloric"),
        ("-pyloric", "need a number"),
        ("not period_ms", "period_ms is a number"),
        ("period_ms == None", r"write isnull"),
        ("period_ms is None", "may not contain"),
        ("period_ms ** 2 > 1", "may not contain"),
        ("period_ms // 2 > 1", "may not contain"),
        ("period_ms > 1j", "may not contain"),
        ("period_ms > b'1'", "may not contain"),
        ("period_ms > 1/0", "divides by zero"),
        ("period_ms > 1e999", "too large"),
        ("period_ms > 1" + "0" * 400, "too large"),
        ("period_ms > 1" + "0" * 5000, "not an expression|cannot be read"),
        ("period_ms.__class__ == 3", "may not contain"),
        ("__import__('os').system('true')", "may not contain"),
        ("isnull(period_ms, 2)", "may not contain"),
        ("isnull(*[period_ms])", "may not contain"),
        ("isnull(x=period_ms)", "may not contain"),
        ("period_ms[0] > 3", "may not contain"),
        ("(lambda: pyloric)()", "may not contain"),
        ("[c for c in pyloric]", "may not contain"),
        ("f'{pyloric}' == 'a'", "may not contain"),
        ("(pyloric := True)", "may not contain"),
        ("await pyloric", "may not contain"),
        ("netcode == 'a\\0b'", "NUL"),
        ("netcode == '\\ud800'", "surrogate"),
        ("pyloric\0", "not an expression|cannot be read"),
        ("(" * 300 + "pyloric" + ")" * 300, "not an expression|cannot be read"),
        ("not " * 2000 + "pyloric", "nested"),
        ("period_ms > " + "-" * 5000 + "1", "nested|cannot be read|not an expression"),
        ("period_ms" + " + 1" * 2000 + " > 3", "nested"),
        ("x" * 10_001, "at most 10,000 characters"),
    ],
)
def test_everything_else_is_one_sentence(text, message):
    with pytest.raises(QueryError, match=message) as caught:
        to_sql(text, MANIFEST)
    assert "\n" not in str(caught.value)


def test_a_backslash_in_text_is_no_warning(db):
    assert db.count(r"netcode == '\d'") == 0


def test_text_only():
    with pytest.raises(QueryError, match="must be text, not int"):
        to_sql(3, MANIFEST)


tokens = st.sampled_from(
    [*NAMES[:9], "activity_lp", "pyloric", "and", "or", "not", "in", "is", "(", ")", "[", "]", ",",
     "<", "==", "!=", ">=", "+", "-", "*", "/", "**", "&", "|", "~", "1", "0.1", "'tonic'", "None",
     "True", "lambda", ":", ".", "isnull", "if", "else", ";", "--", "/*", "\"", "'", "\\", "\0"]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(tokens, max_size=14).map(" ".join)))
def test_garbage_gives_a_query_error_or_nothing(text):
    try:
        assert isinstance(to_sql(text, MANIFEST), str)
    except QueryError as err:
        assert str(err)


FLOATS = ["period_ms", "gsyn_ab_lp_nS", "v_max_lp_mV", "duty_cycle_py"]
WHOLES = ["gsyn_ab_lp_index", "circuit_id", "n_criteria_met"]
literals = st.one_of(
    st.integers(-2000, 2000), st.sampled_from([0.1, 0.3, 1e-40, 3.3e38, 30.0, 1004.5, -61.25])
)
OPERATORS = {
    "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal,
    "==": np.equal, "!=": np.not_equal,
}  # fmt: skip


@st.composite
def comparisons(draw):
    """Text of a comparison, and a function from the table to its mask."""
    name = draw(st.sampled_from(FLOATS + WHOLES))
    operator = draw(st.sampled_from(sorted(OPERATORS)))
    literal = draw(literals)
    sign = draw(st.sampled_from(["", "+", "-", "*"]))
    term = draw(st.integers(1, 50)) if sign else 0

    def mask(table):
        column = table[name].astype(np.float32 if name in FLOATS else np.float64)
        change = {"+": np.add, "-": np.subtract, "*": np.multiply}
        left = change[sign](column, column.dtype.type(term)) if sign else column
        right = column.dtype.type(literal)
        return OPERATORS[operator](left, right) & ~np.isnan(column), ~np.isnan(column)

    return f"{name} {sign} {term if sign else ''} {operator} {literal}", mask


def combine(children):
    def both(word, rule):
        def joined(pair):
            (a, f), (b, g) = pair
            return f"({a} {word} {b})", lambda t: rule(*f(t), *g(t))

        return st.tuples(children, children).map(joined)

    def no(child):
        text, f = child
        return f"not ({text})", lambda t: (f(t)[1] & ~f(t)[0], f(t)[1])

    return st.one_of(
        both("and", lambda a, ka, b, kb: (a & b, (ka & kb) | (ka & ~a) | (kb & ~b))),
        both("or", lambda a, ka, b, kb: (a | b, (ka & kb) | a | b)),
        children.map(no),
    )


@settings(max_examples=150, deadline=None)
@given(st.recursive(comparisons(), combine, max_leaves=5))
def test_random_conditions_agree_with_numpy(db, table, case):
    text, mask = case
    selected, _ = mask(table)
    found = db.query(text, columns=["circuit_id"]).circuit_id.values
    assert found.tolist() == np.flatnonzero(selected).tolist()


def test_columns_order_and_limit(db, table):
    found = db.query("not isnull(period_ms)", columns="period_ms", order_by="-period_ms", limit=5)
    assert list(found.data_vars) == ["period_ms"] and found.sizes["circuit"] == 5
    known = table["period_ms"][~np.isnan(table["period_ms"])]
    assert found.period_ms.values.tolist() == sorted(known)[:-6:-1]
    found = db.query("True", order_by=["lp", "-abpd", "period_ms"])
    keys = list(zip(found.lp.values, -found.abpd.values.astype(int), strict=True))
    assert keys == sorted(keys)
    assert np.isnan(db.query("True", order_by="-period_ms").period_ms.values[-1])
    ids = db.query("pyloric_like").circuit_id.values
    assert (np.diff(ids) > 0).all()
    assert db.query("pyloric", limit=0).sizes["circuit"] == 0
    whole = db.query("True")
    for column in MANIFEST.columns:
        assert whole[column.name].dtype == db.circuits[column.name].dtype
        assert whole[column.name].attrs == db.circuits[column.name].attrs
        assert whole[column.name].to_numpy().tolist() == pytest.approx(
            db.circuits[column.name].to_numpy().tolist(), nan_ok=True
        )


@pytest.mark.parametrize(
    "arguments",
    [
        {"columns": ["nothing"]},
        {"order_by": "nothing"},
        {"order_by": [5]},
        {"order_by": "period_ms; drop view circuits"},
        {"columns": ["*"]},
        {"limit": -1},
        {"limit": "3"},
        {"limit": True},
    ],
)
def test_bad_arguments(db, arguments):
    with pytest.raises(QueryError):
        db.query("pyloric", **arguments)
