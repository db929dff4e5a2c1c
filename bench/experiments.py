"""make experiments: the paper's experiment in the small world, and what belongs to it -> bench/EXPERIMENTS.md

    python3 bench/experiments.py [--only NAME ...] [--jobs N] [--dry-run] [--report] [--quick]

What is done stands in the tables below: trainings (`llmdiff train`, LLM and U-Net frozen) and rows, each judged
by `llmdiff eval`, --jobs N of them at a time. Results are kept in build/experiments/; what is there for the same
command and the same files is not done again, and a training goes on where it was stopped. --quick: a few
steps and prompts each, to see that all runs; its report goes to build/experiments-quick/.
Making the pairs needs NumPy and Pillow.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACK = "weights/tiny"
SUITE = "weights/tiny/suite.jsonl"
MORE = "weights/experiments"  # the fine-tuned control, the adapter without word score, further LLMs
BLOCKS = 6  # of the pack's LLM

# As golden/world/train_adapter.sh begins, but for fewer steps: three minutes of one core.
STEPS = 1500
LONG = 10000  # of those in MORE; the shipped adapter has 16000 more
TRAINING = ("--train-batch-size", "16", "--learning-rate", "2e-3", "--adam-beta2", "0.99", "--lr-scheduler", "cosine",
            "--lr-warmup-steps", "100", "--ema-decay", "0.99", "--center-crop",
            "--scalar-lr-scale", "0.05", "--added-start", "0.5")
PAIRS = 20000  # pictures with rich captions, the shipped adapter's
SEED = 42      # of the suite's first picture
FEW = 6        # prompts of each split, where dozens of rows are judged
SOME = 30      # where a dozen are


@dataclass(frozen=True)
class Row:
    """What is judged: an adapter by its training (None: the shipped one), or a baseline."""

    name: str
    label: str
    train: str = None
    settings: tuple = ()  # --set, while drawing
    adapter: str = None   # a directory in place of the pack's
    baseline: str = None  # "shipped" or "control": CLIP's text encoder in place of LLM and adapter
    llm: str = None       # a directory in place of the pack's
    x: float = None       # where it stands in a plot


@dataclass(frozen=True)
class Experiment:
    name: str
    title: str
    question: str
    rows: tuple = ()
    pairs: tuple = ()  # of rows whose difference is asked for
    few: int = 0  # prompts of each split that are judged; 0: all


CHOICES = ("init", "noise", "score", "word_score", "normalize", "blocks", "g_scale", "h_scale", "tau_input", "out",
           "layers", "a1", "b1", "a2", "b2")
# The shipped adapter's, which every training begins with, and the normalisation that is not its own.
SHIPPED = {k: v for k, v in json.loads((ROOT / PACK / "adapter" / "config.json").read_text()).items()
           if k in CHOICES and v is not None}
NORM, G_SCALE = SHIPPED.get("normalize", "none"), SHIPPED.get("g_scale", 1)
OTHER = {"none": "rms", "rms": "none"}[NORM]

TRAINING_SEED = {"again": 43}  # else 42

# Settings in which trainings differ from it.
TRAININGS = {
    "same": (),
    "again": (),
    "last-state": ("word_score=false", "g_scale=1"),  # then c is the last block's output
    "original": ("a1=1", "b1=0", "a2=0", "b2=0"),
    "added": ("a1=0", "b1=0", "a2=1", "b2=0"),
    "no-original": ("a1=0", "b1=0"),
    "last-block": (f"blocks=[{BLOCKS - 1},{BLOCKS - 1}]",),
    "zeros": ("init=zeros",),
    "tau-c": ("tau_input=c",),
    "difference": ("score=difference",),
    "other-norm": (f"normalize={OTHER}",),
}

CLAIM = Experiment(
    "claim", "The claim: an LLM in place of the text encoder",
    "The same U-Net, told what to draw by its own text encoder, by the same after fine-tuning on the adapter's pairs "
    "(text encoder and cross-attentions), and by the frozen LLM through Algorithm 1 and Eq. 9. The control of the last "
    "hidden state leaves the word score out: c is then what a plain LLM encoder gives. Where no steps are named there "
    f"were {LONG}, of 16 pairs each, for fine-tuning and adapters alike; as shipped it has 16000 more.",
    (Row("baseline", "baseline: CLIP", baseline="shipped"),
     Row("tuned", "baseline, fine-tuned", baseline="control"),
     Row("last-long", "last hidden state", adapter=f"{MORE}/last-state"),
     Row("long", "LLMDiff", adapter=f"{MORE}/llmdiff"),
     Row("shipped", "LLMDiff, as shipped"),
     Row("last-state", f"last hidden state, {STEPS} steps", "last-state"),
     Row("same", f"LLMDiff, {STEPS} steps", "same")),
    (("long", "baseline"), ("long", "tuned"), ("long", "last-long"), ("same", "last-state"), ("shipped", "baseline"), ("shipped", "tuned")))

ABLATION = Experiment(
    "ablation", "Ablations",
    "Each row is a training of its own from the same seed, with one choice changed; the first two show how much "
    "of the shipped adapter's accuracy its longer training is, and the third how much a seed is worth.",
    (Row("shipped", "as shipped"),
     Row("same", "the method", "same"),
     Row("again", "the method, from another seed", "again"),
     Row("original", "a1 = 1, a2 = 0: the original attention over phi(c)", "original"),
     Row("added", "a1 = 0, a2 = 1: the added attention alone", "added"),
     Row("no-original", "no original attention, a2 and b2 learned", "no-original"),
     Row("last-block", "the last block's score alone", "last-block"),
     Row("zeros", "c^T = 0 for the embedding", "zeros"),
     Row("tau-c", "tau reads c", "tau-c"),
     Row("difference", "score \"difference\"", "difference"),
     Row("last-state", "no word score", "last-state"),
     Row("other-norm", f"normalize \"{OTHER}\"", "other-norm")),
    tuple((other, "same") for other in ("again", "original", "added", "no-original", "last-block", "zeros", "tau-c",
                                        "difference", "last-state", "other-norm")),
    few=SOME)


def stability():
    """Nothing is trained but the two kinds of normalisation: numbers change while drawing alone."""
    rows = []
    for norm in ("none", "rms"):
        train = "same" if norm == NORM else "other-norm"
        for n in range(1, BLOCKS + 1):
            rows.append(Row(f"{norm}-blocks-{n}", f"{norm}, last {n} of {BLOCKS} blocks", train,
                            (f"blocks=[{BLOCKS - n},{BLOCKS - 1}]",), x=n))
        for g in (0.25, 0.5, 1, 2, 4):
            rows.append(Row(f"{norm}-g-{g}", f"{norm}, g_scale x {g}", train, (f"g_scale={g * G_SCALE:g}",), x=g))
        for h in (0, 1, 1e2, 1e3, 1e4, 1e5, 1e6):
            rows.append(Row(f"{norm}-h-{h:g}", f"{norm}, h_scale {h:g}", train, (f"h_scale={h:g}",), x=h))
    return tuple(rows)


STABILITY = Experiment(
    "stability", "How stable the scores are",
    "How many blocks' scores are summed, how large they are and how much Langevin noise is added, changed while "
    "drawing with adapters that were trained with all blocks, the shipped adapter's g_scale and h_scale 1. |c| is the root mean square of c's "
    "elements before any normalisation.", stability(), few=FEW)


def llms():
    """The pack's, and every further one there is, with a training of its own."""
    rows = [Row("same", "the pack's", "same")]
    for path in sorted((ROOT / MORE).glob("llm-*")):
        TRAININGS[path.name] = ()
        rows.append(Row(path.name, path.name, path.name, llm=f"{MORE}/{path.name}"))
    return tuple(rows)


