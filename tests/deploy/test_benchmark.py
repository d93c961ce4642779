"""The latency tables contain every file and every operator; the times themselves are not tested."""

from keras_lightdet.deploy.benchmark import measure_latency, measure_ops


def test_files_take_turns_and_ratios_are_to_the_first(exported):
    paths = [exported("none")[0], exported("int8")[0]]
    table = measure_latency(paths, threads=(1, 2), rounds=5)
    assert [(latency.threads, latency.name) for latency in table] == [(t, str(p)) for t in (1, 2) for p in paths]
    assert [latency.ratio for latency in table[::2]] == [1.0, 1.0]
    assert all(0 < latency.p10 <= latency.median for latency in table)


def test_every_op_is_timed_alone(exported):
    for form in ("builtin", "custom_op"):
        path, report = exported("int8", form)
        table = measure_ops(path, rounds=2)
        assert {latency.name: latency.calls for latency in table} == report.ops
        assert table == sorted(table, key=lambda latency: -latency.median)
