"""bench/EXPERIMENTS.md and its plots, from the results that bench/experiments_run.py keeps.

Every figure comes from a result. What a person says to them stands in bench/experiments/<name>.md, and is put
behind the experiment's tables.
"""

import os
import platform
from math import exp
from pathlib import Path

import svg_plot
from experiments_run import numbers

STATEMENTS = ("scene", "object", "objects", "shape", "color", "size", "count", "relation", "background", "absent")
EASY = "plain"  # the split that the baseline was trained for; all others are the hard ones
GOALS = (("one object", EASY, "one", "object", 0.95), ("both of two objects", EASY, "two", "objects", 0.85),
         ("a relation", EASY, "relation", "relation", 0.80))


# ---- figures ---------------------------------------------------------------------------------------------


def wilson(passed, asked, z=1.959964):
    """(share, low, high): a proportion with Wilson's 95% interval."""
    if not asked:
        return None
    p, n = passed / asked, asked
    middle, half = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return p, max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))


class Judged:
    """The report of one `llmdiff eval` with one conditioner."""

    def __init__(self, report):
        self.report = report
        self.of_split = {(r["split"], r["statement"]): (r["passed"], r["asked"]) for r in report["accuracy"]}
        self.of_kind = {(r["split"], r["kind"], r["statement"]): (r["passed"], r["asked"]) for r in report["kinds"]}
        self.splits = list(dict.fromkeys(r["split"] for r in report["accuracy"] if r["split"] != "all"))
        self.scenes = {(p["id"], k): (p["split"], s["statements"].get("scene", [False])[0])
                       for p in report["prompts"] for k, s in enumerate(p["pictures"])}
        (self.side,) = report["conditioners"].values()

    def rate(self, split, statement="scene"):
        return wilson(*self.of_split.get((split, statement), (0, 0)))

    def kind(self, split, kind, statement):
        return wilson(*self.of_kind.get((split, kind, statement), (0, 0)))

    def hard(self, statement="scene"):
        found = [self.of_split.get((s, statement), (0, 0)) for s in self.splits if s != EASY]
        return wilson(sum(p for p, _ in found), sum(a for _, a in found))


def difference(a, b, of=lambda split: True, z=1.959964):
    """(difference, low, high) of two systems' scene accuracies on the same prompts (Agresti and Min 2005: Wald's
    interval of paired proportions after half an observation is added to each of the four cells)."""
    both = [(a.scenes[k][1], b.scenes[k][1]) for k in a.scenes if k in b.scenes and of(a.scenes[k][0])]
    if not both:
        return None
    gained, lost = sum(x and not y for x, y in both), sum(y and not x for x, y in both)
    n = len(both) + 2
    d = (gained - lost) / n
    half = z * (max(0.0, (gained + lost + 1) / n - d * d) / n) ** 0.5
    return (gained - lost) / len(both), max(-1.0, d - half), min(1.0, d + half)


def percent(rate, sign=""):
    if rate is None:
        return ""
    value, low, high = (100 * x for x in rate)
    return f"{value:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def table(head, rows, turned=False):
    """turned: what are rows here become its columns."""
    if turned:
        head, *rows = zip(head, *rows)
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(c).replace("|", "\\|") for c in row) + " |" for row in cells) + "\n"


def mega(size):
    return f"{size / 1e6:.2f} MB"


# ---- the experiments -------------------------------------------------------------------------------------


