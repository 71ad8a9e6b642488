"""What the gateway says of itself to those who watch it."""

from gateway.health import Health


def test_alarms_of_nodes_never_crowd_out_the_gateways_own():
    health = Health(lambda: 7.0)
    for n in range(1000):
        health.alarm("GWY-22", "clinic-17", f"stream-{n}")
    health.alarm("GWY-14")
    assert [(alarm.code, alarm.since) for alarm in health.alarms()] == [("GWY-14", 7.0)]
    assert b'wasl_gateway_alarms_total{code="GWY-22"} 1000.0' in health.metrics()
