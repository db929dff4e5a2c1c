"""Does bench/experiments.py do what it says? On a tree of its own, with programs that only pretend.

    python3 bench/test_experiments.py
"""

import json
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree
from pathlib import Path

BENCH = Path(__file__).parent
sys.path.insert(0, str(BENCH))

import svg_plot
from experiments_report import Judged, difference, wilson
from experiments_run import merge, numbers

# Plays llmdiff: train, eval, encode and info, told by the files it gets; each call is a line in calls.
LLMDIFF = '''#!{python}
import json, struct, sys
from pathlib import Path
args = sys.argv[1:]
with open("{root}/calls", "a") as f:
    f.write(" ".join(args) + "\\n")
of = lambda flag: args[args.index(flag) + 1] if flag in args else None

def save(path, tensors):
    header, data = {{}}, b""
    for name, values in tensors.items():
        header[name] = {{"dtype": "F32", "shape": [len(values)], "data_offsets": [len(data), len(data) + 4 * len(values)]}}
        data += struct.pack(f"<{{len(values)}}f", *values)
    text = json.dumps(header).encode()
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)

if args[0] == "train":
    out = Path(of("--output-dir"))
    out.mkdir(parents=True, exist_ok=True)
    if Path("{root}/stop").exists() and "--resume-from-checkpoint" not in args:
        (out / "checkpoint-1").mkdir()
        sys.exit(130)
    assert Path(of("--train-data-dir"), "pairs.tar").exists()
    save(out / "adapter.safetensors", {{"x": [len(args)]}})
    (out / "config.json").write_text(json.dumps(args))
    lines = [{{"step": k, "loss": 1 / k, "seconds": 2.5 * k}} for k in range(1, 21)]
    (out / "train.jsonl").write_text("".join(json.dumps(x) + "\\n" for x in lines) + '{{"event": "checkpoint", "step": 20}}\\n')
elif args[0] == "eval":
    lines = [json.loads(x) for x in Path(of("--suite")).read_text().splitlines()]
    if of("--limit"):
        lines = lines[:int(of("--limit"))]
    worse = 3 if "clip" in args else 5
    prompts, rates = [], {{}}
    for k, line in enumerate(lines):
        right = k % worse > 0
        prompts.append({{"id": line["id"], "split": line["split"], "kind": line["kind"], "prompt": line["prompt"],
                        "pictures": [{{"statements": {{"scene": [right], "object": [right, True]}}}}]}})
        for split in (line["split"], "all"):
            for key, held in (("scene", [right]), ("object", [right, True]), ("objects", [right]), ("relation", [right])):
                for where in ((split, key), (split, line["kind"], key)):
                    rate = rates.setdefault(where, [0, 0])
                    rate[0] += sum(held)
                    rate[1] += len(held)
    checker = {{"truth_right": 0.999, "truth_right_blurred": 0.995, "false_pass": 0.001, "false_pass_blurred": None, "chance": 0.1}}
    row = lambda where, r: {{"split": where[0], **({{"kind": where[1]}} if len(where) > 2 else {{}}), "statement": where[-1],
                            "passed": r[0], "asked": r[1], "checker": checker}}
    report = {{"accuracy": [row(w, r) for w, r in rates.items() if len(w) == 2],
              "kinds": [row(w, r) for w, r in rates.items() if len(w) == 3 and w[0] != "all"], "prompts": prompts,
              "checker": checker, "conditioners": {{of("--conditioner") or "llmdiff": {{
                  "drawn": len(lines) - 1, "not_finite": 1, "refused": 0, "sampler": "ddim", "steps": "20", "cfg_scale": "4"}}}}}}
    Path(of("--json")).write_text(json.dumps(report))
elif args[0] == "encode":
    save(of("-o"), {{"alg1/c.0": [3, -4], "other": [7]}})
elif args[0] == "info":
    print("llm: x\\n  family                     phi\\n  T (blocks)                 6\\n  D (width)                  128\\n"
          "  size                       1,319,936 parameters (1.3M), F32")
'''
COST = '''#!{python}
import json, sys
stage = lambda name, ms: {{"stage": name, "ms": ms, "least_ms": ms / 2, "runs": 9, "activations": 2e6, "weights": 4e6}}
print(json.dumps({{"threads": int(sys.argv[3]), "prompts": [{{"conditioner": "llmdiff", "prompt": "a", "tokens": 5,
      "rows": [stage("LLM, Algorithm 1", 3.0), stage("U-Net, one step", 6.0)]}}]}}))
'''
PAIRS = "import sys; open(sys.argv[1], 'w').write('tar'); open('{root}/calls', 'a').write('pairs\\n')"


