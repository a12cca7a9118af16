# SPDX-License-Identifier: BSD-3-Clause
"""What a VMM links is a guest in its process: it prints and logs nothing, ends nothing, keeps no
variables outside of what its callers hold. This reads the compiled objects.

Usage: library.py ARCHIVE..."""

import fnmatch
import os
import re
import subprocess
import sys

import tree

# Functions that speak to people, or end the process; and what they would speak through.
FORBIDDEN = ["printf", "vprintf", "fprintf", "vfprintf", "dprintf", "vdprintf", "__*printf_chk",
             "puts", "fputs", "putc", "putchar", "fputc", "fwrite", "perror", "psignal", "stdout",
             "stderr", "stdin", "syslog", "vsyslog", "openlog", "warn", "warnx", "vwarn", "vwarnx",
             "err", "errx", "verr", "verrx", "error", "exit", "_exit", "_Exit", "quick_exit",
             "abort", "__assert*", "raise", "atexit", "__cxa_atexit", "signal", "sigaction"]
# Printing into memory.
ALLOWED = ["__snprintf_chk", "__vsnprintf_chk", "__sprintf_chk", "__asprintf_chk",
           "__vasprintf_chk"]
# Variables, each with its reason.
KEPT = {
    "hz": "how fast the time-stamp counter runs, measured once; a second measurement is as good",
}
OBJECT = re.compile(r"^(\S+\.o):\s+file format")
SYMBOL = re.compile(r"^[0-9a-f]+ .{7} (\S+)\s+[0-9a-f]+ (?:\.hidden )?(\S+)$")


def is_writable(section):
    return (section == "*COM*" or re.match(r"\.t?(bss|data)(\.|$)", section)) and \
        not section.startswith(".data.rel.ro")


def main():
    out = subprocess.run(["objdump", "-t", *sys.argv[1:]], check=True, capture_output=True,
                         text=True).stdout
    complaints = []
    checked, file = 0, None
    for line in out.splitlines():
        if m := OBJECT.match(line):
            file = os.path.basename(m[1]).removesuffix(".o")
            checked += 1
        elif m := SYMBOL.match(line):
            section, name = m[1], m[2]
            if name.startswith(("__asan_", "__ubsan_", "__tsan_")):
                tree.skip("built with sanitizers, which print and exit: run in a build without")
            if section == "*UND*" and name not in ALLOWED and any(
                    fnmatch.fnmatchcase(name, pattern) for pattern in FORBIDDEN):
                complaints.append(f"{file}: refers to {name}: what a VMM links may not; return "
                                  "-errno, with a sentence in struct err")
            elif name != section and is_writable(section) and name.split(".")[0] not in KEPT:
                complaints.append(f"{file}: keeps the variable {name}: a VMM may run two guests; "
                                  "put it into what the caller holds")
    tree.end(complaints, checked)


main()
