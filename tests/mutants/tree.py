"""The scratch copy of the source tree in which the mutants are built: the user's own is never touched."""

import hashlib
import os
import re
import signal
import shutil
import subprocess
import threading
import time
from pathlib import Path


def digest(*parts):
    """One number for texts, bytes and lists of them."""
    h = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        h.update(b"%d " % len(data) + data)
    return h.hexdigest()[:16]


def file_digest(paths):
    return digest(*(piece for path in sorted(paths) for piece in (path, Path(path).read_bytes())))


class Ran:
    """How a program ended: code, what it printed, seconds; code None is a timeout."""

    def __init__(self, code, text, seconds):
        self.code, self.text, self.seconds = code, text, seconds


class Interrupted(Exception):
    """Ctrl-C came: the others' programs have been ended, and no further one begins."""


class Programs:
    """Those that run now, for all threads."""

    def __init__(self):
        self.lock, self.alive, self.stopped = threading.Lock(), set(), False

    def run(self, command, directory, timeout, env):
        """In a process group of its own, which a timeout and Ctrl-C end as a whole."""
        start = time.monotonic()
        with self.lock:
            if self.stopped:
                raise Interrupted
            child = subprocess.Popen(command, cwd=directory, env=env, stdin=subprocess.DEVNULL,
                                     start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            self.alive.add(child)
        try:
            out, _ = child.communicate(timeout=timeout)
            code = child.returncode
        except subprocess.TimeoutExpired:
            self.end(child)
            out, code = child.communicate()[0], None
        finally:
            with self.lock:
                self.alive.discard(child)
        if self.stopped:
            raise Interrupted
        return Ran(code, out.decode(errors="replace"), time.monotonic() - start)

    def end(self, child):
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has just ended by itself

    def stop(self):
        with self.lock:
            self.stopped = True
            for child in self.alive:
                self.end(child)


programs = Programs()


class Tree:
    def __init__(self, source, scratch):
        self.source, self.root = Path(source), Path(scratch)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k != "MFLAGS"}
        self.env["OMP_WAIT_POLICY"] = "passive"  # as tests/run.sh
        self.program = "llmdiff-f64"
        self.names = sorted(str(p.relative_to(source)) for p in Path(source).glob("tests/*.[ch]"))

    # ---- copying ----

    def copy(self):
        """Files that git tracks or would; a file is written only if its bytes differ, and then with a new
        time, so that make never believes an object of a mutant that was interrupted."""
        listed = subprocess.run(["git", "ls-files", "-zco", "--exclude-standard"], cwd=self.source, check=True,
                                stdout=subprocess.PIPE).stdout.decode()
        self.take({name for name in listed.split("\0") if name and (self.source / name).is_file()})

    def take(self, wanted):
        for name in wanted:
            data, to = (self.source / name).read_bytes(), self.root / name
            if to.is_file() and to.read_bytes() == data:
                continue
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(data)
            to.chmod((self.source / name).stat().st_mode & 0o777)
        for path in self.root.rglob("*"):
            name = path.relative_to(self.root)
            built = name.parts[0] == "build" or name.parts[0].startswith("llmdiff")
            if path.is_file() and not built and "__pycache__" not in name.parts and str(name) not in wanted:
                path.unlink()
        self.names = sorted(wanted)

    def like(self, scratch):
        """Another one with the same files, for another thread; the first time with the same objects and
        programs, too. Not a copy of the source, which may have changed meanwhile."""
        other = Tree(self.root, scratch)
        if not other.root.is_dir():
            shutil.copytree(self.root, other.root, symlinks=True)
        other.take(set(self.names))
        return other

    def some(self, pattern):
        return [str(self.root / name) for name in self.names if re.fullmatch(pattern, name)]

    def tests(self):
        return [Path(p).stem for p in self.some(r"tests/test_\w+\.c")]

    def test_digest(self, test):
        """Of what a test program says: its source, and what it includes of the tests' own."""
        found, left = set(), [f"{test}.c", "check.c"] + (["faults.c"] if test == "test_faults" else [])
        while left:
            path = self.root / "tests" / left.pop()
            if path.is_file() and str(path) not in found:
                found.add(str(path))
                left += re.findall(r'^#include "(?:tests/)?(\w+\.h)"', path.read_text(), re.M)
        return file_digest(found)

    # ---- building and running ----

    def make(self, *targets, jobs=1):
        """The double build of the targets; None, or what make said."""
        command = ["nice", "-n", "10", "make", "--no-print-directory", f"-j{jobs}", "REAL=double", *targets]
        ran = programs.run(command, self.root, 1800, self.env)
        return None if ran.code == 0 else ran.text

    def build_test(self, test):
        text = (self.root / f"tests/{test}.c").read_text()
        runs_program = re.search(r"\w_run\.h|LLMDIFF_PROGRAM", text)
        return self.make(f"build/f64/{test}", *(["all"] if runs_program else []))

    def run_test(self, test, timeout):
        return programs.run(["nice", "-n", "10", f"build/f64/{test}"], self.root, timeout, self.env)


def failed_cases(ran):
    """The names that cmocka prints last, after the number of those that failed."""
    names = re.findall(r"^\[  FAILED  \] (?!\d+ test\(s\))(.+)$", ran.text, re.M)
    return sorted(set(names), key=names.index)


def is_green(ran):
    """As tests/run.sh has it: a program that dies or reports nothing has failed; one may skip all (MPI)."""
    said = re.search(r"^\[  (PASSED  |SKIPPED )\]", ran.text, re.M)
    return ran.code == 0 and said is not None and not failed_cases(ran)
