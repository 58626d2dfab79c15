"""What is under `packaging/`: the unit, the Dockerfile and the KServe runtime, checked by tools of others and by the binary.

    python packaged.py [HADOLINT]
"""

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import kubernetes_validate
import yaml

import served

PACKAGING = served.ROOT / "packaging"
HADOLINT = sys.argv[1] if len(sys.argv) > 1 else shutil.which("hadolint")
# The fields of KServe's ServingRuntime that are used here, as its types have them; `True` are required.
RUNTIME_FIELDS = {"apiVersion": True, "kind": True, "metadata": True, "spec": True}
SPEC_FIELDS = {
    "supportedModelFormats": False, "protocolVersions": False, "multiModel": False, "annotations": False,
    "labels": False, "containers": True,
}
FORMAT_FIELDS = {"name": True, "version": False, "autoSelect": False, "priority": False}
PROTOCOLS = {"v1", "v2", "grpc-v1", "grpc-v2"}
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1


class Packaging(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        served.train(cls.folder)

    def check_fields(self, what, allowed):
        self.assertLessEqual(set(what), set(allowed))
        self.assertEqual({name for name, required in allowed.items() if required} - set(what), set())

    def check_command(self, arguments, bundle):
        """The binary takes these arguments, over the bundle of this test."""
        arguments = [one.replace(bundle, "model").replace("{{.Name}}", "ctr") for one in arguments]
        found = served.run(self.folder, *arguments, "--paths", "table@cpu", "--check")
        self.assertTrue(found["valid"])

    @unittest.skipUnless(shutil.which("systemd-analyze"), "no systemd-analyze")
    def test_the_unit_is_valid_and_hardened(self):
        unit = (PACKAGING / "systemd" / "mprec.service").read_text()
        self.assertIn("/usr/bin/mprec", unit)
        here = Path(self.folder) / "mprec.service"
        here.write_text(unit.replace("/usr/bin/mprec", str(served.binary())))
        done = subprocess.run(["systemd-analyze", "verify", here], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        # 2.0 of 10: what is left is that it may use the network.
        secure = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", here]
        done = subprocess.run(secure, capture_output=True, text=True, env={**os.environ, "SYSTEMD_PAGER": "cat"})
        self.assertEqual(done.returncode, 0, done.stdout[-300:])

    def test_the_server_makes_no_code_at_run_time(self):
        # What `MemoryDenyWriteExecute` denies, by the kernel's own means, which survive exec.
        def deny():
            if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) != 0:
                os._exit(77)
        probe = subprocess.run(["true"], preexec_fn=deny)
        if probe.returncode == 77:
            self.skipTest("the kernel is older than 6.3")
        command = [served.binary(), "profile", "model", "--paths", "table@cpu,dhe@cpu", "--seconds", "1", "--quiet"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, preexec_fn=deny)
        self.assertEqual(done.returncode, 0, done.stderr)

    @unittest.skipUnless(HADOLINT, "no hadolint")
    def test_the_dockerfile_has_no_lint(self):
        done = subprocess.run([HADOLINT, PACKAGING / "docker" / "Dockerfile"], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (0, ""))

    def test_the_dockerfile_runs_what_there_is(self):
        text = (PACKAGING / "docker" / "Dockerfile").read_text().replace("\\\n", " ")
        commands = dict(re.findall(r"^\s*(?:HEALTHCHECK .*)?(CMD|ENTRYPOINT) (\[.*\])$", text, re.MULTILINE))
        self.assertEqual(json.loads(commands["ENTRYPOINT"]), ["mprec"])
        self.check_command(json.loads(commands["CMD"]), "/model")
        self.assertRegex(text, r"\nUSER 1\d+")
        health = json.loads(re.search(r"HEALTHCHECK .*CMD (\[.*\])", text)[1])
        with served.server(self.folder, "--paths", "table@cpu") as started:
            url = {"http://127.0.0.1:8000": started["url"]}
            command = [served.binary(), *(url.get(one, one) for one in health[1:])]
            self.assertEqual(subprocess.run(command, capture_output=True).returncode, 0)
        self.assertEqual(subprocess.run(command, capture_output=True).returncode, 1, "nobody is there")

    def test_every_crate_reaches_the_build(self):
        ignored = (PACKAGING / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
        members = re.search(r"members = \[(.*?)\]", (served.ROOT / "Cargo.toml").read_text(), re.DOTALL)[1]
        for member in re.findall(r'"(.*?)"', members):
            self.assertIn(f"!{member}", ignored)

    def test_the_runtime_is_kserves(self):
        runtime = yaml.safe_load((PACKAGING / "kserve" / "serving-runtime.yaml").read_text())
        self.check_fields(runtime, RUNTIME_FIELDS)
        self.assertEqual((runtime["apiVersion"], runtime["kind"]), ("serving.kserve.io/v1alpha1", "ServingRuntime"))
        spec = runtime["spec"]
        self.check_fields(spec, SPEC_FIELDS)
        for one in spec["supportedModelFormats"]:
            self.check_fields(one, FORMAT_FIELDS)
            self.assertIsInstance(one["version"], str)
            self.assertGreaterEqual(one["priority"], 1)
        self.assertLessEqual(set(spec["protocolVersions"]), PROTOCOLS)
        self.assertTrue(all(isinstance(value, str) for value in spec["annotations"].values()))
        # KServe puts the model into the container of this name.
        (container,) = spec["containers"]
        self.assertEqual(container["name"], "kserve-container")
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": runtime["metadata"], "spec": {"containers": [container]}}
        kubernetes_validate.validate(pod, "1.30", strict=True)
        self.check_command(container["args"], "/mnt/models")
        service = yaml.safe_load((PACKAGING / "kserve" / "inference-service.yaml").read_text())
        model = service["spec"]["predictor"]["model"]
        self.assertIn(model["modelFormat"]["name"], [one["name"] for one in spec["supportedModelFormats"]])
        self.assertIn(model["protocolVersion"], spec["protocolVersions"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:], verbosity=2)