class Report:
    def __init__(self, runner, to):
        self.runner, self.to, self.out = runner, Path(to), []
        self.plots = self.to / "experiments"
        self.plots.mkdir(parents=True, exist_ok=True)

    def say(self, *paragraphs):
        self.out += [p.rstrip("\n") + "\n" for p in paragraphs]

    def plot(self, name, svg, words):
        (self.plots / f"{name}.svg").write_text(svg)
        self.say(f"![{words}](experiments/{name}.svg)")

    def judged(self, e):
        """[(row, Judged)] of the rows that have a result."""
        found = [(row, self.runner.result(self.runner.result_name(row, e.few))) for row in e.rows]
        missing = [row.label for row, kept in found if kept is None]
        if missing:
            self.say("No result: " + "; ".join(missing) + ".")
        return [(row, Judged(kept["result"])) for row, kept in found if kept]

    def trained(self, row):
        """Steps, seconds, loss of the last tenth."""
        kept = self.runner.result(f"train-{row.train}") if row.train else None
        if kept is None:
            return ["", "", ""]
        run = kept["result"]
        return [run["steps"], f"{run['seconds']:.0f}", f"{run['loss']:.4f}"]

    def differences(self, e, judged, each_split=False):
        by_name = dict((row.name, (row, j)) for row, j in judged)
        pairs = [(by_name[x], by_name[y]) for x, y in e.pairs if x in by_name and y in by_name]
        of = {"all": lambda split: True, EASY: lambda split: split == EASY, "hard splits": lambda split: split != EASY}
        if each_split:
            of |= {split: lambda s, split=split: s == split for split in judged[0][1].splits if split != EASY}
        if pairs:
            self.say("Differences on the same prompts, in points: scenes that one draws right and the other doesn't. "
                     "Where 0 is inside the interval, the two can't be told apart.",
                     table(["", *of], [[f"{a.label} − {b.label}", *(percent(difference(x, y, f), "+") for f in of.values())]
                                       for (a, x), (b, y) in pairs], turned=each_split))

    def claim(self, e):
        judged = self.judged(e)
        if not judged:
            return
        splits = judged[0][1].splits
        self.say("Scenes in which every statement of the prompt holds, in %:",
                 table(["", "all", *splits, "hard splits"],
                       [[row.label, percent(j.rate("all")), *(percent(j.rate(s)) for s in splits), percent(j.hard())]
                        for row, j in judged], turned=True))
        self.plot("claim", svg_plot.dots("Scenes drawn right, by split", splits,
                                         [(row.label, [j.rate(s) for s in splits]) for row, j in judged]),
                  "scenes drawn right, by split")
        self.differences(e, judged, each_split=True)
        goals = []
        for words, split, kind, statement, goal in GOALS:
            shown = [j.kind(split, kind, statement) for _, j in judged]
            goals.append([words, f"{100 * goal:.0f}", *(f"{percent(r)}{'' if r is None else ' yes' if r[0] >= goal else ' no'}"
                                                        for r in shown)])
        self.say("The goals on plain prompts, and whether they are reached:",
                 table(["", "goal", *(row.label for row, _ in judged)], goals))
        self.say("By statement, over all prompts:",
                 table(["", *(row.label for row, _ in judged)],
                       [[s, *(percent(j.rate("all", s)) for _, j in judged)] for s in STATEMENTS]))
        checker = {r["statement"]: r["checker"] for r in judged[0][1].report["accuracy"] if r["split"] == "all"}
        part = lambda x: "" if x is None else f"{100 * x:.2f}"
        self.say("What the checker says of rendered pictures: of the prompts' own scenes, of these blurred and with "
                 "noise, and of false statements. Chance: a statement held against other prompts' pictures.",
                 table(["", "true: right", "blurred", "false: passed", "blurred", "chance"],
                       [[s, *(part(checker[s][k]) for k in ("truth_right", "truth_right_blurred", "false_pass",
                                                            "false_pass_blurred", "chance"))]
                        for s in STATEMENTS if s in checker]))
        self.figure6()

    def figure6(self):
        """The paper's Figure 6 for the shipped adapter."""
        path = self.runner.pack / "adapter" / "adapter.safetensors"
        scalars = numbers(path, lambda name: name.rsplit(".", 1)[-1] in ("a1", "b1", "a2", "b2"))
        rows = []
        for layer in dict.fromkeys(name.rsplit(".", 1)[0] for name in scalars):
            a1, b1, a2, b2 = (scalars[f"{layer}.{k}"][0] for k in ("a1", "b1", "a2", "b2"))
            original, added = a1 * exp(b1), a2 * exp(b2)
            rows.append([f"`{layer.replace('.transformer_blocks.0.attn2', '')}`", f"{original:.3f}", f"{added:.3f}",
                         f"{abs(added) / (abs(original) + abs(added) or 1):.2f}"])
        self.say("The shipped adapter's blend in each layer (the paper's Figure 6): a1 exp(b1) of the original attention, "
                 "a2 exp(b2) of the added one, and the latter's share.",
                 table(["layer", "original", "added", "share"], rows))

    def ablation(self, e):
        judged = self.judged(e)
        if not judged:
            return
        self.say("In %; loss: the mean over the last tenth of the training.",
                 table(["", "scenes, all", f"scenes, {EASY}", "scenes, hard splits", "objects", "relations", "steps",
                        "seconds", "loss"],
                       [[row.label, percent(j.rate("all")), percent(j.rate(EASY)), percent(j.hard()),
                         percent(j.rate("all", "object")), percent(j.rate("all", "relation")), *self.trained(row)]
                        for row, j in judged]))
        self.plot("ablation", svg_plot.dots("Scenes drawn right", [row.label for row, _ in judged],
                                            [(EASY, [j.rate(EASY) for _, j in judged]),
                                             ("hard splits", [j.hard() for _, j in judged])]),
                  "scenes drawn right by each ablation")
        self.differences(e, judged)

    def stability(self, e):
        judged = self.judged(e)
        norms = {row.name: kept["result"] for row in e.rows if (kept := self.runner.result(f"norm-{row.name}"))}
        if not judged:
            return
        self.say(table(["", "scenes, all", "objects", "rms of c", "not finite"],
                       [[row.label, percent(j.rate("all")), percent(j.rate("all", "object")),
                         f"{norms[row.name]:.4g}" if row.name in norms else "", j.side["not_finite"]]
                        for row, j in judged]))
        broken = sum(j.side["not_finite"] for _, j in judged)
        drawn = sum(j.side["drawn"] for _, j in judged)
        self.say(f"Of {drawn + broken} pictures {broken} came to a value that is not finite.")
        rate = {row.name: j.rate("all") for row, j in judged}
        for kind, words in (("blocks", "blocks used"), ("g", "g_scale"), ("h", "h_scale")):
            of_kind = [row for row in e.rows if f"-{kind}-" in row.name]
            xs = list(dict.fromkeys(row.x for row in of_kind))
            for what, values, share in (("scenes drawn right", rate, True), ("rms of c", norms, False)):
                if not share:
                    values = {k: (v, v, v) for k, v in values.items()}
                series = [(f"normalize {norm}", [values.get(f"{norm}-{kind}-{x:g}") for x in xs])
                          for norm in ("none", "rms")]
                self.plot(f"stability-{kind}-{'scenes' if share else 'norm'}",
                          svg_plot.lines(f"{what}, by {words}", [f"{x:g}" for x in xs], series, share),
                          f"{what} by {words}")

    def scale(self, e):
        judged = self.judged(e)
        if not judged:
            return
        told = {row.name: self.runner.llm(row) for row, _ in judged}
        self.say(table(["", "family", "T", "D", "parameters", "scenes, all", f"scenes, {EASY}", "scenes, hard splits",
                        "steps", "seconds", "loss"],
                       [[row.label, *told[row.name], percent(j.rate("all")), percent(j.rate(EASY)), percent(j.hard()),
                         *self.trained(row)] for row, j in judged]))
        self.plot("scale", svg_plot.dots("Scenes drawn right", [row.label for row, _ in judged],
                                         [(EASY, [j.rate(EASY) for _, j in judged]),
                                          ("hard splits", [j.hard() for _, j in judged])]),
                  "scenes drawn right with each LLM")
        self.differences(e, judged)

    def cost(self, e):
        found = sorted(self.runner.work.glob("results/cost-*.json"), key=lambda p: int(p.stem.split("-")[1]))
        for path in found:
            result = self.runner.result(path.stem)["result"]
            rows = []
            for p in result["prompts"]:
                step = next(r["ms"] for r in p["rows"] if r["stage"] == "U-Net, one step")
                for r in p["rows"]:
                    rows.append([p["conditioner"], p["tokens"], r["stage"], f"{r['ms']:.2f}", f"{r['least_ms']:.2f}",
                                 f"{r['ms'] / step:.2f}", mega(r["activations"]), mega(r["weights"])])
            self.say(f"{result['threads']} thread{'s' if result['threads'] > 1 else ''}:",
                     table(["conditioner", "tokens", "stage", "ms", "least ms", "U-Net steps", "activations", "weights"],
                           rows))
        if not found:
            self.say("No result.")

    # ---- the whole ----

    def conditions(self, e):
        """Under what the rows were judged, and how far the checker can be trusted."""
        plan = self.runner.plan
        kept = [k for row in e.rows if (k := self.runner.result(self.runner.result_name(row, e.few)))]
        if not kept:
            return
        few = 1 if self.runner.quick else e.few
        limit = f"the first {few} prompts of each split" if few else "the whole suite"
        side, checker = Judged(kept[0]["result"]).side, kept[0]["result"]["checker"]
        self.say(f"*{limit}, one picture of each prompt, the first one's seed {plan.SEED}; {side['sampler']}, {side['steps']} "
                 f"steps, guidance {side['cfg_scale']}. Trainings: {self.runner.steps} steps, `{' '.join(plan.TRAINING)}`. "
                 f"95% intervals (Wilson). The checker is right on {100 * checker['truth_right']:.2f}% of what is true of "
                 f"rendered pictures, and passes {100 * checker['false_pass']:.2f}% of what is false. "
                 f"{', '.join(sorted({k['date'] for k in kept}))}*")

    def write(self, experiments):
        self.say("# Experiments in the small world",
                 "Written by `make experiments`: bench/experiments.py lists what is done. Judged by `llmdiff eval`, from the "
                 "pixels alone. An interval says how much the choice of prompts may matter, not that of a training's seed: "
                 "each training is one run.", f"Machine: {processor()}.")
        for e in experiments:
            self.say(f"## {e.title}", e.question)
            self.conditions(e)
            getattr(self, e.name)(e)
            remarks = self.plots / f"{e.name}.md"
            if remarks.exists():
                self.say(remarks.read_text())
        file = self.to / "EXPERIMENTS.md"
        part = file.with_suffix(".tmp")
        part.write_text("\n".join(self.out))
        os.replace(part, file)
        return file


def processor():
    names = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")] if Path("/proc/cpuinfo").exists() else []
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def write_report(runner, experiments, to):
    return Report(runner, to).write(experiments)