def save(path, tensors):
    """As the fake program's."""
    import struct
    header, data = {}, b""
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": [len(values)], "data_offsets": [len(data), len(data) + 4 * len(values)]}
        data += struct.pack(f"<{len(values)}f", *values)
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


class Tree(unittest.TestCase):
    def setUp(self):
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        bench = self.root / "bench"
        bench.mkdir()
        for name in ("experiments", "experiments_run", "experiments_report", "svg_plot"):
            shutil.copy(BENCH / f"{name}.py", bench)
        for path, program in (("llmdiff", LLMDIFF), ("build/f32/bench_cost", COST), ("golden/world/make_pairs.py", PAIRS)):
            file = self.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(program.format(python=sys.executable, root=self.root))
            file.chmod(0o755)
        for part in ("unet", "llm", "vae", "scheduler", "text_encoder", "tokenizer"):
            (self.root / "weights/tiny" / part).mkdir(parents=True)
            (self.root / "weights/tiny" / part / "config.json").write_text(part)
        tiny = self.root / "weights/tiny"
        (tiny / "model_index.json").write_text("{}")
        save(tiny / "unet/diffusion_pytorch_model.safetensors", {"a": [1, 2], "b": [3]})
        layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn2."
        save(tiny / "adapter/adapter.safetensors", {layer + k: [v] for k, v in (("a1", 0.5), ("b1", 0), ("a2", 1.5), ("b2", 0))})
        (tiny / "adapter/config.json").write_text('{"init": "embedding", "noise": true, "blocks": null, "step": 9}')
        with open(tiny / "suite.jsonl", "w") as f:
            for k in range(60):
                split, kind = (("plain", "one"), ("plain", "two"), ("plain", "relation"), ("negation", "seen"))[k % 4]
                f.write(json.dumps({"id": f"{k}", "split": split, "kind": kind, "prompt": f"prompt {k}"}) + "\n")
        more = self.root / "weights/experiments"
        save(more / "control/unet_attn2.safetensors", {"b": [9]})
        (more / "control/text_encoder").mkdir()
        (more / "control/text_encoder/config.json").write_text("tuned")
        for name in ("last-state", "llmdiff"):
            save(more / name / "adapter.safetensors", {"x": [3]})
            (more / name / "config.json").write_text(name)
        (more / "llm-llama").mkdir()
        (more / "llm-llama/config.json").write_text("llama")

    def run_all(self, *args, code=0):
        """What the programs were called with."""
        calls = self.root / "calls"
        calls.write_text("")
        done = subprocess.run([sys.executable, self.root / "bench/experiments.py", *args], capture_output=True, text=True)
        self.assertEqual(done.returncode, code, done.stderr)
        self.said = done.stdout + done.stderr
        return [line for line in calls.read_text().splitlines() if not line.startswith("info")]

    def report(self):
        return (self.root / "bench/EXPERIMENTS.md").read_text()

    def test_all_of_it(self):
        calls = self.run_all()
        of = lambda word: [c for c in calls if c.startswith(word)]
        self.assertEqual(len(of("pairs")), 1)
        self.assertEqual(len(of("train")), 12)  # of each settings one, and the further LLM's
        trained = [c for c in of("train") if "word_score=false" in c]
        self.assertEqual(len(trained), 1)
        self.assertIn("--set init=embedding --set noise=true --set word_score=false", trained[0])
        self.assertIn("--max-train-steps 1500", trained[0])
        self.assertEqual(sum("--seed 43" in c for c in of("train")), 1)
        self.assertTrue(any("--llm" in c and "llm-llama" in c for c in of("train")))
        clip = [c for c in of("eval") if "--conditioner clip" in c]
        self.assertEqual(len(clip), 2)
        self.assertTrue(all("--adapter" not in c and "--set" not in c for c in clip))
        self.assertTrue(any("control/unet" in c and "control/text_encoder" in c for c in clip))
        self.assertEqual(len([c for c in of("eval") if "--limit 6" in c]), 36)
        merged = numbers(self.root / "build/experiments/control/unet/diffusion_pytorch_model.safetensors", lambda n: True)
        self.assertEqual(merged, {"a": [1, 2], "b": [9]})

        text = self.report()
        for part in ("## The claim", "## Ablations", "## How stable", "## Which LLM", "## What it costs",
                     "|  | baseline: CLIP | baseline, fine-tuned | last hidden state | LLMDiff | LLMDiff, as shipped |",
                     "| all | 66.7 [54.1, 77.3] | 66.7 [54.1, 77.3] | 80.0 [68.2, 88.2] |",
                     "ddim, 20 steps, guidance 4.", "right on 99.90% of what is true", "passes 0.10% of what", "| `down_blocks.0.attentions.0` | 0.500 | 1.500 | 0.75 |",
                     "| tau reads c |", "| llm-llama | phi | 6 | 128 | 1,319,936 parameters (1.3M), F32 |",
                     "| none, h_scale 1e+06 |", "Of 216 pictures 36 came to a value that is not finite.",
                     "| llmdiff | 5 | LLM, Algorithm 1 | 3.00 | 1.50 | 0.50 | 2.00 MB | 4.00 MB |",
                     "| scene | 99.90 | 99.50 | 0.10 |  | 10.00 |", "1500 | 50 | 0.0513 |"):
            self.assertIn(part, text)
        self.assertIn(f"{(12.5) ** 0.5:.4g}", text)  # the root mean square of 3 and -4
        self.assertNotIn("No result", text)
        for name in ("claim", "ablation", "scale", "stability-g-scenes", "stability-h-norm", "stability-blocks-scenes"):
            self.assertIn(f"(experiments/{name}.svg)", text)
            root = xml.etree.ElementTree.parse(self.root / f"bench/experiments/{name}.svg").getroot()
            self.assertGreater(len([x for x in root.iter() if x.tag.endswith("circle")]), 3)

        self.assertEqual(self.run_all(), [])  # nothing is done twice
        self.assertEqual(self.report(), text)

    def test_what_changed_is_done_again(self):
        self.run_all("--only", "claim")
        (self.root / "weights/tiny/text_encoder/config.json").write_text("another")
        calls = self.run_all("--only", "claim")
        self.assertEqual(len(calls), 1)
        self.assertIn("--conditioner clip", calls[0])
        (self.root / "weights/tiny/llm/config.json").write_text("another")
        calls = self.run_all("--only", "claim")
        self.assertEqual([c.split()[0] for c in calls], ["train"] * 2 + ["eval"] * 5)

    def test_goes_on_where_it_stopped(self):
        (self.root / "stop").write_text("")
        calls = self.run_all("--only", "claim", code=130)
        self.assertTrue(calls[-1].startswith("train") and "--resume-from-checkpoint" not in calls[-1])
        calls = self.run_all("--only", "claim", code=130)
        self.assertIn("--resume-from-checkpoint latest", calls[0])
        self.assertTrue(calls[-1].startswith("train") and "--resume-from-checkpoint" not in calls[-1])  # the next one

    def test_what_is_not_there_is_left_out_and_said(self):
        shutil.rmtree(self.root / "weights/experiments")
        self.run_all("--only", "claim", "scale")
        self.assertIn("baseline, fine-tuned: left out", self.said)
        self.assertIn("No result: baseline, fine-tuned; last hidden state; LLMDiff.", self.report())
        ablations = self.report().split("## Ablations")[1].split("##")[0]
        self.assertIn("No result: as shipped; the method; the method, from another seed; a1 = 1, a2 = 0", ablations)

    def test_dry_run_and_quick(self):
        self.assertEqual(self.run_all("--dry-run"), [])
        self.assertIn("--max-train-steps 1500", self.said)
        self.assertFalse((self.root / "bench/EXPERIMENTS.md").exists())
        calls = self.run_all("--quick", "--only", "claim")
        self.assertTrue(all("--limit 1" in c for c in calls if c.startswith("eval")))
        self.assertTrue((self.root / "build/experiments-quick/EXPERIMENTS.md").exists())
        self.assertFalse((self.root / "bench/EXPERIMENTS.md").exists())

    def test_remarks_are_kept(self):
        file = self.root / "bench/experiments/claim.md"
        file.parent.mkdir()
        file.write_text("What we tried: everything.\n")
        self.run_all("--only", "claim")
        self.assertIn("What we tried: everything.", self.report())

    def test_a_control_of_another_unet(self):
        save(self.root / "weights/experiments/control/unet_attn2.safetensors", {"c": [9]})
        self.run_all("--only", "claim")
        self.assertIn("c is not in", self.said)


