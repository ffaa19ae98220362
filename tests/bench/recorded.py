"""What `compare` and `scale` make of readings that were recorded once. Run by the suite `comparison`."""
import importlib.machinery
import importlib.util
import socket
import sys
import threading
import types
import unittest
import xml.etree.ElementTree
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))


def load(name):
    loader = importlib.machinery.SourceFileLoader(name, str(FOLDER / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


compare, scale = load("compare"), load("scale")
import common

BROKERS = (types.SimpleNamespace(product="Leveret", version="0.1.0"),
           types.SimpleNamespace(product="Rabbit & Sons", version="4.3.0"))
ROWS = [
    {"name": "transient 16 B", "unit": "/s", "more_is_better": True,
     "readings": [[3_100_000, 2_900_000, 3_000_000], [200_000, 210_000, 190_000]]},
    {"name": "transient 16 B: CPU", "unit": "s a million", "more_is_better": False,
     "readings": [[0.125, 0.12, 0.13], [10.0, 9.0, 11.0]]},
    {"name": "p99 < 1 ms", "unit": "µs", "more_is_better": False, "readings": [[400.0], [100.0]]},
    {"name": "memory of one of 500 idle connections", "unit": "bytes", "more_is_better": False,
     "readings": [[0], [100_000]]},
]


def texts(picture):
    """All texts of a picture, which is well-formed."""
    root = xml.etree.ElementTree.fromstring(picture)
    return ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]


class Comparison(unittest.TestCase):
    def test_a_ratio_is_of_medians_and_turned_round_where_less_is_better(self):
        self.assertEqual([compare.ratio(row) for row in ROWS], [15.0, 80.0, 0.25, None])

    def test_the_table_has_medians_ratio_and_spread(self):
        options = types.SimpleNamespace(rounds=3, seconds=4.0)
        lines = compare.table(ROWS, BROKERS, options, (0.125, 5.0)).splitlines()
        self.assertIn("Leveret 0.1.0 and Rabbit & Sons 4.3.0, ", lines[0])
        self.assertIn("Medians of 3 rounds in turn, 4 s each", lines[1])
        self.assertEqual(lines[5:], [
            "| transient 16 B (/s) | 3,000,000 | 200,000 | 15.0 | 2,900,000 to 3,100,000 |",
            "| transient 16 B: CPU (s a million) | 0.12 | 10.00 | 80.0 | 0.12 to 0.13 |",
            "| p99 < 1 ms (µs) | 400 | 100 | 0.2 | 400 to 400 |",
            "| memory of one of 500 idle connections (bytes) | 0 | 100,000 | - | 0 to 0 |",
            "| start until the first client is answered (s) | 0.12 | 5.00 | 40.0 | |",
        ])
        self.assertNotIn("start to", compare.table(ROWS, BROKERS, options, (0.125, None)))

    def test_the_picture_has_a_bar_for_each_ratio(self):
        found = texts(compare.picture(ROWS, BROKERS))
        self.assertEqual(found, ["Leveret 0.1.0: times better than Rabbit & Sons 4.3.0",
                                 "transient 16 B", "15.0", "p99 < 1 ms", "0.2"])
        self.assertEqual(len(texts(compare.picture([], BROKERS))), 1)

    def test_no_load_is_named_twice(self):
        names = compare.everything()
        self.assertEqual(len(names), len(set(names)))


class Scale(unittest.TestCase):
    CURVES = [
        {"name": "queues: to declare one", "unit": "µs", "points": [(1_000, 10.004), (10_000, 0.0)]},
        {"name": "queues: memory of one", "unit": "bytes", "points": [(100, 2_294.4), (1_000, 2_204.0)]},
    ]

    def test_the_table_leaves_open_what_was_not_measured(self):
        self.assertEqual(scale.table(self.CURVES).splitlines(), [
            "| | 100 | 1,000 | 10,000 |",
            "|---|---|---|---|",
            "| queues: to declare one (µs) |  | 10.00 | 0.00 |",
            "| queues: memory of one (bytes) | 2,294 | 2,204 |  |",
        ])

    def test_the_picture_leaves_out_what_has_no_logarithm(self):
        picture = scale.picture(self.CURVES)
        self.assertEqual(texts(picture).count("1000"), 2 + 2, "two steps, and a line of each scale")
        self.assertEqual(picture.count("<circle"), 3)
        nothing = [{"name": "a < b", "unit": "µs", "points": [(10, 0.0)]}]
        self.assertEqual(texts(scale.picture(nothing)), ["a < b (µs)"])

    def test_steps_are_of_ten_and_end_where_they_should(self):
        self.assertEqual(list(scale.steps(10, 100_000, 1_000)), [10, 100, 1_000])
        self.assertEqual(list(scale.steps(1_000, 10_000, 100)), [])

    def test_a_rate_in_all_is_parted_among_connections(self):
        self.assertEqual(scale.told("-p COUNT -r EACH", 100), ["-p", "100", "-r", "200"])
        self.assertEqual(scale.told("-p COUNT -r EACH", 1_000_000), ["-p", "1000000", "-r", "1"])


class Figures(unittest.TestCase):
    def test_a_figure_is_a_number_or_it_is_said_that_there_is_none(self):
        report = {"latency_us": {"p50": 41.5}, "refused": 0, "is": True, "text": "12"}
        self.assertEqual(common.figure(report, "latency_us", "p50"), 41.5)
        self.assertEqual(common.figure(report, "refused"), 0)
        for names in [("p50",), ("latency_us",), ("latency_us", "p99"), ("is",), ("text",), ("refused", "p50")]:
            with self.assertRaisesRegex(common.Failure, "no figure '" + ".".join(names)):
                common.figure(report, *names)


class Starting(unittest.TestCase):
    def test_a_broker_that_takes_connections_and_says_nothing_does_not_serve_yet(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = f"127.0.0.1:{listener.getsockname()[1]}"
            # The system takes the connection; nobody answers within that time.
            self.assertFalse(common.answers(address, 0.2))

            def serve():
                # The one before still waits to be taken.
                for _ in range(2):
                    stream, _ = listener.accept()
                    with stream:
                        if stream.recv(len(common.PROTOCOL_HEADER)) == common.PROTOCOL_HEADER:
                            stream.sendall(b"\x01")

            server = threading.Thread(target=serve)
            server.start()
            self.assertTrue(common.answers(address, 60))
            server.join()
        self.assertFalse(common.answers(address, 60), "nobody listens")


if __name__ == "__main__":
    unittest.main()
