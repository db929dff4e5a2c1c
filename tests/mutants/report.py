"""What came out, for people: tests/mutants/REPORT.md."""

import json
import re


MATCH = "(a match)"


def first_divergence(judged):
    """Of what `verify --json -` printed: ("group/name" or None, hints)."""
    try:
        said = json.loads(judged.text[judged.text.index("{"):judged.text.rindex("}") + 1])
    except ValueError:
        return None, []
    first = said.get("first_divergence")
    if not first:
        return None, []
    return f"{first['group']}/{first['name']}", said.get("hints", [])


# ---- counting ----------------------------------------------------------------------------------------------

def counts(mutants, results):
    c = {"all": len(mutants), "killed": 0, "at home": 0, "equivalent": 0, "survived": 0, "bad": 0}
    for m in mutants:
        r = results[m["id"]]
        if r["result"].startswith("survived"):
            c["equivalent" if "equivalent" in m else "survived"] += 1
        elif r["result"] == "killed" and "equivalent" not in m:
            c["killed"] += 1
            c["at home"] += r["at home"]
        else:
            c["bad"] += 1
    return c


def named(m, r):
    """Whether the first divergence is where the fault is."""
    return re.search(m["verify"], r["verify"]["first"]) is not None


def naming(mutants, results):
    """Of the faults that could change a port's numbers: named; seen at all, by any divergence; all."""
    judged = [m for m in mutants if m["verify"] != "none" and "verify" in results[m["id"]]]
    seen = [m for m in judged if results[m["id"]]["verify"]["first"] != MATCH]
    return sum(named(m, results[m["id"]]) for m in seen), len(seen), len(judged)


def is_good(mutants, results):
    c = counts(mutants, results)
    right, seen, judged = naming(mutants, results)
    return c["survived"] == 0 and c["bad"] == 0 and right >= 0.9 * seen


def summary(mutants, results):
    c = counts(mutants, results)
    text = f"{c['killed']}/{c['all'] - c['equivalent']} mutants killed, {c['survived']} survived"
    if c["equivalent"]:
        text += f", {c['equivalent']} more equivalent to the original"
    if c["bad"]:
        text += f", {c['bad']} entries wrong (they don't build, or are not equivalent)"
    right, seen, judged = naming(mutants, results)
    if judged:
        text += f"; verify names the damaged stage of {right} of the {seen} that change any of the kit's numbers"
        text += f" ({judged - seen} more are behind settings that the kit doesn't have)"
    return text


# ---- the page ----------------------------------------------------------------------------------------------

NOT_REACHED = "**a case is missing in the kit** (other settings, sizes or files than it has)"


def table(head, rows):
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |"


def by_room(mutants, results):
    rooms = sorted({m["file"].split("/")[0] for m in mutants})
    for room in rooms + ["all"]:
        of = [m for m in mutants if room in ("all", m["file"].split("/")[0])]
        c = counts(of, results)
        files = len({m["file"] for m in of})
        yield room, files, c["all"] - c["equivalent"], c["killed"], c["at home"], c["survived"], c["equivalent"]


def killer(r):
    if r["result"] != "killed":
        return r["result"]
    if r["how"] == "hang":
        return f"{r['by']} (hang)"
    if not r["cases"]:
        return f"{r['by']} (crash)"
    more = f" and {r['red'] - 1} more" if r["red"] > 1 else ""
    return f"{r['by']}: {r['cases'][0]}{more}"


def one_row(m, r):
    verify = "-"
    if m["verify"] != "none" and "verify" in r:
        verify = ("" if named(m, r) else "**not named:** ") + r["verify"]["first"]
    return f"`{m['id']}`", m["file"], m["why"], killer(r), r.get("seconds", ""), verify


def unseen(mutants, results):
    reasons = {}
    for m in mutants:
        if m["verify"] == "none":
            reasons.setdefault(m["unseen"], []).append(m["id"])
        elif results[m["id"]].get("verify", {}).get("first") == MATCH:
            reasons.setdefault(NOT_REACHED, []).append(m["id"])
    return reasons


def markdown(mutants, results):
    lines = ["# Mutants: are the tests awake?", "",
             "Written by `make mutants` (tests/mutants/run); what the columns mean stands in tests/mutants/README.md.",
             "", f"**{summary(mutants, results)}.**", ""]
    lines += table(("room", "files", "mutants", "killed", "by its own tests", "survived", "equivalent"),
                   by_room(mutants, results))
    lines += ["", "## Survivors", ""]
    alive = [m for m in mutants if results[m["id"]]["result"] != "killed"]
    for m in alive:
        said = m.get("equivalent")
        lines.append(f"- `{m['id']}` ({m['file']}): {m['why']}. " + (f"Equivalent: {said}" if said else "**Survives.**"))
    lines += [] if alive else ["None."]
    lines += ["", "## Every mutant", ""]
    lines += table(("mutant", "file", "fault", "first red test", "s", "verify's first divergence"),
                   (one_row(m, results[m["id"]]) for m in mutants))
    lines += ["", "## What the kit can't see", ""]
    for reason, ids in sorted(unseen(mutants, results).items(), key=lambda r: r[0] != NOT_REACHED):
        lines.append(f"- {reason}: " + ", ".join(f"`{i}`" for i in ids))
    return "\n".join(lines) + "\n"
