"""The status page in a real browser, over a real server under load.

Takes screenshots (light, dark, narrow, without JavaScript) into a folder, for people to look at.

    python status_page.py [FOLDER]
"""

import re
import shutil
import sys
import tempfile
import time
import unittest
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

import served

FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else None
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]
VIEWS = {
    "light": {"viewport": {"width": 1440, "height": 1000}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1440, "height": 1000}, "color_scheme": "dark"},
    "narrow": {"viewport": {"width": 360, "height": 740}, "color_scheme": "light", "reduced_motion": "reduce"},
    "plain": {"viewport": {"width": 1440, "height": 1000}, "java_script_enabled": False},
}


def await_text(page, selector, holds, seconds=20):
    """Waits from here: a function that waits in the page would need `eval`, which its policy denies."""
    until = time.monotonic() + seconds
    while not holds(text := page.locator(selector).text_content()):
        if time.monotonic() > until:
            raise AssertionError(f"{selector} is still {text!r}")
        page.wait_for_timeout(200)


class StatusPage(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        served.train(folder)
        cls.started = cls.enterClassContext(served.server(folder, "--paths", "table@cpu,dhe@cpu", "--sla-ms", "200"))
        cls.url = cls.started["metrics_url"]
        cls.enterClassContext(served.load(cls.started["url"], 150))
        for _ in range(3):
            served.infer(cls.started["url"], cls.started["model"], min_quality=1.0)
            time.sleep(0.05)
        playwright = cls.enterClassContext(sync_playwright())
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        cls.browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        cls.addClassCleanup(cls.browser.close)

    def open(self, view):
        """The page in this view, live; and everything that the browser complained of."""
        context = self.browser.new_context(**VIEWS[view])
        self.addCleanup(context.close)
        page = context.new_page()
        complaints, requests = [], []
        page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(self.url)
        if view != "plain":
            page.wait_for_selector("#live:not([hidden])", timeout=10_000)
            await_text(page, "#figures div:nth-child(4) span", lambda text: float(text.replace(",", "")) > 0)
        return page, complaints, requests

    def picture(self, page, name):
        if FOLDER:
            FOLDER.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=FOLDER / f"{name}.png", full_page=True)

    def test_figures_are_live_in_every_view(self):
        for view in ("light", "dark", "narrow"):
            with self.subTest(view):
                page, complaints, requests = self.open(view)
                page.wait_for_timeout(12_000 if view == "light" else 4_000)
                self.picture(page, view)
                self.assertIn("Ready", page.inner_text("#state"))
                self.assertIn(f"{self.started['model']} version {self.started['version']}", page.inner_text("#model"))
                rows = page.locator("#paths tbody tr")
                self.assertEqual(rows.count(), 2)
                self.assertEqual(set(page.locator("#paths tbody th").all_inner_texts()), {"table@cpu", "dhe@cpu"})
                self.assertEqual(page.locator("#paths .badge").all_inner_texts(), ["Up", "Up"])
                goodput = page.locator("#figures dd span").first.inner_text()
                self.assertGreater(float(goodput.replace(",", "")), 0)
                self.assertIn("SLA 200 ms", page.inner_text("#figures"))
                self.assertRegex(page.inner_text("#reasons"), r"refused: quality\s+[\d.]+\s+3")
                self.assertIn("no path reaches min_quality", page.inner_text("#recent"))
                # A chart has drawn at least two readings.
                self.assertTrue(re.search(r"M[\d. ]+L", page.locator("#latency path").first.get_attribute("d")))
                page.click("summary")
                self.assertIn("objective.policy", page.inner_text("#settings"))
                width = page.evaluate("document.documentElement.scrollWidth")
                self.assertLessEqual(width, VIEWS[view]["viewport"]["width"], "the page scrolls sideways")
                self.assertEqual(complaints, [])
                self.assertEqual([url for url in requests if not url.startswith((self.url, "data:"))], [])

    def test_nothing_hinders_those_who_cannot_see_or_point(self):
        for view in ("light", "dark", "narrow", "plain"):
            with self.subTest(view):
                page, _, _ = self.open(view)
                # Scripts that a test injects are kept out by the page's policy; without JavaScript none can run.
                if view == "plain":
                    continue
                page.click("summary")
                found = Axe().run(page)
                self.assertEqual(found.violations_count, 0, found.generate_report())

    def test_everything_is_reached_by_keyboard(self):
        page, _, _ = self.open("light")
        reached = []
        for _ in range(14):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("(document.activeElement.id || document.activeElement.textContent.trim().slice(0, 30) || '') + '|' + (document.activeElement.getAttribute('aria-label') || '')"))
        for wanted in ("Skip to the figures", "pause", "Figures of every path", "Settings in force", "Prometheus metrics"):
            self.assertTrue([one for one in reached if wanted in one], f"{wanted} in {reached}")
        page.focus("#pause")
        page.keyboard.press("Enter")
        self.assertEqual(page.get_attribute("#pause", "aria-pressed"), "true")
        self.assertEqual(page.inner_text("#state"), "Paused")

    def test_without_scripts_there_are_tables(self):
        page, complaints, _ = self.open("plain")
        self.picture(page, "plain")
        text = page.inner_text("main")
        for part in ("table@cpu", "the SLA is 200 ms", "Queries refused", "no path reaches min_quality", "objective.policy"):
            self.assertIn(part, text)
        self.assertGreaterEqual(page.locator("main table caption").count(), 4)
        self.assertFalse(page.is_visible("#live"))
        self.assertEqual(complaints, [])


class AbsentServer(unittest.TestCase):
    def test_a_server_that_is_gone_is_said_to_be(self):
        with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
            served.train(folder)
            chromium = shutil.which("chromium") or shutil.which("chromium-browser")
            browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
            page = browser.new_page()
            with served.server(folder, "--paths", "table@cpu") as started:
                page.goto(started["url"])
                page.wait_for_selector("#live:not([hidden])", timeout=10_000)
            await_text(page, "#state", lambda text: "does not answer" in text)
            browser.close()


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:], verbosity=2)
