"""The dashboard and the alert rules, in a real Prometheus that scrapes a real server.

Every expression of `docs/ops/grafana.json` and `docs/ops/alerts.yml` must be valid and return data: what they
name must be on the page. Of a rule's comparison the left side is asked for, because a healthy server does not alert.

    python prometheus.py PROMETHEUS PROMTOOL
"""

import json
import re
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.parse
import urllib.request
from pathlib import Path

import yaml

import served

OPS = served.ROOT / "docs" / "ops"
PROMETHEUS, PROMTOOL = sys.argv[1:3] if len(sys.argv) >= 3 else ("prometheus", "promtool")
# Scrapes that must have succeeded before expressions are asked: rates need two in their window.
SCRAPES = 15
# What a panel's variables stand for: the shortest window that holds several scrapes.
VARIABLES = {"$__rate_interval": "10s", "$__range": "1m", "$job": "mprec", "$instance": ".*"}


def free_port():
    # Prometheus takes no port 0 and tells nobody which it took; between here and there the port may be lost.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def panels(board):
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", [])


def dashboard_expressions():
    board = json.loads((OPS / "grafana.json").read_text())
    for panel in panels(board):
        for target in panel.get("targets", []):
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            yield f"panel {panel['title']!r}, {target['refId']}", expression


def rules():
    for group in yaml.safe_load((OPS / "alerts.yml").read_text())["groups"]:
        yield from group["rules"]


def compared(expression):
    """The parts of an expression on the left of its comparisons, which `and` or `or` join."""
    for part in re.split(r"\band\b|\bor\b|\bunless\b", expression):
        left = re.split(r"\s(?:>=|<=|==|!=|>|<)\s", part)[0].strip()
        left = re.sub(r"^(?:on|ignoring)\s*\([^)]*\)\s*", "", left)
        # Brackets around a whole comparison are open on its left.
        while left.count("(") > left.count(")") and left.startswith("("):
            left = left[1:].strip()
        if left:
            yield left


class Prometheus:
    """A Prometheus that scrapes one address each second, with the alert rules loaded."""

    def __init__(self, folder, target):
        self.port = free_port()
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(OPS / "alerts.yml")],
            "scrape_configs": [{"job_name": "mprec", "static_configs": [{"targets": [target]}]}],
        }
        file = Path(folder) / "prometheus.yml"
        file.write_text(yaml.safe_dump(config))
        self.log = open(Path(folder) / "prometheus.log", "w+")
        self.process = subprocess.Popen(
            [PROMETHEUS, f"--config.file={file}", f"--storage.tsdb.path={folder}/tsdb",
             f"--web.listen-address=127.0.0.1:{self.port}"],
            stdout=self.log, stderr=subprocess.STDOUT,
        )

    def ask(self, path, **parameters):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                return json.load(reply)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {json.load(error).get('error')}") from None

    def query(self, expression):
        return self.ask("query", query=expression)["result"]

    def await_scrapes(self, count, seconds=60):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.process.poll() is not None:
                self.log.seek(0)
                raise AssertionError(f"prometheus ended: {self.log.read()[-2000:]}")
            try:
                found = self.query(f"sum_over_time(up[{seconds}s])")
            except OSError:
                found = []
            if found and float(found[0]["value"][1]) >= count:
                return
            time.sleep(0.5)
        raise AssertionError(f"fewer than {count} scrapes in {seconds} s")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Watched(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        served.train(folder)
        started = cls.enterClassContext(served.server(
            folder, "--paths", "table@cpu,dhe@cpu", "--cache", "65536", "--record", "decisions.log", "--sla-ms", "50"))
        cls.started = started
        cls.enterClassContext(served.load(started["url"], 120))
        cls.prometheus = Prometheus(folder, started["metrics_url"].removeprefix("http://"))
        cls.addClassCleanup(cls.prometheus.stop)
        cls.prometheus.await_scrapes(3)
        # What rates show must happen while it is watched.
        status, reply = served.infer(started["url"], started["model"], min_quality=1.0)
        assert (status, reply["code"]) == (422, "quality_unreachable"), reply
        cls.prometheus.await_scrapes(SCRAPES)

    def test_the_rules_are_valid(self):
        done = subprocess.run([PROMTOOL, "check", "rules", OPS / "alerts.yml"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_the_page_is_as_the_format_wants_it(self):
        with urllib.request.urlopen(f"{self.started['url']}/metrics", timeout=10) as reply:
            page = reply.read()
        done = subprocess.run([PROMTOOL, "check", "metrics"], input=page, capture_output=True)
        # Triton's names, which are not ours to choose, break the rules of naming; nothing else may.
        complaints = [line for line in (done.stdout + done.stderr).decode().splitlines() if not line.startswith("nv_")]
        self.assertEqual(complaints, [])

    def test_every_panel_has_data(self):
        expressions = list(dashboard_expressions())
        self.assertGreater(len(expressions), 20)
        for where, expression in expressions:
            with self.subTest(where):
                found = [sample["value"][1] for sample in self.prometheus.query(expression)]
                # A path that answered nothing has no quantile; some path has.
                self.assertTrue([value for value in found if value != "NaN"], f"{expression}: {found}")

    def test_every_rule_is_loaded_and_has_data(self):
        groups = self.prometheus.ask("rules")["groups"]
        loaded = {rule["name"]: rule for group in groups for rule in group["rules"]}
        for rule in rules():
            name = rule.get("alert") or rule["record"]
            with self.subTest(name):
                self.assertEqual(loaded[name]["health"], "ok", loaded[name].get("lastError"))
                for part in [rule["expr"]] if "record" in rule else compared(rule["expr"]):
                    self.assertTrue(self.prometheus.query(part), part)

    def test_a_refusal_is_counted_and_a_healthy_server_pages_nobody(self):
        refused = self.prometheus.query('mprec_queries_refused_total{reason="quality"}')
        self.assertEqual(refused[0]["value"][1], "1")
        failed = self.prometheus.query('nv_inference_request_failure{reason="REJECTED"} >= 1')
        self.assertEqual(failed[0]["metric"]["model"], self.started["model"])
        firing = [alert for alert in self.prometheus.ask("alerts")["alerts"] if alert["state"] == "firing"]
        self.assertEqual([alert["labels"]["alertname"] for alert in firing], [])


class Compared(unittest.TestCase):
    def test_the_left_sides_are_found(self):
        cases = {
            "up == 0": ["up"],
            "(a / b > 0.5 and c > 1)": ["a / b", "c"],
            "sum(rate(a[1m])) > 14.4 * 0.01": ["sum(rate(a[1m]))"],
            "a < 0.9 and on (job, path) rate(b[1m]) > 0.1": ["a", "rate(b[1m])"],
        }
        for expression, parts in cases.items():
            self.assertEqual(list(compared(expression)), parts)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
