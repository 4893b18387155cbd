"""The rumqttd child: serve MQTT 5 on one loopback port until SIGTERM or SIGINT."""

import argparse
import logging
import signal
import tempfile

from iotcore import IotCoreBroker

# rumqttd keeps the last segments of every filter in memory, at most size x count for each; a
# subscriber that falls further behind than that loses messages.
CONFIGURATION = """\
id = 0

[router]
id = 0
max_connections = 10000
max_outgoing_packet_count = 200
max_segment_size = 4194304
max_segment_count = 8

[v5.1]
name = "v5"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 0

[v5.1.connections]
connection_timeout_ms = 5000
max_payload_size = 4194304
max_inflight_count = 500
"""


def main() -> None:
    """Listen, then wait for a signal; raises OSError when the port is taken."""
    parser = argparse.ArgumentParser(description="Serve MQTT 5 on 127.0.0.1.")
    parser.add_argument("--port", type=int, required=True)
    port: int = parser.parse_args().port
    # rumqttd reports each packet it routes as an error; only what kills it is of interest.
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("rumqttd").setLevel(logging.CRITICAL)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(CONFIGURATION.format(port=port))
        file.flush()
        engine = IotCoreBroker(config_path=file.name)
    engine.start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