class Figures(unittest.TestCase):
    def test_wilson(self):
        for passed, asked, low, high in ((0, 10, 0, 0.2775), (8, 10, 0.4902, 0.9433), (50, 100, 0.4038, 0.5962), (10, 10, 0.7225, 1)):
            value, a, b = wilson(passed, asked)
            self.assertAlmostEqual(value, passed / asked)
            self.assertAlmostEqual(a, low, places=4)
            self.assertAlmostEqual(b, high, places=4)
        self.assertIsNone(wilson(0, 0))

    def judged(self, right):
        prompts = [{"id": str(k), "split": "plain" if k < 20 else "hard", "pictures": [{"statements": {"scene": [bool(r)]}}]}
                   for k, r in enumerate(right)]
        return Judged({"accuracy": [], "kinds": [], "prompts": prompts, "conditioners": {"llmdiff": {}}})

    def test_difference(self):
        # 40 prompts: 12 only the first, 4 only the second: 0.2; n + 2 = 42, d' = 8/42, and Wald's interval of that
        a, b = self.judged([1] * 12 + [0] * 4 + [1] * 24), self.judged([0] * 12 + [1] * 4 + [1] * 24)
        value, low, high = difference(a, b)
        self.assertAlmostEqual(value, 0.2)
        half = 1.959964 * ((17 / 42 - (8 / 42) ** 2) / 42) ** 0.5
        self.assertAlmostEqual(low, 8 / 42 - half)
        self.assertAlmostEqual(high, 8 / 42 + half)
        self.assertEqual(difference(b, a)[0], -value)
        same = difference(a, a)
        self.assertTrue(same[0] == 0 and same[1] < 0 < same[2])
        self.assertEqual(difference(a, b, lambda s: s == "hard")[0], 0)
        self.assertIsNone(difference(a, b, lambda s: s == "none"))
        refused = self.judged([1] * 40)
        refused.scenes[("0", 0)] = ("plain", False)
        self.assertAlmostEqual(difference(self.judged([1] * 40), refused)[0], 1 / 40)

    def test_plots_of_little(self):
        for svg in (svg_plot.dots("a < b", ["x"], [("s", [None])]), svg_plot.lines("t", ["1"], [("s", [(0, 0, 0)])], False),
                    svg_plot.lines("t", ["1", "2"], [("s", [None, (5, 5, 5)])], False)):
            xml.etree.ElementTree.fromstring(svg)


if __name__ == "__main__":
    unittest.main()
