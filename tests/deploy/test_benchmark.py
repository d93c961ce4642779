"""The latency tables hold every file and every op; times themselves are nobody's promise."""

from keras_lightdet.deploy.benchmark import measure_latency, measure_ops


def test_files_take_turns_and_ratios_are_to_the_first(exported):
    paths = [exported("none")[0], exported("int8")[0]]
    table = measure_latency(paths, threads=(1, 2), rounds=5)
    assert [(one.threads, one.name) for one in table] == [(t, str(p)) for t in (1, 2) for p in paths]
    assert [one.ratio for one in table[::2]] == [1.0, 1.0]
    assert all(0 < one.p10 <= one.median for one in table)


def test_every_op_is_timed_alone(exported):
    for form in ("builtin", "custom_op"):
        path, report = exported("int8", form)
        table = measure_ops(path, rounds=2)
        assert {one.name: one.calls for one in table} == report.ops
        assert table == sorted(table, key=lambda one: -one.median)