SCALE = Experiment(
    "scale", "Which LLM, and how large",
    "One adapter for each, trained alike.", llms(), tuple((row.name, "same") for row in llms()[1:]))

COST = Experiment(
    "cost", "What it costs",
    "One prompt through the LLM and Algorithm 1, beside the text encoder and a step of the U-Net (with guidance: "
    "both prompts). Medians; activations are the peak beside the weights, which are mapped from their files.")

EXPERIMENTS = (CLAIM, ABLATION, STABILITY, SCALE, COST)


def main():
    from experiments_report import write_report
    from experiments_run import Failed, Missing, Runner

    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--only", nargs="+", choices=[e.name for e in EXPERIMENTS], default=[e.name for e in EXPERIMENTS])
    args.add_argument("--dry-run", action="store_true", help="print the commands that are left to do")
    args.add_argument("--report", action="store_true", help="only write the report, of the results there are")
    args.add_argument("--quick", action="store_true")
    args.add_argument("--jobs", type=int, default=1, help="so many trainings or judgements at a time")
    args = args.parse_args()
    runner = Runner(ROOT / "build" / ("experiments-quick" if args.quick else "experiments"), sys.modules[__name__],
                    args.dry_run, args.quick, args.jobs)

    def judge(e, row):
        try:
            runner.judge(row, e.few)
            if e is STABILITY:
                runner.norm(row)
        except Missing as why:
            print(f"{e.name}: {row.label}: left out: {why}", file=sys.stderr)

    def train(row):
        try:
            runner.adapter(row.train, row.llm)
        except Missing:
            pass  # judge says so

    asked = [e for e in EXPERIMENTS if e.name in args.only and not args.report]
    # By name: what several rows stand on is trained, or judged, once.
    trained = {row.train: row for e in asked for row in e.rows if row.train}
    judged = {runner.result_name(row, e.few): (e, row) for e in asked for row in e.rows}
    try:
        if trained:
            runner.data()
        runner.together([partial(train, row) for row in trained.values()])
        runner.together([partial(judge, *both) for both in judged.values()])
        if COST in asked:
            runner.cost()
    except Failed as failed:
        code, errors = failed.args
        sys.stderr.write(errors or "")
        sys.exit(code if code > 0 else 1)
    if not args.dry_run:
        to = ROOT / "bench" if not args.quick else runner.work
        print(write_report(runner, EXPERIMENTS, to))


if __name__ == "__main__":
    sys.modules["experiments"] = sys.modules[__name__]
    main()
